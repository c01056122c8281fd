//! The shared state of an engine's threads: the group of its pollers, their published counts, and the registry that
//! serialises connects, listeners and the shutdown.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use lightcone_core::balance::Balancer;
use lightcone_core::poller::Group;
use lightcone_core::sync::{CachePadded, Load, MailboxSlot};
use lightcone_core::{Address, ListenerId, PollerId, RequestError, Stats};

use crate::endpoint::Endpoint;
use crate::paths::{UnixAddressesFull, UnixPaths};
use crate::records::record;
use crate::transport::UnixGroup;

/// The handle by which other threads reach a poller.
pub(crate) type UnixPollerHandle<M> = lightcone_core::poller::PollerHandle<M, UnixGroup>;

/// Creates the empty slots of a mailbox.
fn ring<T>(capacity: usize) -> CachePadded<Box<[MailboxSlot<T>]>> {
    CachePadded((0..capacity).map(|_| MailboxSlot::new()).collect())
}

/// Creates the handle of a poller. The capacities of its mailboxes must be powers of two.
pub(crate) fn poller_handle<M>(
    commands: usize,
    messages: usize,
    wake: impl Fn() + Send + Sync + 'static,
) -> UnixPollerHandle<M> {
    let load = Arc::new(CachePadded(Load::new()));
    match UnixPollerHandle::new(ring(commands), ring(messages), load, Box::new(wake)) {
        Some(handle) => handle,
        None => unreachable!("capacities were checked to be powers of two"),
    }
}

/// Locks a mutex and ignores poisoning, for data that stays consistent if a thread panics while it holds the lock.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shared state of an engine's threads.
pub(crate) struct EngineShared<M> {
    pollers: Box<[UnixPollerHandle<M>]>,
    /// The maximum number of sockets per poller.
    sockets: u32,
    /// The last published counts of each poller.
    published: Box<[Mutex<Stats>]>,
    pub(crate) unix: Arc<UnixPaths>,
    pub(crate) registry: Mutex<Registry>,
}

/// The state that connects, listeners and the shutdown change under one lock, so that nothing begins after a stop.
pub(crate) struct Registry {
    /// Picks pollers for connects from outside. The accepting poller has a separate balancer.
    balancer: Balancer,
    pub(crate) listeners: Vec<ListenerSlot>,
    /// Closed listeners whose pollers may not have closed the socket yet.
    pub(crate) closing: Vec<(Endpoint, Arc<OpenSockets>)>,
    /// Whether the pollers have been stopped.
    pub(crate) stopping: bool,
}

impl Registry {
    /// Returns the slot of a listener, which was taken from these slots; they are never removed.
    pub(crate) fn listener_mut(&mut self, id: ListenerId) -> &mut ListenerSlot {
        let Some(slot) = self.listeners.get_mut(usize::from(id.0)) else {
            unreachable!("listener {} has no slot", id.0)
        };
        slot
    }
}

/// The state of a listener outside its pollers.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSlot {
    /// Whether a listener uses the slot: from before it is bound until it is closed.
    pub(crate) taken: bool,
    /// The number of listeners that used the slot before. It keeps the handle of a closed listener from acting on the
    /// next one.
    pub(crate) generation: u64,
    /// Whether every poller has a socket of the listener. If not, only the first has one.
    pub(crate) shared: bool,
}

/// The number of open sockets of a listener, to wait until all are closed.
#[derive(Debug, Default)]
pub(crate) struct OpenSockets {
    open: Mutex<usize>,
    none: Condvar,
}

impl OpenSockets {
    /// Waits for at most `timeout` until all are closed, and returns whether they are.
    pub(crate) fn wait_closed(&self, timeout: Duration) -> bool {
        let open = self.none.wait_timeout_while(locked(&self.open), timeout, |open| *open > 0);
        *open.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        *locked(&self.open) == 0
    }
}

/// Counts one open socket until it is dropped. It must be dropped after the socket itself.
#[derive(Debug)]
pub(crate) struct OpenSocket(Arc<OpenSockets>);

impl OpenSocket {
    pub(crate) fn new(sockets: &Arc<OpenSockets>) -> Self {
        *locked(&sockets.open) += 1;
        Self(Arc::clone(sockets))
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        *locked(&self.0.open) -= 1;
        self.0.none.notify_all();
    }
}

impl<M> fmt::Debug for EngineShared<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineShared").field("pollers", &self.pollers.len()).finish_non_exhaustive()
    }
}

impl<M> EngineShared<M> {
    pub(crate) fn new(pollers: Box<[UnixPollerHandle<M>]>, sockets: u32, balancer: Balancer) -> Self {
        let published = pollers.iter().map(|_| Mutex::default()).collect();
        let registry =
            Mutex::new(Registry { balancer, listeners: Vec::new(), closing: Vec::new(), stopping: false });
        Self { pollers, sockets, published, unix: Arc::default(), registry }
    }

    pub(crate) fn group(&self) -> Group<'_, M, UnixGroup> {
        Group::new(&self.pollers, self.sockets)
    }

    pub(crate) fn poller(&self, id: PollerId) -> Option<&UnixPollerHandle<M>> {
        self.group().poller(id)
    }

    /// Connects to an address, on the poller that the balancer picks or, if that is full, on the next best one.
    pub(crate) fn connect(&self, to: Address, tag: u64) -> Result<(), RequestError> {
        let mut registry = locked(&self.registry);
        let Registry { balancer, stopping: false, .. } = &mut *registry else {
            return Err(RequestError::Gone);
        };
        self.group().connect(to, tag, balancer)
    }

    /// Stops every poller. Later connects and listeners are refused.
    pub(crate) fn stop(&self, grace: Duration) {
        record!(info, "shutting down within {grace:?}");
        let mut registry = locked(&self.registry);
        registry.stopping = true;
        self.group().stop(grace);
        for slot in &mut registry.listeners {
            slot.taken = false;
        }
    }

    /// Publishes a poller's counts for other threads, without blocking the poller. Returns `false` if another thread is
    /// reading them; then nothing is published.
    pub(crate) fn publish(&self, poller: PollerId, stats: &Stats) -> bool {
        let Some(published) = self.published.get(usize::from(poller.0)) else { return true };
        match published.try_lock() {
            Ok(mut published) => *published = *stats,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = *stats,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// Returns the last published counts of each poller.
    pub(crate) fn stats(&self) -> Vec<Stats> {
        self.published.iter().map(|published| *locked(published)).collect()
    }

    /// Returns the address of an endpoint.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> Result<Address, UnixAddressesFull> {
        if let Some(address) = endpoint.as_inet() {
            return Ok(address.into());
        }
        self.unix.id(endpoint).map(Address::Unix).ok_or(UnixAddressesFull)
    }

    /// Returns the endpoint of an address; `None` if it is a Unix socket whose name has been forgotten.
    pub(crate) fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        match address {
            Address::Inet(address) => Some(Endpoint::Inet(*address)),
            Address::Unix(id) => self.unix.name(*id),
        }
    }
}
