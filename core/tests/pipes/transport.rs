use lightcone_core::poller::{Accept, Received, Transport};
use lightcone_core::{Address, ErrorKind, Interest, ListenerId, Sent, Token};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// A connection in memory. The test program is its peer and reads and writes the fields.
#[derive(Default)]
pub struct Pipe {
    /// The bytes that the peer has written and the poller has not received yet.
    pub to_poller: VecDeque<u8>,
    /// The bytes that the peer has received.
    pub to_peer: Vec<u8>,
    /// How many more bytes the peer accepts.
    pub window: usize,
    /// Whether the peer has ended its stream.
    pub peer_ended: bool,
    /// Whether the poller has shut down writing, or closed.
    pub ended: bool,
    /// Whether the poller has closed with a reset.
    pub reset: bool,
}

pub type PipeRef = Rc<RefCell<Pipe>>;

/// All connections of one poller, indexed by the index of the token.
#[derive(Default)]
pub struct Pipes {
    /// Connections that wait to be accepted.
    pub backlog: VecDeque<PipeRef>,
    watched: Vec<Option<(Token, PipeRef, Interest)>>,
    listening: bool,
}

impl Pipes {
    /// Returns whether there is a connection to accept.
    pub fn acceptable(&self) -> bool {
        self.listening && !self.backlog.is_empty()
    }

    /// Returns the sockets that are ready, and for what.
    pub fn ready(&self) -> Vec<(Token, Interest)> {
        let ready = |(token, pipe, interest): &(Token, PipeRef, Interest)| {
            let pipe = pipe.borrow();
            let read = interest.reads() && (pipe.peer_ended || !pipe.to_poller.is_empty());
            (*token, Interest::new(read, interest.writes() && pipe.window > 0))
        };
        self.watched.iter().flatten().map(ready).filter(|(_, ready)| !ready.is_none()).collect()
    }
}

impl Transport for Pipes {
    const CONNECTS: bool = false;
    type Unregistered = PipeRef;
    type Registered = PipeRef;
    type Listener = (); // the backlog is the listener

    fn register(&mut self, pipe: PipeRef, token: Token, interest: Interest) -> Result<PipeRef, ErrorKind> {
        let index = token.index() as usize;
        self.watched.resize(self.watched.len().max(index + 1), None);
        self.watched[index] = Some((token, Rc::clone(&pipe), interest));
        Ok(pipe)
    }

    fn modify(&mut self, _: &mut PipeRef, token: Token, _: Interest, new: Interest) -> Result<(), ErrorKind> {
        self.watched[token.index() as usize].as_mut().expect("the token is registered").2 = new;
        Ok(())
    }

    fn receive(&mut self, pipe: &mut PipeRef, _: Token, buffer: &mut [u8]) -> Received {
        let mut pipe = pipe.borrow_mut();
        let n = buffer.len().min(pipe.to_poller.len());
        buffer.iter_mut().zip(pipe.to_poller.drain(..n)).for_each(|(to, byte)| *to = byte);
        match n {
            0 if pipe.peer_ended => Received::End,
            0 => Received::WouldBlock,
            n => Received::Bytes(n),
        }
    }

    fn send(&mut self, pipe: &mut PipeRef, _: Token, bytes: &[u8]) -> Sent {
        let mut pipe = pipe.borrow_mut();
        let n = bytes.len().min(pipe.window);
        pipe.window -= n;
        pipe.to_peer.extend_from_slice(&bytes[..n]);
        if n == 0 { Sent::WouldBlock } else { Sent::Bytes(n) }
    }

    fn shutdown_write(&mut self, pipe: &mut PipeRef, _: Token) -> Result<(), ErrorKind> {
        pipe.borrow_mut().ended = true;
        Ok(())
    }

    fn close(&mut self, pipe: PipeRef, token: Token, _: Interest, reset: bool) {
        self.watched[token.index() as usize] = None;
        let mut pipe = pipe.borrow_mut();
        (pipe.ended, pipe.reset) = (true, reset);
    }

    fn watch_listener(&mut self, (): &mut (), _: ListenerId) -> Result<(), ErrorKind> {
        self.listening = true;
        Ok(())
    }

    fn unwatch_listener(&mut self, (): &mut (), _: ListenerId) {
        self.listening = false;
    }

    fn accept(&mut self, (): &mut (), _: ListenerId) -> Accept<PipeRef> {
        let peer = Address::Inet(([192, 0, 2, 1], 49152).into());
        self.backlog.pop_front().map_or(Accept::WouldBlock, |pipe| Accept::Accepted(pipe, peer))
    }
}
