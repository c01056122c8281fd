//! The gate that keeps the callbacks of one socket serial when several threads could run them.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{const_unless_loom, ord};

/// A runner is active or scheduled.
const BUSY: u32 = 1;
/// Something was posted since the runner last looked.
const POSTED: u32 = 2;

/// Lets any number of threads request work on a socket, and one at a time do it.
///
/// A thread with work for a socket leaves it where the socket's runner looks, then posts. Of all posts since the gate
/// was last idle, one returns a [`GatePermit`], and its caller must schedule the socket. So there is at most one permit
/// at a time, regardless of the threads that it moves through:
///
/// ```
/// # use lightcone_core::sync::{Gate, GatePermit};
/// # let (gate, leave, schedule) = (Gate::new(), || (), |_: GatePermit| ());
/// leave();
/// if let Some(pass) = gate.post() {
///     schedule(pass); // on any thread
/// }
/// ```
///
/// The runner looks, does the work that it finds, and tries to release the permit. If something was posted in between,
/// `try_release` fails and returns the permit: the runner looks again, or queues up after other sockets first.
///
/// ```
/// # use lightcone_core::sync::Gate;
/// # let (gate, look) = (Gate::new(), || ());
/// # let mut pass = gate.post().expect("idle before");
/// loop {
///     pass.begin(&gate);
///     look();
///     match pass.try_release(&gate) {
///         Ok(()) => break,
///         Err(again) => pass = again,
///     }
/// }
/// ```
///
/// Everything that one runner did is visible to the next, and everything that was left before a post is visible to the
/// runner's next look. All operations are read-modify-writes of one word. Dropping a permit leaves the gate shut
/// permanently.
#[derive(Debug)]
pub struct Gate(AtomicU32);

impl Gate {
    const_unless_loom! {
        /// Creates an idle gate.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Announces that work was left. Call it after leaving the work, from any thread.
    ///
    /// Returns the permit if no runner is active or scheduled. The caller must then make sure that the permit is used.
    #[must_use = "no other thread will run"]
    pub fn post(&self) -> Option<GatePermit> {
        let before = self.0.fetch_or(BUSY | POSTED, ord::POST);
        (before & BUSY == 0).then_some(GatePermit(()))
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to run what a [`Gate`] keeps serial. A gate has at most one at a time. It can be sent to another thread,
/// but not copied.
///
/// ```compile_fail
/// # use lightcone_core::sync::Gate;
/// let second = Gate::new().post().expect("idle before").clone();
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped leaves the gate shut"]
pub struct GatePermit(());

impl GatePermit {
    /// Acknowledges all earlier posts. Call it before looking at what was left, so that
    /// [`try_release`](Self::try_release) notices every post that the look may miss.
    pub fn begin(&mut self, gate: &Gate) {
        gate.0.swap(BUSY, ord::LOOK);
    }

    /// Leaves the gate idle, unless something was posted since the last look.
    ///
    /// # Errors
    ///
    /// The permit, if something was posted.
    pub fn try_release(self, gate: &Gate) -> Result<(), Self> {
        match gate.0.compare_exchange(BUSY, 0, ord::LEAVE, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(self),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use static_assertions::{assert_impl_all, assert_not_impl_any};

    use super::*;

    assert_impl_all!(Gate: Send, Sync);
    assert_impl_all!(GatePermit: Send);
    assert_not_impl_any!(GatePermit: Clone, Copy);

    #[test]
    fn one_of_many_posts_gets_the_permit() {
        let gate = Gate::new();
        let pass = gate.post();
        assert!(pass.is_some());
        assert!(gate.post().is_none());
        assert!(gate.post().is_none());
    }

    #[test]
    fn a_post_after_the_look_keeps_the_permit() {
        let gate = Gate::new();
        let mut pass = gate.post().unwrap();
        pass.begin(&gate);
        assert!(gate.post().is_none());
        pass = pass.try_release(&gate).unwrap_err();
        pass.begin(&gate);
        assert!(pass.try_release(&gate).is_ok());
        assert!(gate.post().is_some());
    }

    #[test]
    fn a_permit_is_not_released_before_its_first_look() {
        let gate = Gate::new();
        let pass = gate.post().unwrap();
        assert!(pass.try_release(&gate).is_err());
    }
}
