//! Responses as tests see them.

use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, str};

use crate::client::{ClientLimits, Piece, ResponseHead, ResponseReader};
use crate::method::Method;
use crate::parse::head::Fields;
use crate::parse::trailers::Trailers;

/// The limits of a response: none that matters.
const LIMITS: ClientLimits =
    ClientLimits { head: usize::MAX, fields: u16::MAX, interims: u8::MAX, ..ClientLimits::DEFAULT };

/// A response that a test has received, or its beginning.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TestResponse {
    status: u16,
    /// The status line and the field lines, including the final empty line.
    head: Vec<u8>,
    /// The start of the field lines in `head`.
    fields: usize,
    body: Vec<u8>,
    /// The trailer section, including the final empty line, if there are fields in it.
    trailers: Vec<u8>,
    complete: bool,
}

impl TestResponse {
    /// Returns the status, such as 200.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Returns the value of the first field with this name. The case of names is ignored.
    ///
    /// # Panics
    ///
    /// If the value is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all fields in the order received.
    ///
    /// # Panics
    ///
    /// If a value is not UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        Fields::of(self.head.get(self.fields..).unwrap_or_default())
            .map(|(name, value)| (text(name), text(value)))
    }

    /// Returns the value of the first trailer field with this name. The case of names is ignored. Fields that must not
    /// be in a trailer section are left out ([`Trailers`]).
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        Trailers::of(&self.trailers).text(name)
    }

    /// Returns the body, or what has arrived of it, without its framing.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body, or what has arrived of it, as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        text(&self.body)
    }

    /// Returns whether the whole response has arrived.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns whether this is an interim response, after which another one follows (RFC 9110, section 15.2).
    pub(crate) const fn is_interim(&self) -> bool {
        self.status / 100 == 1 && self.status != 101
    }

    /// Reads a response from the front of `bytes`. `bodiless` is whether its request excludes a body, and `ended`
    /// whether no more bytes follow. Returns it with its length; `None` if its head is not complete.
    ///
    /// # Panics
    ///
    /// If the bytes are not a response.
    pub(crate) fn read(bytes: &[u8], bodiless: bool, ended: bool) -> Option<(Self, usize)> {
        let method = if bodiless { Method::Head } else { Method::Get };
        let (mut reader, mut rest) = (ResponseReader::new(method, &LIMITS), bytes);
        let (mut response, mut body): (Option<Self>, _) = (None, Vec::new());
        let mut trailers = Vec::new();
        reader.keep_trailers();
        loop {
            let used = match reader.next(rest, &LIMITS) {
                Err(error) => not_a_response(bytes, error),
                Ok(Piece::Interim(head)) => return Some((Self::of(&head), head.as_bytes().len())),
                Ok(Piece::Head(head)) => {
                    response = Some(Self::of(&head));
                    head.as_bytes().len()
                }
                Ok(Piece::Framing(length)) => length,
                Ok(Piece::Data(data)) => {
                    body.extend_from_slice(data);
                    reader.took(data.len());
                    data.len()
                }
                Ok(Piece::Trailers(found)) => {
                    trailers.extend_from_slice(found.as_bytes());
                    found.as_bytes().len()
                }
                Ok(Piece::End | Piece::More) => break,
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        let mut response = response?;
        (response.body, response.trailers) = (body, trailers);
        response.complete = reader.is_complete() || (ended && reader.finish().is_ok());
        Some((response, bytes.len() - rest.len()))
    }

    /// Creates a response without its body. The server never sends the older version.
    fn of(head: &ResponseHead<'_>) -> Self {
        let bytes = head.as_bytes();
        if head.minor == 0 {
            not_a_response(bytes, "its version is HTTP/1.0");
        }
        let fields = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let (head, status) = (bytes.to_vec(), head.status.code());
        Self { status, head, fields, body: Vec::new(), trailers: Vec::new(), complete: true }
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_else(|_| panic!("not UTF-8: {:?}", String::from_utf8_lossy(bytes)))
}

fn not_a_response(bytes: &[u8], reason: impl fmt::Display) -> ! {
    panic!("not a response, {reason}: {:?}", String::from_utf8_lossy(bytes))
}

/// Formats the response as it was received, without the framing of its body.
impl fmt::Display for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.head))?;
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}

impl fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestResponse")
            .field("head", &String::from_utf8_lossy(&self.head))
            .field("body", &String::from_utf8_lossy(&self.body))
            .field("complete", &self.complete)
            .finish()
    }
}
