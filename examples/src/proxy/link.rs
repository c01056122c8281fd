//! One request on its way: the half that faces the client, and the half that faces an upstream.
//!
//! Both are on one poller. They share a `Link`, which has a pipe for each direction, and call each other by messages
//! when there is something to do. A pipe holds at most [`PIPE_MAX`] bytes: what does not fit stays in the input of the
//! socket that it came from, which is not read any more, so the slower side slows the other one down.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone::http::client::{
    BodyWriter, ClientRequest, Delimiter, Fetch, FetchCause, FetchError, FetchPhase, ForwardedFields,
    ForwardedHead, InvalidResponse, ResponseHead, Uri,
};
use lightcone::http::{Exchange, Flow, RequestId, State, Status, Transfer};
use lightcone::{CloseReason, ErrorKind, Instant, Token};

use super::upstreams::Upstreams;

/// The maximum number of bytes of one direction of one request between its two sockets.
pub const PIPE_MAX: usize = 32 << 10;
/// The name of the proxy in `Via`.
pub const NAME: &str = "lightcone";

/// What the halves ask of the handler, which has the pool and the context.
#[derive(Debug)]
pub(super) enum Task {
    /// Submit a request to an upstream.
    Submit(usize, Ask),
    /// Call the half that faces the client.
    CallClient(RequestId),
    /// Call the half that faces the upstream: the request with this number on the socket.
    CallUpstream(Token, u32),
}

/// What all requests of a poller share: the state of its routes.
#[derive(Clone, Debug)]
pub struct Desk(pub(super) Rc<DeskState>);

#[derive(Debug)]
pub(super) struct DeskState {
    pub(super) now: Cell<Instant>,
    pub(super) upstreams: RefCell<Upstreams>,
    /// At most one of each kind for each request in progress.
    pub(super) tasks: RefCell<VecDeque<Task>>,
}

impl State for Desk {
    type Message = ();
}

impl DeskState {
    pub(super) fn add(&self, task: Task) {
        self.tasks.borrow_mut().push_back(task);
    }
}

/// Bytes of one direction.
#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    /// How many of the bytes were taken.
    at: usize,
    /// Whether no further bytes follow.
    ended: bool,
    /// Whether the source has bytes that did not fit, and is to be called when there is room.
    full: bool,
    /// Whether the destination is to be called when there are bytes.
    waits: bool,
    /// Whether any byte was taken.
    used: bool,
}

impl Pipe {
    /// Takes what fits from the front of `data`; returns how much.
    fn push(&mut self, data: &[u8]) -> usize {
        self.bytes.drain(..core::mem::take(&mut self.at));
        let length = data.len().min(PIPE_MAX - self.bytes.len());
        self.bytes.extend_from_slice(data.get(..length).unwrap_or_default());
        self.full = length < data.len();
        length
    }

    /// Lets `write` take bytes, and returns whether all were taken.
    fn drain(&mut self, write: impl FnOnce(&[u8]) -> usize) -> bool {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.is_empty() {
            let taken = write(rest);
            (self.at, self.used) = (self.at + taken, self.used || taken > 0);
        }
        let empty = self.at == self.bytes.len();
        self.waits = empty && !self.ended;
        empty
    }
}

/// The head of a response.
#[derive(Debug)]
struct Answer {
    status: Status,
    length: Option<u64>,
    fields: ForwardedFields,
}

/// What the two halves of a request share.
#[derive(Debug, Default)]
struct Link {
    client: Option<RequestId>,
    /// While the request is sent to an upstream, or answered by it: its place there.
    upstream: Option<(Token, u32)>,
    /// Whether a call of the client's half is on its way; the same for that of the upstream.
    client_called: bool,
    upstream_called: bool,
    /// Whether the client has left, or has its response.
    gone: bool,
    request: Pipe,
    answer: Option<Answer>,
    response: Pipe,
    /// The status in place of an answer that does not come; for one that has begun, it ends the connection.
    failed: Option<Status>,
    /// Whether the request was submitted a second time.
    retried: bool,
}

impl Link {
    fn call_client(&mut self, desk: &DeskState) {
        if let Some(id) = self.client.filter(|_| !self.gone && !self.client_called) {
            self.client_called = true;
            desk.add(Task::CallClient(id));
        }
    }

