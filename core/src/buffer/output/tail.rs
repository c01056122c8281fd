//! The held-back end of the output, called the tail: it is queued, and does not leave before it is released.
//!
//! A tail begins with a new block. What may leave is therefore a chain of whole blocks in front of it, of which
//! `queued` is the length, and sending needs no knowledge of the tail. The length of a tail is only computed when it
//! ends: the bytes in all blocks less `queued`. While a tail is held, its last block takes no more bytes (`left` is 0),
//! so that the next write goes through [`Output::grow`], which releases the tail.

use super::{Checkpoint, Output, OutputQueue, PoolMut, Waits};

impl OutputQueue {
    #[inline]
    pub(crate) const fn has_tail(&self) -> bool {
        self.waits.0 & Waits::TAIL != 0
    }

    /// Returns how many more bytes the last block takes once no tail is held.
    pub(super) const fn left_after_tail(&self, shift: u32) -> u32 {
        if self.has_tail() { ((self.last(shift) + 1) << shift) - self.at } else { self.left }
    }

    /// Calls `f` with each block and the start and end of its bytes, until `f` returns `false`.
    fn each_block(&self, pool: &PoolMut<'_>, mut f: impl FnMut(u32, u32, u32) -> bool) {
        let shift = pool.shift();
        let mut start = self.start;
        for n in 1..=self.blocks {
            let block = start >> shift;
            let (next, end) = if n == self.blocks { (0, self.at) } else { pool.link(block) };
            if !f(block, start, end) {
                return;
            }
            start = next << shift;
        }
    }

    /// Releases the tail, if there is one.
    pub(crate) fn release_tail(&mut self, pool: &PoolMut<'_>) {
        if !self.has_tail() {
            return;
        }
        self.left = self.left_after_tail(pool.shift());
        self.waits.0 &= !Waits::TAIL;
        let mut total = 0;
        self.each_block(pool, |_, start, end| {
            total += end - start;
            true
        });
        self.queued = total;
    }

    /// Discards the tail, if there is one.
    fn discard_tail(&mut self, pool: &mut PoolMut<'_>) {
        if !self.has_tail() {
            return;
        }
        self.waits.0 &= !Waits::TAIL;
        if self.queued == 0 {
            // The first block stays for the output that replaces the tail: if it were returned, a waiting socket
            // could take it.
            let base = self.start >> pool.shift() << pool.shift();
            let mut block = pool.link(base >> pool.shift()).0;
            for _ in 1..self.blocks {
                let (next, _) = pool.link(block);
                pool.release(block);
                block = next;
            }
            pool.note_return(); // for the block that is kept: if it stays unused, `trim` returns it uncounted
            (self.start, self.at, self.left, self.blocks) = (base, base, pool.size() as u32, 1);
            return;
        }
        // finds the last block in front of the tail, where its bytes end, and the first block of the tail
        let (mut before, mut kept, mut at, mut first) = (0, 0, 0, 0);
        self.each_block(pool, |block, start, end| {
            (before, kept, at) = (before + (end - start), kept + 1, end);
            first = pool.link(block).0;
            before < self.queued
        });
        for _ in kept..self.blocks {
            let (next, _) = pool.link(first);
            pool.release(first);
            first = next;
        }
        (self.blocks, self.at) = (kept, at);
        let shift = pool.shift();
        // the last block takes bytes again; `at - 1` since a full block ends where the next one begins
        self.left = ((((at - 1) >> shift) + 1) << shift) - at;
    }
}

