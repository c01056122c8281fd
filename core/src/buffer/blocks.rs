//! A pool of equal blocks in lent memory.

#![expect(clippy::cast_possible_truncation, reason = "pools hold less than 4 GiB: `Config::check`")]

use crate::wait_queue::Waiting;
use core::marker::PhantomData;

/// The size in bytes of a block's bookkeeping.
pub(crate) const LINK_BYTES: usize = 8;

/// The free blocks of a pool.
///
/// Returned blocks are in a list, the last returned first, so that the hot ones stay in the cache. Blocks from `fresh`
/// on were never used, and are not touched before all returned ones are in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeList {
    /// The index of the first block in the list, plus one; 0 if there is none.
    first: u32,
    fresh: u32,
    available: u32,
    /// The block that was returned last, plus one; 0 if there is none. It is in no list. It is still in the cache, and
    /// the next response is written into it without touching a link.
    hot: u32,
    /// How many blocks were ever returned, modulo 2^32. When it changes, waiting sockets may be served again.
    returned: u32,
    /// The weight of all waiting sockets: one block for each, or more than there are for an exclusive grant.
    set_aside: u32,
    /// Of these, the blocks that were granted and have not been taken yet.
    granted: u32,
    /// The number of free blocks that only a socket without a block may take.
    reserve: u32,
    /// The number of blocks that a socket may hold for each free one that is neither reserved nor set aside, as the
    /// exponent of a power of two.
    share: u32,
}

impl FreeList {
    #[inline(always)]
    fn has_spare(&self) -> bool {
        self.available > self.set_aside
    }

    fn remove_waiter(&mut self, waiting: Waiting) {
        self.set_aside -= waiting.weight();
        if waiting.is_granted() {
            self.granted -= waiting.weight();
        }
    }

    /// Returns how many more blocks a socket that holds `held` of them may take, apart from its own limit. Its first
    /// block may be any that is not set aside for other sockets. Further blocks are limited to its share of the free
    /// ones.
    fn leasable(&self, held: u32, waiting: Waiting) -> u32 {
        let mut free = self.available;
        // waiting sockets come before others, and sockets with a grant before those that still wait
        let others = if waiting == Waiting::GrantTaken {
            self.granted
        } else if waiting.is_granted() {
            self.granted - waiting.weight()
        } else {
            self.set_aside - u32::from(waiting.waits_for_output())
        };
        let first = u32::from(held == 0);
        if free == 0 || (held == 0 && free <= others) {
            return 0;
        }
        free -= first; // the first block may come from the reserve, the others may not
        // the i-th further block (from 0) may be taken if held + i <= share * (spare - i)
        let held = u64::from(held.max(1));
        let spare = u64::from(free.saturating_sub(self.reserve).saturating_sub(others)) << self.share;
        match spare.checked_sub(held) {
            Some(beyond) => first + (beyond / (1 + (1 << self.share))) as u32 + 1,
            None => first,
        }
    }

    #[inline(always)]
    fn release(&mut self, links: &mut [[u8; LINK_BYTES]], block: u32) {
        // only one block is kept out of the list: most responses need no more
        let before = core::mem::replace(&mut self.hot, block + 1);
        self.available += 1;
        self.returned = self.returned.wrapping_add(1);
        if before > 0 {
            self.push(links, before - 1);
        }
    }

    #[inline(never)]
    fn push(&mut self, links: &mut [[u8; LINK_BYTES]], block: u32) {
        let next = core::mem::replace(&mut self.first, block + 1);
        if let Some(link) = links.get_mut(block as usize) {
            *link = pack(next, 0);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Blocks<'m> {
    memory: &'m mut [u8],
    links: &'m mut [[u8; LINK_BYTES]],
    free: FreeList,
    shift: u32,
}

/// A pool, borrowed for one callback. All fields are plain reborrows, so that public types need only one lifetime.
#[derive(Debug)]
pub(crate) struct PoolMut<'a> {
    pub(crate) memory: &'a mut [u8],
    links: &'a mut [[u8; LINK_BYTES]],
    free: &'a mut FreeList,
    shift: u32,
    /// Keeps the views of a socket on its thread.
    here: PhantomData<*const ()>,
}

impl<'m> Blocks<'m> {
    /// Creates a pool over `memory`, which holds `links.len()` blocks of `1 << shift` bytes.
    pub(crate) fn new(memory: &'m mut [u8], links: &'m mut [[u8; LINK_BYTES]], shift: u32) -> Self {
        debug_assert_eq!(memory.len(), links.len() << shift);
        let available = links.len() as u32;
        let free = FreeList {
            first: 0,
            fresh: 0,
            available,
            hot: 0,
            returned: 0,
            set_aside: 0,
            granted: 0,
            reserve: 0,
            share: 0,
        };
        Self { memory, links, free, shift }
    }

