//! Routes and exchanges that panic, over real sockets: on the poller of the native driver and of `select`, and on
//! workers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_alloc,
    reason = "as in every test: a failure is a panic"
)]

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;

use lightcone::endpoint::Endpoint;
use lightcone::http::{
    AccessLog, Done, Exchange, Flow, Http, Outcome, Reply, RequestMessage, State, Stats, Transfer,
};
use lightcone::workers;
use lightcone::{Builder, DriverName, Engine, Handler};

const PATIENCE: Duration = Duration::from_secs(20);

/// Panics without printing a message.
fn panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Panics when the body has ended, or when it has written half of the response.
struct Faulty {
    writes: bool,
    _alive: Arc<()>,
}

impl<S: State> Exchange<S> for Faulty {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while !io.body().is_empty() {
            io.consume(io.body().len());
        }
        if self.writes {
            assert_eq!(io.write(b"half"), 4);
            self.writes = false;
            io.wake_at(io.now() + Duration::from_millis(50));
            return Flow::More;
        }
        if io.is_ended() { panic() } else { Flow::More }
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

fn server(probe: &Probe) -> impl Handler<Message = RequestMessage<Infallible>, Data: Send> + use<> {
    let lines = Arc::clone(&probe.lines);
    let (deferred, streamed) = (Arc::clone(&probe.alive), Arc::clone(&probe.alive));
    Http::new()
        .stats(probe.stats)
        .get("/foo", |_request, response| response.text("bar"))
        .get("/panic", |_request, _response| -> Reply<Done> { panic() })
        .post("/deferred", move |_request, response| {
            response.defer(Faulty { writes: false, _alive: Arc::clone(&deferred) })
        })
        .get("/streamed", move |_request, response| {
            response.stream(Some(8), Faulty { writes: true, _alive: Arc::clone(&streamed) })
        })
        .log(AccessLog::to(move |outcome: &Outcome<'_>| lines.lock().unwrap().push(outcome.to_string())))
}

/// Sends a request, and returns what comes back up to the end; `Err` if that is a reset.
fn ask(address: SocketAddr, request: &str) -> Result<String, ErrorKind> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received);
    end.map(|_| String::from_utf8(received).unwrap()).map_err(|error| error.kind())
}

/// What a server counts, logs, and holds in its exchanges.
#[derive(Clone)]
struct Probe {
    stats: &'static Stats,
    lines: Lines,
    alive: Arc<()>,
}

fn probe() -> Probe {
    Probe { stats: Box::leak(Box::new(Stats::new())), lines: Lines::default(), alive: Arc::new(()) }
}

/// Sends requests of which some panic, beside a connection that must not notice.
fn only_their_connections_end<M: Send + 'static>(engine: Engine<M>, probe: &Probe, on_workers: bool) {
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let Endpoint::Inet(address) = *listener.endpoint() else { panic!("an address of TCP") };
    let mut other = TcpStream::connect(address).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut exchange = || {
        other.write_all(b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\nbar") {
            let mut byte = [0];
            other.read_exact(&mut byte).unwrap();
            received.extend_from_slice(&byte);
        }
    };
    exchange();
    let (clients, held) = (probe.stats.requests(), Arc::strong_count(&probe.alive));
    for round in 1..=10 {
        let refused = ask(address, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(
            refused.starts_with("HTTP/1.1 500 ") && refused.ends_with("\r\n\r\n500 Internal Server Error\n")
        );
        exchange();
        let deferred = "POST /deferred HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        assert!(ask(address, deferred).unwrap().starts_with("HTTP/1.1 500 "));
        let cut = ask(address, "GET /streamed HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(cut, Err(ErrorKind::ConnectionReset), "what has begun must not look complete");
        exchange();
        wait_until(|| probe.lines.lock().unwrap().len() == 1 + 5 * round);
        assert_eq!(probe.stats.requests(), clients + 5 * round);
        assert_eq!((probe.stats.failures(), probe.stats.aborted()), (2 * round, round));
        assert_eq!(Arc::strong_count(&probe.alive), held, "exchanges that panicked are dropped");
    }
    let lines = probe.lines.lock().unwrap();
    let count = |start: &str, end: &str| {
        lines.iter().filter(|line| line.starts_with(start) && line.ends_with(end)).count()
    };
    assert_eq!(count("GET /foo 200 3 ", "ms"), 21);
    assert_eq!(count("- - 500 26 -", "-"), 10);
    assert_eq!(count("POST /deferred 500 26 ", "ms"), 10);
    assert_eq!(count("GET /streamed 200 4 ", "ms incomplete"), 10);
    drop(lines);
    drop(other);
    wait_until(|| engine.handle().loads().iter().sum::<u32>() == 0);
    let report = engine.shutdown(Duration::from_secs(5));
    assert_eq!(report.panics(), if on_workers { 0 } else { 30 });
}

fn wait_until(condition: impl Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while !condition() {
        assert!(waited < PATIENCE, "it does not happen");
        thread::sleep(STEP);
        waited += STEP;
    }
}

#[test]
fn over_each_driver() {
    for driver in DriverName::ALL {
        let probe = probe();
        let inner = probe.clone();
        let engine = driver.start(Builder::new().pollers(1), move |_poller| server(&inner)).unwrap();
        only_their_connections_end(engine, &probe, false);
    }
}

#[test]
fn on_workers() {
    let probe = probe();
    let inner = probe.clone();
    let workers = workers::Builder::new().workers(1).start(move |_worker| server(&inner)).unwrap();
    let engine = Builder::new().pollers(1).start(workers.offload()).unwrap();
    only_their_connections_end(engine, &probe, true);
    assert_eq!(workers.shutdown(Duration::from_secs(5)).panics, 30);
}
