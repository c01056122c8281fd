//! A driver's view of one socket of a shard.

mod events;
mod fast_path;
mod settle;

pub use self::fast_path::{FastPath, LeftFastPath};
use crate::actions::{ContextCalls, Settled, carry_out};
use crate::address::Address;
use crate::buffer::WritableGate;
use crate::error::{CloseReason, ErrorKind};
use crate::handler::{Context, Event, Handler};
use crate::interest::Interest;
use crate::life::{State, Transition};
use crate::shard::Shard;
use crate::slot::{ControlBlock, Flags, Pending, Requests};
use crate::socket::{Socket, Stream};
use crate::time::Instant;
use crate::token::Token;
use crate::wait_queue::Waiting;

/// The action that the driver carries out next for a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use = "the socket stalls unless the action is carried out"]
pub enum Action {
    /// Wait for this interest.
    Wait(Interest),
    /// Send bytes from [`Connection::outputs`], then report the result, as [`report_sent`](crate::report_sent) does.
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
    /// [`close`](Stream::close) or [`linger`](Stream::linger) before. Then the queued output is still sent, but no
    /// event except `close` follows.
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
}
