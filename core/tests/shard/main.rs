//! Tests core without the loop of a poller: a shard and its connections, which are driven by hand, and the parts that
//! handlers use.
//!
//! One program, because each program compiles the engine again.
#![allow(
    clippy::cast_possible_truncation,
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::std_instead_of_alloc,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a failed test is the point, and its numbers are small"
)]

mod bounds;
#[path = "../common/mod.rs"]
mod common;
mod completing;
mod contract;
mod evict;
mod fair;
mod fast_path;
mod flags;
mod flight;
mod framing;
mod holding;
mod io;
mod life;
// It has thread-local records.
#[cfg(not(target_os = "none"))]
mod proxy_protocol;
mod shape;
mod streams;
mod ticks;
mod timers;
mod times;
mod tokens;
mod turns;
mod walk;
mod write_rate;
