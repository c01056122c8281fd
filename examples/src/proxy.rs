//! The handler of the proxy: an HTTP server and a pool of connections to upstreams on the same poller.
//!
//! A request is an exchange of the server ([`ClientHalf`]) and a fetch of the pool, which share two bounded pipes: see
//! `link.rs`. The handler passes the events of accepted sockets to the server and those of the others to the pool, and
//! then carries out what the halves have asked for.
//!
//! | what happens | what the client gets |
//! | --- | --- |
//! | the upstream refuses or resets, or its response is malformed, before the head is complete | 502 |
//! | the upstream takes too long to accept, to read the request or to begin its response | 504 |
//! | the client takes longer to send a part of its request than an upstream may take to read one | 408 |
//! | all upstreams are left out, or too many requests wait for a connection to this one | 503 with `Retry-After` |
//! | the upstream ends the connection within the response | the end of the connection before that of the response |
//! | the client resets its connection | (the connection to the upstream is reset) |
//!
//! A client holds a connection to an upstream from its request to the end of its response, so slow clients take those
//! of the others: besides the limits of the server for a request, the program `proxy` sets a minimum rate at which a
//! client has to accept its response (`--min-rate`).
//!
//! When the proxy stops, requests of clients that are connected are served over the connections to upstreams that there
//! are; those whose upstream has none get 503.
//!
//! A request that an upstream has not begun to answer is sent once more, to another upstream if there is one, if its
//! connection was refused, or if it was lost and the request is idempotent; but not once its body has been read.
//!
//! An upstream is left out after [`FAILURES_MAX`](upstreams::FAILURES_MAX) failures in a row, of requests or checks. A
//! check that succeeds brings it back, or one request that finds after a while that it works again. Each poller decides
//! this by itself.

pub mod link;
pub mod upstreams;

use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use std::rc::Rc;

use lightcone::engine_core::{NoOutbox, Outbox};
use lightcone::http::client::{
    ClientLimits, ClientRequest, Fetch, FetchCause, FetchError, FetchPhase, ForwardError, ForwardedHead,
    Pool, PoolLimits, PoolMessage, PoolSocket,
};
use lightcone::http::{
    Http, HttpConnection, Limits, Method, Reply, Request, RequestMessage, Response, Routes,
};
use lightcone::{
    Address, ConnectError, Context, Event, Handler, Instant, Lag, Origin, PollerEvent, PollerId, Rejected,
    RoomError, Socket, SubscribeError, TimerError, TimerId, Token, Topic, Unpublished,
};

use link::{Ask, Check, CheckPlace, ClientHalf, Desk, DeskState, NAME, Task};
use upstreams::{Balance, Upstreams};

/// The maximum number of connections to upstreams, and of requests that wait for one, of each poller. Each upstream has
/// an equal share of both, at least one.
pub const CONNECTIONS: usize = 128;
/// See [`CONNECTIONS`].
pub const WAITING: usize = 256;
/// The maximum size of the head of a request or a response: half of the output of a socket, less what is added to it.
pub const HEAD_MAX: usize = 15 << 10;

/// The tags of the timers that are not the pool's.
const CHECK: u64 = 0;
const AGAIN: u64 = 1;
/// When a message is posted again that did not fit into the mailbox.
const RETRY: Duration = Duration::from_millis(5);

/// The checks of upstreams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checks {
    /// The URI that is requested from each upstream, in the order of their addresses. It must be valid.
    pub uris: Vec<String>,
    /// How often. A check that takes longer has failed.
    pub every: Duration,
}

/// What a proxy does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses of the upstreams, at least one.
    pub upstreams: Vec<Address>,
    /// How requests are distributed over them.
    pub balance: Balance,
    /// How they are checked, if they are.
    pub checks: Option<Checks>,
    /// The maximum number of clients of each poller; further ones are turned away.
    pub clients: usize,
    /// The limits of clients. Heads are limited by [`HEAD_MAX`] besides.
    pub limits: Limits,
    /// The limits of upstreams; as for those of clients.
    pub upstream_limits: ClientLimits,
}

