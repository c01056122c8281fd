//! An HTTP server with one route of every kind.
//!
//! ```sh
//! cargo run --release --example httpd
//! curl http://127.0.0.1:8080/foo
//! ```
//!
//! An idle connection occupies only its slot; a connection whose peer does not read holds at most 32 KiB of output.

use core::convert::Infallible;
use core::fmt::{self, Display};
use core::time::Duration;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;

use clap::Parser;
use lightcone::http::{
    AccessLog, Exchange, Flow, Http, Limits, Outcome, RequestMessage, Routes, State, Stats, Transfer,
};
use lightcone::workers::Offloaded;
use lightcone::{Builder, CloseReason, Handle, PollerContext, Stats as PollerStats, Timeouts};
use lightcone_examples::{ServerOptions, UsageError, print_line, serve, serve_on_workers, within};

/// Serves /foo, /plaintext, /json, /echo, /gather, /big and /metrics, and with workers /slow.
#[derive(Parser, Debug)]
#[command(name = "httpd", version)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8080")))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// Maximum size of a request body in bytes; a larger one is rejected with 413.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, allow_negative_numbers = true, value_parser = within::<u64>(0..=BODY_MAX))]
    max_body: u64,

    /// Seconds that a request head may take to arrive before it is rejected with 408.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    header_timeout: u64,

    /// Seconds that a connection may be idle before it is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 75, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    idle_timeout: u64,

    /// Number of threads that run the routes in place of the pollers, so that a route may block: 1 to 256 [default: the
    /// pollers run them].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<u16>(1..=256))]
    workers: Option<u16>,

    /// Print a line for each request.
    #[arg(long)]
    log: bool,
}

/// The longest body that can be received or sent: 256 TiB minus one byte.
const BODY_MAX: u64 = (1 << 48) - 1;
/// The longest body that `/gather` accepts.
const GATHER_MAX: usize = 1 << 20;
/// The maximum number of output blocks of one connection: 8 of 4 KiB.
const OUTPUT_BLOCKS: usize = 8;

/// Sends the request body back as it arrives.
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// The counts of each poller, and the number of sockets of each poller.
type EngineCounts = (Vec<PollerStats>, Vec<u32>);

/// The state that the routes of one server share.
struct App {
    engine: Box<dyn Fn() -> EngineCounts>,
    http: &'static [Stats],
    /// What owns this server, as a label of its samples: `poller` or `worker`.
    server: &'static str,
}

impl State for App {
    type Message = Infallible;
}

/// The page of `/metrics` in Prometheus format. It is written one family and poller at a time and never held in full,
/// so a client that does not read it costs no more than any other.
#[derive(Default)]
struct Page {
    /// The index of the next family. Both are bytes because every connection reserves space for a `Page`.
    family: u8,
    /// The poller or server whose samples are next.
    number: u8,
}

impl Exchange<App> for Page {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        let (engine, loads) = (io.state.engine)();
        let counts = Counts { engine, loads, http: io.state.http, server: io.state.server };
        while let Some(family) = FAMILIES.get(usize::from(self.family)) {
            let number = usize::from(self.number);
            if number >= counts.of(family) {
                (self.family, self.number) = (self.family + 1, 0);
                continue;
            }
            let text = Part { family, number, counts: &counts }.to_string(); // rendered once, because the counts keep changing
            if write!(io, "{text}").is_err() {
                return Flow::More;
            }
            match self.number.checked_add(1) {
                Some(next) => self.number = next,
                None => (self.family, self.number) = (self.family + 1, 0),
            }
        }
        Flow::Done
    }
}

/// A snapshot of everything that is counted.
struct Counts {
    engine: Vec<PollerStats>,
    loads: Vec<u32>,
    http: &'static [Stats],
    server: &'static str,
}

impl Counts {
    /// Returns how many pollers or servers have samples of a family: at most 256.
    const fn of(&self, family: &Family) -> usize {
        if family.of_engine { self.engine.len() } else { self.http.len() }
    }

    fn engine(&self, poller: usize) -> PollerStats {
        self.engine.get(poller).copied().unwrap_or_default()
    }

    fn http(&self, server: usize, count: fn(&Stats) -> usize) -> u64 {
        self.http.get(server).map_or(0, |stats| count(stats) as u64)
    }
}

