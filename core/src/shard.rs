//! The state machine of one poller.

#![expect(
    clippy::cast_possible_truncation,
    reason = "`Config::check` keeps every count and size within its type"
)]

use crate::address::{Address, PackedAddress};
use crate::buffer::{Blocks, InputPools, LINK_BYTES, WritableGate};
use crate::config::Config;
use crate::connection::Connection;
use crate::error::{CloseReason, Timeout};
use crate::handler::{Handler, Origin};
use crate::idle_queue::IdleQueue;
use crate::life::{State, Transition};
use crate::queue::Queue;
use crate::slot::{ControlBlock, Flags, Pending, Slot};
use crate::socket::SharedView;
use crate::stats::Stats;
use crate::storage::{NOTE_BYTES, SetupError, Slots, Storage, StorageError, WINDOW_BYTES};
use crate::time::{Instant, at_or_before, millis_ceil};
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

/// The timeouts in ticks, rounded up, plus one because `now` may be almost a tick old. 0 means disabled.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    connect: u32,
    first_byte: u32,
    idle: u32,
    write_stall: u32,
    drain: u32,
    linger: u32,
    /// The time from one check of the rate of output to the next. 0 means disabled.
    rate: u32,
}

/// The sockets that wait for blocks, in FIFO order.
#[derive(Debug)]
pub(crate) struct WaitQueues<'s> {
    links: WaitLinks<'s>,
    output: WaitQueue,
    /// The number of sockets in the output queue that have not been served since blocks were last returned or another
    /// socket ended its wait. A socket whose grant is not enough is appended again, and is not served until then.
    unserved: u32,
    /// The pool's count of returned blocks when it was last read.
    returned: u32,
    input: WaitQueue,
    large: WaitQueue,
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

    /// Returns whether a waiting socket can be served.
    fn can_serve_waiters(&self) -> bool {
        let WaitQueues { output, unserved, returned, input, large, .. } = &self.wait_queues;
        let unserved = *unserved > 0 || (!output.is_empty() && *returned != self.output.returned());
        (unserved && self.output.can_grant())
            || (!large.is_empty() && self.input.large.available() > 0)
            || (!input.is_empty() && self.input.for_waiters() > 0)
    }

    /// Returns whether the queues and the numbers of blocks set aside match what the sockets wait for.
    fn wait_queues_agree(&self) -> bool {
        let slots = || (0..self.slots.used() as u32).filter_map(|index| self.slots.get(index));
        let count = |of: &[Waiting]| {
            let there = slots().filter(|slot| of.contains(&slot.control.chain.waiting));
            there.fold((0, 0), |(count, weight), slot| {
                (count + 1, weight + slot.control.chain.waiting.weight())
            })
        };
        let (waiting, weight) = count(&[Waiting::Output, Waiting::OutputAgain]);
        let (taken, _) = count(&[Waiting::OutputTaken]);
        let (_, granted) = count(&[Waiting::Granted, Waiting::GrantedAll]);
        let (input, _) = count(&[Waiting::Input]);
        let (large, _) = count(&[Waiting::LargeInput]);
        self.output.set_aside() == (weight + granted, granted)
            && self.input.small.set_aside() == (input, 0)
            && self.input.large.set_aside() == (large, 0)
            && self.wait_queues.output.len() == waiting + taken
            && (self.wait_queues.input.len(), self.wait_queues.large.len()) == (input, large)
    }

    /// Serves the sockets that have waited longest, as far as blocks are free: grants output blocks, leases
    /// large input blocks, and lets sockets receive again. At most 64 of each kind per turn.
    fn serve_waiters(&mut self) {
        const LOOKS: usize = 64;
        let WaitQueues { output, input, large, .. } = &self.wait_queues;
        if output.is_empty() && input.is_empty() && large.is_empty() {
            return;
        }
        // blocks were returned since the last turn: every waiting socket may get one chance to use them
        if self.output.returned() != self.wait_queues.returned {
            self.wait_queues.returned = self.output.returned();
            self.wait_queues.unserved = self.wait_queues.output.len();
        }
        for _ in 0..LOOKS {
            if !self.grant_first() {
                break;
            }
        }
        for _ in 0..self.input.large.available().min(LOOKS) {
            let Some(index) = self.wait_queues.large.first() else { break };
            self.dequeue_waiter(index);
            if let Some(slot) = self.slots.get_mut(index)
                && self.input.wait_queue(&slot.control.kept) == Waiting::LargeInput
            {
                self.input.enlarge(&mut slot.control.kept);
            }
            self.queue(index);
        }
        // a socket that may receive takes no block until bytes arrive, so the count is taken once
        for _ in 0..self.input.for_waiters().min(LOOKS) {
            let Some(index) = self.wait_queues.input.first() else { break };
            self.dequeue_waiter(index);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.control.chain.waiting = Waiting::MayReceive;
            }
            self.queue(index);
        }
    }

    /// Grants a block to the first socket of the output queue, unless no grant is possible now or every waiting socket
    /// has had its chance. Returns whether the socket has left the queue.
    fn grant_first(&mut self) -> bool {
        let Some(index) = self.wait_queues.output.first() else { return false };
        let Some(unserved) = self.wait_queues.unserved.checked_sub(1) else { return false };
        let Some(slot) = self.slots.get(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = slot.control.chain.waiting;
        let alone = waiting == Waiting::OutputAgain;
        // An exclusive grant must wait until all other grants are taken. Only then can it cover all blocks
        // that a socket may hold; two sockets that need several could otherwise block each other.
        if !self.output.can_grant() || (alone && !self.output.all_taken()) {
            return false;
        }
        self.dequeue_waiter(index);
        self.wait_queues.unserved = unserved;
        // A socket that has taken a block (`OutputTaken`) needs no grant. It is still queued because its connection was
        // dropped before it left the queue.
        if waiting.waits_for_output() {
            self.grant(index, if alone { Waiting::GrantedAll } else { Waiting::Granted });
        }
        true
    }

    /// Appends a socket to the queue for what it waits for. `again` is whether it was granted a block that
    /// was not enough.
    #[cold]
    pub(crate) fn enqueue_waiter(&mut self, index: u32, waiting: Waiting, again: bool) {
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = if again && waiting == Waiting::Output { Waiting::OutputAgain } else { waiting };
        slot.control.chain.waiting = waiting;
        let (queue, pool) = if waiting.waits_for_output() {
            (&mut self.wait_queues.output, &mut self.output)
        } else if waiting == Waiting::LargeInput {
            (&mut self.wait_queues.large, &mut self.input.large)
        } else {
            (&mut self.wait_queues.input, &mut self.input.small)
        };
        let first = queue.is_empty();
        if first && waiting.waits_for_output() {
            self.wait_queues.returned = pool.returned(); // it waits for blocks returned from now on
        }
        pool.add_waiter(waiting);
        queue.push(&mut self.wait_queues.links, index);
        if !waiting.waits_for_output() {
            self.stats.input_shortages += 1;
        } else {
            self.stats.output_shortages += u64::from(!again);
            // The send may have been refused although blocks are free, because they are set aside for others; or a
            // grant was too little because of the grants of others. Then the queue must be served without waiting for a
            // returned block. An exclusive grant that is too little finds all others taken, so this comes to an end.
            if !self.output.all_taken() || (!first && !again) {
                self.wait_queues.unserved = self.wait_queues.output.len();
            }
        }
    }

    /// Grants output blocks to a socket that holds none and is in no queue. `writable` becomes pending, and
    /// the blocks are set aside until it is delivered.
    #[cold]
    pub(crate) fn grant(&mut self, index: u32, granted: Waiting) {
        if let Some(slot) = self.slots.get_mut(index) {
            let control = &mut slot.control;
            (control.chain.armed, control.chain.waiting) = (false, granted);
            control.chain.set_hold(WritableGate::None);
            control.pending.set(Pending::WRITABLE);
            self.output.add_waiter(granted);
            self.queue(index);
        }
    }

    /// Ends the wait of a socket for a block. If it waited for output, every other socket that waits for output gets
    /// one chance: what was set aside for this socket may be enough for it, although no block was returned.
    #[cold]
    pub(crate) fn end_wait(&mut self, index: u32) {
        let waiting = self.slots.get(index).map_or(Waiting::None, |slot| slot.control.chain.waiting);
        self.dequeue_waiter(index);
        if !matches!(waiting, Waiting::None | Waiting::MayReceive | Waiting::Input | Waiting::LargeInput) {
            self.wait_queues.unserved = self.wait_queues.output.len();
        }
    }

    /// Removes a socket from its wait queue, if it is in one, and releases what it was granted.
    #[cold]
    pub(crate) fn dequeue_waiter(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { unreachable!("a socket that waits has a slot") };
        let waiting = core::mem::take(&mut slot.control.chain.waiting);
        let WaitQueues { links, output, unserved, input, large, .. } = &mut self.wait_queues;
        match waiting {
            Waiting::None | Waiting::MayReceive | Waiting::GrantTaken => {}
            Waiting::Granted | Waiting::GrantedAll => self.output.remove_waiter(waiting),
            Waiting::Output | Waiting::OutputAgain | Waiting::OutputTaken => {
                output.remove(links, index);
                *unserved = (*unserved).min(output.len());
                if waiting != Waiting::OutputTaken {
                    self.output.remove_waiter(waiting);
                }
            }
            Waiting::Input => {
                input.remove(links, index);
                self.input.small.remove_waiter(waiting);
            }
            Waiting::LargeInput => {
                large.remove(links, index);
                self.input.large.remove_waiter(waiting);
            }
        }
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

    /// Files the socket's timer if it is now due earlier than it is filed for. If it is due later, the timer
    /// is left, and refiled when it fires: progress thus costs nothing.
    pub(crate) fn rearm_timer(&mut self, index: u32) {
        let now = self.now.tick();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.control.flags.clear(Flags::TIMES);
        let idle_at = if self.idle.is_on() { self.note_idle(index, now) } else { None };
        let Some(slot) = self.slots.get_mut(index) else { return };
        let (filed, lingers) = (slot.control.timer.due(), slot.control.state == State::Lingering);
        let due = self.ticks.due(&slot.control);
        let looks = (self.asks && due.is_some()) || (self.windows.is_on() && !lingers);
        let look = self.ticks.look(&slot.control).filter(|_| looks);
        let look_at = look.map(|span| now.wrapping_add(span));
        let Some(at) = soonest(soonest(due.map(|(due, _)| due), look_at), idle_at) else { return };
        if lingers {
            self.note(index, 0); // the earlier checks were in another state
        }
        if filed.is_some_and(|filed| at_or_before(filed, at)) {
            return;
        }
        // A timeout that has already passed puts the socket into the ready queue, for the next turn: from the
        // wheel it could expire again and again within this turn.
        let asks = |whose: TimerKind| match whose {
            TimerKind::Connect => true,
            // a peer that takes output puts these off: the driver is first asked how much it has taken
            TimerKind::Linger | TimerKind::Engine(Timeout::WriteStall | Timeout::Drain | Timeout::Idle) => {
                self.asks && look.is_some()
            }
            TimerKind::Handler
            | TimerKind::Engine(Timeout::Connect | Timeout::FirstByte | Timeout::WriteRate) => false,
        };
        if due.is_some_and(|(due, whose)| at_or_before(due, now) && !asks(whose)) {
            self.expire_unasked(index);
            self.queue(index);
        } else {
            self.wheel.set(&mut self.slots, index, at);
        }
    }

    /// Files the timer of a socket for this tick, unless it is filed for an earlier one.
    fn file_by(&mut self, index: u32, at: u32) {
        let filed = self.slots.get(index).and_then(|slot| slot.control.timer.due());
        if filed.is_none_or(|filed| !at_or_before(filed, at)) {
            self.wheel.set(&mut self.slots, index, at);
        }
    }

    /// Appends a socket to the idle queue if it had been idle for long enough at the tick `now`, and removes it if it
    /// had not. Returns when it will have been, if nothing happens before.
    #[cold]
    fn note_idle(&mut self, index: u32, now: u32) -> Option<u32> {
        if self.idle.is_exempt(index) {
            return None;
        }
        let control = &mut self.slots.get_mut(index)?.control;
        let at = control.is_idle().then(|| self.idle.due(control.seen));
        let later = at.filter(|at| !at_or_before(*at, now));
        if at.is_some() && later.is_none() {
            self.idle.insert(index);
        } else {
            self.idle.remove(index);
        }
        // in the queue or busy: its next run checks again
        if later.is_none() && control.state.is_live() {
            control.flags.set(Flags::TIMES);
        }
        later
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

    /// Clears the request for a call of the driver, if it is for this socket. Returns whether it was.
    pub(crate) fn take_asked(&mut self, index: u32) -> bool {
        self.asked.take_if(|asked| *asked == index).is_some()
    }

    /// Records the undelivered bytes of a socket, plus one; 0 if they are not known.
    pub(crate) fn note(&mut self, index: u32, left: u32) {
        if let Some(noted) = self.noted.get_mut(index as usize).filter(|_| self.asks) {
            *noted = left.to_ne_bytes();
        }
    }

    /// Checks a socket whose peer seems to take nothing, or takes it slowly, given its undelivered bytes. If they are
    /// fewer than at the last check, the peer has made progress, and its timeout starts again. Returns whether
    /// something is due.
    #[cold]
    pub(crate) fn look(&mut self, index: u32, undelivered: Option<usize>) -> bool {
        self.take_asked(index);
        let now = self.now.tick();
        let before = self.noted.get(index as usize).map_or(0, |noted| u32::from_ne_bytes(*noted));
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let control = &mut slot.control;
        let (due, lingers) = (self.ticks.due_at(control), control.state == State::Lingering);
        let is_due = due.is_some_and(|due| at_or_before(due, now));
        // a lingering socket is checked only when its timeout has passed
        let Some(span) = self.ticks.look(control).filter(|_| is_due || !lingers) else {
            return self.expire_unasked(index);
        };
        // of a lingering socket, the end of the stream may count as one undelivered byte
        let waits = !lingers || undelivered.is_some_and(|bytes| bytes > 1);
        if waits && self.windows.is_too_slow(control, index, undelivered.unwrap_or(0), now) {
            if !lingers {
                control.set_close_reason(CloseReason::TimedOut(Timeout::WriteRate));
            }
            return control.step(Transition::Expire, now);
        }
        let rated = self.windows.is_on().then_some(now.wrapping_add(span));
        let Some(undelivered) = undelivered else {
            let expires = self.expire_unasked(index);
            if let Some(at) = soonest(due, rated).filter(|_| !is_due && rated.is_some()) {
                self.wheel.set(&mut self.slots, index, at);
            }
            return expires;
        };
        let left = u32::try_from(undelivered).unwrap_or(u32::MAX).saturating_add(1);
        // without an earlier check, the peer may have taken something since the stall began
        let takes = before == 0 || left < before;
        // The end of the stream may count as one undelivered byte. The peer could not respond to it before
        // everything else was delivered, so the linger timeout restarts when a check first finds that.
        let delivered = left <= 2;
        let progress = if lingers && delivered { before > 2 } else { takes };
        if progress {
            control.progressed(now, self.shared.first_byte);
        }
        let until = if lingers && !delivered {
            Some(control.seen.wrapping_add(self.ticks.drain.max(self.ticks.linger)))
        } else {
            self.ticks.due_at(control)
        };
        self.note(index, left);
        match until {
            Some(until) if at_or_before(until, now) => return self.expire_unasked(index),
            None if rated.is_none() => return false,
            Some(_) | None => {}
        }
        if let Some(at) = soonest(until, Some(now.wrapping_add(span))) {
            self.wheel.set(&mut self.slots, index, at);
        }
        false
    }

    /// Handles a timer that has fired. Returns whether the socket is due for a turn or a check; otherwise its
    /// timer may be filed again for later.
    fn expire(&mut self, index: u32) -> bool {
        let (now, rated) = (self.now.tick(), self.windows.is_on());
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let control = &mut slot.control;
        let lingers = control.state == State::Lingering;
        if control.chain.is_empty() && !lingers {
            control.flags.clear(Flags::RATED);
        }
        let due = self.ticks.due_at(control);
        let in_time =
            if lingers { due.is_some_and(|due| at_or_before(due, now)) } else { due.is_some() || rated };
        let looks = in_time && self.ticks.look(control).is_some();
        if looks && self.asks {
            self.asked = Some(index);
            return true;
        }
        if looks && rated && !lingers { self.look(index, None) } else { self.expire_unasked(index) }
    }

    fn expire_unasked(&mut self, index: u32) -> bool {
        let now = self.now.tick();
        let Some(slot) = self.slots.get_mut(index) else { return false };
        match self.ticks.due(&slot.control) {
            None => return false,
            Some((due, _)) if !at_or_before(due, now) => {
                self.wheel.set(&mut self.slots, index, due);
                return false;
            }
            Some((_, TimerKind::Handler)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.pending.set(Pending::TIMEOUT);
                slot.control.flags.set(Flags::TIMES);
            }
            // the handler's deadline was earlier: `timeout` is delivered first, then this is checked again
            Some(_) if slot.control.pending.has(Pending::TIMEOUT) => {
                slot.control.flags.set(Flags::TIMES);
                return false;
            }
            Some((_, TimerKind::Engine(which))) => {
                slot.control.set_close_reason(CloseReason::TimedOut(which));
                slot.control.step(Transition::Expire, now);
            }
            // a staged close has waited long enough; its reason does not change
            Some((_, TimerKind::Linger)) => {
                slot.control.step(Transition::Expire, now);
            }
            Some((_, TimerKind::Connect)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.flags.set(Flags::TIMES);
                self.asked = Some(index);
            }
        }
        true
    }
}

/// The kind of a deadline.
#[derive(Clone, Copy, Debug)]
enum TimerKind {
    Handler,
    Engine(Timeout),
    Linger,
    /// The time of the next connect attempt.
    Connect,
}

/// The number of checks within the timeout of a socket whose peer takes nothing.
const LOOKS: u32 = 8;

impl Ticks {
    fn new(config: &Config, look: u32) -> Self {
        let ticks = |span: Option<Duration>| span.map_or(0, |span| millis_ceil(span) as u32 + 1);
        let timeouts = &config.timeouts;
        Self {
            connect: ticks(timeouts.connect),
            first_byte: ticks(timeouts.first_byte),
            idle: ticks(timeouts.idle),
            write_stall: ticks(timeouts.write_stall),
            drain: ticks(timeouts.drain),
            linger: ticks(timeouts.linger),
            rate: look,
        }
    }

    /// Returns the time until the next check of a socket that ends if its peer takes nothing; `None` for
    /// other sockets.
    fn look(&self, control: &ControlBlock) -> Option<u32> {
        let stalled = control.flags.has(Flags::STALLED);
        let rated = |span: u32| match (span, self.rate) {
            (span, 0) => span,
            (0, rate) => rate,
            (span, rate) => span.min(rate),
        };
        let span = match control.state {
            State::Draining | State::PreLinger if stalled => rated(self.drain / LOOKS),
            State::Lingering => self.linger,
            State::Open | State::Finishing | State::Finished | State::PeerClosed if stalled => {
                let stall = if self.write_stall > 0 { self.write_stall } else { self.idle };
                rated(stall / LOOKS)
            }
            State::Free
            | State::Reserved
            | State::Connecting
            | State::Open
            | State::Finishing
            | State::Finished
            | State::PeerClosed
            | State::Draining
            | State::PreLinger
            | State::Closed => return None,
        };
        Some(span.max(1))
    }

    /// Limits the linger timeout to [`STOP_LINGER`], even if it was disabled.
    fn stop(&mut self) {
        let most = millis_ceil(STOP_LINGER) as u32 + 1;
        self.linger = if self.linger == 0 { most } else { self.linger.min(most) };
    }

    /// Returns the earliest tick at which something is due for the socket.
    fn due_at(&self, control: &ControlBlock) -> Option<u32> {
        self.due(control).map(|(due, _)| due)
    }

    /// Returns the earliest tick at which something is due for the socket, and what.
    fn due(&self, control: &ControlBlock) -> Option<(u32, TimerKind)> {
        let at = |from: u32, span: u32, due: TimerKind| (span > 0).then(|| (from.wrapping_add(span), due));
        let engine = |which| TimerKind::Engine(which);
        match control.state {
            State::Free | State::Reserved | State::Closed => None,
            State::Connecting => {
                // Before `open`, the handler can set no deadline: this one is the next attempt's.
                let again =
                    control.flags.has(Flags::DEADLINE).then_some((control.deadline, TimerKind::Connect));
                earliest(again, at(control.seen, self.connect, engine(Timeout::Connect)))
            }
            // from the close, or from when the peer last took output
            State::Draining | State::PreLinger => at(control.seen, self.drain, engine(Timeout::Drain)),
            State::Lingering => at(control.seen, self.linger, TimerKind::Linger),
            State::Open | State::Finishing | State::Finished | State::PeerClosed => {
                // While the first byte is awaited, `seen` is the time of opening, so a stall is measured from
                // the time noted in `kept`. Otherwise the write stall or the idle timeout runs, from `seen`.
                let quiet = if control.flags.has(Flags::SILENT) && self.first_byte > 0 {
                    let stalled = control.flags.has(Flags::STALLED);
                    let stall = at(control.kept.noted(), self.write_stall, engine(Timeout::WriteStall));
                    let first = at(control.seen, self.first_byte, engine(Timeout::FirstByte));
                    earliest(first, stall.filter(|_| stalled))
                } else if control.flags.has(Flags::STALLED) && self.write_stall > 0 {
                    at(control.seen, self.write_stall, engine(Timeout::WriteStall))
                } else if control.flags.has(Flags::ACTIVE) && !control.flags.has(Flags::STALLED) {
                    // an active socket is exempt from the idle timeout, unless its peer takes nothing
                    None
                } else {
                    at(control.seen, self.idle, engine(Timeout::Idle))
                };
                let own =
                    control.flags.has(Flags::DEADLINE).then_some((control.deadline, TimerKind::Handler));
                earliest(own, quiet)
            }
        }
    }
}

/// Returns the earlier of two ticks.
fn soonest(a: Option<u32>, b: Option<u32>) -> Option<u32> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if at_or_before(a, b) { a } else { b }),
        (a, b) => a.or(b),
    }
}

