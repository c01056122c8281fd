//! The fuzz targets: each takes arbitrary bytes and panics when a check fails.
//!
//! A target is an ordinary function, so `cargo test` replays its corpus (`tests/tests/fuzz.rs`) without a special
//! compiler. The programs that run libFuzzer are in `tests/fuzz/`.
//!
//! Each module can run its target over mutants; the tests check that the corpus detects them.
#![allow(
    clippy::cast_possible_truncation,
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "a panic reports a failed check, and numbers are small"
)]

pub mod chunked;
pub mod connection;
pub mod differential;
pub mod forms;
pub mod head;
pub mod proxy_protocol;
pub mod response;
mod responses;
pub mod shard;
mod tape;
#[path = "../../../core/tests/common/two_ways.rs"]
mod two_ways;
pub mod verdict;
pub mod websocket;
mod wire;

pub use wire::Flaw;

/// A target: its name, which is also the name of its corpus folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("head", head::head),
    ("differential", differential::differential),
    ("chunked", chunked::chunked),
    ("forms", forms::forms),
    ("connection", connection::connection),
    ("shard", shard::shard),
    ("response", response::response),
    ("websocket", websocket::websocket),
    ("proxy_protocol", proxy_protocol::proxy_protocol),
];
