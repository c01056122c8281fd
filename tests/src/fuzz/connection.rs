//! Whole connections to an HTTP server, with reads, writes, timeouts and ends in any order.
//!
//! An input is a script: connect, send requests or noise, read a number of bytes, let time pass, end, reset, post a
//! message, shut down. For every script the event contract holds, each request is answered in turn with its own
//! response, nothing follows a response that closes, a response is cut short only for a reason, all bytes are accounted
//! for, every connection ends once, and all slots and blocks are free at the end.

use core::time::Duration;

use lightcone_core::{Config, Handler, Instant, Timeouts};
use lightcone_http::{
    Body, Exchange, Flow, Headers, Http, Limits, Middleware, RequestMessage, State, Status, Transfer,
};

use super::chunked::{Expected, expect};
use super::responses::Response;
use super::tape::Tape;
use super::verdict::{Understood, Verdict, ours};
use super::wire::{Flaw, Memory, Wire};

const LIMITS: Limits = Limits {
    head: 600,
    target: 60,
    fields: 8,
    body: 2_000,
    chunk_line: 40,
    chunk_extensions: 100,
    trailers: 100,
    head_time: Duration::from_secs(10),
    body_time: Duration::from_secs(20),
    body_step: 64,
    answer_time: None,
    ..Limits::DEFAULT
};
/// The largest body that `/text` accepts.
const TEXT_MAX: usize = 64;
const BIG: usize = 1_500;
const RAW: usize = 700;
static STATIC: [u8; 900] = [b's'; 900];
/// The piece that a message adds to the response of `/feed`, and the number of messages it takes.
const FED: [u8; 60] = [b'm'; 60];
const FEEDS: usize = 3;
const OPS_MAX: usize = 120;
const LATE: Duration = Duration::from_millis(1);

/// New pieces are appended, so that existing inputs keep their meaning.
const PIECES: &[&[u8]] = &[
    b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /raw HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /raw HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /foo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /raw HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /foo HTTP/1.0\r\n\r\n",
    b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n",
    b"POST /text HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;e\r\nab\r\n0\r\n\r\n",
    b"POST /text HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    b"POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: 70\r\n\r\n\
      GET /foo HTTP/1.1\r\nHost: smuggled.example.org\r\nX: abcdefghijklmnopqr\r\n\r\n",
    b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET",
    b"PUT /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
    b"PUT /sink HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nGET ",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"OPTIONS /echo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /foo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1200\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET /f",
    b"\r\n",
    &LONG_CHUNK,
    b"HEAD /f",
    b"HEAD /foo HTTP/1.1\r\n\r\n",
    b"GET /foo HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
    b"GET /foo HTTP/1.1\r\nHost: www.example.net\r\nAccept: */*\r\n\r\n",
    b"GET /static HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /feed HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /feed HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nGET / HTT",
    b"PUT /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST /hex HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n012345",
    b"POST /hex HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /fill HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// A chunk of 200 bytes, each different from the one before.
const LONG_CHUNK: [u8; 206] = {
    let mut chunk = [0; 206];
    let mut at = 0;
    while at < chunk.len() {
        chunk[at] = match at {
            0..4 => b"c8\r\n"[at],
            204 => b'\r',
            205 => b'\n',
            _ => b'a' + (at % 26) as u8,
        };
        at += 1;
    }
    chunk
};

/// The fuzz target.
pub fn connection(data: &[u8]) {
    check(data, Flaw::None, Manners::Good);
}

/// How the handlers of the test server behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manners {
    /// Correctly.
    Good,
    /// Mutant: the echo drops a byte when it cannot write everything at once.
    Forgetful,
    /// Mutant: no response announces that the connection closes.
    Clinging,
}

struct App;

impl State for App {
    type Message = u8;
}

struct Echo(Manners);

impl Exchange<App> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        io.copy();
        if self.0 == Manners::Forgetful && !io.body().is_empty() {
            io.consume(1);
        }
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Writes this number of bytes, without announcing the length where possible.
struct Raw(usize);

impl Exchange<App> for Raw {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        while self.0 > 0 {
            let n = io.write(&[b'r'; 50][..self.0.min(50)]);
            if n == 0 {
                return Flow::More;
            }
            self.0 -= n;
        }
        Flow::Done
    }
}

