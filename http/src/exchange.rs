//! Requests that take longer than one callback: streamed bodies, both ways.

use crate::parse::chunked::Count;
use crate::request::State;
use crate::respond::response::{Reply, Response};
use crate::status::Status;
use crate::transfer::Transfer;

/// Whether an exchange goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flow {
    /// It waits for more body, for room, or for a message.
    More,
    /// It is over. What is left of the request's body is read and dropped.
    Done,
    /// It is given up: the connection ends without an answer, or within one, and the request counts as aborted.
    Abort,
}

impl From<Reply<Done>> for Flow {
    fn from(_: Reply<Done>) -> Self {
        Self::Done
    }
}

/// The state of one request that is not answered at once: kept in the connection, driven by what happens on it.
///
/// It is *level-triggered*: [`advance`](Self::advance) is called when the request is accepted, and again whenever
/// there are new body bytes, room, or the end of the body; it does what it can and says whether that is all. Every
/// connection has room for the largest exchange of its server, so keep it small.
///
/// It is dropped when it is done, and when its connection ends before: at once if it is reset, timed out or lost. An
/// end of the peer's stream is told by [`peer_closed`](Self::peer_closed), a shutdown of the server by
/// [`shutdown`](Self::shutdown). What is to happen later it asks for by [`Transfer::wake_at`], or another part of the program posts it as a [`message`](Self::message) to
/// the identity that [`Transfer::id`] returns.
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
///         if io.ended() { Flow::Done } else { Flow::More }
///     }
/// }
///
/// let server = Http::new().post("/echo", |request, response| response.stream(request.head.length(), Echo));
/// # drop(server);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't drive a streamed response",
    label = "not an `Exchange<{S}>`",
    note = "implement `Exchange` for it, or answer at once with `response.text(..)`"
)]
pub trait Exchange<S: State> {
    /// Goes on as far as it can. It may be called though nothing has changed.
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow;

    /// Called with a message that was posted to this request, or to all: see [`Envelope`](crate::Envelope). It comes
    /// whether there is room or not: what can't be written now is kept in the exchange and written by
    /// [`advance`](Self::advance), which is called when there is room again.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, RequestId, State, Transfer};
    ///
    /// /// Has the requests that wait for a price. To each of them, `id`, a price is posted by
    /// /// `handle.post(id.token(), id.envelope(price))`, with a handle of the engine.
    /// struct Prices {
    ///     waiting: Vec<RequestId>,
    /// }
    ///
    /// impl State for Prices {
    ///     type Message = u32;
    /// }
    ///
    /// /// Answers with the price that is posted to its request.
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
    ///             Some(price) if io.ready() => io.respond(|_, response| response.display(price)),
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

    /// Called when the server is shutting down, once: at once if the request is in progress, else right after the
    /// first [`advance`](Self::advance). The default goes on; what is not over at the end of the grace time is cut. An
    /// exchange without an end of its own, such as an event stream, returns [`Flow::Done`]. As with a
    /// [`message`](Self::message), there may be no room to write.
    ///
    /// ```
    /// use lightcone_http::{Exchange, Flow, Http, State, Transfer};
    ///
    /// /// Events that end with the server, and with their client.
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

    /// Called when the peer has ended its side of the connection, at least once; also right after the first
    /// [`advance`](Self::advance), if it has done so before. It is one of two things, which look alike until something
    /// is sent: a client that has sent its last request and still reads the answer, or one that has left. So the
    /// default goes on, as an answer that is on its way must. An exchange that would wait for a long time, such as a
    /// long poll or an event stream, returns [`Flow::Abort`], or answers.
    ///
    /// A peer that resets the connection ends the exchange without this call. While the connection is not read from,
    /// since the peer takes no output or has sent so many further requests that the input is full, an end comes when
    /// reading goes on, and a reset when it does or with the next send.
    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io;
        Flow::More
    }
}

/// The exchange of a request that was answered at once: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done;

impl<S: State> Exchange<S> for Done {
    fn advance(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        Flow::Done
    }
}

/// A response body made by a closure: see [`Response::generate`].
#[derive(Clone, Copy, Debug)]
pub struct Generate<F> {
    offset: Count,
    f: F,
}

impl<F> Generate<F> {
    pub(crate) const fn new(f: F) -> Self {
        Self { offset: Count::new(0), f }
    }
}

impl<S: State, F: FnMut(u64, &mut [u8])> Exchange<S> for Generate<F> {
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

/// A response body that is part of the program: see [`Response::embedded`]. What is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Embedded(pub(crate) &'static [u8]);

impl<S: State> Exchange<S> for Embedded {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let n = io.write(self.0);
        self.0 = self.0.get(n..).unwrap_or(&[]);
        if self.0.is_empty() { Flow::Done } else { Flow::More }
    }
}

/// A request body gathered whole before it is answered: see [`Request::collect`](crate::Request::collect).
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
        if !io.ended() {
            return Flow::More;
        }
        let body = self.buffer.get(..self.used).unwrap_or(&[]);
        io.respond(|state, response| (self.f)(state, body, response))
    }
}

/// A request body that is answered when it has come whole, read in place: see
/// [`Request::gather`](crate::Request::gather).
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

/// One of two exchanges: how those of a chain of routes become one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}
