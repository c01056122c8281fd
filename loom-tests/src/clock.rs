//! A clock for the workers, which always returns the same time.

/// Replaces the clock of `lightcone_unix`.
pub struct Clock;

#[allow(clippy::new_without_default, reason = "like the clock that it replaces")]
impl Clock {
    pub const fn new() -> Self {
        Self
    }

    pub const fn now_ms() -> u64 {
        1
    }

    pub const fn unix_seconds(&mut self, _: u64) -> u64 {
        1
    }
}
