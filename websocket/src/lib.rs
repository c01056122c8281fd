//! WebSocket (RFC 6455) for servers of `lightcone-http`: `no_std`, without I/O and without a heap.
//!
//! ```
//! use lightcone_http::{Full, Http, State};
//! use lightcone_websocket::{Channel, Message, WebSocket, upgrade};
//!
//! struct Echo;
//!
//! impl<S: State> WebSocket<S> for Echo {
//!     fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
//!         channel.send_fragment(message.kind(), message.is_first(), message.is_last(), message.bytes())
//!     }
//! }
//!
//! let server = Http::new().get("/echo", |request, response| upgrade(&request, response, Echo));
//! # drop(server);
//! ```
//!
//! A program on an operating system depends on `lightcone` with the feature `websocket`, which re-exports this crate as
//! `lightcone::websocket`.
//!
//! | To | Use |
//! | --- | --- |
//! | open a connection in a route | [`upgrade`] |
//! | handle messages, the end, and posted messages | [`WebSocket`] |
//! | send, close | [`Channel`] |
//! | set limits and times | [`WebSocketConfig`], [`MessageLimits`] |
//! | use the protocol without http, or as a client | [`Receiver`], [`FrameHeader`], [`Mask`], [`check_handshake`], [`parse_close`] |
//!
//! Messages are received in place: the mask is removed in the input buffer, fragments are moved together there, and the
//! handler gets a slice. Text is UTF-8 when a handler sees it, and a peer that sends anything else is noticed at the
//! first byte that is wrong. A connection has at most 24 bytes in addition to its handler, and no buffer while it is
//! idle. Everything that a peer can make the server store has a limit.
//!
//! With the feature `alloc` of http, `upgrade(..).boxed()` keeps the state of the connection on the heap, so that other
//! connections of the server do not pay for it. Extensions, such as compression, are not negotiated.
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
