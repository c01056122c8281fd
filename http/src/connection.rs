//! The state that the server keeps for each connection.

use lightcone_core::Instant;

use crate::mode::ResponseMode;
use crate::parse::chunked::{Count, Decoder};
use crate::parse::scan::Progress;
use crate::respond::writer::ResponseBody;

/// The state of one connection: the user data of an [`Http`](crate::Http) server. It has 32 bytes as long as no
/// exchange is larger than one byte.
#[derive(Debug)]
pub struct HttpConnection<B>(pub(crate) RequestPhase<B>);

#[derive(Debug)]
pub(crate) enum RequestPhase<B> {
    /// Between requests, or in the middle of a head.
    Head { progress: Progress, flags: ConnectionFlags, number: u32 },
    /// A request is in progress, or the rest of its body is being dropped.
    Exchanging(Exchanging<B>),
}

impl<B> Default for HttpConnection<B> {
    fn default() -> Self {
        Self(RequestPhase::Head {
            progress: Progress::default(),
            flags: ConnectionFlags::default(),
            number: 0,
        })
    }
}

impl<B> RequestPhase<B> {
    /// Returns the number of the last request that was not answered at once.
    pub(crate) const fn number(&self) -> u32 {
        match self {
            Self::Head { number, .. } | Self::Exchanging(Exchanging { number, .. }) => *number,
        }
    }

    pub(crate) const fn flags(&mut self) -> &mut ConnectionFlags {
        match self {
            Self::Head { flags, .. } | Self::Exchanging(Exchanging { flags, .. }) => flags,
        }
    }
}

/// A request whose head was read.
#[derive(Debug)]
pub(crate) struct Exchanging<B> {
    pub(crate) incoming: RequestBody,
    pub(crate) outgoing: PackedBody,
    /// What reads the body or writes the response; `None` when that is over.
    pub(crate) exchange: Option<B>,
    pub(crate) flags: ConnectionFlags,
    /// The later of the two [`Times`] of a request. The earlier is the socket's deadline.
    pub(crate) later: Later,
    /// Distinguishes the requests of a connection: see [`RequestId`](crate::RequestId).
    pub(crate) number: u32,
}

/// A [`ResponseBody`], and whether the head of the response is held back, in seven bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackedBody {
    Complete,
    Deferred,
    Length(Count),
    HeldLength(Count),
    Chunked,
    HeldChunked,
    UntilClose,
    HeldUntilClose,
    Upgraded,
    LastChunk,
    Failed,
}

impl PackedBody {
    pub(crate) fn new(outgoing: ResponseBody, held: bool) -> Self {
        match outgoing {
            ResponseBody::Complete => Self::Complete,
            ResponseBody::Deferred => Self::Deferred,
            // A `Count` has room for it: longer bodies are refused when the response is started.
            ResponseBody::Length(left) if held => Self::HeldLength(Count::new(left)),
            ResponseBody::Length(left) => Self::Length(Count::new(left)),
            ResponseBody::Chunked if held => Self::HeldChunked,
            ResponseBody::Chunked => Self::Chunked,
            ResponseBody::UntilClose if held => Self::HeldUntilClose,
            ResponseBody::UntilClose => Self::UntilClose,
            ResponseBody::Upgraded => Self::Upgraded,
            ResponseBody::LastChunk => Self::LastChunk,
            ResponseBody::Failed => Self::Failed,
        }
    }

    /// Returns whether the head of the response is held back.
    pub(crate) const fn is_held(self) -> bool {
        matches!(self, Self::HeldLength(_) | Self::HeldChunked | Self::HeldUntilClose)
    }

    /// Returns whether another response can still replace the exchange's.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Deferred) || self.is_held()
    }
}

