//! Middleware and logs, which wrap routes.

pub(crate) mod authorization;
pub(crate) mod cors;
pub(crate) mod rate_limit;
pub(crate) mod request_ids;

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use lightcone_core::{Address, Token};

use crate::exchange::Done;
use crate::method::Method;
use crate::request::{Request, State};
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::respond::writer::Fault;
use crate::status::Status;

/// Code that runs around the handlers of the routes it wraps, and around the responses that the server makes in their
/// place: see [below](#responses-of-the-server).
///
/// ```
/// use lightcone_http::{
///     Done, Headers, Http, Middleware, Reply, Request, Response, State, Status, is_same_secret,
/// };
///
/// /// Refuses requests without the password.
/// struct Password(&'static str);
///
/// impl<S: State> Middleware<S> for Password {
///     fn before<'r>(
///         &mut self,
///         request: &mut Request<'_, S>,
///         response: Response<'r>,
///     ) -> Result<Response<'r>, Reply<Done>> {
///         match request.head.text("authorization") {
///             Some(word) if is_same_secret(word.as_bytes(), self.0.as_bytes()) => Ok(response),
///             _ => Err(response.header("WWW-Authenticate", "Bearer").refuse(401)),
///         }
///     }
///
///     fn head(&self, _: Status, headers: &mut Headers<'_>) {
///         headers.add("Cache-Control", "private");
///     }
/// }
///
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap(Password("Bearer please"));
/// # drop(server);
/// ```
///
/// # Responses of the server
///
/// | Response | `before` | `head` and `after` of |
/// | --- | --- | --- |
/// | 404 and 405, and 204 to `OPTIONS` | is called | the middleware around the server or group that has no route |
/// | 413 to a body whose length is announced | is called, the handler is not | the middleware around the route |
/// | 400, 408, 413 and 431 to a body, 503 to a late response, 500 in place of a response | was called | the middleware around the route |
/// | 400, 408, 414, 417, 431, 501 and 505 to a head | is not called | the middleware around the whole server |
/// | 500 after a panic | was called, unless it has panicked | `after` is called, `head` is not |
///
/// A group has no route for a path if it has the most specific route for another method; or, if no route matches,
/// if its prefix is the longest. A [fallback](crate::Http::fallback) is a route.
///
/// A response that takes the place of another has the fields that `head` adds, and not those that `before` added. If the
/// fields do not fit, it is sent without them, and so is a refusal; a 404 or 405 then becomes a 500.
pub trait Middleware<S: State> {
    /// Runs before the handler. Returns the response, to which it may add fields, or responds in place of the handler.
    ///
    /// # Errors
    /// The reply, if the request is not to reach the handler.
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        let _ = request;
        Ok(response)
    }

    /// Adds fields to the response once its status is known. Not called for a reply of its own
    /// [`before`](Self::before). It is also called for the refusal of a head, without a `before`: what depends on the
    /// request belongs into [`RequestMiddleware`].
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        let _ = (status, headers);
    }

    /// Called once for each request when the status of its response is final, whether it comes from the handler, from
    /// an exchange later on, or from the server, which refuses requests that are malformed, too large or too slow. The
    /// status of a streamed response is final when its head [leaves](Response::stream). A [`Log`] is called at the end
    /// of the response instead.
    fn after(&mut self, state: &mut S, outcome: &Outcome<'_>) {
        let _ = (state, outcome);
    }
}

/// Middleware that keeps a value of each request until the response is made, in the connection if that is later: for
/// fields of the response that depend on the request. [`Http::wrap_each`](crate::Http::wrap_each) adds it.
///
/// ```
/// use lightcone_http::{Done, Headers, Http, Reply, Request, RequestMiddleware, Response, State, Status};
///
/// /// Repeats a number of the request in the response.
/// struct Repeat;
///
/// impl<S: State> RequestMiddleware<S> for Repeat {
///     type Kept = u32;
///
///     fn before<'r>(
///         &mut self,
///         request: &mut Request<'_, S>,
///         response: Response<'r>,
///     ) -> Result<(Response<'r>, u32), Reply<Done>> {
///         match request.header("x-number").unwrap_or("0").parse() {
///             Ok(number) => Ok((response, number)),
///             Err(error) => Err(response.status(400).display(error)),
///         }
///     }
///
///     fn head(&self, number: &u32, _: Status, headers: &mut Headers<'_>) {
///         headers.add("X-Number", number);
///     }
/// }
///
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap_each(Repeat);
/// # drop(server);
/// ```
pub trait RequestMiddleware<S: State> {
    /// What is kept of a request. Every connection has room for it.
    type Kept;

