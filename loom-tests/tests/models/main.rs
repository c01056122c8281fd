//! All models, in one binary: a mutant is linked once. Each file says what it models.
#![forbid(unsafe_code)]

mod counter;
mod crew;
mod engine;
mod gate;
mod handover;
mod least;
mod load;
mod mailbox;
mod wake;
