//! Shared by the tests: a handler whose reactions are a closure, a bench that drives one shard by hand, and a wire that
//! carries out the shard's actions against scripted peers.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of this module")]

use core::mem::MaybeUninit;
use core::time::Duration;
use lightcone_core::{
    Action, Address, AdmitError, Calls, Checked, Config, Connection, Context, ContextCalls, ContractChecker,
    ErrorKind, Event, Handler, Instant, Interest, ListenerId, NoOutbox, Origin, PollerId, Sent, Settled,
    Shard, Slot, Socket, Storage, Timeouts, Token, UnixId, carry_out,
};
use std::collections::{BTreeMap, VecDeque};

pub const PEER: Address = Address::Unix(UnixId(7));
pub const ACCEPTED: Origin = Origin::Accepted { listener: ListenerId(0) };

/// A small configuration without timeouts.
pub const PLAIN: Config = Config {
    sockets: 4,
    block_size: 64,
    input_blocks: 4,
    output_blocks: 8,
    output_limit: 2,
    receive_size: 256,
    receive_blocks: 0,
    timeouts: Timeouts::NONE,
    ..Config::DEVICE
};

/// Returns how many of `all` rounds of a long test to run: a tenth with debug assertions, where the code is slow and an
/// emulated board has no room for more. `.ci/run test-release` runs all.
pub const fn rounds(all: u64) -> u64 {
    if cfg!(debug_assertions) { all / 10 } else { all }
}

pub const fn ms(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// User data of a socket: the number of its admission, the connect's tag, and a number for use by the test.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub id: usize,
    pub tag: Option<u64>,
    pub number: u64,
}

/// One event, with the unread input and queued output at that time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    pub id: usize,
    pub event: Event<u32>,
    pub unread: usize,
    pub queued: usize,
}

