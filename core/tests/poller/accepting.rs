//! Tests listeners, accept back-off, and connections that the poller takes over.

use crate::bench::{BATCH, Deaf, Lone, Mute, SMALL, at, ms, sockets, usual};
use crate::net::{Arrival, DoorRef, Fate, Listener, Loose, Peer, WireRef};
use lightcone_core::poller::Alone;
use lightcone_core::{Address, ErrorKind, Event, Interest, ListenerId};
use std::rc::Rc;

/// Creates a full poller with one connection left in the backlog.
fn full() -> (Lone, DoorRef, Vec<WireRef>) {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let wires = (0..5).map(|_| bench.knock(&door)).collect();
    bench.turn();
    (bench, door, wires)
}

fn fates(wires: &[WireRef]) -> Vec<Fate> {
    wires.iter().map(Peer::fate).collect()
}

#[test]
fn as_many_are_accepted_as_there_is_room_for() {
    let (mut bench, door, wires) = full();
    assert_eq!(fates(&wires), [Fate::Watched, Fate::Watched, Fate::Watched, Fate::Watched, Fate::Loose]);
    assert_eq!(door.borrow().calls["accept"], 4);
    assert_eq!(bench.poller.stats().rejected, 0);
    let opened: Vec<_> = (0..4).map(|id| format!("{id} open")).collect();
    assert_eq!(bench.trace(), opened);
    bench.stop(0);
    assert_eq!(wires[4].fate(), Fate::Loose);
}

