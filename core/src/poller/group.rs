//! The state that the pollers of one engine share: mailboxes, wake flags and loads, in storage that the caller
//! provides.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;

use heapless::Deque;

use crate::balance::{Balancer, Policy, PollerSet, peer_hint};
use crate::sync::{
    AtomicMin, AtomicSet, Load, Mailbox, MailboxSlot, PushError, Receiver, Reservation, TryRecv, WakeFlag,
};
use crate::{Address, PollerId, Rejected, RequestError, Token, Unpublished};

use super::membership::{AcceptedSocket, AssignedSocket, Command, Envelope, Membership, Placement};
use super::room::RoomAsk;

/// Wakes a waiting poller.
pub trait Wake {
    /// Makes the current wait return or, if the poller does not wait, the next one.
    fn wake(&self);
}

impl<F: Fn() + ?Sized> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// The types of a group: what is sent through it, and where its parts are stored.
///
/// On a host these are boxes and `Arc`s; a program without a heap uses references to statics.
pub trait GroupTypes {
    /// [`Transport::Unregistered`](super::Transport::Unregistered).
    type Unregistered;
    /// [`Transport::Listener`](super::Transport::Listener).
    type Listener;
    /// A pointer to a poller's load.
    type Load: Deref<Target: AsRef<Load>> + Clone;
    /// A pointer to what wakes a poller.
    type Waker: Deref<Target: Wake>;
    /// The slots of a mailbox.
    type Ring<T>: AsRef<[MailboxSlot<T>]>;
}

/// A permit for sockets of one poller, which counts as its load.
pub type LoadPermit<G> = Reservation<<G as GroupTypes>::Load>;
type CommandOf<G> = Command<<G as GroupTypes>::Unregistered, <G as GroupTypes>::Listener, LoadPermit<G>>;
type CommandBox<G> = Mailbox<CommandOf<G>, <G as GroupTypes>::Ring<CommandOf<G>>>;
type MessageBox<M, G> = Mailbox<Envelope<M>, <G as GroupTypes>::Ring<Envelope<M>>>;

/// One poller, as seen by other threads.
pub struct PollerHandle<M, G: GroupTypes> {
    commands: CommandBox<G>,
    messages: MessageBox<M, G>,
    flag: WakeFlag,
    load: G::Load,
    waker: G::Waker,
    /// The grace time in milliseconds of a stop for which the mailbox had no room. It is read along with each command.
    stop: AtomicMin,
    /// The pollers that have answered this one: their mailboxes have room.
    answers: AtomicSet,
}

impl<M, G: GroupTypes> AsRef<Load> for PollerHandle<M, G> {
    fn as_ref(&self) -> &Load {
        (*self.load).as_ref()
    }
}

impl<M, G: GroupTypes> fmt::Debug for PollerHandle<M, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollerHandle").field("load", self.as_ref()).finish_non_exhaustive()
    }
}

impl<M, G: GroupTypes> PollerHandle<M, G> {
    /// Creates the handle of a poller over the slots of its mailboxes. Returns `None` if the number of slots of a
    /// mailbox is not a power of two, or if slots were used before.
    pub fn new(
        commands: G::Ring<CommandOf<G>>,
        messages: G::Ring<Envelope<M>>,
        load: G::Load,
        waker: G::Waker,
    ) -> Option<Self> {
        Some(Self {
            commands: Mailbox::with_slots(commands).ok()?,
            messages: Mailbox::with_slots(messages).ok()?,
            flag: WakeFlag::new(),
            load,
            waker,
            stop: AtomicMin::new(),
            answers: AtomicSet::new(),
        })
    }

    /// Makes the poller read its mailboxes. It is woken at most once per sleep.
    pub fn notify(&self) {
        if self.flag.notify() {
            self.waker.wake();
        }
    }

    /// Sends a command to the poller.
    ///
    /// # Errors
    ///
    /// The command, if there is no room for it or the poller has ended.
    pub fn send_command(&self, command: CommandOf<G>) -> Result<(), PushError<CommandOf<G>>> {
        self.commands.push(command)?;
        self.notify();
        Ok(())
    }

