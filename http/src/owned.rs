//! Request and response bodies on the heap. A connection has room for one pointer to them, which is unused while it is
//! idle.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::exchange::{Done, Exchange, Flow};
use crate::request::State;
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
    pub(crate) fn new(body: impl AsRef<[u8]> + Send + 'static) -> Self {
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
        rest.sent += io.write(body.get(rest.sent..).unwrap_or(&[])); // a body may shrink: it is the program's
        if rest.sent >= body.len() {
            return Flow::Done;
        }
        self.0 = Slim(Some(rest));
        Flow::More
    }
}

/// An exchange on the heap: see [`Reply::boxed`].
pub struct Boxed<B>(Slim<B>);

impl<B> Boxed<B> {
    pub(crate) fn new(exchange: B) -> Self {
        Self(Slim::new(exchange))
    }

    /// Calls the exchange, and frees it when it is over.
    fn call(&mut self, call: impl FnOnce(&mut B) -> Flow) -> Flow {
        let Some(mut exchange) = self.0.take() else { return Flow::Done };
        let flow = call(&mut exchange);
        if flow == Flow::More {
            self.0 = Slim(Some(exchange));
        }
        flow
    }
}

impl<B> fmt::Debug for Boxed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}

impl<S: State, B: Exchange<S>> Exchange<S> for Boxed<B> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.call(|exchange| exchange.advance(io))
    }

    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        self.call(|exchange| exchange.message(message, io))
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.call(|exchange| exchange.shutdown(io))
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.call(|exchange| exchange.peer_closed(io))
    }

    fn wake(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.call(|exchange| exchange.wake(io))
    }

    fn disconnected(&mut self, io: &mut Transfer<'_, S>) {
        let _ = self.call(|exchange| {
            exchange.disconnected(io);
            Flow::Abort
        });
    }
}

/// A request body that is collected on the heap: see
/// [`Request::collect_vec`](crate::Request::collect_vec).
pub struct CollectVec<F>(Slim<Gathering<F>>);

struct Gathering<F> {
    body: Vec<u8>,
    limit: usize,
    /// The response to a body beyond the limit.
    refuse: fn(usize, Response<'_>) -> Reply<Done>,
    answer: Option<Owned>,
    f: F,
}

impl<F> CollectVec<F> {
    pub(crate) fn new(limit: usize, f: F) -> Self {
        Self::refusing(limit, |_, response| response.refuse(Status::CONTENT_TOO_LARGE), f)
    }

    pub(crate) fn refusing(limit: usize, refuse: fn(usize, Response<'_>) -> Reply<Done>, f: F) -> Self {
        Self(Slim::new(Gathering { body: Vec::new(), limit, refuse, answer: None, f }))
    }
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
                return io.respond(|_, response| (self.refuse)(self.limit, response));
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
