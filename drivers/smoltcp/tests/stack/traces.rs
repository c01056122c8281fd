//! The scripted peers of the conformance suite, over wires in memory: they must leave the traces that they leave over
//! epoll. The scripts are written again, because those of the suite play the peers with sockets of the system.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a script handles a few events and leaves the rest to the default"
)]

use core::fmt::Write as _;
use core::time::Duration;

use lightcone_conformance::scripts;
use lightcone_core::poller::AloneWithMail;
use lightcone_core::{
    Address, Config, Context, ContractChecker, Event, Handler, Instant, ListenerId, Origin, Socket, Timeouts,
    Token,
};
use lightcone_epoll::Epoll;
use lightcone_smoltcp::smoltcp::iface::SocketHandle;
use lightcone_smoltcp::smoltcp::socket::tcp::State;
use lightcone_smoltcp::{Stack, StackMemory, Uplink};

use crate::wire::{CLIENTS, Clients, End, Faults, Random, SERVER, interface, received, wire};

const CONFIG: Config = Config {
    sockets: 12,
    block_size: 1_024,
    input_blocks: 12,
    output_blocks: 48,
    output_limit: 4,
    receive_size: 4_096,
    receive_blocks: 4,
    ..Config::DEVICE
};
type Memory<'s, T> = StackMemory<'s, T, { CONFIG.sockets }, { CONFIG.memory() }, 2_048, 2_048>;
type Act = fn(&mut Socket<'_, Told>, Event<u64>, Instant);
type Server<'s> = Stack<'s, ContractChecker<Recorder>, End, AloneWithMail<u64, 8>, true, 2>;

/// What the script knows about a socket.
#[derive(Default)]
struct Told {
    socket: usize,
    count: usize,
}

/// The events of one socket, as text: as in the suite.
#[derive(Default)]
struct Story {
    text: String,
    bytes: (usize, u64),
    sent: bool,
    token: Option<Token>,
    over: bool,
    received: usize,
}

impl Story {
    fn event(&mut self, event: &Event<u64>) {
        match event {
            Event::Receive | Event::Writable => return,
            Event::Sent => return self.sent = true,
            _ => self.settle(),
        }
        let text = &mut self.text;
        match event {
            Event::Message(message) => write!(text, " message({message})"),
            Event::Refused(error) => write!(text, " refused({error})"),
            Event::Close(reason) => write!(text, " close({reason})"),
            other => write!(text, " {}", other.name()),
        }
        .unwrap();
        self.over |= matches!(event, Event::Close(_) | Event::Refused(_));
    }

    fn consumed(&mut self, bytes: &[u8]) {
        self.received += bytes.len();
        self.bytes.0 += bytes.len();
        for byte in bytes {
            self.bytes.1 = self.bytes.1.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
    }

    fn settle(&mut self) {
        let (count, sum) = core::mem::take(&mut self.bytes);
        if count > 0 {
            write!(self.text, " bytes({count}, {sum:x})").unwrap();
        }
        if core::mem::take(&mut self.sent) {
            self.text.push_str(" sent");
        }
    }
}

struct Recorder {
    stories: Vec<Story>,
    act: Act,
}

impl Handler for Recorder {
    type Data = Told;
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Told> {
        self.stories.push(Story::default());
        Some(Told { socket: self.stories.len() - 1, count: 0 })
    }

    fn event(&mut self, socket: &mut Socket<'_, Told>, event: Event<u64>, cx: &mut Context<'_, u64>) {
        let story = &mut self.stories[socket.data.socket];
        story.token = Some(socket.stream.token());
        story.event(&event);
        let before = socket.stream.bytes().to_vec();
        (self.act)(socket, event, cx.now());
        story.consumed(&before[..before.len() - socket.stream.bytes().len()]);
    }
}

fn by_default(socket: &mut Socket<'_, Told>, event: &Event<u64>) {
    match event {
        Event::PeerClosed | Event::Shutdown => socket.stream.close(),
        Event::Timeout => socket.stream.abort(),
        _ => {}
    }
}

fn echoing(socket: &mut Socket<'_, Told>, event: Event<u64>, _: Instant) {
    match event {
        Event::Receive | Event::Writable => {
            let (mut input, mut output) = socket.stream.split();
            let taken = output.send_some(input.bytes());
            input.consume(taken);
            if socket.stream.peer_closed() && socket.stream.bytes().is_empty() {
                socket.stream.close();
            }
        }
        Event::PeerClosed if !socket.stream.bytes().is_empty() => {}
        other => by_default(socket, &other),
    }
}

const CLOSE: u64 = 1;
const ABORT: u64 = 2;
const FINISH: u64 = 3;
const LINGER: u64 = 4;
const PAUSE: u64 = 5;
const RESUME: u64 = 6;

fn obeying(socket: &mut Socket<'_, Told>, event: Event<u64>, _: Instant) {
    match event {
        Event::Receive => socket.stream.consume_all(),
        Event::Message(CLOSE) => socket.stream.close(),
        Event::Message(ABORT) => socket.stream.abort(),
        Event::Message(FINISH) => socket.stream.finish(),
        Event::Message(LINGER) => socket.stream.linger(),
        Event::Message(PAUSE) => socket.stream.pause(),
        Event::Message(RESUME) => socket.stream.resume(),
        other => by_default(socket, &other),
    }
}

fn flooding(socket: &mut Socket<'_, Told>, event: Event<u64>, now: Instant) {
    match event {
        Event::Open | Event::Writable => while socket.stream.send(&[8; 1_000]).is_ok() {},
        other => obeying(socket, other, now),
    }
}

fn pattern(length: usize) -> Vec<u8> {
    lightcone_conformance::peer::pattern(length)
}

/// A stack, its peers, and the time.
struct Case<'a, 's> {
    stack: &'a mut Server<'s>,
    clients: Clients<End>,
    now: Instant,
}

impl Case<'_, '_> {
    /// Lets both ends run until a condition holds.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1_000_000 {
            let next = self.stack.poll(self.now);
            let other = self.clients.poll(self.now);
            if holds(self) {
                return;
            }
            let next = [next, other, self.clients.device.next()].into_iter().flatten().min();
            let Some(next) = next else { panic!("nothing leads to: {what}") };
            self.now = self.now.max(next);
            assert!(self.now < Instant::from_millis(1_000_000), "never: {what}");
        }
        panic!("no end of {what}");
    }

    /// Lets a span of time pass.
    fn pass(&mut self, span: u64) {
        let end = self.now + Duration::from_millis(span);
        while self.now < end {
            self.stack.poll(self.now);
            self.clients.poll(self.now);
            self.now += Duration::from_millis(1);
        }
    }

    fn story(&self, socket: usize) -> Option<&Story> {
        self.stack.poller().handler().inner().stories.get(socket)
    }

    fn has(&self, socket: usize, part: &str) -> bool {
        self.story(socket).is_some_and(|story| story.text.contains(part))
    }

    fn closed(&mut self, socket: usize) {
        self.until("the end of a socket", |case| case.story(socket).is_some_and(|story| story.over));
    }

    /// Connects a peer, with a receive buffer of this size, and waits until its socket is open.
    fn peer_of(&mut self, receive: usize) -> SocketHandle {
        let peer = self.clients.socket(receive, 4_096);
        let sockets = self.stack.poller().handler().inner().stories.len();
        self.clients.connect(peer, 7);
        self.until("open", |case| case.has(sockets, "open") && case.clients.of(peer).may_send());
        peer
    }

    fn peer(&mut self) -> SocketHandle {
        self.peer_of(4_096)
    }

    fn send(&mut self, peer: SocketHandle, bytes: &[u8]) {
        let mut sent = 0;
        self.until("bytes to be taken", |case| {
            sent += case.clients.of(peer).send_slice(&bytes[sent..]).unwrap();
            sent == bytes.len()
        });
    }

    fn finish(&mut self, peer: SocketHandle) {
        self.clients.of(peer).close();
    }

    fn reset(&mut self, peer: SocketHandle) {
        self.clients.of(peer).abort();
    }

    fn exchange(&mut self, peer: SocketHandle, bytes: &[u8]) {
        let (mut sent, mut back) = (0, Vec::new());
        self.until("the echo", |case| {
            let socket = case.clients.of(peer);
            sent += socket.send_slice(&bytes[sent..]).unwrap();
            back.extend(received(socket));
            back.len() == bytes.len()
        });
        assert!(back == bytes, "the echo differs");
    }

    fn receive_to_end(&mut self, peer: SocketHandle) -> Vec<u8> {
        let mut all = Vec::new();
        self.until("the end of the stream", |case| {
            let socket = case.clients.of(peer);
            all.extend(received(socket));
            !socket.may_recv()
        });
        all
    }

    fn tell(&mut self, message: u64) {
        let token = self.story(0).unwrap().token.unwrap();
        self.stack.poller_mut().post(token, message).unwrap();
        let text = format!("message({message})");
        let before = self.story(0).unwrap().text.matches(&text).count();
        self.until("a message", |case| case.story(0).unwrap().text.matches(&text).count() > before);
    }

    /// Waits until the queues of a socket are full.
    fn until_stalled(&mut self) {
        self.pass(300);
    }

    fn connect(&mut self, port: u16) {
        let to = Address::Inet((CLIENTS, port).into());
        self.stack.poller_mut().connect(to, 1).unwrap();
    }
}

