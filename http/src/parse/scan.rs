//! A strict parser of request heads, in one pass that reads eight bytes at a time (RFC 9112, 2 to 5).
//!
//! **The verdict depends only on the bytes, not on how they arrive.** A line is judged when its line feed has
//! arrived, so that a head in pieces and the same head in one piece fail at the same place. What is judged before
//! that (an impossible method, a target beyond its limit) depends only on bytes at fixed places.
//!
//! [`Progress`] keeps the facts of the complete lines, and the bytes of an incomplete line are searched for its end
//! only once. So a head that arrives byte by byte costs little more than one that arrives at once.

use crate::limits::Limits;
use crate::method::Method;
use crate::status::Status;

use super::framing::{self, HeadFacts, KnownField, PackedFacts};
use super::head::{Head, Parse, VERSION_LENGTH, absolute};
use super::host::{self, LastHost};
use super::words::{self, Cursor};

/// The length from which a method is refused without its end; longer than any existing method.
const METHOD_MAX: usize = 24;
/// Where the target starts in the common-case request line.
const PLAIN_TARGET: usize = 4;
/// What follows the target in a request line.
pub(super) const VERSION: &[u8; VERSION_LENGTH] = b" HTTP/1.1\r\n";

/// How far an incomplete head was scanned. The default value: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The facts of the lines before `line`.
    facts: PackedFacts,
    /// The start of the first incomplete line.
    line: u32,
    /// The end of the bytes that were searched for a line feed. There is none between `line` and here.
    seen: u32,
}

impl Progress {
    /// An empty line was skipped, and nothing has arrived after it. Another empty line is an error.
    pub(crate) const BLANK: Self = Self { facts: PackedFacts::NONE, line: 0, seen: u32::MAX };

    /// Returns whether there is progress that has to be taken into account before a head is scanned.
    #[inline(always)]
    pub(crate) const fn pending(&self) -> bool {
        self.seen > 0
    }

    /// Returns whether a request has begun.
    pub(crate) const fn begun(&self) -> bool {
        self.seen > 0 && !self.is_blank()
    }

    /// Returns whether an empty line was skipped.
    pub(crate) const fn is_blank(&self) -> bool {
        self.seen == u32::MAX
    }

    /// Returns the progress when the scan stops at an incomplete line.
    #[expect(clippy::cast_possible_truncation, reason = "a head of 4 GiB is beyond every limit")]
    fn stopped(window: &[u8], line: &[u8], facts: HeadFacts) -> Self {
        Self { facts: facts.into(), line: (window.len() - line.len()) as u32, seen: window.len() as u32 }
    }
}

/// Parses the request head at the start of `input`.
///
/// The parser is strict where RFC 9112 leaves a choice: no bare line feeds, no white space around names, no folded
/// lines. An empty line before the request, of which a server ignores one, is not part of the head.
///
/// The verdict depends only on the bytes, not on how they arrive:
///
/// ```
/// use lightcone_http::{Limits, Method, Parse, parse};
/// let request = b"GET /foo?bar HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// let Parse::Complete(head) = parse(request, &Limits::DEFAULT) else { panic!() };
/// assert_eq!((head.method, head.path, head.query), (Method::Get, &b"/foo"[..], Some(&b"bar"[..])));
/// assert_eq!(parse(&request[..40], &Limits::DEFAULT), Parse::Partial);
/// ```
pub fn parse<'a>(input: &'a [u8], limits: &Limits) -> Parse<'a> {
    resume(&mut Progress::default(), input, limits)
}

/// The common-case head: `GET`, a path without a query, HTTP/1.1, and `Host` as its only field.
pub(crate) struct Plain<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) target_end: usize,
    pub(crate) bytes: &'a [u8],
    /// What follows the head.
    pub(crate) after: &'a [u8],
}

/// How much of a head is the common case: everything up to `at`; 0 if the request line is not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    at: usize,
    target_end: usize,
}

