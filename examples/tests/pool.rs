//! The pool of the HTTP client in a simulated network without faults, with servers that do as the test says.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::unwrap_used,
    clippy::panic,
    reason = "as in every test: a failure is a panic"
)]

use core::cell::RefCell;
use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone::http::Method;
use lightcone::http::client::{
    ClientRequest, Fetch, FetchError, Pool, PoolLimits, PoolMessage, PoolSocket, PoolStats, ResponseHead, Uri,
};
use lightcone::sim::{Engine, Runner, Sim};
use lightcone::{Address, CloseReason, Context, Event, Handler, Instant, Origin, PollerEvent, Socket};

fn server(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

/// What has happened, in order, with the millisecond.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<(u64, String)>>>);

impl Log {
    fn add(&self, now: Instant, text: String) {
        self.0.borrow_mut().push((now.as_millis(), text));
    }

    /// Returns the texts that begin so, without their times.
    fn of(&self, start: &str) -> Vec<String> {
        let log = self.0.borrow();
        log.iter().filter_map(|(_, text)| text.strip_prefix(start).map(str::to_owned)).collect()
    }

    /// Returns when a text was logged for the first time.
    fn when(&self, text: &str) -> u64 {
        let log = self.0.borrow();
        log.iter().find(|(_, found)| found == text).unwrap_or_else(|| panic!("{text} is not in {log:?}")).0
    }
}

/// How a server behaves.
#[derive(Clone, Copy)]
struct Manner {
    /// How many requests of a connection it answers. It ends the connection when it gets a further one.
    answers: u32,
    /// How long an answer takes.
    delay: Duration,
    /// A field of each answer.
    field: &'static str,
}

const PROMPT: Manner = Manner { answers: u32::MAX, delay: Duration::from_millis(20), field: "" };

struct Server {
    manner: Manner,
    log: Log,
}

impl Handler for Server {
    type Data = u32;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<u32> {
        Some(0)
    }

    fn open(&mut self, socket: &mut Socket<'_, u32>, _: &mut Context<'_, Infallible>) {
        self.log.add(socket.now(), "open".into());
    }

    fn receive(&mut self, socket: &mut Socket<'_, u32>, _: &mut Context<'_, Infallible>) {
        let request = String::from_utf8_lossy(socket.bytes()).into_owned();
        if !request.ends_with("\r\n\r\n") {
            return;
        }
        socket.consume_all();
        let target = request.split(' ').nth(1).unwrap_or_default();
        self.log.add(socket.now(), format!("got {target}"));
        *socket.data += 1;
        if *socket.data > self.manner.answers {
            return socket.close();
        }
        let at = socket.now() + self.manner.delay;
        socket.set_deadline(Some(at));
    }

    fn timeout(&mut self, socket: &mut Socket<'_, u32>, _: &mut Context<'_, Infallible>) {
        let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 1\r\n\r\n.", self.manner.field);
        assert!(socket.send(answer.as_bytes()).is_ok());
    }

    fn close(&mut self, socket: &mut Socket<'_, u32>, _: CloseReason, _: &mut Context<'_, Infallible>) {
        self.log.add(socket.now(), "closed".into());
    }
}

/// A request, its name in the target.
#[derive(Clone)]
struct Ask {
    method: Method,
    uri: String,
    name: &'static str,
    log: Log,
    /// The time of the last tick.
    now: Rc<RefCell<Instant>>,
}

impl Fetch for Ask {
    type Message = ();

    fn request(&self) -> ClientRequest<'_> {
        let uri = Uri::parse(&self.uri).unwrap();
        ClientRequest { method: self.method, ..ClientRequest::get(uri) }
    }

    fn head(&mut self, _: &ResponseHead<'_>) {}

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        Some(data.len())
    }

    fn end(self) {
        self.log.add(*self.now.borrow(), format!("end {}", self.name));
    }

    fn failed(self, error: FetchError) {
        self.log.add(*self.now.borrow(), format!("failed {}: {error}", self.name));
    }
}

