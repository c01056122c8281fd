//! Every timeout in every phase of a socket, alone and combined: each takes effect at its exact tick. Seeded walks over
//! short spans are compared with a model that implements the rules of `Timeouts` without timers.

use crate::common::{Bench, Data, PLAIN, Random, ms};
use core::time::Duration;
use lightcone_core::life::State;
use lightcone_core::{Action, CloseReason, Config, Event, Socket, Timeout, Timeouts, Token};

/// Start times: for some, the low half of the clock wraps within a few walks.
const STARTS: [u64; 4] = [0, u32::MAX as u64 - 150, (1 << 31) - 150, (7 << 32) - 1];
const SEEDS: u64 = 6_000;
const WALKS_A_SEED: usize = 6;
/// All timeouts are shorter than this, which bounds the length of a walk.
const SPAN_MAX: usize = 12;

/// The messages that control the handler.
const SEND: u32 = 1;
const BEGIN: u32 = 2;
const CEASE: u32 = 3;
const CLOSE: u32 = 4;
const LINGER: u32 = 5;
const FINISH: u32 = 6;
const CALL_OFF: u32 = 7;
/// A message n from here on sets a deadline n - `DEADLINE` milliseconds ahead.
const DEADLINE: u32 = 8;

fn obey(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    match event {
        Event::Receive => {
            let length = socket.bytes().len();
            socket.consume(length);
        }
        Event::Message(SEND) => drop(socket.send(&[1; 10])),
        Event::Message(BEGIN) => socket.set_active(true),
        Event::Message(CEASE) => socket.set_active(false),
        Event::Message(CLOSE) => socket.close(),
        Event::Message(LINGER) => socket.linger(),
        Event::Message(FINISH) => socket.finish(),
        Event::Message(CALL_OFF) => socket.set_deadline(None),
        Event::Message(ahead) => {
            let at = socket.now() + Duration::from_millis(u64::from(ahead - DEADLINE));
            socket.set_deadline(Some(at));
        }
        _ => {}
    }
}

/// What is due according to the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    Deadline,
    Timeout(Timeout),
    Linger,
}

/// The state of a socket that the rules depend on. Times are those of the shard's clock.
#[derive(Debug)]
struct Model {
    timeouts: Timeouts,
    state: State,
    accepted: bool,
    heard: bool,
    active: bool,
    opened: u64,
    /// The last time at which bytes were received or sent, an activity ended, or the peer stopped taking output.
    moved: u64,
    stalled: Option<u64>,
    /// When a state that ends by a timeout was entered, or the peer last took some of the output in it.
    entered: u64,
    deadline: Option<u64>,
}

impl Model {
    fn new(timeouts: Timeouts, accepted: bool, now: u64) -> Self {
        let state = if accepted { State::Open } else { State::Connecting };
        Self {
            timeouts,
            state,
            accepted,
            heard: false,
            active: false,
            opened: now,
            moved: now,
            stalled: None,
            entered: now,
            deadline: None,
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.state, State::Open | State::Finishing | State::Finished | State::PeerClosed)
    }

    /// Returns the timeouts that run, and the tick at which each is due: one tick more than its span, because the clock
    /// may have been read almost one tick before the event that it dates.
    fn running(&self) -> [Option<(u64, Due)>; 2] {
        let at = |from: u64, span: Option<Duration>, which: Due| {
            span.map(|span| (from + span.as_millis() as u64 + 1, which))
        };
        let Timeouts { connect, first_byte, idle, write_stall, drain, linger, write_rate: _ } = self.timeouts;
        let stall = self.stalled.and_then(|since| at(since, write_stall, Due::Timeout(Timeout::WriteStall)));
        match self.state {
            State::Connecting => [at(self.opened, connect, Due::Timeout(Timeout::Connect)), None],
            State::Draining | State::PreLinger => {
                [at(self.entered, drain, Due::Timeout(Timeout::Drain)), None]
            }
            State::Lingering => [at(self.entered, linger, Due::Linger), None],
            // The order matters: until the first byte, its timeout replaces idle; a write stall timeout replaces idle
            // as well; an active socket is idle only while it is stalled.
            _ if !self.is_live() => [None, None],
            _ if self.accepted && !self.heard && first_byte.is_some() => {
                [at(self.opened, first_byte, Due::Timeout(Timeout::FirstByte)), stall]
            }
            _ if stall.is_some() => [stall, None],
            _ if self.active && self.stalled.is_none() => [None, None],
            _ => [at(self.moved, idle, Due::Timeout(Timeout::Idle)), None],
        }
    }

