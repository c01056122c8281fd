//! Tests of handlers that block: other sockets must not wait for them.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use lightcone_core::{Address, CloseReason, Context, Event, Handler, Origin, Socket, Timeouts};
use lightcone_http::Http;

use crate::rig::{Barrier, Rig, echo, engine, wait_until, workers};
use lightcone_tests::streams::{exchange, pattern, read, stays_silent};

/// Sends every byte back; blocks at `b`, sleeps 10 ms at `s`, and replaces `w` by its worker's letter.
struct Moody {
    barrier: Barrier,
    /// The letter of its worker.
    worker: u8,
}

/// Returns the letter that identifies a worker.
fn letter(worker: usize) -> u8 {
    b'A' + u8::try_from(worker).unwrap()
}

impl Moody {
    fn serve(&self, socket: &mut Socket<'_, ()>) {
        while let Some(byte) = socket.bytes().first().copied() {
            if socket.room() == 0 {
                let _ = socket.send(&[byte]); // requests `writable`
                return;
            }
            match byte {
                b'b' => self.barrier.pass(),
                b's' => thread::sleep(Duration::from_millis(10)),
                _ => {}
            }
            let answer = if byte == b'w' { self.worker } else { byte };
            socket.consume(1);
            socket.send(&[answer]).unwrap();
        }
    }
}

impl Handler for Moody {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, _: &mut Context<'_, u64>) {
        match event {
            Event::Receive | Event::Writable => self.serve(socket),
            Event::PeerClosed | Event::Shutdown => socket.close(),
            _ => {}
        }
    }
}

fn moody(count: usize) -> (Rig<u64>, Barrier) {
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let make = move |worker| Moody { barrier: shared.clone(), worker: letter(worker) };
    (Rig::start(engine(), workers(count), make), barrier)
}

fn ask(mut stream: &TcpStream, what: &[u8]) {
    stream.write_all(what).unwrap();
}

#[test]
fn others_are_served_while_all_workers_but_one_are_blocked() {
    let (rig, barrier) = moody(4);
    let blocked: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    blocked.iter().for_each(|stream| ask(stream, b"b"));
    barrier.wait_for(3);
    let streams: Vec<_> = (0..20).map(|_| rig.connect()).collect();
    for round in 0..50_u8 {
        for stream in &streams {
            assert_eq!(exchange(stream, &[round % 60 + 1], 1), [round % 60 + 1]);
        }
    }
    // None of the blocked sockets has been released in between.
    for mut stream in &blocked {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
    }
    barrier.open();
    blocked.iter().for_each(|stream| assert_eq!(read(stream, 1), b"b"));
    rig.stop(0);
}

/// A socket is not idle while its callback runs, but is when the callback has returned.
#[test]
fn the_idle_timeout_does_not_run_while_a_callback_does() {
    let idle = Duration::from_millis(300);
    let timeouts = Timeouts { idle: Some(idle), ..Timeouts::NONE };
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let make = move |worker| Moody { barrier: shared.clone(), worker: letter(worker) };
    let rig: Rig<u64> = Rig::start(engine().timeouts(timeouts), workers(1), make);
    let mut stream = rig.connect();
    ask(&stream, b"b");
    barrier.wait_for(1);
    thread::sleep(3 * idle);
    barrier.open();
    assert_eq!(read(&stream, 1), b"b");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the socket is idle now");
    rig.stop(0);
}

/// A socket is not evicted while its callback runs. The handler of one that is sees the reason.
#[test]
fn a_socket_is_evicted_only_while_no_callback_runs() {
    let span = Duration::from_millis(100);
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let make = move |worker| Moody { barrier: shared.clone(), worker: letter(worker) };
    let rig: Rig<u64> = Rig::start(engine().sockets(2).evict_after(Some(span)), workers(2), make);
    let (blocked, mut idle) = (rig.connect(), rig.connect());
    ask(&idle, b"x");
    assert_eq!(read(&idle, 1), b"x");
    ask(&blocked, b"b");
    barrier.wait_for(1);
    let newcomer = rig.connect();
    ask(&newcomer, b"x");
    assert_eq!(read(&newcomer, 1), b"x");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "it made room");
    barrier.open();
    assert_eq!(read(&blocked, 1), b"b");
    let evicted = || rig.handle().stats().iter().map(|it| it.closed_for(CloseReason::Evicted)).sum::<u64>();
    wait_until("the count", || evicted() == 1);
    rig.stop(0);
}

/// Sends its input back, and blocks in its last callback.
struct Parting(Barrier);

impl Handler for Parting {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<u64>, _: &mut Context<'_, u64>) {
        match event {
            Event::Receive => echo(socket),
            Event::Shutdown => socket.close(),
            Event::Close(CloseReason::Evicted) => self.0.pass(),
            _ => {}
        }
    }
}