/// When, to which server, with which method and name.
type Plan = (u64, u8, Method, &'static str);

/// Submits the requests of a plan.
struct Caller {
    pool: Pool<Ask, 2, 4>,
    plan: VecDeque<Plan>,
    log: Log,
    now: Rc<RefCell<Instant>>,
    start: Option<Instant>,
    stats: Rc<RefCell<PoolStats>>,
}

type Cx<'a> = Context<'a, PoolMessage<()>>;

impl Caller {
    fn tick(&mut self, cx: &mut Cx<'_>) {
        let start = *self.start.get_or_insert(cx.now());
        while let Some((at, to, method, name)) = self.plan.front().copied() {
            if start + Duration::from_millis(at) > cx.now() {
                break;
            }
            self.plan.pop_front();
            let uri = format!("http://10.0.0.{to}/{name}");
            let (log, now) = (self.log.clone(), Rc::clone(&self.now));
            let (to, ask) = (Address::Inet(server(to)), Ask { method, uri, name, log, now });
            match name.starts_with(char::is_uppercase) {
                true => self.pool.submit_fresh(to, ask, cx),
                false => self.pool.submit(to, ask, cx),
            }
        }
        assert!(cx.set_timer(cx.now() + Duration::from_millis(1), 0).is_ok());
    }

    fn look(&self) {
        assert!(self.pool.connections() <= 2 && self.pool.waiting() <= 4);
        *self.stats.borrow_mut() = self.pool.stats();
    }
}

impl Handler for Caller {
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
        *self.now.borrow_mut() = cx.now();
        self.pool.event(socket, event, cx);
        self.look();
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Cx<'_>) {
        *self.now.borrow_mut() = cx.now();
        match event {
            PollerEvent::Started | PollerEvent::Timer { tag: 0, .. } => self.tick(cx),
            PollerEvent::Timer { .. } | PollerEvent::Room { .. } | PollerEvent::Stopping => {
                self.pool.poller_event(event, cx);
            }
        }
        self.look();
    }
}

/// Runs a plan against two servers of this manner for this many milliseconds.
fn run(limits: PoolLimits, manner: Manner, plan: &[Plan], millis: u64) -> (Log, PoolStats) {
    run_and_stop(limits, manner, plan, millis, None)
}

/// Does the same, and stops the engine of the caller after a time, with 5 seconds of grace.
fn run_and_stop(
    limits: PoolLimits,
    manner: Manner,
    plan: &[Plan],
    millis: u64,
    stop: Option<Duration>,
) -> (Log, PoolStats) {
    let result = Rc::new(RefCell::new(None));
    let scenario = |sim: &mut Sim<'_>| {
        let log = Log::default();
        for number in [1, 2] {
            let log = log.clone();
            let engine = sim.engine(Engine::default(), move |_| Server { manner, log: log.clone() });
            sim.listen(engine, server(number));
        }
        let (stats, start) = (Rc::<RefCell<PoolStats>>::default(), sim.now());
        let now = Rc::new(RefCell::new(start));
        let caller = sim.engine(Engine::default(), |_| Caller {
            pool: Pool::new(limits),
            plan: plan.iter().copied().collect(),
            log: log.clone(),
            now: Rc::clone(&now),
            start: None,
            stats: Rc::clone(&stats),
        });
        if let Some(after) = stop {
            sim.stop_after(caller, after, Duration::from_secs(5));
        }
        sim.run_for(Duration::from_millis(millis));
        let seen = log.0.borrow().iter().map(|(at, text)| (at - start.as_millis(), text.clone())).collect();
        *result.borrow_mut() = Some((Log(Rc::new(RefCell::new(seen))), *stats.borrow()));
        sim.finish();
    };
    let outcome = Runner::new("pool").calm().run(0, &scenario);
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    result.take().unwrap()
}

const ONE: PoolLimits = PoolLimits { per_origin: 1, ..PoolLimits::DEFAULT };

