//! The head of a request, as a client writes it.

use core::fmt;

use lightcone_core::{Full, Output};

use crate::method::Method;
use crate::parse::words::{is_token, is_value};
use crate::respond::fields::frames_message;

#[cfg(feature = "alloc")]
use super::forward::ForwardedHead;
use super::uri::Uri;

/// How the body of a request is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum RequestBody {
    /// There is none.
    None,
    /// With its length in front.
    Length(u64),
    /// In chunks, because its length is not known in advance.
    Chunked,
}

/// Names and values of the fields of a request: an array of pairs of texts, a vector of them (with the feature
/// `alloc`), or `()` for none.
pub trait RequestFields: fmt::Debug {
    /// Returns the name and the value of a field; `None` after the last one.
    fn field(&self, index: usize) -> Option<(&str, &str)>;
}

impl RequestFields for () {
    fn field(&self, _: usize) -> Option<(&str, &str)> {
        None
    }
}

impl<N, V, const COUNT: usize> RequestFields for [(N, V); COUNT]
where
    N: AsRef<str> + fmt::Debug,
    V: AsRef<str> + fmt::Debug,
{
    fn field(&self, index: usize) -> Option<(&str, &str)> {
        self.get(index).map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

#[cfg(feature = "alloc")]
impl<N, V> RequestFields for alloc::vec::Vec<(N, V)>
where
    N: AsRef<str> + fmt::Debug,
    V: AsRef<str> + fmt::Debug,
{
    fn field(&self, index: usize) -> Option<(&str, &str)> {
        self.get(index).map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// A request without its body. Nothing is stored: the parts borrow from the program while the head is written.
///
/// ```
/// use lightcone_http::Method;
/// use lightcone_http::client::{ClientRequest, RequestBody, Uri};
///
/// let request = ClientRequest {
///     method: Method::Post,
///     fields: &[("Content-Type", "text/plain")],
///     body: RequestBody::Length(4),
///     ..ClientRequest::get(Uri::parse("http://example.org:8080/notes?all")?)
/// };
/// let head = "POST /notes?all HTTP/1.1\r\nHost: example.org:8080\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n";
/// assert_eq!(request.head()?.to_string(), head);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClientRequest<'a> {
    /// The method; `CONNECT` is refused.
    pub method: Method,
    /// The URI. Its path and query are sent in the request line, its host and port in the field `Host`.
    pub uri: Uri<'a>,
    /// Names and values of further fields. `Host`, `Expect`, `Upgrade`, `TE` and the fields on which the framing
    /// depends are refused, because the client writes them itself or does not support them: see
    /// [`upgrade`](Self::upgrade).
    pub fields: &'a dyn RequestFields,
    /// How the body is sent.
    pub body: RequestBody,
    /// Whether the connection ends after the response.
    pub close: bool,
    /// A head that a proxy passes on, in place of `uri` and `fields`. Requires the feature `alloc`.
    #[cfg(feature = "alloc")]
    pub forwarded: Option<&'a ForwardedHead>,
}

/// Why a request cannot be sent: a mistake of the program.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum InvalidRequest {
    /// The client does not support `CONNECT`.
    Method,
    /// The name of a field is no token, or is reserved for the client.
    FieldName,
    /// The value of a field has control characters.
    FieldValue,
    /// The method `TRACE` excludes a body (RFC 9110, 9.3.8).
    Body,
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "CONNECT is not supported",
            Self::FieldName => "the name of a field is malformed or reserved for the client",
            Self::FieldValue => "the value of a field has control characters",
            Self::Body => "TRACE must not have a body",
        })
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for InvalidRequest {}

impl<'a> ClientRequest<'a> {
    /// Creates a `GET` without further fields, to be changed by a struct update.
    pub const fn get(uri: Uri<'a>) -> Self {
        Self {
            method: Method::Get,
            uri,
            fields: &(),
            body: RequestBody::None,
            close: false,
            #[cfg(feature = "alloc")]
            forwarded: None,
        }
    }

    /// Creates a request with a head that a proxy passes on, and a body that is framed as in the request received.
    /// Requires the feature `alloc`.
    #[cfg(feature = "alloc")]
    pub const fn forward(head: &'a ForwardedHead) -> Self {
        let (method, body) = (head.method(), head.body());
        Self { method, body, forwarded: Some(head), ..Self::get(Uri::NONE) }
    }

    /// Checks the request and returns its head, including the final empty line, as text to be displayed.
    ///
    /// # Errors
    ///
    /// If the result would not be exactly one valid head: no part of a request can end a line early.
    pub fn head(&self) -> Result<RequestHead<'_>, InvalidRequest> {
        /// Fields with a meaning for the connection that the client does not support.
        const UNSUPPORTED: [&str; 4] = ["host", "expect", "upgrade", "te"];
        if self.method == Method::Connect {
            return Err(InvalidRequest::Method);
        }
        if self.method == Method::Trace && !matches!(self.body, RequestBody::None | RequestBody::Length(0)) {
            return Err(InvalidRequest::Body);
        }
        #[cfg(feature = "alloc")]
        if self.forwarded.is_some() {
            // its fields were checked when they were received or added
            return Ok(RequestHead { request: self, upgrade: None });
        }
        for (name, value) in self.fields() {
            let reserved = UNSUPPORTED.iter().any(|other| name.eq_ignore_ascii_case(other));
            if name.is_empty() || !name.bytes().all(is_token) || reserved || frames_message(name) {
                return Err(InvalidRequest::FieldName);
            }
            if !value.bytes().all(is_value) {
                return Err(InvalidRequest::FieldValue);
            }
        }
        Ok(RequestHead { request: self, upgrade: None })
    }

    /// Returns the checked [head](Self::head) of the request with the proposal to switch to another protocol (RFC 9110,
    /// 7.8), for a handler that speaks it. [`close`](Self::close) has no effect. A [`Client`](super::Client) and a
    /// [`Pool`](super::Pool) make no such requests.
    ///
    /// ```
    /// use lightcone_http::client::{ClientRequest, Uri};
    ///
    /// let request = ClientRequest::get(Uri::parse_ws("ws://example.org/chat")?);
    /// let head = "GET /chat HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    /// assert_eq!(request.upgrade("websocket")?.to_string(), head);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The same as for `head`; also [`InvalidRequest::FieldValue`] if `protocol` is no token.
    pub fn upgrade<'r>(&'r self, protocol: &'r str) -> Result<RequestHead<'r>, InvalidRequest> {
        if protocol.is_empty() || !protocol.bytes().all(is_token) {
            return Err(InvalidRequest::FieldValue);
        }
        Ok(RequestHead { upgrade: Some(protocol), ..self.head()? })
    }

    fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let fields = self.fields;
        (0..).map_while(|index| fields.field(index))
    }

    /// Returns whether several of these requests have the effect of one (RFC 9110, 9.2.2), so that a request may be
    /// sent again if its outcome is unknown.
    pub const fn is_idempotent(&self) -> bool {
        match self.method {
            Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace => {
                true
            }
            Method::Post | Method::Patch | Method::Connect => false,
        }
    }
}

