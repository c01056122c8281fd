//! A handler that wraps the user's: checks what core guarantees to handlers, and records events.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::sync::Load;
use lightcone_core::{
    Address, CloseReason, Context, ErrorKind, Event, Handler, Instant, Origin, PollerEvent, Socket, Timeout,
    Timeouts, Token, Witness,
};

use crate::trace::{Did, Trace};
use crate::within::called_back;

/// One tick of core's clock, in µs.
const TICK: u64 = 1_000;
/// Tolerance for what the next step of the simulation does, in µs.
const STEP: u64 = 16;

/// State shared by a poller and its probe.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trace: Rc<Trace>,
    /// The number of the current turn.
    pub(crate) turn: Cell<u64>,
    /// When the previous turn began, in ms, and the one before that, in µs.
    pub(crate) before: Cell<u64>,
    pub(crate) second_before: Cell<u64>,
    /// How late the current turn began, in µs, and the previous one. If two timers of one socket expire in
    /// one turn, the second fires in the next.
    pub(crate) late: Cell<u64>,
    pub(crate) late_before: Cell<u64>,
    /// The maximum lateness of a turn so far, in µs.
    pub(crate) late_most: Cell<u64>,
    /// The records of sockets whose last event was delivered and whose connections are not closed yet.
    pub(crate) ended: RefCell<Vec<Ended>>,
    /// The sockets that have events which a full wait has left out of this turn.
    pub(crate) left_out: RefCell<Vec<Token>>,
    /// The number of events delivered to handlers.
    pub(crate) delivered: Cell<u64>,
    /// The expected values of core's own counts.
    pub(crate) tally: Cell<Tally>,
    /// What is known of each socket, by slot.
    pub(crate) views: RefCell<Vec<View>>,
    /// Whether the poller was stopped, and the turn in which it delivered `shutdown` to its sockets.
    pub(crate) stops: Cell<bool>,
    pub(crate) announced: Cell<Option<u64>>,
    /// Whether the handler knows that its poller stops. A poller learns of a stop in the turn after its request.
    pub(crate) stopping: Cell<bool>,
    /// A socket that closed in this turn with this many unread bytes that had arrived before a stop.
    pub(crate) lost: Cell<Option<(Token, usize)>>,
    /// Sockets that were closed from outside. They do not wait for anything.
    pub(crate) outside: RefCell<Vec<Token>>,
    /// The maximum output that a socket may queue, and the maximum input that it may keep.
    pub(crate) output_max: usize,
    pub(crate) input_max: usize,
    pub(crate) timeouts: Timeouts,
    /// How long a socket has to be idle before it may be evicted, in µs.
    pub(crate) evict_after: Option<u64>,
    /// Whether each socket can have an input block, so that none waits for one.
    pub(crate) ample: bool,
    /// The loads of the engine's pollers, and the maximum of each.
    pub(crate) loads: Vec<Rc<Load>>,
    pub(crate) load_max: u32,
    /// The sockets that have nothing queued and wait for an output block, in the order in which they began to
    /// wait or last had their chance. With each, how often a socket that held no block and had not waited
    /// longer got one since.
    pub(crate) waiting: RefCell<Vec<(Token, usize)>>,
    /// How often a waiting socket may be overtaken.
    pub(crate) overtaken_max: usize,
}

/// The expected counts of a poller, from what its handler and its network have seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) connected: u64,
    pub(crate) refused: u64,
    pub(crate) closed: [u64; CloseReason::COUNT],
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_lost: u64,
}

/// A socket after its last callback. Times are in µs.
#[derive(Clone, Default, Debug)]
pub(crate) struct View {
    token: Option<Token>,
    pub(crate) paused: bool,
    pub(crate) owed: bool,
    /// Whether the handler has requested a close.
    pub(crate) closing: bool,
    /// Whether it accepts no more output.
    finished: bool,
    /// Whether input was left at that time.
    pub(crate) unread: bool,
    active: bool,
    /// When the last callback ran, if the socket was ever active.
    touched: u64,
    /// The handler's deadline, in ms.
    deadline: Option<u64>,
    accepted: bool,
    /// Bytes that were passed to core and not yet delivered to the handler.
    given: VecDeque<u8>,
    /// Whether the end of the stream was passed to core.
    pub(crate) peer_ended: bool,
    /// When the last callback with progress ran, and since when it is idle, if it is.
    heard: u64,
    received: bool,
    idle: Option<u64>,
    /// Whether output was queued then, and no event shows when it was sent.
    unsure: bool,
}

