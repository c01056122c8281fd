//! What is passed on, and to which upstream.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::kit::{GET, Peer, Program, Upstream, ask, field};

/// The request as it is sent, and as the upstream gets it.
const REQUESTS: [(&str, &str); 6] = [
    (
        "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nAccept: x\r\n\r\n",
        "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nAccept: x\r\nVia: 1.1 lightcone\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\r\n",
    ),
    (
        "HEAD / HTTP/1.0\r\nX-Forwarded-For: 10.0.0.1\r\nVia: 1.0 a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: \r\nX-Forwarded-For: 10.0.0.1\r\nVia: 1.0 a\r\nVia: 1.0 lightcone\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\r\n",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nVia: 1.1 lightcone\r\nX-Forwarded-For: 127.0.0.1\r\n\
         Content-Length: 3\r\n\r\nabc",
    ),
    (
        "PATCH / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: B\r\n\r\n\
         1;x=y\r\na\r\n02\r\nbc\r\n0\r\nB: c\r\n\r\n",
        "PATCH / HTTP/1.1\r\nHost: a\r\nVia: 1.1 lightcone\r\nX-Forwarded-For: 127.0.0.1\r\n\
         Transfer-Encoding: chunked\r\n\r\nabc",
    ),
    (
        "DELETE http://b/c HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\n\r\n",
        "DELETE /c HTTP/1.1\r\nHost: b\r\nVia: 1.1 lightcone\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
    ),
    (
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\nVia: 1.1 lightcone\r\n\
         X-Forwarded-For: 127.0.0.1\r\n\r\n",
    ),
];

#[test]
fn requests_are_passed_on_without_what_concerns_one_connection() {
    let (requests, received) = channel();
    let requests = Mutex::new(requests);
    let upstream = Upstream::start(move |mut peer| {
        while let Some((head, body)) = peer.request() {
            requests.lock().unwrap().send(head + &String::from_utf8(body).unwrap()).unwrap();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    for (request, expected) in REQUESTS {
        assert_eq!(ask(proxy.address, request).status, 200, "{request}");
        assert_eq!(received.recv().unwrap(), expected);
    }
    assert_eq!(upstream.connections(), 1, "the connection is kept");
    for (request, status) in [
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 204),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ] {
        assert_eq!(ask(proxy.address, request).status, status, "{request}");
    }
    assert!(received.try_recv().is_err(), "these are not passed on");
    let trace = "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(ask(proxy.address, trace).status, 200);
    assert_eq!(upstream.connections(), 1, "the connection is still kept");
}

/// The response of an upstream, the request, and what the client gets: the head and the body.
const RESPONSES: [(&str, &str, &str, &str); 8] = [
    (
        "HTTP/1.1 404 Nothing\r\nDate: then\r\nServer: s\r\nConnection: X-Hop\r\nX-Hop: 1\r\nSet-Cookie: a\r\n\
         Set-Cookie: b\r\nContent-Length: 2\r\n\r\nab",
        GET,
        "HTTP/1.1 404 Not Found\r\nDate: then\r\nServer: s\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
         Via: 1.1 lightcone\r\nContent-Length: 2\r\n\r\n",
        "ab",
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n\
         1;a=b\r\na\r\n1\r\nb\r\n0\r\nX: y\r\n\r\n",
        GET,
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nVia: 1.1 lightcone\r\nTransfer-Encoding: chunked\r\n\r\n",
        "ab",
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nVia: 1.1 lightcone\r\nConnection: close\r\n\r\n",
        "ab",
    ),
    (
        "HTTP/1.0 200 OK\r\nDate: d\r\nServer: s\r\n\r\nab",
        GET,
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nVia: 1.0 lightcone\r\nTransfer-Encoding: chunked\r\n\r\n",
        "ab",
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nContent-Length: 77\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nVia: 1.1 lightcone\r\nContent-Length: 77\r\n\r\n",
        "",
    ),
    (
        "HTTP/1.1 304 Not Modified\r\nDate: d\r\nServer: s\r\nETag: \"a\"\r\n\r\n",
        GET,
        "HTTP/1.1 304 Not Modified\r\nDate: d\r\nServer: s\r\nETag: \"a\"\r\nVia: 1.1 lightcone\r\n\r\n",
        "",
    ),
    (
        "HTTP/1.1 204 No Content\r\nDate: d\r\nServer: s\r\n\r\n",
        GET,
        "HTTP/1.1 204 No Content\r\nDate: d\r\nServer: s\r\nVia: 1.1 lightcone\r\n\r\n",
        "",
    ),
    (
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
         HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nContent-Length: 0\r\n\r\n",
        GET,
        "HTTP/1.1 200 OK\r\nDate: d\r\nServer: s\r\nVia: 1.1 lightcone\r\nContent-Length: 0\r\n\r\n",
        "",
    ),
];

#[test]
fn responses_are_framed_anew_for_the_client() {
    for (response, request, head, body) in RESPONSES {
        let upstream = Upstream::start(move |mut peer| {
            peer.request();
            peer.write(response);
        });
        let proxy = Program::proxy(&[upstream.address], &[]);
        let answer = ask(proxy.address, request);
        assert_eq!((&*answer.head, &*answer.body, answer.whole), (head, body.as_bytes(), true));
    }
}

/// A head of 10 KiB, with bytes that are no text.
#[test]
fn large_heads_are_passed_on() {
    let upstream = Upstream::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let cookie = field(&head, "cookie").unwrap();
            peer.write(format!("HTTP/1.1 200 OK\r\nX-Cookie: {cookie}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let cookie = "\u{e9}".repeat(5 << 10);
    let answer = ask(proxy.address, &format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
    assert_eq!((answer.status, field(&answer.head, "x-cookie")), (200, Some(&*cookie)));
    let too_much = "c".repeat(15 << 10);
    let answer = ask(proxy.address, &format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {too_much}\r\n\r\n"));
    assert_eq!(answer.status, 431);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|mut peer| {
        while let Some((head, _)) = peer.request() {
            let path = head.split(' ').nth(1).unwrap();
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    let requests: String = (0..50).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.write(requests);
    for n in 0..50 {
        assert_eq!(client.answer(GET).body, format!("/{n}").as_bytes());
    }
}

#[test]
fn requests_are_distributed() {
    let named = || {
        let answers = ["0", "1"].map(|name| {
            Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}").into_boxed_str())
        });
        answers.map(|answer| Upstream::answering(answer))
    };
    let upstreams = named();
    let proxy = Program::proxy(&upstreams.each_ref().map(|upstream| upstream.address), &[]);
    let mut client = Peer::connect(proxy.address);
    let turns: Vec<_> = (0..6).map(|_| client.ask(GET).body).collect();
    assert_eq!(turns.concat(), b"010101");
    // One upstream never answers: its load stays.
    let stuck = Upstream::start(|mut peer| {
        peer.request();
        std::thread::park();
    });
    let [first, second] = named();
    let addresses = [stuck.address, first.address, second.address];
    let proxy = Program::proxy(&addresses, &["--balance=least-loaded"]);
    let mut waiting = Peer::connect(proxy.address);
    waiting.write(GET);
    crate::kit::eventually("the first request is passed on", || stuck.connections() == 1);
    let mut client = Peer::connect(proxy.address);
    let turns: Vec<_> = (0..6).map(|_| client.ask(GET).body).collect();
    assert_eq!(turns.concat(), b"010101");
}
