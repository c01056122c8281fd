//! The server as a program builds it.

use core::marker::PhantomData;

use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::method::Method;
use crate::middleware::{Log, Middleware};
use crate::parse::host::LastHost;
use crate::path::{Pattern, Prefix, segment_count};
use crate::request::{Request, State};
use crate::respond::draft::Desk;
use crate::respond::response::{Reply, Response};
use crate::route::{self, End, Entry, Fallback, Join, Logged, Route, Routes, Wrap};
use crate::stats::Stats;

/// An HTTP/1.1 server: a chain of routes that is a [`Handler`](lightcone_core::Handler) for any driver.
///
/// ```
/// use lightcone_http::{AccessLog, Done, Http, Reply, Request, Response};
///
/// fn greet(request: Request<'_, ()>, response: Response<'_>) -> Reply<Done> {
///     response.display(format_args!("hello, {}", request.param("name")))
/// }
///
/// let server = Http::new()
///     .get("/foo", |_request, response| response.text("bar"))
///     .get("/hello/{name}", greet)
///     .nest("/api", Http::group().get("/version", |_request, response| response.json("1")))
///     .fallback(|_request, response| response.refuse(404))
///     .log(AccessLog::new());
/// # drop(server);
/// ```
///
/// A pattern's segments are literal, `{name}` for any one segment, or, at the end, `{*name}` for all that are left.
/// The most specific pattern wins, whatever the order and however routes are grouped: literal before `{name}` before
/// `{*name}`, from left to right, among the routes that have the request's method. A path that only other methods have is answered with 405
/// and `Allow`, or with 204 and `Allow` if the method is `OPTIONS`. `HEAD` goes to routes for `GET` unless there is
/// one of its own. Paths are compared as they come: not decoded, not normalised.
///
/// Timeouts by phase are the engine's ([`Timeouts`](lightcone_core::Timeouts): first byte, idle between requests,
/// write stall, drain); those of a head and a body that has begun, and of an answer, are among the [`Limits`]. The idle
/// timeout does not run within a request. The output bound of a
/// socket must be 512 bytes at least, or the first connection panics: a request is started when half of the bound is
/// free, so that an answer given at once may have that size.
///
/// Write closures in place, where the compiler sees what they are for; one bound to a variable first does not fit.
/// Up to about 100 routes go in one chain; for more, [`merge`](Self::merge) groups.
#[must_use = "it serves nothing until a driver runs it"]
#[derive(Debug)]
pub struct Http<S, R, P = Parts<S>> {
    pub(crate) routes: R,
    pub(crate) parts: P,
    state: PhantomData<fn(S)>,
}

/// What a server has beside its routes; a group of routes has none of it.
#[derive(Debug)]
pub struct Parts<S> {
    pub(crate) state: S,
    pub(crate) limits: Limits,
    pub(crate) stats: Option<&'static Stats>,
    pub(crate) desk: Desk,
    pub(crate) last_host: LastHost,
}

impl Http<(), End> {
    /// A server without routes and without state.
    pub const fn new() -> Self {
        Self::with(())
    }
}

impl Default for Http<(), End> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State> Http<S, End> {
    /// A server whose routes share `state`: [`Request::state`].
    pub const fn with(state: S) -> Self {
        let parts = Parts {
            state,
            limits: Limits::DEFAULT,
            stats: None,
            desk: Desk::new(),
            last_host: LastHost::NONE,
        };
        Self { routes: End, parts, state: PhantomData }
    }
}

impl<S: State> Http<S, End, ()> {
    /// A group of routes, to be [merged](Self::merge) or [nested](Self::nest) into a server or another group.
    ///
    /// Where routes use the state before the compiler has seen which it is, name it:
    ///
    /// ```
    /// # use lightcone_http::{Http, State};
    /// # struct App { hits: u64 }
    /// # impl State for App { type Message = core::convert::Infallible; }
    /// let hits = Http::<App, _, _>::group()
    ///     .get("/", |request, response| response.display(request.state.hits))
    ///     .delete("/", |request, response| {
    ///         request.state.hits = 0;
    ///         response.status(204).empty()
    ///     });
    /// let server = Http::with(App { hits: 0 }).nest("/hits", hits);
    /// # drop(server);
    /// ```
    pub const fn group() -> Self {
        Self { routes: End, parts: (), state: PhantomData }
    }
}

