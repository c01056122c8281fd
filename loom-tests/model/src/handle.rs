//! Requests from threads other than the pollers.

use std::sync::Arc;

use core::fmt;

use lightcone_core::{Address, PollerId, Rejected, RequestError, Token, Topic, Unpublished};
use loom::sync::Mutex;

use crate::balance::Balancer;
use crate::drive::GRACE;
use crate::net::InMemory;
use crate::poller::{self, Command, PollerHandle};
use crate::sync::Load;
use crate::trace::{What, note};
use crate::waker::Steering;

/// The pollers of a model.
pub(crate) type Group<'h, M> = poller::Group<'h, M, InMemory>;

/// The state that the threads of a model share, like those of an engine.
pub(crate) struct Hub<M> {
    pub(crate) pollers: Box<[PollerHandle<M, InMemory>]>,
    sockets: u32,
    /// The lock that the engine's handle has as well: requests before a shutdown reach each poller before it.
    outside: Mutex<Outside>,
}

struct Outside {
    balancer: Balancer,
    stopped: bool,
}

impl<M> Hub<M> {
    pub(crate) fn new(pollers: Box<[PollerHandle<M, InMemory>]>, sockets: u32, balancer: Balancer) -> Self {
        Self { pollers, sockets, outside: Mutex::new(Outside { balancer, stopped: false }) }
    }

    pub(crate) fn group(&self) -> Group<'_, M> {
        Group::new(&self.pollers, self.sockets)
    }

    fn connect(&self, to: Address, tag: u64) -> Result<(), RequestError> {
        let mut outside = self.outside.lock().expect("no panic");
        let Outside { balancer, stopped: false } = &mut *outside else { return Err(RequestError::Gone) };
        self.group().connect(to, tag, balancer)
    }

    pub(crate) fn loads(&self) -> Vec<u32> {
        self.pollers.iter().map(|poller| AsRef::<Load>::as_ref(poller).get()).collect()
    }

    pub(crate) fn stop(&self) {
        let mut outside = self.outside.lock().expect("no panic");
        outside.stopped = true;
        self.group().stop(GRACE);
    }
}

/// A handle for requests from any thread, with the methods of the real engine's handle. Cheap to clone.
pub struct Handle<M> {
    hub: Arc<Hub<M>>,
    steering: Arc<[Steering]>,
    /// The number of the thread, if it is not a poller.
    thread: Option<usize>,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        let (hub, steering) = (Arc::clone(&self.hub), Arc::clone(&self.steering));
        Self { hub, steering, thread: self.thread }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("pollers", &self.pollers()).finish_non_exhaustive()
    }
}

impl<M> Handle<M> {
    pub(crate) fn new(hub: Arc<Hub<M>>, steering: Arc<[Steering]>, thread: Option<usize>) -> Self {
        Self { hub, steering, thread }
    }

    /// Called before each request, which is about one poller or about all.
    fn begin(&self, does: &'static str, about: Option<PollerId>) {
        let about = about.map(|poller| usize::from(poller.0));
        for (index, steering) in self.steering.iter().enumerate() {
            if about.is_none_or(|about| about == index) {
                steering.here();
            }
        }
        self.thread.into_iter().for_each(|thread| note(None, What::Thread(thread, does)));
    }

    /// Returns the number of pollers.
    #[must_use]
    pub fn pollers(&self) -> usize {
        self.hub.pollers.len()
    }

    /// Posts a message to a socket.
    ///
    /// # Errors
    ///
    /// Returns the message: the poller's mailbox is full, there is no such poller, or it has ended.
    pub fn post(&self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.begin("post", Some(to.poller()));
        self.hub.group().post(to, message, None)
    }

    /// Posts a message to every socket that is open when it arrives.
    ///
    /// # Errors
    ///
    /// Returns the message if a poller's mailbox is full or the poller has ended; the pollers before that one have it.
    pub fn broadcast(&self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.broadcast_with(message, M::clone)
    }

    /// Like [`broadcast`](Self::broadcast), for messages that are not `Clone`: `clone` copies them.
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub fn broadcast_with(&self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.begin("broadcast", None);
        self.hub.group().broadcast(message, clone, None)
    }

    /// Publishes a message to the subscribers of a topic.
    ///
    /// # Errors
    ///
    /// The message, with the first poller whose mailbox is full, or if all pollers have ended.
    pub fn publish(&self, topic: Topic, message: M) -> Result<(), Rejected<Unpublished<M>>>
    where
        M: Clone,
    {
        self.begin("publish", None);
        self.hub.group().publish(Unpublished::new(topic, message, M::clone), None)
    }

    /// Connects to an address, on the poller that the balancer picks. Only a [remote](crate::Model::remote) accepts.
    ///
    /// # Errors
    ///
    /// If every poller is full or has ended.
    pub fn connect(&self, to: Address, tag: u64) -> Result<(), RequestError> {
        self.begin("connect", None);
        self.hub.connect(to, tag)
    }

    /// Closes a socket after the queued bytes have been sent.
    ///
    /// # Errors
    ///
    /// If its poller has no room for the request now, or has ended.
    pub fn close(&self, token: Token) -> Result<(), RequestError> {
        self.begin("close", Some(token.poller()));
        self.close_socket(token, false)
    }

    /// Closes a socket at once.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn abort(&self, token: Token) -> Result<(), RequestError> {
        self.begin("abort", Some(token.poller()));
        self.close_socket(token, true)
    }

    fn close_socket(&self, token: Token, abort: bool) -> Result<(), RequestError> {
        let poller = self.hub.group().poller(token.poller()).ok_or(RequestError::Gone)?;
        Ok(poller.send_command(Command::CloseSocket { token, abort })?)
    }

    /// Returns the number of sockets of each poller, including those on their way to it.
    #[must_use]
    pub fn loads(&self) -> Vec<u32> {
        self.hub.loads()
    }

    /// Begins a shutdown: every socket receives `shutdown`, and those still open when nothing else is left to do are
    /// aborted.
    pub fn shutdown(&self) {
        self.begin("shutdown", None);
        self.hub.stop();
    }
}
