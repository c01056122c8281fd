//! Streamed bodies in both directions, deferred responses, messages and wake-ups.

extern crate std;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use std::format;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use lightcone_core::{Config, Handler, Instant};

use crate::{Exchange, Flow, Http, Limits, RequestId, RequestMessage, State, Transfer};

use super::rig::{Rig, config, ok, refusal, response};

pub(super) struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Writes the messages that are posted to the request; an empty one ends it.
struct Feed;

struct App;

impl State for App {
    type Message = &'static str;
}

impl Exchange<App> for Feed {
    fn advance(&mut self, _: &mut Transfer<'_, App>) -> Flow {
        Flow::More
    }

    fn message(&mut self, message: &'static str, io: &mut Transfer<'_, App>) -> Flow {
        assert_eq!(io.write(message.as_bytes()), message.len());
        if message.is_empty() { Flow::Done } else { Flow::More }
    }
}

/// Fills chunks in place.
struct Numbers(u32);

impl<S: State> Exchange<S> for Numbers {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while self.0 > 0 {
            let n = io.fill(|place| {
                let n = place.len().min(self.0 as usize).min(1000);
                place[..n].fill(b'n');
                n
            });
            if n == 0 {
                return Flow::More;
            }
            self.0 -= u32::try_from(n).unwrap();
        }
        Flow::Done
    }
}

struct Broken;

impl<S: State> Exchange<S> for Broken {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io.write(b"half");
        Flow::Done
    }
}

fn pattern(offset: u64, piece: &mut [u8]) {
    for (at, byte) in piece.iter_mut().enumerate() {
        *byte = b'a' + u8::try_from((offset + at as u64) % 23).unwrap();
    }
}

fn server() -> impl Handler<Message = RequestMessage<&'static str>> {
    Http::with(App)
        .limits(Limits { body: 64 << 20, ..Limits::DEFAULT })
        .get("/foo", |_request, response| response.text("bar"))
        .get("/big", |request, response| match request.query("n").and_then(|n| n.parse().ok()) {
            Some(n) => response.generate(n, pattern),
            None => response.refuse(400).into_any(),
        })
        .get("/numbers", |_request, response| response.stream(None, Numbers(50_000)))
        .get("/feed", |_request, response| response.stream(None, Feed))
        .get("/broken", |_request, response| response.stream(Some(10), Broken))
        .post("/echo", |request, response| response.stream(request.head.length(), Echo))
        .post("/early", |_request, response| response.text("early"))
        .post("/collect", |request, response| {
            request.collect::<32, _>(response, |_, body, response| response.bytes(body))
        })
}

/// Returns the data of a chunked body, and what follows it.
fn dechunk(mut text: &str) -> (String, &str) {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &rest[..size];
        text = rest[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            return (body, text);
        }
    }
}

#[test]
fn eight_mebibytes_echoed_to_a_slow_reader_in_bounded_memory() {
    const SIZE: usize = 8 << 20;
    let mut body = std::vec![0; SIZE];
    pattern(0, &mut body);
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.peers[peer].window = 0;
    rig.peers[peer].cut = 10_000;
    rig.send(peer, format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes());
    rig.send(peer, &body);
    assert!(rig.unread(peer) > SIZE - 200_000, "a peer that does not read is not read from");
    let mut received = Vec::new();
    while received.len() < SIZE {
        assert!(rig.queued(peer) <= 8 * 4096);
        rig.open_window(peer, 3_000);
        let before = received.len();
        received.append(&mut rig.peers[peer].received);
        assert!(received.len() > before, "stuck at {before}");
    }
    let head = received.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    rig.open_window(peer, 10_000);
    received.append(&mut rig.peers[peer].received);
    assert!(received[head..] == body[..]);
    rig.open_window(peer, 10_000);
    rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("bar"));
}

#[test]
fn a_chunked_body_is_echoed_in_chunks_whatever_the_cut() {
    let request = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n1;x=y\r\n,\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
    for cut in 1..request.len() {
        let mut rig = Rig::untimed(server());
        let peer = rig.connect();
        rig.peers[peer].cut = cut;
        rig.send(peer, request);
        let answer = rig.take(peer);
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nTransfer-Encoding: chunked"), "{head}");
        let (body, behind) = dechunk(rest);
        assert_eq!((body.as_str(), behind), ("hello, world", ok("bar").as_str()), "in pieces of {cut}");
    }
}

