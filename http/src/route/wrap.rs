//! Middleware around a chain.

use core::marker::PhantomData;

use super::lookup::{BestMatch, Lookup, RouteMatch};
use super::{Call, Cause, Report, ReportContext, RouteEntry, Routes};
use crate::exchange::Flow;
use crate::middleware::{AsHook, Hook, Middleware, Outcome};
use crate::path::Prefix;
use crate::request::State;
use crate::respond::response::{Reply, Response};
use crate::respond::writer::{ResponseBody, ResponseWriter};
use crate::transfer::Transfer;

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
        let reply = match self.middleware.before(&mut request, response) {
            Err(reply) => reply.into_any(),
            Ok(Response { writer: ResponseWriter { mode, .. } }) => {
                let hook = AsHook(&self.middleware, PhantomData::<fn(S)>);
                let hook = Hook { middleware: &hook, outer: call.hooks };
                let inner = Call { hooks: Some(&hook), mode, ..call.reborrow() };
                self.inner.call(found, inner)
            }
        };
        // A deferred response has no status yet, and that of a head that is held back may still change: both are
        // reported later, by `report`.
        if reply.outgoing() != ResponseBody::Deferred && !call.output.is_holding() {
            let outcome = call.outcome(&reply);
            self.middleware.after(call.state, &outcome);
        }
        reply
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        let outer = io.tools.hooks;
        let hook = AsHook(&self.middleware, PhantomData::<fn(S)>);
        let hook = Hook { middleware: &hook, outer };
        self.inner.advance(body, cause, &mut io.within(&hook))
    }

    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        let hook = AsHook(&self.middleware, PhantomData::<fn(S)>);
        self.inner.hooked(body, Some(&Hook { middleware: &hook, outer }), write);
    }

    const WATCHED: bool = true;

    fn pattern(&self, body: &Self::Body, to: &mut Prefix) {
        self.inner.pattern(body, to);
    }

    fn report<'o>(
        &mut self,
        body: Option<&'o mut Self::Body>,
        news: Report,
        outcome: &mut Outcome<'o>,
        scene: &mut ReportContext<'_, S>,
    ) {
        self.inner.report(body, news, outcome, scene);
        if news != Report::Ended {
            self.middleware.after(scene.state, outcome);
        }
    }
}
