//! An HTTP server with one route of every kind.
//!
//! ```sh
//! cargo run --release --example httpd
//! curl http://127.0.0.1:8080/foo
//! ```
//!
//! An idle connection occupies only its slot; a connection whose peer does not read holds at most 32 KiB of output.
//! With `--root`, it holds at most 128 KiB of output and a buffer of 64 KiB of its file, or with `--listing` the page
//! of a folder, of less than 10 MB; at most 1,024 files and folders are open. On `/ws`, it also holds the message that
//! it is sent back, of at most 16 MiB.

use core::str::FromStr;
use core::time::Duration;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use lightcone::files::{Files, FilesError};
use lightcone::http::{
    Asset, ETag, Either, EventFeed, EventWriter, Exchange, Flow, Full, Http, Limits, Routes, ServerEvent,
    State, Transfer, Validators,
};
use lightcone::metrics::{self, Metrics};
use lightcone::proxy_protocol::{ProxyProtocol, Untrusted};
use lightcone::websocket::{Channel, Fragment, Message, MessageKind, WebSocket, upgrade};
use lightcone::{
    AddressPrefix, Builder, Handler, Instant, PollerContext, PrefixError, Rate, Readiness, Timeouts,
    WriteRate, print_requests,
};
use lightcone_examples::{Drain, ServerOptions, UsageError, print_line, serve, serve_on_workers, within};

/// Serves /, /foo, /plaintext, /json, /echo, /gather, /big, /events, /ws, /metrics and /ready, with workers /slow, and
/// the files of a folder.
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

    /// Seconds that a connection must have been idle before it may be closed to make room for a new one when the server
    /// is full [default: new connections wait].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    evict: Option<u64>,

    /// Bytes per second, averaged over 10 seconds, that a client has to accept while its response waits for it; a
    /// slower one is cut off [default: no minimum].
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = within::<u32>(1..=RATE_MAX))]
    min_rate: Option<u32>,

    /// Connections that are admitted per second; those beyond it are closed at once [default: no limit].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<u32>(1..=1_000_000))]
    accept_rate: Option<u32>,

    /// Number of threads that run the routes in place of the pollers, so that a route may block: 1 to 256 [default: the
    /// pollers run them].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<u16>(1..=256))]
    workers: Option<u16>,

    /// Serve the files of this folder at all other paths, and its index.html at / in place of the page.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Respond with a list of the files for a folder without index.html.
    #[arg(long, requires = "root")]
    listing: bool,

    /// Prefixes of the addresses of proxies, separated by commas, whose connections begin with a header of the PROXY
    /// protocol; `unix` stands for all peers of a Unix-domain socket [default: no connection has a header].
    #[arg(long, value_name = "PREFIXES", value_delimiter = ',')]
    proxy_protocol: Vec<TrustedProxy>,

    /// What happens with --proxy-protocol to the connections of all other peers: refuse or pass.
    #[arg(long, value_name = "ACTION", default_value = "refuse", requires = "proxy_protocol")]
    proxy_untrusted: UntrustedPeers,

    /// Seconds between a signal to stop and the stop, in which the server goes on serving while /ready responds with
    /// 503, so that a load balancer can notice.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true, value_parser = within::<u64>(0..=86_400))]
    ready_delay: u64,

    /// Print a line for each request, and for each connection that is refused for its header.
    #[arg(long)]
    log: bool,
}

/// Peers that are trusted to send a header of the PROXY protocol.
#[derive(Clone, Copy, Debug)]
enum TrustedProxy {
    Prefix(AddressPrefix),
    Unix,
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unix" => Ok(Self::Unix),
            _ => text.parse().map(Self::Prefix).map_err(|error: PrefixError| format!("{error}; or unix")),
        }
    }
}

/// The argument of `--proxy-untrusted`.
#[derive(Clone, Copy, clap::ValueEnum, Debug)]
enum UntrustedPeers {
    Refuse,
    Pass,
}

