//! Socket addresses in the kernel's format: encoding, decoding, and the correct length for each family.

use core::fmt;
use core::mem::{MaybeUninit, offset_of, size_of};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::endpoint::{Endpoint, UnixName};

/// The maximum length of a Unix socket's path in bytes, including the terminating zero: 108 on Linux, 104 on BSD.
pub const UNIX_PATH_BYTES: usize = size_of::<libc::sockaddr_un>() - PATH_OFFSET;

const PATH_OFFSET: usize = offset_of!(libc::sockaddr_un, sun_path);

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

/// A socket address in the kernel's format, with its length. Holds an address of any family without allocating.
#[derive(Clone, Copy)]
pub struct SocketAddress {
    /// INVARIANT: every byte is initialised (constructors start from zeroes, and the kernel only overwrites them).
    storage: Storage,
    /// INVARIANT: `length <= STORAGE_BYTES`.
    length: libc::socklen_t,
}

/// Storage that is large enough and suitably aligned for every supported kind of address.
#[repr(C)]
#[derive(Clone, Copy)]
union Storage {
    any: libc::sockaddr,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    unix: libc::sockaddr_un,
    bytes: [u8; STORAGE_BYTES],
}

/// The size of the largest address, which is `sockaddr_un` on every system.
const STORAGE_BYTES: usize = size_of::<libc::sockaddr_un>();
const _: () = assert!(STORAGE_BYTES >= size_of::<libc::sockaddr_in6>());

/// Sets the length byte with which addresses begin on the BSDs. Linux has none.
macro_rules! set_length_byte {
    ($raw:ident . $field:ident = $type:ty) => {
        set_length_byte!($raw.$field, size_of::<$type>())
    };
    ($raw:ident . $field:ident, $length:expr) => {
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            // Always fits: the largest address is `sockaddr_un`, 106 bytes.
            $raw.$field = u8::try_from($length).unwrap_or(u8::MAX);
        }
    };
}

impl SocketAddress {
    /// Creates an empty address with room for the kernel to write one of any family.
    pub(crate) const fn empty() -> Self {
        Self { storage: Storage { bytes: [0; STORAGE_BYTES] }, length: socklen(STORAGE_BYTES) }
    }

