//! The simulation as scenarios use it.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::mem::MaybeUninit;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{
    Command, ConnectionEntry, Group, ListenerEntry, Member, PollerStorage, RoomRequest, Subscription,
    TopicStorage,
};
use lightcone_core::sync::{self, Load};
use lightcone_core::{
    Config, ContractChecker, Handler, Instant, ListenerId, PollerId, Shard, Slot, Stats, Storage, Timeouts,
    TimerSlot, TimerStorage, TimerWheel, Token, footprint,
};

use crate::agenda::Scheduled;
use crate::end::Owner;
use crate::fault::Fault;
use crate::member::Noted;
use crate::mutant::{Mutant, Unmutated};
use crate::peer::{Outcome, Peer, Script};
use crate::poller::{CONNECTS_A_TURN, Data, Handle, Host, Loop, Poller};
use crate::probe::{Probe, Shared, Wire};
use crate::tape::Track;
use crate::trace::Did;
use crate::transport::{Descriptor, Network, SharedWorld, SimConnection, listener_key};
use crate::within::called_back;
use crate::world::Side;

/// The maximum number of pollers in one simulation.
pub const POLLERS_MAX: usize = 256;

/// The minimum and maximum capacity of the mailbox for commands.
const COMMANDS: (usize, usize) = (16, 1_024);
/// The maximum number of listeners of a poller: one for each listener number.
pub(crate) const LISTENERS: usize = 256;

/// The number of timers of a poller by default. All that are due fit into one turn.
const TIMERS: usize = 256;
/// The number of requests for room of a poller by default.
const ROOM_REQUESTS: usize = 256;
/// The number of subscriptions of a poller by default: four for each socket of the largest one.
const SUBSCRIPTIONS: usize = 1_024;

/// The memory of one poller, and the handles of the engine if this is its first poller.
#[derive(Default)]
pub(crate) struct Place {
    handles: Option<Box<dyn Any>>,
    memory: Memory,
}

#[derive(Default)]
struct Memory {
    slots: Option<Box<dyn Any>>,
    shard: Vec<u8>,
    connections: Box<[MaybeUninit<ConnectionEntry<SimConnection>>]>,
    listeners: Box<[Option<ListenerEntry<Descriptor>>]>,
    buffer: Vec<u8>,
    timer_wheel: TimerWheel,
    timers: Box<[MaybeUninit<TimerSlot>]>,
    rooms: Box<[MaybeUninit<RoomRequest>]>,
    subscriptions: Box<[MaybeUninit<Subscription>]>,
    subscribers: Box<[MaybeUninit<u32>]>,
}

impl Memory {
    fn lend<D: 'static, T: Mutant>(
        &mut self,
        config: &Config,
        buffer: usize,
    ) -> (Storage<'_, D>, PollerStorage<'_, Network<T>>) {
        self.shard = vec![0; config.memory()];
        self.connections = Box::new_uninit_slice(config.sockets);
        self.listeners = (0..LISTENERS).map(|_| None).collect();
        self.buffer = vec![0; buffer];
        self.timers = Box::new_uninit_slice(config.timers);
        self.rooms = Box::new_uninit_slice(config.room_requests);
        self.subscriptions = Box::new_uninit_slice(config.subscriptions);
        self.subscribers = Box::new_uninit_slice(config.sockets);
        let slots = self.slots.insert(Box::new(Box::<[Slot<D>]>::new_uninit_slice(config.sockets)));
        let slots = slots.downcast_mut::<Box<[MaybeUninit<Slot<D>>]>>();
        let shard = Storage { slots: slots.map(Box::as_mut).unwrap_or_default(), memory: &mut self.shard };
        let poller = PollerStorage {
            connections: &mut self.connections,
            listeners: &mut self.listeners,
            buffer: &mut self.buffer,
            timers: TimerStorage::new(&mut self.timer_wheel, &mut self.timers),
            rooms: &mut self.rooms,
            topics: TopicStorage::new(&mut self.subscriptions, &mut self.subscribers),
        };
        (shard, poller)
    }
}

