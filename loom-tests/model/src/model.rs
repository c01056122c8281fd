//! A model: pollers, peers, other threads, and a handler.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use core::fmt;
use core::mem::MaybeUninit;
use core::net::SocketAddr;

use lightcone_core::balance::Policy;
use lightcone_core::{Config, Handler, Instant, ListenerId, PollerId, Shard, Stats, Storage, Timeouts};
use loom::thread::{self, JoinHandle};

use crate::balance::Balancer;
use crate::drive::{
    CONNECTS_A_TURN, Driver, Memory, Parts, ROOM_REQUESTS, SUBSCRIPTIONS, Slots, TIMERS, let_time_pass,
};
use crate::handle::{Handle, Hub};
use crate::peer::{Arrivals, ModelConnection, Peer};
use crate::poller::{Command, PollerHandle};
use crate::sync::{Load, MailboxSlot};
use crate::trace;
use crate::waker::{Steering, Waker};
use crate::world::World;

/// The maximum number of pollers and other threads of a model: loom allows five threads, and one waits for the others.
pub const THREADS_MAX: usize = 4;
/// The maximum number of peers of a model, including those that the engine connects to.
pub const PEERS_MAX: usize = 16;
/// The maximum number of sockets of one poller, and of messages in a mailbox.
pub const PLACES_MAX: usize = 64;

/// The stack size of a thread in words, the unit that loom uses.
const STACK: usize = 1 << 15;
/// The capacity of a poller's queue of commands.
const COMMANDS: usize = 8;
/// The maximum number of bytes of one receive.
const BUFFER: usize = 512;

type Thread<M> = Box<dyn FnOnce(Handle<M>) + Send>;

/// An engine on threads of loom, with scripted peers in place of a network. Create and run it within
/// [`check`](crate::check).
///
/// ```
/// # use lightcone_core::{Address, Context, Handler, Origin, Socket};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type Data = ();
/// #     type Message = core::convert::Infallible;
/// #     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
/// #         Some(())
/// #     }
/// #     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
/// #         let (mut input, mut output) = socket.stream.split();
/// #         let taken = output.send_some(input.bytes());
/// #         input.consume(taken);
/// #     }
/// # }
/// use lightcone_model::{Model, Peer, check};
///
/// check("echo", &[], |_| {
///     let peer = Peer::new().says("hello").hears("hello");
///     let outcome = Model::new(2).peer(peer.clone()).peer(peer).run(|_poller| Echo);
///     assert_eq!(outcome.heard(1), b"hello");
/// });
/// ```
#[must_use = "a model does nothing until it is run"]
pub struct Model<M> {
    pollers: usize,
    sockets: usize,
    mailbox: usize,
    policy: Policy,
    spurious: bool,
    peers: Vec<Peer>,
    remotes: Vec<(SocketAddr, Peer)>,
    threads: Vec<Thread<M>>,
}

impl<M> fmt::Debug for Model<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("pollers", &self.pollers)
            .field("peers", &self.peers.len())
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// The argument of the handler factory for each poller, with the methods of the real engine's context.
#[derive(Debug)]
pub struct PollerContext<M> {
    id: PollerId,
    handle: Handle<M>,
}

impl<M> PollerContext<M> {
    /// Returns the poller of the handler.
    #[must_use]
    pub fn id(&self) -> PollerId {
        self.id
    }

    /// Returns a handle to the engine.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }
}

/// The result of one execution.
#[derive(Clone, Debug)]
pub struct Outcome {
    heard: Vec<Vec<u8>>,
    stats: Vec<Stats>,
}

impl Outcome {
    /// Returns what a peer has heard. Peers are counted in the order in which they were added, then the remotes.
    ///
    /// # Panics
    ///
    /// If there is no such peer.
    #[must_use]
    pub fn heard(&self, peer: usize) -> &[u8] {
        &self.heard[peer]
    }

    /// Returns the counts of each poller.
    #[must_use]
    pub fn stats(&self) -> &[Stats] {
        &self.stats
    }
}

