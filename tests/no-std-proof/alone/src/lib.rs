//! The proof's poller and HTTP server, compiled for a processor without compare-and-swap: nothing in them needs
//! atomics.
#![no_std]

#[path = "../../src/connection.rs"]
mod connection;
#[path = "../../src/http_use.rs"]
mod http_use;

/// Returns whether requests are answered. It is not generic, so that all of its code is compiled.
#[must_use]
pub fn works() -> bool {
    http_use::works()
}
