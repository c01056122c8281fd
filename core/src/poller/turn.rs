//! The event loop: what a poller does in a turn, and in which order.

use core::fmt;
use core::mem::MaybeUninit;
use core::time::Duration;

use heapless::Deque;

use crate::{
    Address, CloseReason, Config, ConnectError, Connection, ErrorKind, Footprint, Handler, Instant, Interest,
    LeftFastPath, ListenerId, Origin, PIECES_MAX, PollerEvent, PollerId, Rejected, Settled, SetupError,
    Shard, Stats, StorageError, TimerStorage, Timers, Token, footprint,
};

use crate::life::State;

use super::accept::{ACCEPTS_A_TURN, Acceptor, BACK_OFF, ListenerEntry};
use super::io::{ConnectionEntry, Io, NEVER, PendingConnect};
use super::membership::{AcceptedSocket, AssignedSocket, Command, Envelope, Membership, Placement};
use super::room::{RoomAsk, RoomQueue, RoomRequest};
use super::transport::{Accept, Connect, ConnectResult, Received, Transport};

/// The maximum number of commands, and of messages, in one turn.
const MAIL_A_TURN: usize = 256;
/// The maximum number of sockets that a broadcast reaches in one turn.
const BROADCAST_A_TURN: usize = 1_024;
/// The maximum number of timers in one turn.
const TIMERS_A_TURN: usize = 256;
/// The maximum number of requests for room that are notified in one turn.
const ROOMS_A_TURN: usize = 256;
/// How long a poller waits before it asks again for room if there was no room for the question.
const ASK_AGAIN: Duration = Duration::from_millis(1);
/// The maximum number of turns in which a stopping poller accepts what waits: 4,096 connections of each listener.
const LAST_ACCEPTS: u8 = 64;
/// How many times a stopping poller receives from a socket before the socket gets `shutdown`.
const LAST_LOOKS: u8 = 16;
/// The maximum number of idle sockets from which a poller receives before it evicts one.
const EVICT_LOOKS: u8 = 16;

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
}

impl<T: Transport> fmt::Debug for PollerStorage<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollerStorage")
            .field("connections", &self.connections.len())
            .field("listeners", &self.listeners.len())
            .field("buffer", &self.buffer.len())
            .field("timers", &self.timers)
            .field("rooms", &self.rooms.len())
            .finish()
    }
}

/// A message for every socket, and the place from which it has yet to be delivered.
struct Broadcast<M> {
    message: M,
    clone: fn(&M) -> M,
    from: u32,
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
/// | messages | 256, and 1,024 deliveries of a broadcast |
/// | connects that handlers have requested | `BATCH` |
/// | timers that handlers have set, requests for room, and the connects that these request | 256, 256, and `BATCH` |
/// | after a stop: a last accept | 64 per listener, in up to 64 turns |
/// | after that, for all sockets: a last receive, then `shutdown` | 16 receives per socket, once |
///
/// A message that was posted before a stop is therefore delivered before `shutdown`, unless there are more than 256. So
/// are bytes that had arrived, unless the socket is not read. A completion transport is not asked to receive: the bytes
/// that it has reported by then are those that have arrived.
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
        let PollerStorage { connections, listeners, buffer, timers, rooms } = storage;
        let config = shard.config();
        StorageError::check("PollerStorage::connections", connections.len(), config.sockets)?;
        StorageError::check("PollerStorage::rooms", rooms.len(), config.room_requests)?;
        let timers = Timers::new(timers, config)?;
        let rooms = RoomQueue::new(rooms, config.room_requests);
        let io = Io::new(config.poller, shard.now(), (transport, membership), connections, timers, rooms);
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
        let others = others.saturating_add(rooms);
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