    /// Returns everything due at `now`, in order; if the socket ends, that is the last item.
    fn due(&mut self, now: u64, pairs: &mut Pairs) -> Vec<Due> {
        let mut due = Vec::new();
        loop {
            let own = self.deadline.filter(|_| self.is_live()).map(|at| (at, Due::Deadline));
            let all = [own, self.running()[0], self.running()[1]];
            let first = all.into_iter().flatten().min_by_key(|(at, _)| *at);
            let Some((at, which)) = first.filter(|(at, _)| *at <= now) else { return due };
            for (other_at, other) in all.into_iter().flatten().filter(|(_, other)| *other != which) {
                pairs.note(which, other, at == other_at);
            }
            due.push(which);
            // A deadline does not end the socket, so a timeout may be due after it.
            if which != Due::Deadline {
                return due;
            }
            self.deadline = None;
        }
    }

    fn stalls(&mut self, now: u64) {
        if self.stalled.is_none() {
            self.stalled = Some(now);
            self.moved = now;
        }
    }

    /// The peer has taken some of the output, which restarts the timeouts that wait for it.
    fn sends(&mut self, now: u64) {
        self.stalled = None;
        self.moved = now;
        if matches!(self.state, State::Draining | State::PreLinger) {
            self.entered = now;
        }
    }

    fn obeys(&mut self, message: u32, now: u64) {
        match message {
            BEGIN => self.active = true,
            CEASE if self.active => {
                self.active = false;
                self.moved = now;
            }
            CALL_OFF => self.deadline = None,
            DEADLINE.. => self.deadline = Some(now + u64::from(message - DEADLINE)),
            _ => {}
        }
    }

    /// Follows the state of the shard; transitions are checked by other tests.
    fn enters(&mut self, state: State, now: u64) {
        let ends = |state| matches!(state, State::Draining | State::PreLinger);
        if ends(state) && !ends(self.state) || state == State::Lingering && self.state != state {
            self.entered = now;
        }
        if self.state == State::Connecting && state == State::Open {
            self.moved = now;
        }
        self.state = state;
    }
}

/// Which timeout was due before which other running one, and which were due together.
#[derive(Default)]
struct Pairs(Vec<(Due, Due, bool)>);

impl Pairs {
    fn note(&mut self, first: Due, other: Due, together: bool) {
        let pair = (first, other, together);
        if !self.0.contains(&pair) {
            self.0.push(pair);
        }
    }
}

/// One socket from its beginning to its end.
struct Walk<'b> {
    bench: &'b mut Bench,
    random: &'b mut Random,
    token: Token,
    model: Model,
    ended: bool,
}

impl Walk<'_> {
    /// Carries out the socket's actions. Of the queued output, nothing, a part or all is sent.
    fn carry_out(&mut self, mut next: Action) {
        loop {
            let now = self.bench.now;
            if next == Action::Close {
                self.ended = true;
                return;
            }
            let state = self.bench.shard.connection(self.token).expect("the socket is open").state();
            self.model.enters(state, now);
            next = match next {
                Action::Send if self.random.one_in(2) => {
                    self.model.stalls(now);
                    self.bench.tell(self.token, |conn| conn.would_block())
                }
                Action::Send => {
                    let queued = self.bench.outputs(self.token).len();
                    let sent = 1 + self.random.below(queued);
                    self.model.sends(now);
                    self.bench.tell(self.token, |conn| conn.sent(sent))
                }
                Action::ShutdownWrite => self.bench.tell(self.token, |conn| conn.write_shut_down()),
                _ => return,
            };
        }
    }

    /// Causes one event on the socket, or one action of its handler.
    fn act(&mut self) {
        let (now, token) = (self.bench.now, self.token);
        if self.model.state == State::Connecting {
            let next = self.bench.tell(token, |conn| conn.connected());
            return self.carry_out(next);
        }
        let what = self.random.below(13) as u32;
        let next = match what {
            0 if self.model.state == State::Lingering || self.bench.room(token) > 0 => {
                if self.model.is_live() {
                    self.model.heard = true;
                    self.model.moved = now;
                }
                self.bench.receive(token, b"x")
            }
            1 => self.bench.tell(token, |conn| conn.writable()),
            2 if self.random.one_in(3) => {
                if matches!(self.model.state, State::Open) && self.model.accepted && !self.model.heard {
                    self.model.heard = true; // no first byte can arrive any more
                    self.model.moved = now;
                }
                self.bench.tell(token, |conn| conn.peer_ended())
            }
            // Ends are rarer than other actions, so that walks last longer.
            CLOSE..=FINISH if !self.random.one_in(3) => return,
            3.. if self.model.is_live() => {
                let message =
                    if what > DEADLINE { DEADLINE + self.random.below(SPAN_MAX) as u32 } else { what };
                let message = if what == 3 { [SEND, BEGIN, CEASE][self.random.below(3)] } else { message };
                self.model.obeys(message, now);
                self.bench.message(token, message).expect("the socket is live")
            }
            _ => return,
        };
        self.carry_out(next);
    }

    /// Runs a turn at this time. Since event number `before`, exactly the events that the model predicts must have
    /// come, in its order.
    fn turn(&mut self, now: u64, before: usize, exactly: bool, pairs: &mut Pairs) {
        let expected = self.model.due(now, pairs);
        self.bench.set_clock(now);
        // If two are due at once, the second is delivered in the next turn.
        for _ in 0..3 {
            let wakes = self.bench.shard.next_deadline().is_some_and(|at| at.as_millis() <= now);
            if self.ended || exactly && !wakes {
                break;
            }
            for (token, next) in self.bench.turn(now) {
                assert_eq!(token, self.token);
                self.carry_out(next);
            }
        }
        let timed =
            |event: &Event<u32>| matches!(event, Event::Timeout | Event::Close(_) | Event::Refused(_));
        let told = self.bench.seen()[before..].iter().map(|seen| seen.event);
        let told: Vec<_> = told.filter(timed).collect();
        let fits = |(told, due): (&Event<u32>, &Due)| match (told, due) {
            (Event::Timeout, Due::Deadline)
            | (Event::Close(CloseReason::Local | CloseReason::Peer), Due::Linger)
            | (Event::Refused(_), Due::Timeout(Timeout::Connect)) => true,
            (Event::Close(CloseReason::TimedOut(told)), Due::Timeout(due)) => told == due,
            _ => false,
        };
        let all_fit = told.len() == expected.len() && told.iter().zip(&expected).all(fits);
        assert!(all_fit, "at {now} {told:?} instead of {expected:?}; {:?}", self.model);
        let ends = expected.last().is_some_and(|due| *due != Due::Deadline);
        assert!(ends <= self.ended, "at {now} the socket goes on after {expected:?}");
    }
}

