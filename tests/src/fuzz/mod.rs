//! Bodies of the fuzz targets: each takes any bytes and panics when a promise is broken.
//!
//! A target is an ordinary function, so that its corpus is replayed by `cargo test` (`tests/tests/fuzz.rs`) and no
//! special compiler is needed. The programs that let libFuzzer look for inputs are in `tests/fuzz/`.
//!
//! Each module has a way to run its target over something that is broken on purpose; the tests see to it that the
//! corpus notices.
#![allow(
    clippy::cast_possible_truncation,
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "a panic is how a broken promise is told, and numbers are small"
)]

pub mod chunked;
pub mod connection;
pub mod differential;
pub mod head;
mod responses;
pub mod shard;
mod tape;
#[path = "../../../core/tests/common/two_ways.rs"]
mod two_ways;
pub mod verdict;
mod wire;

pub use wire::Flaw;

/// A target: its name, which is that of its folder of inputs, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 5] = [
    ("head", head::head),
    ("differential", differential::differential),
    ("chunked", chunked::chunked),
    ("connection", connection::connection),
    ("shard", shard::shard),
];
