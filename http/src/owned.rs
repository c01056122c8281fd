//! Request and response bodies on the heap. A connection has room for one pointer to them, which is unused while it is
//! idle.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::exchange::{Exchange, Flow};
use crate::request::{Request, State};
use crate::respond::response::{Reply, Response};
use crate::status::Status;
use crate::transfer::Transfer;

/// A box without alignment, so that it leaves no gap in a connection.
#[repr(Rust, packed)]
struct Slim<T>(Option<Box<T>>);

impl<T> Slim<T> {
    fn new(value: T) -> Self {
        Self(Some(Box::new(value)))
    }

    fn take(&mut self) -> Option<Box<T>> {
        let Self(value) = core::mem::replace(self, Self(None));
        value
    }
}

/// The unsent rest of a response body on the heap: see [`Response::owned`].
pub struct Owned(Slim<Rest>);

struct Rest {
    body: Box<dyn AsRef<[u8]> + Send>,
    sent: usize,
}

impl Owned {
    fn new(body: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Slim::new(Rest { body: Box::new(body), sent: 0 }))
    }
}

impl fmt::Debug for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owned").finish_non_exhaustive()
    }
}

impl<S: State> Exchange<S> for Owned {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let Some(mut rest) = self.0.take() else { return Flow::Done };
        let body = (*rest.body).as_ref();
        rest.sent += io.write(body.get(rest.sent..).unwrap_or(&[]));
        if rest.sent >= body.len() {
            return Flow::Done;
        }
        self.0 = Slim(Some(rest));
        Flow::More
    }
}

/// A request body that is collected on the heap: see [`Request::collect_vec`].
pub struct CollectVec<F>(Slim<Gathering<F>>);

struct Gathering<F> {
    body: Vec<u8>,
    limit: usize,
    answer: Option<Owned>,
    f: F,
}

impl<F> fmt::Debug for CollectVec<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectVec").finish_non_exhaustive()
    }
}

impl<S, F> Exchange<S> for CollectVec<F>
where
    S: State,
    F: FnMut(&mut S, Vec<u8>, Response<'_>) -> Reply<Owned>,
{
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let Some(mut gathering) = self.0.take() else { return Flow::Done };
        let flow = gathering.advance(io);
        if flow == Flow::More {
            self.0 = Slim(Some(gathering));
        }
        flow
    }
}

impl<F> Gathering<F> {
    fn advance<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Flow
    where
        F: FnMut(&mut S, Vec<u8>, Response<'_>) -> Reply<Owned>,
    {
        if let Some(answer) = &mut self.answer {
            return answer.advance(io);
        }
        while !io.body().is_empty() {
            let piece = io.body();
            if piece.len() > self.limit - self.body.len() {
                return io.respond(|_, response| response.refuse(Status::CONTENT_TOO_LARGE));
            }
            if self.body.try_reserve(piece.len()).is_err() {
                return io.respond(|_, response| response.refuse(Status::SERVICE_UNAVAILABLE));
            }
            self.body.extend_from_slice(piece);
            io.consume(io.body().len());
        }
        if !io.is_ended() {
            return Flow::More;
        }
        let body = core::mem::take(&mut self.body);
        self.answer = io.respond_with(|state, response| (self.f)(state, body, response));
        match &mut self.answer {
            Some(answer) => answer.advance(io),
            None => Flow::Done,
        }
    }
}

impl Response<'_> {
    /// Sends a body of any length that the response owns, such as a `Vec<u8>`, a `String` or an `Arc<[u8]>`, piece by
    /// piece as there is room. Set a `Content-Type`. Each connection has room for a pointer to the body. Requires the
    /// feature `alloc`.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().get("/numbers", |_request, response| {
    ///     let numbers: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    ///     response.header("Content-Type", "text/plain").owned(numbers)
    /// });
    /// # drop(server);
    /// ```
    pub fn owned(self, body: impl AsRef<[u8]> + Send + 'static) -> Reply<Owned> {
        let length = body.as_ref().len();
        self.stream(Some(length as u64), Owned::new(body))
    }
}

impl<S: State> Request<'_, S> {
    /// Collects the body on the heap and calls `f` with it once it is complete, whether it has a length or is
    /// chunked. A body of more than `limit` bytes is refused with 413, as is one beyond
    /// [`Limits::body`](crate::Limits::body). Each connection has room for a pointer. Requires the feature `alloc`.
    ///
    /// `f` may return a response that [owns its body](Response::owned), or one that is complete at once, by
    /// [`into_any`](Reply::into_any). If the system has no memory for the body, the response is 503.
    ///
    /// ```
    /// # use lightcone_http::Http;
    /// let server = Http::new().post("/sorted", |request, response| {
    ///     request.collect_vec(1 << 20, response, |_state, mut body, response| {
    ///         body.sort_unstable();
    ///         match body.is_empty() {
    ///             true => response.status(400).text("nothing to sort").into_any(),
    ///             false => response.header("Content-Type", "application/octet-stream").owned(body),
    ///         }
    ///     })
    /// });
    /// # drop(server);
    /// ```
    pub fn collect_vec<F>(&self, limit: usize, response: Response<'_>, f: F) -> Reply<CollectVec<F>>
    where
        F: FnMut(&mut S, Vec<u8>, Response<'_>) -> Reply<Owned>,
    {
        if self.head.length().is_some_and(|length| length > limit as u64) {
            return response.refuse(Status::CONTENT_TOO_LARGE).into_any();
        }
        response.defer(CollectVec(Slim::new(Gathering { body: Vec::new(), limit, answer: None, f })))
    }
}
