//! The server and its builder methods.

use core::marker::PhantomData;

use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::method::Method;
use crate::middleware::{Log, Middleware, RequestMiddleware};
use crate::parse::host::LastHost;
use crate::path::{Pattern, Prefix, segment_count};
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response};
use crate::respond::writer::Scratch;
use crate::route::each::WrapEach;
use crate::route::{self, ChainEnd, Fallback, Join, Logged, Route, RouteEntry, Routes, Wrap};
use crate::stats::Stats;

/// An HTTP/1.1 server: a chain of routes that implements the core's [`Handler`](lightcone_core::Handler), so any driver
/// can run it.
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
/// # Routing
///
/// A pattern consists of segments. A segment is a literal; `{name}`, which matches any one segment that is not empty;
/// or, at the end, `{*name}`, which matches the rest of the path if it is not empty. Paths are compared as received,
/// neither decoded nor normalised.
///
/// Of the routes for the request's method, the one with the most specific pattern wins, regardless of order and
/// grouping: segments are compared from left to right, and a literal beats `{name}`, which beats `{*name}`. Routes for
/// `GET` also serve `HEAD`, unless a route for `HEAD` is at least as specific. If a path matches only routes for other
/// methods, the response is 405 with `Allow`, or for `OPTIONS` 204 with `Allow`.
///
/// # Timeouts and buffers
///
/// The engine's [`Timeouts`](lightcone_core::Timeouts) cover the first byte, the idle time between requests, write
/// stalls and draining. The idle timeout does not run during a request. The times allowed for a head or a body that has
/// begun, and for a response, are [`Limits`].
///
/// The [output limit](lightcone_core::Output::limit) of a socket must be at least 512 bytes, otherwise the first
/// connection panics. The server begins with a request only when half of the limit is free, so a response that is sent
/// at once can always have that size.
///
/// # Route handlers
///
/// The handler of a route is a function or closure with the request and the response as arguments; it has nothing to do
/// with the trait `Handler` of the core. Write a closure as an argument of [`get`](Self::get) or a similar method: for
/// a closure that is bound to a variable first, the compiler infers a type that is not general enough.
///
/// A chain can hold about 100 routes. For more, put the routes in groups and [`merge`](Self::merge) these.
#[must_use = "a server does nothing until a driver runs it"]
#[derive(Debug)]
pub struct Http<S, R, P = ServerState<S>> {
    pub(crate) routes: R,
    pub(crate) parts: P,
    state: PhantomData<fn(S)>,
}

/// The parts of a server other than its routes. A group of routes does not have these parts.
#[derive(Debug)]
pub struct ServerState<S> {
    pub(crate) state: S,
    pub(crate) limits: Limits,
    pub(crate) stats: Option<&'static Stats>,
    pub(crate) scratch: Scratch,
    pub(crate) last_host: LastHost,
}

impl Http<(), ChainEnd> {
    /// Creates a server without routes and without state.
    pub const fn new() -> Self {
        Self::with(())
    }
}

impl Default for Http<(), ChainEnd> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State> Http<S, ChainEnd> {
    /// Creates a server whose routes share `state`, which route handlers access as [`Request::state`].
    pub const fn with(state: S) -> Self {
        let parts = ServerState {
            state,
            limits: Limits::DEFAULT,
            stats: None,
            scratch: Scratch::new(),
            last_host: LastHost::NONE,
        };
        Self { routes: ChainEnd, parts, state: PhantomData }
    }
}

impl<S: State> Http<S, ChainEnd, ()> {
    /// Creates a group of routes, to be [merged](Self::merge) or [nested](Self::nest) into a server or another group.
    ///
    /// If route handlers use the state before the compiler can infer its type, name the type:
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
        Self { routes: ChainEnd, parts: (), state: PhantomData }
    }
}

impl<S: State, R: Routes<S>> Http<S, R> {
    /// Sets the limits. [`Limits::DEFAULT`] applies otherwise.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.parts.limits = limits;
        if limits.pipelined == 0 {
            self.parts.limits.pipelined = 1; // with 0, no request would ever be served
        }
        self
    }

    /// Sets the counters that the server updates.
    pub const fn stats(mut self, stats: &'static Stats) -> Self {
        self.parts.stats = Some(stats);
        self
    }

    /// Returns the state that the routes share.
    pub const fn state_mut(&mut self) -> &mut S {
        &mut self.parts.state
    }
}

impl<S: State, R: Routes<S>, P> Http<S, R, P> {
    /// Adds a route for `method`.
    ///
    /// # Panics
    /// If the pattern is invalid, or if `method` already has a route for the same paths. The names of parameters make
    /// no difference: `/users/{id}` and `/users/{name}` match the same paths.
    #[track_caller]
    pub fn on<F, B>(self, method: Method, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        route::check(&self.routes, &RouteEntry::new(Some(method), &Prefix::EMPTY, pattern));
        let pattern = Pattern::new(pattern);
        self.link(|routes| Route::new(method, pattern, handler, routes))
    }

