//! What the threads of one engine share: the group of its pollers, their published counts, and what begins and ends
//! connections in turn.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use lightcone_core::balance::Balancer;
use lightcone_core::poller::{ConnectRefused, Group};
use lightcone_core::sync::{Load, Padded, Slot};
use lightcone_core::{Address, PollerId, Stats};

use crate::endpoint::Endpoint;
use crate::paths::UnixPaths;
use crate::transport::UnixGroup;

/// One poller as other threads see it.
pub(crate) type PollerHandle<M> = lightcone_core::poller::PollerHandle<M, UnixGroup>;

/// The empty places of a mailbox.
fn ring<T>(capacity: usize) -> Padded<Box<[Slot<T>]>> {
    Padded((0..capacity).map(|_| Slot::new()).collect())
}

/// Creates the handle of a poller whose mailboxes have these capacities, powers of two.
pub(crate) fn poller_handle<M>(
    commands: usize,
    messages: usize,
    wake: impl Fn() + Send + Sync + 'static,
) -> PollerHandle<M> {
    let load = Arc::new(Padded(Load::new()));
    match PollerHandle::new(ring(commands), ring(messages), load, Box::new(wake)) {
        Some(handle) => handle,
        None => unreachable!("capacities were checked to be powers of two"),
    }
}

/// Locks a mutex whose data stays sound when a holder panics.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that the threads of one engine share.
pub(crate) struct EngineShared<M> {
    pollers: Box<[PollerHandle<M>]>,
    /// The most sockets of one poller.
    sockets: u32,
    /// What each poller has counted.
    published: Box<[Mutex<Stats>]>,
    pub(crate) unix: Arc<UnixPaths>,
    pub(crate) registry: Mutex<Registry>,
}

/// What begins connections and ends them all, in turn: nothing begins after a stop.
pub(crate) struct Registry {
    /// Picks pollers for connects from outside. The accepting poller has a balancer of its own.
    balancer: Balancer,
    pub(crate) listeners: Vec<ListenerSlot>,
    /// Listeners that were closed and whose pollers may not have let go of them yet.
    pub(crate) closing: Vec<(Endpoint, Arc<OpenSockets>)>,
    /// The pollers have been told to stop.
    pub(crate) stopping: bool,
}

/// What is known of a listener outside its poller.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSlot {
    /// From before the listener is bound until it is closed.
    pub(crate) taken: bool,
    /// How many listeners have had this slot, so that a closed one's handle does not mean the next.
    pub(crate) generation: u64,
    /// One for each poller, or one for the first.
    pub(crate) shared: bool,
}

/// How many sockets of a listener there are, to wait until there is none.
#[derive(Debug, Default)]
pub(crate) struct OpenSockets {
    open: Mutex<usize>,
    none: Condvar,
}

impl OpenSockets {
    /// Waits, for at most `timeout`, until all are closed. Returns whether they are.
    pub(crate) fn wait_closed(&self, timeout: Duration) -> bool {
        let open = self.none.wait_timeout_while(locked(&self.open), timeout, |open| *open > 0);
        *open.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    pub(crate) fn is_closed(&self) -> bool {
        *locked(&self.open) == 0
    }
}

/// Counts for one socket until it is dropped, which is to be after the socket itself.
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
    pub(crate) fn new(pollers: Box<[PollerHandle<M>]>, sockets: u32, balancer: Balancer) -> Self {
        let published = pollers.iter().map(|_| Mutex::default()).collect();
        let registry =
            Mutex::new(Registry { balancer, listeners: Vec::new(), closing: Vec::new(), stopping: false });
        Self { pollers, sockets, published, unix: Arc::default(), registry }
    }

    pub(crate) fn group(&self) -> Group<'_, M, UnixGroup> {
        Group::new(&self.pollers, self.sockets)
    }

    pub(crate) fn poller(&self, id: PollerId) -> Option<&PollerHandle<M>> {
        self.group().poller(id)
    }

    /// Connects to an address, on the poller that the balancer picks or the next best that has room.
    pub(crate) fn connect(&self, to: Address, tag: u64) -> Result<(), ConnectRefused> {
        let mut registry = locked(&self.registry);
        let Registry { balancer, stopping: false, .. } = &mut *registry else {
            return Err(ConnectRefused::Gone);
        };
        self.group().connect(to, tag, balancer)
    }

    /// Stops every poller. Nothing begins from now on.
    pub(crate) fn stop(&self, grace: Duration) {
        let mut registry = locked(&self.registry);
        registry.stopping = true;
        self.group().stop(grace);
        for slot in &mut registry.listeners {
            slot.taken = false;
        }
    }

    /// Lets other threads see a poller's counts. `false`: another thread is just looking, and nothing was done.
    pub(crate) fn publish(&self, poller: PollerId, stats: &Stats) -> bool {
        let Some(published) = self.published.get(usize::from(poller.0)) else { return true };
        match published.try_lock() {
            Ok(mut published) => *published = *stats,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = *stats,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    /// What each poller has published last.
    pub(crate) fn stats(&self) -> Vec<Stats> {
        self.published.iter().map(|published| *locked(published)).collect()
    }

    /// The address of an endpoint.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> Option<Address> {
        if let Some(address) = endpoint.as_inet() {
            return Some(address.into());
        }
        self.unix.id(endpoint).map(Address::Unix)
    }

    pub(crate) fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        match address {
            Address::Inet(address) => Some(Endpoint::Inet(*address)),
            Address::Unix(id) => self.unix.name(*id),
        }
    }
}
