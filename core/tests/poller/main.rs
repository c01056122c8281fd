//! Tests the poller's loop against its contract: handlers in the contract checker over a transport in memory, which
//! detects every forbidden call. The random walk prints its seed; `POLLER_WALK_SEED=n` runs that seed alone.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    reason = "a failed test is the point, and its numbers are small"
)]

mod accepting;
mod bench;
mod completion;
mod connects;
mod end;
mod evicting;
mod limits;
mod mail;
mod net;
mod panics;
mod placing;
mod rooms;
mod sends;
mod setup;
mod timers;
mod times;
mod topics;
mod walk;
