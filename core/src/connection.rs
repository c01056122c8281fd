//! A driver's view of one socket of a shard.

use crate::actions::{ContextCalls, Sent, Settled, carry_out, report_sent};
use crate::address::Address;
use crate::buffer::{Blocks, WritableGate};
use crate::error::{CloseReason, ErrorKind};
use crate::handler::{Context, Event, Handler};
use crate::interest::Interest;
use crate::life::{State, Transition};
use crate::shard::Shard;
use crate::slot::{ControlBlock, Flags, Pending, Requests, Slot};
use crate::socket::{SharedView, Socket, Stream};
use crate::stats::Stats;
use crate::time::Instant;
use crate::token::Token;
use crate::wait_queue::Waiting;
use core::fmt;

/// The action that the driver carries out next for a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the socket stalls unless the action is carried out"]
pub enum Action {
    /// Wait for this interest.
    Wait(Interest),
    /// Send bytes from [`Connection::outputs`], then report the result, as [`report_sent`] does.
    Send,
    /// Shut down writing, then call [`Connection::write_shut_down`].
    ShutdownWrite,
    /// Cancel the send in flight, then call [`Connection::sent`] with the number of bytes it has sent. The `close`
    /// event follows.
    CancelSend,
    /// Close the connection. The slot is already free; its token is stale.
    /// [`Shard::needs_reset`](crate::Shard::needs_reset) returns whether to reset the connection.
    Close,
}

impl Action {
    /// Returns the interest if the action is only to wait.
    #[must_use]
    #[inline]
    pub const fn waits_for(self) -> Option<Interest> {
        match self {
            Self::Wait(interest) => Some(interest),
            Self::Send | Self::ShutdownWrite | Self::CancelSend | Self::Close => None,
        }
    }
}

/// One socket, borrowed from its [`Shard`] to report what happened to it, to deliver its events, and to
/// determine the next action.
///
/// First call the methods that report what happened. Then there are two ways to continue, with the same
/// transitions. Push: call [`run`](Self::run) with a handler. Pull: call [`next_event`](Self::next_event) until
/// it returns `None`, then [`finish`](Self::finish). If a connection is dropped without either, the bytes passed to
/// [`received`](Self::received) are lost.
#[derive(Debug)]
pub struct Connection<'p, 's, D> {
    shard: &'p mut Shard<'s, D>,
    index: u32,
    /// Bytes that have just arrived and are not in a block.
    fresh: &'p mut [u8],
    consumed: usize,
}

