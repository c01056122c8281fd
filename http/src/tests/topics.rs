//! Tests of topics: which requests get what is published, until when, and what slow clients miss.

extern crate std;

use std::format;
use std::string::{String, ToString};

use lightcone_core::{Config, Handler, TopicStats};

use crate::testing::{TestRequest, TestServer};
use crate::{
    Backlog, ChainEnd, EncodedEvent, EventFeed, EventWriter, Exchange, Flow, Http, LagPolicy, RequestMessage,
    ServerEvent, State, Topic, TopicFeed, Transfer,
};

const NEWS: Topic = Topic(1);
const SPORT: Topic = Topic(2);
const CONFIG: Config = TestServer::<Http<(), ChainEnd>>::CONFIG;

struct App;

impl State for App {
    type Message = EncodedEvent;
}

/// Ends after its first event.
struct Once;

impl EventFeed<App> for Once {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, App>) -> Flow {
        assert!(events.subscribe(NEWS).is_ok() && events.subscribe(SPORT).is_ok());
        assert!(events.unsubscribe(SPORT) && !events.unsubscribe(SPORT));
        Flow::More
    }

    fn message(&mut self, event: EncodedEvent, events: &mut EventWriter<'_, '_, App>) -> Flow {
        assert!(events.send_encoded(&event).is_ok());
        Flow::Done
    }
}

/// Subscribes by the outlet, as a layer does, and ends after its first event.
struct Layered;

impl Exchange<App> for Layered {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        let token = io.token();
        assert!(io.outlet().subscribe(NEWS, token).is_ok());
        Flow::More
    }

    fn message(&mut self, _: EncodedEvent, _: &mut Transfer<'_, App>) -> Flow {
        Flow::Done
    }
}

/// A stream that has subscribed to nothing, and sends every message.
struct Open;

impl Exchange<App> for Open {
    fn advance(&mut self, _: &mut Transfer<'_, App>) -> Flow {
        Flow::More
    }

    fn message(&mut self, event: EncodedEvent, io: &mut Transfer<'_, App>) -> Flow {
        assert!(write!(io, "{event}").is_ok());
        Flow::More
    }
}

fn event(data: &str) -> EncodedEvent {
    EncodedEvent::new(&ServerEvent::new(data)).unwrap()
}

fn http() -> Http<App, impl crate::Routes<App>> {
    fn feed<const N: usize>(topic: Topic, policy: LagPolicy) -> TopicFeed<EncodedEvent, N> {
        TopicFeed::new(topic, policy)
    }
    Http::with(App)
        .get("/news", |request, response| request.events(response, feed::<3>(NEWS, LagPolicy::DropOldest)))
        .get("/newest", |request, response| request.events(response, feed::<3>(NEWS, LagPolicy::KeepNewest)))
        .get("/all", |request, response| request.events(response, feed::<3>(NEWS, LagPolicy::Disconnect)))
        .get("/sport", |request, response| request.events(response, feed::<1>(SPORT, LagPolicy::DropOldest)))
        .get("/once", |request, response| request.events(response, Once))
        .get("/layered", |_request, response| response.stream(Some(0), Layered))
        .get("/open", |_request, response| response.stream(None, Open))
        .get("/count", |request, response| response.display(request.subscribers(NEWS)))
        .post("/news/{text}", |mut request, response| {
            let event = event(request.param("text"));
            match request.publish(NEWS, event) {
                Ok(()) => response.status(204).empty(),
                Err(_) => response.refuse(503),
            }
        })
        .post("/exact/{length}", |mut request, response| {
            let event = event(&"x".repeat(request.parse_param("length").unwrap()));
            assert!(request.publish(NEWS, event).is_ok());
            response.status(204).empty()
        })
        .post("/long/{text}", |mut request, response| {
            let event = event(&request.param("text").repeat(400));
            assert!(request.publish(NEWS, event).is_ok());
            response.status(204).empty()
        })
}

fn server() -> TestServer<impl Handler<Message = RequestMessage<EncodedEvent>>> {
    TestServer::new(http())
}

fn post(server: &mut TestServer<impl Handler>, target: &str) {
    assert_eq!(server.request(TestRequest::new("POST", target)).status(), 204);
}

