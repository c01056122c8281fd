//! How accepted sockets begin.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use lightcone_contract::sockets::{Folder, soon};
use lightcone_core::{Address, CloseReason, Origin, Rate, RequestError};
use lightcone_unix::Error;
use lightcone_unix::driver::Driver;
use lightcone_unix::endpoint::Endpoint;

use crate::alone::skip;
use crate::case::{Case, Event, by_default, echo, echoing, small};
use crate::peer::Peer;
use crate::trace::What;

/// The handler receives an IPv4 peer's address and port, and the listener.
pub fn ipv4_peers_are_known<D: Driver>() {
    let case = Case::echo::<D>();
    let _other = case.listen();
    let listener = case.listen();
    let peer = Peer::connect(listener.endpoint());
    let admitted = case.trace.until(0, "admit").what;
    let origin = Origin::Accepted { listener: listener.id() };
    assert_eq!(admitted, What::Admit { origin, peer: peer.address() });
}

/// A Unix peer has no name: its address is that of the listener.
pub fn unix_peers_carry_their_listeners_name<D: Driver>() {
    let case = Case::echo::<D>();
    let listener = case.listen_unix();
    let mut peer = Peer::connect(listener.endpoint());
    peer.exchange(b"hello");
    let What::Admit { peer: address, .. } = case.trace.until(0, "admit").what else { unreachable!() };
    assert_eq!(case.handle().endpoint(&address).as_ref(), Some(listener.endpoint()));
}

/// An abstract Unix name works like a path, on systems that have them.
pub fn abstract_unix_names_work<D: Driver>() {
    if !cfg!(any(target_os = "linux", target_os = "android")) {
        return skip("only Linux has abstract names");
    }
    let case = Case::echo::<D>();
    let name = format!("unix:@lightcone-{}-{}", std::process::id(), D::NAME);
    let listener = case.engine().listen(name.as_str()).unwrap();
    Peer::connect(listener.endpoint()).exchange(b"hello");
}

/// `listen` accepts a host name, a socket address, an endpoint and an owned string.
pub fn listeners_take_texts_and_addresses<D: Driver>() {
    let case = Case::echo::<D>();
    let endpoint: Endpoint = "127.0.0.1:0".parse().unwrap();
    let listeners = [
        case.engine().listen("localhost:0").unwrap(),
        case.engine().listen(endpoint.as_inet().unwrap()).unwrap(),
        case.engine().listen(&endpoint).unwrap(),
        case.engine().listen(String::from("127.0.0.1:0")).unwrap(),
    ];
    for (n, listener) in listeners.iter().enumerate() {
        assert_eq!(usize::from(listener.id().0), n);
        Peer::connect(listener.endpoint()).exchange(b"hello");
    }
}

/// A burst that fills the backlog is served completely.
pub fn a_burst_is_served_whole<D: Driver>() {
    let case = Case::start(small::<D>().sockets(300).blocks(512, 512), echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..200).map(|_| Peer::connect(listener.endpoint())).collect();
    for peer in &mut peers {
        peer.send(b"hello");
    }
    for peer in &mut peers {
        assert_eq!(peer.receive(5), b"hello");
    }
}

/// A peer that `admit` turns away sees the end, and the handler receives no event for it.
pub fn a_peer_that_is_turned_away_sees_the_end<D: Driver>() {
    let refuse = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&refuse);
    let case = Case::choosy(small::<D>(), move |_, _| !seen.load(Ordering::Relaxed), echoing);
    let listener = case.listen();
    for _ in 0..5 {
        assert_eq!(Peer::connect(listener.endpoint()).drain(), b"");
    }
    refuse.store(false, Ordering::Relaxed);
    Peer::connect(listener.endpoint()).exchange(b"hello");
    assert_eq!(case.trace.count("admit"), 1);
    assert_eq!(case.stop().pollers[0].stats.rejected, 5);
}

