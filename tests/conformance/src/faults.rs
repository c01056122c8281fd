//! Faults of earlier versions of the engine, each with a test that would have found it.
//!
//! | fault | found by |
//! | --- | --- |
//! | a refused connect was opened, sent to and closed | [`refused_connect_is_not_opened`] |
//! | `sent` came although no bytes had been sent | [`sent_only_after_something_was_sent`] |
//! | a connect that completed at once was never opened | [`connect_that_completes_at_once_is_opened`] |
//! | data came after `close` in the same batch | [`nothing_comes_after_close_in_the_same_batch`] |
//! | the callback for an accept ran on another thread than the others | [`every_callback_of_a_socket_is_on_one_thread`] |
//! | a shutdown dropped sockets without `close` | [`stopping_closes_every_socket`] |
//! | flags of errors and hang-ups were ignored | [`errors_and_hang_ups_are_noticed`] |
//! | a new connection waited for up to 100 ms | [`fresh_connection_is_served_at_once`] |
//! | each turn walked all sockets | `a_turn_does_not_walk_the_sockets` in `core/tests/shard/bounds.rs` |
//! | each response took two changes of interest, and none was sent within the callback | [`steady_traffic_changes_no_interest`] |
//! | the engine spun when it was out of descriptors | [`out_of_descriptors_it_rests_and_resumes`] |
//! | buffers grew without bound | [`peer_that_never_reads_costs_its_bound`] |
//! | one fast peer starved a thread | [`floods_starve_no_socket`] |
//! | peers that read nothing, or sent half a request, took all blocks | [`stuck_peers_delay_no_other`] |
//! | `close` dropped what was queued | [`close_sends_what_is_queued`] |
//! | errors of sends were ignored | [`error_of_a_send_ends_the_socket`] |
//! | data races, and pointers that outlived their socket | [`many_threads_close_at_random`], [`a_stale_token_never_reaches_the_successor`], the models in `loom-tests` |
//! | the counter of the round robin became negative | `endless_picking_repeats_what_was_tried` in `core/src/balance.rs` |
//! | one idle timeout for all sockets, by a clock that can step | [`idle_timeouts_are_each_sockets_own`]; the core has no clock |
//! | the user data of epoll overwrote the descriptor | [`events_reach_their_own_sockets`] |
//! | filters of kqueue were taken for flags, so that each event counted as readable and writable | [`readable_is_not_writable`] |
//! | `select` wrote beyond its set | [`descriptors_beyond_a_thousand`], `drivers/select/tests/high.rs` |
//! | IPv6 peer addresses were truncated | [`ipv6_peer_addresses_are_whole`] |
//!
//! [`out_of_descriptors_it_rests_and_resumes`]: crate::process::out_of_descriptors_it_rests_and_resumes
//! [`descriptors_beyond_a_thousand`]: crate::process::descriptors_beyond_a_thousand
//! [`many_threads_close_at_random`]: crate::messages::many_threads_close_at_random
//! [`a_stale_token_never_reaches_the_successor`]: crate::messages::a_stale_token_never_reaches_the_successor

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::thread;

use lightcone_contract::hooked::{Hook, Hooked};
use lightcone_core::{Address, CloseReason, Timeout};
use lightcone_unix::Builder;
use lightcone_unix::clock::Clock;
use lightcone_unix::driver::{self, Driver, DriverError, Interest};
use lightcone_unix::limits::DescriptorLimit;

use crate::alone::skip;
use crate::case::{Case, Event, by_default, consume_all, echo, echoing, small, small_with};
use crate::connecting::nowhere;
use crate::peer::{Peer, pattern};
use crate::trace::What;

/// A refused connect has `refused` only: it is not opened, closed or sent to.
pub fn refused_connect_is_not_opened<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Refused(_) => assert!(socket.send(b"to whom?").is_err()),
        other => by_default(socket, other),
    });
    for _ in 0..10 {
        case.handle().connect(nowhere(), 1).unwrap();
    }
    case.trace.until_count("refused", 10);
    for socket in 0..10 {
        assert_eq!(case.trace.shape(socket), "admit refused(connection refused)");
    }
    let report = case.stop();
    assert_eq!((report.opened(), report.pollers[0].stats.refused), (0, 10));
}

