//! Checks handlers for races between pollers.
//!
//! State that a handler keeps for itself and its sockets belongs to one poller, and cannot race. State that it shares
//! with the handlers of other pollers can: a registry with a lock, a counter, a cache. Such a race may occur once in a
//! million runs, or only on another machine. [loom] runs a small program through every order of events that the
//! language allows, up to a number of preemptions. This crate runs a real [`Handler`] in loom: on several pollers, with
//! scripted peers, and with the shipped poller loop, mailboxes, wake flag and balancer.
//!
//! # A model of your handler
//!
//! This is a complete test file, for a package with `lightcone-model` as its only dependency:
//!
//! ```
#![doc = include_str!("../tests/newcomer.rs")]
//! ```
//!
//! [`check`] runs the closure once for each schedule. The closure creates the shared state, then a [`Model`] with the
//! peers, and asserts what the peers have received. With `fetch_add`, each peer gets a different number. With a `load`
//! and a `store` in its place, both peers could get the same number, and the test fails with a report. Here it fails in
//! the very first execution, because poller 1 may still read the old value of the counter:
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
//! 1. **Import shared types through a module.** loom sees only its own atomics, locks and cells. So the handler writes
//!    `use super::sync::{Arc, Mutex}`, and the module that includes its file defines `sync`: `use std::sync;` in the
//!    program, `use lightcone_model::loom::sync;` in the model. `tests/chat_room` is an example: one handler, over
//!    sockets and in a model.
//! 2. **Put the models into a separate package,** which is a workspace of its own, so that the lock file of your
//!    program does not contain loom. Include the handler with `#[path = "../../src/chat.rs"] mod chat;`. Optimise the
//!    package, because models are bound by the processor. Its manifest, in a folder of your program:
//!
//!    ```toml
//!    [package]
//!    name = "models"
//!    edition = "2024"
//!
//!    [workspace] # not a member of yours
//!
//!    [dependencies]
//!    # What the handler imports. The models themselves find it in `lightcone_model::engine_core`.
//!    lightcone = { path = "../../lightcone", default-features = false }
//!    lightcone-model = { path = "../../lightcone/loom-tests/model" }
//!
//!    [profile.test]
//!    opt-level = 3
//!    ```
//! 3. **Write the smallest scenario that can go wrong:** two pollers, two peers, one line from each. What must hold
//!    goes into [`Peer::hears`], into assertions in the handler, and into assertions about the [`Outcome`]. Outcomes
//!    without which the model is meaningless are announced to [`check`] and [noted](Seen::note).
//!
//!    loom replays schedules, so the code must be deterministic: otherwise loom stops with "Model execution should be
//!    deterministic" or another error. The order of a `std` `HashMap` or `HashSet` differs from run to run: iterate
//!    over a `BTreeMap`, or use a hasher that is always the same: `HashMap<K, V, BuildHasherDefault<DefaultHasher>>`.
//!    Neither the clock nor random numbers may influence the code.
//! 4. **Add a [self-check](unordered_hand_over),** and break the handler once on purpose.
//! 5. **Run it** with `cargo test`, and occasionally with `LOOM_MAX_PREEMPTIONS=3`. loom's `LOOM_LOCATION=1` prints the
//!    source locations of the two accesses of a causality violation.
//!
//! # What every model checks
//!
//! - Callbacks of one socket neither overlap nor run unordered: next to the user data, each socket has a cell that loom
//!   watches.
//! - Events come in the order that [`ContractChecker`](lightcone_core::ContractChecker) requires, and each socket has
//!   its last event.
//! - The pollers' loads end at zero, and no poller sleeps forever.
//!
//! After a panic, the report lists what the pollers did until then.
//!
//! # What a model does not check
//!
//! - **Beyond its bound.** An execution has at most two preemptions, unless loom is configured otherwise; a poller that
//!   waits does not count as preempted. loom explores what the language allows, with a few exceptions: a relaxed load
//!   never sees a later store, and sequentially consistent accesses count as acquire and release.
//! - **A single poller.** Within one poller, the steps of a peer follow one another at once, and sockets are served in
//!   order: a model explores only how pollers and threads interleave. Bytes cut at every offset, full outputs and
//!   system errors are left to tests over a shard.
//! - **Time.** No timeout of the engine fires, and the clock does not advance while anything runs. When all pollers
//!   sleep and the other threads have finished, it advances to the first deadline (of a handler, of a backed-off
//!   accept, or of the grace time of a shutdown). So a handler that retries until something changes never ends, which
//!   loom reports.
//! - **Large scenarios.** Every thread, socket and message multiplies the schedules. [`THREADS_MAX`], [`PEERS_MAX`],
//!   [`PLACES_MAX`] and [`STEPS_MAX`] are the limits; a useful model is far below them.
//!
//! The poller's loop is the shipped one, and so is all that crosses threads: `core/src/poller/`, `core/src/sync/`,
//! `core/src/balance.rs` and `core/src/table.rs` are compiled here a second time, over loom's atomics, and the rest of
//! core is linked as it is. This crate adds what a driver adds: connections (in memory), and a thread for each poller
//! that waits, reports events and runs turns.
//!
//! [loom]: https://docs.rs/loom
#![deny(unsafe_code)]
#![allow(clippy::test_attr_in_doctest, reason = "the guide shows whole test files, which run elsewhere")]

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

// Items that the shipped sources import from the root of their crate.
use lightcone_core::{
    Address, Calls, CloseReason, Config, ConnectError, Connection, Context, ContextCalls, ErrorKind,
    Footprint, Handler, Instant, Interest, Lag, LagCounter, LeftFastPath, ListenerId, Origin, Outbox,
    PIECES_MAX, PollerEvent, PollerId, Rejected, RequestError, RoomError, SUBSCRIPTIONS_MAX, Sent, Settled,
    SetupError, Shard, Stats, StorageError, SubscribeError, TimerError, TimerId, TimerStorage, Timers, Token,
    TokenBucket, Topic, TopicStats, Unpublished, footprint, life, send_one_by_one,
};
use shipped::{balance, poller, sync, table};

pub use check::{PREEMPTIONS, Racy, Seen, check, check_all, check_up_to, unordered_hand_over};
pub use handle::Handle;
/// The core that models run: the types of a handler. `lightcone` re-exports the same crate under the same name.
pub use lightcone_core as engine_core;
pub use loom;
pub use model::{Model, Outcome, PEERS_MAX, PLACES_MAX, PollerContext, THREADS_MAX};
pub use peer::{Peer, STEPS_MAX};
