//! The life cycle of a socket, as one transition table.
//!
//! ```text
//!         Reserve             Connect              Connected
//!  Free ----------> Reserved --------> Connecting ----------+
//!   |                                                       |
//!   | Accept                                                v
//!   +----------------------------------------------------> Open
//!
//!  Open        -- Finish ------> Finishing -- WriteShut -> Finished   half-closed by this side
//!  Open        -- PeerEnd -----> PeerClosed                           half-closed by the peer
//!  Finishing   -- PeerEnd -----> Draining                             both sides have ended
//!  PeerClosed  -- Finish ------> Draining                             both sides have ended
//!  Finished    -- PeerEnd -----> Closed                               both sides have ended
//!
//!  Open, Finishing, Finished, PeerClosed:
//!    -- Close ---> Draining -- Flushed --> Closed                     all known input was read
//!    -- Linger --> PreLinger -- WriteShut --> Lingering -- PeerEnd --> Closed
//!                  PreLinger -- PeerEnd --> Draining
//!  except that Finished has nothing left to send (Close -> Closed, Linger -> Lingering)
//!  and PeerClosed has nothing left to read (Linger -> Draining)
//!
//!  Connecting  -- Close, Linger --> Closed
//!  any state from Connecting to Lingering -- Fail, Expire, Abort --> Closed
//!  Reserved    -- Release -----> Free                                 no connect was started
//!  Closed      -- Release -----> Free                                 the shard returned `Action::Close`
//! ```
//!
//! [`next`] is the only place that determines a change of state. A test compares it with `life.txt`, which
//! lists every pair of state and transition.

#[doc = concat!("```text\n", include_str!("life.txt"), "```")]
pub mod table {}

/// The state of a socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// The slot is not in use.
    Free,
    /// The slot is reserved for a connect that a handler may start.
    Reserved,
    /// The connect is in progress.
    Connecting,
    /// Both directions are open.
    Open,
    /// `finish` was called. Queued output is sent, then writing is shut down. Reading continues.
    Finishing,
    /// Writing is shut down. Reading continues.
    Finished,
    /// The peer has ended its stream. Writing continues.
    PeerClosed,
    /// `close` was called. Queued output is sent, then the socket closes.
    Draining,
    /// The first stage of a staged close: queued output is sent, then writing is shut down. Input is
    /// discarded.
    PreLinger,
    /// The second stage of a staged close: writing is shut down, and input is discarded until the peer ends
    /// its stream.
    Lingering,
    /// The socket has ended. `close` or `refused` is pending or was delivered; the driver has yet to close
    /// the connection.
    Closed,
}

/// A step in the life cycle of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transition {
    /// The slot is reserved.
    Reserve,
    /// An accepted socket is admitted.
    Accept,
    /// A reserved slot starts to connect.
    Connect,
    /// The connect succeeded.
    Connected,
    /// The peer ended its stream.
    PeerEnd,
    /// The handler called `finish`.
    Finish,
    /// The handler or the engine called `close`.
    Close,
    /// A close that first has to read and discard input: `linger`, or `close` with unread input.
    Linger,
    /// All queued output was sent.
    Flushed,
    /// The driver has shut down writing.
    WriteShut,
    /// The handler called `abort`.
    Abort,
    /// A call failed (the connection was reset or refused, for example), the handler panicked, or the driver ended
    /// the socket.
    Fail,
    /// A timeout of the engine passed.
    Expire,
    /// The shard returned `Action::Close` for the socket, or a reserved slot was released.
    Release,
}

/// The effect of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// The socket changes to this state.
    To(State),
    /// No change: the step repeats an earlier one, or an earlier one has overtaken it.
    Same,
    /// The step is invalid in this state: a bug in the driver or the shard.
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
        Self::PreLinger,
        Self::Lingering,
        Self::Closed,
    ];

    /// Returns whether the handler still receives events other than the last one.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Open | Self::Finishing | Self::Finished | Self::PeerClosed)
    }

    /// Returns whether bytes are received from the peer. They are delivered in live states and discarded in
    /// others.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Open | Self::Finishing | Self::Finished | Self::PreLinger | Self::Lingering)
    }

    /// Returns whether the handler may queue output.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Open | Self::PeerClosed)
    }
}

impl Transition {
    /// All steps.
    pub const ALL: [Self; 14] = [
        Self::Reserve,
        Self::Accept,
        Self::Connect,
        Self::Connected,
        Self::PeerEnd,
        Self::Finish,
        Self::Close,
        Self::Linger,
        Self::Flushed,
        Self::WriteShut,
        Self::Abort,
        Self::Fail,
        Self::Expire,
        Self::Release,
    ];
}

