//! The page as the response of a route.

use core::fmt;

use crate::http::{Exchange, Flow, Reply, Request, Response, State, Transfer};

use super::{Metrics, Position};

impl Metrics {
    /// Returns a route handler that responds with the page: see the [module](super). The engine's output limit must be
    /// at least 2 KiB for a socket.
    #[must_use = "add it as a route"]
    pub fn route<S: State>(&self) -> impl FnMut(Request<'_, S>, Response<'_>) -> Reply<Page> + use<S> {
        let metrics = self.clone();
        move |_request, response| metrics.respond(response)
    }

    /// Responds with the page, for a route that does more than that.
    ///
    /// ```
    /// use lightcone::http::Http;
    /// use lightcone::metrics::Metrics;
    ///
    /// let metrics = Metrics::new();
    /// let server = Http::new().get("/metrics", move |request, response| match request.query("key") {
    ///     Some("sesame") => metrics.respond(response.header("Cache-Control", "no-store")),
    ///     _ => response.refuse(403).into_any(),
    /// });
    /// # drop(server);
    /// ```
    pub fn respond(&self, response: Response<'_>) -> Reply<Page> {
        let progress = Progress { metrics: self.clone(), at: Position::START };
        response
            .header("Content-Type", "text/plain; version=0.0.4")
            .stream(None, Page(Slim(Some(Box::new(progress)))))
    }
}

/// The unsent rest of a page. It is formatted one family and thread at a time and never held in full, so a client that
/// does not read it costs no more than any other. An idle connection has room for one pointer to it.
pub struct Page(Slim);

/// A box without alignment, so that it leaves no gap in a connection.
#[repr(Rust, packed)]
struct Slim(Option<Box<Progress>>);

const _: () = assert!(size_of::<Page>() == size_of::<usize>() && align_of::<Page>() == 1);

struct Progress {
    metrics: Metrics,
    at: Position,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

impl<S: State> Exchange<S> for Page {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let Slim(progress) = core::mem::replace(&mut self.0, Slim(None));
        let Some(mut progress) = progress else { return Flow::Done };
        if progress.advance(io) == Flow::Done {
            return Flow::Done;
        }
        self.0 = Slim(Some(progress));
        Flow::More
    }
}

impl Progress {
    fn advance<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let counts = self.metrics.counts();
        let mut at = self.at;
        while let Some(part) = counts.part(&mut at) {
            let text = part.to_string(); // formatted once, because the counts of servers keep changing
            if write!(io, "{text}").is_err() {
                return Flow::More;
            }
            self.at = at;
        }
        Flow::Done
    }
}
