//! The distribution of sockets over pollers.

use core::net::{IpAddr, Ipv4Addr};

use lightcone_core::balance::address_hint;
use lightcone_core::{Address, PollerId};
use lightcone_unix::Policy;
use lightcone_unix::driver::Driver;
use lightcone_unix::endpoint::Endpoint;

use crate::alone::skip;
use crate::case::{Case, echoing, small};
use crate::connecting::elsewhere;
use crate::peer::Peer;

fn start<D: Driver>(policy: Policy, pollers: usize) -> Case {
    Case::start(small::<D>().pollers(pollers).balancer(policy), echoing)
}

/// Connects a peer and returns it with the index of its poller.
fn place(case: &Case, listener: &Endpoint) -> (Peer, usize) {
    let peer = Peer::connect(listener);
    let poller = poller_of(case, &peer);
    (peer, poller)
}

fn poller_of(case: &Case, peer: &Peer) -> usize {
    let socket = case.trace.socket_of(peer.address());
    usize::from(case.trace.until(socket, "open").poller.0)
}

/// Round robin uses the pollers exactly in turn.
pub fn round_robin_goes_round<D: Driver>() {
    let case = start::<D>(Policy::RoundRobin, 3);
    let listener = case.listen();
    let places: Vec<_> = (0..30).map(|_| place(&case, listener.endpoint())).collect();
    let pollers: Vec<_> = places.iter().map(|(_, poller)| *poller).collect();
    assert!(pollers.windows(4).all(|it| it[0] == it[3] && it[0] != it[1] && it[1] != it[2]), "{pollers:?}");
    assert_eq!(case.handle().loads(), [10, 10, 10]);
}

/// A burst of connections is distributed as well.
pub fn a_burst_is_spread<D: Driver>() {
    let case = start::<D>(Policy::RoundRobin, 4);
    let listener = case.listen();
    let peers: Vec<_> = (0..40).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("open", 40);
    assert_eq!(case.handle().loads(), [10, 10, 10, 10]);
    drop(peers);
}

/// Least connections fills the poller with the lowest load.
pub fn least_connections_evens_out<D: Driver>() {
    let case = start::<D>(Policy::LeastConnections, 3);
    let listener = case.listen();
    let mut places: Vec<_> = (0..12).map(|_| place(&case, listener.endpoint())).collect();
    assert_eq!(case.handle().loads(), [4, 4, 4]);
    places.retain(|(_, poller)| *poller != 1);
    lightcone_contract::sockets::soon("room", || (case.handle().loads()[1] == 0).then_some(()));
    for _ in 0..4 {
        let (peer, poller) = place(&case, listener.endpoint());
        assert_eq!(poller, 1);
        places.push((peer, poller));
    }
    assert_eq!(case.handle().loads(), [4, 4, 4]);
}

/// Least of two stays close to even, and reduces an imbalance.
pub fn least_of_two_evens_out<D: Driver>() {
    let case = start::<D>(Policy::LeastOfTwo, 3);
    let listener = case.listen();
    let mut places: Vec<_> = (0..30).map(|_| place(&case, listener.endpoint())).collect();
    let loads = case.handle().loads();
    assert!(loads.iter().all(|load| (8..=12).contains(load)), "{loads:?}");
    places.retain(|(_, poller)| *poller != 2);
    lightcone_contract::sockets::soon("room", || (case.handle().loads()[2] == 0).then_some(()));
    places.extend((0..9).map(|_| place(&case, listener.endpoint())));
    assert!(case.handle().loads()[2] >= 5, "{:?}", case.handle().loads());
}