/// A peer that the filter rejects sees the end, and takes neither a slot nor the time of a poller. A panic in the
/// filter affects only its peer.
pub fn a_filtered_peer_sees_the_end<D: Driver>() {
    for per_poller in [false, true] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let builder = small::<D>().pollers(2).listener_per_poller(per_poller).sockets(1);
        let builder = builder.filter(move |listener, peer| {
            assert!(matches!(peer, Address::Inet(peer) if peer.ip().is_loopback()));
            match counted.fetch_add(1, Ordering::Relaxed) {
                20 => std::panic::resume_unwind(Box::new("on purpose")),
                _ => listener.0 == 1,
            }
        });
        let mut case = Case::start(builder, echoing);
        case.expect_panics(1);
        let (closed, open) = (case.listen(), case.listen());
        for _ in 0..30 {
            assert_eq!(Peer::connect(closed.endpoint()).drain(), b"");
        }
        assert_eq!((asked.load(Ordering::Relaxed), case.trace.count("admit")), (30, 0));
        Peer::connect(open.endpoint()).exchange(b"hello");
        let report = case.stop();
        assert_eq!(report.pollers.iter().map(|it| it.stats.rejected).sum::<u64>(), 29);
    }
}

/// Peers beyond the accept rate see the end, take neither a slot nor the time of a poller, and are counted.
pub fn peers_beyond_the_rate_see_the_end<D: Driver>() {
    // the next token comes after the test
    let rate = Rate::new(1, Duration::from_secs(600)).burst(3);
    let case = Case::start(small::<D>().accept_rate(Some(rate)), echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..3).map(|_| Peer::connect(listener.endpoint())).collect();
    peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
    for _ in 0..5 {
        assert_eq!(Peer::connect(listener.endpoint()).drain(), b"");
    }
    peers.iter_mut().for_each(|peer| peer.exchange(b"still here"));
    assert_eq!(case.trace.count("admit"), 3);
    let stats = case.stop().pollers[0].stats;
    assert_eq!((stats.rejected, stats.over_rate), (5, 5));
}

/// A closed listener accepts no more peers, its open sockets continue, and closing it again is an error.
pub fn a_closed_listener_accepts_no_peer<D: Driver>() {
    for per_poller in [false, true] {
        let case = Case::start(small::<D>().pollers(2).listener_per_poller(per_poller), echoing);
        let listener = case.listen();
        let mut peer = Peer::connect(listener.endpoint());
        peer.exchange(b"before");
        listener.close().unwrap();
        assert_eq!(listener.close(), Err(RequestError::Gone));
        soon("refusal", || refused(listener.endpoint()).then_some(()));
        peer.exchange(b"after");
    }
}

/// An address can be listened on again right after its listener was closed, and the end of a listener can be awaited.
pub fn a_closed_listener_makes_room<D: Driver>() {
    for per_poller in [false, true] {
        let case = Case::start(small::<D>().pollers(2).listener_per_poller(per_poller), echoing);
        for first in [case.listen(), case.listen_unix()] {
            let mut listener = first;
            for _ in 0..20 {
                listener.close().unwrap();
                listener = case.engine().listen(listener.endpoint()).unwrap();
            }
            Peer::connect(listener.endpoint()).exchange(b"hello");
        }
        let listener = case.listen();
        assert!(!listener.wait_closed(Duration::ZERO));
        listener.close().unwrap();
        assert!(listener.wait_closed(crate::trace::patience()));
        assert!(refused(listener.endpoint()));
        let with_the_engine = case.listen();
        case.stop();
        assert!(with_the_engine.wait_closed(crate::trace::patience()));
    }
}

/// A socket that listens already is accepted on, over TCP and as a Unix socket. What does not listen is refused, with
/// its descriptor named.
pub fn a_socket_that_listens_is_taken_over<D: Driver>() {
    let case = Case::echo::<D>();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = tcp.local_addr().unwrap();
    let mut early = Peer::connect(&Endpoint::Inet(bound));
    let listener = case.engine().listen_on(tcp).unwrap();
    assert_eq!(listener.endpoint().as_inet(), Some(bound));
    early.exchange(b"early");
    Peer::connect(listener.endpoint()).exchange(b"hello");
    listener.close().unwrap();
    assert!(listener.wait_closed(crate::trace::patience()) && refused(listener.endpoint()));

    let folder = Folder::new("taken-over");
    let endpoint: Endpoint = folder.endpoint("socket").parse().unwrap();
    let Endpoint::Unix(name) = &endpoint else { unreachable!() };
    let path = name.as_path().unwrap();
    let listener = case.engine().listen_on(std::os::unix::net::UnixListener::bind(path).unwrap()).unwrap();
    assert_eq!(listener.endpoint(), &endpoint);
    Peer::connect(listener.endpoint()).exchange(b"hello");
    listener.close().unwrap();
    assert!(listener.wait_closed(crate::trace::patience()) && path.exists(), "the file is its owner's");

    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let refusals: [(OwnedFd, &str); 3] = [
        (stream.into(), "it is not a stream socket that listens"),
        (datagrams.into(), "it is not a stream socket that listens"),
        (file.into(), "it is not a socket"),
    ];
    for (socket, reason) in refusals {
        let expected = format!("cannot listen on descriptor {}: {reason}", socket.as_raw_fd());
        assert_eq!(case.engine().listen_on(socket).unwrap_err().to_string(), expected);
    }
}

