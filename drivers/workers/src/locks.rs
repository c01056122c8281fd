//! The locks that workers, crew and lanes are made with, and how they wait: std's, or loom's in the models.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
pub(crate) use std::thread::sleep;
