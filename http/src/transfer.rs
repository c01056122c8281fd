//! The interface through which an exchange reads the request's body and writes the response.

mod body;
mod messages;
mod respond;

use lightcone_core::{Address, Full, Instant, Output, Token};

pub(crate) use self::respond::{ROOM_MIN, can_hold, room_for_answer};
use crate::connection::RequestBody;
use crate::limits::Limits;
use crate::message::{Outlet, RequestId};
use crate::middleware::Hook;
use crate::mode::ResponseMode;
use crate::parse::chunked::Count;
use crate::parse::trailers::Trailers;
use crate::request::{ConnectionInfo, State};
use crate::respond::writer::{Fault, ResponseBody, Scratch};
use crate::status::Status;

/// The two bodies of one request, during one callback: the body of the request arrives in pieces, and the body of the
/// response is written as room becomes available.
///
/// Nothing is buffered beyond the input and output of the socket, so memory stays bounded: what the exchange does not
/// consume stays in the input, and the socket is not read while that is full.
///
/// ```
/// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
///
/// /// Sends the body back in upper case.
/// struct Upper;
///
/// impl<S: State> Exchange<S> for Upper {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         while !io.body().is_empty() {
///             let piece = io.body().to_ascii_uppercase();
///             match io.write(&piece) {
///                 0 => return Flow::More, // it is called again when there is room
///                 n => io.consume(n),
///             }
///         }
///         if io.is_ended() { Flow::Done } else { Flow::More }
///     }
/// }
///
/// let server = Http::new().post("/upper", |request, response| response.stream(request.head.length(), Upper));
/// # drop(server);
/// ```
#[derive(Debug)]
pub struct Transfer<'t, S: State> {
    /// The state that the routes of this poller share.
    pub state: &'t mut S,
    pub(crate) outlet: Outlet<'t, S>,
    pub(crate) output: Output<'t>,
    pub(crate) link: ConnectionContext<'t>,
    pub(crate) tools: ServerContext<'t>,
}

/// The part of a transfer that belongs to the connection.
#[derive(Debug)]
pub(crate) struct ConnectionContext<'t> {
    /// The input; it is unused from `at` on.
    pub(crate) bytes: &'t [u8],
    /// In place of `bytes` after an upgrade: the input, which the exchange may change.
    pub(crate) raw: &'t mut [u8],
    pub(crate) at: &'t mut usize,
    pub(crate) incoming: &'t mut RequestBody,
    pub(crate) outgoing: &'t mut ResponseBody,
    /// Whether the head of the response is held back.
    pub(crate) held: &'t mut bool,
    pub(crate) mode: &'t mut ResponseMode,
    pub(crate) found: &'t mut TransferState,
    /// The number of the request within its connection.
    pub(crate) number: u32,
    /// Whether the trailer section of a chunked body stays in the input until the exchange is over.
    pub(crate) keeps_trailers: bool,
}

/// The part of a transfer that belongs to the server.
#[derive(Debug)]
pub(crate) struct ServerContext<'t> {
    pub(crate) limits: &'t Limits,
    pub(crate) scratch: &'t mut Scratch,
    pub(crate) connected: &'t ConnectionInfo,
    pub(crate) hooks: Option<&'t Hook<'t>>,
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TransferState {
    /// The status to refuse the body with, if it is malformed or beyond a limit.
    pub(crate) fault: Option<Status>,
    /// The status of the response and its length, if they have become final in this callback.
    pub(crate) answered: Option<(Status, Option<u64>)>,
    /// Whether the body of that response follows.
    pub(crate) begun: bool,
    /// Why the response of the exchange was replaced by a 500, if it was.
    pub(crate) replaced: Option<Fault>,
    /// Bytes of the response's body that were written.
    pub(crate) written: u64,
    /// Whether the response cannot be written, not even as a 500.
    pub(crate) unanswerable: bool,
    /// When the exchange is to be called again.
    pub(crate) wake: Option<Instant>,
    /// Whether the exchange leaves the body in the input until it is complete.
    pub(crate) gathers: bool,
    /// Whether the exchange has subscribed to a topic in this callback.
    pub(crate) subscribed: bool,
}