/// Allocates the slots of a mailbox.
fn ring<T>(capacity: usize) -> Box<[sync::MailboxSlot<T>]> {
    (0..capacity).map(|_| sync::MailboxSlot::new()).collect()
}

/// The configuration of a simulated engine.
///
/// [`Sim::drawn_engine`] draws one from the seed, including tiny blocks and mailboxes; [`Engine::default`] has
/// ample room.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Engine {
    /// The number of pollers: 1 to 256, and at most [`POLLERS_MAX`] in all engines of a simulation.
    pub pollers: usize,
    /// Whether receives and sends complete later, as on a ring; otherwise the driver waits for readiness.
    pub completes: bool,
    /// The configuration of each shard. Its `poller` is overwritten.
    pub config: Config,
    /// The capacity of each poller's mailbox for messages: a power of two. The mailbox for commands has the
    /// same capacity, but at least 16 and at most 1,024.
    pub mailbox: usize,
    /// How accepted sockets are distributed.
    pub policy: Policy,
    /// The backlog of each listener.
    pub backlog: usize,
}

impl Default for Engine {
    fn default() -> Self {
        let config = Config {
            sockets: 256,
            block_size: 1_024,
            input_blocks: 256,
            output_blocks: 1_024,
            output_limit: 8,
            receive_size: 16_384,
            receive_blocks: 64,
            timers: TIMERS,
            room_requests: ROOM_REQUESTS,
            subscriptions: SUBSCRIPTIONS,
            ..Config::DEVICE
        };
        Self { pollers: 1, completes: false, config, mailbox: 1_024, policy: Policy::RoundRobin, backlog: 64 }
    }
}

/// Writes the settings in one line, by the names of the fields, as a [`Failure`](crate::Failure) shows them.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pollers, completes, config, mailbox, policy, backlog } = self;
        let Config { sockets, block_size, input_blocks, output_blocks, output_limit, .. } = config;
        let Config { receive_size, receive_blocks, .. } = config;
        write!(f, "pollers {pollers}, completes {completes}, sockets {sockets}, block_size {block_size}, ")?;
        write!(
            f,
            "input_blocks {input_blocks}, output_blocks {output_blocks}, output_limit {output_limit}, "
        )?;
        write!(f, "receive_size {receive_size}, receive_blocks {receive_blocks}, ")?;
        write!(f, "mailbox {mailbox}, policy {policy:?}, backlog {backlog}")?;
        config.evict_after.map_or(Ok(()), |span| write!(f, ", evict_after {span:?}"))
    }
}

/// An engine of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EngineId(usize);

/// A scripted peer of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(usize);

/// Limits of a run. A run that exceeds them fails with `liveness`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// The number of simulated events. Faults end after a quarter of them.
    pub events: u64,
    /// Simulated time after the end of the faults.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 2_000_000, time: Duration::from_mins(30) }
    }
}

type Goal = (String, Box<dyn Fn() -> bool>);

/// One run of a simulated world: engines, peers, a network and a clock, all in one thread and all decided by
/// one seed.
///
/// A scenario sets up engines and peers and calls [`finish`](Self::finish).
pub struct Sim<'s> {
    pub(crate) world: SharedWorld,
    hosts: Vec<Box<dyn Host + 's>>,
    /// For each engine: its hosts, its number of listeners, and its backlog.
    engines: Vec<(core::ops::Range<usize>, u8, usize)>,
    places: core::slice::IterMut<'s, Place>,
    goals: Vec<Goal>,
    /// The settings of each engine.
    pub(crate) settings: Vec<Engine>,
    footprint: usize,
    pub(crate) limits: Limits,
    calm: bool,
}

impl fmt::Debug for Sim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now())
            .field("engines", &self.engines)
            .field("peers", &self.world.borrow().peers.len())
            .finish_non_exhaustive()
    }
}

