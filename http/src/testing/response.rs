//! Responses as tests see them.

use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, str};

use crate::limits::Limits;
use crate::parse::chunked::Decoder;
use crate::parse::head::Fields;
use crate::parse::words::{is_token, is_value};

/// The limits of a response's chunks: none that matters.
const LIMITS: Limits = Limits { body: u64::MAX, trailers: u16::MAX, ..Limits::DEFAULT };

/// A response that a test has received, or its beginning.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TestResponse {
    status: u16,
    /// The status line and the field lines, including the final empty line.
    head: Vec<u8>,
    /// The start of the field lines in `head`.
    fields: usize,
    body: Vec<u8>,
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
        let size = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let (head, rest) = bytes.split_at_checked(size)?;
        let status = status(head).unwrap_or_else(|| not_a_response(head, "the status line is invalid"));
        let fields = head.iter().position(|byte| *byte == b'\n')? + 1;
        check_fields(head, fields);
        let mut response = Self { status, head: head.to_vec(), fields, body: Vec::new(), complete: true };
        if bodiless || status < 200 || status == 204 || status == 304 {
            return Some((response, size));
        }
        let used = match (response.header("Transfer-Encoding"), response.header("Content-Length")) {
            (Some("chunked"), None) => response.read_chunks(rest),
            (None, Some(length)) => {
                let length = length.parse().unwrap_or_else(|_| not_a_response(head, "the length is invalid"));
                response.complete = rest.len() >= length;
                response.body = rest.get(..length).unwrap_or(rest).to_vec();
                response.body.len()
            }
            (None, None) => {
                response.complete = ended;
                response.body = rest.to_vec();
                rest.len()
            }
            (Some(_), _) => not_a_response(head, "the framing is not chunked alone"),
        };
        Some((response, size + used))
    }

    /// Decodes a chunked body from the front of `bytes`; returns the length of what was decoded.
    fn read_chunks(&mut self, bytes: &[u8]) -> usize {
        let (mut decoder, mut rest) = (Decoder::new(&LIMITS), bytes);
        loop {
            let framing = decoder
                .frame(rest, &LIMITS)
                .unwrap_or_else(|_| not_a_response(bytes, "the chunks are invalid"));
            rest = rest.get(framing..).unwrap_or_default();
            let data = usize::try_from(decoder.data()).unwrap_or(usize::MAX);
            let (data, after) = rest.split_at(data.min(rest.len()));
            self.body.extend_from_slice(data);
            decoder.advance(data.len() as u64);
            rest = after;
            if decoder.is_done() || data.is_empty() {
                self.complete = decoder.is_done();
                return bytes.len() - rest.len();
            }
        }
    }
}

/// Returns the status of a status line (RFC 9112, section 4).
fn status(head: &[u8]) -> Option<u16> {
    let code = head.strip_prefix(b"HTTP/1.1 ")?;
    let (code, rest) = code.split_at_checked(3)?;
    if !rest.starts_with(b" ") || !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(code).ok()?.parse().ok().filter(|code| (100..600).contains(code))
}

/// Panics unless each field line is valid (RFC 9112, section 5).
fn check_fields(head: &[u8], fields: usize) {
    let lines = head.get(fields..head.len() - 2).unwrap_or_default();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':');
        let valid = colon.and_then(|colon| line.split_at_checked(colon)).is_some_and(|(name, value)| {
            let value = value.strip_suffix(b"\r\n");
            !name.is_empty()
                && name.iter().all(|byte| is_token(*byte))
                && value.is_some_and(|value| value.iter().all(|byte| is_value(*byte)))
        });
        if !valid {
            not_a_response(head, "a field line is invalid");
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_else(|_| panic!("not UTF-8: {:?}", String::from_utf8_lossy(bytes)))
}

fn not_a_response(bytes: &[u8], reason: &str) -> ! {
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
