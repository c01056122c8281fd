//! What [`hub`](crate::hub) and [`placing`](crate::placing) are made of. They take it from here alone, so that the
//! models can compile these very files over other threads, locks and atomics, with connections in memory.

pub(crate) use alloc::sync::Arc;
pub(crate) use std::os::fd::OwnedFd;
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
pub(crate) use std::thread::yield_now;

pub(crate) use lightcone_core::balance::{Balancer, peer_hint};
pub(crate) use lightcone_core::sync::{
    Load, Mailbox, Padded, Popped, PushError, Receiver, Reservation, Slot, WakeFlag,
};

pub(crate) use crate::endpoint::Endpoint;
pub(crate) use crate::listener::ListenSocket;
