//! A clock that counts milliseconds.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;

use crate::FREQUENCY;

/// The milliseconds since the start. It is only written by its interrupt, so it needs no compare-and-swap.
static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    MILLIS.store(MILLIS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The time since the start, in milliseconds. It is also what wakes a sleeping processor when nothing else does.
pub struct Clock {
    last: u64,
}

impl Clock {
    pub(crate) fn start(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(FREQUENCY / 1000 - 1);
        timer.clear_current();
        timer.enable_counter();
        timer.enable_interrupt();
        Self { last: 0 }
    }

    /// Returns the milliseconds since the start. The counter of the interrupt wraps every 49 days; so this has to be
    /// called more often.
    pub fn now(&mut self) -> u64 {
        let passed = MILLIS.load(Ordering::Relaxed).wrapping_sub(self.last as u32);
        self.last += u64::from(passed);
        self.last
    }
}
