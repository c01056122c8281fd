//! What lightcone's drivers for POSIX systems share: socket calls, poller threads, the engine
//!
//! | module | what |
//! | --- | --- |
//! | [`endpoint`] | where to listen and connect, as people write it |
//! | [`listener`] | listening sockets and what accepting comes to |
//! | [`socket`] | each socket call once |
//! | [`address`] | the kernel's form of an address |
//! | [`driver`] | the contract of a readiness mechanism, with its rules |
//! | [`waker`] | making a poller that waits return |
//! | [`clock`], [`limits`] | time and descriptors |
//! | [`errno`] | the OS's errors and the one macro that makes system calls |

extern crate alloc;

mod acceptor;
pub mod address;
pub mod clock;
pub mod driver;
pub mod endpoint;
pub mod engine;
pub mod errno;
mod hub;
pub mod limits;
pub mod listener;
mod outbox;
mod poller;
mod report;
pub mod socket;
pub mod waker;

pub use engine::{Builder, Engine, Error, Handle, Listener, PollerContext, ToEndpoints};
pub use report::{PollerReport, Report};

pub use lightcone_core::balance::Policy;
