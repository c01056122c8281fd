//! A fixed number of TCP sockets, as a transport.

use core::fmt;
use core::time::Duration;

use heapless::Vec;
use lightcone_core::poller::{Accept, Connect, ConnectResult, Received, Transport};
use lightcone_core::{Address, ErrorKind, Instant, Interest, ListenerId, Sent, Token};
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{self, RecvError, State};

use crate::PORTS_MAX;
use crate::convert::{address, endpoint, instant, wake_at};
use crate::waiting_room::{Ends, WaitingRoom};

/// How long a connection that the poller has closed may take to deliver what it has sent and to end.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for one that has delivered all bytes, when connections wait for a socket.
const DELIVERED_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for one whose peer acknowledges nothing of what is left.
const UNDELIVERED_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same when connections wait for a socket.
const SHORT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time in milliseconds that a connection waits for a socket. By then its peer has given up, or asks again.
const WAIT_TIMEOUT_MS: u32 = 20_000;
/// The first of the local ports from which the pool connects.
const FIRST_LOCAL_PORT: u16 = 49_152;

/// The number of a TCP socket in its [`SocketPool`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PooledSocket(u16);

/// A TCP port on which connections are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortListener {
    /// The port, not 0.
    pub port: u16,
}

/// What a TCP socket is used for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Free,
    /// A handshake, or a connection that has yet to be accepted.
    Incoming(ListenerId),
    /// Accepted or connecting, and not registered yet.
    Taken,
    Watched {
        token: Token,
        interest: Interest,
    },
    /// Closed by the poller. TCP has yet to deliver the rest, or to forget the connection.
    Orphan,
}

/// A TCP socket of the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolEntry {
    handle: SocketHandle,
    role: Role,
    /// When it took its role.
    since: Instant,
    /// Whether the handshake was completed.
    established: bool,
    /// Whether the peer has ended its stream, which smoltcp forgets when the connection is over.
    peer_ended: bool,
    /// Whether received bytes were unread shortly before the end of the connection, at which smoltcp discards them.
    unread: bool,
    /// The number of sent bytes that are not acknowledged, and when it last changed.
    queue: usize,
    changed: Instant,
}

/// A port that the pool listens on.
#[derive(Clone, Copy, Debug)]
struct Port {
    number: u16,
    id: ListenerId,
    watched: bool,
}

/// The TCP sockets of a [`Stack`](crate::Stack), as the transport of its poller.
///
/// With `CONNECTS`, handlers can connect, and slots of the poller are reserved for that.
pub struct SocketPool<'s, const CONNECTS: bool = false> {
    interface: Interface,
    sockets: SocketSet<'s>,
    entries: &'s mut [PoolEntry],
    ports: Vec<Port, PORTS_MAX>,
    now: Instant,
    /// Whether connections wait for a socket.
    is_short: bool,
    last_port: u16,
}

impl<const CONNECTS: bool> fmt::Debug for SocketPool<'_, CONNECTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketPool")
            .field("entries", &self.entries)
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl PoolEntry {
    pub(crate) const fn new(handle: SocketHandle) -> Self {
        Self {
            handle,
            role: Role::Free,
            since: Instant::from_millis(0),
            established: false,
            peer_ended: false,
            unread: false,
            queue: 0,
            changed: Instant::from_millis(0),
        }
    }

    /// Changes the role of the socket.
    fn take(&mut self, role: Role, now: Instant) {
        *self = Self { role, since: now, ..Self::new(self.handle) };
    }

    /// Notes when the peer acknowledges bytes.
    ///
    /// In two cases, no timer of smoltcp runs although bytes are left: the peer has closed and reopened its window while
    /// bytes were lost, or an old segment that closes the window came late. A keep-alive probe would wake the connection
    /// up, but smoltcp sends it with a byte of its own in the place of the last one that was sent, which a peer that has
    /// lost that one would take for data. So the connection waits for the engine's timeouts.
    fn watch_queue(&mut self, queue: usize, now: Instant) {
        if queue != self.queue {
            (self.queue, self.changed) = (queue, now);
        }
    }

    /// Makes the socket free, and forgets its connection, which is over.
    fn forget(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) {
        // smoltcp forgets a connection silently only as the first step of `listen`
        let _ = socket.listen(1);
        socket.close();
        self.take(Role::Free, now);
    }

    /// Returns whether it is a connection that a listener can accept.
    fn waits_at(&self, id: ListenerId) -> bool {
        self.established && matches!(self.role, Role::Incoming(listener) if listener == id)
    }

    /// Returns when the connection is aborted unless it makes progress.
    fn deadline(&self, is_short: bool) -> Option<Instant> {
        let patience = match self.role {
            // waits for the poller, as in a backlog
            Role::Incoming(_) if self.established => return None,
            Role::Incoming(_) if is_short => SHORT_HANDSHAKE_TIMEOUT,
            Role::Incoming(_) => HANDSHAKE_TIMEOUT,
            Role::Orphan if is_short => {
                let patience = if self.queue == 0 { DELIVERED_TIMEOUT } else { UNDELIVERED_TIMEOUT };
                let unmoved = self.changed.max(self.since) + patience;
                return Some(unmoved.min(self.since + ORPHAN_TIMEOUT));
            }
            Role::Orphan => ORPHAN_TIMEOUT,
            Role::Free | Role::Taken | Role::Watched { .. } => return None,
        };
        Some(self.since + patience)
    }
}

