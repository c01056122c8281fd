//! What the threads of one engine share: each poller's mailboxes, wake flag, load and published counts.

use core::fmt;
use core::time::Duration;

use lightcone_core::{Address, ListenerId, PollerId, Rejected, Stats, Token, UnixId};

use crate::crossing::{
    Arc, Balancer, Endpoint, ListenSocket, Load, Mailbox, Mutex, MutexGuard, Padded, PoisonError, Popped,
    PushError, Receiver, Reservation, Slot, TryLockError, WakeFlag, peer_hint, yield_now,
};
use crate::placing::Newcomer;

/// A poller's load, held by whoever brings it a socket.
pub(crate) type Seat = Reservation<Arc<Padded<Load>>>;

/// What threads tell a poller. These go before messages and cannot be crowded out by them.
#[derive(Debug)]
pub(crate) enum Control {
    /// An accepted socket is this poller's from now on.
    Adopt(Newcomer),
    /// Connect to an address.
    Dial { to: Address, tag: u64, seat: Seat },
    /// Accept on a listener.
    Listen { socket: ListenSocket, id: ListenerId },
    /// Close a listener.
    Unlisten { id: ListenerId },
    /// Close a socket in order, or at once.
    Close { token: Token, abort: bool },
    /// Shut down within the grace time.
    Stop { grace: Duration },
}

/// What programs tell sockets.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Post(Token, M),
    Broadcast(M, fn(&M) -> M),
}

type Ring<T> = Mailbox<T, Padded<Box<[Slot<T>]>>>;

/// The consuming end of one of a poller's mailboxes.
pub(crate) type Inbox<'h, T> = Receiver<&'h Ring<T>>;

pub(crate) fn ring<T>(capacity: usize) -> Ring<T> {
    let slots: Box<[Slot<T>]> = (0..capacity).map(|_| Slot::new()).collect();
    match Mailbox::with_slots(Padded(slots)) {
        Ok(ring) => ring,
        Err(error) => unreachable!("capacities are powers of two: {error}"),
    }
}

/// The side of a poller that other threads see.
pub(crate) struct Remote<M> {
    pub(crate) control: Ring<Control>,
    pub(crate) mail: Ring<Mail<M>>,
    pub(crate) flag: WakeFlag,
    pub(crate) load: Arc<Padded<Load>>,
    waker: Box<dyn Fn() + Send + Sync>,
    published: Mutex<Stats>,
    /// An order to stop for which the mailbox had no room; looked at with each order.
    stop: Mutex<Option<Duration>>,
}

impl<M> AsRef<Load> for Remote<M> {
    fn as_ref(&self) -> &Load {
        (*self.load).as_ref()
    }
}

impl<M> Remote<M> {
    pub(crate) fn new(control: usize, mail: usize, waker: Box<dyn Fn() + Send + Sync>) -> Self {
        Self {
            control: ring(control),
            mail: ring(mail),
            flag: WakeFlag::new(),
            load: Arc::new(Padded(Load::new())),
            waker,
            published: Mutex::default(),
            stop: Mutex::default(),
        }
    }

    /// Makes the poller look into its mailboxes; one system call a sleep at most.
    pub(crate) fn notify(&self) {
        if self.flag.notify() {
            (self.waker)();
        }
    }

    #[expect(clippy::result_large_err, reason = "what was refused is given back whole")]
    pub(crate) fn tell(&self, control: Control) -> Result<(), PushError<Control>> {
        self.control.push(control)?;
        self.notify();
        Ok(())
    }

    /// Orders the poller to stop; never waits, so that a handler may order it too.
    pub(crate) fn tell_to_stop(&self, grace: Duration) {
        if !matches!(self.tell(Control::Stop { grace }), Err(PushError::Full(_))) {
            return;
        }
        {
            let mut stop = locked(&self.stop);
            *stop = Some(stop.map_or(grace, |before| before.min(grace)));
        }
        // either it is full still, and the word is read with what fills it, or there is room now
        let _ = self.tell(Control::Stop { grace });
        self.notify();
    }

    /// The next order, and with it the one to stop that found no room: the grace time.
    pub(crate) fn next_order(&self, control: &mut Inbox<'_, Control>) -> Option<(Control, Option<Duration>)> {
        let Popped::Item(order) = control.pop() else { return None };
        // behind the pop: who found no room has left its word by now, or finds room
        let stop = locked(&self.stop).take();
        Some((order, stop))
    }

