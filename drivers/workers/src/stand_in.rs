//! The worker's side: a shard of one socket, in which the callbacks of a poller's socket run.

use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use lightcone_core::life::State;
use lightcone_core::{
    Calls, CloseReason, Context, ContextCalls, ErrorKind, Handler, Instant, Origin, Port, Refusal, Sent,
    Settled, Shard, Slot, Storage,
};

use crate::lane::{End, Lane, Order};
use crate::worker::{Surroundings, Worker};
use lightcone_unix::memory;

/// The most that a socket is told in one turn; then others come first.
const STEPS_A_TURN: usize = 16;
/// How much memory of its blocks a place keeps for the next socket.
const UNUSED_MAX: usize = 16 << 10;
/// The most output blocks of one socket.
pub(crate) const BLOCKS_MAX: usize = 64;

/// What a stand-in's shard works in: nothing, until the place has its first socket.
pub(crate) struct Memory<D> {
    slots: Box<[MaybeUninit<Slot<D>>]>,
    bytes: Vec<u8>,
}

impl<D> Memory<D> {
    pub(crate) fn new() -> Self {
        Self { slots: Box::default(), bytes: Vec::new() }
    }
}

/// A place for one socket at a time. What is in it belongs to whoever has the socket's pass.
pub(crate) struct StandIn<'s, H: Handler> {
    memory: Option<&'s mut Memory<H::Data>>,
    shard: Option<Box<Shard<'s, H::Data>>>,
    /// The way to the poller's socket, from the first turn until the last callback has run.
    lane: Option<Arc<Lane<H::Message>>>,
    /// Queued bytes that the poller has, or has in its lane, and that are not known to be sent.
    flying: usize,
    /// Whether the socket takes input.
    reads: bool,
    state: State,
    /// What the poller has been told of how the socket ends.
    ordered: Option<Order>,
    /// The deadline that the poller's socket has been set.
    deadline: Option<Instant>,
    /// The last thing told was a message: input goes first.
    had_message: bool,
    /// The end of the input has been told.
    ended: bool,
    /// The end of the poller's socket has been told.
    cut: bool,
    /// `open` was given, or is due.
    opened: bool,
    /// The handler wants to know when everything was sent.
    wants_sent: bool,
    /// Something was left for the poller in this turn.
    left: bool,
}

/// What a socket is told: one thing, and what follows from it.
enum Step<M> {
    Begin,
    Sent(usize),
    /// What core itself has found due: a deadline.
    Due,
    Message(M),
    /// So many bytes in the worker's buffer.
    Input(usize),
    Ended,
    Shutdown,
    Cut(CloseReason),
}

impl<'s, H: Handler> StandIn<'s, H> {
    pub(crate) fn new(memory: &'s mut Memory<H::Data>) -> Self {
        Self {
            memory: Some(memory),
            shard: None,
            lane: None,
            flying: 0,
            reads: false,
            state: State::Free,
            ordered: None,
            deadline: None,
            had_message: false,
            ended: false,
            cut: false,
            opened: false,
            wants_sent: true,
            left: false,
        }
    }

    /// Whether nobody lives here.
    pub(crate) fn is_over(&self) -> bool {
        self.lane.is_none()
    }

    /// Runs what is due. `true`: there is more, or will be at once.
    pub(crate) fn turn(&mut self, lane: &Arc<Lane<H::Message>>, worker: &mut Worker<'_, H>) -> bool {
        if self.is_over() {
            self.move_in(lane, worker);
        }
        if let Some(shard) = &mut self.shard {
            shard.tick(worker.now());
        }
        for _ in 0..STEPS_A_TURN {
            let Some(step) = self.next_step(lane, worker) else {
                return self.settle(lane, worker, false);
            };
            self.survive(step, lane, worker);
            if self.is_over() {
                break;
            }
        }
        self.settle(lane, worker, true)
    }

    /// Ends the socket, whatever it has left to do: nobody works any more.
    pub(crate) fn abort(&mut self, worker: &mut Worker<'_, H>) {
        let Some(lane) = self.lane.clone() else { return };
        worker.counts().aborted.add(1);
        self.survive(Step::Cut(CloseReason::Shutdown), &lane, worker);
        self.settle(&lane, worker, false);
    }

