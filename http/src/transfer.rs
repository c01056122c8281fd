//! The interface through which an exchange reads the request's body and writes the response.

use core::fmt;

use lightcone_core::{
    Address, Checkpoint, Full, Instant, Lag, LagCounter, Output, Rejected, SubscribeError, Token, Topic,
    Unpublished,
};

use crate::connection::RequestBody;
use crate::exchange::{Done, Flow};
use crate::limits::Limits;
use crate::message::{Outlet, RequestId};
use crate::middleware::Hook;
use crate::mode::ResponseMode;
use crate::parse::chunked::Count;
use crate::parse::trailers::Trailers;
use crate::request::{ConnectionInfo, State};
use crate::respond::response::{Reply, Response};
use crate::respond::text::displayed;
use crate::respond::writer::{BodyLength, Fault, ResponseBody, ResponseWriter, Scratch};
use crate::status::Status;

/// Room that a chunk needs in addition to its data: up to eight digits, two line ends, and the last chunk after it.
const CHUNK_ROOM: usize = 8 + 4 + 5;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Bytes before the data of a chunk that is written in place: four digits and a line end.
const CHUNK_START: usize = 6;

/// The two bodies of one request, during one callback: the body of the request arrives in pieces, and the body of the
/// response is written as room becomes available.
///
/// Nothing is buffered beyond the input and output of the socket, so memory stays bounded: what the exchange does not
/// consume stays in the input, and the socket is not read while that is full.
///
/// ```
/// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
///
/// /// Sends the body back in upper case.
/// struct Upper;
///
/// impl<S: State> Exchange<S> for Upper {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         while !io.body().is_empty() {
///             let piece = io.body().to_ascii_uppercase();
///             match io.write(&piece) {
///                 0 => return Flow::More, // it is called again when there is room
///                 n => io.consume(n),
///             }
///         }
///         if io.is_ended() { Flow::Done } else { Flow::More }
///     }
/// }
///
/// let server = Http::new().post("/upper", |request, response| response.stream(request.head.length(), Upper));
/// # drop(server);
/// ```
#[derive(Debug)]
pub struct Transfer<'t, S: State> {
    /// The state that the routes of this poller share.
    pub state: &'t mut S,
    pub(crate) outlet: Outlet<'t, S>,
    pub(crate) output: Output<'t>,
    pub(crate) link: ConnectionContext<'t>,
    pub(crate) tools: ServerContext<'t>,
}

/// The part of a transfer that belongs to the connection.
#[derive(Debug)]
pub(crate) struct ConnectionContext<'t> {
    /// The input; it is unused from `at` on.
    pub(crate) bytes: &'t [u8],
    /// In place of `bytes` after an upgrade: the input, which the exchange may change.
    pub(crate) raw: &'t mut [u8],
    pub(crate) at: &'t mut usize,
    pub(crate) incoming: &'t mut RequestBody,
    pub(crate) outgoing: &'t mut ResponseBody,
    /// Whether the head of the response is held back.
    pub(crate) held: &'t mut bool,
    pub(crate) mode: &'t mut ResponseMode,
    pub(crate) found: &'t mut TransferState,
    /// The number of the request within its connection.
    pub(crate) number: u32,
    /// Whether the trailer section of a chunked body stays in the input until the exchange is over.
    pub(crate) keeps_trailers: bool,
}

/// The part of a transfer that belongs to the server.
#[derive(Debug)]
pub(crate) struct ServerContext<'t> {
    pub(crate) limits: &'t Limits,
    pub(crate) scratch: &'t mut Scratch,
    pub(crate) connected: &'t ConnectionInfo,
    pub(crate) hooks: Option<&'t Hook<'t>>,
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TransferState {
    /// The status to refuse the body with, if it is malformed or beyond a limit.
    pub(crate) fault: Option<Status>,
    /// The status of the response and its length, if they have become final in this callback.
    pub(crate) answered: Option<(Status, Option<u64>)>,
    /// Whether the body of that response follows.
    pub(crate) begun: bool,
    /// Why the response of the exchange was replaced by a 500, if it was.
    pub(crate) replaced: Option<Fault>,
    /// Bytes of the response's body that were written.
    pub(crate) written: u64,
    /// Whether the response cannot be written, not even as a 500.
    pub(crate) unanswerable: bool,
    /// When the exchange is to be called again.
    pub(crate) wake: Option<Instant>,
    /// Whether the exchange leaves the body in the input until it is complete.
    pub(crate) gathers: bool,
    /// Whether the exchange has subscribed to a topic in this callback.
    pub(crate) subscribed: bool,
}

/// The head of a response that was held back, while an attempt is made to write after it.
#[derive(Clone, Copy, Debug)]
struct Held {
    before: Checkpoint,
    status: Status,
    length: Option<u64>,
}

impl<S: State> LagCounter for Transfer<'_, S> {
    fn count_lag(&mut self, lag: Lag) {
        self.outlet.count_lag(lag);
    }
}

