//! The engine: poller threads, their listeners and balancer, and the handle that controls them.

#![expect(
    clippy::cast_possible_truncation,
    reason = "at most 256 pollers and 2^24 sockets, checked by `Builder::start`"
)]

mod builder;
mod error;
mod handle;
mod listener;
mod start;

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::thread;

use lightcone_core::poller::{Command, LoadPermit};
use lightcone_core::{ListenerId, RequestError};

pub use lightcone_core::balance::POLLERS_MAX;

pub use self::builder::{Builder, SOCKETS_MAX};
pub use self::error::Error;
pub use self::handle::Handle;
pub use self::listener::Listener;
pub use self::start::PollerContext;
use self::start::Thread;
use crate::driver::DriverError;
use crate::endpoint::{Endpoint, ToEndpoints};
use crate::limits::LimitError;
use crate::listener::{ListenOptions, ListenSocket};
use crate::records::{AcceptRecords, record};
use crate::report::{PollerReport, Report};
use crate::shared::{ListenerSlot, OpenSocket, OpenSockets, locked};
use crate::transport::{LISTENERS_MAX, Listening, UnixGroup};

type UnixCommand = Command<OwnedFd, Listening, LoadPermit<UnixGroup>>;

/// A running engine. Dropping it shuts it down with a grace time of zero, and waits until callbacks in progress have
/// returned.
///
/// ```
/// use core::time::Duration;
/// use lightcone_unix::{Engine, Error};
///
/// /// Listens on a port that the system chooses, runs `clients`, and shuts down.
/// fn run(engine: Engine, clients: impl FnOnce(&str)) -> Result<(), Error> {
///     let listener = engine.listen("127.0.0.1:0")?;
///     clients(&listener.endpoint().to_string());
///     let report = engine.shutdown(Duration::from_secs(1));
///     println!("{report}");
///     Ok(())
/// }
/// ```
#[must_use = "dropping an engine shuts it down"]
pub struct Engine<M = core::convert::Infallible> {
    handle: Handle<M>,
    threads: Mutex<Vec<Thread>>,
    listener_per_poller: bool,
    /// Checks that a descriptor's number is within the drivers' limit.
    check_descriptor: fn(RawFd) -> Result<(), DriverError>,
}

impl<M> fmt::Debug for Engine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("handle", &self.handle).finish_non_exhaustive()
    }
}

impl<M> Engine<M> {
    /// Returns a handle to the engine, for use on any thread.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Returns an error if the process may open fewer descriptors than the settings require. The engine runs
    /// nevertheless: when it is out of descriptors, it pauses accepting until some are free.
    ///
    /// The engine raises a soft limit that is too low to the hard limit. So the cause is that the hard limit is too low
    /// as well, or that the soft limit could not be raised.
    #[must_use]
    pub fn descriptor_shortage(&self) -> Option<&LimitError> {
        self.handle.inner.shortage.as_ref()
    }

