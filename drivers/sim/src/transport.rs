//! The simulated network as core's transport, by readiness or by completions, and the checks of that
//! interface.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::poller::{Accept, Connect, ConnectResult, GroupTypes, Received, Transport};
use lightcone_core::sync::{Load, MailboxSlot};
use lightcone_core::{Address, CloseReason, ErrorKind, Interest, ListenerId, SENDS_IN_A_ROW, Sent, Token};

use crate::end::{End, Kind, Owner};
use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::probe::{Ended, Seen, Shared, check_timeout};
use crate::tape::Track;
use crate::within::called_back;
use crate::world::World;

pub(crate) type SharedWorld = Rc<RefCell<World>>;

/// How often a stopping poller receives from a socket before it delivers `shutdown`.
const LAST_LOOKS: u32 = 16;

/// Keys from this one on belong to listeners.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;

pub(crate) const fn listener_key(id: ListenerId) -> u64 {
    LISTENER_KEYS + id.0 as u64
}

pub(crate) fn listener_of(key: u64) -> Option<ListenerId> {
    key.checked_sub(LISTENER_KEYS).map(|id| ListenerId(u8::try_from(id).unwrap_or(u8::MAX)))
}

/// The descriptor of an endpoint that no poller watches, or of a listener. Dropping it does not close it, so
/// that a descriptor that the loop forgets is found as a leak.
#[derive(Debug)]
pub(crate) struct Descriptor(pub(crate) u32);

/// The type parameters of a simulated group.
pub(crate) struct SimTypes;

impl GroupTypes for SimTypes {
    type Unregistered = Descriptor;
    type Listener = Descriptor;
    type Load = Rc<Load>;
    type Waker = Box<dyn Fn()>;
    type Ring<T> = Box<[MailboxSlot<T>]>;
}

/// The state of a connection that its poller keeps.
#[derive(Default, Debug)]
pub(crate) struct SimConnection {
    end: u32,
    /// The number of bytes reported to the poller as sent.
    pub(crate) sent: u64,
    pub(crate) seen: Seen,
    /// The interest it is watched for.
    pub(crate) interest: Interest,
    /// Whether a receive is pending, or its completion has not been reaped.
    pub(crate) asked: bool,
    /// Bytes of a completion that the socket has not taken.
    pub(crate) left: Vec<u8>,
    /// Whether the end of the stream has been reached, and the socket has not taken it.
    pub(crate) ended: bool,
    /// Whether it is in the list of sockets that are offered what is left.
    pub(crate) offered: bool,
    /// Whether it could not be watched for the requested interest.
    failed: bool,
    /// The turn of the last complete send, and the number of complete sends in it.
    sends: (u64, usize),
    /// The number of receives since a stop.
    last_looks: u32,
    /// The turn in which it used up its sends.
    pub(crate) deferred: Option<u64>,
}

impl SimConnection {
    pub(crate) fn opened(&mut self, now: u64) {
        self.seen.opened = now;
        self.seen.progress = now;
        self.seen.connecting = false;
    }

    fn note_sent(&mut self, sent: Sent, offered: usize, now: u64) {
        match sent {
            Sent::Bytes(n) => {
                self.sent += n as u64;
                self.seen.progress = now;
                self.seen.sent = now;
                self.seen.stalled = (n < offered).then_some(now);
            }
            Sent::WouldBlock | Sent::InFlight => {
                self.seen.stalled.get_or_insert(now);
            }
            Sent::Failed(_) => {}
        }
    }
}

/// One poller's part of the network. Like a kernel, it has no policy; the seed or the [`Mutant`] decides which
/// calls go wrong.
#[derive(Debug)]
pub(crate) struct Network<T> {
    pub(crate) world: SharedWorld,
    /// The poller's number among all pollers of the simulation.
    pub(crate) side: u32,
    pub(crate) completes: bool,
    /// The maximum number of bytes of a receive that completes later.
    pub(crate) capacity: usize,
    pub(crate) shared: Rc<Shared>,
    pub(crate) mutant: T,
    /// The connections, by the slots of their tokens.
    pub(crate) places: Vec<Option<(Token, u32)>>,
    /// Sockets that are read and have something left.
    pub(crate) offers: VecDeque<Token>,
    /// Sockets that have used up their consecutive sends in this turn.
    pub(crate) busy: Vec<Token>,
    /// Whether the poller was stopped. Streams that the stop ends may be incomplete.
    pub(crate) stops: bool,
    /// The time before which it does not abort, in µs.
    pub(crate) grace_end: u64,
}

