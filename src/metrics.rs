//! The counts of an engine and of its HTTP servers in the text format of [Prometheus], as a page or as a text.
//!
//! Here each poller's server counts its requests and serves the page:
//!
#![cfg_attr(feature = "http", doc = "```no_run")]
#![cfg_attr(not(feature = "http"), doc = "```ignore")]
//! use lightcone::http::Http;
//! use lightcone::metrics::{self, Metrics};
//! use lightcone::{Builder, Error};
//!
//! fn main() -> Result<(), Error> {
//!     let metrics = Metrics::new();
//!     let engine = Builder::new().start(move |poller| {
//!         Http::with(metrics.clone())
//!             .stats(metrics.on_poller(&poller))
//!             .get("/metrics", metrics::page)
//!             .get("/", |_request, response| response.text("hello"))
//!     })?;
//!     engine.listen("127.0.0.1:8080")?;
//!     engine.join();
//!     Ok(())
//! }
//! ```
//!
//! With workers, `on_worker` takes the place of `on_poller`, and [`Metrics::observe`] adds the engine once it has
//! started:
//!
#![cfg_attr(all(feature = "http", feature = "workers"), doc = "```no_run")]
#![cfg_attr(not(all(feature = "http", feature = "workers")), doc = "```ignore")]
//! use lightcone::http::Http;
//! use lightcone::metrics::{self, Metrics};
//! use lightcone::{Builder, workers};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let metrics = Metrics::new();
//!     let ours = metrics.clone();
//!     let workers = workers::Builder::new().start(move |worker| {
//!         Http::with(ours.clone()).stats(ours.on_worker(worker)).get("/metrics", metrics::page)
//!     })?;
//!     let engine = Builder::new().start(workers.offload())?;
//!     metrics.observe(engine.handle());
//!     engine.listen("127.0.0.1:8080")?;
//!     engine.join();
//!     Ok(())
//! }
//! ```
//!
//! A program without the feature `http`, or one that publishes its counts by other means, formats the [`Metrics`].
//!
//! # Families
//!
//! Each sample has the label `poller` or `worker` with the number of the thread that counts it. The counts of pollers
//! are at most a tenth of a second old.
//!
//! | family | further label | source |
//! | --- | --- | --- |
//! | `lightcone_connections` | | [`Handle::loads`] |
//! | `lightcone_connections_accepted_total` | | [`Stats::accepted`] |
//! | `lightcone_connections_turned_away_total` | | [`Stats::rejected`] |
//! | `lightcone_connections_over_rate_total` | | [`Stats::over_rate`] |
//! | `lightcone_connections_closed_total` | `reason` | [`Stats::closed`] |
//! | `lightcone_received_bytes_total` | | [`Stats::bytes_in`] |
//! | `lightcone_sent_bytes_total` | | [`Stats::bytes_out`] |
//! | `lightcone_lost_bytes_total` | | [`Stats::bytes_lost`] and [`Stats::bytes_undelivered`] |
//! | `lightcone_output_shortages_total` | | [`Stats::output_shortages`] |
//! | `lightcone_input_shortages_total` | | [`Stats::input_shortages`] |
//! | `lightcone_subscriptions` | | [`TopicStats::subscriptions`](crate::TopicStats::subscriptions) |
//! | `lightcone_published_total` | | [`TopicStats::published`](crate::TopicStats::published) |
//! | `lightcone_deliveries_total` | | [`TopicStats::delivered`](crate::TopicStats::delivered) |
//! | `lightcone_lag_dropped_total` | | [`TopicStats::dropped`](crate::TopicStats::dropped) |
//! | `lightcone_lag_replaced_total` | | [`TopicStats::replaced`](crate::TopicStats::replaced) |
//! | `lightcone_lag_disconnected_total` | | [`TopicStats::disconnected`](crate::TopicStats::disconnected) |
//! | `lightcone_http_requests_total` | | `http::Stats::requests` |
//! | `lightcone_http_failures_total` | | `http::Stats::failures` |
//! | `lightcone_http_aborted_total` | | `http::Stats::aborted` |
//! | `lightcone_http_refusals_total` | `status` | `http::Stats::refusals` |
//!
//! The families of `http` are absent without servers, those of the engine before it is known.
//!
//! [Prometheus]: https://prometheus.io/docs/instrumenting/exposition_formats/