/// The checked head of a request. Its `Display` writes it as it is sent; bytes that a proxy passes on and that are not
/// UTF-8 are replaced in it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    request: &'a ClientRequest<'a>,
    /// The protocol to switch to.
    upgrade: Option<&'a str>,
}

impl RequestHead<'_> {
    /// Returns the length of the head in bytes, including the final empty line.
    pub fn length(&self) -> usize {
        struct Length(usize);

        impl fmt::Write for Length {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += text.len();
                Ok(())
            }
        }

        let mut length = Length(self.forwarded().map_or(0, <[u8]>::len));
        // Counting cannot fail.
        let _ = fmt::Write::write_fmt(&mut length, format_args!("{}", OwnText(self)));
        length.0
    }

    /// Queues the whole head or, if there is no room, nothing of it.
    ///
    /// # Errors
    ///
    /// [`Full`] if there is not enough room. `writable` will come, unless the head is [longer](Self::length) than the
    /// [limit](Output::limit) of the output.
    pub fn send(&self, output: &mut Output<'_>) -> Result<(), Full> {
        let mark = output.mark();
        let sent = output.send(self.forwarded().unwrap_or_default());
        let sent = sent.and_then(|()| write!(output, "{}", OwnText(self)));
        if sent.is_err() {
            output.rewind(mark);
        }
        sent
    }

    /// Returns what a proxy passes on, without the last line end.
    #[cfg_attr(not(feature = "alloc"), expect(clippy::unused_self, reason = "a proxy needs the heap"))]
    fn forwarded(&self) -> Option<&[u8]> {
        #[cfg(feature = "alloc")]
        let lines = self.request.forwarded.map(ForwardedHead::as_bytes);
        #[cfg(not(feature = "alloc"))]
        let lines = None;
        lines
    }
}

