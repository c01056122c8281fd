//! Conformance tests for drivers: the engine's guarantees, checked over real sockets.
//!
//! Each case starts an engine, plays the peers with plain blocking sockets, and examines the trace of all events that
//! the handlers received. The end of every case also checks what must always hold:
//!
//! - Every admitted socket has had its last event, and all its events were on one thread.
//! - The report agrees with the counts of the trace.
//! - No handler panicked, unless the case expects it. The core's contract checker wraps every handler and panics when
//!   the engine breaks the handler contract.
//! - No load is left.
//!
//! In a driver's tests:
//!
//! ```text
//! lightcone_conformance::tests!(MyDriver);
//! ```
//!
//! | module | cases |
//! | --- | --- |
//! | [`transfer`] | bytes of all sizes, at all speeds |
//! | [`ending`] | close, half-close, abort and reset, by the peer and by the handler |
//! | [`connecting`], [`accepting`] | how sockets begin |
//! | [`balancing`] | how sockets are distributed over pollers |
//! | [`messages`] | messages and requests from other threads |
//! | [`timing`] | timeouts and deadlines |
//! | [`stopping`] | shutdown in every state |
//! | [`announcing`] | the events of a poller: start, timers, stop |
//! | [`panics`] | handlers that panic |
//! | [`building`] | settings, endpoints and their errors |
//! | [`process`] | descriptors, signals and processor time, each case in a separate process |
//! | [`scripts`] | scripted peers with traces that are compared between drivers |
//! | [`faults`] | faults of earlier versions of the engine, one case each |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests: a failure is a panic")]
#![allow(clippy::missing_panics_doc, reason = "a failed test panics")]
#![allow(clippy::disallowed_methods, reason = "the threads of the peers belong to the tests")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a script handles a few events and leaves the rest to the default"
)]
#![allow(clippy::std_instead_of_alloc, reason = "sockets need std anyway")]
#![allow(clippy::excessive_nesting, reason = "threads within scopes within cases")]
#![allow(clippy::print_stdout, reason = "a skipped case prints the reason")]

pub mod accepting;
pub mod alone;
pub mod announcing;
pub mod balancing;
pub mod building;
pub mod case;
pub mod connecting;
pub mod ending;
pub mod faults;
pub mod messages;
pub mod panics;
pub mod peer;
pub mod process;
pub mod scripts;
pub mod stopping;
pub mod system;
mod tests_macro;
pub mod timing;
pub mod trace;
pub mod transfer;
