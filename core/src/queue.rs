//! The ready queue: sockets that are due for a turn, as a FIFO list linked through their slots.

use crate::storage::Slots;

/// A FIFO queue of slots. Indices are stored plus one; 0 means none.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Queue {
    first: u32,
    last: u32,
    len: u32,
}

impl Queue {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Appends a slot that is not in this queue.
    pub(crate) fn push<D>(&mut self, slots: &mut Slots<'_, D>, index: u32) {
        if let Some(slot) = slots.get_mut(index) {
            slot.control.next = 0;
        }
        match self.last.checked_sub(1) {
            Some(last) => {
                if let Some(slot) = slots.get_mut(last) {
                    slot.control.next = index + 1;
                }
            }
            None => self.first = index + 1,
        }
        self.last = index + 1;
        self.len += 1;
    }

    pub(crate) fn pop<D>(&mut self, slots: &mut Slots<'_, D>) -> Option<u32> {
        let index = self.first.checked_sub(1)?;
        self.first = core::mem::take(&mut slots.get_mut(index)?.control.next);
        if self.first == 0 {
            self.last = 0;
        }
        self.len -= 1;
        Some(index)
    }
}