impl<'s, const CONNECTS: bool> SocketPool<'s, CONNECTS> {
    pub(crate) fn new(
        interface: Interface,
        mut sockets: SocketSet<'s>,
        entries: &'s mut [PoolEntry],
        seed: u32,
        now: Instant,
    ) -> Self {
        for entry in entries.iter() {
            // the engine sends whole messages, which Nagle's algorithm would only delay
            sockets.get_mut::<tcp::Socket<'_>>(entry.handle).set_nagle_enabled(false);
        }
        let last_port = seed.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let last_port = u16::from_be_bytes([last_port[0], last_port[1]]);
        Self { interface, sockets, entries, ports: Vec::new(), now, is_short: false, last_port }
    }

    /// Returns the interface, whose addresses and routes may change at any time.
    pub const fn interface_mut(&mut self) -> &mut Interface {
        &mut self.interface
    }

    // --- frames ------------------------------------------------------------------------------------------------------

    /// Handles one received frame, or one that has waited. Returns whether there was one.
    pub(crate) fn receive_frame<D: Device, const ROOM: usize>(
        &mut self,
        now: Instant,
        room: &mut WaitingRoom<D, ROOM>,
    ) -> bool {
        self.now = now;
        self.is_short = false;
        if !room.is_empty() && !room.is_playing() {
            self.invite(room);
        }
        let result = self.interface.poll_ingress_single(instant(now), room, &mut self.sockets);
        self.look_after(room.is_playing());
        result != PollIngressSingleResult::None
    }

    /// Sends at most one frame of each socket. Returns whether any was sent.
    pub(crate) fn send_frames<D: Device, const ROOM: usize>(
        &mut self,
        now: Instant,
        room: &mut WaitingRoom<D, ROOM>,
    ) -> bool {
        let result = self.interface.poll_egress(instant(now), room, &mut self.sockets);
        self.look_after(room.is_playing());
        result == PollResult::SocketStateChanged
    }

    /// Chooses the next connection in the waiting room that a socket can take, and makes that socket listen.
    fn invite<D: Device, const ROOM: usize>(&mut self, room: &mut WaitingRoom<D, ROOM>) {
        let mut index = 0;
        while let Some((ends, waited)) = room.waiting(index) {
            let is_ours = self.interface.has_ip_addr(ends.local.addr);
            if waited > WAIT_TIMEOUT_MS || !is_ours {
                room.remove(index);
                continue;
            }
            let Some(id) = self.listener_of(ends.local.port) else {
                return room.play(index); // smoltcp refuses it
            };
            match self.state_between(ends) {
                Some((old, State::TimeWait)) => self.forget(old),
                // both sides connect at the same time
                Some((_, State::SynSent)) => return room.play(index),
                // sent again; it must not reach a socket that listens
                Some(_) => {
                    room.remove(index);
                    continue;
                }
                None => {}
            }
            let now = self.now;
            if let Some(free) = self.take_free()
                && let Some((entry, socket)) = self.entry(free)
                && socket.listen(ends.local).is_ok()
            {
                entry.take(Role::Incoming(id), now);
                return room.play(index);
            }
            self.is_short = true;
            index += 1;
        }
    }

    /// Returns the listener of a port.
    pub(crate) fn listener_of(&self, port: u16) -> Option<ListenerId> {
        self.ports.iter().find(|known| known.number == port).map(|known| known.id)
    }

