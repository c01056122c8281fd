//! The interface to what carries the bytes of a poller's sockets.

use crate::{Address, ErrorKind, Interest, ListenerId, Sent, Token, send_one_by_one};

/// The result of a receive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Received {
    /// The number of bytes received, at least one.
    Bytes(usize),
    /// No bytes are available.
    WouldBlock,
    /// The peer has ended its stream.
    End,
    /// The connection failed.
    Failed(ErrorKind),
}

/// The result of beginning to connect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Connect<C> {
    /// The connection is established.
    Established(C),
    /// The connect is in progress. [`Transport::connect_result`] returns its result once the socket is writable.
    InProgress(C),
    /// The connect cannot begin now because the listener's queue is full, and no event will signal when it can. The
    /// poller tries again every 20 ms, until the connect timeout.
    Later,
}

/// The result of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ConnectResult {
    /// The connection is established.
    Established,
    /// The connection was established and has failed since.
    Broken(ErrorKind),
    /// It is still in progress.
    InProgress,
    /// It failed.
    Failed(ErrorKind),
}

/// The result of an accept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Accept<C> {
    /// A connection, and the address of its peer.
    Accepted(C, Address),
    /// A filter has turned a connection away, and the transport has closed it.
    Filtered,
    /// The connection was closed before it was accepted. There may be others.
    Retry,
    /// No connection is waiting.
    WouldBlock,
    /// No descriptor or memory is left, or the listener has failed. Accepting backs off.
    Exhausted,
}

/// A carrier of bytes: an operating system's sockets, a network stack, a serial line, or a simulated network.
///
/// A [`Poller`](super::Poller) makes these calls for one connection at a time. A transport implements no policy: it
/// neither decides which connection comes first nor repeats a call. There are two kinds:
///
/// - A **readiness** transport receives and sends when it is called, and never waits. Its driver reports what has
///   become possible by [`on_readable`](super::Poller::on_readable) and [`on_writable`](super::Poller::on_writable).
///   Readiness is a hint: a call may still return "would block".
/// - A **completion** transport begins to receive when [`modify`](Self::modify) or [`register`](Self::register)
///   requests reading, and returns [`Sent::InFlight`] for sends. Its driver reports what was done by
///   [`on_received`](super::Poller::on_received) and [`on_sent`](super::Poller::on_sent).
///
/// Methods that only some transports need have a default. The [crate's documentation](crate#a-run-loop) contains a
/// complete readiness transport.
pub trait Transport {
    /// Whether [`connect`](Self::connect) is implemented. If it is not, no slots are reserved for connects.
    const CONNECTS: bool = true;

    /// Whether [`undelivered`](Self::undelivered) is implemented. If it is not, the poller does not call it.
    const REPORTS_UNDELIVERED: bool = false;

    /// A connection that no poller watches yet: accepting and connecting return it, and it moves between threads. It
    /// should be small, because it goes through mailboxes.
    type Unregistered;

    /// A connection as its poller keeps it.
    type Registered;

    /// The source of accepted connections. [`Infallible`](core::convert::Infallible) if there is none.
    type Listener;

    /// Returns whether this is a completion transport. The poller never calls [`receive`](Self::receive) on one, so to
    /// a poller that stops, the bytes reported by then are all that have arrived.
    fn completes(&self) -> bool {
        false
    }

    /// Takes over a connection, which belongs to `token` from now on, and begins to watch it.
    ///
    /// # Errors
    ///
    /// If it cannot be watched. The transport closes it.
    fn register(
        &mut self,
        connection: Self::Unregistered,
        token: Token,
        interest: Interest,
    ) -> Result<Self::Registered, ErrorKind>;

