//! The final report of an engine.

use core::fmt;

use lightcone_core::{CloseReason, Stats};

/// The final report of one poller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct PollerReport {
    /// The poller's final counts.
    pub stats: Stats,
    /// The number of sockets that were still open at the end of the grace time, except those that had sent everything
    /// and only waited for their peer to close.
    pub aborted: u64,
    /// Whether the poller's thread ended by a panic outside handlers, for example because its driver was broken. Its
    /// sockets were then closed without a `close` event, and the other fields are zero.
    pub failed: bool,
    /// The number of panics in the program's code: in callbacks, each of which closed its socket, in the filter, and
    /// when messages were cloned or dropped.
    pub panics: u64,
    /// The number of sockets that the driver could not watch, because their descriptor was beyond its limit or the
    /// system was out of resources.
    pub unwatchable: u64,
}

/// The final report of an engine, returned when it has shut down.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The reports of the pollers, in the order of their ids.
    pub pollers: Vec<PollerReport>,
}

impl Report {
    fn sum(&self, count: impl Fn(&PollerReport) -> u64) -> u64 {
        self.pollers.iter().map(count).sum()
    }

    /// Returns the number of sockets that were opened, by an accept or a connect.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.sum(|poller| poller.stats.accepted + poller.stats.connected)
    }

    /// Returns the number of sockets that the shutdown closed cleanly, with all queued output sent.
    #[must_use]
    pub fn drained(&self) -> u64 {
        self.sum(|poller| poller.stats.closed_for(CloseReason::Shutdown).saturating_sub(poller.aborted))
    }

    /// Returns the number of sockets that were still [open](PollerReport::aborted) at the end of the grace time.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.sum(|poller| poller.aborted)
    }

    /// Returns the number of [bytes](Stats::bytes_lost) that were still queued when their socket ended, and were never
    /// sent.
    #[must_use]
    pub fn bytes_lost(&self) -> u64 {
        self.sum(|poller| poller.stats.bytes_lost)
    }

    /// Returns the number of [bytes](Stats::bytes_undelivered) that the system had accepted but not delivered when
    /// their socket was reset.
    #[must_use]
    pub fn bytes_undelivered(&self) -> u64 {
        self.sum(|poller| poller.stats.bytes_undelivered)
    }

    /// Returns the number of pollers that have [failed](PollerReport::failed).
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sum(|poller| poller.failed.into())
    }

    /// Returns the number of [panics](PollerReport::panics) in the program's code.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.sum(|poller| poller.panics)
    }
}

/// Formats the report as one line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stopped: {} opened, {} drained, {} aborted, {} bytes lost",
            self.opened(),
            self.drained(),
            self.aborted(),
            self.bytes_lost()
        )?;
        if self.bytes_undelivered() > 0 {
            write!(f, ", {} bytes not delivered", self.bytes_undelivered())?;
        }
        if self.panics() > 0 {
            write!(f, ", {} handler panics", self.panics())?;
        }
        if self.failed() > 0 {
            write!(f, ", {} pollers failed", self.failed())?;
        }
        Ok(())
    }
}
