//! Workers with a shard driven by hand: no engine, no sockets, and a mailbox that refuses messages on
//! request.
#![allow(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a script acts on few events")]
#![allow(clippy::std_instead_of_alloc, reason = "threads need std anyway")]

use core::mem::MaybeUninit;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use lightcone_core::life::State;
use lightcone_core::{
    Address, Calls, CloseReason, Config, Connection, Context, ContextCalls, ErrorKind, Event, Handler,
    Instant, Interest, ListenerId, NoOutbox, Origin, PollerId, Rejected, Sent, Settled, Shard, Slot, Socket,
    Storage, Token,
};
use lightcone_unix::clock::Clock;
use lightcone_workers::{Builder, Offload, Offloaded, PollerLink, Ticket, Workers};

/// Upper bound for any wait.
const WAIT: Duration = Duration::from_secs(30);

/// Sends back its input.
struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Box<u32>;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<Box<u32>>, cx: &mut Context<'_, Box<u32>>) {
        match event {
            Event::Receive | Event::Writable => {
                let (mut input, mut output) = socket.stream.split();
                let taken = output.send_some(input.bytes());
                input.consume(taken);
            }
            Event::Message(number) if *number == 0 => cx.post(socket.token(), Box::new(1)).unwrap_or(()),
            Event::Message(number) => socket.send(&number.to_be_bytes()).unwrap(),
            Event::PeerClosed | Event::Shutdown => socket.close(),
            Event::Open
            | Event::Sent
            | Event::Timeout
            | Event::Room(_)
            | Event::Refused(_)
            | Event::Close(_) => {}
        }
    }
}

/// How many callbacks have blocked, and the letters of those that may continue.
type LeftFastPath = Mutex<(usize, Vec<u8>)>;

#[derive(Clone, Default)]
struct Stops(Arc<(LeftFastPath, Condvar)>);

impl Stops {
    fn stop(&self, letter: u8) {
        let (lock, changed) = &*self.0;
        let mut state = lock.lock().unwrap();
        state.0 += 1;
        changed.notify_all();
        drop(changed.wait_timeout_while(state, WAIT, |state| !state.1.contains(&letter)).unwrap());
    }

    fn let_go(&self, letter: u8) {
        self.0.0.lock().unwrap().1.push(letter);
        self.0.1.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let state = self.0.0.lock().unwrap();
        let (state, _) = self.0.1.wait_timeout_while(state, WAIT, |state| state.0 < count).unwrap();
        assert!(state.0 >= count);
    }
}

/// Blocks at each capital letter until it is released, and closes at `Z`; sends back other input.
struct Stopping(Stops);

impl Handler for Stopping {
    type Data = ();
    type Message = Box<u32>;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Box<u32>>) {
        let closes = socket.bytes() == b"Z";
        let (mut input, mut output) = socket.stream.split();
        match input.bytes() {
            [letter] if letter.is_ascii_uppercase() => self.0.stop(*letter),
            bytes => output.send(bytes).unwrap(),
        }
        input.consume(input.bytes().len());
        if closes {
            socket.close();
        }
    }
}

/// The names of events in their order, with their sockets.
type Log = Arc<Mutex<Vec<(Token, &'static str)>>>;

/// Sets a deadline at the letter `d`, also stops to read at `p`, and removes the deadline at `o` and at the end of the stream. Blocks at each capital letter
/// until it is released.
struct Timed {
    stops: Stops,
    log: Log,
}

impl Handler for Timed {
    type Data = ();
    type Message = Box<u32>;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<Box<u32>>, _: &mut Context<'_, Box<u32>>) {
        let name = event.name();
        let letter = socket.bytes().first().copied();
        match (event, letter) {
            (Event::Receive, Some(letter @ (b'd' | b'p'))) => {
                let deadline = socket.now() + Duration::from_millis(1);
                socket.set_deadline(Some(deadline));
                if letter == b'p' {
                    socket.stream.pause();
                }
            }
            (Event::Receive, Some(b'o')) | (Event::PeerClosed, _) => socket.set_deadline(None),
            (Event::Receive, Some(letter)) if letter.is_ascii_uppercase() => self.stops.stop(letter),
            _ => {}
        }
        socket.stream.consume_all();
        self.log.lock().unwrap().push((socket.token(), name));
    }
}

type Message = Offloaded<Box<u32>>;

/// The mailbox of a poller.
#[derive(Default)]
struct Mailbox {
    state: Mutex<(VecDeque<(Token, Message)>, Answer)>,
    came: Condvar,
}

/// How the mailbox responds to a post.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    Takes,
    /// Refuses this many posts, then accepts.
    Full(usize),
    Gone,
}

