//! A TCP engine as a sans-I/O state machine: `no_std`, no heap, no OS.
//!
//! The crate has everything of a TCP engine but the calls that receive and send: the table of sockets, their buffers
//! and timeouts, the order of their events, what crosses threads. A *driver* makes the calls. `lightcone-native` has
//! one for hosts; below is what it takes to write one where there is no operating system.
//!
//! | to | start from |
//! | --- | --- |
//! | react to sockets | [`Handler`], [`Socket`], [`Context`] |
//! | carry their bytes | [`poller::Poller`] over a [`poller::Transport`] |
//! | drive sockets one by one | [`Shard`], [`Port`], [`Next`], [`carry_out`] |
//! | size the memory | [`Config`], [`Storage`], [`footprint`] |
//! | test a handler or a driver | [`ContractChecker`], [`life`] |
//! | connect threads | [`sync`], [`balance`] |
//!
//! # The contract
//!
//! [`Handler`] states it in full; [`ContractChecker`] holds an engine to it.
//!
//! - A socket's life begins with `admit`, which makes its user data or turns the peer away. `open` follows at most once
//!   and first; `close`, with the reason, exactly once if `open` was given, and last. A connect that fails gives
//!   `refused` and nothing else.
//! - All callbacks of one socket run one after the other, on the thread that runs its shard. A callback borrows its own
//!   socket and nothing of another one; [`Context::post`] reaches the others.
//! - `receive` comes only with new bytes. What a handler leaves unconsumed stays, in one piece with what comes next.
//! - A handler never sees an incomplete send. [`Output::send`] takes all or nothing; what it took leaves in order, and
//!   `sent` comes when all of it has reached the operating system. What it refused can be tried again in `writable`.
//! - Who takes no answers gives no requests: while `writable` is owed, a socket is not read from.
//! - What a callback asks for ([`close`](Stream::close), [`pause`](Stream::pause), a
//!   [deadline](Stream::set_deadline)) takes effect when it has returned.
//! - A [`Token`] whose socket has gone reaches no other socket.
//!
//! # Memory
//!
//! The crate allocates nothing. A shard works in the [`Storage`] lent to it: a slice of slots, one for each socket, and
//! a slice of bytes from which three pools of equal blocks are cut.
//!
//! - **Slots.** All that an idle socket costs: at most 128 bytes and the user data. A slot that was never used is not
//!   touched, so a large table costs what is used of it.
//! - **Input.** A driver receives into a buffer of its own and lends the slice to [`Port::received`]; that slice is
//!   what the handler sees, without a copy. Only what the handler leaves is copied, into a block that is leased until
//!   it is consumed: a small one, or a large one if more stays behind.
//! - **Output.** What is queued stands in a chain of blocks, at most [`Config::output_limit`] for one socket, leased
//!   while they hold bytes.
//! - **At the maximum.** Without a free slot nobody is admitted. Without a free input block a socket is not read from,
//!   without an output block a send is refused; both wait in a queue and go on when blocks come back.
//!
//! [`footprint`] says what a configuration costs, at compile time if need be.
//!
//! # A run loop
//!
//! A program without an operating system writes a [`Transport`](poller::Transport), which carries bytes, and a loop of
//! a dozen lines around [`Poller::turn`](poller::Poller::turn). Accepting with back-off, sends in part, timeouts,
//! messages between sockets and the shutdown are the poller's. This is a whole program; its network is in memory.
//!
//! ```
#![doc = include_str!("../tests/pipes/transport.rs")]
#![doc = include_str!("../tests/pipes/echo.rs")]
//! ```
//!
//! HTTP is a handler like any other. Over the same transport:
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pipes/transport.rs"));
#![doc = include_str!("../tests/pipes/http.rs")]
//! ```
//!
//! What there is to a poller beside this example: it connects ([`Context::connect`]) if the transport can; a transport
//! whose calls complete later, as of `io_uring` or a DMA engine, tells
//! [`on_received`](poller::Poller::on_received) and [`on_sent`](poller::Poller::on_sent) instead of readiness; pollers
//! of several threads are members of a [`Group`](poller::Group) instead of [`Alone`](poller::Alone).
//!
//! # Without a poller
//!
//! A program with one connection, or with a loop of its own, drives the [`Shard`] itself: it tells a [`Port`] what
//! happened, has the events delivered by [`Port::run`], and [`carry_out`] makes the calls that follow.
//!
//! The same is possible without callbacks: [`Port::next_event`] gives the events one by one, each with the socket it is for, and
//! [`Port::finish`] the order. `run` is this loop and no more; both may be used on one shard. A handler is still needed
//! for [`Shard::admit`], which asks it for the user data.
//!
//! ```
//! use core::convert::Infallible;
//! use core::mem::MaybeUninit;
//! use lightcone_core::{
//!     Address, Calls, Config, ErrorKind, Event, Handler, Instant, Interest, ListenerId, Next, Origin, Port, Sent,
//!     Settled, Shard, Storage, carry_out,
//! };
//!
//! /// Admits everybody; a counter is the user data.
//! struct Everybody;
//!
//! impl Handler for Everybody {
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
//! let token = shard.admit(&mut Everybody, Origin::Accepted { listener: ListenerId(0) }, &peer)?;
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
//!         Ok(()) // a line has no end
//!     }
//! }
//!
//! /// Takes the events of a socket, answers each line, and says what is next.
//! fn pull(port: &mut Port<'_, '_, u32>) -> Next {
//!     while let Some((event, mut socket)) = port.next_event::<Infallible>() {
//!         match event {
//!             Event::Receive => {
//!                 let (mut input, mut output, lines) = socket.split();
//!                 while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
//!                     *lines += 1;
//!                     output.send(b"ok\n").expect("answers are short and fit");
//!                     input.consume(end + 1);
//!                 }
//!             }
//!             Event::PeerClosed => socket.close(),
//!             Event::Close(_) => assert_eq!(*socket.data, 2),
//!             _ => {}
//!         }
//!     }
//!     port.finish()
//! }
//!
//! let mut uart = Uart(Vec::new());
//! for mut said in [b"one line\nhalf ".to_vec(), b"another\n".to_vec(), Vec::new()] {
//!     let mut port = shard.port(token).expect("it is open");
//!     if said.is_empty() { port.ended() } else { port.received(&mut said) }
//!     let next = pull(&mut port);
//!     let settled = carry_out(&mut port, next, 0, &mut uart, |port, _| pull(port));
//!     assert!(matches!(settled, Settled::Waiting(Interest::READ) | Settled::Closed));
//! }
//! assert_eq!(uart.0, b"ok\nok\n");
//! assert!(shard.port(token).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Portability
//!
//! Sockets and a poller that is [`Alone`](poller::Alone) need no atomics. A target without compare-and-swap has neither
//! [`sync`] (but for its counter) nor [`balance`] nor groups of pollers.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::std_instead_of_alloc,
        clippy::std_instead_of_core,
        reason = "tests have std and nothing else"
    )
)]

mod actions;
mod address;
pub mod balance;
mod buffer;
mod config;
mod contract;
mod error;
mod handler;
mod interest;
pub mod life;
pub mod poller;
mod port;
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
mod token;
mod wait_queue;

pub use actions::{
    Calls, ContextCalls, PIECES_MAX, SENDS_IN_A_ROW, Sent, Settled, carry_out, send_one_by_one, send_queued,
    tell_sent,
};
pub use address::{Address, Packed, UnixId};
pub use buffer::{Input, Mark, Output};
pub use config::{Config, ConfigError, Footprint, Timeouts, footprint};
pub use contract::{Checked, ContractChecker, Witness};
pub use error::{CloseReason, ConnectError, ErrorKind, Full, Rejected, Timeout, WouldBlock};
pub use handler::{Context, Event, Handler, NoOutbox, Origin, Outbox};
pub use interest::Interest;
pub use port::{Next, Port, Stopped, UsualPort};
pub use shard::{FreeBlocks, Refusal, STOP_LINGER, Shard};
pub use slot::Slot;
pub use socket::{Socket, Stream};
pub use stats::Stats;
pub use storage::{SetupError, Storage, StorageError};
pub use time::Instant;
pub use token::{ListenerId, PollerId, Token};
