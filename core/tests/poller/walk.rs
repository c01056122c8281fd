//! A random walk: pollers of a group, or one alone, against everything that a transport, peers, handlers and other
//! threads can do to them. The invariants are checked in every turn, and again at the end.

use crate::bench::{
    Bench, CLONE_PANICS, DROP_PANICS, Data, Mate, Note, SMALL, Team, group, loads, mate, messages, ms,
};
use crate::net::{Arrival, Dial, DoorRef, Fate, Listener, Loose, Peer, WireRef, planned_panic};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Command, ConnectResult, PanicOwner};
use lightcone_core::{
    Address, Config, Context, ErrorKind, Event, ListenerId, Socket, Timeouts, Token, UnixId, WriteRate,
};
use std::rc::Rc;

#[path = "../common/mod.rs"]
mod common;
use common::{Random, pattern, rounds};

const SEEDS: u64 = rounds(2_000);
const STEPS: usize = 150;
const TO: Address = Address::Unix(UnixId(9));

/// How erratic a walk is.
#[derive(Clone, Copy, Debug)]
struct Temper {
    pollers: usize,
    completes: bool,
    /// One in this number of callbacks, and of the program's other functions, panics; 0 for no panics.
    panics: usize,
    /// One in this number of calls fails.
    fails: usize,
}

/// The state that the handlers and the walk share.
struct World {
    random: Random,
    temper: Temper,
    /// Tokens that messages are posted to; many are stale.
    tokens: Vec<Token>,
    /// Whether the walk is winding up, and handlers cause no more trouble.
    gentle: bool,
    opened: usize,
    ended: usize,
    refused: usize,
    broadcasts: usize,
}

type WorldRef = Rc<RefCell<World>>;

/// The handler. It sends the input back: `number` counts the bytes of the stream that it has consumed and sent.
fn react(world: &WorldRef, socket: &mut Socket<'_, Data>, event: Event<Note>, cx: &mut Context<'_, Note>) {
    let mut world = world.borrow_mut();
    let world = &mut *world;
    match event {
        Event::Open => {
            world.opened += 1;
            world.tokens.push(socket.token());
        }
        Event::Close(_) => world.ended += 1,
        Event::Refused(_) => world.refused += 1,
        _ => {}
    }
    if !matches!(event, Event::Close(_) | Event::Refused(_)) {
        echo(socket);
    }
    if !world.gentle {
        wild(world, socket, &event, cx);
    }
    match event {
        Event::PeerClosed if socket.bytes().is_empty() || socket.is_closing() => socket.close(),
        Event::PeerClosed => socket.data.tag = Some(u64::MAX),
        Event::Shutdown if world.gentle || world.random.one_in(2) => socket.close(),
        Event::Timeout => socket.abort(),
        _ => {}
    }
    if socket.data.tag == Some(u64::MAX) && socket.bytes().is_empty() {
        socket.close();
    }
    let panics = world.temper.panics;
    if !world.gentle && panics > 0 && world.random.one_in(panics) {
        planned_panic();
    }
}

fn echo(socket: &mut Socket<'_, Data>) {
    let (mut input, mut output, data) = socket.split();
    let bytes = input.bytes();
    for (n, byte) in bytes.iter().enumerate() {
        assert_eq!(*byte, pattern(data.number + n), "the bytes come in order");
    }
    let taken = output.send_some(bytes);
    input.consume(taken);
    data.number += taken;
}

/// Does one of the rarer things.
fn wild(world: &mut World, socket: &mut Socket<'_, Data>, event: &Event<Note>, cx: &mut Context<'_, Note>) {
    let random = &mut world.random;
    match random.below(60) {
        0 => socket.pause(),
        1..=6 => socket.resume(),
        27 => socket.close(),
        7 => socket.abort(),
        8 => socket.linger(),
        9 => socket.finish(),
        10 => socket.set_deadline(Some(cx.now() + Duration::from_millis(random.below(40) as u64))),
        11..=14 => {
            let _ = cx.connect(TO, random.below(1_000) as u64);
        }
        15..=24 if !world.tokens.is_empty() => {
            let to = world.tokens[random.below(world.tokens.len())];
            let odd = world.temper.panics > 0 && random.one_in(10);
            let _ = cx.post(to, Note::new(if odd { DROP_PANICS } else { 1 }));
        }
        25 if !matches!(event, Event::Message(_)) => {
            let odd = world.temper.panics > 0 && random.one_in(4);
            // The first copies are cloned within the callback, so a panic there ends its socket.
            let number = if odd { CLONE_PANICS } else { 2 };
            world.broadcasts += usize::from(cx.broadcast(Note::new(number)).is_ok());
        }
        26 => {
            let _ = cx.local_address(socket.token());
        }
        _ => {}
    }
}