/// The newcomer is served although the last callback of the evicted socket has not returned, and the limits are equal.
#[test]
fn a_socket_that_makes_room_is_not_waited_for() {
    let span = Duration::from_millis(100);
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let rig: Rig<u64> =
        Rig::start(engine().sockets(1).evict_after(Some(span)), workers(2).sockets(1), move |_| {
            Parting(shared.clone())
        });
    let mut idle = rig.connect();
    ask(&idle, b"x");
    assert_eq!(read(&idle, 1), b"x");
    let newcomer = rig.connect();
    ask(&newcomer, b"x");
    assert_eq!(read(&newcomer, 1), b"x");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "it made room");
    barrier.wait_for(1);
    assert_eq!((rig.report().closed, rig.report().rejected), (0, 0));
    barrier.open();
    assert_eq!(rig.stop(0).opened, 2);
}

/// The control experiment without workers: it shows that the previous test depends on them.
#[test]
fn without_workers_others_wait() {
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let engine = engine().start(move |_| Moody { barrier: shared.clone(), worker: letter(0) }).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let connect = || TcpStream::connect(listener.endpoint().as_inet().unwrap()).unwrap();
    let (blocked, other) = (connect(), connect());
    assert_eq!(exchange(&other, b"x", 1), b"x");
    ask(&blocked, b"b");
    barrier.wait_for(1);
    ask(&other, b"x");
    stays_silent(&other, Duration::from_millis(300));
    barrier.open();
    assert_eq!(read(&other, 1), b"x");
}

/// The poller continues even if no worker is free: it accepts connections, and receives what it has room for.
#[test]
fn a_poller_never_waits_for_a_worker() {
    let (rig, barrier) = moody(2);
    let blocked: Vec<_> = (0..2).map(|_| rig.connect()).collect();
    blocked.iter().for_each(|stream| ask(stream, b"b"));
    barrier.wait_for(2);
    let streams: Vec<_> = (0..50).map(|_| rig.connect()).collect();
    let load = || rig.handle().loads().iter().sum::<u32>();
    wait_until("the 52nd connection", || load() == 52);
    streams.iter().for_each(|stream| ask(stream, b"hello"));
    let bytes_in = || rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("the bytes of all clients", || bytes_in() == 2 + 50 * 5);
    assert_eq!(rig.report().opened, 2);
    barrier.open();
    streams.iter().for_each(|stream| assert_eq!(read(stream, 5), b"hello"));
    rig.stop(0);
}

/// A socket whose callback blocks receives no more from its peer than its buffers hold, and loses none of it.
#[test]
fn a_blocked_socket_is_not_read_from_beyond_its_bounds() {
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let small = engine().receive(4_096, 8);
    let rig = Rig::start(small, workers(2).receive(4_096), move |worker| Moody {
        barrier: shared.clone(),
        worker: letter(worker),
    });
    let mut stream = rig.connect();
    ask(&stream, b"b");
    barrier.wait_for(1);
    let bytes: Vec<u8> = pattern(5, 64 << 20).iter().map(|byte| byte % 50 + 1).collect();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    while let Ok(n) = stream.write(&bytes[written..]) {
        written += n;
    }
    assert!(written < bytes.len(), "everything was taken");
    // One byte, then what the bridge holds, and what the engine may keep for one socket.
    let bytes_in = rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    assert!(bytes_in <= 1 + 2 * 4_096, "{bytes_in} bytes were taken");
    barrier.open();
    assert_eq!(read(&stream, 1), b"b");
    assert!(read(&stream, written) == bytes[..written]);
    rig.stop(0);
}

