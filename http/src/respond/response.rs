//! The response of a handler.

use core::fmt::Display;

use lightcone_core::Full;

use crate::exchange::{Done, GeneratedBody, StaticBody};
use crate::mode::ResponseMode;
#[cfg(feature = "alloc")]
use crate::owned::{Boxed, Owned};
use crate::parameter::ParameterError;
use crate::status::Status;

use super::text::displayed;
use super::writer::{BodyLength, Fault, ResponseBody, ResponseWriter, text_line};

/// A response that is not sent yet. Every method that sends it consumes it and returns the [`Reply`] that a handler
/// must return, so that no request remains without a response.
///
/// ```
/// use lightcone_http::{Done, Reply, Request, Response};
///
/// fn teapot(_request: Request<'_, ()>, response: Response<'_>) -> Reply<Done> {
///     response.status(418).header("X-Spout", "short").text("no coffee here")
/// }
/// ```
///
/// `Server`, `Date` (if there is a wall clock), `Content-Type` and the fields that frame the body are added
/// automatically. A handler can replace the first three with its own; the framing fields cannot be set.
#[must_use = "no response is sent"]
#[derive(Debug)]
pub struct Response<'a> {
    pub(crate) writer: ResponseWriter<'a>,
}

impl Response<'_> {
    /// Sets the status: a [`Status`], or its number. The default is 200.
    ///
    /// It is a mistake of the program to set a number that is not from 200 to 599. The client then receives a 500
    /// instead of this response.
    pub fn status(mut self, status: impl TryInto<Status>) -> Self {
        self.writer.set_status(status);
        self
    }

    /// Adds a field.
    ///
    /// It is a mistake of the program to add a field whose name is not a token, a value that contains a control
    /// character (CR, LF and NUL could end the field early), one of the fields that frame the message, or more than
    /// [`FIELDS_MAX`](crate::FIELDS_MAX) bytes of fields in total. The client then receives a 500 instead of this
    /// response.
    pub fn header(self, name: &str, value: impl Display) -> Self {
        self.writer.scratch.extra.add(name, &value);
        self
    }

    /// Returns the seconds since 1970-01-01 UTC, as in the `Date` field; `None` if the driver has no wall clock.
    #[must_use]
    pub fn unix_time(&self) -> Option<u64> {
        self.writer.scratch.template.second()
    }

    /// Keeps the trailer fields of a chunked request for the exchange of this response, which reads them with
    /// [`Transfer::trailers`](crate::Transfer::trailers) once the body has ended. Otherwise they are checked and dropped.
    ///
    /// They stay in the input of the connection until the exchange is over. So a section that is larger than the input
    /// ([`Transfer::capacity`](crate::Transfer::capacity)) is refused with 431, as is one beyond
    /// [`Limits::trailers`](crate::Limits::trailers).
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Adds the bytes of a body, and compares the sum with the one that the client sends after it.
    /// struct Sum(u64);
    ///
    /// impl<S: State> Exchange<S> for Sum {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while !io.body().is_empty() {
    ///             self.0 += io.body().iter().copied().map(u64::from).sum::<u64>();
    ///             io.consume(io.body().len());
    ///         }
    ///         if !io.is_ended() {
    ///             return Flow::More;
    ///         }
    ///         let sent = io.trailers().text("x-sum").and_then(|sum| sum.parse().ok());
    ///         let status = if sent == Some(self.0) { 200 } else { 422 };
    ///         io.respond(|_, response| response.status(status).display(self.0))
    ///     }
    /// }
    ///
    /// let server = Http::new().post("/", |_request, response| response.keep_trailers().defer(Sum(0)));
    /// # drop(server);
    /// ```
    pub fn keep_trailers(self) -> Self {
        self.writer.scratch.extra.keep_trailers();
        self
    }

    /// Announces the trailer fields that the exchange sends after a chunked body, by
    /// [`Transfer::end_with`](crate::Transfer::end_with): the response has a field `Trailer` with these names if its
    /// length is not known in advance and the client speaks HTTP/1.1.
    ///
    /// Recipients may drop trailer fields, and proxies do. A client that uses them says so with `TE: trailers`, see
    /// [`Request::accepts_trailers`](crate::Request::accepts_trailers); without that, send none that it needs.
    ///
    /// It is a mistake of the program to announce a name that is not a token, or that of a field that a recipient
    /// needs before the body, such as `Content-Type` or `Set-Cookie` ([`Trailers`](crate::Trailers)). The client then
    /// receives a 500 instead of this response.
    pub fn announce_trailers(self, names: &'static [&'static str]) -> Self {
        self.writer.scratch.extra.announce_trailers(names);
        self
    }

    /// Adds the fields of a response that a proxy passes on. They take the place of `Server`, `Date` and `Content-Type`
    /// that are added otherwise, and are not limited by [`FIELDS_MAX`](crate::FIELDS_MAX), but the head has to fit into
    /// the output like that of any other response. Requires the feature `alloc`.
    #[cfg(feature = "alloc")]
    pub fn forward(self, fields: &crate::client::ForwardedFields) -> Self {
        self.writer.scratch.extra.forward(fields);
        self
    }

    /// Closes the connection after this response.
    pub fn close(mut self) -> Self {
        self.writer.mode.close();
        self
    }

    /// Sends a plain text.
    ///
    /// Bodies that are sent at once must fit into the output buffer. At least half of its limit is free when a handler
    /// runs. A larger body that does not fit is replaced by a 500, which is [counted](crate::Stats::oversized) and
    /// logged with the [reason](crate::Fault::TooLarge): use [`generate`](Self::generate) or [`stream`](Self::stream)
    /// instead.
    ///
    /// # Panics
    /// In builds with debug assertions, if a body larger than half of the limit does not fit.
    #[inline(always)]
    pub fn text(mut self, body: &str) -> Reply<Done> {
        if self.writer.plain(body.as_bytes()) {
            return Reply::plain(body.len());
        }
        // `into_any` rebuilds the reply, so that the common one above stays in registers.
        self.whole(text_line(), body.as_bytes()).into_any()
    }

    /// Sends a plain text, formatted from anything that implements [`Display`]. It is formatted twice, first to count
    /// its bytes.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new()
    ///     .get("/peer", |request, response| response.display(request.peer()))
    ///     .get("/half/{n}", |request, response| match request.param("n").parse::<u32>() {
    ///         Ok(n) => response.display(format_args!("{}\n", n / 2)),
    ///         Err(error) => response.status(400).display(error),
    ///     });
    /// # drop(server);
    /// ```
    pub fn display(mut self, body: impl Display) -> Reply<Done> {
        self.formatted("text/plain; charset=utf-8", &body)
    }

    /// Sends a JSON text, formatted as by [`display`](Self::display).
    ///
    /// ```
    /// # use lightcone_http::{Http, JsonString};
    /// let server = Http::new().get("/hello/{name}", |request, response| {
    ///     let name = JsonString(request.param("name"));
    ///     response.display_json(format_args!(r#"{{"hello":{name}}}"#))
    /// });
    /// # drop(server);
    /// ```
    pub fn display_json(mut self, body: impl Display) -> Reply<Done> {
        self.formatted("application/json", &body)
    }

    fn formatted(&mut self, content_type: &'static str, body: &dyn Display) -> Reply<Done> {
        let writer = &mut self.writer;
        writer.scratch.fault = Fault::Invalid;
        let Some(length) = displayed(body) else { return fail(writer) };
        let mark = writer.output.mark();
        if !writer.scratch.extra.own_type {
            writer.scratch.extra.add("Content-Type", &content_type);
        }
        writer.refuse_body();
        match writer.start(BodyLength::Length(length), false) {
            Ok(ResponseBody::Complete) => return reply(writer, Some(length), ResponseBody::Complete),
            Ok(_) => {}
            Err(Full) => return fail(writer),
        }
        let expected = writer.output.queued() as u64 + length;
        let written = writer.output.write_fmt(format_args!("{body}"));
        // If the second formatting differs from the first, the announced length is wrong.
        if written.is_err() || writer.output.queued() as u64 != expected {
            writer.output.rewind(mark);
            if written.is_err() {
                writer.does_not_fit(length);
            }
            return fail(writer);
        }
        reply(writer, Some(length), ResponseBody::Complete)
    }

    /// Sends a JSON text that is already serialised.
    pub fn json(self, body: &str) -> Reply<Done> {
        self.whole(b"Content-Type: application/json\r\n", body.as_bytes())
    }

    /// Sends an HTML page.
    pub fn html(self, body: &str) -> Reply<Done> {
        self.whole(b"Content-Type: text/html; charset=utf-8\r\n", body.as_bytes())
    }

    /// Sends bytes. Set a `Content-Type` if it is not `application/octet-stream`.
    pub fn bytes(self, body: &[u8]) -> Reply<Done> {
        self.whole(b"Content-Type: application/octet-stream\r\n", body)
    }

    /// Sends a body of any length that is part of the program, piece by piece as there is room. It is copied only into
    /// the blocks of the output. Set a `Content-Type`. Each connection has room for the exchange, 16 bytes.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// static LOGO: &[u8] = b"..."; // include_bytes!("logo.png")
    ///
    /// let server = Http::new()
    ///     .get("/logo.png", |_request, response| response.header("Content-Type", "image/png").embedded(LOGO));
    /// # drop(server);
    /// ```
    pub fn embedded(self, body: &'static [u8]) -> Reply<StaticBody> {
        self.stream(Some(body.len() as u64), StaticBody(body))
    }

    /// Sends a body of any length that the response owns, such as a `Vec<u8>`, a `String` or an `Arc<[u8]>`, piece by
    /// piece as there is room. Set a `Content-Type`. Each connection has room for a pointer to the body. Requires the
    /// feature `alloc`.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/numbers", |_request, response| {
    ///     let numbers: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    ///     response.header("Content-Type", "text/plain").owned(numbers)
    /// });
    /// # drop(server);
    /// ```
    #[cfg(feature = "alloc")]
    pub fn owned(self, body: impl AsRef<[u8]> + Send + 'static) -> Reply<Owned> {
        let length = body.as_ref().len();
        self.stream(Some(length as u64), Owned::new(body))
    }

    /// Redirects the client to another location. The status is 303, so that the client follows with `GET`, unless
    /// another one that redirects was set: 301, 302, 307 or 308.
    ///
    /// It is a mistake of the program to set any other status, or a location that is empty or has other characters than
    /// visible ASCII without backslashes. The client then receives a 500 instead of this response. Check a location that
    /// depends on client input with [`LocalPath`](crate::LocalPath), which has no others.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new()
    ///     .post("/login", |_request, response| response.redirect("/"))
    ///     .get("/old/{page}", |request, response| {
    ///         response.status(308).redirect(format_args!("/new/{}", request.param("page")))
    ///     });
    /// # drop(server);
    /// ```
    pub fn redirect(mut self, location: impl Display) -> Reply<Done> {
        match self.writer.status.code() {
            200 => self.writer.status = Status::SEE_OTHER,
            301 | 302 | 303 | 307 | 308 => {}
            _ => self.writer.scratch.extra.fail(),
        }
        self.writer.scratch.extra.add_location(&location);
        self.empty()
    }

    /// Sends no body.
    pub fn empty(self) -> Reply<Done> {
        self.whole(b"", b"")
    }

    /// Sends a [`status`](Self::status), with its number and phrase as a short text.
    pub fn refuse(mut self, status: impl TryInto<Status>) -> Reply<Done> {
        match self.writer.canned_response(status) {
            Ok(length) => reply(&self.writer, Some(length), ResponseBody::Complete),
            Err(Full) => fail(&mut self.writer),
        }
    }

    /// Sends a 400 with the error's text, such as `the parameter id is invalid: invalid digit found in string`.
    pub fn bad_parameter<E: Display>(self, error: &ParameterError<E>) -> Reply<Done> {
        self.status(Status::BAD_REQUEST).display(format_args!("{error}\n"))
    }

    /// Lets `exchange` write the body piece by piece, and read the body of the request. Without a length, the body is
    /// chunked; for an HTTP/1.0 client, it is delimited by the end of the connection.
    ///
    /// The head leaves at once if the request has no body. Otherwise it is held back until the exchange writes the
    /// first byte, [flushes](crate::Transfer::flush) or is over, or the body of the request has been read completely.
    /// Until then, a 400, 413 or 408 takes its place if the body of the request is malformed, too large or late.
    /// Afterwards, the response is cut short in these cases.
    pub fn stream<B>(mut self, length: Option<u64>, exchange: B) -> Reply<B> {
        let body_length = length.map_or(BodyLength::Unknown, BodyLength::Length);
        let hold = self.writer.scratch.holds;
        match self.writer.start(body_length, hold) {
            Ok(outgoing) => {
                let exchange = (outgoing != ResponseBody::Complete).then_some(exchange);
                reply_with(&self.writer, length, outgoing, exchange)
            }
            Err(Full) => fail(&mut self.writer),
        }
    }

    /// Changes the protocol of the connection, with a 101 (RFC 9110, 7.8): from then on `exchange` reads and writes
    /// bytes of that protocol, which HTTP passes on as they are. What the client has sent after its request is part of
    /// them. The handler must first check that the client asked for `protocol`, and add the fields that the protocol
    /// needs.
    ///
    /// The exchange reads all bytes that arrive as the body of its request, which does not end: see
    /// [`Transfer::split`](crate::Transfer::split). The connection ends, in stages, when the exchange is done; it is
    /// reset when the exchange gives up by [`Flow::Abort`](crate::Flow::Abort). The idle timeout of the engine does not
    /// run and there are no limits of time, so the exchange must notice by itself, with
    /// [`Transfer::wake_at`](crate::Transfer::wake_at), that its peer has left.
    ///
    /// A request that cannot change the protocol is refused: with 426 if it is of HTTP/1.0 or a `HEAD`, and with 400 if
    /// it has a body.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends back what it receives, until the client ends its stream.
    /// struct Echo;
    ///
    /// impl<S: State> Exchange<S> for Echo {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         io.copy();
    ///         Flow::More
    ///     }
    ///
    ///     fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         io.copy();
    ///         if io.body().is_empty() { Flow::Done } else { Flow::More }
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/echo", |request, response| match request.header("upgrade") {
    ///     Some("echo") => response.upgrade("echo", Echo),
    ///     _ => response.status(426).header("Upgrade", "echo").text("echo only").into_any(),
    /// });
    /// # drop(server);
    /// ```
    pub fn upgrade<B>(mut self, protocol: &str, exchange: B) -> Reply<B> {
        let mode = self.writer.mode;
        if mode.has(ResponseMode::HTTP_10) || mode.has(ResponseMode::HEAD_ONLY) {
            return self.header("Upgrade", protocol).refuse(Status::UPGRADE_REQUIRED).into_any();
        }
        if self.writer.scratch.holds {
            return self.refuse(Status::BAD_REQUEST).into_any();
        }
        self.writer.status = Status::SWITCHING_PROTOCOLS;
        match self.writer.switch(protocol) {
            Ok(()) => reply_with(&self.writer, None, ResponseBody::Upgraded, Some(exchange)),
            Err(Full) => fail(&mut self.writer),
        }
    }

    /// Lets `exchange` respond later, for example after it has read the body of the request, by
    /// [`Transfer::respond`](crate::Transfer::respond). The status and fields set so far are discarded.
    pub fn defer<B>(mut self, exchange: B) -> Reply<B> {
        self.writer.scratch.fault = Fault::NoRoom;
        match self.writer.leave() {
            Ok(()) => reply_with(&self.writer, None, ResponseBody::Deferred, Some(exchange)),
            Err(Full) => fail(&mut self.writer),
        }
    }

    /// Sends a body of `length` bytes that `f` generates piece by piece, whenever there is room. `f` receives the
    /// offset of a piece and the piece to fill. The sizes of pieces are not known in advance.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new()
    ///     .get("/zeros", |_request, response| response.generate(1 << 20, |_offset, piece| piece.fill(b'0')));
    /// # drop(server);
    /// ```
    pub fn generate<F: FnMut(u64, &mut [u8])>(self, length: u64, f: F) -> Reply<GeneratedBody<F>> {
        self.stream(Some(length), GeneratedBody::new(f))
    }

    /// Sends a complete response.
    #[inline(never)]
    fn whole(mut self, content_type: &[u8], body: &[u8]) -> Reply<Done> {
        match self.writer.whole(content_type, body) {
            Ok(()) => reply(&self.writer, Some(body.len() as u64), ResponseBody::Complete),
            Err(Full) => fail(&mut self.writer),
        }
    }
}

