//! Blocking HTTP requests, for threads that may wait.
//!
#![cfg_attr(feature = "http", doc = "```no_run")]
#![cfg_attr(not(feature = "http"), doc = "```ignore")]
//! use lightcone::fetch::{self, Request};
//! use lightcone::http::Method;
//!
//! let response = fetch::get("http://example.org/")?;
//! println!("{}: {}", response.status, response.text());
//!
//! let request = Request::new(Method::Post, "http://127.0.0.1:8080/notes").field("Content-Type", "text/plain");
//! assert_eq!(request.body("a note").send()?.status.code(), 201);
//! # Ok::<(), fetch::RequestFailed>(())
//! ```
//!
//! Each request has a connection and an engine of one poller to itself, which costs some hundred microseconds. Names
//! are resolved on the calling thread, and up to eight addresses are tried as RFC 8305 recommends: the families take
//! turns, and an attempt begins a quarter of a second after the one before it, which continues. A program with many
//! requests uses [`Pool`](lightcone_http::client::Pool), a handler, which does not block and keeps connections open.

use alloc::sync::Arc;
use core::convert::Infallible;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lightcone_core::{Address, Context, Timeouts, TimerId};
use lightcone_http::client::{
    Attempt, Attempts, BodyWriter, Client, ClientLimits, ClientRequest, Fetch, FetchCause, FetchError,
    FetchPhase, FetchSource, RedirectError, Redirection, RequestBody, ResponseHead, Uri, UriError,
};
use lightcone_http::{Flow, Method, Status};
use lightcone_unix::clock::Clock;
use lightcone_unix::{Builder, Error};

use crate::Native;

/// The maximum number of addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
const UNREACHABLE: FetchError = FetchError::new(FetchPhase::Connect, FetchCause::Stopping);
/// The default limit of a response's body.
const BODY_MAX: u64 = 16 << 20;

/// Why a blocking request has failed.
#[non_exhaustive]
pub enum RequestFailed {
    /// The URI is malformed.
    Uri(UriError),
    /// The name of the host could not be resolved.
    Resolve(io::Error),
    /// The engine could not be started.
    Engine(Error),
    /// The request has failed, in the phase that the error names.
    Fetch(FetchError),
    /// The body of the response could not be written to its destination.
    Write(io::Error),
    /// The response redirects to where the request cannot be sent, or once more than [allowed](Request::redirects).
    Redirect(RedirectError),
}

impl fmt::Display for RequestFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(error) => error.fmt(f),
            Self::Resolve(error) => write!(f, "cannot resolve the name of the host: {error}"),
            Self::Engine(error) => error.fmt(f),
            Self::Fetch(error) => error.fmt(f),
            Self::Write(error) => write!(f, "cannot write the body of the response: {error}"),
            Self::Redirect(error) => error.fmt(f),
        }
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for RequestFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Skips the errors whose texts `Display` contains.
impl core::error::Error for RequestFailed {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Uri(error) => error.source(),
            Self::Resolve(error) | Self::Write(error) => error.source(),
            Self::Engine(error) => error.source(),
            Self::Fetch(error) => error.source(),
            Self::Redirect(error) => error.source(),
        }
    }
}

impl From<UriError> for RequestFailed {
    fn from(error: UriError) -> Self {
        Self::Uri(error)
    }
}

/// A whole response.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The status, whichever it is: a 404 is a response like any other.
    pub status: Status,
    /// The head as received: the status line, the fields and the empty line after them.
    pub head: Vec<u8>,
    /// Names and values of the fields, in the order received.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body; empty if it was written elsewhere.
    pub body: Vec<u8>,
}

impl Fetched {
    /// Returns the value of the first field with this name, if it is UTF-8. The case of names is ignored.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        core::str::from_utf8(value).ok()
    }

    /// Returns the body as text, in which bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> alloc::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// A request that a thread sends and waits for.
#[derive(Clone, Debug)]
pub struct Request {
    method: Method,
    uri: String,
    fields: Vec<(String, String)>,
    /// Shared by the requests of a chain of redirects.
    body: Option<Arc<Vec<u8>>>,
    limits: ClientLimits,
    connect_time: Duration,
    redirects: u8,
}

/// Sends a `GET` and returns the response with its whole body, up to 16 MiB.
///
/// # Errors
///
/// There is no complete response.
pub fn get(uri: &str) -> Result<Fetched, RequestFailed> {
    Request::new(Method::Get, uri).send()
}

