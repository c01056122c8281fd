//! The input buffer: a borrowed slice during a callback, and a leased block for the bytes left unconsumed.

#![expect(clippy::cast_possible_truncation, reason = "pools hold less than 4 GiB: `Config::check`")]

use super::blocks::{Blocks, PoolMut};
use crate::error::WouldBlock;
use crate::wait_queue::Waiting;
use core::marker::PhantomData;

/// The bytes that a socket keeps between callbacks: none, or `start..end` of one block.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct InputTail {
    /// The block's index plus one, with [`LARGE`] set in the large pool; 0 if nothing is kept.
    block: u32,
    start: u32,
    end: u32,
}

const LARGE: u32 = 1 << 31;

impl InputTail {
    pub(crate) const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.block == 0
    }

    /// Returns 0 if nothing is kept.
    pub(crate) const fn bits(&self) -> u32 {
        self.block
    }

    /// Stores a number in place of bytes, if no bytes are kept.
    pub(crate) const fn note(&mut self, number: u32) {
        if self.is_empty() {
            (self.start, self.end) = (number, number);
        }
    }

    /// Returns the number that was [noted](Self::note).
    pub(crate) const fn noted(&self) -> u32 {
        self.start
    }
}

/// Two pools of blocks for unconsumed bytes: small blocks for a part of a request, large ones for as much as a driver
/// may receive at once.
#[derive(Debug)]
pub(crate) struct InputPools<'m> {
    pub(crate) small: Blocks<'m>,
    pub(crate) large: Blocks<'m>,
}

impl InputPools<'_> {
    /// Returns the maximum number of bytes that one socket can keep.
    pub(crate) fn capacity(&self) -> usize {
        if self.large.count() > 0 { self.large.size() } else { self.small.size() }
    }

    /// Returns how many bytes a socket may receive such that all of them can be kept. Blocks that are set aside for
    /// other sockets do not count.
    pub(crate) fn room(&self, kept: &InputTail, waiting: Waiting) -> usize {
        let large =
            if waiting == Waiting::LargeInput { self.large.covers_waiters() } else { self.large.has_spare() };
        let small = || {
            let in_turn =
                waiting == Waiting::MayReceive || (waiting == Waiting::Input && self.small.covers_waiters());
            in_turn || self.small.has_spare()
        };
        // bytes in a small block are moved to a large one when they outgrow it, so a free large block counts
        let whole = if kept.block & LARGE != 0 || (large && self.large.available() > 0) {
            self.large.size()
        } else if kept.block != 0 || (small() && self.small.available() > 0) {
            self.small.size()
        } else {
            0
        };
        whole.saturating_sub(kept.len())
    }

    /// Returns how many blocks are available to sockets that wait for a block of either size.
    pub(crate) fn for_waiters(&self) -> usize {
        self.small.available() + self.large.spare()
    }

    pub(crate) fn has_blocks(&self) -> bool {
        self.small.available() + self.large.available() > 0
    }

    /// Returns what a socket without [`room`](Self::room) waits for; nothing if it keeps as much as it may.
    pub(crate) fn wait_queue(&self, kept: &InputTail) -> Waiting {
        if kept.is_empty() {
            Waiting::Input
        } else if kept.block & LARGE == 0 && kept.len() < self.capacity() {
            Waiting::LargeInput
        } else {
            Waiting::None
        }
    }

    pub(crate) fn slice_mut(&mut self, kept: &InputTail) -> &mut [u8] {
        let Some(block) = (kept.block & !LARGE).checked_sub(1) else { return &mut [] };
        let large = kept.block & LARGE != 0;
        let at = block as usize * if large { self.large.size() } else { self.small.size() };
        let memory = self.pool(large).memory;
        memory.get_mut(at + kept.start as usize..at + kept.end as usize).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, kept: &mut InputTail, n: usize) {
        debug_assert!(n <= kept.len());
        kept.start += n as u32;
        if kept.start >= kept.end {
            self.release(kept);
        }
    }

    pub(crate) fn release(&mut self, kept: &mut InputTail) {
        let InputTail { block, .. } = core::mem::take(kept);
        if let Some(index) = (block & !LARGE).checked_sub(1) {
            self.pool(block & LARGE != 0).release(index);
        }
    }

    fn pool(&mut self, large: bool) -> PoolMut<'_> {
        if large { self.large.lend() } else { self.small.lend() }
    }

    /// Appends `bytes` to what is kept. The caller has received no more than [`room`](Self::room).
    ///
    /// # Panics
    ///
    /// If there is no room: bytes that were taken from the peer must not be lost.
    pub(crate) fn append(&mut self, kept: &mut InputTail, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let len = kept.len() + bytes.len();
        let fits = if kept.block == 0 {
            self.begin(kept, bytes.len())
        } else if kept.block & LARGE == 0 && len > self.small.size() {
            self.enlarge(kept)
        } else {
            true
        };
        assert!(fits && len <= self.capacity(), "received {len} bytes without room for them");
        let size = if kept.block & LARGE == 0 { self.small.size() } else { self.large.size() };
        let base = ((kept.block & !LARGE) - 1) as usize * size;
        let memory = self.pool(kept.block & LARGE != 0).memory;
        if let Some(block) = memory.get_mut(base..base + size) {
            if kept.end as usize + bytes.len() > size {
                // handlers see the bytes in one piece, so they move to the front instead of wrapping around
                block.copy_within(kept.start as usize..kept.end as usize, 0);
                *kept = InputTail { start: 0, end: kept.end - kept.start, ..*kept };
            }
            if let Some(to) = block.get_mut(kept.end as usize..kept.end as usize + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        }
        kept.end += bytes.len() as u32;
    }

    /// Leases a block for the first `len` bytes: a small one if they fit and one is free, else a large one.
    fn begin(&mut self, kept: &mut InputTail, len: usize) -> bool {
        *kept = InputTail::default();
        let small = (len <= self.small.size()).then(|| self.small.lend().lease()).flatten();
        let block = match small {
            Some(block) => Some(block + 1),
            None => self.large.lend().lease().map(|block| (block + 1) | LARGE),
        };
        kept.block = block.unwrap_or(0);
        block.is_some()
    }

    /// Moves what is kept from a small block to a large one. Returns whether a large block was free.
    pub(crate) fn enlarge(&mut self, kept: &mut InputTail) -> bool {
        debug_assert!(kept.block != 0 && kept.block & LARGE == 0, "only a small block is replaced");
        let Some(to) = self.large.lend().lease() else { return false };
        let at = ((kept.block - 1) as usize) * self.small.size();
        let from = self.small.memory().get(at + kept.start as usize..at + kept.end as usize);
        let base = to as usize * self.large.size();
        let large = self.large.lend().memory;
        if let (Some(from), Some(to)) = (from, large.get_mut(base..base + kept.len())) {
            to.copy_from_slice(from);
        }
        self.small.lend().release(kept.block - 1);
        *kept = InputTail { block: (to + 1) | LARGE, start: 0, end: kept.len() as u32 };
        true
    }
}