impl<T: Mutant> Network<T> {
    /// Returns the time, in µs.
    fn now(&self) -> u64 {
        self.world.borrow().now
    }

    /// Returns what is known of a socket, including when bytes last arrived at its peer.
    fn seen(&self, connection: &SimConnection) -> Seen {
        let world = self.world.borrow();
        let end = world.end(connection.end);
        Seen { delivered: (end.send_buffer > 0).then_some(end.delivered), ..connection.seen }
    }

    /// Checks that no timeout of a live socket was missed.
    pub(crate) fn check_overdue(&self, token: Token, connection: &SimConnection) {
        self.shared.check_overdue(token, &self.seen(connection));
    }

    /// Checks that a socket is not read while it is paused or `writable` is pending, unless its input is discarded.
    fn check_reads(&self, token: Token) {
        let holds_back = self.shared.view(token, |view| (view.paused || view.owed) && !view.closing);
        let wrong = holds_back && !self.shared.outside.borrow().contains(&token);
        assert!(!wrong, "contract: {token} is read while it is paused or `writable` is pending");
    }

    /// Records whether the end of a stream has been passed to core.
    pub(crate) fn end_stream(&self, connection: &mut SimConnection, token: Token, ended: bool) {
        connection.seen.ended = ended.then(|| self.now());
        if ended && !connection.seen.received {
            connection.seen.progress = self.now(); // the first byte is no longer awaited
        }
        self.shared.view(token, |view| view.peer_ended = ended);
    }

    /// Begins a stop of the poller. What has arrived by now must be received before a socket closes cleanly.
    pub(crate) fn told_to_stop(&mut self, grace: Duration) {
        // core counts whole ticks of its clock, which may lag by almost a tick
        let millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let grace_end = (self.now() / 1_000).saturating_add(millis).saturating_mul(1_000);
        if !core::mem::replace(&mut self.stops, true) {
            self.grace_end = u64::MAX;
            if !self.completes {
                self.world.borrow_mut().owe(self.side);
            }
        }
        self.grace_end = self.grace_end.min(grace_end);
    }

    /// Returns whether the system can watch a socket now.
    fn can_watch(&self) -> Result<(), ErrorKind> {
        let occurs = self.world.borrow_mut().occurs(Track::Calls, Fault::Unwatchable);
        if occurs { Err(ErrorKind::OutOfMemory) } else { Ok(()) }
    }

