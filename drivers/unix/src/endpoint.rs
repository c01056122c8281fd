//! Endpoints to listen on and to connect to, in text form: `127.0.0.1:8080`, `localhost:8080`, `unix:/run/x`.

extern crate alloc;

use alloc::borrow::ToOwned;
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use std::ffi::OsStr;
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::AddressFamily;

use crate::address::UNIX_PATH_BYTES;

/// An endpoint to listen on or to connect to: an internet address or a Unix socket.
///
/// ```
/// use lightcone_unix::endpoint::Endpoint;
///
/// let endpoint: Endpoint = "127.0.0.1:8080".parse()?;
/// assert_eq!(endpoint.to_string(), "127.0.0.1:8080");
/// let endpoint: Endpoint = "unix:/run/app.sock".parse()?;
/// assert_eq!(endpoint.to_string(), "unix:/run/app.sock");
/// let error = "8080".parse::<Endpoint>().unwrap_err();
/// assert!(error.to_string().starts_with("\"8080\" is not an endpoint"));
/// # Ok::<(), lightcone_unix::endpoint::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// An IPv4 or IPv6 address with a port. When listening, port 0 lets the system choose one.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(UnixName),
}

/// The name of a Unix socket: a path, or on Linux an abstract name. It is known to fit into `sun_path`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixName {
    /// The contents of `sun_path` without the terminating zero. An abstract name begins with a zero byte; a path
    /// contains none.
    ///
    /// INVARIANT: not empty, and shorter than `UNIX_PATH_BYTES` (a path) or at most as long (an abstract name).
    bytes: Box<[u8]>,
}

/// An error for a text or name that is not a valid endpoint.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EndpointError {
    value: Box<str>,
    cause: EndpointCause,
}

/// Why a text is not a valid endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum EndpointCause {
    NoPort,
    Port,
    Unbracketed,
    NoHost,
    Unresolved,
    NoPath,
    TooLong { bytes: usize },
    ZeroByte,
    NoAbstract,
}

/// Whether the system has Unix sockets outside the file system.
const ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));

impl Endpoint {
    /// Parses a text, resolving host names, and returns all its endpoints: for a host name, its addresses in the order
    /// of the system's resolver; otherwise, exactly one endpoint.
    ///
    /// Resolving a host name may block for seconds: do not call this on a poller's thread. [`FromStr`] returns only the
    /// first endpoint.
    ///
    /// # Errors
    ///
    /// If the text is invalid or a host name has no address. The error contains the value and what is allowed.
    pub fn resolve(text: &str) -> Result<Vec<Self>, EndpointError> {
        let refuse = |cause| EndpointError { value: text.into(), cause };
        if let Some(name) = text.strip_prefix("unix:") {
            let name = match name.strip_prefix('@') {
                Some(name) => UnixName::abstract_name(name),
                None => UnixName::path(name),
            };
            return Ok(vec![Self::Unix(name.map_err(|error| refuse(error.cause))?)]);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(vec![Self::Inet(address)]);
        }
        let (host, port) = split_host(text).map_err(refuse)?;
        let found = (host, port).to_socket_addrs().map_err(|_| refuse(EndpointCause::Unresolved))?;
        let found: Vec<_> = found.map(Self::Inet).collect();
        if found.is_empty() { Err(refuse(EndpointCause::Unresolved)) } else { Ok(found) }
    }

    /// Returns the internet address; `None` for a Unix socket.
    #[must_use]
    pub const fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Returns the address family.
    pub(crate) const fn family(&self) -> AddressFamily {
        match self {
            Self::Inet(SocketAddr::V4(_)) => AddressFamily::Inet,
            Self::Inet(SocketAddr::V6(_)) => AddressFamily::Inet6,
            Self::Unix(_) => AddressFamily::Unix,
        }
    }
}

/// Splits a text that is not a plain address into host and port: `name:port`, or `[address%interface]:port`.
fn split_host(text: &str) -> Result<(&str, u16), EndpointCause> {
    let (host, port) = text.rsplit_once(':').ok_or(EndpointCause::NoPort)?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
    let port = port.ok_or(EndpointCause::Port)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or(EndpointCause::Unbracketed)?,
        None if host.contains(':') => return Err(EndpointCause::Unbracketed),
        None => host,
    };
    if host.is_empty() { Err(EndpointCause::NoHost) } else { Ok((host, port)) }
}

impl UnixName {
    /// Creates the name of a socket in the file system.
    ///
    /// # Errors
    ///
    /// If the path is empty, contains a zero byte or is too long.
    pub fn path(path: impl AsRef<Path>) -> Result<Self, EndpointError> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        let cause = if bytes.is_empty() {
            EndpointCause::NoPath
        } else if bytes.contains(&0) {
            EndpointCause::ZeroByte
        } else if bytes.len() >= UNIX_PATH_BYTES {
            EndpointCause::TooLong { bytes: bytes.len() }
        } else {
            return Ok(Self { bytes: bytes.into() });
        };
        Err(EndpointError { value: path.as_ref().to_string_lossy().into(), cause })
    }

    /// Creates the name of a socket outside the file system (Linux only). Such a socket disappears when its last
    /// descriptor is closed.
    ///
    /// # Errors
    ///
    /// If the name is empty or too long; on systems other than Linux, always.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Self, EndpointError> {
        let name = name.as_ref();
        let cause = if !ABSTRACT_NAMES {
            EndpointCause::NoAbstract
        } else if name.is_empty() {
            EndpointCause::NoPath
        } else if name.len() >= UNIX_PATH_BYTES {
            EndpointCause::TooLong { bytes: name.len() }
        } else {
            let mut bytes = Vec::with_capacity(1 + name.len());
            bytes.push(0);
            bytes.extend_from_slice(name);
            return Ok(Self { bytes: bytes.into() });
        };
        Err(EndpointError { value: String::from_utf8_lossy(name).into(), cause })
    }

    /// Returns the bytes for `sun_path`, without the terminating zero of a path.
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_path(&self) -> bool {
        self.bytes.first() != Some(&0)
    }

    /// Returns the path; `None` for an abstract name.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        self.is_path().then(|| Path::new(OsStr::from_bytes(&self.bytes)))
    }
}

