//! The credentials of requests: `Basic` (RFC 7617) and `Bearer` (RFC 6750).

use core::hint::black_box;
use core::{fmt, str};

use crate::exchange::Done;
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response};
use crate::respond::validators::only;
use crate::status::Status;

use super::Middleware;

/// The longest user name and password, with the colon between them, in bytes.
const BASIC_MAX: usize = 192;

/// Compares two secrets in a time that does not depend on where they differ, only on their lengths, so that a client
/// cannot find a secret byte by byte.
///
/// ```
/// use lightcone_http::is_same_secret;
/// assert!(is_same_secret(b"please", b"please"));
/// assert!(!is_same_secret(b"please", b"pleas"));
/// ```
#[must_use]
pub fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    let mut difference = 0;
    for (a, b) in one.iter().zip(other) {
        // Without the barrier, a compiler might end the loop at the first difference.
        difference = black_box(difference | (a ^ b));
    }
    one.len() == other.len() && difference == 0
}

/// Returns the credentials of a request with this scheme, whose case is ignored.
fn credentials<'a, S: State>(request: &Request<'a, S>, scheme: &str) -> Option<&'a [u8]> {
    let value = only(request.head, "authorization")?;
    let (start, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ").filter(|_| start.eq_ignore_ascii_case(scheme.as_bytes()))?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    rest.get(spaces..)
}

/// Checks that a realm needs no escapes in quotes.
///
/// # Panics
/// If it does.
const fn check_realm(realm: &str) {
    let mut rest = realm.as_bytes();
    while let [first, after @ ..] = rest {
        assert!(
            matches!(*first, b' '..=b'~') && !matches!(*first, b'"' | b'\\'),
            "the realm is not plain text"
        );
        rest = after;
    }
}

/// Admits requests with a user name and a password (RFC 7617), as [`Middleware`]. All others get a 401.
///
/// The two may have up to 192 bytes, including the colon between them, and must be UTF-8 without control characters.
/// They are not encrypted: use this only over an encrypted connection.
///
/// ```
/// use lightcone_http::{BasicAuth, Http, is_same_secret};
///
/// let guard = BasicAuth::new("notes", |_state: &mut (), user: &str, password: &str| {
///     user == "ada" && is_same_secret(password.as_bytes(), b"please")
/// });
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap(guard);
/// # drop(server);
/// ```
#[derive(Clone, Debug)]
#[must_use = "wrap routes in it"]
pub struct BasicAuth<F> {
    realm: &'static str,
    admits: F,
}

impl<F> BasicAuth<F> {
    /// Admits the requests for which `admits` returns `true`; it gets the state, the user name and the password. The
    /// realm is what a browser names when it asks for them.
    ///
    /// # Panics
    /// If the realm contains quotes, backslashes, control characters or characters outside of ASCII.
    pub const fn new(realm: &'static str, admits: F) -> Self {
        check_realm(realm);
        Self { realm, admits }
    }
}

impl<S: State, F: FnMut(&mut S, &str, &str) -> bool> Middleware<S> for BasicAuth<F> {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        let mut buffer = [0; BASIC_MAX];
        let text = credentials(request, "basic").and_then(|encoded| base64(encoded, &mut buffer));
        let pair = text.filter(|text| !text.contains(char::is_control)).and_then(|text| text.split_once(':'));
        if pair.is_some_and(|(user, password)| (self.admits)(request.state, user, password)) {
            return Ok(response);
        }
        let challenge = format_args!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        Err(response.header("WWW-Authenticate", challenge).refuse(Status::UNAUTHORIZED))
    }
}

/// Decodes Base64 (RFC 4648, 4) with its padding, if the result is a text and fits.
fn base64<'b>(encoded: &[u8], buffer: &'b mut [u8]) -> Option<&'b str> {
    let data = encoded.strip_suffix(b"==").or_else(|| encoded.strip_suffix(b"=")).unwrap_or(encoded);
    if !encoded.len().is_multiple_of(4) || data.len() % 4 == 1 {
        return None;
    }
    let (mut bits, mut count, mut length) = (0_u32, 0, 0);
    for byte in data {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if count >= 8 {
            count -= 8;
            *buffer.get_mut(length)? = (bits >> count & 255) as u8;
            length += 1;
        }
    }
    str::from_utf8(buffer.split_at(length).0).ok()
}

/// Why a bearer token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenError {
    /// It is unknown, expired or revoked: 401.
    Invalid,
    /// It does not allow this request: 403. The text is the scope that would, which has no quotes or backslashes.
    Scope(&'static str),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("the token is unknown, expired or revoked"),
            Self::Scope(scope) => write!(f, "the token does not have the scope {scope}"),
        }
    }
}

