//! Handlers in a simulated world: a network, a clock and pollers in one thread, all decided by a seed.
//!
//! The core of lightcone makes no system call, so a simulator is just another driver. The [`Handler`] that serves a
//! real connection runs here unchanged, over the real loop, shard, mailboxes, wake flags, loads and balancer, against peers
//! that send byte by byte, never read, reset half-way or connect all at once. What takes days to happen on a network
//! happens in a second; and what has happened comes back by its seed.
//!
//! `lightcone` re-exports this crate as `lightcone::sim` if its feature `sim` is on.
//!
//! # A test of a handler
//!
//! ```
//! use lightcone_core::{Address, Context, Handler, Origin, Socket};
//! use lightcone_sim::{Script, check};
//!
//! /// Answers every line by the number of its bytes.
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
//!                 return; // `writable` will come
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
//! A script that begins anew without end must be done in the end. Leave `writable` out above, and a seed with few
//! output blocks never is. [`check`] then panics with the last events in words, the fewest decisions that fail in the
//! same way, and the command that repeats the run.
//!
//! A seed replays a run only if the handler does the same each time. The order of a `std` `HashMap` or `HashSet` differs
//! from run to run, and so does what a handler does that goes through one to answer or to post: use a `BTreeMap`, or give
//! the map a hasher that is always the same, `HashMap<K, V, BuildHasherDefault<DefaultHasher>>`. For the same reason time
//! comes from the [`Context`](lightcone_core::Context), and random numbers from a generator with a fixed seed.
//!
//! # What is checked
//!
//! In every run, whatever the scenario; a failure begins with the name of the property:
//!
//! | property | what is so |
//! | --- | --- |
//! | `streams` | peers receive what their scripts expect, byte by byte, and all of it if the stream ends in good order |
//! | `bytes` | what a handler queues is sent once, or counted in its `close` |
//! | `contract` | events come as [`Handler`] states, with what peers sent ([`ContractChecker`] has its own words) |
//! | `counts` | after every turn core's [`Stats`](lightcone_core::Stats) say what network and handlers have seen |
//! | `ends` | no handler is told of an end, a reset or an error that there was not |
//! | `timers` | a deadline or timeout is at its tick: never early, and late by no more than what the run itself held up |
//! | `bounds` | no socket queues or keeps more than its [`Config`] allows |
//! | `in flight` | what a completion driver sends stays where it is until it is sent |
//! | `transport` | the loop calls its transport as [`Transport`] says |
//! | `fairness` | a socket that waits for a block of output is not overtaken without end |
//! | `starvation` | a socket that has sent as often as it may in one turn goes on in the next |
//! | `liveness` | a poller without work sleeps; once faults are over every script and every goal is reached |
//! | `leak`, `load` | at the end no slot, block, descriptor, permit or event is left over |
//! | `memory` | the storage is as large as [`footprint`](lightcone_core::footprint) says |
//! | `determinism` | a seed gives the same hash twice, in any process |
//!
//! A test binary with a counting allocator can also hold core to allocating nothing, by [`within_core`].
//!
//! # How a run goes
//!
//! [`Sim::finish`] first runs with the faults that the seed has drawn (each kind is off in about half of all runs),
//! then heals everything and waits until all is done, then stops the engines. Each decision of a run stands on a
//! [`Tape`]: 0 is the benign choice, so that a failure is made smaller by making entries 0.
//!
//! # Limits
//!
//! What is simulated is what a handler can notice through a POSIX socket or a ring of completions: no datagrams, no
//! routing, one network with one latency a run, and a wall clock that stands at the beginning of 1970. Simulated
//! pollers take turns in one thread, so data races are not found here; `lightcone-model` finds those. A run ends after
//! [`Limits`], at the latest.
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
    reason = "a simulation is a test: to panic is how it fails"
)]
#![allow(
    clippy::excessive_nesting,
    clippy::wildcard_enum_match_arm,
    reason = "loops over orders, steps and events, each of which is about some of them"
)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "simulated sockets, pollers and milliseconds are few enough"
)]

mod agenda;
mod content;
mod end;
mod fault;
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
