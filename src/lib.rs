//! A TCP engine for servers and clients, with an HTTP/1.1 server. This is the only dependency that a program needs.
//!
//! The engine has a poller thread for each processor. A poller waits for its sockets, receives, calls a [`Handler`]
//! for each event, and sends what the handler queued. Every buffer, queue and loop has a maximum; at the maximum there
//! is backpressure. There is no async runtime: a handler is a value with callbacks, and stays on its thread.
//!
//! # Hello over HTTP
//!
//! ```no_run
//! use lightcone::http::Http;
//! use lightcone::{Builder, Error};
//!
//! fn main() -> Result<(), Error> {
//!     let engine = Builder::new().start(|_poller| {
//!         Http::new().get("/hello/{name}", |request, response| response.display(request.param("name")))
//!     })?;
//!     engine.listen("127.0.0.1:8080")?;
//!     engine.join(); // blocks until `shutdown` is called on a handle
//!     Ok(())
//! }
//! ```
//!
//! # A protocol of your own
//!
//! A handler has one callback for each event; all but [`admit`](Handler::admit) have a default. This one sends back
//! what it receives:
//!
//! ```
//! use core::convert::Infallible;
//! use core::time::Duration;
//! use lightcone::{Address, Builder, Context, Error, Handler, Origin, Socket};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Data = (); // the user data of each socket
//!     type Message = Infallible; // the type of posted messages: none here
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
//!         let (mut input, mut output) = socket.stream.split();
//!         let taken = output.send_some(input.bytes());
//!         input.consume(taken); // the rest stays; `writable` is called when there is room
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
//!         self.receive(socket, cx);
//!     }
//! }
//!
//! let engine = Builder::new().pollers(2).start(|_poller| Echo)?;
//! let listener = engine.listen("127.0.0.1:0")?;
//! println!("listening on {}", listener.endpoint());
//! let report = engine.shutdown(Duration::from_secs(1));
//! assert_eq!(report.opened(), 0);
//! # Ok::<(), Error>(())
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `http` | yes | `lightcone::http`: an HTTP/1.1 server and client (the crate `lightcone-http` with its feature `alloc`) |
//! | `websocket` | no | `lightcone::websocket`: WebSocket connections of an HTTP server, and to servers (`lightcone-websocket`) |
//! | `files` | no | `lightcone::files`: the files of a folder as routes of an HTTP server (`lightcone-files`) |
//! | `workers` | yes | `lightcone::workers`: threads for callbacks that block or compute (`lightcone-workers`) |
//! | `signals` | no | `lightcone::shutdown_on_signals`: a graceful shutdown on `SIGINT` and `SIGTERM` |
//! | `handover` | no | listeners from a service manager, and an upgrade without a refused connection: `lightcone::hand_over_on_signal` |
//! | `log` | no | records of the engine for the program's logger: start, shortages, panics, shutdown (crate `log`) |
//! | `serde-json` | no | `Request::parse_json` and `Response::serialize_json` of `lightcone::http`: JSON values through `serde` |
//! | `sim` | no | `lightcone::sim`: handlers in a simulated network, for tests (`lightcone-sim`) |
//! | `testing` | no | `lightcone::http::testing`: an HTTP server and its clients in memory, for tests |
//!
//! A program that needs `sim` or `testing` only for its tests names this crate twice:
//!
//! ```toml
//! [dependencies]
//! lightcone = { path = "../lightcone" }
//!
//! [dev-dependencies]
//! lightcone = { path = "../lightcone", features = ["sim", "testing"] }
//! ```
//!
//! # Where to go next
//!
//! | to | see |
//! | --- | --- |
//! | write a handler | [`Handler`], which states the order of events; [`Socket`], [`Context`] |
//! | configure the engine | [`Builder`](lightcone_unix::Builder) |
//! | stop it, post messages, connect from other threads | [`Handle`] |
//! | stop it by signals | `lightcone::shutdown_on_signals` |
//! | let a load balancer notice a stop in time | [`Readiness`], `lightcone::drain_on_signals` |
//! | upgrade it without a refused connection; be started by systemd | `lightcone::hand_over_on_signal`, `inherited_listeners` |
//! | count what it does, and publish that to Prometheus | [`Handle::stats`], [`metrics`] |
//! | let the user choose a driver | [`DriverName`] |
//! | serve HTTP: routes, bodies, middleware, limits | `lightcone::http` |
//! | serve the files of a folder | `lightcone::files` |
//! | serve WebSocket connections, or open them to servers | `lightcone::websocket` |
//! | send HTTP requests: from a thread that may wait, or from a handler | `lightcone::fetch`, `lightcone::http::client` |
//! | log requests | `lightcone::print_requests` |
//! | run a slow callback | `lightcone::workers` |
//! | test an HTTP server without sockets | `lightcone::http::testing` |
//! | test a handler in a simulated network | `lightcone::sim`, whose front page has a complete test |
//! | find races in state that handlers share | `lightcone-model`, which a separate package of models depends on |
//! | check a handler against the event contract | [`engine_core::ContractChecker`], `lightcone::sim` |
//! | drive sockets without an operating system | [`engine_core`], which a program can also use alone as `lightcone-core` |
//!
//! This crate is the only place that selects a driver by operating system: epoll on Linux and Android, kqueue on the
//! BSDs and Apple's systems, `select` on every other POSIX system.

