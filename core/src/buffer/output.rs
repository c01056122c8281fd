//! The output buffer: a bounded chain of leased blocks, written in place and sent gathered.

#![expect(clippy::cast_possible_truncation, reason = "pools hold less than 4 GiB: `Config::check`")]

use super::blocks::{Blocks, PoolMut};
use crate::error::Full;
use crate::wait_queue::Waiting;
use core::fmt;

mod tail;

/// A socket's queued output. Positions are byte offsets in the whole pool. The chain holds blocks only while anything
/// is queued or held back or room is reserved.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct OutputQueue {
    /// The position of the first byte that has not left.
    start: u32,
    /// The position of the next byte.
    at: u32,
    /// How many more bytes the last block takes; 0 while the block ends a tail.
    left: u32,
    /// The number of bytes that may leave: all bytes in the blocks except those of a tail.
    queued: u32,
    blocks: u16,
    /// Whether `writable` is pending: it comes once there is room.
    pub(crate) armed: bool,
    waits: Waits,
    /// Whether and how the socket waits for a block.
    pub(crate) waiting: Waiting,
}

/// A [`WritableGate`], and whether a [tail] is held back, in one byte.
#[derive(Clone, Copy, Default, Debug)]
struct Waits(u8);

impl Waits {
    const TAIL: u8 = 4;
}

/// What a pending `writable` waits for in addition to room in the chain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum WritableGate {
    #[default]
    None,
    /// `writable` was delivered, and since then no bytes have left and no blocks were returned: another one so soon
    /// would have no effect.
    Given,
    /// `writable` has no effect before some of the queued bytes have left or, with nothing queued, a block was returned
    /// to the pool.
    Held,
}

impl OutputQueue {
    pub(crate) const fn queued(&self) -> usize {
        self.queued as usize
    }

    pub(crate) const fn hold(&self) -> WritableGate {
        match self.waits.0 & !Waits::TAIL {
            0 => WritableGate::None,
            1 => WritableGate::Given,
            _ => WritableGate::Held,
        }
    }

    #[inline(always)]
    pub(crate) const fn set_hold(&mut self, hold: WritableGate) {
        self.waits.0 = self.waits.0 & Waits::TAIL | hold as u8;
    }

    /// Returns how many more blocks the chain may take, apart from its limit.
    pub(crate) fn leasable(&self, blocks: &Blocks<'_>) -> usize {
        blocks.leasable(self.blocks.into(), self.waiting) as usize
    }

