//! One shard, a driver that makes any allowed call in any order, and a handler that does the same.
//!
//! An input is a script from which the driver and the handler read in turn. For every script the event contract holds,
//! each action can be carried out, no byte is lost, duplicated or out of place, timeouts are neither early nor late, a
//! token of a closed socket reaches no other socket, buffers keep to their limits, each socket ends once, and all slots
//! and blocks are free at the end.
//!
//! The same input also drives two shards: one call by call, the other by `FastPath::receive`, `Connection::receive` and
//! `Connection::carry_out`. They must behave identically.

use core::time::Duration;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use lightcone_core::{
    Action, Address, AdmitError, Checked, CloseReason, Config, Connection, Context, ContractChecker,
    ErrorKind, Event, Handler, Instant, Interest, NoOutbox, Origin, Output, PollerId, Shard, Socket, Timeout,
    Timeouts, Token, WriteRate,
};

use super::tape::Tape;
use super::two_ways;
pub use super::two_ways::Broken;
use super::wire::{ACCEPTED, Memory, PEER, everything_is_back};

const OPS_MAX: usize = 250;
/// The most bytes that a handler writes in one callback.
const WRITE_MAX: usize = 300;

/// The fuzz target.
pub fn shard(data: &[u8]) {
    check(data, Fault::None);
    compare(data, Broken::No);
}

/// Drives two shards in two ways, which must behave identically.
pub fn compare(data: &[u8], broken: Broken) {
    two_ways::compare(Tape::new(data), OPS_MAX, broken);
}

/// A mutant of the engine around the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No defect.
    None,
    /// Looks up sockets by slot index only, as if tokens had no generation.
    AnyGeneration,
    /// Reports one byte fewer as sent.
    ShortSent,
    /// Delivers the last event twice.
    ClosedTwice,
    /// Drops `open`.
    OpenLost,
    /// Lets time pass without a turn.
    LateTurn,
    /// Lets the clock of the shard run ahead.
    EarlyTurn,
    /// Passes on the bytes of two receives in the wrong order.
    Swapped,
    /// Reports a send in flight as completed when it begins, so that its blocks return too early.
    EarlyLanding,
    /// Loses the byte that an event left unconsumed.
    Forgetful,
}

/// Runs the target, optionally over a mutant.
pub fn check(data: &[u8], fault: Fault) {
    let mut tape = Tape::new(data);
    let config = config(&mut tape);
    let mut memory = Memory::new(&config);
    let tape = Rc::new(RefCell::new(tape));
    let mut drive = Drive::new(&mut memory, &config, &tape, fault);
    for _ in 0..OPS_MAX {
        if tape.borrow().is_over() {
            break;
        }
        drive.step();
    }
    tape.borrow_mut().rest();
    drive.end_in_peace();
    drive.account();
}

fn config(tape: &mut Tape<'_>) -> Config {
    let mut span = |millis| Some(Duration::from_millis(millis)).filter(|_| tape.one_in(2));
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
        sockets: 1 + tape.below(4),
        block_size: 64,
        input_blocks: 1 + tape.below(3),
        output_blocks: 1 + tape.below(6),
        output_limit: 1 + tape.below(3),
        receive_size: tape.pick(&[64, 128, 256]),
        receive_blocks: tape.below(3),
        generation_seed: tape.pick(&[0, u32::MAX - 3, 1 << 31]),
        timeouts,
        ..Config::DEVICE
    }
}

/// Returns one byte of a stream that has no short period.
const fn pattern(at: usize) -> u8 {
    ((at as u32).wrapping_mul(0x9E37_79B1).rotate_left(11) & 0xff) as u8
}

fn is_pattern(bytes: &[u8], from: usize) -> bool {
    bytes.iter().enumerate().all(|(i, byte)| *byte == pattern(from + i))
}

/// The records of the handler and the driver for one socket, to compare them.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    /// Bytes that the driver received, and bytes that the handler consumed.
    received: usize,
    consumed: usize,
    /// Bytes that the handler queued, and bytes that the driver sent.
    queued: usize,
    sent: usize,
    /// Bytes that the handler holds back, after those that are queued.
    held: usize,
    deadline: Option<Instant>,
    /// Whether its last event has been delivered.
    over: bool,
}

