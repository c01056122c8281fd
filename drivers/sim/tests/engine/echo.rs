//! The common path: a handler that sends back its input, under every fault, with readiness and completions.

use crate::common::{closing_scenario, contention_scenario, echo_scenario, post_scenario, seeds};
use lightcone_sim::{Fault, Runner, Unmutated, check};

#[test]
fn echo_under_every_fault() {
    check(seeds(200), echo_scenario);
}

#[test]
fn messages_under_every_fault() {
    check(seeds(200), |sim| post_scenario(sim, || Unmutated));
}

#[test]
fn closes_from_outside_under_every_fault() {
    check(seeds(200), |sim| closing_scenario(sim, || Unmutated));
}

#[test]
fn far_fewer_blocks_than_sockets_that_want_one() {
    check(seeds(100), contention_scenario);
}

#[test]
fn the_same_seed_has_the_same_hash() {
    let runner = Runner::new("");
    for seed in 0..20 {
        let (a, b) = (runner.run(seed, &echo_scenario).unwrap(), runner.run(seed, &echo_scenario).unwrap());
        assert_eq!((a.hash, a.events), (b.hash, b.events));
    }
    assert_ne!(runner.run(1, &echo_scenario).unwrap().hash, runner.run(2, &echo_scenario).unwrap().hash);
}

#[test]
fn every_fault_comes_about() {
    let runner = Runner::new("");
    let mut counts = vec![0; Fault::ALL.len()];
    for seed in 0..50 {
        for ((_, n), sum) in runner.run(seed, &echo_scenario).unwrap().faults.iter().zip(&mut counts) {
            *sum += n;
        }
    }
    for (fault, count) in Fault::ALL.iter().zip(&counts) {
        assert!(*count > 0, "no {}", fault.name());
    }
}
