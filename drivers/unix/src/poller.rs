//! The thread of one poller: it waits, reads the clocks, catches panics and publishes counts. The steps of a turn and
//! their order are defined by [`lightcone_core::poller`].

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
use crate::records::{message_of, record};
use crate::report::PollerReport;
use crate::shared::EngineShared;
use crate::transport::{UnixGroup, UnixTransport, listener_of};

/// The maximum number of events that a wait returns.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// A wait that returns this many events may have left sockets out: one place may have been taken by the waker.
const FULL: usize = EVENTS_MAX - 1;
/// The maximum number of connects that the handlers of one poller can begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;
/// The maximum age of published counts.
const PUBLISH_EVERY_MS: u64 = 100;
/// How long block memory must be unused before it is released.
const TIDY_AFTER_MS: u64 = 5_000;
/// The interval of checks for unused block memory while events keep coming.
const TIDY_EVERY_MS: u64 = 1_000;
/// The number of unused bytes from which releasing them is worthwhile.
const UNUSED_MAX: usize = 1 << 20;

/// The core's poller, with descriptors as its connections.
pub(crate) type UnixPoller<'e, 's, D, H> = Poller<
    's,
    H,
    UnixTransport<'e, D, <H as Handler>::Message>,
    Member<'e, <H as Handler>::Message, UnixGroup>,
    CONNECTS_A_TURN,
>;

/// A poller's record of one connection, in addition to the socket's slot.
pub(crate) type UnixConnectionEntry = lightcone_core::poller::ConnectionEntry<OwnedFd>;