impl PollerLink<Box<u32>> for Mailbox {
    fn post(&self, to: Token, message: Message) -> Result<(), Rejected<Message>> {
        let mut state = self.state.lock().unwrap();
        match &mut state.1 {
            Answer::Full(left) if *left > 0 => {
                *left -= 1;
                self.came.notify_all();
                return Err(Rejected::Full(message));
            }
            Answer::Gone => return Err(Rejected::Gone(message)),
            Answer::Takes | Answer::Full(_) => {}
        }
        state.0.push_back((to, message));
        self.came.notify_all();
        Ok(())
    }

    fn broadcast(&self, message: Message, _: fn(&Message) -> Message) -> Result<(), Rejected<Message>> {
        Err(Rejected::Gone(message))
    }
}

impl Mailbox {
    fn pop(&self) -> (Token, Message) {
        let state = self.state.lock().unwrap();
        let (mut state, _) = self.came.wait_timeout_while(state, WAIT, |state| state.0.is_empty()).unwrap();
        state.0.pop_front().unwrap()
    }

    /// Waits until `count` posts have been refused, out of the `of` refusals set.
    fn wait_for_refusals(&self, of: usize, count: usize) {
        let waits = |state: &mut (_, Answer)| !matches!(state.1, Answer::Full(left) if of - left >= count);
        let state = self.state.lock().unwrap();
        let (_state, result) = self.came.wait_timeout_while(state, WAIT, waits).unwrap();
        assert!(!result.timed_out());
    }

    fn answer(&self, answer: Answer) {
        self.state.lock().unwrap().1 = answer;
    }

    fn refusals_left(&self) -> usize {
        match self.state.lock().unwrap().1 {
            Answer::Full(left) => left,
            Answer::Takes | Answer::Gone => 0,
        }
    }
}

const CONFIG: Config = Config { sockets: 4, ..Config::DEVICE };
const READ: Settled = Settled::Waiting(Interest::READ);

/// The calls of a connection that takes either everything at once or nothing.
struct Line {
    sent: Vec<u8>,
    takes: bool,
    outbox: NoOutbox,
}

impl Calls for Line {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        if !self.takes {
            return Sent::WouldBlock;
        }
        self.sent.extend_from_slice(bytes);
        Sent::Bytes(bytes.len())
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

impl<M> ContextCalls<M> for Line {
    fn context(&mut self) -> Context<'_, M> {
        Context::new(Instant::from_millis(0), None, PollerId(0), &mut self.outbox)
    }
}

struct Bench {
    shard: Shard<'static, Ticket<Box<u32>>>,
    offload: Offload<Box<u32>>,
    mailbox: Arc<Mailbox>,
    workers: Workers<Box<u32>>,
    line: Line,
}

impl Bench {
    fn new() -> Self {
        Self::with(Builder::new().workers(2).start(|_| Echo).unwrap())
    }

    fn with(workers: Workers<Box<u32>>) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let link: Arc<dyn PollerLink<Box<u32>>> = Arc::<Mailbox>::clone(&mailbox);
        let slots: Vec<MaybeUninit<Slot<_>>> = (0..CONFIG.sockets).map(|_| MaybeUninit::uninit()).collect();
        // leaked, so that the shard can be `'static`
        let storage = Storage { slots: slots.leak(), memory: vec![0; CONFIG.memory()].leak() };
        let shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).unwrap();
        let line = Line { sent: Vec::new(), takes: true, outbox: NoOutbox };
        Self { shard, offload: workers.handler(link), mailbox, workers, line }
    }

    fn open(&mut self) -> Token {
        let (origin, peer) = (Origin::Accepted { listener: ListenerId(0) }, ([192, 0, 2, 1], 49_152));
        let token = self.shard.admit(&mut self.offload, origin, &Address::Inet(peer.into())).unwrap();
        assert_eq!(self.notify(token, b""), READ);
        token
    }

    /// Returns whether another socket would be admitted, and admits none.
    fn admits(&mut self) -> bool {
        let (origin, peer) = (Origin::Accepted { listener: ListenerId(0) }, ([192, 0, 2, 1], 49_152));
        self.offload.admit(origin, &Address::Inet(peer.into())).is_some()
    }

    /// Delivers received bytes to a socket.
    fn notify(&mut self, token: Token, bytes: &[u8]) -> Settled {
        let mut bytes = bytes.to_vec();
        let mut conn = self.shard.connection(token).unwrap();
        conn.receive(&mut bytes, &mut self.offload, &mut self.line)
    }

    /// Delivers something else to a socket.
    fn run(
        &mut self,
        token: Token,
        what: impl FnOnce(&mut Connection<'_, 'static, Ticket<Box<u32>>>),
    ) -> Settled {
        let mut conn = self.shard.connection(token).unwrap();
        what(&mut conn);
        conn.receive(&mut [], &mut self.offload, &mut self.line)
    }

    /// Delivers a message.
    fn deliver(&mut self, token: Token, message: Message) -> Settled {
        let mut conn = self.shard.connection(token).unwrap();
        let next = conn.message(message, &mut self.offload, &mut self.line.context()).unwrap();
        conn.carry_out(next, 0, &mut self.offload, &mut self.line)
    }

    /// Delivers the workers' messages until something is sent, and returns that. Messages without output come
    /// before: they report that a callback has ended, or are the program's own.
    fn answer(&mut self, expected: Token) -> Vec<u8> {
        for _ in 0..10 {
            let (token, message) = self.mailbox.pop();
            assert_eq!(self.deliver(token, message), READ);
            let sent = core::mem::take(&mut self.line.sent);
            if !sent.is_empty() {
                assert_eq!(token, expected);
                return sent;
            }
        }
        panic!("nothing was sent after ten messages");
    }

    fn close(&mut self, token: Token) {
        assert_eq!(self.run(token, |conn| conn.abort_with(CloseReason::Reset)), Settled::Closed);
    }
}

