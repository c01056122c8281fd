//! A waker over `eventfd`: one descriptor that holds a counter.

extern crate alloc;

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::errno::{Errno, retry};

use super::Waker;

/// A waker that increments a counter. The poller watches its descriptor for reading and resets it to zero.
#[derive(Clone, Debug)]
pub struct EventFdWaker(Arc<EventFd>);

impl EventFdWaker {
    /// Creates the descriptor.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn new() -> Result<Self, Errno> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        event.map(|event| Self(Arc::new(event))).map_err(Errno::from_nix)
    }

    /// Consumes all pending wake-ups. The poller calls this when its wait has returned because of them.
    pub fn drain(&self) {
        // One read resets the counter. EAGAIN means that it was already zero.
        let _ = retry(|| self.0.read().map_err(Errno::from_nix));
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
        let _ = retry(|| self.0.write(1).map_err(Errno::from_nix));
    }
}