/// Parses the common-case head. Any other is left to [`rest`], out of line, so that it takes no registers here.
#[inline(always)]
pub(crate) fn plain<'a>(input: &'a [u8], limits: &Limits, last: &LastHost) -> Result<Plain<'a>, Start> {
    let Some((path, fields)) = plain_line(input, limits) else { return Err(Start::default()) };
    let target_end = PLAIN_TARGET + path.len();
    let Some(after) = last.after_only(fields) else {
        return Err(Start { at: target_end + VERSION_LENGTH, target_end });
    };
    match input.get(..input.len() - after.len()) {
        // Bytes beyond the limit must not be read, so that they cannot change the verdict.
        Some(bytes) if bytes.len() <= limits.head => Ok(Plain { path, target_end, bytes, after }),
        _ => Err(Start::default()),
    }
}

/// Reads the common-case request line. Returns the path and what follows the line; `None` for any other line.
#[inline(always)]
fn plain_line<'a>(input: &'a [u8], limits: &Limits) -> Option<(&'a [u8], &'a [u8])> {
    // The first five of eight bytes are compared: the shift drops the last three.
    let start = u64::from_le_bytes(*input.first_chunk::<8>()?);
    if start << 24 != u64::from_le_bytes(*b"\0\0\0GET /") {
        return None;
    }
    let target = input.get(PLAIN_TARGET..)?;
    let (path, mut cursor) = words::split_run(target, words::ends_path);
    (path.len() <= limits.target && cursor.take_version()).then_some((path, cursor.rest))
}

/// Parses a complete and valid head, of which [`plain`] has read the `start`. Returns `None` for any other, which
/// [`resume`] judges.
pub(crate) fn rest<'a>(
    input: &'a [u8],
    start: Start,
    limits: &Limits,
    last: &mut LastHost,
) -> Option<Head<'a>> {
    let Start { at, target_end } = start;
    let window = input.get(..limits.head).unwrap_or(input);
    let mut cursor = Cursor::new(window);
    let mut head = Head::plain(window.get(PLAIN_TARGET..target_end).unwrap_or(&[]), target_end, window);
    if at == 0 {
        request_line(&mut head, &mut cursor, limits).ok()?;
    } else {
        cursor.advance(at);
    }
    let mut facts = HeadFacts::default();
    field_lines(&mut cursor, &mut facts, limits, last).ok()?;
    let framing = framing::framing(head.method, head.minor, &facts).ok()?;
    Some(Head { framing, bytes: cursor.since(window), ..head })
}

/// Continues to parse a head. `input` must start with the bytes of the previous calls.
#[inline(never)]
pub(crate) fn resume<'a>(progress: &mut Progress, input: &'a [u8], limits: &Limits) -> Parse<'a> {
    // Bytes beyond the limit are not read, so they cannot change the verdict.
    let window = input.get(..limits.head).unwrap_or(input);
    let parse = if progress.seen == 0 {
        start(progress, window, limits)
    } else {
        scan_more(progress, window, limits)
    };
    match parse {
        Parse::Partial if input.len() > limits.head => Parse::Invalid(too_long(progress)),
        parse @ (Parse::Complete(_) | Parse::Partial | Parse::Invalid(_)) => parse,
    }
}

/// Returns the status for a head that does not end within its limit.
pub(crate) const fn too_long(progress: &Progress) -> Status {
    let in_request_line = progress.line == 0;
    if in_request_line { Status::URI_TOO_LONG } else { Status::FIELDS_TOO_LARGE }
}

/// Parses a head from its first byte.
#[inline(never)]
fn start<'a>(progress: &mut Progress, window: &'a [u8], limits: &Limits) -> Parse<'a> {
    let mut cursor = Cursor::new(window);
    match request_line(&mut { Head::NONE }, &mut cursor, limits) {
        Ok(()) => fields(progress, HeadFacts::default(), cursor, window, limits),
        Err(status) => judge_request_line(progress, window, limits, Some(status)),
    }
}

