//! The facts of a request that determine how its response is written.

/// A set of facts about one request, in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct ResponseMode(u8);

impl ResponseMode {
    /// The mode of nearly all requests.
    pub(crate) const PLAIN: Self = Self::KEEP_ALIVE;
    /// Another request may follow.
    pub(crate) const KEEP_ALIVE: Self = Self(1);
    /// A `HEAD` request: the response has no body.
    pub(crate) const HEAD_ONLY: Self = Self(2);
    /// The client speaks HTTP/1.0: no chunks, and a connection that stays open has to be announced.
    pub(crate) const HTTP_10: Self = Self(4);
    /// The client waits for `100 Continue` before it sends its body.
    pub(crate) const EXPECT_CONTINUE: Self = Self(8);

    pub(crate) const fn has(self, fact: Self) -> bool {
        self.0 & fact.0 != 0
    }

    #[inline(always)]
    pub(crate) const fn with(self, fact: Self, holds: bool) -> Self {
        Self(self.0 & !fact.0 | if holds { fact.0 } else { 0 })
    }

    pub(crate) const fn set(&mut self, fact: Self, holds: bool) {
        *self = self.with(fact, holds);
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the facts for these bits; unused bits are dropped.
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits & 15)
    }

    /// Notes that the connection ends after the response.
    pub(crate) const fn close(&mut self) {
        self.set(Self::KEEP_ALIVE, false);
    }
}

impl core::fmt::Debug for ResponseMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let names = [
            (Self::KEEP_ALIVE, "keep-alive"),
            (Self::HEAD_ONLY, "bodiless"),
            (Self::HTTP_10, "old"),
            (Self::EXPECT_CONTINUE, "expects"),
        ];
        f.debug_set().entries(names.iter().filter(|(fact, _)| self.has(*fact)).map(|(_, name)| name)).finish()
    }
}
