//! One strict pass over a request head, by words (RFC 9112, 2 to 5).
//!
//! **The verdict depends on the bytes alone, not on how they were cut.** A line is judged when its line feed has
//! come, so that a head in pieces and the same head at once fail at the same place; what is decided before that
//! (an impossible method, a target beyond its limit) is decided by bytes at fixed places. What was found is kept by
//! line ([`Progress`]), and the bytes of an unfinished line are searched for its end once: a dripped head costs
//! no more than its bytes.

use crate::limits::Limits;
use crate::method::Method;
use crate::status::Status;

use super::framing::{self, Facts, Known, Noted};
use super::head::{Head, Parse, VERSION_LENGTH, absolute};
use super::host::{self, LastHost};
use super::words::{self, Cursor};

/// The longest method that is looked at; longer than any that exists.
const METHOD_MAX: usize = 24;
/// Where the target starts in a request line as most are.
const PLAIN_TARGET: usize = 4;
/// What follows the target in a request line.
pub(super) const VERSION: &[u8; VERSION_LENGTH] = b" HTTP/1.1\r\n";

/// How far an unfinished head was scanned. The default value: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// What the lines before `line` said.
    facts: Noted,
    /// Where the first line starts that was not complete.
    line: u32,
    /// Up to here there is no line feed behind `line`.
    seen: u32,
}

impl Progress {
    /// An empty line was skipped, and nothing has come behind it: another one is a fault.
    pub(crate) const BLANK: Self = Self { facts: Noted::NONE, line: 0, seen: u32::MAX };

    /// Whether something has come that is to be looked at before a head is scanned.
    #[inline(always)]
    pub(crate) const fn pending(&self) -> bool {
        self.seen > 0
    }

    /// Whether a request has begun.
    pub(crate) const fn begun(&self) -> bool {
        self.seen > 0 && !self.is_blank()
    }

    pub(crate) const fn is_blank(&self) -> bool {
        self.seen == u32::MAX
    }

    #[expect(clippy::cast_possible_truncation, reason = "a head of 4 GiB is beyond every limit")]
    fn stopped(window: &[u8], line: &[u8], facts: Facts) -> Self {
        Self { facts: facts.into(), line: (window.len() - line.len()) as u32, seen: window.len() as u32 }
    }
}

/// What comes before a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blank {
    /// The head itself, if anything.
    None,
    /// Half a line end.
    Half,
    /// One empty line, to be skipped.
    One,
    /// Another one.
    More,
}

/// Looks for the one empty line that is ignored before a request (RFC 9112, 2.2): clients send it behind a body, and
/// to see whether a server is there.
#[cold]
pub(crate) fn blank(progress: &mut Progress, input: &[u8]) -> Blank {
    match input {
        _ if progress.begun() => Blank::None,
        [b'\r'] => Blank::Half,
        [b'\r', b'\n', ..] if progress.is_blank() => Blank::More,
        [b'\r', b'\n', ..] => {
            *progress = Progress::BLANK;
            Blank::One
        }
        _ => {
            *progress = Progress::default();
            Blank::None
        }
    }
}

/// Parses the head of a request that `input` starts with.
///
/// Strict where RFC 9112 leaves a choice: no bare line feeds, no white space around names, no folded lines. An empty line
/// before the request, of which a server ignores one, is no part of the head. The same bytes give the same verdict, however many have come:
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

/// A head as most are: `GET`, a path without a query, this version, and `Host` as its one field.
pub(crate) struct Plain<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) target_end: usize,
    pub(crate) bytes: &'a [u8],
    /// What follows the head.
    pub(crate) behind: &'a [u8],
}

/// How far a head is as most are: up to `at`; 0: not at all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    at: usize,
    target_end: usize,
}

/// Parses a head if it is as most are. Any other goes to [`rest`], out of line, so that it takes no registers here.
#[inline(always)]
pub(crate) fn plain<'a>(input: &'a [u8], limits: &Limits, last: &LastHost) -> Result<Plain<'a>, Start> {
    let Some((path, fields)) = plain_line(input, limits) else { return Err(Start::default()) };
    let target_end = PLAIN_TARGET + path.len();
    let Some(behind) = last.behind_alone(fields) else {
        return Err(Start { at: target_end + VERSION_LENGTH, target_end });
    };
    match input.get(..input.len() - behind.len()) {
        // what lies behind the limit is not to be looked at
        Some(bytes) if bytes.len() <= limits.head => Ok(Plain { path, target_end, bytes, behind }),
        _ => Err(Start::default()),
    }
}

/// Reads a request line as most are. Gives the path and what follows the line; `None` for any other line.
#[inline(always)]
fn plain_line<'a>(input: &'a [u8], limits: &Limits) -> Option<(&'a [u8], &'a [u8])> {
    let start = u64::from_le_bytes(*input.first_chunk::<8>()?);
    if start << 24 != u64::from_le_bytes(*b"\0\0\0GET /") {
        return None;
    }
    let target = input.get(PLAIN_TARGET..)?;
    let (path, mut cursor) = words::split_run(target, words::ends_path);
    (path.len() <= limits.target && cursor.take_version()).then_some((path, cursor.rest))
}

