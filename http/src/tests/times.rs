//! The timeouts of a connection in each of its phases.

extern crate std;

use std::format;
use std::string::String;
use std::time::Duration;

use lightcone_core::{Config, Handler, Instant, Timeouts};

use crate::{Exchange, Flow, Http, Limits, RequestMessage, State, Stats, Transfer};

use super::rig::{Rig, config, ok, refusal};

const CLOSE: &str = "Connection: close\r\n";

/// Schedules one wake-up, and responds then.
struct Once {
    after: u64,
    due: Option<Instant>,
    reads: bool,
}

impl<S: State> Exchange<S> for Once {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if self.reads {
            io.consume(io.body().len());
        }
        match self.due {
            Some(due) if io.now() >= due => return io.respond(|_, response| response.text("waited")),
            Some(_) => {}
            None => {
                let due = io.now() + Duration::from_millis(self.after);
                self.due = Some(due);
                io.wake_at(due);
            }
        }
        Flow::More
    }
}

/// Writes once and never again.
struct Begun(bool);

impl<S: State> Exchange<S> for Begun {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if !self.0 {
            self.0 = io.write(b"begun") > 0;
        }
        Flow::More
    }
}

fn server(limits: Limits) -> Http<(), impl crate::Routes<()>> {
    let once = |request: &crate::Request<'_, ()>| {
        let number = |name| request.query(name).and_then(|n| n.parse().ok()).unwrap_or(0);
        Once { after: number("after"), due: None, reads: number("reads") > 0 }
    };
    Http::new()
        .limits(limits)
        .get("/", |_request, response| response.text("in"))
        .get("/once", move |request, response| response.defer(once(&request)))
        .post("/once", move |request, response| response.defer(once(&request)))
        .post("/collect", |request, response| {
            request.collect::<64, _>(response, |_, body, response| response.display(body.len()))
        })
        .get("/begun", |_request, response| response.stream(None, Begun(false)))
}

