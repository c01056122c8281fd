//! A poller with its handler, transport and clock, driven as the documentation prescribes.

use crate::net::{Arrival, DoorRef, Fate, Listener, Loose, Net, Peer, Planned, WireRef, planned_panic};
use core::cell::Cell;
use core::mem::MaybeUninit;
use core::time::Duration;
use lightcone_core::balance::Balancer;
use lightcone_core::poller::{
    Alone, AloneWithMail, Group, GroupTypes, Member, Membership, PanicOwner, Poller, PollerHandle,
    PollerStorage, TopicStorage,
};
use lightcone_core::sync::{Load, MailboxSlot};
use lightcone_core::{
    Address, Checked, Config, Context, ContractChecker, Event, FreeBlocks, Handler, Instant, ListenerId,
    Origin, PollerEvent, PollerId, Shard, Socket, Storage, Timeouts, TimerStorage, Token,
};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// How many connects a turn may begin, except in tests of that limit.
pub const BATCH: usize = 4;

/// Four sockets in addition to those reserved for connects, and no timeouts.
pub const SMALL: Config = Config {
    sockets: 4 + BATCH,
    block_size: 64,
    input_blocks: 8,
    output_blocks: 16,
    output_limit: 16,
    receive_size: 256,
    receive_blocks: 2,
    timers: 4,
    room_requests: 4,
    subscriptions: 8,
    timeouts: Timeouts::NONE,
    ..Config::DEVICE
};

