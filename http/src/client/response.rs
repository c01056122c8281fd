//! The parser of responses: pure functions of the received bytes (RFC 9112, 4 to 7).

use core::fmt;
use core::time::Duration;

use crate::method::Method;
use crate::parse::chunked::{Count, Decoder};
use crate::parse::framing::{self, Body, HeadFacts, KnownField, PackedFacts};
use crate::parse::head::Fields;
use crate::parse::scan;
use crate::parse::trailers::Trailers;
use crate::parse::words::{Cursor, is_value, trim};
use crate::status::Status;

use super::limits::ClientLimits;

/// What each response starts with.
const PREFIX: &[u8; 7] = b"HTTP/1.";
/// The length of the part of a status line that has a fixed length: `HTTP/1.1 200`.
const CODE_END: usize = 12;

/// How the body of a response is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Delimiter {
    /// There is no body, by the request's method or the status.
    None,
    /// By `Content-Length`.
    Length(u64),
    /// By `Transfer-Encoding: chunked`.
    Chunked,
    /// By the end of the connection.
    Close,
    /// The bytes that follow are no HTTP: after status 101, and after a `CONNECT` that succeeded.
    Upgrade,
}

/// Why bytes are not an acceptable response. The connection cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum InvalidResponse {
    /// The bytes do not begin with an HTTP/1 status line.
    StatusLine,
    /// A field line is malformed: a bare line feed, a name that is no token, white space before the colon, a
    /// continuation of the line before.
    Field,
    /// The length of the body is malformed, occurs twice, or contradicts the coding.
    Framing,
    /// The body has a transfer coding other than `chunked`.
    Coding,
    /// The head exceeds [`ClientLimits::head`] or [`ClientLimits::fields`].
    HeadTooLarge,
    /// More interim responses than [`ClientLimits::interims`] came before the final one.
    TooManyInterims,
    /// The body exceeds [`ClientLimits::body`], or the extensions of its chunks exceed 16 KiB in total.
    BodyTooLarge,
    /// The framing of a chunk is malformed, or the line with its size and extensions exceeds 256 bytes.
    Chunk,
    /// The trailer section of a chunked body exceeds 8 KiB, or the input of the connection if it is
    /// [kept](ResponseReader::keep_trailers).
    Trailers,
    /// The connection ended before the response was complete.
    Truncated,
    /// The server has switched to another protocol, which was not requested.
    Upgrade,
}

impl fmt::Display for InvalidResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "no HTTP/1 status line",
            Self::Field => "a malformed field line",
            Self::Framing => "an invalid or contradictory length",
            Self::Coding => "an unknown transfer coding",
            Self::HeadTooLarge => "a head beyond its limit",
            Self::TooManyInterims => "too many interim responses",
            Self::BodyTooLarge => "a body beyond its limit",
            Self::Chunk => "a malformed chunk",
            Self::Trailers => "trailer fields beyond their limit",
            Self::Upgrade => "a switch to another protocol that was not requested",
            Self::Truncated => "the connection ended within the response",
        })
    }
}

impl core::error::Error for InvalidResponse {}

/// The head of a response: spans of the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: Status,
    /// The minor version: 0 for HTTP/1.0, otherwise 1 (a higher one is taken as 1, RFC 9110, 2.5).
    pub minor: u8,
    /// The reason phrase, which may be empty and has no meaning.
    pub reason: &'a [u8],
    /// How the body is delimited.
    pub delimiter: Delimiter,
    keep_alive: bool,
    /// The whole head, including the final empty line.
    bytes: &'a [u8],
    /// The start of the field lines in `bytes`.
    fields: usize,
}

