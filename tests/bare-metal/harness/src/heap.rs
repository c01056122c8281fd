//! A heap that is emptied between tests: pieces whose sizes are powers of two, with a free list per size.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    /// The bounds of the heap's memory; see `layout.ld`.
    static heap_start: u8;
    static heap_end: u8;
}

/// The smallest piece, in bytes.
const LEAST: usize = 16;
const SIZES: usize = 32;

struct Lists {
    /// Memory from this address on has never been allocated; 0 before the first allocation.
    fresh: usize,
    /// The first free piece of each size; each piece starts with the address of the next one.
    free: [*mut usize; SIZES],
}

struct Heap(UnsafeCell<Lists>);

// SAFETY: there is one processor and no interrupt is ever enabled.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(EMPTY));

const EMPTY: Lists = Lists { fresh: 0, free: [ptr::null_mut(); SIZES] };

/// Whether an allocation has failed since the heap was cleared.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Returns whether an allocation has failed since the heap was cleared.
pub(crate) fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Frees all pieces. The tests that used them have ended.
pub(crate) fn clear() {
    EXHAUSTED.store(false, Ordering::Relaxed);
    // SAFETY: there is no other access, because there is one processor and no interrupt.
    unsafe { *HEAP.0.get() = EMPTY };
}

const fn size_of(layout: Layout) -> usize {
    let least = if layout.align() > LEAST { layout.align() } else { LEAST };
    let size = if layout.size() > least { layout.size() } else { least };
    size.next_power_of_two()
}

// SAFETY: each piece is aligned to its size, so to any requested alignment, and is in exactly one place: in use, or in
// one free list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = size_of(layout);
        // SAFETY: there is no other access, because there is one processor and no interrupt.
        let lists = unsafe { &mut *self.0.get() };
        let first = &mut lists.free[size.trailing_zeros() as usize];
        if !first.is_null() {
            let piece = *first;
            // SAFETY: the piece is free, so it holds the address of the next one.
            *first = ptr::with_exposed_provenance_mut(unsafe { *piece });
            return piece.cast();
        }
        // No free piece of this size: take fresh memory.
        let start = lists.fresh.max((&raw const heap_start).expose_provenance()).next_multiple_of(size);
        match start.checked_add(size) {
            Some(end) if end <= (&raw const heap_end).addr() => {
                lists.fresh = end;
                ptr::with_exposed_provenance_mut(start)
            }
            _ => {
                EXHAUSTED.store(true, Ordering::Relaxed);
                ptr::null_mut()
            }
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: there is no other access, because there is one processor and no interrupt.
        let lists = unsafe { &mut *self.0.get() };
        let first = &mut lists.free[size_of(layout).trailing_zeros() as usize];
        let piece = piece.cast::<usize>();
        // SAFETY: the caller returns the piece, which has room for an address and is aligned for one.
        unsafe { *piece = first.expose_provenance() };
        *first = piece;
    }
}