/// Parses a head from its first incomplete line.
#[inline(never)]
fn scan_more<'a>(progress: &mut Progress, window: &'a [u8], limits: &Limits) -> Parse<'a> {
    let new = window.get(progress.seen as usize..).unwrap_or(&[]);
    if !new.contains(&b'\n') {
        // The line is still incomplete. Only a request line may be refused before its end.
        if progress.line == 0 {
            return judge_request_line(progress, window, limits, None);
        }
        progress.seen = Progress::stopped(window, &[], HeadFacts::default()).seen;
        return Parse::Partial;
    }
    if progress.line == 0 {
        return start(progress, window, limits);
    }
    let mut cursor = Cursor::new(window);
    cursor.advance(progress.line as usize);
    fields(progress, progress.facts.into(), cursor, window, limits)
}

/// Parses the field lines from the cursor on, after a valid request line.
fn fields<'a>(
    progress: &mut Progress,
    mut facts: HeadFacts,
    mut cursor: Cursor<'a>,
    window: &'a [u8],
    limits: &Limits,
) -> Parse<'a> {
    if let Err(stop) = field_lines(&mut cursor, &mut facts, limits, &mut { LastHost::NONE }) {
        return judge_line(progress, window, facts, stop);
    }
    // The request line is read again: a connection has no room to keep its spans between calls.
    let mut head = Head::NONE;
    let request = request_line(&mut head, &mut Cursor::new(window), limits);
    match request.and_then(|()| framing::framing(head.method, head.minor, &facts)) {
        Ok(framing) => Parse::Complete(Head { framing, bytes: cursor.since(window), ..head }),
        Err(status) => Parse::Invalid(status),
    }
}

/// Why the scan stopped at a line: the status applies if the line is complete, otherwise the line is incomplete.
struct ScanStop<'a> {
    /// All input from the start of the line.
    line: &'a [u8],
    status: Status,
}

/// Judges a field line at which the scan stopped: invalid if it is complete, otherwise to be continued.
#[cold]
#[inline(never)]
fn judge_line<'a>(progress: &mut Progress, window: &[u8], facts: HeadFacts, stop: ScanStop<'a>) -> Parse<'a> {
    if stop.line.contains(&b'\n') {
        return Parse::Invalid(stop.status);
    }
    *progress = Progress::stopped(window, stop.line, facts);
    Parse::Partial
}

/// Judges a request line that could not be parsed (`status`) or is incomplete (`None`). The target is examined only
/// when it may be too long, so that it is not searched again with every byte that arrives.
#[cold]
#[inline(never)]
fn judge_request_line<'a>(
    progress: &mut Progress,
    window: &[u8],
    limits: &Limits,
    status: Option<Status>,
) -> Parse<'a> {
    *progress = Progress::stopped(window, window, HeadFacts::default());
    let method = window.iter().take(METHOD_MAX).take_while(|byte| words::is_token(**byte)).count();
    let target = match (method, window.split_at(method).1) {
        (METHOD_MAX, _) => return Parse::Invalid(Status::NOT_IMPLEMENTED),
        (_, []) => return Parse::Partial,
        (1.., [b' ', target @ ..]) => target,
        _ => return Parse::Invalid(Status::BAD_REQUEST),
    };
    let whole = status.filter(|_| target.contains(&b'\n'));
    if target.len() > limits.target {
        let end = target.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n')).unwrap_or(target.len());
        if end > limits.target {
            return Parse::Invalid(Status::URI_TOO_LONG);
        }
        if target.len() - end >= VERSION.len() {
            // A valid version would have ended the line by now.
            return Parse::Invalid(whole.unwrap_or(Status::BAD_REQUEST));
        }
    }
    whole.map_or(Parse::Partial, Parse::Invalid)
}

