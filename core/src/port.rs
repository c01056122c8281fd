//! One socket of a shard while a driver deals with it.

use crate::actions::{ContextCalls, Sent, Settled, carry_out, tell_sent};
use crate::address::Address;
use crate::buffer::{Blocks, Hold};
use crate::error::{CloseReason, ErrorKind};
use crate::handler::{Context, Event, Handler};
use crate::interest::Interest;
use crate::life::{State, Step};
use crate::shard::Shard;
use crate::slot::{Asked, Control, Flags, Pending, Slot};
use crate::socket::{Shared, Socket, Stream};
use crate::stats::Stats;
use crate::time::Instant;
use crate::token::Token;
use crate::wait_queue::Waiting;
use core::fmt;

/// What the driver does now for the socket it dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the socket stalls when the order is not carried out"]
pub enum Next {
    /// Nothing until this is possible.
    Wait(Interest),
    /// Send from [`Port::outputs`], then say [`Port::sent`] or [`Port::blocked`].
    Send,
    /// Shut down writing, then say [`Port::shut`].
    Shut,
    /// Cancel the send that is in flight, then say [`Port::sent`] with what of it was done. `close` comes after that.
    Cancel,
    /// Close the descriptor. The slot is already free; its token is stale.
    /// [`Shard::breaks_off`](crate::Shard::breaks_off) says how.
    Close,
}

impl Next {
    /// What to wait for, if waiting is all there is to do.
    #[must_use]
    #[inline]
    pub const fn waits_for(self) -> Option<Interest> {
        match self {
            Self::Wait(interest) => Some(interest),
            Self::Send | Self::Shut | Self::Cancel | Self::Close => None,
        }
    }
}

/// One socket, borrowed from its [`Shard`] to be told what happened, to have its events delivered,
/// and to say what the driver does next.
///
/// The push way: tell, then [`run`](Self::run) with a handler. The pull way: tell, then
/// [`next_event`](Self::next_event) until `None`, then [`finish`](Self::finish). Both go through the
/// same transitions. A port that is dropped with neither loses the bytes it was told of.
#[derive(Debug)]
pub struct Port<'p, 's, D> {
    shard: &'p mut Shard<'s, D>,
    index: u32,
    /// Bytes that have just come and are in no block.
    fresh: &'p mut [u8],
    consumed: usize,
}

