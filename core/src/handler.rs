//! The user's side: callbacks and what they are given.

use crate::address::Address;
use crate::error::{CloseReason, ConnectError, ErrorKind, Rejected};
use crate::socket::Socket;
use crate::time::Instant;
use crate::token::{ListenerId, PollerId, Token};
use core::fmt;

/// Where a socket comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// A peer connected to a listener.
    Accepted {
        /// Which listener.
        listener: ListenerId,
    },
    /// This side connects.
    Connecting {
        /// What was given to `connect`.
        tag: u64,
    },
}

/// Something that happened to one socket. See [`Handler`] for the order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<M> {
    /// The connection is there. At most once, first.
    Open,
    /// New bytes have come: [`Stream::bytes`](crate::Stream::bytes).
    Receive,
    /// A refused or short send, or `want`, can go on: at most half of the output bound is queued.
    Writable,
    /// Everything queued has reached the operating system.
    Sent,
    /// The peer has ended its side. No `Receive` follows.
    PeerClosed,
    /// The deadline that the handler set has passed; it is no longer set.
    Timeout,
    /// The engine is shutting down: finish what is begun, then close.
    Shutdown,
    /// A message was posted to this socket.
    Message(M),
    /// The connect failed. The only event of such a socket.
    Refused(ErrorKind),
    /// The end, exactly once. `queued()` bytes were never sent.
    Close(CloseReason),
}

impl<M> Event<M> {
    /// The name of the [`Handler`]'s method that the event calls, for logs and traces.
    ///
    /// ```
    /// use lightcone_core::Event;
    ///
    /// assert_eq!(Event::Message(7).name(), "message");
    /// assert_eq!(Event::<u32>::PeerClosed.name(), "peer_closed");
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Receive => "receive",
            Self::Writable => "writable",
            Self::Sent => "sent",
            Self::PeerClosed => "peer_closed",
            Self::Timeout => "timeout",
            Self::Shutdown => "shutdown",
            Self::Message(_) => "message",
            Self::Refused(_) => "refused",
            Self::Close(_) => "close",
        }
    }
}

/// What a program does with its sockets.
///
/// For every socket, in this order, on one thread, never re-entered:
///
/// ```text
/// ( admit  open | admit  (open | refused) )
///       ( receive | sent | writable | peer_closed | timeout | message | shutdown )*   close
/// ```
///
/// 1. [`admit`](Self::admit) makes the user data, or turns the peer away: then nothing follows.
/// 2. `open` at most once; a connect that fails gives `refused` and nothing else.
/// 3. `close` exactly once if and only if `open` was given, always last.
/// 4. `receive` only with new bytes. Bytes not consumed stay; they alone cause no second `receive`.
/// 5. `sent` only when queued bytes have all reached the operating system. `writable` once after each
///    refused or short send, or `want`.
/// 6. While `writable` is owed the socket is not read from: who takes no answers gives no requests.
/// 7. What a callback asks for (`close`, `pause`, ..) takes effect when it has returned. After
///    `close`, `linger` or `abort`, only `close` follows.
/// 8. A callback borrows only its own socket; others are reached by [`Context::post`].
///
/// All methods but `admit` have a default. Handlers that wrap a handler override
/// [`event`](Self::event) alone, through which everything goes, and pass on
/// [`wants_sent`](Self::wants_sent).
///
/// ```
/// use lightcone_core::{Address, Context, Handler, Origin, Socket};
///
/// /// Sends every line back and counts them.
/// struct Lines;
///
/// impl Handler for Lines {
///     type Data = u32;
///     type Message = core::convert::Infallible;
///
///     fn admit(&mut self, _: Origin, _: &Address) -> Option<u32> {
///         Some(0)
///     }
///
///     fn receive(&mut self, socket: &mut Socket<'_, u32>, _: &mut Context<'_, Self::Message>) {
///         let (mut input, mut output, count) = socket.split();
///         while let Some(end) = input.bytes().iter().position(|byte| *byte == b'\n') {
///             if output.send(&input.bytes()[..=end]).is_err() {
///                 return; // `writable` will come
///             }
///             *count += 1;
///             input.consume(end + 1);
///         }
///     }
///
///     fn writable(&mut self, socket: &mut Socket<'_, u32>, cx: &mut Context<'_, Self::Message>) {
///         self.receive(socket, cx);
///     }
/// }
/// ```
pub trait Handler {
    /// What the program keeps for each socket.
    type Data;
    /// What can be posted to a socket; [`Infallible`](core::convert::Infallible) for nothing.
    type Message;

    /// A socket is about to be: gives its user data, or `None` to turn the peer away. Runs on the
    /// poller that will own the socket.
    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data>;

    /// Whether `sent` is of use. Who says no is spared the event, and the engine a callback for each
    /// response.
    fn wants_sent(&self) -> bool {
        true
    }

