//! A handler around the user's that checks what core promises to it, and records what it is told.

use core::cell::{Cell, RefCell};
use std::rc::Rc;

use lightcone_core::{
    Address, CloseReason, Context, ErrorKind, Event, Handler, Instant, Origin, Socket, Timeout, Timeouts,
    Token,
};

use crate::trace::{Did, Trace};
use crate::within::called_back;

/// What a poller and its probe tell each other.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) trace: Rc<Trace>,
    /// The number of this turn.
    pub(crate) turn: Cell<u64>,
    /// When the turn before began, in ms.
    pub(crate) before: Cell<u64>,
    /// How much later than asked for this turn began, in ms, and the one before: of two timers of one socket that fire
    /// in one turn, the second comes in the next.
    pub(crate) late: Cell<u64>,
    pub(crate) late_before: Cell<u64>,
    /// The accounts of sockets that have had their last event and whose connections are not closed yet.
    pub(crate) ended: RefCell<Vec<Ended>>,
    /// How many events handlers were told.
    pub(crate) told: Cell<u64>,
    /// The most output that a socket may queue, and the most input it may keep.
    pub(crate) output_max: usize,
    pub(crate) input_max: usize,
    pub(crate) timeouts: Timeouts,
    /// The sockets that have nothing queued and wait for output, in the order in which they began to or had their last
    /// chance, and how often others that hold nothing, and have not waited for longer, have got a block since.
    pub(crate) waiting: RefCell<Vec<(Token, usize)>>,
    /// Sockets that were closed from outside: they wait for nothing any more.
    pub(crate) closed: RefCell<Vec<Token>>,
    /// The most that a waiting socket may be overtaken.
    pub(crate) overtaken_max: usize,
}

/// The account of a socket at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) token: Token,
    /// When it ended, in ms.
    at: u64,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) refused: Option<ErrorKind>,
    /// Bytes that the handler queued, and how many of them were never sent.
    pub(crate) queued: u64,
    pub(crate) left: u64,
    /// When the handler asked for the end, in ms.
    pub(crate) asked: Option<u64>,
}

/// What is kept for each socket.
#[derive(Debug)]
pub(crate) struct Probed<D> {
    inner: D,
    queued: u64,
    /// The deadline after the last callback, and the turn in which it was set.
    deadline: Option<(Instant, u64)>,
    asked: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Probe<H> {
    pub(crate) inner: H,
    pub(crate) shared: Rc<Shared>,
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
    }
}

impl Shared {
    pub(crate) fn take_ended(&self, token: Token) -> Option<Ended> {
        let mut ended = self.ended.borrow_mut();
        let place = ended.iter().position(|ended| ended.token == token)?;
        Some(ended.swap_remove(place))
    }

    /// This socket was closed from outside.
    pub(crate) fn note_closed(&self, token: Token) {
        self.waiting.borrow_mut().retain(|(other, _)| *other != token);
        self.closed.borrow_mut().push(token);
    }

