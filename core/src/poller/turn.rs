//! The event loop: what a poller does in a turn, and in which order.

use core::fmt;
use core::mem::MaybeUninit;

use heapless::Deque;

use crate::{
    Address, Config, ConnectError, Connection, ErrorKind, Footprint, Handler, Instant, Interest,
    LeftFastPath, ListenerId, PIECES_MAX, PollerEvent, Settled, SetupError, Shard, Stats, StorageError,
    TimerStorage, Timers, Token, footprint,
};

use super::accept::{Acceptor, BACK_OFF, ListenerEntry};
use super::io::{ConnectionEntry, Io, NEVER, PendingConnect};
use super::membership::{AssignedSocket, Membership};
use super::room::{RoomQueue, RoomRequest};
use super::topics::{TopicStorage, TopicTable};
use super::transport::{Connect, ConnectResult, Received, Transport};

mod accepting;
mod end;
mod mail;

/// The maximum number of commands, and of messages, in one turn.
const MAIL_A_TURN: usize = 256;
/// The maximum number of sockets that broadcasts and published messages reach in one turn.
const BROADCAST_A_TURN: usize = 1_024;
/// The maximum number of timers in one turn.
const TIMERS_A_TURN: usize = 256;

/// The memory of a poller in addition to its shard's [`Storage`](crate::Storage).
pub struct PollerStorage<'s, T: Transport> {
    /// At least [`Config::sockets`](crate::Config) entries.
    pub connections: &'s mut [MaybeUninit<ConnectionEntry<T::Registered>>],
    /// One entry for each listener number, all `None`.
    pub listeners: &'s mut [Option<ListenerEntry<T::Listener>>],
    /// The receive buffer. A completion transport needs none.
    pub buffer: &'s mut [u8],
    /// At least [`Config::timers`](crate::Config) slots, or [`TimerStorage::none`] if that is 0.
    pub timers: TimerStorage<'s>,
    /// At least [`Config::room_requests`](crate::Config) entries.
    pub rooms: &'s mut [MaybeUninit<RoomRequest>],
    /// Room for [`Config::subscriptions`](crate::Config), or [`TopicStorage::none`] if that is 0.
    pub topics: TopicStorage<'s>,
}

impl<T: Transport> fmt::Debug for PollerStorage<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollerStorage")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("buffer", &self.buffer.len())
            .field("timers", &self.timers)
            .field("rooms", &self.rooms.len())
            .field("topics", &self.topics)
            .finish()
    }
}

/// A message for several sockets that is being delivered.
struct Broadcast<M> {
    message: M,
    clone: fn(&M) -> M,
    to: Audience,
    /// For everyone: the place from which it has yet to be delivered.
    from: u32,
}

/// The sockets that get a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audience {
    /// All open sockets.
    Everyone,
    /// The subscribers over which the topics walk.
    Subscribers,
}

/// What is left of a turn's limits.
#[derive(Clone, Copy, Default)]
struct Budget {
    commands: usize,
    messages: usize,
    broadcast: usize,
}

/// The phase of a poller's shutdown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// The connections that wait at the listeners are accepted for the last time, in at most this many turns.
    Accepting {
        deadline: Instant,
        turns: u8,
    },
    /// Sockets finish what they have begun, until the deadline. Those from place `announce_from` on have yet to get
    /// `shutdown`.
    Stopping {
        deadline: Instant,
        announce_from: Option<u32>,
    },
    /// The remaining sockets are aborted, from this place on. Cancelled sends may complete later.
    Aborting {
        from: u32,
    },
    /// No socket is left, and the mailboxes are closed. Connections in them are admitted before the deadline;
    /// everything else in them is refused.
    Closing {
        deadline: Instant,
    },
    Over,
}

/// Which of `started` and `stopping` the handler has received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announced {
    Nothing,
    Start,
    Stop,
}

/// The code of the program that is running.
#[derive(Clone, Copy)]
enum PanicScope {
    /// No code of the program.
    Engine,
    /// `admit` of an accepted socket, the filter, an event of the poller, or a message's `clone` or `drop`.
    Program,
    /// `admit` of a connect.
    Connect(Token),
    /// A callback of this socket.
    Callback(Token),
}

