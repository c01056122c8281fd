//! One end of a simulated connection, or a listener.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lightcone_core::{ErrorKind, Interest};

/// Who holds an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Nobody,
    Poller(u32),
    Peer(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Free,
    Listener,
    /// A connect has begun.
    Connecting,
    Connected,
    /// A connect has failed.
    Failed(ErrorKind),
}

/// An end, at the place of its descriptor's number.
#[derive(Debug)]
pub(crate) struct End {
    /// Which use of the number this is.
    pub(crate) uid: u32,
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
    /// What its poller calls it.
    pub(crate) key: u64,
    /// The other end, and which use of that.
    pub(crate) other: (u32, u32),
    /// Who is there.
    pub(crate) peer: SocketAddr,
    /// What was sent here and not yet received: first what has arrived, then what is under way.
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) arrived: usize,
    /// What the system has taken to send from here and the other end's window has not: at most `send_buffer`.
    pub(crate) out: VecDeque<u8>,
    pub(crate) send_buffer: usize,
    /// When the other end last took something that was sent from here, in µs.
    pub(crate) delivered: u64,
    /// The end of the stream is on its way to the other end.
    pub(crate) said_end: bool,
    /// It was closed in good order, and the system delivers the rest.
    pub(crate) orphan: bool,
    /// Of these, what had arrived when its poller was told to stop.
    pub(crate) owed: usize,
    /// The most that `bytes` may hold.
    pub(crate) window: usize,
    pub(crate) closed_until: u64,
    pub(crate) last_arrival: u64,
    /// The other end's end of stream has arrived.
    pub(crate) ended: bool,
    pub(crate) error: Option<ErrorKind>,
    /// Writing was shut down.
    pub(crate) shut: bool,
    /// The connection was cut on purpose, so that its streams need not be whole.
    pub(crate) excused: bool,
    pub(crate) watched: Interest,
    /// It stands in its poller's list of what may be ready.
    pub(crate) listed: bool,
    pub(crate) ops: Option<Box<Ops>>,
    pub(crate) backlog: Option<Box<Backlog>>,
}

/// Where a listener's connections wait.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) most: usize,
}

/// What a completion driver has asked for.
#[derive(Default, Debug)]
pub(crate) struct Ops {
    /// The most bytes to receive; 0: nothing was asked for.
    pub(crate) receive: usize,
    pub(crate) send: Option<SendOp>,
}

/// A send in flight.
#[derive(Debug)]
pub(crate) struct SendOp {
    /// What was offered, and where each piece of it stands.
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<(usize, usize)>,
    /// It has been done, and its completion is on its way.
    pub(crate) done: Option<usize>,
    pub(crate) cancelled: bool,
}

impl End {
    pub(crate) fn free(uid: u32) -> Self {
        Self {
            uid,
            kind: Kind::Free,
            owner: Owner::Nobody,
            key: 0,
            other: (u32::MAX, 0),
            peer: SocketAddr::from(([0, 0, 0, 0], 0)),
            bytes: VecDeque::new(),
            arrived: 0,
            out: VecDeque::new(),
            send_buffer: 0,
            delivered: 0,
            said_end: false,
            orphan: false,
            owed: 0,
            window: 0,
            closed_until: 0,
            last_arrival: 0,
            ended: false,
            error: None,
            shut: false,
            excused: false,
            watched: Interest::NONE,
            listed: false,
            ops: None,
            backlog: None,
        }
    }

    /// How many bytes may be sent here now.
    pub(crate) fn room(&self, now: u64) -> usize {
        if now < self.closed_until { 0 } else { self.window.saturating_sub(self.bytes.len()) }
    }

    /// Whether a system would say that more may be sent: a third of its buffer is free.
    pub(crate) fn has_buffer(&self) -> bool {
        (self.send_buffer - self.out.len()) * 3 >= self.send_buffer
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.arrived > 0
            || self.ended
            || self.error.is_some()
            || self.backlog.as_ref().is_some_and(|backlog| !backlog.waiting.is_empty())
    }
}
