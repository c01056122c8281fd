//! Socket options: one function for each.

use core::time::Duration;
use std::os::fd::BorrowedFd;

use nix::sys::socket::{setsockopt, sockopt};
#[cfg(not(target_os = "openbsd"))]
use nix::{setsockopt_impl, sockopt_impl};

use crate::errno::Errno;

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
    setsockopt(&socket, sockopt::ReuseAddr, &true).map_err(Errno::from_nix)
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
    #[cfg(not(target_os = "freebsd"))]
    use sockopt::ReusePort;
    #[cfg(target_os = "freebsd")]
    use sockopt::ReusePortLb as ReusePort;
    setsockopt(&socket, ReusePort, &true).map_err(Errno::from_nix)
}

/// Disables Nagle's algorithm: small segments are sent at once, without waiting for an acknowledgement.
///
/// # Errors
///
/// The OS's error, such as `EOPNOTSUPP` on a Unix socket.
pub fn set_nodelay(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    setsockopt(&socket, sockopt::TcpNoDelay, &true).map_err(Errno::from_nix)
}

/// Whether the system can [limit](set_unsent_limit) the unsent bytes in a socket's send buffer.
pub const UNSENT_LIMITED: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));

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
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    setsockopt(&socket, UnsentLimit, &bytes.min(INT_MAX)).map_err(Errno::from_nix)?;
    let _ = (socket, bytes);
    Ok(())
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
    setsockopt(&socket, sockopt::Ipv6V6Only, &true).map_err(Errno::from_nix)
}

/// Enables TCP keep-alive. Durations are rounded up to whole seconds, the unit of the kernel.
///
/// # Errors
///
/// The OS's error, such as `EINVAL` for a duration beyond the kernel's limits.
pub fn set_keep_alive(socket: BorrowedFd<'_>, keep_alive: KeepAlive) -> Result<(), Errno> {
    setsockopt(&socket, sockopt::KeepAlive, &true).map_err(Errno::from_nix)?;
    #[cfg(not(target_os = "openbsd"))]
    {
        setsockopt(&socket, KeepIdle, &whole_seconds(keep_alive.idle)).map_err(Errno::from_nix)?;
        setsockopt(&socket, sockopt::TcpKeepInterval, &whole_seconds(keep_alive.interval))
            .map_err(Errno::from_nix)?;
        setsockopt(&socket, sockopt::TcpKeepCount, &keep_alive.count.clamp(1, INT_MAX))
            .map_err(Errno::from_nix)?;
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
    setsockopt(&socket, sockopt::Linger, &linger).map_err(Errno::from_nix)
}

/// Sets the size of the kernel's send buffer. Linux doubles the value for its own bookkeeping.
///
/// # Errors
///
/// The OS's error.
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    setsockopt(&socket, sockopt::SndBuf, &(bytes.min(INT_MAX) as usize)).map_err(Errno::from_nix)
}

/// Sets the size of the kernel's receive buffer. Accepted sockets inherit it from the listener. To enlarge the receive
/// window, it must be set on the listener.
///
/// # Errors
///
/// The OS's error.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) -> Result<(), Errno> {
    setsockopt(&socket, sockopt::RcvBuf, &(bytes.min(INT_MAX) as usize)).map_err(Errno::from_nix)
}

/// Disables `SIGPIPE` for a socket on Apple's systems, of which not all versions have `MSG_NOSIGNAL`.
pub(super) fn silence_broken_pipes(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    #[cfg(target_vendor = "apple")]
    match setsockopt(&socket, NoSigPipe, &true) {
        // EINVAL: the peer has already disconnected, so nothing can be sent any more.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(errno) => return Err(Errno::from_nix(errno)),
    }
    let _ = socket;
    Ok(())
}

/// The greatest value of an option that is a C int.
const INT_MAX: u32 = libc::c_int::MAX.unsigned_abs();

/// Converts a duration to seconds, rounded up. The result is at least one, because the kernel refuses zero.
#[cfg(not(target_os = "openbsd"))]
fn whole_seconds(span: Duration) -> u32 {
    let seconds = span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(INT_MAX).clamp(1, INT_MAX)
}

// The options that `nix` does not have, or not on every system.

#[cfg(any(target_os = "linux", target_os = "android"))]
use libc::TCP_NOTSENT_LOWAT as NOTSENT_LOWAT;
/// `TCP_NOTSENT_LOWAT` (`tcp(4)` of macOS), which `libc` does not define for Apple's systems.
#[cfg(target_vendor = "apple")]
const NOTSENT_LOWAT: libc::c_int = 0x201;

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
sockopt_impl!(UnsentLimit, SetOnly, libc::IPPROTO_TCP, NOTSENT_LOWAT, u32);

#[cfg(target_vendor = "apple")]
use libc::TCP_KEEPALIVE as KEEP_IDLE;
#[cfg(not(any(target_os = "openbsd", target_vendor = "apple")))]
use libc::TCP_KEEPIDLE as KEEP_IDLE;

#[cfg(not(target_os = "openbsd"))]
sockopt_impl!(KeepIdle, SetOnly, libc::IPPROTO_TCP, KEEP_IDLE, u32);

#[cfg(target_vendor = "apple")]
sockopt_impl!(NoSigPipe, SetOnly, libc::SOL_SOCKET, libc::SO_NOSIGPIPE, bool);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::{stream_socket, take_error};
    use nix::sys::socket::getsockopt;
    use std::os::fd::AsFd;

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
        assert!(getsockopt(&socket, sockopt::ReuseAddr).unwrap());
        assert!(getsockopt(&socket, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&socket, sockopt::SndBuf).unwrap() >= 8_192);
        assert!(getsockopt(&socket, sockopt::RcvBuf).unwrap() >= 8_192);
        assert_eq!(take_error(fd), Ok(None));
    }

    #[cfg(not(target_os = "openbsd"))]
    #[test]
    fn keep_alive_counts_in_whole_seconds_rounded_up() {
        let socket = stream_socket(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let spans = (Duration::from_millis(61_500), Duration::ZERO);
        set_keep_alive(socket.as_fd(), KeepAlive { idle: spans.0, interval: spans.1, count: 4 }).unwrap();
        assert!(getsockopt(&socket, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(1));
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(4));
        #[cfg(target_os = "linux")]
        assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(62));
    }

    #[test]
    fn a_refused_option_returns_its_error() {
        let pipe = crate::socket::pipe().unwrap();
        assert_eq!(set_nodelay(pipe.0.as_fd()), Err(Errno(libc::ENOTSOCK)));
    }
}
