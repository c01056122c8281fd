//! A place for one value, with a turn counter that determines its owner.
//!
//! The turn runs `FREE` → `WRITING` → `FULL` → `READING` and on to the `FREE` of the next lap. The steps `FREE` →
//! `WRITING` and `FULL` → `READING` are exchanges on the turn itself: the thread that makes one has exclusive access to
//! the value until it stores the next turn. The slot is therefore sound on its own, regardless of how the code around
//! it handles positions, and the mailbox needs neither `unsafe` nor trust in its storage.

use core::fmt;
use core::mem::MaybeUninit;

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::cell::UnsafeCell;
use crate::sync::{const_unless_loom, ord};

/// The turn of a slot that is free in one lap. The next three numbers are the other states of that lap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sequence(usize);

const WRITING: usize = 1;
const FULL: usize = 2;
const READING: usize = 3;
const STATES: usize = 4;

impl Sequence {
    /// Returns the turn in which the slot of `position` is free for it, in a ring of `capacity` slots, a power of two.
    #[inline(always)]
    pub(super) const fn of(position: usize, capacity: usize) -> Self {
        Self((position >> capacity.trailing_zeros()).wrapping_mul(STATES))
    }

    const fn state(self, state: usize) -> usize {
        self.0 | state
    }
}

/// One slot of a [`Mailbox`](crate::sync::Mailbox), which takes its slots as an array or a slice.
pub struct MailboxSlot<T> {
    /// INVARIANT: in state `FULL` the value is initialised and owned by no thread. In `WRITING` and `READING` it
    /// belongs to the thread that moved the turn there.
    turn: AtomicUsize,
    value: UnsafeCell<MaybeUninit<T>>,
}

#[expect(unsafe_code, reason = "a value moves through the slot from one thread to another")]
// SAFETY: a shared `MailboxSlot` transfers a value and never a reference to it: `put` and `take` move it, and the
// exchange on `turn` makes each of them exclusive. So values only need to be `Send`.
unsafe impl<T: Send> Sync for MailboxSlot<T> {}

impl<T> MailboxSlot<T> {
    const_unless_loom! {
        /// Creates a free slot. All of its initialised bytes are zero, so that a `static` array of slots is zeroed
        /// memory.
        #[must_use]
        pub const fn new() -> Self {
            Self { turn: AtomicUsize::new(0), value: UnsafeCell::new(MaybeUninit::uninit()) }
        }
    }

    /// Creates a free slot that waits for the lap of `turn`.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn waiting(turn: Sequence) -> Self {
        Self { turn: AtomicUsize::new(turn.0), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Returns whether the slot has never held a value.
    pub(super) fn is_fresh(&self) -> bool {
        self.turn.load(Ordering::Relaxed) == 0
    }

    /// Returns the slot as a place for a value, if it is free in `turn`.
    #[inline(always)]
    pub(super) fn vacant(&self, turn: Sequence) -> Option<Vacant<'_, T>> {
        (self.turn.load(ord::SEE) == turn.0).then_some(Vacant { slot: self, turn })
    }

    /// Moves the value out if it was put in `turn`, and leaves the slot free for `next`.
    #[inline(always)]
    pub(super) fn take(&self, turn: Sequence, next: Sequence) -> Option<T> {
        let full = turn.state(FULL);
        // a plain load first, so that polling an empty mailbox costs no exchange
        if self.turn.load(Ordering::Relaxed) != full {
            return None;
        }
        self.turn.compare_exchange(full, turn.state(READING), ord::TAKE, Ordering::Relaxed).ok()?;
        let value = self.value.with_mut(|value| {
            #[expect(unsafe_code, reason = "moves the value out of the cell")]
            // SAFETY: the exchange above found `FULL`, so the value is initialised, and its acquire makes the write
            // visible. It left `READING`, so no other thread touches the value until `FREE` is stored below, and none
            // reads it again before the next `put`.
            unsafe {
                value.cast::<T>().read()
            }
        });
        self.turn.store(next.0, ord::FREE);
        Some(value)
    }

