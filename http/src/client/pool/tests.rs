//! Tests of the pool on a real poller. The rig is that of servers: it accepts connections, each of which becomes the
//! next one that the pool has asked for, so that a test plays all servers byte by byte.

extern crate std;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::format;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use lightcone_core::{
    Event, Lag, Outbox, PollerEvent, PollerId, Rejected, RoomError, SubscribeError, TimerError, Topic,
    Unpublished,
};

use super::*;
use crate::client::{BodyWriter, ClientRequest, ResponseHead, Uri};
use crate::exchange::Flow;
use crate::testing::TestServer;

/// What has become of the fetches, in order.
type Log = Rc<RefCell<Vec<String>>>;

struct Ask {
    name: &'static str,
    begun: Rc<RefCell<Vec<(Token, u32)>>>,
    body: RequestBody,
    log: Log,
}

impl Fetch for Ask {
    type Message = u32;

    fn is_wanted(&self) -> bool {
        !self.log.borrow().contains(&format!("{} has left", self.name))
    }

    fn request(&self) -> ClientRequest<'_> {
        ClientRequest { body: self.body, ..ClientRequest::get(Uri::parse("http://a/").unwrap()) }
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        while body.write(&[b'x'; 1_000]) > 0 {}
        Flow::More
    }

    fn begun(&mut self, socket: Token, number: u32) {
        self.begun.borrow_mut().push((socket, number));
    }

    fn message(&mut self, message: u32) -> Flow {
        self.log.borrow_mut().push(format!("message {message} for {}", self.name));
        Flow::More
    }

    fn head(&mut self, _: &ResponseHead<'_>) {}

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        Some(data.len())
    }

    fn end(self) {
        self.log.borrow_mut().push(format!("end {}", self.name));
    }

    fn failed(self, error: FetchError) {
        self.log.borrow_mut().push(format!("failed {}: {error}", self.name));
        assert!(self.name != "panic", "as the test wants it");
    }
}

/// What the pool and the test have to do with each other, apart from the sockets.
#[derive(Default)]
struct Desk {
    /// To be submitted in the next millisecond.
    asks: VecDeque<(u8, Ask)>,
    /// Connects that have begun: the origin and the tag.
    dialled: VecDeque<(Address, u64)>,
    /// Whether the poller has no socket for a connect.
    full: bool,
}

/// A pool that takes accepted connections for its own.
struct Turned<const CONNECTIONS: usize, const WAITING: usize> {
    pool: Pool<Ask, CONNECTIONS, WAITING>,
    desk: Rc<RefCell<Desk>>,
}

type Message = PoolMessage<u32>;

/// Records connects, and passes on everything else.
struct Dialler<'c, 'a> {
    cx: &'c mut Context<'a, Message>,
    desk: &'c RefCell<Desk>,
}

impl Outbox<Message> for Dialler<'_, '_> {
    fn post(&mut self, to: Token, message: Message) -> Result<(), Rejected<Message>> {
        self.cx.post(to, message)
    }

    fn broadcast(&mut self, message: Message, _: fn(&Message) -> Message) -> Result<(), Rejected<Message>> {
        self.cx.broadcast(message)
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        let mut desk = self.desk.borrow_mut();
        if desk.full {
            return Err(ConnectError::Full);
        }
        desk.dialled.push_back((to, tag));
        Ok(Token::from_bits(0))
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        self.cx.local_address(token)
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        self.cx.set_timer(at, tag)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.cx.cancel_timer(timer)
    }

    fn publish(&mut self, message: Unpublished<Message>) -> Result<(), Rejected<Unpublished<Message>>> {
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
        self.cx.outbox().request_room(at, socket)
    }
}

impl<const CONNECTIONS: usize, const WAITING: usize> Turned<CONNECTIONS, WAITING> {
    fn with(
        &mut self,
        cx: &mut Context<'_, Message>,
        what: impl FnOnce(&mut Pool<Ask, CONNECTIONS, WAITING>, &mut Context<'_, Message>),
    ) {
        let now = cx.now();
        let mut outbox = Dialler { cx, desk: &self.desk };
        what(&mut self.pool, &mut Context::new(now, None, PollerId(0), &mut outbox));
    }

    fn tick(&mut self, cx: &mut Context<'_, Message>) {
        let asks = core::mem::take(&mut self.desk.borrow_mut().asks);
        for (to, ask) in asks {
            self.with(cx, |pool, cx| pool.submit(origin(to), ask, cx));
        }
        assert!(cx.set_timer(cx.now() + Duration::from_millis(1), 0).is_ok());
    }
}

impl<const CONNECTIONS: usize, const WAITING: usize> Handler for Turned<CONNECTIONS, WAITING> {
    type Data = PoolSocket<Ask>;
    type Message = Message;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<PoolSocket<Ask>> {
        let (to, tag) = self.desk.borrow_mut().dialled.pop_front().expect("the pool connects");
        self.pool.admit(Origin::Connecting { tag }, &to)
    }

