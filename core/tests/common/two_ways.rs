//! Applies the same steps to two shards: one is driven call by call, with a plain loop over its actions; the other by
//! `FastPath::receive`, `Connection::receive` and `Connection::carry_out`. After every step both must be in the same state.
//!
//! Used by the tests of core with random numbers, and by the fuzz target `shard` with its input.

use core::cell::{Cell, RefCell};
use core::mem::MaybeUninit;
use core::time::Duration;
use lightcone_core::life::State;
use lightcone_core::{
    Action, Address, Calls, Checked, CloseReason, Config, Connection, Context, ContextCalls, ContractChecker,
    ErrorKind, Event, FreeBlocks, Handler, Instant, Interest, ListenerId, NoOutbox, Origin, PollerId,
    SENDS_IN_A_ROW, Sent, Settled, Shard, Slot, Socket, Stats, Storage, Timeouts, Token, UnixId, WriteRate,
};
use std::collections::BTreeMap;
use std::rc::Rc;

const PEER: Address = Address::Unix(UnixId(7));
const ACCEPTED: Origin = Origin::Accepted { listener: ListenerId(0) };

/// A source of decisions. Towards the end of its input it returns the defaults only, so that every walk ends.
pub(crate) trait Numbers: Copy {
    /// Returns a number below `n`, which is at most 256; at the end of the input always 0.
    fn below(&mut self, n: usize) -> usize;

    /// Returns the position in the source, to compare how much was consumed.
    fn position(&self) -> u64;

    /// Returns `true` once in `n` times; at the end of the input never.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// Returns one of these values; at the end of the input the first.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A deliberate defect of the fused side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// No defect.
    No,
    /// It ignores that sending is possible again.
    Deaf,
    /// It treats every partial send as complete.
    Hasty,
}

/// How a side is driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// By `FastPath::receive`, `Connection::receive` and `Connection::carry_out`.
    Fused,
    /// By `Connection::received`, `Connection::run` and a plain loop.
    Run,
    /// By `Connection::received`, `Connection::next_event`, `Connection::finish` and a plain loop.
    Pull,
}

/// One observable step of a side.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Did {
    Event { id: usize, event: Event<u32>, bytes: Vec<u8>, queued: usize, room: usize },
    Room(usize),
    Send(Vec<u8>, Sent),
    ShutdownWrite(Result<(), ErrorKind>),
    Cancel(Option<usize>),
}

/// The state that the handler and the calls of one side share.
struct Book<N> {
    numbers: Cell<N>,
    log: RefCell<Vec<Did>>,
    wants_sent: Cell<bool>,
}

impl<N: Numbers> Book<N> {
    fn below(&self, n: usize) -> usize {
        let mut numbers = self.numbers.get();
        let number = numbers.below(n);
        self.numbers.set(numbers);
        number
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn note(&self, did: Did) {
        self.log.borrow_mut().push(did);
    }
}

/// How often a handler does a rarer thing, and how often it ends a socket: once in this number of events.
#[derive(Clone, Copy)]
struct Temper {
    rare: usize,
    ends: usize,
}

/// A handler driven by its numbers.
struct App<N> {
    book: Rc<Book<N>>,
    temper: Temper,
    admitted: usize,
}

impl<N: Numbers> Handler for App<N> {
    type Data = usize;
    type Message = u32;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<usize> {
        self.admitted += 1;
        (!self.book.one_in(8)).then_some(self.admitted)
    }

    fn wants_sent(&self) -> bool {
        self.book.wants_sent.get()
    }

