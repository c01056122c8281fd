//! What happened in the execution that runs, in order, for the report of one that fails.

use core::cell::RefCell;
use core::fmt;

use lightcone_core::{PollerId, Token};

/// The most entries that are kept; of an execution with more, the last ones.
const KEPT: usize = 64;

/// One thing that happened.
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
    /// loom runs all threads of a model on one thread of the system.
    static TRACE: RefCell<Vec<(Option<PollerId>, What)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn begin() {
    TRACE.with_borrow_mut(Vec::clear);
}

pub(crate) fn note(poller: Option<PollerId>, what: What) {
    TRACE.with_borrow_mut(|trace| trace.push((poller, what)));
}

/// All of it, a line each.
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
            Self::Stop => f.write_str("is told to shut down"),
            Self::End => f.write_str("ends"),
        }
    }
}
