//! One poller's thread: it waits, reads the clocks, catches panics and publishes counts. What a turn does, and in which
//! order, is the business of [`lightcone_core::poller`].

use core::any::Any;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::os::fd::OwnedFd;
use std::panic::{catch_unwind, resume_unwind};
use std::thread::yield_now;

use lightcone_core::poller::{Member, PanicOwner, Poller};
use lightcone_core::{ErrorKind, Handler, Instant, PollerId, Token};

use crate::clock::Clock;
use crate::driver::{Driver, Event, Readiness};
use crate::errno::Errno;
use crate::memory;
use crate::report::PollerReport;
use crate::shared::EngineShared;
use crate::transport::{UnixGroup, UnixTransport, listener_of};

/// The most events a wait brings.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// A wait that brings as many may have left sockets out: the place that is free was the waker's.
const FULL: usize = EVENTS_MAX - 1;
/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;
/// How long published counts may lag.
const PUBLISH_EVERY_MS: u64 = 100;
/// For how long and how much memory of blocks is to be unused before it is given back.
const TIDY_AFTER_MS: u64 = 5_000;
const TIDY_EVERY_MS: u64 = 1_000;
const UNUSED_MAX: usize = 1 << 20;

/// The poller of core over descriptors.
pub(crate) type UnixPoller<'e, 's, D, H> = Poller<
    's,
    H,
    UnixTransport<'e, D, <H as Handler>::Message>,
    Member<'e, <H as Handler>::Message, UnixGroup>,
    CONNECTS_A_TURN,
>;

/// What a poller keeps of one socket beside its slot.
pub(crate) type ConnectionEntry = lightcone_core::poller::ConnectionEntry<OwnedFd>;

pub(crate) struct PollerThread<'e, 's, D: Driver, H: Handler> {
    id: PollerId,
    shared: &'e EngineShared<H::Message>,
    poller: UnixPoller<'e, 's, D, H>,
    /// Of the last wait, `taken` of `count` have been dealt with. Kept here, so that a panicking handler loses none.
    events: Vec<Event>,
    count: usize,
    taken: usize,
    /// The last wait was full: it may have left sockets out.
    full: bool,
    clock: Clock,
    now: Instant,
    published: Option<Instant>,
    /// When unused memory is looked at next, and since when there is enough of it to be given back.
    tidy_at: Instant,
    unused_since: Option<Instant>,
    /// What could not be given back the last time: it lies between blocks in use.
    unused: usize,
    report: PollerReport,
}

impl<'e, 's, D: Driver, H: Handler> PollerThread<'e, 's, D, H> {
    pub(crate) fn new(
        id: PollerId,
        shared: &'e EngineShared<H::Message>,
        poller: UnixPoller<'e, 's, D, H>,
    ) -> Self {
        Self {
            id,
            shared,
            now: poller.shard().now(),
            poller,
            events: vec![Event::default(); EVENTS_MAX],
            count: 0,
            taken: 0,
            full: false,
            clock: Clock::new(),
            published: None,
            tidy_at: Instant::from_millis(0),
            unused_since: None,
            unused: 0,
            report: PollerReport::default(),
        }
    }

