//! The bounded queue from any number of threads to one poller.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::slot::{MailboxSlot, Sequence, Vacant};
use crate::sync::{const_unless_loom, ord};

/// The lowest bit of the tail. The position is in the bits above it.
const CLOSED: usize = 1;
/// The mask of positions, which are one bit narrower than the tail.
const POSITIONS: usize = usize::MAX >> 1;

const fn advance(position: usize, by: usize) -> usize {
    position.wrapping_add(by) & POSITIONS
}

/// A [`Mailbox`] that contains its slots, for a `static` and for a capacity that is known at compile time.
#[cfg(not(loom))]
pub type StaticMailbox<T, const N: usize> = Mailbox<T, [MailboxSlot<T>; N]>;

/// A bounded queue that many threads push to and one [`Receiver`] pops from.
///
/// It never blocks, spins on another thread or allocates, and works in a `static`. `S` holds the slots: an array (see
/// [`StaticMailbox`]), or `Box<[MailboxSlot<T>]>` if the capacity is chosen at run time. Values only need to be `Send`.
///
/// - **Order:** values that one thread pushes are popped in that order.
/// - **Full:** the push returns the value, and the caller decides what to do with it. A slot is free again only after
///   its value *and* every value pushed before it were popped, so `Full` is backpressure and no exact count of the
///   values that wait.
/// - **Closed:** every push was either accepted, and its value is popped before [`TryRecv::Finished`], or it returned
///   its value. There is no third outcome.
/// - **Stalls:** a producer that is stopped in the middle of a push hides the values pushed after it until it
///   continues. Nothing is lost, and each producer makes its own wake call after its own push.
/// - **Drop:** values that were never popped are dropped with the mailbox.
///
/// ```
/// use lightcone_core::sync::{TryRecv, StaticMailbox};
///
/// static MAILBOX: StaticMailbox<u32, 8> = StaticMailbox::new();
///
/// let mut receiver = MAILBOX.receiver().expect("first call");
/// MAILBOX.push(7).unwrap(); // from any thread
/// assert_eq!(receiver.pop(), TryRecv::Item(7));
/// assert_eq!(receiver.pop(), TryRecv::Empty);
/// MAILBOX.close();
/// assert!(MAILBOX.push(8).is_err());
/// assert_eq!(receiver.pop(), TryRecv::Finished);
/// ```
///
/// With a capacity from a setting, on a host:
///
/// ```
/// use std::sync::Arc;
/// use lightcone_core::sync::{Mailbox, Receiver, MailboxSlot};
///
/// let slots: Box<[MailboxSlot<u32>]> = (0..64).map(|_| MailboxSlot::new()).collect();
/// let mailbox = Arc::new(Mailbox::with_slots(slots)?);
/// let mut receiver = Receiver::new(Arc::clone(&mailbox)).expect("first call");
/// # mailbox.push(1).unwrap();
/// # receiver.pop();
/// # Ok::<(), lightcone_core::sync::SlotsError>(())
/// ```
pub struct Mailbox<T, S> {
    slots: S,
    /// The next position to claim, and whether the mailbox is closed, in one word: so a claim comes either before the
    /// close or not at all.
    tail: AtomicUsize,
    /// Whether a receiver was ever created. It is never reset.
    received: AtomicBool,
    values: PhantomData<fn() -> T>,
}

#[cfg(not(loom))]
impl<T, const N: usize> Mailbox<T, [MailboxSlot<T>; N]> {
    /// Creates an empty mailbox of `N` slots. `N` must be a power of two: any other capacity does not compile.
    ///
    /// ```compile_fail
    /// static MAILBOX: lightcone_core::sync::StaticMailbox<u32, 6> = lightcone_core::sync::StaticMailbox::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N.is_power_of_two(), "the capacity of a mailbox must be a power of two") };
        Self::unchecked([const { MailboxSlot::new() }; N])
    }
}

#[cfg(not(loom))]
impl<T, const N: usize> Default for Mailbox<T, [MailboxSlot<T>; N]> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, S> Mailbox<T, S> {
    const_unless_loom! {
        const fn unchecked(slots: S) -> Self {
            Self {
                slots,
                tail: AtomicUsize::new(0),
                received: AtomicBool::new(false),
                values: PhantomData,
            }
        }
    }

