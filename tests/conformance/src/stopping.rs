//! Shutdown in every state of a socket.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use lightcone_contract::hooked::{Hook, Hooked};
use lightcone_contract::sockets::soon;
use lightcone_core::{CloseReason, PollerId, Rejected};
use lightcone_unix::clock::Clock;
use lightcone_unix::driver::{self, Driver, DriverError};
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::errno::Errno;

use crate::accepting::refused;
use crate::alone::skip;
use crate::case::{Case, Event, bounded, by_default, consume_all, echoing, small, small_with};
use crate::connecting::Silent;
use crate::ending::wait_until_stalled;
use crate::peer::{Peer, pattern};

/// A grace time that should not be used up.
const LONG: Duration = Duration::from_millis(LONG_MS);
const LONG_MS: u64 = 5_000;

fn span_ms<T>(run: impl FnOnce() -> T) -> (T, u64) {
    let start = Clock::now_ms();
    let result = run();
    (result, Clock::now_ms() - start)
}

/// An engine without sockets stops at once, regardless of the grace time.
pub fn an_empty_engine_stops_at_once<D: Driver>() {
    let case = Case::start(small::<D>().pollers(3), echoing);
    let (report, span) = span_ms(|| case.stop_within(Duration::from_secs(3_600)));
    assert!(span < LONG_MS, "{span} ms");
    assert_eq!((report.opened(), report.drained(), report.aborted()), (0, 0, 0));
    assert_eq!(report.to_string(), "stopped: 0 opened, 0 drained, 0 aborted, 0 bytes lost");
}

/// Listeners close at once, and idle sockets receive `shutdown` and close cleanly.
pub fn idle_sockets_close_in_order<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 10);
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.stop_within(LONG));
    assert!(span < LONG_MS, "{span} ms");
    // another test may listen on the port for a while
    soon("refusal", || refused(listener.endpoint()).then_some(()));
    peers.iter_mut().for_each(Peer::expect_end);
    for socket in 0..10 {
        assert_eq!(trace.shape(socket), "admit open shutdown close(engine shut down)");
    }
    assert_eq!((report.opened(), report.drained(), report.aborted(), report.bytes_lost()), (10, 10, 0, 0));
}

/// What has reached the kernel before the shutdown is answered and not reset: requests on open sockets, and connections
/// in the backlog with their requests. The pollers are blocked meanwhile.
pub fn what_has_come_is_answered<D: Driver>() {
    for pollers in [1, 2] {
        let (released, release) = (Arc::new(Mutex::new(false)), Arc::new(Condvar::new()));
        let (held, awaited) = (Arc::clone(&released), Arc::clone(&release));
        let case = Case::start(small::<D>().pollers(pollers), move |socket, event, cx| {
            if event == Event::Receive && socket.bytes() == b"hold" {
                let held = held.lock().unwrap();
                let waited = awaited.wait_timeout_while(held, LONG * 4, |released| !*released).unwrap();
                assert!(!waited.1.timed_out());
            }
            echoing(socket, event, cx);
        });
        let listener = case.listen();
        let mut open: Vec<_> = (0..8).map(|_| Peer::connect(listener.endpoint())).collect();
        case.trace.until_count("open", 8);
        for peer in &mut open {
            peer.exchange(b"before");
        }
        // sockets are distributed evenly, so this blocks every poller
        for peer in &mut open[..pollers] {
            peer.send(b"hold");
        }
        case.trace.until_count("receive", 8 + pollers);
        for peer in &mut open[pollers..] {
            peer.send(b"asks");
        }
        let mut new: Vec<_> = (0..8).map(|_| Peer::connect(listener.endpoint())).collect();
        for peer in &mut new {
            peer.send(b"asks");
        }
        case.handle().shutdown(LONG);
        *released.lock().unwrap() = true;
        release.notify_all();
        for (number, peer) in open.iter_mut().chain(&mut new).enumerate() {
            let answer = if number < pollers { b"hold" } else { b"asks" };
            assert_eq!(peer.receive_to_end(), answer, "{number} of {pollers} pollers");
        }
        let report = case.join();
        assert_eq!((report.opened(), report.drained(), report.aborted()), (16, 16, 0));
    }
}

