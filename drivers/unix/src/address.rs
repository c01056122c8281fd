//! Socket addresses in the kernel's format.

use core::fmt;
use core::mem::{offset_of, size_of};
use core::net::SocketAddr;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{AddressFamily, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage, UnixAddr};

use crate::endpoint::{Endpoint, UnixName};

/// The maximum length of a Unix socket's path in bytes, including the terminating zero: 108 on Linux, 104 on BSD.
pub const UNIX_PATH_BYTES: usize = size_of::<libc::sockaddr_un>() - offset_of!(libc::sockaddr_un, sun_path);

/// The peer of a connection, as reported by `accept` and `getpeername`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerAddress {
    /// An IPv4 or IPv6 address, with scope and flow information.
    Inet(SocketAddr),
    /// A Unix socket. The name is omitted: clients seldom bind one.
    Unix,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => fmt::Display::fmt(address, f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

/// A socket address in the kernel's format. Holds an address of any family without allocating.
#[derive(Clone, Copy)]
pub struct SocketAddress(Raw);

#[derive(Clone, Copy)]
enum Raw {
    V4(SockaddrIn),
    V6(SockaddrIn6),
    /// `None`: a name that does not fit into `sockaddr_un`, which some kernels let a peer bind.
    Unix(Option<UnixAddr>),
    /// No address, or one of an unsupported family.
    Other,
}

impl SocketAddress {
    /// Returns the address of an endpoint. This cannot fail: an endpoint's name and length are checked at its creation.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Inet(address) => Self::inet(*address),
            Endpoint::Unix(name) => Self(Raw::Unix(encode(name))),
        }
    }

    /// Encodes an IPv4 or IPv6 address.
    #[must_use]
    pub fn inet(address: SocketAddr) -> Self {
        Self(match address {
            SocketAddr::V4(v4) => Raw::V4(v4.into()),
            SocketAddr::V6(v6) => Raw::V6(v6.into()),
        })
    }

    /// Returns the address that a call has filled in; `None` if it returned none.
    pub(crate) fn filled_in(storage: Option<&SockaddrStorage>) -> Self {
        let Some(storage) = storage else { return Self(Raw::Other) };
        let v4 = || storage.as_sockaddr_in().copied().map(Raw::V4);
        let v6 = || storage.as_sockaddr_in6().copied().map(Raw::V6);
        let unix = storage.family() == Some(AddressFamily::Unix);
        let unix = || unix.then(|| Raw::Unix(storage.as_unix_addr().copied()));
        Self(v4().or_else(v6).or_else(unix).unwrap_or(Raw::Other))
    }

    /// Returns the address if it is an IPv4 or IPv6 address.
    #[must_use]
    pub fn to_inet(&self) -> Option<SocketAddr> {
        match self.0 {
            Raw::V4(v4) => Some(v4.into()),
            Raw::V6(v6) => Some(v6.into()),
            Raw::Unix(_) | Raw::Other => None,
        }
    }

    /// Returns the address as that of a peer; `None` for an unsupported family or an empty address.
    ///
    /// On the BSDs, accepting a connection that is already closed returns an empty address.
    #[must_use]
    pub fn to_peer(&self) -> Option<PeerAddress> {
        if matches!(self.0, Raw::Unix(_)) {
            return Some(PeerAddress::Unix);
        }
        self.to_inet().map(PeerAddress::Inet)
    }

    /// Returns the endpoint; `None` for an empty address, and for a Unix socket without a name.
    #[must_use]
    pub fn to_endpoint(&self) -> Option<Endpoint> {
        match self.0 {
            Raw::Unix(name) => decode(&name?).map(Endpoint::Unix),
            Raw::V4(_) | Raw::V6(_) | Raw::Other => self.to_inet().map(Endpoint::Inet),
        }
    }

    /// Returns the argument for `bind` and `connect`.
    pub(crate) const fn as_argument(&self) -> &dyn SockaddrLike {
        match &self.0 {
            Raw::V4(v4) => v4,
            Raw::V6(v6) => v6,
            Raw::Unix(Some(name)) => name,
            Raw::Unix(None) | Raw::Other => &(),
        }
    }
}

