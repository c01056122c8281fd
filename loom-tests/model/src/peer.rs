//! Scripted peers, and the connections to them.

use std::collections::VecDeque;
use std::sync::Arc;

use lightcone_core::{Address, ErrorKind};

use crate::trace::{What, note};
use crate::world::World;

/// The maximum number of steps of a peer.
pub const STEPS_MAX: usize = 32;

/// A peer that follows a script: what it sends, what it waits for, how it ends.
///
/// A step follows the one before as soon as the poller looks. The connection stays open after the end of the script;
/// the model ends when all scripts have finished.
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
    /// Creates a peer that connects and does nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends bytes, which one call receives.
    pub fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Says(bytes.as_ref().to_vec()))
    }

    /// Waits for exactly these bytes. Other bytes fail the model.
    pub fn hears(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Hears(bytes.as_ref().to_vec()))
    }

    /// Waits for this number of bytes, with any content.
    pub fn hears_bytes(self, n: usize) -> Self {
        self.then(Step::HearsBytes(n))
    }

    /// Ends (half-closes) its side of the connection, and still receives.
    pub fn ends(self) -> Self {
        self.then(Step::Ends)
    }

    /// Resets the connection.
    pub fn resets(self) -> Self {
        self.then(Step::Resets)
    }

    fn then(mut self, step: Step) -> Self {
        assert!(self.steps.len() < STEPS_MAX, "a peer has more steps than the {STEPS_MAX} allowed");
        self.steps.push_back(step);
        self
    }
}

/// The result of a receive.
pub(crate) enum Received {
    Bytes(Vec<u8>),
    End,
    Failed(ErrorKind),
}

/// Returns the address of a peer that connects.
pub(crate) fn address(peer: usize) -> Address {
    // 198.51.100.0/24 is reserved for examples
    Address::Inet(([198, 51, 100, peer as u8], 49_152).into())
}

/// The connection of one peer, which a poller owns. Dropping it without `close` fails the model, because with some
/// stacks a dropped handle does not close the connection.
#[derive(Debug)]
pub(crate) struct ModelConnection {
    pub(crate) peer: usize,
    closed: bool,
    steps: VecDeque<Step>,
    heard: Vec<u8>,
    /// The number of bytes heard that steps of the script have accounted for.
    checked: usize,
    world: Arc<World>,
}

impl ModelConnection {
    pub(crate) fn new(peer: usize, script: Peer, world: Arc<World>) -> Self {
        let mut connection =
            Self { peer, closed: false, steps: script.steps, heard: Vec::new(), checked: 0, world };
        connection.go_on();
        connection
    }

    pub(crate) fn is_readable(&self) -> bool {
        matches!(self.steps.front(), Some(Step::Says(_) | Step::Ends | Step::Resets))
    }

    /// Receives at most `room` bytes. Call it only if the connection is readable.
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
                unreachable!("peer {} has sent nothing: {step:?}", self.peer)
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

    /// Skips steps that are satisfied, up to one that needs the poller, and records the progress.
    fn go_on(&mut self) {
        loop {
            let heard = self.heard.get(self.checked..).unwrap_or_default();
            let wanted = match self.steps.front() {
                Some(Step::Hears(wanted)) => {
                    // compares what has arrived so far, so that a wrong byte fails the model at once
                    let common = heard.len().min(wanted.len());
                    assert!(
                        heard[..common] == wanted[..common],
                        "peer {} should hear \"{}\" but heard \"{}\"",
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

impl Drop for ModelConnection {
    fn drop(&mut self) {
        note(None, What::Gone(self.peer));
        // a closed connection ends its script, even if steps are left: the model waits for all scripts
        self.world.peer_is_through(self.peer, &self.heard);
        if !self.closed && !std::thread::panicking() {
            self.world.fail(format!("the connection of peer {} was lost, and not closed", self.peer));
        }
    }
}

/// Peers that have connected and wait to be accepted.
#[derive(Debug)]
pub struct Arrivals(VecDeque<ModelConnection>);

impl Arrivals {
    pub(crate) fn new(peers: VecDeque<ModelConnection>) -> Self {
        Self(peers)
    }

    pub(crate) fn accept(&mut self) -> Option<ModelConnection> {
        self.0.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn close(self) {
        self.0.into_iter().for_each(ModelConnection::close);
    }
}