/// The state of a socket.
#[derive(Debug)]
pub enum Side<B> {
    /// Accepted from a client.
    Client(HttpConnection<B>),
    /// Connected to an upstream.
    Upstream(PoolSocket<Ask>),
}

/// A message to a socket.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// To a request of a client.
    Client(RequestMessage<()>),
    /// To a connection of the pool.
    Upstream(PoolMessage<()>),
}

impl Message {
    fn into_client(self) -> Option<RequestMessage<()>> {
        if let Self::Client(message) = self { Some(message) } else { None }
    }

    fn into_upstream(self) -> Option<PoolMessage<()>> {
        if let Self::Upstream(message) = self { Some(message) } else { None }
    }
}

/// The checks of one upstream. There is another reference to the place while one is in progress.
struct Watch {
    uri: Rc<str>,
    place: CheckPlace,
}

/// The proxy of one poller.
pub struct Proxy<R> {
    http: Http<Desk, R>,
    pool: Box<Pool<Ask, CONNECTIONS, WAITING>>,
    desk: Desk,
    clients: usize,
    clients_max: usize,
    per_origin: usize,
    /// The maximum number of requests for one upstream that are in progress or wait.
    active_max: usize,
    checks: Option<(Duration, Vec<Watch>)>,
    stopping: bool,
    /// Whether a timer is set for tasks that could not be carried out.
    waits: bool,
}

impl<R> fmt::Debug for Proxy<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("pool", &self.pool)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// Creates the proxy of one poller. Pollers have different seeds.
#[must_use]
pub fn proxy(settings: &Settings, seed: u64) -> Proxy<impl Routes<Desk> + use<>> {
    let upstreams = Upstreams::new(&settings.upstreams, settings.balance, seed);
    let state = DeskState {
        now: Cell::new(Instant::from_millis(0)),
        upstreams: upstreams.into(),
        tasks: RefCell::default(),
    };
    let desk = Desk(Rc::new(state));
    let limits = Limits { head: settings.limits.head.min(HEAD_MAX), ..settings.limits };
    let http = Http::with(desk.clone()).limits(limits).fallback(pass_on);
    let client = settings.upstream_limits;
    let client = ClientLimits { head: client.head.min(HEAD_MAX), ..client };
    // So that a slow upstream leaves connections, and places to wait for one, for the others.
    let share = |all: usize| (all / settings.upstreams.len().max(1)).max(1);
    let per_origin = share(CONNECTIONS);
    // The proxy prefers another upstream.
    let pool = PoolLimits { per_origin, client, retry: false, ..PoolLimits::DEFAULT };
    let checks = settings.checks.as_ref().map(|checks| {
        let watch = |uri: &String| Watch { uri: uri.as_str().into(), place: CheckPlace::default() };
        (checks.every, checks.uris.iter().map(watch).collect())
    });
    Proxy {
        http,
        pool: Box::new(Pool::new(pool)),
        desk,
        clients: 0,
        clients_max: settings.clients,
        per_origin,
        active_max: per_origin + share(WAITING),
        checks,
        stopping: false,
        waits: false,
    }
}

/// Begins to pass a request on.
fn pass_on(request: Request<'_, Desk>, response: Response<'_>) -> Reply<ClientHalf> {
    let head = request.head;
    let forwarded = ForwardedHead::new(head, "").map(|mut forwarded| {
        // The values have no control characters.
        let _ = forwarded.add("Via", format_args!("1.{} {NAME}", head.minor));
        let _ = match request.peer() {
            Address::Inet(peer) => forwarded.add("X-Forwarded-For", peer.ip()),
            _ => forwarded.add("X-Forwarded-For", "unknown"),
        };
        forwarded
    });
    match forwarded {
        // Such as `TRACE` with a body: the pool would end a connection for it.
        Ok(forwarded) if ClientRequest::forward(&forwarded).head().is_err() => {
            response.refuse(400).into_any()
        }
        Ok(forwarded) => response.defer(ClientHalf::new(request.state.clone(), forwarded)),
        Err(ForwardError::LastHop) if request.method() == Method::Options => {
            response.status(204).empty().into_any()
        }
        Err(ForwardError::LastHop) => response.refuse(405).into_any(),
        Err(_) => response.refuse(400).into_any(),
    }
}

