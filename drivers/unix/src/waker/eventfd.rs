//! A waker over `eventfd`: one descriptor that holds a counter.

extern crate alloc;

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::errno::Errno;
use crate::socket;
use crate::syscall;

use super::Waker;

/// A waker that increments a counter. The poller watches its descriptor for reading and resets it to zero.
#[derive(Clone, Debug)]
pub struct EventFdWaker(Arc<OwnedFd>);

impl EventFdWaker {
    /// Creates the descriptor.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: `eventfd` only takes numbers.
        let fd = unsafe { syscall!(eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }?;
        // SAFETY: the call succeeded and created the descriptor, which has no other owner.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Consumes all pending wake-ups. The poller calls this when its wait has returned because of them.
    pub fn drain(&self) {
        // One read resets the counter. EAGAIN means that it was already zero.
        let _ = socket::read(self.as_fd(), &mut [0; 8]);
    }
}

impl AsFd for EventFdWaker {
    /// Returns the descriptor that the poller watches for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Waker for EventFdWaker {
    fn wake(&self) {
        // EAGAIN means that the counter is at its maximum: a wake-up is already pending.
        let _ = socket::write(self.as_fd(), &1_u64.to_ne_bytes());
    }
}
