//! Listeners of one poller, and where the sockets go that they bring.

use alloc::collections::VecDeque;
use core::time::Duration;
use std::os::fd::AsFd;

use lightcone_core::balance::Balancer;
use lightcone_core::{Address, Instant, Interest, ListenerId, PollerId};

use crate::address::PeerAddress;
use crate::driver::Driver;
use crate::hub::Hub;
use crate::listener::{Accept, ListenSocket};
use crate::placing::{Accepted, Newcomer, Outcome, has_room, place};

/// The most accepts of one listener in one turn.
const ACCEPTS_A_TURN: usize = 64;
/// How long accepting rests when there is no room or no descriptor.
const REST: Duration = Duration::from_millis(20);
/// Keys at and above this one are listeners': a token can't have them, as its index stays below.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;
/// The most listeners of one engine; one key more is the waker's.
pub(crate) const LISTENERS_MAX: usize = 255;

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
    /// An accepted socket for which no poller had room.
    held: Option<Accepted>,
    /// When to accept again.
    resume_at: Option<Instant>,
    /// Sockets that stay here. Whoever calls takes them out one by one, so that a handler that
    /// panics over one loses none of the others.
    pub(crate) newcomers: VecDeque<Newcomer>,
}

impl Acceptor {
    pub(crate) fn new(balancer: Option<Balancer>) -> Self {
        Self { listeners: Vec::new(), balancer, held: None, resume_at: None, newcomers: VecDeque::new() }
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
            match place(accepted, self.balancer.as_mut(), me, hub) {
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
            match place(Accepted { fd, peer, listener: id }, self.balancer.as_mut(), me, hub) {
                Outcome::Placed(newcomer) => self.newcomers.extend(newcomer),
                Outcome::NoRoom(accepted) => {
                    self.held = Some(accepted);
                    self.rest(driver, now);
                    break;
                }
            }
        }
    }
}
