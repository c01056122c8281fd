//! A waker over `eventfd`: one descriptor, one counter.

extern crate alloc;

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::errno::Errno;
use crate::socket;
use crate::syscall;

use super::Waker;

/// Wakes by adding one to a counter; the poller watches it for reading and sets it back to zero.
#[derive(Clone, Debug)]
pub struct EventFdWaker(Arc<OwnedFd>);

impl EventFdWaker {
    /// Makes the descriptor.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: `eventfd` takes numbers only.
        let fd = unsafe { syscall!(eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }?;
        // SAFETY: the call made the descriptor and succeeded; nobody else has it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Takes back all wakes so far. For the poller, once its wait has returned because of them.
    pub fn drain(&self) {
        // EAGAIN: nobody woke, or another drain was first. One read takes the whole counter.
        let _ = socket::read(self.as_fd(), &mut [0; 8]);
    }
}

impl AsFd for EventFdWaker {
    /// What the poller watches for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Waker for EventFdWaker {
    fn wake(&self) {
        // EAGAIN: the counter is full, so it is above zero and the poller is awake or will be.
        let _ = socket::write(self.as_fd(), &1_u64.to_ne_bytes());
    }
}
