//! The peer of a socket: a plain blocking socket with a timeout for every call.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::thread;

use lightcone_core::{Address, Token, Witness};
use lightcone_unix::address::SocketAddress;
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::socket::{self, Connecting};

use crate::trace::patience;

/// A peer of the engine.
#[derive(Debug)]
pub struct Peer(Stream);

/// The actions so far of a peer that connected over TCP.
#[derive(Default, Debug)]
struct Deeds {
    sent: Vec<u8>,
    /// Whether it may have ended its side.
    ended: bool,
    /// Whether two peers used its address, perhaps with different engines.
    ambiguous: bool,
    /// Whether it was dropped. Its address may be that of an unrelated socket by now, such as a listener.
    gone: bool,
}

/// The actions of all peers, by the address from which they connected.
static DEEDS: LazyLock<Mutex<HashMap<Address, Deeds>>> = LazyLock::new(Mutex::default);

fn deeds() -> MutexGuard<'static, HashMap<Address, Deeds>> {
    DEEDS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A [`Witness`] for the [`ContractChecker`](lightcone_core::ContractChecker): what the peers that connected over TCP
/// have sent, and whether they may have ended.
#[derive(Clone, Copy, Default, Debug)]
pub struct Peers;

impl Witness for Peers {
    fn has_sent(&mut self, _: Token, peer: &Address, before: u64, bytes: &[u8]) -> bool {
        let deeds = deeds();
        // an unknown or ambiguous peer proves nothing, so it never counts as a violation
        let Some(Deeds { sent, ambiguous: false, gone: false, .. }) = deeds.get(peer) else { return true };
        let before = usize::try_from(before).unwrap_or(usize::MAX);
        sent.get(before..).is_some_and(|rest| rest.starts_with(bytes))
    }

    fn has_ended(&mut self, _: Token, peer: &Address) -> bool {
        deeds().get(peer).is_none_or(|deeds| deeds.ended || deeds.ambiguous)
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Evaluates an expression for either kind of stream.
macro_rules! either {
    ($stream:expr, $it:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($it) => $call,
            Stream::Unix($it) => $call,
        }
    };
}

impl Peer {
    /// Connects to an endpoint.
    pub fn connect(to: &Endpoint) -> Self {
        Self::connect_with(to, |_| {})
    }

    /// Connects a socket after `prepare` has set its options.
    pub fn connect_with(to: &Endpoint, prepare: impl FnOnce(BorrowedFd<'_>)) -> Self {
        let fd = socket::stream_socket(to).unwrap();
        prepare(fd.as_fd());
        let stream = match to {
            Endpoint::Inet(to) => {
                let stream = TcpStream::from(fd);
                // Only a port that is bound explicitly is never given to another socket, which may connect to another
                // listener from the same port otherwise and then be taken for this peer.
                if stream.local_addr().unwrap().port() == 0 {
                    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
                    socket::bind(stream.as_fd(), &SocketAddress::inet((any, 0).into())).unwrap();
                }
                Stream::Tcp(stream)
            }
            Endpoint::Unix(_) => Stream::Unix(fd.into()),
        };
        either!(&stream, it => it.set_nonblocking(false)).unwrap();
        let fd = either!(&stream, it => it.as_fd());
        assert_eq!(socket::connect(fd, &SocketAddress::new(to)), Connecting::Done, "connecting to {to}");
        if let Stream::Tcp(it) = &stream {
            it.set_nodelay(true).unwrap();
            let before = deeds().insert(it.local_addr().unwrap().into(), Deeds::default());
            Self::note(&stream, |deeds| deeds.ambiguous = before.is_some());
        }
        Self(stream).patient()
    }

    /// Records an action of a peer. Called before the action: the engine may see its effect at once.
    fn note(stream: &Stream, what: impl FnOnce(&mut Deeds)) {
        let Stream::Tcp(it) = stream else { return };
        if let Ok(address) = it.local_addr()
            && let Some(deeds) = deeds().get_mut(&address.into())
        {
            what(deeds);
        }
    }

    /// Connects from a local address.
    pub fn connect_from(from: IpAddr, to: &Endpoint) -> Self {
        Self::connect_with(to, |fd| {
            socket::bind(fd, &SocketAddress::inet((from, 0).into())).unwrap();
        })
    }

    /// Connects a socket with small buffers of about `bytes` bytes.
    pub fn connect_narrow(to: &Endpoint, bytes: u32) -> Self {
        Self::connect_with(to, |fd| {
            socket::set_receive_buffer(fd, bytes).unwrap();
            socket::set_send_buffer(fd, bytes).unwrap();
        })
    }

    /// Accepts the next connection of a listener.
    pub fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let stream = lightcone_contract::sockets::soon("accept", || listener.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        stream.into()
    }

    fn patient(self) -> Self {
        self.set_read_timeout(patience());
        either!(&self.0, it => it.set_write_timeout(Some(patience()))).unwrap();
        self
    }

    fn set_read_timeout(&self, timeout: Duration) {
        either!(&self.0, it => it.set_read_timeout(Some(timeout))).unwrap();
    }

    /// Returns the peer's own address, which is its address in the engine.
    pub fn address(&self) -> Address {
        match &self.0 {
            Stream::Tcp(it) => it.local_addr().unwrap().into(),
            Stream::Unix(_) => panic!("a Unix peer has no address"),
        }
    }

    /// Returns the address of the engine's side.
    pub fn other_address(&self) -> Address {
        match &self.0 {
            Stream::Tcp(it) => it.peer_addr().unwrap().into(),
            Stream::Unix(_) => panic!("a Unix peer has no address"),
        }
    }

    /// Sends all bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends all bytes, or returns the error.
    ///
    /// # Errors
    ///
    /// Any error of the system.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::note(&self.0, |deeds| deeds.sent.extend_from_slice(bytes));
        either!(&mut self.0, it => it.write_all(bytes))
    }

