//! A lightcone driver for kqueue: BSD and macOS.
//!
//! Changes of interest are collected and submitted with the next wait, so they cost no separate system call. The driver
//! keeps the requested interest and the kernel's state of each descriptor and submits only the difference: it never
//! adds a filter twice or deletes a missing one, no matter how often the interest changes between waits.
//!
//! On Linux, this crate runs over an **emulation** of kqueue on top of epoll, for tests only. The emulation implements
//! the calls as the manual pages describe them, checks that the driver uses them correctly, and can make them fail. No
//! test of this crate has run on a BSD or on macOS yet. For those systems the crate is type-checked, and linked for
//! FreeBSD.
//!
//! ```
//! use lightcone_kqueue::Kqueue;
//! use lightcone_unix::Builder;
//!
//! let builder = Builder::<Kqueue>::new().pollers(2); // `start` runs an engine over kqueue
//! # drop(builder);
//! ```

#![deny(unsafe_code)]

mod sys;
mod table;

use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd};

use lightcone_unix::driver::{Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness, look_again};
use lightcone_unix::waker::Waker;

use sys::{Change, Entry, Filter, Queue, QueueWaker};
use table::Table;

/// The maximum number of events per wait and of changes per call.
const ENTRIES_MAX: usize = 1_024;

/// kqueue. See the [crate's documentation](self) and the [contract](lightcone_unix::driver).
#[derive(Debug)]
pub struct Kqueue {
    queue: Queue,
    waker: QueueWaker,
    table: Table,
    /// The changes to submit with the next call. Empty between waits, and kept to reuse its memory.
    changes: Vec<Entry>,
    /// INVARIANT: its length is `ENTRIES_MAX`, so that there is room for the error of each change.
    buffer: Box<[Entry]>,
    /// The maximum number of events per wait, up to `ENTRIES_MAX`.
    events_max: usize,
}

/// The waker of a [`Kqueue`].
#[derive(Clone, Debug)]
pub struct KqueueWaker(QueueWaker);

impl Waker for KqueueWaker {
    fn wake(&self) {
        self.0.wake();
    }
}

/// The result of processing a batch of entries.
#[derive(Clone, Copy, Default, Debug)]
struct Outcome {
    /// The number of events written.
    count: usize,
    /// Whether there was a wake-up among the entries.
    woken: bool,
}

impl Kqueue {
    fn over(queue: Queue, waker: QueueWaker, events_max: usize) -> Self {
        let buffer = vec![Entry::empty(); ENTRIES_MAX].into_boxed_slice();
        let events_max = events_max.clamp(1, ENTRIES_MAX);
        Self { queue, waker, table: Table::default(), changes: Vec::new(), buffer, events_max }
    }

    /// Submits changes until at most `room` are left, which the call that waits submits itself. It can take no more
    /// changes than events, since each failed change occupies the place of an event.
    ///
    /// Events returned by the early calls are dropped: readiness is level-triggered and is reported again. A wake-up is
    /// not, so the function returns whether there was one.
    fn make_early_changes(&mut self, room: usize) -> Result<bool, DriverError> {
        let mut woken = false;
        while self.changes.len() > room {
            // From the end, which is cheaper: the order of changes does not matter, as each concerns another filter.
            let chunk = self.changes.split_off(self.changes.len().saturating_sub(ENTRIES_MAX));
            let seen = self.call(&chunk, ENTRIES_MAX, Some(Duration::ZERO))?;
            woken |= self.settle(seen, &mut []).woken;
        }
        Ok(woken)
    }

    /// Calls `kevent` once: submits `changes`, then waits for up to `room` entries.
    fn call(
        &mut self,
        changes: &[Entry],
        room: usize,
        timeout: Option<Duration>,
    ) -> Result<usize, DriverError> {
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        let mut changes = changes;
        // If the wait is interrupted, all changes have been made, so the second call must not repeat them.
        let wait = |timeout| self.queue.kevent(core::mem::take(&mut changes), buffer, timeout);
        look_again(timeout, wait).map_err(|errno| DriverError::Os("kevent", errno))
    }

    /// Processes the first `seen` entries of the buffer: failed changes, wake-ups, and events, which are written to
    /// `events`.
    fn settle(&mut self, seen: usize, events: &mut [Event]) -> Outcome {
        let mut outcome = Outcome::default();
        for entry in self.buffer.iter().take(seen) {
            if let Some(errno) = entry.error() {
                self.table.failed(entry.fd(), entry.direction(), errno);
            } else if self.waker.is_cause(entry) {
                self.waker.drain();
                outcome.woken = true;
            } else if let (Some(key), Some(event)) =
                (self.table.key(entry.fd()), events.get_mut(outcome.count))
            {
                // An event without a key is dropped: its socket has been forgotten since.
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

    /// Deletes the filters at once: by the next wait, the number may belong to another socket.
    fn deregister(&mut self, fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {
        let fd = fd.as_raw_fd();
        let mut deletions = [Entry::empty(); 2];
        let mut count = 0;
        for filter in filters(self.table.forget(fd)) {
            if let Some(deletion) = deletions.get_mut(count) {
                *deletion = Entry::delete(fd, filter);
                count += 1;
            }
        }
        for deletion in deletions.iter().take(count) {
            // Without room for entries, so that no event is consumed, and one at a time, because an error then ends the
            // call. An error means that the filter does not exist any more.
            let _ = self.queue.kevent(core::slice::from_ref(deletion), &mut [], Some(Duration::ZERO));
        }
    }

    /// Makes no call: the kernel deletes the filters of a descriptor when it is closed.
    fn forget(&mut self, fd: BorrowedFd<'_>, _key: u64, _interest: Interest) {
        self.table.forget(fd.as_raw_fd());
        self.queue.closes(fd);
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut [Event]) -> Result<usize, DriverError> {
        let room = events.len().min(self.events_max);
        self.table.take_changes(&mut self.changes);
        let woken = self.make_early_changes(room)?;
        // A wake-up has been consumed, or lost sockets did not fit before: either must be reported without delay.
        let timeout = if woken || self.table.has_lost() { Some(Duration::ZERO) } else { timeout };
        // Moved out, because `call` borrows `self`, and put back before an error is returned, to keep its memory.
        let changes = core::mem::take(&mut self.changes);
        let seen = self.call(&changes, room, timeout);
        self.changes = changes;
        self.changes.clear();
        let count = self.settle(seen?, events).count;
        // Lost sockets that do not fit now are reported by the next wait, which then returns at once.
        let lost = self.report_lost(events.get_mut(count..).unwrap_or_default());
        Ok(count + lost)
    }
}

/// Returns the filters of an interest.
fn filters(interest: Interest) -> impl Iterator<Item = Filter> {
    let read = interest.reads().then_some(Filter::Read);
    read.into_iter().chain(interest.writes().then_some(Filter::Write))
}

/// Converts an entry to readiness. `EV_EOF` is only a hint, since bytes may precede the end: receives return first the
/// bytes, then the end.
fn readiness_of(entry: &Entry) -> Readiness {
    let direction = match entry.direction() {
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
