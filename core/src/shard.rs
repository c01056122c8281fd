//! The state machine of one poller.

#![expect(
    clippy::cast_possible_truncation,
    reason = "`Config::check` keeps every count and size within its type"
)]

mod timing;
mod waiting;

use self::timing::Ticks;
use self::waiting::WaitQueues;
use crate::address::{Address, PackedAddress};
use crate::buffer::{Blocks, InputPools, LINK_BYTES};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::CloseReason;
use crate::handler::{Handler, Origin};
use crate::idle_queue::IdleQueue;
use crate::life::{State, Transition};
use crate::queue::Queue;
use crate::slot::{ControlBlock, Flags, Pending, Slot};
use crate::socket::SharedView;
use crate::stats::Stats;
use crate::storage::{NOTE_BYTES, SetupError, Slots, Storage, StorageError, WINDOW_BYTES};
use crate::time::Instant;
use crate::timer::{TimerLink, TimerLinks, Wheel};
use crate::token::Token;
use crate::wait_queue::{WAIT_LINK_BYTES, WaitLinks, WaitQueue, Waiting};
use crate::write_rate::RateWindows;
use core::fmt;
use core::time::Duration;

/// The maximum time that a staged close waits for its peer once a stop has begun, regardless of
/// [`Timeouts`](crate::Timeouts). It is longer than most round trips, since it is there for bytes that the peer
/// sent before it saw the end of the stream.
pub const STOP_LINGER: Duration = Duration::from_millis(500);

/// In place of a span after which sockets may be evicted, if the shard [impersonates](Shard::impersonate) another
/// one's sockets.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// The state machine of one poller: socket table, buffers, deadlines.
///
/// It takes inputs and returns actions. It makes no system call, reads no clock and allocates nothing.
///
/// A driver (or a program without one) calls
/// - [`tick`](Self::tick) once per turn, with the time;
/// - [`admit`](Self::admit) or [`dial`](Self::dial) for new sockets;
/// - [`connection`](Self::connection) with a token, to report what happened to that socket and to get its next
///   [`Action`](crate::Action);
/// - [`next_ready`](Self::next_ready) until it returns `None`, for sockets that are due without an outside
///   event: timeouts, returned blocks;
/// - [`next_deadline`](Self::next_deadline) for the time until which it may sleep.
pub struct Shard<'s, D> {
    pub(crate) slots: Slots<'s, D>,
    pub(crate) output: Blocks<'s>,
    pub(crate) input: InputPools<'s>,
    wheel: Wheel,
    pub(crate) now: Instant,
    /// The part of the views that all sockets share.
    pub(crate) shared: SharedView,
    pub(crate) config: Config,
    ticks: Ticks,
    /// The index of the first free slot, plus one; 0 means none.
    free: u32,
    pub(crate) ready: Queue,
    pub(crate) wait_queues: WaitQueues<'s>,
    /// The number of ready sockets that may still run in this turn.
    turns: u32,
    open: u32,
    stopping: bool,
    /// The value that [`needs_reset`](Self::needs_reset) returns.
    pub(crate) broke_off: bool,
    pub(crate) stats: Stats,
    /// For each stalled socket, by index: its undelivered bytes at the last check, plus one; 0 means not
    /// checked. Kept apart from the slots, since idle sockets do not need it.
    noted: &'s mut [[u8; NOTE_BYTES]],
    /// For each socket whose output waits, by index: how much of it the peer takes.
    pub(crate) windows: RateWindows<'s>,
    /// The sockets that may be evicted.
    idle: IdleQueue<'s>,
    /// Whether the driver reports undelivered bytes.
    asks: bool,
    /// The socket for which the driver is to make a call now, see [`is_asking`](Self::is_asking).
    asked: Option<u32>,
    /// Whether timers are held back in this turn.
    held: bool,
}

/// The number of free blocks in each pool, from [`Shard::free_blocks`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FreeBlocks {
    /// Of [`Config::output_blocks`].
    pub output: usize,
    /// Of [`Config::input_blocks`].
    pub input: usize,
    /// Of [`Config::receive_blocks`].
    pub receive: usize,
}

