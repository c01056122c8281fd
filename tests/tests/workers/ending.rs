//! Ends of sockets, panics, and shutdown in every state.

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

/// What a scripted handler tells the test: the event, and how many bytes are queued.
type Told = (String, usize);

/// Does as each byte from the peer says, and tells of every event.
#[derive(Clone)]
struct Scripted {
    told: Sender<Told>,
    barrier: Barrier,
    /// In which event it panics.
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

/// What becomes of a connection, as its peer and its handler see it: what the peer got, and all that the handler was
/// told but how often it was.
type Outcome = (Vec<u8>, Vec<String>);

/// Says something in pieces, ends as its last letter wants it, and sees to the end.
fn talk(client: &TcpStream, said: &[u8], told: &Receiver<Told>) -> Outcome {
    let pieces = said.chunks(1 + said.len() / 3);
    pieces.for_each(|piece| { client }.write_all(piece).unwrap());
    let mut got = Vec::new();
    let end = { client }.read_to_end(&mut got);
    match said.last() {
        Some(b'a') => got.clear(), // a reset destroys what the peer has not read yet
        Some(b'f') => client.shutdown(Shutdown::Write).unwrap(),
        Some(b'l') => {
            { client }.write_all(b"nobody hears this").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        }
        _ => assert_eq!(end.map(|_| ()).map_err(|error| error.kind()), Ok(())),
    }
    let mut events = Vec::new();
    while !events.last().is_some_and(|last: &String| last.starts_with("close")) {
        let (next, _) = told.recv_timeout(WAIT).unwrap();
        // how bytes are cut, and when they leave, is chance
        if !["receive", "sent", "writable"].contains(&next.as_str()) {
            events.push(next);
        }
    }
    (got, events)
}

/// The same handler, on a poller and on workers, with the same peers: nobody can tell the difference.
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
    /// The next thing told.
    fn next(&self) -> String {
        self.told.recv_timeout(WAIT).unwrap().0
    }

    /// Waits for something, whatever comes before; gives what is queued then.
    fn until(&self, name: &str) -> usize {
        loop {
            let (told, queued) = self.told.recv_timeout(WAIT).unwrap();
            if told == name {
                return queued;
            }
        }
    }

    /// Everything that is told until the end, which the test has brought about.
    fn rest(&self) -> Vec<String> {
        self.told.try_iter().map(|told| told.0).collect()
    }

    fn ask(&self, what: &[u8]) -> TcpStream {
        let mut stream = self.rig.connect();
        stream.write_all(what).unwrap();
        stream
    }
}

/// What a client sees once it has read all.
fn end_of(mut client: &TcpStream) -> Result<usize, ErrorKind> {
    client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
}

#[test]
fn close_is_the_end_and_comes_last() {
    let scene = scene();
    let client = scene.ask(b"xc");
    assert_eq!(read_to_end(&client), b"x");
    assert_eq!((scene.next(), scene.next(), scene.next()), ("admit".into(), "open".into(), "receive".into()));
    // everything that was sent has left before the end
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
    // the other direction is still taken
    for _ in 0..10 {
        client.write_all(&[0; 10_000]).unwrap();
    }
    drop(client);
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

/// A scene in which a callback has seen `bxc`, is about to close, and blocks until more than that has come: a client that
/// has sent so many bytes behind it.
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

/// Input that no callback has seen is known to be unread where it waits for a worker, too.
#[test]
fn a_close_with_input_in_the_lane_is_staged() {
    let (scene, mut client) = scene_with_unread_input(1_000);
    assert_eq!(read_to_end(&client), b"x");
    // the other direction is still taken
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
    // it is still listened to
    client.write_all(b"d").unwrap();
    scene.until("timeout");
    client.shutdown(Shutdown::Write).unwrap();
    scene.until("close: closed locally");
    scene.rig.stop(0);
}

/// Who has ended one direction and then lingers waits for the peer no longer than the engine's timeout says.
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
    // it lives on until somebody ends it
    assert!(client.set_read_timeout(Some(Duration::from_millis(100))).is_ok());
    assert!((&client).read(&mut [0]).is_err());
    let token_gone = scene.rig.stop(0);
    assert_eq!(token_gone.closed, 1);
}

#[test]
fn a_reset_is_told_behind_what_came_before_it() {
    let scene = scene();
    let client = scene.ask(b"b");
    scene.barrier.wait_for(1);
    (&client).write_all(b"xyz").unwrap();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("the bytes", || bytes_in() == 4);
    drop(client);
    scene.barrier.open();
    scene.until("receive"); // the `b`
    assert_eq!(scene.next(), "receive"); // what came behind it
    let close = loop {
        let next = scene.next();
        if next.starts_with("close") || next == "peer_closed" {
            break next;
        }
    };
    assert!(close == "close: reset by the peer" || close == "peer_closed", "{close}");
    scene.rig.stop(0);
}

