//! How connections begin and break.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lightcone_core::poller::Accept;
use lightcone_core::{Address, ErrorKind};

use super::World;
use crate::agenda::{Arrival, Scheduled};
use crate::end::{Backlog, End, Kind, Owner};
use crate::fault::Fault;
use crate::tape::Track;
use crate::trace::{self, Did};

/// The interval at which a connect is retried while the backlog is full, in µs.
const SYN_AGAIN: u64 = 200_000;
/// The time after which the system abandons an unanswered connect, in µs.
const UNANSWERED: u64 = 60_000_000;
/// The furthest timer edge to which an arrival is delayed, in µs. A network that holds bytes back for longer
/// does not count as one that delivers eventually.
const EDGE_MAX: u64 = 120_000_000;

impl World {
    /// Creates an endpoint. Descriptor numbers are reused immediately, the last released first, so that stale
    /// ones are found.
    pub(super) fn create(&mut self, kind: Kind, owner: Owner, peer: SocketAddr) -> u32 {
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

    pub(super) fn destroy(&mut self, end: u32) {
        self.unlist(end);
        let (uid, orphan) = (self.ends[end as usize].uid, self.ends[end as usize].orphan);
        self.ends[end as usize] = End::free(uid);
        self.free.push(end);
        self.open -= usize::from(!orphan);
    }

    /// Removes an endpoint from its poller's ready list, whose entry would otherwise refer to the next use of
    /// the number.
    pub(super) fn unlist(&mut self, end: u32) {
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
    pub(super) fn arrival(&mut self, end: u32) -> u64 {
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

    pub(super) fn dispatch(&mut self, (end, uid): (u32, u32), what: Arrival) {
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

    pub(super) fn fail_connect(&mut self, end: u32, kind: ErrorKind) {
        self.trace.note(Did::Connected, end.into(), 1);
        self.end_mut(end).kind = Kind::Failed(kind);
        self.end_mut(end).error = Some(kind);
    }

    /// Delivers a connect to its listener.
    pub(super) fn establish(&mut self, end: u32) {
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
    pub(super) fn break_off(&mut self, end: u32, kind: ErrorKind) {
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
    pub(super) fn cut_connection(&mut self, end: u32) {
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
}
