//! The layer over HTTP: from an upgraded connection to calls of a handler.

use core::fmt;
use core::ops::Range;
use core::time::Duration;

use lightcone_http::{Body, Exchange, Flow, Full, Method, Reply, Request, Response, State, Status, Transfer};

use crate::channel::{Channel, Link, Message, Payload, Phase};
use crate::codec::close::{CloseCode, parse_close};
use crate::codec::handshake::{HandshakeError, check_handshake};
use crate::codec::header::{Opcode, Role};
use crate::codec::receiver::{Incoming, MessageKind, MessageLimits, Receiver};
use crate::codec::violation::Violation;

/// The limits and times of the connections of one [`WebSocket`]. Set some and take the others from
/// [`DEFAULT`](Self::DEFAULT): later versions add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    /// What a peer may send.
    pub limits: MessageLimits,
    /// How long a peer may be silent before it is sent a ping. It is sent after at least this time and at most twice as
    /// long. The connection also ends if a frame or a message has begun and no whole piece of it arrives in time: after
    /// at least the shorter of this time and [`pong`](Self::pong), and at most twice this time. `None` for neither: a peer that has vanished is then noticed only
    /// when something is sent to it, and one that never ends a message keeps the input that this occupies.
    pub ping: Option<Duration>,
    /// How long a peer may take to send anything after a ping. After that, the connection ends.
    pub pong: Duration,
    /// How long a peer may take to respond to a close frame.
    pub close: Duration,
}

impl WebSocketConfig {
    /// The default [limits](MessageLimits::DEFAULT), pings after 30 seconds, 20 seconds for a response to them and 5
    /// seconds to close.
    pub const DEFAULT: Self = Self {
        limits: MessageLimits::DEFAULT,
        ping: Some(Duration::from_secs(30)),
        pong: Duration::from_secs(20),
        close: Duration::from_secs(5),
    };
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending<'e> {
    /// The peer has sent a close frame, first or in response to that of the server.
    Closed {
        /// The code, if there was one.
        code: Option<CloseCode>,
        /// The reason, which may be empty.
        reason: &'e str,
    },
    /// The peer has violated the protocol or a limit.
    Failed(Violation),
    /// The connection has ended without a close frame of the peer: because the peer has ended its stream or reset the
    /// connection, because it has not responded to a ping or a close frame in time, or because of a timeout or the stop
    /// of the server.
    Lost,
}

/// The callbacks for one WebSocket connection. The value is kept in the connection.
///
/// ```text
/// open  ( receive | message | writable | shutdown )*  closed
/// ```
///
/// Pings are answered, and peers that have vanished are noticed, without a callback.
///
/// ```
/// use lightcone_http::{Full, Http, State};
/// use lightcone_websocket::{Channel, Message, WebSocket, upgrade};
///
/// /// Sends messages back.
/// struct Echo;
///
/// impl<S: State> WebSocket<S> for Echo {
///     fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
///         channel.send_fragment(message.kind(), message.is_first(), message.is_last(), message.bytes())
///     }
/// }
///
/// let server = Http::new().get("/echo", |request, response| upgrade(&request, response, Echo));
/// # drop(server);
/// ```
///
/// To send to a connection from elsewhere, such as another thread, post a message to its [identity](Channel::id). To
/// send to many, [subscribe](Channel::subscribe) them to a topic. This is a chat room:
///
/// ```
/// use std::sync::Arc;
///
/// use lightcone_http::{Backlog, Full, LagPolicy, State, Topic};
/// use lightcone_websocket::{Channel, Message, WebSocket};
///
/// const ROOM: Topic = Topic(1);
///
/// struct App;
///
/// impl State for App {
///     type Message = Arc<str>; // a copy is a pointer
/// }
///
/// /// A participant. Up to 16 texts wait for a slow one.
/// struct Participant(Backlog<Arc<str>, 16>);
///
/// impl Participant {
///     fn new() -> Self {
///         Self(Backlog::new(LagPolicy::Disconnect))
///     }
/// }
///
/// impl WebSocket<App> for Participant {
///     fn open(&mut self, channel: &mut Channel<'_, App>) {
///         if channel.subscribe(ROOM).is_err() {
///             channel.abort();
///         }
///     }
///
///     fn receive(&mut self, text: Message<'_>, channel: &mut Channel<'_, App>) -> Result<(), Full> {
///         let _ = channel.publish(ROOM, text.to_string().into()); // lost if a mailbox is full
///         Ok(())
///     }
///
///     fn message(&mut self, text: Arc<str>, channel: &mut Channel<'_, App>) {
///         match self.0.push(text, channel) {
///             Ok(()) => self.writable(channel),
///             Err(_too_slow) => channel.abort(),
///         }
///     }
///
///     fn writable(&mut self, channel: &mut Channel<'_, App>) {
///         self.0.drain(|text| channel.send_text(text));
///     }
/// }
/// # let _ = Participant::new();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle a WebSocket connection",
    label = "not a `WebSocket<{S}>`"
)]
pub trait WebSocket<S: State> {
    /// The limits and times.
    const CONFIG: WebSocketConfig = WebSocketConfig::DEFAULT;