/// The samples of one family from one poller or server. The first part of a family starts with its description.
struct Part<'c> {
    family: &'static Family,
    number: usize,
    counts: &'c Counts,
}

impl Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family: Family { name, kind, help, of_engine, samples }, number, counts } = self;
        if *number == 0 {
            writeln!(f, "# HELP lightcone_{name} {help}\n# TYPE lightcone_{name} {kind}")?;
        }
        let who = if *of_engine { "poller" } else { counts.server };
        let mut sample = |label: fmt::Arguments<'_>, value: u64| {
            writeln!(f, "lightcone_{name}{{{who}=\"{number}\"{label}}} {value}")
        };
        match samples {
            Samples::One(count) => sample(format_args!(""), count(counts, *number)),
            Samples::ByReason => {
                let mut all = CloseReason::NAMES.iter().zip(counts.engine(*number).closed);
                all.try_for_each(|(reason, count)| sample(format_args!(",reason=\"{reason}\""), count))
            }
            Samples::ByStatus => {
                let mut all = counts.http.get(*number).into_iter().flat_map(Stats::refusals);
                all.try_for_each(|(status, count)| {
                    sample(format_args!(",status=\"{}\"", status.code()), count as u64)
                })
            }
        }
    }
}

struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Whether pollers count this family; otherwise servers do.
    of_engine: bool,
    samples: Samples,
}

/// The samples of a family per poller or server.
enum Samples {
    One(fn(&Counts, usize) -> u64),
    ByReason,
    ByStatus,
}

const fn gauge(name: &'static str, help: &'static str, count: fn(&Counts, usize) -> u64) -> Family {
    Family { name, kind: "gauge", help, of_engine: true, samples: Samples::One(count) }
}

const fn counter(name: &'static str, help: &'static str, count: fn(&Counts, usize) -> u64) -> Family {
    Family { name, kind: "counter", help, of_engine: true, samples: Samples::One(count) }
}

static FAMILIES: [Family; 13] = [
    gauge("connections", "Connections that are open or being opened.", |counts, poller| {
        counts.loads.get(poller).copied().unwrap_or(0).into()
    }),
    counter("connections_accepted_total", "Connections opened.", |counts, poller| {
        counts.engine(poller).accepted
    }),
    counter("connections_turned_away_total", "Connections closed without being served.", |counts, poller| {
        counts.engine(poller).rejected
    }),
    Family {
        name: "connections_closed_total",
        kind: "counter",
        help: "Connections closed, by reason.",
        of_engine: true,
        samples: Samples::ByReason,
    },
    counter("received_bytes_total", "Bytes received.", |counts, poller| counts.engine(poller).bytes_in),
    counter("sent_bytes_total", "Bytes sent.", |counts, poller| counts.engine(poller).bytes_out),
    counter(
        "lost_bytes_total",
        "Bytes not delivered when their connections ended, including those in system buffers where the system reports them.",
        |counts, poller| counts.engine(poller).bytes_lost + counts.engine(poller).bytes_undelivered,
    ),
    counter("output_shortages_total", "Waits for an output block that others held.", |counts, poller| {
        counts.engine(poller).output_shortages
    }),
    counter("input_shortages_total", "Waits for an input block that others held.", |counts, poller| {
        counts.engine(poller).input_shortages
    }),
    Family {
        name: "http_requests_total",
        kind: "counter",
        help: "Requests answered by routes.",
        of_engine: false,
        samples: Samples::One(|counts, server| counts.http(server, Stats::requests)),
    },
    Family {
        name: "http_failures_total",
        kind: "counter",
        help: "Requests answered by routes with status 400 or above.",
        of_engine: false,
        samples: Samples::One(|counts, server| counts.http(server, Stats::failures)),
    },
    Family {
        name: "http_aborted_total",
        kind: "counter",
        help: "Requests answered by routes whose connection ended before the response was complete.",
        of_engine: false,
        samples: Samples::One(|counts, server| counts.http(server, Stats::aborted)),
    },
    Family {
        name: "http_refusals_total",
        kind: "counter",
        help: "Requests refused by the server itself, by status.",
        of_engine: false,
        samples: Samples::ByStatus,
    },
];

