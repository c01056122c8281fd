//! An emulation of kqueue over epoll, following the manual pages. With it, the driver's logic can be tested without a
//! BSD.
//!
//! It is stricter than a kernel: adding a filter that already exists panics, where a kernel would modify the filter. It
//! is also simpler: it supports only sockets and no `udata`, and the error that comes with `EV_EOF` is only a flag.

extern crate alloc;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lightcone_epoll::Epoll;
use lightcone_unix::driver::{Driver, DriverError, Event, Interest, Readiness};
use lightcone_unix::errno::Errno;
use lightcone_unix::waker::{EventFdWaker, Waker};

use super::{Change, Filter};

/// One change or event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    fd: RawFd,
    filter: Option<Filter>,
    action: Action,
}

/// The operation of a change, or the contents of a returned entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    /// `EV_ADD`
    Add,
    /// `EV_DELETE`
    Delete,
    /// `NOTE_TRIGGER`
    Trigger,
    /// `EV_ERROR`
    Failed(Errno),
    /// An event: with `EV_EOF` if `end`, and with an error in `fflags` if `error`.
    Event { end: bool, error: bool },
}

impl Change for Entry {
    fn empty() -> Self {
        Self { fd: -1, filter: None, action: Action::Trigger }
    }

    fn add(fd: RawFd, filter: Filter) -> Self {
        Self { fd, filter: Some(filter), action: Action::Add }
    }

    fn delete(fd: RawFd, filter: Filter) -> Self {
        Self { fd, filter: Some(filter), action: Action::Delete }
    }

    fn add_user() -> Self {
        Self { fd: -1, filter: None, action: Action::Add }
    }

    fn trigger_user() -> Self {
        Self { fd: -1, filter: None, action: Action::Trigger }
    }

    fn fd(&self) -> RawFd {
        self.fd
    }

    fn direction(&self) -> Option<Filter> {
        self.filter
    }

    fn error(&self) -> Option<Errno> {
        match self.action {
            Action::Failed(errno) => Some(errno),
            Action::Add | Action::Delete | Action::Trigger | Action::Event { .. } => None,
        }
    }

    fn is_end(&self) -> bool {
        matches!(self.action, Action::Event { end: true, .. })
    }

    fn socket_error(&self) -> bool {
        matches!(self.action, Action::Event { error: true, .. })
    }
}

/// The faults that the emulation injects.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Faults {
    /// How many of the next additions fail with `ENOMEM`.
    pub(crate) refused_additions: u32,
    /// How many of the next deletions fail with `ENOENT`.
    pub(crate) refused_deletions: u32,
    /// How many of the next waits are interrupted, after their changes have been made.
    pub(crate) interruptions: u32,
    /// How many of the next waits return the entries of the previous wait again, after their own.
    pub(crate) repetitions: u32,
    /// Whether every fifth call is interrupted and every third repeats the last entries, indefinitely.
    pub(crate) rough: bool,
}

/// A queue, shared with its wakers.
#[derive(Clone, Debug)]
pub(crate) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Locked by the waiting thread during its wait, so a trigger must not need it.
    kernel: Mutex<Kernel>,
    /// Ends the wait on epoll after a trigger.
    doorbell: EventFdWaker,
    /// Whether `EVFILT_USER` has been added.
    user: AtomicBool,
    /// Whether it has been triggered and no call has returned that event yet.
    triggered: AtomicBool,
}

/// The state that a kernel would hold.
#[derive(Debug)]
struct Kernel {
    epoll: Epoll,
    filters: HashMap<RawFd, Interest>,
    faults: Faults,
    /// The number of calls so far.
    calls: u32,
    /// The entries that the last wait returned.
    last: Vec<Entry>,
    /// Whether a socket's write event precedes its read event. Alternates, so that neither starves if only one fits.
    write_first: bool,
}

const fn interest_of(filter: Filter) -> Interest {
    match filter {
        Filter::Read => Interest::READ,
        Filter::Write => Interest::WRITE,
    }
}

/// Counts down a fault, and returns whether it happens now.
const fn strike(left: &mut u32) -> bool {
    let happens = *left > 0;
    *left = left.saturating_sub(1);
    happens
}