    /// Sets the number of blocks that are reserved for sockets without a block, and the share of the other free blocks
    /// that a socket may hold, as the exponent of a power of two.
    pub(crate) fn share_out(self, reserve: u32, share: u32) -> Self {
        Self { free: FreeList { reserve, share, ..self.free }, ..self }
    }

    pub(crate) fn lend(&mut self) -> PoolMut<'_> {
        PoolMut {
            memory: self.memory,
            links: self.links,
            free: &mut self.free,
            shift: self.shift,
            here: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn release(&mut self, block: u32) {
        self.free.release(self.links, block);
    }

    /// Returns the bytes of free blocks that were in use before.
    pub(crate) fn unused(&self) -> usize {
        let in_use = self.links.len() - self.free.available as usize;
        (self.free.fresh as usize).saturating_sub(in_use) << self.shift
    }

    /// Calls `release` with the memory of all free blocks that were in use before, piece by piece. Afterwards the
    /// lowest free blocks are leased first, and those at the end of the pool count as never used.
    pub(crate) fn reclaim(&mut self, release: &mut impl FnMut(&mut [u8])) {
        if let Some(hot) = core::mem::take(&mut self.free.hot).checked_sub(1) {
            self.free.push(self.links, hot);
        }
        let sorted = sort(self.links, core::mem::take(&mut self.free.first));
        self.free.first = sorted;
        let (mut next, mut before) = (sorted, 0);
        while let Some(start) = next.checked_sub(1) {
            // a run of adjacent blocks; `next` is the index of a block plus one
            let mut last = start;
            next = after(self.links, last);
            while next == last + 2 {
                last += 1;
                next = after(self.links, last);
            }
            let range = (start as usize) << self.shift..(last as usize + 1) << self.shift;
            #[expect(clippy::indexing_slicing, reason = "blocks in the list of free ones are in the memory")]
            release(&mut self.memory[range]);
            if last + 1 == self.free.fresh {
                // the last run is followed by fresh blocks only: it joins them and leaves the list
                self.free.fresh = start;
                set_after(self.links, &mut self.free.first, before, 0);
            }
            before = last + 1;
        }
    }

    pub(crate) fn memory(&self) -> &[u8] {
        self.memory
    }

    pub(crate) fn available(&self) -> usize {
        self.free.available as usize
    }

    pub(crate) fn returned(&self) -> u32 {
        self.free.returned
    }

    /// Returns whether any free block is not set aside.
    #[inline(always)]
    pub(crate) fn has_spare(&self) -> bool {
        self.free.has_spare()
    }

    /// Returns how many free blocks are not set aside.
    pub(crate) fn spare(&self) -> usize {
        self.free.available.saturating_sub(self.free.set_aside) as usize
    }

    /// Returns whether there is a block for every waiting socket.
    pub(crate) fn covers_waiters(&self) -> bool {
        self.free.available >= self.free.set_aside
    }

    /// Returns whether a block can be granted.
    pub(crate) fn can_grant(&self) -> bool {
        self.free.available > self.free.granted
    }

    /// Sets aside the blocks that a socket waits for or was granted.
    pub(crate) fn add_waiter(&mut self, waiting: Waiting) {
        self.free.set_aside += waiting.weight();
        if waiting.is_granted() {
            self.free.granted += waiting.weight();
        }
    }

    /// Returns how many blocks are set aside, and how many of them are granted.
    pub(crate) fn set_aside(&self) -> (u32, u32) {
        (self.free.set_aside, self.free.granted)
    }

    /// Returns whether all granted blocks have been taken.
    pub(crate) fn all_taken(&self) -> bool {
        self.free.granted == 0
    }

    /// Reverses [`add_waiter`](Blocks::add_waiter).
    pub(crate) fn remove_waiter(&mut self, waiting: Waiting) {
        self.free.remove_waiter(waiting);
    }

    /// Returns how many more blocks a socket that holds `held` of them may take, apart from its own limit.
    pub(crate) fn leasable(&self, held: u32, waiting: Waiting) -> u32 {
        self.free.leasable(held, waiting)
    }

    pub(crate) fn count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    /// Returns the block that contains the byte at `position`.
    pub(crate) fn block(&self, position: u32) -> u32 {
        position >> self.shift
    }

    /// Returns where the bytes of `block` end, which must not be the last of its chain.
    pub(crate) fn end(&self, block: u32) -> u32 {
        self.links.get(block as usize).map_or(0, |link| unpack(*link).1)
    }

    /// Returns where the block that follows `block` in its chain begins.
    pub(crate) fn next_start(&self, block: u32) -> u32 {
        self.links.get(block as usize).map_or(0, |link| unpack(*link).0 << self.shift)
    }
}

impl PoolMut<'_> {
    pub(crate) fn reborrow(&mut self) -> PoolMut<'_> {
        PoolMut {
            memory: self.memory,
            links: self.links,
            free: self.free,
            shift: self.shift,
            here: PhantomData,
        }
    }