    /// Runs before the handler, as [`Middleware::before`] does. Returns what to keep in addition.
    ///
    /// # Errors
    /// The reply, if the request is not to reach the handler.
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<(Response<'r>, Self::Kept), Reply<Done>>;

    /// Adds fields to the response once its status is known, as [`Middleware::head`] does.
    fn head(&self, kept: &Self::Kept, status: Status, headers: &mut Headers<'_>);

    /// Adds fields to the refusal of a request whose head could not be read, so that nothing is kept of it. Called in
    /// place of [`head`](Self::head), if the middleware is around the whole server. The default adds none.
    fn head_of_unread(&self, status: Status, headers: &mut Headers<'_>) {
        let _ = (status, headers);
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// The method; `None` for a refused request without a known method.
    pub method: Option<Method>,
    /// The target.
    ///
    /// For a request that was refused before its head was complete: as much of the target as has arrived. For one that
    /// was answered later: the first [`TARGET_MAX`](Self::TARGET_MAX) bytes if a [`Log`] wraps its route, otherwise the
    /// pattern of the route with the prefixes of its groups.
    pub target: &'a [u8],
    /// The status; [`CLIENT_CLOSED_REQUEST`](Self::CLIENT_CLOSED_REQUEST) if there is no response.
    pub status: Status,
    /// The number of bytes of the body: those written, once the request has ended; those announced before that. (Also
    /// set for a response to `HEAD`.)
    pub length: Option<u64>,
    /// The time since the head of the request was complete; `None` for a request that was answered later without a
    /// [`Log`] around its route.
    pub duration: Option<Duration>,
    /// Whether the response was written completely; `false` if the connection ended before that.
    pub complete: bool,
    /// Why the program's response was replaced by a 500, if it was.
    pub fault: Option<Fault>,
    /// The client's address.
    pub peer: Address,
    /// The connection.
    pub token: Token,
}

impl Outcome<'_> {
    /// How many bytes a [`Log`] keeps of the target of a request that is answered later.
    pub const TARGET_MAX: usize = 80;
    /// The status of a request whose connection ended before there was a response: 499, which is never sent.
    pub const CLIENT_CLOSED_REQUEST: Status = Status::CLIENT_CLOSED_REQUEST;
}

/// Formats the outcome as a log line: method, target, status, bytes of the body, and duration, as in
/// `GET /foo 200 3 0ms`. Unknown values are `-`. The line ends with the reason of a 500 that replaced the program's
/// response, and with `incomplete` for a response that was cut short.
impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.map_or("-", Method::as_str))?;
        // Escaped, so that a peer can neither add lines to a log nor control the terminal that displays it.
        match self.target {
            [] => f.write_str(" -")?,
            target => write!(f, " {}", target.escape_ascii())?,
        }
        write!(f, " {}", self.status.code())?;
        match self.length {
            Some(length) => write!(f, " {length}")?,
            None => f.write_str(" -")?,
        }
        match self.duration {
            Some(duration) => write!(f, " {}ms", duration.as_millis())?,
            None => f.write_str(" -")?,
        }
        if let Some(fault) = self.fault {
            write!(f, " {fault}")?;
        }
        f.write_str(if self.complete { "" } else { " incomplete" })
    }
}

/// Scrambles the bits of a number; different numbers have different results (the finalizer of splitmix64).
const fn scramble(number: u64) -> u64 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// A list of the middleware around a response that is being made, from the inside out.
#[derive(Clone, Copy)]
pub struct Hook<'h> {
    pub(crate) middleware: &'h dyn HeadHook,
    pub(crate) outer: Option<&'h Self>,
}

impl fmt::Debug for Hook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// [`Middleware::head`], without the type of the state.
pub(crate) trait HeadHook {
    fn head(&self, status: Status, headers: &mut Headers<'_>);
}

pub(crate) struct AsHook<'m, M, S>(pub(crate) &'m M, pub(crate) PhantomData<fn(S)>);

impl<S: State, M: Middleware<S>> HeadHook for AsHook<'_, M, S> {
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        self.0.head(status, headers);
    }
}

/// A log of requests: see [`Http::log`](crate::Http::log).
///
/// ```
/// use core::convert::Infallible;
/// use core::time::Duration;
/// use lightcone_http::{Http, Log, Outcome, State};
///
/// struct App {
///     slow: u64,
/// }
///
/// impl State for App {
///     type Message = Infallible;
/// }
///
/// /// Counts the requests that took longer than this.
/// struct Slower(Duration);
///
/// impl Log<App> for Slower {
///     fn ended(&mut self, state: &mut App, outcome: &Outcome<'_>) {
///         if outcome.duration.is_some_and(|duration| duration > self.0) {
///             state.slow += 1;
///         }
///     }
/// }
///
/// let server = Http::with(App { slow: 0 })
///     .get("/slow", |request, response| response.display(request.state.slow))
///     .log(Slower(Duration::from_secs(1)));
/// # drop(server);
/// ```
pub trait Log<S: State> {
    /// Called once for each request when it has ended, regardless of how.
    fn ended(&mut self, state: &mut S, outcome: &Outcome<'_>);
}

/// A [`Log`] that reports to a closure, or to the [state](State::log).
///
/// ```
/// use lightcone_http::{AccessLog, Http};
/// let server = Http::new()
///     .get("/foo", |_request, response| response.text("bar"))
///     .log(AccessLog::to(|outcome| println!("{} {outcome}", outcome.peer)));
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AccessLog<L = ToState>(L);

/// Where [`AccessLog::new`] reports to.
#[derive(Clone, Copy, Debug)]
pub struct ToState(());

impl AccessLog {
    /// Reports to [`State::log`].
    pub const fn new() -> Self {
        Self(ToState(()))
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: FnMut(&Outcome<'_>)> AccessLog<L> {
    /// Reports to a closure.
    pub const fn to(line: L) -> Self {
        Self(line)
    }
}

impl<S: State> Log<S> for AccessLog {
    fn ended(&mut self, state: &mut S, outcome: &Outcome<'_>) {
        state.log(outcome);
    }
}

impl<S: State, L: FnMut(&Outcome<'_>)> Log<S> for AccessLog<L> {
    fn ended(&mut self, _: &mut S, outcome: &Outcome<'_>) {
        (self.0)(outcome);
    }
}
