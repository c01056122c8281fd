//! The layer of the PROXY protocol over a shard: what the wrapped handler sees, for every cut of the header.
#![allow(unused_must_use, reason = "the actions of a socket that only reads need no work")]

use core::cell::{Cell, RefCell};
use core::mem::MaybeUninit;
use core::time::Duration;
use lightcone_core::proxy_protocol::{HeaderError, LINE_MAX, ProxyProtocol, Refusal, Untrusted};
use lightcone_core::sync::{PeerLimits, PeerPlace};
use lightcone_core::{
    Action, Address, AddressPrefix, AdmitError, CloseReason, Config, ConnectError, Connection, Context,
    ContractChecker, Event, Handler, Instant, Interest, Lag, LagCounter, LimitPeers, ListenerId, NoOutbox,
    Origin, Outbox, PollerId, Rejected, RoomError, STOP_LINGER, Shard, Socket, Storage, SubscribeError,
    Timeout, Timeouts, TimerError, TimerId, Token, Topic, UnixId, Unpublished,
};

const CONFIG: Config = Config {
    sockets: 4,
    block_size: 256,
    input_blocks: 4,
    output_blocks: 8,
    output_limit: 2,
    receive_blocks: 0,
    timeouts: Timeouts { first_byte: Some(Duration::from_secs(30)), ..Timeouts::NONE },
    ..Config::DEVICE
};
const LISTENER: ListenerId = ListenerId(3);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 49152 443\r\n";

fn proxy() -> Address {
    Address::Inet(([10, 1, 2, 3], 50_000).into())
}

fn stranger() -> Address {
    Address::Inet(([11, 1, 2, 3], 50_000).into())
}

/// The addresses of `LINE` in a header of version 2, with a value of three bytes.
fn binary() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f".to_vec();
    bytes.extend([192, 0, 2, 7, 198, 51, 100, 1]);
    bytes.extend(49_152_u16.to_be_bytes());
    bytes.extend(443_u16.to_be_bytes());
    bytes.extend([4, 0, 0]);
    bytes
}

/// What the wrapped handler does in `open`.
#[derive(Clone, Copy, Debug, Default)]
enum InOpen {
    #[default]
    Nothing,
    Close,
    /// Fills the output.
    Fill,
    /// Calls each service of the driver.
    Ask,
}

/// Records its events in words, each with the addresses, and consumes its input.
#[derive(Debug, Default)]
struct Recorder {
    seen: Vec<String>,
    in_open: InOpen,
    refuses: bool,
}

impl Handler for Recorder {
    type Data = u32;
    type Message = u32;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<u32> {
        match origin {
            Origin::Accepted { listener } => self.seen.push(format!("admit {} {peer}", listener.0)),
            Origin::Connecting { tag } => self.seen.push(format!("admit a connect, tag {tag}")),
        }
        (!self.refuses).then_some(7)
    }

    fn event(&mut self, socket: &mut Socket<'_, u32>, event: Event<u32>, cx: &mut Context<'_, u32>) {
        assert_eq!(*socket.data, 7);
        let text = String::from_utf8(socket.bytes().to_vec()).unwrap();
        let (peer, local) = (socket.peer(), cx.local_address(socket.token()));
        let local = local.map_or_else(|| "?".into(), |local| local.to_string());
        let silent = if socket.is_silent() { " silent" } else { "" };
        self.seen.push(format!("{} {peer} > {local}{silent} {text}", event.name()).trim_end().into());
        socket.consume_all();
        match (event, self.in_open) {
            (Event::Open, InOpen::Close) => socket.close(),
            (Event::Open, InOpen::Fill) => {
                assert!(socket.send(&[0; 500]).is_ok() && socket.send(&[0; 500]).is_err());
            }
            (Event::Open, InOpen::Ask) => ask(socket.token(), cx),
            (Event::PeerClosed | Event::Shutdown, _) => socket.close(),
            _ => {}
        }
    }
}

