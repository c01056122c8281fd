//! Both kinds of waker, for tests: the emulation supports `EVFILT_USER` and can also be used without it.

use lightcone_unix::driver::DriverError;
use lightcone_unix::waker::Waker;

use super::{Entry, Queue, pipe_waker, user_waker};

/// A waker of either kind.
#[derive(Clone, Debug)]
pub(crate) enum QueueWaker {
    User(user_waker::QueueWaker),
    Pipe(pipe_waker::QueueWaker),
}

impl QueueWaker {
    pub(crate) fn new(queue: &Queue) -> Result<Self, DriverError> {
        user_waker::QueueWaker::new(queue).map(Self::User)
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "only tests use a pipe here"))]
    pub(crate) fn with_pipe(queue: &Queue) -> Result<Self, DriverError> {
        pipe_waker::QueueWaker::new(queue).map(Self::Pipe)
    }

    /// Returns whether the entry is a wake-up.
    pub(crate) fn is_cause(&self, entry: &Entry) -> bool {
        match self {
            Self::User(waker) => waker.is_cause(entry),
            Self::Pipe(waker) => waker.is_cause(entry),
        }
    }

    pub(crate) fn drain(&self) {
        match self {
            Self::User(waker) => waker.drain(),
            Self::Pipe(waker) => waker.drain(),
        }
    }
}

impl Waker for QueueWaker {
    fn wake(&self) {
        match self {
            Self::User(waker) => waker.wake(),
            Self::Pipe(waker) => waker.wake(),
        }
    }
}
