//! What a program supplies for one request, and what it gets back.

use core::fmt;

use lightcone_core::{CloseReason, ConnectError, ErrorKind, Output, Token};

use crate::exchange::Flow;
use crate::parse::trailers::Trailers;

use super::request::{ClientRequest, InvalidRequest};
use super::response::{InvalidResponse, ResponseHead};

/// One request and the consumer of its response.
///
/// The client calls, in this order (`*`: any number of times, `?`: at most once):
///
/// ```text
/// request  send*  interim*  head  body*  trailers?  end       or  failed  at any place
/// ```
///
/// [`send`](Self::send) may also come between the calls for the response, if the server responds before it has read the
/// whole request. Exactly one of [`end`](Self::end) and [`failed`](Self::failed) comes, once and last; both take the
/// fetch. If the program or the poller ends without them, the fetch is dropped.
///
/// ```
/// use lightcone_http::client::{ClientRequest, Fetch, FetchError, ResponseHead, Uri};
///
/// /// Prints a response.
/// struct Print;
///
/// impl Fetch for Print {
///     type Message = core::convert::Infallible;
///
///     fn request(&self) -> ClientRequest<'_> {
///         ClientRequest::get(Uri::parse("http://127.0.0.1:8080/").expect("a valid URI"))
///     }
///
///     fn head(&mut self, head: &ResponseHead<'_>) {
///         println!("{}", head.status);
///     }
///
///     fn body(&mut self, data: &[u8]) -> Option<usize> {
///         println!("{}", String::from_utf8_lossy(data));
///         Some(data.len())
///     }
///
///     fn end(self) {}
///
///     fn failed(self, error: FetchError) {
///         println!("{error}");
///     }
/// }
/// ```
pub trait Fetch: Sized {
    /// The type of the messages that the program posts to the connection of a fetch.
    type Message;

    /// Called first by a [`Pool`](super::Pool), whenever it begins to send the request: with the socket to which
    /// messages are posted meanwhile, and with the number of the request on that socket, which is a part of [each
    /// message](super::PoolMessage::new). The default ignores them.
    fn begun(&mut self, socket: Token, number: u32) {
        let _ = (socket, number);
    }

    /// Returns whether the response is still wanted. While the fetch waits in a [`Pool`](super::Pool), the pool asks
    /// before it sends requests; one that is not wanted fails as [`Aborted`](FetchCause::Aborted) and is not sent. The
    /// default returns `true`.
    fn is_wanted(&self) -> bool {
        true
    }

    /// Returns the request. It is called again before the request is sent a second time, and must be the same then.
    fn request(&self) -> ClientRequest<'_>;

    /// Writes the next part of the request's body, as much as there is room for. Called if the request has a body: once
    /// its head is queued, again whenever all that was queued has been sent, and after each message.
    ///
    /// Returns [`Flow::Done`] when the body is over, [`Flow::More`] if more is to follow. [`Flow::Abort`] ends the
    /// connection, so that the server does not take the body for complete. The default has no body.
    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        let _ = body;
        Flow::Done
    }

    /// Prepares the body to be sent once more from its beginning, and returns whether that is possible. Called before
    /// an idempotent request with a body is sent again, see [`Pool`](super::Pool). The default returns `false`.
    fn restart(&mut self) -> bool {
        false
    }

    /// Receives the head of an interim response, such as `103 Early Hints`. The default ignores it.
    fn interim(&mut self, head: &ResponseHead<'_>) {
        let _ = head;
    }

    /// Receives the head of the response.
    fn head(&mut self, head: &ResponseHead<'_>);

    /// Receives bytes of the body, without their framing, and returns how many of them were taken. If that is not all,
    /// the connection is not read any more until a [`message`](Self::message) arrives; after it, the bytes that were
    /// left are passed again, with what follows them. So a slow consumer slows the server down, and nothing is stored
    /// beyond the input buffer of the connection. `None` gives up: the connection ends.
    fn body(&mut self, data: &[u8]) -> Option<usize>;

    /// Returns whether [`trailers`](Self::trailers) is to be called. Asked when the request begins. The default returns
    /// `false`: trailer fields are checked and dropped.
    fn keeps_trailers(&self) -> bool {
        false
    }

    /// Receives the trailer fields of a chunked body, after the last of its bytes. Called only if there are some and
    /// [`keeps_trailers`](Self::keeps_trailers) returns `true`. They are held in the input until all have arrived, so a
    /// section that is larger than the input of the connection is an error,
    /// [`InvalidResponse::Trailers`]. To ask the server for them, send `TE: trailers` and `Connection: TE`.
    fn trailers(&mut self, trailers: &Trailers<'_>) {
        let _ = trailers;
    }

    /// Handles a message that was posted to the connection. After it, [`send`](Self::send) and [`body`](Self::body) are
    /// called if they have something to do, so that a message can also mean no more than "continue". [`Flow::Abort`]
    /// gives up: the connection ends. The default continues.
    ///
    /// A message may arrive when the request that it was posted for is over. A [`Pool`](super::Pool) drops it then; a
    /// [`Client`](super::Client) passes it to the next request on the connection, if there is one.
    fn message(&mut self, message: Self::Message) -> Flow {
        let _ = message;
        Flow::More
    }

    /// Ends the fetch: the response is complete.
    fn end(self);

    /// Ends the fetch with a failure: what has arrived of the response is incomplete.
    fn failed(self, error: FetchError);
}

