//! Tests of the client on a real poller. The rig is that of servers: it accepts connections, and here the accepted side
//! is the client, so that a test plays the server byte by byte.

extern crate std;

use core::time::Duration;
use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use lightcone_core::Event;

use super::*;
use crate::client::{BodyWriter, ClientRequest, RequestBody, RequestFields, ResponseHead, Uri};
use crate::exchange::Flow;
use crate::method::Method;
use crate::parse::trailers::Trailers;
use crate::testing::TestServer;

/// A handler that takes accepted connections for its own. It may end them before they are used.
struct Turned<H> {
    inner: H,
    ends: bool,
}

impl<H: Handler> Handler for Turned<H> {
    type Data = H::Data;
    type Message = H::Message;

    fn admit(&mut self, _: Origin, peer: &Address) -> Option<H::Data> {
        self.inner.admit(Origin::Connecting { tag: 7 }, peer)
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, H::Data>,
        event: Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        if self.ends && matches!(event, Event::Open) {
            socket.abort();
        }
        self.inner.event(socket, event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, H::Message>) {
        self.inner.poller_event(event, cx);
    }
}

/// What a fetch has seen.
#[derive(Default, Debug)]
struct Seen {
    interims: usize,
    status: Option<u16>,
    body: Vec<u8>,
    trailers: Vec<String>,
    /// How the fetches ended, in order.
    ends: Vec<String>,
    closed: usize,
}

#[derive(Clone)]
struct Probe {
    method: Method,
    fields: &'static dyn RequestFields,
    body: RequestBody,
    /// What to send, and what is left of it.
    data: Vec<u8>,
    /// What `send` returns when all was sent; before that it is `More`.
    flow: Flow,
    close: bool,
    keeps_trailers: bool,
    /// How many bytes of the body are taken until the next message.
    budget: usize,
    seen: Rc<RefCell<Seen>>,
}

impl Fetch for Probe {
    /// How many more bytes are taken.
    type Message = usize;

    fn request(&self) -> ClientRequest<'_> {
        let uri = Uri::parse("http://a/b").unwrap();
        let (fields, body, close) = (self.fields, self.body, self.close);
        ClientRequest { method: self.method, fields, body, close, ..ClientRequest::get(uri) }
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        let n = body.write(&self.data);
        self.data.drain(..n);
        if self.data.is_empty() { self.flow } else { Flow::More }
    }

    fn interim(&mut self, _: &ResponseHead<'_>) {
        self.seen.borrow_mut().interims += 1;
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        self.seen.borrow_mut().status = Some(head.status.code());
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        let n = self.budget.min(data.len());
        self.budget -= n;
        self.seen.borrow_mut().body.extend_from_slice(&data[..n]);
        (!data.contains(&b'!')).then_some(n)
    }

    fn keeps_trailers(&self) -> bool {
        self.keeps_trailers
    }

    fn trailers(&mut self, trailers: &Trailers<'_>) {
        let fields = trailers.fields().map(|(name, value)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        });
        self.seen.borrow_mut().trailers.extend(fields);
    }

    fn message(&mut self, more: usize) -> Flow {
        self.budget = self.budget.saturating_add(more);
        if more == 0 { Flow::Abort } else { Flow::More }
    }

    fn end(self) {
        self.seen.borrow_mut().ends.push("end".into());
    }

    fn failed(self, error: FetchError) {
        self.seen.borrow_mut().ends.push(error.to_string());
    }
}

struct Probes {
    next: Vec<Probe>,
    seen: Rc<RefCell<Seen>>,
}

impl FetchSource for Probes {
    type Fetch = Probe;

    fn next(&mut self, tag: u64) -> Option<Probe> {
        assert_eq!(tag, 7);
        self.next.pop()
    }

    fn closed(&mut self, _: u64, _: &mut Context<'_, usize>) {
        self.seen.borrow_mut().closed += 1;
    }
}

type Rig = TestServer<Turned<Client<Probes>>>;

