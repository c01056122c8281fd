//! Tests of the server on a real shard and poller, with a network in memory and time controlled by the test.

// Their servers need more memory than a board for tests has.
#[cfg(not(target_os = "none"))]
mod assets;
#[cfg(not(target_os = "none"))]
mod conditional;
#[cfg(not(target_os = "none"))]
mod events;
#[cfg(not(target_os = "none"))]
mod posting;
#[cfg(not(target_os = "none"))]
mod refusing;
#[cfg(all(feature = "alloc", not(target_os = "none")))]
mod topics;
#[cfg(not(target_os = "none"))]
mod wrapping;

mod ends;
mod forms;
mod garbage;
mod gathering;
mod holding;
mod kit;
mod limits;
#[cfg(feature = "alloc")]
mod owned;
#[cfg(not(target_os = "none"))] // there, a panic cannot be caught
mod panics;
pub(crate) mod random;
mod rig;
mod routing;
mod serving;
mod stopping;
mod streaming;
mod times;
mod trailers;
mod upgrading;
