//! The opening handshake (RFC 6455, 4): its key, and the checks of both sides.

use core::fmt;
use core::str;

use base64ct::{Base64, Encoding};
use sha1_smol::Sha1;

use super::generator::MaskSource;

pub(crate) const KEY_LENGTH: usize = 24;
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

/// Makes the key of a client's handshake: the Base64 form of 16 bytes that are drawn for it (RFC 6455, 4.1).
pub(crate) fn fresh_key(masks: &mut dyn MaskSource) -> [u8; KEY_LENGTH] {
    let nonce: [[u8; 4]; 4] = core::array::from_fn(|_| masks.next_mask().bytes());
    let mut key = [0; KEY_LENGTH];
    // The Base64 form of 16 bytes has this length.
    let _ = Base64::encode(nonce.as_flattened(), &mut key);
    key
}

/// Why a response with status 101 does not open a WebSocket connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseError {
    /// It has no `Upgrade`, or one to another protocol.
    Upgrade,
    /// It has no `Connection` with the option `Upgrade`.
    Connection,
    /// It has no `Sec-WebSocket-Accept`, more than one, or one that is not for the key of the request: it may be the
    /// response to another request.
    Accept,
    /// It selects a subprotocol that was not offered, or more than one.
    Protocol,
    /// It selects an extension. None was offered.
    Extension,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upgrade => "its Upgrade is not websocket",
            Self::Connection => "its Connection does not contain Upgrade",
            Self::Accept => "its Sec-WebSocket-Accept is not for the key of the request",
            Self::Protocol => "it selects a subprotocol that was not offered",
            Self::Extension => "it selects an extension, and none was offered",
        })
    }
}

impl core::error::Error for ResponseError {}

/// Checks the fields of a response with status 101 (RFC 6455, 4.1), and returns the subprotocol that it selects, if
/// any. `offered` are the subprotocols of the request, separated by commas.
///
/// ```
/// use lightcone_websocket::{AcceptKey, ResponseError, check_response};
///
/// let accept = AcceptKey::new(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
/// let fields = [
///     (&b"Upgrade"[..], &b"websocket"[..]),
///     (b"Connection", b"Upgrade"),
///     (b"Sec-WebSocket-Accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
///     (b"Sec-WebSocket-Protocol", b"chat"),
/// ];
/// assert_eq!(check_response(fields, &accept, "superchat, chat"), Ok(Some("chat")));
/// assert_eq!(check_response(fields, &accept, "superchat"), Err(ResponseError::Protocol));
/// ```
///
/// # Errors
/// The first rule that the response violates.
pub fn check_response<'f>(
    fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    accept: &AcceptKey,
    offered: &str,
) -> Result<Option<&'f str>, ResponseError> {
    let (mut upgrades, mut agrees) = (0_u32, false);
    let (mut accepts, mut protocols, mut protocol) = (0_u32, 0_u32, None);
    for (name, value) in fields {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        // As RFC 6455, 4.1 words it: a client gets one value in fields where a server gets a list.
        if is("upgrade") {
            if !value.eq_ignore_ascii_case(b"websocket") {
                return Err(ResponseError::Upgrade);
            }
            upgrades += 1;
        } else if is("connection") {
            agrees |= has_token(value, "upgrade");
        } else if is("sec-websocket-accept") {
            if value != accept.as_str().as_bytes() {
                return Err(ResponseError::Accept);
            }
            accepts += 1;
        } else if is("sec-websocket-protocol") {
            // nothing was offered if the list is empty, whose only item is empty as well
            let is_offered = |value: &&str| !value.is_empty() && tokens(offered).any(|token| token == *value);
            protocol = str::from_utf8(value).ok().filter(is_offered);
            protocols += 1;
        } else if is("sec-websocket-extensions") {
            return Err(ResponseError::Extension);
        }
    }
    // In the order of that section, so that the error names the first rule.
    match () {
        () if upgrades == 0 => Err(ResponseError::Upgrade),
        () if !agrees => Err(ResponseError::Connection),
        () if accepts != 1 => Err(ResponseError::Accept),
        () if protocols > 1 || protocols == 1 && protocol.is_none() => Err(ResponseError::Protocol),
        () => Ok(protocol),
    }
}

/// Returns the items of a list that are separated by commas, without the white space around them.
fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim_ascii)
}

