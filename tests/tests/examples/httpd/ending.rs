use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use lightcone_tests::streams::bounded;

use crate::program::Program;

use super::client::{Client, SECOND, get, poll};

/// Waits until the server no longer listens.
fn wait_until_closed(server: &Program) {
    poll(|| TcpStream::connect(server.address()).is_err().then_some(()));
}

#[test]
fn a_signal_lets_requests_end_and_closes_idle_connections() {
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

/// Starts a server with a client that reads nothing of an endless response.
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

/// Waits until the route for load balancers responds with 503, on connections that are accepted after the signal.
fn wait_until_not_ready(server: &Program) {
    poll(|| {
        let answer = get(server, "/ready");
        assert_eq!(answer.field("Cache-Control"), Some("no-store"));
        match (answer.status, answer.text()) {
            (503, "stopping\n") => Some(()),
            ready => {
                assert_eq!(ready, (200, "ready\n"));
                None
            }
        }
    });
}

#[test]
fn while_balancers_notice_a_stop_the_server_serves_as_before() {
    for threads in [["--pollers", "2"], ["--workers", "2"]] {
        let server = Program::start("httpd", &[&threads[..], &["--ready-delay", "3600"]].concat());
        let mut kept = Client::new(&server);
        assert_eq!(kept.get("/ready").status, 200);
        server.signal("TERM");
        wait_until_not_ready(&server);
        for _ in 0..2 {
            let answer = kept.get("/foo");
            assert_eq!((answer.text(), answer.field("Connection")), ("bar", None));
        }
        assert_eq!(kept.get("/ready").status, 503);
        server.signal("TERM");
        let (code, out, err) = server.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("stopped: "), "{out}");
    }
}

#[test]
fn after_the_delay_the_listeners_close_and_requests_end() {
    let server = Program::start("httpd", &["--pollers", "1", "--grace", "3600", "--ready-delay", "1"]);
    let mut busy = Client::new(&server);
    busy.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    busy.head();
    server.signal("TERM");
    wait_until_not_ready(&server);
    wait_until_closed(&server);
    busy.send("def");
    assert_eq!(busy.read(6), b"abcdef");
    busy.ended();
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(" 0 aborted, 0 bytes lost"), "{out}");
}

/// The outcome of one client's last request when the server was stopped.
struct Fate {
    /// Whether the last request was sent before the signal.
    before: bool,
    /// Whether its response was complete.
    answered: bool,
    /// Whether the response announced the end of the connection.
    told: bool,
}

/// Sends requests until the connection ends.
fn ask_until_the_end(server: &str, signalled: &AtomicBool, ready: &AtomicUsize) -> Fate {
    let mut stream = bounded(TcpStream::connect(server).unwrap());
    for round in 0_u64.. {
        let sent = stream.write_all(b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n").is_ok();
        let before = !signalled.load(Ordering::SeqCst);
        assert!(sent || !before);
        let mut answer = Vec::new();
        let mut piece = [0; 512];
        while !answer.ends_with(b"\r\n\r\nbar") {
            match stream.read(&mut piece) {
                Ok(n @ 1..) => answer.extend_from_slice(&piece[..n]),
                Ok(0) => return Fate { before, answered: false, told: false },
                // The request arrived after the staged close was over.
                Err(_) if !before => return Fate { before, answered: false, told: false },
                Err(error) => panic!("{error}, of a request that was sent before the signal"),
            }
        }
        if answer.windows(17).any(|window| window == b"Connection: close") {
            assert_eq!(stream.read(&mut piece).unwrap(), 0, "the connection must end cleanly");
            return Fate { before, answered: true, told: true };
        }
        if round == 10 {
            ready.fetch_add(1, Ordering::SeqCst);
        }
    }
    unreachable!("the server must have ended by now");
}

/// Ten rounds: no request that reached the server before the signal is lost, and no connection is reset.
#[test]
fn a_signal_under_load_loses_no_request() {
    const CLIENTS: usize = 12;
    for round in 0..10 {
        let workers: &[&str] = if round % 2 == 1 { &["--workers", "2"] } else { &[] };
        let server = Program::start("httpd", &[&["--pollers", "2", "--grace", "60"], workers].concat());
        let (signalled, ready, address) = (AtomicBool::new(false), AtomicUsize::new(0), server.address());
        let fates: Vec<Fate> = thread::scope(|scope| {
            let ask = || ask_until_the_end(address, &signalled, &ready);
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            poll(|| (ready.load(Ordering::SeqCst) == CLIENTS).then_some(()));
            signalled.store(true, Ordering::SeqCst);
            server.signal("TERM");
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for Fate { before, answered, told } in fates {
            assert!(answered || !before, "a request is lost in round {round}");
            assert_eq!(answered, told, "round {round}");
        }
        let (code, out, err) = server.end();
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains(" 0 aborted, 0 bytes lost"), "{out}");
    }
}
