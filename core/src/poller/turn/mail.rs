//! Messages, commands of other threads, and requests for room in mailboxes.

use core::time::Duration;

use crate::{CloseReason, Handler, Instant, PollerEvent, PollerId, Rejected, Token, Unpublished};

use super::super::io::PendingConnect;
use super::super::membership::{Command, Envelope, Membership};
use super::super::room::{RoomAsk, RoomRequest};
use super::super::transport::Transport;
use super::{Audience, Broadcast, PanicScope, Poller};

/// The maximum number of requests for room that are notified in one turn.
const ROOMS_A_TURN: usize = 256;
/// How long a poller waits before it asks again for room if there was no room for the question.
const ASK_AGAIN: Duration = Duration::from_millis(1);

impl<'s, H, T, L, const BATCH: usize> Poller<'s, H, T, L, BATCH>
where
    H: Handler,
    T: Transport,
    L: Membership<T::Unregistered, T::Listener, H::Message>,
{
    /// Posts a message to a socket, like [`Context::post`](crate::Context::post) in a handler.
    ///
    /// # Errors
    ///
    /// The message, if it was not taken.
    pub fn post(&mut self, to: Token, message: H::Message) -> Result<(), Rejected<H::Message>> {
        self.io.membership.post(to, message)
    }

    /// Publishes a message, like [`Context::publish_rest`](crate::Context::publish_rest) in a handler.
    ///
    /// # Errors
    ///
    /// The message, if not every poller has taken it.
    pub fn publish(
        &mut self,
        message: Unpublished<H::Message>,
    ) -> Result<(), Rejected<Unpublished<H::Message>>> {
        self.io.membership.publish(message)
    }

    /// Executes a command.
    pub(super) fn execute(&mut self, command: Command<T::Unregistered, T::Listener, L::Permit>) {
        match command {
            Command::Assign(assigned) => self.take_over(assigned),
            Command::Connect { to, tag, permit } => {
                if let Some(token) = self.shard.reserve() {
                    self.begin_connect(PendingConnect { token, to, tag, permit });
                }
            }
            Command::Listen { listener, id } => {
                if let Err(listener) = self.listen(listener, id) {
                    self.io.transport.close_listener(listener, id, false);
                }
            }
            Command::CloseListener { id } => self.acceptor.close(id, &mut self.io.transport),
            Command::CloseSocket { token, abort } => self.close_socket(token, abort),
            Command::Evict => {
                // a permit means that there is room by now; it is released at once
                if self.io.membership.acquire().is_none() {
                    self.evict();
                }
            }
            Command::AskRoom { asker } => {
                self.io.membership.keep_asker(asker);
                self.io.alarm = Instant::from_millis(0);
            }
            Command::Stop { grace } => self.stop(grace),
        }
    }

    /// Closes a socket. Queued output is sent first, unless the socket is aborted. A connect is cancelled.
    pub fn close_socket(&mut self, token: Token, abort: bool) {
        self.tell(token, |conn| if abort { conn.abort_with(CloseReason::Aborted) } else { conn.close() });
    }

    #[inline]
    pub(super) fn read_mail(&mut self) {
        if self.broadcast.is_some() {
            self.go_on_broadcasting();
        }
        while self.budget.messages > 0 && self.broadcast.is_none() {
            self.budget.messages -= 1;
            match self.io.membership.next_envelope() {
                Some(Envelope::Post(token, message)) => self.deliver(token, message),
                Some(Envelope::Broadcast(message, clone)) => {
                    self.broadcast = Some(Broadcast { message, clone, to: Audience::Everyone, from: 0 });
                    self.go_on_broadcasting();
                }
                Some(Envelope::Publish(topic, message, clone)) => {
                    self.io.topics.stats.published += 1;
                    self.io.topics.begin_walk(topic);
                    self.broadcast = Some(Broadcast { message, clone, to: Audience::Subscribers, from: 0 });
                    self.go_on_broadcasting();
                }
                None => return,
            }
        }
    }

    pub(super) fn go_on_broadcasting(&mut self) {
        while self.budget.broadcast > 0 {
            self.budget.broadcast -= 1;
            let Some(broadcast) = &mut self.broadcast else { return };
            let to = broadcast.to;
            let next = match to {
                Audience::Everyone => self.shard.next_open(broadcast.from),
                Audience::Subscribers => self.io.topics.next_in_walk(),
            };
            let Some(token) = next else {
                let over = self.broadcast.take();
                return self.as_program(|_| drop(over));
            };
            // before the program's code, which may panic: the next turn then continues with the next socket
            broadcast.from = token.index() + 1;
            let message = self.as_program(|poller| {
                poller.broadcast.as_ref().map(|broadcast| (broadcast.clone)(&broadcast.message))
            });
            match (message, to) {
                (Some(message), Audience::Everyone) => self.deliver(token, message),
                (Some(message), Audience::Subscribers) => self.deliver_published(token, message),
                (None, _) => {}
            }
        }
    }

    /// Delivers a published message to a subscriber, and counts that if the handler is called.
    fn deliver_published(&mut self, token: Token, message: H::Message) {
        // before the callback, which may panic
        self.io.topics.stats.delivered += 1;
        if !self.try_deliver(token, message) {
            self.io.topics.stats.delivered -= 1;
        }
    }

    /// Delivers a message to a socket, and carries out the actions that follow.
    pub(super) fn deliver(&mut self, token: Token, message: H::Message) {
        self.try_deliver(token, message);
    }

    /// Like [`deliver`](Self::deliver), and returns whether the socket takes messages.
    #[inline]
    fn try_deliver(&mut self, token: Token, message: H::Message) -> bool {
        let Some(mut conn) = self.shard.connection(token) else {
            self.as_program(|_| drop(message));
            return false;
        };
        self.scope = PanicScope::Callback(token);
        match conn.message(message, &mut self.handler, &mut self.io.context()) {
            Ok(next) => {
                let settled = conn.carry_out(next, 0, &mut self.handler, &mut self.io.calls(token));
                self.settle(token, settled);
                true
            }
            Err(message) => {
                self.as_program(|_| drop(message));
                self.run(token); // an event that was due before the message may have ended it
                false
            }
        }
    }

    /// Answers the asks of other pollers, notifies those that have requested it of room in mailboxes, and asks the
    /// pollers for which requests remain. Returns whether an ask of another poller remains.
    pub(super) fn tell_rooms(&mut self) -> bool {
        // first, since its own answer counts in this turn
        let keeps = self.io.membership.answer_askers();
        self.io.membership.take_answers();
        self.io.rooms.begin_round();
        for _ in 0..ROOMS_A_TURN {
            let has_answer = |at| self.io.membership.has_answer(at);
            // removed before the callback, which may panic
            let Some(RoomRequest { at, socket }) = self.io.rooms.take(has_answer) else { break };
            match socket {
                Some(token) => self.tell_room(token, at),
                None => self.tell_poller_event(PollerEvent::Room { at }),
            }
        }
        self.io.membership.end_answers();
        self.ask_rooms();
        keeps
    }

    /// Delivers `room` to a socket, and carries out the actions that follow.
    pub(super) fn tell_room(&mut self, token: Token, at: PollerId) {
        let Some(mut conn) = self.shard.connection(token) else { return };
        self.scope = PanicScope::Callback(token);
        match conn.tell_room(at, &mut self.handler, &mut self.io.context()) {
            Some(next) => {
                let settled = conn.carry_out(next, 0, &mut self.handler, &mut self.io.calls(token));
                self.settle(token, settled);
            }
            None => self.run(token), // an event that was due before may have ended it
        }
    }

    /// Asks each poller that a request names, unless it has been asked.
    pub(super) fn ask_rooms(&mut self) {
        self.io.rooms.ask_at = None;
        for place in 0..self.io.rooms.len() {
            let Some(RoomRequest { at, .. }) = self.io.rooms.get(place) else { break };
            let ask_at = match self.io.membership.ask_room(at) {
                RoomAsk::Asked => continue,
                RoomAsk::Busy => self.io.now + ASK_AGAIN,
                RoomAsk::Gone => self.io.now, // the answer is there already, and no notice of it comes
            };
            self.io.rooms.ask_at = Instant::earlier(self.io.rooms.ask_at, Some(ask_at));
        }
    }
}
