//! Every way in which a request can end: what is counted, logged and reported to middleware.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;
use std::{format, vec};

use lightcone_core::{Handler, Instant};

use crate::{
    AccessLog, Exchange, Flow, Http, Limits, Middleware, Outcome, RequestMessage, State, Stats, Status,
    Transfer,
};

use super::rig::Rig;

type Lines = Rc<RefCell<Vec<String>>>;

/// Notes the outcome of each request.
struct Watch(Lines);

impl<S: State> Middleware<S> for Watch {
    fn after(&mut self, _: &mut S, outcome: &Outcome<'_>) {
        let method = outcome.method.map_or("-", |method| method.as_str());
        let target = outcome.target.escape_ascii();
        self.0.borrow_mut().push(format!("{method} {target} {}", outcome.status.code()));
    }
}

/// Responds later, or not at all.
enum Slow {
    /// Responds at this time.
    At(u64),
    /// Is done without a response.
    Mute,
    /// Writes once, then waits for the body.
    Stream(bool),
    /// Is done before it has written the announced length.
    Short,
}

impl<S: State> Exchange<S> for Slow {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.consume(io.body().len());
        match self {
            Self::At(at) if io.now() >= Instant::from_millis(*at) => {
                return io.respond(|_, response| response.refuse(504));
            }
            Self::At(at) => io.wake_at(Instant::from_millis(*at)),
            Self::Mute | Self::Short => return Flow::Done,
            Self::Stream(begun) => {
                if !core::mem::replace(begun, true) {
                    assert_eq!(io.write(b"piece"), 5);
                }
                if io.is_ended() {
                    return Flow::Done;
                }
            }
        }
        Flow::More
    }
}