/// The record of a socket that has closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) token: Token,
    /// When it closed, in µs.
    pub(crate) at: u64,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) refused: Option<ErrorKind>,
    /// The number of bytes that the handler queued, and how many of them were never sent.
    pub(crate) queued: u64,
    pub(crate) left: u64,
    /// Whether the handler was holding back some of its output, which is lost as well.
    pub(crate) held: bool,
    /// When the handler requested the close, in µs, and whether it had not received `shutdown` then.
    pub(crate) asked: Option<u64>,
    pub(crate) untold: bool,
}

/// The probe's data of each socket.
#[derive(Debug)]
pub(crate) struct Probed<D> {
    inner: D,
    queued: u64,
    /// Whether some of its output is held back, which `queued` does not count.
    held: bool,
    /// The deadline after the last callback, and the turn in which it was set.
    deadline: Option<(Instant, u64)>,
    asked: Option<u64>,
    untold: bool,
    /// The expected reason if it closes cleanly, where it is known.
    orderly: Option<CloseReason>,
    /// The turn in which it opened.
    opened: u64,
    told_to_stop: bool,
    was_active: bool,
    connecting: bool,
}

#[derive(Debug)]
pub(crate) struct Probe<H> {
    pub(crate) inner: H,
    pub(crate) shared: Rc<Shared>,
}

/// What the network has passed to core.
#[derive(Debug)]
pub(crate) struct Wire(pub(crate) Rc<Shared>);

impl Witness for Wire {
    fn has_sent(&mut self, token: Token, _: &Address, _: u64, bytes: &[u8]) -> bool {
        self.0.view(token, |view| {
            view.given.len() >= bytes.len() && view.given.drain(..bytes.len()).eq(bytes.iter().copied())
        })
    }

    fn has_ended(&mut self, token: Token, _: &Address) -> bool {
        self.0.view(token, |view| view.peer_ended)
    }
}

fn number<M>(event: &Event<M>) -> u64 {
    match event {
        Event::Open => 0,
        Event::Receive => 1,
        Event::Writable => 2,
        Event::Sent => 3,
        Event::PeerClosed => 4,
        Event::Timeout => 5,
        Event::Shutdown => 6,
        Event::Message(_) => 7,
        Event::Refused(_) => 8,
        Event::Close(_) => 9,
        Event::Room(_) => 11, // after `admit`
    }
}

impl Shared {
    /// Accesses what is known of a socket. If the slot was another socket's, starts from the default.
    pub(crate) fn view<R>(&self, token: Token, look: impl FnOnce(&mut View) -> R) -> R {
        let mut views = self.views.borrow_mut();
        let index = token.index() as usize;
        if views.len() <= index {
            views.resize(index + 1, View::default());
        }
        let view = &mut views[index];
        if view.token != Some(token) {
            *view = View { token: Some(token), ..View::default() };
        }
        look(view)
    }

    /// Describes the sockets that are not read.
    pub(crate) fn describe_held(&self) -> String {
        let views = self.views.borrow();
        let held = views.iter().filter(|view| (view.paused || view.owed) && !view.closing);
        let words = held.take(5).filter_map(|view| {
            let why = if view.owed { "waits for writable" } else { "is paused" };
            Some(format!(", {} {why}", view.token?))
        });
        words.collect()
    }

    /// Records bytes that are passed to core.
    pub(crate) fn give(&self, token: Token, bytes: &[u8]) {
        self.view(token, |view| {
            if !view.closing {
                view.given.extend(bytes);
            }
        });
    }

    /// Removes the last `count` of them, which core did not take.
    pub(crate) fn take_back(&self, token: Token, count: usize) {
        self.view(token, |view| view.given.truncate(view.given.len().saturating_sub(count)));
    }

