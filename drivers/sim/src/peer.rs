//! Scripted peers: plain clients at the other end of the network.

use core::cell::RefCell;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::Sent;

use crate::content::Content;
use crate::end::{Kind, Owner};
use crate::trace::Did;
use crate::world::World;

/// The most a peer receives or sends at once.
const PIECE: usize = 4_096;

/// How a peer takes what comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reading {
    /// At once.
    #[default]
    Fully,
    /// So many bytes, then a rest.
    Slowly {
        /// The most at once.
        bytes: usize,
        /// The time in between.
        every: Duration,
    },
    /// Not at all.
    Never,
}

/// Looks at what comes to a peer. It is called with every piece, and with which connection of the script it is, from 1.
type Look = Rc<RefCell<dyn FnMut(u32, &[u8])>>;

#[derive(Clone)]
struct Checker(Look);

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker")
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Send(Content),
    /// Until so many bytes have come in all.
    Await(u64),
    AwaitEnd,
    Pause(u64),
    HalfClose,
    Reset,
}

/// What a scripted peer does: one thing after the other, while it takes what comes in between. Behind the last step it
/// closes.
///
/// Everything that comes is compared with what the script expects, byte by byte. A connection that ends in order must
/// have brought all of it.
///
/// ```
/// use lightcone_sim::{Script, pattern};
///
/// let server: core::net::SocketAddr = ([10, 0, 0, 1], 7).into();
/// let script = Script::to(server).send("hello\n").receive("hello\n").send(&pattern(1, 100_000)).half_close();
/// # let _ = script;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a script does nothing by itself: give it to Sim::peer"]
pub struct Script {
    to: SocketAddr,
    after: u64,
    steps: Vec<Step>,
    expected: Vec<Content>,
    length: u64,
    anything: bool,
    checker: Option<Checker>,
    may_be_cut: bool,
    reading: Reading,
    reset_after: Option<u64>,
    retries: u32,
    retry_pause: u64,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Script {
    /// A peer that connects to this address.
    pub fn to(address: SocketAddr) -> Self {
        Self {
            to: address,
            after: 0,
            steps: Vec::new(),
            expected: Vec::new(),
            length: 0,
            anything: false,
            checker: None,
            may_be_cut: false,
            reading: Reading::Fully,
            reset_after: None,
            retries: 0,
            retry_pause: 0,
        }
    }

    /// Begins only after so long.
    pub fn after(mut self, span: Duration) -> Self {
        self.after = micros(span);
        self
    }

    /// Sends these bytes.
    pub fn send(mut self, content: impl Into<Content>) -> Self {
        self.steps.push(Step::Send(content.into()));
        self
    }

    /// Expects these bytes next, without waiting for them now.
    pub fn expect(mut self, content: impl Into<Content>) -> Self {
        let content = content.into();
        self.length += content.length();
        self.expected.push(content);
        self
    }

    /// Expects these bytes next, and waits until they have come.
    pub fn receive(self, content: impl Into<Content>) -> Self {
        let mut script = self.expect(content);
        script.steps.push(Step::Await(script.length));
        script
    }

    /// Waits until so many bytes have come in all.
    pub fn until_received(mut self, bytes: u64) -> Self {
        self.steps.push(Step::Await(bytes));
        self
    }

    /// Waits until the other side has ended the stream.
    pub fn until_end(mut self) -> Self {
        self.steps.push(Step::AwaitEnd);
        self
    }

    /// Waits for so long.
    pub fn pause(mut self, span: Duration) -> Self {
        self.steps.push(Step::Pause(micros(span)));
        self
    }

    /// Shuts down writing.
    pub fn half_close(mut self) -> Self {
        self.steps.push(Step::HalfClose);
        self
    }

    /// Resets the connection.
    pub fn reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }

    /// Resets the connection once so many bytes have come.
    pub fn reset_after(mut self, bytes: u64) -> Self {
        self.reset_after = Some(bytes);
        self
    }

    /// How it takes what comes.
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Takes whatever comes.
    pub fn anything(mut self) -> Self {
        self.anything = true;
        self
    }

    /// Has `look` check what comes, instead of comparing it: it is called with each piece and with the number of the
    /// connection, from 1, of a script that begins anew. It panics when something is not as it should be.
    pub fn checked(mut self, look: impl FnMut(u32, &[u8]) + 'static) -> Self {
        self.anything = true;
        self.checker = Some(Checker(Rc::new(RefCell::new(look))));
        self
    }

    /// The other side may end the stream in order before everything expected has come.
    pub fn may_be_cut(mut self) -> Self {
        self.may_be_cut = true;
        self
    }

