//! What carries the bytes of a poller's sockets.

use crate::{Address, ErrorKind, Interest, ListenerId, Sent, Token, send_one_by_one};

/// What a receive returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// This number of bytes, at least one.
    Bytes(usize),
    /// Nothing has come.
    WouldBlock,
    /// The peer has ended its side.
    End,
    /// The connection failed.
    Failed(ErrorKind),
}

/// A connect that has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connect<C> {
    /// The connection is established.
    Established(C),
    /// [`Transport::connect_result`] says what becomes of it, once the socket is writable.
    InProgress(C),
    /// It cannot begin now, and nothing will tell when it can: the listener's queue is full. It is tried again
    /// every 20 ms, until the connect timeout.
    Later,
}

/// What became of a connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectResult {
    /// The connection is established.
    Established,
    /// The connection was established, and has failed since.
    Broken(ErrorKind),
    /// It is still in progress.
    InProgress,
    /// It failed.
    Failed(ErrorKind),
}

/// What an accept returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accept<C> {
    /// A connection, and the address of its peer.
    Accepted(C, Address),
    /// A filter has turned a connection away, which is closed.
    Filtered,
    /// The connection was gone before it was accepted. There may be others.
    Retry,
    /// No connection waits.
    WouldBlock,
    /// No descriptor or memory is left. Accepting backs off.
    Exhausted,
}

/// What carries bytes: an operating system's sockets, a network stack, a serial line, a simulated network.
///
/// A [`Poller`](super::Poller) makes these calls for one connection at a time. A transport holds no policy: it neither
/// decides which connection comes first nor tries a call again. There are two kinds:
///
/// - One that tells **readiness** is asked to receive and to send, and never waits. What has become possible is told
///   to the poller by [`on_readable`](super::Poller::on_readable) and [`on_writable`](super::Poller::on_writable).
///   Readiness is a hint: a call may say "would block" all the same.
/// - One that **completes** begins to receive when [`modify`](Self::modify) or [`register`](Self::register) asks for
///   reading, and answers sends by [`Sent::InFlight`]. What has been done is told by
///   [`on_received`](super::Poller::on_received) and [`on_sent`](super::Poller::on_sent).
///
/// All methods that not every transport needs have a default.
pub trait Transport {
    /// Whether [`connect`](Self::connect) is implemented. If it is not, no slots are kept ready for connects.
    const CONNECTS: bool = true;

    /// Whether [`undelivered`](Self::undelivered) is implemented. If it is not, nothing is asked for.
    const TELLS_UNDELIVERED: bool = false;

    /// A connection that no poller watches yet: what an accept and a connect return, and what crosses threads. Small,
    /// since it goes through mailboxes.
    type Unregistered;

    /// A connection as its poller keeps it.
    type Registered;

    /// What connections are accepted from. [`Infallible`](core::convert::Infallible) if there is none.
    type Listener;

    /// Returns whether the transport completes. Such a one is never asked to receive, so that a poller which stops takes
    /// what it has been told of by then for all that has come.
    fn completes(&self) -> bool {
        false
    }

    /// Takes over a connection, which belongs to `token` from now on, and begins to watch it.
    ///
    /// # Errors
    ///
    /// When it cannot be watched. Then it is closed.
    fn register(
        &mut self,
        connection: Self::Unregistered,
        token: Token,
        interest: Interest,
    ) -> Result<Self::Registered, ErrorKind>;

    /// Changes what is watched from `old` to `new`.
    ///
    /// To a transport that completes, an interest in reading means that receives are wanted, one after the other, and
    /// that bytes which were offered before and not taken are offered again; without it, that they stay where they are.
    /// It holds until it is changed: after a receive there is no second call for the next. This may be called within
    /// [`on_received`](super::Poller::on_received), before it is known how many bytes are left: begin no receive then,
    /// whose bytes would overtake them.
    ///
    /// # Errors
    ///
    /// When it cannot be watched. Then the socket ends.
    fn modify(
        &mut self,
        connection: &mut Self::Registered,
        token: Token,
        old: Interest,
        new: Interest,
    ) -> Result<(), ErrorKind>;

