//! The word that decides whether a sleeping poller must be woken, and by whom.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{const_unless_loom, ord};

/// The poller runs; it will look at its mailbox before it sleeps, if it is told to.
const AWAKE: u32 = 0;
/// The poller is about to block, or blocks.
const SLEEPING: u32 = 1;
/// Something was pushed since the poller last woke. Who found `SLEEPING` here makes the wake call.
const NOTIFIED: u32 = 2;

/// Coalesces wake-ups: of any number of producers, exactly one wakes a poller that sleeps, and none one that runs.
///
/// A producer pushes first and notifies after:
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
/// The poller, and only it, does the rest:
///
/// ```
/// # use lightcone_core::sync::WakeFlag;
/// # let (flag, drain, block) = (WakeFlag::new(), || (), || ());
/// drain();
/// if flag.try_sleep() {
///     block(); // until woken or until a deadline; may return for no reason
///     flag.awake();
/// }
/// drain();
/// ```
///
/// All operations are read-modify-writes of one word, hence in one order that all threads agree on. A `notify`
/// before `try_sleep` makes it refuse; one after it finds `SLEEPING` and says so. A plain load that spares the
/// swap of a producer who finds the flag up already would lose wake-ups, so there is none.
#[derive(Debug)]
pub struct WakeFlag(AtomicU32);

impl WakeFlag {
    const_unless_loom! {
        /// The flag of a poller that is awake.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(AWAKE))
        }
    }

    /// Says that something was pushed. Call it after the push, from any thread.
    ///
    /// `true` means that the poller sleeps and the caller must make the wake call: nobody else will. At most one
    /// caller is told so for each sleep. The call may come late, after the poller woke for another reason, so a
    /// poller must take a wake-up without a cause.
    #[must_use = "the one who is told to wake the poller is the only one"]
    pub fn notify(&self) -> bool {
        self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING
    }

    /// Announces that the poller will block. For the poller only, when it has found nothing left to do.
    ///
    /// `false` means that something was pushed in the meantime: the poller is awake, and must look at its mailbox
    /// again before the next attempt. After `true` it may block, and must call [`awake`](Self::awake) afterwards
    /// and then look at its mailbox, whatever the reason for which it woke.
    #[must_use = "a poller that was refused must not block"]
    pub fn try_sleep(&self) -> bool {
        let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !slept {
            self.awake();
        }
        slept
    }

    /// Ends a sleep. For the poller only; without a sleep it does no harm.
    ///
    /// Whatever was pushed before a `notify` that this wipes out can be popped afterwards.
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
    fn nobody_wakes_a_poller_that_runs() {
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
