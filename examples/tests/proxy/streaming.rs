//! Bodies that are larger than all buffers, and sides that do not read.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::kit::{Peer, Program, Upstream, eventually};

const LENGTH: u64 = 48 << 20;
/// What may be on the way while a side does not read: the buffers of the system, and a little more.
const BUFFERED_MAX: u64 = 24 << 20;
/// The memory in KiB of a proxy that passes on any number of bytes.
const MEMORY_MAX: usize = 40 << 10;

/// Returns the bytes of a body from an offset on, which do not repeat soon.
fn pattern(offset: u64, piece: &mut [u8]) {
    for (byte, at) in piece.iter_mut().zip(offset..) {
        *byte = (at ^ (at >> 8) ^ (at >> 16)) as u8;
    }
}

fn write_all(peer: &mut impl Write, written: &AtomicU64) {
    let mut piece = [0; 10_007];
    while written.load(Ordering::Relaxed) < LENGTH {
        let at = written.load(Ordering::Relaxed);
        let length = (piece.len() as u64).min(LENGTH - at) as usize;
        pattern(at, &mut piece[..length]);
        peer.write_all(&piece[..length]).unwrap();
        written.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Reads a body and checks it, with pauses at the beginning.
fn read_all(peer: &mut impl Read) {
    let (mut at, mut piece, mut expected) = (0, vec![0; 30_011], vec![0; 30_011]);
    while at < LENGTH {
        let length = peer.read(&mut piece).unwrap();
        assert!(length > 0, "the body ends after {at} bytes");
        pattern(at, &mut expected[..length]);
        assert!(piece[..length] == expected[..length], "a wrong byte after {at}");
        at += length as u64;
        if at < 3 << 20 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until a count stays the same for a while; returns it.
fn settled(count: &AtomicU64) -> u64 {
    let mut last = u64::MAX;
    eventually("the sender is slowed down", || {
        thread::sleep(Duration::from_millis(300));
        let now = count.load(Ordering::Relaxed);
        core::mem::replace(&mut last, now) == now && now > 0
    });
    last
}

#[test]
fn a_response_to_a_client_that_does_not_read_slows_the_upstream_down() {
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    let upstream = Upstream::start(move |mut peer| {
        peer.request();
        peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        write_all(peer.0.get_mut(), &count);
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let sent = settled(&written);
    assert!(sent < BUFFERED_MAX, "{sent} bytes are on the way");
    client.head().unwrap();
    read_all(&mut client.0);
    assert!(proxy.memory() < MEMORY_MAX, "{} KiB", proxy.memory());
}

/// So that it does not hold the connection to the upstream for as long as it likes.
#[test]
fn a_client_that_takes_less_than_the_minimum_rate_is_cut_off() {
    let (ended, ends) = std::sync::mpsc::channel();
    let begin = |rate| {
        let ended = std::sync::Mutex::new(ended.clone());
        let upstream = Upstream::start(move |mut peer| {
            peer.request();
            peer.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            peer.0.get_ref().set_write_timeout(None).unwrap();
            while peer.0.get_mut().write_all(b"4\r\nabcd\r\n").is_ok() {}
            ended.lock().unwrap().send(rate).unwrap();
        });
        let rate = format!("--min-rate={rate}");
        let proxy = Program::proxy(&[upstream.address], &["--patience=1", &rate]);
        let mut client = Peer::connect(proxy.address);
        client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.head().unwrap();
        (proxy, client)
    };
    let sides = (begin(0), begin(500));
    assert_eq!(ends.recv_timeout(crate::kit::PATIENCE), Ok(500));
    assert!(ends.recv_timeout(Duration::from_secs(3)).is_err(), "there is no minimum");
    drop(sides);
}

#[test]
fn a_request_to_an_upstream_that_does_not_read_slows_the_client_down() {
    let written = Arc::new(AtomicU64::new(0));
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |mut peer| {
        peer.head().unwrap();
        wait.lock().unwrap().recv().unwrap();
        read_all(&mut peer.0);
        peer.write("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
    let (count, mut stream) = (Arc::clone(&written), client.0.get_ref().try_clone().unwrap());
    let writer = thread::spawn(move || write_all(&mut stream, &count));
    let sent = settled(&written);
    assert!(sent < BUFFERED_MAX, "{sent} bytes are on the way");
    go.send(()).unwrap();
    assert_eq!(client.answer("POST").status, 201);
    writer.join().unwrap();
    assert!(proxy.memory() < MEMORY_MAX, "{} KiB", proxy.memory());
}

/// Both bodies at the same time: the upstream sends back what it reads.
#[test]
fn both_ways_at_once() {
    let upstream = Program::start("httpd", &["--listen=127.0.0.1:0", "--pollers=1"]);
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    client.write(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
    let mut stream = client.0.get_ref().try_clone().unwrap();
    let writer = thread::spawn(move || write_all(&mut stream, &AtomicU64::new(0)));
    client.head().unwrap();
    read_all(&mut client.0);
    writer.join().unwrap();
    assert!(proxy.memory() < MEMORY_MAX, "{} KiB", proxy.memory());
}

#[test]
fn an_upstream_that_answers_early_does_not_read_the_rest() {
    let upstream = Upstream::start(|mut peer| {
        peer.head().unwrap();
        peer.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        thread::sleep(Duration::from_millis(500));
    });
    let proxy = Program::proxy(&[upstream.address], &[]);
    let mut client = Peer::connect(proxy.address);
    client.write(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"));
    // It reads only after it has sent everything.
    let mut stream = client.0.get_ref().try_clone().unwrap();
    write_all(&mut stream, &AtomicU64::new(0));
    assert_eq!(client.answer("POST").status, 413);
}
