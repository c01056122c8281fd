//! Event streams, cookies and redirects over the testing client.

extern crate std;

use core::time::Duration;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use lightcone_core::Instant;

use crate::testing::{TestRequest, TestServer};
use crate::{
    EventFeed, EventWriter, Flow, Http, LocalPath, RequestMessage, SameSite, ServerEvent, SetCookie, State,
};

const SECOND: Duration = Duration::from_secs(1);

struct Shared {
    /// The identities of the streams.
    streams: Vec<crate::RequestId>,
    calls: usize,
}

impl State for Shared {
    type Message = u32;
}

/// Sends an event at each of these seconds, and one for each message.
struct Script {
    seconds: &'static [u64],
    begun: bool,
}

impl EventFeed<Shared> for Script {
    const HEARTBEAT: Duration = Duration::from_secs(10);

    fn advance(&mut self, events: &mut EventWriter<'_, '_, Shared>) -> Flow {
        events.state().calls += 1;
        if !self.begun {
            self.begun = true;
            let id = events.id();
            events.state().streams.push(id);
        }
        while let [next, rest @ ..] = self.seconds {
            let at = Instant::from_millis(next * 1000);
            if events.now() < at {
                events.wake_at(at);
                return Flow::More;
            }
            if events.send(&ServerEvent::new(next).id(*next)).is_err() {
                return Flow::More;
            }
            self.seconds = rest;
        }
        Flow::More
    }

    fn message(&mut self, message: u32, events: &mut EventWriter<'_, '_, Shared>) -> Flow {
        let _ = events.send(&ServerEvent::new(message).name("message"));
        if message == 0 { Flow::Done } else { Flow::More }
    }

    fn shutdown(&mut self, events: &mut EventWriter<'_, '_, Shared>) -> Flow {
        let _ = events.send(&ServerEvent::new("bye"));
        Flow::Done
    }
}

/// Sends numbered events of a kilobyte as fast as they are read.
struct Flood(u64);

impl EventFeed<Shared> for Flood {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, Shared>) -> Flow {
        events.state().calls += 1;
        let data = "x".repeat(1000);
        while events.send(&ServerEvent::new(&data).id(self.0)).is_ok() {
            self.0 += 1;
        }
        events.wake_at(events.now());
        Flow::More
    }
}

fn server(
    seconds: &'static [u64],
) -> TestServer<impl lightcone_core::Handler<Message = RequestMessage<u32>>> {
    TestServer::new(
        Http::with(Shared { streams: Vec::new(), calls: 0 })
            .get("/events", move |request, response| {
                request.events(response, Script { seconds, begun: false })
            })
            .get("/flood", |request, response| {
                let next = request.last_event_id().and_then(|id| id.parse().ok()).map_or(0, |id: u64| id + 1);
                request.events(response, Flood(next))
            })
            .get("/calls", |request, response| response.display(request.state.calls))
            .get("/id", |request, response| response.text(request.last_event_id().unwrap_or("none"))),
    )
}