/// Calls each service of the driver once.
fn ask(token: Token, cx: &mut Context<'_, u32>) {
    cx.post(token, 1);
    cx.broadcast(2);
    cx.publish(Topic(1), 3);
    cx.subscribe(Topic(1), token);
    cx.unsubscribe(Topic(1), token);
    cx.unsubscribe_all(token);
    cx.subscribers(Topic(1));
    cx.count_lag(Lag::Dropped);
    cx.connect(proxy(), 4);
    cx.set_timer(Instant::from_millis(5), 5);
    cx.cancel_timer(TimerId::from_bits(6));
    cx.request_room(PollerId(0), Some(token));
}

thread_local! {
    /// The names of the services that were called, other than for a local address.
    static CALLED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Has a local address for each socket, and notes the other calls.
struct Local;

impl Local {
    fn note(name: &'static str) -> NoOutbox {
        CALLED.with_borrow_mut(|all| all.push(name));
        NoOutbox
    }
}

impl Outbox<u32> for Local {
    fn post(&mut self, to: Token, message: u32) -> Result<(), Rejected<u32>> {
        Self::note("post").post(to, message)
    }

    fn broadcast(&mut self, message: u32, clone: fn(&u32) -> u32) -> Result<(), Rejected<u32>> {
        Self::note("broadcast").broadcast(message, clone)
    }

    fn publish(&mut self, message: Unpublished<u32>) -> Result<(), Rejected<Unpublished<u32>>> {
        Self::note("publish").publish(message)
    }

    fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        Outbox::<u32>::subscribe(&mut Self::note("subscribe"), topic, socket)
    }

    fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        Outbox::<u32>::unsubscribe(&mut Self::note("unsubscribe"), topic, socket)
    }

    fn unsubscribe_all(&mut self, socket: Token) -> usize {
        Outbox::<u32>::unsubscribe_all(&mut Self::note("unsubscribe_all"), socket)
    }

    fn subscribers(&self, topic: Topic) -> usize {
        Outbox::<u32>::subscribers(&Self::note("subscribers"), topic)
    }

    fn count_lag(&mut self, lag: Lag) {
        Outbox::<u32>::count_lag(&mut Self::note("count_lag"), lag);
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        Outbox::<u32>::connect(&mut Self::note("connect"), to, tag)
    }

    fn local_address(&self, _: Token) -> Option<Address> {
        Some(Address::Inet(([10, 0, 0, 1], 80).into()))
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        Outbox::<u32>::set_timer(&mut Self::note("set_timer"), at, tag)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        Outbox::<u32>::cancel_timer(&mut Self::note("cancel_timer"), timer)
    }

    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        Outbox::<u32>::request_room(&mut Self::note("request_room"), at, socket)
    }
}

thread_local! {
    /// What was reported about connections that were turned away.
    static REFUSALS: RefCell<Vec<(Address, Refusal)>> = const { RefCell::new(Vec::new()) };
}

fn report(peer: &Address, refusal: Refusal) {
    REFUSALS.with_borrow_mut(|all| all.push((*peer, refusal)));
}

fn refusals() -> Vec<(Address, Refusal)> {
    REFUSALS.take()
}

type Layer<H> = ContractChecker<ProxyProtocol<ContractChecker<H>, Vec<AddressPrefix>>>;

struct Bench<H: Handler<Message = u32, Data: 'static> = Recorder> {
    shard: Shard<'static, <Layer<H> as Handler>::Data>,
    handler: Layer<H>,
    now: Cell<u64>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Recorder::default(), &CONFIG, |layer| layer)
    }

    fn seen(&mut self) -> Vec<String> {
        core::mem::take(&mut self.handler.inner_mut().inner_mut().inner_mut().seen)
    }

    fn recorder(&mut self) -> &mut Recorder {
        self.handler.inner_mut().inner_mut().inner_mut()
    }
}

