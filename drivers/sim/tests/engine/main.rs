//! Tests of the simulator with engines of every kind, under its faults.
//!
//! One program, because each program compiles the engine and the simulator again.
#![allow(
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::needless_pass_by_ref_mut,
    clippy::panic,
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::unwrap_used,
    reason = "as in every test: a failure is a panic"
)]

mod accept_limits;
mod broken;
#[path = "../common/mod.rs"]
mod common;
mod echo;
mod evict;
mod limits;
mod rooms;
mod scale;
mod send_buffer;
mod stop;
mod timers;
mod topics;