/// The context of the pool: it posts messages for upstreams.
struct PoolOutbox<'c, 'o>(&'c mut Context<'o, Message>);

impl Outbox<PoolMessage<()>> for PoolOutbox<'_, '_> {
    fn post(&mut self, to: Token, message: PoolMessage<()>) -> Result<(), Rejected<PoolMessage<()>>> {
        self.0.post(to, Message::Upstream(message)).map_err(|rejected| match rejected {
            Rejected::Full(_) => Rejected::Full(message),
            Rejected::Gone(_) | _ => Rejected::Gone(message),
        })
    }

    /// Returns the message: the pool does not broadcast. It has no topics either.
    fn broadcast(
        &mut self,
        message: PoolMessage<()>,
        _: fn(&PoolMessage<()>) -> PoolMessage<()>,
    ) -> Result<(), Rejected<PoolMessage<()>>> {
        Err(Rejected::Gone(message))
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        self.0.connect(to, tag)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        self.0.local_address(token)
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        self.0.set_timer(at, tag)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.0.cancel_timer(timer)
    }

    fn publish(
        &mut self,
        message: Unpublished<PoolMessage<()>>,
    ) -> Result<(), Rejected<Unpublished<PoolMessage<()>>>> {
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

    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        self.0.request_room(at, socket)
    }
}

