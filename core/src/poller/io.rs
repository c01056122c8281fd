//! The connections of a poller, and what its handlers reach through their context.

use core::mem::MaybeUninit;

use heapless::{Deque, Vec};

use crate::table::Table;
use crate::{
    Address, Calls, ConnectError, Context, ContextCalls, ErrorKind, Instant, Interest, Lag, LagCounter,
    Outbox, PollerId, Rejected, RoomError, Sent, Shard, SubscribeError, TimerError, TimerId, Timers, Token,
    Topic, Unpublished,
};

use super::membership::Membership;
use super::room::{RoomQueue, RoomRequest};
use super::topics::TopicTable;
use super::transport::Transport;

/// A poller's state of one connection, in the memory lent to it.
#[derive(Debug)]
pub struct ConnectionEntry<R> {
    pub(crate) connection: Option<R>,
    pub(crate) interest: Interest,
    /// The low bytes of the token's generation, because handlers may pass a token whose socket has ended.
    generation: [u8; 3],
}

static_assertions::const_assert_eq!(size_of::<ConnectionEntry<core::num::NonZeroU32>>(), 8);

impl<R> ConnectionEntry<R> {
    const EMPTY: Self = Self { connection: None, interest: Interest::NONE, generation: [0; 3] };

    const fn belongs_to(&self, token: Token) -> bool {
        let ([a, b, c], [x, y, z]) = (self.generation, low_bytes(token));
        a == x && b == y && c == z
    }
}

const fn low_bytes(token: Token) -> [u8; 3] {
    let [a, b, c, _] = token.generation().to_le_bytes();
    [a, b, c]
}

/// Returns whether the socket of a token, which may be stale, has not ended.
fn lives<R>(connections: &Table<'_, ConnectionEntry<R>>, token: Token) -> bool {
    let entry = connections.get(token.index());
    entry.is_some_and(|entry| entry.belongs_to(token) && entry.connection.is_some())
}

/// A connect that a handler has requested.
#[derive(Debug)]
pub(crate) struct PendingConnect<P> {
    pub(crate) token: Token,
    pub(crate) to: Address,
    pub(crate) tag: u64,
    pub(crate) permit: P,
}

/// An alarm that is not set.
pub(crate) const NEVER: Instant = Instant::from_millis(u64::MAX);

/// The parts of a poller that callbacks reach: the transport, the membership, the connections and the timers.
pub(crate) struct Io<'s, T: Transport, L, P, const BATCH: usize> {
    me: PollerId,
    pub(crate) now: Instant,
    pub(crate) unix_time: Option<u64>,
    pub(crate) transport: T,
    pub(crate) membership: L,
    pub(crate) connections: Table<'s, ConnectionEntry<T::Registered>>,
    /// Slots that are reserved in advance, so that `connect` returns a token at once.
    reserved: Vec<Token, BATCH>,
    pub(crate) pending_connects: Deque<PendingConnect<P>, BATCH>,
    pub(crate) timers: Timers<'s>,
    pub(crate) rooms: RoomQueue<'s>,
    pub(crate) topics: TopicTable<'s>,
    /// When the poller next has to do what most turns do not: the time of a timer, or a time in the past while the
    /// poller starts or stops, or while it or another one waits for room in a mailbox. So one comparison covers all of
    /// that.
    pub(crate) alarm: Instant,
}

impl<'s, T: Transport, L, P, const BATCH: usize> Io<'s, T, L, P, BATCH> {
    pub(crate) fn new(
        me: PollerId,
        now: Instant,
        (transport, membership): (T, L),
        connections: &'s mut [MaybeUninit<ConnectionEntry<T::Registered>>],
        timers: Timers<'s>,
        (rooms, topics): (RoomQueue<'s>, TopicTable<'s>),
    ) -> Self {
        Self {
            me,
            now,
            unix_time: None,
            transport,
            membership,
            connections: Table::new(connections),
            reserved: Vec::new(),
            pending_connects: Deque::new(),
            timers,
            rooms,
            topics,
            alarm: Instant::from_millis(0),
        }
    }

    #[inline]
    pub(crate) fn interest(&self, token: Token) -> Option<Interest> {
        self.connections.get(token.index()).map(|entry| entry.interest)
    }

    /// Returns the transport, and the connection of a token whose socket has not ended.
    #[inline]
    pub(crate) fn connection(&mut self, token: Token) -> Option<(&mut T, &mut T::Registered)> {
        let entry = self.connections.get_mut(token.index())?;
        Some((&mut self.transport, entry.connection.as_mut()?))
    }

    /// Like [`connection`](Self::connection), for a token that may be stale.
    pub(crate) fn connection_of(&mut self, token: Token) -> Option<(&mut T, &mut T::Registered)> {
        let entry = self.connections.get_mut(token.index())?;
        if token.poller() != self.me || !entry.belongs_to(token) {
            return None;
        }
        Some((&mut self.transport, entry.connection.as_mut()?))
    }

    /// Returns whether a socket of this poller has not ended.
    fn lives(&self, token: Token) -> bool {
        lives(&self.connections, token)
    }

    /// Stores a connection at the place of its token.
    pub(crate) fn insert(&mut self, token: Token, connection: Option<T::Registered>, interest: Interest) {
        let index = token.index();
        // the table grows from the front, and places may be filled out of order
        while self.connections.used() <= index as usize {
            let pushed = self.connections.push(ConnectionEntry::EMPTY);
            assert!(pushed.is_ok(), "`Poller::new` checks that each slot has a place here");
        }
        let Some(entry) = self.connections.get_mut(index) else { unreachable!("the table has grown to it") };
        *entry = ConnectionEntry { connection, interest, generation: low_bytes(token) };
    }