    /// Posts a message to the poller and, if `notify`, notifies it. A poller that posts to itself need not be notified:
    /// it checks its own mailbox before it sleeps.
    fn post(&self, envelope: Envelope<M>, notify: bool) -> Result<(), PushError<Envelope<M>>> {
        self.messages.push(envelope)?;
        if notify {
            self.notify();
        }
        Ok(())
    }

    /// Returns whether the poller has ended.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Stops the poller. The call never waits, so that a handler may make it too, and the stop is never lost for lack
    /// of room in the mailbox.
    pub fn stop(&self, grace: Duration) {
        if !matches!(self.send_command(Command::Stop { grace }), Err(PushError::Full(_))) {
            return;
        }
        self.stop.offer(u32::try_from(grace.as_millis()).unwrap_or(AtomicMin::MAX));
        // if the mailbox is still full, the poller reads the word along with a command that fills it; otherwise this
        // succeeds
        let _ = self.send_command(Command::Stop { grace });
        self.notify();
    }

    /// Calls `wait` with `timeout`, or with a timeout of zero if something was pushed since the poller last woke.
    pub fn sleep<R>(&self, timeout: Option<Duration>, wait: impl FnOnce(Option<Duration>) -> R) -> R {
        let sleeps = self.flag.try_sleep();
        let outcome = wait(if sleeps { timeout } else { Some(Duration::ZERO) });
        if sleeps {
            self.flag.awake();
        }
        outcome
    }

    /// Announces a sleep: the first half of [`sleep`](Self::sleep), for a driver that is itself called when it wakes.
    /// Returns `false` if something was pushed: then the poller must check its mailboxes instead.
    pub fn try_sleep(&self) -> bool {
        self.flag.try_sleep()
    }

    /// Ends a sleep that [`try_sleep`](Self::try_sleep) has announced.
    pub fn awake(&self) {
        self.flag.awake();
    }
}

/// Drops the command.
impl<T> From<PushError<T>> for RequestError {
    fn from(refused: PushError<T>) -> Self {
        match refused {
            PushError::Full(_) => Self::Full,
            PushError::Closed(_) => Self::Gone,
        }
    }
}

/// The pollers of an engine, as seen by each of them and by other threads.
pub struct Group<'g, M, G: GroupTypes> {
    pollers: &'g [PollerHandle<M, G>],
    /// The maximum number of sockets of one poller.
    sockets: u32,
}

impl<M, G: GroupTypes> Clone for Group<'_, M, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, G: GroupTypes> Copy for Group<'_, M, G> {}

impl<M, G: GroupTypes> fmt::Debug for Group<'_, M, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("pollers", &self.pollers.len()).finish_non_exhaustive()
    }
}

/// Returns the hint for balancing by hash: that of the peer's address, or 0 for a Unix-domain socket.
fn hint(peer: &Address) -> u64 {
    match peer {
        Address::Inet(peer) => peer_hint(peer),
        Address::Unix(_) => 0,
    }
}

impl<'g, M, G: GroupTypes> Group<'g, M, G> {
    /// Creates a view of these pollers, each of which takes up to `sockets` sockets.
    pub const fn new(pollers: &'g [PollerHandle<M, G>], sockets: u32) -> Self {
        Self { pollers, sockets }
    }

