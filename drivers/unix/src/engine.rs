//! The engine: poller threads, their listeners and balancer, and the handle that controls them.

#![expect(
    clippy::cast_possible_truncation,
    reason = "at most 256 pollers and 2^24 sockets, checked by `Builder::start`"
)]

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::hash::{BuildHasher, Hasher};
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::hash::RandomState;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use lightcone_core::balance::{BalanceError, Balancer, Policy};
use lightcone_core::poller::{Command, Group, LoadPermit, Member, Poller, PollerStorage, TopicStorage};
use lightcone_core::sync::Load;
use lightcone_core::{
    Address, Config, ConfigError, Handler, Instant, ListenerId, PollerId, Rate, Rejected, RequestError,
    Shard, Slot, Stats, Storage, Timeouts, TimerStorage, TimerWheel, Token, Topic, Unpublished,
};

pub use lightcone_core::balance::POLLERS_MAX;

use crate::clock::Clock;
use crate::driver::{Driver, DriverError, check_descriptor};
use crate::endpoint::{Endpoint, EndpointError};
use crate::limits::{DescriptorLimit, LimitError};
use crate::listener::{AdoptError, ListenError, ListenOptions, ListenSocket};
use crate::memory;
use crate::paths::UnixAddressesFull;
use crate::poller::{CONNECTS_A_TURN, EVENTS_MAX, PollerThread, UnixConnectionEntry};
use crate::records::{AcceptRecords, record};
use crate::report::{PollerReport, Report};
use crate::shared::{
    EngineShared, ListenerSlot, OpenSocket, OpenSockets, UnixPollerHandle, locked, poller_handle,
};
use crate::socket::KeepAlive;
use crate::transport::{ConnectionFilter, LISTENERS_MAX, Listening, UnixGroup, UnixTransport};
use crate::waker::Waker;

/// The maximum number of sockets per poller.
pub const SOCKETS_MAX: usize = (1 << 24) - 1_024;
/// Descriptors that each poller needs in addition to those of its sockets.
const DESCRIPTORS_A_POLLER: usize = 4;
/// Descriptors that the process needs in addition to those of its pollers.
const DESCRIPTORS_ON_TOP: usize = 32;

