//! Random drivers against random handlers: in any order of events the event contract holds, every byte is accounted
//! for, and nothing is left over.
//!
//! A failure prints its seed; `WALK_SEED=n cargo test -p lightcone-core --test shard walk::` runs that seed alone.

use crate::common::{self, Bench, Data, PEER, PLAIN, Random, Seen, ms, pattern, rounds};
use core::cell::{Cell, RefCell};
use core::time::Duration;
use lightcone_core::{
    Action, AdmitError, Calls, CloseReason, Config, Context, ContextCalls, ErrorKind, Event, Instant,
    Interest, NoOutbox, Output, PollerId, Sent, Settled, Socket, Timeouts, Token, WriteRate,
};
use std::collections::BTreeMap;
use std::rc::Rc;

const SEEDS: u64 = rounds(10_000);
const STEPS: usize = 200;

/// The records of the handler and the driver for one socket, to compare them.
#[derive(Clone, Copy, Debug, Default)]
struct Ledger {
    /// Bytes that the driver received, and bytes that the handler consumed, in all.
    received: usize,
    consumed: usize,
    /// Bytes that the handler queued, and bytes that the driver sent.
    queued: usize,
    sent: usize,
    /// Bytes still queued when the socket ended.
    lost: Option<usize>,
    deadline: Option<Instant>,
}

type Ledgers = Rc<RefCell<Vec<Ledger>>>;

/// How erratic the handler is: it ends the socket, or does a rarer thing, once in this number of events.
#[derive(Clone, Copy, Debug)]
struct Temper {
    ends: usize,
    rare: usize,
    /// Whether it usually consumes all of its input.
    diligent: bool,
}

fn write(output: &mut Output<'_>, from: usize, random: &mut Random) -> usize {
    let want = [random.below(12), random.below(90), random.below(300)][random.below(3)];
    let bytes: Vec<u8> = (from..from + want).map(pattern).collect();
    let (room, queued) = (output.room(), output.queued());
    let n = match random.below(5) {
        0 => output.send(&bytes).map_or(0, |()| want),
        1 => output.send_some(&bytes),
        2 => {
            let want = want.min(64);
            match output.reserve(want) {
                Ok(to) => {
                    to.copy_from_slice(&bytes[..want]);
                    let n = random.below(want + 1);
                    output.commit(n);
                    n
                }
                Err(_) => 0,
            }
        }
        3 => {
            let to = output.spare();
            let n = to.len().min(want);
            to[..n].copy_from_slice(&bytes[..n]);
            output.commit(n);
            n
        }
        _ => {
            let mark = output.mark();
            let _ = output.send_some(&vec![0xEE; want]);
            output.rewind(mark);
            assert_eq!((output.room(), output.queued()), (room, queued), "rewound");
            0
        }
    };
    assert_eq!(output.queued(), queued + n);
    assert!(n <= room);
    n
}

/// Checks that the event agrees with the state of the socket.
fn honest(socket: &Socket<'_, Data>, event: Event<u32>, ledger: &Ledger, config: &Config) {
    match event {
        Event::Sent => assert_eq!(socket.queued(), 0, "`sent` with bytes queued"),
        Event::Receive => assert!(!socket.bytes().is_empty()),
        Event::Writable => {
            let limit = config.output_limit * config.block_size;
            assert!(socket.queued() <= limit / 2, "`writable` above the low water mark");
        }
        Event::Timeout => {
            let at = ledger.deadline.expect("no deadline was set");
            assert!(at <= socket.now(), "timeout {:?} early", at - socket.now());
        }
        Event::Close(_) | Event::Refused(_) => assert!(socket.is_closing()),
        _ => {}
    }
    assert_eq!(socket.queued(), ledger.queued - ledger.sent, "the queue holds what was queued and not sent");
}