/// The duplicates of a listener's sockets go on where the listener ends: peers that connect in between are served, and
/// the file of a Unix socket stays.
pub fn a_listener_can_be_passed_on<D: Driver>() {
    for per_poller in [false, true] {
        let start = || Case::start(small::<D>().pollers(2).listener_per_poller(per_poller), echoing);
        let (before, after) = (start(), start());
        for first in [before.listen(), before.listen_unix()] {
            let mut served = Peer::connect(first.endpoint());
            served.exchange(b"before");
            let passed_on = first.duplicate().unwrap();
            assert_eq!(
                passed_on.len(),
                if per_poller && first.endpoint().as_inet().is_some() { 2 } else { 1 }
            );
            first.close().unwrap();
            assert!(first.wait_closed(crate::trace::patience()));
            let mut between: Vec<_> = (0..8).map(|_| Peer::connect(first.endpoint())).collect();
            let successors: Vec<_> =
                passed_on.into_iter().map(|socket| after.engine().listen_on(socket).unwrap()).collect();
            for successor in &successors {
                assert_eq!(successor.endpoint(), first.endpoint());
                assert!(successor.duplicate().is_ok());
            }
            between.iter_mut().for_each(|peer| peer.exchange(b"between"));
            served.exchange(b"after");
            let gone = first.duplicate().unwrap_err();
            assert!(matches!(gone, Error::Request(RequestError::Gone)), "{gone}");
        }
        assert_eq!(after.trace.count("admit"), 16);
    }
}

/// Returns whether there is no listener at this endpoint any more.
pub(crate) fn refused(endpoint: &Endpoint) -> bool {
    std::net::TcpStream::connect(endpoint.as_inet().unwrap()).is_err()
}

/// Closing a listener twice never closes a later listener in the same slot.
pub fn a_closed_listener_is_not_its_successor<D: Driver>() {
    let case = Case::echo::<D>();
    let first = case.listen();
    first.close().unwrap();
    let second = case.listen();
    assert_eq!(first.close(), Err(RequestError::Gone), "the successor was closed");
    Peer::connect(second.endpoint()).exchange(b"hello");
    second.close().unwrap();
}

/// Listeners that several threads open at once have different numbers.
pub fn listeners_of_several_threads_are_different<D: Driver>() {
    let case = Case::echo::<D>();
    for _ in 0..10 {
        let listeners = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| case.listen())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut ids: Vec<_> = listeners.iter().map(|listener| listener.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), listeners.len());
        for listener in &listeners {
            Peer::connect(listener.endpoint()).exchange(b"hello");
            listener.close().unwrap();
        }
    }
}

/// The slot of a listener is reused: listeners can be opened and closed without limit.
pub fn listeners_come_and_go<D: Driver>() {
    let case = Case::echo::<D>();
    for _ in 0..300 {
        case.listen().close().unwrap();
    }
    case.peer().exchange(b"hello");
}

/// An engine has at most 255 listeners; the error for one more names the limit.
pub fn too_many_listeners_are_refused<D: Driver>() {
    let case = Case::echo::<D>();
    let listeners: Vec<_> = (0..255).map(|_| case.listen()).collect();
    let error = case.engine().listen("127.0.0.1:0").unwrap_err();
    assert!(matches!(error, Error::Listeners));
    assert!(error.to_string().contains("255"), "{error}");
    Peer::connect(listeners[254].endpoint()).exchange(b"hello");
    listeners[7].close().unwrap();
    Peer::connect(case.listen().endpoint()).exchange(b"hello");
}