impl<'p, 's, D> Connection<'p, 's, D> {
    #[inline]
    pub(crate) fn new(shard: &'p mut Shard<'s, D>, index: u32) -> Self {
        Self { shard, index, fresh: &mut [], consumed: 0 }
    }

    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "a connection is created for a slot in use, and slots are never removed"
    )]
    fn control(&mut self) -> &mut ControlBlock {
        &mut self.shard.slots.get_mut(self.index).expect("the connection's slot").control
    }

    /// Returns the socket's token.
    #[must_use]
    pub fn token(&self) -> Token {
        match self.shard.token(self.index) {
            Some(token) => token,
            None => unreachable!("a connection is created for a slot in use, and slots are never removed"),
        }
    }

    /// Returns the maximum number of bytes that may be received now.
    ///
    /// If it is 0, do not receive: [`run`](Self::run) or [`finish`](Self::finish) the connection, and carry out the
    /// action that this returns. It is 0 when other sockets have taken the last input block, for example.
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
            // discarded on arrival
            self.shard.input.capacity()
        }
    }

    /// Reports that bytes have arrived, at most [`room`](Self::room) of them. They are lent until the connection
    /// has run: the handler sees this slice itself, and may modify it in place.
    ///
    /// # Panics
    ///
    /// If there are more bytes than room, or they arrive after the end of the stream.
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
        // fewer bytes than a block fit into any free block, so the room need not be computed
        let small = bytes.len() < self.shard.config.block_size && self.shard.input.has_blocks();
        let first = control.kept.is_empty() && self.fresh.is_empty();
        if !small || !first || control.flags.has(Flags::UNUSUAL) {
            let room = self.shard.input.room(&control.kept, control.chain.waiting);
            let room = room.saturating_sub(self.fresh.len());
            control.received_unusually(bytes.len(), room);
        }
        // `seen` measures the write stall while the socket is stalled: receiving must not postpone it
        if !control.flags.has(Flags::STALLED) || self.shard.config.timeouts.write_stall.is_none() {
            control.seen = now;
        }
        control.pending.set(Pending::RECEIVE);
        // The handler sees one slice. Bytes that follow others must be appended to those, in a block.
        if first {
            self.fresh = bytes;
        } else {
            self.keep_fresh();
            self.keep(bytes);
        }
    }

    /// Copies bytes that no event has shown yet into a block.
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

    /// Reports that the peer has ended its stream.
    pub fn peer_ended(&mut self) {
        let now = self.shard.now.tick();
        let stalls = self.shard.config.timeouts.write_stall.is_some();
        let control = self.control();
        let was_live = control.state.is_live();
        if control.flags.has(Flags::PEER_ENDED) || !control.step(Transition::PeerEnd, now) {
            return;
        }
        control.flags.set(Flags::PEER_ENDED);
        // if the step has ended the socket, it has also restarted `seen`
        if control.flags.has(Flags::SILENT) && control.state.is_live() {
            // A first byte cannot arrive any more. Another timeout starts instead: the write stall timeout if it is
            // enabled and the socket is stalled, else the idle timeout.
            control.flags.clear(Flags::SILENT);
            control.flags.set(Flags::TIMES);
            let stalled = stalls && control.flags.has(Flags::STALLED);
            control.seen = if stalled { control.kept.noted() } else { now };
        }
        // also if the step has ended the socket: `peer_closed` is delivered nevertheless
        if was_live {
            control.pending.set(Pending::PEER_CLOSED);
        }
    }

    /// Reports that a call on the socket, or its connect, has failed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all kinds but a reset are passed on unchanged")]
    pub fn failed(&mut self, error: ErrorKind) {
        self.abort_with(match error {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => CloseReason::Reset,
            other => CloseReason::Error(other),
        });
    }

    /// Ends the socket immediately, for this reason. A reserved slot ends when it is [dialed](Shard::dial).
    pub fn abort_with(&mut self, reason: CloseReason) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Reserved {
            control.flags.set(Flags::CLOSING);
        }
        if matches!(control.state, State::Reserved | State::Closed) {
            return;
        }
        // a lingering socket has sent everything and shut down writing: a failure is not why it ends
        if control.state != State::Lingering {
            control.set_close_reason(reason);
        }
        control.step(Transition::Fail, now);
    }

    /// Ends the socket after its handler has panicked: immediately, unless the callback had called
    /// [`close`](Stream::close) or [`linger`](Stream::linger) before. Then the queued output is still sent, but no event
    /// except `close` follows.
    pub fn panicked(&mut self) {
        let control = self.control();
        let orderly = control.asked.has(Requests::CLOSE) || control.asked.has(Requests::LINGER);
        if control.state.is_live() && orderly && !control.asked.has(Requests::ABORT) {
            control.set_close_reason(CloseReason::HandlerPanic);
            if !control.flags.has(Flags::PEER_ENDED) {
                // how much of the input was unread is lost with the callback, so the close is staged in any case
                control.asked.set(Requests::LINGER);
            }
            self.settle_asked();
        } else if control.state != State::Closed {
            self.abort_with(CloseReason::HandlerPanic);
            self.control().flags.set(Flags::RESET);
        }
    }

    /// Ends the socket to make room for another one, if it is [idle](crate::Config::evict_after). The caller has chosen
    /// it with [`Shard::longest_idle`].
    pub fn evict(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.is_idle() {
            control.set_close_reason(CloseReason::Evicted);
            control.step(Transition::Expire, now);
        }
    }

    /// Reports that the connect has succeeded: `open` is pending.
    pub fn connected(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Connecting && control.step(Transition::Connected, now) {
            control.seen = now;
            control.pending.set(Pending::OPEN);
            self.shard.stats.connected += 1;
        }
    }

    /// Reports that the connect could not be started yet, and that no event will signal when it can. The
    /// shard [requests](crate::Shard::is_asking) another attempt at this time. The connect timeout continues.
    pub fn connect_again_at(&mut self, at: Instant) {
        let control = self.control();
        if control.state == State::Connecting {
            control.deadline = at.tick();
            control.flags.set(Flags::DEADLINE.with(Flags::TIMES));
        }
    }

    /// Returns the address to connect to again, if the shard [requests](crate::Shard::is_asking) another attempt.
    #[must_use]
    pub fn take_connect(&mut self) -> Option<Address> {
        if !self.is_connecting() || !self.shard.take_asked(self.index) {
            return None;
        }
        Some(self.control().peer.unpack())
    }

    /// Closes the socket cleanly, as the handler's `close` does. A connect is cancelled, even if the slot was
    /// not [dialed](Shard::dial) yet.
    pub fn close(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Reserved {
            control.flags.set(Flags::CLOSING);
        } else if control.state == State::Connecting {
            control.set_close_reason(CloseReason::Local);
            control.step(Transition::Close, now);
        } else {
            control.asked.set(Requests::CLOSE);
        }
    }

    /// Returns the state of the socket in its [life cycle](crate::life). Requests of the last callback take
    /// effect once [`run`](Self::run) has returned.
    #[must_use]
    pub fn state(&mut self) -> State {
        self.control().state
    }

    /// Returns whether the handler has declared the socket [active](crate::Stream::set_active).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shard.slots.get(self.index).is_some_and(|slot| slot.control.flags.has(Flags::ACTIVE))
    }

    /// Returns whether a connect is in progress.
    #[must_use]
    pub fn is_connecting(&self) -> bool {
        self.shard.slots.get(self.index).is_some_and(|slot| slot.control.state == State::Connecting)
    }

    /// Reports that the engine is shutting down. `shutdown` becomes pending for an open socket; a connecting
    /// socket ends.
    pub fn shutdown(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if control.state == State::Connecting {
            control.set_close_reason(CloseReason::Shutdown);
            control.step(Transition::Close, now);
        } else if control.state.is_live() {
            control.pending.set(Pending::SHUTDOWN);
        }
    }

    /// Returns the first piece of the queued bytes, and whether it is all of them. Most sends need no more.
    #[must_use]
    #[inline]
    pub fn output(&self) -> (&[u8], bool) {
        let Some(slot) = self.shard.slots.get(self.index) else { return (&[], true) };
        let piece = slot.control.chain.first(&self.shard.output);
        (piece, piece.len() == slot.control.chain.queued())
    }

    /// Fills `to` with the queued bytes, in order from the front. Returns the number of slices that were filled in.
    #[inline]
    pub fn outputs<'a>(&'a self, to: &mut [&'a [u8]]) -> usize {
        let Some(slot) = self.shard.slots.get(self.index) else { return 0 };
        slot.control.chain.slices(&self.shard.output, to)
    }

    /// Reports that a send of queued bytes has started and completes later. The bytes stay in place, and their blocks
    /// leased, until [`sent`](Self::sent) reports the result.
    pub fn send_started(&mut self) {
        self.control().flags.set(Flags::IN_FLIGHT);
        self.stall();
    }

    /// Reports that the first `n` queued bytes have been passed to the operating system. 0 means that a send
    /// in flight has ended without sending any.
    ///
    /// # Panics
    ///
    /// If fewer than `n` bytes are queued.
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
        if control.flags.has(Flags::STALLED.with(Flags::RATED)) {
            control.flags.set(Flags::TIMES); // the timeout that now applies may be due earlier
            if control.flags.has(Flags::RATED) {
                self.shard.windows.sent(self.index, n);
            }
        }
        control.flags.clear(Flags::IN_FLIGHT.with(Flags::STALLED));
        control.chain.sent(&mut self.shard.output, n);
        if !control.state.is_live() {
            control.seen = now;
            return;
        }
        // sending must not postpone the first byte timeout
        if !control.flags.has(Flags::SILENT) || self.shard.config.timeouts.first_byte.is_none() {
            control.seen = now;
        }
        if control.chain.is_empty() {
            control.pending.set(Pending::SENT);
        }
        // some output has left, which is what a held `writable` was waiting for
        control.chain.set_hold(WritableGate::None);
        if control.chain.armed {
            self.grant_writable();
        }
    }

    /// Makes `writable` due if the socket is armed and there is room. Returns whether the socket must wait in the
    /// queue for an output block. A socket with queued bytes need not: it continues when they have left.
    fn grant_writable(&mut self) -> bool {
        let most = self.shard.config.output_limit;
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return false };
        let control = &mut slot.control;
        // Not before half of the chain has left, so that a handler refills it in large pieces and is not called for
        // every block.
        if !control.chain.armed || !control.chain.is_low(most) || !control.state.is_live() {
            return false;
        }
        // it can use no block any more, and would not be read while it waits for one
        if !control.state.writes() {
            control.chain.armed = false;
            control.pending.set(Pending::WRITABLE);
            return false;
        }
        let leasable = control.chain.leasable(&self.shard.output);
        let queued = !control.chain.is_empty();
        // With an empty queue and as many free blocks as the socket may hold, nothing better can come. A tail occupies
        // blocks until the handler ends it, so with one, all of them are never free.
        let all = !queued && !control.chain.has_tail() && control.chain.held() + leasable >= most;
        // Held: the handler has found too little room, and would again. `sent` ends the hold when bytes have
        // left; with none queued, the wait queue notices returned blocks.
        if leasable == 0 || (control.chain.hold() == WritableGate::Held && !all) {
            return !queued;
        }
        // A socket that holds a block can use it right away. For one that holds none, a block is set aside
        // until `writable` is delivered: other sockets could take the last one in between.
        if control.chain.held() > 0 {
            control.chain.armed = false;
            control.pending.set(Pending::WRITABLE);
        } else {
            self.shard.dequeue_waiter(self.index);
            self.shard.grant(self.index, Waiting::Granted);
        }
        false
    }

    /// Reports that the operating system takes no more bytes now. The next action waits until it does.
    pub fn would_block(&mut self) {
        self.control().flags.clear(Flags::IN_FLIGHT);
        self.control().flags.set(Flags::BLOCKED);
        self.stall();
    }

    /// Starts the write stall timeout, unless it is already running.
    fn stall(&mut self) {
        let now = self.shard.now.tick();
        let waits_for_first = self.shard.config.timeouts.first_byte.is_some();
        let control = self.control();
        if !control.flags.has(Flags::STALLED) {
            control.flags.set(Flags::STALLED.with(Flags::TIMES));
            let silent = control.flags.has(Flags::SILENT);
            if silent {
                control.kept.note(now); // a silent socket keeps no bytes, so `kept` has room for a time
            }
            if !silent || !waits_for_first {
                control.seen = now; // otherwise it remains the time of opening
            }
            // what was undelivered during an earlier stall says nothing about this one
            self.shard.note(self.index, 0);
        }
    }

    /// Reports how many sent bytes the system has not delivered, when the shard
    /// [requests](crate::Shard::is_asking) it; `None` if that is unknown. Returns whether something is due
    /// for the socket: then [`run`](Self::run) or [`finish`](Self::finish) the connection.
    pub fn undelivered(&mut self, bytes: Option<usize>) -> bool {
        self.shard.look(self.index, bytes)
    }

    /// Reports that sending is possible again.
    pub fn writable(&mut self) {
        self.control().flags.clear(Flags::BLOCKED);
    }

    /// Reports that writing has been shut down.
    pub fn write_shut_down(&mut self) {
        let now = self.shard.now.tick();
        let control = self.control();
        if matches!(control.state, State::Finishing | State::PreLinger) {
            control.step(Transition::WriteShut, now);
        }
    }

    /// Defers the remaining work of the socket to the next turn, so that other sockets come first.
    pub fn defer(&mut self) {
        self.keep_fresh();
        self.shard.queue(self.index);
    }

    /// Delivers the pending events, then a message, and then the events that follow from it.
    ///
    /// # Errors
    ///
    /// Returns the message if the socket is not open.
    pub fn message<H: Handler<Data = D>>(
        &mut self,
        message: H::Message,
        handler: &mut H,
        cx: &mut Context<'_, H::Message>,
    ) -> Result<Action, H::Message> {
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

    /// Delivers the pending events, then `room`, and then the events that follow from it. `None` if the socket is not
    /// open, so that `room` was not delivered.
    pub fn tell_room<H: Handler<Data = D>>(
        &mut self,
        at: crate::PollerId,
        handler: &mut H,
        cx: &mut Context<'_, H::Message>,
    ) -> Option<Action> {
        self.deliver(handler, cx);
        let is_open = self.control().takes_messages();
        if !is_open {
            return None;
        }
        if let Some(mut socket) = self.view(Pending::default()) {
            handler.event(&mut socket, Event::Room(at), cx);
        }
        Some(self.run_all(handler, cx))
    }

    /// Delivers all pending events and returns the next action. After [`Action::Close`], the connection must not be
    /// used.
    #[inline(always)]
    pub fn run<H: Handler<Data = D>>(&mut self, handler: &mut H, cx: &mut Context<'_, H::Message>) -> Action {
        if let Some(next) = self.run_plain(handler, cx) {
            return next;
        }
        self.run_all(handler, cx)
    }

    /// Reports received bytes, if there are any, delivers the pending events, and carries out the actions
    /// that follow.
    ///
    /// This is [`received`](Self::received), [`run`](Self::run) and [`carry_out`] in one, with a fast path
    /// for the complete handling of a request on a socket in an ordinary state. The result is the same.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        let shard = &mut *self.shard;
        // fewer bytes than a block fit into any free block, so the room need not be computed
        let fits = bytes.len() < shard.config.block_size && shard.input.has_blocks() && !bytes.is_empty();
        // after a pulled event, the bytes before are not settled yet
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

    /// Continues with `bytes` where [`FastPath::receive`] stopped.
    #[inline(never)]
    pub fn go_on<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        stopped: LeftFastPath,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        match stopped.0 {
            FastPathStop::Event { consumed } => {
                (self.fresh, self.consumed) = (bytes, consumed);
                let next = self.run_all(handler, &mut calls.context());
                self.carry_out(next, 0, handler, calls)
            }
            FastPathStop::Pieces => self.carry_out(Action::Send, 0, handler, calls),
            FastPathStop::Send { offered, sent } => self.go_on_after_send(offered, sent, handler, calls),
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
        report_sent(self, offered, sent);
        let next = self.run(handler, &mut calls.context());
        self.carry_out(next, 1, handler, calls)
    }

    /// Carries out the actions of the socket with a handler, as [`carry_out`] does.
    #[inline(never)]
    pub fn carry_out<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        next: Action,
        sends: usize,
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        carry_out(self, next, sends, calls, |conn, calls| conn.run(handler, &mut calls.context()))
    }

    /// Runs the fast path of [`run`](Self::run), for the two events of a simple request: bytes were received and all
    /// were consumed, or all queued bytes were sent. Returns `None` if more is to be done; the event may already
    /// have been delivered then.
    #[inline(always)]
    fn run_plain<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        cx: &mut Context<'_, H::Message>,
    ) -> Option<Action> {
        let shard = &mut *self.shard;
        let slot = shard.slots.get_mut(self.index)?;
        let control = &mut slot.control;
        // after a pulled event, what was consumed must be settled first
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
            return None;
        }
        // no check for a free input block: without one, `room` returns 0 and the driver runs the connection again
        (self.fresh, self.consumed) = (&mut [], 0);
        Some(control.next_plain())
    }

    #[inline(never)]
    fn run_all<H: Handler<Data = D>>(&mut self, handler: &mut H, cx: &mut Context<'_, H::Message>) -> Action {
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

    /// Returns the next pending event, with its socket. First applies the requests made in the previous
    /// event.
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

    /// Returns whether earlier events of this connection have made an event obsolete.
    fn is_overtaken(&mut self, event: Pending) -> bool {
        let most = self.shard.config.output_limit;
        let fresh = !self.fresh.is_empty();
        let control = self.control();
        match event {
            // the bytes were consumed in an earlier event
            Pending::RECEIVE => !fresh && control.kept.is_empty(),
            // more was queued: `sent` comes when that has been sent, too
            Pending::SENT => !control.chain.is_empty(),
            // the queue was filled again: `writable` comes later
            Pending::WRITABLE => {
                control.chain.armed |= !control.chain.is_low(most);
                if !control.chain.armed {
                    control.chain.set_hold(WritableGate::Given);
                }
                control.chain.armed
            }
            _ => false,
        }
    }

    fn event<M>(&mut self, which: Pending) -> Event<M> {
        // The flags are set before the callback, which may panic: after an `open` that panics, `close` follows, and
        // after a last event that panics, no event does.
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

    /// Returns the view of the socket that an event shows.
    fn view(&mut self, event: Pending) -> Option<Socket<'_, D>> {
        let shard = &mut *self.shard;
        let slot = shard.slots.get_mut(self.index)?;
        let data = slot.data.as_mut()?;
        let control = &mut slot.control;
        let still_to_come = control.pending.has(Pending::RECEIVE);
        let bytes = if still_to_come && (control.kept.is_empty() || event == Pending::OPEN) {
            &mut [] // new bytes are first shown in `receive`; before `open`, all kept bytes are new
        } else if !control.kept.is_empty() {
            shard.input.slice_mut(&control.kept)
        } else {
            &mut *self.fresh
        };
        let (pool, shared, index) = (shard.output.lend(), &shard.shared, self.index);
        let consumed = &mut self.consumed;
        Some(Socket { stream: Stream { control, pool, bytes, consumed, shared, index }, data })
    }

    /// Applies the effects of the last callback: removes what it consumed, keeps what it left, and takes the
    /// steps that it requested.
    fn settle(&mut self) {
        let consumed = core::mem::take(&mut self.consumed);
        if self.fresh.is_empty() {
            if consumed > 0
                && let Some(slot) = self.shard.slots.get_mut(self.index)
            {
                self.shard.input.consume(&mut slot.control.kept, consumed);
            }
        } else if !self.control().pending.has(Pending::RECEIVE) {
            // An event has shown the slice, which is only lent: bytes that the handler left must be copied before
            // the connection ends.
            let rest = core::mem::take(&mut self.fresh).get(consumed..).unwrap_or_default();
            if !rest.is_empty() {
                self.keep(rest);
            }
        }
        if !self.control().asked.is_empty() {
            self.settle_asked();
        }
        let control = self.control();
        if control.state == State::Draining && control.chain.is_empty() {
            let now = self.shard.now.tick();
            self.control().step(Transition::Flushed, now);
        }
        if !self.control().state.is_live() {
            self.settle_ending();
        }
    }

    #[cold]
    fn settle_asked(&mut self) {
        let now = self.shard.now.tick();
        let asked = core::mem::take(&mut self.control().asked);
        self.release_tail(); // all queued output precedes the end, held-back output included
        if asked.has(Requests::ENDS) {
            self.control().flags.set(Flags::CLOSING);
            // a driver may close a socket before `open` was delivered
            self.control().pending = self.control().pending.only(Pending::OPEN);
        }
        if !self.control().state.is_live() {
            if asked.has(Requests::ABORT) {
                self.control().flags.set(Flags::RESET); // in `close`: only how to close the connection is still open
            }
            return;
        }
        // Closing a socket with unread input would make the kernel reset the connection, and the peer would
        // lose the last output. So such a close is staged.
        let unread = !self.fresh.is_empty() || self.control().may_have_unread();
        let orderly = if self.control().flags.has(Flags::PEER_ENDED) {
            CloseReason::Peer
        } else if self.shard.shared.stopping {
            CloseReason::Shutdown
        } else {
            CloseReason::Local
        };
        let control = self.control();
        let (step, reason) = if asked.has(Requests::ABORT) {
            (Transition::Abort, CloseReason::Aborted)
        } else if asked.has(Requests::LINGER) || (asked.has(Requests::CLOSE) && unread) {
            (Transition::Linger, orderly)
        } else if asked.has(Requests::CLOSE) {
            (Transition::Close, orderly)
        } else {
            (Transition::Finish, orderly)
        };
        control.set_close_reason(reason);
        control.step(step, now);
    }

    fn release_tail(&mut self) {
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.release_tail(&self.shard.output.lend());
        }
    }

    /// Settles a socket that is not live any more: it receives only its last event, and holds no input.
    #[inline(never)]
    fn settle_ending(&mut self) {
        self.release_tail(); // if the socket is closed, it counts as lost
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        // `open` may still be undelivered. If the end of the peer's stream is, it must be delivered too, with
        // the bytes before it: it may be the very reason why the socket has ended.
        let news = if control.pending.has(Pending::PEER_CLOSED) { Pending::LAST } else { Pending::OPEN };
        control.pending = control.pending.only(news);
        // no event will show the input any more
        if control.pending.is_empty() {
            self.fresh = &mut [];
            self.shard.input.release(&mut control.kept);
        }
        // a block that stays set aside for this socket would be missing for those that wait
        if control.chain.waiting != Waiting::None {
            self.shard.end_wait(self.index);
        }
        let control = self.control();
        // `close` shows how many bytes were not sent, so it must wait for the result of a send in flight
        if control.state == State::Closed && !control.flags.has(Flags::ENDED.with(Flags::IN_FLIGHT)) {
            let opened = control.flags.has(Flags::OPENED) || control.pending.has(Pending::OPEN);
            control.pending.set(if opened { Pending::CLOSE } else { Pending::REFUSED });
        }
    }

    /// Ends the connection: keeps the bytes that were not consumed and returns the next action.
    pub fn finish(&mut self) -> Action {
        self.settle();
        self.keep_fresh();
        self.conclude()
    }

    /// Ends a connection that is settled.
    fn conclude(&mut self) -> Action {
        // return unused blocks first: the next line may grant them
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.trim(&mut self.shard.output);
        }
        let waits = self.grant_writable();
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return Action::Wait(Interest::NONE) };
        let control = &mut slot.control;
        if control.state == State::Closed {
            return self.finish_closed();
        }
        // `writable` may just have been granted, and a pull user may have left events
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
        let (next, times) = (control.next(room), control.flags.has(Flags::TIMES));
        if waiting != was {
            self.change_queue(waiting);
        }
        // after that, since a socket that waits for a block is not idle
        if times {
            self.shard.rearm_timer(self.index);
        }
        if queue {
            self.shard.queue(self.index);
        }
        next
    }

    /// Moves the socket to another wait queue, or to none.
    #[cold]
    fn change_queue(&mut self, waiting: Waiting) {
        let control = self.control();
        let was = control.chain.waiting;
        // Nothing changes in three cases: `writable` has yet to announce a grant; the socket waits for output
        // again already; it was permitted to receive, and no bytes have arrived yet.
        let granted = was.is_granted() && control.pending.has(Pending::WRITABLE);
        let waits = was == Waiting::OutputAgain && waiting == Waiting::Output;
        let receives = was == Waiting::MayReceive && waiting == Waiting::None && control.kept.is_empty();
        if granted || waits || receives {
            return;
        }
        if waiting == Waiting::Output {
            self.shard.dequeue_waiter(self.index);
            // the granted block was not enough: the next grant must be exclusive
            let again = was.is_granted() || matches!(was, Waiting::GrantTaken | Waiting::OutputTaken);
            self.shard.enqueue_waiter(self.index, waiting, again);
        } else {
            self.shard.end_wait(self.index);
            if waiting != Waiting::None {
                self.shard.enqueue_waiter(self.index, waiting, false);
            }
        }
    }

    fn finish_closed(&mut self) -> Action {
        let Some(slot) = self.shard.slots.get_mut(self.index) else {
            unreachable!("slots are never removed")
        };
        let control = &mut slot.control;
        if !control.pending.is_empty() {
            // a pull user has not taken the last event yet
            self.shard.queue(self.index);
            return Action::Wait(Interest::NONE);
        }
        // the bytes in flight must stay in place until the send is over
        if control.flags.has(Flags::IN_FLIGHT) {
            return Action::CancelSend;
        }
        if let Some(data) = slot.data.take() {
            self.shard.stats.ended(control);
            drop(data); // may panic: the socket is counted by then, and the next run continues below
        }
        self.shard.stats.bytes_lost += control.chain.queued() as u64;
        let cut = control.reason == Some(CloseReason::Aborted);
        // Checked before the chain is cleared: lost bytes require a reset, since to the peer a plain close
        // would look like the end of a complete stream.
        self.shard.broke_off = cut || control.flags.has(Flags::RESET) || !control.chain.is_empty();
        control.chain.clear(&mut self.shard.output);
        let now = self.shard.now.tick();
        control.step(Transition::Release, now);
        self.shard.free_slot(self.index);
        Action::Close
    }
}

