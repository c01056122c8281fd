//! A waker over `EVFILT_USER`, which needs no descriptor and no draining.

use lightcone_unix::driver::DriverError;
use lightcone_unix::waker::Waker;

use super::{Change, Entry, Queue};

/// A waker that triggers a filter of the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueWaker(Queue);

impl QueueWaker {
    pub(crate) fn new(queue: &Queue) -> Result<Self, DriverError> {
        let added = queue.kevent(&[Entry::add_user()], &mut [], None);
        added.map_err(|errno| DriverError::Os("kevent", errno))?;
        Ok(Self(queue.clone()))
    }

    /// Returns whether the entry is a wake-up. All other entries are those of sockets.
    #[expect(clippy::unused_self, reason = "other systems' wakers compare their descriptor")]
    pub(crate) fn is_cause(&self, entry: &Entry) -> bool {
        entry.direction().is_none()
    }

    /// Does nothing: because of `EV_CLEAR`, reading the event has already consumed the wake-ups.
    #[expect(clippy::unused_self, reason = "other systems' wakers have something to drain")]
    pub(crate) const fn drain(&self) {}
}

impl Waker for QueueWaker {
    fn wake(&self) {
        // Triggering an existing filter needs no memory and cannot fail.
        let _ = self.0.kevent(&[Entry::trigger_user()], &mut [], None);
    }
}
