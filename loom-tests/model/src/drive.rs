//! The thread of a poller: a driver over connections in memory.

use std::sync::Arc;

use core::mem::MaybeUninit;
use core::time::Duration;

use lightcone_core::{
    Checked, ContractChecker, Handler, Instant, PollerId, Shard, Slot, TimerSlot, TimerStorage, TimerWheel,
    Token,
};
use loom::thread::yield_now;

use crate::balance::Balancer;
use crate::handle::Group;
use crate::net::{InMemory, Net, Steered, WatchedLine};
use crate::peer::Arrivals;
use crate::poller::{
    ConnectionEntry, ListenerEntry, Member, Poller, PollerHandle, PollerStorage, RoomRequest, Subscription,
    TopicStorage,
};
use crate::trace::{What, note};
use crate::waker::{Steering, Waker};
use crate::watched::{Data, Watched};
use crate::world::World;

/// The maximum number of connects that the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 2;
/// The maximum number of timers that a handler has set.
pub(crate) const TIMERS: usize = 4;
/// The maximum number of requests for room of a poller.
pub(crate) const ROOM_REQUESTS: usize = 4;
/// The maximum number of subscriptions of a poller.
pub(crate) const SUBSCRIPTIONS: usize = 8;
/// The grace time of a shutdown. It expires only when nothing else is left to do.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

type CheckedHandler<H> = ContractChecker<Watched<H>>;
type CheckedData<D> = Checked<Data<D>>;
/// The slots of a shard whose handler has user data of type `D`.
pub(crate) type Slots<D> = [MaybeUninit<Slot<CheckedData<D>>>];
type Place<'h, M> = Steered<'h, Member<'h, M, InMemory>>;
type Loop<'h, 's, H> =
    Poller<'s, CheckedHandler<H>, Net, Place<'h, <H as Handler>::Message>, CONNECTS_A_TURN>;

/// The memory of a poller in addition to that of its shard.
pub(crate) struct Memory {
    connections: Box<[MaybeUninit<ConnectionEntry<WatchedLine>>]>,
    listeners: [Option<ListenerEntry<Arrivals>>; 1],
    buffer: Vec<u8>,
    timer_wheel: TimerWheel,
    timers: [MaybeUninit<TimerSlot>; TIMERS],
    rooms: [MaybeUninit<RoomRequest>; ROOM_REQUESTS],
    subscriptions: [MaybeUninit<Subscription>; SUBSCRIPTIONS],
    subscribers: Box<[MaybeUninit<u32>]>,
}

impl Memory {
    pub(crate) fn new(sockets: usize, buffer: usize) -> Self {
        Self {
            connections: Box::new_uninit_slice(sockets),
            listeners: [None],
            buffer: vec![0; buffer],
            timer_wheel: TimerWheel::new(),
            timers: [const { MaybeUninit::uninit() }; TIMERS],
            rooms: [const { MaybeUninit::uninit() }; ROOM_REQUESTS],
            subscriptions: [const { MaybeUninit::uninit() }; SUBSCRIPTIONS],
            subscribers: Box::new_uninit_slice(sockets),
        }
    }
}

/// The parts of a driver.
pub(crate) struct Parts<'h, 's, H: Handler<Data: 's, Message: 's>> {
    pub(crate) id: PollerId,
    pub(crate) group: Group<'h, H::Message>,
    pub(crate) shard: Shard<'s, CheckedData<H::Data>>,
    pub(crate) memory: &'s mut Memory,
    pub(crate) handler: H,
    pub(crate) balancer: Balancer,
    pub(crate) wakers: &'h [Waker],
    pub(crate) steering: &'h [Steering],
    pub(crate) world: Arc<World>,
}

/// A poller, and what its thread shares with the others.
pub(crate) struct Driver<'h, 's, H: Handler<Data: 's, Message: 's>> {
    poller: Loop<'h, 's, H>,
    id: PollerId,
    group: Group<'h, H::Message>,
    handle: &'h PollerHandle<H::Message, InMemory>,
    steering: &'h Steering,
    wakers: &'h [Waker],
    world: Arc<World>,
    now: Instant,
}

