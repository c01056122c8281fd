//! The number of sockets that a poller has or is about to get.

use core::fmt;
use core::ops::Deref;

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::const_unless_loom;

/// The number of sockets of one poller: those that it owns and those on their way to it.
///
/// It increases when a poller is *chosen*, not when the socket arrives, so that a burst of connections spreads evenly
/// before the first of them arrives. Only a [`Reservation`] increases it, and only the end of a reservation decreases
/// it. Nothing is published through the counter: other threads read it as a hint.
///
/// Put it in a [`CachePadded`](crate::sync::CachePadded) if several cores update it.
#[derive(Debug)]
pub struct Load(AtomicU32);

impl Load {
    const_unless_loom! {
        /// Creates a load of 0.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Returns the current number of sockets.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Reserves one more socket, unless the number has reached `max`. See [`Reservation::try_acquire`].
    #[must_use]
    pub fn reserve_if_below(&self, max: u32) -> Option<Reservation<&Self>> {
        Reservation::try_acquire(self, max)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<Self> for Load {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A share of a [`Load`], returned when it is dropped.
///
/// The acceptor takes a share for each socket and sends it along with the socket. A poller [`merge`](Self::merge)s
/// arriving shares into a single one, and [`release`](Self::release)s one unit when a socket ends. A thread that
/// refuses a socket drops its share. So no socket is counted or released twice, and the counter never falls below zero.
///
/// `R` is a pointer to the counter: `&'static Load` on a small machine; `Arc<Load>`, or an `Arc` of a value that
/// contains it, on a host. It must dereference to the same counter every time.
///
/// ```
/// # use lightcone_core::sync::{Load, Reservation};
/// static LOAD: Load = Load::new();
/// let mut owned = Reservation::none(&LOAD);
/// let arriving = LOAD.reserve_if_below(1).unwrap();
/// assert!(LOAD.reserve_if_below(1).is_none());
/// owned.merge(arriving);
/// assert!(owned.release());
/// assert!(!owned.release());
/// assert_eq!(LOAD.get(), 0);
/// ```
#[must_use = "the load is released when this is dropped"]
pub struct Reservation<R: Deref<Target: AsRef<Load>>> {
    load: R,
    /// INVARIANT: this many units of the counter belong to this value alone.
    count: u32,
}

impl<R: Deref<Target: AsRef<Load>>> Reservation<R> {
    /// Creates an empty share, into which a poller [merges](Self::merge) others.
    pub const fn none(load: R) -> Self {
        Self { load, count: 0 }
    }

    /// Creates a share of one, unless the counter has reached `max`. `u32::MAX` is no limit in practice.
    ///
    /// The counter never exceeds the largest `max` it is used with, regardless of how many threads try at once.
    #[must_use]
    pub fn try_acquire(load: R, max: u32) -> Option<Self> {
        let counter: &Load = (*load).as_ref();
        counter
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then(|| count + 1))
            .ok()?;
        Some(Self { load, count: 1 })
    }

    /// Returns the size of this share.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Adds `other` to this share. The counter does not change.
    ///
    /// # Panics
    ///
    /// If `other` belongs to another counter.
    pub fn merge(&mut self, mut other: Self) {
        assert!(core::ptr::eq(self.load(), other.load()), "a reservation was sent to the wrong poller");
        // No overflow: both are shares of one counter, which is 32 bits wide itself.
        self.count += core::mem::take(&mut other.count);
    }

    /// Releases one unit. Returns `false` if the share is empty.
    pub fn release(&mut self) -> bool {
        let some = self.count > 0;
        if some {
            self.give_back(1);
        }
        some
    }

    fn load(&self) -> &Load {
        (*self.load).as_ref()
    }

    fn give_back(&mut self, count: u32) {
        self.count -= count;
        self.load().0.fetch_sub(count, Ordering::Relaxed);
    }
}

impl<R: Deref<Target: AsRef<Load>>> Drop for Reservation<R> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.give_back(self.count);
        }
    }
}

impl<R: Deref<Target: AsRef<Load>>> fmt::Debug for Reservation<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    extern crate alloc;
    use alloc::sync::Arc;

    use super::*;

    #[test]
    fn the_limit_holds_and_a_drop_makes_room() {
        let load = Load::new();
        let first = load.reserve_if_below(2);
        let second = load.reserve_if_below(2);
        assert!(first.is_some() && second.is_some());
        assert!(load.reserve_if_below(2).is_none());
        assert_eq!(load.get(), 2);
        drop(first);
        assert_eq!(load.get(), 1);
        assert!(load.reserve_if_below(2).is_some());
        assert_eq!(load.get(), 1);
        assert!(load.reserve_if_below(0).is_none());
    }

    #[test]
    fn the_counter_does_not_wrap() {
        let load = Load(AtomicU32::new(u32::MAX));
        assert!(load.reserve_if_below(u32::MAX).is_none());
    }

    #[test]
    fn shares_add_up_and_none_is_released_twice() {
        let load = Arc::new(Load::new());
        let mut owned = Reservation::none(Arc::clone(&load));
        assert!(!owned.release());
        for _ in 0..3 {
            owned.merge(Reservation::try_acquire(Arc::clone(&load), 10).unwrap());
        }
        assert_eq!((owned.count(), load.get()), (3, 3));
        assert!(owned.release());
        assert_eq!((owned.count(), load.get()), (2, 2));
        drop(owned);
        assert_eq!(load.get(), 0);
    }

    #[test]
    #[should_panic(expected = "wrong poller")]
    fn a_share_of_another_counter_is_refused() {
        let (one, other) = (Load::new(), Load::new());
        let mut owned = Reservation::none(&one);
        if let Some(stray) = other.reserve_if_below(1) {
            owned.merge(stray);
        }
    }
}
