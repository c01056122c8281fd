//! What the requests of a callback come to, and the next action of a connection.

use super::{Action, Connection};
use crate::error::CloseReason;
use crate::interest::Interest;
use crate::life::{State, Transition};
use crate::slot::{Flags, Pending, Requests};
use crate::wait_queue::Waiting;

impl<D> Connection<'_, '_, D> {
    /// Applies the effects of the last callback: removes what it consumed, keeps what it left, and takes the
    /// steps that it requested.
    pub(super) fn settle(&mut self) {
        let consumed = core::mem::take(&mut self.consumed);
        if self.fresh.is_empty() {
            if consumed > 0
                && let Some(slot) = self.shard.slots.get_mut(self.index)
            {
                self.shard.input.consume(&mut slot.control.kept, consumed);
            }
        } else if !self.control().pending.has(Pending::RECEIVE) {
            // An event has shown the slice, which is only lent: bytes that the handler left must be copied before
            // the connection ends.
            let rest = core::mem::take(&mut self.fresh).get(consumed..).unwrap_or_default();
            if !rest.is_empty() {
                self.keep(rest);
            }
        }
        if !self.control().asked.is_empty() {
            self.settle_asked();
        }
        let control = self.control();
        if control.state == State::Draining && control.chain.is_empty() {
            let now = self.shard.now.tick();
            self.control().step(Transition::Flushed, now);
        }
        if !self.control().state.is_live() {
            self.settle_ending();
        }
    }

    #[cold]
    pub(super) fn settle_asked(&mut self) {
        let now = self.shard.now.tick();
        let asked = core::mem::take(&mut self.control().asked);
        self.release_tail(); // all queued output precedes the end, held-back output included
        if asked.has(Requests::ENDS) {
            self.control().flags.set(Flags::CLOSING);
            // a driver may close a socket before `open` was delivered
            self.control().pending = self.control().pending.only(Pending::OPEN);
        }
        if !self.control().state.is_live() {
            if asked.has(Requests::ABORT) {
                self.control().flags.set(Flags::RESET); // in `close`: only how to close the connection is still open
            }
            return;
        }
        // Closing a socket with unread input would make the kernel reset the connection, and the peer would
        // lose the last output. So such a close is staged.
        let unread = !self.fresh.is_empty() || self.control().may_have_unread();
        let orderly = if self.control().flags.has(Flags::PEER_ENDED) {
            CloseReason::Peer
        } else if self.shard.shared.stopping {
            CloseReason::Shutdown
        } else {
            CloseReason::Local
        };
        let control = self.control();
        let (step, reason) = if asked.has(Requests::ABORT) {
            (Transition::Abort, CloseReason::Aborted)
        } else if asked.has(Requests::LINGER) || (asked.has(Requests::CLOSE) && unread) {
            (Transition::Linger, orderly)
        } else if asked.has(Requests::CLOSE) {
            (Transition::Close, orderly)
        } else {
            (Transition::Finish, orderly)
        };
        control.set_close_reason(reason);
        control.step(step, now);
    }