/// The error of starting or using an engine. Its message contains the invalid value and the allowed range.
///
/// The errors of a [`Handle`]'s methods have types of their own, and convert to this one.
#[non_exhaustive]
pub enum Error {
    /// An invalid number of pollers.
    Pollers(usize),
    /// An invalid number of sockets.
    Sockets(usize),
    /// An invalid mailbox capacity.
    Mailbox(usize),
    /// An invalid setting of the shards.
    Config(ConfigError),
    /// A balancing policy that does not fit the number of pollers.
    Balance(BalanceError),
    /// The system refused the memory of the pollers.
    Memory {
        /// The number of bytes per poller.
        bytes: usize,
        /// The number of pollers.
        pollers: usize,
    },
    /// A driver failed to start, or cannot watch a listener because the listener's descriptor is too large for it.
    Driver(DriverError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The closure passed to [`Builder::start`] panicked for this poller.
    Factory(PollerId),
    /// A text that is not a valid address.
    Endpoint(EndpointError),
    /// A listener could not be opened.
    Listen(ListenError),
    /// A socket that was passed on cannot be used as a listener.
    Adopt(AdoptError),
    /// The engine already has the maximum number of listeners.
    Listeners,
    /// All the Unix addresses that the engine can remember are those of its listeners, so it cannot add another.
    UnixAddresses(UnixAddressesFull),
    /// A request to the engine was not accepted.
    Request(RequestError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Wrapped errors are complete sentences, as they are used alone as well.
            Self::Pollers(n) => write!(f, "{n} pollers; allowed: 1 to {POLLERS_MAX}"),
            Self::Sockets(n) => write!(f, "{n} sockets per poller; allowed: 1 to {SOCKETS_MAX}"),
            Self::Mailbox(n) => {
                write!(f, "a mailbox of {n} messages; allowed: a power of two from 2 to {MAILBOX_MAX}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Balance(error) => error.fmt(f),
            Self::Memory { bytes, pollers } => write!(
                f,
                "the system refused {bytes} bytes of memory for each of {pollers} pollers: \
                 reduce the sockets, blocks or pollers"
            ),
            Self::Driver(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Factory(poller) => write!(f, "the handler factory panicked for poller {poller}"),
            Self::Endpoint(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Adopt(error) => error.fmt(f),
            Self::Listeners => write!(f, "an engine can have {LISTENERS_MAX} listeners at once"),
            Self::UnixAddresses(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
        }
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {
    /// Skips the wrapped error, whose text `Display` contains, and returns that error's source.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Balance(error) => error.source(),
            Self::Driver(error) => error.source(),
            Self::Thread(error) => error.source(),
            Self::Endpoint(error) => error.source(),
            Self::Listen(error) => error.source(),
            Self::Adopt(error) => error.source(),
            Self::UnixAddresses(error) => error.source(),
            Self::Request(error) => error.source(),
            Self::Pollers(_)
            | Self::Sockets(_)
            | Self::Mailbox(_)
            | Self::Memory { .. }
            | Self::Factory(_)
            | Self::Listeners => None,
        }
    }
}

macro_rules! from {
    ($($source:ty => $variant:ident),+) => {
        $(impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$variant(error)
            }
        })+
    };
}
from!(ConfigError => Config, BalanceError => Balance, DriverError => Driver, EndpointError => Endpoint,
      ListenError => Listen, AdoptError => Adopt, UnixAddressesFull => UnixAddresses, RequestError => Request);

/// Drops the message.
impl<M> From<Rejected<M>> for Error {
    fn from(rejected: Rejected<M>) -> Self {
        Self::Request(rejected.into())
    }
}

/// The maximum capacity of a message mailbox.
const MAILBOX_MAX: usize = 1 << 20;
/// The capacity of a poller's mailbox of commands, which also bounds the accepted sockets in transit to the poller. An
/// accepting poller that finds it full tries another poller.
const COMMANDS_MAX: usize = 1_024;

type UnixCommand = Command<OwnedFd, Listening, LoadPermit<UnixGroup>>;

/// A builder of an [`Engine`]. Every setting has a default that suits a server.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::Timeouts;
/// use lightcone_unix::{Builder, Engine, Error, driver::Driver};
/// # use core::convert::Infallible;
/// # use lightcone_core::{Address, Handler, Origin};
/// # struct Quiet;
/// # impl Handler for Quiet {
/// #     type Data = ();
/// #     type Message = Infallible;
/// #     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
/// #         Some(())
/// #     }
/// # }
///
/// /// Serves up to 20,000 sockets on two threads.
/// fn serve<D: Driver>() -> Result<Engine, Error> {
///     let timeouts = Timeouts { idle: Some(Duration::from_secs(20)), ..Timeouts::DEFAULT };
///     let builder = Builder::<D>::new().pollers(2).sockets(10_000).timeouts(timeouts);
///     let engine = builder.start(|_poller| Quiet)?;
///     engine.listen("127.0.0.1:8080")?;
///     Ok(engine)
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<D> {
    pollers: Option<usize>,
    config: Config,
    policy: Policy,
    listener_per_poller: bool,
    listen: ListenOptions,
    filter: Option<ConnectionFilter>,
    mailbox: usize,
    driver: PhantomData<fn() -> D>,
}

impl<D: Driver> Default for Builder<D> {
    fn default() -> Self {
        let config = Config {
            sockets: 65_536,
            block_size: 4_096,
            input_blocks: 65_536,
            output_blocks: 65_536,
            output_limit: 32,
            receive_size: 128 * 1_024,
            receive_blocks: 1_024,
            timers: 1_024,
            room_requests: 1_024,
            subscriptions: 65_536,
            ..Config::DEVICE
        };
        Self {
            pollers: None,
            config,
            policy: Policy::RoundRobin,
            listener_per_poller: false,
            listen: ListenOptions::default(),
            filter: None,
            mailbox: 4_096,
            driver: PhantomData,
        }
    }
}

impl<D: Driver> Builder<D> {
    /// Creates a builder with the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the driver and keeps all settings.
    pub fn driver<E: Driver>(self) -> Builder<E> {
        let Self { pollers, config, policy, listener_per_poller, listen, filter, mailbox, driver: _ } = self;
        Builder { pollers, config, policy, listener_per_poller, listen, filter, mailbox, driver: PhantomData }
    }

    /// Sets the number of poller threads: 1 to [`POLLERS_MAX`]. Default: one per available processor, up to that
    /// maximum.
    pub fn pollers(mut self, pollers: usize) -> Self {
        self.pollers = Some(pollers);
        self
    }

    /// Sets the maximum number of sockets per poller: 1 to [`SOCKETS_MAX`]. Default 65,536.
    ///
    /// The system commits memory only as it is used. When all sockets are in use, connections wait in the listener's
    /// [backlog](Self::backlog).
    pub fn sockets(mut self, sockets: usize) -> Self {
        self.config.sockets = sockets;
        self
    }

    /// Sets the size of a buffer block in bytes: a power of two from 64 to 2^24. Default 4,096. A socket
    /// holds blocks only while it has queued output or unconsumed input.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.config.block_size = bytes;
        self
    }

    /// Sets the number of blocks per poller for input that handlers leave unconsumed, and for output: 1 or more each,
    /// less than 4 GiB together. Default 65,536 each.
    ///
    /// With as many input blocks as sockets, a small request can always be received.
    /// [`Config::output_blocks`](lightcone_core::Config::output_blocks) describes how sockets share output blocks.
    /// The system commits memory only as it is used, and gets it back some seconds after a burst.
    pub fn blocks(mut self, input: usize, output: usize) -> Self {
        self.config.input_blocks = input;
        self.config.output_blocks = output;
        self
    }

    /// Sets the maximum number of output blocks per socket: 1 to 65,535. Default 32, which is 128 KiB. This bounds the
    /// memory that a peer can occupy by not reading.
    pub fn output_limit(mut self, blocks: usize) -> Self {
        self.config.output_limit = blocks;
        self
    }

    /// Sets how much a socket can receive.
    ///
    /// `bytes` is the maximum that a socket receives at once, and that its handler can leave unconsumed: a power of
    /// two, at least the [block size](Self::block_size) and at most 2^24. Default 128 KiB.
    ///
    /// `blocks` is the number of sockets per poller whose handlers may leave more than one buffer block unconsumed at
    /// the same time. Default 1,024. With 0, `bytes` is ignored and the maximum is one buffer block.
    pub fn receive(mut self, bytes: usize, blocks: usize) -> Self {
        self.config.receive_size = bytes;
        self.config.receive_blocks = blocks;
        self
    }

    /// Sets how many timers the handler of each poller may have set at the same time by
    /// [`Context::set_timer`](lightcone_core::Context::set_timer): 0 to 2^24. Default 1,024. Each takes 24 bytes, which
    /// are committed as they are used.
    pub fn timers(mut self, timers: usize) -> Self {
        self.config.timers = timers;
        self
    }

    /// Sets how many [requests for room](lightcone_core::Context::request_room) may wait on each poller at the same
    /// time: 0 to 1,024, which is the default. Each takes 24 bytes, which are committed as they are used.
    pub fn room_requests(mut self, requests: usize) -> Self {
        self.config.room_requests = requests;
        self
    }

    /// Sets how many [subscriptions](lightcone_core::Context::subscribe) to topics the sockets of each poller may have
    /// together: 0 to 2^24. Default 65,536. Each takes 40 bytes, which are committed as they are used.
    pub fn subscriptions(mut self, subscriptions: usize) -> Self {
        self.config.subscriptions = subscriptions;
        self
    }

    /// Sets the rate at which connections are admitted; one beyond the rate is closed at once, and
    /// [counted](Stats::over_rate). Default: no limit. With a [listener per poller](Self::listener_per_poller), each of
    /// them has the rate.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_core::Rate;
    /// use lightcone_unix::{Builder, driver::Driver};
    ///
    /// /// Admits up to 1,000 connections a second, 200 of them at once.
    /// fn limited<D: Driver>() -> Builder<D> {
    ///     Builder::new().accept_rate(Some(Rate::new(1_000, Duration::from_secs(1)).burst(200)))
    /// }
    /// ```
    ///
    /// [`LimitPeers`](lightcone_core::LimitPeers) limits the connections of each peer.
    pub fn accept_rate(mut self, rate: Option<Rate>) -> Self {
        self.config.accept_rate = rate;
        self
    }

    /// Sets the policy by which sockets are distributed over the pollers. Default: round robin.
    pub fn balancer(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets whether each poller has a separate listening socket (`SO_REUSEPORT`): the kernel then distributes the
    /// connections, and each stays on the poller that accepted it. Default: no; the first poller accepts, and the
    /// balancer distributes the connections.
    ///
    /// Several pollers cannot listen on one Unix socket: if this is set, the first poller accepts and keeps all
    /// connections of a Unix listener.
    pub fn listener_per_poller(mut self, yes: bool) -> Self {
        self.listener_per_poller = yes;
        self
    }

    /// Sets how many completed connections the kernel queues until they are accepted. Default 4,096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listen.backlog = connections;
        self
    }

    /// Sets whether the kernel sends small segments without delay (`TCP_NODELAY`). Default yes.
    pub fn nodelay(mut self, yes: bool) -> Self {
        self.listen.nodelay = yes;
        self
    }

    /// Sets how many unsent bytes of a socket's output the kernel accepts (`TCP_NOTSENT_LOWAT`), where the system has
    /// such a limit. Default 128 KiB. With `None` the kernel decides, and buffers megabytes for a peer that does not
    /// read.
    ///
    /// Bytes in the kernel's buffer delay the output that is queued after them, and do not count as queued for the
    /// [write stall](Timeouts::write_stall) timeout.
    pub fn unsent_limit(mut self, bytes: Option<u32>) -> Self {
        self.listen.unsent_limit = bytes;
        self
    }

    /// Sets when TCP keep-alive probes are sent on accepted sockets that are idle; `None`: never, which is the default.
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.listen.keep_alive = keep_alive;
        self
    }

    /// Sets a connection filter, which is called with the listener and the peer's address and returns whether to accept
    /// the connection. Default: all connections are accepted.
    ///
    /// A refused connection is closed before it is assigned to a poller, and counted as
    /// [turned away](Stats::rejected). The filter runs on the accepting thread and should be fast. For decisions
    /// that depend on a poller's state, use [`Handler::admit`].
    ///
    /// ```
    /// # use lightcone_core::Address;
    /// # use lightcone_unix::{Builder, driver::Driver};
    /// # fn local_peers_only<D: Driver>() -> Builder<D> {
    /// Builder::new().filter(|_listener, peer| match peer {
    ///     Address::Inet(peer) => peer.ip().is_loopback(),
    ///     Address::Unix(_) => true,
    /// })
    /// # }
    /// ```
    pub fn filter(mut self, filter: impl Fn(ListenerId, &Address) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(ConnectionFilter(Arc::new(filter)));
        self
    }

    /// Sets the engine's timeouts, at most 12 days each. The defaults are those of [`Timeouts`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// Sets how long a socket has to be idle before it may be evicted, that is, closed to make room for a connection
    /// that waits while all sockets are in use; see [`Config::evict_after`]. Default `None`: no socket is evicted.
    ///
    /// A poller that accepts for all pollers evicts a socket only if none of them has room. It prefers its own
    /// sockets; if none of those may be evicted, it asks the other pollers in turn, one every 20 ms. So with several
    /// pollers, the evicted socket is the one that has been idle longest on its poller, not of all.
    pub fn evict_after(mut self, span: Option<Duration>) -> Self {
        self.config.evict_after = span;
        self
    }

    /// Sets how many posted messages a poller's mailbox holds: a power of two from 2 to 2^20. Default 4,096. While it
    /// is full, further messages are rejected with [`Rejected::Full`].
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages;
        self
    }

