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
//! | read a body whole | [`Request::gather`] in place, [`Request::collect`] if it may come in chunks |
//! | answer at once | [`Response::text`], [`json`](Response::json), [`html`](Response::html), [`bytes`](Response::bytes), [`empty`](Response::empty), [`redirect`](Response::redirect), [`refuse`](Response::refuse) |
//! | answer with values | [`Response::display`], [`display_json`](Response::display_json) with [`JsonText`] |
//! | answer more than fits | [`Response::embedded`], [`generate`](Response::generate), [`stream`](Response::stream) |
//! | answer later | [`Response::defer`], [`Exchange::message`], [`Transfer::wake_at`], [`respond`](Transfer::respond), [`stream`](Transfer::stream) |
//! | read or write bodies piece by piece | [`Exchange`] over a [`Transfer`] |
//! | share state on a poller, post to a request | [`State`], [`Transfer::id`], [`Envelope`] |
//! | group routes, go around them | [`Http::merge`], [`nest`](Http::nest), [`wrap`](Http::wrap) |
//! | bound, count and log | [`Limits`], [`Stats`], [`Http::log`] |
//!
//! A small service, with state, a group, middleware around it, and a body that is read whole:
//!
//! ```
//! use core::convert::Infallible;
//! use core::str;
//! use lightcone_http::{Done, Http, JsonText, Middleware, Reply, Request, Response, State};
//!
//! /// What the routes of one poller share. Other pollers have their own: share by `Arc`, or by messages.
//! struct Notes(Vec<String>);
//!
//! impl State for Notes {
//!     type Message = Infallible;
//! }
//!
//! struct Password(&'static str);
//!
//! impl<S: State> Middleware<S> for Password {
//!     fn before<'r>(
//!         &mut self,
//!         request: &mut Request<'_, S>,
//!         response: Response<'r>,
//!     ) -> Result<Response<'r>, Reply<Done>> {
//!         match request.header("authorization") {
//!             Some(word) if word == self.0 => Ok(response),
//!             _ => Err(response.header("WWW-Authenticate", "Bearer").refuse(401)),
//!         }
//!     }
//! }
//!
//! fn show(request: Request<'_, Notes>, response: Response<'_>) -> Reply<Done> {
//!     let number: Result<usize, _> = request.param("number").parse();
//!     match number.map(|number| request.state.0.get(number)) {
//!         Ok(Some(note)) => response.display_json(format_args!(r#"{{"note":{}}}"#, JsonText(note))),
//!         Ok(None) => response.refuse(404),
//!         Err(error) => response.status(400).display(error),
//!     }
//! }
//!
//! let notes = Http::group()
//!     .get("/{number}", show)
//!     .post("/", |request, response| {
//!         request.collect::<200, _>(response, |notes: &mut Notes, body, response| {
//!             let Ok(note) = str::from_utf8(body) else { return response.status(400).text("no text") };
//!             notes.0.push(note.to_owned());
//!             response.status(201).header("Location", format_args!("/notes/{}", notes.0.len() - 1)).empty()
//!         })
//!     })
//!     .wrap(Password("Bearer please"));
//! let server = Http::with(Notes(Vec::new()))
//!     .get("/", |_request, response| response.html("<h1>Notes</h1>"))
//!     .nest("/notes", notes)
//!     .fallback(|_request, response| response.redirect("/"));
//! # drop(server);
//! ```
//!
//! Requests are read strictly (RFC 9112): where the standard leaves a choice, what could be understood in two ways
//! is refused, so that nothing can be smuggled past a proxy. Everything a peer may make the server hold has a
//! [limit](Limits), and its refusal can be read by the peer. Memory stays bounded: bodies are never gathered by the
//! server, and who takes no answers gives no requests.
//!
//! With the feature `alloc`, which nothing else here needs, bodies may be on the heap: `Request::collect_vec` gathers one
//! up to a limit of the route, in chunks or not, and `Response::owned` sends one piece by piece. An idle connection pays
//! for neither, but for a pointer.
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

#[cfg(feature = "alloc")]
extern crate alloc;

mod connection;
mod date;
mod envelope;
mod exchange;
mod http;
mod limits;
mod method;
mod middleware;
#[cfg(feature = "alloc")]
mod owned;
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
pub use envelope::{Envelope, RequestId};
pub use exchange::{Collect, Done, Either, Embedded, Exchange, Flow, Gather, Generate};
pub use http::{Http, Parts};
pub use lightcone_core::Full;
pub use limits::Limits;
pub use method::Method;
pub use middleware::{AccessLog, Log, Middleware, Outcome, ToState};
#[cfg(feature = "alloc")]
pub use owned::{CollectVec, Owned};
pub use parse::framing::{Body, Framing};
pub use parse::head::{Fields, Head, Parse};
pub use parse::scan::parse;
#[doc(hidden)]
pub use path::Prefix;
pub use query::{DecodeError, form_decode, percent_decode, query_pairs, query_value};
pub use request::{Request, State};
pub use respond::draft::Fault;
pub use respond::fields::{FIELDS_MAX, Headers};
pub use respond::response::{Reply, Response};
pub use respond::text::JsonText;
#[doc(hidden)]
pub use route::{Call, Cause, Entry, Found, Hit, News, Scene, Traced, Wanted};
pub use route::{End, Fallback, Join, Logged, Route, Routes, Wrap};
pub use stats::Stats;
pub use status::Status;
pub use transfer::Transfer;
