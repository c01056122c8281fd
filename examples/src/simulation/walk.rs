#![expect(clippy::cast_possible_truncation, reason = "whims are small numbers")]

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone::engine_core::Config;
use lightcone::sim::{Content, Engine, Reading, Script, Sim, pattern};
use lightcone::{
    Address, CloseReason, Context, ErrorKind, Handler, Instant, Origin, PollerId, Socket, Timeouts, TimerId,
    Token,
};

use super::{a_while, one_of, server};

/// The time after which a broadcast must have reached every socket, in ms.
const DELIVERED: u64 = 2_000;

/// A generator of pseudo-random numbers.
#[derive(Debug)]
struct Whims(u64);

impl Whims {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// The state that all pollers share.
#[derive(Default)]
struct Ledger {
    /// The number of the next message of each poller.
    numbers: RefCell<[u64; 4]>,
    /// Tokens of open sockets, and some of closed ones.
    heard: RefCell<VecDeque<Token>>,
    gone: RefCell<VecDeque<Token>>,
    /// The broadcasts that every poller accepted: the time of each in ms, with its poller and number.
    broadcasts: RefCell<Vec<(u64, PollerId, u64)>>,
    connects: Cell<u32>,
    /// Timers that are set, and some that are not any more, of all pollers.
    timers: RefCell<VecDeque<TimerId>>,
    timers_set: Cell<u32>,
}

impl Ledger {
    /// Returns whether another message may be posted: one message may lead to several more.
    fn may_post(&self) -> bool {
        self.numbers.borrow().iter().sum::<u64>() < 2_000
    }

    fn number(&self, poller: PollerId) -> u64 {
        let mut numbers = self.numbers.borrow_mut();
        let Some(next) = numbers.get_mut(usize::from(poller.0)) else { return 0 };
        *next += 1;
        *next
    }

    fn keep<T>(those: &RefCell<VecDeque<T>>, this: T) {
        let mut those = those.borrow_mut();
        those.push_back(this);
        if those.len() > 16 {
            those.pop_front();
        }
    }

    /// Sets a timer for a random time, unless enough were set: one timer may lead to another.
    fn set_timer(&self, random: u64, cx: &mut Context<'_, Note>) {
        if self.timers_set.get() < 500 {
            self.timers_set.set(self.timers_set.get() + 1);
            let at = cx.now() + Duration::from_millis(random % 4 * random);
            if let Ok(timer) = cx.set_timer(at, random) {
                Self::keep(&self.timers, timer);
            }
        }
    }

