//! Heads that a proxy passes on: without what concerns one connection alone (RFC 9110, 7.6).

use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

use crate::method::Method;
use crate::parse::framing::Body;
use crate::parse::head::{Fields, Head};
use crate::parse::words::{is_token, is_value, trim};
use crate::respond::fields::frames_message;

use super::request::{InvalidRequest, RequestBody};
use super::response::ResponseHead;

/// The fields that concern one connection alone even if `Connection` does not name them (RFC 9110, 7.6.1), and those on
/// which the framing depends: a proxy frames each message itself.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The maximum number of field names in `Connection`.
const NAMES_MAX: usize = 16;
/// By how much the fields of a proxy lengthen a head, usually.
const SPARE: usize = 128;

/// Why a proxy must not pass a message on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ForwardError {
    /// `Connection` names more than 16 fields.
    TooManyNames,
    /// `Max-Forwards` of an `OPTIONS` or a `TRACE` is 0: the proxy has to respond itself (RFC 9110, 7.6.2).
    LastHop,
}

impl Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooManyNames => "the field Connection names too many fields",
            Self::LastHop => "the request must not be passed on any further",
        })
    }
}

impl core::error::Error for ForwardError {}

/// The fields of a message that a proxy passes on, as they were received, and those that the proxy adds. Requires the
/// feature `alloc`.
///
/// Left out are the fields of one connection alone: `Connection` and those that it names, `Keep-Alive`,
/// `Proxy-Connection`, `TE`, `Trailer`, `Transfer-Encoding` and `Upgrade`. So is `Content-Length`, since the client and
/// the server of this crate frame each message themselves: nothing that a peer has sent can frame another message.
///
/// ```
/// use lightcone_http::Method;
/// use lightcone_http::client::{ClientLimits, ForwardedFields, Piece, ResponseReader};
///
/// let limits = ClientLimits::DEFAULT;
/// let bytes = b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nETag: \"a\"\r\nContent-Length: 0\r\n\r\n";
/// let Ok(Piece::Head(head)) = ResponseReader::new(Method::Get, &limits).next(bytes, &limits) else { panic!() };
/// let mut fields = ForwardedFields::of_response(&head)?;
/// fields.add("Via", "1.1 proxy")?;
/// assert_eq!(fields.as_bytes(), b"ETag: \"a\"\r\nVia: 1.1 proxy\r\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ForwardedFields {
    /// Complete field lines, each of them valid.
    lines: Vec<u8>,
}

impl ForwardedFields {
    /// Returns the fields of a response that are passed on.
    ///
    /// # Errors
    ///
    /// [`ForwardError::TooManyNames`].
    pub fn of_response(head: &ResponseHead<'_>) -> Result<Self, ForwardError> {
        let mut fields = Self { lines: Vec::with_capacity(head.as_bytes().len() + SPARE) };
        fields.extend(&head.fields(), |_| true)?;
        Ok(fields)
    }

    /// Adds a field.
    ///
    /// # Errors
    ///
    /// The name is not a token or frames the message, or the value has control characters. Nothing is added then.
    pub fn add(&mut self, name: &str, value: impl Display) -> Result<(), InvalidRequest> {
        if name.is_empty() || !name.bytes().all(is_token) || frames_message(name) {
            return Err(InvalidRequest::FieldName);
        }
        let before = self.lines.len();
        let written = write!(FieldWriter(&mut self.lines), "{name}: {value}");
        if written.is_err() {
            self.lines.truncate(before);
            return Err(InvalidRequest::FieldValue);
        }
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Returns the field lines as they are sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Returns whether there is a field with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        Fields::of(&self.lines).any(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Appends the fields that are passed on, among those that `may` be.
    fn extend(&mut self, fields: &Fields<'_>, may: impl Fn(&[u8]) -> bool) -> Result<(), ForwardError> {
        let (mut names, mut count) = ([&b""[..]; NAMES_MAX], 0);
        let connection = fields.clone().filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
        for name in connection.flat_map(|(_, value)| value.split(|byte| *byte == b',')).map(trim) {
            // Two that are always left out are the most frequent ones.
            let known =
                [&b"close"[..], b"keep-alive", b""].iter().any(|known| name.eq_ignore_ascii_case(known));
            if !known {
                *names.get_mut(count).ok_or(ForwardError::TooManyNames)? = name;
                count += 1;
            }
        }
        let names = names.get(..count).unwrap_or_default();
        for (name, value) in fields.clone() {
            let hop = HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()));
            if hop || !may(name) || names.iter().any(|named| name.eq_ignore_ascii_case(named)) {
                continue;
            }
            for part in [name, b": ", value, b"\r\n"] {
                self.lines.extend_from_slice(part);
            }
        }
        Ok(())
    }
}

