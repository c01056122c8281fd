//! The parts of a poller's turn that do not involve threads: budgets, the deadline of a shutdown, refusals.

use core::convert::Infallible;
use core::mem::MaybeUninit;
use core::time::Duration;

use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{
    AcceptedSocket, AssignedSocket, Command, ConnectionEntry, Group, GroupTypes, LoadPermit, Member,
    Membership as _, Placement, Poller, PollerHandle, PollerStorage, Received, TopicStorage, Transport,
};
use lightcone_core::sync::{Load, MailboxSlot};
use lightcone_core::{
    Address, Config, Context, ErrorKind, Handler, Instant, Interest, ListenerId, Origin, PollerId, Sent,
    Shard, Socket, Storage, Timeouts, TimerStorage, Token, UnixId,
};

const PEER: Address = Address::Unix(UnixId(7));
const CONFIG: Config = Config { sockets: 8, timeouts: Timeouts::NONE, ..Config::DEVICE };
/// More than the budget of one turn.
const MANY: usize = 300;

/// A transport of numbered connections that do nothing. It records those that were closed and those that were rejected.
#[derive(Default)]
struct Nothing {
    closed: Vec<u32>,
    rejected: Vec<u32>,
}

impl Transport for Nothing {
    const CONNECTS: bool = false;
    type Unregistered = u32;
    type Registered = u32;
    type Listener = Infallible;

    fn register(&mut self, connection: u32, _: Token, _: Interest) -> Result<u32, ErrorKind> {
        Ok(connection)
    }

    fn modify(&mut self, _: &mut u32, _: Token, _: Interest, _: Interest) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn receive(&mut self, _: &mut u32, _: Token, _: &mut [u8]) -> Received {
        Received::WouldBlock
    }

    fn send(&mut self, _: &mut u32, _: Token, bytes: &[u8]) -> Sent {
        Sent::Bytes(bytes.len())
    }

    fn shutdown_write(&mut self, _: &mut u32, _: Token) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn close(&mut self, connection: u32, _: Token, _: Interest, _: bool) {
        self.closed.push(connection);
    }

    fn reject(&mut self, connection: u32) {
        self.rejected.push(connection);
    }
}

/// Counts messages and shutdown events, and keeps its sockets open.
#[derive(Default)]
struct Counts {
    messages: usize,
    shutdowns: usize,
}

impl Handler for Counts {
    type Data = ();
    type Message = ();

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn message(&mut self, _: &mut Socket<'_, ()>, (): (), _: &mut Context<'_, ()>) {
        self.messages += 1;
    }

    fn shutdown(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, ()>) {
        self.shutdowns += 1;
    }
}

struct Boxes;

impl GroupTypes for Boxes {
    type Unregistered = u32;
    type Listener = Infallible;
    type Load = &'static Load;
    type Waker = Box<dyn Fn()>;
    type Ring<T> = Box<[MailboxSlot<T>]>;
}

type Handle = PollerHandle<(), Boxes>;
type Permit = LoadPermit<Boxes>;

/// A poller alone in its group, and what drives it.
struct Bench {
    poller: Poller<'static, Counts, Nothing, Member<'static, (), Boxes>>,
    group: Group<'static, (), Boxes>,
    load: &'static Load,
    now: Instant,
}

impl Bench {
    /// Leaks its memory, which is fine in a test.
    fn new() -> Self {
        let load: &'static Load = Box::leak(Box::default());
        let handle = Handle::new(ring(512), ring(512), load, Box::new(|| ())).unwrap();
        let group = Group::new(Box::leak(Box::new([handle])), CONFIG.sockets as u32);
        let member = Member::new(group, PollerId(0), None).unwrap();
        let now = Instant::from_millis(0);
        let slots = leak(MaybeUninit::uninit);
        let memory = Box::leak(vec![0; CONFIG.memory()].into_boxed_slice());
        let shard = Shard::new(Storage { slots, memory }, &CONFIG, now).unwrap();
        let connections = leak(MaybeUninit::<ConnectionEntry<u32>>::uninit);
        let storage = PollerStorage {
            connections,
            listeners: &mut [],
            buffer: &mut [],
            timers: TimerStorage::none(),
            rooms: &mut [],
            topics: TopicStorage::none(),
        };
        let poller = Poller::new(shard, Counts::default(), Nothing::default(), member, storage).unwrap();
        Self { poller, group, load, now }
    }

    fn turn(&mut self) {
        self.poller.begin_turn(self.now, None);
        self.poller.turn();
    }

    fn send(&self, command: Command<u32, Infallible, Permit>) {
        assert!(self.group.pollers()[0].send_command(command).is_ok());
    }

    fn assign(&self, connection: u32) {
        let permit = Permit::try_acquire(self.load, u32::MAX).unwrap();
        let listener = ListenerId(0);
        self.send(Command::Assign(AssignedSocket { connection, peer: PEER, listener, permit }));
    }
}

fn leak<T>(place: impl Fn() -> T) -> &'static mut [T] {
    Box::leak((0..CONFIG.sockets).map(|_| place()).collect())
}

fn ring<T>(places: usize) -> Box<[MailboxSlot<T>]> {
    (0..places).map(|_| MailboxSlot::new()).collect()
}