impl<'t, S: State> Transfer<'t, S> {
    /// Posts a message to another request in progress, like [`Request::post`](crate::Request::post).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of the request's poller is full or the engine has stopped.
    pub fn post(&mut self, to: RequestId, message: S::Message) -> Result<(), Rejected<S::Message>> {
        self.outlet.post(to, message)
    }

    /// Posts a message to every request in progress, also to this one, like
    /// [`Request::broadcast`](crate::Request::broadcast).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller was full or the engine has stopped.
    pub fn broadcast(&mut self, message: S::Message) -> Result<(), Rejected<S::Message>>
    where
        S::Message: Clone,
    {
        self.outlet.broadcast(message)
    }

    /// Publishes a message to the subscribers of a topic, like [`Request::publish`](crate::Request::publish).
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller is full or the engine has stopped.
    pub fn publish(
        &mut self,
        topic: Topic,
        message: S::Message,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.publish_rest(Unpublished::new(topic, message, S::Message::clone))
    }

    /// Publishes a message to the pollers that do not have it, after a [`publish`](Self::publish) that found a mailbox
    /// full. The exchange can keep it and [wake up](Self::wake_at) a millisecond later.
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller is still full or the engine has stopped.
    pub fn publish_rest(
        &mut self,
        message: Unpublished<S::Message>,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.outlet.publish(message)
    }