/// What the server sends in place of a response that cannot be sent.
pub(crate) const APOLOGY: &str = "500 Internal Server Error\n";

/// Sends a 500 in place of a response that cannot be sent, of which nothing was written.
#[cold]
pub(crate) fn fail<B>(writer: &mut ResponseWriter<'_>) -> Reply<B> {
    let Reply { length, unusual } = replaced(writer, Status::INTERNAL_SERVER_ERROR);
    Reply { length, unusual: unusual.map(|unusual| Unusual { failed: true, ..unusual }) }
}

/// [Replaces](ResponseWriter::replace) a response, of which nothing was written.
#[cold]
pub(crate) fn replaced<B>(writer: &mut ResponseWriter<'_>, status: Status) -> Reply<B> {
    let length = writer.replace(status).ok();
    let outgoing = if length.is_some() { ResponseBody::Complete } else { ResponseBody::Failed };
    reply(writer, length, outgoing)
}

/// Returns the reply for a response that was written.
fn reply<B>(writer: &ResponseWriter<'_>, length: Option<u64>, outgoing: ResponseBody) -> Reply<B> {
    reply_with(writer, length, outgoing, None)
}

/// Returns the reply for a response that was written, with the exchange that continues the request.
pub(crate) fn reply_with<B>(
    writer: &ResponseWriter<'_>,
    length: Option<u64>,
    outgoing: ResponseBody,
    exchange: Option<B>,
) -> Reply<B> {
    let closes = !writer.mode.has(ResponseMode::KEEP_ALIVE);
    let unusual = Unusual { exchange, status: writer.status, outgoing, failed: false, closes };
    Reply { length, unusual: Some(unusual) }
}