impl<'p, 's, D> Port<'p, 's, D> {
    #[inline]
    pub(crate) fn new(shard: &'p mut Shard<'s, D>, index: u32) -> Self {
        Self { shard, index, fresh: &mut [], consumed: 0 }
    }

    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "a port is made for a slot in use, and slots are never taken away"
    )]
    fn control(&mut self) -> &mut Control {
        &mut self.shard.slots.get_mut(self.index).expect("the port's slot").control
    }

    /// The socket's token.
    #[must_use]
    pub fn token(&self) -> Token {
        self.shard.token(self.index).unwrap_or(Token::from_bits(0))
    }

    /// The most bytes that may be received now; 0: do not receive, but [`run`](Self::run) or
    /// [`finish`](Self::finish) the port and wait as it says. So it is when other sockets have taken the
    /// last block.
    #[must_use]
    #[inline]
    pub fn room(&self) -> usize {
        let Some(slot) = self.shard.slots.get(self.index) else { return 0 };
        let control = &slot.control;
        if control.is_usual() && self.fresh.is_empty() && self.shard.input.large.has_spare() {
            return self.shard.shared.capacity as usize; // the common case
        }
        if !control.state.reads() {
            0
        } else if control.state.is_live() {
            let fresh = self.fresh.len();
            let room = || self.shard.input.room(&control.kept, control.chain.waiting).saturating_sub(fresh);
            if control.holds_back() { 0 } else { room() }
        } else {
            // discarded as it comes
            self.shard.input.capacity()
        }
    }

    /// Tells that bytes have come, at most [`room`](Self::room). They are lent until the port has run: the handler
    /// sees this very slice, and may change it in place.
    ///
    /// # Panics
    ///
    /// When they are more than there is room for, or come after the end of the stream.
    #[inline(always)]
    pub fn received(&mut self, bytes: &'p mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        self.shard.stats.bytes_in += bytes.len() as u64;
        let now = self.shard.now.tick();
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        if !control.state.is_live() {
            assert!(!control.flags.has(Flags::PEER_ENDED), "received {} bytes with room for 0", bytes.len());
            return; // a staged close discards
        }
        // less than a block, with nothing before it, needs no closer look: a block is free for it
        let small = bytes.len() < self.shard.config.block_size && self.shard.input.has_blocks();
        let first = control.kept.is_empty() && self.fresh.is_empty();
        if !small || !first || control.flags.has(Flags::UNUSUAL) {
            let room = self.shard.input.room(&control.kept, control.chain.waiting);
            let room = room.saturating_sub(self.fresh.len());
            control.received_unusually(bytes.len(), room);
        }
        if !control.flags.has(Flags::STALLED) || self.shard.config.timeouts.write_stall.is_none() {
            control.seen = now;
        }
        control.pending.set(Pending::RECEIVE);
        if first {
            self.fresh = bytes;
        } else {
            self.keep_fresh();
            self.keep(bytes);
        }
    }

    /// Puts bytes that no event has brought yet into a block.
    fn keep_fresh(&mut self) {
        let fresh = core::mem::take(&mut self.fresh);
        if !fresh.is_empty() {
            self.keep(fresh);
        }
    }

    #[inline(never)]
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            self.shard.input.append(&mut slot.control.kept, bytes);
        }
    }

    /// The peer has ended its side: end of stream.
    pub fn ended(&mut self) {
        let now = self.shard.now.tick();
        let stalls = self.shard.config.timeouts.write_stall.is_some();
        let control = self.control();
        let was_live = control.state.is_live();
        if !control.flags.has(Flags::PEER_ENDED) && control.step(Step::PeerEnd, now) {
            control.flags.set(Flags::PEER_ENDED);
            // one that ends by this counts from here on
            if control.flags.has(Flags::SILENT) && control.state.is_live() {
                control.stays_silent(stalls, now);
            }
            if was_live {
                control.pending.set(Pending::PEER_CLOSED);
            }
        }
    }

    /// A call on the socket failed, or its connect did.
    #[expect(clippy::wildcard_enum_match_arm, reason = "but for a reset, the kind is told as it is")]
    pub fn failed(&mut self, error: ErrorKind) {
        self.cut(match error {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CloseReason::Reset,
            other => CloseReason::Error(other),
        });
    }

    /// The socket ends at once, for this reason.
    pub fn cut(&mut self, reason: CloseReason) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Reserved {
            control.flags.set(Flags::CLOSING);
        }
        if matches!(control.state, State::Reserved | State::Closed) {
            return;
        }
        if control.state != State::Lingering {
            control.because(reason);
        }
        control.step(Step::Fail, now);
    }

    /// The connect succeeded: `open` is due.
    pub fn connected(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Connecting && control.step(Step::Connected, now) {
            control.seen = now;
            control.pending.set(Pending::OPEN);
            self.shard.stats.connected += 1;
        }
    }

    /// The connect could not begin yet, and nothing will tell when it can. The shard [asks](crate::Shard::is_asking)
    /// for another try at this time; the connect timeout goes on.
    pub fn connect_again_at(&mut self, at: Instant) {
        let control = self.control();
        if control.state == State::Connecting {
            control.deadline = at.tick();
            control.flags.set(Flags::DEADLINE.with(Flags::TIMES));
        }
    }

    /// Returns where to connect to again, if the shard [asks](crate::Shard::is_asking) for that.
    #[must_use]
    pub fn take_connect(&mut self) -> Option<Address> {
        if !self.is_connecting() || !self.shard.take_asked(self.index) {
            return None;
        }
        Some(self.control().peer.unpack())
    }

    /// Closes the socket in order, as the handler's `close` does; a connect is called off, also one that has yet to
    /// [`dial`](Shard::dial).
    pub fn close(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Reserved {
            control.flags.set(Flags::CLOSING);
        } else if control.state == State::Connecting {
            control.because(CloseReason::Local);
            control.step(Step::Close, now);
        } else {
            control.asked.set(Asked::CLOSE);
        }
    }

    /// Where in its [life](crate::life) the socket is. What the last callback asked for counts once [`run`](Self::run)
    /// has returned.
    #[must_use]
    pub fn state(&mut self) -> State {
        self.control().state
    }

    /// Returns whether the handler has declared the socket to be
    /// [in the middle of something](crate::Stream::set_active).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shard.slots.get(self.index).is_some_and(|slot| slot.control.flags.has(Flags::ACTIVE))
    }

    /// Whether the socket waits for the outcome of a connect.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.shard.slots.get(self.index).is_some_and(|slot| slot.control.state == State::Connecting)
    }

    /// The engine is shutting down: `shutdown` is due for an open socket, a connecting one ends.
    pub fn shutdown(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Connecting {
            control.because(CloseReason::Shutdown);
            control.step(Step::Close, now);
        } else if control.state.is_live() {
            control.pending.set(Pending::SHUTDOWN);
        }
    }

    /// The first piece of the queued bytes, and whether that is all of them: what most sends need.
    #[must_use]
    #[inline]
    pub fn output(&self) -> (&[u8], bool) {
        let Some(slot) = self.shard.slots.get(self.index) else { return (&[], true) };
        let piece = slot.control.chain.first(&self.shard.output);
        (piece, piece.len() == slot.control.chain.queued())
    }

    /// The queued bytes in order, from the front; gives how many slices were filled in.
    #[inline]
    pub fn outputs<'a>(&'a self, to: &mut [&'a [u8]]) -> usize {
        let Some(slot) = self.shard.slots.get(self.index) else { return 0 };
        slot.control.chain.slices(&self.shard.output, to)
    }

    /// Tells that a send of queued bytes has begun that completes later: the bytes stay where they are, and their
    /// blocks leased, until [`sent`](Self::sent) says what became of them.
    pub fn send_started(&mut self) {
        self.control().flags.set(Flags::IN_FLIGHT);
        self.stall();
    }

    /// The first `n` queued bytes have reached the operating system; with 0, a send in flight has
    /// ended without any.
    ///
    /// # Panics
    ///
    /// When fewer than `n` bytes are queued.
    #[inline(always)]
    pub fn sent(&mut self, n: usize) {
        let now = self.shard.now.tick();
        self.shard.stats.bytes_out += n as u64;
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        if n == 0 {
            control.flags.clear(Flags::IN_FLIGHT);
            return;
        }
        if control.flags.has(Flags::STALLED) {
            control.flags.set(Flags::TIMES); // another timeout holds from now on, and may be due earlier
        }
        control.flags.clear(Flags::IN_FLIGHT.with(Flags::STALLED));
        control.chain.sent(&mut self.shard.output, n);
        if !control.state.is_live() {
            control.seen = now;
            return;
        }
        // the time to the first byte is not put off by what is sent
        if !control.flags.has(Flags::SILENT) || self.shard.config.timeouts.first_byte.is_none() {
            control.seen = now;
        }
        if control.chain.is_empty() {
            control.pending.set(Pending::SENT);
        }
        control.chain.set_hold(Hold::None);
        if control.chain.armed {
            self.grant_writable();
        }
    }

    /// Gives `writable`, if it is owed and there is room. Returns whether the socket must wait in the queue
    /// for a block. One that holds blocks goes on when they have left.
    fn grant_writable(&mut self) -> bool {
        let most = self.shard.config.output_limit;
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return false };
        let control = &mut slot.control;
        if !control.chain.armed || !control.chain.is_low(most) || !control.state.is_live() {
            return false;
        }
        let leasable = control.chain.leasable(&self.shard.output);
        let queued = !control.chain.is_empty();
        // with nothing queued, and as many blocks to be had as it may hold, there is nothing to wait for
        let all = !queued && control.chain.held() + leasable >= most;
        if leasable == 0 || (control.chain.hold() == Hold::Held && !all) {
            return !queued;
        }
        if control.chain.held() > 0 {
            control.chain.armed = false;
            control.pending.set(Pending::WRITABLE);
        } else {
            self.shard.dequeue_waiter(self.index);
            self.shard.grant(self.index, Waiting::Granted);
        }
        false
    }

    /// The operating system takes no more now: the driver is told to wait until it does.
    pub fn blocked(&mut self) {
        self.control().flags.clear(Flags::IN_FLIGHT);
        self.control().flags.set(Flags::BLOCKED);
        self.stall();
    }

    /// From now on, or from before, the write stall timeout runs.
    fn stall(&mut self) {
        let now = self.shard.now.tick();
        let waits_for_first = self.shard.config.timeouts.first_byte.is_some();
        let control = self.control();
        if !control.flags.has(Flags::STALLED) {
            control.flags.set(Flags::STALLED.with(Flags::TIMES));
            let silent = control.flags.has(Flags::SILENT);
            if silent {
                control.kept.note(now); // no byte is kept while none has come
            }
            if !silent || !waits_for_first {
                control.seen = now; // else it stays the time of opening
            }
            self.shard.note(self.index, 0);
        }
    }

    /// Tells how many bytes of those that were sent the system has not delivered, when the shard
    /// [asks](crate::Shard::is_asking); `None`: it can't tell. Returns whether something is due for the socket: then
    /// [`run`](Self::run) or [`finish`](Self::finish) it.
    pub fn undelivered(&mut self, bytes: Option<usize>) -> bool {
        self.shard.look(self.index, bytes)
    }

    /// Sending is possible again.
    pub fn writable(&mut self) {
        self.control().flags.clear(Flags::BLOCKED);
    }

    /// Writing has been shut down.
    pub fn shut(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if matches!(control.state, State::Finishing | State::Parting) {
            control.step(Step::Shut, now);
        }
    }

    /// Puts what the socket has left to do off to the next turn, so that others come in between.
    pub fn put_off(&mut self) {
        self.keep_fresh();
        self.shard.queue(self.index);
    }

    /// Delivers what is due, then a message, and what follows from it.
    ///
    /// # Errors
    ///
    /// The message, when the socket is not open.
    pub fn message<H: Handler<Data = D>>(
        &mut self,
        message: H::Message,
        handler: &mut H,
        cx: &mut Context<'_, H::Message>,
    ) -> Result<Next, H::Message> {
        self.deliver(handler, cx);
        if !self.control().takes_messages() {
            self.shard.stats.gone += 1;
            return Err(message);
        }
        if let Some(mut socket) = self.view(Pending::default()) {
            handler.event(&mut socket, Event::Message(message), cx);
        }
        Ok(self.run_all(handler, cx))
    }

    /// Delivers everything that is due, and says what the driver does next. After [`Next::Close`] the
    /// port is of no use.
    #[inline(always)]
    pub fn run<H: Handler<Data = D>>(&mut self, handler: &mut H, cx: &mut Context<'_, H::Message>) -> Next {
        if let Some(next) = self.run_plain(handler, cx) {
            return next;
        }
        self.run_all(handler, cx)
    }

    /// Tells that bytes have come, if there are any, delivers what is due, and carries out what follows: the whole way
    /// of a request, with one look at the slot where nothing about the socket is special.
    ///
    /// It is [`received`](Self::received), [`run`](Self::run) and [`carry_out`], and differs from them in its cost
    /// alone.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        let shard = &mut *self.shard;
        // less than a block needs no closer look at the room
        let fits = bytes.len() < shard.config.block_size && shard.input.has_blocks() && !bytes.is_empty();
        // a port of which an event was pulled has bytes that are not settled
        let fits = fits && self.fresh.is_empty();
        let usual = if fits { shard.usual(self.index) } else { None };
        let Some(usual) = usual else {
            self.received(bytes);
            let next = self.run(handler, &mut calls.context());
            return self.carry_out(next, 0, handler, calls);
        };
        match usual.receive(bytes, handler, calls) {
            Ok(settled) => settled,
            Err(stopped) => self.go_on(stopped, bytes, handler, calls),
        }
    }

    /// Goes on with `bytes` where [`UsualPort::receive`] has stopped.
    #[inline(never)]
    pub fn go_on<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        stopped: Stopped,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        match stopped.0 {
            Stop::Event { consumed } => {
                (self.fresh, self.consumed) = (bytes, consumed);
                let next = self.run_all(handler, &mut calls.context());
                self.carry_out(next, 0, handler, calls)
            }
            Stop::Pieces => self.carry_out(Next::Send, 0, handler, calls),
            Stop::Send { offered, sent } => self.go_on_after_send(offered, sent, handler, calls),
        }
    }

    #[inline(never)]
    fn go_on_after_send<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        offered: usize,
        sent: Sent,
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        tell_sent(self, offered, sent);
        let next = self.run(handler, &mut calls.context());
        self.carry_out(next, 1, handler, calls)
    }

    /// Carries out the socket's orders, as [`carry_out`] does, with a handler.
    #[inline(never)]
    pub fn carry_out<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        next: Next,
        sends: usize,
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        carry_out(self, next, sends, calls, |port, calls| port.run(handler, &mut calls.context()))
    }

    /// The two events of a plain request, each with one look at the slot: bytes came and all were
    /// consumed, or all that was queued has left. `None` when there is more to it.
    #[inline(always)]
    fn run_plain<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        cx: &mut Context<'_, H::Message>,
    ) -> Option<Next> {
        let shard = &mut *self.shard;
        let slot = shard.slots.get_mut(self.index)?;
        let control = &mut slot.control;
        if !control.is_plain() || self.consumed > 0 {
            return None;
        }
        let event = if control.pending == Pending::RECEIVE && !self.fresh.is_empty() {
            Event::Receive
        } else if control.pending == Pending::SENT
            && control.chain.is_empty()
            && self.fresh.is_empty()
            && control.kept.is_empty()
        {
            Event::Sent
        } else {
            return None;
        };
        control.pending = Pending::default();
        if !matches!(event, Event::Sent) || handler.wants_sent() {
            let (bytes, consumed) = (&mut *self.fresh, &mut self.consumed);
            let (pool, shared, index) = (shard.output.lend(), &shard.shared, self.index);
            let stream = Stream { control, pool, bytes, consumed, shared, index };
            let data = slot.data.as_mut()?;
            handler.event(&mut Socket { stream, data }, event, cx);
        }
        let control = &slot.control;
        let quiet = control.is_plain() && control.is_quiet() && self.consumed == self.fresh.len();
        if !quiet {
            return None; // `room` says when there is none to read into
        }
        (self.fresh, self.consumed) = (&mut [], 0);
        Some(control.next_plain())
    }

    #[inline(never)]
    fn run_all<H: Handler<Data = D>>(&mut self, handler: &mut H, cx: &mut Context<'_, H::Message>) -> Next {
        self.deliver(handler, cx);
        self.conclude()
    }

    fn deliver<H: Handler<Data = D>>(&mut self, handler: &mut H, cx: &mut Context<'_, H::Message>) {
        while let Some((event, mut socket)) = self.next_event() {
            if !matches!(event, Event::Sent) || handler.wants_sent() {
                handler.event(&mut socket, event, cx);
            }
        }
    }

    /// The next event that is due, with the socket it is for. What the last one asked for takes
    /// effect first.
    pub fn next_event<M>(&mut self) -> Option<(Event<M>, Socket<'_, D>)> {
        self.settle();
        loop {
            let pending = self.control().pending;
            if pending.is_empty() {
                return None;
            }
            let first = pending.first();
            self.control().pending.clear(first);
            if !self.is_overtaken(first) {
                let event = self.event(first);
                return Some((event, self.view(first)?));
            }
        }
    }

    /// Whether what earlier events of this port did has made an event untrue.
    fn is_overtaken(&mut self, event: Pending) -> bool {
        let most = self.shard.config.output_limit;
        let fresh = !self.fresh.is_empty();
        let control = self.control();
        match event {
            // consumed already
            Pending::RECEIVE => !fresh && control.kept.is_empty(),
            // more was queued: it comes when that has left too
            Pending::SENT => !control.chain.is_empty(),
            // filled again: it is owed again
            Pending::WRITABLE => {
                control.chain.armed |= !control.chain.is_low(most);
                if !control.chain.armed {
                    control.chain.set_hold(Hold::Given);
                }
                control.chain.armed
            }
            _ => false,
        }
    }

    fn event<M>(&mut self, which: Pending) -> Event<M> {
        match which {
            Pending::OPEN => {
                self.control().flags.set(Flags::OPENED);
                Event::Open
            }
            Pending::RECEIVE => Event::Receive,
            Pending::WRITABLE => Event::Writable,
            Pending::SENT => Event::Sent,
            Pending::PEER_CLOSED => Event::PeerClosed,
            Pending::TIMEOUT => Event::Timeout,
            Pending::SHUTDOWN => Event::Shutdown,
            Pending::REFUSED => {
                self.control().flags.set(Flags::ENDED);
                Event::Refused(match self.control().reason {
                    Some(CloseReason::Error(kind)) => kind,
                    Some(CloseReason::TimedOut(_)) => ErrorKind::TimedOut,
                    Some(CloseReason::Reset) => ErrorKind::ConnectionReset,
                    _ => ErrorKind::ConnectionAborted,
                })
            }
            _ => {
                self.control().flags.set(Flags::ENDED);
                Event::Close(self.control().reason.unwrap_or(CloseReason::Local))
            }
        }
    }

    /// What an event shows of the socket.
    fn view(&mut self, event: Pending) -> Option<Socket<'_, D>> {
        let shard = &mut *self.shard;
        let slot = shard.slots.get_mut(self.index)?;
        let data = slot.data.as_mut()?;
        let control = &mut slot.control;
        let still_to_come = control.pending.has(Pending::RECEIVE);
        let bytes = if still_to_come && (control.kept.is_empty() || event == Pending::OPEN) {
            &mut [] // new bytes are for `receive`, and before `open` all that is kept is new
        } else if !control.kept.is_empty() {
            shard.input.slice_mut(&control.kept)
        } else {
            &mut *self.fresh
        };
        let (pool, shared, index) = (shard.output.lend(), &shard.shared, self.index);
        let consumed = &mut self.consumed;
        Some(Socket { stream: Stream { control, pool, bytes, consumed, shared, index }, data })
    }

    /// Applies what the last callback did: takes away what it consumed, keeps what it left, and moves
    /// the socket through its life.
    fn settle(&mut self) {
        self.settle_input();
        if !self.control().asked.is_empty() {
            self.settle_asked();
        }
        let control = self.control();
        if control.state == State::Draining && control.chain.is_empty() {
            let now = self.shard.now.tick();
            self.control().step(Step::Flushed, now);
        }
        if !self.control().state.is_live() {
            self.settle_ending();
        }
    }

    fn settle_input(&mut self) {
        let consumed = core::mem::take(&mut self.consumed);
        if !self.fresh.is_empty() {
            if self.control().pending.has(Pending::RECEIVE) {
                return; // nobody has seen them yet
            }
            let rest = core::mem::take(&mut self.fresh).get(consumed..).unwrap_or_default();
            if !rest.is_empty() {
                self.keep(rest);
            }
        } else if consumed > 0
            && let Some(slot) = self.shard.slots.get_mut(self.index)
        {
            self.shard.input.consume(&mut slot.control.kept, consumed);
        }
    }

    #[cold]
    fn settle_asked(&mut self) {
        let now = self.shard.now.tick();
        let local = self.shard.local_reason();
        let asked = core::mem::take(&mut self.control().asked);
        self.release_tail(); // what is asked for counts behind all that was queued
        if asked.has(Asked::ENDS) {
            self.control().flags.set(Flags::CLOSING);
            // a driver may close before `open` was given
            self.control().pending = self.control().pending.only(Pending::OPEN);
        }
        if !self.control().state.is_live() {
            if asked.has(Asked::ABORT) {
                self.control().flags.set(Flags::RESET); // it is `close`, and only how the descriptor is closed is open
            }
            return;
        }
        let unread = !self.fresh.is_empty() || self.control().may_have_unread();
        let control = self.control();
        let orderly = if control.flags.has(Flags::PEER_ENDED) { CloseReason::Peer } else { local };
        let (step, reason) = if asked.has(Asked::ABORT) {
            (Step::Abort, CloseReason::Aborted)
        } else if asked.has(Asked::LINGER) || (asked.has(Asked::CLOSE) && unread) {
            (Step::Linger, orderly)
        } else if asked.has(Asked::CLOSE) {
            (Step::Close, orderly)
        } else {
            (Step::Finish, orderly)
        };
        control.because(reason);
        control.step(step, now);
    }

    fn release_tail(&mut self) {
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.release_tail(&self.shard.output.lend());
        }
    }

    /// A socket that is past its live states gets no event but the last, and holds no input.
    #[inline(never)]
    fn settle_ending(&mut self) {
        self.release_tail(); // it is lost if the socket is closed, and counts as such
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        // `open` may not have been given yet; and the peer's end, with what came before it, is news
        // even if it was the last thing to come
        let news = if control.pending.has(Pending::PEER_CLOSED) { Pending::LAST } else { Pending::OPEN };
        control.pending = control.pending.only(news);
        if control.pending.is_empty() {
            self.fresh = &mut [];
            self.shard.input.release(&mut control.kept);
        }
        if control.chain.waiting != Waiting::None {
            self.shard.dequeue_waiter(self.index);
        }
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        // what of a send in flight was done is not known before it is over, and `close` says what was not sent
        if control.state == State::Closed && !control.flags.has(Flags::ENDED.with(Flags::IN_FLIGHT)) {
            let opened = control.flags.has(Flags::OPENED) || control.pending.has(Pending::OPEN);
            control.pending.set(if opened { Pending::CLOSE } else { Pending::REFUSED });
        }
    }

    /// Ends the port: what was not consumed is kept, and the driver is told what to do.
    pub fn finish(&mut self) -> Next {
        self.settle();
        self.keep_fresh();
        self.conclude()
    }

    /// Ends a settled port.
    fn conclude(&mut self) -> Next {
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.trim(&mut self.shard.output);
        }
        let waits = self.grant_writable();
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return Next::Wait(Interest::NONE) };
        let control = &mut slot.control;
        if control.state == State::Closed {
            return self.finish_closed();
        }
        let queue = !control.pending.is_empty();
        let was = control.chain.waiting;
        let room = !control.state.is_live() || self.shard.input.room(&control.kept, was) > 0;
        let waiting = if waits {
            Waiting::Output
        } else if !room && control.state.reads() && !control.holds_back() {
            self.shard.input.wait_queue(&control.kept)
        } else {
            Waiting::None
        };
        let next = control.next(room);
        if control.flags.has(Flags::TIMES) {
            self.shard.refile(self.index);
        }
        if queue {
            self.shard.queue(self.index);
        }
        if waiting != was {
            self.change_queue(waiting);
        }
        next
    }

    /// Changes the queue in which the socket waits for a block.
    #[cold]
    fn change_queue(&mut self, waiting: Waiting) {
        let control = self.control();
        let was = control.chain.waiting;
        let granted = was.is_granted() && control.pending.has(Pending::WRITABLE);
        let waits = was == Waiting::OutputAgain && waiting == Waiting::Output;
        let receives = was == Waiting::MayReceive && waiting == Waiting::None && control.kept.is_empty();
        if granted || waits || receives {
            return;
        }
        self.shard.dequeue_waiter(self.index);
        if waiting != Waiting::None {
            let again = was.is_granted() || matches!(was, Waiting::GrantTaken | Waiting::OutputTaken);
            self.shard.enqueue_waiter(self.index, waiting, again);
        }
    }

    fn finish_closed(&mut self) -> Next {
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return Next::Close };
        let control = &mut slot.control;
        if !control.pending.is_empty() {
            // a pull user has not taken the last event yet
            self.shard.queue(self.index);
            return Next::Wait(Interest::NONE);
        }
        if control.flags.has(Flags::IN_FLIGHT) {
            return Next::Cancel;
        }
        if let Some(data) = slot.data.take() {
            self.shard.stats.ended(control);
            drop(data); // may panic: by then it is counted
        }
        self.shard.stats.bytes_lost += control.chain.queued() as u64;
        let cut = matches!(control.reason, Some(CloseReason::Aborted | CloseReason::HandlerPanic));
        self.shard.broke_off = cut || control.flags.has(Flags::RESET) || !control.chain.is_empty();
        control.chain.clear(&mut self.shard.output);
        let now = self.shard.now.tick();
        control.step(Step::Release, now);
        self.shard.retire(self.index);
        Next::Close
    }
}

