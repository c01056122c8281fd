//! How a body is delimited, and whether the connection stays open (RFC 9112, 6 and 9), as one pure function.

use crate::method::Method;
use crate::mode::ResponseMode;
use crate::status::Status;

use super::host;
use super::words::{is_token, trim};

/// The facts in the fields of one head that framing depends on. Collected line by line, so that a head that arrives in
/// pieces is scanned only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadFacts {
    /// The value of `Content-Length`, if there was one.
    pub(crate) length: u64,
    /// Field lines so far.
    pub(crate) count: u16,
    flags: u16,
}

impl HeadFacts {
    const HOST: u16 = 1;
    const LENGTH: u16 = 2;
    /// There is a `Transfer-Encoding`; its codings are in the two flags below.
    const CODED: u16 = 4;
    /// The last coding is chunked, and only the last.
    const CHUNKED: u16 = 8;
    /// There are other codings.
    const OTHERS: u16 = 16;
    const CLOSE: u16 = 32;
    const KEEP_ALIVE: u16 = 64;
    const CONTINUE: u16 = 128;

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag that may be set only once.
    fn once(&mut self, flag: u16) -> Result<(), Status> {
        let before = self.flags;
        self.flags |= flag;
        if before & flag == 0 { Ok(()) } else { Err(Status::BAD_REQUEST) }
    }

    /// Returns whether there was a `Host`.
    #[inline(always)]
    pub(crate) const fn has_host(&self) -> bool {
        self.has(Self::HOST)
    }

    /// Notes the first `Host`, whose value is valid.
    #[inline(always)]
    pub(crate) const fn host(&mut self) {
        self.flags |= Self::HOST;
    }
}

/// [`HeadFacts`] as a connection keeps them, with a smaller alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(crate) struct PackedFacts {
    length: u64,
    count: u16,
    flags: u16,
}

impl PackedFacts {
    pub(crate) const NONE: Self = Self { length: 0, count: 0, flags: 0 };
}

impl From<HeadFacts> for PackedFacts {
    fn from(HeadFacts { length, count, flags }: HeadFacts) -> Self {
        Self { length, count, flags }
    }
}

impl From<PackedFacts> for HeadFacts {
    fn from(PackedFacts { length, count, flags }: PackedFacts) -> Self {
        Self { length, count, flags }
    }
}

/// The fields that framing depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownField {
    Host,
    Length,
    Coding,
    Connection,
    Expect,
}

impl KnownField {
    /// Finds a field by the length of its name and the first eight bytes, folded to lower case. Only the rest of a long
    /// name is compared byte by byte.
    #[inline(always)]
    pub(crate) fn find(name: &[u8], first: u64) -> Option<Self> {
        const fn word(text: &[u8; 8]) -> u64 {
            u64::from_le_bytes(*text)
        }
        // Names are tokens, of which the fold maps only letters to letters and only the hyphen to itself, so that the
        // comparison is exact. The shifts drop what follows a name of fewer than eight bytes.
        let folded = first | super::words::splat(0x20);
        let tail =
            |from: usize, rest: &[u8]| name.get(from..).is_some_and(|name| name.eq_ignore_ascii_case(rest));
        match name.len() {
            4 if folded << 32 == word(b"\0\0\0\0host") => Some(Self::Host),
            6 if folded << 16 == word(b"\0\0expect") => Some(Self::Expect),
            10 if folded == word(b"connecti") && tail(8, b"on") => Some(Self::Connection),
            14 if folded == word(b"content-") && tail(8, b"length") => Some(Self::Length),
            17 if folded == word(b"transfer") && tail(8, b"-encoding") => Some(Self::Coding),
            _ => None,
        }
    }
}

