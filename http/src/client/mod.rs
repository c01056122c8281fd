//! An HTTP/1.1 client over the same core as the server: `no_std`, without I/O, without a heap.
//!
//! | To | Use |
//! | --- | --- |
//! | send requests over connections of the program | [`Client`], a handler, with a [`FetchSource`] |
//! | share a bounded number of connections between requests | [`Pool`], a handler |
//! | write a request and consume its response | [`Fetch`] |
//! | try the addresses of a name | [`Attempts`] |
//! | limit sizes and times | [`ClientLimits`] |
//! | find why a request failed | [`FetchError`]: the [`FetchPhase`] and the [`FetchCause`] |
//! | read a response from bytes | [`ResponseReader`] |
//! | pass requests and responses on, as a proxy | `ForwardedHead`, `ForwardedFields` and [`Response::forward`](crate::Response), with the feature `alloc` |
//! | write the head of a request as text | [`ClientRequest`] with a [`Uri`] |
//! | follow a redirect | [`Redirection`], with the feature `alloc` |
//! | propose another protocol to a server | [`ClientRequest::upgrade`], in a handler of your own |
//!
//! Responses are parsed strictly, as requests are by the server: what another parser could read differently is refused.
//! Requests are sent one at a time on a connection (no pipelining).

mod attempts;
mod connection;
mod fetch;
#[cfg(feature = "alloc")]
mod forward;
mod handler;
mod limits;
mod pool;
#[cfg(feature = "alloc")]
mod redirect;
mod request;
mod response;
mod uri;

pub use attempts::{Attempt, Attempts};
pub use fetch::{BodyWriter, Fetch, FetchCause, FetchError, FetchPhase};
#[cfg(feature = "alloc")]
pub use forward::{ForwardError, ForwardedFields, ForwardedHead};
pub use handler::{Client, ClientSocket, FetchSource};
pub use limits::ClientLimits;
pub use pool::{Pool, PoolLimits, PoolMessage, PoolSocket, PoolStats};
#[cfg(feature = "alloc")]
pub use redirect::{RedirectError, Redirection, resolve};
pub use request::{ClientRequest, InvalidRequest, RequestBody, RequestFields, RequestHead};
pub use response::{Delimiter, InvalidResponse, Piece, ResponseHead, ResponseReader};
pub use uri::{Uri, UriError};
