//! The client: a handler that makes the opening handshake over connections that the program opens, and then has the
//! same sessions as a server.

use core::fmt;
use core::str;
use core::time::Duration;

use lightcone_core::{
    Address, CloseReason, Context, ErrorKind, Handler, Input, Instant, Origin, Output, Socket, TimerId,
};
use lightcone_http::client::{
    ClientLimits, ClientRequest, InvalidRequest, InvalidResponse, Piece, RequestFields, ResponseHead,
    ResponseReader, Uri,
};
use lightcone_http::{Method, Outlet, RequestId, RequestMessage, State, Status};

use crate::channel::{Carrier, SocketCarrier, SocketFacts};
use crate::codec::generator::{MaskGenerator, MaskSource};
use crate::codec::handshake::{
    AcceptKey, KEY_LENGTH, ResponseError, can_be_offered, check_response, fresh_key,
};
use crate::codec::header::{CONTROL_MAX, HEADER_MAX, Role};
use crate::codec::receiver::CAPACITY_MIN;
use crate::session::{Session, SessionIo, SessionOutcome, WebSocket, WebSocketConfig};

/// The least output in which a client can send its control frames.
const OUTPUT_MIN: usize = HEADER_MAX + CONTROL_MAX;

/// The limits of the opening handshake. Set some and take the others from [`DEFAULT`](Self::DEFAULT): later versions
/// add some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpeningLimits {
    /// How long the handshake may take, from the established connection to the last byte of the response's head.
    pub time: Duration,
    /// The maximum size of a response's head in bytes. The capacity of the connection's input is a limit as well.
    pub head: usize,
    /// The maximum number of field lines in a head.
    pub fields: u16,
    /// The maximum number of interim responses (1xx) before the final one.
    pub interims: u8,
}

impl OpeningLimits {
    /// 10 seconds, 8 KiB, 100 field lines and 8 interim responses.
    pub const DEFAULT: Self = Self { time: Duration::from_secs(10), head: 8 << 10, fields: 100, interims: 8 };

    const fn client_limits(&self) -> ClientLimits {
        let Self { head, fields, interims, .. } = *self;
        ClientLimits { head, fields, interims, ..ClientLimits::DEFAULT }
    }
}

impl Default for OpeningLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The request that opens a connection. Nothing is stored: the parts borrow from the program while the head is written.
///
/// ```
/// use lightcone_http::client::Uri;
/// use lightcone_websocket::OpeningRequest;
///
/// let request = OpeningRequest {
///     protocols: "chat.v2, chat.v1",
///     fields: &[("Origin", "https://chat.example")],
///     ..OpeningRequest::new(Uri::parse_ws("ws://chat.example/rooms?name=all")?)
/// };
/// # drop(request);
/// # Ok::<(), lightcone_http::client::UriError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OpeningRequest<'a> {
    /// The URI, see [`Uri::parse_ws`].
    pub uri: Uri<'a>,
    /// The subprotocols that are offered, in the order of preference, separated by commas: tokens that are all
    /// different. Empty for none.
    pub protocols: &'a str,
    /// Names and values of further fields, such as `Origin`, `Authorization` or `Cookie`. Those of the handshake
    /// (`Sec-WebSocket-..`) and those that a [`ClientRequest`] refuses are refused.
    pub fields: &'a dyn RequestFields,
}

impl<'a> OpeningRequest<'a> {
    /// Creates a request without subprotocols and further fields, to be changed by a struct update.
    #[must_use]
    pub const fn new(uri: Uri<'a>) -> Self {
        Self { uri, protocols: "", fields: &() }
    }

    /// Queues the request with a fresh key. Returns what the response must have; `None` if there is no room now.
    fn send(
        &self,
        masks: &mut dyn MaskSource,
        output: &mut Output<'_>,
    ) -> Result<Option<AcceptKey>, OpeningError> {
        const RESERVED: &[u8] = b"sec-websocket-";
        let is_reserved = |name: &str| {
            name.as_bytes().get(..RESERVED.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED))
        };
        if (0..).map_while(|index| self.fields.field(index)).any(|(name, _)| is_reserved(name)) {
            return Err(OpeningError::Request(InvalidRequest::FieldName));
        }
        if !can_be_offered(self.protocols) {
            return Err(OpeningError::Protocols);
        }
        let key = fresh_key(masks);
        let fields = &OpeningFields { key, request: self };
        let request = ClientRequest { fields, ..ClientRequest::get(self.uri) };
        let head = request.upgrade("websocket").map_err(OpeningError::Request)?;
        if head.length() > output.limit() {
            return Err(OpeningError::RequestTooLarge);
        }
        Ok(if head.send(output).is_ok() { AcceptKey::new(&key) } else { None })
    }
}

