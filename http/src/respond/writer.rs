//! A response that is being made, and the formatting of its head.

use core::{fmt, iter};

use lightcone_core::{Checkpoint, Full, Output};

use crate::middleware::Hook;
use crate::mode::ResponseMode;
use crate::parse::chunked::Count;
use crate::status::Status;

use super::fields::{ExtraFields, Headers};
use super::template::{HeadTemplate, decimal};

/// What is left to write of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseBody {
    /// Nothing: the response is complete.
    Complete,
    /// All of it: the exchange has not responded yet.
    Deferred,
    /// This many bytes of the body, below 2^48.
    Length(u64),
    /// A chunked body.
    Chunked,
    /// A body that is delimited by the end of the connection.
    UntilClose,
    /// Bytes of the protocol that the connection has changed to.
    Upgraded,
    /// The last chunk, for which there was no room.
    LastChunk,
    /// All of it, but there was no room for any response: the connection ends without one.
    Failed,
}

/// The length of a body, if it is known in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// There is no body, since the connection changes to another protocol.
    None,
    Length(u64),
    Unknown,
}

/// The shared workspace for making responses. There is one per poller, since the head of a response is made within one
/// callback.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) template: HeadTemplate,
    pub(crate) extra: ExtraFields,
    /// Why the last response that failed has failed.
    pub(crate) fault: Fault,
    /// Whether the head of a streamed response is held back, because the body of its request is still to be read.
    pub(crate) holds: bool,
}

/// Why a response was replaced by a 500: a mistake of the program, or too little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// The response was to be sent at once but is larger than half of the socket's output limit, and more than that is
    /// not guaranteed. Use [`Response::generate`](crate::Response::generate) or [`stream`](crate::Response::stream).
    TooLarge,
    /// Other sockets hold the blocks that the response needs.
    NoRoom,
    /// The response has an invalid status, field or length, or a text whose `Display` fails.
    Invalid,
}

/// Formats the fault for a log.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "too large",
            Self::NoRoom => "no room",
            Self::Invalid => "invalid",
        })
    }
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self { template: HeadTemplate::new(), extra: ExtraFields::new(), fault: Fault::Invalid, holds: false }
    }
}

/// The output of a socket, as it is passed down the chain of routes: a reference has two words, and unlike one to
/// `Output` itself, its lifetime can be shortened on the way.
pub(crate) trait Sink {
    fn reserve(&mut self, n: usize) -> Result<&mut [u8], Full>;
    fn commit(&mut self, n: usize);
    fn append(&mut self, n: usize) -> Result<&mut [u8], Full>;
    fn send(&mut self, bytes: &[u8]) -> Result<(), Full>;
    fn mark(&self) -> Checkpoint;
    fn rewind(&mut self, mark: Checkpoint);
    fn seal(&mut self) -> Checkpoint;
    fn hold(&mut self, mark: Checkpoint);
    fn is_holding(&self) -> bool;
    fn queued(&self) -> usize;
    fn limit(&self) -> usize;
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full>;
}

impl Sink for Output<'_> {
    #[inline(always)]
    fn reserve(&mut self, n: usize) -> Result<&mut [u8], Full> {
        Output::reserve(self, n)
    }

    #[inline(always)]
    fn commit(&mut self, n: usize) {
        Output::commit(self, n);
    }

    #[inline(always)]
    fn append(&mut self, n: usize) -> Result<&mut [u8], Full> {
        Output::append(self, n)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Full> {
        Output::send(self, bytes)
    }

    fn mark(&self) -> Checkpoint {
        Output::mark(self)
    }

    fn rewind(&mut self, mark: Checkpoint) {
        Output::rewind(self, mark);
    }

    fn seal(&mut self) -> Checkpoint {
        Output::seal(self)
    }

    fn hold(&mut self, mark: Checkpoint) {
        Output::hold(self, mark);
    }

    fn is_holding(&self) -> bool {
        Output::is_holding(self)
    }

    fn queued(&self) -> usize {
        Output::queued(self)
    }

    fn limit(&self) -> usize {
        Output::limit(self)
    }

    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), Full> {
        Output::write_fmt(self, text)
    }
}

impl fmt::Debug for dyn Sink + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("queued", &self.queued()).finish_non_exhaustive()
    }
}

/// A response that is being made: the output that it goes to, and what is known of it.
#[derive(Debug)]
pub(crate) struct ResponseWriter<'a> {
    pub(crate) output: &'a mut (dyn Sink + 'a),
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) hooks: Option<&'a Hook<'a>>,
    pub(crate) mode: ResponseMode,
    pub(crate) status: Status,
}