    /// Starts the pollers. `make`, the handler factory, is called once for each poller, on the poller's thread. So
    /// handlers need not be `Send`, and need no locks for their own state.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, the system refuses a resource, or `make` panics. No thread is left running.
    pub fn start<H>(
        self,
        make: impl Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
    ) -> Result<Engine<H::Message>, Error>
    where
        H: Handler<Message: Send> + 'static,
    {
        let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get).min(POLLERS_MAX);
        let pollers = self.pollers.unwrap_or_else(processors);
        if !(1..=POLLERS_MAX).contains(&pollers) {
            return Err(Error::Pollers(pollers));
        }
        let mut config = self.config;
        if !(1..=SOCKETS_MAX).contains(&config.sockets) {
            return Err(Error::Sockets(config.sockets));
        }
        if !self.mailbox.is_power_of_two() || !(2..=MAILBOX_MAX).contains(&self.mailbox) {
            return Err(Error::Mailbox(self.mailbox));
        }
        // Each poller keeps `CONNECTS_A_TURN` slots in reserve for connects. They are added here, so that `sockets`,
        // which limits the permits, stays fully usable.
        let sockets = config.sockets;
        config.sockets += CONNECTS_A_TURN;
        // Generations start at a random value, so that a token of one engine is invalid in another.
        config.generation_seed = RandomState::new().build_hasher().finish() as u32;
        config.check()?;
        let balancer = Balancer::new(self.policy, pollers)?;
        try_memory::<H::Data>(&config, pollers)?;
        let wanted = pollers * (sockets + DESCRIPTORS_A_POLLER) + DESCRIPTORS_ON_TOP;
        // Not an error: the settings are upper bounds, and without descriptors an engine only pauses accepting.
        let shortage = DescriptorLimit::require(wanted as u64).err();

