//! The PROXY protocol, by which a proxy in front of a server passes on the addresses of its client.
//!
//! A proxy that forwards the bytes of a connection hides its client: the server sees the address of the proxy.
//! With the [PROXY protocol](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), the proxy sends a header
//! with the addresses of the client's connection first: a line of text (version 1) or a binary header (version 2).
//! [`ProxyProtocol`] is a handler that takes the header off and wraps the handler of the protocol that follows;
//! [`parse`] reads a header alone.

mod header;

use core::fmt;
use core::time::Duration;

use crate::address::{Address, PackedAddress};
use crate::address_prefix::AddressPrefix;
use crate::error::{CloseReason, ConnectError, Rejected, RoomError};
use crate::handler::{Context, Event, Handler, Origin, Outbox, PollerEvent};
use crate::shard::STOP_LINGER;
use crate::slot::Flags;
use crate::socket::{Socket, Stream};
use crate::time::Instant;
use crate::timers::{TimerError, TimerId};
use crate::token::{ListenerId, PollerId, Token};
use crate::topic::{Lag, SubscribeError, Topic, Unpublished};

pub use header::{Header, HeaderError, LINE_MAX, parse};

/// What happens to the connections of peers that are not trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Untrusted {
    /// They are turned away.
    #[default]
    Refuse,
    /// They reach the wrapped handler as they are. A header that they send is not one to the wrapped handler.
    Pass,
}

/// Why a connection was turned away.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer is not trusted.
    Untrusted,
    /// What the peer has sent is not a header.
    Header(HeaderError),
    /// The header was not complete in time.
    Late,
    /// The peer has ended its stream before the end of the header.
    Ended,
    /// The connection has ended before the end of the header: by the peer's reset, a timeout of the engine, or its
    /// stop.
    Lost(CloseReason),
    /// The wrapped handler has turned the original peer away.
    Handler,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => f.write_str("the peer is not trusted to send a header of the PROXY protocol"),
            Self::Header(error) => write!(f, "PROXY protocol: {error}"),
            Self::Late => f.write_str("PROXY protocol: the header was not complete in time"),
            Self::Ended => f.write_str("PROXY protocol: the stream has ended before the end of the header"),
            Self::Lost(reason) => {
                write!(f, "PROXY protocol: the connection has ended before the end of the header: {reason}")
            }
            Self::Handler => f.write_str("the handler has turned the original peer away"),
        }
    }
}

/// A handler that takes the header of the PROXY protocol off each accepted connection, and wraps the handler of the
/// protocol that follows it.
///
/// The wrapped handler sees a connection only once its header is complete: then `admit` is called with the original
/// address, and `open` follows. From then on [`Stream::peer`] returns the original address, and
/// [`Context::local_address`] of this socket the address to which the client has connected. So an access log and limits
/// of the peers apply to the client if they are inside of this handler, and to the proxy if they are outside; for
/// example, [`LimitPeers`](crate::LimitPeers) belongs inside. If the header has [no addresses](Header::Direct), those
/// of the connection itself remain. Only the peer address changes: limits of the engine and the balancer see the proxy.
///
/// `T` holds the prefixes of the peers that are trusted to send headers: an array, a slice, a `Vec`. A header is
/// required from them; it is not detected, since otherwise the proxy's clients could send one themselves (section 2 of
/// the specification). Others are [refused](Self::untrusted). Connects of the program have no header.
///
/// | what | limit | at the limit |
/// | --- | --- | --- |
/// | length of a header | [`header_max`](Self::header_max), by default 4,096 bytes, and the [capacity](Stream::capacity) of the input | the connection is reset |
/// | time from `open` to the end of the header | [`header_time`](Self::header_time), by default 5 s | the connection is reset |
///
/// A connection whose header is missing or wrong is reset, and [`on_refusal`](Self::on_refusal) is called; also if the
/// engine ends the connection before, such as by a shorter timeout for the first byte. Messages that arrive before the
/// header, which can only be broadcasts, are dropped. During a shutdown, a header that may be on its way has half a
/// second to arrive. After the header, the client has the timeout for the first byte; on worker threads, that for idle
/// connections.
///
/// ```
/// use lightcone_core::proxy_protocol::ProxyProtocol;
/// use lightcone_core::{Address, AddressPrefix, Context, Handler, Origin, Socket};
///
/// /// Tells its clients their addresses.
/// struct Greeter;
///
/// impl Handler for Greeter {
///     type Data = ();
///     type Message = core::convert::Infallible;
///
///     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
///         Some(())
///     }
///
///     fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Self::Message>) {
///         let line = format!("hello {}\n", socket.peer());
///         let _ = socket.send(line.as_bytes());
///     }
/// }
///
/// let balancers: [AddressPrefix; 1] = ["192.0.2.0/24".parse()?];
/// let handler = ProxyProtocol::new(Greeter, balancers); // use it instead of `Greeter`
/// # drop(handler);
/// # Ok::<(), lightcone_core::PrefixError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ProxyProtocol<H, T> {
    inner: H,
    trusted: T,
    trust_unix: bool,
    untrusted: Untrusted,
    header_max: usize,
    header_time: Duration,
    on_refusal: fn(&Address, Refusal),
}

