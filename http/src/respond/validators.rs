//! Validators of a representation, and the requests that are made conditional on them (RFC 9110, 8.8 and 13).

use core::fmt::{self, Display};

use crate::date::{date, parse_date};
use crate::exchange::Done;
use crate::method::Method;
use crate::parse::head::Head;
use crate::parse::words::trim;
use crate::request::{Request, State};
use crate::status::Status;

use super::response::{Reply, Response};

/// An entity tag (RFC 9110, 8.8.3): an opaque text or number that identifies one version of a representation.
///
/// A strong tag changes with every byte of the representation; a weak one only when its meaning changes, and cannot be
/// the condition of a range or of a change.
///
/// ```
/// use lightcone_http::ETag;
/// assert_eq!(ETag::strong("v1").to_string(), r#""v1""#);
/// assert_eq!(ETag::weak("v1").to_string(), r#"W/"v1""#);
/// assert_eq!(ETag::number(255).to_string(), r#""00000000000000ff""#);
/// const PAGE: ETag<'_> = ETag::hash(b"<h1>hello</h1>");
/// assert_ne!(PAGE, ETag::hash(b"<h1>hullo</h1>"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ETag<'a> {
    weak: bool,
    tag: Tag<'a>,
    /// The content coding that distinguishes the representation from the one that is not coded; mostly empty.
    coding: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Tag<'a> {
    Text(&'a str),
    Number(u64),
}

impl<'a> ETag<'a> {
    /// Creates a strong tag.
    ///
    /// # Panics
    /// If the text contains a quote, white space or a control character. Use [`hash`](Self::hash) for a text that does
    /// not come from the program.
    #[must_use]
    pub const fn strong(tag: &'a str) -> Self {
        let mut rest = tag.as_bytes();
        while let [first, after @ ..] = rest {
            assert!(matches!(*first, 0x21 | 0x23..=0x7e | 0x80..), "this character is not allowed in a tag");
            rest = after;
        }
        Self { weak: false, tag: Tag::Text(tag), coding: "" }
    }

    /// Creates a weak tag.
    ///
    /// # Panics
    /// As [`strong`](Self::strong).
    #[must_use]
    pub const fn weak(tag: &'a str) -> Self {
        Self { weak: true, ..Self::strong(tag) }
    }

    /// Creates a strong tag from a number, such as a version.
    #[must_use]
    pub const fn number(number: u64) -> Self {
        Self { weak: false, tag: Tag::Number(number), coding: "" }
    }

    /// Creates a strong tag from a hash of the representation's bytes. In a constant, it is computed by the compiler,
    /// which takes up to about a megabyte.
    ///
    /// The hash has 64 bits and is not cryptographic: an author of both versions can construct two with one tag.
    #[must_use]
    pub const fn hash(bytes: &[u8]) -> Self {
        // Each step is a bijection of the state for any given word, so that versions that differ in one word never
        // have the same hash.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let (mut rest, mut state) = (bytes, bytes.len() as u64);
        while let Some((word, after)) = rest.split_first_chunk() {
            state = (state.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
            rest = after;
        }
        while let [byte, after @ ..] = rest {
            state = (state.rotate_left(23) ^ *byte as u64).wrapping_mul(FACTOR);
            rest = after;
        }
        Self::number((state ^ state >> 32).wrapping_mul(FACTOR))
    }

    /// Returns the same tag as a weak one.
    ///
    /// ```
    /// use lightcone_http::ETag;
    /// assert_eq!(ETag::strong("v1").weakened(), ETag::weak("v1"));
    /// ```
    #[must_use]
    pub const fn weakened(self) -> Self {
        Self { weak: true, ..self }
    }

    /// Returns the tag of the same representation in a content coding, which has other bytes.
    pub(crate) const fn coded(self, coding: &'a str) -> Self {
        Self { coding, ..self }
    }

    /// Returns the number of the tag; for one that is a text, a hash of it.
    pub(crate) const fn to_number(self) -> u64 {
        match self.tag {
            Tag::Number(number) => number,
            Tag::Text(text) => match ETag::hash(text.as_bytes()).tag {
                Tag::Number(number) => number,
                Tag::Text(_) => 0,
            },
        }
    }

    /// Returns whether `opaque`, the received text between the quotes, is that of this tag.
    fn is(&self, opaque: &[u8]) -> bool {
        let mut digits = [0; 16];
        let tag = match self.tag {
            Tag::Text(text) => text.as_bytes(),
            Tag::Number(number) => {
                hexadecimal(number, &mut digits);
                &digits
            }
        };
        let Some(rest) = opaque.strip_prefix(tag) else { return false };
        if self.coding.is_empty() {
            rest.is_empty()
        } else {
            rest.strip_prefix(b"-") == Some(self.coding.as_bytes())
        }
    }
}

/// Formats `number` as 16 hexadecimal digits.
fn hexadecimal(number: u64, digits: &mut [u8; 16]) {
    for (digit, shift) in digits.iter_mut().rev().zip((0..64).step_by(4)) {
        *digit = b"0123456789abcdef".get((number >> shift & 15) as usize).copied().unwrap_or(b'0');
    }
}

/// Formats the tag as it is sent, in quotes.
impl Display for ETag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.weak { "W/\"" } else { "\"" })?;
        match self.tag {
            Tag::Text(text) => f.write_str(text)?,
            Tag::Number(number) => write!(f, "{number:016x}")?,
        }
        if !self.coding.is_empty() {
            write!(f, "-{}", self.coding)?;
        }
        f.write_str("\"")
    }
}