    /// Returns the socket of an existing connection, and its state.
    fn state_between(&self, ends: Ends) -> Option<(PooledSocket, State)> {
        let mut sockets = self.indices().filter_map(|index| Some((index, self.socket(index)?)));
        let (local, remote) = (Some(ends.local), Some(ends.remote));
        let (index, socket) = sockets.find(|(_, socket)| {
            socket.remote_endpoint() == remote
                && socket.local_endpoint() == local
                && socket.state() != State::Closed
        })?;
        Some((index, socket.state()))
    }

    // --- the sockets -------------------------------------------------------------------------------------------------

    fn indices(&self) -> impl Iterator<Item = PooledSocket> + use<CONNECTS> {
        (0..u16::try_from(self.entries.len()).unwrap_or(u16::MAX)).map(PooledSocket)
    }

    fn entry(&mut self, index: PooledSocket) -> Option<(&mut PoolEntry, &mut tcp::Socket<'s>)> {
        let entry = self.entries.get_mut(usize::from(index.0))?;
        let socket = self.sockets.get_mut(entry.handle);
        Some((entry, socket))
    }

    fn socket(&self, index: PooledSocket) -> Option<&tcp::Socket<'s>> {
        let entry = self.entries.get(usize::from(index.0))?;
        Some(self.sockets.get(entry.handle))
    }

    /// Makes the socket of a closed connection free, and forgets the connection.
    fn forget(&mut self, index: PooledSocket) {
        let now = self.now;
        if let Some((entry, socket)) = self.entry(index)
            && let Role::Orphan = entry.role
        {
            entry.forget(socket, now);
        }
    }

    /// Returns a free socket. If there is none, one whose connection is over and only remembered.
    fn take_free(&mut self) -> Option<PooledSocket> {
        let role = |index: &PooledSocket| self.entries.get(usize::from(index.0)).map(|entry| entry.role);
        if let Some(index) = self.indices().find(|index| matches!(role(index), Some(Role::Free))) {
            return Some(index);
        }
        let state = |index: &PooledSocket| self.socket(*index).map(tcp::Socket::state);
        let over = self.indices().filter(|index| {
            matches!(role(index), Some(Role::Orphan)) && state(index) == Some(State::TimeWait)
        });
        let oldest =
            over.min_by_key(|index| self.entries.get(usize::from(index.0)).map(|entry| entry.since))?;
        self.forget(oldest);
        Some(oldest)
    }

    /// Follows the sockets into new states, frees those that are done, and aborts those that are late.
    fn look_after(&mut self, is_playing: bool) {
        let (now, is_short) = (self.now, self.is_short);
        for index in self.indices() {
            let Some((entry, socket)) = self.entry(index) else { return };
            let state = socket.state();
            let ended = [State::CloseWait, State::LastAck, State::Closing, State::TimeWait];
            entry.peer_ended |= ended.contains(&state);
            entry.established |=
                matches!(state, State::Established | State::FinWait1 | State::FinWait2) || entry.peer_ended;
            if state == State::TimeWait {
                entry.unread = socket.can_recv();
            }
            entry.watch_queue(socket.send_queue(), now);
            let is_late = entry.deadline(is_short).is_some_and(|at| at <= now);
            match entry.role {
                // a reset has made it listen again, or the frame was not accepted; others may need the socket
                Role::Incoming(_) if state == State::Listen && !is_playing => {
                    socket.close();
                    entry.take(Role::Free, now);
                }
                Role::Incoming(_) if state == State::Closed => entry.take(Role::Free, now),
                Role::Orphan if state == State::Closed && socket.remote_endpoint().is_none() => {
                    entry.take(Role::Free, now);
                }
                // a reset that could not be sent for so long is given up
                Role::Orphan if is_late && matches!(state, State::Closed | State::TimeWait) => {
                    entry.forget(socket, now);
                }
                Role::Incoming(_) | Role::Orphan if is_late => {
                    socket.abort();
                    entry.take(Role::Orphan, now);
                }
                Role::Orphan => {
                    // discards what the peer still sends, since its end of stream comes after that
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                }
                Role::Free | Role::Incoming(_) | Role::Taken | Role::Watched { .. } => {}
            }
        }
    }

    // --- what the stack asks -----------------------------------------------------------------------------------------

    /// Returns the number of sockets.
    pub(crate) fn len(&self) -> u16 {
        u16::try_from(self.entries.len()).unwrap_or(u16::MAX)
    }

    /// Returns the token of a socket that is ready for something that is watched, and for what.
    pub(crate) fn ready(&self, index: u16) -> Option<(Token, Interest)> {
        let Role::Watched { token, interest } = self.entries.get(usize::from(index))?.role else {
            return None;
        };
        let socket = self.socket(PooledSocket(index))?;
        if interest.is_none() || is_connecting(socket.state()) {
            return None;
        }
        // an end or a failure is ready as well: the call then returns it
        let reads = interest.reads() && (socket.can_recv() || !socket.may_recv());
        let writes = interest.writes() && (socket.can_send() || !socket.may_send());
        (reads || writes).then(|| (token, Interest::new(reads, writes)))
    }

    /// Returns the listener at a position, if connections wait at it and it is watched.
    pub(crate) fn acceptable(&self, position: usize) -> Option<ListenerId> {
        let port = *self.ports.get(position)?;
        (port.watched && self.entries.iter().any(|entry| entry.waits_at(port.id))).then_some(port.id)
    }

    /// Returns whether anything is ready now.
    pub(crate) fn is_ready(&self) -> bool {
        (0..self.len()).any(|index| self.ready(index).is_some())
            || (0..PORTS_MAX).any(|position| self.acceptable(position).is_some())
    }

    /// Returns whether a socket is free for a connection that waits for one.
    pub(crate) fn has_free_for_waiting(&self) -> bool {
        self.is_short && self.entries.iter().any(|entry| matches!(entry.role, Role::Free))
    }

    /// Returns whether no connection has anything left to send.
    pub(crate) fn is_quiet(&self) -> bool {
        // not the sockets of the set: a program may have enabled other kinds
        self.entries.iter().all(|entry| {
            let socket = self.sockets.get::<tcp::Socket<'_>>(entry.handle);
            let is_done = matches!(socket.state(), State::TimeWait | State::FinWait2);
            is_done || socket.remote_endpoint().is_none()
        })
    }

    /// Returns the first time at which a frame may be due or a socket is late.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let frames = self.interface.poll_at(instant(now), &self.sockets).map(wake_at);
        let late = self.entries.iter().filter_map(|entry| entry.deadline(self.is_short));
        late.chain(frames).min()
    }

    fn next_local_port(&mut self) -> u16 {
        loop {
            self.last_port = self.last_port.wrapping_add(1) | FIRST_LOCAL_PORT;
            let port = self.last_port;
            let used =
                |index| self.socket(index).and_then(tcp::Socket::local_endpoint).map(|local| local.port);
            if !self.indices().any(|index| used(index) == Some(port)) {
                return port;
            }
        }
    }
}

