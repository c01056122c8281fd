//! The interface for programs: the [`Handler`] trait, its events, and what a callback can reach.

use crate::address::Address;
use crate::error::{CloseReason, ConnectError, ErrorKind, Rejected, RoomError};
use crate::socket::Socket;
use crate::time::Instant;
use crate::timers::{TimerError, TimerId};
use crate::token::{ListenerId, PollerId, Token};
use crate::topic::{Lag, LagCounter, SubscribeError, Topic, Unpublished};
use core::fmt;

/// The origin of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Origin {
    /// A peer connected to a listener.
    Accepted {
        /// The listener that accepted it.
        listener: ListenerId,
    },
    /// The program is connecting to a peer.
    Connecting {
        /// The tag that was passed to `connect`.
        tag: u64,
    },
}

/// An event of one socket. See [`Handler`] for the order of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event<M> {
    /// The connection is established. The first event, and delivered at most once.
    Open,
    /// New bytes have arrived; see [`Stream::bytes`](crate::Stream::bytes).
    Receive,
    /// There is room for output again, after a send that was refused or accepted only in part, or after
    /// [`request_writable`](crate::Output::request_writable): at most half of the [limit](crate::Output::limit)
    /// is queued.
    Writable,
    /// All queued bytes have been passed to the operating system.
    Sent,
    /// The peer has ended its stream. No `Receive` follows.
    PeerClosed,
    /// The deadline that the handler set has passed, and is now cleared.
    Timeout,
    /// The engine is shutting down: complete the work in progress, then close.
    Shutdown,
    /// A message was posted to this socket.
    Message(M),
    /// The mailbox of this poller has room, as the handler has [requested](Context::request_room) to be notified.
    Room(PollerId),
    /// The connect failed. This is the only event of such a socket.
    Refused(ErrorKind),
    /// The socket has ended. The last event, delivered exactly once after `Open`. The bytes counted by
    /// [`queued`](crate::Stream::queued) were never sent.
    Close(CloseReason),
}

impl<M> Event<M> {
    /// Returns the name of the [`Handler`] method that the event calls, for logs and traces.
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
            Self::Room(_) => "room",
            Self::Refused(_) => "refused",
            Self::Close(_) => "close",
        }
    }
}

/// An event of a poller rather than of a socket. See [`Handler`] for the order of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PollerEvent {
    /// The poller has started. The first event of all, and delivered exactly once.
    Started,
    /// A [timer](Context::set_timer) is due. It is no longer set.
    Timer {
        /// The timer, whose id is stale from now on.
        id: TimerId,
        /// The tag that was passed to `set_timer`.
        tag: u64,
    },
    /// The mailbox of a poller, maybe of this one, has room, as the handler has [requested](Context::request_room) to
    /// be notified.
    Room {
        /// The poller that has room.
        at: PollerId,
    },
    /// The poller begins to stop. Delivered exactly once, before the `Shutdown` of any socket.
    Stopping,
}

impl PollerEvent {
    /// Returns the name of the [`Handler`] method that the event calls, for logs and traces.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Timer { .. } => "timer",
            Self::Room { .. } => "poller_room",
            Self::Stopping => "stopping",
        }
    }
}