#[test]
fn waiters_are_served_in_order_over_one_connection() {
    let plan = ["a", "b", "c", "d"].map(|name| (0, 1, Method::Post, name));
    let (log, stats) = run(ONE, PROMPT, &plan, 200);
    assert_eq!(log.of("end "), ["a", "b", "c", "d"]);
    assert_eq!((log.of("open").len(), stats.connects, stats.reuses, stats.retries), (1, 1, 3, 0));
    assert!(log.when("end d") < 100, "no time is lost between them: {}", log.when("end d"));
}

#[test]
fn the_limits_of_connections_hold() {
    let plan = ["a", "b", "c", "d"].map(|name| (0, 1, Method::Get, name));
    for (per_origin, expected) in [(1, 1), (2, 2), (3, 2)] {
        let (log, _) = run(PoolLimits { per_origin, ..PoolLimits::DEFAULT }, PROMPT, &plan, 300);
        assert_eq!((log.of("open").len(), log.of("end ").len()), (expected, 4), "{per_origin} per origin");
    }
}

#[test]
fn too_many_waiters_are_refused_and_late_ones_fail() {
    let slow = Manner { delay: Duration::from_millis(500), ..PROMPT };
    let limits = PoolLimits { wait_time: Duration::from_millis(300), ..ONE };
    let plan = ["a", "b", "c", "d", "e", "f"].map(|name| (0, 1, Method::Get, name));
    let (log, stats) = run(limits, slow, &plan, 1_000);
    assert_eq!(log.of("end "), ["a"]);
    let late = "timed out while waiting for a free connection";
    let mut expected = vec!["f: too many requests while waiting for a free connection".to_owned()];
    expected.extend(["b", "c", "d", "e"].map(|name| format!("{name}: {late}")));
    assert_eq!(log.of("failed "), expected);
    assert!((300..310).contains(&log.when(&format!("failed b: {late}"))));
    assert_eq!((stats.overloads, stats.expired), (1, 4));
}

#[test]
fn a_waiter_does_not_block_another_origin() {
    let slow = Manner { delay: Duration::from_millis(200), ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (0, 1, Method::Get, "b"), (0, 2, Method::Get, "c")];
    let (log, _) = run(ONE, slow, &plan, 1_000);
    assert_eq!(log.of("end ").last().map(String::as_str), Some("b"));
    assert!(log.when("end c") < 250);
}

#[test]
fn an_idle_connection_makes_room_for_another_origin() {
    let plan = [
        (0, 1, Method::Get, "a"),
        (0, 1, Method::Get, "b"), // a second connection
        (100, 2, Method::Get, "c"),
        (200, 1, Method::Get, "d"),
    ];
    let (log, stats) = run(PoolLimits::DEFAULT, PROMPT, &plan, 1_000);
    assert_eq!(log.of("end ").len(), 4);
    assert!(log.when("end c") < 150, "it does not wait for the idle time");
    assert_eq!((stats.connects, stats.reuses), (3, 1));
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let plan = [(0, 1, Method::Get, "a")];
    let closed = |limit: u64, field: &'static str| {
        let limits = PoolLimits { idle_time: Duration::from_millis(limit), ..PoolLimits::DEFAULT };
        let (log, _) = run(limits, Manner { field, ..PROMPT }, &plan, 20_000);
        log.when("closed") - log.when("end a")
    };
    assert!((500..510).contains(&closed(500, "")));
    assert!(
        (2_000..2_010).contains(&closed(4_000, "Keep-Alive: timeout=3\r\n")),
        "a second before the server"
    );
    assert!((4_000..4_010).contains(&closed(4_000, "Keep-Alive: timeout=60\r\n")));
    assert!(closed(4_000, "Keep-Alive: timeout=1\r\n") < 10, "it is not used again");
    assert!(closed(4_000, "Connection: close\r\n") < 10);
}