/// A bench with one worker, a socket that has set a deadline, and others that block the worker.
struct TimedBench {
    bench: Bench,
    stops: Stops,
    log: Log,
    timed: Token,
    others: Vec<Token>,
}

impl TimedBench {
    /// The socket has received `first`.
    fn new(first: u8) -> Self {
        let (stops, log) = (Stops::default(), Log::default());
        let shared = (stops.clone(), Arc::clone(&log));
        let make = move |_| Timed { stops: shared.0.clone(), log: Arc::clone(&shared.1) };
        let mut bench = Bench::with(Builder::new().workers(1).start(make).unwrap());
        let timed = bench.open();
        assert_eq!(bench.notify(timed, &[first]), READ);
        while !log.lock().unwrap().contains(&(timed, "receive")) {
            let (token, ready) = bench.mailbox.pop();
            assert_eq!(bench.deliver(token, ready), READ);
        }
        let mut this = Self { bench, stops, log, timed, others: Vec::new() };
        this.block(b'A');
        this.stops.wait_for(1);
        this.log.lock().unwrap().clear();
        this
    }

    /// Blocks the worker, after the sockets that wait for it now.
    fn block(&mut self, letter: u8) {
        let socket = self.bench.open();
        assert_eq!(self.bench.notify(socket, &[letter]), READ);
        self.others.push(socket);
    }

    /// Lets the deadline pass on the clock of the workers.
    fn pass_deadline(&self) {
        let end = Clock::now_ms() + 20;
        while Clock::now_ms() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns the events of the socket with the deadline, when the worker is blocked for the `count`th time.
    fn told(&mut self, count: usize) -> Vec<&'static str> {
        self.block(b'B');
        self.stops.wait_for(count);
        let log = self.log.lock().unwrap();
        log.iter().filter(|(token, _)| *token == self.timed).map(|(_, name)| *name).collect()
    }

    fn end(mut self) {
        self.stops.let_go(b'B');
        for token in self.others.into_iter().chain([self.timed]) {
            if self.bench.shard.connection(token).is_some() {
                self.bench.close(token);
            }
        }
        let report = self.bench.workers.shutdown(WAIT);
        assert_eq!((report.opened, report.closed, report.unfinished), (3, 3, 0), "{report}");
    }
}

#[test]
fn a_shard_driven_by_hand_has_its_callbacks_run_by_workers() {
    let mut bench = Bench::new();
    let tokens = [bench.open(), bench.open()];
    for token in tokens {
        for said in [&b"hello"[..], b"again"] {
            assert_eq!(bench.notify(token, said), READ);
            assert_eq!(bench.answer(token), said);
        }
    }
    // a message that is not `Clone`, and one that a worker posts to its own socket
    assert_eq!(bench.deliver(tokens[0], Box::new(0).into()), READ);
    assert_eq!(bench.answer(tokens[0]), 1_u32.to_be_bytes());
    tokens.into_iter().for_each(|token| bench.close(token));
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.opened, report.closed, report.unfinished), (2, 2, 0), "{report}");
    assert_eq!((report.unnotified, report.aborted, report.stuck), (0, 0, 0), "{report}");
}

