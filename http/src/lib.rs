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
//! | to | there is |
//! | --- | --- |
//! | read a request | [`Request`]: method, path, path and query parameters, fields, cookies; [`Head`] has all of it |
//! | decode what it says | [`percent_decode`], [`form_decode`], [`query_pairs`] |
//! | read a small body whole | [`Request::collect`] |
//! | answer at once | [`Response::text`], [`json`](Response::json), [`html`](Response::html), [`bytes`](Response::bytes), [`empty`](Response::empty), [`redirect`](Response::redirect), [`refuse`](Response::refuse) |
//! | answer with values | [`Response::display`], [`display_json`](Response::display_json) with [`JsonText`] |
//! | answer more than fits | [`Response::embedded`], [`generate`](Response::generate), [`stream`](Response::stream) |
//! | read or write bodies piece by piece | [`Exchange`] over a [`Transfer`] |
//! | share state on a poller, post to a connection | [`State`], [`Exchange::message`] |
//! | group routes, go around them | [`Http::merge`], [`nest`](Http::nest), [`wrap`](Http::wrap) |
//! | bound, count and log | [`Limits`], [`Stats`], [`AccessLog`] |
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
pub use exchange::{Collect, Done, Either, Embedded, Exchange, Flow, Generate};
pub use http::{Http, Parts};
pub use lightcone_core::Full;
pub use limits::Limits;
pub use method::Method;
pub use middleware::{AccessLog, Middleware, Outcome, ToState};
pub use parse::framing::{Body, Framing};
pub use parse::head::{Fields, Head, Parse};
pub use parse::scan::parse;
#[doc(hidden)]
pub use path::Whole;
pub use query::{DecodeError, form_decode, percent_decode, query_pairs, query_value};
pub use request::{Request, State};
pub use respond::fields::{FIELDS_MAX, Headers};
pub use respond::response::{Reply, Response};
pub use respond::text::JsonText;
#[doc(hidden)]
pub use route::{Call, Found, Hit, Wanted};
pub use route::{End, Fallback, Join, Route, Routes, Wrap};
pub use stats::Stats;
pub use status::Status;
pub use transfer::Transfer;