impl Ledger {
    /// Counts what was held back as queued.
    fn release(&mut self) {
        self.queued += core::mem::take(&mut self.held);
    }

    /// Returns the offset of the next byte that the handler writes.
    const fn end(&self) -> usize {
        self.queued + self.held
    }
}

#[derive(Debug, Default)]
struct Book {
    ledgers: Vec<Ledger>,
    opened: u64,
    refused: u64,
    closed: u64,
    admits: bool,
    /// Whether to do only what ends soon.
    peace: bool,
    /// Only try to send this number of bytes at each `writable`.
    stubborn: Option<usize>,
}

/// A handler that follows the script; after its end, it brings every socket to an end.
struct App<'t> {
    tape: Rc<RefCell<Tape<'t>>>,
    book: Rc<RefCell<Book>>,
    config: Config,
    forgetful: bool,
}

impl Handler for App<'_> {
    type Data = usize;
    type Message = u8;

    fn admit(&mut self, _: Origin, peer: &Address) -> Option<usize> {
        assert_eq!(*peer, PEER);
        let mut book = self.book.borrow_mut();
        book.admits.then(|| {
            book.ledgers.push(Ledger::default());
            book.ledgers.len() - 1
        })
    }

    fn event(&mut self, socket: &mut Socket<'_, usize>, event: Event<u8>, _: &mut Context<'_, u8>) {
        let mut book = self.book.borrow_mut();
        let (peace, stubborn) = (book.peace, book.stubborn);
        let id = *socket.data;
        match event {
            Event::Open => book.opened += 1,
            Event::Refused(_) => book.refused += 1,
            Event::Close(_) => book.closed += 1,
            Event::Receive
            | Event::Writable
            | Event::Sent
            | Event::PeerClosed
            | Event::Timeout
            | Event::Shutdown
            | Event::Message(_)
            | Event::Room(_) => {}
        }
        let ledger = &mut book.ledgers[id];
        note_release(socket, ledger);
        self.honest(socket, event, ledger);
        if let Some(n) = stubborn {
            let bytes: Vec<u8> = (ledger.end()..ledger.end() + n).map(pattern).collect();
            if event == Event::Writable && socket.send(&bytes).is_ok() {
                ledger.release();
                ledger.queued += n;
            }
            return;
        }
        let tape = &mut *self.tape.borrow_mut();
        let choice = tape.byte();
        let there = socket.bytes().len();
        let n = [there, 0, there / 2, there.min(1)][choice & 3];
        socket.consume(n);
        ledger.consumed += n;
        if self.forgetful && n < there {
            socket.consume(1);
        }
        if choice >> 2 & 3 > 0 {
            let (_, mut output, _) = socket.split();
            write(&mut output, ledger, choice >> 2 & 3, tape);
        }
        rarer(socket, choice >> 4, tape, ledger);
        if peace {
            socket.split().1.release();
            socket.resume();
            socket.set_deadline(None);
            ledger.deadline = None;
        }
        if peace && (socket.peer_closed() || event == Event::Shutdown) {
            socket.close();
        }
        note_release(socket, ledger);
    }
}

