//! A poller with a network in memory.

extern crate std;

use core::time::Duration;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use lightcone_core::poller::{
    Accept, AloneWithMail, ListenerEntry, Poller, PollerStorage, Received, Transport,
};
use lightcone_core::{
    Address, Config, ErrorKind, Handler, Instant, Interest, ListenerId, Sent, Shard, Storage, Timeouts,
    TimerStorage, Token,
};

pub(super) const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const LISTENER: ListenerId = ListenerId(0);
/// The maximum number of turns at one time.
const TURNS: usize = 100;

type RigPoller<H> = Poller<'static, H, Network, AloneWithMail<<H as Handler>::Message, 8>>;

/// One poller with its handler, and peers that the test controls.
pub(super) struct Rig<H: Handler + 'static> {
    poller: RigPoller<H>,
    pub(super) peers: Vec<Peer>,
    now: u64,
    /// The time of the wall clock, if there is one.
    pub(super) unix_time: Option<u64>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    token: Option<Token>,
    interest: Interest,
    /// Bytes that the peer has sent and the server has not received yet.
    pub(super) inbox: Vec<u8>,
    /// Bytes that the peer has received.
    pub(super) received: Vec<u8>,
    /// The number of bytes that the peer still accepts.
    pub(super) window: usize,
    /// The maximum number of bytes that the server receives at once.
    pub(super) cut: usize,
    /// The number of bytes of the last send that the peer did not accept.
    queued: usize,
    /// Whether the server has shut down writing.
    pub(super) shut: bool,
    pub(super) closed: bool,
    /// Whether the server has reset the connection.
    pub(super) reset: bool,
    ended: bool,
    told_end: bool,
}

impl Peer {
    const fn new() -> Self {
        Self {
            token: None,
            interest: Interest::NONE,
            inbox: Vec::new(),
            received: Vec::new(),
            window: usize::MAX,
            cut: usize::MAX,
            queued: 0,
            shut: false,
            closed: false,
            reset: false,
            ended: false,
            told_end: false,
        }
    }
}

/// The transport in memory. A connection is the number of its peer.
struct Network {
    /// The peers of the [`Rig`], while the poller runs.
    peers: Vec<Peer>,
    /// A connection that is not accepted yet.
    backlog: Option<usize>,
}

impl Network {
    fn peer(&mut self, connection: usize, token: Token) -> &mut Peer {
        let peer = &mut self.peers[connection];
        assert_eq!((peer.token, peer.closed), (Some(token), false), "a call for another socket");
        peer
    }
}

impl Transport for Network {
    const CONNECTS: bool = false;
    type Unregistered = usize;
    type Registered = usize;
    type Listener = ();

    fn register(&mut self, connection: usize, token: Token, interest: Interest) -> Result<usize, ErrorKind> {
        let peer = &mut self.peers[connection];
        (peer.token, peer.interest) = (Some(token), interest);
        Ok(connection)
    }

    fn modify(
        &mut self,
        connection: &mut usize,
        token: Token,
        _: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        self.peer(*connection, token).interest = new;
        Ok(())
    }

    fn receive(&mut self, connection: &mut usize, token: Token, buffer: &mut [u8]) -> Received {
        let peer = self.peer(*connection, token);
        let n = peer.inbox.len().min(peer.cut).min(buffer.len());
        if n == 0 {
            peer.told_end = peer.ended;
            return if peer.ended { Received::End } else { Received::WouldBlock };
        }
        buffer[..n].copy_from_slice(&peer.inbox[..n]);
        peer.inbox.drain(..n);
        Received::Bytes(n)
    }

    fn send(&mut self, connection: &mut usize, token: Token, bytes: &[u8]) -> Sent {
        self.send_vectored(connection, token, &[bytes])
    }

