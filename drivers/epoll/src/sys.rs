//! The three calls of epoll.

use core::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use lightcone_unix::errno::Errno;
use lightcone_unix::syscall;

/// Readable: bytes or a connection.
pub(crate) const READ: u32 = libc::EPOLLIN.cast_unsigned();
/// Writable.
pub(crate) const WRITE: u32 = libc::EPOLLOUT.cast_unsigned();
/// The peer has ended its stream.
pub(crate) const ENDED: u32 = libc::EPOLLRDHUP.cast_unsigned();
/// Both streams have ended; reported unasked.
pub(crate) const HANG_UP: u32 = libc::EPOLLHUP.cast_unsigned();
/// An error is pending; reported unasked.
pub(crate) const ERROR: u32 = libc::EPOLLERR.cast_unsigned();

/// A change of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Puts a descriptor in.
    Add,
    /// Changes what is watched of it.
    Modify,
    /// Takes it out.
    Remove,
}

/// What the kernel writes for one descriptor.
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

/// A set of descriptors; itself a descriptor that programs that are started do not get.
pub(crate) fn create() -> Result<OwnedFd, Errno> {
    // SAFETY: `epoll_create1` takes a number.
    let fd = unsafe { syscall!(epoll_create1(libc::EPOLL_CLOEXEC)) }?;
    // SAFETY: the call made the descriptor and succeeded; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

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

/// Waits for so many milliseconds (−1: for ever) and fills `buffer` from its start.
#[inline]
pub(crate) fn wait(epoll: BorrowedFd<'_>, buffer: &mut [Raw], timeout: libc::c_int) -> Result<usize, Errno> {
    let room = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
    let pointer = buffer.as_mut_ptr().cast();
    // SAFETY: `buffer` has room for `room` events, `Raw` being transparent, and is borrowed for the call.
    let count = unsafe { syscall!(epoll_wait(epoll.as_raw_fd(), pointer, room, timeout)) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}
