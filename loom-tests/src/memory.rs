//! The memory of blocks, which a model has no system to give back to.

/// As that of `lightcone_unix`.
pub fn release(_: &mut [u8]) {}
