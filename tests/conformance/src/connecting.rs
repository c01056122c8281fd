//! How sockets that connect begin.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use lightcone_contract::sockets::soon;
use lightcone_core::{Address, CloseReason, ConnectError, ErrorKind, Origin, RequestError};
use lightcone_unix::address::SocketAddress;
use lightcone_unix::driver::Driver;
use lightcone_unix::endpoint::Endpoint;
use lightcone_unix::listener::{ListenOptions, ListenSocket};
use lightcone_unix::socket::{self, Connecting};

use crate::alone::skip;
use crate::case::{Case, Event, by_default, echo, echoing, small, small_with};
use crate::peer::Peer;
use crate::trace::What;

/// Opens a listener outside the engine.
pub(crate) fn elsewhere() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().into();
    (listener, address)
}

/// Returns an address without a listener. Where loopback has several addresses, no other test can use it.
pub(crate) fn nowhere() -> Address {
    TcpListener::bind("127.66.0.1:0").map_or_else(|_| elsewhere().1, |it| it.local_addr().unwrap().into())
}

/// A listener that does not respond because its backlog is full, with the sockets that fill the backlog.
#[derive(Debug)]
pub(crate) struct Silent {
    pub(crate) address: Address,
    listener: ListenSocket,
    _waiting: Vec<OwnedFd>,
}

impl Silent {
    /// Returns `None` if this system responds even with a full backlog.
    pub(crate) fn new() -> Option<Self> {
        let options = ListenOptions { backlog: 1, ..ListenOptions::default() };
        let listener = ListenSocket::bind(&"127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let address = listener.endpoint().as_inet().unwrap().into();
        let to = SocketAddress::new(listener.endpoint());
        let mut waiting = Vec::new();
        for _ in 0..64 {
            let fd = socket::stream_socket(listener.endpoint()).unwrap();
            let started = socket::connect(fd.as_fd(), &to);
            let mut tries = 0;
            // a connect that does not complete within 50 ms shows that the backlog is full
            let is_done =
                || started == Connecting::Done || socket::connect_result(fd.as_fd()) == Connecting::Done;
            while !is_done() && tries < 50 {
                tries += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            waiting.push(fd);
            if tries == 50 {
                return Some(Self { address, listener, _waiting: waiting });
            }
        }
        None
    }

    /// Accepts the waiting sockets, so that connects are answered at their next attempt.
    pub(crate) fn answer(&self) {
        lightcone_contract::sockets::accept(&self.listener);
        while matches!(self.listener.accept(), lightcone_unix::listener::AcceptResult::Accepted(..)) {}
    }
}

/// A connect over IPv4 opens, with its tag and its peer.
pub fn ipv4_opens<D: Driver>() {
    let case = Case::echo::<D>();
    let (listener, address) = elsewhere();
    case.handle().connect(address, 77).unwrap();
    let mut peer = Peer::accept(&listener);
    peer.exchange(b"hello");
    let first = case.trace.records()[0].what;
    assert_eq!(first, What::Admit { origin: Origin::Connecting { tag: 77 }, peer: address });
    drop(peer);
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
    assert_eq!(case.stop().pollers[0].stats.connected, 1);
}

/// A connect over IPv6 opens.
pub fn ipv6_opens<D: Driver>() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return skip("the system has no IPv6") };
    let case = Case::echo::<D>();
    case.handle().connect(listener.local_addr().unwrap().into(), 1).unwrap();
    Peer::accept(&listener).exchange(b"hello");
}

/// A connect to a missing Unix path is refused with the right error.
pub fn a_missing_unix_path_is_refused<D: Driver>() {
    let case = Case::echo::<D>();
    let endpoint: Endpoint = case.unix_path("nobody").parse().unwrap();
    let address = case.handle().address(&endpoint).unwrap();
    case.handle().connect(address, 1).unwrap();
    case.trace.until(0, "refused");
    assert_eq!(case.trace.shape(0), "admit refused(connection refused)");
}

/// A connect to a Unix path whose listener has been closed is refused as well.
pub fn a_dead_unix_socket_is_refused<D: Driver>() {
    let case = Case::echo::<D>();
    let endpoint: Endpoint = case.unix_path("dead").parse().unwrap();
    let Endpoint::Unix(name) = &endpoint else { unreachable!() };
    drop(std::os::unix::net::UnixListener::bind(name.as_path().unwrap()).unwrap());
    case.handle().connect(case.handle().address(&endpoint).unwrap(), 1).unwrap();
    case.trace.until(0, "refused");
    assert_eq!(case.trace.shape(0), "admit refused(connection refused)");
}