/// The reason why a socket was not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AdmitError {
    /// All slots are in use. The handler was not called.
    Full,
    /// The handler turned the peer away.
    Handler,
    /// The shard is stopping. The handler was not called.
    Stopping,
}

impl fmt::Display for AdmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "all sockets are in use",
            Self::Handler => "the handler turned the peer away",
            Self::Stopping => "the engine is stopping",
        })
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for AdmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for AdmitError {}

impl<D> TimerLinks for Slots<'_, D> {
    #[expect(clippy::expect_used, reason = "the wheel holds only slots in use: `free_slot` removes them")]
    fn link(&mut self, index: u32) -> &mut TimerLink {
        &mut self.get_mut(index).expect("a timer of a slot in use").control.timer
    }
}

impl<D> fmt::Debug for Shard<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("config", &self.config)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl<'s, D> Shard<'s, D> {
    /// Creates a shard in the memory lent to it, at the time `now`. No memory is touched before it is needed.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or the storage is too small for the configuration.
    pub fn new(storage: Storage<'s, D>, config: &Config, now: Instant) -> Result<Self, SetupError> {
        config.check()?;
        let Storage { slots, memory } = storage;
        StorageError::check("Storage::slots", slots.len(), config.sockets)?;
        StorageError::check("Storage::memory", memory.len(), config.memory())?;
        let too_small =
            StorageError { part: "Storage::memory", length: memory.len(), needed: config.memory() };
        let slots = slots.get_mut(..config.sockets).unwrap_or_default();
        // The memory was found long enough above, so none of these steps fails.
        let (output, rest) = carve(memory, config.output_blocks, config.block_size).ok_or(too_small)?;
        let (small, rest) = carve(rest, config.input_blocks, config.block_size).ok_or(too_small)?;
        // A pool without blocks needs a block size, too.
        let large_size = if config.receive_blocks > 0 { config.receive_size } else { 64 };
        let (large, rest) = carve(rest, config.receive_blocks, large_size).ok_or(too_small)?;
        let (noted, rest) = rest.split_at_mut_checked(config.sockets * NOTE_BYTES).ok_or(too_small)?;
        let (noted, _) = noted.as_chunks_mut();
        let (links, rest) = rest.split_at_mut_checked(config.sockets * WAIT_LINK_BYTES).ok_or(too_small)?;
        let (links, _) = links.as_chunks_mut();
        // Without a minimum rate, nothing is kept for it.
        let rated = if config.timeouts.write_rate.is_some() { config.sockets } else { 0 };
        let (windows, rest) = rest.split_at_mut_checked(rated * WINDOW_BYTES).ok_or(too_small)?;
        let evictable = if config.evict_after.is_some() { config.sockets } else { 0 };
        let (idle, _) = rest.split_at_mut_checked(evictable * WAIT_LINK_BYTES).ok_or(too_small)?;
        let idle = IdleQueue::new(idle.as_chunks_mut().0, config.evict_after);
        let windows = RateWindows::new(windows.as_chunks_mut().0, config.timeouts.write_rate);
        let output = output.share_out(config.output_reserve() as u32, config.output_share());
        Ok(Self {
            slots: Slots::new(slots),
            output,
            input: InputPools { small, large },
            wheel: Wheel::new(now.tick()),
            now,
            shared: SharedView {
                now,
                token: Token::new(config.poller, 0, config.generation_seed),
                capacity: if config.receive_blocks > 0 { config.receive_size } else { config.block_size }
                    as u32,
                output_limit: config.output_limit.min(config.output_blocks) as u16,
                first_byte: config.timeouts.first_byte.is_some(),
                write_stall: config.timeouts.write_stall.is_some(),
                stopping: false,
                evict_after: idle.due(0),
            },
            config: Config { output_limit: config.output_limit.min(config.output_blocks), ..*config },
            ticks: Ticks::new(config, windows.look()),
            free: 0,
            ready: Queue::default(),
            wait_queues: WaitQueues {
                links: WaitLinks::new(links),
                output: WaitQueue::default(),
                unserved: 0,
                returned: 0,
                input: WaitQueue::default(),
                large: WaitQueue::default(),
            },
            turns: 0,
            open: 0,
            stopping: false,
            broke_off: false,
            stats: Stats::default(),
            noted,
            windows,
            idle,
            asks: false,
            asked: None,
            held: false,
        })
    }

