//! Buffers: pools of blocks, and the input and output buffers that lease them.

mod blocks;
mod input;
mod output;

pub(crate) use blocks::{Blocks, LINK_BYTES, PoolMut};
pub use input::Input;
pub(crate) use input::{InputPools, InputTail, consumed_too_much};
pub use output::{Checkpoint, Output};
pub(crate) use output::{OutputQueue, WritableGate};
