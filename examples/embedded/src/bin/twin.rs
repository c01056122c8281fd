//! A program with defects, which `check.py` must notice: it uses the heap, and it hangs. The watchdog restarts it.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::hint::{black_box, spin_loop};

use lightcone_embedded::{Board, Frames, restart};

/// A heap of one piece of memory, which is used again and again.
struct Heap;

// SAFETY: the program uses one vector at a time, which is smaller than the memory at this address. The program's own
// memory ends before it, and the stack begins far above.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        0x2000_4000 as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: Heap = Heap;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut frames = Frames::<60>::new();
    let Some(mut board) = Board::take(&mut frames) else { restart() };
    board.uart.print("twin: started\n");
    loop {
        let mut bytes = Vec::new();
        for byte in 0..black_box(100) {
            bytes.push(byte);
        }
        black_box(bytes);
        spin_loop();
    }
}