/// What identifies the current version of a representation: an entity tag, a date of its last change, or both.
///
/// ```
/// use lightcone_http::{ETag, Http, Validators};
///
/// const PAGE: &str = "<h1>hello</h1>";
/// const CURRENT: Validators<'_> = Validators::new().etag(ETag::hash(PAGE.as_bytes())).last_modified(1_700_000_000);
///
/// let server = Http::new().get("/", |request, response| {
///     request.conditional(response, CURRENT, |_request, response| response.html(PAGE))
/// });
/// # drop(server);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "validators do nothing until a request is checked against them"]
pub struct Validators<'a> {
    pub(crate) etag: Option<ETag<'a>>,
    /// Seconds since 1970.
    modified: Option<u64>,
    absent: bool,
    /// The value of `Cache-Control` of an asset; otherwise empty.
    pub(crate) cache_control: &'a str,
}

impl<'a> Validators<'a> {
    /// Creates validators of a representation that has neither tag nor date. Only `*` matches it.
    pub const fn new() -> Self {
        Self { etag: None, modified: None, absent: false, cache_control: "" }
    }

    /// Creates the validators of a resource that has no representation, such as one that a `PUT` would create: `*`
    /// does not match it.
    pub const fn absent() -> Self {
        Self { absent: true, ..Self::new() }
    }

    /// Sets the entity tag.
    pub const fn etag(mut self, etag: ETag<'a>) -> Self {
        self.etag = Some(etag);
        self
    }

    /// Sets the time of the last change, in seconds since 1970. It may be the condition of a range, so a representation
    /// that changes twice in a second needs a tag in its place. A time in the future is sent as the current one.
    pub const fn last_modified(mut self, unix_time: u64) -> Self {
        self.modified = Some(unix_time);
        self
    }

    /// Returns the date to send and to compare with: not later than `now` (RFC 9110, 8.8.2.1).
    fn modified(&self, now: Option<u64>) -> Option<u64> {
        self.modified.map(|time| now.map_or(time, |now| time.min(now)))
    }

    /// Evaluates the preconditions of a request, in the order of RFC 9110, 13.2.2. `now` is the wall clock's time.
    pub(crate) fn check(&self, head: &Head<'_>, now: Option<u64>) -> Verdict {
        let reads = matches!(head.method, Method::Get | Method::Head);
        if matches!(head.method, Method::Options | Method::Trace | Method::Connect) {
            return Verdict::Proceed;
        }
        let modified = self.modified(now);
        let changed_since = |name| {
            let since = parse_date(only(head, name)?, now.unwrap_or(0))?;
            Some(modified? > since)
        };
        // For a change that must not undo another one. The date counts only without tags.
        match self.matches(head, "if-match", true) {
            Some(false) => return Verdict::Failed,
            Some(true) => {}
            None if changed_since("if-unmodified-since") == Some(true) => return Verdict::Failed,
            None => {}
        }
        // For a copy that may still be current; in a change, for a representation that must not exist yet.
        match self.matches(head, "if-none-match", false) {
            Some(true) if reads => Verdict::NotModified,
            Some(true) => Verdict::Failed,
            Some(false) => Verdict::Proceed,
            None if reads && changed_since("if-modified-since") == Some(false) => Verdict::NotModified,
            None => Verdict::Proceed,
        }
    }

