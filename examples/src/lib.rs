//! What the example programs share: [`ServerOptions`] for the command line, [`serve`] for running a server.
//!
//! | program | what it shows |
//! | --- | --- |
//! | `httpd` | an HTTP server with a route of every kind, its limits, counters and log; on workers, routes that block |
//! | `echo` | the smallest server: copies input to output, with backpressure |
//! | `chat` | messages to every socket of every poller; handling of slow readers |
//! | `kv` | a memcached server: a table that pollers share, values that are streamed in and out, bounded memory |
//! | `simulate` | the other examples' handlers in a simulated network, by seed |
//! | `reconnect` | a client without a thread: start, timers and back-off of a handler |
//! | `fetch` | an HTTP client for the command line: a blocking request whose response is streamed |
//! | `wscat` | a WebSocket client for the command line: messages from a thread to a connection and back |
//! | `proxy` | an HTTP server and a pool of client connections in one handler; streaming in both directions |
//! | `relay` | accepting and connecting; two sockets tied together by messages and credit |
//!
//! The small examples, such as `hello`, do not use this crate: they show one thing each, with `lightcone` alone.
//!
//! Start one with `cargo run -p lightcone-examples --example NAME -- --help`.

#![forbid(unsafe_code)]
#![allow(clippy::std_instead_of_alloc, reason = "for systems that have std")]

pub mod chat;
pub mod echo;
pub mod kv;
mod options;
pub mod proxy;
pub mod reconnect;
pub mod relay;
mod server;
pub mod simulation;

pub use options::{Addresses, Drain, ServerOptions, UsageError, within};
pub use server::{print_line, serve, serve_on_workers};
