//! Which types are chains of routes: those of this crate.

use super::{ChainEnd, Fallback, Join, Logged, Route, Wrap, each::WrapEach};

/// A supertrait that no other crate can implement.
#[expect(unnameable_types, reason = "so that no other crate can implement it")]
pub trait Sealed {}

impl Sealed for ChainEnd {}
impl<F, B, R> Sealed for Route<F, B, R> {}
impl<F, B, R> Sealed for Fallback<F, B, R> {}
impl<A, R> Sealed for Join<A, R> {}
impl<M, R> Sealed for Wrap<M, R> {}
impl<M, R> Sealed for WrapEach<M, R> {}
impl<L, R> Sealed for Logged<L, R> {}
