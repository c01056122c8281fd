//! The messages that wait for a subscriber whose output is full.

use core::fmt;

use heapless::Deque;

use crate::error::Full;
use crate::topic::{Lag, LagCounter};

/// What happens to a subscriber that takes messages more slowly than they come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LagPolicy {
    /// A message for which there is no place takes that of the oldest one. For a log, or a chat.
    DropOldest,
    /// A message replaces all that wait, so that at most one does. For a state, of which only the newest matters.
    KeepNewest,
    /// A message for which there is no place disconnects the subscriber. For a stream without gaps.
    Disconnect,
}

/// The subscriber is too slow, and its policy is [`LagPolicy::Disconnect`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooSlow;

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the subscriber takes messages too slowly")
    }
}

impl core::error::Error for TooSlow {}

/// Up to `N` messages that wait until the output of a subscriber has room.
///
/// It is a part of the user data of a socket. So a slow subscriber costs at most `N` messages in addition to its
/// output, and delays no one else. `message` [pushes](Self::push) and then [drains](Self::drain); `writable` drains.
/// The order of the messages is kept. What the [policy](LagPolicy) takes away is counted in
/// [`Stats::topics`](crate::Stats::topics), and for a notice to the subscriber in [`take_lost`](Self::take_lost).
///
/// ```
/// use lightcone_core::{
///     Address, Backlog, Context, Handler, LagPolicy, Origin, Rejected, Socket, Topic,
/// };
///
/// const NEWS: Topic = Topic(1);
///
/// /// Passes what any peer sends on to all peers.
/// struct News;
///
/// impl Handler for News {
///     type Data = Backlog<[u8; 8], 16>;
///     type Message = [u8; 8];
///
///     fn admit(&mut self, _: Origin, _: &Address) -> Option<Self::Data> {
///         Some(Backlog::new(LagPolicy::DropOldest))
///     }
///
///     fn open(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, [u8; 8]>) {
///         if cx.subscribe(NEWS, socket.token()).is_err() {
///             socket.close();
///         }
///     }
///
///     fn receive(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, [u8; 8]>) {
///         while let Some((news, _)) = socket.bytes().split_first_chunk::<8>() {
///             let _ = cx.publish(NEWS, *news); // lost if a mailbox is full
///             socket.consume(8);
///         }
///     }
///
///     fn message(
///         &mut self,
///         socket: &mut Socket<'_, Self::Data>,
///         news: [u8; 8],
///         cx: &mut Context<'_, [u8; 8]>,
///     ) {
///         if socket.data.push(news, cx).is_err() {
///             return socket.abort();
///         }
///         self.writable(socket, cx);
///     }
///
///     fn writable(&mut self, socket: &mut Socket<'_, Self::Data>, _: &mut Context<'_, [u8; 8]>) {
///         let (_, mut output, backlog) = socket.split();
///         backlog.drain(|news| output.send(news));
///     }
/// }
/// ```
pub struct Backlog<M, const N: usize> {
    waiting: Deque<M, N>,
    policy: LagPolicy,
    lost: u64,
    /// The subscriber was too slow: no message is taken any more.
    ended: bool,
}

