//! The chain of routes. A request takes two passes: the first finds its route, the second calls it.
//!
//! `find_exact` finds a route whose pattern is literally the path. Otherwise `find` walks the whole chain, so that the
//! most specific route wins regardless of order, and a 405 can list the allowed methods. `call` descends to the route
//! by its index. The end of every chain, a group's as well, has an index for requests without a route, and what is
//! found may be a refusal in place of the handler. So middleware sees what the server itself responds.

pub(crate) mod each;
mod join;
mod logged;
mod lookup;
mod sealed;
mod wrap;

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use lightcone_core::{Full, Instant};

pub use self::join::Join;
pub use self::logged::{Logged, Traced};
pub use self::lookup::{BestMatch, Lookup, RouteMatch};
pub(crate) use self::lookup::{find, search};
pub use self::wrap::Wrap;
use crate::exchange::{Done, Either, Exchange, Flow};
use crate::message::Outlet;
use crate::method::Method;
use crate::middleware::{Hook, Outcome};
use crate::mode::ResponseMode;
use crate::parse::head::Head;
use crate::path::{self, Pattern, Prefix};
use crate::request::{ConnectionInfo, MatchedRoute, Request, State};
use crate::respond::response::{Reply, Response, replaced, reply_with};
use crate::respond::writer::{ResponseBody, ResponseWriter, Scratch, Sink};
use crate::status::Status;
use crate::transfer::Transfer;

/// One request on its way down the chain. Passed by value, so that parts that a route does not use stay in registers.
#[derive(Debug)]
pub struct Call<'c, S: State> {
    pub(crate) head: &'c Head<'c>,
    pub(crate) connected: &'c ConnectionInfo,
    pub(crate) state: &'c mut S,
    pub(crate) outlet: Outlet<'c, S>,
    pub(crate) output: &'c mut (dyn Sink + 'c),
    pub(crate) scratch: &'c mut Scratch,
    pub(crate) hooks: Option<&'c Hook<'c>>,
    pub(crate) mode: ResponseMode,
}

impl<'c, S: State> Call<'c, S> {
    /// Returns the response and the request for a handler.
    #[inline(always)]
    fn split(self, pattern: &'static str, base: usize) -> (Response<'c>, Request<'c, S>) {
        let Self { head, connected, state, outlet, output, scratch, hooks, mode } = self;
        let request = Request { head, state, connected, outlet, route: MatchedRoute { pattern, base } };
        (Response { writer: ResponseWriter { output, scratch, hooks, mode, status: Status::OK } }, request)
    }

    /// Returns the same call with a shorter lifetime.
    fn reborrow(&mut self) -> Call<'_, S> {
        let Self { head, connected, hooks, mode, .. } = *self;
        let outlet = self.outlet.reborrow();
        Call {
            head,
            connected,
            state: self.state,
            outlet,
            output: self.output,
            scratch: self.scratch,
            hooks,
            mode,
        }
    }

    /// Returns the outcome for middleware and logs.
    fn outcome<B>(&self, reply: &Reply<B>) -> Outcome<'c> {
        Outcome {
            method: Some(self.head.method),
            target: self.head.target(),
            status: reply.status(),
            length: reply.length,
            duration: Some(Duration::ZERO),
            complete: reply.outgoing() != ResponseBody::Failed,
            fault: reply.has_failed().then_some(self.scratch.fault),
            peer: self.connected.peer.unpack(),
            token: self.connected.token,
        }
    }
}

/// A route or a fallback, for the checks when a chain is built.
#[derive(Clone, Copy, Debug)]
pub struct RouteEntry<'e> {
    /// `None` for a fallback.
    method: Option<Method>,
    prefix: &'e Prefix,
    pattern: &'static str,
}