/// The fields of a request with those of the handshake in front.
#[derive(Debug)]
struct OpeningFields<'a> {
    key: [u8; KEY_LENGTH],
    request: &'a OpeningRequest<'a>,
}

impl RequestFields for OpeningFields<'_> {
    fn field(&self, index: usize) -> Option<(&str, &str)> {
        let Self { key, request } = self;
        match index {
            0 => Some(("Sec-WebSocket-Key", str::from_utf8(key).unwrap_or_default())),
            1 => Some(("Sec-WebSocket-Version", "13")),
            2 if !request.protocols.is_empty() => Some(("Sec-WebSocket-Protocol", request.protocols)),
            _ => request.fields.field(index - if request.protocols.is_empty() { 2 } else { 3 }),
        }
    }
}

/// The response that has opened a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OpeningResponse<'a> {
    /// The head of the response, whose status is 101.
    pub head: ResponseHead<'a>,
    /// The subprotocol that the server has selected, one of those that were offered.
    pub protocol: Option<&'a str>,
}

/// Why a connection was not opened.
///
/// ```
/// use lightcone_websocket::{OpeningError, ResponseError};
///
/// let error = OpeningError::Response(ResponseError::Protocol);
/// assert_eq!(
///     error.to_string(),
///     "the response does not open a WebSocket: it selects a subprotocol that was not offered"
/// );
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningError {
    /// The connect failed.
    Refused(ErrorKind),
    /// The handshake took longer than [`OpeningLimits::time`].
    TimedOut,
    /// The connection ended before the response was complete.
    Closed(CloseReason),
    /// The request cannot be sent: a mistake of the program.
    Request(InvalidRequest),
    /// The [subprotocols](OpeningRequest::protocols) are not a list of tokens that are all different.
    Protocols,
    /// The head of the request is longer than the output of a connection may be.
    RequestTooLarge,
    /// The input or the output of a connection is so small that no WebSocket could go on:
    /// [`Config`](lightcone_core::Config) determines them.
    Buffers,
    /// The bytes that the server sent are not an acceptable response of HTTP.
    Invalid(InvalidResponse),
    /// The server has responded with a status other than 101, such as a redirect, which the client does not follow.
    Status(Status),
    /// The response with status 101 does not open a WebSocket.
    Response(ResponseError),
    /// The poller stops.
    Stopping,
}

impl fmt::Display for OpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{error} while connecting"),
            Self::TimedOut => f.write_str("timed out in the opening handshake"),
            Self::Closed(reason) => write!(f, "the connection ended in the opening handshake ({reason})"),
            Self::Request(error) => write!(f, "the request is invalid ({error})"),
            Self::Protocols => {
                f.write_str("the subprotocols are invalid; allowed: different tokens, separated by commas")
            }
            Self::RequestTooLarge => f.write_str("the head of the request is too large"),
            Self::Buffers => write!(
                f,
                "the buffers of a connection are too small; allowed: at least {CAPACITY_MIN} bytes of input and \
                 {OUTPUT_MIN} of output"
            ),
            Self::Invalid(error) => write!(f, "the response is invalid ({error})"),
            Self::Status(status) => write!(f, "the server has refused the handshake with status {status}"),
            Self::Response(error) => write!(f, "the response does not open a WebSocket: {error}"),
            Self::Stopping => f.write_str("stopped in the opening handshake"),
        }
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for OpeningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for OpeningError {}

/// Supplies the connections of a [`WebSocketClient`], and is the state that their handlers share. There is one source
/// per poller. A program should have at most one connection to an address in its opening handshake at a time, and wait
/// after one that has failed, such as with a [`Backoff`](lightcone_core::Backoff) (RFC 6455, 4.1 and 7.2.3).
///
/// For each connection that the program opens with a tag, the client calls, in this order (`?`: at most once):
///
/// ```text
/// request?  accept  ( the callbacks of the handler )  closed      or  request?  failed
/// ```
pub trait WebSocketSource: State + Sized {
    /// The handler of a connection.
    type WebSocket: WebSocket<Self>;

