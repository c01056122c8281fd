//! Tests of the server on a real shard and poller, with a network in memory and time controlled by the test.

mod ends;
mod garbage;
mod gathering;
mod holding;
mod kit;
mod limits;
#[cfg(feature = "alloc")]
mod owned;
pub(crate) mod random;
mod rig;
mod routing;
mod serving;
mod stopping;
mod streaming;
mod times;
mod upgrading;
