//! A poller over a network in memory with scripted peers.

use core::mem::MaybeUninit;
use core::time::Duration;

use lightcone_core::poller::{
    Accept, AloneWithMail, ConnectionEntry, ListenerEntry, Poller, PollerStorage, Received, TopicStorage,
    Transport,
};
use lightcone_core::{
    Address, Checked, Config, ContractChecker, ErrorKind, FreeBlocks, Handler, Instant, Interest, ListenerId,
    Origin, Sent, Shard, Slot, Storage, TimerStorage, Token, UnixId,
};

pub(crate) const PEER: Address = Address::Unix(UnixId(7));
const LISTENER: ListenerId = ListenerId(0);
pub(crate) const ACCEPTED: Origin = Origin::Accepted { listener: LISTENER };
/// Longer than any input lets time pass.
const GRACE: Duration = Duration::from_secs(10_000_000);

/// A deliberate defect of the network; the tests check that it is detected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// No defect.
    None,
    /// The server is not notified when sending is possible again.
    LostWritable,
    /// The first byte of each receive except the first one is dropped.
    LostByte,
    /// After a partial send, its last byte is sent again with the next one.
    DoubledByte,
    /// The last byte of each send never arrives.
    LostTail,
    /// The end of a peer's stream is not reported.
    LostEnd,
    /// The last two bytes of each receive are swapped.
    Reordered,
}

/// The memory of a poller. It is freed afterwards, because a fuzz target runs many pollers in one process.
pub(crate) struct Memory<D> {
    slots: Vec<MaybeUninit<Slot<D>>>,
    bytes: Vec<u8>,
    connections: Vec<MaybeUninit<ConnectionEntry<usize>>>,
    listeners: [Option<ListenerEntry<()>>; 1],
    buffer: Vec<u8>,
}

impl<D> Memory<D> {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            slots: (0..config.sockets).map(|_| MaybeUninit::uninit()).collect(),
            bytes: vec![0xA5; config.memory()],
            connections: (0..config.sockets).map(|_| MaybeUninit::uninit()).collect(),
            listeners: [None],
            buffer: vec![0xA5; config.receive_size.max(config.block_size)],
        }
    }

    /// Returns the part of the memory that a lone shard needs.
    pub(crate) fn storage(&mut self) -> Storage<'_, D> {
        Storage { slots: &mut self.slots, memory: &mut self.bytes }
    }
}

/// The peer of a connection, and the kernel in between.
#[derive(Debug)]
pub(crate) struct Peer {
    token: Option<Token>,
    /// All bytes that it sends, and how many of them have been received.
    pub(crate) sends: Vec<u8>,
    pub(crate) taken: usize,
    /// All bytes that it has received.
    pub(crate) got: Vec<u8>,
    /// How many more bytes it accepts, and the most bytes of one receive and one send.
    pub(crate) window: usize,
    pub(crate) pieces: (usize, usize),
    /// Whether its stream ends after `sends`.
    pub(crate) ends: bool,
    /// The number of bytes it sends in all, once that is fixed.
    pub(crate) end: Option<usize>,
    told_end: bool,
    interest: Interest,
    /// Whether the server has shut down writing, and whether it has closed.
    pub(crate) shut: bool,
    pub(crate) closed: bool,
    /// Whether the peer has reset the connection.
    pub(crate) reset: bool,
    again: Option<u8>,
}

impl Peer {
    const fn new() -> Self {
        Self {
            token: None,
            sends: Vec::new(),
            taken: 0,
            got: Vec::new(),
            window: usize::MAX,
            pieces: (usize::MAX, usize::MAX),
            ends: false,
            end: None,
            told_end: false,
            interest: Interest::NONE,
            shut: false,
            closed: false,
            reset: false,
            again: None,
        }
    }

    /// Returns the progress that the server can observe.
    const fn progress(&self) -> (usize, bool, bool) {
        (self.taken, self.told_end, self.closed)
    }
}

/// The transport. A connection is the index of its peer.
struct Network {
    /// While the poller runs, the peers of the [`Wire`].
    peers: Vec<Peer>,
    /// A connection that waits to be accepted.
    backlog: Option<usize>,
    listens: bool,
    /// The most bytes of one receive, and the most bytes that may be queued.
    bounds: (usize, usize),
    flaw: Flaw,
}

impl Network {
    fn peer(&mut self, connection: usize, token: Token) -> &mut Peer {
        let peer = &mut self.peers[connection];
        assert_eq!(peer.token, Some(token), "a call for the connection of another socket");
        assert!(!peer.closed, "a call for a closed connection");
        peer
    }
}

