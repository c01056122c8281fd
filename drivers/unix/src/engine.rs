//! The engine: poller threads behind one handle.

#![expect(
    clippy::cast_possible_truncation,
    reason = "pollers are 256 at most, sockets 2^24: checked at the start"
)]

use alloc::sync::Arc;
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
use lightcone_core::poller::{Command, ConnectRefused, Group, LoadPermit, Member, Poller, PollerStorage};
use lightcone_core::sync::{Load, PushError};
use lightcone_core::{
    Address, Config, ConfigError, Handler, Instant, ListenerId, PollerId, Rejected, Shard, Slot, Stats,
    Storage, Timeouts, Token,
};

pub use lightcone_core::balance::POLLERS_MAX;

use crate::clock::Clock;
use crate::driver::{Driver, DriverError, check_descriptor};
use crate::endpoint::{Endpoint, EndpointError};
use crate::limits::{DescriptorLimit, LimitError};
use crate::listener::{ListenError, ListenOptions, ListenSocket};
use crate::memory;
use crate::paths::UNIX_MAX;
use crate::poller::{CONNECTS_A_TURN, ConnectionEntry, EVENTS_MAX, PollerThread};
use crate::report::{PollerReport, Report};
use crate::shared::{
    EngineShared, ListenerSlot, OpenSocket, OpenSockets, PollerHandle, locked, poller_handle,
};
use crate::socket::KeepAlive;
use crate::transport::{Filter, LISTENERS_MAX, Listening, UnixGroup, UnixTransport};
use crate::waker::Waker;

/// The most sockets of one poller.
pub const SOCKETS_MAX: usize = (1 << 24) - 1_024;
/// Descriptors that an engine needs beside those of its sockets: for each poller, and on top.
const DESCRIPTORS_A_POLLER: usize = 4;
const DESCRIPTORS_ON_TOP: usize = 32;

