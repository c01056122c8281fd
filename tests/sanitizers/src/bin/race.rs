//! Two threads write to one place without a word to each other: ThreadSanitizer must say so.

use std::cell::UnsafeCell;

struct Shared(UnsafeCell<u64>);

// SAFETY: none, and that is the point: nothing orders the two threads' accesses.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(0));

fn add() {
    for _ in 0..1_000 {
        // SAFETY: the pointer is good; that somebody else writes at the same time is the defect.
        unsafe { *SHARED.0.get() += 1 };
    }
}

fn main() {
    let other = std::thread::spawn(add);
    add();
    other.join().unwrap();
    // SAFETY: the other thread has ended.
    println!("{} of 2000", unsafe { *SHARED.0.get() });
}