    /// Removes a socket from those closed from outside. Returns whether it was one.
    pub(crate) fn forget_outside(&self, token: Token) -> bool {
        let mut outside = self.outside.borrow_mut();
        let place = outside.iter().position(|other| *other == token);
        place.map(|place| outside.swap_remove(place)).is_some()
    }

    pub(crate) fn count(&self, what: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        what(&mut tally);
        self.tally.set(tally);
    }

    pub(crate) fn take_ended(&self, token: Token) -> Option<Ended> {
        let mut ended = self.ended.borrow_mut();
        let place = ended.iter().position(|ended| ended.token == token)?;
        Some(ended.swap_remove(place))
    }

    /// Records that this socket was closed from outside.
    pub(crate) fn note_closed(&self, token: Token) {
        self.waiting.borrow_mut().retain(|(other, _)| *other != token);
        self.outside.borrow_mut().push(token);
    }

    /// Checks, after a callback of this socket, that waiting sockets are not overtaken too often. `waits`: it
    /// has nothing queued, and `writable` is pending. A waiting socket has its chance at `writable`; before that,
    /// only a bounded number of others may come first, regardless of their handlers.
    pub(crate) fn check_line(&self, token: Token, waits: bool, had_chance: bool, took_first: bool) {
        let mut waiting = self.waiting.borrow_mut();
        let waits = waits && !self.outside.borrow().contains(&token);
        let place = waiting.iter().position(|(other, _)| *other == token);
        // Only those that have waited for longer are overtaken: the ones in front of this socket.
        if took_first {
            for (other, overtaken) in waiting.iter_mut().take(place.unwrap_or(usize::MAX)) {
                *overtaken += 1;
                let (n, most) = (*overtaken, self.overtaken_max);
                assert!(
                    n <= most,
                    "fairness: {other} waits for a block, and {n} others came first, {most} at most"
                );
            }
        }
        if let Some(place) = place
            && (!waits || had_chance)
        {
            waiting.remove(place);
        }
        if waits && (place.is_none() || had_chance) {
            called_back(|| waiting.push((token, 0)));
        }
    }

    /// Returns how much the simulation itself has delayed the events of this turn, in µs.
    fn held_up(&self) -> u64 {
        self.late.get().max(self.late_before.get())
    }

    /// Returns how much later, in µs, a timeout of this span may fire if progress of the peer postpones it:
    /// core checks for progress eight times in a span, and a check may be delayed as well.
    pub(crate) fn looks(&self, span: u64) -> u64 {
        span / 8 + self.late_most.get() + 2 * TICK
    }

    /// Checks that something due at a time in µs happens now, or up to a tick late.
    pub(crate) fn check_due(&self, what: &str, due: u64, now: u64) {
        assert!(now >= due, "timers: {what} came at {now} us, {} us early", due - now);
        self.check_late(what, due, now);
    }

    pub(crate) fn check_late(&self, what: &str, due: u64, now: u64) {
        let late = now.saturating_sub(due);
        let held_up = self.held_up();
        assert!(
            late <= held_up + TICK + STEP,
            "timers: {what} came {late} us late, of which {held_up} are the driver's"
        );
    }

    /// Checks that no timeout of a live socket was missed.
    pub(crate) fn check_overdue(&self, token: Token, seen: &Seen) {
        // a socket whose send was cancelled has closed already, and waits for that send; one closed from
        // outside drains, which its handler cannot see
        if seen.cancelled.is_some() || self.outside.borrow().contains(&token) {
            return;
        }
        // Judged by the turn before the last: what was due by then must have fired in the last one.
        let passed = self.second_before.get();
        let Some((what, due)) = self.view(token, |view| view.due(seen, self)) else { return };
        assert!(due + TICK + STEP >= passed, "timers: {what} of {token}, due at {due} us, did not fire");
    }
}

impl View {
    /// Returns when it could be evicted first, in µs, as far as callbacks show; `None` if it is busy.
    fn evictable(&self, after: u64) -> Option<u64> {
        Some(self.idle?.max(self.heard + after))
    }