impl Request {
    /// Creates a request. The URI is checked when it is sent.
    #[must_use]
    pub fn new(method: Method, uri: impl Into<String>) -> Self {
        Self {
            method,
            uri: uri.into(),
            fields: Vec::new(),
            body: None,
            limits: ClientLimits { body: BODY_MAX, ..ClientLimits::DEFAULT },
            connect_time: Duration::from_secs(10),
            redirects: 0,
        }
    }

    /// Adds a field. The fields on which the framing depends are refused when the request is sent.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(Arc::new(body.into()));
        self
    }

    /// Sets the limits. The default is that of [`ClientLimits`], except for a body of at most 16 MiB.
    ///
    /// This replaces all of them: limits with `..ClientLimits::DEFAULT` also allow a body of any length, which
    /// [`send`](Self::send) collects. Set [`ClientLimits::body`] as well:
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone::fetch::Request;
    /// use lightcone::http::Method;
    /// use lightcone::http::client::ClientLimits;
    ///
    /// let time = Some(Duration::from_secs(5));
    /// let limits = ClientLimits { total_time: time, body: 16 << 20, ..ClientLimits::DEFAULT };
    /// let request = Request::new(Method::Get, "http://example.org/").limits(limits);
    /// ```
    #[must_use]
    pub const fn limits(mut self, limits: ClientLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how long the connect to each address may take. Default: 10 seconds.
    #[must_use]
    pub const fn connect_time(mut self, time: Duration) -> Self {
        self.connect_time = time;
        self
    }

    /// Follows up to `most` redirects; more, or a loop, are [errors](RequestFailed::Redirect), as is a location that
    /// needs TLS. By default, none is followed: a response that redirects is returned like any other.
    ///
    /// The requests that follow have the method, the body and the fields that [`Redirection`] describes: credentials
    /// are not sent to another origin. Cookies that a response sets are not sent with the next request. The
    /// [limits](Self::limits) apply to each request, except [`ClientLimits::total_time`]: no request begins after it, and
    /// the last one and its connect each have what is left of it. A look-up of a name is not interrupted.
    ///
    /// ```no_run
    /// use lightcone::fetch::Request;
    /// use lightcone::http::Method;
    ///
    /// let response = Request::new(Method::Get, "http://example.org/old").redirects(10).send()?;
    /// # Ok::<(), lightcone::fetch::RequestFailed>(())
    /// ```
    #[must_use]
    pub const fn redirects(mut self, most: u8) -> Self {
        self.redirects = most;
        self
    }

    /// Sends the request and returns the response with its whole body.
    ///
    /// # Errors
    ///
    /// There is no complete response.
    pub fn send(self) -> Result<Fetched, RequestFailed> {
        let body = Collected::default();
        let mut response = self.send_to(body.clone(), |_| Ok(()))?;
        response.body = core::mem::take(&mut *body.lock());
        Ok(response)
    }

    /// Sends the request, and writes the body of the response piece by piece, as it arrives. A writer that blocks slows
    /// the server down. `head` is called first, on another thread, with the response without its body.
    ///
    /// # Errors
    ///
    /// There is no complete response, or `head` or the writer has failed. A part of the body may have been written.
    pub fn send_to(
        self,
        body: impl Write + Send + 'static,
        head: impl FnOnce(&Fetched) -> io::Result<()> + Send + 'static,
    ) -> Result<Fetched, RequestFailed> {
        let begin = Clock::now_ms();
        let (most, total_time, connect_time) = (self.redirects, self.limits.total_time, self.connect_time);
        let mut request = self;
        request.connect_time = connect_time.min(total_time.unwrap_or(Duration::MAX));
        let mut sent = Vec::new();
        let mut receiver = Receiver { head: Some(Box::new(head)), body: Box::new(body) };
        loop {
            let (next, again) = match request.exchange(receiver)? {
                Outcome::Complete(response) => return Ok(response),
                Outcome::Redirected(next, again) => (next, again),
            };
            sent.push((request.method, request.uri.clone()));
            if sent.len() > most.into() {
                return Err(RequestFailed::Redirect(RedirectError::TooMany(most)));
            }
            request.follow(next);
            if sent.iter().any(|(method, uri)| (*method, uri) == (request.method, &request.uri)) {
                return Err(RequestFailed::Redirect(RedirectError::Loop(request.uri)));
            }
            let spent = Duration::from_millis(Clock::now_ms().saturating_sub(begin));
            let rest = total_time.map(|time| rest_of(time, spent)).transpose()?;
            request.limits.total_time = rest;
            request.connect_time = connect_time.min(rest.unwrap_or(Duration::MAX));
            receiver = again;
        }
    }

    /// Changes into the request that follows.
    fn follow(&mut self, next: Redirection) {
        self.fields.retain(|(name, _)| next.keeps(name));
        self.body = self.body.take().filter(|_| next.keeps_body);
        self.method = next.method;
        self.uri = next.uri;
    }

    /// Sends one request, over an engine of its own.
    fn exchange(&self, receiver: Receiver) -> Result<Outcome, RequestFailed> {
        let Self { limits, connect_time, .. } = *self;
        let addresses = resolve(&Uri::parse(&self.uri)?)?;
        let (outcome, result) = channel();
        let call = Call {
            request: Arc::new(self.clone()),
            sent: 0,
            response: None,
            receiver: Some(receiver),
            error: None,
            outcome,
        };
        let source = Mutex::new(Some(Calls {
            call: Some(call),
            attempts: Attempts::new(addresses),
            timer: None,
            error: UNREACHABLE,
        }));
        let timeouts = Timeouts { connect: Some(connect_time), ..Timeouts::DEFAULT };
        // One socket, and those that are reserved for connects; a few blocks for the request and for a head.
        let builder = Builder::<Native>::new().pollers(1).sockets(8).blocks(64, 64).timeouts(timeouts);
        let engine = builder
            .start(move |_poller| {
                let source = source.lock().ok().and_then(|mut source| source.take());
                Client::with_limits(source.unwrap_or_else(|| unreachable!("there is one poller")), limits)
            })
            .map_err(RequestFailed::Engine)?;
        // The sender is dropped if a callback panics: then there is no result.
        let stopped = FetchError::new(FetchPhase::Send, FetchCause::Stopping);
        let result = result.recv().unwrap_or(Err(RequestFailed::Fetch(stopped)));
        engine.shutdown(Duration::ZERO);
        result
    }
}

