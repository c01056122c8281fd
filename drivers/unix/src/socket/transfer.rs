//! Receiving and sending.

use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::Shutdown;

use crate::errno::{Errno, retry};
use crate::syscall;

/// The result of a receive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Received {
    /// This number of bytes was received, at least one. Fewer than the buffer holds: no more are available now.
    Bytes(usize),
    /// No bytes are available. This is normal even after the driver has reported the socket as readable.
    WouldBlock,
    /// The end of the peer's stream. Nothing more will arrive.
    End,
    /// The connection is broken, for example by `ECONNRESET`.
    Failed(Errno),
}

/// The result of a send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// The kernel accepted this number of bytes. If it is less than offered, watch for writing before sending the rest.
    Bytes(usize),
    /// The kernel accepted no bytes. Watch for writing.
    WouldBlock,
    /// The connection is broken, for example by `EPIPE` or `ECONNRESET`.
    Failed(Errno),
}

/// The maximum number of pieces per [`send_gathered`]. POSIX guarantees 16 on every system.
pub const GATHER_MAX: usize = 16;

const GATHER_LIMIT: u8 = 16;
const _: () = assert!(GATHER_LIMIT as usize == GATHER_MAX);

/// Makes a broken pipe an error of the call and not a signal.
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// The two calls of every request. Where a system call's result fits into a `c_long`, they bypass the C library's
/// functions. Those are thread cancellation points, which in a process with several threads costs more than the rest of
/// the call in user space, and pollers are never cancelled.
#[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
mod direct {
    use super::{Errno, SEND_FLAGS, ptr};
    use crate::syscall;

    #[expect(clippy::cast_possible_truncation, reason = "both have 64 bits here")]
    const fn narrow(count: i64) -> isize {
        count as isize
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be written.
    #[inline]
    pub(super) unsafe fn receive(fd: i32, pointer: *mut libc::c_void, length: usize) -> Result<isize, Errno> {
        let nobody = ptr::null_mut::<libc::c_void>();
        // SAFETY: the caller guarantees the buffer, and the address is null, so it is not written.
        let got = unsafe { syscall!(syscall(libc::SYS_recvfrom, fd, pointer, length, 0, nobody, nobody)) };
        got.map(narrow)
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be read.
    #[inline]
    pub(super) unsafe fn send(fd: i32, pointer: *const libc::c_void, length: usize) -> Result<isize, Errno> {
        let nobody = ptr::null::<libc::c_void>();
        // SAFETY: the caller guarantees the buffer, and there is no address.
        let sent = unsafe { syscall!(syscall(libc::SYS_sendto, fd, pointer, length, SEND_FLAGS, nobody, 0)) };
        sent.map(narrow)
    }
}

#[cfg(not(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64")))]
mod direct {
    use super::{Errno, SEND_FLAGS};
    use crate::syscall;

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be written.
    pub(super) unsafe fn receive(fd: i32, pointer: *mut libc::c_void, length: usize) -> Result<isize, Errno> {
        // SAFETY: the caller guarantees the buffer.
        unsafe { syscall!(recv(fd, pointer, length, 0)) }
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be read.
    pub(super) unsafe fn send(fd: i32, pointer: *const libc::c_void, length: usize) -> Result<isize, Errno> {
        // SAFETY: the caller guarantees the buffer.
        unsafe { syscall!(send(fd, pointer, length, SEND_FLAGS)) }
    }
}

/// Receives into `buffer`.
///
/// # Panics
///
/// If `buffer` is empty: the kernel's result of zero would be mistaken for the end of the stream.
#[inline]
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Received {
    assert!(!buffer.is_empty(), "received into an empty buffer");
    let received = retry(|| {
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the pointer and the length are those of `buffer`, which is borrowed for the call.
        unsafe { direct::receive(socket.as_raw_fd(), pointer, length) }
    });
    match received {
        Ok(0) => Received::End,
        Ok(count) => Received::Bytes(count.cast_unsigned()), // never negative, see `check`
        Err(errno) if errno.is_would_block() => Received::WouldBlock,
        Err(errno) => Received::Failed(errno),
    }
}

/// Sends bytes from one slice.
#[inline]
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Sent {
    sent(retry(|| {
        let (pointer, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the pointer and the length are those of `bytes`, which is borrowed for the call.
        unsafe { direct::send(socket.as_raw_fd(), pointer, length) }
    }))
}

/// Sends several pieces with one call, in order, as if they were one slice.
///
/// Pieces beyond [`GATHER_MAX`] are not sent. The result is the same as that of a short send.
#[inline]
pub fn send_gathered(socket: BorrowedFd<'_>, pieces: &[&[u8]]) -> Sent {
    if let [bytes] = pieces {
        return send(socket, bytes);
    }
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; GATHER_MAX];
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        // The kernel only reads through this pointer. It is mutable because `iovec` is also used for receiving.
        vector.iov_base = piece.as_ptr().cast_mut().cast();
        vector.iov_len = piece.len();
    }
    let count = u8::try_from(pieces.len()).unwrap_or(u8::MAX).min(GATHER_LIMIT);
    let mut message = empty_message();
    message.msg_iov = vectors.as_mut_ptr();
    // The field is a `size_t` on some systems and a C int on others. A `u8` converts to both.
    message.msg_iovlen = count.into();
    sent(retry(|| {
        // SAFETY: `message` points to `vectors`, which point to the pieces, and all of them outlive the call.
        unsafe { syscall!(sendmsg(socket.as_raw_fd(), &raw const message, SEND_FLAGS)) }
    }))
}

/// Ends the stream to the peer, after the bytes that are queued in the kernel. Receiving continues.
///
/// # Errors
///
/// The OS's error, such as `ENOTCONN` if the peer has reset the connection.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::sys::socket::shutdown(socket.as_raw_fd(), Shutdown::Write).map_err(Errno::from_nix)
}

#[inline]
fn sent(result: Result<isize, Errno>) -> Sent {
    match result {
        Ok(count) => Sent::Bytes(count.cast_unsigned()),
        Err(errno) if errno.is_would_block() => Sent::WouldBlock,
        // Apple's kernel may return this while a reset is being processed.
        #[cfg(target_vendor = "apple")]
        Err(Errno(libc::EPROTOTYPE)) => Sent::Failed(Errno(libc::EPIPE)),
        Err(errno) => Sent::Failed(errno),
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a C struct of numbers and of pointers that may be null, so all-zero bytes are a valid value.
    unsafe { core::mem::zeroed() }
}
