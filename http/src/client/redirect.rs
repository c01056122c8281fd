//! Redirects: which request follows a response with a `Location` (RFC 9110, 15.4).

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use core::fmt;

use crate::method::Method;
use crate::status::Status;

use super::uri::{Uri, UriError};

/// The request that follows a response which redirects.
///
/// ```
/// use lightcone_http::client::Redirection;
/// use lightcone_http::{Method, Status};
///
/// let next = Redirection::new(Method::Post, "http://a.example/b/c?d", Status::SEE_OTHER, Some(b"../e"))?;
/// let next = next.expect("a 303 with a location redirects");
/// assert_eq!((next.method, next.uri.as_str()), (Method::Get, "http://a.example/e"));
/// assert!(!next.keeps_body && !next.changes_origin);
/// assert!(!next.keeps("Content-Type") && next.keeps("Authorization"));
/// # Ok::<(), lightcone_http::client::RedirectError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Redirection {
    /// The method.
    pub method: Method,
    /// The URI, which [`Uri::parse`] accepts.
    pub uri: String,
    /// Whether the body of the request is to be sent again, if it has one. Otherwise the next request has none.
    pub keeps_body: bool,
    /// Whether the scheme, the host or the port is another one.
    pub changes_origin: bool,
}

/// Why a response that redirects is not followed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedirectError {
    /// The location needs TLS.
    Https(String),
    /// The location is not a URI that can be requested.
    Location(String, UriError),
    /// A request with this URI and the same method was sent before.
    Loop(String),
    /// There are more redirects than this, the number that the program allows.
    TooMany(u8),
}

impl fmt::Display for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Https(location) => write!(f, "redirected to {location:?}, which needs TLS"),
            Self::Location(location, error) => write!(f, "redirected to {location:?}: {error}"),
            Self::Loop(location) => write!(f, "redirected in a loop, back to {location:?}"),
            Self::TooMany(most) => write!(f, "redirected more than {most} times"),
        }
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for RedirectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for RedirectError {}

impl Redirection {
    /// Returns the request that follows a response with `status` to a request with `method` for `uri`; `None` if the
    /// response does not redirect, which is any other than a 301, 302, 303, 307 or 308 with a location.
    ///
    /// A 303 is followed with `GET`, or with `HEAD` if that was the method; so is a 301 or 302 to a `POST`, as browsers
    /// do. Otherwise the method and the body are kept. A relative location is [resolved](resolve), and its fragment,
    /// which is never sent, is dropped.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Https`] or [`RedirectError::Location`]. A location that is not ASCII is not a URI.
    pub fn new(
        method: Method,
        uri: &str,
        status: Status,
        location: Option<&[u8]>,
    ) -> Result<Option<Self>, RedirectError> {
        let becomes_get = match status.code() {
            301 | 302 => method == Method::Post,
            303 => method != Method::Head,
            307 | 308 => false,
            _ => return Ok(None),
        };
        let Some(location) = location else { return Ok(None) };
        let target = resolve(uri, &String::from_utf8_lossy(location));
        let is_https = target.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"));
        let next = match Uri::parse(&target) {
            Ok(next) => next,
            Err(_) if is_https => return Err(RedirectError::Https(target)),
            Err(error) => return Err(RedirectError::Location(target, error)),
        };
        let changes_origin = !Uri::parse(uri).is_ok_and(|uri| uri.has_origin_of(&next));
        let method = if becomes_get { Method::Get } else { method };
        let keeps_body = !becomes_get && status != Status::SEE_OTHER;
        Ok(Some(Self { method, uri: next.to_string(), keeps_body, changes_origin }))
    }

    /// Returns whether the next request has a field with this name if the request before it had it (RFC 9110, 15.4).
    /// Credentials stay with the origin: `Authorization`, `Proxy-Authorization` and `Cookie` are dropped if that
    /// changes. The fields that describe a body, such as all that begin with `Content-`, are dropped with it.
    #[must_use]
    pub fn keeps(&self, name: &str) -> bool {
        const CREDENTIALS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
        const CONTENT: [&str; 3] = ["digest", "last-modified", "trailer"];
        let is_in = |names: &[&str]| names.iter().any(|found| name.eq_ignore_ascii_case(found));
        let starts = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
        !(self.changes_origin && is_in(&CREDENTIALS) || !self.keeps_body && (starts || is_in(&CONTENT)))
    }
}

