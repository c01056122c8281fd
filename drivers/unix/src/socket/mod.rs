//! Socket calls: one function for each.
//!
//! Every descriptor created here is non-blocking and close-on-exec, from the start where the system can set both in the
//! creating call. No call on a socket raises `SIGPIPE`. Calls on the hot path return small `Copy` enums, so that
//! callers match on outcomes and not on error numbers.

mod options;
mod platform;
mod transfer;
mod undelivered;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{SockType, SockaddrStorage, getpeername, getsockname, getsockopt, sockopt};

use crate::address::SocketAddress;
use crate::endpoint::Endpoint;
use crate::errno::{Errno, retry};
use crate::syscall;

pub use options::{
    KeepAlive, NODELAY_INHERITED, UNSENT_LIMITED, set_abort_on_close, set_keep_alive, set_nodelay,
    set_only_v6, set_receive_buffer, set_reuse_address, set_reuse_port, set_send_buffer, set_unsent_limit,
};
pub use platform::{accept, close_on_exec, nonblocking, pipe};
pub use transfer::{GATHER_MAX, Received, Sent, receive, send, send_gathered, shutdown_write};
pub use undelivered::{UNDELIVERED_REPORTED, undelivered};

/// The state of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Connecting {
    /// The connection is established. Unix sockets, and sometimes loopback connections, are established at once.
    Done,
    /// The connect is in progress. Wait until the socket is writable, then call [`connect_result`].
    InProgress,
    /// The connect failed. Close the socket.
    Failed(Errno),
}

/// Creates a stream socket of the endpoint's family.
///
/// # Errors
///
/// The OS's error, such as `EMFILE` or `EAFNOSUPPORT`.
pub fn stream_socket(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    platform::socket(endpoint.family())
}

/// Binds the socket to a local address.
///
/// # Errors
///
/// The OS's error, such as `EADDRINUSE`, `EACCES` or `EADDRNOTAVAIL`.
pub fn bind(socket: BorrowedFd<'_>, address: &SocketAddress) -> Result<(), Errno> {
    nix::sys::socket::bind(socket.as_raw_fd(), address.as_argument()).map_err(Errno::from_nix)
}

/// Begins to listen. The kernel lowers a backlog above its own limit.
///
/// # Errors
///
/// The OS's error, such as `EADDRINUSE` if another socket has taken the port between bind and listen.
pub fn listen(socket: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: `listen` only takes numbers.
    unsafe { syscall!(listen(socket.as_raw_fd(), backlog)) }.map(drop)
}

/// Begins to connect, without waiting. A socket that would connect to itself fails with `ECONNREFUSED`.
///
/// On Linux, connecting to a Unix listener whose backlog is full fails with `EAGAIN`. No readiness event says when to
/// try again.
#[must_use]
pub fn connect(socket: BorrowedFd<'_>, address: &SocketAddress) -> Connecting {
    let connected = nix::sys::socket::connect(socket.as_raw_fd(), address.as_argument());
    match connected.map_err(Errno::from_nix) {
        Ok(()) | Err(Errno(libc::EISCONN)) => {
            peer_address(socket).map_or(Connecting::Done, |peer| met(socket, &peer))
        }
        // An interrupted connect continues in the background. Calling it again would return EALREADY.
        Err(Errno(libc::EINPROGRESS | libc::EINTR | libc::EALREADY)) => Connecting::InProgress,
        Err(errno) => Connecting::Failed(errno),
    }
}

/// Returns the state of a connect in progress. Call it when the driver reports the socket as writable.
///
/// Readiness is a hint: the connect may still be [in progress](Connecting::InProgress).
#[must_use]
pub fn connect_result(socket: BorrowedFd<'_>) -> Connecting {
    // SO_ERROR alone is not enough: it is also zero while the connect is in progress. So check that there is a peer.
    match take_error(socket) {
        Ok(None) => {}
        Ok(Some(errno)) | Err(errno) => return Connecting::Failed(errno),
    }
    match peer_address(socket) {
        Ok(peer) => met(socket, &peer),
        Err(Errno(libc::ENOTCONN)) => still_connecting(socket),
        // BSD: the connection was established, and the peer has already reset it.
        Err(Errno(libc::EINVAL)) => Connecting::Failed(Errno(libc::ECONNRESET)),
        Err(errno) => Connecting::Failed(errno),
    }
}

/// Refuses a connection of a socket to itself; any other peer is accepted.
///
/// If nothing listens on a local port, the system may choose that very port for the connecting socket. TCP then
/// connects the socket to itself (RFC 9293, section 3.5, simultaneous open), and it would receive its own bytes. To the
/// caller, this is reported as a refused connect, since nothing listens there.
fn met(socket: BorrowedFd<'_>, peer: &SocketAddress) -> Connecting {
    let itself = peer.to_inet().is_some()
        && local_address(socket).is_ok_and(|local| local.to_inet() == peer.to_inet());
    if itself { Connecting::Failed(Errno(libc::ECONNREFUSED)) } else { Connecting::Done }
}

/// Returns the state of a connect without a peer. It is still in progress, or it has failed since the last call of
/// `take_error`.
fn still_connecting(socket: BorrowedFd<'_>) -> Connecting {
    match take_error(socket) {
        Ok(None) => Connecting::InProgress,
        Ok(Some(errno)) | Err(errno) => Connecting::Failed(errno),
    }
}

/// Reads and clears the socket's pending error (`SO_ERROR`).
///
/// # Errors
///
/// The error of the call itself, such as `EBADF`.
pub fn take_error(socket: BorrowedFd<'_>) -> Result<Option<Errno>, Errno> {
    let pending = getsockopt(&socket, sockopt::SocketError).map_err(Errno::from_nix)?;
    Ok((pending != 0).then_some(Errno(pending)))
}

/// Returns whether this is a stream socket that listens (`SO_ACCEPTCONN`, `SO_TYPE`).
///
/// # Errors
///
/// The OS's error, such as `ENOTSOCK`.
pub fn is_listening(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let kind = getsockopt(&socket, sockopt::SockType).map_err(Errno::from_nix)?;
    Ok(kind == SockType::Stream && getsockopt(&socket, sockopt::AcceptConn).map_err(Errno::from_nix)?)
}

/// Returns the socket's local address, with the port that the system chose for port 0, or the interface on which a
/// connection arrived.
///
/// # Errors
///
/// The OS's error, such as `EINVAL` on the BSDs for a closed connection.
pub fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddress, Errno> {
    let address = getsockname::<SockaddrStorage>(socket.as_raw_fd()).map_err(Errno::from_nix)?;
    Ok(SocketAddress::filled_in(Some(&address)))
}

/// Returns the peer's address.
///
/// # Errors
///
/// The OS's error, such as `ENOTCONN`.
pub fn peer_address(socket: BorrowedFd<'_>) -> Result<SocketAddress, Errno> {
    let address = getpeername::<SockaddrStorage>(socket.as_raw_fd()).map_err(Errno::from_nix)?;
    Ok(SocketAddress::filled_in(Some(&address)))
}

/// Reads from a pipe.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry(|| nix::unistd::read(fd, buffer).map_err(Errno::from_nix))
}

/// Writes to a pipe. Raises `SIGPIPE` if it has no reader.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry(|| nix::unistd::write(fd, bytes).map_err(Errno::from_nix))
}
