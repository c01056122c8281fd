//! lightcone's driver for kqueue: BSD and macOS.
//!
//! Changes of interest are collected and made by the wait's own call, so a change costs no call of its own. What the
//! kernel has is kept beside what is wanted, and only the difference is asked for: nothing is added twice and
//! nothing is deleted that is not there, however often the interest changed in between.
//!
//! On Linux this crate drives an **emulation** of kqueue over epoll, for tests only: it gives the calls the meaning of
//! the manual pages, checks that the driver keeps to them, and can make them fail. No test of this crate has run on a
//! BSD or on macOS yet; for those it is type-checked, and linked for FreeBSD.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the system calls")]
mod sys;
mod table;

use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd};

use lightcone_unix::driver::{Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, look_again};
use lightcone_unix::waker::Waker;

use sys::{Entry, Filter, Queue, QueueWaker};
use table::Table;

/// The most events of one wait, and the most changes of one call.
const ENTRIES_MAX: usize = 1_024;

/// kqueue. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Kqueue {
    queue: Queue,
    waker: QueueWaker,
    table: Table,
    /// What the next call is to change; empty between waits.
    changes: Vec<Entry>,
    /// INVARIANT: `ENTRIES_MAX` long, so that there is room for the error of each change.
    buffer: Box<[Entry]>,
    /// The most events of one wait, up to `ENTRIES_MAX`.
    events_max: usize,
}

/// Wakes a [`Kqueue`].
#[derive(Clone, Debug)]
pub struct KqueueWaker(QueueWaker);

impl Waker for KqueueWaker {
    fn wake(&self) {
        self.0.wake();
    }
}

/// What a batch of entries came to.
#[derive(Clone, Copy, Default, Debug)]
struct Outcome {
    /// Events written.
    count: usize,
    /// The waker was among the entries.
    woken: bool,
}

impl Kqueue {
    fn over(queue: Queue, waker: QueueWaker, events_max: usize) -> Self {
        let buffer = vec![Entry::EMPTY; ENTRIES_MAX].into_boxed_slice();
        let events_max = events_max.clamp(1, ENTRIES_MAX);
        Self { queue, waker, table: Table::default(), changes: Vec::new(), buffer, events_max }
    }

    /// Makes all changes but those that the wait's own call can take along: as many as events fit, since a change
    /// that fails takes an event's place.
    ///
    /// Events that come with these calls are dropped: readiness is level-triggered and comes again. A wake does not, so
    /// whether there was one is told.
    fn make_early_changes(&mut self, room: usize) -> Result<bool, DriverError> {
        let mut woken = false;
        while self.changes.len() > room {
            // From the end: changes of different descriptors and directions have no order.
            let chunk = self.changes.split_off(self.changes.len().saturating_sub(ENTRIES_MAX));
            let seen = self.call(&chunk, ENTRIES_MAX, Some(Duration::ZERO))?;
            woken |= self.settle(seen, &mut []).woken;
        }
        Ok(woken)
    }

    /// One call: changes, then up to `room` entries.
    fn call(
        &mut self,
        changes: &[Entry],
        room: usize,
        timeout: Option<Duration>,
    ) -> Result<usize, DriverError> {
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        let mut changes = changes;
        // all changes were made before the wait that was interrupted
        let wait = |timeout| self.queue.kevent(core::mem::take(&mut changes), buffer, timeout);
        look_again(timeout, wait).map_err(|errno| DriverError::Os("kevent", errno))
    }

    /// Sorts the first `seen` entries: wakes, changes that failed, events.
    fn settle(&mut self, seen: usize, events: &mut [Event]) -> Outcome {
        let mut outcome = Outcome::default();
        for entry in self.buffer.iter().take(seen) {
            if let Some(errno) = entry.error() {
                self.table.failed(entry.fd(), entry.filter(), errno);
            } else if self.waker.is_cause(entry) {
                self.waker.drain();
                outcome.woken = true;
            } else if let (Some(key), Some(event)) =
                (self.table.key(entry.fd()), events.get_mut(outcome.count))
            {
                *event = Event { key, readiness: readiness_of(entry) };
                outcome.count += 1;
            }
        }
        outcome
    }

    /// Reports the sockets that the kernel refused to watch.
    fn report_lost(&mut self, events: &mut [Event]) -> usize {
        let mut count = 0;
        for event in events {
            let Some(key) = self.table.take_lost() else { break };
            *event = Event { key, readiness: Readiness::BOTH.with(Readiness::LOST) };
            count += 1;
        }
        count
    }
}

impl Driver for Kqueue {
    type Waker = KqueueWaker;

    const NAME: &'static str = "kqueue";

    fn new(events_max: usize) -> Result<Self, DriverError> {
        let queue = Queue::open().map_err(|errno| DriverError::Os("kqueue", errno))?;
        let waker = QueueWaker::new(&queue)?;
        Ok(Self::over(queue, waker, events_max))
    }

    fn waker(&self) -> KqueueWaker {
        KqueueWaker(self.waker.clone())
    }

    fn register(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest) -> Result<(), DriverError> {
        debug_assert_ne!(key, KEY_RESERVED);
        self.table.want(fd.as_raw_fd(), key, interest);
        Ok(())
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        if old != new {
            self.table.want(fd.as_raw_fd(), key, new);
        }
        Ok(())
    }

    /// At once: when the wait comes, the descriptor may be somebody else's.
    fn deregister(&mut self, fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {
        let fd = fd.as_raw_fd();
        let mut deletions = [Entry::EMPTY; 2];
        let mut count = 0;
        for filter in filters(self.table.forget(fd)) {
            if let Some(deletion) = deletions.get_mut(count) {
                *deletion = Entry::delete(fd, filter);
                count += 1;
            }
        }
        for deletion in deletions.iter().take(count) {
            // One at a time and without room for events, so that none is taken. An error means that it is gone.
            let _ = self.queue.kevent(core::slice::from_ref(deletion), &mut [], Some(Duration::ZERO));
        }
    }

    /// The kernel drops the filters of a descriptor that is closed.
    fn forget(&mut self, fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {
        self.table.forget(fd.as_raw_fd());
        self.queue.closes(fd);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        let room = events.len().min(self.events_max);
        self.table.take_changes(&mut self.changes);
        let woken = self.make_early_changes(room)?;
        let timeout = if woken || self.table.has_lost() { Some(Duration::ZERO) } else { timeout };
        let changes = core::mem::take(&mut self.changes);
        let seen = self.call(&changes, room, timeout);
        self.changes = changes;
        self.changes.clear();
        let count = self.settle(seen?, events).count;
        // What does not fit now comes with the next wait, which then does not wait.
        let lost = self.report_lost(events.get_mut(count..).unwrap_or_default());
        Ok(count + lost)
    }
}

/// The filters of an interest.
fn filters(interest: Interest) -> impl Iterator<Item = Filter> {
    let read = interest.reads().then_some(Filter::Read);
    read.into_iter().chain(interest.writes().then_some(Filter::Write))
}

/// `EV_EOF` comes with bytes pending as well: it is a hint, and receiving tells.
fn readiness_of(entry: &Entry) -> Readiness {
    let direction = match entry.filter() {
        Some(Filter::Read) => Readiness::READ,
        Some(Filter::Write) => Readiness::WRITE,
        None => Readiness::NONE,
    };
    let ended = Readiness::when(entry.is_end(), Readiness::ENDED);
    let error = Readiness::when(entry.socket_error(), Readiness::ERROR);
    direction.with(ended).with(error)
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests;
