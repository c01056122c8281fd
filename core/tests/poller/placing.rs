//! Tests of the pollers of a group: the placement of accepted connections and connects, and the accounting of loads.

use crate::bench::{Lone, Mate, Note, Parts, SMALL, Team, group, load, loads, mate, ms};
use crate::net::{Arrival, Fate, Listener, Peer, WireRef};
use core::cell::{Cell, RefCell};
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Command, Group, PollerHandle};
use lightcone_core::sync::{Load, MailboxSlot, PushError};
use lightcone_core::{Address, Event, ListenerId, Origin, PollerId, Rejected, RequestError, Token};
use std::rc::Rc;

const TO: Address = Address::Unix(lightcone_core::UnixId(9));

fn team(pollers: usize, sockets: u32, mailbox: usize, policy: Policy) -> (Team, Vec<Mate>) {
    let group = group(pollers, sockets, mailbox, mailbox);
    let balancer = Balancer::new(policy, pollers).unwrap();
    let mates = (0..pollers).map(|id| mate(group, id as u8, &SMALL, Some(balancer.clone()))).collect();
    (group, mates)
}

/// Checks that the loads equal the sockets in use plus those on their way to a poller.
#[track_caller]
fn check(group: Team, mates: &[Mate], on_their_way: isize) {
    let alive: isize = mates.iter().map(Mate::alive).sum();
    assert_eq!(loads(group).iter().sum::<u32>() as isize, alive + on_their_way);
    for mate in mates {
        assert_eq!(mate.poller.membership().load() as isize, mate.alive());
    }
}

/// Stops one poller of several.
fn stop_one(mate: &mut Mate) {
    mate.begin();
    mate.poller.stop(ms(0));
    mate.rest();
    mate.wind_up();
}

fn end(group: Team, mates: &mut [Mate]) {
    group.stop(ms(0));
    for mate in &mut *mates {
        mate.turn();
        mate.wind_up();
    }
    for mate in &*mates {
        mate.check_connections();
    }
    assert!(loads(group).iter().all(|load| *load == 0), "{:?}", loads(group));
}

#[test]
fn the_balancer_picks_the_poller_of_a_connection() {
    let (group, mut mates) = team(3, 4, 8, Policy::RoundRobin);
    let door = mates[0].listen(0);
    let wires: Vec<_> = (0..6).map(|_| mates[0].knock(&door)).collect();
    mates[0].turn();
    check(group, &mates, 4);
    assert_eq!(loads(group), [2, 2, 2]);
    mates[1].turn();
    check(group, &mates, 2);
    mates[2].turn();
    check(group, &mates, 0);
    let pollers: Vec<u8> = wires.iter().map(|wire| wire.token().poller().0).collect();
    assert_eq!(pollers, [0, 1, 2, 0, 1, 2]);
    end(group, &mut mates);
}

#[test]
fn the_next_best_takes_it_when_the_first_is_full() {
    let (group, mut mates) = team(3, 2, 8, Policy::LeastConnections);
    let door = mates[0].listen(0);
    let first: Vec<_> = (0..3).map(|_| mates[0].knock(&door)).collect();
    for mate in &mut mates {
        mate.turn();
    }
    assert_eq!(loads(group), [1, 1, 1]);
    // All pollers but the last are full.
    (0..2).for_each(|id| drop(mates[id].attach()));
    assert_eq!(loads(group), [2, 2, 1]);
    let last = mates[0].knock(&door);
    mates[0].turn();
    mates[2].turn();
    assert_eq!(last.token().poller(), PollerId(2));
    check(group, &mates, 0);
    // Now all are full, so a new connection waits.
    let waits = mates[0].knock(&door);
    mates[0].turn();
    assert_eq!((waits.fate(), mates[0].due()), (Fate::Loose, Some(20)));
    // A socket of another poller ends, which is noticed at the end of the back-off.
    let token = first.iter().find(|wire| wire.token().poller().0 == 1).unwrap().token();
    mates[1].poller.close_socket(token, true);
    assert_eq!(loads(group), [2, 1, 2]);
    mates[0].turn_at(20);
    mates[0].turn_at(21);
    mates[1].turn();
    assert_eq!(waits.token().poller(), PollerId(1));
    assert_eq!(mates[0].poller.stats().rejected, 0);
    end(group, &mut mates);
}

