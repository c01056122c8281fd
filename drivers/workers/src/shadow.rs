//! The worker's side: the shadow, a shard of one socket in which the callbacks of a poller's socket run.

use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::panic::AssertUnwindSafe;
use std::io::Read;
use std::panic::catch_unwind;

use lightcone_core::life::State;
use lightcone_core::{
    Calls, CloseReason, Connection, Context, ContextCalls, ErrorKind, Handler, Instant, Origin, Sent,
    Settled, Shard, Slot, Storage,
};

use crate::bridge::{Bridge, BridgeAction, BridgeEnd};
use crate::outbox::WorkerOutbox;
use crate::worker::Worker;
use lightcone_unix::memory;

/// The maximum number of steps of a socket in one turn; then other sockets run first.
const STEPS_A_TURN: usize = 16;
/// How much memory of unused blocks a shadow keeps for its next socket, in bytes.
const UNUSED_MAX: usize = 16 << 10;
/// The maximum number of output blocks of one socket.
pub(crate) const BLOCKS_MAX: usize = 64;

/// The memory of a shadow's shard: empty until the first socket uses the slot.
pub(crate) struct Memory<D> {
    slots: Box<[MaybeUninit<Slot<D>>]>,
    bytes: Vec<u8>,
}

impl<D> Memory<D> {
    pub(crate) fn new() -> Self {
        Self { slots: Box::default(), bytes: Vec::new() }
    }
}

/// A shadow slot: holds one socket at a time, and is accessed by the worker that holds the socket's permit.
pub(crate) struct Shadow<'s, H: Handler> {
    memory: Option<&'s mut Memory<H::Data>>,
    shard: Option<Box<Shard<'s, H::Data>>>,
    /// The bridge to the poller's socket, from the first turn until the last callback has run.
    pub(crate) bridge: Option<Arc<Bridge<H::Message>>>,
    /// Bytes queued in the shadow that have been copied to the bridge and are not known to be sent.
    in_flight: usize,
    /// Whether the socket reads input.
    reads: bool,
    state: State,
    /// The closing action that has been passed to the poller.
    ordered: Option<BridgeAction>,
    /// The deadline that has been passed to the poller's socket.
    deadline: Option<Instant>,
    /// Whether the last step was a message; the next one is then input, if there is any.
    had_message: bool,
    /// Whether this turn has delivered input: what is due need not wait for more of it.
    heard: bool,
    /// Whether the end of the stream has been delivered.
    ended: bool,
    /// Whether the close of the poller's socket has been delivered.
    cut: bool,
    /// Whether `admit` accepted the socket, so that `open` has run or is due.
    opened: bool,
    /// Whether the handler uses `sent`.
    wants_sent: bool,
    /// Whether something was left for the poller in this turn.
    left: bool,
}

/// One thing that happened to a socket, to be delivered together with its consequences.
enum ShadowStep<M> {
    Begin,
    Sent(usize),
    /// A deadline that the shard found to have passed.
    Due,
    Message(M),
    /// A number of bytes in the worker's buffer.
    Input(usize),
    Ended,
    Shutdown,
    Cut(CloseReason),
    /// A callback has panicked.
    Panicked,
}

impl<'s, H: Handler> Shadow<'s, H> {
    pub(crate) fn new(memory: &'s mut Memory<H::Data>) -> Self {
        Self {
            memory: Some(memory),
            shard: None,
            bridge: None,
            in_flight: 0,
            reads: false,
            state: State::Free,
            ordered: None,
            deadline: None,
            had_message: false,
            heard: false,
            ended: false,
            cut: false,
            opened: false,
            wants_sent: true,
            left: false,
        }
    }

    /// Returns whether the slot is free: no socket has moved in, or its last callback has run.
    pub(crate) fn is_over(&self) -> bool {
        self.bridge.is_none()
    }

