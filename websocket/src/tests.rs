//! The layer over HTTP, with a server and clients in memory.

extern crate std;

use std::cell::RefCell;
use std::convert::Infallible;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString as _};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use lightcone_core::{Config, Handler};
use lightcone_http::testing::{TestRequest, TestServer};
use lightcone_http::{ChainEnd, Done, Either, Full, Http, HttpConnection, RequestId, RequestMessage, State};

use self::wire::{Frame, conversation, sent};
use crate::{
    Channel, CloseCode, Ending, Message, MessageLimits, Opcode, Role, WebSocket, WebSocketConfig,
    WebSocketExchange, upgrade,
};

mod client;
mod topics;
mod wire;

const CONFIG: Config = TestServer::<Http<(), ChainEnd>>::CONFIG;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What the handlers note.
type Told = Rc<RefCell<Vec<String>>>;

struct App {
    told: Told,
    ids: Rc<RefCell<Vec<RequestId>>>,
}

impl State for App {
    type Message = &'static str;
}

/// Sends messages back, and notes its callbacks.
struct Echo;

impl WebSocket<App> for Echo {
    const CONFIG: WebSocketConfig = WebSocketConfig {
        limits: MessageLimits { frame: 100_000, message: 200_000, piece: 1_000 },
        ping: Some(Duration::from_secs(30)),
        pong: Duration::from_secs(10),
        close: Duration::from_secs(5),
    };

    fn open(&mut self, channel: &mut Channel<'_, App>) {
        let id = channel.id();
        channel.state().told.borrow_mut().push("open".to_string());
        channel.state().ids.borrow_mut().push(id);
    }

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        match message.bytes() {
            b"close" => channel.close(CloseCode::NORMAL, "as you like"),
            b"ping" => channel.send_ping(&[7; 126]),
            b"twice" => {
                channel.close(CloseCode::NORMAL, &"ä".repeat(100))?;
                assert!(!channel.is_open());
                assert_eq!(channel.send_text("too late"), Err(Full));
                assert_eq!(channel.close(CloseCode::NORMAL, ""), Err(Full));
                Ok(())
            }
            bytes => channel.send_fragment(message.kind(), message.fragment(), bytes),
        }
    }

    fn message(&mut self, message: &'static str, channel: &mut Channel<'_, App>) {
        if channel.send_text(message).is_err() {
            channel.state().told.borrow_mut().push(format!("refused {message}"));
        }
    }

    fn writable(&mut self, channel: &mut Channel<'_, App>) {
        channel.state().told.borrow_mut().push("writable".to_string());
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, App>) {
        assert_eq!(channel.send_text("too late"), Err(Full));
        channel.state().told.borrow_mut().push(format!("{ending:?}"));
    }
}

/// Sends messages back, but only after a message asks for it.
struct Gate;

impl WebSocket<App> for Gate {
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        let goes = channel.state().told.borrow().iter().any(|told| told == "go");
        if goes { channel.send_binary(message.bytes()) } else { Err(Full) }
    }

    fn message(&mut self, message: &'static str, channel: &mut Channel<'_, App>) {
        channel.state().told.borrow_mut().push(message.to_string());
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, App>) {
        channel.state().told.borrow_mut().push(format!("{ending:?}"));
    }
}

/// Sends messages back, with the default limits.
struct Plain;

impl WebSocket<App> for Plain {
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        assert!(message.bytes().len() <= channel.output_limit(), "a piece that can never be sent back");
        channel.send_fragment(message.kind(), message.fragment(), message.bytes())
    }
}

/// Answers each message with one that is as long as it says, and the message of the poller with one more than can be sent.
struct Long;

impl WebSocket<App> for Long {
    const CONFIG: WebSocketConfig = Echo::CONFIG;

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        channel.send_binary(&vec![7; message.to_string().parse().unwrap()])
    }

    fn message(&mut self, _: &'static str, channel: &mut Channel<'_, App>) {
        assert_eq!(channel.send_binary(&vec![7; channel.output_limit() + 1]), Err(Full));
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, App>) {
        channel.state().told.borrow_mut().push(format!("{ending:?}"));
    }
}

/// After a message, sends frames that leave no room for any other, as soon as there is room.
struct Filler;

impl WebSocket<App> for Filler {
    fn receive(&mut self, _: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        self.writable(channel);
        Ok(())
    }