fn reaction(
    ledgers: Ledgers,
    mut random: Random,
    temper: Temper,
    config: Config,
) -> impl FnMut(&mut Socket<'_, Data>, Event<u32>) {
    move |socket, event| {
        let id = socket.data.id;
        let mut ledgers = ledgers.borrow_mut();
        if ledgers.len() <= id {
            ledgers.resize(id + 1, Ledger::default());
        }
        let ledger = &mut ledgers[id];
        honest(socket, event, ledger, &config);
        for (i, byte) in socket.bytes().iter().enumerate() {
            assert_eq!(*byte, pattern(ledger.consumed + i), "a byte of the input");
        }
        if matches!(event, Event::Close(_) | Event::Refused(_)) {
            ledger.lost = Some(socket.queued());
        }
        if event == Event::Timeout {
            ledger.deadline = None;
        }
        let there = socket.bytes().len();
        let n = if temper.diligent && !random.one_in(4) { there } else { random.below(there + 1) };
        socket.consume(n);
        ledger.consumed += n;
        if random.one_in(2) {
            let (_, mut output, _) = socket.split();
            ledger.queued += write(&mut output, ledger.queued, &mut random);
        }
        if random.one_in(temper.rare) {
            match random.below(6) {
                0 => socket.pause(),
                1 if random.one_in(2) => socket.split().1.request_writable(),
                1 => socket.split().1.request_writable_for(random.below(300)),
                2 => {
                    socket.set_deadline(None);
                    ledger.deadline = None;
                }
                _ => {
                    let ahead = Duration::from_millis([0, 3, 500, 100_000][random.below(4)]);
                    let at = if random.one_in(9) { Instant::from_millis(1) } else { socket.now() + ahead };
                    socket.set_deadline(Some(at));
                    ledger.deadline = Some(at);
                }
            }
        } else if socket.is_paused() && random.one_in(2) {
            socket.resume();
        }
        if random.one_in(temper.ends) {
            match random.below(4) {
                0 => socket.finish(),
                1 => socket.linger(),
                2 => socket.abort(),
                _ => socket.close(),
            }
        }
        let silent = socket.peer_closed() && random.one_in(2);
        if silent || (event == Event::Shutdown && random.one_in(3)) {
            socket.close();
        }
        if let Event::Message(_) = event {
            socket.resume();
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

/// The calls of one socket. The network sends a random part of the output.
struct Network<'a> {
    random: Random,
    ledgers: &'a Ledgers,
    id: usize,
    now: u64,
    outbox: NoOutbox,
}

impl Calls for Network<'_> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut ledgers = self.ledgers.borrow_mut();
        let ledger = &mut ledgers[self.id];
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte, pattern(ledger.sent + i), "a byte of the output");
        }
        let n = if self.random.one_in(4) { self.random.below(bytes.len() + 1) } else { bytes.len() };
        ledger.sent += n;
        if n == 0 { Sent::WouldBlock } else { Sent::Bytes(n) }
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        let ledger = self.ledgers.borrow()[self.id];
        assert_eq!(ledger.queued, ledger.sent, "shut down before all has left");
        Ok(())
    }
}

impl ContextCalls<u32> for Network<'_> {
    fn context(&mut self) -> Context<'_, u32> {
        Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut self.outbox)
    }
}

struct Walk {
    bench: Bench,
    random: Random,
    ledgers: Ledgers,
    lines: BTreeMap<Token, Line>,
    stale: Vec<Token>,
    config: Config,
    completes: bool,
    stopped: bool,
    admitted: usize,
}

