//! Peers as scripts, and the connections to them.

use std::collections::VecDeque;
use std::sync::Arc;

use lightcone_core::{Address, ErrorKind};

use crate::trace::{What, note};
use crate::world::World;

/// The most steps of a peer.
pub const STEPS_MAX: usize = 32;

/// A peer that follows a script: what it says, what it waits to hear, how it ends.
///
/// A step follows the one before as soon as the poller looks. A script that is through leaves the connection open;
/// the model ends when all scripts are.
///
/// ```
/// use lightcone_model::Peer;
///
/// let peer = Peer::new().says("hello\n").hears("hello\n").ends();
/// ```
#[derive(Clone, Default, Debug)]
#[must_use]
pub struct Peer {
    steps: VecDeque<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Says(Vec<u8>),
    Hears(Vec<u8>),
    HearsBytes(usize),
    Ends,
    Resets,
}

impl Peer {
    /// Connects, and nothing more.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends bytes; they are received with one call.
    pub fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Says(bytes.as_ref().to_vec()))
    }

    /// Waits for exactly these bytes. Others fail the model.
    pub fn hears(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Hears(bytes.as_ref().to_vec()))
    }

    /// Waits for as many bytes, whatever they are.
    pub fn hears_bytes(self, n: usize) -> Self {
        self.then(Step::HearsBytes(n))
    }

    /// Ends its side of the connection, and goes on hearing.
    pub fn ends(self) -> Self {
        self.then(Step::Ends)
    }

    /// Breaks the connection off.
    pub fn resets(self) -> Self {
        self.then(Step::Resets)
    }

    fn then(mut self, step: Step) -> Self {
        assert!(self.steps.len() < STEPS_MAX, "a peer has more steps than the {STEPS_MAX} that are allowed");
        self.steps.push_back(step);
        self
    }
}

/// What a receive gives.
pub(crate) enum Received {
    Bytes(Vec<u8>),
    End,
    Failed(ErrorKind),
}

/// Returns the address of a peer that connects.
pub(crate) fn address(peer: usize) -> Address {
    // 198.51.100.0/24 is for examples
    Address::Inet(([198, 51, 100, peer as u8], 49_152).into())
}

/// One peer's connection, as a poller owns it. It is closed, never only dropped: so are the connections of stacks whose
/// handles do not close when they are dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: usize,
    closed: bool,
    steps: VecDeque<Step>,
    heard: Vec<u8>,
    /// How much of what was heard is accounted for by the script.
    checked: usize,
    world: Arc<World>,
}

impl Connection {
    pub(crate) fn new(peer: usize, script: Peer, world: Arc<World>) -> Self {
        let mut connection =
            Self { peer, closed: false, steps: script.steps, heard: Vec::new(), checked: 0, world };
        connection.go_on();
        connection
    }

    pub(crate) fn is_readable(&self) -> bool {
        matches!(self.steps.front(), Some(Step::Says(_) | Step::Ends | Step::Resets))
    }

    /// At most `room` bytes. Only if it is readable.
    pub(crate) fn receive(&mut self, room: usize) -> Received {
        let received = match self.steps.pop_front() {
            Some(Step::Says(mut bytes)) => {
                if bytes.len() > room {
                    self.steps.push_front(Step::Says(bytes.split_off(room)));
                }
                Received::Bytes(bytes)
            }
            Some(Step::Ends) => Received::End,
            Some(Step::Resets) => Received::Failed(ErrorKind::ConnectionReset),
            step @ (None | Some(Step::Hears(_) | Step::HearsBytes(_))) => {
                unreachable!("peer {} has nothing to receive: {step:?}", self.peer)
            }
        };
        self.go_on();
        received
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        note(None, What::Hears(self.peer, bytes.to_vec()));
        self.heard.extend_from_slice(bytes);
        self.go_on();
    }

    pub(crate) fn close(mut self) {
        self.closed = true;
    }

    /// Goes on to the next step that takes the poller, and tells how far it is.
    fn go_on(&mut self) {
        loop {
            let heard = self.heard.get(self.checked..).unwrap_or_default();
            let wanted = match self.steps.front() {
                Some(Step::Hears(wanted)) => {
                    let common = heard.len().min(wanted.len());
                    assert!(
                        heard[..common] == wanted[..common],
                        "peer {} was to hear \"{}\" and heard \"{}\"",
                        self.peer,
                        wanted.escape_ascii(),
                        heard.escape_ascii()
                    );
                    wanted.len()
                }
                Some(Step::HearsBytes(wanted)) => *wanted,
                Some(Step::Says(_) | Step::Ends | Step::Resets) => break,
                None => return self.world.peer_is_through(self.peer, &self.heard),
            };
            if heard.len() < wanted {
                break;
            }
            self.checked += wanted;
            self.steps.pop_front();
        }
        let waits = format!("{:?}", self.steps.front());
        self.world.peer_waits(self.peer, &self.heard, waits);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        note(None, What::Gone(self.peer));
        self.world.peer_is_through(self.peer, &self.heard);
        if !self.closed && !std::thread::panicking() {
            self.world.fail(format!("the connection of peer {} was lost, and not closed", self.peer));
        }
    }
}

/// Peers that have connected and wait to be accepted.
#[derive(Debug)]
pub struct Arrivals(VecDeque<Connection>);

impl Arrivals {
    pub(crate) fn new(peers: VecDeque<Connection>) -> Self {
        Self(peers)
    }

    pub(crate) fn accept(&mut self) -> Option<Connection> {
        self.0.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn close(self) {
        self.0.into_iter().for_each(Connection::close);
    }
}