#[test]
fn a_pinned_balancer_has_no_second_choice() {
    let (group, mut mates) = team(2, 1, 8, Policy::Pinned(1));
    let door = mates[0].listen(0);
    let (one, two) = (mates[0].knock(&door), mates[0].knock(&door));
    mates[0].turn();
    mates[1].turn();
    assert_eq!((one.token().poller(), two.fate()), (PollerId(1), Fate::Loose));
    check(group, &mates, 0);
    // The accepting poller has room, so it accepts the connection and holds it back.
    assert_eq!(mates[0].due(), Some(20));
    let token = one.token();
    mates[1].poller.close_socket(token, true);
    mates[0].turn_at(20);
    mates[1].turn_at(20);
    assert_eq!(two.token().poller(), PollerId(1));
    assert_eq!(mates[0].net().count("accept"), 2);
    end(group, &mut mates);
}

#[test]
fn without_a_balancer_connections_stay() {
    let group = group(2, 2, 8, 8);
    let mut mates = vec![mate(group, 0, &SMALL, None), mate(group, 1, &SMALL, None)];
    let doors = [mates[0].listen(0), mates[1].listen(0)];
    let wires: Vec<_> = (0..3).map(|_| mates[1].knock(&doors[1])).collect();
    mates[1].turn();
    mates[0].turn();
    assert_eq!(loads(group), [0, 2]);
    assert_eq!(wires[2].fate(), Fate::Loose);
    assert_eq!(mates[1].due(), Some(20), "the room of other pollers does not matter");
    check(group, &mates, 0);
    end(group, &mut mates);
}

#[test]
fn a_poller_whose_mailbox_is_full_is_passed_over() {
    let (group, mut mates) = team(2, 4, 1, Policy::Pinned(1));
    let door = mates[0].listen(0);
    let (one, two) = (mates[0].knock(&door), mates[0].knock(&door));
    mates[0].turn();
    assert_eq!(loads(group), [0, 1], "the permit of the second was returned");
    check(group, &mates, 1);
    assert_eq!(two.fate(), Fate::Loose);
    mates[1].turn();
    assert_eq!(one.fate(), Fate::Watched);
    mates[0].turn_at(20);
    mates[1].turn_at(20);
    assert_eq!(two.fate(), Fate::Watched);
    check(group, &mates, 0);
    end(group, &mut mates);

    let (group, mut mates) = team(2, 4, 1, Policy::RoundRobin);
    let door = mates[0].listen(0);
    let wires: Vec<_> = (0..4).map(|_| mates[0].knock(&door)).collect();
    mates[0].turn();
    mates[1].turn();
    let pollers: Vec<u8> = wires.iter().map(|wire| wire.token().poller().0).collect();
    assert_eq!(pollers, [0, 1, 0, 0], "the fourth went to the next choice");
    check(group, &mates, 0);
    end(group, &mut mates);
}

#[test]
fn a_poller_that_has_ended_is_passed_over() {
    let (group, mut mates) = team(3, 4, 8, Policy::RoundRobin);
    let door = mates[0].listen(0);
    stop_one(&mut mates[1]);
    assert!(group.pollers()[1].is_closed() && !group.pollers()[0].is_closed());
    let wires: Vec<_> = (0..3).map(|_| mates[0].knock(&door)).collect();
    mates[0].turn();
    mates[2].turn();
    let pollers: Vec<u8> = wires.iter().map(|wire| wire.token().poller().0).collect();
    assert_eq!(pollers, [0, 2, 2]);
    check(group, &mates, 0);
    end(group, &mut mates);
}