impl<'h, 's, H: Handler<Data: 's, Message: 's>> Driver<'h, 's, H> {
    pub(crate) fn new(parts: Parts<'h, 's, H>) -> Self {
        let Parts { id, group, shard, memory, handler, balancer, wakers, steering, world } = parts;
        let now = shard.now();
        let member = Member::new(group, id, Some(balancer)).expect("a poller of this group");
        let handle = member.handle();
        let place = Steered { inner: member, me: id, steering, world: Arc::clone(&world) };
        let handler = ContractChecker::new(Watched::new(handler, id, Arc::clone(&world)));
        let Memory { connections, listeners, buffer, timer_wheel, timers, rooms, .. } = memory;
        let topics = TopicStorage::new(&mut memory.subscriptions, &mut memory.subscribers);
        let timers = TimerStorage::new(timer_wheel, timers);
        let storage = PollerStorage { connections, listeners, buffer, timers, rooms, topics };
        let poller = Poller::new(shard, handler, Net::new(Arc::clone(&world)), place, storage);
        let poller = poller.expect("room for each slot");
        let steering = &steering[usize::from(id.0)];
        Self { poller, id, group, handle, steering, wakers, world, now }
    }

    /// Runs until the poller is finished, or the model has failed on another thread.
    pub(crate) fn run(mut self) {
        while !self.world.failed() {
            self.now = self.world.now();
            self.poller.begin_turn(self.now, None);
            self.steering.here();
            self.tell_events();
            self.poller.turn();
            self.check_permits();
            if self.poller.is_over() {
                return self.end();
            }
            // the first poller that finds all scripts and threads finished begins the shutdown
            if self.world.is_through() {
                self.group.stop(GRACE);
            }
            self.wait();
        }
    }

    fn tell_events(&mut self) {
        for place in 0..self.poller.transport().places() {
            let Some(token) = self.poller.transport().socket(place) else { continue };
            if self.ready(token).1 {
                // `ready` is evaluated again below: this callback may close or pause the socket
                self.poller.on_writable(token);
            }
            if self.ready(token).0 {
                self.poller.on_readable(token);
            }
        }
        if let Some(listener) = self.poller.transport().acceptable() {
            self.poller.on_acceptable(listener);
        }
    }

    /// Returns whether a socket is readable and whether it is writable, as far as its poller is interested.
    fn ready(&mut self, token: Token) -> (bool, bool) {
        self.poller.connection_mut(token).map_or((false, false), |(_, watched)| watched.ready())
    }

    fn has_event(&mut self) -> bool {
        let sockets = 0..self.poller.transport().places();
        // collected first, because `ready` borrows the poller mutably
        let sockets: Vec<Token> = sockets.filter_map(|place| self.poller.transport().socket(place)).collect();
        self.poller.transport().acceptable().is_some()
            || sockets.into_iter().any(|token| self.ready(token) != (false, false))
    }

    /// Checks that a poller has a permit for each socket between turns. Slots reserved for connects have no permit.
    fn check_permits(&self) {
        let permits = self.poller.membership().inner.load() as usize;
        let sockets = self.poller.shard().in_use();
        assert!(
            (permits..=permits + CONNECTS_A_TURN).contains(&sockets),
            "poller {} has {permits} permits for {sockets} slots",
            self.id.0
        );
    }

    /// Waits for an event, a deadline or a wake-up.
    fn wait(&mut self) {
        let has_event = self.has_event();
        let timeout = self.poller.next_turn().map(|at| at - self.now);
        if timeout == Some(Duration::ZERO) {
            return yield_now(); // another thread's push may be in progress
        }
        let me = usize::from(self.id.0);
        self.handle.sleep(timeout, |timeout| {
            if has_event || timeout == Some(Duration::ZERO) {
                return;
            }
            // recorded before time may pass: the last poller to fall asleep is the one that advances the clock
            self.world.sleeps(me, timeout.map(|span| self.now + span));
            let_time_pass(&self.world, self.wakers);
            self.wakers[me].block();
            self.world.runs(me);
        });
    }

    fn end(self) {
        self.world.counted(usize::from(self.id.0), self.poller.stats());
        let checker = self.poller.handler();
        assert!(
            checker.has_started() && checker.has_stopped(),
            "the handler was told neither or one of these"
        );
        assert_eq!(checker.alive(), 0, "sockets were admitted and never had their last event");
        note(Some(self.id), What::End);
        self.world.ends(usize::from(self.id.0));
        let_time_pass(&self.world, self.wakers);
    }
}

/// Advances the clock if nothing else is running. Every thread calls this when it sleeps or ends.
pub(crate) fn let_time_pass(world: &World, wakers: &[Waker]) {
    if let Some(due) = world.let_time_pass() {
        wakers[due].wake();
    }
}
