//! A network in memory: a wire, and a host of clients at its other end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use lightcone_core::poller::Alone;
use lightcone_core::{Address, CloseReason, Context, ErrorKind, Handler, Instant, Origin, Socket};
use lightcone_smoltcp::Stack;
use lightcone_smoltcp::smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use lightcone_smoltcp::smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use lightcone_smoltcp::smoltcp::socket::tcp;
use lightcone_smoltcp::smoltcp::time;
#[cfg(feature = "medium-ip")]
use lightcone_smoltcp::smoltcp::wire::HardwareAddress;
use lightcone_smoltcp::smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// Random numbers by a seed.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        // xorshift64*, whose state must not be 0
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }
}

/// What goes wrong on a wire.
#[derive(Clone)]
pub(crate) struct Faults {
    pub(crate) random: Random,
    /// Of 100 frames, how many are lost, sent twice, and delayed.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) delayed: u64,
    /// The longest delay in milliseconds.
    pub(crate) delay: u64,
}

/// Frames on their way in one direction.
#[derive(Default)]
pub(crate) struct Lane {
    /// When each arrives, in the order in which they were sent.
    frames: Vec<(time::Instant, Vec<u8>)>,
    pub(crate) faults: Option<Faults>,
    /// Whether all frames are lost.
    pub(crate) cut: bool,
    /// The ports of clients whose frames are lost.
    pub(crate) deaf: Vec<u16>,
    /// Whether the next frame of TCP is damaged.
    pub(crate) damages: bool,
    /// How many frames were sent and lost.
    pub(crate) sent: usize,
    pub(crate) lost: usize,
}

impl Lane {
    pub(crate) fn send(&mut self, now: time::Instant, mut frame: Vec<u8>) {
        self.sent += 1;
        // the ports of TCP follow the headers of Ethernet and IPv4
        if let [.., 0x08, 0x00] = frame[..14] {
            let ports = [34, 36].map(|at| u16::from_be_bytes([frame[at], frame[at + 1]]));
            if self.deaf.iter().any(|port| ports.contains(port)) {
                self.lost += 1;
                return;
            }
            if core::mem::take(&mut self.damages) {
                frame[50] ^= 1;
            }
        }
        let Some(faults) = self.faults.as_mut().filter(|_| !self.cut) else {
            if self.cut {
                self.lost += 1;
            } else {
                self.frames.push((now, frame));
            }
            return;
        };
        let mut happens = |percent| faults.random.below(100) < percent;
        let (lost, doubled, delayed) =
            (happens(faults.lost), happens(faults.doubled), happens(faults.delayed));
        let delay = if delayed { faults.random.below(faults.delay + 1) } else { 0 };
        let at = now + time::Duration::from_millis(delay);
        if lost {
            self.lost += 1;
            return;
        }
        if doubled {
            let later = at + time::Duration::from_millis(faults.random.below(faults.delay + 1));
            self.frames.push((later, frame.clone()));
        }
        self.frames.push((at, frame));
    }

    /// Returns when the next frame arrives.
    pub(crate) fn next(&self) -> Option<time::Instant> {
        self.frames.iter().map(|(at, _)| *at).min()
    }

    /// Returns how many frames are on their way.
    pub(crate) fn on_the_way(&self) -> usize {
        self.frames.len()
    }

    fn receive(&mut self, now: time::Instant) -> Option<Vec<u8>> {
        let next = self.next().filter(|at| *at <= now)?;
        let index = self.frames.iter().position(|(at, _)| *at == next)?;
        Some(self.frames.remove(index).1)
    }
}

/// One end of a wire.
#[derive(Clone, Default)]
pub(crate) struct End {
    pub(crate) incoming: Rc<RefCell<Lane>>,
    pub(crate) outgoing: Rc<RefCell<Lane>>,
    /// Whether there is no room for a frame that is not an answer.
    pub(crate) busy: Rc<Cell<bool>>,
    pub(crate) medium: Medium,
}