    fn event(&mut self, socket: &mut Socket<'_, usize>, event: Event<u32>, _: &mut Context<'_, u32>) {
        let (id, bytes) = (*socket.data, socket.bytes().to_vec());
        let (queued, room) = (socket.queued(), socket.room());
        let there = bytes.len();
        self.book.note(Did::Event { id, event, bytes, queued, room });
        let n = match self.book.below(16) {
            0..12 => there,
            12 => 0,
            13 => there / 2,
            14 => there.min(1),
            _ => self.book.below(256).min(there),
        };
        socket.consume(n);
        self.write(socket);
        if self.book.one_in(self.temper.rare) {
            self.rarer(socket);
        } else if socket.is_paused() && self.book.one_in(2) || matches!(event, Event::Message(_)) {
            socket.resume();
        }
        if self.book.one_in(self.temper.ends) {
            match self.book.below(4) {
                0 => socket.finish(),
                1 => socket.linger(),
                2 => socket.abort(),
                _ => socket.close(),
            }
        }
        if socket.peer_closed() && self.book.one_in(2) {
            socket.close();
        }
    }
}

impl<N: Numbers> App<N> {
    fn write(&self, socket: &mut Socket<'_, usize>) {
        let way = self.book.below(12);
        if way < 3 {
            return;
        }
        let want = match way {
            3..7 => 1 + self.book.below(20),
            7..9 => self.book.below(150),
            _ => 2 * self.book.below(150),
        };
        let bytes: Vec<u8> = (0..want).map(|at| (at * 7 + want) as u8).collect();
        let (_, mut output, _) = socket.split();
        match way {
            9 => drop(output.send_some(&bytes)),
            10 => {
                // A reserved block usually stays unused.
                let used = self.book.below(want.min(64) + 1) * self.book.below(2);
                if let Ok(to) = output.reserve(want.min(64)) {
                    to.copy_from_slice(&bytes[..want.min(64)]);
                    output.commit(used);
                }
            }
            11 => {
                let mark = output.mark();
                let _ = output.send(&bytes);
                if self.book.below(3) > 0 {
                    output.rewind(mark);
                }
            }
            _ => drop(output.send(&bytes)),
        }
    }

    fn rarer(&self, socket: &mut Socket<'_, usize>) {
        match self.book.below(10) {
            0 => self.book.wants_sent.set(!self.book.wants_sent.get()),
            1 => socket.pause(),
            2 => socket.resume(),
            3 => socket.split().1.request_writable(),
            4 => socket.split().1.request_writable_for(2 * self.book.below(150)),
            5 => socket.set_deadline(None),
            6 => {
                let _ = socket.split().1.spare();
            }
            7 => socket.set_deadline(Some(Instant::from_millis(1))),
            _ => {
                let ahead = [0, 3, 500, 100_000][self.book.below(4)];
                let at = socket.now() + Duration::from_millis(ahead);
                socket.set_deadline(Some(at));
            }
        }
    }
}

/// The calls of one socket, with results that a network might return.
struct Line<'a, N> {
    book: &'a Book<N>,
    flight: &'a mut Option<usize>,
    completes: bool,
    hasty: bool,
    now: u64,
    outbox: NoOutbox,
}

impl<N: Numbers> Line<'_, N> {
    fn send_bytes(&mut self, bytes: Vec<u8>) -> Sent {
        assert!(!bytes.is_empty(), "asked to send nothing");
        assert_eq!(*self.flight, None, "a second send in flight");
        let most = bytes.len();
        let sent = match self.book.below(12) {
            6 | 7 => match self.book.below(256) % most {
                0 => Sent::WouldBlock,
                n => Sent::Bytes(n),
            },
            8 => Sent::WouldBlock,
            9 if self.book.one_in(6) => Sent::Failed(ErrorKind::BrokenPipe),
            9.. if self.completes => Sent::InFlight,
            _ => Sent::Bytes(most),
        };
        if sent == Sent::InFlight {
            *self.flight = Some(most);
        }
        self.book.note(Did::Send(bytes, sent));
        if self.hasty && matches!(sent, Sent::Bytes(_)) { Sent::Bytes(most) } else { sent }
    }
}

impl<N: Numbers> Calls for Line<'_, N> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.send_bytes(bytes.to_vec())
    }

    fn send_vectored(&mut self, pieces: &[&[u8]]) -> Sent {
        self.send_bytes(pieces.concat())
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        let result = if self.book.one_in(12) { Err(ErrorKind::ConnectionReset) } else { Ok(()) };
        self.book.note(Did::ShutdownWrite(result));
        result
    }

    fn cancel_send(&mut self) -> Option<usize> {
        let most = self.flight.expect("nothing to cancel");
        let sent = self.book.one_in(2).then(|| self.book.below(256).min(most));
        self.book.note(Did::Cancel(sent));
        if sent.is_some() {
            *self.flight = None;
        }
        sent
    }
}

