//! Tracks whether core's code is running, for tests that count its allocations.

use core::cell::Cell;

std::thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread is inside a call to core and not inside a handler called by core. A counting
/// allocator uses it to verify that core does not allocate. Copies of a broadcast message count as made
/// inside core.
///
/// The function only reads a thread-local flag, so an allocator may call it.
#[must_use]
pub fn within_core() -> bool {
    WITHIN.with(Cell::get)
}

/// Calls core.
#[inline]
pub(crate) fn core_call<T>(call: impl FnOnce() -> T) -> T {
    swap(true, call)
}

/// Runs code that core has called.
#[inline]
pub(crate) fn called_back<T>(call: impl FnOnce() -> T) -> T {
    swap(false, call)
}

#[inline]
fn swap<T>(within: bool, call: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            WITHIN.with(|flag| flag.set(self.0));
        }
    }
    let _back = Back(WITHIN.with(|flag| flag.replace(within)));
    call()
}
