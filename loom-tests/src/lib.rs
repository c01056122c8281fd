//! Models of everything that crosses threads, checked with [loom], which runs a small concurrent program through every
//! order of events that the language allows.
//!
//! ```text
//! cargo loom                                  every model, at most two preemptions an execution
//! LOOM_MAX_PREEMPTIONS=3 cargo loom           more schedules, and more time
//! cargo loom-mutants                          breaks the sources, shows which model detects it
//! ```
//!
//! `PROOFS.md` lists what each model shows, and what is not shown; `MUTANTS.md` lists which model detects which mutant.
//!
//! The sources under test are the shipped ones. `loom-tests/model` compiles the thread-aware sources of core over
//! loom's atomics (the poller's loop, the group, `sync`, the balancer), and sets `cfg(loom)` for itself alone: there is
//! no flag to forget, and no way to run the models without instrumentation. Each file of models still checks that. The
//! sources of the workers are compiled here, over its `sync` and loom's locks, except `workers.rs`, which starts the
//! threads and has the settings. So is the table that the pollers of the example `kv` share.
//!
//! Rules for a model: at most five threads, which is loom's maximum, and a few messages, because the number of
//! schedules explodes; no retry loops while something is full or empty, because loom follows each iteration; shared
//! state of the model itself is of loom's types if its order matters, and of std's if it is only for statistics.
//!
//! [loom]: https://docs.rs/loom
#![deny(unsafe_code)]

extern crate alloc;
// The names under which the workers' sources import core, and the engine's handle, clock and memory.
extern crate self as lightcone_core;
extern crate self as lightcone_unix;

#[path = "../../drivers/workers/src/bridge.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod bridge;
#[allow(missing_docs, reason = "like that of lightcone_unix")]
pub mod clock;
#[path = "../../examples/src/kv"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod kv {
    pub mod protocol;
    pub mod shards;
    pub mod table;

    mod sync {
        pub(super) use crate::locks::{Mutex, PoisonError};
        pub(super) use loom::sync::Arc;
        pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
    }
}
#[allow(missing_docs, reason = "like std's")]
pub mod locks;
#[allow(missing_docs, reason = "like that of lightcone_unix")]
pub mod memory;
#[path = "../../drivers/workers/src/message.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod message;
#[path = "../../drivers/workers/src/offload.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod offload;
#[path = "../../drivers/workers/src/outbox.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod outbox;
pub mod protocol;
#[path = "../../drivers/workers/src/report.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod report;
#[path = "../../drivers/workers/src/scheduler.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod scheduler;
#[path = "../../drivers/workers/src/shadow.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod shadow;
#[path = "../../drivers/workers/src/worker.rs"]
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    reason = "shipped sources; their lints are checked where they live"
)]
pub mod worker;
pub mod workshop;

pub use lightcone_model::shipped::{balance, poller, sync};
pub use lightcone_model::{
    Handle, Model, Peer, Racy, Seen, check, check_all, check_up_to, unordered_hand_over,
};
pub use plain_core::*;

/// Core with the real atomics.
pub use plain_core as plain;