impl<'a> ResponseHead<'a> {
    /// Returns whether the connection can be used for another request when the body is over, by this head and the
    /// interim ones before it.
    pub const fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Returns the value of the first field with this name, without the white space around it. The case of names is
    /// ignored.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// Like [`field`](Self::field), for a value that is text. Also `None` if the value is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.field(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Returns all fields in the order received.
    pub fn fields(&self) -> Fields<'a> {
        Fields::of(self.bytes.get(self.fields..).unwrap_or_default())
    }

    /// Returns the head as received, including the final empty line.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns how long the server keeps the connection open while it is idle, if it announces that: the parameter
    /// `timeout` of the field `Keep-Alive`.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_http::Method;
    /// use lightcone_http::client::{ClientLimits, Piece, ResponseReader};
    ///
    /// let limits = ClientLimits::DEFAULT;
    /// let mut reader = ResponseReader::new(Method::Get, &limits);
    /// let bytes = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 0\r\n\r\n";
    /// let Ok(Piece::Head(head)) = reader.next(bytes, &limits) else { panic!() };
    /// assert_eq!(head.idle_time(), Some(Duration::from_secs(5)));
    /// ```
    pub fn idle_time(&self) -> Option<Duration> {
        let parameters = self.field("keep-alive")?.split(|byte| *byte == b',').map(trim);
        let mut values = parameters.filter_map(|parameter| {
            let (name, value) = parameter.split_at_checked(8)?;
            name.eq_ignore_ascii_case(b"timeout=").then_some(value)
        });
        core::str::from_utf8(values.next()?).ok()?.parse().ok().map(Duration::from_secs)
    }
}

