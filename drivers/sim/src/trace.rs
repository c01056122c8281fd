//! What happened, as a hash of everything and the last records in words.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::VecDeque;

use lightcone_core::Token;

/// How many records are kept where they are to be shown.
const KEPT: usize = 100_000;

/// What a record is about; the two numbers that go with it are in parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Did {
    /// A poller begins a turn (poller, events that it got).
    Turn,
    /// A poller goes to sleep (poller, its deadline in ms or `u64::MAX`).
    Sleep,
    /// A call received (end, bytes or outcome).
    Receive,
    /// A call sent (end, bytes or outcome).
    Send,
    /// A call accepted (listener, new end or outcome).
    Accept,
    /// A connect began (end, port).
    Connect,
    /// Writing was shut down (end, -).
    Shut,
    /// An end was closed (end, 1 if by a reset).
    Close,
    /// Bytes have arrived (end, how many).
    Arrive,
    /// The end of the stream has arrived (end, -).
    End,
    /// A reset has arrived (end, -).
    Reset,
    /// A connect is decided (end, 0 if it succeeded).
    Connected,
    /// A handler was told (token, which event).
    Tell,
    /// A handler's socket ended (token, reason).
    Ended,
    /// A scripted peer goes on (peer, step).
    Peer,
    /// A poller is woken by another (poller, -).
    Wake,
    /// A completion is reaped (end, bytes).
    Complete,
    /// A send in flight is cancelled (end, what of it was done).
    Cancel,
    /// An engine is told to stop (engine, grace in ms).
    Stop,
    /// Faults are over (-, -).
    Heal,
}

/// Outcomes of calls that are no counts.
pub(crate) const WOULD_BLOCK: u64 = u64::MAX;
pub(crate) const ENDED: u64 = u64::MAX - 1;
pub(crate) const FAILED: u64 = u64::MAX - 2;
pub(crate) const INTERRUPTED: u64 = u64::MAX - 3;

pub(crate) const EVENTS: [&str; 11] = [
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
];

#[derive(Clone, Copy, Debug)]
struct Record {
    number: u64,
    at: u64,
    did: Did,
    a: u64,
    b: u64,
}

/// One record in words, for a reader who has the scenario in front of them.
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
            Did::End => write!(f, "end {a}: the peer's end arrives"),
            Did::Reset => write!(f, "end {a}: a reset arrives"),
            Did::Connected => write!(f, "end {a}: connect {}", if b == 0 { "succeeds" } else { "fails" }),
            Did::Tell => {
                let event = EVENTS.get(b as usize).copied().unwrap_or("?");
                write!(f, "socket {}: {event}", Token::from_bits(a))
            }
            Did::Ended => {
                let reason = lightcone_core::CloseReason::NAMES.get(b as usize).copied().unwrap_or("?");
                write!(f, "socket {}: ended, {reason}", Token::from_bits(a))
            }
            Did::Peer => write!(f, "peer {a}: step {b}"),
            Did::Wake => write!(f, "poller {a}: woken"),
            Did::Complete => write!(f, "end {a}: completion: ").and_then(|()| outcome(f)),
            Did::Cancel => write!(f, "end {a}: send cancelled, {b} bytes had left"),
            Did::Stop => write!(f, "engine {a}: told to stop within {b} ms"),
            Did::Heal => f.write_str("faults are over"),
        }
    }
}

/// The record of a run. Every entry is one *simulated event*: a call and its outcome, something that arrives, an event
/// told to a handler, a step of a peer.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: Cell<u64>,
    count: Cell<u64>,
    /// The time of what is recorded, in µs.
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

    /// The time of the simulation, in µs.
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

    /// The last `lines` records in words.
    pub(crate) fn tail(&self, lines: usize) -> Vec<String> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let kept = kept.borrow();
        kept.iter().skip(kept.len().saturating_sub(lines)).map(Record::to_string).collect()
    }
}
