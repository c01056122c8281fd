//! Close frames (RFC 6455, 5.5.1 and 7.4).

use core::{fmt, str};

use super::violation::Violation;

/// The status code of a close frame: one that may be sent (RFC 6455, 7.4, and its registry at IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// The server shuts down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer has violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The type of the data is not accepted, such as binary where text is expected.
    pub const UNSUPPORTED: Self = Self(1003);
    /// The data does not match its type, such as a text that is not UTF-8.
    pub const INVALID_DATA: Self = Self(1007);
    /// The message is against the rules of the program.
    pub const POLICY: Self = Self(1008);
    /// The message is too large.
    pub const TOO_BIG: Self = Self(1009);
    /// An unexpected condition prevents the server from going on.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// Returns the code with this number; `None` if it must not be sent.
    ///
    /// ```
    /// use lightcone_websocket::CloseCode;
    ///
    /// assert_eq!(CloseCode::new(1000), Some(CloseCode::NORMAL));
    /// assert_eq!(CloseCode::new(1006), None); // says that there was no close frame
    /// assert!(CloseCode::new(4000).is_some()); // for private use
    /// ```
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Formats the number.
impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Parses the payload of a close frame into its code and reason.
///
/// # Errors
/// If the payload has one byte, a code that must not be sent, or a reason that is not UTF-8.
pub fn parse_close(payload: &[u8]) -> Result<(Option<CloseCode>, &str), Violation> {
    if payload.is_empty() {
        return Ok((None, ""));
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(Violation::InvalidClose)?;
    let code = CloseCode::new(u16::from_be_bytes(*code)).ok_or(Violation::InvalidClose)?;
    let reason = str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_valid_or_not_as_the_standard_and_its_registry_say() {
        let valid = |code: u16| match code {
            1004..=1006 | 1015 => false, // reserved
            1000..=1014 | 3000..=4999 => true,
            _ => false,
        };
        for code in 0..=u16::MAX {
            assert_eq!(CloseCode::new(code).is_some(), valid(code), "{code}");
            assert_eq!(parse_close(&code.to_be_bytes()).is_ok(), valid(code), "{code}");
        }
    }

    #[test]
    fn payloads() {
        assert_eq!(parse_close(b""), Ok((None, "")));
        assert_eq!(parse_close(b"\x03"), Err(Violation::InvalidClose));
        assert_eq!(parse_close(b"\x03\xe8"), Ok((Some(CloseCode::NORMAL), "")));
        assert_eq!(parse_close(b"\x03\xe9bye"), Ok((Some(CloseCode::GOING_AWAY), "bye")));
        assert_eq!(parse_close(b"\x03\xe8\xff"), Err(Violation::InvalidUtf8));
        assert_eq!(parse_close(b"\x03\xe8\xe2\x82"), Err(Violation::InvalidUtf8));
    }
}
