//! The client on a real poller. The rig is that of servers: it accepts connections, and here the accepted side is the
//! client, so that a test plays the server byte by byte, or joins the client with a server of this crate.

use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString as _};
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use lightcone_core::{
    Address, Config, Context, ContractChecker, ErrorKind, Event, Handler, ListenerId, Origin, PollerEvent,
    Socket,
};
use lightcone_http::client::{RequestFields, Uri};
use lightcone_http::testing::TestServer;
use lightcone_http::{ChainEnd, Full, Http, RequestId, RequestMessage, State};

use super::wire::{self, Frame, conversation, sent};
use crate::codec::header::{CONTROL_MAX, HEADER_MAX};
use crate::{
    AcceptKey, CAPACITY_MIN, Channel, CloseCode, Ending, FrameHeader, Mask, MaskSource, Message,
    MessageLimits, Opcode, OpeningError, OpeningLimits, OpeningRequest, OpeningResponse, Role, WebSocket,
    WebSocketClient, WebSocketConfig, WebSocketSource, upgrade,
};

const CONFIG: Config = Config { sockets: 8, ..TestServer::<Http<(), ChainEnd>>::CONFIG };

/// What is noted, in order.
type Told = Rc<RefCell<Vec<String>>>;

/// A handler that takes accepted connections for its own.
struct Turned<H> {
    inner: H,
    /// Whether connects are to fail.
    refused: bool,
}

impl<H: Handler> Handler for Turned<H> {
    type Data = H::Data;
    type Message = H::Message;

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    fn admit(&mut self, _: Origin, peer: &Address) -> Option<H::Data> {
        self.inner.admit(Origin::Connecting { tag: 7 }, peer)
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, H::Data>,
        event: Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        if self.refused && matches!(event, Event::Open) {
            self.inner.event(socket, Event::Refused(ErrorKind::ConnectionRefused), cx);
            return socket.abort();
        }
        if !self.refused {
            self.inner.event(socket, event, cx);
        }
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, H::Message>) {
        self.inner.poller_event(event, cx);
    }
}

/// Masks that a test can compute: the bytes from 1 on.
struct Counting(u8);

impl MaskSource for Counting {
    fn next_mask(&mut self) -> Mask {
        let bytes = [1, 2, 3, 4].map(|n| self.0.wrapping_add(n));
        self.0 = self.0.wrapping_add(4);
        Mask::new(bytes)
    }
}

/// The first key that these masks yield.
const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEA==";

struct App {
    told: Told,
    ids: Rc<RefCell<Vec<RequestId>>>,
    protocols: &'static str,
    fields: &'static dyn RequestFields,
    /// Whether messages are noted and not sent back.
    quiet: bool,
}

impl State for App {
    type Message = &'static str;
}

impl WebSocketSource for App {
    type WebSocket = Echo;

    const OPENING: OpeningLimits = OpeningLimits { head: 1_000, fields: 10, ..OpeningLimits::DEFAULT };

    fn request(&self, tag: u64) -> OpeningRequest<'_> {
        assert_eq!(tag, 7);
        let uri = Uri::parse_ws("ws://a:81/echo?b").unwrap();
        OpeningRequest { protocols: self.protocols, fields: self.fields, ..OpeningRequest::new(uri) }
    }

    fn accept(&mut self, tag: u64, response: &OpeningResponse<'_>) -> Echo {
        assert_eq!((tag, response.head.status.code()), (7, 101));
        self.told.borrow_mut().push(format!("accepted {:?}", response.protocol));
        Echo
    }

    fn failed(&mut self, tag: u64, error: OpeningError, _: &mut Context<'_, RequestMessage<&'static str>>) {
        assert_eq!(tag, 7);
        self.told.borrow_mut().push(error.to_string());
    }

    fn closed(&mut self, tag: u64, _: &mut Context<'_, RequestMessage<&'static str>>) {
        assert_eq!(tag, 7);
        self.told.borrow_mut().push("closed".to_string());
    }
}