/// Returns a Unix listener with a full backlog and the sockets that fill it, or `None` if this system does not report a
/// full backlog.
fn full_unix_listener(endpoint: &Endpoint) -> Option<(ListenSocket, Vec<OwnedFd>)> {
    let options = ListenOptions { backlog: 0, ..ListenOptions::default() };
    let listener = ListenSocket::bind(endpoint, &options).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let fd = socket::stream_socket(endpoint).unwrap();
        match socket::connect(fd.as_fd(), &SocketAddress::new(endpoint)) {
            Connecting::Done => waiting.push(fd),
            Connecting::Failed(errno) if errno.is_would_block() => return Some((listener, waiting)),
            Connecting::InProgress | Connecting::Failed(_) => return None,
        }
    }
    None
}

/// A connect to a Unix listener with a full backlog opens when there is room, and ends at the connect timeout
/// otherwise.
pub fn a_full_unix_backlog_is_waited_for<D: Driver>() {
    for opens in [true, false] {
        let connect = Duration::from_millis(if opens { 20_000 } else { 150 });
        let case = Case::start(small_with::<D>(|it| it.connect = Some(connect)), echoing);
        let endpoint: Endpoint = case.unix_path("full").parse().unwrap();
        let Some((listener, _waiting)) = full_unix_listener(&endpoint) else {
            return skip("a full Unix backlog refuses here");
        };
        let start = lightcone_unix::clock::Clock::now_ms();
        case.handle().connect(case.handle().address(&endpoint).unwrap(), 1).unwrap();
        case.trace.until(0, "admit");
        if opens {
            std::thread::sleep(Duration::from_millis(60));
            assert_eq!(case.trace.shape(0), "admit");
            while matches!(listener.accept(), lightcone_unix::listener::AcceptResult::Accepted(..)) {}
            case.trace.until(0, "open");
            assert_eq!(case.trace.shape(0), "admit open");
        } else {
            let refused = case.trace.until(0, "refused");
            assert_eq!(refused.what, What::Refused(ErrorKind::TimedOut));
            let span = refused.at_ms - start;
            assert!((150..5_000).contains(&span), "{span} ms");
        }
    }
}

/// A connect to an impossible address is refused, without an engine failure.
pub fn an_impossible_address_is_refused<D: Driver>() {
    let case = Case::echo::<D>();
    for address in ["255.255.255.255:9", "[ff02::1]:9"] {
        let address: core::net::SocketAddr = address.parse().unwrap();
        case.handle().connect(address.into(), 1).unwrap();
    }
    case.trace.until_count("refused", 2);
    assert_eq!(case.trace.count("open"), 0);
}

/// A connect without a response ends at the connect timeout, not before and not much later.
pub fn a_connect_times_out<D: Driver>() {
    let Some(silent) = Silent::new() else { return skip("a full backlog still accepts here") };
    let case = Case::start(small_with::<D>(|it| it.connect = Some(Duration::from_millis(150))), echoing);
    let start = lightcone_unix::clock::Clock::now_ms();
    case.handle().connect(silent.address, 1).unwrap();
    let refused = case.trace.until(0, "refused");
    assert_eq!(refused.what, What::Refused(ErrorKind::TimedOut));
    let span = refused.at_ms - start;
    assert!((150..5_000).contains(&span), "{span} ms");
    assert_eq!(case.stop().pollers[0].stats.refused, 1);
}

/// A connect with a late response opens late, like any other.
pub fn a_late_connect_opens<D: Driver>() {
    let Some(silent) = Silent::new() else { return skip("a full backlog still accepts here") };
    let case = Case::echo::<D>();
    case.handle().connect(silent.address, 1).unwrap();
    case.trace.until(0, "admit");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(case.trace.shape(0), "admit");
    silent.answer();
    // the system repeats its attempt after a second
    case.trace.until(0, "open");
    assert_eq!(case.trace.shape(0), "admit open");
}

/// A connect in progress can be cancelled by its token.
pub fn a_connect_can_be_cancelled<D: Driver>() {
    let Some(silent) = Silent::new() else { return skip("a full backlog still accepts here") };
    for abort in [false, true] {
        let (token, to) = (Arc::new(Mutex::new(None)), silent.address);
        let kept = Arc::clone(&token);
        let case = Case::start(small::<D>(), move |socket, event, cx| match event {
            Event::Receive => *kept.lock().unwrap() = Some(cx.connect(to, 1).unwrap()),
            other => by_default(socket, other),
        });
        let mut peer = case.peer();
        peer.send(b"x");
        case.trace.until(1, "admit");
        let token = token.lock().unwrap().unwrap();
        if abort { case.handle().abort(token) } else { case.handle().close(token) }.unwrap();
        case.trace.until(1, "refused");
        assert_eq!(case.trace.shape(1), "admit refused(connection aborted)");
    }
}

