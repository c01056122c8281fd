//! Models of everything that crosses threads, checked with [loom]: it runs a small concurrent program through every
//! order of events that the language allows.
//!
//! ```text
//! cargo loom                                  every model, at most two preemptions an execution
//! LOOM_MAX_PREEMPTIONS=3 cargo loom           more schedules, and more time
//! cargo loom-mutants                          breaks the sources, shows which model notices
//! ```
//!
//! `PROOFS.md` says what is shown by which model, and what is not; `MUTANTS.md` which model notices what.
//!
//! The sources under test are the shipped ones. `drivers/model` compiles those of core that know of threads over loom's
//! atomics (the poller's loop, the group, `sync`, the balancer), and sets `cfg(loom)` for itself alone: no flag to
//! forget and no way to run the models without instrumentation, which each file of models checks all the same. The
//! workers' crew and lanes are compiled here, over its `sync` and loom's locks.
//!
//! Rules for a model: at most four threads and a few messages, or the number of schedules explodes; never retry in a
//! loop while something is full or empty, as loom follows each turn of it; shared state of the model itself goes into
//! loom's types if its order matters and into std's if it is mere statistics.
//!
//! [loom]: https://docs.rs/loom
#![deny(unsafe_code)]

extern crate alloc;
// As the workers' sources know core.
extern crate self as lightcone_core;

#[path = "../../drivers/workers/src/crew.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod crew;
pub mod gang;
#[path = "../../drivers/workers/src/lane.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod lane;
#[allow(missing_docs, reason = "as std's")]
pub mod locks;
pub mod message;
pub mod protocol;
#[path = "../../drivers/workers/src/report.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod report;

pub use lightcone_model::shipped::{balance, poller, sync};
pub use lightcone_model::{Handle, Model, Peer, Racy, Seen, check, check_all, unordered_hand_over};
pub use plain_core::{
    Address, CloseReason, Context, ErrorKind, Handler, Instant, ListenerId, Origin, PollerId, Rejected,
    Socket, Stats, Token, UnixId,
};

/// Core as it is, with the machine's atomics.
pub use plain_core as plain;
