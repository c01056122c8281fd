use std::io::{ErrorKind, Write};
use std::thread;

use crate::program::Program;

use super::client::{Client, get};

/// Requests that are refused, with the status. Each is followed by more bytes than the kernel's buffers hold, which are
/// still being sent when the server responds.
const REFUSED: [(u16, &str, &str); 17] = [
    (400, "GET /foo HTTP/1.1\r\n\r\n", "no host"),
    (400, "GET /foo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "two hosts"),
    (400, "GET /foo HTTP/1.1\nHost: a\n\n", "bare line feeds"),
    (400, "GET /foo HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "a NUL in a value"),
    (400, "GET /foo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", "a CR in a value"),
    (400, "GET /foo HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "a folded line"),
    (400, "GET /foo HTTP/1.1\r\nHost : a\r\n\r\n", "a space in front of the colon"),
    (
        400,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "two framings",
    ),
    (400, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", "a length that is no number"),
    (400, "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "TLS"),
    (413, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 67108865\r\n\r\n", "a body over the limit"),
    (
        413,
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "a length beyond any number",
    ),
    (
        417,
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 3\r\n\r\n",
        "another expectation",
    ),
    (501, "BREW /foo HTTP/1.1\r\nHost: a\r\n\r\n", "another method"),
    (501, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "a tunnel"),
    (501, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "another coding"),
    (505, "GET /foo HTTP/2.0\r\nHost: a\r\n\r\n", "another version"),
];

fn refused(server: &Program, expected: u16, request: &[u8], name: &str) {
    let mut client = Client::new(server);
    let mut writer = client.stream().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let sent = writer.write_all(request).and_then(|()| writer.write_all(&vec![b'x'; 8 << 20]));
            // Sending may fail after the response has been sent and enough of the rest has been read.
            let cut = |error: std::io::Error| {
                matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
            };
            assert!(sent.map_or_else(cut, |()| true), "{name}");
            let _ = writer.shutdown(std::net::Shutdown::Write);
        });
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("connection")), (expected, Some("close")), "{name}");
        assert!(answer.text().starts_with(&expected.to_string()), "{name}: {}", answer.text());
    });
}

#[test]
fn a_refused_client_can_read_why_while_still_sending() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    for (status, request, name) in REFUSED {
        refused(&server, status, request.as_bytes(), name);
    }
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8 << 10));
    refused(&server, 414, long_target.as_bytes(), "a long target");
    let endless_target = format!("GET /{}", "a".repeat(1 << 20));
    refused(&server, 414, endless_target.as_bytes(), "an endless target");
    let many_fields = format!("GET /foo HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
    refused(&server, 431, many_fields.as_bytes(), "many fields");
    let long_field = format!("GET /foo HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(32 << 10));
    refused(&server, 431, long_field.as_bytes(), "a long field");
    let endless_field = format!("GET /foo HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(1 << 20));
    refused(&server, 431, endless_field.as_bytes(), "an endless field");
    assert_eq!(get(&server, "/foo").text(), "bar");
}

#[test]
fn answers_before_a_refusal_are_not_lost() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    for (status, request, name) in REFUSED {
        let mut client = Client::new(&server);
        client.send(["GET /foo HTTP/1.1\r\nHost: a\r\n\r\n", request].concat());
        assert_eq!(client.answer().text(), "bar", "{name}");
        assert_eq!(client.answer().status, status, "{name}");
        client.ended();
    }
}
