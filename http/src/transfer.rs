//! What an exchange reads from and writes to.

use core::fmt;

use lightcone_core::{Address, Full, Instant, Mark, Output, Token};

use crate::connection::Incoming;
use crate::envelope::RequestId;
use crate::exchange::{Done, Flow};
use crate::limits::Limits;
use crate::middleware::Hook;
use crate::plan::Plan;
use crate::request::Connected;
use crate::respond::draft::{Desk, Draft, Extent, Fault, Outgoing};
use crate::respond::response::{Reply, Response};
use crate::respond::text::displayed;
use crate::status::Status;

/// Room that a chunk needs beside its data: up to eight digits, two line ends, and the last chunk behind it.
const CHUNK_ROOM: usize = 8 + 4 + 5;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Bytes in front of a chunk that is written in place: four digits and a line end.
const CHUNK_START: usize = 6;

/// The two bodies of one request within one callback: that of the request, which comes in pieces, and that of the
/// response, of which as much is taken as there is room for. Nothing is gathered: memory stays bounded, since a
/// peer that takes nothing is not read from.
#[derive(Debug)]
pub struct Transfer<'t, S> {
    /// What the routes of this poller share.
    pub state: &'t mut S,
    pub(crate) output: Output<'t>,
    pub(crate) link: Link<'t>,
    pub(crate) tools: Tools<'t>,
}

/// The connection's side of a transfer.
#[derive(Debug)]
pub(crate) struct Link<'t> {
    /// Input that is not used up, from `at` on.
    pub(crate) bytes: &'t [u8],
    pub(crate) at: &'t mut usize,
    pub(crate) incoming: &'t mut Incoming,
    pub(crate) outgoing: &'t mut Outgoing,
    /// The head of the answer is held back.
    pub(crate) held: &'t mut bool,
    pub(crate) plan: &'t mut Plan,
    pub(crate) found: &'t mut Found,
    /// Of the request, within its connection.
    pub(crate) number: u32,
}

/// The server's side of a transfer.
#[derive(Debug)]
pub(crate) struct Tools<'t> {
    pub(crate) limits: &'t Limits,
    pub(crate) desk: &'t mut Desk,
    pub(crate) connected: &'t Connected,
    pub(crate) hooks: Option<&'t Hook<'t>>,
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    /// The body was malformed or beyond a limit.
    pub(crate) fault: Option<Status>,
    /// The status has become known: that, and the length.
    pub(crate) answered: Option<(Status, Option<u64>)>,
    /// Of an answer whose body follows.
    pub(crate) begun: bool,
    /// Why that is a 500, if the exchange has given another answer.
    pub(crate) replaced: Option<Fault>,
    /// Bytes of the response's body that were written.
    pub(crate) written: u64,
    /// It could not be written, not even as a 500.
    pub(crate) mute: bool,
    /// When the exchange wants to be called.
    pub(crate) wake: Option<Instant>,
    /// The exchange leaves the body where it is until it has come whole.
    pub(crate) gathers: bool,
}

/// The head of an answer that was held back, while it is tried to write behind it.
#[derive(Clone, Copy, Debug)]
struct Held {
    before: Mark,
    status: Status,
    length: Option<u64>,
}

impl<'t, S> Transfer<'t, S> {
    /// The next bytes of the request's body, without the coding around them. Empty: none have come.
    pub fn body(&self) -> &[u8] {
        let rest = self.link.rest();
        let data = usize::try_from(self.link.incoming.data()).unwrap_or(usize::MAX);
        match self.link.found.fault {
            None => rest.get(..data).unwrap_or(rest),
            Some(_) => &[],
        }
    }

