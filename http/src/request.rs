//! The request that a handler receives.

use core::str::FromStr;

use lightcone_core::{Address, Instant, PackedAddress, Rejected, Token, Topic, Unpublished};

use crate::exchange::{Collect, Done, Gather};
use crate::message::{Outlet, RequestId};
use crate::method::Method;
use crate::middleware::Outcome;
#[cfg(feature = "alloc")]
use crate::owned::{CollectVec, Owned};
use crate::parameter::{self, ParameterError};
use crate::parse::head::Head;
use crate::parse::words::trim;
use crate::path;
use crate::query::{cookie_value, form_decode, percent_decode, query_value};
use crate::respond::response::{Reply, Response};
use crate::status::Status;

/// The state that the routes of one poller share: passed to [`Http::with`](crate::Http::with), and available to each
/// handler as [`Request::state`]. Only one thread uses it at a time, so it needs no lock.
///
/// ```
/// use core::convert::Infallible;
/// use lightcone_http::{Http, State};
///
/// struct App { hits: u64 }
/// impl State for App { type Message = Infallible; }
///
/// let server = Http::with(App { hits: 0 }).get("/", |request, response| {
///     request.state.hits += 1;
///     response.display(request.state.hits)
/// });
/// # drop(server);
/// ```
pub trait State {
    /// The type of messages that can be posted to requests in progress, in a [`RequestMessage`](crate::RequestMessage);
    /// [`Infallible`](core::convert::Infallible) if there are none.
    type Message;

    /// Logs the outcome of a request, for [`AccessLog::new`](crate::AccessLog::new). The default does nothing.
    fn log(&mut self, outcome: &Outcome<'_>) {
        let _ = outcome;
    }
}

impl State for () {
    type Message = core::convert::Infallible;
}

/// The connection of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) token: Token,
    pub(crate) peer: PackedAddress,
    pub(crate) now: Instant,
    /// Whether the engine is shutting down.
    pub(crate) stopping: bool,
    /// The maximum number of bytes in its input.
    pub(crate) capacity: usize,
}

/// One request: its head, its connection, its route, and the state of the server.
#[derive(Debug)]
pub struct Request<'a, S: State> {
    /// The head: method, target and fields.
    pub head: &'a Head<'a>,
    /// The state that the routes of this poller share.
    pub state: &'a mut S,
    pub(crate) connected: &'a ConnectionInfo,
    pub(crate) outlet: Outlet<'a, S>,
    pub(crate) route: MatchedRoute,
}

/// The route that matched: its pattern, and where the part of the path starts that the pattern matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatchedRoute {
    pub(crate) pattern: &'static str,
    pub(crate) base: usize,
}

impl<'a, S: State> Request<'a, S> {
    /// Posts a message to a request that is in progress, on this or another poller. Its
    /// [`Exchange::message`](crate::Exchange::message) is called after this handler.
    ///
    /// The identity comes from [`Transfer::id`](crate::Transfer::id), for example by way of the state. If the request
    /// has ended, the message is dropped.
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of the request's poller is full or the engine has stopped.
    pub fn post(&mut self, to: RequestId, message: S::Message) -> Result<(), Rejected<S::Message>> {
        self.outlet.post(to, message)
    }

    /// Posts a message to every request that is in progress, on all pollers: for example to event streams.
    ///
    /// ```
    /// use lightcone_http::{Http, State};
    ///
    /// struct News;
    /// impl State for News {
    ///     type Message = u32;
    /// }
    ///
    /// // a client that posts a number wakes all event streams
    /// let server = Http::with(News).post("/news/{number}", |mut request, response| {
    ///     match request.param("number").parse() {
    ///         Ok(number) if request.broadcast(number).is_ok() => response.status(204).empty(),
    ///         Ok(_) => response.status(503).text("try again later"),
    ///         Err(_) => response.status(400).text("a number, please"),
    ///     }
    /// });
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller was full or the engine has stopped. The pollers before that one,
    /// in the order of their ids, still deliver it.
    pub fn broadcast(&mut self, message: S::Message) -> Result<(), Rejected<S::Message>>
    where
        S::Message: Clone,
    {
        self.outlet.broadcast(message)
    }

    /// Publishes a message to the requests in progress that are [subscribed](crate::Transfer::subscribe) to a topic, on
    /// all pollers. Each poller gets the message once, and the requests a copy each.
    ///
    /// Encode once what many clients get: an [`EncodedEvent`](crate::EncodedEvent), or an `Arc<str>` for WebSocket.
    ///
    /// # Errors
    ///
    /// Returns the message if the mailbox of a poller is full, with [that poller](Unpublished::poller). The pollers
    /// before it, in the order of their ids, deliver the message; an exchange can [publish the
    /// rest](crate::Transfer::publish_rest) later. Or if the engine has stopped.
    pub fn publish(
        &mut self,
        topic: Topic,
        message: S::Message,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.outlet.publish(Unpublished::new(topic, message, S::Message::clone))
    }