    /// Subscribes this request to a topic: from now on, [`Exchange::message`](crate::Exchange::message) gets what is
    /// published to it. The subscription ends by [`unsubscribe`](Self::unsubscribe) or with the exchange.
    ///
    /// ```
    /// use lightcone_http::{Backlog, Exchange, Flow, Http, LagPolicy, State, Topic, Transfer};
    ///
    /// const PRICES: Topic = Topic(1);
    ///
    /// struct App;
    ///
    /// impl State for App {
    ///     type Message = u32;
    /// }
    ///
    /// /// Sends prices, one in each line. A client that reads slowly skips some.
    /// struct Prices {
    ///     backlog: Backlog<u32, 1>,
    /// }
    ///
    /// impl Exchange<App> for Prices {
    ///     fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
    ///         if io.subscribe(PRICES).is_err() {
    ///             return Flow::Abort;
    ///         }
    ///         self.backlog.drain(|price| writeln!(io, "{price}"));
    ///         Flow::More
    ///     }
    ///
    ///     fn message(&mut self, price: u32, io: &mut Transfer<'_, App>) -> Flow {
    ///         let _ = self.backlog.push(price, io); // not too slow: the newest replaces the others
    ///         self.advance(io)
    ///     }
    /// }
    ///
    /// let server = Http::with(App)
    ///     .get("/prices", |_request, response| {
    ///         let backlog = Backlog::new(LagPolicy::KeepNewest);
    ///         response.stream(None, Prices { backlog })
    ///     })
    ///     .post("/prices/{price}", |mut request, response| match request.parse_param("price") {
    ///         Ok(price) if request.publish(PRICES, price).is_ok() => response.status(204).empty(),
    ///         Ok(_) => response.refuse(503),
    ///         Err(error) => response.bad_parameter(&error),
    ///     });
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Context::subscribe`](lightcone_core::Context::subscribe).
    pub fn subscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        self.link.found.subscribed = true;
        self.outlet.subscribe(topic, self.tools.connected.token)
    }

    /// Ends the subscription of this request to a topic. Returns whether there was one.
    pub fn unsubscribe(&mut self, topic: Topic) -> bool {
        self.outlet.unsubscribe(topic, self.tools.connected.token)
    }

    /// Returns the number of requests on this poller that are subscribed to a topic.
    pub fn subscribers(&self, topic: Topic) -> usize {
        self.outlet.subscribers(topic)
    }

    /// Returns the next bytes of the request's body, without the chunked coding. Empty if none have arrived.
    pub fn body(&self) -> &[u8] {
        let rest = self.link.rest();
        let data = usize::try_from(self.link.incoming.data()).unwrap_or(usize::MAX);
        match self.link.found.fault {
            None => rest.get(..data).unwrap_or(rest),
            Some(_) => &[],
        }
    }

    /// Removes the first `n` bytes of [`body`](Self::body). Bytes that are not consumed stay in the input; when it is
    /// full, the peer has to wait.
    ///
    /// # Panics
    /// If `body` has fewer than `n` bytes.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.body().len(), "consume({n}) of a body of {} bytes", self.body().len());
        *self.link.at += n;
        match self.link.incoming {
            RequestBody::Length(left) => left.subtract(n as u64),
            RequestBody::Chunked(decoder) => decoder.advance(n as u64),
            RequestBody::Ended | RequestBody::Trailers(_) | RequestBody::Upgraded => {}
        }
        self.decode();
    }

    /// Decodes the chunk framing at the front of the input.
    pub(crate) fn decode(&mut self) {
        self.link.decode(self.tools.limits, self.tools.connected.capacity);
    }

    /// Returns whether the request's body has ended and all of it was consumed.
    pub fn is_ended(&self) -> bool {
        self.link.incoming.has_ended()
    }

    /// Returns the trailer fields of the request, once its body has ended, if the handler has asked for them by
    /// [`Response::keep_trailers`]. Before that, and otherwise, there are none.
    pub fn trailers(&self) -> Trailers<'_> {
        if !self.link.keeps_trailers || !self.is_ended() {
            return Trailers::NONE;
        }
        Trailers::of(self.link.rest().get(..self.link.incoming.trailer_bytes()).unwrap_or_default())
    }

    /// Returns how many bytes [`write`](Self::write) takes now.
    pub fn room(&self) -> usize {
        let room = self.output.room();
        match *self.link.outgoing {
            ResponseBody::Length(left) => usize::try_from(left).map_or(room, |left| left.min(room)),
            ResponseBody::Chunked => room.saturating_sub(CHUNK_ROOM),
            ResponseBody::UntilClose | ResponseBody::Upgraded => room,
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => 0,
        }
    }

    /// Returns how many bytes of the response's body are still to be written; `None` if its length was not announced.
    pub fn remaining(&self) -> Option<u64> {
        match *self.link.outgoing {
            ResponseBody::Length(left) => Some(left),
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::Chunked
            | ResponseBody::UntilClose
            | ResponseBody::Upgraded
            | ResponseBody::LastChunk
            | ResponseBody::Failed => None,
        }
    }

    /// Writes as much of `bytes` as there is room for, never more than the announced length, and returns the number of
    /// bytes written. If some are left, the exchange is called again when there is room.
    #[must_use = "bytes that were not written have to be written later"]
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

    /// Sends the head of the response now, if it is [held back](Response::stream): for a client that sends more only
    /// after it has the head. If the request's body then turns out to be malformed, too large or late, no error
    /// response can be sent and the connection ends. A body that is written needs no flush: it leaves when the
    /// callback has returned.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends the head at once, and at the end how many bytes it has received.
    /// struct Listener(u64);
    ///
    /// impl<S: State> Exchange<S> for Listener {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         io.flush();
    ///         while !io.body().is_empty() {
    ///             self.0 += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if io.is_ended() && write!(io, "{} bytes", self.0).is_ok() { Flow::Done } else { Flow::More }
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

    /// Releases a head that is held back, so that a write can follow it. The caller must then [commit](Self::commit)
    /// the head if it is to leave, and otherwise [take it back](Self::take_back).
    fn try_head(&mut self) -> Option<Held> {
        if !*self.link.held {
            return None;
        }
        // The status is read back from the formatted head, since a connection has no room to keep it.
        let head = self.output.held();
        let code = head.get(b"HTTP/1.1 ".len()..).and_then(|rest| rest.first_chunk::<3>());
        let code = code.map(|code| code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')));
        let Some(status) = code.and_then(Status::new) else {
            unreachable!("no status in a head that was formatted here: {}", head.escape_ascii())
        };
        let held = Held { before: self.output.mark(), status, length: self.remaining() };
        self.output.release();
        Some(held)
    }

    /// Lets the head leave: its status is final.
    fn commit(&mut self, held: Option<Held>) {
        if let Some(Held { status, length, .. }) = held {
            *self.link.held = false;
            self.link.found.answered = Some((status, length));
            self.link.found.begun = true;
        }
    }

    /// Holds the head back as before, after nothing was written.
    fn take_back(&mut self, held: Option<Held>) {
        if let Some(Held { before, .. }) = held {
            self.output.rewind(before);
        }
    }

    /// Writes all of a formatted text or nothing; called by `write!(io, ..)`. If the body is chunked, the text is one
    /// chunk and is formatted twice, first to count its bytes; if the results differ, nothing is written.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts down, one line at a time.
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
    /// [`Full`] if there is no room for all of the text; the exchange is called again when there is. A text that is
    /// longer than the output's limit, or whose `Display` fails, can never be written: then the connection ends. Also
    /// [`Full`] if the text is longer than what is left of the announced length.
    pub fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full> {
        let held = self.try_head();
        let result = self.write_text(text);
        // `Full` commits as well: a head that stays held back may occupy the only blocks that the text could get.
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
            ResponseBody::Length(_) | ResponseBody::UntilClose | ResponseBody::Upgraded => {
                output.write_fmt(text).map(|()| (output.queued() - before) as u64)
            }
            ResponseBody::Chunked => match displayed(&text) {
                None => Err(Full),
                Some(0) => Ok(0), // an empty chunk would end the body
                Some(length) if length.saturating_add(CHUNK_ROOM as u64) > output.room() as u64 => {
                    output.request_writable();
                    Err(Full)
                }
                Some(length) => chunk(output, length, |output| output.write_fmt(text)).map(|()| length),
            },
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => Err(Full),
        };
        if result.is_err() {
            output.rewind(mark);
            link.found.unanswerable |= never_fits(output, *link.outgoing, &text);
            return Err(Full);
        }
        if let ResponseBody::Length(left) = link.outgoing {
            let written = (output.queued() - before) as u64;
            if written > *left {
                output.rewind(mark);
                return Err(Full);
            }
            *left -= written;
        }
        result
    }

    /// Lets `f` write in place. `f` receives one contiguous piece of the output buffer and returns how many bytes it
    /// has filled from the front. Returns the same number; 0 if there was no room, and then the exchange is called
    /// again when there is.
    ///
    /// # Panics
    /// If `f` returns more than the length of the piece.
    pub fn fill(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let (start, most) = match self.link.outgoing {
            ResponseBody::Length(left) => (0, usize::try_from(*left).unwrap_or(usize::MAX)),
            ResponseBody::Chunked => (CHUNK_START, 0xffff),
            ResponseBody::UntilClose | ResponseBody::Upgraded => (0, usize::MAX),
            ResponseBody::Complete
            | ResponseBody::Deferred
            | ResponseBody::LastChunk
            | ResponseBody::Failed => return 0,
        };
        if most == 0 {
            return 0;
        }
        let held = self.try_head();
        // Starts a new block if the current one has no room for a useful chunk. Without room the head leaves as well,
        // for the reason in `write_fmt`.
        if start > 0 && self.output.reserve(2 * CHUNK_ROOM).is_err() {
            self.commit(held);
            return 0;
        }
        let behind = if start > 0 { 2 } else { 0 }; // the line end after the data
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
        if start > 0 {
            // The size of the chunk is known only now; its place before the data has a fixed length.
            let (front, rest) = spare.split_at_mut(start);
            front.copy_from_slice(&chunk_start(n));
            rest.split_at_mut(n).1.split_at_mut(behind).0.copy_from_slice(b"\r\n");
        }
        self.output.commit(start + n + behind);
        self.commit(held);
        self.link.found.written += n as u64;
        if let ResponseBody::Length(left) = self.link.outgoing {
            *left -= n as u64;
        }
        n
    }

    /// Copies as much of the request's body to the response as has arrived and there is room for, and consumes it.
    pub fn copy(&mut self) {
        loop {
            let Self { output, link, .. } = self;
            let data = usize::try_from(link.incoming.data()).unwrap_or(usize::MAX);
            let all = if link.raw.is_empty() { link.bytes } else { &*link.raw };
            let rest = all.get(*link.at..).unwrap_or_default();
            let body = rest.get(..data).unwrap_or(rest);
            if body.is_empty() || link.found.fault.is_some() {
                return;
            }
            if *link.held {
                self.flush();
                continue; // the borrows above have to be made again
            }
            let n = write(output, link.outgoing, body);
            link.found.written += n as u64;
            if n == 0 {
                return;
            }
            self.consume(n);
        }
    }

    /// Ends the response's body, with trailer fields if it is chunked: after a body of another kind they are left out.
    /// Announce their names with [`Response::announce_trailers`]. Returns what the exchange should return:
    /// [`Flow::Done`]; [`Flow::More`] if there is no room now, to be called again when there is; [`Flow::Abort`] if a
    /// field is invalid or must not be in a trailer section ([`Trailers`]), or if the fields have more than
    /// [`FIELDS_MAX`](crate::FIELDS_MAX) bytes in total or do not fit into the output's limit.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends the numbers below a thousand, and after them how many there are.
    /// struct Numbers(u32);
    ///
    /// impl<S: State> Exchange<S> for Numbers {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while self.0 < 1000 {
    ///             if write!(io, "{}\n", self.0).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             self.0 += 1;
    ///         }
    ///         io.end_with(&[("X-Count", &self.0)])
    ///     }
    /// }
    ///
    /// let server = Http::new()
    ///     .get("/", |_request, response| response.announce_trailers(&["X-Count"]).stream(None, Numbers(0)));
    /// # drop(server);
    /// ```
    pub fn end_with(&mut self, fields: &[(&str, &dyn fmt::Display)]) -> Flow {
        if *self.link.outgoing != ResponseBody::Chunked {
            return Flow::Done;
        }
        self.flush();
        let Self { output, tools: ServerContext { scratch: Scratch { extra, .. }, .. }, .. } = self;
        extra.clear();
        for (name, value) in fields {
            extra.add_trailer(name, *value);
        }
        let length = LAST_CHUNK.len() + extra.lines().len();
        if extra.failed || output.limit() > 0 && length > output.limit() {
            return Flow::Abort;
        }
        let (last_line, end) = LAST_CHUNK.split_at(LAST_CHUNK.len() - 2);
        let mark = output.mark();
        let sent =
            output.send(last_line).and_then(|()| output.send(extra.lines())).and_then(|()| output.send(end));
        if sent.is_err() {
            output.rewind(mark);
            output.request_writable_for(length);
            return Flow::More;
        }
        *self.link.outgoing = ResponseBody::Complete;
        Flow::Done
    }

