//! Connections that change to another protocol.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::time::Duration;
use std::vec::Vec;
use std::{format, vec};

use lightcone_core::{Config, Timeouts};

use crate::{
    AccessLog, Exchange, Flow, Headers, Http, Middleware, RequestId, RequestMessage, State, Stats, Status,
    Transfer,
};

use super::rig::{DATE, Rig, config, ok, refusal};

const REQUEST: &str = "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
const AFTER: &str = "GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";

#[derive(Default)]
struct App {
    told: Vec<String>,
    id: Option<RequestId>,
}

impl State for App {
    type Message = &'static str;
}

/// Sends lines back in upper case, and ends after the line `end`. The line `wait` schedules a call.
struct Shout;

impl Exchange<App> for Shout {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        io.state.id = Some(io.id());
        while let Some(end) = io.body().iter().position(|byte| *byte == b'\n') {
            match &io.body()[..end] {
                b"end" => return Flow::Done,
                b"wait" => io.wake_at(io.now() + Duration::from_secs(100)),
                b"abort" => return Flow::Abort,
                _ => {}
            }
            let (bytes, mut rest) = io.split();
            assert!(rest.body().is_empty() && rest.split().0.is_empty());
            let line = &mut bytes[..=end];
            line.make_ascii_uppercase();
            if rest.send(&[b"> ", line]).is_err() {
                return Flow::More;
            }
            io.consume(end + 1);
        }
        io.state.told.push(format!("{} ms", io.now().as_millis()));
        Flow::More
    }

    fn wake(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        io.state.told.push(String::from("wake"));
        Flow::More
    }

    fn message(&mut self, message: &'static str, io: &mut Transfer<'_, App>) -> Flow {
        if io.send(&[message.as_bytes()]).is_ok() { Flow::More } else { Flow::Abort }
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        assert_eq!(io.write(b"bye\n"), 4);
        Flow::More
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        io.state.told.push(String::from("peer closed"));
        Flow::Done
    }

    fn disconnected(&mut self, io: &mut Transfer<'_, App>) {
        assert!(io.send(&[b"too late"]).is_err());
        io.state.told.push(String::from("disconnected"));
    }
}

type Server = Rig<Http<App, crate::route::Route<Up, Shout, crate::ChainEnd>>>;
type Up = fn(crate::Request<'_, App>, crate::Response<'_>) -> crate::Reply<Shout>;

fn up(_: crate::Request<'_, App>, response: crate::Response<'_>) -> crate::Reply<Shout> {
    response.header("X-Shout", "loud").upgrade("shout", Shout)
}

fn server(config: &Config) -> Server {
    Rig::with_config(Http::with(App::default()).get("/up", up as Up), config)
}

fn switching() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nServer: lightcone\r\n{DATE}X-Shout: loud\r\nUpgrade: shout\r\n\
         Connection: Upgrade\r\n\r\n"
    )
}

#[test]
fn what_follows_the_request_belongs_to_the_protocol_in_all_cuts() {
    // A request that follows is no request any more.
    let stream = format!("{REQUEST}one\ntwo\n{AFTER}end\nrest");
    let expected = switching() + "> ONE\n> TWO\n> GET /FOO HTTP/1.1\r\n> HOST: A\r\n> \r\n";
    for cut in 0..=stream.len() {
        let mut rig = server(&config());
        let peer = rig.connect();
        let (first, second) = stream.as_bytes().split_at(cut);
        rig.send(peer, first);
        rig.send(peer, second);
        assert_eq!(rig.take(peer), expected, "cut at {cut}");
        assert!(rig.peers[peer].shut && !rig.peers[peer].closed, "it ends in stages");
        rig.end(peer);
        assert!(rig.peers[peer].closed && !rig.peers[peer].reset);
        assert!(!rig.handler().state_mut().told.iter().any(|told| told == "disconnected"));
    }
}

#[test]
fn output_without_room_waits_and_the_line_stays_in_the_input() {
    let mut rig = server(&config());
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    assert_eq!(rig.take(peer), switching());
    rig.set_window(peer, 0);
    let lines = "x\n".repeat(40_000);
    rig.send(peer, lines.as_bytes());
    assert!(rig.unread(peer) > 0, "it is not read while nothing can be sent");
    rig.set_window(peer, usize::MAX);
    assert_eq!(rig.take(peer), "> X\n".repeat(40_000));
}