impl<H: Handler<Message = u32, Data: 'static>> Bench<H> {
    fn with(
        inner: H,
        config: &Config,
        set: impl FnOnce(
            ProxyProtocol<ContractChecker<H>, Vec<AddressPrefix>>,
        ) -> ProxyProtocol<ContractChecker<H>, Vec<AddressPrefix>>,
    ) -> Self {
        refusals();
        let trusted = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let layer = ProxyProtocol::new(ContractChecker::new(inner), trusted).on_refusal(report);
        let slots: Vec<_> = (0..config.sockets).map(|_| MaybeUninit::uninit()).collect();
        let storage = Storage { slots: slots.leak(), memory: vec![0xA5; config.memory()].leak() };
        let shard = Shard::new(storage, config, Instant::from_millis(0)).unwrap();
        Self { shard, handler: ContractChecker::new(set(layer)), now: Cell::new(0) }
    }

    fn admit(&mut self, peer: Address) -> Result<Token, AdmitError> {
        self.shard.admit(&mut self.handler, Origin::Accepted { listener: LISTENER }, &peer)
    }

    /// Accepts a connection of the trusted proxy.
    fn open(&mut self) -> Token {
        let token = self.admit(proxy()).unwrap();
        assert_eq!(self.tell(token, &[]), Action::Wait(Interest::READ));
        token
    }

    fn tell(&mut self, token: Token, bytes: &[u8]) -> Action {
        self.tell_with(token, bytes, |_| {})
    }

    fn tell_with(
        &mut self,
        token: Token,
        bytes: &[u8],
        what: impl FnOnce(&mut Connection<'_, 'static, <Layer<H> as Handler>::Data>),
    ) -> Action {
        let mut bytes = bytes.to_vec();
        let mut outbox = Local;
        let mut cx = Context::new(Instant::from_millis(self.now.get()), None, PollerId(0), &mut outbox);
        let mut connection = self.shard.connection(token).expect("the socket is open");
        connection.received(&mut bytes);
        what(&mut connection);
        connection.run(&mut self.handler, &mut cx)
    }

    fn is_open(&mut self, token: Token) -> bool {
        self.shard.connection(token).is_some()
    }

    /// Runs a turn at a time; returns the actions of the sockets that are due.
    fn turn(&mut self, now: u64) -> Vec<Action> {
        self.now.set(now);
        self.shard.tick(Instant::from_millis(now));
        let mut actions = Vec::new();
        while let Some(token) = self.shard.next_ready() {
            actions.push(self.tell(token, &[]));
        }
        actions
    }

    /// Checks that both checkers have seen the last event of each socket.
    fn is_clean(&self) {
        assert_eq!((self.handler.alive(), self.shard.in_use()), (0, 0));
        assert_eq!(self.handler.inner().inner().alive(), 0);
    }
}

const ADMIT: &str = "admit 3 192.0.2.7:49152";
const SILENT: &str = "open 192.0.2.7:49152 > 198.51.100.1:443 silent";
const OPEN: &str = "open 192.0.2.7:49152 > 198.51.100.1:443";

fn receive(text: &str) -> String {
    format!("receive 192.0.2.7:49152 > 198.51.100.1:443 {text}")
}

#[test]
fn a_header_is_taken_off_at_every_cut() {
    for header in [LINE.to_vec(), binary()] {
        let stream = [&header[..], b"ping"].concat();
        for cut in 1..stream.len() {
            let mut bench = Bench::new();
            let token = bench.open();
            assert_eq!(bench.seen(), [""; 0]);
            assert_eq!(bench.tell(token, &stream[..cut]), Action::Wait(Interest::READ));
            let expected: Vec<String> = match cut.checked_sub(header.len()) {
                None => vec![],
                Some(0) => vec![ADMIT.into(), SILENT.into()],
                Some(more) => vec![ADMIT.into(), OPEN.into(), receive(&"ping"[..more])],
            };
            assert_eq!(bench.seen(), expected, "at {cut}");
            bench.tell(token, &stream[cut..]);
            let rest = &"ping"[cut.saturating_sub(header.len())..];
            let mut expected = vec![receive(rest)];
            if cut < header.len() {
                expected = vec![ADMIT.into(), OPEN.into(), receive(rest)];
            }
            assert_eq!(bench.seen(), expected, "at {cut}");
            bench.tell_with(token, &[], |conn| conn.peer_ended());
            assert_eq!(bench.seen().len(), 2); // `peer_closed` and `close`
            bench.is_clean();
        }
    }
    assert_eq!(refusals(), []);
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [LINE.to_vec(), binary()] {
        let mut bench = Bench::new();
        let token = bench.open();
        for byte in [&header[..], b"!"].concat() {
            bench.tell(token, &[byte]);
        }
        assert_eq!(bench.seen(), [ADMIT.into(), SILENT.into(), receive("!")]);
    }
}