/// The walk acts on the pollers from outside.
struct Walk {
    world: WorldRef,
    group: Team,
    mates: Vec<Mate>,
    balancer: Balancer,
    doors: Vec<DoorRef>,
    /// All connections, and how many bytes each peer has sent in all.
    peers: Vec<(WireRef, usize)>,
    now: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let temper = Temper {
            pollers: 1 + random.below(3),
            completes: random.one_in(2),
            panics: [0, 0, 30, 200][random.below(4)],
            fails: [4, 20, 1_000][random.below(3)],
        };
        let span = |random: &mut Random| random.one_in(2).then(|| ms(5 + random.below(300) as u64));
        let timeouts = Timeouts {
            connect: span(&mut random),
            first_byte: span(&mut random),
            idle: span(&mut random),
            write_stall: span(&mut random),
            drain: span(&mut random),
            linger: Some(ms(20)),
            write_rate: random.one_in(2).then_some(WriteRate { bytes: 200, per: ms(90) }),
        };
        let config = Config {
            timeouts,
            input_blocks: 1 + random.below(4),
            output_blocks: 1 + random.below(6),
            receive_blocks: random.below(2),
            output_limit: 1 + random.below(4),
            ..SMALL
        };
        let mailbox = 1 << random.below(5);
        let group = group(temper.pollers, 4, mailbox, 4 * mailbox);
        let policy = [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastOfTwo][random.below(3)];
        let balancer = Balancer::new(policy, temper.pollers).unwrap();
        let world = Rc::new(RefCell::new(World {
            random,
            temper,
            tokens: Vec::new(),
            gentle: false,
            opened: 0,
            ended: 0,
            refused: 0,
            broadcasts: 0,
        }));
        let mates = (0..temper.pollers).map(|id| {
            let mut mate = mate(group, id as u8, &config, Some(balancer.clone()));
            mate.net().completes = temper.completes;
            let (handlers, admits) = (Rc::clone(&world), Rc::clone(&world));
            mate.react(move |socket, event, cx| react(&handlers, socket, event, cx));
            mate.admits(move |_, _| {
                let mut world = admits.borrow_mut();
                let panics = world.temper.panics;
                if !world.gentle && panics > 0 && world.random.one_in(panics) {
                    planned_panic();
                }
                world.gentle || !world.random.one_in(10)
            });
            mate
        });
        let mates = mates.collect();
        Self { world, group, mates, balancer, doors: Vec::new(), peers: Vec::new(), now: 0 }
    }

    fn below(&self, n: usize) -> usize {
        self.world.borrow_mut().random.below(n)
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn fails(&self) -> Option<ErrorKind> {
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::OutOfMemory, ErrorKind::BrokenPipe];
        let fails = self.world.borrow().temper.fails;
        self.one_in(fails).then(|| kinds[self.below(3)])
    }

    /// Sets the results of a connection's calls from the seed.
    fn temper(&self, wire: &WireRef) {
        let (register_fails, modify_fails) = (self.fails(), self.fails());
        let (shut_fails, now) = (self.fails(), self.below(100));
        let cancel = if self.one_in(2) { None } else { Some(now) };
        let unwatchable = if self.one_in(10) { 1 + self.below(3) } else { 0 };
        let (window, chunk) = (self.below(200), 1 + self.below(200));
        wire.set(|wire| {
            wire.register_fails = register_fails;
            wire.modify_fails = modify_fails;
            (wire.shut_fails, wire.cancel, wire.unwatchable) = (shut_fails, cancel, unwatchable);
            (wire.window, wire.chunk) = (window, chunk);
        });
    }

    fn step(&mut self) {
        let poller = self.below(self.mates.len());
        match self.below(12) {
            0 => self.listen(poller),
            1..=3 => self.knock(),
            4 => {
                let _ = self.group.connect(TO, 5, &mut self.balancer);
            }
            5 => {
                let _ = self.mates[poller].poller.connect(TO, 6);
                self.dial(poller);
            }
            6 => self.attach(poller),
            7 => self.close(poller),
            8 => self.post(),
            _ => (0..3).for_each(|_| self.peer()),
        }
        if self.one_in(2) {
            self.now += [0, 1, 1, 3, 10, 25][self.below(6)];
        }
        let poller = self.below(self.mates.len());
        self.turn(poller);
    }

    fn listen(&mut self, poller: usize) {
        let door = self.mates[poller].door();
        if self.one_in(5) {
            door.borrow_mut().unwatchable = 1 + self.below(3);
        }
        let id = ListenerId(self.below(5) as u8);
        let listener = Listener(Rc::clone(&door));
        if self.one_in(2) {
            if let Err(listener) = self.mates[poller].poller.listen(listener, id) {
                drop(listener);
                door.borrow_mut().dropped = false;
            }
        } else if let Err(refused) =
            self.group.pollers()[poller].send_command(Command::Listen { listener, id })
        {
            drop(refused);
            door.borrow_mut().dropped = false;
        }
        self.doors.push(door);
    }

    fn knock(&mut self) {
        let open = self.doors.iter().filter(|door| !door.borrow().closed).cloned().collect::<Vec<_>>();
        if open.is_empty() {
            return;
        }
        let door = Rc::clone(&open[self.below(open.len())]);
        for _ in 0..=self.below(4) {
            let arrival = match self.below(12) {
                0 => Arrival::Filtered,
                1 => Arrival::Retry,
                2 => Arrival::Exhausted,
                3 if self.world.borrow().temper.panics > 0 => Arrival::FilterPanics,
                _ => {
                    let wire = self.mates[0].wire();
                    self.temper(&wire);
                    self.peers.push((Rc::clone(&wire), 0));
                    Arrival::Peer(wire, Address::Inet(([192, 0, 2, 1], self.peers.len() as u16).into()))
                }
            };
            door.borrow_mut().backlog.push_back(arrival);
        }
    }

    fn attach(&mut self, poller: usize) {
        let wire = self.mates[poller].wire();
        self.temper(&wire);
        self.peers.push((Rc::clone(&wire), 0));
        let mut back = None;
        self.mates[poller]
            .guard(|poller| back = poller.attach(Loose(Rc::clone(&wire)), TO, ListenerId(0)).err());
        if let Some(loose) = back {
            assert_eq!(wire.fate(), Fate::Loose);
            wire.set(|wire| wire.fate = Fate::Rejected);
            drop(loose);
        }
    }

    /// Sets the result of the next connect.
    fn dial(&mut self, poller: usize) {
        let dial = match self.below(4) {
            0 => Dial::Fails(ErrorKind::ConnectionRefused),
            1 => Dial::InProgress,
            _ => Dial::Established,
        };
        let register_fails = self.fails();
        let net = self.mates[poller].net();
        net.register_fails = register_fails;
        net.dials.push_back(dial);
    }

    fn close(&mut self, poller: usize) {
        let id = ListenerId(self.below(5) as u8);
        let tokens = self.world.borrow().tokens.clone();
        let abort = self.one_in(2);
        let handle = &self.group.pollers()[poller];
        if tokens.is_empty() || self.one_in(4) {
            let _ = handle.send_command(Command::CloseListener { id });
            return;
        }
        let token = tokens[tokens.len() - 1 - self.below(tokens.len().min(6))];
        if self.one_in(2) {
            self.mates[poller].guard(|poller| poller.close_socket(token, abort));
        } else {
            let _ = handle.send_command(Command::CloseSocket { token, abort });
        }
    }

    fn post(&self) {
        let token = self.world.borrow().tokens.last().copied();
        if let Some(token) = token {
            let _ = self.group.post(token, Note::new(1), None);
        }
        if self.one_in(3) {
            let _ = self.group.broadcast(Note::new(3), Note::clone, None);
        }
    }

    /// Provides dialled connections peers as well.
    fn meet_dialled(&mut self) {
        for mate in &mut self.mates {
            let wires: Vec<_> = mate.net().dialled.drain(..).map(|(_, wire)| wire).collect();
            for wire in wires {
                mate.wires.push(Rc::clone(&wire));
                self.peers.push((wire, 0));
            }
        }
    }

    fn peer(&mut self) {
        self.meet_dialled();
        if self.peers.is_empty() {
            return;
        }
        let place = self.peers.len() - 1 - self.below(self.peers.len().min(12));
        let wire = Rc::clone(&self.peers[place].0);
        if !matches!(wire.fate(), Fate::Loose | Fate::Watched) {
            return;
        }
        let ended = wire.borrow().peer_ended;
        match self.below(10) {
            0..=4 if !ended => {
                let n = 1 + self.below([8, 64, 65, 256, 600][self.below(5)]);
                let said = self.peers[place].1;
                wire.says(&(said..said + n).map(pattern).collect::<Vec<_>>());
                self.peers[place].1 += n;
            }
            5 | 6 => {
                let window = self.below(300);
                wire.set(|wire| wire.window = window);
            }
            7 if self.one_in(3) => wire.ends(),
            8 => {
                let (receive_fails, send_fails) = (self.fails(), self.fails());
                wire.set(|wire| (wire.receive_fails, wire.send_fails) = (receive_fails, send_fails));
            }
            _ => self.complete(&wire),
        }
    }

    /// Completes a connect or a send that completes later.
    fn complete(&mut self, wire: &WireRef) {
        let Some(token) = wire.borrow().token.filter(|_| wire.fate() == Fate::Watched) else { return };
        let poller = usize::from(token.poller().0);
        let result = [
            ConnectResult::Established,
            ConnectResult::Established,
            ConnectResult::Broken(ErrorKind::ConnectionReset),
            ConnectResult::Failed(ErrorKind::ConnectionRefused),
        ][self.below(4)];
        let (connects, flies) = (wire.borrow().connecting.is_some(), wire.borrow().in_flight.is_some());
        if connects && self.mates[poller].net().completes {
            wire.set(|wire| wire.connecting = None);
            self.mates[poller].guard(|poller| poller.on_connect_result(token, result));
        } else if connects {
            wire.set(|wire| wire.connecting = Some(result));
        } else if flies && self.one_in(8) {
            wire.set(|wire| wire.in_flight = None);
            self.mates[poller].guard(|poller| poller.on_send_failed(token, ErrorKind::BrokenPipe));
        } else if flies {
            let n = self.below(200);
            self.mates[poller].complete(wire, n);
        }
    }

    fn turn(&mut self, poller: usize) {
        let mate = &mut self.mates[poller];
        mate.turn_at(self.now);
        assert!(mate.due().is_none_or(|due| due >= self.now));
        // A poller holds permits for its own sockets only. One that has had its last event may close in the next turn.
        let (load, alive) = (mate.poller.membership().load() as isize, mate.alive());
        let busy = mate.due() == Some(self.now);
        assert!(
            load == alive || (load > alive && busy),
            "poller {poller} holds {load} permits for {alive} sockets"
        );
        self.check();
    }

    /// Checks the invariants that hold at all times.
    fn check(&mut self) {
        self.meet_dialled();
        let alive: isize = self.mates.iter().map(Bench::alive).sum();
        let load: u32 = loads(self.group).iter().sum();
        assert!(load as isize >= alive, "{load} of {alive}");
        assert!(loads(self.group).iter().all(|load| *load <= 4), "{:?}", loads(self.group));
        for mate in &self.mates {
            for owner in &mate.owners {
                assert_ne!(*owner, PanicOwner::Engine);
            }
        }
        for (wire, said) in &self.peers {
            let wire = wire.borrow();
            // Only the last bytes, because this check runs in every turn.
            for (n, byte) in wire.to_peer.iter().enumerate().rev().take(4) {
                assert_eq!(*byte, pattern(n), "the peer gets its bytes in order");
            }
            assert!(wire.to_peer.len() <= *said);
        }
    }

    /// Lets all sockets finish, and checks that everything has been returned.
    fn wind_up(mut self) {
        self.world.borrow_mut().gentle = true;
        // Peers still in a backlog are dropped with their listener, which is not a leak.
        for door in &self.doors {
            for arrival in door.borrow_mut().backlog.drain(..) {
                if let Arrival::Peer(wire, _) = arrival {
                    wire.set(|wire| wire.fate = Fate::Rejected);
                }
            }
        }
        for (wire, _) in &self.peers {
            wire.set(|wire| {
                (wire.window, wire.chunk) = (usize::MAX, usize::MAX);
                wire.modify_fails = None;
            });
        }
        if self.one_in(2) {
            self.complete_all();
        }
        let grace = self.below(100) as u64;
        self.group.stop(ms(grace));
        for _ in 0..200 {
            for poller in 0..self.mates.len() {
                self.turn(poller);
            }
            self.now += 3;
            for place in 0..self.peers.len() {
                let wire = Rc::clone(&self.peers[place].0);
                self.complete(&wire);
            }
            if self.mates.iter().all(|mate| mate.poller.is_over()) {
                break;
            }
        }
        self.check_end();
    }

    /// Checks that a peer without faults gets all of its bytes back.
    fn complete_all(&mut self) {
        for _ in 0..60 {
            for place in 0..self.peers.len() {
                let wire = Rc::clone(&self.peers[place].0);
                self.complete(&wire);
            }
            for poller in 0..self.mates.len() {
                self.turn(poller);
            }
        }
        for (wire, said) in &self.peers {
            let wire = wire.borrow();
            let unhindered = wire.receive_fails.is_none() && wire.send_fails.is_none();
            if wire.fate == Fate::Watched && unhindered && wire.connecting.is_none() && wire.interest.reads()
            {
                assert!(wire.to_poller.is_empty(), "a socket with read interest was not read: {wire:?}");
                assert!(!wire.left, "remaining bytes are not requested: {wire:?}");
                assert!(wire.shut || wire.to_peer.len() == *said, "bytes are missing: {wire:?}");
                WHOLE.set(WHOLE.get() + usize::from(!wire.shut && *said > 0));
            }
        }
    }

    fn check_end(&self) {
        let world = self.world.borrow();
        for mate in &self.mates {
            mate.check_end();
            assert_eq!(mate.poller.membership().load(), 0);
        }
        assert!(loads(self.group).iter().all(|load| *load == 0), "{:?}", loads(self.group));
        assert_eq!(world.opened, world.ended, "every opened socket was closed");
        let panicked = self.mates.iter().any(|mate| !mate.owners.is_empty());
        for (wire, _) in &self.peers {
            let fate = wire.fate();
            assert!(!matches!(fate, Fate::Loose | Fate::Watched), "{wire:?}");
            assert!(
                fate != Fate::Dropped || panicked,
                "only an `admit` that panics loses a connection: {wire:?}"
            );
        }
        for door in &self.doors {
            let door = door.borrow();
            assert!(!door.watched && !door.dropped, "{door:?}");
        }
        assert_eq!(messages(), 0);
    }
}