impl fmt::Display for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_path() {
            Some(path) => fmt::Display::fmt(&path.display(), f),
            None => write!(f, "@{}", String::from_utf8_lossy(self.bytes.get(1..).unwrap_or_default())),
        }
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => fmt::Display::fmt(address, f),
            Self::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Returns the first endpoint of [`resolve`](Self::resolve).
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let mut found = Self::resolve(text)?.into_iter();
        found
            .next()
            .ok_or_else(|| EndpointError { value: text.to_owned().into(), cause: EndpointCause::Unresolved })
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl From<UnixName> for Endpoint {
    fn from(name: UnixName) -> Self {
        Self::Unix(name)
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an endpoint: ", self.value)?;
        match self.cause {
            EndpointCause::NoPort => f.write_str("there is no port")?,
            EndpointCause::Port => f.write_str("the port is not a number from 0 to 65535")?,
            EndpointCause::Unbracketed => f.write_str("an IPv6 address must be in brackets")?,
            EndpointCause::NoHost => f.write_str("there is no host before the port")?,
            EndpointCause::Unresolved => f.write_str("the host name has no address")?,
            EndpointCause::NoPath => f.write_str("there is no path")?,
            EndpointCause::TooLong { bytes } => {
                write!(f, "the path has {bytes} bytes and the system allows {}", UNIX_PATH_BYTES - 1)?;
            }
            EndpointCause::ZeroByte => f.write_str("a path must not contain a zero byte")?,
            EndpointCause::NoAbstract => f.write_str("abstract socket names exist on Linux only")?,
        }
        f.write_str(" (allowed: 127.0.0.1:8080, [::1]:8080, localhost:8080, unix:/path/to/socket")?;
        f.write_str(if ABSTRACT_NAMES { ", unix:@name)" } else { ")" })
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for EndpointError {}

/// A value that can be converted to endpoints to listen on.
pub trait ToEndpoints {
    /// Returns the endpoints, in the order in which to try them.
    ///
    /// # Errors
    ///
    /// If a text is not a valid endpoint.
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError>;
}

impl ToEndpoints for str {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Endpoint::resolve(self)
    }
}

impl ToEndpoints for String {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Endpoint::resolve(self)
    }
}

impl ToEndpoints for SocketAddr {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(vec![Endpoint::Inet(*self)])
    }
}

impl ToEndpoints for Endpoint {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(vec![self.clone()])
    }
}

impl<T: ToEndpoints + ?Sized> ToEndpoints for &T {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        (**self).to_endpoints()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Endpoint>().unwrap_err().to_string()
    }

    #[test]
    fn addresses_are_printed_as_they_are_read() {
        for text in ["127.0.0.1:8080", "[::1]:0", "[fe80::1%3]:80", "unix:/run/a.sock", "unix:relative"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn abstract_names_are_linuxs() {
        let endpoint: Endpoint = "unix:@lightcone".parse().unwrap();
        assert_eq!(endpoint.to_string(), "unix:@lightcone");
        let Endpoint::Unix(name) = endpoint else { panic!() };
        assert_eq!((name.as_bytes(), name.as_path()), (b"\0lightcone".as_slice(), None));
        assert!(error("unix:@").contains("no path"));
    }

    #[test]
    fn names_are_resolved() {
        let found = Endpoint::resolve("localhost:8080").unwrap();
        assert!(found.iter().all(|endpoint| {
            endpoint.as_inet().is_some_and(|address| address.ip().is_loopback() && address.port() == 8080)
        }));
        assert!(found.contains(&"localhost:8080".parse().unwrap()));
    }

    #[test]
    fn the_interface_of_a_link_local_address_may_be_named() {
        // Where the loopback interface is called `lo`, its index is 1. Elsewhere the name is refused, which is fine.
        if let Ok(endpoint) = "[fe80::1%lo]:80".parse::<Endpoint>() {
            assert_eq!(endpoint.to_string(), "[fe80::1%1]:80");
        }
    }

    #[test]
    fn refusals_name_the_value_the_reason_and_what_is_allowed() {
        for (text, reason) in [
            ("8080", "no port"),
            ("", "no port"),
            (":8080", "no host"),
            ("localhost:", "not a number"),
            ("localhost:99999", "0 to 65535"),
            ("localhost:+80", "not a number"),
            ("::1:8080", "brackets"),
            ("[::1:8080", "brackets"),
            ("[]:1", "no host"),
            ("unix:", "no path"),
            ("unix:a\0b", "zero byte"),
            ("no.such.host.invalid:80", "no address"),
        ] {
            let message = error(text);
            assert!(message.starts_with(&format!("{text:?} is not an endpoint: ")), "{message}");
            assert!(message.contains(reason), "{message}");
            assert!(message.contains("unix:/path/to/socket"), "{message}");
        }
    }

    #[test]
    fn the_limit_of_a_path_is_named() {
        let longest = "p".repeat(UNIX_PATH_BYTES - 1);
        assert!(UnixName::path(&longest).is_ok());
        let message = error(&format!("unix:{longest}p"));
        let expected = format!("has {UNIX_PATH_BYTES} bytes and the system allows {}", UNIX_PATH_BYTES - 1);
        assert!(message.contains(&expected), "{message}");
    }
}