/// A connect can be cancelled before it has begun, in the callback that requested it.
pub fn a_connect_is_cancelled_at_once<D: Driver>() {
    let (listener, to) = elsewhere();
    for abort in [false, true] {
        let handle = Arc::new(std::sync::OnceLock::<lightcone_unix::Handle<u64>>::new());
        let kept = Arc::clone(&handle);
        let case = Case::start(small::<D>(), move |socket, event, cx| match event {
            Event::Receive => {
                let token = cx.connect(to, 1).unwrap();
                let handle = kept.get().unwrap();
                if abort { handle.abort(token) } else { handle.close(token) }.unwrap();
            }
            other => by_default(socket, other),
        });
        handle.set(case.handle().clone()).unwrap();
        let mut peer = case.peer();
        peer.send(b"x");
        case.trace.until(1, "refused");
        assert_eq!(case.trace.shape(1), "admit refused(connection aborted)");
        drop(peer);
        case.stop();
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the connect was made anyway");
}

/// A peer that resets before the engine sees that the connection is established is not a refusal.
pub fn a_reset_before_the_connect_is_seen<D: Driver>() {
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let (in_message, in_admit) = (Arc::clone(&barrier), Arc::clone(&barrier));
    let hold = |barrier: &std::sync::Barrier| {
        barrier.wait();
        barrier.wait();
    };
    let admit = move |origin, _: &Address| {
        if matches!(origin, Origin::Connecting { tag: 2 }) {
            hold(&in_admit);
        }
        true
    };
    let case = Case::choosy(small::<D>(), admit, move |socket, event, _| match event {
        Event::Message(_) => hold(&in_message),
        other => by_default(socket, other),
    });
    let _peer = case.peer();
    let (listener, address) = elsewhere();
    case.handle().post(case.trace.token(0), 1).unwrap();
    // while the callback blocks the poller, both connects are queued, so that one turn takes both: the first has begun
    // when the second blocks the poller in `admit`.
    barrier.wait();
    case.handle().connect(address, 1).unwrap();
    case.handle().connect(nowhere(), 2).unwrap();
    barrier.wait();
    barrier.wait();
    Peer::accept(&listener).reset();
    barrier.wait();
    assert_eq!(case.trace.closed(1), CloseReason::Reset);
    assert_eq!(case.trace.shape(1), "admit open close(reset by the peer)");
}

/// A peer that resets at once is not a refusal: the connection was established.
pub fn a_reset_right_after_the_connect<D: Driver>() {
    let case = Case::echo::<D>();
    let (listener, address) = elsewhere();
    for _ in 0..20 {
        case.handle().connect(address, 1).unwrap();
        Peer::accept(&listener).reset();
    }
    case.trace.until_count("close", 20);
    assert_eq!(case.trace.count("refused"), 0);
    assert_eq!(case.trace.closed(0), CloseReason::Reset);
}

/// Handlers connect on their own poller, and receive the token of the new socket.
pub fn handlers_connect<D: Driver>() {
    let (listener, address) = elsewhere();
    let token = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&token);
    let case = Case::start(small::<D>().pollers(2), move |socket, event, cx| match event {
        Event::Receive if socket.bytes() == b"connect" => {
            crate::case::consume_all(socket);
            *kept.lock().unwrap() = Some(cx.connect(address, 5).unwrap());
        }
        Event::Receive => echo(socket),
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"connect");
    Peer::accept(&listener).exchange(b"through");
    let open = case.trace.until(1, "open");
    assert_eq!(open.token, *token.lock().unwrap());
    assert_eq!(open.poller, case.trace.until(0, "open").poller);
}

/// Connects beyond the limit of a turn fail, and the next turn accepts more.
pub fn connects_of_one_turn_are_bounded<D: Driver>() {
    let (listener, address) = elsewhere();
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let case = Case::start(small::<D>(), move |socket, event, cx| match event {
        Event::Receive if socket.data.socket == 0 => {
            crate::case::consume_all(socket);
            let mut connects = 0;
            let error = loop {
                match cx.connect(address, 1) {
                    Ok(_) => connects += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error, ConnectError::Full);
            // added once, so that the test sees either none or all of them
            counted.fetch_add(connects, Ordering::Relaxed);
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    for round in 1..=2 {
        let before = begun.load(Ordering::Relaxed);
        peer.send(b"x");
        case.trace.until_nth(0, "receive", round);
        let all = case.trace.wait("connects", |_| {
            let all = begun.load(Ordering::Relaxed);
            (all > before).then_some(all)
        });
        assert!(all - before >= 8, "only {} connects in a turn", all - before);
        case.trace.until_count("open", 1 + all);
        assert_eq!(case.trace.count("admit"), 1 + all);
    }
    drop(listener);
}

/// Connects fail while all slots are in use, and succeed again when there is room.
pub fn connects_beyond_the_sockets_are_refused<D: Driver>() {
    let (listener, address) = elsewhere();
    let case = Case::start(small::<D>().sockets(3), echoing);
    for tag in 0..3 {
        case.handle().connect(address, tag).unwrap();
    }
    assert_eq!(case.handle().connect(address, 3), Err(RequestError::Full));
    let peers: Vec<_> = (0..3).map(|_| Peer::accept(&listener)).collect();
    case.trace.until_count("open", 3);
    assert_eq!(case.handle().connect(address, 3), Err(RequestError::Full));
    drop(peers);
    case.trace.until_count("close", 3);
    soon("room", || case.handle().connect(address, 4).ok());
    case.trace.until_count("open", 4);
}

/// A connect that `admit` turns away has no events, and its slot is freed.
pub fn a_connect_can_be_turned_away<D: Driver>() {
    let (_listener, address) = elsewhere();
    let no = |origin, _: &Address| !matches!(origin, Origin::Connecting { tag: 13 });
    let case = Case::choosy(small::<D>().sockets(2), no, echoing);
    for _ in 0..10 {
        soon("room", || case.handle().connect(address, 13).ok());
    }
    soon("room", || case.handle().connect(address, 1).ok());
    case.trace.until(0, "open");
    assert_eq!(case.trace.count("admit"), 1);
    assert_eq!(case.stop().pollers[0].stats.rejected, 10);
}

/// The local address of a socket is the address that its peer sees, over IPv4 and over a Unix socket.
pub fn local_addresses_are_true<D: Driver>() {
    let (listener, address) = elsewhere();
    let local = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&local);
    let case = Case::start(small::<D>(), move |socket, event, cx| match event {
        Event::Open => *kept.lock().unwrap() = cx.local_address(socket.token()),
        other => by_default(socket, other),
    });
    case.handle().connect(address, 1).unwrap();
    let is_local = |address| soon("its address", || (*local.lock().unwrap() == Some(address)).then_some(()));
    let peer = Peer::accept(&listener);
    is_local(peer.other_address());
    let peer = case.peer();
    is_local(peer.other_address());
    let unix = case.listen_unix();
    let _peer = Peer::connect(unix.endpoint());
    is_local(case.handle().address(unix.endpoint()).unwrap());
}

/// A stale token has no local address, even if its slot is in use again; nor has a token of another poller.
pub fn a_stale_token_has_no_local_address<D: Driver>() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let (answers, known) = (Arc::clone(&asked), Arc::clone(&tokens));
    let case = Case::start(small::<D>().pollers(2), move |socket, event, cx| match event {
        Event::Open => known.lock().unwrap().push(socket.token()),
        Event::Message(_) => {
            let known: Vec<_> = known.lock().unwrap().clone();
            let own = socket.token();
            answers
                .lock()
                .unwrap()
                .extend(known.iter().map(|it| (*it == own, cx.local_address(*it).is_some())));
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    for _ in 0..4 {
        let peer = Peer::connect(listener.endpoint());
        let socket = case.trace.socket_of(peer.address());
        case.trace.token(socket);
        drop(peer);
        case.trace.closed(socket);
    }
    let peers: Vec<_> = (0..2).map(|_| Peer::connect(listener.endpoint())).collect();
    soon("all tokens", || (tokens.lock().unwrap().len() == 6).then_some(()));
    for peer in &peers {
        let socket = case.trace.socket_of(peer.address());
        case.handle().post(case.trace.token(socket), 1).unwrap();
        case.trace.until(socket, "message");
    }
    let asked = soon("answers", || Some(asked.lock().unwrap().clone()).filter(|it| it.len() == 12));
    for (own, answered) in asked {
        assert_eq!(own, answered, "a token of another socket has an address");
    }
}