    /// Everything that happens to a socket goes through here, and on to the method of its name.
    #[inline(always)]
    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        match event {
            Event::Open => self.open(socket, cx),
            Event::Receive => self.receive(socket, cx),
            Event::Writable => self.writable(socket, cx),
            Event::Sent => self.sent(socket, cx),
            Event::PeerClosed => self.peer_closed(socket, cx),
            Event::Timeout => self.timeout(socket, cx),
            Event::Shutdown => self.shutdown(socket, cx),
            Event::Message(message) => self.message(socket, message, cx),
            Event::Refused(error) => self.refused(socket, error, cx),
            Event::Close(reason) => self.close(socket, reason, cx),
        }
    }

    /// The connection is there.
    fn open(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// New bytes have come.
    fn receive(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// There is room for output again. Input that was left because of it must be taken up here.
    fn writable(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// Everything queued has reached the operating system.
    fn sent(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// The peer has ended its side. Sending is still possible; the default closes.
    fn peer_closed(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.close();
    }

    /// The socket's deadline has passed. The default aborts.
    fn timeout(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.abort();
    }

    /// Called when the engine is shutting down, after bytes that had come by then were delivered. The default
    /// closes, which still sends what is queued. A handler that goes on must close by itself; sockets that are open
    /// at the end of the grace time are aborted. A peer that may be sending sees no reset after
    /// [`linger`](crate::Stream::linger), which takes half a second more at most.
    fn shutdown(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.close();
    }

    /// A message was posted to this socket.
    fn message(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        message: Self::Message,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, message, cx);
    }

    /// The connect failed.
    fn refused(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        error: ErrorKind,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, error, cx);
    }

    /// The end.
    fn close(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        reason: CloseReason,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, reason, cx);
    }
}

/// What a driver does for handlers beyond their own socket.
pub trait Outbox<M> {
    /// Posts a message to a socket of any poller.
    ///
    /// # Errors
    ///
    /// The message, when it was not taken.
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>>;

    /// Posts a message to every open socket of the engine, the caller's included; `clone` makes the
    /// copies, so that other messages need not be `Clone`.
    ///
    /// # Errors
    ///
    /// The message, when not every poller took it.
    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>>;

    /// Begins to connect, on the caller's poller.
    ///
    /// # Errors
    ///
    /// When no socket is free for it, or the driver can't.
    fn connect(&mut self, to: &Address, tag: u64) -> Result<Token, ConnectError>;

    /// The address on this side of a socket of the caller's poller.
    fn local_address(&self, token: Token) -> Option<Address>;
}

/// An outbox for drivers with one poller and nobody to write to.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOutbox;

impl<M> Outbox<M> for NoOutbox {
    fn post(&mut self, _: Token, message: M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn broadcast(&mut self, message: M, _: fn(&M) -> M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn connect(&mut self, _: &Address, _: u64) -> Result<Token, ConnectError> {
        Err(ConnectError::Unsupported)
    }

    fn local_address(&self, _: Token) -> Option<Address> {
        None
    }
}

/// What a callback can reach beside its own socket: the time and the rest of the engine.
pub struct Context<'a, M> {
    now: Instant,
    unix_time: Option<u64>,
    poller: PollerId,
    outbox: &'a mut dyn Outbox<M>,
}

impl<M> fmt::Debug for Context<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("now", &self.now)
            .field("poller", &self.poller)
            .finish_non_exhaustive()
    }
}

impl<'a, M> Context<'a, M> {
    /// For drivers: once a turn.
    pub fn new(
        now: Instant,
        unix_time: Option<u64>,
        poller: PollerId,
        outbox: &'a mut dyn Outbox<M>,
    ) -> Self {
        Self { now, unix_time, poller, outbox }
    }

    /// The time of this turn, on the engine's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Seconds since 1970-01-01 UTC, where the driver has a wall clock.
    #[must_use]
    pub fn unix_time(&self) -> Option<u64> {
        self.unix_time
    }

    /// The poller on which this callback runs.
    #[must_use]
    pub fn poller(&self) -> PollerId {
        self.poller
    }

    /// Posts a message to a socket, of this or another poller. It arrives as the `message` event on
    /// the socket's own thread, after this callback; messages from one poller to one socket keep
    /// their order. If the socket has gone by then, the message is dropped and counted.
    ///
    /// # Errors
    ///
    /// The message itself, when the poller's mailbox is full or the engine has stopped.
    pub fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.outbox.post(to, message)
    }

    /// Posts a message to every open socket of the engine, this one included.
    ///
    /// # Errors
    ///
    /// The message itself, when a poller's mailbox was full or the engine has stopped; pollers
    /// before that one have it.
    pub fn broadcast(&mut self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.outbox.broadcast(message, M::clone)
    }

    /// Begins to connect, on this poller. The token is valid at once; `admit` is called with `tag`
    /// after this callback, then `open` or `refused` follows. If the engine is shut down before
    /// that, nothing does.
    ///
    /// # Errors
    ///
    /// When no socket is free, or more connects were asked for in one turn than the driver takes.
    pub fn connect(&mut self, to: &Address, tag: u64) -> Result<Token, ConnectError> {
        self.outbox.connect(to, tag)
    }

    /// The address on this side of a socket of this poller; `None` if it has gone.
    #[must_use]
    pub fn local_address(&self, token: Token) -> Option<Address> {
        self.outbox.local_address(token)
    }
}
