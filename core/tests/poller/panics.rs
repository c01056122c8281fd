//! Tests of panics in the program's code, which a driver catches: what each one costs, and what it must not cost.

use crate::bench::{
    CLONE_PANICS, DROP_PANICS, Deaf, Lone, Note, SMALL, group, load, mate, messages, ms, usual,
};
use crate::net::{Arrival, Dial, Fate, Peer, planned_panic};
use core::cell::Cell;
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Command, PanicOwner};
use lightcone_core::{Address, ErrorKind, Event, ListenerId, Rejected, UnixId};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

const TO: Address = Address::Unix(UnixId(9));

#[test]
fn admit_of_an_accepted_socket_costs_that_connection_alone() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let mut n = 0;
    bench.admits(move |_, _| {
        n += 1;
        if n == 2 {
            planned_panic();
        }
        true
    });
    let wires: Vec<_> = (0..3).map(|_| bench.knock(&door)).collect();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program]);
    let fates: Vec<_> = wires.iter().map(Peer::fate).collect();
    assert_eq!(fates, [Fate::Watched, Fate::Rejected, Fate::Watched]);
    assert_eq!(bench.trace(), ["0 open", "1 open"]);
    assert_eq!(bench.alive(), 2);
    bench.stop(0);
}

#[test]
fn a_filter_costs_no_other_connection() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    let first = bench.knock(&door);
    door.borrow_mut().backlog.push_back(Arrival::FilterPanics);
    let last = bench.knock(&door);
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program]);
    assert_eq!(first.fate(), Fate::Watched, "what was accepted before is admitted in the same turn");
    bench.turn();
    assert_eq!(last.fate(), Fate::Watched);
    assert!(door.borrow().watched);
    bench.stop(0);
}

#[test]
fn accepting_continues_after_a_panic_over_the_held_connection() {
    for in_open in [false, true] {
        let mut bench = Lone::new(&SMALL);
        let (door, other) = (bench.listen(0), bench.listen(1));
        let held = bench.knock(&door);
        held.set(|wire| wire.unwatchable = 1);
        bench.turn();
        if in_open {
            bench.react(|_, event, _| {
                if matches!(event, Event::Open) {
                    planned_panic()
                }
            });
        } else {
            bench.admits(|_, _| planned_panic());
        }
        bench.turn_at(20);
        assert_eq!(bench.owners.len(), 1);
        bench.react(|socket, event, _| usual(socket, &event));
        bench.admits(|_, _| true);
        let next = bench.knock(&door);
        bench.turn_at(60);
        bench.turn_at(80);
        assert!(door.borrow().watched && other.borrow().watched);
        assert_eq!(next.fate(), Fate::Watched);
        if !in_open {
            held.set(|wire| wire.fate = Fate::Rejected);
        }
        bench.stop(0);
    }
}

#[test]
fn admit_of_a_connect_costs_that_connect_alone() {
    let mut bench = Lone::new(&SMALL);
    bench.admits(|origin, _| match origin {
        lightcone_core::Origin::Connecting { tag: 1 } => planned_panic(),
        _ => true,
    });
    let tokens: Vec<_> = (0..3).map(|tag| bench.poller.connect(TO, tag).unwrap()).collect();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program]);
    assert_eq!((bench.net().count("connect"), bench.alive()), (2, 2));
    assert!(bench.poller.connection_mut(tokens[1]).is_none());
    // Its slot is free again.
    bench.admits(|_, _| true);
    for _ in 0..2 {
        bench.turn();
        while bench.poller.connect(TO, 9).is_ok() {}
    }
    bench.turn();
    assert_eq!(bench.alive(), SMALL.sockets as isize);
    bench.stop(0);
}

#[test]
fn admit_in_a_group_releases_the_permit() {
    let group = group(1, 4, 8, 8);
    let mut bench = mate(group, 0, &SMALL, Some(Balancer::new(Policy::RoundRobin, 1).unwrap()));
    bench.admits(|_, _| planned_panic());
    let door = bench.listen(0);
    let wires: Vec<_> = (0..2).map(|_| bench.knock(&door)).collect();
    bench.poller.connect(TO, 1).unwrap();
    group.connect(TO, 2, &mut Balancer::new(Policy::RoundRobin, 1).unwrap()).unwrap();
    assert_eq!(load(group, 0), 2);
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program; 4]);
    assert_eq!(load(group, 0), 0);
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Rejected));
    bench.stop(0);
}

