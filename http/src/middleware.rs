//! What is wrapped around handlers.

use core::fmt;
use core::marker::PhantomData;

use lightcone_core::{Address, Token};

use crate::exchange::Done;
use crate::method::Method;
use crate::request::{Request, State};
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::status::Status;

/// Sees the requests of the routes it wraps, and those that no route answers (404, 405).
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

    /// When the request is answered; of a streamed response, when its head is written.
    fn after(&mut self, state: &mut S, outcome: &Outcome<'_>) {
        let _ = (state, outcome);
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The method.
    pub method: Method,
    /// The target. If the answer had to wait for the request's body: the pattern of the route, within its group.
    pub target: &'a [u8],
    /// The status.
    pub status: Status,
    /// Bytes of the body, if they were known in advance. (The answer to `HEAD` has them too.)
    pub length: Option<u64>,
    /// Who asked.
    pub peer: Address,
    /// The connection.
    pub token: Token,
}

/// As a line of a log: `GET /foo 200 3`.
impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.method, self.target.escape_ascii(), self.status.code())?;
        match self.length {
            Some(length) => write!(f, "{length}"),
            None => f.write_str("-"),
        }
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

/// Reports every answer: to a closure, or to the [state](State::log).
///
/// ```
/// use lightcone_http::{AccessLog, Http};
/// let server = Http::new()
///     .get("/foo", |_request, response| response.text("bar"))
///     .wrap(AccessLog::to(|outcome| println!("{} {outcome}", outcome.peer)));
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

impl<S: State> Middleware<S> for AccessLog {
    fn after(&mut self, state: &mut S, outcome: &Outcome<'_>) {
        state.log(outcome);
    }
}

impl<S: State, L: FnMut(&Outcome<'_>)> Middleware<S> for AccessLog<L> {
    fn after(&mut self, _: &mut S, outcome: &Outcome<'_>) {
        (self.0)(outcome);
    }
}
