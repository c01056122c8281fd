//! The fast path of a connection, for a socket in an ordinary state.

use super::{Action, Connection};
use crate::actions::{ContextCalls, Sent, Settled, report_sent};
use crate::buffer::{Blocks, WritableGate};
use crate::handler::{Event, Handler};
use crate::interest::Interest;
use crate::shard::Shard;
use crate::slot::{ControlBlock, Slot};
use crate::socket::{SharedView, Socket, Stream};
use crate::stats::Stats;
use crate::token::Token;
use core::fmt;

/// The fast path of a [`Connection`], for a socket in an ordinary state, from [`Shard::fast_path`]. It handles a
/// complete request with one lookup of the slot. The results are those of a connection, at lower cost.
pub struct FastPath<'p, 's, D> {
    control: &'p mut ControlBlock,
    data: &'p mut D,
    output: &'p mut Blocks<'s>,
    stats: &'p mut Stats,
    shared: &'p SharedView,
    index: u32,
    now: u32,
    block_size: usize,
}

impl<D> fmt::Debug for FastPath<'_, '_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastPath").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The point at which [`FastPath::receive`] stopped, for [`Connection::go_on`].
#[derive(Debug)]
#[must_use = "the socket stalls unless its connection continues"]
pub struct LeftFastPath(FastPathStop);

#[derive(Debug)]
enum FastPathStop {
    /// After the event: it requires more than the fast path handles.
    Event { consumed: usize },
    /// Before the send: the output is in several blocks.
    Pieces,
    /// After the send: its result requires more than the fast path handles.
    Send { offered: usize, sent: Sent },
}

impl<D> FastPath<'_, '_, D> {
    /// Returns the maximum number of bytes that may be received now, as [`Connection::room`] does.
    #[must_use]
    #[inline]
    pub const fn room(&self) -> usize {
        self.shared.capacity as usize
    }

    /// Returns whether this number of bytes can take the fast path: at least one, and less than a block.
    /// Others go to [`Connection::receive`].
    #[must_use]
    #[inline]
    pub const fn takes(&self, bytes: usize) -> bool {
        bytes > 0 && bytes < self.block_size
    }

    /// Delivers bytes whose number the fast path [`takes`](Self::takes), and carries out the actions that follow, as
    /// [`Connection::receive`] does.
    ///
    /// # Errors
    ///
    /// If the fast path cannot complete the work. Then [`Connection::go_on`] must be called with the same bytes.
    ///
    /// # Panics
    ///
    /// If the fast path does not take this number of bytes, in builds with debug assertions.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        self,
        bytes: &mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Result<Settled, LeftFastPath> {
        debug_assert!(self.takes(bytes.len()), "{} bytes on the fast path", bytes.len());
        let Self { control, data, output, stats, shared, index, now, .. } = self;
        let (length, mut consumed) = (bytes.len(), 0);
        stats.bytes_in += length as u64;
        control.seen = now;
        let stream = Stream { control, pool: output.lend(), bytes, consumed: &mut consumed, shared, index };
        handler.event(&mut Socket { stream, data }, Event::Receive, &mut calls.context());
        if consumed < length || !control.is_usual() || control.chain.holds_unused() {
            return Err(LeftFastPath(FastPathStop::Event { consumed }));
        }
        if control.chain.is_empty() {
            return Ok(Settled::Waiting(Interest::READ));
        }
        // most responses are in one block and leave with one send
        let Some(piece) = control.chain.only_piece(output) else {
            return Err(LeftFastPath(FastPathStop::Pieces));
        };
        let (offered, sent) = (piece.len(), calls.send(piece));
        if sent != Sent::Bytes(offered) || handler.wants_sent() {
            return Err(LeftFastPath(FastPathStop::Send { offered, sent }));
        }
        stats.bytes_out += offered as u64;
        control.chain.sent_only_piece(output);
        control.chain.set_hold(WritableGate::None);
        Ok(Settled::Waiting(Interest::READ))
    }
}

impl<'s, D> Shard<'s, D> {
    /// Returns the fast path of a socket, if the token is valid, the socket is open and in an ordinary state, and there
    /// is room to receive. Otherwise `None`: use [`connection`](Self::connection), which also checks the token.
    #[must_use]
    #[inline(always)]
    pub fn fast_path(&mut self, token: Token) -> Option<FastPath<'_, 's, D>> {
        let index = token.index();
        if !self.input.large.has_spare() {
            return None;
        }
        let usual = self.usual(index)?;
        (usual.shared.token.at(index, usual.control.generation) == token).then_some(usual)
    }

    #[inline(always)]
    fn usual(&mut self, index: u32) -> Option<FastPath<'_, 's, D>> {
        let Slot { control, data: Some(data) } = self.slots.get_mut(index)? else { return None };
        if !control.is_usual() {
            return None;
        }
        let Self { output, stats, shared, now, config, .. } = self;
        let (now, block_size) = (now.tick(), config.block_size);
        Some(FastPath { control, data, output, stats, shared, index, now, block_size })
    }
}

impl<'p, D> Connection<'p, '_, D> {
    /// Reports received bytes, if there are any, delivers the pending events, and carries out the actions
    /// that follow.
    ///
    /// This is [`received`](Self::received), [`run`](Self::run) and [`carry_out`](crate::carry_out) in one, with a fast
    /// path for the complete handling of a request on a socket in an ordinary state. The result is the same.
    #[inline(always)]
    pub fn receive<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        let shard = &mut *self.shard;
        // fewer bytes than a block fit into any free block, so the room need not be computed
        let fits = bytes.len() < shard.config.block_size && shard.input.has_blocks() && !bytes.is_empty();
        // after a pulled event, the bytes before are not settled yet
        let fits = fits && self.fresh.is_empty();
        let usual = if fits { shard.usual(self.index) } else { None };
        let Some(usual) = usual else {
            self.received(bytes);
            let next = self.run(handler, &mut calls.context());
            return self.carry_out(next, 0, handler, calls);
        };
        match usual.receive(bytes, handler, calls) {
            Ok(settled) => settled,
            Err(stopped) => self.go_on(stopped, bytes, handler, calls),
        }
    }

    /// Continues with `bytes` where [`FastPath::receive`] stopped.
    #[inline(never)]
    pub fn go_on<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        stopped: LeftFastPath,
        bytes: &'p mut [u8],
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        match stopped.0 {
            FastPathStop::Event { consumed } => {
                (self.fresh, self.consumed) = (bytes, consumed);
                let next = self.run_all(handler, &mut calls.context());
                self.carry_out(next, 0, handler, calls)
            }
            FastPathStop::Pieces => self.carry_out(Action::Send, 0, handler, calls),
            FastPathStop::Send { offered, sent } => self.go_on_after_send(offered, sent, handler, calls),
        }
    }

    #[inline(never)]
    fn go_on_after_send<H: Handler<Data = D>, C: ContextCalls<H::Message>>(
        &mut self,
        offered: usize,
        sent: Sent,
        handler: &mut H,
        calls: &mut C,
    ) -> Settled {
        report_sent(self, offered, sent);
        let next = self.run(handler, &mut calls.context());
        self.carry_out(next, 1, handler, calls)
    }
}