    /// The limits of the opening handshake.
    const OPENING: OpeningLimits = OpeningLimits::DEFAULT;

    /// Returns the request for the connection that was opened with this tag. Called when it is established, also again
    /// for lack of room, and when the response has arrived: it must be the same then.
    fn request(&self, tag: u64) -> OpeningRequest<'_>;

    /// Returns the handler of the connection, after the server has accepted the handshake.
    fn accept(&mut self, tag: u64, response: &OpeningResponse<'_>) -> Self::WebSocket;

    /// Called when the poller has started: the time to [connect](Context::connect).
    fn started(&mut self, cx: &mut Context<'_, RequestMessage<Self::Message>>) {
        let _ = cx;
    }

    /// Called when a timer that the source has set is due, for example to connect again.
    fn timer(&mut self, timer: TimerId, tag: u64, cx: &mut Context<'_, RequestMessage<Self::Message>>) {
        let _ = (timer, tag, cx);
    }

    /// Called once if the connection with this tag was not opened, and has ended. To connect again, set a timer with a
    /// growing delay ([`Backoff`](lightcone_core::Backoff)): a server that is down refuses each connect at once.
    fn failed(&mut self, tag: u64, error: OpeningError, cx: &mut Context<'_, RequestMessage<Self::Message>>) {
        let _ = (tag, error, cx);
    }

    /// Called once when the connection with this tag, which was open, has ended: after
    /// [`WebSocket::closed`], when the TCP connection has ended as well.
    fn closed(&mut self, tag: u64, cx: &mut Context<'_, RequestMessage<Self::Message>>) {
        let _ = (tag, cx);
    }
}

/// A WebSocket client as a handler: makes the opening handshake over each connection that the program opens by
/// [`Context::connect`] or an engine's handle, and then calls the same [`WebSocket`] as a server does.
///
/// It works on every driver, without a heap. Connections that a listener accepts are rejected. How long a connect may
/// take is a setting of the engine ([`Timeouts::connect`](lightcone_core::Timeouts::connect)). After the close
/// handshake it waits for the server to end the connection, for [`WebSocketConfig::close`] at most.
///
/// A message of the program is posted to the [identity](crate::Channel::id) of a connection, or to all. A connection
/// that is not open drops it. A connection has at most 88 bytes in its slot or, if that is more, 32 in addition to its
/// handler, and no buffer while it is idle.
///
/// ```
/// use lightcone_core::Address;
/// use lightcone_core::Context;
/// use lightcone_http::client::Uri;
/// use lightcone_http::{Full, RequestMessage, State};
/// use lightcone_websocket::{
///     Channel, CloseCode, Ending, MaskGenerator, Message, OpeningError, OpeningRequest, OpeningResponse, WebSocket,
///     WebSocketClient, WebSocketSource,
/// };
///
/// /// Connects to one server.
/// struct Greeter {
///     server: Address,
/// }
///
/// impl State for Greeter {
///     type Message = core::convert::Infallible;
/// }
///
/// impl WebSocketSource for Greeter {
///     type WebSocket = Greeting;
///
///     fn started(&mut self, cx: &mut Context<'_, RequestMessage<Self::Message>>) {
///         if let Err(error) = cx.connect(self.server, 0) {
///             println!("cannot connect: {error}");
///         }
///     }
///
///     fn request(&self, _tag: u64) -> OpeningRequest<'_> {
///         OpeningRequest::new(Uri::parse_ws("ws://127.0.0.1:8080/ws").expect("a valid URI"))
///     }
///
///     fn accept(&mut self, _tag: u64, _: &OpeningResponse<'_>) -> Greeting {
///         Greeting
///     }
///
///     fn failed(&mut self, _tag: u64, error: OpeningError, _: &mut Context<'_, RequestMessage<Self::Message>>) {
///         println!("{error}");
///     }
/// }
///
/// /// Sends a greeting and closes after the response.
/// struct Greeting;
///
/// impl WebSocket<Greeter> for Greeting {
///     fn open(&mut self, channel: &mut Channel<'_, Greeter>) {
///         let _ = channel.send_text("hello"); // there is room at first
///     }
///
///     fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, Greeter>) -> Result<(), Full> {
///         println!("{message}");
///         channel.close(CloseCode::NORMAL, "")
///     }
///
///     fn closed(&mut self, ending: Ending<'_>, _: &mut Channel<'_, Greeter>) {
///         println!("{ending:?}");
///     }
/// }
///
/// # let random = [7; 32];
/// let server = Address::Inet(([127, 0, 0, 1], 8080).into());
/// let client = WebSocketClient::new(Greeter { server }, MaskGenerator::new(&random)); // the handler of an engine
/// # drop(client);
/// ```
#[derive(Debug)]
pub struct WebSocketClient<S, M = MaskGenerator> {
    source: S,
    masks: M,
}

impl<S: WebSocketSource, M: MaskSource> WebSocketClient<S, M> {
    /// Creates a client. `masks` must be [unpredictable](MaskSource).
    pub const fn new(source: S, masks: M) -> Self {
        Self { source, masks }
    }

