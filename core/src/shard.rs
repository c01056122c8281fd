//! The state machine of one poller.

#![expect(
    clippy::cast_possible_truncation,
    reason = "`Config::check` keeps every count and size within its type"
)]

use crate::address::{Address, Packed};
use crate::buffer::{Blocks, Hold, InputPools, LINK_BYTES};
use crate::config::Config;
use crate::error::CloseReason;
use crate::handler::{Handler, Origin};
use crate::life::{State, Step};
use crate::port::Port;
use crate::queue::Queue;
use crate::slot::{Control, Flags, Pending, Slot};
use crate::socket::Shared;
use crate::stats::Stats;
use crate::storage::{NOTE_BYTES, SetupError, Slots, Storage, StorageError};
use crate::time::{Instant, at_or_before, millis_ceil};
use crate::timer::{Link, Links, Wheel};
use crate::token::Token;
use crate::wait_queue::{WAIT_LINK_BYTES, WaitLinks, WaitQueue, Waiting};
use core::fmt;
use core::time::Duration;

/// The longest that a staged close waits for its peer once a stop has begun, whatever
/// [`Timeouts`](crate::Timeouts) say: longer than most round trips, since what is waited for are bytes that were on
/// their way when the peer was told.
pub const STOP_LINGER: Duration = Duration::from_millis(500);

/// The state machine of one poller: socket table, buffers, deadlines. Inputs go in, orders come
/// out; it makes no system call, reads no clock and allocates nothing.
///
/// A driver (or a program without one) calls
/// - [`tick`](Self::tick) once a turn, with the time;
/// - [`admit`](Self::admit), [`dial`](Self::dial) for new sockets;
/// - [`port`](Self::port) with a token, to tell what happened to that socket and to be told what to
///   do [`Next`](crate::Next);
/// - [`next_ready`](Self::next_ready) until it is empty, for sockets that want a turn without
///   anything having happened outside: timeouts, freed blocks;
/// - [`next_deadline`](Self::next_deadline) to know how long it may sleep.
pub struct Shard<'s, D> {
    pub(crate) slots: Slots<'s, D>,
    pub(crate) output: Blocks<'s>,
    pub(crate) input: InputPools<'s>,
    wheel: Wheel,
    pub(crate) now: Instant,
    /// The template of what views show.
    pub(crate) shared: Shared,
    pub(crate) config: Config,
    ticks: Ticks,
    /// One more than the index of the first free slot.
    free: u32,
    pub(crate) ready: Queue,
    pub(crate) wait_queues: WaitQueues<'s>,
    /// How many of the ready may still run in this turn.
    turns: u32,
    open: u32,
    stopping: bool,
    /// What [`breaks_off`](Self::breaks_off) tells.
    pub(crate) broke_off: bool,
    pub(crate) stats: Stats,
    /// One more than what was undelivered of each stalled socket at the last look, by place; 0: there was no look. Kept
    /// apart from the slots, since idle sockets have no use for it.
    noted: &'s mut [[u8; NOTE_BYTES]],
    /// Whether the driver tells what is undelivered.
    asks: bool,
    /// The socket of which the driver is to say something now.
    asked: Option<u32>,
    /// No timer fires in this turn.
    held: bool,
}

/// The timeouts in ticks, rounded up and one more, as `now` may be almost a tick old; 0: off.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    connect: u32,
    first_byte: u32,
    idle: u32,
    write_stall: u32,
    drain: u32,
    linger: u32,
}

/// The sockets that wait for blocks, in the order in which they began to wait.
#[derive(Debug)]
pub(crate) struct WaitQueues<'s> {
    links: WaitLinks<'s>,
    output: WaitQueue,
    /// How many sockets of the output queue have not been served since blocks were last given back. One that finds its
    /// grant too little is appended again, and not served before more blocks are given back.
    unserved: u32,
    /// The pool's count of returned blocks when that was last looked at.
    returned: u32,
    input: WaitQueue,
    large: WaitQueue,
}

/// How many blocks of each pool nobody holds, by [`Shard::free_blocks`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeBlocks {
    /// Of [`Config::output_blocks`].
    pub output: usize,
    /// Of [`Config::input_blocks`].
    pub input: usize,
    /// Of [`Config::receive_blocks`].
    pub receive: usize,
}