/// A [`Port`] of a socket about which nothing is special, by [`Shard::usual_port`], for the whole way of a request with
/// one look at the slot. It does what a port does, and differs in its cost alone.
pub struct UsualPort<'p, 's, D> {
    control: &'p mut Control,
    data: &'p mut D,
    output: &'p mut Blocks<'s>,
    stats: &'p mut Stats,
    shared: &'p Shared,
    index: u32,
    now: u32,
    block_size: usize,
}

impl<D> fmt::Debug for UsualPort<'_, '_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsualPort").field("index", &self.index).finish_non_exhaustive()
    }
}

/// Where [`UsualPort::receive`] has stopped, for [`Port::go_on`].
#[derive(Debug)]
#[must_use = "the socket stalls unless its port goes on"]
pub struct Stopped(Stop);

#[derive(Debug)]
enum Stop {
    /// After the event, of which more follows than usual.
    Event { consumed: usize },
    /// Before the output, which is in several blocks.
    Pieces,
    /// After the send, of which more follows than usual.
    Send { offered: usize, sent: Sent },
}

impl<D> UsualPort<'_, '_, D> {
    /// The most bytes that may be received now, as by [`Port::room`].
    #[must_use]
    #[inline]
    pub const fn room(&self) -> usize {
        self.shared.capacity as usize
    }