impl Transport for Network {
    const CONNECTS: bool = false;
    type Unregistered = usize;
    type Registered = usize;
    type Listener = ();

    fn register(&mut self, connection: usize, token: Token, interest: Interest) -> Result<usize, ErrorKind> {
        assert!(self.peers.iter().all(|peer| peer.token != Some(token)), "a token was issued twice");
        let peer = &mut self.peers[connection];
        assert_eq!(peer.token.replace(token), None, "registered twice");
        peer.interest = interest;
        Ok(connection)
    }

    fn modify(
        &mut self,
        connection: &mut usize,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind> {
        let peer = self.peer(*connection, token);
        assert_eq!(peer.interest, old, "the poller has lost track of the interest");
        peer.interest = new;
        Ok(())
    }

    fn receive(&mut self, connection: &mut usize, token: Token, buffer: &mut [u8]) -> Received {
        let (flaw, (most, _)) = (self.flaw, self.bounds);
        let peer = self.peer(*connection, token);
        assert!((1..=most).contains(&buffer.len()), "a receive of {} bytes", buffer.len());
        assert!(!peer.told_end, "a receive after the end");
        let from = peer.taken;
        let n = (peer.sends.len() - from).min(peer.pieces.0).min(buffer.len());
        if n == 0 {
            peer.told_end = peer.ends;
            return if peer.ends { Received::End } else { Received::WouldBlock };
        }
        peer.taken += n;
        let mut bytes = peer.sends[from..from + n].to_vec();
        if flaw == Flaw::LostByte && from > 0 {
            bytes.remove(0);
        } else if flaw == Flaw::Reordered && n > 1 {
            bytes.swap(n - 2, n - 1);
        }
        buffer[..bytes.len()].copy_from_slice(&bytes);
        if bytes.is_empty() { Received::WouldBlock } else { Received::Bytes(bytes.len()) }
    }

    fn send(&mut self, connection: &mut usize, token: Token, bytes: &[u8]) -> Sent {
        self.send_vectored(connection, token, &[bytes])
    }

    /// Sends as much as the peer accepts.
    fn send_vectored(&mut self, connection: &mut usize, token: Token, pieces: &[&[u8]]) -> Sent {
        let (flaw, (_, most)) = (self.flaw, self.bounds);
        let (peer, bytes) = (self.peer(*connection, token), pieces.concat());
        assert!(!peer.shut, "a send after the end");
        assert!(!bytes.is_empty(), "asked to send nothing");
        assert!(bytes.len() <= most, "{} bytes queued", bytes.len());
        let n = bytes.len().min(peer.window).min(peer.pieces.1);
        if n == 0 {
            return Sent::WouldBlock;
        }
        if peer.window != usize::MAX {
            peer.window -= n;
        }
        peer.got.extend(peer.again.take());
        peer.got.extend_from_slice(&bytes[..n]);
        if flaw == Flaw::LostTail {
            peer.got.pop();
        }
        if n < bytes.len() && flaw == Flaw::DoubledByte {
            peer.again = peer.got.last().copied();
        }
        Sent::Bytes(n)
    }

    fn cancel_send(&mut self, _: &mut usize, _: Token) -> Option<usize> {
        panic!("asked to cancel with nothing in flight")
    }

    fn shutdown_write(&mut self, connection: &mut usize, token: Token) -> Result<(), ErrorKind> {
        let peer = self.peer(*connection, token);
        assert!(!core::mem::replace(&mut peer.shut, true), "shut down twice");
        Ok(())
    }

    fn close(&mut self, connection: usize, token: Token, interest: Interest, _: bool) {
        let peer = self.peer(connection, token);
        assert_eq!(peer.interest, interest, "the poller has lost track of the interest");
        peer.closed = true;
    }

    fn reject(&mut self, _: usize) {
        panic!("the server admits all connections")
    }

    fn watch_listener(&mut self, (): &mut (), _: ListenerId) -> Result<(), ErrorKind> {
        assert!(!core::mem::replace(&mut self.listens, true), "watched twice");
        Ok(())
    }

    fn unwatch_listener(&mut self, (): &mut (), _: ListenerId) {
        assert!(core::mem::replace(&mut self.listens, false), "not watched");
    }

    fn close_listener(&mut self, (): (), _: ListenerId, watched: bool) {
        assert_eq!(core::mem::replace(&mut self.listens, false), watched);
    }

    fn accept(&mut self, (): &mut (), _: ListenerId) -> Accept<usize> {
        self.backlog.take().map_or(Accept::WouldBlock, |connection| Accept::Accepted(connection, PEER))
    }
}

type WirePoller<'s, H> = Poller<'s, ContractChecker<H>, Network, AloneWithMail<<H as Handler>::Message, 8>>;

pub(crate) struct Wire<'s, H: Handler<Data: 's>> {
    poller: WirePoller<'s, H>,
    pub(crate) peers: Vec<Peer>,
    now: u64,
    flaw: Flaw,
    /// The poller has been stopped, and takes over no more connections.
    stopped: bool,
}

/// Far more steps than any input can cause.
const STEPS: usize = 200_000;

impl<'s, H: Handler<Data: 's>> Wire<'s, H> {
    pub(crate) fn new(
        memory: &'s mut Memory<Checked<H::Data>>,
        config: &Config,
        handler: H,
        flaw: Flaw,
    ) -> Self {
        let Memory { slots, bytes, connections, listeners, buffer } = memory;
        let bounds = (buffer.len(), config.block_size * config.output_limit);
        let shard = Shard::new(Storage { slots, memory: bytes }, config, Instant::from_millis(0)).unwrap();
        let network = Network { peers: Vec::new(), backlog: None, listens: false, bounds, flaw };
        let (timers, topics) = (TimerStorage::none(), TopicStorage::none());
        let storage = PollerStorage { connections, listeners, buffer, timers, rooms: &mut [], topics };
        let handler = ContractChecker::new(handler);
        let mut poller = Poller::new(shard, handler, network, AloneWithMail::new(), storage).unwrap();
        poller.listen((), LISTENER).unwrap();
        Self { poller, peers: Vec::new(), now: 0, flaw, stopped: false }
    }

