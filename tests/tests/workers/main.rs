//! Tests of callbacks on worker threads, over real sockets.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]
#![allow(clippy::indexing_slicing, reason = "as in every test")]
#![allow(clippy::std_instead_of_alloc, reason = "sockets need std anyway")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a script acts on few events")]
#![allow(clippy::excessive_nesting, reason = "threads within scopes within tests")]

mod blocking;
mod ending;
mod messages;
mod rig;
mod transfer;
