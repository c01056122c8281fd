//! A lightcone driver for Linux epoll.
//!
//! It is level-triggered: an event that is not handled is reported again. Edge-triggering would require one more
//! receive per request (until "would block"), at 0.4 µs each.
//!
//! A socket without interest is removed from the epoll set, because epoll reports hang-ups and errors regardless of
//! interest: if the peer of a paused socket reset the connection, every wait would return at once. Adding the socket
//! again costs 0.8 µs more than a change, but pauses are rare.
//!
//! ```
//! use lightcone_epoll::Epoll;
//! use lightcone_unix::Builder;
//!
//! let builder = Builder::<Epoll>::new().pollers(2); // `start` runs an engine over epoll
//! # drop(builder);
//! ```

#![cfg(any(target_os = "linux", target_os = "android"))]
#![forbid(unsafe_code)]

use core::time::Duration;
use std::os::fd::BorrowedFd;

use lightcone_unix::driver::{
    Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, look_again, timeout_ms,
};
use lightcone_unix::errno::Errno;
use lightcone_unix::waker::EventFdWaker;

use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// There are bytes to receive or a connection to accept.
const READ: EpollFlags = EpollFlags::EPOLLIN;
/// There is room to send, or a connect has ended.
const WRITE: EpollFlags = EpollFlags::EPOLLOUT;
/// The peer has closed its stream.
const ENDED: EpollFlags = EpollFlags::EPOLLRDHUP;
/// Both streams have ended. Reported even if not requested.
const HANG_UP: EpollFlags = EpollFlags::EPOLLHUP;
/// An error is pending. Reported even if not requested.
const ERROR: EpollFlags = EpollFlags::EPOLLERR;

/// The maximum number of events per wait. A larger buffer would not fit into the first-level cache.
const EVENTS_MAX: usize = 1_024;

/// Linux epoll. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Epoll {
    epoll: nix::sys::epoll::Epoll,
    waker: EventFdWaker,
    /// INVARIANT: its length is from 1 to `EVENTS_MAX`.
    buffer: Box<[EpollEvent]>,
}

impl Driver for Epoll {
    type Waker = EventFdWaker;

    const NAME: &'static str = "epoll";

    fn new(events_max: usize) -> Result<Self, DriverError> {
        let epoll = nix::sys::epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| DriverError::Os("epoll_create1", own(errno)))?;
        let waker = EventFdWaker::new().map_err(|errno| DriverError::Os("eventfd", errno))?;
        epoll.add(&waker, EpollEvent::new(READ, KEY_RESERVED)).map_err(control_failed)?;
        let buffer = vec![EpollEvent::empty(); events_max.clamp(1, EVENTS_MAX)].into_boxed_slice();
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
        let mut event = EpollEvent::new(bits_of(new), key);
        let changed = match (old.is_none(), new.is_none()) {
            _ if old == new => return Ok(()),
            (true, _) => self.epoll.add(fd, event),
            (_, true) => self.epoll.delete(fd),
            (false, false) => self.epoll.modify(fd, &mut event),
        };
        changed.map_err(control_failed)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, _key: u64, interest: Interest) {
        if !interest.is_none() {
            let removed = self.epoll.delete(fd);
            debug_assert_eq!(removed, Ok(()), "the caller passed a wrong interest");
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        // No more events than fit into both buffers: the kernel keeps the others for the next wait.
        let room = events.len().min(self.buffer.len());
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        let wait = |timeout| self.epoll.wait(buffer, epoll_timeout(timeout)).map_err(own);
        let seen = look_again(timeout, wait).map_err(|errno| DriverError::Os("epoll_wait", errno))?;
        let most = events.len();
        let mut free = events.iter_mut();
        for raw in self.buffer.get(..seen).unwrap_or_default() {
            if raw.data() == KEY_RESERVED {
                self.waker.drain();
            } else if let Some(event) = free.next() {
                *event = Event { key: raw.data(), readiness: readiness_of(raw.events()) };
            }
        }
        Ok(most - free.len())
    }
}

/// Converts an error of `nix`.
const fn own(errno: nix::errno::Errno) -> Errno {
    Errno(errno as i32)
}

fn control_failed(errno: nix::errno::Errno) -> DriverError {
    DriverError::Os("epoll_ctl", own(errno))
}

/// Converts a timeout, rounded up to milliseconds.
fn epoll_timeout(timeout: Option<Duration>) -> EpollTimeout {
    // Always succeeds: the result of `timeout_ms` is at least -1.
    EpollTimeout::try_from(timeout_ms(timeout)).unwrap_or(EpollTimeout::NONE)
}

/// Converts an interest to epoll's bits. The end of the peer's stream is only requested together with reading: a socket
/// that is watched for writing alone and has already read the end would otherwise be reported by every wait.
fn bits_of(interest: Interest) -> EpollFlags {
    let read = if interest.reads() { READ | ENDED } else { EpollFlags::empty() };
    let write = if interest.writes() { WRITE } else { EpollFlags::empty() };
    read | write
}

/// Converts epoll's bits to readiness. Errors and hang-ups count as both directions: the caller learns about them from
/// its next call on the socket, whether it receives or sends.
fn readiness_of(bits: EpollFlags) -> Readiness {
    if bits == READ {
        return Readiness::READ; // the common case
    }
    let broken = Readiness::when(bits.intersects(HANG_UP | ERROR), Readiness::BOTH);
    let read = Readiness::when(bits.intersects(READ | ENDED), Readiness::READ);
    let write = Readiness::when(bits.intersects(WRITE), Readiness::WRITE);
    let ended = Readiness::when(bits.intersects(ENDED | HANG_UP), Readiness::ENDED);
    let error = Readiness::when(bits.intersects(ERROR), Readiness::ERROR);
    broken.with(read).with(write).with(ended).with(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_becomes_bits() {
        assert_eq!(bits_of(Interest::NONE), EpollFlags::empty());
        assert_eq!(bits_of(Interest::READ), READ | ENDED);
        assert_eq!(bits_of(Interest::WRITE), WRITE);
        assert_eq!(bits_of(Interest::BOTH), READ | WRITE | ENDED);
    }

    #[test]
    fn bits_become_readiness() {
        assert_eq!(readiness_of(EpollFlags::empty()), Readiness::NONE);
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
