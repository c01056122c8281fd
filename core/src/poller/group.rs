//! What the pollers of one engine share: mailboxes, wake flags and loads, in storage that the caller brings.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;

use crate::balance::{Balancer, peer_hint};
use crate::sync::{AtomicMin, Load, Mailbox, Popped, PushError, Receiver, Reservation, Slot, WakeFlag};
use crate::{Address, PollerId, Rejected, Token};

use super::membership::{AcceptedSocket, AssignedSocket, Command, Envelope, Membership, Placement};

/// Wakes a poller that waits.
pub trait Wake {
    /// Makes the wait return, or the next one if there is none now.
    fn wake(&self);
}

impl<F: Fn() + ?Sized> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// What a group is made of: what goes through it, and where its parts live.
///
/// On a host these are boxes and `Arc`s; a program without a heap names references to statics.
pub trait GroupTypes {
    /// [`Transport::Unregistered`](super::Transport::Unregistered).
    type Connection;
    /// [`Transport::Listener`](super::Transport::Listener).
    type Listener;
    /// How a poller's load is reached.
    type Load: Deref<Target: AsRef<Load>> + Clone;
    /// How a poller is woken.
    type Waker: Deref<Target: Wake>;
    /// The places of a mailbox.
    type Ring<T>: AsRef<[Slot<T>]>;
}

/// A permit for sockets of one poller, which counts as its load.
pub type LoadPermit<G> = Reservation<<G as GroupTypes>::Load>;
type CommandOf<G> = Command<<G as GroupTypes>::Connection, <G as GroupTypes>::Listener, LoadPermit<G>>;
type CommandBox<G> = Mailbox<CommandOf<G>, <G as GroupTypes>::Ring<CommandOf<G>>>;
type MessageBox<M, G> = Mailbox<Envelope<M>, <G as GroupTypes>::Ring<Envelope<M>>>;

/// One poller as other threads see it.
pub struct PollerHandle<M, G: GroupTypes> {
    commands: CommandBox<G>,
    messages: MessageBox<M, G>,
    flag: WakeFlag,
    load: G::Load,
    waker: G::Waker,
    /// The grace time in milliseconds of a stop for which the mailbox had no room. It is read with each command.
    stop: AtomicMin,
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
    /// Creates the handle of a poller over the places of its mailboxes. `None` if their numbers are no powers of two.
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
        })
    }

    /// Makes the poller look into its mailboxes. It is woken once a sleep at most.
    pub fn notify(&self) {
        if self.flag.notify() {
            self.waker.wake();
        }
    }

    /// Sends a command to the poller.
    ///
    /// # Errors
    ///
    /// The command, when there is no room for it or the poller has ended.
    pub fn send_command(&self, command: CommandOf<G>) -> Result<(), PushError<CommandOf<G>>> {
        self.commands.push(command)?;
        self.notify();
        Ok(())
    }

    /// Posts a message to the poller, which is notified unless it is the one that posts: a poller looks into its own
    /// mailbox before it sleeps.
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

    /// Stops the poller. It never waits, so that a handler may call it too, and is never lost for want of room.
    pub fn stop(&self, grace: Duration) {
        if !matches!(self.send_command(Command::Stop { grace }), Err(PushError::Full(_))) {
            return;
        }
        self.stop.offer(u32::try_from(grace.as_millis()).unwrap_or(AtomicMin::MAX));
        // either the mailbox is still full, and the word is read with what fills it, or there is room by now
        let _ = self.send_command(Command::Stop { grace });
        self.notify();
    }

    /// Waits by `wait` for as long as it is told to, unless something was pushed since the poller last woke: then it
    /// is told not to wait at all.
    pub fn sleep<R>(&self, timeout: Option<Duration>, wait: impl FnOnce(Option<Duration>) -> R) -> R {
        let sleeps = self.flag.try_sleep();
        let outcome = wait(if sleeps { timeout } else { Some(Duration::ZERO) });
        if sleeps {
            self.flag.awake();
        }
        outcome
    }

    /// Announces a sleep, the first half of [`sleep`](Self::sleep) for a driver that is itself called when it wakes.
    /// `false`: something was pushed, and the poller must look instead.
    pub fn try_sleep(&self) -> bool {
        self.flag.try_sleep()
    }

    /// Ends a sleep that [`try_sleep`](Self::try_sleep) has announced.
    pub fn awake(&self) {
        self.flag.awake();
    }
}

/// Why no poller takes a connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectRefused {
    /// Every poller is full.
    Full,
    /// The pollers have ended.
    Gone,
}

/// The pollers of an engine, as each of them and other threads see them.
pub struct Group<'g, M, G: GroupTypes> {
    pollers: &'g [PollerHandle<M, G>],
    /// The most sockets of one poller.
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

