//! A lightcone driver for Linux epoll.
//!
//! It is level-triggered: an event that is not handled is reported again. Edge-triggering would require one more
//! receive per request (until "would block"), at 0.4 µs each.
//!
//! A socket without interest is removed from the epoll set, because epoll reports hang-ups and errors regardless of
//! interest: if the peer of a paused socket reset the connection, every wait would return at once. Adding the socket
//! again costs 0.8 µs more than a change, but pauses are rare.

#![cfg(any(target_os = "linux", target_os = "android"))]
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the system calls")]
mod sys;

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lightcone_unix::driver::{
    Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, look_again, timeout_ms,
};
use lightcone_unix::errno::Errno;
use lightcone_unix::waker::EventFdWaker;

use sys::{Change, ENDED, ERROR, HANG_UP, READ, Raw, WRITE};

/// The maximum number of events per wait. A larger buffer would not fit into the first-level cache.
const EVENTS_MAX: usize = 1_024;

/// Linux epoll. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    waker: EventFdWaker,
    /// INVARIANT: its length is from 1 to `EVENTS_MAX`.
    buffer: Box<[Raw]>,
}

impl Driver for Epoll {
    type Waker = EventFdWaker;

    const NAME: &'static str = "epoll";

    fn new(events_max: usize) -> Result<Self, DriverError> {
        let epoll = sys::create().map_err(|errno| DriverError::Os("epoll_create1", errno))?;
        let waker = EventFdWaker::new().map_err(|errno| DriverError::Os("eventfd", errno))?;
        sys::control(epoll.as_fd(), Change::Add, waker.as_fd(), KEY_RESERVED, READ)
            .map_err(control_failed)?;
        let buffer = vec![Raw::EMPTY; events_max.clamp(1, EVENTS_MAX)].into_boxed_slice();
        Ok(Self { epoll, waker, buffer })
    }

    fn waker(&self) -> EventFdWaker {
        self.waker.clone()
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
        self.modify(fd, key, Interest::NONE, interest)
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        // `NONE` means that the socket is not in the set, see the crate's documentation.
        let change = match (old.is_none(), new.is_none()) {
            _ if old == new => return Ok(()),
            (true, _) => Change::Add,
            (_, true) => Change::Remove,
            (false, false) => Change::Modify,
        };
        sys::control(self.epoll.as_fd(), change, fd, key, bits_of(new)).map_err(control_failed)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        if !interest.is_none() {
            let removed = sys::control(self.epoll.as_fd(), Change::Remove, fd, key, 0);
            debug_assert_eq!(removed, Ok(()), "the caller passed a wrong interest");
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        // No more events than fit into both buffers: the kernel keeps the others for the next wait.
        let room = events.len().min(self.buffer.len());
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        let wait = |timeout| sys::wait(self.epoll.as_fd(), buffer, timeout_ms(timeout));
        let seen = look_again(timeout, wait).map_err(|errno| DriverError::Os("epoll_wait", errno))?;
        let most = events.len();
        let mut free = events.iter_mut();
        for raw in self.buffer.get(..seen).unwrap_or_default() {
            if raw.key() == KEY_RESERVED {
                self.waker.drain();
            } else if let Some(event) = free.next() {
                *event = Event { key: raw.key(), readiness: readiness_of(raw.bits()) };
            }
        }
        Ok(most - free.len())
    }
}

const fn control_failed(errno: Errno) -> DriverError {
    DriverError::Os("epoll_ctl", errno)
}

/// Converts an interest to epoll's bits. The end of the peer's stream is only requested together with reading: a socket
/// that is watched for writing alone and has already read the end would otherwise be reported by every wait.
const fn bits_of(interest: Interest) -> u32 {
    let read = if interest.reads() { READ | ENDED } else { 0 };
    let write = if interest.writes() { WRITE } else { 0 };
    read | write
}

/// Converts epoll's bits to readiness. Errors and hang-ups count as both directions: the caller learns about them from
/// its next call on the socket, whether it receives or sends.
const fn readiness_of(bits: u32) -> Readiness {
    if bits == READ {
        return Readiness::READ; // the common case
    }
    let broken = Readiness::when(bits & (HANG_UP | ERROR) != 0, Readiness::BOTH);
    let read = Readiness::when(bits & (READ | ENDED) != 0, Readiness::READ);
    let write = Readiness::when(bits & WRITE != 0, Readiness::WRITE);
    let ended = Readiness::when(bits & (ENDED | HANG_UP) != 0, Readiness::ENDED);
    let error = Readiness::when(bits & ERROR != 0, Readiness::ERROR);
    broken.with(read).with(write).with(ended).with(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_becomes_bits() {
        assert_eq!(bits_of(Interest::NONE), 0);
        assert_eq!(bits_of(Interest::READ), READ | ENDED);
        assert_eq!(bits_of(Interest::WRITE), WRITE);
        assert_eq!(bits_of(Interest::BOTH), READ | WRITE | ENDED);
    }

    #[test]
    fn bits_become_readiness() {
        assert_eq!(readiness_of(0), Readiness::NONE);
        assert_eq!(readiness_of(READ), Readiness::READ);
        assert_eq!(readiness_of(WRITE), Readiness::WRITE);
        assert_eq!(readiness_of(READ | ENDED), Readiness::READ | Readiness::ENDED);
        assert_eq!(readiness_of(HANG_UP), Readiness::BOTH | Readiness::ENDED);
        assert_eq!(readiness_of(ERROR), Readiness::BOTH | Readiness::ERROR);
    }

    #[test]
    fn a_wait_takes_no_more_events_than_its_maximum() {
        assert_eq!(Epoll::new(0).unwrap().buffer.len(), 1);
        assert_eq!(Epoll::new(64).unwrap().buffer.len(), 64);
        assert_eq!(Epoll::new(usize::MAX).unwrap().buffer.len(), EVENTS_MAX);
    }
}