/// Hashing keeps an address on one poller, the same in every engine, and distributes the addresses.
pub fn hash_keeps_an_address_together<D: Driver>() {
    let address = |n: u8| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n));
    if std::net::TcpListener::bind((address(2), 0)).is_err() {
        return skip("loopback has one address here");
    }
    let mut seen = [Vec::new(), Vec::new()];
    for places in &mut seen {
        let case = start::<D>(Policy::Hash, 3);
        let listener = case.listen();
        for n in 1..=12 {
            let peers: Vec<_> = (0..3).map(|_| Peer::connect_from(address(n), listener.endpoint())).collect();
            let pollers: Vec<_> = peers.iter().map(|peer| poller_of(&case, peer)).collect();
            assert!(pollers.iter().all(|poller| *poller == pollers[0]), "{n}: {pollers:?}");
            places.push(pollers[0]);
        }
    }
    assert_eq!(seen[0], seen[1]);
    assert!((0..3).all(|poller| seen[0].contains(&poller)), "{:?}", seen[0]);
    assert_eq!(address_hint(&address(1)), address_hint(&"::ffff:127.0.0.1".parse().unwrap()));
}

/// Pinned uses only the given poller.
pub fn pinned_stays<D: Driver>() {
    let case = start::<D>(Policy::Pinned(2), 3);
    let listener = case.listen();
    let places: Vec<_> = (0..10).map(|_| place(&case, listener.endpoint())).collect();
    assert!(places.iter().all(|(_, poller)| *poller == 2));
    assert_eq!(case.handle().loads(), [0, 0, 10]);
}

/// If the chosen poller is full, the next one is used.
pub fn a_full_poller_is_passed_over<D: Driver>() {
    let case = Case::start(small::<D>().pollers(2).sockets(4), echoing);
    let listener = case.listen();
    let mut places: Vec<_> = (0..8).map(|_| place(&case, listener.endpoint())).collect();
    assert_eq!(case.handle().loads(), [4, 4]);
    // each slot of poller 0 that becomes free is used, regardless of the rotation
    for _ in 0..4 {
        let at = places.iter().position(|(_, poller)| *poller == 0).unwrap();
        places.remove(at);
        lightcone_contract::sockets::soon("room", || (case.handle().loads()[0] == 3).then_some(()));
        let (peer, poller) = place(&case, listener.endpoint());
        assert_eq!(poller, 0);
        places.push((peer, poller));
    }
}

/// Connects of the handle are distributed by the same policy.
pub fn connects_are_spread<D: Driver>() {
    let (listener, address) = elsewhere();
    let case = start::<D>(Policy::RoundRobin, 3);
    for tag in 0..9 {
        case.handle().connect(address, tag).unwrap();
    }
    case.trace.until_count("open", 9);
    assert_eq!(case.handle().loads(), [3, 3, 3]);
    let case = start::<D>(Policy::Pinned(1), 3);
    for tag in 0..9 {
        case.handle().connect(address, tag).unwrap();
    }
    case.trace.until_count("open", 9);
    assert_eq!(case.handle().loads(), [0, 9, 0]);
    drop(listener);
}

/// With a listener for each poller, the kernel distributes, and each connection is served where it was accepted.
pub fn a_listener_for_each_poller<D: Driver>() {
    let builder = small::<D>().pollers(2).listener_per_poller(true);
    let case = Case::start(builder, echoing);
    let listener = case.listen();
    let mut peers: Vec<_> = (0..60).map(|_| Peer::connect(listener.endpoint())).collect();
    for peer in &mut peers {
        peer.exchange(b"hello");
    }
    let loads = case.handle().loads();
    assert_eq!(loads.iter().sum::<u32>(), 60);
    if cfg!(any(target_os = "linux", target_os = "android")) {
        assert!(loads.iter().all(|load| *load > 5), "{loads:?}");
    }
    for record in case.trace.records() {
        assert!(record.token.is_none_or(|token| token.poller() == record.poller));
    }
    // a Unix socket has one listener only: its connections stay on the first poller
    let unix = case.listen_unix();
    let mut peer = Peer::connect(unix.endpoint());
    peer.exchange(b"hello");
    let socket = case.trace.wait("a Unix peer", |records| {
        let unix = |it: &&crate::trace::Record| {
            matches!(it.what, crate::trace::What::Admit { peer: Address::Unix(_), .. })
        };
        records.iter().find(unix).map(|it| it.socket)
    });
    assert_eq!(case.trace.until(socket, "open").poller, PollerId(0));
}