/// The callbacks by which a program handles the events of its sockets.
///
/// For each socket, the callbacks run in this order, on one thread, and never re-entrantly (`*`: any number of
/// times, in any order):
///
/// ```text
/// admit  open  ( receive | sent | writable | peer_closed | timeout | message | room | shutdown )*  close
/// admit  refused                                                     a connect that fails
/// admit                                                              the peer is turned away
/// ```
///
/// 1. [`admit`](Self::admit) creates the user data or turns the peer away; in the latter case no event
///    follows.
/// 2. `open` comes at most once, before all other events. If a connect fails, `refused` is the only event.
/// 3. `close` comes exactly once if `open` came, otherwise never. It is the last event.
/// 4. `receive` comes only when there are new bytes. Unconsumed bytes stay in the buffer; on their own they
///    do not cause another `receive`.
/// 5. `sent` comes only when all queued bytes have been passed to the operating system. `writable` comes once
///    after each send that was refused or accepted only in part, or call of
///    [`request_writable`](crate::Output::request_writable).
/// 6. Backpressure: while `writable` is pending, that is, from such a send or call until `writable` comes, the
///    socket is not read.
/// 7. A request made in a callback (`close`, `pause`, ..) takes effect when the callback returns. After a call
///    of `close`, `linger` or `abort`, only the `close` event follows.
/// 8. A callback borrows only its own socket. It reaches other sockets by [`Context::post`].
/// 9. A socket ends with [`CloseReason::Evicted`] only if [`Config::evict_after`](crate::Config::evict_after) is set,
///    and only while it is idle: no shutdown has begun, it is neither declared active nor paused, no `writable` is
///    pending, no input was left unconsumed, nothing is queued, and its last progress is at least that span ago. Until
///    the peer's first byte, what is sent to it is no progress if [`first_byte`](crate::Timeouts::first_byte) is set.
///    Of the sockets of a poller that may be evicted, the one that has been idle longest is first; those that have been
///    idle since the same millisecond come in any order.
///
/// Four more callbacks belong to the poller and not to a socket. A [`Poller`](crate::poller::Poller) calls them, so
/// they come on every driver, but not on workers:
///
/// ```text
/// started  ( the callbacks of sockets | timer | poller_room )*  stopping  ( the same )*
/// ```
///
/// 10. [`started`](Self::started) comes exactly once, before every other callback, `admit` included: in the poller's
///     first turn, or earlier if a socket or a stop comes before that.
/// 11. [`stopping`](Self::stopping) comes exactly once, as soon as the stop of the poller begins, with or without a
///     grace time, and before the `shutdown` of any socket.
/// 12. [`timer`](Self::timer) comes once for each timer that was set by [`Context::set_timer`] and not cancelled
///     before, unless the poller ends first. It is never early. The timers of a poller come in the order of their
///     times.
/// 13. [`room`](Self::room) and [`poller_room`](Self::poller_room) come once for each accepted
///     [`Context::request_room`], unless the socket or the poller ends first, and never without one. When one comes,
///     the mailbox has just had room, or its poller has ended. The requests of a poller for one mailbox are served in
///     their order, and the pollers that wait for a mailbox in turn.
/// 14. A poller that fails because the engine or its driver is broken calls nothing more, not even `stopping`.
///
/// All methods but `admit` have a default implementation. A handler that wraps another handler overrides only
/// [`event`](Self::event) and [`poller_event`](Self::poller_event), which receive every event, and forwards
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
///                 return; // `writable` follows
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
    /// The user data of each socket.
    type Data;
    /// The type of messages posted to sockets; [`Infallible`](core::convert::Infallible) if there are none.
    type Message;

    /// Called before the first event of a socket. Returns the socket's user data, or `None` to turn the peer
    /// away. Runs on the poller that owns the socket.
    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data>;

    /// Returns whether this handler uses `sent`. With `false` that event is not delivered, which saves one
    /// callback per response.
    fn wants_sent(&self) -> bool {
        true
    }

    /// Receives every event of a socket. The default calls the method named after the event.
    ///
    /// ```
    /// use lightcone_core::{Address, Context, Event, Handler, Origin, PollerEvent, Socket};
    ///
    /// /// Counts the events of another handler.
    /// struct Counting<H> {
    ///     inner: H,
    ///     events: u64,
    /// }
    ///
    /// impl<H: Handler> Handler for Counting<H> {
    ///     type Data = H::Data;
    ///     type Message = H::Message;
    ///
    ///     fn admit(&mut self, origin: Origin, peer: &Address) -> Option<H::Data> {
    ///         self.inner.admit(origin, peer)
    ///     }
    ///
    ///     fn wants_sent(&self) -> bool {
    ///         self.inner.wants_sent()
    ///     }
    ///
    ///     fn event(
    ///         &mut self,
    ///         socket: &mut Socket<'_, H::Data>,
    ///         event: Event<H::Message>,
    ///         cx: &mut Context<'_, H::Message>,
    ///     ) {
    ///         self.events += 1;
    ///         self.inner.event(socket, event, cx);
    ///     }
    ///
    ///     fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, H::Message>) {
    ///         self.events += 1;
    ///         self.inner.poller_event(event, cx);
    ///     }
    /// }
    /// ```
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
            Event::Room(at) => self.room(socket, at, cx),
            Event::Refused(error) => self.refused(socket, error, cx),
            Event::Close(reason) => self.close(socket, reason, cx),
        }
    }

    /// Receives every event of the poller. The default calls the method named after the event.
    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Self::Message>) {
        match event {
            PollerEvent::Started => self.started(cx),
            PollerEvent::Timer { id, tag } => self.timer(id, tag, cx),
            PollerEvent::Room { at } => self.poller_room(at, cx),
            PollerEvent::Stopping => self.stopping(cx),
        }
    }

    /// Called when the poller has started, before every other callback. The handler can connect and set timers.
    fn started(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// Called when the stop of the poller begins.
    ///
    /// Messages that the handler posts here to sockets of this poller arrive before their `shutdown`. Timers can still
    /// be set, and fire while sockets have grace time left, but do not prolong it. No connect begins any more:
    /// [`Context::connect`] returns [`ConnectError::Full`].
    fn stopping(&mut self, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
    }

    /// Called when a timer that was set by [`Context::set_timer`] is due. To repeat it, set it again.
    fn timer(&mut self, timer: TimerId, tag: u64, cx: &mut Context<'_, Self::Message>) {
        let _ = (timer, tag, cx);
    }

    /// Called when the mailbox of poller `at` has room, after a [request](Context::request_room) for no socket.
    fn poller_room(&mut self, at: PollerId, cx: &mut Context<'_, Self::Message>) {
        let _ = (at, cx);
    }

    /// Called when the connection is established.
    fn open(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// Called when new bytes have arrived.
    fn receive(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// Called when there is room for output again. A handler that left input unconsumed for lack of room must
    /// resume processing it here.
    fn writable(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// Called when all queued bytes have been passed to the operating system.
    fn sent(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = (socket, cx);
    }

    /// Called when the peer has ended its stream. Sending is still possible. The default closes the socket.
    fn peer_closed(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.close();
    }

    /// Called when the socket's deadline has passed. The default aborts the socket.
    fn timeout(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.abort();
    }

    /// Called when the engine is shutting down, after the bytes that had arrived by then were delivered.
    ///
    /// The default closes the socket, which still sends the queued bytes. A handler that continues instead
    /// must close the socket later; sockets still open at the end of the grace time are aborted. If the
    /// peer may still be sending, call [`linger`](crate::Stream::linger) in place of `close` to avoid a reset.
    /// During a shutdown it waits for the end of the peer's stream for at most half a second.
    fn shutdown(&mut self, socket: &mut Socket<'_, Self::Data>, cx: &mut Context<'_, Self::Message>) {
        let _ = cx;
        socket.close();
    }

    /// Called when a message was posted to this socket.
    fn message(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        message: Self::Message,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, message, cx);
    }

    /// Called when the mailbox of poller `at` has room, after a [request](Context::request_room) for this socket.
    fn room(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        at: PollerId,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, at, cx);
    }

    /// Called when a connect has failed.
    fn refused(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        error: ErrorKind,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, error, cx);
    }

    /// Called last, when the socket has ended.
    fn close(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        reason: CloseReason,
        cx: &mut Context<'_, Self::Message>,
    ) {
        let _ = (socket, reason, cx);
    }
}