impl<H, T: AsRef<[AddressPrefix]>> ProxyProtocol<H, T> {
    /// Wraps a handler, and trusts the peers with these prefixes.
    pub const fn new(inner: H, trusted: T) -> Self {
        Self {
            inner,
            trusted,
            trust_unix: false,
            untrusted: Untrusted::Refuse,
            header_max: 4_096,
            header_time: Duration::from_secs(5),
            on_refusal: |_, _| {},
        }
    }

    /// Sets whether peers at a Unix-domain listener are trusted. By default they are not.
    #[must_use]
    pub fn trust_unix(self, trust: bool) -> Self {
        Self { trust_unix: trust, ..self }
    }

    /// Sets what happens to the connections of peers that are not trusted. By default they are refused.
    #[must_use]
    pub fn untrusted(self, untrusted: Untrusted) -> Self {
        Self { untrusted, ..self }
    }

    /// Sets the maximum length of a header in bytes. Less than [`LINE_MAX`] counts as that, and more than the
    /// [capacity](Stream::capacity) of the input as the capacity.
    #[must_use]
    pub fn header_max(self, bytes: usize) -> Self {
        Self { header_max: bytes.max(LINE_MAX), ..self }
    }

    /// Sets the time that a header may take to arrive, from the moment at which the connection is accepted. At least
    /// three seconds cover the retransmission of a packet (section 2 of the specification). More than 12 days count as
    /// 12 days.
    #[must_use]
    pub fn header_time(self, time: Duration) -> Self {
        Self { header_time: time, ..self }
    }

    /// Sets a function that is called for each connection that is turned away, with the address of its peer: the
    /// proxy's, or the original one if the wrapped handler turned that away.
    #[must_use]
    pub fn on_refusal(self, report: fn(&Address, Refusal)) -> Self {
        Self { on_refusal: report, ..self }
    }

    /// Returns the wrapped handler.
    pub const fn inner(&self) -> &H {
        &self.inner
    }

    /// Returns the wrapped handler, to be modified.
    pub const fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }

    fn trusts(&self, peer: &Address) -> bool {
        match peer {
            Address::Inet(peer) => self.trusted.as_ref().iter().any(|prefix| prefix.contains(peer.ip())),
            Address::Unix(_) => self.trust_unix,
        }
    }
}

/// The user data of a socket of [`ProxyProtocol`], with that of the wrapped handler.
#[derive(Debug)]
pub struct ProxiedPeer<D>(Stage<D>);

#[derive(Debug)]
enum Stage<D> {
    /// The header has not arrived yet, and the wrapped handler does not know the socket.
    Header {
        listener: ListenerId,
        /// Whether `shutdown` has come.
        stopping: bool,
    },
    Open {
        inner: D,
        /// The address to which the client has connected.
        destination: Option<PackedAddress>,
    },
    /// The connection was turned away: only `close` follows.
    Refused,
}

/// Passes on everything, and returns the original destination as the local address of the callback's socket.
struct ProxiedOutbox<'a, M> {
    outbox: &'a mut dyn Outbox<M>,
    token: Token,
    destination: Address,
}

impl<M> Outbox<M> for ProxiedOutbox<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.outbox.post(to, message)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.outbox.broadcast(message, clone)
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        self.outbox.connect(to, tag)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        if token == self.token { Some(self.destination) } else { self.outbox.local_address(token) }
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        self.outbox.set_timer(at, tag)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.outbox.cancel_timer(timer)
    }

    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        self.outbox.request_room(at, socket)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.outbox.publish(message)
    }

    fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        self.outbox.subscribe(topic, socket)
    }

    fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        self.outbox.unsubscribe(topic, socket)
    }

    fn unsubscribe_all(&mut self, socket: Token) -> usize {
        self.outbox.unsubscribe_all(socket)
    }

    fn subscribers(&self, topic: Topic) -> usize {
        self.outbox.subscribers(topic)
    }

    fn count_lag(&mut self, lag: Lag) {
        self.outbox.count_lag(lag);
    }
}

/// Passes an event to the wrapped handler.
fn forward<H: Handler>(
    handler: &mut H,
    mut socket: Socket<'_, H::Data>,
    destination: Option<PackedAddress>,
    event: Event<H::Message>,
    cx: &mut Context<'_, H::Message>,
) {
    let Some(destination) = destination else { return handler.event(&mut socket, event, cx) };
    let (now, unix_time, poller, token) = (cx.now(), cx.unix_time(), cx.poller(), socket.token());
    let mut outbox = ProxiedOutbox { outbox: cx.outbox(), token, destination: destination.unpack() };
    handler.event(&mut socket, event, &mut Context::new(now, unix_time, poller, &mut outbox));
}