    /// Returns the bytes that have arrived since an [upgrade](Response::upgrade) and were not consumed, to be changed in
    /// place, and beside them the rest of the transfer, whose `body` is empty. Unconsumed bytes keep the changes.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, State, Transfer};
    ///
    /// /// Sends lines back in upper case, without a copy.
    /// struct Upper;
    ///
    /// impl<S: State> Exchange<S> for Upper {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while let Some(end) = io.body().iter().position(|byte| *byte == b'\n') {
    ///             let (bytes, mut io_rest) = io.split();
    ///             let line = &mut bytes[..=end];
    ///             line.make_ascii_uppercase();
    ///             if io_rest.send(&[line]).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             io.consume(end + 1);
    ///         }
    ///         if io.body().len() == io.capacity() { Flow::Done } else { Flow::More }
    ///     }
    ///
    ///     fn peer_closed(&mut self, _: &mut Transfer<'_, S>) -> Flow {
    ///         Flow::Done
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    /// If the connection was not upgraded.
    pub fn split(&mut self) -> (&mut [u8], Transfer<'_, S>) {
        assert!(*self.link.outgoing == ResponseBody::Upgraded, "the connection was not upgraded");
        let at = *self.link.at;
        let (raw, rest) = self.reborrow();
        (raw.get_mut(at..).unwrap_or_default(), rest)
    }

