//! The value of a `Host` field, and the authority of a target in absolute form.

use core::net::Ipv6Addr;

/// The last valid `Host` line, one per poller. Nearly all requests of a server have the same line, and comparing it
/// takes a few operations, parsing it some hundred. Only lines of 16 to 32 bytes are remembered; others are parsed
/// each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastHost {
    /// The length of the line with its line end; 0 if there is none yet.
    length: usize,
    /// The length with an empty line after it; `usize::MAX` if the two halves do not cover that.
    alone: usize,
    /// The first and last 16 bytes of the line, which overlap.
    first: [u8; Self::HALF],
    last: [u8; Self::HALF],
    /// The last 16 bytes of the line followed by an empty line.
    last_alone: [u8; Self::HALF],
}

impl LastHost {
    const HALF: usize = 16;
    const LENGTH_MAX: usize = 2 * Self::HALF;
    pub(crate) const NONE: Self = Self {
        length: 0,
        alone: 0,
        first: [0; Self::HALF],
        last: [0; Self::HALF],
        last_alone: [0; Self::HALF],
    };

    /// Returns what follows the line, if `input` starts with it.
    #[inline(always)]
    pub(crate) fn after<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let (line, rest) = input.split_at_checked(self.length)?;
        let same = line.first_chunk() == Some(&self.first) && line.last_chunk() == Some(&self.last);
        same.then_some(rest)
    }

    /// Returns what follows the line and an empty line, if `input` starts with both.
    #[inline(always)]
    pub(crate) fn after_only<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let (lines, rest) = input.split_at_checked(self.alone)?;
        let same = lines.first_chunk() == Some(&self.first) && lines.last_chunk() == Some(&self.last_alone);
        same.then_some(rest)
    }

    /// Remembers a valid line, if it has 16 to 32 bytes.
    #[inline(never)]
    pub(crate) fn remember(&mut self, line: &[u8]) {
        let (Some(first), Some(last)) = (line.first_chunk(), line.last_chunk()) else { return };
        if line.len() > Self::LENGTH_MAX {
            return;
        }
        let mut last_alone = *last;
        last_alone.rotate_left(2);
        if let Some(end) = last_alone.last_chunk_mut() {
            *end = *b"\r\n";
        }
        let length = line.len();
        let alone = if length + 2 > Self::LENGTH_MAX { usize::MAX } else { length + 2 };
        *self = Self { length, alone, first: *first, last: *last, last_alone };
    }
}

/// Returns whether `value` is `uri-host [ ":" port ]` (RFC 9110, 7.2). An empty host is refused, since `http` URIs
/// always have one, and so is a number that cannot be a port of TCP.
pub(crate) fn is_valid(value: &[u8]) -> bool {
    // The colons within brackets belong to the address.
    let host_end = value.iter().rposition(|byte| *byte == b']').map_or(0, |last| last + 1);
    let colon = value.iter().skip(host_end).position(|byte| *byte == b':').map(|colon| host_end + colon);
    let (host, port) = match colon.map(|colon| value.split_at(colon)) {
        Some((host, [_, port @ ..])) => (host, port),
        Some((_, [])) | None => (value, &[][..]),
    };
    is_port(port) && (is_name(host) || is_ipv6(host))
}

/// Returns whether `port` is a decimal number below 65,536, or empty, which is allowed (RFC 3986, 3.2.3).
fn is_port(port: &[u8]) -> bool {
    let mut digits = port.iter();
    let number = digits.try_fold(0u16, |number, digit| {
        let value = digit.checked_sub(b'0').filter(|value| *value < 10)?;
        number.checked_mul(10)?.checked_add(value.into())
    });
    number.is_some()
}

/// Returns whether `host` is an IPv6 address in brackets, such as `[2001:db8::1]`.
fn is_ipv6(host: &[u8]) -> bool {
    let literal = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let text = literal.and_then(|literal| core::str::from_utf8(literal).ok());
    text.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Returns whether `host` is a registered name or an IPv4 address (RFC 3986, 3.2.2), and not empty.
fn is_name(host: &[u8]) -> bool {
    // The other unreserved characters, and the sub-delimiters.
    const MARKS: &[u8] = b"-._~!$&'()*+,;=";
    let mut rest = host;
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            (byte, after) if byte.is_ascii_alphanumeric() || MARKS.contains(byte) => after,
            _ => return false,
        };
    }
    !host.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let good: &[&[u8]] = &[
            b"a",
            b"localhost",
            b"localhost:80",
            b"example.org:",
            b"127.0.0.1:8080",
            b"[::1]",
            b"[::1]:8080",
            b"[2001:db8::ffff:1.2.3.4]:1",
            b"a_b",
            b"a%20b",
            b"a!$&'()*+,;=~",
            b"-",
            b"a..b",
            b"a:0",
            b"a:65535",
            b"a:000080",
            b"[::1]:65535",
        ];
        for host in good {
            assert!(is_valid(host), "{}", host.escape_ascii());
        }
        let bad: &[&[u8]] = &[
            b"",
            b":80",
            b"a:b",
            b"a:1:2",
            b"a b",
            b"a/b",
            b"user@a",
            b"[::1",
            b"::1",
            b"[::1]a",
            b"[]",
            b"[a]",
            b"a%2",
            b"a%zz",
            b"a?b",
            b"a#b",
            b"a\tb",
            b"a\x80",
            b"[::1]:x",
            b"a,b c",
            b"\"a\"",
            b"[v1.a]",
            b"a]",
            b"a:65536",
            b"a:99999",
            b"a:100000",
            b"[::1]:65536",
            b"a:+1",
        ];
        for host in bad {
            assert!(!is_valid(host), "{}", host.escape_ascii());
        }
    }
}