        // Created here and not on the pollers' threads, so that errors can be returned.
        let drivers = (0..pollers).map(|_| D::new(EVENTS_MAX)).collect::<Result<Vec<_>, _>>()?;
        let handles = drivers.iter().map(|driver| {
            let waker = driver.waker();
            poller_handle(COMMANDS_MAX, self.mailbox, move || waker.wake())
        });
        let shared = Arc::new(EngineShared::new(handles.collect(), sockets as u32, balancer));
        let (listen, listener_per_poller) = (self.listen, self.listener_per_poller);
        let policy = (!listener_per_poller).then_some(self.policy);
        let (make, filter) = (Arc::new(make), self.filter);
        let starter = Starter { make, shared: Arc::clone(&shared), config, listen, policy, filter };
        let threads = Mutex::new(starter.threads(drivers)?);
        let inner = Arc::new(Inner { shared, listen, shortage });
        let check_descriptor = check_descriptor::<D>;
        record!(info, "started {pollers} pollers over {}, {sockets} sockets each", D::NAME);
        if let Some(shortage) = &inner.shortage {
            record!(warn, "{shortage}");
        }
        Ok(Engine { handle: Handle { inner }, threads, listener_per_poller, check_descriptor })
    }
}

/// Checks that the system has memory for all pollers, by allocating and freeing it. The check is made here, where an
/// error can be returned: a refusal on a poller's thread would panic or abort.
fn try_memory<D>(config: &Config, pollers: usize) -> Result<(), Error> {
    let slot = size_of::<Slot<D>>() + size_of::<UnixConnectionEntry>();
    let slots = slot.saturating_mul(config.sockets).saturating_add(TimerStorage::bytes(config.timers));
    let bytes = slots.saturating_add(config.memory());
    // All are held until the end: the memory of the pollers must be available at the same time.
    let mut all = Vec::new();
    for _ in 0..pollers {
        let mut piece = Vec::<u8>::new();
        let reserved = piece.try_reserve_exact(slots).is_ok();
        let mapped = memory::map(config.memory()).ok().filter(|_| reserved);
        all.push((piece, mapped.ok_or(Error::Memory { bytes, pollers })?));
    }
    Ok(())
}

/// The common parameters from which the threads of an engine are started.
struct Starter<H: Handler, F> {
    make: Arc<F>,
    shared: Arc<EngineShared<H::Message>>,
    config: Config,
    listen: ListenOptions,
    /// How an accepting poller distributes sockets; `None`: it keeps them.
    policy: Option<Policy>,
    filter: Option<ConnectionFilter>,
}

type Thread = JoinHandle<PollerReport>;

impl<H: Handler<Message: Send> + 'static, F> Starter<H, F>
where
    F: Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
{
    /// Starts all threads and waits until each has created its handler and its poller.
    fn threads<D: Driver>(&self, drivers: Vec<D>) -> Result<Vec<Thread>, Error> {
        let (ready, started) = mpsc::channel();
        let mut threads = Vec::new();
        let mut failed = None;
        for (index, driver) in drivers.into_iter().enumerate() {
            match self.thread(PollerId(index as u8), driver, ready.clone()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    failed = Some(Error::Thread(error));
                    break;
                }
            }
        }
        // The iterator ends when all senders are dropped. A thread drops its sender after reporting, or when the
        // factory panics, so a missing id is the id of a factory that panicked.
        drop(ready);
        let mut ready: Vec<_> = started.iter().collect();
        ready.sort_unstable();
        if failed.is_none() && ready.len() < threads.len() {
            let missing = ready.iter().zip(0..).take_while(|(id, index)| id.0 == *index).count();
            failed = Some(Error::Factory(PollerId(missing as u8)));
        }
        let Some(error) = failed else { return Ok(threads) };
        self.shared.group().stop(Duration::ZERO); // no effect on pollers whose thread was not started
        for thread in threads {
            let _ = thread.join();
        }
        Err(error)
    }

    fn thread<D: Driver>(
        &self,
        id: PollerId,
        driver: D,
        ready: mpsc::Sender<PollerId>,
    ) -> io::Result<Thread> {
        let (make, shared, config) = (Arc::clone(&self.make), Arc::clone(&self.shared), self.config);
        let (listen, policy, filter) = (self.listen, self.policy, self.filter.clone());
        let name = format!("lightcone-{id}");
        thread::Builder::new().name(name).spawn(move || {
            let config = Config { poller: id, ..config };
            let inner = Arc::new(Inner { shared: Arc::clone(&shared), listen, shortage: None });
            let handler = make(PollerContext { id, handle: Handle { inner } });
            let pollers = shared.group().pollers().len();
            let balancer = policy.and_then(|policy| Balancer::new(policy, pollers).ok());
            let mut slots = Box::new_uninit_slice(config.sockets);
            let mut memory = match memory::map(config.memory()) {
                Ok(memory) => memory,
                Err(error) => panic!("{} bytes for poller {id}: {error}", config.memory()),
            };
            let storage = Storage { slots: &mut slots, memory: &mut memory };
            let now = Instant::from_millis(Clock::now_ms());
            let receive_size =
                if config.receive_blocks > 0 { config.receive_size } else { config.block_size };
            let (mut wheel, mut timers) = (TimerWheel::new(), Box::new_uninit_slice(config.timers));
            let (mut subscriptions, mut subscribers) =
                (Box::new_uninit_slice(config.subscriptions), Box::new_uninit_slice(config.sockets));
            let poller_storage = PollerStorage {
                connections: &mut Box::new_uninit_slice(config.sockets),
                listeners: &mut (0..LISTENERS_MAX).map(|_| None).collect::<Vec<_>>(),
                buffer: &mut vec![0; receive_size],
                timers: TimerStorage::new(&mut wheel, &mut timers),
                rooms: &mut Box::new_uninit_slice(config.room_requests),
                topics: TopicStorage::new(&mut subscriptions, &mut subscribers),
            };
            let transport = UnixTransport { driver, shared: &shared, options: listen, filter };
            let Some(member) = Member::new(shared.group(), id, balancer) else {
                return PollerReport::default();
            };
            let poller = Shard::new(storage, &config, now)
                .and_then(|shard| Poller::new(shard, handler, transport, member, poller_storage));
            let poller = match poller {
                Ok(poller) => poller,
                Err(error) => unreachable!("the configuration was checked: {error}"),
            };
            // `Starter::threads` waits until all senders are dropped, so this one must not live as long as the poller.
            let _ = ready.send(id);
            drop(ready);
            PollerThread::new(id, &shared, poller).run()
        })
    }
}