    fn call_upstream(&mut self, desk: &DeskState) {
        if let Some((token, number)) = self.upstream.filter(|_| !self.upstream_called) {
            self.upstream_called = true;
            desk.add(Task::CallUpstream(token, number));
        }
    }

    /// Sets the place of the request at an upstream.
    fn set_upstream(&mut self, place: Option<(Token, u32)>) {
        (self.upstream, self.upstream_called) = (place, false);
    }
}

/// The half that faces the client: an exchange of the server.
#[derive(Debug)]
pub struct ClientHalf {
    desk: Desk,
    link: Rc<RefCell<Link>>,
    /// Until the request is submitted.
    head: Option<Box<ForwardedHead>>,
    /// Whether the head of the response was written.
    begun: bool,
}

impl ClientHalf {
    pub(super) fn new(desk: Desk, head: ForwardedHead) -> Self {
        Self { desk, link: Rc::default(), head: Some(Box::new(head)), begun: false }
    }

    /// Submits the request, or responds if all upstreams are left out.
    fn submit(&self, head: Box<ForwardedHead>, id: RequestId) {
        let mut link = self.link.borrow_mut();
        link.client = Some(id);
        let desk = &self.desk.0;
        let chosen = desk.upstreams.borrow_mut().choose(desk.now.get(), None);
        match chosen {
            Some(upstream) => {
                let (desk, link) = (self.desk.clone(), Rc::clone(&self.link));
                let forward = UpstreamHalf { desk, link, head, upstream, sent: false, answered: false };
                self.desk.0.add(Task::Submit(upstream, Ask::Forward(forward)));
            }
            None => link.failed = Some(Status::SERVICE_UNAVAILABLE),
        }
    }
}

impl Exchange<Desk> for ClientHalf {
    fn advance(&mut self, io: &mut Transfer<'_, Desk>) -> Flow {
        if let Some(head) = self.head.take() {
            self.submit(head, io.id());
        }
        let desk = &*self.desk.0;
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        // The request.
        while !io.body().is_empty() {
            // An upstream that has answered does not read the rest, but the client may not read before it has sent it.
            let all = io.body().len();
            let taken = if link.response.ended { all } else { link.request.push(io.body()) };
            if taken == 0 {
                break; // called again when the upstream has taken what is there
            }
            io.consume(taken);
        }
        let news = !link.request.ended && io.is_ended() || link.request.at < link.request.bytes.len();
        link.request.ended = io.is_ended();
        if news && core::mem::take(&mut link.request.waits) {
            link.call_upstream(desk);
        }
        // The response.
        if let Some(status) = link.failed {
            return match (self.begun, io.is_ready()) {
                (true, _) => Flow::Abort, // what was sent must not look complete
                (false, false) => Flow::More,
                (false, true) => io.respond(|_, response| match status {
                    Status::SERVICE_UNAVAILABLE => {
                        let seconds = desk.upstreams.borrow().retry_after(desk.now.get());
                        response.header("Retry-After", seconds).refuse(status)
                    }
                    _ => response.refuse(status),
                }),
            };
        }
        if let Some(answer) = link.answer.take_if(|_| io.is_ready()) {
            self.begun = true;
            let flow = io
                .stream(answer.length, |_, response| response.status(answer.status).forward(&answer.fields));
            if flow == Flow::Done {
                return flow; // it has no body
            }
        }
        if !self.begun {
            return Flow::More;
        }
        let empty = link.response.drain(|bytes| io.write(bytes));
        if empty && link.response.ended {
            return Flow::Done;
        }
        if empty && core::mem::take(&mut link.response.full) {
            link.call_upstream(desk);
        }
        Flow::More
    }

    fn message(&mut self, (): (), io: &mut Transfer<'_, Desk>) -> Flow {
        self.link.borrow_mut().client_called = false;
        self.advance(io)
    }
}

/// Also called when the client leaves: the upstream's answer is not needed any more.
impl Drop for ClientHalf {
    fn drop(&mut self) {
        let mut link = self.link.borrow_mut();
        link.gone = true;
        link.call_upstream(&self.desk.0);
    }
}

/// The half that faces an upstream: a fetch of the pool.
#[derive(Debug)]
pub struct UpstreamHalf {
    desk: Desk,
    link: Rc<RefCell<Link>>,
    head: Box<ForwardedHead>,
    upstream: usize,
    /// Whether the request was sent, or a part of it.
    sent: bool,
    /// Whether an interim response has arrived.
    answered: bool,
}

