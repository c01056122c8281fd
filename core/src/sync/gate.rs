//! The word that keeps the callbacks of one socket serial where several threads could run them.

use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{const_unless_loom, ord};

/// Somebody runs, or will.
const BUSY: u32 = 1;
/// Something was posted since the runner last looked.
const POSTED: u32 = 2;

/// Lets any number of threads ask that something be looked after, and one at a time do it.
///
/// Who has something for a socket leaves it where the socket's runner will look, then posts. Of all posts since the
/// gate was last idle one is told to schedule the socket, and so there is one [`Pass`] at most, whatever threads it
/// wanders through:
///
/// ```
/// # use lightcone_core::sync::{Gate, Pass};
/// # let (gate, leave, schedule) = (Gate::new(), || (), |_: Pass| ());
/// leave();
/// if let Some(pass) = gate.post() {
///     schedule(pass); // to whatever thread
/// }
/// ```
///
/// The runner looks, does what there is, and tries to leave. If something was posted in between, it is refused, and the
/// pass is still its own: it looks again, or puts itself behind others first.
///
/// ```
/// # use lightcone_core::sync::Gate;
/// # let (gate, look) = (Gate::new(), || ());
/// # let mut pass = gate.post().expect("idle before");
/// loop {
///     pass.look(&gate);
///     look();
///     match pass.leave(&gate) {
///         Ok(()) => break,
///         Err(again) => pass = again,
///     }
/// }
/// ```
///
/// Everything that one runner did is seen by the next, and everything that was left before a post by the runner's next
/// look. All operations are read-modify-writes of one word. A pass that is dropped leaves the gate shut for good.
#[derive(Debug)]
pub struct Gate(AtomicU32);

impl Gate {
    const_unless_loom! {
        /// An idle gate.
        #[must_use]
        pub const fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Says that something was left. Call it after that, from any thread.
    ///
    /// `Some` if nobody runs or is about to: the caller has the pass, and must see to it that somebody uses it.
    #[must_use = "nobody else will run"]
    pub fn post(&self) -> Option<Pass> {
        let before = self.0.fetch_or(BUSY | POSTED, ord::POST);
        (before & BUSY == 0).then_some(Pass(()))
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to run what a [`Gate`] keeps serial. There is one a gate; it can be sent to another thread, not copied.
///
/// ```compile_fail
/// # use lightcone_core::sync::Gate;
/// let second = Gate::new().post().expect("idle before").clone();
/// ```
#[derive(Debug)]
#[must_use = "a pass that is dropped leaves the gate shut"]
pub struct Pass(());

impl Pass {
    /// Before looking at what was left: later posts will be noticed by [`leave`](Self::leave).
    pub fn look(&mut self, gate: &Gate) {
        gate.0.swap(BUSY, ord::LOOK);
    }

    /// Gives the pass up, unless something was posted since the last look.
    ///
    /// # Errors
    ///
    /// The pass, if so.
    pub fn leave(self, gate: &Gate) -> Result<(), Self> {
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
    assert_impl_all!(Pass: Send);
    assert_not_impl_any!(Pass: Clone, Copy);

    #[test]
    fn one_of_many_posts_gets_the_pass() {
        let gate = Gate::new();
        let pass = gate.post();
        assert!(pass.is_some());
        assert!(gate.post().is_none());
        assert!(gate.post().is_none());
    }

    #[test]
    fn a_post_after_the_look_keeps_the_pass() {
        let gate = Gate::new();
        let mut pass = gate.post().unwrap();
        pass.look(&gate);
        assert!(gate.post().is_none());
        pass = pass.leave(&gate).unwrap_err();
        pass.look(&gate);
        assert!(pass.leave(&gate).is_ok());
        assert!(gate.post().is_some());
    }

    #[test]
    fn who_has_not_looked_does_not_leave() {
        let gate = Gate::new();
        let pass = gate.post().unwrap();
        assert!(pass.leave(&gate).is_err());
    }
}
