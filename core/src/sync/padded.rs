//! A cache line for oneself.

use core::ops::{Deref, DerefMut};

/// Keeps `T` on cache lines of its own, for counters and queues that different cores write to.
///
/// Two lines of 64 bytes: today's large cores fetch them in pairs. On a machine with one core, leave it away.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Padded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsRef<U>, U: ?Sized> AsRef<U> for Padded<T> {
    fn as_ref(&self) -> &U {
        self.0.as_ref()
    }
}
