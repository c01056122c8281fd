//! The life of a socket, as one table.
//!
//! ```text
//!          Reserve             Dial                  Connected
//!   Free ----------> Reserved -------> Connecting ---------------+
//!    |                                     | Fail Expire Abort   |
//!    |  Accept                             v                     v
//!    +---------------------------------> Closed <--+           Open
//!                                                  |             |
//!        Fail, Expire, Abort from every live state |             |
//!                                                  |             |
//!   Open      -- Finish -----> Finishing -- Shut --> Finished    |  half closed by us
//!   Open      -- PeerEnd ----> PeerClosed                        |  half closed by the peer
//!   any of the four -- Close -> Draining -- Flushed ----> Closed |  nothing unread is known of
//!   any of the four -- Linger-> Parting -- Shut --> Lingering -- PeerEnd, Expire --> Closed
//!
//!   Closed -- Release --> Free      when the driver has taken the order to close
//! ```
//!
//! [`next`] is the only place where a state changes; its text form in `life.txt` is compared with
//! the code by a test.

#[doc = concat!("```text\n", include_str!("life.txt"), "```")]
pub mod table {}

/// Where a socket is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// The slot is not in use.
    Free,
    /// Set aside for a connect that a handler may ask for.
    Reserved,
    /// Waiting for the network's answer to a connect.
    Connecting,
    /// Both directions are open.
    Open,
    /// `finish` was called: output is still to leave, then writing is shut down. Reading goes on.
    Finishing,
    /// Writing is shut down; reading goes on.
    Finished,
    /// The peer has ended its side; writing goes on.
    PeerClosed,
    /// `close` was called: output is still to leave, then the socket closes.
    Draining,
    /// A staged close: output is still to leave, then writing is shut down. Input is discarded.
    Parting,
    /// A staged close, writing is shut down: input is discarded until the peer ends.
    Lingering,
    /// Over. `close` or `refused` is due or has been given; the driver has yet to close.
    Closed,
}

/// What moves a socket through its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// The slot is set aside.
    Reserve,
    /// An accepted socket is admitted.
    Accept,
    /// A reserved slot begins to connect.
    Dial,
    /// The connect succeeded.
    Connected,
    /// The peer ended its side (end of stream).
    PeerEnd,
    /// The handler called `finish`.
    Finish,
    /// The handler called `close`, or the engine did.
    Close,
    /// A close that must read and discard first: `linger`, or `close` with unread input.
    Linger,
    /// All queued output has left.
    Flushed,
    /// The driver has shut down writing.
    Shut,
    /// The handler called `abort`, or panicked.
    Abort,
    /// A call failed: reset, broken, refused.
    Fail,
    /// A timeout of the engine passed.
    Expire,
    /// The driver has taken the order to close, or a reserved slot is given back.
    Release,
}

/// What the table says to a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The socket is now in this state.
    To(State),
    /// Nothing new: a repetition, or overtaken by what came before.
    Same,
    /// A step that can't come in this state: a fault of the driver or of the shard.
    Illegal,
}

impl State {
    /// All states.
    pub const ALL: [Self; 11] = [
        Self::Free,
        Self::Reserved,
        Self::Connecting,
        Self::Open,
        Self::Finishing,
        Self::Finished,
        Self::PeerClosed,
        Self::Draining,
        Self::Parting,
        Self::Lingering,
        Self::Closed,
    ];

    /// Whether the handler still gets events other than the last one.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Finishing | Self::Finished | Self::PeerClosed)
    }

    /// Whether bytes from the peer are of use: delivered when live, else discarded.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Open | Self::Finishing | Self::Finished | Self::Parting | Self::Lingering)
    }

    /// Whether the handler may queue output.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Open | Self::PeerClosed)
    }
}

impl Step {
    /// All steps.
    pub const ALL: [Self; 14] = [
        Self::Reserve,
        Self::Accept,
        Self::Dial,
        Self::Connected,
        Self::PeerEnd,
        Self::Finish,
        Self::Close,
        Self::Linger,
        Self::Flushed,
        Self::Shut,
        Self::Abort,
        Self::Fail,
        Self::Expire,
        Self::Release,
    ];
}

