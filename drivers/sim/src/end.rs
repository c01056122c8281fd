//! One endpoint of a simulated connection, or a listener.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lightcone_core::{ErrorKind, Interest};

/// The owner of an endpoint.
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
    /// A connect is in progress.
    Connecting,
    Connected,
    /// A connect has failed.
    Failed(ErrorKind),
}

/// An endpoint. Its index in the table is its descriptor number.
#[derive(Debug)]
pub(crate) struct End {
    /// Distinguishes successive uses of the descriptor number.
    pub(crate) uid: u32,
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
    /// The key under which its poller registered it.
    pub(crate) key: u64,
    /// The other endpoint of the connection: its descriptor number and `uid`.
    pub(crate) other: (u32, u32),
    /// The address of the peer.
    pub(crate) peer: SocketAddr,
    /// Bytes sent to this endpoint and not yet received: first those that have arrived, then those in
    /// transit.
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) arrived: usize,
    /// The simulated send buffer: bytes that the system has accepted from this endpoint and that do not fit
    /// the other endpoint's window yet. At most `send_buffer` bytes.
    pub(crate) out: VecDeque<u8>,
    pub(crate) send_buffer: usize,
    /// When bytes from this endpoint last arrived at the other one, in µs.
    pub(crate) delivered: u64,
    /// Whether the end of the stream has been sent to the other endpoint.
    pub(crate) said_end: bool,
    /// Whether it was closed cleanly while the system still delivers its output.
    pub(crate) orphan: bool,
    /// How many of the arrived bytes were there when its poller was stopped and must still be received.
    pub(crate) owed: usize,
    /// The maximum length of `bytes`.
    pub(crate) window: usize,
    pub(crate) closed_until: u64,
    pub(crate) last_arrival: u64,
    /// Whether the other endpoint's end of stream has arrived.
    pub(crate) ended: bool,
    pub(crate) error: Option<ErrorKind>,
    /// Whether writing was shut down.
    pub(crate) shut: bool,
    /// Whether the connection was cut deliberately, so that its streams may be incomplete.
    pub(crate) excused: bool,
    pub(crate) watched: Interest,
    /// Whether it is in its poller's list of endpoints that may be ready.
    pub(crate) listed: bool,
    pub(crate) ops: Option<Box<Ops>>,
    pub(crate) backlog: Option<Box<Backlog>>,
}

/// The backlog of a listener.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) waiting: VecDeque<u32>,
    pub(crate) most: usize,
}

/// The pending operations of a completion driver.
#[derive(Default, Debug)]
pub(crate) struct Ops {
    /// The maximum number of bytes to receive; 0 if no receive is pending.
    pub(crate) receive: usize,
    pub(crate) send: Option<SendOp>,
}

/// A send in flight.
#[derive(Debug)]
pub(crate) struct SendOp {
    /// The offered bytes, and the address and length of each piece.
    pub(crate) bytes: Vec<u8>,
    pub(crate) places: Vec<(usize, usize)>,
    /// The number of bytes sent, once the send is done and its completion is queued.
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

    /// Returns how many bytes may be sent to this endpoint now.
    pub(crate) fn room(&self, now: u64) -> usize {
        if now < self.closed_until { 0 } else { self.window.saturating_sub(self.bytes.len()) }
    }

    /// Returns whether a system would report the socket as writable: a third of the send buffer is free.
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
