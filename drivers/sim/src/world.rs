//! The simulated network, its clock, and the order of its events.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::poller::{Accept, Received};
use lightcone_core::{Address, ErrorKind, Interest, Sent};

use crate::agenda::{Agenda, Arrival, Scheduled};
use crate::end::{Backlog, End, Kind, Ops, Owner, SendOp};
use crate::fault::{Fault, Faults};
use crate::peer::Peer;
use crate::tape::{Decider, Source, Track};
use crate::trace::{self, Did, Trace};

/// The interval at which a connect is retried while the backlog is full, in µs.
const SYN_AGAIN: u64 = 200_000;
/// The time after which the system abandons an unanswered connect, in µs.
const UNANSWERED: u64 = 60_000_000;

/// The completion of an operation that a completion driver requested.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) end: u32,
    pub(crate) uid: u32,
    pub(crate) key: u64,
    pub(crate) done: Done,
}

#[derive(Debug)]
pub(crate) enum Done {
    Received(Vec<u8>),
    Ended,
    Sent(usize),
    SendFailed(ErrorKind),
    Connected,
    /// A receive or a connect has failed.
    Failed(ErrorKind),
    /// A receive was cancelled by a close.
    CalledOff,
}

/// A poller as the network sees it.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) completes: bool,
    pub(crate) ready: VecDeque<u32>,
    pub(crate) completions: VecDeque<Completion>,
    pub(crate) asleep: bool,
    pub(crate) turns: u32,
    /// When it is to take its next turn, in µs. `late` is measured from here.
    pub(crate) asked: u64,
    /// Its deadline in µs, and the time of its pending `Scheduled::Timer`.
    pub(crate) deadline: Option<u64>,
    pub(crate) timer: Option<u64>,
    pub(crate) over: bool,
}

/// The parameters of a run's network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires {
    /// In µs.
    pub(crate) latency: u32,
    pub(crate) jitter: u32,
    pub(crate) window: usize,
    /// The size of the send buffer of a poller's socket, in addition to the window; 0 for none.
    pub(crate) send_buffer: usize,
    /// The maximum number of events and completions of one wait.
    pub(crate) wait_capacity: usize,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) decider: Decider,
    pub(crate) faults: Faults,
    pub(crate) healed: bool,
    pub(crate) trace: Rc<Trace>,
    pub(crate) agenda: Agenda,
    pub(crate) wires: Wires,
    ends: Vec<End>,
    free: Vec<u32>,
    pub(crate) open: usize,
    uids: u32,
    pub(crate) sides: Vec<Side>,
    pub(crate) peers: Vec<Peer>,
    /// The number of peers whose scripts are still running.
    pub(crate) running: usize,
    listeners: Vec<(SocketAddr, u32)>,
    ports: u32,
    /// The buffer that peers receive into and send from.
    pub(crate) buffer: Vec<u8>,
}

/// The furthest timer edge to which an arrival is delayed, in µs. A network that holds bytes back for longer
/// does not count as one that delivers eventually.
const EDGE_MAX: u64 = 120_000_000;

/// The sizes of a wait's buffer of events. Half of all runs have the first, which holds all.
const WAIT_CAPACITIES: [usize; 8] = [1_024, 1_024, 1_024, 1_024, 1, 2, 5, 20];

/// The sizes of the system's send buffer. Half of all runs have none.
const SEND_BUFFERS: [usize; 8] = [0, 0, 0, 0, 20_000, 1 << 20, 3_000, 300];