    /// Returns the counters of the shard.
    #[inline]
    pub const fn stats(&self) -> &Stats {
        self.shard.stats()
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

    /// Answers the asks of other pollers, notifies those that have requested it of room in mailboxes, and asks the
    /// pollers for which requests remain. Returns whether an ask of another poller remains.
    fn tell_rooms(&mut self) -> bool {
        // first, since its own answer counts in this turn
        let keeps = self.io.membership.answer_askers();
        self.io.membership.take_answers();
        self.io.rooms.begin_round();
        for _ in 0..ROOMS_A_TURN {
            let has_answer = |at| self.io.membership.has_answer(at);
            // removed before the callback, which may panic
            let Some(RoomRequest { at, socket }) = self.io.rooms.take(has_answer) else { break };
            match socket {
                Some(token) => self.tell_room(token, at),
                None => self.tell_poller_event(PollerEvent::Room { at }),
            }
        }
        self.io.membership.end_answers();
        self.ask_rooms();
        keeps
    }

    /// Delivers `room` to a socket, and carries out the actions that follow.
    fn tell_room(&mut self, token: Token, at: PollerId) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        self.scope = PanicScope::Callback(token);
        match conn.tell_room(at, &mut self.handler, &mut self.io.context()) {
            Some(next) => {
                let settled = conn.carry_out(next, 0, &mut self.handler, &mut self.io.calls(token));
                self.settle(token, settled);
            }
            None => self.run(token), // an event that was due before may have ended it
        }
    }

