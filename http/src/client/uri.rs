//! The URI of a request.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::parse::host;

/// The schemes with what separates them from the authority.
const HTTP: &str = "http://";
const WS: &str = "ws://";
/// The port of a URI without one, in both schemes.
const DEFAULT_PORT: u16 = 80;

/// An `http` or `ws` URI, checked strictly by RFC 3986 and split into its parts, which borrow the text.
///
/// User information is refused, since it is used to disguise the host (RFC 9110, 4.2.4). The fragment of an `http` URI
/// is accepted and dropped, as it is never sent.
///
/// ```
/// use lightcone_http::client::Uri;
///
/// let uri = Uri::parse("http://example.org:8080/a/b?c=d#e")?;
/// assert_eq!((uri.host(), uri.port(), uri.path(), uri.query()), ("example.org", 8080, "/a/b", Some("c=d")));
/// assert_eq!(uri.to_string(), "http://example.org:8080/a/b?c=d");
/// assert_eq!(Uri::parse("http://[::1]/")?.address(), Some("[::1]:80".parse().unwrap()));
/// # Ok::<(), lightcone_http::client::UriError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Uri<'a> {
    scheme: &'static str,
    /// With the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
    /// May be empty, which means `/`.
    path: &'a str,
    query: Option<&'a str>,
}

/// Why a text is not a URI that can be requested.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UriError {
    /// The text does not begin with `http://`.
    Scheme,
    /// The text does not begin with `ws://`, which [`Uri::parse_ws`] expects.
    WsScheme,
    /// There is user information before the host.
    UserInfo,
    /// The host is missing or malformed.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The path or the query has a character that must be percent-encoded, or a malformed percent-encoding.
    Target,
    /// There is a fragment, which a `ws` URI must not have (RFC 6455, 3).
    Fragment,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a URI must begin with http://",
            Self::WsScheme => "the URI of a WebSocket must begin with ws://",
            Self::UserInfo => "a URI must not have user information before its host",
            Self::Host => "the host of the URI is missing or malformed",
            Self::Port => "the port of the URI is malformed; allowed: 1 to 65535",
            Self::Target => "the path or query of the URI has a character that must be percent-encoded",
            Self::Fragment => "the URI of a WebSocket must not have a fragment (#)",
        })
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for UriError {}

impl<'a> Uri<'a> {
    /// A URI without a host, for a request that does not use it.
    #[cfg(feature = "alloc")]
    pub(super) const NONE: Self = Self { scheme: HTTP, host: "", port: DEFAULT_PORT, path: "", query: None };

    /// Parses a URI such as `http://host:port/path?query`.
    ///
    /// # Errors
    ///
    /// The first part of the text that is not allowed.
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        Self::parse_scheme(text, HTTP).ok_or(UriError::Scheme)?
    }

    /// Parses the URI of a WebSocket, such as `ws://host:port/path?query` (RFC 6455, 3).
    ///
    /// ```
    /// use lightcone_http::client::{Uri, UriError};
    ///
    /// let uri = Uri::parse_ws("ws://example.org/chat")?;
    /// assert_eq!((uri.host(), uri.port(), uri.path()), ("example.org", 80, "/chat"));
    /// assert_eq!(Uri::parse_ws("ws://example.org/chat#top"), Err(UriError::Fragment));
    /// # Ok::<(), UriError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first part of the text that is not allowed. A fragment is not, nor is `wss`, which needs TLS.
    pub fn parse_ws(text: &'a str) -> Result<Self, UriError> {
        let uri = Self::parse_scheme(text, WS).ok_or(UriError::WsScheme)??;
        if text.contains('#') { Err(UriError::Fragment) } else { Ok(uri) }
    }

    /// Parses a URI of one scheme; `None` if it has another one.
    fn parse_scheme(text: &'a str, scheme: &'static str) -> Option<Result<Self, UriError>> {
        let (found, rest) = text.split_at_checked(scheme.len())?;
        found.eq_ignore_ascii_case(scheme).then(|| Self::parse_rest(rest, scheme))
    }

    fn parse_rest(rest: &'a str, scheme: &'static str) -> Result<Self, UriError> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = authority_parts(authority)?;
        let target = rest.split_once('#').map_or(rest, |(target, _fragment)| target);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if !is_encoded(path, b"/") || !is_encoded(query.unwrap_or_default(), b"/?") {
            return Err(UriError::Target);
        }
        Ok(Self { scheme, host, port, path, query })
    }

    /// Returns the host: a name, an IPv4 address, or an IPv6 address without its brackets.
    pub fn host(&self) -> &'a str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(self.host)
    }

    /// Returns the port; 80 if the URI has none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path, not decoded. It starts with `/`.
    pub const fn path(&self) -> &'a str {
        if self.path.is_empty() { "/" } else { self.path }
    }

    /// Returns the query, not decoded.
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Returns the address if the host is an IP address. A name has to be resolved by the caller.
    pub fn address(&self) -> Option<SocketAddr> {
        let host = self.host().parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(host, self.port))
    }

    /// Returns whether the scheme, the host and the port are those of `other` (RFC 9110, 4.3.1).
    #[cfg(feature = "alloc")]
    pub(super) fn has_origin_of(&self, other: &Self) -> bool {
        (self.scheme, self.port) == (other.scheme, other.port) && self.host.eq_ignore_ascii_case(other.host)
    }

    /// Writes the host and, unless it is 80, the port, as in the field `Host`.
    pub(super) fn write_authority(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host)?;
        if self.port == DEFAULT_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }

    /// Writes the path and the query, as in a request line.
    pub(super) fn write_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())?;
        self.query.map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// Formats the URI without what has no effect: the default port and a fragment.
