//! Heads of streamed responses that are held back while the body of the request is read.

extern crate std;

use std::boxed::Box;
use std::cell::RefCell;
use std::format;
use std::rc::Rc;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use lightcone_core::{Config, Handler, Instant};

use crate::{
    AccessLog, Exchange, Flow, Http, Limits, Middleware, Outcome, RequestMessage, State, Stats, Transfer,
};

use super::rig::{DATE, Rig, config, ok, refusal};
use super::streaming::Echo;

const CLOSE: &str = "Connection: close\r\n";

struct App;

impl State for App {
    type Message = &'static str;
}

/// Reads the body, and writes at a given time.
#[derive(Clone, Copy)]
struct Reader {
    bytes: u64,
    /// Whether a deferred response has begun; `None` if the response is not deferred.
    begun: Option<bool>,
    first: First,
}

/// What the reader does before the end of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    /// Writes nothing, with each method that writes.
    Nil,
    Flush,
    Byte,
    /// Writes at this time.
    At(u64),
}

impl Reader {
    fn new(first: First) -> Self {
        Self { bytes: 0, begun: None, first }
    }
}

impl Exchange<App> for Reader {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        if self.begun == Some(false) {
            self.begun = Some(true);
            assert_eq!(io.stream(None, |_, response| response.status(201)), Flow::More);
        }
        match self.first {
            First::Nothing => {}
            First::Nil => {
                assert_eq!((io.write(b""), io.fill(|_| 0)), (0, 0));
                write!(io, "").unwrap();
            }
            First::Flush => io.flush(),
            First::Byte => {
                self.first = First::Nothing;
                assert_eq!(io.write(b"!"), 1);
            }
            First::At(at) if io.now() < Instant::from_millis(at) => io.wake_at(Instant::from_millis(at)),
            First::At(_) => {
                self.first = First::Nothing;
                write!(io, "woken").unwrap();
            }
        }
        while !io.body().is_empty() {
            self.bytes += io.body().len() as u64;
            io.consume(io.body().len());
        }
        if !io.is_ended() {
            return Flow::More;
        }
        write!(io, "{}", self.bytes).unwrap();
        Flow::Done
    }

    fn message(&mut self, message: &'static str, io: &mut Transfer<'_, App>) -> Flow {
        assert_eq!(io.write(message.as_bytes()), message.len());
        Flow::More
    }
}

type Lines = Rc<RefCell<Vec<String>>>;

struct Watch(Lines);

impl<S: State> Middleware<S> for Watch {
    fn after(&mut self, _: &mut S, outcome: &Outcome<'_>) {
        self.0.borrow_mut().push(format!("{} {:?}", outcome.status.code(), outcome.length));
    }
}

fn rig(config: &Config, limits: Limits) -> Rig<impl Handler<Message = RequestMessage<&'static str>> + use<>> {
    watched(config, limits).0
}