#[test]
fn a_generated_body_comes_piece_by_piece() {
    let mut expected = std::vec![0; 300_000];
    pattern(0, &mut expected);
    let tiny = Config { block_size: 512, output_limit: 2, receive_blocks: 0, ..config() };
    for config in [config(), tiny] {
        let mut rig = Rig::with_config(server(), &config);
        let peer = rig.connect();
        rig.peers[peer].window = 0;
        let request = b"GET /big?n=300000 HTTP/1.1\r\nHost: a\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
        rig.send(peer, request);
        while rig.peers[peer].received.len() < 300_000 {
            assert!(rig.queued(peer) <= config.output_limit * config.block_size);
            rig.open_window(peer, 777);
        }
        rig.open_window(peer, 10_000);
        let answer = rig.take(peer);
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with("\r\nContent-Length: 300000"), "{head}");
        assert!(rest.as_bytes()[..300_000] == expected[..]);
        assert_eq!(rest[300_000..], ok("bar"));
    }
}

#[test]
fn chunks_filled_in_place() {
    for block_size in [64, 512, 4096] {
        let config = Config { block_size, output_limit: 16, receive_blocks: 0, ..config() };
        let mut rig = Rig::with_config(server(), &config);
        let peer = rig.connect();
        for piece in b"GET /numbers HTTP/1.1\r\nHost: a\r\n\r\n".chunks(30) {
            rig.send(peer, piece);
        }
        let answer = rig.take(peer);
        let (_, rest) = answer.split_once("\r\n\r\n").unwrap();
        let (body, behind) = dechunk(rest);
        assert!(body.len() == 50_000 && body.bytes().all(|byte| byte == b'n') && behind.is_empty());
    }
}

/// Fills all the room that there is, up to this number of bytes in total.
struct AllRoom(usize);

impl<S: State> Exchange<S> for AllRoom {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while self.0 > 0 {
            let most = self.0;
            let n = io.fill(|place| {
                let n = place.len().min(most);
                place[..n].fill(b'r');
                n
            });
            if n == 0 {
                return Flow::More;
            }
            self.0 -= n;
        }
        Flow::Done
    }
}

/// Writes one text of this many bytes.
struct Padded(usize);

impl<S: State> Exchange<S> for Padded {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let text = "r".repeat(self.0);
        if write!(io, "{text}").is_ok() { Flow::Done } else { Flow::More }
    }
}

/// Blocks and chunks with sizes of more than 16 bits.
#[test]
fn large_blocks_and_chunks() {
    const SIZE: usize = 400_000;
    for block_size in [128 << 10, 1 << 20] {
        let large = Config {
            block_size,
            output_blocks: 8,
            output_limit: 8,
            input_blocks: 4,
            receive_blocks: 0,
            ..config()
        };
        let app = Http::new()
            .get("/filled", |_request, response| response.stream(None, AllRoom(SIZE)))
            .get("/filled/known", |_request, response| response.stream(Some(SIZE as u64), AllRoom(SIZE)))
            .get("/padded", |_request, response| response.stream(None, Padded(SIZE)))
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
            .post("/gather", |request, response| {
                request.gather(response, |_, body, response| response.bytes(body))
            });
        let mut rig = Rig::with_config(app, &large);
        let peer = rig.connect();
        let body = "r".repeat(SIZE);
        let mut asked = |request: &str, body: &str| {
            rig.send(peer, request.as_bytes());
            rig.send(peer, body.as_bytes());
            rig.turns();
            let answer = rig.take(peer);
            let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            if head.contains("chunked") {
                let (data, behind) = dechunk(rest);
                assert!(behind.is_empty(), "{} bytes", behind.len());
                return data;
            }
            String::from(rest)
        };
        for path in ["/filled", "/filled/known", "/padded"] {
            assert!(asked(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), "") == body, "{path}");
        }
        let known = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n");
        assert!(asked(&known, &body) == body);
        let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(asked(chunked, &format!("{SIZE:x}\r\n{body}\r\n0\r\n\r\n")) == body);
        let most = SIZE.min(block_size);
        let gather = format!("POST /gather HTTP/1.1\r\nHost: a\r\nContent-Length: {most}\r\n\r\n");
        assert!(asked(&gather, &body[..most]) == body[..most]);
    }
}

