//! What a handler can do with its connection, on either side of it.

use core::fmt;
use core::ops::Range;
use core::time::Duration;

use lightcone_core::{
    Address, Instant, Lag, LagCounter, Output, PackedAddress, Rejected, Token, Unpublished,
};
use lightcone_http::{Full, Outlet, RequestId, State, SubscribeError, Topic, Transfer};

use crate::codec::close::CloseCode;
use crate::codec::generator::MaskSource;
use crate::codec::header::{CONTROL_MAX, FrameHeader, MASK_LENGTH, Opcode};
use crate::codec::receiver::MessageKind;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The handler has not been called.
    Opening,
    Open,
    /// A close frame was sent, and the peer's has not arrived.
    Closing,
    /// The handler aborts the connection, and was not notified of the end.
    Aborting,
    /// The handler was notified of the end.
    Ended,
}

/// The state of a connection other than what is received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) phase: Phase,
    flags: u8,
}

impl Link {
    /// A frame of the peer has arrived since the last timer.
    pub(crate) const HEARD: u8 = 1;
    /// A ping was sent, and nothing has arrived since.
    pub(crate) const PINGED: u8 = 2;
    /// Something was not sent for lack of room, so `writable` is due.
    pub(crate) const REFUSED: u8 = 4;
    /// What was received waits for room.
    pub(crate) const BLOCKED: u8 = 8;
    /// The peer has ended its stream, while received frames wait for room.
    pub(crate) const PEER_CLOSED: u8 = 16;
    /// The server or client is stopping, and the handler could not announce it.
    pub(crate) const STOPPING: u8 = 32;
    /// At the last timer, a frame or a fragmented message was incomplete, and no piece of it has arrived since.
    pub(crate) const WAITS: u8 = 64;
    /// Something was refused in this callback, so that another attempt would be in vain.
    pub(crate) const FRESH: u8 = 128;

    pub(crate) const NEW: Self = Self { phase: Phase::Opening, flags: 0 };

    pub(crate) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8, holds: bool) {
        self.flags = self.flags & !flag | if holds { flag } else { 0 };
    }
}

/// What carries the frames that are sent.
pub(crate) enum Carrier<'c, S: State> {
    /// The exchange of a server, whose frames are not masked.
    Exchange(Transfer<'c, S>),
    /// The socket of a client, whose frames are masked.
    Socket(SocketCarrier<'c, S>),
}

/// The socket of a client, as far as a handler needs it.
pub(crate) struct SocketCarrier<'c, S: State> {
    pub(crate) state: &'c mut S,
    pub(crate) outlet: Outlet<'c, S>,
    pub(crate) output: Output<'c>,
    pub(crate) masks: &'c mut dyn MaskSource,
    /// When the session is to be called again, if that has changed.
    pub(crate) wake: &'c mut Option<Instant>,
    pub(crate) facts: SocketFacts,
}

/// What does not change during a callback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketFacts {
    pub(crate) token: Token,
    pub(crate) peer: PackedAddress,
    pub(crate) now: Instant,
}

