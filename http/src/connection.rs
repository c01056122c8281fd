//! What the server keeps for each connection.

use crate::parse::chunked::{Count, Decoder};
use crate::parse::scan::Progress;
use crate::plan::Plan;
use crate::respond::draft::Outgoing;

/// The state of one connection: the user data of [`Http`](crate::Http). 32 bytes as long as no exchange has more
/// than a byte of its own.
#[derive(Debug)]
pub struct Connection<B>(pub(crate) Phase<B>);

#[derive(Debug)]
pub(crate) enum Phase<B> {
    /// Between requests, or within a head.
    Head { progress: Progress, flags: Flags, number: u32 },
    /// A request is being answered, or the rest of its body dropped.
    Busy(Busy<B>),
}

impl<B> Default for Connection<B> {
    fn default() -> Self {
        Self(Phase::Head { progress: Progress::default(), flags: Flags::default(), number: 0 })
    }
}

impl<B> Phase<B> {
    /// The number of the last request that was not answered at once.
    pub(crate) const fn number(&self) -> u32 {
        match self {
            Self::Head { number, .. } | Self::Busy(Busy { number, .. }) => *number,
        }
    }

    pub(crate) const fn flags(&mut self) -> &mut Flags {
        match self {
            Self::Head { flags, .. } | Self::Busy(Busy { flags, .. }) => flags,
        }
    }
}

/// A request whose head was read.
#[derive(Debug)]
pub(crate) struct Busy<B> {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    /// What writes the response or reads the body; `None` when that is over.
    pub(crate) exchange: Option<B>,
    pub(crate) flags: Flags,
    /// Bytes of the body that came since the deadline was set, up to the step that moves it.
    pub(crate) step: u16,
    /// Tells the requests of a connection apart: see [`RequestId`](crate::RequestId).
    pub(crate) number: u32,
}

impl<B> Busy<B> {
    /// Counts bytes of the body; each step of them gives its sender more time.
    pub(crate) fn count(&mut self, n: usize, step: u16) {
        let sum = usize::from(self.step).saturating_add(n);
        self.step = match u16::try_from(sum) {
            Ok(sum) if sum < step => sum,
            _ => {
                self.flags.retire_timer();
                0
            }
        };
    }
}

/// What is left of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Ended,
    Length(Count),
    Chunked(Decoder),
}

impl Incoming {
    /// Bytes of data that come next without anything between them.
    pub(crate) const fn data(&self) -> u64 {
        match self {
            Self::Ended => 0,
            Self::Length(left) => left.get(),
            Self::Chunked(decoder) => decoder.data(),
        }
    }
}

/// Which deadline the socket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    None,
    /// That of the head which is being read; while a request is answered, the one that its exchange has asked for.
    Own,
    /// That of the body which is being read.
    Body,
    /// One that no longer means anything.
    Stale,
}

/// Small facts about a connection, in one byte.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags(u8);

impl Flags {
    const PLAN: u8 = 15;
    const TIMER: u8 = 3 << Self::TIMER_AT;
    const TIMER_AT: u32 = 4;
    const SHUTDOWN: u8 = 64;
    const ASKED: u8 = 128;

    pub(crate) const fn timer(self) -> Timer {
        match (self.0 & Self::TIMER) >> Self::TIMER_AT {
            0 => Timer::None,
            1 => Timer::Own,
            2 => Timer::Body,
            _ => Timer::Stale,
        }
    }

    pub(crate) const fn set_timer(&mut self, timer: Timer) {
        self.0 = self.0 & !Self::TIMER | (timer as u8) << Self::TIMER_AT;
    }

    /// The request that the timer was for is over.
    pub(crate) const fn retire_timer(&mut self) {
        if self.0 & Self::TIMER != 0 {
            self.set_timer(Timer::Stale);
        }
    }

    /// The server is shutting down: this connection ends with the request it is in.
    pub(crate) const fn shutdown(self) -> bool {
        self.0 & Self::SHUTDOWN != 0
    }

    pub(crate) const fn set_shutdown(&mut self) {
        self.0 |= Self::SHUTDOWN;
    }

    /// Whether the client said that it will send no further request.
    pub(crate) const fn asked_to_close(self) -> bool {
        self.0 & Self::ASKED != 0
    }

    pub(crate) const fn set_asked_to_close(&mut self, asked: bool) {
        self.0 = self.0 & !Self::ASKED | if asked { Self::ASKED } else { 0 };
    }

    pub(crate) const fn plan(self) -> Plan {
        Plan::from_bits(self.0)
    }

    pub(crate) const fn set_plan(&mut self, plan: Plan) {
        self.0 = self.0 & !Self::PLAN | plan.bits();
    }
}

impl core::fmt::Debug for Flags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Flags").field(&self.timer()).field(&self.plan()).field(&self.shutdown()).finish()
    }
}

/// What an idle connection costs is promised to users.
const _: () = assert!(size_of::<Option<Connection<bool>>>() <= 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_apart() {
        let mut flags = Flags::default();
        let plan = Plan::BODILESS.with(Plan::KEEP_ALIVE, true);
        flags.set_timer(Timer::Body);
        flags.set_shutdown();
        flags.set_plan(plan);
        assert_eq!((flags.timer(), flags.shutdown(), flags.plan()), (Timer::Body, true, plan));
        flags.set_plan(plan.with(Plan::OLD, true).with(Plan::BODILESS, false));
        flags.retire_timer();
        assert_eq!(
            (flags.timer(), flags.shutdown(), flags.plan().has(Plan::OLD)),
            (Timer::Stale, true, true)
        );
    }
}