    /// Runs until the engine is stopped and the last socket has ended.
    pub(crate) fn run(mut self) -> PollerReport {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            self.close_mailboxes(); // a poller that has failed takes nothing more
            resume_unwind(panic);
        }
        let stats = *self.poller.stats();
        self.shared.publish(self.id, &stats);
        PollerReport {
            stats,
            aborted: self.poller.aborted(),
            unwatchable: self.poller.unwatchable(),
            ..self.report
        }
    }

    fn serve(&mut self) {
        loop {
            let millis = Clock::now_ms();
            self.now = Instant::from_millis(millis);
            self.poller.begin_turn(self.now, Some(self.clock.unix_seconds(millis)));
            if self.full || self.count >= FULL {
                self.tell_full_wait();
            }
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                self.recover(panic);
            }
            if self.poller.is_over() {
                return;
            }
            self.wait();
        }
    }

    #[cold]
    fn tell_full_wait(&mut self) {
        self.full = self.count >= FULL;
        let events = if self.full { self.count } else { 0 };
        self.poller.on_full_wait(events);
    }

    /// Does everything of a turn but the wait. It is called again after a panic, and goes on where it was.
    fn turn(&mut self) {
        while self.taken < self.count {
            let event = self.events.get(self.taken).copied().unwrap_or_default();
            self.taken += 1;
            self.on_event(event);
        }
        self.poller.turn();
    }

    #[inline(always)]
    fn on_event(&mut self, event: Event) {
        if event.readiness == Readiness::READ && listener_of(event.key).is_none() {
            return self.poller.on_readable(Token::from_bits(event.key)); // nearly always
        }
        self.on_other_event(event);
    }

    #[inline(never)]
    fn on_other_event(&mut self, event: Event) {
        if let Some(id) = listener_of(event.key) {
            return self.poller.on_acceptable(id);
        }
        let token = Token::from_bits(event.key);
        if event.readiness.contains(Readiness::LOST) {
            return self.poller.on_failed(token, ErrorKind::from(Errno(libc::EIO)));
        }
        if event.readiness.is_writable() {
            self.poller.on_writable(token);
        }
        if event.readiness.is_readable() {
            self.poller.on_readable(token);
        }
    }

    /// Puts a panic down to the socket whose callback it was, and goes on with one that was not a callback's.
    fn recover(&mut self, panic: Box<dyn Any + Send>) {
        match self.poller.recover() {
            PanicOwner::Engine => resume_unwind(panic),
            PanicOwner::Program => {}
            PanicOwner::Socket(token) => self.end_panicked(token),
        }
        self.report.panics += 1;
    }

    fn end_panicked(&mut self, token: Token) {
        // its `close` may panic too: then the socket has had its last event, and ends without another
        for _ in 0..2 {
            if catch_unwind(AssertUnwindSafe(|| self.poller.run(token))).is_ok() {
                return;
            }
            self.poller.recover();
            self.report.panics += 1;
        }
    }

    fn close_mailboxes(&mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.poller.close_mailboxes())) {
                Ok(true) => return,
                Ok(false) => yield_now(), // a push is in progress
                Err(_) => {
                    // over a message that is gone by now
                    self.poller.recover();
                    self.report.panics += 1;
                }
            }
        }
    }

    fn wait(&mut self) {
        let publish = self.publish(); // also when there is no time to sleep
        let until = [self.poller.next_turn(), publish, self.tidy()].into_iter().flatten().min();
        let timeout = until.map(|until| until - self.now);
        let (handle, events) = (self.poller.membership().handle(), &mut self.events);
        let driver = &mut self.poller.transport_mut().driver;
        let count = if timeout == Some(Duration::ZERO) {
            driver.wait(timeout, events)
        } else {
            handle.sleep(timeout, |timeout| driver.wait(timeout, events))
        };
        self.taken = 0;
        match count {
            Ok(count) => self.count = count,
            Err(error) => panic!("poller {}: {} cannot wait: {error}", self.id.0, D::NAME),
        }
    }

    /// Publishes the counts now and then. Returns when to come back for those that are held back.
    fn publish(&mut self) -> Option<Instant> {
        let due =
            self.published.map_or(self.now, |at| Instant::from_millis(at.as_millis() + PUBLISH_EVERY_MS));
        // after a turn with events they have surely changed
        if self.now < due && self.count > 0 {
            return Some(due);
        }
        let stats = self.poller.stats();
        if self.report.stats == *stats {
            return None;
        }
        if self.now < due {
            return Some(due);
        }
        if self.shared.publish(self.id, stats) {
            self.report.stats = *stats;
        }
        self.published = Some(self.now);
        None
    }

    /// Gives memory that was used in a burst back to the system. Returns when to come back for it.
    fn tidy(&mut self) -> Option<Instant> {
        if self.now < self.tidy_at && self.count > 0 {
            return Some(self.tidy_at); // while there are events, now and then is enough
        }
        let in_ms = |millis| Instant::from_millis(self.now.as_millis() + millis);
        let unused = self.poller.shard().unused_memory();
        self.unused = self.unused.min(unused);
        if unused - self.unused < UNUSED_MAX {
            (self.unused_since, self.tidy_at) = (None, in_ms(TIDY_EVERY_MS));
            return None;
        }
        let since = *self.unused_since.get_or_insert(self.now);
        self.tidy_at = Instant::from_millis(since.as_millis() + TIDY_AFTER_MS);
        if self.now < self.tidy_at {
            return Some(self.tidy_at);
        }
        self.poller.reclaim_memory(memory::release);
        self.unused = self.poller.shard().unused_memory();
        (self.unused_since, self.tidy_at) = (None, in_ms(TIDY_EVERY_MS));
        None
    }
}