#[test]
fn commands_beyond_the_budget_are_executed_in_the_next_turn() {
    let mut bench = Bench::new();
    for _ in 1..MANY {
        bench.send(Command::CloseListener { id: ListenerId(0) });
    }
    bench.assign(1);
    bench.turn();
    assert_eq!(bench.poller.stats().accepted, 0);
    assert_eq!(bench.poller.next_turn(), Some(bench.now), "there is more to do");
    bench.turn();
    assert_eq!(bench.poller.stats().accepted, 1);
    assert_eq!(bench.poller.next_turn(), None);
}

#[test]
fn messages_beyond_the_budget_are_delivered_in_the_next_turn() {
    let mut bench = Bench::new();
    bench.assign(1);
    bench.turn();
    let token = bench.poller.shard().next_in_use(0).unwrap();
    for _ in 0..MANY {
        bench.group.post(token, (), None).unwrap();
    }
    bench.turn();
    assert_eq!(bench.poller.handler().messages, 256);
    assert_eq!(bench.poller.next_turn(), Some(bench.now), "there is more to do");
    bench.turn();
    assert_eq!(bench.poller.handler().messages, MANY);
    assert_eq!(bench.poller.next_turn(), None);
}

#[test]
fn a_broadcast_reaches_each_socket_once() {
    let mut bench = Bench::new();
    (0..3).for_each(|connection| bench.assign(connection));
    bench.turn();
    bench.group.broadcast((), |()| (), None).unwrap();
    bench.turn();
    assert_eq!(bench.poller.handler().messages, 3);
}

#[test]
fn the_shortest_grace_counts_and_ends_what_is_left() {
    let mut bench = Bench::new();
    bench.assign(1);
    bench.turn();
    for seconds in [3, 1, 2] {
        bench.group.stop(Duration::from_secs(seconds));
    }
    bench.turn();
    assert_eq!(bench.poller.handler().shutdowns, 1, "the shutdown is announced once");
    assert_eq!(bench.poller.next_turn(), Some(Instant::from_millis(1_000)));
    bench.now = Instant::from_millis(999);
    bench.turn();
    assert!(!bench.poller.is_over());
    bench.now = Instant::from_millis(1_000);
    bench.turn();
    assert!(bench.poller.is_over());
    assert_eq!((bench.poller.aborted(), bench.poller.transport().closed.as_slice()), (1, [1].as_slice()));
    assert_eq!(bench.load.get(), 0);
}

#[test]
fn what_is_assigned_after_a_stop_is_served_until_the_grace_time_is_over() {
    let mut bench = Bench::new();
    bench.assign(1);
    bench.turn();
    bench.group.stop(Duration::from_secs(1));
    bench.assign(2);
    bench.turn();
    bench.assign(3);
    bench.turn();
    assert_eq!((bench.poller.transport().rejected.len(), bench.poller.handler().shutdowns), (0, 3));
    assert_eq!((bench.load.get(), bench.poller.stats().accepted), (3, 3));
    bench.now = Instant::from_millis(1_000);
    bench.turn();
    assert!(bench.poller.is_over());
    assert_eq!((bench.load.get(), bench.poller.transport().closed.len()), (0, 3));
}

#[test]
fn a_poller_that_is_over_takes_nothing() {
    let mut bench = Bench::new();
    bench.group.stop(Duration::from_secs(1));
    bench.turn();
    assert!(bench.poller.is_over());
    let token = Token::from_bits(0);
    assert!(bench.group.post(token, (), None).is_err());
    assert!(bench.group.pollers()[0].is_closed());
}

/// What a driver does after its poller has failed and runs no more turns.
#[test]
fn closing_the_mailboxes_refuses_what_is_in_them() {
    let mut bench = Bench::new();
    bench.assign(1);
    bench.group.post(Token::from_bits(0), (), None).unwrap();
    assert!(bench.poller.close_mailboxes(), "no push is in progress");
    assert_eq!((bench.poller.transport().rejected.as_slice(), bench.load.get()), ([1].as_slice(), 0));
}

#[test]
fn an_accepted_connection_goes_past_a_full_poller() {
    let loads: &'static [Load; 2] = Box::leak(Box::default());
    let handles = [0, 1].map(|id| Handle::new(ring(2), ring(2), &loads[id], Box::new(|| ())).unwrap());
    let group = Group::new(&handles, 1);
    let balancer = Balancer::new(Policy::RoundRobin, 2).unwrap();
    let mut member = Member::new(group, PollerId(0), Some(balancer)).unwrap();
    let place = |member: &mut Member<'_, (), Boxes>| {
        member.place(AcceptedSocket { connection: 1, peer: PEER, listener: ListenerId(0) })
    };
    let mine = Permit::try_acquire(&loads[0], 1).unwrap();
    assert!(matches!(place(&mut member), Placement::Elsewhere), "the first choice is full");
    assert!(!member.has_room(true));
    assert!(matches!(place(&mut member), Placement::NoRoom(_)));
    drop(mine);
    assert!(matches!(place(&mut member), Placement::Here(_)), "the other one is full now");
}