/// The result of a handler. Only the methods of [`Response`] create one, so a handler that does not respond does not
/// compile:
///
/// ```compile_fail,E0308
/// let server = lightcone_http::Http::new().get("/", |_request, response| {
///     response.text("forgotten");
/// });
/// ```
///
/// `B` is the type of the [`Exchange`](crate::Exchange) that continues the request. A handler that responds at once in
/// one branch and streams in another calls [`into_any`](Self::into_any) in the first.
///
/// A function that is a handler and returns `Reply<impl Exchange<S>>` has to state that the exchange borrows nothing
/// from the request, with `+ use<>` and the function's type parameters. In edition 2024 it captures the request's
/// lifetime otherwise, and the compiler reports "implementation is not general enough" or "mismatched types" where
/// the function is added as a route:
///
/// ```
/// use lightcone_http::{Exchange, Http, Reply, Request, Response};
///
/// fn letters(_request: Request<'_, ()>, response: Response<'_>) -> Reply<impl Exchange<()> + use<>> {
///     response.generate(1 << 20, |_offset, piece| piece.fill(b'a'))
/// }
///
/// let server = Http::new().get("/letters", letters);
/// # drop(server);
/// ```
#[must_use = "return it from the handler"]
#[derive(Debug)]
pub struct Reply<B> {
    /// The length of the body, if it is known.
    pub(crate) length: Option<u64>,
    /// `None` for the common case: a complete 200 on a connection that stays open, so that nothing is left to do.
    pub(crate) unusual: Option<Unusual<B>>,
}