#[test]
fn without_addresses_those_of_the_connection_remain() {
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"] {
        let mut bench = Bench::new();
        let token = bench.open();
        bench.tell(token, header);
        let expected = ["admit 3 10.1.2.3:50000", "open 10.1.2.3:50000 > 10.0.0.1:80 silent"];
        assert_eq!(bench.seen(), expected);
    }
}

#[test]
fn what_is_no_header_ends_the_connection_without_the_handler() {
    for (bytes, error) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], HeaderError::Signature),
        (b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n", HeaderError::Line),
        (b"\r\n\r\n\0\r\nQUIT\n\x11", HeaderError::Command(0x11)),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x01\x00", HeaderError::TooLong { length: 272, max: 256 }),
    ] {
        let mut bench = Bench::new();
        let token = bench.open();
        assert_eq!(bench.tell(token, bytes), Action::Close);
        assert!(bench.shard.needs_reset());
        assert_eq!(refusals(), [(proxy(), Refusal::Header(error))]);
        assert_eq!(bench.seen(), [""; 0]);
        bench.is_clean();
    }
}

#[test]
fn a_header_is_as_long_as_the_limit_and_no_longer() {
    let header = |block: u16| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x20\x00".to_vec();
        bytes.extend(block.to_be_bytes());
        bytes.resize(16 + usize::from(block), 9);
        bytes
    };
    // the limit, but not less than the longest line; and the capacity of the input
    for (limit, max) in [(200, 200), (1, LINE_MAX), (4_096, 256)] {
        for excess in [0, 1] {
            let mut bench = Bench::with(Recorder::default(), &CONFIG, |layer| layer.header_max(limit));
            let token = bench.open();
            for byte in header(u16::try_from(max + excess - 16).unwrap()) {
                if bench.is_open(token) {
                    bench.tell(token, &[byte]);
                }
            }
            let expected = Refusal::Header(HeaderError::TooLong { length: max + 1, max });
            assert_eq!(refusals(), vec![(proxy(), expected); excess]);
            assert_eq!(bench.is_open(token), excess == 0);
        }
    }
}

#[test]
fn a_header_has_its_time_and_no_more() {
    let mut bench =
        Bench::with(Recorder::default(), &CONFIG, |layer| layer.header_time(Duration::from_secs(3)));
    let (slow, silent, late) = (bench.open(), bench.open(), bench.open());
    bench.tell(slow, &LINE[..20]);
    bench.tell(late, &LINE[..20]);
    assert_eq!(bench.turn(2_999), []);
    bench.tell(slow, &LINE[20..]);
    assert_eq!(bench.seen(), [ADMIT, SILENT]);
    assert_eq!(bench.turn(3_001), [Action::Close, Action::Close]);
    assert!(bench.is_open(slow) && !bench.is_open(silent) && !bench.is_open(late));
    assert_eq!(refusals(), [(proxy(), Refusal::Late); 2]);
    // from the end of the header on, the client has the time for a first byte
    assert_eq!(bench.turn(2_999 + 30_000), []);
    assert_eq!(bench.turn(2_999 + 30_002), [Action::Close]);
    assert!(bench.seen()[0].starts_with("close "));
    bench.is_clean();
}