fn probe() -> Probe {
    Probe {
        method: Method::Get,
        fields: &(),
        body: RequestBody::None,
        data: Vec::new(),
        flow: Flow::Done,
        close: false,
        keeps_trailers: false,
        budget: usize::MAX,
        seen: Rc::default(),
    }
}

/// Opens a connection on which these requests are sent.
fn rig(probes: &[Probe], limits: ClientLimits) -> (Rig, Rc<RefCell<Seen>>) {
    connected(probes, limits, false)
}

fn connected(probes: &[Probe], limits: ClientLimits, ends: bool) -> (Rig, Rc<RefCell<Seen>>) {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mut next: Vec<Probe> = probes.to_vec();
    next.reverse();
    next.iter_mut().for_each(|probe| probe.seen = Rc::clone(&seen));
    let source = Probes { next, seen: Rc::clone(&seen) };
    let mut rig = TestServer::untimed(Turned { inner: Client::with_limits(source, limits), ends });
    assert_eq!(rig.connect(), 0);
    (rig, seen)
}

const HEAD: &str = "GET /b HTTP/1.1\r\nHost: a\r\n\r\n";

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Answers a single request with `bytes`; returns how it ended.
fn end_of(probe: Probe, bytes: &[u8], ends: bool) -> String {
    let (mut rig, seen) = rig(&[probe], ClientLimits::DEFAULT);
    rig.send(0, bytes);
    if ends {
        rig.end(0);
    }
    let ends = seen.borrow().ends.join("; ");
    if !ends.is_empty() {
        rig.advance(Duration::from_secs(1));
        assert!(rig.is_ended(0) && seen.borrow().closed == 1, "the connection ends after {ends}");
    }
    ends
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let (mut rig, seen) = rig(&[probe(), probe(), probe()], ClientLimits::DEFAULT);
    for n in 1..=3 {
        assert_eq!(text(rig.receive(0)), HEAD);
        rig.send(0, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
        assert_eq!(seen.borrow().ends.len(), n - 1);
        rig.send(0, b"ab");
        assert_eq!(seen.borrow().ends.len(), n);
    }
    assert_eq!(seen.borrow().body, b"ababab");
    assert_eq!(seen.borrow().ends, ["end", "end", "end"]);
    assert!(rig.is_ended(0), "there is no other request");
    rig.end(0);
    assert_eq!(seen.borrow().closed, 1);
}

#[test]
fn responses_of_all_framings_in_pieces_of_all_lengths() {
    let table: [(&[u8], bool, &[u8]); 5] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n", false, b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", true, b"hello"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", false, b""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false, b"hello"),
    ];
    for (bytes, ends, body) in table {
        for step in 1..=bytes.len() {
            let (mut rig, seen) = rig(&[probe()], ClientLimits::DEFAULT);
            for piece in bytes.chunks(step) {
                assert!(seen.borrow().ends.is_empty());
                rig.send(0, piece);
            }
            if ends {
                assert!(seen.borrow().ends.is_empty());
                rig.end(0);
            }
            assert_eq!(seen.borrow().ends, ["end"], "{} in pieces of {step}", bytes.escape_ascii());
            assert_eq!(seen.borrow().body, body);
        }
    }
}