impl<'t, S: State> Transfer<'t, S> {
    /// Returns the next bytes of the request's body, without the chunked coding. Empty if none have arrived.
    pub fn body(&self) -> &[u8] {
        let rest = self.link.rest();
        let data = usize::try_from(self.link.incoming.data()).unwrap_or(usize::MAX);
        match self.link.found.fault {
            None => rest.get(..data).unwrap_or(rest),
            Some(_) => &[],
        }
    }

    /// Removes the first `n` bytes of [`body`](Self::body). Bytes that are not consumed stay in the input; when it is
    /// full, the peer has to wait.
    ///
    /// # Panics
    /// If `body` has fewer than `n` bytes.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.body().len(), "consume({n}) of a body of {} bytes", self.body().len());
        *self.link.at += n;
        match self.link.incoming {
            RequestBody::Length(left) => left.subtract(n as u64),
            RequestBody::Chunked(decoder) => decoder.advance(n as u64),
            RequestBody::Ended | RequestBody::Trailers(_) | RequestBody::Upgraded => {}
        }
        self.decode();
    }

    /// Decodes the chunk framing at the front of the input.
    pub(crate) fn decode(&mut self) {
        self.link.decode(self.tools.limits, self.tools.connected.capacity);
    }

    /// Returns whether the request's body has ended and all of it was consumed.
    pub fn is_ended(&self) -> bool {
        self.link.incoming.has_ended()
    }

    /// Returns the trailer fields of the request, once its body has ended, if the handler has asked for them by
    /// [`Response::keep_trailers`](crate::Response::keep_trailers). Before that, and otherwise, there are none.
    pub fn trailers(&self) -> Trailers<'_> {
        if !self.link.keeps_trailers || !self.is_ended() {
            return Trailers::NONE;
        }
        Trailers::of(self.link.rest().get(..self.link.incoming.trailer_bytes()).unwrap_or_default())
    }

    /// Returns the bytes that have arrived since an [upgrade](crate::Response::upgrade) and were not consumed, to be
    /// changed in place, and beside them the rest of the transfer, whose `body` is empty. Unconsumed bytes keep the
    /// changes.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, State, Transfer};
    ///
    /// /// Sends lines back in upper case, without a copy.
    /// struct Upper;
    ///
    /// impl<S: State> Exchange<S> for Upper {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         while let Some(end) = io.body().iter().position(|byte| *byte == b'\n') {
    ///             let (bytes, mut io_rest) = io.split();
    ///             let line = &mut bytes[..=end];
    ///             line.make_ascii_uppercase();
    ///             if io_rest.send(&[line]).is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             io.consume(end + 1);
    ///         }
    ///         if io.body().len() == io.capacity() { Flow::Done } else { Flow::More }
    ///     }
    ///
    ///     fn peer_closed(&mut self, _: &mut Transfer<'_, S>) -> Flow {
    ///         Flow::Done
    ///     }
    /// }
    /// ```
    ///
    /// # Panics
    /// If the connection was not upgraded.
    pub fn split(&mut self) -> (&mut [u8], Transfer<'_, S>) {
        assert!(*self.link.outgoing == ResponseBody::Upgraded, "the connection was not upgraded");
        let at = *self.link.at;
        let (raw, rest) = self.reborrow();
        (raw.get_mut(at..).unwrap_or_default(), rest)
    }

    /// Sends all of the pieces or none of them, after an [upgrade](crate::Response::upgrade).
    ///
    /// # Errors
    /// [`Full`] if there is no room for all of them. The exchange is called again when there is, unless the pieces are
    /// longer than [`output_limit`](Self::output_limit) together, for which there is never room.
    ///
    /// # Panics
    /// If the connection was not upgraded.
    pub fn send(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        assert!(*self.link.outgoing == ResponseBody::Upgraded, "the connection was not upgraded");
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length > self.output.room() {
            // For all of them at once: a `writable` for a single piece would come again and again, in vain.
            if length <= self.output.limit() {
                self.output.request_writable_for(length);
            }
            return Err(Full);
        }
        for piece in pieces {
            self.output.send(piece)?; // there is room
        }
        self.link.found.written += length as u64;
        Ok(())
    }

    /// Returns the maximum number of bytes that may wait to be sent; 0 if the connection is ending.
    pub fn output_limit(&self) -> usize {
        self.output.limit()
    }

    /// Returns the maximum number of bytes of the body that can wait to be consumed. An exchange must not wait for
    /// more: while that many bytes are unconsumed, the socket is not read.
    pub fn capacity(&self) -> usize {
        self.tools.connected.capacity
    }

    /// Returns the identity of this request, for addressing [messages](crate::RequestMessage) to its exchange.
    pub fn id(&self) -> RequestId {
        RequestId::new(self.token(), self.link.number)
    }

    /// Returns the identity of the connection. Other requests may follow on it: see [`id`](Self::id).
    pub fn token(&self) -> Token {
        self.tools.connected.token
    }

    /// Returns the client's address.
    pub fn peer(&self) -> Address {
        self.tools.connected.peer.unpack()
    }

    /// Returns when this callback began.
    pub fn now(&self) -> Instant {
        self.tools.connected.now
    }

    /// Returns whether the server is shutting down, so that the exchange should begin nothing long. It is `true` from
    /// the call of [`Exchange::shutdown`](crate::Exchange::shutdown) on, and already in calls that precede it because
    /// their input had arrived before.
    pub fn is_stopping(&self) -> bool {
        self.tools.connected.stopping
    }

    /// Schedules a call of [`Exchange::advance`](crate::Exchange::advance) at the time `at`, unless the exchange is
    /// over by then. A later call of `wake_at` replaces the time. A time that has passed is taken as one millisecond
    /// from now; or, if the exchange waits for room and was not [upgraded](crate::Response::upgrade), it is called when
    /// there is room.
    ///
    /// The scheduled call does not come before `at`, though other events may cause earlier calls. It is as precise as
    /// the engine's clock; if another time of the request comes first, such as its
    /// [`body_time`](crate::Limits::body_time), it may be late by up to a 255th of the time until `at`.
    ///
    /// ```
    /// use core::time::Duration;
    /// use lightcone_core::Instant;
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Sends nothing but a comment every 15 seconds.
    /// #[derive(Default)]
    /// struct Heartbeat(Option<Instant>);
    ///
    /// impl<S: State> Exchange<S> for Heartbeat {
    ///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
    ///         if self.0.is_none_or(|next| io.now() >= next) {
    ///             if write!(io, ":\n\n").is_err() {
    ///                 return Flow::More; // it is called again when there is room
    ///             }
    ///             self.0 = Some(io.now() + Duration::from_secs(15));
    ///         }
    ///         if let Some(next) = self.0 {
    ///             io.wake_at(next);
    ///         }
    ///         Flow::More
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/events", |_request, response| {
    ///     response.header("Content-Type", "text/event-stream").stream(None, Heartbeat::default())
    /// });
    /// # drop(server);
    /// ```
    pub fn wake_at(&mut self, at: Instant) {
        self.link.found.wake = Some(at);
    }

    /// Returns what is left of a body that has a length, once all of it has arrived.
    pub(crate) fn whole_body(&mut self) -> Option<&'t [u8]> {
        let left = match *self.link.incoming {
            RequestBody::Ended | RequestBody::Trailers(_) => return Some(&[]),
            RequestBody::Upgraded => return None,
            RequestBody::Length(left) => usize::try_from(left.get()).ok()?,
            RequestBody::Chunked(_) => return None,
        };
        let body = self.link.bytes.get(*self.link.at..)?.get(..left);
        self.link.found.gathers = body.is_none();
        body
    }

    /// Returns the same transfer with `hook` around it.
    pub(crate) fn within<'s>(&'s mut self, hook: &'s Hook<'s>) -> Transfer<'s, S> {
        let (raw, mut inner) = self.reborrow();
        inner.link.raw = raw;
        inner.tools.hooks = Some(hook);
        inner
    }

    /// Returns the same transfer for a shorter lifetime, but with its input as bytes beside it if there was an upgrade.
    fn reborrow(&mut self) -> (&mut [u8], Transfer<'_, S>) {
        let ConnectionContext {
            bytes,
            ref mut raw,
            ref mut at,
            ref mut incoming,
            ref mut outgoing,
            ref mut held,
            ref mut mode,
            ref mut found,
            number,
            keeps_trailers,
        } = self.link;
        let ServerContext { limits, ref mut scratch, connected, hooks } = self.tools;
        let transfer = Transfer {
            state: self.state,
            outlet: self.outlet.reborrow(),
            output: self.output.reborrow(),
            link: ConnectionContext {
                bytes,
                raw: &mut [],
                at,
                incoming,
                outgoing,
                held,
                mode,
                found,
                number,
                keeps_trailers,
            },
            tools: ServerContext { limits, scratch, connected, hooks },
        };
        (raw, transfer)
    }

    /// Finishes a call of the exchange. If the exchange is over, completes the response; returns `false` if that is
    /// impossible. A head that is held back leaves once the request's body has ended, as nothing can be wrong with the
    /// request any more.
    pub(crate) fn settle(&mut self, over: bool) -> bool {
        if over {
            let whole = self.finish();
            self.drop_trailers();
            // What is left of the request's body is read and dropped, so that the next request can follow it.
            while !self.body().is_empty() {
                self.consume(self.body().len());
            }
            if *self.link.incoming == RequestBody::Upgraded {
                *self.link.incoming = RequestBody::Ended;
            }
            return whole;
        }
        if self.is_ended() {
            self.flush();
        }
        true
    }

    /// Returns whether the exchange waits for more of the body. After an upgrade, it decides what the end of the peer's
    /// stream means.
    pub(crate) fn is_starved(&self) -> bool {
        (self.body().is_empty() || self.link.found.gathers)
            && !(self.is_ended() || *self.link.incoming == RequestBody::Upgraded)
    }

    /// Removes what was kept of a trailer section from the input, and keeps none from now on.
    fn drop_trailers(&mut self) {
        if self.link.keeps_trailers {
            *self.link.at += self.link.incoming.trailer_bytes();
            self.link.keeps_trailers = false;
        }
        if matches!(self.link.incoming, RequestBody::Trailers(_)) {
            *self.link.incoming = RequestBody::Ended;
        }
    }
}

impl ConnectionContext<'_> {
    fn rest(&self) -> &[u8] {
        let all = if self.raw.is_empty() { self.bytes } else { &*self.raw };
        all.get(*self.at..).unwrap_or_default()
    }

    /// Decodes the chunk framing up to the next data, or to the end of the body.
    fn decode(&mut self, limits: &Limits, capacity: usize) {
        let ended = match self.incoming {
            RequestBody::Ended | RequestBody::Trailers(_) | RequestBody::Upgraded => return,
            RequestBody::Length(left) => left.is_zero(),
            RequestBody::Chunked(decoder) => {
                let rest = self.bytes.split_at(*self.at).1;
                let taken = if self.keeps_trailers {
                    decoder.frame_before_trailers(rest, limits, capacity)
                } else {
                    decoder.frame(rest, limits)
                };
                match taken {
                    Ok(n) => *self.at += n,
                    Err(status) => self.found.fault = Some(status),
                }
                if decoder.is_done() && self.keeps_trailers {
                    let section = Count::new(decoder.trailer_bytes().into());
                    *self.incoming = RequestBody::Trailers(section);
                    return;
                }
                decoder.is_done()
            }
        };
        if ended {
            *self.incoming = RequestBody::Ended;
        }
    }
}