pub type React = Box<dyn FnMut(&mut Socket<'_, Data>, Event<u32>)>;

/// Records each event, then calls the test's closure.
pub struct Script {
    pub trace: Vec<Seen>,
    pub admitted: usize,
    pub admits: bool,
    pub react: React,
}

impl Handler for Script {
    type Data = Data;
    type Message = u32;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Data> {
        assert_eq!(*peer, PEER);
        let tag = match origin {
            Origin::Accepted { .. } => None,
            Origin::Connecting { tag } => Some(tag),
        };
        let id = self.admitted;
        self.admitted += usize::from(self.admits);
        self.admits.then_some(Data { id, tag, number: 0 })
    }

    fn event(&mut self, socket: &mut Socket<'_, Data>, event: Event<u32>, _: &mut Context<'_, u32>) {
        let (unread, queued) = (socket.bytes().len(), socket.queued());
        self.trace.push(Seen { id: socket.data.id, event, unread, queued });
        (self.react)(socket, event);
    }
}

pub type Checker = ContractChecker<Script>;
pub type TestPort<'p> = Connection<'p, 'static, Checked<Data>>;

/// A shard, its handler and a clock, driven by hand.
pub struct Bench {
    pub shard: Shard<'static, Checked<Data>>,
    pub handler: Checker,
    pub now: u64,
    /// Whether events are pulled one by one instead of pushed.
    pub pull: bool,
    /// The bytes that the system has not delivered at a given time, once [asked](Shard::ask_undelivered).
    pub undelivered: Box<dyn Fn(u64) -> Option<usize>>,
}

/// Delivers the events due at a connection, either pushed or pulled.
pub fn deliver(mut conn: TestPort<'_>, handler: &mut Checker, pull: bool, now: u64) -> Action {
    let mut outbox = NoOutbox;
    let mut cx = Context::new(Instant::from_millis(now), None, PollerId(0), &mut outbox);
    if pull { pull_all(&mut conn, handler, &mut cx) } else { conn.run(handler, &mut cx) }
}

/// Delivers the events due at a connection by pulling them.
fn pull_all(conn: &mut TestPort<'_>, handler: &mut Checker, cx: &mut Context<'_, u32>) -> Action {
    while let Some((event, mut socket)) = conn.next_event() {
        handler.event(&mut socket, event, cx);
    }
    conn.finish()
}

impl Bench {
    pub fn new(config: &Config, react: impl FnMut(&mut Socket<'_, Data>, Event<u32>) + 'static) -> Self {
        Self::starting_at(0, config, react)
    }

    /// Creates a bench whose clock starts at `now`. The memory is leaked: it is small, and this avoids a lifetime.
    pub fn starting_at(
        now: u64,
        config: &Config,
        react: impl FnMut(&mut Socket<'_, Data>, Event<u32>) + 'static,
    ) -> Self {
        let slots: Vec<MaybeUninit<Slot<Checked<Data>>>> =
            (0..config.sockets).map(|_| MaybeUninit::uninit()).collect();
        let memory = vec![0xA5; config.memory()];
        let storage = Storage { slots: slots.leak(), memory: memory.leak() };
        let shard = Shard::new(storage, config, Instant::from_millis(now)).unwrap();
        let script = Script { trace: Vec::new(), admitted: 0, admits: true, react: Box::new(react) };
        Self {
            shard,
            handler: ContractChecker::new(script),
            now,
            pull: false,
            undelivered: Box::new(|_| None),
        }
    }

    /// Returns an accepted socket before its first event.
    pub fn admit(&mut self) -> Result<Token, AdmitError> {
        self.shard.admit(&mut self.handler, ACCEPTED, &PEER)
    }

    /// Returns an accepted socket after `open`, and its next action.
    pub fn opened(&mut self) -> (Token, Action) {
        let token = self.admit().unwrap();
        let next = self.run(token);
        (token, next)
    }

    pub fn open(&mut self) -> Token {
        self.opened().0
    }

    /// Returns a socket that waits for the outcome of its connect.
    pub fn dial(&mut self, tag: u64) -> Token {
        let token = self.shard.reserve().unwrap();
        self.shard.dial(&mut self.handler, token, tag, &PEER).unwrap();
        assert_eq!(self.run(token), Action::Wait(Interest::WRITE));
        token
    }

    pub fn try_tell(&mut self, token: Token, what: impl FnOnce(&mut TestPort<'_>)) -> Option<Action> {
        let mut conn = self.shard.connection(token)?;
        what(&mut conn);
        Some(deliver(conn, &mut self.handler, self.pull, self.now))
    }

    /// Passes something to the connection of a socket and delivers what is due. Returns the next action.
    pub fn tell(&mut self, token: Token, what: impl FnOnce(&mut TestPort<'_>)) -> Action {
        self.try_tell(token, what).expect("the socket is closed")
    }

    /// The same as [`Self::tell`] for the socket of a shard of one.
    pub fn run_only(&mut self, what: impl FnOnce(&mut TestPort<'_>)) -> Action {
        let mut conn = self.shard.only_connection().expect("the socket is closed");
        what(&mut conn);
        deliver(conn, &mut self.handler, self.pull, self.now)
    }

    pub fn run(&mut self, token: Token) -> Action {
        self.tell(token, |_| {})
    }

    pub fn receive(&mut self, token: Token, bytes: &[u8]) -> Action {
        let mut bytes = bytes.to_vec();
        let mut conn = self.shard.connection(token).expect("the socket is closed");
        conn.received(&mut bytes);
        deliver(conn, &mut self.handler, self.pull, self.now)
    }

    pub fn message(&mut self, token: Token, message: u32) -> Result<Action, u32> {
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        self.shard.connection(token).ok_or(message)?.message(message, &mut self.handler, &mut cx)
    }

    /// Returns the queued bytes as the driver sees them.
    pub fn outputs(&mut self, token: Token) -> Vec<u8> {
        gather(&self.shard.connection(token).expect("the socket is closed"))
    }

    pub fn room(&mut self, token: Token) -> usize {
        self.shard.connection(token).expect("the socket is closed").room()
    }

    /// Sends all queued bytes. Returns them and the next action.
    pub fn flush(&mut self, token: Token) -> (Vec<u8>, Action) {
        let bytes = self.outputs(token);
        let next = self.tell(token, |conn| conn.sent(bytes.len()));
        (bytes, next)
    }

    /// Moves the clock without running a turn. The bench's own time never goes back, but the shard is passed the raw
    /// time.
    pub fn set_clock(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.shard.tick(Instant::from_millis(now));
    }

    /// Reports the undelivered bytes to the shard. Returns whether the socket still has something due.
    fn answer(&mut self, token: Token) -> bool {
        let left = (self.undelivered)(self.now);
        self.shard.connection(token).unwrap().undelivered(left)
    }

    /// Runs one turn at this time for all ready sockets, and returns their next actions.
    pub fn turn(&mut self, now: u64) -> Vec<(Token, Action)> {
        self.set_clock(now);
        let mut orders = Vec::new();
        while let Some(token) = self.shard.next_ready() {
            if self.shard.is_asking() && !self.answer(token) {
                continue;
            }
            orders.push((token, self.run(token)));
            assert!(orders.len() <= 10_000, "a turn without an end");
        }
        orders
    }

    /// Sleeps exactly as long as the shard allows, until `end`; returns the actions with their times.
    pub fn sleep_until(&mut self, end: u64) -> Vec<(u64, Token, Action)> {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let Some(at) = self.shard.next_deadline().map(Instant::as_millis).filter(|at| *at <= end) else {
                let orders = self.turn(end);
                assert!(orders.is_empty(), "due before the deadline that was returned: {orders:?}");
                return all;
            };
            let now = self.now.max(at);
            all.extend(self.turn(now).into_iter().map(|(token, next)| (now, token, next)));
        }
        panic!("woken again and again at {}", self.now);
    }

    pub fn seen(&self) -> &[Seen] {
        &self.handler.inner().trace
    }

    /// Takes all events recorded so far.
    pub fn events(&mut self) -> Vec<Event<u32>> {
        self.handler.inner_mut().trace.drain(..).map(|seen| seen.event).collect()
    }

    /// Returns the last event recorded so far.
    pub fn last(&self) -> Seen {
        *self.seen().last().expect("no event at all")
    }

    /// Checks that all sockets have ended and nothing is left over.
    #[track_caller]
    pub fn is_clean(&mut self) {
        assert_eq!(self.handler.alive(), 0, "a socket without its last event");
        assert_eq!(self.shard.in_use(), 0);
        self.turn(self.now);
        assert_eq!(self.shard.next_deadline(), None);
    }
}

pub fn gather(conn: &TestPort<'_>) -> Vec<u8> {
    let mut slices = [&[][..]; 64];
    let n = conn.outputs(&mut slices);
    slices[..n].concat()
}

/// The peer of a socket, and the behaviour of the kernel in between.
#[derive(Debug)]
pub struct Peer {
    /// The bytes it sends that have not been received yet.
    pub sends: VecDeque<u8>,
    /// Whether it half-closes after all of them have been received.
    pub ends: bool,
    /// The bytes it has received.
    pub got: Vec<u8>,
    /// The most bytes of one receive and of one send.
    pub pieces: (usize, usize),
    /// How many more bytes the kernel takes before it blocks.
    pub window: usize,
    /// Whether the socket under test has shut down writing.
    pub shut: bool,
    interest: Interest,
    told_end: bool,
}

impl Peer {
    pub fn new(sends: &[u8], ends: bool) -> Self {
        Self {
            sends: sends.iter().copied().collect(),
            ends,
            got: Vec::new(),
            pieces: (usize::MAX, usize::MAX),
            window: usize::MAX,
            shut: false,
            interest: Interest::NONE,
            told_end: false,
        }
    }
}

/// A driver over peers in memory. When a socket closes, its peer is moved from `peers` to `gone`.
pub struct Wire {
    pub bench: Bench,
    pub peers: BTreeMap<Token, Peer>,
    pub gone: Vec<(Token, Peer)>,
    /// How many receives and sends were attempted.
    pub calls: usize,
}

impl Wire {
    pub fn new(bench: Bench) -> Self {
        Self { bench, peers: BTreeMap::new(), gone: Vec::new(), calls: 0 }
    }

    pub fn accept(&mut self, peer: Peer) -> Token {
        let token = self.bench.admit().unwrap();
        self.peers.insert(token, peer);
        self.tell(token, |_| {});
        token
    }

    /// Passes something to a socket and carries out the resulting actions. Its peer moves to `gone` when the socket
    /// closes.
    fn tell(&mut self, token: Token, what: impl FnOnce(&mut TestPort<'_>)) {
        self.receive(token, &[], what);
    }

    /// The same as [`Self::tell`], followed by received bytes.
    fn receive(&mut self, token: Token, bytes: &[u8], what: impl FnOnce(&mut TestPort<'_>)) {
        let (mut bytes, pull) = (bytes.to_vec(), self.bench.pull);
        let peer = self.peers.get_mut(&token).expect("the socket is closed");
        let Bench { shard, handler, now, .. } = &mut self.bench;
        let mut line = Line { peer, calls: &mut self.calls, now: *now, outbox: NoOutbox };
        let mut conn = shard.connection(token).expect("the socket is closed");
        what(&mut conn);
        let settled = if pull {
            conn.received(&mut bytes);
            let next = pull_all(&mut conn, handler, &mut line.context());
            carry_out(&mut conn, next, 0, &mut line, |conn, line| {
                pull_all(conn, handler, &mut line.context())
            })
        } else {
            conn.receive(&mut bytes, handler, &mut line)
        };
        match settled {
            Settled::Waiting(interest) => peer.interest = interest,
            Settled::Deferred => {}
            Settled::Cancelling => panic!("nothing is in flight"),
            Settled::Closed => {
                let peer = self.peers.remove(&token).unwrap();
                self.gone.push((token, peer));
            }
        }
    }

    /// Does one thing that the network can do for this socket. Returns whether there was any.
    fn step(&mut self, token: Token) -> bool {
        let Some(peer) = self.peers.get_mut(&token) else { return false };
        if peer.interest.writes() && peer.window > 0 {
            self.tell(token, |conn| conn.writable());
            return true;
        }
        if !peer.interest.reads() {
            return false;
        }
        let room = self.bench.room(token);
        if room == 0 {
            // Other sockets have taken the last block: running the connection returns a wait without reading.
            self.tell(token, |_| {});
            let waits = self.peers.get(&token).is_none_or(|peer| !peer.interest.reads());
            assert!(waits, "the connection requests reads without room");
            return true;
        }
        self.calls += 1;
        let peer = self.peers.get_mut(&token).unwrap();
        let n = peer.sends.len().min(peer.pieces.0).min(room);
        if n > 0 {
            let bytes: Vec<u8> = peer.sends.drain(..n).collect();
            self.receive(token, &bytes, |_| {});
        } else if peer.ends && !core::mem::replace(&mut peer.told_end, true) {
            self.tell(token, |conn| conn.peer_ended());
        } else {
            return false;
        }
        true
    }

    /// Runs one turn for all ready sockets. Returns whether there were any.
    fn turn(&mut self) -> bool {
        self.bench.set_clock(self.bench.now);
        for turns in 0..10_000 {
            let Some(token) = self.bench.shard.next_ready() else { return turns > 0 };
            self.tell(token, |_| {});
        }
        panic!("a turn without an end");
    }

    /// Runs everything that can happen at this time.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let tokens: Vec<Token> = self.peers.keys().copied().collect();
            let mut went_on = false;
            for token in tokens {
                went_on |= self.step(token);
            }
            went_on |= self.turn();
            if !went_on {
                return;
            }
        }
        panic!("the wire never settles");
    }
}

/// The calls of a connection to a peer in memory.
struct Line<'a> {
    peer: &'a mut Peer,
    calls: &'a mut usize,
    now: u64,
    outbox: NoOutbox,
}

impl Calls for Line<'_> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.send_vectored(&[bytes])
    }

    fn send_vectored(&mut self, pieces: &[&[u8]]) -> Sent {
        let (peer, bytes) = (&mut *self.peer, pieces.concat());
        assert!(!peer.shut, "send after writing was shut down");
        assert!(!bytes.is_empty(), "asked to send nothing");
        *self.calls += 1;
        let n = bytes.len().min(peer.pieces.1).min(peer.window);
        peer.window -= n;
        peer.got.extend_from_slice(&bytes[..n]);
        if n == 0 { Sent::WouldBlock } else { Sent::Bytes(n) }
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        assert!(!core::mem::replace(&mut self.peer.shut, true), "shut down twice");
        Ok(())
    }
}

impl<M> ContextCalls<M> for Line<'_> {
    fn context(&mut self) -> Context<'_, M> {
        Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut self.outbox)
    }
}

