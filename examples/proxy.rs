//! A balancing reverse proxy for HTTP/1.1: passes requests to several servers, over connections that it keeps open.
//!
//! ```sh
//! cargo run --release -p lightcone-examples --example httpd -- --listen 127.0.0.1:8081
//! cargo run --release -p lightcone-examples --example httpd -- --listen 127.0.0.1:8082
//! cargo run --release -p lightcone-examples --example proxy -- --upstream 127.0.0.1:8081 --upstream 127.0.0.1:8082
//! curl http://127.0.0.1:8080/foo
//! ```
//!
//! The handler and its rules are in [`lightcone_examples::proxy`]; this file is the program around it.

use core::time::Duration;
use std::process::ExitCode;

use clap::Parser;
use lightcone::http::Limits;
use lightcone::http::client::{ClientLimits, Uri};
use lightcone::{Builder, Timeouts, WriteRate};
use lightcone_examples::proxy::upstreams::Balance;
use lightcone_examples::proxy::{CONNECTIONS, Checks, Settings, proxy};
use lightcone_examples::{Addresses, ServerOptions, serve, within};

/// Clients of each poller unless the command line sets a limit.
const CLIENTS_DEFAULT: usize = 16_384;
/// The maximum number of output blocks of one connection: 8 of 4 KiB.
const OUTPUT_BLOCKS: usize = 8;
/// The longest body that can be passed on: 256 TiB minus one byte.
const BODY_MAX: u64 = (1 << 48) - 1;
/// The highest minimum rate, in bytes per second.
const RATE_MAX: u32 = 100_000_000;
/// The least number of seconds over which the rate is averaged.
const RATE_SECONDS: u64 = 10;

/// Passes HTTP requests to upstream servers.
#[derive(Parser, Debug)]
#[command(name = "proxy", version)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8080")))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// Server to pass requests to: HOST:PORT or unix:PATH; may be repeated.
    #[arg(long, value_name = "ADDRESS", required = true)]
    upstream: Vec<Addresses>,

    /// How requests are distributed over the upstreams: round-robin or least-loaded.
    #[arg(long, value_name = "NAME", default_value_t)]
    balance: Balance,

    /// Path that each poller requests from every upstream to find out whether it works [default: none].
    #[arg(long, value_name = "PATH")]
    check_path: Option<String>,

    /// Seconds between two checks, such as 5 or 5s; a check that takes longer has failed.
    #[arg(long, value_name = "SECONDS", default_value = "1", allow_negative_numbers = true, value_parser = seconds)]
    check_every: u64,

    /// Seconds that an upstream may take to accept a connection, to read a part of a request, or to begin its response.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    patience: u64,

    /// Maximum size of a request body in bytes; a larger one is rejected with 413 [default: no limit].
    #[arg(long, value_name = "BYTES", default_value_t = BODY_MAX, hide_default_value = true, allow_negative_numbers = true, value_parser = within::<u64>(0..=BODY_MAX))]
    max_body: u64,

    /// Bytes per second that a client or an upstream has to accept while data waits for it, averaged over the time of
    /// --patience but at least 10 seconds; a slower one is cut off. 0 for no minimum.
    #[arg(long, value_name = "BYTES", default_value_t = 500, allow_negative_numbers = true, value_parser = within::<u32>(0..=RATE_MAX))]
    min_rate: u32,
}

/// Parses a number of seconds with or without its unit.
fn seconds(text: &str) -> Result<u64, String> {
    within(1..=86_400)(text.strip_suffix('s').unwrap_or(text))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let checks = options.check_path.as_ref().map(|path| {
        // A server at a path of the file system has no name.
        let host =
            |upstream: &Addresses| match upstream.endpoints().first().and_then(|endpoint| endpoint.as_inet())
            {
                Some(_) => upstream.to_string(),
                None => "localhost".to_owned(),
            };
        let uris = options.upstream.iter().map(|upstream| format!("http://{}{path}", host(upstream)));
        Checks { uris: uris.collect(), every: Duration::from_secs(options.check_every) }
    });
    for uri in checks.iter().flat_map(|checks| &checks.uris) {
        if let Err(error) = Uri::parse(uri) {
            eprintln!("error: the check of {uri}: {error}");
            return ExitCode::from(2);
        }
    }
    let clients = match options.server.connections_per_poller() {
        Ok(clients) => clients.unwrap_or(CLIENTS_DEFAULT),
        Err(_) => 1, // `serve` reports the error
    };
    let patience = Duration::from_secs(options.patience);
    let refine = move |builder: Builder| {
        // An upstream that reads nothing for a while is within its patience.
        let seconds = options.patience.max(RATE_SECONDS);
        let bytes = u32::try_from(u64::from(options.min_rate) * seconds).unwrap_or(u32::MAX);
        let rate = WriteRate { bytes, per: Duration::from_secs(seconds) };
        let write_rate = Some(rate).filter(|rate| rate.bytes > 0);
        let timeouts = Timeouts { connect: Some(patience), write_rate, ..Timeouts::DEFAULT };
        let sockets = clients + CONNECTIONS;
        // Clients that do not read must not take the blocks of upstreams. Blocks that are not used cost nothing.
        let builder = builder.blocks(sockets.min(65_536), (sockets * OUTPUT_BLOCKS).min(524_288));
        Ok(builder.sockets(sockets).output_limit(OUTPUT_BLOCKS).timeouts(timeouts))
    };
    serve(&options.server, "http://", refine, move |poller| {
        let handle = poller.handle();
        let first = |upstream: &Addresses| handle.address(upstream.endpoints().first()?).ok();
        let settings = Settings {
            upstreams: options.upstream.iter().filter_map(first).collect(),
            balance: options.balance,
            checks: checks.clone(),
            clients,
            limits: Limits { body: options.max_body, ..Limits::DEFAULT },
            upstream_limits: ClientLimits {
                send_time: patience,
                first_byte_time: patience,
                ..ClientLimits::DEFAULT
            },
        };
        proxy(&settings, poller.id().0.into())
    })
}
