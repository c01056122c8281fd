//! Runs the sockets of a lightcone handler over [smoltcp], a TCP/IP stack for devices without an operating system.
//!
//! The crate is `no_std`, uses no heap, and has no unsafe code. The handler is the same as on a host, such as a server
//! of `lightcone-http`.
//!
//! | Part | Type | Role |
//! | --- | --- | --- |
//! | device | any [`smoltcp::phy::Device`] | sends and receives frames |
//! | memory | [`StackMemory`] | sockets, buffers and blocks of fixed number and size |
//! | stack | [`Stack`] | the poller of `lightcone-core` over a pool of TCP sockets |
//! | transport | [`SocketPool`] | the pool, which the poller accepts, receives and sends through |
//!
//! The firmware calls [`Stack::poll`] in a loop and sleeps in between: until a frame arrives, or until the time that
//! `poll` has returned, which covers the timers of TCP and those of the engine. Complete firmware and a guide to
//! putting a handler on a device are in the folder `examples/embedded` of the repository.
//!
//! # Example
//!
//! This program accepts connections on port 7, and connects to itself. Its device receives each frame that it sends:
//!
//! ```
//! use core::convert::Infallible;
//! use lightcone_core::poller::Alone;
//! use lightcone_core::{Address, Config, Context, Handler, Instant, ListenerId, Origin, Socket};
//! use lightcone_smoltcp::smoltcp::iface::{self, Interface};
//! use lightcone_smoltcp::smoltcp::phy::{Device, DeviceCapabilities, RxToken, TxToken};
//! use lightcone_smoltcp::smoltcp::time;
//! use lightcone_smoltcp::smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
//! use lightcone_smoltcp::{Stack, StackMemory, Uplink};
//!
//! /// Sends back what it receives. Over a connection that it opened, it sends a word, and closes when that is back.
//! struct Echo(Vec<u8>);
//!
//! impl Handler for Echo {
//!     type Data = Origin;
//!     type Message = Infallible;
//!
//!     fn admit(&mut self, origin: Origin, _: &Address) -> Option<Origin> {
//!         Some(origin)
//!     }
//!
//!     fn open(&mut self, socket: &mut Socket<'_, Origin>, _: &mut Context<'_, Infallible>) {
//!         if let Origin::Connecting { .. } = *socket.data {
//!             socket.stream.send(b"hello").expect("the queue is empty");
//!         }
//!     }
//!
//!     fn receive(&mut self, socket: &mut Socket<'_, Origin>, _: &mut Context<'_, Infallible>) {
//!         let (mut input, mut output, origin) = socket.split();
//!         if let Origin::Accepted { .. } = origin {
//!             let taken = output.send_some(input.bytes());
//!             input.consume(taken);
//!         } else {
//!             self.0.extend_from_slice(input.bytes());
//!             input.consume_all();
//!             socket.stream.close();
//!         }
//!     }
//!
//!     fn writable(&mut self, socket: &mut Socket<'_, Origin>, cx: &mut Context<'_, Infallible>) {
//!         self.receive(socket, cx);
//!     }
//! }
//!
//! /// A device that receives the frames that it sends.
//! #[derive(Default)]
//! struct Loop(Vec<Vec<u8>>);
//!
//! struct Received(Vec<u8>);
//! struct Sending<'a>(&'a mut Vec<Vec<u8>>);
//!
//! impl Device for Loop {
//!     type RxToken<'a> = Received;
//!     type TxToken<'a> = Sending<'a>;
//!
//!     fn receive(&mut self, _: time::Instant) -> Option<(Received, Sending<'_>)> {
//!         let frame = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
//!         Some((Received(frame?), Sending(&mut self.0)))
//!     }
//!
//!     fn transmit(&mut self, _: time::Instant) -> Option<Sending<'_>> {
//!         Some(Sending(&mut self.0))
//!     }
//!
//!     fn capabilities(&self) -> DeviceCapabilities {
//!         let mut capabilities = DeviceCapabilities::default();
//!         capabilities.max_transmission_unit = 1514;
//!         capabilities
//!     }
//! }
//!
//! impl RxToken for Received {
//!     fn consume<R, F: FnOnce(&[u8]) -> R>(self, consumer: F) -> R {
//!         consumer(&self.0)
//!     }
//! }
//!
//! impl TxToken for Sending<'_> {
//!     fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, producer: F) -> R {
//!         let mut frame = vec![0; length];
//!         let result = producer(&mut frame);
//!         self.0.push(frame);
//!         result
//!     }
//! }
//!
//! const CONFIG: Config = Config { sockets: 4, ..Config::DEVICE };
//! let mut memory = StackMemory::<_, { CONFIG.sockets }, { CONFIG.memory() }, 1024, 1024>::new();
//!
//! let mut device = Loop::default();
//! let mut config = iface::Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
//! config.random_seed = 0x9d2c_5680; // different at each start, from a source of entropy
//! let mut interface = Interface::new(config, &mut device, time::Instant::ZERO);
//! interface.update_ip_addrs(|addresses| {
//!     addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, 1), 24)).expect("there is room for an address");
//! });
//!
//! let mut now = Instant::from_millis(0); // from a clock that never goes back
//! let uplink = Uplink { device, interface };
//! // `true`: handlers may connect; with `false`, no memory is kept for that
//! let mut stack: Stack<'_, _, _, _, true> =
//!     Stack::new(&mut memory, &CONFIG, uplink, Echo(Vec::new()), Alone, now)?;
//! assert!(stack.listen(7, ListenerId(0)));
//! let to = Address::Inet(([10, 0, 0, 1], 7).into());
//! stack.poller_mut().connect(to, 0)?;
//!
//! while stack.poller().handler().0 != b"hello" {
//!     let next = stack.poll(now);
//!     // firmware would sleep until this time or the next frame
//!     if stack.device().0.is_empty() {
//!         now = next.expect("something is due").max(now);
//!     }
//! }
//! assert!(now.as_millis() < 100);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # More connections than sockets
//!
//! A TCP socket of smoltcp that listens becomes the connection, so a pool of four sockets holds four connections, and
//! smoltcp would reset a fifth. The stack therefore keeps the frames that begin connections in a *waiting room*, until
//! a TCP socket is free: a browser that opens six connections is served by four sockets. By default, 16 frames of about
//! 90 bytes can wait, each for at most 20 seconds. If the waiting room is full, further ones are dropped, and the peers
//! send them again after a second or more.
//!
//! A TCP socket is used for longer than the handler's socket: it delivers what was sent, and remembers the connection
//! for a while after that, as TCP requires. [`StackMemory`] may have more TCP sockets than [`Config::sockets`] for such
//! connections, and for those that wait to be accepted. If other connections wait for a TCP socket, this time is cut
//! short: a connection that is only remembered makes room at once, one that has delivered everything and only has to
//! end after two seconds, and one whose peer acknowledges nothing after five.
//!
//! | What | At most |
//! | --- | --- |
//! | frames received in one [`Stack::poll`] | 32 |
//! | frames sent in one `poll`, for each TCP socket | 16 |
//! | listeners | [`PORTS_MAX`] |
//! | a handshake | 10 s; 3 s if connections wait for a socket |
//! | a closed connection that delivers what was sent | 30 s; less if connections wait, see above |
//!
//! # What smoltcp cannot do
//!
//! - If the peer closes and reopens its window while bytes are lost, or an old segment that closes the window comes late,
//!   smoltcp may stop to send those bytes again. The engine's timeouts end such a connection, so leave
//!   [`write_stall`](lightcone_core::Timeouts) and [`drain`](lightcone_core::Timeouts) enabled. Over a wire that lost
//!   one frame in 20, doubled as many and delayed two in five, 11 of 300 runs of three connections met this.
//! - A peer that has forgotten a connection and connects again from the same port has to wait until the old connection is
//!   over: a SYN for a connection that is in use has no effect.
//! - A peer that begins more connections than it completes fills the waiting room, and each occupies a TCP socket for
//!   the time of a handshake. No share of either is kept for other peers.
//!
//! # Features
//!
//! `medium-ethernet` and `proto-ipv4` are on by default. `medium-ip` adds devices that carry bare IP packets, and
//! `proto-ipv6` adds IPv6. A program that depends on smoltcp 0.14 itself can turn on more of its features, for example
//! `auto-icmp-echo-reply` for answers to pings, and change the sizes that smoltcp fixes at compile time.
//!
//! [`Config::sockets`]: lightcone_core::Config::sockets
#![no_std]
#![forbid(unsafe_code)]

mod convert;
mod memory;
mod pool;
mod stack;
mod waiting_room;

pub use memory::StackMemory;
pub use pool::{PooledSocket, PortListener, SocketPool};
pub use smoltcp;
pub use stack::{Stack, Uplink};

/// The maximum number of listeners of a [`Stack`]. Their [numbers](lightcone_core::ListenerId) are below it.
pub const PORTS_MAX: usize = 4;