    /// Returns whether a list of tags in the fields of this name has that of the representation; `None` if there is no
    /// such field. What follows a malformed tag in a field is ignored.
    fn matches(&self, head: &Head<'_>, name: &str, strong: bool) -> Option<bool> {
        let mut matches = None;
        for value in values(head, name) {
            let any = value == b"*" && !self.absent;
            let one = self.etag.is_some_and(|etag| {
                Tags(value).any(|tag| etag.is(tag.opaque) && !(strong && (etag.weak || tag.weak)))
            });
            matches = Some(any || one || matches == Some(true));
        }
        matches
    }

    /// Returns whether the `Range` field of a request applies to this representation: `true` unless an `If-Range`
    /// field names another one (RFC 9110, 13.1.5).
    pub(crate) fn allow_range(&self, head: &Head<'_>, now: Option<u64>) -> bool {
        let mut conditions = values(head, "if-range");
        let Some(condition) = conditions.next() else { return true };
        if conditions.next().is_some() {
            return false;
        }
        let mut tags = Tags(condition);
        match (tags.next(), tags.0) {
            (Some(tag), []) => self.etag.is_some_and(|etag| !etag.weak && !tag.weak && etag.is(tag.opaque)),
            (Some(_), _) => false,
            // Not a later one either: the date is compared as a tag.
            (None, _) => {
                let date = parse_date(condition, now.unwrap_or(0));
                date.is_some() && date == self.modified(now)
            }
        }
    }

    /// Adds the fields to a response. A 304 has the date only if it has no tag (RFC 9110, 15.4.5).
    pub(crate) fn add_to<'r>(&self, mut response: Response<'r>) -> Response<'r> {
        let now = response.writer.scratch.template.second();
        if !self.cache_control.is_empty() {
            response = response.header("Cache-Control", self.cache_control);
        }
        if let Some(etag) = self.etag {
            response = response.header("ETag", etag);
        }
        if let Some(modified) = self.modified(now)
            && !(response.writer.status == Status::NOT_MODIFIED && self.etag.is_some())
        {
            let text = date(modified);
            response = response.header("Last-Modified", core::str::from_utf8(&text).unwrap_or(""));
        }
        response
    }
}

impl<'a> From<ETag<'a>> for Validators<'a> {
    fn from(etag: ETag<'a>) -> Self {
        Self::new().etag(etag)
    }
}

/// The result of evaluating the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request is carried out.
    Proceed,
    /// The client has the current version: 304.
    NotModified,
    /// The client expects another version: 412.
    Failed,
}

/// Returns the values of all fields with this name.
pub(crate) fn values<'a>(head: &Head<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    head.fields()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// Returns the value of the only field with this name; `None` if there is none or more than one.
pub(crate) fn only<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = values(head, name);
    let value = values.next();
    if values.next().is_some() { None } else { value }
}

/// A tag as received.
struct ReceivedTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

/// The tags of a list, up to the first that is malformed.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = ReceivedTag<'a>;

    fn next(&mut self) -> Option<ReceivedTag<'a>> {
        // A list may have empty elements (RFC 9110, 5.6.1.2).
        while let [b' ' | b'\t' | b',', rest @ ..] = self.0 {
            self.0 = rest;
        }
        let (weak, rest) = match self.0 {
            [b'W', b'/', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let rest = rest.strip_prefix(b"\"")?;
        let end = rest.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..))?;
        let (opaque, rest) = rest.split_at_checked(end)?;
        let after = trim(rest.strip_prefix(b"\"")?);
        if !matches!(after, [] | [b',', ..]) {
            return None;
        }
        self.0 = after;
        Some(ReceivedTag { weak, opaque })
    }
}