/// The settings of the layer of the PROXY protocol.
struct Proxies {
    trusted: Vec<AddressPrefix>,
    unix: bool,
    untrusted: Untrusted,
    log: bool,
}

impl Proxies {
    /// Wraps a handler.
    fn wrap<H>(&self, inner: H) -> ProxyProtocol<H, Vec<AddressPrefix>> {
        let layer = ProxyProtocol::new(inner, self.trusted.clone()).trust_unix(self.unix);
        let layer = layer.untrusted(self.untrusted);
        if self.log {
            layer.on_refusal(|peer, refusal| print_line(&format!("{peer} {refusal}")))
        } else {
            layer
        }
    }
}

impl Options {
    /// Returns the settings of the layer of the PROXY protocol, if there is one.
    fn proxies(&self) -> Option<Proxies> {
        let trusted = self.proxy_protocol.iter().filter_map(|proxy| match proxy {
            TrustedProxy::Prefix(prefix) => Some(*prefix),
            TrustedProxy::Unix => None,
        });
        let untrusted = match self.proxy_untrusted {
            UntrustedPeers::Refuse => Untrusted::Refuse,
            UntrustedPeers::Pass => Untrusted::Pass,
        };
        let unix = self.proxy_protocol.iter().any(|proxy| matches!(proxy, TrustedProxy::Unix));
        let settings = Proxies { trusted: trusted.collect(), unix, untrusted, log: self.log };
        (!self.proxy_protocol.is_empty()).then_some(settings)
    }

    /// Serves with a handler for each poller.
    fn serve<H: Handler<Message: Send> + 'static>(
        &self,
        refine: impl FnOnce(Builder) -> Result<Builder, UsageError>,
        make: impl Fn(PollerContext<H::Message>) -> H + Send + Sync + 'static,
    ) -> ExitCode {
        match self.proxies() {
            Some(proxies) => serve(&self.server, "http://", refine, move |poller| proxies.wrap(make(poller))),
            None => serve(&self.server, "http://", refine, make),
        }
    }

    /// Serves with a handler for each worker.
    fn serve_on_workers<H: Handler<Data: Send, Message: Send> + 'static>(
        &self,
        workers: usize,
        refine: impl FnOnce(Builder) -> Result<Builder, UsageError>,
        metrics: Metrics,
        make: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> ExitCode {
        match self.proxies() {
            Some(proxies) => {
                let make = move |worker| proxies.wrap(make(worker));
                serve_on_workers(&self.server, "http://", workers, refine, metrics, make)
            }
            None => serve_on_workers(&self.server, "http://", workers, refine, metrics, make),
        }
    }

    /// Opens the folder of files, if there is one.
    fn files(&self) -> Result<Option<Files>, FilesError> {
        let files = self.root.as_ref().map(Files::new).transpose()?;
        Ok(files.map(|files| files.precompressed(true).listing(self.listing)))
    }
}

/// The longest body that can be received or sent: 256 TiB minus one byte.
const BODY_MAX: u64 = (1 << 48) - 1;
/// The highest minimum rate, in bytes per second.
const RATE_MAX: u32 = 100_000_000;
/// The longest body that `/gather` accepts.
const GATHER_MAX: usize = 1 << 20;
/// The length of the fragments of long WebSocket messages.
const FRAGMENT: usize = 8 << 10;
/// The maximum number of output blocks of one connection: 8 of 4 KiB.
const OUTPUT_BLOCKS: usize = 8;
/// The same with files, in larger blocks.
const FILE_OUTPUT_BLOCKS: usize = 4;
/// The size of a block with files.
const FILE_BLOCK: usize = 32 << 10;
/// The number of input and output blocks of a poller with files: together less than 4 GiB, the maximum.
const FILE_BLOCKS: (usize, usize) = (65_536, 32_768);

/// The most seconds for which a client that connects again gets the events it has missed.
const MISSED_MAX: u64 = 60;

/// When the text of `/big` was last changed: at the start of 2026.
const LETTERS_SINCE: u64 = 1_767_225_600;