/// `sent` comes only after bytes have been sent.
pub fn sent_only_after_something_was_sent<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            let answer = socket.bytes().starts_with(b"answer");
            consume_all(socket);
            if answer {
                socket.send(b"yes").unwrap();
            }
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    for n in 1..=5 {
        peer.send(b"silence");
        case.trace.until_nth(0, "receive", n);
    }
    assert_eq!(case.trace.count("sent"), 0);
    peer.send(b"answer");
    assert_eq!(peer.receive(3), b"yes");
    case.trace.until(0, "sent");
    assert_eq!(case.trace.count("sent"), 1);
}

/// A connect that completes within the call, as over a Unix socket, is opened.
pub fn connect_that_completes_at_once_is_opened<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Open => socket.send(b"hello").unwrap(),
        other => echoing(socket, other, cx),
    });
    let endpoint = case.unix_path("elsewhere");
    let path = endpoint.strip_prefix("unix:").unwrap();
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let address = case.handle().address(&endpoint.parse().unwrap()).unwrap();
    case.handle().connect(address, 1).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut hello = [0; 5];
    std::io::Read::read_exact(&mut stream, &mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    drop(stream);
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
    assert!(case.trace.shape(0).starts_with("admit open "), "{}", case.trace.shape(0));
}

/// A socket that is closed in the middle of a batch receives no more events of that batch.
pub fn nothing_comes_after_close_in_the_same_batch<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Receive => {
            consume_all(socket);
            // the other sockets have bytes waiting in the same batch
            cx.broadcast(1).unwrap();
        }
        Event::Message(_) => socket.abort(),
        other => by_default(socket, other),
    });
    let listener = case.listen();
    for round in 1..=20 {
        let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(listener.endpoint())).collect();
        case.trace.until_count("open", 10 * round);
        peers.iter_mut().for_each(|peer| {
            let _ = peer.try_send(b"bytes");
        });
        case.trace.until_count("close", 10 * round);
    }
    // the end of every case checks that no event comes after `close`
}

/// All callbacks of a socket, including `admit`, run on the thread of its poller.
pub fn every_callback_of_a_socket_is_on_one_thread<D: Driver>() {
    let case = Case::start(small::<D>().pollers(3), |socket, event, cx| match event {
        Event::Open => socket.set_deadline(Some(cx.now() + Duration::from_millis(5))),
        Event::Timeout => {}
        other => echoing(socket, other, cx),
    });
    let listener = case.listen();
    let mut peers: Vec<_> = (0..9).map(|_| Peer::connect(listener.endpoint())).collect();
    peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
    case.handle().broadcast(1).unwrap();
    case.trace.until_count("message", 9);
    case.trace.until_count("timeout", 9);
    drop(peers);
    case.trace.until_count("close", 9);
    let records = case.trace.records();
    for poller in 0..3 {
        let mut threads: Vec<_> =
            records.iter().filter(|it| it.poller.0 == poller).map(|it| format!("{:?}", it.thread)).collect();
        threads.sort();
        threads.dedup();
        assert_eq!(threads.len(), 1, "poller {poller}");
    }
}

/// A shutdown delivers `close` to every socket in any state.
pub fn stopping_closes_every_socket<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), |socket, event, cx| match event {
        Event::Shutdown if socket.data.socket % 3 == 0 => {}
        other => echoing(socket, other, cx),
    });
    let listener = case.listen();
    let peers: Vec<_> = (0..12).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 12);
    let trace = case.trace.clone();
    let report = case.stop_within(Duration::from_millis(100));
    assert_eq!(trace.count("close"), 12);
    assert_eq!((report.drained(), report.aborted()), (8, 4));
    drop(peers);
}

/// Errors and hang-ups are noticed on sockets without traffic, for each kind of interest.
pub fn errors_and_hang_ups_are_noticed<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open if socket.data.socket == 1 => while socket.send(&[1; 1_000]).is_ok() {},
        Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        Event::PeerClosed if socket.data.socket == 2 => {}
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let reading = Peer::connect(listener.endpoint());
    case.trace.token(0);
    let writing = Peer::connect_narrow(listener.endpoint(), 4_096);
    case.trace.token(1);
    crate::ending::wait_until_stalled(&case);
    reading.reset();
    assert_eq!(case.trace.closed(0), CloseReason::Reset);
    writing.reset();
    assert_eq!(case.trace.closed(1), CloseReason::Reset);
}

