//! What came of an engine.

use core::fmt;

use lightcone_core::{CloseReason, Stats};

/// What came of one poller.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PollerReport {
    /// Everything it counted.
    pub stats: Stats,
    /// Sockets that were still open at the end of the grace time, but for those that had sent everything and waited for
    /// their peers' end alone.
    pub aborted: u64,
    /// Its thread has ended by a panic that was no handler's, such as one over a driver that is broken. Its sockets
    /// ended then, without `close`, and nothing else is known of it.
    pub failed: bool,
    /// Handlers' panics, each of which closed its own socket; and those of the filter, and of messages that were copied
    /// or dropped.
    pub panics: u64,
    /// Sockets that the driver could not watch: their descriptor was beyond its limit, or the system had no room.
    pub unwatchable: u64,
}

/// What came of an engine, given when it has shut down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// One for each poller.
    pub pollers: Vec<PollerReport>,
}

impl Report {
    fn sum(&self, count: impl Fn(&PollerReport) -> u64) -> u64 {
        self.pollers.iter().map(count).sum()
    }

    /// Sockets that were opened, accepted or connected.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.sum(|poller| poller.stats.accepted + poller.stats.connected)
    }

    /// Sockets that the shutdown closed in good order, everything queued sent.
    #[must_use]
    pub fn drained(&self) -> u64 {
        self.sum(|poller| poller.stats.closed_for(CloseReason::Shutdown).saturating_sub(poller.aborted))
    }

    /// Sockets that were still [open](PollerReport::aborted) at the end of the grace time.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.sum(|poller| poller.aborted)
    }

    /// [Bytes](Stats::bytes_lost) that were queued when their socket ended, and never sent.
    #[must_use]
    pub fn bytes_lost(&self) -> u64 {
        self.sum(|poller| poller.stats.bytes_lost)
    }

    /// [Bytes](Stats::bytes_undelivered) that the system had taken and not delivered when their socket was reset.
    #[must_use]
    pub fn bytes_undelivered(&self) -> u64 {
        self.sum(|poller| poller.stats.bytes_undelivered)
    }

    /// Pollers that have [failed](PollerReport::failed).
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.sum(|poller| poller.failed.into())
    }

    /// [Panics](PollerReport::panics) of the program's code.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.sum(|poller| poller.panics)
    }
}

/// One line.
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
            write!(f, ", {} more sent and not delivered", self.bytes_undelivered())?;
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