/// A notification that a full mailbox refuses is retried until it is accepted.
#[test]
fn a_refused_answer_is_tried_again() {
    let mut bench = Bench::new();
    let tokens = [bench.open(), bench.open(), bench.open()];
    for refusals in [1, 2, 7, 30] {
        for token in tokens {
            bench.mailbox.answer(Answer::Full(refusals));
            assert_eq!(bench.notify(token, b"answer me"), READ);
            assert_eq!(bench.answer(token), b"answer me");
            assert_eq!(bench.mailbox.refusals_left(), 0);
        }
    }
    tokens.into_iter().for_each(|token| bench.close(token));
    assert_eq!(bench.workers.shutdown(WAIT).unnotified, 0);
}

/// Any free worker retries, not only the one whose post was refused: that one may be in a callback that
/// blocks.
#[test]
fn a_refused_answer_does_not_wait_for_a_worker_that_blocks() {
    let stops = Stops::default();
    let shared = stops.clone();
    let mut bench = Bench::with(Builder::new().workers(2).start(move |_| Stopping(shared.clone())).unwrap());
    let tokens = [bench.open(), bench.open(), bench.open()];
    let [one, two, three] = tokens;
    assert_eq!(bench.notify(one, b"A"), READ);
    stops.wait_for(1);
    bench.mailbox.answer(Answer::Full(usize::MAX));
    assert_eq!(bench.notify(two, b"answer me"), READ);
    bench.mailbox.wait_for_refusals(usize::MAX, 1);
    // on the same worker, as the other one is blocked
    assert_eq!(bench.notify(three, b"B"), READ);
    stops.wait_for(2);
    bench.mailbox.answer(Answer::Takes);
    stops.let_go(b'A');
    assert_eq!(bench.answer(two), b"answer me");
    stops.let_go(b'B');
    tokens.into_iter().for_each(|token| bench.close(token));
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.closed, report.unnotified, report.unfinished), (3, 0, 0), "{report}");
}

/// A close with queued output reaches the poller at once, so that the engine's drain timeout runs.
#[test]
fn a_poller_knows_that_its_socket_drains() {
    let mut bench = Bench::new();
    let token = bench.open();
    assert_eq!(bench.notify(token, b"hello"), READ);
    let (_, ready) = bench.mailbox.pop();
    bench.line.takes = false;
    assert_eq!(bench.deliver(token, ready), Settled::Waiting(Interest::BOTH));
    assert_eq!(bench.run(token, |conn| conn.shutdown()), Settled::Waiting(Interest::BOTH));
    let (_, ready) = bench.mailbox.pop();
    assert_eq!(bench.deliver(token, ready), Settled::Waiting(Interest::WRITE));
    assert_eq!(bench.shard.connection(token).unwrap().state(), State::Draining);
    bench.line.takes = true;
    assert_eq!(bench.run(token, |conn| conn.writable()), Settled::Closed);
    assert_eq!(bench.line.sent, b"hello");
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.closed, report.aborted, report.unfinished), (1, 0, 0), "{report}");
}

/// What the peer did before a worker finds that a deadline has passed precedes the timeout, as on a poller.
#[test]
fn what_the_peer_did_in_time_precedes_a_timeout() {
    type Deed = fn(&mut Bench, Token);
    let deeds: [(Deed, &[&str]); 5] = [
        (|bench, token| assert_eq!(bench.notify(token, b"x"), READ), &["receive", "timeout"]),
        (|bench, token| assert_eq!(bench.notify(token, b"o"), READ), &["receive"]),
        (
            |bench, token| assert_ne!(bench.run(token, |conn| conn.peer_ended()), Settled::Closed),
            &["peer_closed"],
        ),
        (Bench::close, &["close"]),
        // a message has no precedence
        (
            |bench, token| {
                assert_eq!(bench.deliver(token, Box::new(1).into()), READ);
                assert_eq!(bench.notify(token, b"x"), READ);
            },
            &["receive", "timeout", "message"],
        ),
    ];
    for (deed, expected) in deeds {
        let mut timed = TimedBench::new(b'd');
        let token = timed.timed;
        deed(&mut timed.bench, token);
        timed.pass_deadline();
        timed.stops.let_go(b'A');
        assert_eq!(timed.told(2), expected);
        timed.end();
    }
}

/// Input that there is no room for does not delay a close.
#[test]
fn a_reset_of_a_socket_that_does_not_read_precedes_a_timeout() {
    let mut timed = TimedBench::new(b'p');
    let token = timed.timed;
    assert_eq!(timed.bench.notify(token, b"x"), READ);
    timed.bench.close(token);
    timed.pass_deadline();
    timed.stops.let_go(b'A');
    assert_eq!(timed.told(2), ["close"]);
    timed.end();
}

