//! The memory that a program lends to a stack.

use core::fmt;
use core::mem::MaybeUninit;

use lightcone_core::poller::{ConnectionEntry, ListenerEntry, RoomRequest, TopicStorage};
use lightcone_core::{Slot, TimerStorage};
use smoltcp::iface::SocketStorage;

use crate::PORTS_MAX;
use crate::pool::{PoolEntry, PooledSocket, PortListener};

/// The maximum number of TCP sockets, half as many as there are local ports to connect from.
const SOCKETS_MAX: usize = 8_192;

/// All the memory that a [`Stack`](crate::Stack) works in, apart from the `Stack` itself.
///
/// `T` is the user data of the handler's sockets. `SOCKETS` is the number of TCP sockets of the pool, 1 to 8,192: at
/// least [`Config::sockets`](lightcone_core::Config), and one more with
/// [`evict_after`](lightcone_core::Config::evict_after), because a connection is accepted before another is evicted.
/// `BYTES` is [`Config::memory`](lightcone_core::Config::memory) of the configuration. `RECEIVE` and `SEND` are the
/// sizes in bytes of each TCP socket's receive and send buffer: the first is the window that a peer sees, and the
/// second bounds the bytes that are sent before the peer acknowledges them.
///
/// All of it is zero or uninitialised at first, so a static of this type takes no flash. Its size and that of the
/// `Stack` are all the memory that is used, apart from the call stack:
///
/// ```
/// use lightcone_core::Config;
/// use lightcone_smoltcp::StackMemory;
///
/// const CONFIG: Config = Config { sockets: 4, input_blocks: 4, output_blocks: 8, ..Config::DEVICE };
/// type Memory = StackMemory<'static, (), { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>;
/// const _: () = assert!(size_of::<Memory>() < 32 * 1024);
/// ```
pub struct StackMemory<
    's,
    T,
    const SOCKETS: usize,
    const BYTES: usize,
    const RECEIVE: usize,
    const SEND: usize,
> {
    pub(crate) slots: [MaybeUninit<Slot<T>>; SOCKETS],
    pub(crate) connections: [MaybeUninit<ConnectionEntry<PooledSocket>>; SOCKETS],
    pub(crate) entries: MaybeUninit<[PoolEntry; SOCKETS]>,
    pub(crate) sockets: MaybeUninit<[SocketStorage<'s>; SOCKETS]>,
    pub(crate) listeners: MaybeUninit<[Option<ListenerEntry<PortListener>>; PORTS_MAX]>,
    pub(crate) blocks: [u8; BYTES],
    pub(crate) buffer: [u8; RECEIVE],
    pub(crate) receive: [[u8; RECEIVE]; SOCKETS],
    pub(crate) send: [[u8; SEND]; SOCKETS],
    /// `None` and not `TimerStorage::none()`, because the pointer of an empty slice is not zero.
    pub(crate) timers: Option<TimerStorage<'s>>,
    pub(crate) rooms: Option<&'s mut [MaybeUninit<RoomRequest>]>,
    pub(crate) topics: Option<TopicStorage<'s>>,
}

impl<'s, T, const SOCKETS: usize, const BYTES: usize, const RECEIVE: usize, const SEND: usize>
    StackMemory<'s, T, SOCKETS, BYTES, RECEIVE, SEND>
{
    /// Creates the memory of a stack.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(SOCKETS > 0 && SOCKETS <= SOCKETS_MAX, "SOCKETS must be 1 to 8,192") };
        const { assert!(RECEIVE > 0 && SEND > 0, "the buffers of a socket must not be empty") };
        Self {
            slots: [const { MaybeUninit::uninit() }; SOCKETS],
            connections: [const { MaybeUninit::uninit() }; SOCKETS],
            entries: MaybeUninit::uninit(),
            sockets: MaybeUninit::uninit(),
            listeners: MaybeUninit::uninit(),
            blocks: [0; BYTES],
            buffer: [0; RECEIVE],
            receive: [[0; RECEIVE]; SOCKETS],
            send: [[0; SEND]; SOCKETS],
            timers: None,
            rooms: None,
            topics: None,
        }
    }

    /// Lends memory for the [timers](lightcone_core::Context::set_timer) of the handler, as many as
    /// [`Config::timers`](lightcone_core::Config::timers) allows. Without this call, that number must be 0.
    pub const fn lend_timers(&mut self, timers: TimerStorage<'s>) {
        self.timers = Some(timers);
    }

    /// Lends memory for the handler's [requests for room](lightcone_core::Context::request_room), as many as
    /// [`Config::room_requests`](lightcone_core::Config::room_requests) allows. Without this call, that number must be
    /// 0.
    pub const fn lend_rooms(&mut self, rooms: &'s mut [MaybeUninit<RoomRequest>]) {
        self.rooms = Some(rooms);
    }

    /// Lends memory for [subscriptions](lightcone_core::Context::subscribe), as many as
    /// [`Config::subscriptions`](lightcone_core::Config::subscriptions) allows. Without this call, that number must be
    /// 0.
    pub const fn lend_topics(&mut self, topics: TopicStorage<'s>) {
        self.topics = Some(topics);
    }
}

impl<T, const SOCKETS: usize, const BYTES: usize, const RECEIVE: usize, const SEND: usize> Default
    for StackMemory<'_, T, SOCKETS, BYTES, RECEIVE, SEND>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const SOCKETS: usize, const BYTES: usize, const RECEIVE: usize, const SEND: usize> fmt::Debug
    for StackMemory<'_, T, SOCKETS, BYTES, RECEIVE, SEND>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackMemory").field("bytes", &size_of::<Self>()).finish()
    }
}
