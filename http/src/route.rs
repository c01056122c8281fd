//! The chain of routes: found first, called second.
//!
//! `find` walks the whole chain, so that the most specific route wins whatever the order, and 405 knows what would
//! have been allowed. `call` goes to the route by its index; a request that no route answers goes down the chain as
//! well, so that middleware sees it.

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;

use crate::exchange::{Either, Exchange, Flow};
use crate::method::Method;
use crate::middleware::{AsHook, Hook, Middleware, Outcome};
use crate::parse::head::Head;
use crate::path::{EXACT, Key, Pattern};
use crate::plan::Plan;
use crate::request::{Connected, Request, Route as Matched, State};
use crate::respond::draft::{Desk, Draft, Outgoing, Sink};
use crate::respond::response::{Reply, Response};
use crate::status::Status;
use crate::transfer::Transfer;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'p> {
    method: Method,
    path: &'p [u8],
    key: Key,
    /// Bytes of the whole path in front of `path`.
    base: usize,
    /// Index of the first route of the group that is searched.
    first: u16,
}

impl<'p> Wanted<'p> {
    #[inline(always)]
    pub(crate) fn new(method: Method, path: &'p [u8]) -> Self {
        Self { method, path, key: Key::new(path), base: 0, first: 0 }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    pub(crate) index: u16,
    /// Where the path starts that the route's pattern stands for.
    pub(crate) base: usize,
    /// How specific the route is, and whether it is for this very method; 0: a fallback, or none.
    rank: (u64, bool),
    /// The methods of all routes that match the path, as bits.
    pub(crate) allow: u16,
}

impl Hit {
    /// No route.
    pub(crate) const MISS: u16 = u16::MAX;
    pub(crate) const NONE: Self = Self { index: Self::MISS, base: 0, rank: (0, false), allow: 0 };

    /// The rank that nothing beats.
    const BEST: (u64, bool) = (EXACT, true);

    /// Takes a route whose pattern matches, if it has the method and is more specific than what was found.
    #[inline(always)]
    fn take(&mut self, wanted: &Wanted<'_>, method: Method, rank: u64, index: u16) {
        self.allow |= method.bit();
        let same = wanted.method == method;
        let suits = same || wanted.method == Method::Head && method == Method::Get;
        if suits && (rank, same) > self.rank {
            self.rank = (rank, same);
            (self.index, self.base) = (wanted.first + index, wanted.base);
        }
    }

    /// A fallback does not hide that the path has routes for other methods.
    #[inline(always)]
    pub(crate) const fn settle(&mut self) {
        if self.rank.0 == 0 && self.allow != 0 {
            self.index = Self::MISS;
        }
    }
}

/// One request on its way down the chain.
#[derive(Debug)]
pub struct Call<'c, S> {
    pub(crate) head: &'c Head<'c>,
    pub(crate) connected: &'c Connected,
    pub(crate) state: &'c mut S,
    pub(crate) output: &'c mut (dyn Sink + 'c),
    pub(crate) desk: &'c mut Desk,
    pub(crate) hooks: Option<&'c Hook<'c>>,
    pub(crate) plan: Plan,
    pub(crate) hit: Hit,
}

impl<'c, S> Call<'c, S> {
    /// What to answer with, and the request.
    #[inline(always)]
    fn split<'a>(&'a mut self, pattern: &'static str) -> (Draft<'a>, Request<'a, S>) {
        let Self { head, connected, hooks, plan, hit, .. } = *self;
        let request =
            Request { head, state: self.state, connected, route: Matched { pattern, base: hit.base } };
        let (output, desk) = (&mut *self.output, &mut *self.desk);
        (Draft { output, desk, hooks, plan, status: Status::OK }, request)
    }

    /// What came of it, for those who watch.
    fn outcome<B>(&self, reply: &Reply<B>) -> Outcome<'c> {
        Outcome {
            method: self.head.method,
            target: self.head.target(),
            status: reply.status,
            length: reply.length,
            peer: self.connected.peer,
            token: self.connected.token,
        }
    }
}

/// A chain of routes. Made by the methods of [`Http`](crate::Http) alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a chain of routes",
    note = "start with `Http::new()`"
)]
pub trait Routes<S: State> {
    /// The exchanges of all routes as one type.
    type Body;
    #[doc(hidden)]
    const COUNT: u16;