/// Why an engine could not be had, or not do as asked. Names the value and what is allowed.
#[non_exhaustive]
pub enum Error {
    /// A number of pollers that can't be.
    Pollers(usize),
    /// A number of sockets that can't be.
    Sockets(usize),
    /// A capacity of mailboxes that can't be.
    Mailbox(usize),
    /// A setting of the shards that can't be.
    Config(ConfigError),
    /// A balancer that does not fit the pollers.
    Balance(BalanceError),
    /// So many bytes for each poller are more than the system gives.
    Memory {
        /// The bytes of one poller.
        bytes: usize,
        /// How many pollers there are to be.
        pollers: usize,
    },
    /// The driver could not be made.
    Driver(DriverError),
    /// A thread could not be started.
    Thread(io::Error),
    /// The factory of handlers panicked.
    Factory(PollerId),
    /// An address that is none.
    Endpoint(EndpointError),
    /// A listener that could not be had.
    Listen(ListenError),
    /// More listeners than an engine can have at once.
    Listeners,
    /// All Unix addresses that an engine can remember are listened on.
    UnixAddresses,
    /// A poller's mailbox is full, or all of its sockets are in use: try again later.
    Full,
    /// The engine has stopped, or what was named has gone.
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pollers(n) => write!(f, "{n} pollers; allowed: 1 to {POLLERS_MAX}"),
            Self::Sockets(n) => write!(f, "{n} sockets a poller; allowed: 1 to {SOCKETS_MAX}"),
            Self::Mailbox(n) => {
                write!(f, "a mailbox of {n} messages; allowed: a power of two from 2 to {MAILBOX_MAX}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Balance(error) => error.fmt(f),
            Self::Memory { bytes, pollers } => write!(
                f,
                "{bytes} bytes for each of {pollers} pollers: the system refuses so much memory; allowed: fewer sockets, blocks or pollers"
            ),
            Self::Driver(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Factory(poller) => write!(f, "the factory of handlers panicked for poller {}", poller.0),
            Self::Endpoint(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Listeners => write!(f, "an engine can have {LISTENERS_MAX} listeners at once"),
            Self::UnixAddresses => {
                write!(f, "an engine can remember {UNIX_MAX} Unix addresses, and listens on all of them")
            }
            Self::Full => f.write_str("full: the poller has no room now"),
            Self::Gone => f.write_str("gone: the engine has stopped, or what was named has ended"),
        }
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Error {}

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
      ListenError => Listen);

/// The largest mailbox.
const MAILBOX_MAX: usize = 1 << 20;
/// Messages between the threads of the engine themselves. Sockets on their way between pollers are
/// bounded by it; who finds it full tries another poller.
const COMMANDS_MAX: usize = 1_024;

type UnixCommand = Command<OwnedFd, Listening, LoadPermit<UnixGroup>>;

/// Sets up an [`Engine`]. Every setting has a default that suits a server.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<D> {
    pollers: Option<usize>,
    config: Config,
    policy: Policy,
    listener_per_poller: bool,
    listen: ListenOptions,
    filter: Option<Filter>,
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
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same settings with another driver.
    pub fn driver<E: Driver>(self) -> Builder<E> {
        let Self { pollers, config, policy, listener_per_poller, listen, filter, mailbox, driver: _ } = self;
        Builder { pollers, config, policy, listener_per_poller, listen, filter, mailbox, driver: PhantomData }
    }

    /// How many poller threads: 1 to [`POLLERS_MAX`]. Default: one for each processor, as far as that goes.
    pub fn pollers(mut self, pollers: usize) -> Self {
        self.pollers = Some(pollers);
        self
    }

    /// The most sockets of one poller: 1 to [`SOCKETS_MAX`]. Default 65,536. Memory is taken as it is
    /// used. When all are in use, connections wait in the listener's backlog.
    pub fn sockets(mut self, sockets: usize) -> Self {
        self.config.sockets = sockets;
        self
    }

    /// Bytes of a buffer block: a power of two from 64 to 2^24. Default 4,096.
    pub fn block_size(mut self, bytes: usize) -> Self {
        self.config.block_size = bytes;
        self
    }

    /// Blocks of one poller for input that handlers leave unconsumed, and for output: 1 or more each, less than 4 GiB
    /// together. Default 65,536 each: with as many input blocks as sockets, a small request is always received. Memory
    /// is taken as it is used, and given back some seconds after a burst. How output blocks are shared:
    /// [`Config::output_blocks`](lightcone_core::Config::output_blocks).
    pub fn blocks(mut self, input: usize, output: usize) -> Self {
        self.config.input_blocks = input;
        self.config.output_blocks = output;
        self
    }

    /// The most output blocks of one socket: 1 to 65,535. Default 32, which is 128 KiB: what a peer that does not
    /// read can make the engine hold.
    pub fn output_limit(mut self, blocks: usize) -> Self {
        self.config.output_limit = blocks;
        self
    }

    /// The most bytes received at once, and the most that a socket can leave unconsumed: a power of
    /// two, at least the block size and at most 2^24. Default 128 KiB. `blocks` is how many sockets of
    /// one poller may leave more than a block unconsumed; default 1,024, and with 0 a block is the most.
    pub fn receive(mut self, bytes: usize, blocks: usize) -> Self {
        self.config.receive_size = bytes;
        self.config.receive_blocks = blocks;
        self
    }

    /// How sockets are spread over the pollers. Default round robin.
    pub fn balancer(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// One listener for each poller (`SO_REUSEPORT`): the kernel spreads the connections, and each
    /// stays where it was accepted. Default: the first poller accepts, and the balancer spreads.
    pub fn listener_per_poller(mut self, yes: bool) -> Self {
        self.listener_per_poller = yes;
        self
    }

    /// Connections that the kernel completes and keeps until they are accepted. Default 4,096.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.listen.backlog = connections;
        self
    }

    /// Whether small pieces are sent at once (`TCP_NODELAY`). Default yes.
    pub fn nodelay(mut self, yes: bool) -> Self {
        self.listen.nodelay = yes;
        self
    }

    /// The most bytes that the kernel takes of a socket's output before it has sent them (`TCP_NOTSENT_LOWAT`), where
    /// the system can limit that; `None`: as many as it likes, which are megabytes for a peer that reads nothing.
    /// What was taken and not sent yet delays what is queued next, and is not seen by the
    /// [write stall](Timeouts::write_stall) timeout. Default 128 KiB.
    pub fn unsent_limit(mut self, bytes: Option<u32>) -> Self {
        self.listen.unsent_limit = bytes;
        self
    }

    /// Asks silent peers of accepted sockets whether they are still there. Default no.
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.listen.keep_alive = keep_alive;
        self
    }

    /// Whom to take at all, by listener and peer: one for whom `filter` says no is closed before it
    /// takes a place on a poller, and counts as [turned away](Stats::turned_away). It runs on the
    /// thread that accepts and should be quick. Whatever needs a poller's state is for
    /// [`Handler::admit`]. Default: everybody.
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
        self.filter = Some(Filter(Arc::new(filter)));
        self
    }

