//! The proof that lightcone-core and lightcone-http need neither std nor alloc.
//!
//! This program has its own panic handler and no global allocator. If any dependency brings std in, it fails to
//! build with E0152 (two panic handlers); if one brings alloc in, with "no global memory allocator found". The
//! features `twin-std` and `twin-alloc` do just that, and `check.sh` sees that both fail for that reason and
//! that the program itself builds, runs, and imports nothing from libc beyond what is named there.
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
    // SAFETY: `line` is valid for reads of its whole length during the call, and `write` keeps no pointer to it.
    // A failed write is visible as a missing line.
    let _ = unsafe { write(1, line.as_ptr(), line.len()) };
}

/// The prebuilt core library names this function in its unwind tables. Nothing here unwinds (`panic = "abort"`).
// SAFETY: the name is the one that the prebuilt core looks for, and std, which would define it too, is not here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    abort()
}

/// What the C start-up code calls. The exit status is the number of parts that failed.
// SAFETY: the name is the one libc's start-up code looks for, with the signature it expects; nothing else in this
// program defines it.
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