thread_local! {
    static WALKED: Cell<[usize; 4]> = const { Cell::new([0; 4]) };
    /// Sockets that were still open without any faults, and had sent everything back.
    static WHOLE: Cell<usize> = const { Cell::new(0) };
}

fn walk(seed: u64) {
    let mut walk = Walk::new(seed);
    (0..STEPS).for_each(|_| walk.step());
    let panics: usize = walk.mates.iter().map(|mate| mate.owners.len()).sum();
    let [opened, refused, broadcasts, before] = WALKED.get();
    {
        let world = walk.world.borrow();
        WALKED.set([
            opened + world.opened,
            refused + world.refused,
            broadcasts + world.broadcasts,
            before + panics,
        ]);
    }
    walk.wind_up();
}

#[test]
fn the_contract_holds_for_any_input_in_any_order() {
    if let Ok(seed) = std::env::var("POLLER_WALK_SEED") {
        return walk(seed.parse().expect("a number"));
    }
    for seed in 0..SEEDS {
        println!("POLLER_WALK_SEED={seed}");
        walk(seed);
    }
    let [opened, refused, broadcasts, panics] = WALKED.get();
    println!("{opened} sockets, {refused} refused connects, {broadcasts} broadcasts, {panics} panics");
    let (few, seeds) = (SEEDS as usize / 20, SEEDS as usize);
    let enough = opened > seeds / 2 && refused > few && broadcasts > few && panics > few;
    assert!(enough, "the walks have not covered enough");
    assert!(WHOLE.get() > seeds / 10, "only {} sockets were checked to the last byte", WHOLE.get());
}