    /// Returns whether so many bytes are as usual: at least one, and less than a block. If not, they go to
    /// [`Port::receive`].
    #[must_use]
    #[inline]
    pub const fn takes(&self, bytes: usize) -> bool {
        bytes > 0 && bytes < self.block_size
    }

    /// Delivers bytes of a number that the port [`takes`](Self::takes), and carries out what follows, as
    /// [`Port::receive`] does.
    ///
    /// # Errors
    ///
    /// When more follows than usual: then [`Port::go_on`] must be called, with the same bytes.
    ///
    /// # Panics
    ///
    /// In a build with debug assertions, when the port does not take so many bytes.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        self,
        bytes: &mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Result<Settled, Stopped> {
        debug_assert!(self.takes(bytes.len()), "{} bytes are not as usual", bytes.len());
        let Self { control, data, output, stats, shared, index, now, .. } = self;
        let (length, mut consumed) = (bytes.len(), 0);
        stats.bytes_in += length as u64;
        control.seen = now;
        let stream = Stream { control, pool: output.lend(), bytes, consumed: &mut consumed, shared, index };
        handler.event(&mut Socket { stream, data }, Event::Receive, &mut calls.context());
        if consumed < length || !control.is_usual() || control.chain.holds_unused() {
            return Err(Stopped(Stop::Event { consumed }));
        }
        if control.chain.is_empty() {
            return Ok(Settled::Waiting(Interest::READ));
        }
        // most answers are in one block, and one send takes them
        let Some(piece) = control.chain.only_piece(output) else { return Err(Stopped(Stop::Pieces)) };
        let (offered, sent) = (piece.len(), calls.send(piece));
        if sent != Sent::Bytes(offered) || handler.wants_sent() {
            return Err(Stopped(Stop::Send { offered, sent }));
        }
        stats.bytes_out += offered as u64;
        control.chain.sent_only_piece(output);
        control.chain.set_hold(Hold::None);
        Ok(Settled::Waiting(Interest::READ))
    }
}