/// Why a socket was not admitted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// All slots are in use; the handler was not asked.
    Full,
    /// The handler turned the peer away.
    Handler,
    /// The shard is stopping; the handler was not asked.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "all sockets are in use",
            Self::Handler => "the handler turned the peer away",
            Self::Stopping => "the engine is stopping",
        })
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Refusal {}

impl<D> Links for Slots<'_, D> {
    #[expect(clippy::expect_used, reason = "the wheel holds only slots in use: `recycle` takes them out")]
    fn link(&mut self, index: u32) -> &mut Link {
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
    /// Builds a shard in the memory lent to it, at this time. No more of it is touched than is used.
    ///
    /// # Errors
    ///
    /// When a setting is out of its range, or the storage is too short for the configuration.
    pub fn new(storage: Storage<'s, D>, config: &Config, now: Instant) -> Result<Self, SetupError> {
        config.check()?;
        let Storage { slots, memory } = storage;
        StorageError::check("Storage::slots", slots.len(), config.sockets)?;
        StorageError::check("Storage::memory", memory.len(), config.memory())?;
        let too_small =
            StorageError { part: "Storage::memory", length: memory.len(), needed: config.memory() };
        let slots = slots.get_mut(..config.sockets).unwrap_or_default();
        let (output, rest) = carve(memory, config.output_blocks, config.block_size).ok_or(too_small)?;
        let (small, rest) = carve(rest, config.input_blocks, config.block_size).ok_or(too_small)?;
        let large_size = if config.receive_blocks > 0 { config.receive_size } else { 64 };
        let (large, rest) = carve(rest, config.receive_blocks, large_size).ok_or(too_small)?;
        let (noted, rest) = rest.split_at_mut_checked(config.sockets * NOTE_BYTES).ok_or(too_small)?;
        let (noted, _) = noted.as_chunks_mut();
        let (links, _) = rest.split_at_mut_checked(config.sockets * WAIT_LINK_BYTES).ok_or(too_small)?;
        let (links, _) = links.as_chunks_mut();
        let output = output.share_out(config.output_reserve() as u32, config.output_share());
        Ok(Self {
            slots: Slots::new(slots),
            output,
            input: InputPools { small, large },
            wheel: Wheel::new(now.tick()),
            now,
            shared: Shared {
                now,
                token: Token::new(config.poller, 0, config.salt),
                capacity: if config.receive_blocks > 0 { config.receive_size } else { config.block_size }
                    as u32,
                output_limit: config.output_limit.min(config.output_blocks) as u16,
                first_byte: config.timeouts.first_byte.is_some(),
                write_stall: config.timeouts.write_stall.is_some(),
                stopping: false,
            },
            config: Config { output_limit: config.output_limit.min(config.output_blocks), ..*config },
            ticks: Ticks::new(config),
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
            asks: false,
            asked: None,
            held: false,
        })
    }

    /// The configuration it was built with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What has happened so far.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns the time of this turn.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How many slots are in use: open, connecting, closing and reserved.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.open as usize
    }

    /// How many blocks are free. Without sockets, all are.
    #[must_use]
    pub fn free_blocks(&self) -> FreeBlocks {
        FreeBlocks {
            output: self.output.available(),
            input: self.input.small.available(),
            receive: self.input.large.available(),
        }
    }

    /// Returns the bytes of free blocks that were in use before, over all pools.
    #[must_use]
    pub fn unused_memory(&self) -> usize {
        self.output.unused() + self.input.small.unused() + self.input.large.unused()
    }

    /// Calls `release` with the memory of free blocks that were in use before, piece by piece. The pieces may hold
    /// anything afterwards, so that a program can give their pages back to its operating system. The lowest blocks are
    /// leased first from then on. The cost is that of sorting the free blocks: call it seldom, when
    /// [`unused_memory`](Self::unused_memory) is large.
    pub fn reclaim_memory(&mut self, mut release: impl FnMut(&mut [u8])) {
        for pool in [&mut self.output, &mut self.input.small, &mut self.input.large] {
            pool.reclaim(&mut release);
        }
    }

    /// Whether another socket could be admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.stopping && (self.open as usize) < self.config.sockets
    }

    /// Begins a turn at this time, at most 12 days after the last. Time that stands still or goes
    /// back changes nothing.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.shared.now = self.now;
        self.held = false;
        debug_assert!(self.config.sockets > 16 || self.wait_queues_agree());
        self.serve_waiters();
        self.turns = self.ready.len();
    }

    /// When the driver must come back at the latest, even if nothing happens outside. `None`: never.
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

    /// Returns whether the queues and what is set aside agree with what the sockets wait for.
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

    /// Serves the sockets that have waited longest, with as many blocks as are free: grants output blocks, leases large
    /// input blocks, and lets sockets receive again. At most 64 of each kind in a turn.
    fn serve_waiters(&mut self) {
        const LOOKS: usize = 64;
        let WaitQueues { output, input, large, .. } = &self.wait_queues;
        if output.is_empty() && input.is_empty() && large.is_empty() {
            return;
        }
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
        // a socket that may receive takes no block before bytes come
        for _ in 0..self.input.for_waiters().min(LOOKS) {
            let Some(index) = self.wait_queues.input.first() else { break };
            self.dequeue_waiter(index);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.control.chain.waiting = Waiting::MayReceive;
            }
            self.queue(index);
        }
    }

    /// Grants a block to the first socket of the output queue, unless it was served already. Returns whether it did.
    fn grant_first(&mut self) -> bool {
        let Some(index) = self.wait_queues.output.first() else { return false };
        let Some(unserved) = self.wait_queues.unserved.checked_sub(1) else { return false };
        let waiting = self.slots.get(index).map_or(Waiting::None, |slot| slot.control.chain.waiting);
        let alone = waiting == Waiting::OutputAgain;
        if !self.output.can_grant() || (alone && !self.output.all_taken()) {
            return false; // an exclusive grant has a turn of its own
        }
        self.dequeue_waiter(index);
        self.wait_queues.unserved = unserved;
        // a socket whose port was dropped after it had taken a block does not wait any more
        if waiting.waits_for_output() {
            self.grant(index, if alone { Waiting::GrantedAll } else { Waiting::Granted });
        }
        true
    }

    /// Appends a socket to the queue for what it waits for. `again`: the block that it was granted was too little.
    #[cold]
    pub(crate) fn enqueue_waiter(&mut self, index: u32, waiting: Waiting, again: bool) {
        let Some(slot) = self.slots.get_mut(index) else { return };
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
            self.wait_queues.returned = pool.returned(); // so much it has seen
        }
        pool.add_waiter(waiting);
        queue.push(&mut self.wait_queues.links, index);
        if !waiting.waits_for_output() {
            self.stats.input_shortages += 1;
        } else if !again {
            self.stats.output_shortages += 1;
            // what it was refused may have been set aside for others
            if !first || !self.output.all_taken() {
                self.wait_queues.unserved = self.wait_queues.output.len();
            }
        }
    }

    /// Grants output blocks to a socket that holds none and is in no queue: `writable` is due, and they are set aside
    /// until that event was delivered.
    #[cold]
    pub(crate) fn grant(&mut self, index: u32, granted: Waiting) {
        if let Some(slot) = self.slots.get_mut(index) {
            let control = &mut slot.control;
            (control.chain.armed, control.chain.waiting) = (false, granted);
            control.chain.set_hold(Hold::None);
            control.pending.set(Pending::WRITABLE);
            self.output.add_waiter(granted);
            self.queue(index);
        }
    }

    /// Removes a socket from the queue that it is in, if any, and gives up what it was granted.
    #[cold]
    pub(crate) fn dequeue_waiter(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
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

    /// The next socket that wants a turn by itself: a timeout has passed, or it was put off. Call it
    /// until `None`, each time with [`port`](Self::port) and its `run`; who becomes ready in between
    /// comes in the next turn.
    pub fn next_ready(&mut self) -> Option<Token> {
        while !self.held
            && let Some(index) = self.wheel.expired(&mut self.slots, self.now.tick())
        {
            if self.expire(index) {
                return self.token(index);
            }
        }
        while self.turns > 0 {
            self.turns -= 1;
            let index = self.ready.pop(&mut self.slots)?;
            let slot = self.slots.get_mut(index)?;
            slot.control.flags.clear(Flags::QUEUED);
            // its socket may have ended since: then the place is free, or another's who loses nothing
            if !matches!(slot.control.state, State::Free | State::Reserved) {
                return self.token(index);
            }
        }
        None
    }

    /// From now on the driver is asked for [`Port::undelivered`] before a socket ends because its peer seems to take
    /// nothing. Progress is then what the peer takes, and not only what the system takes for it.
    ///
    /// Sockets are looked at eight times in a span, so that what ends them may come later by an eighth of it.
    pub fn ask_undelivered(&mut self) {
        self.asks = true;
    }

    /// Whether the socket that [`next_ready`](Self::next_ready) returned last has nothing due, but something to be
    /// asked first: to connect again, by [`Port::take_connect`], or else what is [undelivered](Port::undelivered).
    #[must_use]
    #[inline]
    pub const fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// No timer fires before the next [`tick`](Self::tick): for a turn whose wait may have left out sockets that have
    /// done in time what their timers are for.
    pub fn hold_timers(&mut self) {
        self.held = true;
    }

    /// The socket of a token, to tell what happened to it. `None`: it has gone.
    #[inline]
    pub fn port(&mut self, token: Token) -> Option<Port<'_, 's, D>> {
        let index = token.index();
        if let Some(slot) = self.slots.get(index)
            && self.shared.token.at(index, slot.control.generation) == token
            && slot.control.state != State::Free
        {
            return Some(Port::new(self, index));
        }
        self.stats.gone += 1;
        None
    }

    /// The socket of a shard of one, by whatever token it shows. `None`: there is none.
    #[inline]
    pub fn only_port(&mut self) -> Option<Port<'_, 's, D>> {
        let open = self.slots.get(0).is_some_and(|slot| slot.control.state != State::Free);
        (open && self.config.sockets == 1).then(|| Port::new(self, 0))
    }

    /// Whether the socket for which [`Next::Close`](crate::Next) was last given breaks off: it was aborted, also in its
    /// `close`, its handler panicked, or queued bytes are lost. A driver then resets the connection if it can, since to
    /// the peer a plain close would look like the end of all that there was to say.
    #[must_use]
    pub fn breaks_off(&self) -> bool {
        self.broke_off
    }

    /// Counts bytes that the system had taken and not delivered when a socket that [breaks off](Self::breaks_off) was
    /// closed.
    pub const fn lose(&mut self, bytes: usize) {
        self.stats.bytes_undelivered += bytes as u64;
    }

    /// The first socket at or behind place `from` that can take a message, to go through all of them.
    #[must_use]
    pub fn next_open(&self, from: u32) -> Option<Token> {
        (from..self.slots.used() as u32)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.control.takes_messages()))
            .and_then(|index| self.token(index))
    }

    /// The first socket in use at or behind place `from`, whatever its state.
    #[must_use]
    pub fn next_in_use(&self, from: u32) -> Option<Token> {
        (from..self.slots.used() as u32)
            .find(|index| self.slots.get(*index).is_some_and(|slot| slot.control.state != State::Free))
            .and_then(|index| self.token(index))
    }

    /// Admits an accepted socket, if there is room and the handler wants it. `open` is due then:
    /// call the port's `run`.
    ///
    /// # Errors
    ///
    /// When it is turned away; the caller closes it.
    pub fn admit<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        origin: Origin,
        peer: &Address,
    ) -> Result<Token, Refusal> {
        let refusal = if self.stopping { Some(Refusal::Stopping) } else { None };
        if let Some(refusal) = refusal.or((!self.has_room()).then_some(Refusal::Full)) {
            self.stats.turned_away += 1;
            return Err(refusal);
        }
        let Some(data) = handler.admit(origin, peer) else {
            self.stats.turned_away += 1;
            return Err(Refusal::Handler);
        };
        let index = self.allocate().ok_or(Refusal::Full)?;
        let now = self.now.tick();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.data = Some(data);
            slot.control.peer = Packed::pack(peer);
            slot.control.step(Step::Accept, now);
            slot.control.seen = now;
            slot.control.pending.set(Pending::OPEN);
            slot.control.flags.set(Flags::SILENT);
        }
        self.stats.accepted += 1;
        self.token(index).ok_or(Refusal::Full)
    }

    /// Counts peers that the driver turned away without asking the handler.
    pub fn turn_away(&mut self, peers: u64) {
        self.stats.turned_away += peers;
    }

    /// Sets a slot aside, so that a connect can be given its token before it begins: then
    /// [`dial`](Self::dial) or [`give_back`](Self::give_back).
    pub fn reserve(&mut self) -> Option<Token> {
        if self.shared.stopping || !self.has_room() {
            return None;
        }
        let index = self.allocate()?;
        let now = self.now.tick();
        self.slots.get_mut(index)?.control.step(Step::Reserve, now);
        self.token(index)
    }

    /// Gives a reserved slot back.
    pub fn give_back(&mut self, token: Token) {
        let index = self.place(token);
        let now = self.now.tick();
        if self.token(index) == Some(token)
            && let Some(slot) = self.slots.get_mut(index)
            && slot.control.state == State::Reserved
        {
            slot.control.step(Step::Release, now);
            self.retire(index);
        }
    }

    /// Begins to connect on a reserved slot, if the handler wants it. The driver makes the call and
    /// tells its outcome by the port's `connected` or `failed`; the connect timeout runs. A connect
    /// that was called off meanwhile [is none](Port::is_connecting): `refused` is due.
    ///
    /// # Errors
    ///
    /// When the handler turned it away or the token is not a reserved one; the slot is free again.
    pub fn dial<H: Handler<Data = D>>(
        &mut self,
        handler: &mut H,
        token: Token,
        tag: u64,
        peer: &Address,
    ) -> Result<(), Refusal> {
        let (index, now) = (self.place(token), self.now.tick());
        let reserved = self.token(index) == Some(token)
            && self.slots.get(index).is_some_and(|slot| slot.control.state == State::Reserved);
        if !reserved {
            return Err(Refusal::Full);
        }
        if self.shared.stopping {
            self.give_back(token);
            return Err(Refusal::Stopping);
        }
        let Some(data) = handler.admit(Origin::Connecting { tag }, peer) else {
            self.give_back(token);
            self.stats.turned_away += 1;
            return Err(Refusal::Handler);
        };
        if let Some(slot) = self.slots.get_mut(index) {
            slot.data = Some(data);
            slot.control.peer = Packed::pack(peer);
            slot.control.step(Step::Dial, now);
            if slot.control.flags.has(Flags::CLOSING) {
                slot.control.because(CloseReason::Local);
                slot.control.step(Step::Close, now);
            }
        }
        self.refile(index);
        Ok(())
    }

    /// From now on nothing is admitted, and sockets that close in order say
    /// [`CloseReason::Shutdown`]. The driver then tells every socket by its port's `shutdown`.
    pub fn stop(&mut self) {
        self.begin_stop();
        self.stopping = true;
    }

    /// Begins a stop: connects are refused, but accepted sockets are still admitted until [`stop`](Self::stop). Sockets
    /// that close in order say [`CloseReason::Shutdown`], [`Stream::is_stopping`](crate::Stream::is_stopping) returns
    /// `true`, and a staged close waits for its peer [`STOP_LINGER`] at most.
    ///
    /// A driver calls it before its last accept, delivers what has come, then calls each port's `shutdown`.
    pub fn begin_stop(&mut self) {
        self.shared.stopping = true;
        self.ticks.stop();
    }

    pub(crate) fn local_reason(&self) -> CloseReason {
        if self.shared.stopping { CloseReason::Shutdown } else { CloseReason::Local }
    }

    /// Makes the next socket of a shard of one show the token of a socket of another shard, for which it stands in: so
    /// do workers, who run the callbacks of a poller's socket elsewhere. That token says nothing of the place in this
    /// table: the socket is reached by [`only_port`](Self::only_port). A [`stop`](Self::stop) is over with the socket
    /// before.
    ///
    /// # Panics
    ///
    /// When the shard is made for more than one socket, or has one already.
    pub fn stand_in_for(&mut self, token: Token) {
        assert!(
            self.config.sockets == 1,
            "a shard of {} sockets can't stand in for one",
            self.config.sockets
        );
        assert!(self.open == 0, "the socket is in use");
        let generation = self.slots.get(0).map_or(0, |slot| slot.control.generation);
        self.shared.token = token.at(0, generation.wrapping_neg());
        self.stopping = false;
        self.shared.stopping = false;
        self.ticks = Ticks::new(&self.config);
    }

    /// Where in the table a token's socket is: at its index, but for a stand-in, whose table has one place.
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
                let peer = Packed::pack(&Address::Unix(crate::address::UnixId(0)));
                self.slots.push(Slot { control: Control::free(0, peer), data: None }).ok()?;
                index
            }
        };
        self.open += 1;
        Some(index)
    }

    /// A slot has become free: its generation moves on, so that no token finds it. A queue that goes
    /// through it still does, and gives the next socket there a turn too many.
    pub(crate) fn retire(&mut self, index: u32) {
        self.wheel.cancel(&mut self.slots, index);
        if let Some(slot) = self.slots.get_mut(index) {
            debug_assert!(slot.control.chain.waiting == Waiting::None, "a free slot in a wait queue");
            let Control { generation, flags, next, peer, .. } = slot.control;
            slot.data = None;
            slot.control = Control { next, ..Control::free(generation.wrapping_add(1), peer) };
            slot.control.flags = flags.only(Flags::QUEUED);
            slot.control.timer.set_next(core::mem::replace(&mut self.free, index + 1));
        }
        self.open -= 1;
    }

    /// Gives a socket a turn by itself.
    pub(crate) fn queue(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index)
            && !slot.control.flags.has(Flags::QUEUED)
        {
            slot.control.flags.set(Flags::QUEUED);
            self.ready.push(&mut self.slots, index);
        }
    }

    /// Files a socket's timer, if it has become due earlier than it is filed for. One that has become
    /// due later is left: it is looked at again when it fires.
    pub(crate) fn refile(&mut self, index: u32) {
        let now = self.now.tick();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.control.flags.clear(Flags::TIMES);
        let (filed, lingers) = (slot.control.timer.due(), slot.control.state == State::Lingering);
        let Some((due, whose)) = self.ticks.due(&slot.control) else { return };
        let look = self.ticks.look(&slot.control).filter(|_| self.asks);
        let at = look.map_or(due, |span| earlier(due, now.wrapping_add(span)));
        if lingers {
            self.note(index, 0); // what was noted before is not of this state
        }
        if filed.is_some_and(|filed| at_or_before(filed, at)) {
            return;
        }
        // what is due already comes in the next turn, not for ever in this one
        let asks = matches!(whose, Due::Connect) || (look.is_some() && whose.is_for_the_peer_to_put_off());
        if at_or_before(due, now) && !asks {
            self.expire_unasked(index);
            self.queue(index);
        } else {
            self.wheel.set(&mut self.slots, index, at);
        }
    }

    /// Whether this socket was asked for something, which is answered now.
    pub(crate) fn take_asked(&mut self, index: u32) -> bool {
        self.asked.take_if(|asked| *asked == index).is_some()
    }

    /// Notes what is undelivered of a socket, as one more; 0: it is not known.
    pub(crate) fn note(&mut self, index: u32, left: u32) {
        if let Some(noted) = self.noted.get_mut(index as usize).filter(|_| self.asks) {
            *noted = left.to_ne_bytes();
        }
    }

    /// The driver has said what is undelivered of a socket whose peer seems to take nothing. If that has become less
    /// since the last look, the peer takes something: then its time begins anew. Returns whether something is due.
    #[cold]
    pub(crate) fn look(&mut self, index: u32, undelivered: Option<usize>) -> bool {
        self.take_asked(index);
        let now = self.now.tick();
        let before = self.noted.get(index as usize).map_or(0, |noted| u32::from_ne_bytes(*noted));
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let control = &mut slot.control;
        let Some((due, _)) = self.ticks.due(control) else { return false };
        let (Some(span), Some(undelivered)) = (self.ticks.look(control), undelivered) else {
            return self.expire_unasked(index);
        };
        let left = u32::try_from(undelivered).unwrap_or(u32::MAX).saturating_add(1);
        // before the first look it may have taken something
        let takes = before == 0 || left < before;
        let lingers = control.state == State::Lingering;
        if lingers && !at_or_before(due, now) {
            return self.expire_unasked(index);
        }
        // the end of the stream may count for a byte; before that was left alone, the peer could not see it
        let delivered = left <= 2;
        let progress = if lingers && delivered { before > 2 } else { takes };
        if progress {
            control.progressed(now, self.shared.first_byte);
        }
        let until = if lingers && !delivered {
            control.seen.wrapping_add(self.ticks.drain.max(self.ticks.linger))
        } else {
            self.ticks.due(control).map_or(now, |(due, _)| due)
        };
        self.note(index, left);
        if at_or_before(until, now) {
            return self.expire_unasked(index);
        }
        self.wheel.set(&mut self.slots, index, earlier(until, now.wrapping_add(span)));
        false
    }

    /// A timer has fired: the socket has something due, is to be looked at, or is filed again for later.
    fn expire(&mut self, index: u32) -> bool {
        let now = self.now.tick();
        if self.asks
            && let Some(slot) = self.slots.get(index)
            && self.ticks.look(&slot.control).is_some()
            && let Some((due, _)) = self.ticks.due(&slot.control)
            && (slot.control.state != State::Lingering || at_or_before(due, now))
        {
            self.asked = Some(index);
            return true;
        }
        self.expire_unasked(index)
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
            Some((_, Due::Handler)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.pending.set(Pending::TIMEOUT);
                slot.control.flags.set(Flags::TIMES);
            }
            // the handler has yet to hear of its deadline, which came first; then this is looked at again
            Some(_) if slot.control.pending.has(Pending::TIMEOUT) => {
                slot.control.flags.set(Flags::TIMES);
                return false;
            }
            Some((_, Due::Engine(which))) => {
                slot.control.because(CloseReason::TimedOut(which));
                slot.control.step(Step::Expire, now);
            }
            // a staged close has waited long enough; its reason stands
            Some((_, Due::Linger)) => {
                slot.control.step(Step::Expire, now);
            }
            Some((_, Due::Connect)) => {
                slot.control.flags.clear(Flags::DEADLINE);
                slot.control.flags.set(Flags::TIMES);
                self.asked = Some(index);
            }
        }
        true
    }
}

