//! Trailer fields of requests and responses.

extern crate std;

use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;

use lightcone_core::{Config, Handler};

use crate::testing::TestRequest;
use crate::{Exchange, Flow, Http, Limits, State, Transfer};

use super::rig::{Rig, config, ok, refusal, response};
use super::streaming::Echo;

/// Responds with the body and the trailer fields of the request.
#[derive(Default)]
struct Report {
    body: Vec<u8>,
    /// How many calls to wait for after the end of the body.
    patience: u8,
}

impl<S: State> Exchange<S> for Report {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while !io.body().is_empty() {
            assert!(io.trailers().as_bytes().is_empty(), "before the end of the body there are none");
            self.body.extend_from_slice(io.body());
            io.consume(io.body().len());
        }
        if !io.is_ended() {
            assert!(io.trailers().as_bytes().is_empty());
            return Flow::More;
        }
        if self.patience > 0 {
            self.patience -= 1;
            io.wake_at(io.now() + Duration::from_secs(1));
            return Flow::More;
        }
        let fields: Vec<String> = io
            .trailers()
            .fields()
            .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()))
            .collect();
        io.respond(|_, response| {
            response.display(format_args!("{}|{}", self.body.escape_ascii(), fields.join("&")))
        })
    }
}

/// Is over before it has read anything.
struct Hasty;

impl<S: State> Exchange<S> for Hasty {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.respond(|_, response| response.text("hasty"))
    }
}

/// Writes a body and ends it with these fields.
struct Counted(&'static [(&'static str, &'static str)]);

impl<S: State> Exchange<S> for Counted {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if io.remaining() != Some(0) {
            assert_eq!(io.write(b"body"), 4);
        }
        let fields = self.0.iter().map(|(name, value)| (*name, value as &dyn core::fmt::Display));
        io.end_with(&fields.collect::<Vec<_>>())
    }
}

fn server(limits: Limits) -> impl Handler {
    Http::new()
        .limits(limits)
        .get("/foo", |_request, response| response.text("bar"))
        .post("/kept", |_request, response| response.keep_trailers().defer(Report::default()))
        .post("/late", |_request, response| {
            response.keep_trailers().defer(Report { patience: 2, ..Report::default() })
        })
        .post("/dropped", |_request, response| response.defer(Report::default()))
        .post("/hasty", |_request, response| response.keep_trailers().defer(Hasty))
        .post("/at-once", |_request, response| response.keep_trailers().text("at once"))
        .post("/echo", |request, response| response.keep_trailers().stream(request.head.length(), Echo))
}

const FOO: &str = "GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

/// Sends `wire` cut in two at each place, and in pieces of each length; returns what comes back, which is the same.
fn every_cut(limits: Limits, wire: &str) -> String {
    let answer = |cuts: &mut dyn Iterator<Item = usize>| {
        let mut rig = Rig::untimed(server(limits));
        let peer = rig.connect();
        let mut rest = wire.as_bytes();
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(cuts.next().unwrap_or(usize::MAX).min(rest.len()));
            rig.send(peer, piece);
            rest = others;
        }
        rig.sleep(5_000);
        rig.take(peer)
    };
    let whole = answer(&mut core::iter::empty());
    for cut in 1..wire.len() {
        assert_eq!(answer(&mut core::iter::once(cut)), whole, "cut at {cut}: {wire:?}");
        if cut < 40 {
            assert_eq!(answer(&mut core::iter::repeat(cut)), whole, "in pieces of {cut}: {wire:?}");
        }
    }
    whole
}

