//! A set of small numbers that threads add to.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::ord;

/// The number of words for 256 members.
const WORDS: usize = 256 / usize::BITS as usize;

/// A set of numbers from 0 to 255: any thread inserts, and one takes all of them.
///
/// A thread that takes a number sees everything that happened before the number was inserted.
///
/// ```
/// use lightcone_core::sync::AtomicSet;
///
/// static SET: AtomicSet = AtomicSet::new();
/// SET.insert(200);
/// SET.insert(3);
/// SET.insert(200);
/// let mut taken = Vec::new();
/// SET.take(|number| taken.push(number));
/// assert_eq!(taken, [3, 200]);
/// SET.take(|_| unreachable!("it is empty"));
/// ```
#[derive(Debug)]
pub struct AtomicSet([AtomicUsize; WORDS]);

impl AtomicSet {
    /// Creates an empty set.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; WORDS])
    }

    /// Creates an empty set.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicUsize::new(0)))
    }

    /// Inserts a number. Any thread may call it.
    pub fn insert(&self, number: u8) {
        let (word, bit) = (u32::from(number) / usize::BITS, u32::from(number) % usize::BITS);
        if let Some(word) = self.0.get(word as usize) {
            word.fetch_or(1 << bit, ord::INSERT);
        }
    }

    /// Removes all numbers and passes each of them to `each`, the smallest first.
    ///
    /// It looks before it removes, so an empty set costs a load for each word. A number of which the caller has been
    /// notified is not missed.
    pub fn take(&self, mut each: impl FnMut(u8)) {
        for (word, first) in self.0.iter().zip((0..=u8::MAX).step_by(usize::BITS as usize)) {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let bits = word.swap(0, ord::COLLECT);
            (first..=u8::MAX)
                .zip(0..usize::BITS)
                .filter(|(_, bit)| bits >> bit & 1 != 0)
                .for_each(|(number, _)| each(number));
        }
    }
}

impl Default for AtomicSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::vec::Vec;

    use super::*;

    fn taken(set: &AtomicSet) -> Vec<u8> {
        let mut numbers = Vec::new();
        set.take(|number| numbers.push(number));
        numbers
    }

    #[test]
    fn each_number_is_taken_once_and_in_order() {
        let set = AtomicSet::new();
        for number in (0..=u8::MAX).rev().chain(0..=u8::MAX) {
            set.insert(number);
        }
        assert_eq!(taken(&set), (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(taken(&set), []);
    }

    #[test]
    fn numbers_at_the_ends_of_words_are_kept_apart() {
        let set = AtomicSet::new();
        for number in [0, 31, 32, 63, 64, 127, 128, 255] {
            set.insert(number);
            assert_eq!(taken(&set), [number]);
        }
    }
}