    /// Calls the poller with the peers moved into its network.
    fn go<R>(&mut self, what: impl FnOnce(&mut WirePoller<'s, H>) -> R) -> R {
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
        let result = what(&mut self.poller);
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
        result
    }

    /// Passes something about a peer to the poller. Returns `false` if the connection is closed.
    fn tell(&mut self, peer: usize, what: impl FnOnce(&mut WirePoller<'s, H>, Token)) -> bool {
        let Peer { token: Some(token), closed: false, .. } = self.peers[peer] else { return false };
        self.go(|poller| what(poller, token));
        true
    }

    /// Opens a connection if there is room for it, and returns its number. While the poller is not accepting, the
    /// connection is attached instead.
    pub(crate) fn connect(&mut self) -> Option<usize> {
        let (peer, room) = (self.peers.len(), self.poller.shard().has_room() && !self.stopped);
        self.peers.push(Peer::new());
        self.go(|poller| {
            if poller.transport().listens {
                poller.transport_mut().backlog = Some(peer);
                poller.on_acceptable(LISTENER);
            } else {
                let attached = poller.attach(peer, PEER, LISTENER);
                assert_eq!(attached.is_ok(), room, "`attach` disagrees with `has_room`");
            }
        });
        let came = self.peers[peer].token.is_some();
        assert_eq!(came, room, "the accept disagrees with `has_room`");
        if came {
            return Some(peer);
        }
        self.poller.transport_mut().backlog = None;
        self.peers.pop();
        None
    }

    /// Delivers what is due.
    pub(crate) fn run(&mut self, peer: usize) {
        self.tell(peer, Poller::run);
    }

    /// Reports readiness, which is a hint and may be wrong.
    pub(crate) fn readable(&mut self, peer: usize) {
        if !self.peers[peer].told_end && !self.says_end(peer) {
            self.tell(peer, Poller::on_readable);
        }
    }

    pub(crate) fn writable(&mut self, peer: usize) {
        self.tell(peer, Poller::on_writable);
    }

    pub(crate) fn message(&mut self, peer: usize, message: H::Message) {
        self.tell(peer, |poller, token| {
            let posted = poller.post(token, message);
            assert!(posted.is_ok(), "the mailbox is full");
        });
        self.pass(0);
    }

    /// Resets the connection from the peer's side.
    pub(crate) fn reset(&mut self, peer: usize) {
        let reset = self.tell(peer, |poller, token| poller.on_failed(token, ErrorKind::ConnectionReset));
        self.peers[peer].reset |= reset;
        assert!(self.peers[peer].closed, "a reset connection is still open");
    }

    pub(crate) fn shutdown(&mut self) {
        self.stopped = true;
        self.go(|poller| poller.stop(GRACE));
        self.pass(0);
    }

    /// Lets time pass and runs a turn. Returns whether something was due.
    pub(crate) fn pass(&mut self, millis: u64) -> bool {
        self.now += millis;
        let now = Instant::from_millis(self.now);
        let due = self.poller.next_turn().is_some_and(|at| at <= now);
        self.go(|poller| {
            poller.begin_turn(now, None);
            poller.turn();
        });
        due
    }

    /// Returns whether the next receive would report the end of stream, and the defect hides it.
    fn says_end(&self, peer: usize) -> bool {
        let there = &self.peers[peer];
        self.flaw == Flaw::LostEnd && there.ends && there.taken == there.sends.len()
    }

    /// Does one thing that the network can do for this peer. Returns whether there was any.
    pub(crate) fn step(&mut self, peer: usize) -> bool {
        let there = &self.peers[peer];
        if there.closed {
            return false;
        }
        if there.interest.writes() && there.window > 0 && self.flaw != Flaw::LostWritable {
            return self.tell(peer, Poller::on_writable);
        }
        let more = there.taken < there.sends.len() || (there.ends && !there.told_end);
        if !there.interest.reads() || !more {
            return false;
        }
        let before = there.progress();
        self.readable(peer);
        self.peers[peer].progress() != before
    }

    /// Runs everything that can happen at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS {
            let mut went_on = false;
            for peer in 0..self.peers.len() {
                went_on |= self.step(peer);
            }
            went_on |= self.pass(0);
            if !went_on {
                return;
            }
        }
        panic!("the wire never settles");
    }