/// Adds one field line to the facts. An error is final. (By value, so that the facts of a head without such a line stay
/// in registers.)
#[inline(never)]
pub(crate) fn note(mut facts: HeadFacts, field: KnownField, value: &[u8]) -> Result<HeadFacts, Status> {
    let value = trim(value);
    match field {
        // A second `Host` is an error, even if it agrees with the first (RFC 9112, 3.2).
        KnownField::Host if host::is_valid(value) => facts.once(HeadFacts::HOST)?,
        KnownField::Host => return Err(Status::BAD_REQUEST),
        // So is a second length: RFC 9110, 8.6, leaves the choice.
        KnownField::Length => {
            facts.once(HeadFacts::LENGTH)?;
            facts.length = length(value)?;
        }
        KnownField::Coding => coding(&mut facts, value)?,
        KnownField::Connection => {
            // `close` wins over `keep-alive`, in whichever order and lines they come: see `framing`.
            for option in list(value) {
                if option.eq_ignore_ascii_case(b"close") {
                    facts.flags |= HeadFacts::CLOSE;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    facts.flags |= HeadFacts::KEEP_ALIVE;
                }
            }
        }
        KnownField::Expect => {
            for expectation in list(value) {
                if !expectation.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Status::EXPECTATION_FAILED);
                }
                facts.flags |= HeadFacts::CONTINUE;
            }
        }
    }
    Ok(facts)
}

/// Parses a `Content-Length`: `1*DIGIT` without sign, white space or list. A number that overflows is a body that is
/// too large.
fn length(value: &[u8]) -> Result<u64, Status> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Status::BAD_REQUEST);
    }
    let mut digits = value.iter().map(|digit| u64::from(digit - b'0'));
    digits
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(digit))
        .ok_or(Status::CONTENT_TOO_LARGE)
}

/// Adds a `Transfer-Encoding` line. A second one is refused: no legitimate client sends it, and it helps to smuggle
/// requests.
fn coding(facts: &mut HeadFacts, value: &[u8]) -> Result<(), Status> {
    facts.once(HeadFacts::CODED)?;
    for coding in list(value) {
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        let name = coding.split(|byte| *byte == b';').next().map_or(coding, trim);
        if facts.has(HeadFacts::CHUNKED) || name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Status::BAD_REQUEST); // a coding after chunked, or not a coding at all
        }
        facts.flags |= if chunked { HeadFacts::CHUNKED } else { HeadFacts::OTHERS };
    }
    Ok(())
}

/// Returns the members of a list; empty ones are skipped (RFC 9110, 5.6.1.2).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// There is no body.
    None,
    /// By `Content-Length`.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
}

/// What follows a head: its body, and whether another request may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Framing {
    /// The body.
    pub body: Body,
    pub(crate) mode: ResponseMode,
}

impl Framing {
    /// The framing of nearly all requests.
    pub(crate) const NONE: Self = Self { body: Body::None, mode: ResponseMode::PLAIN };

    /// Returns whether another request may follow on the connection.
    pub const fn keep_alive(&self) -> bool {
        self.mode.has(ResponseMode::KEEP_ALIVE)
    }

    /// Returns whether the client waits for `100 Continue` before it sends the body.
    pub const fn expects_continue(&self) -> bool {
        self.mode.has(ResponseMode::EXPECT_CONTINUE)
    }
}

/// Returns the body that the fields of a message with the version `HTTP/1.minor` announce.
#[inline(always)]
pub(crate) const fn announced(minor: u8, facts: &HeadFacts) -> Result<Body, Status> {
    match (facts.has(HeadFacts::CODED), facts.has(HeadFacts::LENGTH)) {
        (false, false) => Ok(Body::None),
        (false, true) => Ok(Body::Length(facts.length)),
        // Both, or a coding in a version without codings: a proxy and this side could disagree about where the body
        // ends (RFC 9112, 6.1).
        (true, true) => Err(Status::BAD_REQUEST),
        (true, false) if minor == 0 => Err(Status::BAD_REQUEST),
        // The end of such a body is unknown (RFC 9112, 6.3, rule 4).
        (true, false) if !facts.has(HeadFacts::CHUNKED) => Err(Status::BAD_REQUEST),
        (true, false) if facts.has(HeadFacts::OTHERS) => Err(Status::NOT_IMPLEMENTED),
        (true, false) => Ok(Body::Chunked),
    }
}