    #[doc(hidden)]
    fn find(&self, wanted: &Wanted<'_>, hit: &mut Hit);

    #[doc(hidden)]
    fn has(&self, method: Method, pattern: &str) -> bool;

    #[doc(hidden)]
    fn call(&mut self, index: u16, call: &mut Call<'_, S>) -> Reply<Self::Body>;

    #[doc(hidden)]
    fn advance(
        &mut self,
        body: &mut Self::Body,
        message: Option<S::Message>,
        io: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str));
}

/// The end of a chain: what no route answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct End;

impl<S: State> Routes<S> for End {
    type Body = Infallible;
    const COUNT: u16 = 0;

    #[inline(always)]
    fn find(&self, _: &Wanted<'_>, _: &mut Hit) {}

    fn has(&self, _: Method, _: &str) -> bool {
        false
    }

    #[cold]
    #[inline(never)]
    fn call(&mut self, _: u16, call: &mut Call<'_, S>) -> Reply<Infallible> {
        let allow = Allow(call.hit.allow);
        let options = call.head.method == Method::Options;
        let all = options && call.head.path == b"*";
        let (mut draft, _) = call.split("");
        let response = Response { draft: &mut draft };
        match allow {
            Allow(0) if all => response.status(Status::NO_CONTENT).empty().early(),
            Allow(0) => response.refuse(Status::NOT_FOUND).early(),
            _ if options => response.status(Status::NO_CONTENT).header("Allow", allow).empty().early(),
            _ => response.header("Allow", allow).refuse(Status::METHOD_NOT_ALLOWED).early(),
        }
    }

    fn advance(
        &mut self,
        body: &mut Infallible,
        _: Option<S::Message>,
        _: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str)) {
        match *body {}
    }
}

/// Methods as the `Allow` field lists them.
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

/// One route, in front of others.
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
    fn find(&self, wanted: &Wanted<'_>, hit: &mut Hit) {
        if self.pattern.matches(wanted.path, &wanted.key) {
            hit.take(wanted, self.method, self.pattern.rank, R::COUNT);
            if hit.rank == Hit::BEST {
                return;
            }
        }
        self.next.find(wanted, hit);
    }

    fn has(&self, method: Method, pattern: &str) -> bool {
        (self.method == method && self.pattern.text == pattern) || self.next.has(method, pattern)
    }

    #[inline(always)]
    fn call(&mut self, index: u16, call: &mut Call<'_, S>) -> Reply<Self::Body> {
        if index != R::COUNT {
            return self.next.call(index, call).map(Either::Right);
        }
        let (mut draft, request) = call.split(self.pattern.text);
        (self.handler)(request, Response { draft: &mut draft }).map(Either::Left)
    }

    fn advance(
        &mut self,
        body: &mut Self::Body,
        message: Option<S::Message>,
        io: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str)) {
        match body {
            Either::Left(exchange) => (drive(exchange, message, io), (self.method, self.pattern.text)),
            Either::Right(body) => self.next.advance(body, message, io),
        }
    }
}

/// Lets an exchange go on until it has used up what there is.
fn drive<S: State, B: Exchange<S>>(
    exchange: &mut B,
    message: Option<S::Message>,
    io: &mut Transfer<'_, S>,
) -> Flow {
    let mut flow = match message {
        Some(message) => exchange.message(message, io),
        None => Flow::More,
    };
    while flow == Flow::More {
        let before = *io.link.at;
        flow = exchange.advance(io);
        if *io.link.at == before {
            break;
        }
    }
    flow
}

/// What answers when no route has the path.
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
    fn find(&self, wanted: &Wanted<'_>, hit: &mut Hit) {
        self.next.find(wanted, hit);
        if hit.index == Hit::MISS {
            (hit.index, hit.base) = (wanted.first + R::COUNT, wanted.base);
        }
    }

    fn has(&self, method: Method, pattern: &str) -> bool {
        self.next.has(method, pattern)
    }

    #[inline(always)]
    fn call(&mut self, index: u16, call: &mut Call<'_, S>) -> Reply<Self::Body> {
        if index != R::COUNT {
            return self.next.call(index, call).map(Either::Right);
        }
        let (mut draft, request) = call.split("/{*path}");
        (self.handler)(request, Response { draft: &mut draft }).map(Either::Left)
    }

    fn advance(
        &mut self,
        body: &mut Self::Body,
        message: Option<S::Message>,
        io: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str)) {
        match body {
            Either::Left(exchange) => (drive(exchange, message, io), (Method::Get, "fallback")),
            Either::Right(body) => self.next.advance(body, message, io),
        }
    }
}

/// A group of routes in front of others, below a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Join<A, R> {
    prefix: &'static str,
    group: A,
    next: R,
}

impl<A, R> Join<A, R> {
    pub(crate) const fn new(prefix: &'static str, group: A, next: R) -> Self {
        Self { prefix, group, next }
    }
}

