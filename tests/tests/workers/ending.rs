//! Tests of socket ends, panics, and shutdown in every state.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use lightcone_core::{Address, Context, Event, Handler, Origin, Socket, Timeouts};
use lightcone_workers::{Builder as WorkersBuilder, Error};

use crate::rig::{Barrier, Echo, Rig, engine, wait_until, workers};
use lightcone_tests::streams::{WAIT, pattern, read, read_to_end};

/// A report of a scripted handler to the test: the event, and the number of queued bytes.
type Told = (String, usize);

/// Does what each byte from the peer says, and reports every event.
#[derive(Clone)]
struct Scripted {
    told: Sender<Told>,
    barrier: Barrier,
    /// The event in which it panics.
    panics: &'static str,
    admits: bool,
}

impl Handler for Scripted {
    /// Whether it floods its peer.
    type Data = bool;
    type Message = u64;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<bool> {
        let name = match origin {
            Origin::Accepted { .. } => "admit",
            Origin::Connecting { .. } => "admit to connect",
        };
        self.told.send((name.into(), 0)).unwrap();
        assert!(self.panics != "admit", "as asked");
        self.admits.then_some(false)
    }

    fn event(&mut self, socket: &mut Socket<'_, bool>, event: Event<u64>, cx: &mut Context<'_, u64>) {
        let name = match event {
            Event::Open => "open".into(),
            Event::Receive => "receive".into(),
            Event::Writable => "writable".into(),
            Event::Sent => "sent".into(),
            Event::PeerClosed => "peer_closed".into(),
            Event::Timeout => "timeout".into(),
            Event::Shutdown => "shutdown".into(),
            Event::Message(_) => "message".into(),
            Event::Room(_) => "room".into(),
            Event::Refused(kind) => format!("refused: {kind}"),
            Event::Close(reason) => format!("close: {reason}"),
        };
        self.told.send((name.clone(), socket.queued())).unwrap();
        if matches!(event, Event::Receive | Event::Writable) {
            self.obey(socket, cx);
        }
        if matches!(event, Event::Shutdown) {
            socket.close();
        }
        assert!(self.panics.is_empty() || !name.starts_with(self.panics), "as asked");
    }
}

impl Scripted {
    fn obey(&self, socket: &mut Socket<'_, bool>, cx: &Context<'_, u64>) {
        while let Some(order) = socket.bytes().first().copied() {
            socket.consume(1);
            match order {
                b'a' => socket.abort(),
                b'b' => self.barrier.pass(),
                b'c' => return socket.close(),
                b'd' => socket.set_deadline(Some(cx.now())),
                b'f' => socket.finish(),
                b'l' => return socket.linger(),
                b'q' => *socket.data = true,
                _ => socket.send(&[order]).unwrap(),
            }
        }
        while *socket.data && socket.send(&[b'q'; 1_000]).is_ok() {}
    }
}

struct Scene {
    rig: Rig<u64>,
    barrier: Barrier,
    told: Receiver<Told>,
}

fn scene_of(count: usize, panics: &'static str, admits: bool) -> Scene {
    scene_with(count, panics, admits, Some(Duration::from_millis(500)))
}

fn scene_with(count: usize, panics: &'static str, admits: bool, linger: Option<Duration>) -> Scene {
    let (sender, told) = channel();
    let barrier = Barrier::default();
    let script = Mutex::new(Scripted { told: sender, barrier: barrier.clone(), panics, admits });
    let timeouts = Timeouts { linger, ..Timeouts::DEFAULT };
    let rig =
        Rig::start(engine().timeouts(timeouts), workers(count), move |_| script.lock().unwrap().clone());
    Scene { rig, barrier, told }
}

/// The outcome of a connection for its peer and its handler: the bytes that the peer received, and the handler's
/// events, except those whose number varies.
type Outcome = (Vec<u8>, Vec<String>);

