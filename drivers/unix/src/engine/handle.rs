//! The handle to an engine.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use lightcone_core::poller::{Command, Group};
use lightcone_core::sync::Load;
use lightcone_core::{Address, PollerId, Rejected, RequestError, Stats, Token, Topic, Unpublished};

use super::UnixCommand;
use crate::endpoint::Endpoint;
use crate::limits::LimitError;
use crate::listener::ListenOptions;
use crate::paths::UnixAddressesFull;
use crate::shared::{EngineShared, UnixPollerHandle, locked};
use crate::transport::UnixGroup;

pub(super) struct Inner<M> {
    pub(super) shared: Arc<EngineShared<M>>,
    pub(super) listen: ListenOptions,
    pub(super) shortage: Option<LimitError>,
}

/// A handle to an engine, for use on any thread: posts messages, connects, closes sockets, shuts down. Cheap to clone.
///
/// ```
/// use core::time::Duration;
/// use lightcone_core::{Rejected, Token};
/// use lightcone_unix::Handle;
///
/// /// Posts a result to the socket that waits for it. Returns the result if it is to be posted again later.
/// fn deliver(handle: &Handle<String>, to: Token, result: String) -> Option<String> {
///     match handle.post(to, result) {
///         Err(Rejected::Full(result)) => Some(result),
///         _ => None, // posted, or the engine has stopped
///     }
/// }
///
/// /// Shuts the engine down if a poller has failed.
/// fn check(handle: &Handle<String>) {
///     if handle.failed() > 0 {
///         handle.shutdown(Duration::from_secs(5));
///     }
/// }
/// ```
pub struct Handle<M> {
    pub(super) inner: Arc<Inner<M>>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("shared", &self.inner.shared).finish()
    }
}

impl<M> Handle<M> {
    pub(super) fn shared(&self) -> &EngineShared<M> {
        &self.inner.shared
    }

