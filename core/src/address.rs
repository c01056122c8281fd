//! Peer and local addresses.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The index of a Unix-domain socket path in a table of the driver.
///
/// Slots keep the index because a path of 108 bytes is too large for each of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnixId(pub u16);

/// The address of a peer or of the local end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Address {
    /// An IPv4 or IPv6 address and a port.
    Inet(SocketAddr),
    /// A Unix-domain socket. The driver has the path; an accepted socket has the address of its listener.
    Unix(UnixId),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

/// Formats as `ip:port` or `unix:N`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(id) => write!(f, "unix:{}", id.0),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum AddressKind {
    V4,
    V6,
    Unix,
}

/// The [`Address`] of a peer in 24 bytes, as slots keep it.
///
/// It suits code that rarely needs the address. The flow label is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PackedAddress {
    ip: [u8; 16],
    scope: u32,
    /// The port, or the index of a Unix-domain path.
    port: u16,
    kind: AddressKind,
}

impl PackedAddress {
    pub(crate) fn pack(address: &Address) -> Self {
        match address {
            Address::Unix(id) => Self { ip: [0; 16], scope: 0, port: id.0, kind: AddressKind::Unix },
            Address::Inet(SocketAddr::V4(v4)) => {
                let ip = v4.ip().to_ipv6_mapped().octets();
                Self { ip, scope: 0, port: v4.port(), kind: AddressKind::V4 }
            }
            Address::Inet(SocketAddr::V6(v6)) => {
                Self { ip: v6.ip().octets(), scope: v6.scope_id(), port: v6.port(), kind: AddressKind::V6 }
            }
        }
    }

    /// Returns the address.
    #[must_use]
    pub fn unpack(&self) -> Address {
        let [.., a, b, c, d] = self.ip;
        match self.kind {
            AddressKind::Unix => Address::Unix(UnixId(self.port)),
            AddressKind::V4 => SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), self.port).into(),
            AddressKind::V6 => {
                let ip = Ipv6Addr::from(self.ip);
                SocketAddr::V6(SocketAddrV6::new(ip, self.port, 0, self.scope)).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn addresses_survive_packing_whole() {
        let samples: [Address; 5] = [
            Address::Inet("1.2.3.4:65535".parse().unwrap()),
            Address::Inet("[2001:db8:1:2:3:4:5:6]:80".parse().unwrap()),
            Address::Inet("[::ffff:1.2.3.4]:80".parse().unwrap()),
            Address::Inet("[fe80::1%7]:1".parse().unwrap()),
            Address::Unix(UnixId(9)),
        ];
        for address in samples {
            assert_eq!(PackedAddress::pack(&address).unpack(), address);
        }
    }
}
