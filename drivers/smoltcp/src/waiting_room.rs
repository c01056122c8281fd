//! A wrapper around the device, in which connections wait for a free TCP socket.

use heapless::Vec;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken};
use smoltcp::time::Instant;
#[cfg(feature = "proto-ipv4")]
use smoltcp::wire::Ipv4Packet;
#[cfg(feature = "proto-ipv6")]
use smoltcp::wire::Ipv6Packet;
#[cfg(feature = "medium-ethernet")]
use smoltcp::wire::{EthernetFrame, EthernetProtocol};
use smoltcp::wire::{IpAddress, IpEndpoint, IpProtocol, TcpPacket};

/// The longest frame that is kept: Ethernet, IP, and TCP with 24 bytes of options, which is what systems send.
const FRAME_MAX: usize = if cfg!(feature = "proto-ipv6") { 14 + 40 + 44 } else { 14 + 20 + 44 };

/// A frame that begins a connection.
#[derive(Debug, Clone)]
pub(crate) struct Syn {
    /// The low half of the time in milliseconds.
    arrived: u32,
    frame: Vec<u8, FRAME_MAX, u8>,
}

/// A device that hands out the frames of another, except those that begin a connection. It keeps these and plays them
/// (hands them out) one by one, each after a TCP socket was made to listen for it. smoltcp would answer such a frame
/// with a reset when no socket listens.
///
/// Without a free place, the frame is dropped, and the peer's system sends it again a second later.
#[derive(Debug)]
pub(crate) struct WaitingRoom<D, const ROOM: usize> {
    pub(crate) device: D,
    parked: Parked<ROOM>,
    /// The index of the frame that is handed out next.
    next: Option<usize>,
}

/// The frames that wait.
#[derive(Debug)]
pub(crate) struct Parked<const ROOM: usize> {
    syns: Vec<Syn, ROOM>,
    now: u32,
    medium: Medium,
}

impl<const ROOM: usize> Parked<ROOM> {
    /// Keeps a frame if it begins a connection. Returns whether it begins one, even if there was no place for it.
    fn takes(&mut self, frame: &[u8]) -> bool {
        let Some((frame, ends)) = begin_of_connection(frame, self.medium) else { return false };
        let Ok(frame) = Vec::from_slice(frame) else { return true };
        let medium = self.medium;
        let has_same_ends = |syn: &&mut Syn| {
            begin_of_connection(&syn.frame, medium).is_some_and(|(_, others)| others == ends)
        };
        if let Some(syn) = self.syns.iter_mut().find(has_same_ends) {
            // sent again, or another connection from the same port
            (syn.arrived, syn.frame) = (self.now, frame);
        } else {
            let _ = self.syns.push(Syn { arrived: self.now, frame });
        }
        true
    }
}

impl<D: Device, const ROOM: usize> WaitingRoom<D, ROOM> {
    pub(crate) fn new(device: D) -> Self {
        const { assert!(ROOM > 0, "without a place, no connection can be accepted") };
        let medium = device.capabilities().medium;
        Self { device, parked: Parked { syns: Vec::new(), now: 0, medium }, next: None }
    }

    /// Returns whether no frame waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.parked.syns.is_empty()
    }

    /// Returns the ends of the connection that a frame begins, and how many milliseconds the frame has waited. The
    /// frames are in the order of their arrival.
    pub(crate) fn waiting(&self, index: usize) -> Option<(Ends, u32)> {
        let syn = self.parked.syns.get(index)?;
        let (_, ends) = begin_of_connection(&syn.frame, self.parked.medium)?;
        Some((ends, self.parked.now.wrapping_sub(syn.arrived)))
    }

    /// Removes a frame that waits.
    pub(crate) fn remove(&mut self, index: usize) {
        if index < self.parked.syns.len() {
            self.parked.syns.remove(index);
        }
    }

    /// Hands out a frame that waits as the next frame.
    pub(crate) fn play(&mut self, index: usize) {
        self.next = Some(index);
    }

    /// Returns whether a frame was to be played and the device was too busy for an answer to it.
    pub(crate) fn is_playing(&self) -> bool {
        self.next.is_some()
    }
}

