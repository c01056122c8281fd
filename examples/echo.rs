//! Sends back whatever comes.
//!
//! ```sh
//! cargo run -p lightcone-examples --example echo
//! nc 127.0.0.1 7000
//! ```
//!
//! The handler is [`lightcone_examples::echo`]. Who does not take the answers is not read from: a connection costs at
//! most 128 KiB of output and 128 KiB of input that waits for it. Who says nothing for 30 seconds, or goes quiet for
//! 75, is closed, as the engine's timeouts are.

use std::process::ExitCode;

use clap::Parser;
use lightcone_examples::echo::Echo;
use lightcone_examples::{ServerOptions, serve};

/// Sends back whatever comes.
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
