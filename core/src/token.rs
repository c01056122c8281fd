//! Identifiers of sockets, pollers and listeners.

#![expect(clippy::cast_possible_truncation, reason = "the casts extract parts of the word")]

use core::fmt;

/// The number of a poller within its engine, 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PollerId(pub u8);

/// Formats as the number.
impl fmt::Display for PollerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a listener within its engine, 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ListenerId(pub u8);

/// Formats as the number.
impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of one socket: its poller, its place in the poller's table, and a generation that changes whenever the
/// place is reused.
///
/// The [`Shard`](crate::Shard) issues tokens. A token of a closed socket never reaches another socket: lookups compare
/// all 32 bits of the generation, and operations on a stale token report that the socket is *gone*. A shard starts its
/// generations at [`Config::generation_seed`](crate::Config), so that tokens of different engines differ too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// The highest place of a socket. One poller holds at most 2^24 sockets.
    pub const MAX_INDEX: u32 = (1 << 24) - 1;

    pub(crate) const fn new(poller: PollerId, index: u32, generation: u32) -> Self {
        debug_assert!(index <= Self::MAX_INDEX);
        Self((generation as u64) << 32 | (poller.0 as u64) << 24 | index as u64)
    }

    /// Returns the token of place `index`, `generation` steps later, where this is the token of place 0.
    #[inline]
    pub(crate) const fn at(self, index: u32, generation: u32) -> Self {
        Self(self.0.wrapping_add((generation as u64) << 32) | index as u64)
    }

    /// Returns the poller that owns the socket.
    #[must_use]
    pub const fn poller(self) -> PollerId {
        PollerId((self.0 >> 24) as u8)
    }

    /// Returns the socket's place in its poller's table, below [`Config::sockets`](crate::Config).
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32 & Self::MAX_INDEX
    }

    /// Returns the generation, which differs between the sockets at one place.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the token as one word, for example to pass it through an operating system's event queue.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the token of a word from [`to_bits`](Self::to_bits). A word that was never issued makes a stale token.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// Formats as `poller:index#generation`.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.poller(), self.index(), self.generation())
    }
}

/// Formats as `Debug` does.
#[cfg(feature = "defmt")]
impl defmt::Format for Token {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Token({=u8}:{=u32}#{=u32})", self.poller().0, self.index(), self.generation());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_packing() {
        for (poller, index, generation) in
            [(0, 0, 0), (255, Token::MAX_INDEX, u32::MAX), (3, 77, 1), (1, 0, 0x8000_0000)]
        {
            let token = Token::new(PollerId(poller), index, generation);
            assert_eq!(token.poller(), PollerId(poller));
            assert_eq!(token.index(), index);
            assert_eq!(token.generation(), generation);
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }
}