impl fmt::Display for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme)?;
        self.write_authority(f)?;
        self.write_target(f)
    }
}

impl<'a> TryFrom<&'a str> for Uri<'a> {
    type Error = UriError;

    fn try_from(text: &'a str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

/// Splits an authority into host and port.
fn authority_parts(authority: &str) -> Result<(&str, u16), UriError> {
    if authority.contains('@') {
        return Err(UriError::UserInfo);
    }
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let colon = authority.get(bracket..).and_then(|rest| rest.find(':')).map(|at| bracket + at);
    let (host, port) = match colon.and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) => (host, port.get(1..).unwrap_or_default()),
        None => (authority, ""),
    };
    if !host::is_valid(host.as_bytes()) {
        return Err(UriError::Host);
    }
    if port.is_empty() {
        return Ok((host, DEFAULT_PORT));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|port| *port != 0 && digits);
    number.map(|port| (host, port)).ok_or(UriError::Port)
}

/// Returns whether a text has only characters of a path segment (RFC 3986, 3.3) and those in `more`.
fn is_encoded(text: &str, more: &[u8]) -> bool {
    const MARKS: &[u8] = b"-._~!$&'()*+,;=:@";
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (byte, after) if byte.is_ascii_alphanumeric() || MARKS.contains(byte) || more.contains(byte) => {
                after
            }
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn parts_of_uris() {
        let table = [
            ("http://a", ("a", 80, "/", None), "http://a/"),
            ("HTTP://a/", ("a", 80, "/", None), "http://a/"),
            ("http://a:80/b", ("a", 80, "/b", None), "http://a/b"),
            ("http://a:/b", ("a", 80, "/b", None), "http://a/b"),
            ("http://a:65535?c", ("a", 65_535, "/", Some("c")), "http://a:65535/?c"),
            ("http://a:007/", ("a", 7, "/", None), "http://a:7/"),
            (
                "http://a/b//c/..?d=/?e&%C3%a4#f?g",
                ("a", 80, "/b//c/..", Some("d=/?e&%C3%a4")),
                "http://a/b//c/..?d=/?e&%C3%a4",
            ),
            ("http://a?", ("a", 80, "/", Some("")), "http://a/?"),
            ("http://a#b", ("a", 80, "/", None), "http://a/"),
            ("http://[2001:db8::1]:8/", ("2001:db8::1", 8, "/", None), "http://[2001:db8::1]:8/"),
            ("http://127.0.0.1", ("127.0.0.1", 80, "/", None), "http://127.0.0.1/"),
        ];
        for (text, parts, shown) in table {
            let uri = Uri::parse(text).expect(text);
            assert_eq!((uri.host(), uri.port(), uri.path(), uri.query()), parts, "{text}");
            assert_eq!(uri.to_string(), shown, "{text}");
            assert_eq!(Uri::parse(shown).map(|uri| uri.to_string()), Ok(shown.into()));
        }
        for (text, shown) in [("ws://a", "ws://a/"), ("WS://[::1]:81/b?c", "ws://[::1]:81/b?c")] {
            assert_eq!(Uri::parse_ws(text).map(|uri| uri.to_string()), Ok(shown.into()));
        }
        assert_eq!(Uri::parse("http://a").unwrap().address(), None);
        assert_eq!(Uri::parse("http://1.2.3.4").unwrap().address(), Some(([1, 2, 3, 4], 80).into()));
    }

    #[test]
    fn what_is_no_uri() {
        let table = [
            ("", UriError::Scheme),
            ("http:/", UriError::Scheme),
            ("https://a/", UriError::Scheme),
            ("/a", UriError::Scheme),
            ("a", UriError::Scheme),
            ("\u{e4}\u{e4}\u{e4}\u{e4}", UriError::Scheme),
            (" http://a", UriError::Scheme),
            ("http://", UriError::Host),
            ("http:///a", UriError::Host),
            ("http://:80/", UriError::Host),
            ("http://a b/", UriError::Host),
            ("http://a\r\nHost: b/", UriError::Host),
            ("http://::1/", UriError::Host),
            ("http://[::1/", UriError::Host),
            ("http://[::1]a/", UriError::Host),
            ("http://\u{e4}/", UriError::Host),
            ("http://user@a/", UriError::UserInfo),
            ("http://user:b@a/", UriError::UserInfo),
            ("http://a:0/", UriError::Port),
            ("http://a:65536/", UriError::Port),
            ("http://a:+1/", UriError::Port),
            ("http://a:b/", UriError::Port),
            ("http://a:1:2/", UriError::Port),
            ("http://[::1]:x/", UriError::Port),
            ("http://a/b c", UriError::Target),
            ("http://a/b\r\nX: y", UriError::Target),
            ("http://a/%", UriError::Target),
            ("http://a/%4", UriError::Target),
            ("http://a/%4x", UriError::Target),
            ("http://a/?b\"", UriError::Target),
            ("http://a/\u{e4}", UriError::Target),
            ("http://a/[", UriError::Target),
            ("http://a/?b\\c", UriError::Target),
        ];
        for (text, error) in table {
            assert_eq!(Uri::parse(text), Err(error), "{text:?}");
        }
        let table = [
            ("", UriError::WsScheme),
            ("http://a/", UriError::WsScheme),
            ("wss://a/", UriError::WsScheme),
            ("ws:/a", UriError::WsScheme),
            ("ws://", UriError::Host),
            ("ws://user@a/", UriError::UserInfo),
            ("ws://a:0/", UriError::Port),
            ("ws://a/b c", UriError::Target),
            ("ws://a/b#c", UriError::Fragment),
            ("ws://a#", UriError::Fragment),
        ];
        for (text, error) in table {
            assert_eq!(Uri::parse_ws(text), Err(error), "{text:?}");
        }
    }
}
