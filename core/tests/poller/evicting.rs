//! Eviction in a poller: when a connection waits and there is no room, the socket that has been idle longest ends.

use crate::bench::{Bench, Deaf, Lone, Mate, Note, SMALL, Team, group, loads, mate, ms, sockets, usual};
use crate::net::{Arrival, DoorRef, Fate, Listener, Loose, Peer, WireRef};
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{AloneWithMail, Command, Membership};
use lightcone_core::{CloseReason, Config, Event, Timeouts};

/// Four slots for accepted sockets, which may be evicted when they have been idle for more than 100 ms.
const EVICT: Config = Config { evict_after: Some(ms(100)), ..SMALL };

/// Returns a poller whose four slots are in use, by sockets that were opened at 0, 1, 2 and 3.
fn full() -> (Lone, DoorRef, Vec<WireRef>) {
    let mut bench = Lone::new(&EVICT);
    let (door, wires) = fill(&mut bench);
    (bench, door, wires)
}

fn fill<L: Membership<Loose, Listener, Note>, const C: bool, const B: usize>(
    bench: &mut Bench<L, C, B>,
) -> (DoorRef, Vec<WireRef>) {
    let door = bench.listen(0);
    let wires = (0..4)
        .map(|at| {
            let wire = bench.knock(&door);
            bench.turn_at(at);
            wire
        })
        .collect();
    bench.trace();
    (door, wires)
}

fn evicted<const C: bool>(bench: &Bench<AloneWithMail<Note, 2048>, C>) -> u64 {
    bench.poller.stats().closed_for(CloseReason::Evicted)
}

#[test]
fn the_longest_idle_makes_room_in_the_same_turn() {
    let (mut bench, door, wires) = full();
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    bench.turn();
    assert_eq!((wires[0].fate(), newcomer.fate()), (Fate::Closed, Fate::Watched));
    assert_eq!(bench.trace(), ["0 close Evicted", "4 open"]);
    assert_eq!(newcomer.token().index(), wires[0].token().index());
    assert!(door.borrow().watched, "accepting goes on");
    assert_eq!((evicted(&bench), bench.poller.stats().rejected), (1, 0));
    bench.stop(0);
}

/// Such as a low descriptor for `select`.
#[test]
fn an_eviction_makes_room_for_a_connection_that_cannot_be_watched_yet() {
    let mut bench = Lone::new(&Config { sockets: 12, ..EVICT });
    let (door, wires) = fill(&mut bench);
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    newcomer.set(|wire| wire.unwatchable = 1);
    bench.turn();
    assert_eq!((newcomer.fate(), evicted(&bench)), (Fate::Watched, 0), "the second attempt succeeds");
    let other = bench.knock(&door);
    other.set(|wire| wire.unwatchable = 2);
    bench.turn();
    assert_eq!((wires[0].fate(), other.fate(), evicted(&bench)), (Fate::Closed, Fate::Watched, 1));
    bench.stop(0);
}

#[test]
fn before_the_span_is_over_connections_wait() {
    let (mut bench, door, wires) = full();
    let newcomers: Vec<_> = (0..3).map(|_| bench.knock(&door)).collect();
    for now in 4..=100 {
        bench.turn_at(now);
    }
    assert_eq!(evicted(&bench), 0);
    assert!(
        newcomers.iter().all(|it| it.fate() == Fate::Loose)
            && wires.iter().all(|it| it.fate() == Fate::Watched)
    );
    // a back-off may be running: until its end at most, and one for each turn
    while evicted(&bench) < 3 {
        assert!(bench.now < 140);
        bench.turn_at(bench.now + 1);
    }
    let order: Vec<_> = bench.trace().into_iter().filter(|it| it.contains("close")).collect();
    assert_eq!(order, ["0 close Evicted", "1 close Evicted", "2 close Evicted"]);
    bench.stop(0);
}

#[test]
fn no_socket_is_evicted_for_a_connection_that_does_not_come() {
    let (mut bench, door, _) = full();
    bench.now = 500;
    // readiness was only a hint; one is filtered, and one was closed by its peer
    for arrivals in [vec![], vec![Arrival::Filtered], vec![Arrival::Retry], vec![Arrival::Exhausted]] {
        door.borrow_mut().backlog.extend(arrivals);
        bench.begin();
        bench.guard(|poller| poller.on_acceptable(lightcone_core::ListenerId(0)));
        bench.rest();
        bench.now += 50;
    }
    bench.turn();
    assert_eq!((evicted(&bench), bench.trace().len()), (0, 0));
    assert!(door.borrow().watched);
    bench.stop(0);
}