    fn release_tail(&mut self) {
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.release_tail(&self.shard.output.lend());
        }
    }

    /// Settles a socket that is not live any more: it receives only its last event, and holds no input.
    #[inline(never)]
    fn settle_ending(&mut self) {
        self.release_tail(); // if the socket is closed, it counts as lost
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return };
        let control = &mut slot.control;
        // `open` may still be undelivered. If the end of the peer's stream is, it must be delivered too, with
        // the bytes before it: it may be the very reason why the socket has ended.
        let news = if control.pending.has(Pending::PEER_CLOSED) { Pending::LAST } else { Pending::OPEN };
        control.pending = control.pending.only(news);
        // no event will show the input any more
        if control.pending.is_empty() {
            self.fresh = &mut [];
            self.shard.input.release(&mut control.kept);
        }
        // a block that stays set aside for this socket would be missing for those that wait
        if control.chain.waiting != Waiting::None {
            self.shard.end_wait(self.index);
        }
        let control = self.control();
        // `close` shows how many bytes were not sent, so it must wait for the result of a send in flight
        if control.state == State::Closed && !control.flags.has(Flags::ENDED.with(Flags::IN_FLIGHT)) {
            let opened = control.flags.has(Flags::OPENED) || control.pending.has(Pending::OPEN);
            control.pending.set(if opened { Pending::CLOSE } else { Pending::REFUSED });
        }
    }

    /// Ends the connection: keeps the bytes that were not consumed and returns the next action.
    pub fn finish(&mut self) -> Action {
        self.settle();
        self.keep_fresh();
        self.conclude()
    }

    /// Ends a connection that is settled.
    pub(super) fn conclude(&mut self) -> Action {
        // return unused blocks first: the next line may grant them
        if let Some(slot) = self.shard.slots.get_mut(self.index) {
            slot.control.chain.trim(&mut self.shard.output);
        }
        let waits = self.grant_writable();
        let Some(slot) = self.shard.slots.get_mut(self.index) else { return Action::Wait(Interest::NONE) };
        let control = &mut slot.control;
        if control.state == State::Closed {
            return self.finish_closed();
        }
        // `writable` may just have been granted, and a pull user may have left events
        let queue = !control.pending.is_empty();
        let was = control.chain.waiting;
        let room = !control.state.is_live() || self.shard.input.room(&control.kept, was) > 0;
        let waiting = if waits {
            Waiting::Output
        } else if !room && control.state.reads() && !control.holds_back() {
            self.shard.input.wait_queue(&control.kept)
        } else {
            Waiting::None
        };
        let (next, times) = (control.next(room), control.flags.has(Flags::TIMES));
        if waiting != was {
            self.change_queue(waiting);
        }
        // after that, since a socket that waits for a block is not idle
        if times {
            self.shard.rearm_timer(self.index);
        }
        if queue {
            self.shard.queue(self.index);
        }
        next
    }

    /// Moves the socket to another wait queue, or to none.
    #[cold]
    fn change_queue(&mut self, waiting: Waiting) {
        let control = self.control();
        let was = control.chain.waiting;
        // Nothing changes in three cases: `writable` has yet to announce a grant; the socket waits for output
        // again already; it was permitted to receive, and no bytes have arrived yet.
        let granted = was.is_granted() && control.pending.has(Pending::WRITABLE);
        let waits = was == Waiting::OutputAgain && waiting == Waiting::Output;
        let receives = was == Waiting::MayReceive && waiting == Waiting::None && control.kept.is_empty();
        if granted || waits || receives {
            return;
        }
        if waiting == Waiting::Output {
            self.shard.dequeue_waiter(self.index);
            // the granted block was not enough: the next grant must be exclusive
            let again = was.is_granted() || matches!(was, Waiting::GrantTaken | Waiting::OutputTaken);
            self.shard.enqueue_waiter(self.index, waiting, again);
        } else {
            self.shard.end_wait(self.index);
            if waiting != Waiting::None {
                self.shard.enqueue_waiter(self.index, waiting, false);
            }
        }
    }

    fn finish_closed(&mut self) -> Action {
        let Some(slot) = self.shard.slots.get_mut(self.index) else {
            unreachable!("slots are never removed")
        };
        let control = &mut slot.control;
        if !control.pending.is_empty() {
            // a pull user has not taken the last event yet
            self.shard.queue(self.index);
            return Action::Wait(Interest::NONE);
        }
        // the bytes in flight must stay in place until the send is over
        if control.flags.has(Flags::IN_FLIGHT) {
            return Action::CancelSend;
        }
        if let Some(data) = slot.data.take() {
            self.shard.stats.ended(control);
            drop(data); // may panic: the socket is counted by then, and the next run continues below
        }
        self.shard.stats.bytes_lost += control.chain.queued() as u64;
        let cut = control.reason == Some(CloseReason::Aborted);
        // Checked before the chain is cleared: lost bytes require a reset, since to the peer a plain close
        // would look like the end of a complete stream.
        self.shard.broke_off = cut || control.flags.has(Flags::RESET) || !control.chain.is_empty();
        control.chain.clear(&mut self.shard.output);
        let now = self.shard.now.tick();
        control.step(Transition::Release, now);
        self.shard.free_slot(self.index);
        Action::Close
    }
}