#[test]
fn a_held_connection_goes_to_the_first_poller_that_has_room() {
    let (group, mut mates) = team(2, 1, 8, Policy::RoundRobin);
    let door = mates[0].listen(0);
    let wires: Vec<WireRef> = (0..2).map(|_| mates[0].knock(&door)).collect();
    mates[0].turn();
    mates[1].turn();
    let held = mates[0].knock(&door);
    held.set(|wire| wire.unwatchable = 1);
    let token = wires[0].token();
    mates[0].poller.close_socket(token, true);
    mates[0].turn();
    mates[0].turn();
    assert_eq!(held.fate(), Fate::Loose);
    check(group, &mates, 0);
    mates[0].attach();
    assert_eq!(loads(group), [1, 1]);
    mates[0].turn_at(40);
    assert_eq!(held.fate(), Fate::Loose);
    let token = wires[1].token();
    mates[1].poller.close_socket(token, true);
    mates[0].turn_at(60);
    mates[1].turn_at(60);
    assert_eq!(held.token().poller(), PollerId(1));
    check(group, &mates, 0);
    end(group, &mut mates);
}

#[test]
fn a_peer_that_is_turned_away_releases_its_permit() {
    let (group, mut mates) = team(2, 4, 8, Policy::RoundRobin);
    let door = mates[0].listen(0);
    mates[0].admits(|_, _| false);
    mates[1].admits(|_, _| false);
    let wires: Vec<_> = (0..2).map(|_| mates[0].knock(&door)).collect();
    mates[0].turn();
    assert_eq!(loads(group), [0, 1]);
    mates[1].turn();
    assert_eq!(loads(group), [0, 0]);
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Rejected));
    end(group, &mut mates);
}

#[test]
fn a_connect_goes_to_the_poller_that_the_balancer_picks() {
    let (group, mut mates) = team(2, 2, 8, Policy::RoundRobin);
    let mut balancer = Balancer::new(Policy::RoundRobin, 2).unwrap();
    let tags = Rc::new(RefCell::new(Vec::new()));
    for mate in &mut mates {
        let tags = Rc::clone(&tags);
        mate.admits(move |origin, peer| {
            assert_eq!(*peer, TO);
            tags.borrow_mut().push(origin);
            true
        });
    }
    for tag in 0..4 {
        assert_eq!(group.connect(TO, tag, &mut balancer), Ok(()));
    }
    assert_eq!(group.connect(TO, 4, &mut balancer), Err(RequestError::Full));
    check(group, &mates, 4);
    mates[0].turn();
    mates[1].turn();
    check(group, &mates, 0);
    assert_eq!(mates[0].trace(), ["0 open", "1 open"]);
    assert_eq!(*tags.borrow(), [0, 2, 1, 3].map(|tag| Origin::Connecting { tag }));
    assert_eq!(loads(group), [2, 2]);
    end(group, &mut mates);
    assert_eq!(group.connect(TO, 5, &mut balancer), Err(RequestError::Gone));
    assert_eq!(loads(group), [0, 0]);
}

#[test]
fn a_connect_is_refused_as_full_while_a_poller_is_there() {
    // Independent of which poller the balancer chooses first.
    for first in 0..2 {
        let (group, mut mates) = team(2, 1, 8, Policy::RoundRobin);
        let mut balancer = Balancer::new(Policy::RoundRobin, 2).unwrap();
        stop_one(&mut mates[1]);
        mates[0].attach();
        for _ in 0..first {
            let _ = group.connect(TO, 0, &mut balancer);
        }
        assert_eq!(group.connect(TO, 0, &mut balancer), Err(RequestError::Full));
        end(group, &mut mates);
    }
    let (group, mut mates) = team(1, 4, 1, Policy::RoundRobin);
    let mut balancer = Balancer::new(Policy::RoundRobin, 1).unwrap();
    assert_eq!(group.connect(TO, 0, &mut balancer), Ok(()));
    assert_eq!(group.connect(TO, 0, &mut balancer), Err(RequestError::Full), "its mailbox is full");
    assert_eq!(load(group, 0), 1);
    mates[0].turn();
    end(group, &mut mates);
}

#[test]
fn a_full_poller_that_has_failed_refuses_a_connect_as_gone() {
    let (group, mut mates) = team(1, 1, 8, Policy::RoundRobin);
    mates[0].attach();
    assert!(mates[0].poller.close_mailboxes());
    let mut balancer = Balancer::new(Policy::RoundRobin, 1).unwrap();
    assert_eq!((load(group, 0), group.connect(TO, 0, &mut balancer)), (1, Err(RequestError::Gone)));
    mates[0].begin();
    mates[0].poller.stop(ms(0));
    mates[0].rest();
    end(group, &mut mates);
}

