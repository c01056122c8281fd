//! Upstreams that come and go, and the end of the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use lightcone_examples::proxy::CONNECTIONS;

use crate::kit::{GET, Peer, Program, Upstream, ask, eventually, unused};

const FOO: &str = "GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";

fn httpd(address: &str) -> Program {
    Program::start("httpd", &["--pollers=1", &format!("--listen={address}")])
}

#[test]
fn an_upstream_that_is_killed_and_restarted_under_load_costs_no_request() {
    let steady = httpd("127.0.0.1:0");
    let mut fickle = Some(httpd("127.0.0.1:0"));
    let address = fickle.as_ref().unwrap().address;
    let proxy = Program::proxy(&[steady.address, address], &["--balance=least-loaded"]);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, served, to) = (Arc::clone(&stop), Arc::clone(&served), proxy.address);
            thread::spawn(move || {
                let mut client = Peer::connect(to);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.ask(FOO);
                    assert_eq!((answer.status, &*answer.body), (200, &b"bar"[..]), "{answer:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let some_more = || {
        let before = served.load(Ordering::Relaxed);
        eventually("requests are served", || served.load(Ordering::Relaxed) > before + 500);
    };
    for _ in 0..5 {
        some_more();
        drop(fickle.take()); // killed
        some_more();
        fickle = Some(httpd(&address.to_string()));
    }
    some_more();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    // It is used again.
    drop(steady);
    eventually("the upstream that was restarted serves", || ask(proxy.address, FOO).status == 200);
}

#[test]
fn checks_leave_an_upstream_out_and_bring_it_back() {
    let (healthy, others) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (health, count) = (Arc::clone(&healthy), Arc::clone(&others));
    let checked = Upstream::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            let is_check = head.starts_with("GET /health HTTP/1.1\r\nHost: 127.0.0.1:");
            count.fetch_add(usize::from(!is_check), Ordering::Relaxed);
            let status = if health.load(Ordering::Relaxed) || !is_check { "200 OK" } else { "500 Ill" };
            peer.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let other = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy =
        Program::proxy(&[checked.address, other.address], &["--check-path=/health", "--check-every=1s"]);
    let mut client = Peer::connect(proxy.address);
    // Whether it gets one of two requests.
    let mut is_used = || {
        let before = others.load(Ordering::Relaxed);
        (0..2).for_each(|_| assert_eq!(client.ask(GET).status, 200));
        others.load(Ordering::Relaxed) > before
    };
    assert!(is_used());
    healthy.store(false, Ordering::Relaxed);
    eventually("it is left out", || (0..10).all(|_| !is_used()));
    healthy.store(true, Ordering::Relaxed);
    eventually("it is used again", || (0..10).all(|_| is_used()));
}

/// The upstream accepts connections and answers nothing: only the checks notice it before the patience is over.
#[test]
fn a_check_that_takes_too_long_has_failed() {
    let stuck = Upstream::start(|mut peer| {
        peer.request();
        thread::park();
    });
    let proxy = Program::proxy(&[stuck.address], &["--check-path=/health"]);
    eventually("it is left out", || {
        let mut client = Peer::connect(proxy.address);
        client.0.get_ref().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        client.write(GET);
        client.head().is_some_and(|head| head.starts_with("HTTP/1.1 503 "))
    });
}

#[test]
fn a_client_that_leaves_ends_the_request() {
    let (gone, left) = channel();
    let gone = std::sync::Mutex::new(gone);
    let upstream = Upstream::start(move |mut peer| {
        peer.request();
        peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        let end = peer.head(); // the end of the connection
        gone.lock().unwrap().send(end).unwrap();
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    client.write(GET);
    // It leaves bytes unread, so that its end is a reset.
    client.0.get_ref().peek(&mut [0]).unwrap();
    drop(client);
    assert_eq!(left.recv_timeout(Duration::from_secs(5)), Ok(None));
}

#[test]
fn a_request_whose_client_leaves_while_it_waits_is_not_sent() {
    let (received, requests) = channel();
    let (received, open) = (std::sync::Mutex::new(received), Arc::new(AtomicBool::new(true)));
    let gate = Arc::clone(&open);
    let upstream = Upstream::start(move |mut peer| {
        while let Some((head, _)) = peer.request() {
            received.lock().unwrap().send(head).unwrap();
            eventually("the gate opens", || gate.load(Ordering::Relaxed));
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut leaving = Peer::connect(proxy.address);
    leaving.write(GET);
    // It leaves this response unread, so that its end is a reset.
    leaving.0.get_ref().peek(&mut [0]).unwrap();
    requests.recv().unwrap();
    open.store(false, Ordering::Relaxed);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Peer::connect(proxy.address)).collect();
    clients.iter_mut().for_each(|client| client.write(GET));
    (0..CONNECTIONS).for_each(|_| drop(requests.recv().unwrap()));
    leaving.write(FOO);
    thread::sleep(Duration::from_millis(300));
    drop(leaving);
    thread::sleep(Duration::from_millis(300));
    open.store(true, Ordering::Relaxed);
    for client in &mut clients {
        assert_eq!(client.answer(GET).status, 200);
    }
    assert_eq!(ask(proxy.address, GET).status, 200);
    assert!(requests.try_iter().all(|head| !head.starts_with("GET /foo ")));
}

#[test]
fn a_stop_completes_what_has_begun() {
    let (begun, began) = channel();
    let begun = std::sync::Mutex::new(begun);
    let upstream = Upstream::start(move |mut peer| {
        while peer.request().is_some() {
            begun.lock().unwrap().send(()).unwrap();
            thread::sleep(Duration::from_millis(700));
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
            thread::sleep(Duration::from_millis(300));
            peer.write("b");
        }
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    let mut late = Peer::connect(proxy.address);
    late.write(&GET[..10]);
    client.write(GET);
    began.recv().unwrap();
    proxy.signal("-TERM");
    // The rest of a request whose beginning has arrived. It waits for the only connection to the upstream.
    late.write(&GET[10..]);
    for client in [&mut client, &mut late] {
        let answer = client.answer(GET);
        assert_eq!((answer.status, &*answer.body, answer.whole), (200, &b"ab"[..], true), "{answer:?}");
        assert!(answer.head.contains("Connection: close"));
    }
    drop((client, late));
    let (orderly, report) = proxy.wait();
    assert!(orderly && report.contains("0 aborted"), "{report}");
}

#[test]
fn what_the_command_line_refuses() {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().parent().unwrap().join("examples/proxy");
    let upstream = format!("--upstream={}", unused());
    let table: [(&[&str], &str); 5] = [
        (&[], "--upstream"),
        (&[&upstream, "--balance=random"], "allowed: round-robin, least-loaded"),
        (&[&upstream, "--check-every=0s"], "allowed: 1 to 86400"),
        (&[&upstream, "--check-path=/a b"], "percent-encoded"),
        (&[&upstream, "--min-rate=100000001"], "0 to 100000000"),
    ];
    for (arguments, expected) in table {
        let output = std::process::Command::new(&program).args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(expected), "{arguments:?}: {error}");
    }
}
