//! Messages to requests in progress.

use core::fmt;

use lightcone_core::{Outbox, Rejected, Token};

use crate::request::State;

/// The identity of one request that is not answered at once, returned by [`Transfer::id`](crate::Transfer::id). It is
/// unique: no request on another connection, and no later one on the same connection, has the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RequestId {
    token: Token,
    /// The number of the request among those of its connection that were not answered at once.
    number: u32,
}

impl RequestId {
    /// Creates the identity of a request, for a handler that takes the messages of an [`Http`](crate::Http) server on
    /// connections of its own. `number` distinguishes the requests of one connection.
    #[must_use]
    pub const fn new(token: Token, number: u32) -> Self {
        Self { token, number }
    }

    /// Returns the token of the request's connection, to which a [`message`](Self::message) is posted.
    #[must_use]
    pub const fn token(self) -> Token {
        self.token
    }

    /// Addresses a message to the request.
    #[must_use]
    pub const fn message<M>(self, message: M) -> RequestMessage<M> {
        RequestMessage { to: Some(self), message }
    }
}

/// An addressed message: the message type of the sockets of an [`Http`](crate::Http) server.
///
/// A message is delivered to [`Exchange::message`](crate::Exchange::message) of the request that it is addressed to. If
/// that request has ended, the message is dropped, even if another request is in progress on the connection.
///
/// ```
/// use lightcone_http::{RequestMessage, RequestId};
///
/// /// Posts the result of another thread; `post` is the method of an engine's handle.
/// fn finished(id: RequestId, result: u32, post: impl FnOnce(lightcone_core::Token, RequestMessage<u32>)) {
///     post(id.token(), id.message(result));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestMessage<M> {
    /// `None` for any request that is in progress.
    to: Option<RequestId>,
    message: M,
}

impl<M> RequestMessage<M> {
    /// Addresses a message to any request that is in progress on the connection it is posted to: for broadcasts, such
    /// as the events of an event stream. It is dropped on connections without a request in progress.
    #[must_use]
    pub const fn to_all(message: M) -> Self {
        Self { to: None, message }
    }

    /// Returns the message.
    #[must_use]
    pub fn into_message(self) -> M {
        self.message
    }

    /// Returns the message if it is addressed to the request `by` or to all.
    #[must_use]
    pub fn open(self, by: RequestId) -> Option<M> {
        self.to.is_none_or(|to| to == by).then_some(self.message)
    }
}

/// The way of messages from a route or an exchange to other requests.
pub(crate) struct Outlet<'a, S: State>(&'a mut dyn Outbox<RequestMessage<S::Message>>);

impl<S: State> fmt::Debug for Outlet<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl<'a, S: State> Outlet<'a, S> {
    pub(crate) const fn new(outbox: &'a mut dyn Outbox<RequestMessage<S::Message>>) -> Self {
        Self(outbox)
    }

    pub(crate) fn reborrow(&mut self) -> Outlet<'_, S> {
        Outlet(&mut *self.0)
    }

    pub(crate) fn post(&mut self, to: RequestId, message: S::Message) -> Result<(), Rejected<S::Message>> {
        self.0.post(to.token(), to.message(message)).map_err(content)
    }

    pub(crate) fn broadcast(&mut self, message: S::Message) -> Result<(), Rejected<S::Message>>
    where
        S::Message: Clone,
    {
        self.0.broadcast(RequestMessage::to_all(message), RequestMessage::clone).map_err(content)
    }
}

/// Removes the address from a refused message.
fn content<M>(rejected: Rejected<RequestMessage<M>>) -> Rejected<M> {
    let is_full = matches!(rejected, Rejected::Full(_));
    let message = rejected.into_inner().into_message();
    if is_full { Rejected::Full(message) } else { Rejected::Gone(message) }
}
