//! What a lane knows of the way to its poller: nothing, in the models.

/// The way from a worker to a socket's poller.
pub trait Link<M>: Send + Sync {}