    /// Returns the source.
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Returns the source, to be changed.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }
}

/// The state of one connection of a [`WebSocketClient`].
pub struct WebSocketSocket<H> {
    tag: u64,
    stage: ClientStage<H>,
}

impl<H> fmt::Debug for WebSocketSocket<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketSocket").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Where a connection is in its life.
enum ClientStage<H> {
    /// The request was not sent.
    Connecting,
    /// The response is incomplete.
    Opening {
        reader: ResponseReader,
        accept: AcceptKey,
    },
    /// It will not be opened. The source is notified when the connection has ended.
    Failed(OpeningError),
    Open(Session<H>),
    /// The handler was notified of the end. The connection is about to end.
    Ending,
}

type Cx<'a, S> = Context<'a, RequestMessage<<S as State>::Message>>;
type View<'a, S> = Socket<'a, WebSocketSocket<<S as WebSocketSource>::WebSocket>>;

/// The socket of a client, for a session.
struct ClientIo<'t, S: State> {
    input: Input<'t>,
    output: Output<'t>,
    source: &'t mut S,
    outlet: Outlet<'t, S>,
    masks: &'t mut dyn MaskSource,
    wake: &'t mut Option<Instant>,
    facts: SocketFacts,
}

impl<S: State> SessionIo for ClientIo<'_, S> {
    const ROLE: Role = Role::Client;
    type State = S;

    fn split(&mut self) -> (&mut [u8], Carrier<'_, S>) {
        let Self { input, output, source, outlet, masks, wake, facts } = self;
        let carrier = SocketCarrier {
            state: &mut **source,
            outlet: outlet.reborrow(),
            output: output.reborrow(),
            masks: &mut **masks,
            wake,
            facts: *facts,
        };
        (input.bytes_mut(), Carrier::Socket(carrier))
    }

    fn consume(&mut self, n: usize) {
        self.input.consume(n);
    }

    fn capacity(&self) -> usize {
        self.input.capacity()
    }
}

impl<S: WebSocketSource, M: MaskSource> WebSocketClient<S, M> {
    /// Sends the request, or waits for room.
    fn begin(&mut self, socket: &mut View<'_, S>) {
        let capacity = socket.stream.capacity();
        let (_, mut output) = socket.stream.split();
        let limit = output.limit();
        if limit == 0 {
            return; // it has ended already: `close` follows, with the reason
        }
        let sent = if capacity < CAPACITY_MIN || limit < OUTPUT_MIN {
            Err(OpeningError::Buffers)
        } else {
            self.source.request(socket.data.tag).send(&mut self.masks, &mut output)
        };
        match sent {
            Ok(Some(accept)) => {
                let reader = ResponseReader::new(Method::Get, &S::OPENING.client_limits());
                socket.data.stage = ClientStage::Opening { reader, accept };
            }
            Ok(None) => {} // `writable` follows
            Err(error) => fail(socket, error),
        }
    }