    /// Returns the pollers.
    pub const fn pollers(self) -> &'g [PollerHandle<M, G>] {
        self.pollers
    }

    /// Returns one of the pollers.
    pub fn poller(self, id: PollerId) -> Option<&'g PollerHandle<M, G>> {
        self.pollers.get(usize::from(id.0))
    }

    /// Posts a message to a socket. `from` is the posting poller, if a poller posts it.
    ///
    /// # Errors
    ///
    /// The message, if the mailbox of the socket's poller is full, or the poller has ended or does not exist.
    pub fn post(self, to: Token, message: M, from: Option<PollerId>) -> Result<(), Rejected<M>> {
        let Some(poller) = self.poller(to.poller()) else { return Err(Rejected::Gone(message)) };
        poller.post(Envelope::Post(to, message), from != Some(to.poller())).map_err(|refused| match refused {
            PushError::Full(envelope) => Rejected::Full(envelope.into_message()),
            PushError::Closed(envelope) => Rejected::Gone(envelope.into_message()),
        })
    }

    /// Posts a message to every open socket. `from` is the posting poller, if a poller posts it.
    ///
    /// # Errors
    ///
    /// The message, if the mailbox of a poller is full or the poller has ended. The pollers before it have received the
    /// message.
    pub fn broadcast(
        self,
        message: M,
        clone: fn(&M) -> M,
        from: Option<PollerId>,
    ) -> Result<(), Rejected<M>> {
        for (id, poller) in self.pollers.iter().enumerate() {
            let is_other = from.is_none_or(|from| usize::from(from.0) != id);
            match poller.post(Envelope::Broadcast(clone(&message), clone), is_other) {
                Ok(()) => {}
                Err(PushError::Full(_)) => return Err(Rejected::Full(message)),
                Err(PushError::Closed(_)) => return Err(Rejected::Gone(message)),
            }
        }
        Ok(())
    }

    /// Posts a message for the subscribers of a topic to each poller, from the [first](Unpublished::poller) that does
    /// not have it. A poller that has ended has no subscribers, and is passed over. `from` is the posting poller, if a
    /// poller posts it.
    ///
    /// # Errors
    ///
    /// The message, with the first poller whose mailbox is full, or with [`Rejected::Gone`] if all pollers have ended.
    pub fn publish(
        self,
        mut message: Unpublished<M>,
        from: Option<PollerId>,
    ) -> Result<(), Rejected<Unpublished<M>>> {
        let (topic, first) = (message.topic(), message.poller());
        // Those before have it. A message that was not published here first can name a poller that does not exist.
        let mut is_published = (1..self.pollers.len()).contains(&first.0.into());
        for (id, poller) in (0..=u8::MAX).map(PollerId).zip(self.pollers).skip(first.0.into()) {
            let (content, clone) = message.message();
            match poller.post(Envelope::Publish(topic, clone(content), clone), from != Some(id)) {
                Ok(()) => is_published = true,
                Err(PushError::Closed(_)) => {}
                Err(PushError::Full(_)) => {
                    message.set_poller(id);
                    return Err(Rejected::Full(message));
                }
            }
        }
        if is_published { Ok(()) } else { Err(Rejected::Gone(message)) }
    }

    /// Connects to an address, on the poller that the balancer picks or on the next best one with room.
    ///
    /// # Errors
    ///
    /// If every poller is full or has ended.
    pub fn connect(self, to: Address, tag: u64, balancer: &mut Balancer) -> Result<(), RequestError> {
        let first = balancer.pick(self.pollers, hint(&to));
        let mut refused = RequestError::Gone;
        for poller in core::iter::once(first).chain(balancer.alternatives(first, self.pollers)) {
            let Some(poller) = self.pollers.get(poller) else { continue };
            if poller.is_closed() {
                continue;
            }
            let Some(permit) = LoadPermit::<G>::try_acquire(poller.load.clone(), self.sockets) else {
                refused = RequestError::Full;
                continue;
            };
            match poller.send_command(Command::Connect { to, tag, permit }) {
                Ok(()) => return Ok(()),
                Err(PushError::Closed(_)) => {}
                Err(PushError::Full(_)) => refused = RequestError::Full,
            }
        }
        Err(refused)
    }

    /// Stops all pollers.
    pub fn stop(self, grace: Duration) {
        for poller in self.pollers {
            poller.stop(grace);
        }
    }

    /// Assigns a connection to one poller, if it has room.
    fn offer(
        self,
        accepted: AcceptedSocket<G::Unregistered>,
        to: usize,
        me: PollerId,
    ) -> Placement<G::Unregistered, LoadPermit<G>> {
        let Some(poller) = self.pollers.get(to) else { return Placement::NoRoom(accepted) };
        let Some(permit) = LoadPermit::<G>::try_acquire(poller.load.clone(), self.sockets) else {
            return Placement::NoRoom(accepted);
        };
        let AcceptedSocket { connection, peer, listener } = accepted;
        let assigned = AssignedSocket { connection, peer, listener, permit };
        if to == usize::from(me.0) {
            return Placement::Here(assigned);
        }
        match poller.send_command(Command::Assign(assigned)) {
            Ok(()) => Placement::Elsewhere,
            Err(PushError::Full(Command::Assign(back)) | PushError::Closed(Command::Assign(back))) => {
                let AssignedSocket { connection, peer, listener, permit: _ } = back;
                Placement::NoRoom(AcceptedSocket { connection, peer, listener })
            }
            Err(_) => unreachable!("a mailbox returns what was pushed"),
        }
    }
}

