//! What became of the sockets.

use core::fmt;

/// What workers have done, and what they could not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Sockets that were given `open`.
    pub opened: u64,
    /// Sockets that were given `close`, those in `aborted` included.
    pub closed: u64,
    /// Sockets that were open when the workers ended: they were given `close` with
    /// [`CloseReason::Shutdown`](lightcone_core::CloseReason). Those that an engine aborts before that, at the end of
    /// its grace time, are not among them.
    pub aborted: u64,
    /// Turns: how often a worker took up a socket.
    pub turns: u64,
    /// Callbacks that panicked.
    pub panics: u64,
    /// Sockets for which there was no place.
    pub turned_away: u64,
    /// Messages that were dropped: their socket had as many waiting as it may, or had ended.
    pub lost_messages: u64,
    /// Sockets whose poller has had no room yet for the news that there is something for them; once the workers have
    /// ended, those that were given up.
    pub untold: u64,
    /// Sockets that have not had their last callback.
    pub unfinished: u64,
    /// Workers whose callback had not returned when the wait for them was over. Each gives its sockets their last
    /// callback when it does, if the process lasts as long.
    pub stuck: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            opened,
            closed,
            aborted,
            panics,
            turned_away,
            lost_messages,
            untold,
            unfinished,
            stuck,
            ..
        } = self;
        write!(f, "workers: {opened} opened, {closed} closed of which {aborted} at the workers' end, ")?;
        write!(f, "{unfinished} unfinished, {turned_away} turned away, {panics} panics, ")?;
        write!(f, "{lost_messages} messages lost, {untold} untold, {stuck} workers stuck")
    }
}
