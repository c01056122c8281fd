//! Listeners of one poller, and where the sockets go that they bring.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use lightcone_core::balance::Balancer;
use lightcone_core::{Address, Instant, Interest, ListenerId, PollerId};

use crate::address::PeerAddress;
use crate::driver::{Driver, check_descriptor};
use crate::hub::Hub;
use crate::listener::{Accept, ListenSocket};
use crate::placing::{Accepted, Newcomer, Outcome, has_room, place};
use crate::socket;

/// The most accepts of one listener in one turn.
const ACCEPTS_A_TURN: usize = 64;
/// How long accepting rests when there is no room or no descriptor.
const REST: Duration = Duration::from_millis(20);
/// Keys at and above this one are listeners': a token can't have them, as its index stays below.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;
/// The most listeners of one engine; one key more is the waker's.
pub(crate) const LISTENERS_MAX: usize = 255;

type Takes = dyn Fn(ListenerId, &Address) -> bool + Send + Sync;

/// Whom to take at all, asked on the thread that accepts.
#[derive(Clone)]
pub(crate) struct Filter(pub(crate) Arc<Takes>);

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

#[derive(Debug)]
struct Entry {
    socket: ListenSocket,
    id: ListenerId,
    /// What its peers are called, if it is a Unix socket.
    unix: Option<Address>,
    watched: bool,
}

#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Entry>,
    /// `None`: every socket stays on the poller that accepted it.
    balancer: Option<Balancer>,
    filter: Option<Filter>,
    /// How many the filter has turned away, until it is taken.
    pub(crate) filtered: u64,
    /// An accepted socket for which no poller had room, or whose number the driver can't take.
    held: Option<Accepted>,
    /// When to accept again.
    resume_at: Option<Instant>,
    /// Sockets that stay here. Whoever calls takes them out one by one, so that a handler that
    /// panics over one loses none of the others.
    pub(crate) newcomers: VecDeque<Newcomer>,
}

impl Acceptor {
    pub(crate) fn new(balancer: Option<Balancer>, filter: Option<Filter>) -> Self {
        Self {
            listeners: Vec::new(),
            balancer,
            filter,
            filtered: 0,
            held: None,
            resume_at: None,
            newcomers: VecDeque::new(),
        }
    }

    const fn key(id: ListenerId) -> u64 {
        LISTENER_KEYS + id.0 as u64
    }

    pub(crate) fn listener_of(key: u64) -> Option<ListenerId> {
        key.checked_sub(LISTENER_KEYS).map(|id| ListenerId(u8::try_from(id).unwrap_or(u8::MAX)))
    }

    pub(crate) fn listen<D: Driver>(
        &mut self,
        socket: ListenSocket,
        id: ListenerId,
        unix: Option<Address>,
        driver: &mut D,
        now: Instant,
    ) {
        // while the others rest this one does as well: there is a place for one held socket only
        let watched = self.resume_at.is_none()
            && driver.register(socket.as_fd(), Self::key(id), Interest::READ).is_ok();
        if !watched {
            self.resume_at.get_or_insert(now + REST);
        }
        self.listeners.push(Entry { socket, id, unix, watched });
    }

    pub(crate) fn close<D: Driver>(&mut self, id: ListenerId, driver: &mut D) {
        self.listeners.retain(|entry| {
            if entry.id == id && entry.watched {
                driver.forget(entry.socket.as_fd(), Self::key(id), Interest::READ);
            }
            entry.id != id
        });
    }

    pub(crate) fn close_all<D: Driver>(&mut self, driver: &mut D) {
        for entry in self.listeners.drain(..) {
            if entry.watched {
                driver.forget(entry.socket.as_fd(), Self::key(entry.id), Interest::READ);
            }
        }
        self.held = None;
        self.resume_at = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.resume_at
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.resume_at.is_some_and(|at| at <= now)
    }