/// A poller's membership in a [`Group`].
pub struct Member<'g, M, G: GroupTypes> {
    group: Group<'g, M, G>,
    me: PollerId,
    handle: &'g PollerHandle<M, G>,
    commands: Receiver<&'g CommandBox<G>>,
    messages: Receiver<&'g MessageBox<M, G>>,
    /// The permits of this poller's sockets.
    permits: LoadPermit<G>,
    /// `None` if every connection stays on the poller that accepted it.
    balancer: Option<Balancer>,
    /// The poller that was last asked to evict a socket.
    evictor: usize,
    /// The command that was popped together with a stop. The stop is returned first, and this next.
    next: Option<CommandOf<G>>,
    /// Whether each mailbox is closed, empty, and without a push in progress.
    finished: (bool, bool),
    /// The pollers that this one has asked for room and that have not answered.
    asked: PollerSet,
    /// The answers that were taken.
    answered: PollerSet,
    /// The pollers that have asked this one. Each asks again only after the answer, so there is a place for each.
    askers: Deque<PollerId, 256>,
}

impl<M, G: GroupTypes> fmt::Debug for Member<'_, M, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("poller", &self.me).finish_non_exhaustive()
    }
}

impl<'g, M, G: GroupTypes> Member<'g, M, G> {
    /// Takes the membership of a poller. Without a balancer, connections stay on the poller that accepts them. Returns
    /// `None` if the membership is taken or there is no such poller.
    pub fn new(group: Group<'g, M, G>, me: PollerId, balancer: Option<Balancer>) -> Option<Self> {
        let handle = group.poller(me)?;
        let (commands, messages) = (handle.commands.receiver()?, handle.messages.receiver()?);
        let permits = LoadPermit::<G>::none(handle.load.clone());
        let finished = (false, false);
        let evictor = usize::from(me.0);
        Some(Self {
            group,
            me,
            handle,
            commands,
            messages,
            permits,
            balancer,
            evictor,
            next: None,
            finished,
            asked: PollerSet::default(),
            answered: PollerSet::default(),
            askers: Deque::new(),
        })
    }

    /// Returns the poller's handle, as other threads use it.
    pub const fn handle(&self) -> &'g PollerHandle<M, G> {
        self.handle
    }

    /// Returns the number of sockets for which this poller holds permits.
    pub const fn load(&self) -> u32 {
        self.permits.count()
    }
}