/// What is queued at the shutdown still reaches a peer that reads.
pub fn queued_output_is_sent<D: Driver>() {
    let bytes = pattern(150_000);
    let to_send = bytes.clone();
    let case = Case::start(small::<D>().output_limit(200), move |socket, event, _| match event {
        Event::Receive => {
            consume_all(socket);
            socket.send(&to_send).unwrap();
        }
        other => by_default(socket, other),
    });
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    peer.send(b"x");
    case.trace.until(0, "receive");
    case.handle().shutdown(LONG);
    assert!(peer.receive_to_end() == bytes);
    let report = case.join();
    assert_eq!((report.drained(), report.aborted(), report.bytes_lost()), (1, 0, 0));
}

/// A stalled socket whose peer reads again within the grace time drains.
pub fn a_stalled_socket_that_is_read_drains<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    case.trace.token(0);
    wait_until_stalled(&case);
    case.handle().shutdown(LONG);
    case.trace.until(0, "shutdown");
    let received = peer.receive_to_end().len() as u64;
    let report = case.join();
    assert_eq!((report.drained(), report.aborted(), report.bytes_lost()), (1, 0, 0));
    assert_eq!(report.pollers[0].stats.bytes_out, received);
}

/// A peer that reads nothing delays the shutdown for the grace time only, and the lost bytes are counted.
pub fn a_stalled_socket_is_aborted_at_the_end_of_the_grace<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        other => by_default(socket, other),
    });
    let _peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    case.trace.token(0);
    wait_until_stalled(&case);
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.stop_within(Duration::from_millis(300)));
    assert!((300..LONG_MS).contains(&span), "{span} ms");
    assert_eq!((report.drained(), report.aborted()), (0, 1));
    assert_eq!(trace.closed(0), CloseReason::Shutdown);
    assert!(report.bytes_lost() > 0);
    assert_eq!(report.bytes_lost(), trace.lost(0) as u64);
}

/// A handler may keep its sockets open and working until the end of the grace time.
pub fn a_handler_may_go_on_within_the_grace<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Shutdown => {}
        other => echoing(socket, other, cx),
    });
    let mut peers = [case.peer(), case.peer()];
    case.trace.until_count("open", 2);
    case.handle().shutdown(LONG * 2);
    case.trace.until_count("shutdown", 2);
    peers[0].exchange(b"one more");
    drop(peers);
    let (report, span) = span_ms(|| case.join());
    assert!(span < LONG_MS, "the engine waits without open sockets: {span} ms");
    assert_eq!(report.aborted(), 0);
}

/// A handler that never closes is aborted at the end of the grace time.
pub fn a_handler_that_never_closes_is_cut_off<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Shutdown => {}
        other => echoing(socket, other, cx),
    });
    let _peers = [case.peer(), case.peer()];
    case.trace.until_count("open", 2);
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.stop_within(Duration::from_millis(200)));
    assert!((200..LONG_MS).contains(&span), "{span} ms");
    assert_eq!((report.drained(), report.aborted()), (0, 2));
    assert_eq!(trace.shape(0), "admit open shutdown close(engine shut down)");
}

/// A connect in progress is cancelled.
pub fn a_connecting_socket_is_cancelled<D: Driver>() {
    let Some(silent) = Silent::new() else { return skip("a full backlog still accepts here") };
    let case = Case::echo::<D>();
    case.handle().connect(silent.address, 1).unwrap();
    case.trace.until(0, "admit");
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.stop_within(LONG));
    assert!(span < LONG_MS, "{span} ms");
    assert_eq!(trace.shape(0), "admit refused(connection aborted)");
    assert_eq!((report.opened(), report.aborted()), (0, 0));
}

