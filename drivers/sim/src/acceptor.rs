//! The listeners of one simulated poller, and where the sockets go that they bring.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::balance::{Balancer, peer_hint};
use lightcone_core::sync::PushError;
use lightcone_core::{Instant, Interest, ListenerId, PollerId};

use crate::hub::{Control, Hub, Newcomer, Seat};
use crate::world::{Accepted, World};

const ACCEPTS_A_TURN: usize = 64;
/// How long accepting rests when there is no room or no descriptor.
const REST: Duration = Duration::from_millis(20);
/// Keys at and above this one are listeners'.
const LISTENER_KEYS: u64 = u64::MAX - 0xFF;

pub(crate) const fn listener_key(id: ListenerId) -> u64 {
    LISTENER_KEYS + id.0 as u64
}

pub(crate) fn listener_of(key: u64) -> Option<ListenerId> {
    key.checked_sub(LISTENER_KEYS).map(|id| ListenerId(u8::try_from(id).unwrap_or(u8::MAX)))
}

#[derive(Debug)]
struct Entry {
    end: u32,
    id: ListenerId,
    watched: bool,
}

#[derive(Debug)]
pub(crate) struct Acceptor {
    listeners: Vec<Entry>,
    balancer: Balancer,
    held: Option<(u32, ListenerId)>,
    resume_at: Option<Instant>,
    pub(crate) newcomers: VecDeque<Newcomer>,
}

enum Placed {
    Here(Newcomer),
    Elsewhere,
    Nowhere,
}

impl Acceptor {
    pub(crate) fn new(balancer: Balancer) -> Self {
        Self { listeners: Vec::new(), balancer, held: None, resume_at: None, newcomers: VecDeque::new() }
    }

    pub(crate) fn listen(&mut self, end: u32, id: ListenerId, world: &mut World) {
        let watched = self.resume_at.is_none();
        if watched {
            world.watch(end, Interest::READ);
        }
        self.listeners.push(Entry { end, id, watched });
    }

    pub(crate) fn close(&mut self, id: ListenerId, world: &mut World) {
        for entry in self.listeners.extract_if(.., |entry| entry.id == id) {
            world.close(entry.end, false);
        }
    }

    pub(crate) fn close_all(&mut self, world: &mut World) {
        for entry in self.listeners.drain(..) {
            world.close(entry.end, false);
        }
        if let Some((end, _)) = self.held.take() {
            world.excuse(end);
            world.close(end, true);
        }
        self.resume_at = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.resume_at
    }

    fn rest(&mut self, now: Instant, world: &mut World) {
        for entry in self.listeners.iter_mut().filter(|entry| entry.watched) {
            world.watch(entry.end, Interest::NONE);
            entry.watched = false;
        }
        self.resume_at = Some(now + REST);
    }

    pub(crate) fn resume<M>(&mut self, me: PollerId, hub: &Hub<M>, now: Instant, world: &mut World) {
        if self.resume_at.is_none_or(|at| at > now) {
            return;
        }
        self.resume_at = None;
        if let Some((end, id)) = self.held.take()
            && !self.place(end, id, me, hub, world)
        {
            self.held = Some((end, id));
            self.resume_at = Some(now + REST);
            return;
        }
        for entry in self.listeners.iter_mut().filter(|entry| !entry.watched) {
            entry.watched = true;
            world.watch(entry.end, Interest::READ);
        }
    }

    pub(crate) fn accept<M>(
        &mut self,
        id: ListenerId,
        me: PollerId,
        hub: &Hub<M>,
        now: Instant,
        world: &mut World,
    ) {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(entry) = self.listeners.iter().find(|entry| entry.id == id && entry.watched) else {
                return;
            };
            if !hub.pollers.iter().any(|remote| remote.load.get() < hub.sockets) {
                return self.rest(now, world);
            }
            match world.accept(entry.end) {
                Accepted::End(end) => {
                    if !self.place(end, id, me, hub, world) {
                        self.held = Some((end, id));
                        return self.rest(now, world);
                    }
                }
                Accepted::WouldBlock => return,
                Accepted::Aborted => {}
                Accepted::OutOfDescriptors => return self.rest(now, world),
            }
        }
    }

    /// Gives a socket to the poller that the balancer picks, or the next best with room.
    fn place<M>(&mut self, end: u32, id: ListenerId, me: PollerId, hub: &Hub<M>, world: &mut World) -> bool {
        let hint = peer_hint(&world.end(end).peer);
        let first = self.balancer.pick(&hub.pollers, hint);
        let others = self.balancer.alternatives(first, &hub.pollers);
        for to in core::iter::once(first).chain(others) {
            match offer(end, id, to, me, hub, world) {
                Placed::Here(newcomer) => {
                    self.newcomers.push_back(newcomer);
                    return true;
                }
                Placed::Elsewhere => return true,
                Placed::Nowhere => {}
            }
        }
        false
    }
}

fn offer<M>(
    end: u32,
    listener: ListenerId,
    to: usize,
    me: PollerId,
    hub: &Hub<M>,
    world: &mut World,
) -> Placed {
    let Some(remote) = hub.pollers.get(to) else { return Placed::Nowhere };
    let Some(seat) = Seat::one_below(Rc::clone(&remote.load), hub.sockets) else { return Placed::Nowhere };
    let peer = world.end(end).peer;
    let newcomer = Newcomer { end, peer, listener, seat };
    if to == usize::from(me.0) {
        return Placed::Here(newcomer);
    }
    match remote.tell(Control::Adopt(newcomer), world) {
        Ok(()) => Placed::Elsewhere,
        Err(PushError::Full(_) | PushError::Closed(_)) => Placed::Nowhere,
    }
}