/// Whose deadline it is.
#[derive(Clone, Copy, Debug)]
enum Due {
    Handler,
    Engine(crate::error::Timeout),
    Linger,
    /// A connect is tried again.
    Connect,
}

impl Due {
    /// Whether it does not come if the peer takes something.
    const fn is_for_the_peer_to_put_off(self) -> bool {
        use crate::error::Timeout;
        matches!(self, Self::Linger | Self::Engine(Timeout::WriteStall | Timeout::Drain | Timeout::Idle))
    }
}

/// How often a socket whose peer takes nothing is looked at in the time that it has for that.
const LOOKS: u32 = 8;

impl Ticks {
    fn new(config: &Config) -> Self {
        let ticks = |span: Option<Duration>| span.map_or(0, |span| millis_ceil(span) as u32 + 1);
        let timeouts = &config.timeouts;
        Self {
            connect: ticks(timeouts.connect),
            first_byte: ticks(timeouts.first_byte),
            idle: ticks(timeouts.idle),
            write_stall: ticks(timeouts.write_stall),
            drain: ticks(timeouts.drain),
            linger: ticks(timeouts.linger),
        }
    }

    /// How long until the next look at a socket that ends if its peer takes nothing. `None`: it is no such socket.
    fn look(&self, control: &Control) -> Option<u32> {
        let stalled = control.flags.has(Flags::STALLED);
        let span = match control.state {
            State::Draining | State::Parting if stalled => self.drain / LOOKS,
            State::Lingering => self.linger,
            State::Open | State::Finishing | State::Finished | State::PeerClosed if stalled => {
                let stall = if self.write_stall > 0 { self.write_stall } else { self.idle };
                stall / LOOKS
            }
            State::Free
            | State::Reserved
            | State::Connecting
            | State::Open
            | State::Finishing
            | State::Finished
            | State::PeerClosed
            | State::Draining
            | State::Parting
            | State::Closed => return None,
        };
        Some(span.max(1))
    }