impl<N: Numbers> ContextCalls<u32> for Line<'_, N> {
    fn context(&mut self) -> Context<'_, u32> {
        Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut self.outbox)
    }
}

/// What a connection is passed before it receives bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Writable,
    Connected,
    Failed(ErrorKind),
    Ended,
    Shutdown,
    Close,
    Cut(CloseReason),
    Sent(usize),
    PutOff,
    /// The driver pulls one event.
    Pulled,
}

/// The content of one step for one socket.
#[derive(Clone, Debug, Default)]
struct Deed {
    /// Bytes received first.
    first: Vec<u8>,
    told: Vec<Told>,
    /// Bytes received last, as far as there is room for them.
    bytes: Vec<u8>,
}

type Data = Checked<usize>;

/// One shard, its handler, and the way it is driven.
struct Side<'m, N> {
    shard: Shard<'m, Data>,
    handler: ContractChecker<App<N>>,
    book: Rc<Book<N>>,
    flights: BTreeMap<Token, usize>,
    way: Way,
    completes: bool,
    broken: Broken,
    now: u64,
}

/// The observable state of a side after a step.
#[derive(PartialEq, Eq, Debug)]
struct View {
    stats: Stats,
    free: FreeBlocks,
    in_use: usize,
    has_room: bool,
    next_deadline: Option<Instant>,
    flights: Vec<(Token, usize)>,
    /// For each socket: its state, the room for receiving, and the queued bytes.
    sockets: Vec<(Token, State, usize, Vec<u8>)>,
}

/// The memory of a shard.
struct Memory {
    slots: Vec<MaybeUninit<Slot<Data>>>,
    bytes: Vec<u8>,
}

impl Memory {
    fn new(config: &Config) -> Self {
        let slots = (0..config.sockets).map(|_| MaybeUninit::uninit()).collect();
        Self { slots, bytes: vec![0xA5; config.memory()] }
    }
}

impl<'m, N: Numbers> Side<'m, N> {
    /// Passes a deed to a socket, delivers what is due, and carries out the resulting actions.
    fn tell(&mut self, token: Token, deed: &Deed) -> Settled {
        let (mut first, mut bytes) = (deed.first.clone(), deed.bytes.clone());
        // Bytes alone go to the usual connection, as in the poller.
        if self.way == Way::Fused && first.is_empty() && deed.told.is_empty() && !bytes.is_empty() {
            return self.receive(token, &mut bytes);
        }
        let mut conn = self.shard.connection(token).expect("a socket that exists");
        let mut flight = self.flights.remove(&token);
        if !first.is_empty() {
            first.truncate(conn.room());
            conn.received(&mut first);
        }
        for told in &deed.told {
            match *told {
                Told::Writable if self.broken == Broken::Deaf => {}
                Told::Writable => conn.writable(),
                Told::Connected => conn.connected(),
                Told::Failed(error) => conn.failed(error),
                Told::Ended => conn.peer_ended(),
                Told::Shutdown => conn.shutdown(),
                Told::Close => conn.close(),
                Told::Cut(reason) => conn.abort_with(reason),
                Told::Sent(n) => {
                    flight = None;
                    conn.sent(n);
                }
                Told::PutOff => conn.defer(),
                Told::Pulled => {
                    let mut outbox = NoOutbox;
                    let now = Instant::from_millis(self.now);
                    let mut cx = Context::new(now, None, PollerId(0), &mut outbox);
                    if let Some((event, mut socket)) = conn.next_event()
                        && (event != Event::Sent || self.handler.wants_sent())
                    {
                        self.handler.event(&mut socket, event, &mut cx);
                    }
                }
            }
        }
        let room = conn.room();
        self.book.note(Did::Room(room));
        bytes.truncate(room);
        // Truncated to the room, as a driver would do: a connection panics when it is passed more than it has room for.
        let mut line = Line {
            book: &self.book,
            flight: &mut flight,
            completes: self.completes,
            hasty: self.broken == Broken::Hasty,
            now: self.now,
            outbox: NoOutbox,
        };
        let settled = match self.way {
            Way::Fused => conn.receive(&mut bytes, &mut self.handler, &mut line),
            Way::Run | Way::Pull => {
                conn.received(&mut bytes);
                let next = deliver(&mut conn, self.way, &mut self.handler, &mut line.context());
                follow(&mut conn, next, self.way, &mut self.handler, &mut line)
            }
        };
        if let Some(flight) = flight {
            self.flights.insert(token, flight);
        }
        settled
    }

