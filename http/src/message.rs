//! Messages to requests in progress.

use core::fmt;

use lightcone_core::{Lag, Outbox, Rejected, SubscribeError, Token, Topic, Unpublished};

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
    /// as the events of an event stream, and for [topics](crate::Transfer::subscribe). It is dropped on connections
    /// without a request in progress.
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

/// The way of messages from a route, an exchange or a layer to other connections, from
/// [`Transfer::outlet`](crate::Transfer::outlet) or over the [outbox](lightcone_core::Context::outbox) of a handler.
///
/// Its methods are those of [`Transfer`](crate::Transfer) and of [`Context`](lightcone_core::Context), and have the
/// same errors. What is posted and published is addressed: see [`RequestMessage`].
pub struct Outlet<'a, S: State>(&'a mut dyn Outbox<RequestMessage<S::Message>>);

impl<S: State> fmt::Debug for Outlet<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

impl<'a, S: State> Outlet<'a, S> {
    /// Creates the way from the services of a driver.
    pub const fn new(outbox: &'a mut dyn Outbox<RequestMessage<S::Message>>) -> Self {
        Self(outbox)
    }

    /// Returns the same for a shorter lifetime.
    pub fn reborrow(&mut self) -> Outlet<'_, S> {
        Outlet(&mut *self.0)
    }

    /// Posts a message to a request.
    ///
    /// # Errors
    ///
    /// See [`Transfer::post`](crate::Transfer::post).
    pub fn post(&mut self, to: RequestId, message: S::Message) -> Result<(), Rejected<S::Message>> {
        self.0.post(to.token(), to.message(message)).map_err(content)
    }

    /// Posts a message to every request in progress.
    ///
    /// # Errors
    ///
    /// See [`Transfer::broadcast`](crate::Transfer::broadcast).
    pub fn broadcast(&mut self, message: S::Message) -> Result<(), Rejected<S::Message>>
    where
        S::Message: Clone,
    {
        self.0.broadcast(RequestMessage::to_all(message), RequestMessage::clone).map_err(content)
    }

    /// Publishes a message to the subscribers of its topic.
    ///
    /// # Errors
    ///
    /// See [`Transfer::publish`](crate::Transfer::publish).
    pub fn publish(
        &mut self,
        message: Unpublished<S::Message>,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        let without_address = |message: Unpublished<RequestMessage<S::Message>>| {
            message.map(RequestMessage::into_message, S::Message::clone)
        };
        self.0.publish(message.map(RequestMessage::to_all, RequestMessage::clone)).map_err(|rejected| {
            let is_full = matches!(rejected, Rejected::Full(_));
            let message = without_address(rejected.into_inner());
            if is_full { Rejected::Full(message) } else { Rejected::Gone(message) }
        })
    }

    /// Subscribes a connection of this poller to a topic.
    ///
    /// # Errors
    ///
    /// See [`Context::subscribe`](lightcone_core::Context::subscribe).
    pub fn subscribe(&mut self, topic: Topic, connection: Token) -> Result<(), SubscribeError> {
        self.0.subscribe(topic, connection)
    }

    /// Ends the subscription of a connection to a topic. Returns whether there was one.
    pub fn unsubscribe(&mut self, topic: Topic, connection: Token) -> bool {
        self.0.unsubscribe(topic, connection)
    }

    pub(crate) fn unsubscribe_all(&mut self, connection: Token) {
        self.0.unsubscribe_all(connection);
    }

    /// Returns the number of connections of this poller that are subscribed to a topic.
    pub fn subscribers(&self, topic: Topic) -> usize {
        self.0.subscribers(topic)
    }

    /// Counts what a subscriber has missed.
    pub fn count_lag(&mut self, lag: Lag) {
        self.0.count_lag(lag);
    }
}

/// Removes the address from a refused message.
fn content<M>(rejected: Rejected<RequestMessage<M>>) -> Rejected<M> {
    let is_full = matches!(rejected, Rejected::Full(_));
    let message = rejected.into_inner().into_message();
    if is_full { Rejected::Full(message) } else { Rejected::Gone(message) }
}
