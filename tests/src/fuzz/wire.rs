//! One shard with its handler, and peers in memory that send and take as they are told.

use std::mem::MaybeUninit;

use lightcone_core::{
    Address, Checked, Config, Context, ContractChecker, ErrorKind, Handler, Instant, Interest, ListenerId,
    Next, NoOutbox, Origin, PollerId, Port, Shard, Slot, Storage, Token, UnixId,
};

pub(crate) const PEER: Address = Address::Unix(UnixId(7));
pub(crate) const ACCEPTED: Origin = Origin::Accepted { listener: ListenerId(0) };

/// How a wire is broken on purpose, to see that it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Not at all.
    None,
    /// Nobody is told when sending is possible again.
    LostWritable,
    /// The first byte of each receive but the first is dropped.
    LostByte,
    /// Of each send that was cut short, the last byte goes out again with the next one.
    DoubledByte,
    /// The last byte of each send never arrives.
    LostTail,
    /// The end of a peer's stream is not told.
    LostEnd,
    /// The bytes of one receive are handed over with the last two exchanged.
    Reordered,
}

/// The memory of a shard; given back when it is over, unlike that of a shard which lives for ever.
pub(crate) struct Memory<D> {
    slots: Vec<MaybeUninit<Slot<D>>>,
    bytes: Vec<u8>,
}

impl<D> Memory<D> {
    pub(crate) fn new(config: &Config) -> Self {
        let slots = (0..config.sockets).map(|_| MaybeUninit::uninit()).collect();
        Self { slots, bytes: vec![0xA5; config.memory()] }
    }

    pub(crate) fn storage(&mut self) -> Storage<'_, D> {
        Storage { slots: &mut self.slots, memory: &mut self.bytes }
    }
}

/// The other end of a connection, and the kernel between.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) token: Token,
    /// All that it sends, and how much of that was received.
    pub(crate) sends: Vec<u8>,
    pub(crate) taken: usize,
    /// All that it got.
    pub(crate) got: Vec<u8>,
    /// How many more bytes it takes, and the most bytes of one receive and one send.
    pub(crate) window: usize,
    pub(crate) pieces: (usize, usize),
    /// Its stream ends behind what it sends.
    pub(crate) ends: bool,
    /// Bytes it has sent in all, once that is settled.
    pub(crate) end: Option<usize>,
    told_end: bool,
    pub(crate) interest: Interest,
    /// The server has shut down writing; has closed.
    pub(crate) shut: bool,
    pub(crate) closed: bool,
    /// It has reset the connection.
    pub(crate) reset: bool,
    again: Option<u8>,
}

pub(crate) struct Wire<'s, H: Handler> {
    pub(crate) shard: Shard<'s, Checked<H::Data>>,
    handler: ContractChecker<H>,
    pub(crate) peers: Vec<Peer>,
    now: u64,
    flaw: Flaw,
}

/// Far more orders than any input can cause.
const ORDERS: usize = 200_000;

impl<'s, H: Handler> Wire<'s, H> {
    pub(crate) fn new(
        memory: &'s mut Memory<Checked<H::Data>>,
        config: &Config,
        handler: H,
        flaw: Flaw,
    ) -> Self {
        let shard = Shard::new(memory.storage(), config, Instant::from_millis(0)).unwrap();
        Self { shard, handler: ContractChecker::new(handler), peers: Vec::new(), now: 0, flaw }
    }

    /// A new connection, unless there is no room for it; its number.
    pub(crate) fn connect(&mut self) -> Option<usize> {
        let room = self.shard.has_room();
        let admitted = self.shard.admit(&mut self.handler, ACCEPTED, &PEER);
        assert_eq!(admitted.is_ok(), room, "admitted against has_room");
        let token = admitted.ok()?;
        assert!(self.peers.iter().all(|peer| peer.token != token), "a token was given out twice");
        self.peers.push(Peer {
            token,
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
        });
        let peer = self.peers.len() - 1;
        self.run(peer);
        Some(peer)
    }

    /// Runs the port after `what` was told to it, and carries out what follows. `false`: the connection has gone.
    pub(crate) fn tell(
        &mut self,
        peer: usize,
        what: impl FnOnce(&mut Port<'_, 's, Checked<H::Data>>),
    ) -> bool {
        let token = self.peers[peer].token;
        let port = self.shard.port(token);
        assert_eq!(
            port.is_none(),
            self.peers[peer].closed,
            "the shard and its driver disagree on who is there"
        );
        let Some(mut port) = port else { return false };
        what(&mut port);
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        let next = port.run(&mut self.handler, &mut cx);
        self.carry_out(peer, next);
        true
    }

