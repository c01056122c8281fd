//! A memcached server.
//!
//! ```sh
//! cargo run --release -p lightcone-examples --example kv -- --memory 64
//! printf 'set greeting 0 0 5\r\nhello\r\nget greeting\r\nquit\r\n' | nc 127.0.0.1 11211
//! ```
//!
//! The protocol, the table and the handler are in [`lightcone_examples::kv`]; this file is the program around it.

#![allow(clippy::std_instead_of_alloc, reason = "a program for systems that have std")]

use core::time::Duration;
use std::process::{self, ExitCode};
use std::sync::Arc;

use clap::Parser;
use lightcone::metrics::Metrics;
use lightcone::{Builder, Timeouts};
use lightcone_examples::kv::shards::Shards;
use lightcone_examples::kv::table::{Hasher, Limits, VALUE_MAX};
use lightcone_examples::kv::{Connections, Kv, Settings};
use lightcone_examples::{ServerOptions, serve, serve_on_workers, within};

/// A connection without traffic in either direction for this long is closed.
const QUIET_MAX: Duration = Duration::from_hours(1);
/// The maximum number of output blocks of one connection: 64 KiB.
const OUTPUT_BLOCKS: usize = 16;

/// A memcached server: the commands of its text protocol, for as many items as fit into the memory.
#[derive(Parser, Debug)]
#[command(name = "kv", version)]
#[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:11211")))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// Mebibytes of memory for items: their keys, their values and what is needed to find them.
    #[arg(long, value_name = "MIB", default_value_t = 64, allow_negative_numbers = true, value_parser = within::<usize>(1..=1_048_576))]
    memory: usize,

    /// Maximum length of a value in bytes; a longer one is refused.
    #[arg(long, value_name = "BYTES", default_value_t = VALUE_MAX, allow_negative_numbers = true, value_parser = within::<usize>(1..=1_073_741_824))]
    max_value: usize,

    /// Number of threads that run the commands in place of the pollers: 1 to 256 [default: the pollers run them].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<u16>(1..=256))]
    workers: Option<u16>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let server = &options.server;
    let workers = options.workers.map(usize::from);
    let table =
        Shards::new(Limits { memory: options.memory << 20, value: options.max_value }, Hasher::random());
    let connections = Arc::new(Connections::default());
    let threads = workers.unwrap_or_else(|| server.pollers());
    let settings = Settings { pid: process::id(), threads, version: env!("CARGO_PKG_VERSION") };
    let timeouts = Timeouts { first_byte: None, idle: Some(QUIET_MAX), ..Timeouts::DEFAULT };
    let refine = |builder: Builder| Ok(builder.output_limit(OUTPUT_BLOCKS).timeouts(timeouts));
    let make = move || Kv::new(table.clone(), settings, Arc::clone(&connections));
    match workers {
        Some(count) => serve_on_workers(server, "", count, refine, Metrics::new(), move |_worker| make()),
        None => serve(server, "", refine, move |_poller| make()),
    }
}
