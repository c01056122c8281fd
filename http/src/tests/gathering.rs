//! Bodies that are read in place once they are complete.

extern crate std;

use std::format;
use std::string::String;
use std::time::Duration;

use lightcone_core::{Config, Handler};

use crate::connection::HttpConnection;
use crate::{Http, Limits, RequestMessage, Routes, State};

use super::rig::{Rig, config, ok, refusal};

const CLOSE: &str = "Connection: close\r\n";

fn app(limits: Limits) -> Http<(), impl Routes<()>> {
    Http::new().limits(limits).get("/", |_request, response| response.text("in")).post(
        "/",
        |request, response| {
            request.gather(response, |_state, body, response| {
                let sum: usize = body.iter().map(|byte| usize::from(*byte)).sum();
                response.display(format_args!("{} {sum}", body.len()))
            })
        },
    )
}

fn rig(
    limits: Limits,
    config: &Config,
) -> Rig<impl Handler<Message = RequestMessage<<() as State>::Message>> + use<>> {
    Rig::with_config(app(limits), config)
}

fn post(length: usize, fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n")
}

fn size_of_connection<R: Routes<()>>(_: &Http<(), R>) -> usize {
    size_of::<HttpConnection<R::Body>>()
}

#[test]
fn a_body_is_gathered_whatever_the_cut_and_costs_no_idle_connection_a_byte() {
    assert!(size_of_connection(&app(Limits::DEFAULT)) <= 32);
    let body = "abcdefghij".repeat(5);
    let sum = body.bytes().map(usize::from).sum::<usize>();
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let bytes = format!("{}{body}{get}{}{}{body}\r\n{get}", post(50, ""), post(0, ""), post(50, ""));
    let gathered = ok(&format!("50 {sum}"));
    let expected = format!("{gathered}{}{}{gathered}{}", ok("in"), ok("0 0"), ok("in"));
    for cut in 1..=bytes.len() {
        let mut rig = rig(Limits::DEFAULT, &config());
        let peer = rig.connect();
        rig.peers[peer].cut = cut;
        rig.send(peer, bytes.as_bytes());
        assert_eq!(rig.take(peer), expected, "in pieces of {cut}");
    }
    let mut rig = rig(Limits::DEFAULT, &config());
    let peer = rig.connect();
    rig.send(peer, post(3, "Expect: 100-continue\r\n").as_bytes());
    assert_eq!(rig.take(peer), "HTTP/1.1 100 Continue\r\n\r\n");
    rig.send(peer, b"a");
    rig.send(peer, b"bc");
    assert_eq!(rig.take(peer), ok("3 294"));
}

#[test]
fn the_largest_body_is_what_the_input_holds() {
    for small in [Config { receive_blocks: 0, block_size: 1024, ..config() }, config()] {
        let capacity = if small.receive_blocks == 0 { small.block_size } else { small.receive_size };
        for length in [capacity, capacity + 1] {
            let mut rig = rig(Limits::DEFAULT, &small);
            let peer = rig.connect();
            rig.send(peer, post(length, "").as_bytes());
            rig.send(peer, &std::vec![1; length]);
            let whole = ok(&format!("{length} {length}"));
            let expected = if length > capacity { refusal("413 Content Too Large", "") } else { whole };
            assert_eq!(rig.take(peer), expected, "{length}");
            rig.send(peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(rig.take(peer), ok("in"));
        }
    }
}

#[test]
fn what_can_not_be_gathered_is_refused() {
    let limits = Limits { body_time: Duration::from_secs(1), body_step: 10, ..Limits::DEFAULT };
    let mut rig = rig(limits, &config());
    let peer = rig.connect();
    rig.send(peer, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(rig.take(peer), refusal("411 Length Required", ""));
    // A body that ends early, and one that arrives too slowly: three steps of 10 bytes have three seconds.
    rig.send(peer, post(30, "").as_bytes());
    rig.send(peer, b"ab");
    rig.end(peer);
    assert_eq!(rig.take(peer), refusal("400 Bad Request", CLOSE));
    let slow = rig.connect();
    rig.send(slow, post(30, "").as_bytes());
    for _ in 0..29 {
        rig.sleep(100);
        rig.send(slow, b"b");
    }
    assert_eq!(rig.take(slow), "");
    rig.sleep(120);
    assert_eq!(rig.take(slow), refusal("408 Request Timeout", CLOSE));
}