    /// Runs what is due, up to a limit. Returns whether the socket needs another turn at once.
    pub(crate) fn turn(&mut self, bridge: &Arc<Bridge<H::Message>>, worker: &mut Worker<'_, H>) -> bool {
        if self.is_over() {
            // A new socket. The shard is created for the first one, so that slots that are never used take no
            // memory for it.
            if let Some(memory) = self.memory.take() {
                let config = worker.config;
                memory.slots = Box::new_uninit_slice(config.sockets);
                memory.bytes = vec![0; config.memory()];
                let storage = Storage { slots: &mut memory.slots, memory: &mut memory.bytes };
                self.shard = match Shard::new(storage, config, worker.now) {
                    Ok(shard) => Some(Box::new(shard)),
                    Err(error) => unreachable!("the configuration was checked: {error}"),
                };
            }
            let Some(shard) = &mut self.shard else { unreachable!("it was created with the first socket") };
            shard.impersonate(bridge.token); // callbacks see the token of the poller's socket
            self.bridge = Some(Arc::clone(bridge));
            self.in_flight = 0;
            self.reads = false;
            self.ordered = None;
            self.deadline = None;
            self.ended = false;
            self.cut = false;
            self.opened = false;
        }
        if let Some(shard) = &mut self.shard {
            shard.tick(worker.now);
        }
        self.heard = false;
        for _ in 0..STEPS_A_TURN {
            let Some(step) = self.next_step(bridge, worker) else {
                return self.settle(bridge, worker, false);
            };
            self.handle_panic(step, bridge, worker);
            if self.is_over() {
                break;
            }
        }
        self.settle(bridge, worker, true)
    }

    /// Closes the socket at the end of the workers, regardless of what is still due.
    pub(crate) fn abort(&mut self, bridge: &Arc<Bridge<H::Message>>, worker: &mut Worker<'_, H>) {
        if self.is_over() {
            // It has had no turn, so the handler has not seen it and gets no `close`.
            self.end(BridgeAction::Abort, bridge, worker);
        } else {
            worker.counts.aborted.add(1);
            self.handle_panic(ShadowStep::Cut(CloseReason::Shutdown), bridge, worker);
        }
        self.settle(bridge, worker, false);
    }

    /// Returns the next step. The end of the stream and the close come last, after everything that preceded
    /// them.
    fn next_step(
        &mut self,
        bridge: &Bridge<H::Message>,
        worker: &mut Worker<'_, H>,
    ) -> Option<ShadowStep<H::Message>> {
        let Some(shard) = self.shard.as_deref_mut() else { unreachable!("a turn creates the shard first") };
        if shard.in_use() == 0 {
            return Some(ShadowStep::Begin);
        }
        let mut exchange = bridge.exchange();
        if exchange.stopping {
            shard.begin_stop();
        }
        // First: sent output frees blocks that the callbacks of the steps below may need.
        if exchange.sent > 0 {
            return Some(ShadowStep::Sent(core::mem::take(&mut exchange.sent)));
        }
        if core::mem::take(&mut exchange.timeout) {
            self.deadline = None; // it has fired
        }
        let room = shard.only_connection()?.room();
        let hears = room > 0 && !exchange.input.is_empty();
        // A socket without room does not read and thus does not see the end of the stream.
        let ends = room > 0 && exchange.ended && !self.ended;
        let cut = match exchange.end {
            Some(BridgeEnd::Closed(reason)) if !self.cut => Some(reason),
            _ => None,
        };
        // A poller receives before it looks for what is due, so that what the peer did in time precedes a deadline. It
        // receives once, so that a peer that keeps sending cannot postpone one.
        let hears_first = hears && !self.heard;
        // Input that there is no room for will never be read: it does not delay a close.
        let is_last = !hears && exchange.messages.is_empty();
        let ends_first = is_last && (ends || cut.is_some());
        if !hears_first && !ends_first && shard.next_ready().is_some() {
            return Some(ShadowStep::Due);
        }
        // After the input that preceded it. A peer that keeps sending, or a socket that does not read, cannot
        // postpone it.
        if exchange.shutdown.is_some_and(|before| before == 0 || room == 0) {
            exchange.shutdown = None;
            return Some(ShadowStep::Shutdown);
        }
        // Messages and input alternate, so that neither starves the other.
        if !(hears_first || hears && self.had_message)
            && let Some(message) = exchange.messages.pop_front()
        {
            self.had_message = true;
            return Some(ShadowStep::Message(message));
        }
        if hears {
            let n = room.min(worker.buffer.len()).min(exchange.input.len());
            let (buffer, _) = worker.buffer.split_at_mut(n);
            let read = exchange.input.read_exact(buffer);
            assert!(read.is_ok(), "the bridge holds {n} bytes or more");
            if let Some(before) = &mut exchange.shutdown {
                *before = before.saturating_sub(n);
            }
            (self.heard, self.had_message) = (true, false);
            return Some(ShadowStep::Input(n));
        }
        // All input has been taken here, or there is no room for it.
        if ends {
            self.ended = true;
            return Some(ShadowStep::Ended);
        }
        self.cut |= cut.is_some();
        cut.map(ShadowStep::Cut)
    }

