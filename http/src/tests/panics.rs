//! Handlers and exchanges that panic: what their clients, the counters and the log see. The test catches the panic as a
//! driver does.

extern crate std;

use core::cell::RefCell;
use core::time::Duration;
use std::boxed::Box;
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;

use lightcone_core::poller::{PanicOwner, Poller};
use lightcone_core::{Handler, Token};

use crate::testing::server::TestPoller;
use crate::{AccessLog, Done, Exchange, Flow, Http, Outcome, Reply, State, Stats, Transfer};

use super::rig::{Rig, ok, refusal};

/// Panics without printing a message.
fn panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// What a [`Faulty`] exchange does before it panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Before {
    Nothing,
    Write,
    Flush,
    Respond,
    Stream,
    Wait,
}

/// Panics, and counts when it is dropped.
struct Faulty {
    before: Before,
    _alive: Rc<()>,
}

impl<S: State> Exchange<S> for Faulty {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while !io.body().is_empty() {
            io.consume(io.body().len());
        }
        match self.before {
            Before::Nothing => {}
            Before::Write => assert_eq!(io.write(b"half"), 4),
            Before::Flush => io.flush(),
            Before::Respond => {
                let _ = io.respond(|_, response| response.text("done"));
            }
            Before::Stream => {
                let _ = io.stream(None, |_, response| response);
            }
            Before::Wait => {
                self.before = Before::Nothing;
                io.wake_at(io.now() + Duration::from_secs(1));
                return Flow::More;
            }
        }
        panic()
    }
}

const PATHS: [(&str, Before); 6] = [
    ("nothing", Before::Nothing),
    ("write", Before::Write),
    ("flush", Before::Flush),
    ("respond", Before::Respond),
    ("stream", Before::Stream),
    ("wait", Before::Wait),
];

/// A server with its counters, its log, and what each of its exchanges holds.
struct Setup<H: Handler + 'static> {
    rig: Rig<H>,
    stats: &'static Stats,
    lines: Rc<RefCell<Vec<String>>>,
    alive: Rc<()>,
}

