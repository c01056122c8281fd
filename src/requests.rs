//! The access log of a server on standard output.

use std::io::{self, Write};

use crate::http::{AccessLog, Outcome};

/// Returns an access log that prints a line for each request on standard output: the client's address, then the
/// [outcome](Outcome), as in `127.0.0.1:40312 GET /foo 200 3 0ms`.
///
/// ```
/// use lightcone::http::Http;
/// use lightcone::print_requests;
///
/// let server = Http::new().get("/foo", |_request, response| response.text("bar")).log(print_requests());
/// # drop(server);
/// ```
///
/// Each line is one write, made by the thread that served the request, and its errors are ignored: a closed output is
/// no reason to stop serving. If the output is a pipe that is full, the write waits, and with it the other connections
/// of that thread. A server that must not wait passes the outcomes on with [`AccessLog::to`].
#[must_use = "pass it to `Http::log`"]
pub fn print_requests() -> AccessLog<fn(&Outcome<'_>)> {
    AccessLog::to(|outcome| {
        let line = format!("{} {outcome}\n", outcome.peer);
        let mut out = io::stdout().lock();
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    })
}
