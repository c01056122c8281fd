//! The thread-aware sources of core, compiled over loom's atomics: for this crate and the project's own models.
//! The folder `core/` has symbolic links to them, so that they are part of this crate's package.
#![allow(
    clippy::all,
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    rustdoc::broken_intra_doc_links,
    rustdoc::private_intra_doc_links,
    reason = "models use only a part of the shipped sources; their lints are checked in core"
)]

#[path = "core/balance.rs"]
pub mod balance;
#[path = "core/poller/mod.rs"]
pub mod poller;
#[path = "core/sync/mod.rs"]
pub mod sync;
#[path = "core/table.rs"]
pub(crate) mod table;

pub use crate::net::InMemory;
pub use crate::waker::Waker;