/// The reading half of a socket: the bytes that were received and not consumed yet.
///
/// Implements [`embedded_io::Read`] and [`embedded_io::BufRead`] for generic code. They never wait: where those traits
/// would block, the error is [`WouldBlock`], and nothing is consumed. `Ok(0)` is the end of the stream. Read with
/// [`BufRead`](embedded_io::BufRead) if a message may arrive in pieces: bytes that it does not consume are kept.
///
/// ```
/// use lightcone_core::Input;
///
/// /// Takes the next message, whose length is in its first byte; `None` if it has not arrived completely.
/// fn next_message(input: &mut Input<'_>) -> Option<Vec<u8>> {
///     let (length, rest) = input.bytes().split_first()?;
///     let message = rest.get(..usize::from(*length))?.to_vec();
///     input.consume(1 + message.len());
///     Some(message)
/// }
/// ```
#[derive(Debug)]
pub struct Input<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) consumed: &'a mut usize,
    /// The maximum number of unconsumed bytes.
    pub(crate) capacity: u32,
    /// Whether the peer has ended its stream, so that no more bytes follow.
    pub(crate) ended: bool,
    /// Keeps the views of a socket on its thread.
    pub(crate) here: PhantomData<*const ()>,
}

impl Input<'_> {
    /// Returns the bytes that were received and not consumed, in one piece.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(*self.consumed..).unwrap_or_default()
    }

    /// Returns the same bytes to be changed in place, for example decrypted or unmasked. Unconsumed bytes keep the
    /// changes.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(*self.consumed..).unwrap_or_default()
    }

    /// Returns the maximum number of bytes that can wait to be consumed. A handler must not wait for more: while that
    /// many bytes are unconsumed, the socket is not read.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Consumes the first `n` bytes.
    ///
    /// # Panics
    ///
    /// If `n` is more than the number of bytes.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        let there = self.bytes.len() - *self.consumed;
        if n > there {
            consumed_too_much(n, there);
        }
        *self.consumed += n;
    }

    /// Consumes all bytes.
    #[inline]
    pub fn consume_all(&mut self) {
        *self.consumed = self.bytes.len();
    }
}

#[cold]
#[inline(never)]
pub(crate) fn consumed_too_much(n: usize, there: usize) -> ! {
    panic!("consume({n}) with {there} unconsumed bytes");
}

impl embedded_io::ErrorType for Input<'_> {
    type Error = WouldBlock;
}

impl embedded_io::BufRead for Input<'_> {
    fn fill_buf(&mut self) -> Result<&[u8], WouldBlock> {
        if self.bytes().is_empty() && !self.ended { Err(WouldBlock) } else { Ok(self.bytes()) }
    }

    fn consume(&mut self, amt: usize) {
        Input::consume(self, amt);
    }
}

