//! A waker over `EVFILT_USER`: no descriptor of its own, and nothing to drain.

use lightcone_unix::driver::DriverError;
use lightcone_unix::waker::Waker;

use super::{Entry, Queue};

/// Wakes by triggering a filter of the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueWaker(Queue);

impl QueueWaker {
    pub(crate) fn new(queue: &Queue) -> Result<Self, DriverError> {
        let added = queue.kevent(&[Entry::add_user()], &mut [], None);
        added.map_err(|errno| DriverError::Os("kevent", errno))?;
        Ok(Self(queue.clone()))
    }

    /// Whether the entry is a wake. Nothing but the waker is no socket.
    #[expect(clippy::unused_self, reason = "other systems' wakers compare their descriptor")]
    pub(crate) const fn is_cause(&self, entry: &Entry) -> bool {
        entry.filter().is_none()
    }

    /// `EV_CLEAR` took the wakes back when the event was read.
    #[expect(clippy::unused_self, reason = "other systems' wakers have something to drain")]
    pub(crate) const fn drain(&self) {}
}

impl Waker for QueueWaker {
    fn wake(&self) {
        // Triggering a filter that is there needs no memory and cannot fail.
        let _ = self.0.kevent(&[Entry::trigger_user()], &mut [], None);
    }
}