/// Responds when a message has arrived and there is room.
#[derive(Default)]
struct Wait(Option<u8>);

impl Exchange<App> for Wait {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        match self.0 {
            Some(message) if io.is_ready() => io.respond(|_, response| response.display(message)),
            _ => Flow::More,
        }
    }

    fn message(&mut self, message: u8, io: &mut Transfer<'_, App>) -> Flow {
        self.0 = Some(message);
        self.advance(io)
    }
}

/// Writes a piece for each message, as far as there is room; ends after `FEEDS` messages.
#[derive(Default)]
struct Feed {
    messages: usize,
    written: usize,
}

impl Exchange<App> for Feed {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        while self.written < self.messages * FED.len() {
            let n = io.write(&FED[self.written % FED.len()..]);
            if n == 0 {
                return Flow::More;
            }
            self.written += n;
        }
        if self.messages == FEEDS { Flow::Done } else { Flow::More }
    }

    fn message(&mut self, _: u8, io: &mut Transfer<'_, App>) -> Flow {
        self.messages = FEEDS.min(self.messages + 1);
        self.advance(io)
    }
}

/// Responds a little later.
#[derive(Default)]
struct Late(Option<Instant>);

impl Exchange<App> for Late {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        let due = *self.0.get_or_insert(io.now() + LATE);
        if io.now() < due {
            io.wake_at(due);
        } else if io.is_ready() {
            return io.respond(|_, response| response.text("late"));
        }
        Flow::More
    }
}

/// May complete before the request's body does.
struct Early;

impl Exchange<App> for Early {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        if write!(io, "early").is_ok() { Flow::Done } else { Flow::More }
    }
}

/// Writes each byte of the body as two digits.
struct Hex;