    /// Returns the next timeout or deadline, and its latest time in µs.
    fn due(&self, seen: &Seen, shared: &Shared) -> Option<(&'static str, u64)> {
        let timeouts = &shared.timeouts;
        if self.closing || seen.connecting || (self.finished && self.peer_ended) {
            return None;
        }
        let after = |since: u64, span: Option<core::time::Duration>| Some(since + span?.as_micros() as u64);
        // progress of the peer counts as well as the system's
        let stalled = seen.stalled.map(|since| since.max(seen.delivered.unwrap_or(0)));
        let looks = |(what, at), span: Option<core::time::Duration>| {
            let asks = stalled.is_some() && seen.delivered.is_some();
            let span = span.map_or(0, |span| span.as_micros() as u64);
            (what, at + if asks { shared.looks(span) } else { 0 })
        };
        let stall = stalled.and_then(|since| after(since, timeouts.write_stall));
        let stall = stall.map(|at| looks(("", at), timeouts.write_stall).1);
        let waits_for_first = self.accepted && !seen.received && !self.peer_ended;
        let first = after(seen.opened, timeouts.first_byte).filter(|_| waits_for_first);
        // The same precedence as in core: a write stall and the first byte replace the idle timeout.
        let quiet = match (stall, first) {
            (Some(stall), Some(first)) => Some(("write stall or first byte", stall.min(first))),
            (Some(stall), None) => Some(("write stall", stall)),
            (None, Some(first)) => Some(("first byte", first)),
            (None, None) if self.active => None,
            (None, None) => {
                let since = seen.progress.max(self.touched).max(stalled.unwrap_or(0));
                after(since, timeouts.idle).map(|at| looks(("the idle timeout", at), timeouts.idle))
            }
        };
        let own = self.deadline.map(|at| ("a deadline", at * TICK));
        match (own, quiet) {
            (Some(own), Some(quiet)) => Some(if own.1 <= quiet.1 { own } else { quiet }),
            (own, quiet) => own.or(quiet),
        }
    }
}