impl From<PackedBody> for ResponseBody {
    fn from(kept: PackedBody) -> Self {
        match kept {
            PackedBody::Complete => Self::Complete,
            PackedBody::Deferred => Self::Deferred,
            PackedBody::Length(left) | PackedBody::HeldLength(left) => Self::Length(left.get()),
            PackedBody::Chunked | PackedBody::HeldChunked => Self::Chunked,
            PackedBody::UntilClose | PackedBody::HeldUntilClose => Self::UntilClose,
            PackedBody::Upgraded => Self::Upgraded,
            PackedBody::LastChunk => Self::LastChunk,
            PackedBody::Failed => Self::Failed,
        }
    }
}

/// The two times that a request may wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// The wake-up that its exchange has scheduled.
    pub(crate) wake: Option<Instant>,
    /// When the next bytes of the body are due; after the body, when the response has to be complete.
    pub(crate) limit: Option<Instant>,
}

impl<B> Exchanging<B> {
    /// Returns whether the input may hold bytes of the body although the exchange waits for more of it: those of a body
    /// that it [gathers](ConnectionFlags::GATHERS), or of a trailer section that it keeps.
    pub(crate) fn waits_with_input(&self) -> bool {
        self.gathers() || self.keeps_trailers() && self.incoming.trailer_bytes() > 0
    }

    /// Returns whether the exchange leaves a body in the input until it is complete.
    pub(crate) const fn gathers(&self) -> bool {
        self.flags.has(ConnectionFlags::GATHERS) && matches!(self.incoming, RequestBody::Length(_))
    }

    /// Returns whether the trailer section is left in the input. Of a body that is only dropped, it is not.
    pub(crate) const fn keeps_trailers(&self) -> bool {
        self.flags.has(ConnectionFlags::GATHERS)
            && self.exchange.is_some()
            && matches!(self.incoming, RequestBody::Chunked(_) | RequestBody::Trailers(_))
    }

    /// Returns whether no input follows the request: only bytes that belong to it are in `input`.
    pub(crate) fn is_last(&self, input: &[u8]) -> bool {
        !self.incoming.has_ended() || input.len() == self.incoming.trailer_bytes()
    }

    /// Returns the times that are set; `deadline` is the socket's.
    pub(crate) fn times(&self, deadline: Option<Instant>, now: Instant) -> Times {
        let later = self.later.get(now);
        match self.flags.timer() {
            Timer::Own => Times { wake: deadline, limit: later },
            Timer::Limit => Times { wake: later, limit: deadline },
            Timer::None | Timer::Stale => Times::default(),
        }
    }

    /// Stores the times and returns the deadline for the socket.
    pub(crate) fn set_times(&mut self, times: Times, now: Instant) -> Option<Instant> {
        let Times { wake, limit } = times;
        let limit_first = limit.is_some_and(|limit| wake.is_none_or(|wake| limit <= wake));
        let (timer, first, later) = match (limit_first, wake) {
            (true, _) => (Timer::Limit, limit, wake),
            (false, Some(_)) => (Timer::Own, wake, limit),
            (false, None) => (Timer::Stale, None, None),
        };
        self.flags.set_timer(timer);
        self.later = Later::new(later, now);
        first
    }
}

/// A future time in two bytes: its low 13 bits, in units of 1, 8, 64, .. milliseconds depending on how far ahead it
/// is. Rounded up, so it is never early; it is late by less than a 255th of the span. A time that is more than six
/// days ahead is taken as six days ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Later(u16);

impl Later {
    pub(crate) const NONE: Self = Self(u16::MAX);
    const BITS: u32 = 13;
    const MASK: u64 = (1 << Self::BITS) - 1;
    /// A time is fewer units ahead than this. The rest of the range is for times that have passed.
    const AHEAD: u64 = 2048;
    const SCALE_MAX: u16 = 6;

    pub(crate) fn new(at: Option<Instant>, now: Instant) -> Self {
        let Some(at) = at else { return Self::NONE };
        let ahead = at.as_millis().saturating_sub(now.as_millis());
        let scale = (0..Self::SCALE_MAX).find(|scale| ahead >> (3 * scale) < Self::AHEAD);
        let scale = scale.unwrap_or(Self::SCALE_MAX);
        let ahead = ahead.min((Self::AHEAD << (3 * scale)) - 1);
        let units = (now.as_millis() + ahead).div_ceil(1 << (3 * scale));
        Self(scale << Self::BITS | (units & Self::MASK) as u16)
    }

