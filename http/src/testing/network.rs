//! The transport in memory.

use alloc::vec::Vec;

use lightcone_core::poller::{Accept, Received, Transport};
use lightcone_core::{Address, ErrorKind, Interest, ListenerId, Sent, Token};

/// The other end of a connection, which the test controls.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) token: Option<Token>,
    pub(crate) interest: Interest,
    /// Bytes that the peer has sent and the server has not received yet.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that the peer has received.
    pub(crate) received: Vec<u8>,
    /// The number of bytes that the peer still accepts.
    pub(crate) window: usize,
    /// The maximum number of bytes that the server receives at once.
    pub(crate) cut: usize,
    /// The number of bytes of the last send that the peer did not accept.
    pub(crate) queued: usize,
    /// Whether the server has shut down writing.
    pub(crate) shut: bool,
    pub(crate) closed: bool,
    /// Whether the server has reset the connection.
    pub(crate) reset: bool,
    /// Whether the peer has ended its stream.
    pub(crate) ended: bool,
    /// Whether the server has received that end.
    pub(crate) told_end: bool,
    /// Whether the responses to the requests in progress have no body, the oldest first.
    pub(crate) bodiless: Vec<bool>,
}

impl Peer {
    pub(crate) const fn new() -> Self {
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
            bodiless: Vec::new(),
        }
    }
}

/// All connections of a test server. A connection is represented by the index of its peer.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) peers: Vec<Peer>,
    /// A connection that has not been accepted yet.
    pub(crate) backlog: Option<usize>,
    /// The address of all peers.
    pub(crate) address: Address,
}

impl Network {
    fn peer(&mut self, connection: usize, token: Token) -> &mut Peer {
        let Some(peer) = self.peers.get_mut(connection) else { unreachable!("peers are never removed") };
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
        let Some(peer) = self.peers.get_mut(connection) else { unreachable!("peers are never removed") };
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
        buffer.iter_mut().zip(peer.inbox.drain(..n)).for_each(|(to, byte)| *to = byte);
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
        let address = self.address;
        self.backlog.take().map_or(Accept::WouldBlock, |connection| Accept::Accepted(connection, address))
    }
}