    /// Begins anew, so often, after so long, when the connection fails or is cut.
    pub fn retry(mut self, times: u32, pause: Duration) -> Self {
        self.retries = times;
        self.retry_pause = micros(pause);
        self
    }
}

/// How a peer's script ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It still goes on.
    Running,
    /// All steps were done.
    Done,
    /// The connection failed, was reset, or was ended before all steps were done.
    Cut,
}

/// A peer as it stands.
#[derive(Debug)]
pub(crate) struct Peer {
    script: Script,
    end: Option<u32>,
    step: usize,
    /// How much of the step is done: bytes sent, or when a pause ends.
    done: u64,
    pub(crate) received: u64,
    /// Which of the expected contents comes next, and how many bytes are before it.
    content: usize,
    before: u64,
    /// When the next slow read may be.
    reads_at: u64,
    saw_end: bool,
    pub(crate) tries: u32,
    pub(crate) outcome: Outcome,
    pub(crate) wakes: u64,
    pub(crate) steps: u32,
}

impl Peer {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            script,
            end: None,
            step: 0,
            done: 0,
            received: 0,
            content: 0,
            before: 0,
            reads_at: 0,
            saw_end: false,
            tries: 0,
            outcome: Outcome::Running,
            wakes: u64::MAX,
            steps: 0,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.outcome != Outcome::Running
    }

    pub(crate) fn begins_after(&self) -> u64 {
        self.script.after
    }

    fn restart(&mut self) {
        self.step = 0;
        self.done = 0;
        self.received = 0;
        self.content = 0;
        self.before = 0;
        self.saw_end = false;
    }

    /// What it waits for, in words.
    pub(crate) fn waits_for(&self) -> String {
        let step = self.script.steps.get(self.step);
        let all = self.script.steps.len();
        format!(
            "step {} of {all} ({step:?}), {} of {} bytes received",
            self.step, self.received, self.script.length
        )
    }

    fn compare(&mut self, number: u32, bytes: &[u8]) {
        if let Some(Checker(look)) = &self.script.checker {
            look.borrow_mut()(self.tries, bytes);
        }
        if self.script.anything {
            self.received += bytes.len() as u64;
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(content) = self.script.expected.get(self.content) else {
                panic!(
                    "streams: peer {number} received {} bytes more than the {} it expects: {:?}",
                    rest.len(),
                    self.script.length,
                    String::from_utf8_lossy(&rest[..rest.len().min(80)])
                );
            };
            let offset = self.received - self.before;
            let here = usize::try_from(content.length() - offset).unwrap_or(usize::MAX).min(rest.len());
            let same = content.matches(offset, &rest[..here]);
            assert!(
                same == here,
                "streams: peer {number} received a wrong byte at {}: {:?} came",
                self.received + same as u64,
                String::from_utf8_lossy(&rest[same..rest.len().min(same + 80)])
            );
            self.received += here as u64;
            rest = &rest[here..];
            if offset + here as u64 == content.length() {
                self.before += content.length();
                self.content += 1;
            }
        }
    }
}

/// Whether a peer can go on at once.
enum Going {
    On,
    Waits,
    Lost,
}

impl World {
    pub(crate) fn step_peer(&mut self, number: u32) {
        let mut peer = core::mem::replace(&mut self.peers[number as usize], Peer::new(Script::to(NOWHERE)));
        peer.wakes = u64::MAX;
        let mut again = None;
        self.trace.note(Did::Peer, number.into(), peer.step as u64);
        if !peer.is_over() {
            again = self.go_on(&mut peer, number);
            self.running -= usize::from(peer.is_over());
        }
        self.peers[number as usize] = peer;
        if let Some(at) = again {
            self.wake_peer(number, at);
        }
    }

    fn go_on(&mut self, peer: &mut Peer, number: u32) -> Option<u64> {
        let Some(end) = peer.end else {
            peer.tries += 1;
            let end = self.connect(Owner::Peer(number), peer.script.to);
            peer.end = Some(end);
            return None;
        };
        match self.end(end).kind {
            Kind::Connecting => return None,
            Kind::Failed(_) => return self.lose_peer(peer, end),
            Kind::Connected | Kind::Free | Kind::Listener => {}
        }
        let reads_again = self.peer_receives(peer, number, end);
        if peer.script.reset_after.is_some_and(|bytes| peer.received >= bytes) {
            self.waive(end);
            self.close(end, true);
            peer.end = None;
            peer.outcome = Outcome::Cut;
            return None;
        }
        let mut later = reads_again;
        loop {
            match self.peer_acts(peer, end, &mut later) {
                Going::On => {}
                Going::Waits => break,
                Going::Lost => return self.lose_peer(peer, end),
            }
            peer.end?;
        }
        if peer.saw_end && !self.ends_well(peer) {
            return self.lose_peer(peer, end);
        }
        later
    }