/// What comes next in the received bytes. The caller consumes the bytes that the variant names before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Piece<'a> {
    /// The head of an interim response (1xx), which the final response follows. Consume it: its length is that of
    /// [`ResponseHead::as_bytes`].
    Interim(ResponseHead<'a>),
    /// The head of the final response. Consume it.
    Head(ResponseHead<'a>),
    /// This many bytes of the framing of a chunked body. Consume them.
    Framing(usize),
    /// Bytes of the body, at least one. Consume all or a part of them, and report how many by
    /// [`ResponseReader::took`].
    Data(&'a [u8]),
    /// The trailer section of a chunked body, if it has fields and the reader [keeps](ResponseReader::keep_trailers)
    /// them. Consume it: its length is that of [`Trailers::as_bytes`].
    Trailers(Trailers<'a>),
    /// The response is complete. What follows in the input is not part of it.
    End,
    /// More bytes are needed. The bytes so far stay in place.
    More,
}

/// What is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Head,
    /// A body of which this many bytes are left.
    Length(Count),
    Chunked(Decoder),
    /// A trailer section of this many bytes, which was checked.
    Trailers(u16),
    Close,
    End,
}

/// Reads one response from the bytes of a connection, without a buffer.
///
/// The verdict depends only on the bytes, not on how they arrive. It is stricter than RFC 9112 demands of a client:
/// folded lines, bare line feeds, repeated lengths and unknown codings are refused, since another parser could read
/// them differently.
///
/// ```
/// use lightcone_http::Method;
/// use lightcone_http::client::{ClientLimits, Piece, ResponseReader};
///
/// let mut input = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..];
/// let limits = ClientLimits::DEFAULT;
/// let mut reader = ResponseReader::new(Method::Get, &limits);
/// let mut body = Vec::new();
/// loop {
///     let consumed = match reader.next(input, &limits)? {
///         Piece::Interim(head) | Piece::Head(head) => head.as_bytes().len(),
///         Piece::Framing(length) => length,
///         Piece::Data(data) => {
///             body.extend_from_slice(data);
///             reader.took(data.len());
///             data.len()
///         }
///         Piece::Trailers(trailers) => trailers.as_bytes().len(),
///         Piece::End | Piece::More => break,
///     };
///     input = &input[consumed..];
/// }
/// assert_eq!((&body[..], reader.is_complete()), (&b"abc"[..], true));
/// # Ok::<(), lightcone_http::client::InvalidResponse>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ResponseReader {
    method: Method,
    stage: Stage,
    /// How much of the head was scanned: the start of the first incomplete line, and the end of the bytes that contain
    /// no other line feed.
    line: u32,
    seen: u32,
    facts: PackedFacts,
    interims: u8,
    /// Bytes of the body that may still come, if it ends with the connection.
    allowed: Count,
    /// Whether no head so far has announced that the connection ends.
    keep_alive: bool,
    keeps_trailers: bool,
}

impl ResponseReader {
    /// Creates a reader for the response to a request with this method.
    pub const fn new(method: Method, limits: &ClientLimits) -> Self {
        Self {
            method,
            stage: Stage::Head,
            line: 0,
            seen: 0,
            facts: PackedFacts::NONE,
            interims: 0,
            allowed: Count::new(limits.body),
            keep_alive: true,
            keeps_trailers: false,
        }
    }

    /// Keeps the trailer fields of a chunked body: they become a [`Piece::Trailers`] when all of them have arrived.
    /// Until then they stay in the input, which needs room for up to 8 KiB. Otherwise they are checked and dropped.
    ///
    /// ```
    /// use lightcone_http::Method;
    /// use lightcone_http::client::{ClientLimits, Piece, ResponseReader};
    ///
    /// let mut input = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nDigest: x\r\n\r\n"[..];
    /// let limits = ClientLimits::DEFAULT;
    /// let mut reader = ResponseReader::new(Method::Get, &limits);
    /// reader.keep_trailers();
    /// let mut digest = None;
    /// loop {
    ///     let consumed = match reader.next(input, &limits)? {
    ///         Piece::Interim(head) | Piece::Head(head) => head.as_bytes().len(),
    ///         Piece::Framing(length) => length,
    ///         Piece::Data(data) => {
    ///             reader.took(data.len());
    ///             data.len()
    ///         }
    ///         Piece::Trailers(trailers) => {
    ///             digest = trailers.text("digest");
    ///             trailers.as_bytes().len()
    ///         }
    ///         Piece::End | Piece::More => break,
    ///     };
    ///     input = &input[consumed..];
    /// }
    /// assert_eq!((digest, reader.is_complete()), (Some("x"), true));
    /// # Ok::<(), lightcone_http::client::InvalidResponse>(())
    /// ```
    pub const fn keep_trailers(&mut self) {
        self.keeps_trailers = true;
    }

    /// Returns what comes next at the start of `input`. The limits are the same in each call.
    ///
    /// As long as the result is [`Piece::More`], `input` must start with the same bytes.
    ///
    /// # Errors
    ///
    /// The bytes are not an acceptable response. Nothing that follows can be trusted.
    pub fn next<'a>(&mut self, input: &'a [u8], limits: &ClientLimits) -> Result<Piece<'a>, InvalidResponse> {
        match &mut self.stage {
            Stage::Head => self.head(input, limits),
            Stage::Length(left) => Ok(data(input, left.get())),
            Stage::Close if self.allowed.is_zero() && !input.is_empty() => Err(InvalidResponse::BodyTooLarge),
            Stage::Close => Ok(data(input, self.allowed.get())),
            Stage::Chunked(decoder) => {
                let next = decoder.data();
                if next > 0 {
                    return Ok(data(input, next));
                }
                let (kept, length) = framing(decoder, input, limits, self.keeps_trailers)?;
                let done = decoder.is_done();
                let last = if kept == 0 { Stage::End } else { Stage::Trailers(kept) };
                self.stage = if done { last } else { self.stage };
                match (length, self.stage) {
                    (0, Stage::Trailers(kept)) => Ok(self.trailers(input, kept)),
                    (0, _) => Ok(Piece::More),
                    (1.., _) => Ok(Piece::Framing(length)),
                }
            }
            Stage::Trailers(kept) => {
                let kept = *kept;
                Ok(self.trailers(input, kept))
            }
            Stage::End => Ok(Piece::End),
        }
    }

    /// Counts bytes of [`Piece::Data`] as consumed. A length beyond that of the piece is an error of the caller, which
    /// is not reported.
    pub const fn took(&mut self, length: usize) {
        match &mut self.stage {
            Stage::Length(left) => {
                left.subtract(length as u64);
                if left.is_zero() {
                    self.stage = Stage::End;
                }
            }
            Stage::Chunked(decoder) => decoder.advance(length as u64),
            Stage::Close => self.allowed.subtract(length as u64),
            Stage::Head | Stage::Trailers(_) | Stage::End => {}
        }
    }

    /// Handles the end of the connection, after all bytes: it also ends a body that is delimited by it.
    ///
    /// # Errors
    ///
    /// [`InvalidResponse::Truncated`] if the response was not complete.
    pub const fn finish(&mut self) -> Result<(), InvalidResponse> {
        match self.stage {
            Stage::Close | Stage::Trailers(_) | Stage::End => {
                self.stage = Stage::End;
                Ok(())
            }
            Stage::Head | Stage::Length(_) | Stage::Chunked(_) => Err(InvalidResponse::Truncated),
        }
    }

    /// Returns whether the whole response was read.
    pub const fn is_complete(&self) -> bool {
        matches!(self.stage, Stage::End)
    }

    /// Returns whether the head of the final response was read.
    pub const fn has_head(&self) -> bool {
        !matches!(self.stage, Stage::Head)
    }

    /// Returns whether the connection can be used for another request: the response is complete, and neither side has
    /// announced that the connection ends.
    pub const fn keep_alive(&self) -> bool {
        self.is_complete() && self.keep_alive
    }

    /// Returns the error if the input is full, and more bytes are needed.
    pub(super) const fn full(&self) -> InvalidResponse {
        if self.has_head() { InvalidResponse::Trailers } else { InvalidResponse::HeadTooLarge }
    }

    /// Scans the lines of the head that are complete, each once.
    #[expect(clippy::cast_possible_truncation, reason = "a head of 4 GiB is beyond every limit")]
    fn head<'a>(&mut self, input: &'a [u8], limits: &ClientLimits) -> Result<Piece<'a>, InvalidResponse> {
        // Bytes beyond the limit are not read, so they cannot change the verdict.
        let window = input.get(..limits.head).unwrap_or(input);
        let start = window.get(..PREFIX.len()).unwrap_or(window);
        if self.line == 0 && !PREFIX.starts_with(start) {
            return Err(InvalidResponse::StatusLine);
        }
        while let Some(end) = line_end(window, self.seen as usize) {
            let line = window.get(self.line as usize..end).unwrap_or_default();
            let first = self.line == 0;
            (self.line, self.seen) = (end as u32, end as u32);
            if first {
                status_line(line)?;
            } else if line == b"\r\n" {
                return self.end_head(window.get(..end).unwrap_or_default(), limits);
            } else {
                self.facts = field_line(line, self.facts.into(), limits)?.into();
            }
        }
        self.seen = window.len() as u32;
        if input.len() > limits.head { Err(InvalidResponse::HeadTooLarge) } else { Ok(Piece::More) }
    }

    /// Ends the response with a trailer section of this length at the front of `input`.
    fn trailers<'a>(&mut self, input: &'a [u8], length: u16) -> Piece<'a> {
        self.stage = Stage::End;
        match input.get(..length.into()).unwrap_or_default() {
            b"\r\n" => Piece::Framing(2), // no fields
            section => Piece::Trailers(Trailers::of(section)),
        }
    }

    /// Determines what follows a head, of which each line is valid.
    fn end_head<'a>(&mut self, bytes: &'a [u8], limits: &ClientLimits) -> Result<Piece<'a>, InvalidResponse> {
        let fields = line_end(bytes, 0).unwrap_or(bytes.len());
        let (status, minor, reason) = status_line(bytes.get(..fields).unwrap_or_default())?;
        let facts: HeadFacts = self.facts.into();
        let announced = framing::announced(minor, &facts).map_err(|status| match status {
            Status::NOT_IMPLEMENTED => InvalidResponse::Coding,
            _ => InvalidResponse::Framing,
        })?;
        let delimiter = delimiter(status, self.method, announced);
        // A body that the status excludes may follow nevertheless, and would be taken for the next response.
        let surprising = !status.has_body() && status != Status::NOT_MODIFIED && !is_empty(announced);
        // Also if only an interim response says so (RFC 9112, 9.6).
        self.keep_alive &= framing::keep_alive(minor, &facts)
            && !surprising
            && !matches!(delimiter, Delimiter::Close | Delimiter::Upgrade);
        let keep_alive = self.keep_alive;
        let head = ResponseHead { status, minor, reason, delimiter, keep_alive, bytes, fields };
        (self.line, self.seen, self.facts) = (0, 0, PackedFacts::NONE);
        if status.is_interim() && delimiter == Delimiter::None {
            self.interims = self.interims.saturating_add(1);
            if surprising {
                return Err(InvalidResponse::Framing);
            }
            if self.interims > limits.interims {
                return Err(InvalidResponse::TooManyInterims);
            }
            return Ok(Piece::Interim(head));
        }
        self.stage = match delimiter {
            Delimiter::None | Delimiter::Upgrade | Delimiter::Length(0) => Stage::End,
            Delimiter::Length(length) if length > limits.body.min(Count::MAX) => {
                return Err(InvalidResponse::BodyTooLarge);
            }
            Delimiter::Length(length) => Stage::Length(Count::new(length)),
            Delimiter::Chunked => Stage::Chunked(Decoder::new(&limits.chunks())),
            Delimiter::Close => Stage::Close,
        };
        Ok(Piece::Head(head))
    }
}