/// Returns what is left of the time for all requests.
///
/// # Errors
///
/// There is none left. Then nothing of the next request is sent.
fn rest_of(time: Duration, spent: Duration) -> Result<Duration, RequestFailed> {
    let rest = time.checked_sub(spent).filter(|rest| !rest.is_zero());
    rest.ok_or(RequestFailed::Fetch(FetchError::new(FetchPhase::Send, FetchCause::TotalTime)))
}

/// Resolves the host of a URI, on the calling thread.
fn resolve(uri: &Uri<'_>) -> Result<Vec<SocketAddr>, RequestFailed> {
    if let Some(address) = uri.address() {
        return Ok(vec![address]);
    }
    let addresses: Vec<_> =
        (uri.host(), uri.port()).to_socket_addrs().map_err(RequestFailed::Resolve)?.collect();
    if addresses.is_empty() {
        return Err(RequestFailed::Resolve(io::Error::other("it has no address")));
    }
    Ok(addresses)
}

/// Gathers a body for another thread. The client limits its length, but not the number of its pieces.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Collected {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The one request of an engine, and the addresses at which it is tried.
struct Calls {
    call: Option<Call>,
    attempts: Attempts<ADDRESSES_MAX>,
    timer: Option<TimerId>,
    /// Why the last attempt has failed.
    error: FetchError,
}

impl Calls {
    /// Begins the attempts that are due. When all have failed, the request fails as the last one.
    fn advance(&mut self, cx: &mut Context<'_, Infallible>) {
        if let Some(timer) = self.timer.take() {
            cx.cancel_timer(timer);
        }
        while self.call.is_some() {
            match self.attempts.next(cx.now()) {
                Attempt::Connect(address) => self.connect(address, cx),
                Attempt::Wait(at) => {
                    self.timer = cx.set_timer(at, 0).ok();
                    return;
                }
                Attempt::Pending => return,
                Attempt::Failed => self.fail(),
            }
        }
    }

    fn connect(&mut self, address: SocketAddr, cx: &mut Context<'_, Infallible>) {
        if let Err(error) = cx.connect(Address::Inet(address), 0) {
            self.error.cause = FetchCause::Unconnected(error);
            self.attempts.failed();
        }
    }

    fn fail(&mut self) {
        if let Some(call) = self.call.take() {
            call.failed(self.error);
        }
    }
}

impl FetchSource for Calls {
    type Fetch = Call;

    /// Returns the request to the first connection that is established. The others are closed.
    fn next(&mut self, _: u64) -> Option<Call> {
        self.call.take()
    }

    fn started(&mut self, cx: &mut Context<'_, Infallible>) {
        self.advance(cx);
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, Infallible>) {
        self.timer = None;
        self.advance(cx);
    }

