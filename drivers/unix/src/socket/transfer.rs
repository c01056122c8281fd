//! Receiving and sending: the two calls that the rest is about.

use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::errno::{Errno, retry};
use crate::syscall;

/// What a receive brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many bytes, at least one. Fewer than asked for: nothing more is there for now.
    Bytes(usize),
    /// Nothing there. Normal even after the driver reported the socket readable.
    WouldBlock,
    /// The peer has shut down writing; nothing comes any more.
    End,
    /// The connection is broken, for example by `ECONNRESET`.
    Failed(Errno),
}

/// How much of what was offered the kernel took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// So many bytes. Fewer than offered: watch for writing before the rest.
    Bytes(usize),
    /// None; watch for writing.
    WouldBlock,
    /// The connection is broken, for example by `EPIPE` or `ECONNRESET`.
    Failed(Errno),
}

/// The most pieces that one [`send_gathered`] takes. POSIX allows 16 everywhere.
pub const GATHER_MAX: usize = 16;

const GATHER_LIMIT: u8 = 16;
const _: () = assert!(GATHER_LIMIT as usize == GATHER_MAX);

/// A broken pipe is a result, not a signal.
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// The two calls of every request. Where a system call's result fits a `c_long` they are made without
/// the C library's own functions, which are points of thread cancellation: in a process with threads
/// that costs more than the rest of the call in user space, and nobody cancels a poller.
#[cfg(all(any(target_os = "linux", target_os = "android"), target_pointer_width = "64"))]
mod direct {
    use super::{Errno, SEND_FLAGS, ptr};
    use crate::syscall;

    #[expect(clippy::cast_possible_truncation, reason = "of one width here")]
    const fn narrow(count: i64) -> isize {
        count as isize
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be written.
    #[inline]
    pub(super) unsafe fn receive(fd: i32, pointer: *mut libc::c_void, length: usize) -> Result<isize, Errno> {
        let nobody = ptr::null_mut::<libc::c_void>();
        // SAFETY: the caller's promise; no address is asked for.
        let got = unsafe { syscall!(syscall(libc::SYS_recvfrom, fd, pointer, length, 0, nobody, nobody)) };
        got.map(narrow)
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be read.
    #[inline]
    pub(super) unsafe fn send(fd: i32, pointer: *const libc::c_void, length: usize) -> Result<isize, Errno> {
        let nobody = ptr::null::<libc::c_void>();
        // SAFETY: the caller's promise; no address is given.
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
        // SAFETY: the caller's promise.
        unsafe { syscall!(recv(fd, pointer, length, 0)) }
    }

    /// # Safety
    ///
    /// - `length` bytes at `pointer` may be read.
    pub(super) unsafe fn send(fd: i32, pointer: *const libc::c_void, length: usize) -> Result<isize, Errno> {
        // SAFETY: the caller's promise.
        unsafe { syscall!(send(fd, pointer, length, SEND_FLAGS)) }
    }
}

/// Receives into `buffer`.
///
/// # Panics
///
/// When `buffer` is empty: the kernel's answer would look like the end of the stream.
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
        Ok(count) => Received::Bytes(count.cast_unsigned()), // not negative: `check`
        Err(errno) if errno.is_would_block() => Received::WouldBlock,
        Err(errno) => Received::Failed(errno),
    }
}

/// Sends one piece.
#[inline]
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Sent {
    sent(retry(|| {
        let (pointer, length) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the pointer and the length are those of `bytes`, which is borrowed for the call.
        unsafe { direct::send(socket.as_raw_fd(), pointer, length) }
    }))
}

/// Sends several pieces with one call: in order, as if they were one.
///
/// Pieces beyond [`GATHER_MAX`] are left for the next call, which looks like a short send.
#[inline]
pub fn send_gathered(socket: BorrowedFd<'_>, pieces: &[&[u8]]) -> Sent {
    if let [bytes] = pieces {
        return send(socket, bytes);
    }
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; GATHER_MAX];
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        // The kernel only reads through it; iovec is for receiving too, so the pointer is mutable.
        vector.iov_base = piece.as_ptr().cast_mut().cast();
        vector.iov_len = piece.len();
    }
    let count = u8::try_from(pieces.len()).unwrap_or(u8::MAX).min(GATHER_LIMIT);
    let mut message = empty_message();
    message.msg_iov = vectors.as_mut_ptr();
    // A `size_t` on some systems and a C int on others, which both take a byte.
    message.msg_iovlen = count.into();
    sent(retry(|| {
        // SAFETY: `message` names `vectors`, which are the pieces, and all of them outlive the call.
        unsafe { syscall!(sendmsg(socket.as_raw_fd(), &raw const message, SEND_FLAGS)) }
    }))
}

/// Tells the peer that nothing more comes, after what is queued in the kernel. Receiving goes on.
///
/// # Errors
///
/// The OS's error, such as `ENOTCONN` when the peer has reset the connection.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: `shutdown` takes numbers only.
    unsafe { syscall!(shutdown(socket.as_raw_fd(), libc::SHUT_WR)) }.map(drop)
}

#[inline]
fn sent(result: Result<isize, Errno>) -> Sent {
    match result {
        Ok(count) => Sent::Bytes(count.cast_unsigned()),
        Err(errno) if errno.is_would_block() => Sent::WouldBlock,
        // Apple's kernel says so for a moment while a reset comes in.
        #[cfg(target_vendor = "apple")]
        Err(Errno(libc::EPROTOTYPE)) => Sent::Failed(Errno(libc::EPIPE)),
        Err(errno) => Sent::Failed(errno),
    }
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a C struct of pointers, which may be null, and numbers; some systems have padding fields in it.
    unsafe { core::mem::zeroed() }
}
