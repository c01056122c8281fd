//! Bodies on the heap.

extern crate std;

use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use lightcone_core::{Config, Handler};

use crate::connection::HttpConnection;
use crate::{Http, Limits, RequestMessage, Routes, State, Stats};

use super::rig::{Rig, config, ok, refusal};

const LIMIT: usize = 1 << 20;
const CLOSE: &str = "Connection: close\r\n";

fn app() -> Http<(), impl Routes<()>> {
    Http::new()
        .limits(Limits { body: 64 << 20, ..Limits::DEFAULT })
        .get("/foo", |_request, response| response.text("bar"))
        .post("/gather", |request, response| {
            request.collect_vec(LIMIT, response, |_state, body, response| match &body[..] {
                b"early" => response.text("early").into_any(),
                b"invalid" => response.header("A", "\n").owned(body),
                b"shared" => response.owned(Arc::<[u8]>::from(body)),
                _ => response.owned(body),
            })
        })
        .post("/small", |request, response| {
            request.collect_vec(7, response, |_state, body, response| {
                response.status(201).owned(String::from_utf8(body).unwrap())
            })
        })
}

fn rig(config: &Config) -> Rig<impl Handler<Message = RequestMessage<<() as State>::Message>> + use<>> {
    Rig::with_config(app(), config)
}

fn post(path: &str, framing: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")
}

/// Returns a body in chunks of various sizes.
fn in_chunks(body: &[u8]) -> Vec<u8> {
    let (mut coded, mut rest, mut size) = (Vec::new(), body, 1);
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(size.min(rest.len()));
        coded.extend_from_slice(format!("{:x};odd\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
        (rest, size) = (more, (size * 7 + 3) % 100_003);
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

fn body_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Returns the whole response, read by a peer that accepts `window` bytes at a time.
fn all(rig: &mut Rig<impl Handler + 'static>, peer: usize, window: usize) -> Vec<u8> {
    let mut received = Vec::new();
    for _ in 0..100_000 {
        rig.open_window(peer, window);
        if rig.peers[peer].received.is_empty() {
            return received;
        }
        received.append(&mut rig.peers[peer].received);
    }
    panic!("no end");
}

#[test]
fn a_body_of_any_size_is_gathered_and_sent_back() {
    let block = config().block_size;
    let sizes = [0, 1, block - 1, block, block + 1, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, LIMIT];
    for size in sizes {
        let body = body_of(size);
        let known = (format!("Content-Length: {size}"), body.clone());
        for (framing, wire) in [known, ("Transfer-Encoding: chunked".into(), in_chunks(&body))] {
            for cut in [usize::MAX, 777] {
                let mut rig = rig(&config());
                let peer = rig.connect();
                (rig.peers[peer].cut, rig.peers[peer].window) = (cut, 0);
                rig.send(peer, post("/gather", &framing).as_bytes());
                rig.send(peer, &wire);
                rig.send(peer, b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
                assert!(rig.queued(peer) <= 8 * block);
                let answer = all(&mut rig, peer, 100_000);
                let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let head = String::from_utf8(answer[..end].to_vec()).unwrap();
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                assert!(head.contains(&format!("\r\nContent-Length: {size}\r\n")), "{head}");
                assert!(answer[end..].starts_with(&body), "{size} {framing}");
                assert_eq!(String::from_utf8_lossy(&answer[end + size..]), ok("bar"));
            }
        }
    }
}

#[test]
fn one_byte_beyond_the_limit_is_refused() {
    for (path, limit) in [("/gather", LIMIT), ("/small", 7)] {
        let mut rig = rig(&config());
        let (known, expecting, chunked) = (rig.connect(), rig.connect(), rig.connect());
        let length = format!("Content-Length: {}", limit + 1);
        rig.send(known, post(path, &length).as_bytes());
        assert_eq!(rig.take(known), refusal("413 Content Too Large", ""));
        rig.send(expecting, post(path, &format!("{length}\r\nExpect: 100-continue")).as_bytes());
        assert_eq!(rig.take(expecting), refusal("413 Content Too Large", CLOSE));
        rig.send(chunked, post(path, "Transfer-Encoding: chunked").as_bytes());
        rig.send(chunked, &in_chunks(&body_of(limit + 1)));
        assert_eq!(rig.take(chunked), refusal("413 Content Too Large", ""));
    }
}

#[test]
fn continue_is_sent_and_answers_of_each_kind_follow() {
    let mut rig = rig(&config());
    let peer = rig.connect();
    rig.send(peer, post("/small", "Content-Length: 7\r\nExpect: 100-continue").as_bytes());
    assert_eq!(rig.take(peer), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.send(peer, b"1234567");
    let answer = rig.take(peer);
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with("\r\n\r\n1234567"), "{answer}");
    for (body, expected) in [("early", ok("early")), ("invalid", refusal("500 Internal Server Error", ""))] {
        rig.send(peer, (post("/gather", &format!("Content-Length: {}", body.len())) + body).as_bytes());
        assert_eq!(rig.take(peer), expected);
    }
    rig.send(peer, (post("/gather", "Content-Length: 6") + "shared").as_bytes());
    assert!(rig.take(peer).ends_with("\r\n\r\nshared"));
    rig.send(peer, (post("/gather", "Transfer-Encoding: chunked") + "2\r\nab\r\nzz").as_bytes());
    assert_eq!(rig.take(peer), refusal("400 Bad Request", CLOSE));
}

fn size_of_connection<R: Routes<()>>(_: &Http<(), R>) -> usize {
    size_of::<HttpConnection<R::Body>>()
}

#[test]
fn a_connection_has_room_for_a_pointer() {
    assert!(size_of_connection(&app()) <= 40, "{}", size_of_connection(&app()));
}

#[test]
fn what_is_streamed_after_it_was_gathered_is_counted_once() {
    static STATS: Stats = Stats::new();
    let mut rig = Rig::untimed(app().stats(&STATS));
    let peer = rig.connect();
    rig.send(peer, (post("/gather", "Content-Length: 3") + "abc").as_bytes());
    let sent = rig.take(peer).len();
    assert_eq!((STATS.requests(), STATS.failures(), STATS.aborted()), (1, 0, 0));
    assert_eq!(STATS.bytes_out(), sent);
}