    /// Reads the response, and opens the session when it is complete.
    fn read_response(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        let limits = S::OPENING.client_limits();
        loop {
            let Socket { stream, data } = socket;
            let ClientStage::Opening { reader, accept } = &mut data.stage else { return };
            let input = stream.bytes();
            let head = match reader.next(input, &limits) {
                Ok(Piece::Interim(head)) => {
                    let length = head.as_bytes().len();
                    stream.consume(length);
                    continue;
                }
                Ok(Piece::Head(head)) => head,
                Ok(Piece::More) if input.len() < stream.capacity() => return,
                // A reader that returns anything else has returned a head before.
                Ok(Piece::More | Piece::Framing(_) | Piece::Data(_) | Piece::Trailers(_) | Piece::End) => {
                    return fail(socket, OpeningError::Invalid(InvalidResponse::HeadTooLarge));
                }
                Err(error) => return fail(socket, OpeningError::Invalid(error)),
            };
            if head.status != Status::SWITCHING_PROTOCOLS {
                let status = head.status;
                return fail(socket, OpeningError::Status(status));
            }
            let offered = self.source.request(data.tag).protocols;
            let protocol = match check_response(head.fields(), accept, offered) {
                Ok(protocol) => protocol,
                Err(error) => return fail(socket, OpeningError::Response(error)),
            };
            let handler = self.source.accept(data.tag, &OpeningResponse { head, protocol });
            // What follows the head are the first frames.
            let length = head.as_bytes().len();
            stream.consume(length);
            stream.set_deadline(None);
            data.stage = ClientStage::Open(Session::new(handler));
            return self.run(socket, cx, |_, _| SessionOutcome::More);
        }
    }

    /// Lets the session of a connection handle an event, and then go on; ends the connection if it is over.
    fn run(
        &mut self,
        socket: &mut View<'_, S>,
        cx: &mut Cx<'_, S>,
        event: impl FnOnce(&mut Session<S::WebSocket>, &mut ClientIo<'_, S>) -> SessionOutcome,
    ) {
        let Socket { stream, data } = socket;
        let ClientStage::Open(session) = &mut data.stage else { return };
        let (now, mut wake) = (stream.now(), None);
        let facts = SocketFacts { token: stream.token(), peer: stream.packed_peer(), now };
        let (input, output) = stream.split();
        let (source, masks) = (&mut self.source, &mut self.masks);
        let outlet = Outlet::new(cx.outbox());
        let mut io = ClientIo { input, output, source, outlet, masks, wake: &mut wake, facts };
        let mut outcome = event(session, &mut io);
        if outcome == SessionOutcome::More {
            outcome = session.advance(&mut io);
        }
        if let Some(at) = wake {
            // A time of zero must not keep the poller busy.
            stream.set_deadline(Some(at.max(now + Duration::from_millis(1))));
        }
        match outcome {
            SessionOutcome::More => return,
            // The server ends the connection first, so that its address is free at once for the client (RFC 6455,
            // 7.1.1).
            SessionOutcome::Closed if stream.peer_closed() => stream.close(),
            SessionOutcome::Closed => {
                let WebSocketConfig { close, .. } = S::WebSocket::CONFIG;
                stream.consume_all();
                stream.set_deadline(Some(now + close));
            }
            SessionOutcome::Failed => stream.linger(),
            SessionOutcome::Left => stream.close(),
            SessionOutcome::Lost => stream.abort(),
        }
        data.stage = ClientStage::Ending;
        // The socket may live on for a while.
        cx.unsubscribe_all(facts.token);
    }
}

/// Ends a connection that is not open.
fn fail<H>(socket: &mut Socket<'_, WebSocketSocket<H>>, error: OpeningError) {
    socket.data.stage = ClientStage::Failed(error);
    socket.stream.set_deadline(None);
    socket.stream.abort();
}

impl<S: WebSocketSource, M: MaskSource> Handler for WebSocketClient<S, M> {
    type Data = WebSocketSocket<S::WebSocket>;
    type Message = RequestMessage<S::Message>;

    /// `sent` is not needed: a session continues on `writable`.
    fn wants_sent(&self) -> bool {
        false
    }

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Self::Data> {
        let Origin::Connecting { tag } = origin else { return None };
        Some(WebSocketSocket { tag, stage: ClientStage::Connecting })
    }

    fn started(&mut self, cx: &mut Cx<'_, S>) {
        self.source.started(cx);
    }