    /// Takes the first `n` bytes of [`body`](Self::body) away. What is not taken stays, and when the buffers are
    /// full of it the peer has to wait.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.body().len(), "consume({n}) with {} bytes of body there", self.body().len());
        *self.link.at += n;
        match self.link.incoming {
            Incoming::Length(left) => left.subtract(n as u64),
            Incoming::Chunked(decoder) => decoder.took(n as u64),
            Incoming::Ended => {}
        }
        self.link.decode(self.tools.limits);
    }

    /// Whether the request's body has ended and all of it was consumed.
    pub fn ended(&self) -> bool {
        *self.link.incoming == Incoming::Ended
    }

    /// How many bytes [`write`](Self::write) takes now.
    pub fn room(&self) -> usize {
        let room = self.output.room();
        match *self.link.outgoing {
            Outgoing::Length(left) => usize::try_from(left).map_or(room, |left| left.min(room)),
            Outgoing::Chunked => room.saturating_sub(CHUNK_ROOM),
            Outgoing::Raw => room,
            Outgoing::Whole | Outgoing::Deferred | Outgoing::LastChunk | Outgoing::Failed => 0,
        }
    }

    /// Bytes of the response's body that are still to be written; `None` if its length was not told.
    pub fn remaining(&self) -> Option<u64> {
        match *self.link.outgoing {
            Outgoing::Length(left) => Some(left),
            Outgoing::Whole
            | Outgoing::Deferred
            | Outgoing::Chunked
            | Outgoing::Raw
            | Outgoing::LastChunk
            | Outgoing::Failed => None,
        }
    }

    /// Writes as much of `bytes` as there is room for, and never more than the length that was told. Tells how
    /// much; if that was not all, the exchange is called again when there is room.
    #[must_use = "what was not taken has to be written later"]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        self.flush();
        let Self { output, link, .. } = self;
        let n = write(output, link.outgoing, bytes);
        link.found.written += n as u64;
        n
    }

    /// Sends the head of the answer now, if it is [held back](Response::stream): for a client that waits for it before it
    /// sends more. A body of the request that turns out to be malformed, too large or late is then told by the end of the
    /// connection alone. Whatever is written of a body needs no flush, as it leaves when the callback has returned.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Says at once that it listens, and at the end how much it has heard.
    /// struct Listener(u64);
    ///
    /// impl<S: State> Exchange<S> for Listener {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         io.flush();
    ///         while !io.body().is_empty() {
    ///             self.0 += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if io.ended() && write!(io, "{} bytes", self.0).is_ok() { Flow::Done } else { Flow::More }
    ///     }
    /// }
    ///
    /// let server = Http::new().post("/", |_request, response| response.stream(None, Listener(0)));
    /// # drop(server);
    /// ```
    pub fn flush(&mut self) {
        let held = self.try_head();
        self.commit(held);
    }

    /// Lets the head go that was held back, until it is [committed](Self::commit) or [taken back](Self::take_back).
    fn try_head(&mut self) -> Option<Held> {
        if !*self.link.held {
            return None;
        }
        let (before, status) = (self.output.mark(), status_of(self.output.held()));
        let held = Held { before, status, length: self.remaining() };
        self.output.release();
        Some(held)
    }

    /// The head leaves: it is what the request is answered with.
    fn commit(&mut self, held: Option<Held>) {
        if let Some(Held { status, length, .. }) = held {
            *self.link.held = false;
            self.link.found.answered = Some((status, length));
            self.link.found.begun = true;
        }
    }

    /// Nothing was written behind the head: it is held back as before.
    fn take_back(&mut self, held: Option<Held>) {
        if let Some(Held { before, .. }) = held {
            self.output.rewind(before);
        }
    }

    /// What `write!(io, ..)` calls: writes all of the formatted text, in one chunk if the body goes out in chunks, or
    /// nothing. It is formatted twice in chunks, first to count its bytes; if it is not the same, nothing is written.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts down, a line at a time.
    /// struct Countdown(u8);
    ///
    /// impl<S: State> Exchange<S> for Countdown {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while self.0 > 0 {
    ///             if write!(io, "{}\n", self.0).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             self.0 -= 1;
    ///         }
    ///         Flow::Done
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/", |_request, response| response.stream(None, Countdown(100)));
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    /// [`Full`] if there is not room for all of it, and then the exchange is called again when there is. A text longer
    /// than the output's bound never finds room, nor does one whose `Display` fails: then the connection ends. Also
    /// [`Full`] if it is longer than what is left of the length that was told.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full> {
        let held = self.try_head();
        let result = self.write_text(text);
        match result {
            Ok(0) => self.take_back(held),
            Ok(1..) | Err(Full) => self.commit(held),
        }
        self.link.found.written += result?;
        Ok(())
    }

    /// Writes all of a text or nothing; returns its length.
    fn write_text(&mut self, text: fmt::Arguments<'_>) -> Result<u64, Full> {
        let Self { output, link, .. } = self;
        let mark = output.mark();
        let before = output.queued();
        let result = match link.outgoing {
            Outgoing::Length(_) | Outgoing::Raw => {
                output.write_fmt(text).map(|()| (output.queued() - before) as u64)
            }
            Outgoing::Chunked => chunk_of(output, text),
            Outgoing::Whole | Outgoing::Deferred | Outgoing::LastChunk | Outgoing::Failed => Err(Full),
        };
        if result.is_err() {
            output.rewind(mark);
            link.found.mute |= never_fits(output, *link.outgoing, &text);
            return Err(Full);
        }
        if let Outgoing::Length(left) = link.outgoing {
            let written = (output.queued() - before) as u64;
            if written > *left {
                output.rewind(mark);
                return Err(Full);
            }
            *left -= written;
        }
        result
    }

    /// Lets `f` write in place: it is given room in one piece and tells how much of it, from the front, it has
    /// filled. Gives that back; 0 if there was no room, and then the exchange is called again when there is.
    ///
    /// # Panics
    /// If `f` tells more than it was given.
    pub fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let (start, most) = match self.link.outgoing {
            Outgoing::Length(left) => (0, usize::try_from(*left).unwrap_or(usize::MAX)),
            Outgoing::Chunked => (CHUNK_START, 0xffff),
            Outgoing::Raw => (0, usize::MAX),
            Outgoing::Whole | Outgoing::Deferred | Outgoing::LastChunk | Outgoing::Failed => return 0,
        };
        if most == 0 {
            return 0;
        }
        let held = self.try_head();
        if start > 0 && self.output.reserve(2 * CHUNK_ROOM).is_err() {
            self.commit(held);
            return 0;
        }
        let behind = if start > 0 { 2 } else { 0 };
        let spare = self.output.spare();
        let end = spare.len().saturating_sub(behind).min(most.saturating_add(start));
        let Some(place) = spare.get_mut(start..end).filter(|place| !place.is_empty()) else {
            self.commit(held);
            return 0;
        };
        let room = place.len();
        let n = f(place);
        assert!(n <= room, "{n} bytes filled of {room}");
        if n == 0 {
            self.take_back(held);
            return 0;
        }
        if let (Some(front), Some(tail)) = (hex_start(start, n), spare.get_mut(start + n..start + n + behind))
        {
            tail.copy_from_slice(b"\r\n");
            if let Some(place) = spare.first_chunk_mut::<CHUNK_START>() {
                *place = front;
            }
        }
        self.output.commit(start + n + behind);
        self.commit(held);
        self.link.found.written += n as u64;
        if let Outgoing::Length(left) = self.link.outgoing {
            *left -= n as u64;
        }
        n
    }

    /// Moves as much of the request's body to the response as has come and there is room for.
    pub fn copy(&mut self) {
        loop {
            let Self { output, link, .. } = self;
            let data = usize::try_from(link.incoming.data()).unwrap_or(usize::MAX);
            let rest = link.bytes.get(*link.at..).unwrap_or(&[]);
            let body = rest.get(..data).unwrap_or(rest);
            if body.is_empty() || link.found.fault.is_some() {
                return;
            }
            if *link.held {
                self.flush();
                continue;
            }
            let n = write(output, link.outgoing, body);
            link.found.written += n as u64;
            if n == 0 {
                return;
            }
            self.consume(n);
        }
    }

    /// Whether a [deferred](Response::defer) answer of half the socket's bound finds room now. If not, the exchange is
    /// called again when it does. [`Exchange::advance`](crate::Exchange::advance) is called only then; a
    /// [message](crate::Exchange::message) comes when it comes.
    pub fn ready(&mut self) -> bool {
        *self.link.outgoing == Outgoing::Deferred && room_for_answer(&mut self.output).is_some()
    }

    /// Gives the answer that was [deferred](Response::defer). Returns [`Flow::Done`], to be handed on. If there is no
    /// room for it, the answer is a 500; if there is none for that, the connection ends: see [`ready`](Self::ready).
    ///
    /// # Panics
    /// If there is a response already.
    pub fn respond(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<Done>) -> Flow {
        self.respond_with(answer);
        self.flush();
        *self.link.outgoing = Outgoing::Whole; // an exchange that writes nothing is none
        Flow::Done
    }

    /// Gives the answer that was [deferred](Response::defer), which may be a [stream](Response::stream): returns the
    /// exchange that writes its body, to be called from now on, or `None` if that is not needed.
    ///
    /// # Panics
    /// If there is a response already.
    pub fn respond_with<B>(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<B>) -> Option<B> {
        assert!(*self.link.outgoing == Outgoing::Deferred, "there is a response already");
        let Tools { ref mut desk, hooks, .. } = self.tools;
        desk.added.clear();
        desk.holds = *self.link.incoming != Incoming::Ended;
        let (output, plan) = (&mut self.output, *self.link.plan);
        let draft = Draft { output, desk, hooks, plan, status: Status::OK };
        let reply = answer(self.state, Response { draft });
        self.tools.desk.holds = false;
        if reply.closes() {
            self.link.plan.close();
        }
        if reply.has_failed() {
            self.link.found.replaced = Some(self.tools.desk.fault);
        }
        let length = if reply.has_failed() { self.apologise() } else { reply.length };
        *self.link.outgoing = reply.outgoing();
        *self.link.held = self.output.is_holding();
        if !*self.link.held {
            self.link.found.answered = Some((reply.status(), length));
            self.link.found.begun = reply.outgoing() != Outgoing::Whole;
        }
        reply.unusual.and_then(|unusual| unusual.exchange)
    }

    /// Begins the answer that was [deferred](Response::defer) as one whose body is [written](Self::write) piece by piece,
    /// with the status and the fields that `head` sets: for what may be larger than half of the output's bound. Without a
    /// length the body goes out in chunks. The head is [held back](Response::stream) while the body of the request is being
    /// read. Returns [`Flow::Done`], to be handed on, if no body is to be written: to `HEAD`,
    /// with a status that has none, or since the head can't be sent, which makes it a 500.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts the bytes of the body, then answers with as many.
    /// struct Mirror { bytes: u64, answers: bool }
    ///
    /// impl<S: State> Exchange<S> for Mirror {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while !io.body().is_empty() {
    ///             self.bytes += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if !io.ended() {
    ///             return Flow::More;
    ///         }
    ///         if !self.answers {
    ///             self.answers = true;
    ///             if io.stream(Some(self.bytes), |_, response| response.status(201)) == Flow::Done {
    ///                 return Flow::Done;
    ///             }
    ///         }
    ///         while self.bytes > 0 {
    ///             match io.fill(|piece| { piece.fill(b'x'); piece.len() }) {
    ///                 0 => return Flow::More,
    ///                 n => self.bytes -= n as u64,
    ///             }
    ///         }
    ///         Flow::Done
    ///     }
    /// }
    ///
    /// let server = Http::new()
    ///     .post("/mirror", |_request, response| response.defer(Mirror { bytes: 0, answers: false }));
    /// # drop(server);
    /// ```
    ///
    /// # Panics
    /// If there is a response already.
    pub fn stream(
        &mut self,
        length: Option<u64>,
        head: impl for<'r> FnOnce(&mut S, Response<'r>) -> Response<'r>,
    ) -> Flow {
        assert!(*self.link.outgoing == Outgoing::Deferred, "there is a response already");
        let Tools { ref mut desk, hooks, .. } = self.tools;
        desk.added.clear();
        let (output, plan) = (&mut self.output, *self.link.plan);
        let draft = Draft { output, desk, hooks, plan, status: Status::OK };
        let Response { mut draft } = head(self.state, Response { draft });
        let hold = *self.link.incoming != Incoming::Ended;
        let started = draft.start(length.map_or(Extent::Unknown, Extent::Length), hold);
        let (status, closes) = (draft.status, !draft.plan.has(Plan::KEEP_ALIVE));
        if closes {
            self.link.plan.close();
        }
        match started {
            Ok(outgoing) => {
                *self.link.outgoing = outgoing;
                *self.link.held = self.output.is_holding();
                let whole = outgoing == Outgoing::Whole;
                if !*self.link.held {
                    self.link.found.answered = Some((status, length));
                    self.link.found.begun = !whole;
                }
                if whole { Flow::Done } else { Flow::More }
            }
            Err(Full) => {
                self.link.found.replaced = Some(self.tools.desk.fault);
                let length = self.apologise();
                *self.link.outgoing = Outgoing::Whole;
                self.link.found.answered = Some((Status::INTERNAL_SERVER_ERROR, length));
                Flow::Done
            }
        }
    }

    /// Returns the identity of this request, to address [messages](crate::Envelope) to its exchange.
    pub fn id(&self) -> RequestId {
        RequestId::new(self.token(), self.link.number)
    }

    /// Returns the connection's identity. Other requests may come on it: see [`id`](Self::id).
    pub fn token(&self) -> Token {
        self.tools.connected.token
    }

    /// Who asks.
    pub fn peer(&self) -> Address {
        self.tools.connected.peer.unpack()
    }

    /// When this callback began.
    pub fn now(&self) -> Instant {
        self.tools.connected.now
    }

    /// Has [`Exchange::advance`](crate::Exchange::advance) called at this time, if it is not over by then: not earlier
    /// for that reason, and no later than the engine's clock tells time; if another time of the request comes first, such
    /// as the [time of its body](crate::Limits::body_time), by up to a 255th of the span later. A later call replaces it. A
    /// time that has passed is taken as a millisecond from now.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_core::Instant;
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Lets nobody know anything, but for a sign of life each 15 seconds.
    /// #[derive(Default)]
    /// struct Heartbeat(Option<Instant>);
    ///
    /// impl<S: State> Exchange<S> for Heartbeat {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         if self.0.is_none_or(|next| io.now() >= next) && write!(io, ":\n\n").is_ok() {
    ///             self.0 = Some(io.now() + Duration::from_secs(15));
    ///         }
    ///         if let Some(next) = self.0 {
    ///             io.wake_at(next);
    ///         }
    ///         Flow::More
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/events", |_request, response| {
    ///     response.header("Content-Type", "text/event-stream").stream(None, Heartbeat::default())
    /// });
    /// # drop(server);
    /// ```
    pub fn wake_at(&mut self, at: Instant) {
        self.link.found.wake = Some(at);
    }

    /// What is left of a body that has a length, once all of it has come.
    pub(crate) fn whole_body(&mut self) -> Option<&'t [u8]> {
        let left = match *self.link.incoming {
            Incoming::Ended => return Some(&[]),
            Incoming::Length(left) => usize::try_from(left.get()).ok()?,
            Incoming::Chunked(_) => return None,
        };
        let body = self.link.bytes.get(*self.link.at..)?.get(..left);
        self.link.found.gathers = body.is_none();
        body
    }

    /// Takes all of the body away that has come.
    fn drop_body(&mut self) {
        while !self.body().is_empty() {
            self.consume(self.body().len());
        }
    }

    /// A 500 in the place of an answer that could not be written; returns the length of its body.
    pub(crate) fn apologise(&mut self) -> Option<u64> {
        let Tools { ref mut desk, .. } = self.tools;
        desk.added.clear();
        let (output, plan) = (&mut self.output, *self.link.plan);
        let mut draft = Draft { output, desk, hooks: None, plan, status: Status::OK };
        let length = draft.by_itself(Status::INTERNAL_SERVER_ERROR).ok();
        self.link.found.mute |= length.is_none();
        length
    }

    /// The same, within another hook.
    pub(crate) fn within<'s>(&'s mut self, hook: &'s Hook<'s>) -> Transfer<'s, S> {
        let Link {
            bytes,
            ref mut at,
            ref mut incoming,
            ref mut outgoing,
            ref mut held,
            ref mut plan,
            ref mut found,
            number,
        } = self.link;
        let Tools { limits, ref mut desk, connected, .. } = self.tools;
        Transfer {
            state: self.state,
            output: self.output.reborrow(),
            link: Link { bytes, at, incoming, outgoing, held, plan, found, number },
            tools: Tools { limits, desk, connected, hooks: Some(hook) },
        }
    }

    /// After the exchange was called: completes the response if that is over, `false` if it can't be completed. A head
    /// leaves when nothing can be wrong with the request any more.
    pub(crate) fn settle(&mut self, over: bool) -> bool {
        if over {
            let whole = self.finish();
            self.drop_body();
            return whole;
        }
        if self.ended() {
            self.flush();
        }
        true
    }

    /// The exchange is over: completes the response. `false` if it can't be completed.
    fn finish(&mut self) -> bool {
        self.flush();
        let left = *self.link.outgoing;
        *self.link.outgoing = match left {
            Outgoing::Deferred => {
                let length = self.apologise();
                self.link.found.answered = Some((Status::INTERNAL_SERVER_ERROR, length));
                Outgoing::Whole
            }
            Outgoing::Failed => return false,
            Outgoing::Length(1..) => return false,
            Outgoing::Chunked | Outgoing::LastChunk => match self.output.send(LAST_CHUNK) {
                Ok(()) => Outgoing::Whole,
                Err(Full) => Outgoing::LastChunk,
            },
            Outgoing::Raw => {
                self.link.plan.close();
                Outgoing::Whole
            }
            Outgoing::Length(_) | Outgoing::Whole => Outgoing::Whole,
        };
        true
    }
}