impl App<'_> {
    /// Checks that the event agrees with the state of the socket.
    fn honest(&self, socket: &Socket<'_, usize>, event: Event<u8>, ledger: &mut Ledger) {
        assert!(!ledger.over, "{event:?} after the last event");
        assert!(is_pattern(socket.bytes(), ledger.consumed), "the input is not what was sent");
        assert!(socket.bytes().len() <= ledger.received - ledger.consumed, "bytes from nowhere");
        assert!(socket.bytes().len() <= socket.capacity());
        assert_eq!(
            socket.queued(),
            ledger.queued - ledger.sent,
            "the queue holds what was queued and not sent"
        );
        let limit = self.config.output_limit.min(self.config.output_blocks) * self.config.block_size;
        assert!(socket.queued() <= limit, "more queued than is allowed");
        let timeouts = &self.config.timeouts;
        match event {
            Event::Sent => assert_eq!(socket.queued(), 0),
            Event::Receive => assert!(!socket.bytes().is_empty()),
            Event::Writable => assert!(socket.queued() <= limit / 2, "`writable` above the low water mark"),
            Event::Timeout => {
                let at = ledger.deadline.take().expect("a timeout without a deadline");
                assert!(at <= socket.now(), "a timeout {:?} early", at - socket.now());
            }
            Event::Close(CloseReason::TimedOut(which)) => {
                let set = match which {
                    Timeout::Connect => timeouts.connect,
                    Timeout::FirstByte => timeouts.first_byte,
                    Timeout::Idle => timeouts.idle,
                    Timeout::WriteStall => timeouts.write_stall,
                    Timeout::Drain => timeouts.drain,
                    Timeout::WriteRate => timeouts.write_rate.map(|rate| rate.per),
                    other => panic!("an unknown timeout: {other}"),
                };
                assert!(set.is_some(), "a timeout that is switched off: {which}");
            }
            Event::Open
            | Event::PeerClosed
            | Event::Shutdown
            | Event::Message(_)
            | Event::Room(_)
            | Event::Refused(_)
            | Event::Close(_) => {}
        }
        if matches!(event, Event::Close(_) | Event::Refused(_)) {
            assert!(socket.is_closing());
            ledger.over = true;
            ledger.deadline = None;
        }
    }
}

/// Records that a tail is not held back any more, if there was one: it precedes whatever is written next.
fn note_release(socket: &mut Socket<'_, usize>, ledger: &mut Ledger) {
    if !socket.split().1.is_holding() {
        ledger.release();
    }
}

/// Writes in one of several ways.
fn write(output: &mut Output<'_>, ledger: &mut Ledger, way: usize, tape: &mut Tape<'_>) {
    let from = ledger.end();
    let want = tape.byte() * 2 % WRITE_MAX;
    let bytes: Vec<u8> = (from..from + want).map(pattern).collect();
    let (room, queued) = (output.room(), output.queued());
    let n = match (way, tape.below(3)) {
        (1, 0) => output.send(&bytes).map_or(0, |()| want),
        (1, _) => output.send_some(&bytes),
        (2, _) => {
            let want = want.min(64);
            let used = tape.below(want + 1);
            output.reserve(want).map(|to| to.copy_from_slice(&bytes[..want])).map_or(0, |()| {
                output.commit(used);
                used
            })
        }
        (_, 0) => {
            let mark = output.mark();
            let _ = output.send_some(&vec![0xEE; want]);
            output.rewind(mark);
            assert_eq!((output.room(), output.queued()), (room, queued), "rewound");
            0
        }
        _ => {
            let to = output.spare();
            let n = to.len().min(want);
            to[..n].copy_from_slice(&bytes[..n]);
            output.commit(n);
            n
        }
    };
    let before = ledger.queued;
    if !output.is_holding() {
        ledger.release();
    }
    assert!(n == 0 || ledger.held == 0, "bytes were queued after a tail that is still held back");
    assert_eq!(output.queued(), queued + (ledger.queued - before) + n);
    assert!(n <= room, "more was taken than there was room for");
    ledger.queued += n;
}

/// Queues bytes and holds them back, perhaps with a block after them that was reserved and not written to.
fn hold(output: &mut Output<'_>, tape: &mut Tape<'_>, ledger: &mut Ledger) {
    ledger.release(); // `seal` releases an earlier tail
    let mark = output.seal();
    let want = [64, 128, tape.byte()][tape.below(3)]; // whole blocks too: then the reserved one is a new one
    let bytes: Vec<u8> = (ledger.queued..ledger.queued + want).map(pattern).collect();
    let n = output.send_some(&bytes);
    if tape.one_in(2) {
        let _ = output.spare();
        output.commit(0);
    }
    output.hold(mark);
    assert_eq!(output.is_holding(), n > 0);
    ledger.held = n;
}

