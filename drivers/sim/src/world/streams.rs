//! How bytes and ends of streams pass through a connection.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lightcone_core::poller::Received;
use lightcone_core::{ErrorKind, Interest, Sent};

use super::{Done, World};
use crate::agenda::{Arrival, Scheduled};
use crate::end::{Kind, Owner};
use crate::fault::Fault;
use crate::tape::Track;
use crate::trace::{self, Did};

impl World {
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

    pub(super) fn try_receive(&mut self, end: u32, buffer: &mut [u8]) -> Received {
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

    pub(super) fn try_send(&mut self, end: u32, pieces: &[&[u8]]) -> Sent {
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
    pub(super) fn push(&mut self, end: u32) {
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
}
