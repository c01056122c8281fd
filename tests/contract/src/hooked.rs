//! A driver with a hook, which observes the driver or breaks it.

use core::fmt;
use core::time::Duration;
use std::os::fd::{BorrowedFd, RawFd};

use lightcone_unix::driver::{Driver, DriverError, Event, Interest};
use lightcone_unix::waker::Waker;

/// Takes the calls of a driver `D`. Each method passes its call on unless it is overridden. One hook is created with each
/// driver.
#[allow(clippy::missing_errors_doc, reason = "the errors are those of the driver")]
pub trait Hook<D: Driver>: fmt::Debug + Default + Send + 'static {
    /// Whether a wake-up reaches the driver.
    const WAKES: bool = true;

    /// Creates the driver.
    fn driver(events_max: usize) -> Result<D, DriverError> {
        D::new(events_max)
    }

    /// Takes a call of [`Driver::register`].
    fn register(
        &mut self,
        driver: &mut D,
        fd: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
    ) -> Result<(), DriverError> {
        driver.register(fd, key, interest)
    }

    /// Takes a call of [`Driver::modify`].
    fn modify(
        &mut self,
        driver: &mut D,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        driver.modify(fd, key, old, new)
    }

    /// Takes a call of [`Driver::deregister`].
    fn deregister(&mut self, driver: &mut D, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        driver.deregister(fd, key, interest);
    }

    /// Takes a call of [`Driver::forget`].
    fn forget(&mut self, driver: &mut D, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        driver.forget(fd, key, interest);
    }

    /// Takes a call of [`Driver::wait`].
    fn wait(
        &mut self,
        driver: &mut D,
        timeout: Option<Duration>,
        events: &mut [Event],
    ) -> Result<usize, DriverError> {
        driver.wait(timeout, events)
    }
}

/// The driver `D` with a hook.
#[derive(Debug)]
pub struct Hooked<D, H> {
    driver: D,
    hook: H,
}

/// The waker of a driver with a hook.
#[derive(Clone, Debug)]
pub struct HookedWaker<W> {
    waker: W,
    wakes: bool,
}

impl<W: Waker> Waker for HookedWaker<W> {
    fn wake(&self) {
        if self.wakes {
            self.waker.wake();
        }
    }
}

impl<D: Driver, H: Hook<D>> Driver for Hooked<D, H> {
    type Waker = HookedWaker<D::Waker>;

    const NAME: &'static str = D::NAME;
    const DESCRIPTORS_MAX: Option<RawFd> = D::DESCRIPTORS_MAX;

    fn new(events_max: usize) -> Result<Self, DriverError> {
        Ok(Self { driver: H::driver(events_max)?, hook: H::default() })
    }

    fn waker(&self) -> Self::Waker {
        HookedWaker { waker: self.driver.waker(), wakes: H::WAKES }
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
        self.hook.register(&mut self.driver, fd, key, interest)
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        self.hook.modify(&mut self.driver, fd, key, old, new)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.hook.deregister(&mut self.driver, fd, key, interest);
    }

    fn forget(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.hook.forget(&mut self.driver, fd, key, interest);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        self.hook.wait(&mut self.driver, timeout, events)
    }
}

/// Moves the events for which `keep` returns `true` to the front, in their order and with the changes that it made.
/// Returns their number.
pub fn retain(events: &mut [Event], mut keep: impl FnMut(&mut Event) -> bool) -> usize {
    let mut kept = 0;
    for at in 0..events.len() {
        let mut event = events[at];
        if keep(&mut event) {
            events[kept] = event;
            kept += 1;
        }
    }
    kept
}
