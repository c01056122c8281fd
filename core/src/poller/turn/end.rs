//! The end of a poller: the phases of a stop.

use core::time::Duration;

use crate::life::State;
use crate::{CloseReason, Handler, Instant, Interest, Token};

use super::super::membership::{AssignedSocket, Command, Membership};
use super::super::transport::{Received, Transport};
use super::{PanicScope, Phase, Poller};

/// The maximum number of turns in which a stopping poller accepts what waits: 4,096 connections of each listener.
const LAST_ACCEPTS: u8 = 64;
/// How many times a stopping poller receives from a socket before the socket gets `shutdown`.
const LAST_LOOKS: u8 = 16;

impl<'s, H, T, L, const BATCH: usize> Poller<'s, H, T, L, BATCH>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    /// Stops the poller. At the end of this turn the connections that wait at its listeners are accepted, the listeners
    /// close, the bytes that have arrived for each socket are received and delivered, and the socket gets `shutdown`.
    /// Connections that other pollers have assigned to this one are still admitted, and get `shutdown` at once. Sockets
    /// that are open after the grace time are aborted; with a grace time of zero, nothing more is accepted. A shorter
    /// grace time replaces an earlier one.
    ///
    /// The handler's `stopping` is called at once.
    pub fn stop(&mut self, grace: Duration) {
        let until = self.io.now + grace;
        match &mut self.phase {
            Phase::Running => {
                // no connect begins any more, and reserved slots would count as sockets in use
                self.io.release_reserved(&mut self.shard);
                self.shard.begin_stop();
                let turns = if grace.is_zero() { 0 } else { LAST_ACCEPTS };
                if turns == 0 {
                    self.shard.stop();
                }
                self.phase = Phase::Accepting { deadline: until, turns };
                self.io.alarm = Instant::from_millis(0);
                self.announce();
            }
            Phase::Accepting { deadline, .. }
            | Phase::Stopping { deadline, .. }
            | Phase::Closing { deadline } => *deadline = until.min(*deadline),
            Phase::Aborting { .. } | Phase::Over => {}
        }
    }

    /// Returns whether the poller has been stopped, no socket is left, and nothing more will arrive from other threads.
    #[inline]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Refuses everything from other threads from now on, even if there are sockets. Returns whether nothing is left of
    /// what they have sent before. If something is, a push is in progress: call this again.
    ///
    /// The shutdown of a poller includes this. A driver calls it for a poller that has failed and takes no more turns.
    #[must_use]
    pub fn close_mailboxes(&mut self) -> bool {
        self.empty_mailboxes(false)
    }

    /// Closes the mailboxes and refuses what is in them, like [`close_mailboxes`](Self::close_mailboxes). If `admits`,
    /// connections that were assigned to this poller are admitted, unless the shard refuses because sockets have been
    /// aborted.
    pub(super) fn empty_mailboxes(&mut self, admits: bool) -> bool {
        // first, so that no push follows the last read
        self.io.membership.close();
        while let Some(command) = self.io.membership.next_command() {
            match command {
                Command::Assign(assigned) if admits => self.take_over(assigned),
                refused @ (Command::Assign(_)
                | Command::Connect { .. }
                | Command::Listen { .. }
                | Command::CloseListener { .. }
                | Command::CloseSocket { .. }
                | Command::Evict
                | Command::AskRoom { .. }
                | Command::Stop { .. }) => self.refuse(refused),
            }
        }
        // those kept from before, and those refused just now
        let _ = self.io.membership.answer_askers();
        while let Some(envelope) = self.io.membership.next_envelope() {
            self.as_program(|_| drop(envelope));
        }
        self.io.membership.is_finished()
    }

    /// Admits a connection that was assigned to this poller. If no socket was left, the shutdown waits for it.
    pub(super) fn take_over(&mut self, assigned: AssignedSocket<T::Unregistered, L::Permit>) {
        // before `admit`, which announces the shutdown to the socket in this phase
        if let Phase::Closing { deadline } = self.phase {
            self.phase = Phase::Stopping { deadline, announce_from: None };
        }
        self.admit(assigned);
    }

    pub(super) fn refuse(&mut self, command: Command<T::Unregistered, T::Listener, L::Permit>) {
        match command {
            Command::Assign(assigned) => self.io.transport.reject(assigned.connection),
            Command::Listen { listener, id } => self.io.transport.close_listener(listener, id, false),
            Command::AskRoom { asker } => self.io.membership.keep_asker(asker),
            Command::Connect { .. }
            | Command::CloseListener { .. }
            | Command::CloseSocket { .. }
            | Command::Evict
            | Command::Stop { .. } => {}
        }
    }

    /// Returns whether the shutdown continues in the next turn, without waiting for an event or the end of the grace
    /// time.
    #[cold]
    pub(super) fn ends_further(&self) -> bool {
        match self.phase {
            Phase::Accepting { .. }
            | Phase::Stopping { announce_from: Some(_), .. }
            | Phase::Closing { .. } => true,
            Phase::Stopping { .. } | Phase::Aborting { .. } => self.shard.in_use() == 0,
            Phase::Running | Phase::Over => false,
        }
    }

    /// Continues the shutdown, as far as possible in this turn.
    #[cold]
    pub(super) fn end(&mut self) {
        self.accept_last();
        while let Phase::Stopping { deadline, announce_from: Some(from) } = self.phase {
            let next = self.shard.next_in_use(from);
            // before the callback, which may panic: the loop then continues with the next socket
            self.phase = Phase::Stopping { deadline, announce_from: next.map(|token| token.index() + 1) };
            if let Some(token) = next {
                self.announce_to(token);
            }
        }
        if let Phase::Stopping { deadline, .. } = self.phase {
            let is_late = self.io.now >= deadline;
            // commands in the mailbox are not refused yet: the next turn reads them, and delivers messages, as usual
            let waits = !is_late && self.io.membership.has_command();
            if self.shard.in_use() == 0 && !waits {
                self.phase = Phase::Closing { deadline };
            } else if is_late {
                self.shard.stop();
                self.phase = Phase::Aborting { from: 0 };
            }
        }
        while let Phase::Aborting { from } = self.phase
            && let Some(token) = self.shard.next_in_use(from)
        {
            self.phase = Phase::Aborting { from: token.index() + 1 };
            let state = self.shard.connection(token).map(|mut conn| conn.state());
            let unfinished =
                |state: State| state.is_live() || matches!(state, State::Draining | State::PreLinger);
            self.aborted += u64::from(state.is_some_and(unfinished));
            self.tell(token, |conn| conn.abort_with(CloseReason::Shutdown));
        }
        if let Phase::Aborting { .. } = self.phase
            && self.shard.in_use() == 0
        {
            self.phase = Phase::Closing { deadline: self.io.now };
        }
        // checked twice: a late connection in the mailbox leads back to `Stopping`
        if let Phase::Closing { .. } = self.phase
            && self.empty_mailboxes(true)
            && let Phase::Closing { .. } = self.phase
        {
            self.shard.stop();
            self.phase = Phase::Over;
        }
    }

    /// Accepts the connections that wait at the listeners and closes the listeners. Each closes as soon as nothing is
    /// left at it, because a connection that arrives between the last accept and the close is lost.
    pub(super) fn accept_last(&mut self) {
        let Phase::Accepting { deadline, turns } = self.phase else { return };
        // counted first, since a filter may panic
        self.phase = Phase::Accepting { deadline, turns: turns.saturating_sub(1) };
        self.admit_assigned(); // makes room for the connection that was held back
        let placed = turns > 0 && self.acceptor.held.take().is_none_or(|accepted| self.place(accepted));
        if placed {
            self.acceptor.watch_all(&mut self.io.transport, self.io.now);
        }
        while placed && let Some(id) = self.acceptor.first() {
            if self.accept(id) && turns > 1 {
                return self.admit_assigned(); // this listener may have more, for another turn
            }
            self.acceptor.close(id, &mut self.io.transport);
        }
        self.acceptor.close_all(&mut self.io.transport);
        self.phase = Phase::Stopping { deadline, announce_from: Some(0) };
        self.admit_assigned();
    }

    /// Delivers `shutdown` to a socket, after the bytes that have arrived.
    pub(super) fn announce_to(&mut self, token: Token) {
        for _ in 0..LAST_LOOKS {
            if !self.look(token) {
                break;
            }
        }
        if self.shard.next_in_use(token.index()) == Some(token) {
            self.tell(token, |conn| conn.shutdown());
        }
    }

    /// Receives once from a socket without a report that it is readable. Returns whether there may be more.
    pub(super) fn look(&mut self, token: Token) -> bool {
        if self.shard.next_in_use(token.index()) != Some(token) {
            return false;
        }
        let Some(mut conn) = self.shard.connection(token) else { return false };
        let asks = !self.io.transport.completes() && conn.state().is_live();
        let room = if asks { conn.room().min(self.buffer.len()) } else { 0 };
        let Some(buffer) = self.buffer.get_mut(..room).filter(|buffer| !buffer.is_empty()) else {
            return false;
        };
        let Some((transport, connection)) = self.io.connection(token) else { return false };
        let mut bytes: &mut [u8] = &mut [];
        match transport.receive(connection, token, buffer) {
            Received::Bytes(n) => bytes = buffer.get_mut(..n).unwrap_or_default(),
            Received::WouldBlock => return false,
            Received::End => conn.peer_ended(),
            Received::Failed(kind) => conn.failed(kind),
        }
        let more = bytes.len() == room; // a shorter receive has probably taken everything
        self.scope = PanicScope::Callback(token);
        let settled = conn.receive(bytes, &mut self.handler, &mut self.io.calls(token));
        self.settle(token, settled);
        more
    }

    /// Withdraws the interest in reading after a panic, from which [`on_received`](Self::on_received) could not return how
    /// much was taken. A socket that still sends its last output then requests, and discards, all of it. No callback
    /// runs.
    pub(super) fn forget_reading(&mut self, token: Token) {
        let Some(entry) = self.io.connections.get_mut(token.index()) else { return };
        let Some(connection) = entry.connection.as_mut().filter(|_| entry.interest.reads()) else { return };
        let interest = entry.interest.without(Interest::READ);
        match self.io.transport.modify(connection, token, entry.interest, interest) {
            Ok(()) => entry.interest = interest,
            Err(kind) => {
                self.unwatchable += 1;
                if let Some(mut conn) = self.shard.connection(token) {
                    conn.failed(kind);
                }
            }
        }
    }
}
