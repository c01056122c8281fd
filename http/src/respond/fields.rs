//! Fields that a handler or middleware adds to a response.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt::{self, Display, Write};

#[cfg(feature = "alloc")]
use crate::client::ForwardedFields;
use crate::parse::trailers::is_forbidden;
use crate::parse::words::{is_token, is_value};

use super::location::is_location;

/// The maximum size in bytes of the fields added to one response, including names and line ends. A response with more
/// becomes a 500.
pub const FIELDS_MAX: usize = 2048;

/// The field lines added to the response that is being made. There is one buffer per poller, since a head is made
/// within one callback.
#[derive(Debug)]
pub(crate) struct ExtraFields {
    lines: [u8; FIELDS_MAX],
    used: usize,
    /// Further lines, which a proxy passes on. They may have more bytes.
    #[cfg(feature = "alloc")]
    forwarded: Vec<u8>,
    /// Whether anything was added, or refused.
    touched: bool,
    /// Whether `Content-Type` was added, so that the automatic one is left out. The next two are the same for `Server`
    /// and `Date`.
    pub(crate) own_type: bool,
    pub(crate) own_server: bool,
    pub(crate) own_date: bool,
    /// Whether `Upgrade` was added, which is announced in `Connection` (RFC 9110, 7.8).
    pub(crate) upgrades: bool,
    /// Whether a field or the status was refused, so that the response must not be sent.
    pub(crate) failed: bool,
    /// Whether the trailer fields of the request are kept for its exchange.
    pub(crate) keeps_trailers: bool,
    /// The names of the trailer fields that are announced if the body is chunked.
    pub(crate) trailers: &'static [&'static str],
}

impl ExtraFields {
    pub(crate) const fn new() -> Self {
        Self {
            lines: [0; FIELDS_MAX],
            used: 0,
            #[cfg(feature = "alloc")]
            forwarded: Vec::new(),
            touched: false,
            own_type: false,
            own_server: false,
            own_date: false,
            upgrades: false,
            failed: false,
            keeps_trailers: false,
            trailers: &[],
        }
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        if self.touched {
            self.reset();
        }
    }

    #[inline(never)]
    fn reset(&mut self) {
        #[cfg(feature = "alloc")]
        self.forwarded.clear();
        (self.used, self.touched) = (0, false);
        (self.own_type, self.own_server, self.own_date) = (false, false, false);
        (self.upgrades, self.failed) = (false, false);
        (self.keeps_trailers, self.trailers) = (false, &[]);
    }

    #[inline(always)]
    pub(crate) const fn is_empty(&self) -> bool {
        !self.touched
    }

    /// Marks the response as failed.
    #[cold]
    pub(crate) const fn fail(&mut self) {
        (self.touched, self.failed) = (true, true);
    }

    /// Adds a `Location`, or marks the response as failed.
    pub(crate) fn add_location(&mut self, location: &dyn Display) {
        let value = self.used + "Location: ".len();
        self.add("Location", location);
        let line = self.lines().get(value..).unwrap_or_default();
        self.failed |= !line.strip_suffix(b"\r\n").is_some_and(is_location);
    }

    /// Keeps the trailer fields of the request.
    pub(crate) const fn keep_trailers(&mut self) {
        (self.touched, self.keeps_trailers) = (true, true);
    }