#[test]
fn events_come_when_they_are_due_and_heartbeats_in_between() {
    let mut server = server(&[0, 1, 2, 25]);
    let connection = server.start(TestRequest::get("/events"));
    let so_far = |server: &mut TestServer<_>| server.partial(connection).unwrap().text().to_string();
    let event = |n: u64| format!("id: {n}\ndata: {n}\n\n");
    assert_eq!(so_far(&mut server), event(0));
    let response = server.partial(connection).unwrap();
    assert_eq!(response.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    server.advance(SECOND * 3);
    let mut expected = [0, 1, 2].map(event).concat();
    assert_eq!(so_far(&mut server), expected);
    // Ten seconds after the last event, and then after each other.
    server.advance(Duration::from_millis(8_999));
    assert_eq!(so_far(&mut server), expected);
    server.advance(Duration::from_millis(1));
    expected += ":\n\n";
    assert_eq!(so_far(&mut server), expected);
    server.advance(SECOND * 12);
    expected += ":\n\n";
    assert_eq!(so_far(&mut server), expected);
    server.advance(SECOND);
    expected += &event(25);
    assert_eq!(so_far(&mut server), expected);
    server.advance(SECOND * 9);
    assert_eq!(so_far(&mut server), expected);
    server.advance(SECOND * 21);
    assert_eq!(so_far(&mut server), expected + &":\n\n".repeat(3));
}

#[test]
fn messages_become_events_and_the_feed_ends_the_stream() {
    let mut server = server(&[5]);
    let connection = server.start(TestRequest::get("/events"));
    let token = server.token(connection).unwrap();
    for message in [7, 8] {
        assert!(server.post(token, RequestMessage::to_all(message)));
    }
    server.advance(SECOND * 6);
    let expected = "event: message\ndata: 7\n\nevent: message\ndata: 8\n\nid: 5\ndata: 5\n\n";
    let response = server.partial(connection).unwrap();
    assert_eq!((response.text(), response.is_complete()), (expected, false));
    assert!(server.post(token, RequestMessage::to_all(0)));
    assert!(server.response(connection).unwrap().is_complete());
    server.send_request(connection, TestRequest::get("/id"));
    assert_eq!(server.response(connection).unwrap().text(), "none");
}

#[test]
fn a_stream_ends_at_a_shutdown_and_when_the_client_leaves() {
    let mut server = server(&[]);
    let (connection, left) =
        (server.start(TestRequest::get("/events")), server.start(TestRequest::get("/events")));
    server.end(left);
    assert!(server.is_ended(left));
    assert!(!server.is_ended(connection));
    server.stop(SECOND);
    let response = server.response(connection).unwrap();
    assert_eq!((response.text(), response.is_complete()), ("data: bye\n\n", true));
}

/// No event is cut, lost or sent twice, and the feed is not called while there is no room.
#[test]
fn a_slow_client_slows_the_feed() {
    let mut server = server(&[]);
    let connection = server.connect();
    server.set_window(connection, 0);
    server.send_request(connection, TestRequest::get("/flood").header("Last-Event-ID", "41"));
    server.advance(SECOND);
    let calls = |server: &mut TestServer<_>| server.get("/calls").text().parse::<usize>().unwrap();
    let before = calls(&mut server);
    assert!(before < 10, "{before} calls without room");
    server.advance(SECOND * 20);
    assert_eq!(calls(&mut server), before);
    for _ in 0..200 {
        server.set_window(connection, 1000);
    }
    let response = server.partial(connection).unwrap();
    let whole = response.text().rsplit_once("\n\n").unwrap().0;
    let mut expected = 42..;
    for event in whole.split("\n\n") {
        assert_eq!(event, format!("id: {}\ndata: {}", expected.next().unwrap(), "x".repeat(1000)));
    }
    assert!(expected.start > 200, "{}", expected.start);
}

#[test]
fn the_last_event_that_a_client_has() {
    let mut server = server(&[]);
    for (id, expected) in [("7", "7"), ("a b", "a b"), ("", "none")] {
        assert_eq!(server.request(TestRequest::get("/id").header("Last-Event-ID", id)).text(), expected);
    }
    let head = server.request(TestRequest::new("HEAD", "/events"));
    assert_eq!((head.status(), head.header("Content-Type")), (200, Some("text/event-stream")));
}

#[test]
fn cookies_are_set_and_read() {
    let mut server = TestServer::new(
        Http::new()
            .get("/set/{value}", |request, response| {
                let cookie = SetCookie::new("a", request.param("value")).path("/").same_site(SameSite::Lax);
                response.set_cookie(&cookie).set_cookie(&SetCookie::removal("b")).text("set")
            })
            .get("/", |request, response| {
                let all: Vec<String> =
                    request.cookies().map(|(name, value)| format!("{name}:{value}")).collect();
                response.text(&all.join(" "))
            }),
    );
    let response = server.get("/set/1");
    let cookies: Vec<_> =
        response.headers().filter(|(name, _)| *name == "Set-Cookie").map(|(_, v)| v).collect();
    let removal = "b=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(cookies, ["a=1; Path=/; SameSite=Lax", removal]);
    assert_eq!(server.get("/set/1;2").status(), 500);
    let request = TestRequest::get("/").header("Cookie", "a=1; b=\"2\";c=; d").header("cookie", "a=3;e=f=g");
    assert_eq!(server.request(request).text(), "a:1 b:2 c: a:3 e:f=g");
    assert_eq!(server.get("/").text(), "");
}

#[test]
fn redirects() {
    let mut server = TestServer::new(
        Http::new()
            .get("/see", |_request, response| response.redirect("/other"))
            .get("/to/{status}", |request, response| {
                response.status(request.param("status").parse::<u16>().unwrap()).redirect("/other")
            })
            .get("/login", |request, response| {
                let page = request.query("page").and_then(LocalPath::new).unwrap_or(LocalPath::ROOT);
                response.redirect(page)
            }),
    );
    let response = server.get("/see");
    assert_eq!((response.status(), response.header("Location")), (303, Some("/other")));
    for status in [301, 302, 303, 307, 308] {
        let response = server.get(&format!("/to/{status}"));
        assert_eq!(
            (response.status(), response.header("Location"), response.body()),
            (status, Some("/other"), &b""[..])
        );
    }
    for (page, location) in
        [("/notes", "/notes"), ("//example.com", "/"), ("/%5Cexample.com", "/%5Cexample.com")]
    {
        assert_eq!(server.get(&format!("/login?page={page}")).header("Location"), Some(location));
    }
    for status in [201, 204, 299, 300, 304, 305, 306, 309, 399, 404, 500] {
        assert_eq!(server.get(&format!("/to/{status}")).status(), 500, "{status} redirects to nothing");
    }
    let mut locations = TestServer::new(Http::new().get("/{number}", |request, response| {
        let bad = ["", " ", "/a b", "/\u{e4}", "\\\\evil", "/\t", "/a\0", "/\u{7f}"];
        let number = request.param("number").parse::<usize>().unwrap();
        response.redirect(bad.get(number).copied().unwrap_or("https://a.example/b?c=\"d\"#e%zz"))
    }));
    for number in 0..8 {
        let response = locations.get(&format!("/{number}"));
        assert_eq!((response.status(), response.header("location")), (500, None), "{number}");
    }
    assert_eq!(locations.get("/8").status(), 303);
}
