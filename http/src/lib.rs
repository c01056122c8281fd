//! An HTTP/1.1 server and client for `lightcone-core`: `no_std`, without I/O, and without a heap unless the feature
//! `alloc` is on.
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
//! A program on an operating system depends on `lightcone`, which re-exports this crate as `lightcone::http`, with the
//! feature `alloc`. [`Http`] implements the core's [`Handler`](lightcone_core::Handler), so any driver can run it. Each
//! [route](Http::get) has a route handler, a closure or function that responds at once ([`Response::text`] and similar
//! methods) or passes the request to an [`Exchange`], which responds over time. [`Middleware`] wraps routes.
//!
//! | To | Use |
//! | --- | --- |
//! | read a request | [`Request`]: method, path, path and query parameters, fields, cookies; [`Head`] for the whole head |
//! | parse parameters of the path and the query | [`Request::parse_param`], [`parse_query`](Request::parse_query), [`Response::bad_parameter`] |
//! | decode paths, queries and forms | [`percent_decode`], [`form_decode`], [`query_pairs`] |
//! | read a whole body | [`Request::gather`] in place, [`Request::collect`] if it may be chunked |
//! | respond at once | [`Response::text`], [`json`](Response::json), [`html`](Response::html), [`bytes`](Response::bytes), [`empty`](Response::empty), [`redirect`](Response::redirect), [`refuse`](Response::refuse) |
//! | respond with formatted values | [`Response::display`], [`display_json`](Response::display_json) with [`JsonString`] |
//! | read and send values as JSON, with the feature `serde-json` | `Request::parse_json`, `Response::serialize_json`, `from_json` |
//! | send more than the output buffer holds | [`Response::embedded`], [`generate`](Response::generate), [`stream`](Response::stream) |
//! | answer conditional requests | [`Request::conditional`], [`ETag`], [`Validators`] |
//! | send content with its type, validators, ranges and compressed variants | [`Asset`], [`Request::asset`], [`asset_parts`](Request::asset_parts), [`generate`](Request::generate) |
//! | read and set cookies | [`Request::cookie`], [`cookies`](Request::cookies), [`SetCookie`], [`Response::set_cookie`] |
//! | redirect | [`Response::redirect`], [`LocalPath`] for locations that come from a request |
//! | send an event stream | [`Request::events`], [`EventFeed`], [`ServerEvent`] |
//! | respond later | [`Response::defer`], [`Exchange::message`], [`Transfer::wake_at`], [`respond`](Transfer::respond), [`stream`](Transfer::stream) |
//! | read or write bodies piece by piece | [`Exchange`] with a [`Transfer`] |
//! | read or send trailer fields | [`Response::keep_trailers`], [`Transfer::trailers`]; [`Response::announce_trailers`], [`Transfer::end_with`] |
//! | change to another protocol | [`Response::upgrade`] with an [`Exchange`]; for WebSocket, the crate `lightcone-websocket` |
//! | read forms and uploaded files as they arrive | [`FormPairs`], [`Multipart`] |
//! | share state on a poller, post messages to a request | [`State`], [`Transfer::id`], [`RequestMessage`] |
//! | group and wrap routes | [`Http::merge`], [`nest`](Http::nest), [`wrap`](Http::wrap), [`wrap_each`](Http::wrap_each) |
//! | allow requests from other origins, identify requests, ask for credentials | [`Cors`], [`RequestIds`], [`BasicAuth`], [`BearerAuth`] |
//! | limit the requests of each peer | [`RateLimit`] |
//! | send requests | the module [`client`]: [`Client`](client::Client), [`Pool`](client::Pool) |
//! | test a server without sockets | `testing::TestServer` |
//! | limit, count and log | [`Limits`], [`Stats`], [`Http::log`] |
//!
//! A small service with state, a group of routes wrapped in middleware, and a body that is read whole:
//!
//! ```
//! use core::convert::Infallible;
//! use core::str;
//! use lightcone_http::{Done, Http, JsonString, Middleware, Reply, Request, Response, State, is_same_secret};
//!
//! /// The state of one poller. Pollers share state through an `Arc`, or by messages.
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
//!             Some(word) if is_same_secret(word.as_bytes(), self.0.as_bytes()) => Ok(response),
//!             _ => Err(response.header("WWW-Authenticate", "Bearer").refuse(401)),
//!         }
//!     }
//! }
//!
//! fn show(request: Request<'_, Notes>, response: Response<'_>) -> Reply<Done> {
//!     let number = request.parse_param::<usize>("number");
//!     match number.map(|number| request.state.0.get(number)) {
//!         Ok(Some(note)) => response.display_json(format_args!(r#"{{"note":{}}}"#, JsonString(note))),
//!         Ok(None) => response.refuse(404),
//!         Err(error) => response.bad_parameter(&error),
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
//! Requests are parsed strictly (RFC 9112): where the standard leaves a choice, the server refuses input that another
//! parser could read differently, which prevents request smuggling through a proxy: [`strictness`] lists each class of
//! input, its outcome and the section of the RFC. Everything that a peer can make the server store has a
//! [limit](Limits). A connection that exceeds a limit is closed such that the peer can still read the error response.
//! Memory stays bounded: the server buffers no whole body unless a route requests it, and it stops reading from a peer
//! that does not read its responses.
//!
//! A route or an exchange reaches other requests by messages: [`Request::broadcast`] and [`Request::post`], and the
//! same of [`Transfer`], call [`Exchange::message`] of requests in progress on any poller. So a `POST` can wake the
//! event streams of all clients. Where not every request is concerned, those that are [subscribe](Transfer::subscribe)
//! to a topic, to which [`Request::publish`] publishes; a `TopicFeed` is an event stream that does, and a [`Backlog`]
//! keeps messages for a client that reads slowly. `examples/events.rs` shows this. For the counts of the engine, keep
//! its handle in the [`State`], as the metrics page of `lightcone` does.
//!
//! A panic of a handler, of middleware or of an exchange costs the connection of its request, and no other one, as long
//! as panics unwind and the program runs on an engine or on workers, which catch them. The request is answered with a
//! 500 if nothing of its response was written, and its connection ends. Otherwise the connection is reset, so that the
//! response does not look complete. Requests that follow on the connection are not served. The request counts as failed
//! or aborted, and its exchange is dropped. A log gets the outcome when the connection has ended; if the handler had
//! not returned, without method and target.
//!
//! The feature `alloc` adds bodies on the heap: `Request::collect_vec` collects a request body, chunked or not, up to a
//! limit set by the route, and `Response::owned` takes ownership of a body and sends it piece by piece. `Reply::boxed`
//! moves a large exchange to the heap. The feature costs one pointer per connection, even an idle one. The rest of the
//! crate does not use the heap.
//!
//! The feature `serde-json` adds JSON values through `serde` and `serde_json`: `Request::parse_json` reads a body as a
//! value, and responds to one that is not acceptable with what is wrong and where; `Response::serialize_json` sends a
//! value. It turns on `alloc`.
//!
//! The feature `testing` adds the module `testing`, for tests of a server without sockets. Turn it on in
//! `[dev-dependencies]`.
//!
//! The feature `defmt` formats [`Status`], [`Method`], [`Flow`], [`Limits`], [`Fault`], [`RequestId`] and the limits,
//! counts and errors of [`client`] for `defmt`, the logger of microcontrollers, and turns on the feature of that name
//! of `lightcone-core`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests use std throughout")
)]

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;