/// Returns the effect of `step` on a socket in `state`.
#[must_use]
#[expect(
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    reason = "one table; every other transition is illegal, and `life.txt` lists all pairs"
)]
pub const fn next(state: State, step: Transition) -> Change {
    use Change::{Illegal, Same, To};
    match state {
        State::Free => match step {
            Transition::Reserve => To(State::Reserved),
            Transition::Accept => To(State::Open),
            _ => Illegal,
        },
        State::Reserved => match step {
            Transition::Connect => To(State::Connecting),
            Transition::Release => To(State::Free),
            _ => Illegal,
        },
        State::Connecting => match step {
            Transition::Connected => To(State::Open),
            // nothing has been queued before `open`, so nothing is left to send or to read
            Transition::Close
            | Transition::Linger
            | Transition::Abort
            | Transition::Fail
            | Transition::Expire => To(State::Closed),
            _ => Illegal,
        },
        State::Open => match step {
            Transition::PeerEnd => To(State::PeerClosed),
            Transition::Finish => To(State::Finishing),
            other => ending(other),
        },
        State::Finishing => match step {
            // both directions have ended: queued output is sent, then the socket closes
            Transition::PeerEnd => To(State::Draining),
            Transition::Finish => Same,
            Transition::WriteShut => To(State::Finished),
            other => ending(other),
        },
        State::Finished => match step {
            Transition::PeerEnd => To(State::Closed),
            Transition::Finish => Same,
            // everything was sent and writing is shut down, so the stages that do this are left out
            Transition::Close => To(State::Closed),
            Transition::Linger => To(State::Lingering),
            other => ending(other),
        },
        State::PeerClosed => match step {
            Transition::PeerEnd => Same,
            // nothing is left to read, so both are the same as closing
            Transition::Finish | Transition::Linger => To(State::Draining),
            other => ending(other),
        },
        State::Draining => match step {
            Transition::Flushed => To(State::Closed),
            Transition::Abort | Transition::Fail | Transition::Expire => To(State::Closed),
            Transition::PeerEnd | Transition::Finish | Transition::Close | Transition::Linger => Same,
            _ => Illegal,
        },
        State::PreLinger => match step {
            // no more input will come that would have to be discarded
            Transition::PeerEnd => To(State::Draining),
            Transition::WriteShut => To(State::Lingering),
            Transition::Abort | Transition::Fail | Transition::Expire => To(State::Closed),
            Transition::Finish | Transition::Close | Transition::Linger | Transition::Flushed => Same,
            _ => Illegal,
        },
        State::Lingering => match step {
            Transition::PeerEnd | Transition::Abort | Transition::Fail | Transition::Expire => {
                To(State::Closed)
            }
            Transition::Finish | Transition::Close | Transition::Linger => Same,
            _ => Illegal,
        },
        State::Closed => match step {
            // The driver may report more until it has carried out the close, and `close` may request an abort.
            Transition::Release => To(State::Free),
            Transition::Reserve
            | Transition::Accept
            | Transition::Connect
            | Transition::Connected
            | Transition::WriteShut => Illegal,
            _ => Same,
        },
    }
}

/// Returns the effect of the transitions that end a live socket in the same way in all four live states.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other transition is illegal; `life.txt` lists all pairs"
)]
const fn ending(step: Transition) -> Change {
    match step {
        Transition::Close => Change::To(State::Draining),
        Transition::Linger => Change::To(State::PreLinger),
        Transition::Abort | Transition::Fail | Transition::Expire => Change::To(State::Closed),
        Transition::Flushed => Change::Same,
        _ => Change::Illegal,
    }
}

#[cfg(test)]
#[expect(
    clippy::excessive_nesting,
    clippy::wildcard_enum_match_arm,
    reason = "loops over all pairs of states and transitions"
)]
mod tests {
    extern crate std;
    use super::*;
    use std::fmt::Write as _;
    use std::string::String;

    fn rendered() -> String {
        let mut out = String::new();
        write!(out, "{:<11}", "").unwrap();
        for step in Transition::ALL {
            let name = std::format!("{step:?}");
            write!(out, " {name:<10}").unwrap();
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        for state in State::ALL {
            let mut line = std::format!("{:<11}", std::format!("{state:?}"));
            for step in Transition::ALL {
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
                for step in Transition::ALL {
                    if let Change::To(to) = next(from, step)
                        && !reached.contains(&to)
                    {
                        reached.push(to);
                    }
                }
            }
            assert!(reached.contains(&State::Free), "no steps lead from {state:?} to Free");
        }
    }

    #[test]
    fn every_live_state_ends_at_once_on_failure() {
        for state in State::ALL {
            for step in [Transition::Fail, Transition::Expire, Transition::Abort] {
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
            for step in Transition::ALL {
                if next(state, step) == Change::To(State::Free) {
                    assert_eq!(step, Transition::Release);
                    assert!(matches!(state, State::Closed | State::Reserved));
                }
            }
        }
        assert_eq!(next(State::Free, Transition::Release), Change::Illegal);
    }

    #[test]
    fn nothing_reads_after_the_peer_has_ended() {
        for state in State::ALL {
            if let Change::To(to) = next(state, Transition::PeerEnd) {
                assert!(!to.reads(), "{state:?}");
            }
        }
    }

    #[test]
    fn a_closed_socket_never_opens_again() {
        for state in [State::Draining, State::PreLinger, State::Lingering, State::Closed] {
            for step in Transition::ALL {
                if let Change::To(to) = next(state, step) {
                    assert!(!to.is_live() && to != State::Connecting, "{state:?} {step:?}");
                }
            }
        }
    }
}