/// Returns a server with a log and middleware, and what is reported to them.
fn server(
    stats: &'static Stats,
) -> (Rig<impl Handler<Message = RequestMessage<<() as State>::Message>>>, Lines, Lines) {
    let (log, seen): (Lines, Lines) = <_>::default();
    let (lines, outcomes) = (Rc::clone(&log), Rc::clone(&seen));
    let limits = Limits {
        body: 100,
        head_time: Duration::from_millis(500),
        body_time: Duration::from_millis(500),
        target: 100,
        ..Limits::DEFAULT
    };
    let group = Http::group()
        .post("/collect/{id}", |request, response| {
            request.collect::<8, _>(response, |_, body, response| match body {
                b"bad" => response.refuse(422),
                _ => response.display(body.len()),
            })
        })
        .post("/stream", |_request, response| response.stream(None, Slow::Stream(false)))
        .get("/mute", |_request, response| response.defer(Slow::Mute))
        .get("/short", |_request, response| response.status(206).stream(Some(10), Slow::Short))
        .get("/later", |_request, response| response.defer(Slow::At(300)))
        .get("/broken", |_request, response| response.header("A", "\n").text("never"))
        .post("/ignores", |_request, response| response.text("ignored"));
    let app = Http::new()
        .limits(limits)
        .stats(stats)
        .get("/", |_request, response| response.text("in"))
        .nest("/group", group)
        .wrap(Watch(outcomes))
        .log(AccessLog::to(move |outcome: &Outcome<'_>| lines.borrow_mut().push(outcome.to_string())));
    (Rig::untimed(app), log, seen)
}

use Do::{End, Feed, Pass};

/// A step of a test case.
enum Do {
    Feed(&'static str),
    Pass(u64),
    End,
}

const POST: &str = "POST /group/collect/1?a=b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const STREAM: &str = "POST /group/stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";

/// The steps, the line of the log, the numbers of failures and aborted requests, and the status of a refusal or 0.
const ENDS: &[(&[Do], &str, [usize; 2], u16)] = &[
    (&[Feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n")], "GET / 200 2 0ms", [0, 0], 0),
    (&[Feed("GET /no HTTP/1.1\r\nHost: a\r\n\r\n")], "GET /no 404 14 0ms", [1, 0], 0),
    (
        &[Feed(POST), Feed("3\r\nabc\r\n"), Pass(20), Feed("0\r\n\r\n")],
        "POST /group/collect/1?a=b 200 1 20ms",
        [0, 0],
        0,
    ),
    (&[Feed(POST), Feed("3\r\nbad\r\n0\r\n\r\n")], "POST /group/collect/1?a=b 422 26 0ms", [1, 0], 0),
    (&[Feed(POST), Pass(7), Feed("zz")], "POST /group/collect/1?a=b 400 16 7ms", [1, 0], 400),
    (&[Feed(POST), Feed("9\r\n123456789\r\n")], "POST /group/collect/1?a=b 413 22 0ms", [1, 0], 0),
    (&[Feed(POST), Feed("fff\r\n")], "POST /group/collect/1?a=b 413 22 0ms", [1, 0], 413),
    (&[Feed(POST), Pass(600)], "POST /group/collect/1?a=b 408 20 600ms", [1, 0], 408),
    (&[Feed(POST), End], "POST /group/collect/1?a=b 400 16 0ms", [1, 0], 400),
    (&[Feed(STREAM), Feed("0\r\n\r\n")], "POST /group/stream 200 5 0ms", [0, 0], 0),
    (&[Feed(STREAM), Feed("zz")], "POST /group/stream 200 5 0ms incomplete", [0, 1], 400),
    (&[Feed(STREAM), Pass(600)], "POST /group/stream 200 5 600ms incomplete", [0, 1], 408),
    (&[Feed(STREAM), End], "POST /group/stream 200 5 0ms incomplete", [0, 1], 400),
    (&[Feed("GET /group/mute HTTP/1.1\r\nHost: a\r\n\r\n")], "GET /group/mute 500 26 0ms", [1, 0], 0),
    (
        &[Feed("GET /group/short HTTP/1.1\r\nHost: a\r\n\r\n")],
        "GET /group/short 206 0 0ms incomplete",
        [0, 1],
        0,
    ),
    (
        &[Feed("GET /group/later HTTP/1.1\r\nHost: a\r\n\r\n"), Pass(300)],
        "GET /group/later 504 20 300ms",
        [1, 0],
        0,
    ),
    (
        &[Feed("GET /group/broken HTTP/1.1\r\nHost: a\r\n\r\n")],
        "GET /group/broken 500 26 0ms invalid",
        [1, 0],
        0,
    ),
    // The response is sent, and then the body is malformed.
    (
        &[Feed("POST /group/ignores HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz")],
        "POST /group/ignores 200 7 0ms",
        [0, 0],
        400,
    ),
    // Invalid or incomplete heads.
    (&[Feed("GET /half HT"), Pass(600)], "GET /half 408 20 -", [0, 0], 408),
    (&[Feed("GE"), Pass(600)], "- - 408 20 -", [0, 0], 408),
    (&[Feed("GET /a HTTP/1.1\r\n\r\n")], "GET /a 400 16 -", [0, 0], 400),
    (&[Feed("nonsense\r\n")], "- - 400 16 -", [0, 0], 400),
    (&[Feed("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n")], "- /pot 501 20 -", [0, 0], 501),
    (&[Feed("GET /a HTTP/2.0\r\nHost: a\r\n\r\n")], "GET /a 505 31 -", [0, 0], 505),
    (&[Feed("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n")], "PUT / 413 22 0ms", [0, 0], 413),
    (&[Feed("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n")], "GET / 417 23 -", [0, 0], 417),
];

#[test]
fn each_end_is_counted_and_logged_once() {
    for (n, (deeds, line, [failures, aborted], refused)) in ENDS.iter().enumerate() {
        let stats = &*std::boxed::Box::leak(std::boxed::Box::new(Stats::new()));
        let (mut rig, log, seen) = server(stats);
        let peer = rig.connect();
        for deed in *deeds {
            match deed {
                Feed(text) => rig.send(peer, text.as_bytes()),
                Pass(millis) => rig.pass(*millis),
                End => rig.end(peer),
            }
        }
        rig.end(peer);
        rig.pass(0);
        assert_eq!(*log.borrow(), [*line], "{n}");
        let status = line.replace(" - ", " ").replace("- ", "");
        let status = status.split(' ').find(|word| word.len() == 3 && word.parse::<u16>().is_ok()).unwrap();
        assert_eq!(seen.borrow().len(), 1, "{n}: {:?}", seen.borrow());
        assert!(seen.borrow()[0].ends_with(status), "{n}: {:?}", seen.borrow());
        assert_eq!((stats.failures(), stats.aborted()), (*failures, *aborted), "{line}");
        let refusals: Vec<_> = stats.refusals().filter(|(_, n)| *n > 0).map(|(s, n)| (s.code(), n)).collect();
        assert_eq!(refusals, if *refused > 0 { vec![(*refused, 1)] } else { vec![] }, "{line}");
    }
}

#[test]
fn a_request_whose_connection_breaks_is_logged_as_unanswered() {
    static STATS: Stats = Stats::new();
    let (mut rig, log, seen) = server(&STATS);
    let (deferred, streamed) = (rig.connect(), rig.connect());
    rig.send(deferred, b"GET /group/later HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.send(streamed, b"POST /group/stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    rig.pass(10);
    for peer in [deferred, streamed] {
        rig.reset(peer);
    }
    assert_eq!(
        *log.borrow(),
        ["GET /group/later 499 - 10ms incomplete", "POST /group/stream 200 5 10ms incomplete"]
    );
    assert_eq!(*seen.borrow(), ["POST /group/stream 200", "GET /group/later 499"]);
    assert_eq!((STATS.requests(), STATS.failures(), STATS.aborted()), (2, 0, 2));
    assert_eq!(Outcome::CLIENT_CLOSED_REQUEST, Status::try_from(499).unwrap());
}

/// Writes once. If the request's body has not ended, tries to write a text that never fits after 500 ms; otherwise is
/// done after a second.
struct Endless(bool);

impl<S: State> Exchange<S> for Endless {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if io.now() >= Instant::from_millis(1_000) {
            return Flow::Done;
        }
        if io.now() >= Instant::from_millis(500) {
            assert!(write!(io, "{:60000}", 7).is_err());
        } else if !core::mem::replace(&mut self.0, true) {
            assert_eq!(io.write(b"piece"), 5);
        }
        io.wake_at(Instant::from_millis(if io.is_ended() { 1_000 } else { 500 }));
        Flow::More
    }
}

#[test]
fn a_cut_answer_that_the_end_of_the_connection_delimits_is_a_reset() {
    let limits = Limits { answer_time: Some(Duration::from_millis(400)), ..Limits::DEFAULT };
    let start = |limits: Limits, version: &str, length: usize| {
        let app =
            Http::new().limits(limits).post("/", |_request, response| response.stream(None, Endless(false)));
        let mut rig = Rig::untimed(app);
        let peer = rig.connect();
        rig.send(
            peer,
            format!("POST / HTTP/{version}\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
        );
        assert!(rig.take(peer).contains("piece"));
        rig
    };
    for version in ["1.0", "1.1"] {
        let raw = version == "1.0";
        // The end of the grace time, a limit, the end of the peer's stream within its body, and a text that never fits.
        let mut rig = start(Limits::DEFAULT, version, 0);
        rig.cut();
        assert_eq!(rig.peers[0].reset, raw);
        let mut rig = start(limits, version, 0);
        rig.pass(400);
        assert_eq!((rig.peers[0].reset, rig.peers[0].shut), (raw, !raw));
        let mut rig = start(Limits::DEFAULT, version, 3);
        rig.end(0);
        assert_eq!(rig.peers[0].reset, raw);
        let mut rig = start(Limits::DEFAULT, version, 3);
        rig.pass(500);
        assert_eq!((rig.peers[0].reset, rig.peers[0].shut), (raw, !raw));
        // A complete response.
        let mut rig = start(Limits::DEFAULT, version, 0);
        rig.pass(1_000);
        rig.end(0);
        assert!(rig.peers[0].closed && !rig.peers[0].reset);
    }
}

/// Sends a deferred response with a body of this length, streamed or at once.
struct Late {
    left: usize,
    streams: bool,
    begun: bool,
}

impl<S: State> Exchange<S> for Late {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if !self.streams {
            return io.respond(|_, response| response.bytes(&vec![b'l'; self.left]));
        }
        let length = Some(self.left as u64);
        if !core::mem::replace(&mut self.begun, true)
            && io.stream(length, |_, response| response.status(201).header("X", "y")) == Flow::Done
        {
            return Flow::Done;
        }
        while self.left > 0 {
            match io.fill(|piece| {
                piece.fill(b'l');
                piece.len()
            }) {
                0 => return Flow::More,
                n => self.left -= n,
            }
        }
        Flow::Done
    }
}

#[test]
fn a_response_too_large_to_be_sent_at_once_is_counted_and_logged() {
    static STATS: Stats = Stats::new();
    let log: Lines = <_>::default();
    let lines = Rc::clone(&log);
    let late = |left, streams| Late { left, streams, begun: false };
    let app = Http::new()
        .stats(&STATS)
        .get("/text", |_request, response| response.text(&"t".repeat(40_000)))
        .get("/display", |_request, response| response.display("t".repeat(40_000)))
        .get("/field", |_request, response| response.header("A", "\n").text("never"))
        .get("/half", |_request, response| response.text(&"t".repeat(16_000)))
        .get("/late", move |_request, response| response.defer(late(40_000, false)))
        .get("/late/stream", move |_request, response| response.defer(late(40_000, true)))
        .log(AccessLog::to(move |outcome: &Outcome<'_>| lines.borrow_mut().push(outcome.to_string())));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    for (path, line) in [
        ("/text", "GET /text 500 26 0ms too large"),
        ("/display", "GET /display 500 26 0ms too large"),
        ("/field", "GET /field 500 26 0ms invalid"),
        ("/half", "GET /half 200 16000 0ms"),
        ("/late", "GET /late 500 26 0ms too large"),
        ("/late/stream", "GET /late/stream 201 40000 0ms"),
    ] {
        rig.send(peer, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        rig.turns();
        let answer = rig.take(peer);
        assert_eq!(answer.starts_with("HTTP/1.1 500 "), line.contains("500"), "{path}");
        assert_eq!(answer.ends_with(&"l".repeat(40_000)), path.ends_with("stream"), "{path}");
        assert_eq!(log.borrow_mut().pop().unwrap(), line);
    }
    assert_eq!((STATS.failures(), STATS.oversized(), STATS.aborted()), (4, 3, 0));
    rig.send(peer, b"HEAD /late/stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(rig.take(peer).ends_with("X: y\r\nContent-Length: 40000\r\n\r\n"));
    assert_eq!(*log.borrow(), ["HEAD /late/stream 201 40000 0ms"]);
}

#[test]
fn a_target_that_is_too_long_to_be_kept_is_cut() {
    static STATS: Stats = Stats::new();
    let (mut rig, log, _) = server(&STATS);
    let peer = rig.connect();
    for n in [60, 61] {
        let target = format!("/group/later?{}", "q".repeat(n + 7));
        rig.send(peer, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        rig.pass(300);
        let expected = format!("GET {} 504", &target[..80]);
        assert!(log.borrow_mut().pop().unwrap().starts_with(&expected), "{expected}");
    }
}

#[test]
fn middleware_without_a_log_gets_the_whole_pattern() {
    let seen: Lines = <_>::default();
    let group = Http::group().get("/{id}", |_request, response| response.defer(Slow::Mute));
    let fallback = Http::group().fallback(|_request, response| response.defer(Slow::Mute));
    let app = Http::new()
        .nest("/a", Http::group().nest("/b", group).nest("/c", fallback))
        .wrap(Watch(Rc::clone(&seen)));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, b"GET /a/b/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /a/c/d HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(*seen.borrow(), ["GET /a/b/{id} 500", "- /a/c/{*path} 500"]);
}

/// Gives up at once.
struct Never;

impl<S: State> Exchange<S> for Never {
    fn advance(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        Flow::Abort
    }
}

/// The head of a response is held back while the body of the request may turn out to be malformed.
#[test]
fn a_head_that_is_held_back_does_not_leave_when_the_exchange_gives_up() {
    for version in ["1.0", "1.1"] {
        for length in [None, Some(0), Some(5)] {
            let log: Lines = <_>::default();
            let lines = Rc::clone(&log);
            let app = Http::new()
                .post("/", move |_request, response| response.stream(length, Never))
                .get("/", |_request, response| response.text("before"))
                .log(AccessLog::to(move |outcome: &Outcome<'_>| {
                    lines.borrow_mut().push(outcome.to_string());
                }));
            let mut rig = Rig::untimed(app);
            let peer = rig.connect();
            rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(rig.take(peer).ends_with("before"));
            let head = format!("POST / HTTP/{version}\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
            rig.send(peer, head.as_bytes());
            assert_eq!(rig.take(peer), "", "{version} {length:?}");
            assert!(rig.peers[peer].shut || rig.peers[peer].reset);
            assert_eq!(log.borrow()[1..], ["POST / 499 - 0ms incomplete"]);
        }
    }
}