impl Exchange<App> for Hex {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        while let Some(byte) = io.body().first().copied() {
            if write!(io, "{byte:02x}").is_err() {
                return Flow::More;
            }
            io.consume(1);
        }
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Writes this number of bytes in place.
struct Fill(usize);

impl Exchange<App> for Fill {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        while self.0 > 0 {
            let left = self.0;
            let n = io.fill(|place| {
                let n = left.min(place.len()).min(90);
                place[..n].fill(b'f');
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

/// Marks the responses of routes and of the fallback.
struct Mark;

impl Middleware<App> for Mark {
    fn head(&self, _: Status, headers: &mut Headers<'_>) {
        headers.add("X-Mark", "1");
    }
}

fn server(manners: Manners) -> impl Handler<Message = RequestMessage<u8>> {
    Http::with(App)
        .limits(LIMITS)
        .get("/foo", |_request, response| response.text("bar"))
        .get("/big", |_request, response| response.generate(BIG as u64, |_, piece| piece.fill(b'g')))
        .get("/raw", |_request, response| response.stream(None, Raw(RAW)))
        .post("/echo", move |request, response| response.stream(request.head.length(), Echo(manners)))
        .post("/text", |request, response| {
            request.collect::<TEXT_MAX, _>(response, |_, body, response| response.bytes(body))
        })
        .post("/wait", |_request, response| response.defer(Wait::default()))
        .put("/sink", |_request, response| response.text("sunk"))
        .get("/static", |_request, response| response.embedded(&STATIC))
        .get("/feed", |_request, response| response.stream(None, Feed::default()))
        .get("/late", |_request, response| response.defer(Late::default()))
        .put("/early", |_request, response| response.stream(Some(5), Early))
        .post("/hex", |_request, response| response.stream(None, Hex))
        .get("/fill", |_request, response| response.stream(None, Fill(RAW)))
        .fallback(|_request, response| response.refuse(404))
        .wrap(Mark)
}

/// Events that may legitimately cut the responses of a connection short.
#[derive(Clone, Copy, Default, Debug)]
struct Fate {
    /// Whether time has passed, so that a deadline may have expired.
    time: bool,
    shutdown: bool,
    /// Whether the peer ended its stream before the script was over.
    ended: bool,
}

/// Runs the target, optionally over a mutant.
pub fn check(data: &[u8], flaw: Flaw, manners: Manners) {
    let mut tape = Tape::new(data);
    let config = config(&mut tape);
    let mut memory = Memory::new(&config);
    let mut wire = Wire::new(&mut memory, &config, server(manners), flaw);
    let mut fates = Vec::new();
    for _ in 0..OPS_MAX {
        if tape.is_over() {
            break;
        }
        step(&mut wire, &mut tape, &mut fates);
    }
    heal(&mut wire);
    wire.is_clean();
    for (peer, fate) in wire.peers.iter().zip(&fates) {
        if manners == Manners::Clinging {
            let got = replace(&peer.got, b"Connection: close\r\n", b"");
            answers(&peer.sends[..peer.taken], &got, *fate, peer.reset);
        } else {
            answers(&peer.sends[..peer.taken], &peer.got, *fate, peer.reset);
        }
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(from.len()).position(|found| found == from) {
        bytes.splice(at..at + from.len(), to.iter().copied());
    }
    bytes
}

fn config(tape: &mut Tape<'_>) -> Config {
    let timed = tape.one_in(2);
    let second = |n: u64| Some(Duration::from_secs(n)).filter(|_| timed);
    Config {
        sockets: 1 + tape.below(3),
        block_size: tape.pick(&[256, 512]),
        input_blocks: 1 + tape.below(3),
        output_blocks: 4 + tape.below(8),
        output_limit: tape.pick(&[4, 6]),
        receive_size: 1_024,
        receive_blocks: 1 + tape.below(2),
        timeouts: Timeouts {
            connect: None,
            first_byte: second(30),
            idle: second(75),
            write_stall: second(30),
            drain: second(10),
            linger: second(2),
            write_rate: None,
        },
        ..Config::DEVICE
    }
}

fn step<H: Handler<Message = RequestMessage<u8>>>(
    wire: &mut Wire<'_, H>,
    tape: &mut Tape<'_>,
    fates: &mut Vec<Fate>,
) {
    let op = tape.below(16);
    if op == 0 || wire.peers.is_empty() {
        if fates.len() < 6 && wire.connect().is_some() {
            fates.push(Fate::default());
        }
        return;
    }
    let peer = tape.below(wire.peers.len());
    match op {
        1..5 => {
            let piece = tape.pick(PIECES);
            wire.peers[peer].sends.extend_from_slice(piece);
        }
        5 => {
            let n = 1 + tape.below(64);
            wire.peers[peer].sends.extend_from_slice(tape.take(n));
        }
        6 => wire.peers[peer].pieces = (1 + tape.byte(), 1 + tape.byte()),
        7 => wire.peers[peer].window = tape.byte() * 4,
        8 => wire.peers[peer].window = usize::MAX,
        9 => {
            for _ in 0..1 + tape.below(8) {
                wire.step(peer);
            }
        }
        10 => wire.settle(),
        11 => {
            let millis = tape.pick(&[0, 1, 500, 2_001, 9_999, 10_001, 20_002, 31_000]);
            wire.pass(millis);
            fates.iter_mut().for_each(|fate| fate.time |= millis > 0);
        }
        12 => {
            wire.peers[peer].ends = true;
            fates[peer].ended = true;
        }
        13 => match tape.below(8) {
            0 if !wire.peers[peer].closed => wire.reset(peer),
            1 if tape.one_in(4) => {
                wire.shutdown();
                fates.iter_mut().for_each(|fate| fate.shutdown = true);
            }
            2 => wire.readable(peer),
            _ => wire.run(peer),
        },
        14 => wire.message(peer, RequestMessage::to_all(7)),
        _ => wire.writable(peer),
    }
    if fates[peer].ended {
        // The peer sends nothing after its end of stream.
        let there = &mut wire.peers[peer];
        let end = there.end.get_or_insert(there.sends.len());
        there.sends.truncate(*end);
    }
}

/// Lets the network pass everything, and ends all peers; requests that wait for a message get one. Every connection
/// must end.
fn heal<H: Handler<Message = RequestMessage<u8>>>(wire: &mut Wire<'_, H>) {
    for there in &mut wire.peers {
        there.window = usize::MAX;
        there.pieces = (usize::MAX, usize::MAX);
    }
    wire.settle();
    for peer in 0..wire.peers.len() {
        wire.peers[peer].ends = true;
    }
    for _ in 0..300 {
        wire.settle();
        if wire.peers.iter().all(|peer| peer.closed) {
            return;
        }
        for peer in 0..wire.peers.len() {
            wire.message(peer, RequestMessage::to_all(7));
        }
        wire.pass(1); // in total far less than any timeout
    }
}

/// A request as the client sent it, as far as it is valid.
struct Asked {
    head: Understood,
    body: Expected,
}

/// What a client has sent: requests, then possibly an invalid rest, and the status that refuses it.
struct Sent<'a> {
    requests: Vec<Asked>,
    rest: &'a [u8],
    fault: Option<u16>,
}

fn asked(sent: &[u8]) -> Sent<'_> {
    let (mut requests, mut rest, mut fault) = (Vec::new(), sent, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest); // one empty line is ignored
        if matches!(rest, b"" | b"\r") {
            break;
        }
        let head = match ours(rest, &LIMITS) {
            Verdict::Complete(head) => *head,
            Verdict::Partial => break,
            Verdict::Invalid(status) => {
                fault = Some(status);
                break;
            }
        };
        let behind = &rest[head.size..];
        let body = match head.body {
            Body::Length(length) if length > LIMITS.body => {
                fault = Some(413);
                break;
            }
            Body::Length(length) => {
                let length = usize::try_from(length).unwrap();
                let n = length.min(behind.len());
                Expected { data: behind[..n].to_vec(), end: (n == length).then_some(Ok(n)) }
            }
            Body::Chunked => expect(behind, &LIMITS),
            Body::None => Expected { data: Vec::new(), end: Some(Ok(0)) },
        };
        let end = body.end;
        requests.push(Asked { head, body });
        // Nothing can be parsed after an incomplete or invalid body.
        let Some(Ok(end)) = end else {
            rest = &[];
            break;
        };
        rest = &behind[end..];
    }
    Sent { requests, rest, fault }
}

/// Returns the expected status and body of a request; `None` for any status that refuses it.
fn owed(asked: &Asked) -> Option<(u16, Vec<u8>)> {
    let Asked { head, body } = asked;
    let get = head.method == "GET" || head.method == "HEAD";
    Some(match (&head.method[..], &head.path[..]) {
        (_, b"/foo") if get => (200, b"bar".to_vec()),
        (_, b"/big") if get => (200, vec![b'g'; BIG]),
        (_, b"/raw") if get => (200, vec![b'r'; RAW]),
        ("POST", b"/echo") => (200, body.data.clone()),
        ("POST", b"/text") if matches!(head.body, Body::Length(length) if length > TEXT_MAX as u64) => {
            (413, b"413 Content Too Large\n".to_vec())
        }
        ("POST", b"/text") if body.data.len() > TEXT_MAX => (413, b"413 Content Too Large\n".to_vec()),
        ("POST", b"/text") => (200, body.data.clone()),
        ("POST", b"/wait") => (200, b"7".to_vec()),
        ("PUT", b"/sink") => (200, b"sunk".to_vec()),
        (_, b"/static") if get => (200, STATIC.to_vec()),
        (_, b"/feed") if get => (200, FED.repeat(FEEDS)),
        (_, b"/late") if get => (200, b"late".to_vec()),
        ("PUT", b"/early") => (200, b"early".to_vec()),
        ("POST", b"/hex") => {
            (200, body.data.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
        }
        (_, b"/fill") if get => (200, vec![b'f'; RAW]),
        _ => return None,
    })
}

/// Returns whether the response may have waited for the body, so that an error in the body becomes the response.
fn waits(asked: &Asked) -> bool {
    let head = &asked.head;
    let post = head.method == "POST" && (&head.path[..] == b"/text" || &head.path[..] == b"/wait");
    let get = head.method == "GET" || head.method == "HEAD";
    post || get && matches!(&head.path[..], b"/late" | b"/feed") || writes_nothing(asked)
}

/// Returns whether this is an echo that had nothing to send back.
fn writes_nothing(Asked { head, body }: &Asked) -> bool {
    head.method == "POST" && matches!(&head.path[..], b"/echo" | b"/hex") && body.data.is_empty()
}

/// Both directions of a connection, printed if a check fails.
struct Shown<'a>(&'a [u8], &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sent: {}\ngot: {}", self.0.escape_ascii(), self.1.escape_ascii());
        }
    }
}

fn answers(sent: &[u8], got: &[u8], fate: Fate, reset: bool) {
    let _shown = Shown(sent, got);
    let Sent { requests, rest: behind, fault } = asked(sent);
    // Only without timeouts, a shutdown or a reset must every response be complete.
    let calm = !fate.time && !fate.shutdown && !reset;
    let mut rest = got;
    for (number, request) in requests.iter().enumerate() {
        rest = leave(rest, &request.head);
        let Some(response) = read(rest, request.head.method == "HEAD") else {
            assert!(!calm, "request {number} was not answered: {rest:?}");
            return;
        };
        rest = &rest[response.size..];
        if !one(request, &response, calm) {
            assert!(rest.is_empty(), "{} bytes after the last response", rest.len());
            return;
        }
    }
    let response = read(rest, behind.starts_with(b"HEAD "));
    match (fault, &response) {
        (Some(status), Some(response)) => {
            assert!(response.status == status || (!calm && response.status == 408), "{status}: {response:?}");
        }
        (Some(status), None) => assert!(!calm, "not refused with {status}"),
        (None, Some(response)) => {
            assert!(fate.time && response.status == 408, "a response without a request: {response:?}");
        }
        (None, None) => assert!(!calm || rest.is_empty(), "part of a response without a request"),
    }
    if let Some(response) = response {
        assert!(
            response.closes() && (response.complete || !calm),
            "a refusal that does not end: {response:?}"
        );
        assert_eq!(response.size, rest.len(), "bytes after a refusal");
    }
}

/// Reads a response. A 408 may be sent before the server has read that the method is `HEAD`.
fn read(got: &[u8], to_head: bool) -> Option<Response> {
    let response = Response::read(got, to_head)?;
    let early = to_head && response.status == 408 && response.size < got.len();
    if early { Response::read(got, false) } else { Some(response) }
}

/// Strips an interim response, which is allowed only once, and only if the request expects it.
fn leave<'a>(got: &'a [u8], head: &Understood) -> &'a [u8] {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    match got.strip_prefix(interim) {
        Some(rest) => {
            assert!(head.expects, "an unexpected 100 Continue");
            assert!(!rest.starts_with(interim), "100 Continue twice");
            rest
        }
        None => got,
    }
}