#[test]
fn a_stream_that_ends_within_the_header_is_refused() {
    let mut bench = Bench::new();
    let token = bench.open();
    bench.tell(token, &LINE[..LINE.len() - 1]);
    assert_eq!(bench.tell_with(token, &[], |conn| conn.peer_ended()), Action::Close);
    assert_eq!((refusals(), bench.seen()), (vec![(proxy(), Refusal::Ended)], vec![]));
    bench.is_clean();
    // and one that ends with it is not
    let token = bench.open();
    bench.tell_with(token, LINE, |conn| conn.peer_ended());
    assert_eq!(bench.seen()[..2], [ADMIT, OPEN]);
    assert_eq!(refusals(), []);
    bench.is_clean();
}

#[test]
fn only_trusted_peers_send_a_header() {
    let mut bench = Bench::new();
    for peer in [stranger(), Address::Unix(UnixId(1)), Address::Inet("[fc00::1]:1".parse().unwrap())] {
        assert_eq!(bench.admit(peer), Err(AdmitError::Handler));
        assert_eq!((refusals(), bench.seen()), (vec![(peer, Refusal::Untrusted)], vec![]));
    }
    for peer in ["[::ffff:10.0.0.9]:1", "[fd12::1]:1"] {
        assert!(bench.admit(Address::Inet(peer.parse().unwrap())).is_ok(), "{peer}");
    }
    assert_eq!(bench.seen(), [""; 0]);
}

#[test]
fn the_others_may_pass_with_what_they_send() {
    let mut bench = Bench::with(Recorder::default(), &CONFIG, |layer| layer.untrusted(Untrusted::Pass));
    let token = bench.admit(stranger()).unwrap();
    bench.tell(token, &[]);
    bench.tell(token, b"PROXY UNKNOWN");
    let expected = [
        "admit 3 11.1.2.3:50000",
        "open 11.1.2.3:50000 > 10.0.0.1:80 silent",
        "receive 11.1.2.3:50000 > 10.0.0.1:80 PROXY UNKNOWN",
    ];
    assert_eq!(bench.seen(), expected);
    let token = bench.open();
    bench.tell(token, LINE);
    assert_eq!(bench.seen(), [ADMIT, SILENT]);
}

#[test]
fn a_unix_listener_can_be_trusted() {
    let mut bench = Bench::with(Recorder::default(), &CONFIG, |layer| layer.trust_unix(true));
    let token = bench.admit(Address::Unix(UnixId(1))).unwrap();
    bench.tell(token, LINE);
    assert_eq!(bench.seen(), [ADMIT, SILENT]);
}

#[test]
fn a_handler_may_turn_the_original_peer_away() {
    let mut bench = Bench::new();
    bench.recorder().refuses = true;
    let token = bench.open();
    assert_eq!(bench.tell(token, &[LINE, b"ping"].concat()), Action::Close);
    assert_eq!(bench.seen(), [ADMIT]);
    let client = Address::Inet("192.0.2.7:49152".parse().unwrap());
    assert_eq!(refusals(), [(client, Refusal::Handler)]);
    bench.is_clean();
}

#[test]
fn what_open_requests_applies_to_the_bytes_behind_the_header() {
    let mut bench = Bench::new();
    bench.recorder().in_open = InOpen::Close;
    let token = bench.open();
    // a close with unread input is staged
    assert_eq!(bench.tell(token, &[LINE, b"ping"].concat()), Action::ShutdownWrite);
    assert_eq!(bench.seen(), [ADMIT, OPEN]);
    let mut bench = Bench::new();
    bench.recorder().in_open = InOpen::Fill;
    let token = bench.open();
    assert_eq!(bench.tell(token, &[LINE, b"ping"].concat()), Action::Send);
    assert_eq!(bench.seen(), [ADMIT.into(), OPEN.into(), receive("ping")]);
}

#[test]
fn the_services_of_the_driver_are_all_passed_on() {
    let mut bench = Bench::new();
    bench.recorder().in_open = InOpen::Ask;
    let token = bench.open();
    CALLED.take();
    bench.tell(token, LINE);
    let expected = [
        "post",
        "broadcast",
        "publish",
        "subscribe",
        "unsubscribe",
        "unsubscribe_all",
        "subscribers",
        "count_lag",
        "connect",
        "set_timer",
        "cancel_timer",
        "request_room",
    ];
    assert_eq!(CALLED.take(), expected);
}