    fn timer(&mut self, timer: TimerId, tag: u64, cx: &mut Cx<'_, S>) {
        self.source.timer(timer, tag, cx);
    }

    fn open(&mut self, socket: &mut View<'_, S>, _: &mut Cx<'_, S>) {
        if socket.stream.is_stopping() {
            return fail(socket, OpeningError::Stopping);
        }
        // The session has times of its own.
        socket.stream.set_active(true);
        let end = socket.stream.now() + S::OPENING.time;
        socket.stream.set_deadline(Some(end));
        self.begin(socket);
    }

    fn receive(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        match socket.data.stage {
            ClientStage::Opening { .. } => self.read_response(socket, cx),
            ClientStage::Open(_) => self.run(socket, cx, |_, _| SessionOutcome::More),
            // A server that speaks first is no server of HTTP; its bytes are read as a response, when there is one.
            ClientStage::Connecting => {}
            ClientStage::Failed(_) | ClientStage::Ending => socket.stream.consume_all(),
        }
    }

    fn writable(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        if matches!(socket.data.stage, ClientStage::Connecting) {
            self.begin(socket);
        }
        self.receive(socket, cx);
    }

    fn peer_closed(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        // First, so that no frame that has arrived is missed.
        self.receive(socket, cx);
        match socket.data.stage {
            ClientStage::Connecting | ClientStage::Opening { .. } => {
                fail(socket, OpeningError::Invalid(InvalidResponse::Truncated));
            }
            ClientStage::Open(_) => self.run(socket, cx, |session, io| session.peer_closed(io)),
            ClientStage::Ending if !socket.stream.is_closing() => socket.stream.close(),
            ClientStage::Failed(_) | ClientStage::Ending => {}
        }
    }

    fn timeout(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        match socket.data.stage {
            ClientStage::Connecting | ClientStage::Opening { .. } => fail(socket, OpeningError::TimedOut),
            ClientStage::Open(_) => self.run(socket, cx, |session, io| session.wake(io)),
            // The server has not ended the connection in time.
            ClientStage::Ending if socket.stream.queued() == 0 => socket.stream.close(),
            ClientStage::Failed(_) | ClientStage::Ending => socket.stream.abort(),
        }
    }

    /// Lets the handlers of open connections close them during the grace time, and ends the others.
    fn shutdown(&mut self, socket: &mut View<'_, S>, cx: &mut Cx<'_, S>) {
        match socket.data.stage {
            ClientStage::Connecting | ClientStage::Opening { .. } => fail(socket, OpeningError::Stopping),
            ClientStage::Open(_) => self.run(socket, cx, |session, io| session.shutdown(io)),
            ClientStage::Failed(_) | ClientStage::Ending => {}
        }
    }

    fn message(&mut self, socket: &mut View<'_, S>, message: Self::Message, cx: &mut Cx<'_, S>) {
        if let Some(message) = message.open(RequestId::new(socket.stream.token(), 0)) {
            self.run(socket, cx, |session, io| session.message(message, io));
        }
    }

    fn refused(&mut self, socket: &mut View<'_, S>, error: ErrorKind, cx: &mut Cx<'_, S>) {
        self.source.failed(socket.data.tag, OpeningError::Refused(error), cx);
    }

    fn close(&mut self, socket: &mut View<'_, S>, reason: CloseReason, cx: &mut Cx<'_, S>) {
        let tag = socket.data.tag;
        match socket.data.stage {
            ClientStage::Connecting | ClientStage::Opening { .. } => {
                self.source.failed(tag, OpeningError::Closed(reason), cx);
            }
            ClientStage::Failed(error) => self.source.failed(tag, error, cx),
            ClientStage::Open(_) => {
                let left = socket.stream.peer_closed();
                let outcome = if left { SessionOutcome::Left } else { SessionOutcome::Lost };
                self.run(socket, cx, |session, io| {
                    session.disconnected(io);
                    outcome
                });
                self.source.closed(tag, cx);
            }
            ClientStage::Ending => self.source.closed(tag, cx),
        }
    }
}

// As documented. The response is read before there is a handler, so the larger of both counts.
const _: () =
    assert!(size_of::<WebSocketSocket<()>>() <= 88 && size_of::<WebSocketSocket<[u8; 200]>>() <= 200 + 32);