    /// Adds a route for `GET`, which also serves `HEAD` if that has no route of its own. See [`on`](Self::on).
    #[track_caller]
    pub fn get<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Get, pattern, handler)
    }

    /// Adds a route for `POST`. See [`on`](Self::on).
    #[track_caller]
    pub fn post<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Post, pattern, handler)
    }

    /// Adds a route for `PUT`. See [`on`](Self::on).
    #[track_caller]
    pub fn put<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Put, pattern, handler)
    }

    /// Adds a route for `DELETE`. See [`on`](Self::on).
    #[track_caller]
    pub fn delete<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Delete, pattern, handler)
    }

    /// Adds a route for `PATCH`. See [`on`](Self::on).
    #[track_caller]
    pub fn patch<F, B>(self, pattern: &'static str, handler: F) -> Http<S, Route<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        self.on(Method::Patch, pattern, handler)
    }

    /// Sets the route handler for paths that match no route, in place of a plain 404. The fallback of a group is for
    /// paths below the group's prefix. In a fallback, `request.param("path")` returns the path after its first slash;
    /// in that of a group, the path after the prefix and the slash that follows it.
    ///
    /// # Panics
    /// If there is a fallback already.
    #[track_caller]
    pub fn fallback<F, B>(self, handler: F) -> Http<S, Fallback<F, B, R>, P>
    where
        F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
        B: Exchange<S>,
    {
        route::check(&self.routes, &RouteEntry::new(None, &Prefix::EMPTY, "/{*path}"));
        self.link(|routes| Fallback::new(handler, routes))
    }

    /// Adds the routes of a group.
    ///
    /// # Panics
    /// If a method has routes for the same paths in both, or if both have a fallback.
    #[track_caller]
    pub fn merge<A: Routes<S>>(self, group: Http<S, A, ()>) -> Http<S, Join<A, R>, P> {
        self.join("", group.routes)
    }

    /// Adds the routes of a group below a prefix. The group's `/` matches the prefix itself, with or without a trailing
    /// slash.
    ///
    /// # Panics
    /// - If the prefix does not start with a slash, ends with one, or has parameters.
    /// - If a method has routes for the same paths in both, or if both have a fallback for the prefix.
    /// - If a pattern of the group has more than 256 bytes or 31 segments with all its prefixes, or is `*`.
    #[track_caller]
    pub fn nest<A: Routes<S>>(self, prefix: &'static str, group: Http<S, A, ()>) -> Http<S, Join<A, R>, P> {
        let good = prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/');
        assert!(good && !prefix.contains(['{', '}']), "{prefix:?} is not a prefix such as \"/api\"");
        self.join(prefix, group.routes)
    }

    #[track_caller]
    fn join<A: Routes<S>>(self, prefix: &'static str, group: A) -> Http<S, Join<A, R>, P> {
        let depth = segment_count(prefix);
        group.each(&Prefix::EMPTY.with(prefix), &mut |entry| route::check(&self.routes, entry));
        self.link(|routes| Join::new(prefix, u8::try_from(depth).unwrap_or(u8::MAX), group, routes))
    }

    /// Wraps the routes added so far in middleware. The middleware that was added last runs first. It also sees what
    /// the server responds itself to requests for these routes, or for paths without a route: see
    /// [`Middleware`](Middleware#responses-of-the-server).
    pub fn wrap<M: Middleware<S>>(self, middleware: M) -> Http<S, Wrap<M, R>, P> {
        self.link(|routes| Wrap::new(middleware, routes))
    }

    /// Wraps the routes added so far in middleware that keeps a value of each request. See [`wrap`](Self::wrap).
    pub fn wrap_each<M: RequestMiddleware<S>>(self, middleware: M) -> Http<S, WrapEach<M, R>, P> {
        self.link(|routes| WrapEach::new(middleware, routes))
    }

    /// Logs the requests of the routes added so far, and those that match no route below the prefix of the group (404,
    /// 405); on a server rather than a group, also those whose head the server refuses.
    ///
    /// The log is called once per request, when the request has ended. A log makes each connection about 96 bytes
    /// larger, mostly to keep the target of a request whose response comes later.
    pub fn log<L: Log<S>>(self, log: L) -> Http<S, Logged<L, R>, P> {
        self.link(|routes| Logged::new(log, routes))
    }

    fn link<T>(self, link: impl FnOnce(R) -> T) -> Http<S, T, P> {
        Http { routes: link(self.routes), parts: self.parts, state: PhantomData }
    }
}
