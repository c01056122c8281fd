//! What one thread counts and any may read.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::const_unless_loom;

/// A counter with one writer: a poller, for instance, with a page of metrics that another one serves.
///
/// As nobody else writes, adding takes no read-modify-write instruction, which costs some twenty plain ones and which
/// not every target has. Two that [`add`](Self::add) at once may lose counts, and nothing else: give each its own and
/// add up what is read. Nothing is published through the counter, and it wraps.
///
/// ```
/// use lightcone_core::sync::Counter;
/// static REQUESTS: [Counter; 2] = [const { Counter::new() }; 2]; // one a poller
/// REQUESTS[1].add(3);
/// assert_eq!(REQUESTS.iter().map(Counter::get).sum::<usize>(), 3);
/// ```
#[derive(Debug)]
pub struct Counter(AtomicUsize);

impl Counter {
    const_unless_loom! {
        /// Nothing counted.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Counts `n` more. For the one writer.
    #[inline]
    pub fn add(&self, n: usize) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// What is counted so far; never less than the same thread has read before, unless it wrapped.
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
