//! Handlers over a stack, with a host of clients at the other end of a wire in memory.
#![allow(
    clippy::cast_possible_truncation,
    clippy::excessive_nesting,
    clippy::indexing_slicing,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "tests are built with std, and a failure is a panic"
)]

mod faults;
mod limits;
#[cfg(all(feature = "medium-ip", feature = "proto-ipv6"))]
mod media;
mod peers;
mod serving;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod traces;
mod waiting_room;
mod wire;