/// Parses a head that has come whole and is in order, whose `start` was read by [`plain`]. `None` for any other,
/// which [`resume`] judges.
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
    let mut facts = Facts::default();
    field_lines(&mut cursor, &mut facts, limits, last).ok()?;
    let framing = framing::framing(&head, &facts).ok()?;
    Some(Head { framing, bytes: cursor.since(window)?, ..head })
}

/// Parses on. `input` must start with the bytes of the calls before.
#[inline(never)]
pub(crate) fn resume<'a>(progress: &mut Progress, input: &'a [u8], limits: &Limits) -> Parse<'a> {
    // What lies behind the limit is not looked at, so it can't change the verdict.
    let window = input.get(..limits.head).unwrap_or(input);
    let parse =
        if progress.seen == 0 { start(progress, window, limits) } else { go_on(progress, window, limits) };
    match parse {
        Parse::Partial if input.len() > limits.head => Parse::Invalid(too_long(progress)),
        parse @ (Parse::Complete(_) | Parse::Partial | Parse::Invalid(_)) => parse,
    }
}

/// The head does not end within its limit.
pub(crate) const fn too_long(progress: &Progress) -> Status {
    let in_request_line = progress.line == 0;
    if in_request_line { Status::URI_TOO_LONG } else { Status::FIELDS_TOO_LARGE }
}

#[inline(never)]
fn start<'a>(progress: &mut Progress, window: &'a [u8], limits: &Limits) -> Parse<'a> {
    let mut cursor = Cursor::new(window);
    match request_line(&mut { Head::NONE }, &mut cursor, limits) {
        Ok(()) => fields(progress, Facts::default(), cursor, window, limits),
        Err(status) => judge_request_line(progress, window, limits, Some(status)),
    }
}

#[inline(never)]
fn go_on<'a>(progress: &mut Progress, window: &'a [u8], limits: &Limits) -> Parse<'a> {
    let new = window.get(progress.seen as usize..).unwrap_or(&[]);
    if !new.contains(&b'\n') {
        if progress.line == 0 {
            return judge_request_line(progress, window, limits, None);
        }
        progress.seen = Progress::stopped(window, &[], Facts::default()).seen;
        return Parse::Partial;
    }
    if progress.line == 0 {
        return start(progress, window, limits);
    }
    let mut cursor = Cursor::new(window);
    cursor.advance(progress.line as usize);
    fields(progress, progress.facts.into(), cursor, window, limits)
}

/// The field lines from the cursor on. The request line before them was found good.
fn fields<'a>(
    progress: &mut Progress,
    mut facts: Facts,
    mut cursor: Cursor<'a>,
    window: &'a [u8],
    limits: &Limits,
) -> Parse<'a> {
    if let Err(stop) = field_lines(&mut cursor, &mut facts, limits, &mut { LastHost::NONE }) {
        return judge_line(progress, window, facts, stop);
    }
    let mut head = Head::NONE;
    let request = request_line(&mut head, &mut Cursor::new(window), limits);
    match request.and_then(|()| framing::framing(&head, &facts)) {
        Ok(framing) => Parse::Complete(Head { framing, bytes: cursor.since(window).unwrap_or(&[]), ..head }),
        Err(status) => Parse::Invalid(status),
    }
}

/// What ended the scan of a line: the line, and its fault if it is whole.
struct Stop<'a> {
    line: &'a [u8],
    status: Status,
}

#[cold]
#[inline(never)]
fn judge_line<'a>(progress: &mut Progress, window: &[u8], facts: Facts, stop: Stop<'a>) -> Parse<'a> {
    if stop.line.contains(&b'\n') {
        return Parse::Invalid(stop.status);
    }
    *progress = Progress::stopped(window, stop.line, facts);
    Parse::Partial
}

/// Judges a request line that could not be parsed (`status`) or whose end has not come (`None`). Looks at the
/// target only when it may be too long, so that it is not searched anew with every byte.
#[cold]
#[inline(never)]
fn judge_request_line<'a>(
    progress: &mut Progress,
    window: &[u8],
    limits: &Limits,
    status: Option<Status>,
) -> Parse<'a> {
    *progress = Progress::stopped(window, window, Facts::default());
    let method = window.iter().take(METHOD_MAX).take_while(|byte| words::is_token(**byte)).count();
    let target = match (method, window.get(method..).unwrap_or(&[])) {
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
            return Parse::Invalid(whole.unwrap_or(Status::BAD_REQUEST)); // the line feed is overdue
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
        cursor.skip_also(words::ends_path, words::is_path);
        let path = cursor.since(start).ok_or(Status::BAD_REQUEST)?;
        (path, query(cursor))
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
    cursor.skip_also(words::ends_query, words::is_query);
    cursor.since(start)
}