/// The fast path of a [`Connection`], for a socket in an ordinary state, from [`Shard::fast_path`]. It handles a
/// complete request with one lookup of the slot. The results are those of a connection, at lower cost.
pub struct FastPath<'p, 's, D> {
    control: &'p mut ControlBlock,
    data: &'p mut D,
    output: &'p mut Blocks<'s>,
    stats: &'p mut Stats,
    shared: &'p SharedView,
    index: u32,
    now: u32,
    block_size: usize,
}

impl<D> fmt::Debug for FastPath<'_, '_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastPath").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The point at which [`FastPath::receive`] stopped, for [`Connection::go_on`].
#[derive(Debug)]
#[must_use = "the socket stalls unless its connection continues"]
pub struct LeftFastPath(FastPathStop);

#[derive(Debug)]
enum FastPathStop {
    /// After the event: it requires more than the fast path handles.
    Event { consumed: usize },
    /// Before the send: the output is in several blocks.
    Pieces,
    /// After the send: its result requires more than the fast path handles.
    Send { offered: usize, sent: Sent },
}

impl<D> FastPath<'_, '_, D> {
    /// Returns the maximum number of bytes that may be received now, as [`Connection::room`] does.
    #[must_use]
    #[inline]
    pub const fn room(&self) -> usize {
        self.shared.capacity as usize
    }