    /// The engine's timeouts, at most 12 days each. The defaults are those of [`Timeouts`].
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.config.timeouts = timeouts;
        self
    }

    /// How many posted messages wait at one poller before [`Rejected::Full`]: a power of two from 2 to
    /// 2^20. Default 4,096.
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages;
        self
    }

    /// Starts the pollers. `make` is called once for each, on its own thread, so that handlers need
    /// not be `Send` and need no lock for what they own.
    ///
    /// # Errors
    ///
    /// A setting out of its range, with what is allowed; what the system refused. Nothing is left
    /// running then.
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
        let sockets = config.sockets;
        config.sockets += CONNECTS_A_TURN;
        config.salt = RandomState::new().build_hasher().finish() as u32;
        config.check()?;
        let balancer = Balancer::new(self.policy, pollers)?;
        try_memory::<H::Data>(&config, pollers)?;
        let wanted = pollers * (sockets + DESCRIPTORS_A_POLLER) + DESCRIPTORS_ON_TOP;
        let shortage = DescriptorLimit::require(wanted as u64).err();

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
        Ok(Engine { handle: Handle { inner }, threads, listener_per_poller, check_descriptor })
    }
}

/// Whether the system has the memory of all pollers. It is asked here, where the answer can be told: on the pollers'
/// threads a refusal would end the process.
fn try_memory<D>(config: &Config, pollers: usize) -> Result<(), Error> {
    let slot = size_of::<Slot<D>>() + size_of::<ConnectionEntry>();
    let slots = slot.saturating_mul(config.sockets);
    let bytes = slots.saturating_add(config.memory());
    let mut all = Vec::new();
    for _ in 0..pollers {
        let mut piece = Vec::<u8>::new();
        let reserved = piece.try_reserve_exact(slots).is_ok();
        let mapped = memory::map(config.memory()).ok().filter(|_| reserved);
        all.push((piece, mapped.ok_or(Error::Memory { bytes, pollers })?));
    }
    Ok(())
}

/// What the threads of one engine are started from.
struct Starter<H: Handler, F> {
    make: Arc<F>,
    shared: Arc<EngineShared<H::Message>>,
    config: Config,
    listen: ListenOptions,
    /// How an accepting poller spreads sockets; `None`: it keeps them.
    policy: Option<Policy>,
    filter: Option<Filter>,
}

type Thread = JoinHandle<PollerReport>;

impl<H: Handler<Message: Send> + 'static, F> Starter<H, F>
where
    F: Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
{
    /// Starts all, and waits until each has its handler.
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
        drop(ready);
        let mut ready: Vec<_> = started.iter().collect();
        ready.sort_unstable();
        if failed.is_none() && ready.len() < threads.len() {
            let missing = ready.iter().zip(0..).take_while(|(id, index)| id.0 == *index).count();
            failed = Some(Error::Factory(PollerId(missing as u8)));
        }
        let Some(error) = failed else { return Ok(threads) };
        self.shared.group().stop(Duration::ZERO); // also for those that never ran
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
        let name = format!("lightcone-{}", id.0);
        thread::Builder::new().name(name).spawn(move || {
            let config = Config { poller: id, ..config };
            let inner = Arc::new(Inner { shared: Arc::clone(&shared), listen, shortage: None });
            let handler = make(PollerContext { id, handle: Handle { inner } });
            let pollers = shared.group().pollers().len();
            let balancer = policy.and_then(|policy| Balancer::new(policy, pollers).ok());
            let mut slots = Box::new_uninit_slice(config.sockets);
            let mut memory = match memory::map(config.memory()) {
                Ok(memory) => memory,
                Err(error) => panic!("{} bytes for poller {}: {error}", config.memory(), id.0),
            };
            let storage = Storage { slots: &mut slots, memory: &mut memory };
            let now = Instant::from_millis(Clock::now_ms());
            let receive_size =
                if config.receive_blocks > 0 { config.receive_size } else { config.block_size };
            let poller_storage = PollerStorage {
                connections: &mut Box::new_uninit_slice(config.sockets),
                listeners: &mut (0..LISTENERS_MAX).map(|_| None).collect::<Vec<_>>(),
                buffer: &mut vec![0; receive_size],
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
            let _ = ready.send(id);
            drop(ready);
            PollerThread::new(id, &shared, poller).run()
        })
    }
}

