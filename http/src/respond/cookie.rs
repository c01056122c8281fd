//! Cookies that a response sets, and those that a request has (RFC 6265).

use core::fmt::{self, Display};
use core::time::Duration;

use crate::date::date;
use crate::parse::words::is_token;
use crate::query::cookie_pairs;
use crate::request::{Request, State};

use super::response::Response;
use super::validators::values;

/// A cookie for the value of a `Set-Cookie` field (RFC 6265, 4.1). [`Response::set_cookie`] adds it to a response.
///
/// The name and the value are sent as they are. A value that may contain spaces, quotes, commas, semicolons,
/// backslashes or characters outside of ASCII has to be encoded by the program, for example in Base64. A cookie that
/// breaks a rule is an [error](Self::check), and makes the response a 500.
///
/// ```
/// use core::time::Duration;
/// use lightcone_http::{SameSite, SetCookie};
///
/// let cookie = SetCookie::new("__Host-session", "31d4d96e407aad42")
///     .path("/")
///     .max_age(Duration::from_secs(3600))
///     .secure()
///     .http_only()
///     .same_site(SameSite::Lax);
/// assert_eq!(
///     cookie.to_string(),
///     "__Host-session=31d4d96e407aad42; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a cookie does nothing until it is added to a response"]
pub struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    domain: Option<&'a str>,
    /// In seconds.
    max_age: Option<u64>,
    /// Seconds since 1970.
    expires: Option<u64>,
    secure: bool,
    http_only: bool,
    partitioned: bool,
    same_site: Option<SameSite>,
}

/// Which requests from other sites a client adds a cookie to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SameSite {
    /// To no request from another site.
    Strict,
    /// To those that navigate to the page with a safe method, such as a link.
    Lax,
    /// To all. The cookie must be [`secure`](SetCookie::secure).
    None,
}

/// Why a cookie cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// The name is no token.
    Name,
    /// The value contains a character that is not allowed.
    Value,
    /// The path does not start with a slash, or contains a semicolon or a character that is not visible ASCII.
    Path,
    /// The domain is empty, or contains a character other than letters, digits, hyphens and dots.
    Domain,
    /// A cookie with `SameSite=None`, `Partitioned` or the prefix `__Secure-` or `__Host-` is not secure.
    Insecure,
    /// A cookie with the prefix `__Host-` has a domain, or a path other than `/`.
    NotOfHost,
}

impl Display for InvalidCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "the name of a cookie is not a token",
            Self::Value => "the value of a cookie has a character that is not allowed",
            Self::Path => "the path of a cookie is invalid",
            Self::Domain => "the domain of a cookie is invalid",
            Self::Insecure => "a cookie that must be secure is not",
            Self::NotOfHost => "a cookie for one host has a domain, or a path other than /",
        })
    }
}

impl core::error::Error for InvalidCookie {}