    /// Called when the connection is open.
    fn open(&mut self, channel: &mut Channel<'_, S>) {
        let _ = channel;
    }

    /// Handles a message, or a piece of one that is longer than a [piece](MessageLimits::piece), than half of the input
    /// buffer, or than [can be sent at once](Channel::output_limit).
    ///
    /// # Errors
    /// With [`Full`], the message stays in the input and the peer has to wait. The handler is called with it again when
    /// there is room. So a handler that responds to each message ends with the result of sending the response.
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full>;

    /// Handles a message that was posted to this connection, see [`RequestId`](lightcone_http::RequestId), or to all.
    /// It is called whether there is room or not.
    fn message(&mut self, message: S::Message, channel: &mut Channel<'_, S>) {
        let _ = (message, channel);
    }

    /// Called after something could not be sent, when there may be room again.
    fn writable(&mut self, channel: &mut Channel<'_, S>) {
        let _ = channel;
    }

    /// Called when the server shuts down. The default begins to close the connection. If a handler does not, the
    /// connection is lost at the end of the grace time.
    ///
    /// # Errors
    /// With [`Full`], it is called again when there is room.
    fn shutdown(&mut self, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        channel.close(CloseCode::GOING_AWAY, "")
    }

    /// Called exactly once, as the last callback. Nothing can be sent.
    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, S>) {
        let _ = (ending, channel);
    }
}

/// Opens a WebSocket connection, as the response of a route for `GET`; or refuses a request that does not ask for one,
/// with 426, or is malformed, with 400.
///
/// Browsers let any page connect to any server, with the cookies of that server. Where this matters, a route compares
/// the field `Origin` first. To choose a subprotocol, add `Sec-WebSocket-Protocol` to the response, with one of those
/// that the request offers in the field of that name.
///
/// ```
/// # use lightcone_http::{Full, Http, State};
/// # use lightcone_websocket::{Channel, Message, WebSocket, upgrade};
/// # struct Chat;
/// # impl<S: State> WebSocket<S> for Chat {
/// #     fn receive(&mut self, _: Message<'_>, _: &mut Channel<'_, S>) -> Result<(), Full> { Ok(()) }
/// # }
/// let server = Http::new().get("/chat", |request, response| match request.header("origin") {
///     None | Some("https://chat.example") => upgrade(&request, response, Chat),
///     Some(_) => response.refuse(403).into_any(),
/// });
/// # drop(server);
/// ```
pub fn upgrade<S: State, H: WebSocket<S>>(
    request: &Request<'_, S>,
    response: Response<'_>,
    handler: H,
) -> Reply<WebSocketExchange<H>> {
    let bodiless = matches!(request.head.framing.body, Body::None | Body::Length(0));
    if !bodiless || request.head.method != Method::Get {
        return response.refuse(Status::BAD_REQUEST).into_any();
    }
    match check_handshake(request.head.fields()) {
        Ok(accept) => response
            .header("Sec-WebSocket-Accept", accept)
            .upgrade("websocket", WebSocketExchange { receiver: Receiver::new(), link: Link::NEW, handler }),
        Err(error @ HandshakeError::Malformed) => {
            response.status(Status::BAD_REQUEST).display(format_args!("{error}\n")).into_any()
        }
        Err(error) => response
            .status(Status::UPGRADE_REQUIRED)
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .display(format_args!("{error}\n"))
            .into_any(),
    }
}

/// The exchange of a WebSocket connection, which [`upgrade`] creates.
pub struct WebSocketExchange<H> {
    receiver: Receiver,
    link: Link,
    handler: H,
}

impl<H> fmt::Debug for WebSocketExchange<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receiver, link, .. } = self;
        f.debug_struct("WebSocketExchange")
            .field("receiver", receiver)
            .field("link", link)
            .finish_non_exhaustive()
    }
}

