//! Helpers for the tests of several modules.

extern crate std;

/// A small, reproducible random number generator: xorshift with a multiplied output.
pub(crate) struct Random(u64);

impl Random {
    /// Returns the seed of this run: the value of `LIGHTCONE_SEED`, otherwise always the same.
    pub(crate) fn seed() -> u64 {
        std::env::var("LIGHTCONE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `n`, or 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n.max(1)).unwrap();
        usize::try_from((self.next() >> 33) % n).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
