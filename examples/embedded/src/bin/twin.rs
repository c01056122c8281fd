//! A program with defects, which `check.py` must notice: it uses the heap, and it hangs. The watchdog restarts it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::hint::{black_box, spin_loop};
use core::ptr::null_mut;

use lightcone_embedded::{Board, Frames, restart};

/// A heap that is always exhausted.
struct Exhausted;

// SAFETY: no memory is ever returned.
unsafe impl GlobalAlloc for Exhausted {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Exhausted = Exhausted;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<60>::new();
    let Some(mut board) = Board::take(&mut frames) else { restart() };
    board.uart.print("twin: started\n");
    loop {
        spin_loop();
        if black_box(false) {
            black_box(Box::new(black_box(0)));
        }
    }
}