    /// Receives into a buffer that is not empty. A transport that completes is never asked.
    fn receive(&mut self, connection: &mut Self::Registered, token: Token, buffer: &mut [u8]) -> Received;

    /// Sends bytes, of which there is at least one.
    fn send(&mut self, connection: &mut Self::Registered, token: Token, bytes: &[u8]) -> Sent;

    /// Sends several pieces by one call, as if they were one. The default sends them one by one.
    fn send_vectored(&mut self, connection: &mut Self::Registered, token: Token, pieces: &[&[u8]]) -> Sent {
        send_one_by_one(pieces, |piece| self.send(connection, token, piece))
    }

    /// Cancels the send that is in flight. Returns how many bytes were sent; `None` if
    /// [`on_sent`](super::Poller::on_sent) follows, which it must. It may be called again before that.
    fn cancel_send(&mut self, connection: &mut Self::Registered, token: Token) -> Option<usize> {
        let _ = (connection, token);
        Some(0)
    }

    /// Shuts down writing: the peer sees the end of the stream.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn shutdown_write(&mut self, connection: &mut Self::Registered, token: Token) -> Result<(), ErrorKind>;

    /// Closes a connection that was watched for `interest`, by a reset if `reset` and where that is possible. The
    /// token is stale: nothing must be told of it any more.
    fn close(&mut self, connection: Self::Registered, token: Token, interest: Interest, reset: bool);

    /// Closes a connection that no poller takes over. The default drops it.
    fn reject(&mut self, connection: Self::Unregistered) {
        drop(connection);
    }

    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// When it fails at once. The default cannot connect.
    fn connect(&mut self, to: &Address) -> Result<Connect<Self::Unregistered>, ErrorKind> {
        let _ = to;
        Err(ErrorKind::Unsupported)
    }

    /// Returns what became of a connect in progress, whose socket is writable.
    fn connect_result(&mut self, connection: &mut Self::Registered, token: Token) -> ConnectResult {
        let _ = (connection, token);
        ConnectResult::Established
    }

    /// Returns how many bytes the system has taken of a connection's output and not delivered yet: the peer's system
    /// has not acknowledged them. `None`: it is not known.
    ///
    /// It is asked before a socket ends because its peer seems to take nothing, and eight times on the way there, if
    /// [`TELLS_UNDELIVERED`](Self::TELLS_UNDELIVERED). A buffer of the system that drains is progress then, also while
    /// it is too full to take more.
    fn undelivered(&mut self, connection: &mut Self::Registered, token: Token) -> Option<usize> {
        let _ = (connection, token);
        None
    }

    /// Returns the address of this side, if there is one.
    fn local_address(&self, connection: &Self::Registered) -> Option<Address> {
        let _ = connection;
        None
    }

    /// Begins to watch a listener: [`on_acceptable`](super::Poller::on_acceptable) is called when connections wait.
    ///
    /// # Errors
    ///
    /// When it cannot be watched now. It is tried again later.
    fn watch_listener(&mut self, listener: &mut Self::Listener, id: ListenerId) -> Result<(), ErrorKind> {
        let _ = (listener, id);
        Ok(())
    }

    /// Stops watching a listener for a while: its connections wait.
    fn unwatch_listener(&mut self, listener: &mut Self::Listener, id: ListenerId) {
        let _ = (listener, id);
    }

    /// Closes a listener, which is `watched` or not.
    fn close_listener(&mut self, listener: Self::Listener, id: ListenerId, watched: bool) {
        let _ = (listener, id, watched);
    }

    /// Accepts a connection that waits at a listener. It may ask a filter of the program's, which may panic.
    fn accept(&mut self, listener: &mut Self::Listener, id: ListenerId) -> Accept<Self::Unregistered> {
        let _ = (listener, id);
        Accept::WouldBlock
    }

    /// Turns a connection that this transport cannot watch as it is into one that it can; `select`, for example, takes
    /// low descriptors only.
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
