//! Requests that take longer than one callback: streamed bodies in both directions, and deferred responses.

use crate::parse::chunked::Count;
use crate::request::State;
use crate::respond::response::{Reply, Response};
use crate::status::Status;
use crate::transfer::Transfer;

/// Whether an exchange continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
#[non_exhaustive]
pub enum Flow {
    /// The exchange waits for more body, for room, or for a message.
    More,
    /// The exchange is over. What is left of the request's body is read and dropped.
    Done,
    /// The exchange gives up: the connection ends without a response, or in the middle of one, and the request counts
    /// as aborted. The connection is reset if the response could look complete otherwise: if the end of the connection
    /// delimits it, and always after an [upgrade](Response::upgrade). What is queued is then lost. In other cases, it
    /// still leaves.
    Abort,
}

impl From<Reply<Done>> for Flow {
    fn from(_: Reply<Done>) -> Self {
        Self::Done
    }
}

/// The state of one request that is not answered at once. It is kept in the connection and driven by its events.
///
/// An exchange is *level-triggered*: [`advance`](Self::advance) is called when the request is accepted, and again
/// whenever there are new body bytes, the end of the body, or room. It does what it can and returns whether it is done.
/// Every connection has room for the largest exchange of its server, so keep exchanges small.
///
/// An exchange is dropped when it is done, or when its connection ends before that: at once if the connection is reset,
/// timed out or lost. [`peer_closed`](Self::peer_closed) is called when the peer ends its stream, and
/// [`shutdown`](Self::shutdown) when the server shuts down. For later work, an exchange schedules a call with
/// [`Transfer::wake_at`], or another part of the program posts a [`message`](Self::message) to the identity that
/// [`Transfer::id`] returns.
///
/// ```
/// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
///
/// /// Sends the body back.
/// struct Echo;
///
/// impl<S: State> Exchange<S> for Echo {
///     fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
///         io.copy();
///         if io.is_ended() { Flow::Done } else { Flow::More }
///     }
/// }
///
/// let server = Http::new().post("/echo", |request, response| response.stream(request.head.length(), Echo));
/// # drop(server);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot drive a streamed response",
    label = "not an `Exchange<{S}>`",
    note = "implement `Exchange` for it, or respond at once with `response.text(..)`"
)]
pub trait Exchange<S: State> {
    /// Reads and writes as much as possible. May be called although nothing has changed.
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow;

    /// Handles a message that was posted to this request, or to all: see [`RequestMessage`](crate::RequestMessage).
    ///
    /// A message is delivered whether there is room or not. The exchange has to keep what it cannot write now;
    /// [`advance`](Self::advance) is called when there is room again.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, RequestId, State, Transfer};
    ///
    /// /// The requests that wait for a price. The program posts one to each `id` with
    /// /// `handle.post(id.token(), id.message(price))`, where `handle` is a handle of the engine.
    /// struct Prices {
    ///     waiting: Vec<RequestId>,
    /// }
    ///
    /// impl State for Prices {
    ///     type Message = u32;
    /// }
    ///
    /// /// Responds with the price that is posted to its request.
    /// #[derive(Default)]
    /// struct Next {
    ///     asked: bool,
    ///     price: Option<u32>,
    /// }
    ///
    /// impl Exchange<Prices> for Next {
    ///     fn advance(&mut self, io: &mut Transfer<'_, Prices>) -> Flow {
    ///         if !self.asked {
    ///             self.asked = true;
    ///             io.state.waiting.push(io.id());
    ///         }
    ///         match self.price {
    ///             Some(price) if io.is_ready() => io.respond(|_, response| response.display(price)),
    ///             _ => Flow::More,
    ///         }
    ///     }
    ///
    ///     fn message(&mut self, price: u32, io: &mut Transfer<'_, Prices>) -> Flow {
    ///         self.price = Some(price);
    ///         self.advance(io)
    ///     }
    /// }
    ///
    /// let server = Http::with(Prices { waiting: Vec::new() })
    ///     .get("/next", |_request, response| response.defer(Next::default()));
    /// # drop(server);
    /// ```
    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        let _ = (message, io);
        Flow::More
    }

    /// Handles the start of the server's shutdown. Called once: immediately if the request is in progress, otherwise
    /// right after the first [`advance`](Self::advance).
    ///
    /// The default continues; requests that are not over at the end of the grace time are cut off. An exchange that
    /// does not end otherwise, such as an event stream, should return [`Flow::Done`]. As with a
    /// [`message`](Self::message), there may be no room to write.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// An event stream that ends when the server shuts down or the client leaves.
    /// struct Events;
    ///
    /// impl<S: State> Exchange<S> for Events {
    ///     fn advance(&mut self, _: &mut Transfer<'_, S>) -> Flow {
    ///         Flow::More
    ///     }
    ///
    ///     fn shutdown(&mut self, _: &mut Transfer<'_, S>) -> Flow {
    ///         Flow::Done
    ///     }
    ///
    ///     fn peer_closed(&mut self, _: &mut Transfer<'_, S>) -> Flow {
    ///         Flow::Abort
    ///     }
    /// }
    ///
    /// let server = Http::new().get("/events", |_request, response| {
    ///     response.header("Content-Type", "text/event-stream").stream(None, Events)
    /// });
    /// # drop(server);
    /// ```
    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io;
        Flow::More
    }

    /// Handles the end of the peer's stream. Called at least once when the stream has ended; right after the first
    /// [`advance`](Self::advance) if it had ended before the request was accepted.
    ///
    /// The peer is either a client that has sent its last request and still reads the response, or one that has left.
    /// The two look alike until something is sent. The default therefore continues, so that a response in progress is
    /// completed. An exchange that may wait for a long time, such as a long poll or an event stream, should return
    /// [`Flow::Abort`] or respond.
    ///
    /// A reset by the peer drops the exchange without this call. The socket is not read while the peer takes no output,
    /// or while further requests fill the input. During that time, an end of the stream is noticed only when reading
    /// resumes, and a reset then or with the next send.
    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io;
        Flow::More
    }

    /// Called when the time has come that was set by [`Transfer::wake_at`], after an [upgrade](Response::upgrade) only.
    /// A call of [`advance`](Self::advance) follows, as without an upgrade.
    fn wake(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io;
        Flow::More
    }

    /// Called if the connection ends before the exchange is over, after an [upgrade](Response::upgrade) only: the peer
    /// has reset it, a timeout of the engine has ended it, or the grace time of a shutdown is over. Nothing can be sent
    /// any more. The exchange is dropped afterwards.
    fn disconnected(&mut self, io: &mut Transfer<'_, S>) {
        let _ = io;
    }
}