    /// Listens on an address: a text such as `127.0.0.1:8080`, `localhost:0` or `unix:/run/app.sock`, a socket address,
    /// or an [`Endpoint`]. If a host name has several addresses, the first one that works is used.
    ///
    /// # Errors
    ///
    /// If the address is invalid, in use or not permitted; the error contains the address and the reason.
    /// [`RequestError::Gone`] if the engine has been shut down.
    pub fn listen(&self, on: impl ToEndpoints) -> Result<Listener<M>, Error> {
        let endpoints = on.to_endpoints()?;
        let (id, generation) = self.take_slot()?;
        let mut failed = None;
        for endpoint in &endpoints {
            match self.bind(endpoint, id, generation) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = Some(error),
            }
        }
        self.return_slot(id);
        Err(failed.unwrap_or(Error::Request(RequestError::Gone)))
    }

    /// Listens on a socket that listens already: a [`TcpListener`](std::net::TcpListener), a
    /// [`UnixListener`](std::os::unix::net::UnixListener), or one that another process passed on to this one. The first
    /// poller accepts, and the balancer places the connections as usual.
    ///
    /// ```no_run
    /// # use lightcone_unix::{Engine, Error};
    /// # fn with(engine: &Engine) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let listener = engine.listen_on(socket)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The socket becomes non-blocking, which also affects its duplicates in other processes. As long as one of these
    /// is open, the address stays in use after the listener is closed, and connections wait in the queue that they
    /// share. The file of a Unix socket is not removed.
    ///
    /// # Errors
    ///
    /// If the socket does not listen. [`RequestError::Gone`] if the engine has been shut down. The socket is closed.
    pub fn listen_on(&self, socket: impl Into<OwnedFd>) -> Result<Listener<M>, Error> {
        let socket = ListenSocket::adopt(socket.into(), &self.handle.inner.listen)?;
        let endpoint = socket.endpoint().clone();
        let (id, generation) = self.take_slot()?;
        let listener = self.accept_on(vec![Arc::new(socket)], false, endpoint, id, generation);
        if listener.is_err() {
            self.return_slot(id);
        }
        listener
    }

    fn return_slot(&self, id: ListenerId) {
        locked(&self.handle.shared().registry).listener_mut(id).taken = false;
    }

    /// Takes a slot for a listener. Slots of failed and closed listeners are reused.
    fn take_slot(&self) -> Result<(ListenerId, u64), Error> {
        let listeners = &mut locked(&self.handle.shared().registry).listeners;
        let index = listeners.iter().position(|slot| !slot.taken).unwrap_or(listeners.len());
        if index >= LISTENERS_MAX {
            return Err(Error::Listeners);
        }
        let generation = listeners.get(index).map_or(0, |before| before.generation + 1);
        let slot = ListenerSlot { taken: true, generation, shared: false };
        match listeners.get_mut(index) {
            Some(free) => *free = slot,
            None => listeners.push(slot),
        }
        Ok((ListenerId(index as u8), generation))
    }

    /// Binds the sockets of a listener and begins to accept on them.
    fn bind(&self, endpoint: &Endpoint, id: ListenerId, generation: u64) -> Result<Listener<M>, Error> {
        // A path cannot be bound more than once: on a Unix socket only the first poller accepts.
        let shared = self.listener_per_poller && endpoint.as_inet().is_some();
        let options = ListenOptions { reuse_port: shared, ..self.handle.inner.listen };
        let count = if shared { self.handle.pollers() } else { 1 };
        // Before anything is bound, make sure that a Unix listener can have an address: its peers are identified by it.
        self.handle.shared().address(endpoint)?;
        self.await_closed(endpoint);
        let mut sockets = Vec::with_capacity(count);
        let mut bound = endpoint.clone();
        for _ in 0..count {
            let socket = ListenSocket::bind(&bound, &options)?;
            // If the port was 0, the further sockets must get the one that the system chose for the first.
            bound = socket.endpoint().clone();
            sockets.push(Arc::new(socket));
        }
        self.accept_on(sockets, shared, bound, id, generation)
    }

    /// Passes each poller one of the sockets, which all have the same address.
    fn accept_on(
        &self,
        sockets: Vec<Arc<ListenSocket>>,
        shared: bool,
        endpoint: Endpoint,
        id: ListenerId,
        generation: u64,
    ) -> Result<Listener<M>, Error> {
        let (shared_state, pollers) = (self.handle.shared(), self.handle.group().pollers());
        let open = Arc::new(OpenSockets::default());
        let address = shared_state.address(&endpoint)?;
        let mut listening = Vec::with_capacity(sockets.len());
        for socket in &sockets {
            (self.check_descriptor)(socket.as_fd().as_raw_fd())?;
            let pin = match &endpoint {
                Endpoint::Inet(_) => None,
                Endpoint::Unix(_) => shared_state.unix.pin(&endpoint),
            };
            let (socket, records) = (Arc::clone(socket), AcceptRecords::default());
            listening.push(Listening { socket, address, records, _pin: pin, _open: OpenSocket::new(&open) });
        }
        // Locked until the commands are sent: a poller that has been stopped would close the listener at once.
        let mut registry = locked(&shared_state.registry);
        if registry.stopping {
            return Err(RequestError::Gone.into());
        }
        for (poller, listener) in pollers.iter().zip(listening) {
            let Err(refused) = poller.send_command(Command::Listen { listener, id }) else { continue };
            // Pollers that do not have the listener ignore the command.
            pollers.iter().for_each(|poller| drop(poller.send_command(Command::CloseListener { id })));
            return Err(RequestError::from(refused).into());
        }
        registry.listener_mut(id).shared = shared;
        record!(info, "listening on {endpoint}");
        let sockets = sockets.iter().map(Arc::downgrade).collect();
        Ok(Listener { handle: self.handle(), id, generation, endpoint, open, sockets })
    }

    /// Waits for closed listeners that may still occupy the address. Their pollers close them within a turn.
    fn await_closed(&self, endpoint: &Endpoint) {
        /// The maximum wait. A turn takes as long as its callbacks; if one takes longer than this, binding the address
        /// may fail.
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut in_the_way = Vec::new();
        locked(&self.handle.shared().registry).closing.retain(|(closed, open)| {
            let same = match (closed, endpoint) {
                (Endpoint::Inet(closed), Endpoint::Inet(wanted)) => closed.port() == wanted.port(),
                _ => closed == endpoint,
            };
            if same && !open.is_closed() {
                in_the_way.push(Arc::clone(open));
            }
            !open.is_closed()
        });
        // Not while the lock is held: callbacks of the pollers may need it, and the turn would not end.
        for open in in_the_way {
            open.wait_closed(PATIENCE);
        }
    }

    /// Shuts down, waits for the end and returns the report. This takes at most a little longer than the grace time,
    /// unless a handler blocks.
    pub fn shutdown(self, grace: Duration) -> Report {
        self.handle.shutdown(grace);
        self.join()
    }

    /// Waits until the engine has been shut down by [`Handle::shutdown`], and returns the report. If called on a
    /// poller's thread, waits only for the other pollers.
    pub fn join(self) -> Report {
        self.join_threads()
    }

    fn join_threads(&self) -> Report {
        let threads = core::mem::take(&mut *locked(&self.threads));
        let me = thread::current().id();
        let failed = PollerReport { failed: true, ..PollerReport::default() };
        let join = |it: Thread| {
            // A thread cannot wait for itself, and its poller has no report yet.
            if it.thread().id() == me { PollerReport::default() } else { it.join().unwrap_or(failed) }
        };
        let report = Report { pollers: threads.into_iter().map(join).collect() };
        record!(info, "{report}");
        report
    }
}

impl<M> Drop for Engine<M> {
    fn drop(&mut self) {
        if !locked(&self.threads).is_empty() {
            self.handle.shutdown(Duration::ZERO);
            self.join_threads();
        }
    }
}