    /// Returns whether [`take`](Self::take) would return a value now.
    pub(super) fn is_full(&self, turn: Sequence) -> bool {
        self.turn.load(Ordering::Relaxed) == turn.state(FULL)
    }
}

impl<T> Default for MailboxSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for MailboxSlot<T> {
    fn drop(&mut self) {
        if self.turn.load(Ordering::Relaxed) % STATES == FULL {
            self.value.with_mut(|value| {
                #[expect(unsafe_code, reason = "drops a value that was never taken")]
                // SAFETY: the turn is `FULL`, so the value is initialised; `&mut self` is the only access.
                unsafe {
                    value.cast::<T>().drop_in_place();
                }
            });
        }
    }
}

impl<T> fmt::Debug for MailboxSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("turn", &self.turn).finish_non_exhaustive()
    }
}

/// A slot that was loaded as free, with the acquire that makes it sound to write to.
pub(super) struct Vacant<'a, T> {
    slot: &'a MailboxSlot<T>,
    turn: Sequence,
}

impl<T> Vacant<'_, T> {
    /// Puts `value` into the slot, or returns it if another thread was faster.
    #[inline(always)]
    pub(super) fn put(self, value: T) -> Result<(), T> {
        let Self { slot, turn } = self;
        if slot.turn.compare_exchange(turn.0, turn.state(WRITING), ord::ENTER, Ordering::Relaxed).is_err() {
            return Err(value);
        }
        slot.value.with_mut(|place| {
            #[expect(unsafe_code, reason = "moves the value into the cell")]
            // SAFETY: the exchange above left `WRITING`, so no other thread touches the value until `FULL` is stored
            // below. `vacant` loaded the same turn with acquire, so the move of the previous value is complete.
            unsafe {
                place.cast::<T>().write(value);
            }
        });
        slot.turn.store(turn.state(FULL), ord::PUBLISH);
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::sync::Arc;

    use super::*;

    #[test]
    fn only_the_turn_that_is_up_puts_and_takes() {
        let slot = MailboxSlot::new();
        let (now, next) = (Sequence::of(5, 8), Sequence::of(13, 8));
        assert!(slot.vacant(next).is_none());
        assert!(slot.take(now, next).is_none());
        assert_eq!(slot.vacant(now).unwrap().put("a"), Ok(()));
        assert!(slot.vacant(now).is_none() && slot.vacant(next).is_none());
        assert!(slot.is_full(now) && !slot.is_full(next));
        assert_eq!(slot.take(next, now), None);
        assert_eq!(slot.take(now, next), Some("a"));
        assert_eq!(slot.take(now, next), None);
        assert!(slot.vacant(next).is_some());
    }

    #[test]
    fn of_two_that_saw_it_vacant_one_gets_its_value_back() {
        let slot = MailboxSlot::new();
        let turn = Sequence::of(0, 1);
        let (first, second) = (slot.vacant(turn).unwrap(), slot.vacant(turn).unwrap());
        assert_eq!(first.put(1), Ok(()));
        assert_eq!(second.put(2), Err(2));
        assert_eq!(slot.take(turn, Sequence::of(1, 1)), Some(1));
    }

    #[test]
    fn drop_drops_a_value_that_is_there_and_no_other() {
        let value = Arc::new(());
        let turn = Sequence::of(0, 1);
        drop(MailboxSlot::<Arc<()>>::new());
        let slot = MailboxSlot::new();
        slot.vacant(turn).unwrap().put(Arc::clone(&value)).unwrap();
        assert_eq!(Arc::strong_count(&value), 2);
        drop(slot);
        assert_eq!(Arc::strong_count(&value), 1);
        let slot = MailboxSlot::new();
        slot.vacant(turn).unwrap().put(Arc::clone(&value)).unwrap();
        drop(slot.take(turn, Sequence::of(1, 1)));
        drop(slot);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}
