//! What a callback on a worker can reach besides its own socket.

use lightcone_core::{
    Address, ConnectError, Instant, Lag, Outbox, PollerId, Rejected, RoomError, SubscribeError, TimerError,
    TimerId, Token, Topic, Unpublished,
};

use crate::bridge::Bridge;
use crate::message::{Offloaded, unwrap};

/// Access to the engine from a thread that is not one of its pollers.
pub(crate) struct WorkerOutbox<'a, M> {
    pub(crate) bridge: &'a Bridge<M>,
}

impl<M> Outbox<M> for WorkerOutbox<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.bridge.link.post(to, message.into()).or_else(unwrap)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.bridge.link.broadcast(Offloaded::broadcast(message, clone), Offloaded::copy).or_else(unwrap)
    }

    fn connect(&mut self, _: Address, _: u64) -> Result<Token, ConnectError> {
        Err(ConnectError::Unsupported)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        self.bridge.local.filter(|_| token == self.bridge.token)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        Err(Rejected::Gone(message))
    }

    fn subscribe(&mut self, _: Topic, _: Token) -> Result<(), SubscribeError> {
        Err(SubscribeError::Unsupported)
    }

    fn unsubscribe(&mut self, _: Topic, _: Token) -> bool {
        false
    }

    fn unsubscribe_all(&mut self, _: Token) -> usize {
        0
    }

    fn subscribers(&self, _: Topic) -> usize {
        0
    }

    fn count_lag(&mut self, _: Lag) {}

    fn set_timer(&mut self, _: Instant, _: u64) -> Result<TimerId, TimerError> {
        Err(TimerError::Unsupported)
    }

    fn cancel_timer(&mut self, _: TimerId) -> bool {
        false
    }

    fn request_room(&mut self, _: PollerId, _: Option<Token>) -> Result<(), RoomError> {
        Err(RoomError::Unsupported)
    }
}