/// A new connection on an idle engine is served at once, without waiting for a periodic check.
pub fn fresh_connection_is_served_at_once<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2), echoing);
    let listener = case.listen();
    let mut spans: Vec<_> = (0..15)
        .map(|_| {
            thread::sleep(Duration::from_millis(20));
            let start = Clock::now_ms();
            Peer::connect(listener.endpoint()).exchange(b"x");
            Clock::now_ms() - start
        })
        .collect();
    spans.sort_unstable();
    // at least a third of the connections were not delayed by other tests
    assert!(spans[4] < 20, "{spans:?} ms");
}

/// Counts the waits and the changes of interest of a driver.
#[derive(Debug, Default)]
pub struct Count;

static CHANGES: AtomicU64 = AtomicU64::new(0);
static WAITS: AtomicU64 = AtomicU64::new(0);

impl<D: Driver> Hook<D> for Count {
    fn modify(
        &mut self,
        driver: &mut D,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        // before the call, so that a change that fails counts, too
        CHANGES.fetch_add(u64::from(old != new), Ordering::Relaxed);
        driver.modify(fd, key, old, new)
    }

    fn wait(
        &mut self,
        driver: &mut D,
        timeout: Option<Duration>,
        events: &mut [driver::Event],
    ) -> Result<usize, DriverError> {
        WAITS.fetch_add(1, Ordering::Relaxed);
        driver.wait(timeout, events)
    }
}

/// Sometimes reports all descriptors as ready, and sometimes returns no events without waiting.
#[derive(Debug, Default)]
pub struct Rumours {
    keys: Vec<(RawFd, u64)>,
    waits: usize,
}

impl<D: Driver> Hook<D> for Rumours {
    fn register(
        &mut self,
        driver: &mut D,
        fd: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
    ) -> Result<(), DriverError> {
        self.keys.push((fd.as_raw_fd(), key));
        driver.register(fd, key, interest)
    }

    fn deregister(&mut self, driver: &mut D, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.keys.retain(|(known, _)| *known != fd.as_raw_fd());
        driver.deregister(fd, key, interest);
    }

    fn forget(&mut self, driver: &mut D, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.keys.retain(|(known, _)| *known != fd.as_raw_fd());
        driver.forget(fd, key, interest);
    }

    fn wait(
        &mut self,
        driver: &mut D,
        timeout: Option<Duration>,
        events: &mut [driver::Event],
    ) -> Result<usize, DriverError> {
        self.waits += 1;
        match self.waits % 4 {
            0 => return Ok(0),
            1 => {}
            _ => return driver.wait(timeout, events),
        }
        let count = driver.wait(timeout, events)?;
        let room = events.get_mut(count..).unwrap_or_default();
        let told = room.iter_mut().zip(&self.keys).map(|(event, (_, key))| {
            *event = driver::Event { key: *key, readiness: driver::Readiness::BOTH };
        });
        Ok(count + told.count())
    }
}

/// Spurious readiness ("would block" follows) and waits without events have no effect.
pub fn rumours_of_readiness_change_nothing<D: Driver>() {
    let case = Case::echo::<Hooked<D, Rumours>>();
    let listener = case.listen();
    let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(listener.endpoint())).collect();
    for size in [0, 1, 1_023, 1_024, 1_025, 30_000] {
        peers.iter_mut().for_each(|peer| peer.exchange(&pattern(size)));
    }
    let (elsewhere, address) = crate::connecting::elsewhere();
    case.handle().connect(address, 1).unwrap();
    case.handle().connect(nowhere(), 1).unwrap();
    Peer::accept(&elsewhere).exchange(b"through");
    case.trace.until_count("refused", 1);
    assert_eq!(case.trace.count("writable"), 0, "no send was refused");
    peers.remove(0).reset();
    drop(peers);
    case.trace.until_count("close", 11);
}

