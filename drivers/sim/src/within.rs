//! Whether the code of core is running, for tests that count what it allocates.

use core::cell::Cell;

std::thread_local! {
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within a call to core, and not within a handler that core has called. A counting allocator
/// asks, to hold core to allocating nothing. The copies of a broadcast message are made within core.
///
/// It is a look at a thread's own flag: an allocator may call it.
#[must_use]
pub fn within_core() -> bool {
    WITHIN.with(Cell::get)
}

/// Runs a call to core.
#[inline]
pub(crate) fn core_call<T>(call: impl FnOnce() -> T) -> T {
    swap(true, call)
}

/// Runs what core has called.
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
