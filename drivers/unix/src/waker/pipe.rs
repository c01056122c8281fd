//! A waker over a pipe, for systems without `eventfd`.

extern crate alloc;

use alloc::sync::Arc;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::errno::Errno;
use crate::socket;

use super::Waker;

/// A waker that writes a byte to a pipe. The poller watches the read end and empties it.
#[derive(Clone, Debug)]
pub struct PipeWaker(Arc<Pipe>);

/// Both ends of the pipe. They are owned together: a write to a pipe without a reader would raise `SIGPIPE`.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// The maximum number of reads of one [`PipeWaker::drain`]: enough to empty a pipe of 64 KiB, the size on most systems.
const DRAIN_READS_MAX: usize = 16;

impl PipeWaker {
    /// Creates the pipe.
    ///
    /// # Errors
    ///
    /// The OS's error, such as `EMFILE`.
    pub fn new() -> Result<Self, Errno> {
        let (read, write) = socket::pipe()?;
        Ok(Self(Arc::new(Pipe { read, write })))
    }

    /// Consumes all pending wake-ups. The poller calls this when its wait has returned because of them.
    ///
    /// The number of reads is bounded, even if other threads keep waking. Any bytes left end the next wait.
    pub fn drain(&self) {
        let mut bytes = [0; 4_096];
        for _ in 0..DRAIN_READS_MAX {
            // A short read or an error, such as EAGAIN, means that the pipe is empty.
            let read = socket::read(self.as_fd(), &mut bytes);
            if read.unwrap_or(0) < bytes.len() {
                return;
            }
        }
    }
}

impl AsFd for PipeWaker {
    /// Returns the read end, which the poller watches for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.read.as_fd()
    }
}

impl Waker for PipeWaker {
    fn wake(&self) {
        // EAGAIN means that the pipe is full: a wake-up is already pending.
        let _ = socket::write(self.0.write.as_fd(), &[1]);
    }
}