#[cfg(feature = "http")]
mod page;
#[cfg(test)]
mod tests;

#[cfg(feature = "http")]
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use std::sync::OnceLock;
#[cfg(feature = "http")]
use std::sync::{Mutex, PoisonError};

use crate::{CloseReason, Handle, Stats};

#[cfg(feature = "http")]
pub use page::{Page, page};

/// The counts of one engine and of its HTTP servers. Clones share the same counts.
///
/// It formats as the whole page. As the counts change all the time, formatting it twice leads to two different texts:
/// keep the text if its length must be known in advance.
///
/// ```
/// # use core::convert::Infallible;
/// # use lightcone::{Address, Handler, Origin};
/// # struct Silent;
/// # impl Handler for Silent {
/// #     type Data = ();
/// #     type Message = Infallible;
/// #     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
/// #         Some(())
/// #     }
/// # }
/// use lightcone::Builder;
/// use lightcone::metrics::Metrics;
///
/// let engine = Builder::new().pollers(1).start(|_poller| Silent)?;
/// let metrics = Metrics::new();
/// metrics.observe(engine.handle());
/// let text = metrics.to_string();
/// assert!(text.contains("\n# TYPE lightcone_connections gauge\nlightcone_connections{poller=\"0\"} 0\n"));
/// # Ok::<(), lightcone::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Metrics(Arc<Sources>);

/// What the samples are read from.
#[derive(Default)]
struct Sources {
    engine: OnceLock<Box<dyn Fn() -> Vec<PollerCounts> + Send + Sync>>,
    #[cfg(feature = "http")]
    servers: Mutex<BTreeMap<Member, &'static crate::http::Stats>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Creates metrics without an engine and without servers, whose page is empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the counts of an engine. Only the first engine is added; another one needs its own `Metrics`.
    pub fn observe<M: Send + 'static>(&self, engine: Handle<M>) {
        self.0.engine.get_or_init(|| {
            Box::new(move || {
                let all = engine.stats().into_iter().zip(engine.loads());
                all.map(|(stats, load)| PollerCounts { stats, load }).collect()
            })
        });
    }

    /// Adds the server of a poller, and the poller's engine. Returns the counters for
    /// [`Http::stats`](crate::http::Http::stats). A second server of the same poller gets the same ones.
    ///
    /// The counters are never freed, as a server needs them for as long as the process runs.
    #[cfg(feature = "http")]
    pub fn on_poller<M: Send + 'static>(
        &self,
        poller: &crate::PollerContext<M>,
    ) -> &'static crate::http::Stats {
        self.observe(poller.handle());
        self.server(Member { owner: Owner::Poller, number: poller.id().0.into() })
    }

    /// Adds the server of a worker. Returns the counters for [`Http::stats`](crate::http::Http::stats), which are
    /// never freed. The engine is added by [`observe`](Self::observe).
    ///
    /// # Panics
    ///
    /// If `worker` is above 255, since there are at most 256 workers.
    #[cfg(feature = "http")]
    #[must_use = "a server needs the counters"]
    pub fn on_worker(&self, worker: usize) -> &'static crate::http::Stats {
        let number = u8::try_from(worker).unwrap_or_else(|_| panic!("there is no worker {worker}"));
        self.server(Member { owner: Owner::Worker, number: number.into() })
    }

    #[cfg(feature = "http")]
    fn server(&self, member: Member) -> &'static crate::http::Stats {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(member).or_insert_with(|| Box::leak(Box::default()))
    }

    fn counts(&self) -> Counts {
        Counts {
            pollers: self.0.engine.get().map(|read| read()).unwrap_or_default(),
            #[cfg(feature = "http")]
            servers: self.0.servers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// Formats the whole page.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts();
        let mut at = Position::START;
        while let Some(part) = counts.part(&mut at) {
            part.fmt(f)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct PollerCounts {
    stats: Stats,
    load: u32,
}

/// The thread that counts the samples, as their label names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Member {
    owner: Owner,
    /// At most 255, or 256 as the one after the last.
    number: u16,
}

impl Member {
    const FIRST: Self = Self { owner: Owner::Poller, number: 0 };

    const fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Owner {
    Poller,
    #[cfg(feature = "http")]
    Worker,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poller => "poller",
            #[cfg(feature = "http")]
            Self::Worker => "worker",
        })
    }
}

