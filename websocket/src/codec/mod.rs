//! The protocol without I/O: bytes in, frames and messages out.

pub(crate) mod close;
pub(crate) mod generator;
pub(crate) mod handshake;
pub(crate) mod header;
pub(crate) mod mask;
pub(crate) mod receiver;
#[cfg(test)]
mod receiver_tests;
pub(crate) mod utf8;
pub(crate) mod violation;
