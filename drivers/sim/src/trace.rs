//! The trace of a run: a hash of everything that happened, and the last records as text.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::VecDeque;

use lightcone_core::Token;

/// How many records are kept if they may be shown.
const KEPT: usize = 100_000;

/// What a record is about. Its two numbers are given in parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Did {
    /// A poller begins a turn (poller, number of events).
    Turn,
    /// A poller goes to sleep (poller, deadline in ms or `u64::MAX`).
    Sleep,
    /// A receive call (endpoint, bytes or outcome).
    Receive,
    /// A send call (endpoint, bytes or outcome).
    Send,
    /// An accept call (listener, new endpoint or outcome).
    Accept,
    /// A connect began (endpoint, port).
    Connect,
    /// Writing was shut down (endpoint, -).
    Shut,
    /// An endpoint was closed (endpoint, 1 for a reset).
    Close,
    /// Bytes have arrived (endpoint, count).
    Arrive,
    /// The end of the stream has arrived (endpoint, -).
    End,
    /// A reset has arrived (endpoint, -).
    Reset,
    /// The outcome of a connect (endpoint, 0 if it succeeded).
    Connected,
    /// An event was delivered to a handler (token, event).
    Tell,
    /// An event of a poller was delivered to its handler (poller, event).
    TellPoller,
    /// A handler's post was refused (token, [`MAILBOX_FULL`] or [`MAILBOX_GONE`]).
    RefusePost,
    /// A handler's broadcast was refused (poller, the same).
    RefuseBroadcast,
    /// A handler's socket closed (token, reason).
    Ended,
    /// A scripted peer continues (peer, step).
    Peer,
    /// A poller is woken (poller, -).
    Wake,
    /// A completion is reaped (endpoint, bytes).
    Complete,
    /// A send in flight is cancelled (endpoint, bytes that had been sent).
    Cancel,
    /// An engine begins to stop (engine, grace time in ms).
    Stop,
    /// The faults are over (-, -).
    Heal,
}

/// Outcomes of calls that are not counts.
pub(crate) const WOULD_BLOCK: u64 = u64::MAX;
pub(crate) const ENDED: u64 = u64::MAX - 1;
pub(crate) const FAILED: u64 = u64::MAX - 2;
pub(crate) const INTERRUPTED: u64 = u64::MAX - 3;

/// Why a post was refused: the mailbox is full, or its poller has ended.
pub(crate) const MAILBOX_FULL: u64 = 0;
pub(crate) const MAILBOX_GONE: u64 = 1;

pub(crate) const EVENTS: [&str; 12] = [
    "open",
    "receive",
    "writable",
    "sent",
    "peer_closed",
    "timeout",
    "shutdown",
    "message",
    "refused",
    "close",
    "admit",
    "room",
];

pub(crate) const POLLER_EVENTS: [&str; 4] = ["started", "timer", "stopping", "poller_room"];

#[derive(Clone, Copy, Debug)]
struct Record {
    number: u64,
    at: u64,
    did: Did,
    a: u64,
    b: u64,
}

/// Returns in words why a post was refused.
const fn mailbox(why: u64) -> &'static str {
    if why == MAILBOX_FULL { "the mailbox of its poller is full" } else { "its poller has ended" }
}

