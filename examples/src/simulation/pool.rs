//! Requests through a pool of connections: each is answered once or fails, and none that must not be is repeated.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use lightcone::engine_core::Config;
use lightcone::http::client::{
    BodyWriter, ClientLimits, ClientRequest, Fetch, FetchError, Pool, PoolLimits, PoolMessage, PoolSocket,
    RequestBody, ResponseHead, Uri,
};
use lightcone::http::{Flow, Http, Limits, Method, Status};
use lightcone::sim::{Engine, EngineId, Sim};
use lightcone::{Address, Context, Event, Handler, Instant, Origin, PollerEvent, Socket, Timeouts};

use super::http::{Echo, letters};
use super::{a_while, http_engine, one_of, proxy, server};
use crate::proxy::upstreams::REST;

/// The connections of each pool, and the requests that wait in it.
const CONNECTIONS: usize = 3;
const WAITING: usize = 6;
const PER_ORIGIN: usize = 2;
/// How often a client looks for requests that are due.
const TICK: Duration = Duration::from_millis(20);
/// The number of the first request after the faults.
const FINAL: u32 = 1_000_000;

/// The addresses to which the requests are sent.
const ORIGINS: [u8; 2] = [1, 2];

/// How requests reach the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Path {
    /// From the pool.
    Direct,
    /// Through a proxy, with a pool of its own.
    Proxy,
}

/// A mistake of the clients, by which a test shows that the scenario would notice it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mistake {
    /// None.
    None,
    /// A request that is not idempotent is passed off as one that is.
    Repeatable,
    /// The end of a response is reported although it is incomplete.
    Hasty,
    /// A request is submitted twice.
    Twice,
}

/// What all requests of a run have come to.
#[derive(Default)]
struct Ledger {
    /// How often the server has begun with each request.
    served: RefCell<BTreeMap<u32, u32>>,
    /// How often each request has ended, and has failed.
    ends: RefCell<BTreeMap<u32, (u32, u32)>>,
    /// Whether the last requests are to be sent, which must succeed.
    healed: Cell<bool>,
    submitted: Cell<u32>,
}

/// One request.
#[derive(Clone, Copy)]
struct Task {
    number: u32,
    at: Instant,
    origin: u8,
    method: Method,
    /// The length of the body, in both directions.
    length: u32,
    chunked: bool,
    /// The mistake that the client makes with the request.
    mistake: Mistake,
}

struct Ask {
    task: Task,
    uri: String,
    sent: usize,
    received: usize,
    /// Whether the response is that of the route.
    answered: bool,
    ledger: Rc<Ledger>,
}

impl Ask {
    const fn has_body(&self) -> bool {
        matches!(self.task.method, Method::Put | Method::Post)
    }
}

impl Fetch for Ask {
    type Message = ();

    fn request(&self) -> ClientRequest<'_> {
        let Ok(uri) = Uri::parse(&self.uri) else { unreachable!("it is valid") };
        let body = match self.has_body() {
            false => RequestBody::None,
            true if self.task.chunked => RequestBody::Chunked,
            true => RequestBody::Length(self.task.length.into()),
        };
        let repeatable = self.task.mistake == Mistake::Repeatable && self.task.method == Method::Post;
        let method = if repeatable { Method::Put } else { self.task.method };
        ClientRequest { method, body, ..ClientRequest::get(uri) }
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        let all = self.task.length as usize;
        while self.sent < all {
            let mut piece = [0; 100];
            let length = (all - self.sent).min(100);
            let piece = piece.get_mut(..length).unwrap_or_default();
            letters(self.sent as u64, piece);
            match body.write(piece) {
                0 => return Flow::More,
                written => self.sent += written,
            }
        }
        Flow::Done
    }

    fn restart(&mut self) -> bool {
        self.sent = 0;
        true
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        self.answered = head.status == Status::OK;
        assert!(
            self.answered || self.task.number < FINAL,
            "liveness: {} for {}",
            head.status,
            self.task.number
        );
        let number = head.text("x-number").and_then(|number| number.parse().ok());
        // The server refuses requests that were cut off or have come too slowly.
        let right = number == Some(self.task.number) || !self.answered;
        assert!(right, "answers: {} gets that of {number:?}", self.task.number);
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        let mut expected = vec![0; data.len()];
        letters(self.received as u64, &mut expected);
        let right = data == expected || !self.answered;
        assert!(right, "answers: a wrong byte after {} of {}", self.received, self.task.number);
        self.received += data.len();
        Some(data.len())
    }

    fn end(self) {
        let length = if self.task.method == Method::Head { 0 } else { self.task.length as usize };
        let right = self.received == length || !self.answered;
        assert!(right, "answers: {} bytes of {length}", self.received);
        let mut ends = self.ledger.ends.borrow_mut();
        let (ended, failed) = ends.entry(self.task.number).or_default();
        *(if self.answered { ended } else { failed }) += 1;
    }

    fn failed(self, error: FetchError) {
        if self.task.mistake == Mistake::Hasty {
            return self.end();
        }
        assert!(self.task.number < FINAL, "liveness: {} has failed: {error}", self.task.number);
        self.ledger.ends.borrow_mut().entry(self.task.number).or_default().1 += 1;
    }
}