/// Resolves a reference against a base URI (RFC 3986, 5.2), strictly: a scheme in the reference makes it absolute, even
/// if it is that of the base. The result may have any scheme, and is not checked.
///
/// ```
/// use lightcone_http::client::resolve;
/// assert_eq!(resolve("http://a/b/c/d;p?q", "../g?y#s"), "http://a/b/g?y#s");
/// ```
#[must_use]
pub fn resolve(base: &str, reference: &str) -> String {
    let (base, reference) = (Parts::of(base), Parts::of(reference));
    let (scheme, authority, path, query) = match reference {
        Parts { scheme: Some(_), authority, path, query, .. } => {
            (reference.scheme, authority, without_dots(path), query)
        }
        Parts { authority: Some(_), path, query, .. } => {
            (base.scheme, reference.authority, without_dots(path), query)
        }
        Parts { path: "", query, .. } => {
            (base.scheme, base.authority, base.path.to_owned(), query.or(base.query))
        }
        Parts { path, query, .. } if path.starts_with('/') => {
            (base.scheme, base.authority, without_dots(path), query)
        }
        Parts { path, query, .. } => (base.scheme, base.authority, without_dots(&base.merge(path)), query),
    };
    let mut target = String::new();
    let pieces = [
        (scheme, "", ":"),
        (authority, "//", ""),
        (Some(path.as_str()), "", ""),
        (query, "?", ""),
        (reference.fragment, "#", ""),
    ];
    for (piece, before, after) in pieces {
        if let Some(piece) = piece {
            target += before;
            target += piece;
            target += after;
        }
    }
    target
}

/// The parts of a URI reference (RFC 3986, appendix B). A part that is missing differs from one that is empty.
#[derive(Clone, Copy)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (rest, fragment) = cut(text, '#');
        let (rest, query) = cut(rest, '?');
        let (scheme, rest) = match rest.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, rest),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, rest),
        };
        Self { scheme, authority, path, query, fragment }
    }

    /// Returns a relative path in place of what follows the last slash of this one (RFC 3986, 5.2.3).
    fn merge(&self, path: &str) -> String {
        let folder = match self.path.rfind('/') {
            Some(slash) => self.path.split_at(slash + 1).0,
            None if self.authority.is_some() => "/",
            None => "",
        };
        folder.to_owned() + path
    }
}

