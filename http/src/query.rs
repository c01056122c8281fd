//! Queries and percent-encoding.

/// The value of the first parameter with this name in a query such as `a=1&b=2`, not decoded. A parameter without
/// `=` has an empty value.
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

/// Why a text could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `%` without two hexadecimal digits behind it.
    Malformed,
    /// The decoded bytes are more than there is room for.
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

/// Decodes the form of queries and HTML forms, in which `+` stands for a space.
///
/// # Errors
/// As [`percent_decode`].
pub fn form_decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Result<&'b str, DecodeError> {
    decode(text, buffer, true)
}

fn decode<'b>(text: &[u8], buffer: &'b mut [u8], form: bool) -> Result<&'b str, DecodeError> {
    let mut rest = text;
    let mut length = 0;
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => (hex(*high)? << 4 | hex(*low)?, behind),
            (b'%', _) => return Err(DecodeError::Malformed),
            (b'+', behind) if form => (b' ', behind),
            (byte, behind) => (*byte, behind),
        };
        *buffer.get_mut(length).ok_or(DecodeError::TooLong)? = byte;
        length += 1;
        rest = behind;
    }
    core::str::from_utf8(buffer.get(..length).unwrap_or(&[])).map_err(|_| DecodeError::NotText)
}

fn hex(digit: u8) -> Result<u8, DecodeError> {
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