    /// Asks each poller that a request names, unless it has been asked.
    fn ask_rooms(&mut self) {
        self.io.rooms.ask_at = None;
        for place in 0..self.io.rooms.len() {
            let Some(RoomRequest { at, .. }) = self.io.rooms.get(place) else { break };
            let ask_at = match self.io.membership.ask_room(at) {
                RoomAsk::Asked => continue,
                RoomAsk::Busy => self.io.now + ASK_AGAIN,
                RoomAsk::Gone => self.io.now, // the answer is there already, and no notice of it comes
            };
            self.io.rooms.ask_at = Instant::earlier(self.io.rooms.ask_at, Some(ask_at));
        }
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

    /// Delivers a message to a socket, and carries out the actions that follow.
    fn deliver(&mut self, token: Token, message: H::Message) {
        let Some(mut conn) = self.shard.connection(token) else { return self.as_program(|_| drop(message)) };
        self.scope = PanicScope::Callback(token);
        match conn.message(message, &mut self.handler, &mut self.io.context()) {
            Ok(next) => {
                let settled = conn.carry_out(next, 0, &mut self.handler, &mut self.io.calls(token));
                self.settle(token, settled);
            }
            Err(message) => {
                self.as_program(|_| drop(message));
                self.run(token); // an event that was due before the message may have ended it
            }
        }
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
        self.io.membership.release();
        self.acceptor.retry_now(self.io.now);
    }

    // --- new sockets -------------------------------------------------------------------------------------------------

    /// Takes over a connection that was established elsewhere, as if a listener had accepted it.
    ///
    /// In the first turn, [`started`](Handler::started) comes before. If that panics, the connection is dropped.
    ///
    /// # Errors
    ///
    /// The connection, if no socket is free for it or the poller is stopping.
    pub fn attach(
        &mut self,
        connection: T::Unregistered,
        peer: Address,
        listener: ListenerId,
    ) -> Result<(), T::Unregistered> {
        self.start();
        if self.phase != Phase::Running || !self.has_room() {
            return Err(connection);
        }
        let Some(permit) = self.io.membership.acquire() else { return Err(connection) };
        self.admit(AssignedSocket { connection, peer, listener, permit });
        Ok(())
    }

    /// Returns whether there is a slot that no accepted connection is about to take.
    fn has_room(&self) -> bool {
        self.shard.has_room() && self.shard.in_use() + self.assigned.len() < self.shard.config().sockets
    }

    /// Begins to accept from a listener.
    ///
    /// # Errors
    ///
    /// The listener, if there is no place for its number in [`PollerStorage::listeners`], that place is taken, or the
    /// poller is stopping.
    pub fn listen(&mut self, listener: T::Listener, id: ListenerId) -> Result<(), T::Listener> {
        if self.phase != Phase::Running {
            return Err(listener);
        }
        self.acceptor.listen(listener, id, &mut self.io.transport, self.io.now)
    }

    /// Accepts the connections that wait at a listener. Returns whether there may be more for which there is room.
    fn accept(&mut self, id: ListenerId) -> bool {
        for _ in 0..ACCEPTS_A_TURN {
            // `place` needs a free entry; admitting first also makes `has_room` below up to date
            if self.assigned.is_full() {
                self.admit_assigned();
            }
            let has_room = self.io.membership.has_room(self.has_room());
            // if a socket can make room, the accept comes first: only its result shows that a connection waits
            let accepts = has_room || self.can_evict();
            let Some(listener) = self.acceptor.watched(id) else { return false };
            if !accepts {
                return self.await_room(id);
            }
            self.scope = PanicScope::Program;
            let accept = self.io.transport.accept(listener, id);
            self.scope = PanicScope::Engine;
            let (connection, peer) = match accept {
                Accept::Accepted(connection, peer) => (connection, peer),
                Accept::Filtered => {
                    self.shard.count_rejected(1);
                    continue;
                }
                Accept::Retry => continue,
                Accept::WouldBlock => return false,
                Accept::Exhausted => {
                    self.acceptor.back_off(&mut self.io.transport, self.io.now);
                    return false;
                }
            };
            if let Some(rate) = &self.shard.config().accept_rate
                && !self.acceptor.bucket.take(rate, self.io.now)
            {
                self.io.transport.reject(connection);
                self.shard.count_over_rate();
                continue;
            }
            let accepted = AcceptedSocket { connection, peer, listener: id };
            let placed = if has_room { self.place(accepted) } else { self.hold(accepted) };
            if !placed {
                return self.await_room(id);
            }
        }
        true
    }

    /// Backs off, and returns `false`. If eviction is on, the rest of this turn tries to make room for what waits at
    /// the listener.
    fn await_room(&mut self, id: ListenerId) -> bool {
        self.acceptor.back_off(&mut self.io.transport, self.io.now);
        if self.shard.config().evict_after.is_some() {
            self.acceptor.left = self.acceptor.held.is_none().then_some((id, self.io.now));
            self.acceptor.retry_now(self.io.now);
        }
        false
    }

    /// Assigns an accepted connection to a poller, or holds it back. Returns whether it was assigned.
    fn place(&mut self, accepted: AcceptedSocket<T::Unregistered>) -> bool {
        let AcceptedSocket { connection, peer, listener } = accepted;
        let connection = match self.io.transport.make_watchable(connection) {
            Ok(connection) => connection,
            Err(connection) => return self.hold(AcceptedSocket { connection, peer, listener }),
        };
        match self.io.membership.place(AcceptedSocket { connection, peer, listener }) {
            Placement::Here(assigned) => {
                // the callers make room first; if one did not, only this connection would be lost
                if let Err(assigned) = self.assigned.push_back(assigned) {
                    self.io.transport.reject(assigned.connection);
                }
            }
            Placement::Elsewhere => {}
            Placement::NoRoom(accepted) => return self.hold(accepted),
        }
        true
    }

    /// Holds back an accepted connection, and returns `false`.
    fn hold(&mut self, accepted: AcceptedSocket<T::Unregistered>) -> bool {
        self.acceptor.held = Some(accepted);
        false
    }

    /// Resumes after a back-off: with the connection that was held back, then with the listeners.
    #[cold]
    fn resume_accepting(&mut self) {
        let left = self.acceptor.left.take().filter(|_| self.acceptor.held.is_none());
        if let Some((id, at)) = left
            && !self.io.membership.has_room(self.has_room())
        {
            let can_evict = self.can_evict();
            if !can_evict && at == self.io.now {
                self.acceptor.left = left; // once more after the back-off
                self.make_room();
                return self.acceptor.back_off(&mut self.io.transport, self.io.now);
            }
            self.acceptor.watch_all(&mut self.io.transport, self.io.now);
            // now, and not when the listener is reported again: if that wait is a full one, no socket may be evicted
            if !can_evict || self.accept(id) || self.acceptor.held.is_none() {
                return self.admit_assigned();
            }
        }
        if !self.place_held() {
            // first, because a callback of an evicted socket may panic
            self.acceptor.back_off(&mut self.io.transport, self.io.now);
            // the end of a socket also frees what a transport may lack to watch another one
            self.make_room();
            // the end of a socket ends the back-off
            if !self.acceptor.take_due(self.io.now) {
                return;
            }
            if !self.place_held() {
                return self.acceptor.back_off(&mut self.io.transport, self.io.now);
            }
        }
        // first, since the handler may panic
        self.acceptor.watch_all(&mut self.io.transport, self.io.now);
        self.admit_assigned();
    }

    /// Places the connection that was held back, if there is room. Returns whether none is held back any more.
    fn place_held(&mut self) -> bool {
        if self.acceptor.held.is_some() && !self.io.membership.has_room(self.has_room()) {
            return false;
        }
        self.acceptor.held.take().is_none_or(|accepted| self.place(accepted))
    }

    /// Returns whether this poller has a socket that it may evict.
    fn can_evict(&mut self) -> bool {
        self.phase == Phase::Running && self.shard.longest_idle().is_some()
    }

    /// Makes room for an accepted connection for which no poller has room: evicts a socket if one may be evicted, or
    /// asks another poller to do so.
    #[cold]
    fn make_room(&mut self) {
        if self.phase == Phase::Running && self.shard.config().evict_after.is_some() {
            let here = self.can_evict();
            if self.io.membership.choose_evictor(here) {
                self.evict();
            }
        }
    }

    /// Ends the socket that has been idle longest, unless its peer has just sent something: then the next one.
    fn evict(&mut self) {
        for _ in 0..EVICT_LOOKS {
            let Some(token) = self.shard.longest_idle().filter(|_| self.phase == Phase::Running) else {
                return;
            };
            // a request may have arrived since the last wait
            let in_use = self.shard.in_use();
            self.look(token);
            if self.shard.in_use() < in_use {
                return; // its peer had ended the stream
            }
            if self.shard.longest_idle() != Some(token) {
                continue;
            }
            // without a free block to receive into, it is not known whether a request has arrived
            let Some(mut conn) = self.shard.connection(token) else { return };
            if self.io.transport.completes() || !conn.state().reads() || conn.room() > 0 {
                self.tell(token, |conn| conn.evict());
            }
            return;
        }
    }

    /// Admits connections one by one, so that a handler that panics over one loses none of the others.
    #[inline]
    fn admit_assigned(&mut self) {
        while let Some(assigned) = self.assigned.pop_front() {
            self.admit(assigned);
        }
    }

    fn admit(&mut self, assigned: AssignedSocket<T::Unregistered, L::Permit>) {
        let (peer, listener) = (assigned.peer, assigned.listener);
        self.admitting = Some(assigned);
        self.scope = PanicScope::Program;
        let admitted = self.shard.admit(&mut self.handler, Origin::Accepted { listener }, &peer);
        self.scope = PanicScope::Engine;
        let Some(AssignedSocket { connection, permit, .. }) = self.admitting.take() else { return };
        let Ok(token) = admitted else { return self.io.transport.reject(connection) };
        self.io.membership.merge(permit);
        self.register(token, connection, Interest::READ);
        self.run(token);
        // `end` has yet to reach the sockets from `announce_from` on
        if let Phase::Stopping { announce_from, .. } = self.phase
            && announce_from.is_none_or(|from| token.index() < from)
        {
            self.announce_to(token);
        }
    }

    /// Makes the transport watch a socket's connection. If it cannot, the socket fails.
    fn register(&mut self, token: Token, connection: T::Unregistered, interest: Interest) {
        match self.io.transport.register(connection, token, interest) {
            Ok(connection) => self.io.insert(token, Some(connection), interest),
            Err(kind) => {
                self.unwatchable += 1;
                self.io.insert(token, None, Interest::NONE);
                if let Some(mut conn) = self.shard.connection(token) {
                    conn.failed(kind);
                }
            }
        }
    }

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

    /// Posts a message to a socket, like [`Context::post`](crate::Context::post) in a handler.
    ///
    /// # Errors
    ///
    /// The message, if it was not taken.
    pub fn post(&mut self, to: Token, message: H::Message) -> Result<(), Rejected<H::Message>> {
        self.io.membership.post(to, message)
    }

    /// Executes a command.
    fn execute(&mut self, command: Command<T::Unregistered, T::Listener, L::Permit>) {
        match command {
            Command::Assign(assigned) => self.take_over(assigned),
            Command::Connect { to, tag, permit } => {
                if let Some(token) = self.shard.reserve() {
                    self.begin_connect(PendingConnect { token, to, tag, permit });
                }
            }
            Command::Listen { listener, id } => {
                if let Err(listener) = self.listen(listener, id) {
                    self.io.transport.close_listener(listener, id, false);
                }
            }
            Command::CloseListener { id } => self.acceptor.close(id, &mut self.io.transport),
            Command::CloseSocket { token, abort } => self.close_socket(token, abort),
            Command::Evict => {
                // a permit means that there is room by now; it is released at once
                if self.io.membership.acquire().is_none() {
                    self.evict();
                }
            }
            Command::AskRoom { asker } => {
                self.io.membership.keep_asker(asker);
                self.io.alarm = Instant::from_millis(0);
            }
            Command::Stop { grace } => self.stop(grace),
        }
    }

    /// Closes a socket. Queued output is sent first, unless the socket is aborted. A connect is cancelled.
    pub fn close_socket(&mut self, token: Token, abort: bool) {
        self.tell(token, |conn| if abort { conn.abort_with(CloseReason::Aborted) } else { conn.close() });
    }

    #[inline]
    fn read_mail(&mut self) {
        if self.broadcast.is_some() {
            self.go_on_broadcasting();
        }
        while self.budget.messages > 0 && self.broadcast.is_none() {
            self.budget.messages -= 1;
            match self.io.membership.next_envelope() {
                Some(Envelope::Post(token, message)) => self.deliver(token, message),
                Some(Envelope::Broadcast(message, clone)) => {
                    self.broadcast = Some(Broadcast { message, clone, from: 0 });
                    self.go_on_broadcasting();
                }
                None => return,
            }
        }
    }

    fn go_on_broadcasting(&mut self) {
        while self.budget.broadcast > 0 {
            self.budget.broadcast -= 1;
            let Some(broadcast) = &mut self.broadcast else { return };
            let Some(token) = self.shard.next_open(broadcast.from) else {
                let over = self.broadcast.take();
                return self.as_program(|_| drop(over));
            };
            // before the program's code, which may panic: the next turn then continues with the next socket
            broadcast.from = token.index() + 1;
            let message = self.as_program(|poller| {
                poller.broadcast.as_ref().map(|broadcast| (broadcast.clone)(&broadcast.message))
            });
            if let Some(message) = message {
                self.deliver(token, message);
            }
        }
    }

    /// Runs code of the program that is no callback.
    fn as_program<R>(&mut self, run: impl FnOnce(&mut Self) -> R) -> R {
        self.scope = PanicScope::Program;
        let result = run(self);
        self.scope = PanicScope::Engine;
        result
    }

    // --- the shutdown ------------------------------------------------------------------------------------------------

    /// Stops the poller. At the end of this turn the connections that wait at its listeners are accepted, the listeners
    /// close, the bytes that have arrived for each socket are received and delivered, and the socket gets `shutdown`.
    /// Connections that other pollers have assigned to this one are still admitted, and get `shutdown` at once. Sockets
    /// that are open after the grace time are aborted; with a grace time of zero, nothing more is accepted. A shorter
    /// grace time replaces an earlier one.
    ///
    /// The handler's `stopping` is called at once.
    pub fn stop(&mut self, grace: Duration) {
        let until = self.io.now + grace;
        match &mut self.phase {
            Phase::Running => {
                // no connect begins any more, and reserved slots would count as sockets in use
                self.io.release_reserved(&mut self.shard);
                self.shard.begin_stop();
                let turns = if grace.is_zero() { 0 } else { LAST_ACCEPTS };
                if turns == 0 {
                    self.shard.stop();
                }
                self.phase = Phase::Accepting { deadline: until, turns };
                self.io.alarm = Instant::from_millis(0);
                self.announce();
            }
            Phase::Accepting { deadline, .. }
            | Phase::Stopping { deadline, .. }
            | Phase::Closing { deadline } => *deadline = until.min(*deadline),
            Phase::Aborting { .. } | Phase::Over => {}
        }
    }

    /// Returns whether the poller has been stopped, no socket is left, and nothing more will arrive from other threads.
    #[inline]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Refuses everything from other threads from now on, even if there are sockets. Returns whether nothing is left of
    /// what they have sent before. If something is, a push is in progress: call this again.
    ///
    /// The shutdown of a poller includes this. A driver calls it for a poller that has failed and takes no more turns.
    #[must_use]
    pub fn close_mailboxes(&mut self) -> bool {
        self.empty_mailboxes(false)
    }

    /// Closes the mailboxes and refuses what is in them, like [`close_mailboxes`](Self::close_mailboxes). If `admits`,
    /// connections that were assigned to this poller are admitted, unless the shard refuses because sockets have been
    /// aborted.
    fn empty_mailboxes(&mut self, admits: bool) -> bool {
        // first, so that no push follows the last read
        self.io.membership.close();
        while let Some(command) = self.io.membership.next_command() {
            match command {
                Command::Assign(assigned) if admits => self.take_over(assigned),
                refused @ (Command::Assign(_)
                | Command::Connect { .. }
                | Command::Listen { .. }
                | Command::CloseListener { .. }
                | Command::CloseSocket { .. }
                | Command::Evict
                | Command::AskRoom { .. }
                | Command::Stop { .. }) => self.refuse(refused),
            }
        }
        // those kept from before, and those refused just now
        let _ = self.io.membership.answer_askers();
        while let Some(envelope) = self.io.membership.next_envelope() {
            self.as_program(|_| drop(envelope));
        }
        self.io.membership.is_finished()
    }

    /// Admits a connection that was assigned to this poller. If no socket was left, the shutdown waits for it.
    fn take_over(&mut self, assigned: AssignedSocket<T::Unregistered, L::Permit>) {
        // before `admit`, which announces the shutdown to the socket in this phase
        if let Phase::Closing { deadline } = self.phase {
            self.phase = Phase::Stopping { deadline, announce_from: None };
        }
        self.admit(assigned);
    }

    fn refuse(&mut self, command: Command<T::Unregistered, T::Listener, L::Permit>) {
        match command {
            Command::Assign(assigned) => self.io.transport.reject(assigned.connection),
            Command::Listen { listener, id } => self.io.transport.close_listener(listener, id, false),
            Command::AskRoom { asker } => self.io.membership.keep_asker(asker),
            Command::Connect { .. }
            | Command::CloseListener { .. }
            | Command::CloseSocket { .. }
            | Command::Evict
            | Command::Stop { .. } => {}
        }
    }

    /// Returns whether the shutdown continues in the next turn, without waiting for an event or the end of the grace
    /// time.
    #[cold]
    fn ends_further(&self) -> bool {
        match self.phase {
            Phase::Accepting { .. }
            | Phase::Stopping { announce_from: Some(_), .. }
            | Phase::Closing { .. } => true,
            Phase::Stopping { .. } | Phase::Aborting { .. } => self.shard.in_use() == 0,
            Phase::Running | Phase::Over => false,
        }
    }

    /// Continues the shutdown, as far as possible in this turn.
    #[cold]
    fn end(&mut self) {
        self.accept_last();
        while let Phase::Stopping { deadline, announce_from: Some(from) } = self.phase {
            let next = self.shard.next_in_use(from);
            // before the callback, which may panic: the loop then continues with the next socket
            self.phase = Phase::Stopping { deadline, announce_from: next.map(|token| token.index() + 1) };
            if let Some(token) = next {
                self.announce_to(token);
            }
        }
        if let Phase::Stopping { deadline, .. } = self.phase {
            let is_late = self.io.now >= deadline;
            // commands in the mailbox are not refused yet: the next turn reads them, and delivers messages, as usual
            let waits = !is_late && self.io.membership.has_command();
            if self.shard.in_use() == 0 && !waits {
                self.phase = Phase::Closing { deadline };
            } else if is_late {
                self.shard.stop();
                self.phase = Phase::Aborting { from: 0 };
            }
        }
        while let Phase::Aborting { from } = self.phase
            && let Some(token) = self.shard.next_in_use(from)
        {
            self.phase = Phase::Aborting { from: token.index() + 1 };
            let state = self.shard.connection(token).map(|mut conn| conn.state());
            let unfinished =
                |state: State| state.is_live() || matches!(state, State::Draining | State::PreLinger);
            self.aborted += u64::from(state.is_some_and(unfinished));
            self.tell(token, |conn| conn.abort_with(CloseReason::Shutdown));
        }
        if let Phase::Aborting { .. } = self.phase
            && self.shard.in_use() == 0
        {
            self.phase = Phase::Closing { deadline: self.io.now };
        }
        // checked twice: a late connection in the mailbox leads back to `Stopping`
        if let Phase::Closing { .. } = self.phase
            && self.empty_mailboxes(true)
            && let Phase::Closing { .. } = self.phase
        {
            self.shard.stop();
            self.phase = Phase::Over;
        }
    }

    /// Accepts the connections that wait at the listeners and closes the listeners. Each closes as soon as nothing is
    /// left at it, because a connection that arrives between the last accept and the close is lost.
    fn accept_last(&mut self) {
        let Phase::Accepting { deadline, turns } = self.phase else { return };
        // counted first, since a filter may panic
        self.phase = Phase::Accepting { deadline, turns: turns.saturating_sub(1) };
        self.admit_assigned(); // makes room for the connection that was held back
        let placed = turns > 0 && self.acceptor.held.take().is_none_or(|accepted| self.place(accepted));
        if placed {
            self.acceptor.watch_all(&mut self.io.transport, self.io.now);
        }
        while placed && let Some(id) = self.acceptor.first() {
            if self.accept(id) && turns > 1 {
                return self.admit_assigned(); // this listener may have more, for another turn
            }
            self.acceptor.close(id, &mut self.io.transport);
        }
        self.acceptor.close_all(&mut self.io.transport);
        self.phase = Phase::Stopping { deadline, announce_from: Some(0) };
        self.admit_assigned();
    }

    /// Delivers `shutdown` to a socket, after the bytes that have arrived.
    fn announce_to(&mut self, token: Token) {
        for _ in 0..LAST_LOOKS {
            if !self.look(token) {
                break;
            }
        }
        if self.shard.next_in_use(token.index()) == Some(token) {
            self.tell(token, |conn| conn.shutdown());
        }
    }

    /// Receives once from a socket without a report that it is readable. Returns whether there may be more.
    fn look(&mut self, token: Token) -> bool {
        if self.shard.next_in_use(token.index()) != Some(token) {
            return false;
        }
        let Some(mut conn) = self.shard.connection(token) else { return false };
        let asks = !self.io.transport.completes() && conn.state().is_live();
        let room = if asks { conn.room().min(self.buffer.len()) } else { 0 };
        let Some(buffer) = self.buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return false;
        };
        let Some((transport, connection)) = self.io.connection(token) else { return false };
        let mut bytes: &mut [u8] = &mut [];
        match transport.receive(connection, token, buffer) {
            Received::Bytes(n) => bytes = buffer.get_mut(..n).unwrap_or_default(),
            Received::WouldBlock => return false,
            Received::End => conn.peer_ended(),
            Received::Failed(kind) => conn.failed(kind),
        }
        let more = bytes.len() == room; // a shorter receive has probably taken everything
        self.scope = PanicScope::Callback(token);
        let settled = conn.receive(bytes, &mut self.handler, &mut self.io.calls(token));
        self.settle(token, settled);
        more
    }

    // --- panics ------------------------------------------------------------------------------------------------------

    /// Withdraws the interest in reading after a panic, from which [`on_received`](Self::on_received) could not return how
    /// much was taken. A socket that still sends its last output then requests, and discards, all of it. No callback
    /// runs.
    fn forget_reading(&mut self, token: Token) {
        let Some(entry) = self.io.connections.get_mut(token.index()) else { return };
        let Some(connection) = entry.connection.as_mut().filter(|_| entry.interest.reads()) else { return };
        let interest = entry.interest.without(Interest::READ);
        match self.io.transport.modify(connection, token, entry.interest, interest) {
            Ok(()) => entry.interest = interest,
            Err(kind) => {
                self.unwatchable += 1;
                if let Some(mut conn) = self.shard.connection(token) {
                    conn.failed(kind);
                }
            }
        }
    }

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