impl<H: Handler, T: AsRef<[AddressPrefix]>> ProxyProtocol<H, T> {
    /// Handles an event of a socket whose header is not complete.
    #[cold]
    fn before_open(
        &mut self,
        socket: &mut Socket<'_, ProxiedPeer<H::Data>>,
        event: &Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        match event {
            Event::Open => socket.stream.set_deadline(Some(cx.now() + self.header_time)),
            Event::Receive => self.receive_header(socket, cx),
            Event::PeerClosed => self.refuse(socket, Refusal::Ended),
            Event::Timeout => self.refuse(socket, Refusal::Late),
            Event::Shutdown => {
                // As for a connection that is accepted during the shutdown: the header and a request may be on their
                // way. The wrapped handler is notified when it knows the socket.
                if let Stage::Header { stopping, .. } = &mut socket.data.0 {
                    *stopping = true;
                }
                let soon = cx.now() + STOP_LINGER;
                let deadline = socket.stream.deadline().map_or(soon, |deadline| deadline.min(soon));
                socket.stream.set_deadline(Some(deadline));
            }
            Event::Close(reason) => (self.on_refusal)(&socket.stream.peer(), Refusal::Lost(*reason)),
            // Only a broadcast can find a socket whose token no code has. The others do not come before anything was
            // sent.
            Event::Message(_) | Event::Writable | Event::Sent | Event::Room(_) | Event::Refused(_) => {}
        }
    }

    fn refuse(&self, socket: &mut Socket<'_, ProxiedPeer<H::Data>>, refusal: Refusal) {
        (self.on_refusal)(&socket.stream.peer(), refusal);
        socket.data.0 = Stage::Refused;
        socket.stream.abort();
    }

    fn receive_header(
        &mut self,
        socket: &mut Socket<'_, ProxiedPeer<H::Data>>,
        cx: &mut Context<'_, H::Message>,
    ) {
        let Stage::Header { listener, stopping } = socket.data.0 else { return };
        let max = self.header_max.min(socket.stream.capacity());
        let (header, length) = match parse(socket.stream.bytes(), max) {
            Ok(Some(complete)) => complete,
            Ok(None) => {
                // The header has a time limit of its own. Bytes that are not consumed keep a socket from being idle;
                // on worker threads, the poller does not have them.
                socket.stream.set_active(true);
                return;
            }
            Err(error) => return self.refuse(socket, Refusal::Header(error)),
        };
        let stream = &mut socket.stream;
        stream.consume(length);
        stream.set_deadline(None);
        stream.set_active(false);
        let destination = match header {
            Header::Direct => None,
            Header::Forwarded { source, destination } => {
                stream.control.peer = PackedAddress::pack(&source.into());
                Some(PackedAddress::pack(&destination.into()))
            }
        };
        let Some(inner) = self.inner.admit(Origin::Accepted { listener }, &stream.peer()) else {
            return self.refuse(socket, Refusal::Handler);
        };
        let Socket { stream, data } = socket;
        data.0 = Stage::Open { inner, destination };
        let Stage::Open { inner, .. } = &mut data.0 else { return };
        let more = !stream.bytes().is_empty();
        if !more && !stream.peer_closed() {
            // Of what the client sends, nothing has arrived yet: it has the time for a first byte from now on.
            stream.control.flags.set(Flags::SILENT.with(Flags::TIMES));
            stream.control.seen = stream.shared.now.tick();
        }
        // The bytes after the header are new, and are first shown in `receive`.
        let mut consumed = 0;
        let shown = Stream { bytes: &mut [], consumed: &mut consumed, ..stream.reborrow() };
        forward(&mut self.inner, Socket { stream: shown, data: inner }, destination, Event::Open, cx);
        if more && !stream.is_closing() {
            forward(&mut self.inner, stream.with(inner), destination, Event::Receive, cx);
        }
        if stopping && !stream.is_closing() {
            forward(&mut self.inner, stream.with(inner), destination, Event::Shutdown, cx);
        }
    }
}

impl<H: Handler, T: AsRef<[AddressPrefix]>> Handler for ProxyProtocol<H, T> {
    type Data = ProxiedPeer<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        if let Origin::Accepted { listener } = origin {
            if self.trusts(peer) {
                return Some(ProxiedPeer(Stage::Header { listener, stopping: false }));
            }
            if self.untrusted == Untrusted::Refuse {
                (self.on_refusal)(peer, Refusal::Untrusted);
                return None;
            }
        }
        Some(ProxiedPeer(Stage::Open { inner: self.inner.admit(origin, peer)?, destination: None }))
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<H::Message>,
        cx: &mut Context<'_, H::Message>,
    ) {
        match &mut socket.data.0 {
            Stage::Open { inner, destination } => {
                forward(&mut self.inner, socket.stream.with(inner), *destination, event, cx);
            }
            Stage::Header { .. } => self.before_open(socket, &event, cx),
            Stage::Refused => {}
        }
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, H::Message>) {
        self.inner.poller_event(event, cx);
    }
}