    /// Returns how many blocks the chain holds.
    pub(crate) const fn held(&self) -> usize {
        self.blocks as usize
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Returns whether enough of a chain of at most `most` blocks has left for `writable` to come.
    pub(crate) const fn is_low(&self, most: usize) -> bool {
        self.queued == 0 || self.blocks as usize * 2 <= most
    }

    /// Returns whether a block is held for room that was reserved and never written to.
    pub(crate) const fn holds_unused(&self) -> bool {
        self.queued == 0 && self.blocks > 0
    }

    /// Returns the block that is being written. Call it only while the chain holds one.
    const fn last(&self, shift: u32) -> u32 {
        (self.at + self.left - 1) >> shift
    }

    /// Returns the first piece of the queued bytes.
    #[inline]
    pub(crate) fn first<'m>(&self, blocks: &'m Blocks<'_>) -> &'m [u8] {
        let end = if self.blocks == 1 { self.at } else { blocks.end(blocks.block(self.start)) };
        let piece = blocks.memory().get(self.start as usize..end as usize);
        if self.queued == 0 { &[] } else { piece.unwrap_or_default() }
    }

    /// Returns the queued bytes, if they are in one block.
    #[inline(always)]
    pub(crate) fn only_piece<'m>(&self, blocks: &'m Blocks<'_>) -> Option<&'m [u8]> {
        if self.blocks == 1 { blocks.memory().get(self.start as usize..self.at as usize) } else { None }
    }

    /// Fills `to` with the queued bytes in order, as slices of the pool. Returns the number of slices.
    pub(crate) fn slices<'m>(&self, blocks: &'m Blocks<'_>, to: &mut [&'m [u8]]) -> usize {
        if self.queued == 0 {
            return 0;
        }
        let last = blocks.block(self.at + self.left - 1);
        let (mut start, mut n, mut queued) = (self.start, 0, self.queued);
        for slot in to.iter_mut() {
            let block = blocks.block(start);
            let end = if block == last { self.at } else { blocks.end(block) };
            *slot = blocks.memory().get(start as usize..end as usize).unwrap_or_default();
            n += 1;
            queued -= end - start;
            if queued == 0 {
                break; // what follows is held back, or was reserved and not yet written to
            }
            start = blocks.next_start(block);
        }
        n
    }

    /// Removes the first `n` queued bytes, which have left, and returns their blocks to the pool.
    #[inline(always)]
    pub(crate) fn sent(&mut self, blocks: &mut Blocks<'_>, n: usize) {
        if n == self.queued() && self.blocks == 1 {
            return self.sent_only_piece(blocks);
        }
        self.sent_over_blocks(blocks, n);
    }

    /// Removes the [only piece](Self::only_piece), which has left.
    #[inline(always)]
    pub(crate) fn sent_only_piece(&mut self, blocks: &mut Blocks<'_>) {
        debug_assert_eq!(self.blocks, 1, "the bytes are in one block");
        blocks.release(blocks.block(self.start));
        (self.start, self.at, self.left, self.queued, self.blocks) = (0, 0, 0, 0, 0);
    }

    #[inline(never)]
    fn sent_over_blocks(&mut self, blocks: &mut Blocks<'_>, n: usize) {
        assert!(n <= self.queued(), "sent({n}) with {} bytes queued", self.queued);
        self.queued -= n as u32;
        let ends = self.queued == 0 && !self.has_tail();
        // with nothing left, all blocks are returned at once below
        let mut n = if ends { 0 } else { n as u32 };
        let shift = blocks.size().trailing_zeros();
        let mut pool = blocks.lend();
        while n > 0 {
            let first = self.start >> shift;
            if first == self.last(shift) {
                // it is still being written, and has no link yet
                self.start += n;
                break;
            }
            let (next, end) = pool.link(first);
            let here = end - self.start;
            if n < here {
                self.start += n;
                break;
            }
            n -= here;
            pool.release(first);
            self.blocks -= 1;
            self.start = next << shift;
        }
        if ends {
            self.release(&mut pool);
        }
    }

    /// Queues `n` bytes, for which there is room in the last block.
    #[inline]
    const fn advance(&mut self, n: u32) {
        self.at += n;
        self.left -= n;
        self.queued += n;
    }

    /// Returns blocks to the pool that were reserved and never written to.
    pub(crate) fn trim(&mut self, blocks: &mut Blocks<'_>) {
        if self.holds_unused() && !self.has_tail() {
            let mut pool = blocks.lend();
            let mut block = self.start >> pool.shift();
            for _ in 0..core::mem::take(&mut self.blocks) {
                let (next, _) = pool.link(block);
                pool.take_back(block);
                block = next;
            }
            self.empty();
        }
    }

    pub(crate) fn clear(&mut self, blocks: &mut Blocks<'_>) {
        self.release(&mut blocks.lend());
    }

    fn release(&mut self, pool: &mut PoolMut<'_>) {
        let mut block = self.start >> pool.shift();
        for _ in 0..core::mem::take(&mut self.blocks) {
            let (next, _) = pool.link(block);
            pool.release(block);
            block = next;
        }
        self.empty();
    }

    /// Forgets the blocks, which have been returned to the pool.
    fn empty(&mut self) {
        let hold = self.hold();
        *self = Self { armed: self.armed, waiting: self.waiting, ..Self::default() };
        self.set_hold(hold);
    }
}

/// A point in the queued output, to rewind to within the same callback.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint(OutputQueue);