/// Submits requests when their time has come.
struct Callers {
    pool: Pool<Ask, CONNECTIONS, WAITING>,
    tasks: VecDeque<Task>,
    last: VecDeque<Task>,
    ledger: Rc<Ledger>,
}

type Cx<'a> = Context<'a, PoolMessage<()>>;

impl Callers {
    fn tick(&mut self, cx: &mut Cx<'_>) {
        if self.ledger.healed.get() && self.tasks.is_empty() && self.pool.waiting() == 0 {
            // one after another, since more than the pool admits would be refused
            self.tasks.extend(self.last.pop_front());
        }
        while let Some(task) = self.tasks.front().copied().filter(|task| task.at <= cx.now()) {
            self.tasks.pop_front();
            self.submit(task, cx);
            if task.mistake == Mistake::Twice {
                self.submit(task, cx);
            }
        }
        let again = cx.set_timer(cx.now() + TICK, 0);
        assert!(again.is_ok(), "timers: two are enough");
    }

    fn submit(&mut self, task: Task, cx: &mut Cx<'_>) {
        let uri = format!("http://10.0.0.{}:7000/n/{}?bytes={}", task.origin, task.number, task.length);
        let ledger = Rc::clone(&self.ledger);
        self.ledger.submitted.set(self.ledger.submitted.get() + 1);
        let ask = Ask { task, uri, sent: 0, received: 0, answered: false, ledger };
        self.pool.submit(Address::Inet(server(task.origin)), ask, cx);
    }
}

