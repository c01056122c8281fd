//! The flag that decides whether a sleeping poller must be woken, and by which thread.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{const_unless_loom, ord};

/// The poller runs. If it is notified, it checks its mailbox again before it sleeps.
const AWAKE: u32 = 0;
/// The poller blocks or is about to block.
const SLEEPING: u32 = 1;
/// Something was pushed since the poller last woke. The thread that replaced `SLEEPING` with this makes the wake call.
const NOTIFIED: u32 = 2;

/// Coalesces wake-ups: of any number of producers, exactly one wakes a sleeping poller, and none wakes a running one.
///
/// A producer pushes first and notifies afterwards:
///
/// ```
/// # use lightcone_core::sync::WakeFlag;
/// # let (flag, wake, push) = (WakeFlag::new(), || (), || ());
/// push();
/// if flag.notify() {
///     wake(); // an eventfd, a pipe, an interrupt: makes `block` below return
/// }
/// ```
///
/// Only the poller does the rest:
///
/// ```
/// # use lightcone_core::sync::WakeFlag;
/// # let (flag, drain, block) = (WakeFlag::new(), || (), || ());
/// drain();
/// if flag.try_sleep() {
///     block(); // until woken or until a deadline; may return spuriously
///     flag.awake();
/// }
/// drain();
/// ```
///
/// All operations are read-modify-writes of one word, and all threads agree on their order. A `notify` before
/// `try_sleep` makes it fail; one after it finds `SLEEPING` and returns `true`. A plain load that saves a producer the
/// swap when the flag is set already would lose wake-ups, so there is none.
#[derive(Debug)]
pub struct WakeFlag(AtomicU32);

impl WakeFlag {
    const_unless_loom! {
        /// Creates the flag of a poller that is awake.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(AWAKE))
        }
    }

    /// Announces that something was pushed. Call it after the push, from any thread.
    ///
    /// Returns `true` if the poller sleeps. The caller must then make the wake call, since no other thread will: at
    /// most one call returns `true` for each sleep. The wake call may come late, after the poller woke for another
    /// reason, so a poller must tolerate spurious wake-ups.
    #[must_use = "no other thread makes the wake call"]
    pub fn notify(&self) -> bool {
        self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING
    }

    /// Announces that the poller will block. Only the poller calls it, when it has found nothing left to do.
    ///
    /// Returns `false` if something was pushed in the meantime: the poller stays awake, and must check its mailbox
    /// before the next attempt. After `true` it may block; afterwards it must call [`awake`](Self::awake) and then
    /// check its mailbox, regardless of why it woke.
    #[must_use = "the poller must not block after `false`"]
    pub fn try_sleep(&self) -> bool {
        let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // also clears the notification, with acquire, so that the values pushed before it can be popped
        if !slept {
            self.awake();
        }
        slept
    }

    /// Ends a sleep. Only the poller calls it; without a sleep it is harmless.
    ///
    /// Everything that was pushed before a `notify` that this call clears can be popped afterwards.
    pub fn awake(&self) {
        self.0.swap(AWAKE, ord::AWAKE);
    }
}

impl Default for WakeFlag {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn no_thread_wakes_a_poller_that_runs() {
        let flag = WakeFlag::new();
        assert!(!flag.notify());
        assert!(!flag.notify());
    }

    #[test]
    fn one_of_many_wakes_a_poller_that_sleeps() {
        let flag = WakeFlag::new();
        assert!(flag.try_sleep());
        assert!(flag.notify());
        assert!(!flag.notify());
        assert!(!flag.notify());
        flag.awake();
        assert!(!flag.notify());
    }

    #[test]
    fn a_notice_refuses_one_sleep_and_no_more() {
        let flag = WakeFlag::new();
        assert!(!flag.notify());
        assert!(!flag.try_sleep());
        assert!(flag.try_sleep());
    }

    #[test]
    fn a_sleep_that_ended_by_itself_leaves_no_trace() {
        let flag = WakeFlag::new();
        assert!(flag.try_sleep());
        flag.awake();
        assert!(!flag.notify());
        flag.awake();
        assert!(flag.try_sleep());
        assert!(flag.notify());
    }
}