/// Sockets that are half-closed by either side end like others.
pub fn half_closed_sockets_end<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            consume_all(socket);
            socket.finish();
        }
        Event::PeerClosed => {}
        other => by_default(socket, other),
    });
    let mut ours = case.peer();
    ours.send(b"finish");
    ours.expect_end();
    let theirs = case.peer();
    theirs.finish();
    case.trace.until(1, "peer_closed");
    let trace = case.trace.clone();
    let report = case.stop_within(LONG);
    assert_eq!(report.aborted(), 0);
    assert!(trace.shape(0).contains("shutdown close"), "{}", trace.shape(0));
    assert!(trace.shape(1).contains("shutdown close"), "{}", trace.shape(1));
    drop((ours, theirs));
}

/// A lingering close that waits for its peer is ended by the shutdown, and has its `close`.
pub fn lingering_sockets_end<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.linger = None), |socket, event, _| match event {
        Event::Receive => socket.linger(),
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let mut peer = Peer::connect(listener.endpoint());
    peer.send(b"x");
    peer.expect_end();
    let _idle = Peer::connect(listener.endpoint());
    case.trace.token(1);
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.stop_within(Duration::from_millis(200)));
    assert!(span < LONG_MS, "{span} ms");
    assert_eq!(trace.count_of(0, "close"), 1);
    assert_eq!(trace.count_of(0, "shutdown"), 0);
    // the first socket was already closed and everything was sent; only the second one received `shutdown`
    assert_eq!(trace.closed(0), CloseReason::Local);
    assert_eq!((report.drained(), report.aborted()), (1, 0));
}

/// A shorter grace time replaces a longer one, but a longer one does not replace a shorter one.
pub fn a_shorter_grace_replaces_a_longer_one<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Shutdown => {}
        other => echoing(socket, other, cx),
    });
    let _peer = case.peer();
    case.trace.token(0);
    case.handle().shutdown(Duration::from_secs(3_600));
    case.trace.until(0, "shutdown");
    case.handle().shutdown(Duration::from_millis(100));
    case.handle().shutdown(Duration::from_secs(3_600));
    let trace = case.trace.clone();
    let (report, span) = span_ms(|| case.join());
    assert!(span < LONG_MS, "{span} ms");
    assert_eq!(report.aborted(), 1);
    assert_eq!(trace.count("shutdown"), 1);
}

/// A handler can shut its engine down.
pub fn a_handler_shuts_the_engine_down<D: Driver>() {
    let handle = Arc::new(std::sync::OnceLock::<lightcone_unix::Handle<u64>>::new());
    let kept = Arc::clone(&handle);
    let case = Case::start(small::<D>().pollers(2), move |socket, event, _| match event {
        Event::Receive => kept.get().unwrap().shutdown(LONG),
        other => by_default(socket, other),
    });
    handle.set(case.handle().clone()).unwrap();
    let listener = case.listen();
    let mut peers: Vec<_> = (0..4).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 4);
    peers[0].send(b"stop");
    assert_eq!(case.join().opened(), 4);
}

/// A handler can drop its engine: the poller that runs it does not wait for itself, and still ends.
pub fn a_handler_drops_its_engine<D: Driver>() {
    let engine = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&engine);
    let mut case = Case::start(small::<D>().pollers(2), move |socket, event, _| match event {
        Event::Receive => drop(kept.lock().unwrap().take()),
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let mut peers: Vec<_> = (0..4).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 4);
    *engine.lock().unwrap() = Some(case.give_away());
    peers[0].send(b"stop");
    case.trace.until_count("close", 4);
    for peer in &mut peers {
        peer.drain();
    }
    soon("the end of its threads", || case.handle().loads().iter().all(|load| *load == 0).then_some(()));
    assert!(engine.lock().unwrap().is_none());
}

/// Breaks the second driver of an engine when `BREAK` is set.
#[derive(Debug)]
pub struct Break(bool);

static MADE: AtomicUsize = AtomicUsize::new(0);
static BREAK: AtomicBool = AtomicBool::new(false);

impl Default for Break {
    fn default() -> Self {
        Self(MADE.fetch_add(1, Ordering::Relaxed) == 1)
    }
}

