//! What the pollers of one simulated engine share: the real mailboxes, wake flags, loads and balancer of core.

use core::cell::RefCell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::balance::Balancer;
use lightcone_core::sync::{Load, Mailbox, PushError, Receiver, Reservation, Slot, WakeFlag};
use lightcone_core::{ListenerId, PollerId, Rejected, Token};

use crate::within::core_call;
use crate::world::World;

/// A poller's load, held by whoever brings it a socket.
pub(crate) type Seat = Reservation<Rc<Load>>;
pub(crate) type Ring<T> = Mailbox<T, Box<[Slot<T>]>>;
pub(crate) type Inbox<T> = Receiver<Rc<Ring<T>>>;

/// A socket for a poller.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) end: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: ListenerId,
    pub(crate) seat: Seat,
}

/// What a poller is told; this goes before messages and cannot be crowded out by them.
#[derive(Debug)]
pub(crate) enum Control {
    Adopt(Newcomer),
    Dial { to: SocketAddr, tag: u64, seat: Seat },
    Listen { end: u32, id: ListenerId },
    Unlisten { id: ListenerId },
    Close { token: Token, abort: bool },
    Stop { grace: Duration },
}

/// What programs tell sockets.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Post(Token, M),
    Broadcast(M, fn(&M) -> M),
}

pub(crate) fn ring<T>(capacity: usize) -> Rc<Ring<T>> {
    let slots: Box<[Slot<T>]> = (0..capacity).map(|_| Slot::new()).collect();
    match Mailbox::with_slots(slots) {
        Ok(ring) => Rc::new(ring),
        Err(error) => panic!("a mailbox of {capacity}: {error}"),
    }
}

/// The side of a poller that the others see.
#[derive(Debug)]
pub(crate) struct Remote<M> {
    /// Its number among all pollers of the simulation.
    pub(crate) side: u32,
    pub(crate) control: Rc<Ring<Control>>,
    pub(crate) mail: Rc<Ring<Mail<M>>>,
    pub(crate) flag: WakeFlag,
    pub(crate) load: Rc<Load>,
}

impl<M> AsRef<Load> for Remote<M> {
    fn as_ref(&self) -> &Load {
        &self.load
    }
}

impl<M> Remote<M> {
    pub(crate) fn notify(&self, world: &mut World) {
        if core_call(|| self.flag.notify()) {
            world.wake_poller(self.side);
        }
    }

    pub(crate) fn tell(&self, control: Control, world: &mut World) -> Result<(), PushError<Control>> {
        core_call(|| self.control.push(control))?;
        self.notify(world);
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct Hub<M> {
    pub(crate) pollers: Vec<Remote<M>>,
    /// The most sockets of one poller.
    pub(crate) sockets: u32,
    pub(crate) balancer: RefCell<Balancer>,
}

impl<M> Hub<M> {
    pub(crate) fn remote(&self, poller: PollerId) -> &Remote<M> {
        &self.pollers[usize::from(poller.0)]
    }

    pub(crate) fn post(
        &self,
        to: Token,
        message: M,
        from: PollerId,
        world: &mut World,
    ) -> Result<(), Rejected<M>> {
        let Some(remote) = self.pollers.get(usize::from(to.poller().0)) else {
            return Err(Rejected::Gone(message));
        };
        core_call(|| remote.mail.push(Mail::Post(to, message))).map_err(|refused| match refused {
            PushError::Full(Mail::Post(_, message) | Mail::Broadcast(message, _)) => Rejected::Full(message),
            PushError::Closed(Mail::Post(_, message) | Mail::Broadcast(message, _)) => {
                Rejected::Gone(message)
            }
        })?;
        if from != to.poller() {
            remote.notify(world); // a poller looks into its own mailbox before it sleeps
        }
        Ok(())
    }

    pub(crate) fn broadcast(
        &self,
        message: M,
        clone: fn(&M) -> M,
        from: PollerId,
        world: &mut World,
    ) -> Result<(), Rejected<M>> {
        for (id, remote) in self.pollers.iter().enumerate() {
            let copy = clone(&message);
            match core_call(|| remote.mail.push(Mail::Broadcast(copy, clone))) {
                Ok(()) if usize::from(from.0) == id => {}
                Ok(()) => remote.notify(world),
                Err(PushError::Full(_)) => return Err(Rejected::Full(message)),
                Err(PushError::Closed(_)) => return Err(Rejected::Gone(message)),
            }
        }
        Ok(())
    }
}
