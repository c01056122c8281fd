//! The least of what several threads offer.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::const_unless_loom;

const NONE: u32 = u32::MAX;

/// A word in which any thread leaves a number, and from which the least is taken.
///
/// All operations are read-modify-writes that acquire and release: an offer that comes too late for a taker sees all
/// that the taker did before.
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
        /// Creates a word without a number.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(NONE))
        }
    }

    /// Leaves a number, if no smaller one is there. One above [`MAX`](Self::MAX) is taken as that.
    pub fn offer(&self, number: u32) {
        self.0.fetch_min(number.min(Self::MAX), Ordering::AcqRel);
    }

    /// Takes the least number out.
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
