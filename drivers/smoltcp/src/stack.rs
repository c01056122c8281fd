//! A poller over a pool of TCP sockets, a waiting room and a device.

use core::fmt;
use core::time::Duration;

use lightcone_core::poller::{Alone, Membership, Poller, PollerStorage};
use lightcone_core::{Config, Handler, Instant, ListenerId, SetupError, Shard, Storage, StorageError};
use smoltcp::iface::{Interface, SocketSet, SocketStorage};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;

use crate::memory::StackMemory;
use crate::pool::{PoolEntry, PooledSocket, PortListener, SocketPool};
use crate::waiting_room::WaitingRoom;

/// The maximum number of frames that are received in one call of [`Stack::poll`].
const FRAMES_A_POLL: usize = 32;
/// The maximum number of frames that each socket sends in one call of [`Stack::poll`].
const SENDS_A_POLL: usize = 16;
/// How long to wait for a device that has no room for a frame.
const DEVICE_RETRY: Duration = Duration::from_millis(1);

/// A device, and the interface that was created for it.
pub struct Uplink<D> {
    /// The device, which carries frames.
    pub device: D,
    /// The addresses and routes on that device.
    pub interface: Interface,
}

impl<D> fmt::Debug for Uplink<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").finish_non_exhaustive()
    }
}

/// A poller over the TCP sockets of smoltcp, with a device.
///
/// `H` is the handler, `D` the device, and `L` the poller's relation to other pollers: [`Alone`], or
/// [`AloneWithMail`](lightcone_core::poller::AloneWithMail) for a handler that posts messages. With `CONNECTS`,
/// handlers can connect, at most `BATCH` times in a turn, and that many of [`Config::sockets`] are reserved for it.
/// `ROOM` is the number of connections that can wait for a free TCP socket.
///
/// The [crate's documentation](crate) contains a complete program.
pub struct Stack<
    's,
    H,
    D,
    L = Alone,
    const CONNECTS: bool = false,
    const BATCH: usize = 1,
    const ROOM: usize = 16,
> where
    H: Handler,
    L: Membership<PooledSocket, PortListener, H::Message>,
{
    poller: Poller<'s, H, SocketPool<'s, CONNECTS>, L, BATCH>,
    room: WaitingRoom<D, ROOM>,
    /// The Unix time in seconds at an instant.
    unix_time: Option<(u64, Instant)>,
}

impl<H, D, L, const CONNECTS: bool, const BATCH: usize, const ROOM: usize> fmt::Debug
    for Stack<'_, H, D, L, CONNECTS, BATCH, ROOM>
where
    H: Handler,
    L: Membership<PooledSocket, PortListener, H::Message>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("poller", &self.poller).finish_non_exhaustive()
    }
}

impl<'s, H, D, L, const CONNECTS: bool, const BATCH: usize, const ROOM: usize>
    Stack<'s, H, D, L, CONNECTS, BATCH, ROOM>
