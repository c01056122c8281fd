//! A server on a poller, with its connections in memory.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use lightcone_core::poller::{AloneWithMail, ListenerEntry, Poller, PollerStorage, TopicStorage};
use lightcone_core::{
    Address, Config, ErrorKind, Handler, Instant, ListenerId, Shard, Stats, Storage, TimerStorage,
    TimerWheel, Token,
};

use super::network::{Network, Peer};
use super::{TestRequest, TestResponse};

pub(crate) const LISTENER: ListenerId = ListenerId(0);
/// The maximum number of turns at one time.
const TURNS: usize = 100;
/// The maximum number of turns in one [`TestServer::advance`].
const ADVANCE_TURNS: usize = 1_000_000;
/// The longest time that a request waits for its response.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Sunday, 6 November 1994, 08:49:37 UTC: the example of RFC 9110, section 5.6.7.
const UNIX_TIME: u64 = 784_111_777;

pub(crate) type TestPoller<H> = Poller<'static, H, Network, AloneWithMail<<H as Handler>::Message, 8>>;

/// A server in memory, with the clients' ends of its connections.
///
/// It runs any [`Handler`], not only [`Http`](crate::Http). Connections are numbered from 0. The
/// [module's page](super) has examples.
///
/// The memory of the server's poller, about 400 KiB with the default configuration, is never freed: create a server for
/// each test rather than for each request.
pub struct TestServer<H: Handler + 'static> {
    pub(crate) poller: TestPoller<H>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) now: Instant,
    pub(crate) unix_time: Option<u64>,
}

