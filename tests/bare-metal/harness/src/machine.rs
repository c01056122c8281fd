//! The processor's first instructions, its stack, and the debugger's calls.

use core::arch::asm;
use core::fmt;

unsafe extern "C" {
    /// The end of the stack's memory; see `layout.ld`.
    static stack_top: u8;
    /// Made by the compiler: it calls `start`.
    fn main(count: i32, arguments: *const *const u8) -> i32;
}

#[repr(C)]
struct Vectors {
    stack: *const u8,
    reset: extern "C" fn() -> !,
    /// Faults of every kind: nothing here recovers from one.
    faults: [extern "C" fn() -> !; 14],
}

// SAFETY: the pointer is an address for the processor, and never followed.
unsafe impl Sync for Vectors {}

#[unsafe(link_section = ".vectors")]
#[used]
static VECTORS: Vectors = Vectors { stack: &raw const stack_top, reset, faults: [fault; 14] };

#[unsafe(no_mangle)]
extern "C" fn reset() -> ! {
    // SAFETY: the compiler's own, called once with no arguments.
    let status = unsafe { main(0, core::ptr::null()) };
    exit(status == 0)
}

extern "C" fn fault() -> ! {
    crate::print(format_args!("\nthe processor faults\n"));
    exit(false)
}

/// Goes on in this function, on an empty stack.
pub(crate) fn restart(run: extern "C" fn() -> !) -> ! {
    // SAFETY: whoever is on the stack is never returned to, and the function takes nothing from it.
    unsafe {
        asm!("msr msp, {stack}", "bx {run}", stack = in(reg) &raw const stack_top, run = in(reg) run,
            options(noreturn))
    }
}

/// Ends the emulator: with 0 if all is well, with 1 if not.
pub(crate) fn exit(well: bool) -> ! {
    const EXIT: usize = 0x18;
    const APPLICATION_EXIT: usize = 0x2_0026;
    const RUN_TIME_ERROR: usize = 0x2_0023;
    loop {
        call(EXIT, if well { APPLICATION_EXIT } else { RUN_TIME_ERROR });
    }
}

/// Semihosting: the debugger, here the emulator, reads the two registers and does what they ask for.
fn call(what: usize, argument: usize) {
    // SAFETY: the calls made here change nothing but the first register.
    unsafe { asm!("bkpt 0xAB", inout("r0") what => _, in("r1") argument, options(nostack)) };
}

/// The debugger's output.
pub(crate) struct Output;

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const WRITE_TEXT: usize = 0x04;
        for part in text.as_bytes().chunks(63) {
            let mut ended = [0; 64];
            ended[..part.len()].copy_from_slice(part);
            call(WRITE_TEXT, ended.as_ptr().addr());
        }
        Ok(())
    }
}