impl<H: Handler> Handler for Probe<H> {
    type Data = Probed<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        let inner = called_back(|| self.inner.admit(origin, peer));
        self.shared.trace.note(Did::Tell, u64::from(inner.is_some()), 10);
        let connecting = matches!(origin, Origin::Connecting { .. });
        if inner.is_some() && !connecting {
            self.shared.count(|tally| tally.accepted += 1);
        }
        Some(Probed {
            inner: inner?,
            queued: 0,
            held: false,
            deadline: None,
            asked: None,
            untold: false,
            orderly: None,
            opened: 0,
            told_to_stop: false,
            was_active: false,
            connecting,
        })
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    #[expect(clippy::too_many_lines, reason = "the checks before and after a callback, in order")]
    #[inline]
    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let shared = Rc::clone(&self.shared);
        let (token, now) = (socket.token(), cx.now());
        shared.trace.note(Did::Tell, token.to_bits(), number(&event));
        shared.delivered.set(shared.delivered.get() + 1);
        let at = shared.trace.now();
        let end = match event {
            Event::Close(reason) => Some((Some(reason), None)),
            Event::Refused(kind) => Some((None, Some(kind))),
            _ => None,
        };
        // Core's guarantees are checked first, since the handler's callback changes the socket.
        self.look_before(socket, &event, now);
        let (before, had_chance) = (socket.queued(), matches!(event, Event::Writable));
        let (received, ended) = (matches!(event, Event::Receive), matches!(event, Event::PeerClosed));
        // until the first byte, what is sent does not count
        let sent =
            matches!(event, Event::Sent) && (!socket.is_silent() || shared.timeouts.first_byte.is_none());
        let progress = received || sent || matches!(event, Event::Open);
        called_back(|| self.inner.event(&mut socket.project(|data| &mut data.inner), event, cx));
        let (after, unread) = (socket.queued(), socket.bytes().len());
        assert!(after <= shared.output_max, "bounds: {after} bytes queued, {} allowed", shared.output_max);
        assert!(unread <= shared.input_max, "bounds: {unread} bytes kept, {} allowed", shared.input_max);
        let waits = end.is_none() && after == 0 && socket.is_writable_pending() && !socket.is_closing();
        shared.check_line(token, waits, had_chance, end.is_none() && before == 0 && after > 0);
        if let Some((reason, refused)) = end {
            let (queued, asked, untold) = (socket.data.queued, socket.data.asked, socket.data.untold);
            let ended = Ended {
                token,
                at,
                reason,
                refused,
                queued,
                left: before as u64,
                held: socket.data.held,
                asked,
                untold,
            };
            called_back(|| shared.ended.borrow_mut().push(ended));
            let kind = reason.map_or(u64::MAX, |reason| reason.index() as u64);
            shared.trace.note(Did::Ended, token.to_bits(), kind);
            shared.view(token, |view| view.idle = None);
            return;
        }
        let (closing, peer_ended, deadline) = (socket.is_closing(), socket.peer_closed(), socket.deadline());
        let active = socket.is_active();
        let (paused, owed) = (socket.is_paused(), socket.is_writable_pending());
        let finished = socket.split().1.limit() == 0;
        let held = socket.split().1.is_holding();
        let data = &mut *socket.data;
        data.queued += (after - before) as u64;
        data.held = held;
        if closing && data.asked.is_none() {
            (data.asked, data.untold) = (Some(at), !data.told_to_stop);
            // Unknown between the call to stop and the first `shutdown`: the poller may not have read the
            // command yet.
            data.orderly = match (peer_ended, shared.stops.get(), shared.announced.get()) {
                (true, ..) => Some(CloseReason::Peer),
                (_, false, _) => Some(CloseReason::Local),
                (_, true, Some(_)) => Some(CloseReason::Shutdown),
                (_, true, None) => None,
            };
        }
        match (deadline, data.deadline) {
            (None, _) => data.deadline = None,
            // a deadline that has passed may have been set again, and fires in the next turn then
            (Some(at), Some((before, _))) if at == before && at > now => {}
            (Some(at), _) => data.deadline = Some((at, shared.turn.get())),
        }
        data.was_active |= active;
        let (was_active, accepted) = (data.was_active, !data.connecting);
        let wants_sent = self.inner.wants_sent();
        called_back(|| {
            shared.view(token, |view| {
                let begins = closing && !view.closing;
                view.unread = if begins { unread > 0 || paused || owed } else { view.unread };
                if was_active {
                    view.touched = at;
                }
                let inactive = view.active && !active;
                (view.paused, view.owed, view.closing, view.active) = (paused, owed, closing, active);
                view.received |= received;
                if progress || inactive || (ended && !view.received) {
                    view.heard = at;
                }
                view.unsure = after > 0 && !wants_sent;
                let queues = after > 0 && wants_sent;
                let busy = active || paused || owed || closing || held || queues || unread > 0 || !accepted;
                view.idle = if busy { None } else { view.idle.or(Some(at)) };
                view.deadline = deadline.map(Instant::as_millis);
                (view.accepted, view.finished) = (accepted, finished);
            });
        });
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Self::Message>) {
        let number = match event {
            PollerEvent::Started => 0,
            PollerEvent::Timer { .. } => 1,
            PollerEvent::Stopping => 2,
            PollerEvent::Room { .. } => 3,
        };
        self.shared.stopping.set(self.shared.stopping.get() || event == PollerEvent::Stopping);
        self.shared.trace.note(Did::TellPoller, cx.poller().0.into(), number);
        self.shared.delivered.set(self.shared.delivered.get() + 1);
        called_back(|| self.inner.poller_event(event, cx));
    }
}