    pub(super) fn group(&self) -> Group<'_, M, UnixGroup> {
        self.shared().group()
    }

    /// Returns the number of pollers.
    #[must_use]
    pub fn pollers(&self) -> usize {
        self.group().pollers().len()
    }

    /// Posts a message to a socket, where it arrives as a `message` event on the socket's thread.
    ///
    /// If the socket has been closed by then, the message is dropped and [counted](Stats::gone). Messages from one
    /// thread to one socket keep their order.
    ///
    /// # Errors
    ///
    /// Returns the message if the poller's mailbox is full, there is no such poller, or it has stopped.
    pub fn post(&self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.group().post(to, message, None)
    }

    /// Posts a message to every socket that is open when the message arrives at the socket's poller.
    ///
    /// # Errors
    ///
    /// Returns the message if a poller's mailbox is full or the engine has stopped. The pollers before that one, in the
    /// order of their ids, still deliver it.
    pub fn broadcast(&self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.broadcast_with(message, M::clone)
    }

    /// Posts a message to every open socket, using `clone` to copy it. For messages that are not `Clone`.
    ///
    /// # Errors
    ///
    /// Same as [`broadcast`](Self::broadcast).
    pub fn broadcast_with(&self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.group().broadcast(message, clone, None)
    }

    /// Publishes a message to the subscribers of a topic, on all pollers, as
    /// [`Context::publish`](lightcone_core::Context::publish) does in a handler. Those of one thread keep their order.
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] if the mailbox of a poller is full: pass what comes back to
    /// [`publish_rest`](Self::publish_rest) later, or the other pollers miss the message. [`Rejected::Gone`] if the
    /// engine has stopped.
    pub fn publish(&self, topic: Topic, message: M) -> Result<(), Rejected<Unpublished<M>>>
    where
        M: Clone,
    {
        self.publish_rest(Unpublished::new(topic, message, M::clone))
    }

    /// Publishes a message to the pollers that do not have it: after a [`publish`](Self::publish) that found a mailbox
    /// full, or for a message that is not `Clone`.
    ///
    /// # Errors
    ///
    /// The same as of `publish`.
    pub fn publish_rest(&self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.group().publish(message, None)
    }

    /// Begins to connect to an address, on the poller that the balancer picks. The handler's `admit` is called with the
    /// tag; `open` or `refused` follows.
    ///
    /// ```
    /// use lightcone_unix::endpoint::Endpoint;
    /// use lightcone_unix::{Error, Handle};
    ///
    /// /// Connects to an endpoint such as `127.0.0.1:8080` or `unix:/run/app.sock`.
    /// fn connect(handle: &Handle<String>, to: &str, tag: u64) -> Result<(), Error> {
    ///     let endpoint: Endpoint = to.parse()?;
    ///     let address = handle.address(&endpoint)?;
    ///     handle.connect(address, tag)?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] if every poller is full, [`RequestError::Gone`] if the engine has been shut down.
    pub fn connect(&self, to: Address, tag: u64) -> Result<(), RequestError> {
        self.shared().connect(to, tag)
    }

    /// Closes a socket after its queued output has been sent. The `close` event follows on the socket's thread.
    ///
    /// # Errors
    ///
    /// [`RequestError::Full`] if the poller's command mailbox is full, [`RequestError::Gone`] if the poller has
    /// stopped.
    pub fn close(&self, token: Token) -> Result<(), RequestError> {
        self.send(token.poller(), Command::CloseSocket { token, abort: false })
    }

    /// Closes a socket at once and discards its queued output.
    ///
    /// # Errors
    ///
    /// Same as [`close`](Self::close).
    pub fn abort(&self, token: Token) -> Result<(), RequestError> {
        self.send(token.poller(), Command::CloseSocket { token, abort: true })
    }

    pub(super) fn send(&self, poller: PollerId, command: UnixCommand) -> Result<(), RequestError> {
        let poller = self.shared().poller(poller).ok_or(RequestError::Gone)?;
        Ok(poller.send_command(command)?)
    }

    /// Returns the address of an endpoint, for use with [`connect`](Self::connect).
    ///
    /// The address of a Unix socket is a number, for which the engine remembers the path. It remembers 4,096 paths:
    /// those that it listens on, and the most recently used others. The address of a forgotten path is invalid:
    /// [`endpoint`](Self::endpoint) returns `None`, and a connect is refused. Call this again to get a new one.
    ///
    /// # Errors
    ///
    /// If the engine listens on all the Unix paths that it can remember.
    pub fn address(&self, endpoint: &Endpoint) -> Result<Address, UnixAddressesFull> {
        self.shared().address(endpoint)
    }

    /// Returns the endpoint of an address; for a Unix socket, this is its path.
    #[must_use]
    pub fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        self.shared().endpoint(address)
    }

    /// Returns the counts of each poller, at most a tenth of a second old.
    #[must_use]
    pub fn stats(&self) -> Vec<Stats> {
        self.shared().stats()
    }

    /// Returns the number of pollers that have [failed](crate::PollerReport::failed); 0 once the engine is shutting
    /// down.
    ///
    /// The other pollers continue. But if the accepting poller has failed, no connections are accepted any more; the
    /// program should then shut the engine down.
    #[must_use]
    pub fn failed(&self) -> usize {
        if locked(&self.shared().registry).stopping {
            return 0; // a poller that has stopped is closed as well, and looks the same from here
        }
        self.group().pollers().iter().filter(|poller| poller.is_closed()).count()
    }

    /// Returns the current number of sockets of each poller, including those that are assigned to it and have not
    /// arrived.
    #[must_use]
    pub fn loads(&self) -> Vec<u32> {
        let load = |poller: &UnixPollerHandle<M>| AsRef::<Load>::as_ref(poller).get();
        self.group().pollers().iter().map(load).collect()
    }

    /// Begins a graceful shutdown, and returns at once. [`Engine::join`](super::Engine::join) waits for its end.
    ///
    /// Connections that wait at the listeners are still accepted, then the listeners close. On every socket, the bytes
    /// that have already arrived are received, then the `shutdown` event is delivered. Sockets that are still open
    /// after the grace time are aborted. With a grace time of zero, nothing more is accepted. Further calls can only
    /// shorten the grace time.
    pub fn shutdown(&self, grace: Duration) {
        self.shared().stop(grace);
    }
}