/// Formats a record for readers familiar with the scenario.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at, did, a, b } = *self;
        write!(f, "{number:>8}  {:>6}.{:03} ms  ", at / 1_000, at % 1_000)?;
        let outcome = |f: &mut fmt::Formatter<'_>| match b {
            WOULD_BLOCK => f.write_str("would block"),
            ENDED => f.write_str("end of stream"),
            FAILED => f.write_str("failed"),
            INTERRUPTED => f.write_str("interrupted"),
            count => write!(f, "{count}"),
        };
        match did {
            Did::Turn => write!(f, "poller {a}: turn, {b} events"),
            Did::Sleep if b == u64::MAX => write!(f, "poller {a}: sleeps"),
            Did::Sleep => write!(f, "poller {a}: sleeps until {b} ms"),
            Did::Receive => write!(f, "end {a}: receive: ").and_then(|()| outcome(f)),
            Did::Send => write!(f, "end {a}: send: ").and_then(|()| outcome(f)),
            Did::Accept => write!(f, "listener {a}: accept: ").and_then(|()| outcome(f)),
            Did::Connect => write!(f, "end {a}: connect to port {b}"),
            Did::Shut => write!(f, "end {a}: shut down writing"),
            Did::Close => write!(f, "end {a}: close{}", if b == 1 { " by reset" } else { "" }),
            Did::Arrive => write!(f, "end {a}: {b} bytes arrive"),
            Did::End => write!(f, "end {a}: the end of the stream arrives"),
            Did::Reset => write!(f, "end {a}: a reset arrives"),
            Did::Connected => write!(f, "end {a}: connect {}", if b == 0 { "succeeds" } else { "fails" }),
            Did::Tell => {
                let event = EVENTS.get(b as usize).copied().unwrap_or("?");
                write!(f, "socket {}: {event}", Token::from_bits(a))
            }
            Did::TellPoller => {
                let event = POLLER_EVENTS.get(b as usize).copied().unwrap_or("?");
                write!(f, "poller {a}: {event}")
            }
            Did::RefusePost => write!(f, "socket {}: post refused, {}", Token::from_bits(a), mailbox(b)),
            Did::RefuseBroadcast => write!(f, "poller {a}: broadcast refused, {}", mailbox(b)),
            Did::Ended => {
                let reason = lightcone_core::CloseReason::NAMES.get(b as usize).copied().unwrap_or("?");
                write!(f, "socket {}: closed, {reason}", Token::from_bits(a))
            }
            Did::Peer => write!(f, "peer {a}: step {b}"),
            Did::Wake => write!(f, "poller {a}: woken"),
            Did::Complete => write!(f, "end {a}: completion: ").and_then(|()| outcome(f)),
            Did::Cancel => write!(f, "end {a}: send cancelled, {b} bytes were sent"),
            Did::Stop => write!(f, "engine {a}: stops within {b} ms"),
            Did::Heal => f.write_str("the faults are over"),
        }
    }
}

/// The trace of a run. Each record is one *simulated event*: a call with its outcome, an arrival, an event
/// delivered to a handler, or a step of a peer.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Cell<u64>,
    count: Cell<u64>,
    /// The time of the next record, in µs.
    now: Cell<u64>,
    kept: Option<RefCell<VecDeque<Record>>>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            hash: Cell::new(0x243F_6A88_85A3_08D3),
            count: Cell::new(0),
            now: Cell::new(0),
            kept: keep.then(RefCell::default),
        }
    }

    #[inline]
    pub(crate) fn set_now(&self, now: u64) {
        self.now.set(now);
    }

    /// Returns the simulated time, in µs.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    #[inline]
    pub(crate) fn note(&self, did: Did, a: u64, b: u64) {
        let mut hash = self.hash.get() ^ (did as u64) ^ (self.now.get() << 8);
        hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) ^ a;
        hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31) ^ b;
        self.hash.set(hash);
        self.count.set(self.count.get() + 1);
        if let Some(kept) = &self.kept {
            self.keep(&mut kept.borrow_mut(), did, a, b);
        }
    }

    #[cold]
    fn keep(&self, kept: &mut VecDeque<Record>, did: Did, a: u64, b: u64) {
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Record { number: self.count.get(), at: self.now.get(), did, a, b });
    }

    pub(crate) fn hash(&self) -> u64 {
        crate::tape::mix(self.hash.get())
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Returns the last `lines` records as text.
    pub(crate) fn tail(&self, lines: usize) -> Vec<String> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let kept = kept.borrow();
        kept.iter().skip(kept.len().saturating_sub(lines)).map(Record::to_string).collect()
    }
}