/// Checks that a panic in this event closes the socket of that event and no other.
fn panics_in(name: &'static str, provoke: impl FnOnce(&mut Lone)) {
    let mut bench = Lone::new(&SMALL);
    let other = bench.attach();
    bench.react(move |socket, event, _| {
        if event.name() == name && socket.data.id == 1 {
            socket.send(b"unsent").ok();
            planned_panic();
        }
        if name == "writable" && socket.data.id == 1 && matches!(event, Event::Receive) {
            socket.split().1.request_writable();
        } else if matches!(event, Event::Message(Note(5))) {
            socket.set_deadline(Some(lightcone_core::Instant::from_millis(5)));
        } else {
            usual(socket, &event);
        }
    });
    provoke(&mut bench);
    bench.turns(2);
    let trace = bench.trace();
    assert_eq!(bench.owners, [PanicOwner::Socket(bench.wires[1].token())], "{name}: {trace:?}");
    assert_eq!(bench.poller.stats().closed_for(lightcone_core::CloseReason::HandlerPanic), 1, "{name}");
    assert_eq!(trace.last().unwrap(), "1 close HandlerPanic", "{name}");
    // It is closed, and the other socket continues.
    let wire = &bench.wires[1];
    assert_eq!(wire.fate(), Fate::Reset, "{name}");
    other.says(b"still here");
    bench.turn();
    assert_eq!(other.heard(), b"still here");
    bench.stop(0);
}

#[test]
fn a_callback_costs_its_socket_alone() {
    panics_in("open", |bench| {
        let door = bench.listen(0);
        bench.knock(&door);
    });
    let socket = |bench: &mut Lone| bench.attach();
    panics_in("receive", |bench| socket(bench).says(b"x"));
    panics_in("writable", |bench| socket(bench).says(b"x"));
    panics_in("sent", |bench| socket(bench).says(b"x"));
    panics_in("peer_closed", |bench| socket(bench).ends());
    panics_in("timeout", |bench| {
        let wire = socket(bench);
        bench.poller.post(wire.token(), Note::new(5)).unwrap();
        bench.turn();
        bench.now = 10;
    });
    panics_in("message", |bench| {
        let wire = socket(bench);
        bench.poller.post(wire.token(), Note::new(1)).unwrap();
    });
}

#[test]
fn a_callback_that_panics_in_its_shutdown_ends_all_the_same() {
    let mut bench = Lone::new(&SMALL);
    (0..3).for_each(|_| drop(bench.attach()));
    bench.react(|socket, event, _| {
        if matches!(event, Event::Shutdown) && socket.data.id == 1 {
            planned_panic();
        }
        usual(socket, &event);
    });
    bench.trace();
    bench.stop(1_000);
    let expected = [
        "0 shutdown",
        "0 close Shutdown",
        "1 shutdown",
        "1 close HandlerPanic",
        "2 shutdown",
        "2 close Shutdown",
    ];
    assert_eq!(bench.trace(), expected);
    assert_eq!(bench.now, 0);
}

#[test]
fn what_was_queued_before_a_close_is_sent_although_the_callback_panics() {
    for end in ["close", "linger", "abort", "finish", "nothing"] {
        let mut bench = Lone::new(&SMALL);
        let wire = bench.attach();
        bench.react(move |socket, event, _| {
            if !matches!(event, Event::Receive) {
                return usual(socket, &event);
            }
            socket.send(b"last words").unwrap();
            match end {
                "close" => socket.close(),
                "linger" => socket.linger(),
                "abort" => socket.abort(),
                "finish" => socket.finish(),
                _ => {}
            }
            planned_panic()
        });
        bench.trace();
        wire.says(b"x");
        bench.turn();
        let orderly = matches!(end, "close" | "linger");
        assert_eq!(wire.heard(), if orderly { &b"last words"[..] } else { b"" }, "{end}");
        // the "x" was not consumed: closing at once could become a reset, which destroys the last words
        assert_eq!(wire.fate() == Fate::Watched, orderly, "{end}");
        wire.ends();
        bench.turns(3);
        let trace = bench.trace();
        assert_eq!(trace.last().unwrap(), "0 close HandlerPanic", "{end}: no other event follows");
        assert_eq!(trace.iter().filter(|event| !event.contains("receive")).count(), 1, "{trace:?}");
        assert_eq!(wire.fate() == Fate::Reset, !orderly, "{end}");
        bench.stop(0);
    }
}