/// Sends messages back, and notes its callbacks. The same on either side.
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
        channel.state().ids.borrow_mut().push(id);
    }

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
        if channel.state().quiet {
            let part = if message.is_last() { "last" } else { "part" };
            channel.state().told.borrow_mut().push(format!("{part} {}", message.bytes().len()));
            return Ok(());
        }
        match message.bytes() {
            b"close" => channel.close(CloseCode::NORMAL, "as you like"),
            b"wait" if !channel.state().told.borrow().iter().any(|told| told == "go") => Err(Full),
            bytes => {
                assert!(bytes.len() <= channel.output_limit(), "a piece that can never be sent back");
                channel.send_fragment(message.kind(), message.fragment(), bytes)
            }
        }
    }

    fn message(&mut self, message: &'static str, channel: &mut Channel<'_, App>) {
        let result = match message {
            "close" => channel.close(CloseCode::NORMAL, ""),
            "go" => {
                channel.state().told.borrow_mut().push(message.to_string());
                Ok(())
            }
            text => channel.send_text(text),
        };
        if result.is_err() {
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

type Client = Turned<ContractChecker<WebSocketClient<App, Counting>>>;

/// A client with one connection, whose server is the test.
struct Rig {
    server: TestServer<Client>,
    told: Told,
    ids: Rc<RefCell<Vec<RequestId>>>,
}

fn client(told: &Told, protocols: &'static str, fields: &'static dyn RequestFields) -> Client {
    let app = App { told: Rc::clone(told), ids: Rc::default(), protocols, fields, quiet: false };
    Turned { inner: ContractChecker::new(WebSocketClient::new(app, Counting(0))), refused: false }
}

fn rig_with(config: &Config, protocols: &'static str, fields: &'static dyn RequestFields) -> Rig {
    let told = Told::default();
    let client = client(&told, protocols, fields);
    let ids = Rc::clone(&client.inner.inner().source().ids);
    let mut server = TestServer::with_config(client, config);
    assert_eq!(server.connect(), 0);
    Rig { server, told, ids }
}

fn rig() -> Rig {
    rig_with(&CONFIG, "", &())
}

fn request(lines: &str) -> String {
    format!(
        "GET /echo?b HTTP/1.1\r\nHost: a:81\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\
         Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
}

/// Returns a response that opens the connection, with further lines.
fn response(lines: &str) -> Vec<u8> {
    let accept = AcceptKey::new(KEY.as_bytes()).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// Encodes a frame of a server.
fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    wire::frame(Role::Server, fin, opcode, payload)
}

fn text(text: &str) -> Vec<u8> {
    frame(true, Opcode::Text, text.as_bytes())
}

fn close(code: u16) -> Vec<u8> {
    frame(true, Opcode::Close, &code.to_be_bytes())
}

/// Divides what a client has sent into frames.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    wire::frames(Role::Server, bytes)
}

impl Rig {
    /// Opens the connection.
    fn open(mut self) -> Self {
        assert_eq!(String::from_utf8(self.server.receive(0)).unwrap(), request(""));
        self.server.send(0, &response(""));
        assert_eq!(self.told(), ["accepted None"]);
        self
    }

    fn receive(&mut self) -> Vec<(Opcode, Vec<u8>)> {
        frames(&self.server.receive(0))
    }

    fn told(&self) -> Vec<String> {
        core::mem::take(&mut *self.told.borrow_mut())
    }

    /// Sends bytes, ends the stream, and returns how the handshake has ended.
    fn end_of(mut self, bytes: &[u8]) -> String {
        self.server.send(0, bytes);
        self.server.end(0);
        let told = self.told();
        assert_eq!((told.len(), self.server.is_ended(0)), (1, true), "{told:?}");
        told[0].clone()
    }
}

#[test]
fn the_request_has_all_that_the_standard_demands_and_what_the_program_adds() {
    assert_eq!(String::from_utf8(rig().server.receive(0)).unwrap(), request(""));
    let mut rig = rig_with(&CONFIG, "chat.v2, chat.v1", &[("Origin", "http://a"), ("Cookie", "b=c")]);
    let lines = "Sec-WebSocket-Protocol: chat.v2, chat.v1\r\nOrigin: http://a\r\nCookie: b=c\r\n";
    assert_eq!(String::from_utf8(rig.server.receive(0)).unwrap(), request(lines));
    rig.server.send(0, &response("Sec-WebSocket-Protocol: chat.v1\r\n"));
    assert_eq!(rig.told(), ["accepted Some(\"chat.v1\")"]);
}

#[test]
fn requests_that_are_mistakes_of_the_program_are_not_sent() {
    const NAME: &str = "the request is invalid (the name of a field is malformed or reserved for the client)";
    const LONG: &str = "the head of the request is too large";
    const PROTOCOLS: &str = "the subprotocols are invalid; allowed: different tokens, separated by commas";
    const BROKEN: &str = "the request is invalid (the value of a field has control characters)";
    let long: &'static str = "a".repeat(40_000).leak();
    for (protocols, fields, error) in [
        ("", &[("Sec-WebSocket-Key", "a")] as &'static dyn RequestFields, NAME),
        ("", &[("A", "b"), ("sec-websocket-extensions", "c")], NAME),
        ("", &[("Upgrade", "b")], NAME),
        ("", &[("A", "b\r\nc: d")], BROKEN),
        ("a, a", &(), PROTOCOLS),
        (long, &(), LONG),
    ] {
        let mut rig = rig_with(&CONFIG, protocols, fields);
        assert_eq!((rig.told(), rig.server.receive(0)), (vec![error.to_string()], vec![]));
        assert!(rig.server.is_ended(0));
    }
}

#[test]
fn a_conversation_in_all_cuts() {
    let (stream, expected) = conversation(Role::Server);
    // The response, after an interim one, and the frames may arrive at once.
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    let all = [&interim[..], &response("Server: b\r\n"), &stream].concat();
    for cut in (0..all.len()).filter(|cut| *cut < 400 || cut % 37 == 0 || *cut > all.len() - 40) {
        let mut rig = rig();
        assert_eq!(String::from_utf8(rig.server.receive(0)).unwrap(), request(""));
        rig.server.send(0, &all[..cut]);
        rig.server.send(0, &all[cut..]);
        assert_eq!(rig.receive(), expected, "cut at {cut}");
        let ending = "Closed { code: Some(CloseCode(4000)), reason: \"bye\" }";
        assert_eq!(rig.told(), ["accepted None", ending], "cut at {cut}");
        // It is the server that ends the connection.
        assert!(!rig.server.is_ended(0));
        rig.server.end(0);
        assert!(rig.server.is_ended(0) && !rig.server.is_reset(0));
        assert_eq!(rig.told(), ["closed"]);
    }
    // byte by byte
    let mut rig = rig();
    drop(rig.server.receive(0));
    rig.server.set_piece(0, 1);
    rig.server.send(0, &all);
    assert_eq!(rig.receive(), expected);
}

#[test]
fn responses_that_open_no_connection_are_refused() {
    let good = String::from_utf8(response("")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    let accept = "Sec-WebSocket-Accept: ";
    const OPENS_NONE: &str = "the response does not open a WebSocket: ";
    let table = [
        (
            with("101 Switching Protocols", "200 OK"),
            "the server has refused the handshake with status 200 OK",
        ),
        (
            with("101 Switching Protocols", "302 Found"),
            "the server has refused the handshake with status 302 Found",
        ),
        (
            "HTTP/1.1 426 \r\nUpgrade: websocket\r\n\r\n".into(),
            "the server has refused the handshake with status 426 Upgrade Required",
        ),
        (with("Upgrade: websocket", "Upgrade: h2c"), "its Upgrade is not websocket"),
        (with("Upgrade: websocket\r\n", ""), "its Upgrade is not websocket"),
        (with("Connection: Upgrade", "Connection: close"), "its Connection does not contain Upgrade"),
        (with("Connection: Upgrade\r\n", ""), "its Connection does not contain Upgrade"),
        (with(accept, "X: "), "its Sec-WebSocket-Accept is not for the key of the request"),
        (with(accept, &format!("{accept}a")), "its Sec-WebSocket-Accept is not for the key of the request"),
        (
            with("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n"),
            "it selects a subprotocol that was not offered",
        ),
        (
            with("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            "it selects an extension, and none was offered",
        ),
        ("SSH-2.0-x\r\n".into(), "the response is invalid (no HTTP/1 status line)"),
        (with("Upgrade: w", "Upgrade : w"), "the response is invalid (a malformed field line)"),
        (good[..good.len() - 1].into(), "the response is invalid (the connection ended within the response)"),
        (String::new(), "the response is invalid (the connection ended within the response)"),
    ];
    for (bytes, error) in table {
        let found = rig().end_of(bytes.as_bytes());
        assert!(found == error || found.strip_prefix(OPENS_NONE) == Some(error), "{found}, and not {error}");
    }
    // The server that has chosen the protocol of another client.
    let rig = rig_with(&CONFIG, "a", &());
    let found = rig.end_of(&response("Sec-WebSocket-Protocol: b\r\n"));
    assert_eq!(
        found,
        "the response does not open a WebSocket: it selects a subprotocol that was not offered"
    );
}

#[test]
fn heads_up_to_their_limits_are_accepted() {
    const LARGE: &str = "the response is invalid (a head beyond its limit)";
    let base = response("X: \r\n").len();
    let of_length = |length: usize| response(&format!("X: {}\r\n", "a".repeat(length - base)));
    let of_fields = |fields: usize| response(&"X: a\r\n".repeat(fields - 3));
    let interims = |count: usize| [b"HTTP/1.1 100 Continue\r\n\r\n".repeat(count), response("")].concat();
    for (good, bad, error) in [
        (of_length(1_000), of_length(1_001), LARGE),
        (of_fields(10), of_fields(11), LARGE),
        (interims(8), interims(9), "the response is invalid (too many interim responses)"),
    ] {
        assert_eq!(good.len().max(bad.len()), bad.len());
        let mut rig = rig();
        rig.server.send(0, &good);
        assert_eq!(rig.told(), ["accepted None"]);
        assert_eq!(self::rig().end_of(&bad), error);
    }
    // An input that is smaller than the limit is one as well.
    let small = Config { block_size: 512, receive_blocks: 0, ..CONFIG };
    let mut rig = rig_with(&small, "", &());
    rig.server.send(0, &of_length(512));
    assert_eq!(rig.told(), ["accepted None"]);
    for length in [513, 900] {
        let mut rig = rig_with(&small, "", &());
        rig.server.set_piece(0, 100);
        rig.server.send(0, &of_length(length)[..length - 1]);
        assert_eq!((rig.told(), rig.server.is_ended(0)), (vec![LARGE.to_string()], true), "{length}");
    }
}

#[test]
fn buffers_without_room_for_control_frames_are_refused() {
    let error =
        "the buffers of a connection are too small; allowed: at least 278 bytes of input and 139 of output";
    assert_eq!((CAPACITY_MIN, HEADER_MAX + CONTROL_MAX), (278, 139));
    let small = Config { receive_blocks: 0, ..CONFIG };
    for (config, opens) in [
        (Config { block_size: 512, output_limit: 1, ..small }, true),
        (Config { block_size: 256, output_limit: 2, ..small }, false),
        (Config { block_size: 256, output_limit: 2, receive_size: 512, ..CONFIG }, true),
        (Config { block_size: 128, output_limit: 2, receive_size: 512, ..CONFIG }, true),
        (Config { block_size: 128, output_limit: 1, receive_size: 512, ..CONFIG }, false),
    ] {
        let mut rig = rig_with(&config, "", &());
        let sent = rig.server.receive(0).is_empty();
        // A head that does not fit is another matter.
        let told = rig.told();
        let is_refused = told.iter().any(|told| told == error);
        assert_eq!((is_refused, is_refused && !sent), (!opens, false), "{told:?}, {config:?}");
        assert_eq!(rig.server.is_ended(0), !told.is_empty());
    }
}

#[test]
fn a_handshake_has_a_time_limit() {
    for begun in [0, 100] {
        let mut rig = rig();
        rig.server.send(0, &response("")[..begun]);
        rig.server.advance(Duration::from_millis(9_900));
        assert!(rig.told().is_empty() && !rig.server.is_ended(0));
        rig.server.send(0, &response("")[begun..][..1]); // progress does not prolong it
        rig.server.advance(Duration::from_millis(200));
        assert_eq!(rig.told(), ["timed out in the opening handshake"]);
        assert!(rig.server.is_reset(0));
    }
    // It does not run on afterwards.
    let mut rig = rig();
    rig.server.send(0, &response(""));
    rig.server.advance(Duration::from_secs(15));
    assert!(!rig.server.is_ended(0));
}

#[test]
fn a_request_waits_for_room() {
    // One block of output, which the first connection occupies because its server does not read.
    let config = Config { output_blocks: 1, output_limit: 1, ..CONFIG };
    let mut rig = rig_with(&config, "", &()).open();
    rig.server.set_window(0, 0);
    rig.server.send(0, &text("a"));
    let second = rig.server.connect();
    assert_eq!(rig.server.receive(second), b"");
    rig.server.set_window(0, usize::MAX);
    assert_eq!(rig.receive(), [sent(Opcode::Text, b"a")]);
    let bytes = String::from_utf8(rig.server.receive(second)).unwrap();
    assert!(bytes.starts_with("GET /echo?b HTTP/1.1\r\n") && !bytes.contains(KEY), "a fresh key: {bytes}");
    // Never any room.
    rig.server.set_window(0, 0);
    rig.server.send(0, &text("a"));
    let third = rig.server.connect();
    rig.server.advance(Duration::from_secs(11));
    assert!(rig.told().iter().any(|told| told == "timed out in the opening handshake"));
    assert!(rig.server.is_ended(third));
}

#[test]
fn connections_that_end_in_the_handshake_and_connects_that_fail_are_noticed_once() {
    let mut reset = rig();
    reset.server.reset(0);
    assert_eq!(reset.told().len(), 1);
    for begun in [0, 50] {
        let mut stopped = rig();
        stopped.server.send(0, &response("")[..begun]);
        stopped.server.stop(Duration::from_secs(60));
        assert_eq!(stopped.told(), ["stopped in the opening handshake"]);
        assert!(stopped.server.is_ended(0));
    }
    let told = Told::default();
    let mut server = TestServer::with_config(Turned { refused: true, ..client(&told, "", &()) }, &CONFIG);
    server.connect();
    assert_eq!(told.take(), ["connection refused while connecting"]);
}

#[test]
fn a_client_accepts_no_connections() {
    let mut client = client(&Told::default(), "", &()).inner;
    let peer = Address::Inet(([192, 0, 2, 1], 1234).into());
    assert!(client.admit(Origin::Accepted { listener: ListenerId(0) }, &peer).is_none());
}

#[test]
fn violations_end_the_connection_with_their_code() {
    let masked = FrameHeader { fin: true, opcode: Opcode::Text, mask: Some(Mask::default()), length: 1 };
    for (bytes, code, name) in [
        ([masked.encode().as_bytes(), b"a"].concat(), 1002, "Failed(Masking)"),
        (frame(true, Opcode::Continuation, b"a"), 1002, "Failed(NothingToContinue)"),
        (frame(true, Opcode::Text, b"a\xff"), 1007, "Failed(InvalidUtf8)"),
        (frame(true, Opcode::Close, b"\x03"), 1002, "Failed(InvalidClose)"),
        (vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0x86, 0xa1], 1009, "Failed(TooLong)"), // 100,001 bytes
        (b"\xc1\x01a".to_vec(), 1002, "Failed(ReservedBit)"), // compressed, which was not negotiated
    ] {
        let mut rig = rig().open();
        rig.server.send(0, &[text("before"), bytes].concat());
        let received = rig.receive();
        assert_eq!(received[0], sent(Opcode::Text, b"before"));
        assert_eq!(
            (received.len(), received[1].0, &received[1].1[..2]),
            (2, Opcode::Close, &u16::to_be_bytes(code)[..]),
            "{name}"
        );
        assert_eq!(rig.told(), [name]);
        // The close frame must reach the server: no reset, whatever it is still sending.
        rig.server.send(0, &text("more"));
        assert_eq!(rig.server.unread(0), 0);
        rig.server.end(0);
        assert!(rig.server.is_ended(0) && !rig.server.is_reset(0), "{name}");
        assert_eq!(rig.told(), ["closed"]);
    }
}

#[test]
fn the_close_handshake_in_both_directions() {
    const NORMAL: &str = "Closed { code: Some(CloseCode(1000)), reason: \"\" }";
    // Begun by the client. What arrives until the server's close frame is dropped, and nothing is sent any more.
    let mut rig = rig().open();
    rig.server.send(0, &text("close"));
    assert_eq!(rig.receive(), [sent(Opcode::Close, b"\x03\xe8as you like")]);
    rig.server.send(0, &[text("a"), frame(true, Opcode::Ping, b"")].concat());
    assert_eq!((rig.receive(), rig.told()), (vec![], vec![]));
    rig.server.send(0, &close(1000));
    assert_eq!(rig.told(), [NORMAL]);
    rig.server.send(0, &text("after the close frame").repeat(10_000));
    assert!(!rig.server.is_ended(0) && rig.server.unread(0) == 0);
    rig.server.end(0);
    assert!(rig.server.is_ended(0) && !rig.server.is_reset(0));
    assert_eq!(rig.told(), ["closed"]);
    // The server does not respond.
    let mut rig = self::rig().open();
    rig.server.send(0, &text("close"));
    rig.server.advance(Duration::from_millis(4_900));
    assert!(!rig.server.is_ended(0));
    rig.server.advance(Duration::from_millis(200));
    assert!(rig.server.is_reset(0));
    assert_eq!(rig.told(), ["Lost", "closed"]);
    // The server responds, or begins, and does not end the connection.
    for begins in [false, true] {
        let mut rig = self::rig().open();
        if !begins {
            rig.server.send(0, &text("close"));
            rig.server.advance(Duration::from_secs(4));
        }
        rig.server.send(0, &close(1000));
        assert_eq!(rig.told(), [NORMAL]);
        rig.server.advance(Duration::from_millis(4_900));
        assert!(!rig.server.is_ended(0) && rig.told().is_empty());
        rig.server.advance(Duration::from_millis(200));
        assert!(rig.server.is_ended(0) && !rig.server.is_reset(0));
        assert_eq!(rig.told(), ["closed"]);
    }
    // It resets the connection, or does not even read the close frame.
    let mut rig = self::rig().open();
    rig.server.send(0, &close(1000));
    rig.server.reset(0);
    assert_eq!(rig.told(), [NORMAL, "closed"]);
    let mut rig = self::rig().open();
    rig.server.set_window(0, 0);
    rig.server.send(0, &close(1000));
    rig.server.advance(Duration::from_millis(5_100));
    assert!(rig.server.is_reset(0));
    assert_eq!(rig.told(), [NORMAL, "closed"]);
    // Frame and end of the stream at once.
    let mut rig = self::rig().open();
    rig.server.send(0, &close(1000));
    rig.server.end(0);
    assert!(rig.server.is_ended(0) && !rig.server.is_reset(0));
}

#[test]
fn connections_that_are_lost_are_noticed_exactly_once() {
    let mut rig = rig().open();
    rig.server.send(0, &text("a"));
    rig.server.end(0);
    assert_eq!(rig.told(), ["Lost", "closed"]);
    let mut rig = self::rig().open();
    rig.server.reset(0);
    assert_eq!(rig.told(), ["Lost", "closed"]);
}

#[test]
fn a_silent_server_gets_a_ping_and_is_given_up_without_a_sign_of_life() {
    let mut rig = rig().open();
    rig.server.advance(Duration::from_millis(30_100));
    assert_eq!(rig.receive(), [sent(Opcode::Ping, b"")]);
    rig.server.send(0, &frame(true, Opcode::Pong, b""));
    rig.server.advance(Duration::from_secs(29));
    assert!(!rig.server.is_ended(0));
    rig.server.advance(Duration::from_secs(32));
    assert_eq!(rig.receive(), [sent(Opcode::Ping, b"")]);
    rig.server.advance(Duration::from_secs(10));
    assert!(rig.server.is_reset(0));
    assert_eq!(rig.told(), ["Lost", "closed"]);
}

#[test]
fn a_stop_says_goodbye() {
    let mut rig = rig().open();
    rig.server.stop(Duration::from_secs(60));
    assert_eq!(rig.receive(), [sent(Opcode::Close, b"\x03\xe9")]);
    rig.server.send(0, &close(1001));
    rig.server.end(0);
    assert!(rig.server.is_ended(0));
    assert_eq!(rig.told(), ["Closed { code: Some(CloseCode(1001)), reason: \"\" }", "closed"]);
}

#[test]
fn messages_are_posted_to_one_or_to_all() {
    let mut rig = rig();
    let early = rig.server.token(0).unwrap();
    assert!(rig.server.post(early, RequestMessage::to_all("before it is open")));
    let mut rig = rig.open();
    let id = rig.ids.borrow()[0];
    assert_eq!(id.token(), early);
    assert!(rig.server.post(id.token(), id.message("to one")));
    assert!(rig.server.post(id.token(), RequestMessage::to_all("to all")));
    let other = RequestId::new(id.token(), 1);
    assert!(rig.server.post(id.token(), other.message("to another")));
    assert_eq!(rig.receive(), [sent(Opcode::Text, b"to one"), sent(Opcode::Text, b"to all")]);
    assert!(rig.server.post(id.token(), id.message("close")));
    assert!(rig.server.post(id.token(), id.message("too late")));
    assert_eq!(rig.receive(), [sent(Opcode::Close, b"\x03\xe8")]);
}

/// With little room, no piece is longer than what can be sent back at once, with the mask.
#[test]
fn a_piece_can_always_be_sent_back() {
    for (block_size, limit) in [(1_024, 1), (1_024, 4), (4_096, 1), (16_384, 4)] {
        let config = Config { block_size, output_limit: limit, output_blocks: 64, ..CONFIG };
        for length in [0, 100, 125, 126, 992, 1_016, 1_020, 1_024, 4_086, 4_096, 16_384, 70_000] {
            let mut rig = rig_with(&config, "", &()).open();
            let message: Vec<u8> = (0..=250).cycle().take(length).collect();
            rig.server.send(0, &frame(true, Opcode::Binary, &message));
            assert_eq!(rig.receive(), [sent(Opcode::Binary, &message)], "{limit} of {block_size}, {length}");
        }
    }
}

/// The largest message that a handler can send at once fits, and one byte more does not.
#[test]
fn what_can_be_sent_at_once_ends_at_the_output_limit() {
    struct Fill(Told);

    impl State for Fill {
        type Message = core::convert::Infallible;
    }

    impl WebSocketSource for Fill {
        type WebSocket = Once;

        fn request(&self, _: u64) -> OpeningRequest<'_> {
            OpeningRequest::new(Uri::parse_ws("ws://a").unwrap())
        }

        fn accept(&mut self, _: u64, _: &OpeningResponse<'_>) -> Once {
            Once
        }
    }

    struct Once;

    impl WebSocket<Fill> for Once {
        const CONFIG: WebSocketConfig = WebSocketConfig { ping: None, ..WebSocketConfig::DEFAULT };

        fn open(&mut self, channel: &mut Channel<'_, Fill>) {
            let most = channel.output_limit();
            assert_eq!(channel.send_binary(&vec![1; most + 1]), Err(Full));
            assert_eq!(channel.send_binary(&vec![2; most]), Ok(()));
            channel.state().0.borrow_mut().push(most.to_string());
        }

        fn receive(&mut self, _: Message<'_>, _: &mut Channel<'_, Fill>) -> Result<(), Full> {
            Ok(())
        }
    }

    for (block_size, limit, most) in
        [(512, 1, 504), (4_096, 8, 32_760), (16_384, 4, 65_528), (16_384, 5, 81_906)]
    {
        let told = Told::default();
        let client = WebSocketClient::new(Fill(Rc::clone(&told)), Counting(0));
        let config = Config { block_size, output_limit: limit, ..CONFIG };
        let mut server = TestServer::with_config(Turned { inner: client, refused: false }, &config);
        server.connect();
        drop(server.receive(0));
        server.send(0, &response(""));
        assert_eq!(told.take(), [most.to_string()]);
        assert_eq!(frames(&server.receive(0)), [sent(Opcode::Binary, &vec![2; most])]);
        // Without pings, a connection has no time limit, not even that of the handshake.
        server.advance(Duration::from_hours(10));
        assert!(!server.is_ended(0) && server.receive(0).is_empty());
    }
}

#[test]
fn a_server_that_does_not_read_is_not_read_and_loses_nothing() {
    let mut rig = rig().open();
    rig.server.set_window(0, 0);
    let sends: Vec<String> = (0..2_000).map(|n| format!("{n:0100}")).collect();
    let all: Vec<u8> = sends.iter().flat_map(|message| text(message)).collect();
    rig.server.send(0, &[all, frame(true, Opcode::Ping, b"p"), close(1000)].concat());
    assert!(rig.server.unread(0) > 100_000, "only what fits is read");
    rig.server.end(0);
    let mut received = Vec::new();
    while !rig.server.is_ended(0) {
        rig.server.set_window(0, 777);
        received.extend_from_slice(&rig.server.receive(0));
    }
    let mut expected: Vec<_> = sends.iter().map(|message| sent(Opcode::Text, message.as_bytes())).collect();
    expected.extend([sent(Opcode::Pong, b"p"), sent(Opcode::Close, b"\x03\xe8")]);
    assert_eq!(frames(&received), expected);
    let told = rig.told();
    assert_eq!(told[told.len() - 2..], ["Closed { code: Some(CloseCode(1000)), reason: \"\" }", "closed"]);
}

#[test]
fn what_a_handler_refuses_waits_and_its_server_is_not_given_up() {
    const NORMAL: &str = "Closed { code: Some(CloseCode(1000)), reason: \"\" }";
    for (end, told) in [(vec![], &["go", "Lost", "closed"]), (close(1000), &["go", NORMAL, "closed"])] {
        let mut rig = rig().open();
        rig.server.send(0, &[text("wait"), end].concat());
        rig.server.end(0);
        rig.server.advance(Duration::from_secs(1_000));
        assert!(rig.told().is_empty() && !rig.server.is_ended(0));
        let id = rig.ids.borrow()[0];
        assert!(rig.server.post(id.token(), id.message("go")));
        assert_eq!(rig.receive()[0], sent(Opcode::Text, b"wait"));
        // The server has ended its stream already: it is not awaited.
        assert_eq!((&rig.told()[..], rig.server.is_ended(0)), (&told.map(String::from)[..], true));
        assert!(!rig.server.is_reset(0));
    }
}

#[test]
fn an_idle_connection_holds_no_memory() {
    let config = Config { input_blocks: 1, receive_blocks: 0, sockets: 24, ..CONFIG };
    let mut rig = rig_with(&config, "", &()).open();
    let mut connections = vec![0];
    // Later keys are not those of the test's response, so that each one has to be accepted by its own key.
    for _ in 0..20 {
        let connection = rig.server.connect();
        let request = String::from_utf8(rig.server.receive(connection)).unwrap();
        let key = request.split_once("Sec-WebSocket-Key: ").unwrap().1.split_once("\r\n").unwrap().0;
        let accept = AcceptKey::new(key.as_bytes()).unwrap();
        let old = AcceptKey::new(KEY.as_bytes()).unwrap();
        let response = String::from_utf8(response("")).unwrap().replace(old.as_str(), accept.as_str());
        rig.server.send(connection, response.as_bytes());
        connections.push(connection);
    }
    // This one waits for its end, and holds none of what came after the close frame.
    rig.server.send(connections.remove(0), &[close(1000), text("dropped")].concat());
    for connection in &connections {
        rig.server.send(*connection, &text("a"));
        rig.server.send(*connection, &text("b")[..2]);
        rig.server.send(*connection, &text("b")[2..]);
    }
    for connection in connections {
        let received = frames(&rig.server.receive(connection));
        assert_eq!(received, [sent(Opcode::Text, b"a"), sent(Opcode::Text, b"b")]);
    }
}

/// A client and a server of this crate, joined with pieces of any length.
#[test]
fn the_client_speaks_with_the_server_in_all_cuts() {
    const ENDING: &str = "Closed { code: Some(CloseCode(1000)), reason: \"\" }";
    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 999, 1_000, 1_001, 20_000];
    for (piece, window) in [(1, 1), (2, 7), (3, usize::MAX), (64, 100), (usize::MAX, usize::MAX)] {
        let (told, client_told) = (Told::default(), Told::default());
        let app =
            App { told: Rc::clone(&told), ids: Rc::default(), protocols: "", fields: &(), quiet: false };
        let http = Http::with(app).get("/echo", |request, response| upgrade(&request, response, Echo));
        let mut server = TestServer::with_config(http, &CONFIG);
        let app = App {
            told: Rc::clone(&client_told),
            ids: Rc::default(),
            protocols: "",
            fields: &(),
            quiet: true,
        };
        let ids = Rc::clone(&app.ids);
        let inner = ContractChecker::new(WebSocketClient::new(app, Counting(0)));
        let mut client = TestServer::with_config(Turned { inner, refused: false }, &CONFIG);
        let (at_server, at_client) = (server.connect(), client.connect());
        server.set_piece(at_server, piece);
        client.set_piece(at_client, piece);
        let mut to_post = LENGTHS.map(|length| &*"x".repeat(length).leak()).to_vec();
        to_post.push("close");
        to_post.reverse();
        let mut ended = false;
        for _ in 0..1_000_000 {
            let last = |line: &String| line.starts_with("last");
            let noted = client_told.borrow().iter().filter(|line| last(line)).count();
            if let [id] = ids.borrow()[..]
                && noted + to_post.len() == LENGTHS.len() + 1
                && let Some(message) = to_post.pop()
            {
                assert!(client.post(id.token(), id.message(message)));
            }
            client.set_window(at_client, window);
            server.set_window(at_server, window);
            let (up, down) = (client.receive(at_client), server.receive(at_server));
            server.send(at_server, &up);
            client.send(at_client, &down);
            if server.is_ended(at_server) && !ended {
                client.send(at_client, &server.receive(at_server));
                client.end(at_client);
                ended = true;
            }
            if ended && client.is_ended(at_client) {
                break;
            }
        }
        let state = (piece, ended, to_post.len(), client_told.borrow().len());
        assert!(client.is_ended(at_client), "{state:?}");
        assert!(!client.is_reset(at_client) && !server.is_reset(at_server), "{state:?}");
        assert_eq!(told.take(), [ENDING]);
        let (mut total, mut totals) = (0, Vec::new());
        let noted = client_told.take();
        assert_eq!(
            (&*noted[0], &noted[noted.len() - 2..]),
            ("accepted None", &[ENDING, "closed"].map(String::from)[..])
        );
        for line in &noted[1..noted.len() - 2] {
            let (part, length) = line.split_once(' ').unwrap();
            total += length.parse::<usize>().unwrap();
            if part == "last" {
                totals.push(core::mem::take(&mut total));
            }
        }
        assert_eq!(totals, LENGTHS, "pieces of {piece}");
    }
}