/// Encodes the name of a Unix socket, which is known to fit.
fn encode(name: &UnixName) -> Option<UnixAddr> {
    match name.as_bytes() {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        [0, name @ ..] => UnixAddr::new_abstract(name).ok(),
        path => UnixAddr::new(path).ok(),
    }
}

/// Returns the name of a Unix socket; `None` if it has none.
fn decode(address: &UnixAddr) -> Option<UnixName> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = address.as_abstract() {
        return UnixName::abstract_name(name).ok();
    }
    // BSD: zeros may fill the rest of `sun_path`.
    let path = address.path()?.as_os_str().as_bytes().split(|byte| *byte == 0).next()?;
    UnixName::path(OsStr::from_bytes(path)).ok()
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_endpoint() {
            Some(endpoint) => write!(f, "SocketAddress({endpoint})"),
            None => f.write_str("SocketAddress(unnamed)"),
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::inet(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddrV6;
    use std::os::fd::AsFd;

    #[test]
    fn inet_addresses_survive_both_ways() {
        for text in ["127.0.0.1:8080", "255.254.253.252:65535", "0.0.0.0:0", "[::1]:1", "[2001:db8::ff]:443"]
        {
            let address: SocketAddr = text.parse().unwrap();
            let raw = SocketAddress::inet(address);
            assert_eq!(raw.to_inet(), Some(address));
            assert_eq!(raw.to_peer(), Some(PeerAddress::Inet(address)));
            assert_eq!(raw.to_endpoint(), Some(Endpoint::Inet(address)));
        }
    }

    #[test]
    fn the_scope_and_the_flow_of_ipv6_are_kept() {
        let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0x000a_bcde, 7);
        let raw = SocketAddress::inet(SocketAddr::V6(address));
        assert_eq!(raw.to_inet(), Some(SocketAddr::V6(address)));
    }

    #[test]
    fn unix_names_survive_both_ways() {
        let longest = "/".repeat(UNIX_PATH_BYTES - 1);
        for path in ["/tmp/a", "relative", &longest] {
            let path = UnixName::path(path).unwrap();
            let raw = SocketAddress::new(&path.clone().into());
            assert_eq!(raw.to_inet(), None);
            assert_eq!(raw.to_peer(), Some(PeerAddress::Unix));
            assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(path)));
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn abstract_names_survive_both_ways() {
        let longest = "x".repeat(UNIX_PATH_BYTES - 1);
        for name in ["x", "with\0zeros\0", &longest] {
            let name = UnixName::abstract_name(name).unwrap();
            let raw = SocketAddress::new(&name.clone().into());
            assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(name)));
        }
    }

    /// Returns the address that a call has filled in with a Unix address of this `sun_path`.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn filled_in(path: &[u8]) -> SocketAddress {
        let mut bytes = u16::try_from(libc::AF_UNIX).unwrap().to_ne_bytes().to_vec();
        bytes.extend_from_slice(path);
        let length = libc::socklen_t::try_from(bytes.len()).unwrap();
        // SAFETY: there are `length` bytes, and a copy is made before they are read as an address.
        let storage = unsafe { SockaddrStorage::from_raw(bytes.as_ptr().cast(), Some(length)) };
        SocketAddress::filled_in(storage.as_ref())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn the_kernels_names_are_understood() {
        let text = |path: &[u8]| filled_in(path).to_endpoint().map(|endpoint| endpoint.to_string());
        assert_eq!(text(b"/a"), Some("unix:/a".into()));
        assert_eq!(text(b"/a\0rest"), Some("unix:/a".into()));
        assert_eq!(text(b"\0a\0"), Some("unix:@a\0".into()));
        // Without a name, and with one that leaves no room for a final zero.
        for path in [&[][..], b"\0", &[b'x'; UNIX_PATH_BYTES + 1]] {
            assert_eq!(text(path), None);
            assert_eq!(filled_in(path).to_peer(), Some(PeerAddress::Unix));
        }
    }

    #[test]
    fn no_address_is_none() {
        let none = SocketAddress::filled_in(None);
        assert_eq!((none.to_inet(), none.to_peer(), none.to_endpoint()), (None, None, None));
        let socket = crate::socket::stream_socket(&"127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(crate::socket::bind(socket.as_fd(), &none).is_err());
    }
}
