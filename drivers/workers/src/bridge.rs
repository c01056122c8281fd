//! The bridge between a socket's poller and the workers that run its callbacks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use lightcone_core::sync::Gate;
use lightcone_core::{Address, CloseReason, ErrorKind, Event, Instant, Origin, Stream, Token};

use crate::locks::{Mutex, MutexGuard, PoisonError};
use crate::message::{Offloaded, OffloadedKind, PollerLink};

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

    /// Bytes to send: at most the output limit.
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

    /// Locks the state of both directions. No handler code runs under this lock, so it is held only briefly and does
    /// not get poisoned.
    pub(crate) fn exchange(&self) -> MutexGuard<'_, BridgeState<M>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> BridgeState<M> {
    // --- the poller's side ---------------------------------------------------------------------------------

    /// Records an event in the bridge, apart from bytes. Returns whether a worker has to handle it.
    pub(crate) fn note(
        &mut self,
        event: Event<Offloaded<M>>,
        messages_max: usize,
        rejected: &mut Option<M>,
    ) -> bool {
        match event {
            Event::Open | Event::Room(_) => {}
            Event::Timeout => self.timeout = true,
            Event::Shutdown => self.shutdown = Some(self.input.len()),
            Event::Refused(kind) => self.end = Some(BridgeEnd::Refused(kind)),
            Event::Close(reason) => self.end = Some(BridgeEnd::Closed(reason)),
            Event::Message(Offloaded(OffloadedKind::Ready)) => {
                self.notified = false;
                return false;
            }
            Event::Message(Offloaded(
                OffloadedKind::User(message) | OffloadedKind::Broadcast(message, _),
            )) => {
                if self.messages.len() == messages_max || self.over {
                    *rejected = Some(message);
                    return false;
                }
                self.messages.push_back(message);
            }
            // their effects are read from the stream by the caller
            Event::Receive | Event::Writable | Event::Sent | Event::PeerClosed => return false,
        }
        true
    }

    /// Takes input as far as there is room. The rest stays with the socket, which is paused meanwhile.
    /// Returns whether there is something new for a worker.
    pub(crate) fn take_input(&mut self, stream: &mut Stream<'_>, input_max: usize) -> bool {
        let bytes = stream.bytes();
        // After the last callback, input is discarded, but remembered: closing a connection with unread input
        // at once may make the kernel reset it.
        let taken = if self.over { bytes.len() } else { bytes.len().min(input_max - self.input.len()) };
        if !self.over {
            self.input.extend(bytes.get(..taken).unwrap_or_default());
        }
        let full = taken < bytes.len();
        self.unread |= self.over && taken > 0;
        stream.consume(taken);
        if full != self.paused {
            self.paused = full;
            if full { stream.pause() } else { stream.resume() }
        }
        // The end of the stream is passed on only when all input before it has been taken.
        let ends = stream.peer_closed() && !full && !self.ended;
        self.ended |= ends;
        taken > 0 || ends
    }

    /// Queues output at the socket as far as there is room; `writable` follows when there is more. Then
    /// passes on the deadline and the closing action. `unreported` is the number of bytes that were queued
    /// and have not been added to `sent`. Returns whether a worker needs a turn because output was sent.
    pub(crate) fn give(&mut self, stream: &mut Stream<'_>, unreported: &mut usize) -> bool {
        let (_, mut output) = stream.split();
        while !self.output.is_empty() {
            let n = output.send_some(self.output.as_slices().0);
            if n == 0 {
                break;
            }
            self.output.drain(..n);
            *unreported += n;
        }
        let sent = unreported.saturating_sub(stream.queued());
        *unreported -= sent;
        self.sent += sent;
        if let Some(deadline) = self.deadline.take() {
            stream.set_deadline(deadline);
        }
        // After the output: a close must not overtake it. An abort does not wait for it.
        if self.order == Some(BridgeAction::Abort) || self.output.is_empty() {
            match self.order.take() {
                None => {}
                Some(BridgeAction::Finish) => stream.finish(),
                Some(BridgeAction::Linger) => stream.linger(),
                // input that is still in the bridge counts as unread
                Some(BridgeAction::Close) if self.unread || !self.input.is_empty() => stream.linger(),
                Some(BridgeAction::Close) => stream.close(),
                Some(BridgeAction::Abort) => stream.abort(),
            }
        }
        sent > 0 && self.reports_sent
    }

    // --- the worker's side ---------------------------------------------------------------------------------

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