    /// Runs a step. If a callback panics, its socket is closed as on a poller: `close` runs, and if that
    /// panics too, no other callback.
    fn handle_panic(
        &mut self,
        step: ShadowStep<H::Message>,
        bridge: &Arc<Bridge<H::Message>>,
        worker: &mut Worker<'_, H>,
    ) {
        let mut outcome = catch_unwind(AssertUnwindSafe(|| self.take(step, bridge, worker)));
        // The first attempt delivers `close`; if that panics, the second removes the socket.
        for _ in 0..2 {
            if outcome.is_ok() {
                return;
            }
            worker.counts.panics.add(1);
            if let Some(shard) = &mut self.shard
                && let Some(mut conn) = shard.only_connection()
                && conn.state() == State::Reserved
            {
                let token = conn.token();
                shard.release_slot(token); // the `admit` of a failed connect panicked
            }
            outcome = if self.shard.as_ref().is_some_and(|shard| shard.in_use() > 0) {
                catch_unwind(AssertUnwindSafe(|| self.take(ShadowStep::Panicked, bridge, worker)))
            } else {
                // `admit` panicked, so there is no socket
                catch_unwind(AssertUnwindSafe(|| self.end(BridgeAction::Close, bridge, worker)))
            };
        }
        worker.counts.panics.add(usize::from(outcome.is_err()));
    }

    /// Delivers the step and carries out the resulting actions.
    fn take(
        &mut self,
        step: ShadowStep<H::Message>,
        bridge: &Arc<Bridge<H::Message>>,
        worker: &mut Worker<'_, H>,
    ) {
        if matches!(step, ShadowStep::Begin) && !self.begin(bridge, worker) {
            return self.end(BridgeAction::Close, bridge, worker);
        }
        let Some(shard) = self.shard.as_deref_mut() else { unreachable!("a turn creates the shard first") };
        if matches!(step, ShadowStep::Shutdown) {
            shard.stop(); // its close reason is `Shutdown` from now on
        }
        let Some(mut conn) = shard.only_connection() else { return };
        conn.writable(); // the bridge may not have all queued output yet
        let Worker { handler, buffer, now, unix_time, .. } = worker;
        let mut calls = BridgeCalls {
            outbox: WorkerOutbox { bridge },
            now: *now,
            unix_time: *unix_time,
            in_flight: &mut self.in_flight,
            left: &mut self.left,
        };
        let mut input: &mut [u8] = &mut [];
        match step {
            ShadowStep::Begin | ShadowStep::Due => {}
            ShadowStep::Message(message) => {
                let settled = match conn.message(message, handler, &mut calls.context()) {
                    Ok(next) => conn.carry_out(next, 0, handler, &mut calls),
                    Err(late) => return worker.drop_message(late),
                };
                return self.leave_at(settled, bridge, worker);
            }
            ShadowStep::Sent(n) => {
                *calls.in_flight -= n;
                conn.sent(n);
            }
            ShadowStep::Input(n) => input = buffer.get_mut(..n).unwrap_or_default(),
            ShadowStep::Ended => conn.peer_ended(),
            ShadowStep::Shutdown => conn.shutdown(),
            ShadowStep::Cut(reason) => conn.abort_with(reason),
            ShadowStep::Panicked => conn.panicked(),
        }
        let settled = conn.receive(input, handler, &mut calls);
        self.leave_at(settled, bridge, worker);
    }