/// With the default settings, hundreds of peers that request much and read nothing, and as many that send half a request,
/// delay no other.
pub fn stuck_peers_delay_no_other<D: Driver>() {
    let hard = DescriptorLimit::read().unwrap().hard;
    let count = if D::DESCRIPTORS_MAX.is_some() || hard < 4_000 { 100 } else { 600 };
    if count < 600 {
        skip("more than 100 peers of each kind, which take more descriptors than there are");
    }
    let case = Case::start(Builder::<D>::new().pollers(1), |socket, event, _| match event {
        Event::Receive | Event::Writable if socket.bytes().starts_with(b"much") => {
            while socket.send(&[b'.'; 4_000]).is_ok() {}
        }
        Event::Receive | Event::Writable if socket.bytes().ends_with(b"\n") => echo(socket),
        Event::Receive | Event::Writable => {} // half a request
        other => by_default(socket, other),
    });
    case.trace.keep_ends_only();
    let listener = case.listen();
    let half = pattern(5_000);
    let stuck: Vec<_> = (0..2 * count)
        .map(|number| {
            let mut peer = Peer::connect_narrow(listener.endpoint(), 4_096);
            peer.send(if number % 2 == 0 { b"much" } else { &half });
            peer
        })
        .collect();
    case.trace.until_count("open", 2 * count);
    let mut spans: Vec<_> = (0..100)
        .map(|_| {
            let start = Clock::now_ms();
            Peer::connect(listener.endpoint()).exchange(b"a small request\n");
            Clock::now_ms() - start
        })
        .collect();
    spans.sort_unstable();
    println!("{}: {count} of each kind, {} ms at the median, {} ms at most", D::NAME, spans[50], spans[99]);
    drop(stuck);
    case.trace.until_count("close", 2 * count + 100);
}

/// Requests and responses change no interest: the response is sent at the end of the callback.
pub fn steady_traffic_changes_no_interest<D: Driver>() {
    let case = Case::echo::<Hooked<D, Count>>();
    let mut peer = case.peer();
    peer.exchange(b"first");
    let (changes, waits) = (CHANGES.load(Ordering::Relaxed), WAITS.load(Ordering::Relaxed));
    let start = Clock::now_ms();
    for _ in 0..500 {
        peer.exchange(b"request");
    }
    assert_eq!(CHANGES.load(Ordering::Relaxed), changes);
    // one wait per request, and a few to publish the counts, at most ten times a second
    let (waits, span) = (WAITS.load(Ordering::Relaxed) - waits, Clock::now_ms() - start);
    assert!((490..=600 + span / 50).contains(&waits), "{waits} waits for 500 requests in {span} ms");
}

/// A peer that never reads costs at most its output limit, and its socket is not read any more.
pub fn peer_that_never_reads_costs_its_bound<D: Driver>() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let case = Case::start(small::<D>(), move |socket, event, cx| {
        let opened = matches!(event, Event::Open);
        echoing(socket, event, cx);
        seen.fetch_max(socket.queued(), Ordering::Relaxed);
        if opened {
            assert_eq!(socket.stream.room(), 4 * 1_024);
        }
    });
    let listener = case.listen();
    let peers: Vec<_> = (0..20).map(|_| Peer::connect_narrow(listener.endpoint(), 4_096)).collect();
    for peer in &peers {
        let mut peer = peer.clone();
        thread::spawn(move || {
            let _ = peer.try_send(&vec![1; 1 << 20]);
        });
    }
    crate::ending::wait_until_stalled(&case);
    assert_eq!(most.load(Ordering::Relaxed), 4 * 1_024);
    Peer::connect(listener.endpoint()).exchange(b"others are served");
    peers.iter().for_each(Peer::cut);
}

