//! The timers of pollers, under every fault.
#![allow(
    clippy::excessive_nesting,
    clippy::indexing_slicing,
    clippy::needless_pass_by_ref_mut,
    clippy::std_instead_of_alloc,
    reason = "as in every test: a failure is a panic"
)]

mod common;

use common::ticking_scenario;
use lightcone_sim::{Unmutated, check};

#[test]
fn ticks_under_every_fault() {
    check(0..200, |sim| ticking_scenario(sim, || Unmutated));
}
