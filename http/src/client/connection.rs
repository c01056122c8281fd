//! One connection of a client: the state of its request, over the events of its socket.

use core::fmt;
use core::time::Duration;

use lightcone_core::{CloseReason, Instant, Stream};

use crate::exchange::Flow;

use super::fetch::{BodyLeft, BodyWriter, Fetch, FetchCause, FetchError, FetchPhase};
use super::limits::ClientLimits;
use super::request::RequestBody;
use super::response::{Delimiter, InvalidResponse, Piece, ResponseReader};

/// What ends a chunked body without trailer fields.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What is left to send of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unsent {
    Head,
    Body(BodyLeft),
    LastChunk,
    Nothing,
}

impl Unsent {
    /// Returns the phase of a request of which this many bytes are queued, before its response has begun.
    const fn phase(self, queued: usize) -> FetchPhase {
        if matches!(self, Self::Nothing) && queued == 0 { FetchPhase::FirstByte } else { FetchPhase::Send }
    }
}

/// What a request has come to, after an event of its socket.
#[derive(Debug)]
pub(super) enum Outcome<F> {
    /// It goes on, or there is none.
    Pending,
    /// Its response is complete. The request was or was not wholly queued before.
    Done { fetch: F, sent: bool },
    /// It has failed, with or without a byte of the response, and its connection cannot be used any more.
    Failed { fetch: F, error: FetchError, answered: bool },
}

/// A request in progress.
#[derive(Debug)]
struct Ongoing<F> {
    fetch: F,
    reader: ResponseReader,
    unsent: Unsent,
    phase: FetchPhase,
    started: Instant,
    /// When the phase began, or last made progress.
    since: Instant,
    /// Whether a byte of the response has arrived.
    answered: bool,
    /// Whether the fetch has left bytes of the body.
    paused: bool,
    /// Whether the request announces the end of the connection.
    closes: bool,
    idle_time: Option<Duration>,
}

/// The state of a connection: at most one request at a time.
///
/// Its owner, a handler, forwards the events of the socket to it.
pub(super) struct ClientConnection<F> {
    ongoing: Option<Ongoing<F>>,
    /// Whether the connection can be used for another request.
    reusable: bool,
    /// How long the server keeps the connection open, if it has announced that.
    idle_time: Option<Duration>,
}

impl<F> fmt::Debug for ClientConnection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection")
            .field("phase", &self.ongoing.as_ref().map(|ongoing| ongoing.phase))
            .field("reusable", &self.reusable)
            .finish_non_exhaustive()
    }
}

impl<F: Fetch> ClientConnection<F> {
    pub(super) const fn new() -> Self {
        Self { ongoing: None, reusable: true, idle_time: None }
    }

    /// Returns whether a request is in progress.
    pub(super) const fn is_busy(&self) -> bool {
        self.ongoing.is_some()
    }

    /// Returns whether the connection can be used for another request now.
    pub(super) const fn is_reusable(&self) -> bool {
        self.reusable && self.ongoing.is_none()
    }

    /// Returns how long the server keeps the connection open while it is idle, if it has announced that.
    pub(super) const fn idle_time(&self) -> Option<Duration> {
        self.idle_time
    }

    /// Begins a request on a connection without one.
    pub(super) fn start(&mut self, fetch: F, stream: &mut Stream<'_>, limits: &ClientLimits) -> Outcome<F> {
        let request = fetch.request();
        let (mut reader, closes) = (ResponseReader::new(request.method, limits), request.close);
        if fetch.keeps_trailers() {
            reader.keep_trailers();
        }
        debug_assert!(self.ongoing.is_none(), "one request at a time");
        self.ongoing = Some(Ongoing {
            fetch,
            reader,
            unsent: Unsent::Head,
            phase: FetchPhase::Send,
            started: stream.now(),
            since: stream.now(),
            answered: false,
            paused: false,
            closes,
            idle_time: None,
        });
        stream.set_active(true);
        self.drive(stream, limits, |ongoing, stream| ongoing.send(stream))
    }

