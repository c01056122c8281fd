//! What a handler is given.

use lightcone_core::{Address, Instant, Packed, Token};

use crate::exchange::{Collect, Done};
use crate::middleware::Outcome;
use crate::parse::head::Head;
use crate::path;
use crate::query::query_value;
use crate::respond::response::{Reply, Response};
use crate::status::Status;

/// What the routes of one poller share: given to [`Http::with`](crate::Http::with), lent to each handler as
/// [`Request::state`]. Never used by two threads at once, so it needs no lock.
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
    /// What can be posted to a connection; [`Infallible`](core::convert::Infallible) for nothing.
    type Message;

    /// Where [`AccessLog::new`](crate::AccessLog::new) writes to.
    fn log(&mut self, outcome: &Outcome<'_>) {
        let _ = outcome;
    }
}

impl State for () {
    type Message = core::convert::Infallible;
}

/// The connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    pub(crate) token: Token,
    pub(crate) peer: Packed,
    pub(crate) now: Instant,
}

/// One request: its head, and what the server knows around it.
#[derive(Debug)]
pub struct Request<'a, S> {
    /// Method, target, fields.
    pub head: &'a Head<'a>,
    /// What the routes of this poller share.
    pub state: &'a mut S,
    pub(crate) connected: &'a Connected,
    pub(crate) route: Route,
}

/// The route that matched: its pattern, and where the part of the path starts that it was matched with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) pattern: &'static str,
    pub(crate) base: usize,
}

impl<'a, S: State> Request<'a, S> {
    /// The part of the path that stands for `{name}` in the route's pattern, not decoded: see
    /// [`percent_decode`](crate::percent_decode). Empty if the pattern has no such parameter, which is a mistake.
    pub fn param(&self, name: &str) -> &'a str {
        let path = self.head.path.get(self.route.base..).unwrap_or(&[]);
        let value = path::parameter(self.route.pattern, path, name);
        debug_assert!(value.is_some(), "{:?} has no parameter {name:?}", self.route.pattern);
        value.and_then(|value| core::str::from_utf8(value).ok()).unwrap_or("")
    }

    /// The value of a parameter in the query, not decoded: see [`form_decode`](crate::form_decode).
    pub fn query(&self, name: &str) -> Option<&'a str> {
        query_value(self.head.query?, name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The connection, to post messages to.
    pub fn token(&self) -> Token {
        self.connected.token
    }

    /// Who asks.
    pub fn peer(&self) -> Address {
        self.connected.peer.unpack()
    }

    /// When the callback began that this request is handled in.
    pub fn now(&self) -> Instant {
        self.connected.now
    }

    /// Answers when the whole body has come, which may have `N` bytes; a larger one is refused with 413.
    ///
    /// Those `N` bytes are part of **every** connection: for bodies of more than a few hundred bytes write an
    /// [`Exchange`](crate::Exchange) that uses them as they come.
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
            return response.refuse(Status::CONTENT_TOO_LARGE).early();
        }
        response.defer(Collect::new(f))
    }
}