/// Reads the framing of a chunked body; returns how many bytes of a trailer section are kept in the input, and how many
/// bytes before them are to be consumed.
fn framing(
    decoder: &mut Decoder,
    input: &[u8],
    limits: &ClientLimits,
    keeps_trailers: bool,
) -> Result<(u16, usize), InvalidResponse> {
    if keeps_trailers {
        let length =
            decoder.frame_before_trailers(input, &limits.chunks(), usize::MAX).map_err(chunk_error)?;
        Ok((decoder.trailer_bytes(), length))
    } else {
        Ok((0, decoder.frame(input, &limits.chunks()).map_err(chunk_error)?))
    }
}

/// Returns the bytes of a body at the start of `input`, at most `most`.
fn data(input: &[u8], most: u64) -> Piece<'_> {
    let length = usize::try_from(most).unwrap_or(usize::MAX);
    match input.get(..length).unwrap_or(input) {
        [] => Piece::More,
        data => Piece::Data(data),
    }
}

/// Returns the end of the first line that ends at or after `from`.
fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let at = bytes.get(from..)?.iter().position(|byte| *byte == b'\n')?;
    Some(from + at + 1)
}

/// Reads a status line; returns the status, the minor version and the reason phrase. The space after the code may be
/// missing, as in the responses of some servers, since nothing else could follow.
fn status_line(line: &[u8]) -> Result<(Status, u8, &[u8]), InvalidResponse> {
    let text = line.strip_suffix(b"\r\n").ok_or(InvalidResponse::StatusLine)?;
    let (start, reason) = text.split_at_checked(CODE_END).ok_or(InvalidResponse::StatusLine)?;
    let (Some(&[minor, b' ', a, b, c]), reason) = (
        start.strip_prefix(PREFIX).and_then(|rest| rest.first_chunk::<5>()),
        reason.strip_prefix(b" ").or(if reason.is_empty() { Some(reason) } else { None }),
    ) else {
        return Err(InvalidResponse::StatusLine);
    };
    let digits = [minor, a, b, c].iter().all(u8::is_ascii_digit);
    let code = [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(digit.wrapping_sub(b'0')));
    match (Status::new(code), reason) {
        (Some(status), Some(reason)) if digits && reason.iter().all(|byte| is_value(*byte)) => {
            Ok((status, u8::from(minor != b'0'), reason))
        }
        _ => Err(InvalidResponse::StatusLine),
    }
}

