//! The first pass of a request over the chain of routes, which finds its route.

use super::Routes;
use crate::method::Method;
use crate::parse::head::Head;
use crate::path::{Key, Pattern};
use crate::request::State;
use crate::status::Status;

/// The method and path to find a route for.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'p> {
    pub(super) method: Method,
    pub(super) path: &'p [u8],
    pub(super) key: Key,
    /// Bytes of the whole path before `path`: those of the group's prefixes.
    pub(super) base: usize,
    /// Index of the first route of the group that is searched.
    pub(super) first: u16,
    /// Segments of the whole path before `path`.
    pub(super) depth: u8,
}

impl<'p> Lookup<'p> {
    #[inline(always)]
    pub(crate) fn new(method: Method, path: &'p [u8]) -> Self {
        Self { method, path, key: Key::new(path), base: 0, first: 0, depth: 0 }
    }
}

/// The result of the search for a route.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch {
    pub(super) index: u16,
    /// In the lower bits, the methods of all routes that match the path, which are used only if there is no route for
    /// this method, or the status with which the request is refused. Then a bit for which of them it is. In the upper
    /// bits, where the part of the path starts that the route's pattern matches. One word for all, since it is 0 for
    /// most requests.
    pub(super) detail: usize,
}

impl RouteMatch {
    /// The bit of `detail` for a refusal.
    const REFUSED: usize = 1 << u16::BITS;
    const BASE_AT: u32 = u16::BITS + 1;
    /// The index of nothing.
    pub(super) const MISS: u16 = u16::MAX;
    pub(super) const NONE: Self = Self::new(Self::MISS, 0, 0);

    #[inline(always)]
    pub(super) const fn new(index: u16, base: usize, allow: u16) -> Self {
        Self { index, detail: base << Self::BASE_AT | allow as usize }
    }

    /// Returns whether nothing was found.
    #[inline(always)]
    pub(crate) const fn is_miss(self) -> bool {
        self.index == Self::MISS
    }

    #[inline(always)]
    pub(super) const fn base(self) -> usize {
        self.detail >> Self::BASE_AT
    }

    /// Returns what takes the place of the handler that was found: a refusal with this status, with the same middleware
    /// around it.
    pub(crate) const fn refusing(self, status: Status) -> Self {
        let found = Self::new(self.index, self.base(), status.code());
        Self { detail: found.detail | Self::REFUSED, ..found }
    }

    /// Returns whether the request is refused in place of what was found.
    #[inline(always)]
    pub(super) const fn is_refused(self) -> bool {
        self.detail & Self::REFUSED != 0
    }

    /// Returns the methods of all routes that match the path, or the status of a refusal.
    #[expect(clippy::cast_possible_truncation, reason = "only the lower bits are needed")]
    pub(super) const fn low_half(self) -> u16 {
        self.detail as u16
    }
}

/// The best route found so far.
#[derive(Clone, Copy, Debug)]
pub struct BestMatch {
    pub(super) index: u16,
    pub(super) base: usize,
    pub(super) allow: u16,
    /// How specific the route is, and whether it is for exactly this method (not a `GET` route for `HEAD`). Rank 0 is
    /// that of a fallback, or of no route.
    pub(super) rank: (u64, bool),
    /// The end of the chain that answers if there is no route.
    pub(super) end: BestEnd,
}

/// The best end of a chain found so far: that of the group with the most specific route for another method or, if no
/// route matches, with the longest prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct BestEnd {
    index: u16,
    /// How specific the route is, and the bytes of the path before the part that the group matches.
    rank: (u64, usize),
}

impl BestMatch {
    /// Takes a route whose pattern matches, if it is for the method and more specific than the best so far. The
    /// prefixes of its groups count, so that routes of different groups compare as if they were not grouped.
    pub(super) fn take(&mut self, lookup: &Lookup<'_>, method: Method, pattern: &Pattern, index: u16) {
        let rank = pattern.rank_below(lookup.depth);
        self.allow |= method.bit();
        let same = lookup.method == method;
        let suits = same || lookup.method == Method::Head && method == Method::Get;
        if !suits {
            self.take_end(lookup, rank);
        } else if (rank, same) > self.rank {
            self.rank = (rank, same);
            (self.index, self.base) = (lookup.first + index, lookup.base);
        }
    }

    /// Takes the end of the chain that is searched, if it is better than the best so far. `rank` is that of a route in
    /// the chain for another method; 0 if there is none.
    pub(super) fn take_end(&mut self, lookup: &Lookup<'_>, rank: u64) {
        let rank = (rank, lookup.base);
        if rank > self.end.rank {
            self.end = BestEnd { index: lookup.first, rank };
        }
    }
}

/// Finds the most specific of all routes, after [`Routes::find_exact`] has found none.
#[inline(never)]
pub(crate) fn search<S: State, R: Routes<S>>(routes: &R, method: Method, path: &[u8]) -> RouteMatch {
    let end = BestEnd { index: 0, rank: (0, 0) }; // that of the server
    let mut hit = BestMatch { index: RouteMatch::MISS, base: 0, allow: 0, rank: (0, false), end };
    routes.find(&Lookup::new(method, path), &mut hit);
    // A fallback does not hide that the path has routes for other methods.
    if hit.index == RouteMatch::MISS || hit.rank.0 == 0 && hit.allow != 0 {
        let BestEnd { index, rank: (_, base) } = hit.end;
        return RouteMatch::new(index, base, hit.allow);
    }
    RouteMatch::new(hit.index, hit.base, hit.allow)
}

/// Finds the route of a head that is not the common case.
#[inline(never)]
pub(crate) fn find<S: State, R: Routes<S>>(routes: &R, head: &Head<'_>) -> RouteMatch {
    let exact = routes.find_exact(&Lookup::new(head.method, head.path));
    if exact.is_miss() { search(routes, head.method, head.path) } else { exact }
}