impl UpstreamHalf {
    /// Returns whether the request may be sent once more: nothing was answered, its body was not touched, and it was
    /// not sent at all or is idempotent.
    fn is_repeatable(&self, error: FetchError, link: &Link) -> bool {
        let lost = matches!(
            error.cause,
            FetchCause::Refused(_)
                | FetchCause::Closed(CloseReason::Peer | CloseReason::Reset | CloseReason::Error(_))
                | FetchCause::Response(InvalidResponse::Truncated)
        );
        let silent = !self.answered && !matches!(error.phase, FetchPhase::Head | FetchPhase::Body);
        let harmless = !self.sent || ClientRequest::forward(&self.head).is_idempotent();
        lost && silent && harmless && !link.request.used && !link.retried && !link.gone
    }
}

/// Returns the status for a request that has failed.
fn status(error: FetchError) -> Status {
    match (error.phase, error.cause) {
        (FetchPhase::Wait, _) | (_, FetchCause::Unconnected(_)) => Status::SERVICE_UNAVAILABLE,
        (
            _,
            FetchCause::TimedOut
            | FetchCause::TotalTime
            | FetchCause::Refused(ErrorKind::TimedOut)
            | FetchCause::Closed(CloseReason::TimedOut(_)),
        ) => Status::GATEWAY_TIMEOUT,
        (_, FetchCause::RequestTooLarge) => Status::FIELDS_TOO_LARGE,
        (_, FetchCause::Request(_)) => Status::BAD_REQUEST,
        _ => Status::BAD_GATEWAY,
    }
}

/// Returns whether a failure is the upstream's.
fn is_upstreams(error: FetchError) -> bool {
    let own = matches!(
        error.cause,
        FetchCause::Aborted
            | FetchCause::Stopping
            | FetchCause::Unconnected(_)
            | FetchCause::Request(_)
            | FetchCause::RequestTooLarge
            | FetchCause::BodyTooShort
    );
    error.phase != FetchPhase::Wait && !own
}

impl Fetch for UpstreamHalf {
    type Message = ();

    fn begun(&mut self, socket: Token, number: u32) {
        self.sent = true;
        let mut link = self.link.borrow_mut();
        link.set_upstream(Some((socket, number)));
        if link.gone {
            link.call_upstream(&self.desk.0); // the client has left meanwhile
        }
    }

    fn is_wanted(&self) -> bool {
        !self.link.borrow().gone
    }

    fn request(&self) -> ClientRequest<'_> {
        ClientRequest::forward(&self.head)
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        if link.gone {
            return Flow::Abort;
        }
        let empty = link.request.drain(|bytes| body.write(bytes));
        if empty && core::mem::take(&mut link.request.full) {
            link.call_client(&self.desk.0);
        }
        if empty && link.request.ended { Flow::Done } else { Flow::More }
    }

    fn interim(&mut self, _: &ResponseHead<'_>) {
        self.answered = true;
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        let mut link = self.link.borrow_mut();
        let length = match head.delimiter {
            Delimiter::Length(length) => Some(length),
            Delimiter::None => head.text("content-length").and_then(|length| length.parse().ok()),
            Delimiter::Chunked | Delimiter::Close | _ => None,
        };
        let answer = ForwardedFields::of_response(head).ok().and_then(|mut fields| {
            fields.add("Via", format_args!("1.{} {NAME}", head.minor)).ok()?;
            (head.status.code() < 600).then_some(Answer { status: head.status, length, fields })
        });
        if answer.is_none() {
            link.failed = Some(Status::BAD_GATEWAY);
        }
        link.answer = answer;
        link.call_client(&self.desk.0);
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        if link.gone || link.failed.is_some() {
            return None;
        }
        let taken = link.response.push(data);
        if core::mem::take(&mut link.response.waits) {
            link.call_client(&self.desk.0);
        }
        Some(taken)
    }

    fn message(&mut self, (): ()) -> Flow {
        let mut link = self.link.borrow_mut();
        link.upstream_called = false;
        if link.gone { Flow::Abort } else { Flow::More }
    }

    fn end(self) {
        let mut link = self.link.borrow_mut();
        let mut upstreams = self.desk.0.upstreams.borrow_mut();
        upstreams.release(self.upstream);
        upstreams.succeeded(self.upstream);
        link.response.ended = true;
        link.set_upstream(None);
        link.call_client(&self.desk.0);
    }

    fn failed(self, error: FetchError) {
        let now = self.desk.0.now.get();
        let link = Rc::clone(&self.link);
        let mut link = link.borrow_mut();
        link.set_upstream(None);
        // The upstream has taken all that the client has sent.
        let is_clients = (error.phase, error.cause) == (FetchPhase::Send, FetchCause::TimedOut)
            && link.request.waits
            && !link.request.ended;
        let chosen = {
            let mut upstreams = self.desk.0.upstreams.borrow_mut();
            upstreams.release(self.upstream);
            if is_upstreams(error) && !is_clients {
                upstreams.failed(self.upstream, now);
            }
            let again = self.is_repeatable(error, &link);
            if again { upstreams.choose(now, Some(self.upstream)) } else { None }
        };
        match chosen {
            Some(upstream) => {
                link.retried = true;
                let desk = self.desk.clone();
                desk.0.add(Task::Submit(upstream, Ask::Forward(Self { upstream, ..self })));
            }
            None => {
                let status = if is_clients { Status::REQUEST_TIMEOUT } else { status(error) };
                link.failed.get_or_insert(status);
                link.call_client(&self.desk.0);
            }
        }
    }
}