    /// Waits by `wait` for as long as it is told to, unless something was pushed since the poller last woke: then
    /// it is told not to wait at all.
    pub(crate) fn sleep<R>(&self, timeout: Option<Duration>, wait: impl FnOnce(Option<Duration>) -> R) -> R {
        let sleeps = self.flag.try_sleep();
        let outcome = wait(if sleeps { timeout } else { Some(Duration::ZERO) });
        if sleeps {
            self.flag.awake();
        }
        outcome
    }

    /// The end of a poller: closes its mailboxes and drops what was never taken up, and with it descriptors and
    /// seats. Whoever is in the middle of a push is waited for, or what it brings would stay as long as the hub.
    pub(crate) fn close(&self, control: &mut Inbox<'_, Control>, mail: &mut Inbox<'_, Mail<M>>) {
        self.control.close();
        self.mail.close();
        empty(control);
        empty(mail);
    }

    /// Lets other threads see the counts; skipped when one is looking just now.
    pub(crate) fn publish(&self, stats: &Stats) -> bool {
        match self.published.try_lock() {
            Ok(mut published) => *published = *stats,
            Err(TryLockError::Poisoned(poisoned)) => *poisoned.into_inner() = *stats,
            Err(TryLockError::WouldBlock) => return false,
        }
        true
    }

    pub(crate) fn stats(&self) -> Stats {
        *locked(&self.published)
    }
}

/// Drops what is left in a closed mailbox.
fn empty<T>(inbox: &mut Inbox<'_, T>) {
    loop {
        match inbox.pop() {
            Popped::Item(_) => {}
            Popped::Empty => yield_now(),
            Popped::Finished => return,
        }
    }
}

/// A lock whose data stays sound when a holder panics.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that the threads of one engine share.
pub(crate) struct Hub<M> {
    pub(crate) pollers: Box<[Remote<M>]>,
    /// The most sockets of one poller.
    pub(crate) sockets: u32,
    /// Paths of Unix sockets, by [`UnixId`].
    unix: Mutex<Vec<Endpoint>>,
    pub(crate) desk: Mutex<Desk>,
}

/// What begins connections and ends them all, in turn: nothing begins behind an order to stop.
pub(crate) struct Desk {
    /// Picks pollers for connects from outside; the acceptor has a balancer of its own.
    pub(crate) balancer: Balancer,
    pub(crate) listeners: Vec<Listening>,
    /// The pollers have been told to stop.
    pub(crate) stopping: bool,
}

/// What is known of a listener outside its poller.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    /// Its place is taken, from before it is bound until it is closed.
    pub(crate) taken: bool,
    /// How many listeners have had the place, so that a closed one's handle does not mean the next.
    pub(crate) turn: u64,
    /// One for each poller, or one for the first.
    pub(crate) shared: bool,
}

/// Why nobody connects for a thread that asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Undialled {
    /// Every poller is full.
    Full,
    /// The pollers have ended, or have been told to.
    Gone,
}

/// The most different Unix addresses of one engine.
pub(crate) const UNIX_MAX: usize = 4_096;

impl<M> fmt::Debug for Hub<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("pollers", &self.pollers.len()).finish_non_exhaustive()
    }
}

impl<M> Hub<M> {
    pub(crate) fn new(pollers: Box<[Remote<M>]>, sockets: u32, balancer: Balancer) -> Self {
        Self {
            pollers,
            sockets,
            unix: Mutex::default(),
            desk: Mutex::new(Desk { balancer, listeners: Vec::new(), stopping: false }),
        }
    }

    pub(crate) fn remote(&self, poller: PollerId) -> Option<&Remote<M>> {
        self.pollers.get(usize::from(poller.0))
    }

    pub(crate) fn post(&self, to: Token, message: M, from: Option<PollerId>) -> Result<(), Rejected<M>> {
        let Some(remote) = self.remote(to.poller()) else { return Err(Rejected::Gone(message)) };
        remote.mail.push(Mail::Post(to, message)).map_err(|refused| match refused {
            PushError::Full(Mail::Post(_, message) | Mail::Broadcast(message, _)) => Rejected::Full(message),
            PushError::Closed(Mail::Post(_, message) | Mail::Broadcast(message, _)) => {
                Rejected::Gone(message)
            }
        })?;
        if from != Some(to.poller()) {
            remote.notify(); // a poller looks into its own mailbox before it sleeps
        }
        Ok(())
    }