    /// A callback of this socket is over; `waits`: it has nothing queued and is owed `writable`. One that waits has its
    /// chance at `writable`, and in between no more others come first than a bound allows, whatever they do.
    pub(crate) fn check_line(&self, token: Token, waits: bool, had_chance: bool, took_first: bool) {
        let mut waiting = self.waiting.borrow_mut();
        let waits = waits && !self.closed.borrow().contains(&token);
        let place = waiting.iter().position(|(other, _)| *other == token);
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

    /// A timer has fired: never early, and late by what the simulation itself caused and a tick.
    pub(crate) fn check_timer(&self, what: &str, due: u64, now: u64, tick: u64) {
        assert!(now >= due, "timers: {what} came at {now} ms, {} ms early", due - now);
        let late = now - due;
        let held_up = self.late.get().max(self.late_before.get());
        let allowed = held_up + tick;
        assert!(late <= allowed, "timers: {what} came {late} ms late, of which {held_up} are the driver's");
    }
}

impl<H: Handler> Handler for Probe<H> {
    type Data = Probed<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        let inner = called_back(|| self.inner.admit(origin, peer));
        self.shared.trace.note(Did::Tell, u64::from(inner.is_some()), 10);
        Some(Probed { inner: inner?, queued: 0, deadline: None, asked: None })
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    #[inline]
    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let shared = &*self.shared;
        let (token, now) = (socket.token(), cx.now());
        shared.trace.note(Did::Tell, token.to_bits(), number(&event));
        shared.told.set(shared.told.get() + 1);
        let end = match event {
            Event::Close(reason) => Some((Some(reason), None)),
            Event::Refused(kind) => Some((None, Some(kind))),
            Event::Timeout => {
                self.on_timeout(socket.data.deadline, now);
                None
            }
            _ => None,
        };
        let (before, had_chance) = (socket.queued(), matches!(event, Event::Writable));
        called_back(|| self.inner.event(&mut socket.project(|data| &mut data.inner), event, cx));
        let shared = &*self.shared;
        let (after, unread) = (socket.queued(), socket.bytes().len());
        assert!(after <= shared.output_max, "bounds: {after} bytes queued, {} allowed", shared.output_max);
        assert!(unread <= shared.input_max, "bounds: {unread} bytes kept, {} allowed", shared.input_max);
        let waits = end.is_none() && after == 0 && socket.owes_writable() && !socket.closing();
        shared.check_line(token, waits, had_chance, end.is_none() && before == 0 && after > 0);
        let deadline = socket.deadline();
        if let Some((reason, refused)) = end {
            let (queued, asked) = (socket.data.queued, socket.data.asked);
            let (at, left) = (now.as_millis(), before as u64);
            let ended = Ended { token, at, reason, refused, queued, left, asked };
            called_back(|| shared.ended.borrow_mut().push(ended));
            let kind = reason.map_or(u64::MAX, |reason| reason.index() as u64);
            shared.trace.note(Did::Ended, token.to_bits(), kind);
            return;
        }
        let closing = socket.closing();
        let data = &mut *socket.data;
        data.queued += (after - before) as u64;
        if closing && data.asked.is_none() {
            data.asked = Some(now.as_millis());
        }
        match (deadline, data.deadline) {
            (None, _) => data.deadline = None,
            (Some(at), Some((before, _))) if at == before => {}
            (Some(at), _) => data.deadline = Some((at, shared.turn.get())),
        }
    }
}

impl<H> Probe<H> {
    fn on_timeout(&self, deadline: Option<(Instant, u64)>, now: Instant) {
        let shared = &*self.shared;
        let Some((at, set)) = deadline else { panic!("timers: a timeout without a deadline") };
        assert!(now >= at, "timers: a deadline of {} ms came at {} ms", at.as_millis(), now.as_millis());
        // what is due already when it is set comes in the next turn
        let fresh = set + 1 >= shared.turn.get();
        if !fresh {
            shared.check_timer("a handler's deadline", at.as_millis(), now.as_millis(), 1);
            let before = shared.before.get();
            assert!(at.as_millis() > before, "timers: a deadline was passed over in the turn at {before} ms");
        }
    }
}

/// Checks that a socket was not timed out early or too late, as far as a driver can know.
pub(crate) fn check_timeout(shared: &Shared, ended: &Ended, seen: &Seen) {
    let timeouts = &shared.timeouts;
    let (span, since) = match (ended.reason, ended.refused) {
        (Some(CloseReason::TimedOut(Timeout::Idle)), _) => (timeouts.idle, Some(seen.progress)),
        (Some(CloseReason::TimedOut(Timeout::FirstByte)), _) => (timeouts.first_byte, Some(seen.opened)),
        (Some(CloseReason::TimedOut(Timeout::WriteStall)), _) => (timeouts.write_stall, seen.stalled),
        (Some(CloseReason::TimedOut(Timeout::Drain)), _) => (timeouts.drain, ended.asked),
        (None, Some(ErrorKind::TimedOut)) if !seen.connect_failed => (timeouts.connect, Some(seen.opened)),
        _ => return,
    };
    let (Some(span), Some(since)) = (span, since) else { return };
    let due = since + span.as_millis() as u64;
    shared.check_timer("a timeout of the engine", due, ended.at, 2);
}

/// What the driver knows of a socket's progress, in ms.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) opened: u64,
    pub(crate) progress: u64,
    pub(crate) stalled: Option<u64>,
    pub(crate) connect_failed: bool,
}
