//! The worker's side: a shard of one socket, in which the callbacks of a poller's socket run.

use alloc::sync::Arc;
use core::mem::MaybeUninit;
use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use lightcone_core::life::State;
use lightcone_core::{
    Address, CloseReason, ConnectError, ErrorKind, Handler, Instant, Next, Origin, Outbox, Rejected, Shard,
    Slot, Storage, Token,
};

use crate::lane::{End, Exchange, Lane, Order};
use crate::message::{Offloaded, unwrap};
use crate::worker::Worker;

/// The most that a socket is told in one turn; then others come first.
const STEPS_A_TURN: usize = 16;
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

/// A place for one socket at a time. What is in it belongs to whoever has the socket's turn.
pub(crate) struct StandIn<'s, D, M> {
    memory: Option<&'s mut Memory<D>>,
    shard: Option<Box<Shard<'s, D>>>,
    /// The way to the poller's socket, from the first turn until the last callback has run.
    lane: Option<Arc<Lane<M>>>,
    /// Queued bytes that the poller has, or has in its lane, and that are not known to be sent.
    flying: usize,
    /// Whether the socket takes input.
    reads: bool,
    state: State,
    /// The deadline that the poller's socket has been set.
    deadline: Option<Instant>,
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
    Input(usize),
    Ended,
    Shutdown,
    Cut(CloseReason),
}

impl<'s, D, M> StandIn<'s, D, M> {
    pub(crate) fn new(memory: &'s mut Memory<D>) -> Self {
        Self {
            memory: Some(memory),
            shard: None,
            lane: None,
            flying: 0,
            reads: false,
            state: State::Free,
            deadline: None,
            ended: false,
            cut: false,
            opened: false,
            wants_sent: true,
            left: false,
        }
    }

    /// Runs what is due. `true`: there is more, or will be at once.
    pub(crate) fn turn<H>(&mut self, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>) -> bool
    where
        H: Handler<Data = D, Message = M>,
    {
        self.left = false;
        if self.lane.is_none() {
            self.move_in(lane, worker);
        }
        if let Some(shard) = &mut self.shard {
            shard.tick(worker.now());
        }
        for _ in 0..STEPS_A_TURN {
            if self.is_over() {
                break;
            }
            let Some(step) = self.next_step(lane, worker) else {
                return self.settle(lane, worker, false);
            };
            self.survive(lane, worker, |this, worker| this.take(step, lane, worker));
        }
        self.settle(lane, worker, true)
    }

    /// Ends the socket, whatever it has left to do: nobody works any more.
    pub(crate) fn abort<H>(&mut self, worker: &mut Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        let Some(lane) = self.lane.clone() else { return };
        worker.counts().aborted.add(1);
        self.survive(&lane, worker, |this, worker| {
            this.take(Step::Cut(CloseReason::Shutdown), &lane, worker);
        });
        self.settle(&lane, worker, false);
    }

    /// Ends a socket that nobody has been told of.
    pub(crate) fn turn_away<H>(&mut self, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        self.end(Order::Abort, lane, worker);
        self.settle(lane, worker, false);
    }

    /// Whether nobody lives here.
    pub(crate) fn is_over(&self) -> bool {
        self.lane.is_none()
    }

    /// The next socket's shard, made the first time.
    fn move_in<H>(&mut self, lane: &Arc<Lane<M>>, worker: &Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
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
        self.deadline = None;
        self.ended = false;
        self.cut = false;
        self.opened = false;
    }

