//! What threads beside the pollers can ask for.

use std::sync::Arc;

use core::fmt;
use core::time::Duration;

use lightcone_core::{Address, PollerId, Rejected, Token};

use crate::crossing::PushError;
use crate::hub::{Control, Hub};
use crate::trace::{What, note};
use crate::waker::Steering;

/// What any thread can ask of the engine under test, by the names of the real one's handle. Cheap to clone.
pub struct Handle<M> {
    hub: Arc<Hub<M>>,
    steering: Arc<[Steering]>,
    /// Of a thread beside the pollers, its number.
    thread: Option<usize>,
}

/// An order that was not taken: there is no room for it now, or the poller has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused: the poller is full, or it has ended")
    }
}

impl core::error::Error for Refused {}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        let (hub, steering) = (Arc::clone(&self.hub), Arc::clone(&self.steering));
        Self { hub, steering, thread: self.thread }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("hub", &self.hub).finish()
    }
}

impl<M> Handle<M> {
    pub(crate) fn new(hub: Arc<Hub<M>>, steering: Arc<[Steering]>, thread: Option<usize>) -> Self {
        Self { hub, steering, thread }
    }

    /// Before each call, about one poller or about all.
    fn begin(&self, does: &'static str, about: Option<PollerId>) {
        let about = about.map(|poller| usize::from(poller.0));
        for (index, steering) in self.steering.iter().enumerate() {
            if about.is_none_or(|about| about == index) {
                steering.here();
            }
        }
        self.thread.into_iter().for_each(|thread| note(None, What::Thread(thread, does)));
    }

    /// How many pollers there are.
    #[must_use]
    pub fn pollers(&self) -> usize {
        self.hub.pollers.len()
    }

    /// Posts a message to a socket.
    ///
    /// # Errors
    ///
    /// The message itself: the poller's mailbox is full, there is no such poller, or it has ended.
    pub fn post(&self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.begin("post", Some(to.poller()));
        self.hub.post(to, message, None)
    }

    /// Posts a message to every socket that is open when it arrives.
    ///
    /// # Errors
    ///
    /// The message itself, when a poller's mailbox is full or it has ended; pollers before that one have it.
    pub fn broadcast(&self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.begin("broadcast", None);
        self.hub.broadcast(message, M::clone, None)
    }

    /// Connects to an address, on the poller that the balancer picks. Nobody answers but a
    /// [remote](crate::Model::remote).
    ///
    /// # Errors
    ///
    /// When every poller is full, or has ended.
    pub fn connect(&self, to: Address, tag: u64) -> Result<(), Refused> {
        self.begin("connect", None);
        self.hub.dial(to, tag).map_err(|_| Refused)
    }

    /// Closes a socket: what is queued is sent first.
    ///
    /// # Errors
    ///
    /// When its poller has no room for the order now, or has ended.
    pub fn close(&self, token: Token) -> Result<(), Refused> {
        self.begin("close", Some(token.poller()));
        self.tell(token.poller(), Control::Close { token, abort: false })
    }

    /// Closes a socket at once.
    ///
    /// # Errors
    ///
    /// As [`close`](Self::close).
    pub fn abort(&self, token: Token) -> Result<(), Refused> {
        self.begin("abort", Some(token.poller()));
        self.tell(token.poller(), Control::Close { token, abort: true })
    }

    fn tell(&self, poller: PollerId, control: Control) -> Result<(), Refused> {
        self.hub.remote(poller).ok_or(Refused)?.tell(control).map_err(|refused| match refused {
            PushError::Full(_) | PushError::Closed(_) => Refused,
        })
    }

    /// How many sockets each poller has now, those on their way to it included.
    #[must_use]
    pub fn loads(&self) -> Vec<u32> {
        self.hub.pollers.iter().map(|remote| remote.as_ref().get()).collect()
    }

    /// Begins to shut the engine down: every socket gets `shutdown`, and what is still open when nothing else is
    /// left to do is aborted.
    pub fn shutdown(&self) {
        self.begin("shutdown", None);
        self.hub.stop(Duration::from_secs(1));
    }
}