/// Appends a field line; refuses control characters, which could end it early.
struct FieldWriter<'a>(&'a mut Vec<u8>);

impl Write for FieldWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !text.bytes().all(is_value) {
            return Err(fmt::Error);
        }
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// The head of a request that a proxy passes on: its method, target, host and [fields](ForwardedFields). Requires the
/// feature `alloc`. [`ClientRequest::forward`](super::ClientRequest::forward) makes a request of it.
///
/// `Expect` is left out, as the server has met it already. In `OPTIONS` and `TRACE`, `Max-Forwards` is decremented.
///
/// ```
/// use lightcone_http::client::{ClientRequest, ForwardedHead};
/// use lightcone_http::{Limits, Parse, parse};
///
/// let bytes = b"PUT /a?b HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nAccept: */*\r\nContent-Length: 5\r\n\r\n";
/// let Parse::Complete(head) = parse(bytes, &Limits::DEFAULT) else { panic!() };
/// let mut forwarded = ForwardedHead::new(&head, "")?;
/// forwarded.add("Via", "1.1 proxy")?;
/// let head = "PUT /a?b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nVia: 1.1 proxy\r\nContent-Length: 5\r\n\r\n";
/// assert_eq!(ClientRequest::forward(&forwarded).head()?.to_string(), head);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardedHead {
    method: Method,
    body: RequestBody,
    /// The request line, `Host`, and the fields.
    fields: ForwardedFields,
}

impl ForwardedHead {
    /// Creates the head to send on in place of `head`, that of a request which a server has accepted.
    /// `host` is the value of `Host` if the request has none, as HTTP/1.0 allows.
    ///
    /// # Errors
    ///
    /// The request must not be passed on.
    pub fn new(head: &Head<'_>, host: &str) -> Result<Self, ForwardError> {
        let Head { method, path, query, .. } = *head;
        let counts = matches!(method, Method::Options | Method::Trace);
        let left =
            if counts { head.text("max-forwards").and_then(|left| left.parse::<u32>().ok()) } else { None };
        let mut lines = Vec::with_capacity(head.size() + SPARE);
        let host = head.host().unwrap_or(host.as_bytes());
        let (mark, query) = query.map_or((&b""[..], &b""[..]), |query| (b"?", query));
        let name = method.as_str().as_bytes();
        for part in [name, b" ", path, mark, query, b" HTTP/1.1\r\nHost: ", host, b"\r\n"] {
            lines.extend_from_slice(part);
        }
        let mut fields = ForwardedFields { lines };
        fields.extend(&head.fields(), |name| {
            let own = [&b"host"[..], b"expect"].iter().any(|own| name.eq_ignore_ascii_case(own));
            !(own || left.is_some() && name.eq_ignore_ascii_case(b"max-forwards"))
        })?;
        if let Some(left) = left {
            let left = left.checked_sub(1).ok_or(ForwardError::LastHop)?;
            // A number is a valid value.
            let _ = fields.add("Max-Forwards", left);
        }
        let body = match head.framing.body {
            Body::None => RequestBody::None,
            Body::Length(length) => RequestBody::Length(length),
            Body::Chunked => RequestBody::Chunked,
        };
        Ok(Self { method, body, fields })
    }

    /// Adds a field, under the rules of [`ForwardedFields::add`].
    ///
    /// # Errors
    ///
    /// As for [`ForwardedFields::add`].
    pub fn add(&mut self, name: &str, value: impl Display) -> Result<(), InvalidRequest> {
        self.fields.add(name, value)
    }

    /// Returns the method.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns how the body is sent: as it is received.
    #[must_use]
    pub const fn body(&self) -> RequestBody {
        self.body
    }

    /// Returns the request line and the fields as they are sent, without the line end after the last of them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        let lines = self.fields.as_bytes();
        lines.strip_suffix(b"\r\n").unwrap_or(lines)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::{String, ToString};

    use super::*;
    use crate::client::{ClientLimits, ClientRequest, Piece, ResponseReader};
    use crate::limits::Limits;
    use crate::parse::head::Parse;
    use crate::parse::scan::parse;

    fn forwarded(request: &[u8]) -> Result<ForwardedHead, ForwardError> {
        let Parse::Complete(head) = parse(request, &Limits::DEFAULT) else {
            panic!("{}", request.escape_ascii())
        };
        ForwardedHead::new(&head, "default")
    }

    fn text(head: &ForwardedHead) -> String {
        ClientRequest::forward(head).head().unwrap().to_string()
    }