#[test]
fn with_room_no_socket_is_evicted() {
    let mut bench = Lone::new(&Config { evict_after: Some(ms(100)), ..sockets(5) });
    let (door, _) = fill(&mut bench);
    bench.turn_at(1_000);
    let (fits, beyond) = (bench.knock(&door), bench.knock(&door));
    bench.turn();
    assert_eq!((fits.fate(), evicted(&bench)), (Fate::Watched, 1), "only the second has no room");
    assert_eq!(beyond.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_request_that_has_arrived_is_served_and_the_next_socket_goes() {
    let (mut bench, door, wires) = full();
    bench.turn_at(200);
    let newcomer = bench.knock(&door);
    // it arrives after the wait has returned: no event reports it
    wires[0].says(b"request");
    bench.begin();
    bench.guard(|poller| poller.on_acceptable(lightcone_core::ListenerId(0)));
    bench.rest();
    bench.turn();
    assert_eq!(wires[0].heard(), b"request");
    assert_eq!((wires[0].fate(), wires[1].fate()), (Fate::Watched, Fate::Closed));
    assert_eq!(newcomer.fate(), Fate::Watched);
    assert_eq!(bench.trace(), ["0 receive", "0 sent", "1 close Evicted", "4 open"]);
    bench.stop(0);
}

#[test]
fn at_most_16_sockets_are_received_from_for_one_newcomer() {
    let mut bench = Lone::new(&Config { evict_after: Some(ms(100)), input_blocks: 40, ..sockets(40) });
    let door = bench.listen(0);
    let wires: Vec<_> = (0..40).map(|_| bench.knock(&door)).collect();
    bench.turn();
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    bench.turn();
    assert_eq!((newcomer.fate(), evicted(&bench)), (Fate::Watched, 1));
    let next = bench.knock(&door);
    wires.iter().filter(|wire| wire.fate() == Fate::Watched).take(30).for_each(|wire| wire.says(b"x"));
    let receives = |wires: &[WireRef]| wires.iter().map(|wire| wire.count("receive")).sum::<usize>();
    let before = receives(&wires);
    bench.now = 130;
    bench.begin();
    bench.guard(|poller| poller.on_acceptable(lightcone_core::ListenerId(0)));
    bench.rest();
    assert_eq!((next.fate(), evicted(&bench)), (Fate::Loose, 1), "it waits for the next turn");
    assert_eq!(receives(&wires) - before, 16);
    bench.turn_at(150);
    assert_eq!((next.fate(), evicted(&bench)), (Fate::Watched, 2));
    bench.stop(0);
}

#[test]
fn a_peer_that_has_left_makes_room_without_an_eviction() {
    let (mut bench, door, wires) = full();
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    wires[0].ends();
    bench.begin();
    bench.guard(|poller| poller.on_acceptable(lightcone_core::ListenerId(0)));
    bench.rest();
    assert_eq!((wires[0].fate(), newcomer.fate(), evicted(&bench)), (Fate::Closed, Fate::Watched, 0));
    assert_eq!(bench.trace(), ["0 peer_closed", "0 close Peer", "4 open"]);
    bench.stop(0);
}

#[test]
fn busy_sockets_stay_and_the_connection_waits() {
    let (mut bench, door, wires) = full();
    bench.react(|socket, event, _| match event {
        Event::Receive => {
            socket.set_active(true);
            socket.consume_all();
        }
        other => usual(socket, &other),
    });
    wires.iter().for_each(|wire| wire.says(b"request"));
    bench.turn_at(10);
    let newcomer = bench.knock(&door);
    bench.turn_at(1_000);
    bench.turn_at(2_000);
    assert_eq!((newcomer.fate(), evicted(&bench)), (Fate::Loose, 0));
    wires[2].ends();
    bench.turn_at(2_001);
    bench.turn_at(2_002);
    assert_eq!(newcomer.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_panic_in_close_loses_neither_connection() {
    let (mut bench, door, wires) = full();
    bench.react(|socket, event, _| match event {
        Event::Close(CloseReason::Evicted) => crate::net::planned_panic(),
        other => usual(socket, &other),
    });
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    bench.turn();
    assert_eq!((wires[0].fate(), newcomer.fate()), (Fate::Closed, Fate::Watched));
    assert_eq!(bench.owners.len(), 1);
    bench.stop(0);
}

#[test]
fn completions_are_evicted_too() {
    let mut bench = Lone::new(&EVICT);
    bench.net().completes = true;
    let (door, wires) = fill(&mut bench);
    bench.turn_at(101);
    let newcomer = bench.knock(&door);
    bench.turn();
    assert_eq!((wires[0].fate(), newcomer.fate(), evicted(&bench)), (Fate::Closed, Fate::Watched, 1));
    bench.stop(0);
}

#[test]
fn after_a_stop_no_socket_is_evicted() {
    let mut bench = Deaf::deaf(&Config { sockets: 4, ..EVICT });
    let (door, wires) = fill(&mut bench);
    bench.react(|socket, event, _| match event {
        Event::Shutdown => {}
        other => usual(socket, &other),
    });
    bench.turn_at(500);
    let newcomer = bench.knock(&door);
    bench.begin();
    bench.poller.stop(ms(100));
    bench.rest();
    assert_eq!((newcomer.fate(), evicted(&bench)), (Fate::Loose, 0));
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Watched));
    bench.end();
}

#[test]
fn a_connect_evicts_no_socket_and_reserved_slots_stay_reserved() {
    let (mut bench, door, _) = full();
    bench.now = 500;
    bench.begin();
    // all four reserved slots are taken, then no more
    let to = lightcone_core::Address::Unix(lightcone_core::UnixId(9));
    (0..4).for_each(|tag| assert!(bench.poller.connect(to, tag).is_ok()));
    assert!(bench.poller.connect(to, 4).is_err());
    bench.rest();
    assert_eq!(evicted(&bench), 0);
    // the slot that is evicted for an accept goes to it, and not to the reserve
    let newcomer = bench.knock(&door);
    bench.turn();
    assert_eq!((newcomer.fate(), evicted(&bench)), (Fate::Watched, 1));
    bench.stop(0);
}

#[test]
fn four_idle_connections_do_not_lock_a_device() {
    // no sockets are reserved for connects, and there are no timeouts
    let config = Config { sockets: 4, timeouts: Timeouts::NONE, ..EVICT };
    let mut bench = Deaf::deaf(&config);
    let (door, _) = fill(&mut bench);
    for client in 1..=1_000 {
        let wire = bench.knock(&door);
        wire.says(b"request");
        let by = bench.now + 120;
        while wire.heard().is_empty() {
            let due = bench.due().unwrap_or(bench.now + 1);
            bench.turn_at(due.clamp(bench.now, bench.now + 1));
            assert!(bench.now <= by, "client {client} waits for too long");
        }
    }
    assert_eq!(bench.poller.stats().closed_for(CloseReason::Evicted), 1_000);
    bench.stop(0);
}

fn team(pollers: usize, policy: Policy) -> (Team, Vec<Mate>) {
    let group = group(pollers, 2, 8, 8);
    let balancer = Balancer::new(policy, pollers).unwrap();
    let mates = (0..pollers).map(|id| mate(group, id as u8, &EVICT, Some(balancer.clone()))).collect();
    (group, mates)
}

/// Fills all pollers, two sockets each. The sockets of each poller in turn are opened.
fn fill_team(mates: &mut [Mate]) -> (DoorRef, Vec<WireRef>) {
    let door = mates[0].listen(0);
    let wires: Vec<_> = (0..2 * mates.len()).map(|_| mates[0].knock(&door)).collect();
    mates.iter_mut().for_each(Mate::turn);
    (door, wires)
}

/// Runs three turns of each: one to accept, one to be given what was accepted, and one after an eviction.
fn turn_all(mates: &mut [Mate], now: u64) {
    for _ in 0..3 {
        mates.iter_mut().for_each(|mate| mate.turn_at(now));
    }
}

fn counts(mates: &[Mate]) -> Vec<u64> {
    mates.iter().map(|mate| mate.poller.stats().closed_for(CloseReason::Evicted)).collect()
}

fn end(group: Team, mates: &mut [Mate]) {
    group.stop(ms(0));
    for mate in &mut *mates {
        mate.turn();
        mate.wind_up();
    }
    assert!(loads(group).iter().all(|load| *load == 0), "{:?}", loads(group));
}

#[test]
fn a_poller_with_room_comes_before_an_eviction() {
    let (group, mut mates) = team(3, Policy::LeastConnections);
    let (door, wires) = fill_team(&mut mates);
    let token = wires.iter().find(|wire| wire.token().poller().0 == 2).unwrap().token();
    mates[2].poller.close_socket(token, true);
    let newcomer = mates[0].knock(&door);
    turn_all(&mut mates, 500);
    assert_eq!(newcomer.token().poller().0, 2);
    assert_eq!(counts(&mates), [0, 0, 0]);
    end(group, &mut mates);
}

#[test]
fn the_accepting_poller_evicts_its_own_first() {
    let (group, mut mates) = team(3, Policy::RoundRobin);
    let (door, _) = fill_team(&mut mates);
    let newcomers: Vec<_> = (0..2).map(|_| mates[0].knock(&door)).collect();
    turn_all(&mut mates, 500);
    turn_all(&mut mates, 501);
    assert!(newcomers.iter().all(|it| it.token().poller().0 == 0));
    assert_eq!(counts(&mates), [2, 0, 0]);
    end(group, &mut mates);
}

#[test]
fn if_its_own_are_busy_another_poller_is_asked() {
    let (group, mut mates) = team(3, Policy::RoundRobin);
    // the sockets of the first two pollers are busy for good
    for mate in &mut mates[..2] {
        mate.react(|socket, event, _| match event {
            Event::Open => socket.set_active(true),
            other => usual(socket, &other),
        });
    }
    let (door, _) = fill_team(&mut mates);
    let newcomers: Vec<_> = (0..3).map(|_| mates[0].knock(&door)).collect();
    for now in (500..600).step_by(5) {
        turn_all(&mut mates, now);
    }
    assert_eq!(counts(&mates), [0, 0, 2]);
    assert_eq!(newcomers.iter().filter(|it| it.fate() == Fate::Watched).count(), 2);
    // the third is served when one of those two has been idle for long enough
    for now in (600..800).step_by(5) {
        turn_all(&mut mates, now);
    }
    assert_eq!(counts(&mates), [0, 0, 3]);
    end(group, &mut mates);
}

#[test]
fn a_poller_that_is_asked_evicts_no_socket_if_there_is_room_by_then() {
    let (group, mut mates) = team(2, Policy::RoundRobin);
    let (_, wires) = fill_team(&mut mates);
    turn_all(&mut mates, 500);
    let token = wires.iter().find(|wire| wire.token().poller().0 == 1).unwrap().token();
    for (room, expected) in [(true, 0), (false, 1)] {
        if room {
            mates[1].poller.close_socket(token, true);
        } else {
            drop(mates[1].attach());
        }
        assert!(group.pollers()[1].send_command(Command::Evict).is_ok());
        mates[1].turn();
        assert_eq!(counts(&mates), [0, expected]);
    }
    end(group, &mut mates);
}

#[test]
fn a_pinned_policy_evicts_where_the_connection_has_to_go() {
    for pinned in [0, 1] {
        let (group, mut mates) = team(2, Policy::Pinned(pinned));
        let door = mates[0].listen(0);
        (0..2).for_each(|_| drop(mates[0].knock(&door)));
        turn_all(&mut mates, 0);
        let newcomer = mates[0].knock(&door);
        for now in (500..600).step_by(5) {
            turn_all(&mut mates, now);
        }
        assert_eq!(newcomer.token().poller().0, pinned);
        assert_eq!(counts(&mates)[usize::from(pinned)], 1);
        assert_eq!(counts(&mates).iter().sum::<u64>(), 1);
        end(group, &mut mates);
    }
}

#[test]
fn listeners_of_their_own_evict_on_their_own() {
    let group = group(2, 2, 8, 8);
    let mut mates: Vec<Mate> = (0..2).map(|id| mate(group, id, &EVICT, None)).collect();
    let doors = [mates[0].listen(0), mates[1].listen(0)];
    for (mate, door) in mates.iter_mut().zip(&doors) {
        (0..2).for_each(|_| drop(mate.knock(door)));
        mate.turn();
    }
    let newcomer = mates[1].knock(&doors[1]);
    turn_all(&mut mates, 500);
    assert_eq!((newcomer.token().poller().0, counts(&mates)), (1, vec![0, 1]));
    end(group, &mut mates);
}

/// While timers are held back because waits are full, no socket is evicted. That must not last for as long as the
/// listener alone fills each wait.
#[test]
fn a_listener_that_fills_each_wait_is_not_starved() {
    let (mut bench, door, wires) = full();
    let newcomer = bench.knock(&door);
    while newcomer.fate() != Fate::Watched {
        let ready = door.borrow().watched;
        let due = bench.due().unwrap_or(bench.now);
        bench.now = if ready { bench.now } else { due };
        assert!(bench.now < 150, "it waits for ever");
        bench.begin();
        bench.guard(|poller| poller.on_full_wait(usize::from(ready)));
        if ready {
            bench.guard(|poller| poller.on_acceptable(lightcone_core::ListenerId(0)));
        }
        bench.rest();
    }
    assert_eq!((wires[0].fate(), evicted(&bench)), (Fate::Closed, 1));
    bench.stop(0);
}