/// What a balancer by hash goes by: the peer's address.
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

    /// Posts a message to a socket. `from` is the poller that posts, if it is one.
    ///
    /// # Errors
    ///
    /// The message, when the mailbox of the socket's poller is full or the poller has ended.
    pub fn post(self, to: Token, message: M, from: Option<PollerId>) -> Result<(), Rejected<M>> {
        let Some(poller) = self.poller(to.poller()) else { return Err(Rejected::Gone(message)) };
        poller.post(Envelope::Post(to, message), from != Some(to.poller())).map_err(|refused| match refused {
            PushError::Full(Envelope::Post(_, message) | Envelope::Broadcast(message, _)) => {
                Rejected::Full(message)
            }
            PushError::Closed(Envelope::Post(_, message) | Envelope::Broadcast(message, _)) => {
                Rejected::Gone(message)
            }
        })
    }

    /// Posts a message to every open socket. `from` is the poller that posts, if it is one.
    ///
    /// # Errors
    ///
    /// The message, when the mailbox of a poller is full or it has ended. The pollers before it have the message.
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

    /// Connects to an address, on the poller that the balancer picks or the next best that has room.
    ///
    /// # Errors
    ///
    /// When no poller takes it.
    pub fn connect(self, to: Address, tag: u64, balancer: &mut Balancer) -> Result<(), ConnectRefused> {
        let first = balancer.pick(self.pollers, hint(&to));
        let mut refused = ConnectRefused::Gone;
        for poller in core::iter::once(first).chain(balancer.alternatives(first, self.pollers)) {
            let Some(poller) = self.pollers.get(poller) else { continue };
            if poller.is_closed() {
                continue;
            }
            let Some(permit) = LoadPermit::<G>::one_below(poller.load.clone(), self.sockets) else {
                refused = ConnectRefused::Full;
                continue;
            };
            match poller.send_command(Command::Connect { to, tag, permit }) {
                Ok(()) => return Ok(()),
                Err(PushError::Closed(_)) => {}
                Err(PushError::Full(_)) => refused = ConnectRefused::Full,
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

    /// Assigns a connection to one poller, if that has room for it.
    fn offer(
        self,
        accepted: AcceptedSocket<G::Connection>,
        to: usize,
        me: PollerId,
    ) -> Placement<G::Connection, LoadPermit<G>> {
        let Some(poller) = self.pollers.get(to) else { return Placement::NoRoom(accepted) };
        let Some(permit) = LoadPermit::<G>::one_below(poller.load.clone(), self.sockets) else {
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
            Err(_) => unreachable!("a mailbox gives back what was pushed"),
        }
    }
}

/// A poller's own place in a [`Group`].
pub struct Member<'g, M, G: GroupTypes> {
    group: Group<'g, M, G>,
    me: PollerId,
    handle: &'g PollerHandle<M, G>,
    commands: Receiver<&'g CommandBox<G>>,
    messages: Receiver<&'g MessageBox<M, G>>,
    /// The permits of this poller's sockets.
    permits: LoadPermit<G>,
    /// `None`: every connection stays with the poller that accepted it.
    balancer: Option<Balancer>,
    /// A command that is taken after a stop that came with it.
    next: Option<CommandOf<G>>,
    /// Whether each mailbox is closed, empty, and without a push in progress.
    finished: (bool, bool),
}

impl<M, G: GroupTypes> fmt::Debug for Member<'_, M, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("poller", &self.me).finish_non_exhaustive()
    }
}

impl<'g, M, G: GroupTypes> Member<'g, M, G> {
    /// Takes a poller's place. Without a balancer, connections stay with the poller that accepts them. `None` if the
    /// place is taken or there is none.
    pub fn new(group: Group<'g, M, G>, me: PollerId, balancer: Option<Balancer>) -> Option<Self> {
        let handle = group.poller(me)?;
        let (commands, messages) = (handle.commands.receiver()?, handle.messages.receiver()?);
        let permits = LoadPermit::<G>::none(handle.load.clone());
        let finished = (false, false);
        Some(Self { group, me, handle, commands, messages, permits, balancer, next: None, finished })
    }

    /// Returns the poller as others see it.
    pub const fn handle(&self) -> &'g PollerHandle<M, G> {
        self.handle
    }

    /// Returns how many sockets this poller holds permits for.
    pub const fn load(&self) -> u32 {
        self.permits.count()
    }
}

impl<M, G: GroupTypes> Membership<G::Connection, G::Listener, M> for Member<'_, M, G> {
    type Permit = LoadPermit<G>;

    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.group.post(to, message, Some(self.me))
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.group.broadcast(message, clone, Some(self.me))
    }

    fn acquire(&mut self) -> Option<LoadPermit<G>> {
        LoadPermit::<G>::one_below(self.handle.load.clone(), self.group.sockets)
    }

    fn absorb(&mut self, permit: LoadPermit<G>) {
        self.permits.absorb(permit);
    }

    fn release(&mut self) {
        self.permits.release();
    }

    fn has_room(&self, _: bool) -> bool {
        let has_room = |poller: &PollerHandle<M, G>| AsRef::<Load>::as_ref(poller).get() < self.group.sockets;
        if self.balancer.is_some() { self.group.pollers.iter().any(has_room) } else { has_room(self.handle) }
    }

    fn place(&mut self, accepted: AcceptedSocket<G::Connection>) -> Placement<G::Connection, LoadPermit<G>> {
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
            Popped::Item(command) => command,
            Popped::Empty => return None,
            Popped::Finished => {
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
            Popped::Item(envelope) => Some(envelope),
            Popped::Empty => None,
            Popped::Finished => {
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

    fn close(&mut self) {
        self.handle.commands.close();
        self.handle.messages.close();
    }

    fn is_finished(&self) -> bool {
        self.next.is_none() && self.finished == (true, true)
    }
}
