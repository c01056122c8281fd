//! What a shard knows of one socket.

use crate::address::Packed;
use crate::buffer::{Chain, Kept};
use crate::error::CloseReason;
use crate::life::{self, Change, State, Step};
use crate::timer;

/// One socket's place in a shard's table; opaque, for [`Storage`](crate::Storage).
pub struct Slot<D> {
    pub(crate) control: Control,
    pub(crate) data: Option<D>,
}

impl<D> core::fmt::Debug for Slot<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slot").field("state", &self.control.state).finish_non_exhaustive()
    }
}

/// A small set of flags.
macro_rules! bits {
    ($(#[$doc:meta])* $name:ident($word:ty) { $($(#[$bit_doc:meta])* $bit:ident = $at:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub(crate) struct $name($word);
        #[allow(dead_code, reason = "the sets share their operations; not each needs all")]
        impl $name {
            $($(#[$bit_doc])* pub(crate) const $bit: Self = Self(1 << $at);)+
            pub(crate) const fn has(self, other: Self) -> bool { self.0 & other.0 != 0 }
            pub(crate) const fn is_empty(self) -> bool { self.0 == 0 }
            pub(crate) const fn bits(self) -> $word { self.0 }
            pub(crate) const fn with(self, other: Self) -> Self { Self(self.0 | other.0) }
            pub(crate) const fn set(&mut self, other: Self) { self.0 |= other.0; }
            pub(crate) const fn clear(&mut self, other: Self) { self.0 &= !other.0; }
            pub(crate) const fn only(self, other: Self) -> Self { Self(self.0 & other.0) }
            pub(crate) const fn first(self) -> Self { Self(self.0 & self.0.wrapping_neg()) }
        }
    };
}

bits! {
    /// Events that are due, delivered in this order.
    Pending(u16) {
        OPEN = 0,
        RECEIVE = 1,
        WRITABLE = 2,
        SENT = 3,
        PEER_CLOSED = 4,
        TIMEOUT = 5,
        SHUTDOWN = 6,
        REFUSED = 7,
        CLOSE = 8,
    }
}

bits! {
    /// What the handler asked for in the callback that runs.
    Asked(u8) {
        FINISH = 0,
        CLOSE = 1,
        LINGER = 2,
        ABORT = 3,
    }
}

impl Flags {
    /// What makes received bytes unusual.
    pub(crate) const UNUSUAL: Self = Self::SILENT.with(Self::FILLED).with(Self::PEER_ENDED);
}

impl Pending {
    /// What may still come to a socket that has ended without the handler's asking.
    pub(crate) const LAST: Self = Self::OPEN.with(Self::RECEIVE).with(Self::PEER_CLOSED);
}

impl Asked {
    /// All but `finish`.
    pub(crate) const ENDS: Self = Self::CLOSE.with(Self::LINGER).with(Self::ABORT);
}

bits! {
    Flags(u16) {
        /// The handler has paused reading.
        PAUSED = 0,
        /// The last send was short: the driver waits until writing is possible.
        BLOCKED = 1,
        /// A completion driver is sending the head of the chain.
        IN_FLIGHT = 2,
        /// An accepted socket from which no byte has come.
        SILENT = 3,
        /// The last receive filled what it was given: more is probably there.
        FILLED = 4,
        /// The handler has set a deadline.
        DEADLINE = 5,
        /// Something that a timer depends on may now be due earlier.
        TIMES = 6,
        /// In the queue of sockets that want a turn.
        QUEUED = 7,
        /// The peer has ended its side.
        PEER_ENDED = 9,
        /// `open` was given, so `close` is owed.
        OPENED = 10,
        /// `close` or `refused` was given: nothing more is.
        ENDED = 11,
        /// Output waits for the peer, since `seen`.
        STALLED = 12,
        /// The end was asked for: nothing but `close` follows, or `refused` if it was before the connect.
        CLOSING = 13,
        /// The handler has declared that it is in the middle of something: the idle timeout does not run.
        ACTIVE = 14,
        /// The handler asked for an abort in `close`: the connection is reset.
        RESET = 15,
    }
}

/// Everything of a socket but the user's data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Control {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) asked: Asked,
    pub(crate) flags: Flags,
    pub(crate) pending: Pending,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) peer: Packed,
    pub(crate) kept: Kept,
    pub(crate) chain: Chain,
    /// Tick of the last progress: of sending, while `STALLED`; of entering, in states that end by
    /// themselves; of opening, until the first byte comes.
    pub(crate) seen: u32,
    /// The handler's deadline, if `DEADLINE`.
    pub(crate) deadline: u32,
    pub(crate) timer: timer::Link,
    /// Next in the queue of turns; one higher.
    pub(crate) next: u32,
}

impl Control {
    pub(crate) fn free(generation: u32, peer: Packed) -> Self {
        Self {
            generation,
            state: State::Free,
            asked: Asked::default(),
            flags: Flags::default(),
            pending: Pending::default(),
            reason: None,
            peer,
            kept: Kept::default(),
            chain: Chain::default(),
            seen: 0,
            deadline: 0,
            timer: timer::Link::default(),
            next: 0,
        }
    }

    /// Takes a step in the life table; says whether the state changed.
    pub(crate) fn step(&mut self, step: Step, now: u32) -> bool {
        match life::next(self.state, step) {
            Change::To(to) => {
                let from = core::mem::replace(&mut self.state, to);
                self.flags.set(Flags::TIMES);
                if from == State::Connecting {
                    self.flags.clear(Flags::DEADLINE); // it was that of the next try
                }
                let begins =
                    matches!(to, State::Draining | State::Parting | State::Lingering | State::Connecting);
                if begins && from != State::Parting || to == State::Lingering {
                    self.seen = now;
                }
                true
            }
            Change::Same => false,
            Change::Illegal => {
                debug_assert!(false, "{step:?} in {:?}", self.state);
                false
            }
        }
    }

    /// The peer has taken something of what was sent. `first_byte`: a silent peer has a time for its first byte, which
    /// that does not put off.
    pub(crate) fn progressed(&mut self, now: u32, first_byte: bool) {
        if first_byte && self.flags.has(Flags::SILENT) && self.state.is_live() {
            self.kept.note(now); // no byte is kept while none has come
        } else {
            self.seen = now;
        }
    }

    /// Notes why the socket ends; the first reason stands, unless a failure cuts an orderly end short.
    pub(crate) fn because(&mut self, reason: CloseReason) {
        let orderly = matches!(
            self.reason,
            None | Some(CloseReason::Local | CloseReason::Peer | CloseReason::Shutdown)
        );
        if orderly && self.state != State::Closed {
            self.reason = Some(reason);
        }
    }
}

static_assertions::const_assert!(size_of::<Control>() <= 96);