fn rarer(socket: &mut Socket<'_, usize>, choice: usize, tape: &mut Tape<'_>, ledger: &mut Ledger) {
    match choice {
        9 => socket.pause(),
        10 => socket.resume(),
        5 => hold(&mut socket.split().1, tape, ledger),
        6 => {
            note_release(socket, ledger);
            socket.split().1.discard();
            ledger.held = 0;
        }
        7 => socket.split().1.release(),
        11 => socket.split().1.request_writable(),
        15 => socket.split().1.request_writable_for(tape.byte() * 2),
        12 => {
            let ahead = tape.pick(&[0, 3, 500, 100_000]);
            let at = socket.now() + Duration::from_millis(ahead);
            socket.set_deadline(Some(at));
            ledger.deadline = Some(at).filter(|_| !ledger.over);
        }
        13 => {
            socket.set_deadline(None);
            ledger.deadline = None;
        }
        14 => match tape.below(4) {
            0 => socket.finish(),
            1 => socket.linger(),
            2 => socket.abort(),
            _ => socket.close(),
        },
        _ => {}
    }
}

/// Sits between the shard and the checker, and injects faults into events.
struct Between<'t> {
    checker: ContractChecker<App<'t>>,
    fault: Fault,
}

impl Handler for Between<'_> {
    type Data = Checked<usize>;
    type Message = u8;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        self.checker.admit(origin, peer)
    }

    fn wants_sent(&self) -> bool {
        self.checker.wants_sent()
    }

    fn event(&mut self, socket: &mut Socket<'_, Self::Data>, event: Event<u8>, cx: &mut Context<'_, u8>) {
        if self.fault == Fault::OpenLost && event == Event::Open {
            return;
        }
        self.checker.event(socket, event, cx);
        if self.fault == Fault::ClosedTwice && matches!(event, Event::Close(_)) {
            self.checker.event(socket, event, cx);
        }
    }
}

/// The driver's view of a socket.
#[derive(Clone, Copy, Debug)]
struct Line {
    id: usize,
    connecting: bool,
    next: Action,
    /// The number of bytes in flight.
    flight: Option<usize>,
    ended: bool,
}

struct Drive<'s, 't> {
    shard: Shard<'s, Checked<usize>>,
    handler: Between<'t>,
    tape: Rc<RefCell<Tape<'t>>>,
    book: Rc<RefCell<Book>>,
    lines: BTreeMap<Token, Line>,
    stale: Vec<Token>,
    config: Config,
    now: u64,
    pull: bool,
    completes: bool,
    stopped: bool,
    fault: Fault,
}

type ShardConnection<'p, 's> = Connection<'p, 's, Checked<usize>>;

impl<'s, 't> Drive<'s, 't> {
    fn new(
        memory: &'s mut Memory<Checked<usize>>,
        config: &Config,
        tape: &Rc<RefCell<Tape<'t>>>,
        fault: Fault,
    ) -> Self {
        let book = Rc::new(RefCell::new(Book { admits: true, ..Book::default() }));
        let now = tape.borrow_mut().pick(&[0, 12_345, u64::from(u32::MAX) - 3_000, (1 << 31) - 1_000]);
        let pull = tape.borrow_mut().one_in(2);
        let completes = tape.borrow_mut().one_in(2);
        let forgetful = fault == Fault::Forgetful;
        let app = App { tape: tape.clone(), book: book.clone(), config: *config, forgetful };
        Self {
            shard: Shard::new(memory.storage(), config, Instant::from_millis(now)).unwrap(),
            handler: Between { checker: ContractChecker::new(app), fault },
            tape: tape.clone(),
            book,
            lines: BTreeMap::new(),
            stale: Vec::new(),
            config: *config,
            now,
            pull,
            completes,
            stopped: false,
            fault,
        }
    }

    fn byte(&self) -> usize {
        self.tape.borrow_mut().byte()
    }

    fn below(&self, n: usize) -> usize {
        self.tape.borrow_mut().below(n)
    }

    fn line(&mut self, token: Token) -> &mut Line {
        self.lines.get_mut(&token).expect("a known socket")
    }

    fn ledger(&self, line: Line) -> Ledger {
        self.book.borrow().ledgers[line.id]
    }

    /// Looks up a socket by its token, or as the mutant does.
    fn look_up(&mut self, token: Token) -> Option<ShardConnection<'_, 's>> {
        let by_place = self.shard.next_in_use(token.index()).filter(|found| found.index() == token.index());
        let token = if self.fault == Fault::AnyGeneration { by_place? } else { token };
        self.shard.connection(token)
    }