    /// Returns the number of requests on this poller that are subscribed to a topic.
    pub fn subscribers(&self, topic: Topic) -> usize {
        self.outlet.subscribers(topic)
    }

    /// Returns whether the server is shutting down, so that a handler should begin nothing that the grace time may cut
    /// off. Requests that arrived before the shutdown, or are on their way, are still served. An exchange asks
    /// [`Transfer::is_stopping`](crate::Transfer::is_stopping).
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/report", |request, response| {
    ///     if request.is_stopping() {
    ///         return response.header("Retry-After", 5).refuse(503).into_any();
    ///     }
    ///     response.generate(1 << 30, |_offset, piece| piece.fill(b'x'))
    /// });
    /// # drop(server);
    /// ```
    pub fn is_stopping(&self) -> bool {
        self.connected.stopping
    }

    /// Returns the method.
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// Returns the path of the target, not decoded. It consists of visible ASCII characters.
    pub fn path(&self) -> &'a str {
        core::str::from_utf8(self.head.path).unwrap_or("")
    }

    /// Returns the value of the first field with this name, if it is UTF-8. [`Head`] has the bytes, and all fields.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.head.text(name)
    }

    /// Returns the value of the first cookie with this name, without quotes around it, otherwise as received.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/", |request, response| match request.cookie("session") {
    ///     Some(session) => response.display(format_args!("welcome back, {session}")),
    ///     None => response.header("Set-Cookie", "session=1; HttpOnly; Secure; SameSite=Lax").text("welcome"),
    /// });
    /// # drop(server);
    /// ```
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        let lines = self.head.fields().filter(|(field, _)| field.eq_ignore_ascii_case(b"cookie"));
        let value = lines.filter_map(|(_, cookies)| cookie_value(cookies, name)).next()?;
        core::str::from_utf8(value).ok()
    }

    /// Returns the part of the path that matches `{name}` in the route's pattern, not decoded: see
    /// [`percent_decode`].
    ///
    /// If the pattern has no such parameter, which is a mistake of the program, the result is empty.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/users/{id}", |request, response| match request.param("id").parse::<u16>() {
    ///     Ok(id) => response.display(format_args!("user {id}")),
    ///     Err(_) => response.status(400).text("an id is a number from 0 to 65535"),
    /// });
    /// # drop(server);
    /// ```
    ///
    /// # Panics
    /// In builds with debug assertions, if the pattern has no such parameter.
    pub fn param(&self, name: &str) -> &'a str {
        let path = self.head.path.get(self.route.base..).unwrap_or(&[]);
        debug_assert!(
            path::has_parameter(self.route.pattern, name),
            "{:?} has no parameter {name:?}",
            self.route.pattern
        );
        let value = path::parameter(self.route.pattern, path, name);
        value.and_then(|value| core::str::from_utf8(value).ok()).unwrap_or("")
    }

    /// Decodes and parses the part of the path that matches `{name}` in the route's pattern.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/users/{id}", |request, response| match request.parse_param::<u16>("id") {
    ///     Ok(id) => response.display(format_args!("user {id}")),
    ///     Err(error) => response.bad_parameter(&error),
    /// });
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    /// If the text is not a `T`, is not encoded correctly, or has more than 128 bytes when decoded.
    ///
    /// # Panics
    /// In builds with debug assertions, if the pattern has no such parameter.
    pub fn parse_param<T: FromStr>(&self, name: &'static str) -> Result<T, ParameterError<T::Err>> {
        parameter::parse(name, self.param(name), percent_decode)
    }

    /// Decodes and parses the value of the first query parameter with this name. `None` if there is none.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/notes", |request, response| match request.parse_query::<usize>("page") {
    ///     Ok(page) => response.display(format_args!("page {}", page.unwrap_or(1))),
    ///     Err(error) => response.bad_parameter(&error),
    /// });
    /// # drop(server);
    /// ```
    ///
    /// # Errors
    /// If the text is not a `T`, is not encoded correctly, or has more than 128 bytes when decoded. Make the error for
    /// a parameter that is required with [`ParameterError::missing`].
    pub fn parse_query<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ParameterError<T::Err>> {
        self.query(name).map(|text| parameter::parse(name, text, form_decode)).transpose()
    }

    /// Returns the value of the first query parameter with this name, not decoded: see
    /// [`form_decode`]. [`query_pairs`](crate::query_pairs) returns all parameters.
    ///
    /// ```
    /// # use lightcone_http::{Http, form_decode};
    /// let server = Http::new().get("/search", |request, response| {
    ///     let mut buffer = [0; 64];
    ///     match form_decode(request.query("for").unwrap_or("").as_bytes(), &mut buffer) {
    ///         Ok(text) => response.display(format_args!("nothing found for {text}")),
    ///         Err(error) => response.status(400).display(error),
    ///     }
    /// });
    /// # drop(server);
    /// ```
    pub fn query(&self, name: &str) -> Option<&'a str> {
        query_value(self.head.query?, name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Returns whether the client uses trailer fields of the response: it speaks HTTP/1.1, and its field `TE` has
    /// `trailers` (RFC 9110, section 10.1.4).
    pub fn accepts_trailers(&self) -> bool {
        let fields = self.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"te"));
        let mut members = fields.flat_map(|(_, value)| value.split(|byte| *byte == b','));
        self.head.minor > 0 && members.any(|member| trim(member).eq_ignore_ascii_case(b"trailers"))
    }

    /// Returns the identity of the connection. For messages to this request use [`Transfer::id`](crate::Transfer::id),
    /// since other requests may follow on the connection.
    pub fn token(&self) -> Token {
        self.connected.token
    }

    /// Returns the client's address.
    pub fn peer(&self) -> Address {
        self.connected.peer.unpack()
    }

    /// Returns when the current callback began.
    pub fn now(&self) -> Instant {
        self.connected.now
    }

    /// Calls `f` with the body once all of it has arrived. The body is read in place, in the input buffer, so an idle
    /// connection reserves no memory for it.
    ///
    /// A body without a length is refused with 411, and one that does not fit into the input buffer
    /// ([`Stream::capacity`](lightcone_core::Stream::capacity): 128 KiB by default in an engine) with 413. The time
    /// limit of the whole body is the sum of the [times](crate::Limits::body_time) of its steps.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().post("/names", |request, response| {
    ///     request.gather(response, |_state, body, response| response.status(201).display(body.len()))
    /// });
    /// # drop(server);
    /// ```
    pub fn gather<F>(&self, response: Response<'_>, f: F) -> Reply<Gather<F>>
    where
        F: FnMut(&mut S, &[u8], Response<'_>) -> Reply<Done>,
    {
        match self.head.length() {
            None => response.refuse(Status::LENGTH_REQUIRED).into_any(),
            Some(length) if length > self.connected.capacity as u64 => {
                response.refuse(Status::CONTENT_TOO_LARGE).into_any()
            }
            Some(_) => response.defer(Gather::new(f)),
        }
    }

    /// Collects a body of up to `N` bytes and calls `f` with it once it is complete. A larger body is refused with 413.
    ///
    /// The `N` bytes are part of **every** connection. For bodies of more than a few hundred bytes use
    /// [`gather`](Self::gather), or write an [`Exchange`](crate::Exchange) that uses the bytes as they arrive.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().post("/names", |request, response| {
    ///     request.collect::<64, _>(response, |_state, body, response| {
    ///         response.status(201).display(body.len())
    ///     })
    /// });
    /// # drop(server);
    /// ```
    pub fn collect<const N: usize, F>(&self, response: Response<'_>, f: F) -> Reply<Collect<N, F>>
    where
        F: FnMut(&mut S, &[u8], Response<'_>) -> Reply<Done>,
    {
        if self.head.length().is_some_and(|length| length > N as u64) {
            return response.refuse(Status::CONTENT_TOO_LARGE).into_any();
        }
        response.defer(Collect::new(f))
    }

    /// Collects the body on the heap and calls `f` with it once it is complete, whether it has a length or is
    /// chunked. A body of more than `limit` bytes is refused with 413, as is one beyond
    /// [`Limits::body`](crate::Limits::body). Each connection has room for a pointer. Requires the feature `alloc`.
    ///
    /// `f` may return a response that [owns its body](Response::owned), or one that is complete at once, by
    /// [`into_any`](Reply::into_any). If the system has no memory for the body, the response is 503.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().post("/sorted", |request, response| {
    ///     request.collect_vec(1 << 20, response, |_state, mut body, response| {
    ///         body.sort_unstable();
    ///         match body.is_empty() {
    ///             true => response.status(400).text("nothing to sort").into_any(),
    ///             false => response.header("Content-Type", "application/octet-stream").owned(body),
    ///         }
    ///     })
    /// });
    /// # drop(server);
    /// ```
    #[cfg(feature = "alloc")]
    pub fn collect_vec<F>(&self, limit: usize, response: Response<'_>, f: F) -> Reply<CollectVec<F>>
    where
        F: FnMut(&mut S, alloc::vec::Vec<u8>, Response<'_>) -> Reply<Owned>,
    {
        if self.head.length().is_some_and(|length| length > limit as u64) {
            return response.refuse(Status::CONTENT_TOO_LARGE).into_any();
        }
        response.defer(CollectVec::new(limit, f))
    }
}
