//! Sleep until an interrupt.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use cortex_m_rt::exception;

/// The interrupt of a device.
#[derive(Clone, Copy)]
struct Interrupt(u16);

/// The first serial port, which interrupts only if the program has asked for that.
const SERIAL: Interrupt = Interrupt(0);
const ETHERNET: Interrupt = Interrupt(13);

// SAFETY: the number of an interrupt line, and always the same.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self.0
    }
}

/// Handles the interrupts of all devices: masks the line, because a device signals until it is served, which the loop
/// of the program does.
#[exception]
unsafe fn DefaultHandler(line: i16) {
    if let Ok(line) = u16::try_from(line) {
        NVIC::mask(Interrupt(line));
    }
}

/// Sleeps until an interrupt, unless `has_work` returns that there is work already.
///
/// Interrupts are off from that look until the processor sleeps. Otherwise an interrupt in between would be handled
/// before the sleep, which then would not end for it. The processor wakes for an interrupt that is off as well, and
/// handles it when this function turns interrupts on again.
pub fn sleep(has_work: impl FnOnce() -> bool) {
    cortex_m::interrupt::disable();
    // SAFETY: the handler shares no state with the code that this interrupts.
    unsafe { NVIC::unmask(ETHERNET) };
    // SAFETY: the same.
    unsafe { NVIC::unmask(SERIAL) };
    if !has_work() {
        cortex_m::asm::dsb();
        cortex_m::asm::wfi();
    }
    // SAFETY: this function does not run within a section of code that needs interrupts off.
    unsafe { cortex_m::interrupt::enable() };
}
