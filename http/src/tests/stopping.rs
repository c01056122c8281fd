//! Shutdown of the server, and peers that leave: which requests are still served, and how exchanges are notified.

extern crate std;

use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use lightcone_core::Handler;

use crate::{Exchange, Flow, Http, Limits, RequestMessage, State, Stats, Status, Transfer};

use super::rig::{Rig, ok, response};

const GET: &[u8] = b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSE: &str = "Connection: close\r\n";
/// The default of [`Limits::newcomer_time`], in milliseconds.
const MOMENT: u64 = 200;

type Told = Rc<RefCell<Vec<&'static str>>>;

/// Waits, and notes its notifications.
#[derive(Clone)]
struct Wait {
    told: Told,
    /// What it returns when the server shuts down, and when the peer ends its stream.
    on: [Flow; 2],
}

impl<S: State> Exchange<S> for Wait {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.consume(io.body().len());
        Flow::More
    }

    fn shutdown(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        self.told.borrow_mut().push("shutdown");
        self.on[0]
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.told.borrow_mut().push("peer_closed");
        if self.on[1] == Flow::Done && io.is_ready() {
            return io.respond(|_, response| response.text("late"));
        }
        self.on[1]
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.told.borrow_mut().push("dropped");
    }
}

/// Returns a server with a streamed and a deferred response in a group, and the notifications of their exchanges.
fn server(stats: &'static Stats, on: [Flow; 2]) -> (Rig<impl Handler<Message = RequestMessage<()>>>, Told) {
    struct Plain;
    impl State for Plain {
        type Message = ();
    }
    let told = Told::default();
    let wait = move |told: &Told| Wait { told: Rc::clone(told), on };
    let (events, poll) = (Rc::clone(&told), Rc::clone(&told));
    let group = Http::group()
        .get("/events", move |_request, response| response.stream(None, wait(&events)))
        .get("/poll", move |_request, response| response.defer(wait(&poll)));
    let app = Http::with(Plain)
        .stats(stats)
        .get("/foo", |_request, response| response.text("bar"))
        .post("/collect", |request, response| {
            request.collect::<8, _>(response, |_, body, response| response.display(body.len()))
        })
        .nest("/wait", group);
    (Rig::untimed(app), told)
}

const GO_ON: [Flow; 2] = [Flow::More; 2];
const EVENTS: &[u8] = b"GET /wait/events HTTP/1.1\r\nHost: a\r\n\r\n";
const POLL: &[u8] = b"GET /wait/poll HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_request_that_has_come_is_answered_with_a_close() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, GO_ON);
    let (asks, idle) = (rig.connect(), rig.connect());
    rig.send(idle, GET);
    assert_eq!(rig.take(idle), ok("bar"));
    rig.pass(60_000);
    rig.peers[asks].inbox.extend_from_slice(GET); // without an event
    rig.shutdown();
    assert_eq!(rig.take(asks), response("200 OK", CLOSE, "bar"));
    for peer in [asks, idle] {
        assert!(rig.peers[peer].shut && !rig.peers[peer].closed, "{peer}: a staged close");
        // A request that comes too late is read and discarded, so that the connection is not reset.
        rig.send(peer, GET);
        assert_eq!((rig.take(peer), rig.unread(peer)), (String::new(), 0));
        rig.end(peer);
        assert!(rig.peers[peer].closed && !rig.peers[peer].reset);
    }
}

#[test]
fn all_received_requests_of_a_pipeline_are_answered_and_the_last_announces_the_close() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, GO_ON);
    let peer = rig.connect();
    rig.pass(1_000);
    rig.peers[peer].inbox.extend_from_slice(&[GET, GET, GET].concat());
    rig.shutdown();
    assert_eq!(rig.take(peer), ok("bar") + &ok("bar") + &response("200 OK", CLOSE, "bar"));
    assert!(rig.peers[peer].shut);
}

#[test]
fn a_new_connection_and_one_that_was_just_used_have_a_moment_for_a_request() {
    static STATS: Stats = Stats::new();
    for uses in [false, true] {
        for asks in [false, true] {
            let (mut rig, _) = server(&STATS, GO_ON);
            let peer = rig.connect();
            rig.pass(MOMENT);
            if uses {
                rig.send(peer, GET);
                rig.take(peer);
                rig.pass(MOMENT - 1);
            }
            rig.shutdown();
            rig.pass(MOMENT - 1);
            assert!(!rig.peers[peer].shut);
            if asks {
                rig.send(peer, GET);
                assert_eq!(rig.take(peer), response("200 OK", CLOSE, "bar"));
            } else {
                rig.pass(1);
            }
            assert!(rig.peers[peer].shut && !rig.peers[peer].closed);
            assert_eq!(rig.take(peer), "");
        }
    }
}

#[test]
fn a_request_that_begins_in_the_moment_has_the_time_of_others() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, GO_ON);
    let (slow, late) = (rig.connect(), rig.connect());
    rig.shutdown();
    for peer in [slow, late] {
        rig.send(peer, &GET[..20]);
    }
    rig.sleep(MOMENT + 2_000);
    rig.send(slow, &GET[20..]);
    assert_eq!(rig.take(slow), response("200 OK", CLOSE, "bar"));
    rig.sleep(8_000);
    assert!(rig.take(late).starts_with("HTTP/1.1 408 "));
}

#[test]
fn without_a_moment_idle_connections_are_closed_at_once() {
    let limits = Limits { newcomer_time: Duration::ZERO, ..Limits::DEFAULT };
    let mut rig =
        Rig::untimed(Http::new().limits(limits).get("/foo", |_request, response| response.text("bar")));
    let peer = rig.connect();
    rig.shutdown();
    assert!(rig.peers[peer].shut);
}

