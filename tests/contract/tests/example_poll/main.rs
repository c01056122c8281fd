//! The example driver passes both test suites.
#![cfg(unix)]

mod driver;

use driver::Poll;

/// A test for each rule of a driver.
mod contract {
    lightcone_contract::tests!(crate::Poll);
}

/// Tests of the engine's guarantees over this driver.
mod conformance {
    lightcone_conformance::tests!(crate::Poll);
}