/// While all slots are in use, further peers wait, and are served when there is room; none are lost.
pub fn beyond_the_most_sockets_the_rest_wait<D: Driver>() {
    for pollers in [1, 2] {
        let case = Case::start(small::<D>().pollers(pollers).sockets(4), echoing);
        let listener = case.listen();
        let most = 4 * pollers;
        let mut peers: Vec<_> = (0..most + 6).map(|_| Peer::connect(listener.endpoint())).collect();
        peers.iter_mut().for_each(|peer| peer.send(b"x"));
        case.trace.until_count("open", most);
        for served in 1..=6 {
            let mut peer = peers.remove(0);
            assert_eq!(peer.receive(1), b"x");
            drop(peer);
            case.trace.until_count("open", most + served);
            assert!(case.trace.count("open") - case.trace.count("close") <= most);
        }
        for peer in &mut peers {
            assert_eq!(peer.receive(1), b"x");
        }
    }
}

/// No peer is lost if its listener is opened while there is no room.
pub fn a_listener_opened_without_room_loses_no_connection<D: Driver>() {
    // the policy pins to a full poller while the accepting poller has room: accepted sockets are held back
    let policy = lightcone_unix::Policy::Pinned(1);
    let case = Case::start(small::<D>().pollers(2).sockets(1).balancer(policy), echoing);
    let listener = case.listen();
    let first = Peer::connect(listener.endpoint());
    case.trace.token(0);
    let mut waiting = vec![Peer::connect(listener.endpoint())];
    thread::sleep(Duration::from_millis(10));
    for _ in 0..5 {
        let other = case.listen();
        waiting.push(Peer::connect(other.endpoint()));
        thread::sleep(Duration::from_millis(10));
    }
    drop(first);
    for peer in &mut waiting {
        peer.send(b"hello");
    }
    // each one is served after the one before it has closed
    let mut served = 0;
    soon("all served", || {
        waiting.retain_mut(|peer| {
            let Some(bytes) = peer.poll(8) else { return true };
            assert_eq!(bytes, b"hello", "a waiting peer was lost");
            served += 1;
            false
        });
        waiting.is_empty().then_some(())
    });
    assert_eq!(served, 6);
}