    fn writable(&mut self, channel: &mut Channel<'_, App>) {
        let frame = vec![7; channel.output_limit()];
        while channel.send_binary(&frame).is_ok() {}
    }
}

/// A server, and what its handlers have noted.
struct Rig<H: Handler + 'static> {
    server: TestServer<H>,
    told: Told,
    ids: Rc<RefCell<Vec<RequestId>>>,
}

fn rig() -> Rig<impl Handler<Message = RequestMessage<&'static str>>> {
    rig_with(&CONFIG)
}

fn rig_with(config: &Config) -> Rig<impl Handler<Message = RequestMessage<&'static str>> + use<>> {
    let (told, ids) = (Told::default(), Rc::default());
    let app = App { told: Rc::clone(&told), ids: Rc::clone(&ids) };
    let http = Http::with(app)
        .get("/echo", |request, response| upgrade(&request, response, Echo))
        .get("/gate", |request, response| upgrade(&request, response, Gate))
        .get("/long", |request, response| upgrade(&request, response, Long))
        .get("/filler", |request, response| upgrade(&request, response, Filler))
        .fallback(|request, response| upgrade(&request, response, Plain))
        .get("/foo", |_request, response| response.text("bar"));
    Rig { server: TestServer::with_config(http, config), told, ids }
}

fn handshake() -> TestRequest {
    handshake_with("/echo")
}

fn handshake_with(path: &str) -> TestRequest {
    ask_for_upgrade(TestRequest::get(path))
}

fn ask_for_upgrade(request: TestRequest) -> TestRequest {
    request
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", KEY)
}

/// Encodes a frame of a client.
fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    wire::frame(Role::Client, fin, opcode, payload)
}

fn text(text: &str) -> Vec<u8> {
    frame(true, Opcode::Text, text.as_bytes())
}

fn close(code: u16) -> Vec<u8> {
    frame(true, Opcode::Close, &code.to_be_bytes())
}

/// Divides what a server has sent into frames.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    wire::frames(Role::Client, bytes)
}

impl<H: Handler<Message = RequestMessage<&'static str>>> Rig<H> {
    /// Opens a connection.
    fn open(&mut self) -> usize {
        let connection = self.server.start(handshake());
        let bytes = self.server.receive(connection);
        let head = String::from_utf8(bytes).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        connection
    }

    fn receive(&mut self, connection: usize) -> Vec<(Opcode, Vec<u8>)> {
        frames(&self.server.receive(connection))
    }

    fn told(&self) -> Vec<String> {
        core::mem::take(&mut *self.told.borrow_mut())
    }
}

#[test]
fn a_conversation_in_all_cuts() {
    let (stream, expected) = conversation(Role::Client);
    let request = handshake().to_bytes();
    let all = [&request[..], &stream].concat();
    // The handshake and the frames may arrive at once.
    for cut in (0..all.len()).filter(|cut| *cut < 400 || cut % 37 == 0) {
        let mut rig = rig_with(&Config { sockets: 4, ..CONFIG });
        let connection = rig.server.connect();
        rig.server.send(connection, &all[..cut]);
        rig.server.send(connection, &all[cut..]);
        let bytes = rig.server.receive(connection);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(frames(&bytes[end..]), expected, "cut at {cut}");
        assert_eq!(rig.told(), ["open", "Closed { code: Some(CloseCode(4000)), reason: \"bye\" }"]);
        assert!(rig.server.is_ended(connection) && !rig.server.is_reset(connection));
    }
}