/// The services of a driver that callbacks reach through a [`Context`]. Drivers implement it; handlers call the
/// methods of the context.
pub trait Outbox<M> {
    /// Posts a message to a socket of any poller.
    ///
    /// # Errors
    ///
    /// Returns the message if it was not accepted.
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>>;

    /// Posts a message to every open socket of the engine, including the caller's. `clone` makes the copies:
    /// it is an argument so that a message type that is never broadcast need not be `Clone`.
    ///
    /// # Errors
    ///
    /// Returns the message unless every poller accepted it.
    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>>;

    /// Posts a message for the subscribers of a topic to each poller once, from the
    /// [first](Unpublished::poller) that does not have it.
    ///
    /// # Errors
    ///
    /// The message, with the first poller that has not taken it.
    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>>;

    /// Subscribes a socket of the caller's poller to a topic.
    ///
    /// # Errors
    ///
    /// The reason why the socket was not subscribed.
    fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError>;

    /// Ends the subscription of a socket of the caller's poller. Returns whether there was one.
    fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool;

    /// Ends all subscriptions of a socket of the caller's poller. Returns how many there were.
    fn unsubscribe_all(&mut self, socket: Token) -> usize;

    /// Returns the number of sockets of the caller's poller that are subscribed to a topic.
    fn subscribers(&self, topic: Topic) -> usize;