/// The details of a [`Reply`] that is not the common case. (For the common case only that fact is passed on.)
#[derive(Debug)]
pub(crate) struct Unusual<B> {
    pub(crate) exchange: Option<B>,
    pub(crate) status: Status,
    pub(crate) outgoing: ResponseBody,
    /// Whether the response could not be written, and was replaced by a 500.
    pub(crate) failed: bool,
    /// Whether the connection ends after the response.
    pub(crate) closes: bool,
}

impl<B> Unusual<B> {
    /// The details of the common case.
    pub(crate) const NONE: Self = Self::new(Status::OK, ResponseBody::Complete);

    const fn new(status: Status, outgoing: ResponseBody) -> Self {
        Self { exchange: None, status, outgoing, failed: false, closes: false }
    }
}

#[cfg(feature = "alloc")]
impl<B> Reply<B> {
    /// Moves the exchange to the heap. Each connection then has room for a pointer in place of the exchange, so a large
    /// one costs nothing on the connections that do not use it. Requires the feature `alloc`.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends the last kilobyte of the body back.
    /// struct Last([u8; 1024]);
    ///
    /// impl<S: State> Exchange<S> for Last {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while let Some((first, _)) = io.body().split_first() {
    ///             self.0.rotate_left(1);
    ///             self.0[1023] = *first;
    ///             io.consume(1);
    ///         }
    ///         if !io.is_ended() {
    ///             return Flow::More;
    ///         }
    ///         io.respond(|_, response| response.bytes(&self.0))
    ///     }
    /// }
    ///
    /// let server = Http::new().post("/last", |_request, response| response.defer(Last([0; 1024])).boxed());
    /// # drop(server);
    /// ```
    pub fn boxed(self) -> Reply<Boxed<B>> {
        self.map(Boxed::new)
    }
}

