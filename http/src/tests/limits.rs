//! Every limit from both sides, time limits, shutdown, counters and pipelines.

extern crate std;

use std::boxed::Box;
use std::format;
use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use lightcone_core::{Address, Config, Context, Event, Handler, Origin, Socket};

use crate::{Http, Limits, RequestMessage, State, Stats};

use super::rig::{Rig, config, ok, refusal};
use super::streaming::Echo;

const CLOSE: &str = "Connection: close\r\n";

fn server(limits: Limits) -> impl Handler<Message = RequestMessage<<() as State>::Message>> {
    Http::new()
        .limits(limits)
        .get("/", |_request, response| response.text("in"))
        .post("/", |_request, response| response.text("in"))
        .post("/collect", |request, response| {
            request.collect::<64, _>(response, |_, body, response| response.display(body.len()))
        })
}

/// Returns the status of the response, which must be the same for every cut of the request.
fn status(limits: Limits, request: &str) -> u16 {
    let mut statuses = Vec::new();
    for cut in [1, 7, 100, usize::MAX] {
        let mut rig = Rig::untimed(server(limits));
        let peer = rig.connect();
        rig.peers[peer].cut = cut;
        rig.send(peer, request.as_bytes());
        let answer = rig.take(peer);
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let ended = rig.peers[peer].shut || rig.peers[peer].closed;
        assert_eq!(ended, status >= 400, "{status} in pieces of {cut}: {request:.100}");
        // Nothing of what follows a refusal is kept.
        rig.send(peer, &[b'x'; 10_000]);
        if ended {
            assert_eq!(rig.unread(peer), 0, "a lingering close discards");
            rig.end(peer);
            assert!(rig.peers[peer].closed);
        }
        statuses.push(status);
    }
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{statuses:?}: {request:.100}");
    statuses[0]
}

