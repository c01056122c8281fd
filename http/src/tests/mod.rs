//! The server over a real shard, driven with slices: no OS, no time but the test's.

mod ends;
mod garbage;
mod gathering;
mod holding;
mod limits;
#[cfg(feature = "alloc")]
mod owned;
mod rig;
mod routing;
mod serving;
mod stopping;
mod streaming;
mod times;
