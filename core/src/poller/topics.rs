//! The subscriptions of a poller's sockets: which of them get a published message.
//!
//! A subscription is in two lists: that of its topic, in the order in which the subscriptions began, and that of its
//! socket. The first subscription of each topic is found by linear hashing (Litwin, VLDB 1980), with as many buckets as
//! the table has entries: each entry holds the head of the bucket that has its number. So the buckets grow with the
//! table, one at a time, and memory that was never used is not touched.

use core::mem::MaybeUninit;

use crate::table::Table;
use crate::{StorageError, SubscribeError, Token, Topic, TopicStats};

/// No subscription.
const NONE: u32 = u32::MAX;

/// A socket's subscription to a topic, in the memory lent to a poller.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    topic: Topic,
    socket: Token,
    /// The next subscription to the topic; of a free entry, the next free one.
    next: u32,
    /// The previous subscription to the topic; of the first one, the last.
    previous: u32,
    /// The next subscription of the socket.
    of_socket: u32,
    /// The first topic in the bucket that has the number of this entry.
    bucket: u32,
    /// Of the first subscription to a topic: the next topic in the bucket.
    chain: u32,
    /// Of the first subscription to a topic: their number.
    members: u32,
}

static_assertions::const_assert!(size_of::<Subscription>() <= 40);

/// The memory for the subscriptions of a poller's sockets.
///
/// ```
/// use core::mem::MaybeUninit;
/// use lightcone_core::poller::TopicStorage;
///
/// let mut subscriptions = [const { MaybeUninit::uninit() }; 32]; // `Config::subscriptions`
/// let mut sockets = [const { MaybeUninit::uninit() }; 16]; // `Config::sockets`
/// let storage = TopicStorage::new(&mut subscriptions, &mut sockets);
/// # drop(storage);
/// ```
#[derive(Debug, Default)]
pub struct TopicStorage<'s> {
    subscriptions: &'s mut [MaybeUninit<Subscription>],
    sockets: &'s mut [MaybeUninit<u32>],
}

impl<'s> TopicStorage<'s> {
    /// Lends an entry of 40 bytes for each subscription, as many as [`Config::subscriptions`](crate::Config) allows,
    /// and one of 4 bytes for each socket.
    pub const fn new(
        subscriptions: &'s mut [MaybeUninit<Subscription>],
        sockets: &'s mut [MaybeUninit<u32>],
    ) -> Self {
        Self { subscriptions, sockets }
    }

    /// Lends nothing, for a configuration without subscriptions.
    #[must_use]
    pub const fn none() -> Self {
        Self { subscriptions: &mut [], sockets: &mut [] }
    }

    /// Returns the number of bytes for this many subscriptions of this many sockets.
    #[must_use]
    pub const fn bytes(subscriptions: usize, sockets: usize) -> usize {
        if subscriptions == 0 {
            return 0;
        }
        let heads = size_of::<u32>().saturating_mul(sockets);
        size_of::<Subscription>().saturating_mul(subscriptions).saturating_add(heads)
    }
}

/// The subscriptions of one poller's sockets.
pub(crate) struct TopicTable<'s> {
    entries: Table<'s, Subscription>,
    /// The first subscription of the socket at each place.
    sockets: Table<'s, u32>,
    capacity: usize,
    /// Without it, a client that chooses the numbers of topics could put all of them into one bucket.
    key: u64,
    free: u32,
    /// The rest of the walk over the subscriptions to a topic: the next one, and the last one.
    walk: (u32, u32),
    pub(crate) stats: TopicStats,
}

impl<'s> TopicTable<'s> {
    /// Creates an empty table for up to `capacity` subscriptions of `sockets` sockets.
    /// `seed` distributes the topics over the buckets in an order that a peer does not know.
    pub(crate) fn new(
        storage: TopicStorage<'s>,
        capacity: usize,
        sockets: usize,
        seed: u32,
    ) -> Result<Self, StorageError> {
        if capacity > 0 {
            let (subscriptions, heads) = (storage.subscriptions.len(), storage.sockets.len());
            StorageError::check("TopicStorage::subscriptions", subscriptions, capacity)?;
            StorageError::check("TopicStorage::sockets", heads, sockets)?;
        }
        Ok(Self {
            entries: Table::new(storage.subscriptions),
            sockets: Table::new(storage.sockets),
            capacity,
            key: crate::sync::mix(seed.into()),
            free: NONE,
            walk: (NONE, NONE),
            stats: TopicStats::default(),
        })
    }

