//! The locks of the workers' sources, built on those of loom.

use core::ops::{Deref, DerefMut};
use core::time::Duration;
use std::sync::{LockResult, TryLockResult};

use loom::thread::yield_now;

pub use std::sync::{PoisonError, TryLockError};

/// loom's mutex, with guards that know their lock, so that a wait can release it.
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

/// Replaces the guard of std.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    lock: &'a Mutex<T>,
    held: loom::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Never returns an error: after a panic the model has failed anyway.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(MutexGuard { lock: self, held })
    }

    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(held) => Ok(MutexGuard { lock: self, held }),
            Err(_) => Err(TryLockError::WouldBlock),
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// loom's condition variable, with timeouts.
///
/// A short timeout expires while other threads run: the lock is free meanwhile, and every possible event of that time
/// occurs in some schedule. A long timeout, where a notification is expected, never expires: without the notification,
/// loom reports a deadlock.
#[derive(Debug)]
pub struct Condvar(loom::sync::Condvar);

/// Timeouts of this length or more are long.
const LONG: Duration = Duration::from_secs(1);

/// Whether a wait ended by its timeout.
#[derive(Clone, Copy, Debug)]
pub struct Waited(bool);

impl Waited {
    /// Returns whether the wait timed out.
    pub const fn timed_out(&self) -> bool {
        self.0
    }
}

/// Replaces the condition variable of std.
#[allow(clippy::new_without_default, reason = "the scheduler needs none")]
impl Condvar {
    pub fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let MutexGuard { lock, held } = guard;
        let held = self.0.wait(held).unwrap_or_else(PoisonError::into_inner);
        Ok(MutexGuard { lock, held })
    }

    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        at_most: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        if at_most >= LONG {
            let guard = self.wait(guard).unwrap_or_else(PoisonError::into_inner);
            return Ok((guard, Waited(false)));
        }
        let lock = guard.lock;
        drop(guard);
        yield_now();
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((guard, Waited(true)))
    }

    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        at_most: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, Waited)> {
        while condition(&mut guard) {
            let waited;
            (guard, waited) = self.wait_timeout(guard, at_most).unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                let still = condition(&mut guard);
                return Ok((guard, Waited(still)));
            }
        }
        Ok((guard, Waited(false)))
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Lets other threads run.
pub fn sleep(_: Duration) {
    yield_now();
}