/// Plays a script, and returns the trace.
fn play(
    faults: Option<Faults>,
    timeouts: Timeouts,
    act: Act,
    script: impl FnOnce(&mut Case<'_, '_>),
) -> String {
    let (mut device, there) = wire();
    if let Some(faults) = faults {
        there.set_faults(&faults);
    }
    let mut memory = Memory::new();
    let uplink = Uplink { interface: interface(&mut device, SERVER), device };
    let config = Config { timeouts, ..CONFIG };
    let handler = ContractChecker::new(Recorder { stories: Vec::new(), act });
    let now = Instant::from_millis(0);
    let mut stack: Server<'_> =
        Stack::new(&mut memory, &config, uplink, handler, AloneWithMail::new(), now).unwrap();
    assert!(stack.listen(7, ListenerId(0)));
    let mut case = Case { stack: &mut stack, clients: Clients::new(there, 32), now };
    script(&mut case);
    case.stack.poller_mut().stop(Duration::from_secs(2));
    case.until("the end", |case| case.stack.poller().is_over());
    let mut all = String::new();
    for story in &mut stack.poller_mut().handler_mut().inner_mut().stories {
        story.settle();
        all.push_str(story.text.trim_start());
        all.push('\n');
    }
    all
}

fn small() -> Timeouts {
    Timeouts { linger: Some(Duration::from_millis(500)), ..Timeouts::DEFAULT }
}