    /// Changes what is watched from `old` to `new`.
    ///
    /// For a completion transport, an interest in reading is a request for receives, one after the other, and for the
    /// bytes that were offered before and not taken. Without that interest, such bytes stay in the transport. The
    /// interest holds until it is changed: there is no second call after a receive. The poller may call this within
    /// [`on_received`](super::Poller::on_received), before it is known how many bytes are left. The transport must not
    /// begin a receive then, because new bytes would overtake those that are left.
    ///
    /// # Errors
    ///
    /// If it cannot be watched. The socket ends.
    fn modify(
        &mut self,
        connection: &mut Self::Registered,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind>;

    /// Receives into a buffer that is not empty. Never called on a completion transport.
    fn receive(&mut self, connection: &mut Self::Registered, token: Token, buffer: &mut [u8]) -> Received;

    /// Sends `bytes`, which is not empty.
    fn send(&mut self, connection: &mut Self::Registered, token: Token, bytes: &[u8]) -> Sent;

    /// Sends several pieces in one call, as if they were one. The default sends them one by one.
    fn send_vectored(&mut self, connection: &mut Self::Registered, token: Token, pieces: &[&[u8]]) -> Sent {
        send_one_by_one(pieces, |piece| self.send(connection, token, piece))
    }

    /// Cancels the send that is in flight. Returns how many bytes were sent, or `None` if the driver reports that by
    /// [`on_sent`](super::Poller::on_sent), which it then must do. It may be called again before that.
    fn cancel_send(&mut self, connection: &mut Self::Registered, token: Token) -> Option<usize> {
        let _ = (connection, token);
        Some(0)
    }

    /// Shuts down writing: the peer receives the end of the stream.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn shutdown_write(&mut self, connection: &mut Self::Registered, token: Token) -> Result<(), ErrorKind>;

    /// Closes a connection that was watched for `interest`, by a reset if `reset` is set and resets are possible. The
    /// token is stale: the driver must not report anything for it any more.
    fn close(&mut self, connection: Self::Registered, token: Token, interest: Interest, reset: bool);

    /// Closes a connection that no poller takes over. The default drops it.
    fn reject(&mut self, connection: Self::Unregistered) {
        drop(connection);
    }

    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// If it fails at once. The default cannot connect.
    fn connect(&mut self, to: Address) -> Result<Connect<Self::Unregistered>, ErrorKind> {
        let _ = to;
        Err(ErrorKind::Unsupported)
    }

    /// Returns the result of a connect in progress, whose socket is writable.
    fn connect_result(&mut self, connection: &mut Self::Registered, token: Token) -> ConnectResult {
        let _ = (connection, token);
        ConnectResult::Established
    }

    /// Returns how many bytes of a connection's output the system has taken and not delivered yet, that is, which the
    /// peer's system has not acknowledged. `None` if that is unknown.
    ///
    /// If [`REPORTS_UNDELIVERED`](Self::REPORTS_UNDELIVERED) is set, the poller calls it eight times within the timeout
    /// of a peer that seems to take nothing, and again before that timeout ends the socket. A system buffer that drains
    /// is then progress, even while it is too full to take more. The poller also calls it before it resets a
    /// connection, to count the bytes that are lost.
    fn undelivered(&mut self, connection: &mut Self::Registered, token: Token) -> Option<usize> {
        let _ = (connection, token);
        None
    }

    /// Returns the local address, if there is one.
    fn local_address(&self, connection: &Self::Registered) -> Option<Address> {
        let _ = connection;
        None
    }

    /// Begins to watch a listener: the driver calls [`on_acceptable`](super::Poller::on_acceptable) when connections
    /// wait.
    ///
    /// # Errors
    ///
    /// If it cannot be watched now. The poller tries again later.
    fn watch_listener(&mut self, listener: &mut Self::Listener, id: ListenerId) -> Result<(), ErrorKind> {
        let _ = (listener, id);
        Ok(())
    }

    /// Stops watching a listener for a while. Its connections wait.
    fn unwatch_listener(&mut self, listener: &mut Self::Listener, id: ListenerId) {
        let _ = (listener, id);
    }

    /// Closes a listener. `watched` is whether it is watched.
    fn close_listener(&mut self, listener: Self::Listener, id: ListenerId, watched: bool) {
        let _ = (listener, id, watched);
    }

    /// Accepts a connection that waits at a listener. It may call a filter of the program, which may panic.
    fn accept(&mut self, listener: &mut Self::Listener, id: ListenerId) -> Accept<Self::Unregistered> {
        let _ = (listener, id);
        Accept::WouldBlock
    }

    /// Converts a connection that this transport cannot watch into one that it can. `select`, for example, only takes
    /// low descriptors.
    ///
    /// # Errors
    ///
    /// The connection, if that is not possible now. Accepting backs off.
    fn make_watchable(
        &mut self,
        connection: Self::Unregistered,
    ) -> Result<Self::Unregistered, Self::Unregistered> {
        Ok(connection)
    }
}