/// Leaks a copy of the bytes, so that a connection may borrow it for any lifetime.
pub fn lent(bytes: &[u8]) -> &'static mut [u8] {
    bytes.to_vec().leak()
}

/// Returns one byte of a test stream that has no short period.
pub fn pattern(at: usize) -> u8 {
    (at as u32).wrapping_mul(0x9E37_79B1).rotate_left(11) as u8
}

/// Sends the input back, as far as it fits.
pub fn echo(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    match event {
        Event::Receive | Event::Writable => {
            let (mut input, mut output, _) = socket.split();
            let n = output.send_some(input.bytes());
            input.consume(n);
        }
        Event::PeerClosed => socket.close(),
        _ => {}
    }
}

pub fn nothing(_: &mut Socket<'_, Data>, _: Event<u32>) {}

/// Returns a reaction that calls `act` at each event of this kind.
pub fn on(
    at: Event<u32>,
    mut act: impl FnMut(&mut Socket<'_, Data>) + Clone + 'static,
) -> impl FnMut(&mut Socket<'_, Data>, Event<u32>) + Clone + 'static {
    move |socket, event| {
        if core::mem::discriminant(&at) == core::mem::discriminant(&event) {
            act(socket);
        }
    }
}

/// A small pseudo-random number generator, reproducible from its seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}