fn some_config(random: &mut Random) -> Config {
    let mut span = |unit: u64| (!random.one_in(3)).then(|| Duration::from_millis(unit));
    let timeouts = Timeouts {
        connect: span(1_000),
        first_byte: span(700),
        idle: span(2_500),
        write_stall: span(900),
        drain: span(400),
        linger: span(300),
        write_rate: None,
    };
    let write_rate = random.one_in(2).then_some(WriteRate { bytes: 300, per: Duration::from_millis(600) });
    let timeouts = Timeouts { write_rate, ..timeouts };
    Config {
        sockets: 1 + random.below(6),
        input_blocks: 1 + random.below(4),
        output_blocks: 1 + random.below(8),
        output_limit: 1 + random.below(4),
        receive_size: [64, 128, 256][random.below(3)],
        receive_blocks: random.below(3),
        generation_seed: [0, u32::MAX - 3, 1 << 31][random.below(3)],
        timeouts: if random.one_in(3) { Timeouts { drain: ms(50), ..Timeouts::NONE } } else { timeouts },
        ..PLAIN
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = some_config(&mut random);
        let ledgers = Ledgers::default();
        let temper = Temper {
            ends: [5, 30, 1_000][random.below(3)],
            rare: [3, 20][random.below(2)],
            diligent: random.one_in(2),
        };
        let start = [0, 12_345, u64::from(u32::MAX) - 3_000, (1 << 31) - 1_000][random.below(4)];
        let react = reaction(ledgers.clone(), Random::new(seed ^ 0xABCD), temper, config);
        let mut bench = Bench::starting_at(start, &config, react);
        bench.pull = random.one_in(2);
        let completes = random.one_in(3);
        Self {
            bench,
            random,
            ledgers,
            lines: BTreeMap::new(),
            stale: Vec::new(),
            config,
            completes,
            stopped: false,
            admitted: 0,
        }
    }

    /// Creates the record of an admission, and its ledger even if the socket is never opened.
    fn line(&mut self, token: Token, connecting: bool) {
        let id = self.admitted;
        self.admitted += 1;
        let mut ledgers = self.ledgers.borrow_mut();
        if ledgers.len() <= id {
            ledgers.resize(id + 1, Ledger::default());
        }
        drop(ledgers);
        let next = Action::Wait(if connecting { Interest::WRITE } else { Interest::NONE });
        let line = Line { id, connecting, next, flight: None, ended: false };
        assert!(self.lines.insert(token, line).is_none(), "a token in use was issued again");
    }

    fn admit(&mut self) {
        let room = self.bench.shard.has_room();
        self.bench.handler.inner_mut().admits = !self.random.one_in(10);
        let connects = self.random.one_in(3);
        let made = if connects {
            let Some(token) = self.bench.shard.reserve() else {
                assert!(!room, "`reserve` disagrees with `has_room`");
                return;
            };
            assert!(room);
            if self.random.one_in(6) {
                self.bench.shard.release_slot(token);
                self.stale.push(token);
                return;
            }
            self.bench.shard.dial(&mut self.bench.handler, token, 1, &PEER).map(|()| token)
        } else {
            self.bench.admit()
        };
        match made {
            Ok(token) => {
                self.line(token, connects);
                if !self.random.one_in(3) || connects {
                    self.tell(token, |_| {});
                }
            }
            Err(AdmitError::Full | AdmitError::Stopping) => {
                assert!(!room, "the refusal disagrees with `has_room`");
            }
            Err(_) => assert!(room && !self.bench.handler.inner().admits),
        }
    }

    fn tell(&mut self, token: Token, what: impl FnOnce(&mut common::TestPort<'_>)) {
        let next = self.bench.tell(token, what);
        self.ordered(token, next);
    }

    /// Records the next action of a socket; a close is carried out at once.
    fn ordered(&mut self, token: Token, next: Action) {
        let line = self.lines.get_mut(&token).unwrap();
        line.next = next;
        match next {
            Action::Close => {
                assert_eq!(line.flight, None, "closed with a send in flight");
                self.lines.remove(&token);
                self.stale.push(token);
                assert!(self.bench.shard.connection(token).is_none());
            }
            Action::Send => assert_eq!(line.flight, None, "a second send in flight"),
            Action::CancelSend => assert!(line.flight.is_some(), "nothing to cancel"),
            Action::ShutdownWrite => {
                assert!(self.bench.outputs(token).is_empty(), "shut down before all has left");
            }
            Action::Wait(interest) => {
                // If a timeout has passed in the meantime, the socket ends in the next turn.
                let next = self.bench.shard.next_deadline();
                let at_once = next.is_some_and(|next| next.as_millis() <= self.bench.now);
                if interest.reads() && !at_once && self.bench.room(token) == 0 {
                    // Other sockets have taken the last block. Running the connection must return a wait without reading.
                    let again = self.bench.run(token);
                    assert!(
                        !again.waits_for().is_some_and(Interest::reads),
                        "the connection requests reads without room"
                    );
                    line.next = again;
                }
            }
        }
    }

    fn some_line(&mut self) -> Option<(Token, Line)> {
        let n = self.lines.len();
        (n > 0).then(|| {
            self.lines.iter().nth(self.random.below(n)).map(|(token, line)| (*token, *line)).unwrap()
        })
    }

    fn error(&mut self) -> ErrorKind {
        [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut, ErrorKind::Other]
            [self.random.below(4)]
    }

    /// Checks the queued output against what the handler wrote. Returns its length.
    fn outputs(&mut self, token: Token, line: Line) -> usize {
        let bytes = self.bench.outputs(token);
        let ledger = self.ledgers.borrow()[line.id];
        assert_eq!(bytes.len(), ledger.queued - ledger.sent);
        for (i, byte) in bytes.iter().enumerate() {
            assert_eq!(*byte, pattern(ledger.sent + i), "a byte of the output");
        }
        bytes.len()
    }

    fn sent(&self, line: Line, n: usize) {
        self.ledgers.borrow_mut()[line.id].sent += n;
    }

    /// Carries out the socket's next action, not always completely.
    fn obey(&mut self, token: Token, line: Line) {
        match line.next {
            Action::Send => {
                let there = self.outputs(token, line);
                assert!(there > 0, "asked to send nothing");
                if self.completes {
                    self.lines.get_mut(&token).unwrap().flight = Some(there);
                    self.tell(token, |conn| conn.send_started());
                    return;
                }
                let n = if self.random.one_in(3) { there } else { self.random.below(there + 1) };
                self.sent(line, n);
                let blocked = n < there && self.random.one_in(2);
                self.tell(token, |conn| {
                    if n > 0 {
                        conn.sent(n);
                    }
                    if n == 0 || blocked {
                        conn.would_block();
                    }
                });
            }
            Action::CancelSend => self.land(token, line),
            Action::ShutdownWrite => self.tell(token, |conn| conn.write_shut_down()),
            Action::Wait(interest) if interest.writes() && line.connecting => {
                self.lines.get_mut(&token).unwrap().connecting = false;
                if self.random.one_in(4) {
                    let error = self.error();
                    self.tell(token, |conn| conn.failed(error));
                } else {
                    self.tell(token, |conn| conn.connected());
                }
            }
            Action::Wait(interest) if interest.writes() && self.random.one_in(2) => {
                self.tell(token, |conn| conn.writable());
            }
            Action::Wait(interest) if interest.reads() => {
                let plain = !line.ended && line.flight.is_none();
                if plain && self.random.one_in(2) {
                    self.receive(token, line);
                } else {
                    self.read(token, line);
                }
            }
            Action::Wait(_) | Action::Close => {}
        }
    }

    /// Completes a send in flight with a random number of bytes.
    fn land(&mut self, token: Token, line: Line) {
        let Some(most) = line.flight else { return };
        let n = self.random.below(most + 1);
        self.outputs(token, line);
        self.sent(line, n);
        self.lines.get_mut(&token).unwrap().flight = None;
        self.tell(token, |conn| conn.sent(n));
    }

    /// Receives bytes, the end of stream, or both; on the same connection, part of the output may be sent as well.
    fn read(&mut self, token: Token, line: Line) {
        let room = self.bench.room(token);
        let n = if self.random.one_in(3) { room } else { self.random.below(room.min(40) + 1) };
        let ends = self.random.one_in(12) || line.ended;
        // Input that arrives in a staged close is discarded and must not be counted as received.
        let live = self.bench.shard.next_open(token.index()) == Some(token);
        let from = {
            let mut ledgers = self.ledgers.borrow_mut();
            let ledger = &mut ledgers[line.id];
            let from = ledger.received;
            ledger.received += if live { n } else { 0 };
            from
        };
        let bytes: Vec<u8> = (from..from + n).map(pattern).collect();
        let also = match line.next {
            _ if self.completes || self.random.one_in(2) => 0,
            _ => self.outputs(token, line),
        };
        let also = self.random.below(also + 1);
        self.sent(line, also);
        let puts_off = self.random.one_in(6);
        let cut = self.random.below(n + 1);
        let mut bytes = bytes.clone();
        let (first, second) = bytes.split_at_mut(cut);
        let mut conn = self.bench.shard.connection(token).unwrap();
        if also > 0 {
            conn.sent(also);
        }
        if n > 0 && !line.ended {
            conn.received(first);
            // The first part may have taken the last block; then there is no room at all.
            if conn.room() >= n - cut {
                conn.received(second);
            } else {
                assert_eq!(conn.room(), 0, "room is lost by receiving a part");
            }
        }
        if ends {
            conn.peer_ended();
            self.lines.get_mut(&token).unwrap().ended = true;
        }
        if puts_off {
            conn.defer();
            self.lines.get_mut(&token).unwrap().next = Action::Wait(Interest::NONE);
            return;
        }
        let next = common::deliver(conn, &mut self.bench.handler, self.bench.pull, self.bench.now);
        self.ordered(token, next);
    }

    /// Receives bytes, and carries out all resulting actions.
    fn receive(&mut self, token: Token, line: Line) {
        let room = self.bench.room(token);
        let n = if self.random.one_in(3) { room } else { self.random.below(room.min(40) + 1) };
        let live = self.bench.shard.next_open(token.index()) == Some(token);
        let mut ledgers = self.ledgers.borrow_mut();
        let ledger = &mut ledgers[line.id];
        let mut bytes: Vec<u8> = (ledger.received..ledger.received + n).map(pattern).collect();
        ledger.received += if live { n } else { 0 };
        drop(ledgers);
        let mut calls = Network {
            random: self.random,
            ledgers: &self.ledgers,
            id: line.id,
            now: self.bench.now,
            outbox: NoOutbox,
        };
        let mut conn = self.bench.shard.connection(token).unwrap();
        let settled = conn.receive(&mut bytes, &mut self.bench.handler, &mut calls);
        self.random = calls.random;
        let next = match settled {
            Settled::Waiting(interest) => Action::Wait(interest),
            Settled::Deferred => Action::Wait(Interest::NONE),
            Settled::Closed => Action::Close,
            Settled::Cancelling => Action::CancelSend,
        };
        self.ordered(token, next);
    }

    /// Passes something to the socket that it did not wait for.
    fn surprise(&mut self, token: Token, line: Line) {
        match self.random.below(9) {
            0 => {
                let error = self.error();
                self.lines.get_mut(&token).unwrap().connecting = false;
                self.tell(token, |conn| conn.failed(error));
            }
            1 => self.tell(token, |conn| conn.writable()),
            2 => self.tell(token, |_| {}),
            3 => self.bench.shard.connection(token).unwrap().defer(),
            4 if line.flight.is_some() => self.land(token, line),
            5 if self.stopped => self.tell(token, |conn| conn.shutdown()),
            6 if self.random.one_in(4) => self.tell(token, |conn| conn.abort_with(CloseReason::HandlerPanic)),
            _ => match self.bench.message(token, 5) {
                Ok(next) => self.ordered(token, next),
                Err(message) => {
                    assert_eq!(message, 5);
                    self.tell(token, |_| {});
                }
            },
        }
    }

    fn turn(&mut self, now: u64) {
        self.bench.set_clock(now);
        for turns in 0.. {
            assert!(turns < 500, "a turn without an end");
            let Some(token) = self.bench.shard.next_ready() else { return };
            let line = self.lines[&token];
            if self.random.one_in(4) {
                self.obey_or_run(token, line);
            } else {
                self.tell(token, |_| {});
            }
        }
    }

    fn obey_or_run(&mut self, token: Token, line: Line) {
        if matches!(line.next, Action::Wait(interest) if interest.reads() && !line.connecting)
            && self.bench.room(token) > 0
        {
            self.read(token, line);
        } else {
            self.tell(token, |_| {});
        }
    }

    fn pass_time(&mut self) {
        let now = self.bench.now;
        let next = self.bench.shard.next_deadline().map(Instant::as_millis);
        let at = match self.random.below(8) {
            0 => now,
            1 => now.saturating_sub(5),
            2 => now + 1,
            3 => now + self.random.below(5_000) as u64,
            4 => now + 100_000,
            _ => next.map_or(now, |next| next.min(now + 10_000)),
        };
        let at = at.max(if self.random.one_in(20) { 0 } else { now });
        self.turn(at);
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..2 => self.admit(),
            2..4 => self.pass_time(),
            4 => {
                if let Some((token, line)) = self.some_line() {
                    self.surprise(token, line);
                }
            }
            5 => {
                let n = self.stale.len();
                if n > 0 {
                    let token = self.stale[self.random.below(n)];
                    assert!(self.lines.contains_key(&token) || self.bench.message(token, 1) == Err(1));
                }
            }
            6 if self.random.one_in(40) && !self.stopped => {
                self.stopped = true;
                self.bench.shard.stop();
                for token in self.lines.keys().copied().collect::<Vec<_>>() {
                    self.tell(token, |conn| conn.shutdown());
                }
            }
            _ => {
                if let Some((token, line)) = self.some_line() {
                    self.obey(token, line);
                }
            }
        }
        let (in_use, lines) = (self.bench.shard.in_use(), self.lines.len());
        assert_eq!(in_use, lines, "the shard counts its sockets wrongly");
    }

    /// Ends all sockets in random ways.
    fn end(&mut self) {
        for _ in 0..30 {
            let tokens: Vec<Token> = self.lines.keys().copied().collect();
            for token in tokens {
                let Some(line) = self.lines.get(&token).copied() else { continue };
                if line.flight.is_some() {
                    self.land(token, line);
                } else if self.random.one_in(4) {
                    self.tell(token, |conn| conn.abort_with(CloseReason::Shutdown));
                } else {
                    self.obey(token, line);
                }
            }
            self.turn(self.bench.now + 10);
        }
        for token in self.lines.keys().copied().collect::<Vec<_>>() {
            self.tell(token, |conn| conn.abort_with(CloseReason::Shutdown));
            if let Some(line) = self.lines.get(&token).copied() {
                assert_eq!(line.next, Action::CancelSend);
                self.land(token, line);
            }
        }
        assert!(self.lines.is_empty());
    }

    /// From here on, the handler consumes its input and peers end their streams: that alone must end every socket,
    /// regardless of what happened before.
    fn end_in_peace(&mut self) {
        let ledgers = self.ledgers.clone();
        self.bench.handler.inner_mut().react = Box::new(move |socket, event| {
            let ledger = &mut ledgers.borrow_mut()[socket.data.id];
            if matches!(event, Event::Close(_) | Event::Refused(_)) {
                ledger.lost = Some(socket.queued());
            }
            socket.set_deadline(None);
            socket.resume();
            let there = socket.bytes().len();
            socket.consume(there);
            ledger.consumed += there;
            if event == Event::PeerClosed || socket.peer_closed() {
                socket.close();
            }
        });
        for _ in 0..60 {
            for token in self.lines.keys().copied().collect::<Vec<_>>() {
                self.come_to_an_end(token);
            }
            self.turn(self.bench.now);
        }
        let left: Vec<_> = self.lines.iter().collect();
        assert!(left.is_empty(), "stuck: {left:?}");
    }

    fn come_to_an_end(&mut self, token: Token) {
        let Some(line) = self.lines.get(&token).copied() else { return };
        if line.flight.is_some() {
            return self.land(token, line);
        }
        if let Action::Wait(interest) = line.next {
            if line.connecting {
                self.lines.get_mut(&token).unwrap().connecting = false;
                return self.tell(token, |conn| conn.connected());
            }
            if interest.writes() {
                return self.tell(token, |conn| conn.writable());
            }
            if interest.reads() && self.bench.room(token) > 0 {
                return self.tell(token, |conn| conn.peer_ended());
            }
            // The socket may be paused, or wait for something that only the handler can do.
            return match self.bench.message(token, 5) {
                Ok(next) => self.ordered(token, next),
                Err(_) => self.tell(token, |_| {}),
            };
        }
        self.obey(token, line);
    }

    fn account(&mut self) {
        assert_eq!(self.bench.handler.alive(), 0, "a socket without its last event");
        self.turn(self.bench.now);
        self.turn(self.bench.now);
        assert_eq!(self.bench.shard.next_deadline(), None, "something is left to do");
        assert_eq!(self.bench.shard.in_use(), 0);
        let stats = *self.bench.shard.stats();
        let ledgers = self.ledgers.borrow();
        let (mut queued, mut sent) = (0, 0);
        for ledger in &*ledgers {
            queued += ledger.queued;
            sent += ledger.sent;
            assert!(ledger.consumed <= ledger.received);
        }
        assert_eq!(stats.bytes_out, sent as u64);
        assert_eq!(stats.bytes_lost, (queued - sent) as u64);
        let seen = self.bench.seen();
        let count = |which: fn(&Seen) -> bool| seen.iter().filter(|seen| which(seen)).count() as u64;
        assert_eq!(stats.closed_total(), count(|seen| matches!(seen.event, Event::Close(_))));
        assert_eq!(stats.refused, count(|seen| matches!(seen.event, Event::Refused(_))));
        assert_eq!(stats.accepted + stats.connected, count(|seen| seen.event == Event::Open));
    }

    /// Checks that all blocks and slots have been returned: new sockets can take every one of them.
    fn everything_is_back(&mut self) {
        if self.stopped {
            return;
        }
        let Config { sockets, output_blocks, output_limit, block_size, input_blocks, receive_blocks, .. } =
            self.config;
        let free = self.bench.shard.free_blocks();
        assert_eq!((free.output, free.input, free.receive), (output_blocks, input_blocks, receive_blocks));
        let taken = Rc::new(Cell::new(0));
        let sockets_served = taken.clone();
        let script = self.bench.handler.inner_mut();
        script.admits = true;
        script.react = Box::new(move |socket, event| {
            if event == Event::Open {
                let room = socket.room();
                socket.send(&vec![1; room]).unwrap();
                // Only the first socket can fill its queue to its limit; the others share what is left.
                if sockets_served.replace(sockets_served.get() + 1) == 0 {
                    let limit = output_blocks.min(output_limit) * block_size;
                    assert_eq!(room, limit, "one socket alone fills its queue to its limit");
                }
            }
        });
        let mut tokens = Vec::new();
        for _ in 0..sockets {
            tokens.push(self.bench.open());
        }
        assert!(!self.bench.shard.has_room());
        assert_eq!(taken.get(), sockets);
        let mut held = 0;
        for token in tokens {
            let room = self.bench.room(token);
            if room > 0 {
                let _ = self.bench.receive(token, &vec![1; room]);
                held += 1;
            }
        }
        assert_eq!(held, sockets.min(input_blocks + receive_blocks), "an input block is lost");
    }
}

fn walk(seed: u64) -> u64 {
    let mut walk = Walk::new(seed);
    for _ in 0..STEPS {
        walk.step();
    }
    if walk.random.one_in(2) {
        walk.end();
    } else {
        walk.end_in_peace();
    }
    walk.account();
    walk.everything_is_back();
    walk.bench.shard.stats().bytes_out
}

#[test]
fn random_walks() {
    if let Some(seed) = std::env::var("WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        walk(seed);
        return;
    }
    let mut failed = Vec::new();
    let mut bytes = 0;
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| walk(seed)) {
            Ok(out) => bytes += out,
            Err(_) => failed.push(seed),
        }
        if failed.len() >= 5 {
            break;
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?}; see WALK_SEED");
    assert!(bytes > SEEDS * 100, "the walks go nowhere: {bytes} bytes");
}
