//! A fixed number of TCP sockets, as a transport.

use core::fmt;
use core::time::Duration;

use heapless::Vec;
use lightcone_core::poller::{Accept, Connect, ConnectResult, Received, Transport};
use lightcone_core::{Address, ErrorKind, Instant, Interest, ListenerId, Sent, Token};
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{self, RecvError, State};
use smoltcp::wire::IpEndpoint;

use crate::PORTS_MAX;
use crate::convert::{address, endpoint, instant, wake_at};
use crate::waiting_room::WaitingRoom;

/// How long a connection that the poller has closed may take to deliver what it has sent and to end.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for one that has delivered everything, when connections wait for a socket.
const DELIVERED_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same when connections wait for a socket.
const SHORT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection waits for a socket. Its peer has given up, or sends the request again.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);
/// The first of the ports that the pool connects from.
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
    /// Whether the peer has ended its stream. smoltcp forgets that when a connection is over.
    peer_ended: bool,
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
    places: &'s mut [PoolEntry],
    ports: Vec<Port, PORTS_MAX>,
    now: Instant,
    /// Whether connections wait for a socket.
    is_short: bool,
    last_port: u16,
}

impl<const CONNECTS: bool> fmt::Debug for SocketPool<'_, CONNECTS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketPool")
            .field("places", &self.places)
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
        }
    }

    fn take(&mut self, role: Role, now: Instant) {
        *self = Self { role, since: now, ..Self::new(self.handle) };
    }

    /// Returns whether it is a connection that a listener can accept.
    fn waits_at(&self, id: ListenerId) -> bool {
        self.established && matches!(self.role, Role::Incoming(listener) if listener == id)
    }

    /// Returns when a connection is aborted that is in this state until then.
    fn deadline(&self, state: State, is_short: bool) -> Option<Instant> {
        let delivered = matches!(state, State::FinWait2 | State::Closed);
        let patience = match self.role {
            Role::Incoming(_) if self.established => return None,
            Role::Incoming(_) if is_short => SHORT_HANDSHAKE_TIMEOUT,
            Role::Incoming(_) => HANDSHAKE_TIMEOUT,
            Role::Orphan if delivered && is_short => DELIVERED_TIMEOUT,
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
        places: &'s mut [PoolEntry],
        seed: u32,
        now: Instant,
    ) -> Self {
        for place in places.iter() {
            // the engine writes whole messages, so waiting for more of them only delays
            sockets.get_mut::<tcp::Socket<'_>>(place.handle).set_nagle_enabled(false);
        }
        let last_port = seed.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let last_port = u16::from_be_bytes([last_port[0], last_port[1]]);
        Self { interface, sockets, places, ports: Vec::new(), now, is_short: false, last_port }
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
        if !room.waiting().is_empty() && !room.is_playing() {
            self.invite(room);
        }
        let result = self.interface.poll_ingress_single(instant(now), room, &mut self.sockets);
        self.look_after(room.is_playing());
        result != PollIngressSingleResult::None
    }

    /// Sends at most one frame of each socket. Returns whether any was sent.
    pub(crate) fn send_frames(&mut self, now: Instant, device: &mut impl Device) -> bool {
        let result = self.interface.poll_egress(instant(now), device, &mut self.sockets);
        self.look_after(false);
        result == PollResult::SocketStateChanged
    }

    /// Chooses the next connection in the waiting room that a socket can take, and makes that socket listen.
    fn invite<D: Device, const ROOM: usize>(&mut self, room: &mut WaitingRoom<D, ROOM>) {
        let oldest = instant(self.now) - smoltcp::time::Duration::from(WAIT_TIMEOUT);
        let mut index = 0;
        while let Some(syn) = room.waiting().get(index) {
            let (local, remote) = (syn.local, syn.remote);
            let is_ours = self.interface.has_ip_addr(local.addr);
            if syn.arrived < oldest || !is_ours {
                room.remove(index);
                continue;
            }
            let Some(id) = self.listener_of(local.port) else {
                return room.play(index); // is refused
            };
            match self.state_between(local, remote) {
                Some((place, State::TimeWait)) => self.forget(place),
                // both sides connect at once
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
                && let Some((place, socket)) = self.place(free)
                && socket.listen((local.addr, local.port)).is_ok()
            {
                place.take(Role::Incoming(id), now);
                return room.play(index);
            }
            self.is_short = true;
            index += 1;
        }
    }

    fn listener_of(&self, port: u16) -> Option<ListenerId> {
        self.ports.iter().find(|known| known.number == port).map(|known| known.id)
    }

    /// Returns the socket of an existing connection, and its state.
    fn state_between(&self, local: IpEndpoint, remote: IpEndpoint) -> Option<(PooledSocket, State)> {
        let mut sockets = self.indices().filter_map(|index| Some((index, self.socket(index)?)));
        sockets.find_map(|(index, socket)| {
            let matches = socket.remote_endpoint() == Some(remote) && socket.local_endpoint() == Some(local);
            (matches && socket.state() != State::Closed).then(|| (index, socket.state()))
        })
    }

    // --- the sockets -------------------------------------------------------------------------------------------------

    fn indices(&self) -> impl Iterator<Item = PooledSocket> + use<CONNECTS> {
        (0..u16::try_from(self.places.len()).unwrap_or(u16::MAX)).map(PooledSocket)
    }

    fn place(&mut self, index: PooledSocket) -> Option<(&mut PoolEntry, &mut tcp::Socket<'s>)> {
        let place = self.places.get_mut(usize::from(index.0))?;
        let socket = self.sockets.get_mut(place.handle);
        Some((place, socket))
    }

    fn socket(&self, index: PooledSocket) -> Option<&tcp::Socket<'s>> {
        let place = self.places.get(usize::from(index.0))?;
        Some(self.sockets.get(place.handle))
    }

    /// Makes a socket free whose connection needs nothing more.
    fn forget(&mut self, index: PooledSocket) {
        let now = self.now;
        if let Some((place, _)) = self.place(index)
            && let Role::Orphan = place.role
        {
            place.take(Role::Free, now);
        }
    }

    /// Returns a free socket. If there is none, one that has only to forget its connection.
    fn take_free(&mut self) -> Option<PooledSocket> {
        let is_free = |index: &PooledSocket| {
            self.places.get(usize::from(index.0)).is_some_and(|place| matches!(place.role, Role::Free))
        };
        if let Some(index) = self.indices().find(is_free) {
            return Some(index);
        }
        let waits = |index: &PooledSocket| {
            let orphan =
                self.places.get(usize::from(index.0)).is_some_and(|place| matches!(place.role, Role::Orphan));
            orphan && self.socket(*index).is_some_and(|socket| socket.state() == State::TimeWait)
        };
        let index = self.indices().find(waits)?;
        self.forget(index);
        Some(index)
    }

    /// Follows the sockets into new states, frees those that are done, and aborts those that are late.
    fn look_after(&mut self, is_playing: bool) {
        let (now, is_short) = (self.now, self.is_short);
        for index in self.indices() {
            let Some((place, socket)) = self.place(index) else { return };
            let state = socket.state();
            let ended = [State::CloseWait, State::LastAck, State::Closing, State::TimeWait];
            place.peer_ended |= ended.contains(&state);
            place.established |=
                matches!(state, State::Established | State::FinWait1 | State::FinWait2) || place.peer_ended;
            let is_late = place.deadline(state, is_short).is_some_and(|at| at <= now);
            match place.role {
                // a reset has made it listen again, or the frame was not accepted; others may need the socket
                Role::Incoming(_) if state == State::Listen && !is_playing => {
                    socket.close();
                    place.take(Role::Free, now);
                }
                Role::Incoming(_) if state == State::Closed => place.take(Role::Free, now),
                Role::Orphan if state == State::Closed && (is_late || socket.remote_endpoint().is_none()) => {
                    place.take(Role::Free, now); // a reset that could not be sent for so long is given up
                }
                Role::Incoming(_) | Role::Orphan if is_late => {
                    socket.abort();
                    place.take(Role::Orphan, now);
                }
                Role::Orphan => {
                    // the peer's end of stream comes after what it sends until then
                    let _ = socket.recv(|bytes| (bytes.len(), ()));
                }
                Role::Free | Role::Incoming(_) | Role::Taken | Role::Watched { .. } => {}
            }
        }
    }

    // --- what the stack asks -----------------------------------------------------------------------------------------

    /// Returns the number of sockets.
    pub(crate) fn len(&self) -> u16 {
        u16::try_from(self.places.len()).unwrap_or(u16::MAX)
    }

    /// Returns the token of a socket that is ready for something that is watched, and for what.
    pub(crate) fn ready(&self, index: u16) -> Option<(Token, Interest)> {
        let Role::Watched { token, interest } = self.places.get(usize::from(index))?.role else {
            return None;
        };
        let socket = self.socket(PooledSocket(index))?;
        if interest.is_none() || is_connecting(socket.state()) {
            return None;
        }
        let reads = interest.reads() && (socket.can_recv() || !socket.may_recv());
        let writes = interest.writes() && (socket.can_send() || !socket.may_send());
        (reads || writes).then(|| (token, Interest::new(reads, writes)))
    }

    /// Returns the listener at a position, if connections wait at it and it is watched.
    pub(crate) fn acceptable(&self, position: usize) -> Option<ListenerId> {
        let port = *self.ports.get(position)?;
        (port.watched && self.places.iter().any(|place| place.waits_at(port.id))).then_some(port.id)
    }

    /// Returns whether anything is ready now.
    pub(crate) fn is_ready(&self) -> bool {
        (0..self.len()).any(|index| self.ready(index).is_some())
            || (0..PORTS_MAX).any(|position| self.acceptable(position).is_some())
    }

    /// Returns when frames may be due, or a socket is late.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let frames = self.interface.poll_at(instant(now), &self.sockets).map(wake_at);
        let late = self.places.iter().filter_map(|place| {
            let state = self.sockets.get::<tcp::Socket<'_>>(place.handle).state();
            place.deadline(state, self.is_short)
        });
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
    const TELLS_UNDELIVERED: bool = true;
    type Unregistered = PooledSocket;
    type Registered = PooledSocket;
    type Listener = PortListener;

    fn register(
        &mut self,
        index: PooledSocket,
        token: Token,
        interest: Interest,
    ) -> Result<PooledSocket, ErrorKind> {
        let (place, _) = self.place(index).ok_or(ErrorKind::Other)?;
        place.role = Role::Watched { token, interest };
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
        let Some((place, socket)) = self.place(*index) else { return Received::Failed(ErrorKind::Other) };
        match socket.recv_slice(buffer) {
            Ok(0) => Received::WouldBlock,
            Ok(n) => Received::Bytes(n),
            Err(RecvError::Finished) => Received::End,
            Err(RecvError::InvalidState) if place.peer_ended => Received::End,
            Err(RecvError::InvalidState) if is_connecting(socket.state()) => Received::WouldBlock,
            Err(RecvError::InvalidState) => Received::Failed(ErrorKind::ConnectionReset),
        }
    }

    fn send(&mut self, index: &mut PooledSocket, _: Token, bytes: &[u8]) -> Sent {
        let Some((_, socket)) = self.place(*index) else { return Sent::Failed(ErrorKind::Other) };
        match socket.send_slice(bytes) {
            Ok(0) => Sent::WouldBlock,
            Ok(n) => Sent::Bytes(n),
            Err(_) => Sent::Failed(ErrorKind::ConnectionReset),
        }
    }

    fn shutdown_write(&mut self, index: &mut PooledSocket, _: Token) -> Result<(), ErrorKind> {
        let (_, socket) = self.place(*index).ok_or(ErrorKind::Other)?;
        if socket.state() == State::Closed {
            return Err(ErrorKind::ConnectionReset);
        }
        socket.close();
        Ok(())
    }

    fn close(&mut self, index: PooledSocket, _: Token, _: Interest, reset: bool) {
        let now = self.now;
        let Some((place, socket)) = self.place(index) else { return };
        if reset {
            socket.abort();
        } else {
            socket.close();
        }
        place.take(Role::Orphan, now);
    }

    fn reject(&mut self, index: PooledSocket) {
        let now = self.now;
        let Some((place, socket)) = self.place(index) else { return };
        socket.abort();
        place.take(Role::Orphan, now);
    }

    fn connect(&mut self, to: Address) -> Result<Connect<PooledSocket>, ErrorKind> {
        let to = endpoint(to).ok_or(ErrorKind::Unsupported)?;
        let Some(index) = self.take_free() else { return Ok(Connect::Later) };
        let (port, now) = (self.next_local_port(), self.now);
        let place = self.places.get_mut(usize::from(index.0)).ok_or(ErrorKind::Other)?;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(place.handle);
        socket.connect(self.interface.context(), to, port).map_err(|_| ErrorKind::AddressNotAvailable)?;
        place.take(Role::Taken, now);
        Ok(Connect::InProgress(index))
    }

    fn connect_result(&mut self, index: &mut PooledSocket, _: Token) -> ConnectResult {
        let Some((place, socket)) = self.place(*index) else {
            return ConnectResult::Failed(ErrorKind::Other);
        };
        match socket.state() {
            State::SynSent | State::SynReceived => ConnectResult::InProgress,
            State::Closed if place.established => ConnectResult::Broken(ErrorKind::ConnectionReset),
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
            let Some((place, _)) = self.place(index) else { return };
            if matches!(place.role, Role::Incoming(listener) if listener == id) {
                self.reject(index);
            }
        }
    }

    fn accept(&mut self, _: &mut PortListener, id: ListenerId) -> Accept<PooledSocket> {
        let now = self.now;
        let mut indices = self.indices();
        let waits = |index: &PooledSocket| {
            self.places.get(usize::from(index.0)).is_some_and(|place| place.waits_at(id))
        };
        let Some(index) = indices.find(waits) else { return Accept::WouldBlock };
        let Some((place, socket)) = self.place(index) else { return Accept::WouldBlock };
        let Some(peer) = socket.remote_endpoint() else {
            place.take(Role::Free, now);
            return Accept::Retry;
        };
        place.role = Role::Taken;
        Accept::Accepted(index, address(peer))
    }
}