fn watched(
    config: &Config,
    limits: Limits,
) -> (Rig<impl Handler<Message = RequestMessage<&'static str>> + use<>>, &'static Stats, Lines, Lines) {
    let (log, seen): (Lines, Lines) = <_>::default();
    let lines = Rc::clone(&log);
    let stats = &*Box::leak(Box::new(Stats::new()));
    let reader = Reader::new;
    let app = Http::with(App)
        .limits(limits)
        .stats(stats)
        .get("/foo", |_request, response| response.text("bar"))
        .get("/", move |_request, response| response.stream(None, reader(First::Nothing)))
        .post("/", move |_request, response| response.status(201).stream(None, reader(First::Nothing)))
        .post("/known", move |_request, response| {
            response.status(201).stream(Some(1), reader(First::Nothing))
        })
        .post("/nil", move |_request, response| response.status(201).stream(None, reader(First::Nil)))
        .post("/flush", move |_request, response| response.status(201).stream(None, reader(First::Flush)))
        .post("/byte", move |_request, response| response.status(201).stream(None, reader(First::Byte)))
        .post("/whole", move |_request, response| response.status(201).stream(Some(1), reader(First::Byte)))
        .post("/at", move |_request, response| response.status(201).stream(None, reader(First::At(50))))
        .post("/defer", move |_request, response| {
            response.defer(Reader { begun: Some(false), ..reader(First::Nothing) })
        })
        .post("/missing", move |_request, response| response.status(404).stream(None, reader(First::Nothing)))
        .post("/echo", |_request, response| response.status(201).stream(None, Echo))
        .wrap(Watch(Rc::clone(&seen)))
        .log(AccessLog::to(move |outcome: &Outcome<'_>| lines.borrow_mut().push(outcome.to_string())));
    (Rig::with_config(app, config), stats, log, seen)
}

fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn head(framing: &str) -> String {
    format!("HTTP/1.1 201 Created\r\nServer: lightcone\r\n{DATE}{framing}\r\n\r\n")
}

fn chunked() -> String {
    head("Transfer-Encoding: chunked")
}

/// Malformed chunked bodies.
const MALFORMED: [&str; 18] = [
    "zz\r\n",
    "\r\n",
    "3\nabc",
    "3\r\nabcd",
    "3\rabc",
    "3 \r\nabc",
    "3 4\r\n",
    " 3\r\n",
    "+3\r\n",
    "-3\r\n",
    "0x3\r\n",
    "3;a\n",
    "3;\0\r\n",
    ";a\r\n",
    "0\r\n\n",
    "0\r\n A: b\r\n\r\n",
    "0\r\nA\r\n\r\n",
    "1\r\na\n",
];

/// Returns the response, which must be the same when the request arrives in pieces of any length.
fn any_cut(config: &Config, request: &str, end: bool) -> String {
    any_cut_as(config, request, end, |text| text)
}

/// The same, with `f` applied to each response.
fn any_cut_as(config: &Config, request: &str, end: bool, f: fn(String) -> String) -> String {
    let answer = |cut: usize| {
        let mut rig = rig(config, Limits::DEFAULT);
        let peer = rig.connect();
        rig.peers[peer].cut = cut;
        rig.send(peer, request.as_bytes());
        if end {
            rig.end(peer);
        }
        let text = f(rig.take(peer));
        (text, rig.peers[peer].shut || rig.peers[peer].closed)
    };
    let (text, shut) = answer(request.len());
    for cut in 1..request.len() {
        assert_eq!(answer(cut), (text.clone(), shut), "in pieces of {cut}: {}", request.escape_debug());
    }
    text
}

#[test]
fn a_malformed_body_is_a_400_as_long_as_nothing_was_written_whatever_the_cut() {
    let bad = refusal("400 Bad Request", CLOSE);
    for path in ["/", "/known", "/nil", "/defer", "/echo", "/missing", "/at"] {
        for body in MALFORMED {
            if path == "/echo" && (body.contains("abcd") || body.starts_with("1\r\na")) {
                continue; // the response has begun by then
            }
            let prefixes: &[&str] = if path == "/echo" { &[""] } else { &["", "2\r\nab\r\n"] };
            for before in prefixes {
                let request = format!("{}{before}{body}", post(path));
                assert_eq!(any_cut(&config(), &request, false), bad, "{path}");
            }
        }
        for rest in ["", "3", "3\r\n", "3\r\nab"] {
            if path == "/echo" && rest.ends_with("ab") {
                continue;
            }
            assert_eq!(any_cut(&config(), &format!("{}{rest}", post(path)), true), bad, "{path}: its end");
        }
    }
}

/// Returns the head and the data of an echo that was cut short, without the chunks, which depend on the cut.
fn echoed(text: String) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!body.contains("0\r\n\r\n") && !body.contains("HTTP"), "{body}");
    let data: String = body.chars().filter(char::is_ascii_lowercase).collect();
    format!("{head}\r\n\r\n{data}")
}

#[test]
fn what_has_begun_is_cut_short_whatever_the_cut() {
    for body in MALFORMED {
        let request = format!("{}2\r\nab\r\n{body}", post("/echo"));
        let answer = any_cut_as(&config(), &request, false, echoed);
        assert!(answer.starts_with(&(chunked() + "ab")), "{answer}");
        let answer = any_cut(&config(), &format!("{}{body}", post("/byte")), false);
        assert!(answer.starts_with(&(chunked() + "1\r\n!\r\n")) && !answer.contains("400"), "{answer}");
        assert_eq!(any_cut(&config(), &format!("{}{body}", post("/flush")), false), chunked());
    }
}