    fn refused(&mut self, _: u64, error: FetchError, cx: &mut Context<'_, Infallible>) {
        self.error = error;
        self.attempts.failed();
        self.advance(cx);
    }
}

type OnHead = Box<dyn FnOnce(&Fetched) -> io::Result<()> + Send>;

/// What gets the response.
struct Receiver {
    /// `None` once it was called.
    head: Option<OnHead>,
    body: Box<dyn Write + Send>,
}

/// How an exchange has ended.
enum Outcome {
    Complete(Fetched),
    /// The response redirects, and has not reached the receiver.
    Redirected(Redirection, Receiver),
}

struct Call {
    request: Arc<Request>,
    sent: usize,
    response: Option<Fetched>,
    /// `None` once the response redirects: the rest of it is not read.
    receiver: Option<Receiver>,
    /// Why the request was given up.
    error: Option<RequestFailed>,
    outcome: Sender<Result<Outcome, RequestFailed>>,
}

impl Call {
    /// Keeps the head of the response, and passes it on.
    fn keep(&mut self, head: &ResponseHead<'_>) -> Result<(), RequestFailed> {
        if let Some(next) = self.redirection(head).map_err(RequestFailed::Redirect)? {
            if let Some(receiver) = self.receiver.take() {
                let _ = self.outcome.send(Ok(Outcome::Redirected(next, receiver)));
            }
            return Ok(());
        }
        let fields =
            head.fields().map(|(name, value)| (String::from_utf8_lossy(name).into(), value.to_vec()));
        let (status, head, fields) = (head.status, head.as_bytes().to_vec(), fields.collect());
        let response = self.response.insert(Fetched { status, head, fields, body: Vec::new() });
        let on_head = self.receiver.as_mut().and_then(|receiver| receiver.head.take());
        on_head.map_or(Ok(()), |on_head| on_head(response)).map_err(RequestFailed::Write)
    }

    fn redirection(&self, head: &ResponseHead<'_>) -> Result<Option<Redirection>, RedirectError> {
        let Request { method, uri, redirects, .. } = &*self.request;
        if *redirects == 0 {
            return Ok(None);
        }
        let mut locations = head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"location"));
        let location = locations.next().map(|(_, value)| value);
        // Of two locations, none is more right than the other.
        Redirection::new(*method, uri, head.status, location.filter(|_| locations.next().is_none()))
    }
}

impl Fetch for Call {
    type Message = Infallible;

    fn request(&self) -> ClientRequest<'_> {
        let Request { method, uri, fields, body, .. } = &*self.request;
        let Ok(uri) = Uri::parse(uri) else { unreachable!("it was parsed before") };
        let body = match body {
            Some(body) => RequestBody::Length(body.len() as u64),
            None => RequestBody::None,
        };
        ClientRequest { method: *method, fields, body, close: true, ..ClientRequest::get(uri) }
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        let data = self.request.body.as_ref().map_or(&[][..], |body| body.as_slice());
        self.sent += body.write(data.get(self.sent..).unwrap_or_default());
        if self.sent == data.len() { Flow::Done } else { Flow::More }
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        if let Err(error) = self.keep(head) {
            // At once: the rest of the response is of no use, and may never come.
            self.receiver = None;
            let _ = self.outcome.send(Err(error));
        }
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        let receiver = self.receiver.as_mut().filter(|_| self.error.is_none())?;
        self.error = receiver.body.write_all(data).err().map(RequestFailed::Write);
        self.error.is_none().then_some(data.len())
    }

    fn end(mut self) {
        // The calling thread holds the receiving end until this arrives, or a redirect has.
        let _ = self.outcome.send(match (self.error, self.receiver.as_mut(), self.response) {
            (Some(error), ..) => Err(error),
            (None, Some(receiver), Some(response)) => {
                receiver.body.flush().map(|()| Outcome::Complete(response)).map_err(RequestFailed::Write)
            }
            (None, None, _) => return,
            (None, Some(_), None) => unreachable!("a response has a head"),
        });
    }

    fn failed(self, error: FetchError) {
        let _ = self.outcome.send(Err(self.error.unwrap_or(RequestFailed::Fetch(error))));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

    use super::*;

    #[test]
    fn no_request_begins_after_the_time_for_all() {
        let [second, left] = [1_000, 1].map(Duration::from_millis);
        assert_eq!(rest_of(second, second - left).unwrap(), left);
        for spent in [second, second + left] {
            let error = rest_of(second, spent).unwrap_err();
            assert!(
                matches!(error, RequestFailed::Fetch(FetchError { cause: FetchCause::TotalTime, .. })),
                "{error}"
            );
        }
    }
}