impl Link<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(*self.at..).unwrap_or(&[])
    }

    /// Reads the coding up to the next data, or to the end of the body.
    pub(crate) fn decode(&mut self, limits: &Limits) {
        let ended = match self.incoming {
            Incoming::Ended => return,
            Incoming::Length(left) => left.is_zero(),
            Incoming::Chunked(decoder) => {
                let rest = self.bytes.get(*self.at..).unwrap_or(&[]);
                match decoder.frame(rest, limits) {
                    Ok(n) => *self.at += n,
                    Err(status) => self.found.fault = Some(status),
                }
                decoder.is_done()
            }
        };
        if ended {
            *self.incoming = Incoming::Ended;
        }
    }
}

/// The least room in the output buffer that a request is started with.
pub(crate) const ROOM_MIN: usize = 256;

/// The room in the output, if as much is free as is queued, so that an answer of half its bound always fits. If not,
/// `writable` will come.
#[inline(always)]
pub(crate) fn room_for_answer(output: &mut Output<'_>) -> Option<usize> {
    let room = output.room();
    let least = output.queued().max(ROOM_MIN);
    if room < least {
        output.want_room(least);
        return None;
    }
    Some(room)
}

/// The status that a head says. (A connection has no room to keep it.)
fn status_of(head: &[u8]) -> Status {
    let digits = head.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.get(..3)).unwrap_or(b"200");
    Status::from(digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

fn write(output: &mut Output<'_>, outgoing: &mut Outgoing, bytes: &[u8]) -> usize {
    match outgoing {
        Outgoing::Length(left) => {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            let n = output.send_some(bytes.get(..most).unwrap_or(bytes));
            *left -= n as u64;
            n
        }
        Outgoing::Raw => output.send_some(bytes),
        Outgoing::Chunked => write_chunk(output, bytes),
        Outgoing::Whole | Outgoing::Deferred | Outgoing::LastChunk | Outgoing::Failed => 0,
    }
}

fn write_chunk(output: &mut Output<'_>, bytes: &[u8]) -> usize {
    let n = bytes.len().min(output.room().saturating_sub(CHUNK_ROOM)).min(0xffff_ffff);
    if n < bytes.len() {
        output.want();
    }
    let data = bytes.get(..n).unwrap_or(&[]);
    if data.is_empty() {
        return 0;
    }
    let mark = output.mark();
    let chunk = output
        .write_fmt(format_args!("{n:x}\r\n"))
        .and_then(|()| output.send(data))
        .and_then(|()| output.send(b"\r\n"));
    match chunk {
        Ok(()) => n,
        Err(Full) => {
            output.rewind(mark);
            0
        }
    }
}

/// Whether waiting for room is of no use.
#[cold]
fn never_fits(output: &Output<'_>, outgoing: Outgoing, text: &fmt::Arguments<'_>) -> bool {
    let around = if outgoing == Outgoing::Chunked { CHUNK_ROOM } else { 0 };
    let bound = output.bound(); // 0 if the connection is ending
    bound > 0 && displayed(text).is_none_or(|length| length > bound.saturating_sub(around) as u64)
}

/// Writes a chunk of formatted text and returns its length, or writes nothing: then what was queued has to be taken back.
fn chunk_of(output: &mut Output<'_>, text: fmt::Arguments<'_>) -> Result<u64, Full> {
    let length = displayed(&text).ok_or(Full)?;
    if length == 0 {
        return Ok(0); // an empty chunk would be the last
    }
    if length.saturating_add(CHUNK_ROOM as u64) > output.room() as u64 {
        output.want();
        return Err(Full);
    }
    output.write_fmt(format_args!("{length:x}\r\n"))?;
    let expected = output.queued() as u64 + length;
    output.write_fmt(text)?;
    if output.queued() as u64 != expected {
        output.want(); // it has displayed something else the second time: once more, then
        return Err(Full);
    }
    output.send(b"\r\n").map(|()| length)
}

/// The start of a chunk of `n` bytes in four digits; `None` where there are no chunks.
#[expect(clippy::cast_possible_truncation, reason = "four bits each")]
fn hex_start(start: usize, n: usize) -> Option<[u8; CHUNK_START]> {
    let digit = |shift: u32| match (n >> shift) as u8 & 15 {
        low @ 0..10 => b'0' + low,
        high => b'a' + high - 10,
    };
    (start > 0).then(|| [digit(12), digit(8), digit(4), digit(0), b'\r', b'\n'])
}
