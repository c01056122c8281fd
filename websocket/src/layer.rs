//! The server over HTTP: a session as the exchange of an upgraded request.

use lightcone_http::{Body, Exchange, Flow, Method, Reply, Request, Response, State, Status, Transfer};

use crate::channel::Carrier;
use crate::codec::handshake::{HandshakeError, check_handshake};
use crate::codec::header::Role;
use crate::session::{Session, SessionIo, SessionOutcome, WebSocket};

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
            .upgrade("websocket", WebSocketExchange(Session::new(handler))),
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
#[derive(Debug)]
pub struct WebSocketExchange<H>(Session<H>);

impl<S: State> SessionIo for Transfer<'_, S> {
    const ROLE: Role = Role::Server;
    type State = S;

    fn split(&mut self) -> (&mut [u8], Carrier<'_, S>) {
        let (bytes, rest) = self.split();
        (bytes, Carrier::Exchange(rest))
    }

    fn consume(&mut self, n: usize) {
        self.consume(n);
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }
}

/// Returns how the exchange of a session goes on.
const fn flow(outcome: SessionOutcome) -> Flow {
    match outcome {
        SessionOutcome::More => Flow::More,
        SessionOutcome::Closed | SessionOutcome::Failed | SessionOutcome::Left => Flow::Done,
        SessionOutcome::Lost => Flow::Abort,
    }
}

impl<S: State, H: WebSocket<S>> Exchange<S> for WebSocketExchange<H> {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        flow(self.0.advance(io))
    }

    fn message(&mut self, message: S::Message, io: &mut Transfer<'_, S>) -> Flow {
        flow(self.0.message(message, io))
    }

    fn shutdown(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        flow(self.0.shutdown(io))
    }

    fn peer_closed(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        flow(self.0.peer_closed(io))
    }

    fn wake(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        flow(self.0.wake(io))
    }

    fn disconnected(&mut self, io: &mut Transfer<'_, S>) {
        self.0.disconnected(io);
    }
}

// A connection with this layer has at most 24 bytes more than one without.
const _: () = assert!(size_of::<Option<WebSocketExchange<()>>>() <= 24);