/// What the factory of handlers is given for each poller.
#[derive(Debug)]
pub struct PollerContext<M> {
    id: PollerId,
    handle: Handle<M>,
}

impl<M> PollerContext<M> {
    /// Which poller the handler is for.
    #[must_use]
    pub fn id(&self) -> PollerId {
        self.id
    }

    /// A handle to the engine, to be kept if needed.
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

/// What any thread can ask of an engine. Cheap to clone.
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

    /// How many pollers the engine has.
    #[must_use]
    pub fn pollers(&self) -> usize {
        self.group().pollers().len()
    }

    /// Posts a message to a socket; it arrives as its `message` event, on its own thread. If the
    /// socket has gone by then, the message is dropped and counted. Messages from one thread to one
    /// socket keep their order.
    ///
    /// # Errors
    ///
    /// The message itself: the poller's mailbox is full, there is no such poller, or it has stopped.
    pub fn post(&self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.group().post(to, message, None)
    }

    /// Posts a message to every socket that is open when it arrives.
    ///
    /// # Errors
    ///
    /// The message itself, when a poller's mailbox is full or the engine has stopped; pollers before
    /// that one have it.
    pub fn broadcast(&self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.broadcast_with(message, M::clone)
    }

    /// The same for messages that are not `Clone`: `clone` makes the copies.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_with(&self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.group().broadcast(message, clone, None)
    }

    /// Connects to an address, on the poller that the balancer picks. `admit` gets the tag, then
    /// `open` or `refused` follows.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when every poller is full, [`Error::Gone`] when the engine has been shut down.
    pub fn connect(&self, to: Address, tag: u64) -> Result<(), Error> {
        self.shared().connect(to, tag).map_err(|why| match why {
            ConnectRefused::Full => Error::Full,
            ConnectRefused::Gone => Error::Gone,
        })
    }

    /// Closes a socket: what is queued is sent first. Its `close` event follows on its own thread.
    ///
    /// # Errors
    ///
    /// When its poller has no room for the order now, or has stopped.
    pub fn close(&self, token: Token) -> Result<(), Error> {
        self.send(token.poller(), Command::CloseSocket { token, abort: false })
    }

    /// Closes a socket at once.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn abort(&self, token: Token) -> Result<(), Error> {
        self.send(token.poller(), Command::CloseSocket { token, abort: true })
    }

    fn send(&self, poller: PollerId, command: UnixCommand) -> Result<(), Error> {
        let poller = self.shared().poller(poller).ok_or(Error::Gone)?;
        poller.send_command(command).map_err(|refused| match refused {
            PushError::Full(_) => Error::Full,
            PushError::Closed(_) => Error::Gone,
        })
    }

    /// Returns the address of an endpoint, to connect to.
    ///
    /// An engine remembers the 4,096 Unix paths that were used last, and those that it listens on. The address of a
    /// path that it has forgotten is no longer one: [`endpoint`](Self::endpoint) returns `None`, and a connect is
    /// refused. Ask for it anew.
    ///
    /// # Errors
    ///
    /// [`Error::UnixAddresses`] when the engine listens on all the Unix paths that it can remember.
    pub fn address(&self, endpoint: &Endpoint) -> Result<Address, Error> {
        self.shared().address(endpoint).ok_or(Error::UnixAddresses)
    }

    /// The endpoint behind an address: for a Unix socket, its path.
    #[must_use]
    pub fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        self.shared().endpoint(address)
    }

    /// What each poller has counted, at most a tenth of a second old.
    #[must_use]
    pub fn stats(&self) -> Vec<Stats> {
        self.shared().stats()
    }

    /// How many pollers have [failed](PollerReport::failed). The others go on; but if the one that
    /// accepts is among them, nobody is accepted any more, and a program had better shut down.
    #[must_use]
    pub fn failed(&self) -> usize {
        if locked(&self.shared().registry).stopping {
            return 0; // those that have ended are not told apart
        }
        self.group().pollers().iter().filter(|poller| poller.is_closed()).count()
    }

    /// How many sockets each poller has now, those on their way to it included.
    #[must_use]
    pub fn loads(&self) -> Vec<u32> {
        let load = |poller: &PollerHandle<M>| AsRef::<Load>::as_ref(poller).get();
        self.group().pollers().iter().map(load).collect()
    }

    /// Begins to shut the engine down: connections that wait are accepted and listeners close, every socket gets what
    /// has come for it and then `shutdown`, and what is still open after the grace time is aborted. Without a grace
    /// time nothing is accepted. A shorter grace time than one given before replaces it. [`Engine::join`] waits for
    /// the end.
    pub fn shutdown(&self, grace: Duration) {
        self.shared().stop(grace);
    }
}

