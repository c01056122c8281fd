//! The windows over which the rate of output is averaged, if output has a [minimum rate](crate::WriteRate).

#![expect(clippy::cast_possible_truncation, reason = "`Config::check` keeps a window within its type")]

use crate::config::WriteRate;
use crate::life::State;
use crate::slot::{ControlBlock, Flags};
use crate::storage::WINDOW_BYTES;
use crate::time::millis_ceil;

/// The windows of all sockets, kept apart from the slots: without a minimum rate there are none.
///
/// A window begins with a check, since only a check finds out what the system has not delivered. It runs while the
/// socket's `RATED` flag is set, which keeps the socket off the fast path, so that every send is counted. It ends when
/// it has its length, or when a check finds nothing queued.
pub(crate) struct RateWindows<'s> {
    windows: &'s mut [[u8; WINDOW_BYTES]],
    bytes: u32,
    /// The length of a window in ticks, plus one because `now` may be almost a tick old. 0 without a minimum rate.
    length: u32,
    /// The time from one check to the next, in ticks.
    look: u32,
}

/// The number of checks in a window.
const LOOKS: u32 = 8;

/// A check is late if more than this many times the time between checks has passed since the last one: nothing was sent
/// in the meantime.
const LATE: u32 = 3;

#[derive(Clone, Copy)]
struct Window {
    since: u32,
    /// What the system had not delivered at the beginning, plus what it was passed since. Saturates.
    passed: u32,
    /// When it was last checked.
    checked: u32,
}

impl<'s> RateWindows<'s> {
    pub(crate) fn new(windows: &'s mut [[u8; WINDOW_BYTES]], rate: Option<WriteRate>) -> Self {
        let (bytes, length) = rate.map_or((0, 0), |rate| (rate.bytes, millis_ceil(rate.per) as u32 + 1));
        Self { windows, bytes, length, look: length.div_ceil(LOOKS) }
    }

    /// Returns the time from one check to the next, or 0 without a minimum rate.
    pub(crate) const fn look(&self) -> u32 {
        self.look
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.length > 0
    }

    fn get(&self, index: u32) -> Option<Window> {
        let ([since, passed, checked], _) = self.windows.get(index as usize)?.as_chunks() else {
            return None;
        };
        let [since, passed, checked] = [since, passed, checked].map(|word| u32::from_ne_bytes(*word));
        Some(Window { since, passed, checked })
    }

    fn set(&mut self, index: u32, window: Window) {
        let Some(place) = self.windows.get_mut(index as usize) else { return };
        let words = [window.since, window.passed, window.checked];
        for (word, bytes) in words.iter().zip(place.as_chunks_mut().0) {
            *bytes = word.to_ne_bytes();
        }
    }

    /// Counts bytes that the system was passed while a window runs.
    #[cold]
    #[inline(never)]
    pub(crate) fn sent(&mut self, index: u32, n: usize) {
        if let Some(window) = self.get(index) {
            self.set(index, Window { passed: window.passed.saturating_add(saturated(n)), ..window });
        }
    }

    /// Checks a socket whose peer has output to take, given what the system has not delivered. Returns whether a window
    /// has ended in which the peer took too little.
    pub(crate) fn is_too_slow(
        &mut self,
        control: &mut ControlBlock,
        index: u32,
        undelivered: usize,
        now: u32,
    ) -> bool {
        let Some(window) = self.get(index) else { return false };
        let elapsed = now.wrapping_sub(window.since);
        // the system delivers a lingering socket's output regardless of the checks
        let late = now.wrapping_sub(window.checked) > LATE * self.look;
        let runs = control.flags.has(Flags::RATED) && (!late || control.state == State::Lingering);
        if runs && elapsed < self.length {
            self.set(index, Window { checked: now, ..window });
            return false;
        }
        let left = saturated(undelivered);
        control.flags.set(Flags::RATED);
        self.set(index, Window { since: now, passed: left, checked: now });
        let taken = u64::from(window.passed.saturating_sub(left)) * u64::from(self.length - 1);
        let needed = u64::from(self.bytes) * u64::from(elapsed.saturating_sub(1));
        runs && window.passed < u32::MAX && taken < needed
    }
}

fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Address, PackedAddress, UnixId};
    use core::time::Duration;

    /// The count of a window saturates before the largest rates are reached.
    #[test]
    fn a_count_that_is_full_is_fast_enough() {
        for (pieces, slow) in [(3, true), (4, false), (9, false)] {
            let mut windows = [[0xA5; WINDOW_BYTES]];
            let rate = WriteRate { bytes: u32::MAX, per: Duration::from_millis(80) };
            let mut windows = RateWindows::new(&mut windows, Some(rate));
            let mut control = ControlBlock::free(0, PackedAddress::pack(&Address::Unix(UnixId(0))));
            for now in (0..88).step_by(11) {
                assert!(!windows.is_too_slow(&mut control, 0, 5, now));
            }
            for _ in 0..pieces {
                windows.sent(0, 1 << 30);
            }
            assert_eq!(windows.is_too_slow(&mut control, 0, 5, 88), slow, "{pieces}");
        }
    }
}