#[test]
fn exchanges_are_notified_of_a_shutdown_at_once_and_once() {
    static STATS: Stats = Stats::new();
    for (request, on, told) in [
        (EVENTS, Flow::More, ["shutdown"].as_slice()),
        (EVENTS, Flow::Done, &["shutdown", "dropped"]),
        (EVENTS, Flow::Abort, &["shutdown", "dropped"]),
        (POLL, Flow::More, &["shutdown"]),
        (POLL, Flow::Abort, &["shutdown", "dropped"]),
    ] {
        // In progress before the shutdown, found by the last read, and begun after that.
        for begun in ["before", "in", "after"] {
            let (mut rig, seen) = server(&STATS, [on, Flow::More]);
            let peer = rig.connect();
            if begun == "before" {
                rig.send(peer, request);
            } else if begun == "in" {
                rig.peers[peer].inbox.extend_from_slice(request);
            }
            rig.shutdown();
            if begun == "after" {
                rig.send(peer, request);
            }
            assert_eq!(*seen.borrow(), told, "{on:?} {begun}");
            assert_eq!(rig.peers[peer].shut, on != Flow::More, "{on:?} {begun}");
            let answer = rig.take(peer);
            assert_eq!(answer.ends_with("0\r\n\r\n"), on == Flow::Done, "{on:?} {begun}: {answer}");
        }
    }
}

#[test]
fn exchanges_are_notified_that_their_peer_has_ended() {
    static STATS: Stats = Stats::new();
    for (request, on, at_once) in [
        (EVENTS, Flow::More, false),
        (EVENTS, Flow::Abort, true),
        (POLL, Flow::More, false),
        (POLL, Flow::Abort, true),
        (POLL, Flow::Done, true),
    ] {
        let (mut rig, seen) = server(&STATS, [Flow::More, on]);
        let peer = rig.connect();
        rig.send(peer, request);
        assert_eq!(*seen.borrow(), [""; 0]);
        rig.end(peer);
        assert_eq!(seen.borrow().first(), Some(&"peer_closed"));
        assert_eq!(
            (rig.peers[peer].closed, seen.borrow().contains(&"dropped")),
            (at_once, at_once),
            "{on:?}"
        );
        assert_eq!(rig.take(peer).ends_with("late"), on == Flow::Done);
    }
}

#[test]
fn an_exchange_that_begins_after_its_peer_has_ended_learns_it() {
    static STATS: Stats = Stats::new();
    let (mut rig, seen) = server(&STATS, [Flow::More, Flow::Abort]);
    let peer = rig.connect();
    rig.peers[peer].inbox.extend_from_slice(&[GET, EVENTS].concat());
    rig.end(peer);
    assert_eq!(*seen.borrow(), ["peer_closed", "dropped"]);
    assert!(rig.take(peer).starts_with(&ok("bar")) && rig.peers[peer].closed);
}

#[test]
fn a_peer_that_ends_within_a_body_is_refused_before_the_end_is_reported() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, GO_ON);
    let peer = rig.connect();
    rig.send(peer, b"POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    rig.end(peer);
    assert!(rig.take(peer).starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_request_that_is_given_up_counts_as_aborted() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, [Flow::More, Flow::Abort]);
    for request in [EVENTS, POLL] {
        let peer = rig.connect();
        rig.send(peer, request);
        rig.end(peer);
        assert!(rig.peers[peer].closed && !rig.peers[peer].reset);
    }
    let refused = STATS.refusals().map(|(_, count)| count).sum::<usize>();
    assert_eq!((STATS.aborted(), STATS.failures(), refused), (2, 0, 0));
}

#[test]
fn an_answer_that_its_connection_delimits_is_reset_when_it_is_given_up() {
    static STATS: Stats = Stats::new();
    let (mut rig, _) = server(&STATS, [Flow::Abort, Flow::More]);
    let peer = rig.connect();
    rig.send(peer, b"GET /wait/events HTTP/1.0\r\n\r\n");
    assert!(rig.take(peer).starts_with(&std::format!("HTTP/1.1 {}", Status::OK.code())));
    rig.shutdown();
    assert!(rig.peers[peer].closed && rig.peers[peer].reset);
}

/// Responds with whether the server is stopping: in each line, in a call or at the shutdown.
struct Asks;

impl<S: State> Exchange<S> for Asks {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let stops = io.is_stopping();
        let _ = writeln!(io, "{stops}");
        Flow::More
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let stops = io.is_stopping();
        let _ = writeln!(io, "shutdown {stops}");
        Flow::Done
    }
}

#[test]
fn handlers_and_exchanges_see_that_the_server_stops() {
    let app = Http::new()
        .get("/foo", |request, response| response.display(request.is_stopping()))
        .get("/events", |_request, response| response.stream(None, Asks));
    let mut rig = Rig::untimed(app);
    let (idle, early, late) = (rig.connect(), rig.connect(), rig.connect());
    rig.send(idle, GET);
    assert_eq!(rig.take(idle), ok("false"));
    rig.send(early, b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.shutdown();
    // One request is on its way when the shutdown begins, and so is one whose exchange begins after it.
    rig.send(idle, GET);
    assert_eq!(rig.take(idle), response("200 OK", CLOSE, "true"));
    rig.send(late, b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    let bodies = [early, late].map(|peer| {
        let answer = rig.take(peer);
        String::from(answer.split_once("\r\n\r\n").unwrap().1)
    });
    assert_eq!(bodies[0], "6\r\nfalse\n\r\ne\r\nshutdown true\n\r\n0\r\n\r\n");
    assert_eq!(bodies[1], "5\r\ntrue\n\r\ne\r\nshutdown true\n\r\n0\r\n\r\n");
}
