//! What serving asks of the state of a server: the parsing of a split head, refusals, deadlines.

use core::time::Duration;

use lightcone_core::{Instant, Output, Stream};

use super::TIME_MAX;
use super::turn::{Answer, ServeTurn, Stop};
use crate::connection::{ConnectionFlags, Exchanging, PackedBody, RequestBody, RequestPhase, Timer};
use crate::http::ServerState;
use crate::middleware::Hook;
use crate::mode::ResponseMode;
use crate::parse::chunked::{Count, Decoder};
use crate::parse::framing::Body;
use crate::parse::head::{Head, Parse};
use crate::parse::scan::{self, Progress, Start};
use crate::request::State;
use crate::respond::writer::{Fault, ResponseWriter};
use crate::status::Status;

impl<S: State> ServerState<S> {
    /// Returns the initial state of a body, or 413 if it is too large.
    #[inline(never)]
    pub(super) fn incoming(&self, body: Body) -> Result<RequestBody, Status> {
        match body {
            Body::None | Body::Length(0) => Ok(RequestBody::Ended),
            Body::Length(length) if length > self.limits.body.min(Count::MAX) => {
                Err(Status::CONTENT_TOO_LARGE)
            }
            Body::Length(length) => Ok(RequestBody::Length(Count::new(length))),
            Body::Chunked => Ok(RequestBody::Chunked(Decoder::new(&self.limits))),
        }
    }

    /// Responds to an invalid request, or to one that must not be served. The connection ends, in a way that lets a
    /// peer that is still sending read the response.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(
        &mut self,
        mut mode: ResponseMode,
        output: &mut Output<'_>,
        status: Status,
        hooks: Option<&Hook<'_>>,
    ) -> Answer {
        mode.close();
        // If there is no room, the peer is not reading, and the refusal would not reach it.
        let length =
            ResponseWriter { output, scratch: &mut self.scratch, hooks, mode, status }.replace(status).ok();
        Answer { status, length, complete: length.is_some(), fault: None }
    }

    /// Counts a response of the program that was replaced by a 500 because it was too large.
    #[cold]
    pub(super) fn note_fault(&self, fault: Fault) {
        if let Some(stats) = self.stats
            && fault == Fault::TooLarge
        {
            stats.oversized.add(1);
        }
    }

    /// Reads a head that is not the common case, is incomplete, or is invalid.
    #[inline(never)]
    pub(super) fn parse_slow<'a>(
        &mut self,
        start: Start,
        progress: &mut Progress,
        flags: &mut ConnectionFlags,
        bytes: &'a [u8],
        capacity: usize,
    ) -> Result<Head<'a>, Stop> {
        let Self { limits, last_host, .. } = self;
        // A complete and valid head is read in one pass. Everything else is left to `resume`, which keeps its progress
        // and has the same verdict however the bytes are cut.
        if !progress.pending()
            && let Some(head) = scan::rest(bytes, start, limits, last_host)
        {
            return Ok(head);
        }
        // One empty line before a request is ignored (RFC 9112, 2.2): clients send it after a body, or to probe.
        match bytes {
            _ if progress.begun() => {}
            [b'\r'] => return Err(Stop::Wait),
            [b'\r', b'\n', ..] if progress.is_blank() => return Err(Stop::Refuse(Status::BAD_REQUEST)),
            [b'\r', b'\n', ..] => {
                *progress = Progress::BLANK;
                return Err(Stop::Blank);
            }
            _ => *progress = Progress::default(),
        }
        match scan::resume(progress, bytes, limits) {
            Parse::Complete(head) => {
                *progress = Progress::default();
                flags.retire_timer();
                Ok(head)
            }
            Parse::Partial if bytes.len() < capacity => Err(Stop::Wait),
            // The input is full, so the rest of the head cannot arrive.
            Parse::Partial => Err(Stop::Refuse(scan::too_long(progress))),
            Parse::Invalid(status) => Err(Stop::Refuse(status)),
        }
    }

    /// Returns the time by which the peer has to send the next step of the body or, after the body, the response has to
    /// be complete.
    pub(super) fn limit<B>(&self, busy: &Exchanging<B>, now: Instant) -> Option<Instant> {
        let limits = &self.limits;
        match busy.incoming {
            RequestBody::Ended | RequestBody::Trailers(_) => {
                return limits.answer_time.map(|time| now + time);
            }
            RequestBody::Upgraded => return None,
            RequestBody::Length(_) | RequestBody::Chunked(_) => {}
        }
        // A gathered body stays in the input until it is complete, so its steps cannot be observed one by one.
        let steps = if busy.gathers() { busy.incoming.steps(limits.body_step) } else { 1 };
        let time = limits.body_time.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        Some(now + if steps > 1 { time.min(TIME_MAX) } else { time })
    }

    /// Sets the deadline that the connection needs now. The engine's idle timeout runs only between requests; within a
    /// request, each wait has its own time limit.
    #[inline(never)]
    pub(super) fn update_deadline<B>(
        &self,
        phase: &mut RequestPhase<B>,
        stream: &mut Stream<'_>,
        turn: &ServeTurn<'_, '_, S>,
    ) {
        let now = stream.now();
        match phase {
            RequestPhase::Head { progress, flags, .. } => {
                let begun = progress.begun();
                let lookup = if begun { Timer::Own } else { Timer::None };
                // Only a change sets the deadline: the time of a head counts from its first byte, not its latest.
                if flags.timer() != lookup {
                    flags.set_timer(lookup);
                    stream.set_active(begun);
                    stream.set_deadline(begun.then_some(now + self.limits.head_time));
                }
            }
            RequestPhase::Exchanging(busy) => {
                let mut times = busy.times(stream.deadline(), now);
                if let Some(at) = turn.wake {
                    // An exchange that sets a time in the past must not spin. If it waits for room, it is called when
                    // there is some; otherwise the time is moved into the future. After an upgrade, only the time leads
                    // to `Exchange::wake`.
                    let upgraded = busy.outgoing == PackedBody::Upgraded;
                    let waits = at <= now && !upgraded && stream.is_writable_pending();
                    times.wake = Some(at.max(now + Duration::from_millis(1))).filter(|_| !waits);
                }
                // The limit runs on while the body makes no progress, however often the exchange is called.
                if times.limit.is_none() || turn.renews {
                    times.limit = self.limit(busy, now);
                }
                let deadline = busy.set_times(times, now);
                stream.set_active(true);
                stream.set_deadline(deadline);
            }
        }
    }
}