    /// Closes the mailbox: later pushes fail, and the values pushed before can still be popped. Any thread may call it.
    ///
    /// Returns `true` for the one call that closed it. Everything that was written before that call is visible to the
    /// thread that pops [`TryRecv::Finished`].
    pub fn close(&self) -> bool {
        self.tail.fetch_or(CLOSED, ord::CLOSE) & CLOSED == 0
    }

    /// Returns whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.tail.load(Ordering::Relaxed) & CLOSED != 0
    }
}

impl<T, S: AsRef<[MailboxSlot<T>]>> Mailbox<T, S> {
    /// Creates an empty mailbox over `slots`, which must be new and not shared with another mailbox.
    ///
    /// # Errors
    ///
    /// [`SlotsError`] if their number is not a power of two, or if they were used before.
    pub fn with_slots(slots: S) -> Result<Self, SlotsError> {
        let all = slots.as_ref();
        if !all.len().is_power_of_two() {
            return Err(SlotsError::Capacity(all.len()));
        }
        if !all.iter().all(MailboxSlot::is_fresh) {
            return Err(SlotsError::Used);
        }
        Ok(Self::unchecked(slots))
    }

    /// Returns the number of slots.
    pub fn capacity(&self) -> usize {
        self.slots.as_ref().len()
    }

    /// Returns the consuming end, borrowed from the mailbox. `None` if there is or was a receiver already.
    pub fn receiver(&self) -> Option<Receiver<&Self>> {
        Receiver::new(self).ok()
    }

    /// Appends `value`. Any thread may call it, at any time.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] and [`PushError::Closed`] return the value. Full is temporary: the receiver makes room.
    ///
    /// # Panics
    ///
    /// If two mailboxes were created over the same slots, which is only possible with a storage that shares its
    /// contents.
    pub fn push(&self, value: T) -> Result<(), PushError<T>> {
        match self.claim() {
            Ok(vacant) => {
                assert!(vacant.put(value).is_ok(), "two mailboxes share their slots");
                Ok(())
            }
            Err(Refused::Full) => Err(PushError::Full(value)),
            Err(Refused::Closed) => Err(PushError::Closed(value)),
        }
    }

    /// Returns whether a push would have found room just now. It is a hint: other threads may take the room.
    pub fn has_room(&self) -> bool {
        let tail = self.tail.load(Ordering::Relaxed);
        let (slot, turn) = locate(self.slots.as_ref(), tail >> 1);
        slot.vacant(turn).is_some()
    }

    /// Claims the next position, and with it the sole right to put a value into its slot.
    fn claim(&self) -> Result<Vacant<'_, T>, Refused> {
        let slots = self.slots.as_ref();
        let mut tail = self.tail.load(Ordering::Relaxed);
        // Every iteration but the first follows a push or a close of another thread, so some thread makes progress.
        while tail & CLOSED == 0 {
            let (slot, turn) = locate(slots, tail >> 1);
            let now = match slot.vacant(turn) {
                Some(vacant) => match self.move_tail(tail) {
                    Ok(_) => return Ok(vacant),
                    Err(now) => now,
                },
                None => self.tail.load(Ordering::Relaxed),
            };
            // Not vacant: either the slot still holds the previous lap, or `tail` is out of date. In the latter case
            // the producer that took the slot has made the newer tail visible (`ord::SEE`).
            if now == tail {
                return Err(Refused::Full);
            }
            tail = now;
        }
        Err(Refused::Closed)
    }

    /// Claims the position of `tail`. Fails with the newer tail if another thread claimed it or the mailbox was closed.
    /// The weak exchange will not do: its spurious failures return the same tail, which `claim` would take for `Full`.
    fn move_tail(&self, tail: usize) -> Result<usize, usize> {
        self.tail.compare_exchange(tail, tail.wrapping_add(2), Ordering::Relaxed, Ordering::Relaxed)
    }
}

/// A [`PushError`] without the value.
enum Refused {
    Full,
    Closed,
}

