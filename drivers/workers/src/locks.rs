//! The locks and the sleep of workers, scheduler and bridges: those of std, or loom's in the models.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
pub(crate) use std::thread::sleep;