impl<H> WebSocketExchange<H> {
    /// Returns the handler, the received bytes and the channel.
    fn parts<'c, S: State>(
        &'c mut self,
        io: &'c mut Transfer<'_, S>,
    ) -> (&'c mut H, &'c mut [u8], Channel<'c, S>)
    where
        H: WebSocket<S>,
    {
        let (bytes, io) = io.split();
        (&mut self.handler, bytes, Channel { io, link: &mut self.link, close_time: H::CONFIG.close })
    }

    /// Notifies the handler of the end.
    fn end<S: State>(&mut self, ending: Ending<'_>, io: &mut Transfer<'_, S>) -> Flow
    where
        H: WebSocket<S>,
    {
        self.link.phase = Phase::Ended;
        let (handler, _, mut channel) = self.parts(io);
        handler.closed(ending, &mut channel);
        match ending {
            Ending::Lost => Flow::Abort,
            Ending::Closed { .. } | Ending::Failed(_) => Flow::Done,
        }
    }

    /// Ends a connection whose peer has violated the protocol.
    fn fail<S: State>(&mut self, violation: Violation, io: &mut Transfer<'_, S>) -> Flow
    where
        H: WebSocket<S>,
    {
        let (_, _, mut channel) = self.parts(io);
        // Without room the connection ends without a close frame, which the standard allows.
        let _ = channel.close(violation.code(), violation.as_str());
        self.end(Ending::Failed(violation), io)
    }

    /// Delivers what was received. Returns whether it was accepted.
    fn deliver<S: State>(
        &mut self,
        received: &Incoming,
        payload: &Range<usize>,
        io: &mut Transfer<'_, S>,
    ) -> Result<bool, Violation>
    where
        H: WebSocket<S>,
    {
        let open = self.link.phase == Phase::Open;
        let (handler, bytes, mut channel) = self.parts(io);
        let bytes = bytes.get(payload.clone()).unwrap_or_default();
        let result = match *received {
            Incoming::Data { kind, first, last } if open => {
                let payload = match kind {
                    MessageKind::Text => {
                        Payload::Text(core::str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)?)
                    }
                    MessageKind::Binary => Payload::Binary(bytes),
                };
                handler.receive(Message { payload, first, last }, &mut channel)
            }
            Incoming::Ping if open => channel.send_frame(Opcode::Pong, true, bytes),
            // After a close frame nothing is sent any more, and what is received has no meaning.
            Incoming::Data { .. } | Incoming::Ping | Incoming::Pong => Ok(()),
            Incoming::Close => {
                let (code, reason) = parse_close(bytes)?;
                // The response has the same code. Without room the peer's close frame waits.
                let code_bytes = bytes.get(..2).unwrap_or_default();
                if open && channel.send_frame(Opcode::Close, true, code_bytes).is_err() {
                    return Ok(false);
                }
                channel.link.phase = Phase::Ended;
                handler.closed(Ending::Closed { code, reason }, &mut channel);
                Ok(())
            }
        };
        Ok(result.is_ok())
    }

    /// Lets the handler announce the stop of the server, or try it again.
    fn announce_stop<S: State>(&mut self, io: &mut Transfer<'_, S>)
    where
        H: WebSocket<S>,
    {
        if self.link.phase == Phase::Open {
            let (handler, _, mut channel) = self.parts(io);
            let refused = handler.shutdown(&mut channel).is_err();
            self.link.set(Link::STOPPING, refused);
        }
    }

    /// Keeps what was just refused from being tried again before there is room.
    fn note_refusal(&mut self) {
        self.link.set(Link::FRESH, self.link.has(Link::REFUSED) || self.link.has(Link::STOPPING));
    }

    /// Ends the connection if the handler has aborted it.
    fn go_on<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Flow
    where
        H: WebSocket<S>,
    {
        if self.link.phase == Phase::Aborting { self.end(Ending::Lost, io) } else { Flow::More }
    }

    /// Receives all frames that have arrived.
    fn receive<S: State>(&mut self, io: &mut Transfer<'_, S>) -> Result<(), Violation>
    where
        H: WebSocket<S>,
    {
        self.link.set(Link::BLOCKED, false);
        let capacity = io.capacity();
        let mut limits = H::CONFIG.limits;
        // A handler can send each piece back at once. Nothing can be sent any more if the limit is 0.
        let (_, _, channel) = self.parts(io);
        if let most @ 1.. = channel.output_limit() {
            limits.piece = limits.piece.min(u32::try_from(most).unwrap_or(u32::MAX));
        }
        while !matches!(self.link.phase, Phase::Ended | Phase::Aborting) {
            let before = self.receiver;
            let (bytes, _) = io.split();
            let step = self.receiver.next(bytes, capacity, Role::Server, &limits)?;
            io.consume(step.consumed);
            if step.consumed > 0 || self.receiver != before {
                self.link.set(Link::HEARD, true);
            }
            let Some((received, payload)) = step.received else { break };
            if !self.deliver(&received, &payload, io)? {
                self.link.set(Link::BLOCKED, true);
                break;
            }
            // a control frame that has ended, outside of a message, is not what was awaited at the last timer
            if matches!(received, Incoming::Data { .. }) || !self.receiver.is_within_message() {
                self.link.set(Link::WAITS, false);
            }
            let consumed = self.receiver.accept(&received, &payload);
            io.consume(consumed);
        }
        Ok(())
    }
}

impl<S: State, H: WebSocket<S>> Exchange<S> for WebSocketExchange<H> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        if self.link.phase == Phase::Opening {
            self.link.phase = Phase::Open;
            if let Some(ping) = H::CONFIG.ping {
                io.wake_at(io.now() + ping);
            }
            let (handler, _, mut channel) = self.parts(io);
            handler.open(&mut channel);
        }
        let retries = !self.link.has(Link::FRESH);
        self.link.set(Link::FRESH, false);
        if retries && self.link.has(Link::STOPPING) {
            self.announce_stop(io);
        }
        if retries && self.link.has(Link::REFUSED) && self.link.phase == Phase::Open {
            self.link.set(Link::REFUSED, false);
            let (handler, _, mut channel) = self.parts(io);
            handler.writable(&mut channel);
        }
        if let Err(violation) = self.receive(io) {
            return self.fail(violation, io);
        }
        match self.link.phase {
            Phase::Ended => Flow::Done,
            Phase::Aborting => self.end(Ending::Lost, io),
            _ if self.link.has(Link::PEER_CLOSED) && !self.link.has(Link::BLOCKED) => {
                self.end(Ending::Lost, io)
            }
            Phase::Opening | Phase::Open | Phase::Closing => Flow::More,
        }
    }

    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        if self.link.phase == Phase::Open {
            let (handler, _, mut channel) = self.parts(io);
            handler.message(message, &mut channel);
        }
        self.note_refusal();
        self.go_on(io)
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        self.announce_stop(io);
        self.note_refusal();
        self.go_on(io)
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        // What has arrived before was received already, except for what waits for room.
        if self.link.has(Link::BLOCKED) {
            self.link.set(Link::PEER_CLOSED, true);
            return Flow::More;
        }
        self.end(Ending::Lost, io)
    }

    fn wake(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let WebSocketConfig { ping: Some(silence), pong, .. } = H::CONFIG else {
            return self.end(Ending::Lost, io); // the only other timer is that of the close
        };
        if self.link.phase != Phase::Open {
            return self.end(Ending::Lost, io);
        }
        // While there is no room, the peer is not heard because it is not read.
        let alive = [Link::HEARD, Link::BLOCKED, Link::REFUSED].iter().any(|flag| self.link.has(*flag));
        if self.link.has(Link::PINGED) && !alive {
            return self.end(Ending::Lost, io);
        }
        // A frame that never ends would occupy a block of input for as long as its peer likes.
        let waits = !io.body().is_empty() && !self.link.has(Link::BLOCKED) && !self.link.has(Link::REFUSED);
        if waits && self.link.has(Link::WAITS) {
            return self.end(Ending::Lost, io);
        }
        self.link.set(Link::WAITS, waits);
        let (_, _, mut channel) = self.parts(io);
        let pings = !alive && channel.send_frame(Opcode::Ping, true, b"").is_ok();
        self.link.set(Link::PINGED, pings);
        self.link.set(Link::HEARD, false);
        io.wake_at(io.now() + if pings { pong } else { silence });
        self.note_refusal();
        Flow::More
    }

    fn disconnected(&mut self, io: &mut Transfer<'_, S>) {
        let _ = self.end(Ending::Lost, io);
    }
}

// A connection with this layer has at most 24 bytes more than one without.
const _: () = assert!(size_of::<Option<WebSocketExchange<()>>>() <= 24);