/// The origin of a panic, as returned by [`Poller::recover`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PanicOwner {
    /// Not the program: the engine or its driver is broken.
    Engine,
    /// The program, but not a callback of a socket. Only the connection, message or poller event that it handled is
    /// lost.
    Program,
    /// A callback of this socket, which ends. Call [`Poller::run`] for the socket; if its `close` panics as well, call
    /// `run` once more.
    Socket(Token),
}

/// One poller: a [`Shard`], a handler, and the loop that carries out the shard's actions.
///
/// Like its shard, it is a state machine: it never waits and reads no clock. The driver reports what has happened
/// outside by the `on_` methods. `T` is the transport, and `L` the relation to other pollers. In one turn handlers may
/// begin `BATCH` connects. If the transport can connect, that many slots are reserved for them and are missing from
/// [`Config::sockets`](crate::Config). At most `BATCH` accepted connections are placed before they are admitted.
///
/// A driver repeats these steps until [`is_over`](Self::is_over) returns `true`:
///
/// 1. Call [`begin_turn`](Self::begin_turn) with the time.
/// 2. Call `on_readable`, `on_writable`, and so on, for each event of the last wait.
/// 3. Call [`turn`](Self::turn), for everything else that is due.
/// 4. Call [`next_turn`](Self::next_turn), and wait for events no longer than it says.
///
/// The [crate's documentation](crate#a-run-loop) contains a complete program.
///
/// A turn does the following, each with a limit:
///
/// | what | at most |
/// | --- | --- |
/// | events | as many as the driver reports; one receive each, and four sends in a row |
/// | accepted connections | 64 per listener |
/// | sockets that are [evicted](Config::evict_after) for them | one, after a receive from at most 16 |
/// | commands of other threads | 256 |
/// | sockets that are due without an event: timeouts, deferred sends, free blocks | those that were due when the turn began |
/// | messages | 256, and 1,024 deliveries of broadcasts and published messages |
/// | connects that handlers have requested | `BATCH` |
/// | timers that handlers have set, requests for room, and the connects that these request | 256, 256, and `BATCH` |
/// | after a stop: a last accept | 64 per listener, in up to 64 turns |
/// | after that, for all sockets: a last receive, then `shutdown` | 16 receives per socket, once |
///
/// A message that was posted before a stop is therefore delivered before `shutdown`, unless there are more than 256, or
/// broadcasts and published messages that reach more than 1,024 sockets: a socket gets `shutdown` before the rest of
/// these. So are bytes that had arrived, unless the socket is not read. A completion transport is not asked to receive:
/// the bytes that it has reported by then are those that have arrived.
///
/// The handler's [`started`](Handler::started) precedes every other callback: it comes before the first `admit`, or at
/// the end of the first turn. Its [`stopping`](Handler::stopping) comes within [`stop`](Self::stop).
pub struct Poller<'s, H, T, L, const BATCH: usize = 16>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    shard: Shard<'s, H::Data>,
    handler: H,
    io: Io<'s, T, L, L::Permit, BATCH>,
    buffer: &'s mut [u8],
    acceptor: Acceptor<'s, T>,
    /// Accepted connections that stay on this poller and are not admitted yet.
    assigned: Deque<AssignedSocket<T::Unregistered, L::Permit>, BATCH>,
    /// The connection for which `admit` runs. A panic there must not lose it: not every transport's connections close
    /// when they are dropped.
    admitting: Option<AssignedSocket<T::Unregistered, L::Permit>>,
    broadcast: Option<Broadcast<H::Message>>,
    budget: Budget,
    /// The number of events that the last consecutive full waits have brought.
    events_of_full_waits: usize,
    scope: PanicScope,
    phase: Phase,
    announced: Announced,
    /// The number of sockets that were unfinished when the grace time was over.
    aborted: u64,
    unwatchable: u64,
}

