//! Checks handlers for races between pollers.
//!
//! What a handler keeps for itself and for its sockets belongs to one poller, and can't race. What it shares with the
//! handlers of other pollers can: a registry behind a lock, a counter, a cache. A race in it shows once in a million
//! runs, or on another machine. [loom] runs a small program through every order of events that the language allows, up
//! to a number of preemptions; this crate runs a real [`Handler`] in it: on several pollers,
//! with peers that follow scripts, and with the poller's loop, the mailboxes, the wake flag and the balancer that ship.
//!
//! # A handler of one's own
//!
//! This is a whole test file:
//!
//! ```
#![doc = include_str!("../tests/newcomer.rs")]
//! ```
//!
//! [`check`] runs the closure once for each schedule: it makes what is shared, then a [`Model`] with the peers, and
//! asserts about what they have heard. `fetch_add` gives every peer a number of its own. With a `load` and a `store`
//! both can get the same; the test fails and tells how. Here in the very first execution, as poller 1 may read the
//! counter as it was before, however late that is:
//!
//! ```text
//! model greeter, bound 2, fails in execution 1: assertion `left != right` failed
//!   left: [48, 10]
//!  right: [48, 10]
//! what happened, in this order:
//!   poller 0  admit peer 0
//!   poller 0  open 0:2#0
//!               peer 0 hears "0\n"
//!   poller 0  sent 0:2#0
//!   poller 1  admit peer 1
//!   poller 1  open 1:2#0
//!               peer 1 hears "0\n"
//! ..
//! ```
//!
//! # Step by step
//!
//! 1. **Name what is shared through a module.** loom sees its own atomics, locks and cells and no others. So the
//!    handler writes `use super::sync::{Arc, Mutex}`, and whoever includes its file says what `sync` is:
//!    `use std::sync;` in the program, `use lightcone_model::loom::sync;` in the model. `tests/chat_room` does so: one
//!    handler, over sockets and in a model.
//! 2. **Give the models a package of their own,** with `lightcone-model` as a dependency, outside of your workspace
//!    (`exclude` it there): then nobody else gets loom into a lock file. The handler comes in by
//!    `#[path = "../../src/chat.rs"] mod chat;`. Optimise it, as models are bound by the processor:
//!    `[profile.test] opt-level = 3`.
//! 3. **Write the smallest scene that can go wrong:** two pollers, two peers, a line from each. What must hold goes
//!    into [`Peer::hears`], into assertions in the handler, and into assertions about the [`Outcome`]. What must come
//!    up, so that the model means something, is announced to [`check`] and [noted](Seen::note).
//!    A schedule is found again by what the code does, so the code must do the same each time: loom stops with "Model
//!    execution should be deterministic" or an error of its own otherwise. The order of a `std` `HashMap` or `HashSet`
//!    differs from run to run: iterate over a `BTreeMap`, or give the map a hasher that is always the same:
//!    `HashMap<K, V, BuildHasherDefault<DefaultHasher>>`. Neither clock nor random numbers may decide.
//! 4. **Put a [self-check](unordered_hand_over) beside it,** and break the handler once on purpose.
//! 5. **Run it** with `cargo test`, and with `LOOM_MAX_PREEMPTIONS=3` now and then. loom's `LOOM_LOCATION=1` says where
//!    the two accesses of a causality violation stand.
//!
//! # What every model checks
//!
//! Callbacks of one socket neither overlap nor run unordered (beside its data there is a cell that loom watches);
//! events come in the order that [`ContractChecker`](lightcone_core::ContractChecker) knows; each socket has its last
//! event; the pollers' loads end at zero; nobody sleeps for ever. After a panic the report tells what the pollers did
//! until then, in order.
//!
//! # What a model is not
//!
//! - **Exhaustive within its bound only.** Up to two preemptions an execution, as long as loom is not told otherwise; a
//!   poller that waits is none. loom explores what the language allows but for a few things: a relaxed load never sees
//!   a later store, and sequentially consistent accesses count as acquire and release.
//! - **About one poller.** There a step of a peer follows the one before at once, and sockets are looked at in order:
//!   what matters is how pollers and threads interleave. Bytes cut at every offset, full outputs, errors of the system
//!   are for tests over a shard.
//! - **About time.** No timeout of the engine fires, and the clock stands still while anything goes on. When all pollers
//!   sleep and the other threads are through, it moves to the first deadline (of a handler, of accepting that has backed
//!   off, or the end of the grace at a shutdown). So a handler that tries again until something has changed goes round
//!   in circles, which loom reports.
//! - **Large.** Every thread, socket and message multiplies the schedules. [`THREADS_MAX`], [`PEERS_MAX`],
//!   [`PLACES_MAX`] and [`STEPS_MAX`] are the limits; what is worth its time is far below.
//!
//! The poller's loop is the shipped one, and so is all that crosses threads: `core/src/poller/`, `core/src/sync/`,
//! `core/src/balance.rs` and `core/src/table.rs` are compiled here a second time, over loom's atomics, and the rest of
//! core is linked as it is. What this crate adds is what a driver adds: connections (in memory), and a thread that
//! waits, tells events and takes turns.
//!
//! [loom]: https://docs.rs/loom
#![deny(unsafe_code)]
#![allow(clippy::test_attr_in_doctest, reason = "the guide shows whole test files, which are run elsewhere")]

mod check;
mod drive;
mod handle;
mod model;
mod net;
mod peer;
#[doc(hidden)]
pub mod shipped;
mod trace;
mod waker;
mod watched;
mod world;

// What the shipped sources name at the root of their crate.
use lightcone_core::{
    Address, Calls, CloseReason, Config, ConnectError, Context, ContextCalls, ErrorKind, Footprint, Handler,
    Instant, Interest, ListenerId, Origin, Outbox, PIECES_MAX, PollerId, Port, Rejected, Sent, Settled,
    SetupError, Shard, Stats, Stopped, StorageError, Token, footprint, life, send_one_by_one,
};
use shipped::{balance, poller, sync, table};

pub use check::{PREEMPTIONS, Racy, Seen, check, check_all, check_up_to, unordered_hand_over};
pub use handle::{Handle, Refused};
pub use loom;
pub use model::{Model, Outcome, PEERS_MAX, PLACES_MAX, PollerContext, THREADS_MAX};
pub use peer::{Peer, STEPS_MAX};