impl<'s, D> Shard<'s, D> {
    /// The socket of a token, if it is open, nothing about it is special, and there is room for what it may receive.
    /// `None` says no more than that it is to be dealt with by its [`port`](Self::port).
    #[must_use]
    #[inline(always)]
    pub fn usual_port(&mut self, token: Token) -> Option<UsualPort<'_, 's, D>> {
        let index = token.index();
        if !self.input.large.has_spare() {
            return None;
        }
        let usual = self.usual(index)?;
        (usual.shared.token.at(index, usual.control.generation) == token).then_some(usual)
    }

    #[inline(always)]
    fn usual(&mut self, index: u32) -> Option<UsualPort<'_, 's, D>> {
        let Slot { control, data: Some(data) } = self.slots.get_mut(index)? else { return None };
        if !control.is_usual() {
            return None;
        }
        let Self { output, stats, shared, now, config, .. } = self;
        let (now, block_size) = (now.tick(), config.block_size);
        Some(UsualPort { control, data, output, stats, shared, index, now, block_size })
    }
}

impl Control {
    /// Whether the handler's side keeps the socket from being read: also while a `writable` that was granted is still
    /// to be given, since it may be followed by another refusal.
    pub(crate) fn holds_back(&self) -> bool {
        self.chain.armed || self.flags.has(Flags::PAUSED) || self.pending.has(Pending::WRITABLE)
    }

