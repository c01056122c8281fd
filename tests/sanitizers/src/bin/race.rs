//! Two threads write to the same location without synchronisation: ThreadSanitizer must report it.

use std::cell::UnsafeCell;

struct Shared(UnsafeCell<u64>);

// SAFETY: none, and that is the point: nothing orders the two threads' accesses.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(0));

fn add() {
    for _ in 0..1_000 {
        // SAFETY: the pointer is valid; the concurrent write of the other thread is the planted defect.
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