/// Returns a rig with an idle timeout of one second.
fn rig(limits: Limits) -> Rig<impl Handler<Message = RequestMessage<<() as State>::Message>>> {
    let timeouts = Timeouts { idle: Some(Duration::from_secs(1)), ..Timeouts::NONE };
    Rig::with_config(server(limits), &Config { timeouts, ..config() })
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(path: &str, length: usize, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn the_idle_timeout_runs_between_requests_only() {
    let mut rig = rig(Limits::DEFAULT);
    let peer = rig.connect();
    rig.send(peer, get("/once?after=2500").as_bytes());
    rig.sleep(2_499);
    assert_eq!(rig.take(peer), "");
    rig.sleep(1);
    assert_eq!(rig.take(peer), ok("waited"));
    rig.sleep(990);
    assert!(!rig.peers[peer].closed);
    rig.send(peer, post("/collect", 3, "a").as_bytes());
    rig.sleep(5_000);
    rig.send(peer, b"bc");
    assert_eq!(rig.take(peer), ok("3"));
    rig.send(peer, b"GET / HTTP");
    rig.sleep(5_000);
    rig.send(peer, b"/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("in"));
    rig.sleep(999);
    assert!(!rig.peers[peer].closed);
    rig.sleep(2);
    assert!(rig.peers[peer].closed, "idle");
}

#[test]
fn a_request_that_has_begun_gets_its_answer_before_the_idle_timeout() {
    let limits =
        Limits { head_time: Duration::from_secs(5), body_time: Duration::from_secs(5), ..Limits::DEFAULT };
    let mut rig = rig(limits);
    let begun = ["GET / HT".into(), post("/collect", 3, "a"), post("/once?reads=1", 3, "a")];
    let peers = begun.map(|bytes| {
        let peer = rig.connect();
        rig.send(peer, bytes.as_bytes());
        peer
    });
    for peer in peers {
        rig.take(peer);
    }
    rig.sleep(5_000);
    for peer in [peers[0], peers[1]] {
        assert_eq!(rig.take(peer), refusal("408 Request Timeout", CLOSE), "{peer}");
    }
}

/// A connection is evicted between requests only: neither a request nor a response is cut off.
#[test]
fn an_idle_connection_makes_room_between_requests_only() {
    let timeouts = Timeouts::NONE;
    let config = Config { sockets: 4, evict_after: Some(Duration::from_secs(1)), timeouts, ..config() };
    let limits = Limits { head_time: Duration::from_mins(1), ..Limits::DEFAULT };
    let mut rig = Rig::with_config(server(limits), &config);
    let [idle, head, answer, stuck] = [(); 4].map(|()| rig.connect());
    rig.send(idle, get("/").as_bytes());
    assert_eq!(rig.take(idle), ok("in"));
    rig.send(head, b"GET / HTTP");
    rig.send(answer, get("/once?after=20000").as_bytes());
    rig.peers[stuck].window = 10;
    rig.send(stuck, get("/").as_bytes());
    rig.sleep(1_000);
    assert!(!rig.peers[idle].closed, "it may have to wait for one second first");
    rig.sleep(9_000);
    let first = rig.knock();
    assert!(rig.is_accepted(first));
    let ended = &rig.peers[idle];
    assert!(ended.closed && !ended.reset && ended.received.is_empty(), "an ordinary end, and nothing else");
    rig.send(first, post("/collect", 3, "a").as_bytes());
    // all four are busy
    rig.sleep(5_000);
    let second = rig.knock();
    rig.sleep(1_000);
    assert!(!rig.is_accepted(second));
    assert!([head, answer, stuck, first].iter().all(|peer| !rig.peers[*peer].closed));
    // each is served to its end, and idle afterwards
    rig.send(head, b"/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(head), ok("in"));
    rig.sleep(10);
    rig.send(first, b"bc");
    assert_eq!(rig.take(first), ok("3"));
    rig.open_window(stuck, usize::MAX);
    assert_eq!(rig.take(stuck), ok("in"));
    rig.sleep(1_100);
    rig.acceptable();
    assert!(rig.is_accepted(second));
    assert!(rig.peers[head].closed, "the first of them");
    rig.sleep(10_000);
    assert_eq!(rig.take(answer), ok("waited"));
}

/// A connection that waits for blocks that others hold is not idle.
#[test]
fn a_request_that_waits_for_room_is_not_idle() {
    let timeouts = Timeouts { idle: Some(Duration::from_secs(1)), ..Timeouts::NONE };
    let few = Config {
        output_blocks: 2,
        output_limit: 2,
        block_size: 512,
        receive_blocks: 0,
        timeouts,
        ..config()
    };
    let app = Http::new()
        .get("/", |_request, response| response.text("in"))
        .get("/big", |_request, response| response.generate(900, |_, piece| piece.fill(b'g')));
    let mut rig = Rig::with_config(app, &few);
    let (hog, peer) = (rig.connect(), rig.connect());
    rig.peers[hog].window = 0;
    rig.send(hog, get("/big").as_bytes());
    rig.send(peer, get("/").as_bytes());
    rig.sleep(900);
    rig.open_window(hog, 1);
    rig.sleep(900);
    assert!(!rig.peers[peer].closed, "it was idle while it waited");
    rig.open_window(hog, usize::MAX);
    rig.sleep(1);
    assert_eq!(rig.take(peer), ok("in"));
    rig.sleep(1_001);
    assert!(rig.peers[peer].closed);
}

#[test]
fn a_time_is_not_lost_while_a_body_is_coming() {
    let limits = Limits { body_time: Duration::from_secs(5), body_step: 1, ..Limits::DEFAULT };
    // When the exchange is to be called, when bytes arrive, and whether the exchange reads them.
    for (after, bytes, reads) in [
        (100, &[][..], 1),
        (3_000, &[1_000], 1),
        (3_000, &[1_000, 2_000], 1),
        (3_000, &[], 0),
        (7_000, &[4_000, 6_500], 1), // later than the first limit of the body
        (7_000, &[4_000, 4_500], 1),
        (12_000, &[4_000, 8_000], 1),
    ] {
        let mut rig = rig(limits);
        let peer = rig.connect();
        let length = bytes.len().max(usize::from(reads == 0 || after < 200));
        rig.send(peer, post(&format!("/once?after={after}&reads={reads}"), length, "").as_bytes());
        let mut now = 0;
        for at in bytes {
            rig.sleep(at - now);
            rig.send(peer, b"b");
            now = *at;
        }
        rig.sleep(after - 1 - now);
        assert_eq!(rig.take(peer), "", "{after} {bytes:?}: too early");
        rig.sleep(1 + after / 255);
        assert_eq!(rig.take(peer), ok("waited"), "{after} {bytes:?}");
    }
}

#[test]
fn a_slow_body_is_refused_though_its_exchange_is_called_again_and_again() {
    let limits = Limits { body_time: Duration::from_secs(5), ..Limits::DEFAULT };
    struct Restless;
    impl<S: State> Exchange<S> for Restless {
        fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
            io.consume(io.body().len());
            io.wake_at(io.now() + Duration::from_millis(7));
            Flow::More
        }
    }
    let mut rig = Rig::untimed(Http::new().limits(limits).post("/", |_q, r| r.defer(Restless)));
    let peer = rig.connect();
    rig.send(peer, post("/", 9, "").as_bytes());
    for _ in 0..4 {
        rig.sleep(1_200);
        rig.send(peer, b"b");
    }
    rig.sleep(190);
    assert_eq!(rig.take(peer), "");
    rig.sleep(30);
    assert_eq!(rig.take(peer), refusal("408 Request Timeout", CLOSE));
}

/// Reads a body and responds with its length.
struct Sink(u64);

impl<S: State> Exchange<S> for Sink {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.0 += io.body().len() as u64;
        io.consume(io.body().len());
        let length = self.0;
        if io.is_ended() { io.respond(|_, response| response.display(length)) } else { Flow::More }
    }
}

/// Sends a body of `length` bytes, in pieces of `piece` bytes every 10 ms, until the server refuses it. Returns what the
/// server has sent, and after how many milliseconds.
fn send_slowly(limits: Limits, length: usize, piece: usize, chunked: bool) -> (String, u64) {
    let mut rig =
        Rig::untimed(Http::new().limits(limits).post("/", |_request, response| response.defer(Sink(0))));
    let peer = rig.connect();
    let chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    rig.send(peer, if chunked { chunks.into() } else { post("/", length, "") }.as_bytes());
    let (mut left, mut took) = (length, 0);
    while left > 0 && !rig.peers[peer].shut {
        rig.sleep(10);
        took += 10;
        let n = left.min(piece);
        left -= n;
        let (mut before, mut after) = (String::new(), "");
        if chunked {
            before = format!("{n:x}\r\n");
            after = if left == 0 { "\r\n0\r\n\r\n" } else { "\r\n" };
        }
        rig.send(peer, &[before.as_bytes(), &std::vec![b'b'; n], after.as_bytes()].concat());
    }
    (rig.take(peer), took)
}

/// `body_step` bytes in each `body_time` are a minimum rate: here 100,000 bytes a second, averaged over one second or ten.
#[test]
fn a_body_has_a_minimum_rate() {
    for seconds in [1, 10] {
        let (time, step) = (u64::from(seconds) * 1_000, seconds * 100_000);
        let limits = Limits {
            body: 1 << 30,
            body_time: Duration::from_millis(time),
            body_step: step,
            ..Limits::DEFAULT
        };
        let length = 4 * step as usize;
        for chunked in [false, true] {
            let (answer, _) = send_slowly(limits, length, 1_200, chunked);
            assert_eq!(answer, ok(&format!("{length}")), "{seconds} s, chunked: {chunked}");
            // the first step of a chunked body may be shorter than the others
            let most = if chunked { 2 * time } else { time };
            for piece in [800, 10] {
                let (answer, took) = send_slowly(limits, length, piece, chunked);
                assert_eq!(answer, refusal("408 Request Timeout", CLOSE), "{seconds} s, chunked: {chunked}");
                assert!((time..=most + time / 200 + 20).contains(&took), "refused after {took} ms of {time}");
            }
        }
    }
}

/// A pause is allowed if it is shorter than `body_time`, and no longer one.
#[test]
fn a_body_may_pause_for_its_time() {
    let limits = Limits { body_time: Duration::from_secs(2), body_step: 70_000, ..Limits::DEFAULT };
    for (pause, stays) in [(1_900, true), (2_050, false)] {
        let mut rig =
            Rig::untimed(Http::new().limits(limits).post("/", |_request, response| response.defer(Sink(0))));
        let peer = rig.connect();
        rig.send(peer, post("/", 700_000, "").as_bytes());
        for _ in 0..10 {
            rig.sleep(pause);
            rig.send(peer, &std::vec![b'b'; 70_000]);
        }
        let expected = if stays { ok("700000") } else { refusal("408 Request Timeout", CLOSE) };
        assert_eq!(rig.take(peer), expected, "{pause}");
    }
}

#[test]
fn an_answer_has_its_time_if_that_is_limited() {
    static STATS: Stats = Stats::new();
    let limits = Limits { answer_time: Some(Duration::from_secs(3)), ..Limits::DEFAULT };
    let mut rig = Rig::untimed(server(limits).stats(&STATS));
    let (early, late, begun) = (rig.connect(), rig.connect(), rig.connect());
    rig.send(early, post("/once?after=4900&reads=1", 1, "").as_bytes());
    rig.sleep(2_000); // the body has a limit of its own
    rig.send(early, b"b");
    rig.send(late, get("/once?after=3001").as_bytes());
    rig.send(begun, get("/begun").as_bytes());
    rig.sleep(2_999);
    assert_eq!(rig.take(early), ok("waited"));
    assert_eq!(rig.take(late), "");
    assert!(!rig.peers[begun].shut);
    rig.sleep(1);
    assert_eq!(rig.take(late), refusal("503 Service Unavailable", CLOSE));
    assert!(rig.take(begun).ends_with("\r\n\r\n5\r\nbegun\r\n"));
    assert!(rig.peers[late].shut && rig.peers[begun].shut);
    let refused = STATS.refusals().find(|(status, _)| status.code() == 503).map(|(_, count)| count);
    assert_eq!((refused, STATS.failures(), STATS.aborted()), (Some(2), 1, 1));
    assert_eq!(Limits::DEFAULT.answer_time, None);
}
