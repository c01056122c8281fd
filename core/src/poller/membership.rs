//! The interface between a poller and other pollers and threads.

use core::fmt;
use core::time::Duration;

use heapless::Deque;

use crate::{Address, ListenerId, PollerId, Rejected, Token, Topic, Unpublished};

use super::room::RoomAsk;

/// An accepted connection that is not assigned to a poller yet.
#[derive(Debug)]
pub struct AcceptedSocket<C> {
    /// The connection.
    pub connection: C,
    /// The address of its peer.
    pub peer: Address,
    /// The listener that accepted it.
    pub listener: ListenerId,
}

/// An accepted connection that is assigned to a poller, with that poller's permit.
#[derive(Debug)]
pub struct AssignedSocket<C, P> {
    /// The connection.
    pub connection: C,
    /// The address of its peer.
    pub peer: Address,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// A permit for one more socket on the poller.
    pub permit: P,
}

/// The result of placing an accepted connection.
#[derive(Debug)]
pub enum Placement<C, P> {
    /// It stays on the poller that accepted it.
    Here(AssignedSocket<C, P>),
    /// It was sent to another poller.
    Elsewhere,
    /// No poller has room for it now.
    NoRoom(AcceptedSocket<C>),
}

/// A command from another thread to a poller. Commands are read before messages, which cannot crowd them out.
pub enum Command<C, L, P> {
    /// Takes over an accepted connection.
    Assign(AssignedSocket<C, P>),
    /// Connects to an address.
    Connect {
        /// The address.
        to: Address,
        /// The tag that `admit` receives.
        tag: u64,
        /// A permit for one more socket.
        permit: P,
    },
    /// Accepts connections from a listener.
    Listen {
        /// The listener.
        listener: L,
        /// Its number.
        id: ListenerId,
    },
    /// Closes a listener.
    CloseListener {
        /// Its number.
        id: ListenerId,
    },
    /// Closes a socket. Queued output is sent first, unless the socket is aborted.
    CloseSocket {
        /// The socket.
        token: Token,
        /// Whether to abort it.
        abort: bool,
    },
    /// Evicts the socket that has been idle longest, unless the poller has room by now.
    Evict,
    /// Answers another poller when the mailbox for messages has room.
    AskRoom {
        /// The poller that asks.
        asker: PollerId,
    },
    /// Shuts down within the grace time.
    Stop {
        /// How long sockets may continue.
        grace: Duration,
    },
}

impl<C, L, P> fmt::Debug for Command<C, L, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assign(_) => "Assign",
            Self::Connect { .. } => "Connect",
            Self::Listen { .. } => "Listen",
            Self::CloseListener { .. } => "CloseListener",
            Self::CloseSocket { .. } => "CloseSocket",
            Self::Evict => "Evict",
            Self::AskRoom { .. } => "AskRoom",
            Self::Stop { .. } => "Stop",
        })
    }
}

/// A message in transit.
#[derive(Debug)]
pub enum Envelope<M> {
    /// For one socket.
    Post(Token, M),
    /// For every open socket, with the function that makes the copies.
    Broadcast(M, fn(&M) -> M),
    /// For every subscriber of a topic, with the function that makes the copies.
    Publish(Topic, M, fn(&M) -> M),
}

impl<M> Envelope<M> {
    /// Returns the message.
    pub fn into_message(self) -> M {
        match self {
            Self::Post(_, message) | Self::Broadcast(message, _) | Self::Publish(_, message, _) => message,
        }
    }
}

/// A poller's relation to other pollers: [`Alone`], [`AloneWithMail`], or [`Member`](super::Member) of a
/// [`Group`](super::Group).
///
/// `C` is an [unregistered connection](super::Transport::Unregistered), `L` a listener and `M` a message.
pub trait Membership<C, L, M> {
    /// One socket's share of a poller's load, held from the moment at which the poller is chosen.
    type Permit;

    /// Posts a message from this poller.
    ///
    /// # Errors
    ///
    /// The message, if it was not taken.
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>>;

    /// Posts a message to every open socket, from this poller.
    ///
    /// # Errors
    ///
    /// The message, if not every poller took it.
    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>>;

    /// Posts a message for the subscribers of a topic, from this poller: to each poller once, from the
    /// [first](Unpublished::poller) that does not have it.
    ///
    /// # Errors
    ///
    /// The message, with the first poller that has not taken it. The default has no mailbox.
    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        Err(Rejected::Gone(message))
    }

    /// Acquires a permit for one more socket on this poller, if it has room.
    fn acquire(&mut self) -> Option<Self::Permit>;

    /// Keeps the permit of a socket that has arrived.
    fn merge(&mut self, permit: Self::Permit);

    /// Releases the permit of a socket that has ended.
    fn release(&mut self);

    /// Returns whether an accepted connection could be placed now. `here` is whether this poller's shard has room.
    fn has_room(&self, here: bool) -> bool;

    /// Chooses a poller to evict a socket for an accepted connection for which no poller has room. `here` is whether
    /// this poller can evict one. Returns whether this poller has to; if not, another one may have been asked.
    fn choose_evictor(&mut self, here: bool) -> bool {
        here
    }

    /// Chooses a poller for an accepted connection.
    fn place(&mut self, accepted: AcceptedSocket<C>) -> Placement<C, Self::Permit>;

    /// Takes the next command.
    fn next_command(&mut self) -> Option<Command<C, L, Self::Permit>>;

    /// Takes the next message.
    fn next_envelope(&mut self) -> Option<Envelope<M>>;

    /// Returns whether there is a command.
    fn has_command(&self) -> bool;

    /// Returns whether there is a message.
    fn has_envelope(&self) -> bool;

    /// Asks a poller to answer when its mailbox has room. At most one ask of this poller is on its way to each.
    fn ask_room(&mut self, at: PollerId) -> RoomAsk {
        let _ = at;
        RoomAsk::Gone
    }

    /// Keeps the ask of another poller until [`answer_askers`](Self::answer_askers) answers it.
    fn keep_asker(&mut self, asker: PollerId) {
        let _ = asker;
    }

    /// Answers the oldest asks, as many as there is room for messages, or all of them after [`close`](Self::close).
    /// Returns whether others are still kept.
    fn answer_askers(&mut self) -> bool {
        false
    }

    /// Takes the answers that have arrived for this poller. They count until [`end_answers`](Self::end_answers).
    fn take_answers(&mut self) {}

    /// Returns whether a poller has answered and still has room, or has ended.
    fn has_answer(&self, from: PollerId) -> bool {
        let _ = from;
        true
    }

    /// Forgets the answers that were taken.
    fn end_answers(&mut self) {}

    /// Returns whether the next turn is due at once: because there is an answer without a wake-up (from this poller
    /// itself, or because another one has ended), or because there is still room for which asks are kept.
    fn answers_further(&self) -> bool {
        false
    }

    /// Refuses all commands and messages from now on. Those taken before can still be read.
    fn close(&mut self);

    /// Returns whether, after [`close`](Self::close), nothing more will arrive. The caller must have read commands and
    /// messages until there was none.
    fn is_finished(&self) -> bool;
}

