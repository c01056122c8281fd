//! A simulated network, clock and driver.
#![forbid(unsafe_code)]
mod acceptor;
mod agenda;
mod completion;
mod content;
mod end;
mod entry;
mod fault;
mod hub;
mod peer;
mod poller;
mod probe;
mod run;
mod shrink;
mod sim;
mod tape;
mod trace;
mod twin;
mod within;
mod world;

pub use content::{Content, pattern};
pub use fault::Fault;
pub use peer::{Outcome, Reading, Script};
pub use run::{Failure, Report, Runner, SEED_VARIABLE, Scenario, check};
pub use sim::{Engine, EngineId, Limits, POLLERS_MAX, PeerId, Sim};
pub use tape::{Tape, TapeError};
pub use twin::{Honest, Twin};
pub use within::within_core;