    fn place(&mut self, token: Token) -> &mut Option<(Token, u32)> {
        let index = token.index() as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, None);
        }
        &mut self.places[index]
    }

    /// Returns the endpoint of a socket.
    pub(crate) fn end(&self, token: Token) -> Option<u32> {
        self.places.get(token.index() as usize)?.filter(|(there, _)| *there == token).map(|(_, end)| end)
    }

    /// Returns the socket that something is addressed to: the one it names, unless the driver is a mutant.
    pub(crate) fn addressee(&mut self, token: Token) -> Token {
        let there = self.places.get(token.index() as usize).copied().flatten();
        self.mutant.addressee(token, there.map(|(there, _)| there))
    }

    /// Schedules a socket that is read to be offered what is left, or requests the next receive.
    pub(crate) fn go_on(&mut self, connection: &mut SimConnection, token: Token) {
        if !connection.interest.reads() {
            return;
        }
        if !connection.left.is_empty() || connection.ended {
            if !core::mem::replace(&mut connection.offered, true) {
                self.offers.push_back(token);
            }
        } else if !core::mem::replace(&mut connection.asked, true) {
            self.world.borrow_mut().ask_receive(connection.end, self.capacity);
        }
    }

    fn watch(&mut self, connection: &mut SimConnection, token: Token, old: Interest, new: Interest) {
        // a socket that could not be watched may still be watched for less until its send in flight is over
        let agrees = old == connection.interest || connection.failed;
        assert!(agrees, "transport: {token} is watched for a different interest");
        connection.interest = new;
        if !self.completes {
            return self.world.borrow_mut().watch(connection.end, new);
        }
        if new.writes() && !old.writes() {
            // not for sends, which are reported by completions, but for the outcome of a connect
            let world = &mut *self.world.borrow_mut();
            world.end_mut(connection.end).watched = Interest::WRITE;
            world.touch(connection.end);
        }
        self.go_on(connection, token);
    }

    fn begin_send(&mut self, connection: &SimConnection, pieces: &[&[u8]]) -> Sent {
        let bytes = pieces.concat();
        let offered = bytes.len();
        let places = pieces.iter().map(|piece| (piece.as_ptr().addr(), piece.len())).collect();
        self.world.borrow_mut().ask_send(connection.end, bytes, places);
        if self.mutant.keeps_in_flight() { Sent::InFlight } else { Sent::Bytes(offered) }
    }

    fn send_pieces(&mut self, connection: &mut SimConnection, token: Token, pieces: &[&[u8]]) -> Sent {
        connection.deferred = None;
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        let sent = if self.completes {
            self.begin_send(connection, pieces)
        } else {
            self.world.borrow_mut().send(connection.end, pieces)
        };
        self.check_overdue(token, connection);
        connection.note_sent(sent, offered, self.now());
        if let Sent::Bytes(n) = sent {
            self.shared.count(|tally| tally.bytes_out += n as u64);
        }
        // Only complete sends count: after a short one, core waits until the socket is writable.
        if sent == Sent::Bytes(offered) {
            let turn = self.shared.turn.get();
            let (last, count) = connection.sends;
            connection.sends = (turn, if last == turn { count + 1 } else { 1 });
            if connection.sends.1 == SENDS_IN_A_ROW {
                self.busy.push(token);
            }
        }
        sent
    }

    /// Permits incomplete streams if the poller was stopped.
    fn excuse_if_stopped(&self, end: u32) {
        if self.stops {
            self.world.borrow_mut().waive(end);
        }
    }

    /// Checks the record of a connection when it closes.
    fn check_end(&self, connection: &SimConnection, token: Token, reset: bool) -> Ended {
        let Some(mut ended) = self.shared.take_ended(token) else {
            panic!("contract: {token} closed without a last event");
        };
        ended.at = connection.seen.cancelled.unwrap_or(ended.at);
        check_timeout(&self.shared, &ended, &self.seen(connection));
        let from_outside = self.shared.forget_outside(token);
        if !from_outside {
            self.check_overdue(token, connection);
        }
        if !connection.failed {
            check_reason(&ended, self.world.borrow().end(connection.end));
            if !from_outside {
                self.check_staged(connection, &ended);
            }
        }
        let (Ended { left, .. }, sent) = (ended, connection.sent);
        // how much of the output that was held back is lost is not known here
        let queued = if ended.held { ended.queued.max(sent + left) } else { ended.queued };
        self.shared.count(|tally| tally.bytes_lost += queued.saturating_sub(sent));
        assert!(
            queued == sent + left,
            "bytes: socket {token} queued {queued}, sent {sent} and reported {left} as lost"
        );
        assert!(left == 0 || reset, "bytes: {token} lost {left} bytes, but is closed cleanly");
        ended
    }
}

impl<T: Mutant> Network<T> {
    /// Checks that a close was staged where necessary, and ended in time.
    fn check_staged(&self, connection: &SimConnection, ended: &Ended) {
        let Seen { shut, ended: peer_ended, .. } = connection.seen;
        let (shared, token) = (&*self.shared, ended.token);
        if let (Some(shut), Some(peer_ended)) = (shut, peer_ended)
            && shut <= peer_ended
        {
            shared.check_late("a close after both sides have ended", peer_ended, ended.at);
        }
        let local = matches!(ended.reason, Some(CloseReason::Local));
        let broken = self.world.borrow().end(connection.end).error.is_some();
        let Some(asked) = ended.asked.filter(|_| local && !broken && peer_ended.is_none() && !self.stops)
        else {
            return;
        };
        let unread = shared.view(token, |view| view.unread);
        assert!(!unread || shut.is_some(), "ends: {token} was closed with unread input, and not staged");
        if let Some(since) = shut.map(|shut| shut.max(asked))
            && ended.at > since
        {
            let Some(linger) = shared.timeouts.linger else {
                panic!("ends: {token} did not wait for the end of its peer");
            };
            let linger = linger.as_micros() as u64;
            assert!(
                ended.at >= since + linger,
                "timers: a staged close ended {} us after {since} us",
                ended.at
            );
            // the close waits longer while something is undelivered, and checks that once per span
            let (last, undelivered) = {
                let world = self.world.borrow();
                let delivered = self.seen(connection).delivered.unwrap_or(0);
                // Of a peer that has closed since the last check, it is not known how much it left.
                let unknown = world.end(connection.end).send_buffer > 0;
                let undelivered = world.undelivered(connection.end).map_or(unknown, |bytes| bytes > 1);
                (since.max(delivered), undelivered)
            };
            let looks = if undelivered || last > since {
                let drain = shared.timeouts.drain.map_or(0, |drain| drain.as_micros() as u64);
                drain.max(linger) + shared.looks(0)
            } else {
                0
            };
            shared.check_late("the end of a staged close", last + linger + looks, ended.at);
        }
    }
}

