use std::io::{Read, Write};
use std::thread;

use crate::program::{Program, assert_same};
use lightcone_tests::streams::pattern;

use super::client::Client;

const MEBIBYTE: usize = 1 << 20;

/// Posts a body on a separate thread while the response is read.
fn echoed(client: &mut Client, framing: &str, wire: &[u8]) -> Vec<u8> {
    posted("/echo", client, framing, wire)
}

fn posted(path: &str, client: &mut Client, framing: &str, wire: &[u8]) -> Vec<u8> {
    let mut writer = client.stream().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            write!(writer, "POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").unwrap();
            writer.write_all(wire).unwrap();
        });
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        answer.body
    })
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for (index, chunk) in body.chunks(size).enumerate() {
        let extension = if index == 0 { ";name=value" } else { "" };
        write!(wire, "{:x}{extension}\r\n", chunk.len()).unwrap();
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    wire
}

#[test]
fn bodies_of_any_size_come_back_however_they_are_framed() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    for (seed, size) in
        [0, 1, 4_095, 4_096, 4_097, 32_768, 131_072, 131_073, MEBIBYTE, 8 * MEBIBYTE].into_iter().enumerate()
    {
        let body = pattern(seed as u64, size);
        assert_same(&echoed(&mut client, &format!("Content-Length: {size}"), &body), &body);
        for piece in [1_000, 65_536] {
            assert_same(&echoed(&mut client, "Transfer-Encoding: chunked", &chunked(&body, piece)), &body);
        }
    }
}

#[test]
fn a_body_is_gathered_before_it_is_sent_back() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    for (seed, size) in
        [0, 1, 4_095, 4_096, 4_097, 65_535, 65_536, 65_537, MEBIBYTE - 1, MEBIBYTE].into_iter().enumerate()
    {
        let body = pattern(seed as u64, size);
        let gathered = posted("/gather", &mut client, &format!("Content-Length: {size}"), &body);
        assert_same(&gathered, &body);
        for piece in [997, 65_537] {
            let wire = chunked(&body, piece);
            assert_same(&posted("/gather", &mut client, "Transfer-Encoding: chunked", &wire), &body);
        }
    }
    client.send("POST /gather HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(client.answer().text(), "abc");
    // One byte too many: announced by the length, and discovered in chunks.
    client.send(format!("POST /gather HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MEBIBYTE + 1));
    assert_eq!(client.answer().status, 413);
    let mut client = Client::new(&server);
    client.send("POST /gather HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&pattern(9, MEBIBYTE + 1), 65_537));
    assert_eq!(client.answer().status, 413);
}

#[test]
fn a_body_is_answered_as_it_comes() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    client.send("abc");
    assert!(client.head().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.read(3), b"abc");
    for piece in ["def", "ghi"] {
        client.send(piece);
        assert_eq!(client.read(3), piece.as_bytes());
    }
    assert_eq!(client.get("/foo").text(), "bar");
}

#[test]
fn a_client_that_expects_it_gets_100_continue() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(client.answer().text(), "abc");
    // The body is not requested if it will be refused.
    client.send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n",
    );
    assert_eq!(client.answer().status, 413);
    client.ended();
}

#[test]
fn the_limit_of_a_body_holds_to_the_byte() {
    let server = Program::start("httpd", &["--pollers", "1", "--max-body", "1000"]);
    let body = pattern(1, 1_001);
    let mut client = Client::new(&server);
    assert_same(&echoed(&mut client, "Content-Length: 1000", &body[..1_000]), &body[..1_000]);
    assert_same(
        &echoed(&mut client, "Transfer-Encoding: chunked", &chunked(&body[..1_000], 99)),
        &body[..1_000],
    );
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    let refused = client.answer();
    assert_eq!((refused.status, refused.field("connection")), (413, Some("close")));
    client.ended();
    // The first chunk is too large.
    let mut client = Client::new(&server);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&body, 1_001));
    assert_eq!(client.answer().status, 413);
    // A later chunk exceeds the limit: the response has begun, and must be cut so that it does not look complete.
    let mut client = Client::new(&server);
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&body, 999));
    let mut all = Vec::new();
    { client.stream() }.read_to_end(&mut all).unwrap();
    assert!(!all.ends_with(b"0\r\n\r\n"), "{}", all.escape_ascii());
}

#[test]
fn generated_bodies_have_the_requested_length() {
    let server = Program::start("httpd", &["--pollers", "1"]);
    let mut client = Client::new(&server);
    for (query, length) in [
        ("", MEBIBYTE),
        ("?bytes=0", 0),
        ("?bytes=1", 1),
        ("?bytes=4097", 4_097),
        ("?x&bytes=5000000", 5_000_000),
    ] {
        let answer = client.get(&format!("/big{query}"));
        assert_eq!(answer.field("content-length"), Some(length.to_string().as_str()));
        let letters: Vec<u8> = (0..length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
        assert_same(&answer.body, &letters);
    }
    for wrong in
        ["", "x", "-1", "1.5", "%31", "281474976710656", "18446744073709551615", "99999999999999999999999"]
    {
        let answer = client.get(&format!("/big?bytes={wrong}"));
        assert_eq!(
            (answer.status, answer.text()),
            (400, "bytes: a number from 0 to 281474976710655\n"),
            "{wrong}"
        );
    }
    // The largest body is only begun.
    client.send("GET /big?bytes=281474976710655 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().contains("\r\nContent-Length: 281474976710655\r\n"));
    assert_eq!(client.read(27), b"abcdefghijklmnopqrstuvwxyza");
}

/// 16 peers that read nothing of an endless response, and 16 that send a body and read nothing of its echo.
#[cfg(target_os = "linux")]
#[test]
fn peers_that_do_not_read_cost_bounded_memory_and_delay_no_other() {
    const PEERS: usize = 16;
    let server = Program::start("httpd", &["--pollers", "1"]);
    super::client::get(&server, "/big");
    let before = server.resident_bytes();
    let piece = pattern(1, 65_536);
    let mut peers = Vec::new();
    for index in 0..2 * PEERS {
        let mut client = Client::new(&server);
        if index % 2 == 0 {
            client.send("GET /big?bytes=10000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        } else {
            client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n");
            client.stream().set_write_timeout(Some(core::time::Duration::from_millis(100))).unwrap();
            let mut sent = 0;
            while let Ok(n) = { client.stream() }.write(&piece) {
                sent += n;
                assert!(sent < 60_000_000, "the server takes everything although nothing is read");
            }
        }
        peers.push(client);
    }
    assert_eq!(super::client::get(&server, "/foo").text(), "bar");
    let grown = server.resident_bytes().saturating_sub(before);
    // 32 KiB of output each, and the input of one receive for the senders.
    let limit = 2 * PEERS * 32 * 1_024 + PEERS * 128 * 1_024 + MEBIBYTE;
    assert!(grown <= limit, "{grown} bytes for {} peers, {limit} allowed", peers.len());
}