impl Output<'_> {
    /// Returns the present end of the queue as a mark, to [hold back](Self::hold) what follows, which begins with a new
    /// block. A tail that was held back before is released.
    #[must_use]
    pub fn seal(&mut self) -> Checkpoint {
        self.release();
        // a last block without bytes is a new block already
        let empty = self.chain.left as usize == self.pool.size();
        if self.chain.blocks > 0 && !empty {
            self.chain.left = 0;
        }
        self.mark()
    }

    /// Holds back what was queued since `mark`, which [`seal`](Self::seal) has returned in this callback. It keeps its
    /// blocks and does not leave, while everything before it does. Any later callback may [release](Self::release) or
    /// [discard](Self::discard) it. Queueing more output releases it, and so do [`finish`](crate::Stream::finish),
    /// [`close`](crate::Stream::close) and [`linger`](crate::Stream::linger).
    ///
    /// [`queued`](Self::queued) does not count what is held back; [`room`](Self::room) takes it into account. No
    /// timeout runs because of it.
    ///
    /// ```
    /// use lightcone_core::{Full, Output};
    ///
    /// /// Queues the head of a response that may still be replaced.
    /// fn begin(output: &mut Output<'_>) -> Result<(), Full> {
    ///     let mark = output.seal();
    ///     output.send(b"200 here it comes\n")?;
    ///     output.hold(mark);
    ///     Ok(())
    /// }
    ///
    /// /// Queues the end of that response, or replaces it.
    /// fn end(output: &mut Output<'_>, good: bool) -> Result<(), Full> {
    ///     if good {
    ///         return output.send(b"the end\n"); // after the head
    ///     }
    ///     output.discard();
    ///     output.send(b"400 no\n")
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If bytes were queued before `mark` in the same block, as is possible with [`mark`](Self::mark).
    pub fn hold(&mut self, mark: Checkpoint) {
        let Checkpoint(before) = mark;
        if self.chain.queued == before.queued {
            return; // nothing was queued since
        }
        let sealed = before.blocks == 0 || before.left == 0 || before.left as usize == self.pool.size();
        assert!(sealed, "hold() with a mark that is not from seal()");
        if self.chain.left as usize == self.pool.size() {
            self.return_last();
        }
        self.chain.queued = before.queued;
        self.chain.left = 0;
        self.chain.waits.0 |= Waits::TAIL;
    }

    /// Returns the last block, which was reserved and never written to, to the pool: while a tail is held, the last block
    /// is found by its last byte. A block with bytes precedes it.
    #[cold]
    fn return_last(&mut self) {
        let (kept, mut n, mut at, mut unused) = (self.chain.blocks - 1, 0, 0, 0);
        self.chain.each_block(&self.pool, |block, _, end| {
            n += 1;
            if n <= kept {
                at = end;
            } else {
                unused = block;
            }
            true
        });
        self.pool.take_back(unused);
        (self.chain.blocks, self.chain.at) = (kept, at);
    }

    /// Returns whether something is [held back](Self::hold).
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.chain.has_tail()
    }

    /// Returns the start of what is [held back](Self::hold), as far as it is in one block; empty if nothing is.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        if !self.is_holding() {
            return &[];
        }
        let (mut before, mut piece) = (0, 0..0);
        self.chain.each_block(&self.pool, |_, start, end| {
            piece = start as usize..end as usize;
            before += end - start;
            before <= self.chain.queued
        });
        self.pool.memory.get(piece).unwrap_or_default()
    }

    /// Releases what is [held back](Self::hold), if anything is: it leaves after the callback.
    pub fn release(&mut self) {
        self.chain.release_tail(&self.pool);
    }

    /// Discards what is [held back](Self::hold), if anything is: it never leaves. The caller must not [rewind](Self::rewind)
    /// to a mark that was made before.
    pub fn discard(&mut self) {
        self.chain.discard_tail(&mut self.pool);
    }

    /// Releases the tail, if there is one and more may be queued. Returns whether it did.
    pub(super) fn ends_tail(&mut self) -> bool {
        let ends = self.chain.has_tail() && self.most > 0;
        if ends {
            self.release();
        }
        ends
    }
}

#[cfg(test)]
#[expect(clippy::excessive_nesting, reason = "a model is checked step by step alongside the code")]
mod tests {
    extern crate std;
    use super::super::super::LINK_BYTES;
    use super::super::super::blocks::Blocks;
    use super::*;
    use crate::error::Full;
    use std::vec::Vec;

    const SIZE: usize = 64;

