//! Deliberately broken drivers, to show that the checks can fail.

use core::fmt::Debug;

use lightcone_core::{Instant, Token};

/// The places at which a simulated poller can be wrong. Each method says what a sound one does; a *broken twin*
/// overrides one of them, and a simulation over it must fail.
///
/// [`Unmutated`] overrides none.
pub trait Mutant: Debug {
    /// Whether the poller is told that a socket can be written to.
    fn tells_writable(&mut self, token: Token) -> bool {
        let _ = token;
        true
    }

    /// When the poller wakes by itself, of when it wants to.
    fn wakes(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        deadline
    }

    /// Which socket an event, a completion or a close from outside is for, when it was for `token` and `there` has its
    /// place now.
    fn addressee(&mut self, token: Token, there: Option<Token>) -> Token {
        let _ = there;
        token
    }

    /// Whether a completion driver says that bytes have been sent only when they have been.
    fn keeps_in_flight(&mut self) -> bool {
        true
    }

    /// How many bytes the poller is told to be undelivered, of `bytes`.
    fn undelivered(&mut self, bytes: usize) -> usize {
        bytes
    }

    /// How many of the bytes that are to be sent last before a close are sent; the poller is told all.
    fn tail(&mut self, bytes: usize) -> usize {
        bytes
    }

    /// Whether a poller that was told to stop still gets the bytes that have come.
    fn looks_last(&mut self) -> bool {
        true
    }
}

/// A driver that is as it should be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmutated;

impl Mutant for Unmutated {}