    /// Sends all of the pieces or none of them, after an [upgrade](Response::upgrade).
    ///
    /// # Errors
    /// [`Full`] if there is no room for all of them. The exchange is called again when there is, unless the pieces are
    /// longer than [`output_limit`](Self::output_limit) together, for which there is never room.
    ///
    /// # Panics
    /// If the connection was not upgraded.
    pub fn send(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        assert!(*self.link.outgoing == ResponseBody::Upgraded, "the connection was not upgraded");
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length > self.output.room() {
            // For all of them at once: a `writable` for a single piece would come again and again, in vain.
            if length <= self.output.limit() {
                self.output.request_writable_for(length);
            }
            return Err(Full);
        }
        for piece in pieces {
            self.output.send(piece)?; // there is room
        }
        self.link.found.written += length as u64;
        Ok(())
    }

    /// Returns the maximum number of bytes that may wait to be sent; 0 if the connection is ending.
    pub fn output_limit(&self) -> usize {
        self.output.limit()
    }

    /// Returns the maximum number of bytes of the body that can wait to be consumed. An exchange must not wait for more:
    /// while that many bytes are unconsumed, the socket is not read.
    pub fn capacity(&self) -> usize {
        self.tools.connected.capacity
    }

    /// Returns whether there is room now for a [deferred](Response::defer) response of half the socket's output limit.
    /// If not, the exchange is called again when there is. [`Exchange::advance`](crate::Exchange::advance) is called
    /// only when there is room; a [message](crate::Exchange::message) is delivered regardless.
    pub fn is_ready(&mut self) -> bool {
        *self.link.outgoing == ResponseBody::Deferred
            && room_for_answer(&mut self.output).is_some()
            && can_hold(*self.link.incoming, &mut self.output)
    }

    /// Sends the response that was [deferred](Response::defer). Returns [`Flow::Done`], which the exchange should
    /// return. If there is no room for the response, it is replaced by a 500; if there is no room for that either,
    /// the connection ends. See [`is_ready`](Self::is_ready).
    ///
    /// # Panics
    /// If there is a response already, or if the response is an [upgrade](Response::upgrade).
    pub fn respond(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<Done>) -> Flow {
        self.respond_with(answer);
        self.flush();
        *self.link.outgoing = ResponseBody::Complete; // `Done` writes no body
        Flow::Done
    }

