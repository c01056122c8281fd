use std::env;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process;
use std::thread;

use crate::program::Program;
use lightcone_tests::streams::{WAIT, read_to_end};

use super::client::{Client, get};

#[test]
fn the_routes_answer_what_they_promise() {
    let server = Program::start("httpd", &["--pollers", "2"]);
    let foo = get(&server, "/foo");
    assert_eq!((foo.status, foo.text()), (200, "bar"));
    let plain = get(&server, "/plaintext");
    assert_eq!((plain.status, plain.text()), (200, "Hello, World!"));
    assert_eq!(plain.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(plain.field("server"), Some("lightcone"));
    let date = plain.field("date").unwrap();
    assert!(date.len() == 29 && date.ends_with(" GMT") && !date.contains("1970"), "{date}");
    let json = get(&server, "/json");
    assert_eq!(
        (json.text(), json.field("content-type")),
        (r#"{"message":"Hello, World!"}"#, Some("application/json"))
    );
}

#[test]
fn the_first_line_names_the_address() {
    let server = Program::spawn("httpd", &["--listen", "[::1]:0"]);
    let line = server.line();
    let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}"));
    assert!(address.starts_with("[::1]:") && !address.ends_with(":0"), "{line}");
    drop(TcpStream::connect(address).unwrap());
}

#[test]
fn a_unix_socket_serves_as_well() {
    let path = env::temp_dir().join(format!("lightcone-httpd-{}", process::id()));
    let server = Program::spawn("httpd", &["--listen", &format!("unix:{}", path.display())]);
    assert_eq!(server.line(), format!("listening on unix:{}", path.display()));
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    client.write_all(b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let answer = read_to_end(&client);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\nbar"));
    server.signal("TERM");
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn unknown_paths_and_methods_are_distinguished_and_the_connection_stays() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    let unknown = client.get("/nowhere");
    assert_eq!((unknown.status, unknown.text()), (404, "404 Not Found\n"));
    for (method, path, allow) in [
        ("POST", "/foo", "GET, HEAD, OPTIONS"),
        ("GET", "/echo", "POST, OPTIONS"),
        ("DELETE", "/metrics", "GET, HEAD, OPTIONS"),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("allow")), (405, Some(allow)), "{method} {path}");
    }
    client.send("OPTIONS /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    let options = client.answer();
    assert_eq!((options.status, options.field("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(client.get("/foo").text(), "bar");
}

#[test]
fn a_body_that_no_route_wants_is_skipped() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    let body = "x".repeat(1 << 20);
    client.send(format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(client.answer().status, 404);
    assert_eq!(client.get("/foo").text(), "bar");
}

#[test]
fn head_is_answered_without_a_body() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    for (path, length) in [("/foo", "3"), ("/big?bytes=123456789", "123456789"), ("/nowhere", "14")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.head();
        assert!(head.contains(&format!("\r\nContent-Length: {length}\r\n")), "{head}");
    }
    assert_eq!(client.get("/foo").text(), "bar");
}

#[test]
fn a_client_gets_only_what_it_lacks() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    let mut ask = |path: &str, field: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        client.answer()
    };
    let page = ask("/", "Accept: */*");
    let tag = page.field("etag").unwrap();
    let known = ask("/", &format!("If-None-Match: {tag}"));
    assert_eq!((known.status, known.field("etag"), known.text()), (304, Some(tag), ""));
    let part = ask("/", "Range: bytes=2-8");
    assert_eq!((part.status, part.text()), (206, "DOCTYPE"));
    let part = ask("/big?bytes=3000000", "Range: bytes=2999980-");
    assert_eq!(part.field("content-range"), Some("bytes 2999980-2999999/3000000"));
    let letters = (2_999_980..3_000_000_u32).map(|at| char::from(b'a' + (at % 26) as u8));
    assert!(part.text().chars().eq(letters), "{}", part.text());
    let unchanged = ask("/big?bytes=3000000", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!((unchanged.status, unchanged.text()), (304, ""));
    assert_eq!(ask("/foo", "Range: bytes=0-0").text(), "bar");
}

#[test]
fn an_event_stream_continues_where_the_client_left() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let event = |client: &mut Client| {
        let text = String::from_utf8(client.chunk()).unwrap();
        let second = text.strip_prefix("id: ").and_then(|text| text.split_once('\n')).unwrap().0.to_owned();
        assert_eq!(text, format!("id: {second}\ndata: {second}\n\n"));
        second.parse::<u64>().unwrap()
    };
    let mut client = Client::new(&server);
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().contains("\r\nContent-Type: text/event-stream\r\n"));
    let (first, second) = (event(&mut client), event(&mut client));
    assert_eq!(second, first + 1);
    let mut again = Client::new(&server);
    let last = first.saturating_sub(1);
    again.send(format!("GET /events HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {last}\r\n\r\n"));
    again.head();
    assert_eq!((event(&mut again), event(&mut again)), (last + 1, last + 2));
}