#[test]
fn messages_reach_an_exchange() {
    let mut rig = Rig::untimed(server());
    let (peer, idle) = (rig.connect(), rig.connect());
    rig.send(peer, b"GET /feed HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = rig.take(peer);
    assert!(head.ends_with("Transfer-Encoding: chunked\r\n\r\n"), "{head}");
    rig.message(peer, RequestMessage::to_all("one"));
    rig.message(idle, RequestMessage::to_all("nobody"));
    rig.message(peer, RequestMessage::to_all("two"));
    assert_eq!((rig.take(peer).as_str(), rig.take(idle).as_str()), ("3\r\none\r\n3\r\ntwo\r\n", ""));
    rig.message(peer, RequestMessage::to_all(""));
    rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), format!("0\r\n\r\n{}", ok("bar")));
}

#[test]
fn an_old_client_gets_a_body_up_to_the_end_of_the_connection() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, b"GET /numbers HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = rig.take(peer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with("\r\nConnection: close") && !head.contains("Encoding"), "{head}");
    assert_eq!(body.len(), 50_000);
    assert!(rig.peers[peer].shut || rig.peers[peer].closed);
}

#[test]
fn head_does_not_run_an_exchange() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    for n in [(1u64 << 48) - 1, 1 << 48] {
        rig.send(peer, format!("HEAD /big?n={n} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let answer = rig.take(peer);
        assert_eq!(answer.contains(&format!("Content-Length: {n}\r\n")), n < 1 << 48, "{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 500 "), n == 1 << 48, "{answer}");
    }
    rig.send(peer, b"HEAD /big?n=1000 HTTP/1.1\r\nHost: a\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = rig.take(peer);
    assert!(answer.ends_with(&format!("Content-Length: 1000\r\n\r\n{}", ok("bar"))), "{answer}");
}

#[test]
fn expect_is_met_before_the_answer_and_only_for_a_body_that_is_read() {
    let expecting = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    };
    let bytes = |text: &str| ok(text).replace("text/plain; charset=utf-8", "application/octet-stream");
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, expecting("/collect").as_bytes());
    assert_eq!(rig.take(peer), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.send(peer, b"abc");
    assert_eq!(rig.take(peer), bytes("abc"));
    rig.send(peer, expecting("/echo").as_bytes());
    assert_eq!(rig.take(peer), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.send(peer, b"abc");
    let answer = rig.take(peer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nabc"), "{answer}");
    // A body that the handler does not read: there is no `100 Continue`, and the connection ends.
    for (path, answer) in [
        ("/early", response("200 OK", "Connection: close\r\n", "early")),
        ("/no", refusal("404 Not Found", "Connection: close\r\n")),
    ] {
        let peer = rig.connect();
        rig.send(peer, expecting(path).as_bytes());
        assert_eq!(rig.take(peer), answer);
        assert!(rig.peers[peer].shut);
    }
}

#[test]
fn a_promised_length_that_is_not_kept_ends_the_connection() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.take(peer).ends_with("Content-Length: 10\r\n\r\nhalf"));
    assert!(rig.peers[peer].shut);
}

