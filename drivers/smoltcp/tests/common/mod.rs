//! A network in memory: a wire, and a host of clients at its other end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::poller::Alone;
use lightcone_core::{Address, CloseReason, Context, Handler, Instant, Origin, Socket};
use lightcone_smoltcp::Stack;
use lightcone_smoltcp::smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use lightcone_smoltcp::smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use lightcone_smoltcp::smoltcp::socket::tcp;
use lightcone_smoltcp::smoltcp::time;
use lightcone_smoltcp::smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// Frames on their way in one direction.
pub type Lane = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire.
#[derive(Clone, Default)]
pub struct End {
    pub incoming: Lane,
    pub outgoing: Lane,
}

/// Creates a wire.
pub fn wire() -> (End, End) {
    let here = End::default();
    let there = End { incoming: Rc::clone(&here.outgoing), outgoing: Rc::clone(&here.incoming) };
    (here, there)
}

pub struct Frame(Vec<u8>);
pub struct Answer(Lane);

impl Device for End {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Answer;

    fn receive(&mut self, _: time::Instant) -> Option<(Frame, Answer)> {
        let frame = self.incoming.borrow_mut().pop_front()?;
        Some((Frame(frame), Answer(Rc::clone(&self.outgoing))))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Answer> {
        Some(Answer(Rc::clone(&self.outgoing)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
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
        self.0.borrow_mut().push_back(frame);
        result
    }
}

pub const SERVER: [u8; 4] = [10, 0, 0, 1];
pub const CLIENTS: [u8; 4] = [10, 0, 0, 2];

/// Creates the interface of one end.
pub fn interface(device: &mut impl Device, address: [u8; 4]) -> Interface {
    let hardware = EthernetAddress([2, 0, 0, 0, 0, address[3]]);
    let mut config = Config::new(hardware.into());
    config.random_seed = u64::from(address[3]) * 0x1234_5678_9abc;
    let mut interface = Interface::new(config, device, time::Instant::ZERO);
    let [a, b, c, d] = address;
    interface
        .update_ip_addrs(|addresses| addresses.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24)).unwrap());
    interface
}

pub fn time(now: Instant) -> time::Instant {
    time::Instant::from_millis(i64::try_from(now.as_millis()).unwrap())
}

/// A host of TCP clients.
pub struct Clients<D> {
    pub device: D,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    next_port: u16,
}

fn leak<T>(values: Vec<T>) -> &'static mut [T] {
    Box::leak(values.into_boxed_slice())
}

impl<D: Device> Clients<D> {
    pub fn new(mut device: D, most: usize) -> Self {
        let interface = interface(&mut device, CLIENTS);
        let sockets = SocketSet::new(leak((0..most).map(|_| SocketStorage::EMPTY).collect()));
        Self { device, interface, sockets, next_port: 50_000 }
    }

    /// Creates a socket with buffers of these sizes.
    pub fn socket(&mut self, receive: usize, send: usize) -> SocketHandle {
        let buffer = |size| tcp::SocketBuffer::new(leak(vec![0; size]));
        self.sockets.add(tcp::Socket::new(buffer(receive), buffer(send)))
    }

    /// Begins to connect.
    pub fn connect(&mut self, handle: SocketHandle, port: u16) {
        let [a, b, c, d] = SERVER;
        self.next_port += 1;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.connect(self.interface.context(), (IpAddress::v4(a, b, c, d), port), self.next_port).unwrap();
    }

    pub fn of(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Receives and sends what is possible. Returns when more is due.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        self.interface.poll(time(now), &mut self.device, &mut self.sockets);
        let at = self.interface.poll_at(time(now), &self.sockets)?;
        Some(Instant::from_millis(u64::try_from(at.total_micros()).unwrap().div_ceil(1_000)))
    }
}

/// Returns everything that a socket has received.
pub fn received(socket: &mut tcp::Socket<'_>) -> Vec<u8> {
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
pub struct Echo(pub Vec<CloseReason>);

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
        self.0.push(reason);
    }
}

/// Lets both ends run until `until` returns `true`, or nothing more is due. Returns the time.
pub fn run<H: Handler, const CONNECTS: bool, const BATCH: usize, const ROOM: usize>(
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
        let idle = clients.device.incoming.borrow().is_empty() && clients.device.outgoing.borrow().is_empty();
        if idle {
            let Some(next) = next.into_iter().chain(other).min() else { return now };
            now = now.max(next);
        }
    }
    panic!("no end at {now:?}");
}

/// Clients that each send a request, wait for its echo, and close.
pub struct Answers {
    request: Vec<u8>,
    asking: Vec<(SocketHandle, bool, Vec<u8>)>,
}

impl Answers {
    pub fn ask(clients: &mut Clients<End>, count: usize, port: u16, request: &[u8]) -> Self {
        let asking = (0..count).map(|_| {
            let handle = clients.socket(1024, 1024);
            clients.connect(handle, port);
            (handle, false, Vec::new())
        });
        Self { asking: asking.collect(), request: request.to_vec() }
    }

    /// Lets each client take its next step.
    pub fn look(&mut self, clients: &mut Clients<End>, _: Instant) {
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
    pub fn count(&self) -> usize {
        self.asking.iter().filter(|(.., answer)| *answer == self.request).count()
    }
}