#[test]
fn a_connection_is_not_used_again_when_it_must_not_be() {
    let closing = Probe { close: true, ..probe() };
    let early = Probe { body: RequestBody::Length(2), data: b"a".to_vec(), flow: Flow::More, ..probe() };
    let table: [(Probe, &[u8]); 5] = [
        (probe(), b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        (probe(), b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (probe(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n"),
        (closing, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (early, b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"),
    ];
    for (first, bytes) in table {
        let (mut rig, seen) = rig(&[first, probe()], ClientLimits::DEFAULT);
        drop(rig.receive(0));
        rig.send(0, bytes);
        assert_eq!(seen.borrow().ends, ["end"], "{}", bytes.escape_ascii());
        assert!(rig.is_ended(0) && rig.receive(0).is_empty(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn bodies_of_requests() {
    let data: Vec<u8> = (0..20_000u32).map(|n| n.to_le_bytes()[0]).collect();
    for body in [RequestBody::Length(20_000), RequestBody::Chunked] {
        for window in [1, 100, 5_000] {
            let put = Probe { method: Method::Put, body, data: data.clone(), ..probe() };
            let (mut rig, seen) = rig(&[put], ClientLimits::DEFAULT);
            let received = receive_all(&mut rig, window);
            let response = collected(&received);
            assert_eq!((response.status(), response.body() == data), (200, true), "{body:?} {window}");
            rig.send(0, b"HTTP/1.1 204 No\r\n\r\n");
            assert_eq!(seen.borrow().ends, ["end"]);
        }
    }
}

/// Receives what the client sends, while the server takes at most `window` bytes at once.
fn receive_all(rig: &mut Rig, window: usize) -> Vec<u8> {
    let mut received = rig.receive(0);
    loop {
        rig.set_window(0, window);
        let more = rig.receive(0);
        if more.is_empty() {
            rig.set_window(0, usize::MAX);
            return received;
        }
        received.extend(more);
    }
}

/// Returns the response of a server that sends the body of a request back.
fn collected(request: &[u8]) -> crate::testing::TestResponse {
    let mut server = TestServer::new(crate::Http::new().put(
        "/b",
        |request: crate::Request<'_, ()>, response: crate::Response<'_>| {
            request.collect::<20_000, _>(response, |_: &mut (), body, response| response.bytes(body))
        },
    ));
    let connection = server.connect();
    server.send(connection, request);
    server.response(connection).expect("the request is whole")
}

#[test]
fn a_response_is_read_while_the_request_is_blocked() {
    let put = Probe { body: RequestBody::Chunked, data: std::vec![b'x'; 500_000], ..probe() };
    let (mut rig, seen) = rig(&[put], ClientLimits::DEFAULT);
    rig.set_window(0, 0);
    rig.send(0, b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!((seen.borrow().status, &seen.borrow().ends[..]), (Some(413), &["end".to_string()][..]));
}

#[test]
fn each_phase_has_its_limit() {
    let second = Duration::from_secs(1);
    let limits = ClientLimits {
        send_time: 2 * second,
        first_byte_time: 3 * second,
        head_time: 4 * second,
        body_time: 5 * second,
        ..ClientLimits::DEFAULT
    };
    let total = ClientLimits { total_time: Some(2 * second), ..limits };
    let slow = Probe { body: RequestBody::Chunked, flow: Flow::More, ..probe() };
    let body = &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"[..];
    let table: [(Probe, &[u8], ClientLimits, u64, &str); 8] = [
        (slow.clone(), b"", limits, 2, "timed out while sending the request"),
        (probe(), b"", limits, 3, "timed out while waiting for the first byte of the response"),
        (probe(), b"H", limits, 4, "timed out while receiving the head of the response"),
        (
            probe(),
            b"HTTP/1.1 103 E\r\n\r\n",
            limits,
            3,
            "timed out while waiting for the first byte of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 103 E\r\n\r\nHTTP",
            limits,
            4,
            "timed out while receiving the head of the response",
        ),
        (probe(), body, limits, 5, "timed out while receiving the body of the response"),
        (slow, body, limits, 5, "timed out while receiving the body of the response"),
        (
            probe(),
            body,
            total,
            2,
            "the exchange took too long, and ended while receiving the body of the response",
        ),
    ];
    for (probe, bytes, limits, seconds, expected) in table {
        let (mut rig, seen) = rig(&[probe], limits);
        rig.send(0, bytes);
        rig.advance(Duration::from_millis(seconds * 1_000 - 1));
        assert!(seen.borrow().ends.is_empty(), "{expected}: too early");
        rig.advance(Duration::from_millis(2));
        assert_eq!(seen.borrow().ends, [expected]);
        assert!(rig.is_reset(0));
    }
}

#[test]
fn progress_postpones_the_limits_of_sending_and_of_the_body_but_not_of_the_head() {
    let limits = ClientLimits { head_time: Duration::from_secs(4), ..ClientLimits::DEFAULT };
    let (mut rig, seen) = rig(&[probe()], limits);
    rig.send(0, b"HTTP/1.1 200 OK\r\n");
    for _ in 0..3 {
        rig.advance(Duration::from_secs(1));
        rig.send(0, b"A: b\r\n");
    }
    rig.send(0, b"Content-Length: 10\r\n\r\n");
    for _ in 0..10 {
        rig.advance(Duration::from_secs(29));
        rig.send(0, b"x");
    }
    assert_eq!(seen.borrow().ends, ["end"]);
}

/// The server takes a little of a long request again and again, without or with a part of its response.
#[test]
fn an_upload_that_makes_progress_goes_on() {
    let (sending, receiving) =
        ("timed out while sending the request", "timed out while receiving the body of the response");
    let table: [(usize, &[u8], &str); 4] = [
        (500_000, b"", sending),
        (500_000, b"HTTP/1.1 100 Continue\r\n\r\n", sending),
        (140_000, b"HTTP/1.1 100 Continue\r\n\r\n", sending), // all that is left of it is queued
        (500_000, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", receiving),
    ];
    for (length, bytes, expected) in table {
        let put = Probe { body: RequestBody::Chunked, data: std::vec![b'x'; length], ..probe() };
        let (mut rig, seen) = rig(&[put], ClientLimits::DEFAULT);
        rig.set_window(0, 0);
        rig.send(0, bytes);
        for step in 1..=10 {
            rig.advance(Duration::from_secs(20));
            assert!(seen.borrow().ends.is_empty(), "step {step} of {length}: {:?}", seen.borrow().ends);
            rig.set_window(0, 100);
        }
        rig.advance(Duration::from_millis(29_999));
        assert!(seen.borrow().ends.is_empty(), "{expected}: too early");
        rig.advance(Duration::from_millis(2));
        assert_eq!(seen.borrow().ends, [expected]);
    }
}

/// The head of a response has the time that is set for it, whatever the server takes of the request.
#[test]
fn progress_of_an_upload_does_not_postpone_the_limit_of_the_head() {
    let put = Probe { body: RequestBody::Chunked, data: std::vec![b'x'; 500_000], ..probe() };
    let (mut rig, seen) = rig(&[put], ClientLimits::DEFAULT);
    rig.set_window(0, 0);
    rig.send(0, b"HTTP/1.1 200");
    for _ in 0..11 {
        rig.advance(Duration::from_secs(1));
        rig.set_window(0, 100);
    }
    assert_eq!(seen.borrow().ends, ["timed out while receiving the head of the response"]);
}

#[test]
fn the_time_of_a_head_runs_from_its_first_byte() {
    let (mut rig, seen) = rig(&[probe()], ClientLimits::DEFAULT);
    for byte in b"HTTP/1.1 200" {
        rig.send(0, &[*byte]);
        rig.advance(Duration::from_secs(1));
    }
    assert_eq!(seen.borrow().ends, ["timed out while receiving the head of the response"]);
}

#[test]
fn a_slow_consumer_pauses_the_server() {
    let slow = Probe { budget: 3, ..probe() };
    let (mut rig, seen) = rig(&[slow, probe()], ClientLimits::DEFAULT);
    drop(rig.receive(0));
    let size = 400_000;
    rig.send(0, format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes());
    rig.send(0, &std::vec![b'x'; 100_000]);
    rig.send(0, &std::vec![b'x'; 300_000]);
    assert_eq!(seen.borrow().body.len(), 3);
    assert!(rig.unread(0) >= 300_000, "the server cannot send more");
    rig.advance(Duration::from_secs(3_600));
    assert!(seen.borrow().ends.is_empty(), "no limit of the server's runs meanwhile");
    let token = rig.token(0).unwrap();
    assert!(rig.post(token, 5));
    assert_eq!(seen.borrow().body.len(), 8);
    for _ in 0..200 {
        assert!(rig.post(token, 4_000));
        rig.advance(Duration::from_millis(1));
    }
    assert_eq!((seen.borrow().body.len(), rig.unread(0)), (size, 0));
    assert_eq!(seen.borrow().ends, ["end"]);
    assert_eq!(text(rig.receive(0)), HEAD, "the connection is used again");
}

#[test]
fn what_was_left_is_delivered_after_the_end_of_the_connection() {
    let slow = Probe { budget: 1, ..probe() };
    let (mut rig, seen) = rig(&[slow], ClientLimits::DEFAULT);
    rig.send(0, b"HTTP/1.1 200 OK\r\n\r\nabc");
    rig.end(0);
    assert_eq!((seen.borrow().body.len(), seen.borrow().ends.len()), (1, 0));
    let token = rig.token(0).unwrap();
    assert!(rig.post(token, 1));
    assert_eq!((seen.borrow().body.len(), seen.borrow().ends.len()), (2, 0));
    assert!(rig.post(token, 1));
    rig.advance(Duration::from_millis(1));
    assert_eq!((&seen.borrow().body[..], &seen.borrow().ends[..]), (&b"abc"[..], &["end".to_string()][..]));
}

#[test]
fn failures_name_the_phase_and_the_cause() {
    const LARGE: [(&str, &str); 1] = [("X", as_text(&[b'x'; 70_000]))];
    let invalid = Probe { fields: &[("A", "b\r\nC: d")], ..probe() };
    let large = Probe { fields: &LARGE, ..probe() };
    let short = Probe { body: RequestBody::Length(3), data: b"ab".to_vec(), ..probe() };
    let given_up = Probe { body: RequestBody::Chunked, flow: Flow::Abort, ..probe() };
    let table: [(Probe, &[u8], &str); 11] = [
        (
            probe(),
            b"",
            "the response is invalid (the connection ended within the response) while waiting for the first byte of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 2",
            "the response is invalid (the connection ended within the response) while receiving the head of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
            "the response is invalid (the connection ended within the response) while receiving the body of the response",
        ),
        (
            probe(),
            b"SSH-2.0\r\n",
            "the response is invalid (no HTTP/1 status line) while receiving the head of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
            "the response is invalid (a malformed field line) while receiving the head of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 101 S\r\n\r\n",
            "the response is invalid (a switch to another protocol that was not requested) while receiving the body of the response",
        ),
        (
            probe(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx",
            "the response is invalid (a malformed chunk) while receiving the body of the response",
        ),
        (
            invalid,
            b"",
            "the request is invalid (the value of a field has control characters) while sending the request",
        ),
        (large, b"", "the head of the request is too large while sending the request"),
        (short, b"", "the body of the request was too short while sending the request"),
        (given_up, b"", "given up while sending the request"),
    ];
    for (probe, bytes, expected) in table {
        assert_eq!(end_of(probe, bytes, true), expected);
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n!";
    assert_eq!(end_of(probe(), head, false), "given up while receiving the body of the response");
    let (mut rig, seen) = rig(&[probe()], ClientLimits::DEFAULT);
    rig.reset(0);
    let expected =
        "the connection ended (reset by the peer) while waiting for the first byte of the response";
    assert_eq!(seen.borrow().ends, [expected]);
}

#[test]
fn a_connection_that_has_ended_before_its_request_fails_it_with_the_reason() {
    let (_, seen) = connected(&[probe()], ClientLimits::DEFAULT, true);
    let expected = "the connection ended (aborted locally) while sending the request";
    assert_eq!(seen.borrow().ends, [expected]);
}

/// Returns bytes of ASCII as text.
const fn as_text(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

#[test]
fn a_message_can_give_up() {
    let (mut rig, seen) = rig(&[probe()], ClientLimits::DEFAULT);
    let token = rig.token(0).unwrap();
    assert!(rig.post(token, 0));
    assert_eq!(seen.borrow().ends, ["given up while waiting for the first byte of the response"]);
    assert!(rig.is_reset(0));
}

#[test]
fn a_connect_that_fails_fails_its_request() {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mut source =
        Probes { next: std::vec![Probe { seen: Rc::clone(&seen), ..probe() }], seen: Rc::clone(&seen) };
    let mut outbox = lightcone_core::NoOutbox;
    let now = lightcone_core::Instant::from_millis(0);
    let mut cx = Context::new(now, None, lightcone_core::PollerId(0), &mut outbox);
    let error = FetchError::new(FetchPhase::Connect, FetchCause::Refused(ErrorKind::ConnectionRefused));
    source.refused(7, error, &mut cx);
    assert_eq!(seen.borrow().ends, ["connection refused while connecting"]);
}

#[test]
fn a_head_that_does_not_fit_into_the_input_is_refused() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    bytes.extend(std::vec![b'x'; 40_000]);
    let expected =
        "the response is invalid (a head beyond its limit) while receiving the head of the response";
    assert_eq!(end_of(probe(), &bytes, false), expected);
}

#[test]
fn a_shutdown_lets_the_response_end_and_begins_no_other() {
    let (mut rig, seen) = rig(&[probe(), probe()], ClientLimits::DEFAULT);
    drop(rig.receive(0));
    rig.stop(Duration::from_secs(10));
    rig.send(0, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
    rig.advance(Duration::from_secs(1));
    rig.send(0, b"a");
    assert_eq!(seen.borrow().ends, ["end"]);
    assert!(rig.is_ended(0) && rig.receive(0).is_empty());
}

#[test]
fn a_shutdown_without_time_fails_the_request() {
    let (mut rig, seen) = rig(&[probe()], ClientLimits::DEFAULT);
    rig.stop(Duration::ZERO);
    let expected = "the connection ended (engine shut down) while waiting for the first byte of the response";
    assert_eq!(seen.borrow().ends, [expected]);
}

#[test]
fn connections_of_a_listener_are_turned_away() {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let mut client = Client::new(Probes { next: Vec::new(), seen });
    let peer = Address::Inet(([127, 0, 0, 1], 1).into());
    let listener = crate::testing::server::LISTENER;
    assert!(client.admit(Origin::Accepted { listener }, &peer).is_none());
    assert!(client.admit(Origin::Connecting { tag: 1 }, &peer).is_some());
}

#[test]
fn a_fetch_receives_the_trailer_fields_that_it_keeps_whatever_the_cut() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\nab\r\n0\r\nDigest: x\r\nSet-Cookie: a=b\r\nX-Sum: 7\r\n\r\n";
    for keeps_trailers in [false, true] {
        for cut in 1..=answer.len() {
            let first = Probe { keeps_trailers, ..probe() };
            let (mut rig, seen) = rig(&[first, probe()], ClientLimits::DEFAULT);
            assert_eq!(text(rig.receive(0)), HEAD);
            for piece in answer.chunks(cut) {
                assert_eq!(seen.borrow().ends.len(), 0);
                rig.send(0, piece);
            }
            let expected: &[&str] = if keeps_trailers { &["Digest=x", "X-Sum=7"] } else { &[] };
            assert_eq!(seen.borrow().trailers, expected, "in pieces of {cut}");
            assert_eq!((&seen.borrow().body[..], seen.borrow().ends.len()), (&b"ab"[..], 1));
            assert_eq!(text(rig.receive(0)), HEAD, "the next request follows");
        }
    }
}

/// Each idle connection of a pool pays for this.
#[cfg(target_pointer_width = "64")]
#[test]
fn the_state_of_a_connection_is_small() {
    use crate::client::connection::ClientConnection;
    let size = size_of::<ClientConnection<Empty>>();
    assert!(size <= 136, "{size} bytes");
}

#[cfg(target_pointer_width = "64")]
struct Empty;