    /// Calls the handler's `admit`. Returns whether it accepted the socket.
    fn begin(&mut self, bridge: &Bridge<H::Message>, worker: &mut Worker<'_, H>) -> bool {
        let Some(shard) = self.shard.as_deref_mut() else { unreachable!("a turn creates the shard first") };
        let end = bridge.exchange().end;
        if let (Some(BridgeEnd::Refused(error)), Origin::Connecting { tag }) = (end, bridge.origin) {
            // `refused` follows only a connect, so the socket is admitted as one, which then fails.
            let Some(token) = shard.reserve() else { return false };
            if shard.dial(&mut worker.handler, token, tag, &bridge.peer).is_err() {
                return false;
            }
            if let Some(mut conn) = shard.only_connection() {
                conn.failed(error);
            }
            return true;
        }
        self.opened = shard.admit(&mut worker.handler, bridge.origin, &bridge.peer).is_ok();
        worker.counts.opened.add(usize::from(self.opened));
        self.opened
    }

    /// Records what the socket waits for, or ends it.
    fn leave_at(&mut self, settled: Settled, bridge: &Bridge<H::Message>, worker: &Worker<'_, H>) {
        let Some(shard) = self.shard.as_deref_mut() else { unreachable!("a turn creates the shard first") };
        match settled {
            Settled::Waiting(interest) => {
                let Some(mut conn) = shard.only_connection() else { return };
                self.reads = interest.reads();
                self.state = conn.state();
                self.order(bridge);
                self.wants_sent = worker.handler.wants_sent();
            }
            Settled::Closed => {
                worker.counts.closed.add(usize::from(self.opened));
                let order = if shard.needs_reset() { BridgeAction::Abort } else { BridgeAction::Close };
                self.end(order, bridge, worker);
            }
            // do not occur: `send` never completes later, and the socket waits after each one
            Settled::Deferred | Settled::Cancelling => {}
        }
    }

    /// Passes the closing action of the shadow to the poller as soon as it is known; it follows the output.
    /// The engine's timeouts for the close run at the poller's socket.
    fn order(&mut self, bridge: &Bridge<H::Message>) {
        let order = match self.state {
            State::Finishing | State::Finished => BridgeAction::Finish,
            // not closed at once: the poller may still have to discard input
            State::PreLinger | State::Lingering => BridgeAction::Linger,
            State::Draining => BridgeAction::Close,
            State::Free
            | State::Reserved
            | State::Connecting
            | State::Open
            | State::PeerClosed
            | State::Closed => return,
        };
        if self.ordered != Some(order) {
            self.ordered = Some(order);
            self.left = true;
            bridge.exchange().order = Some(order);
        }
    }

    /// Frees the slot: the last callback has run, or there is none.
    fn end(&mut self, order: BridgeAction, bridge: &Bridge<H::Message>, worker: &Worker<'_, H>) {
        let late = bridge.exchange().end(order);
        if let Some(shard) = &mut self.shard
            && shard.unused_memory() >= UNUSED_MAX
        {
            shard.reclaim_memory(memory::release);
        }
        self.bridge = None;
        self.left = true;
        late.into_iter().for_each(|message| worker.drop_message(message));
    }