impl<H: Handler + 'static> TestServer<H> {
    /// The default configuration: 64 sockets with blocks of 4 KiB, 256 subscriptions, and the default timeouts.
    pub const CONFIG: Config = Config {
        sockets: 64,
        block_size: 4096,
        input_blocks: 8,
        output_blocks: 64,
        output_limit: 8,
        receive_size: 65_536,
        receive_blocks: 1,
        timers: 16,
        subscriptions: 256,
        ..Config::DEVICE
    };

    /// Creates a server with the default [configuration](Self::CONFIG).
    pub fn new(handler: H) -> Self {
        Self::with_config(handler, &Self::CONFIG)
    }

    /// Creates a server with a configuration of its own.
    ///
    /// # Panics
    ///
    /// If the configuration is invalid.
    pub fn with_config(handler: H, config: &Config) -> Self {
        let now = Instant::from_millis(0);
        let slots = Box::leak(Box::new_uninit_slice(config.sockets));
        let storage = Storage { slots, memory: vec![0; config.memory()].leak() };
        let shard = Shard::new(storage, config, now).unwrap_or_else(|error| panic!("{error}"));
        let timers = Box::leak(Box::new_uninit_slice(config.timers));
        let storage = PollerStorage {
            timers: TimerStorage::new(Box::leak(Box::new(TimerWheel::new())), timers),
            rooms: Box::leak(Box::new_uninit_slice(config.room_requests)),
            topics: TopicStorage::new(
                Box::leak(Box::new_uninit_slice(config.subscriptions)),
                Box::leak(Box::new_uninit_slice(config.sockets)),
            ),
            connections: Box::leak(Box::new_uninit_slice(config.sockets)),
            listeners: Vec::leak(vec![None::<ListenerEntry<()>>]),
            buffer: vec![0; config.receive_size.max(config.block_size)].leak(),
        };
        let address = Address::Inet(([192, 0, 2, 1], 1234).into());
        let network = Network { peers: Vec::new(), backlog: None, address };
        let mut poller = Poller::new(shard, handler, network, AloneWithMail::new(), storage)
            .unwrap_or_else(|error| panic!("{error}"));
        assert!(poller.listen((), LISTENER).is_ok(), "there is room for one listener");
        Self { poller, peers: Vec::new(), now, unix_time: Some(UNIX_TIME) }
    }

    /// Returns the handler. If it is an `Http`, [`state_mut`](crate::Http::state_mut) returns its state.
    pub const fn handler(&mut self) -> &mut H {
        self.poller.handler_mut()
    }

    /// Returns the current time, which begins at 0.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Sets the time of the wall clock in seconds since 1970, which responses send as `Date`; `None` for no clock. It
    /// does not advance by itself, and is 784111777 at first: Sun, 06 Nov 1994 08:49:37 GMT.
    pub const fn set_unix_time(&mut self, unix_time: Option<u64>) {
        self.unix_time = unix_time;
    }

    /// Sets the address of the peers of all later connections: 192.0.2.1:1234 at first.
    pub const fn set_address(&mut self, address: Address) {
        self.poller.transport_mut().address = address;
    }

    /// Lets time pass, with a turn of the poller whenever one is due.
    ///
    /// # Panics
    ///
    /// If the end of this time is not reached in a million turns, because the handler keeps the poller busy.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..ADVANCE_TURNS {
            match self.poller.next_turn().filter(|at| *at <= end) {
                Some(at) => self.turn_at(at),
                None => return self.turn_at(end),
            }
        }
        panic!("the handler keeps the poller busy: a million turns until {} ms", self.now.as_millis());
    }

    /// Begins a graceful shutdown, in which connections have the grace time to end.
    pub fn stop(&mut self, grace: Duration) {
        self.with_poller(|poller| {
            poller.stop(grace);
            poller.turn();
        });
    }

    /// Posts a message to the socket of `token`, such as a [`RequestMessage`](crate::RequestMessage) to a request.
    /// Returns whether there was room; up to 8 messages wait.
    pub fn post(&mut self, token: Token, message: H::Message) -> bool {
        let mut posted = false;
        self.with_poller(|poller| {
            posted = poller.post(token, message).is_ok();
            poller.turn();
        });
        posted
    }

    /// Sends a `GET` request on a connection of its own, and returns the response. See [`request`](Self::request).
    ///
    /// # Panics
    ///
    /// If there is no complete response.
    pub fn get(&mut self, target: &str) -> TestResponse {
        self.request(TestRequest::get(target))
    }

    /// Sends a request on a connection of its own, lets time pass until the response has arrived, and ends the
    /// connection. Interim responses are skipped.
    ///
    /// # Panics
    ///
    /// If there is no complete response within an hour of the server's time, or before the server ends the connection.
    pub fn request(&mut self, request: TestRequest) -> TestResponse {
        let described = request.to_string();
        let connection = self.start(request);
        let give_up = self.now + PATIENCE;
        for _ in 0..ADVANCE_TURNS {
            if let Some(response) = self.response(connection) {
                self.end(connection);
                return response;
            }
            match self.poller.next_turn().filter(|at| *at <= give_up) {
                _ if self.is_ended(connection) => {
                    self.no_response(connection, &described, "the connection ended")
                }
                Some(at) => self.turn_at(at),
                None => self.no_response(connection, &described, "nothing happened for an hour"),
            }
        }
        self.no_response(connection, &described, "a million turns passed")
    }

    fn no_response(&mut self, connection: usize, request: &str, reason: &str) -> ! {
        let so_far = self.receive(connection);
        panic!("no response to {request}: {reason} after {:?}", String::from_utf8_lossy(&so_far));
    }

    /// Opens a connection and sends a request on it. Returns the number of the connection.
    pub fn start(&mut self, request: TestRequest) -> usize {
        let connection = self.connect();
        self.send_request(connection, request);
        connection
    }

    /// Sends a request on a connection. Responses to earlier requests may still be missing (pipelining).
    pub fn send_request(&mut self, connection: usize, request: TestRequest) {
        self.peer(connection).bodiless.push(request.is_head());
        self.send(connection, &request.to_bytes());
    }

    /// Returns the next response on a connection and removes it; `None` unless it has arrived completely. Interim
    /// responses are skipped.
    ///
    /// # Panics
    ///
    /// If the bytes that the server sent are not a response.
    pub fn response(&mut self, connection: usize) -> Option<TestResponse> {
        let response = self.partial(connection).filter(TestResponse::is_complete)?;
        let peer = self.peer(connection);
        while let Some((next, size)) = peer.read() {
            peer.received.drain(..size);
            if !next.is_interim() {
                break;
            }
        }
        if !peer.bodiless.is_empty() {
            peer.bodiless.remove(0);
        }
        Some(response)
    }

    /// Returns what has arrived of the next response on a connection, and leaves it there; `None` unless its head is
    /// complete. Interim responses are skipped.
    ///
    /// # Panics
    ///
    /// If the bytes that the server sent are not a response.
    pub fn partial(&mut self, connection: usize) -> Option<TestResponse> {
        let peer = self.peer(connection);
        while let Some((response, size)) = peer.read() {
            if !response.is_interim() {
                return Some(response);
            }
            peer.received.drain(..size);
        }
        None
    }

    /// Opens a connection. Returns its number.
    ///
    /// # Panics
    ///
    /// If the server does not accept it, because all sockets are in use, it is stopping, or the handler turned it away.
    pub fn connect(&mut self) -> usize {
        let connection = self.peers.len();
        self.peers.push(Peer::new());
        self.with_poller(|poller| {
            poller.transport_mut().backlog = Some(connection);
            poller.on_acceptable(LISTENER);
        });
        assert!(self.peer(connection).token.is_some(), "the connection was not accepted");
        connection
    }

    /// Sends bytes on a connection. The server receives them at once, unless it does not read.
    pub fn send(&mut self, connection: usize, bytes: &[u8]) {
        self.peer(connection).inbox.extend_from_slice(bytes);
        self.pump(connection);
    }

    /// Returns the bytes that the server has sent on a connection since the last call.
    pub fn receive(&mut self, connection: usize) -> Vec<u8> {
        core::mem::take(&mut self.peer(connection).received)
    }

    /// Ends the client's stream, after all bytes that it has sent.
    pub fn end(&mut self, connection: usize) {
        self.peer(connection).ended = true;
        self.pump(connection);
    }

    /// Resets a connection from the client's side.
    pub fn reset(&mut self, connection: usize) {
        self.with_socket(connection, |poller, token| poller.on_failed(token, ErrorKind::ConnectionReset));
    }

    /// Sets how many more bytes the client accepts: no limit at first.
    pub fn set_window(&mut self, connection: usize, bytes: usize) {
        self.peer(connection).window = bytes;
        self.with_socket(connection, Poller::on_writable);
        self.pump(connection);
    }

    /// Sets the maximum number of bytes that the server receives at once, at least 1: no limit at first.
    pub fn set_piece(&mut self, connection: usize, bytes: usize) {
        self.peer(connection).cut = bytes.max(1);
    }

    /// Returns how many of the client's bytes the server has not received.
    pub fn unread(&mut self, connection: usize) -> usize {
        self.peer(connection).inbox.len()
    }

    /// Returns whether the server has ended its stream, closed the connection or reset it.
    pub fn is_ended(&mut self, connection: usize) -> bool {
        self.peer(connection).has_end()
    }

    /// Returns whether the server has reset the connection.
    pub fn is_reset(&mut self, connection: usize) -> bool {
        self.peer(connection).reset
    }

    /// Returns the counts of the engine, such as those of [topics](lightcone_core::Stats::topics).
    pub const fn stats(&self) -> Stats {
        self.poller.stats()
    }

    /// Returns the token of a connection's socket, to which messages can be [posted](Self::post).
    pub fn token(&mut self, connection: usize) -> Option<Token> {
        self.peer(connection).token
    }

    fn peer(&mut self, connection: usize) -> &mut Peer {
        let count = self.peers.len();
        let Some(peer) = self.peers.get_mut(connection) else {
            panic!("no connection {connection}: there are {count}");
        };
        peer
    }

    /// Runs `what` on the poller at the current time, with the peers in its network.
    pub(crate) fn with_poller(&mut self, what: impl FnOnce(&mut TestPoller<H>)) {
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
        self.poller.begin_turn(self.now, self.unix_time);
        what(&mut self.poller);
        core::mem::swap(&mut self.peers, &mut self.poller.transport_mut().peers);
    }

    /// Runs `what` on the poller with the token of a connection, unless it is closed.
    pub(crate) fn with_socket(&mut self, connection: usize, what: impl FnOnce(&mut TestPoller<H>, Token)) {
        if let Peer { token: Some(token), closed: false, .. } = *self.peer(connection) {
            self.with_poller(|poller| what(poller, token));
        }
    }

    /// Runs a turn at the time `at`, or now if that has passed.
    ///
    /// Then the server receives what waits at connections that it reads again.
    pub(crate) fn turn_at(&mut self, at: Instant) {
        self.now = self.now.max(at);
        self.with_poller(Poller::turn);
        for connection in 0..self.peers.len() {
            if self.peer(connection).has_input() {
                self.with_socket(connection, Poller::on_readable);
            }
        }
    }

    /// Returns whether the poller has something to do at the current time.
    pub(crate) fn is_busy(&self) -> bool {
        self.poller.next_turn().is_some_and(|at| at <= self.now)
    }

    /// Runs turns at the current time until nothing is left to do; returns their number, at most 100.
    pub(crate) fn turns(&mut self) -> usize {
        for turn in 0..TURNS {
            self.turn_at(self.now);
            if !self.is_busy() {
                return turn;
            }
        }
        TURNS
    }

    /// Lets the server receive and send as long as there is something to do at the current time.
    pub(crate) fn pump(&mut self, connection: usize) {
        loop {
            if self.is_busy() {
                self.turns();
            }
            let peer = self.peer(connection);
            if !peer.has_input() {
                return;
            }
            let (left, told) = (peer.inbox.len(), peer.told_end);
            self.with_socket(connection, Poller::on_readable);
            let peer = self.peer(connection);
            if (peer.inbox.len(), peer.told_end) == (left, told) {
                return;
            }
        }
    }
}

impl Peer {
    /// Returns whether the server reads, and there is something to receive.
    const fn has_input(&self) -> bool {
        !self.closed && self.interest.reads() && (!self.inbox.is_empty() || (self.ended && !self.told_end))
    }

    const fn has_end(&self) -> bool {
        self.shut || self.closed
    }

    /// Reads the response at the front of what was received.
    fn read(&self) -> Option<(TestResponse, usize)> {
        let bodiless = self.bodiless.first().copied().unwrap_or(false);
        TestResponse::read(&self.received, bodiless, self.has_end())
    }
}

impl<H: Handler + 'static> core::fmt::Debug for TestServer<H> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TestServer")
            .field("now", &self.now)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
