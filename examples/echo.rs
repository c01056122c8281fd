//! Sends back whatever comes.
//!
//! ```sh
//! cargo run -p lightcone-examples --example echo
//! nc 127.0.0.1 7000
//! ```
//!
//! Who does not take the answers is not read from: a connection costs at most 128 KiB of output and 128 KiB of input
//! that waits for it. Who says nothing for 30 seconds, or goes quiet for 75, is closed, as the engine's timeouts are.

use core::convert::Infallible;
use std::process::ExitCode;

use clap::Parser;
use lightcone_core::{Address, Context, Handler, Origin, Socket};
use lightcone_examples::{ServerOptions, serve};

/// Sends back whatever comes.
#[derive(Parser, Debug)]
#[command(name = "echo", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken); // what was not taken stays, and `writable` will come
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }

    /// The peer may still be reading: it gets all of its bytes, then the end.
    fn peer_closed(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.finish();
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    serve(&options.server, "", Ok, |_poller| Echo)
}
