//! A heap that is emptied between tests: pieces of powers of two, a list of free ones for each size.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

unsafe extern "C" {
    /// The heap's memory; see `layout.ld`.
    static heap_start: u8;
    static heap_end: u8;
}

/// The smallest piece.
const LEAST: usize = 16;
const SIZES: usize = 32;

struct Lists {
    /// Memory from here on was never given out; 0 before the first piece.
    fresh: usize,
    /// The first free piece of each size; each begins with the address of the next.
    free: [*mut usize; SIZES],
}

struct Heap(UnsafeCell<Lists>);

// SAFETY: there is one processor and no interrupt is ever enabled.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(EMPTY));

const EMPTY: Lists = Lists { fresh: 0, free: [ptr::null_mut(); SIZES] };

/// Somebody asked for more than there is, since the heap was cleared.
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody has asked for more than there is.
pub(crate) fn is_exhausted() -> bool {
    EXHAUSTED.load(Ordering::Relaxed)
}

/// Forgets all pieces: whoever had them is gone.
pub(crate) fn clear() {
    EXHAUSTED.store(false, Ordering::Relaxed);
    // SAFETY: nobody else is in here, as there is one processor.
    unsafe { *HEAP.0.get() = EMPTY };
}

const fn size_of(layout: Layout) -> usize {
    let least = if layout.align() > LEAST { layout.align() } else { LEAST };
    let size = if layout.size() > least { layout.size() } else { least };
    size.next_power_of_two()
}

// SAFETY: a piece is at a multiple of its size, so of any alignment asked for, and in one place only: in use, or in
// one list.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = size_of(layout);
        // SAFETY: nobody else is in here, as there is one processor.
        let lists = unsafe { &mut *self.0.get() };
        let first = &mut lists.free[size.trailing_zeros() as usize];
        if !first.is_null() {
            let piece = *first;
            // SAFETY: the piece is free and holds the next one's address.
            *first = ptr::with_exposed_provenance_mut(unsafe { *piece });
            return piece.cast();
        }
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
        // SAFETY: nobody else is in here, as there is one processor.
        let lists = unsafe { &mut *self.0.get() };
        let first = &mut lists.free[size_of(layout).trailing_zeros() as usize];
        let piece = piece.cast::<usize>();
        // SAFETY: the caller gives the piece back, which has room for an address and is aligned for one.
        unsafe { *piece = first.expose_provenance() };
        *first = piece;
    }
}
