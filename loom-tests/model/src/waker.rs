//! Wakes a sleeping poller: the counterpart of an eventfd in a model.

use std::sync::OnceLock;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{Thread, current, park};

/// Counts the turns of a poller and the requests to it, so that loom tries every order of the two.
///
/// Without it loom does not: of the earlier accesses to an atomic it remembers only the last one, so a producer's
/// access to a mailbox hides those of the poller. The accesses are relaxed, so they order nothing in the model.
#[derive(Debug)]
pub(crate) struct Steering(AtomicUsize);

impl Steering {
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub(crate) fn here(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Blocks a poller's thread, and wakes it.
#[derive(Debug)]
pub enum Waker {
    /// Returns from blocking only when woken.
    Exact(OnceLock<Thread>),
    /// May also return spuriously, like a poller with a deadline.
    Spurious(Notify),
}

impl Waker {
    /// Creates a waker for the thread that will block.
    pub fn exact() -> Self {
        Self::Exact(OnceLock::new())
    }

    /// Creates a waker with spurious wake-ups, for any one thread.
    pub fn spurious() -> Self {
        Self::Spurious(Notify::new())
    }

    /// Sets the current thread as the one that will block. Must be called before the first wake-up can be needed.
    pub fn is_for_me(&self) {
        if let Self::Exact(thread) = self {
            thread.get_or_init(current);
        }
    }

    /// Makes the current or the next block return.
    pub fn wake(&self) {
        match self {
            // a poller that has not started yet checks for work before it sleeps
            Self::Exact(thread) => thread.get().into_iter().for_each(Thread::unpark),
            Self::Spurious(notify) => notify.notify(),
        }
    }

    /// Blocks until woken.
    pub fn block(&self) {
        match self {
            Self::Exact(_) => park(),
            Self::Spurious(notify) => notify.wait(),
        }
    }
}