/// The argument of the handler factory, one for each poller.
#[derive(Debug)]
pub struct PollerContext<M> {
    id: PollerId,
    handle: Handle<M>,
}

impl<M> PollerContext<M> {
    /// Returns the poller that the handler is created for.
    #[must_use]
    pub fn id(&self) -> PollerId {
        self.id
    }

    /// Returns a handle to the engine. The handler may keep it.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }
}

struct Inner<M> {
    shared: Arc<EngineShared<M>>,
    listen: ListenOptions,
    shortage: Option<LimitError>,
}

/// A handle to an engine, for use on any thread: posts messages, connects, closes sockets, shuts down. Cheap to clone.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::{Rejected, Token};
/// use lightcone_unix::Handle;
///
/// /// Posts a result to the socket that waits for it. Returns the result if it is to be posted again later.
/// fn deliver(handle: &Handle<String>, to: Token, result: String) -> Option<String> {
///     match handle.post(to, result) {
///         Err(Rejected::Full(result)) => Some(result),
///         _ => None, // posted, or the engine has stopped
///     }
/// }
///
/// /// Shuts the engine down if a poller has failed.
/// fn check(handle: &Handle<String>) {
///     if handle.failed() > 0 {
///         handle.shutdown(Duration::from_secs(5));
///     }
/// }
/// ```
pub struct Handle<M> {
    inner: Arc<Inner<M>>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shared", &self.inner.shared).finish()
    }
}

impl<M> Handle<M> {
    fn shared(&self) -> &EngineShared<M> {
        &self.inner.shared
    }

    fn group(&self) -> Group<'_, M, UnixGroup> {
        self.shared().group()
    }

    /// Returns the number of pollers.
    #[must_use]
    pub fn pollers(&self) -> usize {
        self.group().pollers().len()
    }

    /// Posts a message to a socket, where it arrives as a `message` event on the socket's thread.
    ///
    /// If the socket has been closed by then, the message is dropped and [counted](Stats::gone). Messages from one
    /// thread to one socket keep their order.
    ///
    /// # Errors
    ///
    /// Returns the message if the poller's mailbox is full, there is no such poller, or it has stopped.
    pub fn post(&self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.group().post(to, message, None)
    }

    /// Posts a message to every socket that is open when the message arrives at the socket's poller.
    ///
    /// # Errors
    ///
    /// Returns the message if a poller's mailbox is full or the engine has stopped. The pollers before that one, in the
    /// order of their ids, still deliver it.
    pub fn broadcast(&self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.broadcast_with(message, M::clone)
    }

    /// Posts a message to every open socket, using `clone` to copy it. For messages that are not `Clone`.
    ///
    /// # Errors
    ///
    /// Same as [`broadcast`](Self::broadcast).
    pub fn broadcast_with(&self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.group().broadcast(message, clone, None)
    }

    /// Publishes a message to the subscribers of a topic, on all pollers, as
    /// [`Context::publish`](lightcone_core::Context::publish) does in a handler. Those of one thread keep their order.
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] if the mailbox of a poller is full: pass what comes back to
    /// [`publish_rest`](Self::publish_rest) later, or the other pollers miss the message. [`Rejected::Gone`] if the
    /// engine has stopped.
    pub fn publish(&self, topic: Topic, message: M) -> Result<(), Rejected<Unpublished<M>>>
    where
        M: Clone,
    {
        self.publish_rest(Unpublished::new(topic, message, M::clone))
    }

    /// Publishes a message to the pollers that do not have it: after a [`publish`](Self::publish) that found a mailbox
    /// full, or for a message that is not `Clone`.
    ///
    /// # Errors
    ///
    /// The same as of `publish`.
    pub fn publish_rest(&self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.group().publish(message, None)
    }

    /// Begins to connect to an address, on the poller that the balancer picks. The handler's `admit` is called with the
    /// tag; `open` or `refused` follows.
    ///
    /// ```
    /// use lightcone_unix::endpoint::Endpoint;
    /// use lightcone_unix::{Error, Handle};
    ///
    /// /// Connects to an endpoint such as `127.0.0.1:8080` or `unix:/run/app.sock`.
    /// fn connect(handle: &Handle<String>, to: &str, tag: u64) -> Result<(), Error> {
    ///     let endpoint: Endpoint = to.parse()?;
    ///     let address = handle.address(&endpoint)?;
    ///     handle.connect(address, tag)?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] if every poller is full, [`RequestError::Gone`] if the engine has been shut down.
    pub fn connect(&self, to: Address, tag: u64) -> Result<(), RequestError> {
        self.shared().connect(to, tag)
    }

    /// Closes a socket after its queued output has been sent. The `close` event follows on the socket's thread.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] if the poller's command mailbox is full, [`RequestError::Gone`] if the poller has
    /// stopped.
    pub fn close(&self, token: Token) -> Result<(), RequestError> {
        self.send(token.poller(), Command::CloseSocket { token, abort: false })
    }

    /// Closes a socket at once and discards its queued output.
    ///
    /// # Errors
    ///
    /// Same as [`close`](Self::close).
    pub fn abort(&self, token: Token) -> Result<(), RequestError> {
        self.send(token.poller(), Command::CloseSocket { token, abort: true })
    }

    fn send(&self, poller: PollerId, command: UnixCommand) -> Result<(), RequestError> {
        let poller = self.shared().poller(poller).ok_or(RequestError::Gone)?;
        Ok(poller.send_command(command)?)
    }

    /// Returns the address of an endpoint, for use with [`connect`](Self::connect).
    ///
    /// The address of a Unix socket is a number, for which the engine remembers the path. It remembers 4,096 paths:
    /// those that it listens on, and the most recently used others. The address of a forgotten path is invalid:
    /// [`endpoint`](Self::endpoint) returns `None`, and a connect is refused. Call this again to get a new one.
    ///
    /// # Errors
    ///
    /// If the engine listens on all the Unix paths that it can remember.
    pub fn address(&self, endpoint: &Endpoint) -> Result<Address, UnixAddressesFull> {
        self.shared().address(endpoint)
    }

    /// Returns the endpoint of an address; for a Unix socket, this is its path.
    #[must_use]
    pub fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        self.shared().endpoint(address)
    }

    /// Returns the counts of each poller, at most a tenth of a second old.
    #[must_use]
    pub fn stats(&self) -> Vec<Stats> {
        self.shared().stats()
    }

    /// Returns the number of pollers that have [failed](PollerReport::failed); 0 once the engine is shutting down.
    ///
    /// The other pollers continue. But if the accepting poller has failed, no connections are accepted any more; the
    /// program should then shut the engine down.
    #[must_use]
    pub fn failed(&self) -> usize {
        if locked(&self.shared().registry).stopping {
            return 0; // a poller that has stopped is closed as well, and looks the same from here
        }
        self.group().pollers().iter().filter(|poller| poller.is_closed()).count()
    }

    /// Returns the current number of sockets of each poller, including those that are assigned to it and have not
    /// arrived.
    #[must_use]
    pub fn loads(&self) -> Vec<u32> {
        let load = |poller: &UnixPollerHandle<M>| AsRef::<Load>::as_ref(poller).get();
        self.group().pollers().iter().map(load).collect()
    }

    /// Begins a graceful shutdown, and returns at once. [`Engine::join`] waits for its end.
    ///
    /// Connections that wait at the listeners are still accepted, then the listeners close. On every socket, the bytes
    /// that have already arrived are received, then the `shutdown` event is delivered. Sockets that are still open
    /// after the grace time are aborted. With a grace time of zero, nothing more is accepted. Further calls can only
    /// shorten the grace time.
    pub fn shutdown(&self, grace: Duration) {
        self.shared().stop(grace);
    }
}