#[test]
fn a_full_poller_refuses_its_own_requests() {
    let (group, mut mates) = team(1, 2, 8, Policy::RoundRobin);
    mates[0].attach();
    mates[0].attach();
    let wire = mates[0].wire();
    let loose = crate::net::Loose(Rc::clone(&wire));
    let back = mates[0].poller.attach(loose, TO, ListenerId(0)).unwrap_err();
    assert_eq!(load(group, 0), 2);
    wire.set(|wire| wire.fate = Fate::Closed);
    drop(back);
    assert!(mates[0].poller.connect(TO, 1).is_err(), "the group's limit applies to connects");
    assert_eq!(load(group, 0), 2);
    mates[0].turn();
    end(group, &mut mates);
}

#[test]
fn commands_to_listen_and_to_close_are_executed() {
    let (group, mut mates) = team(1, 4, 8, Policy::RoundRobin);
    let handle = &group.pollers()[0];
    let doors: Vec<_> = (0..3).map(|_| mates[0].door()).collect();
    let listen = |n: usize, id: u8| {
        let listener = Listener(Rc::clone(&doors[n]));
        assert!(handle.send_command(Command::Listen { listener, id: ListenerId(id) }).is_ok());
    };
    listen(0, 1);
    listen(1, 1);
    mates[0].turn();
    assert!(doors[0].borrow().watched);
    assert!(doors[1].borrow().closed, "the number is in use");
    let close = |id| assert!(handle.send_command(Command::CloseListener { id: ListenerId(id) }).is_ok());
    close(1);
    close(1);
    close(200);
    listen(2, 1);
    mates[0].turn();
    assert!(doors[0].borrow().closed && doors[2].borrow().watched);
    let wire = mates[0].knock(&doors[2]);
    mates[0].turn();
    assert_eq!(wire.fate(), Fate::Watched);
    let token = wire.token();
    assert!(handle.send_command(Command::CloseSocket { token, abort: false }).is_ok());
    mates[0].turn();
    assert_eq!(mates[0].trace(), ["0 open", "0 close Local"]);
    assert_eq!(wire.fate(), Fate::Closed);
    let wire = mates[0].attach();
    assert!(handle.send_command(Command::CloseSocket { token, abort: true }).is_ok());
    mates[0].turn();
    assert_eq!(wire.fate(), Fate::Watched, "a stale token reaches no other socket");
    let token = wire.token();
    assert!(handle.send_command(Command::CloseSocket { token, abort: true }).is_ok());
    mates[0].turn();
    assert_eq!(wire.fate(), Fate::Reset);
    end(group, &mut mates);
}

#[test]
fn a_message_reaches_a_socket_of_another_poller() {
    let (group, mut mates) = team(2, 4, 2, Policy::RoundRobin);
    let (here, there) = (mates[0].attach(), mates[1].attach());
    let to = there.token();
    mates[0].react(move |_, event, cx| {
        if event == Event::Message(Note(1)) {
            cx.post(to, Note::new(7)).unwrap();
            cx.broadcast(Note::new(8)).unwrap();
        }
    });
    group.post(here.token(), Note::new(1), None).unwrap();
    mates[0].turn();
    mates[1].turn();
    assert_eq!(mates[1].trace(), ["0 open", "0 message 7", "0 message 8"]);
    group.post(to, Note::new(2), None).unwrap();
    group.post(to, Note::new(3), None).unwrap();
    assert_eq!(group.post(to, Note::new(4), None), Err(Rejected::Full(Note::new(4))));
    let nowhere = Token::from_bits(to.to_bits() | 7 << 24);
    assert_eq!(group.post(nowhere, Note::new(4), None), Err(Rejected::Gone(Note::new(4))));
    stop_one(&mut mates[1]);
    assert_eq!(group.post(to, Note::new(4), None), Err(Rejected::Gone(Note::new(4))));
    assert_eq!(group.broadcast(Note::new(4), Note::clone, None), Err(Rejected::Gone(Note::new(4))));
    mates[0].react(|socket, event, _| crate::bench::usual(socket, &event));
    end(group, &mut mates);
}