    /// Handles `receive`. Bytes that belong to no request make the connection unusable.
    pub(super) fn receive(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Outcome<F> {
        if self.ongoing.is_none() {
            self.reusable = false;
        }
        self.drive(stream, limits, |ongoing, stream| {
            ongoing.answered = true;
            if ongoing.phase == FetchPhase::Body {
                ongoing.since = stream.now();
            }
            // Bytes in transit may arrive after a pause.
            if ongoing.paused { Ok(false) } else { ongoing.receive(stream, limits) }
        })
    }

    /// Handles `sent` and `writable`.
    pub(super) fn sent(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Outcome<F> {
        self.drive(stream, limits, |ongoing, stream| {
            if ongoing.counts_sending() {
                ongoing.since = stream.now();
            }
            ongoing.send(stream)
        })
    }

    /// Handles `message`.
    pub(super) fn message(
        &mut self,
        message: F::Message,
        stream: &mut Stream<'_>,
        limits: &ClientLimits,
    ) -> Outcome<F> {
        self.drive(stream, limits, |ongoing, stream| match ongoing.fetch.message(message) {
            Flow::Abort => Err(FetchCause::Aborted),
            Flow::More | Flow::Done => ongoing.resume(stream, limits),
        })
    }

    /// Handles `peer_closed`. What has arrived is delivered first, as far as the fetch takes it.
    pub(super) fn peer_closed(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Outcome<F> {
        self.reusable = false;
        self.drive(stream, limits, |ongoing, stream| match ongoing.paused {
            true => Ok(false),
            false => ongoing.receive(stream, limits),
        })
    }

    /// Handles `timeout`: the deadline of the phase, or of the whole exchange.
    pub(super) fn timeout(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Outcome<F> {
        self.drive(stream, limits, |ongoing, stream| {
            let now = stream.now();
            if ongoing.counts_sending() && stream.queued() > 0 {
                // `sent` comes when the queue is empty, which a slow server may delay for longer than the limit.
                let quiet = u64::try_from(stream.quiet_for().as_millis()).unwrap_or(u64::MAX);
                let progress = Instant::from_millis(now.as_millis().saturating_sub(quiet));
                ongoing.since = ongoing.since.max(progress);
            }
            let total = limits.total_time.is_some_and(|time| now >= ongoing.started + time);
            let phase = ongoing.phase_time(limits).is_some_and(|time| now >= ongoing.since + time);
            match (phase, total) {
                (true, _) => Err(FetchCause::TimedOut),
                (false, true) => Err(FetchCause::TotalTime),
                (false, false) => Ok(false),
            }
        })
    }

    /// Handles `close`: a request that is still in progress has failed.
    pub(super) fn closed(&mut self, reason: CloseReason) -> Outcome<F> {
        self.fail(FetchCause::Closed(reason))
    }

    /// Ends the request in progress.
    pub(super) fn fail(&mut self, cause: FetchCause) -> Outcome<F> {
        self.reusable = false;
        match self.ongoing.take() {
            Some(Ongoing { fetch, phase, answered, .. }) => {
                Outcome::Failed { fetch, error: FetchError::new(phase, cause), answered }
            }
            None => Outcome::Pending,
        }
    }

    /// Lets the request in progress make a step, which returns whether the response is complete; then sets the
    /// deadline, or ends the request.
    fn drive(
        &mut self,
        stream: &mut Stream<'_>,
        limits: &ClientLimits,
        step: impl FnOnce(&mut Ongoing<F>, &mut Stream<'_>) -> Result<bool, FetchCause>,
    ) -> Outcome<F> {
        let Some(ongoing) = &mut self.ongoing else { return Outcome::Pending };
        let complete = step(ongoing, stream);
        ongoing.enter(stream);
        match complete {
            Ok(false) => {
                stream.set_deadline(ongoing.deadline(limits));
                Outcome::Pending
            }
            Ok(true) => self.complete(stream),
            Err(cause) => {
                stream.set_deadline(None);
                self.fail(cause)
            }
        }
    }

    /// Ends a request whose response is complete.
    fn complete(&mut self, stream: &mut Stream<'_>) -> Outcome<F> {
        let Some(ongoing) = self.ongoing.take() else { return Outcome::Pending };
        stream.set_deadline(None);
        stream.set_active(false);
        let sent = ongoing.unsent == Unsent::Nothing;
        // What is left of a request, or has come beyond its response, would be taken for a part of the next one.
        self.reusable &= ongoing.reader.keep_alive() && !ongoing.closes && sent && stream.bytes().is_empty();
        self.idle_time = ongoing.idle_time;
        Outcome::Done { fetch: ongoing.fetch, sent }
    }
}

impl<F: Fetch> Ongoing<F> {
    /// Returns whether bytes of the request that leave are progress of the phase. The server may send its response
    /// meanwhile; only the time of a head runs regardless.
    fn counts_sending(&self) -> bool {
        matches!(self.phase, FetchPhase::Send | FetchPhase::Body)
    }

    /// Sends what there is room for. Returns whether the response is complete, which sending does not change.
    fn send(&mut self, stream: &mut Stream<'_>) -> Result<bool, FetchCause> {
        let now = stream.now();
        let (_, mut output) = stream.split();
        if self.unsent == Unsent::Head {
            let request = self.fetch.request();
            let head = request.head().map_err(FetchCause::Request)?;
            // Nothing can be queued on a connection that has ended already: `close` follows, with the reason.
            if output.limit() > 0 && head.length() > output.limit() {
                return Err(FetchCause::RequestTooLarge);
            }
            if head.send(&mut output).is_err() {
                return Ok(false); // `writable` or `close` follows
            }
            self.unsent = match request.body {
                RequestBody::None | RequestBody::Length(0) => Unsent::Nothing,
                RequestBody::Length(length) => Unsent::Body(BodyLeft::Length(length)),
                RequestBody::Chunked => Unsent::Body(BodyLeft::Chunked),
            };
            self.since = now;
        }
        if let Unsent::Body(left) = self.unsent {
            let mut body = BodyWriter::new(output.reborrow(), left);
            let flow = self.fetch.send(&mut body);
            let (left, written) = body.finish();
            if written && self.phase == FetchPhase::Send {
                self.since = now; // progress
            }
            self.unsent = match (flow, left) {
                (Flow::Abort, _) => return Err(FetchCause::Aborted),
                (_, BodyLeft::Length(0)) => Unsent::Nothing,
                (Flow::More, left) => Unsent::Body(left),
                (Flow::Done, BodyLeft::Length(_)) => return Err(FetchCause::BodyTooShort),
                (Flow::Done, BodyLeft::Chunked) => Unsent::LastChunk,
            };
        }
        if self.unsent == Unsent::LastChunk && output.room() >= LAST_CHUNK.len() {
            self.unsent = if output.send(LAST_CHUNK).is_ok() { Unsent::Nothing } else { Unsent::LastChunk };
        }
        // While a `writable` is pending, the response is not read. So it is requested only if nothing is queued;
        // otherwise, `sent` follows.
        if self.unsent != Unsent::Nothing && output.queued() == 0 && output.room() < BodyWriter::ROOM_MIN {
            output.request_writable();
        }
        Ok(false)
    }

    /// Reads what has arrived. Returns whether the response is complete.
    fn receive(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Result<bool, FetchCause> {
        loop {
            let input = stream.bytes();
            let used = match self.reader.next(input, limits).map_err(FetchCause::Response)? {
                Piece::Interim(head) => {
                    self.fetch.interim(&head);
                    self.phase = self.unsent.phase(stream.queued());
                    self.since = stream.now();
                    head.as_bytes().len()
                }
                Piece::Head(head) if head.delimiter == Delimiter::Upgrade => {
                    return Err(FetchCause::Response(InvalidResponse::Upgrade));
                }
                Piece::Head(head) => {
                    self.idle_time = head.idle_time();
                    self.fetch.head(&head);
                    head.as_bytes().len()
                }
                Piece::Framing(length) => length,
                Piece::Data(data) => {
                    let taken = self.fetch.body(data).ok_or(FetchCause::Aborted)?.min(data.len());
                    self.paused = taken < data.len();
                    self.reader.took(taken);
                    taken
                }
                Piece::Trailers(trailers) => {
                    self.fetch.trailers(&trailers);
                    trailers.as_bytes().len()
                }
                Piece::End => return Ok(true),
                Piece::More if stream.peer_closed() => {
                    self.reader.finish().map_err(FetchCause::Response)?;
                    return Ok(true);
                }
                Piece::More if input.len() >= stream.capacity() => {
                    return Err(FetchCause::Response(self.reader.full()));
                }
                Piece::More => return Ok(false),
            };
            stream.consume(used);
            if self.paused {
                stream.pause();
                return Ok(false);
            }
        }
    }

    /// Continues in both directions.
    fn resume(&mut self, stream: &mut Stream<'_>, limits: &ClientLimits) -> Result<bool, FetchCause> {
        self.send(stream)?;
        if !self.paused {
            return Ok(false);
        }
        (self.paused, self.since) = (false, stream.now());
        stream.resume();
        self.receive(stream, limits)
    }

    /// Enters the phase that follows from what was sent and received.
    fn enter(&mut self, stream: &Stream<'_>) {
        let phase = if self.reader.has_head() {
            FetchPhase::Body
        } else if self.answered && !stream.bytes().is_empty() {
            FetchPhase::Head
        } else if self.unsent == Unsent::Nothing && stream.queued() == 0 {
            FetchPhase::FirstByte
        } else {
            self.phase
        };
        if phase != self.phase {
            (self.phase, self.since) = (phase, stream.now());
        }
    }

    /// Returns the limit of the phase; `None` if it does not run.
    const fn phase_time(&self, limits: &ClientLimits) -> Option<Duration> {
        match self.phase {
            FetchPhase::Wait | FetchPhase::Connect => None,
            FetchPhase::Send => Some(limits.send_time),
            FetchPhase::FirstByte => Some(limits.first_byte_time),
            FetchPhase::Head => Some(limits.head_time),
            FetchPhase::Body if self.paused => None,
            FetchPhase::Body => Some(limits.body_time),
        }
    }

    /// Returns the deadline of the phase or of the exchange, whichever is earlier.
    fn deadline(&self, limits: &ClientLimits) -> Option<Instant> {
        let phase = self.phase_time(limits).map(|time| self.since + time);
        let total = limits.total_time.map(|time| self.started + time);
        phase.into_iter().chain(total).min()
    }
}
