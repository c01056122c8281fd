//! Uses what core offers, so that its code is in the program and not merely among its dependencies.

use lightcone_core as _;

/// Whether core does its work here.
pub fn works() -> bool {
    true
}
