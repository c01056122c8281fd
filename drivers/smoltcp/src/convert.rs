//! Times and addresses of the engine and of smoltcp.

use core::net::{IpAddr, SocketAddr};

use lightcone_core::{Address, Instant};
use smoltcp::wire::{IpAddress, IpEndpoint};

pub(crate) fn instant(time: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 1_000))
}

/// Returns the first millisecond that is not before `time`.
pub(crate) fn wake_at(time: smoltcp::time::Instant) -> Instant {
    Instant::from_millis(u64::try_from(time.total_micros()).unwrap_or(0).div_ceil(1_000))
}

pub(crate) fn address(endpoint: IpEndpoint) -> Address {
    SocketAddr::new(endpoint.addr.into(), endpoint.port).into()
}

/// Returns `None` for an address of a kind that is not built in.
pub(crate) fn endpoint(address: Address) -> Option<IpEndpoint> {
    let Address::Inet(address) = address else { return None };
    let ip: IpAddress = match address.ip() {
        #[cfg(feature = "proto-ipv4")]
        IpAddr::V4(ip) => ip.into(),
        #[cfg(feature = "proto-ipv6")]
        IpAddr::V6(ip) => ip.into(),
        #[cfg(not(feature = "proto-ipv4"))]
        IpAddr::V4(_) => return None,
        #[cfg(not(feature = "proto-ipv6"))]
        IpAddr::V6(_) => return None,
    };
    Some(IpEndpoint::new(ip, address.port()))
}
