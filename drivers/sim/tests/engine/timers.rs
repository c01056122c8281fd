//! The timers of pollers, under every fault.

use crate::common::ticking_scenario;
use lightcone_sim::{Unmutated, check};

#[test]
fn ticks_under_every_fault() {
    check(0..200, |sim| ticking_scenario(sim, || Unmutated));
}
