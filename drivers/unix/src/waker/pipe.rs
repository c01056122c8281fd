//! A waker over a pipe, for systems without `eventfd`.

extern crate alloc;

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::errno::Errno;
use crate::socket;

use super::Waker;

/// Wakes by writing a byte; the poller watches the other end and empties it.
#[derive(Clone, Debug)]
pub struct PipeWaker(Arc<Pipe>);

/// Both ends live together: a write to a pipe without a reader would raise `SIGPIPE`.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The most reads of one [`PipeWaker::drain`]. A pipe holds 64 KiB on most systems, and a poller is woken once a sleep.
const DRAIN_READS_MAX: usize = 16;

impl PipeWaker {
    /// Makes the pipe.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn new() -> Result<Self, Errno> {
        let (read, write) = socket::pipe()?;
        Ok(Self(Arc::new(Pipe { read, write })))
    }

    /// Takes back all wakes so far. For the poller, once its wait has returned because of them.
    ///
    /// Bounded even if other threads wake all the time: what is left wakes once more.
    pub fn drain(&self) {
        let mut bytes = [0; 4_096];
        for _ in 0..DRAIN_READS_MAX {
            // EAGAIN: it is empty.
            let read = socket::read(self.as_fd(), &mut bytes);
            if read.map_or(0, isize::unsigned_abs) < bytes.len() {
                return;
            }
        }
    }
}

impl AsFd for PipeWaker {
    /// What the poller watches for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.read.as_fd()
    }
}

impl Waker for PipeWaker {
    fn wake(&self) {
        // EAGAIN: the pipe is full, so there is something to read and the poller is awake or will be.
        let _ = socket::write(self.0.write.as_fd(), &[1]);
    }
}