    /// Announces trailer fields of the response, or marks it as failed if one must not be in a trailer section.
    pub(crate) fn announce_trailers(&mut self, names: &'static [&'static str]) {
        (self.touched, self.trailers) = (true, names);
        self.failed |= !names.iter().all(|name| may_trail(name));
    }

    /// Adds a line to the trailer section that is made in place of a head, or marks it as failed.
    pub(crate) fn add_trailer(&mut self, name: &str, value: &dyn Display) {
        if may_trail(name) {
            self.add(name, value);
        } else {
            self.fail();
        }
    }

    pub(crate) fn lines(&self) -> &[u8] {
        self.lines.split_at(self.used).0
    }

    /// Returns the lines that a proxy passes on.
    pub(crate) fn forwarded(&self) -> &[u8] {
        #[cfg(feature = "alloc")]
        let lines = &self.forwarded;
        #[cfg(not(feature = "alloc"))]
        let lines = &[];
        lines
    }

    /// Adds lines that a proxy passes on.
    #[cfg(feature = "alloc")]
    pub(crate) fn forward(&mut self, fields: &ForwardedFields) {
        self.touched = true;
        self.own_type |= fields.has("content-type");
        self.own_server |= fields.has("server");
        self.own_date |= fields.has("date");
        self.forwarded.extend_from_slice(fields.as_bytes());
    }

    /// Adds a field line, or marks the response as failed.
    #[inline(never)]
    pub(crate) fn add(&mut self, name: &str, value: &dyn Display) {
        self.touched = true;
        let start = self.used;
        self.own_type |= name.eq_ignore_ascii_case("content-type");
        self.own_server |= name.eq_ignore_ascii_case("server");
        self.own_date |= name.eq_ignore_ascii_case("date");
        self.upgrades |= name.eq_ignore_ascii_case("upgrade");
        let named = !name.is_empty() && name.bytes().all(is_token) && !frames_message(name);
        let line = self.write_str(name).and_then(|()| self.write_str(": "));
        let written =
            line.and_then(|()| write!(Value(self), "{value}")).and_then(|()| self.write_str("\r\n"));
        if !named || written.is_err() {
            self.used = start;
            self.failed = true;
        }
    }
}

/// Returns whether a trailer field may have this name.
fn may_trail(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token) && !is_forbidden(name.as_bytes())
}

/// Returns whether the framing of a message depends on the field, so that programs may not write it.
pub(crate) fn frames_message(name: &str) -> bool {
    const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "connection", "trailer", "keep-alive"];
    FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

impl Write for ExtraFields {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.used + text.len();
        self.lines.get_mut(self.used..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// Writes a field value; refuses control characters, which could end it early.
struct Value<'a>(&'a mut ExtraFields);

impl Write for Value<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(is_value) { self.0.write_str(text) } else { Err(fmt::Error) }
    }
}

/// The fields of a response with a known status. See [`Middleware::head`](crate::Middleware::head).
#[derive(Debug)]
pub struct Headers<'a>(pub(crate) &'a mut ExtraFields);

impl Headers<'_> {
    /// Adds a field, under the rules of [`Response::header`](crate::Response::header).
    pub fn add(&mut self, name: &str, value: impl Display) {
        self.0.add(name, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_fields() {
        let mut extra = ExtraFields::new();
        extra.add("X-Count", &17);
        extra.add("Set-Cookie", &"a=b; Path=/");
        extra.add("X-Text", &"\u{e4}\t");
        assert_eq!(
            extra.lines(),
            "X-Count: 17\r\nSet-Cookie: a=b; Path=/\r\nX-Text: \u{e4}\t\r\n".as_bytes()
        );
        assert!(!extra.failed);
        extra.clear();
        assert!(extra.is_empty());
    }

    #[test]
    fn refused_fields() {
        let bad = [
            ("A", "b\r\nSet-Cookie: c"),
            ("A", "b\nc"),
            ("A", "b\rc"),
            ("A", "b\0c"),
            ("A", "\u{7f}"),
            ("A b", "c"),
            ("A:", "c"),
            ("", "c"),
            ("A\r\nB", "c"),
            ("Content-Length", "5"),
            ("transfer-encoding", "chunked"),
            ("Connection", "close"),
        ];
        for (name, value) in bad {
            let mut extra = ExtraFields::new();
            extra.add("X", &1);
            extra.add(name, &value);
            assert!(extra.failed, "{name:?} {value:?}");
            assert_eq!(extra.lines(), b"X: 1\r\n");
        }
    }

    #[test]
    fn as_many_as_fit() {
        let text = |n: usize| core::str::from_utf8(&[b'v'; FIELDS_MAX][..n]).unwrap();
        for (length, failed) in [(FIELDS_MAX - 5, false), (FIELDS_MAX - 4, true)] {
            let mut extra = ExtraFields::new();
            extra.add("A", &text(length));
            assert_eq!(extra.failed, failed);
        }
    }
}