    fn event(
        &mut self,
        socket: &mut PoolView<'_, Ask>,
        event: Event<Message>,
        cx: &mut Context<'_, Message>,
    ) {
        if let (Event::Open, Some(Some(place))) = (&event, self.pool.places.get_mut(socket.data.place)) {
            place.token = socket.token(); // it was not known when the connect began
        }
        self.with(cx, |pool, cx| pool.event(socket, event, cx));
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Message>) {
        match event {
            PollerEvent::Started | PollerEvent::Timer { tag: 0, .. } => self.tick(cx),
            PollerEvent::Timer { .. } | PollerEvent::Room { .. } | PollerEvent::Stopping => {
                self.with(cx, |pool, cx| {
                    // as a poller does that goes on after a panic
                    let call = std::panic::AssertUnwindSafe(|| pool.poller_event(event, cx));
                    let _ = std::panic::catch_unwind(call);
                });
            }
        }
    }
}

fn origin(number: u8) -> Address {
    Address::Inet(([10, 0, 0, number], 80).into())
}

/// A pool with its servers.
struct Rig<const CONNECTIONS: usize, const WAITING: usize> {
    server: TestServer<Turned<CONNECTIONS, WAITING>>,
    desk: Rc<RefCell<Desk>>,
    log: Log,
    /// The sockets and numbers of the requests that have begun.
    begun: Rc<RefCell<Vec<(Token, u32)>>>,
}

impl<const CONNECTIONS: usize, const WAITING: usize> Rig<CONNECTIONS, WAITING> {
    fn new() -> Self {
        let desk = Rc::new(RefCell::new(Desk::default()));
        let pool = Pool::new(PoolLimits::DEFAULT);
        let server = TestServer::untimed(Turned { pool, desk: Rc::clone(&desk) });
        Self { server, desk, log: Log::default(), begun: Rc::default() }
    }