/// Checks that the network did what was reported to the handler.
fn check_reason(ended: &Ended, end: &End) {
    match ended.reason {
        Some(CloseReason::Reset | CloseReason::Error(_)) => {
            assert!(end.error.is_some(), "ends: {} received a failure that did not occur", ended.token);
        }
        Some(CloseReason::Peer) => {
            assert!(end.ended, "ends: {} received an end that did not occur", ended.token);
        }
        _ => {}
    }
}

impl<T: Mutant> Transport for Network<T> {
    type Unregistered = Descriptor;
    type Registered = SimConnection;
    type Listener = Descriptor;

    const REPORTS_UNDELIVERED: bool = true;

    fn completes(&self) -> bool {
        self.completes
    }

    fn register(
        &mut self,
        Descriptor(end): Descriptor,
        token: Token,
        interest: Interest,
    ) -> Result<SimConnection, ErrorKind> {
        // Marks the driver's own code, whose allocations do not count as core's.
        called_back(|| {
            if let Err(kind) = self.can_watch() {
                self.reject(Descriptor(end));
                return Err(kind);
            }
            let now = self.now();
            let mut connection = SimConnection { end, ..SimConnection::default() };
            connection.opened(now);
            connection.seen.connecting = interest.writes();
            let before = self.place(token).replace((token, end));
            assert!(before.is_none(), "transport: {token} has the slot of a socket that is not closed");
            {
                let world = &mut *self.world.borrow_mut();
                let place = world.end_mut(end);
                (place.owner, place.key) = (Owner::Poller(self.side), token.to_bits());
                world.end_mut(end).send_buffer = world.wires.send_buffer;
            }
            self.watch(&mut connection, token, Interest::NONE, interest);
            Ok(connection)
        })
    }

    fn modify(
        &mut self,
        connection: &mut SimConnection,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        called_back(|| {
            if new.reads() && !old.reads() {
                self.check_reads(token);
            }
            let can = self.can_watch();
            connection.failed |= can.is_err();
            can.map(|()| self.watch(connection, token, old, new))
        })
    }

    fn receive(&mut self, connection: &mut SimConnection, token: Token, buffer: &mut [u8]) -> Received {
        assert!(!self.completes, "received from a transport with completions");
        called_back(|| {
            self.check_reads(token);
            self.check_overdue(token, connection);
            if self.stops && !self.mutant.looks_last() {
                return Received::WouldBlock;
            }
            connection.last_looks += u32::from(self.stops);
            let received = self.world.borrow_mut().receive(connection.end, buffer);
            if let Received::Bytes(n) = received {
                connection.seen.progress = self.now();
                connection.seen.received = true;
                self.shared.give(token, &buffer[..n]);
                self.shared.count(|tally| tally.bytes_in += n as u64);
            } else if received == Received::End {
                self.end_stream(connection, token, true);
            }
            if matches!(received, Received::Failed(_)) {
                self.world.borrow_mut().forgive(connection.end);
            }
            received
        })
    }

    fn send(&mut self, connection: &mut SimConnection, token: Token, bytes: &[u8]) -> Sent {
        called_back(|| self.send_pieces(connection, token, &[bytes]))
    }

    fn send_vectored(&mut self, connection: &mut SimConnection, token: Token, pieces: &[&[u8]]) -> Sent {
        called_back(|| self.send_pieces(connection, token, pieces))
    }

    fn cancel_send(&mut self, connection: &mut SimConnection, _: Token) -> Option<usize> {
        assert!(self.completes, "transport: cancelled a send that is over");
        called_back(|| {
            let cancelled = self.world.borrow_mut().cancel_send(connection.end);
            connection.sent += cancelled.unwrap_or(0) as u64;
            connection.seen.cancelled.get_or_insert(self.now());
            self.shared.count(|tally| tally.bytes_out += cancelled.unwrap_or(0) as u64);
            cancelled
        })
    }

    fn shutdown_write(&mut self, connection: &mut SimConnection, _: Token) -> Result<(), ErrorKind> {
        called_back(|| {
            self.excuse_if_stopped(connection.end);
            connection.seen.shut = Some(self.now());
            self.world.borrow_mut().shut(connection.end)
        })
    }

