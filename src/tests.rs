//! Tests of what belongs to the whole process: signals, the logger, descriptors.

#[cfg(any(feature = "log", feature = "signals"))]
pub(crate) mod alone;
#[cfg(feature = "log")]
mod records;