    /// Ends a socket of which the handler has not been told.
    pub(crate) fn turn_away(&mut self, lane: &Arc<Lane<H::Message>>, worker: &Worker<'_, H>) {
        self.end(Order::Abort, lane, worker);
        self.settle(lane, worker, false);
    }

    /// Makes the shard, the first time, and has it stand in for this socket.
    fn move_in(&mut self, lane: &Arc<Lane<H::Message>>, worker: &Worker<'_, H>) {
        if let Some(memory) = self.memory.take() {
            let config = worker.config();
            memory.slots = Box::new_uninit_slice(config.sockets);
            memory.bytes = vec![0; config.memory()];
            let storage = Storage { slots: &mut memory.slots, memory: &mut memory.bytes };
            self.shard = match Shard::new(storage, config, worker.now()) {
                Ok(shard) => Some(Box::new(shard)),
                Err(error) => unreachable!("the configuration was checked: {error}"),
            };
        }
        if let Some(shard) = &mut self.shard {
            shard.stand_in_for(lane.token);
        }
        self.lane = Some(Arc::clone(lane));
        self.flying = 0;
        self.reads = false;
        self.ordered = None;
        self.deadline = None;
        self.ended = false;
        self.cut = false;
        self.opened = false;
    }

    /// What to tell the socket next. Ends come last, so that what came before them is heard before them.
    fn next_step(&mut self, lane: &Lane<H::Message>, worker: &mut Worker<'_, H>) -> Option<Step<H::Message>> {
        let shard = self.shard.as_deref_mut()?;
        if shard.in_use() == 0 {
            return Some(Step::Begin);
        }
        let mut exchange = lane.exchange();
        if exchange.stopping {
            shard.begin_stop();
        }
        if exchange.sent > 0 {
            return Some(Step::Sent(core::mem::take(&mut exchange.sent)));
        }
        if core::mem::take(&mut exchange.timeout) {
            self.deadline = None; // that was it
        }
        if shard.next_ready().is_some() {
            return Some(Step::Due);
        }
        let room = shard.only_port()?.room();
        // who goes on sending does not put the shutdown off
        if exchange.shutdown.is_some_and(|before| before == 0 || room == 0) {
            exchange.shutdown = None;
            return Some(Step::Shutdown);
        }
        let hears = room > 0 && !exchange.input.is_empty();
        if !(hears && core::mem::replace(&mut self.had_message, false))
            && let Some(message) = exchange.messages.pop_front()
        {
            self.had_message = true;
            return Some(Step::Message(message));
        }
        if hears {
            return Some(Step::Input(exchange.copy_input(room, worker.buffer_mut())));
        }
        // who does not read does not see the end either
        if room > 0 && exchange.ended && !core::mem::replace(&mut self.ended, exchange.ended) {
            return Some(Step::Ended);
        }
        match exchange.end {
            Some(End::Closed(reason)) if !core::mem::replace(&mut self.cut, true) => Some(Step::Cut(reason)),
            _ => None,
        }
    }

    /// Takes a step. A callback that panics costs its socket, as it does on a poller: it gets its `close`, and if that
    /// panics, too, no more.
    fn survive(&mut self, step: Step<H::Message>, lane: &Arc<Lane<H::Message>>, worker: &mut Worker<'_, H>) {
        let mut outcome = catch_unwind(AssertUnwindSafe(|| self.take(step, lane, worker)));
        for _ in 0..2 {
            if outcome.is_ok() {
                return;
            }
            worker.counts().panics.add(1);
            outcome = catch_unwind(AssertUnwindSafe(|| self.end_panicked(lane, worker)));
        }
        worker.counts().panics.add(usize::from(outcome.is_err()));
    }

    fn end_panicked(&mut self, lane: &Arc<Lane<H::Message>>, worker: &mut Worker<'_, H>) {
        if let Some(shard) = &mut self.shard
            && let Some(mut port) = shard.only_port()
            && port.state() == State::Reserved
        {
            let token = port.token();
            shard.give_back(token); // it was the `admit` of a connect that failed
        }
        if self.shard.as_ref().is_some_and(|shard| shard.in_use() > 0) {
            self.take(Step::Cut(CloseReason::HandlerPanic), lane, worker);
        } else {
            self.end(Order::Close, lane, worker); // it was `admit`, and there is no socket
        }
    }

