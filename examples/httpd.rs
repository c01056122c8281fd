//! An HTTP server with a route of every kind.
//!
//! ```sh
//! cargo run --release --example httpd
//! curl http://127.0.0.1:8080/foo
//! ```
//!
//! With `--workers 8` the routes run on eight threads beside the pollers, and one more is there that blocks: `/slow`
//! sleeps for 10 ms before it answers, which delays nobody but its own connection.
//!
//! A connection that is idle costs its slot alone; one whose peer does not read holds at most 32 KiB of output.

use core::convert::Infallible;
use core::fmt::{self, Display};
use core::time::Duration;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;

use clap::Parser;
use lightcone_core::{CloseReason, Timeouts};
use lightcone_examples::{ServerOptions, UsageError, print_line, serve, serve_on_workers};
use lightcone_http::{AccessLog, Exchange, Flow, Http, Limits, Outcome, Routes, State, Stats, Transfer};
use lightcone_native::{Builder, Handle, PollerContext};
use lightcone_workers::Offloaded;

/// Answers /foo, /plaintext, /json, /echo, /big and /metrics, and with workers /slow.
#[derive(Parser, Debug)]
#[command(name = "httpd", version)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8080")))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// The most bytes of a request's body; a larger one is answered by 413.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(..1 << 47))]
    max_body: u64,

    /// How many seconds a request's head may take to arrive; then it is answered by 408.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    header_timeout: u64,

    /// How many seconds a connection may be idle before it is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle_timeout: u64,

    /// How many threads run the routes beside the pollers, so that one may block: 1 to 256 [default: the pollers do].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,

    /// Print a line for each request.
    #[arg(long)]
    log: bool,
}

/// Output blocks of one connection: 8 of 4 KiB.
const OUTPUT_BLOCKS: usize = 8;

/// Sends a request's body back as it comes.
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.ended() { Flow::Done } else { Flow::More }
    }
}

/// A page that may be larger than the output buffer, and how much of it was sent. In a box, since every connection has
/// room for the largest exchange.
struct Page(Box<(String, usize)>);

impl<S: State> Exchange<S> for Page {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let (page, sent) = &mut *self.0;
        *sent += io.write(page.as_bytes().get(*sent..).unwrap_or_default());
        if *sent == page.len() { Flow::Done } else { Flow::More }
    }
}

/// What `/metrics` shows, as Prometheus reads it.
struct Metrics<'a> {
    /// Each poller's counts, and how many sockets it has.
    engine: (Vec<lightcone_core::Stats>, Vec<u32>),
    /// Each server's.
    http: &'a [Stats],
    /// Who has a server of its own: a poller, or a worker.
    server: &'static str,
}

/// One kind of counts: a line for each who has them.
fn each(
    f: &mut fmt::Formatter<'_>,
    (name, kind): (&str, &str),
    of: &str,
    values: impl Iterator<Item = u64>,
) -> fmt::Result {
    writeln!(f, "# TYPE lightcone_{name} {kind}")?;
    for (number, value) in values.enumerate() {
        writeln!(f, "lightcone_{name}{{{of}=\"{number}\"}} {value}")?;
    }
    Ok(())
}

impl Metrics<'_> {
    fn engine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, loads) = &self.engine;
        each(f, ("connections", "gauge"), "poller", loads.iter().map(|load| u64::from(*load)))?;
        let mut counter = |name: &str, count: fn(&lightcone_core::Stats) -> u64| {
            each(f, (name, "counter"), "poller", engine.iter().map(count))
        };
        counter("connections_accepted_total", |stats| stats.accepted)?;
        counter("connections_turned_away_total", |stats| stats.turned_away)?;
        counter("received_bytes_total", |stats| stats.bytes_in)?;
        counter("sent_bytes_total", |stats| stats.bytes_out)?;
        counter("lost_bytes_total", |stats| stats.bytes_lost)?;
        writeln!(f, "# TYPE lightcone_connections_closed_total counter")?;
        for (poller, stats) in engine.iter().enumerate() {
            for (reason, count) in CloseReason::NAMES.iter().zip(stats.closed) {
                let labels = format_args!("poller=\"{poller}\",reason=\"{reason}\"");
                writeln!(f, "lightcone_connections_closed_total{{{labels}}} {count}")?;
            }
        }
        Ok(())
    }

    fn http(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (http, of) = (self.http, self.server);
        each(f, ("http_requests_total", "counter"), of, http.iter().map(|s| s.requests() as u64))?;
        each(f, ("http_failures_total", "counter"), of, http.iter().map(|s| s.failures() as u64))?;
        writeln!(f, "# TYPE lightcone_http_refusals_total counter")?;
        for (number, stats) in http.iter().enumerate() {
            for (status, count) in stats.refusals() {
                let labels = format_args!("{of}=\"{number}\",status=\"{}\"", status.code());
                writeln!(f, "lightcone_http_refusals_total{{{labels}}} {count}")?;
            }
        }
        Ok(())
    }
}