    fn with_pool(count: usize, test: impl FnOnce(&mut Blocks<'_>)) {
        let (mut memory, mut links) = (std::vec![0; count * SIZE], std::vec![[0; LINK_BYTES]; count]);
        test(&mut Blocks::new(&mut memory, &mut links, 6).share_out(0, 8));
    }

    fn output<'a>(blocks: &'a mut Blocks<'_>, chain: &'a mut OutputQueue, most: u16) -> Output<'a> {
        Output { pool: blocks.lend(), chain, most }
    }

    fn content(chain: &OutputQueue, blocks: &Blocks<'_>) -> Vec<u8> {
        let mut slices = [&[][..]; 16];
        let n = chain.slices(blocks, &mut slices);
        assert!(slices[..n].iter().all(|slice| !slice.is_empty()));
        let first = slices[..n].first().copied().unwrap_or_default();
        assert_eq!(chain.first(blocks), first, "the two views agree");
        slices[..n].concat()
    }

    /// Calls `test` after queueing `front` and holding back `tail`, for each pair of lengths that can matter.
    fn with_tails(test: impl Fn(&mut Blocks<'_>, &mut OutputQueue, &[u8], &[u8])) {
        let lengths = [0, 1, 63, 64, 65, 127, 128, 129];
        for front in lengths {
            for tail in lengths.into_iter().filter(|n| *n > 0) {
                with_pool(8, |blocks| {
                    let mut chain = OutputQueue::default();
                    let mut out = output(blocks, &mut chain, 8);
                    let (front, tail) = (std::vec![b'f'; front], std::vec![b't'; tail]);
                    out.send(&front).unwrap();
                    let mark = out.seal();
                    out.send(&tail).unwrap();
                    out.hold(mark);
                    assert_eq!((out.queued(), out.is_holding()), (front.len(), true));
                    assert_eq!(out.held(), &tail[..tail.len().min(SIZE)]);
                    assert_eq!(content(&chain, blocks), front, "only the front may leave");
                    test(blocks, &mut chain, &front, &tail);
                    chain.clear(blocks);
                    assert_eq!(blocks.available(), 8);
                });
            }
        }
    }

    #[test]
    fn a_tail_leaves_when_it_is_released_and_not_before() {
        with_tails(|blocks, chain, front, tail| {
            for _ in front {
                chain.sent(blocks, 1);
                chain.trim(blocks);
            }
            assert!(chain.is_empty() && content(chain, blocks).is_empty());
            let mut out = output(blocks, chain, 8);
            let room = out.room();
            out.release();
            assert_eq!((out.room(), out.queued(), out.is_holding()), (room, tail.len(), false));
            assert_eq!(content(chain, blocks), tail);
            chain.sent(blocks, tail.len());
            assert_eq!((chain.held(), blocks.available()), (0, 8));
        });
    }

    #[test]
    fn a_tail_that_is_discarded_leaves_no_trace() {
        for sent in [false, true] {
            with_tails(|blocks, chain, front, _| {
                let front = if sent { &[] } else { front };
                if sent && !chain.is_empty() {
                    chain.sent(blocks, chain.queued());
                }
                output(blocks, chain, 8).discard();
                chain.trim(blocks);
                assert_eq!(content(chain, blocks), front);
                assert_eq!(blocks.available(), 8 - front.len().div_ceil(SIZE));
                let mut out = output(blocks, chain, 8);
                assert_eq!((out.room(), out.is_holding()), (8 * SIZE - front.len(), false));
                out.send(b"other").unwrap();
                assert_eq!(content(chain, blocks), [front, b"other"].concat());
            });
        }
    }

    #[test]
    fn what_is_queued_after_a_tail_releases_it() {
        let ways: [fn(&mut Output<'_>); 5] = [
            |out| out.send(b"x").unwrap(),
            |out| assert_eq!(out.send_some(b"x"), 1),
            |out| out.write_fmt(format_args!("x")).unwrap(),
            |out| {
                out.reserve(1).unwrap()[0] = b'x';
                out.commit(1);
            },
            |out| {
                out.spare()[0] = b'x';
                out.commit(1);
            },
        ];
        for way in ways {
            with_tails(|blocks, chain, front, tail| {
                let mut out = output(blocks, chain, 8);
                let mark = out.mark();
                way(&mut out);
                assert!(!out.is_holding());
                out.rewind(mark);
                assert_eq!((out.is_holding(), out.queued()), (true, front.len()), "rewound");
                way(&mut out);
                assert_eq!(content(chain, blocks), [front, tail, b"x"].concat());
            });
        }
    }

    #[test]
    fn a_tail_that_fills_the_bound_counts_as_no_room() {
        with_pool(2, |blocks| {
            let mut chain = OutputQueue::default();
            let mut out = output(blocks, &mut chain, 2);
            let mark = out.seal();
            out.send(&[b't'; 2 * SIZE]).unwrap();
            out.hold(mark);
            assert_eq!((out.room(), out.send_some(b"x")), (0, 0));
            assert!(out.is_holding() && out.reserve(1).is_err());
            assert!(out.spare().is_empty() && out.append(1).is_err());
            assert!(out.is_holding(), "what queues nothing releases nothing");
            assert!(output(blocks, &mut chain, 0).spare().is_empty(), "closed for writing");
        });
    }

    /// A block that was reserved after the tail, and never written to, is returned once.
    #[test]
    fn a_block_without_bytes_is_no_part_of_the_tail() {
        let fill = |out: &mut Output<'_>| {
            let spare = out.spare();
            let length = spare.len();
            spare.fill(b't');
            out.commit(length);
        };
        for front in [&b""[..], b"front"] {
            for blocks_of_tail in 1..3 {
                with_pool(8, |blocks| {
                    let free = blocks.available();
                    let mut chain = OutputQueue::default();
                    let mut out = output(blocks, &mut chain, 8);
                    out.send(front).unwrap();
                    let mark = out.seal();
                    (0..blocks_of_tail).for_each(|_| fill(&mut out));
                    assert!(!out.spare().is_empty());
                    out.commit(0);
                    out.hold(mark);
                    assert_eq!((out.is_holding(), out.queued()), (true, front.len()));
                    out.send(b"more").unwrap();
                    let all = [front, &[b't'; 2 * SIZE][..blocks_of_tail * SIZE], b"more"].concat();
                    assert_eq!(content(&chain, blocks), all);
                    chain.sent(blocks, all.len());
                    assert_eq!(blocks.available(), free, "each block is returned once");
                    let whole: Vec<u8> = (0..8 * SIZE).map(|at| at as u8 ^ (at >> 8) as u8).collect();
                    output(blocks, &mut chain, 8).send(&whole).unwrap();
                    assert!(content(&chain, blocks) == whole, "no block is there twice");
                    chain.clear(blocks);
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "from before discard()")]
    fn a_mark_from_before_a_discard_is_refused() {
        with_pool(4, |blocks| {
            let mut chain = OutputQueue::default();
            let mut out = output(blocks, &mut chain, 4);
            let seal = out.seal();
            out.send(&[b't'; 2 * SIZE]).unwrap();
            out.hold(seal);
            let mark = out.mark();
            out.discard();
            out.rewind(mark);
        });
    }

    #[test]
    #[should_panic(expected = "not from seal()")]
    fn a_mark_within_a_block_can_not_be_held_from() {
        with_pool(2, |blocks| {
            let mut chain = OutputQueue::default();
            let mut out = output(blocks, &mut chain, 2);
            out.send(b"front").unwrap();
            let mark = out.mark();
            out.send(b"tail").unwrap();
            out.hold(mark);
        });
    }

    #[test]
    fn whatever_is_done_the_rest_leaves_in_order() {
        let mut seed = 7_u32;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        with_pool(8, |blocks| {
            let (mut chain, mut free, mut held) = (OutputQueue::default(), Vec::new(), Vec::new());
            for step in 0..50_000_u32 {
                let mut out = output(blocks, &mut chain, 6);
                let piece = std::vec![step as u8; 1 + random(150)];
                match random(6) {
                    0 => {
                        let taken = out.send_some(&piece);
                        if taken > 0 {
                            free.append(&mut held);
                        }
                        free.extend_from_slice(&piece[..taken]);
                    }
                    1 => {
                        let before = out.mark();
                        let mark = out.seal();
                        match out.send(&piece) {
                            Ok(()) => {
                                out.hold(mark);
                                free.append(&mut held);
                                held = piece;
                            }
                            Err(Full) => out.rewind(before),
                        }
                    }
                    2 => {
                        out.release();
                        free.append(&mut held);
                    }
                    3 => {
                        out.discard();
                        held.clear();
                    }
                    4 => {
                        let mark = out.mark();
                        let _ = out.send_some(&piece);
                        out.rewind(mark);
                    }
                    _ => {
                        let n = random(free.len() + 1);
                        if n > 0 {
                            chain.sent(blocks, n);
                        }
                        free.drain(..n);
                    }
                }
                assert_eq!((content(&chain, blocks), chain.queued()), (free.clone(), free.len()));
                assert_eq!(chain.has_tail(), !held.is_empty());
                chain.trim(blocks);
                assert_eq!(blocks.available(), 8 - chain.held());
                assert_eq!(chain.held() == 0, free.is_empty() && held.is_empty());
            }
        });
    }
}
