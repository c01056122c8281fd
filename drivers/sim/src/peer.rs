//! Scripted peers: plain clients at the other endpoint of a connection.

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

/// The maximum number of bytes that a peer receives or sends at once.
const PIECE: usize = 4_096;

/// How a peer reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Reading {
    /// At once.
    #[default]
    Fully,
    /// A number of bytes at a time, with pauses.
    Slowly {
        /// The maximum number of bytes at once.
        bytes: usize,
        /// The time between two reads.
        every: Duration,
    },
    /// Not at all.
    Never,
}

/// Inspects received bytes. Called with each piece and the number of the script's connection, from 1.
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
    /// Until this many bytes have been received in total.
    Await(u64),
    AwaitEnd,
    Pause(u64),
    HalfClose,
    Reset,
}

/// The script of a peer: a list of steps that it performs in order while it receives what arrives. After the
/// last step it closes.
///
/// Received bytes are compared with what the script expects, byte by byte. A connection that ends cleanly
/// must have delivered all of it.
///
/// ```
/// use lightcone_sim::{Script, pattern};
///
/// let server: core::net::SocketAddr = ([10, 0, 0, 1], 7).into();
/// let script = Script::to(server).send("hello\n").receive("hello\n").send(&pattern(1, 100_000)).half_close();
/// # let _ = script;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a script does nothing unless passed to Sim::peer"]
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
    /// Creates a script without steps; its peer connects to this address.
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

    /// Delays the connect by `span`.
    pub fn after(mut self, span: Duration) -> Self {
        self.after = micros(span);
        self
    }

    /// Sends these bytes.
    pub fn send(mut self, content: impl Into<Content>) -> Self {
        self.steps.push(Step::Send(content.into()));
        self
    }

    /// Expects these bytes next, without waiting for them here.
    pub fn expect(mut self, content: impl Into<Content>) -> Self {
        let content = content.into();
        self.length += content.length();
        self.expected.push(content);
        self
    }

    /// Expects these bytes next, and waits until they have been received.
    pub fn receive(self, content: impl Into<Content>) -> Self {
        let mut script = self.expect(content);
        script.steps.push(Step::Await(script.length));
        script
    }

    /// Waits until this many bytes have been received in total.
    pub fn until_received(mut self, bytes: u64) -> Self {
        self.steps.push(Step::Await(bytes));
        self
    }

    /// Waits until the server has ended the stream.
    pub fn until_end(mut self) -> Self {
        self.steps.push(Step::AwaitEnd);
        self
    }

    /// Waits for `span`.
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

    /// Resets the connection once this many bytes have been received.
    pub fn reset_after(mut self, bytes: u64) -> Self {
        self.reset_after = Some(bytes);
        self
    }

    /// Sets how the peer reads. Default: [`Reading::Fully`].
    pub fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Accepts any bytes.
    pub fn anything(mut self) -> Self {
        self.anything = true;
        self
    }

    /// Passes received bytes to `look` instead of comparing them. It is called with each piece and with the
    /// number of the connection, from 1, since a script with retries has several. It panics if something is
    /// wrong.
    pub fn checked(mut self, look: impl FnMut(u32, &[u8]) + 'static) -> Self {
        self.anything = true;
        self.checker = Some(Checker(Rc::new(RefCell::new(look))));
        self
    }

    /// Permits the server to end the stream cleanly before all expected bytes have been received.
    pub fn may_be_cut(mut self) -> Self {
        self.may_be_cut = true;
        self
    }

    /// Restarts the script when the connection fails or is cut, up to `times` times, each after `pause`.
    pub fn retry(mut self, times: u32, pause: Duration) -> Self {
        self.retries = times;
        self.retry_pause = micros(pause);
        self
    }
}

/// How the script of a peer ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is still running.
    Running,
    /// All steps were done.
    Done,
    /// The connection failed, was reset, or was ended before all steps were done.
    Cut,
}

/// The state of a peer.
#[derive(Debug)]
pub(crate) struct Peer {
    script: Script,
    end: Option<u32>,
    step: usize,
    /// Progress within the step: bytes sent, or when a pause ends.
    done: u64,
    pub(crate) received: u64,
    /// The index of the next expected content, and the number of bytes before it.
    content: usize,
    before: u64,
    /// The time of the next slow read.
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

    /// Describes what it waits for.
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
                "streams: peer {number} received a wrong byte at {}: {:?}",
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

/// Whether a peer can continue at once.
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
        // Checked right after the receive, before a step can send or close.
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

    /// Returns whether a peer whose stream has ended can still complete its script.
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
        // The end of the stream counts only once everything before it has been read.
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
                "streams: peer {number} saw a clean end after {} of {} bytes",
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
            // The script is done. If the peer has not received everything, its close may reset the
            // connection.
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

    /// Closes the failed connection of a peer. Returns when it retries, if its script permits.
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