/// Reads any request line.
#[inline(never)]
fn request_line<'a>(head: &mut Head<'a>, cursor: &mut Cursor<'a>, limits: &Limits) -> Result<(), Status> {
    let method = method(cursor)?;
    let start = cursor.rest;
    (head.path, head.query) = if start.first() == Some(&b'/') {
        cursor.skip_encoded(words::ends_path, words::is_path);
        (cursor.since(start), query(cursor))
    } else {
        other_form(cursor, method)?
    };
    if start.len() - cursor.rest.len() > limits.target {
        return Err(Status::URI_TOO_LONG);
    }
    head.target_end = cursor.at();
    head.minor = if cursor.take(VERSION) { 1 } else { version(cursor)? };
    head.method = method.ok_or(Status::NOT_IMPLEMENTED)?;
    Ok(())
}

#[inline(always)]
fn query<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    if cursor.rest.first() != Some(&b'?') {
        return None;
    }
    cursor.advance(1);
    let start = cursor.rest;
    cursor.skip_encoded(words::ends_query, words::is_query);
    Some(cursor.since(start))
}

/// Reads the method and the space after it; `None` for a method that is unknown or not supported.
fn method(cursor: &mut Cursor<'_>) -> Result<Option<Method>, Status> {
    if cursor.take(b"GET ") {
        return Ok(Some(Method::Get));
    }
    if cursor.take(b"POST ") {
        return Ok(Some(Method::Post));
    }
    let start = cursor.rest;
    *cursor = cursor.skip_bytes(words::is_token);
    let name = cursor.since(start);
    if name.is_empty() || !cursor.take(b" ") {
        return Err(Status::BAD_REQUEST);
    }
    // What follows a CONNECT belongs to the tunnel and cannot be read as requests, so CONNECT is not supported.
    Ok(Method::from_bytes(name).filter(|method| *method != Method::Connect))
}

/// A path and a query of a target.
type Parts<'a> = (&'a [u8], Option<&'a [u8]>);

/// Reads a target that does not start with a slash: one in absolute form, `*`, or any for an unknown method.
#[cold]
#[inline(never)]
fn other_form<'a>(cursor: &mut Cursor<'a>, method: Option<Method>) -> Result<Parts<'a>, Status> {
    let start = cursor.rest;
    cursor.skip_encoded(words::ends_query, words::is_query);
    let target = cursor.since(start);
    Ok(match (method, absolute(target)) {
        // The request is refused with 501, regardless of its target: that of a CONNECT is a host and a port.
        (None, _) if !target.is_empty() => (target, None),
        (Some(Method::Options), _) if target == b"*" => (target, None),
        // A server has to accept this form although only proxies need it (RFC 9112, 3.2.2).
        (_, Some((authority, rest))) if host::is_valid(authority) => {
            let question = rest.iter().position(|byte| *byte == b'?');
            let (path, query) = match question.and_then(|at| rest.split_at_checked(at)) {
                Some((path, query)) => (path, query.get(1..)),
                None => (rest, None),
            };
            // An empty path is `/`, but an OPTIONS with neither path nor query is for the server (RFC 9112, 3.2.4).
            let all = method == Some(Method::Options) && rest.is_empty();
            let default: &[u8] = if all { b"*" } else { b"/" };
            (if path.is_empty() { default } else { path }, query)
        }
        _ => return Err(Status::BAD_REQUEST),
    })
}

/// Reads a version other than HTTP/1.1; returns the minor version to respond with. HTTP/1.2 and above count as
/// HTTP/1.1.
#[cold]
#[inline(never)]
fn version(cursor: &mut Cursor<'_>) -> Result<u8, Status> {
    let Some((line, rest)) = cursor.rest.split_first_chunk::<11>() else { return Err(Status::BAD_REQUEST) };
    let [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n'] = line else {
        return Err(Status::BAD_REQUEST);
    };
    if !major.is_ascii_digit() || !minor.is_ascii_digit() {
        return Err(Status::BAD_REQUEST);
    }
    cursor.rest = rest;
    match (major, minor) {
        (b'1', b'0') => Ok(0),
        (b'1', _) => Ok(1),
        _ => Err(Status::VERSION_NOT_SUPPORTED),
    }
}