    /// Tells the socket, and carries out what follows.
    fn take(&mut self, step: Step<H::Message>, lane: &Arc<Lane<H::Message>>, worker: &mut Worker<'_, H>) {
        if matches!(step, Step::Begin) && !self.begin(lane, worker) {
            return self.end(Order::Close, lane, worker);
        }
        let Some(shard) = self.shard.as_deref_mut() else { return };
        if matches!(step, Step::Shutdown) {
            shard.stop(); // that is why it ends from now on
        }
        let Some(mut port) = shard.only_port() else { return };
        port.writable(); // more may have been queued than the poller has been given
        let (handler, buffer, surroundings) = worker.callback(lane);
        let mut calls = LaneCalls { surroundings, flying: &mut self.flying, left: &mut self.left };
        let mut input: &mut [u8] = &mut [];
        match step {
            Step::Begin | Step::Due => {}
            Step::Message(message) => {
                let settled = match port.message(message, handler, &mut calls.context()) {
                    Ok(next) => port.carry_out(next, 0, handler, &mut calls),
                    Err(late) => return worker.lose(late),
                };
                return self.leave_at(settled, lane, worker);
            }
            Step::Sent(n) => {
                *calls.flying -= n;
                port.sent(n);
            }
            Step::Input(n) => input = buffer.get_mut(..n).unwrap_or_default(),
            Step::Ended => port.ended(),
            Step::Shutdown => port.shutdown(),
            Step::Cut(reason) => port.cut(reason),
        }
        let settled = port.receive(input, handler, &mut calls);
        self.leave_at(settled, lane, worker);
    }

    /// Asks the handler for a socket's data; whether it wants the socket. One whose connect failed is let begin to
    /// connect, so as to be told.
    fn begin(&mut self, lane: &Lane<H::Message>, worker: &mut Worker<'_, H>) -> bool {
        let Some(shard) = self.shard.as_deref_mut() else { return false };
        let end = lane.exchange().end;
        if let (Some(End::Refused(error)), Origin::Connecting { tag }) = (end, lane.origin) {
            return refuse(shard, lane, tag, error, worker.handler_mut()).is_ok();
        }
        self.opened = shard.admit(worker.handler_mut(), lane.origin, &lane.peer).is_ok();
        worker.counts().opened.add(usize::from(self.opened));
        self.opened
    }

    /// Notes what the socket waits for, or ends it.
    fn leave_at(&mut self, settled: Settled, lane: &Lane<H::Message>, worker: &mut Worker<'_, H>) {
        let Some(shard) = self.shard.as_deref_mut() else { return };
        match settled {
            Settled::Waiting(interest) => {
                let Some(mut port) = shard.only_port() else { return };
                self.reads = interest.reads();
                self.state = port.state();
                self.order(lane);
                self.wants_sent = worker.handler_mut().wants_sent();
            }
            Settled::Closed => {
                worker.counts().closed.add(usize::from(self.opened));
                let order = after_close(shard.breaks_off());
                self.end(order, lane, worker);
            }
            // no send completes later, and after one the socket waits
            Settled::Deferred | Settled::Cancelling => {}
        }
    }

    /// Has the poller's socket end as this one does, behind the output: at once, since the engine's timeouts for it run
    /// there.
    fn order(&mut self, lane: &Lane<H::Message>) {
        let order = order_of(self.state);
        if order.is_some() && order != self.ordered {
            self.ordered = order;
            self.left = true;
            lane.exchange().order = order;
        }
    }

    /// The last callback has run, or there is none.
    fn end(&mut self, order: Order, lane: &Lane<H::Message>, worker: &Worker<'_, H>) {
        let late = lane.exchange().end(order);
        if let Some(shard) = &mut self.shard
            && shard.unused_memory() >= UNUSED_MAX
        {
            shard.reclaim_memory(memory::release);
        }
        self.lane = None;
        self.left = true;
        late.into_iter().for_each(|message| worker.lose(message));
    }