#[test]
fn what_looks_whole_is_cut_by_a_reset() {
    for body in MALFORMED {
        let mut rig = rig(&config(), Limits::DEFAULT);
        // all of the announced length is written before the fault of the request arrives, or together with it
        let request = format!("{}{body}", post("/whole"));
        for cut in [request.len(), 1] {
            let peer = rig.connect();
            rig.peers[peer].cut = cut;
            rig.send(peer, request.as_bytes());
            assert!(rig.peers[peer].reset, "in pieces of {cut}: {body}");
        }
        // a response that is known to be incomplete ends as usual, which loses none of it
        let peer = rig.connect();
        rig.send(peer, post("/byte").as_bytes());
        rig.send(peer, body.as_bytes());
        assert!(!rig.peers[peer].reset && rig.peers[peer].shut, "{body}");
    }
}

#[test]
fn a_body_that_is_right_is_answered_as_ever() {
    for (path, before) in [("/", ""), ("/nil", ""), ("/defer", ""), ("/flush", ""), ("/byte", "1\r\n!\r\n")] {
        let request =
            format!("{}3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nGET /foo HTTP/1.1\r\nHost: a\r\n\r\n", post(path));
        let expected = format!("{}{before}1\r\n4\r\n0\r\n\r\n{}", chunked(), ok("bar"));
        assert_eq!(any_cut(&config(), &request, false), expected, "{path}");
    }
    let request = format!("{}3\r\nabc\r\n0\r\n\r\n", post("/known"));
    assert_eq!(any_cut(&config(), &request, true), head("Content-Length: 1") + "3");
}

#[test]
fn nothing_of_the_answer_is_seen_before_the_end_of_the_request() {
    let mut rig = rig(&config(), Limits::DEFAULT);
    let peer = rig.connect();
    let get = "GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
    rig.send(peer, format!("{get}{}", post("/")).as_bytes());
    assert_eq!(rig.take(peer), ok("bar"), "the response before it leaves");
    for _ in 0..100 {
        rig.send(peer, format!("400\r\n{}\r\n", "u".repeat(1024)).as_bytes());
        assert_eq!(rig.take(peer), "");
    }
    rig.send(peer, b"0\r\n\r\n");
    assert_eq!(rig.take(peer), chunked() + "6\r\n102400\r\n0\r\n\r\n");
    // A client that waits for `100 Continue` receives it.
    let request = post("/").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    rig.send(peer, request.as_bytes());
    assert_eq!(rig.take(peer), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.send(peer, b"zz");
    assert_eq!(rig.take(peer), refusal("400 Bad Request", CLOSE));
}

#[test]
fn a_head_leaves_at_once_where_there_is_no_body_to_wait_for() {
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "1\r\n0\r\n0\r\n\r\n"),
        ("POST /at HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "1\r\n0\r\n0\r\n\r\n"),
    ] {
        let mut rig = rig(&config(), Limits::DEFAULT);
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        assert!(rig.take(peer).ends_with(&format!("\r\n\r\n{expected}")));
    }
}

#[test]
fn a_message_and_a_time_that_has_come_begin_the_answer() {
    let mut rig = rig(&config(), Limits::DEFAULT);
    let (posted, woken, flushed) = (rig.connect(), rig.connect(), rig.connect());
    for (peer, path) in [(posted, "/"), (woken, "/at"), (flushed, "/flush")] {
        rig.send(peer, (post(path) + "1\r\na\r\n").as_bytes());
    }
    assert_eq!(
        (rig.take(posted), rig.take(woken), rig.take(flushed)),
        (String::new(), String::new(), chunked())
    );
    rig.message(posted, RequestMessage::to_all("hello"));
    assert_eq!(rig.take(posted), chunked() + "5\r\nhello\r\n");
    rig.pass(50);
    assert_eq!(rig.take(woken), chunked() + "5\r\nwoken\r\n");
    for peer in [posted, woken, flushed] {
        rig.send(peer, b"zz");
        assert_eq!((rig.take(peer), rig.peers[peer].shut), (String::new(), true), "cut short");
    }
}