    fn send_vectored(&mut self, connection: &mut usize, token: Token, pieces: &[&[u8]]) -> Sent {
        let peer = self.peer(*connection, token);
        assert!(!peer.shut, "a send after the end of the stream");
        let mut bytes = pieces.concat();
        let offered = bytes.len();
        bytes.truncate(peer.window);
        if peer.window != usize::MAX {
            peer.window -= bytes.len();
        }
        peer.queued = offered - bytes.len();
        peer.received.extend_from_slice(&bytes);
        if bytes.is_empty() { Sent::WouldBlock } else { Sent::Bytes(bytes.len()) }
    }

    fn shutdown_write(&mut self, connection: &mut usize, token: Token) -> Result<(), ErrorKind> {
        self.peer(*connection, token).shut = true;
        Ok(())
    }

    fn close(&mut self, connection: usize, token: Token, _: Interest, reset: bool) {
        let peer = self.peer(connection, token);
        (peer.closed, peer.reset) = (true, reset);
    }

    fn accept(&mut self, (): &mut (), _: ListenerId) -> Accept<usize> {
        let peer = Address::Inet("192.0.2.1:1234".parse().unwrap());
        self.backlog.take().map_or(Accept::WouldBlock, |connection| Accept::Accepted(connection, peer))
    }
}

pub(super) fn config() -> Config {
    Config {
        sockets: 8,
        block_size: 4096,
        input_blocks: 8,
        output_blocks: 64,
        output_limit: 8,
        receive_size: 65_536,
        receive_blocks: 4,
        timeouts: Timeouts::NONE,
        ..Config::default()
    }
}