    fn step(&mut self) {
        match self.below(16) {
            0 => self.accept(),
            1 => self.dial(),
            2..5 => self.pass_time(),
            5..7 => self.on_some_line(Self::surprise),
            7 => self.use_a_stale_token(),
            8 if self.below(8) == 7 => self.stop(),
            9 => self.comes_to_rest(),
            _ => self.on_some_line(Self::obey),
        }
        assert_eq!(self.shard.in_use(), self.lines.len(), "the shard counts its sockets wrongly");
    }

    fn on_some_line(&mut self, what: fn(&mut Self, Token, Line)) {
        let n = self.below(self.lines.len());
        if let Some((token, line)) = self.lines.iter().nth(n).map(|(token, line)| (*token, *line)) {
            what(self, token, line);
        }
    }

    fn accept(&mut self) {
        let room = self.shard.has_room();
        let admits = self.below(8) < 7;
        self.book.borrow_mut().admits = admits;
        match self.shard.admit(&mut self.handler, ACCEPTED, &PEER) {
            Ok(token) => {
                self.begins(token, false);
                if self.below(4) < 3 {
                    self.tell(token, |_| {});
                }
            }
            Err(AdmitError::Full | AdmitError::Stopping) => {
                assert!(!room, "the refusal disagrees with `has_room`");
            }
            Err(_) => assert!(room && !admits),
        }
    }

    fn dial(&mut self) {
        let room = self.shard.has_room();
        let token = self.shard.reserve();
        assert_eq!(token.is_some(), room, "`reserve` disagrees with `has_room`");
        let Some(token) = token else { return };
        let choice = self.below(8);
        self.book.borrow_mut().admits = choice != 6;
        if choice == 7 {
            self.shard.release_slot(token);
            self.stale.push(token);
            return;
        }
        if self.shard.dial(&mut self.handler, token, 1, &PEER).is_ok() {
            assert!(choice != 6);
            self.begins(token, true);
            self.tell(token, |_| {});
        } else {
            assert_eq!(choice, 6);
            self.stale.push(token);
        }
    }

    fn begins(&mut self, token: Token, connecting: bool) {
        let id = self.book.borrow().ledgers.len() - 1;
        let next = Action::Wait(if connecting { Interest::WRITE } else { Interest::NONE });
        let line = Line { id, connecting, next, flight: None, ended: false };
        assert!(self.lines.insert(token, line).is_none(), "a token in use was issued again");
        assert!(!self.stale.contains(&token), "a token was issued twice");
    }

    fn use_a_stale_token(&mut self) {
        let n = self.below(self.stale.len());
        let Some(token) = self.stale.get(n).copied() else { return };
        let gone = self.shard.stats().gone;
        assert!(self.look_up(token).is_none(), "a token of a closed socket reaches another one");
        assert_eq!(self.shard.stats().gone, gone + 1, "the look-up is counted");
        assert_eq!(self.shard.dial(&mut self.handler, token, 1, &PEER), Err(AdmitError::Full));
        self.shard.release_slot(token);
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.shard.stop();
        for token in self.lines.keys().copied().collect::<Vec<_>>() {
            self.tell(token, |conn| conn.shutdown());
        }
    }

    /// Passes something to the connection of a socket and delivers what is due.
    fn tell(&mut self, token: Token, what: impl FnOnce(&mut ShardConnection<'_, 's>)) {
        let mut conn = self.shard.connection(token).expect("a socket that exists");
        what(&mut conn);
        let next = deliver(conn, &mut self.handler, self.pull, self.now);
        self.ordered(token, next);
    }

    /// Records the next action of a socket, and checks that it can be carried out. A close is carried out at once.
    fn ordered(&mut self, token: Token, next: Action) {
        let line = self.line(token);
        line.next = next;
        let line = *line;
        match next {
            Action::Close => {
                assert_eq!(line.flight, None, "closed with a send in flight");
                assert!(self.ledger(line).over, "closed without the last event");
                self.lines.remove(&token);
                self.stale.push(token);
                assert!(self.shard.connection(token).is_none(), "closed, but its connection still exists");
            }
            Action::Send => assert_eq!(line.flight, None, "a second send in flight"),
            Action::CancelSend => assert!(line.flight.is_some(), "nothing to cancel"),
            Action::ShutdownWrite => {
                assert_eq!(self.outputs(token, line), 0, "shut down before all has left");
            }
            Action::Wait(interest) => {
                let next = self.shard.next_deadline();
                let at_once = next.is_some_and(|next| next.as_millis() <= self.now);
                if interest.reads() && !at_once && self.room(token) == 0 {
                    // Other sockets have taken the last block. Running the connection must return a wait without reading.
                    let conn = self.shard.connection(token).expect("still open");
                    let again = deliver(conn, &mut self.handler, self.pull, self.now);
                    assert!(
                        !again.waits_for().is_some_and(Interest::reads),
                        "the connection requests reads without room"
                    );
                    self.line(token).next = again;
                }
            }
        }
    }