    pub(crate) fn get(self, now: Instant) -> Option<Instant> {
        if self == Self::NONE {
            return None;
        }
        let shift = 3 * (self.0 >> Self::BITS);
        let units = now.as_millis() >> shift;
        let ahead = u64::from(self.0).wrapping_sub(units) & Self::MASK;
        // Further ahead than `new` allows: the time has passed, and the difference has wrapped around.
        let back = if ahead > Self::AHEAD + 1 { Self::MASK + 1 } else { 0 };
        Some(Instant::from_millis((units + ahead).saturating_sub(back) << shift))
    }
}

/// The part of a request's body that is not consumed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    Ended,
    /// It has ended; its trailer section of this many bytes is still in the input, for the exchange.
    Trailers(Count),
    Length(Count),
    Chunked(Decoder),
    /// All that arrives: the connection has changed to another protocol, and no request follows.
    Upgraded,
}

impl RequestBody {
    /// Returns the number of data bytes that follow without framing between them.
    pub(crate) const fn data(&self) -> u64 {
        match self {
            Self::Ended | Self::Trailers(_) => 0,
            Self::Length(left) => left.get(),
            Self::Chunked(decoder) => decoder.data(),
            Self::Upgraded => u64::MAX,
        }
    }

    /// Returns whether all of the body was consumed, apart from a trailer section that is kept.
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended | Self::Trailers(_))
    }

    /// Returns how many bytes of the trailer section have arrived.
    pub(crate) fn trailer_bytes(&self) -> usize {
        match self {
            Self::Trailers(length) => usize::try_from(length.get()).unwrap_or(usize::MAX),
            Self::Chunked(decoder) => decoder.trailer_bytes().into(),
            Self::Ended | Self::Length(_) | Self::Upgraded => 0,
        }
    }

    /// Returns the input as bytes to read or, after an upgrade, as bytes that may be changed.
    pub(crate) fn views<'i>(&self, input: &'i mut [u8]) -> (&'i [u8], &'i mut [u8]) {
        if *self == Self::Upgraded { (&[], input) } else { (input, &mut []) }
    }

    /// Returns how many steps of `step` bytes may still come, at most.
    pub(crate) fn steps(&self, step: u32) -> u64 {
        let bytes = match self {
            Self::Ended | Self::Trailers(_) | Self::Upgraded => 0,
            Self::Length(left) => left.get(),
            Self::Chunked(decoder) => decoder.most(),
        };
        bytes.div_ceil(u64::from(step.max(1)))
    }
}

/// What the deadline of the socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// No deadline is set.
    None,
    /// Between requests, the head that is being read; within a request, the wake-up of its exchange.
    Own,
    /// The body that is being read, or the response.
    Limit,
    /// Nothing: a deadline that may be set has no meaning any more.
    Stale,
}

/// A set of facts about a connection, in one byte.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ConnectionFlags(u8);

