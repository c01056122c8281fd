//! Core does not allocate under any fault. The only test in its binary, since the allocator is global.
#![allow(
    clippy::indexing_slicing,
    clippy::needless_pass_by_ref_mut,
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::unwrap_used,
    clippy::excessive_nesting,
    reason = "as in every test: a failure is a panic"
)]

mod common;

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::System;

use common::{echo_scenario, post_scenario};
use lightcone_sim::{Unmutated, check, within_core};

/// The system's allocator with counters, one of them for allocations within core.
struct Counted;

static ALL: AtomicU64 = AtomicU64::new(0);
static WITHIN_CORE: AtomicU64 = AtomicU64::new(0);

fn count() {
    ALL.fetch_add(1, Ordering::Relaxed);
    if within_core() {
        WITHIN_CORE.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator, whose promises are the same.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

#[test]
fn core_allocates_nothing() {
    check(0..60, echo_scenario);
    check(0..60, |sim| post_scenario(sim, || Unmutated));
    assert!(ALL.load(Ordering::Relaxed) > 10_000, "the counter counts");
    assert_eq!(WITHIN_CORE.load(Ordering::Relaxed), 0);
}