/// Compares the trace of a script with the one over epoll: over a good wire, and over some that double, delay and reorder
/// frames. None is lost, because a lost reset is not sent again.
macro_rules! traces {
    ($($name:ident $timeouts:expr, $act:expr, $script:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let expected = scripts::$name::<Epoll>();
                assert_eq!(play(None, $timeouts, $act, $script), expected, "smoltcp differs from epoll");
                for seed in 1..=10 {
                    let faults = Faults { random: Random(seed), lost: 0, doubled: 20, delayed: 50, delay: 10 };
                    let trace = play(Some(faults), $timeouts, $act, $script);
                    assert_eq!(trace, expected, "smoltcp differs from epoll, seed {seed}");
                }
            }
        )*
    };
}

traces! {
    a_silent_peer small(), echoing, |case| {
        let peer = case.peer();
        case.finish(peer);
        case.closed(0);
    };
    bytes_with_the_end small(), echoing, |case| {
        let peer = case.peer();
        case.send(peer, b"last words");
        case.finish(peer);
        assert_eq!(case.receive_to_end(peer), b"last words");
        case.closed(0);
    };
    an_exchange_then_the_end small(), echoing, |case| {
        let peer = case.peer();
        case.exchange(peer, b"hello");
        case.finish(peer);
        case.receive_to_end(peer);
        case.closed(0);
    };
    single_bytes small(), echoing, |case| {
        let peer = case.peer();
        (0..100).for_each(|n| case.exchange(peer, &[n]));
        case.finish(peer);
        case.closed(0);
    };
    every_size small(), echoing, |case| {
        let peer = case.peer();
        for size in [0, 1, 2, 1_023, 1_024, 1_025, 4_095, 4_096, 4_097, 10_000] {
            case.exchange(peer, &pattern(size));
        }
        case.finish(peer);
        case.closed(0);
    };
    a_large_stream small(), echoing, |case| {
        let peer = case.peer();
        case.exchange(peer, &pattern(400_000));
        case.finish(peer);
        case.closed(0);
    };
    an_end_before_the_answer small(), |socket, event, now| match event {
        Event::PeerClosed | Event::Writable => {
            while socket.data.count < 100 {
                if socket.stream.send(&[7; 1_000]).is_err() {
                    return;
                }
                socket.data.count += 1;
            }
            socket.stream.close();
        }
        other => obeying(socket, other, now),
    }, |case| {
        let peer = case.peer();
        case.finish(peer);
        assert_eq!(case.receive_to_end(peer).len(), 100_000);
        case.closed(0);
    };
    our_end_first small(), obeying, |case| {
        let peer = case.peer();
        case.tell(FINISH);
        case.receive_to_end(peer);
        case.send(peer, b"still here");
        case.until("bytes", |case| case.story(0).unwrap().received == 10);
        case.finish(peer);
        case.closed(0);
    };
    both_ends small(), |socket, event, now| match event {
        Event::PeerClosed => {}
        other => obeying(socket, other, now),
    }, |case| {
        let peer = case.peer();
        case.finish(peer);
        case.until("peer_closed", |case| case.has(0, "peer_closed"));
        case.tell(FINISH);
        case.receive_to_end(peer);
        case.closed(0);
    };
    an_idle_reset small(), echoing, |case| {
        let peer = case.peer();
        case.reset(peer);
        case.closed(0);
    };
    a_reset_after_bytes small(), echoing, |case| {
        let peer = case.peer();
        case.exchange(peer, b"hello");
        case.reset(peer);
        case.closed(0);
    };
    a_reset_after_the_end small(), |socket, event, now| match event {
        Event::Open => {}
        Event::PeerClosed => while socket.stream.send(&[8; 1_000]).is_ok() {},
        other => flooding(socket, other, now),
    }, |case| {
        let peer = case.peer_of(512);
        case.finish(peer);
        case.until("peer_closed", |case| case.has(0, "peer_closed"));
        case.until_stalled();
        case.reset(peer);
        case.closed(0);
    };
    a_reset_of_a_stalled_socket small(), flooding, |case| {
        let peer = case.peer_of(512);
        case.until_stalled();
        case.reset(peer);
        case.closed(0);
    };
    bytes_during_a_pause small(), obeying, |case| {
        let peer = case.peer();
        case.tell(PAUSE);
        case.send(peer, b"waiting");
        case.finish(peer);
        case.tell(RESUME);
        case.closed(0);
    };
    a_reset_during_a_pause small(), obeying, |case| {
        let peer = case.peer();
        case.tell(PAUSE);
        case.reset(peer);
        case.tell(RESUME);
        case.closed(0);
    };
    a_late_reader small(), flooding, |case| {
        let peer = case.peer();
        case.until_stalled();
        case.tell(CLOSE);
        assert!(case.receive_to_end(peer).iter().all(|byte| *byte == 8));
        case.finish(peer);
        case.closed(0);
    };
    an_abort_of_a_stalled_socket small(), flooding, |case| {
        case.peer();
        case.until_stalled();
        case.tell(ABORT);
        case.closed(0);
    };
    a_close_with_unread_input small(), |socket, event, now| match event {
        Event::Receive => {
            socket.stream.send(b"too much").unwrap();
            socket.stream.close();
        }
        other => obeying(socket, other, now),
    }, |case| {
        let peer = case.peer();
        case.send(peer, b"request");
        assert_eq!(case.receive_to_end(peer), b"too much");
        case.finish(peer);
        case.closed(0);
    };
    a_staged_close Timeouts { linger: None, ..small() }, obeying, |case| {
        let peer = case.peer();
        case.tell(LINGER);
        case.receive_to_end(peer);
        case.send(peer, b"nobody hears this");
        case.finish(peer);
        case.closed(0);
    };
    closed_by_the_handle small(), echoing, |case| {
        for socket in 0..2 {
            let peer = case.peer();
            let token = case.story(socket).unwrap().token.unwrap();
            case.stack.poller_mut().close_socket(token, socket == 1);
            case.closed(socket);
            case.receive_to_end(peer);
            case.finish(peer);
        }
    };
    a_connect small(), echoing, |case| {
        let peer = case.clients.socket(1_024, 1_024);
        case.clients.of(peer).listen(9).unwrap();
        case.connect(9);
        case.exchange_when_connected(peer, b"hello");
        case.finish(peer);
        case.closed(0);
    };
    a_connect_that_is_reset small(), echoing, |case| {
        let peer = case.clients.socket(1_024, 1_024);
        case.clients.of(peer).listen(9).unwrap();
        case.connect(9);
        case.until("open", |case| case.has(0, "open") && case.clients.of(peer).state() == State::Established);
        case.reset(peer);
        case.closed(0);
    };
    a_deadline small(), |socket, event, now| match event {
        Event::Open => socket.stream.set_deadline(Some(now + Duration::from_millis(20))),
        other => obeying(socket, other, now),
    }, |case| {
        case.peer();
        case.closed(0);
    };
    numbers_used_again small(), |socket, event, now| match event {
        Event::Receive => {
            echoing(socket, event, now);
            socket.stream.close();
        }
        other => obeying(socket, other, now),
    }, |case| {
        for socket in 0..20 {
            let peer = case.peer();
            case.send(peer, b"once");
            assert_eq!(case.receive_to_end(peer), b"once");
            case.finish(peer);
            case.closed(socket);
        }
    };
    nothing_at_all small(), |socket, event, now| match event {
        Event::Open | Event::Message(9) => socket.stream.send(b"").unwrap(),
        other => obeying(socket, other, now),
    }, |case| {
        let peer = case.peer();
        case.tell(9);
        case.finish(peer);
        case.receive_to_end(peer);
        case.closed(0);
    };
}

