//! Socket options: one function for each.

use core::mem::size_of;
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::errno::Errno;
use crate::syscall;

/// Whether accepted sockets inherit `TCP_NODELAY`, the keep-alive settings and the unsent limit from their listener,
/// which saves calls for each connection. Documented for Linux only; elsewhere they are set on each socket.
pub const NODELAY_INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The settings of TCP keep-alive, which probes whether an idle peer is still reachable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct KeepAlive {
    /// The idle time before the first probe. Rounded up to whole seconds, at least one.
    pub idle: Duration,
    /// The time between probes. Rounded up to whole seconds, at least one.
    pub interval: Duration,
    /// The number of unanswered probes after which the connection is closed. At least one.
    pub count: u32,
}

/// Lets a listener reuse a port while connections of a previous listener are in `TIME_WAIT`.
///
/// # Errors
///
/// The OS's error.
pub fn set_reuse_address(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)
}

/// Lets several listeners share one port; the kernel distributes the connections. Must be set on each before `bind`.
///
/// FreeBSD has a separate option for this, `SO_REUSEPORT_LB`, which is used there. OpenBSD, NetBSD and Apple's systems
/// share the port but may assign all connections to one of the listeners.
///
/// # Errors
///
/// The OS's error.
pub fn set_reuse_port(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    #[cfg(target_os = "freebsd")]
    const REUSE_PORT: libc::c_int = libc::SO_REUSEPORT_LB;
    #[cfg(not(target_os = "freebsd"))]
    const REUSE_PORT: libc::c_int = libc::SO_REUSEPORT;
    set_option(socket, libc::SOL_SOCKET, REUSE_PORT, 1)
}

/// Disables Nagle's algorithm: small segments are sent at once, without waiting for an acknowledgement.
///
/// # Errors
///
/// The OS's error, such as `EOPNOTSUPP` on a Unix socket.
pub fn set_nodelay(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)
}

/// The option `TCP_NOTSENT_LOWAT`, where it exists (`tcp(7)`; `tcp(4)` of macOS). `libc` does not define it everywhere.
const NOTSENT_LOWAT: Option<libc::c_int> = if cfg!(any(target_os = "linux", target_os = "android")) {
    Some(25)
} else if cfg!(target_vendor = "apple") {
    Some(0x201)
} else {
    None
};

/// Whether the system can [limit](set_unsent_limit) the unsent bytes in a socket's send buffer.
pub const UNSENT_LIMITED: bool = NOTSENT_LOWAT.is_some();

/// Limits the number of unsent bytes that the kernel accepts. Accepted sockets inherit it from the listener on Linux.
///
/// The socket is then writable while less than half of the limit is unsent, so that writability follows the progress of
/// the peer. Without the limit, Linux reports a socket as writable when a third of its buffer is free, and that buffer
/// grows to megabytes: a slow reader seems to make no progress for minutes, and a peer that does not read occupies the
/// whole buffer. No effect on systems without such an option (the BSDs other than macOS).
///
/// # Errors
///
/// The OS's error, such as `EOPNOTSUPP` on a Unix socket.
pub fn set_unsent_limit(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    NOTSENT_LOWAT.map_or(Ok(()), |name| set_option(socket, libc::IPPROTO_TCP, name, bytes))
}

/// Restricts an IPv6 socket to IPv6.
///
/// Listeners always set it. Otherwise it would depend on the system whether `[::]:80` also accepts IPv4 connections
/// (Linux: a system-wide setting, OpenBSD: never). If it did, IPv4 peers would have IPv4-mapped addresses, and a second
/// listener on `0.0.0.0:80` would fail with "address in use". To listen on both, open two listeners.
///
/// # Errors
///
/// The OS's error.
pub fn set_only_v6(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)
}

/// Enables TCP keep-alive. Durations are rounded up to whole seconds, the unit of the kernel.
///
/// # Errors
///
/// The OS's error, such as `EINVAL` for a duration beyond the kernel's limits.
pub fn set_keep_alive(socket: BorrowedFd<'_>, keep_alive: KeepAlive) -> Result<(), Errno> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    #[cfg(not(target_os = "openbsd"))]
    {
        #[cfg(target_vendor = "apple")]
        const IDLE: libc::c_int = libc::TCP_KEEPALIVE;
        #[cfg(not(target_vendor = "apple"))]
        const IDLE: libc::c_int = libc::TCP_KEEPIDLE;
        set_option(socket, libc::IPPROTO_TCP, IDLE, whole_seconds(keep_alive.idle))?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, whole_seconds(keep_alive.interval))?;
        let count = libc::c_int::try_from(keep_alive.count).unwrap_or(libc::c_int::MAX);
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, count.max(1))?;
    }
    // OpenBSD only has system-wide settings.
    #[cfg(target_os = "openbsd")]
    let _ = keep_alive;
    Ok(())
}