impl<M, G: GroupTypes> Membership<G::Unregistered, G::Listener, M> for Member<'_, M, G> {
    type Permit = LoadPermit<G>;

    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.group.post(to, message, Some(self.me))
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.group.broadcast(message, clone, Some(self.me))
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.group.publish(message, Some(self.me))
    }

    fn acquire(&mut self) -> Option<LoadPermit<G>> {
        LoadPermit::<G>::try_acquire(self.handle.load.clone(), self.group.sockets)
    }

    fn merge(&mut self, permit: LoadPermit<G>) {
        self.permits.merge(permit);
    }

    fn release(&mut self) {
        self.permits.release();
    }

    fn has_room(&self, _: bool) -> bool {
        let has_room = |poller: &PollerHandle<M, G>| AsRef::<Load>::as_ref(poller).get() < self.group.sockets;
        if self.balancer.is_some() { self.group.pollers.iter().any(has_room) } else { has_room(self.handle) }
    }

    /// Chooses this poller if it can evict a socket; otherwise asks the other pollers in turn, because it is not known
    /// here which of them have idle sockets.
    fn choose_evictor(&mut self, here: bool) -> bool {
        let me = usize::from(self.me.0);
        let Some(balancer) = &self.balancer else { return here };
        let other = match balancer.policy() {
            Policy::Pinned(only) if usize::from(only) != me => usize::from(only),
            Policy::Pinned(_) => return here,
            Policy::RoundRobin | Policy::LeastConnections | Policy::LeastOfTwo | Policy::Hash => {
                if here {
                    return true;
                }
                self.evictor = (self.evictor + 1) % self.group.pollers.len();
                self.evictor
            }
        };
        if other != me
            && let Some(poller) = self.group.pollers.get(other)
        {
            // if it has no room for the command, or has ended, another one is asked later
            let _ = poller.send_command(Command::Evict);
        }
        false
    }

    fn place(
        &mut self,
        accepted: AcceptedSocket<G::Unregistered>,
    ) -> Placement<G::Unregistered, LoadPermit<G>> {
        let (group, me) = (self.group, self.me);
        let Some(balancer) = &mut self.balancer else { return group.offer(accepted, usize::from(me.0), me) };
        let first = balancer.pick(group.pollers, hint(&accepted.peer));
        let mut placement = group.offer(accepted, first, me);
        for other in balancer.alternatives(first, group.pollers) {
            let Placement::NoRoom(accepted) = placement else { break };
            placement = group.offer(accepted, other, me);
        }
        placement
    }

    #[inline]
    fn next_command(&mut self) -> Option<CommandOf<G>> {
        if self.next.is_some() {
            return self.next.take();
        }
        let command = match self.commands.pop() {
            TryRecv::Item(command) => command,
            TryRecv::Empty => return None,
            TryRecv::Finished => {
                self.finished.0 = true;
                return None;
            }
        };
        // after the pop: a stop that found no room has left its word by now, or finds room
        let Some(millis) = self.handle.stop.take() else { return Some(command) };
        self.next = Some(command);
        Some(Command::Stop { grace: Duration::from_millis(millis.into()) })
    }

    #[inline]
    fn next_envelope(&mut self) -> Option<Envelope<M>> {
        match self.messages.pop() {
            TryRecv::Item(envelope) => Some(envelope),
            TryRecv::Empty => None,
            TryRecv::Finished => {
                self.finished.1 = true;
                None
            }
        }
    }

    #[inline]
    fn has_command(&self) -> bool {
        self.next.is_some() || self.commands.is_ready()
    }

    #[inline]
    fn has_envelope(&self) -> bool {
        self.messages.is_ready()
    }

    fn ask_room(&mut self, at: PollerId) -> RoomAsk {
        let place = usize::from(at.0);
        if self.asked.contains(place) || self.answered.contains(place) {
            return RoomAsk::Asked;
        }
        if at == self.me {
            self.keep_asker(at);
        } else {
            let ask = Command::AskRoom { asker: self.me };
            match self.group.poller(at).map(|poller| poller.send_command(ask)) {
                Some(Ok(())) => {}
                Some(Err(PushError::Full(_))) => return RoomAsk::Busy,
                None | Some(Err(PushError::Closed(_))) => {
                    self.answered.insert(place);
                    return RoomAsk::Gone;
                }
            }
        }
        self.asked.insert(place);
        RoomAsk::Asked
    }

    fn keep_asker(&mut self, asker: PollerId) {
        // not full, as a poller that waits for the answer does not ask again
        let _ = self.askers.push_back(asker);
    }

    fn answer_askers(&mut self) -> bool {
        let room = if self.handle.messages.is_closed() { usize::MAX } else { self.messages.room() };
        for _ in 0..room {
            let Some(asker) = self.askers.pop_front() else { break };
            if let Some(poller) = self.group.poller(asker) {
                // the bit first: the asker looks when it is notified
                poller.answers.insert(self.me.0);
                poller.notify();
            }
        }
        !self.askers.is_empty()
    }

    fn take_answers(&mut self) {
        let (asked, answered) = (&mut self.asked, &mut self.answered);
        self.handle.answers.take(|id| {
            asked.remove(id.into());
            answered.insert(id.into());
        });
    }

    fn has_answer(&self, from: PollerId) -> bool {
        let has_room =
            |poller: &PollerHandle<M, G>| poller.messages.is_closed() || poller.messages.has_room();
        self.answered.contains(from.0.into()) && self.group.poller(from).is_none_or(has_room)
    }

    fn end_answers(&mut self) {
        self.answered = PollerSet::default();
    }

    fn answers_further(&self) -> bool {
        // those that were answered may not use the room
        !self.answered.is_empty() || (!self.askers.is_empty() && self.messages.room() > 0)
    }

    fn close(&mut self) {
        self.handle.commands.close();
        self.handle.messages.close();
    }

    fn is_finished(&self) -> bool {
        self.next.is_none() && self.finished == (true, true)
    }
}