impl<H: Handler> Probe<H> {
    /// Checks what core guarantees for an event, apart from the order of events.
    fn look_before(&self, socket: &mut Socket<'_, Probed<H::Data>>, event: &Event<H::Message>, now: Instant) {
        let shared = &*self.shared;
        let (token, turn) = (socket.token(), shared.turn.get());
        match *event {
            Event::Open => {
                socket.data.opened = turn;
                shared.count(|tally| tally.connected += u64::from(socket.data.connecting));
            }
            Event::Timeout => self.on_timeout(socket.data.deadline.take(), now),
            Event::Shutdown => {
                assert!(!socket.data.told_to_stop, "contract: {token} receives `shutdown` twice");
                socket.data.told_to_stop = true;
                shared.announced.set(shared.announced.get().or(Some(turn)));
            }
            Event::Refused(_) => shared.count(|tally| tally.refused += 1),
            Event::Close(reason) => self.on_close(socket, reason),
            _ => {}
        }
        let live = !matches!(event, Event::Close(_) | Event::Refused(_));
        let must_know = shared
            .announced
            .get()
            .is_some_and(|delivered| delivered < turn && socket.data.opened <= delivered);
        assert!(
            !live || !must_know || socket.data.told_to_stop || matches!(event, Event::Open),
            "contract: {token} has not received `shutdown`"
        );
    }

    fn on_close(&self, socket: &Socket<'_, Probed<H::Data>>, reason: CloseReason) {
        let (shared, token) = (&*self.shared, socket.token());
        if let Some(count) = self.shared.tally.get().closed.get(reason.index()) {
            shared.count(|tally| tally.closed[reason.index()] = count + 1);
        }
        let from_outside = shared.outside.borrow().contains(&token);
        let (orderly, left) = (socket.data.orderly, socket.queued());
        if matches!(reason, CloseReason::Local | CloseReason::Peer) {
            assert!(left == 0, "bytes: {token} closed cleanly and lost {left} bytes");
            let right = orderly.is_none_or(|orderly| orderly == reason) || from_outside;
            assert!(right, "ends: {token} should close for {orderly:?}, but closed for {reason:?}");
        }
        let finished = self.shared.view(token, |view| view.finished);
        let is_cut = !finished && !from_outside && reason == CloseReason::Shutdown;
        assert!(
            !is_cut || socket.data.told_to_stop,
            "contract: {token} was cut before it received `shutdown`"
        );
        let silent = matches!(reason, CloseReason::TimedOut(Timeout::Idle | Timeout::FirstByte));
        let left_out = silent && shared.left_out.borrow().contains(&token);
        assert!(
            !left_out,
            "timers: {token} has events that a full wait left out, and was timed out ({reason:?})"
        );
        if reason == CloseReason::Evicted {
            self.check_eviction(token);
        }
        if reason == CloseReason::TimedOut(Timeout::Idle) {
            let active = self.shared.view(token, |view| view.active);
            let stalls = shared.timeouts.write_stall.is_none() && left > 0;
            assert!(!active || stalls, "timers: {token} was timed out as idle while it was active");
        }
    }

    /// Checks that an evicted socket was idle for long enough, and that no other one was idle for longer.
    fn check_eviction(&self, token: Token) {
        let shared = &*self.shared;
        let Some(after) = shared.evict_after else {
            panic!("evictions: {token} was evicted, but none may be")
        };
        assert!(!shared.stopping.get(), "evictions: {token} was evicted during a stop");
        assert!(
            !shared.left_out.borrow().contains(&token),
            "evictions: {token} has events that were left out"
        );
        let Some(due) = shared.view(token, |view| view.evictable(after)) else {
            panic!("evictions: {token} was evicted, but is busy");
        };
        // the turn's time is in ticks
        let now = shared.trace.now();
        assert!(due <= now + TICK, "evictions: {token} was evicted {} us early", due - now);
        if !shared.ample {
            return; // sockets that wait for a block are not idle, which is not known here
        }
        for view in shared.views.borrow().iter().filter(|view| view.token != Some(token)) {
            if let (Some(other), Some(earlier)) = (view.token, view.evictable(after))
                && !view.unsure
                && !shared.outside.borrow().contains(&other)
            {
                let first = earlier + 2 * TICK >= due;
                assert!(
                    first,
                    "evictions: {token} was evicted, but {other} was idle {} us longer",
                    due - earlier
                );
            }
        }
    }