/// The writing half of a socket.
///
/// The engine sends what is queued, in order, after the callback has returned: a program never handles an incomplete
/// send. The queue is bounded by [`Config::output_limit`](crate::Config) blocks. A send that does not fit fails with
/// [`Full`] and queues nothing, and the `writable` event follows when half of the blocks are free again.
///
/// After `finish`, `close`, `linger` or `abort` nothing more can be queued.
///
/// Implements [`core::fmt::Write`] and [`embedded_io::Write`].
#[derive(Debug)]
pub struct Output<'a> {
    pub(crate) pool: PoolMut<'a>,
    pub(crate) chain: &'a mut OutputQueue,
    /// The maximum number of blocks of the chain; 0 once nothing more can be queued.
    pub(crate) most: u16,
}

impl Output<'_> {
    /// Returns how many bytes [`send`](Self::send) takes now.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        let left = if self.most == 0 { 0 } else { self.chain.left_after_tail(self.pool.shift()) as usize };
        left + self.leasable() * self.pool.size()
    }

    /// Returns how many more blocks the chain may take.
    #[inline]
    fn leasable(&self) -> usize {
        let most = u32::from(self.most.saturating_sub(self.chain.blocks));
        if self.pool.has_plenty(u32::from(self.most)) {
            // the common case: the share need not be computed
            return most as usize;
        }
        self.pool.leasable(u32::from(self.chain.blocks), self.chain.waiting).min(most) as usize
    }

    /// Returns the size of a block if one is free, else 0. For an empty queue, this is a lower bound of
    /// [`room`](Self::room) that is cheaper to compute.
    #[inline]
    #[must_use]
    pub fn free_block(&self) -> usize {
        if self.most > self.chain.blocks && self.pool.has_spare() { self.pool.size() } else { 0 }
    }

    /// Returns how many bytes can be queued at once: the most that [`send`](Self::send) ever takes. 0 once nothing more
    /// can be queued.
    #[must_use]
    pub fn limit(&self) -> usize {
        usize::from(self.most) * self.pool.size()
    }

    /// Returns how many bytes wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.chain.queued()
    }

    /// Returns how many bytes of the socket's blocks cannot take further output: those that are
    /// [queued](Self::queued) or held back, those that have been sent from the first block, and those that were left
    /// free in others. Together with [`room`](Self::room), this is the [limit](Self::limit), unless other sockets hold
    /// blocks.
    #[must_use]
    pub fn occupied(&self) -> usize {
        let left = self.chain.left_after_tail(self.pool.shift()) as usize;
        self.chain.blocks as usize * self.pool.size() - left
    }

    /// Queues all of `bytes`, or nothing.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is not enough room. `writable` will come, unless `bytes` is more than the limit and so can
    /// never fit.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.most != 0
            && bytes.len() <= self.chain.left as usize
            && let Some(to) =
                self.pool.memory.get_mut(self.chain.at as usize..self.chain.at as usize + bytes.len())
        {
            to.copy_from_slice(bytes);
            self.advance(bytes.len() as u32);
            return Ok(());
        }
        self.send_over_blocks(bytes)
    }

    #[inline(never)]
    fn send_over_blocks(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.chain.blocks == 0 && bytes.len() <= self.pool.size() && !bytes.is_empty() {
            // the common case: the first piece of a response
            self.grow()?;
            self.write_block(bytes);
            return Ok(());
        }
        if bytes.len() > self.room() {
            // more than the limit never fits, so `writable` is not requested
            if bytes.len() <= self.limit() {
                self.refuse();
            }
            return Err(Full);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = self.write_block(rest);
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Copies as much of `bytes` as the last block takes, after leasing another if it is full. Returns the number of
    /// bytes.
    fn write_block(&mut self, bytes: &[u8]) -> usize {
        if self.chain.left == 0 && self.grow().is_err() {
            return 0;
        }
        let n = bytes.len().min(self.chain.left as usize);
        let at = self.chain.at as usize;
        if let (Some(to), Some(from)) = (self.pool.memory.get_mut(at..at + n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.advance(n as u32);
        n
    }

    /// Queues as much of `bytes` as fits, and returns how much that was. For streams that track their own position. If
    /// it was not all, `writable` will come.
    ///
    /// ```
    /// use lightcone_core::Output;
    ///
    /// /// Queues more of a file from `at` on. Returns whether all of it is queued; if not, call it in `writable`.
    /// fn go_on(output: &mut Output<'_>, file: &[u8], at: &mut usize) -> bool {
    ///     let taken = output.send_some(&file[*at..]);
    ///     *at += taken;
    ///     *at == file.len()
    /// }
    /// ```
    #[must_use = "what was not taken must be sent later"]
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        if n < bytes.len() {
            self.refuse();
        }
        let mut rest = bytes.get(..n).unwrap_or_default();
        while !rest.is_empty() {
            let written = self.write_block(rest);
            rest = rest.get(written..).unwrap_or_default();
        }
        n
    }

    /// Requests `writable` without sending. It comes when at most half of the limit is queued, at the earliest after
    /// this callback. A handler that receives it and requests it again, because the room is still too small, waits
    /// until some of what is queued has left or, with nothing queued, until another socket has returned a block. After
    /// `finish`, `close`, `linger` or `abort` it does not come.
    pub fn request_writable(&mut self) {
        if self.most == 0 {
            return;
        }
        self.chain.armed = true;
        // `writable` was just delivered and did not suffice: without a change it would come again in every turn
        let short = self.chain.has_tail()
            || self.leasable() < usize::from(self.most.saturating_sub(self.chain.blocks));
        if self.chain.hold() == WritableGate::Given && (short || self.chain.queued > 0) {
            self.chain.set_hold(WritableGate::Held);
        }
    }

    /// Requests `writable` for when there may be room for `n` bytes, as a failed [`send`](Self::send) of `n` bytes
    /// does. If there is too little room although at most half of the limit is queued, because other sockets hold the
    /// blocks, it does not come before something has changed: bytes of this socket have left or, with none queued,
    /// blocks were returned. For more than the limit, for which there is never room, it is the same as
    /// [`request_writable`](Self::request_writable).
    pub fn request_writable_for(&mut self, n: usize) {
        let limit = self.limit();
        if n <= self.room() {
            self.chain.armed |= limit > 0;
        } else if n <= limit {
            self.refuse();
        } else {
            self.request_writable();
        }
    }

    /// Returns `n` bytes in one piece, to be written in place and then [`commit`](Self::commit)ted. Their contents are
    /// unspecified.
    ///
    /// ```
    /// use lightcone_core::{Full, Output};
    ///
    /// /// Queues a message of zeros, with its length in its first byte.
    /// fn zeros(output: &mut Output<'_>, length: u8) -> Result<(), Full> {
    ///     let place = output.reserve(1 + usize::from(length))?;
    ///     place.fill(0);
    ///     place[0] = length;
    ///     output.commit(1 + usize::from(length));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Full`] if there is no room; always if `n` is more than a block ([`Config::block_size`](crate::Config)).
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Result<&mut [u8], Full> {
        if n > self.chain.left as usize || self.most == 0 {
            self.grow_for(n)?;
        }
        let at = self.chain.at as usize;
        self.pool.memory.get_mut(at..at + n).ok_or(Full)
    }

    /// Queues `n` bytes in one piece, and returns them to be written in place: [`reserve`](Self::reserve) and
    /// [`commit`](Self::commit) in one. Their contents are unspecified.
    ///
    /// # Errors
    ///
    /// The same as for [`reserve`](Self::reserve).
    #[inline]
    pub fn append(&mut self, n: usize) -> Result<&mut [u8], Full> {
        if n > self.chain.left as usize || self.most == 0 {
            if n <= self.pool.size()
                && let Some(at) = self.begin_hot(n)
            {
                return self.pool.memory.get_mut(at as usize..at as usize + n).ok_or(Full);
            }
            self.grow_for(n)?;
        }
        let at = self.chain.at as usize;
        let place = self.pool.memory.get_mut(at..at + n).ok_or(Full)?;
        self.chain.advance(n as u32);
        Ok(place)
    }

    /// Begins the chain with the block that was returned last, as most responses do, and queues `n` bytes, which must
    /// fit into a block. Returns where they are.
    #[inline(always)]
    fn begin_hot(&mut self, n: usize) -> Option<u32> {
        if self.chain.blocks > 0
            || self.most == 0
            || !self.pool.has_spare()
            || self.chain.waiting != Waiting::None
        {
            return None;
        }
        let base = self.pool.lease_hot()? << self.pool.shift();
        let chain = &mut *self.chain;
        (chain.start, chain.at, chain.left) = (base, base + n as u32, (self.pool.size() - n) as u32);
        (chain.queued, chain.blocks) = (n as u32, 1);
        Some(base)
    }

    /// Makes room for `n` bytes in one piece.
    #[inline(never)]
    fn grow_for(&mut self, n: usize) -> Result<(), Full> {
        if n > self.pool.size() {
            return Err(Full);
        }
        if self.begin_hot(0).is_some() {
            return Ok(());
        }
        let before = self.mark();
        let ended = self.ends_tail();
        if ended && n <= self.chain.left as usize {
            return Ok(());
        }
        let result = self.grow();
        if ended && result.is_err() {
            self.rewind(before); // nothing is queued, so the tail stays
        }
        result
    }

    /// Queues the first `n` of the bytes last reserved.
    ///
    /// # Panics
    ///
    /// If `n` is more than the room that is left in the last block.
    #[inline]
    pub fn commit(&mut self, n: usize) {
        if n > self.chain.left as usize {
            committed_too_much(n, self.chain.left);
        }
        self.advance(n as u32);
    }

    #[inline]
    fn advance(&mut self, n: u32) {
        self.chain.advance(n);
    }

    /// Returns the rest of the block that is being written, or a new block. Empty if there is no room; then `writable`
    /// will come. Write it from the front, and [`commit`](Self::commit) what was written.
    pub fn spare(&mut self) -> &mut [u8] {
        if (self.chain.left == 0 || self.most == 0) && self.grow().is_err() {
            return &mut [];
        }
        let at = self.chain.at as usize;
        self.pool.memory.get_mut(at..at + self.chain.left as usize).unwrap_or_default()
    }

    /// Releases the tail, so that its last block takes bytes again, or a block is appended to it. If that fails, the tail
    /// stays.
    #[cold]
    fn grow_tail(&mut self) -> Result<(), Full> {
        let before = self.mark();
        if !self.ends_tail() {
            return Err(Full); // nothing more may be queued
        }
        let result = if self.chain.left > 0 { Ok(()) } else { self.grow() };
        if result.is_err() {
            self.rewind(before);
        }
        result
    }

    /// Leases a block and appends it to the chain.
    #[inline(always)]
    fn grow(&mut self) -> Result<(), Full> {
        if self.chain.has_tail() {
            return self.grow_tail();
        }
        // the share need not be computed if enough blocks are free for any socket
        if self.chain.blocks >= self.most
            || !(self.pool.has_plenty(u32::from(self.most))
                || self.pool.leasable(u32::from(self.chain.blocks), self.chain.waiting) > 0)
        {
            self.refuse();
            return Err(Full);
        }
        let Some(block) = self.pool.lease() else {
            self.refuse();
            return Err(Full);
        };
        if self.chain.blocks == 0 && self.chain.waiting != Waiting::None {
            self.stop_waiting();
        }
        let base = block << self.pool.shift();
        if self.chain.blocks == 0 {
            self.chain.start = base;
        } else {
            // `at` may be before the end of the last block: `append` and `reserve` need one piece
            let last = self.chain.last(self.pool.shift());
            self.pool.set_link(last, block, self.chain.at);
        }
        self.chain.blocks += 1;
        self.chain.at = base;
        self.chain.left = self.pool.size() as u32;
        Ok(())
    }

    /// Ends the wait for a block: the socket has taken one.
    #[cold]
    fn stop_waiting(&mut self) {
        let waiting = self.chain.waiting;
        let taken = if waiting.is_granted() { Waiting::GrantTaken } else { Waiting::OutputTaken };
        if waiting.is_granted() || waiting.waits_for_output() {
            self.pool.remove_waiter(waiting);
            self.chain.waiting = taken;
        }
    }

    /// Requests `writable`, unless nothing more can be queued.
    #[cold]
    fn refuse(&mut self) {
        if self.most != 0 {
            self.chain.armed = true;
            self.chain.set_hold(WritableGate::Held);
        }
    }

    /// Returns the present end of the queue.
    #[must_use]
    pub fn mark(&self) -> Checkpoint {
        Checkpoint(*self.chain)
    }

    /// Removes everything that was queued since `mark` was made, which must have been in this callback.
    pub fn rewind(&mut self, mark: Checkpoint) {
        let Checkpoint(before) = mark;
        debug_assert!(before.start == self.chain.start || before.blocks == 0, "a mark of another callback");
        let shift = self.pool.shift();
        let Some(extra) = self.chain.blocks.checked_sub(before.blocks) else {
            panic!("rewind() to a mark from before discard()")
        };
        let mut block = match before.blocks {
            0 => self.chain.start >> shift,
            _ if extra > 0 => self.pool.link(before.last(shift)).0,
            _ => 0,
        };
        for _ in 0..extra {
            let (next, _) = self.pool.link(block);
            self.pool.take_back(block);
            block = next;
        }
        // a requested `writable` and a place in a wait queue outlast the rewind
        let (armed, hold, waiting) = (self.chain.armed, self.chain.hold(), self.chain.waiting);
        *self.chain = OutputQueue { armed, waiting, ..before };
        self.chain.set_hold(hold);
    }

    /// Queues all of the formatted text, or nothing. `write!(output, ..)` calls this.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is not enough room; `writable` will come.
    pub fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Result<(), Full> {
        let mark = self.mark();
        if fmt::Write::write_fmt(&mut self.reborrow(), args).is_err() {
            self.rewind(mark);
            return Err(Full);
        }
        Ok(())
    }

    /// Reborrows the output for a shorter lifetime.
    pub fn reborrow(&mut self) -> Output<'_> {
        Output { pool: self.pool.reborrow(), chain: self.chain, most: self.most }
    }
}

#[cold]
#[inline(never)]
fn committed_too_much(n: usize, left: u32) -> ! {
    panic!("commit({n}) with room for {left} bytes");
}

/// Queues piece by piece: after an error, earlier pieces of the same text are queued. The inherent
/// [`write_fmt`](Output::write_fmt) queues all or nothing.
impl fmt::Write for Output<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.send(s.as_bytes()).map_err(|Full| fmt::Error)
    }
}

impl embedded_io::ErrorType for Output<'_> {
    type Error = Full;
}

/// `write` queues what fits and fails with [`Full`] if that is nothing; `write_all` and `write_fmt` queue all or
/// nothing; `flush` does nothing, because the engine sends.
impl embedded_io::Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Full> {
        match self.send_some(buf) {
            0 if !buf.is_empty() => Err(Full),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> Result<(), Full> {
        Ok(())
    }

    fn write_all(&mut self, buf: &[u8]) -> Result<(), Full> {
        self.send(buf)
    }

    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Result<(), embedded_io::WriteFmtError<Full>> {
        Output::write_fmt(self, args).map_err(embedded_io::WriteFmtError::Other)
    }
}

impl embedded_io::WriteReady for Output<'_> {
    fn write_ready(&mut self) -> Result<bool, Full> {
        Ok(self.room() > 0)
    }
}

#[cfg(test)]
mod tests;