/// Returns whether the connection may be used again after the message (RFC 9112, 9.3).
#[inline(always)]
pub(crate) const fn keep_alive(minor: u8, facts: &HeadFacts) -> bool {
    !facts.has(HeadFacts::CLOSE) && (minor > 0 || facts.has(HeadFacts::KEEP_ALIVE))
}

/// Determines the framing of a request with the version `HTTP/1.minor`, after all its fields.
pub(crate) fn framing(method: Method, minor: u8, facts: &HeadFacts) -> Result<Framing, Status> {
    let body = announced(minor, facts)?;
    // Only HTTP/1.0 has requests without `Host` (RFC 9112, 3.2).
    if minor > 0 && !facts.has(HeadFacts::HOST) {
        return Err(Status::BAD_REQUEST);
    }
    // A client without a body to send waits for nothing, and one of HTTP/1.0 must not be sent a 100.
    let expects =
        minor > 0 && facts.has(HeadFacts::CONTINUE) && !matches!(body, Body::None | Body::Length(0));
    let mode = ResponseMode::default()
        .with(ResponseMode::KEEP_ALIVE, keep_alive(minor, facts))
        .with(ResponseMode::EXPECT_CONTINUE, expects)
        .with(ResponseMode::HTTP_10, minor == 0)
        .with(ResponseMode::HEAD_ONLY, method == Method::Head);
    Ok(Framing { body, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(minor: u8, lines: &str) -> Result<Framing, Status> {
        let mut facts = HeadFacts::default();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            let mut first = [0; 8];
            let n = name.len().min(8);
            first[..n].copy_from_slice(&name.as_bytes()[..n]);
            let known = KnownField::find(name.as_bytes(), u64::from_le_bytes(first)).expect(name);
            facts = note(facts, known, value.as_bytes())?;
        }
        framing(Method::Get, minor, &facts)
    }

    fn body(lines: &str) -> Result<Body, u16> {
        of(1, &["Host: a|", lines].concat()).map(|framing| framing.body).map_err(Status::code)
    }

    extern crate std;

    #[test]
    fn bodies() {
        let table: &[(&str, Result<Body, u16>)] = &[
            ("", Ok(Body::None)),
            ("Content-Length: 0", Ok(Body::Length(0))),
            ("content-length:5", Ok(Body::Length(5))),
            ("CONTENT-LENGTH: \t0005 ", Ok(Body::Length(5))),
            ("Content-Length: 18446744073709551615", Ok(Body::Length(u64::MAX))),
            ("Content-Length: 18446744073709551616", Err(413)),
            ("Content-Length: 99999999999999999999999999", Err(413)),
            ("Content-Length:", Err(400)),
            ("Content-Length: +5", Err(400)),
            ("Content-Length: -5", Err(400)),
            ("Content-Length: 0x5", Err(400)),
            ("Content-Length: 5_0", Err(400)),
            ("Content-Length: 5 0", Err(400)),
            ("Content-Length: 5, 5", Err(400)),
            ("Content-Length: 5,6", Err(400)),
            ("Content-Length: 5.0", Err(400)),
            ("Content-Length: 5|Content-Length: 5", Err(400)),
            ("Content-Length: 5|Content-Length: 6", Err(400)),
            ("Transfer-Encoding: chunked", Ok(Body::Chunked)),
            ("transfer-encoding:\tCHUNKED ", Ok(Body::Chunked)),
            ("Transfer-Encoding: , chunked,", Ok(Body::Chunked)),
            ("Transfer-Encoding: chunked|Content-Length: 5", Err(400)),
            ("Content-Length: 5|Transfer-Encoding: chunked", Err(400)),
            ("Content-Length: 5|Transfer-Encoding: identity", Err(400)),
            ("Transfer-Encoding: gzip, chunked", Err(501)),
            ("Transfer-Encoding: identity, chunked", Err(501)),
            ("Transfer-Encoding: gzip;q=1, chunked", Err(501)),
            ("Transfer-Encoding: gzip", Err(400)),
            ("Transfer-Encoding: identity", Err(400)),
            ("Transfer-Encoding: chunked, gzip", Err(400)),
            ("Transfer-Encoding: chunked, chunked", Err(400)),
            ("Transfer-Encoding: chunked;q=1", Err(400)),
            ("Transfer-Encoding: xchunked", Err(400)),
            ("Transfer-Encoding: chunked x", Err(400)),
            ("Transfer-Encoding: \"chunked\"", Err(400)),
            ("Transfer-Encoding: chunked\u{b}", Err(400)),
            ("Transfer-Encoding: \u{b}chunked", Err(400)),
            ("Transfer-Encoding:", Err(400)),
            ("Transfer-Encoding: chunked|Transfer-Encoding: chunked", Err(400)),
            ("Transfer-Encoding: gzip|Transfer-Encoding: chunked", Err(400)),
        ];
        for (lines, expected) in table {
            assert_eq!(body(lines), *expected, "{lines}");
        }
    }

    #[test]
    fn hosts() {
        let table: &[(u8, &str, bool)] = &[
            (1, "Host: a", true),
            (1, "", false),
            (1, "Host:", false),
            (1, "Host: a b", false),
            (1, "Host: a|Host: a", false),
            (1, "Host: a|Host: b", false),
            (2, "", false),
            (0, "", true),
            (0, "Host: a", true),
            (0, "Host: a/b", false),
            (0, "Host: a|Host: a", false),
        ];
        for (minor, lines, good) in table {
            assert_eq!(of(*minor, lines).is_ok(), *good, "HTTP/1.{minor} {lines}");
        }
    }

    #[test]
    fn keeping_the_connection() {
        let table: &[(u8, &str, bool)] = &[
            (1, "", true),
            (2, "", true),
            (1, "Connection: close", false),
            (1, "Connection: CLOSE", false),
            (1, "Connection: keep-alive", true),
            (1, "Connection: keep-alive, close", false),
            (1, "Connection: keep-alive|Connection: close", false),
            (1, "Connection: upgrade ,, close", false),
            (1, "Connection: closed", true),
            (0, "", false),
            (0, "Connection: keep-alive", true),
            (0, "Connection: Keep-Alive , x", true),
            (0, "Connection: keep-alive, close", false),
        ];
        for (minor, lines, keep_alive) in table {
            let framing = of(*minor, &["Host: a|", lines].concat()).unwrap();
            assert_eq!(framing.keep_alive(), *keep_alive, "HTTP/1.{minor} {lines}");
        }
    }

    #[test]
    fn expectations() {
        let table: &[(u8, &str, Result<bool, u16>)] = &[
            (1, "Expect: 100-continue|Content-Length: 5", Ok(true)),
            (1, "expect: 100-Continue|Transfer-Encoding: chunked", Ok(true)),
            (1, "Expect: 100-continue", Ok(false)), // nothing to wait for
            (1, "Expect: 100-continue|Content-Length: 0", Ok(false)),
            (0, "Expect: 100-continue|Content-Length: 5", Ok(false)), // must be ignored
            (1, "Expect: something", Err(417)),
            (1, "Expect: 100-continue, more|Content-Length: 5", Err(417)),
            (0, "Expect: something", Err(417)),
            (1, "Content-Length: 5", Ok(false)),
        ];
        for (minor, lines, expected) in table {
            let framing = of(*minor, &["Host: a|", lines].concat());
            let result = framing.map(|framing| framing.expects_continue()).map_err(Status::code);
            assert_eq!(result, *expected, "HTTP/1.{minor} {lines}");
        }
    }

    #[test]
    fn no_coding_in_http_1_0() {
        assert_eq!(of(0, "Transfer-Encoding: chunked"), Err(Status::BAD_REQUEST));
    }
}