    /// Shortens the time of a staged close to what is left of it in a stop.
    fn stop(&mut self) {
        let most = millis_ceil(STOP_LINGER) as u32 + 1;
        self.linger = if self.linger == 0 { most } else { self.linger.min(most) };
    }

    /// The earliest tick at which something is due for the socket.
    fn due(&self, control: &Control) -> Option<(u32, Due)> {
        use crate::error::Timeout;
        let at = |from: u32, span: u32, due: Due| (span > 0).then(|| (from.wrapping_add(span), due));
        let engine = |which| Due::Engine(which);
        match control.state {
            State::Free | State::Reserved | State::Closed => None,
            State::Connecting => {
                let again = control.flags.has(Flags::DEADLINE).then_some((control.deadline, Due::Connect));
                earliest(again, at(control.seen, self.connect, engine(Timeout::Connect)))
            }
            State::Draining | State::Parting => at(control.seen, self.drain, engine(Timeout::Drain)),
            State::Lingering => at(control.seen, self.linger, Due::Linger),
            State::Open | State::Finishing | State::Finished | State::PeerClosed => {
                let quiet = if control.flags.has(Flags::SILENT) && self.first_byte > 0 {
                    let stalled = control.flags.has(Flags::STALLED);
                    let stall = at(control.kept.noted(), self.write_stall, engine(Timeout::WriteStall));
                    let first = at(control.seen, self.first_byte, engine(Timeout::FirstByte));
                    earliest(first, stall.filter(|_| stalled))
                } else if control.flags.has(Flags::STALLED) && self.write_stall > 0 {
                    at(control.seen, self.write_stall, engine(Timeout::WriteStall))
                } else if control.flags.has(Flags::ACTIVE) && !control.flags.has(Flags::STALLED) {
                    None
                } else {
                    at(control.seen, self.idle, engine(Timeout::Idle))
                };
                let own = control.flags.has(Flags::DEADLINE).then_some((control.deadline, Due::Handler));
                earliest(own, quiet)
            }
        }
    }
}