impl RouteEntry<'_> {
    pub(crate) const fn new<'e>(
        method: Option<Method>,
        prefix: &'e Prefix,
        pattern: &'static str,
    ) -> RouteEntry<'e> {
        RouteEntry { method, prefix, pattern }
    }

    /// Returns whether both match the same requests, so that only their order could decide between them. The names of
    /// parameters make no difference.
    fn is_equivalent(&self, other: &RouteEntry<'_>) -> bool {
        if self.method != other.method {
            return false;
        }
        if self.method.is_none() {
            return self.prefix.as_str() == other.prefix.as_str();
        }
        let (here, there) = (self.patterns(), other.patterns());
        here.into_iter().flatten().any(|here| {
            there.into_iter().flatten().any(|there| {
                path::is_equivalent([self.prefix.as_str(), here], [other.prefix.as_str(), there])
            })
        })
    }

    /// Returns the patterns that follow the prefix. The `/` of a group also matches without the slash.
    fn patterns(&self) -> [Option<&'static str>; 2] {
        let bare = self.pattern == "/" && !self.prefix.as_str().is_empty();
        [Some(self.pattern), bare.then_some("")]
    }

    /// Checks that the pattern is valid below its prefix.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    fn check(&self) {
        let Self { prefix, pattern, .. } = self;
        let prefix = prefix.as_str();
        if prefix.is_empty() {
            return;
        }
        assert!(pattern.starts_with('/'), "{pattern:?} is not allowed below a prefix");
        let most = Prefix::MAX;
        assert!(
            self.method.is_none() || prefix.len() + pattern.len() <= most,
            "a pattern with its prefixes has {most} bytes at most: {pattern:?}"
        );
        let segments = path::segment_count(prefix) + path::segment_count(pattern);
        let most = path::SEGMENTS_MAX;
        assert!(segments <= most, "a pattern with its prefixes has {most} segments at most: {pattern:?}");
    }
}

/// Formats the entry for panic messages.
impl fmt::Display for RouteEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.as_str();
        match self.method {
            Some(method) => write!(f, "{method} {prefix}{}", self.pattern),
            None => write!(f, "the fallback of {}", if prefix.is_empty() { "/" } else { prefix }),
        }
    }
}

/// Checks that an entry is valid and not in `others` already.
///
/// # Panics
/// If it is not valid below its prefix, or `others` has an equivalent one: a mistake of the program, found when it
/// starts.
#[track_caller]
pub(crate) fn check<S: State>(others: &impl Routes<S>, entry: &RouteEntry<'_>) {
    entry.check();
    others.each(&Prefix::EMPTY, &mut |other| {
        assert!(!entry.is_equivalent(other), "{entry} has a route already: {other}");
    });
}

/// A chain of routes, which only the methods of [`Http`](crate::Http) build. The trait is sealed.
///
/// ```compile_fail,E0277
/// struct Mine;
/// impl lightcone_http::Routes<()> for Mine {
///     type Body = core::convert::Infallible;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a chain of routes",
    note = "start with `Http::new()`"
)]
pub trait Routes<S: State>: sealed::Sealed {
    /// The exchanges of all routes as one type.
    type Body;
    /// The number of indices: those of the routes and fallbacks, and that of the end of the chain, which is the first.
    #[doc(hidden)]
    const COUNT: u16;

    /// Returns the route whose pattern has no parameters and equals the path, and whose method is exactly the
    /// request's: no other route can be more specific.
    #[doc(hidden)]
    fn find_exact(&self, lookup: &Lookup<'_>) -> RouteMatch;

    /// Offers all matching routes to `hit`.
    #[doc(hidden)]
    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch);

    /// Calls `see` with each route and fallback of the chain, which is nested below `prefix`.
    #[doc(hidden)]
    fn each(&self, prefix: &Prefix, see: &mut dyn FnMut(&RouteEntry<'_>));

    /// Calls the handler of the route that was found.
    #[doc(hidden)]
    fn call(&mut self, found: RouteMatch, call: Call<'_, S>) -> Reply<Self::Body>;

    /// Calls the exchange `body`.
    #[doc(hidden)]
    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow;

    /// Calls `write` with the middleware around the exchange `body`, within `outer`; without an exchange, with that
    /// around the whole server.
    #[doc(hidden)]
    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    );

    /// Whether there is middleware or a log anywhere in the chain, so that outcomes have to be
    /// [reported](Self::report).
    #[doc(hidden)]
    const WATCHED: bool;

    /// Adds the pattern of the route that the exchange `body` belongs to.
    #[doc(hidden)]
    fn pattern(&self, body: &Self::Body, to: &mut Prefix);

    /// Reports the outcome of a request to the middleware and the logs around its route; without an exchange, to those
    /// around the whole server.
    #[doc(hidden)]
    fn report<'o>(
        &mut self,
        body: Option<&'o mut Self::Body>,
        news: Report,
        outcome: &mut Outcome<'o>,
        scene: &mut ReportContext<'_, S>,
    );
}

/// The context of a report.
#[derive(Debug)]
pub struct ReportContext<'c, S> {
    pub(crate) state: &'c mut S,
    pub(crate) now: Instant,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The status is final, and the body is written.
    Answered,
    /// The status is final, and the body follows.
    Begun,
    /// The request has ended, after one of the above was reported.
    Ended,
    /// The status is final and the request has ended.
    Both,
}