/// The server ends a connection when it gets the second request on it.
#[test]
fn a_request_is_repeated_once_over_a_new_connection() {
    let fickle = Manner { answers: 1, ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (100, 1, Method::Get, "b")];
    let (log, stats) = run(PoolLimits::DEFAULT, fickle, &plan, 1_000);
    assert_eq!(
        (log.of("end "), log.of("got /")),
        (vec!["a".into(), "b".into()], ["a", "b", "b"].map(String::from).into())
    );
    assert_eq!((stats.connects, stats.reuses, stats.retries), (2, 1, 1));
}

#[test]
fn a_retry_does_not_use_an_idle_connection() {
    let fickle = Manner { answers: 1, ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (0, 1, Method::Get, "b"), (100, 1, Method::Get, "c")];
    let (log, stats) = run(PoolLimits::DEFAULT, fickle, &plan, 1_000);
    assert_eq!((log.of("end ").len(), log.of("failed ").len()), (3, 0));
    assert_eq!((stats.connects, stats.retries), (3, 1));
}

#[test]
fn what_must_not_be_repeated_fails() {
    let fickle = Manner { answers: 1, ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (100, 1, Method::Post, "b")];
    let (log, stats) = run(PoolLimits::DEFAULT, fickle, &plan, 1_000);
    assert_eq!((log.of("got /b").len(), stats.retries), (1, 0));
    let ended = "the response is invalid (the connection ended within the response)";
    let expected = format!("b: {ended} while waiting for the first byte of the response");
    assert_eq!(log.of("failed "), [expected]);
}

/// The names in capitals are submitted as retries of the program.
#[test]
fn a_program_decides_about_retries_if_it_likes() {
    let fickle = Manner { answers: 1, ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (100, 1, Method::Get, "b")];
    let limits = PoolLimits { retry: false, ..PoolLimits::DEFAULT };
    let (log, stats) = run(limits, fickle, &plan, 1_000);
    assert_eq!((log.of("end "), log.of("got /b").len(), log.of("failed ").len()), (vec!["a".into()], 1, 1));
    assert_eq!((stats.reuses, stats.retries), (1, 0));
    let plan = [(0, 1, Method::Get, "a"), (100, 1, Method::Get, "B"), (200, 1, Method::Get, "c")];
    let (log, stats) = run(PoolLimits::DEFAULT, PROMPT, &plan, 1_000);
    assert_eq!((log.of("end ").len(), log.of("open").len()), (3, 2), "a new connection although one is idle");
    assert_eq!((stats.reuses, stats.retries), (1, 1));
    let (log, _) =
        run(PoolLimits::DEFAULT, fickle, &[(0, 1, Method::Get, "A"), (100, 1, Method::Get, "B")], 1_000);
    assert_eq!((log.of("end ").len(), log.of("got /").len()), (2, 2));
}

#[test]
fn a_request_on_a_new_connection_is_not_repeated() {
    let silent = Manner { answers: 0, ..PROMPT };
    let (log, stats) = run(PoolLimits::DEFAULT, silent, &[(0, 1, Method::Get, "a")], 1_000);
    assert_eq!((log.of("got /").len(), log.of("failed ").len(), stats.retries), (1, 1, 0));
}

#[test]
fn a_connect_that_fails_fails_its_request_alone() {
    let plan = [(0, 3, Method::Get, "a"), (0, 1, Method::Get, "b")];
    let (log, _) = run(PoolLimits::DEFAULT, PROMPT, &plan, 30_000);
    assert_eq!(log.of("end "), ["b"]);
    assert_eq!(log.of("failed "), ["a: connection refused while connecting"]);
}

#[test]
fn a_stop_fails_what_waits() {
    let slow = Manner { delay: Duration::from_millis(500), ..PROMPT };
    let plan = [(0, 1, Method::Get, "a"), (0, 1, Method::Get, "b")];
    let (seen, _) = run_and_stop(ONE, slow, &plan, 2_000, Some(Duration::from_millis(100)));
    assert_eq!(seen.of("end "), ["a"], "what is in progress is completed");
    assert_eq!(seen.of("failed "), ["b: stopped while waiting for a free connection"]);
}
