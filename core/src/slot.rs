//! The state that a shard keeps for each socket.

use crate::address::PackedAddress;
use crate::buffer::{InputTail, OutputQueue};
use crate::error::CloseReason;
use crate::life::{self, Change, State, Transition};
use crate::timer;

/// The place of one socket in a shard's table. Opaque; used by [`Storage`](crate::Storage).
pub struct Slot<D> {
    pub(crate) control: ControlBlock,
    pub(crate) data: Option<D>,
}

impl<D> core::fmt::Debug for Slot<D> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slot").field("state", &self.control.state).finish_non_exhaustive()
    }
}

/// Defines a small set of flags.
macro_rules! bits {
    ($(#[$doc:meta])* $name:ident($word:ty) { $($(#[$bit_doc:meta])* $bit:ident = $at:expr,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub(crate) struct $name($word);
        #[allow(dead_code, reason = "all sets have the same operations; not every set uses all of them")]
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
    /// Pending events. They are delivered in the order of the bits.
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
    /// Requests made by the handler in the current callback.
    Requests(u8) {
        FINISH = 0,
        CLOSE = 1,
        LINGER = 2,
        ABORT = 3,
    }
}

impl Flags {
    /// Flags that take a receive off the fast path.
    pub(crate) const UNUSUAL: Self = Self::SILENT.with(Self::FILLED).with(Self::PEER_ENDED);
}

impl Pending {
    /// The events that are still delivered to a socket that ended without a request of its handler.
    pub(crate) const LAST: Self = Self::OPEN.with(Self::RECEIVE).with(Self::PEER_CLOSED);
}

impl Requests {
    /// All requests except `finish`.
    pub(crate) const ENDS: Self = Self::CLOSE.with(Self::LINGER).with(Self::ABORT);
}

bits! {
    Flags(u16) {
        /// The handler has paused reading.
        PAUSED = 0,
        /// The last send was short: the driver waits until the socket is writable.
        BLOCKED = 1,
        /// A send of the front of the chain is in flight (completion-based drivers).
        IN_FLIGHT = 2,
        /// An accepted socket that has not received a byte yet.
        SILENT = 3,
        /// The last receive used all of the offered room, so more input is probably available.
        FILLED = 4,
        /// The handler has set a deadline.
        DEADLINE = 5,
        /// A timeout may now be due earlier than the timer is filed for.
        TIMES = 6,
        /// The socket is in the ready queue.
        QUEUED = 7,
        /// A window for the rate of output runs: see `RateWindows`.
        RATED = 8,
        /// The peer has ended its stream.
        PEER_ENDED = 9,
        /// `open` was delivered, so `close` must follow.
        OPENED = 10,
        /// `close` or `refused` was delivered. No event follows.
        ENDED = 11,
        /// The peer takes none of the queued output. The stall is measured from `seen`; while the socket is
        /// also `SILENT` and the first byte timeout is enabled, from the time noted in `kept`.
        STALLED = 12,
        /// The end was requested: only `close` follows, or `refused` if the connect had not completed.
        CLOSING = 13,
        /// The handler has declared the socket active: the idle timeout does not run.
        ACTIVE = 14,
        /// The handler called `abort` in the `close` event: the connection is reset.
        RESET = 15,
    }
}

/// All state of a socket except the user data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlBlock {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) asked: Requests,
    pub(crate) flags: Flags,
    pub(crate) pending: Pending,
    pub(crate) reason: Option<CloseReason>,
    pub(crate) peer: PackedAddress,
    pub(crate) kept: InputTail,
    pub(crate) chain: OutputQueue,
    /// The tick of the last progress. While `STALLED`: of the last progress in sending. In states that end
    /// after a timeout: of entering the state. Until the first byte arrives: of opening.
    pub(crate) seen: u32,
    /// The handler's deadline, if `DEADLINE` is set.
    pub(crate) deadline: u32,
    pub(crate) timer: timer::TimerLink,
    /// The next slot in the ready queue, plus one; 0 means none.
    pub(crate) next: u32,
}

impl ControlBlock {
    pub(crate) fn free(generation: u32, peer: PackedAddress) -> Self {
        Self {
            generation,
            state: State::Free,
            asked: Requests::default(),
            flags: Flags::default(),
            pending: Pending::default(),
            reason: None,
            peer,
            kept: InputTail::default(),
            chain: OutputQueue::default(),
            seen: 0,
            deadline: 0,
            timer: timer::TimerLink::default(),
            next: 0,
        }
    }

    /// Takes a step in the life cycle. Returns whether the state changed.
    pub(crate) fn step(&mut self, step: Transition, now: u32) -> bool {
        match life::next(self.state, step) {
            Change::To(to) => {
                let from = core::mem::replace(&mut self.state, to);
                self.flags.set(Flags::TIMES);
                if from == State::Connecting {
                    self.flags.clear(Flags::DEADLINE); // of the next connect attempt
                }
                // The timeout of these states counts from entering them. From PreLinger to Draining the same
                // drain timeout continues; Lingering has its own timeout, which always starts here.
                let begins =
                    matches!(to, State::Draining | State::PreLinger | State::Lingering | State::Connecting);
                if begins && from != State::PreLinger || to == State::Lingering {
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

    /// Records that the peer has taken some of the output. `first_byte` is whether the first byte timeout is
    /// enabled: progress in sending must not postpone it while the peer is silent.
    pub(crate) fn progressed(&mut self, now: u32, first_byte: bool) {
        if first_byte && self.flags.has(Flags::SILENT) && self.state.is_live() {
            self.kept.note(now); // a silent socket keeps no bytes, so `kept` has room for a time
        } else {
            self.seen = now;
        }
    }

    /// Records why the socket ends. The reason of a clean close may change until the socket is closed; any
    /// other reason is final.
    pub(crate) fn set_close_reason(&mut self, reason: CloseReason) {
        let orderly = matches!(
            self.reason,
            None | Some(CloseReason::Local | CloseReason::Peer | CloseReason::Shutdown)
        );
        if orderly && self.state != State::Closed {
            self.reason = Some(reason);
        }
    }
}

static_assertions::const_assert!(size_of::<ControlBlock>() <= 96);