pub mod client;
mod connection;
mod date;
mod events;
mod exchange;
mod form;
mod http;
#[cfg(feature = "serde-json")]
mod json;
mod limits;
mod message;
mod method;
mod middleware;
mod mode;
mod multipart;
#[cfg(feature = "alloc")]
mod owned;
mod parameter;
mod parse;
mod path;
mod query;
mod request;
mod respond;
mod route;
mod serve;
mod stats;
mod status;
#[doc = include_str!("strictness.md")]
pub mod strictness {}
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transfer;

pub use connection::HttpConnection;
pub use date::{DATE_LENGTH, date, parse_date};
#[cfg(all(feature = "alloc", target_has_atomic = "ptr"))]
pub use events::{EncodedEvent, TopicFeed};
pub use events::{EventFeed, EventId, EventStream, EventWriter, ServerEvent};
pub use exchange::{Collect, Done, Either, Exchange, Flow, Gather, GeneratedBody, StaticBody};
pub use form::{FormError, FormPair, FormPairs};
pub use http::{Http, ServerState};
#[cfg(feature = "serde-json")]
pub use json::{JsonError, from_json};
pub use lightcone_core::{Backlog, Full, LagPolicy, SubscribeError, TooSlow, Topic};
pub use limits::Limits;
pub use message::{Outlet, RequestId, RequestMessage};
pub use method::Method;
#[doc(hidden)]
pub use middleware::Hook;
pub use middleware::authorization::{BasicAuth, BearerAuth, TokenError, is_same_secret};
pub use middleware::cors::Cors;
pub use middleware::rate_limit::RateLimit;
pub use middleware::request_ids::{CorrelationId, RequestIds};
pub use middleware::{AccessLog, Log, Middleware, Outcome, RequestMiddleware, ToState};
pub use multipart::{Multipart, MultipartEvent, PartHead};
#[cfg(feature = "alloc")]
pub use owned::{Boxed, CollectVec, Owned};
pub use parameter::ParameterError;
pub use parse::framing::{Body, Framing};
pub use parse::head::{Fields, Head, Parse};
pub use parse::scan::parse;
pub use parse::trailers::Trailers;
#[doc(hidden)]
pub use path::Prefix;
pub use query::{DecodeError, form_decode, percent_decode, query_pairs, query_value};
pub use request::{Request, State};
pub use respond::asset::{Asset, AssetBody, AssetParts};
pub use respond::cookie::{InvalidCookie, SameSite, SetCookie};
pub use respond::fields::{FIELDS_MAX, Headers};
pub use respond::location::LocalPath;
pub use respond::representation::{Representation, Selection};
pub use respond::response::{Reply, Response};
pub use respond::text::JsonString;
pub use respond::validators::{ETag, Validators};
pub use respond::writer::Fault;
pub use route::each::{KeptBody, WrapEach};
#[doc(hidden)]
pub use route::{BestMatch, Call, Cause, Lookup, Report, ReportContext, RouteEntry, RouteMatch, Traced};
pub use route::{ChainEnd, Fallback, Join, Logged, Route, Routes, Wrap};
pub use stats::Stats;
pub use status::{InvalidStatus, Status};
pub use transfer::Transfer;