/// Returns whether a list of subprotocols can be offered: it is empty, or consists of tokens that are all different
/// (RFC 6455, 4.1).
pub(crate) fn can_be_offered(list: &str) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    let is_token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(&byte))
    };
    let is_first = |index: usize, token: &str| tokens(list).position(|other| other == token) == Some(index);
    list.is_empty()
        || tokens(list).enumerate().all(|(index, token)| is_token(token) && is_first(index, token))
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

    #[test]
    fn keys_are_drawn_from_the_generator() {
        struct Sample(u8);
        impl MaskSource for Sample {
            fn next_mask(&mut self) -> crate::Mask {
                self.0 += 4;
                crate::Mask::new([self.0 - 3, self.0 - 2, self.0 - 1, self.0])
            }
        }
        // the example of RFC 6455, 4.1: the bytes from 1 to 16
        assert_eq!(&fresh_key(&mut Sample(0)), b"AQIDBAUGBwgJCgsMDQ4PEA==");
        let key = fresh_key(&mut Sample(16));
        assert!(key != fresh_key(&mut Sample(0)) && AcceptKey::new(&key).is_some());
    }

    #[test]
    fn responses() {
        const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        const GOOD: [&str; 3] = ["Upgrade: WebSocket", "Connection: keep-alive, Upgrade", ACCEPT];
        let accept = AcceptKey::new(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        let check = |lines: &[&'static str]| {
            let fields = lines.iter().map(|line| line.split_once(": ").unwrap());
            let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            check_response(fields, &accept, "b , a")
        };
        let with = |index: usize, line: &'static str| {
            let mut lines = GOOD;
            lines[index] = line;
            check(&lines)
        };
        let and = |line: &'static str| check(&[GOOD[0], GOOD[1], GOOD[2], line]);
        assert_eq!(check(&GOOD), Ok(None));
        assert_eq!(and("Server: a"), Ok(None));
        assert_eq!(and("sec-websocket-protocol: a"), Ok(Some("a")));
        assert_eq!(and("Sec-WebSocket-Protocol: b"), Ok(Some("b")));
        assert_eq!(check(&[]), Err(ResponseError::Upgrade));
        assert_eq!(with(0, "Server: a"), Err(ResponseError::Upgrade));
        assert_eq!(with(0, "Upgrade: h2c"), Err(ResponseError::Upgrade));
        assert_eq!(and("Upgrade: h2c"), Err(ResponseError::Upgrade));
        assert_eq!(with(0, "Upgrade: websocket, h2c"), Err(ResponseError::Upgrade));
        assert_eq!(with(1, "Server: a"), Err(ResponseError::Connection));
        assert_eq!(with(1, "Connection: close"), Err(ResponseError::Connection));
        assert_eq!(with(2, "Server: a"), Err(ResponseError::Accept));
        assert_eq!(and(ACCEPT), Err(ResponseError::Accept));
        // the case of Base64 matters
        assert_eq!(with(2, "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="), Err(ResponseError::Accept));
        for protocol in ["c", "A", "", "a, b"] {
            let fields = GOOD.map(|line| line.split_once(": ").unwrap());
            let fields = fields.into_iter().chain([("Sec-WebSocket-Protocol", protocol)]);
            let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            assert_eq!(check_response(fields, &accept, "b , a"), Err(ResponseError::Protocol), "{protocol}");
        }
        let fields = GOOD.map(|line| line.split_once(": ").unwrap());
        let fields = fields.into_iter().chain([("Sec-WebSocket-Protocol", "")]);
        let fields = fields.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        assert_eq!(check_response(fields, &accept, ""), Err(ResponseError::Protocol), "nothing was offered");
        let twice = [GOOD[0], GOOD[1], GOOD[2], "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: b"];
        assert_eq!(check(&twice), Err(ResponseError::Protocol));
        assert_eq!(and("Sec-WebSocket-Extensions: permessage-deflate"), Err(ResponseError::Extension));
    }

    #[test]
    fn lists_of_subprotocols() {
        for list in ["", "a", "a,b", "chat.v2 ,\tchat.v1", "a!#$%&'*+-.^_`|~"] {
            assert!(can_be_offered(list), "{list:?}");
        }
        for list in [" ", ",", "a,", "a,,b", "a b", "a,b,a", "a\r\nB: c", "\u{e4}", "a/b", "\"a\""] {
            assert!(!can_be_offered(list), "{list:?}");
        }
    }
}
