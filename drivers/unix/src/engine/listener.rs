//! The listeners of an engine.

use alloc::sync::{Arc, Weak};
use core::fmt;
use core::time::Duration;
use std::os::fd::OwnedFd;

use lightcone_core::poller::Command;
use lightcone_core::{ListenerId, PollerId, RequestError};

use super::error::Error;
use super::handle::Handle;
use crate::endpoint::Endpoint;
use crate::listener::ListenSocket;
use crate::records::record;
use crate::shared::{OpenSockets, locked};

/// A listener of an engine. Dropping this value does not close the listener: [`close`](Self::close) does, or the
/// shutdown of the engine.
pub struct Listener<M = core::convert::Infallible> {
    pub(super) handle: Handle<M>,
    pub(super) id: ListenerId,
    pub(super) generation: u64,
    pub(super) endpoint: Endpoint,
    pub(super) open: Arc<OpenSockets>,
    /// The sockets, which belong to their pollers.
    pub(super) sockets: Box<[Weak<ListenSocket>]>,
}

impl<M> fmt::Debug for Listener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).field("endpoint", &self.endpoint).finish()
    }
}

impl<M> Listener<M> {
    /// Returns the listener's id, which `admit` receives in [`Origin::Accepted`](lightcone_core::Origin).
    #[must_use]
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Returns the endpoint on which the listener accepts. If the requested port was 0, it contains the port that the
    /// system chose.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Duplicates the listening socket, to pass it on to another process. If each poller has a socket of its own, the
    /// result has one for each.
    ///
    /// Connections wait in the queue that all duplicates share, until one of the processes accepts them. Drop the
    /// duplicates that are not passed on: as long as one is open, the system takes connections. If the listener is on a
    /// Unix socket, its file is not removed from now on.
    ///
    /// # Errors
    ///
    /// [`RequestError::Gone`] if it is closed; a [`ListenError`](crate::listener::ListenError) if no descriptor is
    /// left.
    pub fn duplicate(&self) -> Result<Vec<OwnedFd>, Error> {
        let duplicate =
            |socket: &Weak<ListenSocket>| Ok(socket.upgrade().ok_or(RequestError::Gone)?.duplicate()?);
        self.sockets.iter().map(duplicate).collect()
    }

    /// Stops listening, within a turn of the listener's poller. Accepted connections are not affected.
    ///
    /// [`Engine::listen`](super::Engine::listen) on the same address waits for the close, so the engine can use the
    /// address again at once. To wait for another reason, call [`wait_closed`](Self::wait_closed).
    ///
    /// # Errors
    ///
    /// [`RequestError::Gone`] if it is already closed, [`RequestError::Full`] if a poller's command mailbox is full;
    /// retry later.
    pub fn close(&self) -> Result<(), RequestError> {
        let mut registry = locked(&self.handle.shared().registry);
        let slot = registry.listener_mut(self.id);
        if !slot.taken || slot.generation != self.generation {
            return Err(RequestError::Gone);
        }
        let count = if slot.shared { self.handle.pollers() } else { 1 };
        for poller in 0..count {
            self.handle.send(PollerId(poller as u8), Command::CloseListener { id: self.id })?;
        }
        // Only now, so that a call which failed halfway can be repeated. A second close command has no effect.
        slot.taken = false;
        record!(info, "no longer listening on {}", self.endpoint);
        registry.closing.retain(|(_, open)| !open.is_closed());
        registry.closing.push((self.endpoint.clone(), Arc::clone(&self.open)));
        Ok(())
    }

    /// Waits for at most `timeout` until the listener is closed, by [`close`](Self::close) or with its engine, and
    /// returns whether it is. When it is, its address is free, and connects to the address are refused.
    ///
    /// Do not call this on the thread of the listener's poller, which must close it: the wait would time out.
    pub fn wait_closed(&self, timeout: Duration) -> bool {
        self.open.wait_closed(timeout)
    }
}
