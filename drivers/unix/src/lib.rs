//! The common parts of lightcone's drivers for POSIX systems: socket calls, poller threads, the engine.
//!
//! Most programs start from `lightcone`, which selects the platform's driver; use [`Builder`] directly to run
//! over another one, as its example does. Each poller is a thread with a [`Shard`](lightcone_core::Shard), a handler
//! and a [`Driver`](driver::Driver): it waits, receives, calls the handler, sends, and waits again. Each handler,
//! socket and driver belongs to exactly one poller. Everything that crosses threads goes through a bounded mailbox.
//!
//! | module | contents |
//! | --- | --- |
//! | [`engine`] | poller threads with one handle: [`Builder`], [`Engine`], [`Handle`], [`Listener`] |
//! | [`driver`] | the contract of a readiness mechanism, and how to write a driver |
//! | [`waker`] | interrupting a poller's wait |
//! | [`endpoint`] | addresses to listen on and to connect to, in text form |
//! | [`listener`] | listening sockets and the results of an accept |
//! | [`socket`] | one function for each socket call |
//! | [`address`] | socket addresses in the kernel's format |
//! | [`clock`], [`limits`], [`memory`], [`file`](mod@file) | time, descriptors, memory, reading files |
//! | [`errno`] | OS errors, and the macro that makes system calls |
//!
//! # Records
//!
//! With the feature `log`, an engine reports what is not an event of a handler to the `log` crate, with the target
//! `lightcone`:
//!
//! | level | records |
//! | --- | --- |
//! | error | a panic in the program's code or of a poller; a listener that is broken |
//! | warn | too few descriptors for the settings; an accept that fails, once for a series of failures |
//! | info | the start, a listener that begins or is closed, accepting again after failures, a shutdown and its report |
//! | debug | a socket that the driver cannot watch, which is closed |
//!
//! Most are made on the thread of a poller, which waits for the program's logger. Without the feature they cost
//! nothing.

extern crate alloc;

pub mod address;
pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod engine;
pub mod errno;
pub mod file;
pub mod limits;
pub mod listener;
pub mod memory;
mod paths;
mod poller;
mod records;
mod report;
mod shared;
pub mod socket;
mod transport;
pub mod waker;

pub use endpoint::ToEndpoints;
pub use engine::{Builder, Engine, Error, Handle, Listener, PollerContext};
pub use paths::UnixAddressesFull;
pub use report::{PollerReport, Report};

pub use lightcone_core::balance::Policy;