    /// Sends the response that was [deferred](Response::defer), which may be a [stream](Response::stream). Returns the
    /// exchange that writes its body, which the calling exchange has to drive from now on, or `None` if there is none.
    ///
    /// # Panics
    /// If there is a response already, or if the response is an [upgrade](Response::upgrade).
    pub fn respond_with<B>(&mut self, answer: impl FnOnce(&mut S, Response<'_>) -> Reply<B>) -> Option<B> {
        assert!(*self.link.outgoing == ResponseBody::Deferred, "there is a response already");
        let ServerContext { ref mut scratch, hooks, .. } = self.tools;
        scratch.extra.clear();
        // For `Response::stream`. Reset below, as the connections of a poller share it.
        scratch.holds = !self.link.incoming.has_ended();
        let (output, mode) = (&mut self.output, *self.link.mode);
        let writer = ResponseWriter { output, scratch, hooks, mode, status: Status::OK };
        let reply = answer(self.state, Response { writer });
        // the rest of the input has been parsed as HTTP by now
        assert!(reply.outgoing() != ResponseBody::Upgraded, "a deferred response cannot upgrade");
        self.tools.scratch.holds = false;
        if reply.closes() {
            self.link.mode.close();
        }
        if reply.has_failed() {
            self.link.found.replaced = Some(self.tools.scratch.fault);
        }
        let length = if reply.has_failed() { self.write_error_response() } else { reply.length };
        *self.link.outgoing = reply.outgoing();
        // The status of a head that is held back is not final: it is reported when the head leaves.
        *self.link.held = self.output.is_holding();
        if !*self.link.held {
            self.link.found.answered = Some((reply.status(), length));
            self.link.found.begun = reply.outgoing() != ResponseBody::Complete;
        }
        reply.unusual.and_then(|unusual| unusual.exchange)
    }

    /// Begins the response that was [deferred](Response::defer), with the status and fields that `head` sets and a
    /// body that is [written](Self::write) piece by piece: for bodies that may be larger than half of the output's
    /// limit. Without a length the body is chunked. The head is [held back](Response::stream) while the request's
    /// body is being read.
    ///
    /// Returns [`Flow::Done`], which the exchange should return, if no body is to be written: for `HEAD`, for a status
    /// that has no body, or after a head that cannot be sent was replaced by a 500.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Counts the bytes of the body, then responds with the same number of bytes.
    /// struct Mirror { bytes: u64, answers: bool }
    ///
    /// impl<S: State> Exchange<S> for Mirror {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while !io.body().is_empty() {
    ///             self.bytes += io.body().len() as u64;
    ///             io.consume(io.body().len());
    ///         }
    ///         if !io.is_ended() {
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
        assert!(*self.link.outgoing == ResponseBody::Deferred, "there is a response already");
        let ServerContext { ref mut scratch, hooks, .. } = self.tools;
        scratch.extra.clear();
        let (output, mode) = (&mut self.output, *self.link.mode);
        let writer = ResponseWriter { output, scratch, hooks, mode, status: Status::OK };
        let Response { mut writer } = head(self.state, Response { writer });
        let hold = !self.link.incoming.has_ended();
        let started = writer.start(length.map_or(BodyLength::Unknown, BodyLength::Length), hold);
        let (status, closes) = (writer.status, !writer.mode.has(ResponseMode::KEEP_ALIVE));
        if closes {
            self.link.mode.close();
        }
        match started {
            Ok(outgoing) => {
                *self.link.outgoing = outgoing;
                *self.link.held = self.output.is_holding();
                let whole = outgoing == ResponseBody::Complete;
                if !*self.link.held {
                    self.link.found.answered = Some((status, length));
                    self.link.found.begun = !whole;
                }
                if whole { Flow::Done } else { Flow::More }
            }
            Err(Full) => {
                self.link.found.replaced = Some(self.tools.scratch.fault);
                let length = self.write_error_response();
                *self.link.outgoing = ResponseBody::Complete;
                self.link.found.answered = Some((Status::INTERNAL_SERVER_ERROR, length));
                Flow::Done
            }
        }
    }

    /// Returns the identity of this request, for addressing [messages](crate::RequestMessage) to its exchange.
    pub fn id(&self) -> RequestId {
        RequestId::new(self.token(), self.link.number)
    }

    /// Returns the identity of the connection. Other requests may follow on it: see [`id`](Self::id).
    pub fn token(&self) -> Token {
        self.tools.connected.token
    }

    /// Returns the client's address.
    pub fn peer(&self) -> Address {
        self.tools.connected.peer.unpack()
    }

    /// Returns when this callback began.
    pub fn now(&self) -> Instant {
        self.tools.connected.now
    }

    /// Schedules a call of [`Exchange::advance`](crate::Exchange::advance) at the time `at`, unless the exchange is
    /// over by then. A later call of `wake_at` replaces the time. A time that has passed is taken as one millisecond
    /// from now; or, if the exchange waits for room and was not [upgraded](Response::upgrade), it is called when there
    /// is room.
    ///
    /// The scheduled call does not come before `at`, though other events may cause earlier calls. It is as precise as
    /// the engine's clock; if another time of the request comes first, such as its
    /// [`body_time`](crate::Limits::body_time), it may be late by up to a 255th of the time until `at`.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_core::Instant;
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends nothing but a comment every 15 seconds.
    /// #[derive(Default)]
    /// struct Heartbeat(Option<Instant>);
    ///
    /// impl<S: State> Exchange<S> for Heartbeat {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         if self.0.is_none_or(|next| io.now() >= next) {
    ///             if write!(io, ":\n\n").is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
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

