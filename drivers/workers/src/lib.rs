//! Worker threads for callbacks that block or compute.
//!
//! A handler's callbacks run on the thread of its poller, and one that takes long holds up all sockets of that poller.
//! Workers are threads beside the pollers that run the callbacks in their stead. The handler stays as it is: it is
//! given to the [`Workers`], and the engine is started with their [`offload`](Workers::offload).
//!
//! ```
//! use core::time::Duration;
//! use std::thread;
//! use lightcone_core::{Address, Context, Handler, Origin, Socket};
//! use lightcone_native::Builder;
//!
//! struct Slow;
//!
//! impl Handler for Slow {
//!     type Data = ();
//!     type Message = core::convert::Infallible;
//!
//!     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
//!         Some(())
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
//!         thread::sleep(Duration::from_millis(10)); // a data base, a file, a hash of a password
//!         let (mut input, mut output) = socket.stream.split();
//!         let taken = output.send_some(input.bytes());
//!         input.consume(taken);
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
//!         self.receive(socket, cx);
//!     }
//! }
//!
//! let workers = lightcone_workers::Builder::new().workers(8).start(|_worker| Slow)?;
//! let engine = Builder::new().pollers(1).start(workers.offload())?;
//! let listener = engine.listen("127.0.0.1:0")?;
//! # use std::io::{Read, Write};
//! # let mut client = std::net::TcpStream::connect(listener.endpoint().as_inet().unwrap())?;
//! # client.write_all(b"hello")?;
//! # let mut answer = [0; 5];
//! # client.read_exact(&mut answer)?;
//! # assert_eq!(&answer, b"hello");
//! println!("listening on {}", listener.endpoint());
//! // .. and in the end the engine first, then its workers
//! engine.shutdown(Duration::from_secs(1));
//! let report = workers.shutdown(Duration::from_secs(1));
//! assert_eq!(report.unfinished, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What holds
//!
//! The contract of [`Handler`](lightcone_core::Handler), with these differences:
//!
//! - **Threads.** The callbacks of one socket run one at a time, in the order of their events, and each sees what the
//!   one before did; but on whatever worker has time. That is the one that ran the socket last if it is idle, else any
//!   that is, else the first that will be. So what `admit` makes must be `Send`. The handler itself need not: each
//!   worker has one of its own, made on its thread. What a handler knows in itself is thus of a worker, not of a
//!   socket, and one worker's handler may admit a socket whose end another one's sees.
//! - **Blocking.** A callback that blocks takes one worker with it and delays its own socket. Others are delayed when
//!   all workers are blocked; then they wait in order. A poller never waits for a worker.
//! - **`admit`** runs on a worker, right before `open` or `refused`: a connection that it turns away is closed, but was
//!   there, and a connect has been made.
//! - **Time** is that at which a worker took the socket up. The engine's timeouts go on while a callback blocks: a peer
//!   that is silent for as long as [`Timeouts::idle`](lightcone_core::Timeouts) says is cut even if it is the handler
//!   for whom it waits.
//! - **[`Context`](lightcone_core::Context).** Posts and broadcasts work as they do elsewhere, by the sockets' own
//!   tokens; programs post [`Offloaded`] messages by the engine's handle. `connect` gives
//!   [`Unsupported`](lightcone_core::ConnectError), as no token can be had before the poller has one: use the handle's.
//!   `local_address` knows the callback's own socket alone.
//! - **A panic** in a callback closes its socket with `HandlerPanic`, and the worker goes on. (If panics unwind.)
//!
//! # How it works
//!
//! The core is a state machine without I/O, so there can be a second one. For each socket there is a *stand-in*, a
//! [`Shard`](lightcone_core::Shard) of one socket in which a worker runs the callbacks, and a *lane* that ties it to
//! the poller's socket: what has come goes one way, what is to be sent and done the other. The poller's handler,
//! [`Offload`], copies bytes and posts to the lane's [`Gate`](lightcone_core::sync::Gate), which lets one worker run at
//! a time. The worker looks into the lane, runs callbacks, leaves what came of them, and posts a message to the
//! poller's socket. Output counts as sent when the poller has sent it, so that `sent`, `writable` and what is lost at
//! the end are true.
//!
//! # Bounds
//!
//! | what | maximum | at the maximum |
//! | --- | --- | --- |
//! | workers | [`Builder::workers`], at most [`WORKERS_MAX`] | sockets wait in order, each once |
//! | sockets | [`Builder::sockets`], at most [`SOCKETS_MAX`] | peers are turned away, and counted |
//! | input of a socket in its lane, and again in its stand-in | [`Builder::receive`] | it is not read from |
//! | output of a socket | [`Builder::output_limit`] | sends are refused; `writable` comes |
//! | messages waiting at a socket | [`Builder::messages`] | they are dropped, and counted |
//! | things that a socket is told in one turn | 16 | others come first |
//! | answers that a full mailbox has refused | one for each socket | they are tried again, each millisecond at least |
//!
//! A place costs some 120 bytes from the start; its shard and its buffers (by default 2.2 KiB and up to 68 KiB, of
//! which pages that were never used cost nothing) are made for its first socket and kept for the next. A lane's buffers
//! go with the socket.
//!
//! # The end
//!
//! Shut the engine down first. Its sockets get `shutdown`, and what was begun is finished within the grace time. A
//! callback that lasts longer finds its socket gone: what it sends is lost, and `close` follows it. Then
//! [`Workers::shutdown`] waits for the callbacks that are left and gives the [`Report`]. A callback that never returns
//! is counted there; nothing waits for it without end.
#![forbid(unsafe_code)]

extern crate alloc;

mod crew;
mod lane;
mod locks;
mod message;
mod offload;
mod outbox;
mod report;
mod stand_in;
mod worker;
mod workers;

pub use message::{Link, Offloaded};
pub use offload::{Offload, Ticket};
pub use report::Report;
pub use workers::{Builder, Error, MESSAGES_MAX, SOCKETS_MAX, WORKERS_MAX, Workers};
