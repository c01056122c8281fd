//! A complete example driver over `poll(2)`, which every POSIX system has.
//!
//! It is the result of the guide in [`lightcone_unix::driver`], and passes both test suites. The rules that its
//! comments mention are those of that page. It is written for readability: each change of interest searches its list
//! for the socket, where a driver for many sockets would keep an index by descriptor.
#![allow(clippy::indexing_slicing, reason = "indices into two lists of the same length")]

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use lightcone_unix::driver::{
    Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, look_again, timeout_ms,
};
use lightcone_unix::syscall;
use lightcone_unix::waker::PipeWaker;

/// A driver over `poll(2)`.
#[derive(Debug)]
pub(crate) struct Poll {
    waker: PipeWaker,
    /// The descriptors with interest, and no others: `poll` reports errors and hang-ups of every listed descriptor
    /// (rule 4).
    ///
    /// INVARIANT: the first entry is the waker.
    watched: Vec<libc::pollfd>,
    /// The key of each descriptor, at the same index.
    keys: Vec<u64>,
    /// The index at which the next search for events starts: the first event that did not fit (rule 13).
    start: usize,
}

impl Poll {
    /// Sets the interest of a descriptor. A descriptor without interest is removed from the list (rules 4 and 6).
    fn watch(&mut self, fd: RawFd, key: u64, interest: Interest) {
        let read = if interest.reads() { libc::POLLIN } else { 0 };
        let write = if interest.writes() { libc::POLLOUT } else { 0 };
        let entry = libc::pollfd { fd, events: read | write, revents: 0 };
        let place = self.watched.iter().position(|watched| watched.fd == fd);
        match place {
            Some(place) if interest.is_none() => {
                self.watched.swap_remove(place);
                self.keys.swap_remove(place);
            }
            Some(place) => {
                self.watched[place] = entry;
                self.keys[place] = key;
            }
            None if interest.is_none() => {}
            None => {
                self.watched.push(entry);
                self.keys.push(key);
            }
        }
    }

    /// Writes the events of the ready descriptors, starting at `start` and wrapping around.
    fn collect(&mut self, events: &mut [Event]) -> usize {
        let len = self.watched.len();
        let from = self.start % len;
        let mut count = 0;
        for place in (from..len).chain(0..from) {
            let seen = self.watched[place];
            if seen.revents == 0 {
                continue;
            }
            if place == 0 {
                self.waker.drain(); // a wake-up is not an event (rule 19)
                continue;
            }
            let Some(event) = events.get_mut(count) else {
                // the next wait starts with this event, so that none is left out (rule 13)
                self.start = place;
                break;
            };
            *event = Event { key: self.keys[place], readiness: readiness_of(seen) };
            count += 1;
        }
        count
    }
}

/// Reports errors and hang-ups in both directions, because the following call returns the error itself (rule 9).
fn readiness_of(seen: libc::pollfd) -> Readiness {
    let has = |bits: libc::c_short| seen.revents & bits != 0;
    let broken = has(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);
    let read = Readiness::when(has(libc::POLLIN) || broken, Readiness::READ);
    let write = Readiness::when(has(libc::POLLOUT) || broken, Readiness::WRITE);
    let ended = Readiness::when(has(libc::POLLHUP), Readiness::ENDED);
    let error = Readiness::when(has(libc::POLLERR), Readiness::ERROR);
    read | write | ended | error
}

impl Driver for Poll {
    type Waker = PipeWaker;

    const NAME: &'static str = "poll";

    fn new(_events_max: usize) -> Result<Self, DriverError> {
        let waker = PipeWaker::new().map_err(|errno| DriverError::Os("pipe", errno))?;
        let fd = waker.as_fd().as_raw_fd();
        let mut this = Self { waker, watched: Vec::new(), keys: Vec::new(), start: 0 };
        this.watch(fd, KEY_RESERVED, Interest::READ);
        Ok(this)
    }

    fn waker(&self) -> PipeWaker {
        self.waker.clone()
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
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
        self.watch(fd.as_raw_fd(), key, new);
        Ok(())
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, _interest: Interest) {
        self.watch(fd.as_raw_fd(), key, Interest::NONE);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        let (list, len) = (self.watched.as_mut_ptr(), self.watched.len());
        let len = libc::nfds_t::try_from(len).unwrap_or(libc::nfds_t::MAX);
        // SAFETY: the list has `len` entries and is not touched during the call.
        let poll = |timeout| unsafe { syscall!(poll(list, len, timeout_ms(timeout))) };
        match look_again(timeout, |timeout| poll(timeout).map(|ready| ready.unsigned_abs() as usize)) {
            Ok(0) => Ok(0), // rules 15 and 17
            Ok(_) => Ok(self.collect(events)),
            Err(errno) => Err(DriverError::Os("poll", errno)), // the driver is broken, not a socket (rule 18)
        }
    }
}
