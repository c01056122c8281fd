//! What the client gets when an upstream fails.

use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use lightcone_examples::proxy::upstreams::FAILURES_MAX;
use lightcone_examples::proxy::{CONNECTIONS, WAITING};

use crate::kit::{GET, POST, Peer, Program, Upstream, ask, field, unused};

#[test]
fn an_upstream_that_fails_before_its_response() {
    let table: [(&str, u16); 5] = [
        ("", 502),
        ("HTTP/1.1 200", 502),
        ("no response\r\n\r\n", 502),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 502),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n", 502),
    ];
    for (response, status) in table {
        let upstream = Upstream::start(move |mut peer| {
            peer.request();
            peer.write(response);
        });
        let proxy = Program::proxy(&[upstream.address], &[]);
        let mut client = Peer::connect(proxy.address);
        assert_eq!(client.ask(POST).status, status, "{response:?}");
        assert_eq!(client.ask(POST).status, status, "the client's connection is kept");
    }
    let proxy = Program::proxy(&[unused()], &[]);
    assert_eq!(ask(proxy.address, GET).status, 502, "refused");
}

#[test]
fn an_upstream_that_takes_too_long() {
    let silent = Upstream::start(|mut peer| {
        peer.request();
        thread::park();
    });
    let proxy = Program::proxy(&[silent.address], &["--patience=1"]);
    assert_eq!(ask(proxy.address, GET).status, 504, "without a byte of the response");
    // The queue of the listener is full, so it accepts no connection.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fill.push(stream);
    }
    let proxy = Program::proxy(&[address], &["--patience=1"]);
    assert_eq!(ask(proxy.address, GET).status, 504, "without a connection");
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_complete() {
    let (length, chunks) = ("Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    let old = "GET / HTTP/1.0\r\n\r\n";
    for (response, rest, request) in [
        (length, "", GET),
        (chunks, "", GET),
        (chunks, "", old),
        (chunks, "none\r\n", old),
        (chunks, "none\r\n", GET),
    ] {
        let upstream = Upstream::start(move |mut peer| {
            peer.request();
            peer.write(format!("HTTP/1.1 200 OK\r\n{response}"));
            // So that the proxy passes the first part on.
            thread::sleep(Duration::from_millis(200));
            peer.write(rest);
        });
        let proxy = Program::proxy(&[upstream.address], &[]);
        let answer = ask(proxy.address, request);
        assert_eq!((answer.status, answer.whole), (200, false), "{response:?}: {answer:?}");
    }
}

/// Returns an upstream that takes one request of each connection and ends without an answer, and its requests.
fn mute() -> (Upstream, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let upstream = Upstream::start(move |mut peer| {
        if peer.request().is_some() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        peer.0.get_mut().shutdown(Shutdown::Both).unwrap();
    });
    (upstream, requests)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn only_what_is_idempotent_and_unanswered_is_sent_again_and_once() {
    let put = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    for (request, status, sent) in [(GET, 200, 1), (POST, 502, 1), (put, 502, 1)] {
        let (first, requests) = mute();
        let other = Upstream::answering(OK);
        let proxy = Program::proxy(&[first.address, other.address], &[]);
        assert_eq!(ask(proxy.address, request).status, status, "{request}");
        assert_eq!(
            (requests.load(Ordering::Relaxed), other.connections()),
            (sent, usize::from(status == 200))
        );
    }
    let ((first, ones), (second, others)) = (mute(), mute());
    let proxy = Program::proxy(&[first.address, second.address], &[]);
    assert_eq!(ask(proxy.address, GET).status, 502);
    assert_eq!((ones.load(Ordering::Relaxed), others.load(Ordering::Relaxed)), (1, 1), "not a third time");
}

#[test]
fn any_request_is_sent_elsewhere_if_its_upstream_refuses_the_connection() {
    for request in [GET, POST, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"] {
        let other = Upstream::answering(OK);
        let proxy = Program::proxy(&[unused(), other.address], &[]);
        assert_eq!(ask(proxy.address, request).status, 200, "{request}");
    }
}

#[test]
fn without_an_upstream_that_works_the_client_is_to_come_back() {
    let proxy = Program::proxy(&[unused()], &[]);
    let mut client = Peer::connect(proxy.address);
    let statuses: Vec<_> = (0..3).map(|_| client.ask(POST).status).collect();
    assert_eq!(statuses, [502, 502, 503], "a retry counts as well");
    let answer = client.ask(POST);
    assert_eq!((answer.status, field(&answer.head, "retry-after")), (503, Some("1")));
}

/// The time in which an upstream has to read a part of a request passes, but the upstream is not to blame.
#[test]
fn clients_that_do_not_send_their_bodies_do_not_leave_an_upstream_out() {
    let upstream = Upstream::answering(OK);
    let proxy = Program::proxy(&[upstream.address], &["--patience=1"]);
    let mut clients: Vec<_> = (0..FAILURES_MAX).map(|_| Peer::connect(proxy.address)).collect();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
    clients.iter_mut().for_each(|client| client.write(post));
    for mut client in clients {
        assert_eq!(client.answer(post).status, 408);
    }
    assert_eq!(ask(proxy.address, GET).status, 200);
}

/// One upstream does not answer: it uses up its share of the connections and of the queue, and no more.
#[test]
fn a_stuck_upstream_leaves_places_for_the_others() {
    const SHARE: usize = (CONNECTIONS + WAITING) / 2;
    let stuck = Upstream::start(|mut peer| {
        peer.request();
        thread::park();
    });
    let good = Upstream::answering(OK);
    let proxy = Program::proxy(&[stuck.address, good.address], &[]);
    let (results, answers) = channel();
    let begin = || {
        let (results, mut client) = (results.clone(), Peer::connect(proxy.address));
        client.write(GET);
        // The test does not wait for those that are not answered.
        thread::spawn(move || client.head().map(|head| results.send(head[9..12].to_owned())));
    };
    // They take turns: of two requests, each upstream gets one.
    for stuck in 1..=SHARE + 20 {
        begin();
        begin();
        let count = if stuck > SHARE { 2 } else { 1 };
        let patience = Duration::from_secs(9);
        let mut got: Vec<_> = (0..count).map(|_| answers.recv_timeout(patience).unwrap()).collect();
        got.sort();
        assert_eq!(got, ["200", "503"][..count], "{stuck}");
    }
    assert_eq!(stuck.connections(), CONNECTIONS / 2);
}

/// The connections and the queue of a poller are full.
#[test]
fn as_many_requests_wait_as_allowed() {
    const LATE: usize = 20;
    let stuck = Upstream::start(|mut peer| {
        peer.request();
        thread::park();
    });
    let proxy = Program::proxy(&[stuck.address], &[]);
    let (results, answers) = channel();
    for _ in 0..CONNECTIONS + WAITING + LATE {
        let (results, mut client) = (results.clone(), Peer::connect(proxy.address));
        client.write(GET);
        // The test does not wait for those that are not answered.
        thread::spawn(move || client.head().map(|head| results.send(head)));
    }
    for _ in 0..LATE {
        let head = answers.recv_timeout(Duration::from_secs(9)).unwrap();
        assert!(head.starts_with("HTTP/1.1 503 ") && field(&head, "retry-after").is_some(), "{head}");
    }
    assert!(answers.recv_timeout(Duration::from_millis(500)).is_err(), "the others wait");
    crate::kit::eventually("all connections are used", || stuck.connections() == CONNECTIONS);
}