    /// Goes on after a rest: the held socket first, then the listeners are watched again.
    pub(crate) fn resume<M, D: Driver>(&mut self, me: PollerId, hub: &Hub<M>, driver: &mut D, now: Instant) {
        self.resume_at = None;
        if let Some(accepted) = self.held.take() {
            match self.place_fit::<M, D>(accepted, me, hub) {
                Outcome::Placed(newcomer) => self.newcomers.extend(newcomer),
                Outcome::NoRoom(accepted) => {
                    self.held = Some(accepted);
                    self.resume_at = Some(now + REST);
                    return;
                }
            }
        }
        for entry in self.listeners.iter_mut().filter(|entry| !entry.watched) {
            entry.watched =
                driver.register(entry.socket.as_fd(), Self::key(entry.id), Interest::READ).is_ok();
            if !entry.watched {
                self.resume_at = Some(now + REST);
            }
        }
    }

    /// Stops watching all listeners for a while: their connections wait in the kernel's queue.
    fn rest<D: Driver>(&mut self, driver: &mut D, now: Instant) {
        for entry in self.listeners.iter_mut().filter(|entry| entry.watched) {
            driver.deregister(entry.socket.as_fd(), Self::key(entry.id), Interest::READ);
            entry.watched = false;
        }
        self.resume_at = Some(now + REST);
    }

    /// A socket has ended: what accepting rests for, room or a descriptor, may have come.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if self.resume_at.is_some() {
            self.resume_at = Some(now);
        }
    }

    /// Takes the connections that wait at a listener, as many as there is room for, and gives each to
    /// the poller that the balancer picks.
    pub(crate) fn accept<M, D: Driver>(
        &mut self,
        id: ListenerId,
        me: PollerId,
        hub: &Hub<M>,
        driver: &mut D,
        now: Instant,
    ) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(entry) = self.listeners.iter().find(|entry| entry.id == id && entry.watched) else {
                break;
            };
            if !has_room(self.balancer.is_some(), me, hub) {
                self.rest(driver, now);
                break;
            }
            let (fd, peer) = match entry.socket.accept() {
                Accept::Accepted(fd, PeerAddress::Inet(peer)) => (fd, Some(Address::Inet(peer))),
                Accept::Accepted(fd, PeerAddress::Unix) => (fd, entry.unix),
                Accept::WouldBlock => break,
                Accept::Retry(_) => continue,
                Accept::OutOfDescriptors(_) | Accept::Failed(_) => {
                    self.rest(driver, now);
                    break;
                }
            };
            let Some(peer) = peer else { continue };
            if let Some(Filter(takes)) = &self.filter
                && !takes(id, &peer)
            {
                self.filtered += 1;
                continue;
            }
            match self.place_fit::<M, D>(Accepted { fd, peer, listener: id }, me, hub) {
                Outcome::Placed(newcomer) => self.newcomers.extend(newcomer),
                Outcome::NoRoom(accepted) => {
                    self.held = Some(accepted);
                    self.rest(driver, now);
                    break;
                }
            }
        }
    }

    /// Places a socket whose number the driver takes. All pollers have the same kind of driver: what one can't watch,
    /// none can.
    fn place_fit<M, D: Driver>(&mut self, accepted: Accepted, me: PollerId, hub: &Hub<M>) -> Outcome {
        let Accepted { fd, peer, listener } = accepted;
        match fit::<D>(fd) {
            Ok(fd) => place(Accepted { fd, peer, listener }, self.balancer.as_mut(), me, hub),
            Err(fd) => Outcome::NoRoom(Accepted { fd, peer, listener }),
        }
    }
}

/// A socket under a number that the driver takes: its own, or a lower one that has come free since.
fn fit<D: Driver>(fd: OwnedFd) -> Result<OwnedFd, OwnedFd> {
    if check_descriptor::<D>(fd.as_raw_fd()).is_ok() {
        return Ok(fd);
    }
    match socket::lowest_number(fd.as_fd()) {
        Ok(lower) if check_descriptor::<D>(lower.as_raw_fd()).is_ok() => Ok(lower),
        _ => Err(fd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_a_socket_ends_the_rest() {
        let mut acceptor = Acceptor::new(None, None);
        let now = Instant::from_millis(1_000);
        acceptor.hurry(now);
        assert_eq!(acceptor.deadline(), None, "who does not rest has nothing to hurry to");
        acceptor.resume_at = Some(now + REST);
        assert!(!acceptor.is_due(now));
        acceptor.hurry(now);
        assert!(acceptor.is_due(now));
    }
}
