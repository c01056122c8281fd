//! A pool of equal blocks in lent memory.

#![expect(clippy::cast_possible_truncation, reason = "pools hold less than 4 GiB: `Config::check`")]

use core::marker::PhantomData;

/// Bytes of book-keeping a block.
pub(crate) const LINK_BYTES: usize = 8;

/// Free blocks as a list, the last returned first, so that the hot ones stay in cache. Blocks that
/// were never used stand behind `fresh` and are not touched before all returned ones are in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeList {
    /// One more than the index of the first free block; 0: none.
    first: u32,
    fresh: u32,
    available: u32,
    /// One more than the block that came back last, which is in no list; 0: none. It is still in the cache, and the
    /// next answer is written into it without touching a link.
    hot: u32,
    /// How many were ever given back, modulo 2^32: tells those who wait that something has changed.
    returned: u32,
}

impl FreeList {
    #[inline(always)]
    fn give_back(&mut self, links: &mut [[u8; LINK_BYTES]], block: u32) {
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
            *link = whole(next, 0);
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

/// The same pool, borrowed for one callback. All fields are plain reborrows, so that one lifetime
/// is enough in what users see.
#[derive(Debug)]
pub(crate) struct Lent<'a> {
    pub(crate) memory: &'a mut [u8],
    links: &'a mut [[u8; LINK_BYTES]],
    free: &'a mut FreeList,
    shift: u32,
    /// Views of a socket stay on its thread.
    here: PhantomData<*const ()>,
}

impl<'m> Blocks<'m> {
    /// `memory` holds `links.len()` blocks of `1 << shift` bytes.
    pub(crate) fn new(memory: &'m mut [u8], links: &'m mut [[u8; LINK_BYTES]], shift: u32) -> Self {
        debug_assert_eq!(memory.len(), links.len() << shift);
        let available = links.len() as u32;
        Self { memory, links, free: FreeList { first: 0, fresh: 0, available, hot: 0, returned: 0 }, shift }
    }

    pub(crate) fn lend(&mut self) -> Lent<'_> {
        Lent {
            memory: self.memory,
            links: self.links,
            free: &mut self.free,
            shift: self.shift,
            here: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn give_back(&mut self, block: u32) {
        self.free.give_back(self.links, block);
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

    pub(crate) fn count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    /// The block that byte `position` lies in.
    pub(crate) fn block(&self, position: u32) -> u32 {
        position >> self.shift
    }

    /// Where the bytes of `block` end, which is not the last of its chain.
    pub(crate) fn end(&self, block: u32) -> u32 {
        self.links.get(block as usize).map_or(0, |link| halves(*link).1)
    }

    /// Where the block that follows `block` in its chain begins.
    pub(crate) fn next_start(&self, block: u32) -> u32 {
        self.links.get(block as usize).map_or(0, |link| halves(*link).0 << self.shift)
    }
}

impl Lent<'_> {
    pub(crate) fn reborrow(&mut self) -> Lent<'_> {
        Lent { memory: self.memory, links: self.links, free: self.free, shift: self.shift, here: PhantomData }
    }

    pub(crate) fn available(&self) -> usize {
        self.free.available as usize
    }

    pub(crate) fn size(&self) -> usize {
        1 << self.shift
    }

    pub(crate) fn shift(&self) -> u32 {
        self.shift
    }

    /// Leases the block that came back last, if it is not in use again.
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
            self.free.first = halves(*link).0;
        }
        Some(block)
    }

    #[inline]
    pub(crate) fn give_back(&mut self, block: u32) {
        self.free.give_back(self.links, block);
    }

    /// Gives back a block that was leased in the same callback: nobody has missed it, so nobody is told.
    pub(crate) fn take_back(&mut self, block: u32) {
        self.free.give_back(self.links, block);
        self.free.returned = self.free.returned.wrapping_sub(1);
    }

    /// What follows `block` in its chain, and where its bytes end.
    pub(crate) fn link(&self, block: u32) -> (u32, u32) {
        self.links.get(block as usize).map_or((0, 0), |link| halves(*link))
    }

    pub(crate) fn set_link(&mut self, block: u32, next: u32, end: u32) {
        if let Some(link) = self.links.get_mut(block as usize) {
            *link = whole(next, end);
        }
    }
}

fn whole(next: u32, end: u32) -> [u8; LINK_BYTES] {
    let [a, b, c, d] = next.to_ne_bytes();
    let [e, f, g, h] = end.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

fn halves([a, b, c, d, e, f, g, h]: [u8; LINK_BYTES]) -> (u32, u32) {
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_leased_once_and_the_last_returned_comes_first() {
        let (mut memory, mut links) = ([0; 256], [[0; LINK_BYTES]; 4]);
        let mut blocks = Blocks::new(&mut memory, &mut links, 6);
        let mut pool = blocks.lend();
        assert_eq!([pool.lease(), pool.lease(), pool.lease()], [Some(0), Some(1), Some(2)]);
        pool.give_back(1);
        pool.give_back(0);
        assert_eq!([pool.lease(), pool.lease(), pool.lease()], [Some(0), Some(1), Some(3)]);
        assert_eq!(pool.lease(), None);
        assert_eq!(pool.available(), 0);
    }
}
