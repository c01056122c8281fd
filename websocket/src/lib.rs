//! WebSocket (RFC 6455): `no_std`, without a heap.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests use std throughout")
)]

#[cfg(test)]
extern crate std;

mod channel;
mod codec;
mod layer;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Message, Payload};
pub use codec::close::{CloseCode, parse_close};
pub use codec::handshake::{AcceptKey, HandshakeError, check_handshake};
pub use codec::header::{CONTROL_MAX, EncodedHeader, FrameHeader, HEADER_MAX, Opcode, Role};
pub use codec::mask::Mask;
pub use codec::receiver::{CAPACITY_MIN, Incoming, MessageKind, MessageLimits, Receiver, ReceiverStep};
pub use codec::violation::Violation;
pub use layer::{Ending, WebSocket, WebSocketConfig, WebSocketExchange, upgrade};
