//! Tests of a server without sockets: requests, responses and time in memory.
//!
//! A [`TestServer`] runs a server with the real parser on the real poller, over connections in memory. Nothing waits:
//! time passes only when the test lets it, so a test of a timeout takes microseconds and always has the same result.
//!
//! ```
//! use lightcone_http::Http;
//! use lightcone_http::testing::TestServer;
//!
//! let mut server = TestServer::new(Http::new().get("/foo", |_request, response| response.text("bar")));
//! assert_eq!(server.get("/foo").text(), "bar");
//! ```
//!
//! [`TestRequest`] builds requests of all kinds:
//!
//! ```
//! use lightcone_http::Http;
//! use lightcone_http::testing::{TestRequest, TestServer};
//!
//! let mut server = TestServer::new(Http::new().post("/length", |request, response| {
//!     request.gather(response, |_state: &mut (), body, response| response.display(body.len()))
//! }));
//! let request = TestRequest::new("POST", "/length").header("Content-Type", "text/plain").body("four");
//! let response = server.request(request);
//! assert_eq!((response.status(), response.text()), (200, "4"));
//! assert_eq!(server.get("/length").status(), 405);
//! ```
//!
//! # Streams and time
//!
//! [`TestServer::start`] sends a request and returns at once. [`TestServer::advance`] then lets time pass, and
//! [`TestServer::partial`] returns what has arrived of the response:
//!
//! ```
//! use core::time::Duration;
//! use lightcone_core::Instant;
//! use lightcone_http::testing::{TestRequest, TestServer};
//! use lightcone_http::{Exchange, Flow, Http, State, Transfer};
//!
//! /// Writes a line every second.
//! #[derive(Default)]
//! struct Clock(Option<Instant>);
//!
//! impl<S: State> Exchange<S> for Clock {
//!     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
//!         let next = self.0.unwrap_or(io.now());
//!         if io.now() >= next && write!(io, "tick\n").is_ok() {
//!             self.0 = Some(next + Duration::from_secs(1));
//!         }
//!         io.wake_at(self.0.unwrap_or(next));
//!         Flow::More
//!     }
//! }
//!
//! let clock = Http::new().get("/ticks", |_request, response| response.stream(None, Clock::default()));
//! let mut server = TestServer::new(clock);
//! let connection = server.start(TestRequest::get("/ticks"));
//! server.advance(Duration::from_millis(2500));
//! let so_far = server.partial(connection).expect("the head has arrived");
//! assert_eq!((so_far.text(), so_far.is_complete()), ("tick\ntick\ntick\n", false));
//! ```
//!
//! # Bytes
//!
//! For what no well-behaved client sends, [`connect`](TestServer::connect), [`send`](TestServer::send) and
//! [`receive`](TestServer::receive) work with bytes. The client can deliver its bytes in
//! [pieces](TestServer::set_piece), read [slowly](TestServer::set_window), [end](TestServer::end) its stream and
//! [reset](TestServer::reset) the connection.

pub(crate) mod network;
mod request;
mod response;
pub(crate) mod server;

pub use request::TestRequest;
pub use response::TestResponse;
pub use server::TestServer;