/// A running engine. Dropping it shuts it down with a grace time of zero, and waits until callbacks in progress have
/// returned.
///
/// ```
/// use core::time::Duration;
/// use lightcone_unix::{Engine, Error};
///
/// /// Listens on a port that the system chooses, runs `clients`, and shuts down.
/// fn run(engine: Engine, clients: impl FnOnce(&str)) -> Result<(), Error> {
///     let listener = engine.listen("127.0.0.1:0")?;
///     clients(&listener.endpoint().to_string());
///     let report = engine.shutdown(Duration::from_secs(1));
///     println!("{report}");
///     Ok(())
/// }
/// ```
#[must_use = "dropping an engine shuts it down"]
pub struct Engine<M = core::convert::Infallible> {
    handle: Handle<M>,
    threads: Mutex<Vec<Thread>>,
    listener_per_poller: bool,
    /// Checks that a descriptor's number is within the drivers' limit.
    check_descriptor: fn(RawFd) -> Result<(), DriverError>,
}

impl<M> fmt::Debug for Engine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<M> Engine<M> {
    /// Returns a handle to the engine, for use on any thread.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Returns an error if the process may open fewer descriptors than the settings require. The engine runs
    /// nevertheless: when it is out of descriptors, it pauses accepting until some are free.
    ///
    /// The engine raises a soft limit that is too low to the hard limit. So the cause is that the hard limit is too low
    /// as well, or that the soft limit could not be raised.
    #[must_use]
    pub fn descriptor_shortage(&self) -> Option<&LimitError> {
        self.handle.inner.shortage.as_ref()
    }

