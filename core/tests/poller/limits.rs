//! Tests of limits to accepting: the rate of a poller, and the connections of each peer.

use crate::bench::{Checker, Deaf, Lone, Note, at, checker, ms, sockets, uninit};
use crate::net::{Arrival, DoorRef, Fate, Listener, Loose, Net, Peer, WireRef};
use core::time::Duration;
use lightcone_core::poller::{AloneWithMail, Poller, PollerStorage, TopicStorage};
use lightcone_core::sync::{PeerLimits, PeerPlace};
use lightcone_core::{Address, Config, LimitPeers, ListenerId, Rate, Shard, Storage, TimerStorage, UnixId};
use std::rc::Rc;

const RATE: Rate = Rate::new(10, Duration::from_secs(1)).burst(3); // one in 100 ms

#[test]
fn connections_beyond_the_rate_are_turned_away_and_counted() {
    let mut bench = Lone::new(&Config { accept_rate: Some(RATE), ..sockets(16) });
    let door = bench.listen(0);
    let wires: Vec<_> = (0..5).map(|_| bench.knock(&door)).collect();
    bench.turn();
    let fates: Vec<_> = wires.iter().map(Peer::fate).collect();
    assert_eq!(fates[..3], [Fate::Watched; 3]);
    assert_eq!(fates[3..], [Fate::Rejected; 2]);
    let stats = bench.poller.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.over_rate), (3, 2, 2));
    // a token comes back after 100 ms, and not before
    let early = bench.knock(&door);
    bench.turn_at(99);
    assert_eq!(early.fate(), Fate::Rejected);
    let (in_time, late) = (bench.knock(&door), bench.knock(&door));
    bench.turn_at(100);
    assert_eq!((in_time.fate(), late.fate()), (Fate::Watched, Fate::Rejected));
    bench.stop(0);
}

#[test]
fn without_a_rate_all_are_admitted_and_connects_do_not_count() {
    let mut bench =
        Lone::new(&Config { accept_rate: Some(Rate::new(1, Duration::from_secs(60))), ..sockets(16) });
    for _ in 0..3 {
        assert!(bench.poller.connect(Address::Inet(([192, 0, 2, 9], 1).into()), 0).is_ok());
        bench.attach();
    }
    bench.turn();
    assert_eq!(bench.poller.stats().over_rate, 0);
    bench.stop(0);
    let mut free = Deaf::deaf(&sockets(16));
    let door = free.listen(0);
    let wires: Vec<_> = (0..12).map(|_| free.knock(&door)).collect();
    free.turn();
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Watched));
    free.stop(0);
}

type Limits = PeerLimits<[PeerPlace; 32]>;
type Limited = Poller<'static, LimitPeers<Checker, &'static Limits>, Net<true>, AloneWithMail<Note, 4>, 4>;

/// Puts a peer with this address into the backlog of a listener.
fn knock(door: &DoorRef, host: u8) -> WireRef {
    let wire = WireRef::default();
    let peer = Address::Inet(([192, 0, 2, host], 1).into());
    door.borrow_mut().backlog.push_back(Arrival::Peer(Rc::clone(&wire), peer));
    wire
}

fn turn(poller: &mut Limited, now: u64) {
    poller.begin_turn(at(now), None);
    poller.on_acceptable(ListenerId(0));
    poller.turn();
}

#[test]
fn a_peer_has_its_connections_and_no_more_until_one_ends() {
    let limits: &'static Limits =
        Box::leak(Box::new(PeerLimits::new([const { PeerPlace::new() }; 32], 2, 5)));
    {
        let config = sockets(16);
        let storage = PollerStorage {
            connections: uninit(config.sockets),
            listeners: vec![None].leak(),
            buffer: vec![0; 512].leak(),
            timers: TimerStorage::none(),
            rooms: &mut [],
            topics: TopicStorage::none(),
        };
        let config = Config { timers: 0, room_requests: 0, subscriptions: 0, ..config };
        let memory = vec![0; config.memory()].leak();
        let storage_of_shard = Storage { slots: uninit(config.sockets), memory };
        let shard = Shard::new(storage_of_shard, &config, at(0)).unwrap();
        let handler = LimitPeers::new(checker(), Some(limits));
        let mut poller: Limited =
            Poller::new(shard, handler, Net::default(), AloneWithMail::new(), storage).unwrap();
        let door = DoorRef::default();
        assert!(poller.listen(Listener(Rc::clone(&door)), ListenerId(0)).is_ok());
        let one: Vec<_> = (0..3).map(|_| knock(&door, 1)).collect();
        let other = knock(&door, 2);
        turn(&mut poller, 0);
        let fates: Vec<_> = one.iter().chain([&other]).map(Peer::fate).collect();
        assert_eq!(fates, [Fate::Watched, Fate::Watched, Fate::Rejected, Fate::Watched]);
        assert_eq!((poller.stats().rejected, limits.refused()), (1, 1));
        // the program's own connections do not count
        assert!(poller.attach(Loose(WireRef::default()), Address::Unix(UnixId(1)), ListenerId(0)).is_ok());
        poller.close_socket(one[0].token(), true);
        let (next, last) = (knock(&door, 1), knock(&door, 1));
        turn(&mut poller, 1);
        assert_eq!((next.fate(), last.fate()), (Fate::Watched, Fate::Rejected));
        assert_eq!(limits.refused(), 2);
        poller.stop(ms(0));
        for now in 2..20 {
            turn(&mut poller, now);
        }
        assert!(poller.is_over());
        assert_eq!(poller.handler().inner().alive(), 0);
    }
    let all: Vec<_> = (1..=2).map(|_| limits.acquire([192, 0, 2, 1].into())).collect();
    assert!(all.iter().all(Option::is_some), "a connection is still counted");
}