    pub(crate) fn broadcast(
        &self,
        message: M,
        clone: fn(&M) -> M,
        from: Option<PollerId>,
    ) -> Result<(), Rejected<M>> {
        for (id, remote) in self.pollers.iter().enumerate() {
            match remote.mail.push(Mail::Broadcast(clone(&message), clone)) {
                Ok(()) if from.is_some_and(|from| usize::from(from.0) == id) => {}
                Ok(()) => remote.notify(),
                Err(PushError::Full(_)) => return Err(Rejected::Full(message)),
                Err(PushError::Closed(_)) => return Err(Rejected::Gone(message)),
            }
        }
        Ok(())
    }

    /// Has the poller that the balancer picks connect to an address, or the next best with room.
    pub(crate) fn dial(&self, to: Address, tag: u64) -> Result<(), Undialled> {
        let hint = match &to {
            Address::Inet(to) => peer_hint(to),
            Address::Unix(_) => 0,
        };
        let mut desk = locked(&self.desk);
        let Desk { balancer, stopping: false, .. } = &mut *desk else { return Err(Undialled::Gone) };
        let first = balancer.pick(&self.pollers, hint);
        let mut last = Undialled::Full;
        for poller in core::iter::once(first).chain(balancer.alternatives(first, &self.pollers)) {
            let Some(remote) = self.pollers.get(poller) else { continue };
            let Some(seat) = Seat::one_below(Arc::clone(&remote.load), self.sockets) else { continue };
            match remote.tell(Control::Dial { to, tag, seat }) {
                Ok(()) => return Ok(()),
                Err(PushError::Closed(_)) => last = Undialled::Gone,
                Err(PushError::Full(_)) => last = Undialled::Full,
            }
        }
        Err(last)
    }

    /// Tells every poller to shut down. Nothing begins from now on.
    pub(crate) fn stop(&self, grace: Duration) {
        let mut desk = locked(&self.desk);
        desk.stopping = true;
        for remote in &self.pollers {
            remote.tell_to_stop(grace);
        }
        for listening in &mut desk.listeners {
            listening.taken = false;
        }
    }

    /// The address of an endpoint; a Unix path is remembered for as long as the engine lives.
    pub(crate) fn address(&self, endpoint: &Endpoint) -> Option<Address> {
        if let Some(address) = endpoint.as_inet() {
            return Some(address.into());
        }
        let mut known = locked(&self.unix);
        let index = match known.iter().position(|other| other == endpoint) {
            Some(index) => index,
            None if known.len() < UNIX_MAX => {
                known.push(endpoint.clone());
                known.len() - 1
            }
            None => return None,
        };
        u16::try_from(index).ok().map(|index| Address::Unix(UnixId(index)))
    }

    pub(crate) fn endpoint(&self, address: &Address) -> Option<Endpoint> {
        match address {
            Address::Inet(address) => Some(Endpoint::Inet(*address)),
            Address::Unix(id) => locked(&self.unix).get(usize::from(id.0)).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_to_stop_is_not_lost_and_does_not_wait() {
        let remote: Remote<()> = Remote::new(2, 2, Box::new(|| ()));
        let mut inbox = remote.control.receiver().unwrap();
        remote.tell_to_stop(Duration::from_secs(3));
        let order = remote.next_order(&mut inbox);
        assert!(matches!(order, Some((Control::Stop { .. }, None))), "by the mailbox, where there is room");
        for id in 0..2 {
            remote.tell(Control::Unlisten { id: ListenerId(id) }).unwrap();
        }
        remote.tell_to_stop(Duration::from_secs(3));
        remote.tell_to_stop(Duration::from_secs(1));
        remote.tell_to_stop(Duration::from_secs(2));
        let order = remote.next_order(&mut inbox);
        let shortest = Some(Duration::from_secs(1));
        assert!(matches!(order, Some((Control::Unlisten { .. }, stop)) if stop == shortest), "{order:?}");
    }
}
