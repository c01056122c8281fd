//! The page as the response of a route.

use crate::http::{Exchange, Flow, Reply, Request, Response, State, Transfer};

use super::{Member, Metrics, Owner, Position};

impl State for Metrics {
    type Message = core::convert::Infallible;
}

impl AsRef<Self> for Metrics {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Responds with the page: see the [module](super). The state of the server is the [`Metrics`], or contains them. A
/// socket's output limit must be at least 2 KiB, so that the longest part of a page fits.
///
/// A route that does more calls it as a function:
///
/// ```
/// use lightcone::http::{Http, State};
/// use lightcone::metrics::{self, Metrics};
///
/// struct App {
///     key: String,
///     metrics: Metrics,
/// }
///
/// impl State for App {
///     type Message = core::convert::Infallible;
/// }
///
/// impl AsRef<Metrics> for App {
///     fn as_ref(&self) -> &Metrics {
///         &self.metrics
///     }
/// }
///
/// let app = App { key: "sesame".to_owned(), metrics: Metrics::new() };
/// let server = Http::with(app).get("/metrics", |request, response| {
///     if request.query("key") == Some(request.state.key.as_str()) {
///         metrics::page(request, response.header("Cache-Control", "no-store"))
///     } else {
///         response.refuse(403).into_any()
///     }
/// });
/// # drop(server);
/// ```
pub fn page<S: State + AsRef<Metrics>>(_request: Request<'_, S>, response: Response<'_>) -> Reply<Page> {
    response.header("Content-Type", "text/plain; version=0.0.4").stream(None, Page::at(Position::START))
}

/// The unsent rest of a page. It is formatted one family and thread at a time and never held in full, so a client that
/// does not read it costs no more than any other.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    // Bytes, because every connection reserves space for a `Page`, and alignment would leave gaps.
    family: u8,
    of_workers: bool,
    number: [u8; 2],
}

impl Page {
    fn at(position: Position) -> Self {
        let Position { family, from: Member { owner, number } } = position;
        Self { family, of_workers: owner == Owner::Worker, number: number.to_ne_bytes() }
    }

    fn position(self) -> Position {
        let owner = if self.of_workers { Owner::Worker } else { Owner::Poller };
        let from = Member { owner, number: u16::from_ne_bytes(self.number) };
        Position { family: self.family, from }
    }
}

impl<S: State + AsRef<Metrics>> Exchange<S> for Page {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let counts = (*io.state).as_ref().counts();
        let mut at = self.position();
        while let Some(part) = counts.part(&mut at) {
            let text = part.to_string(); // formatted once, because the counts of servers keep changing
            if write!(io, "{text}").is_err() {
                return Flow::More;
            }
            *self = Self::at(at);
        }
        Flow::Done
    }
}
