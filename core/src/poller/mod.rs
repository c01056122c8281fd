//! The event loop of a poller, generic over its transport: the same for every driver.
//!
//! The files of this module name the items of the crate's root, `crate::sync`, `crate::balance`, `crate::life` and
//! `crate::table`, and nothing else of the crate, so that the models compile these very files over loom's atomics.

mod accept;
#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]
mod group;
mod io;
mod membership;
mod room;
mod topics;
mod transport;
mod turn;

pub use accept::ListenerEntry;
#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]
pub use group::{Group, GroupTypes, LoadPermit, Member, PollerHandle, Wake};
pub use io::ConnectionEntry;
pub use membership::{
    AcceptedSocket, Alone, AloneWithMail, AssignedSocket, Command, Envelope, Membership, Placement,
};
pub(crate) use room::ROOM_REQUESTS_MAX;
pub use room::{RoomAsk, RoomRequest};
pub use topics::{Subscription, TopicStorage};
pub use transport::{Accept, Connect, ConnectResult, Received, Transport};
pub use turn::{PanicOwner, Poller, PollerStorage};