#[test]
fn requests_that_cannot_be_upgraded_are_refused() {
    let mut rig = server(&config());
    let send = |rig: &mut Server, request: &str| {
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        rig.take(peer)
    };
    let with_body = REQUEST.replace("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\na");
    assert!(send(&mut rig, &with_body).starts_with("HTTP/1.1 400 "));
    let old = send(&mut rig, &REQUEST.replace("1.1", "1.0"));
    assert!(
        old.starts_with("HTTP/1.1 426 ") && old.contains("Upgrade: shout\r\nConnection: close, Upgrade\r\n"),
        "{old}"
    );
    let head = send(&mut rig, &REQUEST.replace("GET", "HEAD"));
    assert!(head.starts_with("HTTP/1.1 426 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(rig.handler().state_mut().told.is_empty());
    // a client that announces the end of the connection, which the protocol decides about
    let closes = send(&mut rig, &REQUEST.replace("Upgrade\r\n", "close, Upgrade\r\n"));
    assert_eq!(closes, switching());
}

#[test]
fn ends() {
    let told = |rig: &mut Server| rig.handler().state_mut().told.last().cloned();
    // the peer ends its stream, in the middle of a line
    let mut rig = server(&config());
    let peer = rig.connect();
    rig.send(peer, format!("{REQUEST}a\nb").as_bytes());
    rig.end(peer);
    assert!(rig.take(peer).ends_with("> A\n") && rig.peers[peer].closed && !rig.peers[peer].reset);
    assert_eq!(told(&mut rig).as_deref(), Some("peer closed"));
    // the peer resets the connection
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    rig.reset(peer);
    assert_eq!(told(&mut rig).as_deref(), Some("disconnected"));
    // the exchange gives up
    let peer = rig.connect();
    rig.send(peer, format!("{REQUEST}a\nabort\n").as_bytes());
    assert!(rig.peers[peer].reset && !rig.peers[peer].shut, "it must not look like the end of the protocol");
    // and after the peer has ended its stream, in the middle of its input, or upon a message
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    rig.set_window(peer, 0);
    rig.send(peer, b"a\nabort\n");
    rig.end(peer);
    rig.set_window(peer, usize::MAX);
    assert!(rig.peers[peer].reset);
    // the server stops
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    rig.stop(Duration::from_secs(2));
    assert!(rig.take(peer).ends_with("bye\n") && !rig.peers[peer].shut);
    rig.pass(3_000);
    assert_eq!(told(&mut rig).as_deref(), Some("disconnected"));
    assert!(rig.peers[peer].closed);
}

#[test]
fn messages_and_wake_ups_come_and_no_timeout_of_requests_does() {
    let timeouts = Timeouts { write_stall: None, ..Timeouts::DEFAULT };
    let mut rig = server(&Config { timeouts, ..config() });
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    rig.sleep(10_000_000);
    assert_eq!((rig.take(peer), rig.peers[peer].shut), (switching(), false));
    rig.send(peer, b"wait\n");
    rig.sleep(200_000);
    assert_eq!(rig.handler().state_mut().told, ["0 ms", "10000000 ms", "10000000 ms", "wake", "10100000 ms"]);
    let id = rig.handler().state_mut().id.unwrap();
    rig.message(peer, id.message("posted"));
    rig.message(peer, RequestMessage::to_all(" to all"));
    assert_eq!(rig.take(peer), "> WAIT\nposted to all");
}

#[test]
fn the_log_and_the_counters_see_one_request() {
    static STATS: Stats = Stats::new();

    struct Stamp;
    impl<S: State> Middleware<S> for Stamp {
        fn head(&self, status: Status, headers: &mut Headers<'_>) {
            headers.add("X-Status", status.code());
        }
    }

    let lines: Rc<RefCell<Vec<String>>> = Rc::default();
    let log = Rc::clone(&lines);
    let app = Http::with(App::default())
        .stats(&STATS)
        .get("/up", up)
        .get("/foo", |_request, response| response.text("bar"))
        .wrap(Stamp)
        .log(AccessLog::to(move |outcome| log.borrow_mut().push(format!("{outcome}"))));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    assert!(rig.take(peer).contains("X-Status: 101\r\n"));
    rig.pass(5_000);
    rig.send(peer, b"a\nend\n");
    let peer = rig.connect();
    rig.send(peer, REQUEST.as_bytes());
    rig.reset(peer);
    assert_eq!(*lines.borrow(), vec!["GET /up 101 4 5000ms", "GET /up 101 0 0ms incomplete"]);
    assert_eq!((STATS.requests(), STATS.aborted()), (2, 1));
}

#[test]
fn an_upgrade_leaves_other_routes_alone() {
    let app = Http::with(App::default())
        .get("/up", up)
        .get("/foo", |_request, response| response.text("bar"))
        .get("/bad", |_request, response| response.header("Bad name", "x").upgrade("shout", Shout));
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, AFTER.as_bytes());
    rig.send(peer, AFTER.replace("foo", "bad").as_bytes());
    assert_eq!(rig.take(peer), ok("bar") + &refusal("500 Internal Server Error", ""));
    rig.send(peer, REQUEST.as_bytes());
    assert!(rig.take(peer).starts_with("HTTP/1.1 101 "));
}

/// The whole life of an upgraded connection, with its exchange on the heap.
#[cfg(feature = "alloc")]
#[test]
fn an_exchange_on_the_heap_is_called_as_any_other() {
    let app =
        Http::with(App::default()).get("/up", |_request, response| response.upgrade("shout", Shout).boxed());
    let mut rig = Rig::untimed(app);
    let peer = rig.connect();
    rig.send(peer, format!("{REQUEST}one\nwait\n").as_bytes());
    rig.sleep(100_000);
    rig.message(peer, RequestMessage::to_all("posted\n"));
    rig.stop(Duration::from_secs(100));
    assert!(rig.take(peer).ends_with("> ONE\n> WAIT\nposted\nbye\n"));
    rig.reset(peer);
    let told = core::mem::take(&mut rig.handler().state_mut().told);
    assert_eq!(told, ["0 ms", "0 ms", "wake", "100000 ms", "100000 ms", "100000 ms", "disconnected"]);
}
