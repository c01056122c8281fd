//! A TCP engine as a sans-I/O state machine: `no_std`, no heap, no OS.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::std_instead_of_alloc,
        clippy::std_instead_of_core,
        reason = "tests have std and nothing else"
    )
)]

mod address;
pub mod balance;
mod buffer;
mod config;
mod contract;
mod error;
mod handler;
mod interest;
pub mod life;
mod port;
mod queue;
mod shard;
mod slot;
mod socket;
mod stats;
mod storage;
pub mod sync;
mod time;
mod timer;
mod token;

pub use address::{Address, Packed, UnixId};
pub use buffer::{Input, Mark, Output};
pub use config::{Config, ConfigError, Footprint, Timeouts, footprint};
pub use contract::{Checked, ContractChecker};
pub use error::{CloseReason, ConnectError, ErrorKind, Full, Rejected, Timeout};
pub use handler::{Context, Event, Handler, NoOutbox, Origin, Outbox};
pub use interest::Interest;
pub use port::{Next, Port};
pub use shard::{Refusal, Shard};
pub use slot::Slot;
pub use socket::{Socket, Stream};
pub use stats::Stats;
pub use storage::Storage;
pub use time::Instant;
pub use token::{ListenerId, PollerId, Token};