/// Where a request was when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FetchPhase {
    /// It waited for a connection of the pool.
    Wait,
    /// The connection was being established.
    Connect,
    /// The request was being sent.
    Send,
    /// The first byte of the response was awaited.
    FirstByte,
    /// The head of the response had begun.
    Head,
    /// The body of the response was being received.
    Body,
}

impl fmt::Display for FetchPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "waiting for a free connection",
            Self::Connect => "connecting",
            Self::Send => "sending the request",
            Self::FirstByte => "waiting for the first byte of the response",
            Self::Head => "receiving the head of the response",
            Self::Body => "receiving the body of the response",
        })
    }
}

/// Why a request failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FetchCause {
    /// The phase took longer than its limit.
    TimedOut,
    /// The whole exchange took longer than [`ClientLimits::total_time`](super::ClientLimits::total_time).
    TotalTime,
    /// The connect could not be started.
    Unconnected(ConnectError),
    /// The connect failed.
    Refused(ErrorKind),
    /// The connection ended before the response was complete.
    Closed(CloseReason),
    /// The bytes that the server sent are not an acceptable response.
    Response(InvalidResponse),
    /// The request cannot be sent.
    Request(InvalidRequest),
    /// The head of the request is longer than the output of a connection may be.
    RequestTooLarge,
    /// The body of the request ended before the length that was announced for it.
    BodyTooShort,
    /// The fetch gave up.
    Aborted,
    /// As many requests as allowed are waiting for a connection already.
    Overloaded,
    /// The poller stops.
    Stopping,
}

/// The failure of a request: in which phase, and why.
///
/// ```
/// use lightcone_http::client::{FetchCause, FetchError, FetchPhase};
/// let error = FetchError::new(FetchPhase::FirstByte, FetchCause::TimedOut);
/// assert_eq!(error.to_string(), "timed out while waiting for the first byte of the response");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FetchError {
    /// Where the request was.
    pub phase: FetchPhase,
    /// Why it failed.
    pub cause: FetchCause,
}

impl FetchError {
    /// Creates an error.
    #[must_use]
    pub const fn new(phase: FetchPhase, cause: FetchCause) -> Self {
        Self { phase, cause }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            FetchCause::TimedOut => f.write_str("timed out"),
            FetchCause::TotalTime => f.write_str("the exchange took too long, and ended"),
            FetchCause::Unconnected(error) => error.fmt(f),
            FetchCause::Refused(error) => error.fmt(f),
            FetchCause::Closed(reason) => write!(f, "the connection ended ({reason})"),
            FetchCause::Response(error) => write!(f, "the response is invalid ({error})"),
            FetchCause::Request(error) => write!(f, "the request is invalid ({error})"),
            FetchCause::RequestTooLarge => f.write_str("the head of the request is too large"),
            FetchCause::BodyTooShort => f.write_str("the body of the request was too short"),
            FetchCause::Aborted => f.write_str("given up"),
            FetchCause::Overloaded => f.write_str("too many requests"),
            FetchCause::Stopping => f.write_str("stopped"),
        }?;
        write!(f, " while {}", self.phase)
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for FetchError {}

/// What is left to write of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyLeft {
    Length(u64),
    Chunked,
}

/// The body of a request that is being sent: writes data with the framing that the request announces.
#[derive(Debug)]
pub struct BodyWriter<'a> {
    output: Output<'a>,
    left: BodyLeft,
    written: bool,
}

impl<'a> BodyWriter<'a> {
    /// What a chunk takes besides its data: a size of up to eight digits, and two line ends.
    const CHUNK_FRAME: usize = 12;
    /// The least room in which a part of any body can be written.
    pub(super) const ROOM_MIN: usize = Self::CHUNK_FRAME + 1;

    pub(super) const fn new(output: Output<'a>, left: BodyLeft) -> Self {
        Self { output, left, written: false }
    }

    /// Returns what is left, and whether anything was written.
    pub(super) const fn finish(self) -> (BodyLeft, bool) {
        (self.left, self.written)
    }

    /// Returns how many bytes [`write`](Self::write) takes now.
    pub fn room(&self) -> usize {
        match self.left {
            BodyLeft::Length(left) => self.output.room().min(usize::try_from(left).unwrap_or(usize::MAX)),
            BodyLeft::Chunked => self.output.room().saturating_sub(Self::CHUNK_FRAME),
        }
    }

    /// Writes data from the front of `data`, and returns how much: no more than there is room for, and than the length
    /// that was announced.
    #[must_use = "what was not written must be written later"]
    pub fn write(&mut self, data: &[u8]) -> usize {
        let length = data.len().min(self.room());
        let data = data.get(..length).unwrap_or_default();
        if data.is_empty() {
            return 0;
        }
        let mark = self.output.mark();
        let queued = match &mut self.left {
            BodyLeft::Length(left) => {
                *left -= length as u64;
                self.output.send(data)
            }
            BodyLeft::Chunked => write!(self.output, "{length:x}\r\n")
                .and_then(|()| self.output.send(data))
                .and_then(|()| self.output.send(b"\r\n")),
        };
        debug_assert_eq!(queued, Ok(()), "there is room");
        if queued.is_err() {
            self.output.rewind(mark);
            return 0;
        }
        self.written = true;
        length
    }
}
