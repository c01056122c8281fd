//! A waker over a pipe, for systems without `EVFILT_USER`.

use std::os::fd::{AsFd, AsRawFd};

use lightcone_unix::driver::DriverError;
use lightcone_unix::waker::{PipeWaker, Waker};

use super::{Change, Entry, Filter, Queue};

/// A waker that writes to a pipe which the queue watches.
#[derive(Clone, Debug)]
pub(crate) struct QueueWaker(PipeWaker);

impl QueueWaker {
    pub(crate) fn new(queue: &Queue) -> Result<Self, DriverError> {
        let pipe = PipeWaker::new().map_err(|errno| DriverError::Os("pipe", errno))?;
        let add = Entry::add(pipe.as_fd().as_raw_fd(), Filter::Read);
        queue.kevent(&[add], &mut [], None).map_err(|errno| DriverError::Os("kevent", errno))?;
        Ok(Self(pipe))
    }

    /// Returns whether the entry is a wake-up.
    pub(crate) fn is_cause(&self, entry: &Entry) -> bool {
        entry.fd() == self.0.as_fd().as_raw_fd()
    }

    pub(crate) fn drain(&self) {
        self.0.drain();
    }
}

impl Waker for QueueWaker {
    fn wake(&self) {
        self.0.wake();
    }
}