    fn cancel_timer(&self, random: u64, cx: &mut Context<'_, Note>) {
        let timers = self.timers.borrow();
        if let Some(timer) = timers.get(random as usize % 16) {
            let was_set = cx.cancel_timer(*timer);
            assert!(!was_set || timer.poller() == cx.poller(), "timers: {timer} is another poller's");
        }
    }
}

/// A message: its poller, and its number among that poller's messages.
#[derive(Clone, Copy)]
struct Note {
    from: PollerId,
    number: u64,
}

/// A socket of the server, or of a client of the same engine.
struct Walk {
    whims: Whims,
    /// Whether it keeps the connection until its peer ends it.
    faithful: bool,
    /// When `finish`, `close`, `linger` or `abort` was called, in ms.
    done: Option<u64>,
    /// The content that a client is to receive, and how many bytes of it have arrived.
    client: Option<(Content, u64)>,
    /// The number of the last message from each poller.
    last: [u64; 4],
    /// How many broadcasts were posted before it opened, and the messages it received since.
    before: usize,
    heard: Vec<(PollerId, u64)>,
}

/// Sends all input back, and makes random other calls that a handler may make.
struct Walker {
    ledger: Rc<Ledger>,
    whims: Whims,
    faithful: u64,
}

type WalkSocket<'a> = Socket<'a, Walk>;

impl Walker {
    /// Sends some of the input back by a randomly chosen method.
    fn echo(socket: &mut WalkSocket<'_>) {
        if socket.data.client.is_some() {
            return;
        }
        let done = socket.data.done.is_some();
        let (mut input, mut output, walk) = socket.split();
        if done {
            let there = input.bytes().len();
            return input.consume(there); // nothing can be sent any more
        }
        let there = input.bytes().len();
        let taken = match walk.whims.below(8) {
            0 => {
                let n = there.min(1 + walk.whims.below(200) as usize);
                let piece = input.bytes().get(..n).unwrap_or_default();
                let (room, limit) = (output.room(), output.limit());
                let taken = output.send(piece).is_ok();
                assert!(taken || n > room, "bounds: {n} bytes are refused, with room for {room}");
                if !taken && n <= limit {
                    assert!(
                        socket.is_writable_pending(),
                        "contract: a send was refused, and writable is not pending"
                    );
                    return;
                }
                if taken { n } else { 0 }
            }
            1 => {
                let n = there.min(1 + walk.whims.below(60) as usize);
                let written = output.reserve(n).map(|to| {
                    to.copy_from_slice(input.bytes().get(..n).unwrap_or_default());
                });
                // In one of four cases the reservation is not used.
                if written.is_ok() && !walk.whims.one_in(4) {
                    output.commit(n);
                    n
                } else {
                    0
                }
            }
            2 => {
                let (mark, room) = (output.mark(), output.room());
                let junk = [b'#'; 700];
                let _ = output.send_some(junk.get(..room).unwrap_or(&junk));
                output.rewind(mark);
                output.send_some(input.bytes())
            }
            3 => {
                let to = output.spare();
                let n = to.len().min(there);
                if let (Some(to), Some(from)) = (to.get_mut(..n), input.bytes().get(..n)) {
                    to.copy_from_slice(from);
                }
                output.commit(n);
                n
            }
            4 if there > 0 => {
                let n = output.send_some(input.bytes().get(..1).unwrap_or_default());
                output.request_writable();
                n
            }
            5 => 0,
            _ => output.send_some(input.bytes()),
        };
        input.consume(taken);
    }

    /// Checks the input of a client, and ends the client once all of it has arrived.
    fn serve_client(socket: &mut WalkSocket<'_>) {
        let (mut input, _, walk) = socket.split();
        let Some((content, received)) = &mut walk.client else { return };
        let mut expected = vec![0; input.bytes().len()];
        let known = content.read(*received, &mut expected);
        assert!(
            input.bytes() == expected.get(..known).unwrap_or_default(),
            "streams: a client's bytes are wrong"
        );
        *received += known as u64;
        let all = *received == content.length();
        input.consume(known);
        if all && walk.done.is_none() {
            Self::end(socket, 1);
        }
    }

    /// Ends the socket in the given way.
    fn end(socket: &mut WalkSocket<'_>, how: u64) {
        let now = socket.now().as_millis();
        socket.data.done.get_or_insert(now);
        match how {
            0 => socket.finish(),
            1 => socket.close(),
            2 => socket.linger(),
            _ => socket.abort(),
        }
    }

    fn act_on_a_whim(&self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        let token = socket.token();
        let (now, whim) = (socket.now(), socket.data.whims.below(40));
        match whim {
            0..4 => socket.pause(),
            4 | 5 => socket.set_active(true),
            6 => socket.set_active(false),
            7 => socket.set_deadline(Some(now)),
            8 | 9 => {
                let span = socket.data.whims.below(300);
                socket.set_deadline(Some(now + Duration::from_millis(span)));
            }
            10 => socket.set_deadline(None),
            11..16 if self.ledger.may_post() => {
                let heard = self.ledger.heard.borrow();
                let which = socket.data.whims.below(16) as usize;
                let Some(to) = heard.get(which) else { return };
                for _ in 0..=socket.data.whims.below(3) {
                    let number = self.ledger.number(cx.poller());
                    let _ = cx.post(*to, Note { from: cx.poller(), number });
                }
            }
            16 if self.ledger.may_post() => {
                let number = self.ledger.number(cx.poller());
                if cx.broadcast(Note { from: cx.poller(), number }).is_ok() {
                    let posted = (now.as_millis(), cx.poller(), number);
                    self.ledger.broadcasts.borrow_mut().push(posted);
                }
            }
            17 | 18 if self.ledger.connects.get() < 20 => {
                self.ledger.connects.set(self.ledger.connects.get() + 1);
                let tag = socket.data.whims.below(1_000);
                let _ = cx.connect(Address::Inet(server(1)), tag);
            }
            19 => {
                for gone in &*self.ledger.gone.borrow() {
                    let address = cx.local_address(*gone);
                    assert!(
                        address.is_none() || *gone == token,
                        "tokens: {gone} is closed, but has an address"
                    );
                }
            }
            20..24 if !socket.data.faithful && socket.data.done.is_none() => {
                let how = socket.data.whims.below(4);
                Self::end(socket, how);
            }
            24..28 => self.ledger.set_timer(socket.data.whims.below(200), cx),
            28 => self.ledger.cancel_timer(socket.data.whims.below(16), cx),
            _ => {}
        }
    }

