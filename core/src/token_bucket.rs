//! Limits of a rate.

use core::time::Duration;

use crate::time::Instant;

/// A rate that a [`TokenBucket`] allows: a number of events in a span, and how many of them at once.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Rate;
///
/// const CONNECTS: Rate = Rate::new(100, Duration::from_secs(1)).burst(20);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rate {
    /// The time in which one event is earned, in nanoseconds and rounded up.
    interval: u64,
    /// The time in which an empty bucket fills, less one interval.
    slack: u64,
}

impl Rate {
    /// Creates a rate of `events` in each `per`, all of which may come at once. Numbers of 0 count as 1, and a span of
    /// zero as a nanosecond.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "limited to the largest number before")]
    pub const fn new(events: u32, per: Duration) -> Self {
        let events = if events == 0 { 1 } else { events };
        let nanos = per.as_nanos().div_ceil(events as u128);
        // 146 years, so that sums do not overflow
        let most = u64::MAX as u128 / 4;
        let nanos = if nanos > most { most } else { nanos };
        let interval = if nanos == 0 { 1 } else { nanos as u64 };
        Self { interval, slack: 0 }.burst(events)
    }

    /// Returns the same rate with at most `events` at once. 0 counts as 1.
    #[must_use]
    pub const fn burst(self, events: u32) -> Self {
        let slack = self.interval.saturating_mul(events.saturating_sub(1) as u64);
        let most = u64::MAX / 4;
        Self { slack: if slack > most { most } else { slack }, ..self }
    }
}

/// A token bucket: whether an event is within a [`Rate`], in 8 bytes.
///
/// A new bucket is full. Each event takes one token, and they come back one by one at the rate. Refused events take
/// none. The time is an argument, so a test or a simulation repeats the decisions.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::{Instant, Rate, TokenBucket};
///
/// const RATE: Rate = Rate::new(10, Duration::from_secs(1)).burst(2); // one in 100 ms
/// let mut bucket = TokenBucket::new();
/// let at = Instant::from_millis;
/// assert!(bucket.take(&RATE, at(0)) && bucket.take(&RATE, at(0)));
/// assert!(!bucket.take(&RATE, at(99)));
/// assert_eq!(bucket.wait(&RATE, at(99)), Duration::from_millis(1));
/// assert!(bucket.take(&RATE, at(100)));
/// assert!(!bucket.take(&RATE, at(100)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TokenBucket {
    /// When the bucket is full again, in nanoseconds of the clock.
    full_at: u64,
}

/// Returns the nanoseconds of an instant; those after 584 years are the last one.
const fn nanos(at: Instant) -> u64 {
    at.as_millis().saturating_mul(1_000_000)
}

impl TokenBucket {
    /// Creates a full bucket.
    #[must_use]
    pub const fn new() -> Self {
        Self { full_at: 0 }
    }

    /// Takes a token, and returns whether there was one.
    #[must_use]
    pub const fn take(&mut self, rate: &Rate, now: Instant) -> bool {
        let now = nanos(now);
        let from = if self.full_at > now { self.full_at } else { now };
        if from - now > rate.slack {
            return false;
        }
        self.full_at = from.saturating_add(rate.interval);
        true
    }

    /// Returns the time until a token is there, rounded up to milliseconds; zero if there is one.
    #[must_use]
    pub const fn wait(&self, rate: &Rate, now: Instant) -> Duration {
        let lacks = self.full_at.saturating_sub(nanos(now)).saturating_sub(rate.slack);
        Duration::from_millis(lacks.div_ceil(1_000_000))
    }

    /// Returns whether the bucket is full. A full bucket is the same as a new one, and can be forgotten.
    #[must_use]
    pub const fn is_full(&self, now: Instant) -> bool {
        self.full_at <= nanos(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Takes as many tokens as there are.
    fn drain(bucket: &mut TokenBucket, rate: &Rate, now: Instant) -> u32 {
        (0..10_000).take_while(|_| bucket.take(rate, now)).count().try_into().unwrap()
    }

    #[test]
    fn a_full_bucket_has_a_burst_and_no_more() {
        for (events, burst) in [(1, 1), (7, 1), (7, 7), (1_000, 30), (3, 90)] {
            let rate = Rate::new(events, Duration::from_secs(1)).burst(burst);
            assert_eq!(drain(&mut TokenBucket::new(), &rate, at(123_456)), burst);
        }
    }

    #[test]
    fn the_rate_holds_over_a_long_time() {
        let rate = Rate::new(7, Duration::from_secs(1)).burst(3);
        let mut bucket = TokenBucket::new();
        let taken: u32 = (0..100_000).map(|now| drain(&mut bucket, &rate, at(now))).sum();
        // 100 s at 7 a second on top of the burst; each interval is rounded up to a millisecond at the most
        assert!((701..=703).contains(&taken), "{taken} tokens");
    }

    #[test]
    fn the_wait_ends_when_a_token_is_there() {
        let rate = Rate::new(3, Duration::from_secs(1)).burst(2);
        let mut bucket = TokenBucket::new();
        let mut now = 5_000;
        for _ in 0..20 {
            drain(&mut bucket, &rate, at(now));
            let wait = u64::try_from(bucket.wait(&rate, at(now)).as_millis()).unwrap();
            assert!(wait > 0 && !bucket.take(&rate, at(now + wait - 1)));
            now += wait;
            assert!(bucket.wait(&rate, at(now)).is_zero() && bucket.take(&rate, at(now)));
        }
    }

    #[test]
    fn a_bucket_fills_up_to_its_burst() {
        let rate = Rate::new(10, Duration::from_secs(1)).burst(4);
        let mut bucket = TokenBucket::new();
        assert_eq!(drain(&mut bucket, &rate, at(0)), 4);
        assert!(!bucket.is_full(at(399)) && bucket.is_full(at(400)));
        assert_eq!(drain(&mut bucket, &rate, at(60_000)), 4);
    }

    #[test]
    fn extreme_arguments_neither_overflow_nor_divide_by_zero() {
        for (events, per, burst) in [
            (0, Duration::ZERO, 0),
            (0, Duration::MAX, u32::MAX),
            (u32::MAX, Duration::ZERO, u32::MAX),
            (1, Duration::MAX, 1),
        ] {
            let rate = Rate::new(events, per).burst(burst);
            let mut bucket = TokenBucket::new();
            for now in [at(0), at(1), at(u64::MAX), at(0)] {
                let _ = bucket.take(&rate, now);
                let _ = bucket.wait(&rate, now);
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_no_token_away_for_ever() {
        let rate = Rate::new(1, Duration::from_secs(1));
        let mut bucket = TokenBucket::new();
        assert!(bucket.take(&rate, at(10_000)));
        assert!(!bucket.take(&rate, at(0)));
        assert!(bucket.take(&rate, at(11_000)));
    }
}