/// Where a page continues. It stays valid when members are added.
#[derive(Clone, Copy, Debug)]
struct Position {
    family: u8,
    /// The next part is that of the first member from this one on.
    from: Member,
}

impl Position {
    const START: Self = Self { family: 0, from: Member::FIRST };
}

/// Everything that is counted, for the parts of a page that are formatted together.
struct Counts {
    pollers: Vec<PollerCounts>,
    #[cfg(feature = "http")]
    servers: BTreeMap<Member, &'static crate::http::Stats>,
}

impl Counts {
    /// Returns the next part of the page and moves the position past it; `None` at the end of the page.
    fn part(&self, at: &mut Position) -> Option<Part<'_>> {
        loop {
            let family = FAMILIES.get(usize::from(at.family))?;
            let Some(member) = self.member(family, at.from) else {
                *at = Position { family: at.family + 1, from: Member::FIRST };
                continue;
            };
            let first = at.from == Member::FIRST;
            at.from = member.next();
            return Some(Part { family, member, first, counts: self });
        }
    }

    /// Returns the first member of a family, starting from one that need not exist.
    fn member(&self, family: &Family, from: Member) -> Option<Member> {
        match family.samples {
            Samples::OfPoller(_) | Samples::ByReason => {
                (from.owner == Owner::Poller && usize::from(from.number) < self.pollers.len()).then_some(from)
            }
            #[cfg(feature = "http")]
            Samples::OfServer(_) | Samples::ByStatus => {
                self.servers.range(from..).next().map(|(member, _)| *member)
            }
        }
    }

    fn poller(&self, member: Member) -> PollerCounts {
        self.pollers.get(usize::from(member.number)).copied().unwrap_or_default()
    }
}

/// The samples of one family from one member. The first part of a family starts with its description.
struct Part<'c> {
    family: &'static Family,
    member: Member,
    first: bool,
    counts: &'c Counts,
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family: Family { name, kind, help, samples }, member, first, counts } = self;
        if *first {
            writeln!(f, "# HELP lightcone_{name} {help}\n# TYPE lightcone_{name} {kind}")?;
        }
        let Member { owner, number } = member;
        // No label needs escapes: their values are numbers and the names of close reasons.
        let mut sample = |label: fmt::Arguments<'_>, value: u64| {
            writeln!(f, "lightcone_{name}{{{owner}=\"{number}\"{label}}} {value}")
        };
        match samples {
            Samples::OfPoller(count) => sample(format_args!(""), count(&counts.poller(*member))),
            Samples::ByReason => {
                let mut all = CloseReason::NAMES.iter().zip(counts.poller(*member).stats.closed);
                all.try_for_each(|(reason, count)| sample(format_args!(",reason=\"{reason}\""), count))
            }
            #[cfg(feature = "http")]
            Samples::OfServer(count) => {
                let stats = counts.servers.get(member);
                sample(format_args!(""), stats.map_or(0, |stats| count(stats) as u64))
            }
            #[cfg(feature = "http")]
            Samples::ByStatus => {
                let mut all = counts.servers.get(member).into_iter().flat_map(|stats| stats.refusals());
                all.try_for_each(|(status, count)| {
                    sample(format_args!(",status=\"{}\"", status.code()), count as u64)
                })
            }
        }
    }
}

