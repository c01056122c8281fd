//! A TCP proxy: for each connection that is accepted, one is made, and bytes go both ways between them.
//!
//! ```sh
//! cargo run -p lightcone-examples --example relay -- --listen 127.0.0.1:7000 --to example.org:80
//! ```
//!
//! The handler is [`lightcone_examples::relay`], where its rules stand; this is the program around it.
//!
//! `--max-connections` counts links. A client beyond it waits until a link ends; if links are still being made, it may
//! be closed instead.

use core::time::Duration;
use std::process::ExitCode;

use clap::Parser;
use lightcone_core::Timeouts;
use lightcone_examples::relay::{OUTPUT_BLOCKS, PIECE_BYTES, Relay};
use lightcone_examples::{Addresses, ServerOptions, serve};
use lightcone_native::Builder;

/// Links of one poller, if the command line does not say.
const LINKS_DEFAULT: usize = 4_096;
const LINKS_HELP: &str = "The most links at once, shared out evenly over the pollers; more clients wait until one \
    ends [default: 4096 a poller]";
/// For each of the two sockets of a link: a piece or its credit, the end, and its being gone.
const MESSAGES_A_LINK: usize = 2 * 3;
/// Links may be quiet for long, but not for ever.
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

    /// Where to connect to; of a host's several addresses, the first that takes the connection.
    #[arg(long, value_name = "ADDRESS")]
    to: Addresses,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let links = match options.server.connections_per_poller() {
        Ok(links) => links.unwrap_or(LINKS_DEFAULT),
        Err(_) => 1, // `serve` says what is wrong
    };
    let refine = move |builder: Builder| {
        let sockets = 2 * links;
        let mailbox = (MESSAGES_A_LINK * links).next_power_of_two().min(1 << 20);
        // as many blocks as can be in use at once, within what a pool may have
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