impl<S: State, R: Routes<S>> Http<S, R> {
    /// Sets the limits.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.parts.limits = limits;
        if limits.pipelined == 0 {
            self.parts.limits.pipelined = 1; // with none, no request would ever be answered
        }
        self
    }

    /// Counts into `stats`.
    pub const fn stats(mut self, stats: &'static Stats) -> Self {
        self.parts.stats = Some(stats);
        self
    }

    /// What the routes share.
    pub const fn state(&mut self) -> &mut S {
        &mut self.parts.state
    }
}

impl<S: State, R: Routes<S>, P> Http<S, R, P> {
    /// A route for one method.
    ///
    /// # Panics
    /// If the pattern is invalid, or the method has a route for the same paths already, whatever the names of its
    /// parameters: `/users/{id}` and `/users/{name}` are the same.
    #[track_caller]
    pub fn on<F, B>(self, method: Method, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        route::check(&self.routes, &Entry::new(Some(method), &Prefix::EMPTY, pattern));
        let pattern = Pattern::new(pattern);
        self.link(|routes| Route::new(method, pattern, handler, routes))
    }

    /// A route for `GET`, and for `HEAD` if that has none of its own.
    #[track_caller]
    pub fn get<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Get, pattern, handler)
    }

    /// A route for `POST`.
    #[track_caller]
    pub fn post<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Post, pattern, handler)
    }

    /// A route for `PUT`.
    #[track_caller]
    pub fn put<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Put, pattern, handler)
    }

    /// A route for `DELETE`.
    #[track_caller]
    pub fn delete<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Delete, pattern, handler)
    }

    /// A route for `PATCH`.
    #[track_caller]
    pub fn patch<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Patch, pattern, handler)
    }

    /// What answers requests for paths that no route has, in the place of a plain 404. `request.param("path")` is what
    /// stands behind the first slash, or behind that of the group's prefix. A group's own fallback answers below its
    /// prefix.
    ///
    /// # Panics
    /// If there is one already.
    #[track_caller]
    pub fn fallback<F, B>(self, handler: F) -> Http<S, Fallback<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        route::check(&self.routes, &Entry::new(None, &Prefix::EMPTY, "/{*path}"));
        self.link(|routes| Fallback::new(handler, routes))
    }

    /// The routes of a group beside these.
    ///
    /// # Panics
    /// If a method has routes for the same paths here and there, or both have a fallback.
    #[track_caller]
    pub fn merge<A: Routes<S>>(self, group: Http<S, A, ()>) -> Http<S, Join<A, R>, P> {
        self.join("", group.routes)
    }

    /// The routes of a group below a prefix. The group's `/` is the prefix itself, with or without a slash.
    ///
    /// # Panics
    /// If the prefix does not start with a slash, ends with one, or has parameters; if a method has routes for the same
    /// paths here and there, or both have a fallback for the prefix; if a pattern has more than 256 bytes or 31 segments
    /// with all its prefixes, or is `*`.
    #[track_caller]
    pub fn nest<A: Routes<S>>(self, prefix: &'static str, group: Http<S, A, ()>) -> Http<S, Join<A, R>, P> {
        let good = prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/');
        assert!(good && !prefix.contains(['{', '}']), "not a prefix: {prefix:?}");
        self.join(prefix, group.routes)
    }

    #[track_caller]
    fn join<A: Routes<S>>(self, prefix: &'static str, group: A) -> Http<S, Join<A, R>, P> {
        let depth = segment_count(prefix);
        group.each(&Prefix::EMPTY.with(prefix), &mut |entry| route::check(&self.routes, entry));
        self.link(|routes| Join::new(prefix, u8::try_from(depth).unwrap_or(u8::MAX), group, routes))
    }

    /// Middleware around all routes so far. What was wrapped last comes first.
    pub fn wrap<M: Middleware<S>>(self, middleware: M) -> Http<S, Wrap<M, R>, P> {
        self.link(|routes| Wrap::new(middleware, routes))
    }

    /// A log of all requests of the routes so far, and of those that no route answers (404, 405) or that the server
    /// refuses: one call for each, when it has ended. Each connection has room for the target of a request that is
    /// answered later, about 96 bytes.
    pub fn log<L: Log<S>>(self, log: L) -> Http<S, Logged<L, R>, P> {
        self.link(|routes| Logged::new(log, routes))
    }

    fn link<T>(self, link: impl FnOnce(R) -> T) -> Http<S, T, P> {
        Http { routes: link(self.routes), parts: self.parts, state: PhantomData }
    }
}