impl<S: State> Carrier<'_, S> {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Exchange(io) => io.now(),
            Self::Socket(io) => io.facts.now,
        }
    }

    pub(crate) fn wake_at(&mut self, at: Instant) {
        match self {
            Self::Exchange(io) => io.wake_at(at),
            Self::Socket(io) => *io.wake = Some(at),
        }
    }

    /// Returns the way of messages to other connections.
    fn outlet(&mut self) -> Outlet<'_, S> {
        match self {
            Self::Exchange(io) => io.outlet(),
            Self::Socket(io) => io.outlet.reborrow(),
        }
    }

    fn subscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        match self {
            Self::Exchange(io) => io.subscribe(topic),
            Self::Socket(io) => io.outlet.subscribe(topic, io.facts.token),
        }
    }

    fn unsubscribe(&mut self, topic: Topic) -> bool {
        match self {
            Self::Exchange(io) => io.unsubscribe(topic),
            Self::Socket(io) => io.outlet.unsubscribe(topic, io.facts.token),
        }
    }

    /// Returns the maximum number of bytes of a frame without its mask; 0 if the connection is ending.
    fn frame_limit(&self) -> usize {
        match self {
            Self::Exchange(io) => io.output_limit(),
            Self::Socket(io) => io.output.limit().saturating_sub(MASK_LENGTH),
        }
    }

    /// Sends a frame, or nothing of it.
    fn send(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) -> Result<(), Full> {
        let mut header = FrameHeader { fin, opcode, mask: None, length: payload.len() as u64 };
        let (output, mut mask) = match self {
            Self::Exchange(io) => return io.send(&[header.encode().as_bytes(), payload]),
            Self::Socket(io) => (&mut io.output, io.masks.next_mask()),
        };
        header.mask = Some(mask);
        let header = header.encode();
        let length = header.as_bytes().len() + payload.len();
        if length > output.room() {
            // For all of it at once, as `Transfer::send` does.
            if length <= output.limit() {
                output.request_writable_for(length);
            }
            return Err(Full);
        }
        let mark = output.mark();
        let mut sent = output.send(header.as_bytes());
        let mut rest = payload;
        while !rest.is_empty() && sent.is_ok() {
            // Masked in place, where it waits to be sent.
            let place = output.spare();
            let (now, later) = rest.split_at(rest.len().min(place.len()));
            let place = place.split_at_mut(now.len()).0;
            place.copy_from_slice(now);
            mask.apply(place);
            output.commit(now.len());
            (rest, sent) = (later, if now.is_empty() { Err(Full) } else { Ok(()) });
        }
        if sent.is_err() {
            output.rewind(mark);
        }
        sent
    }
}

impl<S: State> fmt::Debug for Carrier<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange(_) => "Exchange",
            Self::Socket(_) => "Socket",
        })
    }
}

/// One connection, in a callback of its [`WebSocket`](crate::WebSocket).
///
/// Messages are sent completely or not at all: with [`Full`], nothing was sent, and
/// [`writable`](crate::WebSocket::writable) is called when there is room again.
#[derive(Debug)]
pub struct Channel<'c, S: State> {
    pub(crate) io: Carrier<'c, S>,
    pub(crate) link: &'c mut Link,
    pub(crate) close_time: Duration,
    /// Whether a frame was refused in this callback for which there is never room.
    pub(crate) too_long: bool,
}

