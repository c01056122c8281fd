//! A log around a chain.

use core::time::Duration;

use lightcone_core::Instant;

use super::lookup::{BestMatch, Lookup, RouteMatch};
use super::{Call, Cause, Report, ReportContext, RouteEntry, Routes};
use crate::exchange::Flow;
use crate::method::Method;
use crate::middleware::{Hook, Log, Outcome};
use crate::parse::chunked::Count;
use crate::parse::head::Head;
use crate::path::Prefix;
use crate::request::State;
use crate::respond::response::Reply;
use crate::respond::writer::ResponseBody;
use crate::status::Status;
use crate::transfer::Transfer;

/// A chain with a log around it.
#[derive(Clone, Copy, Debug)]
pub struct Logged<L, R> {
    log: L,
    inner: R,
}

impl<L, R> Logged<L, R> {
    pub(crate) const fn new(log: L, inner: R) -> Self {
        Self { log, inner }
    }
}

/// An exchange, and what is kept of its request for the log.
#[derive(Clone, Copy, Debug)]
pub struct Traced<B> {
    exchange: B,
    record: Record,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    target: [u8; Outcome::TARGET_MAX],
    target_length: u8,
    method: Method,
    /// `None` until the request is answered.
    status: Option<Status>,
    /// Bytes of the response's body that were written.
    written: Count,
    /// When the head was complete: the low half of its milliseconds.
    began: [u8; 4],
}

impl Record {
    fn new(head: &Head<'_>, status: Option<Status>, now: Instant) -> Self {
        let mut target = [0; Outcome::TARGET_MAX];
        let mut target_length = 0;
        for (place, byte) in target.iter_mut().zip(head.target()) {
            *place = *byte;
            target_length += 1;
        }
        let (method, written, began) = (head.method, Count::new(0), low_half(now).to_le_bytes());
        Self { target, target_length, method, status, written, began }
    }

    fn target(&self) -> &[u8] {
        self.target.split_at(usize::from(self.target_length)).0
    }

    fn duration(&self, now: Instant) -> Duration {
        Duration::from_millis(low_half(now).wrapping_sub(u32::from_le_bytes(self.began)).into())
    }
}

/// Returns the low half of a time's milliseconds. The difference of two of them is right for spans of up to 49 days.
#[expect(clippy::cast_possible_truncation, reason = "the truncation is the purpose")]
const fn low_half(time: Instant) -> u32 {
    time.as_millis() as u32
}

impl<S: State, L: Log<S>, R: Routes<S>> Routes<S> for Logged<L, R> {
    type Body = Traced<R::Body>;
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
        let reply = self.inner.call(found, call.reborrow());
        if !reply.goes_on() {
            let outcome = call.outcome(&reply);
            self.log.ended(call.state, &outcome);
        }
        let status = (reply.outgoing() != ResponseBody::Deferred).then_some(reply.status());
        let Call { head, connected, .. } = call;
        reply.map(|exchange| Traced { exchange, record: Record::new(head, status, connected.now) })
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        let before = io.link.found.written;
        let flow = self.inner.advance(&mut body.exchange, cause, io);
        let written = body.record.written.get() + (io.link.found.written - before);
        body.record.written = Count::new(written);
        flow
    }

    fn hooked(
        &self,
        body: Option<&Self::Body>,
        outer: Option<&Hook<'_>>,
        write: &mut dyn FnMut(Option<&Hook<'_>>),
    ) {
        self.inner.hooked(body.map(|body| &body.exchange), outer, write);
    }

    const WATCHED: bool = true;

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
        // Without an exchange, the request was refused before it had a route: there is no record to complete it from.
        let Some(Traced { exchange, record }) = body else {
            self.inner.report(None, news, outcome, scene);
            if news.ends() {
                self.log.ended(scene.state, outcome);
            }
            return;
        };
        if news != Report::Ended {
            record.status = Some(outcome.status);
        }
        if matches!(news, Report::Answered | Report::Both) {
            // The length of a response that is complete; for a streamed one, `advance` counts what is written.
            record.written = outcome.length.map_or(record.written, Count::new);
        }
        let record = &*record;
        outcome.method = Some(record.method);
        outcome.target = record.target();
        outcome.duration = Some(record.duration(scene.now));
        if news == Report::Ended {
            // The status was reported earlier; `outcome` has only a placeholder.
            outcome.status = record.status.unwrap_or(outcome.status);
            outcome.length = Some(record.written.get());
        }
        self.inner.report(Some(exchange), news, outcome, scene);
        if news.ends() {
            self.log.ended(scene.state, outcome);
        }
    }
}
