//! A driver under test, with the record of interest that a poller keeps.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};

use lightcone_unix::driver::{Driver, Event, Interest, Readiness};

/// A driver and the current interest of each key, which a poller keeps.
#[derive(Debug)]
pub struct Watched<D> {
    driver: D,
    interest: Vec<(u64, Interest)>,
}

impl<D: Driver> Watched<D> {
    /// Creates a driver that returns up to 64 events from a wait.
    #[must_use]
    pub fn new() -> Self {
        Self::over(D::new(64).unwrap())
    }

    /// Wraps a driver without registered descriptors.
    #[must_use]
    pub const fn over(driver: D) -> Self {
        Self { driver, interest: Vec::new() }
    }

    /// Registers a descriptor.
    pub fn add(&mut self, fd: &impl AsFd, key: u64, interest: Interest) {
        self.driver.register(fd.as_fd(), key, interest).unwrap();
        self.interest.push((key, interest));
    }

    /// Changes the interest of a descriptor.
    pub fn set(&mut self, fd: &impl AsFd, key: u64, new: Interest) {
        let known = self.interest.iter_mut().find(|(known, _)| *known == key).unwrap();
        self.driver.modify(fd.as_fd(), key, known.1, new).unwrap();
        known.1 = new;
    }

    /// Deregisters a descriptor.
    pub fn remove(&mut self, fd: &impl AsFd, key: u64) {
        let interest = self.take(key);
        self.driver.deregister(fd.as_fd(), key, interest);
    }

    /// Forgets a descriptor. The caller closes it next.
    pub fn forget(&mut self, fd: BorrowedFd<'_>, key: u64) {
        let interest = self.take(key);
        self.driver.forget(fd, key, interest);
    }

    fn take(&mut self, key: u64) -> Interest {
        let at = self.interest.iter().position(|(known, _)| *known == key).unwrap();
        self.interest.swap_remove(at).1
    }

    /// Waits for at most `ms` milliseconds, and returns the events merged and sorted by key.
    pub fn wait_ms(&mut self, ms: u64) -> Vec<(u64, Readiness)> {
        let mut events = [Event::default(); 64];
        let count = self.driver.wait(Some(Duration::from_millis(ms)), &mut events).unwrap();
        join(&events[..count])
    }

    /// Waits for events, at most five seconds, and returns the first batch.
    pub fn batch(&mut self) -> Vec<(u64, Readiness)> {
        crate::sockets::soon("events", || Some(self.wait_ms(1)).filter(|events| !events.is_empty()))
    }

    /// Waits until the key is ready for all of `readiness`, at most five seconds.
    pub fn until(&mut self, key: u64, readiness: Readiness) {
        let mut seen = Readiness::NONE;
        crate::sockets::soon("readiness", || {
            let events = self.wait_ms(1);
            let new = events.iter().filter(|(of, _)| *of == key).map(|(_, new)| *new);
            seen = new.fold(seen, Readiness::with);
            seen.contains(readiness).then_some(())
        });
    }

    /// Checks that a few waits report nothing and last for their timeouts.
    pub fn expect_silence(&mut self) {
        let start = lightcone_unix::clock::Clock::now_ms();
        for _ in 0..3 {
            assert_eq!(self.wait_ms(10), []);
        }
        // the clock rounds down, so one millisecond may be missing
        let span = lightcone_unix::clock::Clock::now_ms() - start;
        assert!(span >= 29, "three waits of 10 ms took {span} ms: the driver spins");
    }
}

impl<D: Driver> Default for Watched<D> {
    fn default() -> Self {
        Self::new()
    }
}

fn join(events: &[Event]) -> Vec<(u64, Readiness)> {
    let mut joined: Vec<(u64, Readiness)> = Vec::new();
    for event in events {
        match joined.iter_mut().find(|(key, _)| *key == event.key) {
            Some((_, readiness)) => *readiness |= event.readiness,
            None => joined.push((event.key, event.readiness)),
        }
    }
    joined.sort_by_key(|(key, _)| *key);
    joined
}
