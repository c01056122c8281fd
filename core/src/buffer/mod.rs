//! Buffers: pools of blocks, and the input and output buffers that lease them.

mod blocks;
mod input;
mod output;

pub(crate) use blocks::{Blocks, LINK_BYTES, Lent};
pub use input::Input;
pub(crate) use input::{InputPools, Kept, consumed_too_much};
pub(crate) use output::{Chain, Hold};
pub use output::{Mark, Output};
