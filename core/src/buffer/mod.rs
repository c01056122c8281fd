//! Where bytes wait: blocks leased from pools, and the two buffers made of them.

mod blocks;
mod input;
mod output;

pub(crate) use blocks::{Blocks, LINK_BYTES, Lent};
pub use input::Input;
pub(crate) use input::{InputPools, Kept, consumed_too_much};
pub(crate) use output::{Chain, Hold};
pub use output::{Mark, Output};