fn setup() -> Setup<impl Handler> {
    let (stats, alive, lines) = (&*Box::leak(Box::new(Stats::new())), Rc::new(()), Rc::default());
    let log: Rc<RefCell<Vec<String>>> = Rc::clone(&lines);
    let (deferring, streaming) = (Rc::clone(&alive), Rc::clone(&alive));
    let faulty = |name: &str, alive: &Rc<()>| {
        let (_, before) = PATHS.into_iter().find(|(path, _)| *path == name).unwrap();
        Faulty { before, _alive: Rc::clone(alive) }
    };
    let app = Http::new()
        .stats(stats)
        .get("/foo", |_request, response| response.text("bar"))
        .get("/at-once", |_request, _response| -> Reply<Done> { panic() })
        .post("/at-once", |_request, _response| -> Reply<Done> { panic() })
        .post("/deferred/{name}", move |request, response| {
            response.defer(faulty(request.param("name"), &deferring))
        })
        .post("/streamed/{name}", move |request, response| {
            response.stream(Some(4), faulty(request.param("name"), &streaming))
        })
        .log(AccessLog::to(move |outcome: &Outcome<'_>| log.borrow_mut().push(outcome.to_string())));
    Setup { rig: Rig::untimed(app), stats, lines, alive }
}

impl<H: Handler> Setup<H> {
    /// Calls the poller for a peer; returns whether the program panicked.
    fn catching(&mut self, peer: usize, call: fn(&mut TestPoller<H>, Token)) -> bool {
        let mut panicked = false;
        self.rig.with_socket(peer, |poller, token| {
            panicked = has_panicked(poller, token, call);
            if panicked {
                poller.run(token);
            }
        });
        panicked
    }

    /// Sends bytes in pieces of this length, up to the panic that they cause. Returns what comes back, and whether the
    /// connection was reset.
    fn ask(&mut self, bytes: &[u8], cut: usize) -> (String, bool) {
        let peer = self.rig.connect();
        let mut panicked = false;
        for piece in bytes.chunks(cut) {
            self.rig.peers[peer].inbox.extend_from_slice(piece);
            panicked |= self.catching(peer, Poller::on_readable);
        }
        while !panicked && self.rig.now().as_millis() < 1_000_000 {
            self.rig.now += Duration::from_secs(1);
            panicked = self.catching(peer, |poller, _| poller.turn());
        }
        assert!(panicked);
        self.rig.end(peer);
        self.rig.sleep(1_000);
        assert!(self.rig.peers[peer].closed, "the connection has ended");
        assert_eq!(Rc::strong_count(&self.alive), 3, "the exchange was dropped");
        (self.rig.take(peer), self.rig.peers[peer].reset)
    }
}

/// Calls the poller. If the program panics, reports that to the poller, as a driver does.
fn has_panicked<H: Handler>(
    poller: &mut TestPoller<H>,
    token: Token,
    call: fn(&mut TestPoller<H>, Token),
) -> bool {
    let panicked = catch_unwind(AssertUnwindSafe(|| call(poller, token))).is_err();
    if panicked {
        assert_eq!(poller.recover(), PanicOwner::Socket(token));
    }
    panicked
}

fn apology() -> String {
    refusal("500 Internal Server Error", "Connection: close\r\n")
}

#[test]
fn a_handler_that_panics_is_answered_with_a_500() {
    let foo = "GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";
    let faults = [
        "GET /at-once HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /at-once HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ];
    for fault in faults {
        for before in 0..3 {
            let wire = [&foo.repeat(before), fault, foo].concat();
            for cut in (1..wire.len()).step_by(7).chain([usize::MAX]) {
                let mut setup = setup();
                let (answer, reset) = setup.ask(wire.as_bytes(), cut);
                assert_eq!(
                    (answer, reset),
                    (ok("bar").repeat(before) + &apology(), false),
                    "in pieces of {cut}"
                );
                assert_eq!(setup.stats.requests(), before + 1, "what follows the request is not served");
                assert_eq!((setup.stats.failures(), setup.stats.aborted()), (1, 0));
                let lines = setup.lines.borrow();
                assert_eq!(lines.len(), before + 1);
                assert_eq!(lines.last().unwrap(), "- - 500 26 -");
                drop(lines);
                assert!(setup.rig.get("/foo").text() == "bar", "other connections go on");
            }
        }
    }
}

#[test]
fn the_response_to_head_has_no_body() {
    let mut setup = setup();
    let (answer, reset) = setup.ask(b"HEAD /at-once HTTP/1.1\r\nHost: a\r\n\r\n", usize::MAX);
    assert_eq!((answer + "500 Internal Server Error\n", reset), (apology(), false));
}

#[test]
fn an_exchange_that_panics_is_answered_if_nothing_was_written() {
    let table = [
        ("/deferred/nothing", true, "POST /deferred/nothing 500 26 "),
        ("/deferred/wait", true, "POST /deferred/wait 500 26 "),
        ("/deferred/respond", false, ""),
        ("/deferred/stream", false, ""),
        ("/streamed/nothing", true, "POST /streamed/nothing 500 26 "),
        ("/streamed/write", false, ""),
        ("/streamed/flush", false, ""),
        // called again at once, since the body has ended: the head is still held back
        ("/streamed/wait", true, "POST /streamed/wait 500 26 "),
    ];
    for (path, answered, line) in table {
        let wire = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        // in pieces, this exchange panics before the body has ended, while the head is held back
        let cuts: &[usize] = if path == "/deferred/stream" { &[usize::MAX] } else { &[1, usize::MAX] };
        for cut in cuts.iter().copied() {
            let mut setup = setup();
            let (answer, reset) = setup.ask(wire.as_bytes(), cut);
            assert_eq!(reset, !answered, "{path} by {cut}: {answer}");
            let stats = (setup.stats.requests(), setup.stats.failures(), setup.stats.aborted());
            let lines = setup.lines.borrow();
            assert_eq!(lines.len(), 1, "{path}: {lines:?}");
            if answered {
                assert_eq!((&*answer, stats), (&*apology(), (1, 1, 0)), "{path}");
                assert!(lines[0].starts_with(line) && lines[0].ends_with("ms"), "{path}: {lines:?}");
            } else {
                assert_eq!((stats.0, stats.2), (1, 1), "{path}");
                assert!(lines[0].ends_with(" incomplete"), "{path}: {lines:?}");
            }
            drop(lines);
            assert!(setup.rig.get("/foo").text() == "bar");
        }
    }
}

#[test]
fn a_log_that_panics_costs_its_connection_and_is_not_called_while_a_panic_unwinds() {
    let app = Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/at-once", |_request, _response| -> Reply<Done> { panic() })
        .log(AccessLog::to(|_: &Outcome<'_>| panic()));
    let mut rig = Rig::untimed(app);
    for path in ["foo", "at-once", "foo"] {
        let peer = rig.connect();
        rig.peers[peer]
            .inbox
            .extend_from_slice(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let mut panics = 0_usize;
        rig.with_socket(peer, |poller, token| {
            let calls: [fn(&mut TestPoller<_>, Token); 3] = [Poller::on_readable, Poller::run, Poller::run];
            panics = calls.into_iter().filter(|call| has_panicked(poller, token, *call)).count();
        });
        assert!(panics >= 1 && rig.peers[peer].shut || rig.peers[peer].closed, "{path}: {panics}");
    }
}
