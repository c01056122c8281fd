//! The poller's side: a handler that passes every event to the workers.

use alloc::sync::Arc;
use core::fmt;

use lightcone_core::{Address, Context, Event, Handler, Origin, Socket, Stream};

use crate::bridge::{Bridge, BridgeAction, BridgeEnd, BridgeState};
use crate::message::{Offloaded, OffloadedKind, PollerLink};
use crate::scheduler::{Job, Scheduler};

/// A poller's handler whose callbacks run on workers. See [`Workers`](crate::Workers).
///
/// It never waits for a worker: its own callbacks only copy bytes and schedule the socket.
pub struct Offload<M> {
    scheduler: Arc<Scheduler<M>>,
    link: Arc<dyn PollerLink<M>>,
}

impl<M> fmt::Debug for Offload<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

impl<M> Offload<M> {
    pub(crate) fn new(scheduler: Arc<Scheduler<M>>, link: Arc<dyn PollerLink<M>>) -> Self {
        Self { scheduler, link }
    }
}

/// The user data of a poller's socket: its connection to the workers.
pub struct Ticket<M>(Kept<M>);

/// A shadow slot until the socket opens, then the bridge.
enum Kept<M> {
    Place(Reserved<M>),
    Bridge {
        bridge: Arc<Bridge<M>>,
        /// Bytes that were queued at the poller's socket and have not been added to the bridge's `sent`.
        unreported: usize,
    },
}

/// A reserved shadow slot, released on drop if the socket has not opened.
struct Reserved<M> {
    scheduler: Arc<Scheduler<M>>,
    place: Option<u32>,
    origin: Origin,
    peer: Address,
}

impl<M> Drop for Reserved<M> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.scheduler.release_place(place);
        }
    }
}

impl<M> fmt::Debug for Ticket<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl<M> Handler for Offload<M> {
    type Data = Ticket<M>;
    type Message = Offloaded<M>;

    /// Reserves a shadow slot. The program's `admit` runs on a worker, before `open`.
    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Ticket<M>> {
        let place = Some(self.scheduler.take_place()?);
        Some(Ticket(Kept::Place(Reserved {
            scheduler: Arc::clone(&self.scheduler),
            place,
            origin,
            peer: *peer,
        })))
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Ticket<M>>,
        event: Event<Offloaded<M>>,
        cx: &mut Context<'_, Offloaded<M>>,
    ) {
        // The first event, `open`, `refused` or `close`, turns the reserved slot into a bridge.
        let opens = matches!(socket.data.0, Kept::Place(_));
        if let Kept::Place(reserved) = &mut socket.data.0 {
            let Some(place) = reserved.place.take() else { return };
            let token = socket.stream.token();
            let who = (reserved.origin, reserved.peer);
            let bridge = Bridge::new(token, place, who, cx.local_address(token), Arc::clone(&self.link));
            socket.data.0 = Kept::Bridge { bridge: Arc::new(bridge), unreported: 0 };
        }
        let Socket { stream, data: Ticket(Kept::Bridge { bridge, unreported }) } = socket else { return };
        let limits = self.scheduler.limits();
        let mut exchange = bridge.exchange();
        let mut rejected = None;
        let mut news = exchange.note(event, limits.messages, &mut rejected);
        exchange.stopping |= stream.is_stopping();
        news |= exchange.take_input(stream, limits.input);
        // Computed before `sent` is added to `news`: output that was sent wakes a worker, but is no work for
        // a callback. Neither is `open` counted, as declaring the socket idle again would cost a
        // notification.
        exchange.active |= news && !opens;
        news |= exchange.give(stream, unreported);
        stream.set_active(exchange.active);
        let (over, worker) = (exchange.over, exchange.worker);
        drop(exchange);
        if rejected.is_some() {
            self.scheduler.lost_message();
        }
        // Only after the lock is released, as the scheduled worker takes it at once. A post made while a
        // worker runs the socket is not lost: that worker reads the bridge again before it releases the permit.
        if news
            && !over
            && let Some(pass) = bridge.gate.post()
            && self.scheduler.schedule(Job { bridge: Arc::clone(bridge), pass }, worker).is_err()
        {
            stream.abort(); // there are no workers any more
            if opens {
                self.scheduler.release_place(bridge.place); // it was never bound
            }
        }
        // Last, because dropping the program's message may panic.
        drop(rejected);
    }
}

impl<M> BridgeState<M> {
    /// Records an event in the bridge, apart from bytes. Returns whether a worker has to handle it.
    fn note(&mut self, event: Event<Offloaded<M>>, messages_max: usize, rejected: &mut Option<M>) -> bool {
        match event {
            Event::Open => {}
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
    fn take_input(&mut self, stream: &mut Stream<'_>, input_max: usize) -> bool {
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
    fn give(&mut self, stream: &mut Stream<'_>, unreported: &mut usize) -> bool {
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
}