/// The table: what `step` does to a socket in `state`.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not allowed is illegal; `life.txt` shows every pair"
)]
pub const fn next(state: State, step: Step) -> Change {
    use Change::{Illegal, Same, To};
    match state {
        State::Free => match step {
            Step::Reserve => To(State::Reserved),
            Step::Accept => To(State::Open),
            _ => Illegal,
        },
        State::Reserved => match step {
            Step::Dial => To(State::Connecting),
            Step::Release => To(State::Free),
            _ => Illegal,
        },
        State::Connecting => match step {
            Step::Connected => To(State::Open),
            Step::Close | Step::Linger | Step::Abort | Step::Fail | Step::Expire => To(State::Closed),
            _ => Illegal,
        },
        State::Open => match step {
            Step::PeerEnd => To(State::PeerClosed),
            Step::Finish => To(State::Finishing),
            other => ending(other),
        },
        State::Finishing => match step {
            // both directions have ended: what is queued leaves, then the socket closes
            Step::PeerEnd => To(State::Draining),
            Step::Finish => Same,
            Step::Shut => To(State::Finished),
            other => ending(other),
        },
        State::Finished => match step {
            Step::PeerEnd => To(State::Closed),
            Step::Finish => Same,
            Step::Close => To(State::Closed),
            Step::Linger => To(State::Lingering),
            other => ending(other),
        },
        State::PeerClosed => match step {
            Step::PeerEnd => Same,
            // nothing is left to read: both are the same as closing
            Step::Finish | Step::Linger => To(State::Draining),
            other => ending(other),
        },
        State::Draining => match step {
            Step::Flushed => To(State::Closed),
            Step::Abort | Step::Fail | Step::Expire => To(State::Closed),
            Step::PeerEnd | Step::Finish | Step::Close | Step::Linger => Same,
            _ => Illegal,
        },
        State::Parting => match step {
            Step::PeerEnd => To(State::Draining),
            Step::Shut => To(State::Lingering),
            Step::Abort | Step::Fail | Step::Expire => To(State::Closed),
            Step::Finish | Step::Close | Step::Linger | Step::Flushed => Same,
            _ => Illegal,
        },
        State::Lingering => match step {
            Step::PeerEnd | Step::Abort | Step::Fail | Step::Expire => To(State::Closed),
            Step::Finish | Step::Close | Step::Linger => Same,
            _ => Illegal,
        },
        State::Closed => match step {
            Step::Release => To(State::Free),
            Step::Reserve | Step::Accept | Step::Dial | Step::Connected | Step::Shut => Illegal,
            _ => Same,
        },
    }
}

/// The steps that end a live socket the same way from all four live states.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not allowed is illegal; `life.txt` shows every pair"
)]
const fn ending(step: Step) -> Change {
    match step {
        Step::Close => Change::To(State::Draining),
        Step::Linger => Change::To(State::Parting),
        Step::Abort | Step::Fail | Step::Expire => Change::To(State::Closed),
        Step::Flushed => Change::Same,
        _ => Change::Illegal,
    }
}

#[cfg(test)]
#[expect(
    clippy::excessive_nesting,
    clippy::wildcard_enum_match_arm,
    reason = "a model beside the code, step by step"
)]
mod tests {
    extern crate std;
    use super::*;
    use std::fmt::Write as _;
    use std::string::String;

    fn rendered() -> String {
        let mut out = String::new();
        write!(out, "{:<11}", "").unwrap();
        for step in Step::ALL {
            let name = std::format!("{step:?}");
            write!(out, " {name:<10}").unwrap();
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        for state in State::ALL {
            let mut line = std::format!("{:<11}", std::format!("{state:?}"));
            for step in Step::ALL {
                let cell = match next(state, step) {
                    Change::To(to) => std::format!("{to:?}"),
                    Change::Same => ".".into(),
                    Change::Illegal => "-".into(),
                };
                write!(line, " {cell:<10}").unwrap();
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    #[test]
    fn the_printed_table_is_the_code() {
        assert_eq!(rendered(), include_str!("life.txt"), "write this into life.txt:\n{}", rendered());
    }

    #[test]
    fn every_state_but_free_can_reach_free() {
        for state in State::ALL {
            let mut reached = std::vec![state];
            let mut i = 0;
            while let Some(from) = reached.get(i).copied() {
                i += 1;
                for step in Step::ALL {
                    if let Change::To(to) = next(from, step)
                        && !reached.contains(&to)
                    {
                        reached.push(to);
                    }
                }
            }
            assert!(reached.contains(&State::Free), "{state:?} is a trap");
        }
    }

    #[test]
    fn every_live_state_ends_at_once_on_failure() {
        for state in State::ALL {
            for step in [Step::Fail, Step::Expire, Step::Abort] {
                let change = next(state, step);
                match state {
                    State::Free | State::Reserved => assert_eq!(change, Change::Illegal),
                    State::Closed => assert_eq!(change, Change::Same),
                    _ => assert_eq!(change, Change::To(State::Closed), "{state:?} {step:?}"),
                }
            }
        }
    }

    #[test]
    fn only_a_release_frees_and_only_once() {
        for state in State::ALL {
            for step in Step::ALL {
                if next(state, step) == Change::To(State::Free) {
                    assert_eq!(step, Step::Release);
                    assert!(matches!(state, State::Closed | State::Reserved));
                }
            }
        }
        assert_eq!(next(State::Free, Step::Release), Change::Illegal);
    }

    #[test]
    fn nothing_reads_after_the_peer_has_ended() {
        for state in State::ALL {
            if let Change::To(to) = next(state, Step::PeerEnd) {
                assert!(!to.reads(), "{state:?}");
            }
        }
    }

    #[test]
    fn nobody_comes_back_to_life() {
        for state in [State::Draining, State::Parting, State::Lingering, State::Closed] {
            for step in Step::ALL {
                if let Change::To(to) = next(state, step) {
                    assert!(!to.is_live() && to != State::Connecting, "{state:?} {step:?}");
                }
            }
        }
    }
}