    /// Returns whether this number of bytes can take the fast path: at least one, and less than a block.
    /// Others go to [`Connection::receive`].
    #[must_use]
    #[inline]
    pub const fn takes(&self, bytes: usize) -> bool {
        bytes > 0 && bytes < self.block_size
    }

    /// Delivers bytes whose number the fast path [`takes`](Self::takes), and carries out the actions that follow, as
    /// [`Connection::receive`] does.
    ///
    /// # Errors
    ///
    /// If the fast path cannot complete the work. Then [`Connection::go_on`] must be called with the same bytes.
    ///
    /// # Panics
    ///
    /// If the fast path does not take this number of bytes, in builds with debug assertions.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        self,
        bytes: &mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Result<Settled, LeftFastPath> {
        debug_assert!(self.takes(bytes.len()), "{} bytes on the fast path", bytes.len());
        let Self { control, data, output, stats, shared, index, now, .. } = self;
        let (length, mut consumed) = (bytes.len(), 0);
        stats.bytes_in += length as u64;
        control.seen = now;
        let stream = Stream { control, pool: output.lend(), bytes, consumed: &mut consumed, shared, index };
        handler.event(&mut Socket { stream, data }, Event::Receive, &mut calls.context());
        if consumed < length || !control.is_usual() || control.chain.holds_unused() {
            return Err(LeftFastPath(FastPathStop::Event { consumed }));
        }
        if control.chain.is_empty() {
            return Ok(Settled::Waiting(Interest::READ));
        }
        // most responses are in one block and leave with one send
        let Some(piece) = control.chain.only_piece(output) else {
            return Err(LeftFastPath(FastPathStop::Pieces));
        };
        let (offered, sent) = (piece.len(), calls.send(piece));
        if sent != Sent::Bytes(offered) || handler.wants_sent() {
            return Err(LeftFastPath(FastPathStop::Send { offered, sent }));
        }
        stats.bytes_out += offered as u64;
        control.chain.sent_only_piece(output);
        control.chain.set_hold(WritableGate::None);
        Ok(Settled::Waiting(Interest::READ))
    }
}

impl<'s, D> Shard<'s, D> {
    /// Returns the fast path of a socket, if the token is valid, the socket is open and in an ordinary state, and there
    /// is room to receive. Otherwise `None`: use [`connection`](Self::connection), which also checks the token.
    #[must_use]
    #[inline(always)]
    pub fn fast_path(&mut self, token: Token) -> Option<FastPath<'_, 's, D>> {
        let index = token.index();
        if !self.input.large.has_spare() {
            return None;
        }
        let usual = self.usual(index)?;
        (usual.shared.token.at(index, usual.control.generation) == token).then_some(usual)
    }

    #[inline(always)]
    fn usual(&mut self, index: u32) -> Option<FastPath<'_, 's, D>> {
        let Slot { control, data: Some(data) } = self.slots.get_mut(index)? else { return None };
        if !control.is_usual() {
            return None;
        }
        let Self { output, stats, shared, now, config, .. } = self;
        let (now, block_size) = (now.tick(), config.block_size);
        Some(FastPath { control, data, output, stats, shared, index, now, block_size })
    }
}