/// A socket that closes in `open` makes room for the next one.
pub fn closing_at_once_makes_room_at_once<D: Driver>() {
    let case = Case::start(small::<D>().sockets(1), |socket, event, _| match event {
        Event::Open => {
            socket.send(b"bye").unwrap();
            socket.close();
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    for _ in 0..100 {
        assert_eq!(Peer::connect(listener.endpoint()).receive_to_end(), b"bye");
    }
    case.trace.until_count("close", 100);
    assert_eq!(case.trace.closed(0), CloseReason::Local);
}

/// The time after which idle sockets may be evicted.
const EVICT: Duration = Duration::from_millis(150);

/// An engine of four sockets in total, which are evicted when they are idle. It echoes; a socket becomes active by a
/// `+`, and inactive by a `-`.
fn evicting<D: Driver>(pollers: usize) -> Case {
    let builder = small::<D>().pollers(pollers).sockets(4 / pollers).evict_after(Some(EVICT));
    Case::start(builder, |socket, event, cx| {
        match socket.bytes().last() {
            Some(b'+') => socket.set_active(true),
            Some(b'-') => socket.set_active(false),
            _ => {}
        }
        echoing(socket, event, cx);
    })
}

/// More peers than sockets are served one after the other, although none of them closes: the one that has been idle
/// longest sees the end. One in the middle of something does not.
pub fn idle_sockets_make_room<D: Driver>() {
    let case = evicting::<D>(1);
    let listener = case.listen();
    let mut busy = Peer::connect(listener.endpoint());
    busy.exchange(b"+");
    let mut idle: Vec<Peer> = (0..3)
        .map(|n| {
            let mut peer = Peer::connect(listener.endpoint());
            peer.exchange(b"hello");
            case.trace.token(n + 1);
            thread::sleep(Duration::from_millis(5));
            peer
        })
        .collect();
    for round in 0..6 {
        let mut peer = Peer::connect(listener.endpoint());
        peer.exchange(b"hello");
        assert_eq!(case.trace.closed(round + 1), CloseReason::Evicted);
        idle.remove(0).expect_end();
        idle.push(peer);
        // sockets that have been idle since the same millisecond go in any order
        thread::sleep(Duration::from_millis(5));
    }
    for (n, peer) in idle.iter_mut().enumerate() {
        peer.exchange(b"still there");
        assert_eq!(case.trace.count_of(7 + n, "close"), 0);
    }
    busy.exchange(b"still busy");
    let records = case.trace.records();
    let of = |socket: usize, name: &str| {
        records
            .iter()
            .filter(|it| it.socket == socket && it.what.name() == name)
            .map(|it| it.at_ms)
            .max()
            .unwrap()
    };
    for socket in 1..=6 {
        let quiet_ms = of(socket, "close") - of(socket, "receive");
        assert!(quiet_ms >= 150, "socket {socket} was evicted after {quiet_ms} ms");
    }
    assert_eq!(case.stop().pollers[0].stats.closed_for(CloseReason::Evicted), 6);
}

/// If all sockets of the accepting poller are busy, those of the other poller make room.
pub fn idle_sockets_of_other_pollers_make_room<D: Driver>() {
    let case = evicting::<D>(2);
    let listener = case.listen();
    let poller = |peer: &Peer| case.trace.token(case.trace.socket_of(peer.address())).poller().0;
    let mut peers: Vec<Peer> = (0..4).map(|_| Peer::connect(listener.endpoint())).collect();
    peers.iter_mut().for_each(|peer| peer.exchange(b"hello"));
    let (mut busy, mut idle): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| poller(peer) == 0);
    assert_eq!(busy.len(), 2, "the sockets are spread evenly");
    busy.iter_mut().for_each(|peer| peer.exchange(b"+"));
    for _ in 0..4 {
        let mut newcomer = Peer::connect(listener.endpoint());
        newcomer.exchange(b"hello");
        assert_eq!(poller(&newcomer), 1);
        idle.push(newcomer);
    }
    let report = case.stop();
    let evicted: Vec<_> = report.pollers.iter().map(|it| it.stats.closed_for(CloseReason::Evicted)).collect();
    assert_eq!(evicted, [0, 4]);
}

/// While all sockets are in the middle of something, peers wait. They are served when one is idle.
pub fn busy_sockets_make_no_room<D: Driver>() {
    let case = evicting::<D>(1);
    let listener = case.listen();
    let mut busy: Vec<Peer> = (0..4)
        .map(|_| {
            let mut peer = Peer::connect(listener.endpoint());
            peer.exchange(b"+");
            peer
        })
        .collect();
    let mut waiting = Peer::connect(listener.endpoint());
    waiting.send(b"hello");
    waiting.expect_silence(2 * EVICT);
    busy[2].exchange(b"-");
    assert_eq!(waiting.receive(5), b"hello");
    busy[2].expect_end();
    assert_eq!(case.trace.count("close"), 1);
    for peer in [0, 1, 3] {
        busy[peer].exchange(b"still there");
    }
}

/// Peers of several address families at once.
pub fn families_mix<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => echo(socket),
        other => by_default(socket, other),
    });
    let mut listeners = vec![case.listen(), case.listen_unix()];
    listeners.extend(case.engine().listen("[::1]:0").ok());
    let mut peers: Vec<_> =
        (0..30).map(|n| Peer::connect(listeners[n % listeners.len()].endpoint())).collect();
    for peer in &mut peers {
        peer.exchange(b"hello");
    }
    let families = |address: &Address| match address {
        Address::Inet(address) => usize::from(address.is_ipv6()),
        Address::Unix(_) => 2,
    };
    let mut counts = [0; 3];
    for record in case.trace.records() {
        if let What::Admit { peer, .. } = record.what {
            counts[families(&peer)] += 1;
        }
    }
    assert_eq!(counts.iter().sum::<usize>(), 30);
    assert_eq!((counts[0], counts[2]), (30 / listeners.len(), 30 / listeners.len()));
}
