//! The counts of what the workers have done.

use core::fmt;

/// Counts of what the workers have done, and of what they could not do.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Sockets that received `open`.
    pub opened: u64,
    /// Sockets that received `close`, including those in `aborted`.
    pub closed: u64,
    /// Sockets that were still open when the workers ended, and received `close` with
    /// [`CloseReason::Shutdown`](lightcone_core::CloseReason). Sockets that an engine aborted earlier, at the
    /// end of the engine's grace time, are not included.
    pub aborted: u64,
    /// Turns: how often a worker ran a socket.
    pub turns: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    /// Sockets turned away because the [maximum](crate::Builder::sockets) was reached, as many had ended without
    /// their last callback, or the workers had ended.
    pub rejected: u64,
    /// Messages that were dropped because their socket had the maximum number waiting, or had closed.
    pub lost_messages: u64,
    /// Sockets with a notification that their poller's full mailbox has refused so far; after the workers
    /// have ended, those that were given up.
    pub unnotified: u64,
    /// Sockets whose last callback has not run.
    pub unfinished: u64,
    /// Workers whose callback had not returned when the shutdown stopped waiting. When it does return, the
    /// worker delivers the last callbacks of its sockets, if the process still runs.
    pub stuck: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            opened,
            closed,
            aborted,
            panics,
            rejected,
            lost_messages,
            unnotified,
            unfinished,
            stuck,
            ..
        } = self;
        write!(f, "workers: {opened} opened, {closed} closed of which {aborted} at the workers' end, ")?;
        write!(f, "{unfinished} unfinished, {rejected} turned away, {panics} panics, ")?;
        write!(f, "{lost_messages} messages lost, {unnotified} not notified, {stuck} workers stuck")
    }
}
