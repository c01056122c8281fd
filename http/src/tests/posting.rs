//! Tests of messages that routes and exchanges post to other requests.

extern crate std;

use std::string::{String, ToString};

use lightcone_core::{Handler, Rejected};

use crate::testing::{TestRequest, TestServer};
use crate::{EventFeed, EventWriter, Exchange, Flow, Http, RequestId, ServerEvent, State, Transfer};

/// The most recent stream, and how many messages were refused.
#[derive(Default)]
struct App {
    last: Option<RequestId>,
    refused: usize,
}

impl State for App {
    type Message = u32;
}

/// Sends each message as an event.
struct Feed(bool);

impl EventFeed<App> for Feed {
    fn advance(&mut self, events: &mut EventWriter<'_, '_, App>) -> Flow {
        if !self.0 {
            self.0 = true;
            let id = events.id();
            events.state().last = Some(id);
        }
        Flow::More
    }

    fn message(&mut self, message: u32, events: &mut EventWriter<'_, '_, App>) -> Flow {
        let _ = events.send(&ServerEvent::new(message));
        Flow::More
    }
}

/// Posts the length of its body to the most recent stream, and broadcasts it.
struct Announces(u32);

impl Exchange<App> for Announces {
    fn advance(&mut self, io: &mut Transfer<'_, App>) -> Flow {
        let length = io.body().len();
        io.consume(length);
        self.0 += u32::try_from(length).unwrap();
        if !io.is_ended() {
            return Flow::More;
        }
        assert!(io.state.last.is_some_and(|last| io.post(last, self.0).is_ok()));
        assert!(io.broadcast(self.0 + 1000).is_ok());
        io.respond(|_, response| response.text("announced"))
    }
}

fn server() -> TestServer<impl Handler + 'static> {
    TestServer::new(
        Http::with(App::default())
            .get("/events", |request, response| request.events(response, Feed(false)))
            .post("/all/{number}", |mut request, response| {
                let number = request.parse_param("number").unwrap();
                match request.broadcast(number) {
                    Ok(()) => response.status(204).empty(),
                    Err(_) => response.status(503).empty(),
                }
            })
            .post("/last/{number}", |mut request, response| {
                let number: u32 = request.parse_param("number").unwrap();
                let Some(last) = request.state.last else { return response.status(404).empty() };
                for message in number..number + 10 {
                    if let Err(refused) = request.post(last, message) {
                        assert!(matches!(refused, Rejected::Full(back) if back == message));
                        request.state.refused += 1;
                    }
                }
                response.display(request.state.refused)
            })
            .post("/announce", |_request, response| response.defer(Announces(0))),
    )
}

fn post(server: &mut TestServer<impl Handler + 'static>, target: &str, body: &str) -> (u16, String) {
    let response = server.request(TestRequest::new("POST", target).body(body));
    (response.status(), response.text().to_string())
}

fn events(server: &mut TestServer<impl Handler + 'static>, connection: usize) -> String {
    server.partial(connection).unwrap().text().replace("data: ", "").replace("\n\n", " ")
}

#[test]
fn a_route_wakes_the_streams_of_other_connections() {
    let mut server = server();
    let streams = [server.start(TestRequest::get("/events")), server.start(TestRequest::get("/events"))];
    assert_eq!(post(&mut server, "/all/7", "").0, 204);
    assert_eq!(post(&mut server, "/all/8", "").0, 204);
    for stream in streams {
        assert_eq!(events(&mut server, stream), "7 8 ");
    }
}

/// The mailbox of the testing server has room for eight messages.
#[test]
fn a_full_mailbox_returns_the_message_to_the_route() {
    let mut server = server();
    assert_eq!(post(&mut server, "/last/1", "").0, 404);
    let (first, last) =
        (server.start(TestRequest::get("/events")), server.start(TestRequest::get("/events")));
    assert_eq!(post(&mut server, "/last/1", ""), (200, "2".into()));
    assert_eq!(events(&mut server, last), "1 2 3 4 5 6 7 8 ");
    assert_eq!(events(&mut server, first), "");
}

#[test]
fn an_exchange_posts_to_other_requests() {
    let mut server = server();
    let (first, last) =
        (server.start(TestRequest::get("/events")), server.start(TestRequest::get("/events")));
    assert_eq!(post(&mut server, "/announce", "seven b"), (200, "announced".into()));
    assert_eq!(events(&mut server, last), "7 1007 ");
    assert_eq!(events(&mut server, first), "1007 ");
}

#[test]
fn a_message_to_a_request_that_has_ended_is_dropped() {
    let mut server = server();
    let stream = server.start(TestRequest::get("/events"));
    server.end(stream);
    assert_eq!(post(&mut server, "/last/1", "").0, 200);
    let next = server.start(TestRequest::get("/events"));
    assert_eq!(post(&mut server, "/all/9", "").0, 204);
    assert_eq!(events(&mut server, next), "9 ");
}