    pub(crate) fn run(&mut self, peer: usize) -> bool {
        self.tell(peer, |_| {})
    }

    pub(crate) fn put_off(&mut self, peer: usize) {
        if let Some(mut port) = self.shard.port(self.peers[peer].token) {
            port.put_off();
        }
    }

    pub(crate) fn message(&mut self, peer: usize, message: H::Message) {
        let Some(mut port) = self.shard.port(self.peers[peer].token) else {
            assert!(self.peers[peer].closed, "gone without a close");
            return;
        };
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        match port.message(message, &mut self.handler, &mut cx) {
            Ok(next) => self.carry_out(peer, next),
            Err(_) => drop(self.run(peer)),
        }
    }

    /// The peer resets the connection.
    pub(crate) fn reset(&mut self, peer: usize) {
        let reset = self.tell(peer, |port| port.failed(ErrorKind::ConnectionReset));
        self.peers[peer].reset |= reset;
        assert!(self.peers[peer].closed, "a reset connection goes on");
    }

    pub(crate) fn shutdown(&mut self) {
        self.shard.stop();
        for peer in 0..self.peers.len() {
            self.tell(peer, |port| port.shutdown());
        }
    }

    /// Time passes, and who waited for it gets a turn.
    pub(crate) fn pass(&mut self, millis: u64) -> bool {
        self.now += millis;
        self.shard.tick(Instant::from_millis(self.now));
        let mut turns = 0;
        while let Some(token) = self.shard.next_ready() {
            turns += 1;
            assert!(turns < 10_000, "a turn without an end");
            let peer = self.peers.iter().position(|peer| peer.token == token && !peer.closed);
            self.run(peer.expect("a turn for nobody"));
        }
        turns > 0
    }

    fn carry_out(&mut self, peer: usize, mut next: Next) {
        for _ in 0..ORDERS {
            let there = &mut self.peers[peer];
            assert!(!there.closed, "{next:?} for a closed connection");
            match next {
                Next::Wait(interest) => {
                    there.interest = interest;
                    return;
                }
                Next::Close => {
                    there.closed = true;
                    assert!(self.shard.port(there.token).is_none(), "closed, and still there");
                    return;
                }
                Next::Cancel => panic!("told to cancel with nothing in flight"),
                Next::Shut => {
                    assert!(!core::mem::replace(&mut there.shut, true), "shut down twice");
                }
                Next::Send => assert!(!there.shut, "a send behind the end"),
            }
            let mut port = self.shard.port(there.token).expect("still open");
            if next == Next::Send {
                send(&mut port, there, self.flaw);
            } else {
                port.shut();
            }
            let mut outbox = NoOutbox;
            let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
            next = port.run(&mut self.handler, &mut cx);
        }
        panic!("orders without an end");
    }

    /// One thing that the network can do for this peer, if there is any.
    pub(crate) fn step(&mut self, peer: usize) -> bool {
        let there = &self.peers[peer];
        if there.closed {
            return false;
        }
        if there.interest.writes() && there.window > 0 && self.flaw != Flaw::LostWritable {
            return self.tell(peer, |port| port.writable());
        }
        if !there.interest.reads() {
            return false;
        }
        let room = self.shard.port(there.token).map_or(0, |port| port.room());
        let n = (there.sends.len() - there.taken).min(there.pieces.0).min(room);
        if n > 0 {
            return self.receive(peer, n);
        }
        let over = there.taken == there.sends.len() && there.ends && !there.told_end;
        if over && self.flaw != Flaw::LostEnd {
            self.peers[peer].told_end = true;
            return self.tell(peer, |port| port.ended());
        }
        if room == 0 {
            self.run(peer); // others have taken the last block: the order is to wait for one
        }
        false
    }

