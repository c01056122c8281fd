//! An engine that has warmed up allocates nothing, however much it serves. Alone in its program, since the allocator
//! is the whole program's.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use lightcone_core::{Address, Context, Handler, Origin, Socket};
use lightcone_http::{Exchange, Flow, Http, State, Transfer};
use lightcone_native::Builder;

/// The system's allocator, counted while the tests say so.
struct Counted;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator, whose promises are the same.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Sends everything back, and posts itself a message for each piece.
struct Echo;

impl Handler for Echo {
    type Data = u64;
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<u64> {
        Some(0)
    }

    fn receive(&mut self, socket: &mut Socket<'_, u64>, cx: &mut Context<'_, u64>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
        socket.set_deadline(Some(cx.now() + Duration::from_secs(60)));
        let me = socket.token();
        assert!(cx.post(me, 1).is_ok());
    }

    fn writable(&mut self, socket: &mut Socket<'_, u64>, cx: &mut Context<'_, u64>) {
        self.receive(socket, cx);
    }

    fn message(&mut self, socket: &mut Socket<'_, u64>, message: u64, _: &mut Context<'_, u64>) {
        *socket.data += message;
    }
}

fn rounds(peers: &mut [TcpStream], pieces: &[&[u8]], buffer: &mut [u8]) {
    for piece in pieces {
        for peer in &mut *peers {
            peer.write_all(piece).unwrap();
        }
        for peer in &mut *peers {
            let buffer = buffer.get_mut(..piece.len()).unwrap();
            peer.read_exact(buffer).unwrap();
            assert!(buffer == *piece);
        }
    }
}

/// Counts what is allocated meanwhile, by whomever.
fn allocations(work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    work();
    COUNTING.store(false, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Both one after the other, in one test: what the harness does between two is counted, too.
#[test]
fn an_engine_that_has_warmed_up_allocates_nothing() {
    assert!(allocations(|| drop(core::hint::black_box(Box::new(1)))) > 0, "the counter counts nothing");
    echo();
    http();
}

fn echo() {
    let engine = Builder::new().pollers(2).start(|_| Echo).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let address = listener.endpoint().as_inet().unwrap();
    let connect = || {
        let peer = TcpStream::connect(address).unwrap();
        peer.set_nodelay(true).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        peer
    };
    let mut peers: Vec<_> = (0..100).map(|_| connect()).collect();
    let bytes = vec![7; 20_000];
    // small ones, one that fills a block, and one that stays behind in part
    let sizes = [1, 100, 4_096, 20_000];
    let pieces: Vec<&[u8]> = sizes.iter().map(|size| bytes.get(..*size).unwrap()).collect();
    let mut buffer = vec![0; 20_000];
    rounds(&mut peers, &pieces, &mut buffer);
    let found = allocations(|| {
        for _ in 0..20 {
            rounds(&mut peers, &pieces, &mut buffer);
        }
    });
    assert_eq!(found, 0, "allocations in 8,000 round trips on 100 sockets");

    // connections that come and go cost nothing either, once there have been as many
    let churn = |peers: &mut Vec<TcpStream>, buffer: &mut [u8]| {
        for _ in 0..200 {
            drop(peers.pop());
            peers.push(connect());
            rounds(peers.get_mut(99..).unwrap(), &pieces, buffer);
        }
    };
    churn(&mut peers, &mut buffer);
    let found = allocations(|| churn(&mut peers, &mut buffer));
    assert_eq!(found, 0, "allocations in 200 connections");
    let report = engine.shutdown(Duration::from_secs(5));
    assert_eq!(report.opened(), 500);
}

/// Sends a request's body back as it comes.
struct Back;

impl<S: State> Exchange<S> for Back {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.ended() { Flow::Done } else { Flow::More }
    }
}

/// A request, and how its answer ends.
struct Ask {
    request: Vec<u8>,
    ends: &'static [u8],
}

fn ask(head: &str, body: &[u8], ends: &'static [u8]) -> Ask {
    let (line, fields) = head.split_once(';').unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n").into_bytes();
    request.extend_from_slice(body);
    Ask { request, ends }
}

fn answer(peer: &mut TcpStream, ask: &Ask, buffer: &mut [u8]) -> usize {
    peer.write_all(&ask.request).unwrap();
    let mut there = 0;
    while !buffer.get(..there).unwrap().ends_with(ask.ends) {
        let n = peer.read(buffer.get_mut(there..).unwrap()).unwrap();
        assert!(n > 0, "the server has ended");
        there += n;
    }
    there
}

const BIG: u64 = 300_000;

/// A body of which the last byte alone is another.
fn letters(offset: u64, piece: &mut [u8]) {
    piece.fill(b'a');
    if offset + piece.len() as u64 == BIG
        && let Some(end) = piece.last_mut()
    {
        *end = b'z';
    }
}

/// The routes of the example `httpd` but the one that makes a page of its counts.
fn http() {
    let engine = Builder::new().pollers(2).start(|_| {
        Http::new()
            .get("/plaintext", |_request, response| response.text("Hello, World!"))
            .get("/json", |_request, response| response.json(r#"{"message":"Hello, World!"}"#))
            .post("/echo", |request, response| response.stream(request.head.length(), Back))
            .get("/big", |_request, response| response.generate(BIG, letters))
    });
    let engine = engine.unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let address = listener.endpoint().as_inet().unwrap();
    let mut body = vec![b'b'; 20_000];
    body.extend_from_slice(b"end");
    let mut chunked = b"4e20\r\n".to_vec();
    chunked.extend_from_slice(body.get(..20_000).unwrap());
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let asks = [
        ask("GET /plaintext;", b"", b"Hello, World!"),
        ask("GET /json;", b"", b"\"Hello, World!\"}"),
        ask("GET /nowhere;", b"", b"Not Found\n"),
        ask("POST /echo;Content-Length: 20003\r\n", &body, b"bend"),
        ask("POST /echo;Transfer-Encoding: chunked\r\n", &chunked, b"\r\n0\r\n\r\n"),
        ask("GET /big;", b"", b"az"),
    ];
    let mut peers: Vec<_> = (0..20)
        .map(|_| {
            let peer = TcpStream::connect(address).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            peer
        })
        .collect();
    let mut buffer = vec![0; 400_000];
    let mut all = || {
        for ask in &asks {
            for peer in &mut peers {
                assert!(answer(peer, ask, &mut buffer) >= ask.ends.len());
            }
        }
    };
    all();
    let found = allocations(|| (0..10).for_each(|_| all()));
    assert_eq!(found, 0, "allocations in 1,200 requests");
    drop(peers);
    assert_eq!(engine.shutdown(Duration::from_secs(5)).opened(), 20);
}