impl<S: State> Channel<'_, S> {
    /// Returns the state that the routes of this poller share, or the source of a client's connections.
    pub const fn state(&mut self) -> &mut S {
        match &mut self.io {
            Carrier::Exchange(io) => io.state,
            Carrier::Socket(io) => io.state,
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// [`Full`] if there is no room now, or if the connection is closing. A message with more than
    /// [`output_limit`](Self::output_limit) bytes can never be sent at once, so no `writable` follows: send it in
    /// [fragments](Self::send_fragment).
    pub fn send_text(&mut self, text: &str) -> Result<(), Full> {
        self.send_fragment(MessageKind::Text, Fragment::Whole, text.as_bytes())
    }

    /// Sends a binary message. See [`send_text`](Self::send_text).
    ///
    /// # Errors
    /// As for `send_text`.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.send_fragment(MessageKind::Binary, Fragment::Whole, bytes)
    }

    /// Sends a part of a message as a frame of its own. The caller sends the parts of a message in their order, and no
    /// other message in between. Fragments of a text may end within a character.
    ///
    /// # Errors
    /// As for [`send_text`](Self::send_text).
    pub fn send_fragment(
        &mut self,
        kind: MessageKind,
        fragment: Fragment,
        payload: &[u8],
    ) -> Result<(), Full> {
        let opcode = if fragment.is_first() { kind.opcode() } else { Opcode::Continuation };
        self.send_frame(opcode, fragment.is_last(), payload)
    }

    /// Sends a ping with a payload, of which at most 125 bytes are sent. The layer sends pings by itself, see
    /// [`WebSocketConfig::ping`](crate::WebSocketConfig::ping).
    ///
    /// # Errors
    /// As for [`send_text`](Self::send_text).
    pub fn send_ping(&mut self, payload: &[u8]) -> Result<(), Full> {
        self.send_frame(Opcode::Ping, true, payload.get(..CONTROL_MAX).unwrap_or(payload))
    }

    /// Begins to close the connection with a close frame, after what was sent before. The reason is cut to 123 bytes.
    ///
    /// From now on nothing can be sent, and messages of the peer are dropped. The connection ends when the peer has
    /// responded with a close frame, or [`WebSocketConfig::close`](crate::WebSocketConfig::close) is over.
    ///
    /// # Errors
    /// As for [`send_text`](Self::send_text). The connection stays open: try again in `writable`.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Full> {
        let code = code.get().to_be_bytes();
        let reason = reason.split_at(reason.floor_char_boundary(CONTROL_MAX - code.len())).0;
        let mut payload = [0; CONTROL_MAX];
        let (place, rest) = payload.split_at_mut(code.len());
        place.copy_from_slice(&code);
        rest.split_at_mut(reason.len()).0.copy_from_slice(reason.as_bytes());
        self.send_frame(Opcode::Close, true, payload.split_at(code.len() + reason.len()).0)?;
        self.link.phase = Phase::Closing;
        self.wake_in(self.close_time);
        Ok(())
    }

    /// Resets the connection, without a close frame: for a peer that reads too slowly, so that there is no room for
    /// one. What was sent before and has not reached the peer is lost. [`closed`](crate::WebSocket::closed) follows,
    /// with [`Ending::Lost`](crate::Ending::Lost).
    pub const fn abort(&mut self) {
        if matches!(self.link.phase, Phase::Open | Phase::Closing) {
            self.link.phase = Phase::Aborting;
        }
    }

    /// Subscribes the connection to a topic: from now on, [`message`](crate::WebSocket::message) gets what is published
    /// to it. The subscription ends by [`unsubscribe`](Self::unsubscribe) or with the connection.
    ///
    /// # Errors
    /// See [`Context::subscribe`](lightcone_core::Context::subscribe).
    pub fn subscribe(&mut self, topic: Topic) -> Result<(), SubscribeError> {
        self.io.subscribe(topic)
    }

    /// Ends the subscription of the connection to a topic. Returns whether there was one.
    pub fn unsubscribe(&mut self, topic: Topic) -> bool {
        self.io.unsubscribe(topic)
    }

    /// Publishes a message to the subscribers of a topic, on all pollers, and to this connection if it is one.
    ///
    /// # Errors
    /// Returns the message if the mailbox of a poller is full, or if the engine has stopped.
    pub fn publish(
        &mut self,
        topic: Topic,
        message: S::Message,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.publish_rest(Unpublished::new(topic, message, S::Message::clone))
    }

    /// Publishes a message to the pollers that do not have it, after a [`publish`](Self::publish) that found a mailbox
    /// full.
    ///
    /// # Errors
    /// The same as of `publish`.
    pub fn publish_rest(
        &mut self,
        message: Unpublished<S::Message>,
    ) -> Result<(), Rejected<Unpublished<S::Message>>>
    where
        S::Message: Clone,
    {
        self.io.outlet().publish(message)
    }

    /// Returns the largest message that can be sent at once, when nothing else is queued.
    pub fn output_limit(&self) -> usize {
        // a header without a mask has 2, 4 or 10 bytes
        match self.io.frame_limit() {
            limit @ ..128 => limit.saturating_sub(2),
            limit @ ..65_540 => (limit - 4).max(125),
            limit => (limit - 10).max(65_535),
        }
    }

    /// Returns the identity of the connection, for posting messages to it: see [`RequestId`].
    pub fn id(&self) -> RequestId {
        match &self.io {
            Carrier::Exchange(io) => io.id(),
            Carrier::Socket(io) => RequestId::new(io.facts.token, 0),
        }
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> Address {
        match &self.io {
            Carrier::Exchange(io) => io.peer(),
            Carrier::Socket(io) => io.facts.peer.unpack(),
        }
    }

    /// Returns when this callback began.
    pub fn now(&self) -> Instant {
        self.io.now()
    }

    /// Returns whether messages can be sent: the connection is neither closing nor over.
    pub const fn is_open(&self) -> bool {
        matches!(self.link.phase, Phase::Open)
    }

    /// Has the session called again after this time.
    pub(crate) fn wake_in(&mut self, time: Duration) {
        let at = self.io.now() + time;
        self.io.wake_at(at);
    }

    pub(crate) fn send_frame(&mut self, opcode: Opcode, fin: bool, payload: &[u8]) -> Result<(), Full> {
        if !self.is_open() {
            return Err(Full);
        }
        let result = self.io.send(opcode, fin, payload);
        if result.is_err() {
            // No room will ever be enough for what is longer than the output, so there is nothing to wait for.
            let too_long = payload.len() > self.output_limit();
            self.too_long |= too_long;
            self.link.set(Link::REFUSED, self.link.has(Link::REFUSED) || !too_long);
        }
        result
    }
}

