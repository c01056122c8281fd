//! What `hub` and `placing` are made of here; the twin of `drivers/unix/src/crossing.rs`.

pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread::yield_now;
// loom's `Arc` looks for leaks and orders nothing that std's would not
pub(crate) use std::sync::{Arc, PoisonError, TryLockError};

pub(crate) use crate::balance::{Balancer, peer_hint};
pub(crate) use crate::sync::{
    Load, Mailbox, Padded, Popped, PushError, Receiver, Reservation, Slot, WakeFlag,
};

/// An open connection, in place of a descriptor.
pub(crate) type OwnedFd = crate::peer::Connection;
/// Peers that have come, in place of a listening descriptor.
pub(crate) type ListenSocket = crate::peer::Arrivals;

/// Where to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Endpoint {
    Inet(core::net::SocketAddr),
}

impl Endpoint {
    pub(crate) fn as_inet(&self) -> Option<core::net::SocketAddr> {
        let Self::Inet(address) = self;
        Some(*address)
    }
}
