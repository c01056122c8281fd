//! The minimum of the numbers that several threads offer.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::const_unless_loom;

const NONE: u32 = u32::MAX;

/// An atomic minimum: any thread offers numbers, and `take` removes the least of them.
///
/// All operations are read-modify-writes that acquire and release. A thread whose offer comes after a `take` sees
/// everything that the taker did before it.
///
/// ```
/// use lightcone_core::sync::AtomicMin;
///
/// static WORD: AtomicMin = AtomicMin::new();
/// assert_eq!(WORD.take(), None);
/// WORD.offer(7);
/// WORD.offer(3);
/// WORD.offer(5);
/// assert_eq!(WORD.take(), Some(3));
/// assert_eq!(WORD.take(), None);
/// ```
#[derive(Debug)]
pub struct AtomicMin(AtomicU32);

impl AtomicMin {
    /// The largest number that can be offered.
    pub const MAX: u32 = NONE - 1;

    const_unless_loom! {
        /// Creates a minimum without a number.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(NONE))
        }
    }

    /// Stores `number`, unless a smaller one is stored. A number above [`MAX`](Self::MAX) counts as `MAX`.
    pub fn offer(&self, number: u32) {
        self.0.fetch_min(number.min(Self::MAX), Ordering::AcqRel);
    }

    /// Removes and returns the least number offered since the last `take`; `None` if there was no offer.
    pub fn take(&self) -> Option<u32> {
        let least = self.0.swap(NONE, Ordering::AcqRel);
        (least != NONE).then_some(least)
    }
}

impl Default for AtomicMin {
    fn default() -> Self {
        Self::new()
    }
}