/// A running engine. Dropping it shuts it down without grace.
#[must_use = "dropping an engine shuts it down"]
pub struct Engine<M = core::convert::Infallible> {
    handle: Handle<M>,
    threads: Mutex<Vec<Thread>>,
    listener_per_poller: bool,
    /// Whether the drivers can take a descriptor of this number.
    check_descriptor: fn(RawFd) -> Result<(), DriverError>,
}

impl<M> fmt::Debug for Engine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<M> Engine<M> {
    /// What any thread can ask of the engine.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Says when there may be fewer descriptors than the settings ask for: the soft limit was raised
    /// to the hard one, and that is too low. The engine runs all the same; out of descriptors it
    /// stops accepting until some come back.
    #[must_use]
    pub fn descriptor_shortage(&self) -> Option<&LimitError> {
        self.handle.inner.shortage.as_ref()
    }

    /// Listens on an address: a text such as `127.0.0.1:8080`, `localhost:0` or `unix:/run/app.sock`,
    /// a socket address, or an [`Endpoint`].
    ///
    /// # Errors
    ///
    /// An address that is none, in use or not permitted; the error says which and why. [`Error::Gone`]
    /// when the engine has been shut down.
    pub fn listen(&self, on: impl ToEndpoints) -> Result<Listener<M>, Error> {
        let endpoints = on.to_endpoints()?;
        let (id, generation) = self.take_slot()?;
        let mut failed = None;
        for endpoint in &endpoints {
            match self.listen_on(endpoint, id, generation) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(slot) = locked(&self.handle.shared().registry).listeners.get_mut(usize::from(id.0)) {
            slot.taken = false;
        }
        Err(failed.unwrap_or(Error::Gone))
    }

    /// Takes a slot for a listener. One whose listener failed or was closed is used again.
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

    fn listen_on(&self, endpoint: &Endpoint, id: ListenerId, generation: u64) -> Result<Listener<M>, Error> {
        let (shared_state, pollers) = (self.handle.shared(), self.handle.group().pollers());
        // a Unix socket can't be shared: the first poller accepts for all
        let shared = self.listener_per_poller && endpoint.as_inet().is_some();
        let options = ListenOptions { reuse_port: shared, ..self.handle.inner.listen };
        let count = if shared { pollers.len() } else { 1 };
        // its peers are called by it
        shared_state.address(endpoint).ok_or(Error::UnixAddresses)?;
        self.await_closed(endpoint);
        let open = Arc::new(OpenSockets::default());
        let mut sockets = Vec::with_capacity(count);
        let mut bound = endpoint.clone();
        for _ in 0..count {
            let socket = ListenSocket::bind(&bound, &options)?;
            (self.check_descriptor)(socket.as_fd().as_raw_fd())?;
            bound = socket.endpoint().clone();
            let address = shared_state.address(&bound).ok_or(Error::UnixAddresses)?;
            let pin = match &bound {
                Endpoint::Inet(_) => None,
                Endpoint::Unix(_) => shared_state.unix.pin(&bound),
            };
            sockets.push(Listening { socket, address, _pin: pin, _open: OpenSocket::new(&open) });
        }
        let mut registry = locked(&shared_state.registry);
        if registry.stopping {
            return Err(Error::Gone);
        }
        for (poller, listener) in pollers.iter().zip(sockets) {
            let Err(refused) = poller.send_command(Command::Listen { listener, id }) else { continue };
            // a poller that does not have it has nothing to do
            pollers.iter().for_each(|poller| drop(poller.send_command(Command::CloseListener { id })));
            return Err(match refused {
                PushError::Full(_) => Error::Full,
                PushError::Closed(_) => Error::Gone,
            });
        }
        if let Some(slot) = registry.listeners.get_mut(usize::from(id.0)) {
            slot.shared = shared;
        }
        Ok(Listener { handle: self.handle(), id, generation, endpoint: bound, open })
    }

    /// Waits for listeners that were closed and may be in the way: their pollers let go of them within a turn.
    fn await_closed(&self, endpoint: &Endpoint) {
        /// A turn takes as long as its callbacks; one that takes longer than this makes the call fail.
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
        for open in in_the_way {
            open.wait_closed(PATIENCE);
        }
    }

    /// Shuts down, and waits until it is done: at most a little longer than the grace time, unless a
    /// handler blocks.
    pub fn shutdown(self, grace: Duration) -> Report {
        self.handle.shutdown(grace);
        self.join()
    }

    /// Waits until the engine has been shut down by [`Handle::shutdown`]. On a poller's own thread, for
    /// the others only.
    pub fn join(self) -> Report {
        self.join_threads()
    }

    fn join_threads(&self) -> Report {
        let threads = core::mem::take(&mut *locked(&self.threads));
        let me = thread::current().id();
        let failed = PollerReport { failed: true, ..PollerReport::default() };
        let join = |it: Thread| {
            // one that would wait for itself has no account to give yet
            if it.thread().id() == me { PollerReport::default() } else { it.join().unwrap_or(failed) }
        };
        Report { pollers: threads.into_iter().map(join).collect() }
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

/// A listener of an engine. Dropping it leaves it open; it closes with the engine or by
/// [`close`](Self::close).
pub struct Listener<M = core::convert::Infallible> {
    handle: Handle<M>,
    id: ListenerId,
    generation: u64,
    endpoint: Endpoint,
    open: Arc<OpenSockets>,
}

impl<M> fmt::Debug for Listener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).field("endpoint", &self.endpoint).finish()
    }
}

