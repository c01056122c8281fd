//! Padding to separate cache lines.

use core::ops::{Deref, DerefMut};

/// Keeps `T` on separate cache lines, for counters and queues that different cores write to.
///
/// The alignment is two lines of 64 bytes, because large cores fetch lines in pairs. On a machine with one core it is
/// unnecessary.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(align(128))]
pub struct CachePadded<T>(pub T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for CachePadded<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsRef<U>, U: ?Sized> AsRef<U> for CachePadded<T> {
    fn as_ref(&self) -> &U {
        self.0.as_ref()
    }
}