    /// Submits requests to these origins, all at once.
    fn submit(&mut self, asks: &[(u8, &'static str)]) {
        asks.iter().for_each(|(to, name)| self.queue(*to, name, RequestBody::None));
        self.pass(2);
    }

    fn queue(&self, to: u8, name: &'static str, body: RequestBody) {
        let (log, begun) = (Rc::clone(&self.log), Rc::clone(&self.begun));
        self.desk.borrow_mut().asks.push_back((to, Ask { name, begun, body, log }));
    }

    fn pass(&mut self, millis: u64) {
        self.server.advance(Duration::from_millis(millis));
    }

    /// Lets the first connect that is in progress succeed; returns the number of the connection.
    fn accept(&mut self) -> usize {
        let connection = self.server.connect();
        self.pass(1);
        connection
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) {
        self.server.send(connection, bytes);
        self.pass(1);
    }

    /// Returns the origins of the connects in progress.
    fn dialled(&self) -> Vec<Address> {
        self.desk.borrow().dialled.iter().map(|(to, _)| *to).collect()
    }

    fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    fn pool(&mut self) -> &mut Pool<Ask, CONNECTIONS, WAITING> {
        &mut self.server.handler().pool
    }
}

const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_server_that_holds_on_to_a_connection_does_not_keep_an_idle_one() {
    let mut rig = Rig::<2, 4>::new();
    rig.submit(&[(1, "a"), (1, "b")]);
    let (first, second) = (rig.accept(), rig.accept());
    // Because of the bytes after the response, its end is awaited.
    rig.send(first, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore");
    rig.send(second, EMPTY);
    assert_eq!((rig.log(), rig.pool().connections()), (["end a", "end b"].map(String::from).into(), 2));
    rig.submit(&[(2, "c")]);
    assert_eq!(rig.dialled(), [origin(2)]);
}

#[test]
fn a_connection_whose_request_was_not_wholly_sent_is_reset() {
    let mut rig = Rig::<1, 4>::new();
    rig.queue(1, "a", RequestBody::Length(500_000));
    rig.pass(2);
    let connection = rig.server.connect();
    rig.server.set_window(connection, 0);
    rig.send(connection, b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(rig.log(), ["end a"]);
    assert!(rig.server.is_reset(connection));
    assert_eq!(rig.pool().connections(), 0);
}

/// A server that has answered, but does not take the end of the request, cannot keep the place either.
#[test]
fn a_connection_whose_last_bytes_are_queued_makes_room_at_once() {
    let mut rig = Rig::<1, 4>::new();
    rig.queue(1, "a", RequestBody::Length(140_000));
    rig.pass(2);
    let connection = rig.server.connect();
    rig.server.set_window(connection, 0);
    rig.send(connection, EMPTY);
    assert_eq!((rig.log(), rig.pool().connections()), (["end a"].map(String::from).into(), 1));
    assert!(!rig.server.is_reset(connection), "it is idle");
    rig.submit(&[(2, "b")]);
    assert!(rig.server.is_reset(connection));
    assert_eq!(rig.dialled(), [origin(2)]);
}

#[test]
fn a_stop_fails_the_requests_whose_connects_have_not_begun() {
    let mut rig = Rig::<2, 4>::new();
    rig.submit(&[(1, "a"), (2, "b")]);
    let connection = rig.accept();
    rig.server.stop(Duration::from_secs(5));
    assert_eq!(rig.log(), ["failed b: stopped while waiting for a free connection"]);
    assert_eq!(rig.pool().connections(), 1);
    rig.send(connection, EMPTY);
    assert_eq!(rig.log().last().map(String::as_str), Some("end a"), "what has begun is completed");
}

/// Lets the connection of a request end that is sent over a used one, while as many others wait as may.
fn lost_while_all_waiters_are_taken(full: bool) -> Rig<1, 1> {
    let mut rig = Rig::<1, 1>::new();
    rig.submit(&[(1, "a")]);
    let connection = rig.accept();
    rig.send(connection, EMPTY);
    rig.submit(&[(1, "b")]);
    rig.submit(&[(2, "c")]);
    assert_eq!((rig.log().len(), rig.pool().waiting()), (1, 1));
    rig.desk.borrow_mut().full = full;
    rig.server.end(connection);
    rig.pass(1);
    rig
}

#[test]
fn a_request_that_is_repeated_needs_no_place_among_the_waiters() {
    let mut rig = lost_while_all_waiters_are_taken(false);
    assert_eq!((rig.log(), rig.dialled()), (std::vec!["end a".into()], std::vec![origin(1)]));
    assert_eq!((rig.pool().waiting(), rig.pool().stats().retries), (1, 0), "it is not sent yet");
    let connection = rig.accept();
    assert_eq!(rig.pool().stats().retries, 1);
    rig.send(connection, EMPTY);
    rig.pass(10);
    let connection = rig.accept();
    rig.send(connection, EMPTY);
    assert_eq!(rig.log(), ["end a", "end b", "end c"]);
}

#[test]
fn a_request_that_can_neither_wait_nor_be_sent_counts_as_an_overload() {
    let mut rig = lost_while_all_waiters_are_taken(true);
    assert_eq!(rig.log(), ["end a", "failed b: too many requests while waiting for a free connection"]);
    let stats = rig.pool().stats();
    assert_eq!((stats.overloads, stats.retries), (1, 0));
}

#[test]
fn waiters_expire_after_a_panic_of_another_one() {
    let mut rig = Rig::<1, 4>::new();
    rig.submit(&[(1, "a"), (1, "panic")]);
    rig.accept();
    rig.pass(1_000);
    rig.submit(&[(1, "b")]);
    rig.pass(10_100);
    let late =
        ["panic", "b"].map(|name| format!("failed {name}: timed out while waiting for a free connection"));
    assert_eq!(rig.log(), late);
}

#[test]
fn a_waiter_that_is_not_wanted_any_more_is_not_sent() {
    let mut rig = Rig::<1, 2>::new();
    rig.submit(&[(1, "a")]);
    let connection = rig.accept();
    rig.submit(&[(1, "b"), (1, "c")]);
    // It makes room for one that is wanted.
    rig.log.borrow_mut().push("b has left".into());
    rig.submit(&[(1, "d")]);
    rig.log.borrow_mut().push("c has left".into());
    rig.send(connection, EMPTY);
    rig.send(connection, EMPTY);
    let (b, c) = (format!("failed b: {UNWANTED}"), format!("failed c: {UNWANTED}"));
    assert_eq!(rig.log(), ["b has left", &b, "c has left", "end a", &c, "end d"]);
    let begun = rig.begun.borrow().len();
    assert_eq!((begun, rig.pool().stats().overloads), (2, 0));
}

#[test]
fn only_the_connects_of_the_pool_are_admitted() {
    let mut rig = Rig::<2, 4>::new();
    rig.submit(&[(1, "a")]);
    assert_eq!(rig.dialled(), [origin(1)]);
    let mut admits = |tag, to| rig.pool().admit(Origin::Connecting { tag }, &origin(to)).is_some();
    assert!(!admits(0, 2), "a connect to another address, with a tag of the pool");
    assert!(!admits(1, 1) && !admits(2, 1), "places without a connect");
    assert!(admits(0, 1));
    assert!(!admits(0, 1), "it was admitted before");
}

#[test]
fn a_message_reaches_the_request_that_it_was_posted_for_or_none() {
    let mut rig = Rig::<1, 4>::new();
    rig.submit(&[(1, "a")]);
    let connection = rig.accept();
    let post = |rig: &mut Rig<1, 4>, request: usize, message: u32| {
        let (socket, number) = rig.begun.borrow()[request];
        assert!(rig.server.post(socket, PoolMessage::new(number, message)));
    };
    post(&mut rig, 0, 1);
    rig.send(connection, EMPTY);
    post(&mut rig, 0, 2); // idle
    rig.submit(&[(1, "b")]);
    post(&mut rig, 0, 3); // the same socket, another request
    post(&mut rig, 1, 4);
    rig.send(connection, EMPTY);
    assert_eq!(rig.log(), ["message 1 for a", "end a", "message 4 for b", "end b"]);
}