pub(crate) struct PollerThread<'e, 's, D: Driver, H: Handler> {
    id: PollerId,
    shared: &'e EngineShared<H::Message>,
    poller: UnixPoller<'e, 's, D, H>,
    /// The events of the last wait, of which `taken` out of `count` have been handled. They are fields, so that none is
    /// lost when a handler panics.
    events: Vec<Event>,
    count: usize,
    taken: usize,
    /// Whether the last reported wait was full, so that it may have left sockets out.
    full: bool,
    clock: Clock,
    now: Instant,
    published: Option<Instant>,
    /// When to check for unused memory again.
    tidy_at: Instant,
    /// Since when there has been enough unused memory to release.
    unused_since: Option<Instant>,
    /// The unused memory after the last release. Released blocks that lie between blocks in use still count as unused.
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
            // From now on, other threads get an error instead of filling mailboxes that are never read.
            self.close_mailboxes();
            record!(error, "poller {} has failed: {}", self.id.0, message_of(&*panic));
            resume_unwind(panic);
        }
        let stats = self.poller.stats();
        self.shared.publish(self.id, &stats);
        PollerReport {
            stats,
            aborted: self.poller.aborted(),
            unwatchable: self.poller.unwatchable(),
            ..self.report
        }
    }

    // A function of its own: inlined into the thread's closure, it takes several instructions more for each request.
    #[inline(never)]
    fn serve(&mut self) {
        loop {
            let millis = Clock::now_ms();
            self.now = Instant::from_millis(millis);
            self.poller.begin_turn(self.now, Some(self.clock.unix_seconds(millis)));
            // Also after the first wait that is not full, to end the series of full waits.
            if self.full || self.count >= FULL {
                self.tell_full_wait();
            }
            // A panic ends only the callback that panicked. The rest of the turn must still run before the next wait.
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                self.recover(panic);
            }
            if self.poller.is_over() {
                return;
            }
            self.wait();
        }
    }

    /// Reports to the poller whether the last wait was full. If it was, sockets that it left out may have events, so
    /// the poller fires no timers.
    #[cold]
    fn tell_full_wait(&mut self) {
        self.full = self.count >= FULL;
        let events = if self.full { self.count } else { 0 };
        self.poller.on_full_wait(events);
    }

    /// Does the work of a turn, except for the wait. After a panic it is called again and continues where it stopped.
    fn turn(&mut self) {
        while self.taken < self.count {
            let event = self.events.get(self.taken).copied().unwrap_or_default();
            self.taken += 1; // before the event is handled: if its handler panics, it must not run again
            self.on_event(event);
        }
        self.poller.turn();
    }

    #[inline(always)]
    fn on_event(&mut self, event: Event) {
        if event.readiness == Readiness::READ && listener_of(event.key).is_none() {
            return self.poller.on_readable(Token::from_bits(event.key)); // the common case
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
        // Writable first: a socket cannot receive before its connect is complete.
        if event.readiness.is_writable() {
            self.poller.on_writable(token);
        }
        if event.readiness.is_readable() {
            self.poller.on_readable(token);
        }
    }

    /// Handles a panic: closes the socket whose callback panicked, ignores one in other code of the program, and
    /// continues to unwind if the engine itself panicked.
    fn recover(&mut self, panic: Box<dyn Any + Send>) {
        match self.poller.recover() {
            PanicOwner::Engine => resume_unwind(panic),
            PanicOwner::Program => {
                record!(error, "poller {}: the program's code panicked: {}", self.id.0, message_of(&*panic));
            }
            PanicOwner::Socket(token) => {
                record!(error, "a callback of {token:?} panicked, the socket ends: {}", message_of(&*panic));
                self.end_panicked(token);
            }
        }
        self.report.panics += 1;
    }

    fn end_panicked(&mut self, token: Token) {
        // The first run calls `close`. If that panics as well, the second run ends the socket without further events.
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
                    // Dropping a message panicked. The message has left the mailbox, so the loop terminates.
                    self.poller.recover();
                    self.report.panics += 1;
                }
            }
        }
    }

    fn wait(&mut self) {
        let publish = self.publish(); // before every wait, even if the poller does not sleep
        let until = Instant::earlier(Instant::earlier(self.poller.next_turn(), publish), self.tidy());
        let timeout = until.map(|until| until - self.now);
        let (handle, events) = (self.poller.membership().handle(), &mut self.events);
        let driver = &mut self.poller.transport_mut().driver;
        // `sleep` announces the sleep to other threads, so that they wake the poller. A poll needs no wake-ups.
        let count = if timeout == Some(Duration::ZERO) {
            driver.wait(timeout, events)
        } else {
            handle.sleep(timeout, |timeout| driver.wait(timeout, events))
        };
        self.taken = 0;
        match count {
            Ok(count) => self.count = count,
            Err(error) => panic!("poller {}: {} cannot wait: {error}", self.id, D::NAME),
        }
    }

    /// Publishes the counts if they have changed and the last publication is old enough. Returns when to call it again
    /// for counts that are not published yet.
    fn publish(&mut self) -> Option<Instant> {
        let due =
            self.published.map_or(self.now, |at| Instant::from_millis(at.as_millis() + PUBLISH_EVERY_MS));
        // After a turn with events the counts have changed: the comparison below would be wasted.
        if self.now < due && self.count > 0 {
            return Some(due);
        }
        let stats = self.poller.stats();
        if self.report.stats == stats {
            return None;
        }
        if self.now < due {
            return Some(due);
        }
        // If another thread is reading them, `report.stats` stays old, and the next call tries again.
        if self.shared.publish(self.id, &stats) {
            self.report.stats = stats;
        }
        self.published = Some(self.now);
        None
    }

    /// Releases to the system the memory that a burst has left unused. Returns when to call it again, if there is
    /// memory to release.
    fn tidy(&mut self) -> Option<Instant> {
        if self.now < self.tidy_at && self.count > 0 {
            return Some(self.tidy_at); // while events keep coming, an occasional check is enough
        }
        let in_ms = |millis| Instant::from_millis(self.now.as_millis() + millis);
        let unused = self.poller.shard().unused_memory();
        self.unused = self.unused.min(unused);
        // Only what has been added since the last release counts: the rest has been released already.
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
