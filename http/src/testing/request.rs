//! Requests of tests.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A request that a test sends.
///
/// The request has the fields that it needs: `Host: test` unless [`header`](Self::header) sets it, and the framing of
/// its body. Nothing else is checked or corrected, so a test can also send a request that is not valid.
///
/// ```
/// use lightcone_http::testing::TestRequest;
///
/// let request = TestRequest::new("PUT", "/notes/1").header("Authorization", "Bearer please").body("a note");
/// assert_eq!(
///     request.to_bytes(),
///     b"PUT /notes/1 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer please\r\nContent-Length: 6\r\n\r\na note"
/// );
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct TestRequest {
    method: String,
    target: String,
    /// The field lines.
    fields: String,
    has_host: bool,
    body: Vec<u8>,
}

impl TestRequest {
    /// Creates a request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            fields: String::new(),
            has_host: false,
            body: Vec::new(),
        }
    }

    /// Creates a `GET` request.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a field.
    pub fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.has_host |= name.eq_ignore_ascii_case("host");
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets the body, and adds its `Content-Length`.
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut request = self.header("Content-Length", body.len());
        request.body = body.to_vec();
        request
    }

    /// Sets the body to chunks, and adds `Transfer-Encoding: chunked`. An empty chunk is left out, because it would end
    /// the body.
    pub fn chunks(self, chunks: &[&[u8]]) -> Self {
        let mut request = self.header("Transfer-Encoding", "chunked");
        request.body.clear();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            request.body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.body.extend_from_slice(chunk);
            request.body.extend_from_slice(b"\r\n");
        }
        request.body.extend_from_slice(b"0\r\n\r\n");
        request
    }

    /// Returns the request as it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { method, target, fields, has_host, body } = self;
        let host = if *has_host { "" } else { "Host: test\r\n" };
        let mut bytes = format!("{method} {target} HTTP/1.1\r\n{host}{fields}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    /// Returns whether the response has no body, whatever its fields say (RFC 9112, section 6.3).
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Formats the method and the target, such as `GET /foo`.
impl fmt::Display for TestRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}