/// A request to find out whether an upstream works.
#[derive(Debug)]
pub struct Check {
    pub(super) desk: Desk,
    pub(super) upstream: usize,
    pub(super) uri: Rc<str>,
    /// Where the check is, for the handler: dropped with the check.
    pub(super) place: CheckPlace,
    pub(super) healthy: bool,
}

impl Fetch for Check {
    type Message = ();

    fn begun(&mut self, socket: Token, number: u32) {
        self.place.set(Some((socket, number)));
    }

    fn request(&self) -> ClientRequest<'_> {
        let Ok(uri) = Uri::parse(&self.uri) else { unreachable!("it was checked") };
        ClientRequest::get(uri)
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        self.healthy = matches!(head.status.code(), 200..=399);
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        Some(data.len())
    }

    /// Gives up: the only message says that the check takes too long.
    fn message(&mut self, (): ()) -> Flow {
        Flow::Abort
    }

    fn end(self) {
        self.desk.0.upstreams.borrow_mut().checked(self.upstream, self.healthy);
    }

    fn failed(self, error: FetchError) {
        if is_upstreams(error) || error.cause == FetchCause::Aborted {
            self.desk.0.upstreams.borrow_mut().checked(self.upstream, false);
        }
    }
}

/// The place of a check on a connection, once it has begun.
pub(super) type CheckPlace = Rc<Cell<Option<(Token, u32)>>>;

/// What the pool sends.
#[derive(Debug)]
pub enum Ask {
    /// A client's request.
    Forward(UpstreamHalf),
    /// A check.
    Check(Check),
}

impl Ask {
    /// Returns whether it is sent a second time.
    pub(super) fn is_retry(&self) -> bool {
        matches!(self, Self::Forward(half) if half.link.borrow().retried)
    }
}

/// Calls the same method of whichever it is.
macro_rules! each {
    ($ask:expr, $fetch:ident => $call:expr) => {
        match $ask {
            Ask::Forward($fetch) => $call,
            Ask::Check($fetch) => $call,
        }
    };
}

impl Fetch for Ask {
    type Message = ();

    fn begun(&mut self, socket: Token, number: u32) {
        each!(self, fetch => fetch.begun(socket, number));
    }

    fn is_wanted(&self) -> bool {
        each!(self, fetch => fetch.is_wanted())
    }

    fn request(&self) -> ClientRequest<'_> {
        each!(self, fetch => fetch.request())
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        each!(self, fetch => fetch.send(body))
    }

    fn interim(&mut self, head: &ResponseHead<'_>) {
        each!(self, fetch => fetch.interim(head));
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        each!(self, fetch => fetch.head(head));
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        each!(self, fetch => fetch.body(data))
    }

    fn message(&mut self, message: ()) -> Flow {
        each!(self, fetch => fetch.message(message))
    }

    fn end(self) {
        each!(self, fetch => fetch.end());
    }

    fn failed(self, error: FetchError) {
        each!(self, fetch => fetch.failed(error));
    }
}
