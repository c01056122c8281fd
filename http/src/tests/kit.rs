//! The kit for tests itself: what it reads, and that it notices what is wrong.

extern crate std;

use core::convert::Infallible;
use core::time::Duration;
use std::format;
#[cfg(not(target_os = "none"))]
use std::panic;
use std::string::String;
use std::vec::Vec;

use lightcone_core::{Address, Context, Handler, Origin, Socket};

use crate::testing::{TestRequest, TestResponse, TestServer};
use crate::{
    Done, Exchange, Flow, Http, Reply, Request, RequestId, RequestMessage, Response, State, Transfer,
};

/// Sends the same bytes to each request, whatever they are.
struct Canned {
    bytes: &'static [u8],
    ends: bool,
}

impl Handler for Canned {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        input.consume_all();
        output.send(self.bytes).unwrap();
        if self.ends {
            socket.stream.close();
        }
    }
}

/// Returns the text of the panic that the response `bytes` causes.
#[cfg(not(target_os = "none"))]
fn panic_of(bytes: &'static [u8], ends: bool) -> String {
    let what = || TestServer::new(Canned { bytes, ends }).get("/");
    let payload = panic::catch_unwind(what).expect_err("it is no response, or not a whole one");
    *payload.downcast::<String>().expect("the panic has a text")
}

#[cfg(not(target_os = "none"))] // there, a panic cannot be caught
#[test]
fn what_is_no_response_is_a_panic() {
    for bytes in [
        &b"HTTP/1.0 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 99 No\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 2x0 No\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : space\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nB: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    ] {
        let text = panic_of(bytes, false);
        assert!(text.starts_with("not a response, "), "{text}");
    }
}

#[cfg(not(target_os = "none"))] // there, a panic cannot be caught
#[test]
fn a_response_that_is_not_whole_is_a_panic_with_what_arrived() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let text = panic_of(bytes, true);
        assert!(text.starts_with("no response to GET /: the connection ended after \""), "{text}");
        let text = panic_of(bytes, false);
        // the server's idle timeout ends the connection
        assert!(text.starts_with("no response to GET /: the connection ended after \""), "{text}");
    }
}

#[cfg(not(target_os = "none"))] // there, a panic cannot be caught
#[test]
fn without_a_timeout_a_request_gives_up_after_an_hour() {
    let mut server = TestServer::untimed(Canned { bytes: b"HTTP/1.1 200 OK\r\n", ends: false });
    let text = panic::catch_unwind(panic::AssertUnwindSafe(|| server.get("/"))).expect_err("it is not whole");
    let text = text.downcast::<String>().expect("the panic has a text");
    assert!(
        text.starts_with("no response to GET /: nothing happened for an hour after \"HTTP/1.1 200 OK"),
        "{text}"
    );
}

#[test]
fn the_framing_of_responses() {
    let read = |bytes: &'static [u8], ends: bool| TestServer::new(Canned { bytes, ends }).get("/");
    let response = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: 2\r\n\r\nabc", false);
    assert_eq!((response.status(), response.text()), (200, "abc"));
    assert_eq!(response.header("X-a"), Some("1"));
    assert_eq!(response.header("X-b"), None);
    assert_eq!(response.headers().collect::<Vec<_>>(), [("Content-Length", "3"), ("X-A", "1"), ("x-a", "2")]);
    assert_eq!(format!("{response}"), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: 2\r\n\r\nabc");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: t\r\n\r\n";
    assert_eq!(read(chunked, false).text(), "a0123456789abcdef");
    assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", true).text(), "until the end");
    assert_eq!(read(b"HTTP/1.1 204 No Content\r\n\r\n", false).text(), "");
    assert_eq!(read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false).text(), "");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na";
    assert_eq!(read(interim, false).text(), "a");
    assert_eq!(read(b"HTTP/1.1 101 Switching Protocols\r\n\r\nbytes", false).status(), 101);
}

#[test]
fn a_response_arrives_as_its_bytes_do() {
    let mut server = TestServer::new(
        Http::new().get("/", |_request, response| response.generate(300, |_offset, piece| piece.fill(b'a'))),
    );
    let connection = server.start(TestRequest::get("/"));
    drop(server.receive(connection));
    server.set_window(connection, 0);
    server.send_request(connection, TestRequest::get("/"));
    assert_eq!(server.partial(connection), None);
    let mut whole = None;
    for byte in 0..10_000 {
        server.set_window(connection, 1);
        let partial = server.partial(connection);
        whole = server.response(connection);
        if let Some(whole) = &whole {
            assert!(whole.is_complete() && byte > 300);
            break;
        }
        assert!(partial.is_none_or(|response| !response.is_complete()));
    }
    assert_eq!(whole.map(|whole| whole.body().len()), Some(300));
}

#[test]
fn pipelined_responses_are_told_apart_by_their_requests() {
    let mut server =
        TestServer::new(Http::new().get("/{name}", |request, response| response.text(request.param("name"))));
    let connection = server.start(TestRequest::new("HEAD", "/one"));
    server.send_request(connection, TestRequest::get("/two"));
    server.send_request(connection, TestRequest::new("HEAD", "/three"));
    server.send_request(connection, TestRequest::get("/four"));
    let texts: Vec<String> =
        core::iter::from_fn(|| server.response(connection)).map(|r| r.text().into()).collect();
    assert_eq!(texts, ["", "two", "", "four"]);
    assert_eq!(server.response(connection), None);
}