/// Creates the server of one poller or one worker.
fn app(number: usize, app: App, limits: Limits) -> Http<App, impl Routes<App, Body: Send> + use<>> {
    let stats = app.http.get(number);
    let server = Http::with(app)
        .limits(limits)
        .get("/plaintext", |_request, response| response.text("Hello, World!"))
        .get("/foo", |_request, response| response.text("bar"))
        .get("/json", |_request, response| response.json(r#"{"message":"Hello, World!"}"#))
        .post("/echo", |request, response| {
            let response = response.header("Content-Type", "application/octet-stream");
            response.stream(request.head.length(), Echo)
        })
        .post("/gather", |request, response| {
            request.collect_vec(GATHER_MAX, response, |_state, body, response| {
                response.header("Content-Type", "application/octet-stream").owned(body)
            })
        })
        .get("/big", |request, response| match request.query("bytes").map_or(Ok(1 << 20), str::parse) {
            Ok(bytes @ 0..=BODY_MAX) => {
                response.header("Content-Type", "text/plain").generate(bytes, letters)
            }
            _ => {
                let rule = format_args!("bytes: a number from 0 to {BODY_MAX}\n");
                response.status(400).display(rule).into_any()
            }
        })
        .get("/metrics", |_request, response| {
            response.header("Content-Type", "text/plain; version=0.0.4").stream(None, Page::default())
        });
    match stats {
        Some(mine) => server.stats(mine),
        None => server,
    }
}

/// Creates the server of one poller.
fn on_poller(
    poller: &PollerContext<RequestMessage<Infallible>>,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<App, impl Routes<App, Body: Send> + use<>> {
    let handle = poller.handle();
    let engine = Box::new(move || (handle.stats(), handle.loads()));
    app(usize::from(poller.id().0), App { engine, http: stats, server: "poller" }, limits)
}

/// Creates the server of one worker. `engine` is set before the first request arrives.
fn on_worker(
    worker: usize,
    engine: &'static OnceLock<Handle<Offloaded<RequestMessage<Infallible>>>>,
    stats: &'static [Stats],
    limits: Limits,
) -> Http<App, impl Routes<App, Body: Send> + use<>> {
    let counts = || engine.get().map(|handle| (handle.stats(), handle.loads())).unwrap_or_default();
    let app_of = App { engine: Box::new(counts), http: stats, server: "worker" };
    app(worker, app_of, limits).get("/slow", |_request, response| {
        thread::sleep(Duration::from_millis(10));
        response.text("slept\n")
    })
}

/// Generates an endless body: the alphabet, repeated.
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
    // Leaked: the servers need it for the rest of the process's life.
    let servers = options.workers.map_or(options.server.pollers(), usize::from);
    let stats = &*Vec::leak((0..servers).map(|_| Stats::new()).collect());
    let refine = |builder: Builder| -> Result<Builder, UsageError> {
        let idle = Some(Duration::from_secs(options.idle_timeout));
        // The first byte of a new connection must not be allowed more time than an idle connection has.
        let first_byte = Timeouts::DEFAULT.first_byte.min(idle);
        Ok(builder.output_limit(OUTPUT_BLOCKS).timeouts(Timeouts { first_byte, idle, ..Timeouts::DEFAULT }))
    };
    let line = |outcome: &Outcome<'_>| print_line(&format!("{} {outcome}", outcome.peer));
    match (options.workers, options.log) {
        (None, false) => {
            serve(&options.server, "http://", refine, move |poller| on_poller(&poller, stats, limits))
        }
        (None, true) => {
            let logged = move |poller| on_poller(&poller, stats, limits).log(AccessLog::to(line));
            serve(&options.server, "http://", refine, logged)
        }
        (Some(workers), false) => {
            let make = move |worker| on_worker(worker, &ENGINE, stats, limits);
            serve_on_workers(&options.server, "http://", usize::from(workers), refine, &ENGINE, make)
        }
        (Some(workers), true) => {
            let make = move |worker| on_worker(worker, &ENGINE, stats, limits).log(AccessLog::to(line));
            serve_on_workers(&options.server, "http://", usize::from(workers), refine, &ENGINE, make)
        }
    }
}

/// The engine that the workers' servers report on, once it has started.
static ENGINE: OnceLock<Handle<Offloaded<RequestMessage<Infallible>>>> = OnceLock::new();
