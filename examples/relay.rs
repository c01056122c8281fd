//! A TCP proxy: for each accepted connection it opens another connection and copies bytes in both directions.
//!
//! ```sh
//! cargo run -p lightcone-examples --example relay -- --listen 127.0.0.1:7000 --to example.org:80
//! ```
//!
//! The handler and its rules are in [`lightcone_examples::relay`]; this file is the program around it.
//!
//! A link is an accepted connection with the connection that was opened for it. `--max-connections` limits the links. A
//! client above the limit waits until a link ends; while other links are still being established, its connection may be
//! closed instead.

use core::time::Duration;
use std::process::ExitCode;

use clap::Parser;
use lightcone::{Builder, Timeouts};
use lightcone_examples::relay::{OUTPUT_BLOCKS, PIECE_BYTES, Relay};
use lightcone_examples::{Addresses, ServerOptions, serve};

/// Links per poller unless the command line sets a limit.
const LINKS_DEFAULT: usize = 4_096;
const LINKS_HELP: &str = "Maximum number of links, divided evenly among the pollers; further clients wait until \
    a link ends [default: 4096 per poller]";
/// The messages of a link that can be in a mailbox: for each of its two sockets, a piece of data or the credit for one,
/// the end of the stream, and the close.
const MESSAGES_A_LINK: usize = 2 * 3;
/// Links may be quiet for long, but not forever.
const QUIET_MAX: Option<Duration> = Some(Duration::from_mins(10));
const TIMEOUTS: Timeouts = Timeouts {
    first_byte: None,
    idle: QUIET_MAX,
    write_stall: QUIET_MAX,
    drain: Some(Duration::from_mins(1)),
    ..Timeouts::DEFAULT
};

/// A TCP proxy: accepts connections and relays each to another address.
#[derive(Parser, Debug)]
#[command(name = "relay", version)]
#[command(mut_arg("max_connections", |arg| arg.help(LINKS_HELP)))]
struct Options {
    #[command(flatten)]
    server: ServerOptions,

    /// Address to connect to; if a host has several, the first one that accepts the connection is used.
    #[arg(long, value_name = "ADDRESS")]
    to: Addresses,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let links = match options.server.connections_per_poller() {
        Ok(links) => links.unwrap_or(LINKS_DEFAULT),
        Err(_) => 1, // `serve` reports the error
    };
    let refine = move |builder: Builder| {
        let sockets = 2 * links;
        let mailbox = (MESSAGES_A_LINK * links).next_power_of_two().min(1 << 20);
        // As many blocks as can be in use at once, within the limits of a pool.
        let builder = builder.receive(PIECE_BYTES, sockets.min(65_536));
        let builder = builder.blocks(sockets.min(65_536), (sockets * OUTPUT_BLOCKS).min(524_288));
        Ok(builder.sockets(sockets).mailbox(mailbox).output_limit(OUTPUT_BLOCKS).timeouts(TIMEOUTS))
    };
    let to = options.to;
    serve(&options.server, "", refine, move |poller| {
        let handle = poller.handle();
        let to = to.endpoints().iter().filter_map(|endpoint| handle.address(endpoint).ok()).collect();
        Relay::new(to, links)
    })
}