#[test]
fn bodies_of_requests() {
    let mut server =
        TestServer::new(Http::new().post("/", |request: Request<'_, ()>, response: Response<'_>| {
            request.collect::<100, _>(response, |_: &mut (), body, response| response.bytes(body))
        }));
    let body = |request: TestRequest, server: &mut TestServer<_>| -> TestResponse { server.request(request) };
    assert_eq!(body(TestRequest::new("POST", "/").body("abc"), &mut server).text(), "abc");
    let chunks = TestRequest::new("POST", "/").chunks(&[b"ab", b"", b"c", &[b'd'; 20]]);
    assert_eq!(body(chunks, &mut server).text(), "abcdddddddddddddddddddd");
    assert_eq!(body(TestRequest::new("POST", "/").chunks(&[]), &mut server).text(), "");
    let too_long = TestRequest::new("POST", "/").chunks(&[&[b'd'; 101]]);
    assert_eq!(body(too_long, &mut server).status(), 413);
    let other_host = TestRequest::new("POST", "/").header("host", "b").body("x");
    assert_eq!(body(other_host, &mut server).status(), 200);
    let two_hosts = TestRequest::new("POST", "/").header("host", "b").header("Host", "c").body("x");
    assert_eq!(body(two_hosts, &mut server).status(), 400);
}

/// Answers when a message arrives.
struct Deferred;

#[derive(Default)]
struct Waiting(Vec<RequestId>);

impl State for Waiting {
    type Message = u32;
}

impl Exchange<Waiting> for Deferred {
    fn advance(&mut self, transfer: &mut Transfer<'_, Waiting>) -> Flow {
        let id = transfer.id();
        transfer.state.0.push(id);
        Flow::More
    }

    fn message(&mut self, number: u32, transfer: &mut Transfer<'_, Waiting>) -> Flow {
        transfer.respond(|_, response| -> Reply<Done> { response.display(number) })
    }
}

#[test]
fn messages_reach_the_request_that_waits() {
    let mut server = TestServer::new(
        Http::with(Waiting::default()).get("/", |_request, response| response.defer(Deferred)),
    );
    let connection = server.start(TestRequest::get("/"));
    assert_eq!(server.partial(connection), None);
    server.advance(Duration::from_secs(5));
    let id = *server.handler().state_mut().0.first().expect("the request waits");
    assert_eq!(Some(id.token()), server.token(connection));
    assert!(server.post(id.token(), id.message(17)));
    assert_eq!(server.response(connection).map(|response| response.text().into()), Some(String::from("17")));
    assert!(server.post(id.token(), RequestMessage::to_all(18)));
    assert_eq!(server.response(connection), None);
}

#[test]
fn what_a_client_sees_of_the_end() {
    let mut server = TestServer::new(Http::new().get("/", |_request, response| response.text("a")));
    let idle = server.connect();
    assert!(!server.is_ended(idle));
    server.advance(Duration::from_secs(29));
    assert!(!server.is_ended(idle));
    server.advance(Duration::from_secs(2));
    assert!(server.is_ended(idle), "the timeout of the first byte is 30 s");
    let kept = server.start(TestRequest::get("/"));
    let failed = server.connect();
    server.reset(failed);
    assert!(server.is_ended(failed));
    server.stop(Duration::from_secs(10));
    server.advance(Duration::from_secs(1));
    assert!(server.is_ended(kept));
}

#[cfg(not(target_os = "none"))] // there, a panic cannot be caught
#[test]
fn what_is_not_there_is_a_panic() {
    let mut server = TestServer::new(Http::new().get("/", |_request, response| response.text("a")));
    server.stop(Duration::ZERO);
    assert!(panic::catch_unwind(panic::AssertUnwindSafe(|| server.connect())).is_err(), "it is stopped");
    assert!(
        panic::catch_unwind(panic::AssertUnwindSafe(|| server.unread(99))).is_err(),
        "there is no such number"
    );
}

/// Input that a handler did not read is received when it reads again, although nothing else arrives.
#[test]
fn what_was_paused_is_received_later() {
    struct Sleepy;

    impl Handler for Sleepy {
        type Data = bool;
        type Message = Infallible;

        fn admit(&mut self, _: Origin, _: &Address) -> Option<bool> {
            Some(false)
        }

        fn open(&mut self, socket: &mut Socket<'_, bool>, cx: &mut Context<'_, Infallible>) {
            socket.pause();
            socket.set_deadline(Some(cx.now() + Duration::from_secs(1)));
        }

        fn timeout(&mut self, socket: &mut Socket<'_, bool>, _: &mut Context<'_, Infallible>) {
            socket.resume();
        }

        fn receive(&mut self, socket: &mut Socket<'_, bool>, _: &mut Context<'_, Infallible>) {
            let (mut input, mut output, _) = socket.split();
            input.consume_all();
            output.send(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    }

    let mut server = TestServer::new(Sleepy);
    let connection = server.start(TestRequest::get("/"));
    assert!(server.unread(connection) > 0);
    server.advance(Duration::from_secs(2));
    assert_eq!(server.unread(connection), 0);
    assert_eq!(server.response(connection).map(|response| response.status()), Some(204));
    assert_eq!(server.get("/").status(), 204);
}

#[test]
fn a_busy_handler_does_not_stop_the_clock() {
    struct Busy;
    impl Exchange<()> for Busy {
        fn advance(&mut self, transfer: &mut Transfer<'_, ()>) -> Flow {
            transfer.wake_at(transfer.now());
            Flow::More
        }
    }
    let mut server = TestServer::new(Http::new().get("/", |_request, response| response.stream(None, Busy)));
    let started = server.start(TestRequest::get("/"));
    server.advance(Duration::from_millis(20));
    assert_eq!(server.now().as_millis(), 20);
    assert!(server.partial(started).is_some());
}