/// Returns what precedes the first `mark`, and what follows it.
fn cut(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Removes the segments `.` and `..`, with those that the latter cancel (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut result = String::new();
    let mut rest = path;
    // Each round takes bytes off `rest`, except those that leave the last slash.
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("../").or_else(|| rest.strip_prefix("./")) {
            rest = after;
        } else if let Some(after) = segment(rest, "/.") {
            rest = after;
        } else if let Some(after) = segment(rest, "/..") {
            result.truncate(result.rfind('/').unwrap_or(0));
            rest = after;
        } else if matches!(rest, "." | "..") {
            rest = "";
        } else {
            let end = rest.char_indices().skip(1).find(|(_, found)| *found == '/');
            let (first, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
            result += first;
            rest = after;
        }
    }
    result
}

/// Returns what follows the segment, from its slash on; `None` if the path does not begin with it.
fn segment<'p>(path: &'p str, segment: &str) -> Option<&'p str> {
    match path.strip_prefix(segment)? {
        "" => Some("/"),
        after if after.starts_with('/') => Some(after),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    const BASE: &str = "http://a/b/c/d;p?q";

    /// The examples of RFC 3986, 5.4.1 and 5.4.2.
    #[test]
    fn the_references_of_the_rfc() {
        let table = [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y#s"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/./x", "http://a/b/c/g#s/./x"),
            ("g#s/../x", "http://a/b/c/g#s/../x"),
            ("http:g", "http:g"),
        ];
        for (reference, expected) in table {
            assert_eq!(resolve(BASE, reference), expected, "{reference:?}");
        }
    }

    #[test]
    fn references_of_other_kinds() {
        let table = [
            ("http://a", "g", "http://a/g"),
            ("http://a?q", "g", "http://a/g"),
            ("http://a", "?y", "http://a?y"),
            ("http://a/b", "/\u{e4}/../\u{e4}", "http://a/\u{e4}"),
            ("http://a/b", "c:d/e", "c:d/e"),
            ("http://a/b", "1:d", "http://a/1:d"),
            ("http://a/b/c", "?", "http://a/b/c?"),
            ("http://a/b/c", "//d?e:f", "http://d?e:f"),
            ("http://a/b/c", "x/..//../y", "http://a/b/y"),
            // RFC 3986, 5.2.4
            ("http://z", "/a/b/c/./../../g", "http://z/a/g"),
            ("mid:x", "mid/content=5/../6", "mid:mid/6"),
        ];
        for (base, reference, expected) in table {
            assert_eq!(resolve(base, reference), expected, "{base:?} {reference:?}");
        }
    }

    fn next(method: Method, status: u16, location: &str) -> Result<Option<Redirection>, RedirectError> {
        let status = Status::new(status).unwrap();
        Redirection::new(method, "http://a.example/b", status, Some(location.as_bytes()))
    }

    #[test]
    fn methods_and_bodies() {
        let table = [
            (Method::Get, [301, 302, 303], Method::Get, [true, true, false]),
            (Method::Head, [301, 302, 303], Method::Head, [true, true, false]),
            (Method::Post, [301, 302, 303], Method::Get, [false; 3]),
            (Method::Put, [301, 302, 307], Method::Put, [true; 3]),
            (Method::Put, [303; 3], Method::Get, [false; 3]),
            (Method::Post, [307, 308, 308], Method::Post, [true; 3]),
        ];
        for (method, statuses, expected, keeps) in table {
            for (status, keeps_body) in statuses.into_iter().zip(keeps) {
                let next = next(method, status, "c").unwrap().unwrap();
                assert_eq!((next.method, next.keeps_body), (expected, keeps_body), "{method} {status}");
                assert_eq!((next.uri.as_str(), next.changes_origin), ("http://a.example/c", false));
            }
        }
        for status in [200, 201, 300, 304, 305, 306, 400] {
            assert_eq!(next(Method::Get, status, "c"), Ok(None), "{status}");
        }
        assert_eq!(Redirection::new(Method::Get, BASE, Status::SEE_OTHER, None), Ok(None));
    }

    #[test]
    fn what_is_not_sent_again() {
        let table = [
            ("/c", 307, true, true),
            ("HTTP://A.example:80/#x", 307, true, true),
            ("//a.example:81/", 307, false, true),
            ("//b.example", 307, false, true),
            ("//a.example.b/", 303, false, false),
            ("/c", 303, true, false),
        ];
        for (location, status, credentials, content) in table {
            let next = next(Method::Post, status, location).unwrap().unwrap();
            for name in ["Authorization", "COOKIE", "Proxy-Authorization"] {
                assert_eq!(next.keeps(name), credentials, "{location} {name}");
            }
            for name in ["content-type", "Content-Encoding", "Content-Digest", "Digest", "Trailer"] {
                assert_eq!(next.keeps(name), content, "{location} {name}");
            }
            assert!(next.keeps("Accept") && next.keeps("content") && !next.uri.contains('#'));
        }
    }

    #[test]
    fn locations_that_are_not_followed() {
        let table = [
            ("https://b/c", "redirected to \"https://b/c\", which needs TLS"),
            ("HTTPS:c", "redirected to \"HTTPS:c\", which needs TLS"),
            ("ftp://b/c", "redirected to \"ftp://b/c\": a URI must begin with http://"),
            ("http:c", "redirected to \"http:c\": a URI must begin with http://"),
            ("//u@b/", "redirected to \"http://u@b/\": a URI must not have user information before its host"),
        ];
        for (location, expected) in table {
            assert_eq!(next(Method::Get, 302, location).unwrap_err().to_string(), expected);
        }
        let bytes = Redirection::new(Method::Get, BASE, Status::SEE_OTHER, Some(b"/\x1b[2J\xff"));
        let text = format!("{}", bytes.unwrap_err());
        assert!(
            text.starts_with("redirected to \"http://a/\\u{1b}[2J\u{fffd}\": the path or query"),
            "{text}"
        );
    }
}