impl<'s> Sim<'s> {
    pub(crate) fn new(
        world: SharedWorld,
        places: core::slice::IterMut<'s, Place>,
        limits: Limits,
        calm: bool,
    ) -> Self {
        Self {
            world,
            hosts: Vec::new(),
            engines: Vec::new(),
            places,
            goals: Vec::new(),
            settings: Vec::new(),
            footprint: 0,
            limits,
            calm,
        }
    }

    /// Draws a number less than `below` from the seed, for what a scenario varies; 0 is the simplest choice.
    ///
    /// # Panics
    ///
    /// Panics if `below` is 0.
    pub fn draw(&mut self, below: u32) -> u32 {
        assert!(below > 0, "draw(0); allowed: 1 or more");
        self.world.borrow_mut().decider.draw(Track::Script, below)
    }

    /// Returns the time on the simulated clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_millis(self.world.borrow().now / 1_000)
    }

    /// Sets the probability of a fault in this run, in 65,536ths. Has no effect once the faults are over.
    pub fn set_fault(&mut self, fault: Fault, of_65536: u32) {
        if !self.is_healed() {
            self.world.borrow_mut().faults.set(fault, of_65536);
        }
    }

    /// Sets the size in bytes of the send buffer that sockets of engines have in addition to the peer's window, if they
    /// are created from now on. It replaces the size that the seed has drawn, which is 0 in half of all runs. Such a
    /// socket is writable when a third of the buffer is free, and buffered bytes are still delivered after a clean
    /// close.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        self.world.borrow_mut().wires.send_buffer = bytes;
    }

    /// Draws an engine from the seed: one to four pollers, readiness or completions, few or many sockets,
    /// blocks and mailbox slots.
    ///
    /// The smallest one has blocks of 64 bytes, and a socket can leave only one block of input unconsumed and
    /// queue only one block of output. A protocol with larger messages must refuse them there. To test it
    /// without that, raise the sizes:
    ///
    /// ```
    /// use lightcone_core::Config;
    /// use lightcone_sim::{Engine, check};
    ///
    /// check(0..20, |sim| {
    ///     let drawn = sim.drawn_engine();
    ///     let Config { block_size, receive_size, .. } = drawn.config;
    ///     let (block_size, receive_size) = (block_size.max(256), receive_size.max(256));
    ///     let engine = Engine { config: Config { block_size, receive_size, ..drawn.config }, ..drawn };
    ///     assert!(engine.config.check().is_ok());
    /// });
    /// ```
    pub fn drawn_engine(&mut self) -> Engine {
        if self.calm {
            return Engine::default();
        }
        let draw =
            |of: &[usize]| of[self.world.borrow_mut().decider.draw(Track::Setup, of.len() as u32) as usize];
        let block_size = draw(&[1_024, 4_096, 256, 64]);
        let config = Config {
            generation_seed: draw(&[0, 1, 0xFFFF_FFFE]) as u32,
            sockets: draw(&[256, 64, 40]),
            block_size,
            input_blocks: draw(&[256, 16, 4, 1]),
            output_blocks: draw(&[1_024, 64, 16, 4]),
            output_limit: draw(&[8, 3, 2, 1]),
            receive_size: block_size * draw(&[16, 4, 1]),
            receive_blocks: draw(&[64, 4, 1, 0]),
            timers: TIMERS,
            room_requests: ROOM_REQUESTS,
            subscriptions: SUBSCRIPTIONS,
            timeouts: Timeouts::DEFAULT,
            ..Config::DEVICE
        };
        Engine {
            pollers: draw(&[1, 2, 3, 4]),
            completes: draw(&[0, 1]) == 1,
            config,
            mailbox: draw(&[1_024, 64, 4, 1]),
            policy: [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastOfTwo, Policy::Hash]
                [draw(&[0, 1, 2, 3])],
            backlog: draw(&[64, 4, 1]),
        }
    }

    /// Starts an engine. `make` creates the handler of each poller.
    ///
    /// # Panics
    ///
    /// Panics if a setting is invalid. The message names the setting and its allowed range.
    pub fn engine<H: Handler<Data: 'static, Message: 'static> + 'static>(
        &mut self,
        engine: Engine,
        make: impl FnMut(PollerId) -> H,
    ) -> EngineId {
        self.broken_engine(engine, make, |_| Unmutated)
    }

    /// Starts an engine on a driver that is broken as the [`Mutant`] specifies.
    ///
    /// # Panics
    ///
    /// As [`engine`](Self::engine).
    pub fn broken_engine<H: Handler<Data: 'static, Message: 'static> + 'static, T: Mutant + 'static>(
        &mut self,
        engine: Engine,
        mut make: impl FnMut(PollerId) -> H,
        mut mutant: impl FnMut(PollerId) -> T,
    ) -> EngineId {
        self.settings.push(engine);
        let Engine { pollers, completes, mut config, mailbox, policy, backlog } = engine;
        let sockets = config.sockets as u32;
        config.sockets += CONNECTS_A_TURN; // those reserved for connects
        let balancer = || match Balancer::new(policy, pollers) {
            Ok(balancer) => balancer,
            Err(error) => panic!("{error}"),
        };
        let (balancers, first) = ((0..pollers).map(|_| balancer()), self.hosts.len());
        let places = self.places.by_ref().take(pollers);
        let (handles, memories): (Vec<_>, Vec<_>) =
            places.map(|place| (&mut place.handles, &mut place.memory)).unzip();
        assert!(memories.len() == pollers, "more than {POLLERS_MAX} pollers in one simulation");
        let loads: Vec<Rc<Load>> = (0..pollers).map(|_| Rc::default()).collect();
        let all: Box<[Handle<H>]> = loads
            .iter()
            .zip(first..)
            .map(|(load, side)| self.handle::<H>(side, mailbox, Rc::clone(load)))
            .collect();
        let all = handles.into_iter().next().map(|place| &*place.insert(Box::new(all)));
        let all = all.and_then(|all| all.downcast_ref::<Box<[Handle<H>]>>()).map(Box::as_ref);
        let group = Group::new(all.unwrap_or_default(), sockets);
        for ((n, memory), balancer) in memories.into_iter().enumerate().zip(balancers) {
            let id = PollerId(n as u8);
            let config = Config { poller: id, ..config };
            let capacity = if config.receive_blocks > 0 { config.receive_size } else { config.block_size };
            let (storage, rest) = memory.lend::<Data<H>, T>(&config, if completes { 0 } else { capacity });
            let cost = footprint::<Data<H>>(&config);
            let lent = (size_of_val(storage.slots), storage.memory.len());
            assert!(lent == (cost.slots, cost.memory), "memory: {lent:?} is lent, {cost} is stated");
            self.footprint += cost.total();
            let shard = match Shard::new(storage, &config, self.now()) {
                Ok(shard) => shard,
                Err(error) => panic!("{error}"),
            };
            let shared = self.shared(&config, loads.clone(), sockets);
            let network = Network {
                world: Rc::clone(&self.world),
                side: (first + n) as u32,
                completes,
                capacity,
                shared: Rc::clone(&shared),
                mutant: mutant(id),
                places: Vec::new(),
                offers: VecDeque::new(),
                busy: Vec::new(),
                stops: false,
                grace_end: u64::MAX,
            };
            let checker = ContractChecker::with_witness(make(id), Wire(Rc::clone(&shared)));
            let handler = Probe { inner: checker, shared: Rc::clone(&shared) };
            let Some(member) = Member::new(group, id, Some(balancer.clone())) else {
                panic!("a poller's mailboxes have one receiver");
            };
            let member = Noted { inner: member, me: id, shared };
            let core = match Loop::<H, T>::new(shard, handler, network, member, rest) {
                Ok(core) => core,
                Err(error) => panic!("{error}"),
            };
            self.hosts.push(Box::new(Poller::new(core, group, balancer)));
            let world = &mut *self.world.borrow_mut();
            world.sides.push(Side { completes, asked: world.now + 1, ..Side::default() });
            // A new poller is awake, and takes its first turn without a wake-up.
            world.add(world.now + 1, Scheduled::Turn { poller: (first + n) as u32, since: 0 });
        }
        self.engines.push((first..self.hosts.len(), 0, backlog));
        EngineId(self.engines.len() - 1)
    }

    /// Creates the handle through which other pollers reach a poller.
    fn handle<H: Handler>(&self, side: usize, mailbox: usize, load: Rc<Load>) -> Handle<H> {
        let world = Rc::clone(&self.world);
        let wake = move || called_back(|| world.borrow_mut().wake_poller(side as u32));
        let commands = ring(mailbox.clamp(COMMANDS.0, COMMANDS.1));
        let handle = Handle::<H>::new(commands, ring(mailbox), load, Box::new(wake));
        handle.unwrap_or_else(|| panic!("a mailbox of {mailbox}: allowed: a power of two"))
    }

    fn shared(&self, config: &Config, loads: Vec<Rc<Load>>, load_max: u32) -> Rc<Shared> {
        let large = if config.receive_blocks > 0 { config.receive_size } else { config.block_size };
        Rc::new(Shared {
            trace: Rc::clone(&self.world.borrow().trace),
            turn: Cell::new(0),
            before: Cell::new(0),
            second_before: Cell::new(0),
            late: Cell::new(0),
            late_before: Cell::new(0),
            late_most: Cell::new(0),
            ended: RefCell::default(),
            left_out: RefCell::default(),
            delivered: Cell::new(0),
            tally: Cell::default(),
            views: RefCell::default(),
            stops: Cell::new(false),
            announced: Cell::new(None),
            stopping: Cell::new(false),
            lost: Cell::new(None),
            outside: RefCell::default(),
            loads,
            load_max,
            output_max: config.output_limit.min(config.output_blocks) * config.block_size,
            input_max: large,
            timeouts: config.timeouts,
            evict_after: config.evict_after.map(|span| span.as_micros() as u64),
            ample: config.input_blocks >= config.sockets,
            waiting: RefCell::default(),
            overtaken_max: config.sockets + config.output_blocks,
        })
    }

    /// Makes an engine listen at an address. Its first poller accepts.
    ///
    /// # Panics
    ///
    /// Panics if another listener has the address, or the mailbox for commands is full.
    pub fn listen(&mut self, engine: EngineId, address: SocketAddr) -> ListenerId {
        let (hosts, count, backlog) = &mut self.engines[engine.0];
        let backlog = *backlog;
        let (first, id) = (hosts.start, ListenerId(*count));
        *count += 1;
        let owner = Owner::Poller(first as u32);
        let end = self.world.borrow_mut().listen(address, owner, listener_key(id), backlog);
        let sent = self.hosts[first].send(Command::Listen { listener: Descriptor(end), id });
        assert!(sent, "the mailbox for commands has no room for a listener");
        id
    }

    /// Closes a listener of an engine. Connections in its backlog are reset. Returns `false` if the mailbox
    /// is full.
    pub fn unlisten(&mut self, engine: EngineId, id: ListenerId) -> bool {
        let first = self.engines[engine.0].0.start;
        self.hosts[first].send(Command::CloseListener { id })
    }

    /// Closes a socket of an engine from outside, cleanly or by an abort. Returns `false` if there is no such
    /// poller, or its mailbox is full.
    pub fn close(&mut self, engine: EngineId, token: Token, abort: bool) -> bool {
        let host = self.engines[engine.0].0.clone().nth(usize::from(token.poller().0));
        host.is_some_and(|host| self.hosts[host].close(token, abort))
    }

    /// Makes an engine connect, on the poller that its balancer picks or on the next best one with room. Returns
    /// `false` if no poller can take the connect.
    pub fn connect(&mut self, engine: EngineId, to: SocketAddr, tag: u64) -> bool {
        let first = self.engines[engine.0].0.start;
        self.hosts[first].connect(to, tag)
    }

    /// Adds a scripted peer.
    pub fn peer(&mut self, script: Script) -> PeerId {
        let world = &mut *self.world.borrow_mut();
        let number = world.peers.len();
        let peer = Peer::new(script);
        let at = world.now + peer.begins_after();
        world.peers.push(peer);
        world.running += 1;
        world.wake_peer(number as u32, at);
        PeerId(number)
    }

    /// Returns how the script of a peer has ended.
    #[must_use]
    pub fn outcome(&self, peer: PeerId) -> Outcome {
        self.world.borrow().peers[peer.0].outcome
    }

    /// Returns how many bytes a peer has received since it last connected.
    #[must_use]
    pub fn received(&self, peer: PeerId) -> u64 {
        self.world.borrow().peers[peer.0].received
    }

    /// Adds a goal: [`finish`](Self::finish) waits until `is_so` returns `true`. If it never does, the
    /// failure names `what`.
    pub fn must(&mut self, what: &str, is_so: impl Fn() -> bool + 'static) {
        self.goals.push((what.into(), Box::new(is_so)));
    }

    /// Stops an engine after `span`, with this grace time.
    pub fn stop_after(&mut self, engine: EngineId, span: Duration, grace: Duration) {
        let world = &mut *self.world.borrow_mut();
        let at = world.now + span.as_micros() as u64;
        let grace_ms = grace.as_millis() as u32;
        world.add(at, Scheduled::Stop { engine: engine.0 as u32, grace_ms });
    }

    /// Returns the counts of an engine's pollers.
    #[must_use]
    pub fn stats(&self, engine: EngineId) -> Vec<Stats> {
        self.hosts[self.engines[engine.0].0.clone()].iter().map(|host| host.stats()).collect()
    }

    /// Returns how many slots are in use on an engine's pollers.
    #[must_use]
    pub fn in_use(&self, engine: EngineId) -> usize {
        self.hosts[self.engines[engine.0].0.clone()].iter().map(|host| host.in_use()).sum()
    }

    /// Returns whether an engine has stopped.
    #[must_use]
    pub fn has_stopped(&self, engine: EngineId) -> bool {
        self.world.borrow().sides[self.engines[engine.0].0.clone()].iter().all(|side| side.over)
    }

    /// Returns the memory of all shards in bytes, according to [`lightcone_core::footprint`] of their
    /// configurations. The slots include the user data and what the checks keep with it.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.footprint
    }

    /// Returns the number of simulated events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.world.borrow().trace.count()
    }

    /// Returns the number of events that were delivered to handlers.
    pub(crate) fn delivered(&self) -> u64 {
        self.hosts.iter().map(|host| host.delivered()).sum()
    }

    /// Performs the next event of the agenda. Returns `false` if there is none.
    fn step(&mut self) -> bool {
        let mut world = self.world.borrow_mut();
        let Some((at, due)) = world.agenda.next() else { return false };
        // An arrival that was moved to just before a deadline may lie in the past.
        world.now = at.max(world.now);
        world.trace.set_now(world.now);
        let turn = match due {
            Scheduled::Turn { poller, since } => {
                let side = &world.sides[poller as usize];
                (side.turns == since && !side.over).then_some(poller)
            }
            Scheduled::Timer { poller } => world.timer(poller).then_some(poller),
            Scheduled::Arrive { end, uid, what } => {
                world.arrive(end, uid, what);
                None
            }
            Scheduled::Peer { peer, since } => {
                if world.peers[peer as usize].steps == since {
                    world.step_peer(peer);
                }
                None
            }
            Scheduled::Stop { engine, grace_ms } => {
                drop(world);
                self.stop(engine as usize, grace_ms);
                return true;
            }
        };
        drop(world);
        if let Some(poller) = turn {
            self.hosts[poller as usize].turn();
        }
        true
    }

    fn stop(&mut self, engine: usize, grace_ms: u32) {
        self.world.borrow().trace.note(Did::Stop, engine as u64, grace_ms.into());
        for host in self.engines[engine].0.clone() {
            self.hosts[host].stop(Duration::from_millis(grace_ms.into()));
        }
    }

    /// Runs until `is_so` returns `true`, for at most `span`. Returns whether `is_so` has returned `true`.
    ///
    /// # Panics
    ///
    /// Panics if a check fails or the run exceeds its limit of events.
    pub fn run_until(&mut self, span: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let end = self.world.borrow().now + span.as_micros() as u64;
        loop {
            if is_so(self) {
                return true;
            }
            {
                let world = &mut *self.world.borrow_mut();
                if world.agenda.when().is_none_or(|at| at > end) {
                    world.now = end;
                    world.trace.set_now(end);
                    return false;
                }
            }
            self.check_limit();
            self.step();
        }
    }

    /// Runs until `is_so` returns `true`, nothing is pending, or `span` has passed. Evaluates `is_so` only every 64
    /// events, since to evaluate it after each event would take longer than the events themselves.
    fn run_until_quiet(&mut self, span: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        const EVENTS_A_LOOK: u32 = 64;
        let end = self.world.borrow().now + span.as_micros() as u64;
        while !is_so(self) {
            for _ in 0..EVENTS_A_LOOK {
                if self.world.borrow().agenda.when().is_none_or(|at| at > end) {
                    return is_so(self);
                }
                self.check_limit();
                self.step();
            }
        }
        true
    }

    /// Ends the faults after a quarter of the events, so that enough are left for what must complete without
    /// faults.
    fn check_limit(&mut self) {
        let (events, most) = (self.events(), self.limits.events);
        if events > most / 4 && !self.is_healed() && !self.calm {
            self.heal();
        }
        assert!(events <= most, "liveness: no end after {events} events: {}", self.unfinished());
    }

    /// Runs for `span`.
    ///
    /// # Panics
    ///
    /// As [`run_until`](Self::run_until).
    pub fn run_for(&mut self, span: Duration) {
        let _ = self.run_until(span, |_| false);
    }

    /// Ends all faults. Connections that are broken remain so.
    pub fn heal(&mut self) {
        self.world.borrow_mut().heal();
    }

    fn is_healed(&self) -> bool {
        self.world.borrow().healed
    }

    fn are_peers_over(&self) -> bool {
        self.world.borrow().running == 0
    }

    /// Describes what a run still waits for.
    fn unfinished(&self) -> String {
        let world = self.world.borrow();
        let peers = world.peers.iter().enumerate().filter(|(_, peer)| !peer.is_over());
        let peers = peers.take(5).map(|(n, peer)| format!("peer {n} at {}", peer.waits_for()));
        let goals = self.goals.iter().filter(|(_, is_so)| !is_so()).map(|(what, _)| what.clone());
        let hosts = self.hosts.iter().filter(|host| host.in_use() > 0).map(|host| host.describe());
        peers.chain(goals).chain(hosts).collect::<Vec<_>>().join("; ")
    }

    /// Runs the scenario to its end: first with faults, then without until all scripts are done and all goals
    /// are reached, then a shutdown of all engines. Checks that nothing is left over.
    ///
    /// # Panics
    ///
    /// Panics if a check fails. The message begins with the name of the property.
    pub fn finish(&mut self) {
        let seconds = [30, 5, 1, 0, 120][self.world.borrow_mut().decider.draw(Track::Setup, 5) as usize];
        self.run_until(Duration::from_secs(seconds), |sim| sim.are_peers_over() || sim.is_healed());
        self.heal();
        let done = self.run_until_quiet(self.limits.time, |sim| {
            sim.are_peers_over() && sim.goals.iter().all(|(_, is_so)| is_so())
        });
        assert!(
            done,
            "liveness: not done, at most {} s after the last fault: {}",
            self.limits.time.as_secs(),
            self.unfinished()
        );
        for engine in 0..self.engines.len() {
            self.stop(engine, 10_000);
        }
        let over = self.run_until_quiet(Duration::from_secs(60), |sim| {
            sim.world.borrow().sides.iter().all(|side| side.over)
        });
        assert!(over, "liveness: not stopped: {}", self.unfinished());
        // what is still in transit is discarded
        self.run_until_quiet(Duration::from_secs(600), |_| false);
        for host in &self.hosts {
            host.check_end();
        }
        let open = self.world.borrow().open;
        assert!(open == 0, "leak: {open} descriptors are open at the end");
    }
}