/// The membership of a lone poller, which needs no atomics. The poller's sockets cannot post messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Alone;

impl<C, L, M> Membership<C, L, M> for Alone {
    type Permit = ();

    fn post(&mut self, _: Token, message: M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn broadcast(&mut self, message: M, _: fn(&M) -> M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn acquire(&mut self) -> Option<()> {
        Some(())
    }

    fn merge(&mut self, (): ()) {}

    fn release(&mut self) {}

    fn has_room(&self, here: bool) -> bool {
        here
    }

    fn place(&mut self, accepted: AcceptedSocket<C>) -> Placement<C, ()> {
        let AcceptedSocket { connection, peer, listener } = accepted;
        Placement::Here(AssignedSocket { connection, peer, listener, permit: () })
    }

    fn next_command(&mut self) -> Option<Command<C, L, ()>> {
        None
    }

    fn next_envelope(&mut self) -> Option<Envelope<M>> {
        None
    }

    fn has_command(&self) -> bool {
        false
    }

    fn has_envelope(&self) -> bool {
        false
    }

    fn close(&mut self) {}

    fn is_finished(&self) -> bool {
        true
    }
}

/// Like [`Alone`], for sockets that post messages to each other. `MAIL`, at least 1, is the maximum number of messages
/// that wait.
///
/// ```
/// use lightcone_core::poller::AloneWithMail;
///
/// let membership: AloneWithMail<&'static str, 8> = AloneWithMail::new();
/// # let _ = membership;
/// ```
#[derive(Debug)]
pub struct AloneWithMail<M, const MAIL: usize> {
    mail: Deque<Envelope<M>, MAIL>,
    closed: bool,
    /// Whether the poller has asked itself for room, and whether it has answered.
    asked: bool,
    answered: bool,
}

impl<M, const MAIL: usize> AloneWithMail<M, MAIL> {
    /// Creates the membership of a lone poller.
    #[must_use]
    pub const fn new() -> Self {
        Self { mail: Deque::new(), closed: false, asked: false, answered: false }
    }

    fn push(&mut self, envelope: Envelope<M>) -> Result<(), Rejected<M>> {
        if self.closed {
            return Err(Rejected::Gone(envelope.into_message()));
        }
        self.mail.push_back(envelope).map_err(|envelope| Rejected::Full(envelope.into_message()))
    }
}

impl<M, const MAIL: usize> Default for AloneWithMail<M, MAIL> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C, L, M, const MAIL: usize> Membership<C, L, M> for AloneWithMail<M, MAIL> {
    type Permit = ();

    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.push(Envelope::Post(to, message))
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.push(Envelope::Broadcast(message, clone))
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        let (topic, (content, clone)) = (message.topic(), message.message());
        match self.push(Envelope::Publish(topic, clone(content), clone)) {
            Ok(()) => Ok(()),
            Err(Rejected::Full(_)) => Err(Rejected::Full(message)),
            Err(_) => Err(Rejected::Gone(message)),
        }
    }

    fn acquire(&mut self) -> Option<()> {
        Some(())
    }

    fn merge(&mut self, (): ()) {}

    fn release(&mut self) {}

    fn has_room(&self, here: bool) -> bool {
        here
    }

    fn place(&mut self, accepted: AcceptedSocket<C>) -> Placement<C, ()> {
        Membership::<C, L, M>::place(&mut Alone, accepted)
    }

    fn next_command(&mut self) -> Option<Command<C, L, ()>> {
        None
    }

    fn next_envelope(&mut self) -> Option<Envelope<M>> {
        self.mail.pop_front()
    }

    fn has_command(&self) -> bool {
        false
    }

    fn has_envelope(&self) -> bool {
        !self.mail.is_empty()
    }

    fn ask_room(&mut self, _: PollerId) -> RoomAsk {
        self.asked = true;
        RoomAsk::Asked
    }

    fn answer_askers(&mut self) -> bool {
        if self.asked && (self.closed || !self.mail.is_full()) {
            (self.asked, self.answered) = (false, true);
        }
        self.asked
    }

    fn has_answer(&self, _: PollerId) -> bool {
        self.answered && (self.closed || !self.mail.is_full())
    }

    fn end_answers(&mut self) {
        self.answered = false;
    }

    fn answers_further(&self) -> bool {
        self.answered || (self.asked && !self.mail.is_full())
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn is_finished(&self) -> bool {
        self.mail.is_empty()
    }
}