/// Checks the response to one request. Returns whether another response may follow.
fn one(asked: &Asked, response: &Response, calm: bool) -> bool {
    let Asked { head, body } = asked;
    let whole = matches!(body.end, Some(Ok(_)));
    assert!(response.status != 500 && response.status >= 200, "{response:?}");
    let late = !calm && response.status == 408;
    let broken = match body.end {
        Some(Ok(_)) => None,
        Some(Err(status)) => Some(status),
        None => Some(400), // the peer's stream ends early
    };
    match owed(asked) {
        _ if late => {}
        // An error in the body, or an early end of stream, may replace a response that has not begun.
        _ if waits(asked) && broken.is_some_and(|status| status == response.status) => {}
        Some((status, body)) => {
            assert_eq!(response.status, status, "{head:?}");
            let cut = broken.is_some() && writes_nothing(asked);
            assert!(!calm || !cut, "cut short although nothing had been written: {response:?}");
            if head.method == "HEAD" {
                assert!(response.body.is_empty());
            } else if whole && response.complete && (calm || !response.to_the_end) {
                assert_eq!(response.body, body);
            } else {
                assert!(body.starts_with(&response.body), "{:?} is not of {body:?}", response.body);
            }
        }
        None => assert!(matches!(response.status, 204 | 404 | 405), "{response:?}"),
    }
    if !(late || waits(asked) && broken.is_some()) {
        assert_eq!(response.field("x-mark"), Some(&b"1"[..]), "{response:?}");
    }
    let echo = matches!(&head.path[..], b"/echo" | b"/hex");
    assert!(response.complete || !calm || (echo && !whole), "cut short for no reason: {response:?}");
    let stays = head.keep_alive && !late && whole && !response.to_the_end;
    if !response.closes() && whole && !late {
        assert!(stays, "a connection that must close stays open");
    }
    if response.closes() && stays && calm {
        // In HTTP/1.0, a body of unknown length ends with the connection.
        let old = head.minor == 0 && matches!(&head.path[..], b"/raw" | b"/feed" | b"/fill" | b"/hex");
        assert!(head.expects || old, "closed for no reason");
    }
    response.complete && !response.closes() && !response.to_the_end && whole
}