impl<H, T, L, const BATCH: usize> fmt::Debug for Poller<'_, H, T, L, BATCH>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("shard", &self.shard)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl<'s, H, T, L, const BATCH: usize> Poller<'s, H, T, L, BATCH>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    /// Creates a poller from its parts.
    ///
    /// # Errors
    ///
    /// If the storage is too short for the shard.
    pub fn new(
        mut shard: Shard<'s, H::Data>,
        handler: H,
        transport: T,
        membership: L,
        storage: PollerStorage<'s, T>,
    ) -> Result<Self, SetupError> {
        const { assert!(BATCH > 0, "BATCH must be at least 1") };
        let PollerStorage { connections, listeners, buffer, timers, rooms, topics } = storage;
        let config = shard.config();
        StorageError::check("PollerStorage::connections", connections.len(), config.sockets)?;
        StorageError::check("PollerStorage::rooms", rooms.len(), config.room_requests)?;
        let timers = Timers::new(timers, config)?;
        let rooms = RoomQueue::new(rooms, config.room_requests);
        let topics = TopicTable::new(topics, config.subscriptions, config.sockets, config.generation_seed)?;
        let parts = (transport, membership);
        let io = Io::new(config.poller, shard.now(), parts, connections, timers, (rooms, topics));
        if T::REPORTS_UNDELIVERED {
            shard.ask_undelivered();
        }
        Ok(Self {
            shard,
            handler,
            io,
            buffer,
            acceptor: Acceptor::new(listeners),
            assigned: Deque::new(),
            admitting: None,
            broadcast: None,
            budget: Budget::default(),
            events_of_full_waits: 0,
            scope: PanicScope::Engine,
            phase: Phase::Running,
            announced: Announced::Nothing,
            aborted: 0,
            unwatchable: 0,
        })
    }

    /// Returns the memory cost in bytes of a poller of this configuration, with room for `listeners` listeners and a
    /// receive buffer of `buffer` bytes.
    ///
    /// ```
    /// use lightcone_core::poller::{Alone, Poller, Transport};
    /// use lightcone_core::{Config, Footprint, Handler};
    ///
    /// const CONFIG: Config = Config { sockets: 4, input_blocks: 4, output_blocks: 8, ..Config::DEVICE };
    ///
    /// const fn cost<H: Handler, T: Transport>() -> Footprint {
    ///     Poller::<'_, H, T, Alone, 1>::footprint(&CONFIG, 1, 1024)
    /// }
    /// ```
    #[must_use]
    pub const fn footprint(config: &Config, listeners: usize, buffer: usize) -> Footprint {
        let connections = size_of::<ConnectionEntry<T::Registered>>().saturating_mul(config.sockets);
        let listeners = size_of::<Option<ListenerEntry<T::Listener>>>().saturating_mul(listeners);
        let mut cost = footprint::<H::Data>(config);
        cost.poller = size_of::<Self>() - cost.shard;
        let rooms = size_of::<RoomRequest>().saturating_mul(config.room_requests);
        let others = listeners.saturating_add(buffer).saturating_add(TimerStorage::bytes(config.timers));
        let topics = TopicStorage::bytes(config.subscriptions, config.sockets);
        let others = others.saturating_add(rooms).saturating_add(topics);
        cost.poller_storage = connections.saturating_add(others);
        cost
    }

    /// Returns the shard.
    pub const fn shard(&self) -> &Shard<'s, H::Data> {
        &self.shard
    }

    /// Returns the handler.
    pub const fn handler(&self) -> &H {
        &self.handler
    }

    /// Returns the handler mutably.
    pub const fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Returns the transport.
    #[inline]
    pub const fn transport(&self) -> &T {
        &self.io.transport
    }

    /// Returns the transport mutably.
    #[inline]
    pub const fn transport_mut(&mut self) -> &mut T {
        &mut self.io.transport
    }

    /// Returns the transport and a socket's connection, unless the socket has ended.
    pub fn connection_mut(&mut self, token: Token) -> Option<(&mut T, &mut T::Registered)> {
        self.io.connection_of(token)
    }

    /// Calls `look` with what a socket has queued, from the front. A driver can thus check that bytes in flight stay
    /// where they are. Returns `None` if the socket has ended.
    pub fn with_output<R>(&mut self, token: Token, look: impl FnOnce(&[&[u8]]) -> R) -> Option<R> {
        let conn = self.shard.connection(token)?;
        let mut pieces: [&[u8]; PIECES_MAX] = [&[]; PIECES_MAX];
        let count = conn.outputs(&mut pieces);
        Some(look(pieces.get(..count).unwrap_or_default()))
    }

    /// Returns the poller's relation to other pollers.
    #[inline]
    pub const fn membership(&self) -> &L {
        &self.io.membership
    }

    /// Returns the counters of the shard and of the topics.
    #[inline]
    pub const fn stats(&self) -> Stats {
        let mut stats = *self.shard.stats();
        stats.topics = self.io.topics.stats;
        stats
    }

    /// Returns how many sockets have ended because the transport could not watch them.
    pub const fn unwatchable(&self) -> u64 {
        self.unwatchable
    }

    /// Returns how many sockets were aborted because the grace time of a stop was over. A socket that had sent
    /// everything and only waited for its peer's end of stream does not count.
    pub const fn aborted(&self) -> u64 {
        self.aborted
    }

    // --- a turn ------------------------------------------------------------------------------------------------------

    /// Releases the memory of free blocks by `release`: see [`Shard::reclaim_memory`].
    pub fn reclaim_memory(&mut self, release: impl FnMut(&mut [u8])) {
        self.shard.reclaim_memory(release);
    }

    /// Begins a turn at this time. `unix_time` is in seconds since 1970-01-01 UTC, if the driver has a wall clock.
    #[inline]
    pub fn begin_turn(&mut self, now: Instant, unix_time: Option<u64>) {
        (self.io.now, self.io.unix_time) = (now, unix_time);
        self.shard.tick(now);
        self.budget = Budget { commands: MAIL_A_TURN, messages: MAIL_A_TURN, broadcast: BROADCAST_A_TURN };
        self.io.reserve(&mut self.shard);
    }

    /// Reports that the last wait brought as many events as it had room for, so that it may have left sockets out. Call
    /// this after [`begin_turn`](Self::begin_turn), with the number of events; after a wait with room for more, pass 0.
    /// The timers of sockets that were left out must not fire before their events are handled, so no timer fires in
    /// this turn, not even one of the handler. That ends once consecutive full waits have brought as many events as
    /// there can be.
    pub fn on_full_wait(&mut self, events: usize) {
        self.events_of_full_waits += events;
        // each socket may be reported twice, once for each direction, and each listener once
        let most = 2 * self.shard.in_use() + self.acceptor.places();
        if events == 0 || self.events_of_full_waits > most {
            self.events_of_full_waits = 0;
        } else {
            self.shard.hold_timers();
        }
    }

    /// Does the part of a turn that follows the events. If a panic unwinds out of it, call [`recover`](Self::recover)
    /// and then this again: it continues where it stopped.
    #[inline]
    pub fn turn(&mut self) {
        self.start(); // before anything is taken from a queue, because the callback may panic
        self.admit_assigned(); // those that a panic left over
        while self.budget.commands > 0 {
            self.budget.commands -= 1;
            let Some(command) = self.io.membership.next_command() else { break };
            self.execute(command);
        }
        while let Some(token) = self.shard.next_ready() {
            // the shard may need an answer from the transport before anything is due
            if !self.shard.is_asking() || self.answer(token) {
                self.run(token);
            }
        }
        self.read_mail();
        if self.acceptor.take_due(self.io.now) {
            // after the sockets and messages, any of which may have freed a slot or a descriptor
            self.resume_accepting();
        }
        // after everything that runs handlers, so that the connects of this turn begin in it
        self.begin_connects();
        // last, so that messages posted before a stop are delivered before `shutdown`
        if self.io.alarm <= self.io.now {
            self.on_alarm();
        }
    }

    #[inline]
    fn begin_connects(&mut self) {
        while let Some(connect) = self.io.pending_connects.pop_front() {
            self.begin_connect(connect);
        }
    }

    /// Does what most turns do not: the start, the timers, the requests for room, the shutdown.
    #[cold]
    fn on_alarm(&mut self) {
        self.announce();
        let mut left = if self.events_of_full_waits == 0 { TIMERS_A_TURN } else { 0 };
        while left > 0
            && let Some((id, tag)) = self.io.timers.pop_due(self.io.now)
        {
            left -= 1;
            self.tell_poller_event(PollerEvent::Timer { id, tag });
        }
        let waits = self.tell_rooms();
        self.begin_connects(); // those of the timers and requests, too, begin in this turn
        if self.phase != Phase::Running {
            return self.end(); // the alarm stays in the past
        }
        let waits = waits || self.io.rooms.len() > 0;
        let next = if waits { Some(Instant::from_millis(0)) } else { self.io.timers.next(self.io.now) };
        self.io.alarm = next.unwrap_or(NEVER);
    }

    /// Delivers `started` before the first other callback. Every method that may lead to one calls this first.
    #[inline]
    fn start(&mut self) {
        if self.announced == Announced::Nothing {
            self.announce();
        }
    }

    /// Delivers `started`, and once a stop has begun, `stopping`, unless the handler has had them.
    #[cold]
    fn announce(&mut self) {
        if self.announced == Announced::Nothing {
            // before the callback, which may panic
            self.announced = Announced::Start;
            self.io.reserve(&mut self.shard);
            self.tell_poller_event(PollerEvent::Started);
        }
        if self.announced == Announced::Start && self.phase != Phase::Running {
            self.announced = Announced::Stop;
            self.tell_poller_event(PollerEvent::Stopping);
        }
    }

    fn tell_poller_event(&mut self, event: PollerEvent) {
        self.as_program(|poller| poller.handler.poller_event(event, &mut poller.io.context()));
    }

    /// Returns when to take the next turn if nothing happens before; not later than now if there is something to do.
    /// `None` if there is nothing to wait for but events.
    #[inline]
    pub fn next_turn(&self) -> Option<Instant> {
        // a command is only left if its limit was reached: the wake flag reports later pushes, except for messages of
        // this poller to itself
        let busy = (self.budget.commands == 0 && self.io.membership.has_command())
            || self.io.membership.has_envelope()
            || self.broadcast.is_some()
            || !self.io.pending_connects.is_empty();
        if busy {
            return Some(self.io.now);
        }
        let alarm = if self.io.alarm == NEVER { None } else { self.next_alarm() };
        Instant::earlier(Instant::earlier(self.shard.next_deadline(), self.acceptor.deadline()), alarm)
    }

    /// Returns when the start, the timers or the shutdown need the next turn.
    #[cold]
    fn next_alarm(&self) -> Option<Instant> {
        let ends_further = self.phase != Phase::Running && self.ends_further();
        if self.announced == Announced::Nothing || ends_further || self.io.membership.answers_further() {
            return Some(self.io.now);
        }
        let timers = Instant::earlier(self.io.timers.next(self.io.now), self.io.rooms.ask_at);
        // only this phase waits for its deadline; the others continue at once or by an event
        match self.phase {
            Phase::Stopping { deadline, .. } => Instant::earlier(timers, Some(deadline)),
            Phase::Running
            | Phase::Accepting { .. }
            | Phase::Aborting { .. }
            | Phase::Closing { .. }
            | Phase::Over => timers,
        }
    }

    // --- events ------------------------------------------------------------------------------------------------------

    /// Reports that a socket is readable.
    #[inline(always)]
    pub fn on_readable(&mut self, token: Token) {
        // the fast path: one lookup of the slot if nothing about the socket is special
        let Some(usual) = self.shard.fast_path(token) else { return self.receive(token, None) };
        let room = usual.room().min(self.buffer.len());
        let buffer = self.buffer.get_mut(..room).unwrap_or_default();
        if buffer.is_empty() {
            return self.receive(token, None);
        }
        let Some((transport, connection)) = self.io.connection(token) else { return };
        let received = transport.receive(connection, token, buffer);
        let bytes = match received {
            Received::Bytes(n) if usual.takes(n) => buffer.get_mut(..n),
            Received::Bytes(_) | Received::WouldBlock | Received::End | Received::Failed(_) => None,
        };
        // the result goes along: the bytes were taken from the transport and must not be lost
        let Some(bytes) = bytes else { return self.receive(token, Some(received)) };
        let count = bytes.len();
        self.scope = PanicScope::Callback(token);
        match usual.receive(bytes, &mut self.handler, &mut self.io.calls(token)) {
            Ok(settled) => self.settle(token, settled), // the common case
            Err(stopped) => self.go_on(token, stopped, count),
        }
    }

    /// Receives from a socket, unless `received` already is the result of a receive, and carries out the actions that
    /// follow.
    #[inline(never)]
    fn receive(&mut self, token: Token, received: Option<Received>) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        let room = conn.room().min(self.buffer.len());
        // without room the connection runs all the same, to deliver what is due or wait for a block
        let mut bytes: &mut [u8] = &mut [];
        if let Some(buffer) = self.buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) {
            let Some((transport, connection)) = self.io.connection(token) else { return };
            match received.unwrap_or_else(|| transport.receive(connection, token, buffer)) {
                Received::Bytes(n) => bytes = buffer.get_mut(..n).unwrap_or_default(),
                Received::WouldBlock => return,
                Received::End => conn.peer_ended(),
                Received::Failed(kind) => conn.failed(kind),
            }
        }
        self.scope = PanicScope::Callback(token);
        let settled = conn.receive(bytes, &mut self.handler, &mut self.io.calls(token));
        self.settle(token, settled);
    }

    /// Continues with `count` received bytes where `FastPath::receive` has stopped.
    #[inline(never)]
    fn go_on(&mut self, token: Token, stopped: LeftFastPath, count: usize) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        let bytes = self.buffer.get_mut(..count).unwrap_or_default();
        let settled = conn.go_on(stopped, bytes, &mut self.handler, &mut self.io.calls(token));
        self.settle(token, settled);
    }

    /// Reports that a socket is writable, or that its connect has ended.
    pub fn on_writable(&mut self, token: Token) {
        let Some(conn) = self.shard.connection(token) else { return };
        if !conn.is_connecting() {
            return self.tell(token, |conn| conn.writable());
        }
        let Some((transport, connection)) = self.io.connection(token) else { return };
        let result = transport.connect_result(connection, token);
        if result != ConnectResult::InProgress {
            self.on_connect_result(token, result);
        }
    }

    /// Reports the result of a connect. With a completion transport, the driver may call this instead of
    /// [`on_writable`](Self::on_writable).
    pub fn on_connect_result(&mut self, token: Token, result: ConnectResult) {
        self.tell(token, |conn| {
            match result {
                ConnectResult::InProgress => return,
                ConnectResult::Established => conn.connected(),
                ConnectResult::Broken(kind) => {
                    conn.connected();
                    conn.failed(kind);
                }
                ConnectResult::Failed(kind) => conn.failed(kind),
            }
            conn.writable();
        });
    }

    /// Reports that a connection has failed.
    pub fn on_failed(&mut self, token: Token, kind: ErrorKind) {
        self.tell(token, |conn| conn.failed(kind));
    }

    /// Reports bytes that a completion transport has received. Returns how many were taken. The transport keeps the
    /// rest and offers it again: in a later turn if the socket is still read, otherwise when [`Transport::modify`]
    /// requests reading.
    #[must_use]
    pub fn on_received(&mut self, token: Token, bytes: &mut [u8]) -> usize {
        let (mut taken, mut has_run) = (0, false);
        // runs at least once, even without room: delivering what is due may make some
        while !has_run || taken < bytes.len() {
            let Some(mut conn) = self.shard.connection(token) else { return bytes.len() };
            let rest = bytes.get_mut(taken..).unwrap_or_default();
            let n = conn.room().min(rest.len());
            if n == 0 && has_run {
                self.stop_reading(token);
                break;
            }
            let rest = rest.get_mut(..n).unwrap_or_default();
            self.scope = PanicScope::Callback(token);
            let settled = conn.receive(rest, &mut self.handler, &mut self.io.calls(token));
            self.settle(token, settled);
            (taken, has_run) = (taken + n, true);
        }
        taken
    }

    /// Reports that a completion transport has reached the end of a stream. Returns `false` if the socket is not read
    /// now: then report the end again, like bytes that were not taken.
    #[must_use]
    pub fn on_end_of_stream(&mut self, token: Token) -> bool {
        let Some(conn) = self.shard.connection(token) else { return true };
        // without room, bytes before the end may still be in the transport, and the end must not overtake them
        if conn.room() == 0 {
            self.run(token); // may make room, or queues the socket for a block
            let Some(conn) = self.shard.connection(token) else { return true };
            if conn.room() == 0 {
                self.stop_reading(token);
                return false;
            }
        }
        self.tell(token, |conn| conn.peer_ended());
        true
    }

    /// Stops reading a socket without room; its next run with room requests reading again. A deferred socket still has
    /// its interest in reading: without this, the transport would offer the bytes that it keeps as if they were
    /// requested.
    #[cold]
    fn stop_reading(&mut self, token: Token) {
        if let Some(interest) = self.io.interest(token)
            && interest.reads()
        {
            self.watch(token, interest.without(Interest::READ));
        }
    }

    /// Reports that a send in flight has completed, with `n` bytes sent.
    pub fn on_sent(&mut self, token: Token, n: usize) {
        self.tell(token, |conn| conn.sent(n));
    }

    /// Reports that a send in flight has failed.
    pub fn on_send_failed(&mut self, token: Token, kind: ErrorKind) {
        self.tell(token, |conn| {
            conn.sent(0); // ends the flight, or the socket would wait for it before it closes
            conn.failed(kind);
        });
    }

    /// Reports that connections wait at a listener. Accepts as many as there is room for and chooses a poller for each.
    /// Those that stay on this poller are admitted after all were placed, so that no callback delays the others.
    pub fn on_acceptable(&mut self, id: ListenerId) {
        self.start();
        self.accept(id);
        self.admit_assigned();
    }

    // --- one socket --------------------------------------------------------------------------------------------------

    /// Delivers what is due for a socket, and carries out the actions that follow.
    pub fn run(&mut self, token: Token) {
        self.tell(token, |_| {});
    }

    /// Carries out what the shard needs for a socket: connects again, or queries what is undelivered to a peer that
    /// seems to take nothing. Returns whether anything is due for the socket.
    #[cold]
    fn answer(&mut self, token: Token) -> bool {
        if let Some(to) = self.shard.connection(token).and_then(|mut conn| conn.take_connect()) {
            let begun = self.io.transport.connect(to);
            self.on_begun(token, begun);
            return false;
        }
        let connection = self.io.connection(token);
        let left = connection.and_then(|(transport, connection)| transport.undelivered(connection, token));
        self.shard.connection(token).is_some_and(|mut conn| conn.undelivered(left))
    }

    /// Reports something to a socket's connection, delivers what is due, and carries out the actions that follow.
    fn tell(&mut self, token: Token, what: impl FnOnce(&mut Connection<'_, 's, H::Data>)) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        what(&mut conn);
        self.scope = PanicScope::Callback(token);
        let settled = conn.receive(&mut [], &mut self.handler, &mut self.io.calls(token));
        self.settle(token, settled);
    }

    /// Makes the transport watch what the socket now waits for, or closes the connection.
    #[inline(always)]
    fn settle(&mut self, token: Token, settled: Settled) {
        self.scope = PanicScope::Engine;
        if let Settled::Waiting(interest) = settled
            && self.io.interest(token) == Some(interest)
        {
            return; // the common case
        }
        self.settle_changed(token, settled);
    }

    #[inline(never)]
    fn settle_changed(&mut self, token: Token, settled: Settled) {
        match settled {
            Settled::Waiting(interest) => self.watch(token, interest),
            Settled::Closed => self.close(token),
            Settled::Deferred | Settled::Cancelling => {}
        }
    }

    fn watch(&mut self, token: Token, interest: Interest) {
        let Some(entry) = self.io.connections.get_mut(token.index()) else { return };
        let old = core::mem::replace(&mut entry.interest, interest);
        let Some(connection) = entry.connection.as_mut() else { return };
        if let Err(kind) = self.io.transport.modify(connection, token, old, interest) {
            entry.interest = old; // it is still watched for that
            self.unwatchable += 1;
            self.on_failed(token, kind);
        }
    }

    /// Closes the connection of a socket that the shard has released.
    fn close(&mut self, token: Token) {
        let Some(entry) = self.io.connections.get_mut(token.index()) else { return };
        let interest = core::mem::take(&mut entry.interest);
        if let Some(mut connection) = entry.connection.take() {
            let reset = self.shard.needs_reset();
            // a reset destroys what the system has not delivered
            if T::REPORTS_UNDELIVERED && reset {
                self.shard.lose(self.io.transport.undelivered(&mut connection, token).unwrap_or(0));
            }
            self.io.transport.close(connection, token, interest, reset);
        }
        self.io.topics.end(token);
        self.io.membership.release();
        self.acceptor.retry_now(self.io.now);
    }

    // --- new sockets -------------------------------------------------------------------------------------------------

    /// Begins to connect, like [`Context::connect`](crate::Context::connect) in a handler.
    ///
    /// # Errors
    ///
    /// If no socket is free for it, the transport cannot connect, or `BATCH` connects have yet to begin.
    pub fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        self.io.reserve(&mut self.shard);
        self.io.connect(to, tag)
    }

    fn begin_connect(&mut self, connect: PendingConnect<L::Permit>) {
        let PendingConnect { token, to, tag, permit } = connect;
        self.scope = PanicScope::Connect(token);
        let admitted = self.shard.dial(&mut self.handler, token, tag, &to);
        self.scope = PanicScope::Engine;
        if admitted.is_err() {
            return; // this releases the permit, which is dropped
        }
        self.io.membership.merge(permit);
        // it may have been cancelled before it began
        let is_connecting = self.shard.connection(token).is_some_and(|conn| conn.is_connecting());
        if is_connecting {
            let begun = self.io.transport.connect(to);
            self.on_begun(token, begun);
        } else {
            self.io.insert(token, None, Interest::NONE);
            self.run(token);
        }
    }

    /// Handles the result of beginning to connect.
    fn on_begun(&mut self, token: Token, begun: Result<Connect<T::Unregistered>, ErrorKind>) {
        match begun {
            Ok(Connect::Established(connection)) => {
                self.register(token, connection, Interest::READ);
                self.tell(token, |conn| conn.connected());
            }
            Ok(Connect::InProgress(connection)) => {
                self.register(token, connection, Interest::WRITE);
                self.run(token);
            }
            Ok(Connect::Later) => {
                self.io.insert(token, None, Interest::NONE);
                let again = self.io.now + BACK_OFF;
                self.tell(token, |conn| conn.connect_again_at(again));
            }
            Err(kind) => {
                self.io.insert(token, None, Interest::NONE);
                self.on_failed(token, kind);
            }
        }
    }

    // --- commands and messages ---------------------------------------------------------------------------------------

    /// Runs code of the program that is no callback.
    fn as_program<R>(&mut self, run: impl FnOnce(&mut Self) -> R) -> R {
        self.scope = PanicScope::Program;
        let result = run(self);
        self.scope = PanicScope::Engine;
        result
    }

    // --- the shutdown ------------------------------------------------------------------------------------------------

    // --- panics ------------------------------------------------------------------------------------------------------

    /// Returns the origin of a panic that was caught, and prepares the poller to continue with [`turn`](Self::turn).
    pub fn recover(&mut self) -> PanicOwner {
        match core::mem::replace(&mut self.scope, PanicScope::Engine) {
            PanicScope::Engine => PanicOwner::Engine,
            PanicScope::Program => {
                if let Some(assigned) = self.admitting.take() {
                    self.io.transport.reject(assigned.connection);
                }
                PanicOwner::Program
            }
            PanicScope::Connect(token) => {
                self.shard.release_slot(token);
                PanicOwner::Program
            }
            PanicScope::Callback(token) => {
                if let Some(mut conn) = self.shard.connection(token) {
                    conn.panicked();
                }
                if self.io.transport.completes() {
                    self.forget_reading(token);
                }
                PanicOwner::Socket(token)
            }
        }
    }
}