impl<'a> SetCookie<'a> {
    /// Creates a cookie for the host and the directory of the request, which the client drops when its session ends.
    pub const fn new(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            value,
            path: None,
            domain: None,
            max_age: None,
            expires: None,
            secure: false,
            http_only: false,
            partitioned: false,
            same_site: None,
        }
    }

    /// Creates a cookie that removes the one with this name. It must have the same path and domain, and the attributes
    /// that a prefix of the name requires.
    ///
    /// ```
    /// use lightcone_http::SetCookie;
    /// assert_eq!(
    ///     SetCookie::removal("theme").path("/").to_string(),
    ///     "theme=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    /// );
    /// ```
    pub const fn removal(name: &'a str) -> Self {
        Self::new(name, "").max_age(Duration::ZERO).expires(0)
    }

    /// Sets the path below which the client sends the cookie.
    pub const fn path(mut self, path: &'a str) -> Self {
        self.path = Some(path);
        self
    }

    /// Sets the domain whose hosts the client sends the cookie to. Without it, only the host of the request gets it.
    pub const fn domain(mut self, domain: &'a str) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Sets how long the client keeps the cookie, in whole seconds, rounded up.
    pub const fn max_age(mut self, age: Duration) -> Self {
        let seconds = age.as_secs();
        self.max_age = Some(if age.subsec_nanos() > 0 { seconds.saturating_add(1) } else { seconds });
        self
    }

    /// Sets until when the client keeps the cookie, in seconds since 1970. [`max_age`](Self::max_age) takes precedence,
    /// and does not depend on the client's clock.
    pub const fn expires(mut self, unix_time: u64) -> Self {
        self.expires = Some(unix_time);
        self
    }

    /// Lets the client send the cookie only over encrypted connections.
    pub const fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Hides the cookie from scripts.
    pub const fn http_only(mut self) -> Self {
        self.http_only = true;
        self
    }

    /// Sets which requests from other sites the client adds the cookie to.
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Lets a page that is embedded in pages of several sites have a cookie for each. The cookie must be
    /// [`secure`](Self::secure).
    pub const fn partitioned(mut self) -> Self {
        self.partitioned = true;
        self
    }

    /// Checks that the cookie can be set: for one that is made of input.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), InvalidCookie> {
        let rule = |holds: bool, error| if holds { Ok(()) } else { Err(error) };
        // RFC 6265, 4.1.1: no comma and no semicolon, at which lists and attributes are split.
        let octet = |byte: u8| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
        let quoted = self.value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let starts = |prefix: &str| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        rule(!self.name.is_empty() && self.name.bytes().all(is_token), InvalidCookie::Name)?;
        rule(quoted.unwrap_or(self.value).bytes().all(octet), InvalidCookie::Value)?;
        if let Some(path) = self.path {
            let valid = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b';';
            rule(path.starts_with('/') && path.bytes().all(valid), InvalidCookie::Path)?;
        }
        if let Some(domain) = self.domain {
            let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            rule(!domain.is_empty() && domain.bytes().all(valid), InvalidCookie::Domain)?;
        }
        // Browsers drop such cookies silently, which is hard to find. They ignore the case of the prefixes.
        let host = starts("__host-");
        let secure =
            self.same_site == Some(SameSite::None) || self.partitioned || starts("__secure-") || host;
        rule(self.secure || !secure, InvalidCookie::Insecure)?;
        rule(!host || self.domain.is_none() && self.path == Some("/"), InvalidCookie::NotOfHost)
    }
}

/// Formats the value of the field. An error if the cookie is [invalid](SetCookie::check).
impl Display for SetCookie<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Here as well, so that a value with a semicolon can never add attributes.
        self.check().map_err(|_| fmt::Error)?;
        write!(f, "{}={}", self.name, self.value)?;
        for (name, value) in [("Path", self.path), ("Domain", self.domain)] {
            if let Some(value) = value {
                write!(f, "; {name}={value}")?;
            }
        }
        if let Some(seconds) = self.max_age {
            write!(f, "; Max-Age={seconds}")?;
        }
        if let Some(time) = self.expires {
            write!(f, "; Expires={}", core::str::from_utf8(&date(time)).map_err(|_| fmt::Error)?)?;
        }
        f.write_str(if self.secure { "; Secure" } else { "" })?;
        f.write_str(if self.http_only { "; HttpOnly" } else { "" })?;
        f.write_str(match self.same_site {
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
            None => "",
        })?;
        f.write_str(if self.partitioned { "; Partitioned" } else { "" })
    }
}

impl Response<'_> {
    /// Sets a cookie. May be called several times. An [invalid](SetCookie::check) cookie makes this a 500, as other
    /// invalid [fields](Self::header) do.
    ///
    /// ```
    /// use lightcone_http::{Http, SameSite, SetCookie};
    ///
    /// let server = Http::new().post("/theme/{name}", |request, response| {
    ///     let cookie = SetCookie::new("theme", request.param("name")).path("/").same_site(SameSite::Lax);
    ///     match cookie.check() {
    ///         Ok(()) => response.set_cookie(&cookie).redirect("/"),
    ///         Err(error) => response.status(400).display(error),
    ///     }
    /// });
    /// # drop(server);
    /// ```
    #[must_use = "no response is sent"]
    pub fn set_cookie(self, cookie: &SetCookie<'_>) -> Self {
        self.header("Set-Cookie", cookie)
    }
}

