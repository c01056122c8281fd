//! The sockets that may be evicted, the one that has been idle longest first.
//!
//! A socket is appended when its timer finds that it has been idle for long enough, so the order of the queue is that
//! of the last progress, and progress itself costs nothing. While a socket is in the queue, its flag `TIMES` is set,
//! which keeps it off the fast path: its next run removes it if there was progress. All steps take constant time.

use crate::time::millis_ceil;
use crate::wait_queue::{WAIT_LINK_BYTES, WaitLinks, WaitQueue};
use core::time::Duration;

/// The link of a socket that is not in the queue.
const OUT: u32 = u32::MAX;
/// In place of the second link of such a socket: it is never put into the queue.
const EXEMPT: u32 = 1;

/// The idle queue of a shard. Without eviction it has no memory and does nothing.
#[derive(Debug)]
pub(crate) struct IdleQueue<'m> {
    links: WaitLinks<'m>,
    queue: WaitQueue,
    /// The ticks for which a socket has to be idle, rounded up, plus one because `now` may be almost a tick old.
    /// 0: no socket is evicted.
    after: u32,
}

impl<'m> IdleQueue<'m> {
    #[expect(clippy::cast_possible_truncation, reason = "`Config::check` keeps the span within its type")]
    pub(crate) fn new(links: &'m mut [[u8; WAIT_LINK_BYTES]], after: Option<Duration>) -> Self {
        let after = after.map_or(0, |span| millis_ceil(span) as u32 + 1);
        Self { links: WaitLinks::new(links), queue: WaitQueue::default(), after }
    }

    /// Returns whether sockets are evicted.
    pub(crate) const fn is_on(&self) -> bool {
        self.after > 0
    }

    /// Returns the tick from which a socket may be evicted, if its last progress was at the tick `seen`.
    pub(crate) const fn due(&self, seen: u32) -> u32 {
        seen.wrapping_add(self.after)
    }

    /// Begins with a new socket. If it is `exempt`, it is never evicted.
    pub(crate) fn begin(&mut self, index: u32, exempt: bool) {
        if self.is_on() {
            self.links.set(index, OUT, if exempt { EXEMPT } else { 0 });
        }
    }

    /// Returns whether a socket is never evicted.
    pub(crate) fn is_exempt(&self, index: u32) -> bool {
        self.links.get(index) == (OUT, EXEMPT)
    }

    /// Appends a socket, unless it is in the queue already.
    pub(crate) fn insert(&mut self, index: u32) {
        if self.links.get(index) == (OUT, 0) {
            self.queue.push(&mut self.links, index);
        }
    }

    /// Removes a socket, if it is in the queue.
    pub(crate) fn remove(&mut self, index: u32) {
        if self.is_on() && self.links.get(index).0 != OUT {
            self.queue.remove(&mut self.links, index);
            self.links.set(index, OUT, 0);
        }
    }

    /// Returns the socket that has been idle longest.
    pub(crate) fn first(&self) -> Option<u32> {
        self.queue.first()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn drained(queue: &mut IdleQueue<'_>) -> Vec<u32> {
        core::iter::from_fn(|| queue.first().inspect(|first| queue.remove(*first))).collect()
    }

    #[test]
    fn the_first_that_was_appended_comes_first() {
        let mut memory = [[0xA5; WAIT_LINK_BYTES]; 5];
        let mut queue = IdleQueue::new(&mut memory, Some(Duration::from_secs(1)));
        (0..5).for_each(|index| queue.begin(index, index == 3));
        [4, 1, 3, 0, 2, 1].into_iter().for_each(|index| queue.insert(index));
        queue.remove(0);
        queue.remove(0);
        queue.insert(0);
        assert_eq!(
            drained(&mut queue),
            [4, 1, 2, 0],
            "3 is exempt, 0 was appended again, 1 was there already"
        );
        assert!(queue.is_exempt(3) && !queue.is_exempt(0));
    }

    #[test]
    fn a_span_is_never_shortened() {
        let due = |span| IdleQueue::new(&mut [], Some(span)).due(100);
        assert_eq!(due(Duration::from_millis(5)), 106);
        assert_eq!(due(Duration::from_micros(5_001)), 107);
        let off = IdleQueue::new(&mut [], None);
        assert!(!off.is_on());
    }
}