impl core::error::Error for TokenError {}

/// Admits requests with a bearer token (RFC 6750), as [`Middleware`].
///
/// | The request | The response |
/// | --- | --- |
/// | has no `Authorization` field, or another scheme | 401 |
/// | has more than one such field, or a token that is malformed | 400 with `invalid_request` |
/// | has a token that the closure refuses | 401 with `invalid_token`, or 403 with `insufficient_scope` |
///
/// Each has `WWW-Authenticate`. Tokens in a query or a form are not accepted, as they end up in logs.
///
/// ```
/// use lightcone_http::{BearerAuth, Http, TokenError, is_same_secret};
///
/// let guard = BearerAuth::new("notes", |_state: &mut (), token: &str| {
///     if is_same_secret(token.as_bytes(), b"please") { Ok(()) } else { Err(TokenError::Invalid) }
/// });
/// let server = Http::new().get("/", |_request, response| response.text("in")).wrap(guard);
/// # drop(server);
/// ```
#[derive(Clone, Debug)]
#[must_use = "wrap routes in it"]
pub struct BearerAuth<F> {
    realm: &'static str,
    admits: F,
}

impl<F> BearerAuth<F> {
    /// Admits the requests for which `admits` returns `Ok`; it gets the state and the token.
    ///
    /// # Panics
    /// As [`BasicAuth::new`].
    pub const fn new(realm: &'static str, admits: F) -> Self {
        check_realm(realm);
        Self { realm, admits }
    }
}

impl<S: State, F: FnMut(&mut S, &str) -> Result<(), TokenError>> Middleware<S> for BearerAuth<F> {
    fn before<'r>(
        &mut self,
        request: &mut Request<'_, S>,
        response: Response<'r>,
    ) -> Result<Response<'r>, Reply<Done>> {
        let valid = |byte: &u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
        };
        let realm = self.realm;
        let challenge = match (credentials(request, "bearer"), request.header("authorization")) {
            (Some(token), _) => {
                let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
                let (text, _) = token.split_at(token.len() - padding);
                let whole = str::from_utf8(token).ok().filter(|_| !text.is_empty() && text.iter().all(valid));
                whole.map(|token| (self.admits)(request.state, token))
            }
            (None, Some(_)) if only(request.head, "authorization").is_none() => None,
            (None, _) => {
                let challenge = format_args!("Bearer realm=\"{realm}\"");
                return Err(response.header("WWW-Authenticate", challenge).refuse(Status::UNAUTHORIZED));
            }
        };
        let (status, error, scope) = match challenge {
            Some(Ok(())) => return Ok(response),
            Some(Err(TokenError::Invalid)) => (Status::UNAUTHORIZED, "invalid_token", None),
            Some(Err(TokenError::Scope(scope))) => (Status::FORBIDDEN, "insufficient_scope", Some(scope)),
            None => (Status::BAD_REQUEST, "invalid_request", None),
        };
        let (before, scope, after) = scope.map_or(("", "", ""), |scope| (", scope=\"", scope, "\""));
        let challenge = format_args!("Bearer realm=\"{realm}\", error=\"{error}\"{before}{scope}{after}");
        Err(response.header("WWW-Authenticate", challenge).refuse(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_strictly() {
        let table: [(&str, Option<&str>); 14] = [
            ("", Some("")),
            ("YQ==", Some("a")),
            ("YWI=", Some("ab")),
            ("YWJj", Some("abc")),
            ("YWJjZA==", Some("abcd")),
            ("QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some("Aladdin:open sesame")),
            ("w6Q=", Some("\u{e4}")),
            ("YQ", None),
            ("YQ=", None),
            ("Y===", None),
            ("YQ==YQ==", None),
            ("Y Q=", None),
            ("YW-_", None),
            ("/w==", None),
        ];
        for (encoded, expected) in table {
            assert_eq!(base64(encoded.as_bytes(), &mut [0; 20]), expected, "{encoded}");
        }
        assert_eq!(base64(b"YWJjZA==", &mut [0; 4]), Some("abcd"));
        assert_eq!(base64(b"YWJjZA==", &mut [0; 3]), None);
    }

    #[test]
    fn secrets() {
        for (one, other, same) in
            [("", "", true), ("a", "a", true), ("a", "b", false), ("a", "", false), ("ab", "ac", false)]
        {
            assert_eq!(is_same_secret(one.as_bytes(), other.as_bytes()), same, "{one} {other}");
            assert_eq!(is_same_secret(other.as_bytes(), one.as_bytes()), same, "{one} {other}");
        }
    }
}
