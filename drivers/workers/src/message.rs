//! Messages to sockets whose callbacks run on workers.

use core::fmt;

use lightcone_core::{Rejected, Token};
use lightcone_unix::Handle;

/// A message to a socket whose callbacks run on workers: an application message, created with [`From`], or an
/// internal notification.
///
/// ```
/// # use lightcone_workers::Offloaded;
/// let message: Offloaded<&str> = "hello".into();
/// ```
#[derive(Clone)]
pub struct Offloaded<M>(pub(crate) OffloadedKind<M>);

#[derive(Clone)]
pub(crate) enum OffloadedKind<M> {
    /// An application message.
    User(M),
    /// An application message to all sockets, with the function that copies it for the next one.
    Broadcast(M, fn(&M) -> M),
    /// A worker has left something in the bridge for the poller.
    Ready,
}

impl<M> From<M> for Offloaded<M> {
    fn from(message: M) -> Self {
        Self(OffloadedKind::User(message))
    }
}

impl<M> fmt::Debug for Offloaded<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            OffloadedKind::User(_) | OffloadedKind::Broadcast(..) => "Offloaded(..)",
            OffloadedKind::Ready => "Offloaded(ready)",
        })
    }
}

impl<M> Offloaded<M> {
    /// Creates a broadcast.
    pub(crate) const fn broadcast(message: M, clone: fn(&M) -> M) -> Self {
        Self(OffloadedKind::Broadcast(message, clone))
    }

    /// Copies a broadcast; no other kind is ever copied.
    pub(crate) fn copy(&self) -> Self {
        Self(match &self.0 {
            OffloadedKind::Broadcast(message, clone) => OffloadedKind::Broadcast(clone(message), *clone),
            OffloadedKind::User(_) | OffloadedKind::Ready => OffloadedKind::Ready,
        })
    }
}

/// The link from the workers to the sockets of an engine: its [`Handle`], or the equivalent of a custom engine.
pub trait PollerLink<M>: Send + Sync {
    /// Posts a message to a socket, which receives it as a `message` event on its own poller. Messages from
    /// one thread to one socket keep their order.
    ///
    /// # Errors
    ///
    /// Returns the message if the poller's mailbox is full, or if the poller has ended.
    fn post(&self, to: Token, message: Offloaded<M>) -> Result<(), Rejected<Offloaded<M>>>;

    /// Posts a message to all open sockets; `copy` makes the copies.
    ///
    /// # Errors
    ///
    /// Returns the message if not every poller accepted it.
    fn broadcast(
        &self,
        message: Offloaded<M>,
        copy: fn(&Offloaded<M>) -> Offloaded<M>,
    ) -> Result<(), Rejected<Offloaded<M>>>;
}

impl<M: Send + 'static> PollerLink<M> for Handle<Offloaded<M>> {
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

/// Converts a rejected post back to the application's message.
pub(crate) fn unwrap<M>(rejected: Rejected<Offloaded<M>>) -> Result<(), Rejected<M>> {
    let full = matches!(rejected, Rejected::Full(_));
    match rejected.into_inner().0 {
        OffloadedKind::User(message) | OffloadedKind::Broadcast(message, _) => {
            Err(if full { Rejected::Full(message) } else { Rejected::Gone(message) })
        }
        OffloadedKind::Ready => Ok(()), // only application messages are posted
    }
}