impl ConnectionFlags {
    const MODE: u8 = 7;
    /// The exchange leaves a body that has a length in the input until it is complete, or the trailer section of a
    /// chunked one until the exchange is over. (Shares the bit of `EXPECT_CONTINUE`, which is settled before a request
    /// is in progress.)
    pub(crate) const GATHERS: u8 = ResponseMode::EXPECT_CONTINUE.bits();
    const TIMER: u8 = 3 << Self::TIMER_AT;
    const TIMER_AT: u32 = 4;
    const SHUTDOWN: u8 = 64;
    /// The exchange has subscribed to a topic.
    pub(crate) const SUBSCRIBED: u8 = 128;

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8, holds: bool) {
        self.0 = self.0 & !flag | if holds { flag } else { 0 };
    }

    pub(crate) const fn timer(self) -> Timer {
        match (self.0 & Self::TIMER) >> Self::TIMER_AT {
            0 => Timer::None,
            1 => Timer::Own,
            2 => Timer::Limit,
            _ => Timer::Stale,
        }
    }

    pub(crate) const fn set_timer(&mut self, timer: Timer) {
        self.0 = self.0 & !Self::TIMER | (timer as u8) << Self::TIMER_AT;
    }

    /// Marks the timer as stale, if one is set: the head or the request that it was for is over.
    pub(crate) const fn retire_timer(&mut self) {
        if self.0 & Self::TIMER != 0 {
            self.set_timer(Timer::Stale);
        }
    }

    /// Returns whether the server is shutting down, so that the connection ends with the request in progress.
    pub(crate) const fn shutdown(self) -> bool {
        self.has(Self::SHUTDOWN)
    }

    /// Notes that the server is shutting down. Returns whether that is new.
    pub(crate) const fn set_shutdown(&mut self) -> bool {
        let is_news = !self.shutdown();
        self.set(Self::SHUTDOWN, true);
        is_news
    }

    pub(crate) const fn mode(self) -> ResponseMode {
        ResponseMode::from_bits(self.0 & Self::MODE)
    }

    /// Notes what a call of the exchange has changed.
    pub(crate) const fn keep(&mut self, mode: ResponseMode, gathers: bool) {
        self.set_mode(mode);
        self.set(Self::GATHERS, gathers);
    }

    pub(crate) const fn set_mode(&mut self, mode: ResponseMode) {
        self.0 = self.0 & !Self::MODE | mode.bits() & Self::MODE;
    }
}

impl core::fmt::Debug for ConnectionFlags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Flags").field(&self.timer()).field(&self.mode()).field(&self.shutdown()).finish()
    }
}

// The documentation states the size of an idle connection.
const _: () = assert!(size_of::<Option<HttpConnection<bool>>>() <= 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_two_bytes_is_never_early_and_hardly_late() {
        let spans =
            (0..3_000).chain((1..31).flat_map(|shift| [(1 << shift) - 1, 1 << shift, (1 << shift) + 77]));
        for ahead in spans {
            for now in [0, 1, 8_191, 123_456, u64::from(u32::MAX) - 5, 1 << 40] {
                let at = Instant::from_millis(now + ahead);
                let later = Later::new(Some(at), Instant::from_millis(now));
                let most = at.as_millis() + ahead / 255;
                // when the time is set, before it, at it, and after it
                let looks =
                    [0, ahead / 2, ahead, ahead + ahead / 2].map(|after| Instant::from_millis(now + after));
                let found = looks.map(|look| later.get(look).unwrap().as_millis());
                let far = ahead >= 2048 << 18; // six days: beyond the range
                let good = found.iter().all(|found| (at.as_millis()..=most).contains(found));
                assert!(far || good, "{ahead} from {now}: {found:?}");
            }
        }
        assert_eq!(Later::new(None, Instant::from_millis(7)).get(Instant::from_millis(9)), None);
        assert_ne!(Later::new(Some(Instant::from_millis(8_191 << 18)), Instant::from_millis(0)), Later::NONE);
    }

    #[test]
    fn flags_keep_apart() {
        let mut flags = ConnectionFlags::default();
        let mode = ResponseMode::HEAD_ONLY.with(ResponseMode::KEEP_ALIVE, true);
        flags.set_timer(Timer::Limit);
        assert!(flags.set_shutdown() && !flags.set_shutdown());
        flags.set_mode(mode);
        assert_eq!((flags.timer(), flags.shutdown(), flags.mode()), (Timer::Limit, true, mode));
        flags.set_mode(mode.with(ResponseMode::HTTP_10, true).with(ResponseMode::HEAD_ONLY, false));
        flags.retire_timer();
        assert_eq!(
            (flags.timer(), flags.shutdown(), flags.mode().has(ResponseMode::HTTP_10)),
            (Timer::Stale, true, true)
        );
    }
}