/// Returns the slot of `position`, and the turn in which it is free for it.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "masked to the length; a storage that shrinks to nothing is broken"
)]
fn locate<T>(slots: &[MailboxSlot<T>], position: usize) -> (&MailboxSlot<T>, Sequence) {
    (&slots[position & slots.len().wrapping_sub(1)], Sequence::of(position, slots.len()))
}

impl<T, S> fmt::Debug for Mailbox<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = self.tail.load(Ordering::Relaxed);
        f.debug_struct("Mailbox")
            .field("position", &(tail >> 1))
            .field("closed", &(tail & CLOSED != 0))
            .finish_non_exhaustive()
    }
}

/// The one consumer of a [`Mailbox`].
///
/// `R` is a pointer to the mailbox: a reference, or an `Arc` that keeps the mailbox alive. A mailbox has one receiver
/// in its lifetime. It can be sent to the thread that uses it, but not cloned.
///
/// ```compile_fail
/// # use lightcone_core::sync::StaticMailbox;
/// static MAILBOX: StaticMailbox<u32, 8> = StaticMailbox::new();
/// let second = MAILBOX.receiver().unwrap().clone();
/// ```
pub struct Receiver<R> {
    mailbox: R,
    /// The next position to pop.
    head: usize,
}

impl<T, S, R> Receiver<R>
where
    S: AsRef<[MailboxSlot<T>]>,
    R: Deref<Target = Mailbox<T, S>>,
{
    /// Creates the consuming end of `mailbox`.
    ///
    /// # Errors
    ///
    /// Returns `mailbox` if it has or had a receiver already.
    pub fn new(mailbox: R) -> Result<Self, R> {
        // Relaxed suffices: there was no earlier receiver, so there is no state of one to be visible.
        if mailbox.received.swap(true, Ordering::Relaxed) {
            return Err(mailbox);
        }
        Ok(Self { mailbox, head: 0 })
    }

    /// Returns the mailbox.
    pub fn mailbox(&self) -> &Mailbox<T, S> {
        &self.mailbox
    }

    /// Pops the oldest value.
    pub fn pop(&mut self) -> TryRecv<T> {
        let mailbox = &*self.mailbox;
        let slots = mailbox.slots.as_ref();
        let (slot, turn) = locate(slots, self.head);
        if let Some(value) = slot.take(turn, Sequence::of(advance(self.head, slots.len()), slots.len())) {
            self.head = advance(self.head, 1);
            return TryRecv::Item(value);
        }
        // One word holds both facts: the mailbox is closed, and no position beyond the popped ones was claimed.
        if mailbox.tail.load(ord::FINISH) == self.head << 1 | CLOSED {
            TryRecv::Finished
        } else {
            TryRecv::Empty
        }
    }

    /// Returns for how many values there is room. Pushes of other threads may have taken some of it since.
    pub fn room(&self) -> usize {
        let tail = self.mailbox.tail.load(Ordering::Relaxed) >> 1;
        let used = tail.wrapping_sub(self.head) & POSITIONS;
        self.mailbox.slots.as_ref().len().saturating_sub(used)
    }

    /// Returns whether [`pop`](Self::pop) would return a value now. It is a cheap check, for example before sleeping.
    pub fn is_ready(&self) -> bool {
        let (slot, turn) = locate(self.mailbox.slots.as_ref(), self.head);
        slot.is_full(turn)
    }
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("position", &self.head).finish_non_exhaustive()
    }
}

/// The result of [`Receiver::pop`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum TryRecv<T> {
    /// The oldest value.
    Item(T),
    /// No value at the moment.
    Empty,
    /// No value ever again: the mailbox is closed and everything that was accepted has been popped.
    Finished,
}

impl<T> TryRecv<T> {
    /// Returns the value, if there was one.
    pub fn item(self) -> Option<T> {
        match self {
            Self::Item(value) => Some(value),
            Self::Empty | Self::Finished => None,
        }
    }
}

/// The reason why a push failed, with the value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushError<T> {
    /// The mailbox is full.
    Full(T),
    /// The mailbox is closed.
    Closed(T),
}