#[test]
fn a_close_that_panics_is_the_last_of_its_socket() {
    for first in ["close", "receive"] {
        let mut bench = Lone::new(&SMALL);
        let wire = bench.attach();
        bench.react(move |socket, event, _| match event {
            Event::Close(_) => planned_panic(),
            Event::Receive if first == "receive" => planned_panic(),
            other => usual(socket, &other),
        });
        wire.says(b"x");
        bench.turn();
        if first == "close" {
            wire.ends();
            bench.turn();
        }
        let token = wire.token();
        let expected = vec![PanicOwner::Socket(token); if first == "close" { 1 } else { 2 }];
        assert_eq!(bench.owners, expected);
        let closes = bench.trace().iter().filter(|line| line.contains("close ")).count();
        assert_eq!((closes, bench.alive()), (1, 0));
        assert!(matches!(wire.fate(), Fate::Closed | Fate::Reset));
        bench.react(|socket, event, _| usual(socket, &event));
        bench.stop(0);
    }
}

#[test]
fn a_refused_that_panics_is_the_last_of_its_socket() {
    let mut bench = Lone::new(&SMALL);
    bench.net().dials.push_back(Dial::Fails(ErrorKind::TimedOut));
    bench.react(|_, event, _| {
        if matches!(event, Event::Refused(_)) {
            planned_panic()
        }
    });
    let token = bench.poller.connect(TO, 1).unwrap();
    bench.poller.connect(TO, 2).unwrap();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Socket(token)]);
    assert_eq!(bench.trace(), ["0 refused TimedOut", "1 open"]);
    assert_eq!(bench.alive(), 1);
    bench.react(|socket, event, _| usual(socket, &event));
    bench.stop(0);
}

#[test]
fn closes_that_panic_hold_the_end_of_a_poller_up_no_longer_than_a_turn() {
    for grace in [0, 50] {
        let mut bench = Lone::new(&SMALL);
        (0..4).for_each(|_| drop(bench.attach()));
        bench.react(|_, event, _| {
            if matches!(event, Event::Close(_)) {
                planned_panic()
            }
        });
        bench.stop(grace);
        assert_eq!((bench.owners.len(), bench.poller.aborted()), (4, 4));
        assert_eq!(bench.now, grace);
    }
}

