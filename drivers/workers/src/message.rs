//! What posts to sockets whose callbacks workers run.

use core::fmt;

use lightcone_core::{Rejected, Token};
use lightcone_unix::Handle;

/// A message to a socket whose callbacks workers run: one of the program's, by [`From`], or a word of the workers' own.
///
/// ```
/// # use lightcone_workers::Offloaded;
/// let message: Offloaded<&str> = "hello".into();
/// ```
#[derive(Clone)]
pub struct Offloaded<M>(pub(crate) Kind<M>);

#[derive(Clone)]
pub(crate) enum Kind<M> {
    /// The program's.
    User(M),
    /// The program's, with how to copy it for the next socket.
    Broadcast(M, fn(&M) -> M),
    /// The socket's worker has left something for its poller.
    Ready,
}

impl<M> From<M> for Offloaded<M> {
    fn from(message: M) -> Self {
        Self(Kind::User(message))
    }
}

impl<M> fmt::Debug for Offloaded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::User(_) | Kind::Broadcast(..) => "Offloaded(..)",
            Kind::Ready => "Offloaded(ready)",
        })
    }
}

impl<M> Offloaded<M> {
    /// A message to many.
    pub(crate) const fn broadcast(message: M, clone: fn(&M) -> M) -> Self {
        Self(Kind::Broadcast(message, clone))
    }

    /// A copy of a message to many, which is the only kind that is copied.
    pub(crate) fn copy(&self) -> Self {
        Self(match &self.0 {
            Kind::Broadcast(message, clone) => Kind::Broadcast(clone(message), *clone),
            Kind::User(_) | Kind::Ready => Kind::Ready,
        })
    }

    /// The program's message.
    pub(crate) fn user(self) -> Option<M> {
        match self.0 {
            Kind::User(message) | Kind::Broadcast(message, _) => Some(message),
            Kind::Ready => None,
        }
    }
}

/// How workers reach the sockets of an engine: its [`Handle`], or what takes its place in an engine of another make.
pub trait Link<M>: Send + Sync {
    /// Posts a message to a socket, to be its `message` event on its own poller. Messages from one thread to one socket
    /// keep their order.
    ///
    /// # Errors
    ///
    /// The message: for now, as its poller's mailbox is full, or for good.
    fn post(&self, to: Token, message: Offloaded<M>) -> Result<(), Rejected<Offloaded<M>>>;

    /// Posts a message to all open sockets; `copy` makes the copies.
    ///
    /// # Errors
    ///
    /// The message, when not every poller took it.
    fn broadcast(
        &self,
        message: Offloaded<M>,
        copy: fn(&Offloaded<M>) -> Offloaded<M>,
    ) -> Result<(), Rejected<Offloaded<M>>>;
}

impl<M: Send + 'static> Link<M> for Handle<Offloaded<M>> {
    fn post(&self, to: Token, message: Offloaded<M>) -> Result<(), Rejected<Offloaded<M>>> {
        self.post(to, message)
    }

    fn broadcast(
        &self,
        message: Offloaded<M>,
        copy: fn(&Offloaded<M>) -> Offloaded<M>,
    ) -> Result<(), Rejected<Offloaded<M>>> {
        self.broadcast_with(message, copy)
    }
}

/// What was rejected, as the program posted it.
pub(crate) fn unwrap<M>(rejected: Rejected<Offloaded<M>>) -> Result<(), Rejected<M>> {
    let full = matches!(rejected, Rejected::Full(_));
    match rejected.into_inner().user() {
        Some(message) if full => Err(Rejected::Full(message)),
        Some(message) => Err(Rejected::Gone(message)),
        None => Ok(()), // what was posted was the program's
    }
}
