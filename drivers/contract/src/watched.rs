//! A driver under test, which remembers interest as a poller does.

use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd};

use lightcone_unix::driver::{Driver, Event, Interest, Readiness};

/// A driver with the interest of each key: what a poller knows, kept for the tests.
#[derive(Debug)]
pub struct Watched<D> {
    driver: D,
    interest: Vec<(u64, Interest)>,
}

impl<D: Driver> Watched<D> {
    /// A driver that takes up to 64 events a wait.
    #[must_use]
    pub fn new() -> Self {
        Self::over(D::new(64).unwrap())
    }

    /// A driver that watches nothing yet.
    #[must_use]
    pub const fn over(driver: D) -> Self {
        Self { driver, interest: Vec::new() }
    }

    /// Registers.
    pub fn add(&mut self, fd: &impl AsFd, key: u64, interest: Interest) {
        self.driver.register(fd.as_fd(), key, interest).unwrap();
        self.interest.push((key, interest));
    }

    /// Changes the interest.
    pub fn set(&mut self, fd: &impl AsFd, key: u64, new: Interest) {
        let known = self.interest.iter_mut().find(|(known, _)| *known == key).unwrap();
        self.driver.modify(fd.as_fd(), key, known.1, new).unwrap();
        known.1 = new;
    }

    /// Deregisters.
    pub fn remove(&mut self, fd: &impl AsFd, key: u64) {
        let interest = self.take(key);
        self.driver.deregister(fd.as_fd(), key, interest);
    }

    /// Forgets; the caller closes the descriptor next.
    pub fn forget(&mut self, fd: BorrowedFd<'_>, key: u64) {
        let interest = self.take(key);
        self.driver.forget(fd, key, interest);
    }

    fn take(&mut self, key: u64) -> Interest {
        let at = self.interest.iter().position(|(known, _)| *known == key).unwrap();
        self.interest.swap_remove(at).1
    }

    /// One wait of at most so many milliseconds, its events joined by key and in the keys' order.
    pub fn wait_ms(&mut self, ms: u64) -> Vec<(u64, Readiness)> {
        let mut events = [Event::default(); 64];
        let count = self.driver.wait(Some(Duration::from_millis(ms)), &mut events).unwrap();
        join(&events[..count])
    }

    /// Waits, for five seconds at most, until there are events; gives those of the first batch.
    pub fn batch(&mut self) -> Vec<(u64, Readiness)> {
        crate::sockets::soon("events", || Some(self.wait_ms(1)).filter(|events| !events.is_empty()))
    }

    /// Waits until the key is ready for all of `readiness`, for five seconds at most.
    pub fn until(&mut self, key: u64, readiness: Readiness) {
        let mut seen = Readiness::NONE;
        crate::sockets::soon("readiness", || {
            let events = self.wait_ms(1);
            let new = events.iter().filter(|(of, _)| *of == key).map(|(_, new)| *new);
            seen = new.fold(seen, Readiness::with);
            seen.contains(readiness).then_some(())
        });
    }

    /// Nothing is reported for a while, and the waits take their time.
    pub fn expect_silence(&mut self) {
        let start = lightcone_unix::clock::Clock::now_ms();
        for _ in 0..3 {
            assert_eq!(self.wait_ms(10), []);
        }
        // The clock rounds down, so a millisecond may be missing.
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
