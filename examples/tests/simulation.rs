//! The scenarios of the examples under every fault: 20 seeds each, 200 where they are optimised. `.ci/run simulation`
//! runs 1,000.

use lightcone::sim::{Runner, Sim, check};
use lightcone_examples::simulation::Scenario;
use lightcone_examples::simulation::pool::{self, Mistake, Path};

const SEEDS: core::ops::Range<u64> = 0..if cfg!(debug_assertions) { 20 } else { 200 };
/// The seeds among which one must notice a mistake.
const MISTAKE_SEEDS: core::ops::Range<u64> = 0..200;

#[test]
fn echo() {
    check(SEEDS, |sim| Scenario::Echo.run(sim));
}

#[test]
fn http() {
    check(SEEDS, |sim| Scenario::Http.run(sim));
}

#[test]
fn chat() {
    check(SEEDS, |sim| Scenario::Chat.run(sim));
}

#[test]
fn relay() {
    check(SEEDS, |sim| Scenario::Relay.run(sim));
}

#[test]
fn reconnect() {
    check(SEEDS, |sim| Scenario::Reconnect.run(sim));
}

#[test]
fn crowd() {
    check(SEEDS, |sim| Scenario::Crowd.run(sim));
}

#[test]
fn kv() {
    check(SEEDS, |sim| Scenario::Kv.run(sim));
}

#[test]
fn pool() {
    check(SEEDS, |sim| Scenario::Pool.run(sim));
}

#[test]
fn proxy() {
    check(SEEDS, |sim| Scenario::Proxy.run(sim));
}

#[test]
fn websocket() {
    check(SEEDS, |sim| Scenario::WebSocket.run(sim));
}

#[test]
fn websocket_client() {
    check(SEEDS, |sim| Scenario::WebSocketClient.run(sim));
}

#[test]
fn walk() {
    check(SEEDS, |sim| Scenario::Walk.run(sim));
}

/// The scenario of the pool notices each of these mistakes of its clients, and so does that of the proxy.
#[test]
fn mistakes_of_clients_of_the_pool_are_noticed() {
    for (mistake, property) in
        [(Mistake::Repeatable, "repeats"), (Mistake::Hasty, "answers"), (Mistake::Twice, "once")]
    {
        for path in [Path::Direct, Path::Proxy] {
            let noticed = MISTAKE_SEEDS.into_iter().find_map(|seed| {
                let scenario = |sim: &mut Sim<'_>| pool::run_with(sim, mistake, path);
                let result = Runner::new("pool").shrinks(0).run(seed, &scenario);
                result.err().map(|failure| failure.message.clone())
            });
            let message = noticed.unwrap_or_else(|| panic!("no seed notices {mistake:?}, {path:?}"));
            assert!(message.starts_with(property), "{mistake:?}, {path:?}: {message}");
        }
    }
}
