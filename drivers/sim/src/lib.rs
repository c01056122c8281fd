//! A simulated world for handlers: a network, a clock and pollers in one thread, all decided by a seed.
//!
//! The core of lightcone makes no system calls, so a simulator is just another driver. The same [`Handler`]
//! that serves a real connection runs here unchanged, on the real poll loop, shards, mailboxes, wake flags, load
//! counters and balancer. Its peers send byte by byte, never read, reset halfway or all connect at once.
//! Situations that take days to occur on a network occur within a second, and a seed reproduces them.
//!
//! With its feature `sim`, `lightcone` re-exports this crate as `lightcone::sim`. A program that depends on `lightcone`
//! imports the names of the following test from `lightcone` and `lightcone::sim`.
//!
//! # A test of a handler
//!
//! ```
//! use lightcone_core::{Address, Context, Handler, Origin, Socket};
//! use lightcone_sim::{Script, check};
//!
//! /// Responds to every line with its length.
//! struct Lengths;
//!
//! impl Handler for Lengths {
//!     type Data = ();
//!     type Message = core::convert::Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
//!         let (mut input, mut output) = socket.stream.split();
//!         while let Some(length) = input.bytes().iter().position(|byte| *byte == b'\n') {
//!             if writeln!(output, "{length}").is_err() {
//!                 return; // `writable` follows
//!             }
//!             input.consume(length + 1);
//!         }
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
//!         self.receive(socket, cx);
//!     }
//! }
//!
//! check(0..50, |sim| {
//!     let engine = sim.drawn_engine();
//!     let server = sim.engine(engine, |_poller| Lengths);
//!     let address = ([10, 0, 0, 1], 7).into();
//!     sim.listen(server, address);
//!     for _ in 0..10 {
//!         let script = Script::to(address).send("one\n\nthr").send("ee\n").expect("3\n0\n5\n");
//!         let script = script.send("\n".repeat(500)).receive("0\n".repeat(500)).half_close().until_end();
//!         sim.peer(script.retry(u32::MAX, core::time::Duration::from_millis(100)));
//!     }
//!     sim.finish();
//! });
//! ```
//!
//! A script that retries without limit must eventually complete. Remove `writable` above, and with some seed that draws
//! few output blocks, a script never completes. [`check`] then panics with the last events of the run, the settings of
//! its engines, the shortest list of decisions found that fails in the same way, and the command that repeats the run.
//! A drawn engine can be [very small](Sim::drawn_engine).
//!
//! A seed reproduces a run only if the handler is deterministic. The iteration order of a `std` `HashMap` or
//! `HashSet` differs between runs, and so does the behavior of a handler that sends or posts in that order:
//! use a `BTreeMap`, or a map with a fixed hasher, `HashMap<K, V, BuildHasherDefault<DefaultHasher>>`. For
//! the same reason, take the time from the [`Context`](lightcone_core::Context) and random numbers from a
//! generator with a fixed seed.
//!
//! # What is checked
//!
//! Every run checks these properties, regardless of the scenario. The message of a failure begins with the
//! name of the property:
//!
//! | property | what holds |
//! | --- | --- |
//! | `streams` | peers receive what their scripts expect, byte by byte, and all of it if the stream ends cleanly |
//! | `bytes` | what a handler queues is sent once, or counted in its `close` |
//! | `contract` | events follow the contract of [`Handler`] and deliver what peers sent (messages of [`ContractChecker`] have their own form) |
//! | `counts` | after every turn, core's [`Stats`](lightcone_core::Stats) agree with what the network and the handlers have seen |
//! | `ends` | no handler receives an end, a reset or an error that did not occur |
//! | `timers` | deadlines and timeouts fire at their tick: never early, and late only by delays of the simulation itself |
//! | `evictions` | the evicted socket was idle for long enough, and the longest of all that were |
//! | `bounds` | no socket queues or keeps more than its [`Config`] allows |
//! | `in flight` | the bytes of a send by a completion driver stay in place until they are sent |
//! | `transport` | the poll loop calls its transport as [`Transport`] specifies |
//! | `fairness` | the number of times that a socket waiting for an output block is overtaken is bounded |
//! | `starvation` | a socket that has used up its sends of one turn continues in the next |
//! | `liveness` | a poller without work sleeps; once the faults are over, every script completes and every goal is reached |
//! | `stop` | what had arrived before a stop is received before its socket closes cleanly |
//! | `leak`, `load` | at the end no slot, block, descriptor, permit or event is left over |
//! | `memory` | the storage has the size that [`footprint`](lightcone_core::footprint) states |
//! | `determinism` | a seed produces the same hash each time, in any process |
//!
//! A test binary with a counting allocator can also verify that core does not allocate, with [`within_core`].
//!
//! # Phases of a run
//!
//! [`Sim::finish`] first runs with the faults that the seed has drawn (each kind is off in about half of all
//! runs), then disables all faults and waits until all work is done, then stops the engines. Each decision of
//! a run is recorded on a [`Tape`]. 0 is the benign choice, so that shrinking a failure means setting entries
//! to 0.
//!
//! # Limits
//!
//! The simulation covers what a handler can observe through a POSIX socket or a completion ring: no
//! datagrams, no routing, one network with one latency per run, and a wall clock fixed at the start of 1970.
//! Simulated pollers take turns in one thread, so a simulation finds no data races; `lightcone-model` does. A
//! run ends at its [`Limits`] at the latest.
//!
//! [`Handler`]: lightcone_core::Handler
//! [`Transport`]: lightcone_core::poller::Transport
//! [`ContractChecker`]: lightcone_core::ContractChecker
//! [`Config`]: lightcone_core::Config
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::std_instead_of_alloc,
    reason = "a simulation is a test, which fails by panicking"
)]
#![allow(
    clippy::excessive_nesting,
    clippy::wildcard_enum_match_arm,
    reason = "loops over commands, steps and events that each handle only some of them"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "simulated sockets, pollers and milliseconds are few enough"
)]

mod agenda;
mod content;
mod end;
mod fault;
mod member;
mod mutant;
mod peer;
mod poller;
mod probe;
mod run;
mod shrink;
mod sim;
mod tape;
mod trace;
mod transport;
mod within;
mod world;

pub use content::{Content, pattern};
pub use fault::Fault;
pub use mutant::{Mutant, Unmutated};
pub use peer::{Outcome, Reading, Script};
pub use run::{Failure, Report, Runner, SEED_VARIABLE, Scenario, check};
pub use sim::{Engine, EngineId, Limits, POLLERS_MAX, PeerId, Sim};
pub use tape::{Tape, TapeError};
pub use within::within_core;
