//! The examples' handlers in a simulated world: the scenarios that `simulate` runs by name, and the tests by seed.
//!
//! Each scenario sets up engines and peers from the seed, and ends with [`Sim::finish`]: whatever faults occurred
//! before, all work completes once the faults stop, and nothing is left over.

mod chat;
mod crowd;
mod echo;
mod http;
mod kv;
pub mod pool;
mod proxy;
mod reconnect;
mod relay;
mod walk;
mod websocket;
mod websocket_client;

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;

use lightcone::engine_core::Config;
use lightcone::sim::{Engine, Outcome, PeerId, Sim};

/// A scenario by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scenario {
    /// Transfers of many sizes to and from the echo server, and a shutdown at a random moment.
    Echo,
    /// Pipelined requests of every kind to an HTTP server.
    Http,
    /// Participants who talk, join and leave; some of them read slowly.
    Chat,
    /// Transfers through a relay to an echo server, both in the same world.
    Relay,
    /// A client that is itself a handler, and reconnects until all of its work is done.
    Reconnect,
    /// More clients than sockets at an HTTP server, none of which leaves: each is served, as idle sockets are evicted.
    Crowd,
    /// Values of a memcached server, beside a model of its table; or more of them than fit into its memory.
    Kv,
    /// Requests of every kind through a pool of connections to HTTP servers that close idle ones, and restart.
    Pool,
    /// The requests of the pool through a proxy.
    Proxy,
    /// Messages in fragments to a WebSocket echo server.
    WebSocket,
    /// WebSocket clients that converse with that server, and reconnect until all of their work is done.
    WebSocketClient,
    /// An echo server that also makes every other call a handler may make, with peers that do anything peers may do.
    Walk,
}

impl Scenario {
    /// All scenarios.
    pub const ALL: [Self; 12] = [
        Self::Echo,
        Self::Http,
        Self::Chat,
        Self::Relay,
        Self::Reconnect,
        Self::Crowd,
        Self::Kv,
        Self::Pool,
        Self::Proxy,
        Self::WebSocket,
        Self::WebSocketClient,
        Self::Walk,
    ];

    /// Sets the world up and runs the scenario.
    ///
    /// # Panics
    ///
    /// Panics if a check fails.
    pub fn run(self, sim: &mut Sim<'_>) {
        match self {
            Self::Echo => echo::run(sim),
            Self::Http => http::run(sim),
            Self::Chat => chat::run(sim),
            Self::Relay => relay::run(sim),
            Self::Reconnect => reconnect::run(sim),
            Self::Crowd => crowd::run(sim),
            Self::Kv => kv::run(sim),
            Self::Pool => pool::run(sim),
            Self::Proxy => proxy::run(sim),
            Self::WebSocket => websocket::run(sim),
            Self::WebSocketClient => websocket_client::run(sim),
            Self::Walk => walk::run(sim),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Echo => "echo",
            Self::Http => "http",
            Self::Chat => "chat",
            Self::Relay => "relay",
            Self::Reconnect => "reconnect",
            Self::Crowd => "crowd",
            Self::Kv => "kv",
            Self::Pool => "pool",
            Self::Proxy => "proxy",
            Self::WebSocket => "websocket",
            Self::WebSocketClient => "websocket-client",
            Self::Walk => "walk",
        })
    }
}

/// The error for a name that is not a scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseScenarioError;

impl fmt::Display for ParseScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "allowed: echo, http, chat, relay, reconnect, crowd, kv, pool, proxy, websocket, websocket-client, walk",
        )
    }
}

impl core::error::Error for ParseScenarioError {}

impl FromStr for Scenario {
    type Err = ParseScenarioError;

    fn from_str(name: &str) -> Result<Self, ParseScenarioError> {
        Self::ALL.into_iter().find(|scenario| scenario.to_string() == name).ok_or(ParseScenarioError)
    }
}

/// Returns a drawn engine whose buffers hold the heads and responses of the scenarios: otherwise, a refusal would be
/// the correct response.
fn http_engine(sim: &mut Sim<'_>) -> Engine {
    let drawn = sim.drawn_engine();
    let config = Config {
        block_size: drawn.config.block_size.max(512),
        receive_size: drawn.config.receive_size.max(1_024),
        ..drawn.config
    };
    Engine { config, ..drawn }
}

/// Returns the address of a server.
fn server(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 7_000).into()
}

/// Returns one of these values, chosen by the seed; the first is the simplest.
fn one_of<T: Copy>(sim: &mut Sim<'_>, of: &[T]) -> Option<T> {
    let at = sim.draw(u32::try_from(of.len()).unwrap_or(u32::MAX));
    of.get(at as usize).copied()
}

/// Returns a random duration of less than `most_ms` milliseconds.
fn a_while(sim: &mut Sim<'_>, most_ms: u32) -> Duration {
    Duration::from_micros(sim.draw(most_ms.saturating_mul(1_000).max(1)).into())
}

/// Checks that peers that retry until they are done are done at the end.
fn must_be_done(sim: &Sim<'_>, peers: &[PeerId]) {
    for peer in peers {
        let outcome = sim.outcome(*peer);
        assert!(outcome == Outcome::Done, "liveness: {peer:?} is {outcome:?} at the end");
    }
}