#[test]
fn requests_that_open_no_connection_are_refused() {
    let mut rig = rig();
    let plain = rig.server.request(TestRequest::get("/echo"));
    assert_eq!(plain.status(), 426);
    assert_eq!((plain.header("Upgrade"), plain.header("Connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(plain.header("Sec-WebSocket-Version"), Some("13"));
    let ask = |key: &str, version: &str| {
        TestRequest::get("/echo")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", version)
            .header("Sec-WebSocket-Key", key)
    };
    let old = rig.server.request(ask(KEY, "8"));
    assert_eq!((old.status(), old.header("Sec-WebSocket-Version")), (426, Some("13")));
    assert_eq!(rig.server.request(ask("short", "13")).status(), 400);
    assert_eq!(rig.server.request(handshake().body("x")).status(), 400);
    let posted = ask_for_upgrade(TestRequest::new("POST", "/plain"));
    assert_eq!(rig.server.request(posted).status(), 400);
    assert_eq!(rig.server.get("/foo").text(), "bar");
    assert!(rig.told().is_empty());
    let empty = handshake().header("Content-Length", "0");
    assert_eq!(rig.server.request(empty).status(), 101);
}

#[test]
fn violations_end_the_connection_with_their_code() {
    let mut rig = rig();
    for (bytes, code) in [
        (frame(true, Opcode::Continuation, b"a"), 1002),
        (frame(true, Opcode::Text, b"a\xff"), 1007),
        (frame(true, Opcode::Close, b"\x03"), 1002),
        (frame(true, Opcode::Close, b"\x03\xee"), 1002),
        (frame(true, Opcode::Close, b"\x03\xe8\xff"), 1007),
        (frame(true, Opcode::Binary, &vec![0; 100_001]), 1009),
        (b"\x81\x01a".to_vec(), 1002),
    ] {
        let connection = rig.open();
        rig.server.send(connection, &text("before"));
        rig.server.send(connection, &bytes);
        let received = rig.receive(connection);
        assert_eq!(received[0], sent(Opcode::Text, b"before"));
        assert_eq!(
            (received.len(), received[1].0, &received[1].1[..2]),
            (2, Opcode::Close, &u16::to_be_bytes(code)[..])
        );
        assert!(rig.server.is_ended(connection) && !rig.server.is_reset(connection));
        assert!(rig.told().iter().any(|told| told.starts_with("Failed(")), "{code}");
    }
}

#[test]
fn the_close_handshake_in_both_directions() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.send(connection, &close(1001));
    assert_eq!(rig.receive(connection), [sent(Opcode::Close, b"\x03\xe9")]);
    assert_eq!(rig.told(), ["open", "Closed { code: Some(CloseCode(1001)), reason: \"\" }"]);
    // without a code
    let connection = rig.open();
    rig.server.send(connection, &frame(true, Opcode::Close, b""));
    assert_eq!(rig.receive(connection), [sent(Opcode::Close, b"")]);
    assert_eq!(rig.told(), ["open", "Closed { code: None, reason: \"\" }"]);
    // begun by the server; what arrives until the peer's close frame is dropped
    let connection = rig.open();
    rig.server.send(connection, &text("close"));
    assert_eq!(rig.receive(connection), [sent(Opcode::Close, b"\x03\xe8as you like")]);
    rig.server.send(connection, &[text("a"), frame(true, Opcode::Ping, b"")].concat());
    assert_eq!((rig.receive(connection), rig.server.is_ended(connection)), (vec![], false));
    rig.server.send(connection, &close(1000));
    assert!(rig.server.is_ended(connection));
    assert_eq!(rig.told(), ["open", "Closed { code: Some(CloseCode(1000)), reason: \"\" }"]);
    // a peer that does not respond
    let connection = rig.open();
    rig.server.send(connection, &text("twice"));
    let reason = [b"\x03\xe8", "ä".repeat(61).as_bytes()].concat();
    assert_eq!(rig.receive(connection), [sent(Opcode::Close, &reason)]);
    rig.server.advance(Duration::from_millis(4_900));
    assert!(!rig.server.is_ended(connection));
    rig.server.advance(Duration::from_millis(200));
    assert!(rig.server.is_ended(connection));
    assert_eq!(rig.told(), ["open", "Lost"]);
}

#[test]
fn connections_that_are_lost_are_noticed_exactly_once() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.send(connection, &text("a"));
    rig.server.end(connection);
    assert!(rig.server.is_ended(connection) && !rig.server.is_reset(connection), "it may still read");
    assert_eq!(rig.told(), ["open", "Lost"]);
    let connection = rig.open();
    rig.server.reset(connection);
    assert_eq!(rig.told(), ["open", "Lost"]);
    let connection = rig.open();
    rig.server.send(connection, &close(1000));
    rig.server.reset(connection);
    assert_eq!(rig.told(), ["open", "Closed { code: Some(CloseCode(1000)), reason: \"\" }"]);
}

#[test]
fn a_silent_peer_gets_a_ping_and_is_given_up_without_a_sign_of_life() {
    let mut rig = rig();
    let (lively, silent) = (rig.open(), rig.open());
    rig.server.advance(Duration::from_millis(30_100));
    for connection in [lively, silent] {
        assert_eq!(rig.receive(connection), [sent(Opcode::Ping, b"")]);
    }
    rig.server.send(lively, &frame(true, Opcode::Pong, b""));
    // the beginning of a frame, again and again, is no sign of life after the first
    rig.server.send(silent, &frame(false, Opcode::Text, b"a")[..3]);
    rig.server.advance(Duration::from_secs(10));
    assert!(rig.server.is_reset(silent) && !rig.server.is_ended(lively));
    assert_eq!(rig.told(), ["open", "open", "Lost"]);
    // a peer that sends something gets no ping
    for _ in 0..100 {
        rig.server.advance(Duration::from_secs(20));
        rig.server.send(lively, &frame(true, Opcode::Pong, b""));
    }
    assert_eq!(rig.receive(lively), []);
    rig.server.advance(Duration::from_secs(65));
    assert_eq!(rig.receive(lively), [sent(Opcode::Ping, b"")]);
}

/// A message that has begun occupies input. If no piece of it arrives for long, the connection ends, even if its peer
/// responds to pings.
#[test]
fn a_message_that_goes_on_is_awaited_and_one_that_does_not_is_not() {
    for (begun, ends) in [
        (frame(false, Opcode::Text, b"part"), true),
        (frame(true, Opcode::Binary, &[b'a'; 900])[..800].to_vec(), true),
        (text("whole"), false),
    ] {
        let mut rig = rig();
        let connection = rig.open();
        rig.server.send(connection, &begun);
        // within a frame nothing but its payload can be sent
        let sign_of_life = if begun.len() == 800 { vec![0; 1] } else { frame(true, Opcode::Pong, b"") };
        for _ in 0..4 {
            rig.server.advance(Duration::from_secs(20));
            rig.server.send(connection, &sign_of_life);
        }
        assert_eq!(rig.server.is_ended(connection), ends, "{} bytes", begun.len());
        assert_eq!(rig.told().contains(&"Lost".to_string()), ends);
    }
    // pieces of a long message, in their time
    let mut rig = rig();
    let connection = rig.open();
    let message = vec![7; 20_000];
    let long = frame(true, Opcode::Binary, &message);
    for piece in long.chunks(1_100) {
        rig.server.advance(Duration::from_secs(25));
        rig.server.send(connection, piece);
    }
    assert_eq!(rig.receive(connection), [sent(Opcode::Binary, &message)]);
}

/// A control frame that is half there at each timer, and complete later, is a sign of life and no message that has
/// begun.
#[test]
fn control_frames_in_two_parts_keep_a_connection() {
    let mut rig = rig();
    let connection = rig.open();
    let pong = frame(true, Opcode::Pong, b"alive");
    let (begin, rest) = pong.split_at(4);
    rig.server.send(connection, begin);
    for _ in 0..6 {
        rig.server.advance(Duration::from_secs(15));
        rig.server.send(connection, rest);
        rig.server.send(connection, begin);
        rig.server.advance(Duration::from_secs(15));
    }
    assert!(!rig.server.is_ended(connection) && !rig.told().contains(&"Lost".to_string()));
}

/// With little room, no piece is longer than what can be sent back at once: a handler that sends each one back would be
/// called for ever.
#[test]
fn a_piece_can_always_be_sent_back() {
    for (block_size, limit) in [(1_024, 1), (1_024, 4), (4_096, 1), (4_096, 4), (16_384, 4)] {
        let config = Config { block_size, output_limit: limit, output_blocks: 64, ..CONFIG };
        for length in [100, 1_014, 1_020, 1_024, 4_086, 4_090, 4_093, 4_096, 5_000, 16_370, 16_384, 70_000] {
            let mut rig = rig_with(&config);
            let connection = rig.server.start(handshake_with("/plain"));
            drop(rig.server.receive(connection));
            let message: Vec<u8> = (0..=250).cycle().take(length).collect();
            rig.server.send(connection, &frame(true, Opcode::Binary, &message));
            assert_eq!(rig.receive(connection), [sent(Opcode::Binary, &message)], "{limit} of {block_size}");
        }
    }
}

/// What was refused is tried again when there is room, and not in the same callback.
#[test]
fn a_refused_message_is_not_tried_again_at_once() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.set_window(connection, 0);
    let id = rig.ids.borrow()[0];
    let mut refused = false;
    for _ in 0..20_000 {
        assert!(rig.server.post(id.token(), id.message("0123456789")));
        let told = rig.told();
        refused |= told.iter().any(|told| told.starts_with("refused"));
        assert!(!told.contains(&"writable".to_string()), "there is no room");
        if refused {
            break;
        }
    }
    assert!(refused);
    rig.server.set_window(connection, usize::MAX);
    drop(rig.server.receive(connection));
    assert_eq!(rig.told(), ["writable"]);
}

