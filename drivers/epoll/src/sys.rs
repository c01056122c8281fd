//! The system calls of epoll.

use core::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use lightcone_unix::errno::Errno;
use lightcone_unix::syscall;

/// There are bytes to receive or a connection to accept.
pub(crate) const READ: u32 = libc::EPOLLIN.cast_unsigned();
/// There is room to send, or a connect has ended.
pub(crate) const WRITE: u32 = libc::EPOLLOUT.cast_unsigned();
/// The peer has closed its stream.
pub(crate) const ENDED: u32 = libc::EPOLLRDHUP.cast_unsigned();
/// Both streams have ended. Reported even if not requested.
pub(crate) const HANG_UP: u32 = libc::EPOLLHUP.cast_unsigned();
/// An error is pending. Reported even if not requested.
pub(crate) const ERROR: u32 = libc::EPOLLERR.cast_unsigned();

/// A change of the epoll set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Adds a descriptor.
    Add,
    /// Changes the interest in a descriptor.
    Modify,
    /// Removes a descriptor.
    Remove,
}

/// An event of one descriptor, as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Raw(libc::epoll_event);

impl Raw {
    pub(crate) const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    #[inline]
    pub(crate) const fn key(self) -> u64 {
        self.0.u64
    }

    #[inline]
    pub(crate) const fn bits(self) -> u32 {
        self.0.events
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:#x}", self.key(), self.bits())
    }
}

/// Creates an epoll set. Its descriptor is close-on-exec.
pub(crate) fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: `epoll_create1` only takes a number.
    let fd = unsafe { syscall!(epoll_create1(libc::EPOLL_CLOEXEC)) }?;
    // SAFETY: the call succeeded and created the descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Changes the set.
pub(crate) fn control(
    epoll: BorrowedFd<'_>,
    change: Change,
    fd: BorrowedFd<'_>,
    key: u64,
    bits: u32,
) -> Result<(), Errno> {
    let operation = match change {
        Change::Add => libc::EPOLL_CTL_ADD,
        Change::Modify => libc::EPOLL_CTL_MOD,
        Change::Remove => libc::EPOLL_CTL_DEL,
    };
    let mut event = libc::epoll_event { events: bits, u64: key };
    // SAFETY: `event` outlives the call, which only reads it.
    unsafe { syscall!(epoll_ctl(epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)) }.map(drop)
}

/// Waits for at most `timeout` milliseconds (−1: indefinitely), writes events to the start of `buffer`, and returns
/// their number.
#[inline]
pub(crate) fn wait(epoll: BorrowedFd<'_>, buffer: &mut [Raw], timeout: libc::c_int) -> Result<usize, Errno> {
    let room = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
    let pointer = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` has room for `room` events, since `Raw` is transparent, and is borrowed for the call.
    let count = unsafe { syscall!(epoll_wait(epoll.as_raw_fd(), pointer, room, timeout)) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}
