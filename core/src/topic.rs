//! Topics: what messages are published to, and what is counted of slow subscribers.

use core::fmt;

use crate::token::PollerId;

/// What messages are published to: a number that the program chooses, such as that of a chat room.
///
/// A topic exists as long as sockets are [subscribed](crate::Context::subscribe) to it, and needs no memory otherwise.
/// If clients choose the names of topics, keep a table from names to numbers: a hash that clients can compute lets them
/// find a name with the number of another topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Topic(pub u64);

/// Formats as the number.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message for the subscribers of a topic that has not been posted to every poller.
///
/// [`Context::publish`](crate::Context::publish) returns it if a mailbox is full;
/// [`Context::publish_rest`](crate::Context::publish_rest) posts it to that poller and to those after it. So no
/// subscriber gets the message twice, and none misses it.
pub struct Unpublished<M> {
    pub(crate) topic: Topic,
    pub(crate) message: M,
    pub(crate) clone: fn(&M) -> M,
    pub(crate) from: PollerId,
}

impl<M> Unpublished<M> {
    /// Creates a message that no poller has. `clone` makes the copies for the pollers.
    pub const fn new(topic: Topic, message: M, clone: fn(&M) -> M) -> Self {
        Self { topic, message, clone, from: PollerId(0) }
    }

    /// Returns the topic.
    pub const fn topic(&self) -> Topic {
        self.topic
    }

    /// Returns the first poller that does not have the message. After [`Rejected::Full`](crate::Rejected), it is the
    /// one whose mailbox is full: the argument of [`Context::request_room`](crate::Context::request_room).
    pub const fn poller(&self) -> PollerId {
        self.from
    }

    /// Sets the first poller that does not have the message, for an [`Outbox`](crate::Outbox).
    pub const fn set_poller(&mut self, poller: PollerId) {
        self.from = poller;
    }

    /// Returns the message and the function that copies it.
    pub const fn message(&self) -> (&M, fn(&M) -> M) {
        (&self.message, self.clone)
    }

    /// Returns the message. The pollers that have it still deliver it.
    pub fn into_message(self) -> M {
        self.message
    }

    /// Converts the message, for an [`Outbox`](crate::Outbox) over another one.
    pub fn map<N>(self, convert: impl FnOnce(M) -> N, clone: fn(&N) -> N) -> Unpublished<N> {
        Unpublished { topic: self.topic, message: convert(self.message), clone, from: self.from }
    }
}

impl<M> fmt::Debug for Unpublished<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpublished")
            .field("topic", &self.topic)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// The reason why a socket was not [subscribed](crate::Context::subscribe).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SubscribeError {
    /// The sockets of the poller have as many subscriptions as [`Config::subscriptions`](crate::Config) allows.
    Full,
    /// The socket has [`SUBSCRIPTIONS_MAX`] subscriptions.
    SocketFull,
    /// The socket has ended, or its connection could not be watched so that it is about to end, or it is one of another
    /// poller.
    Gone,
    /// The callback does not run on a poller with subscriptions: [`Config::subscriptions`](crate::Config) is 0, or it
    /// runs on a worker.
    Unsupported,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the poller has as many subscriptions as it can keep"),
            Self::SocketFull => write!(f, "the socket has {SUBSCRIPTIONS_MAX} subscriptions, the maximum"),
            Self::Gone => f.write_str("the socket has ended, or it is one of another poller"),
            Self::Unsupported => f.write_str("subscriptions are not possible here"),
        }
    }
}

impl core::error::Error for SubscribeError {}

/// The maximum number of topics to which one socket can be subscribed at the same time.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// What a [`Backlog`](crate::Backlog) has done because its subscriber takes messages more slowly than they come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Lag {
    /// The oldest message that waited was dropped.
    Dropped,
    /// A message that waited was replaced by a newer one.
    Replaced,
    /// The subscriber is to be disconnected.
    Disconnected,
}

/// Counts what slow subscribers miss, in the [statistics](TopicStats) of the poller.
///
/// [`Context`](crate::Context) and the corresponding types of the protocols over it implement it, and [`TopicStats`],
/// for tests.
pub trait LagCounter {
    /// Counts one case.
    fn count_lag(&mut self, lag: Lag);
}

/// Counters of a poller's topics since it was built. They wrap at 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct TopicStats {
    /// Subscriptions that began.
    pub subscribed: u64,
    /// Subscriptions that ended, most of them with their socket.
    pub unsubscribed: u64,
    /// Published messages that the poller has taken from its mailbox. Each poller counts each message.
    pub published: u64,
    /// Published messages that were delivered to a subscriber: its `message` was called.
    pub delivered: u64,
    /// Messages that a [`Backlog`](crate::Backlog) has dropped because newer ones came.
    pub dropped: u64,
    /// Messages that a [`Backlog`](crate::Backlog) has replaced by newer ones.
    pub replaced: u64,
    /// Subscribers that were to be disconnected because they were too slow.
    pub disconnected: u64,
}

impl TopicStats {
    /// Returns the number of subscriptions that exist.
    #[must_use]
    pub const fn subscriptions(&self) -> u64 {
        self.subscribed.wrapping_sub(self.unsubscribed)
    }
}

impl LagCounter for TopicStats {
    fn count_lag(&mut self, lag: Lag) {
        let count = match lag {
            Lag::Dropped => &mut self.dropped,
            Lag::Replaced => &mut self.replaced,
            Lag::Disconnected => &mut self.disconnected,
        };
        *count = count.wrapping_add(1);
    }
}
