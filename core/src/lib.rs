//! A TCP engine as a sans-I/O state machine: no_std, no heap, no OS
#![no_std]

pub mod balance;
pub mod sync;