    /// Ends the turn: updates what the poller needs in the bridge, and notifies the poller if something
    /// changed. Returns whether the socket needs another turn at once.
    fn settle(&mut self, bridge: &Arc<Bridge<H::Message>>, worker: &Worker<'_, H>, mut again: bool) -> bool {
        let mut exchange = bridge.exchange();
        exchange.worker = worker.id;
        if !self.is_over() {
            // An open socket that reads, with a handler that does not use `sent`, can learn of sent output at
            // its next turn. All others need a turn for it.
            let waits = self.wants_sent || !self.reads || self.state != State::Open;
            exchange.reports_sent = waits && self.in_flight > 0;
            let active =
                self.shard.as_mut().and_then(|shard| shard.only_connection().map(|conn| conn.is_active()));
            let has_input = self.reads && !exchange.input.is_empty();
            let has_work =
                has_input || !exchange.messages.is_empty() || exchange.timeout || exchange.end.is_some();
            let active = active == Some(true) || again || has_work;
            // The poller may have added to `sent` while `reports_sent` was false, and has then not scheduled
            // this socket.
            again |= exchange.reports_sent && exchange.sent > 0;
            self.left |= exchange.active != active;
            exchange.active = active;
            let deadline = self.shard.as_ref().and_then(|shard| shard.next_deadline());
            // A deadline that passed during this turn is handled in the next one, without the poller.
            if deadline.is_some_and(|deadline| deadline <= worker.now) {
                again = true;
            } else if deadline != self.deadline {
                self.deadline = deadline;
                exchange.deadline = Some(deadline);
                self.left = true;
            }
        }
        // Half of the limit, so that a socket is not paused and resumed for every few bytes.
        let resumes = exchange.paused && exchange.input.len() <= worker.scheduler.limits().input / 2;
        let left = core::mem::take(&mut self.left);
        let notifies = (left || resumes) && !exchange.notified && exchange.end.is_none();
        // Set under the lock and before the post: the poller clears it when the message arrives, which may be
        // before the post returns. If it were set later, it would stay set and suppress all further
        // notifications.
        exchange.notified |= notifies;
        drop(exchange);
        if notifies {
            worker.scheduler.notify(bridge);
        }
        again && !self.is_over()
    }
}

/// The calls of a shadow, which put everything into its bridge.
struct BridgeCalls<'a, M> {
    outbox: WorkerOutbox<'a, M>,
    now: Instant,
    unix_time: u64,
    /// Fields of the [`Shadow`].
    in_flight: &'a mut usize,
    left: &'a mut bool,
}

impl<M> BridgeCalls<'_, M> {
    /// Copies the bytes that the bridge has not received yet. They count as sent when the poller reports it.
    fn add_output(&mut self, pieces: &[&[u8]]) -> Sent {
        let added = self.outbox.bridge.exchange().add_output(pieces, *self.in_flight);
        *self.in_flight += added;
        *self.left |= added > 0;
        Sent::WouldBlock
    }
}

impl<M> Calls for BridgeCalls<'_, M> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.add_output(&[bytes])
    }

    fn send_from_queue<D>(&mut self, conn: &Connection<'_, '_, D>) -> (usize, Sent) {
        let mut pieces: [&[u8]; BLOCKS_MAX] = [&[]; BLOCKS_MAX];
        let count = conn.outputs(&mut pieces);
        let pieces = pieces.get(..count).unwrap_or_default();
        (pieces.iter().map(|piece| piece.len()).sum(), self.add_output(pieces))
    }

    /// Does nothing: [`Shadow::order`] passes the action on to the poller.
    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl<M> ContextCalls<M> for BridgeCalls<'_, M> {
    fn context(&mut self) -> Context<'_, M> {
        let poller = self.outbox.bridge.token.poller();
        Context::new(self.now, Some(self.unix_time), poller, &mut self.outbox)
    }
}
