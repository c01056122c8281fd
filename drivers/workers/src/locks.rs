//! The locks that the crew and the lanes are made with: std's, or loom's in the models.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