#[test]
fn a_body_that_ends_too_early() {
    let mut rig = Rig::untimed(server());
    let (reading, echoing) = (rig.connect(), rig.connect());
    rig.send(reading, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
    rig.end(reading);
    assert_eq!(rig.take(reading), refusal("400 Bad Request", "Connection: close\r\n"));
    rig.send(echoing, b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    rig.end(echoing);
    assert!(rig.take(echoing).ends_with("\r\n\r\n2\r\nab\r\n"), "without a last chunk");
    assert!(rig.peers[reading].closed && rig.peers[echoing].closed);
}

#[test]
fn a_malformed_chunk_before_and_after_the_head_of_the_answer() {
    let mut rig = Rig::untimed(server());
    for (path, expected) in
        [("/collect", refusal("400 Bad Request", "Connection: close\r\n")), ("/early", ok("early"))]
    {
        let peer = rig.connect();
        rig.send(
            peer,
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz").as_bytes(),
        );
        rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(rig.take(peer), expected, "{path}");
        assert!(rig.peers[peer].shut);
    }
}

#[test]
fn a_peer_that_never_reads_is_not_read_from() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.peers[peer].window = 0;
    let request = b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..5_000 {
        rig.send(peer, request);
    }
    assert!(rig.queued(peer) <= 8 * 4096);
    assert!(rig.unread(peer) > 2_000 * request.len());
    let mut answers = String::new();
    while rig.unread(peer) > 0 || rig.queued(peer) > 0 {
        rig.open_window(peer, 5_000);
        answers += &rig.take(peer);
    }
    assert_eq!(answers, ok("bar").repeat(5_000));
}

#[test]
fn blocks_that_others_hold_delay_an_answer_and_lose_nothing() {
    let few = Config { output_blocks: 2, output_limit: 2, block_size: 512, receive_blocks: 0, ..config() };
    let mut rig = Rig::with_config(server(), &few);
    let (hog, other) = (rig.connect(), rig.connect());
    rig.peers[hog].window = 0;
    rig.send(hog, b"GET /big?n=5000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.queued(hog), 1024);
    rig.send(other, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(other, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(rig.take(other), "");
    rig.open_window(hog, usize::MAX);
    rig.pass(0);
    assert!(rig.take(hog).len() > 5000);
    rig.pass(0);
    rig.send(other, b""); // sends the rest of what the peer has sent before
    let collected = ok("abc").replace("text/plain; charset=utf-8", "application/octet-stream");
    assert_eq!(rig.take(other), ok("bar") + &collected);
}

/// Responds with the message that is posted to the request.
struct Posted {
    text: Option<&'static str>,
    /// Whether it waits for room before it responds.
    patient: bool,
}

impl Exchange<App> for Posted {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        match self.text {
            Some(text) if !self.patient || io.is_ready() => io.respond(|_, response| response.text(text)),
            _ => Flow::More,
        }
    }

    fn message(&mut self, message: &'static str, io: &mut Transfer<'_, App>) -> Flow {
        self.text = Some(message);
        self.advance(io)
    }
}

/// Stores the identity of its request, and responds with the message that is posted to it.
struct Ticket {
    ids: Rc<RefCell<Vec<RequestId>>>,
    asked: bool,
}

impl Exchange<App> for Ticket {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        io.consume(io.body().len());
        if !self.asked {
            self.asked = true;
            self.ids.borrow_mut().push(io.id());
        }
        if io.is_ended() && io.now() >= Instant::from_millis(1_000) {
            return io.respond(|_, response| response.text("nothing came"));
        }
        io.wake_at(Instant::from_millis(1_000));
        Flow::More
    }

    fn message(&mut self, message: &'static str, io: &mut Transfer<'_, App>) -> Flow {
        io.respond(|_, response| response.text(message))
    }
}

#[test]
fn a_message_reaches_its_request_or_none() {
    let ids = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&ids);
    let app = Http::with(App)
        .get("/", move |_request, response| response.defer(Ticket { ids: Rc::clone(&shared), asked: false }));
    let mut rig = Rig::untimed(app);
    let (peer, other) = (rig.connect(), rig.connect());
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    rig.send(peer, &request.repeat(2));
    rig.send(other, request);
    let id = |n: usize| ids.borrow()[n];
    let (first, foreign) = (id(0), id(1));
    assert_eq!(ids.borrow().len(), 2, "the second request waits for the first");
    rig.message(peer, foreign.message("for the other connection"));
    assert_eq!(rig.take(peer), "");
    rig.message(peer, first.message("first"));
    assert_eq!(rig.take(peer), ok("first"));
    rig.message(peer, first.message("late"));
    assert_eq!(rig.take(peer), "", "the second request is in progress");
    rig.message(peer, id(2).message("second"));
    assert_eq!(rig.take(peer), ok("second"));
    // A request that has responded without a message: a late one to it does not become the response to the next.
    rig.send(peer, request);
    rig.pass(1_000);
    assert_eq!((rig.take(peer), rig.take(other)), (ok("nothing came"), ok("nothing came")));
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    for stale in [id(0), id(2), id(3)] {
        rig.message(peer, stale.message("stale"));
    }
    rig.message(other, foreign.message("too late"));
    assert_eq!((rig.take(peer), rig.take(other)), (String::new(), String::new()));
    rig.message(peer, id(4).message("its own"));
    assert_eq!(rig.take(peer), ok("its own"));
    let ids = ids.borrow();
    assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "{ids:?}");
}