impl<S: State, A: Routes<S>, R: Routes<S>> Routes<S> for Join<A, R> {
    type Body = Either<A::Body, R::Body>;
    const COUNT: u16 = A::COUNT + R::COUNT;

    #[inline(always)]
    fn find(&self, wanted: &Wanted<'_>, hit: &mut Hit) {
        self.next.find(wanted, hit);
        if hit.rank == Hit::BEST {
            return;
        }
        let first = wanted.first + R::COUNT;
        if self.prefix.is_empty() {
            return self.group.find(&Wanted { first, ..*wanted }, hit);
        }
        match wanted.path.strip_prefix(self.prefix.as_bytes()) {
            Some(path @ [b'/', ..]) => {
                let base = wanted.base + self.prefix.len();
                self.group
                    .find(&Wanted { method: wanted.method, path, key: Key::new(path), base, first }, hit);
            }
            // The prefix itself is the group's "/".
            Some([]) => {
                let path = b"/";
                let base = wanted.base + self.prefix.len();
                self.group
                    .find(&Wanted { method: wanted.method, path, key: Key::new(path), base, first }, hit);
            }
            _ => {}
        }
    }

    fn has(&self, method: Method, pattern: &str) -> bool {
        let inside = pattern.strip_prefix(self.prefix).is_some_and(|inside| self.group.has(method, inside));
        inside || self.next.has(method, pattern)
    }

    #[inline(always)]
    fn call(&mut self, index: u16, call: &mut Call<'_, S>) -> Reply<Self::Body> {
        match index.checked_sub(R::COUNT) {
            Some(index) if index < A::COUNT => self.group.call(index, call).map(Either::Left),
            _ => self.next.call(index, call).map(Either::Right),
        }
    }

    fn advance(
        &mut self,
        body: &mut Self::Body,
        message: Option<S::Message>,
        io: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str)) {
        match body {
            Either::Left(body) => self.group.advance(body, message, io),
            Either::Right(body) => self.next.advance(body, message, io),
        }
    }
}

/// A chain with middleware around it.
#[derive(Clone, Copy, Debug)]
pub struct Wrap<M, R> {
    middleware: M,
    inner: R,
}

impl<M, R> Wrap<M, R> {
    pub(crate) const fn new(middleware: M, inner: R) -> Self {
        Self { middleware, inner }
    }
}

impl<S: State, M: Middleware<S>, R: Routes<S>> Routes<S> for Wrap<M, R> {
    type Body = R::Body;
    const COUNT: u16 = R::COUNT;

    #[inline(always)]
    fn find(&self, wanted: &Wanted<'_>, hit: &mut Hit) {
        self.inner.find(wanted, hit);
    }

    fn has(&self, method: Method, pattern: &str) -> bool {
        self.inner.has(method, pattern)
    }

    fn call(&mut self, index: u16, call: &mut Call<'_, S>) -> Reply<Self::Body> {
        let (mut draft, mut request) = call.split("/{*path}");
        let reply = match self.middleware.before(&mut request, Response { draft: &mut draft }) {
            Err(reply) => reply.early(),
            Ok(Response { draft }) => {
                call.plan = draft.plan;
                let hook = AsHook(&self.middleware, PhantomData::<fn(S)>);
                let hook = Hook { middleware: &hook, outer: call.hooks };
                let Call { head, connected, plan, hit, .. } = *call;
                let (state, output, desk) = (&mut *call.state, &mut *call.output, &mut *call.desk);
                let hooks = Some(&hook);
                let mut inner = Call { head, connected, state, output, desk, hooks, plan, hit };
                self.inner.call(index, &mut inner)
            }
        };
        if reply.outgoing != Outgoing::Deferred {
            let outcome = call.outcome(&reply);
            self.middleware.after(call.state, &outcome);
        }
        reply
    }

    fn advance(
        &mut self,
        body: &mut Self::Body,
        message: Option<S::Message>,
        io: &mut Transfer<'_, S>,
    ) -> (Flow, (Method, &'static str)) {
        let deferred = *io.link.outgoing == Outgoing::Deferred;
        let outer = io.tools.hooks;
        let (flow, (method, pattern)) = {
            let hook = AsHook(&self.middleware, PhantomData::<fn(S)>);
            let hook = Hook { middleware: &hook, outer };
            self.inner.advance(body, message, &mut io.within(&hook))
        };
        if let (true, Some((status, length))) = (deferred, io.link.found.answered) {
            let Connected { peer, token, .. } = *io.tools.connected;
            let outcome = Outcome { method, target: pattern.as_bytes(), status, length, peer, token };
            self.middleware.after(io.state, &outcome);
        }
        (flow, (method, pattern))
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