impl<'a, S: State> Request<'a, S> {
    /// Evaluates the preconditions of the request, and calls `respond` if it is to be carried out.
    ///
    /// `validators` are those of the current version: an [`ETag`], or [`Validators`]. The response to a `GET` or `HEAD`
    /// whose client already has that version is a 304; the response to a request that is for another version is a 412.
    /// The conditions are `If-Match`, `If-Unmodified-Since`, `If-None-Match` and `If-Modified-Since`, in this order
    /// (RFC 9110, 13.2.2). Fields that `response` already has are part of each of these responses, so add
    /// `Cache-Control` and `Vary` first.
    ///
    /// The validators become fields of the response if the request is a `GET` or `HEAD`. After a change, only the
    /// handler knows the new ones.
    ///
    /// Do not call this for a request that would be refused anyway: the preconditions of such a request do not count.
    ///
    /// ```
    /// use lightcone_http::{ETag, Http, State, Status, Validators};
    ///
    /// struct Note { text: String, version: u64 }
    ///
    /// impl State for Note {
    ///     type Message = core::convert::Infallible;
    /// }
    ///
    /// let server = Http::with(Note { text: String::new(), version: 0 })
    ///     .get("/note", |request, response| {
    ///         let etag = ETag::number(request.state.version);
    ///         request.conditional(response, etag, |request, response| response.text(&request.state.text))
    ///     })
    ///     .delete("/note", |request, response| {
    ///         let etag = ETag::number(request.state.version);
    ///         request.conditional(response, etag, |request, response| {
    ///             request.state.text.clear();
    ///             request.state.version += 1;
    ///             response.status(Status::NO_CONTENT).empty()
    ///         })
    ///     });
    /// # drop(server);
    /// ```
    pub fn conditional<'r, 'v, B>(
        self,
        response: Response<'r>,
        validators: impl Into<Validators<'v>>,
        respond: impl FnOnce(Self, Response<'r>) -> Reply<B>,
    ) -> Reply<B> {
        let validators = validators.into();
        match refused(self.head, response, &validators) {
            Ok(response) if matches!(self.head.method, Method::Get | Method::Head) => {
                respond(self, validators.add_to(response))
            }
            Ok(response) => respond(self, response),
            Err(reply) => reply.into_any(),
        }
    }
}

/// Evaluates the preconditions of a request, and returns the response of one that is to be carried out.
///
/// # Errors
/// The reply to one that is not.
pub(crate) fn refused<'r>(
    head: &Head<'_>,
    response: Response<'r>,
    validators: &Validators<'_>,
) -> Result<Response<'r>, Reply<Done>> {
    match validators.check(head, response.writer.scratch.template.second()) {
        Verdict::Proceed => Ok(response),
        Verdict::NotModified => Err(validators.add_to(response.status(Status::NOT_MODIFIED)).empty()),
        Verdict::Failed => Err(response.refuse(Status::PRECONDITION_FAILED)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec;

    use super::*;

    #[test]
    fn a_tag_is_recognised_as_it_is_sent() {
        let tags = [
            ETag::strong("v1"),
            ETag::strong(""),
            ETag::strong("\u{e4}"),
            ETag::number(0x0123_4567_89ab_cdef),
            ETag::strong("v1").coded("gzip"),
            ETag::number(9).coded("br"),
        ];
        for tag in tags {
            let text = tag.to_string();
            let opaque = &text.as_bytes()[1..text.len() - 1];
            for other in tags {
                assert_eq!(other.is(opaque), other == tag, "{other} {text}");
            }
        }
        assert!(!ETag::strong("v1").coded("gzip").is(b"v1gzip"));
    }

    #[test]
    #[should_panic(expected = "not allowed in a tag")]
    fn a_tag_with_a_quote() {
        let _ = ETag::weak("a\"b");
    }

    #[test]
    fn the_hash_depends_on_each_byte() {
        for length in 0..40 {
            let mut bytes = vec![0; length];
            let first = ETag::hash(&bytes);
            for at in 0..length {
                bytes[at] = 1;
                assert_ne!(ETag::hash(&bytes), first, "byte {at} of {length}");
                bytes[at] = 0;
            }
            assert_ne!(ETag::hash(&vec![0; length + 1]), first);
        }
    }

    #[test]
    fn lists_end_at_the_first_malformed_tag() {
        let table: [(&str, usize); 10] = [
            ("", 0),
            ("\"a\"", 1),
            ("\"a\",\"b\"", 2),
            (" , \"a\" ,W/\"b\", ", 2),
            ("\"a\" \"b\"", 0),
            ("\"a\",b", 1),
            ("w/\"a\"", 0),
            ("W/ \"a\"", 0),
            ("\"a", 0),
            ("\"a b\"", 0),
        ];
        for (list, count) in table {
            assert_eq!(Tags(list.as_bytes()).count(), count, "{list}");
        }
    }
}