    /// Whether closing at once may leave bytes of the peer unread in the kernel.
    fn may_have_unread(&self) -> bool {
        !self.flags.has(Flags::PEER_ENDED)
            && (!self.kept.is_empty() || self.holds_back() || self.flags.has(Flags::FILLED))
    }

    /// No first byte can come any more: another timeout holds from now on, that of a write stall if it is switched on.
    fn stays_silent(&mut self, stalls: bool, now: u32) {
        self.flags.clear(Flags::SILENT);
        self.flags.set(Flags::TIMES);
        let stalled = stalls && self.flags.has(Flags::STALLED);
        self.seen = if stalled { self.kept.noted() } else { now };
    }

    pub(crate) fn takes_messages(&self) -> bool {
        self.state.is_live() && self.flags.has(Flags::OPENED)
    }

    /// What is seldom so when bytes come: the first ones, as many as there was room for, or too many.
    #[cold]
    #[inline(never)]
    fn received_unusually(&mut self, bytes: usize, room: usize) {
        let room = if self.flags.has(Flags::PEER_ENDED) { 0 } else { room };
        assert!(bytes <= room, "received {bytes} bytes with room for {room}");
        if self.flags.has(Flags::SILENT) {
            self.flags.set(Flags::TIMES); // another timeout holds from now on
            if self.flags.has(Flags::STALLED) {
                self.seen = self.kept.noted();
            }
        }
        self.flags.clear(Flags::SILENT.with(Flags::FILLED));
        if bytes == room {
            self.flags.set(Flags::FILLED);
        }
    }