#[test]
fn an_exchange_reads_the_trailers_that_it_keeps_whatever_the_cut() {
    let section = "5\r\nhello\r\n1;x=y\r\n,\r\n0\r\nDigest:  x \r\nhost: evil\r\nContent-Length: 9\r\n\
        Transfer-Encoding: gzip\r\nAuthorization: y\r\nX-Sum: 7\r\n\r\n";
    let table = [
        ("/kept", section, "hello,|Digest=x&X-Sum=7"),
        ("/late", section, "hello,|Digest=x&X-Sum=7"),
        ("/dropped", section, "hello,|"),
        ("/kept", "0\r\nA: b\r\n\r\n", "|A=b"),
        ("/kept", "0\r\n\r\n", "|"),
        ("/kept", "1\r\na\r\n0;x\r\n\r\n", "a|"),
        ("/hasty", section, "hasty"),
        ("/at-once", section, "at once"),
    ];
    for (path, body, expected) in table {
        let wire = [&post(path, body), FOO].concat();
        assert_eq!(every_cut(Limits::DEFAULT, &wire), ok(expected) + &ok("bar"), "{path}");
        let twice = [post(path, body), post(path, body)].concat();
        assert_eq!(every_cut(Limits::DEFAULT, &twice), ok(expected).repeat(2), "{path}");
    }
}

#[test]
fn a_streamed_response_is_followed_by_the_next_whatever_the_cut() {
    let wire = [&post("/echo", "1\r\na\r\n0\r\nA: b\r\n\r\n"), FOO].concat();
    let known = every_cut(Limits::DEFAULT, &wire);
    assert!(known.ends_with(&(String::from("\r\n\r\n1\r\na\r\n0\r\n\r\n") + &ok("bar"))), "{known}");
}

#[test]
fn invalid_trailers_are_refused_whatever_the_cut() {
    for path in ["/kept", "/dropped", "/echo"] {
        for body in ["0\r\nA b\r\n\r\n", "1\r\na\r\n0\r\nA: b\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\n\n"] {
            let known = every_cut(Limits::DEFAULT, &[&post(path, body), FOO].concat());
            // an echo that has begun is cut short; which it is depends on the cut, as for any malformed body
            if path != "/echo" || !body.contains('a') {
                assert_eq!(known, refusal("400 Bad Request", "Connection: close\r\n"), "{path} {body:?}");
            }
        }
    }
}

#[test]
fn the_size_of_a_section_is_limited_whether_it_is_kept_or_not() {
    let limits = Limits { trailers: 30, ..Limits::DEFAULT };
    let body = |length: usize| format!("0\r\nt:{}\r\n\r\n", "v".repeat(length - 6));
    for (path, good) in [("/kept", format!("|t={}", "v".repeat(24))), ("/dropped", "|".into())] {
        assert_eq!(every_cut(limits, &post(path, &body(30))), ok(&good));
        let refused = refusal("431 Request Header Fields Too Large", "Connection: close\r\n");
        assert_eq!(every_cut(limits, &post(path, &body(31))), refused);
    }
}

#[test]
fn a_section_that_is_kept_has_to_fit_into_the_input() {
    let capacity = 512;
    let config = Config { block_size: capacity, receive_blocks: 0, ..config() };
    let body = |length: usize| format!("0\r\nt:{}\r\n\r\n", "v".repeat(length - 6));
    for (length, status) in [(capacity, 200), (capacity + 1, 431)] {
        for cut in [1, 7, 100, usize::MAX] {
            let mut rig = Rig::with_config(server(Limits::DEFAULT), &config);
            let peer = rig.connect();
            rig.peers[peer].cut = cut;
            rig.send(peer, post("/kept", &body(length)).as_bytes());
            let answer = rig.take(peer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length}: {answer}");
        }
    }
    let mut rig = Rig::with_config(server(Limits::DEFAULT), &config);
    let peer = rig.connect();
    rig.send(peer, post("/dropped", &body(capacity + 1)).as_bytes());
    assert_eq!(rig.take(peer), ok("|"));
}

