//! Worker threads for callbacks that block or compute.
//!
//! A handler's callbacks run on the thread of its poller, so a slow callback delays every socket of that
//! poller. Workers are separate threads that run the callbacks instead. The handler does not change: pass it
//! to the [`Workers`], and start the engine with their [`offload`](Workers::offload). `lightcone` re-exports this
//! crate as `lightcone::workers`.
//!
//! ```
//! use core::time::Duration;
//! use std::thread;
//! use lightcone::{Address, Builder, Context, Handler, Origin, Socket};
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
//!         thread::sleep(Duration::from_millis(10)); // a database, a file, a password hash
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
//! // at the end, first the engine, then its workers
//! engine.shutdown(Duration::from_secs(1));
//! let report = workers.shutdown(Duration::from_secs(1));
//! assert_eq!(report.unfinished, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! The contract of [`Handler`](lightcone_core::Handler) holds, with these differences:
//!
//! - **Threads.** The callbacks of one socket run one at a time, in the order of their events, and each sees
//!   the effects of the one before. They may run on any worker: the one that ran the socket last if it is
//!   idle, otherwise another idle one, otherwise the first to become idle. The data that `admit` returns must
//!   therefore be `Send`. The handler itself need not be: each worker has its own, created on its thread. A
//!   handler's state thus belongs to a worker and not to a socket: one worker's handler may admit a socket
//!   and another's may receive its `close`.
//! - **Blocking.** A callback that blocks occupies one worker and delays its own socket. Other sockets are
//!   delayed only when all workers are blocked; they then wait in FIFO order. A poller never waits for a
//!   worker.
//! - **`admit`** runs on a worker, right before `open` or `refused`. A connection that it rejects has already
//!   been accepted or established, and is closed.
//! - **Time** in a callback is the time at which a worker began the socket's turn. If a deadline has passed by then,
//!   what the peer has sent comes before the `timeout`, even if it arrived after the deadline. While a callback other than `open`
//!   and `sent` is due or running, the socket counts as [active](lightcone_core::Stream::set_active), so
//!   [`Timeouts::idle`](lightcone_core::Timeouts) does not run; the engine's other timeouts do. It is not
//!   [evicted](lightcone_core::Config::evict_after) meanwhile either. Afterwards, input that the handler has left
//!   does not protect it, since that is with the worker: declare the socket active. What a callback changes reaches the
//!   poller after it has returned.
//! - **[`Context`](lightcone_core::Context).** Posts and broadcasts work as on a poller, with the sockets'
//!   own tokens; other threads post [`Offloaded`] messages through the engine's handle. `connect` returns
//!   [`Unsupported`](lightcone_core::ConnectError), because only the poller can allocate a token: use the
//!   handle instead. `local_address` returns an address only for the callback's own socket. `set_timer` returns
//!   [`Unsupported`](lightcone_core::TimerError); the deadline of a socket works as on a poller. `subscribe` returns
//!   [`Unsupported`](lightcone_core::SubscribeError), and `publish` returns the message: there are no topics.
//! - **The poller's events**, `started`, `timer` and `stopping`, do not come: they belong to the pollers, whose
//!   handlers are [`Offload`].
//! - **A panic** in a callback closes its socket with `HandlerPanic`, and the worker continues (if panics
//!   unwind).
//!
//! # How it works
//!
//! The core is a state machine without I/O, so it can run twice. Each socket has a *shadow*, a
//! [`Shard`](lightcone_core::Shard) of one socket in which a worker runs the callbacks, and a *bridge* that
//! connects the shadow to the poller's socket: received data flows one way, output and actions the other. The
//! poller's handler, [`Offload`], copies bytes and posts to the bridge's
//! [`Gate`](lightcone_core::sync::Gate), which admits one worker at a time. The worker takes what is in the
//! bridge, runs callbacks, leaves their results in the bridge, and posts a message to the poller's socket. Output
//! counts as sent once the poller has sent it, so `sent`, `writable` and the count of lost bytes are
//! accurate.
//!
//! # Limits
//!
//! | what | maximum | at the maximum |
//! | --- | --- | --- |
//! | workers | [`Builder::workers`], at most [`WORKERS_MAX`] | sockets wait in FIFO order, each queued once |
//! | sockets | [`Builder::sockets`], at most [`SOCKETS_MAX`] | connections are turned away and counted |
//! | those, and ended sockets whose last callback is due | twice as many | connections are turned away and counted |
//! | input of a socket in its bridge, and as much again in its shadow | [`Builder::receive`] | the socket is not read |
//! | output of a socket | [`Builder::output_limit`] | sends are refused; `writable` follows |
//! | messages waiting at a socket | [`Builder::messages`] | further ones are dropped and counted |
//! | steps of a socket in one turn | 16 | other sockets run first |
//! | notifications that a full mailbox refused | one per socket | they are retried, at least every millisecond |
//!
//! There are two shadows for each socket, because a poller may reuse a socket before a worker has run the last callback
//! of the connection before. A shadow takes about 120 bytes from the start. Its shard and buffers (by default 2.2 KiB
//! and up to 68 KiB, of which untouched pages cost nothing) are allocated for its first socket and kept for the next.
//! The buffers of a bridge are freed with its socket.
//!
//! # Shutdown
//!
//! Shut the engine down first. Its sockets receive `shutdown`, and work in progress is finished within the grace time.
//! If a callback outlasts the grace time, its socket is already closed: the callback's output is lost, and `close`
//! follows. Then [`Workers::shutdown`] waits for the remaining callbacks and returns the [`Report`], which counts
//! callbacks that have still not returned. The wait is bounded.
#![forbid(unsafe_code)]

extern crate alloc;

mod bridge;
mod locks;
mod message;
mod offload;
mod outbox;
mod report;
mod scheduler;
mod shadow;
mod worker;
mod workers;

pub use message::{Offloaded, PollerLink};
pub use offload::{Offload, Ticket};
pub use report::Report;
pub use workers::{Builder, Error, MESSAGES_MAX, SOCKETS_MAX, WORKERS_MAX, Workers};