#[test]
fn a_body_that_is_late_or_too_large_gets_its_status() {
    let limits = Limits { body: 8, body_time: Duration::from_millis(500), ..Limits::DEFAULT };
    let mut rig = rig(&config(), limits);
    for path in ["/", "/defer"] {
        let (late, large) = (rig.connect(), rig.connect());
        rig.send(late, (post(path) + "2\r\na").as_bytes());
        rig.send(large, (post(path) + "8\r\n12345678\r\n1\r\n").as_bytes());
        assert_eq!(rig.take(large), refusal("413 Content Too Large", CLOSE));
        rig.pass(500);
        assert_eq!(rig.take(late), refusal("408 Request Timeout", CLOSE));
    }
}

#[test]
fn what_becomes_of_a_held_head_is_counted_and_logged_once() {
    let held = |path: &str| post(path) + "1\r\na\r\n";
    let cases: [(String, &str, &str, &str, [usize; 2]); 6] = [
        (held("/") + "0\r\n\r\n", "", "POST / 201 1 0ms", "201 None", [0, 0]),
        (held("/known") + "0\r\n\r\n", "", "POST /known 201 1 0ms", "201 Some(1)", [0, 0]),
        (held("/missing") + "0\r\n\r\n", "", "POST /missing 404 1 0ms", "404 None", [1, 0]),
        (held("/missing") + "zz", "", "POST /missing 400 16 0ms", "400 Some(16)", [1, 0]),
        (held("/byte"), "zz", "POST /byte 201 1 0ms incomplete", "201 None", [0, 1]),
        (held("/"), "reset", "POST / 499 - 0ms incomplete", "499 None", [0, 1]),
    ];
    for (request, then, line, after, [failures, aborted]) in cases {
        let (mut rig, stats, log, seen) = watched(&config(), Limits::DEFAULT);
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        match then {
            "reset" => rig.reset(peer),
            more => rig.send(peer, more.as_bytes()),
        }
        let sent = rig.peers[peer].received.len();
        rig.end(peer);
        assert_eq!(
            (log.borrow().as_slice(), seen.borrow().as_slice()),
            (&[line.to_string()][..], &[after.to_string()][..])
        );
        assert_eq!((stats.failures(), stats.aborted(), stats.requests()), (failures, aborted, 1), "{line}");
        assert_eq!(stats.bytes_out(), sent, "{line}");
    }
}

#[test]
fn a_connection_that_breaks_keeps_no_block() {
    let few = Config { output_blocks: 1, output_limit: 1, ..config() };
    let mut rig = rig(&few, Limits::DEFAULT);
    for _ in 0..5 {
        let peer = rig.connect();
        rig.send(peer, (post("/") + "1\r\na\r\n").as_bytes());
        rig.reset(peer);
    }
    let peer = rig.connect();
    rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("bar"));
}

#[test]
fn with_little_memory_it_goes_on() {
    let expect = post("/echo").replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let body = "3\r\nabc\r\n0\r\n\r\n";
    for (block_size, limit) in [(512, 1), (256, 2), (128, 4), (64, 8), (64, 10), (1024, 1)] {
        let few = Config {
            block_size,
            output_blocks: limit,
            output_limit: limit,
            receive_blocks: 0,
            input_blocks: 64,
            ..config()
        };
        let few = Config { receive_blocks: if block_size < 512 { 2 } else { 0 }, ..few };
        for path in ["/", "/echo", "/defer"] {
            let request = format!("GET /foo HTTP/1.1\r\nHost: a\r\n\r\n{}{body}", post(path)).repeat(2);
            let mut rig = rig(&few, Limits::DEFAULT);
            let peer = rig.connect();
            rig.peers[peer].window = 0;
            rig.send(peer, request.as_bytes());
            for _ in 0..2_000 {
                rig.open_window(peer, 1);
            }
            let echoed = if path == "/echo" { "3\r\nabc" } else { "1\r\n3" };
            let expected = format!("{}{}{echoed}\r\n0\r\n\r\n", ok("bar"), chunked()).repeat(2);
            assert_eq!(rig.take(peer), expected, "{path} with {limit} of {block_size}");
        }
        let mut rig = rig(&few, Limits::DEFAULT);
        let peer = rig.connect();
        rig.send(peer, expect.as_bytes());
        assert!(rig.take(peer).starts_with("HTTP/1.1 100 Continue\r\n\r\n"));
        rig.send(peer, body.as_bytes());
        assert!(rig.take(peer).ends_with("3\r\nabc\r\n0\r\n\r\n"));
    }
}