#[test]
fn a_slow_trailer_section_is_late_although_its_bytes_are_kept() {
    for path in ["/kept", "/dropped"] {
        let mut rig = Rig::untimed(server(Limits::DEFAULT));
        let peer = rig.connect();
        rig.send(peer, post(path, "1\r\na\r\n0\r\nA: ").as_bytes());
        for second in 0..19 {
            rig.sleep(1_000);
            rig.send(peer, b"x");
            assert_eq!(rig.take(peer), "", "{path} after {second} s");
        }
        rig.sleep(1_100);
        assert_eq!(rig.take(peer), refusal("408 Request Timeout", "Connection: close\r\n"), "{path}");
    }
}

#[test]
fn an_exchange_that_does_not_read_is_not_blamed_on_the_peer() {
    struct Lazy;
    impl Exchange<()> for Lazy {
        fn advance(&mut self, io: &mut Transfer<'_, ()>) -> Flow {
            if io.now().as_millis() < 100_000 {
                io.wake_at(lightcone_core::Instant::from_millis(100_000));
                return Flow::More;
            }
            Report::default().advance(io)
        }
    }
    let mut rig =
        Rig::untimed(Http::new().post("/", |_request, response| response.keep_trailers().defer(Lazy)));
    let peer = rig.connect();
    rig.send(peer, post("/", "1\r\na\r\n0\r\nA: b\r\n\r\n").as_bytes());
    rig.sleep(99_000);
    assert_eq!(rig.take(peer), "");
    rig.sleep(2_000);
    assert_eq!(rig.take(peer), ok("a|A=b"));
}

#[test]
fn the_time_of_a_body_ends_with_a_body_that_has_exactly_the_allowed_length() {
    let limits = Limits { body: 1, ..Limits::DEFAULT };
    let mut rig = Rig::untimed(Http::new().limits(limits).post("/", |_request, response| {
        response.keep_trailers().defer(Report { patience: 30, ..Report::default() })
    }));
    let peer = rig.connect();
    rig.send(peer, post("/", "1\r\na\r\n0\r\nA: b\r\n").as_bytes());
    rig.send(peer, b"\r\n");
    rig.sleep(31_000);
    assert_eq!(rig.take(peer), ok("a|A=b"));
}

#[test]
fn the_end_of_the_stream_within_a_section_is_an_error() {
    let mut rig = Rig::untimed(server(Limits::DEFAULT));
    let peer = rig.connect();
    rig.send(peer, post("/kept", "1\r\na\r\n0\r\nA: b\r\n").as_bytes());
    rig.end(peer);
    assert_eq!(rig.take(peer), refusal("400 Bad Request", "Connection: close\r\n"));
}

#[test]
fn in_a_shutdown_the_last_response_announces_the_close_although_trailers_are_kept() {
    for more in ["", FOO] {
        let mut rig = Rig::untimed(server(Limits::DEFAULT));
        let peer = rig.connect();
        rig.send(peer, [&post("/late", "0\r\nA: b\r\n\r\n"), more].concat().as_bytes());
        rig.shutdown();
        rig.sleep(5_000);
        let close = "Connection: close\r\n";
        let expected = match more {
            "" => response("200 OK", close, "|A=b"),
            _ => ok("|A=b") + &response("200 OK", close, "bar"),
        };
        assert_eq!(rig.take(peer), expected);
    }
}

fn sender(names: &'static [&'static str], fields: &'static [(&'static str, &'static str)]) -> impl Handler {
    Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/chunked", move |_request, response| {
            response.announce_trailers(names).stream(None, Counted(fields))
        })
        .get("/sized", move |_request, response| {
            response.announce_trailers(names).stream(Some(4), Counted(fields))
        })
        .get("/accepts", |request, response| response.display(request.accepts_trailers()))
}

#[test]
fn trailers_follow_a_chunked_body() {
    let mut rig = Rig::untimed(sender(&["Digest", "X-Sum"], &[("Digest", "x"), ("X-Sum", "7")]));
    let answer = rig.get("/chunked");
    assert_eq!(answer.header("trailer"), Some("Digest, X-Sum"));
    assert_eq!(
        (answer.text(), answer.trailer("digest"), answer.trailer("x-sum")),
        ("body", Some("x"), Some("7"))
    );
    let peer = rig.connect();
    rig.send(peer, ["GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n", FOO].concat().as_bytes());
    let wire = rig.take(peer);
    let tail = "\r\nTrailer: Digest, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
        4\r\nbody\r\n0\r\nDigest: x\r\nX-Sum: 7\r\n\r\n";
    assert!(wire.ends_with(&(String::from(tail) + &ok("bar"))), "{wire}");
}

