//! A chat server: each line is sent to every participant on every poller.
//!
//! ```sh
//! cargo run -p lightcone-examples --example chat
//! nc 127.0.0.1 7000
//! ```
//!
//! The handler and its rules are in [`lightcone_examples::chat`]; this file is the program around it.

#![allow(clippy::std_instead_of_alloc, reason = "a program for systems that have std")]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use lightcone::{Builder, Timeouts};
use lightcone_examples::chat::{Chat, Counts, OUTPUT_BLOCKS};
use lightcone_examples::{ServerOptions, print_line, serve};

/// A client need not send, but a connection without traffic in either direction for this long is closed.
const QUIET_MAX: Duration = Duration::from_hours(1);

/// A chat server: each line is sent to everyone. A client's first line is its name.
#[derive(Parser, Debug)]
#[command(name = "chat", version)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let counts = Arc::new(Counts::default());
    let timeouts = Timeouts { first_byte: None, idle: Some(QUIET_MAX), ..Timeouts::DEFAULT };
    let refine = |builder: Builder| Ok(builder.output_limit(OUTPUT_BLOCKS).timeouts(timeouts));
    let ours = Arc::clone(&counts);
    let code = serve(&options.server, "", refine, move |_poller| Chat::new(Arc::clone(&ours)));
    if code == ExitCode::SUCCESS {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (lines, dropped) = (count(&counts.lines), count(&counts.dropped));
        print_line(&format!("chat: {lines} lines said, {dropped} dropped for slow readers"));
    }
    code
}