/// Bodies shorter than this are written in place, in one block. Longer ones are spread over blocks, so that the rest of
/// a block does not stay unused.
const IN_PLACE_MAX: usize = 512;

const TEXT: &[u8] = b"Content-Type: text/plain; charset=utf-8\r\n";

impl ResponseWriter<'_> {
    /// Sets the status, or marks the response as failed if the number is not a status.
    #[inline]
    pub(crate) fn set_status(&mut self, status: impl TryInto<Status>) {
        match status.try_into() {
            Ok(status) => self.status = status,
            Err(_) => self.scratch.extra.fail(),
        }
    }

    /// Writes a complete response with a text, if it is the common case. Returns `false` and writes nothing if it is
    /// not, or does not fit into one block.
    #[inline(always)]
    pub(crate) fn plain(&mut self, body: &[u8]) -> bool {
        if !self.is_usual() {
            return false;
        }
        let digit = |n: usize| b"0123456789".get(n % 10).copied().unwrap_or(b'0');
        let ones = digit(body.len());
        match body.len() {
            0..10 => self.put([ones, b'\r', b'\n', b'\r', b'\n'], body),
            10..100 => self.put([digit(body.len() / 10), ones, b'\r', b'\n', b'\r', b'\n'], body),
            _ => false,
        }
    }

    /// Returns whether the response is a 200 without added fields, on a connection that stays open.
    #[inline(always)]
    const fn is_usual(&self) -> bool {
        let plain = self.mode.bits() == ResponseMode::PLAIN.bits() && self.status.code() == Status::OK.code();
        plain && self.scratch.extra.is_empty() && self.hooks.is_none()
    }

    /// Like [`plain`](Self::plain), for any type of content and any length.
    fn usual(&mut self, content_type: &[u8], body: &[u8]) -> bool {
        const LENGTH: &[u8] = b"Content-Length: ";
        let Some(template) = self.scratch.template.plain() else { return false };
        let mut digits = [0; 20];
        let digits = decimal(body.len() as u64, &mut digits);
        let size = HeadTemplate::DATED + content_type.len() + LENGTH.len() + digits.len() + 4 + body.len();
        let Ok(place) = self.output.reserve(size) else { return false };
        let (start, rest) = place.split_at_mut(HeadTemplate::DATED);
        start.copy_from_slice(template.split_at(HeadTemplate::DATED).0);
        let (line, rest) = rest.split_at_mut(content_type.len());
        line.copy_from_slice(content_type);
        let (name, rest) = rest.split_at_mut(LENGTH.len());
        name.copy_from_slice(LENGTH);
        let (value, rest) = rest.split_at_mut(digits.len());
        for (to, digit) in value.iter_mut().zip(digits) {
            *to = *digit;
        }
        let (end, rest) = rest.split_at_mut(4);
        end.copy_from_slice(b"\r\n\r\n");
        rest.copy_from_slice(body);
        self.output.commit(size);
        true
    }

    /// Writes the fixed part, the end of the head and the body in place.
    #[inline(always)]
    fn put<const TAIL: usize>(&mut self, tail: [u8; TAIL], body: &[u8]) -> bool {
        // The fixed part is copied in two pieces, since compilers inline copies of up to 128 bytes only.
        const HALF: usize = 64;
        let Some(template) = self.scratch.template.plain() else { return false };
        let (Some(from_start), Some(from_middle)) = (template.first_chunk::<HALF>(), template.last_chunk())
        else {
            return false;
        };
        let Ok(place) = self.output.append(HeadTemplate::PLAIN + TAIL + body.len()) else { return false };
        if let Some((start, rest)) = place.split_first_chunk_mut::<HALF>()
            && let Some((middle, rest)) = rest.split_first_chunk_mut::<{ HeadTemplate::PLAIN - HALF }>()
            && let Some((end, rest)) = rest.split_first_chunk_mut::<TAIL>()
        {
            *start = *from_start;
            *middle = *from_middle;
            *end = tail;
            rest.copy_from_slice(body);
        }
        true
    }

    /// Writes a complete response of any kind. If it does not fit, nothing is written.
    #[inline(never)]
    pub(crate) fn whole(&mut self, content_type: &[u8], body: &[u8]) -> Result<(), Full> {
        if self.is_usual() && body.len() < IN_PLACE_MAX && self.usual(content_type, body) {
            return Ok(());
        }
        self.run_hooks();
        self.scratch.fault = Fault::Invalid;
        if self.scratch.extra.failed || self.status.is_interim() {
            return Err(Full);
        }
        let mark = self.output.mark();
        self.refuse_body();
        let head = self.head(content_type, BodyLength::Length(body.len() as u64));
        let send = self.status.has_body() && !self.mode.has(ResponseMode::HEAD_ONLY);
        let result = head.and_then(|()| if send { self.output.send(body) } else { Ok(()) });
        if result.is_err() {
            self.output.rewind(mark);
            self.does_not_fit(body.len() as u64);
        }
        result
    }

    /// Notes that a response with a body of `length` bytes found no room.
    ///
    /// # Panics
    /// In builds with debug assertions, if the body is too large to be sent at once, so that tests reveal it.
    #[cold]
    pub(crate) fn does_not_fit(&mut self, length: u64) {
        let half = self.output.limit() / 2;
        self.scratch.fault = if length > half as u64 { Fault::TooLarge } else { Fault::NoRoom };
        debug_assert!(
            cfg!(test) || half == 0 || length <= half as u64,
            "a body of {length} bytes cannot be sent at once, only {half} are guaranteed: stream or generate it"
        );
    }

    /// Writes a 101, after which the connection carries the other protocol.
    pub(crate) fn switch(&mut self, protocol: &str) -> Result<(), Full> {
        self.scratch.extra.add("Upgrade", &protocol);
        self.run_hooks();
        self.scratch.fault = Fault::Invalid;
        if self.scratch.extra.failed {
            return Err(Full);
        }
        let mark = self.output.mark();
        let result = self.head(b"", BodyLength::None);
        if result.is_err() {
            self.output.rewind(mark);
            self.does_not_fit(0);
        }
        result
    }

    /// Writes the head of a response whose body follows, and returns how the body is written. `Complete`: no body may
    /// follow. Otherwise, the head is held back if `hold` is set.
    #[inline(never)]
    pub(crate) fn start(&mut self, body_length: BodyLength, hold: bool) -> Result<ResponseBody, Full> {
        // Before the check, as middleware may add a field that makes the response fail.
        self.run_hooks();
        self.scratch.fault = Fault::Invalid;
        let countable = !matches!(body_length, BodyLength::Length(Count::TOO_MUCH..));
        if self.scratch.extra.failed || self.status.is_interim() || !countable {
            return Err(Full);
        }
        // Before `100 Continue`, so that a response that fails has not sent it.
        let (mark, mode) = (self.output.mark(), self.mode);
        // HTTP/1.0 has no chunks: the end of the connection delimits the body.
        if body_length == BodyLength::Unknown && self.mode.has(ResponseMode::HTTP_10) {
            self.mode.close();
        }
        let outgoing = match body_length {
            _ if self.mode.has(ResponseMode::HEAD_ONLY) || !self.status.has_body() => ResponseBody::Complete,
            BodyLength::None => ResponseBody::Upgraded,
            BodyLength::Length(length) => ResponseBody::Length(length),
            BodyLength::Unknown if self.mode.has(ResponseMode::HTTP_10) => ResponseBody::UntilClose,
            BodyLength::Unknown => ResponseBody::Chunked,
        };
        let hold = hold && outgoing != ResponseBody::Complete;
        let result = self.leave().and_then(|()| self.head_held(body_length, hold));
        if result.is_err() {
            self.output.rewind(mark);
            self.mode = mode;
            self.does_not_fit(0);
        }
        result.map(|()| outgoing)
    }

    /// Writes a head, and holds it back if `hold` is set. If there are too few blocks for that, the head leaves at
    /// once.
    fn head_held(&mut self, body_length: BodyLength, hold: bool) -> Result<(), Full> {
        if hold {
            let before = self.output.mark();
            let mark = self.output.seal();
            if self.head(b"", body_length).is_ok() {
                self.output.hold(mark);
                return Ok(());
            }
            self.output.rewind(before);
        }
        self.head(b"", body_length)
    }

    /// Sends `100 Continue` to a client that waits for it.
    pub(crate) fn leave(&mut self) -> Result<(), Full> {
        if self.mode.has(ResponseMode::EXPECT_CONTINUE) {
            self.output.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.mode.set(ResponseMode::EXPECT_CONTINUE, false);
        }
        Ok(())
    }

    /// Prepares a response that does not read the body. A client that has not received `100 Continue` may send either
    /// the body or the next request; the server cannot distinguish them, so the connection ends.
    pub(crate) const fn refuse_body(&mut self) {
        if self.mode.has(ResponseMode::EXPECT_CONTINUE) {
            self.mode.set(ResponseMode::EXPECT_CONTINUE, false);
            self.mode.close();
        }
    }

    /// Lets middleware add fields, from the inside out.
    fn run_hooks(&mut self) {
        let mut next = self.hooks;
        while let Some(hook) = next {
            hook.middleware.head(self.status, &mut Headers(&mut self.scratch.extra));
            next = hook.outer;
        }
    }

    /// Writes a head. After an error, the caller has to rewind the output.
    fn head(&mut self, content_type: &[u8], body_length: BodyLength) -> Result<(), Full> {
        let Self { output, scratch, mode, status, .. } = self;
        let Scratch { template, extra, .. } = &**scratch;
        let mut digits = [0; 20];
        output.send(b"HTTP/1.1 ")?;
        output.send(decimal(u64::from(status.code()), &mut digits))?;
        output.send(b" ")?;
        output.send(status.phrase().as_bytes())?;
        output.send(b"\r\n")?;
        // A field of the program takes the place of the automatic one, so that none is sent twice.
        output.send(if extra.own_server { b"" } else { HeadTemplate::SERVER_LINE })?;
        output.send(if extra.own_date { b"" } else { template.date() })?;
        output.send(if extra.own_type || !status.has_body() { b"" } else { content_type })?;
        output.send(extra.lines())?;
        output.send(extra.forwarded())?;
        // HTTP/1.1 keeps a connection open by default, HTTP/1.0 does not (RFC 9112, 9.3). A close is announced to both.
        let closes = !mode.has(ResponseMode::KEEP_ALIVE) && body_length != BodyLength::None;
        output.send(match (closes, mode.has(ResponseMode::HTTP_10), extra.upgrades) {
            (false, false, false) => b"",
            (false, true, false) => b"Connection: keep-alive\r\n",
            (true, _, false) => b"Connection: close\r\n",
            (false, false, true) => b"Connection: Upgrade\r\n",
            (false, true, true) => b"Connection: keep-alive, Upgrade\r\n",
            (true, _, true) => b"Connection: close, Upgrade\r\n",
        })?;
        match body_length {
            // A 204 must not have a length, and that of a 304 would be the length of another response (RFC 9110, 8.6).
            _ if !status.has_body() => output.send(b"\r\n"),
            BodyLength::Length(length) => {
                output.send(b"Content-Length: ")?;
                output.send(decimal(length, &mut digits))?;
                output.send(b"\r\n\r\n")
            }
            BodyLength::None => output.send(b"\r\n"),
            BodyLength::Unknown if mode.has(ResponseMode::HTTP_10) => output.send(b"\r\n"),
            BodyLength::Unknown => {
                for (name, start) in
                    extra.trailers.iter().zip(iter::once("Trailer: ").chain(iter::repeat(", ")))
                {
                    output.send(start.as_bytes())?;
                    output.send(name.as_bytes())?;
                }
                output.send(if extra.trailers.is_empty() { b"" } else { b"\r\n" })?;
                output.send(b"Transfer-Encoding: chunked\r\n\r\n")
            }
        }
    }

    /// Writes a response of the server itself: a short text with the status. Returns the length of the text.
    pub(crate) fn canned_response(&mut self, status: impl TryInto<Status>) -> Result<u64, Full> {
        self.set_status(status);
        let status = self.status;
        let mut digits = [0; 20];
        let mut text = [0; 64];
        let mut used = 0;
        for piece in [decimal(u64::from(status.code()), &mut digits), b" ", status.phrase().as_bytes(), b"\n"]
        {
            let (place, _) = text.split_at_mut(used).1.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            used += piece.len();
        }
        self.whole(TEXT, text.split_at(used).0).map(|()| used as u64)
    }

    /// Writes a response of the server in place of one that cannot be sent or must not be made, of which nothing was
    /// written: with the fields of middleware or, if these cannot be sent, without them. Returns the length of the text.
    #[cold]
    #[inline(never)]
    pub(crate) fn replace(&mut self, status: Status) -> Result<u64, Full> {
        let fault = self.scratch.fault;
        self.scratch.extra.clear();
        let mut result = self.canned_response(status);
        if result.is_err() && self.hooks.take().is_some() {
            self.scratch.extra.clear();
            result = self.canned_response(status);
        }
        self.scratch.fault = fault; // why the response is replaced
        result
    }
}

/// Returns the `Content-Type` line of a plain text.
pub(crate) const fn text_line() -> &'static [u8] {
    TEXT
}