    /// Passes bytes only: through the usual connection if there is one, as the poller does.
    fn receive(&mut self, token: Token, bytes: &mut Vec<u8>) -> Settled {
        let mut flight = self.flights.remove(&token);
        let mut line = Line {
            book: &self.book,
            flight: &mut flight,
            completes: self.completes,
            hasty: self.broken == Broken::Hasty,
            now: self.now,
            outbox: NoOutbox,
        };
        let usual = self.shard.fast_path(token).and_then(|usual| {
            let room = usual.room();
            let count = bytes.len().min(room);
            usual.takes(count).then(|| {
                line.book.note(Did::Room(room));
                bytes.truncate(room);
                usual.receive(bytes, &mut self.handler, &mut line)
            })
        });
        let settled = match usual {
            Some(Ok(settled)) => settled,
            Some(Err(stopped)) => {
                let mut conn = self.shard.connection(token).expect("a socket that exists");
                conn.go_on(stopped, bytes, &mut self.handler, &mut line)
            }
            None => {
                let mut conn = self.shard.connection(token).expect("a socket that exists");
                let room = conn.room();
                line.book.note(Did::Room(room));
                bytes.truncate(room);
                conn.receive(bytes, &mut self.handler, &mut line)
            }
        };
        if let Some(flight) = flight {
            self.flights.insert(token, flight);
        }
        settled
    }

    /// Delivers a message if the socket takes it.
    fn message(&mut self, token: Token) -> Option<Settled> {
        let mut conn = self.shard.connection(token).expect("a socket that exists");
        let mut flight = self.flights.remove(&token);
        let mut line = Line {
            book: &self.book,
            flight: &mut flight,
            completes: self.completes,
            hasty: self.broken == Broken::Hasty,
            now: self.now,
            outbox: NoOutbox,
        };
        let next = conn.message(5, &mut self.handler, &mut line.context()).ok();
        let settled = next.map(|next| match self.way {
            Way::Fused => conn.carry_out(next, 0, &mut self.handler, &mut line),
            Way::Run | Way::Pull => follow(&mut conn, next, self.way, &mut self.handler, &mut line),
        });
        if let Some(flight) = flight {
            self.flights.insert(token, flight);
        }
        settled
    }

    fn view(&mut self, tokens: &[Token]) -> View {
        let sockets = tokens.iter().map(|token| {
            let mut conn = self.shard.connection(*token).expect("a socket that exists");
            let state = conn.state();
            (*token, state, conn.room(), queued(&conn))
        });
        View {
            sockets: sockets.collect(),
            stats: *self.shard.stats(),
            free: self.shard.free_blocks(),
            in_use: self.shard.in_use(),
            has_room: self.shard.has_room(),
            next_deadline: self.shard.next_deadline(),
            flights: self.flights.iter().map(|(token, n)| (*token, *n)).collect(),
        }
    }

    /// Checks that a socket holds no more output blocks than its queued bytes occupy, plus one that was reserved after
    /// them.
    fn holds_no_more_than_it_needs(&mut self, tokens: &[Token]) {
        let mut most = 0;
        for token in tokens {
            let conn = self.shard.connection(*token).expect("a socket that exists");
            let pieces = conn.outputs(&mut [&[][..]; 64]);
            most += pieces + usize::from(pieces > 0);
        }
        let held = self.shard.config().output_blocks - self.shard.free_blocks().output;
        assert!(held <= most, "{held} blocks are held, but at most {most} are needed");
    }
}