impl<S: State> LagCounter for Channel<'_, S> {
    fn count_lag(&mut self, lag: Lag) {
        self.io.outlet().count_lag(lag);
    }
}

/// Which part of a message a fragment is (RFC 6455, 5.4).
///
/// ```
/// use lightcone_websocket::Fragment;
///
/// let parts = [0..4, 4..8, 8..9].map(|part| Fragment::of(&part, 9));
/// assert_eq!(parts, [Fragment::First, Fragment::Middle, Fragment::Last]);
/// assert_eq!(Fragment::of(&(0..9), 9), Fragment::Whole);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// All of it: the message is not fragmented.
    Whole,
    /// The first part, and not all of it.
    First,
    /// Neither the first part nor the last.
    Middle,
    /// The last part, and not all of it.
    Last,
}

impl Fragment {
    const fn new(first: bool, last: bool) -> Self {
        match (first, last) {
            (true, true) => Self::Whole,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }

    /// Returns which part the bytes in `part` are of a message that has `length` bytes.
    #[must_use]
    pub const fn of(part: &Range<usize>, length: usize) -> Self {
        Self::new(part.start == 0, part.end == length)
    }

    /// Returns whether the message begins with this part.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }

    /// Returns whether the message ends with this part.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Whole | Self::Last)
    }
}

/// A message that has been received, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message<'m> {
    pub(crate) payload: Payload<'m>,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// The content of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payload<'m> {
    /// A text, or a part of one that ends between characters.
    Text(&'m str),
    /// Any bytes.
    Binary(&'m [u8]),
}

impl<'m> Message<'m> {
    /// Returns the content.
    #[must_use]
    pub const fn payload(&self) -> Payload<'m> {
        self.payload
    }

    /// Returns the content as bytes.
    #[must_use]
    pub const fn bytes(&self) -> &'m [u8] {
        match self.payload {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// Returns the type of the message.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        match self.payload {
            Payload::Text(_) => MessageKind::Text,
            Payload::Binary(_) => MessageKind::Binary,
        }
    }

    /// Returns which part of the message this piece is, to send it on as a [fragment](Channel::send_fragment).
    #[must_use]
    pub const fn fragment(&self) -> Fragment {
        Fragment::new(self.first, self.last)
    }

    /// Returns whether the message begins with this piece.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.first
    }

    /// Returns whether the message ends with this piece.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// Returns whether this is a whole message.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.first && self.last
    }
}

/// Formats a text as it is, and other content as escaped ASCII.
impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.payload {
            Payload::Text(text) => f.write_str(text),
            Payload::Binary(bytes) => bytes.escape_ascii().fmt(f),
        }
    }
}
