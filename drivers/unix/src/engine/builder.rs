//! The builder of an engine.

use alloc::sync::Arc;
use core::hash::{BuildHasher, Hasher};
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::hash::RandomState;
use std::sync::Mutex;
use std::thread;

use lightcone_core::balance::{Balancer, POLLERS_MAX, Policy};
use lightcone_core::poller::TopicStorage;
use lightcone_core::{Address, Config, Handler, ListenerId, Rate, Slot, Timeouts, TimerStorage, Token};

use super::Engine;
use super::error::Error;
use super::handle::{Handle, Inner};
use super::start::{PollerContext, Starter};
use crate::driver::{Driver, check_descriptor};
use crate::limits::DescriptorLimit;
use crate::listener::ListenOptions;
use crate::memory;
use crate::poller::{CONNECTS_A_TURN, EVENTS_MAX, UnixConnectionEntry};
use crate::records::record;
use crate::shared::{EngineShared, poller_handle};
use crate::socket::KeepAlive;
use crate::transport::ConnectionFilter;
use crate::waker::Waker;

/// The maximum number of sockets per poller.
pub const SOCKETS_MAX: usize = (1 << 24) - 1_024;
const _: () = assert!(SOCKETS_MAX <= Token::MAX_INDEX as usize + 1, "a token has the index of its socket");
/// Descriptors that each poller needs in addition to those of its sockets.
const DESCRIPTORS_A_POLLER: usize = 4;
/// Descriptors that the process needs in addition to those of its pollers.
const DESCRIPTORS_ON_TOP: usize = 32;

/// The maximum capacity of a message mailbox.
pub(super) const MAILBOX_MAX: usize = 1 << 20;
/// The capacity of a poller's mailbox of commands, which also bounds the accepted sockets in transit to the poller. An
/// accepting poller that finds it full tries another poller.
const COMMANDS_MAX: usize = 1_024;

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
#[derive(Debug)]
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

/// A builder has no driver yet, so the driver need not be `Clone`.
impl<D> Clone for Builder<D> {
    fn clone(&self) -> Self {
        let Self { pollers, config, policy, listener_per_poller, listen, ref filter, mailbox, driver } =
            *self;
        Self { pollers, config, policy, listener_per_poller, listen, filter: filter.clone(), mailbox, driver }
    }
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
    /// [counted](lightcone_core::Stats::over_rate). Default: no limit. With a
    /// [listener per poller](Self::listener_per_poller), each of them has the rate.
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
    /// [turned away](lightcone_core::Stats::rejected). The filter runs on the accepting thread and should be fast. For
    /// decisions that depend on a poller's state, use [`Handler::admit`].
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
    /// is full, further messages are rejected with [`Rejected::Full`](lightcone_core::Rejected::Full).
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
    let lent = TimerStorage::bytes(config.timers) + TopicStorage::bytes(config.subscriptions, config.sockets);
    let slots = slot.saturating_mul(config.sockets).saturating_add(lent);
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
