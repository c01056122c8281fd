//! A client that survives restarts of its server: it sends numbers to the example `echo`, one by one, until each has
//! been answered.
//!
//! ```sh
//! cargo run -p lightcone-examples --example reconnect -- 1000000
//! cargo run -p lightcone-examples --example echo      # in another terminal: stop it and start it again
//! ```
//!
//! The handler is in [`lightcone_examples::reconnect`].

use core::time::Duration;
use std::env::args;
use std::{io, process};

use lightcone::{Address, Builder, shutdown_on_signals};
use lightcone_examples::print_line;
use lightcone_examples::reconnect::Client;

fn main() -> io::Result<()> {
    let count = args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let server = Address::Inet(([127, 0, 0, 1], 7000).into());
    let engine = Builder::new().pollers(1).start(move |poller| {
        let engine = poller.handle();
        let seed = process::id().into();
        Client::new(server, 0..count, seed, move |request| {
            if request % 1_000 == 0 {
                print_line(&format!("request {request} is answered"));
            }
            if request + 1 == count {
                engine.shutdown(Duration::from_secs(1));
            }
        })
    });
    let engine = engine.map_err(io::Error::other)?;
    shutdown_on_signals(engine.handle(), Duration::from_secs(1))?;
    engine.join();
    Ok(())
}