impl Display for Metrics<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine(f)?;
        self.http(f)
    }
}

/// One poller's or one worker's server.
fn app<F: Fn() -> Metrics<'static> + 'static>(
    number: usize,
    metrics: F,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<(), impl Routes<(), Body: Send> + use<F>> {
    let server = Http::new()
        .limits(limits)
        .get("/plaintext", |_request, response| response.text("Hello, World!"))
        .get("/foo", |_request, response| response.text("bar"))
        .get("/json", |_request, response| response.json(r#"{"message":"Hello, World!"}"#))
        .post("/echo", |request, response| response.stream(request.head.length(), Echo))
        .get("/big", |request, response| match request.query("bytes").map(str::parse) {
            None => response.generate(1 << 20, letters),
            Some(Ok(bytes)) => response.generate(bytes, letters),
            Some(Err(_)) => {
                response.status(400).text("bytes: a number from 0 to 18446744073709551615\n").early()
            }
        })
        .get("/metrics", move |_request, response| {
            let page = metrics().to_string();
            let response = response.header("Content-Type", "text/plain; version=0.0.4");
            response.stream(Some(page.len() as u64), Page(Box::new((page, 0))))
        });
    match stats.get(number) {
        Some(mine) => server.stats(mine),
        None => server,
    }
}

/// One poller's.
fn on_poller(
    poller: &PollerContext<Infallible>,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<(), impl Routes<(), Body: Send> + use<>> {
    let handle = poller.handle();
    let metrics = move || Metrics { engine: (handle.stats(), handle.loads()), http: stats, server: "poller" };
    app(usize::from(poller.id().0), metrics, stats, limits)
}

/// One worker's. The engine that it works for is there when requests come.
fn on_worker(
    worker: usize,
    engine: &'static OnceLock<Handle<Offloaded<Infallible>>>,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<(), impl Routes<(), Body: Send> + use<>> {
    let counts = || engine.get().map(|handle| (handle.stats(), handle.loads())).unwrap_or_default();
    let metrics = move || Metrics { engine: counts(), http: stats, server: "worker" };
    app(worker, metrics, stats, limits).get("/slow", |_request, response| {
        thread::sleep(Duration::from_millis(10));
        response.text("slept\n")
    })
}

/// A body without end: the alphabet, over and over.
fn letters(offset: u64, piece: &mut [u8]) {
    for (byte, at) in piece.iter_mut().zip(offset..) {
        *byte = b'a' + (at % 26) as u8;
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let limits = Limits {
        body: options.max_body,
        head_time: Duration::from_secs(options.header_timeout),
        ..Limits::DEFAULT
    };
    let servers = options.workers.map_or(options.server.pollers(), usize::from);
    // for as long as the process lives, as it serves
    let stats = &*Vec::leak((0..servers).map(|_| Stats::new()).collect());
    let refine = |builder: Builder| -> Result<Builder, UsageError> {
        let idle = Some(Duration::from_secs(options.idle_timeout));
        Ok(builder.output_limit(OUTPUT_BLOCKS).timeouts(Timeouts { idle, ..Timeouts::DEFAULT }))
    };
    let line = |outcome: &Outcome<'_>| print_line(&format!("{} {outcome}", outcome.peer));
    match (options.workers, options.log) {
        (None, false) => {
            serve(&options.server, "http://", refine, move |poller| on_poller(&poller, stats, limits))
        }
        (None, true) => {
            let logged = move |poller| on_poller(&poller, stats, limits).wrap(AccessLog::to(line));
            serve(&options.server, "http://", refine, logged)
        }
        (Some(workers), false) => {
            let make = move |worker| on_worker(worker, &ENGINE, stats, limits);
            serve_on_workers(&options.server, "http://", usize::from(workers), refine, &ENGINE, make)
        }
        (Some(workers), true) => {
            let make = move |worker| on_worker(worker, &ENGINE, stats, limits).wrap(AccessLog::to(line));
            serve_on_workers(&options.server, "http://", usize::from(workers), refine, &ENGINE, make)
        }
    }
}

/// The engine of the workers' servers, once there is one.
static ENGINE: OnceLock<Handle<Offloaded<Infallible>>> = OnceLock::new();