impl<D: Device, const ROOM: usize> Device for WaitingRoom<D, ROOM> {
    type RxToken<'a>
        = RoomToken<'a, D::RxToken<'a>, ROOM>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.parked.now = u32::try_from(now.total_millis() & i64::from(u32::MAX)).unwrap_or_default();
        if let Some(index) = self.next.filter(|index| *index < self.parked.syns.len()) {
            let answer = self.device.transmit(now)?;
            self.next = None;
            return Some((RoomToken::Played(self.parked.syns.remove(index)), answer));
        }
        let (frame, answer) = self.device.receive(now)?;
        Some((RoomToken::Received(frame, &mut self.parked), answer))
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        self.device.transmit(now)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}

/// A frame of the device, or one that has waited.
pub(crate) enum RoomToken<'a, R, const ROOM: usize> {
    Received(R, &'a mut Parked<ROOM>),
    Played(Syn),
}

impl<R: RxToken, const ROOM: usize> RxToken for RoomToken<'_, R, ROOM> {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, consumer: F) -> T {
        match self {
            // an empty frame has no effect
            Self::Received(token, parked) => {
                token.consume(|frame| consumer(if parked.takes(frame) { &[] } else { frame }))
            }
            Self::Played(syn) => consumer(&syn.frame),
        }
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ends {
    pub(crate) local: IpEndpoint,
    pub(crate) remote: IpEndpoint,
}

/// Returns a frame without padding, and the ends of the connection that it begins. `None` if it begins none.
fn begin_of_connection(frame: &[u8], medium: Medium) -> Option<(&[u8], Ends)> {
    // the length of what comes before the IP packet
    let header = match medium {
        #[cfg(feature = "medium-ethernet")]
        Medium::Ethernet => match EthernetFrame::new_checked(frame).ok()?.ethertype() {
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => EthernetFrame::<&[u8]>::header_len(),
            EthernetProtocol::Arp | EthernetProtocol::Unknown(_) => return None,
        },
        #[cfg(feature = "medium-ip")]
        Medium::Ip => 0,
        // a medium that the program has enabled in smoltcp alone
        #[allow(
            unreachable_patterns,
            reason = "smoltcp has as many media as are enabled anywhere in the program"
        )]
        _ => return None,
    };
    let packet = frame.get(header..)?;
    let (from, to, tcp, length) = ip_payload(packet)?;
    let tcp = TcpPacket::new_checked(tcp).ok()?;
    if !tcp.syn() || tcp.ack() || tcp.rst() || tcp.fin() {
        return None;
    }
    let (local, remote) = (IpEndpoint::new(to, tcp.dst_port()), IpEndpoint::new(from, tcp.src_port()));
    Some((frame.get(..header + length)?, Ends { local, remote }))
}

/// Returns the addresses of an IP packet of TCP, its payload, and its length.
fn ip_payload(packet: &[u8]) -> Option<(IpAddress, IpAddress, &[u8], usize)> {
    match packet.first()? >> 4 {
        #[cfg(feature = "proto-ipv4")]
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            // no peer divides the frame that begins a connection into fragments
            let whole = ip.next_header() == IpProtocol::Tcp && ip.frag_offset() == 0 && !ip.more_frags();
            let length = usize::from(ip.total_len());
            let payload = packet.get(usize::from(ip.header_len())..length)?;
            whole.then_some((ip.src_addr().into(), ip.dst_addr().into(), payload, length))
        }
        #[cfg(feature = "proto-ipv6")]
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let length = ip.total_len();
            let payload = packet.get(ip.header_len()..length)?;
            let whole = ip.next_header() == IpProtocol::Tcp;
            whole.then_some((ip.src_addr().into(), ip.dst_addr().into(), payload, length))
        }
        _ => None,
    }
}