fn queued(conn: &Connection<'_, '_, Data>) -> Vec<u8> {
    let mut pieces = [&[][..]; 64];
    let n = conn.outputs(&mut pieces);
    pieces[..n].concat()
}

fn deliver<N: Numbers>(
    conn: &mut Connection<'_, '_, Data>,
    way: Way,
    handler: &mut ContractChecker<App<N>>,
    cx: &mut Context<'_, u32>,
) -> Action {
    if way != Way::Pull {
        return conn.run(handler, cx);
    }
    while let Some((event, mut socket)) = conn.next_event() {
        if event != Event::Sent || handler.wants_sent() {
            handler.event(&mut socket, event, cx);
        }
    }
    conn.finish()
}

/// Restates the contract of `carry_out` as plainly as possible, for comparison.
fn follow<N: Numbers>(
    conn: &mut Connection<'_, '_, Data>,
    mut next: Action,
    way: Way,
    handler: &mut ContractChecker<App<N>>,
    line: &mut Line<'_, N>,
) -> Settled {
    let mut sends = 0;
    loop {
        match next {
            Action::Wait(interest) => return Settled::Waiting(interest),
            Action::Close => return Settled::Closed,
            Action::CancelSend => match line.cancel_send() {
                Some(n) => conn.sent(n),
                None => return Settled::Cancelling,
            },
            Action::ShutdownWrite => match line.shutdown_write() {
                Ok(()) => conn.write_shut_down(),
                Err(kind) => conn.failed(kind),
            },
            Action::Send if sends == SENDS_IN_A_ROW => {
                conn.defer();
                return Settled::Deferred;
            }
            Action::Send => {
                sends += 1;
                let bytes = queued(conn);
                let most = bytes.len();
                match line.send_bytes(bytes) {
                    Sent::Bytes(n) => {
                        conn.sent(n);
                        if n < most {
                            conn.would_block();
                        }
                    }
                    Sent::WouldBlock => conn.would_block(),
                    Sent::InFlight => conn.send_started(),
                    Sent::Failed(kind) => conn.failed(kind),
                }
            }
        }
        next = deliver(conn, way, handler, &mut line.context());
    }
}

/// The driver's view of a socket.
#[derive(Clone, Copy, Debug)]
struct Known {
    settled: Settled,
    ended: bool,
}

struct Walk<'m, N> {
    sides: [Side<'m, N>; 2],
    numbers: N,
    sockets: BTreeMap<Token, Known>,
    now: u64,
    stopped: bool,
    block_size: usize,
    /// How many bytes have arrived in all, so that the stream does not repeat.
    came: usize,
}

fn some_config<N: Numbers>(numbers: &mut N) -> Config {
    let mut span = |millis| Some(Duration::from_millis(millis)).filter(|_| numbers.one_in(2));
    let timeouts = Timeouts {
        connect: span(1_000),
        first_byte: span(700),
        idle: span(2_500),
        write_stall: span(900),
        drain: span(400),
        linger: span(300),
        write_rate: None,
    };
    // no number is drawn for it, so that earlier tapes keep their meaning
    let rated = timeouts.drain.is_some() == timeouts.linger.is_some();
    let write_rate = rated.then_some(WriteRate { bytes: 300, per: Duration::from_millis(600) });
    let timeouts = Timeouts { write_rate, ..timeouts };
    Config {
        sockets: 1 + numbers.below(3),
        block_size: 64,
        input_blocks: 1 + numbers.below(4),
        output_blocks: 1 + numbers.below(6),
        output_limit: 1 + numbers.below(3),
        receive_size: numbers.pick(&[64, 128, 256]),
        receive_blocks: numbers.below(4),
        timeouts,
        ..Config::DEVICE
    }
}

