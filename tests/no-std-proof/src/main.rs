//! The proof that lightcone-core and lightcone-http need neither std nor alloc.
//!
//! This program has its own panic handler and no global allocator. If a dependency uses std, the program fails to build
//! with E0152 (two panic handlers); if one uses alloc, with "no global memory allocator found". The features `twin-std`
//! and `twin-alloc` build the mutants that prove it: `check.sh` checks that both fail for that reason, and that the
//! program itself builds, runs, and imports nothing from libc but what is named there.
#![no_std]
#![no_main]

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

#[cfg(feature = "twin-alloc")]
use pulls_alloc as _;
#[cfg(feature = "twin-std")]
use pulls_std as _;

mod connection;
mod core_use;
mod http_use;

#[link(name = "c")]
unsafe extern "C" {
    safe fn abort() -> !;
    fn write(fd: c_int, bytes: *const u8, count: usize) -> isize;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    say(b"no-std-proof: panicked\n");
    abort()
}

fn say(line: &[u8]) {
    // SAFETY: `line` is valid for reads of its whole length during the call, and `write` keeps no pointer to it. A
    // failed write shows as a missing line.
    let _ = unsafe { write(1, line.as_ptr(), line.len()) };
}

/// The prebuilt core library names this function in its unwind tables. Nothing here unwinds (`panic = "abort"`).
// SAFETY: the name is the one that the prebuilt core requires, and std, which also defines it, is not linked.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    abort()
}

/// The function that the C start-up code calls. The exit status is the number of parts that failed.
// SAFETY: the name and the signature are those that libc's start-up code requires, and no other function in this
// program has that name.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let mut failed = 0;
    for (name, works) in [("core", core_use::works()), ("http", http_use::works())] {
        say(name.as_bytes());
        say(if works { b": works\n" } else { b": FAILED\n" });
        failed += c_int::from(!works);
    }
    failed
}