#[test]
fn no_trailers_follow_another_body() {
    let mut rig = Rig::untimed(sender(&["Digest"], &[("Digest", "x")]));
    for (request, tail) in [
        ("GET /chunked HTTP/1.0\r\n\r\n", "Connection: close\r\n\r\nbody"),
        ("GET /sized HTTP/1.1\r\nHost: a\r\n\r\n", "Content-Length: 4\r\n\r\nbody"),
        ("HEAD /sized HTTP/1.1\r\nHost: a\r\n\r\n", "Content-Length: 4\r\n\r\n"),
    ] {
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        let answer = rig.take(peer);
        assert!(answer.ends_with(tail) && !answer.contains("igest"), "{answer}");
    }
}

#[test]
fn trailers_wait_for_room_and_are_sent_whole() {
    let config = Config { block_size: 512, output_limit: 2, receive_blocks: 0, ..config() };
    for window in 1..300 {
        let fields = &[("X-A", "0123456789012345678901234567890123456789"), ("X-B", "b")];
        let mut rig = Rig::with_config(sender(&[], fields), &config);
        let peer = rig.connect();
        rig.peers[peer].window = 0;
        // more than the output holds
        for _ in 0..6 {
            rig.send(peer, b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        let mut wire = String::new();
        for _ in 0..2_000 / window + 10 {
            rig.open_window(peer, window);
            wire += &rig.take(peer);
        }
        let body = "4\r\nbody\r\n0\r\nX-A: 0123456789012345678901234567890123456789\r\nX-B: b\r\n\r\n";
        assert_eq!(wire.matches(body).count(), 6, "{window}: {wire}");
    }
}

#[test]
fn invalid_trailers_end_the_connection_within_the_body() {
    const LONG: &str = match str::from_utf8(&[b'v'; crate::FIELDS_MAX]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let table: [&'static [(&'static str, &'static str)]; 6] = [
        &[("Content-Length", "5")],
        &[("X", "1"), ("Set-Cookie", "a=b")],
        &[("X Y", "1")],
        &[("", "1")],
        &[("X", "1\r\nY: 2")],
        &[("X", LONG)],
    ];
    for fields in table {
        let mut rig = Rig::untimed(sender(&[], fields));
        let peer = rig.connect();
        rig.send(peer, b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n");
        let wire = rig.take(peer);
        assert!(wire.ends_with("4\r\nbody\r\n"), "{wire}");
        assert!(rig.peers[peer].shut, "the connection has ended");
    }
}

#[test]
fn names_that_must_not_trail_cannot_be_announced() {
    for names in [&["Host"][..], &["Digest", "content-type"], &["a b"], &[""], &["A\r\nB"]] {
        let mut rig = Rig::untimed(sender(names, &[]));
        assert_eq!(rig.get("/chunked").status(), 500, "{names:?}");
        assert_eq!(rig.get("/foo").status(), 200);
    }
}

#[test]
fn what_a_client_accepts() {
    let mut rig = Rig::untimed(sender(&[], &[]));
    let mut accepts = |te: &str| rig.request(TestRequest::get("/accepts").header("TE", te)).text() == "true";
    assert!(accepts("trailers") && accepts("deflate;q=0.5,\tTrailers "));
    assert!(!accepts("") && !accepts("trailer") && !accepts("deflate"));
    let peer = rig.connect();
    rig.send(peer, b"GET /accepts HTTP/1.0\r\nTE: trailers\r\n\r\n");
    assert!(rig.take(peer).ends_with("\r\n\r\nfalse"));
}
