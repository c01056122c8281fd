//! A TCP engine as a sans-I/O state machine: `no_std`, no heap, no OS.
//!
//! The crate has everything of a TCP engine but the calls that receive and send: the table of sockets, their buffers
//! and timeouts, the order of their events, what crosses threads. A *driver* makes the calls. `lightcone-native` has
//! one for hosts; the two loops below are all that it takes to write one where there is no operating system.
//!
//! | to | start from |
//! | --- | --- |
//! | react to sockets | [`Handler`], [`Socket`], [`Context`] |
//! | drive sockets | [`Shard`], [`Port`], [`Next`] |
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
//! The push way: a driver tells a [`Port`] what happened and calls [`Port::run`], which calls the handler and gives an
//! order, [`Next`]. It carries the order out, tells what came of it, and so on until the order is to wait. This poller
//! has one socket on a wire in memory. A real one keeps what it waits for and a descriptor for each socket, by its
//! token's [index](Token::index), and sleeps where this one moves the clock.
//!
//! ```
//! use core::convert::Infallible;
//! use core::mem::MaybeUninit;
//! use lightcone_core::{
//!     Address, CloseReason, Config, Context, Handler, Instant, Interest, ListenerId, Next, NoOutbox, Origin, Shard,
//!     Socket, Storage, Timeout, Token,
//! };
//!
//! /// Sends back what comes, and remembers why the socket ended.
//! struct Echo(Option<CloseReason>);
//!
//! impl Handler for Echo {
//!     type Data = ();
//!     type Message = Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
//!         let (mut input, mut output) = socket.stream.split();
//!         let taken = output.send_some(input.bytes());
//!         input.consume(taken); // what was not taken stays, and `writable` will come
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
//!         self.receive(socket, cx);
//!     }
//!
//!     fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Infallible>) {
//!         self.0 = Some(reason);
//!     }
//! }
//!
//! /// Stands for the network: a peer that says something, then waits for ever. It takes three bytes, then none, and so
//! /// on.
//! struct Wire {
//!     says: &'static [u8],
//!     heard: Vec<u8>,
//!     busy: bool,
//! }
//!
//! impl Wire {
//!     fn receive(&mut self, buffer: &mut [u8]) -> usize {
//!         let (now, later) = self.says.split_at(self.says.len().min(buffer.len()));
//!         buffer[..now.len()].copy_from_slice(now);
//!         self.says = later;
//!         now.len()
//!     }
//!
//!     fn send(&mut self, bytes: &[u8]) -> usize {
//!         let n = if self.busy { 0 } else { bytes.len().min(3) };
//!         self.heard.extend_from_slice(&bytes[..n]);
//!         self.busy = !self.busy;
//!         n
//!     }
//! }
//!
//! struct Poller<'s> {
//!     shard: Shard<'s, ()>,
//!     echo: Echo,
//!     wire: Wire,
//!     /// What the socket waits for.
//!     watched: Interest,
//!     now: Instant,
//! }
//!
//! impl Poller<'_> {
//!     /// Something can be received.
//!     fn readable(&mut self, token: Token) {
//!         let Some(mut port) = self.shard.port(token) else { return };
//!         let mut buffer = [0; 512];
//!         let room = port.room().min(buffer.len()); // 0: do not receive
//!         let n = self.wire.receive(&mut buffer[..room]);
//!         port.received(&buffer[..n]); // or `ended`, or `failed`, as the call says
//!         let mut outbox = NoOutbox; // one poller, nobody to post to
//!         let next = port.run(&mut self.echo, &mut Context::new(self.now, None, token.poller(), &mut outbox));
//!         self.act(token, next);
//!     }
//!
//!     /// Something can be sent. Of a connect this says that it has ended: `connected` or `failed`.
//!     fn writable(&mut self, token: Token) {
//!         let Some(mut port) = self.shard.port(token) else { return };
//!         port.writable();
//!         self.run(token);
//!     }
//!
//!     /// Delivers what is due, and carries out what follows.
//!     fn run(&mut self, token: Token) {
//!         let Some(mut port) = self.shard.port(token) else { return };
//!         let mut outbox = NoOutbox;
//!         let next = port.run(&mut self.echo, &mut Context::new(self.now, None, token.poller(), &mut outbox));
//!         self.act(token, next);
//!     }
//!
//!     /// Carries orders out until the socket waits or has gone.
//!     fn act(&mut self, token: Token, mut next: Next) {
//!         loop {
//!             self.watched = Interest::NONE;
//!             let Some(mut port) = self.shard.port(token) else { return }; // `Close`: so does the driver
//!             match next {
//!                 Next::Wait(interest) => {
//!                     self.watched = interest;
//!                     return;
//!                 }
//!                 Next::Send => {
//!                     let (piece, _is_all) = port.output();
//!                     let (offered, n) = (piece.len(), self.wire.send(piece));
//!                     port.sent(n);
//!                     if n < offered {
//!                         port.blocked(); // the order will be to wait for room
//!                     }
//!                 }
//!                 Next::Shut => port.shut(), // shuts down writing
//!                 // a send is over when its call returns, so that none is in flight; a closed socket has no port
//!                 Next::Cancel | Next::Close => port.sent(0),
//!             }
//!             let mut outbox = NoOutbox;
//!             next = port.run(&mut self.echo, &mut Context::new(self.now, None, token.poller(), &mut outbox));
//!         }
//!     }
//! }
//!
//! const CONFIG: Config = Config { sockets: 2, input_blocks: 2, output_blocks: 2, ..Config::DEVICE };
//! let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
//! let mut memory = [0; CONFIG.memory()];
//! let storage = Storage { slots: &mut slots, memory: &mut memory };
//! let now = Instant::from_millis(0); // from a clock that never goes back
//! let shard = Shard::new(storage, &CONFIG, now)?;
//! let wire = Wire { says: b"hello, wire\n", heard: Vec::new(), busy: false };
//! let mut poller = Poller { shard, echo: Echo(None), wire, watched: Interest::NONE, now };
//!
//! // A peer has come: `open` is due.
//! let (origin, peer) = (Origin::Accepted { listener: ListenerId(0) }, ([192, 0, 2, 1], 49152));
//! let token = poller.shard.admit(&mut poller.echo, origin, &Address::Inet(peer.into()))?;
//! poller.run(token);
//!
//! while poller.shard.in_use() > 0 {
//!     // 1. The time, once a turn.
//!     poller.shard.tick(poller.now);
//!
//!     // 2. What happened outside, as far as it is waited for. The wire can always be written to.
//!     if poller.watched.writes() {
//!         poller.writable(token);
//!     }
//!     if poller.watched.reads() && !poller.wire.says.is_empty() {
//!         poller.readable(token);
//!     }
//!
//!     // 3. Who has something due without that: timeouts, what was put off, blocks that came back.
//!     while let Some(token) = poller.shard.next_ready() {
//!         poller.run(token);
//!     }
//!
//!     // 4. Sleep until something happens outside, and no longer than `next_deadline` says. On this wire nothing more
//!     //    happens once all is said and heard.
//!     if poller.wire.says.is_empty() && !poller.watched.writes() {
//!         poller.now = poller.shard.next_deadline().unwrap_or(poller.now);
//!     }
//! }
//! assert_eq!(poller.wire.heard, b"hello, wire\n");
//! assert_eq!(poller.echo.0, Some(CloseReason::TimedOut(Timeout::Idle)));
//! assert!(poller.now.as_millis() > 75_000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The pull interface
//!
//! The same without callbacks: [`Port::next_event`] gives the events one by one, each with the socket it is for, and
//! [`Port::finish`] the order. `run` is this loop and no more; both may be used on one shard. A handler is still needed
//! for [`Shard::admit`], which asks it for the user data.
//!
//! ```
//! use core::convert::Infallible;
//! use core::mem::MaybeUninit;
//! use lightcone_core::{
//!     Address, Config, Event, Handler, Instant, Interest, ListenerId, Next, Origin, Shard, Storage,
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
//! let mut uart_out = Vec::new();
//! for said in [&b"one line\nhalf "[..], b"another\n", b""] {
//!     let mut port = shard.port(token).expect("it is open");
//!     if said.is_empty() { port.ended() } else { port.received(said) }
//!     loop {
//!         while let Some((event, mut socket)) = port.next_event::<Infallible>() {
//!             match event {
//!                 Event::Receive => {
//!                     let (mut input, mut output, lines) = socket.split();
//!                     while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
//!                         *lines += 1;
//!                         output.send(b"ok\n").expect("answers are short and fit");
//!                         input.consume(end + 1);
//!                     }
//!                 }
//!                 Event::PeerClosed => socket.close(),
//!                 Event::Close(_) => assert_eq!(*socket.data, 2),
//!                 _ => {}
//!             }
//!         }
//!         match port.finish() {
//!             Next::Wait(interest) => {
//!                 assert_eq!(interest, Interest::READ);
//!                 break;
//!             }
//!             Next::Close => break,
//!             order => {
//!                 assert_eq!(order, Next::Send);
//!                 port = shard.port(token).expect("it has something to send");
//!                 let n = port.output().0.len();
//!                 uart_out.extend_from_slice(port.output().0);
//!                 port.sent(n);
//!             }
//!         }
//!     }
//! }
//! assert_eq!(uart_out, b"ok\nok\n");
//! assert!(shard.port(token).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A driver whose sends complete later (a ring of descriptors, `io_uring`) takes the bytes from
//! [`Port::outputs_in_flight`]: their blocks stay where they are until [`Port::sent`]. It answers [`Next::Cancel`] by
//! ending that send.
//!
//! # Portability
//!
//! The sockets themselves need no atomics. A target without compare-and-swap has neither [`sync`] nor [`balance`].
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

mod address;
pub mod balance;
mod buffer;
mod config;
mod contract;
mod error;
mod handler;
mod interest;
pub mod life;
mod port;
mod queue;
mod shard;
mod slot;
mod socket;
mod stats;
mod storage;
pub mod sync;
mod time;
mod timer;
mod token;

pub use address::{Address, Packed, UnixId};
pub use buffer::{Input, Mark, Output};
pub use config::{Config, ConfigError, Footprint, Timeouts, footprint};
pub use contract::{Checked, ContractChecker};
pub use error::{CloseReason, ConnectError, ErrorKind, Full, Rejected, Timeout, WouldBlock};
pub use handler::{Context, Event, Handler, NoOutbox, Origin, Outbox};
pub use interest::Interest;
pub use port::{Next, Port};
pub use shard::{FreeBlocks, Refusal, Shard};
pub use slot::Slot;
pub use socket::{Socket, Stream};
pub use stats::Stats;
pub use storage::Storage;
pub use time::Instant;
pub use token::{ListenerId, PollerId, Token};