impl fmt::Display for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.forwarded().unwrap_or_default().utf8_chunks() {
            f.write_str(piece.valid())?;
            f.write_str(if piece.invalid().is_empty() { "" } else { "\u{fffd}" })?;
        }
        OwnText(self).fmt(f)
    }
}

/// The part of a head that is not passed on by a proxy: all of it, or only the framing.
struct OwnText<'a, 'r>(&'a RequestHead<'r>);

impl fmt::Display for OwnText<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestHead { request, upgrade } = self.0;
        if self.0.forwarded().is_none() {
            f.write_str(request.method.as_str())?;
            f.write_str(" ")?;
            request.uri.write_target(f)?;
            f.write_str(" HTTP/1.1\r\nHost: ")?;
            request.uri.write_authority(f)?;
            for (name, value) in request.fields() {
                write!(f, "\r\n{name}: {value}")?;
            }
        }
        match request.body {
            // Without a length, a server may take the request for one whose body is missing (RFC 9110, 8.6).
            RequestBody::None if matches!(request.method, Method::Post | Method::Put | Method::Patch) => {
                f.write_str("\r\nContent-Length: 0")?;
            }
            RequestBody::None => {}
            RequestBody::Length(length) => write!(f, "\r\nContent-Length: {length}")?,
            RequestBody::Chunked => f.write_str("\r\nTransfer-Encoding: chunked")?,
        }
        match upgrade {
            Some(protocol) => write!(f, "\r\nConnection: Upgrade\r\nUpgrade: {protocol}")?,
            None if request.close => f.write_str("\r\nConnection: close")?,
            None => {}
        }
        f.write_str("\r\n\r\n")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::{String, ToString};

    use super::*;
    use crate::limits::Limits;
    use crate::parse::head::Parse;
    use crate::parse::scan::parse;

    fn request(method: Method, body: RequestBody) -> ClientRequest<'static> {
        let uri = Uri::parse("http://a/b?c").unwrap();
        ClientRequest { method, body, ..ClientRequest::get(uri) }
    }

    fn text(request: &ClientRequest<'_>) -> Result<String, InvalidRequest> {
        request.head().map(|head| head.to_string())
    }

    #[test]
    fn heads() {
        let table = [
            (Method::Get, RequestBody::None, "GET", ""),
            (Method::Head, RequestBody::None, "HEAD", ""),
            (Method::Delete, RequestBody::None, "DELETE", ""),
            (Method::Post, RequestBody::None, "POST", "Content-Length: 0\r\n"),
            (Method::Put, RequestBody::None, "PUT", "Content-Length: 0\r\n"),
            (Method::Patch, RequestBody::None, "PATCH", "Content-Length: 0\r\n"),
            (Method::Get, RequestBody::Length(7), "GET", "Content-Length: 7\r\n"),
            (Method::Post, RequestBody::Length(u64::MAX), "POST", "Content-Length: 18446744073709551615\r\n"),
            (Method::Put, RequestBody::Chunked, "PUT", "Transfer-Encoding: chunked\r\n"),
        ];
        for (method, body, name, length) in table {
            let expected = format!("{name} /b?c HTTP/1.1\r\nHost: a\r\n{length}\r\n");
            assert_eq!(request(method, body).head().unwrap().length(), expected.len());
            assert_eq!(text(&request(method, body)), Ok(expected));
        }
        let closing = ClientRequest { close: true, ..request(Method::Get, RequestBody::None) };
        assert_eq!(text(&closing), Ok("GET /b?c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into()));
        let upgrade = |protocol| closing.upgrade(protocol).map(|head| (head.length(), head.to_string()));
        let expected = "GET /b?c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n";
        assert_eq!(upgrade("chat"), Ok((expected.len(), expected.into())));
        for protocol in ["", "a b", "a\r\nB: c"] {
            assert_eq!(upgrade(protocol), Err(InvalidRequest::FieldValue), "{protocol:?}");
        }
        let trace = request(Method::Trace, RequestBody::Chunked);
        assert_eq!(text(&trace), Err(InvalidRequest::Body));
        assert_eq!(text(&request(Method::Trace, RequestBody::Length(1))), Err(InvalidRequest::Body));
        let empty = text(&request(Method::Trace, RequestBody::Length(0))).unwrap();
        assert!(empty.ends_with("\r\nContent-Length: 0\r\n\r\n"), "{empty}");
        assert_eq!(text(&request(Method::Connect, RequestBody::None)), Err(InvalidRequest::Method));
    }

    /// What is written is read back by the server's parser, with these fields and no others.
    #[test]
    fn heads_are_what_the_server_reads() {
        for method in Method::ALL.into_iter().filter(|method| *method != Method::Connect) {
            let fields = &[("X-A", ""), ("x-b", "c: d\t\u{e4}")];
            let written = text(&ClientRequest { fields, ..request(method, RequestBody::None) }).unwrap();
            let Parse::Complete(head) = parse(written.as_bytes(), &Limits::DEFAULT) else {
                panic!("{written}")
            };
            assert_eq!((head.method, head.size()), (method, written.len()));
            assert_eq!((head.target(), head.field("host")), (&b"/b?c"[..], Some(&b"a"[..])));
            assert_eq!((head.field("x-a"), head.text("x-b")), (Some(&b""[..]), Some("c: d\t\u{e4}")));
        }
    }

    #[test]
    fn nothing_can_be_injected() {
        let names = [
            "",
            "A B",
            "A:",
            "A\r\nB",
            "A\n",
            "\u{e4}",
            "Host",
            "CONTENT-LENGTH",
            "transfer-encoding",
            "Connection",
            "Keep-Alive",
            "Trailer",
            "Expect",
            "Upgrade",
            "TE",
        ];
        for name in names {
            let fields = &[("X", "y"), (name, "z")];
            let request = ClientRequest { fields, ..request(Method::Get, RequestBody::None) };
            assert_eq!(text(&request), Err(InvalidRequest::FieldName), "{name:?}");
        }
        for value in ["a\r\nB: c", "a\nb", "a\rb", "a\0", "\u{7f}", "\u{1}"] {
            let fields = &[("X", value)];
            let request = ClientRequest { fields, ..request(Method::Get, RequestBody::None) };
            assert_eq!(text(&request), Err(InvalidRequest::FieldValue), "{value:?}");
        }
    }

    #[test]
    fn methods_that_may_be_repeated() {
        let repeatable =
            Method::ALL.into_iter().filter(|method| request(*method, RequestBody::None).is_idempotent());
        let expected =
            [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options, Method::Trace];
        assert!(repeatable.eq(expected));
    }
}
