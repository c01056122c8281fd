//! Queries, cookies and percent-encoding.

use crate::parse::words::trim;

/// Returns the value of the first parameter with this name in a query such as `a=1&b=2`, or in the body of an HTML
/// form. The value is not decoded. A parameter without `=` has an empty value.
///
/// ```
/// use lightcone_http::query_value;
/// assert_eq!(query_value(b"a=1&b=2&c", "b"), Some(&b"2"[..]));
/// assert_eq!(query_value(b"a=1&b=2&c", "c"), Some(&b""[..]));
/// assert_eq!(query_value(b"a=1&b=2&c", "d"), None);
/// ```
pub fn query_value<'q>(query: &'q [u8], name: &str) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let rest = pair.strip_prefix(name.as_bytes())?;
        match rest {
            [] => Some(rest),
            [b'=', value @ ..] => Some(value),
            _ => None,
        }
    })
}

/// Returns the names and values of all parameters of a query, or of the body of an HTML form, in order. They are not
/// decoded.
///
/// ```
/// use lightcone_http::query_pairs;
/// let pairs: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b""), (b"a", b"2=3")];
/// assert!(query_pairs(b"a=1&b&&a=2=3").eq(pairs));
/// ```
pub fn query_pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| cut(pair, b'=').unwrap_or((pair, &[])))
}

/// Returns the parts before and after the first byte `at`.
fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(text.iter().position(|byte| *byte == at)?)?;
    Some((before, after.get(1..)?))
}

/// Returns the value of the first cookie with this name in the value of a `Cookie` field, without quotes around it.
pub(crate) fn cookie_value<'c>(cookies: &'c [u8], name: &str) -> Option<&'c [u8]> {
    cookie_pairs(cookies).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
}

/// Returns the names and values of all cookies in the value of a `Cookie` field, without quotes around the values.
pub(crate) fn cookie_pairs(cookies: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    cookies.split(|byte| *byte == b';').filter_map(|pair| cut(pair, b'=')).map(|(name, value)| {
        let value = trim(value);
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (trim(name), quoted.unwrap_or(value))
    })
}

/// Why a text could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `%` is not followed by two hexadecimal digits.
    Malformed,
    /// The decoded text is longer than the buffer.
    TooLong,
    /// The decoded bytes are not UTF-8.
    NotText,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a percent sign without two hexadecimal digits",
            Self::TooLong => "the decoded text is longer than its buffer",
            Self::NotText => "the decoded bytes are not UTF-8",
        })
    }
}

impl core::error::Error for DecodeError {}

/// Decodes percent-encoding, as in paths, into `buffer`.
///
/// ```
/// let mut buffer = [0; 16];
/// assert_eq!(lightcone_http::percent_decode(b"a%20b+c", &mut buffer), Ok("a b+c"));
/// ```
///
/// # Errors
/// If the text is malformed, is not UTF-8 when decoded, or does not fit.
pub fn percent_decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Result<&'b str, DecodeError> {
    decode(text, buffer, false)
}

/// Decodes the encoding of queries and HTML forms into `buffer`: percent-encoding, and `+` for a space.
///
/// # Errors
/// As [`percent_decode`].
pub fn form_decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Result<&'b str, DecodeError> {
    decode(text, buffer, true)
}

fn decode<'b>(text: &[u8], buffer: &'b mut [u8], form: bool) -> Result<&'b str, DecodeError> {
    let mut rest = text;
    let mut length = 0;
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (hex(*high)? << 4 | hex(*low)?, after),
            (b'%', _) => return Err(DecodeError::Malformed),
            (b'+', after) if form => (b' ', after),
            (byte, after) => (*byte, after),
        };
        *buffer.get_mut(length).ok_or(DecodeError::TooLong)? = byte;
        length += 1;
        rest = after;
    }
    core::str::from_utf8(buffer.split_at(length).0).map_err(|_| DecodeError::NotText)
}

pub(crate) fn hex(digit: u8) -> Result<u8, DecodeError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(query_value(b"", "a"), None);
        assert_eq!(query_value(b"ab=1&a=2", "a"), Some(&b"2"[..]));
        assert_eq!(query_value(b"a=1=2&a=3", "a"), Some(&b"1=2"[..]));
        assert_eq!(query_value(b"&&a", "a"), Some(&b""[..]));
    }

    #[test]
    fn pairs() {
        assert_eq!(query_pairs(b"").count(), 0);
        assert_eq!(query_pairs(b"&&").count(), 0);
        let all: [(&[u8], &[u8]); 4] = [(b"", b"1"), (b"a", b""), (b"b", b""), (b"c", b"=")];
        assert!(query_pairs(b"=1&a=&b&c==").eq(all));
    }

    #[test]
    fn cookies() {
        let table: [(&str, Option<&str>); 10] = [
            ("", None),
            ("a=1", Some("1")),
            ("b=2; a=1", Some("1")),
            ("b=2;a=1;a=3", Some("1")),
            ("aa=2; ba=3", None),
            ("A=2", None),
            ("a", None),
            ("a=", Some("")),
            ("x; a=\"q=r\" ; b", Some("q=r")),
            ("a=\"", Some("\"")),
        ];
        for (cookies, expected) in table {
            assert_eq!(cookie_value(cookies.as_bytes(), "a"), expected.map(str::as_bytes), "{cookies}");
        }
    }

    #[test]
    fn decoding() {
        let table: &[(&[u8], Result<&str, DecodeError>)] = &[
            (b"", Ok("")),
            (b"%41%e4%bD%a0", Ok("A\u{4f60}")),
            (b"a+b", Ok("a b")),
            (b"%2B", Ok("+")),
            (b"%", Err(DecodeError::Malformed)),
            (b"%4", Err(DecodeError::Malformed)),
            (b"%4g", Err(DecodeError::Malformed)),
            (b"%ff", Err(DecodeError::NotText)),
            (b"12345678", Ok("12345678")),
            (b"123456789", Err(DecodeError::TooLong)),
        ];
        for (text, expected) in table {
            assert_eq!(form_decode(text, &mut [0; 8]), *expected, "{}", text.escape_ascii());
        }
        assert_eq!(percent_decode(b"a+b", &mut [0; 8]), Ok("a+b"));
    }
}