    /// Returns the address of an endpoint. This cannot fail: an endpoint's name and length are checked at its creation.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Inet(address) => Self::inet(*address),
            Endpoint::Unix(name) => Self::unix(name),
        }
    }

    /// Encodes an IPv4 or IPv6 address.
    #[must_use]
    pub fn inet(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::v4(v4),
            SocketAddr::V6(v6) => Self::v6(v6),
        }
    }

    fn v4(address: SocketAddrV4) -> Self {
        let mut raw = zeroed::<libc::sockaddr_in>();
        set_length_byte!(raw.sin_len = libc::sockaddr_in);
        raw.sin_family = family_of(libc::AF_INET);
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        let mut this = Self::empty();
        this.storage.v4 = raw;
        this.length = length_of::<libc::sockaddr_in>();
        this
    }

    fn v6(address: SocketAddrV6) -> Self {
        let mut raw = zeroed::<libc::sockaddr_in6>();
        set_length_byte!(raw.sin6_len = libc::sockaddr_in6);
        raw.sin6_family = family_of(libc::AF_INET6);
        raw.sin6_port = address.port().to_be();
        raw.sin6_addr.s6_addr = address.ip().octets();
        // Not byte-swapped, like in std: an address that passes through both keeps the same flow information.
        raw.sin6_flowinfo = address.flowinfo();
        raw.sin6_scope_id = address.scope_id();
        let mut this = Self::empty();
        this.storage.v6 = raw;
        this.length = length_of::<libc::sockaddr_in6>();
        this
    }

    /// Encodes a Unix address. Its length covers the bytes in use: a path with its terminating zero, an abstract name
    /// without one (where a zero would be part of the name).
    fn unix(name: &UnixName) -> Self {
        let mut raw = zeroed::<libc::sockaddr_un>();
        raw.sun_family = family_of(libc::AF_UNIX);
        for (to, from) in raw.sun_path.iter_mut().zip(name.as_bytes()) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        let used = name.as_bytes().len() + usize::from(name.is_path());
        let length = PATH_OFFSET + used;
        set_length_byte!(raw.sun_len, length);
        let mut this = Self::empty();
        this.storage.unix = raw;
        this.length = socklen(length);
        this
    }

    /// Returns the address family: `AF_INET`, `AF_INET6`, `AF_UNIX`, or `AF_UNSPEC` if the kernel returned no address.
    #[must_use]
    pub fn family(&self) -> libc::c_int {
        if to_usize(self.length) < PATH_OFFSET {
            return libc::AF_UNSPEC;
        }
        // SAFETY: every byte of the storage is initialised and any bytes make a `sockaddr`.
        let any = unsafe { self.storage.any };
        libc::c_int::from(any.sa_family)
    }

    /// Returns the address if it is a complete IPv4 or IPv6 address.
    #[must_use]
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self.family() {
            libc::AF_INET if self.length >= length_of::<libc::sockaddr_in>() => {
                // SAFETY: every byte of the storage is initialised and any bytes make a `sockaddr_in`.
                let raw = unsafe { self.storage.v4 };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
            }
            libc::AF_INET6 if self.length >= length_of::<libc::sockaddr_in6>() => {
                // SAFETY: every byte of the storage is initialised and any bytes make a `sockaddr_in6`.
                let raw = unsafe { self.storage.v6 };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
            }
            _ => None,
        }
    }

    /// Returns the address as that of a peer; `None` for an unsupported family or an empty address.
    ///
    /// On the BSDs, accepting a connection that is already closed returns an empty address.
    #[must_use]
    pub fn as_peer(&self) -> Option<PeerAddress> {
        if self.family() == libc::AF_UNIX {
            return Some(PeerAddress::Unix);
        }
        self.as_inet().map(PeerAddress::Inet)
    }

    /// Returns the endpoint; `None` for an empty address, and for a Unix socket without a name.
    #[must_use]
    pub fn to_endpoint(&self) -> Option<Endpoint> {
        if self.family() == libc::AF_UNIX {
            return UnixName::from_kernel(self.unix_bytes()).map(Endpoint::Unix);
        }
        self.as_inet().map(Endpoint::Inet)
    }

    /// Returns the contents of `sun_path`, as far as the length reaches.
    fn unix_bytes(&self) -> &[u8] {
        // SAFETY: every byte of the storage is initialised, and any value is valid for a byte.
        let bytes = unsafe { &self.storage.bytes };
        let end = to_usize(self.length).min(STORAGE_BYTES);
        bytes.get(PATH_OFFSET..end).unwrap_or_default()
    }

    /// Returns the arguments for `bind` and `connect`.
    pub(crate) const fn as_parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    /// Returns the arguments that `accept`, `getsockname` and `getpeername` fill in. The kernel writes at most `length`
    /// bytes of the address, then its full length, which may be greater: call [`clamp`](Self::clamp) afterwards.
    pub(crate) const fn as_parts_mut(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// Restores the invariant of `length` after the kernel has written it.
    pub(crate) fn clamp(&mut self) {
        self.length = self.length.min(socklen(STORAGE_BYTES));
    }
}

impl fmt::Debug for SocketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_endpoint() {
            Some(endpoint) => write!(f, "SocketAddress({endpoint})"),
            None => write!(f, "SocketAddress(family {})", self.family()),
        }
    }
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self::inet(address)
    }
}

/// Plain C structs of libc, for which all-zero bytes are a valid value.
trait Zeroable {}
impl Zeroable for libc::sockaddr_in {}
impl Zeroable for libc::sockaddr_in6 {}
impl Zeroable for libc::sockaddr_un {}

/// Returns an all-zero value. Padding, and fields that exist only on some systems, must be zero.
fn zeroed<T: Zeroable>() -> T {
    // SAFETY: `Zeroable` is only implemented for C structs of integers, for which all-zero bytes are a valid value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn family_of(family: libc::c_int) -> libc::sa_family_t {
    // Always fits: the families in use are below 64, and `sa_family_t` has 8 or 16 bits.
    libc::sa_family_t::try_from(family).unwrap_or(0)
}

