//! One connection, on either side of it: from received bytes to calls of a handler.

use core::fmt;
use core::ops::Range;
use core::time::Duration;

use lightcone_http::{Full, State};

use crate::channel::{Carrier, Channel, Link, Message, Payload, Phase};
use crate::codec::close::{CloseCode, parse_close};
use crate::codec::header::{Opcode, Role};
use crate::codec::receiver::{Incoming, MessageKind, MessageLimits, Receiver};
use crate::codec::violation::Violation;

/// The limits and times of the connections of one [`WebSocket`]. Set some and take the others from
/// [`DEFAULT`](Self::DEFAULT): later versions add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WebSocketConfig {
    /// What a peer may send.
    pub limits: MessageLimits,
    /// How long a peer may be silent before it is sent a ping. It is sent after at least this time and at most twice as
    /// long. The connection also ends if a frame or a message has begun and no whole piece of it arrives in time: after
    /// at least the shorter of this time and [`pong`](Self::pong), and at most twice this time. `None` for neither: a
    /// peer that has vanished is then noticed only when something is sent to it, and one that never ends a message
    /// keeps the input that this occupies.
    pub ping: Option<Duration>,
    /// How long a peer may take to send anything after a ping. After that, the connection ends.
    pub pong: Duration,
    /// How long a peer may take to respond to a close frame. After both close frames, a server also has this time to
    /// end the connection; then the client ends it (RFC 6455, 7.1.1).
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending<'e> {
    /// The peer has sent a close frame, first or in response.
    Closed {
        /// The code, if there was one.
        code: Option<CloseCode>,
        /// The reason, which may be empty.
        reason: &'e str,
    },
    /// The peer has violated the protocol or a limit.
    Failed(Violation),
    /// The connection has ended without a close frame of the peer: because the peer has ended its stream or reset the
    /// connection, because it has not responded to a ping or a close frame in time, because the handler has
    /// [aborted](Channel::abort) it, or because of a timeout or a stop of the poller.
    Lost,
}

/// The callbacks for one WebSocket connection, on either side: [`upgrade`](crate::upgrade) opens it in a server, a
/// [`WebSocketClient`](crate::WebSocketClient) in a client. The value is kept in the connection.
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
///         channel.send_fragment(message.kind(), message.fragment(), message.bytes())
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
    /// there is room. So a handler that responds to each message ends with the result of sending the response. If that
    /// is longer than [`output_limit`](Channel::output_limit), there is never room, and the connection is
    /// [aborted](Channel::abort).
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

    /// Called when the poller shuts down. The default begins to close the connection. If a handler does not, the
    /// connection is lost at the end of the grace time.
    ///
    /// # Errors
    /// With [`Full`], it is called again when there is room.
    fn shutdown(&mut self, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        channel.close(CloseCode::GOING_AWAY, "")
    }

    /// Called exactly once, as the last callback. Nothing can be sent. After a panic of a callback, a server resets the
    /// connection without this call.
    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, S>) {
        let _ = (ending, channel);
    }
}

/// What a session receives from and sends to: the exchange of a server, or the socket of a client.
pub(crate) trait SessionIo {
    /// The side of the connection.
    const ROLE: Role;
    /// The state that its handlers share.
    type State: State;

    /// Returns the bytes that have arrived and were not consumed, to be changed in place, and beside them what carries
    /// the frames that are sent.
    fn split(&mut self) -> (&mut [u8], Carrier<'_, Self::State>);

    /// Removes the first `n` of these bytes.
    fn consume(&mut self, n: usize);

    /// Returns the maximum number of bytes that can wait to be consumed.
    fn capacity(&self) -> usize;
}

/// What a session has come to, after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum SessionOutcome {
    /// It goes on.
    More,
    /// Both sides have sent a close frame.
    Closed,
    /// The peer has violated the protocol. A close frame was sent if there was room.
    Failed,
    /// The peer has ended its stream without a close frame. It may still read what is queued.
    Left,
    /// The handler has aborted it, or the peer has not responded in time.
    Lost,
}

/// The state of a connection after its handshake, with its handler.
pub(crate) struct Session<H> {
    receiver: Receiver,
    link: Link,
    handler: H,
}

impl<H> fmt::Debug for Session<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receiver, link, .. } = self;
        f.debug_struct("Session").field("receiver", receiver).field("link", link).finish_non_exhaustive()
    }
}

impl<H> Session<H> {
    pub(crate) const fn new(handler: H) -> Self {
        Self { receiver: Receiver::new(), link: Link::NEW, handler }
    }