/// The type of exchange for requests that are answered at once; never driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Done;

impl<S: State> Exchange<S> for Done {
    fn advance(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        Flow::Done
    }
}

/// A response body that is generated by a closure: see [`Response::generate`].
#[derive(Clone, Copy, Debug)]
pub struct GeneratedBody<F> {
    offset: Count,
    f: F,
}

impl<F> GeneratedBody<F> {
    pub(crate) const fn new(f: F) -> Self {
        Self::from_offset(0, f)
    }

    pub(crate) const fn from_offset(offset: u64, f: F) -> Self {
        Self { offset: Count::new(offset), f }
    }
}

impl<S: State, F: FnMut(u64, &mut [u8])> Exchange<S> for GeneratedBody<F> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        loop {
            let offset = self.offset.get();
            let n = io.fill(|piece| {
                (self.f)(offset, piece);
                piece.len()
            });
            if n == 0 {
                break;
            }
            self.offset = Count::new(offset + n as u64);
        }
        if io.remaining() == Some(0) { Flow::Done } else { Flow::More }
    }
}

/// The unsent rest of a response body that is part of the program: see [`Response::embedded`].
#[derive(Clone, Copy, Debug)]
pub struct StaticBody(pub(crate) &'static [u8]);

impl<S: State> Exchange<S> for StaticBody {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let n = io.write(self.0);
        self.0 = self.0.split_at(n).1;
        if self.0.is_empty() { Flow::Done } else { Flow::More }
    }
}

/// A request body that is collected into a buffer before the handler responds: see
/// [`Request::collect`](crate::Request::collect).
#[derive(Clone, Copy, Debug)]
pub struct Collect<const N: usize, F> {
    used: usize,
    buffer: [u8; N],
    f: F,
}

impl<const N: usize, F> Collect<N, F> {
    pub(crate) const fn new(f: F) -> Self {
        Self { used: 0, buffer: [0; N], f }
    }
}

impl<S, F, const N: usize> Exchange<S> for Collect<N, F>
where
    S: State,
    F: FnMut(&mut S, &[u8], Response<'_>) -> Reply<Done>,
{
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        while !io.body().is_empty() {
            let n = io.body().len();
            let Some(place) = self.buffer.get_mut(self.used..self.used + n) else {
                return io.respond(|_, response| response.refuse(Status::CONTENT_TOO_LARGE));
            };
            place.copy_from_slice(io.body());
            self.used += n;
            io.consume(n);
        }
        if !io.is_ended() {
            return Flow::More;
        }
        let (body, _) = self.buffer.split_at(self.used);
        io.respond(|state, response| (self.f)(state, body, response))
    }
}

/// A request body that is read in place once all of it has arrived: see [`Request::gather`](crate::Request::gather).
#[derive(Clone, Copy, Debug)]
pub struct Gather<F>(F);

impl<F> Gather<F> {
    pub(crate) const fn new(f: F) -> Self {
        Self(f)
    }
}

impl<S, F> Exchange<S> for Gather<F>
where
    S: State,
    F: FnMut(&mut S, &[u8], Response<'_>) -> Reply<Done>,
{
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match io.whole_body() {
            Some(body) => io.respond(|state, response| (self.0)(state, body, response)),
            None => Flow::More,
        }
    }
}

/// One of two exchanges, which makes the exchanges of a chain of routes one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// For a handler whose branches have different exchanges: see [`Reply::map`].
impl<S: State, A: Exchange<S>, B: Exchange<S>> Exchange<S> for Either<A, B> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match self {
            Self::Left(exchange) => exchange.advance(io),
            Self::Right(exchange) => exchange.advance(io),
        }
    }

    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        match self {
            Self::Left(exchange) => exchange.message(message, io),
            Self::Right(exchange) => exchange.message(message, io),
        }
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match self {
            Self::Left(exchange) => exchange.shutdown(io),
            Self::Right(exchange) => exchange.shutdown(io),
        }
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match self {
            Self::Left(exchange) => exchange.peer_closed(io),
            Self::Right(exchange) => exchange.peer_closed(io),
        }
    }

    fn wake(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        match self {
            Self::Left(exchange) => exchange.wake(io),
            Self::Right(exchange) => exchange.wake(io),
        }
    }

    fn disconnected(&mut self, io: &mut Transfer<'_, S>) {
        match self {
            Self::Left(exchange) => exchange.disconnected(io),
            Self::Right(exchange) => exchange.disconnected(io),
        }
    }
}
