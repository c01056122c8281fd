//! Models of everything that crosses threads, checked with [loom]: it runs a small concurrent program through every
//! order of events that the language allows.
//!
//! ```text
//! cargo loom                                  every model, at most two preemptions an execution
//! LOOM_MAX_PREEMPTIONS=3 cargo loom           more schedules, and more time
//! cargo loom-mutants                          breaks the sources, shows which model notices
//! ```
//!
//! The sources under test are the shipped ones, compiled here a second time with `cfg(loom)`, which swaps their
//! atomics and cells for loom's. `build.rs` sets it for this crate alone: no flag to forget and no way to run the
//! models without instrumentation, which each file of models checks all the same.
//!
//! Rules for a model: at most three threads and a few messages, or the number of schedules explodes; never retry in a
//! loop while something is full or empty, as loom follows each turn of it; shared state of the model itself goes into
//! loom's types if its order matters and into std's if it is mere statistics.
#![deny(unsafe_code)]

#[cfg(not(mutant))]
#[path = "../../core/src/balance.rs"]
pub mod balance;
#[cfg(not(mutant))]
pub mod protocol;
#[cfg(not(mutant))]
#[path = "../../core/src/sync/mod.rs"]
pub mod sync;

#[cfg(mutant)]
include!(concat!(env!("OUT_DIR"), "/mutant.rs"));

pub mod model;