    /// Does what must happen at the end of each callback.
    fn settle(&self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        Self::serve_client(socket);
        self.act_on_a_whim(socket, cx);
        if socket.is_closing() {
            return;
        }
        let ended = socket.peer_closed() && socket.bytes().is_empty();
        if ended && socket.data.done.is_none() {
            let how = socket.data.whims.below(3);
            Self::end(socket, how);
        }
        // A socket that no other event will wake waits for a deadline.
        let client = socket.data.client.is_some();
        let waits = client || socket.is_paused() || socket.is_active() || !socket.bytes().is_empty();
        if waits && socket.deadline().is_none() {
            let span = 1 + socket.data.whims.below(60);
            let at = socket.now() + Duration::from_millis(span);
            socket.set_deadline(Some(at));
        }
    }
}

impl Handler for Walker {
    type Data = Walk;
    type Message = Note;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Walk> {
        if self.whims.one_in(30) {
            return None;
        }
        let client = match origin {
            Origin::Accepted { .. } => None,
            Origin::Connecting { tag } => Some((pattern(tag, 1 + tag), 0)),
        };
        Some(Walk {
            whims: Whims(1 + self.whims.below(u64::from(u32::MAX))),
            faithful: client.is_some() || self.whims.below(4) < self.faithful,
            done: None,
            client,
            last: [0; 4],
            before: 0,
            heard: Vec::new(),
        })
    }

    fn started(&mut self, cx: &mut Context<'_, Note>) {
        (0..3).for_each(|_| self.ledger.set_timer(self.whims.below(200), cx));
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, Note>) {
        match self.whims.below(4) {
            0 => self.ledger.set_timer(self.whims.below(200), cx),
            1 => self.ledger.cancel_timer(self.whims.below(16), cx),
            _ => {}
        }
    }

    fn open(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        Ledger::keep(&self.ledger.heard, socket.token());
        socket.data.before = self.ledger.broadcasts.borrow().len();
        let (_, mut output, walk) = socket.split();
        if let Some((content, _)) = &mut walk.client {
            let mut bytes = vec![0; usize::try_from(content.length()).unwrap_or(0).min(output.room())];
            content.read(0, &mut bytes);
            let taken = output.send_some(&bytes);
            // The content is shortened to what fits at once; the rest is not sent.
            let tag = content.length() - 1;
            *content = pattern(tag, taken as u64);
        }
        self.settle(socket, cx);
    }

    fn receive(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        Self::echo(socket);
        self.settle(socket, cx);
    }

    fn writable(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        Self::echo(socket);
        self.settle(socket, cx);
    }

    fn sent(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        self.settle(socket, cx);
    }

    fn peer_closed(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        self.settle(socket, cx);
    }

    fn timeout(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        if !socket.data.whims.one_in(3) {
            socket.resume();
            socket.set_active(false);
        }
        if socket.data.client.is_some() && socket.data.whims.one_in(20) {
            return Self::end(socket, 3); // the server may have no room for it as long as there are clients
        }
        Self::echo(socket);
        self.settle(socket, cx);
    }