    fn receive(&mut self, peer: usize, n: usize) -> bool {
        let there = &mut self.peers[peer];
        let from = there.taken;
        there.taken += n;
        let mut bytes = there.sends[from..from + n].to_vec();
        if self.flaw == Flaw::LostByte && from > 0 {
            bytes.remove(0);
        } else if self.flaw == Flaw::Reordered && n > 1 {
            bytes.swap(n - 2, n - 1);
        }
        let token = there.token;
        let Some(mut port) = self.shard.port(token) else { return false };
        port.received(&mut bytes);
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        let next = port.run(&mut self.handler, &mut cx);
        self.carry_out(peer, next);
        true
    }

    /// Lets everything happen that can happen at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ORDERS {
            let mut went_on = false;
            for peer in 0..self.peers.len() {
                went_on |= self.step(peer);
            }
            went_on |= self.pass(0);
            if !went_on {
                return;
            }
        }
        panic!("it never settles");
    }

    /// Every connection must have come to its end, and everything is there again that they used.
    pub(crate) fn is_clean(&mut self) {
        for (number, peer) in self.peers.iter().enumerate() {
            let (sends, taken, interest) = (peer.sends.escape_ascii(), peer.taken, peer.interest);
            assert!(
                peer.closed,
                "connection {number} is stuck at {taken} of {sends}, waits for {interest:?}"
            );
        }
        assert_eq!(self.handler.alive(), 0, "a socket without its last event");
        assert_eq!(self.shard.in_use(), 0);
        self.pass(0);
        self.pass(0);
        assert_eq!(self.shard.next_deadline(), None, "something is left to do");
        let stats = *self.shard.stats();
        let taken: usize = self.peers.iter().map(|peer| peer.taken).sum();
        let got: usize = self.peers.iter().map(|peer| peer.got.len()).sum();
        if self.flaw == Flaw::None {
            assert_eq!(
                (stats.bytes_in, stats.bytes_out),
                (taken as u64, got as u64),
                "bytes without an account"
            );
        }
        assert_eq!(stats.closed_total(), self.peers.len() as u64, "each connection ends once");
        everything_is_back(&mut self.shard, &mut self.handler);
    }
}

/// One send, as far as the peer takes it.
fn send<D>(port: &mut Port<'_, '_, D>, there: &mut Peer, flaw: Flaw) {
    let mut slices = [&[][..]; 64];
    let filled = port.outputs(&mut slices);
    let bytes = slices[..filled].concat();
    assert!(!bytes.is_empty(), "told to send nothing");
    let n = bytes.len().min(there.window).min(there.pieces.1);
    if there.window != usize::MAX {
        there.window -= n;
    }
    there.got.extend(there.again.take());
    there.got.extend_from_slice(&bytes[..n]);
    if n > 0 && flaw == Flaw::LostTail {
        there.got.pop();
    }
    if n > 0 && n < bytes.len() && flaw == Flaw::DoubledByte {
        there.again = there.got.last().copied();
    }
    if n > 0 {
        port.sent(n);
    }
    if n == 0 || there.window == 0 {
        port.blocked();
    }
}

/// All slots and blocks are free: new sockets can take every one of them.
pub(crate) fn everything_is_back<H: Handler<Data = D>, D>(shard: &mut Shard<'_, D>, handler: &mut H) {
    let config = *shard.config();
    if !shard.has_room() {
        return; // it is stopping: it admits nobody
    }
    let (mut output, mut input) = (0, 0);
    let mut tokens = Vec::new();
    for _ in 0..config.sockets {
        let Ok(token) = shard.admit(handler, ACCEPTED, &PEER) else { continue };
        let mut port = shard.port(token).expect("just admitted");
        let (_, mut socket) = port.next_event::<H::Message>().expect("open is due");
        let room = socket.room();
        socket.send(&vec![1; room]).expect("there is room");
        output += room;
        let _ = port.finish();
        tokens.push(token);
    }
    assert_eq!(tokens.len(), config.sockets, "a slot is lost");
    assert!(!shard.has_room());
    for token in tokens {
        let mut bytes = vec![1; shard.port(token).expect("still open").room()];
        let mut port = shard.port(token).expect("still open");
        port.received(&mut bytes);
        while port.next_event::<H::Message>().is_some() {}
        let _ = port.finish();
        input += usize::from(!bytes.is_empty());
    }
    let most = config.output_blocks.min(config.sockets * config.output_limit) * config.block_size;
    assert_eq!(output, most, "an output block is lost");
    assert_eq!(
        input,
        config.sockets.min(config.input_blocks + config.receive_blocks),
        "an input block is lost"
    );
}
