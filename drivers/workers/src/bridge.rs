//! The bridge between a socket's poller and the workers that run its callbacks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use lightcone_core::sync::Gate;
use lightcone_core::{Address, CloseReason, ErrorKind, Instant, Origin, Token};

use crate::locks::{Mutex, MutexGuard, PoisonError};
use crate::message::PollerLink;

/// The bridge of one socket. The poller puts events and input into it and posts to the gate; a worker puts
/// output and actions into it and posts a message to the poller's socket.
pub(crate) struct Bridge<M> {
    /// Keeps the callbacks serial.
    pub(crate) gate: Gate,
    pub(crate) token: Token,
    /// The index of its shadow slot.
    pub(crate) place: u32,
    pub(crate) origin: Origin,
    pub(crate) peer: Address,
    pub(crate) local: Option<Address>,
    pub(crate) link: Arc<dyn PollerLink<M>>,
    exchange: Mutex<BridgeState<M>>,
}

/// Both directions, under one lock, which is held to copy bytes and never during a callback.
pub(crate) struct BridgeState<M> {
    /// Received bytes: at most as many as a socket may leave unconsumed.
    pub(crate) input: VecDeque<u8>,
    pub(crate) messages: VecDeque<M>,
    /// Whether the peer has ended its stream; what it sent before is in `input`.
    pub(crate) ended: bool,
    pub(crate) timeout: bool,
    /// Whether the engine is shutting down. `shutdown` is delivered after the input that preceded it.
    pub(crate) stopping: bool,
    /// `shutdown` is due after this many bytes of `input`.
    pub(crate) shutdown: Option<usize>,
    pub(crate) end: Option<BridgeEnd>,
    /// Bytes of the output that have reached the operating system since a worker last took this count.
    pub(crate) sent: usize,
    /// Whether the poller's socket is paused because the input is full.
    pub(crate) paused: bool,
    /// Whether input has been received that no callback will see.
    pub(crate) unread: bool,

    /// Bytes to send: at most the output bound.
    pub(crate) output: VecDeque<u8>,
    /// The closing action, after the output.
    pub(crate) order: Option<BridgeAction>,
    /// The shadow's next deadline, if it has changed.
    pub(crate) deadline: Option<Option<Instant>>,
    /// Whether the socket is not idle: work for a callback is due, or the handler has declared the socket
    /// active.
    pub(crate) active: bool,
    /// Whether a worker needs a turn when output has been sent; otherwise it sees `sent` at its next turn.
    pub(crate) reports_sent: bool,
    /// Whether a notification to the poller is in flight.
    pub(crate) notified: bool,
    /// Whether the last callback has run; the workers no longer read the bridge.
    pub(crate) over: bool,
    /// The worker that ran last; `usize::MAX` if none has.
    pub(crate) worker: usize,
}

/// How a poller's socket ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BridgeEnd {
    Closed(CloseReason),
    Refused(ErrorKind),
}

/// A closing action for the poller's socket. A later one replaces an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BridgeAction {
    Finish,
    Linger,
    Close,
    Abort,
}

impl<M> Bridge<M> {
    pub(crate) fn new(
        token: Token,
        place: u32,
        (origin, peer): (Origin, Address),
        local: Option<Address>,
        link: Arc<dyn PollerLink<M>>,
    ) -> Self {
        let exchange = BridgeState {
            input: VecDeque::new(),
            messages: VecDeque::new(),
            ended: false,
            timeout: false,
            stopping: false,
            shutdown: None,
            end: None,
            sent: 0,
            paused: false,
            unread: false,
            output: VecDeque::new(),
            order: None,
            deadline: None,
            active: false,
            reports_sent: false,
            notified: false,
            over: false,
            worker: usize::MAX,
        };
        let (gate, exchange) = (Gate::new(), Mutex::new(exchange));
        Self { gate, token, place, origin, peer, local, link, exchange }
    }

    /// Locks the exchange. No handler code runs under this lock, so it is held only briefly and does not get
    /// poisoned.
    pub(crate) fn exchange(&self) -> MutexGuard<'_, BridgeState<M>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's side.
impl<M> BridgeState<M> {
    /// Appends output except for its first `in_flight` bytes, which were appended before. Returns the number of
    /// new bytes.
    pub(crate) fn add_output(&mut self, pieces: &[&[u8]], in_flight: usize) -> usize {
        let (mut skip, mut added) = (in_flight, 0);
        for piece in pieces {
            let new = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip -= piece.len() - new.len();
            self.output.extend(new);
            added += new.len();
        }
        added
    }

    /// Marks the bridge as no longer read by workers. Returns the messages that were not delivered.
    pub(crate) fn end(&mut self, order: BridgeAction) -> VecDeque<M> {
        self.order = Some(order);
        self.over = true;
        self.unread |= !self.input.is_empty();
        self.input = VecDeque::new();
        core::mem::take(&mut self.messages)
    }
}
