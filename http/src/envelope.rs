//! Messages to requests that are answered later.

use lightcone_core::Token;

/// The identity of one request that is answered later: returned by [`Transfer::id`](crate::Transfer::id). No other
/// request has it, neither one on another connection nor one that follows on the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    token: Token,
    /// Counts the requests of a connection that were not answered at once.
    number: u32,
}

impl RequestId {
    pub(crate) const fn new(token: Token, number: u32) -> Self {
        Self { token, number }
    }

    /// Returns the connection that the request came on: where to post the [`envelope`](Self::envelope).
    #[must_use]
    pub const fn token(self) -> Token {
        self.token
    }

    /// Addresses a message to the request.
    #[must_use]
    pub const fn envelope<M>(self, message: M) -> Envelope<M> {
        Envelope { to: Some(self), message }
    }
}

/// A message with its address: what is posted to the sockets of an [`Http`](crate::Http).
///
/// It reaches [`Exchange::message`](crate::Exchange::message) of the request that it is addressed to. Once that request
/// has ended it is dropped, whatever follows on the connection.
///
/// ```
/// use lightcone_http::{Envelope, RequestId};
///
/// /// What a thread of the program does with its result: `post` is that of an engine's handle.
/// fn finished(id: RequestId, result: u32, post: impl FnOnce(lightcone_core::Token, Envelope<u32>)) {
///     post(id.token(), id.envelope(result));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<M> {
    /// `None`: whichever request is in progress.
    to: Option<RequestId>,
    message: M,
}

impl<M> Envelope<M> {
    /// Addresses a message to whichever request is in progress on the connection that it is posted to: for broadcasts,
    /// such as the events of an event stream. It is dropped where none is in progress.
    #[must_use]
    pub const fn to_all(message: M) -> Self {
        Self { to: None, message }
    }

    /// Returns the message.
    #[must_use]
    pub fn into_message(self) -> M {
        self.message
    }

    /// Returns the message if it is for this request.
    pub(crate) fn open(self, by: RequestId) -> Option<M> {
        self.to.is_none_or(|to| to == by).then_some(self.message)
    }
}