#[test]
fn a_ping_of_the_handler_is_cut_to_what_fits() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.send(connection, &text("ping"));
    assert_eq!(rig.receive(connection), [sent(Opcode::Ping, &[7; 125])]);
}

#[test]
fn messages_are_pushed_to_one_or_to_all() {
    let mut rig = rig();
    let (first, second) = (rig.open(), rig.open());
    let id = rig.ids.borrow()[1];
    assert!(rig.server.post(id.token(), id.message("to the second")));
    for connection in [first, second] {
        let token = rig.server.token(connection).unwrap();
        assert!(rig.server.post(token, RequestMessage::to_all("to all")));
    }
    assert_eq!(rig.receive(first), [sent(Opcode::Text, b"to all")]);
    assert_eq!(rig.receive(second), [sent(Opcode::Text, b"to the second"), sent(Opcode::Text, b"to all")]);
    // not after the close has begun
    rig.server.send(second, &text("close"));
    assert!(rig.server.post(id.token(), id.message("too late")));
    assert_eq!(rig.receive(second), [sent(Opcode::Close, b"\x03\xe8as you like")]);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_and_loses_nothing() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.set_window(connection, 0);
    let sends: Vec<String> = (0..2_000).map(|n| format!("{n:0100}")).collect();
    let all: Vec<u8> = sends.iter().flat_map(|message| text(message)).collect();
    rig.server.send(connection, &[all, frame(true, Opcode::Ping, b"p"), close(1000)].concat());
    assert!(rig.server.unread(connection) > 100_000, "only what fits is read");
    // while it is not read, it is not given up either, nor when it ends its stream
    rig.server.end(connection);
    let mut received = Vec::new();
    while !rig.server.is_ended(connection) {
        rig.server.set_window(connection, 777);
        received.extend_from_slice(&rig.server.receive(connection));
    }
    let mut expected: Vec<_> = sends.iter().map(|message| sent(Opcode::Text, message.as_bytes())).collect();
    expected.extend([sent(Opcode::Pong, b"p"), sent(Opcode::Close, b"\x03\xe8")]);
    rig.server.set_window(connection, usize::MAX);
    received.extend_from_slice(&rig.server.receive(connection));
    assert_eq!(frames(&received), expected);
    let told = rig.told();
    assert_eq!(told.last().unwrap(), "Closed { code: Some(CloseCode(1000)), reason: \"\" }");
    assert!(told.iter().any(|told| told == "writable"));
}