/// Sends some bytes in pieces, ends as the last letter demands, and collects the outcome.
fn talk(client: &TcpStream, said: &[u8], told: &Receiver<Told>) -> Outcome {
    let pieces = said.chunks(1 + said.len() / 3);
    pieces.for_each(|piece| { client }.write_all(piece).unwrap());
    let mut got = Vec::new();
    let end = { client }.read_to_end(&mut got);
    match said.last() {
        Some(b'a') => got.clear(), // a reset destroys bytes that the peer has not read yet
        Some(b'f') => client.shutdown(Shutdown::Write).unwrap(),
        Some(b'l') => {
            { client }.write_all(b"discarded").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        _ => assert_eq!(end.map(|_| ()).map_err(|error| error.kind()), Ok(())),
    }
    let mut events = Vec::new();
    while !events.last().is_some_and(|last: &String| last.starts_with("close")) {
        let (next, _) = told.recv_timeout(WAIT).unwrap();
        // How bytes are cut, and when they are sent, varies from run to run.
        if !["receive", "sent", "writable"].contains(&next.as_str()) {
            events.push(next);
        }
    }
    (got, events)
}

/// The same handler on a poller and on workers, with the same peers, has the same outcome.
#[test]
fn a_handler_on_workers_does_what_it_does_on_a_poller() {
    let talks: Vec<Vec<u8>> = (0..60_u8)
        .map(|seed| {
            let length = usize::from(seed) * usize::from(seed) * 3;
            let mut said: Vec<u8> = pattern(seed.into(), length).iter().map(|byte| b'w' + byte % 4).collect();
            said.push(b"cfla"[usize::from(seed % 4)]);
            said
        })
        .collect();
    let on_workers = scene();
    let (sender, told) = channel();
    let script = Scripted { told: sender, barrier: Barrier::default(), panics: "", admits: true };
    let script = Mutex::new(script);
    let plain = engine().start(move |_| script.lock().unwrap().clone()).unwrap();
    let listener = plain.listen("127.0.0.1:0").unwrap();
    for said in &talks {
        let on_poller = TcpStream::connect(listener.endpoint().as_inet().unwrap()).unwrap();
        let expected = talk(&on_poller, said, &told);
        assert_eq!(talk(&on_workers.rig.connect(), said, &on_workers.told), expected, "{}", said.len());
    }
    on_workers.rig.stop(0);
}

fn scene() -> Scene {
    scene_of(2, "", true)
}

impl Scene {
    /// Waits for the next report.
    fn next(&self) -> String {
        self.told.recv_timeout(WAIT).unwrap().0
    }

    /// Waits for an event, skipping those before it. Returns the number of bytes queued at that time.
    fn until(&self, name: &str) -> usize {
        loop {
            let (told, queued) = self.told.recv_timeout(WAIT).unwrap();
            if told == name {
                return queued;
            }
        }
    }

    /// Returns all reports up to the end, which the test has already caused.
    fn rest(&self) -> Vec<String> {
        self.told.try_iter().map(|told| told.0).collect()
    }

    fn ask(&self, what: &[u8]) -> TcpStream {
        let mut stream = self.rig.connect();
        stream.write_all(what).unwrap();
        stream
    }
}

/// Returns what a client sees after it has read everything.
fn end_of(mut client: &TcpStream) -> Result<usize, ErrorKind> {
    client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
}

#[test]
fn close_is_the_end_and_comes_last() {
    let scene = scene();
    let client = scene.ask(b"xc");
    assert_eq!(read_to_end(&client), b"x");
    assert_eq!((scene.next(), scene.next(), scene.next()), ("admit".into(), "open".into(), "receive".into()));
    // All queued bytes were sent before the close.
    assert_eq!(scene.until("close: closed locally"), 0);
    assert_eq!(scene.rest(), Vec::<String>::new());
    scene.rig.stop(0);
}

#[test]
fn abort_is_a_reset() {
    let scene = scene();
    let client = scene.ask(b"a");
    assert_eq!(end_of(&client), Err(ErrorKind::ConnectionReset));
    scene.until("close: aborted locally");
    scene.rig.stop(0);
}

#[test]
fn linger_reads_until_the_peer_ends() {
    let scene = scene();
    let mut client = scene.ask(b"xl");
    assert_eq!(read_to_end(&client), b"x");
    // Input is still read and discarded.
    for _ in 0..10 {
        client.write_all(&[0; 10_000]).unwrap();
    }
    drop(client);
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

/// Creates a scene in which a callback has read `bxc`, is about to close, and blocks until more has been received; the
/// client has sent `length` more bytes.
fn scene_with_unread_input(length: usize) -> (Scene, TcpStream) {
    let scene = scene_with(2, "", true, None);
    let mut client = scene.ask(b"bxc");
    scene.barrier.wait_for(1);
    client.write_all(&vec![b'z'; length]).unwrap();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("more bytes", || bytes_in() > 3);
    scene.barrier.open();
    (scene, client)
}

#[test]
fn a_close_with_unread_input_keeps_the_answer() {
    let (scene, client) = scene_with_unread_input(100_000);
    assert_eq!(read_to_end(&client), b"x");
    drop(client);
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

/// Input that no callback has seen counts as unread even while it waits in the bridge.
#[test]
fn a_close_with_input_in_the_bridge_is_staged() {
    let (scene, mut client) = scene_with_unread_input(1_000);
    assert_eq!(read_to_end(&client), b"x");
    // Input is still read and discarded.
    for _ in 0..10 {
        client.write_all(&[0; 10_000]).unwrap();
    }
    drop(client);
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

#[test]
fn finish_ends_one_direction() {
    let scene = scene();
    let mut client = scene.ask(b"xf");
    assert_eq!(read_to_end(&client), b"x");
    // Input is still read.
    client.write_all(b"d").unwrap();
    scene.until("timeout");
    client.shutdown(Shutdown::Write).unwrap();
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

/// A socket that lingers after it has half-closed waits for its peer no longer than the engine's timeout.
#[test]
fn linger_after_finish_ends_without_the_peer() {
    let scene = scene();
    let mut client = scene.ask(b"xf");
    assert_eq!(read_to_end(&client), b"x");
    client.write_all(b"l").unwrap();
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

#[test]
fn a_peer_that_has_ended_is_answered() {
    let scene = scene();
    let client = scene.ask(b"xy");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read(&client, 2), b"xy");
    scene.until("peer_closed");
    // The connection stays open until one side ends it.
    assert!(client.set_read_timeout(Some(Duration::from_millis(100))).is_ok());
    assert!((&client).read(&mut [0]).is_err());
    let token_gone = scene.rig.stop(0);
    assert_eq!(token_gone.closed, 1);
}

#[test]
fn a_reset_is_reported_after_the_bytes_before_it() {
    let scene = scene();
    let client = scene.ask(b"b");
    scene.barrier.wait_for(1);
    (&client).write_all(b"xyz").unwrap();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("the bytes", || bytes_in() == 4);
    drop(client);
    scene.barrier.open();
    scene.until("receive"); // the `b`
    assert_eq!(scene.next(), "receive"); // the bytes that came after it
    let close = loop {
        let next = scene.next();
        if next.starts_with("close") || next == "peer_closed" {
            break next;
        }
    };
    assert!(close == "close: reset by the peer" || close == "peer_closed", "{close}");
    scene.rig.stop(0);
}

/// Unsent bytes for a slow reader are counted at the end, whether they are in the kernel, the poller or the shadow.
#[test]
fn what_is_never_sent_is_reported_in_close() {
    // One poller and one worker, which work in order: after another socket has been served a few times, the first one
    // has made all possible progress.
    let mut scene = scene_of(1, "", true);
    let client = scene.ask(b"q");
    scene.until("writable");
    let mut other = scene.ask(b"");
    let mut quiet = 0;
    while quiet < 20 {
        other.write_all(b"x").unwrap();
        assert_eq!(read(&other, 1), b"x");
        let goes_on = scene.rest().iter().any(|told| told == "writable");
        quiet = if goes_on { 0 } else { quiet + 1 };
    }
    other.write_all(b"c").unwrap();
    scene.until("close: closed locally");
    let report = scene.rig.take_engine().shutdown(Duration::ZERO);
    assert!(report.bytes_lost() > 0, "{report}");
    let lost = scene.until("close: engine shut down");
    assert!(lost as u64 >= report.bytes_lost(), "{lost} of {}", report.bytes_lost());
    assert_eq!(end_of(&client).err(), Some(ErrorKind::ConnectionReset));
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
}

/// A panic ends its socket and no other; the worker continues.
#[test]
fn a_panic_ends_its_socket_alone() {
    for (panics, order, count) in [
        ("admit", "", 1),
        ("open", "", 1),
        ("receive", "x", 1),
        ("sent", "x", 1),
        ("writable", "q", 1),
        ("timeout", "d", 1),
        ("peer_closed", "", 1),
        ("close", "a", 1),
    ] {
        // A single worker: if it were lost, the second socket would not be run.
        let scene = scene_of(1, panics, true);
        for round in 1..=2 {
            let client = scene.ask(order.as_bytes());
            if panics == "peer_closed" {
                client.shutdown(Shutdown::Write).unwrap();
            }
            if panics == "admit" {
                assert_eq!(end_of(&client), Ok(0), "{panics}");
            } else {
                assert_eq!(end_of(&client).err(), Some(ErrorKind::ConnectionReset), "{panics}");
                let close = if panics == "close" { "aborted locally" } else { "handler panicked" };
                scene.until(&format!("close: {close}"));
            }
            scene.rig.wait_for("the panic", |report| report.panics == round * count);
        }
        let report = scene.rig.stop(2 * count);
        assert_eq!(report.opened, if panics == "admit" { 0 } else { 2 });
    }
}

/// A panic in the `close` that follows a panic causes no further callback.
#[test]
fn a_panic_in_close_after_a_panic_is_the_end() {
    let scene = scene_of(1, "c", true); // matches `close` with any reason
    let client = scene.ask(b"a");
    assert!(end_of(&client).is_err());
    scene.rig.stop(1);
    let (sender, told) = channel();
    let everywhere = Mutex::new(sender);
    let rig: Rig<u64> =
        Rig::start(engine(), workers(1), move |_| Everywhere(everywhere.lock().unwrap().clone()));
    let client = rig.connect();
    assert!(end_of(&client).is_err());
    assert_eq!(told.iter().take(2).collect::<Vec<_>>(), ["open", "close"]);
    rig.stop(2);
}

/// A failed connect has no socket to which the panic could be attributed; its slot is still freed.
#[test]
fn a_panic_in_admit_of_a_failed_connect_frees_the_place() {
    let scene = scene_of(1, "admit", true);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for round in 1..=2 {
        scene.rig.handle().connect(address.into(), round).unwrap();
        assert_eq!(scene.next(), "admit to connect");
        scene.rig.wait_for("the panic", |report| report.panics == round && report.unfinished == 0);
    }
    assert_eq!(scene.rig.stop(2).opened, 0);
}

/// Panics in every callback.
struct Everywhere(Sender<&'static str>);

impl Handler for Everywhere {
    type Data = ();
    type Message = u64;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, _: &mut Socket<'_, ()>, event: Event<u64>, _: &mut Context<'_, u64>) {
        self.0.send(if matches!(event, Event::Close(_)) { "close" } else { "open" }).unwrap();
        panic!("as asked");
    }
}

#[test]
fn a_peer_that_is_turned_away_sees_the_end() {
    let scene = scene_of(2, "", false);
    let client = scene.ask(b"");
    assert_eq!(end_of(&client), Ok(0));
    assert_eq!(scene.next(), "admit");
    assert_eq!(scene.rig.stop(0).opened, 0);
}

#[test]
fn connects_open_and_are_refused_on_workers() {
    let scene = scene();
    let handle = scene.rig.handle();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    handle.connect(address.into(), 1).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!((scene.next(), scene.next()), ("admit to connect".into(), "open".into()));
    peer.write_all(b"xc").unwrap();
    assert_eq!(read_to_end(&peer), b"x");
    drop(peer);
    scene.until("close: closed locally");
    drop(listener);
    handle.connect(address.into(), 2).unwrap();
    assert_eq!(scene.until("admit to connect"), 0);
    assert_eq!(scene.next(), "refused: connection refused");
    scene.rig.stop(0);
}

/// Sockets above the limit are turned away, and slots are reused.
#[test]
fn sockets_beyond_the_places_are_turned_away_and_counted() {
    let rig = Rig::start(engine(), workers(2).sockets(2), |_| Echo);
    let mut rejected = 0;
    for _round in 0..3 {
        let mut clients = Vec::new();
        // A place is free once the poller has let go of the socket, a moment after the worker's last callback.
        for _attempt in 0..1_000 {
            let mut client = rig.connect();
            let is_served = client.write_all(b"x").is_ok() && client.read(&mut [0]).is_ok_and(|n| n == 1);
            if !is_served {
                rejected += 1;
                continue;
            }
            clients.push(client);
            if clients.len() == 2 {
                break;
            }
        }
        assert_eq!(clients.len(), 2);
        assert_eq!(end_of(&rig.connect()), Ok(0));
        rejected += 1;
        drop(clients);
        rig.wait_for("both slots", |report| report.unfinished == 0 && report.rejected == rejected);
    }
    assert_eq!(rig.stop(0).opened, 6);
}

#[test]
fn shutdown_ends_idle_sockets() {
    let scene = scene();
    let clients: Vec<_> = (0..5).map(|_| scene.ask(b"x")).collect();
    clients.iter().for_each(|client| assert_eq!(read(client, 1), b"x"));
    let report = scene.rig.stop(0);
    assert_eq!(report.closed, 5);
    clients.iter().for_each(|client| assert_eq!(end_of(client), Ok(0)));
    let told: Vec<_> = scene.told.try_iter().collect();
    assert_eq!(told.iter().filter(|told| told.0 == "close: engine shut down").count(), 5);
}

/// A callback that runs when the engine stops may finish within the grace time, and its output is sent.
#[test]
fn shutdown_waits_for_a_callback_within_the_grace_time() {
    let mut scene = scene();
    let client = scene.ask(b"xby");
    scene.barrier.wait_for(1);
    let engine = scene.rig.take_engine();
    engine.handle().shutdown(WAIT);
    thread::sleep(Duration::from_millis(50));
    scene.barrier.open();
    let report = engine.join();
    assert_eq!((report.drained(), report.aborted()), (1, 0), "{report}");
    assert_eq!(read_to_end(&client), b"xy");
    scene.until("close: engine shut down");
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
}

/// A callback that outlives the grace time finds its socket closed, and gets `close`.
#[test]
fn a_callback_may_outlive_the_engine() {
    let mut scene = scene();
    let client = scene.ask(b"by");
    scene.barrier.wait_for(1);
    let report = scene.rig.take_engine().shutdown(Duration::from_millis(10));
    assert_eq!((report.drained(), report.aborted()), (0, 1), "{report}");
    assert_eq!(end_of(&client), Ok(0));
    scene.barrier.open();
    assert_eq!(scene.until("close: engine shut down"), 1); // the `y` was never sent
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
    assert_eq!(report.closed, 1);
}

/// Sockets that wait for a worker when the engine ends get their turn afterwards: `open`, directly followed by `close`.
#[test]
fn sockets_that_wait_for_a_worker_have_their_turn_after_the_engine() {
    let mut scene = scene_of(1, "", true);
    let _blocked = scene.ask(b"b");
    scene.barrier.wait_for(1);
    let _waiting: Vec<_> = (0..4).map(|_| scene.ask(b"x")).collect();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("the bytes of all clients", || bytes_in() == 5);
    let report = scene.rig.take_engine().shutdown(Duration::ZERO);
    assert_eq!(report.opened(), 5);
    scene.barrier.open();
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
    assert_eq!((report.opened, report.closed, report.aborted), (5, 5, 0));
}

/// Workers that stop first abort their sockets; the engine's sockets end as well.
#[test]
fn workers_that_go_first_abort_their_sockets() {
    let mut scene = scene();
    let clients: Vec<_> = (0..3).map(|_| scene.ask(b"x")).collect();
    clients.iter().for_each(|client| assert_eq!(read(client, 1), b"x"));
    let report = scene.rig.take_workers().shutdown(Duration::from_millis(20));
    assert_eq!((report.closed, report.aborted, report.unfinished), (3, 3, 0), "{report}");
    clients.iter().for_each(|client| assert_eq!(end_of(client), Ok(0)));
    // No more sockets are admitted.
    let late = scene.rig.connect();
    assert!(!matches!(end_of(&late), Ok(1..)));
    let report = scene.rig.take_engine().shutdown(WAIT);
    assert_eq!(report.panics(), 0);
    assert_eq!(scene.rest().iter().filter(|told| *told == "close: engine shut down").count(), 3);
}

/// The same while sockets wait for a worker that is in a callback: those sockets are never opened.
#[test]
fn workers_that_end_first_turn_waiting_sockets_away() {
    let mut scene = scene_of(1, "", true);
    let blocked = scene.ask(b"b");
    scene.barrier.wait_for(1);
    let waiting: Vec<_> = (0..4).map(|_| scene.ask(b"x")).collect();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("the bytes of all clients", || bytes_in() == 5);
    let barrier = scene.barrier.clone();
    let opener = thread::Builder::new()
        .spawn(move || {
            thread::sleep(Duration::from_millis(200));
            barrier.open();
        })
        .unwrap();
    let report = scene.rig.take_workers().shutdown(Duration::from_millis(10));
    opener.join().unwrap();
    assert_eq!((report.opened, report.closed, report.aborted, report.unfinished), (1, 1, 1, 0), "{report}");
    waiting.iter().for_each(|client| assert!(end_of(client).is_err()));
    assert_eq!(end_of(&blocked), Ok(0));
    scene.rig.take_engine().shutdown(WAIT);
}

/// A callback that never returns is counted and no longer waited for; if it does return, its socket still gets its end.
#[test]
fn a_worker_that_is_stuck_is_counted() {
    let mut scene = scene();
    let client = scene.ask(b"b");
    scene.barrier.wait_for(1);
    let report = scene.rig.take_engine().shutdown(Duration::ZERO);
    assert_eq!(report.aborted(), 1);
    let report = scene.rig.take_workers().shutdown(Duration::ZERO);
    assert_eq!((report.opened, report.closed, report.unfinished, report.stuck), (1, 0, 1, 1), "{report}");
    assert!(report.to_string().contains("1 workers stuck"), "{report}");
    scene.barrier.open();
    scene.until("close: engine shut down");
    drop(client);
}

#[test]
fn settings_that_cannot_be_are_named_with_what_is_allowed() {
    let start = |builder: WorkersBuilder| builder.start(|_| Echo).map(drop).unwrap_err().to_string();
    for (builder, error) in [
        (workers(0), "0 workers; allowed: 1 to 256"),
        (workers(257), "257 workers; allowed: 1 to 256"),
        (workers(1).sockets(0), "0 sockets for the workers; allowed: 1 to 1048576"),
        (workers(1).sockets((1 << 20) + 1), "1048577 sockets for the workers; allowed: 1 to 1048576"),
        (workers(1).messages(0), "0 messages waiting at a socket; allowed: 1 to 1048576"),
        (workers(1).messages((1 << 20) + 1), "1048577 messages waiting at a socket; allowed: 1 to 1048576"),
        (workers(1).output_limit(0), "0 output blocks of a socket; allowed: 1 to 64"),
        (workers(1).output_limit(65), "65 output blocks of a socket; allowed: 1 to 64"),
        (workers(1).block_size(100), "block_size is 100; allowed: a power of two from 64 to 16777216"),
        (workers(1).receive(100), "receive_size is 100; allowed: a power of two from block_size to 16777216"),
    ] {
        assert_eq!(start(builder), error);
    }
    let error = workers(1).block_size(100).start(|_| Echo).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    for fine in [workers(1), workers(256), workers(1).sockets(1).messages(1).output_limit(64)] {
        assert!(fine.start(|_| Echo).is_ok());
    }
}

#[test]
fn a_factory_that_panics_leaves_no_thread_running() {
    for bad in 0..3 {
        let started = Arc::new(AtomicUsize::new(0));
        let shared = Arc::clone(&started);
        let outcome = workers(3).start(move |worker| {
            assert_ne!(worker, bad, "as asked");
            shared.fetch_add(1, Ordering::Relaxed);
            Echo
        });
        assert!(matches!(outcome, Err(Error::Factory(worker)) if worker == bad));
        assert_eq!(Arc::strong_count(&started), 1, "a thread is left");
    }
}
