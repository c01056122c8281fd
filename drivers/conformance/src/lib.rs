//! The engine's promises as tests over real sockets, for every driver.
//!
//! Each case starts an engine, plays the peers with plain blocking sockets, and looks at the trace of everything
//! that the handlers were told. Whatever the case, its end checks what always holds: every socket that was admitted
//! has had its last event, everything on one thread; the report counts what the trace shows; no handler panicked
//! unless the case wants it (the contract checker of the core wraps every handler, and panics); no load is left.
//!
//! In a driver's tests:
//!
//! ```text
//! lightcone_conformance::tests!(MyDriver);
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`transfer`] | bytes in every size, at every speed |
//! | [`ending`] | ends of peers and of handlers, whole and half, in order and by reset |
//! | [`connecting`], [`accepting`] | how sockets begin |
//! | [`balancing`] | on which poller |
//! | [`messages`] | what crosses threads |
//! | [`timing`] | timeouts and deadlines |
//! | [`stopping`] | shutdown in every state |
//! | [`panics`] | handlers that panic |
//! | [`building`] | settings that can't be |
//! | [`process`] | descriptors, signals and processor time: each in a process of its own |
//! | [`scripts`] | peers whose traces are compared between drivers |
//! | [`faults`] | faults of an engine before this one, each named |
//! | [`hooked`] | a driver with somebody who looks on |
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests: a failure is a panic")]
#![allow(clippy::missing_panics_doc, reason = "to panic is what a failed test does")]
#![allow(clippy::disallowed_methods, reason = "the peers' threads are the tests' own")]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a script acts on few events and leaves the rest to the default"
)]
#![allow(clippy::std_instead_of_alloc, reason = "sockets need std all the same")]
#![allow(clippy::excessive_nesting, reason = "threads within scopes within cases")]
#![allow(clippy::print_stdout, reason = "a case that is skipped says so")]

pub mod accepting;
pub mod alone;
pub mod balancing;
pub mod building;
pub mod case;
pub mod connecting;
pub mod ending;
pub mod faults;
pub mod hooked;
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
