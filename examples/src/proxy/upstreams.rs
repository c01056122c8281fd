//! Which upstream gets a request: balancing, and which of them are left out.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use lightcone::{Address, Backoff, Instant};

/// After this many failures in a row, an upstream is left out.
pub const FAILURES_MAX: u32 = 3;
/// For how long an upstream is left out at first, and at most.
pub const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long the first request to an upstream that was left out may take before another one is sent to it.
const TRIAL: Duration = Duration::from_secs(1);

/// How requests are distributed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balance {
    /// The upstreams take turns.
    #[default]
    RoundRobin,
    /// The upstream with the fewest requests in progress; those that have equally many take turns.
    LeastLoaded,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
        })
    }
}

impl FromStr for Balance {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        let all = [Self::RoundRobin, Self::LeastLoaded];
        all.into_iter()
            .find(|balance| balance.to_string() == name)
            .ok_or("allowed: round-robin, least-loaded")
    }
}

/// One upstream, as one poller sees it.
#[derive(Debug)]
struct Upstream {
    address: Address,
    /// Requests in progress.
    active: usize,
    /// Requests that have failed since the last success.
    failures: u32,
    /// Checks that have failed since the last success.
    failed_checks: u32,
    /// Until when it is left out.
    rests_until: Option<Instant>,
    /// Whether a request is finding out whether it works again.
    tried: bool,
    backoff: Backoff,
}

impl Upstream {
    fn works(&self, now: Instant) -> bool {
        self.failed_checks < FAILURES_MAX && self.rests_until.is_none_or(|until| until <= now)
    }
}

/// The upstreams of a poller. Each poller finds out by itself which of them work.
#[derive(Debug)]
pub struct Upstreams {
    all: Vec<Upstream>,
    balance: Balance,
    /// The upstream whose turn is next.
    next: usize,
}

impl Upstreams {
    /// Creates the upstreams with these addresses. Pollers with different seeds do not try one again at the same time.
    #[must_use]
    pub fn new(addresses: &[Address], balance: Balance, seed: u64) -> Self {
        let upstream = |address: &Address| {
            let backoff = Backoff::new(REST.0, REST.1, seed);
            Upstream {
                address: *address,
                active: 0,
                failures: 0,
                failed_checks: 0,
                rests_until: None,
                tried: false,
                backoff,
            }
        };
        Self { all: addresses.iter().map(upstream).collect(), balance, next: 0 }
    }

    /// Returns the address of an upstream.
    ///
    /// # Panics
    ///
    /// If there is no upstream with this index, as for the other methods.
    #[must_use]
    pub fn address(&self, index: usize) -> Address {
        let Some(upstream) = self.all.get(index) else { unreachable!("an upstream has this index") };
        upstream.address
    }

    /// Returns how many requests an upstream has in progress, including those that wait for a connection.
    #[must_use]
    pub fn active(&self, index: usize) -> usize {
        self.all.get(index).map_or(0, |upstream| upstream.active)
    }

    fn at(&mut self, index: usize) -> &mut Upstream {
        let Some(upstream) = self.all.get_mut(index) else { unreachable!("an upstream has this index") };
        upstream
    }

    /// Chooses an upstream for a request and counts the request as in progress: another one than `not`, if possible.
    /// `None` if all of them are left out.
    pub fn choose(&mut self, now: Instant, not: Option<usize>) -> Option<usize> {
        let (count, next, balance) = (self.all.len(), self.next, self.balance);
        let works = self.all.iter_mut().enumerate().filter(|(_, upstream)| upstream.works(now));
        let (chosen, upstream) = works.min_by_key(|(index, upstream)| {
            let load = if balance == Balance::LeastLoaded { upstream.active } else { 0 };
            (Some(*index) == not, load, (index + count - next) % count)
        })?;
        self.next = (chosen + 1) % count;
        upstream.active += 1;
        // Of an upstream that was left out, one request finds out whether it works again.
        upstream.tried = upstream.rests_until.is_some();
        upstream.rests_until = upstream.rests_until.map(|_| now + TRIAL);
        Some(chosen)
    }

    /// Counts a request as over.
    pub fn release(&mut self, index: usize) {
        self.at(index).active -= 1;
    }

    /// Notes that a request has succeeded: the upstream is not left out any longer for requests that have failed.
    pub fn succeeded(&mut self, index: usize) {
        let upstream = self.at(index);
        (upstream.failures, upstream.rests_until, upstream.tried) = (0, None, false);
        upstream.backoff.reset();
    }

