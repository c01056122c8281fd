//! A driver without a network.

extern crate std;

use std::boxed::Box;
use std::mem::MaybeUninit;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use lightcone_core::{
    Address, CloseReason, Config, Context, ErrorKind, Handler, Instant, ListenerId, Next, NoOutbox, Origin,
    PollerId, Shard, Slot, Storage, Timeouts, Token,
};

pub(super) const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// One poller with its handler, and peers that do what the test says.
pub(super) struct Rig<H: Handler + 'static> {
    shard: Shard<'static, H::Data>,
    pub(super) handler: H,
    pub(super) peers: Vec<Peer>,
    now: u64,
    /// The wall clock.
    pub(super) unix_time: Option<u64>,
}

/// The other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    token: Token,
    /// What it sends, as far as it was not taken.
    inbox: Vec<u8>,
    /// What it has received.
    pub(super) received: Vec<u8>,
    /// Bytes it still takes.
    pub(super) window: usize,
    /// The most that is received at once.
    pub(super) cut: usize,
    /// The server has shut down writing.
    pub(super) shut: bool,
    pub(super) closed: bool,
    /// The connection was broken off.
    pub(super) reset: bool,
    ended: bool,
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
        let slots: Vec<MaybeUninit<Slot<H::Data>>> =
            (0..config.sockets).map(|_| MaybeUninit::uninit()).collect();
        let memory = vec![0u8; config.memory()].leak();
        let storage = Storage { slots: Box::leak(slots.into_boxed_slice()), memory };
        let shard = Shard::new(storage, config, Instant::from_millis(0)).unwrap();
        Self { shard, handler, peers: Vec::new(), now: 0, unix_time: Some(784_111_777) }
    }

    /// A new connection; its number.
    pub(super) fn connect(&mut self) -> usize {
        let address = Address::Inet("192.0.2.1:1234".parse().unwrap());
        let origin = Origin::Accepted { listener: ListenerId(0) };
        let token = self.shard.admit(&mut self.handler, origin, &address).unwrap();
        let window = usize::MAX;
        let cut = usize::MAX;
        let (inbox, received) = (Vec::new(), Vec::new());
        self.peers.push(Peer {
            token,
            inbox,
            received,
            window,
            cut,
            shut: false,
            closed: false,
            reset: false,
            ended: false,
        });
        let peer = self.peers.len() - 1;
        self.run(peer);
        peer
    }

    /// The peer sends this, as far as the server takes it.
    pub(super) fn feed(&mut self, peer: usize, bytes: &[u8]) {
        self.peers[peer].inbox.extend_from_slice(bytes);
        self.pump(peer);
    }

    /// The peer ends its side, behind all that it sent.
    pub(super) fn end(&mut self, peer: usize) {
        self.peers[peer].ended = true;
        self.pump(peer);
    }

    /// The connection breaks.
    pub(super) fn reset(&mut self, peer: usize) {
        if let Some(mut port) = self.shard.port(self.peers[peer].token) {
            port.failed(ErrorKind::ConnectionReset);
            self.run(peer);
        }
    }

    /// Bytes that the peer could not get rid of.
    pub(super) fn unsent(&self, peer: usize) -> usize {
        self.peers[peer].inbox.len()
    }

    /// The peer takes so many bytes more.
    pub(super) fn open_window(&mut self, peer: usize, n: usize) {
        self.peers[peer].window = self.peers[peer].window.saturating_add(n);
        if let Some(mut port) = self.shard.port(self.peers[peer].token) {
            port.writable();
            self.run(peer);
        }
        self.pump(peer);
    }

    /// The engine's grace time is over.
    pub(super) fn cut(&mut self, peer: usize) {
        if let Some(mut port) = self.shard.port(self.peers[peer].token) {
            port.cut(CloseReason::Shutdown);
            self.run(peer);
        }
    }

    pub(super) fn shutdown(&mut self) {
        self.shard.stop();
        for peer in 0..self.peers.len() {
            if let Some(mut port) = self.shard.port(self.peers[peer].token) {
                port.shutdown();
                self.run(peer);
            }
        }
    }

    pub(super) fn message(&mut self, peer: usize, message: H::Message) {
        let Some(mut port) = self.shard.port(self.peers[peer].token) else { return };
        let mut outbox = NoOutbox;
        let now = Instant::from_millis(self.now);
        let mut cx = Context::new(now, self.unix_time, PollerId(0), &mut outbox);
        if let Ok(next) = port.message(message, &mut self.handler, &mut cx) {
            self.follow(peer, next);
        }
    }

    /// Time passes.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.shard.tick(Instant::from_millis(self.now));
        while let Some(token) = self.shard.next_ready() {
            let peer = self.peers.iter().position(|peer| peer.token == token).unwrap();
            self.run(peer);
        }
    }

    /// Time passes, with a turn whenever the shard asks for one.
    pub(super) fn sleep(&mut self, millis: u64) {
        let end = self.now + millis;
        for _ in 0..10_000 {
            match self.shard.next_deadline().map(Instant::as_millis).filter(|at| *at <= end) {
                Some(at) => self.pass(at.saturating_sub(self.now)),
                None => return self.pass(end - self.now),
            }
        }
        panic!("it spins");
    }

    /// Turns at this time until nothing is left to do; gives their number, at most 100.
    pub(super) fn turns(&mut self) -> usize {
        for turn in 0..100 {
            self.pass(0);
            if self.shard.next_deadline().is_none_or(|at| at > Instant::from_millis(self.now)) {
                return turn;
            }
        }
        100
    }

    /// When the shard wants to be called next.
    pub(super) fn shard_deadline(&self) -> Option<Instant> {
        self.shard.next_deadline()
    }

    /// What the peer has received since it was asked last.
    pub(super) fn take(&mut self, peer: usize) -> String {
        let bytes = std::mem::take(&mut self.peers[peer].received);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What is left of all blocks when nothing is queued or kept.
    pub(super) fn queued(&mut self, peer: usize) -> usize {
        let Some(mut port) = self.shard.port(self.peers[peer].token) else { return 0 };
        let mut slices = [&[][..]; 64];
        let n = port.outputs(&mut slices);
        let queued = slices[..n].iter().map(|slice| slice.len()).sum();
        let _ = port.finish();
        queued
    }

    fn pump(&mut self, peer: usize) {
        loop {
            let token = self.peers[peer].token;
            let Some(port) = self.shard.port(token) else { return };
            let room = port.room();
            let n = room.min(self.peers[peer].inbox.len()).min(self.peers[peer].cut);
            if n == 0 {
                return self.pump_end(peer);
            }
            let mut piece: Vec<u8> = self.peers[peer].inbox.drain(..n).collect();
            let Some(mut port) = self.shard.port(token) else { return };
            port.received(&mut piece);
            let mut outbox = NoOutbox;
            let now = Instant::from_millis(self.now);
            let mut cx = Context::new(now, self.unix_time, PollerId(0), &mut outbox);
            let next = port.run(&mut self.handler, &mut cx);
            self.follow(peer, next);
        }
    }

    /// The end of what a peer sends, if it has come.
    fn pump_end(&mut self, peer: usize) {
        let ended = self.peers[peer].inbox.is_empty() && std::mem::take(&mut self.peers[peer].ended);
        if !ended {
            return;
        }
        if let Some(mut port) = self.shard.port(self.peers[peer].token) {
            port.ended();
            self.run(peer);
        }
    }

    fn run(&mut self, peer: usize) {
        let Some(mut port) = self.shard.port(self.peers[peer].token) else { return };
        let mut outbox = NoOutbox;
        let now = Instant::from_millis(self.now);
        let mut cx = Context::new(now, self.unix_time, PollerId(0), &mut outbox);
        let next = port.run(&mut self.handler, &mut cx);
        self.follow(peer, next);
    }

    fn follow(&mut self, peer: usize, next: Next) {
        match next {
            Next::Wait(_) => {}
            Next::Send => self.send(peer),
            Next::Shut => {
                self.peers[peer].shut = true;
                if let Some(mut port) = self.shard.port(self.peers[peer].token) {
                    port.shut();
                }
                self.run(peer);
            }
            Next::Close => {
                self.peers[peer].closed = true;
                self.peers[peer].reset = self.shard.breaks_off();
            }
            Next::Cancel => panic!("nothing is in flight"),
        }
    }

    fn send(&mut self, peer: usize) {
        let Some(mut port) = self.shard.port(self.peers[peer].token) else { return };
        let mut slices = [&[][..]; 16];
        let n = port.outputs(&mut slices);
        let mut bytes = slices[..n].concat();
        let Peer { window, received, .. } = &mut self.peers[peer];
        bytes.truncate(*window);
        if *window != usize::MAX {
            *window -= bytes.len();
        }
        received.extend_from_slice(&bytes);
        if bytes.is_empty() {
            port.blocked();
        } else {
            port.sent(bytes.len());
        }
        self.run(peer);
    }
}

/// A 200 with a text.
pub(super) fn ok(body: &str) -> String {
    response("200 OK", "", body)
}

/// A text with a status and more fields.
pub(super) fn response(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nServer: lightcone\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\n\
         {fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// What the server answers by itself.
pub(super) fn refusal(status: &str, fields: &str) -> String {
    response(status, fields, &format!("{status}\n"))
}