fn errno_of(error: DriverError) -> Errno {
    match error {
        DriverError::Os(_, errno) => errno,
        DriverError::DescriptorTooHigh { .. } | _ => Errno(libc::EINVAL),
    }
}

impl Queue {
    pub(crate) fn open() -> Result<Self, Errno> {
        let epoll = Epoll::new(1_024).map_err(errno_of)?;
        let doorbell = epoll.waker();
        let kernel = Kernel {
            epoll,
            filters: HashMap::new(),
            faults: Faults::default(),
            calls: 0,
            last: Vec::new(),
            write_first: false,
        };
        let (user, triggered) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self(Arc::new(Shared { kernel: Mutex::new(kernel), doorbell, user, triggered })))
    }

    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.0.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trigger(&self) -> Result<usize, Errno> {
        if !self.0.user.load(Ordering::SeqCst) {
            return Err(Errno(libc::ENOENT));
        }
        self.0.triggered.store(true, Ordering::SeqCst);
        self.0.doorbell.wake();
        Ok(0)
    }

    pub(crate) fn kevent(
        &self,
        changes: &[Entry],
        events: &mut [Entry],
        timeout: Option<Duration>,
    ) -> Result<usize, Errno> {
        if let ([Entry { filter: None, action: Action::Trigger, .. }], true) = (changes, events.is_empty()) {
            return self.trigger(); // without the lock, which another thread may hold while it waits
        }
        let mut kernel = self.kernel();
        kernel.calls += 1;
        if kernel.faults.rough {
            kernel.faults.interruptions = u32::from(kernel.calls.is_multiple_of(5));
            kernel.faults.repetitions = u32::from(kernel.calls.is_multiple_of(3));
        }
        let mut errors = 0;
        for change in changes {
            if change.filter.is_none() && change.action == Action::Add {
                self.0.user.store(true, Ordering::SeqCst);
                continue;
            }
            let Err(errno) = kernel.change(change) else { continue };
            // Without room for the error, the call fails and the remaining changes are not made.
            let room = events.get_mut(errors).ok_or(errno)?;
            *room = Entry { action: Action::Failed(errno), ..*change };
            errors += 1;
        }
        if errors > 0 || events.is_empty() {
            return Ok(errors);
        }
        // Like a kernel, only after the changes have been made.
        if strike(&mut kernel.faults.interruptions) {
            return Err(Errno(libc::EINTR));
        }
        let pending = self.0.triggered.load(Ordering::SeqCst);
        let timeout = if pending { Some(Duration::ZERO) } else { timeout };
        let mut count = kernel.wait(events, timeout)?;
        // If there is no room for the user event it stays triggered, and the next call does not wait.
        if self.0.triggered.load(Ordering::SeqCst)
            && let Some(event) = events.get_mut(count)
        {
            self.0.triggered.store(false, Ordering::SeqCst);
            *event = Entry::empty();
            count += 1;
        }
        Ok(count)
    }

    /// Deletes the filters of a descriptor that is closed next, as a kernel with kqueue does automatically. epoll would
    /// keep them while the socket is open elsewhere.
    pub(crate) fn closes(&self, fd: BorrowedFd<'_>) {
        let mut kernel = self.kernel();
        if let Some(interest) = kernel.filters.remove(&fd.as_raw_fd())
            && let Ok(key) = u64::try_from(fd.as_raw_fd())
        {
            kernel.epoll.deregister(fd, key, interest);
        }
    }

    #[cfg(test)]
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.kernel().faults = faults;
    }

    #[cfg(test)]
    pub(crate) fn calls(&self) -> u32 {
        self.kernel().calls
    }
}

impl Kernel {
    fn change(&mut self, change: &Entry) -> Result<(), Errno> {
        let Some(filter) = change.filter else { return Err(Errno(libc::EINVAL)) };
        let interest = interest_of(filter);
        let old = self.filters_of(change.fd)?;
        let there = old.with(interest) == old;
        let new = match change.action {
            Action::Add => {
                assert!(!there, "{change:?} already exists");
                if strike(&mut self.faults.refused_additions) {
                    return Err(Errno(libc::ENOMEM));
                }
                old.with(interest)
            }
            Action::Delete => {
                if !there || strike(&mut self.faults.refused_deletions) {
                    return Err(Errno(libc::ENOENT));
                }
                old.without(interest)
            }
            Action::Trigger | Action::Failed(_) | Action::Event { .. } => return Err(Errno(libc::EINVAL)),
        };
        self.set(change.fd, old, new)
    }

