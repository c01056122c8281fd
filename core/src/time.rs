//! Points in time. The engine never reads a clock: the caller passes the time as an argument.

#![expect(clippy::cast_possible_truncation, reason = "a tick is the low half of an instant")]

use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point on a monotonic clock, in whole milliseconds since a start that the driver chooses.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Instant;
///
/// let start = Instant::from_millis(5);
/// assert_eq!(start + Duration::from_secs(1), Instant::from_millis(1_005));
/// assert_eq!(start - Instant::from_millis(9), Duration::ZERO); // saturates
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// Returns the instant `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the clock's start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the earlier of two times, of which either may be missing: `None` counts as never.
    ///
    /// ```
    /// use lightcone_core::Instant;
    ///
    /// let (one, two) = (Instant::from_millis(1), Instant::from_millis(2));
    /// assert_eq!(Instant::earlier(Some(two), Some(one)), Some(one));
    /// assert_eq!(Instant::earlier(None, Some(two)), Some(two));
    /// assert_eq!(Instant::earlier(None, None), None);
    /// ```
    #[must_use]
    #[inline]
    pub fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Returns the low half of the instant. Slots keep times as ticks, which cover 49 days and are compared by signed
    /// distance.
    pub(crate) const fn tick(self) -> u32 {
        self.0 as u32
    }

    /// Returns the instant nearest to `self` whose low half is `tick`.
    pub(crate) const fn near(self, tick: u32) -> Self {
        let distance = tick.wrapping_sub(self.tick()).cast_signed();
        Self(self.0.saturating_add_signed(distance as i64))
    }
}

/// Adds whole milliseconds, rounded up so that a deadline is never early. Saturates at the last instant.
impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis_ceil(span)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

/// Returns the span from the earlier to the later point, or zero if `self` is the earlier one.
impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Returns a span in milliseconds, rounded up.
pub(crate) const fn millis_ceil(span: Duration) -> u64 {
    let up = (span.subsec_nanos().div_ceil(1_000_000)) as u64;
    span.as_secs().saturating_mul(1_000).saturating_add(up)
}

/// Returns whether tick `a` is at or before tick `b`, provided that they are less than 24 days apart.
pub(crate) const fn at_or_before(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() >= 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_up() {
        assert_eq!(millis_ceil(Duration::from_nanos(1)), 1);
        assert_eq!(millis_ceil(Duration::from_millis(7)), 7);
        assert_eq!(millis_ceil(Duration::from_micros(7_001)), 8);
        assert_eq!(millis_ceil(Duration::MAX), u64::MAX);
    }

    #[test]
    fn near_finds_the_point_on_both_sides_of_the_wrap() {
        let now = Instant::from_millis((5 << 32) + 10);
        assert_eq!(now.near(20), Instant::from_millis((5 << 32) + 20));
        assert_eq!(now.near(u32::MAX), Instant::from_millis((5 << 32) - 1));
        assert_eq!(now.near(10), now);
    }

    #[test]
    fn order_survives_the_wrap() {
        assert!(at_or_before(u32::MAX, 3));
        assert!(!at_or_before(3, u32::MAX));
        assert!(at_or_before(3, 3));
    }
}