    /// Listens on an address: a text such as `127.0.0.1:8080`, `localhost:0` or `unix:/run/app.sock`, a socket address,
    /// or an [`Endpoint`]. If a host name has several addresses, the first one that works is used.
    ///
    /// # Errors
    ///
    /// If the address is invalid, in use or not permitted; the error contains the address and the reason.
    /// [`RequestError::Gone`] if the engine has been shut down.
    pub fn listen(&self, on: impl ToEndpoints) -> Result<Listener<M>, Error> {
        let endpoints = on.to_endpoints()?;
        let (id, generation) = self.take_slot()?;
        let mut failed = None;
        for endpoint in &endpoints {
            match self.bind(endpoint, id, generation) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = Some(error),
            }
        }
        self.return_slot(id);
        Err(failed.unwrap_or(Error::Request(RequestError::Gone)))
    }

    /// Listens on a socket that listens already: a [`TcpListener`](std::net::TcpListener), a
    /// [`UnixListener`](std::os::unix::net::UnixListener), or one that another process passed on to this one. The first
    /// poller accepts, and the balancer places the connections as usual.
    ///
    /// ```no_run
    /// # use lightcone_unix::{Engine, Error};
    /// # fn with(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = engine.listen_on(socket)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The socket becomes non-blocking, which also affects its duplicates in other processes. As long as one of these
    /// is open, the address stays in use after the listener is closed, and connections wait in the queue that they
    /// share. The file of a Unix socket is not removed.
    ///
    /// # Errors
    ///
    /// If the socket does not listen. [`RequestError::Gone`] if the engine has been shut down. The socket is closed.
    pub fn listen_on(&self, socket: impl Into<OwnedFd>) -> Result<Listener<M>, Error> {
        let socket = ListenSocket::adopt(socket.into(), &self.handle.inner.listen)?;
        let endpoint = socket.endpoint().clone();
        let (id, generation) = self.take_slot()?;
        let listener = self.accept_on(vec![Arc::new(socket)], false, endpoint, id, generation);
        if listener.is_err() {
            self.return_slot(id);
        }
        listener
    }

    fn return_slot(&self, id: ListenerId) {
        locked(&self.handle.shared().registry).listener_mut(id).taken = false;
    }

    /// Takes a slot for a listener. Slots of failed and closed listeners are reused.
    fn take_slot(&self) -> Result<(ListenerId, u64), Error> {
        let listeners = &mut locked(&self.handle.shared().registry).listeners;
        let index = listeners.iter().position(|slot| !slot.taken).unwrap_or(listeners.len());
        if index >= LISTENERS_MAX {
            return Err(Error::Listeners);
        }
        let generation = listeners.get(index).map_or(0, |before| before.generation + 1);
        let slot = ListenerSlot { taken: true, generation, shared: false };
        match listeners.get_mut(index) {
            Some(free) => *free = slot,
            None => listeners.push(slot),
        }
        Ok((ListenerId(index as u8), generation))
    }

    /// Binds the sockets of a listener and begins to accept on them.
    fn bind(&self, endpoint: &Endpoint, id: ListenerId, generation: u64) -> Result<Listener<M>, Error> {
        // A path cannot be bound more than once: on a Unix socket only the first poller accepts.
        let shared = self.listener_per_poller && endpoint.as_inet().is_some();
        let options = ListenOptions { reuse_port: shared, ..self.handle.inner.listen };
        let count = if shared { self.handle.pollers() } else { 1 };
        // Before anything is bound, make sure that a Unix listener can have an address: its peers are identified by it.
        self.handle.shared().address(endpoint)?;
        self.await_closed(endpoint);
        let mut sockets = Vec::with_capacity(count);
        let mut bound = endpoint.clone();
        for _ in 0..count {
            let socket = ListenSocket::bind(&bound, &options)?;
            // If the port was 0, the further sockets must get the one that the system chose for the first.
            bound = socket.endpoint().clone();
            sockets.push(Arc::new(socket));
        }
        self.accept_on(sockets, shared, bound, id, generation)
    }

    /// Passes each poller one of the sockets, which all have the same address.
    fn accept_on(
        &self,
        sockets: Vec<Arc<ListenSocket>>,
        shared: bool,
        endpoint: Endpoint,
        id: ListenerId,
        generation: u64,
    ) -> Result<Listener<M>, Error> {
        let (shared_state, pollers) = (self.handle.shared(), self.handle.group().pollers());
        let open = Arc::new(OpenSockets::default());
        let address = shared_state.address(&endpoint)?;
        let mut listening = Vec::with_capacity(sockets.len());
        for socket in &sockets {
            (self.check_descriptor)(socket.as_fd().as_raw_fd())?;
            let pin = match &endpoint {
                Endpoint::Inet(_) => None,
                Endpoint::Unix(_) => shared_state.unix.pin(&endpoint),
            };
            let (socket, records) = (Arc::clone(socket), AcceptRecords::default());
            listening.push(Listening { socket, address, records, _pin: pin, _open: OpenSocket::new(&open) });
        }
        // Locked until the commands are sent: a poller that has been stopped would close the listener at once.
        let mut registry = locked(&shared_state.registry);
        if registry.stopping {
            return Err(RequestError::Gone.into());
        }
        for (poller, listener) in pollers.iter().zip(listening) {
            let Err(refused) = poller.send_command(Command::Listen { listener, id }) else { continue };
            // Pollers that do not have the listener ignore the command.
            pollers.iter().for_each(|poller| drop(poller.send_command(Command::CloseListener { id })));
            return Err(RequestError::from(refused).into());
        }
        registry.listener_mut(id).shared = shared;
        record!(info, "listening on {endpoint}");
        let sockets = sockets.iter().map(Arc::downgrade).collect();
        Ok(Listener { handle: self.handle(), id, generation, endpoint, open, sockets })
    }

    /// Waits for closed listeners that may still occupy the address. Their pollers close them within a turn.
    fn await_closed(&self, endpoint: &Endpoint) {
        /// The maximum wait. A turn takes as long as its callbacks; if one takes longer than this, binding the address
        /// may fail.
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut in_the_way = Vec::new();
        locked(&self.handle.shared().registry).closing.retain(|(closed, open)| {
            let same = match (closed, endpoint) {
                (Endpoint::Inet(closed), Endpoint::Inet(wanted)) => closed.port() == wanted.port(),
                _ => closed == endpoint,
            };
            if same && !open.is_closed() {
                in_the_way.push(Arc::clone(open));
            }
            !open.is_closed()
        });
        // Not while the lock is held: callbacks of the pollers may need it, and the turn would not end.
        for open in in_the_way {
            open.wait_closed(PATIENCE);
        }
    }

    /// Shuts down, waits for the end and returns the report. This takes at most a little longer than the grace time,
    /// unless a handler blocks.
    pub fn shutdown(self, grace: Duration) -> Report {
        self.handle.shutdown(grace);
        self.join()
    }

    /// Waits until the engine has been shut down by [`Handle::shutdown`], and returns the report. If called on a
    /// poller's thread, waits only for the other pollers.
    pub fn join(self) -> Report {
        self.join_threads()
    }

    fn join_threads(&self) -> Report {
        let threads = core::mem::take(&mut *locked(&self.threads));
        let me = thread::current().id();
        let failed = PollerReport { failed: true, ..PollerReport::default() };
        let join = |it: Thread| {
            // A thread cannot wait for itself, and its poller has no report yet.
            if it.thread().id() == me { PollerReport::default() } else { it.join().unwrap_or(failed) }
        };
        let report = Report { pollers: threads.into_iter().map(join).collect() };
        record!(info, "{report}");
        report
    }
}

impl<M> Drop for Engine<M> {
    fn drop(&mut self) {
        if !locked(&self.threads).is_empty() {
            self.handle.shutdown(Duration::ZERO);
            self.join_threads();
        }
    }
}

/// A listener of an engine. Dropping this value does not close the listener: [`close`](Self::close) does, or the
/// shutdown of the engine.
pub struct Listener<M = core::convert::Infallible> {
    handle: Handle<M>,
    id: ListenerId,
    generation: u64,
    endpoint: Endpoint,
    open: Arc<OpenSockets>,
    /// The sockets, which belong to their pollers.
    sockets: Box<[Weak<ListenSocket>]>,
}

impl<M> fmt::Debug for Listener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).field("endpoint", &self.endpoint).finish()
    }
}