    /// Returns whether any free block is not set aside.
    #[inline(always)]
    pub(crate) fn has_spare(&self) -> bool {
        self.free.has_spare()
    }

    /// Returns how many more blocks a socket that holds `held` of them may take, apart from its own limit.
    pub(crate) fn leasable(&self, held: u32, waiting: Waiting) -> u32 {
        self.free.leasable(held, waiting)
    }

    /// Returns whether enough blocks are free for any socket to hold `most` of them.
    #[inline(always)]
    pub(crate) fn has_plenty(&self, most: u32) -> bool {
        self.free.available > 2 * most + self.free.reserve + self.free.set_aside
    }

    /// Reverses [`add_waiter`](Blocks::add_waiter).
    pub(crate) fn remove_waiter(&mut self, waiting: Waiting) {
        self.free.remove_waiter(waiting);
    }

    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    pub(crate) fn shift(&self) -> u32 {
        self.shift
    }

    /// Leases the block that was returned last, if it is still free.
    #[inline(always)]
    pub(crate) fn lease_hot(&mut self) -> Option<u32> {
        let block = core::mem::take(&mut self.free.hot).checked_sub(1)?;
        self.free.available -= 1;
        Some(block)
    }

    #[inline]
    pub(crate) fn lease(&mut self) -> Option<u32> {
        if let Some(block) = self.lease_hot() {
            return Some(block);
        }
        if self.free.available == 0 {
            return None;
        }
        self.free.available -= 1;
        let Some(block) = self.free.first.checked_sub(1) else {
            self.free.fresh += 1;
            return Some(self.free.fresh - 1);
        };
        if let Some(link) = self.links.get(block as usize) {
            self.free.first = unpack(*link).0;
        }
        Some(block)
    }

    #[inline]
    pub(crate) fn release(&mut self, block: u32) {
        self.free.release(self.links, block);
    }

    /// Returns a block that was leased in the same callback. No other socket ran in between, so waiters are not
    /// notified.
    pub(crate) fn take_back(&mut self, block: u32) {
        self.free.release(self.links, block);
        self.free.returned = self.free.returned.wrapping_sub(1);
    }

    /// Counts a return ahead of time, for a block that [`take_back`](Self::take_back) may return without counting it.
    pub(crate) fn note_return(&mut self) {
        self.free.returned = self.free.returned.wrapping_add(1);
    }

    /// Returns the block that follows `block` in its chain, and where the bytes of `block` end.
    pub(crate) fn link(&self, block: u32) -> (u32, u32) {
        self.links.get(block as usize).map_or((0, 0), |link| unpack(*link))
    }

    pub(crate) fn set_link(&mut self, block: u32, next: u32, end: u32) {
        if let Some(link) = self.links.get_mut(block as usize) {
            *link = pack(next, end);
        }
    }
}

/// Returns the free block that follows `block`, plus one; 0 if there is none.
#[expect(clippy::indexing_slicing, reason = "a block in the list of free ones has a link")]
fn after(links: &[[u8; LINK_BYTES]], block: u32) -> u32 {
    unpack(links[block as usize]).0
}

