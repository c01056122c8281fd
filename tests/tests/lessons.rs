//! The small examples, each of which shows one thing: their servers and the client, over real sockets.
#![allow(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]
#![allow(clippy::std_instead_of_alloc, reason = "the examples are for systems that have std")]

use core::time::Duration;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use lightcone::{Builder, Engine, Handler};
use lightcone_tests::streams::{bounded, read_to_end};

/// Includes examples as modules. A test has no use for their `main`.
macro_rules! examples {
    ($($name:ident $path:literal)+) => {
        $(
            #[allow(dead_code, reason = "the example's `main`")]
            #[path = $path]
            mod $name;
        )+
    };
}

examples! {
    client "../../examples/client.rs"
    device "../../examples/device.rs"
    events "../../examples/events.rs"
    json "../../examples/json.rs"
    middleware "../../examples/middleware.rs"
    parameters "../../examples/parameters.rs"
    state "../../examples/state.rs"
    upload "../../examples/upload.rs"
    workers "../../examples/workers.rs"
}

/// Serves on a port that the system chooses. Returns a connection to it as well.
fn serve<H>(make: impl Fn() -> H + Send + Sync + 'static) -> (Engine<H::Message>, TcpStream)
where
    H: Handler<Message: Send> + 'static,
{
    let engine = Builder::new().pollers(1).sockets(16).start(move |_poller| make()).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let stream = bounded(TcpStream::connect(listener.endpoint().as_inet().unwrap()).unwrap());
    (engine, stream)
}

/// Sends a request, with these fields and this body, and returns the response.
fn request<H>(make: impl Fn() -> H + Send + Sync + 'static, line: &str, fields: &str, body: &str) -> String
where
    H: Handler<Message: Send> + 'static,
{
    let (engine, mut stream) = serve(make);
    write!(stream, "{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n{body}").unwrap();
    let response = read_to_end(&stream);
    engine.shutdown(Duration::ZERO);
    String::from_utf8(response).unwrap()
}

fn is(response: &str, status: &str, body: &str) {
    let (head, rest) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
    assert_eq!(rest, body);
}

#[test]
fn parameters_are_parsed() {
    let get = |target: &str| request(parameters::server, &format!("GET {target}"), "", "");
    is(&get("/rooms/7/lights?on=true"), "200", "room 7 is lit\n");
    is(&get("/rooms/7/lights?on=false"), "200", "room 7 is dark\n");
    is(&get("/rooms/7/lights"), "400", "the parameter on is missing\n");
    let bad = "the parameter room is invalid: number too large to fit in target type\n";
    is(&get("/rooms/1000/lights?on=true"), "400", bad);
}

#[test]
fn state_is_counted_here_and_everywhere() {
    is(&request(state::server, "GET /", "", ""), "200", "visit 1, visit 1 of this poller\n");
    is(&request(state::server, "GET /", "", ""), "200", "visit 2, visit 1 of this poller\n");
}

#[test]
fn json_is_escaped() {
    let response = request(json::server, "GET /words/li%22ght", "", "");
    assert!(response.contains("\r\nContent-Type: application/json\r\n"), "{response}");
    is(&response, "200", r#"{"word":"li\"ght","letters":6}"#);
}

#[test]
fn an_upload_comes_back_sorted() {
    let post = |fields: &str, body: &str| request(upload::server, "POST /sorted", fields, body);
    is(&post("Content-Length: 6\r\n", "b\nc\na\n"), "200", "a\nb\nc\n");
    is(&post("Transfer-Encoding: chunked\r\n", "3\r\nb\na\r\n0\r\n\r\n"), "200", "a\nb\n");
    assert!(post("Content-Length: 1048577\r\n", "").starts_with("HTTP/1.1 413 "));
}

#[test]
fn events_follow_each_other() {
    let (engine, mut stream) = serve(events::server);
    stream.write_all(b"GET /time HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let lines = BufReader::new(&stream).lines().map(Result::unwrap);
    let times = lines.filter_map(|line| line.strip_prefix("data: ")?.strip_suffix(" ms")?.parse().ok());
    let times: Vec<u64> = times.take(2).collect();
    assert!(times[1] - times[0] >= 1_000, "{times:?}");
    engine.shutdown(Duration::ZERO);
}

#[test]
fn middleware_requires_the_password() {
    let get = |target: &str, fields: &str| request(middleware::server, &format!("GET {target}"), fields, "");
    is(&get("/", ""), "200", "a rock\n");
    is(&get("/cave/treasure", "Authorization: Bearer sesame\r\n"), "200", "gold\n");
    let refused = get("/cave/treasure", "Authorization: Bearer barley\r\n");
    assert!(
        refused.starts_with("HTTP/1.1 401 ") && refused.contains("WWW-Authenticate: Bearer"),
        "{refused}"
    );
}

#[test]
fn the_device_serves_its_page_and_switches_its_leds() {
    let page = include_str!("../../examples/embedded/src/page.html");
    is(&request(device::server, "GET /", "", ""), "200", page);
    let post = |body: &str| {
        request(device::server, "POST /api/leds", &format!("Content-Length: {}\r\n", body.len()), body)
    };
    is(&post("3"), "200", "3");
    is(&post("4"), "400", "400 Bad Request\n");
    is(&request(device::server, "GET /api/memory", "", ""), "200", r#"{"fixed":0,"stack":0,"stack_size":0}"#);
}

#[test]
fn workers_compute() {
    is(&request(workers::server, "GET /primes/100", "", ""), "200", "25");
    is(&request(workers::server, "GET /primes/-1", "", ""), "400", "limit: a number from 0 to 5000000\n");
}

#[test]
fn the_client_gets_an_answer_to_each_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let stream = bounded(listener.accept().unwrap().0);
            for line in BufReader::new(&stream).lines() {
                writeln!(&stream, "{}!", line.unwrap()).unwrap();
            }
        });
        assert_eq!(client::ask(address, &["one\n", "two\n"]).unwrap(), ["one!\n", "two!\n"]);
    });
}
