//! The trace of the running execution, for the report of one that fails.

use core::cell::RefCell;
use core::fmt;

use lightcone_core::{PollerId, Token};

/// The number of entries that a report shows, which are the last ones.
const KEPT: usize = 64;

/// One entry of the trace.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Admit(Option<usize>),
    Callback(Token, &'static str, Option<Vec<u8>>),
    Hears(usize, Vec<u8>),
    Gone(usize),
    Thread(usize, &'static str),
    Stop,
    End,
}

thread_local! {
    /// A thread-local, because loom runs all threads of a model on one thread of the system.
    static TRACE: RefCell<Vec<(Option<PollerId>, What)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn begin() {
    TRACE.with_borrow_mut(Vec::clear);
}

pub(crate) fn note(poller: Option<PollerId>, what: What) {
    TRACE.with_borrow_mut(|trace| trace.push((poller, what)));
}

/// Returns the last entries as text, one per line.
pub(crate) fn told() -> String {
    TRACE.with_borrow(|trace| {
        let skipped = trace.len().saturating_sub(KEPT);
        let mut text = if skipped > 0 { format!("  ({skipped} more before)\n") } else { String::new() };
        for (poller, what) in &trace[skipped..] {
            let who = poller.map_or_else(String::new, |poller| format!("poller {}", poller.0));
            text += &format!("  {who:9} {what}\n");
        }
        text
    })
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Admit(Some(peer)) => write!(f, "admit peer {peer}"),
            Self::Admit(None) => f.write_str("admit"),
            Self::Callback(token, event, None) => write!(f, "{event} {token}"),
            Self::Callback(token, event, Some(bytes)) => {
                write!(f, "{event} {token} \"{}\"", bytes.escape_ascii())
            }
            Self::Hears(peer, bytes) => write!(f, "  peer {peer} hears \"{}\"", bytes.escape_ascii()),
            Self::Gone(peer) => write!(f, "  connection of peer {peer} closed"),
            Self::Thread(thread, does) => write!(f, "thread {thread}: {does}"),
            Self::Stop => f.write_str("receives the shutdown"),
            Self::End => f.write_str("ends"),
        }
    }
}