/// Makes the next close discard unsent bytes and reset the connection (`SO_LINGER` of zero seconds).
///
/// # Errors
///
/// The OS's error.
pub fn set_abort_on_close(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set_value(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Sets the size of the kernel's send buffer. Linux doubles the value for its own bookkeeping.
///
/// # Errors
///
/// The OS's error.
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    set_option(
        socket,
        libc::SOL_SOCKET,
        libc::SO_SNDBUF,
        libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX),
    )
}

/// Sets the size of the kernel's receive buffer. Accepted sockets inherit it from the listener. To enlarge the receive
/// window, it must be set on the listener.
///
/// # Errors
///
/// The OS's error.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    set_option(
        socket,
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
        libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX),
    )
}

/// Disables `SIGPIPE` for a socket on Apple's systems, of which not all versions have `MSG_NOSIGNAL`.
pub(super) fn silence_broken_pipes(socket: &OwnedFd) -> Result<(), Errno> {
    #[cfg(target_vendor = "apple")]
    {
        use std::os::fd::AsFd;
        // EINVAL: the peer has already disconnected, so nothing can be sent any more.
        match set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1) {
            Err(Errno(libc::EINVAL)) => {}
            result => return result,
        }
    }
    let _ = socket;
    Ok(())
}

/// Sets an option whose value is a C int.
fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    set_value(socket, level, name, &value)
}

fn set_value<T: Copy>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> Result<(), Errno> {
    let (pointer, length) = ((&raw const *value).cast(), length_of::<T>());
    // SAFETY: the pointer and the length are those of `value`, which is borrowed for the call.
    unsafe { syscall!(setsockopt(socket.as_raw_fd(), level, name, pointer, length)) }.map(drop)
}

/// Converts a duration to seconds, rounded up. The result is at least one, because the kernel refuses zero.
#[cfg(not(target_os = "openbsd"))]
fn whole_seconds(span: Duration) -> libc::c_int {
    let seconds = span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)).max(1);
    libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX)
}

pub(super) const fn length_of<T>() -> libc::socklen_t {
    const { assert!(size_of::<T>() <= 64) };
    #[expect(clippy::cast_possible_truncation, reason = "at most 64, see the line above")]
    {
        size_of::<T>() as libc::socklen_t
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{stream_socket, take_error};
    use std::os::fd::AsFd;

    fn option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> libc::c_int {
        let mut value: libc::c_int = 0;
        let mut length = length_of::<libc::c_int>();
        let pointer = (&raw mut value).cast();
        // SAFETY: `pointer` has room for the `length` bytes of a C int.
        unsafe { syscall!(getsockopt(socket.as_raw_fd(), level, name, pointer, &raw mut length)) }.unwrap();
        value
    }

    #[test]
    fn options_reach_the_kernel() {
        let socket = stream_socket(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let fd = socket.as_fd();
        set_reuse_address(fd).unwrap();
        set_reuse_port(fd).unwrap();
        set_nodelay(fd).unwrap();
        set_send_buffer(fd, 8_192).unwrap();
        set_receive_buffer(fd, 8_192).unwrap();
        set_abort_on_close(fd).unwrap();
        assert_ne!(option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR), 0);
        assert_ne!(option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
        assert!(option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF) >= 8_192);
        assert!(option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF) >= 8_192);
        assert_eq!(take_error(fd), Ok(None));
    }

    #[cfg(not(target_os = "openbsd"))]
    #[test]
    fn keep_alive_counts_in_whole_seconds_rounded_up() {
        let socket = stream_socket(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let spans = (Duration::from_millis(61_500), Duration::ZERO);
        set_keep_alive(socket.as_fd(), KeepAlive { idle: spans.0, interval: spans.1, count: 4 }).unwrap();
        assert_ne!(option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
        assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 1);
        assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 4);
        #[cfg(target_os = "linux")]
        assert_eq!(option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), 62);
    }

    #[test]
    fn a_refused_option_says_so() {
        let pipe = crate::socket::pipe().unwrap();
        assert_eq!(set_nodelay(pipe.0.as_fd()), Err(Errno(libc::ENOTSOCK)));
    }
}
