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
//! The sources under test are the shipped ones, compiled here a second time with `cfg(loom)`, which swaps their
//! atomics, cells and locks for loom's: all of core, the hub and the placing of the engine, the crew and the lanes of
//! the workers, and the driver of `drivers/model`. `build.rs` lists them and sets the cfg for this crate alone: no flag
//! to forget and no way to run the models without instrumentation, which each file of models checks all the same.
//!
//! Rules for a model: at most four threads and a few messages, or the number of schedules explodes; never retry in a
//! loop while something is full or empty, as loom follows each turn of it; shared state of the model itself goes into
//! loom's types if its order matters and into std's if it is mere statistics.
//!
//! [loom]: https://docs.rs/loom
#![deny(unsafe_code)]

extern crate alloc;
// As the engine's sources know core.
extern crate self as lightcone_core;

include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// Fails if the models were built against another mutant than `LOOM_MUTANT` says; without it, against any.
pub fn built_as_asked() {
    assert_eq!(env!("LOOM_MUTANT_BUILT"), std::env::var("LOOM_MUTANT").unwrap_or_default());
}