impl Case<'_, '_> {
    fn exchange_when_connected(&mut self, peer: SocketHandle, bytes: &[u8]) {
        self.until("a connection", |case| case.clients.of(peer).state() == State::Established);
        self.exchange(peer, bytes);
    }
}

/// The first line of the script; the others are about Unix sockets.
#[test]
fn refused_connects() {
    let expected = scripts::refused_connects::<Epoll>();
    let trace = play(None, small(), echoing, |case| {
        case.connect(9);
        case.closed(0);
    });
    assert_eq!(Some(trace.trim_end()), expected.lines().next());
}

#[test]
fn a_connect_without_an_answer() {
    let timeouts = Timeouts { connect: Some(Duration::from_millis(100)), ..small() };
    let trace = play(None, timeouts, echoing, |case| {
        case.clients.device.cut(true);
        case.connect(9);
        case.closed(0);
    });
    let expected = scripts::a_connect_without_an_answer::<Epoll>();
    assert!(trace == expected || expected == scripts::ABSENT, "{trace}");
    assert_eq!(trace, "refused(timed out)\n");
}

#[test]
fn timeouts() {
    let spans = Timeouts {
        first_byte: Some(Duration::from_millis(60)),
        write_stall: Some(Duration::from_millis(120)),
        ..small()
    };
    let silent = play(None, spans, obeying, |case| {
        case.peer();
        case.closed(0);
    });
    let stalled = play(None, Timeouts { first_byte: None, ..spans }, flooding, |case| {
        case.peer();
        case.closed(0);
    });
    assert_eq!(silent + &stalled, scripts::timeouts::<Epoll>());
}

#[test]
fn a_stop() {
    let timeouts = Timeouts { drain: Some(Duration::from_millis(100)), ..small() };
    let act: Act = |socket, event, now| match event {
        Event::Receive => {}
        Event::Open if socket.data.socket < 2 => {}
        other => flooding(socket, other, now),
    };
    let trace = play(None, timeouts, act, |case| {
        let peers = [(); 3].map(|()| case.peer());
        case.send(peers[1], b"unread");
        case.until_stalled();
    });
    assert_eq!(trace, scripts::a_stop::<Epoll>());
}