    /// Checks that every connection has ended, and that all of its resources are free again.
    pub(crate) fn is_clean(&mut self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let (sends, taken, interest) = (peer.sends.escape_ascii(), peer.taken, peer.interest);
            assert!(
                peer.closed,
                "connection {number} is stuck at {taken} of {sends}, waits for {interest:?}"
            );
        }
        assert_eq!(self.poller.handler().alive(), 0, "a socket without its last event");
        self.pass(0);
        self.pass(0);
        let shard = self.poller.shard();
        assert_eq!(
            self.poller.transport().listens,
            shard.has_room(),
            "the poller must accept exactly while there is room"
        );
        assert_eq!(shard.in_use(), 0);
        assert_eq!(shard.next_deadline(), None, "something is left to do");
        assert_eq!(self.poller.next_turn(), None, "the poller never rests");
        let Config { sockets, output_blocks, input_blocks, receive_blocks, .. } = *shard.config();
        let all = FreeBlocks { output: output_blocks, input: input_blocks, receive: receive_blocks };
        assert_eq!(shard.free_blocks(), all, "a block is lost");
        let (stats, stops) = (*shard.stats(), !shard.has_room());
        assert_eq!(self.poller.is_over(), stops, "the poller must end after a stop, and not before");
        let taken: usize = self.peers.iter().map(|peer| peer.taken).sum();
        let got: usize = self.peers.iter().map(|peer| peer.got.len()).sum();
        if self.flaw == Flaw::None {
            assert_eq!(
                (stats.bytes_in, stats.bytes_out),
                (taken as u64, got as u64),
                "bytes are not accounted for"
            );
        }
        let peers = self.peers.len();
        assert_eq!(stats.closed_total(), peers as u64, "each connection ends once");
        let room = (0..sockets).filter(|_| self.connect().is_some()).count();
        assert_eq!(room, if stops { 0 } else { sockets }, "a slot is lost");
        assert_eq!(self.connect(), None);
        self.peers.truncate(peers);
    }
}

/// Checks that all slots and blocks are free: new sockets can take every one of them.
pub(crate) fn everything_is_back<H: Handler<Data = D>, D>(shard: &mut Shard<'_, D>, handler: &mut H) {
    let config = *shard.config();
    if !shard.has_room() {
        return; // a stopping shard admits none
    }
    let free = shard.free_blocks();
    let all = (config.output_blocks, config.input_blocks, config.receive_blocks);
    assert_eq!((free.output, free.input, free.receive), all, "a block is lost");
    let mut input = 0;
    let mut tokens = Vec::new();
    for _ in 0..config.sockets {
        let Ok(token) = shard.admit(handler, ACCEPTED, &PEER) else { continue };
        let mut conn = shard.connection(token).expect("just admitted");
        let (_, mut socket) = conn.next_event::<H::Message>().expect("open is due");
        let room = socket.room();
        socket.send(&vec![1; room]).expect("there is room");
        let _ = conn.finish();
        tokens.push(token);
    }
    assert_eq!(tokens.len(), config.sockets, "a slot is lost");
    assert!(!shard.has_room());
    for token in tokens {
        let mut bytes = vec![1; shard.connection(token).expect("still open").room()];
        let mut conn = shard.connection(token).expect("still open");
        conn.received(&mut bytes);
        while conn.next_event::<H::Message>().is_some() {}
        let _ = conn.finish();
        input += usize::from(!bytes.is_empty());
    }
    assert_eq!(
        input,
        config.sockets.min(config.input_blocks + config.receive_blocks),
        "an input block is lost"
    );
}