const fn is_connecting(state: State) -> bool {
    matches!(state, State::SynSent | State::SynReceived)
}

impl<const CONNECTS: bool> Transport for SocketPool<'_, CONNECTS> {
    const CONNECTS: bool = CONNECTS;
    const REPORTS_UNDELIVERED: bool = true;
    type Unregistered = PooledSocket;
    type Registered = PooledSocket;
    type Listener = PortListener;

    fn register(
        &mut self,
        index: PooledSocket,
        token: Token,
        interest: Interest,
    ) -> Result<PooledSocket, ErrorKind> {
        let (entry, _) = self.entry(index).ok_or(ErrorKind::Other)?;
        entry.role = Role::Watched { token, interest };
        Ok(index)
    }

    fn modify(
        &mut self,
        index: &mut PooledSocket,
        token: Token,
        _: Interest,
        interest: Interest,
    ) -> Result<(), ErrorKind> {
        self.register(*index, token, interest).map(drop)
    }

    fn receive(&mut self, index: &mut PooledSocket, _: Token, buffer: &mut [u8]) -> Received {
        let Some((entry, socket)) = self.entry(*index) else { return Received::Failed(ErrorKind::Other) };
        match socket.recv_slice(buffer) {
            Ok(0) => Received::WouldBlock,
            Ok(n) => {
                entry.unread &= socket.can_recv();
                Received::Bytes(n)
            }
            // in this order: an end that smoltcp knows, one that it has forgotten, no stream yet, lost bytes, a reset
            Err(RecvError::Finished) => Received::End,
            Err(RecvError::InvalidState) if entry.peer_ended && !entry.unread => Received::End,
            Err(RecvError::InvalidState) if is_connecting(socket.state()) => Received::WouldBlock,
            Err(RecvError::InvalidState) if entry.unread => Received::Failed(ErrorKind::ConnectionAborted),
            Err(RecvError::InvalidState) => Received::Failed(ErrorKind::ConnectionReset),
        }
    }

    fn send(&mut self, index: &mut PooledSocket, _: Token, bytes: &[u8]) -> Sent {
        let Some((_, socket)) = self.entry(*index) else { return Sent::Failed(ErrorKind::Other) };
        match socket.send_slice(bytes) {
            Ok(0) => Sent::WouldBlock,
            Ok(n) => Sent::Bytes(n),
            Err(_) => Sent::Failed(ErrorKind::ConnectionReset),
        }
    }

    fn shutdown_write(&mut self, index: &mut PooledSocket, _: Token) -> Result<(), ErrorKind> {
        let (_, socket) = self.entry(*index).ok_or(ErrorKind::Other)?;
        if socket.state() == State::Closed {
            return Err(ErrorKind::ConnectionReset);
        }
        socket.close();
        Ok(())
    }

    fn close(&mut self, index: PooledSocket, _: Token, _: Interest, reset: bool) {
        let now = self.now;
        let Some((entry, socket)) = self.entry(index) else { return };
        if reset {
            socket.abort();
        } else {
            socket.close();
        }
        entry.take(Role::Orphan, now);
    }

    fn reject(&mut self, index: PooledSocket) {
        let now = self.now;
        let Some((entry, socket)) = self.entry(index) else { return };
        socket.abort();
        entry.take(Role::Orphan, now);
    }

    fn connect(&mut self, to: Address) -> Result<Connect<PooledSocket>, ErrorKind> {
        let to = endpoint(to).ok_or(ErrorKind::Unsupported)?;
        let Some(index) = self.take_free() else { return Ok(Connect::Later) };
        let (port, now) = (self.next_local_port(), self.now);
        let entry = self.entries.get_mut(usize::from(index.0)).ok_or(ErrorKind::Other)?;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(entry.handle);
        socket.connect(self.interface.context(), to, port).map_err(|_| ErrorKind::AddressNotAvailable)?;
        entry.take(Role::Taken, now);
        Ok(Connect::InProgress(index))
    }

    fn connect_result(&mut self, index: &mut PooledSocket, _: Token) -> ConnectResult {
        let Some((entry, socket)) = self.entry(*index) else {
            return ConnectResult::Failed(ErrorKind::Other);
        };
        match socket.state() {
            State::SynSent | State::SynReceived => ConnectResult::InProgress,
            State::Closed if entry.established => ConnectResult::Broken(ErrorKind::ConnectionReset),
            State::Closed | State::Listen => ConnectResult::Failed(ErrorKind::ConnectionRefused),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => ConnectResult::Established,
        }
    }

    fn undelivered(&mut self, index: &mut PooledSocket, _: Token) -> Option<usize> {
        self.socket(*index).map(tcp::Socket::send_queue)
    }

    fn local_address(&self, index: &PooledSocket) -> Option<Address> {
        self.socket(*index)?.local_endpoint().map(address)
    }

    fn watch_listener(&mut self, listener: &mut PortListener, id: ListenerId) -> Result<(), ErrorKind> {
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == id) {
            port.watched = true;
            return Ok(());
        }
        let port = Port { number: listener.port, id, watched: true };
        self.ports.push(port).map_err(|_| ErrorKind::OutOfDescriptors)
    }

    fn unwatch_listener(&mut self, _: &mut PortListener, id: ListenerId) {
        if let Some(port) = self.ports.iter_mut().find(|port| port.id == id) {
            port.watched = false;
        }
    }

    fn close_listener(&mut self, _: PortListener, id: ListenerId, _: bool) {
        self.ports.retain(|port| port.id != id);
        for index in self.indices() {
            let Some((entry, _)) = self.entry(index) else { return };
            if matches!(entry.role, Role::Incoming(listener) if listener == id) {
                self.reject(index);
            }
        }
    }

    fn accept(&mut self, _: &mut PortListener, id: ListenerId) -> Accept<PooledSocket> {
        let now = self.now;
        let mut indices = self.indices();
        let waits = |index: &PooledSocket| {
            self.entries.get(usize::from(index.0)).is_some_and(|entry| entry.waits_at(id))
        };
        let Some(index) = indices.find(waits) else { return Accept::WouldBlock };
        let Some((entry, socket)) = self.entry(index) else { return Accept::WouldBlock };
        let Some(peer) = socket.remote_endpoint() else {
            entry.take(Role::Free, now);
            return Accept::Retry;
        };
        entry.role = Role::Taken;
        Accept::Accepted(index, address(peer))
    }
}
