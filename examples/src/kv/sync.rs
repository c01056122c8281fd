//! What threads share the table with. The models of the table replace this file with loom's types.

pub(super) use core::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Arc, Mutex, PoisonError};