impl<M> Listener<M> {
    /// Returns the listener's id, which `admit` receives in [`Origin::Accepted`](lightcone_core::Origin).
    #[must_use]
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Returns the endpoint on which the listener accepts. If the requested port was 0, it contains the port that the
    /// system chose.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Duplicates the listening socket, to pass it on to another process. If each poller has a socket of its own, the
    /// result has one for each.
    ///
    /// Connections wait in the queue that all duplicates share, until one of the processes accepts them. Drop the
    /// duplicates that are not passed on: as long as one is open, the system takes connections. If the listener is on a
    /// Unix socket, its file is not removed from now on.
    ///
    /// # Errors
    ///
    /// [`RequestError::Gone`] if it is closed; a [`ListenError`] if no descriptor is left.
    pub fn duplicate(&self) -> Result<Vec<OwnedFd>, Error> {
        let duplicate =
            |socket: &Weak<ListenSocket>| Ok(socket.upgrade().ok_or(RequestError::Gone)?.duplicate()?);
        self.sockets.iter().map(duplicate).collect()
    }

    /// Stops listening, within a turn of the listener's poller. Accepted connections are not affected.
    ///
    /// [`Engine::listen`] on the same address waits for the close, so the engine can use the address again at once. To
    /// wait for another reason, call [`wait_closed`](Self::wait_closed).
    ///
    /// # Errors
    ///
    /// [`RequestError::Gone`] if it is already closed, [`RequestError::Full`] if a poller's command mailbox is full;
    /// retry later.
    pub fn close(&self) -> Result<(), RequestError> {
        let mut registry = locked(&self.handle.shared().registry);
        let slot = registry.listener_mut(self.id);
        if !slot.taken || slot.generation != self.generation {
            return Err(RequestError::Gone);
        }
        let count = if slot.shared { self.handle.pollers() } else { 1 };
        for poller in 0..count {
            self.handle.send(PollerId(poller as u8), Command::CloseListener { id: self.id })?;
        }
        // Only now, so that a call which failed halfway can be repeated. A second close command has no effect.
        slot.taken = false;
        record!(info, "no longer listening on {}", self.endpoint);
        registry.closing.retain(|(_, open)| !open.is_closed());
        registry.closing.push((self.endpoint.clone(), Arc::clone(&self.open)));
        Ok(())
    }

    /// Waits for at most `timeout` until the listener is closed, by [`close`](Self::close) or with its engine, and
    /// returns whether it is. When it is, its address is free, and connects to the address are refused.
    ///
    /// Do not call this on the thread of the listener's poller, which must close it: the wait would time out.
    pub fn wait_closed(&self, timeout: Duration) -> bool {
        self.open.wait_closed(timeout)
    }
}

/// A value that can be converted to endpoints to listen on.
pub trait ToEndpoints {
    /// Returns the endpoints, in the order in which to try them.
    ///
    /// # Errors
    ///
    /// If a text is not a valid endpoint.
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError>;
}

impl ToEndpoints for str {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Endpoint::resolve(self)
    }
}

impl ToEndpoints for String {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Endpoint::resolve(self)
    }
}

impl ToEndpoints for core::net::SocketAddr {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(vec![Endpoint::Inet(*self)])
    }
}

impl ToEndpoints for Endpoint {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(vec![self.clone()])
    }
}

impl<T: ToEndpoints + ?Sized> ToEndpoints for &T {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        (**self).to_endpoints()
    }
}

#[cfg(test)]
mod tests {
    use lightcone_core::framing::{FrameTooLong, SendFrameError};

    use super::*;
    use crate::errno::Errno;

    #[test]
    fn the_errors_of_requests_convert_and_keep_their_text_and_type() {
        for (error, request) in [
            (Error::from(Rejected::Full("message")), RequestError::Full),
            (Error::from(Rejected::Gone(7)), RequestError::Gone),
            (Error::from(RequestError::Gone), RequestError::Gone),
        ] {
            assert_eq!(error.to_string(), request.to_string());
            assert!(matches!(&error, Error::Request(wrapped) if *wrapped == request), "{error}");
        }
        let error = Error::from(UnixAddressesFull);
        assert!(error.to_string().contains("4096"), "{error}");
    }

    #[test]
    fn a_chain_of_sources_has_every_text_once() {
        let errno = Errno(libc::ENOSPC);
        let driver = DriverError::Os("epoll_ctl", errno);
        let high = DriverError::DescriptorTooHigh { driver: "select", fd: 5, limit: 4 };
        let not_local = "192.0.2.1:80".parse().unwrap();
        let listen = ListenSocket::bind(&not_local, &ListenOptions::default()).unwrap_err();
        let balance = BalanceError::Pollers(0);
        let config = Config { sockets: 0, ..Config::DEVICE }.check().unwrap_err();
        let endpoint = "nowhere".to_endpoints().unwrap_err();
        let limit = DescriptorLimit { soft: 256, hard: 1024 };
        let refused = LimitError { wanted: 5_000, limit, cause: Some(errno) };
        let wrapping: [(&dyn core::error::Error, String); 12] = [
            (&refused, errno.to_string()),
            (&driver, errno.to_string()),
            (&listen, listen.errno().to_string()),
            (&Error::Config(config), config.to_string()),
            (&Error::Balance(balance), balance.to_string()),
            (&Error::Driver(driver), driver.to_string()),
            (&Error::Driver(high), high.to_string()),
            (&Error::Thread(io::Error::from_raw_os_error(libc::EAGAIN)), String::from("os error")),
            (&Error::Endpoint(endpoint.clone()), endpoint.to_string()),
            (&Error::Listen(listen.clone()), listen.to_string()),
            (&Error::UnixAddresses(UnixAddressesFull), UnixAddressesFull.to_string()),
            (&Error::Request(RequestError::Full), RequestError::Full.to_string()),
        ];
        for (error, wrapped) in wrapping {
            assert!(error.to_string().contains(&wrapped), "{error}");
            assert!(error.source().is_none(), "{error}");
        }
        // The source of an error whose text is contained is not: it comes next.
        let long = FrameTooLong { length: 300, max: 255 };
        let error = Error::Thread(io::Error::other(SendFrameError::TooLong(long)));
        let texts: Vec<_> =
            core::iter::successors(Some(&error as &dyn core::error::Error), |&error| error.source())
                .map(ToString::to_string)
                .collect();
        assert_eq!(
            texts,
            ["cannot start a thread: the length of a frame cannot be encoded", &long.to_string()]
        );
    }
}