    /// Returns the handler, the received bytes and the channel.
    fn parts<'c, I: SessionIo>(
        &'c mut self,
        io: &'c mut I,
    ) -> (&'c mut H, &'c mut [u8], Channel<'c, I::State>)
    where
        H: WebSocket<I::State>,
    {
        let (bytes, io) = io.split();
        (
            &mut self.handler,
            bytes,
            Channel { io, link: &mut self.link, close_time: H::CONFIG.close, too_long: false },
        )
    }

    /// Notifies the handler of the end.
    fn end<I: SessionIo>(&mut self, ending: Ending<'_>, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        self.link.phase = Phase::Ended;
        let (handler, _, mut channel) = self.parts(io);
        handler.closed(ending, &mut channel);
        match ending {
            Ending::Lost => SessionOutcome::Lost,
            Ending::Failed(_) => SessionOutcome::Failed,
            Ending::Closed { .. } => SessionOutcome::Closed,
        }
    }

    /// Ends a connection whose peer has ended its stream.
    fn end_left<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        let _ = self.end(Ending::Lost, io);
        SessionOutcome::Left
    }

    /// Ends a connection whose peer has violated the protocol.
    fn fail<I: SessionIo>(&mut self, violation: Violation, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        let (_, _, mut channel) = self.parts(io);
        // Without room the connection ends without a close frame, which the standard allows.
        let _ = channel.close(violation.code(), violation.as_str());
        self.end(Ending::Failed(violation), io)
    }

    /// Delivers what was received. Returns whether it was accepted.
    fn deliver<I: SessionIo>(
        &mut self,
        received: &Incoming,
        payload: &Range<usize>,
        io: &mut I,
    ) -> Result<bool, Violation>
    where
        H: WebSocket<I::State>,
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
                let result = handler.receive(Message { payload, first, last }, &mut channel);
                if result.is_err() && channel.too_long {
                    channel.abort(); // otherwise the message would wait for room that never comes
                }
                result
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

    /// Lets the handler announce the stop of the poller, or try it again.
    fn announce_stop<I: SessionIo>(&mut self, io: &mut I)
    where
        H: WebSocket<I::State>,
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
    fn go_on<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        if self.link.phase == Phase::Aborting { self.end(Ending::Lost, io) } else { SessionOutcome::More }
    }

    /// Receives all frames that have arrived.
    fn receive<I: SessionIo>(&mut self, io: &mut I) -> Result<(), Violation>
    where
        H: WebSocket<I::State>,
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
            let step = self.receiver.next(bytes, capacity, I::ROLE, &limits)?;
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

    /// Handles new input and new room: does what it can. Called again after each other event.
    pub(crate) fn advance<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        if self.link.phase == Phase::Opening {
            self.link.phase = Phase::Open;
            let (handler, _, mut channel) = self.parts(io);
            if let Some(ping) = H::CONFIG.ping {
                channel.wake_in(ping);
            }
            handler.open(&mut channel);
        }
        let retries = !self.link.has(Link::FRESH);
        self.link.set(Link::FRESH, false);
        if retries && self.link.has(Link::STOPPING) {
            self.announce_stop(io);
        }
        // What the peer waits for goes first, such as the answer to its ping: a handler that fills all room that there
        // is would leave none for it.
        if retries
            && self.link.has(Link::BLOCKED)
            && let Err(violation) = self.receive(io)
        {
            return self.fail(violation, io);
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
            Phase::Ended => SessionOutcome::Closed,
            Phase::Aborting => self.end(Ending::Lost, io),
            _ if self.link.has(Link::PEER_CLOSED) && !self.link.has(Link::BLOCKED) => self.end_left(io),
            Phase::Opening | Phase::Open | Phase::Closing => SessionOutcome::More,
        }
    }

    /// Handles a posted message.
    pub(crate) fn message<I: SessionIo>(
        &mut self,
        message: <I::State as State>::Message,
        io: &mut I,
    ) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        if self.link.phase == Phase::Open {
            let (handler, _, mut channel) = self.parts(io);
            handler.message(message, &mut channel);
        }
        self.note_refusal();
        self.go_on(io)
    }

    /// Handles the stop of the poller.
    pub(crate) fn shutdown<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        self.announce_stop(io);
        self.note_refusal();
        self.go_on(io)
    }

    /// Handles the end of the peer's stream.
    pub(crate) fn peer_closed<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
        // What has arrived before was received already, except for what waits for room.
        if self.link.has(Link::BLOCKED) {
            self.link.set(Link::PEER_CLOSED, true);
            return SessionOutcome::More;
        }
        self.end_left(io)
    }

    /// Handles the time that was set last.
    pub(crate) fn wake<I: SessionIo>(&mut self, io: &mut I) -> SessionOutcome
    where
        H: WebSocket<I::State>,
    {
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
        let waits =
            !io.split().0.is_empty() && !self.link.has(Link::BLOCKED) && !self.link.has(Link::REFUSED);
        if waits && self.link.has(Link::WAITS) {
            return self.end(Ending::Lost, io);
        }
        self.link.set(Link::WAITS, waits);
        let (_, _, mut channel) = self.parts(io);
        let pings = !alive && channel.send_frame(Opcode::Ping, true, b"").is_ok();
        channel.wake_in(if pings { pong } else { silence });
        self.link.set(Link::PINGED, pings);
        self.link.set(Link::HEARD, false);
        self.note_refusal();
        SessionOutcome::More
    }

    /// Handles the end of the connection, if none of the other events has ended the session.
    pub(crate) fn disconnected<I: SessionIo>(&mut self, io: &mut I)
    where
        H: WebSocket<I::State>,
    {
        // It was notified if the callback has panicked.
        if self.link.phase != Phase::Ended {
            let _ = self.end(Ending::Lost, io);
        }
    }
}