    /// Returns whether there can be subscriptions.
    pub(crate) const fn is_supported(&self) -> bool {
        self.capacity > 0
    }

    /// Subscribes a socket that has not ended, at the end of the list of the topic, unless it is subscribed.
    pub(crate) fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        let mut count = 0;
        let mut at = self.first_of(socket);
        while let Some(entry) = self.entries.get(at) {
            if entry.topic == topic {
                return Ok(());
            }
            (at, count) = (entry.of_socket, count + 1);
        }
        if count == crate::SUBSCRIPTIONS_MAX {
            return Err(SubscribeError::SocketFull);
        }
        let place = self.take_place().ok_or(SubscribeError::Full)?;
        self.set(place, |entry| (entry.topic, entry.socket) = (topic, socket));
        self.append(place, topic);
        let first = self.first_of(socket);
        self.set(place, |entry| entry.of_socket = first);
        self.set_first_of(socket, place);
        self.stats.subscribed += 1;
        Ok(())
    }

    /// Ends the subscription of a socket to a topic. Returns whether there was one.
    pub(crate) fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        let (mut before, mut at) = (NONE, self.first_of(socket));
        while let Some(entry) = self.entries.get(at).copied() {
            if entry.socket != socket {
                return false; // the token is stale, and another socket is at its place
            }
            if entry.topic == topic {
                match before {
                    NONE => self.set_first_of(socket, entry.of_socket),
                    before => self.set(before, |other| other.of_socket = entry.of_socket),
                }
                self.remove(at);
                return true;
            }
            (before, at) = (at, entry.of_socket);
        }
        false
    }

    /// Ends all subscriptions of a socket, at most [`SUBSCRIPTIONS_MAX`](crate::SUBSCRIPTIONS_MAX). Returns how many.
    #[inline]
    pub(crate) fn end(&mut self, socket: Token) -> usize {
        if self.sockets.used() == 0 { 0 } else { self.end_all(socket) }
    }

    #[inline(never)]
    fn end_all(&mut self, socket: Token) -> usize {
        let mut count = 0;
        let mut at = self.first_of(socket);
        while let Some(entry) = self.entries.get(at).copied().filter(|entry| entry.socket == socket) {
            self.set_first_of(socket, entry.of_socket);
            self.remove(at);
            (at, count) = (entry.of_socket, count + 1);
        }
        count
    }

    /// Returns the number of subscriptions to a topic.
    pub(crate) fn members(&self, topic: Topic) -> usize {
        self.entries.get(self.find(topic)).map_or(0, |first| first.members as usize)
    }

    /// Begins to walk over those that are subscribed to a topic now. Those that begin meanwhile are not reached.
    pub(crate) fn begin_walk(&mut self, topic: Topic) {
        let first = self.find(topic);
        self.walk = (first, self.entries.get(first).map_or(NONE, |entry| entry.previous));
    }

    /// Returns the next socket of the walk.
    pub(crate) fn next_in_walk(&mut self) -> Option<Token> {
        let (at, last) = self.walk;
        let entry = self.entries.get(at)?;
        self.walk.0 = if at == last { NONE } else { entry.next };
        Some(entry.socket)
    }

    // --- places ------------------------------------------------------------------------------------------------------

    fn set(&mut self, at: u32, change: impl FnOnce(&mut Subscription)) {
        if let Some(entry) = self.entries.get_mut(at) {
            change(entry);
        }
    }

    /// Takes a free entry. Its bucket stays as it is.
    fn take_place(&mut self) -> Option<u32> {
        if let Some(entry) = self.entries.get(self.free) {
            return Some(core::mem::replace(&mut self.free, entry.next));
        }
        let place = self.used();
        if place as usize >= self.capacity {
            return None;
        }
        let entry = Subscription {
            topic: Topic(0),
            socket: Token::from_bits(0),
            next: NONE,
            previous: NONE,
            of_socket: NONE,
            bucket: NONE,
            chain: NONE,
            members: 0,
        };
        self.entries.push(entry).ok()?;
        self.split(place);
        Some(place)
    }

    /// Returns the number of entries that were ever used, which is also that of buckets.
    #[expect(clippy::cast_possible_truncation, reason = "`Config::check` limits the number of subscriptions")]
    fn used(&self) -> u32 {
        self.entries.used() as u32
    }

    /// Returns the first subscription of the socket at the place of a token.
    fn first_of(&self, socket: Token) -> u32 {
        self.sockets.get(socket.index()).copied().unwrap_or(NONE)
    }

    fn set_first_of(&mut self, socket: Token, first: u32) {
        // the table grows from the front, and places may be filled out of order
        while self.sockets.used() <= socket.index() as usize && self.sockets.push(NONE).is_ok() {}
        if let Some(place) = self.sockets.get_mut(socket.index()) {
            *place = first;
        }
    }

    // --- buckets -----------------------------------------------------------------------------------------------------

    /// Returns the bucket of a topic.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of a hash")]
    fn bucket_of(&self, topic: Topic) -> u32 {
        let buckets = self.used();
        let hash = crate::sync::mix(topic.0 ^ self.key) as u32;
        let high = buckets.next_power_of_two();
        match hash & (high - 1) {
            bucket if bucket < buckets => bucket,
            bucket => bucket & (high / 2).saturating_sub(1), // it has not been split off yet
        }
    }

    /// Returns the first subscription to a topic, or `NONE`.
    fn find(&self, topic: Topic) -> u32 {
        let mut at = self.entries.get(self.bucket_of(topic)).map_or(NONE, |entry| entry.bucket);
        while let Some(entry) = self.entries.get(at) {
            if entry.topic == topic {
                break;
            }
            at = entry.chain;
        }
        at
    }

    /// Moves topics into the new bucket from the one that they were in, the only one that they can be in.
    fn split(&mut self, new: u32) {
        let Some(from) = new.checked_sub((new + 1).next_power_of_two() / 2) else { return };
        let mut at = self.entries.get(from).map_or(NONE, |entry| entry.bucket);
        self.set(from, |entry| entry.bucket = NONE);
        while let Some(Subscription { topic, chain, .. }) = self.entries.get(at).copied() {
            self.link(at, topic);
            at = chain;
        }
    }

    /// Puts the first subscription to a topic into its bucket.
    fn link(&mut self, first: u32, topic: Topic) {
        let bucket = self.bucket_of(topic);
        let chain = self.entries.get(bucket).map_or(NONE, |entry| entry.bucket);
        self.set(first, |entry| entry.chain = chain);
        self.set(bucket, |entry| entry.bucket = first);
    }

    /// Puts `new`, or what follows in the bucket, into the place of the first subscription to a topic.
    fn replace(&mut self, first: u32, topic: Topic, new: u32) {
        let bucket = self.bucket_of(topic);
        let mut at = self.entries.get(bucket).map_or(NONE, |entry| entry.bucket);
        if at == first {
            return self.set(bucket, |entry| entry.bucket = new);
        }
        while let Some(Subscription { chain, .. }) = self.entries.get(at).copied() {
            if chain == first {
                return self.set(at, |entry| entry.chain = new);
            }
            at = chain;
        }
    }

    // --- the list of a topic -----------------------------------------------------------------------------------------

    fn append(&mut self, place: u32, topic: Topic) {
        let first = self.find(topic);
        let Some(Subscription { previous: last, .. }) = self.entries.get(first).copied() else {
            self.set(place, |entry| (entry.next, entry.previous, entry.members) = (NONE, place, 1));
            return self.link(place, topic);
        };
        self.set(first, |entry| (entry.previous, entry.members) = (place, entry.members + 1));
        self.set(last, |entry| entry.next = place);
        self.set(place, |entry| (entry.next, entry.previous) = (NONE, last));
    }

    /// Removes a subscription, which is not in the list of its socket any more. The walk continues after it.
    fn remove(&mut self, place: u32) {
        let Some(entry) = self.entries.get(place).copied() else { return };
        let Subscription { topic, next, previous, chain, members, .. } = entry;
        match self.walk {
            (at, last) if at == place => self.walk.0 = if at == last { NONE } else { next },
            (_, last) if last == place => self.walk.1 = previous,
            _ => {}
        }
        let first = self.find(topic);
        if first != place {
            self.set(previous, |entry| entry.next = next);
            // the first one knows the last
            let after = if next == NONE { first } else { next };
            self.set(after, |entry| entry.previous = previous);
            self.set(first, |entry| entry.members -= 1);
        } else if next == NONE {
            self.replace(place, topic, chain);
        } else {
            self.set(next, |entry| (entry.chain, entry.members) = (chain, members - 1));
            // with two of them, the other one is the last
            self.set(next, |entry| entry.previous = previous);
            self.replace(place, topic, next);
        }
        let free = self.free;
        self.set(place, |entry| entry.next = free);
        self.free = place;
        self.stats.unsubscribed += 1;
    }
}

#[cfg(test)]
mod tests;
