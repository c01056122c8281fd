//! All models in one binary, so that a mutant is linked once.
#![forbid(unsafe_code)]

mod counter;
mod engine;
mod gate;
mod handover;
mod kv;
mod least;
mod load;
mod mailbox;
mod peer_limits;
mod scheduler;
mod wake;