    fn room(&mut self, token: Token) -> usize {
        let room = self.shard.connection(token).expect("still open").room();
        assert!(room <= self.config.receive_size.max(self.config.block_size));
        room
    }

    /// Checks the queued output against what the handler wrote. Returns its length.
    fn outputs(&mut self, token: Token, line: Line) -> usize {
        let conn = self.shard.connection(token).expect("still open");
        let mut slices = [&[][..]; 16];
        let n = conn.outputs(&mut slices);
        let bytes = slices[..n].concat();
        let ledger = &mut self.book.borrow_mut().ledgers[line.id];
        // a socket that ends releases its tail, which its handler learns of by the next event
        if bytes.len() > ledger.queued - ledger.sent {
            ledger.release();
        }
        assert_eq!(bytes.len(), ledger.queued - ledger.sent);
        assert!(is_pattern(&bytes, ledger.sent), "the output is not what was queued");
        bytes.len()
    }

    fn sent(&self, line: Line, n: usize) {
        self.book.borrow_mut().ledgers[line.id].sent += n;
    }

    /// Carries out the socket's next action, not always completely.
    fn obey(&mut self, token: Token, line: Line) {
        match line.next {
            Action::Send if self.completes => {
                let there = self.outputs(token, line);
                assert!(there > 0, "asked to send nothing");
                self.line(token).flight = Some(there);
                let early = self.fault == Fault::EarlyLanding;
                self.tell(token, |conn| {
                    conn.send_started();
                    if early {
                        conn.sent(there);
                    }
                });
            }
            Action::Send => self.send(token, line),
            Action::CancelSend => self.land(token, line),
            Action::ShutdownWrite => self.tell(token, |conn| conn.write_shut_down()),
            Action::Wait(interest) if interest.writes() && line.connecting => {
                self.line(token).connecting = false;
                if self.below(4) == 3 {
                    let error = self.error();
                    self.tell(token, |conn| conn.failed(error));
                } else {
                    self.tell(token, |conn| conn.connected());
                }
            }
            Action::Wait(interest) if interest.writes() && self.below(2) == 0 => {
                self.tell(token, |conn| conn.writable());
            }
            Action::Wait(interest) if interest.reads() && self.room(token) > 0 => self.read(token, line),
            Action::Wait(_) | Action::Close => {}
        }
    }

    fn send(&mut self, token: Token, line: Line) {
        let there = self.outputs(token, line);
        assert!(there > 0, "asked to send nothing");
        let n = match self.byte() {
            0..128 => there,
            some => some % (there + 1),
        };
        self.sent(line, n);
        let blocked = n < there && self.below(2) == 1;
        let told = if self.fault == Fault::ShortSent { n.saturating_sub(1) } else { n };
        self.tell(token, |conn| {
            if told > 0 {
                conn.sent(told);
            }
            if n == 0 || blocked {
                conn.would_block();
            }
        });
    }

    /// Completes a send in flight.
    fn land(&mut self, token: Token, line: Line) {
        let Some(most) = line.flight else { return };
        let n = most - self.below(most + 1);
        self.outputs(token, line);
        self.sent(line, n);
        self.line(token).flight = None;
        self.tell(token, |conn| conn.sent(n));
    }

