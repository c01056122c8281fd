//! The requests of the scenario of the pool, with a proxy between the clients and the servers.

use core::time::Duration;

use lightcone::Address;
use lightcone::engine_core::Config;
use lightcone::http::Limits;
use lightcone::http::client::ClientLimits;
use lightcone::sim::{Engine, Sim};

use super::pool::{self, Mistake, Path};
use super::{http_engine, one_of, server};
use crate::proxy::upstreams::Balance;
use crate::proxy::{Settings, proxy};

/// The addresses of the servers.
pub(super) const UPSTREAMS: [u8; 2] = [3, 4];

/// Starts a proxy at these addresses.
pub(super) fn start(sim: &mut Sim<'_>, addresses: [u8; 2]) {
    let drawn = http_engine(sim);
    // As for the relay: a socket must not take the blocks of its partner.
    let Config { sockets, output_limit, receive_blocks, .. } = drawn.config;
    let config = Config {
        input_blocks: sockets,
        output_blocks: sockets * output_limit,
        receive_blocks: if receive_blocks == 0 { 0 } else { sockets },
        ..drawn.config
    };
    // Links may stay slow, and servers wait as long.
    let patience = Duration::from_mins(10);
    let settings = Settings {
        upstreams: UPSTREAMS.map(|number| Address::Inet(server(number))).into(),
        balance: one_of(sim, &[Balance::RoundRobin, Balance::LeastLoaded]).unwrap_or_default(),
        checks: None,
        clients: sockets / 2,
        limits: Limits { head_time: patience, body_time: patience, ..Limits::DEFAULT },
        upstream_limits: ClientLimits {
            send_time: patience,
            first_byte_time: patience,
            head_time: patience,
            body_time: patience,
            ..ClientLimits::DEFAULT
        },
    };
    let engine = sim.engine(Engine { config, ..drawn }, |poller| proxy(&settings, poller.0.into()));
    for address in addresses {
        sim.listen(engine, server(address));
    }
}

pub(super) fn run(sim: &mut Sim<'_>) {
    pool::run_with(sim, Mistake::None, Path::Proxy);
}
