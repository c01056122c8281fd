//! The handler of a client: requests over connections that the program opens.

use core::fmt;

use lightcone_core::{
    Address, CloseReason, Context, ErrorKind, Handler, Origin, PollerEvent, Socket, TimerId,
};

use super::connection::{ClientConnection, Outcome};
use super::fetch::{Fetch, FetchCause, FetchError, FetchPhase};
use super::limits::ClientLimits;

/// Supplies the requests of a [`Client`]. There is one source per poller.
pub trait FetchSource {
    /// One request with the consumer of its response.
    type Fetch: Fetch;

    /// Returns the next request for the connection that was opened with this tag; `None` closes it. Called when the
    /// connection is established, and after each response if the connection can be used again.
    fn next(&mut self, tag: u64) -> Option<Self::Fetch>;

    /// Called when the poller has started: the time to [connect](Context::connect).
    fn started(&mut self, cx: &mut Context<'_, <Self::Fetch as Fetch>::Message>) {
        let _ = cx;
    }

    /// Called when a timer that the source has set is due.
    fn timer(&mut self, timer: TimerId, tag: u64, cx: &mut Context<'_, <Self::Fetch as Fetch>::Message>) {
        let _ = (timer, tag, cx);
    }

    /// Called when the connect with this tag has failed. By default, the [next](Self::next) request of the tag fails
    /// with this error.
    fn refused(
        &mut self,
        tag: u64,
        error: FetchError,
        cx: &mut Context<'_, <Self::Fetch as Fetch>::Message>,
    ) {
        let _ = cx;
        if let Some(fetch) = self.next(tag) {
            fetch.failed(error);
        }
    }

    /// Called when the connection that was opened with this tag has ended. Its request, if there was one, was ended or
    /// has failed before.
    fn closed(&mut self, tag: u64, cx: &mut Context<'_, <Self::Fetch as Fetch>::Message>) {
        let _ = (tag, cx);
    }
}

/// An HTTP/1.1 client as a handler: sends the requests of a source over connections that the program opens by
/// [`Context::connect`] or an engine's handle, one request at a time on each, and keeps a connection open for the next
/// one as long as both sides allow that.
///
/// It works on every driver, without a heap. Connections that a listener accepts are rejected. How long a connect may
/// take is a setting of the engine ([`Timeouts::connect`](lightcone_core::Timeouts::connect)); [`ClientLimits`] has the
/// times of the other phases. For a bounded number of connections that are shared by requests, see
/// [`Pool`](super::Pool).
#[derive(Debug)]
pub struct Client<S> {
    source: S,
    limits: ClientLimits,
}

/// The state of one connection of a [`Client`].
pub struct ClientSocket<F> {
    tag: u64,
    connection: ClientConnection<F>,
}

impl<F> fmt::Debug for ClientSocket<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSocket").field("tag", &self.tag).finish_non_exhaustive()
    }
}

type Message<S> = <<S as FetchSource>::Fetch as Fetch>::Message;
type ClientView<'a, S> = Socket<'a, ClientSocket<<S as FetchSource>::Fetch>>;

impl<S: FetchSource> Client<S> {
    /// Creates a client with the default limits.
    pub const fn new(source: S) -> Self {
        Self::with_limits(source, ClientLimits::DEFAULT)
    }

    /// Creates a client.
    pub const fn with_limits(source: S, limits: ClientLimits) -> Self {
        Self { source, limits }
    }

    /// Returns the source.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Returns the source, to be changed.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Continues after a step of a connection: with the next request, or with the end.
    fn settle(&mut self, socket: &mut ClientView<'_, S>, outcome: Outcome<S::Fetch>) {
        match outcome {
            Outcome::Pending if socket.data.connection.is_busy() => {}
            Outcome::Pending => socket.close(),
            Outcome::Failed { fetch, error, .. } => {
                fetch.failed(error);
                // Without a reset, the server could take what it has of the request for the whole.
                socket.abort();
            }
            Outcome::Done { fetch, .. } => {
                fetch.end();
                self.begin(socket);
            }
        }
    }

    /// Begins the next request, if there is one and the connection can be used.
    fn begin(&mut self, socket: &mut ClientView<'_, S>) {
        let tag = socket.data.tag;
        let usable = socket.data.connection.is_reusable() && !socket.is_stopping();
        let next = if usable { self.source.next(tag) } else { None };
        let Some(fetch) = next else { return socket.close() };
        let outcome = socket.data.connection.start(fetch, &mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }
}

impl<S: FetchSource> Handler for Client<S> {
    type Data = ClientSocket<S::Fetch>;
    type Message = Message<S>;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Self::Data> {
        let Origin::Connecting { tag } = origin else { return None };
        Some(ClientSocket { tag, connection: ClientConnection::new() })
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Message<S>>) {
        match event {
            PollerEvent::Started => self.source.started(cx),
            PollerEvent::Timer { id, tag } => self.source.timer(id, tag, cx),
            PollerEvent::Room { .. } | PollerEvent::Stopping => {}
        }
    }

    fn open(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        self.begin(socket);
    }

    fn receive(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        let outcome = socket.data.connection.receive(&mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }

    fn writable(&mut self, socket: &mut ClientView<'_, S>, cx: &mut Context<'_, Message<S>>) {
        self.sent(socket, cx);
    }

    fn sent(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        let outcome = socket.data.connection.sent(&mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }

    fn peer_closed(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        let outcome = socket.data.connection.peer_closed(&mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }

    fn timeout(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        let outcome = socket.data.connection.timeout(&mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }

    /// Closes the connection, unless it has a request, which may be completed during the grace time.
    fn shutdown(&mut self, socket: &mut ClientView<'_, S>, _: &mut Context<'_, Message<S>>) {
        if !socket.data.connection.is_busy() {
            socket.close();
        }
    }

    fn message(
        &mut self,
        socket: &mut ClientView<'_, S>,
        message: Message<S>,
        _: &mut Context<'_, Message<S>>,
    ) {
        let outcome = socket.data.connection.message(message, &mut socket.stream, &self.limits);
        self.settle(socket, outcome);
    }

    fn refused(
        &mut self,
        socket: &mut ClientView<'_, S>,
        error: ErrorKind,
        cx: &mut Context<'_, Message<S>>,
    ) {
        let error = FetchError::new(FetchPhase::Connect, FetchCause::Refused(error));
        self.source.refused(socket.data.tag, error, cx);
    }

    fn close(
        &mut self,
        socket: &mut ClientView<'_, S>,
        reason: CloseReason,
        cx: &mut Context<'_, Message<S>>,
    ) {
        if let Outcome::Failed { fetch, error, .. } = socket.data.connection.closed(reason) {
            fetch.failed(error);
        }
        self.source.closed(socket.data.tag, cx);
    }
}

// Each of these tests creates more servers in memory than a microcontroller has room for.
#[cfg(test)]
#[cfg(not(target_os = "none"))]
mod tests;
