//! The key of the opening handshake (RFC 6455, 4.2.2).

use core::fmt;
use core::str;

use base64ct::{Base64, Encoding};
use sha1_smol::Sha1;

const KEY_LENGTH: usize = 24;
const ACCEPT_LENGTH: usize = 28;

/// The value of `Sec-WebSocket-Accept`, by which a server proves that it has understood the handshake.
///
/// ```
/// use lightcone_websocket::AcceptKey;
///
/// let accept = AcceptKey::new(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
/// assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AcceptKey([u8; ACCEPT_LENGTH]);

impl AcceptKey {
    /// Computes the value for a `Sec-WebSocket-Key`; `None` if that is not the Base64 form of 16 bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut nonce = [0; 16];
        // Text of this length has at least 16 bytes, and more do not fit.
        let is_key = key.len() == KEY_LENGTH && Base64::decode(key, &mut nonce).is_ok();
        if !is_key {
            return None;
        }
        let mut sha1 = Sha1::new();
        sha1.update(key);
        sha1.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let mut accept = [0; ACCEPT_LENGTH];
        Base64::encode(&sha1.digest().bytes(), &mut accept).ok()?;
        Some(Self(accept))
    }

    /// Returns the value as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request does not open a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It does not ask for an upgrade to WebSocket. The response is 426.
    NoUpgrade,
    /// It asks for a version other than 13. The response is 426, with the version in `Sec-WebSocket-Version`.
    Version,
    /// It has no key, an invalid one, or more than one; or no version, or more than one. The response is 400.
    Malformed,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoUpgrade => "this resource is a WebSocket",
            Self::Version => "only version 13 of WebSocket is supported",
            Self::Malformed => "the opening handshake of WebSocket is malformed",
        })
    }
}

impl core::error::Error for HandshakeError {}

/// Checks the fields of a `GET` request of HTTP/1.1 that opens a connection (RFC 6455, 4.2.1), and returns the value
/// of `Sec-WebSocket-Accept` for the response.
///
/// # Errors
/// If the request does not ask for the upgrade, or the handshake is not valid.
pub fn check_handshake<'f>(
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
) -> Result<AcceptKey, HandshakeError> {
    let (mut asks, mut upgrades) = (false, false);
    let (mut key, mut version) = (None, None);
    let mut repeated = false;
    for (name, value) in fields {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("connection") {
            asks |= has_token(value, "upgrade");
        } else if is("upgrade") {
            upgrades |= has_token(value, "websocket");
        } else if is("sec-websocket-key") {
            repeated |= key.replace(value).is_some();
        } else if is("sec-websocket-version") {
            repeated |= version.replace(value).is_some();
        }
    }
    if !asks || !upgrades {
        return Err(HandshakeError::NoUpgrade);
    }
    match (key.and_then(AcceptKey::new), version) {
        _ if repeated => Err(HandshakeError::Malformed),
        (_, Some(version)) if version != b"13" => Err(HandshakeError::Version),
        (Some(accept), Some(_)) => Ok(accept),
        (None, _) | (_, None) => Err(HandshakeError::Malformed),
    }
}

/// Returns whether a list of tokens, separated by commas, contains `token`, whose case is ignored.
fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_the_base64_form_of_16_bytes_are_refused() {
        assert!(AcceptKey::new(b"AAAAAAAAAAAAAAAAAAAAAA==").is_some());
        for key in [
            &b""[..],
            b"AAAAAAAAAAAAAAAAAAAAAA=",
            b"AAAAAAAAAAAAAAAAAAAAAA",
            b"AAAAAAAAAAAAAAAAAAAAAAA=",
            b"AAAAAAAAAAAAAAAAAAAAAAAA",
            b"AAAAAAAAAAAAAAAAAAAAAB==", // bits that are not used
            b"AAAAAAAAAAA-AAAAAAAAAA==",
            b"AAAAAAAAAAAAAAAAAAAAAA==AAAA",
        ] {
            assert_eq!(AcceptKey::new(key), None, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn tokens_in_lists() {
        for list in [&b"upgrade"[..], b"keep-alive, Upgrade", b",, UPGRADE\t,", b"a,upgrade"] {
            assert!(has_token(list, "upgrade"), "{}", list.escape_ascii());
        }
        for list in [&b""[..], b"upgraded", b"up grade", b"keep-alive"] {
            assert!(!has_token(list, "upgrade"), "{}", list.escape_ascii());
        }
    }

    #[test]
    fn handshakes() {
        const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
        const GOOD: [&str; 4] =
            ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", KEY, "Sec-WebSocket-Version: 13"];
        let check = |lines: &[&'static str]| {
            let fields = lines.iter().map(|line| line.split_once(": ").unwrap());
            check_handshake(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())))
        };
        let with = |index: usize, line: &'static str| {
            let mut lines = GOOD;
            lines[index] = line;
            check(&lines)
        };
        assert!(check(&GOOD).is_ok());
        assert!(with(1, "Upgrade: h2c, websocket").is_ok());
        assert_eq!(check(&[]), Err(HandshakeError::NoUpgrade));
        assert_eq!(with(0, "Connection: close"), Err(HandshakeError::NoUpgrade));
        assert_eq!(with(1, "Upgrade: h2c"), Err(HandshakeError::NoUpgrade));
        assert_eq!(with(2, "Host: a"), Err(HandshakeError::Malformed));
        assert_eq!(with(2, "Sec-WebSocket-Key: short"), Err(HandshakeError::Malformed));
        assert_eq!(with(3, "Host: a"), Err(HandshakeError::Malformed));
        assert_eq!(with(3, "Sec-WebSocket-Version: 8"), Err(HandshakeError::Version));
        let twice = |line: &'static str| check(&[GOOD[0], GOOD[1], GOOD[2], GOOD[3], line]);
        assert!(twice("Connection: close").is_ok());
        assert_eq!(twice(KEY), Err(HandshakeError::Malformed));
        assert_eq!(twice("Sec-WebSocket-Version: 13"), Err(HandshakeError::Malformed));
    }
}
