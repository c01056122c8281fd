//! Deliberately broken drivers (mutants), which prove that the checks can fail.

use core::fmt::Debug;

use lightcone_core::{Instant, Token};

/// The points at which a simulated driver can be broken. The default of each method is correct. A *mutant*
/// overrides one of them, and a simulation with it must fail.
///
/// [`Unmutated`] overrides none.
pub trait Mutant: Debug {
    /// Returns whether the poller is notified that a socket is writable.
    fn tells_writable(&mut self, token: Token) -> bool {
        let _ = token;
        true
    }

    /// Returns when the poller wakes up, given its deadline.
    fn wakes(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        deadline
    }

    /// Returns the socket that receives an event, a completion or an external close addressed to `token`.
    /// `there` is the socket that occupies its slot now.
    fn addressee(&mut self, token: Token, there: Option<Token>) -> Token {
        let _ = there;
        token
    }

    /// Returns whether a completion driver reports bytes as sent only after they have been sent.
    fn keeps_in_flight(&mut self) -> bool {
        true
    }

    /// Returns the number of undelivered bytes that is reported to the poller; the correct number is `bytes`.
    fn undelivered(&mut self, bytes: usize) -> usize {
        bytes
    }

    /// Returns how many of the `bytes` in transit at a clean close are delivered; the poller assumes all.
    fn tail(&mut self, bytes: usize) -> usize {
        bytes
    }

    /// Returns whether a wait that has no room for all events is reported to the poller as such.
    fn tells_full_wait(&mut self) -> bool {
        true
    }

    /// Returns whether a stopping poller still receives the bytes that have arrived.
    fn looks_last(&mut self) -> bool {
        true
    }
}

/// A correct driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmutated;

impl Mutant for Unmutated {}