/// The page: a list of the other routes, and the events as they arrive.
static PAGE: Asset = Asset::new(include_bytes!("httpd.html"))
    .content_type("text/html; charset=utf-8")
    .cache_control("no-cache")
    .hashed();

/// Sends an event every second: the seconds of the engine's clock, which also identify the event.
///
/// In four bytes without alignment, since every connection has room for it.
struct Seconds {
    next: [u8; 4],
}

impl Seconds {
    /// Begins with the second after `last`, the last event that the client has, or else with the current one.
    fn new(last: Option<&str>, now: Instant) -> Self {
        let now = now.as_millis() / 1000;
        let next = last.and_then(|id| id.parse::<u64>().ok()).map_or(now, |last| last.saturating_add(1));
        // A later identity comes from another server, or from before a restart of the system.
        let next = if next > now + 1 { now } else { next.max(now.saturating_sub(MISSED_MAX)) };
        Self { next: u32::try_from(next).unwrap_or(u32::MAX).to_le_bytes() }
    }
}

impl<S: State> EventFeed<S> for Seconds {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, S>) -> Flow {
        loop {
            let second = u32::from_le_bytes(self.next);
            let due = Instant::from_millis(u64::from(second) * 1000);
            if events.now() < due {
                events.wake_at(due);
                return Flow::More;
            }
            if events.send(&ServerEvent::new(second).id(u64::from(second))).is_err() {
                return Flow::More; // called again when there is room
            }
            self.next = second.saturating_add(1).to_le_bytes();
        }
    }
}

/// Sends the request body back as it arrives.
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

/// Sends WebSocket messages back. A message that comes in pieces is gathered on the heap first, since a client may send
/// all of it before it reads. It has at most 16 MiB, the default of the layer.
#[derive(Default)]
struct MessageEcho(Option<Box<Gathered>>);

/// A message that is gathered and then sent back.
struct Gathered {
    kind: MessageKind,
    bytes: Vec<u8>,
    sent: usize,
    complete: bool,
}

impl MessageEcho {
    /// Sends the rest of a message that is complete, if there is one.
    fn send_rest<S: State>(&mut self, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        while let Some(gathered) = self.0.as_mut().filter(|gathered| gathered.complete) {
            let rest = gathered.bytes.get(gathered.sent..).unwrap_or_default();
            let piece = rest.get(..FRAGMENT).unwrap_or(rest);
            let part = gathered.sent..gathered.sent + piece.len();
            let fragment = Fragment::of(&part, gathered.bytes.len());
            channel.send_fragment(gathered.kind, fragment, piece)?;
            gathered.sent = part.end;
            if fragment.is_last() {
                self.0 = None;
            }
        }
        Ok(())
    }
}

impl<S: State> WebSocket<S> for MessageEcho {
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        self.send_rest(channel)?;
        if message.is_whole() {
            return channel.send_fragment(message.kind(), message.fragment(), message.bytes());
        }
        let new = || Box::new(Gathered { kind: message.kind(), bytes: Vec::new(), sent: 0, complete: false });
        let gathered = self.0.get_or_insert_with(new);
        gathered.bytes.extend_from_slice(message.bytes());
        gathered.complete = message.is_last();
        let _ = self.send_rest(channel); // the rest follows in `writable`
        Ok(())
    }

    fn writable(&mut self, channel: &mut Channel<'_, S>) {
        let _ = self.send_rest(channel);
    }
}