#[test]
fn http_1_0_is_answered_by_its_own_rules() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    client.send("GET /foo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let first = client.answer();
    assert_eq!((first.text(), first.field("connection")), ("bar", Some("keep-alive")));
    client.send("GET /foo HTTP/1.0\r\n\r\n");
    let second = client.answer();
    assert_eq!((second.text(), second.field("connection")), ("bar", Some("close")));
    client.ended();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    const ROUNDS: usize = 500;
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    let mut writer = client.stream().try_clone().unwrap();
    let round = b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: a\r\n\r\nGET /big?bytes=5000 HTTP/1.1\r\nHost: a\r\n\r\n";
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&round.repeat(ROUNDS)).unwrap());
        for _ in 0..ROUNDS {
            assert_eq!(client.answer().text(), "bar");
            assert_eq!(client.answer().text(), "abc");
            assert_eq!(client.answer().status, 404);
            assert_eq!(client.answer().body.len(), 5_000);
        }
    });
    client.finish();
    client.ended();
}

#[test]
fn a_request_in_single_bytes_is_answered() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    client.stream().set_nodelay(true).unwrap();
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    assert_eq!(client.answer().text(), "hello");
}

#[test]
fn a_log_has_a_line_for_each_request() {
    let server = Program::start("httpd", &["--pollers", "1", "--log"]);
    let mut client = Client::new(&server);
    client.get("/foo");
    client.get("/nowhere");
    let peer = client.stream().local_addr().unwrap();
    for expected in ["GET /foo 200 3", "GET /nowhere 404 14"] {
        let line = server.line();
        let took = line.strip_prefix(&format!("{peer} {expected} ")).and_then(|took| took.strip_suffix("ms"));
        assert!(
            took.is_some_and(|took| took.parse::<u32>().is_ok()),
            "{line}, not {expected} and a duration"
        );
    }
}

/// Connections are distributed by the policy of the balancer.
#[test]
fn connections_are_spread_by_the_balancer() {
    for (balancer, spread) in [("round-robin", [8, 8]), ("least", [8, 8]), ("pinned:1", [0, 16])] {
        let server = Program::start("httpd", &["--pollers", "2", "--balancer", balancer]);
        let mut clients: Vec<_> = (0..16).map(|_| Client::new(&server)).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/foo").text(), "bar"));
        let page = clients[0].get("/metrics");
        for (poller, count) in spread.into_iter().enumerate() {
            let line = format!("\nlightcone_connections{{poller=\"{poller}\"}} {count}\n");
            assert!(page.text().contains(&line), "{balancer}: {}", page.text());
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn every_driver_serves() {
    for driver in ["native", "epoll", "select"] {
        let server = Program::start("httpd", &["--driver", driver]);
        let answer = get(&server, "/big?bytes=3000000");
        assert_eq!(answer.body.len(), 3_000_000, "{driver}");
    }
}
