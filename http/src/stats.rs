//! Counters that a program can read.

use core::fmt;

use lightcone_core::sync::Counter;

use crate::status::Status;

/// The counters of one server, set by [`Http::stats`](crate::Http::stats). Any thread can read them, for example in a
/// handler for `/metrics`. Use one `Stats` per poller and add them up, so that no two threads write to the same one.
///
/// ```
/// use lightcone_http::{Http, Stats};
///
/// static STATS: [Stats; 4] = [const { Stats::new() }; 4]; // one per poller
///
/// let server = |poller: usize| {
///     Http::new().stats(&STATS[poller]).get("/metrics", |_request, response| {
///         let requests: usize = STATS.iter().map(Stats::requests).sum();
///         response.display(format_args!("http_requests_total {requests}\n"))
///     })
/// };
/// # drop(server(0));
/// ```
///
/// The counters are as wide as a pointer and wrap around.
#[derive(Debug)]
pub struct Stats {
    requests: Counter,
    failures: Counter,
    pub(crate) aborted: Counter,
    pub(crate) oversized: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
    refusals: [Counter; REFUSALS.len()],
}

/// The statuses with which the server itself refuses requests.
const REFUSALS: [Status; 10] = [
    Status::BAD_REQUEST,
    Status::REQUEST_TIMEOUT,
    Status::CONTENT_TOO_LARGE,
    Status::URI_TOO_LONG,
    Status::EXPECTATION_FAILED,
    Status::FIELDS_TOO_LARGE,
    Status::NOT_IMPLEMENTED,
    Status::SERVICE_UNAVAILABLE,
    Status::VERSION_NOT_SUPPORTED,
    Status::INTERNAL_SERVER_ERROR,
];

impl Stats {
    /// Creates counters that are all zero.
    pub const fn new() -> Self {
        Self {
            requests: Counter::new(),
            failures: Counter::new(),
            aborted: Counter::new(),
            oversized: Counter::new(),
            bytes_in: Counter::new(),
            bytes_out: Counter::new(),
            refusals: [const { Counter::new() }; REFUSALS.len()],
        }
    }

    /// Returns the number of requests that were passed to the routes, without those that the server refused before their
    /// handler was called.
    pub fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Returns how many of the [requests](Self::requests) were answered with a status of 400 or above, at once or
    /// later.
    pub fn failures(&self) -> usize {
        self.failures.get()
    }

    /// Returns how many of the [requests](Self::requests) were to be answered later, but their connection ended before
    /// the whole response was written: closed by the peer, by a timeout or a shutdown, or because the request's body
    /// could not be read further.
    pub fn aborted(&self) -> usize {
        self.aborted.get()
    }

    /// Returns the number of responses that were too large to be sent at once. Each became a 500. See
    /// [`Fault::TooLarge`](crate::Fault::TooLarge).
    pub fn oversized(&self) -> usize {
        self.oversized.get()
    }

    /// Returns the number of bytes of requests.
    pub fn bytes_in(&self) -> usize {
        self.bytes_in.get()
    }

    /// Returns the number of bytes of responses.
    pub fn bytes_out(&self) -> usize {
        self.bytes_out.get()
    }

    /// Returns the number of requests that the server itself refused, by status: because the head was not acceptable,
    /// or because the body was malformed, too large, too slow, or ended early. Also counted if the response had
    /// begun, or if middleware responded instead, in which case the client does not receive the status.
    pub fn refusals(&self) -> impl Iterator<Item = (Status, usize)> {
        REFUSALS.iter().zip(&self.refusals).map(|(status, count)| (*status, count.get()))
    }

    /// Adds the work of one callback, which wrote `bytes_out` bytes.
    #[inline]
    pub(crate) fn add(&self, tally: &StatsDelta, bytes_out: usize) {
        self.requests.add(tally.requests);
        self.bytes_in.add(tally.bytes_in);
        self.bytes_out.add(bytes_out);
        if tally.failures > 0 {
            self.failures.add(tally.failures);
        }
        if let Some(refusal) = tally.refusal {
            self.refused(refusal);
        }
    }

    /// Counts a refusal.
    #[cold]
    pub(crate) fn refused(&self, refusal: Status) {
        let mut counts = REFUSALS.iter().zip(&self.refusals);
        let Some((_, count)) = counts.find(|(status, _)| **status == refusal) else {
            unreachable!("{refusal} is not in `REFUSALS`")
        };
        count.add(1);
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

/// Formats the counters as lines of a metrics page.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "http_requests_total {}", self.requests())?;
        writeln!(f, "http_failures_total {}", self.failures())?;
        writeln!(f, "http_aborted_total {}", self.aborted())?;
        writeln!(f, "http_oversized_total {}", self.oversized())?;
        writeln!(f, "http_bytes_in_total {}", self.bytes_in())?;
        writeln!(f, "http_bytes_out_total {}", self.bytes_out())?;
        for (status, count) in self.refusals() {
            writeln!(f, "http_refusals_total{{status=\"{}\"}} {count}", status.code())?;
        }
        Ok(())
    }
}

/// The work of one callback.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatsDelta {
    pub(crate) requests: usize,
    pub(crate) failures: usize,
    pub(crate) bytes_in: usize,
    pub(crate) refusal: Option<Status>,
}