impl Handler for Callers {
    type Data = PoolSocket<Ask>;
    type Message = PoolMessage<()>;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<PoolSocket<Ask>> {
        self.pool.admit(origin, peer)
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, PoolSocket<Ask>>,
        event: Event<PoolMessage<()>>,
        cx: &mut Cx<'_>,
    ) {
        self.pool.event(socket, event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Cx<'_>) {
        match event {
            PollerEvent::Started | PollerEvent::Timer { tag: 0, .. } => self.tick(cx),
            PollerEvent::Timer { .. } | PollerEvent::Room { .. } | PollerEvent::Stopping => {
                self.pool.poller_event(event, cx);
            }
        }
    }
}

/// Returns a function that counts the requests which the server begins with, by their numbers.
fn counter(ledger: Rc<Ledger>) -> impl Fn(&str) {
    move |number| {
        let Ok(number) = number.parse() else { unreachable!("it is a number") };
        *ledger.served.borrow_mut().entry(number).or_default() += 1;
    }
}

/// Starts a server at the addresses of both origins, or of what is upstream of them. It closes idle connections after a
/// while that the clients do not know.
fn serve(sim: &mut Sim<'_>, ledger: &Rc<Ledger>, path: Path) -> EngineId {
    let drawn = http_engine(sim);
    let idle = one_of(sim, &[10_000, 100, 1_000, 20]).unwrap_or(10_000);
    let config = Config {
        timeouts: Timeouts { idle: Some(Duration::from_millis(idle)), ..Timeouts::DEFAULT },
        ..drawn.config
    };
    let patience = Duration::from_mins(10);
    let limits = Limits { head_time: patience, body_time: patience, ..Limits::DEFAULT };
    let http = sim.engine(Engine { config, ..drawn }, |_poller| {
        let [get, put, post] = [0; 3].map(|_| counter(Rc::clone(ledger)));
        Http::new()
            .limits(limits)
            .get("/n/{number}", move |request, response| {
                get(request.param("number"));
                let bytes = request.query("bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
                response.header("X-Number", request.param("number")).generate(bytes, letters)
            })
            .put("/n/{number}", move |request, response| {
                put(request.param("number"));
                let response = response.header("X-Number", request.param("number"));
                response.stream(request.head.length(), Echo)
            })
            .post("/n/{number}", move |request, response| {
                post(request.param("number"));
                let response = response.header("X-Number", request.param("number"));
                response.stream(request.head.length(), Echo)
            })
    });
    let addresses = if path == Path::Proxy { proxy::UPSTREAMS } else { ORIGINS };
    for address in addresses {
        sim.listen(http, server(address));
    }
    http
}

fn draw_task(sim: &mut Sim<'_>, number: u32, mistake: Mistake) -> Task {
    let method = one_of(sim, &[Method::Get, Method::Post, Method::Put, Method::Head]).unwrap_or(Method::Get);
    let most = one_of(sim, &[10, 300, 5_000]).unwrap_or(10);
    let length = 1 + sim.draw(most);
    let at = sim.now() + a_while(sim, 8_000);
    let (origin, chunked) = if sim.draw(3) == 2 { (2, true) } else { (1, sim.draw(2) == 1) };
    Task { number, at, origin, method, length, chunked, mistake }
}

/// Starts the clients; returns the methods of their requests.
fn start_clients(
    sim: &mut Sim<'_>,
    ledger: &Rc<Ledger>,
    requests: u32,
    mistake: Mistake,
    path: Path,
) -> BTreeMap<u32, Method> {
    let mut tasks: Vec<Task> = (0..requests).map(|number| draw_task(sim, number, mistake)).collect();
    tasks.sort_by_key(|task| task.at);
    let start = sim.now();
    let methods = tasks.iter().map(|task| (task.number, task.method)).collect();
    let engine = Engine { pollers: 1, ..http_engine(sim) };
    let idle_time = Duration::from_millis(one_of(sim, &[4_000, 100, 15]).unwrap_or(4_000));
    // A slow link stays slow after the faults: an exchange then takes minutes, and those that wait for it as well.
    let client = ClientLimits { total_time: Some(Duration::from_mins(2)), ..ClientLimits::DEFAULT };
    let wait_time = Duration::from_mins(5);
    let limits = PoolLimits { per_origin: PER_ORIGIN, idle_time, wait_time, client, ..PoolLimits::DEFAULT };
    sim.engine(engine, |_poller| {
        let last = (FINAL..FINAL + 4).map(|number| Task {
            number,
            at: start,
            origin: 1 + (number % 2) as u8,
            // A proxy cannot send a body again that it has passed on, if the server has closed an idle connection.
            method: if number % 4 < 2 || path == Path::Proxy { Method::Get } else { Method::Put },
            length: 100,
            chunked: false,
            mistake: Mistake::None,
        });
        let ledger = Rc::clone(ledger);
        Callers { pool: Pool::new(limits), tasks: tasks.clone().into(), last: last.collect(), ledger }
    });
    methods
}

/// Runs the scenario, with a mistake that it is to notice.
///
/// # Panics
///
/// Panics if a check fails.
pub fn run_with(sim: &mut Sim<'_>, mistake: Mistake, path: Path) {
    let requests = one_of(sim, &[30, 3, 80]).unwrap_or(30);
    let ledger = Rc::new(Ledger::default());
    let first = serve(sim, &ledger, path);
    if path == Path::Proxy {
        proxy::start(sim, ORIGINS);
    }
    let methods = start_clients(sim, &ledger, requests, mistake, path);
    let (span, grace) = (a_while(sim, 8_000), a_while(sim, 300));
    let stops = sim.draw(2) == 1;
    if stops {
        sim.stop_after(first, span, grace);
        sim.run_until(Duration::from_mins(5), |sim| sim.has_stopped(first));
        let pause = a_while(sim, 500);
        sim.run_for(pause);
        serve(sim, &ledger, path);
    }
    let over = |ledger: &Ledger, count: u32| {
        let ends = ledger.ends.borrow();
        let ended: u32 = ends.values().map(|(ended, failed)| ended + failed).sum();
        ledger.submitted.get() >= count && ended == ledger.submitted.get()
    };
    sim.run_until(Duration::from_mins(3), |_| over(&ledger, requests));
    sim.heal();
    if path == Path::Proxy {
        // Upstreams that have failed are left out for a while.
        sim.run_for(REST.1 + Duration::from_secs(1));
    }
    ledger.healed.set(true);
    let all = requests + 4;
    let done = sim.run_until(Duration::from_mins(10), |_| over(&ledger, all));
    assert!(done, "liveness: {} of {all} requests are submitted", ledger.submitted.get());
    let served = ledger.served.borrow().clone();
    for (number, (ended, failed)) in ledger.ends.borrow().iter() {
        assert!(ended + failed == 1, "once: {number} has ended {ended} times and failed {failed} times");
        let times = served.get(number).copied().unwrap_or(0);
        assert!(times >= *ended, "answers: {number} has ended without the server");
        // The proxy repeats a request for the same reasons as the pool.
        let tries = if path == Path::Proxy { 4 } else { 2 };
        let most = if methods.get(number) == Some(&Method::Post) { 1 } else { tries };
        assert!(times <= most, "repeats: {number} was served {times} times");
    }
    sim.finish();
}

pub(super) fn run(sim: &mut Sim<'_>) {
    run_with(sim, Mistake::None, Path::Direct);
}