    /// Notes that a request has failed: after [`FAILURES_MAX`] in a row, the upstream is left out, for longer each time.
    /// The failures of requests that were in progress then do not count again.
    pub fn failed(&mut self, index: usize, now: Instant) {
        let upstream = self.at(index);
        if !upstream.tried && upstream.rests_until.is_some_and(|until| until > now) {
            return;
        }
        upstream.failures = upstream.failures.saturating_add(1);
        if upstream.failures >= FAILURES_MAX {
            (upstream.rests_until, upstream.tried) = (Some(now + upstream.backoff.delay()), false);
        }
    }

    /// Notes the result of a check: after [`FAILURES_MAX`] failures in a row, the upstream is left out until a check
    /// succeeds, whatever its requests come to.
    pub fn checked(&mut self, index: usize, is_healthy: bool) {
        let upstream = self.at(index);
        upstream.failed_checks = if is_healthy { 0 } else { upstream.failed_checks.saturating_add(1) };
        if is_healthy {
            self.succeeded(index);
        }
    }

    /// Returns after how many seconds an upstream is tried again, at least 1, for `Retry-After`.
    #[must_use]
    pub fn retry_after(&self, now: Instant) -> u64 {
        let until = self.all.iter().filter_map(|upstream| upstream.rests_until).min().unwrap_or(now);
        until.as_millis().saturating_sub(now.as_millis()).div_ceil(1_000).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn upstreams(count: u8, balance: Balance) -> Upstreams {
        let addresses: Vec<_> = (0..count).map(|n| Address::Inet(([10, 0, 0, n], 80).into())).collect();
        Upstreams::new(&addresses, balance, 7)
    }

    #[test]
    fn they_take_turns() {
        let mut all = upstreams(3, Balance::RoundRobin);
        let chosen: Vec<_> = (0..7).map(|_| all.choose(at(0), None).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(all.choose(at(0), Some(1)), Some(2), "a retry goes elsewhere");
        assert_eq!(upstreams(1, Balance::RoundRobin).choose(at(0), Some(0)), Some(0), "there is no other");
    }

    #[test]
    fn the_least_loaded_is_chosen() {
        let mut all = upstreams(3, Balance::LeastLoaded);
        let chosen: Vec<_> = (0..6).map(|_| all.choose(at(0), None).unwrap()).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
        all.release(1);
        assert_eq!(all.choose(at(0), None), Some(1));
        all.release(0);
        all.release(0);
        let chosen: Vec<_> = (0..2).map(|_| all.choose(at(0), None).unwrap()).collect();
        assert_eq!(chosen, [0, 0]);
    }

    #[test]
    fn one_that_fails_is_left_out_and_tried_again_by_one_request() {
        let mut all = upstreams(2, Balance::RoundRobin);
        for _ in 1..FAILURES_MAX {
            all.failed(0, at(0));
        }
        assert_eq!(all.choose(at(0), Some(1)), Some(0), "it has not failed often enough");
        all.failed(0, at(0));
        assert!((0..4).all(|_| all.choose(at(0), None) == Some(1)));
        let tried: Vec<_> = (0..4).map(|_| all.choose(at(1_000), Some(1)).unwrap()).collect();
        assert_eq!(tried, [0, 1, 1, 1], "one request, after at most a second");
        all.failed(0, at(1_500));
        assert!((0..4).all(|_| all.choose(at(2_400), None) == Some(1)), "for longer the second time");
        all.succeeded(0);
        assert!((0..4).any(|_| all.choose(at(1_500), None) == Some(0)), "it works again");
    }

    #[test]
    fn one_whose_checks_fail_is_left_out_until_one_succeeds() {
        let mut all = upstreams(2, Balance::RoundRobin);
        for failures in 0..FAILURES_MAX {
            assert_eq!(all.choose(at(0), Some(1)), Some(0), "after {failures}");
            all.checked(0, false);
            all.succeeded(0); // a request
        }
        assert!((0..4).all(|_| all.choose(at(1_000_000), None) == Some(1)));
        all.checked(0, true);
        assert_eq!(all.choose(at(1_000_000), Some(1)), Some(0));
    }

    #[test]
    fn none_is_left() {
        let mut all = upstreams(1, Balance::RoundRobin);
        for _ in 0..FAILURES_MAX {
            all.failed(0, at(0));
        }
        assert_eq!((all.choose(at(0), None), all.retry_after(at(0))), (None, 1));
        for seconds in [1, 3, 7, 15] {
            all.failed(0, at(seconds * 1_000));
        }
        assert!(all.retry_after(at(15_000)) > 1);
        for seconds in (60..3_600).step_by(60) {
            all.failed(0, at(seconds * 1_000));
            assert!((15..=REST.1.as_secs()).contains(&all.retry_after(at(seconds * 1_000))));
        }
    }
}