/// A request waits for blocks that other connections hold, without polling for them.
#[test]
fn a_pool_that_others_have_emptied_does_not_make_it_spin() {
    let server = Http::new()
        .get("/", |_request, response| response.text("in"))
        .get("/big", |_request, response| response.generate(600, |_, piece| piece.fill(b'g')));
    let config = Config { block_size: 512, output_blocks: 4, output_limit: 4, ..config() };
    let mut rig = Rig::with_config(server, &config);
    let (one, other) = (rig.connect(), rig.connect());
    rig.peers[one].window = 0;
    rig.peers[other].window = 0;
    rig.send(other, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(one, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(one, &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(10));
    assert!(rig.queued(one) > 600);
    assert!(rig.turns() < 5, "it spins");
    rig.open_window(other, usize::MAX);
    rig.open_window(one, usize::MAX);
    assert!(rig.turns() < 5);
    assert_eq!(rig.take(one).matches("HTTP/1.1 200").count(), 11);
}

/// A complete head that waits for room is not late.
#[test]
fn a_head_that_waits_for_room_is_not_late() {
    let limits = Limits { head_time: Duration::from_secs(1), ..Limits::DEFAULT };
    let config = Config { block_size: 512, output_blocks: 4, output_limit: 4, ..config() };
    let server = Http::new()
        .limits(limits)
        .get("/", |_request, response| response.text("in"))
        .get("/big", |_request, response| response.generate(1_900, |_, piece| piece.fill(b'g')));
    let mut rig = Rig::with_config(server, &config);
    let (one, other) = (rig.connect(), rig.connect());
    rig.send(one, b"GET / HTTP/1.1\r\n");
    rig.peers[other].window = 0;
    rig.send(other, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(one, b"Host: a\r\n\r\n");
    rig.pass(3_000);
    assert_eq!(rig.take(one), "", "there is no room");
    rig.open_window(other, usize::MAX);
    rig.pass(0);
    rig.pass(0);
    assert_eq!(rig.take(one), ok("in"));
    rig.send(one, b"GET");
    rig.pass(3_000);
    assert_eq!(rig.take(one), refusal("408 Request Timeout", CLOSE), "an incomplete head is late");
}

/// The response to `HEAD` has no body, regardless of what is wrong with the request (RFC 9110, 9.3.2).
#[test]
fn a_refused_head_request_gets_no_body() {
    let limits = Limits { head_time: Duration::from_secs(1), body: 10, ..Limits::DEFAULT };
    let server = Http::new().limits(limits).get("/collect", |request, response| {
        request.collect::<64, _>(response, |_, body, response| response.display(body.len()))
    });
    let mut rig = Rig::untimed(server);
    let without_body = |status: &str| {
        let answer = refusal(status, CLOSE);
        String::from(&answer[..answer.find("\r\n\r\n").unwrap() + 4])
    };
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", "413 Content Too Large"),
        ("HEAD /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", "400 Bad Request"),
        ("HEAD / HT", "408 Request Timeout"),
    ] {
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        rig.pass(2_000);
        assert_eq!(rig.take(peer), without_body(status), "{request}");
        rig.end(peer);
        assert!(rig.peers[peer].closed);
    }
}

#[test]
fn heads() {
    let request = |target: usize, fields: usize, filler: usize| {
        let (target, filler) = ("t".repeat(target - 1), "f".repeat(filler));
        let fields = "a: b\r\n".repeat(fields - 2);
        format!("GET /?{} HTTP/1.1\r\nHost: a\r\n{fields}x:{filler}\r\n\r\n", &target[1..])
    };
    let limits = Limits { head: 500, target: 40, fields: 6, ..Limits::DEFAULT };
    let most = 500 - request(40, 6, 0).len();
    assert_eq!(status(limits, &request(40, 6, most)), 200);
    assert_eq!(status(limits, &request(40, 6, most + 1)), 431);
    assert_eq!(status(limits, &request(41, 6, 0)), 414);
    assert_eq!(status(limits, &request(40, 7, 0)), 431);
}

#[test]
fn a_head_that_the_buffers_can_not_hold() {
    let small = Config { receive_blocks: 0, block_size: 1024, ..config() };
    let request = |size: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "f".repeat(size - 32));
    for (size, expected) in [(1024, ok("in")), (1025, refusal("431 Request Header Fields Too Large", CLOSE))]
    {
        let mut rig = Rig::with_config(server(Limits::DEFAULT), &small);
        let peer = rig.connect();
        rig.send(peer, request(size).as_bytes());
        assert_eq!(rig.take(peer), expected, "{size}");
    }
}

#[test]
fn the_least_output_that_a_server_works_with() {
    let small = Config { block_size: 256, output_limit: 2, receive_blocks: 0, ..config() };
    let mut rig = Rig::with_config(server(Limits::DEFAULT), &small);
    let peer = rig.connect();
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("in") + &ok("in"));
}

#[test]
#[should_panic(expected = "a socket may queue 256 bytes of output, and an HTTP server needs 512")]
fn less_output_than_a_server_works_with() {
    let small = Config { block_size: 256, output_limit: 1, receive_blocks: 0, ..config() };
    Rig::with_config(server(Limits::DEFAULT), &small).connect();
}