    /// Returns what is left of a body that has a length, once all of it has arrived.
    pub(crate) fn whole_body(&mut self) -> Option<&'t [u8]> {
        let left = match *self.link.incoming {
            RequestBody::Ended | RequestBody::Trailers(_) => return Some(&[]),
            RequestBody::Upgraded => return None,
            RequestBody::Length(left) => usize::try_from(left.get()).ok()?,
            RequestBody::Chunked(_) => return None,
        };
        let body = self.link.bytes.get(*self.link.at..)?.get(..left);
        self.link.found.gathers = body.is_none();
        body
    }

    /// Writes a 500 in place of a response that could not be written; returns the length of its body.
    pub(crate) fn write_error_response(&mut self) -> Option<u64> {
        let ServerContext { ref mut scratch, .. } = self.tools;
        scratch.extra.clear();
        let (output, mode) = (&mut self.output, *self.link.mode);
        let mut writer = ResponseWriter { output, scratch, hooks: None, mode, status: Status::OK };
        let length = writer.canned_response(Status::INTERNAL_SERVER_ERROR).ok();
        self.link.found.unanswerable |= length.is_none();
        length
    }

    /// Returns the same transfer with `hook` around it.
    pub(crate) fn within<'s>(&'s mut self, hook: &'s Hook<'s>) -> Transfer<'s, S> {
        let (raw, mut inner) = self.reborrow();
        inner.link.raw = raw;
        inner.tools.hooks = Some(hook);
        inner
    }

    /// Returns the same transfer for a shorter lifetime, but with its input as bytes beside it if there was an upgrade.
    fn reborrow(&mut self) -> (&mut [u8], Transfer<'_, S>) {
        let ConnectionContext {
            bytes,
            ref mut raw,
            ref mut at,
            ref mut incoming,
            ref mut outgoing,
            ref mut held,
            ref mut mode,
            ref mut found,
            number,
            keeps_trailers,
        } = self.link;
        let ServerContext { limits, ref mut scratch, connected, hooks } = self.tools;
        let transfer = Transfer {
            state: self.state,
            outlet: self.outlet.reborrow(),
            output: self.output.reborrow(),
            link: ConnectionContext {
                bytes,
                raw: &mut [],
                at,
                incoming,
                outgoing,
                held,
                mode,
                found,
                number,
                keeps_trailers,
            },
            tools: ServerContext { limits, scratch, connected, hooks },
        };
        (raw, transfer)
    }

    /// Finishes a call of the exchange. If the exchange is over, completes the response; returns `false` if that is
    /// impossible. A head that is held back leaves once the request's body has ended, as nothing can be wrong with the
    /// request any more.
    pub(crate) fn settle(&mut self, over: bool) -> bool {
        if over {
            let whole = self.finish();
            self.drop_trailers();
            // What is left of the request's body is read and dropped, so that the next request can follow it.
            while !self.body().is_empty() {
                self.consume(self.body().len());
            }
            if *self.link.incoming == RequestBody::Upgraded {
                *self.link.incoming = RequestBody::Ended;
            }
            return whole;
        }
        if self.is_ended() {
            self.flush();
        }
        true
    }

    /// Returns whether the exchange waits for more of the body. After an upgrade, it decides what the end of the peer's
    /// stream means.
    pub(crate) fn is_starved(&self) -> bool {
        (self.body().is_empty() || self.link.found.gathers)
            && !(self.is_ended() || *self.link.incoming == RequestBody::Upgraded)
    }

    /// Removes what was kept of a trailer section from the input, and keeps none from now on.
    fn drop_trailers(&mut self) {
        if self.link.keeps_trailers {
            *self.link.at += self.link.incoming.trailer_bytes();
            self.link.keeps_trailers = false;
        }
        if matches!(self.link.incoming, RequestBody::Trailers(_)) {
            *self.link.incoming = RequestBody::Ended;
        }
    }

    /// Completes the response after the exchange is over; returns `false` if that is impossible.
    fn finish(&mut self) -> bool {
        self.flush();
        let left = *self.link.outgoing;
        *self.link.outgoing = match left {
            ResponseBody::Deferred => {
                let length = self.write_error_response();
                self.link.found.answered = Some((Status::INTERNAL_SERVER_ERROR, length));
                ResponseBody::Complete
            }
            ResponseBody::Failed => return false,
            // Fewer bytes were written than announced. Only the end of the connection can end the body.
            ResponseBody::Length(1..) => return false,
            ResponseBody::Chunked | ResponseBody::LastChunk => match self.output.send(LAST_CHUNK) {
                Ok(()) => ResponseBody::Complete,
                Err(Full) => ResponseBody::LastChunk,
            },
            ResponseBody::UntilClose | ResponseBody::Upgraded => {
                self.link.mode.close();
                ResponseBody::Complete
            }
            ResponseBody::Length(_) | ResponseBody::Complete => ResponseBody::Complete,
        };
        true
    }
}