impl<M, const N: usize> fmt::Debug for Backlog<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog")
            .field("waiting", &self.waiting.len())
            .field("of", &N)
            .field("policy", &self.policy)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl<M, const N: usize> Backlog<M, N> {
    /// Creates an empty backlog. `N` is at least 1.
    #[must_use]
    pub const fn new(policy: LagPolicy) -> Self {
        const { assert!(N > 0, "a backlog has room for at least one message") };
        Self { waiting: Deque::new(), policy, lost: 0, ended: false }
    }

    /// Appends a message, and counts what the policy takes away for it. [Drain](Self::drain) the backlog afterwards.
    ///
    /// # Errors
    ///
    /// [`TooSlow`] if the subscriber is to be disconnected. Nothing waits for it any more, and each further message is
    /// dropped with the same result, but not counted again.
    pub fn push(&mut self, message: M, counter: &mut impl LagCounter) -> Result<(), TooSlow> {
        if self.ended {
            return Err(TooSlow);
        }
        match self.policy {
            LagPolicy::DropOldest if self.waiting.is_full() => self.lose(Lag::Dropped, counter),
            LagPolicy::KeepNewest if !self.waiting.is_empty() => self.lose(Lag::Replaced, counter),
            LagPolicy::Disconnect if self.waiting.is_full() => {
                self.waiting.clear();
                self.ended = true;
                counter.count_lag(Lag::Disconnected);
                return Err(TooSlow);
            }
            LagPolicy::DropOldest | LagPolicy::KeepNewest | LagPolicy::Disconnect => {}
        }
        let _ = self.waiting.push_back(message); // there is a place now
        Ok(())
    }

    fn lose(&mut self, lag: Lag, counter: &mut impl LagCounter) {
        self.waiting.pop_front();
        self.lost += 1;
        counter.count_lag(lag);
    }

    /// Sends the messages that wait, the oldest first, until one finds no room. Returns whether none waits any more.
    ///
    /// `send` should be able to send each message once enough room is free: one that it can never send keeps the others
    /// waiting.
    ///
    /// Lost messages were older than those that wait: a notice of their [number](Self::take_lost) comes before these.
    pub fn drain(&mut self, mut send: impl FnMut(&M) -> Result<(), Full>) -> bool {
        while let Some(message) = self.waiting.front() {
            if send(message).is_err() {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    /// Returns how many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no message waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns how many messages were dropped or replaced since the last [`take_lost`](Self::take_lost).
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns how many messages were dropped or replaced since the last call, and counts from 0 again.
    pub const fn take_lost(&mut self) -> u64 {
        core::mem::replace(&mut self.lost, 0)
    }
}

#[cfg(test)]
mod tests {
    extern crate alloc;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::topic::TopicStats;

    /// Takes up to `room` messages.
    fn take(backlog: &mut Backlog<u32, 3>, mut room: usize) -> (Vec<u32>, bool) {
        let mut taken = Vec::new();
        let empty = backlog.drain(|message| {
            room = room.checked_sub(1).ok_or(Full)?;
            taken.push(*message);
            Ok(())
        });
        (taken, empty)
    }

    fn filled(policy: LagPolicy, messages: u32) -> (Backlog<u32, 3>, TopicStats, Vec<Result<(), TooSlow>>) {
        let (mut backlog, mut stats) = (Backlog::new(policy), TopicStats::default());
        let pushed = (1..=messages).map(|message| backlog.push(message, &mut stats)).collect();
        (backlog, stats, pushed)
    }

    #[test]
    fn messages_up_to_the_maximum_wait_in_their_order() {
        for policy in [LagPolicy::DropOldest, LagPolicy::Disconnect] {
            let (mut backlog, stats, pushed) = filled(policy, 3);
            assert_eq!((pushed, stats, backlog.len()), (vec![Ok(()); 3], TopicStats::default(), 3));
            assert_eq!(take(&mut backlog, 2), (vec![1, 2], false));
            assert_eq!(take(&mut backlog, 0), (vec![], false));
            assert_eq!(take(&mut backlog, 2), (vec![3], true));
            assert!(backlog.is_empty() && backlog.lost() == 0);
        }
    }

    #[test]
    fn one_more_than_the_maximum_drops_the_oldest() {
        let (mut backlog, stats, pushed) = filled(LagPolicy::DropOldest, 5);
        assert_eq!(pushed, [Ok(()); 5]);
        assert_eq!(stats, TopicStats { dropped: 2, ..TopicStats::default() });
        assert_eq!((backlog.lost(), backlog.take_lost(), backlog.take_lost()), (2, 2, 0));
        assert_eq!(take(&mut backlog, 9), (vec![3, 4, 5], true));
    }

    #[test]
    fn only_the_newest_is_kept() {
        let (mut backlog, stats, pushed) = filled(LagPolicy::KeepNewest, 5);
        assert_eq!(pushed, [Ok(()); 5]);
        assert_eq!(stats, TopicStats { replaced: 4, ..TopicStats::default() });
        assert_eq!((backlog.len(), backlog.take_lost()), (1, 4));
        assert_eq!(take(&mut backlog, 9), (vec![5], true));
    }

    #[test]
    fn one_more_than_the_maximum_disconnects_and_is_counted_once() {
        let (mut backlog, stats, pushed) = filled(LagPolicy::Disconnect, 6);
        assert_eq!(pushed, [Ok(()), Ok(()), Ok(()), Err(TooSlow), Err(TooSlow), Err(TooSlow)]);
        assert_eq!(stats, TopicStats { disconnected: 1, ..TopicStats::default() });
        assert_eq!(take(&mut backlog, 9), (vec![], true));
    }
}