#[test]
fn what_a_handler_refuses_waits_and_its_peer_is_not_given_up() {
    let mut rig = rig();
    let (leaves, silent) =
        (rig.server.start(handshake_with("/gate")), rig.server.start(handshake_with("/gate")));
    for connection in [leaves, silent] {
        drop(rig.server.receive(connection));
        rig.server.send(connection, &text("a"));
    }
    rig.server.end(leaves);
    rig.server.advance(Duration::from_secs(1_000));
    assert!(rig.told().is_empty() && !rig.server.is_ended(leaves) && !rig.server.is_ended(silent));
    for connection in [leaves, silent] {
        let token = rig.server.token(connection).unwrap();
        assert!(rig.server.post(token, RequestMessage::to_all("go")));
        assert_eq!(rig.receive(connection), [sent(Opcode::Binary, b"a")]);
    }
    assert_eq!((rig.server.is_ended(leaves), rig.server.is_ended(silent)), (true, false));
    assert!(!rig.server.is_reset(leaves), "it may still read");
    assert_eq!(rig.told(), ["go", "Lost", "go"]);
}

#[test]
fn an_answer_that_can_never_be_sent_ends_the_connection() {
    let mut rig = rig_with(&Config { block_size: 1_024, output_limit: 2, ..CONFIG });
    let most = 2_048 - 4; // the header of such a frame
    let connection = rig.server.start(handshake_with("/long"));
    rig.server.receive(connection);
    rig.server.send(connection, &text(&most.to_string()));
    assert_eq!(frames(&rig.server.receive(connection)), [sent(Opcode::Binary, &vec![7; most])]);
    rig.server.send(connection, &text(&(most + 1).to_string()));
    assert_eq!(rig.told.take(), ["Lost"]);
    assert!(rig.server.is_ended(connection));
}

