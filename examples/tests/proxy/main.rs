//! Tests of the program `proxy`, run as a process between clients and upstreams of the tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "as in every test: a failure is a panic; upstreams and clients block, on threads of their own"
)]

mod errors;
mod kit;
mod life;
mod passing;
mod streaming;
