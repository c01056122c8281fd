//! A group of routes below a prefix.

use super::lookup::{BestMatch, Lookup, RouteMatch};
use super::{Call, Cause, Report, ReportContext, RouteEntry, Routes};
use crate::exchange::{Either, Flow};
use crate::middleware::{Hook, Outcome};
use crate::path::{Key, Prefix};
use crate::request::State;
use crate::respond::response::Reply;
use crate::transfer::Transfer;

/// A group of routes below a prefix, and the rest of the chain.
#[derive(Clone, Copy, Debug)]
pub struct Join<A, R> {
    prefix: &'static str,
    /// Segments of the prefix.
    depth: u8,
    group: A,
    next: R,
}

impl<A, R> Join<A, R> {
    /// Creates a group; `depth` is the number of segments of `prefix`.
    pub(crate) const fn new(prefix: &'static str, depth: u8, group: A, next: R) -> Self {
        Self { prefix, depth, group, next }
    }

    /// Returns what to find in the group, which has `first` routes after it in the chain; `None` if the path is not
    /// below the prefix.
    fn inside<'p>(&self, lookup: &Lookup<'p>, first: u16) -> Option<Lookup<'p>> {
        let first = lookup.first + first;
        if self.prefix.is_empty() {
            return Some(Lookup { first, ..*lookup });
        }
        let path = match lookup.path.strip_prefix(self.prefix.as_bytes()) {
            Some(path @ [b'/', ..]) => path,
            Some([]) => b"/", // the group's "/" matches the prefix itself
            Some(_) | None => return None,
        };
        let base = lookup.base + self.prefix.len();
        let depth = lookup.depth + self.depth;
        Some(Lookup { method: lookup.method, path, key: Key::new(path), base, first, depth })
    }
}

impl<S: State, A: Routes<S>, R: Routes<S>> Routes<S> for Join<A, R> {
    type Body = Either<A::Body, R::Body>;
    const COUNT: u16 = A::COUNT + R::COUNT;

    #[inline(always)]
    fn find_exact(&self, lookup: &Lookup<'_>) -> RouteMatch {
        match self.next.find_exact(lookup) {
            found if !found.is_miss() => found,
            _ => match self.inside(lookup, R::COUNT) {
                Some(inside) => self.group.find_exact(&inside),
                None => RouteMatch::NONE,
            },
        }
    }

    fn find(&self, lookup: &Lookup<'_>, hit: &mut BestMatch) {
        self.next.find(lookup, hit);
        if let Some(inside) = self.inside(lookup, R::COUNT) {
            self.group.find(&inside, hit);
        }
    }

    fn each(&self, prefix: &Prefix, see: &mut dyn FnMut(&RouteEntry<'_>)) {
        self.group.each(&prefix.with(self.prefix), see);
        self.next.each(prefix, see);
    }

    #[inline(always)]
    fn call(&mut self, found: RouteMatch, call: Call<'_, S>) -> Reply<Self::Body> {
        // The indices begin at the end of the chain, so the group's follow those after it.
        match found.index.checked_sub(R::COUNT) {
            Some(index) if index < A::COUNT => {
                self.group.call(RouteMatch { index, ..found }, call).map(Either::Left)
            }
            _ => self.next.call(found, call).map(Either::Right),
        }
    }

    fn advance(&mut self, body: &mut Self::Body, cause: Cause<S::Message>, io: &mut Transfer<'_, S>) -> Flow {
        match body {
            Either::Left(body) => self.group.advance(body, cause, io),
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
            Some(Either::Left(body)) => self.group.hooked(Some(body), outer, write),
            Some(Either::Right(body)) => self.next.hooked(Some(body), outer, write),
            None => self.next.hooked(None, outer, write),
        }
    }

    const WATCHED: bool = A::WATCHED || R::WATCHED;

    fn pattern(&self, body: &Self::Body, to: &mut Prefix) {
        match body {
            Either::Left(body) => {
                to.push(self.prefix);
                self.group.pattern(body, to);
            }
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
            Some(Either::Left(body)) => self.group.report(Some(body), news, outcome, scene),
            Some(Either::Right(body)) => self.next.report(Some(body), news, outcome, scene),
            None => self.next.report(None, news, outcome, scene),
        }
    }
}
