//! An HTTP server with a route of every kind.
//!
//! ```sh
//! cargo run --release --example httpd
//! curl http://127.0.0.1:8080/foo
//! ```
//!
//! A connection that is idle costs its slot alone; one whose peer does not read holds at most 32 KiB of output.

use core::convert::Infallible;
use core::fmt::{self, Display};
use core::time::Duration;
use std::process::ExitCode;

use clap::Parser;
use lightcone_core::{CloseReason, Timeouts};
use lightcone_examples::{ServerOptions, UsageError, print_line, serve, within};
use lightcone_http::{AccessLog, Exchange, Flow, Http, Limits, Outcome, Routes, State, Stats, Transfer};
use lightcone_native::{Builder, Handle, PollerContext};

/// Answers /foo, /plaintext, /json, /echo, /big and /metrics.
#[derive(Parser, Debug)]
#[command(name = "httpd", version)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8080")))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// The most bytes of a request's body; a larger one is answered by 413.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, allow_negative_numbers = true, value_parser = within::<u64>(0..=BODY_MAX))]
    max_body: u64,

    /// How many seconds a request's head may take to arrive; then it is answered by 408.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    header_timeout: u64,

    /// How many seconds a connection may be idle before it is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 75, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    idle_timeout: u64,

    /// Print a line for each request.
    #[arg(long)]
    log: bool,
}

/// The longest body that can be taken or given: 256 TiB less a byte.
const BODY_MAX: u64 = (1 << 48) - 1;
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
    handle: &'a Handle<Infallible>,
    http: &'a [Stats],
}

impl Metrics<'_> {
    /// One family of samples, one a poller.
    fn each(
        &self,
        f: &mut fmt::Formatter<'_>,
        [name, kind, help]: [&str; 3],
        value: impl Fn(usize) -> u64,
    ) -> fmt::Result {
        family(f, [name, kind, help])?;
        for poller in 0..self.http.len() {
            writeln!(f, "lightcone_{name}{{poller=\"{poller}\"}} {}", value(poller))?;
        }
        Ok(())
    }
}

fn family(f: &mut fmt::Formatter<'_>, [name, kind, help]: [&str; 3]) -> fmt::Result {
    writeln!(f, "# HELP lightcone_{name} {help}\n# TYPE lightcone_{name} {kind}")
}

const CONNECTIONS: [&str; 3] = ["connections", "gauge", "Connections that are open or on their way."];
const ACCEPTED: [&str; 3] = ["connections_accepted_total", "counter", "Connections that were opened."];
const TURNED_AWAY: [&str; 3] =
    ["connections_turned_away_total", "counter", "Connections that were closed unserved."];
const CLOSED: [&str; 3] = ["connections_closed_total", "counter", "Connections that have ended, by reason."];
const RECEIVED: [&str; 3] = ["received_bytes_total", "counter", "Bytes received."];
const SENT: [&str; 3] = ["sent_bytes_total", "counter", "Bytes sent."];
const LOST: [&str; 3] = ["lost_bytes_total", "counter", "Bytes of answers that their peers did not take."];
const REQUESTS: [&str; 3] = ["http_requests_total", "counter", "Requests that were answered by routes."];
const FAILURES: [&str; 3] = ["http_failures_total", "counter", "Of these, those with a status from 400 on."];
const REFUSALS: [&str; 3] = ["http_refusals_total", "counter", "What the server itself refused, by status."];

impl Display for Metrics<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (engine, loads) = (self.handle.stats(), self.handle.loads());
        let of = |poller: usize| engine.get(poller).copied().unwrap_or_default();
        let http =
            |poller: usize, count: fn(&Stats) -> usize| self.http.get(poller).map_or(0, |s| count(s) as u64);
        self.each(f, CONNECTIONS, |poller| loads.get(poller).copied().unwrap_or(0).into())?;
        self.each(f, ACCEPTED, |poller| of(poller).accepted)?;
        self.each(f, TURNED_AWAY, |poller| of(poller).turned_away)?;
        self.each(f, RECEIVED, |poller| of(poller).bytes_in)?;
        self.each(f, SENT, |poller| of(poller).bytes_out)?;
        self.each(f, LOST, |poller| of(poller).bytes_lost)?;
        self.each(f, REQUESTS, |poller| http(poller, Stats::requests))?;
        self.each(f, FAILURES, |poller| http(poller, Stats::failures))?;
        family(f, CLOSED)?;
        for (poller, stats) in engine.iter().enumerate() {
            for (reason, count) in CloseReason::NAMES.iter().zip(stats.closed) {
                let labels = format_args!("poller=\"{poller}\",reason=\"{reason}\"");
                writeln!(f, "lightcone_connections_closed_total{{{labels}}} {count}")?;
            }
        }
        family(f, REFUSALS)?;
        for (poller, stats) in self.http.iter().enumerate() {
            for (status, count) in stats.refusals() {
                let labels = format_args!("poller=\"{poller}\",status=\"{}\"", status.code());
                writeln!(f, "lightcone_http_refusals_total{{{labels}}} {count}")?;
            }
        }
        Ok(())
    }
}

/// One poller's server.
fn app(
    poller: &PollerContext<Infallible>,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<(), impl Routes<()> + use<>> {
    let handle = poller.handle();
    let server = Http::new()
        .limits(limits)
        .get("/plaintext", |_request, response| response.text("Hello, World!"))
        .get("/foo", |_request, response| response.text("bar"))
        .get("/json", |_request, response| response.json(r#"{"message":"Hello, World!"}"#))
        .post("/echo", |request, response| {
            let response = response.header("Content-Type", "application/octet-stream");
            response.stream(request.head.length(), Echo)
        })
        .get("/big", |request, response| match request.query("bytes").map_or(Ok(1 << 20), str::parse) {
            Ok(bytes @ 0..=BODY_MAX) => {
                response.header("Content-Type", "text/plain").generate(bytes, letters)
            }
            _ => {
                let rule = format_args!("bytes: a number from 0 to {BODY_MAX}\n");
                response.status(400).display(rule).early()
            }
        })
        .get("/metrics", move |_request, response| {
            let page = Metrics { handle: &handle, http: stats }.to_string();
            let response = response.header("Content-Type", "text/plain; version=0.0.4");
            response.stream(Some(page.len() as u64), Page(Box::new((page, 0))))
        });
    match stats.get(usize::from(poller.id().0)) {
        Some(mine) => server.stats(mine),
        None => server,
    }
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
    // for as long as the process lives, as it serves
    let stats = &*Vec::leak((0..options.server.pollers()).map(|_| Stats::new()).collect());
    let refine = |builder: Builder| -> Result<Builder, UsageError> {
        let idle = Some(Duration::from_secs(options.idle_timeout));
        // who has not asked anything yet has no longer than who has
        let first_byte = Timeouts::DEFAULT.first_byte.min(idle);
        Ok(builder.output_limit(OUTPUT_BLOCKS).timeouts(Timeouts { first_byte, idle, ..Timeouts::DEFAULT }))
    };
    if options.log {
        let line = |outcome: &Outcome<'_>| print_line(&format!("{} {outcome}", outcome.peer));
        let logged = move |poller| app(&poller, stats, limits).wrap(AccessLog::to(line));
        serve(&options.server, "http://", refine, logged)
    } else {
        serve(&options.server, "http://", refine, move |poller| app(&poller, stats, limits))
    }
}