/// Calls `call` with the context of the pool.
fn with_pool<T>(
    cx: &mut Context<'_, Message>,
    call: impl FnOnce(&mut Context<'_, PoolMessage<()>>) -> T,
) -> T {
    let (now, unix_time, poller) = (cx.now(), cx.unix_time(), cx.poller());
    call(&mut Context::new(now, unix_time, poller, &mut PoolOutbox(cx)))
}

/// Returns an event with another type of message; `None` if the message is not for this side.
fn translate<M>(event: Event<Message>, of: impl FnOnce(Message) -> Option<M>) -> Option<Event<M>> {
    Some(match event {
        Event::Message(message) => Event::Message(of(message)?),
        Event::Open => Event::Open,
        Event::Receive => Event::Receive,
        Event::Writable => Event::Writable,
        Event::Sent => Event::Sent,
        Event::PeerClosed => Event::PeerClosed,
        Event::Timeout => Event::Timeout,
        Event::Room(at) => Event::Room(at),
        Event::Shutdown => Event::Shutdown,
        Event::Refused(error) => Event::Refused(error),
        Event::Close(reason) => Event::Close(reason),
    })
}

impl<R: Routes<Desk>> Proxy<R> {
    /// Carries out what the halves of requests have asked for.
    fn settle(&mut self, cx: &mut Context<'_, Message>) {
        loop {
            let Some(task) = self.desk.0.tasks.borrow_mut().pop_front() else { return };
            let (to, message) = match task {
                Task::Submit(upstream, ask) => {
                    self.submit(upstream, ask, cx);
                    continue;
                }
                Task::CallClient(id) => (id.token(), Message::Client(id.message(()))),
                Task::CallUpstream(token, number) => (token, Message::Upstream(PoolMessage::new(number, ()))),
            };
            if matches!(cx.post(to, message), Err(Rejected::Full(_))) {
                self.desk.0.tasks.borrow_mut().push_front(task);
                self.waits = self.waits || cx.set_timer(cx.now() + RETRY, AGAIN).is_ok();
                return;
            }
        }
    }

    fn submit(&mut self, upstream: usize, ask: Ask, cx: &mut Context<'_, Message>) {
        let (address, active) = {
            let upstreams = self.desk.0.upstreams.borrow();
            (upstreams.address(upstream), upstreams.active(upstream))
        };
        // The queue of the pool is one for all upstreams.
        if matches!(ask, Ask::Forward(_)) && active > self.active_max {
            return ask.failed(FetchError::new(FetchPhase::Wait, FetchCause::Overloaded));
        }
        with_pool(cx, |cx| match ask.is_retry() {
            true => self.pool.submit_fresh(address, ask, cx),
            false => self.pool.submit(address, ask, cx),
        });
    }

    /// Checks each upstream. A check that has not ended since the last time has failed.
    fn check(&mut self, cx: &mut Context<'_, Message>) {
        let Some((every, checks)) = &mut self.checks else { return };
        for (upstream, Watch { uri, place }) in checks.iter().enumerate() {
            let in_progress = Rc::strong_count(place) > 1;
            match place.get() {
                Some((token, number)) if in_progress => self.desk.0.add(Task::CallUpstream(token, number)),
                // All connections are in use, and the upstream makes progress or is noticed otherwise.
                None if in_progress && self.desk.0.upstreams.borrow().active(upstream) >= self.per_origin => {
                }
                // It does not get a connection.
                None if in_progress => self.desk.0.upstreams.borrow_mut().checked(upstream, false),
                _ => {
                    place.set(None);
                    let (desk, uri, place) = (self.desk.clone(), Rc::clone(uri), Rc::clone(place));
                    let check = Check { desk, upstream, uri, place, healthy: false };
                    self.desk.0.add(Task::Submit(upstream, Ask::Check(check)));
                }
            }
        }
        let next = cx.now() + *every;
        assert!(cx.set_timer(next, CHECK).is_ok(), "a poller has more than three timers");
    }
}

impl<R: Routes<Desk>> Handler for Proxy<R> {
    type Data = Side<R::Body>;
    type Message = Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        match origin {
            Origin::Connecting { .. } => self.pool.admit(origin, peer).map(Side::Upstream),
            // The other sockets are for upstreams.
            Origin::Accepted { .. } if self.clients == self.clients_max => None,
            Origin::Accepted { .. } => {
                let client = self.http.admit(origin, peer).map(Side::Client);
                self.clients += usize::from(client.is_some());
                client
            }
        }
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Message>,
        cx: &mut Context<'_, Message>,
    ) {
        self.desk.0.now.set(cx.now());
        let Socket { stream, data } = socket;
        let stream = stream.reborrow();
        let mut ends = false;
        match data {
            Side::Client(data) => {
                let left = matches!(event, Event::Close(_));
                self.clients -= usize::from(left);
                let outbox = &mut NoOutbox; // the routes post nothing themselves
                let cx = &mut Context::new(cx.now(), cx.unix_time(), cx.poller(), outbox);
                if let Some(event) = translate(event, Message::into_client) {
                    self.http.event(&mut Socket { stream, data }, event, cx);
                }
                ends = left && self.stopping && self.clients == 0;
            }
            Side::Upstream(_) if matches!(event, Event::Shutdown) && self.clients > 0 => {}
            Side::Upstream(data) => {
                if let Some(event) = translate(event, Message::into_upstream) {
                    with_pool(cx, |cx| self.pool.event(&mut Socket { stream, data }, event, cx));
                }
            }
        }
        if ends {
            with_pool(cx, |cx| self.pool.poller_event(PollerEvent::Stopping, cx));
        }
        self.settle(cx);
    }

    /// Keeps the end from the pool as long as there are clients, whose requests are still served.
    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Message>) {
        self.desk.0.now.set(cx.now());
        match event {
            PollerEvent::Started | PollerEvent::Timer { tag: CHECK, .. } => self.check(cx),
            PollerEvent::Timer { tag: AGAIN, .. } => self.waits = false,
            PollerEvent::Timer { .. } | PollerEvent::Room { .. } => {
                with_pool(cx, |cx| self.pool.poller_event(event, cx));
            }
            PollerEvent::Stopping => {
                (self.checks, self.stopping) = (None, true);
                with_pool(cx, |cx| self.pool.drain(cx));
            }
        }
        self.settle(cx);
    }
}