/// Each request of the slow sockets takes 10 ms, and together they take far longer than those of the quick sockets. The
/// quick ones must not wait: at their last response, slow responses must still be outstanding.
#[test]
fn requests_that_sleep_do_not_delay_other_sockets() {
    const SLOW: usize = 4;
    const SLEEPS: usize = 200; // 2 s for each slow socket
    let (rig, _) = moody(SLOW + 1);
    let slow: Vec<_> = (0..SLOW).map(|_| rig.connect()).collect();
    let quick: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stream in &slow {
            let answered = &answered;
            scope.spawn(move || {
                ask(stream, &[b's'; SLEEPS]);
                for _ in 0..SLEEPS {
                    read(stream, 1);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..10 {
            for stream in &quick {
                assert_eq!(exchange(stream, b"q", 1), b"q");
            }
        }
        let before = answered.load(Ordering::Relaxed);
        assert!(before < SLOW * SLEEPS, "{before} slow answers came before the last quick one");
    });
    rig.stop(0);
}

/// A blocked worker gets no turns, regardless of which worker ran the socket before.
#[test]
fn a_socket_leaves_a_worker_that_blocks() {
    let (rig, barrier) = moody(2);
    let (one, other) = (rig.connect(), rig.connect());
    assert_eq!(exchange(&one, b"x", 1), b"x");
    ask(&other, b"bw");
    barrier.wait_for(1);
    let workers: Vec<_> = (0..20).flat_map(|_| exchange(&one, b"w", 1)).collect();
    barrier.open();
    let answer = read(&other, 2);
    assert_eq!(answer[0], b'b');
    assert!(!workers.contains(&answer[1]), "{workers:?} while {answer:?} was blocked");
    rig.stop(0);
}

/// Sends one request of a keep-alive HTTP client, and returns the response's body.
fn get(mut stream: &TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    response(stream)
}

fn response(mut stream: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(stream, 1));
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// The same handler as on a poller, unchanged, with a route that blocks.
#[test]
fn http_is_served_while_a_route_blocks() {
    let barrier = Barrier::default();
    let shared = barrier.clone();
    let rig = Rig::start(engine(), workers(3), move |_| {
        let barrier = shared.clone();
        Http::new()
            .get("/blocks", move |_request, response| {
                barrier.pass();
                response.text("at last")
            })
            .get("/sleeps", |_request, response| {
                thread::sleep(Duration::from_millis(10));
                response.text("awake")
            })
            .get("/big", |_request, response| response.generate(1 << 20, |_, piece| piece.fill(b'x')))
            .get("/quick", |_request, response| response.text("at once"))
    });
    let blocked: Vec<_> = (0..2).map(|_| rig.connect()).collect();
    for mut stream in &blocked {
        stream.write_all(b"GET /blocks HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    barrier.wait_for(2);
    let quick = rig.connect();
    for _ in 0..100 {
        assert_eq!(get(&quick, "/quick"), "at once");
    }
    for _ in 0..5 {
        assert_eq!(get(&quick, "/sleeps"), "awake");
    }
    // More than all buffers hold, so it is generated while it is sent.
    assert_eq!(get(&quick, "/big").len(), 1 << 20);
    // Pipelined: responses come in the order of the requests.
    let many = "GET /quick HTTP/1.1\r\nHost: x\r\n\r\nGET /sleeps HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10);
    (&quick).write_all(many.as_bytes()).unwrap();
    for _ in 0..10 {
        assert_eq!(response(&quick), "at once");
        assert_eq!(response(&quick), "awake");
    }
    barrier.open();
    for stream in &blocked {
        assert_eq!(response(stream), "at last");
    }
    rig.stop(0);
}

/// Many sockets and few workers, with requests that sleep and requests that do not: the responses of each socket keep
/// their order, and no two callbacks of a socket overlap.
#[test]
fn order_is_kept_under_load() {
    struct Counting(Arc<AtomicUsize>);
    #[derive(Default)]
    struct Of {
        next: u32,
        inside: bool,
    }
    impl Handler for Counting {
        type Data = Of;
        type Message = u32;

        fn admit(&mut self, _: Origin, _: &Address) -> Option<Of> {
            Some(Of::default())
        }

        fn event(&mut self, socket: &mut Socket<'_, Of>, event: Event<u32>, _: &mut Context<'_, u32>) {
            assert!(!core::mem::replace(&mut socket.data.inside, true), "two callbacks at once");
            match event {
                Event::Receive | Event::Writable => {
                    let (mut input, mut output, data) = socket.split();
                    while let Some(number) = input.bytes().first_chunk().copied() {
                        if output.send(&number).is_err() {
                            break;
                        }
                        input.consume(4);
                        assert_eq!(u32::from_be_bytes(number), data.next, "out of order");
                        data.next += 1;
                        if data.next.is_multiple_of(97) {
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                }
                Event::PeerClosed | Event::Shutdown => socket.close(),
                _ => {}
            }
            self.0.fetch_add(1, Ordering::Relaxed);
            socket.data.inside = false;
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&calls);
    let rig: Rig<u32> = Rig::start(engine().pollers(2), workers(4), move |_| Counting(Arc::clone(&shared)));
    let streams: Vec<_> = (0..16).map(|_| rig.connect()).collect();
    let bytes: Vec<u8> = (0..4_000_u32).flat_map(u32::to_be_bytes).collect();
    let bytes = &bytes;
    thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(move || {
                // The pieces cut across the numbers, and are all in transit at once.
                let got = thread::scope(|scope| {
                    scope.spawn(|| bytes.chunks(3_001).for_each(|piece| ask(stream, piece)));
                    read(stream, bytes.len())
                });
                assert!(got == *bytes);
            });
        }
    });
    drop(streams);
    let report = rig.stop(0);
    assert_eq!(report.opened, 16);
    assert!(calls.load(Ordering::Relaxed) >= 16 * 3);
}