    /// Whether the socket is open, nothing is due or was asked for, nothing is kept, and nothing about it is special.
    #[inline(always)]
    fn is_usual(&self) -> bool {
        const SPECIAL: Flags = Flags::UNUSUAL
            .with(Flags::STALLED)
            .with(Flags::IN_FLIGHT)
            .with(Flags::PAUSED)
            .with(Flags::BLOCKED)
            .with(Flags::TIMES);
        // one branch for all of it, and neighbours loaded together
        let due = u32::from(self.flags.bits()) | u32::from(self.pending.bits()) << 16;
        let due = due & (u32::from(SPECIAL.bits()) | 0xFFFF << 16);
        let asked = u32::from(self.state as u8) | u32::from(self.asked.bits()) << 8;
        let asked = asked ^ State::Open as u32;
        let special = due | asked | self.kept.bits() | u32::from(self.chain.armed);
        special == 0
    }

    /// Whether the socket is open and nothing was asked for.
    #[inline]
    fn is_plain(&self) -> bool {
        self.state.is_live() && self.asked.is_empty()
    }

    /// Whether there is nothing more to do than to say what is next.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.pending.is_empty()
            && self.kept.is_empty()
            && !self.chain.armed
            && !self.flags.has(Flags::TIMES)
            && !self.chain.holds_unused()
    }

    /// [`next`](Self::next) of a quiet socket, for which little can be.
    #[inline(always)]
    fn next_plain(&self) -> Next {
        let open = matches!(self.state, State::Open);
        if !open || self.flags.has(Flags::PAUSED.with(Flags::BLOCKED).with(Flags::IN_FLIGHT)) {
            return self.next(true);
        }
        if self.chain.is_empty() { Next::Wait(Interest::READ) } else { Next::Send }
    }

    /// What the driver does next: a function of the socket's state alone.
    #[inline(never)]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the states that are left differ in what they read alone"
    )]
    fn next(&self, room: bool) -> Next {
        let send = !self.chain.is_empty() && !self.flags.has(Flags::BLOCKED.with(Flags::IN_FLIGHT));
        match self.state {
            State::Free | State::Reserved => Next::Wait(Interest::NONE),
            State::Connecting => Next::Wait(Interest::WRITE),
            State::Closed => Next::Close,
            _ if send => Next::Send,
            State::Finishing | State::Parting if self.chain.is_empty() => Next::Shut,
            _ => {
                let read = self.state.reads() && room && !(self.state.is_live() && self.holds_back());
                Next::Wait(Interest::new(read, self.flags.has(Flags::BLOCKED)))
            }
        }
    }
}