struct Family {
    /// The name without the prefix `lightcone_`.
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Samples,
}

/// The samples of a family per member.
enum Samples {
    OfPoller(fn(&PollerCounts) -> u64),
    ByReason,
    #[cfg(feature = "http")]
    OfServer(fn(&crate::http::Stats) -> usize),
    #[cfg(feature = "http")]
    ByStatus,
}

const fn gauge(name: &'static str, help: &'static str, count: fn(&PollerCounts) -> u64) -> Family {
    Family { name, kind: "gauge", help, samples: Samples::OfPoller(count) }
}

const fn counter(name: &'static str, help: &'static str, samples: Samples) -> Family {
    Family { name, kind: "counter", help, samples }
}

static FAMILIES: &[Family] = &[
    gauge("connections", "Connections that are open or being opened.", |poller| poller.load.into()),
    counter(
        "connections_accepted_total",
        "Connections opened.",
        Samples::OfPoller(|poller| poller.stats.accepted),
    ),
    counter(
        "connections_turned_away_total",
        "Connections closed without being served.",
        Samples::OfPoller(|poller| poller.stats.rejected),
    ),
    counter(
        "connections_over_rate_total",
        "Connections turned away because of the accept rate.",
        Samples::OfPoller(|poller| poller.stats.over_rate),
    ),
    counter("connections_closed_total", "Connections closed, by reason.", Samples::ByReason),
    counter("received_bytes_total", "Bytes received.", Samples::OfPoller(|poller| poller.stats.bytes_in)),
    counter("sent_bytes_total", "Bytes sent.", Samples::OfPoller(|poller| poller.stats.bytes_out)),
    counter(
        "lost_bytes_total",
        "Bytes not delivered when their connections ended, including those in system buffers where the system reports them.",
        Samples::OfPoller(|poller| poller.stats.bytes_lost + poller.stats.bytes_undelivered),
    ),
    counter(
        "output_shortages_total",
        "Waits for an output block that others held.",
        Samples::OfPoller(|poller| poller.stats.output_shortages),
    ),
    counter(
        "input_shortages_total",
        "Waits for an input block that others held.",
        Samples::OfPoller(|poller| poller.stats.input_shortages),
    ),
    gauge("subscriptions", "Subscriptions of connections to topics.", |poller| {
        poller.stats.topics.subscriptions()
    }),
    counter(
        "published_total",
        "Messages published to topics, counted by each poller.",
        Samples::OfPoller(|poller| poller.stats.topics.published),
    ),
    counter(
        "deliveries_total",
        "Published messages delivered to subscribers.",
        Samples::OfPoller(|poller| poller.stats.topics.delivered),
    ),
    counter(
        "lag_dropped_total",
        "Published messages dropped for slow subscribers.",
        Samples::OfPoller(|poller| poller.stats.topics.dropped),
    ),
    counter(
        "lag_replaced_total",
        "Published messages replaced by newer ones for slow subscribers.",
        Samples::OfPoller(|poller| poller.stats.topics.replaced),
    ),
    counter(
        "lag_disconnected_total",
        "Subscribers disconnected because they were too slow.",
        Samples::OfPoller(|poller| poller.stats.topics.disconnected),
    ),
    #[cfg(feature = "http")]
    counter(
        "http_requests_total",
        "Requests answered by routes.",
        Samples::OfServer(crate::http::Stats::requests),
    ),
    #[cfg(feature = "http")]
    counter(
        "http_failures_total",
        "Requests answered by routes with status 400 or above.",
        Samples::OfServer(crate::http::Stats::failures),
    ),
    #[cfg(feature = "http")]
    counter(
        "http_aborted_total",
        "Requests answered by routes whose connection ended before the response was complete.",
        Samples::OfServer(crate::http::Stats::aborted),
    ),
    #[cfg(feature = "http")]
    counter("http_refusals_total", "Requests refused by the server itself, by status.", Samples::ByStatus),
];
