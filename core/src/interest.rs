//! Which directions of a socket to watch.

use core::fmt;

/// Which directions of a socket a driver watches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    /// Registered and silent.
    pub const NONE: Self = Self(0);
    /// Bytes, a connection to accept, the end, an error.
    pub const READ: Self = Self(1);
    /// Room to send, a connect that ended, an error.
    pub const WRITE: Self = Self(2);
    /// Both directions.
    pub const BOTH: Self = Self(3);

    /// The interest in either direction, chosen at run time.
    #[must_use]
    pub const fn new(read: bool, write: bool) -> Self {
        Self(read as u8 | (write as u8) << 1)
    }

    /// Reading is watched.
    #[must_use]
    pub const fn reads(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// Writing is watched.
    #[must_use]
    pub const fn writes(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Nothing is watched.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// This and the other.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl core::ops::BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.reads(), self.writes()) {
            (false, false) => "NONE",
            (true, false) => "READ",
            (false, true) => "WRITE",
            (true, true) => "READ | WRITE",
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn interest_is_a_set_of_two() {
        for (read, write) in [(false, false), (true, false), (false, true), (true, true)] {
            let interest = Interest::new(read, write);
            assert_eq!((interest.reads(), interest.writes()), (read, write));
            assert_eq!(interest.is_none(), !read && !write);
            let unread = interest.with(Interest::READ).without(Interest::READ);
            assert_eq!(unread, interest.without(Interest::READ));
        }
        assert_eq!(Interest::READ | Interest::WRITE, Interest::BOTH);
        assert_eq!(std::format!("{:?} {:?}", Interest::BOTH, Interest::NONE), "READ | WRITE NONE");
    }
}