    fn shutdown(&mut self, socket: &mut WalkSocket<'_>, cx: &mut Context<'_, Note>) {
        if socket.data.whims.one_in(3) {
            self.settle(socket, cx);
        } else {
            Self::end(socket, 1);
        }
    }

    fn message(&mut self, socket: &mut WalkSocket<'_>, note: Note, cx: &mut Context<'_, Note>) {
        let Note { from, number } = note;
        if let Some(last) = socket.data.last.get_mut(usize::from(from.0)) {
            assert!(*last < number, "messages: {number} of poller {} comes after {last}", from.0);
            *last = number;
        }
        socket.data.heard.push((from, number));
        self.settle(socket, cx);
    }

    fn refused(&mut self, socket: &mut WalkSocket<'_>, _: ErrorKind, _: &mut Context<'_, Note>) {
        Ledger::keep(&self.ledger.gone, socket.token());
    }

    fn close(&mut self, socket: &mut WalkSocket<'_>, _: CloseReason, cx: &mut Context<'_, Note>) {
        let (ledger, walk) = (&*self.ledger, &*socket.data);
        let until = walk.done.unwrap_or(Instant::as_millis(cx.now()));
        let missed = ledger
            .broadcasts
            .borrow()
            .iter()
            .skip(walk.before)
            .any(|(at, from, number)| at + DELIVERED < until && !walk.heard.contains(&(*from, *number)));
        assert!(!missed, "messages: a broadcast has not reached {}", socket.token());
        Ledger::keep(&ledger.gone, socket.token());
        ledger.heard.borrow_mut().retain(|token| *token != socket.token());
    }
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let drawn = sim.drawn_engine();
    let mut span = |of: &[u64]| one_of(sim, of).filter(|ms| *ms > 0).map(Duration::from_millis);
    let timeouts = Timeouts {
        connect: span(&[10_000, 700]),
        first_byte: span(&[30_000, 0, 400]),
        idle: span(&[60_000, 0, 900, 3_000]),
        write_stall: span(&[30_000, 0, 600]),
        drain: span(&[10_000, 1_300]),
        linger: span(&[5_000, 800, 200]),
        write_rate: None,
    };
    let engine = Engine { config: Config { timeouts, ..drawn.config }, ..drawn };
    let ledger = Rc::new(Ledger::default());
    let seed = 1 + u64::from(sim.draw(1_000_000));
    let faithful = u64::from(sim.draw(5));
    let walkers = sim.engine(engine, |poller| Walker {
        ledger: Rc::clone(&ledger),
        whims: Whims(seed << 8 | u64::from(poller.0)),
        faithful,
    });
    sim.listen(walkers, server(1));
    if sim.draw(3) == 1 {
        // A shorter grace time replaces a longer one, but not the other way round.
        let (after, first, second) = (a_while(sim, 3_000), a_while(sim, 4_000), a_while(sim, 4_000));
        sim.stop_after(walkers, after, first);
        sim.stop_after(walkers, after + Duration::from_millis(10), second);
    }
    let peers = one_of(sim, &[20, 3, 60]).unwrap_or(20);
    for seed in 0..peers {
        let most = one_of(sim, &[300, 2_000, 8_000]).unwrap_or(300);
        let length = u64::from(sim.draw(most));
        let script = Script::to(server(1)).after(a_while(sim, 1_000)).may_be_cut();
        let script = script.send(pattern(seed, length)).expect(pattern(seed, length));
        let slowly = Reading::Slowly { bytes: 100, every: Duration::from_millis(20) };
        let script = match sim.draw(6) {
            // This peer ends only if the server gives up on it.
            1 if timeouts.write_stall.is_some() => script.reading(Reading::Never).pause(a_while(sim, 60_000)),
            2 => script.reading(slowly).pause(a_while(sim, 3_000)).half_close().until_end(),
            3 => script.pause(a_while(sim, 20_000)).half_close().until_end(), // after the server, often
            4 => script.pause(a_while(sim, 2_000)).reset(),
            5 => script.half_close().until_end().pause(a_while(sim, 3_000)),
            _ => script.half_close().until_end(),
        };
        sim.peer(script);
    }
    sim.finish();
}