#[test]
fn an_end_before_the_header_is_reported() {
    let mut config = CONFIG;
    config.timeouts.first_byte = Some(Duration::from_secs(1));
    let mut bench = Bench::with(Recorder::default(), &config, |layer| layer);
    let token = bench.open();
    assert_eq!(bench.turn(1_002), [Action::Close]);
    assert!(!bench.is_open(token));
    assert_eq!(refusals(), [(proxy(), Refusal::Lost(CloseReason::TimedOut(Timeout::FirstByte)))]);
    assert_eq!(bench.seen(), [""; 0]);
    bench.is_clean();
}

#[test]
fn messages_before_the_header_are_dropped_and_later_ones_are_not() {
    let mut bench = Bench::new();
    let token = bench.open();
    let post = |bench: &mut Bench, text| {
        let mut outbox = Local;
        let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut outbox);
        bench.shard.connection(token).unwrap().message(text, &mut bench.handler, &mut cx).unwrap()
    };
    assert_eq!(post(&mut bench, 1), Action::Wait(Interest::READ));
    bench.tell(token, LINE);
    let _next = post(&mut bench, 2);
    assert_eq!(bench.seen().len(), 3); // `admit`, `open`, `message`
}

#[test]
fn a_stop_leaves_a_moment_for_the_header() {
    let moment = u64::try_from(STOP_LINGER.as_millis()).unwrap();
    let mut bench = Bench::new();
    let (in_time, late) = (bench.open(), bench.open());
    bench.shard.stop();
    for token in [in_time, late] {
        assert_eq!(bench.tell_with(token, &[], |conn| conn.shutdown()), Action::Wait(Interest::READ));
    }
    assert_eq!(bench.turn(moment - 1), []);
    assert_eq!(bench.tell(in_time, &[LINE, b"ping"].concat()), Action::Close);
    let seen = bench.seen();
    assert_eq!(seen[..3], [ADMIT.into(), OPEN.into(), receive("ping")]);
    assert!(seen[3].starts_with("shutdown ") && seen[4].starts_with("close "), "{seen:?}");
    assert_eq!(bench.turn(moment + 1), [Action::Close]);
    assert_eq!((refusals(), bench.seen()), (vec![(proxy(), Refusal::Late)], vec![]));
    bench.is_clean();
}

#[test]
fn connects_of_the_program_have_no_header() {
    let mut bench = Bench::new();
    let token = bench.shard.reserve().unwrap();
    bench.shard.dial(&mut bench.handler, token, 5, &proxy()).unwrap();
    bench.tell_with(token, b"", |conn| conn.connected());
    bench.tell(token, b"ping");
    let expected = [
        "admit a connect, tag 5",
        "open 10.1.2.3:50000 > 10.0.0.1:80",
        "receive 10.1.2.3:50000 > 10.0.0.1:80 ping",
    ];
    assert_eq!(bench.seen(), expected);
}

#[test]
fn limits_inside_of_the_layer_count_the_original_peers() {
    let limits: &PeerLimits<_> = Box::leak(Box::new(PeerLimits::new([const { PeerPlace::new() }; 16], 1, 3)));
    let inner = LimitPeers::new(Recorder::default(), Some(limits));
    let mut bench = Bench::with(inner, &CONFIG, |layer| layer);
    let (one, two, other) = (bench.open(), bench.open(), bench.open());
    bench.tell(one, LINE);
    assert_eq!(bench.tell(two, LINE), Action::Close);
    assert_eq!(bench.tell(other, b"PROXY TCP4 192.0.2.8 198.51.100.1 1 2\r\n"), Action::Wait(Interest::READ));
    assert_eq!((limits.refused(), refusals().len()), (1, 1));
    bench.tell_with(one, &[], |conn| conn.peer_ended());
    let two = bench.open();
    assert_eq!(bench.tell(two, LINE), Action::Wait(Interest::READ));
}