    /// Whether a peer whose stream has ended can still do what its script says.
    fn ends_well(&self, peer: &Peer) -> bool {
        !peer.script.steps[peer.step..].iter().any(|step| match step {
            Step::Await(bytes) => peer.received < *bytes,
            _ => false,
        })
    }

    fn peer_receives(&mut self, peer: &mut Peer, number: u32, end: u32) -> Option<u64> {
        let mut buffer = core::mem::take(&mut self.buffer);
        buffer.resize(PIECE, 0);
        let mut again = None;
        loop {
            let there = self.end(end).arrived;
            let most = match peer.script.reading {
                Reading::Fully => PIECE,
                Reading::Never => 0,
                Reading::Slowly { .. } if peer.reads_at > self.now => {
                    again = Some(peer.reads_at);
                    0
                }
                Reading::Slowly { bytes, every } => {
                    peer.reads_at = self.now + micros(every).max(1);
                    bytes
                }
            };
            let n = there.min(most).min(PIECE);
            if n == 0 {
                break;
            }
            self.take(end, &mut buffer[..n]);
            peer.compare(number, &buffer[..n]);
        }
        self.buffer = buffer;
        let place = self.end(end);
        if place.arrived == 0
            && place.bytes.is_empty()
            && place.ended
            && place.error.is_none()
            && !peer.saw_end
        {
            peer.saw_end = true;
            let whole = peer.received >= peer.script.length;
            let may = place.excused || peer.script.may_be_cut || peer.script.anything;
            assert!(
                whole || may,
                "streams: peer {number} saw an end in good order after {} of {} bytes",
                peer.received,
                peer.script.length
            );
        }
        again.filter(|_| self.end(end).arrived > 0)
    }

    fn peer_acts(&mut self, peer: &mut Peer, end: u32, later: &mut Option<u64>) -> Going {
        if self.end(end).error.is_some() && self.end(end).arrived == 0 {
            return Going::Lost;
        }
        let Some(step) = peer.script.steps.get(peer.step) else {
            if peer.received < peer.script.length {
                self.waive(end);
            }
            self.close(end, false);
            peer.end = None;
            peer.outcome = Outcome::Done;
            return Going::On;
        };
        match step {
            Step::Send(content) => {
                let mut buffer = core::mem::take(&mut self.buffer);
                buffer.resize(PIECE, 0);
                let n = content.read(peer.done, &mut buffer);
                let sent = if n > 0 { self.pass_on(end, &[&buffer[..n]]) } else { Sent::Bytes(0) };
                self.buffer = buffer;
                if n > 0 {
                    match sent {
                        Sent::Bytes(n) => peer.done += n as u64,
                        Sent::WouldBlock | Sent::InFlight => return Going::Waits,
                        Sent::Failed(_) => return Going::Lost,
                    }
                    return Going::On;
                }
            }
            Step::Await(bytes) if peer.received < *bytes => return Going::Waits,
            Step::AwaitEnd if !peer.saw_end => return Going::Waits,
            Step::Await(_) | Step::AwaitEnd => {}
            Step::Pause(span) => {
                if peer.done == 0 {
                    peer.done = self.now + span;
                }
                if self.now < peer.done {
                    *later = Some(later.map_or(peer.done, |at| at.min(peer.done)));
                    return Going::Waits;
                }
            }
            Step::HalfClose => {
                if self.shut(end).is_err() {
                    return Going::Lost;
                }
            }
            Step::Reset => {
                self.waive(end);
                self.close(end, true);
                peer.end = None;
                peer.outcome = Outcome::Done;
                return Going::On;
            }
        }
        peer.step += 1;
        peer.done = 0;
        Going::On
    }

    /// The connection of a peer has failed or was cut: it tries again, if its script says so.
    fn lose_peer(&mut self, peer: &mut Peer, end: u32) -> Option<u64> {
        self.waive(end);
        self.close(end, false);
        peer.end = None;
        if peer.tries > peer.script.retries {
            peer.outcome = Outcome::Cut;
            return None;
        }
        peer.restart();
        Some(self.now + peer.script.retry_pause.max(1))
    }
}

const NOWHERE: SocketAddr = SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0);
