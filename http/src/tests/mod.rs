//! The server over a real shard, driven with slices: no OS, no time but the test's.

mod rig;
mod serving;