/// Drives two shards with these numbers for up to `steps` steps, and compares them after each. Returns how many bytes
/// were sent.
pub(crate) fn compare<N: Numbers>(mut numbers: N, steps: usize, broken: Broken) -> u64 {
    let config = some_config(&mut numbers);
    // A driver that pulls looks for a free input block in `finish`, one that pushes only when it needs it. So the two
    // can be compared only where a block is always free.
    let plenty =
        config.input_blocks > config.sockets && matches!(config.receive_blocks, 0 | 3) && config.sockets < 3;
    let way = if plenty && numbers.one_in(2) { Way::Pull } else { Way::Run };
    let temper = Temper { rare: numbers.pick(&[4, 20, 100]), ends: numbers.pick(&[8, 60, 200]) };
    let completes = numbers.one_in(3);
    let wants_sent = numbers.one_in(2);
    let now = numbers.pick(&[0, 12_345, u64::from(u32::MAX) - 3_000]);
    let mut memories = [Memory::new(&config), Memory::new(&config)];
    let mut ways = [(way, Broken::No), (Way::Fused, broken)].into_iter();
    let sides = memories.each_mut().map(|memory| {
        let book =
            Book { numbers: Cell::new(numbers), log: RefCell::default(), wants_sent: Cell::new(wants_sent) };
        let book = Rc::new(book);
        let (way, broken) = ways.next().expect("there are two");
        let storage = Storage { slots: &mut memory.slots, memory: &mut memory.bytes };
        Side {
            shard: Shard::new(storage, &config, Instant::from_millis(now)).expect("a valid configuration"),
            handler: ContractChecker::new(App { book: book.clone(), temper, admitted: 0 }),
            book,
            flights: BTreeMap::new(),
            way,
            completes,
            broken,
            now,
        }
    });
    let (sockets, block_size) = (BTreeMap::new(), config.block_size);
    let mut walk = Walk { sides, numbers, sockets, now, stopped: false, block_size, came: 0 };
    for _ in 0..steps {
        walk.step();
    }
    walk.end();
    walk.sides[0].shard.stats().bytes_out
}

impl<'m, N: Numbers> Walk<'m, N> {
    fn below(&mut self, n: usize) -> usize {
        self.numbers.below(n)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.numbers.one_in(n)
    }

