//! Conformance, end-to-end and proof tests.

/// The programs of the README as doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub mod readme {}

pub mod fuzz;
pub mod streams;
pub mod strictness;
