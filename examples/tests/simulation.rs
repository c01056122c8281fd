//! The scenarios of the examples under every fault: 200 seeds each.

use lightcone::sim::check;
use lightcone_examples::simulation::Scenario;

const SEEDS: core::ops::Range<u64> = 0..200;

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
fn websocket() {
    check(SEEDS, |sim| Scenario::WebSocket.run(sim));
}

#[test]
fn walk() {
    check(SEEDS, |sim| Scenario::Walk.run(sim));
}