    /// Ends the turn: says what the poller is to be told of, and tells it that there is something. Whether the socket
    /// wants another turn at once.
    fn settle(&mut self, lane: &Arc<Lane<H::Message>>, worker: &Worker<'_, H>, mut again: bool) -> bool {
        let mut exchange = lane.exchange();
        exchange.worker = worker.id();
        if !self.is_over() {
            // an open socket with room needs to know of what was sent no sooner than something else comes for it
            let waits = self.wants_sent || !self.reads || self.state != State::Open;
            exchange.tell_sent = waits && self.flying > 0;
            let active = self.shard.as_mut().and_then(|shard| shard.only_port().map(|port| port.is_active()));
            let active = active == Some(true) || again || exchange.has_work(self.reads);
            again |= exchange.tell_sent && exchange.sent > 0;
            self.left |= exchange.active != active;
            exchange.active = active;
            let deadline = self.shard.as_ref().and_then(|shard| shard.next_deadline());
            if deadline.is_some_and(|deadline| deadline <= worker.now()) {
                again = true;
            } else if deadline != self.deadline {
                self.deadline = deadline;
                exchange.deadline = Some(deadline);
                self.left = true;
            }
        }
        let resumes = exchange.paused && exchange.input.len() <= worker.input_max() / 2;
        let left = core::mem::take(&mut self.left);
        let tells = (left || resumes) && !exchange.told && exchange.end.is_none();
        exchange.told |= tells;
        drop(exchange);
        if tells {
            worker.tell(lane);
        }
        again && !self.is_over()
    }
}

/// The calls of a stand-in, which leave everything in its lane.
struct LaneCalls<'a, M> {
    surroundings: Surroundings<'a, M>,
    /// Those of the [`StandIn`].
    flying: &'a mut usize,
    left: &'a mut bool,
}

impl<M> LaneCalls<'_, M> {
    /// Copies what the lane has not had yet. What of it was sent is told later.
    fn add_output(&mut self, pieces: &[&[u8]]) -> Sent {
        let added = self.surroundings.lane().exchange().add_output(pieces, *self.flying);
        *self.flying += added;
        *self.left |= added > 0;
        Sent::WouldBlock
    }
}

impl<M> Calls for LaneCalls<'_, M> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.add_output(&[bytes])
    }

    fn send_from_queue<D>(&mut self, port: &Port<'_, '_, D>) -> (usize, Sent) {
        let mut pieces: [&[u8]; BLOCKS_MAX] = [&[]; BLOCKS_MAX];
        let count = port.outputs(&mut pieces);
        let pieces = pieces.get(..count).unwrap_or_default();
        (pieces.iter().map(|piece| piece.len()).sum(), self.add_output(pieces))
    }

    /// The order for it goes to the poller in the end.
    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl<M> ContextCalls<M> for LaneCalls<'_, M> {
    fn context(&mut self) -> Context<'_, M> {
        self.surroundings.context()
    }
}

/// Lets a socket begin to connect, and fail.
fn refuse<H: Handler>(
    shard: &mut Shard<'_, H::Data>,
    lane: &Lane<H::Message>,
    tag: u64,
    error: ErrorKind,
    handler: &mut H,
) -> Result<(), Refusal> {
    let token = shard.reserve().ok_or(Refusal::Full)?;
    shard.dial(handler, token, tag, &lane.peer)?;
    if let Some(mut port) = shard.only_port() {
        port.failed(error);
    }
    Ok(())
}

/// What the poller does with its socket in this state of the stand-in. One that lingers may have to discard what still
/// comes.
const fn order_of(state: State) -> Option<Order> {
    match state {
        State::Finishing | State::Finished => Some(Order::Finish),
        State::Parting | State::Lingering => Some(Order::Linger),
        State::Draining => Some(Order::Close),
        State::Free
        | State::Reserved
        | State::Connecting
        | State::Open
        | State::PeerClosed
        | State::Closed => None,
    }
}

/// What the poller does where the stand-in has closed.
fn after_close(breaks_off: bool) -> Order {
    if breaks_off { Order::Abort } else { Order::Close }
}