    fn response(lines: &str) -> Result<String, ForwardError> {
        let limits = ClientLimits::DEFAULT;
        let bytes = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let mut reader = ResponseReader::new(Method::Get, &limits);
        let Ok(Piece::Head(head)) = reader.next(bytes.as_bytes(), &limits) else { panic!("{bytes}") };
        let fields = ForwardedFields::of_response(&head)?;
        Ok(String::from_utf8(fields.lines).unwrap())
    }

    #[test]
    fn what_a_response_keeps() {
        let table = [
            ("A: 1\r\nb:  x y \t\r\nA: 2\r\n", "A: 1\r\nb: x y\r\nA: 2\r\n"),
            ("Connection: close\r\nETag: a\r\n", "ETag: a\r\n"),
            ("Connection: X-A, ,x-b\r\nx-a: 1\r\nX-B: 2\r\nX-C: 3\r\n", "X-C: 3\r\n"),
            ("X-A: 1\r\nConnection: close\r\nconnection: x-A\r\n", ""),
            ("Connection: X-A\r\nX-AB: 1\r\nX: 2\r\n", "X-AB: 1\r\nX: 2\r\n"),
            (
                "Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: gzip\r\nTrailer: A\r\nUpgrade: b\r\n",
                "",
            ),
            ("Transfer-Encoding: chunked\r\n", ""),
            ("Content-Length: 3\r\nContent-Type: a/b\r\n", "Content-Type: a/b\r\n"),
        ];
        for (lines, kept) in table {
            assert_eq!(response(lines), Ok(kept.into()), "{lines}");
        }
    }

    #[test]
    fn as_many_names_in_connection_as_allowed() {
        let names = |count: usize| (0..count).map(|n| format!("close,x-{n},")).collect::<String>();
        for (count, result) in
            [(NAMES_MAX, Ok(String::new())), (NAMES_MAX + 1, Err(ForwardError::TooManyNames))]
        {
            assert_eq!(response(&format!("Connection: {}\r\nX-0: a\r\n", names(count))), result);
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", names(count));
            assert_eq!(forwarded(request.as_bytes()).map(|_| String::new()), result);
        }
    }

    #[test]
    fn what_a_request_becomes() {
        let table: [(&[u8], &str); 8] = [
            (b"GET / HTTP/1.1\r\nHost: a:1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:1\r\nA: b\r\n\r\n"),
            (b"GET /?a|b HTTP/1.0\r\n\r\n", "GET /?a|b HTTP/1.1\r\nHost: default\r\n\r\n"),
            (b"GET http://b/c?d HTTP/1.1\r\nHost: a\r\n\r\n", "GET /c?d HTTP/1.1\r\nHost: b\r\n\r\n"),
            (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\nB: c\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nB: c\r\nContent-Length: 5\r\n\r\n",
            ),
            (
                b"POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nTE: x\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (
                b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: host, B, close\r\nB: c\r\n\r\n",
                "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                b"TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 7\r\nB: c\r\n\r\n",
                "TRACE / HTTP/1.1\r\nHost: a\r\nB: c\r\nMax-Forwards: 6\r\n\r\n",
            ),
        ];
        for (request, head) in table {
            let forwarded = forwarded(request).unwrap();
            assert_eq!(text(&forwarded), head);
            assert_eq!(ClientRequest::forward(&forwarded).head().unwrap().length(), head.len());
        }
        let last = forwarded(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
        assert_eq!(last, Err(ForwardError::LastHop));
        let get = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").unwrap();
        assert!(text(&get).contains("Max-Forwards: 0"), "it has no meaning there");
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let head = forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\xff!\r\n\r\n").unwrap();
        assert!(head.as_bytes().ends_with(b"X: \xe4\xff!"));
        assert!(text(&head).ends_with("X: \u{fffd}\u{fffd}!\r\n\r\n"));
    }

    #[test]
    fn added_fields_are_checked() {
        let mut fields = ForwardedFields::default();
        assert_eq!(fields.add("Via", format_args!("1.{} a", 1)), Ok(()));
        for name in ["", "A b", "A:", "Connection", "content-length", "A\r\nB"] {
            assert_eq!(fields.add(name, 1), Err(InvalidRequest::FieldName), "{name:?}");
        }
        for value in ["a\r\nB: c", "\n", "\0"] {
            assert_eq!(
                fields.add("A", format_args!("x{value}")),
                Err(InvalidRequest::FieldValue),
                "{value:?}"
            );
        }
        assert_eq!(fields.as_bytes(), b"Via: 1.1 a\r\n");
        assert!(fields.has("via") && !fields.has("a"));
    }
}
