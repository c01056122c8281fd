//! The example driver passes both suites.
#![cfg(unix)]

mod driver;

use driver::Poll;

/// Every rule of a driver, as a test each.
mod contract {
    lightcone_contract::tests!(crate::Poll);
}

/// Every promise of an engine, over this driver.
mod conformance {
    lightcone_conformance::tests!(crate::Poll);
}