const fn length_of<T>() -> libc::socklen_t {
    socklen(size_of::<T>())
}

const fn socklen(length: usize) -> libc::socklen_t {
    assert!(length <= 1024);
    #[expect(clippy::cast_possible_truncation, reason = "at most 1024, see the line above")]
    {
        length as libc::socklen_t
    }
}

const fn to_usize(length: libc::socklen_t) -> usize {
    length as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inet_addresses_survive_both_ways() {
        for text in ["127.0.0.1:8080", "255.254.253.252:65535", "0.0.0.0:0", "[::1]:1", "[2001:db8::ff]:443"]
        {
            let address: SocketAddr = text.parse().unwrap();
            let raw = SocketAddress::inet(address);
            assert_eq!(raw.as_inet(), Some(address));
            assert_eq!(raw.as_peer(), Some(PeerAddress::Inet(address)));
            assert_eq!(raw.to_endpoint(), Some(Endpoint::Inet(address)));
        }
    }

    #[test]
    fn the_scope_and_the_flow_of_ipv6_are_kept() {
        let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0x000a_bcde, 7);
        let raw = SocketAddress::inet(SocketAddr::V6(address));
        assert_eq!(raw.as_inet(), Some(SocketAddr::V6(address)));
    }

    #[test]
    fn the_bytes_are_the_networks() {
        let raw = SocketAddress::inet("1.2.3.4:258".parse().unwrap());
        // SAFETY: `inet` wrote the IPv4 variant.
        let v4 = unsafe { raw.storage.v4 };
        assert_eq!(v4.sin_port.to_ne_bytes(), [1, 2]);
        assert_eq!(v4.sin_addr.s_addr.to_ne_bytes(), [1, 2, 3, 4]);
        assert_eq!(raw.length as usize, size_of::<libc::sockaddr_in>());
    }

    #[test]
    fn unix_names_have_the_right_length() {
        let path = UnixName::path("/tmp/a").unwrap();
        let raw = SocketAddress::unix(&path);
        assert_eq!(raw.length as usize, PATH_OFFSET + 7);
        assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(path)));
        assert_eq!(raw.as_peer(), Some(PeerAddress::Unix));
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn abstract_names_carry_no_final_zero() {
        let name = UnixName::abstract_name("x").unwrap();
        let raw = SocketAddress::unix(&name);
        assert_eq!(raw.length as usize, PATH_OFFSET + 2);
        assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(name)));
    }

    #[test]
    fn the_longest_path_fits_exactly() {
        let path = UnixName::path("/".repeat(UNIX_PATH_BYTES - 1)).unwrap();
        let raw = SocketAddress::unix(&path);
        assert_eq!(raw.length as usize, size_of::<libc::sockaddr_un>());
        assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(path)));
    }

    #[test]
    fn no_address_and_cut_addresses_are_none() {
        let mut raw = SocketAddress::inet("1.2.3.4:5".parse().unwrap());
        raw.length = 4;
        assert_eq!(raw.as_inet(), None);
        assert_eq!(raw.as_peer(), None);
        raw.length = 0;
        assert_eq!(raw.family(), libc::AF_UNSPEC);
        assert_eq!(raw.as_peer(), None);
        let mut unnamed = SocketAddress::unix(&UnixName::path("x").unwrap());
        unnamed.length = socklen(PATH_OFFSET);
        assert_eq!(unnamed.as_peer(), Some(PeerAddress::Unix));
        assert_eq!(unnamed.to_endpoint(), None);
    }

    #[test]
    fn a_length_beyond_the_storage_is_clamped() {
        let mut raw = SocketAddress::unix(&UnixName::path("x").unwrap());
        raw.length = 4_000;
        raw.clamp();
        assert_eq!(raw.length as usize, STORAGE_BYTES);
        assert_eq!(raw.to_endpoint(), Some(Endpoint::Unix(UnixName::path("x").unwrap())));
    }
}