impl Report {
    pub(crate) const fn ends(self) -> bool {
        matches!(self, Self::Ended | Self::Both)
    }
}

/// The end of a chain, which responds to requests without a route.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainEnd;

impl<S: State> Routes<S> for ChainEnd {
    type Body = Infallible;
    const COUNT: u16 = 1;

    #[inline(always)]
    fn find_exact(&self, _: &Lookup<'_>) -> RouteMatch {
        RouteMatch::NONE
    }

    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch) {
        hit.take_end(lookup, 0);
    }

    fn each(&self, _: &Prefix, _: &mut dyn FnMut(&RouteEntry<'_>)) {}

    #[inline(always)]
    fn call(&mut self, found: RouteMatch, call: Call<'_, S>) -> Reply<Infallible> {
        if found.is_refused() {
            return refuse(found, call).into_any();
        }
        let Call { head, output, scratch, hooks, mode, .. } = call;
        no_route(head, found.low_half(), output, scratch, hooks, mode)
    }

    fn advance(&mut self, body: &mut Infallible, _: Cause<S::Message>, _: &mut Transfer<'_, S>) -> Flow {
        match *body {}
    }

    fn hooked(
        &self,
        _: Option<&Infallible>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        write(outer);
    }

    const WATCHED: bool = false;

    fn pattern(&self, body: &Infallible, _: &mut Prefix) {
        match *body {}
    }

    fn report<'o>(
        &mut self,
        _: Option<&'o mut Infallible>,
        _: Report,
        _: &mut Outcome<'o>,
        _: &mut ReportContext<'_, S>,
    ) {
    }
}

/// Refuses a request in place of its handler.
#[inline(always)]
fn refuse<S: State>(found: RouteMatch, call: Call<'_, S>) -> Reply<Done> {
    let Call { output, scratch, hooks, mode, .. } = call;
    refuse_with(found.low_half(), output, scratch, hooks, mode)
}

/// Responds with a status and its phrase. (Takes the parts of a [`Call`], as [`no_route`] does.)
#[cold]
#[inline(never)]
fn refuse_with<'c>(
    status: u16,
    output: &'c mut (dyn Sink + 'c),
    scratch: &'c mut Scratch,
    hooks: Option<&'c Hook<'c>>,
    mode: ResponseMode,
) -> Reply<Done> {
    let status = Status::new(status).unwrap_or(Status::BAD_REQUEST);
    let mut writer = ResponseWriter { output, scratch, hooks, mode, status };
    match writer.canned_response(status) {
        Ok(length) => reply_with(&writer, Some(length), ResponseBody::Complete, None),
        Err(Full) => replaced(&mut writer, status),
    }
}

/// Responds to a request without a route. (Takes the parts of a [`Call`], so that no whole one has to be built.)
#[cold]
#[inline(never)]
fn no_route<'c>(
    head: &Head<'_>,
    allow: u16,
    output: &'c mut (dyn Sink + 'c),
    scratch: &'c mut Scratch,
    hooks: Option<&'c Hook<'c>>,
    mode: ResponseMode,
) -> Reply<Infallible> {
    let options = head.method == Method::Options;
    let response = Response { writer: ResponseWriter { output, scratch, hooks, mode, status: Status::OK } };
    match Allow(allow) {
        Allow(0) if options && head.path == b"*" => response.status(Status::NO_CONTENT).empty().into_any(),
        Allow(0) => response.refuse(Status::NOT_FOUND).into_any(),
        allow if options => response.status(Status::NO_CONTENT).header("Allow", allow).empty().into_any(),
        allow => response.header("Allow", allow).refuse(Status::METHOD_NOT_ALLOWED).into_any(),
    }
}