fn count(server: &mut TestServer<impl Handler>) -> String {
    server.get("/count").text().to_string()
}

/// Returns the data of the events that have arrived, of each its first letter.
fn events(server: &mut TestServer<impl Handler>, connection: usize) -> String {
    let body = server.partial(connection).unwrap().text().to_string();
    body.split("data: ").skip(1).filter_map(|event| event.chars().next()).collect()
}

fn stats(server: &TestServer<impl Handler>) -> TopicStats {
    server.stats().topics
}

#[test]
fn the_streams_of_a_topic_get_what_is_published_to_it() {
    let mut server = server();
    let streams = ["/news", "/all", "/newest"].map(|target| server.start(TestRequest::get(target)));
    let sport = server.start(TestRequest::get("/sport"));
    assert_eq!(count(&mut server), "3");
    post(&mut server, "/news/a");
    post(&mut server, "/news/b");
    assert_eq!(streams.map(|stream| events(&mut server, stream)), ["ab", "ab", "ab"]);
    assert_eq!(events(&mut server, sport), "");
    let stats = stats(&server);
    assert_eq!((stats.published, stats.delivered, stats.subscriptions()), (2, 6, 4));
}

#[test]
fn a_subscription_ends_with_its_stream_although_the_connection_goes_on() {
    let mut server = server();
    let connection = server.start(TestRequest::get("/once"));
    assert_eq!(count(&mut server), "1");
    post(&mut server, "/news/a");
    assert_eq!(server.response(connection).unwrap().text(), "data: a\n\n");
    assert_eq!(count(&mut server), "0");
    // the next request of the connection gets nothing, although it takes every message
    server.send_request(connection, TestRequest::get("/open"));
    post(&mut server, "/news/b");
    assert_eq!(server.partial(connection).unwrap().text(), "");
    assert_eq!((stats(&server).published, stats(&server).delivered), (2, 1));
}

#[test]
fn a_subscription_of_a_layer_ends_with_its_exchange() {
    let mut server = server();
    let connection = server.start(TestRequest::get("/layered"));
    assert_eq!(count(&mut server), "1");
    post(&mut server, "/news/a");
    assert_eq!(count(&mut server), "0");
    assert_eq!(server.response(connection).unwrap().status(), 200);
}

#[test]
fn an_event_that_can_never_be_sent_is_dropped_and_ends_no_stream() {
    let mut server = small();
    let stream = server.start(TestRequest::get("/news"));
    let limit = 1_024 - 17; // what a chunk needs besides
    for length in [limit - "data: \n\n".len(), limit + 1 - "data: \n\n".len()] {
        post(&mut server, &format!("/exact/{length}"));
    }
    post(&mut server, "/news/b");
    assert_eq!(events(&mut server, stream), "xb");
    assert_eq!((stats(&server).dropped, count(&mut server).as_str()), (1, "1"));
}

#[test]
fn a_subscription_ends_with_its_connection() {
    let mut server = server();
    let streams = [server.start(TestRequest::get("/news")), server.start(TestRequest::get("/news"))];
    server.reset(streams[0]);
    assert_eq!(count(&mut server), "1");
    server.end(streams[1]);
    assert_eq!(count(&mut server), "0");
    post(&mut server, "/news/a");
    assert_eq!(stats(&server).delivered, 0);
}

/// Publishes ten long events to a client that reads nothing and to one that does. Returns the two connections, and how
/// many events the output of the first one has taken.
fn flood(server: &mut TestServer<impl Handler>, target: &str) -> (usize, usize) {
    let slow = server.start(TestRequest::get(target));
    let _ = server.partial(slow);
    let quick = server.start(TestRequest::get("/news"));
    server.set_window(slow, 0);
    for text in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        post(server, &format!("/long/{text}"));
    }
    assert_eq!(events(server, quick), "abcdefghij", "the other one is not delayed");
    (slow, quick)
}

/// Reads everything.
fn catch_up(server: &mut TestServer<impl Handler>, slow: usize) -> String {
    server.set_window(slow, 1 << 20);
    events(server, slow)
}