/// Peers that flood the engine do not starve one that sends now and then.
pub fn floods_starve_no_socket<D: Driver>() {
    let case = Case::echo::<D>();
    case.trace.keep_ends_only();
    let listener = case.listen();
    let total: Arc<[AtomicU64; 6]> = Arc::default();
    let floods: Vec<_> = (0..6)
        .map(|n| {
            let mut peer = Peer::connect(listener.endpoint());
            let total = Arc::clone(&total);
            crate::alone::Background::repeat(move || {
                peer.exchange(&vec![1; 20_000]);
                total[n].fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    let mut spans = Vec::new();
    let each = || total.iter().map(|it| it.load(Ordering::Relaxed)).collect::<Vec<_>>();
    while spans.len() < 20 || (spans.len() < 400 && each().iter().any(|count| *count < 50)) {
        let start = Clock::now_ms();
        Peer::connect(listener.endpoint()).exchange(b"now and then");
        spans.push(Clock::now_ms() - start);
        thread::sleep(Duration::from_millis(10));
    }
    let each = each();
    drop(floods);
    spans.sort_unstable();
    assert!(spans[spans.len() / 4] < 250, "{spans:?} ms");
    let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
    assert!(least * 8 >= *most && *least > 0, "{each:?} exchanges");
}

/// `close` right after `send` loses no bytes.
pub fn close_sends_what_is_queued<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            consume_all(socket);
            socket.send(&[6; 4_000]).unwrap();
            socket.close();
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    for socket in 0..50 {
        let mut peer = Peer::connect(listener.endpoint());
        peer.send(b"x");
        assert_eq!(peer.receive_to_end(), [6; 4_000]);
        assert_eq!((case.trace.closed(socket), case.trace.lost(socket)), (CloseReason::Local, 0));
    }
}

/// An error of a send closes the socket, with the reason.
pub fn error_of_a_send_ends_the_socket<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Message(_) => while socket.send(&[1; 1_000]).is_ok() {},
        Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        Event::PeerClosed => {}
        other => by_default(socket, other),
    });
    let peer = Peer::connect(case.listen_unix().endpoint());
    let token = case.trace.token(0);
    drop(peer);
    case.trace.until(0, "peer_closed");
    case.handle().post(token, 1).unwrap();
    assert_eq!(case.trace.closed(0), CloseReason::Reset);
    assert!(case.trace.lost(0) > 0);
}

/// Idle timeouts are per socket: a silent socket is closed while an active one stays open.
pub fn idle_timeouts_are_each_sockets_own<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.idle = Some(Duration::from_millis(1_500))), echoing);
    let listener = case.listen();
    let mut silent = Peer::connect(listener.endpoint());
    silent.exchange(b"last");
    let mut active = Peer::connect(listener.endpoint());
    let mut rounds = 0;
    while case.trace.count_of(0, "close") == 0 {
        active.exchange(b"x");
        thread::sleep(Duration::from_millis(20));
        rounds += 1;
        assert!(rounds < 400, "the silent socket is not closed");
    }
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::Idle));
    active.exchange(b"lives on");
    silent.drain();
}

/// Events reach their own sockets, with many open at once.
pub fn events_reach_their_own_sockets<D: Driver>() {
    let case = Case::start(small::<D>(), echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..40).map(|_| Peer::connect(listener.endpoint())).collect();
    for round in 0..5 {
        for n in 0..peers.len() {
            let at = (n * 17 + round) % peers.len();
            peers[at].send(&pattern(100 + at));
        }
        for (n, peer) in peers.iter_mut().enumerate() {
            assert!(peer.receive(100 + n) == pattern(100 + n), "socket {n} has the bytes of another one");
        }
    }
    for n in (0..40).step_by(2) {
        let gone = peers.remove(n / 2);
        let socket = case.trace.socket_of(gone.address());
        drop(gone);
        assert_eq!(case.trace.closed(socket), CloseReason::Peer);
    }
    assert_eq!(case.trace.count("close"), 20);
    peers.iter_mut().for_each(|peer| peer.exchange(b"unhurt"));
}

/// A socket that is readable is not reported as writable, nor the other way round.
pub fn readable_is_not_writable<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            consume_all(socket);
            socket.send(b"ok").unwrap();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    for _ in 0..100 {
        peer.send(b"x");
        assert_eq!(peer.receive(2), b"ok");
    }
    drop(peer);
    case.trace.closed(0);
    assert_eq!(case.trace.count("writable"), 0);
    assert_eq!(case.trace.count("receive"), 100);
    assert_eq!(case.trace.shape(0).matches("receive").count(), 100, "{}", case.trace.shape(0));
}

/// The address of an IPv6 peer is complete.
pub fn ipv6_peer_addresses_are_whole<D: Driver>() {
    let case = Case::echo::<D>();
    let Ok(listener) = case.engine().listen("[::1]:0") else { return skip("the system has no IPv6") };
    let mut peer = Peer::connect(listener.endpoint());
    peer.exchange(b"hello");
    let What::Admit { peer: seen, .. } = case.trace.until(0, "admit").what else { unreachable!() };
    assert_eq!(seen, peer.address());
    assert!(matches!(seen, Address::Inet(it) if it.is_ipv6()));
}
