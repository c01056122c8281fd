//! The two clocks of a poller: monotonic milliseconds for deadlines, and seconds since 1970 for dates.

use crate::errno::Errno;
use crate::syscall;

/// The clocks that a poller reads once a turn.
///
/// It uses `CLOCK_MONOTONIC` and not `CLOCK_MONOTONIC_COARSE`. A read of the coarse clock takes 7 ns instead of 29 ns,
/// which is negligible in a turn of 6,000 ns or more, but the coarse clock lags by up to a tick (4 ms; 10 ms on some
/// kernels). A timeout that starts from a lagging value would fire up to a tick early, and a wait that ends on time
/// would be followed by one or two idle turns.
///
/// Milliseconds are rounded down, so an instant is never in the future, and the span between two readings is off by
/// less than a millisecond. A wait whose timeout is rounded up never ends before its deadline on this clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The wall clock as last read.
    unix_seconds: u64,
    /// When, on the monotonic clock, to read the wall clock again: its second may have changed by then.
    next_read_ms: u64,
}

impl Clock {
    /// Creates a clock and reads the wall clock.
    #[must_use]
    pub fn new() -> Self {
        let mut this = Self { unix_seconds: 0, next_read_ms: 0 };
        this.unix_seconds(Self::now_ms());
        this
    }

    /// Returns milliseconds on a clock that never steps. Its origin is unspecified.
    #[must_use]
    pub fn now_ms() -> u64 {
        let (seconds, nanoseconds) = read(libc::CLOCK_MONOTONIC);
        seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
    }

    /// Returns seconds since 1970. Reads the wall clock only when its second may have changed, about once a second; any
    /// other call costs one comparison. A step of the wall clock is noticed within a second.
    #[inline]
    pub fn unix_seconds(&mut self, now_ms: u64) -> u64 {
        if now_ms >= self.next_read_ms {
            self.read_wall_clock(now_ms);
        }
        self.unix_seconds
    }

    #[cold]
    fn read_wall_clock(&mut self, now_ms: u64) {
        let (seconds, nanoseconds) = read(libc::CLOCK_REALTIME);
        self.unix_seconds = seconds;
        self.next_read_ms = now_ms.saturating_add(until_next_second_ms(nanoseconds));
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the time to the next full second, from 1 to 1000 ms. Rounded up, so that the second has changed by then.
const fn until_next_second_ms(nanoseconds: u64) -> u64 {
    1_000_u64.saturating_sub(nanoseconds / 1_000_000)
}

/// Reads a clock: seconds and nanoseconds. Returns zeroes for a time before 1970 or a clock that cannot be read.
fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the structure and outlives the call.
    let result: Result<_, Errno> = unsafe { syscall!(clock_gettime(clock, &raw mut time)) };
    debug_assert!(result.is_ok(), "POSIX requires both clocks");
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let mut last = Clock::now_ms();
        for _ in 0..1_000 {
            let now = Clock::now_ms();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn milliseconds_pass_as_std_sees_them() {
        let before = Clock::now_ms();
        std::thread::sleep(core::time::Duration::from_millis(20));
        let span_ms = Clock::now_ms() - before;
        assert!((19..5_000).contains(&span_ms), "{span_ms}");
    }

    #[test]
    fn the_wall_clock_is_read_again_only_after_its_second_has_ended() {
        let now = Clock::now_ms();
        let mut clock = Clock::new();
        assert!(clock.next_read_ms > now && clock.next_read_ms <= Clock::now_ms() + 1_000);
        let read = clock.unix_seconds(now);
        assert!(read > 1_600_000_000);
        clock.unix_seconds = 7;
        assert_eq!(clock.unix_seconds(clock.next_read_ms - 1), 7);
        assert!(clock.unix_seconds(clock.next_read_ms) >= read);
    }

    #[test]
    fn the_next_second_is_never_now() {
        assert_eq!(until_next_second_ms(0), 1_000);
        assert_eq!(until_next_second_ms(999_999_999), 1);
        assert_eq!(until_next_second_ms(1_000_000), 999);
    }
}
