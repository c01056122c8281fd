//! Growing delays between attempts.

use core::time::Duration;

use crate::time::millis_ceil;

/// Exponential back-off with jitter: the delays before the next attempts at something that has failed.
///
/// Each [`delay`](Self::delay) is random between half of a limit and that limit, which doubles from one delay to the
/// next, up to a maximum. The random half keeps clients that failed together from returning together. The delays depend
/// only on the arguments of [`new`](Self::new), so a test or a simulation repeats them.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 7);
/// for most in [100, 200, 400] {
///     let delay = backoff.delay().as_millis();
///     assert!((most / 2..=most).contains(&delay));
/// }
/// backoff.reset(); // an attempt has succeeded
/// assert!(backoff.delay().as_millis() <= 100);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Backoff {
    /// The limit of the first delay, of the next one, and of the longest, in milliseconds.
    first: u64,
    next: u64,
    most: u64,
    /// The state of the generator.
    random: u64,
}

impl Backoff {
    /// Creates a back-off whose first delay is at most `first`, and whose other delays are at most `most`.
    ///
    /// Both are rounded up to milliseconds. A `first` of zero counts as a millisecond, and a `most` below `first` as
    /// `first`. Clients that must not act in step need different seeds, such as a poller's number, the time or a serial
    /// number.
    #[must_use]
    pub const fn new(first: Duration, most: Duration, seed: u64) -> Self {
        let (first, most) = (millis_ceil(first), millis_ceil(most));
        let first = if first == 0 { 1 } else { first };
        let most = if most < first { first } else { most };
        Self { first, next: first, most, random: seed }
    }

    /// Returns the delay before the next attempt, in whole milliseconds and at least one.
    #[must_use]
    pub const fn delay(&mut self) -> Duration {
        let top = self.next;
        let double = top.saturating_mul(2);
        self.next = if double < self.most { double } else { self.most };
        let least = top.div_ceil(2);
        // the remainder favours low values, by less than one in 2^20 even for a maximum of hours
        Duration::from_millis(least + self.draw() % (top - least + 1))
    }

    /// Starts again from the first delay, after an attempt that has succeeded. The random part continues.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }

    /// Returns the next number of the generator `SplitMix64`.
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
