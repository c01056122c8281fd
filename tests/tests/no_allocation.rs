//! A warmed-up engine allocates nothing, regardless of its load. This test has a separate program, because the
//! allocator counts for the whole process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]

use core::alloc::{GlobalAlloc, Layout};
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use lightcone::Builder;
use lightcone_core::{Address, Context, Handler, Origin, Socket};
use lightcone_http::{Exchange, Flow, Http, State, Transfer};

/// The system allocator, which counts allocations while a test enables it.
struct Counted;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTING.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to the system allocator, which has the same contract.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Sends all input back, and posts a message to itself for each piece.
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

/// Sends the request body back as it arrives.
struct Copy;

impl<S: State> Exchange<S> for Copy {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
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

/// Counts the allocations of all threads while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    work();
    COUNTING.store(false, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

#[test]
fn an_engine_that_has_warmed_up_allocates_nothing() {
    assert!(allocations(|| drop(core::hint::black_box(Box::new(1)))) > 0, "the counter does not work");
    // One after the other, because each would count the other's allocations.
    echo();
    http();
}

fn connect(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).unwrap();
    peer.set_nodelay(true).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    peer
}

fn echo() {
    let engine = Builder::new().pollers(2).start(|_| Echo).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let address = listener.endpoint().as_inet().unwrap();
    let mut peers: Vec<_> = (0..100).map(|_| connect(address)).collect();
    let bytes = vec![7; 20_000];
    // Small pieces, one that fills a block, and one that is partly kept in the input.
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

    // Opening and closing connections allocates nothing either, once there were as many before.
    let churn = |peers: &mut Vec<TcpStream>, buffer: &mut [u8]| {
        for _ in 0..200 {
            drop(peers.pop());
            peers.push(connect(address));
            rounds(peers.get_mut(99..).unwrap(), &pieces, buffer);
        }
    };
    churn(&mut peers, &mut buffer);
    let found = allocations(|| churn(&mut peers, &mut buffer));
    assert_eq!(found, 0, "allocations in 200 connections");
    let report = engine.shutdown(Duration::from_secs(5));
    assert_eq!(report.opened(), 500);
}

/// Requests of all kinds: immediate, streamed in both directions, collected, not found, in pieces.
fn http() {
    let engine = Builder::new()
        .pollers(2)
        .start(|_| {
            Http::new()
                .get("/foo", |_request, response| response.text("bar"))
                .get("/hello/{name}", |request, response| response.display(request.param("name")))
                .get("/big", |_request, response| response.generate(300_000, |_, piece| piece.fill(b'x')))
                .post("/echo", |request, response| response.stream(request.head.length(), Copy))
                .post("/sum", |request, response| {
                    request.collect::<64, _>(response, |_state, body, response| response.bytes(body))
                })
        })
        .unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let address = listener.endpoint().as_inet().unwrap();
    let mut peers: Vec<_> = (0..50).map(|_| connect(address)).collect();
    let body = "b".repeat(30_000);
    let requests: [(String, &str, usize); 6] = [
        ("GET /foo HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16), "bar", 16 * 3),
        ("GET /hello/world HTTP/1.1\r\nHost: a\r\n\r\n".into(), "world", 5),
        ("GET /big HTTP/1.1\r\nHost: a\r\n\r\n".into(), "xxx", 300_000),
        (format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n{body}"), "bbb", 30_000),
        (
            "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into(),
            "abc",
            3,
        ),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".into(), "404 Not Found\n", 14),
    ];
    let mut buffer = vec![0; 1 << 20];
    let mut serve = |peers: &mut [TcpStream]| {
        for peer in peers {
            for (request, end, bodies) in &requests {
                let answer = ask(peer, request, *bodies, &mut buffer);
                assert!(answer.ends_with(end.as_bytes()));
            }
        }
    };
    serve(&mut peers);
    let found = allocations(|| (0..5).for_each(|_| serve(&mut peers)));
    assert_eq!(found, 0, "allocations in 5,250 requests");
    engine.shutdown(Duration::from_secs(5));
}

/// Sends a request in two pieces, so that its head has to wait in the input, and reads the whole response.
fn ask<'b>(peer: &mut TcpStream, request: &str, bodies: usize, buffer: &'b mut [u8]) -> &'b [u8] {
    let (first, second) = request.split_at(20);
    peer.write_all(first.as_bytes()).unwrap();
    peer.write_all(second.as_bytes()).unwrap();
    let heads = request.matches("Host").count();
    let mut got = 0;
    while !answered(&buffer[..got], heads, bodies) {
        let n = peer.read(&mut buffer[got..]).unwrap();
        assert!(n > 0, "closed after {}", buffer[..got].escape_ascii());
        got += n;
    }
    &buffer[..got]
}

/// Returns whether this number of heads and body bytes has been received.
fn answered(bytes: &[u8], heads: usize, bodies: usize) -> bool {
    let (mut rest, mut found, mut length) = (bytes, 0, bytes.len());
    while let Some(end) =
        (found < heads).then(|| rest.windows(4).position(|four| four == b"\r\n\r\n")).flatten()
    {
        let start = rest.windows(5).position(|five| five == b"HTTP/").unwrap();
        length -= end + 4 - start;
        rest = &rest[end + 4..];
        found += 1;
    }
    found == heads && length == bodies
}
