//! What the example programs share: [`ServerOptions`] for the command line, [`serve`] for the life of a server.
//!
//! | program | what it shows |
//! | --- | --- |
//! | `httpd` | an HTTP server with a route of every kind, its limits, counters and log; on workers, routes that block |
//! | `echo` | the smallest server: input to output, back-pressure for nothing |
//! | `chat` | messages to every socket of every poller; what becomes of slow readers |
//! | `simulate` | any of them in a simulated world, by seed |
//! | `relay` | accepting and connecting; two sockets tied together by messages and credit |
//!
//! Each is started as `cargo run -p lightcone-examples --example NAME -- --help`.

#![forbid(unsafe_code)]
#![allow(clippy::std_instead_of_alloc, reason = "for systems that have std")]

pub mod chat;
pub mod echo;
mod options;
pub mod relay;
mod server;
pub mod simulation;

pub use options::{Addresses, ServerOptions, UsageError, within};
pub use server::{print_line, serve, serve_on_workers};
