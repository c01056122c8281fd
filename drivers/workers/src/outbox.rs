//! What a callback on a worker can reach besides its own socket.

use lightcone_core::{Address, ConnectError, Outbox, Rejected, Token};

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
}
