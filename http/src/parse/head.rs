//! A parsed request head.

use core::iter::FusedIterator;

use crate::method::Method;
use crate::status::Status;

use super::framing::Framing;
use super::words::trim;

/// The length of a version, including the space before it and the line end after it.
pub(crate) const VERSION_LENGTH: usize = 11;

/// The head of a request: spans of the bytes it was parsed from, and the framing of the body.
///
/// Fields are parsed on demand: [`field`](Self::field) looks one up, [`fields`](Self::fields) iterates over all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// The minor version: 0 for HTTP/1.0, otherwise 1 (a higher one is taken as 1, RFC 9110, 2.5).
    pub minor: u8,
    /// The path of the target, not decoded. It starts with `/`, or is `*` in `OPTIONS *`.
    pub path: &'a [u8],
    /// The part of the target after the first `?`, not decoded.
    pub query: Option<&'a [u8]>,
    /// What follows the head.
    pub framing: Framing,
    /// The whole head, including the final empty line.
    pub(crate) bytes: &'a [u8],
    /// The end of the target in `bytes`.
    pub(crate) target_end: usize,
}

impl<'a> Head<'a> {
    /// An empty head, to be filled in.
    pub(crate) const NONE: Self = Self::plain(b"", 0, b"");

    /// Creates the common-case head: `GET`, without a query and without a body.
    #[inline(always)]
    pub(crate) const fn plain(path: &'a [u8], target_end: usize, bytes: &'a [u8]) -> Self {
        Self { method: Method::Get, minor: 1, path, query: None, framing: Framing::NONE, bytes, target_end }
    }

    /// Returns the request target as received.
    pub fn target(&self) -> &'a [u8] {
        self.bytes.get(self.method.as_str().len() + 1..self.target_end).unwrap_or(&[])
    }

    /// Returns the value of the first field with this name, without the white space around it. The case of names is
    /// ignored. Values are bytes: HTTP allows all except control characters.
    ///
    /// ```
    /// use lightcone_http::{Limits, Parse, parse};
    /// let Parse::Complete(head) = parse(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: x/y \r\n\r\n", &Limits::DEFAULT)
    /// else { panic!() };
    /// assert_eq!(head.field("accept"), Some(&b"x/y"[..]));
    /// assert_eq!(head.field("cookie"), None);
    /// ```
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Like [`field`](Self::field), for a value that is text. Also `None` if the value is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Returns all fields in the order received.
    pub fn fields(&self) -> Fields<'a> {
        let end = self.bytes.len().saturating_sub(2);
        Fields(self.bytes.get(self.target_end + VERSION_LENGTH..end).unwrap_or(&[]))
    }

    /// Returns the host and port that the request is for: those of the target if it has them, otherwise the value of
    /// the `Host` field.
    pub fn host(&self) -> Option<&'a [u8]> {
        match absolute(self.target()) {
            Some((authority, _)) => Some(authority),
            None => self.field("host"),
        }
    }

    /// Returns the whole head as received, including the final empty line. [`parse`](crate::parse()) reads it again, for
    /// a response that is made after the callback with the request.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the size of the head in bytes, including the final empty line. The body, or the next request, follows.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the length of the body if it is known in advance; `None` if the body is chunked.
    pub const fn length(&self) -> Option<u64> {
        match self.framing.body {
            super::framing::Body::None => Some(0),
            super::framing::Body::Length(length) => Some(length),
            super::framing::Body::Chunked => None,
        }
    }
}

/// Splits a target in absolute form into its authority and what follows it; `None` for other forms.
pub(crate) fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let prefix = |scheme: &[u8]| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = prefix(b"http://").or_else(|| prefix(b"https://"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    rest.split_at_checked(end)
}

/// An iterator over the fields of a [`Head`]: names and values.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Iterates over field lines and the empty line after them, if it is there. The lines have been checked.
    pub(crate) const fn of(lines: &'a [u8]) -> Self {
        Self(lines)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The lines are checked already: each has a colon, and a line feed only at its end.
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, trim(value.strip_prefix(b":")?.strip_suffix(b"\r\n")?)))
    }
}

/// After the last field there is nothing more.
impl FusedIterator for Fields<'_> {}

/// Iterates over the [`fields`](Head::fields).
impl<'a> IntoIterator for &Head<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.fields()
    }
}

/// The result of [`parse`](crate::parse()).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parse<'a> {
    /// A complete head.
    Complete(Head<'a>),
    /// The beginning of a head, valid so far.
    Partial,
    /// Not an acceptable request, regardless of what follows. Respond with this status and close the connection.
    Invalid(Status),
}