const fn earlier(a: u32, b: u32) -> u32 {
    if at_or_before(a, b) { a } else { b }
}

fn earliest(a: Option<(u32, Due)>, b: Option<(u32, Due)>) -> Option<(u32, Due)> {
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
        Address, Context, Event, Interest, ListenerId, Next, NoOutbox, PollerId, Socket, Timeouts, UnixId,
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

    /// How often turns look at slots while so many sockets are idle and one receives; in each turn, `also` is done.
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
            let next = shard.port(token).unwrap().run(&mut Nothing, &mut cx);
            assert_eq!(next, Next::Wait(Interest::READ));
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
            let mut port = shard.port(token).unwrap();
            port.received(&mut []);
            assert_eq!(port.run(&mut Nothing, &mut cx), Next::Wait(Interest::READ));
            also(&shard);
        }
        shard.slots.looks() - before
    }

    #[test]
    fn a_turn_does_not_walk_the_sockets() {
        let (few, many) = (looks_of_turns(2, |_| {}), looks_of_turns(40, |_| {}));
        assert_eq!(few, many, "looks at slots with 2 idle sockets, and with 40");
    }

    /// The count notices who walks: each turn looks at every idle socket once more.
    #[test]
    fn a_walk_over_the_sockets_is_counted() {
        let walk = |shard: &Shard<'_, ()>| {
            for from in 0..shard.slots.used() {
                assert!(shard.next_in_use(from as u32).is_some());
            }
        };
        let (few, many) = (looks_of_turns(2, walk), looks_of_turns(40, walk));
        assert!(many - few >= 38 * TURNS as usize, "{few} looks with 2 idle sockets, {many} with 40");
    }
}