/// Creates the routes, which are the same for a poller and for a worker.
fn routes(
    metrics: &Metrics,
    limits: Limits,
    files: Option<&Files>,
    readiness: &Readiness,
) -> Http<Metrics, impl Routes<Metrics, Body: Send> + use<>> {
    let (files, index, readiness) = (files.cloned(), files.cloned(), readiness.clone());
    Http::with(metrics.clone())
        .limits(limits)
        .get("/", move |request, response| match &index {
            Some(files) => files.serve(&request, response, "").map(Either::Left),
            None => request.asset(response, || &PAGE).map(Either::Right),
        })
        .fallback(move |request, response| match (&files, request.path().strip_prefix('/')) {
            (Some(files), Some(path)) => files.serve(&request, response, path),
            // `OPTIONS *` asks about the server (RFC 9110, 9.3.7).
            (_, None) => response.status(204).empty().into_any(),
            (None, _) => response.refuse(404).into_any(),
        })
        .get("/events", |request, response| {
            request.events(response, Seconds::new(request.last_event_id(), request.now()))
        })
        .get("/ws", |request, response| upgrade(&request, response, MessageEcho::default()).boxed())
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
                // The same length is always the same text, so a download can be resumed.
                let response = response.header("Content-Type", "text/plain");
                let validators = Validators::from(ETag::number(bytes)).last_modified(LETTERS_SINCE);
                request.generate(response, bytes, validators, letters)
            }
            _ => {
                let rule = format_args!("bytes: a number from 0 to {BODY_MAX}\n");
                response.status(400).display(rule).into_any()
            }
        })
        .get("/metrics", metrics::page)
        .get("/ready", move |_request, response| {
            let response = response.header("Cache-Control", "no-store");
            if readiness.is_ready() {
                response.text("ready\n")
            } else {
                response.status(503).text("stopping\n")
            }
        })
}

/// Creates a route that blocks, as only a worker may.
fn slow() -> Http<Metrics, impl Routes<Metrics, Body: Send> + use<>, ()> {
    Http::group().get("/slow", |_request, response| {
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
    let mut options = Options::parse();
    let readiness = Readiness::new();
    options.server.drain =
        Drain { readiness: readiness.clone(), delay: Duration::from_secs(options.ready_delay) };
    let limits = Limits {
        body: options.max_body,
        head_time: Duration::from_secs(options.header_timeout),
        ..Limits::DEFAULT
    };
    let refine = |builder: Builder| {
        let idle = Some(Duration::from_secs(options.idle_timeout));
        // The first byte of a new connection must not be allowed more time than an idle connection has.
        let first_byte = Timeouts::DEFAULT.first_byte.min(idle);
        let per = Duration::from_secs(10);
        let write_rate = options.min_rate.map(|rate| WriteRate { bytes: rate * 10, per });
        let timeouts = Timeouts { first_byte, idle, write_rate, ..Timeouts::DEFAULT };
        let evict_after = options.evict.map(Duration::from_secs);
        let rate = options.accept_rate.map(|rate| Rate::new(rate, Duration::from_secs(1)));
        let builder = builder.timeouts(timeouts).evict_after(evict_after).accept_rate(rate);
        Ok(match options.root {
            // A file is read block by block.
            Some(_) => {
                let (input, output) = FILE_BLOCKS;
                builder.block_size(FILE_BLOCK).blocks(input, output).output_limit(FILE_OUTPUT_BLOCKS)
            }
            None => builder.output_limit(OUTPUT_BLOCKS),
        })
    };
    let files = match options.files() {
        Ok(files) => files,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let metrics = Metrics::new();
    // A log and the PROXY protocol make every connection larger, so each of these is a type of its own.
    if let Some(workers) = options.workers.map(usize::from) {
        let ours = metrics.clone();
        let make = move |worker| {
            routes(&ours, limits, files.as_ref(), &readiness).stats(ours.on_worker(worker)).merge(slow())
        };
        if options.log {
            let logged = move |worker| make(worker).log(print_requests());
            options.serve_on_workers(workers, refine, metrics, logged)
        } else {
            options.serve_on_workers(workers, refine, metrics, make)
        }
    } else if options.log {
        options.serve(refine, move |poller| {
            routes(&metrics, limits, files.as_ref(), &readiness)
                .stats(metrics.on_poller(&poller))
                .log(print_requests())
        })
    } else {
        options.serve(refine, move |poller| {
            routes(&metrics, limits, files.as_ref(), &readiness).stats(metrics.on_poller(&poller))
        })
    }
}
