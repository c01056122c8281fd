//! WebSocket (RFC 6455) over `lightcone-http`, for servers and clients: `no_std`, without I/O and without a heap.
//!
//! A handler, [`WebSocket`], gets the messages of a connection. It is the same on either side: a route of a server
//! opens a connection by [`upgrade`], a client by a [`WebSocketClient`].
//!
//! ```
//! use lightcone_http::{Full, Http, State};
//! use lightcone_websocket::{Channel, Message, WebSocket, upgrade};
//!
//! struct Echo;
//!
//! impl<S: State> WebSocket<S> for Echo {
//!     fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
//!         channel.send_fragment(message.kind(), message.fragment(), message.bytes())
//!     }
//! }
//!
//! let server = Http::new().get("/echo", |request, response| upgrade(&request, response, Echo));
//! # drop(server);
//! ```
//!
//! A client is a handler of the engine. It takes the requests and the handlers of its connections from a source:
//!
//! ```
//! use lightcone_http::client::Uri;
//! use lightcone_http::{Full, State};
//! use lightcone_websocket::{
//!     Channel, MaskGenerator, Message, OpeningRequest, OpeningResponse, WebSocket, WebSocketClient, WebSocketSource,
//! };
//!
//! /// Prints the messages of a server.
//! struct Print;
//!
//! impl State for Print {
//!     type Message = core::convert::Infallible;
//! }
//!
//! impl WebSocketSource for Print {
//!     type WebSocket = Self;
//!
//!     fn request(&self, _tag: u64) -> OpeningRequest<'_> {
//!         OpeningRequest::new(Uri::parse_ws("ws://127.0.0.1:8080/news").expect("a valid URI"))
//!     }
//!
//!     fn accept(&mut self, _tag: u64, _: &OpeningResponse<'_>) -> Self {
//!         Self
//!     }
//! }
//!
//! impl WebSocket<Print> for Print {
//!     fn receive(&mut self, message: Message<'_>, _: &mut Channel<'_, Print>) -> Result<(), Full> {
//!         println!("{message}");
//!         Ok(())
//!     }
//! }
//!
//! # let random = [7; 32];
//! // One per poller; `engine.handle().connect(address, tag)` opens a connection.
//! let client = WebSocketClient::new(Print, MaskGenerator::new(&random));
//! # drop(client);
//! ```
//!
//! A program on an operating system depends on `lightcone` with the feature `websocket`, which re-exports this crate as
//! `lightcone::websocket`.
//!
//! | To | Use |
//! | --- | --- |
//! | open a connection in a route of a server | [`upgrade`] |
//! | open connections to servers | [`WebSocketClient`], [`WebSocketSource`], [`OpeningRequest`] |
//! | find why a connection was not opened | [`OpeningError`] |
//! | handle messages, the end, and posted messages | [`WebSocket`] |
//! | send, close | [`Channel`] |
//! | set limits and times | [`WebSocketConfig`], [`MessageLimits`], [`OpeningLimits`] |
//! | supply the masks of a client | [`MaskGenerator`], or a [`MaskSource`] of the program |
//! | use the protocol without http | [`Receiver`], [`FrameHeader`], [`Mask`], [`check_handshake`], [`check_response`], [`parse_close`] |
//!
//! Messages are received in place: the mask is removed in the input buffer, fragments are moved together there, and the
//! handler gets a slice. Text is UTF-8 when a handler sees it, and a peer that sends anything else is noticed at the
//! first byte that is wrong. A connection of a server has at most 24 bytes in addition to its handler, and neither side
//! has a buffer for it while it is idle. Everything that a peer can make the server store has a limit.
//!
//! With the feature `alloc` of http, `upgrade(..).boxed()` keeps the state of the connection on the heap, so that other
//! connections of the server do not pay for it. Extensions, such as compression, are not negotiated. There is no TLS
//! (`wss`).
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests use std throughout")
)]

#[cfg(test)]
extern crate std;

mod channel;
mod client;
mod codec;
mod layer;
mod session;
#[cfg(test)]
mod tests;

pub use channel::{Channel, Fragment, Message, Payload};
pub use client::{
    OpeningError, OpeningLimits, OpeningRequest, OpeningResponse, WebSocketClient, WebSocketSocket,
    WebSocketSource,
};
pub use codec::close::{CloseCode, parse_close};
pub use codec::generator::{MaskGenerator, MaskSource};
pub use codec::handshake::{AcceptKey, HandshakeError, ResponseError, check_handshake, check_response};
pub use codec::header::{CONTROL_MAX, EncodedHeader, FrameHeader, HEADER_MAX, Opcode, Role};
pub use codec::mask::Mask;
pub use codec::receiver::{CAPACITY_MIN, Incoming, MessageKind, MessageLimits, Receiver, ReceiverStep};
pub use codec::violation::Violation;
pub use layer::{WebSocketExchange, upgrade};
pub use session::{Ending, WebSocket, WebSocketConfig};
