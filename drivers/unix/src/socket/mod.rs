//! The socket calls, each once.
//!
//! Every descriptor made here is non-blocking and close-on-exec from its first moment where the system can do that in
//! one call, and no call here can raise `SIGPIPE`. Results of the calls on the hot path are small `Copy` enums, so
//! that a driver matches on what happened instead of on error numbers.

mod options;
mod platform;
mod transfer;
mod undelivered;

use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::address::SocketAddress;
use crate::endpoint::Endpoint;
use crate::errno::{Errno, retry};
use crate::syscall;

pub use options::{
    KeepAlive, NODELAY_INHERITED, UNSENT_LIMITED, set_abort_on_close, set_keep_alive, set_nodelay,
    set_only_v6, set_receive_buffer, set_reuse_address, set_reuse_port, set_send_buffer, set_unsent_limit,
};
pub use platform::{accept, close_on_exec, lowest_number, nonblocking, pipe};
pub use transfer::{GATHER_MAX, Received, Sent, receive, send, send_gathered, shutdown_write};
pub use undelivered::{UNDELIVERED_TOLD, undelivered};

/// How far a connect has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connecting {
    /// Connected. Unix sockets and sometimes loopback get here at once.
    Done,
    /// Wait until the socket is writable, then ask [`connect_result`].
    InProgress,
    /// It failed; close the socket.
    Failed(Errno),
}

/// Makes a stream socket of the endpoint's family.
///
/// # Errors
///
/// The OS's error, such as `EMFILE` or `EAFNOSUPPORT`.
pub fn stream_socket(endpoint: &Endpoint) -> Result<OwnedFd, Errno> {
    platform::socket(endpoint.family(), libc::SOCK_STREAM)
}

/// Gives the socket its local address.
///
/// # Errors
///
/// The OS's error, such as `EADDRINUSE`, `EACCES` or `EADDRNOTAVAIL`.
pub fn bind(socket: BorrowedFd<'_>, address: &SocketAddress) -> Result<(), Errno> {
    let (pointer, length) = address.as_parts();
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    unsafe { syscall!(bind(socket.as_raw_fd(), pointer, length)) }.map(drop)
}

/// Starts to take connections. The kernel lowers a backlog above its own limit.
///
/// # Errors
///
/// The OS's error, such as `EADDRINUSE` when another socket got the port between bind and listen.
pub fn listen(socket: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    let backlog = libc::c_int::try_from(backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: `listen` takes numbers only.
    unsafe { syscall!(listen(socket.as_raw_fd(), backlog)) }.map(drop)
}

/// Starts to connect without waiting. A socket that would connect to itself is refused.
///
/// A Unix socket whose listener's backlog is full fails with `EAGAIN` on Linux: no readiness will tell when to try
/// again.
#[must_use]
pub fn connect(socket: BorrowedFd<'_>, address: &SocketAddress) -> Connecting {
    let (pointer, length) = address.as_parts();
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    match unsafe { syscall!(connect(socket.as_raw_fd(), pointer, length)) } {
        Ok(_) | Err(Errno(libc::EISCONN)) => {
            peer_address(socket).map_or(Connecting::Done, |peer| met(socket, &peer))
        }
        // An interrupted connect goes on in the background: calling again would give EALREADY.
        Err(Errno(libc::EINPROGRESS | libc::EINTR | libc::EALREADY)) => Connecting::InProgress,
        Err(errno) => Connecting::Failed(errno),
    }
}

/// What became of a connect in progress, asked once the driver reported the socket ready.
///
/// Readiness is a hint: where nothing has happened yet the answer is [`Connecting::InProgress`] again.
#[must_use]
pub fn connect_result(socket: BorrowedFd<'_>) -> Connecting {
    match take_error(socket) {
        Ok(None) => {}
        Ok(Some(errno)) | Err(errno) => return Connecting::Failed(errno),
    }
    match peer_address(socket) {
        Ok(peer) => met(socket, &peer),
        Err(Errno(libc::ENOTCONN)) => still_connecting(socket),
        // BSD: the connection was there and the peer has reset it already.
        Err(Errno(libc::EINVAL)) => Connecting::Failed(Errno(libc::ECONNRESET)),
        Err(errno) => Connecting::Failed(errno),
    }
}

/// A connect that has met a peer. A port of this machine at which nothing listens can be the one that the system has
/// chosen for this very socket: TCP then connects it to itself (RFC 9293, section 3.5, simultaneous open), and it would
/// hear its own words. To the caller nothing listens there.
fn met(socket: BorrowedFd<'_>, peer: &SocketAddress) -> Connecting {
    let itself = peer.as_inet().is_some()
        && local_address(socket).is_ok_and(|local| local.as_inet() == peer.as_inet());
    if itself { Connecting::Failed(Errno(libc::ECONNREFUSED)) } else { Connecting::Done }
}

/// Without a peer the socket is connecting still, or was connected and reset since `take_error` looked.
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
    let mut pending: libc::c_int = 0;
    let mut length = options::length_of::<libc::c_int>();
    let value = (&raw mut pending).cast();
    // SAFETY: `value` has room for the `length` bytes of a C int, and both outlive the call.
    unsafe {
        syscall!(getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut length))
    }?;
    debug_assert_eq!(length as usize, size_of::<libc::c_int>());
    Ok((pending != 0).then_some(Errno(pending)))
}

/// The socket's own address: what the system chose for port 0, or which interface a connection came in on.
///
/// # Errors
///
/// The OS's error, such as `EINVAL` on BSD for a connection that is gone.
pub fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddress, Errno> {
    let mut address = SocketAddress::empty();
    let (pointer, length) = address.as_parts_mut();
    // SAFETY: both pointers are into `address`, whose length field says how much room there is.
    unsafe { syscall!(getsockname(socket.as_raw_fd(), pointer, length)) }?;
    address.clamp();
    Ok(address)
}

/// The peer's address.
///
/// # Errors
///
/// The OS's error, such as `ENOTCONN`.
pub fn peer_address(socket: BorrowedFd<'_>) -> Result<SocketAddress, Errno> {
    let mut address = SocketAddress::empty();
    let (pointer, length) = address.as_parts_mut();
    // SAFETY: both pointers are into `address`, whose length field says how much room there is.
    unsafe { syscall!(getpeername(socket.as_raw_fd(), pointer, length)) }?;
    address.clamp();
    Ok(address)
}

/// Reads into `buffer` from any descriptor (a pipe, an eventfd), for what is no socket.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<isize, Errno> {
    retry(|| {
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the pointer and the length are those of `buffer`, which is borrowed for the call.
        unsafe { syscall!(read(fd.as_raw_fd(), pointer, length)) }
    })
}

/// Writes to a descriptor that is no socket. Raises `SIGPIPE` on a pipe without a reader.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<isize, Errno> {
    retry(|| {
        let (pointer, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the pointer and the length are those of `bytes`, which is borrowed for the call.
        unsafe { syscall!(write(fd.as_raw_fd(), pointer, length)) }
    })
}
