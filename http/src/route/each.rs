//! A chain with middleware around it that keeps a value of each request.

use core::marker::PhantomData;

use crate::exchange::Flow;
use crate::middleware::{HeadHook, Hook, Outcome, RequestMiddleware};
use crate::path::Prefix;
use crate::request::State;
use crate::respond::fields::Headers;
use crate::respond::response::{Reply, Response};
use crate::respond::writer::ResponseWriter;
use crate::status::Status;
use crate::transfer::Transfer;

use super::{BestMatch, Call, Cause, Lookup, Report, ReportContext, RouteEntry, RouteMatch, Routes};

/// A chain with [`RequestMiddleware`] around it.
#[derive(Clone, Copy, Debug)]
pub struct WrapEach<M, R> {
    middleware: M,
    inner: R,
}

impl<M, R> WrapEach<M, R> {
    pub(crate) const fn new(middleware: M, inner: R) -> Self {
        Self { middleware, inner }
    }
}

/// An exchange, and what the middleware keeps of its request.
#[derive(Clone, Copy, Debug)]
pub struct KeptBody<K, B> {
    exchange: B,
    kept: K,
}

/// [`RequestMiddleware::head`] for one request, without the type of the state.
struct KeptHook<'m, M, K, S>(&'m M, &'m K, PhantomData<fn(S)>);

impl<S: State, M: RequestMiddleware<S>> HeadHook for KeptHook<'_, M, M::Kept, S> {
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        self.0.head(self.1, status, headers);
    }
}

/// [`RequestMiddleware::head_of_unread`], without the type of the state.
struct UnreadHook<'m, M, S>(&'m M, PhantomData<fn(S)>);

impl<S: State, M: RequestMiddleware<S>> HeadHook for UnreadHook<'_, M, S> {
    fn head(&self, status: Status, headers: &mut Headers<'_>) {
        self.0.head_of_unread(status, headers);
    }
}

impl<S: State, M: RequestMiddleware<S>, R: Routes<S>> Routes<S> for WrapEach<M, R> {
    type Body = KeptBody<M::Kept, R::Body>;
    const COUNT: u16 = R::COUNT;

    #[inline(always)]
    fn find_exact(&self, lookup: &Lookup<'_>) -> RouteMatch {
        self.inner.find_exact(lookup)
    }

    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch) {
        self.inner.find(lookup, hit);
    }

    fn each(&self, prefix: &Prefix, see: &mut dyn FnMut(&RouteEntry<'_>)) {
        self.inner.each(prefix, see);
    }

    fn call(&mut self, found: RouteMatch, mut call: Call<'_, S>) -> Reply<Self::Body> {
        let (response, mut request) = call.reborrow().split("/{*path}", found.base());
        match self.middleware.before(&mut request, response) {
            Err(reply) => reply.into_any(),
            Ok((Response { writer: ResponseWriter { mode, .. } }, kept)) => {
                let hook = KeptHook(&self.middleware, &kept, PhantomData::<fn(S)>);
                let hook = Hook { middleware: &hook, outer: call.hooks };
                let inner = Call { hooks: Some(&hook), mode, ..call.reborrow() };
                self.inner.call(found, inner).map(|exchange| KeptBody { exchange, kept })
            }
        }
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        let hook = KeptHook(&self.middleware, &body.kept, PhantomData::<fn(S)>);
        let hook = Hook { middleware: &hook, outer: io.tools.hooks };
        self.inner.advance(&mut body.exchange, cause, &mut io.within(&hook))
    }

    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        if let Some(KeptBody { exchange, kept }) = body {
            let hook = KeptHook(&self.middleware, kept, PhantomData::<fn(S)>);
            self.inner.hooked(Some(exchange), Some(&Hook { middleware: &hook, outer }), write);
        } else {
            let hook = UnreadHook(&self.middleware, PhantomData::<fn(S)>);
            self.inner.hooked(None, Some(&Hook { middleware: &hook, outer }), write);
        }
    }

    const WATCHED: bool = R::WATCHED;

    fn pattern(&self, body: &Self::Body, to: &mut Prefix) {
        self.inner.pattern(&body.exchange, to);
    }

    fn report<'o>(
        &mut self,
        body: Option<&'o mut Self::Body>,
        news: Report,
        outcome: &mut Outcome<'o>,
        scene: &mut ReportContext<'_, S>,
    ) {
        self.inner.report(body.map(|body| &mut body.exchange), news, outcome, scene);
    }
}