where
    H: Handler,
    D: Device,
    L: Membership<PooledSocket, PortListener, H::Message>,
{
    /// Creates a stack. [`Config::generation_seed`] should differ between starts: it also selects the ports that the
    /// stack connects from.
    ///
    /// # Errors
    ///
    /// If `config` is invalid, or `memory` too small for it.
    pub fn new<const SOCKETS: usize, const BYTES: usize, const RECEIVE: usize, const SEND: usize>(
        memory: &'s mut StackMemory<'s, H::Data, SOCKETS, BYTES, RECEIVE, SEND>,
        config: &Config,
        uplink: Uplink<D>,
        handler: H,
        membership: L,
        now: Instant,
    ) -> Result<Self, SetupError> {
        if config.evict_after.is_some() {
            // a connection is accepted before a socket is evicted for it
            let needed = config.sockets.saturating_add(1);
            StorageError::check("StackMemory::SOCKETS, with eviction,", SOCKETS, needed)?;
        }
        let storage = memory.sockets.write([SocketStorage::EMPTY; SOCKETS]);
        let mut sockets = SocketSet::new(&mut storage[..]);
        let entries = memory.entries.write([PoolEntry::new(Default::default()); SOCKETS]);
        for (entry, (receive, send)) in
            entries.iter_mut().zip(memory.receive.iter_mut().zip(memory.send.iter_mut()))
        {
            let buffers = (tcp::SocketBuffer::new(&mut receive[..]), tcp::SocketBuffer::new(&mut send[..]));
            *entry = PoolEntry::new(sockets.add(tcp::Socket::new(buffers.0, buffers.1)));
        }
        let Uplink { device, interface } = uplink;
        let pool = SocketPool::new(interface, sockets, entries, config.generation_seed, now);
        let shard =
            Shard::new(Storage { slots: &mut memory.slots, memory: &mut memory.blocks }, config, now)?;
        let storage = PollerStorage {
            connections: &mut memory.connections,
            listeners: memory.listeners.write([const { None }; crate::PORTS_MAX]),
            buffer: &mut memory.buffer,
            timers: memory.timers.take().unwrap_or_default(),
            rooms: memory.rooms.take().unwrap_or_default(),
            topics: memory.topics.take().unwrap_or_default(),
        };
        let poller = Poller::new(shard, handler, pool, membership, storage)?;
        Ok(Self { poller, room: WaitingRoom::new(device), unix_time: None })
    }

    /// Accepts connections on a port. Returns `false` if the port is 0 or already used, if the number `id` is already
    /// used or not below [`PORTS_MAX`](crate::PORTS_MAX), or if the poller is stopping.
    pub fn listen(&mut self, port: u16, id: ListenerId) -> bool {
        let is_usable = port != 0 && self.poller.transport().listener_of(port).is_none();
        is_usable && self.poller.listen(PortListener { port }, id).is_ok()
    }

    /// Receives frames, delivers the events that they cause, carries out what is due, and sends frames. Returns when to
    /// call this again if no frame arrives before: `now` or earlier if there is more to do, and `None` if nothing is
    /// due.
    ///
    /// Call it again as soon as the device has received a frame. Before it sleeps, the firmware has to turn interrupts
    /// off and check the device once more: otherwise an interrupt between the last check and the sleep would go
    /// unnoticed.
    ///
    /// One call receives at most 32 frames and sends at most 16 frames of each socket.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        let mut received = 0;
        while received < FRAMES_A_POLL && self.poller.transport_mut().receive_frame(now, &mut self.room) {
            received += 1;
        }
        let unix_time = self.unix_time.map(|(seconds, at)| seconds + (now - at).as_secs());
        self.poller.begin_turn(now, unix_time);
        // frames that are left in the device may be what a timer waits for
        self.poller.on_full_wait(usize::from(received == FRAMES_A_POLL));
        for index in 0..self.poller.transport().len() {
            let Some((token, ready)) = self.poller.transport().ready(index) else { continue };
            if ready.writes() {
                self.poller.on_writable(token);
            }
            if ready.reads() {
                self.poller.on_readable(token);
            }
        }
        for position in 0..crate::PORTS_MAX {
            if let Some(id) = self.poller.transport().acceptable(position) {
                self.poller.on_acceptable(id);
            }
        }
        self.poller.turn();
        let mut sent = 0;
        while sent < SENDS_A_POLL && self.poller.transport_mut().send_frames(now, &mut self.room) {
            sent += 1;
        }
        let pool = self.poller.transport_mut();
        let more = received == FRAMES_A_POLL || sent == SENDS_A_POLL;
        if more || pool.is_ready() || pool.has_free_for_waiting() {
            return Some(now);
        }
        // what is due now but was not done waits for the device, which is busy
        let soon = now + DEVICE_RETRY;
        let frames = pool.deadline(now).map(|at| at.max(soon));
        let playing = self.room.is_playing().then_some(soon);
        [frames, playing, self.poller.next_turn()].into_iter().flatten().min()
    }

    /// Returns whether the poller [is over](Poller::is_over), and all peers have received everything that was sent,
    /// including the ends of their connections. A stopped program may then leave the network.
    pub fn is_over(&self) -> bool {
        self.poller.is_over() && self.poller.transport().is_quiet()
    }

    /// Sets the Unix time in seconds, which advances by the time of [`poll`](Self::poll).
    pub const fn set_unix_time(&mut self, seconds: u64, now: Instant) {
        self.unix_time = Some((seconds, now));
    }

    /// Returns the poller.
    pub const fn poller(&self) -> &Poller<'s, H, SocketPool<'s, CONNECTS>, L, BATCH> {
        &self.poller
    }

    /// Returns the poller mutably, to post messages, connect or stop.
    pub const fn poller_mut(&mut self) -> &mut Poller<'s, H, SocketPool<'s, CONNECTS>, L, BATCH> {
        &mut self.poller
    }

    /// Returns the interface, whose addresses and routes may change at any time.
    pub const fn interface_mut(&mut self) -> &mut Interface {
        self.poller.transport_mut().interface_mut()
    }

    /// Returns the device.
    pub const fn device(&self) -> &D {
        &self.room.device
    }

    /// Returns the device mutably.
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.room.device
    }
}
