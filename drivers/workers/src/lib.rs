//! Worker threads for callbacks that block or compute.
#![forbid(unsafe_code)]

extern crate alloc;

mod crew;
mod lane;
mod message;
mod offload;
mod outbox;
mod report;
mod stand_in;
mod worker;
mod workers;

pub use message::{Link, Offloaded};
pub use offload::{Offload, Ticket};
pub use report::Report;
pub use workers::{Builder, Error, MESSAGES_MAX, SOCKETS_MAX, WORKERS_MAX, Workers};
