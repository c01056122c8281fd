//! The sockets that wait for blocks, and how they are served.

use super::Shard;
use crate::buffer::WritableGate;
use crate::slot::Pending;
use crate::wait_queue::{WaitLinks, WaitQueue, Waiting};

/// The sockets that wait for blocks, in FIFO order.
#[derive(Debug)]
pub(crate) struct WaitQueues<'s> {
    pub(super) links: WaitLinks<'s>,
    pub(super) output: WaitQueue,
    /// The number of sockets in the output queue that have not been served since blocks were last returned or another
    /// socket ended its wait. A socket whose grant is not enough is appended again, and is not served until then.
    pub(super) unserved: u32,
    /// The pool's count of returned blocks when it was last read.
    pub(super) returned: u32,
    pub(super) input: WaitQueue,
    pub(super) large: WaitQueue,
}

impl<D> Shard<'_, D> {
    /// Returns whether a waiting socket can be served.
    pub(super) fn can_serve_waiters(&self) -> bool {
        let WaitQueues { output, unserved, returned, input, large, .. } = &self.wait_queues;
        let unserved = *unserved > 0 || (!output.is_empty() && *returned != self.output.returned());
        (unserved && self.output.can_grant())
            || (!large.is_empty() && self.input.large.available() > 0)
            || (!input.is_empty() && self.input.for_waiters() > 0)
    }

    /// Returns whether the queues and the numbers of blocks set aside match what the sockets wait for.
    pub(super) fn wait_queues_agree(&self) -> bool {
        let slots = || (0..self.slots.used() as u32).filter_map(|index| self.slots.get(index));
        let count = |of: &[Waiting]| {
            let there = slots().filter(|slot| of.contains(&slot.control.chain.waiting));
            there.fold((0, 0), |(count, weight), slot| {
                (count + 1, weight + slot.control.chain.waiting.weight())
            })
        };
        let (waiting, weight) = count(&[Waiting::Output, Waiting::OutputAgain]);
        let (taken, _) = count(&[Waiting::OutputTaken]);
        let (_, granted) = count(&[Waiting::Granted, Waiting::GrantedAll]);
        let (input, _) = count(&[Waiting::Input]);
        let (large, _) = count(&[Waiting::LargeInput]);
        self.output.set_aside() == (weight + granted, granted)
            && self.input.small.set_aside() == (input, 0)
            && self.input.large.set_aside() == (large, 0)
            && self.wait_queues.output.len() == waiting + taken
            && (self.wait_queues.input.len(), self.wait_queues.large.len()) == (input, large)
    }

    /// Serves the sockets that have waited longest, as far as blocks are free: grants output blocks, leases
    /// large input blocks, and lets sockets receive again. At most 64 of each kind per turn.
    pub(super) fn serve_waiters(&mut self) {
        const LOOKS: usize = 64;
        let WaitQueues { output, input, large, .. } = &self.wait_queues;
        if output.is_empty() && input.is_empty() && large.is_empty() {
            return;
        }
        // blocks were returned since the last turn: every waiting socket may get one chance to use them
        if self.output.returned() != self.wait_queues.returned {
            self.wait_queues.returned = self.output.returned();
            self.wait_queues.unserved = self.wait_queues.output.len();
        }
        for _ in 0..LOOKS {
            if !self.grant_first() {
                break;
            }
        }
        for _ in 0..self.input.large.available().min(LOOKS) {
            let Some(index) = self.wait_queues.large.first() else { break };
            self.dequeue_waiter(index);
            if let Some(slot) = self.slots.get_mut(index)
                && self.input.wait_queue(&slot.control.kept) == Waiting::LargeInput
            {
                self.input.enlarge(&mut slot.control.kept);
            }
            self.queue(index);
        }
        // a socket that may receive takes no block until bytes arrive, so the count is taken once
        for _ in 0..self.input.for_waiters().min(LOOKS) {
            let Some(index) = self.wait_queues.input.first() else { break };
            self.dequeue_waiter(index);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.control.chain.waiting = Waiting::MayReceive;
            }
            self.queue(index);
        }
    }

    /// Grants a block to the first socket of the output queue, unless no grant is possible now or every waiting socket
    /// has had its chance. Returns whether the socket has left the queue.
    fn grant_first(&mut self) -> bool {
        let Some(index) = self.wait_queues.output.first() else { return false };
        let Some(unserved) = self.wait_queues.unserved.checked_sub(1) else { return false };
        let Some(slot) = self.slots.get(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = slot.control.chain.waiting;
        let alone = waiting == Waiting::OutputAgain;
        // An exclusive grant must wait until all other grants are taken. Only then can it cover all blocks
        // that a socket may hold; two sockets that need several could otherwise block each other.
        if !self.output.can_grant() || (alone && !self.output.all_taken()) {
            return false;
        }
        self.dequeue_waiter(index);
        self.wait_queues.unserved = unserved;
        // A socket that has taken a block (`OutputTaken`) needs no grant. It is still queued because its connection was
        // dropped before it left the queue.
        if waiting.waits_for_output() {
            self.grant(index, if alone { Waiting::GrantedAll } else { Waiting::Granted });
        }
        true
    }

    /// Appends a socket to the queue for what it waits for. `again` is whether it was granted a block that
    /// was not enough.
    #[cold]
    pub(crate) fn enqueue_waiter(&mut self, index: u32, waiting: Waiting, again: bool) {
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = if again && waiting == Waiting::Output { Waiting::OutputAgain } else { waiting };
        slot.control.chain.waiting = waiting;
        let (queue, pool) = if waiting.waits_for_output() {
            (&mut self.wait_queues.output, &mut self.output)
        } else if waiting == Waiting::LargeInput {
            (&mut self.wait_queues.large, &mut self.input.large)
        } else {
            (&mut self.wait_queues.input, &mut self.input.small)
        };
        let first = queue.is_empty();
        if first && waiting.waits_for_output() {
            self.wait_queues.returned = pool.returned(); // it waits for blocks returned from now on
        }
        pool.add_waiter(waiting);
        queue.push(&mut self.wait_queues.links, index);
        if !waiting.waits_for_output() {
            self.stats.input_shortages += 1;
        } else {
            self.stats.output_shortages += u64::from(!again);
            // The send may have been refused although blocks are free, because they are set aside for others; or a
            // grant was too little because of the grants of others. Then the queue must be served without waiting for a
            // returned block. An exclusive grant that is too little finds all others taken, so this comes to an end.
            if !self.output.all_taken() || (!first && !again) {
                self.wait_queues.unserved = self.wait_queues.output.len();
            }
        }
    }

    /// Grants output blocks to a socket that holds none and is in no queue. `writable` becomes pending, and
    /// the blocks are set aside until it is delivered.
    #[cold]
    pub(crate) fn grant(&mut self, index: u32, granted: Waiting) {
        if let Some(slot) = self.slots.get_mut(index) {
            let control = &mut slot.control;
            (control.chain.armed, control.chain.waiting) = (false, granted);
            control.chain.set_hold(WritableGate::None);
            control.pending.set(Pending::WRITABLE);
            self.output.add_waiter(granted);
            self.queue(index);
        }
    }

    /// Ends the wait of a socket for a block. If it waited for output, every other socket that waits for output gets
    /// one chance: what was set aside for this socket may be enough for it, although no block was returned.
    #[cold]
    pub(crate) fn end_wait(&mut self, index: u32) {
        let waiting = self.slots.get(index).map_or(Waiting::None, |slot| slot.control.chain.waiting);
        self.dequeue_waiter(index);
        if !matches!(waiting, Waiting::None | Waiting::MayReceive | Waiting::Input | Waiting::LargeInput) {
            self.wait_queues.unserved = self.wait_queues.output.len();
        }
    }

    /// Removes a socket from its wait queue, if it is in one, and releases what it was granted.
    #[cold]
    pub(crate) fn dequeue_waiter(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = core::mem::take(&mut slot.control.chain.waiting);
        let WaitQueues { links, output, unserved, input, large, .. } = &mut self.wait_queues;
        match waiting {
            Waiting::None | Waiting::MayReceive | Waiting::GrantTaken => {}
            Waiting::Granted | Waiting::GrantedAll => self.output.remove_waiter(waiting),
            Waiting::Output | Waiting::OutputAgain | Waiting::OutputTaken => {
                output.remove(links, index);
                *unserved = (*unserved).min(output.len());
                if waiting != Waiting::OutputTaken {
                    self.output.remove_waiter(waiting);
                }
            }
            Waiting::Input => {
                input.remove(links, index);
                self.input.small.remove_waiter(waiting);
            }
            Waiting::LargeInput => {
                large.remove(links, index);
                self.input.large.remove_waiter(waiting);
            }
        }
    }
}