#[test]
fn a_deferred_answer_waits_for_room_if_it_requests_it() {
    let app = Http::with(App)
        .get("/patient", |_request, response| response.defer(Posted { text: None, patient: true }))
        .get("/hasty", |_request, response| response.defer(Posted { text: None, patient: false }))
        .get("/big", |_request, response| response.generate(5_000, pattern));
    let few = Config { output_blocks: 2, output_limit: 2, block_size: 512, receive_blocks: 0, ..config() };
    let mut rig = Rig::with_config(app, &few);
    let (hog, patient, hasty) = (rig.connect(), rig.connect(), rig.connect());
    rig.send(patient, b"GET /patient HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(hasty, b"GET /hasty HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.message(patient, RequestMessage::to_all("first"));
    rig.send(patient, b"GET /patient HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(patient), ok("first"), "it is sent at once if there is room");
    rig.peers[hog].window = 0;
    rig.send(hog, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.message(patient, RequestMessage::to_all("second"));
    rig.message(hasty, RequestMessage::to_all("lost"));
    assert!(rig.turns() < 5, "it spins");
    assert!(!rig.peers[patient].shut && rig.peers[hasty].shut, "without room, the connection ends");
    rig.open_window(hog, usize::MAX);
    rig.turns();
    assert_eq!((rig.take(patient), rig.take(hasty)), (ok("second"), String::new()));
}

/// Writes the seconds since it began, every `every` seconds up to `last`. A deferred response is `waited` at the end.
struct Clock {
    every: u64,
    last: u64,
    began: Option<Instant>,
    told: u64,
}

impl Clock {
    const fn new(every: u64, last: u64) -> Self {
        Self { every, last, began: None, told: 0 }
    }
}

impl<S: State> Exchange<S> for Clock {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if !io.is_ended() {
            io.wake_at(io.now() + Duration::from_secs(1)); // the clock begins at the end of the body
            io.consume(io.body().len());
        }
        if !io.is_ended() {
            return Flow::More;
        }
        let began = *self.began.get_or_insert(io.now());
        let next = began + Duration::from_secs(self.told + self.every);
        if io.now() >= next {
            self.told += self.every;
            if self.told >= self.last && io.is_ready() {
                return io.respond(|_, response| response.text("waited"));
            }
            let _ = write!(io, "{} ", self.told);
            if self.told >= self.last {
                return Flow::Done;
            }
        }
        io.wake_at(began + Duration::from_secs(self.told + self.every));
        Flow::More
    }
}

fn clocks() -> Rig<impl Handler<Message = RequestMessage<<() as State>::Message>>> {
    let app = Http::new()
        .limits(Limits { body_time: Duration::from_secs(5), ..Limits::DEFAULT })
        .get("/ticks", |_request, response| response.stream(None, Clock::new(2, 6)))
        .get("/later", |_request, response| response.defer(Clock::new(3, 3)))
        .post("/later", |_request, response| response.defer(Clock::new(3, 3)))
        .get("/foo", |_request, response| response.text("bar"));
    Rig::untimed(app)
}

#[test]
fn an_exchange_is_called_at_its_wake_up() {
    let mut rig = clocks();
    let peer = rig.connect();
    rig.send(peer, b"GET /ticks HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.take(peer);
    for expected in ["2\r\n2 \r\n", "2\r\n4 \r\n", "2\r\n6 \r\n0\r\n\r\n"] {
        rig.pass(1_999);
        assert_eq!(rig.take(peer), "");
        rig.pass(1);
        assert_eq!(rig.take(peer), expected);
    }
    rig.send(peer, b"GET /later HTTP/1.1\r\nHost: a\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.pass(2_999);
    assert_eq!(rig.take(peer), "");
    rig.pass(1);
    assert_eq!(rig.take(peer), ok("waited") + &ok("bar"));
    assert_eq!(rig.shard_deadline(), None, "nothing is left of it");
}

/// Always schedules a wake-up in the past, and counts its calls.
struct Eager(Rc<Cell<u32>>);

impl<S: State> Exchange<S> for Eager {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.0.set(self.0.get() + 1);
        io.wake_at(Instant::from_millis(0));
        Flow::More
    }
}

#[test]
fn a_time_that_has_passed_does_not_make_it_spin() {
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    let app = Http::new().get("/", move |_request, response| response.defer(Eager(Rc::clone(&count))));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.turns() < 2, "it spins");
    assert_eq!(calls.get(), 1);
    (0..5).for_each(|_| rig.pass(1));
    assert_eq!(calls.get(), 6);
}

#[test]
fn the_time_of_a_body_comes_before_that_of_its_exchange() {
    let mut rig = clocks();
    let (late, peer) = (rig.connect(), rig.connect());
    for peer in [late, peer] {
        rig.send(peer, b"POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
    }
    rig.pass(4_000);
    assert_eq!(rig.take(peer), "");
    rig.send(peer, b"c");
    rig.pass(1_000);
    assert!(rig.take(late).starts_with("HTTP/1.1 408 "));
    rig.pass(1_999);
    assert_eq!(rig.take(peer), "");
    rig.pass(1);
    assert_eq!(rig.take(peer), ok("waited"));
}

/// Tries to write a text that is padded to more bytes than the output takes; or, with 0, one whose `Display` fails.
struct Endless(usize);

impl<S: State> Exchange<S> for Endless {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let refuses =
            fmt::from_fn(|f| if self.0 > 0 { Ok(()) } else { f.write_str("half").and(Err(fmt::Error)) });
        let padding = self.0;
        if write!(io, "{:padding$}{refuses}", 7).is_ok() { Flow::Done } else { Flow::More }
    }
}

#[test]
fn a_text_that_never_fits_ends_its_connection() {
    let app = Http::new()
        .get("/chunks", |_request, response| response.stream(None, Endless(2_000)))
        .get("/known", |_request, response| response.stream(Some(5_000), Endless(2_000)))
        .get("/refuses", |_request, response| response.stream(None, Endless(0)))
        .get("/refuses/known", |_request, response| response.stream(Some(5_000), Endless(0)));
    let few = Config { output_blocks: 2, output_limit: 2, block_size: 512, receive_blocks: 0, ..config() };
    let mut rig = Rig::with_config(app, &few);
    let chunks = [("chunks", "1.1"), ("chunks", "1.0"), ("refuses", "1.1"), ("refuses", "1.0")];
    for (path, version) in chunks.into_iter().chain([("known", "1.1"), ("refuses/known", "1.1")]) {
        let peer = rig.connect();
        rig.send(peer, format!("GET /{path} HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes());
        assert!(rig.turns() < 5, "{path} {version}: it spins");
        assert!(rig.peers[peer].shut || rig.peers[peer].reset, "{path} {version}: it hangs");
    }
}

static LONG: [u8; 100_000] = [b'l'; 100_000];

#[test]
fn bytes_of_the_program_are_sent_as_there_is_room() {
    let app = Http::new()
        .get("/long", |_request, response| response.header("Content-Type", "x/y").embedded(&LONG))
        .get("/none", |_request, response| response.embedded(b""));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.peers[peer].window = 0;
    rig.send(peer, b"GET /long HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut received = Vec::new();
    while received.len() < LONG.len() + 200 {
        assert!(rig.queued(peer) <= 8 * 4096);
        rig.open_window(peer, 3_000);
        let before = received.len();
        received.append(&mut rig.peers[peer].received);
        if received.len() == before {
            break;
        }
    }
    let received = String::from_utf8(received).unwrap();
    let (head, rest) = received.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nContent-Type: x/y\r\nContent-Length: 100000"), "{head}");
    let (body, second) = rest.split_at(LONG.len());
    assert_eq!(body.as_bytes(), LONG);
    assert!(second.contains("\r\nContent-Length: 0\r\n") && second.ends_with("\r\n\r\n"), "{second}");
}

/// Writes numbered lines, and an empty text at each call.
struct Lines(u32);

impl<S: State> Exchange<S> for Lines {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        assert!(write!(io, "").is_ok());
        assert_eq!(format!("{}", io.peer()), "192.0.2.1:1234");
        while self.0 > 0 {
            if writeln!(io, "line {}", self.0).is_err() {
                return Flow::More;
            }
            self.0 -= 1;
        }
        Flow::Done
    }
}

#[test]
fn formatted_text_goes_out_whole_or_not_at_all() {
    let lines: String = (1..=10_000).rev().map(|n| format!("line {n}\n")).collect();
    let app = Http::new()
        .get("/chunked", |_request, response| response.stream(None, Lines(10_000)))
        .get("/told", |_request, response| response.stream(Some(98_894), Lines(10_000)))
        .get("/short", |_request, response| response.stream(Some(8), Lines(10)));
    assert_eq!(lines.len(), 98_894);
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.peers[peer].window = 0;
    rig.send(peer, b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\nGET /told HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut received = Vec::new();
    loop {
        assert!(rig.queued(peer) <= 8 * 4096);
        rig.open_window(peer, 1_000);
        if rig.peers[peer].received.is_empty() {
            break;
        }
        received.append(&mut rig.peers[peer].received);
    }
    let received = String::from_utf8(received).unwrap();
    let (_, body) = received.split_once("\r\n\r\n").unwrap();
    assert!(body.starts_with("b\r\nline 10000\n\r\na\r\nline 9999\n\r\n"), "{body:.50}");
    let (body, second) = dechunk(body);
    assert_eq!(body, lines);
    assert!(second.ends_with(&format!("\r\nContent-Length: 98894\r\n\r\n{lines}")));
    // Text beyond the announced length is not written.
    let peer = rig.connect();
    rig.send(peer, b"GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.take(peer).ends_with("Content-Length: 8\r\n\r\nline 10\n"));
}

/// Waits for the end of the body, and counts its drops.
struct Waiting(Rc<Cell<u32>>);

impl<S: State> Exchange<S> for Waiting {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let body = io.body().len();
        io.consume(body);
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn an_exchange_is_dropped_when_it_is_done_and_when_its_connection_ends() {
    let dropped = Rc::new(Cell::new(0));
    let count = Rc::clone(&dropped);
    let app =
        Http::new().post("/", move |_request, response| response.stream(None, Waiting(Rc::clone(&count))));
    let mut rig = Rig::untimed(app);
    let (done, ended, head) = (rig.connect(), rig.connect(), rig.connect());
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
    rig.send(done, request);
    rig.send(ended, request);
    assert_eq!(dropped.get(), 0);
    rig.send(done, b"b");
    assert_eq!((dropped.get(), rig.peers[done].shut), (1, false));
    rig.end(ended);
    assert_eq!((dropped.get(), rig.peers[ended].closed), (2, true));
    // An exchange that is done at its first call.
    rig.send(head, b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(dropped.get(), 3);
}

/// Writes a text that is formatted with a different length each time, in the first rounds.
struct Changing(u32);

impl<S: State> Exchange<S> for Changing {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let Self(rounds) = self;
        *rounds += 1;
        let count = Cell::new(if *rounds < 4 { 9 } else { 10 });
        let text = fmt::from_fn(|f| {
            write!(f, "{}", count.get())?;
            count.set(count.get() + 1);
            Ok(())
        });
        if write!(io, "{text}").is_ok() { Flow::Done } else { Flow::More }
    }
}

#[test]
fn text_that_changes_its_length_is_written_when_it_does_not() {
    let app = Http::new().get("/", |_request, response| response.stream(None, Changing(0)));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    (0..4).for_each(|_| rig.pass(1));
    assert!(rig.take(peer).ends_with("\r\n\r\n2\r\n11\r\n0\r\n\r\n"));
}
