use std::net::TcpStream;
use std::time::Instant;

use crate::program::Program;

use super::client::{Client, SECOND, poll};

/// Waits until nobody listens any more.
fn wait_until_closed(server: &Program) {
    poll(|| TcpStream::connect(server.address()).is_err().then_some(()));
}

#[test]
fn a_signal_lets_requests_end_and_closes_who_is_idle() {
    for signal in ["TERM", "INT"] {
        let server = Program::start("httpd", &["--pollers", "2", "--grace", "3600"]);
        let (mut idle, mut busy) = (Client::new(&server), Client::new(&server));
        assert_eq!(idle.get("/foo").text(), "bar");
        busy.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
        let head = busy.head();
        assert!(head.contains("Content-Length: 6\r\n"), "{head}");
        server.signal(signal);
        idle.ended();
        wait_until_closed(&server);
        busy.send("def");
        assert_eq!(busy.read(6), b"abcdef");
        busy.ended();
        drop((idle, busy));
        let (code, out, err) = server.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(out.starts_with("stopped: "), "{out}");
        assert!(out.contains(" 0 aborted, 0 bytes lost"), "{out}");
    }
}

/// A server with a client that takes none of an endless answer.
fn stuck(grace: &str) -> (Program, Client) {
    let server = Program::start("httpd", &["--pollers", "1", "--grace", grace]);
    let mut client = Client::new(&server);
    client.send("GET /big?bytes=100000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    (server, client)
}

#[test]
fn an_answer_that_does_not_end_is_cut_after_the_grace_time() {
    let (server, _client) = stuck("1");
    let begun = Instant::now();
    server.signal("TERM");
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("stopped: 1 opened, 0 drained, 1 aborted, "), "{out}");
    assert!(!out.contains(" 0 bytes lost"), "{out}");
    assert!(begun.elapsed() >= SECOND, "{:?}", begun.elapsed());
}

#[test]
fn a_second_signal_cuts_it_at_once() {
    let (server, _client) = stuck("3600");
    server.signal("TERM");
    wait_until_closed(&server);
    server.signal("INT");
    let (code, out, _) = server.end();
    assert_eq!(code, Some(0));
    assert!(out.contains(" 1 aborted, "), "{out}");
}