impl<T> PushError<T> {
    /// Returns the value that was not pushed.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::Full(_) => "mailbox full",
            Self::Closed(_) => "mailbox closed",
        }
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl<T> core::error::Error for PushError<T> {}

/// The reason why a [`Mailbox`] cannot be created from some slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SlotsError {
    /// The number of slots, which is not a power of two.
    Capacity(usize),
    /// The slots were used before.
    Used,
}

impl fmt::Display for SlotsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(slots) => {
                write!(f, "a mailbox cannot have {slots} slots: their number must be a power of two")
            }
            Self::Used => f.write_str("the slots of a mailbox must be new"),
        }
    }
}

impl core::error::Error for SlotsError {}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::boxed::Box;
    use alloc::collections::VecDeque;
    use alloc::rc::Rc;
    use alloc::string::ToString;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use core::cell::Cell;

    use static_assertions::{assert_impl_all, assert_not_impl_any};

    use super::*;

    type Boxed<T> = Mailbox<T, Box<[MailboxSlot<T>]>>;

    assert_impl_all!(Boxed<Cell<u8>>: Send, Sync);
    assert_not_impl_any!(Boxed<Rc<u8>>: Send, Sync);
    assert_impl_all!(Receiver<Arc<Boxed<Cell<u8>>>>: Send);
    assert_not_impl_any!(Receiver<Arc<Boxed<u8>>>: Clone);
    assert_impl_all!(PushError<Rc<u8>>: core::error::Error);

    fn boxed<T>(capacity: usize) -> Boxed<T> {
        Mailbox::with_slots((0..capacity).map(|_| MailboxSlot::new()).collect::<Box<[_]>>()).unwrap()
    }

    /// Creates a mailbox in the state after `start` messages came and went.
    fn starting_at<T>(start: usize, capacity: usize) -> (Arc<Boxed<T>>, Receiver<Arc<Boxed<T>>>) {
        let mut slots: Vec<MailboxSlot<T>> = (0..capacity).map(|_| MailboxSlot::new()).collect();
        for position in (0..capacity).map(|i| advance(start, i)) {
            slots[position % capacity] = MailboxSlot::waiting(Sequence::of(position, capacity));
        }
        let mailbox: Boxed<T> = Mailbox::unchecked(slots.into_boxed_slice());
        mailbox.tail.store(start << 1, Ordering::Relaxed);
        let mailbox = Arc::new(mailbox);
        let mut receiver = Receiver::new(Arc::clone(&mailbox)).unwrap();
        receiver.head = start;
        (mailbox, receiver)
    }

    /// Returns a number that is random enough to mix pushes with pops. The seed is in the test.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    /// Compares random pushes and pops from position `start` on with those of a `VecDeque`.
    fn compare_with_a_deque(capacity: usize, start: usize) {
        let (mailbox, mut receiver) = starting_at::<Box<u64>>(start, capacity);
        let mut oracle = VecDeque::new();
        let mut state = 7;
        for step in 0..1_000 {
            if random(&mut state).is_multiple_of(2) {
                let room = oracle.len() < capacity;
                let expected = room.then_some(()).ok_or_else(|| PushError::Full(Box::new(step)));
                assert_eq!(mailbox.push(Box::new(step)), expected);
                oracle.extend(room.then_some(step));
            } else {
                assert_eq!(receiver.is_ready(), !oracle.is_empty());
                assert_eq!(receiver.pop().item().map(|value| *value), oracle.pop_front());
            }
        }
        mailbox.close();
        for value in oracle {
            assert_eq!(receiver.pop(), TryRecv::Item(Box::new(value)));
        }
        assert_eq!(receiver.pop(), TryRecv::Finished);
    }

    #[test]
    fn behaves_as_a_bounded_deque_on_every_lap_and_across_the_wrap() {
        for capacity in [1, 2, 4, 16] {
            for start in [0, POSITIONS / 2, POSITIONS - 2 * capacity, POSITIONS - 1, POSITIONS] {
                compare_with_a_deque(capacity, start);
            }
        }
    }

    #[test]
    fn position_wraps_one_bit_below_the_word() {
        let (mailbox, mut receiver) = starting_at(POSITIONS, 2);
        assert_eq!(mailbox.push('a'), Ok(()));
        assert_eq!(mailbox.tail.load(Ordering::Relaxed), 0);
        assert_eq!(mailbox.push('b'), Ok(()));
        assert_eq!(mailbox.push('c'), Err(PushError::Full('c')));
        assert_eq!(receiver.pop(), TryRecv::Item('a'));
        assert_eq!(receiver.head, 0);
        assert_eq!(receiver.pop(), TryRecv::Item('b'));
        assert_eq!(receiver.pop(), TryRecv::Empty);
    }

    #[test]
    fn closed_delivers_what_was_accepted_and_refuses_the_rest() {
        let mailbox = boxed(4);
        let mut receiver = mailbox.receiver().unwrap();
        assert_eq!(mailbox.push(1), Ok(()));
        assert!(!mailbox.is_closed());
        assert!(mailbox.close());
        assert!(!mailbox.close());
        assert!(mailbox.is_closed());
        assert_eq!(mailbox.push(2), Err(PushError::Closed(2)));
        assert_eq!(receiver.pop(), TryRecv::Item(1));
        assert_eq!(receiver.pop(), TryRecv::Finished);
        assert_eq!(receiver.pop(), TryRecv::Finished);
    }

    #[test]
    fn a_full_and_closed_mailbox_is_closed() {
        let mailbox = boxed(1);
        assert_eq!(mailbox.push(1), Ok(()));
        mailbox.close();
        assert_eq!(mailbox.push(2), Err(PushError::Closed(2)));
    }

    #[test]
    fn one_receiver_and_no_second() {
        let mailbox = Arc::new(boxed::<u8>(1));
        let receiver = Receiver::new(Arc::clone(&mailbox)).unwrap();
        assert!(mailbox.receiver().is_none());
        drop(receiver);
        assert!(Receiver::new(mailbox).is_err());
    }

    #[test]
    fn drop_drops_what_was_never_popped_once() {
        let value = Rc::new(());
        let mailbox = boxed(4);
        let mut receiver = mailbox.receiver().unwrap();
        for _ in 0..3 {
            mailbox.push(Rc::clone(&value)).unwrap();
        }
        drop(receiver.pop());
        assert_eq!(Rc::strong_count(&value), 3);
        drop(mailbox);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    #[test]
    fn a_capacity_that_is_no_power_of_two_is_refused_by_name() {
        for capacity in [0, 3, 6, 100] {
            let slots: Box<[MailboxSlot<u8>]> = (0..capacity).map(|_| MailboxSlot::new()).collect();
            let error = Mailbox::with_slots(slots).unwrap_err();
            assert_eq!(error, SlotsError::Capacity(capacity));
            assert!(error.to_string().contains(&capacity.to_string()), "{error}");
        }
        assert_eq!(boxed::<u8>(1).capacity(), 1);
    }

    #[test]
    fn borrowed_slots_serve_one_mailbox() {
        let mut slots = [const { MailboxSlot::new() }; 2];
        assert_eq!(Mailbox::with_slots(&mut slots[..]).unwrap().push(1), Ok(()));
        assert_eq!(Mailbox::with_slots(&mut slots[..]).unwrap_err(), SlotsError::Used);
    }

    #[test]
    fn slots_that_two_mailboxes_share_are_not_overwritten() {
        let slots: Arc<[MailboxSlot<u8>]> = (0..2).map(|_| MailboxSlot::new()).collect();
        let one = Mailbox::with_slots(Arc::clone(&slots)).unwrap();
        let other = Mailbox::with_slots(slots).unwrap();
        assert_eq!(one.push(1), Ok(()));
        assert_eq!(other.push(2), Err(PushError::Full(2)));
        assert_eq!(one.receiver().unwrap().pop(), TryRecv::Item(1));
    }

    #[test]
    fn a_mailbox_is_made_when_compiling() {
        static MAILBOX: StaticMailbox<u8, 2> = StaticMailbox::new();
        let mut receiver = MAILBOX.receiver().unwrap();
        assert_eq!(MAILBOX.push(1), Ok(()));
        assert_eq!(receiver.pop(), TryRecv::Item(1));
    }
}