impl<D: Driver> Hook<D> for Break {
    fn wait(
        &mut self,
        driver: &mut D,
        timeout: Option<Duration>,
        events: &mut [driver::Event],
    ) -> Result<usize, DriverError> {
        if self.0 && BREAK.load(Ordering::Relaxed) {
            return Err(DriverError::Os("wait", Errno(libc::EIO)));
        }
        driver.wait(timeout, events)
    }
}

/// A poller whose driver fails is reported as failed; the other pollers continue and take over its share, and no call
/// hangs.
pub fn a_poller_that_fails_leaves_the_others_running<D: Driver>() {
    let mut case = Case::start(small::<Hooked<D, Break>>().pollers(2), echoing);
    let listener = case.listen();
    let mut before = Peer::connect(listener.endpoint());
    before.exchange(b"on the first poller");
    Peer::connect(listener.endpoint()).exchange(b"on the second");
    case.trace.closed(1);
    let there = case.trace.token(1);
    assert_eq!(there.poller(), PollerId(1));
    assert_eq!(case.handle().failed(), 0);
    BREAK.store(true, Ordering::Relaxed);
    soon("the end of the second poller", || {
        matches!(case.handle().post(there, 1), Err(Rejected::Gone(1))).then_some(())
    });
    assert_eq!(case.handle().failed(), 1);
    before.exchange(b"goes on");
    for _ in 0..6 {
        Peer::connect(listener.endpoint()).exchange(b"taken by the first");
    }
    assert_eq!(case.handle().loads()[1], 0);
    let trace = case.trace.clone();
    let engine = case.give_away();
    let report = bounded("shutdown", move || engine.shutdown(LONG));
    // the failed poller has no final statistics
    assert_eq!((report.failed(), report.pollers[0].stats.accepted), (1, 7));
    assert_eq!(trace.count("close"), 8);
    assert!(report.pollers[1].failed && !report.pollers[0].failed);
    assert!(report.to_string().contains("1 pollers failed"), "{report}");
}

/// Dropping an engine closes all sockets and waits for its threads.
pub fn dropping_an_engine_closes_everything<D: Driver>() {
    struct Alive(Arc<()>);
    impl lightcone_core::Handler for Alive {
        type Data = Arc<()>;
        type Message = u64;
        fn admit(&mut self, _: lightcone_core::Origin, _: &lightcone_core::Address) -> Option<Self::Data> {
            Some(Arc::clone(&self.0))
        }
    }
    let alive = Arc::new(());
    let shared = Arc::clone(&alive);
    let engine = small::<D>().pollers(3).start(move |_| Alive(Arc::clone(&shared))).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let mut peers: Vec<_> = (0..6).map(|_| Peer::connect(listener.endpoint())).collect();
    soon("all open", || (Arc::strong_count(&alive) >= 2 + 3 + 6).then_some(()));
    bounded("dropping the engine", move || drop(engine));
    // handlers and user data have been dropped, so the threads have ended
    assert_eq!(Arc::strong_count(&alive), 1);
    for peer in &mut peers {
        peer.drain();
    }
    // another test may listen on the port for a while
    soon("refusal", || refused(listener.endpoint()).then_some(()));
}

/// A shutdown while peers connect, send and close: every socket still has its end.
pub fn stopping_in_the_middle_of_everything<D: Driver>() {
    for round in 0..5 {
        let case = Case::start(small::<D>().pollers(2), echoing);
        // a Unix socket, because another process could use a port as soon as the engine has stopped
        let listener = case.listen_unix();
        let Endpoint::Unix(name) = listener.endpoint().clone() else { unreachable!() };
        let work = crate::alone::Background::repeat(move || {
            let Ok(stream) = std::os::unix::net::UnixStream::connect(name.as_path().unwrap()) else {
                return thread::sleep(Duration::from_millis(1));
            };
            let _ = std::io::Write::write_all(&mut &stream, b"hello");
        });
        case.trace.until_count("open", 20 + 10 * round);
        let handle = case.handle().clone();
        let report = case.stop_within(LONG);
        assert!(report.opened() >= 20);
        drop(work);
        assert_eq!(handle.loads(), [0, 0]);
    }
}