/// A set of methods, displayed as the value of an `Allow` field.
#[derive(Clone, Copy)]
struct Allow(u16);

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = if self.0 & Method::Get.bit() != 0 { Method::Head.bit() } else { 0 };
        let all = self.0 | head | Method::Options.bit();
        let mut separator = "";
        for method in Method::ALL.iter().filter(|method| all & method.bit() != 0) {
            write!(f, "{separator}{method}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// One route, and the rest of the chain.
pub struct Route<F, B, R> {
    pattern: Pattern,
    method: Method,
    handler: F,
    next: R,
    body: PhantomData<fn() -> B>,
}

impl<F, B, R> Route<F, B, R> {
    pub(crate) const fn new(method: Method, pattern: Pattern, handler: F, next: R) -> Self {
        Self { pattern, method, handler, next, body: PhantomData }
    }
}

impl<S, F, B, R> Routes<S> for Route<F, B, R>
where
    S: State,
    F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
    B: Exchange<S>,
    R: Routes<S>,
{
    type Body = Either<B, R::Body>;
    const COUNT: u16 = R::COUNT + 1;

    #[inline(always)]
    fn find_exact(&self, lookup: &Lookup<'_>) -> RouteMatch {
        if self.pattern.is(lookup.path, &lookup.key) && self.method == lookup.method {
            return RouteMatch::new(lookup.first + R::COUNT, lookup.base, 0);
        }
        self.next.find_exact(lookup)
    }

    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch) {
        if self.pattern.matches(lookup.path, &lookup.key) {
            hit.take(lookup, self.method, &self.pattern, R::COUNT);
        }
        self.next.find(lookup, hit);
    }

    fn each(&self, prefix: &Prefix, see: &mut dyn FnMut(&RouteEntry<'_>)) {
        see(&RouteEntry { method: Some(self.method), prefix, pattern: self.pattern.text });
        self.next.each(prefix, see);
    }

    #[inline(always)]
    fn call(&mut self, found: RouteMatch, call: Call<'_, S>) -> Reply<Self::Body> {
        if found.index != R::COUNT {
            return self.next.call(found, call).map(Either::Right);
        }
        if found.is_refused() {
            return refuse(found, call).into_any();
        }
        let (response, request) = call.split(self.pattern.text, found.base());
        (self.handler)(request, response).map(Either::Left)
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        match body {
            Either::Left(exchange) => drive(exchange, cause, io),
            Either::Right(body) => self.next.advance(body, cause, io),
        }
    }

    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        match body {
            Some(Either::Left(_)) => write(outer),
            Some(Either::Right(body)) => self.next.hooked(Some(body), outer, write),
            None => self.next.hooked(None, outer, write),
        }
    }

    const WATCHED: bool = R::WATCHED;

    fn pattern(&self, body: &Self::Body, to: &mut Prefix) {
        match body {
            Either::Left(_) => to.push(self.pattern.text),
            Either::Right(body) => self.next.pattern(body, to),
        }
    }

    fn report<'o>(
        &mut self,
        body: Option<&'o mut Self::Body>,
        news: Report,
        outcome: &mut Outcome<'o>,
        scene: &mut ReportContext<'_, S>,
    ) {
        match body {
            Some(Either::Left(_)) => {
                outcome.method = outcome.method.or(Some(self.method));
            }
            Some(Either::Right(body)) => self.next.report(Some(body), news, outcome, scene),
            None => self.next.report(None, news, outcome, scene),
        }
    }
}

/// Why an exchange is called.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<M> {
    /// There may be more body, or more room.
    Progress,
    /// A message was posted to it.
    Message(M),
    /// The server is shutting down.
    Shutdown,
    /// The peer has ended its stream.
    PeerClosed,
    /// The time that the exchange has set has come, after an upgrade.
    Wake,
    /// The connection, which has changed to another protocol, has ended.
    Disconnected,
}