    /// Receives exactly `count` bytes.
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        either!(&mut self.0, it => it.read_exact(&mut bytes)).unwrap();
        bytes
    }

    /// Receives at least one byte and at most `most`; an empty result is the end of the stream.
    ///
    /// # Errors
    ///
    /// Any error of the system.
    pub fn try_receive(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        loop {
            match either!(&mut self.0, it => it.read(&mut bytes)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    bytes.truncate(result?);
                    return Ok(bytes);
                }
            }
        }
    }

    /// Receives the available bytes, at most `most`, without waiting.
    ///
    /// An empty result is the end of the stream; `None` means that there are no bytes yet.
    pub fn poll(&mut self, most: usize) -> Option<Vec<u8>> {
        either!(&self.0, it => it.set_nonblocking(true)).unwrap();
        let there = self.try_receive(most);
        either!(&self.0, it => it.set_nonblocking(false)).unwrap();
        match there {
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            there => Some(there.unwrap()),
        }
    }

    /// Receives until the end of the stream.
    pub fn receive_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        either!(&mut self.0, it => it.read_to_end(&mut bytes)).unwrap();
        bytes
    }

    /// Checks that the stream ends cleanly, without further bytes.
    pub fn expect_end(&mut self) {
        assert_eq!(self.try_receive(64).map_err(|error| error.kind()), Ok(vec![]));
    }

    /// Waits for an end of any kind, and returns the bytes before it.
    pub fn drain(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.try_receive(4_096) {
                Ok(bytes) if bytes.is_empty() => return all,
                Ok(bytes) => all.extend(bytes),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the engine's side does not end");
                }
                Err(_) => return all,
            }
        }
    }

    /// Checks that no bytes arrive for a while.
    pub fn expect_silence(&mut self, span: Duration) {
        self.set_read_timeout(span);
        let kind = self.try_receive(64).map_err(|error| error.kind());
        assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{kind:?}");
        self.set_read_timeout(patience());
    }

    /// Sends the bytes and checks that the same bytes are received.
    pub fn exchange(&mut self, bytes: &[u8]) {
        if bytes.len() <= 1_024 {
            self.send(bytes);
            return assert_eq!(self.receive(bytes.len()), bytes);
        }
        // more than the buffers hold: without a second thread, both sides would wait to send
        let mut writer = self.clone();
        thread::scope(|scope| {
            scope.spawn(move || writer.send(bytes));
            let received = self.receive(bytes.len());
            assert!(received == bytes, "{} echoed bytes are different", bytes.len());
        });
    }

    /// Half-closes: ends this side, while the engine may still send.
    pub fn finish(&self) {
        Self::note(&self.0, |deeds| deeds.ended = true);
        either!(&self.0, it => it.shutdown(Shutdown::Write)).unwrap();
    }

    /// Ends both directions, which also ends blocking calls of other threads on this socket.
    pub fn cut(&self) {
        Self::note(&self.0, |deeds| deeds.ended = true);
        // an error means that it has ended already
        let _ = either!(&self.0, it => it.shutdown(Shutdown::Both));
    }

    /// Closes with a reset.
    pub fn reset(self) {
        socket::set_abort_on_close(either!(&self.0, it => it.as_fd())).unwrap();
    }
}

impl Drop for Peer {
    /// Records the end. Clones share a socket: after the drop of one, nothing is checked for the others.
    fn drop(&mut self) {
        Self::note(&self.0, |deeds| (deeds.ended, deeds.gone) = (true, true));
    }
}

impl Clone for Peer {
    /// Duplicates the descriptor of the socket.
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Stream::Tcp(it) => Stream::Tcp(it.try_clone().unwrap()),
            Stream::Unix(it) => Stream::Unix(it.try_clone().unwrap()),
        })
    }
}

impl From<TcpStream> for Peer {
    fn from(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self(Stream::Tcp(stream)).patient()
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(&self.0, it => it.as_fd())
    }
}

/// Returns pseudo-random bytes, in which a missing, doubled or moved byte is noticed.
#[must_use]
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}