#[test]
fn bodies() {
    let limits = Limits { body: 50, ..Limits::DEFAULT };
    let length =
        |n: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{}", "b".repeat(n));
    assert_eq!(status(limits, &length(50)), 200);
    assert_eq!(status(limits, &length(51)), 413);
    let chunked =
        |body: &str| format!("POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let chunk = |n: usize| format!("{n:x}\r\n{}\r\n", "b".repeat(n));
    assert_eq!(status(limits, &chunked(&format!("{}{}0\r\n\r\n", chunk(20), chunk(30)))), 200);
    assert_eq!(status(limits, &chunked(&format!("{}{}0\r\n\r\n", chunk(20), chunk(31)))), 413);
    let many = Limits { chunk_line: 10, chunk_extensions: 20, trailers: 30, ..Limits::DEFAULT };
    let extended = |n: usize| format!("1;{}\r\nb\r\n", "e".repeat(n - 2));
    assert_eq!(status(many, &chunked(&format!("{}0\r\n\r\n", extended(10)))), 200);
    assert_eq!(status(many, &chunked(&format!("{}0\r\n\r\n", extended(11)))), 400);
    assert_eq!(
        status(many, &chunked(&format!("{}{}1;e\r\nb\r\n0\r\n\r\n", extended(10), extended(10)))),
        200
    );
    assert_eq!(
        status(many, &chunked(&format!("{}{}1;ee\r\nb\r\n0;\r\n\r\n", extended(10), extended(10)))),
        413
    );
    assert_eq!(status(many, &chunked(&format!("0\r\nt:{}\r\n\r\n", "v".repeat(24)))), 200);
    assert_eq!(status(many, &chunked(&format!("0\r\nt:{}\r\n\r\n", "v".repeat(25)))), 431);
    // As much as a handler has room for.
    let collect = |n: usize| format!("POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n");
    assert_eq!(status(Limits::DEFAULT, &(collect(64) + &"b".repeat(64))), 200);
}

#[test]
fn more_than_a_handler_has_room_for() {
    let mut rig = Rig::untimed(server(Limits::DEFAULT));
    let peer = rig.connect();
    rig.send(peer, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n");
    rig.send(peer, &[b'b'; 65]);
    rig.send(peer, b"POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    rig.send(peer, format!("41\r\n{}\r\n0\r\n\r\n", "b".repeat(65)).as_bytes());
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = refusal("413 Content Too Large", "");
    assert_eq!(rig.take(peer), format!("{refused}{refused}{}", ok("in")));
}

#[test]
fn a_head_in_time_and_too_late() {
    let limits = Limits { head_time: Duration::from_millis(500), ..Limits::DEFAULT };
    let mut rig = Rig::untimed(server(limits));
    let peer = rig.connect();
    for _ in 0..3 {
        rig.pass(10_000); // there is no limit between requests
        rig.send(peer, b"GET / HT");
        rig.pass(490);
        rig.send(peer, b"TP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(rig.take(peer), ok("in"));
    }
    // The time of the second head starts with its own first byte.
    rig.send(peer, b"GET / HT");
    rig.pass(400);
    rig.send(peer, b"TP/1.1\r\nHost: a\r\n\r\nGET");
    rig.pass(400);
    assert_eq!(rig.take(peer), ok("in"));
    // Sending byte by byte does not extend the time.
    for _ in 0..5 {
        rig.send(peer, b" ");
        rig.pass(25);
    }
    assert_eq!(rig.take(peer), refusal("408 Request Timeout", CLOSE));
    assert!(rig.peers[peer].shut);
}

#[test]
fn a_body_in_time_and_too_late() {
    let limits = Limits { body_time: Duration::from_millis(500), body_step: 10, ..Limits::DEFAULT };
    let mut rig = Rig::untimed(server(limits));
    let peer = rig.connect();
    rig.send(peer, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n");
    for _ in 0..6 {
        rig.pass(450);
        rig.send(peer, &[b'b'; 10]);
    }
    assert_eq!(rig.take(peer), ok("60"));
    rig.pass(10_000);
    assert!(!rig.peers[peer].shut);
    rig.send(peer, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n");
    for _ in 0..9 {
        rig.pass(60);
        rig.send(peer, b"b");
    }
    assert_eq!(rig.take(peer), refusal("408 Request Timeout", CLOSE));
    // A body that is not needed: the response is sent already, so only the connection ends.
    let peer = rig.connect();
    rig.send(peer, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n");
    assert_eq!(rig.take(peer), ok("in"));
    rig.pass(600);
    assert_eq!((rig.take(peer), rig.peers[peer].shut), (String::new(), true));
}

#[test]
fn shutting_down() {
    let mut rig = Rig::untimed(server(Limits::DEFAULT));
    let (idle, begun, busy) = (rig.connect(), rig.connect(), rig.connect());
    rig.send(begun, b"GET / HTTP");
    rig.send(busy, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    rig.pass(200);
    rig.shutdown();
    rig.pass(199);
    assert!(!rig.peers[idle].shut && !rig.peers[begun].shut && !rig.peers[busy].shut);
    rig.pass(1);
    assert!(rig.peers[idle].shut && !rig.peers[begun].shut && !rig.peers[busy].shut);
    rig.send(begun, b"/1.1\r\nHost: a\r\n\r\n");
    rig.send(busy, b"bc");
    for (peer, body) in [(begun, "in"), (busy, "3")] {
        assert_eq!(rig.take(peer), super::rig::response("200 OK", CLOSE, body));
        assert!(rig.peers[peer].shut);
    }
}

#[test]
fn counters() {
    static STATS: Stats = Stats::new();
    let mut rig = Rig::untimed(Http::new().stats(&STATS).get("/", |_request, response| response.text("in")));
    let peer = rig.connect();
    rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(peer, b"nonsense");
    rig.send(peer, b"\r\n");
    let out = rig.take(peer).len();
    assert_eq!((STATS.requests(), STATS.failures(), STATS.bytes_out()), (2, 1, out));
    let refusals: usize = STATS.refusals().map(|(_, count)| count).sum();
    assert_eq!(refusals, 1);
    assert!(format!("{STATS}").contains("http_refusals_total{status=\"400\"} 1\n"));
}

/// A refusal is counted even if the response has begun, when its status can no longer be sent.
#[test]
fn bodies_that_break_after_the_answer_began_are_counted() {
    static STATS: Stats = Stats::new();
    let limits = Limits { body: 10, body_time: Duration::from_millis(500), ..Limits::DEFAULT };
    let app = Http::new()
        .stats(&STATS)
        .limits(limits)
        .post("/", |_request, response| response.text("in"))
        .post("/echo", |_request, response| response.stream(None, Echo));
    let mut rig = Rig::untimed(app);
    let refused = |status| STATS.refusals().find(|(found, _)| found.code() == status).unwrap().1;
    let post = |path: &str, chunk: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into_bytes()
    };
    for (status, chunk, then) in [(400, "zz", "x"), (413, "b\r\n", "x"), (408, "1\r\n", "")] {
        let peer = rig.connect();
        rig.send(peer, &post("/", chunk));
        rig.send(peer, then.as_bytes());
        assert_eq!(rig.take(peer), ok("in"));
        rig.pass(600);
        assert!(rig.peers[peer].shut, "{status}");
        assert_eq!(refused(status), 1, "{status}");
    }
    let peer = rig.connect();
    rig.send(peer, &post("/echo", "1\r\na"));
    rig.end(peer);
    assert_eq!((refused(400), STATS.requests(), STATS.failures()), (2, 4, 0));
}

/// A handler that notes the maximum number of requests that one callback has served.
struct Watch<H> {
    inner: H,
    stats: &'static Stats,
    most: usize,
}

impl<H: Handler> Handler for Watch<H> {
    type Data = H::Data;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<H::Data> {
        self.inner.admit(origin, peer)
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, H::Data>,
        event: Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        let before = self.stats.requests();
        self.inner.event(socket, event, cx);
        self.most = self.most.max(self.stats.requests() - before);
    }
}

/// One callback serves only a few requests of a pipeline, so that other connections have their turn; all requests are
/// served.
#[test]
fn a_pipeline_is_answered_a_few_requests_at_a_time() {
    for (pipelined, requests) in [(0, 3), (1, 40), (16, 15), (16, 16), (16, 17), (16, 400), (100, 99)] {
        let stats: &'static Stats = Box::leak(Box::new(Stats::new()));
        let inner = Http::new()
            .limits(Limits { pipelined, ..Limits::DEFAULT })
            .stats(stats)
            .get("/", |_request, response| response.text("in"))
            .get("/more", |_request, response| response.generate(6_000, |_, piece| piece.fill(b'm')));
        let mut rig = Rig::untimed(Watch { inner, stats, most: 0 });
        let peer = rig.connect();
        for target in ["/", "/more"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            rig.send(peer, request.repeat(requests).as_bytes());
            assert!(rig.turns() < 100);
            assert_eq!(rig.take(peer).matches("HTTP/1.1 200 OK").count(), requests);
        }
        assert_eq!(rig.handler().most, requests.min(pipelined.max(1).into()));
        rig.end(peer);
        assert!(rig.peers[peer].closed, "an end after the last request is seen");
    }
}
