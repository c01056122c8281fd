//! How pollers and peers are notified: readiness, and the completions of operations.

use lightcone_core::{Interest, Sent};

use super::{Completion, Done, World};
use crate::end::{Kind, Ops, Owner, SendOp};
use crate::fault::Fault;
use crate::tape::Track;
use crate::trace::Did;

impl World {
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

    pub(super) fn touch_other(&mut self, other: (u32, u32)) {
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

    pub(super) fn complete(&mut self, poller: u32, end: u32, done: Done) {
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

    pub(super) fn send_op(&mut self, end: u32) -> Option<&mut SendOp> {
        self.end_mut(end).ops.as_mut()?.send.as_mut()
    }

    /// Removes and returns the send of an endpoint.
    pub(crate) fn take_send(&mut self, end: u32) -> Option<SendOp> {
        self.end_mut(end).ops.as_mut()?.send.take()
    }

    /// Carries out the pending operations of a completion driver, as far as possible now.
    pub(super) fn progress(&mut self, poller: u32, end: u32) {
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

    pub(super) fn do_receive(&mut self, end: u32, most: usize) -> Done {
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

    pub(super) fn do_send(&mut self, poller: u32, end: u32) {
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
}
