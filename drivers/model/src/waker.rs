//! What makes a poller that sleeps return: the eventfd of a model.

use std::sync::OnceLock;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{Thread, current, park};

/// Counts a poller's turns and what is sent to it, so that loom tries every order of the two. By itself it does not:
/// of the earlier accesses to an atomic it remembers the last, and a producer's look at a mailbox hides those of the
/// poller. Relaxed, so that it orders nothing in the model.
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

/// How a poller sleeps, and how it is woken.
#[derive(Debug)]
pub enum Waker {
    /// Returns from blocking only when woken.
    Exact(OnceLock<Thread>),
    /// Returns from blocking without a reason as well, as a poller with a deadline does.
    Spurious(Notify),
}

impl Waker {
    /// For the thread that will block.
    pub fn exact() -> Self {
        Self::Exact(OnceLock::new())
    }

    /// For any one thread.
    pub fn spurious() -> Self {
        Self::Spurious(Notify::new())
    }

    /// Names the current thread as the one that will block. Before anybody can want to wake it.
    pub fn is_for_me(&self) {
        if let Self::Exact(thread) = self {
            thread.get_or_init(current);
        }
    }

    /// Makes it return, now or when it blocks next.
    pub fn wake(&self) {
        match self {
            // who has not begun to run looks around before it sleeps
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
