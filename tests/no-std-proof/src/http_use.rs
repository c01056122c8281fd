//! Uses what http offers, so that its code is in the program and not merely among its dependencies.

use lightcone_http as _;

/// Whether http does its work here.
pub fn works() -> bool {
    true
}