    /// Runs callbacks. One that panics costs its socket, as it does on a poller: it gets its `close`, and if that panics
    /// too, no more.
    fn survive<H>(
        &mut self,
        lane: &Arc<Lane<M>>,
        worker: &mut Worker<'_, H>,
        run: impl FnOnce(&mut Self, &mut Worker<'_, H>),
    ) where
        H: Handler<Data = D, Message = M>,
    {
        let mut outcome = catch_unwind(AssertUnwindSafe(|| run(self, worker)));
        for _ in 0..2 {
            if outcome.is_ok() {
                return;
            }
            worker.counts().panics.add(1);
            let again = || {
                if self.shard.as_ref().is_none_or(|shard| shard.in_use() == 0) {
                    return self.end(Order::Close, lane, worker); // it was `admit`
                }
                self.take(Step::Cut(CloseReason::HandlerPanic), lane, worker);
            };
            outcome = catch_unwind(AssertUnwindSafe(again));
        }
        worker.counts().panics.add(usize::from(outcome.is_err()));
    }

    /// What to tell the socket next. Ends come last, so that what came before them is heard before them.
    fn next_step<H>(&mut self, lane: &Lane<M>, worker: &mut Worker<'_, H>) -> Option<Step<M>>
    where
        H: Handler<Data = D, Message = M>,
    {
        let shard = self.shard.as_deref_mut()?;
        if shard.in_use() == 0 {
            return Some(Step::Begin);
        }
        let mut exchange = lane.exchange();
        if exchange.sent > 0 {
            return Some(Step::Sent(core::mem::take(&mut exchange.sent)));
        }
        if core::mem::take(&mut exchange.timeout) {
            self.deadline = None; // that was it
        }
        if shard.next_ready().is_some() {
            return Some(Step::Due);
        }
        if let Some(message) = exchange.messages.pop_front() {
            return Some(Step::Message(message));
        }
        let room = shard.port(lane.token)?.room();
        if room > 0 && !exchange.input.is_empty() {
            return Some(Step::Input(exchange.copy_input(room, worker.buffer_mut())));
        }
        if exchange.ended && exchange.input.is_empty() && room > 0 && !self.ended {
            self.ended = true;
            return Some(Step::Ended);
        }
        if core::mem::take(&mut exchange.shutdown) {
            return Some(Step::Shutdown);
        }
        match exchange.end {
            Some(End::Closed(reason)) if !self.cut => {
                self.cut = true;
                Some(Step::Cut(reason))
            }
            _ => None,
        }
    }

    /// Tells the socket, and carries out what follows.
    fn take<H>(&mut self, step: Step<M>, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        if matches!(step, Step::Begin) {
            return self.begin(lane, worker);
        }
        let Some(shard) = self.shard.as_deref_mut() else { return };
        if matches!(step, Step::Shutdown) {
            shard.stop(); // that is why it ends from now on
        }
        let Some(mut port) = shard.port(lane.token) else { return };
        // more output may have been queued than the poller has been given
        port.writable();
        let mut outbox = WorkerOutbox { lane };
        let (handler, buffer, mut cx) = worker.callback(lane, &mut outbox);
        let next = match step {
            Step::Message(message) => match port.message(message, handler, &mut cx) {
                Ok(next) => next,
                Err(late) => {
                    drop(late);
                    return worker.counts().lost.add(1);
                }
            },
            step => {
                match step {
                    Step::Sent(n) => {
                        self.flying -= n;
                        port.sent(n);
                    }
                    Step::Input(n) => port.received(buffer.get(..n).unwrap_or_default()),
                    Step::Ended => port.ended(),
                    Step::Shutdown => port.shutdown(),
                    Step::Cut(reason) => port.cut(reason),
                    Step::Begin | Step::Due | Step::Message(_) => {}
                }
                port.run(handler, &mut cx)
            }
        };
        self.carry_out(next, lane, worker);
    }

    /// Asks the handler whether it wants the socket, and tells it how that began.
    fn begin<H>(&mut self, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        let Some(shard) = self.shard.as_deref_mut() else { return };
        let refused = match lane.exchange().end {
            Some(End::Refused(kind)) => Some(kind),
            Some(End::Closed(_)) | None => None,
        };
        let Ok(()) = admit(shard, lane, refused, worker.handler_mut()) else {
            return self.end(Order::Close, lane, worker);
        };
        let Some(mut port) = shard.port(lane.token) else { return };
        match refused {
            Some(kind) => port.failed(kind),
            None => {
                self.opened = true;
                worker.counts().opened.add(1);
            }
        }
        let mut outbox = WorkerOutbox { lane };
        let (handler, _, mut cx) = worker.callback(lane, &mut outbox);
        let next = port.run(handler, &mut cx);
        self.carry_out(next, lane, worker);
    }

    /// Carries out the socket's orders until it waits.
    fn carry_out<H>(&mut self, mut next: Next, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        loop {
            let Some(shard) = self.shard.as_deref_mut() else { return };
            if next == Next::Close {
                let order = if shard.breaks_off() { Order::Abort } else { Order::Close };
                worker.counts().closed.add(usize::from(self.opened));
                return self.end(order, lane, worker);
            }
            let Some(mut port) = shard.port(lane.token) else { return };
            match next {
                Next::Wait(interest) => {
                    self.reads = interest.reads();
                    self.state = port.state();
                    self.wants_sent = worker.handler_mut().wants_sent();
                    return;
                }
                Next::Send => {
                    let mut pieces: [&[u8]; BLOCKS_MAX] = [&[]; BLOCKS_MAX];
                    let count = port.outputs(&mut pieces);
                    let pieces = pieces.get(..count).unwrap_or_default();
                    let added = lane.exchange().add_output(pieces, self.flying);
                    self.flying += added;
                    self.left |= added > 0;
                    port.blocked(); // until the poller says what of it was sent
                }
                Next::Shut => {
                    let parts = port.state() == State::Parting;
                    lane.exchange().order = Some(if parts { Order::Linger } else { Order::Finish });
                    self.left = true;
                    port.shut();
                }
                // none is in flight: bytes are copied
                Next::Cancel | Next::Close => port.sent(0),
            }
            let mut outbox = WorkerOutbox { lane };
            let (handler, _, mut cx) = worker.callback(lane, &mut outbox);
            next = port.run(handler, &mut cx);
        }
    }

    /// The last callback has run, or there is none.
    fn end<H>(&mut self, order: Order, lane: &Arc<Lane<M>>, worker: &Worker<'_, H>)
    where
        H: Handler<Data = D, Message = M>,
    {
        let mut exchange = lane.exchange();
        exchange.order = Some(order);
        exchange.over = true;
        exchange.input = alloc::collections::VecDeque::new();
        let late = core::mem::take(&mut exchange.messages);
        drop(exchange);
        worker.counts().lost.add(late.len());
        self.lane = None;
        self.left = true;
    }

    /// Ends the turn: says what the poller is to be told of, and tells it that there is something.
    fn settle<H>(&mut self, lane: &Arc<Lane<M>>, worker: &mut Worker<'_, H>, mut again: bool) -> bool
    where
        H: Handler<Data = D, Message = M>,
    {
        let mut exchange = lane.exchange();
        exchange.worker = worker.id();
        if self.lane.is_some() {
            // an open socket with room needs to know of what was sent no sooner than something else comes for it
            let waits = self.wants_sent || !self.reads || self.state != State::Open;
            exchange.tell_sent = waits && self.flying > 0;
            again |= exchange.tell_sent && exchange.sent > 0;
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
        let tells = (self.left || resumes) && !exchange.told && exchange.end.is_none();
        exchange.told |= tells;
        drop(exchange);
        if tells {
            worker.tell(lane);
        }
        again && self.lane.is_some()
    }
}

/// Asks the handler for a socket's data. One whose connect failed is let begin to connect, so as to be told.
fn admit<H: Handler, M>(
    shard: &mut Shard<'_, H::Data>,
    lane: &Lane<M>,
    refused: Option<ErrorKind>,
    handler: &mut H,
) -> Result<(), lightcone_core::Refusal> {
    match (refused, lane.origin) {
        (Some(_), Origin::Connecting { tag }) => {
            let token = shard.reserve().ok_or(lightcone_core::Refusal::Full)?;
            shard.dial(handler, token, tag, &lane.peer)
        }
        _ => shard.admit(handler, lane.origin, &lane.peer).map(drop),
    }
}

impl<M> Exchange<M> {
    /// Moves input into the worker's buffer, as much as there is room for.
    fn copy_input(&mut self, room: usize, buffer: &mut [u8]) -> usize {
        let n = room.min(buffer.len()).min(self.input.len());
        let (first, second) = self.input.as_slices();
        let from_first = first.len().min(n);
        if let Some((head, tail)) =
            buffer.get_mut(..n).and_then(|buffer| buffer.split_at_mut_checked(from_first))
        {
            head.copy_from_slice(first.get(..from_first).unwrap_or_default());
            tail.copy_from_slice(second.get(..n - from_first).unwrap_or_default());
        }
        self.input.drain(..n);
        n
    }

    /// Appends output, but for the first `flying` bytes, which the poller has.
    fn add_output(&mut self, pieces: &[&[u8]], flying: usize) -> usize {
        let (mut skip, mut added) = (flying, 0);
        for piece in pieces {
            let new = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip -= piece.len() - new.len();
            self.output.extend(new);
            added += new.len();
        }
        added
    }
}

/// What a callback on a worker reaches beside its own socket.
struct WorkerOutbox<'a, M> {
    lane: &'a Lane<M>,
}

impl<M> Outbox<M> for WorkerOutbox<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        match self.lane.link.post(to, message.into()).map_err(unwrap) {
            Ok(()) | Err(None) => Ok(()),
            Err(Some(rejected)) => Err(rejected),
        }
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        let message = Offloaded::broadcast(message, clone);
        match self.lane.link.broadcast(message, Offloaded::copy).map_err(unwrap) {
            Ok(()) | Err(None) => Ok(()),
            Err(Some(rejected)) => Err(rejected),
        }
    }

    fn connect(&mut self, _: &Address, _: u64) -> Result<Token, ConnectError> {
        Err(ConnectError::Unsupported)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        self.lane.local.filter(|_| token == self.lane.token)
    }
}
