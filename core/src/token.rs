//! Identities: sockets, pollers, listeners.

#![expect(clippy::cast_possible_truncation, reason = "parts are cut out of the word on purpose")]

use core::fmt;

/// Number of a poller within its engine, 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PollerId(pub u8);

/// Number of a listener within its engine, 0 to 255.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ListenerId(pub u8);

/// Identity of one socket: its poller, its place in the poller's table and a generation that
/// changes whenever the place is used again.
///
/// Tokens are issued by the [`Shard`](crate::Shard). A token whose socket has gone never reaches
/// another socket: look-ups compare all 32 bits of the generation, and every operation on a stale
/// token answers *gone*. A shard starts its generations at [`Config::salt`](crate::Config), so that
/// tokens of different engines differ too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u64);

impl Token {
    /// How many sockets one poller can hold: 2^24.
    pub const MAX_INDEX: u32 = (1 << 24) - 1;

    pub(crate) const fn new(poller: PollerId, index: u32, generation: u32) -> Self {
        debug_assert!(index <= Self::MAX_INDEX);
        Self((generation as u64) << 32 | (poller.0 as u64) << 24 | index as u64)
    }

    /// The token of another place of the same poller, `generation` steps on.
    #[inline]
    pub(crate) const fn at(self, index: u32, generation: u32) -> Self {
        Self(self.0.wrapping_add((generation as u64) << 32) | index as u64)
    }

    /// The poller that owns the socket.
    #[must_use]
    pub const fn poller(self) -> PollerId {
        PollerId((self.0 >> 24) as u8)
    }

    /// The socket's place in its poller's table, below [`Config::sockets`](crate::Config).
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32 & Self::MAX_INDEX
    }

    /// Which use of the place this is.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The token as one word, to go through an operating system's event queue.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The token that [`to_bits`](Self::to_bits) gave. Other words give tokens that are simply gone.
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

/// `poller:index#generation`
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.poller().0, self.index(), self.generation())
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