    fn on_timeout(&self, deadline: Option<(Instant, u64)>, now: Instant) {
        let shared = &*self.shared;
        let Some((at, set)) = deadline else { panic!("timers: a timeout without a deadline") };
        assert!(now >= at, "timers: a deadline of {} ms came at {} ms", at.as_millis(), now.as_millis());
        // a deadline in the past fires in the turn after the one in which it is set
        let fresh = set + 1 >= shared.turn.get();
        if !fresh {
            shared.check_due("a handler's deadline", at.as_millis() * TICK, shared.trace.now());
            let before = shared.before.get();
            assert!(at.as_millis() > before, "timers: a deadline was missed in the turn at {before} ms");
        }
    }
}

/// Checks that a socket was not timed out early or too late, as far as a driver can know.
pub(crate) fn check_timeout(shared: &Shared, ended: &Ended, seen: &Seen) {
    let timeouts = &shared.timeouts;
    let touched = shared.view(ended.token, |view| view.touched);
    let once = |since| Some((since, since));
    // progress of the peer counts as well as the system's
    let taken = |since: u64| since.max(seen.delivered.unwrap_or(0));
    let (span, since, of_the_peer) = match (ended.reason, ended.refused) {
        (Some(CloseReason::TimedOut(Timeout::Idle)), _) => {
            let last = seen.progress.max(touched).max(seen.stalled.map_or(0, taken));
            // before the first byte, neither the end of the peer's stream nor `set_active` restarts the time
            let first = if seen.received { seen.progress } else { seen.opened.max(seen.sent) };
            (timeouts.idle, Some((first, last)), seen.stalled.is_some())
        }
        (Some(CloseReason::TimedOut(Timeout::FirstByte)), _) => {
            (timeouts.first_byte, once(seen.opened), false)
        }
        (Some(CloseReason::TimedOut(Timeout::WriteStall)), _) => {
            (timeouts.write_stall, seen.stalled.map(taken).and_then(once), true)
        }
        (Some(CloseReason::TimedOut(Timeout::Drain)), _) => {
            (timeouts.drain, ended.asked.map(|asked| taken(asked.max(seen.sent))).and_then(once), true)
        }
        (None, Some(ErrorKind::TimedOut)) if !seen.connect_failed => {
            (timeouts.connect, once(seen.opened), false)
        }
        _ => return,
    };
    let (Some(span), Some((first, last))) = (span, since) else { return };
    if seen.cancelled.is_some_and(|at| seen.delivered.is_some_and(|delivered| delivered >= at)) {
        return; // more was taken after the close, and the time before that is not known
    }
    // a tick more than the span, as the clock may have been read almost a tick before the dated event
    let due = (first / TICK + span.as_millis() as u64 + 1) * TICK;
    let rough = matches!(ended.reason, Some(CloseReason::TimedOut(Timeout::Idle | Timeout::WriteStall)));
    // actions of handlers and progress of peers are not dated to the tick here
    let due = if rough { due - TICK } else { due };
    let early = due.saturating_sub(ended.at);
    assert!(early == 0, "timers: a timeout of the engine came {early} us early");
    // what delayed a cancelled send is not known any more
    if seen.cancelled.is_none() {
        let span = span.as_micros() as u64;
        let looks = if of_the_peer && seen.delivered.is_some() { shared.looks(span) } else { 0 };
        shared.check_late("a timeout of the engine", last + span + looks, ended.at);
    }
}

/// What the driver knows of a socket's progress, in µs.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) opened: u64,
    pub(crate) progress: u64,
    /// When bytes were last sent.
    pub(crate) sent: u64,
    /// When bytes last arrived at the other endpoint, if the system has a send buffer.
    pub(crate) delivered: Option<u64>,
    pub(crate) stalled: Option<u64>,
    pub(crate) connect_failed: bool,
    /// Whether its connect is in progress.
    pub(crate) connecting: bool,
    /// Whether a byte has been received.
    pub(crate) received: bool,
    /// When writing was shut down, and when core took the end of the stream.
    pub(crate) shut: Option<u64>,
    pub(crate) ended: Option<u64>,
    /// When its send in flight was cancelled because the socket closes.
    pub(crate) cancelled: Option<u64>,
}
