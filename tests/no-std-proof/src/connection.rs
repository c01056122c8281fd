//! A poller with one connection in memory: the bytes of the peer arrive in pieces, and the bytes sent to it are kept.

use core::mem::MaybeUninit;

use lightcone_core::poller::{
    Accept, Alone, ListenerEntry, Poller, PollerStorage, Received, TopicStorage, Transport,
};
use lightcone_core::{
    Address, Config, ErrorKind, Handler, Instant, Interest, ListenerId, Sent, Shard, Storage, TimerStorage,
    Token,
};

const CONFIG: Config = Config { sockets: 2, input_blocks: 2, output_blocks: 2, ..Config::DEVICE };
const LISTENER: ListenerId = ListenerId(0);

/// Accepts a peer that sends `pieces` one by one and then closes, unless the poller closes first. The bytes sent to the
/// peer are stored in `heard`. Returns their number, or `None` if the connection did not behave as it must.
pub fn play<H>(handler: H, pieces: &[&[u8]], heard: &mut [u8]) -> Option<usize>
where
    H: Handler,
{
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let mut connections = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut listeners: [Option<ListenerEntry<()>>; 1] = [None];
    let mut buffer = [0; 512];
    let now = Instant::from_millis(0);
    let shard = Shard::new(Storage { slots: &mut slots, memory: &mut memory }, &CONFIG, now).ok()?;
    let line = Line { peer: Peer::Calls, heard, told: 0, said: &[], leaves: false };
    let storage = PollerStorage {
        connections: &mut connections,
        listeners: &mut listeners,
        buffer: &mut buffer,
        timers: TimerStorage::none(),
        rooms: &mut [],
        topics: TopicStorage::none(),
    };
    let mut poller = Poller::<_, _, Alone>::new(shard, handler, line, Alone, storage).ok()?;
    poller.listen((), LISTENER).ok()?;
    poller.on_acceptable(LISTENER);
    poller.next_turn()?; // there must be a deadline: that of a timeout
    let leaving = pieces.iter().map(|piece| (*piece, false)).chain([(&[][..], true)]);
    for (piece, leaves) in leaving {
        let Peer::Open(token) = poller.transport().peer else { break };
        (poller.transport_mut().said, poller.transport_mut().leaves) = (piece, leaves);
        poller.on_readable(token);
        poller.begin_turn(now, None);
        poller.turn();
    }
    let Line { peer: Peer::Gone, told, .. } = *poller.transport() else { return None };
    (poller.shard().in_use() == 0 && poller.next_turn().is_none()).then_some(told)
}

/// The state of the peer.
enum Peer {
    Calls,
    Accepted,
    Open(Token),
    Gone,
}

/// The transport of one connection.
struct Line<'a> {
    peer: Peer,
    /// The bytes sent to the peer: the first `told` ones are valid.
    heard: &'a mut [u8],
    told: usize,
    /// What the peer has sent and the poller has not received, and whether the peer closes after that.
    said: &'a [u8],
    leaves: bool,
}

impl Transport for Line<'_> {
    const CONNECTS: bool = false;
    type Unregistered = ();
    type Registered = ();
    type Listener = ();

    fn register(&mut self, (): (), token: Token, _: Interest) -> Result<(), ErrorKind> {
        self.peer = Peer::Open(token);
        Ok(())
    }

    fn modify(&mut self, (): &mut (), _: Token, _: Interest, _: Interest) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn receive(&mut self, (): &mut (), _: Token, buffer: &mut [u8]) -> Received {
        let n = self.said.len().min(buffer.len());
        if n == 0 {
            return if self.leaves { Received::End } else { Received::WouldBlock };
        }
        let (now, later) = self.said.split_at(n);
        if let Some(to) = buffer.get_mut(..n) {
            to.copy_from_slice(now);
        }
        self.said = later;
        Received::Bytes(n)
    }

    fn send(&mut self, (): &mut (), _: Token, bytes: &[u8]) -> Sent {
        let Some(to) = self.heard.get_mut(self.told..self.told + bytes.len()) else {
            return Sent::Failed(ErrorKind::Other);
        };
        to.copy_from_slice(bytes);
        self.told += bytes.len();
        Sent::Bytes(bytes.len())
    }

    fn shutdown_write(&mut self, (): &mut (), _: Token) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn close(&mut self, (): (), _: Token, _: Interest, _: bool) {
        self.peer = Peer::Gone;
    }

    fn accept(&mut self, (): &mut (), _: ListenerId) -> Accept<()> {
        if !matches!(self.peer, Peer::Calls) {
            return Accept::WouldBlock;
        }
        self.peer = Peer::Accepted;
        Accept::Accepted((), Address::Inet(([192, 0, 2, 1], 49152).into()))
    }
}
