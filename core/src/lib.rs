//! A TCP engine as a sans-I/O state machine: `no_std`, no heap, no operating system.
//!
//! The crate is a complete TCP engine except for the calls that receive and send: it contains the socket table,
//! the buffers, the timeouts, the order of events, and the communication between threads. It makes no system
//! call, reads no clock and allocates no memory.
//!
//! | Part | Type | Role |
//! | --- | --- | --- |
//! | handler | [`Handler`] | the program: a callback for each event of a socket |
//! | shard | [`Shard`] | the state machine: sockets, buffers, timeouts |
//! | poller | [`poller::Poller`] | the loop over a shard: accepting, connecting, messages, shutdown |
//! | transport | [`poller::Transport`] | the calls that accept, receive, send and close |
//!
//! A *driver* is the code that makes these calls and runs the loop. A program on an operating system implements
//! [`Handler`] and depends on `lightcone`, which has the drivers and re-exports this crate as `lightcone::engine_core`.
//! This page shows how to write a driver where there is no operating system.
//!
//! | To | Start from |
//! | --- | --- |
//! | handle the events of sockets | [`Handler`], [`Socket`], [`Context`] |
//! | run a poller over another transport | [`poller::Poller`], [`poller::Transport`] |
//! | drive individual sockets | [`Shard`], [`Connection`], [`Action`], [`carry_out`] |
//! | divide a stream into messages | [`framing`] |
//! | serve behind a proxy that passes on its clients' addresses | [`proxy_protocol`] |
//! | plan the memory | [`Config`], [`Storage`], [`footprint`] |
//! | do something at a point in time, or at the start | [`Context::set_timer`], [`Handler::started`], [`Backoff`] |
//! | test a handler or a driver | [`ContractChecker`], [`life`] |
//! | connect threads | [`sync`], [`balance`] |
//!
//! # The event contract
//!
//! [`Handler`] states the contract in full. [`ContractChecker`] checks it at run time.
//!
//! - The first callback of a socket is `admit`, which creates its user data or turns the peer away. `open` follows when
//!   the connection is established. After `open`, `close` comes exactly once, as the last event, with the reason. If a
//!   connect fails, `refused` is the only event.
//! - All callbacks of a socket run one after the other, on the thread that runs its shard. A callback borrows only
//!   its own socket; it reaches others by [`Context::post`].
//! - `receive` comes only when there are new bytes. Bytes that the handler leaves unconsumed stay in the buffer,
//!   and the following bytes are appended to them, so that the input is always one slice.
//! - A handler never sees a partial send. [`Output::send`] accepts all bytes or none. Accepted bytes are sent in
//!   order, and `sent` comes when all of them have been passed to the operating system. After a refused send,
//!   `writable` comes when the handler can try again.
//! - Backpressure: while `writable` is pending, the socket is not read.
//! - A request made in a callback ([`close`](Stream::close), [`pause`](Stream::pause), a
//!   [deadline](Stream::set_deadline)) takes effect when the callback returns.
//! - The [`Token`] of a closed socket never reaches another socket.
//! - A poller calls [`started`](Handler::started) before everything else, [`stopping`](Handler::stopping) when a stop
//!   begins, and [`timer`](Handler::timer) for each timer that belongs to the poller and not to a socket.
//!
//! # Memory
//!
//! A shard works in the [`Storage`] that is lent to it: a slice of slots, one for each socket, and a slice of bytes
//! that is divided into three pools of equal blocks.
//!
//! - **Slots.** A slot is all that an idle socket costs: at most 128 bytes plus the user data. Slots that were never
//!   used are not touched, so a large table costs only what is used of it.
//! - **Input.** A driver receives into its own buffer and lends the slice to [`Connection::received`]. The handler sees
//!   that slice, without a copy. Only bytes that the handler leaves unconsumed are copied, into a block that is
//!   leased until they are consumed: a small block, or a large one if they do not fit.
//! - **Output.** Queued bytes are in a chain of blocks, at most [`Config::output_limit`] for one socket, which are
//!   leased until the bytes are sent.
//! - **At the limits.** Without a free slot, no connection is admitted. Without a free input block, a socket is not
//!   read; without a free output block, a send is refused. Sockets that need a block wait in a FIFO queue and
//!   continue when blocks are returned.
//!
//! A poller has memory of its own: a [`PollerStorage`](poller::PollerStorage). If its handler may set timers, they are
//! part of that: 24 bytes each, and about 3 KB for all of them together.
//!
//! [`footprint`] computes the memory that a configuration needs, at compile time if desired.
//!
//! # A run loop
//!
//! A program without an operating system implements a [`Transport`](poller::Transport), which carries bytes, and
//! writes a loop of a dozen lines around [`Poller::turn`](poller::Poller::turn). The poller takes care of accepting
//! with back-off, partial sends, timeouts, messages between sockets, and shutdown. This is a complete program; its
//! network is in memory. Only the network and what the program records for its checks are on the heap:
//!
//! ```
#![doc = include_str!("../tests/pipes/transport.rs")]
#![doc = include_str!("../tests/pipes/echo.rs")]
//! ```
//!
//! HTTP is a handler like any other. The same transport can carry it:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pipes/transport.rs"));
#![doc = include_str!("../tests/pipes/http.rs")]
//! ```
//!
//! A poller can do more than these examples show:
//!
//! - It connects ([`Context::connect`]), if the transport can.
//! - It has timers ([`Context::set_timer`]), if it is lent memory for them ([`TimerStorage`]). With a [`Backoff`], a
//!   handler reconnects by itself.
//! - A transport whose calls complete later, such as `io_uring` or a DMA engine, reports completions by
//!   [`on_received`](poller::Poller::on_received) and [`on_sent`](poller::Poller::on_sent) instead of readiness.
//! - Pollers of several threads are members of a [`Group`](poller::Group); a single one is
//!   [`Alone`](poller::Alone).
//!
//! # Without a poller
//!
//! A program with one connection, or with its own loop, can drive the [`Shard`] itself. It reports to a [`Connection`]
//! what happened to a socket, delivers the events by [`Connection::run`], and carries out the actions that follow by
//! [`carry_out`].
//!
//! Events can also be pulled instead of delivered to callbacks: [`Connection::next_event`] returns them one by one,
//! each with its socket, and [`Connection::finish`] returns the next action. [`Connection::run`] is the same loop with
//! callbacks; both may be used on one shard. [`Shard::admit`] still needs a handler, to create the user data.
//!
//! ```
//! use core::convert::Infallible;
//! use core::mem::MaybeUninit;
//! use lightcone_core::{
//!     Address, Calls, Config, ErrorKind, Event, Handler, Instant, Interest, ListenerId, Action, Origin, Connection, Sent,
//!     Settled, Shard, Storage, carry_out,
//! };
//!
//! /// Admits every peer. The user data is a counter.
//! struct AdmitAll;
//!
//! impl Handler for AdmitAll {
//!     type Data = u32;
//!     type Message = Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<u32> {
//!         Some(0)
//!     }
//! }
//!
//! const CONFIG: Config = Config { sockets: 2, ..Config::DEVICE };
//! let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
//! let mut memory = [0; CONFIG.memory()];
//! let storage = Storage { slots: &mut slots, memory: &mut memory };
//! let mut shard = Shard::new(storage, &CONFIG, Instant::from_millis(0))?;
//! let peer = Address::Inet(([192, 0, 2, 1], 49152).into());
//! let token = shard.admit(&mut AdmitAll, Origin::Accepted { listener: ListenerId(0) }, &peer)?;
//!
//! /// A serial line.
//! struct Uart(Vec<u8>);
//!
//! impl Calls for Uart {
//!     fn send(&mut self, bytes: &[u8]) -> Sent {
//!         self.0.extend_from_slice(bytes);
//!         Sent::Bytes(bytes.len())
//!     }
//!
//!     fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
//!         Ok(()) // a serial line has no end of stream
//!     }
//! }
//!
//! /// Handles the events of a socket, responds to each line, and returns the next action.
//! fn pull(conn: &mut Connection<'_, '_, u32>) -> Action {
//!     while let Some((event, mut socket)) = conn.next_event::<Infallible>() {
//!         match event {
//!             Event::Receive => {
//!                 let (mut input, mut output, lines) = socket.split();
//!                 while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
//!                     *lines += 1;
//!                     output.send(b"ok\n").expect("responses are short and fit");
//!                     input.consume(end + 1);
//!                 }
//!             }
//!             Event::PeerClosed => socket.close(),
//!             Event::Close(_) => assert_eq!(*socket.data, 2),
//!             _ => {}
//!         }
//!     }
//!     conn.finish()
//! }
//!
//! let mut uart = Uart(Vec::new());
//! for mut bytes in [b"one line\nhalf ".to_vec(), b"another\n".to_vec(), Vec::new()] {
//!     let mut conn = shard.connection(token).expect("the socket is open");
//!     if bytes.is_empty() { conn.peer_ended() } else { conn.received(&mut bytes) }
//!     let next = pull(&mut conn);
//!     let settled = carry_out(&mut conn, next, 0, &mut uart, |conn, _| pull(conn));
//!     assert!(matches!(settled, Settled::Waiting(Interest::READ) | Settled::Closed));
//! }
//! assert_eq!(uart.0, b"ok\nok\n");
//! assert!(shard.connection(token).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Portability
//!
//! Sockets, and a poller that is [`Alone`](poller::Alone), need no atomics. On targets without compare-and-swap,
//! [`sync`] contains only its counter, and [`balance`] and groups of pollers are not available.
//!
//! A `#![no_std]` program that depends on this crate builds for a device with
//! `cargo build --target thumbv6m-none-eabi`, for example, once `rustup target add` has installed that target.
//!
//! The feature `defmt`, off by default, formats the small public types for `defmt`, the logger of microcontrollers:
//! tokens, addresses, events, close reasons, errors, times, counts and configurations.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::std_instead_of_alloc, clippy::std_instead_of_core, reason = "tests are built with std")
)]