/// The method and the space behind it; `None` for one that we don't know or don't do.
fn method(cursor: &mut Cursor<'_>) -> Result<Option<Method>, Status> {
    if cursor.take(b"GET ") {
        return Ok(Some(Method::Get));
    }
    if cursor.take(b"POST ") {
        return Ok(Some(Method::Post));
    }
    let start = cursor.rest;
    *cursor = cursor.skip_bytes(words::is_token);
    let name = cursor.since(start).unwrap_or(&[]);
    if name.is_empty() || !cursor.take(b" ") {
        return Err(Status::BAD_REQUEST);
    }
    // A tunnel would take what follows as its own, so nothing behind CONNECT can be answered.
    Ok(Method::from_bytes(name).filter(|method| *method != Method::Connect))
}

/// A path and a query.
type Parts<'a> = (&'a [u8], Option<&'a [u8]>);

/// A target that does not start with a slash: absolute, `*`, or that of a method we don't know.
#[cold]
#[inline(never)]
fn other_form<'a>(cursor: &mut Cursor<'a>, method: Option<Method>) -> Result<Parts<'a>, Status> {
    let start = cursor.rest;
    cursor.skip_also(words::ends_query, words::is_query);
    let target = cursor.since(start).unwrap_or(&[]);
    Ok(match (method, absolute(target)) {
        (None, _) if !target.is_empty() => (target, None),
        (Some(Method::Options), _) if target == b"*" => (target, None),
        (_, Some((authority, rest))) if host::is_valid(authority) => {
            let question = rest.iter().position(|byte| *byte == b'?');
            let (path, query) = match question.and_then(|at| rest.split_at_checked(at)) {
                Some((path, query)) => (path, query.get(1..)),
                None => (rest, None),
            };
            let all = method == Some(Method::Options) && rest.is_empty();
            let default: &[u8] = if all { b"*" } else { b"/" };
            (if path.is_empty() { default } else { path }, query)
        }
        _ => return Err(Status::BAD_REQUEST),
    })
}

/// A version that is not HTTP/1.1; the minor one to answer with. HTTP/1.2 and above count as HTTP/1.1.
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

/// The field lines and the empty line behind them. `facts` has taken in all lines before the one it stops at.
#[inline(always)]
fn field_lines<'a>(
    cursor: &mut Cursor<'a>,
    facts: &mut Facts,
    limits: &Limits,
    last: &mut LastHost,
) -> Result<(), Stop<'a>> {
    while !cursor.take(b"\r\n") {
        let line = cursor.rest;
        if facts.count >= limits.fields {
            return Err(Stop { line, status: Status::FIELDS_TOO_LARGE });
        }
        if let Err(status) = field_line(cursor, facts, last) {
            return Err(Stop { line, status });
        }
        facts.count += 1;
    }
    Ok(())
}

#[inline(always)]
fn field_line(cursor: &mut Cursor<'_>, facts: &mut Facts, last: &mut LastHost) -> Result<(), Status> {
    let line = cursor.rest;
    if !facts.has_host()
        && let Some(rest) = last.behind(line)
    {
        cursor.rest = rest;
        facts.host();
        return Ok(());
    }
    let first = cursor.word();
    if !facts.has_host() && is_host(first) && plain_host(cursor) {
        last.remember(cursor.since(line).unwrap_or(&[]));
        facts.host();
        return Ok(());
    }
    cursor.rest = line;
    cursor.skip(words::ends_name);
    if cursor.rest.first() != Some(&b':') {
        *cursor = cursor.skip_bytes(words::is_token);
        if cursor.rest.first() != Some(&b':') {
            return Err(Status::BAD_REQUEST);
        }
    }
    let name = cursor.since(line).filter(|name| !name.is_empty()).ok_or(Status::BAD_REQUEST)?;
    cursor.advance(1);
    let value = value(cursor)?;
    if let Some(field) = Known::find(name, first) {
        *facts = framing::note(*facts, field, value)?;
    }
    Ok(())
}

/// Whether a line starts with `Host: `, in any case.
#[inline(always)]
const fn is_host(first: u64) -> bool {
    const FOLD: u64 = 0x2020_2020;
    (first | FOLD) << 16 == u64::from_le_bytes(*b"\0\0host: ")
}

/// A value of `Host` as nearly all are: a name or an IPv4 address, perhaps a port. `false` if it is another.
#[inline(always)]
fn plain_host(cursor: &mut Cursor<'_>) -> bool {
    cursor.advance(6);
    let start = cursor.rest.len();
    cursor.skip(words::ends_host);
    let empty = cursor.rest.len() == start;
    if cursor.rest.first() == Some(&b':') {
        cursor.advance(1);
        cursor.skip(words::ends_digits);
    }
    !empty && cursor.take(b"\r\n")
}

/// A field value and its line end.
#[inline(always)]
fn value<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Status> {
    let start = cursor.rest;
    cursor.skip(words::ends_value);
    if !cursor.comes(b"\r\n") {
        cursor.also(words::is_value);
    }
    let value = cursor.since(start).ok_or(Status::BAD_REQUEST)?;
    if cursor.take(b"\r\n") { Ok(value) } else { Err(Status::BAD_REQUEST) }
}
