//! What lightcone's drivers for POSIX systems share: socket calls, poller threads, the engine.
//!
//! Programs start from `lightcone-native`, which picks the platform's driver; [`Builder`] with another driver does the
//! same. Each poller is a thread with a [`Shard`](lightcone_core::Shard), a handler and a [`Driver`](driver::Driver):
//! it waits, receives, has the handler called, sends, and waits again. Handlers, sockets and drivers belong to one
//! poller each. What crosses threads goes through a bounded mailbox.
//!
//! | module | what |
//! | --- | --- |
//! | [`engine`] | poller threads behind one handle: [`Builder`], [`Engine`], [`Handle`], [`Listener`] |
//! | [`driver`] | the contract of a readiness mechanism, with its rules, and how to write one |
//! | [`waker`] | making a poller that waits return |
//! | [`endpoint`] | where to listen and connect, as people write it |
//! | [`listener`] | listening sockets and what accepting comes to |
//! | [`socket`] | each socket call once |
//! | [`address`] | the kernel's form of an address |
//! | [`clock`], [`limits`], [`memory`] | time, descriptors, memory |
//! | [`errno`] | the OS's errors and the one macro that makes system calls |

extern crate alloc;

pub mod address;
pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod engine;
pub mod errno;
pub mod limits;
pub mod listener;
pub mod memory;
mod paths;
mod poller;
mod report;
mod shared;
pub mod socket;
mod transport;
pub mod waker;

pub use engine::{Builder, Engine, Error, Handle, Listener, PollerContext, ToEndpoints};
pub use report::{PollerReport, Report};

pub use lightcone_core::balance::Policy;
