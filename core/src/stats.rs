//! Counters of a shard.

use crate::error::CloseReason;
use crate::slot::{ControlBlock, Flags};
use crate::topic::TopicStats;

/// Counters since the shard was built. They wrap at 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Stats {
    /// Accepted sockets that were admitted.
    pub accepted: u64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Connects that failed.
    pub refused: u64,
    /// Sockets that were not admitted: no slot was free, the shard was stopping, or the handler or the driver turned
    /// them away.
    pub rejected: u64,
    /// Connections that were turned away because more were accepted than [`Config::accept_rate`](crate::Config) allows.
    /// They are included in `rejected`.
    pub over_rate: u64,
    /// Closed sockets, by [`CloseReason::index`].
    pub closed: [u64; CloseReason::COUNT],
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes that were queued when their socket closed, and were never sent. Bytes that the system had taken but not
    /// delivered are not included.
    pub bytes_lost: u64,
    /// Bytes that the system had taken but not delivered when this side reset their socket, where the driver
    /// [reports](crate::poller::Transport::undelivered) them. For connections that the peer reset, the number is
    /// unknown.
    pub bytes_undelivered: u64,
    /// How often a socket had to wait for an output block.
    pub output_shortages: u64,
    /// How often a socket had to wait for an input block before it could receive.
    pub input_shortages: u64,
    /// Lookups of stale tokens, and messages to sockets that were not open.
    pub gone: u64,
    /// The counters of the topics. A shard without a [poller](crate::poller::Poller) has none.
    pub topics: TopicStats,
}

impl Stats {
    /// Counts a socket that has had its last event.
    pub(crate) fn ended(&mut self, control: &ControlBlock) {
        if !control.flags.has(Flags::OPENED) {
            self.refused += 1;
            return;
        }
        let reason = control.reason.unwrap_or(CloseReason::Local);
        if let Some(count) = self.closed.get_mut(reason.index()) {
            *count += 1;
        }
    }

    /// Returns the number of sockets that closed for this reason, regardless of its details.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "every index is below `CloseReason::COUNT`")]
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed[reason.index()]
    }

    /// Returns the number of closed sockets.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }
}