impl<M: Send + 'static> Model<M> {
    /// Creates an engine with this number of pollers. Each peer, thread and message multiplies the schedules: two of
    /// each find most races.
    ///
    /// # Panics
    ///
    /// If `pollers` is 0 or more than [`THREADS_MAX`].
    pub fn new(pollers: usize) -> Self {
        assert!((1..=THREADS_MAX).contains(&pollers), "{pollers} pollers; allowed: 1 to {THREADS_MAX}");
        Self {
            pollers,
            sockets: 4,
            mailbox: 8,
            policy: Policy::RoundRobin,
            spurious: false,
            peers: Vec::new(),
            remotes: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Adds a peer that connects. The first poller accepts all peers, and the balancer distributes them. With round
    /// robin, the first peer stays on the first poller, the second goes to the second poller, and so on.
    ///
    /// # Panics
    ///
    /// With more than [`PEERS_MAX`] peers.
    pub fn peer(mut self, peer: Peer) -> Self {
        self.peers.push(peer);
        self.check_peers()
    }

    /// Adds a peer that accepts one connect to this address. Connects to other addresses are refused.
    ///
    /// # Panics
    ///
    /// With more than [`PEERS_MAX`] peers.
    pub fn remote(mut self, at: SocketAddr, peer: Peer) -> Self {
        self.remotes.push((at, peer));
        self.check_peers()
    }

    fn check_peers(self) -> Self {
        let peers = self.peers.len() + self.remotes.len();
        assert!(peers <= PEERS_MAX, "{peers} peers; allowed: at most {PEERS_MAX}");
        self
    }

    /// Adds a thread that runs alongside the pollers.
    ///
    /// # Panics
    ///
    /// With more than [`THREADS_MAX`] threads, including the pollers.
    pub fn thread(mut self, runs: impl FnOnce(Handle<M>) + Send + 'static) -> Self {
        self.threads.push(Box::new(runs));
        let threads = self.pollers + self.threads.len();
        assert!(threads <= THREADS_MAX, "{threads} pollers and threads; allowed: at most {THREADS_MAX}");
        self
    }

    /// Sets the maximum number of sockets of one poller; the default is 4.
    ///
    /// # Panics
    ///
    /// Unless it is from 1 to [`PLACES_MAX`].
    pub fn sockets(mut self, sockets: usize) -> Self {
        assert!((1..=PLACES_MAX).contains(&sockets), "{sockets} sockets; allowed: 1 to {PLACES_MAX}");
        self.sockets = sockets;
        self
    }

    /// Sets the capacity of each poller's mailbox; the default is 8 messages.
    ///
    /// # Panics
    ///
    /// Unless it is a power of two from 2 to [`PLACES_MAX`].
    pub fn mailbox(mut self, messages: usize) -> Self {
        assert!(
            messages.is_power_of_two() && (2..=PLACES_MAX).contains(&messages),
            "a mailbox of {messages} messages; allowed: a power of two from 2 to {PLACES_MAX}"
        );
        self.mailbox = messages;
        self
    }

    /// Sets how sockets are distributed over the pollers; the default is round robin.
    ///
    /// # Panics
    ///
    /// If the policy does not fit the number of pollers.
    pub fn balancer(mut self, policy: Policy) -> Self {
        let _ = balancer(policy, self.pollers);
        self.policy = policy;
        self
    }

    /// Makes pollers wake up spuriously as well. This adds many schedules. It is meant for the engine's own models:
    /// handlers do not notice such wake-ups.
    pub fn spurious_wake_ups(mut self) -> Self {
        self.spurious = true;
        self
    }

    /// Runs one execution, from the first accept to the shutdown, which begins when all scripts and threads have
    /// finished. `make` is called once for each poller, on its thread.
    ///
    /// In addition to the assertions of the handler, the scripts and the caller, every execution checks that no two
    /// callbacks of a socket overlap or are unordered, that the events come as
    /// [`ContractChecker`](lightcone_core::ContractChecker) requires, that every socket has its last event, that the
    /// pollers' loads end at zero, and that no poller sleeps forever.
    ///
    /// # Panics
    ///
    /// If one of these checks fails. [`check`](crate::check) then reports what led to it.
    pub fn run<H>(self, make: impl Fn(PollerContext<M>) -> H + Send + Sync + 'static) -> Outcome
    where
        H: Handler<Message = M> + 'static,
    {
        trace::begin();
        let (engine, peers, threads) = self.build();
        let come = peers.into_iter().enumerate();
        let come =
            come.map(|(index, peer)| ModelConnection::new(index, peer, Arc::clone(&engine.world))).collect();
        // sent before the pollers start, so that this push adds no schedules
        let listen = Command::Listen { listener: Arrivals::new(come), id: ListenerId(0) };
        assert!(engine.hub.pollers[0].send_command(listen).is_ok(), "a new mailbox has room");

        let make = Arc::new(make);
        let mut running = Vec::new();
        for index in 0..engine.hub.pollers.len() {
            let make = Arc::clone(&make);
            let runs = move |engine: &Engine<M>| engine.poller(PollerId(index as u8), &*make);
            running.push(engine.spawn(runs));
        }
        for (index, runs) in threads.into_iter().enumerate() {
            running.push(engine.spawn(move |engine| {
                runs(engine.handle(Some(index)));
                engine.thread_is_through();
            }));
        }
        drop(make);
        for thread in running {
            thread.join().expect("threads catch their panics");
        }
        engine.outcome()
    }

    fn build(self) -> (Arc<Engine<M>>, Vec<Peer>, Vec<Thread<M>>) {
        let Self { pollers, sockets, mailbox, policy, spurious, peers, remotes, threads } = self;
        let remotes = remotes.into_iter().zip(peers.len()..);
        let remotes = remotes.map(|((at, peer), index)| (at, index, Some(peer))).collect();
        let world = Arc::new(World::new(pollers, threads.len(), peers.len(), remotes));
        let waker = |_| if spurious { Waker::spurious() } else { Waker::exact() };
        let wakers: Arc<[Waker]> = (0..pollers).map(waker).collect();
        let handle = |index: usize| {
            let (wakers, world) = (Arc::clone(&wakers), Arc::clone(&world));
            let wake: Box<dyn Fn() + Send + Sync> = Box::new(move || {
                // recorded before the wake-up: a poller that is about to wake must not count as asleep, or the clock
                // could advance
                world.wakes(index);
                wakers[index].wake();
            });
            let handle = PollerHandle::new(ring(COMMANDS), ring(mailbox), Arc::new(Load::new()), wake);
            handle.expect("powers of two")
        };
        let hub = Hub::new((0..pollers).map(handle).collect(), sockets as u32, balancer(policy, pollers));
        let steering = (0..pollers).map(|_| Steering::new()).collect();
        let engine = Engine { hub: Arc::new(hub), world, wakers, steering, sockets, policy };
        (Arc::new(engine), peers, threads)
    }
}

/// The state that the threads of a model share.
struct Engine<M> {
    hub: Arc<Hub<M>>,
    world: Arc<World>,
    wakers: Arc<[Waker]>,
    steering: Arc<[Steering]>,
    sockets: usize,
    policy: Policy,
}

impl<M: Send + 'static> Engine<M> {
    /// Runs the thread of one poller.
    fn poller<H: Handler<Message = M>>(&self, id: PollerId, make: &impl Fn(PollerContext<M>) -> H) {
        let wakers = &*self.wakers;
        wakers[usize::from(id.0)].is_for_me();
        let handler = make(PollerContext { id, handle: self.handle(None) });
        // the slots reserved for handlers' connects are in addition to the others
        let sockets = self.sockets + CONNECTS_A_TURN;
        let config = Config {
            poller: id,
            sockets,
            block_size: BUFFER,
            input_blocks: sockets,
            output_blocks: 2 * sockets,
            output_limit: 2,
            receive_blocks: 0,
            timers: TIMERS,
            room_requests: ROOM_REQUESTS,
            subscriptions: SUBSCRIPTIONS,
            timeouts: Timeouts::NONE,
            ..Config::DEVICE
        };
        let mut slots: Box<Slots<H::Data>> = (0..sockets).map(|_| MaybeUninit::uninit()).collect();
        let mut memory = vec![0; config.memory()];
        let storage = Storage { slots: &mut slots, memory: &mut memory };
        let now = Instant::from_millis(0);
        let shard = Shard::new(storage, &config, now).expect("a valid configuration");
        let balancer = balancer(self.policy, self.hub.pollers.len());
        let memory = &mut Memory::new(sockets, BUFFER);
        let (group, steering, world) = (self.hub.group(), &*self.steering, Arc::clone(&self.world));
        Driver::new(Parts { id, group, shard, memory, handler, balancer, wakers, steering, world }).run();
    }

    /// Spawns a thread. A panic there fails the model, and makes the other threads stop.
    fn spawn(self: &Arc<Self>, runs: impl FnOnce(&Self) + Send + 'static) -> JoinHandle<()> {
        let engine = Arc::clone(self);
        // loom cannot take down a thread that still holds one of its objects, so a panic is caught, and all threads
        // finish
        let guarded = move || {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| runs(&engine))) else { return };
            let text = match panic.downcast::<String>() {
                Ok(text) => *text,
                Err(panic) => match panic.downcast::<&'static str>() {
                    Ok(text) => (*text).to_owned(),
                    // loom's own panic, which takes the thread down
                    Err(panic) => resume_unwind(panic),
                },
            };
            engine.fail(text);
        };
        thread::Builder::new().stack_size(STACK).spawn(guarded).expect("at most five threads")
    }

    fn handle(&self, thread: Option<usize>) -> Handle<M> {
        Handle::new(Arc::clone(&self.hub), Arc::clone(&self.steering), thread)
    }

    fn thread_is_through(&self) {
        if self.world.thread_is_through() {
            self.handle(None).shutdown();
            self.world.thread_ends();
        }
        let_time_pass(&self.world, &self.wakers);
    }

    fn fail(&self, why: String) {
        self.world.fail(why);
        for (index, waker) in self.wakers.iter().enumerate() {
            self.world.wakes(index);
            waker.wake();
        }
    }

    fn outcome(&self) -> Outcome {
        if let Some(failure) = self.world.failure() {
            panic!("{failure}");
        }
        let loads = self.hub.loads();
        assert!(loads.iter().all(|load| *load == 0), "the loads end at {loads:?}, not at zero");
        Outcome { heard: self.world.heard(), stats: self.world.stats() }
    }
}

/// Creates the storage of a mailbox.
fn ring<T>(places: usize) -> Box<[MailboxSlot<T>]> {
    (0..places).map(|_| MailboxSlot::new()).collect()
}

/// Creates a balancer of the type compiled for the model from a policy of core.
fn balancer(policy: Policy, pollers: usize) -> Balancer {
    let policy = policy.to_string().parse().expect("a policy can be parsed from its own text");
    Balancer::new(policy, pollers).expect("a policy that fits the pollers")
}