impl ConnectionContext<'_> {
    fn rest(&self) -> &[u8] {
        let all = if self.raw.is_empty() { self.bytes } else { &*self.raw };
        all.get(*self.at..).unwrap_or_default()
    }

    /// Decodes the chunk framing up to the next data, or to the end of the body.
    fn decode(&mut self, limits: &Limits, capacity: usize) {
        let ended = match self.incoming {
            RequestBody::Ended | RequestBody::Trailers(_) | RequestBody::Upgraded => return,
            RequestBody::Length(left) => left.is_zero(),
            RequestBody::Chunked(decoder) => {
                let rest = self.bytes.split_at(*self.at).1;
                let taken = if self.keeps_trailers {
                    decoder.frame_before_trailers(rest, limits, capacity)
                } else {
                    decoder.frame(rest, limits)
                };
                match taken {
                    Ok(n) => *self.at += n,
                    Err(status) => self.found.fault = Some(status),
                }
                if decoder.is_done() && self.keeps_trailers {
                    let section = Count::new(decoder.trailer_bytes().into());
                    *self.incoming = RequestBody::Trailers(section);
                    return;
                }
                decoder.is_done()
            }
        };
        if ended {
            *self.incoming = RequestBody::Ended;
        }
    }
}

/// The minimum room in the output, in bytes, with which a request is started.
pub(crate) const ROOM_MIN: usize = 256;

/// Returns the room in the output if at least as much is free as is occupied: then a response of half of the limit fits.
/// Otherwise requests `writable`.
#[inline(always)]
pub(crate) fn room_for_answer(output: &mut Output<'_>) -> Option<usize> {
    let room = output.room();
    // not what is queued: a head that was held back has a block of its own, however short it is
    let least = output.occupied().max(ROOM_MIN);
    if room < least {
        output.request_writable_for(least);
        return None;
    }
    Some(room)
}

/// Returns whether the head of a response can be held back if it has to be: as long as the body of the request may turn
/// out to be malformed. Otherwise requests `writable`: the request waits for earlier responses to leave.
#[inline(always)]
pub(crate) fn can_hold(incoming: RequestBody, output: &mut Output<'_>) -> bool {
    incoming.has_ended() || output.queued() == 0 || has_room_to_hold(output)
}

/// Returns whether a response of half of the limit can be held back, which needs blocks of its own.
#[cold]
fn has_room_to_hold(output: &mut Output<'_>) -> bool {
    let before = output.mark();
    let _ = output.seal();
    let fits = output.room() >= output.occupied().max(ROOM_MIN);
    output.rewind(before);
    if !fits {
        // more than there is room for, so that `writable` does not come before something has left
        output.request_writable_for(output.limit());
    }
    fits
}

/// Writes as much of `bytes` as fits, in the coding of the body; returns how much.
fn write(output: &mut Output<'_>, outgoing: &mut ResponseBody, bytes: &[u8]) -> usize {
    match outgoing {
        ResponseBody::Length(left) => {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            let n = output.send_some(bytes.get(..most).unwrap_or(bytes));
            *left -= n as u64;
            n
        }
        ResponseBody::UntilClose | ResponseBody::Upgraded => output.send_some(bytes),
        ResponseBody::Chunked => {
            let n = bytes.len().min(output.room().saturating_sub(CHUNK_ROOM)).min(0xffff_ffff);
            if n < bytes.len() {
                output.request_writable();
            }
            if n == 0 {
                return 0; // an empty chunk would end the body
            }
            let mark = output.mark();
            match chunk(output, n as u64, |output| output.send(bytes.split_at(n).0)) {
                Ok(()) => n,
                Err(Full) => {
                    output.rewind(mark);
                    0
                }
            }
        }
        ResponseBody::Complete | ResponseBody::Deferred | ResponseBody::LastChunk | ResponseBody::Failed => 0,
    }
}

/// Writes one chunk: its size, `length` bytes of data that `write` writes, and the line end. After an error the caller
/// has to rewind the output.
fn chunk(
    output: &mut Output<'_>,
    length: u64,
    write: impl FnOnce(&mut Output<'_>) -> Result<(), Full>,
) -> Result<(), Full> {
    output.write_fmt(format_args!("{length:x}\r\n"))?;
    let expected = output.queued() as u64 + length;
    write(output)?;
    if output.queued() as u64 != expected {
        // The data is a text whose second formatting differs from the first: the exchange has to try again.
        output.request_writable();
        return Err(Full);
    }
    output.send(b"\r\n")
}

/// Returns whether a text can never be written, however long the exchange waits for room.
#[cold]
fn never_fits(output: &Output<'_>, outgoing: ResponseBody, text: &fmt::Arguments<'_>) -> bool {
    let around = if outgoing == ResponseBody::Chunked { CHUNK_ROOM } else { 0 };
    let limit = output.limit(); // 0 if the connection is ending
    limit > 0 && displayed(text).is_none_or(|length| length > limit.saturating_sub(around) as u64)
}

/// Returns the start of a chunk of `n` bytes, in four digits.
#[expect(clippy::cast_possible_truncation, reason = "four bits each")]
fn chunk_start(n: usize) -> [u8; CHUNK_START] {
    let digit = |shift: u32| match (n >> shift) as u8 & 15 {
        low @ 0..10 => b'0' + low,
        high => b'a' + high - 10,
    };
    [digit(12), digit(8), digit(4), digit(0), b'\r', b'\n']
}