#[test]
fn a_clone_of_a_broadcast_costs_one_delivery() {
    // A message that cannot be cloned reaches no socket, but messages after it are not lost.
    let mut bench = Lone::new(&SMALL);
    let wires: Vec<_> = (0..3).map(|_| bench.attach()).collect();
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(0)) => cx.broadcast(Note::new(CLONE_PANICS)).unwrap(),
        other => usual(socket, &other),
    });
    bench.poller.post(wires[0].token(), Note::new(0)).unwrap();
    bench.poller.post(wires[0].token(), Note::new(1)).unwrap();
    bench.poller.post(wires[2].token(), Note::new(2)).unwrap();
    bench.trace();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program; 3]);
    assert_eq!(bench.trace(), ["0 message 0", "0 message 1", "2 message 2"]);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_clone_that_panics_for_one_socket_costs_no_other() {
    thread_local! {
        static CLONES: Cell<usize> = const { Cell::new(0) };
    }
    fn clone(note: &Note) -> Note {
        CLONES.set(CLONES.get() + 1);
        if CLONES.get() == 3 {
            planned_panic();
        }
        note.clone()
    }
    let group = group(1, 8, 8, 8);
    let mut bench = mate(group, 0, &crate::bench::sockets(8), None);
    (0..4).for_each(|_| drop(bench.attach()));
    bench.trace();
    group.broadcast(Note::new(7), clone, None).unwrap(); // the first clone
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program]);
    assert_eq!(bench.trace(), ["0 message 7", "2 message 7", "3 message 7"]);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_drop_of_a_message_costs_no_other() {
    let mut bench = Lone::new(&SMALL);
    let (wire, other) = (bench.attach(), bench.attach());
    let stale = wire.token();
    bench.poller.close_socket(stale, true);
    bench.poller.post(stale, Note::new(DROP_PANICS)).unwrap();
    bench.poller.post(other.token(), Note::new(1)).unwrap();
    bench.trace();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program]);
    assert_eq!(bench.trace(), ["1 message 1"]);
    // The same for a socket that takes no messages.
    other.set(|wire| wire.window = 0);
    other.says(b"x");
    bench.turn();
    bench.poller.close_socket(other.token(), false);
    bench.poller.post(other.token(), Note::new(DROP_PANICS)).unwrap();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program; 2]);
    assert_eq!(other.fate(), Fate::Watched, "the panic is not attributed to the socket");
    // The same for the original of a broadcast.
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(0)) => {
            cx.broadcast(Note::new(DROP_PANICS)).unwrap();
        }
        Event::Message(note) => drop(Cell::new(Some(note)).take().map(|mut note| note.0 = 0)),
        other => usual(socket, &other),
    });
    let third = bench.attach();
    bench.poller.post(third.token(), Note::new(0)).unwrap();
    bench.turn();
    assert_eq!(bench.owners, [PanicOwner::Program; 3]);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn drops_of_messages_at_the_end_hold_nothing_up() {
    let group = group(1, 4, 8, 8);
    let mut bench = mate(group, 0, &SMALL, None);
    let wire = bench.attach();
    for _ in 0..3 {
        group.post(wire.token(), Note::new(DROP_PANICS), None).unwrap();
    }
    let mut finished = false;
    for _ in 0..4 {
        assert!(!finished);
        bench.guard(|poller| finished = poller.close_mailboxes());
    }
    assert!(finished);
    assert_eq!(bench.owners, [PanicOwner::Program; 3]);
    assert_eq!(group.post(wire.token(), Note::new(1), None), Err(Rejected::Gone(Note::new(1))));
    bench.stop(0);
    assert_eq!((messages(), load(group, 0)), (0, 0));
}

#[test]
fn commands_after_a_panic_are_executed() {
    let group = group(1, 4, 8, 8);
    let mut bench = mate(group, 0, &SMALL, None);
    let wires = [bench.attach(), bench.attach()];
    bench.react(|socket, event, _| match event {
        Event::Close(_) if socket.data.id == 0 => planned_panic(),
        other => usual(socket, &other),
    });
    for wire in &wires {
        let command = Command::CloseSocket { token: wire.token(), abort: true };
        assert!(group.pollers()[0].send_command(command).is_ok());
    }
    group.stop(ms(10));
    bench.turn();
    assert_eq!(bench.owners.len(), 1);
    assert!(bench.poller.is_over());
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Reset));
    bench.check_end();
}

#[test]
fn a_panic_outside_of_the_programs_code_is_the_engines() {
    let mut bench = Deaf::deaf(&SMALL);
    assert_eq!(bench.poller.recover(), PanicOwner::Engine);
    let wire = bench.attach();
    bench.turn();
    assert_eq!(bench.poller.recover(), PanicOwner::Engine);
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    let door = bench.listen(0);
    door.borrow_mut().backlog.extend([Arrival::Filtered, Arrival::Retry]);
    bench.knock(&door);
    bench.turn();
    bench.poller.on_acceptable(ListenerId(0));
    assert_eq!(bench.poller.recover(), PanicOwner::Engine, "each scope ends");
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.poller.close_socket(wire.token(), true);
    bench.turn();
    assert_eq!(bench.poller.recover(), PanicOwner::Engine);
    bench.stop(0);
    assert_eq!(bench.poller.recover(), PanicOwner::Engine);
}

#[test]
fn what_was_connected_before_a_panic_is_begun() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    bench.react(|_, event, cx| {
        if matches!(event, Event::Receive) {
            cx.connect(TO, 3).unwrap();
            planned_panic();
        }
    });
    wire.says(b"x");
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 receive", "0 close HandlerPanic", "1 open"]);
    let token = Rc::clone(&bench.net().dialled[0].1).token();
    assert_eq!(bench.owners, [PanicOwner::Socket(wire.token())]);
    assert!(bench.poller.connection_mut(token).is_some());
    bench.stop(0);
}

#[test]
fn a_planned_panic_is_distinguished_from_a_failed_assertion() {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        Lone::new(&SMALL).guard(|_| std::panic::resume_unwind(Box::new("another")));
    }));
    assert!(caught.is_err());
}