impl<B> Reply<B> {
    #[inline(always)]
    const fn plain(length: usize) -> Self {
        Self { length: Some(length as u64), unusual: None }
    }

    /// Returns whether nothing is left to do.
    #[inline(always)]
    pub(crate) const fn is_usual(&self) -> bool {
        self.unusual.is_none()
    }

    pub(crate) fn status(&self) -> Status {
        self.unusual.as_ref().map_or(Status::OK, |unusual| unusual.status)
    }

    pub(crate) fn outgoing(&self) -> ResponseBody {
        self.unusual.as_ref().map_or(ResponseBody::Complete, |unusual| unusual.outgoing)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.unusual.as_ref().is_some_and(|unusual| unusual.failed)
    }

    pub(crate) fn closes(&self) -> bool {
        self.unusual.as_ref().is_some_and(|unusual| unusual.closes)
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.unusual.as_ref().is_some_and(|unusual| unusual.exchange.is_some())
    }

    /// Returns the same reply with another type of exchange: for a handler whose branches have different ones, with
    /// [`Either`](crate::Either).
    ///
    /// ```
    /// use lightcone_http::{Either, Http};
    ///
    /// static LOGO: &[u8] = b"..."; // include_bytes!("logo.png")
    ///
    /// let server = Http::new().get("/{name}", |request, response| match request.param("name") {
    ///     "logo" => response.embedded(LOGO).map(Either::Left),
    ///     _ => response.generate(1 << 20, |_offset, piece| piece.fill(b'a')).map(Either::Right),
    /// });
    /// # drop(server);
    /// ```
    #[inline(always)]
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> Reply<C> {
        let Self { length, unusual } = self;
        let unusual = unusual.map(|Unusual { exchange, status, outgoing, failed, closes }| Unusual {
            exchange: exchange.map(f),
            status,
            outgoing,
            failed,
            closes,
        });
        Reply { length, unusual }
    }
}

impl Reply<Done> {
    /// Converts the reply to that of a handler that may also stream: for the branch that responds at once.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/letters/{n}", |request, response| match request.param("n").parse::<u64>() {
    ///     Ok(n) => response.generate(n, |_offset, piece| piece.fill(b'a')),
    ///     Err(error) => response.status(400).display(error).into_any(),
    /// });
    /// # drop(server);
    /// ```
    #[inline(always)]
    pub fn into_any<B>(self) -> Reply<B> {
        let Self { length, unusual } = self;
        let unusual = unusual.map(|Unusual { status, outgoing, failed, closes, .. }| Unusual {
            exchange: None,
            status,
            outgoing,
            failed,
            closes,
        });
        Reply { length, unusual }
    }
}