    fn close(&mut self, connection: SimConnection, token: Token, interest: Interest, reset: bool) {
        called_back(|| {
            let agrees = interest == connection.interest || connection.failed;
            assert!(agrees, "transport: {token} is watched for a different interest");
            *self.place(token) = None;
            let ended = self.check_end(&connection, token, reset);
            // Only a close within the grace time must have received everything. A socket is exempt if it did
            // not read, was closed by its handler before it received `shutdown`, or was read as often as the
            // poller reads at a stop.
            let in_order = ended.reason == Some(CloseReason::Shutdown) && self.now() < self.grace_end;
            let owed = self.world.borrow().end(connection.end).owed;
            let looked = connection.last_looks >= LAST_LOOKS || ended.untold;
            if owed > 0 && in_order && interest.reads() && !looked {
                self.shared.lost.set(Some((token, owed)));
            }
            self.excuse_if_stopped(connection.end);
            let world = &mut *self.world.borrow_mut();
            let in_flight = world.take_send(connection.end).is_some();
            assert!(!in_flight, "in flight: {token} is closed before its send is over");
            if !matches!(ended.reason, Some(CloseReason::Local | CloseReason::Peer)) || ended.left > 0 {
                world.waive(connection.end);
            }
            if !reset {
                world.cut_tail(connection.end, |bytes| self.mutant.tail(bytes));
            }
            world.close(connection.end, reset);
        });
    }

    fn reject(&mut self, Descriptor(end): Descriptor) {
        called_back(|| {
            let world = &mut *self.world.borrow_mut();
            world.waive(end);
            world.close(end, false);
        });
    }

    fn connect(&mut self, to: Address) -> Result<Connect<Descriptor>, ErrorKind> {
        let Address::Inet(to) = to else { return Err(ErrorKind::Unsupported) };
        called_back(|| {
            let end = self.world.borrow_mut().connect(Owner::Poller(self.side), to);
            Ok(Connect::InProgress(Descriptor(end)))
        })
    }

    fn connect_result(&mut self, connection: &mut SimConnection, _: Token) -> ConnectResult {
        let now = self.now();
        let world = self.world.borrow();
        let end = world.end(connection.end);
        match (end.kind, end.error) {
            (Kind::Failed(kind), _) => {
                connection.seen.connect_failed = true;
                ConnectResult::Failed(kind)
            }
            (Kind::Connected, error) => {
                connection.opened(now);
                error.map_or(ConnectResult::Established, ConnectResult::Broken)
            }
            (Kind::Connecting | Kind::Free | Kind::Listener, _) => ConnectResult::InProgress,
        }
    }

    fn undelivered(&mut self, connection: &mut SimConnection, _: Token) -> Option<usize> {
        let undelivered = self.world.borrow().undelivered(connection.end)?;
        Some(self.mutant.undelivered(undelivered))
    }

    fn local_address(&self, connection: &SimConnection) -> Option<Address> {
        self.world.borrow().local_address(connection.end).map(Address::Inet)
    }

    fn watch_listener(&mut self, listener: &mut Descriptor, _: ListenerId) -> Result<(), ErrorKind> {
        called_back(|| {
            self.can_watch()?;
            self.world.borrow_mut().watch(listener.0, Interest::READ);
            Ok(())
        })
    }

    fn unwatch_listener(&mut self, listener: &mut Descriptor, _: ListenerId) {
        called_back(|| self.world.borrow_mut().watch(listener.0, Interest::NONE));
    }

    fn close_listener(&mut self, Descriptor(end): Descriptor, id: ListenerId, watched: bool) {
        called_back(|| {
            let world = &mut *self.world.borrow_mut();
            assert!(
                world.end(end).watched.reads() == watched,
                "transport: wrong watch state of listener {}",
                id.0
            );
            world.close(end, false);
        });
    }

    fn accept(&mut self, listener: &mut Descriptor, _: ListenerId) -> Accept<Descriptor> {
        let has_room = self.shared.loads.iter().any(|load| load.get() < self.shared.load_max);
        // an idle socket may make room
        let may_evict = self.shared.evict_after.is_some();
        assert!(has_room || may_evict, "load: accepted while every poller is full");
        called_back(|| match self.world.borrow_mut().accept(listener.0) {
            Accept::Accepted(end, peer) => Accept::Accepted(Descriptor(end), peer),
            Accept::Filtered => Accept::Filtered,
            Accept::Retry => Accept::Retry,
            Accept::WouldBlock => Accept::WouldBlock,
            Accept::Exhausted => Accept::Exhausted,
        })
    }

    fn make_watchable(&mut self, connection: Descriptor) -> Result<Descriptor, Descriptor> {
        match called_back(|| self.can_watch()) {
            Ok(()) => Ok(connection),
            Err(_) => Err(connection),
        }
    }
}