#[test]
fn a_command_that_finds_no_room_is_returned() {
    let (group, mut mates) = team(1, 4, 1, Policy::RoundRobin);
    let handle = &group.pollers()[0];
    let close = |id| Command::CloseListener { id: ListenerId(id) };
    assert!(handle.send_command(close(1)).is_ok());
    assert!(matches!(handle.send_command(close(2)), Err(PushError::Full(Command::CloseListener { id }))
        if id == ListenerId(2)));
    mates[0].turn();
    end(group, &mut mates);
    assert!(matches!(handle.send_command(close(2)), Err(PushError::Closed(_))));
}

#[test]
fn a_lone_poller_refuses_no_permit() {
    let mut bench = Lone::new(&SMALL);
    assert!(bench.poller.connect(TO, 1).is_ok());
    bench.turn();
    assert_eq!(bench.trace(), ["0 open"]);
    bench.stop(0);
}

#[test]
fn a_poller_that_sleeps_is_woken_once() {
    fn ring<T>() -> Vec<MailboxSlot<T>> {
        (0..16).map(|_| MailboxSlot::new()).collect()
    }
    let wakes = Rc::new(Cell::new(0));
    let counter = Rc::clone(&wakes);
    let waker: Rc<dyn Fn()> = Rc::new(move || counter.set(counter.get() + 1));
    let handle = PollerHandle::<Note, Parts>::new(ring(), ring(), Rc::new(Load::new()), waker).unwrap();
    let group = Group::new(core::slice::from_ref(&handle), 4);
    let token = Token::from_bits(0);
    let timeout = Some(ms(1_000));
    // A poller that is awake needs no wake-up, and does not fall asleep while something is queued.
    group.post(token, Note::new(1), None).unwrap();
    assert_eq!(wakes.get(), 0);
    handle.sleep(timeout, |timeout| assert_eq!(timeout, Some(ms(0))));
    handle.sleep(timeout, |given| {
        assert_eq!(given, timeout);
        group.post(token, Note::new(2), None).unwrap();
        group.post(token, Note::new(3), None).unwrap();
        group.broadcast(Note::new(4), Note::clone, None).unwrap();
        assert_eq!(wakes.get(), 1);
    });
    while !handle.try_sleep() {}
    // Its own messages need no wake-up, because it checks its mailbox before it sleeps.
    group.post(token, Note::new(5), Some(PollerId(0))).unwrap();
    group.broadcast(Note::new(6), Note::clone, Some(PollerId(0))).unwrap();
    assert_eq!(wakes.get(), 1);
    group.broadcast(Note::new(7), Note::clone, Some(PollerId(1))).unwrap();
    assert_eq!(wakes.get(), 2);
    handle.awake();
    while !handle.try_sleep() {}
    handle.stop(ms(10));
    assert_eq!(wakes.get(), 3);
    handle.awake();
    // A stop that finds the mailbox full wakes the poller as well.
    while handle.send_command(Command::CloseListener { id: ListenerId(0) }).is_ok() {}
    while !handle.try_sleep() {}
    handle.stop(ms(10));
    assert_eq!(wakes.get(), 4);
}

#[test]
fn a_hash_of_the_peers_address_keeps_a_peer_with_one_poller() {
    let (group, mut mates) = team(3, 4, 64, Policy::Hash);
    let door = mates[0].listen(0);
    let mut pollers = Vec::new();
    for host in 0..32 {
        let wires: Vec<_> = (0..2)
            .map(|port| {
                let wire = mates[0].wire();
                let peer = Address::Inet(([10, 0, 0, host], 1_000 + port).into());
                door.borrow_mut().backlog.push_back(Arrival::Peer(Rc::clone(&wire), peer));
                wire
            })
            .collect();
        for mate in &mut mates {
            mate.turn();
        }
        let poller = wires[0].token().poller();
        assert_eq!(wires[1].token().poller(), poller);
        pollers.push(poller);
        for wire in wires {
            mates[usize::from(poller.0)].poller.close_socket(wire.token(), true);
        }
    }
    pollers.sort();
    pollers.dedup();
    assert_eq!(pollers.len(), 3, "peers are spread over all pollers");
    check(group, &mates, 0);
    end(group, &mut mates);
}