impl End {
    /// Returns when the next frame arrives at either end.
    pub(crate) fn next(&self) -> Option<Instant> {
        let next = self.incoming.borrow().next().into_iter().chain(self.outgoing.borrow().next()).min()?;
        Some(Instant::from_millis(u64::try_from(next.total_micros()).unwrap().div_ceil(1_000)))
    }

    /// Loses all frames from now on, or none.
    pub(crate) fn cut(&self, cut: bool) {
        self.incoming.borrow_mut().cut = cut;
        self.outgoing.borrow_mut().cut = cut;
    }

    /// Loses all frames of a client's port from now on.
    pub(crate) fn lose(&self, port: u16) {
        self.incoming.borrow_mut().deaf.push(port);
        self.outgoing.borrow_mut().deaf.push(port);
    }

    /// Sets what goes wrong in both directions.
    pub(crate) fn set_faults(&self, faults: &Faults) {
        let mut other = faults.clone();
        other.random.0 = !other.random.0;
        self.incoming.borrow_mut().faults = Some(faults.clone());
        self.outgoing.borrow_mut().faults = Some(other);
    }
}

/// Creates a wire.
pub(crate) fn wire() -> (End, End) {
    let here = End::default();
    let (incoming, outgoing) = (Rc::clone(&here.outgoing), Rc::clone(&here.incoming));
    let there = End { incoming, outgoing, ..End::default() };
    (here, there)
}

pub(crate) struct Frame(Vec<u8>);
pub(crate) struct Answer(Rc<RefCell<Lane>>, time::Instant);

impl Device for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Answer;

    fn receive(&mut self, now: time::Instant) -> Option<(Frame, Answer)> {
        let frame = self.incoming.borrow_mut().receive(now)?;
        Some((Frame(frame), Answer(Rc::clone(&self.outgoing), now)))
    }

    fn transmit(&mut self, now: time::Instant) -> Option<Answer> {
        (!self.busy.get()).then(|| Answer(Rc::clone(&self.outgoing), now))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, consumer: F) -> R {
        consumer(&self.0)
    }
}

impl TxToken for Answer {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, producer: F) -> R {
        let mut frame = vec![0; length];
        let result = producer(&mut frame);
        self.0.borrow_mut().send(self.1, frame);
        result
    }
}

pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];
pub(crate) const CLIENTS: [u8; 4] = [10, 0, 0, 2];

/// Creates the interface of one end.
pub(crate) fn interface(device: &mut impl Device, address: [u8; 4]) -> Interface {
    let hardware = match device.capabilities().medium {
        Medium::Ethernet => EthernetAddress([2, 0, 0, 0, 0, address[3]]).into(),
        #[cfg(feature = "medium-ip")]
        Medium::Ip => HardwareAddress::Ip,
    };
    let mut config = Config::new(hardware);
    config.random_seed = u64::from(address[3]) * 0x1234_5678_9abc;
    let mut interface = Interface::new(config, device, time::Instant::ZERO);
    let [a, b, c, d] = address;
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24)).unwrap();
        #[cfg(feature = "proto-ipv6")]
        addresses.push(IpCidr::new(IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, d.into()), 64)).unwrap();
    });
    interface
}

pub(crate) fn time(now: Instant) -> time::Instant {
    time::Instant::from_millis(i64::try_from(now.as_millis()).unwrap())
}

/// A host of TCP clients.
pub(crate) struct Clients<D> {
    pub(crate) device: D,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    /// The port of the last connect.
    pub(crate) last_port: u16,
}

fn leak<T>(values: Vec<T>) -> &'static mut [T] {
    Box::leak(values.into_boxed_slice())
}

impl<D: Device> Clients<D> {
    pub(crate) fn new(mut device: D, most: usize) -> Self {
        let interface = interface(&mut device, CLIENTS);
        let sockets = SocketSet::new(leak((0..most).map(|_| SocketStorage::EMPTY).collect()));
        Self { device, interface, sockets, last_port: 50_000 }
    }

