//! Tests of the server on a real shard and poller, with a network in memory and time controlled by the test.

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