#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "http")]
pub mod fetch;
#[cfg(feature = "handover")]
mod handover;
pub mod metrics;
mod named;
mod readiness;
#[cfg(feature = "http")]
mod requests;
#[cfg(feature = "signals")]
mod signals;
#[cfg(test)]
mod tests;

#[cfg(feature = "handover")]
pub use handover::{hand_over_on_signal, inherited_listeners, notify_ready, start_successor};
pub use named::{DriverName, UnknownDriver};
pub use readiness::Readiness;
#[cfg(feature = "http")]
pub use requests::print_requests;
#[cfg(feature = "signals")]
pub use signals::{drain_on_signals, shutdown_on_signals};

core::cfg_select! {
    any(target_os = "linux", target_os = "android") => {
        pub use lightcone_epoll::Epoll as Native;
        named::names! { "native" => Native, "epoll" => Native, "select" => lightcone_select::Select }
    }
    any(
        target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd",
        target_vendor = "apple",
    ) => {
        pub use lightcone_kqueue::Kqueue as Native;
        named::names! { "native" => Native, "kqueue" => Native, "select" => lightcone_select::Select }
    }
    unix => {
        pub use lightcone_select::Select as Native;
        named::names! { "native" => Native, "select" => Native }
    }
    _ => {
        compile_error!("lightcone's drivers need a POSIX system");
    }
}

/// All of `lightcone-core`, the engine without an operating system. The root of this crate re-exports only what a
/// handler needs. (Not called `core`: after `use lightcone::*`, that name would be ambiguous with the language's own
/// crate.)
pub use lightcone_core as engine_core;
#[cfg(feature = "files")]
pub use lightcone_files as files;
#[cfg(feature = "http")]
pub use lightcone_http as http;
#[cfg(feature = "sim")]
pub use lightcone_sim as sim;
#[cfg(feature = "websocket")]
pub use lightcone_websocket as websocket;
#[cfg(feature = "workers")]
pub use lightcone_workers as workers;

pub use lightcone_core::balance::BalanceError;
pub use lightcone_core::{
    Address, AddressPrefix, Backlog, Backoff, Checkpoint, CloseReason, ConfigError, ConnectError, Context,
    ErrorKind, Event, Full, Handler, Input, Instant, Lag, LagCounter, LagPolicy, LimitPeers, ListenerId,
    Origin, Output, PollerEvent, PollerId, PrefixError, Rate, Rejected, RequestError, RoomError, Socket,
    Stats, Stream, SubscribeError, Timeout, Timeouts, TimerError, TimerId, Token, TokenBucket, TooSlow,
    Topic, TopicStats, UnixId, Unpublished, WouldBlock, WriteRate, framing, proxy_protocol,
};
pub use lightcone_unix::driver::DriverError;
pub use lightcone_unix::errno::Errno;
pub use lightcone_unix::listener::{AdoptCause, AdoptError, ListenCause, ListenError};
pub use lightcone_unix::socket::KeepAlive;
pub use lightcone_unix::{
    Engine, Error, Handle, Listener, Policy, PollerContext, PollerReport, Report, ToEndpoints,
    UnixAddressesFull, endpoint, limits,
};

/// A builder of an [`Engine`] over the platform's best driver. [`driver`](lightcone_unix::Builder::driver) selects
/// another one.
pub type Builder = lightcone_unix::Builder<Native>;