/// Calls an exchange until it makes no more progress.
fn drive<S: State, B: Exchange<S>>(
    exchange: &mut B,
    cause: Cause<S::Message>,
    io: &mut Transfer<'_, S>,
) -> Flow {
    let mut flow = match cause {
        Cause::Progress => Flow::More,
        Cause::Message(message) => exchange.message(message, io),
        Cause::Shutdown => exchange.shutdown(io),
        Cause::PeerClosed => exchange.peer_closed(io),
        Cause::Wake => exchange.wake(io),
        Cause::Disconnected => {
            exchange.disconnected(io);
            Flow::Abort
        }
    };
    // Once it consumes nothing, only new input, new room or an event can change anything. A call that has consumed may
    // have stopped at a chunk boundary, with more data after it.
    while flow == Flow::More {
        let before = *io.link.at;
        flow = exchange.advance(io);
        if *io.link.at == before {
            break;
        }
    }
    flow
}

/// The handler for paths that match no route, and the rest of the chain.
pub struct Fallback<F, B, R> {
    handler: F,
    next: R,
    body: PhantomData<fn() -> B>,
}

impl<F, B, R> Fallback<F, B, R> {
    pub(crate) const fn new(handler: F, next: R) -> Self {
        Self { handler, next, body: PhantomData }
    }
}

impl<S, F, B, R> Routes<S> for Fallback<F, B, R>
where
    S: State,
    F: FnMut(Request<'_, S>, Response<'_>) -> Reply<B>,
    B: Exchange<S>,
    R: Routes<S>,
{
    type Body = Either<B, R::Body>;
    const COUNT: u16 = R::COUNT + 1;

    #[inline(always)]
    fn find_exact(&self, lookup: &Lookup<'_>) -> RouteMatch {
        self.next.find_exact(lookup)
    }

    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch) {
        self.next.find(lookup, hit);
        // Any route beats a fallback; among fallbacks, the one with the longest prefix is the most specific.
        let beaten = hit.rank.0 > 0 || hit.index != RouteMatch::MISS && hit.base >= lookup.base;
        if !beaten {
            (hit.index, hit.base) = (lookup.first + R::COUNT, lookup.base);
        }
    }

    fn each(&self, prefix: &Prefix, see: &mut dyn FnMut(&RouteEntry<'_>)) {
        see(&RouteEntry { method: None, prefix, pattern: "/{*path}" });
        self.next.each(prefix, see);
    }

    #[inline(always)]
    fn call(&mut self, found: RouteMatch, call: Call<'_, S>) -> Reply<Self::Body> {
        if found.index != R::COUNT {
            return self.next.call(found, call).map(Either::Right);
        }
        if found.is_refused() {
            return refuse(found, call).into_any();
        }
        let (response, request) = call.split("/{*path}", found.base());
        (self.handler)(request, response).map(Either::Left)
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        match body {
            Either::Left(exchange) => drive(exchange, cause, io),
            Either::Right(body) => self.next.advance(body, cause, io),
        }
    }

    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        match body {
            Some(Either::Left(_)) => write(outer),
            Some(Either::Right(body)) => self.next.hooked(Some(body), outer, write),
            None => self.next.hooked(None, outer, write),
        }
    }

    const WATCHED: bool = R::WATCHED;

    fn pattern(&self, body: &Self::Body, to: &mut Prefix) {
        match body {
            Either::Left(_) => to.push("/{*path}"),
            Either::Right(body) => self.next.pattern(body, to),
        }
    }

    fn report<'o>(
        &mut self,
        body: Option<&'o mut Self::Body>,
        news: Report,
        outcome: &mut Outcome<'o>,
        scene: &mut ReportContext<'_, S>,
    ) {
        match body {
            Some(Either::Left(_)) => {}
            Some(Either::Right(body)) => self.next.report(Some(body), news, outcome, scene),
            None => self.next.report(None, news, outcome, scene),
        }
    }
}

macro_rules! debug_as_its_pattern {
    ($($name:ident)*) => {$(
        impl<F, B, R: fmt::Debug> fmt::Debug for $name<F, B, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("next", &self.next).finish_non_exhaustive()
            }
        }
    )*};
}

debug_as_its_pattern!(Route Fallback);
