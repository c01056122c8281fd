//! The state that a shard keeps for each socket.

use crate::address::PackedAddress;
use crate::buffer::{InputTail, OutputQueue};
use crate::connection::Action;
use crate::error::CloseReason;
use crate::interest::Interest;
use crate::life::{self, Change, State, Transition};
use crate::timer;
use crate::wait_queue::Waiting;

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

    /// Returns whether backpressure or the handler's pause keeps the socket from being read. Includes a
    /// `writable` that was granted but not delivered, since another refusal may follow it.
    pub(crate) fn holds_back(&self) -> bool {
        self.chain.armed || self.flags.has(Flags::PAUSED) || self.pending.has(Pending::WRITABLE)
    }

    /// Returns whether closing immediately might leave bytes of the peer unread in the kernel.
    pub(crate) fn may_have_unread(&self) -> bool {
        !self.flags.has(Flags::PEER_ENDED)
            && (!self.kept.is_empty() || self.holds_back() || self.flags.has(Flags::FILLED))
    }

    /// Returns whether the socket is idle: it is open, and neither is anything in progress, nor does anything keep it
    /// from being read.
    pub(crate) fn is_idle(&self) -> bool {
        const BUSY: Flags = Flags::ACTIVE
            .with(Flags::PAUSED)
            .with(Flags::BLOCKED)
            .with(Flags::IN_FLIGHT)
            .with(Flags::STALLED);
        let holds_nothing = self.kept.is_empty() && self.chain.is_empty() && self.chain.held() == 0;
        let waits = self.chain.armed || !matches!(self.chain.waiting, Waiting::None | Waiting::MayReceive);
        let due = !self.pending.is_empty() || !self.asked.is_empty();
        self.takes_messages() && !self.flags.has(BUSY) && holds_nothing && !waits && !due
    }

    pub(crate) fn takes_messages(&self) -> bool {
        self.state.is_live() && self.flags.has(Flags::OPENED)
    }

    /// Handles the rare receives: the first one, one that fills the room, and one that exceeds it.
    #[cold]
    #[inline(never)]
    pub(crate) fn received_unusually(&mut self, bytes: usize, room: usize) {
        let room = if self.flags.has(Flags::PEER_ENDED) { 0 } else { room };
        assert!(bytes <= room, "received {bytes} bytes with room for {room}");
        if self.flags.has(Flags::SILENT) {
            self.flags.set(Flags::TIMES); // another timeout applies from now on
            if self.flags.has(Flags::STALLED) {
                self.seen = self.kept.noted();
            }
        }
        self.flags.clear(Flags::SILENT.with(Flags::FILLED));
        // more input probably waits in the kernel, which `close` must take into account
        if bytes == room {
            self.flags.set(Flags::FILLED);
        }
    }

    /// Returns whether the socket is open and in an ordinary state: without pending events, requests, kept
    /// bytes or special flags.
    #[inline(always)]
    pub(crate) fn is_usual(&self) -> bool {
        const SPECIAL: Flags = Flags::UNUSUAL
            .with(Flags::STALLED)
            .with(Flags::IN_FLIGHT)
            .with(Flags::PAUSED)
            .with(Flags::BLOCKED)
            .with(Flags::RATED)
            .with(Flags::TIMES);
        // one branch for all conditions, with adjacent fields combined into one load
        let due = u32::from(self.flags.bits()) | u32::from(self.pending.bits()) << 16;
        let due = due & (u32::from(SPECIAL.bits()) | 0xFFFF << 16);
        let asked = u32::from(self.state as u8) | u32::from(self.asked.bits()) << 8;
        let asked = asked ^ State::Open as u32;
        let special = due | asked | self.kept.bits() | u32::from(self.chain.armed);
        special == 0
    }

    /// Returns whether the socket is live and has no requests.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.state.is_live() && self.asked.is_empty()
    }

    /// Returns whether nothing is left to do but to return the next action.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.pending.is_empty()
            && self.kept.is_empty()
            && !self.chain.armed
            && !self.flags.has(Flags::TIMES)
            && !self.chain.holds_unused()
    }

    /// Returns the [`next`](Self::next) action of a quiet socket.
    #[inline(always)]
    pub(crate) fn next_plain(&self) -> Action {
        let open = matches!(self.state, State::Open);
        if !open || self.flags.has(Flags::PAUSED.with(Flags::BLOCKED).with(Flags::IN_FLIGHT)) {
            return self.next(true);
        }
        if self.chain.is_empty() { Action::Wait(Interest::READ) } else { Action::Send }
    }

    /// Returns the action that the driver carries out next: a function of the socket's state and the room for
    /// input.
    #[inline(never)]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the remaining states differ only in whether they read"
    )]
    pub(crate) fn next(&self, room: bool) -> Action {
        let send = !self.chain.is_empty() && !self.flags.has(Flags::BLOCKED.with(Flags::IN_FLIGHT));
        match self.state {
            State::Free | State::Reserved => Action::Wait(Interest::NONE),
            State::Connecting => Action::Wait(Interest::WRITE),
            // before the send: what is still queued by now is lost
            State::Closed => Action::Close,
            // queued output leaves before writing is shut down
            _ if send => Action::Send,
            State::Finishing | State::PreLinger if self.chain.is_empty() => Action::ShutdownWrite,
            _ => {
                // Backpressure and a pause protect the handler. A staged close hears of neither: it discards input
                // until the peer ends.
                let read = self.state.reads() && room && !(self.state.is_live() && self.holds_back());
                Action::Wait(Interest::new(read, self.flags.has(Flags::BLOCKED)))
            }
        }
    }
}

static_assertions::const_assert!(size_of::<ControlBlock>() <= 96);