/// A server whose connections have 1,024 bytes of output: room for two of the long events.
fn small() -> TestServer<impl Handler<Message = RequestMessage<EncodedEvent>>> {
    TestServer::with_config(http(), &Config { block_size: 512, output_limit: 2, ..CONFIG })
}

#[test]
fn a_slow_client_misses_the_oldest() {
    let mut server = small();
    let (slow, _) = flood(&mut server, "/news");
    let dropped = stats(&server).dropped;
    let heard = catch_up(&mut server, slow);
    assert!(heard.ends_with("hij"), "{heard}");
    assert_eq!(heard.len() as u64 + dropped, 10, "{heard}");
    assert!("abcdefg".starts_with(&heard[..heard.len() - 3]), "{heard}");
    post(&mut server, "/news/k");
    assert!(events(&mut server, slow).ends_with("hijk"));
}

#[test]
fn a_slow_client_gets_the_newest() {
    let mut server = small();
    let (slow, _) = flood(&mut server, "/newest");
    let replaced = stats(&server).replaced;
    let heard = catch_up(&mut server, slow);
    assert!(heard.ends_with('j') && !heard.contains('i'), "{heard}");
    assert_eq!(heard.len() as u64 + replaced, 10, "{heard}");
}

#[test]
fn a_slow_client_is_disconnected() {
    let mut server = small();
    let (slow, _) = flood(&mut server, "/all");
    assert_eq!((stats(&server).disconnected, count(&mut server).as_str()), (1, "1"));
    let heard = catch_up(&mut server, slow);
    assert!("abcdefg".starts_with(&heard), "without a gap: {heard}");
    assert!(server.is_ended(slow));
}

#[test]
fn one_stream_more_than_there_are_subscriptions_is_disconnected() {
    let mut server = TestServer::with_config(http(), &Config { subscriptions: 1, ..CONFIG });
    let first = server.start(TestRequest::get("/news"));
    let second = server.start(TestRequest::get("/news"));
    assert!(!server.is_ended(first) && server.is_ended(second));
    server.reset(first);
    let third = server.start(TestRequest::get("/news"));
    post(&mut server, "/news/a");
    assert_eq!(events(&mut server, third), "a");
}

/// Publishes more than the mailbox has room for: until it is full, and the rest when it has room.
struct Flood {
    backlog: Backlog<EncodedEvent, 1>,
    rest: Option<lightcone_core::Unpublished<EncodedEvent>>,
    left: usize,
}

impl Exchange<App> for Flood {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        assert!(io.subscribe(NEWS).is_ok());
        assert_eq!(io.subscribers(NEWS), 1);
        while self.left > 0 {
            let published = match self.rest.take() {
                Some(rest) => io.publish_rest(rest),
                None => io.publish(NEWS, event("x")),
            };
            if let Err(rejected) = published {
                self.rest = Some(rejected.into_inner());
                io.wake_at(io.now() + core::time::Duration::from_millis(1));
                return Flow::More;
            }
            self.left -= 1;
        }
        Flow::More
    }

    fn message(&mut self, event: EncodedEvent, io: &mut Transfer<'_, App>) -> Flow {
        assert!(self.backlog.push(event, io).is_ok());
        self.backlog.drain(|event| write!(io, "{event}"));
        Flow::More
    }
}

/// The mailbox of the testing server has room for eight messages.
#[test]
fn an_exchange_publishes_the_rest_when_there_is_room() {
    let http = Http::with(App).get("/", |_request, response| {
        let backlog = Backlog::new(LagPolicy::Disconnect);
        response.stream(None, Flood { backlog, rest: None, left: 20 })
    });
    let mut server = TestServer::new(http);
    let connection = server.start(TestRequest::get("/"));
    server.advance(core::time::Duration::from_millis(5));
    assert_eq!(events(&mut server, connection), "x".repeat(20));
}

#[test]
fn an_event_that_is_not_valid_is_not_encoded() {
    assert!(EncodedEvent::new(&ServerEvent::new("").name("a\nb")).is_err());
    let event = EncodedEvent::new(&ServerEvent::new("a\nb").name("c")).unwrap();
    assert_eq!(
        (event.as_str(), event.to_string()),
        ("event: c\ndata: a\ndata: b\n\n", event.as_str().to_string())
    );
}
