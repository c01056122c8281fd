//! Interest in the two directions of a socket.

use core::fmt;

/// The directions of a socket that a driver watches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Interest(u8);

impl Interest {
    /// Neither direction: the socket stays registered, and nothing is reported.
    pub const NONE: Self = Self(0);
    /// Reading: bytes, a connection to accept, the end of the stream, an error.
    pub const READ: Self = Self(1);
    /// Writing: room to send, the outcome of a connect, an error.
    pub const WRITE: Self = Self(2);
    /// Both directions.
    pub const BOTH: Self = Self(3);

    /// Creates an interest from a flag for each direction.
    #[must_use]
    pub const fn new(read: bool, write: bool) -> Self {
        Self(read as u8 | (write as u8) << 1)
    }

    /// Returns whether reading is watched.
    #[must_use]
    pub const fn reads(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// Returns whether writing is watched.
    #[must_use]
    pub const fn writes(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Returns whether neither direction is watched.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Returns the union of both interests.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns this interest without the directions of the other.
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
