//! The locks of the workers' crew and lanes, made of loom's.

use core::time::Duration;
use std::sync::LockResult;

pub use loom::sync::{Mutex, MutexGuard};
pub use std::sync::PoisonError;

/// loom's, with timeouts: each passes at once, since time is not modelled.
#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

/// Whether a wait lasted as long as it might.
#[derive(Clone, Copy, Debug)]
pub struct Waited(bool);

impl Waited {
    /// It did.
    pub const fn timed_out(&self) -> bool {
        self.0
    }
}

/// As std's.
#[allow(clippy::new_without_default, reason = "the crew needs none")]
impl Condvar {
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        Ok((guard, Waited(true)))
    }

    pub fn wait_timeout_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        _: Duration,
        _: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        Ok((guard, Waited(true)))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
