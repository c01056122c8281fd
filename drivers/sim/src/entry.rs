//! What a simulated poller keeps of each socket, and what its handlers reach through their context.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::{Address, ConnectError, Instant, Interest, Outbox, PollerId, Rejected, Shard, Token};

use crate::hub::{Hub, Seat};
use crate::probe::{Ended, Seen};
use crate::within::core_call;
use crate::world::World;

/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;

/// One socket as the driver knows it, at the place of its token's index.
#[derive(Default, Debug)]
pub(crate) struct Entry {
    pub(crate) token: Option<Token>,
    pub(crate) end: Option<u32>,
    pub(crate) interest: Interest,
    /// Bytes that the shard was told are sent.
    pub(crate) sent: u64,
    pub(crate) seen: Seen,
    /// Bytes that a completion brought while there was no room for them.
    pub(crate) stash: Vec<u8>,
    /// The end of the stream, that came while the socket was not read from.
    pub(crate) ended_unread: bool,
    /// A receive was asked for, and its completion was not reaped.
    pub(crate) asked: bool,
    pub(crate) ended: Option<Ended>,
    /// The turn in which it was put off.
    pub(crate) put_off: Option<u64>,
}

/// A connect that a handler asked for.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) token: Token,
    pub(crate) to: SocketAddr,
    pub(crate) tag: u64,
    pub(crate) seat: Seat,
}

pub(crate) struct Io<M> {
    pub(crate) me: PollerId,
    /// The poller's number among all of the simulation.
    pub(crate) side: u32,
    pub(crate) hub: Rc<Hub<M>>,
    pub(crate) entries: Vec<Entry>,
    stash: Vec<Token>,
    pub(crate) dials: VecDeque<Dial>,
    stopped: bool,
}

impl<M> Io<M> {
    pub(crate) fn new(me: PollerId, side: u32, hub: Rc<Hub<M>>) -> Self {
        Self { me, side, hub, entries: Vec::new(), stash: Vec::new(), dials: VecDeque::new(), stopped: false }
    }

    /// The entry of a socket that has one.
    #[inline]
    pub(crate) fn entry(&mut self, token: Token) -> &mut Entry {
        &mut self.entries[token.index() as usize]
    }

    pub(crate) fn end(&self, token: Token) -> Option<u32> {
        self.entries.get(token.index() as usize)?.end
    }

    /// Which socket has a place now.
    pub(crate) fn there(&self, index: u32) -> Option<Token> {
        self.entries.get(index as usize)?.token
    }

    pub(crate) fn take(&mut self, token: Token, end: Option<u32>, interest: Interest) {
        let index = token.index() as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        self.entries[index] = Entry { token: Some(token), end, interest, ..Entry::default() };
    }

    pub(crate) fn release(&mut self, token: Token) -> Entry {
        core::mem::take(self.entry(token))
    }

    pub(crate) fn opened(&mut self, token: Token, now: Instant) {
        let seen = &mut self.entry(token).seen;
        seen.opened = now.as_millis();
        seen.progress = now.as_millis();
    }

    /// Sets slots aside for the connects of this turn.
    pub(crate) fn refill<D>(&mut self, shard: &mut Shard<'_, D>) {
        while !self.stopped && self.stash.len() < CONNECTS_A_TURN {
            let Some(token) = core_call(|| shard.reserve()) else { return };
            self.stash.push(token);
        }
    }

    pub(crate) fn give_back_stash<D>(&mut self, shard: &mut Shard<'_, D>) {
        self.stopped = true;
        for token in self.stash.drain(..).chain(self.dials.drain(..).map(|dial| dial.token)) {
            core_call(|| shard.give_back(token));
        }
    }
}

/// What a handler's context leads to.
pub(crate) struct Outlet<'a, M> {
    pub(crate) io: &'a mut Io<M>,
    pub(crate) world: &'a mut World,
}

impl<M> Outbox<M> for Outlet<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.io.hub.post(to, message, self.io.me, self.world)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.io.hub.broadcast(message, clone, self.io.me, self.world)
    }

    fn connect(&mut self, to: &Address, tag: u64) -> Result<Token, ConnectError> {
        let Address::Inet(to) = *to else { return Err(ConnectError::Unsupported) };
        let remote = self.io.hub.remote(self.io.me);
        let seat = Seat::one_below(Rc::clone(&remote.load), self.io.hub.sockets).ok_or(ConnectError::Full)?;
        let token = self.io.stash.pop().ok_or(ConnectError::Full)?;
        self.io.dials.push_back(Dial { token, to, tag, seat });
        Ok(token)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        let entry = self.io.entries.get(token.index() as usize)?;
        if entry.token != Some(token) {
            return None;
        }
        self.world.local_address(entry.end?).map(Address::Inet)
    }
}