/// A message that is too long leaves nothing to wait for, so the peer is still asked for a sign of life.
#[test]
fn a_message_that_can_never_be_sent_keeps_no_peer_alive() {
    let mut rig = rig();
    let connection = rig.server.start(handshake_with("/long"));
    rig.server.receive(connection);
    let token = rig.server.token(connection).unwrap();
    assert!(rig.server.post(token, RequestMessage::to_all("")));
    rig.server.advance(Duration::from_secs(61));
    assert_eq!(frames(&rig.server.receive(connection)), [sent(Opcode::Ping, b"")]);
    rig.server.advance(Duration::from_secs(11));
    assert_eq!(rig.told.take(), ["Lost"]);
}

#[test]
fn a_handler_that_fills_the_output_leaves_room_for_the_answer_to_a_ping() {
    let mut rig = rig_with(&Config { block_size: 1_024, output_limit: 2, ..CONFIG });
    let connection = rig.server.start(handshake_with("/filler"));
    rig.server.send(connection, &[text("begin"), frame(true, Opcode::Ping, b"there?")].concat());
    let mut bytes = Vec::new();
    while bytes.len() < 20_000 {
        bytes.extend(rig.server.receive(connection));
    }
    let pong = [0x8a, 6, b't', b'h', b'e', b'r', b'e', b'?'];
    assert!(bytes.windows(pong.len()).any(|window| window == pong));
}

#[test]
fn a_stop_says_goodbye() {
    let mut rig = rig();
    let (polite, rude) = (rig.open(), rig.open());
    rig.server.stop(Duration::from_secs(60));
    for connection in [polite, rude] {
        assert_eq!(rig.receive(connection), [sent(Opcode::Close, b"\x03\xe9")]);
    }
    rig.server.send(polite, &close(1001));
    assert!(rig.server.is_ended(polite));
    rig.server.advance(Duration::from_secs(6));
    assert!(rig.server.is_ended(rude));
    assert_eq!(rig.told()[2..], ["Closed { code: Some(CloseCode(1001)), reason: \"\" }", "Lost"]);
}

#[test]
fn a_stop_waits_for_room_to_say_goodbye() {
    let mut rig = rig();
    let connection = rig.open();
    rig.server.set_window(connection, 0);
    // So short that a close frame has no room where they have none.
    let messages: Vec<u8> = (0..20_000).flat_map(|_| text("x")).collect();
    rig.server.send(connection, &messages);
    rig.server.stop(Duration::from_secs(60));
    rig.server.set_window(connection, usize::MAX);
    let received = rig.receive(connection);
    assert_eq!(received.last(), Some(&sent(Opcode::Close, b"\x03\xe9")));
}

#[test]
fn an_idle_connection_holds_no_memory() {
    // Input blocks for one connection at a time: the others wait unless it returns them.
    let config = Config { input_blocks: 1, ..CONFIG };
    let mut rig = rig_with(&config);
    let connections: Vec<usize> = (0..20).map(|_| rig.open()).collect();
    for connection in &connections {
        rig.server.send(*connection, &text("a"));
        rig.server.send(*connection, &text("b")[..3]);
        rig.server.send(*connection, &text("b")[3..]);
    }
    for connection in connections {
        assert_eq!(rig.receive(connection), [sent(Opcode::Text, b"a"), sent(Opcode::Text, b"b")]);
    }
}

#[test]
fn a_connection_has_at_most_24_bytes_more() {
    type Connection<B> = HttpConnection<Either<B, Infallible>>;
    assert!(size_of::<Connection<WebSocketExchange<()>>>() <= size_of::<Connection<Done>>() + 24);
}
