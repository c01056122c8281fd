//! A driver with a hook, which observes the driver and may break it.

use core::fmt;
use core::time::Duration;
use std::os::fd::BorrowedFd;

use lightcone_unix::driver::{Driver, DriverError, Event, Interest};

/// Observes the calls of a driver `D`. One hook is created with each driver.
pub trait Hook<D: Driver>: fmt::Debug + Default + Send + 'static {
    /// Creates the driver.
    ///
    /// # Errors
    ///
    /// As [`Driver::new`].
    fn driver(events_max: usize) -> Result<D, DriverError> {
        D::new(events_max)
    }

    /// Called before the driver waits.
    ///
    /// # Errors
    ///
    /// The error with which the wait fails instead.
    fn wait(&mut self) -> Result<(), DriverError> {
        Ok(())
    }

    /// Called before the interest of a descriptor changes.
    fn modify(&mut self, old: Interest, new: Interest) {
        let _ = (old, new);
    }

    /// Called after a wait with its events, which the hook may change.
    fn seen(&mut self, events: &mut [Event]) {
        let _ = events;
    }
}

/// The driver `D` with a hook.
#[derive(Debug)]
pub struct Hooked<D, H> {
    driver: D,
    hook: H,
}

impl<D: Driver, H: Hook<D>> Driver for Hooked<D, H> {
    type Waker = D::Waker;

    const NAME: &'static str = D::NAME;
    const DESCRIPTORS_MAX: Option<i32> = D::DESCRIPTORS_MAX;

    fn new(events_max: usize) -> Result<Self, DriverError> {
        Ok(Self { driver: H::driver(events_max)?, hook: H::default() })
    }

    fn waker(&self) -> D::Waker {
        self.driver.waker()
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
        self.driver.register(fd, key, interest)
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        // before the call, so that the hook also sees a change that fails
        self.hook.modify(old, new);
        self.driver.modify(fd, key, old, new)
    }

    fn deregister(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.driver.deregister(fd, key, interest);
    }

    fn forget(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.driver.forget(fd, key, interest);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        self.hook.wait()?;
        let count = self.driver.wait(timeout, events)?;
        self.hook.seen(events.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}