    /// Creates a socket with buffers of these sizes.
    pub(crate) fn socket(&mut self, receive: usize, send: usize) -> SocketHandle {
        let buffer = |size| tcp::SocketBuffer::new(leak(vec![0; size]));
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        // Without probes, a client whose server has vanished or that smoltcp no longer sends for waits for ever. A probe
        // can damage a stream, see `watch_queue` in the pool; no seed of these tests is one for which it does.
        socket.set_keep_alive(Some(time::Duration::from_secs(1)));
        self.sockets.add(socket)
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, handle: SocketHandle, port: u16) {
        let [a, b, c, d] = SERVER;
        self.connect_to(handle, IpAddress::v4(a, b, c, d), port);
    }

    /// Begins to connect to an address.
    pub(crate) fn connect_to(&mut self, handle: SocketHandle, to: IpAddress, port: u16) {
        self.last_port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to, port), self.last_port).unwrap();
    }

    pub(crate) fn of(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Receives and sends what is possible. Returns when more is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll(time(now), &mut self.device, &mut self.sockets);
        let at = self.interface.poll_at(time(now), &self.sockets)?;
        Some(Instant::from_millis(u64::try_from(at.total_micros()).unwrap().div_ceil(1_000)))
    }
}

/// Returns everything that a socket has received.
pub(crate) fn received(socket: &mut tcp::Socket<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(bytes) = socket.recv(|bytes| (bytes.len(), bytes.to_vec()))
        && !bytes.is_empty()
    {
        all.extend(bytes);
    }
    all
}

/// Sends all input back, and closes when the peer does.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) closed: Vec<CloseReason>,
    pub(crate) refused: Vec<ErrorKind>,
}

impl Handler for Echo {
    type Data = ();
    type Message = core::convert::Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Self::Message>) {
        self.receive(socket, cx);
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Self::Message>) {
        self.closed.push(reason);
    }

    fn refused(&mut self, _: &mut Socket<'_, ()>, error: ErrorKind, _: &mut Context<'_, Self::Message>) {
        self.refused.push(error);
    }
}

/// Lets both ends run until `until` returns `true`, or nothing more is due. Returns the time.
pub(crate) fn run<H: Handler, const CONNECTS: bool, const BATCH: usize, const ROOM: usize>(
    stack: &mut Stack<'_, H, End, Alone, CONNECTS, BATCH, ROOM>,
    clients: &mut Clients<End>,
    mut now: Instant,
    mut until: impl FnMut(&mut Clients<End>, Instant) -> bool,
) -> Instant {
    for _ in 0..1_000_000 {
        let next = stack.poll(now);
        let other = clients.poll(now);
        if until(clients, now) {
            return now;
        }
        let next = [next, other, clients.device.next()].into_iter().flatten().min();
        let Some(next) = next else { return now };
        now = now.max(next);
    }
    panic!("no end at {now:?}");
}

/// Clients that each send a request, wait for its echo, and close.
pub(crate) struct Answers {
    request: Vec<u8>,
    asking: Vec<(SocketHandle, bool, Vec<u8>)>,
}

impl Answers {
    pub(crate) fn ask(clients: &mut Clients<End>, count: usize, port: u16, request: &[u8]) -> Self {
        let [a, b, c, d] = SERVER;
        Self::ask_at(clients, count, IpAddress::v4(a, b, c, d), port, request)
    }

    pub(crate) fn ask_at(
        clients: &mut Clients<End>,
        count: usize,
        to: IpAddress,
        port: u16,
        request: &[u8],
    ) -> Self {
        let asking = (0..count).map(|_| {
            let handle = clients.socket(1024, 1024);
            clients.connect_to(handle, to, port);
            (handle, false, Vec::new())
        });
        Self { asking: asking.collect(), request: request.to_vec() }
    }

    /// Lets each client take its next step.
    pub(crate) fn look(&mut self, clients: &mut Clients<End>, _: Instant) {
        for (handle, asked, answer) in &mut self.asking {
            let socket = clients.of(*handle);
            if socket.can_send() && !*asked {
                *asked = true;
                socket.send_slice(&self.request).unwrap();
            }
            answer.extend(received(socket));
            if *answer == self.request {
                socket.close();
            }
        }
    }

    /// Returns how many have their answer.
    pub(crate) fn count(&self) -> usize {
        self.asking.iter().filter(|(.., answer)| *answer == self.request).count()
    }
}