pub const fn sockets(sockets: usize) -> Config {
    Config { sockets: sockets + BATCH, ..SMALL }
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

thread_local! {
    /// The number of messages that exist.
    static MESSAGES: Cell<isize> = const { Cell::new(0) };
}

/// A message that is counted, and that may panic when cloned or dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Note(pub u64);

pub const CLONE_PANICS: u64 = u64::MAX;
pub const DROP_PANICS: u64 = u64::MAX - 1;

impl Note {
    pub fn new(number: u64) -> Self {
        MESSAGES.set(MESSAGES.get() + 1);
        Self(number)
    }
}

impl Clone for Note {
    fn clone(&self) -> Self {
        if self.0 == CLONE_PANICS {
            planned_panic();
        }
        Self::new(self.0)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        MESSAGES.set(MESSAGES.get() - 1);
        if self.0 == DROP_PANICS && !std::thread::panicking() {
            planned_panic();
        }
    }
}

/// User data of a socket: the number of its admission, the connect's tag, and a number for use by the test.
#[derive(Debug)]
pub struct Data {
    pub id: usize,
    pub tag: Option<u64>,
    pub number: usize,
}

pub type React = Box<dyn FnMut(&mut Socket<'_, Data>, Event<Note>, &mut Context<'_, Note>)>;
pub type Admits = Box<dyn FnMut(Origin, &Address) -> bool>;
pub type OnPoller = Box<dyn FnMut(PollerEvent, &mut Context<'_, Note>)>;

/// Records each event as text, then calls the test's closure.
pub struct Script {
    pub trace: Vec<String>,
    pub admitted: usize,
    pub tokens: Vec<Token>,
    pub admits: Admits,
    pub react: React,
    /// Called for each event of the poller. Only the test that sets it has these events in its trace.
    pub on_poller: Option<OnPoller>,
    pub wants_sent: bool,
}

impl Handler for Script {
    type Data = Data;
    type Message = Note;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Data> {
        if !(self.admits)(origin, peer) {
            return None;
        }
        let tag = match origin {
            Origin::Accepted { .. } => None,
            Origin::Connecting { tag } => Some(tag),
        };
        self.admitted += 1;
        Some(Data { id: self.admitted - 1, tag, number: 0 })
    }

    fn wants_sent(&self) -> bool {
        self.wants_sent
    }

    fn event(&mut self, socket: &mut Socket<'_, Data>, event: Event<Note>, cx: &mut Context<'_, Note>) {
        assert_eq!(cx.poller(), socket.token().poller());
        let id = socket.data.id;
        self.trace.push(match &event {
            Event::Message(note) => format!("{id} message {}", note.0),
            Event::Refused(kind) => format!("{id} refused {kind:?}"),
            Event::Close(reason) => format!("{id} close {reason:?}"),
            other => format!("{id} {}", other.name()),
        });
        (self.react)(socket, event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Note>) {
        let Some(on_poller) = &mut self.on_poller else { return };
        self.trace.push(match event {
            PollerEvent::Timer { tag, .. } => format!("timer {tag}"),
            other => other.name().to_owned(),
        });
        on_poller(event, cx);
    }
}

/// The default reaction: sends the input back.
pub fn usual(socket: &mut Socket<'_, Data>, event: &Event<Note>) {
    match event {
        Event::Receive | Event::Writable => {
            let (mut input, mut output, _) = socket.split();
            let taken = output.send_some(input.bytes());
            input.consume(taken);
        }
        Event::PeerClosed | Event::Shutdown => socket.close(),
        Event::Timeout => socket.abort(),
        _ => {}
    }
}

pub type Checker = ContractChecker<Script>;
pub type Machine<L, const C: bool, const B: usize> = Poller<'static, Checker, Net<C>, L, B>;

/// A poller and its surroundings.
pub struct Bench<L: Membership<Loose, Listener, Note>, const C: bool = true, const B: usize = BATCH> {
    pub poller: Machine<L, C, B>,
    pub now: u64,
    /// The owner of each panic.
    pub owners: Vec<PanicOwner>,
    pub wires: Vec<WireRef>,
    pub doors: Vec<DoorRef>,
    pub blocks: FreeBlocks,
}

/// A lone poller that can connect.
pub type Lone = Bench<AloneWithMail<Note, 2048>>;
/// A lone poller that cannot connect.
pub type Deaf = Bench<AloneWithMail<Note, 2048>, false>;
/// A lone poller without a mailbox.
pub type Mute = Bench<Alone, false>;

impl Lone {
    pub fn new(config: &Config) -> Self {
        Self::place(config, AloneWithMail::new())
    }
}

impl Deaf {
    pub fn deaf(config: &Config) -> Self {
        Self::place(config, AloneWithMail::new())
    }
}

pub fn uninit<T>(n: usize) -> &'static mut [MaybeUninit<T>] {
    (0..n).map(|_| MaybeUninit::uninit()).collect::<Vec<_>>().leak()
}

pub fn shard(config: &Config) -> Shard<'static, Checked<Data>> {
    let storage = Storage { slots: uninit(config.sockets), memory: vec![0xA5; config.memory()].leak() };
    Shard::new(storage, config, at(0)).unwrap()
}

pub fn checker() -> Checker {
    ContractChecker::new(Script {
        trace: Vec::new(),
        admitted: 0,
        tokens: Vec::new(),
        admits: Box::new(|_, _| true),
        react: Box::new(|socket, event, _| usual(socket, &event)),
        on_poller: None,
        wants_sent: true,
    })
}

impl<L: Membership<Loose, Listener, Note>, const C: bool, const B: usize> Bench<L, C, B> {
    /// Creates a bench. The memory is leaked: it is small, and this avoids a lifetime.
    pub fn place(config: &Config, membership: L) -> Self {
        Self::with_buffer(config, membership, 512)
    }

    /// Creates a bench with a receive buffer of this size.
    pub fn with_buffer(config: &Config, membership: L, buffer: usize) -> Self {
        let storage = PollerStorage {
            connections: uninit(config.sockets),
            listeners: (0..4).map(|_| None).collect::<Vec<_>>().leak(),
            buffer: vec![0; buffer].leak(),
            timers: TimerStorage::new(Box::leak(Box::default()), uninit(config.timers)),
            rooms: uninit(config.room_requests),
            topics: TopicStorage::new(uninit(config.subscriptions), uninit(config.sockets)),
        };
        let shard = shard(config);
        let blocks = shard.free_blocks();
        let poller = Poller::new(shard, checker(), Net::default(), membership, storage).unwrap();
        Self { poller, now: 0, owners: Vec::new(), wires: Vec::new(), doors: Vec::new(), blocks }
    }

    pub fn script(&mut self) -> &mut Script {
        self.poller.handler_mut().inner_mut()
    }

    /// Sets the reaction of the handler from now on.
    pub fn react(
        &mut self,
        react: impl FnMut(&mut Socket<'_, Data>, Event<Note>, &mut Context<'_, Note>) + 'static,
    ) {
        self.script().react = Box::new(react);
    }

    /// Sets the reaction to the events of the poller, and records them from now on.
    pub fn on_poller(&mut self, on_poller: impl FnMut(PollerEvent, &mut Context<'_, Note>) + 'static) {
        self.script().on_poller = Some(Box::new(on_poller));
    }

    pub fn admits(&mut self, admits: impl FnMut(Origin, &Address) -> bool + 'static) {
        self.script().admits = Box::new(admits);
    }

    pub fn net(&mut self) -> &mut Net<C> {
        self.poller.transport_mut()
    }

    /// Takes the trace recorded since the last call.
    pub fn trace(&mut self) -> Vec<String> {
        core::mem::take(&mut self.script().trace)
    }

    /// Adds a listener with this number.
    pub fn listen(&mut self, id: u8) -> DoorRef {
        let door = self.door();
        assert!(self.poller.listen(Listener(Rc::clone(&door)), ListenerId(id)).is_ok());
        door
    }

    pub fn door(&mut self) -> DoorRef {
        let door = DoorRef::default();
        self.doors.push(Rc::clone(&door));
        door
    }

    pub fn wire(&mut self) -> WireRef {
        let wire = WireRef::default();
        self.wires.push(Rc::clone(&wire));
        wire
    }

    /// Puts a peer into the backlog of a listener.
    pub fn knock(&mut self, door: &DoorRef) -> WireRef {
        let wire = self.wire();
        let peer = Address::Inet(([192, 0, 2, 1], self.wires.len() as u16).into());
        door.borrow_mut().backlog.push_back(Arrival::Peer(Rc::clone(&wire), peer));
        wire
    }

    /// Creates a socket over a connection that the poller takes over.
    pub fn attach(&mut self) -> WireRef {
        let wire = self.wire();
        let peer = Address::Inet(([192, 0, 2, 2], 1).into());
        assert!(self.poller.attach(Loose(Rc::clone(&wire)), peer, ListenerId(3)).is_ok());
        wire
    }

    /// Calls a step of the poller, and returns whether it completed. After a planned panic the poller recovers, and the
    /// socket that panicked is ended.
    pub fn guard(&mut self, step: impl FnOnce(&mut Machine<L, C, B>)) -> bool {
        let mut step = Some(step);
        self.guard_dyn(&mut |poller| step.take().expect("the step is called once")(poller))
    }

    fn guard_dyn(&mut self, step: &mut dyn FnMut(&mut Machine<L, C, B>)) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(&mut self.poller))) else { return true };
        if !panic.is::<Planned>() {
            resume_unwind(panic);
        }
        // As a driver does: recovers first, and then runs the socket that panicked, so that it is closed.
        let owner = self.poller.recover();
        self.owners.push(owner);
        if let PanicOwner::Socket(token) = owner {
            self.guard_dyn(&mut |poller| poller.run(token));
        }
        false
    }

    /// Begins a turn.
    pub fn begin(&mut self) {
        let now = at(self.now);
        self.guard(|poller| poller.begin_turn(now, None));
    }

    /// Runs the part of a turn that follows the events.
    pub fn rest(&mut self) {
        // After a planned panic, the turn is continued until it completes.
        while !self.guard(Poller::turn) {}
        self.check();
    }

    /// Runs a turn: readiness events, then everything else.
    pub fn turn(&mut self) {
        self.begin();
        self.events();
        self.rest();
    }

    /// Runs a turn without events.
    pub fn idle_turn(&mut self) {
        self.begin();
        self.rest();
    }

    /// Runs a turn at the given time.
    pub fn turn_at(&mut self, now: u64) {
        self.now = now;
        self.turn();
    }

    pub fn turns(&mut self, n: usize) {
        (0..n).for_each(|_| self.turn());
    }

    /// Reports all ready connections and listeners to the poller.
    pub fn events(&mut self) {
        for wire in self.poller.transport().watched() {
            self.tell(&wire);
        }
        let doors: Vec<u8> = self.poller.transport().doors.keys().copied().collect();
        for id in doors {
            let door = self.poller.transport().doors.get(&id).cloned();
            if door.is_some_and(|door| !door.borrow().backlog.is_empty()) {
                self.guard(|poller| poller.on_acceptable(ListenerId(id)));
            }
        }
    }

    /// Reports the readiness of one connection.
    pub fn tell(&mut self, wire: &WireRef) {
        if self.poller.transport().completes {
            return self.offer(wire);
        }
        let (token, interest) = (wire.token(), wire.borrow().interest);
        let writable = {
            let wire = wire.borrow();
            let decided = wire
                .connecting
                .is_none_or(|result| result != lightcone_core::poller::ConnectResult::InProgress);
            decided && (wire.window > 0 || wire.send_fails.is_some())
        };
        if interest.writes() && writable {
            self.guard(|poller| poller.on_writable(token));
        }
        let readable = {
            let wire = wire.borrow();
            wire.peer_ended || !wire.to_poller.is_empty() || wire.receive_fails.is_some()
        };
        if wire.fate() == Fate::Watched && wire.borrow().interest.reads() && readable {
            self.guard(|poller| poller.on_readable(token));
        }
    }

    /// Offers the bytes that a completion-based transport has received: once each time that reading is requested.
    pub fn offer(&mut self, wire: &WireRef) {
        let (token, reads, left) = (wire.token(), wire.borrow().interest.reads(), wire.borrow().left);
        if wire.fate() != Fate::Watched || !reads || left || wire.borrow().connecting.is_some() {
            return;
        }
        let mut bytes: Vec<u8> = wire.borrow().to_poller.iter().copied().collect();
        if !bytes.is_empty() {
            // What is not taken waits until reading is requested again, which may happen during this call.
            wire.set(|wire| wire.left = true);
            let mut taken = 0;
            self.guard(|poller| taken = poller.on_received(token, &mut bytes));
            assert!(taken <= bytes.len());
            wire.borrow_mut().to_poller.drain(..taken);
            if taken == bytes.len() {
                wire.set(|wire| wire.left = false);
            }
        }
        let wire_ended = wire.borrow().peer_ended && wire.borrow().to_poller.is_empty();
        if wire_ended && wire.fate() == Fate::Watched && !wire.borrow().left {
            wire.set(|wire| wire.left = true);
            let mut taken = true;
            self.guard(|poller| taken = poller.on_end_of_stream(token));
            let _ = taken; // it is over, or reported again when reading is requested
        }
    }

    /// Completes the send in flight.
    pub fn complete(&mut self, wire: &WireRef, n: usize) {
        let bytes = wire.borrow_mut().in_flight.take().expect("a send is in flight");
        let n = n.min(bytes.len());
        wire.borrow_mut().to_peer.extend(&bytes[..n]);
        let token = wire.token();
        self.guard(|poller| poller.on_sent(token, n));
    }

    /// Checks that the transport received no forbidden call.
    pub fn check(&self) {
        let misuse = &self.poller.transport().misuse;
        assert!(misuse.is_empty(), "{misuse:#?}");
    }

    /// Returns how many sockets have been admitted and have not ended.
    pub fn alive(&self) -> isize {
        self.poller.handler().alive()
    }

    /// Returns when the next turn is due; `None` for never.
    pub fn due(&self) -> Option<u64> {
        self.poller.next_turn().map(Instant::as_millis)
    }

    /// Stops with this grace time, runs turns until the poller is over, and checks that nothing is left.
    pub fn stop(&mut self, grace: u64) {
        self.begin();
        self.poller.stop(ms(grace));
        self.rest();
        self.end();
    }

    /// Runs turns until the poller is over, then checks that nothing is left.
    pub fn end(&mut self) {
        self.wind_up();
        self.check_connections();
    }

    /// The same for one of several pollers, but without the check of connections, which the pollers share.
    pub fn wind_up(&mut self) {
        for _ in 0..1_000 {
            if self.poller.is_over() {
                return self.check_end();
            }
            let due = self.due().expect("the poller waits forever");
            self.now = self.now.max(due);
            self.turn();
        }
        panic!("the poller does not end: {:?}", self.poller);
    }

    /// Checks that no socket and no block is left.
    pub fn check_end(&self) {
        self.check();
        assert!(self.poller.is_over());
        assert_eq!(self.alive(), 0, "a socket has not ended");
        assert_eq!(self.poller.shard().in_use(), 0);
        assert_eq!(self.poller.shard().free_blocks(), self.blocks);
    }

    /// Checks that no connection and no listener is left.
    pub fn check_connections(&self) {
        let waits = |wire: &WireRef| {
            let waiting = |door: &DoorRef| {
                let door = door.borrow();
                let is_it =
                    |arrival: &Arrival| matches!(arrival, Arrival::Peer(other, _) if Rc::ptr_eq(other, wire));
                door.backlog.iter().any(is_it)
            };
            self.doors.iter().any(waiting)
        };
        let dialled = self.poller.transport().dialled.iter().map(|(_, wire)| wire);
        for wire in self.wires.iter().chain(dialled) {
            // A connection that still waits in a backlog never reached the poller.
            let over = !matches!(wire.fate(), Fate::Loose | Fate::Watched | Fate::Dropped);
            assert!(over || waits(wire), "a connection is left: {wire:?}");
        }
        for door in &self.doors {
            let door = door.borrow();
            assert!(!door.watched && !door.dropped, "a listener is left: {door:?}");
        }
    }
}