impl<M> Listener<M> {
    /// Its number, as `admit` is told in [`Origin::Accepted`](lightcone_core::Origin).
    #[must_use]
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Where it listens: port 0 is the port that the system chose.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Stops listening, within a turn of its poller. Connections that were accepted go on. [`Engine::listen`] waits for
    /// that where it matters, so that the same address can be listened on again at once; others can
    /// [wait](Self::wait_closed) for it.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when it is closed already, [`Error::Full`] when a poller has no room for the
    /// order now.
    pub fn close(&self) -> Result<(), Error> {
        let mut registry = locked(&self.handle.shared().registry);
        let is_it = |slot: &&mut ListenerSlot| slot.taken && slot.generation == self.generation;
        let Some(slot) = registry.listeners.get_mut(usize::from(self.id.0)).filter(is_it) else {
            return Err(Error::Gone);
        };
        let count = if slot.shared { self.handle.pollers() } else { 1 };
        for poller in 0..count {
            self.handle.send(PollerId(poller as u8), Command::CloseListener { id: self.id })?;
        }
        slot.taken = false;
        registry.closing.retain(|(_, open)| !open.is_closed());
        registry.closing.push((self.endpoint.clone(), Arc::clone(&self.open)));
        Ok(())
    }

    /// Waits, for at most `timeout`, until it is closed, by [`close`](Self::close) or with its engine: then its address
    /// is free, and a connect is refused. Returns whether it is closed. On a poller's own thread, which has to do it,
    /// this would wait in vain.
    pub fn wait_closed(&self, timeout: Duration) -> bool {
        self.open.wait_closed(timeout)
    }
}

/// What can be listened on.
pub trait ToEndpoints {
    /// The endpoints it stands for, to be tried in order.
    ///
    /// # Errors
    ///
    /// A text that is no endpoint.
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