fn earliest(a: Option<(u32, TimerKind)>, b: Option<(u32, TimerKind)>) -> Option<(u32, TimerKind)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if at_or_before(a.0, b.0) { a } else { b }),
        (a, b) => a.or(b),
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
mod tests {
    use super::*;
    use crate::{
        Action, Address, Context, Event, Interest, ListenerId, NoOutbox, PollerId, Socket, Timeouts, UnixId,
    };
    use core::mem::MaybeUninit;

    struct Nothing;

    impl Handler for Nothing {
        type Data = ();
        type Message = ();

        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            Some(())
        }

        fn event(&mut self, _: &mut Socket<'_, ()>, _: Event<()>, _: &mut Context<'_, ()>) {}
    }

    const TURNS: u64 = 2_000;

    /// Returns how many slots are accessed in `TURNS` turns with `idle` idle sockets and one that receives.
    /// Each turn also calls `also`.
    fn looks_of_turns(idle: usize, also: impl Fn(&Shard<'_, ()>)) -> usize {
        const CONFIG: Config = Config {
            sockets: 41,
            block_size: 64,
            input_blocks: 1,
            output_blocks: 1,
            output_limit: 1,
            receive_size: 64,
            receive_blocks: 0,
            timeouts: Timeouts::DEFAULT,
            ..Config::DEVICE
        };
        let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
        let mut memory = [0; CONFIG.memory()];
        let storage = Storage { slots: &mut slots, memory: &mut memory };
        let mut shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).unwrap();
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut outbox);
        let origin = Origin::Accepted { listener: ListenerId(0) };
        let mut open = |shard: &mut Shard<'_, ()>| {
            let token = shard.admit(&mut Nothing, origin, &Address::Unix(UnixId(7))).unwrap();
            let next = shard.connection(token).unwrap().run(&mut Nothing, &mut cx);
            assert_eq!(next, Action::Wait(Interest::READ));
            token
        };
        for _ in 0..idle {
            open(&mut shard);
        }
        let token = open(&mut shard);
        let before = shard.slots.looks();
        for now in 1..=TURNS {
            shard.tick(Instant::from_millis(now));
            assert_eq!(shard.next_ready(), None);
            assert!(shard.next_deadline().is_some());
            let mut conn = shard.connection(token).unwrap();
            conn.received(&mut []);
            assert_eq!(conn.run(&mut Nothing, &mut cx), Action::Wait(Interest::READ));
            also(&shard);
        }
        shard.slots.looks() - before
    }

    #[test]
    fn a_turn_does_not_walk_the_sockets() {
        let (few, many) = (looks_of_turns(2, |_| {}), looks_of_turns(40, |_| {}));
        assert_eq!(few, many, "slot accesses with 2 idle sockets, and with 40");
    }

    /// A walk over all sockets shows in the count: each turn accesses every idle socket once more.
    #[test]
    fn a_walk_over_the_sockets_is_counted() {
        let walk = |shard: &Shard<'_, ()>| {
            for from in 0..shard.slots.used() {
                assert!(shard.next_in_use(from as u32).is_some());
            }
        };
        let (few, many) = (looks_of_turns(2, walk), looks_of_turns(40, walk));
        assert!(many - few >= 38 * TURNS as usize, "{few} slot accesses with 2 idle sockets, {many} with 40");
    }
}