/// With earlier responses still queued and too few blocks to hold another head back, the request waits for them to
/// leave: its body can still turn out to be malformed, or end early.
#[test]
fn a_head_can_be_held_back_after_others_whatever_the_memory() {
    for (block_size, limit) in [(512, 1), (256, 2), (128, 4), (64, 8), (1024, 1)] {
        let few = Config {
            block_size,
            output_blocks: limit,
            output_limit: limit,
            receive_blocks: if block_size < 512 { 2 } else { 0 },
            input_blocks: 64,
            ..config()
        };
        let bodies = [("zz\r\n", false), ("3", true), ("", true)];
        let cases = ["/", "/echo", "/defer"].into_iter().flat_map(|path| bodies.map(|body| (path, body)));
        for (path, (body, ends)) in cases {
            let mut rig = rig(&few, Limits::DEFAULT);
            let peer = rig.connect();
            rig.peers[peer].window = 0;
            rig.send(peer, format!("GET /foo HTTP/1.1\r\nHost: a\r\n\r\n{}{body}", post(path)).as_bytes());
            if ends {
                rig.end(peer);
            }
            for _ in 0..1_000 {
                rig.open_window(peer, 1);
            }
            let expected = format!("{}{}", ok("bar"), refusal("400 Bad Request", CLOSE));
            assert_eq!(rig.take(peer), expected, "{path} {body:?} with {limit} of {block_size}");
        }
    }
}

/// A head that was held back has a block of its own, so blocks run out long before the bytes do. However many such
/// responses are queued, the next request is not started before its response has room.
#[test]
fn responses_with_a_block_of_their_own_leave_room_for_the_next() {
    let small = Config {
        sockets: 1,
        block_size: 512,
        output_blocks: 8,
        output_limit: 6,
        receive_size: 1_024,
        ..config()
    };
    for count in 8..14 {
        let server = Http::new()
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
            .get("/foo", |_request, response| response.text("bar"));
        let mut rig = Rig::with_config(server, &small);
        rig.set_unix_time(None); // shorter heads
        let peer = rig.connect();
        let echo = &b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"[..];
        let put = &b"PUT /foo HTTP/1.1\r\nHost: a\r\n\r\n"[..];
        rig.send(peer, &[&echo.repeat(count)[..], put].concat());
        let answers = rig.take(peer);
        let of = |status| answers.matches(&format!("HTTP/1.1 {status} ")).count();
        assert_eq!((of(200), of(405), of(500)), (count, 1, 0), "after {count} requests: {answers}");
    }
}

/// The room for a response is compared with the blocks that are in use, not with the bytes in them: a text that fits
/// into half of the limit waits for blocks instead of being refused.
#[test]
fn half_of_the_bound_fits_after_responses_with_a_block_of_their_own() {
    const TEXT: usize = 1_200;
    let small = Config {
        sockets: 1,
        block_size: 512,
        output_blocks: 8,
        output_limit: 6,
        receive_size: 1_024,
        ..config()
    };
    for count in 1..9 {
        let server = Http::new()
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
            .get("/text", |_request, response| response.bytes(&[b'x'; TEXT]));
        let mut rig = Rig::with_config(server, &small);
        let peer = rig.connect();
        let echo = &b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"[..];
        let get = &b"GET /text HTTP/1.1\r\nHost: a\r\n\r\n"[..];
        rig.send(peer, &[&echo.repeat(count)[..], get].concat());
        let answers = rig.take(peer);
        let of = |status| answers.matches(&format!("HTTP/1.1 {status} ")).count();
        assert_eq!((of(200), of(500)), (count + 1, 0), "after {count} requests: {answers}");
        assert!(answers.ends_with(&"x".repeat(TEXT)));
    }
}
