//! A lightcone driver for `select`, which every POSIX system has.
//!
//! It is meant for systems without a better mechanism, and for few sockets: the cost of a wait grows with the highest
//! descriptor, and descriptors of 1,024 (`FD_SETSIZE`) and above are refused, because `select` would write beyond its
//! sets. An engine then leaves further connections in the listener's backlog until there is room.
//!
//! ```
//! use lightcone_select::Select;
//! use lightcone_unix::Builder;
//!
//! let builder = Builder::<Select>::new().pollers(2); // `start` runs an engine over `select`
//! # drop(builder);
//! ```

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the system call and its C macros")]
mod sys;

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use lightcone_unix::driver::{
    Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, check_descriptor, look_again,
};
use lightcone_unix::waker::PipeWaker;

use sys::{SET_LIMIT, SET_SIZE, Set};

/// `select(2)`. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Select {
    waker: PipeWaker,
    /// The descriptors watched for reading. Each wait passes a copy, in which the call leaves the ready ones.
    read: Set,
    /// The descriptors watched for writing.
    write: Set,
    /// INVARIANT: the highest descriptor in a set, which is at least the waker's.
    max: RawFd,
    /// The key of each descriptor in a set.
    ///
    /// INVARIANT: its length is `SET_SIZE`.
    keys: Box<[u64]>,
    /// Where the next scan begins: at the first descriptor whose event did not fit, so that a short slice starves no
    /// socket.
    start: RawFd,
}

impl Select {
    /// Sets the interest in a descriptor. Its number has been checked at registration, so it fits into the sets.
    fn watch(&mut self, fd: RawFd, key: u64, interest: Interest) {
        self.read.put(fd, interest.reads());
        self.write.put(fd, interest.writes());
        if let Some(of) = usize::try_from(fd).ok().and_then(|at| self.keys.get_mut(at)) {
            *of = key;
        }
        if !interest.is_none() {
            self.max = self.max.max(fd);
        } else if fd == self.max {
            // The search ends at the waker's descriptor at the latest, which is never removed.
            let highest = (0..fd).rev().find(|below| self.read.has(*below) || self.write.has(*below));
            self.max = highest.unwrap_or(0);
        }
    }

    /// Writes the events of the ready descriptors, beginning at `start` and wrapping around, and returns their number.
    fn collect(&mut self, read: &Set, write: &Set, ready: usize, events: &mut [Event]) -> usize {
        let waker = self.waker.as_fd().as_raw_fd();
        // Descriptors may have been removed since `start` was set.
        let from = if self.start > self.max { 0 } else { self.start };
        // The number of set members still to be found. A descriptor that is ready in both directions counts twice.
        let mut left = ready;
        let mut count = 0;
        for fd in (from..=self.max).chain(0..from) {
            if left == 0 {
                break;
            }
            let (readable, writable) = (read.has(fd), write.has(fd));
            if !readable && !writable {
                continue;
            }
            left -= usize::from(readable) + usize::from(writable);
            if fd == waker {
                self.waker.drain();
                continue;
            }
            let Some(event) = events.get_mut(count) else {
                self.start = fd; // not reported in this wait, so the next scan begins with it
                break;
            };
            let key = usize::try_from(fd).ok().and_then(|at| self.keys.get(at)).copied();
            let readiness = Readiness::when(readable, Readiness::READ);
            let readiness = readiness.with(Readiness::when(writable, Readiness::WRITE));
            *event = Event { key: key.unwrap_or(KEY_RESERVED), readiness };
            count += 1;
        }
        count
    }
}

impl Driver for Select {
    type Waker = PipeWaker;

    const NAME: &'static str = "select";

    const DESCRIPTORS_MAX: Option<RawFd> = Some(SET_LIMIT);

    fn new(_events_max: usize) -> Result<Self, DriverError> {
        let waker = PipeWaker::new().map_err(|errno| DriverError::Os("pipe", errno))?;
        let fd = waker.as_fd().as_raw_fd();
        check_descriptor::<Self>(fd)?;
        let keys = vec![KEY_RESERVED; SET_SIZE].into_boxed_slice();
        let mut this = Self { waker, read: Set::new(), write: Set::new(), max: fd, keys, start: 0 };
        this.watch(fd, KEY_RESERVED, Interest::READ);
        Ok(this)
    }

    fn waker(&self) -> PipeWaker {
        self.waker.clone()
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
        check_descriptor::<Self>(fd.as_raw_fd())?;
        self.watch(fd.as_raw_fd(), key, interest);
        Ok(())
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        _old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        self.register(fd, key, new)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {
        self.watch(fd.as_raw_fd(), KEY_RESERVED, Interest::NONE);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        let (mut read, mut write) = (self.read, self.write);
        let wait = |timeout| {
            (read, write) = (self.read, self.write); // again for each call: an interrupted one leaves them unspecified
            sys::select(self.max, &mut read, &mut write, timeout)
        };
        let ready = look_again(timeout, wait).map_err(|errno| DriverError::Os("select", errno))?;
        Ok(self.collect(&read, &write, ready, events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_descriptor_follows_what_is_watched() {
        let mut select = Select::new(8).unwrap();
        let waker = select.waker.as_fd().as_raw_fd();
        assert_eq!(select.max, waker);
        select.watch(700, 1, Interest::READ);
        select.watch(900, 2, Interest::WRITE);
        assert_eq!(select.max, 900);
        select.watch(900, 2, Interest::NONE);
        assert_eq!(select.max, 700);
        select.watch(300, 3, Interest::BOTH);
        select.watch(700, 1, Interest::NONE);
        assert_eq!(select.max, 300);
        select.watch(300, 3, Interest::NONE);
        assert_eq!(select.max, waker);
    }
}
