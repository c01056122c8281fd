//! Counters that one thread writes and any thread reads.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::const_unless_loom;

/// A counter with one writer, for example a metric of one poller on a page that another poller serves.
///
/// With one writer, adding needs no read-modify-write instruction, which costs about as much as twenty plain ones and
/// does not exist on every target. If two threads [`add`](Self::add) at once, counts may be lost, but nothing worse
/// happens: use one counter per writer and sum them when reading. Nothing is published through the counter, and it
/// wraps.
///
/// ```
/// use lightcone_core::sync::Counter;
/// static REQUESTS: [Counter; 2] = [const { Counter::new() }; 2]; // one per poller
/// REQUESTS[1].add(3);
/// assert_eq!(REQUESTS.iter().map(Counter::get).sum::<usize>(), 3);
/// ```
#[derive(Debug)]
pub struct Counter(AtomicUsize);

impl Counter {
    const_unless_loom! {
        /// Creates a counter at 0.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Adds `n`. Only one thread may call it, or counts are lost.
    #[inline]
    pub fn add(&self, n: usize) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Returns the count. It is never less than the same thread has read before, unless it wrapped.
    #[inline]
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_wraps() {
        let counter = Counter::default();
        counter.add(2);
        counter.add(usize::MAX);
        assert_eq!(counter.get(), 1);
    }
}