impl<'a, S: State> Request<'a, S> {
    /// Returns the names and values of all cookies that are text, in the order received, without quotes around the
    /// values.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/", |request, response| response.display(request.cookies().count()));
    /// # drop(server);
    /// ```
    pub fn cookies(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a, S> {
        let pairs = values(self.head, "cookie").flat_map(cookie_pairs);
        pairs.filter_map(|(name, value)| {
            Some((core::str::from_utf8(name).ok()?, core::str::from_utf8(value).ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::ToString;

    use super::*;

    #[test]
    fn all_attributes() {
        let cookie = SetCookie::new("a", "b")
            .path("/x y")
            .domain("example.com")
            .max_age(Duration::from_millis(1001))
            .expires(784_111_777)
            .secure()
            .http_only()
            .same_site(SameSite::None)
            .partitioned();
        assert_eq!(
            cookie.to_string(),
            "a=b; Path=/x y; Domain=example.com; Max-Age=2; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Secure; \
             HttpOnly; SameSite=None; Partitioned"
        );
        assert_eq!(SetCookie::new("a", "").to_string(), "a=");
        assert_eq!(
            SetCookie::new("a", "\"b\"").same_site(SameSite::Strict).to_string(),
            "a=\"b\"; SameSite=Strict"
        );
    }

    #[test]
    fn each_byte_of_a_value() {
        let excluded = ['"', ',', ';', '\\', ' '];
        for byte in 0..=255_u8 {
            let value = char::from(byte);
            let allowed = value.is_ascii_graphic() && !excluded.contains(&value);
            let text = format!("x{value}x");
            assert_eq!(SetCookie::new("a", &text).check().is_ok(), allowed, "{byte}");
        }
    }

    #[test]
    fn cookies_that_cannot_be_set() {
        let plain = SetCookie::new("a", "b");
        let host = SetCookie::new("__Host-a", "b").secure().path("/");
        let table = [
            (SetCookie::new("", "b"), InvalidCookie::Name),
            (SetCookie::new("a b", "b"), InvalidCookie::Name),
            (SetCookie::new("a=", "b"), InvalidCookie::Name),
            (SetCookie::new("a", "b\r\nX: y"), InvalidCookie::Value),
            (SetCookie::new("a", "\"b"), InvalidCookie::Value),
            (SetCookie::new("a", "\""), InvalidCookie::Value),
            (plain.path("x"), InvalidCookie::Path),
            (plain.path(""), InvalidCookie::Path),
            (plain.path("/; Secure"), InvalidCookie::Path),
            (plain.path("/\n"), InvalidCookie::Path),
            (plain.domain(""), InvalidCookie::Domain),
            (plain.domain("a;b"), InvalidCookie::Domain),
            (plain.same_site(SameSite::None), InvalidCookie::Insecure),
            (plain.partitioned(), InvalidCookie::Insecure),
            (SetCookie::new("__Secure-a", "b"), InvalidCookie::Insecure),
            (SetCookie::new("__secure-a", "b"), InvalidCookie::Insecure),
            (SetCookie::new("__Host-a", "b").path("/"), InvalidCookie::Insecure),
            (host.path("/x"), InvalidCookie::NotOfHost),
            (host.domain("a"), InvalidCookie::NotOfHost),
            (SetCookie::new("__Host-a", "b").secure(), InvalidCookie::NotOfHost),
        ];
        for (cookie, error) in table {
            assert_eq!(cookie.check(), Err(error), "{cookie:?}");
        }
        assert_eq!((plain.check(), host.check()), (Ok(()), Ok(())));
    }
}