/// Makes `next` follow `block`, or makes it the first block if `block` is 0. All are indices plus one.
#[expect(clippy::indexing_slicing, reason = "a block in the list of free ones has a link")]
fn set_after(links: &mut [[u8; LINK_BYTES]], first: &mut u32, block: u32, next: u32) {
    match block.checked_sub(1) {
        Some(block) => links[block as usize] = pack(next, 0),
        None => *first = next,
    }
}

/// Sorts a list of free blocks by merging, and returns its first block. Both are indices plus one.
fn sort(links: &mut [[u8; LINK_BYTES]], mut list: u32) -> u32 {
    let mut runs = [0; u32::BITS as usize]; // the n-th run is empty or has 2^n blocks
    while let Some(block) = list.checked_sub(1) {
        let mut run = core::mem::replace(&mut list, after(links, block));
        set_after(links, &mut 0, block + 1, 0);
        for slot in &mut runs {
            match core::mem::take(slot) {
                0 => {
                    *slot = run;
                    break;
                }
                other => run = merge(links, other, run),
            }
        }
    }
    runs.into_iter().fold(0, |all, run| merge(links, all, run))
}

/// Merges two sorted lists.
fn merge(links: &mut [[u8; LINK_BYTES]], mut a: u32, mut b: u32) -> u32 {
    let (mut first, mut last) = (0, 0);
    while a > 0 && b > 0 {
        let lower = if a < b { &mut a } else { &mut b };
        let block = *lower;
        *lower = after(links, block - 1);
        set_after(links, &mut first, last, block);
        last = block;
    }
    set_after(links, &mut first, last, a.max(b));
    first
}

fn pack(next: u32, end: u32) -> [u8; LINK_BYTES] {
    let [a, b, c, d] = next.to_ne_bytes();
    let [e, f, g, h] = end.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

fn unpack([a, b, c, d, e, f, g, h]: [u8; LINK_BYTES]) -> (u32, u32) {
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

#[cfg(test)]
#[expect(clippy::excessive_nesting, reason = "a model is checked step by step alongside the code")]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn blocks_are_leased_once_and_the_last_returned_comes_first() {
        let (mut memory, mut links) = ([0; 256], [[0; LINK_BYTES]; 4]);
        let mut blocks = Blocks::new(&mut memory, &mut links, 6);
        let mut pool = blocks.lend();
        assert_eq!([pool.lease(), pool.lease(), pool.lease()], [Some(0), Some(1), Some(2)]);
        pool.release(1);
        pool.release(0);
        assert_eq!([pool.lease(), pool.lease(), pool.lease()], [Some(0), Some(1), Some(3)]);
        assert_eq!(pool.lease(), None);
        assert!(!pool.has_spare());
    }

    /// Leases and returns blocks. After each reclaim every free byte that was used has been released, and no other
    /// byte.
    #[test]
    fn what_is_reclaimed_is_what_is_free() {
        const BLOCKS: usize = 40;
        let (mut memory, mut links) = ([0; BLOCKS * 64], [[0xFF; LINK_BYTES]; BLOCKS]);
        let mut blocks = Blocks::new(&mut memory, &mut links, 6);
        let (mut held, mut seed) = (std::vec::Vec::new(), 9_u32);
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        for round in 0..2_000 {
            for _ in 0..random(60) {
                let leases = random(5) > round % 5;
                if leases && let Some(block) = blocks.lend().lease() {
                    assert!(!held.contains(&block), "leased twice");
                    blocks.lend().memory[block as usize * 64] = 7;
                    held.push(block);
                }
                if !leases && !held.is_empty() {
                    blocks.release(held.swap_remove(random(held.len())));
                }
            }
            assert_eq!(blocks.available(), BLOCKS - held.len());
            blocks.reclaim(&mut |piece: &mut [u8]| {
                assert!(piece.len().is_multiple_of(64) && !piece.is_empty());
                piece.fill(0);
            });
            let used = blocks.memory().chunks(64).map(|block| block[0] == 7);
            let used: std::vec::Vec<u32> =
                (0..).zip(used).filter(|(_, used)| *used).map(|(at, _)| at).collect();
            let mut expected = held.clone();
            expected.sort_unstable();
            assert_eq!(used, expected);
            let last = expected.last().map_or(0, |last| *last as usize + 1);
            assert_eq!(blocks.unused(), (last - held.len()) * 64, "what is below a block in use");
        }
    }
}