    /// Counts what a subscriber of the caller's poller misses.
    fn count_lag(&mut self, lag: Lag);

    /// Starts a connect on the caller's poller.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Full`] if no socket is free, [`ConnectError::Unsupported`] if the driver cannot connect to
    /// the address.
    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError>;

    /// Returns the local address of a socket of the caller's poller.
    fn local_address(&self, token: Token) -> Option<Address>;

    /// Sets a timer of the caller's poller.
    ///
    /// # Errors
    ///
    /// [`TimerError::Full`] if all are set, [`TimerError::Unsupported`] if there are none.
    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError>;

    /// Cancels a timer of the caller's poller. Returns whether it was set.
    fn cancel_timer(&mut self, timer: TimerId) -> bool;

    /// Requests an event when the mailbox of a poller has room, for a socket of the caller's poller or for that poller
    /// itself.
    ///
    /// # Errors
    ///
    /// [`RoomError::Full`] if as many requests as possible wait, [`RoomError::Unsupported`] if none can.
    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError>;
}

/// An outbox that rejects everything, for a driver with one poller and no messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NoOutbox;

impl<M> Outbox<M> for NoOutbox {
    fn post(&mut self, _: Token, message: M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn broadcast(&mut self, message: M, _: fn(&M) -> M) -> Result<(), Rejected<M>> {
        Err(Rejected::Gone(message))
    }

    fn connect(&mut self, _: Address, _: u64) -> Result<Token, ConnectError> {
        Err(ConnectError::Unsupported)
    }

    fn local_address(&self, _: Token) -> Option<Address> {
        None
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        Err(Rejected::Gone(message))
    }

    fn subscribe(&mut self, _: Topic, _: Token) -> Result<(), SubscribeError> {
        Err(SubscribeError::Unsupported)
    }

    fn unsubscribe(&mut self, _: Topic, _: Token) -> bool {
        false
    }

    fn unsubscribe_all(&mut self, _: Token) -> usize {
        0
    }

    fn subscribers(&self, _: Topic) -> usize {
        0
    }

    fn count_lag(&mut self, _: Lag) {}

    fn set_timer(&mut self, _: Instant, _: u64) -> Result<TimerId, TimerError> {
        Err(TimerError::Unsupported)
    }

    fn cancel_timer(&mut self, _: TimerId) -> bool {
        false
    }

    fn request_room(&mut self, _: PollerId, _: Option<Token>) -> Result<(), RoomError> {
        Err(RoomError::Unsupported)
    }
}

/// What a callback can reach besides its own socket: the time and the rest of the engine.
pub struct Context<'a, M> {
    now: Instant,
    unix_time: Option<u64>,
    poller: PollerId,
    pub(crate) outbox: &'a mut dyn Outbox<M>,
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
    /// Creates the context of a callback, for drivers.
    pub fn new(
        now: Instant,
        unix_time: Option<u64>,
        poller: PollerId,
        outbox: &'a mut dyn Outbox<M>,
    ) -> Self {
        Self { now, unix_time, poller, outbox }
    }