/// Walks one socket from its beginning to its end, or until no timeout runs any more.
fn walk(bench: &mut Bench, random: &mut Random, timeouts: Timeouts, pairs: &mut Pairs) {
    let accepted = !random.one_in(4);
    let token = if accepted { bench.open() } else { bench.dial(1) };
    let model = Model::new(timeouts, accepted, bench.now);
    // The driver runs turns either only when a deadline requires one, or at every tick; some drivers are late.
    let (exactly, lateness) = (random.one_in(2), if random.one_in(3) { 4 } else { 1 });
    let eagerness = 2 + random.below(8);
    let mut walk = Walk { bench, random, token, model, ended: false };
    for tick in 0..20 * SPAN_MAX {
        if walk.ended {
            return;
        }
        let now = walk.bench.now + 1 + walk.random.below(lateness) as u64;
        // An event in the tick of a timeout may come before the turn's clock update or after it.
        if walk.random.one_in(2) {
            walk.bench.set_clock(now);
        }
        let before = walk.bench.seen().len();
        if tick < 5 * SPAN_MAX && walk.random.one_in(eagerness) {
            walk.act();
        }
        // An event may have ended the socket in the same tick, before the timeout could.
        let last = walk.bench.seen().last().map(|seen| seen.event);
        let in_order = matches!(last, Some(Event::Close(CloseReason::Local | CloseReason::Peer)));
        if !(walk.ended && in_order) {
            walk.turn(now, before, exactly, pairs);
        }
    }
    if !walk.ended {
        let deadline = walk.model.deadline.filter(|_| walk.model.is_live());
        assert_eq!((deadline, walk.model.running()), (None, [None, None]), "{:?}", walk.model);
        let _ = walk.bench.tell(token, |conn| conn.abort_with(CloseReason::Reset));
    }
}

#[test]
fn each_timeout_comes_at_its_tick_whatever_else_runs() {
    let mut pairs = Pairs::default();
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut span = |one_in| {
            let span = 1 + random.below(SPAN_MAX - 1) as u64;
            if random.one_in(one_in) { None } else { ms(span) }
        };
        let timeouts = Timeouts {
            connect: span(8),
            first_byte: span(3),
            idle: span(4),
            write_stall: span(3),
            drain: span(8),
            linger: span(8),
            write_rate: None,
        };
        let config = Config { sockets: 1, input_blocks: 1, output_blocks: 2, timeouts, ..PLAIN };
        let mut bench = Bench::starting_at(STARTS[seed as usize % STARTS.len()], &config, obey);
        bench.pull = random.one_in(2);
        for _ in 0..WALKS_A_SEED {
            walk(&mut bench, &mut random, timeouts, &mut pairs);
        }
    }
    // Every pair that can run together must have come in either order and at the same time.
    let own = Due::Deadline;
    let [first, stall, idle] = [Timeout::FirstByte, Timeout::WriteStall, Timeout::Idle].map(Due::Timeout);
    for (one, other) in [(first, stall), (own, first), (own, stall), (own, idle)] {
        for pair in [(one, other, false), (other, one, false), (one, other, true)] {
            assert!(pairs.0.contains(&pair), "{pair:?} never came; {:?}", pairs.0);
        }
    }
}