impl embedded_io::Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, WouldBlock> {
        let n = buf.len().min(self.bytes().len());
        if n == 0 && !buf.is_empty() && !self.ended {
            return Err(WouldBlock);
        }
        if let (Some(to), Some(from)) = (buf.get_mut(..n), self.bytes().get(..n)) {
            to.copy_from_slice(from);
        }
        Input::consume(self, n);
        Ok(n)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), embedded_io::ReadExactError<WouldBlock>> {
        let n = buf.len();
        match self.bytes().get(..n) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None if self.ended => return Err(embedded_io::ReadExactError::UnexpectedEof),
            None => return Err(embedded_io::ReadExactError::Other(WouldBlock)),
        }
        Input::consume(self, n);
        Ok(())
    }
}

impl embedded_io::ReadReady for Input<'_> {
    fn read_ready(&mut self) -> Result<bool, WouldBlock> {
        Ok(self.ended || !self.bytes().is_empty())
    }
}

#[cfg(test)]
#[expect(clippy::excessive_nesting, reason = "a model is checked step by step alongside the code")]
mod tests {
    extern crate std;
    use super::super::LINK_BYTES;
    use super::*;
    use std::vec::Vec;

    fn with_pools(small: usize, large: usize, test: impl FnOnce(&mut InputPools<'_>)) {
        let (mut sm, mut lm) = (std::vec![0; small * 64], std::vec![0; large * 256]);
        let (mut sl, mut ll) = (std::vec![[0; LINK_BYTES]; small], std::vec![[0; LINK_BYTES]; large]);
        test(&mut InputPools {
            small: Blocks::new(&mut sm, &mut sl, 6),
            large: Blocks::new(&mut lm, &mut ll, 8),
        });
    }

    #[test]
    fn bytes_stay_in_one_piece_and_in_order_whatever_the_cuts() {
        with_pools(2, 2, |pools| {
            let mut seed = 7_u32;
            let mut random = move |below: u32| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) % below
            };
            let mut kept = InputTail::default();
            let (mut model, mut next) = (Vec::new(), 0_u8);
            for _ in 0..50_000 {
                let n = (random(90) as usize).min(pools.room(&kept, Waiting::None));
                let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add(i as u8)).collect();
                next = next.wrapping_add(n as u8);
                pools.append(&mut kept, &bytes);
                model.extend(bytes);
                assert_eq!(pools.slice_mut(&kept), model);
                let n = random(model.len() as u32 + 1) as usize;
                if !kept.is_empty() {
                    pools.consume(&mut kept, n);
                }
                model.drain(..n);
                assert_eq!(kept.is_empty(), model.is_empty());
            }
            pools.release(&mut kept);
            assert_eq!((pools.small.available(), pools.large.available()), (2, 2));
        });
    }

    #[test]
    fn room_is_what_can_be_kept() {
        with_pools(1, 1, |pools| {
            let (mut a, mut b, c) = (InputTail::default(), InputTail::default(), InputTail::default());
            assert_eq!(pools.room(&a, Waiting::None), 256);
            pools.append(&mut a, &[1; 65]); // more than a small block
            assert_eq!(pools.room(&a, Waiting::None), 191);
            assert_eq!(pools.room(&b, Waiting::None), 64, "the large block is taken");
            pools.append(&mut b, &[2; 64]);
            assert_eq!(pools.room(&b, Waiting::None), 0);
            assert_eq!(pools.wait_queue(&b), Waiting::LargeInput, "could grow if a large block were free");
            assert_eq!(pools.room(&c, Waiting::None), 0);
            assert_eq!(pools.wait_queue(&c), Waiting::Input);
            pools.release(&mut a);
            assert_eq!(pools.room(&b, Waiting::None), 192);
            pools.append(&mut b, &[3; 192]);
            assert_eq!(pools.room(&b, Waiting::None), 0);
            assert_eq!(pools.wait_queue(&b), Waiting::None, "full does not wait for a block");
            assert_eq!(pools.room(&c, Waiting::None), 64, "b's small block came back");
        });
    }

    #[test]
    fn without_large_blocks_a_small_one_is_all() {
        with_pools(1, 0, |pools| {
            let mut kept = InputTail::default();
            assert_eq!((pools.capacity(), pools.room(&kept, Waiting::None)), (64, 64));
            pools.append(&mut kept, &[1; 64]);
            assert_eq!(pools.room(&kept, Waiting::None), 0);
            pools.consume(&mut kept, 10);
            assert_eq!(pools.room(&kept, Waiting::None), 10);
            pools.append(&mut kept, &[2; 10]);
            assert_eq!(pools.slice_mut(&kept).len(), 64);
        });
    }
}
