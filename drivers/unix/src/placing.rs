//! Which poller gets an accepted socket, and how it gets there.

use lightcone_core::{Address, ListenerId, PollerId};

use crate::crossing::{Arc, Balancer, Load, OwnedFd, PushError, peer_hint};
use crate::hub::{Control, Hub, Seat};

/// A socket for the poller that is to own it.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Address,
    pub(crate) listener: ListenerId,
    pub(crate) seat: Seat,
}

/// An accepted socket that has no poller yet.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) fd: OwnedFd,
    pub(crate) peer: Address,
    pub(crate) listener: ListenerId,
}

pub(crate) enum Outcome {
    /// It is on its way, or given back for the poller that accepted it.
    Placed(Option<Newcomer>),
    NoRoom(Accepted),
}

/// Whether a socket could be placed now.
pub(crate) fn has_room<M>(balances: bool, me: PollerId, hub: &Hub<M>) -> bool {
    let below = |load: &Load| load.get() < hub.sockets;
    if balances {
        hub.pollers.iter().any(|remote| below(remote.as_ref()))
    } else {
        hub.remote(me).is_some_and(|remote| below(remote.as_ref()))
    }
}

/// Gives a socket to the poller that the balancer picks, or the next best with room; without a balancer it stays
/// with the poller that accepted it.
pub(crate) fn place<M>(
    accepted: Accepted,
    balancer: Option<&mut Balancer>,
    me: PollerId,
    hub: &Hub<M>,
) -> Outcome {
    let hint = match &accepted.peer {
        Address::Inet(peer) => peer_hint(peer),
        Address::Unix(_) => 0,
    };
    let Some(balancer) = balancer else {
        return offer(accepted, usize::from(me.0), me, hub);
    };
    let first = balancer.pick(&hub.pollers, hint);
    let mut outcome = offer(accepted, first, me, hub);
    for other in balancer.alternatives(first, &hub.pollers) {
        let Outcome::NoRoom(accepted) = outcome else { break };
        outcome = offer(accepted, other, me, hub);
    }
    outcome
}

/// Gives a socket to one poller, if that has room for it.
fn offer<M>(accepted: Accepted, to: usize, me: PollerId, hub: &Hub<M>) -> Outcome {
    let Some(remote) = hub.pollers.get(to) else { return Outcome::NoRoom(accepted) };
    let Some(seat) = Seat::one_below(Arc::clone(&remote.load), hub.sockets) else {
        return Outcome::NoRoom(accepted);
    };
    let Accepted { fd, peer, listener } = accepted;
    let newcomer = Newcomer { fd, peer, listener, seat };
    if to == usize::from(me.0) {
        return Outcome::Placed(Some(newcomer));
    }
    match remote.tell(Control::Adopt(newcomer)) {
        Ok(()) => Outcome::Placed(None),
        Err(PushError::Full(Control::Adopt(back)) | PushError::Closed(Control::Adopt(back))) => {
            let Newcomer { fd, peer, listener, seat: _ } = back;
            Outcome::NoRoom(Accepted { fd, peer, listener })
        }
        Err(_) => unreachable!("a mailbox gives back what was pushed"),
    }
}