/// Adds a complete field line to the facts.
fn field_line(
    line: &[u8],
    mut facts: HeadFacts,
    limits: &ClientLimits,
) -> Result<HeadFacts, InvalidResponse> {
    if facts.count >= limits.fields {
        return Err(InvalidResponse::HeadTooLarge);
    }
    let mut cursor = Cursor::new(line);
    let first = cursor.word();
    let field = scan::name_and_value(&mut cursor).ok().filter(|_| cursor.rest.is_empty());
    let (name, value) = field.ok_or(InvalidResponse::Field)?;
    facts.count += 1;
    match KnownField::find(name, first) {
        Some(known @ (KnownField::Length | KnownField::Coding | KnownField::Connection)) => {
            framing::note(facts, known, value).map_err(|_| InvalidResponse::Framing)
        }
        // They have a meaning only in requests.
        Some(KnownField::Host | KnownField::Expect) | None => Ok(facts),
    }
}

/// Determines how the body is delimited, from what the fields announce (RFC 9112, 6.3).
fn delimiter(status: Status, method: Method, announced: Body) -> Delimiter {
    let succeeded = matches!(status.code(), 200..=299);
    match announced {
        _ if status == Status::SWITCHING_PROTOCOLS => Delimiter::Upgrade,
        _ if method == Method::Connect && succeeded => Delimiter::Upgrade,
        _ if method == Method::Head || !status.has_body() => Delimiter::None,
        Body::None => Delimiter::Close,
        Body::Length(length) => Delimiter::Length(length),
        Body::Chunked => Delimiter::Chunked,
    }
}

const fn is_empty(announced: Body) -> bool {
    matches!(announced, Body::None | Body::Length(0))
}

const fn chunk_error(status: Status) -> InvalidResponse {
    match status {
        Status::CONTENT_TOO_LARGE => InvalidResponse::BodyTooLarge,
        Status::FIELDS_TOO_LARGE => InvalidResponse::Trailers,
        _ => InvalidResponse::Chunk,
    }
}

#[cfg(test)]
mod tests;
