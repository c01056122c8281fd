//! Requests on one connection, one after another.

extern crate std;

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use crate::{Http, RequestMessage, State};
use lightcone_core::Handler;

use super::rig::{Rig, ok, refusal, response};

const GET: &[u8] = b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";

fn server() -> impl Handler<Message = RequestMessage<<() as State>::Message>> {
    Http::new()
        .get("/foo", |_request, response| response.text("bar"))
        .get("/count/{n}", |request, response| response.text(request.param("n")))
        .get("/empty", |_request, response| response.status(204).empty())
        .post("/post", |_request, response| response.text("posted"))
}

fn answer(request: &[u8]) -> (String, bool) {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, request);
    (rig.take(peer), rig.peers[peer].shut || rig.peers[peer].closed)
}

#[test]
fn a_request_is_answered() {
    assert_eq!(answer(GET), (ok("bar"), false));
}

#[test]
fn the_second_request_is_answered_as_the_second() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, GET);
    assert_eq!(rig.take(peer), ok("bar"));
    rig.send(peer, b"GET /count/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(rig.take(peer), ok("2"));
    rig.send(peer, GET);
    assert_eq!(rig.take(peer), ok("bar"));
}

#[test]
fn pipelined_requests_are_all_answered_in_order_whatever_the_cut() {
    let requests: Vec<u8> = (0..20)
        .flat_map(|n| format!("GET /count/{n} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes())
        .chain(*b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .chain(*b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
        .chain(GET.iter().copied())
        .collect();
    let mut expected: String = (0..20).map(|n| ok(&format!("{n}"))).collect();
    expected += &(ok("posted") + &ok("posted") + &ok("bar"));
    for cut in (1..80).chain([requests.len()]) {
        let mut rig = Rig::untimed(server());
        let peer = rig.connect();
        rig.peers[peer].cut = cut;
        rig.send(peer, &requests);
        assert_eq!(rig.take(peer), expected, "in pieces of {cut}");
    }
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    let whole = ok("bar");
    let head = whole.strip_suffix("bar").unwrap();
    let two = [&b"HEAD /foo HTTP/1.1\r\nHost: a\r\n\r\n"[..], GET].concat();
    assert_eq!(answer(&two), (format!("{head}{whole}"), false));
}

#[test]
fn a_status_without_body_has_no_length() {
    let (text, _) = answer(b"GET /empty HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(text, format!("HTTP/1.1 204 No Content\r\nServer: lightcone\r\n{}\r\n", super::rig::DATE));
}

#[test]
fn the_connection_ends_when_the_client_announces_it() {
    let closing = response("200 OK", "Connection: close\r\n", "bar");
    assert_eq!(answer(b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"), (closing.clone(), true));
    assert_eq!(answer(b"GET /foo HTTP/1.0\r\n\r\n"), (closing, true));
    let staying = response("200 OK", "Connection: keep-alive\r\n", "bar");
    assert_eq!(answer(b"GET /foo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), (staying, false));
}

#[test]
fn no_request_is_answered_after_a_close() {
    let two = [&b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..], GET].concat();
    assert_eq!(answer(&two), (response("200 OK", "Connection: close\r\n", "bar"), true));
}

/// A reset would destroy the response (RFC 9112, 9.6): a client may send an empty line after its body, or a request that
/// was on its way, whatever it has announced.
#[test]
fn bytes_that_arrive_after_the_last_response_are_discarded() {
    let requests = [
        "GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /foo HTTP/1.0\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
    ];
    for request in requests {
        let mut rig = Rig::untimed(server());
        let peer = rig.connect();
        rig.send(peer, request.as_bytes());
        assert!(rig.is_ended(peer) && !rig.take(peer).is_empty(), "{request}");
        for late in [&b"\r\n"[..], GET] {
            rig.send(peer, late);
            assert_eq!(rig.unread(peer), 0, "{request}");
        }
        rig.end(peer);
        assert!(rig.peers[peer].closed && !rig.is_reset(peer), "{request}");
    }
}

#[test]
fn without_a_wall_clock_there_is_no_date() {
    let mut rig = Rig::untimed(server());
    rig.set_unix_time(None);
    let peer = rig.connect();
    rig.send(peer, GET);
    assert_eq!(rig.take(peer), ok("bar").replace(super::rig::DATE, ""));
    rig.set_unix_time(Some(784_111_777));
    rig.send(peer, GET);
    assert_eq!(rig.take(peer), ok("bar"));
}

#[test]
fn unknown_paths_and_methods() {
    assert_eq!(answer(b"GET /no HTTP/1.1\r\nHost: a\r\n\r\n"), (refusal("404 Not Found", ""), false));
    let not_allowed = refusal("405 Method Not Allowed", "Allow: GET, HEAD, OPTIONS\r\n");
    assert_eq!(answer(b"PUT /foo HTTP/1.1\r\nHost: a\r\n\r\n"), (not_allowed, false));
    let not_allowed = refusal("405 Method Not Allowed", "Allow: POST, OPTIONS\r\n");
    assert_eq!(answer(b"GET /post HTTP/1.1\r\nHost: a\r\n\r\n"), (not_allowed, false));
    let (options, _) = answer(b"OPTIONS /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        options.starts_with("HTTP/1.1 204 No Content\r\n")
            && options.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n")
    );
    let (options, _) = answer(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(options.starts_with("HTTP/1.1 204 No Content\r\n"));
}

#[test]
fn refusals_end_the_connection() {
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET /foo HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        ("BREW /foo HTTP/1.1\r\n\r\n", "501 Not Implemented"),
        ("GET /foo HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", "417 Expectation Failed"),
        ("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n", "413 Content Too Large"),
        ("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
    ];
    for (request, status) in table {
        let refused = refusal(status, "Connection: close\r\n");
        assert_eq!(answer(request.as_bytes()), (refused.clone(), true), "{request}");
        // Responses to earlier requests are not lost.
        let two = [GET, request.as_bytes(), GET].concat();
        assert_eq!(answer(&two), (ok("bar") + &refused, true), "{request}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    const POST: &[u8] = b"POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    const CHUNKED: &[u8] =
        b"POST /post HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    const FIELDS: &[u8] = b"GET /foo HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    let line = &b"\r\n"[..];
    let closing = refusal("400 Bad Request", "Connection: close\r\n");
    let (bar, posted) = (ok("bar"), ok("posted"));
    let table = [
        (vec![line, GET, line, GET, GET], bar.repeat(3), false),
        (
            vec![line, FIELDS, line, POST, line, CHUNKED, line, GET],
            bar.clone() + &posted.repeat(2) + &bar,
            false,
        ),
        (vec![GET, line], bar.clone(), false),
        (vec![line, line, GET], closing.clone(), true),
        (vec![POST, line, line, GET], posted + &closing, true),
        (vec![GET, b"\n", GET], bar.clone() + &closing, true),
        (vec![GET, b"\r", GET], bar.clone() + &closing, true),
        (vec![GET, line, b" ", GET], bar + &closing, true),
    ];
    for (pieces, expected, ends) in table {
        let bytes = pieces.concat();
        for cut in 1..=bytes.len() {
            let mut rig = Rig::untimed(server());
            let peer = rig.connect();
            rig.peers[peer].cut = cut;
            rig.send(peer, &bytes);
            let told = bytes.escape_ascii();
            assert_eq!((rig.take(peer), rig.peers[peer].shut), (expected.clone(), ends), "by {cut}: {told}");
        }
        // The same with one callback per piece.
        let mut rig = Rig::untimed(server());
        let peer = rig.connect();
        pieces.iter().for_each(|piece| rig.send(peer, piece));
        assert_eq!(rig.take(peer), expected);
    }
}

/// An empty line does not begin a request: the connection is idle after it.
#[test]
fn an_empty_line_begins_no_request() {
    let mut rig = Rig::untimed(server());
    let (peer, half) = (rig.connect(), rig.connect());
    rig.send(peer, b"\r\n");
    rig.send(half, b"\r");
    rig.pass(60_000);
    assert_eq!((rig.take(peer), rig.take(half)), (String::new(), String::new()));
    rig.send(half, b"\n");
    rig.send(half, GET);
    rig.send(half, b"\r\n");
    assert_eq!(rig.take(half), ok("bar"));
    rig.pass(1_000);
    rig.shutdown();
    assert!(rig.peers[peer].shut && rig.peers[half].shut);
}

#[test]
fn a_peer_that_ends_its_side_is_answered_first() {
    let mut rig = Rig::untimed(server());
    let peer = rig.connect();
    rig.send(peer, &[GET, GET].concat());
    rig.end(peer);
    assert_eq!(rig.take(peer), ok("bar") + &ok("bar"));
    assert!(rig.peers[peer].closed);
}