impl World {
    pub(crate) fn new(source: Source, keep: bool, calm: bool) -> Self {
        let mut decider = Decider::new(source);
        let faults = if calm { Faults::NONE } else { Faults::draw(&mut decider) };
        let wires = if calm {
            Wires {
                latency: 50,
                jitter: 0,
                window: 64 * 1_024,
                send_buffer: 0,
                wait_capacity: WAIT_CAPACITIES[0],
            }
        } else {
            let latency =
                [50, 0, 1, 200, 1_000, 5_000, 20_000, 100_000][decider.draw(Track::Setup, 8) as usize];
            let jitter = [0, 0, 10, 1_000][decider.draw(Track::Setup, 4) as usize];
            let window =
                [65_536, 65_536, 16_384, 4_096, 1_460, 300, 60, 7][decider.draw(Track::Setup, 8) as usize];
            // At least a kilobyte per second: otherwise large bodies take longer than a run may.
            let latency = u32::try_from(window * 1_000).map_or(latency, |most| latency.min(most));
            let capacity = decider.draw(Track::System, WAIT_CAPACITIES.len() as u32);
            let wait_capacity = WAIT_CAPACITIES[capacity as usize];
            let send_buffer = SEND_BUFFERS[decider.draw(Track::System, SEND_BUFFERS.len() as u32) as usize];
            Wires { latency, jitter, window, send_buffer, wait_capacity }
        };
        // core keeps the low 32 bits of the milliseconds, so some runs start shortly before they wrap
        let start = match if calm { 0 } else { decider.draw(Track::Setup, 4) } {
            0 => 1_000_000,
            1 => ((1_u64 << 32) - 5_000) * 1_000,
            2 => ((1_u64 << 31) - 5_000) * 1_000,
            _ => 0,
        };
        let trace = Rc::new(Trace::new(keep));
        trace.set_now(start);
        Self {
            now: start,
            decider,
            faults,
            healed: false,
            trace,
            agenda: Agenda::default(),
            wires,
            ends: Vec::new(),
            free: Vec::new(),
            open: 0,
            uids: 0,
            sides: Vec::new(),
            peers: Vec::new(),
            running: 0,
            listeners: Vec::new(),
            ports: 0,
            buffer: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn occurs(&mut self, track: Track, fault: Fault) -> bool {
        self.faults.occurs(&mut self.decider, track, fault)
    }

    /// Returns how many of `most` bytes a call transfers.
    fn cut(&mut self, fault: Fault, most: usize) -> usize {
        if most < 2 || !self.occurs(Track::Calls, fault) {
            return most;
        }
        match self.decider.draw(Track::Calls, 4) {
            0..=2 => 1,
            _ => 1 + self.decider.draw(Track::Calls, most as u32 - 1) as usize,
        }
    }

    /// Draws the order of simultaneous events.
    #[inline]
    fn pick(&mut self) -> u8 {
        if self.healed { 0 } else { self.decider.draw(Track::Order, 4) as u8 }
    }

    #[inline]
    pub(crate) fn add(&mut self, at: u64, due: Scheduled) {
        let picked = self.pick();
        self.agenda.add(at, picked, due);
    }

    pub(crate) fn heal(&mut self) {
        if self.healed {
            return;
        }
        self.trace.note(Did::Heal, 0, 0);
        self.healed = true;
        self.faults.heal();
        // Closed windows reopen and waiting peers continue at once: after the healing, nothing depends on a
        // fault.
        for place in 0..self.ends.len() as u32 {
            if self.ends[place as usize].closed_until > self.now {
                self.ends[place as usize].closed_until = self.now;
                let other = self.ends[place as usize].other;
                self.touch_other(other);
            }
        }
        for peer in 0..self.peers.len() as u32 {
            self.wake_peer(peer, self.now);
        }
    }

    // --- ends ----------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn end(&self, end: u32) -> &End {
        &self.ends[end as usize]
    }

    #[inline]
    pub(crate) fn end_mut(&mut self, end: u32) -> &mut End {
        &mut self.ends[end as usize]
    }

    /// Creates an endpoint. Descriptor numbers are reused immediately, the last released first, so that stale
    /// ones are found.
    fn create(&mut self, kind: Kind, owner: Owner, peer: SocketAddr) -> u32 {
        self.uids += 1;
        self.open += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.ends.push(End::free(0));
            self.ends.len() as u32 - 1
        });
        let window = self.wires.window;
        self.ends[place as usize] = End { kind, owner, peer, window, ..End::free(self.uids) };
        place
    }

    fn destroy(&mut self, end: u32) {
        self.unlist(end);
        let (uid, orphan) = (self.ends[end as usize].uid, self.ends[end as usize].orphan);
        self.ends[end as usize] = End::free(uid);
        self.free.push(end);
        self.open -= usize::from(!orphan);
    }

    /// Removes an endpoint from its poller's ready list, whose entry would otherwise refer to the next use of
    /// the number.
    fn unlist(&mut self, end: u32) {
        let place = self.end_mut(end);
        if core::mem::take(&mut place.listed)
            && let Owner::Poller(poller) = place.owner
        {
            self.sides[poller as usize].ready.retain(|other| *other != end);
        }
    }

    /// Returns whether this use of the endpoint still exists.
    pub(crate) fn is_there(&self, (end, uid): (u32, u32)) -> bool {
        self.ends.get(end as usize).is_some_and(|e| e.uid == uid && e.kind != Kind::Free)
    }

    pub(crate) fn listen(&mut self, address: SocketAddr, owner: Owner, key: u64, most: usize) -> u32 {
        assert!(
            self.listeners.iter().all(|(other, _)| *other != address),
            "two listeners of the simulation at {address}"
        );
        let end = self.create(Kind::Listener, owner, address);
        let listener = self.end_mut(end);
        listener.key = key;
        listener.backlog = Some(Box::new(Backlog { waiting: VecDeque::new(), most }));
        self.listeners.push((address, end));
        end
    }

    /// Begins to connect, and returns the endpoint at which the outcome will arrive.
    pub(crate) fn connect(&mut self, owner: Owner, to: SocketAddr) -> u32 {
        let end = self.create(Kind::Connecting, owner, to);
        self.trace.note(Did::Connect, end.into(), to.port().into());
        let what = if self.occurs(Track::Network, Fault::Unanswered) {
            Arrival::Unanswered
        } else if self.occurs(Track::Network, Fault::Refused) {
            Arrival::Refused
        } else {
            Arrival::Connected
        };
        let at = match what {
            Arrival::Unanswered => self.now + UNANSWERED,
            _ => self.arrival(end),
        };
        let uid = self.end(end).uid;
        self.add(at, Scheduled::Arrive { end, uid, what });
        end
    }

    /// Returns when something sent now arrives at an endpoint: after everything that was sent there before.
    fn arrival(&mut self, end: u32) -> u64 {
        let mut at = self.now + u64::from(self.wires.latency);
        if self.wires.jitter > 0 && !self.healed {
            at += u64::from(self.decider.draw(Track::Network, self.wires.jitter));
        }
        if self.occurs(Track::Network, Fault::Latency) {
            at += 1 + u64::from(self.decider.draw(Track::Network, 50_000));
        }
        // Move the arrival to within a tick of the poller's deadline, where timers and events race.
        if let Owner::Poller(poller) = self.end(end).owner
            && let Some(deadline) = self.sides[poller as usize].deadline
            && (at + 1..at + EDGE_MAX).contains(&deadline)
            && self.occurs(Track::Network, Fault::Edge)
        {
            let offset = self.decider.draw(Track::Network, 3);
            at = deadline.saturating_sub(1_000) + u64::from(offset) * 1_000;
        }
        // The bytes of a stream must not overtake each other, regardless of jitter and faults.
        let end = self.end_mut(end);
        end.last_arrival = at.max(end.last_arrival + 1);
        end.last_arrival
    }

    fn dispatch(&mut self, (end, uid): (u32, u32), what: Arrival) {
        if self.is_there((end, uid)) {
            let at = self.arrival(end);
            self.add(at, Scheduled::Arrive { end, uid, what });
        }
    }

    pub(crate) fn arrive(&mut self, end: u32, uid: u32, what: Arrival) {
        if !self.is_there((end, uid)) {
            return;
        }
        match what {
            Arrival::Bytes(n) => {
                self.trace.note(Did::Arrive, end.into(), n.into());
                let now = self.now;
                let place = self.end_mut(end);
                let other = place.other;
                if place.error.is_none() {
                    place.arrived = (place.arrived + n as usize).min(place.bytes.len());
                    if self.is_there(other) {
                        self.end_mut(other.0).delivered = now;
                    }
                }
            }
            Arrival::End => {
                self.trace.note(Did::End, end.into(), 0);
                self.end_mut(end).ended = true;
            }
            Arrival::Reset => {
                self.trace.note(Did::Reset, end.into(), 0);
                if self.end(end).orphan {
                    return self.destroy(end);
                }
                self.break_off(end, ErrorKind::ConnectionReset);
            }
            Arrival::Window => {
                let other = self.end(end).other;
                self.touch_other(other);
            }
            Arrival::Connected => self.establish(end),
            Arrival::Refused => self.fail_connect(end, ErrorKind::ConnectionRefused),
            Arrival::Unanswered => self.fail_connect(end, ErrorKind::TimedOut),
        }
        self.touch(end);
    }

    fn fail_connect(&mut self, end: u32, kind: ErrorKind) {
        self.trace.note(Did::Connected, end.into(), 1);
        self.end_mut(end).kind = Kind::Failed(kind);
        self.end_mut(end).error = Some(kind);
    }

    /// Delivers a connect to its listener.
    fn establish(&mut self, end: u32) {
        let to = self.end(end).peer;
        let Some((_, listener)) = self.listeners.iter().find(|(address, _)| *address == to).copied() else {
            return self.fail_connect(end, ErrorKind::ConnectionRefused);
        };
        let full = self.end(listener).backlog.as_ref().is_none_or(|b| b.waiting.len() >= b.most);
        let uid = self.end(end).uid;
        // A full backlog drops the request, and the client's system repeats it.
        if full {
            self.add(self.now + SYN_AGAIN, Scheduled::Arrive { end, uid, what: Arrival::Connected });
            return;
        }
        self.trace.note(Did::Connected, end.into(), 0);
        self.ports += 1;
        let [_, b, c, d] = (self.ports / 50_000).to_be_bytes();
        let from = SocketAddr::from(([172, b, c, d], (1_024 + self.ports % 50_000) as u16));
        let server = self.create(Kind::Connected, Owner::Nobody, from);
        self.end_mut(server).other = (end, uid);
        let server_uid = self.end(server).uid;
        let client = self.end_mut(end);
        client.kind = Kind::Connected;
        client.other = (server, server_uid);
        if let Some(backlog) = &mut self.end_mut(listener).backlog {
            backlog.waiting.push_back(server);
        }
        self.touch(listener);
    }

    /// Loses the connection of an endpoint. Bytes that have arrived may or may not still be received:
    /// systems differ.
    fn break_off(&mut self, end: u32, kind: ErrorKind) {
        let keeps = self.decider.draw(Track::Network, 2) == 0;
        let end = self.end_mut(end);
        if end.error.is_some() {
            return;
        }
        end.out.clear();
        end.bytes.truncate(if keeps { end.arrived } else { 0 });
        end.arrived = end.bytes.len();
        end.error = Some(kind);
        end.excused = true;
    }

    /// Resets a connection from within the network.
    fn cut_connection(&mut self, end: u32) {
        let other = self.end(end).other;
        self.waive(end);
        self.break_off(end, ErrorKind::ConnectionReset);
        self.dispatch(other, Arrival::Reset);
    }

    /// Marks the streams of this connection as possibly incomplete.
    pub(crate) fn waive(&mut self, end: u32) {
        self.end_mut(end).excused = true;
        let other = self.end(end).other;
        if self.is_there(other) {
            self.end_mut(other.0).excused = true;
        }
    }

    /// Records what has arrived for a poller when it begins to stop.
    pub(crate) fn owe(&mut self, poller: u32) {
        for end in &mut self.ends {
            if end.kind == Kind::Connected && matches!(end.owner, Owner::Poller(owner) if owner == poller) {
                end.owed = if end.watched.reads() { end.arrived } else { 0 };
            }
        }
    }

    /// Drops the requirement that the bytes that arrived before a stop are received.
    pub(crate) fn forgive(&mut self, end: u32) {
        self.end_mut(end).owed = 0;
    }

    // --- calls ---------------------------------------------------------------------------------------------------

    pub(crate) fn accept(&mut self, listener: u32) -> Accept<u32> {
        while self.occurs(Track::Calls, Fault::Interrupted) {
            self.trace.note(Did::Accept, listener.into(), trace::INTERRUPTED);
        }
        if self.occurs(Track::Calls, Fault::WouldBlock) {
            self.trace.note(Did::Accept, listener.into(), trace::WOULD_BLOCK);
            return Accept::WouldBlock;
        }
        let fails = self.occurs(Track::Calls, Fault::Accept);
        if fails && self.decider.draw(Track::Calls, 2) == 0 {
            self.trace.note(Did::Accept, listener.into(), trace::FAILED);
            return Accept::Exhausted;
        }
        let first = self.end_mut(listener).backlog.as_mut().and_then(|backlog| backlog.waiting.pop_front());
        let Some(end) = first else {
            self.trace.note(Did::Accept, listener.into(), trace::WOULD_BLOCK);
            return Accept::WouldBlock;
        };
        // The peer has disconnected while it was in the backlog.
        if fails {
            self.trace.note(Did::Accept, listener.into(), trace::FAILED);
            self.waive(end);
            self.close(end, true);
            return Accept::Retry;
        }
        self.trace.note(Did::Accept, listener.into(), end.into());
        Accept::Accepted(end, Address::Inet(self.end(end).peer))
    }

    pub(crate) fn receive(&mut self, end: u32, buffer: &mut [u8]) -> Received {
        assert!(!buffer.is_empty(), "received into an empty buffer");
        let received = self.try_receive(end, buffer);
        let outcome = match received {
            Received::Bytes(n) => n as u64,
            Received::WouldBlock => trace::WOULD_BLOCK,
            Received::End => trace::ENDED,
            Received::Failed(_) => trace::FAILED,
        };
        self.trace.note(Did::Receive, end.into(), outcome);
        received
    }

    fn try_receive(&mut self, end: u32, buffer: &mut [u8]) -> Received {
        while self.occurs(Track::Calls, Fault::Interrupted) {
            self.trace.note(Did::Receive, end.into(), trace::INTERRUPTED);
        }
        if self.occurs(Track::Calls, Fault::WouldBlock) {
            self.end_mut(end).owed = 0; // the poller cannot know that there is more
            return Received::WouldBlock;
        }
        if self.occurs(Track::Network, Fault::Reset) {
            self.cut_connection(end);
        }
        let there = self.end(end).arrived;
        if there == 0 {
            let end = self.end_mut(end);
            return match end.error {
                Some(kind) => Received::Failed(kind),
                None if end.ended => Received::End,
                None => Received::WouldBlock,
            };
        }
        let n = self.cut(Fault::ShortReceive, there.min(buffer.len()));
        if n < there.min(buffer.len()) {
            self.end_mut(end).owed = 0; // a short receive looks like the end of what has arrived
        }
        self.take(end, &mut buffer[..n]);
        Received::Bytes(n)
    }

    /// Takes bytes that have arrived, and notifies the other endpoint if the window was full.
    pub(crate) fn take(&mut self, end: u32, buffer: &mut [u8]) {
        let n = buffer.len();
        let now = self.now;
        let place = self.end_mut(end);
        let was_full = place.room(now) == 0;
        let (front, back) = place.bytes.as_slices();
        let first = n.min(front.len());
        buffer[..first].copy_from_slice(&front[..first]);
        buffer[first..].copy_from_slice(&back[..n - first]);
        place.bytes.drain(..n);
        place.arrived -= n;
        place.owed = place.owed.saturating_sub(n);
        if place.bytes.is_empty() && place.bytes.capacity() > 4_096 {
            place.bytes = VecDeque::new(); // an idle connection needs no buffer
        }
        if was_full {
            let other = place.other;
            self.touch_other(other);
        }
    }

    pub(crate) fn send(&mut self, end: u32, pieces: &[&[u8]]) -> Sent {
        let sent = self.try_send(end, pieces);
        let outcome = match sent {
            Sent::Bytes(n) => n as u64,
            Sent::WouldBlock | Sent::InFlight => trace::WOULD_BLOCK,
            Sent::Failed(_) => trace::FAILED,
        };
        self.trace.note(Did::Send, end.into(), outcome);
        sent
    }

    fn try_send(&mut self, end: u32, pieces: &[&[u8]]) -> Sent {
        while self.occurs(Track::Calls, Fault::Interrupted) {
            self.trace.note(Did::Send, end.into(), trace::INTERRUPTED);
        }
        if self.occurs(Track::Calls, Fault::WouldBlock) {
            return Sent::WouldBlock;
        }
        if self.occurs(Track::Network, Fault::Reset) {
            self.cut_connection(end);
        }
        self.pass_on(end, pieces)
    }

    /// Sends bytes, limited by the window or the send buffer.
    pub(crate) fn pass_on(&mut self, end: u32, pieces: &[&[u8]]) -> Sent {
        let place = self.end(end);
        assert!(!place.shut, "sent after the end of the stream");
        assert!(place.kind == Kind::Connected, "sent on a connection that is not established");
        if let Some(kind) = place.error {
            return Sent::Failed(kind);
        }
        let other = place.other;
        let offered = pieces.iter().map(|piece| piece.len()).sum();
        // The other endpoint was closed and only delivers its remaining output; a send to it is answered with
        // a reset.
        if self.is_there(other) && self.end(other.0).orphan {
            self.destroy(other.0);
        }
        if !self.is_there(other) {
            // the peer has closed: the send succeeds, and a reset follows
            let uid = self.end(end).uid;
            self.waive(end);
            self.dispatch((end, uid), Arrival::Reset);
            return Sent::Bytes(offered);
        }
        if self.occurs(Track::Network, Fault::ZeroWindow) {
            let span = 1_000 * (1 + u64::from(self.decider.draw(Track::Network, 3_000)));
            let until = self.now + span;
            self.end_mut(other.0).closed_until = until;
            self.add(until, Scheduled::Arrive { end: other.0, uid: other.1, what: Arrival::Window });
        }
        let place = self.end(end);
        let buffered = place.send_buffer > 0;
        let room =
            if buffered { place.send_buffer - place.out.len() } else { self.end(other.0).room(self.now) };
        if room == 0 {
            return Sent::WouldBlock;
        }
        let n = self.cut(Fault::ShortSend, offered.min(room));
        let mut left = n;
        let to = if buffered { &mut self.end_mut(end).out } else { &mut self.end_mut(other.0).bytes };
        for piece in pieces {
            let part = left.min(piece.len());
            to.extend(&piece[..part]);
            left -= part;
        }
        if buffered {
            self.push(end);
        } else {
            self.dispatch(other, Arrival::Bytes(n as u32));
        }
        Sent::Bytes(n)
    }

    /// Moves bytes from the send buffer into the window, as far as there is room, and then sends the end of
    /// the stream.
    fn push(&mut self, end: u32) {
        let other = self.end(end).other;
        if !self.is_there(other) {
            if self.end(end).orphan {
                self.destroy(end);
            }
            return;
        }
        let n = self.end(end).out.len().min(self.end(other.0).room(self.now));
        if n > 0 {
            let bytes: Vec<u8> = self.end_mut(end).out.drain(..n).collect();
            self.end_mut(other.0).bytes.extend(bytes);
            self.dispatch(other, Arrival::Bytes(n as u32));
        }
        let place = self.end_mut(end);
        if place.out.is_empty() && place.shut && !core::mem::replace(&mut place.said_end, true) {
            self.dispatch(other, Arrival::End);
        }
        if self.end(end).orphan && self.end(end).out.is_empty() {
            self.destroy(end);
        }
    }

    /// Returns how many bytes sent from an endpoint have not arrived at the other; `None` without a send
    /// buffer.
    pub(crate) fn undelivered(&self, end: u32) -> Option<usize> {
        let place = self.end(end);
        let other = Some(place.other).filter(|other| self.is_there(*other))?;
        let other = self.end(other.0);
        (place.send_buffer > 0).then(|| place.out.len() + other.bytes.len() - other.arrived)
    }

    pub(crate) fn shut(&mut self, end: u32) -> Result<(), ErrorKind> {
        self.trace.note(Did::Shut, end.into(), 0);
        if let Some(kind) = self.end(end).error {
            return Err(kind);
        }
        self.end_mut(end).shut = true;
        self.push(end);
        Ok(())
    }

    /// Closes an endpoint: cleanly, or with a reset if `reset` is set or bytes have not been received.
    pub(crate) fn close(&mut self, end: u32, reset: bool) {
        self.trace.note(Did::Close, end.into(), reset.into());
        if let Some(backlog) = self.end_mut(end).backlog.take() {
            self.listeners.retain(|(_, listener)| *listener != end);
            self.destroy(end);
            for waiting in backlog.waiting {
                self.waive(waiting);
                self.close(waiting, true);
            }
            return;
        }
        let place = self.end(end);
        let unread = !place.bytes.is_empty();
        let (other, gone) = (place.other, place.error.is_some());
        let owner = place.owner;
        if !gone && place.kind == Kind::Connected {
            // As in TCP stacks: unread input turns a close into a reset, since data is lost.
            if reset || unread {
                self.waive(end);
                self.dispatch(other, Arrival::Reset);
            } else {
                self.end_mut(end).shut = true;
                self.push(end);
            }
        }
        if let Owner::Poller(poller) = owner
            && let Some(ops) = self.end_mut(end).ops.take()
            && ops.receive > 0
        {
            self.complete(poller, end, Done::CalledOff);
        }
        // A clean close with output left: the descriptor is released, and the system delivers the rest.
        if !gone && !reset && !unread && !self.end(end).out.is_empty() && self.is_there(other) {
            self.unlist(end);
            let place = self.end_mut(end);
            (place.orphan, place.owner, place.watched) = (true, Owner::Nobody, Interest::NONE);
            self.open -= 1;
            return;
        }
        self.destroy(end);
        self.touch_other(other);
    }

    /// Drops bytes in transit after a clean close. Only mutants drop any.
    pub(crate) fn cut_tail(&mut self, end: u32, keeps: impl FnOnce(usize) -> usize) {
        let other = self.end(end).other;
        if self.is_there(other) {
            let place = self.end_mut(other.0);
            let under_way = place.bytes.len() - place.arrived;
            if under_way > 0 {
                place.bytes.truncate(place.arrived + keeps(under_way));
            }
        }
    }

    /// Returns the local address of an endpoint.
    pub(crate) fn local_address(&self, end: u32) -> Option<SocketAddr> {
        let other = self.end(end).other;
        self.is_there(other).then(|| self.end(other.0).peer)
    }

    // --- readiness and completions ---------------------------------------------------------------------------------

    /// Returns which directions of an endpoint are ready.
    #[inline]
    pub(crate) fn readiness(&self, end: u32) -> Interest {
        let place = self.end(end);
        let writes = match place.kind {
            Kind::Connected => {
                place.error.is_some()
                    || !self.is_there(place.other)
                    || (place.send_buffer > 0 && place.has_buffer())
                    || (place.send_buffer == 0 && self.end(place.other.0).room(self.now) > 0)
            }
            Kind::Failed(_) => true,
            Kind::Free | Kind::Listener | Kind::Connecting => false,
        };
        Interest::new(place.is_readable(), writes)
    }

    fn touch_other(&mut self, other: (u32, u32)) {
        if self.is_there(other) {
            if self.end(other.0).send_buffer > 0 {
                self.push(other.0);
            }
            if self.is_there(other) {
                self.touch(other.0);
            }
        }
    }

    /// Notifies the owner of an endpoint that its state has changed.
    pub(crate) fn touch(&mut self, end: u32) {
        match self.end(end).owner {
            Owner::Nobody => {}
            Owner::Peer(peer) => self.wake_peer(peer, self.now),
            Owner::Poller(poller) => {
                if self.sides[poller as usize].completes && self.end(end).kind != Kind::Listener {
                    self.progress(poller, end);
                } else {
                    self.list(poller, end);
                }
            }
        }
    }

    /// Adds an endpoint to its poller's ready list if it is watched and ready.
    pub(crate) fn list(&mut self, poller: u32, end: u32) {
        let place = self.end(end);
        if place.listed || place.watched.is_none() {
            return;
        }
        let (ready, watched) = (self.readiness(end), self.end(end).watched);
        let hangs = self.end(end).error.is_some();
        if (ready.reads() && watched.reads()) || (ready.writes() && watched.writes()) || hangs {
            self.end_mut(end).listed = true;
            self.sides[poller as usize].ready.push_back(end);
            self.wake_poller(poller);
        }
    }

    pub(crate) fn watch(&mut self, end: u32, interest: Interest) {
        self.end_mut(end).watched = interest;
        if !interest.reads() {
            self.end_mut(end).owed = 0; // not required once the handler has stopped reading
        }
        if let Owner::Poller(poller) = self.end(end).owner {
            self.list(poller, end);
        }
    }

    fn complete(&mut self, poller: u32, end: u32, done: Done) {
        let place = self.end(end);
        let completion = Completion { end, uid: place.uid, key: place.key, done };
        self.sides[poller as usize].completions.push_back(completion);
        self.wake_poller(poller);
    }

    pub(crate) fn ask_receive(&mut self, end: u32, most: usize) {
        self.end_mut(end).ops.get_or_insert_default().receive = most;
        self.touch(end);
    }

    pub(crate) fn ask_send(&mut self, end: u32, bytes: Vec<u8>, places: Vec<(usize, usize)>) {
        let ops: &mut Box<Ops> = self.end_mut(end).ops.get_or_insert_default();
        assert!(ops.send.is_none(), "in flight: two sends of one socket");
        ops.send = Some(SendOp { bytes, places, done: None, cancelled: false });
        self.touch(end);
    }

    /// Cancels a send in flight. Returns how much was sent if the cancel takes effect at once; `None` if the
    /// completion of the send will report it. That may be all of it, as a cancel may come too late.
    pub(crate) fn cancel_send(&mut self, end: u32) -> Option<usize> {
        let Owner::Poller(poller) = self.end(end).owner else { return Some(0) };
        let Some(op) = self.send_op(end) else { panic!("transport: cancelled a send that is over") };
        if core::mem::replace(&mut op.cancelled, true) {
            return None;
        }
        // As with a ring: the cancel succeeds at once (0), completes later (1), or loses the race against the
        // send (2).
        let how = self.decider.draw(Track::Calls, 3);
        if how == 2 && self.send_op(end).is_some_and(|op| op.done.is_none()) {
            self.do_send(poller, end);
        }
        let done = self.send_op(end).and_then(|op| op.done);
        self.trace.note(Did::Cancel, end.into(), done.unwrap_or(0) as u64);
        if how == 0 {
            let uid = self.end(end).uid;
            self.take_send(end);
            let is_sends = |done: &Done| matches!(done, Done::Sent(_) | Done::SendFailed(_));
            let completions = &mut self.sides[poller as usize].completions;
            completions.retain(|c| (c.end, c.uid) != (end, uid) || !is_sends(&c.done));
            return Some(done.unwrap_or(0));
        }
        if done.is_none()
            && let Some(op) = self.send_op(end)
        {
            op.done = Some(0);
            self.complete(poller, end, Done::Sent(0));
        }
        None
    }

    fn send_op(&mut self, end: u32) -> Option<&mut SendOp> {
        self.end_mut(end).ops.as_mut()?.send.as_mut()
    }

    /// Removes and returns the send of an endpoint.
    pub(crate) fn take_send(&mut self, end: u32) -> Option<SendOp> {
        self.end_mut(end).ops.as_mut()?.send.take()
    }

    /// Carries out the pending operations of a completion driver, as far as possible now.
    fn progress(&mut self, poller: u32, end: u32) {
        match self.end(end).kind {
            Kind::Connecting | Kind::Free | Kind::Listener => return,
            Kind::Connected | Kind::Failed(_) => {}
        }
        if self.end(end).watched.writes() {
            // the poller waits for the outcome of the connect, which is reported once
            self.end_mut(end).watched = Interest::NONE;
            let done = match self.end(end).kind {
                Kind::Failed(kind) => Done::Failed(kind),
                _ => Done::Connected,
            };
            return self.complete(poller, end, done);
        }
        let Some(ops) = self.end(end).ops.as_ref() else { return };
        let receive = ops.receive;
        if receive > 0 && self.end(end).is_readable() {
            let done = self.do_receive(end, receive);
            if let Some(ops) = self.end_mut(end).ops.as_mut() {
                ops.receive = 0;
            }
            self.complete(poller, end, done);
        }
        if self.send_op(end).is_some_and(|op| op.done.is_none()) {
            self.do_send(poller, end);
        }
    }

    fn do_receive(&mut self, end: u32, most: usize) -> Done {
        let there = self.end(end).arrived;
        if there == 0 {
            return match self.end(end).error {
                Some(kind) => Done::Failed(kind),
                None => Done::Ended,
            };
        }
        let n = self.cut(Fault::ShortReceive, there.min(most));
        let mut bytes = vec![0; n];
        self.take(end, &mut bytes);
        Done::Received(bytes)
    }

    fn do_send(&mut self, poller: u32, end: u32) {
        let Some(op) = self.take_send(end) else { return };
        if self.occurs(Track::Network, Fault::Reset) {
            self.cut_connection(end);
        }
        let (sent, done) = match self.pass_on(end, &[&op.bytes]) {
            Sent::WouldBlock | Sent::InFlight => (None, None),
            Sent::Bytes(n) => (Some(n), Some(Done::Sent(n))),
            Sent::Failed(kind) => (Some(0), Some(Done::SendFailed(kind))),
        };
        self.end_mut(end).ops.get_or_insert_default().send = Some(SendOp { done: sent, ..op });
        if let Some(done) = done {
            self.complete(poller, end, done);
        }
    }

    // --- wake-ups and timers ----------------------------------------------------------------------------

    /// Wakes a sleeping poller for a turn.
    pub(crate) fn wake_poller(&mut self, poller: u32) {
        let side = &mut self.sides[poller as usize];
        if !side.asleep || side.over {
            return;
        }
        side.asleep = false;
        side.asked = side.asked.min(self.now);
        // The turn count makes this wake-up void if the poller takes a turn earlier.
        let since = side.turns;
        self.trace.note(Did::Wake, poller.into(), 0);
        let at = self.now + self.wake_delay();
        self.add(at, Scheduled::Turn { poller, since });
    }

    /// Puts a poller to sleep until this time.
    pub(crate) fn sleep(&mut self, poller: u32, deadline: Option<u64>) {
        let side = &mut self.sides[poller as usize];
        side.asleep = true;
        side.deadline = deadline;
        side.asked = deadline.unwrap_or(u64::MAX);
        // One pending timer is enough: if the deadline moves to a later time, `timer` schedules it again when
        // it fires.
        if let Some(deadline) = deadline
            && side.timer.is_none_or(|at| at > deadline)
        {
            side.timer = Some(deadline);
            self.add(deadline, Scheduled::Timer { poller });
        }
    }

    /// Handles a timer that fires. Returns whether its poller takes a turn now.
    pub(crate) fn timer(&mut self, poller: u32) -> bool {
        let side = &mut self.sides[poller as usize];
        if side.timer != Some(self.now) {
            return false;
        }
        side.timer = None;
        let Some(deadline) = side.deadline.filter(|_| side.asleep) else { return false };
        if deadline > self.now {
            // the deadline has been postponed since
            side.timer = Some(deadline);
            self.add(deadline, Scheduled::Timer { poller });
            return false;
        }
        let delay = self.wake_delay();
        if delay > 1 {
            let side = &mut self.sides[poller as usize];
            side.asleep = false;
            let since = side.turns;
            self.add(self.now + delay, Scheduled::Turn { poller, since });
        }
        delay == 1
    }

    pub(crate) fn wake_delay(&mut self) -> u64 {
        if self.occurs(Track::Calls, Fault::WakeDelayed) {
            1 + u64::from(self.decider.draw(Track::Calls, 20_000))
        } else {
            1
        }
    }

    pub(crate) fn wake_peer(&mut self, peer: u32, at: u64) {
        let state = &mut self.peers[peer as usize];
        if state.is_over() || state.wakes <= at {
            return;
        }
        state.wakes = at;
        state.steps += 1;
        let since = state.steps;
        self.add(at, Scheduled::Peer { peer, since });
    }
}
