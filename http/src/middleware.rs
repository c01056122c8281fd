//! What is wrapped around handlers.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use lightcone_core::{Address, Token};

use crate::exchange::Done;
use crate::method::Method;
use crate::request::{Request, State};
use crate::respond::draft::Fault;
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::status::Status;

/// Sees the requests of the routes it wraps, and if it wraps the server those that no route answers (404, 405) and those
/// that the server refuses.
///
/// ```
/// use lightcone_http::{Done, Headers, Http, Middleware, Reply, Request, Response, State, Status};
///
/// /// Lets nobody in without the word.
/// struct Password(&'static str);
///
/// impl<S: State> Middleware<S> for Password {
///     fn before<'r>(
///         &mut self,
///         request: &mut Request<'_, S>,
///         response: Response<'r>,
///     ) -> Result<Response<'r>, Reply<Done>> {
///         match request.head.text("authorization") {
///             Some(word) if word == self.0 => Ok(response),
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
pub trait Middleware<S: State> {
    /// Before the handler: hands the response on, with fields added if it likes, or answers in its place.
    ///
    /// # Errors
    /// The answer, if the request goes no further.
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        let _ = request;
        Ok(response)
    }

    /// When the status is known, whoever answers: adds fields. Not called for an answer of its own
    /// [`before`](Self::before).
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        let _ = (status, headers);
    }

    /// Called once for each request when the status of its answer is known, whoever answers: the handler, an exchange
    /// later on, or the server, which refuses what is malformed, too large or too slow. Of a streamed response that is
    /// when its head [leaves](Response::stream). A [`Log`] is told when it has ended.
    fn after(&mut self, state: &mut S, outcome: &Outcome<'_>) {
        let _ = (state, outcome);
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The method; `None` if a request was refused that has none, or none that is known.
    pub method: Option<Method>,
    /// The target. Of a request that was refused before all of its head had come, as much of it as is there; of one that
    /// was answered later, the first [`TARGET_MAX`](Self::TARGET_MAX) bytes if a [`Log`] is around its route, else the
    /// pattern of the route with the prefixes of its groups.
    pub target: &'a [u8],
    /// The status; [`CLIENT_CLOSED_REQUEST`](Self::CLIENT_CLOSED_REQUEST) if there is no answer.
    pub status: Status,
    /// Bytes of the body: those that were written once the request has ended, and before that those that were
    /// announced. (The answer to `HEAD` has them too.)
    pub length: Option<u64>,
    /// How long it took from the end of the request's head; `None` if it was answered later with no [`Log`] around its
    /// route.
    pub duration: Option<Duration>,
    /// Whether all of the answer was written. `false` if the connection had to end before.
    pub complete: bool,
    /// Why the program's answer was replaced by a 500, if it was.
    pub fault: Option<Fault>,
    /// The client's address.
    pub peer: Address,
    /// The connection.
    pub token: Token,
}

impl Outcome<'_> {
    /// Bytes of the target of a request that is answered later, as a [`Log`] keeps it.
    pub const TARGET_MAX: usize = 80;
    /// The status of a request whose connection ended before there was an answer: 499, which is not sent.
    pub const CLIENT_CLOSED_REQUEST: Status = Status::CLIENT_CLOSED_REQUEST;
}

/// As a line of a log: method, target, status, bytes of the body, and duration: `GET /foo 200 3 0ms`. What is unknown is
/// `-`; a 500 in the place of the program's answer has its reason behind that, and an answer that was cut `incomplete`.
impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.map_or("-", Method::as_str))?;
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

/// One middleware around the response being made; those further out behind it.
#[derive(Clone, Copy)]
pub(crate) struct Hook<'h> {
    pub(crate) middleware: &'h dyn HeadHook,
    pub(crate) outer: Option<&'h Self>,
}

impl fmt::Debug for Hook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// [`Middleware::head`] without the type of the state.
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
pub trait Log<S: State> {
    /// Called once for each request when it has ended, in whichever way.
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