/// Returns the number of messages that exist.
pub fn messages() -> isize {
    MESSAGES.get()
}

// --- groups ----------------------------------------------------------------------------------------------------------

pub struct Parts;

impl GroupTypes for Parts {
    type Unregistered = Loose;
    type Listener = Listener;
    type Load = Rc<Load>;
    type Waker = Rc<dyn Fn()>;
    type Ring<T> = Vec<MailboxSlot<T>>;
}

pub type Team = Group<'static, Note, Parts>;
pub type Mate = Bench<Member<'static, Note, Parts>>;

/// Creates the pollers of a group with mailboxes of these capacities.
pub fn group(pollers: usize, sockets: u32, commands: usize, messages: usize) -> Team {
    fn ring<T>(n: usize) -> Vec<MailboxSlot<T>> {
        (0..n).map(|_| MailboxSlot::new()).collect()
    }
    let handles = (0..pollers)
        .map(|_| {
            PollerHandle::new(
                ring(commands),
                ring(messages),
                Rc::new(Load::new()),
                Rc::new(|| {}) as Rc<dyn Fn()>,
            )
        })
        .map(Option::unwrap)
        .collect::<Vec<_>>();
    Group::new(handles.leak(), sockets)
}

/// Creates one poller of a group.
pub fn mate(group: Team, id: u8, config: &Config, balancer: Option<Balancer>) -> Mate {
    let config = Config { poller: PollerId(id), ..*config };
    Mate::place(&config, Member::new(group, PollerId(id), balancer).expect("the number is free"))
}

pub fn load(group: Team, id: usize) -> u32 {
    AsRef::<Load>::as_ref(&group.pollers()[id]).get()
}

pub fn loads(group: Team) -> Vec<u32> {
    (0..group.pollers().len()).map(|id| load(group, id)).collect()
}