    /// Does the same on both sides, and checks that events, calls and results are equal.
    fn both<R: PartialEq + core::fmt::Debug>(&mut self, mut what: impl FnMut(&mut Side<'m, N>) -> R) -> R {
        // Both sides start from the same position, and must have consumed the same amount afterwards.
        for side in &self.sides {
            side.book.numbers.set(self.numbers);
        }
        let [one, other] = self.sides.each_mut().map(&mut what);
        let [general, fused] = &self.sides;
        assert_eq!(*general.book.log.borrow(), *fused.book.log.borrow(), "events and calls differ");
        assert_eq!(one, other, "what is next differs");
        let [a, b] = [general, fused].map(|side| side.book.numbers.get());
        assert_eq!(a.position(), b.position(), "the handlers differ");
        self.numbers = a;
        for side in &self.sides {
            side.book.log.borrow_mut().clear();
        }
        one
    }

    fn are_alike(&mut self) {
        let tokens: Vec<Token> = self.sockets.keys().copied().collect();
        let [general, fused] = self.sides.each_mut().map(|side| side.view(&tokens));
        assert_eq!(general, fused, "the sides differ");
        for side in &mut self.sides {
            side.holds_no_more_than_it_needs(&tokens);
        }
    }

    fn tell(&mut self, token: Token, deed: &Deed) {
        let settled = self.both(|side| side.tell(token, deed));
        self.settled(token, settled);
    }

    fn settled(&mut self, token: Token, settled: Settled) {
        self.sockets.get_mut(&token).expect("a socket that is known").settled = settled;
        if settled == Settled::Closed {
            // The sides must also agree on whether the connection is closed by a reset.
            self.both(|side| side.shard.needs_reset());
            self.sockets.remove(&token);
        }
        self.are_alike();
    }

    fn some_socket(&mut self) -> Option<(Token, Known)> {
        let n = self.below(self.sockets.len().max(1));
        self.sockets.iter().nth(n).map(|(token, known)| (*token, *known))
    }

    fn step(&mut self) {
        match self.below(24) {
            20 => self.begin(),
            21..23 => self.pass_time(),
            23 if self.one_in(60) => {
                self.stopped = true;
                self.both(|side| side.shard.stop());
                for token in self.sockets.keys().copied().collect::<Vec<_>>() {
                    self.tell(token, &Deed { told: vec![Told::Shutdown], ..Deed::default() });
                }
            }
            _ if self.sockets.is_empty() => self.begin(),
            17..19 => self.surprise(),
            19 => self.message(),
            _ => self.obey(),
        }
    }

    fn begin(&mut self) {
        if self.one_in(3) {
            return self.dial();
        }
        let admitted = self.both(|side| side.shard.admit(&mut side.handler, ACCEPTED, &PEER));
        if let Ok(token) = admitted {
            self.is_new(token, Interest::READ);
        }
    }

    fn dial(&mut self) {
        let Some(token) = self.both(|side| side.shard.reserve()) else { return };
        if self.both(|side| side.shard.dial(&mut side.handler, token, 1, &PEER)).is_ok() {
            self.is_new(token, Interest::WRITE);
        }
    }

    fn is_new(&mut self, token: Token, interest: Interest) {
        let known = Known { settled: Settled::Waiting(interest), ended: false };
        assert!(self.sockets.insert(token, known).is_none(), "a token in use was issued again");
        self.are_alike();
        if interest == Interest::WRITE || !self.one_in(3) {
            self.tell(token, &Deed::default());
        }
    }

    fn pattern(&mut self, n: usize) -> Vec<u8> {
        self.came += n;
        (self.came - n..self.came).map(|at| (at.wrapping_mul(31) ^ (at >> 5)) as u8).collect()
    }

    /// Returns some bytes: mostly few, like a request; sometimes about one block, or as many as possible.
    fn some_bytes(&mut self) -> Vec<u8> {
        let n = match self.below(12) {
            0..7 => 1 + self.below(12),
            7 | 8 => self.below(256),
            9 => self.block_size - 1 + self.below(3),
            10 => 256,
            _ => 0,
        };
        self.pattern(n)
    }

    /// The driver does what the socket waits for.
    fn obey(&mut self) {
        let Some((token, known)) = self.some_socket() else { return };
        if self.sides[0].flights.contains_key(&token) && self.one_in(2) {
            return self.land(token, known);
        }
        let connecting = self.sides[0].shard.connection(token).is_some_and(|conn| conn.is_connecting());
        if connecting {
            let told = match self.below(4) {
                3 => vec![Told::Failed(ErrorKind::ConnectionRefused)],
                _ => vec![Told::Connected, Told::Writable],
            };
            let bytes = if self.one_in(2) { self.some_bytes() } else { Vec::new() };
            return self.tell(token, &Deed { told, bytes, ..Deed::default() });
        }
        let Settled::Waiting(interest) = known.settled else { return self.tell(token, &Deed::default()) };
        if interest.writes() && !self.one_in(3) {
            let bytes = if self.one_in(3) && !known.ended { self.some_bytes() } else { Vec::new() };
            return self.tell(token, &Deed { told: vec![Told::Writable], bytes, ..Deed::default() });
        }
        if interest.reads() {
            self.read(token, known);
        }
    }

    /// Completes a send in flight, possibly together with received bytes.
    fn land(&mut self, token: Token, known: Known) {
        let most = self.sides[0].flights[&token];
        let n = if self.one_in(3) { self.below(256).min(most) } else { most };
        let bytes = if self.one_in(2) && !known.ended { self.some_bytes() } else { Vec::new() };
        self.tell(token, &Deed { told: vec![Told::Sent(n)], bytes, ..Deed::default() });
    }

    fn read(&mut self, token: Token, known: Known) {
        let mut deed = Deed::default();
        if known.ended {
            return self.tell(token, &deed);
        }
        deed.bytes = self.some_bytes();
        match self.below(24) {
            12 | 13 => deed.first = self.some_bytes(),
            14 => {
                deed.first = self.some_bytes();
                deed.told = vec![Told::Pulled];
            }
            15 => deed.told = vec![Told::PutOff],
            16 => deed.told = vec![Told::Writable],
            17 | 18 => {
                deed.first = core::mem::take(&mut deed.bytes);
                deed.told = vec![Told::Ended];
                self.sockets.get_mut(&token).expect("a socket that is known").ended = true;
            }
            19 if self.one_in(3) => deed.told = vec![Told::Close],
            20 if self.one_in(3) => deed.told = vec![Told::Shutdown],
            21 if self.one_in(3) => deed.told = vec![Told::Failed(ErrorKind::Other)],
            22 if !self.sides[0].flights.contains_key(&token) => {
                let conn = self.sides[0].shard.connection(token).expect("a socket that exists");
                let most = queued(&conn).len();
                let n = if self.one_in(2) { most } else { self.below(256).min(most) };
                deed.told = vec![Told::Sent(n)];
            }
            23 => deed.told = vec![Told::Pulled],
            _ => {}
        }
        self.tell(token, &deed);
    }

    /// Passes something to a socket that it did not wait for.
    fn surprise(&mut self) {
        let Some((token, known)) = self.some_socket() else { return };
        let told = match self.below(12) {
            0..4 => vec![],
            4 => vec![Told::PutOff],
            5 => vec![Told::Pulled],
            6 if self.stopped => vec![Told::Shutdown],
            7 if self.one_in(4) => vec![Told::Close],
            8 if self.one_in(4) => vec![Told::Cut(CloseReason::HandlerPanic)],
            9 if self.one_in(4) => vec![Told::Failed(ErrorKind::ConnectionReset)],
            _ => vec![Told::Writable],
        };
        let bytes = if self.one_in(2) && !known.ended { self.some_bytes() } else { Vec::new() };
        self.tell(token, &Deed { told, bytes, ..Deed::default() });
    }

    fn message(&mut self) {
        let Some((token, _)) = self.some_socket() else { return };
        match self.both(|side| side.message(token)) {
            Some(settled) => self.settled(token, settled),
            None => self.tell(token, &Deed::default()),
        }
    }

    fn pass_time(&mut self) {
        let next = self.sides[0].shard.next_deadline().map_or(self.now, Instant::as_millis);
        let at = match self.below(8) {
            0 => self.now,
            1 => self.now + 1,
            2 => self.now + 10 * self.below(256) as u64,
            3 => self.now + 100_000,
            4 => next.saturating_sub(1),
            _ => next,
        };
        self.turn(at.clamp(self.now, self.now + 100_000));
    }

    fn turn(&mut self, now: u64) {
        self.now = now;
        for side in &mut self.sides {
            side.now = now;
        }
        self.both(|side| side.shard.tick(Instant::from_millis(now)));
        self.are_alike();
        for turns in 0.. {
            assert!(turns < 500, "a turn without an end");
            let Some(token) = self.both(|side| side.shard.next_ready()) else { return };
            let known = self.sockets[&token];
            let reads = matches!(known.settled, Settled::Waiting(interest) if interest.reads());
            if reads && self.one_in(3) {
                self.read(token, known);
            } else {
                self.tell(token, &Deed::default());
            }
        }
    }

    /// Ends all sockets, and checks that every block is free again.
    fn end(&mut self) {
        for token in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.tell(token, &Deed { told: vec![Told::Cut(CloseReason::Shutdown)], ..Deed::default() });
            // A socket with a send in flight ends only when that send has completed.
            if let Some(known) = self.sockets.get(&token).copied() {
                assert_eq!(known.settled, Settled::Cancelling);
                self.land(token, known);
            }
        }
        assert!(self.sockets.is_empty(), "stuck: {:?}", self.sockets);
        for side in &mut self.sides {
            assert_eq!(side.handler.alive(), 0, "a socket without its last event");
            let config = side.shard.config();
            let (output, input, receive) = (config.output_blocks, config.input_blocks, config.receive_blocks);
            assert_eq!(side.shard.free_blocks(), FreeBlocks { output, input, receive }, "a block is lost");
        }
    }
}
