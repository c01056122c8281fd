//! Accepting, placing and registering connections.

use crate::{Address, Handler, Interest, ListenerId, Origin, Token};

use super::super::accept::ACCEPTS_A_TURN;
use super::super::membership::{AcceptedSocket, AssignedSocket, Membership, Placement};
use super::super::transport::{Accept, Transport};
use super::{PanicScope, Phase, Poller};

/// The maximum number of idle sockets from which a poller receives before it evicts one.
const EVICT_LOOKS: u8 = 16;

impl<'s, H, T, L, const BATCH: usize> Poller<'s, H, T, L, BATCH>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    /// Takes over a connection that was established elsewhere, as if a listener had accepted it.
    ///
    /// In the first turn, [`started`](Handler::started) comes before. If that panics, the connection is dropped.
    ///
    /// # Errors
    ///
    /// The connection, if no socket is free for it or the poller is stopping.
    pub fn attach(
        &mut self,
        connection: T::Unregistered,
        peer: Address,
        listener: ListenerId,
    ) -> Result<(), T::Unregistered> {
        self.start();
        if self.phase != Phase::Running || !self.has_room() {
            return Err(connection);
        }
        let Some(permit) = self.io.membership.acquire() else { return Err(connection) };
        self.admit(AssignedSocket { connection, peer, listener, permit });
        Ok(())
    }

    /// Returns whether there is a slot that no accepted connection is about to take.
    pub(super) fn has_room(&self) -> bool {
        self.shard.has_room() && self.shard.in_use() + self.assigned.len() < self.shard.config().sockets
    }

    /// Begins to accept from a listener.
    ///
    /// # Errors
    ///
    /// The listener, if there is no place for its number in
    /// [`PollerStorage::listeners`](crate::poller::PollerStorage::listeners), that place is taken, or the poller
    /// is stopping.
    pub fn listen(&mut self, listener: T::Listener, id: ListenerId) -> Result<(), T::Listener> {
        if self.phase != Phase::Running {
            return Err(listener);
        }
        self.acceptor.listen(listener, id, &mut self.io.transport, self.io.now)
    }

    /// Accepts the connections that wait at a listener. Returns whether there may be more for which there is room.
    pub(super) fn accept(&mut self, id: ListenerId) -> bool {
        for _ in 0..ACCEPTS_A_TURN {
            // `place` needs a free entry; admitting first also makes `has_room` below up to date
            if self.assigned.is_full() {
                self.admit_assigned();
            }
            let has_room = self.io.membership.has_room(self.has_room());
            // if a socket can make room, the accept comes first: only its result shows that a connection waits
            let accepts = has_room || self.can_evict();
            let Some(listener) = self.acceptor.watched(id) else { return false };
            if !accepts {
                return self.await_room(id);
            }
            self.scope = PanicScope::Program;
            let accept = self.io.transport.accept(listener, id);
            self.scope = PanicScope::Engine;
            let (connection, peer) = match accept {
                Accept::Accepted(connection, peer) => (connection, peer),
                Accept::Filtered => {
                    self.shard.count_rejected(1);
                    continue;
                }
                Accept::Retry => continue,
                Accept::WouldBlock => return false,
                Accept::Exhausted => {
                    self.acceptor.back_off(&mut self.io.transport, self.io.now);
                    return false;
                }
            };
            if let Some(rate) = &self.shard.config().accept_rate
                && !self.acceptor.bucket.take(rate, self.io.now)
            {
                self.io.transport.reject(connection);
                self.shard.count_over_rate();
                continue;
            }
            let accepted = AcceptedSocket { connection, peer, listener: id };
            let placed = if has_room { self.place(accepted) } else { self.hold(accepted) };
            if !placed {
                return self.await_room(id);
            }
        }
        true
    }

    /// Backs off, and returns `false`. If eviction is on, the rest of this turn tries to make room for what waits at
    /// the listener.
    pub(super) fn await_room(&mut self, id: ListenerId) -> bool {
        self.acceptor.back_off(&mut self.io.transport, self.io.now);
        if self.shard.config().evict_after.is_some() {
            self.acceptor.left = self.acceptor.held.is_none().then_some((id, self.io.now));
            self.acceptor.retry_now(self.io.now);
        }
        false
    }

    /// Assigns an accepted connection to a poller, or holds it back. Returns whether it was assigned.
    pub(super) fn place(&mut self, accepted: AcceptedSocket<T::Unregistered>) -> bool {
        let AcceptedSocket { connection, peer, listener } = accepted;
        let connection = match self.io.transport.make_watchable(connection) {
            Ok(connection) => connection,
            Err(connection) => return self.hold(AcceptedSocket { connection, peer, listener }),
        };
        match self.io.membership.place(AcceptedSocket { connection, peer, listener }) {
            Placement::Here(assigned) => {
                // the callers make room first; if one did not, only this connection would be lost
                if let Err(assigned) = self.assigned.push_back(assigned) {
                    self.io.transport.reject(assigned.connection);
                }
            }
            Placement::Elsewhere => {}
            Placement::NoRoom(accepted) => return self.hold(accepted),
        }
        true
    }

    /// Holds back an accepted connection, and returns `false`.
    pub(super) fn hold(&mut self, accepted: AcceptedSocket<T::Unregistered>) -> bool {
        self.acceptor.held = Some(accepted);
        false
    }

    /// Resumes after a back-off: with the connection that was held back, then with the listeners.
    #[cold]
    pub(super) fn resume_accepting(&mut self) {
        let left = self.acceptor.left.take().filter(|_| self.acceptor.held.is_none());
        if let Some((id, at)) = left
            && !self.io.membership.has_room(self.has_room())
        {
            let can_evict = self.can_evict();
            if !can_evict && at == self.io.now {
                self.acceptor.left = left; // once more after the back-off
                self.make_room();
                return self.acceptor.back_off(&mut self.io.transport, self.io.now);
            }
            self.acceptor.watch_all(&mut self.io.transport, self.io.now);
            // now, and not when the listener is reported again: if that wait is a full one, no socket may be evicted
            if !can_evict || self.accept(id) || self.acceptor.held.is_none() {
                return self.admit_assigned();
            }
        }
        if !self.place_held() {
            // first, because a callback of an evicted socket may panic
            self.acceptor.back_off(&mut self.io.transport, self.io.now);
            // the end of a socket also frees what a transport may lack to watch another one
            self.make_room();
            // the end of a socket ends the back-off
            if !self.acceptor.take_due(self.io.now) {
                return;
            }
            if !self.place_held() {
                return self.acceptor.back_off(&mut self.io.transport, self.io.now);
            }
        }
        // first, since the handler may panic
        self.acceptor.watch_all(&mut self.io.transport, self.io.now);
        self.admit_assigned();
    }

    /// Places the connection that was held back, if there is room. Returns whether none is held back any more.
    pub(super) fn place_held(&mut self) -> bool {
        if self.acceptor.held.is_some() && !self.io.membership.has_room(self.has_room()) {
            return false;
        }
        self.acceptor.held.take().is_none_or(|accepted| self.place(accepted))
    }

    /// Returns whether this poller has a socket that it may evict.
    pub(super) fn can_evict(&mut self) -> bool {
        self.phase == Phase::Running && self.shard.longest_idle().is_some()
    }

    /// Makes room for an accepted connection for which no poller has room: evicts a socket if one may be evicted, or
    /// asks another poller to do so.
    #[cold]
    pub(super) fn make_room(&mut self) {
        if self.phase == Phase::Running && self.shard.config().evict_after.is_some() {
            let here = self.can_evict();
            if self.io.membership.choose_evictor(here) {
                self.evict();
            }
        }
    }

    /// Ends the socket that has been idle longest, unless its peer has just sent something: then the next one.
    pub(super) fn evict(&mut self) {
        for _ in 0..EVICT_LOOKS {
            let Some(token) = self.shard.longest_idle().filter(|_| self.phase == Phase::Running) else {
                return;
            };
            // a request may have arrived since the last wait
            let in_use = self.shard.in_use();
            self.look(token);
            if self.shard.in_use() < in_use {
                return; // its peer had ended the stream
            }
            if self.shard.longest_idle() != Some(token) {
                continue;
            }
            // without a free block to receive into, it is not known whether a request has arrived
            let Some(mut conn) = self.shard.connection(token) else { return };
            if self.io.transport.completes() || !conn.state().reads() || conn.room() > 0 {
                self.tell(token, |conn| conn.evict());
            }
            return;
        }
    }

    /// Admits connections one by one, so that a handler that panics over one loses none of the others.
    #[inline]
    pub(super) fn admit_assigned(&mut self) {
        while let Some(assigned) = self.assigned.pop_front() {
            self.admit(assigned);
        }
    }

    pub(super) fn admit(&mut self, assigned: AssignedSocket<T::Unregistered, L::Permit>) {
        let (peer, listener) = (assigned.peer, assigned.listener);
        self.admitting = Some(assigned);
        self.scope = PanicScope::Program;
        let admitted = self.shard.admit(&mut self.handler, Origin::Accepted { listener }, &peer);
        self.scope = PanicScope::Engine;
        let Some(AssignedSocket { connection, permit, .. }) = self.admitting.take() else { return };
        let Ok(token) = admitted else { return self.io.transport.reject(connection) };
        self.io.membership.merge(permit);
        self.register(token, connection, Interest::READ);
        self.run(token);
        // `end` has yet to reach the sockets from `announce_from` on
        if let Phase::Stopping { announce_from, .. } = self.phase
            && announce_from.is_none_or(|from| token.index() < from)
        {
            self.announce_to(token);
        }
    }

    /// Makes the transport watch a socket's connection. If it cannot, the socket fails.
    pub(super) fn register(&mut self, token: Token, connection: T::Unregistered, interest: Interest) {
        match self.io.transport.register(connection, token, interest) {
            Ok(connection) => self.io.insert(token, Some(connection), interest),
            Err(kind) => {
                self.unwatchable += 1;
                self.io.insert(token, None, Interest::NONE);
                if let Some(mut conn) = self.shard.connection(token) {
                    conn.failed(kind);
                }
            }
        }
    }
}
