//! HTTP/1.1 as a handler over lightcone-core: `no_std`, no heap, no I/O.
//!
//! ```
//! use lightcone_http::Http;
//!
//! let server = Http::new()
//!     .get("/foo", |_request, response| response.text("bar"))
//!     .get("/users/{id}", |request, response| response.display(request.param("id")));
//! # drop(server);
//! ```
//!
//! [`Http`] is a [`Handler`](lightcone_core::Handler): any driver runs it, and it knows nothing of sockets but what
//! core shows. A request is answered by the closure of its [route](Http::get), at once
//! ([`Response::text`] and its like) or over time by an [`Exchange`]; [`Middleware`] goes around them.
//!
//! Requests are read strictly (RFC 9112): where the standard leaves a choice, what could be understood in two ways
//! is refused, so that nothing can be smuggled past a proxy. Everything a peer may make the server hold has a
//! [limit](Limits), and its refusal can be read by the peer. Memory stays bounded: bodies are never gathered by the
//! server, and who takes no answers gives no requests.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::std_instead_of_alloc,
        clippy::std_instead_of_core,
        reason = "tests have std and nothing else"
    )
)]

mod connection;
mod date;
mod exchange;
mod http;
mod limits;
mod method;
mod middleware;
mod parse;
mod path;
mod plan;
mod query;
mod request;
mod respond;
mod route;
mod serve;
mod stats;
mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transfer;

pub use connection::Connection;
pub use date::{DATE_LENGTH, date};
pub use exchange::{Collect, Done, Either, Exchange, Flow, Generate};
pub use http::{Http, Parts};
pub use limits::Limits;
pub use method::Method;
pub use middleware::{AccessLog, Middleware, Outcome, ToState};
pub use parse::framing::{Body, Framing};
pub use parse::head::{Fields, Head, Parse};
pub use parse::scan::parse;
pub use query::{DecodeError, form_decode, percent_decode, query_value};
pub use request::{Request, State};
pub use respond::fields::{FIELDS_MAX, Headers};
pub use respond::response::{Reply, Response};
#[doc(hidden)]
pub use route::{Call, Found, Hit, Wanted};
pub use route::{End, Fallback, Join, Route, Routes, Wrap};
pub use stats::Stats;
pub use status::Status;
pub use transfer::Transfer;
