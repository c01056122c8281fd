//! lightcone's driver for Linux epoll
//!
//! Level-triggered: an event that is not acted on comes again, and edge-triggering would ask for a receive more a
//! request (until "would block") at 0.4 µs each.
//!
//! A socket without interest is taken out of the set, since epoll reports hang-ups and errors whatever is asked for: a
//! paused socket whose peer has reset would make every wait return at once. Putting it back costs 0.8 µs more than a
//! change; a pause is rare.

#![cfg(any(target_os = "linux", target_os = "android"))]

use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use lightcone_unix::driver::{Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, timeout_ms};
use lightcone_unix::errno::Errno;
use lightcone_unix::syscall;
use lightcone_unix::waker::EventFdWaker;

/// The most events of one wait: beyond that the memory they are copied through leaves the first cache.
const EVENTS_MAX: usize = 1_024;

/// Linux epoll. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    waker: EventFdWaker,
    /// INVARIANT: from 1 to `EVENTS_MAX` long.
    buffer: Box<[Raw]>,
}

/// What the kernel writes for one socket.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw(libc::epoll_event);

impl core::fmt::Debug for Raw {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Copied: the fields of a packed structure have no addresses.
        let (bits, key) = (self.0.events, self.0.u64);
        write!(f, "{key}: {bits:#x}")
    }
}

impl Epoll {
    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
    ) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events: bits_of(interest), u64: key };
        let (epoll, fd) = (self.epoll.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` outlives the call, which only reads it.
        unsafe { syscall!(epoll_ctl(epoll, operation, fd, &raw mut event)) }.map(drop)
    }

    /// Takes what the kernel has to say, `timeout` in milliseconds; an interruption brings nothing.
    fn collect(&mut self, timeout: libc::c_int, events_max: usize) -> Result<usize, DriverError> {
        let room = libc::c_int::try_from(events_max.min(self.buffer.len())).unwrap_or(libc::c_int::MAX);
        let buffer = self.buffer.as_mut_ptr().cast();
        // SAFETY: `buffer` has room for at least `room` events; `Raw` is transparent.
        match unsafe { syscall!(epoll_wait(self.epoll.as_raw_fd(), buffer, room, timeout)) } {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(Errno(libc::EINTR)) => Ok(0),
            Err(errno) => Err(DriverError::Os("epoll_wait", errno)),
        }
    }
}

impl Driver for Epoll {
    type Waker = EventFdWaker;

    const NAME: &'static str = "epoll";

    const DESCRIPTORS_MAX: Option<RawFd> = None;

    fn new(events_max: usize) -> Result<Self, DriverError> {
        // SAFETY: `epoll_create1` takes a number.
        let fd = unsafe { syscall!(epoll_create1(libc::EPOLL_CLOEXEC)) };
        let fd = fd.map_err(|errno| DriverError::Os("epoll_create1", errno))?;
        // SAFETY: the call made the descriptor and succeeded; nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let waker = EventFdWaker::new().map_err(|errno| DriverError::Os("eventfd", errno))?;
        let empty = Raw(libc::epoll_event { events: 0, u64: 0 });
        let buffer = vec![empty; events_max.clamp(1, EVENTS_MAX)].into_boxed_slice();
        let this = Self { epoll, waker, buffer };
        this.control(libc::EPOLL_CTL_ADD, this.waker.as_fd(), KEY_RESERVED, Interest::READ)
            .map_err(|errno| DriverError::Os("epoll_ctl", errno))?;
        Ok(this)
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
        let operation = match (old.is_none(), new.is_none()) {
            _ if old == new => return Ok(()),
            (true, _) => libc::EPOLL_CTL_ADD,
            (_, true) => libc::EPOLL_CTL_DEL,
            (false, false) => libc::EPOLL_CTL_MOD,
        };
        self.control(operation, fd, key, new).map_err(|errno| DriverError::Os("epoll_ctl", errno))
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        if !interest.is_none() {
            let removed = self.control(libc::EPOLL_CTL_DEL, fd, key, Interest::NONE);
            debug_assert_eq!(removed, Ok(()), "the caller passed another interest than it watched");
        }
    }

    /// The kernel takes a descriptor out when it is closed, which it does here, as sockets are not duplicated and
    /// programs that are started get none.
    fn forget(&mut self, _fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {}

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        let seen = self.collect(timeout_ms(timeout), events.len())?;
        let mut count = 0;
        for raw in self.buffer.iter().take(seen) {
            let (key, bits) = (raw.0.u64, raw.0.events);
            if key == KEY_RESERVED {
                self.waker.drain();
            } else if let Some(event) = events.get_mut(count) {
                *event = Event { key, readiness: readiness_of(bits) };
                count += 1;
            }
        }
        Ok(count)
    }
}

const READ: u32 = libc::EPOLLIN.cast_unsigned();
const WRITE: u32 = libc::EPOLLOUT.cast_unsigned();
const ENDED: u32 = libc::EPOLLRDHUP.cast_unsigned();
const HANG_UP: u32 = libc::EPOLLHUP.cast_unsigned();
const ERROR: u32 = libc::EPOLLERR.cast_unsigned();

/// The end of the peer's stream is asked for with reading only: a socket that waits to write, and has read the end
/// already, would be reported all the time.
const fn bits_of(interest: Interest) -> u32 {
    let read = if interest.reads() { READ | ENDED } else { 0 };
    let write = if interest.writes() { WRITE } else { 0 };
    read | write
}

/// Errors and hang-ups are learnt from the next call, in whichever direction it is made.
const fn readiness_of(bits: u32) -> Readiness {
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

    #[test]
    fn its_descriptors_stay_in_this_process() {
        let epoll = Epoll::new(8).unwrap();
        for fd in [epoll.epoll.as_fd(), epoll.waker.as_fd()] {
            // SAFETY: `F_GETFD` takes nothing.
            let flags = unsafe { syscall!(fcntl(fd.as_raw_fd(), libc::F_GETFD)) };
            assert_eq!(flags, Ok(libc::FD_CLOEXEC));
        }
    }
}