/// Only once a turn, so that a peer that keeps sending cannot postpone a timeout.
#[test]
fn input_that_comes_after_other_input_does_not_postpone_a_timeout() {
    let mut timed = TimedBench::new(b'd');
    let token = timed.timed;
    assert_eq!(timed.bench.notify(token, b"C"), READ);
    timed.pass_deadline();
    timed.stops.let_go(b'A');
    timed.stops.wait_for(2);
    assert_eq!(timed.bench.notify(token, b"o"), READ);
    timed.stops.let_go(b'C');
    assert_eq!(timed.told(3), ["receive", "timeout", "receive"]);
    timed.end();
}

/// Input that no callback has seen counts as unread, also while it waits for a worker: the kernel might reset
/// a connection that is closed at once.
#[test]
fn a_close_with_input_in_the_bridge_is_staged() {
    let stops = Stops::default();
    let shared = stops.clone();
    let mut bench = Bench::with(Builder::new().workers(1).start(move |_| Stopping(shared.clone())).unwrap());
    let token = bench.open();
    assert_eq!(bench.notify(token, b"Z"), READ);
    stops.wait_for(1);
    assert_eq!(bench.notify(token, b"more"), READ);
    stops.let_go(b'Z');
    // the first messages may belong to earlier events
    while bench.shard.connection(token).unwrap().state() == State::Open {
        let (_, message) = bench.mailbox.pop();
        assert_eq!(bench.deliver(token, message), READ);
    }
    assert_eq!(bench.shard.connection(token).unwrap().state(), State::Lingering);
    assert_eq!(bench.run(token, |conn| conn.peer_ended()), Settled::Closed);
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.closed, report.aborted, report.unfinished), (1, 0, 0), "{report}");
}

/// A notification that is never accepted is counted.
#[test]
fn an_answer_that_is_never_taken_is_counted() {
    let mut bench = Bench::new();
    let token = bench.open();
    bench.mailbox.answer(Answer::Full(usize::MAX));
    assert_eq!(bench.notify(token, b"answer me"), READ);
    let report = bench.workers.shutdown(Duration::from_millis(10));
    assert_eq!((report.opened, report.closed, report.aborted, report.unfinished), (1, 1, 1, 0), "{report}");
    assert_eq!((report.unnotified, report.stuck), (1, 0), "{report}");
}

/// Notifications to a poller that has ended are not retried. The handler receives the close that the poller
/// reported.
#[test]
fn a_notification_to_a_poller_that_has_ended_is_not_retried() {
    let mut bench = Bench::new();
    let token = bench.open();
    bench.mailbox.answer(Answer::Gone);
    assert_eq!(bench.notify(token, b"answer me"), READ);
    bench.close(token);
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.closed, report.aborted, report.unnotified, report.stuck), (1, 0, 0, 0), "{report}");
}

/// A socket that never opens releases its shadow slot.
#[test]
fn a_socket_that_never_opens_leaves_its_place() {
    let builder = Builder::new().workers(2).sockets(1);
    let mut bench = Bench::with(builder.start(|_| Echo).unwrap());
    (0..100).for_each(|_| assert!(bench.admits()));
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.opened, report.unfinished, report.rejected), (0, 0, 0), "{report}");
}

/// A poller accepts a connection in place of one that has just ended, however long the last callback of that one takes.
#[test]
fn a_socket_that_has_ended_leaves_its_place_before_its_last_callback() {
    let stops = Stops::default();
    let shared = stops.clone();
    let builder = Builder::new().workers(1).sockets(2);
    let mut bench = Bench::with(builder.start(move |_| Stopping(shared.clone())).unwrap());
    let blocked = [bench.open(), bench.open()];
    assert_eq!(bench.notify(blocked[0], b"A"), READ);
    stops.wait_for(1);
    assert!(!bench.admits(), "two are open");
    bench.close(blocked[0]);
    let third = bench.open();
    assert!(!bench.admits(), "two are open");
    bench.close(blocked[1]);
    let fourth = bench.open();
    assert_eq!(bench.workers.report().rejected, 2);
    // the other limit: there are twice as many places as sockets
    bench.close(fourth);
    assert!(!bench.admits(), "one is open, and three have ended without their last callback");
    stops.let_go(b'A');
    assert_eq!(bench.notify(third, b"answer me"), READ);
    assert_eq!(bench.answer(third), b"answer me");
    bench.close(third);
    let report = bench.workers.shutdown(WAIT);
    assert_eq!((report.opened, report.closed, report.unfinished), (4, 4, 0), "{report}");
    assert_eq!((report.rejected, report.aborted, report.stuck), (3, 0, 0), "{report}");
}