    /// Returns the configuration of the shard. Its [`output_limit`](Config::output_limit) is at most the
    /// number of output blocks.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the counters of the shard.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns the time of this turn.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns the number of slots in use: open, connecting, closing and reserved.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.open as usize
    }

    /// Returns the number of free blocks. Without sockets, all blocks are free.
    #[must_use]
    pub fn free_blocks(&self) -> FreeBlocks {
        FreeBlocks {
            output: self.output.available(),
            input: self.input.small.available(),
            receive: self.input.large.available(),
        }
    }

    /// Returns the size in bytes of the free blocks that were used before, in all pools.
    #[must_use]
    pub fn unused_memory(&self) -> usize {
        self.output.unused() + self.input.small.unused() + self.input.large.unused()
    }

    /// Calls `release` with the memory of the free blocks that were used before, piece by piece.
    ///
    /// The pieces may contain anything afterwards, so a program can return their pages to the operating
    /// system. From then on, the lowest blocks are leased first. The cost is that of sorting the free blocks:
    /// call it rarely, when [`unused_memory`](Self::unused_memory) is large.
    pub fn reclaim_memory(&mut self, mut release: impl FnMut(&mut [u8])) {
        for pool in [&mut self.output, &mut self.input.small, &mut self.input.large] {
            pool.reclaim(&mut release);
        }
    }

    /// Returns whether another socket can be admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.stopping && (self.open as usize) < self.config.sockets
    }

    /// Begins a turn at the time `now`, at most 12 days after the last turn. The shard's time never goes back.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.shared.now = self.now;
        self.held = false;
        debug_assert!(self.config.sockets > 16 || self.wait_queues_agree());
        self.serve_waiters();
        self.turns = self.ready.len();
    }

    /// Returns when the next turn is due if nothing happens before; `None` if nothing becomes due by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.ready.len() > 0 || self.can_serve_waiters() {
            return Some(self.now);
        }
        self.wheel.next().map(|tick| self.now.near(tick).max(self.now))
    }

    /// Returns the next socket that is due without an outside event: a timeout has passed, or its work was
    /// deferred. Call it until it returns `None`, and each time [`run`](Connection::run) the socket's
    /// [`connection`](Self::connection). A socket that becomes ready in between comes in the next turn.
    pub fn next_ready(&mut self) -> Option<Token> {
        while !self.held
            && let Some(index) = self.wheel.expired(&mut self.slots, self.now.tick())
        {
            // by the tick of the timer, since the sockets are appended in the order in which they became idle
            let idle_at = if self.idle.is_on() { self.note_idle(index, self.wheel.now()) } else { None };
            if self.expire(index) {
                return self.token(index);
            }
            if let Some(at) = idle_at {
                self.file_by(index, at);
            }
        }
        while self.turns > 0 {
            self.turns -= 1;
            let index = self.ready.pop(&mut self.slots)?;
            let slot = self.slots.get_mut(index)?;
            slot.control.flags.clear(Flags::QUEUED);
            // The socket may have ended since. Then the slot is free, or in use by another socket, to which
            // an extra turn does no harm.
            if !matches!(slot.control.state, State::Free | State::Reserved) {
                return self.token(index);
            }
        }
        None
    }

    /// Makes the shard request [`Connection::undelivered`] before it ends a socket whose peer seems to take
    /// nothing.
    ///
    /// Progress is then what the peer takes, and not only what the system takes for it. A socket is checked
    /// eight times within a timeout, and so may end up to an eighth of the timeout late.
    pub fn ask_undelivered(&mut self) {
        self.asks = true;
    }

    /// Returns whether the driver must make a call for the socket that [`next_ready`](Self::next_ready)
    /// returned last, before anything is due for it: connect again, see [`Connection::take_connect`], or else
    /// report what is [undelivered](Connection::undelivered).
    #[must_use]
    #[inline]
    pub const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// Holds back all timers until the next [`tick`](Self::tick). Call it after a wait that may have left out
    /// events: a timer must not end a socket that has made progress in time.
    pub fn hold_timers(&mut self) {
        self.held = true;
    }

    /// Returns the connection of a socket. `None` if the token is stale.
    #[inline]
    pub fn connection(&mut self, token: Token) -> Option<Connection<'_, 's, D>> {
        let index = token.index();
        if let Some(slot) = self.slots.get(index)
            && self.shared.token.at(index, slot.control.generation) == token
            && slot.control.state != State::Free
        {
            return Some(Connection::new(self, index));
        }
        self.stats.gone += 1;
        None
    }

    /// Returns the connection of the only socket of a shard with one slot, regardless of its token. `None` if there
    /// is no socket, or the shard has more slots.
    #[inline]
    pub fn only_connection(&mut self) -> Option<Connection<'_, 's, D>> {
        let open = self.slots.get(0).is_some_and(|slot| slot.control.state != State::Free);
        (open && self.config.sockets == 1).then(|| Connection::new(self, 0))
    }

    /// Returns whether the socket for which [`Action::Close`](crate::Action) was last returned must be reset: it
    /// was aborted (before or in `close`), its handler panicked, or queued bytes were lost. A driver then
    /// resets the connection if it can, since to the peer a plain close would look like the end of a complete
    /// stream.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.broke_off
    }

    /// Counts bytes that the system had taken but not delivered when a connection was closed by a
    /// [reset](Self::needs_reset).
    pub const fn lose(&mut self, bytes: usize) {
        self.stats.bytes_undelivered += bytes as u64;
    }

    /// Returns the first socket at or after index `from` that can receive a message, for iterating over all
    /// of them.
    #[must_use]
    pub fn next_open(&self, from: u32) -> Option<Token> {
        (from..self.slots.used() as u32)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.control.takes_messages()))
            .and_then(|index| self.token(index))
    }

    /// Returns the first socket in use at or after index `from`, in any state.
    #[must_use]
    pub fn next_in_use(&self, from: u32) -> Option<Token> {
        (from..self.slots.used() as u32)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.control.state != State::Free))
            .and_then(|index| self.token(index))
    }

    /// Admits an accepted socket, if there is room and the handler accepts it. `open` is pending then:
    /// [`run`](Connection::run) its connection.
    ///
    /// # Errors
    ///
    /// The reason why the socket was turned away. The caller closes the connection.
    pub fn admit<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        origin: Origin,
        peer: &Address,
    ) -> Result<Token, AdmitError> {
        let refusal = if self.stopping { Some(AdmitError::Stopping) } else { None };
        if let Some(refusal) = refusal.or((!self.has_room()).then_some(AdmitError::Full)) {
            self.stats.rejected += 1;
            return Err(refusal);
        }
        let Some(data) = handler.admit(origin, peer) else {
            self.stats.rejected += 1;
            return Err(AdmitError::Handler);
        };
        let index = self.allocate().ok_or(AdmitError::Full)?;
        let now = self.now.tick();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.data = Some(data);
            slot.control.peer = PackedAddress::pack(peer);
            slot.control.step(Transition::Accept, now);
            slot.control.seen = now;
            slot.control.pending.set(Pending::OPEN);
            slot.control.flags.set(Flags::SILENT);
        }
        self.idle.begin(index, false);
        self.stats.accepted += 1;
        self.token(index).ok_or(AdmitError::Full)
    }

    /// Counts peers that the driver turned away without calling the handler.
    pub fn count_rejected(&mut self, peers: u64) {
        self.stats.rejected += peers;
    }

    /// Counts a peer that was turned away because of the accept rate.
    pub fn count_over_rate(&mut self) {
        self.stats.rejected += 1;
        self.stats.over_rate += 1;
    }

    /// Reserves a slot, so that a connect has a token before it starts. Pass the token to
    /// [`dial`](Self::dial) or [`release_slot`](Self::release_slot). `None` if no slot is free or the shard is
    /// stopping.
    pub fn reserve(&mut self) -> Option<Token> {
        if self.shared.stopping || !self.has_room() {
            return None;
        }
        let index = self.allocate()?;
        let now = self.now.tick();
        self.slots.get_mut(index)?.control.step(Transition::Reserve, now);
        self.token(index)
    }

    /// Releases a reserved slot.
    pub fn release_slot(&mut self, token: Token) {
        let index = self.place(token);
        let now = self.now.tick();
        if self.token(index) == Some(token)
            && let Some(slot) = self.slots.get_mut(index)
            && slot.control.state == State::Reserved
        {
            slot.control.step(Transition::Release, now);
            self.free_slot(index);
        }
    }

    /// Starts a connect on a reserved slot, if the handler accepts it.
    ///
    /// The driver makes the call and reports the result by [`Connection::connected`] or [`Connection::failed`]. The
    /// connect timeout runs from now on. If the connect was cancelled in the meantime,
    /// [`Connection::is_connecting`] returns `false`, and `refused` is pending.
    ///
    /// # Errors
    ///
    /// [`AdmitError::Handler`] or [`AdmitError::Stopping`] if the connect was turned away; the slot is free again.
    /// [`AdmitError::Full`] if the token is not that of a reserved slot.
    pub fn dial<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        token: Token,
        tag: u64,
        peer: &Address,
    ) -> Result<(), AdmitError> {
        let (index, now) = (self.place(token), self.now.tick());
        let reserved = self.token(index) == Some(token)
            && self.slots.get(index).is_some_and(|slot| slot.control.state == State::Reserved);
        if !reserved {
            return Err(AdmitError::Full);
        }
        if self.shared.stopping {
            self.release_slot(token);
            return Err(AdmitError::Stopping);
        }
        let Some(data) = handler.admit(Origin::Connecting { tag }, peer) else {
            self.release_slot(token);
            self.stats.rejected += 1;
            return Err(AdmitError::Handler);
        };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.data = Some(data);
            slot.control.peer = PackedAddress::pack(peer);
            slot.control.step(Transition::Connect, now);
            // closed between `reserve` and now
            if slot.control.flags.has(Flags::CLOSING) {
                slot.control.set_close_reason(CloseReason::Local);
                slot.control.step(Transition::Close, now);
            }
        }
        self.rearm_timer(index);
        Ok(())
    }

    /// Stops admission: from now on no socket is admitted, and sockets that close cleanly report
    /// [`CloseReason::Shutdown`]. The driver then calls [`Connection::shutdown`] for every socket.
    pub fn stop(&mut self) {
        self.begin_stop();
        self.stopping = true;
    }

    /// Begins a stop. Connects are refused, but accepted sockets are still admitted until
    /// [`stop`](Self::stop). Sockets that close cleanly report [`CloseReason::Shutdown`],
    /// [`Stream::is_stopping`](crate::Stream::is_stopping) returns `true`, and a staged close waits for its
    /// peer at most [`STOP_LINGER`].
    ///
    /// A driver calls this before its last accept. Then it delivers the input that has arrived, and calls
    /// [`Connection::shutdown`] for each socket.
    pub fn begin_stop(&mut self) {
        self.shared.stopping = true;
        self.ticks.stop();
    }

    /// Makes the next socket of a shard with one slot show the token of another shard's socket, in whose place its
    /// callbacks run. Workers do this for the sockets of a poller.
    ///
    /// The index of that token is not the slot in this shard, so the socket is reached by
    /// [`only_connection`](Self::only_connection). A [`stop`](Self::stop) in effect ends.
    ///
    /// # Panics
    ///
    /// If the shard has more than one slot, or its slot is in use.
    pub fn impersonate(&mut self, token: Token) {
        assert!(
            self.config.sockets == 1,
            "impersonate() needs a shard of one slot, this one has {}",
            self.config.sockets
        );
        assert!(self.open == 0, "impersonate() while the slot is in use");
        // `Token::at` adds the generation of the slot: subtract it here
        let generation = self.slots.get(0).map_or(0, |slot| slot.control.generation);
        self.shared.token = token.at(0, generation.wrapping_neg());
        self.stopping = false;
        self.shared.stopping = false;
        self.shared.evict_after = UNKNOWN;
        self.ticks = Ticks::new(&self.config, self.windows.look());
    }

    /// Returns the slot of a token. It is the token's index, except after
    /// [`impersonate`](Self::impersonate).
    fn place(&self, token: Token) -> u32 {
        token.index().wrapping_sub(self.shared.token.index())
    }

    #[inline]
    pub(crate) fn token(&self, index: u32) -> Option<Token> {
        Some(self.shared.token.at(index, self.slots.get(index)?.control.generation))
    }

    fn allocate(&mut self) -> Option<u32> {
        let index = match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.slots.get_mut(index)?.control.timer.take_next();
                index
            }
            None => {
                let index = self.slots.used() as u32;
                let peer = PackedAddress::pack(&Address::Unix(crate::address::UnixId(0)));
                self.slots.push(Slot { control: ControlBlock::free(0, peer), data: None }).ok()?;
                index
            }
        };
        self.open += 1;
        self.idle.begin(index, true); // until it is admitted
        Some(index)
    }

    /// Frees a slot and increments its generation, so that no token of the old socket matches. If the slot is
    /// in the ready queue, it stays there, so the next socket in this slot may get one extra turn.
    pub(crate) fn free_slot(&mut self, index: u32) {
        self.wheel.cancel(&mut self.slots, index);
        self.idle.remove(index);
        if let Some(slot) = self.slots.get_mut(index) {
            debug_assert!(slot.control.chain.waiting == Waiting::None, "a free slot in a wait queue");
            let ControlBlock { generation, flags, next, peer, .. } = slot.control;
            slot.data = None;
            slot.control = ControlBlock { next, ..ControlBlock::free(generation.wrapping_add(1), peer) };
            slot.control.flags = flags.only(Flags::QUEUED);
            slot.control.timer.set_next(core::mem::replace(&mut self.free, index + 1));
        }
        self.open -= 1;
    }

    /// Puts a socket into the ready queue, unless it is there already.
    pub(crate) fn queue(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index)
            && !slot.control.flags.has(Flags::QUEUED)
        {
            slot.control.flags.set(Flags::QUEUED);
            self.ready.push(&mut self.slots, index);
        }
    }

    /// Returns the socket that makes room for another one: of those that have been [idle](Config::evict_after) for long
    /// enough, the one that became so first. `None` if there is none, timers are [held](Self::hold_timers), or the
    /// shard is stopping. Then call [`Connection::evict`], after a last receive if the driver can.
    pub fn longest_idle(&mut self) -> Option<Token> {
        if self.held || self.shared.stopping {
            return None;
        }
        while let Some(index) = self.idle.first() {
            let slot = self.slots.get(index)?;
            if slot.control.is_idle() {
                return self.token(index);
            }
            // it has a run to come, since something is due for it
            self.idle.remove(index);
        }
        None
    }
}

/// Takes a pool and its links from the front of the memory.
fn carve(memory: &mut [u8], count: usize, size: usize) -> Option<(Blocks<'_>, &mut [u8])> {
    let (blocks, rest) = memory.split_at_mut_checked(count * size)?;
    let (links, rest) = rest.split_at_mut_checked(count * LINK_BYTES)?;
    let (links, _) = links.as_chunks_mut();
    Some((Blocks::new(blocks, links, size.trailing_zeros()), rest))
}

#[cfg(test)]
mod tests;