mod actions;
mod address;
mod address_prefix;
mod backlog;
mod backoff;
pub mod balance;
mod buffer;
mod config;
mod connection;
mod contract;
mod error;
pub mod framing;
mod handler;
mod idle_queue;
mod interest;
pub mod life;
#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]
mod limit_peers;
pub mod poller;
pub mod proxy_protocol;
mod queue;
mod shard;
mod slot;
mod socket;
mod stats;
mod storage;
pub mod sync;
mod table;
mod time;
mod timer;
mod timers;
mod token;
mod token_bucket;
mod topic;
mod wait_queue;
mod write_rate;

pub use actions::{
    Calls, ContextCalls, PIECES_MAX, SENDS_IN_A_ROW, Sent, Settled, carry_out, report_sent, send_one_by_one,
    send_queued,
};
pub use address::{Address, PackedAddress, UnixId};
pub use address_prefix::{AddressPrefix, PrefixError};
pub use backlog::{Backlog, LagPolicy, TooSlow};
pub use backoff::Backoff;
pub use buffer::{Checkpoint, Input, Output};
pub use config::{Config, ConfigError, Footprint, Timeouts, WriteRate, footprint};
pub use connection::{Action, Connection, FastPath, LeftFastPath};
pub use contract::{Checked, ContractChecker, Witness};
pub use error::{
    CloseReason, ConnectError, ErrorKind, Full, Rejected, RequestError, RoomError, Timeout, WouldBlock,
};
pub use handler::{Context, Event, Handler, NoOutbox, Origin, Outbox, PollerEvent};
pub use interest::Interest;
#[cfg(all(target_has_atomic = "ptr", target_has_atomic = "32"))]
pub use limit_peers::{LimitPeers, LimitedPeer};
pub use shard::{AdmitError, FreeBlocks, STOP_LINGER, Shard};
pub use slot::Slot;
pub use socket::{Socket, Stream};
pub use stats::Stats;
pub use storage::{SetupError, Storage, StorageError};
pub use time::Instant;
pub use timers::{TimerError, TimerId, TimerSlot, TimerStorage, TimerWheel, Timers};
pub use token::{ListenerId, PollerId, Token};
pub use token_bucket::{Rate, TokenBucket};
pub use topic::{Lag, LagCounter, SUBSCRIPTIONS_MAX, SubscribeError, Topic, TopicStats, Unpublished};