/// What a slow reader does not take is counted at the end, whoever has it: the kernel, the poller, or the stand-in.
#[test]
fn what_is_never_sent_is_told_in_close() {
    // one poller and one worker, which take up in order what comes: what the first socket can still do it has done when
    // another one has been answered a few times
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

/// A panic costs its socket and nobody else; the worker lives.
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
        // one worker: if it were lost, nobody would run the second socket
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

/// A panic in the `close` that a panic brought about is the last of it.
#[test]
fn a_panic_in_close_after_a_panic_is_the_end() {
    let scene = scene_of(1, "c", true); // in `close`, whatever the reason
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

/// A connect that fails has no socket in which to put the panic down, and its place is free again.
#[test]
fn a_panic_in_admit_of_a_failed_connect_gives_the_place_back() {
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
fn who_is_turned_away_sees_the_end() {
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

/// Everybody beyond the places is turned away; places come back.
#[test]
fn sockets_beyond_the_places_are_turned_away_and_counted() {
    let rig = Rig::start(engine(), workers(2).sockets(2), |_| Echo);
    for round in 1..=3 {
        let clients = [rig.connect(), rig.connect()];
        clients
            .iter()
            .for_each(|client| assert_eq!(lightcone_tests::streams::exchange(client, b"x", 1), b"x"));
        let third = rig.connect();
        assert_eq!(end_of(&third), Ok(0));
        drop(clients);
        rig.wait_for("both places", |report| report.unfinished == 0);
        assert_eq!(rig.report().turned_away, round);
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

/// A callback that runs when the engine stops ends in its own time, and its answer arrives.
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

/// A callback that runs longer than the engine's grace time finds its socket gone, and is told so.
#[test]
fn a_callback_may_outlive_the_engine() {
    let mut scene = scene();
    let client = scene.ask(b"by");
    scene.barrier.wait_for(1);
    let report = scene.rig.take_engine().shutdown(Duration::from_millis(10));
    assert_eq!((report.drained(), report.aborted()), (0, 1), "{report}");
    assert_eq!(end_of(&client), Ok(0));
    scene.barrier.open();
    assert_eq!(scene.until("close: engine shut down"), 1); // the `y` that was never sent
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
    assert_eq!(report.closed, 1);
}

/// Sockets that wait for a worker when the engine ends get their turn afterwards: `open`, and at once `close`.
#[test]
fn sockets_that_wait_for_a_worker_have_their_turn_after_the_engine() {
    let mut scene = scene_of(1, "", true);
    let _blocked = scene.ask(b"b");
    scene.barrier.wait_for(1);
    let _waiting: Vec<_> = (0..4).map(|_| scene.ask(b"x")).collect();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("what they say", || bytes_in() == 5);
    let report = scene.rig.take_engine().shutdown(Duration::ZERO);
    assert_eq!(report.opened(), 5);
    scene.barrier.open();
    let report = scene.rig.end_workers();
    scene.rig.check(&report, 0);
    assert_eq!((report.opened, report.closed, report.aborted), (5, 5, 0));
}

/// Workers that go first abort what they have; the engine's sockets end, too.
#[test]
fn workers_that_go_first_abort_their_sockets() {
    let mut scene = scene();
    let clients: Vec<_> = (0..3).map(|_| scene.ask(b"x")).collect();
    clients.iter().for_each(|client| assert_eq!(read(client, 1), b"x"));
    let report = scene.rig.take_workers().shutdown(Duration::from_millis(20));
    assert_eq!((report.closed, report.aborted, report.unfinished), (3, 3, 0), "{report}");
    clients.iter().for_each(|client| assert_eq!(end_of(client), Ok(0)));
    // nobody is admitted any more
    let late = scene.rig.connect();
    assert!(!matches!(end_of(&late), Ok(1..)));
    let report = scene.rig.take_engine().shutdown(WAIT);
    assert_eq!(report.panics(), 0);
    assert_eq!(scene.rest().iter().filter(|told| *told == "close: engine shut down").count(), 3);
}

/// The same while sockets wait for a worker that is in a callback: those are never begun.
#[test]
fn workers_that_go_first_turn_away_who_waits() {
    let mut scene = scene_of(1, "", true);
    let blocked = scene.ask(b"b");
    scene.barrier.wait_for(1);
    let waiting: Vec<_> = (0..4).map(|_| scene.ask(b"x")).collect();
    let bytes_in = || scene.rig.handle().stats().iter().map(|poller| poller.bytes_in).sum::<u64>();
    wait_until("what they say", || bytes_in() == 5);
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

/// Who never returns is counted and waited for no longer; when it does return, its socket has its end.
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
    for fine in [workers(1), workers(256), workers(1).sockets(1).messages(1).output_limit(64)] {
        assert!(fine.start(|_| Echo).is_ok());
    }
}

#[test]
fn a_factory_that_panics_leaves_nothing_behind() {
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
