//! Sends all input back to its sender.
//!
//! ```sh
//! cargo run -p lightcone-examples --example echo
//! nc 127.0.0.1 7000
//! ```
//!
//! The handler is in [`lightcone_examples::echo`]. A connection whose output is full is not read, so it holds at most
//! 128 KiB of output and 128 KiB of unread input. The engine's default timeouts close a connection after 30 seconds
//! without a first byte, or 75 seconds of inactivity.

use std::process::ExitCode;

use clap::Parser;
use lightcone_examples::echo::Echo;
use lightcone_examples::{ServerOptions, serve};

/// Sends all input back to its sender.
#[derive(Parser, Debug)]
#[command(name = "echo", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

fn main() -> ExitCode {
    let options = Options::parse();
    serve(&options.server, "", Ok, |_poller| Echo)
}