#[test]
fn a_poller_with_a_free_place_does_not_back_off() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    (0..3).for_each(|_| drop(bench.knock(&door)));
    bench.turn();
    assert!(door.borrow().watched);
    assert_eq!(bench.due(), None);
    let last = bench.knock(&door);
    bench.turn();
    assert_eq!(last.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_full_poller_backs_off_for_20_milliseconds() {
    let (mut bench, door, wires) = full();
    assert!(!door.borrow().watched);
    assert_eq!(bench.due(), Some(20));
    let accepts = door.borrow().calls["accept"];
    bench.turn_at(19);
    assert_eq!((door.borrow().watched, bench.due()), (false, Some(20)));
    bench.turn_at(20);
    assert!(door.borrow().watched, "the listener is watched again");
    bench.turn();
    assert!(!door.borrow().watched);
    assert_eq!(bench.due(), Some(40));
    assert_eq!(door.borrow().calls["accept"], accepts, "without room, accept is not called");
    assert_eq!((wires[4].fate(), bench.net().count("reject")), (Fate::Loose, 0));
    bench.stop(0);
}

#[test]
fn a_full_poller_does_not_spin() {
    let (mut bench, door, _) = full();
    let calls = bench.net().count("watch_listener") + bench.net().count("unwatch_listener");
    let mut turns = 0;
    while bench.now < 1_000 {
        let due = bench.due().unwrap_or(bench.now);
        turns += 1;
        bench.turn_at(due);
        assert!(turns <= 101, "{turns} turns until {} ms", bench.now);
    }
    let after = bench.net().count("watch_listener") + bench.net().count("unwatch_listener");
    assert!(after - calls <= 101);
    assert_eq!(door.borrow().calls["accept"], 4);
    bench.stop(0);
}

#[test]
fn accepting_goes_on_at_once_when_a_socket_ends() {
    let (mut bench, door, wires) = full();
    wires[2].ends();
    bench.now = 1;
    bench.begin();
    bench.tell(&wires[2]);
    bench.rest();
    assert!(door.borrow().watched, "in the same turn");
    bench.turn();
    assert_eq!(wires[4].fate(), Fate::Watched);
    assert_eq!(wires[4].token().index(), wires[2].token().index());
    bench.stop(0);
}

#[test]
fn a_socket_that_ends_between_turns_makes_the_next_one_due() {
    let (mut bench, _, wires) = full();
    bench.poller.close_socket(wires[0].token(), true);
    assert_eq!(bench.due(), Some(0));
    bench.turn();
    bench.turn();
    assert_eq!(wires[4].fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn at_most_64_are_accepted_of_a_listener_in_a_turn() {
    let mut bench = Lone::new(&sockets(300));
    let (one, two) = (bench.listen(0), bench.listen(1));
    let ones: Vec<_> = (0..65).map(|_| bench.knock(&one)).collect();
    let twos: Vec<_> = (0..64).map(|_| bench.knock(&two)).collect();
    bench.turn();
    assert!(twos.iter().all(|wire| wire.fate() == Fate::Watched));
    assert_eq!(ones.iter().filter(|wire| wire.fate() == Fate::Watched).count(), 64);
    assert_eq!(ones[64].fate(), Fate::Loose);
    assert_eq!((one.borrow().calls["accept"], two.borrow().calls["accept"]), (64, 64));
    bench.turn();
    assert_eq!(ones[64].fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn those_that_were_filtered_or_gone_count_among_the_64() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    for _ in 0..32 {
        door.borrow_mut().backlog.extend([Arrival::Filtered, Arrival::Retry]);
    }
    let last = bench.knock(&door);
    bench.turn();
    assert_eq!((door.borrow().calls["accept"], last.fate()), (64, Fate::Loose));
    assert_eq!(bench.poller.stats().rejected, 32);
    bench.turn();
    assert_eq!(last.fate(), Fate::Watched);
    assert_eq!(
        bench.poller.stats().rejected,
        32,
        "a connection that was closed early is not counted as turned away"
    );
    bench.stop(0);
}

#[test]
fn accepting_backs_off_when_no_descriptor_is_left() {
    let mut bench = Lone::new(&SMALL);
    let (door, other) = (bench.listen(0), bench.listen(1));
    door.borrow_mut().backlog.push_back(Arrival::Exhausted);
    let wire = bench.knock(&door);
    bench.turn_at(5);
    assert!(!door.borrow().watched && !other.borrow().watched, "all listeners wait");
    assert_eq!(bench.due(), Some(25));
    bench.turn_at(24);
    assert!(!door.borrow().watched);
    bench.turn_at(25);
    assert!(door.borrow().watched && other.borrow().watched);
    bench.turn();
    assert_eq!(wire.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_connection_that_cannot_be_watched_is_held_back() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let (held, next) = (bench.knock(&door), bench.knock(&door));
    held.set(|wire| wire.unwatchable = 2);
    bench.turn();
    assert_eq!((held.fate(), next.fate(), door.borrow().watched), (Fate::Loose, Fate::Loose, false));
    assert_eq!(bench.due(), Some(20));
    bench.turn_at(20);
    assert_eq!((held.fate(), door.borrow().watched, bench.due()), (Fate::Loose, false, Some(40)));
    bench.turn_at(40);
    assert_eq!((held.fate(), door.borrow().watched), (Fate::Watched, true));
    bench.turn();
    assert_eq!(next.fate(), Fate::Watched);
    assert_eq!(bench.trace(), ["0 open", "1 open"]);
    assert_eq!(bench.net().count("register"), 2);
    bench.stop(0);
}

#[test]
fn a_held_connection_is_rejected_at_stop() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let held = bench.knock(&door);
    held.set(|wire| wire.unwatchable = 1);
    bench.turn();
    bench.stop(0);
    assert_eq!((held.fate(), bench.net().count("reject")), (Fate::Rejected, 1));
    assert_eq!(bench.poller.handler().inner().admitted, 0);
}

#[test]
fn a_held_connection_outlives_its_listener() {
    let mut bench = Lone::new(&SMALL);
    let held = {
        let door = bench.listen(0);
        bench.knock(&door)
    };
    held.set(|wire| wire.unwatchable = 1);
    bench.turn();
    let door = Rc::clone(&bench.doors[0]);
    assert!(!door.borrow().watched);
    bench.turn_at(20);
    assert_eq!(held.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_held_connection_waits_while_there_is_no_room() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let held = bench.knock(&door);
    held.set(|wire| wire.unwatchable = 1);
    bench.turn();
    let others: Vec<_> = (0..4).map(|_| bench.attach()).collect();
    bench.turn_at(20);
    assert_eq!((held.fate(), bench.poller.stats().rejected), (Fate::Loose, 0));
    assert_eq!(bench.due(), Some(40));
    bench.poller.close_socket(others[0].token(), true);
    bench.turn();
    assert_eq!(held.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn a_number_has_one_listener() {
    let mut bench = Lone::new(&SMALL);
    let first = bench.listen(3);
    let second = bench.door();
    let refused = bench.poller.listen(Listener(Rc::clone(&second)), ListenerId(3)).unwrap_err();
    let refused = bench.poller.listen(refused, ListenerId(4)).unwrap_err();
    assert!(!second.borrow().watched && first.borrow().watched);
    bench.poller.listen(refused, ListenerId(2)).unwrap();
    assert!(second.borrow().watched);
    bench.stop(0);
    assert!(first.borrow().closed && second.borrow().closed);
}

#[test]
fn a_listener_that_comes_during_a_back_off_waits_with_the_others() {
    let (mut bench, door, _) = full();
    bench.now = 7;
    bench.begin();
    let late = bench.listen(1);
    bench.rest();
    assert!(!late.borrow().watched);
    assert_eq!(bench.due(), Some(20));
    bench.turn_at(20);
    assert!(late.borrow().watched && door.borrow().watched);
    bench.stop(0);
}

#[test]
fn a_listener_that_cannot_be_watched_is_tried_again() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.door();
    door.borrow_mut().unwatchable = 2;
    bench.poller.listen(Listener(Rc::clone(&door)), ListenerId(0)).unwrap();
    let other = bench.listen(1);
    bench.turn();
    assert_eq!(bench.due(), Some(20));
    bench.turn_at(20);
    assert_eq!((door.borrow().watched, other.borrow().watched, bench.due()), (false, true, Some(40)));
    // A listener that is watched already is not affected.
    let wire = bench.knock(&other);
    bench.turn_at(30);
    assert_eq!((wire.fate(), door.borrow().watched), (Fate::Watched, false));
    bench.turn_at(40);
    assert!(door.borrow().watched);
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn a_closed_listener_is_not_accepted_from() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    bench.begin();
    bench.poller.stop(ms(50));
    bench.rest();
    assert!(door.borrow().closed, "in the turn of the stop");
    let wire = bench.knock(&door);
    bench.begin();
    bench.poller.on_acceptable(ListenerId(0));
    bench.poller.on_acceptable(ListenerId(3));
    bench.poller.on_acceptable(ListenerId(4));
    bench.rest();
    assert_eq!(wire.fate(), Fate::Loose);
    bench.end();
}

#[test]
fn a_stop_ends_a_back_off() {
    let (mut bench, door, wires) = full();
    wires[0].set(|wire| wire.window = 0);
    bench.react(|socket, event, _| {
        if !matches!(event, Event::Shutdown) {
            usual(socket, &event);
        }
    });
    bench.begin();
    bench.poller.stop(ms(500));
    bench.rest();
    assert!(door.borrow().closed);
    assert_eq!(bench.due(), Some(500), "nothing waits for the end of the back-off");
    bench.end();
}

#[test]
fn a_stopped_poller_takes_no_listener_and_no_connection() {
    let mut bench = Lone::new(&SMALL);
    let _first = bench.attach();
    bench.begin();
    bench.poller.stop(ms(50));
    let door = bench.door();
    let listener = bench.poller.listen(Listener(Rc::clone(&door)), ListenerId(0)).unwrap_err();
    bench.poller.transport_mut(); // the transport still exists
    drop(listener);
    door.borrow_mut().dropped = false;
    let wire = bench.wire();
    let back =
        bench.poller.attach(Loose(Rc::clone(&wire)), Address::Inet(([1, 1, 1, 1], 1).into()), ListenerId(0));
    assert!(back.is_err());
    wire.set(|wire| wire.fate = Fate::Closed);
    drop(back);
    bench.rest();
    bench.end();
}

#[test]
fn a_connection_is_attached_while_there_is_room() {
    let mut bench = Lone::new(&SMALL);
    bench.turn();
    (0..4).for_each(|_| drop(bench.attach()));
    assert_eq!(bench.trace(), ["0 open", "1 open", "2 open", "3 open"]);
    let wire = bench.wire();
    let peer = Address::Inet(([1, 1, 1, 1], 1).into());
    let back = bench.poller.attach(Loose(Rc::clone(&wire)), peer, ListenerId(0)).unwrap_err();
    assert_eq!(wire.fate(), Fate::Loose);
    let token = bench.wires[0].token();
    bench.poller.close_socket(token, true);
    assert!(bench.poller.attach(back, peer, ListenerId(0)).is_ok());
    assert_eq!(wire.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn what_is_kept_for_connects_is_there_for_others_if_there_are_none() {
    let mut bench = Deaf::deaf(&SMALL);
    let door = bench.listen(0);
    let wires: Vec<_> = (0..9).map(|_| bench.knock(&door)).collect();
    bench.turn();
    assert_eq!(wires.iter().filter(|wire| wire.fate() == Fate::Watched).count(), 4 + BATCH);
    bench.stop(0);
    let mut bench = Mute::place(&SMALL, Alone);
    let door = bench.listen(0);
    let wires: Vec<_> = (0..9).map(|_| bench.knock(&door)).collect();
    bench.turn();
    assert_eq!(wires.iter().filter(|wire| wire.fate() == Fate::Watched).count(), 4 + BATCH);
    bench.stop(0);
}

#[test]
fn more_are_accepted_in_a_turn_than_a_batch_holds() {
    let mut bench = Lone::new(&sockets(64));
    let door = bench.listen(0);
    (0..3 * BATCH + 1).for_each(|_| drop(bench.knock(&door)));
    bench.turn();
    let trace = bench.trace();
    assert_eq!(trace.len(), 3 * BATCH + 1);
    let expected: Vec<_> = (0..3 * BATCH + 1).map(|id| format!("{id} open")).collect();
    assert_eq!(trace, expected);
    bench.stop(0);
}

#[test]
fn a_handler_gets_the_listener_and_the_peer() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(2);
    bench.admits(|origin, peer| {
        assert_eq!(origin, lightcone_core::Origin::Accepted { listener: ListenerId(2) });
        assert_eq!(*peer, Address::Inet(([192, 0, 2, 1], 1).into()));
        true
    });
    bench.knock(&door);
    bench.turn();
    assert_eq!(bench.alive(), 1);
    bench.stop(0);
}

#[test]
fn a_peer_that_the_handler_turns_away_is_rejected() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let mut n = 0;
    bench.admits(move |_, _| {
        n += 1;
        n == 2
    });
    let wires: Vec<_> = (0..3).map(|_| bench.knock(&door)).collect();
    bench.turn();
    assert_eq!(fates(&wires), [Fate::Rejected, Fate::Watched, Fate::Rejected]);
    assert_eq!(bench.poller.stats().rejected, 2);
    let peer = Address::Inet(([1, 1, 1, 1], 1).into());
    let wire = bench.wire();
    assert!(bench.poller.attach(Loose(Rc::clone(&wire)), peer, ListenerId(0)).is_ok());
    assert_eq!(wire.fate(), Fate::Rejected);
    bench.stop(0);
}

#[test]
fn a_connection_that_cannot_be_registered_ends() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let wire = bench.knock(&door);
    wire.set(|wire| wire.register_fails = Some(ErrorKind::OutOfMemory));
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 close Error(OutOfMemory)"]);
    assert_eq!((wire.fate(), bench.poller.unwatchable()), (Fate::Unwatchable, 1));
    assert_eq!(bench.net().count("close"), 0);
    bench.stop(0);
}

#[test]
fn a_connection_that_can_no_longer_be_watched_ends() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.modify_fails = Some(ErrorKind::OutOfMemory));
    wire.set(|wire| wire.window = 0);
    wire.says(b"an answer that does not leave");
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 receive", "0 close Error(OutOfMemory)"]);
    assert!(matches!(wire.fate(), Fate::Closed | Fate::Reset));
    assert_eq!(bench.poller.unwatchable(), 1);
    bench.stop(0);
}

#[test]
fn interest_is_changed_only_when_it_differs() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    for n in 0..5 {
        wire.says(b"as usual");
        bench.turn_at(n);
    }
    assert_eq!((wire.count("modify"), wire.borrow().interest), (0, Interest::READ));
    assert_eq!(bench.poller.shard().now(), at(4));
    bench.stop(0);
}