/// Reads the field lines and the empty line after them. After an error, `facts` contains all lines before the one in
/// [`ScanStop`].
#[inline(always)]
fn field_lines<'a>(
    cursor: &mut Cursor<'a>,
    facts: &mut HeadFacts,
    limits: &Limits,
    last: &mut LastHost,
) -> Result<(), ScanStop<'a>> {
    while !cursor.take(b"\r\n") {
        let line = cursor.rest;
        if facts.count >= limits.fields {
            return Err(ScanStop { line, status: Status::FIELDS_TOO_LARGE });
        }
        if let Err(status) = field_line(cursor, facts, last) {
            return Err(ScanStop { line, status });
        }
        facts.count += 1;
    }
    Ok(())
}

/// Reads one field line. For a line that is incomplete it also returns an error, which `judge_line` ignores.
#[inline(always)]
fn field_line(cursor: &mut Cursor<'_>, facts: &mut HeadFacts, last: &mut LastHost) -> Result<(), Status> {
    let line = cursor.rest;
    // The fast paths below skip the check for a second `Host`, so they apply only to the first.
    if !facts.has_host()
        && let Some(rest) = last.after(line)
    {
        cursor.rest = rest;
        facts.host();
        return Ok(());
    }
    let first = cursor.word();
    if !facts.has_host() && plain_host(cursor, first) {
        last.remember(cursor.since(line));
        facts.host();
        return Ok(());
    }
    cursor.rest = line; // `plain_host` may have advanced it
    let (name, value) = name_and_value(cursor)?;
    if let Some(field) = KnownField::find(name, first) {
        *facts = framing::note(*facts, field, value)?;
    }
    Ok(())
}

/// Reads one field line, of a request or a response.
#[inline(always)]
pub(crate) fn name_and_value<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], &'a [u8]), Status> {
    let line = cursor.rest;
    cursor.skip(words::ends_name);
    if cursor.rest.first() != Some(&b':') {
        *cursor = cursor.skip_bytes(words::is_token);
        if cursor.rest.first() != Some(&b':') {
            return Err(Status::BAD_REQUEST);
        }
    }
    let name = cursor.since(line);
    if name.is_empty() {
        return Err(Status::BAD_REQUEST);
    }
    cursor.advance(1);
    Ok((name, value(cursor)?))
}

/// Skips a line that starts with `Host: `, in any case, if its value is a common one: a name or an IPv4 address,
/// perhaps with a port. Returns `false` for any other line. `first` is the first word of the line.
#[inline(always)]
fn plain_host(cursor: &mut Cursor<'_>, first: u64) -> bool {
    // Folds the four letters; the shift drops the two bytes after the space.
    const FOLD: u64 = 0x2020_2020;
    if (first | FOLD) << 16 != u64::from_le_bytes(*b"\0\0host: ") {
        return false;
    }
    cursor.advance(6);
    let start = cursor.rest.len();
    cursor.skip(words::ends_host);
    let empty = cursor.rest.len() == start;
    let mut port = &[][..];
    if cursor.rest.first() == Some(&b':') {
        cursor.advance(1);
        let rest = cursor.rest;
        cursor.skip(words::ends_digits);
        port = cursor.since(rest);
    }
    // Numbers of the same length are in the order of their digits. A longer one may begin with zeros.
    let fits = port.len() < 5 || (port.len() == 5 && port <= &b"65535"[..]);
    !empty && fits && cursor.take(b"\r\n")
}

/// Reads a field value and its line end.
#[inline(always)]
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Status> {
    let start = cursor.rest;
    cursor.skip(words::ends_value);
    if cursor.rest.first_chunk() != Some(b"\r\n") {
        cursor.also(words::is_value);
    }
    let value = cursor.since(start);
    if cursor.take(b"\r\n") { Ok(value) } else { Err(Status::BAD_REQUEST) }
}