    fn error(&self) -> ErrorKind {
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut, ErrorKind::Other]
            [self.below(4)]
    }

    /// Receives bytes, the end of stream, or both; on the same connection, part of the output may be sent as well.
    fn read(&mut self, token: Token, line: Line) {
        let room = self.room(token);
        let choice = self.byte();
        let n = if line.ended { 0 } else { [room, room.min(choice), choice % (room + 1), 0][choice & 3] };
        let ends = line.ended || choice >> 2 & 7 == 7;
        // Input that arrives in a staged close is discarded and must not be counted as received.
        let live = self.shard.next_open(token.index()) == Some(token);
        let from = self.ledger(line).received;
        self.book.borrow_mut().ledgers[line.id].received += if live { n } else { 0 };
        let mut bytes: Vec<u8> = (from..from + n).map(pattern).collect();
        let mut also = 0;
        if choice >> 5 & 1 == 1 && !self.completes {
            let there = self.outputs(token, line);
            also = self.below(there + 1);
        }
        self.sent(line, also);
        let cut = if choice >> 6 & 1 == 1 { self.below(n + 1) } else { n };
        let puts_off = choice >> 7 == 1 && self.below(2) == 1;
        let swapped = self.fault == Fault::Swapped && cut != n - cut;
        self.line(token).ended = ends;
        let mut conn = self.shard.connection(token).expect("still open");
        if also > 0 {
            conn.sent(also);
        }
        let (first, second) = bytes.split_at_mut(cut);
        let (first, second) = if swapped { (second, first) } else { (first, second) };
        conn.received(first);
        // The first part may have taken the last block; then there is no room at all.
        if second.len() <= conn.room() {
            conn.received(second);
        } else {
            assert_eq!(conn.room(), 0, "room is lost by receiving a part");
        }
        if ends {
            conn.peer_ended();
        }
        if puts_off {
            conn.defer();
            self.line(token).next = Action::Wait(Interest::NONE);
            return;
        }
        let next = deliver(conn, &mut self.handler, self.pull, self.now);
        self.ordered(token, next);
    }

    /// Passes something to the socket that it did not wait for.
    fn surprise(&mut self, token: Token, line: Line) {
        match self.below(10) {
            0 => {
                let error = self.error();
                self.line(token).connecting = false;
                self.tell(token, |conn| conn.failed(error));
            }
            1 => self.tell(token, |conn| conn.writable()),
            2 => self.tell(token, |_| {}),
            3 => self.shard.connection(token).expect("still open").defer(),
            4 if line.flight.is_some() => self.land(token, line),
            5 if self.stopped => self.tell(token, |conn| conn.shutdown()),
            6 => self.tell(token, |conn| conn.abort_with(CloseReason::HandlerPanic)),
            7 => self.tell(token, |conn| conn.close()),
            _ => self.message(token),
        }
    }

    fn message(&mut self, token: Token) {
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        let mut conn = self.shard.connection(token).expect("still open");
        match conn.message(5, &mut self.handler, &mut cx) {
            Ok(next) => self.ordered(token, next),
            Err(message) => {
                assert_eq!(message, 5);
                self.tell(token, |_| {});
            }
        }
    }

    fn pass_time(&mut self) {
        let next = self.shard.next_deadline().map(Instant::as_millis);
        let now = self.now;
        let at = match self.below(8) {
            0 => now,
            1 => now + 1,
            2 => now + 10 * self.byte() as u64,
            3 => now + 100_000,
            4 => next.map_or(now, |next| next.saturating_sub(1).clamp(now, now + 100_000)),
            _ => next.map_or(now, |next| next.min(now + 100_000)),
        };
        self.turn(at);
    }

    /// Runs one turn at this time for all ready sockets.
    fn turn(&mut self, now: u64) {
        let due = self.shard.next_deadline().map(Instant::as_millis);
        self.now = now;
        let clock = now + if self.fault == Fault::EarlyTurn { 5_000 } else { 0 };
        if self.fault == Fault::LateTurn {
            // The mutant runs no turn; the check must detect expired deadlines.
            return self.nobody_is_late();
        }
        self.shard.tick(Instant::from_millis(clock));
        for turns in 0.. {
            assert!(turns < 500, "a turn without an end");
            let Some(token) = self.shard.next_ready() else { break };
            assert!(due.is_some_and(|due| due <= clock), "due before the deadline that was returned");
            let line = *self.line(token);
            let reads = matches!(line.next, Action::Wait(interest) if interest.reads() && !line.connecting);
            if reads && self.book.borrow().stubborn.is_none() && self.below(4) == 3 && self.room(token) > 0 {
                self.read(token, line);
            } else {
                self.tell(token, |_| {});
            }
        }
        self.nobody_is_late();
    }

    /// Checks that without new external events there is soon nothing left to do, even while handlers request more than
    /// there is.
    fn comes_to_rest(&mut self) {
        let n = self.tape.borrow_mut().pick(&[1, 65, 129, 200]);
        self.book.borrow_mut().stubborn = Some(n);
        for turns in 0.. {
            let at_once = self.shard.next_deadline().is_some_and(|next| next.as_millis() <= self.now);
            if !at_once {
                break;
            }
            assert!(turns < 100, "the shard never rests");
            self.turn(self.now);
        }
        self.book.borrow_mut().stubborn = None;
    }

    /// Checks that every expired deadline has been delivered, except to sockets that get no more events.
    fn nobody_is_late(&self) {
        for (token, line) in &self.lines {
            let late = self.ledger(*line).deadline.is_some_and(|at| at.as_millis() < self.now);
            let again = self.shard.next_deadline().is_some_and(|next| next.as_millis() <= self.now);
            let live = self.shard.next_open(token.index()) == Some(*token);
            assert!(!late || again || !live, "a timeout is late: {line:?}");
        }
    }

    /// From here on, the handler consumes its input and peers end their streams: that alone must end every socket.
    fn end_in_peace(&mut self) {
        self.book.borrow_mut().peace = true;
        for _ in 0..80 {
            for token in self.lines.keys().copied().collect::<Vec<_>>() {
                self.come_to_an_end(token);
            }
            self.turn(self.now);
        }
        assert!(self.lines.is_empty(), "stuck: {:?}", self.lines);
    }

    fn come_to_an_end(&mut self, token: Token) {
        let Some(line) = self.lines.get(&token).copied() else { return };
        if line.flight.is_some() {
            return self.land(token, line);
        }
        let Action::Wait(interest) = line.next else { return self.obey(token, line) };
        if line.connecting {
            self.line(token).connecting = false;
            return self.tell(token, |conn| conn.connected());
        }
        if interest.writes() {
            return self.tell(token, |conn| conn.writable());
        }
        if interest.reads() && self.room(token) > 0 {
            return self.tell(token, |conn| conn.peer_ended());
        }
        // The socket may be paused, or wait for something that only the handler can do.
        self.message(token);
    }

    fn account(&mut self) {
        assert_eq!(self.handler.checker.alive(), 0, "a socket without its last event");
        self.turn(self.now);
        self.turn(self.now);
        assert_eq!(self.shard.next_deadline(), None, "something is left to do");
        assert_eq!(self.shard.in_use(), 0);
        let stats = *self.shard.stats();
        {
            let book = self.book.borrow();
            let sum = |what: fn(&Ledger) -> usize| book.ledgers.iter().map(what).sum::<usize>() as u64;
            assert!(book.ledgers.iter().all(|ledger| ledger.over && ledger.consumed <= ledger.received));
            assert_eq!(stats.bytes_out, sum(|ledger| ledger.sent));
            assert_eq!(stats.bytes_lost, sum(|ledger| ledger.queued - ledger.sent));
            assert_eq!(stats.closed_total(), book.closed);
            assert_eq!(stats.refused, book.refused);
            assert_eq!(stats.accepted + stats.connected, book.opened);
            assert_eq!(book.closed, book.opened, "each open has its close");
        }
        for token in &self.stale {
            assert!(self.shard.connection(*token).is_none());
        }
        self.book.borrow_mut().admits = true;
        everything_is_back(&mut self.shard, &mut self.handler);
    }
}

/// Delivers the events due at a connection, either pushed or pulled.
fn deliver(mut conn: ShardConnection<'_, '_>, handler: &mut Between<'_>, pull: bool, now: u64) -> Action {
    let mut outbox = NoOutbox;
    let mut cx = Context::new(Instant::from_millis(now), None, PollerId(0), &mut outbox);
    if !pull {
        return conn.run(handler, &mut cx);
    }
    while let Some((event, mut socket)) = conn.next_event() {
        handler.event(&mut socket, event, &mut cx);
    }
    conn.finish()
}