    /// Reserves slots until `BATCH` are either reserved or taken by connects that have yet to begin. If no slot was
    /// used since the last call, this is one comparison.
    #[inline]
    pub(crate) fn reserve<D>(&mut self, shard: &mut Shard<'_, D>) {
        if T::CONNECTS && self.lacks_slots() {
            self.reserve_all(shard);
        }
    }

    #[inline]
    fn lacks_slots(&self) -> bool {
        self.reserved.len() + self.pending_connects.len() < BATCH
    }

    #[cold]
    fn reserve_all<D>(&mut self, shard: &mut Shard<'_, D>) {
        while self.lacks_slots()
            && let Some(token) = shard.reserve()
        {
            let _ = self.reserved.push(token); // not full, as `lacks_slots` says
        }
    }

    /// Releases the reserved slots, and the slots and permits of connects that have not begun.
    pub(crate) fn release_reserved<D>(&mut self, shard: &mut Shard<'_, D>) {
        while let Some(token) = self.reserved.pop() {
            shard.release_slot(token);
        }
        while let Some(connect) = self.pending_connects.pop_front() {
            shard.release_slot(connect.token);
        }
    }

    pub(crate) fn connect<M>(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError>
    where
        L: Membership<T::Unregistered, T::Listener, M, Permit = P>,
    {
        if !T::CONNECTS {
            return Err(ConnectError::Unsupported);
        }
        // the permit comes first, because it is released by its drop if there is no slot
        let permit = self.membership.acquire().ok_or(ConnectError::Full)?;
        let token = self.reserved.pop().ok_or(ConnectError::Full)?;
        // not full: reserved slots and pending connects are at most `BATCH` together
        let _ = self.pending_connects.push_back(PendingConnect { token, to, tag, permit });
        Ok(token)
    }
}

impl<'s, T: Transport, L, P, const BATCH: usize> Io<'s, T, L, P, BATCH> {
    /// Creates the context of a callback.
    #[inline]
    pub(crate) fn context<M>(&mut self) -> Context<'_, M>
    where
        Self: Outbox<M>,
    {
        Context::new(self.now, self.unix_time, self.me, self)
    }

    /// Returns the calls of one socket's connection.
    #[inline]
    pub(crate) fn calls(&mut self, token: Token) -> ConnectionCalls<'_, 's, T, L, P, BATCH> {
        ConnectionCalls { io: self, token }
    }
}

impl<T, L, M, const BATCH: usize> Outbox<M> for Io<'_, T, L, L::Permit, BATCH>
where
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, M>,
{
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.membership.post(to, message)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.membership.broadcast(message, clone)
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        Io::connect(self, to, tag)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.membership.publish(message)
    }

    fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        if !self.topics.is_supported() {
            return Err(SubscribeError::Unsupported);
        }
        if socket.poller() != self.me || !self.lives(socket) {
            return Err(SubscribeError::Gone);
        }
        self.topics.subscribe(topic, socket)
    }

    fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        socket.poller() == self.me && self.topics.unsubscribe(topic, socket)
    }

    fn unsubscribe_all(&mut self, socket: Token) -> usize {
        if socket.poller() == self.me { self.topics.end(socket) } else { 0 }
    }

    fn subscribers(&self, topic: Topic) -> usize {
        self.topics.members(topic)
    }

    fn count_lag(&mut self, lag: Lag) {
        self.topics.stats.count_lag(lag);
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        let entry = self.connections.get(token.index())?;
        if token.poller() != self.me || !entry.belongs_to(token) {
            return None;
        }
        self.transport.local_address(entry.connection.as_ref()?)
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        let timer = self.timers.set(self.now, at, tag)?;
        self.alarm = self.alarm.min(Timers::due(self.now, at));
        Ok(timer)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.timers.cancel(timer)
    }

    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        if socket.is_some_and(|token| token.poller() != self.me) {
            return Err(RoomError::Unsupported);
        }
        let lives = |token: Token| lives(&self.connections, token);
        self.rooms.push(RoomRequest { at, socket }, self.now, lives)?;
        self.alarm = Instant::from_millis(0);
        Ok(())
    }
}

/// The calls of one connection. A socket whose connection could not be opened or watched has none, and behaves as if
/// its connection were broken.
pub(crate) struct ConnectionCalls<'a, 's, T: Transport, L, P, const BATCH: usize> {
    io: &'a mut Io<'s, T, L, P, BATCH>,
    token: Token,
}

impl<T: Transport, L, P, const BATCH: usize> Calls for ConnectionCalls<'_, '_, T, L, P, BATCH> {
    #[inline(always)]
    fn send(&mut self, bytes: &[u8]) -> Sent {
        match self.io.connection(self.token) {
            Some((transport, connection)) => transport.send(connection, self.token, bytes),
            None => Sent::Failed(ErrorKind::Other),
        }
    }

    fn send_vectored(&mut self, pieces: &[&[u8]]) -> Sent {
        match self.io.connection(self.token) {
            Some((transport, connection)) => transport.send_vectored(connection, self.token, pieces),
            None => Sent::Failed(ErrorKind::Other),
        }
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        let Some((transport, connection)) = self.io.connection(self.token) else {
            return Err(ErrorKind::Other);
        };
        transport.shutdown_write(connection, self.token)
    }

    fn cancel_send(&mut self) -> Option<usize> {
        let Some((transport, connection)) = self.io.connection(self.token) else { return Some(0) };
        transport.cancel_send(connection, self.token)
    }
}

impl<'s, T, L, P, M, const BATCH: usize> ContextCalls<M> for ConnectionCalls<'_, 's, T, L, P, BATCH>
where
    T: Transport,
    Io<'s, T, L, P, BATCH>: Outbox<M>,
{
    #[inline]
    fn context(&mut self) -> Context<'_, M> {
        self.io.context()
    }
}