    /// Returns the time of this turn, on the engine's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the seconds since 1970-01-01 UTC, or `None` if the driver has no wall clock.
    #[must_use]
    pub fn unix_time(&self) -> Option<u64> {
        self.unix_time
    }

    /// Returns the poller that runs this callback.
    #[must_use]
    pub fn poller(&self) -> PollerId {
        self.poller
    }

    /// Returns the services of the driver, for a handler that passes them on to code of its own.
    pub fn outbox(&mut self) -> &mut dyn Outbox<M> {
        &mut *self.outbox
    }

    /// Posts a message to a socket of this or another poller.
    ///
    /// It arrives as the `message` event on the socket's own thread, after this callback. Messages from one
    /// poller to one socket keep their order. If the socket is closed before the message arrives, the message
    /// is dropped and [counted](crate::Stats::gone).
    ///
    /// ```
    /// use lightcone_core::{Context, Rejected, Token};
    ///
    /// /// Passes a line on to another socket. Returns it if it is to be posted again later.
    /// fn pass_on(cx: &mut Context<'_, Vec<u8>>, to: Token, line: Vec<u8>) -> Option<Vec<u8>> {
    ///     match cx.post(to, line) {
    ///         Err(Rejected::Full(line)) => Some(line),
    ///         _ => None, // posted, or the poller has stopped
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the message if the poller's mailbox is full or the engine has stopped.
    pub fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.outbox.post(to, message)
    }

    /// Requests to be notified when the mailbox of a poller has room, after a [`post`](Self::post) that it has refused.
    ///
    /// With a socket of this poller, usually the one of the callback, [`Handler::room`] is called for it; with `None`,
    /// [`Handler::poller_room`] of this poller. Either comes once, in a later turn or in the rest of this one. It is no
    /// reservation: others may have taken the room before the handler posts, which then requests again.
    ///
    /// The same request made again while it waits counts once. A poller keeps at most
    /// [`Config::room_requests`](crate::Config) of them and serves those for one mailbox in their order, up to 256 in a
    /// turn and not more than there is room. The pollers that wait for the same mailbox are served in turn. If the
    /// other poller ends, the handler is notified as well: its next post is refused with [`Rejected::Gone`]. Requests
    /// cost programs that make none nothing.
    ///
    /// ```
    /// use lightcone_core::{Address, Context, Handler, Origin, PollerId, Rejected, Socket, Token};
    ///
    /// /// Passes the lines of a socket on to another one, and stops reading while that one's poller is overloaded.
    /// struct Passer;
    ///
    /// struct Lines {
    ///     to: Token,
    ///     /// The line for which there was no room.
    ///     kept: Option<Vec<u8>>,
    /// }
    ///
    /// impl Handler for Passer {
    ///     type Data = Lines;
    ///     type Message = Vec<u8>;
    ///
    ///     fn receive(&mut self, socket: &mut Socket<'_, Lines>, cx: &mut Context<'_, Vec<u8>>) {
    ///         let kept = socket.data.kept.take();
    ///         if let Err(Rejected::Full(line)) = cx.post(socket.data.to, kept.unwrap_or_default()) {
    ///             socket.data.kept = Some(line);
    ///             socket.pause();
    ///             if cx.request_room(socket.data.to.poller(), Some(socket.token())).is_err() {
    ///                 socket.abort(); // too many wait
    ///             }
    ///         }
    ///     }
    ///
    ///     fn room(&mut self, socket: &mut Socket<'_, Lines>, _: PollerId, cx: &mut Context<'_, Vec<u8>>) {
    ///         socket.resume();
    ///         self.receive(socket, cx);
    ///     }
    /// #
    /// #   fn admit(&mut self, _: Origin, _: &Address) -> Option<Lines> {
    /// #       None
    /// #   }
    /// }
    /// ```
    ///
    /// Request only after [`Rejected::Full`]: of a poller that has ended, there is an answer at once, and a handler
    /// that requests again each time keeps its poller busy. A socket that is still connecting when there is room is not
    /// notified.
    ///
    /// # Errors
    ///
    /// [`RoomError::Full`] if too many requests wait on this poller. [`RoomError::Unsupported`] if `room_requests` is
    /// 0, the callback does not run on a poller, or the socket is not one of this poller.
    pub fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        self.outbox.request_room(at, socket)
    }

    /// Posts a message to every open socket of the engine, including this one.
    ///
    /// # Errors
    ///
    /// Returns the message if a poller's mailbox was full or the engine has stopped. The pollers before that
    /// one, in the order of their ids, still deliver it.
    pub fn broadcast(&mut self, message: M) -> Result<(), Rejected<M>>
    where
        M: Clone,
    {
        self.outbox.broadcast(message, M::clone)
    }

    /// Publishes a message to the subscribers of a topic, on all pollers, this socket included if it is subscribed.
    ///
    /// Each poller gets the message once, however many of its sockets are subscribed, and delivers a copy to each of
    /// them as its `message` event, in the order in which they have subscribed. What is expensive to make, such as an
    /// encoded event, is therefore best shared, in an `Arc`. A message for a topic without subscribers is dropped. Each
    /// subscriber gets what one poller publishes, to any topics, and posts in the order of the calls.
    ///
    /// A poller delivers to at most 1,024 sockets in a turn and then continues in the next one; messages that come
    /// later wait. Delivery does not wait for a slow subscriber: it is up to the subscriber's `message` what to do with
    /// a message for which its output has no room. A [`Backlog`](crate::Backlog) has the usual policies.
    ///
    /// ```
    /// use lightcone_core::{Address, Context, Handler, Origin, Rejected, Socket, Topic};
    /// # extern crate alloc;
    /// use alloc::sync::Arc;
    ///
    /// /// Sends what a peer sends to those in the same room; the last digit of a peer's port is its number.
    /// struct Rooms;
    ///
    /// impl Handler for Rooms {
    ///     type Data = Topic;
    ///     type Message = Arc<[u8]>;
    ///
    ///     fn admit(&mut self, _: Origin, peer: &Address) -> Option<Topic> {
    ///         let Address::Inet(peer) = peer else { return None };
    ///         Some(Topic(u64::from(peer.port() % 10)))
    ///     }
    ///
    ///     fn open(&mut self, socket: &mut Socket<'_, Topic>, cx: &mut Context<'_, Arc<[u8]>>) {
    ///         if cx.subscribe(*socket.data, socket.token()).is_err() {
    ///             socket.close(); // the poller has as many subscriptions as it can keep
    ///         }
    ///     }
    ///
    ///     fn receive(&mut self, socket: &mut Socket<'_, Topic>, cx: &mut Context<'_, Arc<[u8]>>) {
    ///         if let Err(Rejected::Full(_)) = cx.publish(*socket.data, socket.bytes().into()) {
    ///             // some pollers do not have it: lost for them, or to be published later by `publish_rest`
    ///         }
    ///         socket.consume_all();
    ///     }
    ///
    ///     fn message(
    ///         &mut self,
    ///         socket: &mut Socket<'_, Topic>,
    ///         said: Arc<[u8]>,
    ///         _: &mut Context<'_, Arc<[u8]>>,
    ///     ) {
    ///         let _ = socket.send(&said); // a peer that does not keep up misses it
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Rejected::Full`] if the mailbox of a poller is full. The message comes back with [that
    /// poller](Unpublished::poller). The pollers before it, in the order of their ids, deliver the message; pass it to
    /// [`publish_rest`](Self::publish_rest) for the others. [`Rejected::Gone`] if the engine has stopped.
    pub fn publish(&mut self, topic: Topic, message: M) -> Result<(), Rejected<Unpublished<M>>>
    where
        M: Clone,
    {
        self.outbox.publish(Unpublished::new(topic, message, M::clone))
    }

    /// Publishes a message to the pollers that do not have it, after a [`publish`](Self::publish) that found a mailbox
    /// full.
    ///
    /// To be notified of room, [request](Self::request_room) it from the [poller](Unpublished::poller) that was full.
    /// A message that is published before the rest of an earlier one overtakes it on some pollers.
    ///
    /// # Errors
    ///
    /// The same as of `publish`.
    pub fn publish_rest(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.outbox.publish(message)
    }

    /// Subscribes a socket of this poller to a topic, usually the one of the callback: from now on it gets what is
    /// [published](Self::publish) to the topic as [`message`](Handler::message) events, including what still waits in
    /// the mailbox of its poller. A message that its poller is delivering at this moment is not among them.
    ///
    /// The subscription ends by [`unsubscribe`](Self::unsubscribe) or with the socket. A socket that is subscribed
    /// already stays so, and gets each message once. The cost of these calls does not depend on the number of
    /// subscribers or topics, but grows with that of the topics to which the socket is subscribed.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::Full`] if the sockets of the poller have [`Config::subscriptions`](crate::Config) already, and
    /// [`SubscribeError::SocketFull`] if this one has [`SUBSCRIPTIONS_MAX`](crate::SUBSCRIPTIONS_MAX).
    /// [`SubscribeError::Gone`] if the socket has ended, is about to end because its connection could not be watched,
    /// or is one of another poller. [`SubscribeError::Unsupported`] if `subscriptions` is 0, or the callback does not
    /// run on a poller.
    pub fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        self.outbox.subscribe(topic, socket)
    }

    /// Ends the subscription of a socket of this poller. No message of the topic follows, not even one that is on its
    /// way. Returns whether there was a subscription.
    pub fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        self.outbox.unsubscribe(topic, socket)
    }

    /// Ends all subscriptions of a socket of this poller. Returns how many there were.
    pub fn unsubscribe_all(&mut self, socket: Token) -> usize {
        self.outbox.unsubscribe_all(socket)
    }

    /// Returns the number of sockets of this poller that are subscribed to a topic. Those of other pollers are not
    /// known here; [`Stats::topics`](crate::Stats::topics) counts the subscriptions of each poller to all topics.
    #[must_use]
    pub fn subscribers(&self, topic: Topic) -> usize {
        self.outbox.subscribers(topic)
    }

    /// Starts a connect on this poller.
    ///
    /// The token is valid immediately. It identifies the new socket, which gets messages from `open` on. After this
    /// callback, `admit` is called with `tag`, and then `open` or `refused` follows. If the engine is shut down before
    /// `admit`, none of them is called.
    ///
    /// ```
    /// use core::convert::Infallible;
    /// use lightcone_core::{Address, Context, Handler, Origin, Socket, Token};
    ///
    /// /// Connects to another server for each accepted socket.
    /// struct Pairs {
    ///     upstream: Address,
    /// }
    ///
    /// impl Handler for Pairs {
    ///     type Data = Option<Token>; // the other socket of the pair
    ///     type Message = Infallible;
    ///
    ///     fn admit(&mut self, origin: Origin, _: &Address) -> Option<Option<Token>> {
    ///         match origin {
    ///             Origin::Accepted { .. } => Some(None),
    ///             Origin::Connecting { tag } => Some(Some(Token::from_bits(tag))),
    ///         }
    ///     }
    ///
    ///     fn open(&mut self, socket: &mut Socket<'_, Option<Token>>, cx: &mut Context<'_, Infallible>) {
    ///         if socket.data.is_some() {
    ///             return; // it was connected
    ///         }
    ///         match cx.connect(self.upstream, socket.token().to_bits()) {
    ///             Ok(upstream) => *socket.data = Some(upstream),
    ///             Err(_) => socket.close(),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConnectError::Full`] if no socket is free, or if handlers have already started as many connects in this
    /// turn as the driver accepts. [`ConnectError::Unsupported`] if the driver cannot connect to the address.
    pub fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        self.outbox.connect(to, tag)
    }

    /// Returns the local address of a socket of this poller; `None` if the socket is closed.
    #[must_use]
    pub fn local_address(&self, token: Token) -> Option<Address> {
        self.outbox.local_address(token)
    }

    /// Sets a timer of this poller, which belongs to no socket: [`Handler::timer`] is called once, with its id and the
    /// tag, in the first turn at or after the time `at`.
    ///
    /// Like the deadline of a socket, a timer has a resolution of a millisecond and is never early; if it becomes due
    /// during a turn, it is late by the rest of that turn. A time that has passed counts as the next millisecond, and
    /// one that is more than 12 days ahead as 12 days. Timers fire in the order of these times, and in any order within
    /// one millisecond. In a turn, at most 256 of them fire, after the timeouts and messages of the sockets, and none
    /// if its wait may have [left sockets out](crate::poller::Poller::on_full_wait). The others follow in later turns.
    ///
    /// ```
    /// use core::convert::Infallible;
    /// use core::time::Duration;
    /// use lightcone_core::{
    ///     Address, Backoff, CloseReason, Context, ErrorKind, Handler, Origin, Socket, TimerId,
    /// };
    ///
    /// /// Keeps a connection to a server.
    /// struct Upstream {
    ///     server: Address,
    ///     backoff: Backoff,
    /// }
    ///
    /// impl Upstream {
    ///     fn retry(&mut self, cx: &mut Context<'_, Infallible>) {
    ///         let at = cx.now() + self.backoff.delay();
    ///         cx.set_timer(at, 0).expect("one timer at a time");
    ///     }
    /// }
    ///
    /// impl Handler for Upstream {
    ///     type Data = ();
    ///     type Message = Infallible;
    ///
    ///     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
    ///         Some(())
    ///     }
    ///
    ///     fn started(&mut self, cx: &mut Context<'_, Infallible>) {
    ///         self.timer(TimerId::from_bits(0), 0, cx);
    ///     }
    ///
    ///     fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, Infallible>) {
    ///         if cx.connect(self.server, 0).is_err() {
    ///             self.retry(cx);
    ///         }
    ///     }
    ///
    ///     fn open(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
    ///         self.backoff.reset();
    ///     }
    ///
    ///     fn refused(&mut self, _: &mut Socket<'_, ()>, _: ErrorKind, cx: &mut Context<'_, Infallible>) {
    ///         self.retry(cx);
    ///     }
    ///
    ///     fn close(&mut self, socket: &mut Socket<'_, ()>, _: CloseReason, cx: &mut Context<'_, Infallible>) {
    ///         if !socket.is_stopping() {
    ///             self.retry(cx);
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimerError::Full`] if as many timers as [`Config::timers`](crate::Config) allows are set.
    /// [`TimerError::Unsupported`] if that is 0, or the callback does not run on a poller.
    pub fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        self.outbox.set_timer(at, tag)
    }

    /// Cancels a timer of this poller, so its `timer` event does not come. Returns whether it was set: the id of a
    /// timer that has fired or was cancelled, or of another poller's timer, has no effect.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.outbox.cancel_timer(timer)
    }
}

impl<M> LagCounter for Context<'_, M> {
    fn count_lag(&mut self, lag: Lag) {
        self.outbox.count_lag(lag);
    }
}
