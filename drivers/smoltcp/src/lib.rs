//! Runs the sockets of a lightcone handler on a microcontroller, over the TCP/IP stack [smoltcp].
#![no_std]
#![forbid(unsafe_code)]

mod convert;
mod memory;
mod pool;
mod stack;
mod waiting_room;

pub use memory::StackMemory;
pub use pool::{PooledSocket, PortListener, SocketPool};
pub use smoltcp;
pub use stack::{Stack, Uplink};

/// The maximum number of listeners of a [`Stack`].
pub const PORTS_MAX: usize = 4;