impl<H: Handler + 'static> Rig<H> {
    pub(super) fn new(handler: H) -> Self {
        Self::with(handler, &config())
    }

    pub(super) fn with(handler: H, config: &Config) -> Self {
        let slots = Box::leak(Box::new_uninit_slice(config.sockets));
        let storage = Storage { slots, memory: vec![0_u8; config.memory()].leak() };
        let shard = Shard::new(storage, config, Instant::from_millis(0)).unwrap();
        let storage = PollerStorage {
            timers: TimerStorage::none(),
            connections: Box::leak(Box::new_uninit_slice(config.sockets)),
            listeners: Vec::leak(vec![None::<ListenerEntry<()>>]),
            buffer: vec![0_u8; config.receive_size.max(config.block_size)].leak(),
        };
        let network = Network { peers: Vec::new(), backlog: None };
        let mut poller = Poller::new(shard, handler, network, AloneWithMail::new(), storage).unwrap();
        poller.listen((), LISTENER).unwrap();
        Self { poller, peers: Vec::new(), now: 0, unix_time: Some(784_111_777) }
    }

    pub(super) const fn handler(&mut self) -> &mut H {
        self.poller.handler_mut()
    }

    /// Runs `what` on the poller at the current time, with the peers in its network.
    fn go(&mut self, what: impl FnOnce(&mut RigPoller<H>)) {
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
        self.poller.begin_turn(Instant::from_millis(self.now), self.unix_time);
        what(&mut self.poller);
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
    }

    /// Runs `what` on the poller with the token of a peer, unless its connection is closed.
    fn tell(&mut self, peer: usize, what: impl FnOnce(&mut RigPoller<H>, Token)) {
        if let Peer { token: Some(token), closed: false, .. } = self.peers[peer] {
            self.go(|poller| what(poller, token));
        }
    }

    /// Opens a connection; returns its number.
    pub(super) fn connect(&mut self) -> usize {
        let peer = self.peers.len();
        self.peers.push(Peer::new());
        self.go(|poller| {
            poller.transport_mut().backlog = Some(peer);
            poller.on_acceptable(LISTENER);
        });
        assert!(self.peers[peer].token.is_some(), "the connection was not accepted");
        peer
    }

    /// Sends `bytes` from the peer, as far as the server receives them.
    pub(super) fn feed(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].inbox.extend_from_slice(bytes);
        self.pump(peer);
    }

    /// Ends the peer's stream, after all bytes that it has sent.
    pub(super) fn end(&mut self, peer: usize) {
        self.peers[peer].ended = true;
        self.pump(peer);
    }

    /// Resets the connection from the peer's side.
    pub(super) fn reset(&mut self, peer: usize) {
        self.tell(peer, |poller, token| poller.on_failed(token, ErrorKind::ConnectionReset));
    }

    /// Returns how many bytes of the peer the server has not received.
    pub(super) fn unsent(&self, peer: usize) -> usize {
        self.peers[peer].inbox.len()
    }

    /// Lets the peer accept `n` more bytes.
    pub(super) fn open_window(&mut self, peer: usize, n: usize) {
        self.peers[peer].window = self.peers[peer].window.saturating_add(n);
        self.tell(peer, Poller::on_writable);
        self.pump(peer);
    }

    /// Stops the engine without grace time.
    pub(super) fn cut(&mut self) {
        self.go(|poller| {
            poller.stop(Duration::ZERO);
            poller.turn();
        });
    }

    pub(super) fn shutdown(&mut self) {
        self.go(|poller| {
            poller.stop(Duration::from_secs(100_000));
            poller.turn();
        });
    }

    pub(super) fn message(&mut self, peer: usize, message: H::Message) {
        self.tell(peer, |poller, token| {
            assert!(poller.post(token, message).is_ok(), "the mailbox is full");
            poller.turn();
        });
    }

    /// Lets time pass, with one turn at its end.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.go(Poller::turn);
    }

    /// Lets time pass, with a turn whenever the poller needs one.
    pub(super) fn sleep(&mut self, millis: u64) {
        let end = self.now + millis;
        for _ in 0..10_000 {
            match self.poller.next_turn().map(Instant::as_millis).filter(|at| *at <= end) {
                Some(at) => self.pass(at.saturating_sub(self.now)),
                None => return self.pass(end - self.now),
            }
        }
        panic!("it spins");
    }

    /// Returns whether the poller has something to do at the current time.
    fn is_busy(&self) -> bool {
        self.poller.next_turn().is_some_and(|at| at <= Instant::from_millis(self.now))
    }

    /// Runs turns at the current time until nothing is left to do; returns their number, at most 100.
    pub(super) fn turns(&mut self) -> usize {
        for turn in 0..TURNS {
            self.pass(0);
            if !self.is_busy() {
                return turn;
            }
        }
        TURNS
    }

    /// Returns when the shard has to be called next.
    pub(super) fn shard_deadline(&self) -> Option<Instant> {
        self.poller.shard().next_deadline()
    }

    /// Returns what the peer has received since the last call.
    pub(super) fn take(&mut self, peer: usize) -> String {
        let bytes = std::mem::take(&mut self.peers[peer].received);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns how many queued bytes the peer does not accept, after the server has tried to send.
    pub(super) fn queued(&mut self, peer: usize) -> usize {
        self.peers[peer].queued = 0;
        self.tell(peer, Poller::on_writable);
        self.peers[peer].queued
    }

    /// Lets the server receive and send as long as there is something to do at the current time.
    fn pump(&mut self, peer: usize) {
        loop {
            if self.is_busy() {
                self.turns();
            }
            let Peer { interest, closed, inbox, ended, told_end, .. } = &self.peers[peer];
            let (left, told, more) = (inbox.len(), *told_end, *ended && !told_end);
            if *closed || !interest.reads() || (left == 0 && !more) {
                return;
            }
            self.tell(peer, Poller::on_readable);
            let there = &self.peers[peer];
            if (there.inbox.len(), there.told_end) == (left, told) {
                return;
            }
        }
    }
}

/// Returns a 200 with a text.
pub(super) fn ok(body: &str) -> String {
    response("200 OK", "", body)
}

/// Returns a response with a status, more fields and a text.
pub(super) fn response(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nServer: lightcone\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\n\
         {fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Returns a response that the server itself makes.
pub(super) fn refusal(status: &str, fields: &str) -> String {
    response(status, fields, &format!("{status}\n"))
}
