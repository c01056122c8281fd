//! What passes between a socket's poller and the workers that run its callbacks.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use lightcone_core::sync::Gate;
use lightcone_core::{Address, CloseReason, ErrorKind, Instant, Origin, Token};

use crate::locks::{Mutex, MutexGuard, PoisonError};
use crate::message::Link;

/// One socket's. The poller leaves here what has come for it and posts to the gate; a worker leaves what is to be done
/// and posts a message to the socket.
pub(crate) struct Lane<M> {
    /// Keeps the callbacks serial.
    pub(crate) gate: Gate,
    pub(crate) token: Token,
    /// Its stand-in's place.
    pub(crate) place: u32,
    pub(crate) origin: Origin,
    pub(crate) peer: Address,
    pub(crate) local: Option<Address>,
    pub(crate) link: Arc<dyn Link<M>>,
    exchange: Mutex<Exchange<M>>,
}

/// Both directions, under one lock that is held to copy bytes and never while a callback runs.
pub(crate) struct Exchange<M> {
    /// Bytes that have come: at most as many as a socket may leave unconsumed.
    pub(crate) input: VecDeque<u8>,
    pub(crate) messages: VecDeque<M>,
    /// The peer has ended its side; what it said before is in `input`.
    pub(crate) ended: bool,
    pub(crate) timeout: bool,
    /// The engine is shutting down, which sockets are told after the input that came before.
    pub(crate) stopping: bool,
    /// The socket is told so; so many bytes of the input came before that.
    pub(crate) shutdown: Option<usize>,
    pub(crate) end: Option<End>,
    /// How many bytes of the output have reached the operating system since a worker looked.
    pub(crate) sent: usize,
    /// The poller does not read: the input is full.
    pub(crate) paused: bool,
    /// Input has come that no callback will see.
    pub(crate) unread: bool,

    /// Bytes to send: at most the output bound.
    pub(crate) output: VecDeque<u8>,
    /// What follows behind the output.
    pub(crate) order: Option<Order>,
    /// The next point in time at which the stand-in wants a turn, if it has changed.
    pub(crate) deadline: Option<Option<Instant>>,
    /// There is work for a callback, or the stand-in is in the middle of something: the socket is not idle.
    pub(crate) active: bool,
    /// A worker wants to know of what is sent; else it learns of it when it looks for another reason.
    pub(crate) tell_sent: bool,
    /// A message to the poller is on its way.
    pub(crate) told: bool,
    /// The last callback has run: nobody looks any more.
    pub(crate) over: bool,
    /// The worker that ran last, if one did.
    pub(crate) worker: usize,
}

/// How a poller's socket ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Closed(CloseReason),
    Refused(ErrorKind),
}

/// What the poller is to do with its socket. A later one replaces an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Finish,
    Linger,
    Close,
    Abort,
}

impl<M> Lane<M> {
    pub(crate) fn new(
        token: Token,
        place: u32,
        (origin, peer): (Origin, Address),
        local: Option<Address>,
        link: Arc<dyn Link<M>>,
    ) -> Self {
        let exchange = Exchange {
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
            tell_sent: false,
            told: false,
            over: false,
            worker: usize::MAX,
        };
        let (gate, exchange) = (Gate::new(), Mutex::new(exchange));
        Self { gate, token, place, origin, peer, local, link, exchange }
    }

    /// No code of the program runs under this lock, so nobody waits for it long, and nobody panics with it.
    pub(crate) fn exchange(&self) -> MutexGuard<'_, Exchange<M>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's side.
impl<M> Exchange<M> {
    /// Moves input into the worker's buffer, as much as there is room for.
    pub(crate) fn copy_input(&mut self, room: usize, buffer: &mut [u8]) -> usize {
        let n = room.min(buffer.len()).min(self.input.len());
        let (first, second) = self.input.as_slices();
        let (head, rest) = buffer.split_at_mut(n.min(first.len()));
        let (tail, _) = rest.split_at_mut(n - head.len());
        head.copy_from_slice(first.get(..head.len()).unwrap_or_default());
        tail.copy_from_slice(second.get(..tail.len()).unwrap_or_default());
        self.input.drain(..n);
        if let Some(before) = &mut self.shutdown {
            *before = before.saturating_sub(n);
        }
        n
    }

    /// Appends output, but for the first `flying` bytes, which the poller has; how many it appended.
    pub(crate) fn add_output(&mut self, pieces: &[&[u8]], flying: usize) -> usize {
        let (mut skip, mut added) = (flying, 0);
        for piece in pieces {
            let new = piece.get(skip.min(piece.len())..).unwrap_or_default();
            skip -= piece.len() - new.len();
            self.output.extend(new);
            added += new.len();
        }
        added
    }

    /// Whether something has come that a callback has yet to be given; of the input only if the socket `reads`.
    pub(crate) fn has_work(&self, reads: bool) -> bool {
        !self.messages.is_empty() || self.timeout || self.end.is_some() || reads && !self.input.is_empty()
    }

    /// Marks the lane as one that nobody looks into any more; gives the messages that came too late.
    pub(crate) fn end(&mut self, order: Order) -> VecDeque<M> {
        self.order = Some(order);
        self.over = true;
        self.unread |= !self.input.is_empty();
        self.input = VecDeque::new();
        core::mem::take(&mut self.messages)
    }
}
