//! What a shard counts.

use crate::error::CloseReason;
use crate::slot::{Control, Flags};

/// Counts since the shard was built; they wrap at 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Accepted sockets that were admitted.
    pub accepted: u64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Connects that failed.
    pub refused: u64,
    /// Sockets that were not admitted: no room, or the handler's or the driver's choice.
    pub turned_away: u64,
    /// Ended sockets, by [`CloseReason::index`].
    pub closed: [u64; CloseReason::COUNT],
    /// Bytes that came in.
    pub bytes_in: u64,
    /// Bytes that went out.
    pub bytes_out: u64,
    /// Bytes that were queued when their socket ended, and never sent. What the system had taken and not delivered is
    /// not among them.
    pub bytes_lost: u64,
    /// Bytes that the system had taken and not delivered when their socket was reset from this side, where the driver
    /// [tells](crate::poller::Transport::undelivered). Of connections that were reset from the other side it is not
    /// known.
    pub bytes_undelivered: u64,
    /// How often a socket had to wait for an output block.
    pub output_shortages: u64,
    /// How often a socket had to wait for an input block before it could receive.
    pub input_shortages: u64,
    /// Look-ups of tokens whose socket had gone.
    pub gone: u64,
}

impl Stats {
    /// A socket has had its last event.
    pub(crate) fn ended(&mut self, control: &Control) {
        if !control.flags.has(Flags::OPENED) {
            self.refused += 1;
            return;
        }
        let reason = control.reason.unwrap_or(CloseReason::Local);
        if let Some(count) = self.closed.get_mut(reason.index()) {
            *count += 1;
        }
    }

    /// Sockets that ended for this reason, its details left out.
    #[must_use]
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason.index()).copied().unwrap_or(0)
    }

    /// Ended sockets in all.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }
}