    /// Returns the filters of a descriptor. Closing a descriptor deletes its filters, which is detected here: epoll
    /// refuses changes of a descriptor that it does not know.
    fn filters_of(&mut self, fd: RawFd) -> Result<Interest, Errno> {
        let known = self.filters.get(&fd).copied().unwrap_or_default();
        if known.is_none() {
            return Ok(known);
        }
        // Change the interest and change it back. Setting the same interest would not make a system call.
        let other = if known == Interest::READ { Interest::WRITE } else { Interest::READ };
        match self.set(fd, known, other).and_then(|()| self.set(fd, other, known)) {
            Ok(()) => Ok(known),
            Err(Errno(libc::ENOENT)) => {
                self.filters.remove(&fd);
                Ok(Interest::NONE)
            }
            Err(errno) => Err(errno),
        }
    }

    fn set(&mut self, fd: RawFd, old: Interest, new: Interest) -> Result<(), Errno> {
        let key = u64::try_from(fd).map_err(|_| Errno(libc::EBADF))?;
        // SAFETY: the number is only passed to `epoll_ctl`, which refuses one that is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(fd) };
        self.epoll.modify(descriptor, key, old, new).map_err(errno_of)?;
        self.filters.insert(fd, new);
        Ok(())
    }

    /// Waits for entries. It requests half as many sockets as there is room for entries, since each socket may be ready
    /// in both directions, and polls for more while there is room: a kernel with kqueue leaves no event out then.
    fn wait(&mut self, events: &mut [Entry], timeout: Option<Duration>) -> Result<usize, Errno> {
        let (mut ready, mut timeout, mut room) = (Vec::<Event>::new(), timeout, events.len());
        loop {
            let mut more = vec![Event::default(); room.div_ceil(2)];
            let seen = self.epoll.wait(timeout, &mut more).map_err(errno_of)?;
            // epoll rotates its ready list, so a further call returns other sockets first, then known ones again.
            let before = ready.len();
            let known = |event: &Event| ready.iter().any(|other| other.key == event.key);
            let new: Vec<Event> = more.iter().take(seen).copied().filter(|event| !known(event)).collect();
            ready.extend(new);
            let taken: usize =
                ready.iter().map(|event| self.entries_of(*event).iter().flatten().count()).sum();
            room = events.len().saturating_sub(taken);
            if seen < more.len() || ready.len() == before || room == 0 {
                break;
            }
            timeout = Some(Duration::ZERO);
        }
        self.write_first = !self.write_first;
        let entries = ready.iter().flat_map(|event| self.entries_of(*event)).flatten();
        let entries: Vec<_> = entries.collect();
        let repeated = if strike(&mut self.faults.repetitions) { self.last.clone() } else { Vec::new() };
        let count = events
            .iter_mut()
            .zip(entries.iter().copied().chain(repeated))
            .map(|(room, entry)| *room = entry)
            .count();
        self.last = entries;
        Ok(count)
    }

    /// Converts an event of epoll to entries, one for each of the socket's filters that is ready.
    fn entries_of(&self, event: Event) -> [Option<Entry>; 2] {
        let Ok(fd) = RawFd::try_from(event.key) else { return [None; 2] };
        let filters = self.filters.get(&fd).copied().unwrap_or_default();
        let error = event.readiness.contains(Readiness::ERROR);
        let ended = event.readiness.contains(Readiness::ENDED);
        let read = Action::Event { end: ended || error, error };
        let write = Action::Event { end: error, error };
        let read = (filters.reads() && event.readiness.is_readable()).then_some((Filter::Read, read));
        let write = (filters.writes() && event.readiness.is_writable()).then_some((Filter::Write, write));
        let order = if self.write_first { [write, read] } else { [read, write] };
        order.map(|entry| entry.map(|(filter, action)| Entry { fd, filter: Some(filter), action }))
    }
}
