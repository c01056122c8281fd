//! Tests of timeouts and deadlines through the poller's loop, and of when the next turn is due.

use crate::bench::{Lone, Note, SMALL, at, ms, usual};
use crate::net::{Fate, Peer, WireRef};
use lightcone_core::{Config, Event, Timeouts};

fn timed(timeouts: Timeouts) -> Lone {
    Lone::new(&Config { timeouts, ..SMALL })
}

#[test]
fn a_poller_without_anything_to_do_waits_for_events_alone() {
    let mut bench = Lone::new(&SMALL);
    assert_eq!(bench.due(), Some(0), "it has yet to start");
    bench.turn();
    assert_eq!(bench.due(), None);
    bench.listen(0);
    bench.attach();
    bench.turn();
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn a_timeout_comes_in_the_turn_that_was_due_for_it() {
    let mut bench = timed(Timeouts { idle: Some(ms(100)), ..Timeouts::NONE });
    let wire = bench.attach();
    bench.turn();
    let due = bench.due().unwrap();
    assert!((100..=102).contains(&due), "{due}");
    wire.says(b"x");
    bench.turn_at(60);
    bench.trace();
    // The timer was not moved at the activity: its turn finds nothing due, and sets the next deadline.
    let mut turns = 0;
    while wire.fate() == Fate::Watched {
        let due = bench.due().unwrap();
        assert!(due >= bench.now);
        bench.turn_at(due);
        turns += 1;
        assert!(turns < 5);
    }
    assert!((160..=162).contains(&bench.now), "{}", bench.now);
    assert_eq!(bench.trace(), ["0 close TimedOut(Idle)"]);
    bench.stop(0);
}

#[test]
fn a_deadline_comes_once() {
    let mut bench = Lone::new(&SMALL);
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(n)) => socket.set_deadline(Some(at(n))),
        Event::Timeout => assert_eq!(cx.now(), socket.now()),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(40)).unwrap();
    bench.turn();
    assert_eq!(bench.due(), Some(40));
    bench.turn_at(39);
    assert!(!bench.trace().contains(&"0 timeout".to_owned()));
    bench.turn_at(40);
    assert_eq!(bench.trace(), ["0 timeout"]);
    bench.turn_at(100);
    assert!(bench.trace().is_empty());
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn a_deadline_that_has_passed_comes_in_the_next_turn() {
    let mut bench = Lone::new(&SMALL);
    bench.react(|socket, event, cx| match event {
        Event::Message(_) | Event::Timeout => socket.set_deadline(Some(cx.now())),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turn();
    bench.trace();
    for _ in 0..3 {
        assert_eq!(bench.due(), Some(0));
        bench.turn();
        assert_eq!(bench.trace(), ["0 timeout"], "once a turn");
    }
    bench.stop(0);
}

#[test]
fn the_earliest_of_all_is_due() {
    let mut bench = timed(Timeouts { idle: Some(ms(50)), ..Timeouts::NONE });
    bench.attach();
    bench.turn();
    let idle = bench.due().unwrap();
    assert!((50..=52).contains(&idle));
    let door = bench.listen(0);
    door.borrow_mut().backlog.push_back(crate::net::Arrival::Exhausted);
    bench.turn_at(1);
    assert_eq!(bench.due(), Some(21));
    bench.turn_at(40);
    assert_eq!(bench.due(), Some(idle));
    bench.react(|_, _, _| {});
    bench.begin();
    bench.poller.stop(ms(5));
    bench.rest();
    assert_eq!(bench.due(), Some(45));
    bench.end();
}

/// Runs each turn when it is due. Returns when the socket was closed.
fn turns_until_closed(bench: &mut Lone, wire: &WireRef) -> u64 {
    for _ in 0..200 {
        if wire.fate() != Fate::Watched {
            return bench.now;
        }
        let due = bench.due().unwrap();
        bench.turn_at(due);
    }
    panic!("never closed");
}

#[test]
fn a_write_stall_ends_a_socket_whose_peer_takes_nothing() {
    let mut bench = timed(Timeouts { write_stall: Some(ms(30)), ..Timeouts::NONE });
    let wire = bench.attach();
    wire.set(|wire| wire.window = 0);
    wire.says(b"an answer");
    bench.turn();
    let at = turns_until_closed(&mut bench, &wire);
    assert!((30..=32).contains(&at), "{at}");
    assert_eq!(bench.trace().last().unwrap(), "0 close TimedOut(WriteStall)");
    assert_eq!(bench.poller.stats().bytes_lost, 9);
    bench.stop(0);
}

#[test]
fn a_drain_that_takes_too_long_ends() {
    let mut bench = timed(Timeouts { drain: Some(ms(30)), ..Timeouts::NONE });
    let wire = bench.attach();
    wire.set(|wire| wire.window = 0);
    wire.says(b"an answer");
    bench.turn();
    bench.poller.close_socket(wire.token(), false);
    let at = turns_until_closed(&mut bench, &wire);
    assert!((30..=32).contains(&at), "{at}");
    assert_eq!(
        (bench.trace().last().unwrap().as_str(), wire.fate()),
        ("0 close TimedOut(Drain)", Fate::Reset)
    );
    bench.stop(0);
}

/// The system's buffer is too full to accept anything, but drains until 500 ms.
#[test]
fn a_peer_that_takes_what_the_system_holds_is_not_cut() {
    for closes in [false, true] {
        let times = Timeouts { write_stall: Some(ms(40)), drain: Some(ms(40)), ..Timeouts::NONE };
        let mut bench = timed(times);
        let wire = bench.attach();
        wire.set(|wire| (wire.window, wire.undelivered) = (0, Some(1_000)));
        wire.says(b"an answer");
        bench.turn();
        if closes {
            bench.poller.close_socket(wire.token(), false);
        }
        assert_eq!(wire.count("undelivered"), 0, "the system is asked only when a timeout is due");
        while bench.now < 500 {
            let due = bench.due().unwrap();
            bench.turn_at(due);
            wire.set(|wire| wire.undelivered = Some(1_000 - due as usize));
        }
        assert_eq!(wire.fate(), Fate::Watched);
        assert!(wire.count("undelivered") <= 120, "asked {} times", wire.count("undelivered"));
        let stopped = bench.now;
        let at = turns_until_closed(&mut bench, &wire);
        assert!((stopped + 40..=stopped + 52).contains(&at), "cut after {} ms", at - stopped);
        assert_eq!(wire.fate(), Fate::Reset);
        bench.stop(0);
    }
}

/// A peer that sent in time must not be timed out because the wait had no room to report its event.
#[test]
fn no_timer_fires_after_a_full_wait() {
    let mut bench = timed(Timeouts { idle: Some(ms(50)), ..Timeouts::NONE });
    let wires = [bench.attach(), bench.attach()];
    bench.turn();
    wires.iter().for_each(|wire| wire.says(b"x"));
    bench.now = 500;
    bench.begin();
    bench.poller.on_full_wait(1);
    bench.tell(&wires[0]);
    bench.rest();
    assert_eq!(bench.due(), Some(500), "the next wait follows at once");
    bench.begin();
    bench.poller.on_full_wait(0);
    bench.tell(&wires[1]);
    bench.rest();
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Watched));
    assert!((550..=552).contains(&bench.due().unwrap()));
    bench.stop(0);
}

/// After as many events as there can be sources, timers fire: by then some source has been reported twice.
#[test]
fn timers_fire_although_every_wait_is_full() {
    let mut bench = timed(Timeouts { idle: Some(ms(50)), ..Timeouts::NONE });
    let [busy, silent] = [bench.attach(), bench.attach()];
    bench.turn();
    bench.now = 500;
    let mut waits = 0;
    while silent.fate() == Fate::Watched {
        busy.says(b"x");
        bench.begin();
        bench.poller.on_full_wait(2);
        bench.tell(&busy);
        bench.rest();
        waits += 1;
        assert!(waits < 20, "timers no longer fire");
    }
    // Two sockets, those reserved for connects, and four listeners.
    assert!(waits >= 4, "after {waits} waits");
    assert_eq!(busy.fate(), Fate::Watched);
    bench.stop(0);
}

#[test]
fn time_that_goes_back_ends_nothing_early() {
    let mut bench = timed(Timeouts { idle: Some(ms(50)), ..Timeouts::NONE });
    bench.now = 100;
    bench.turn();
    bench.attach();
    for now in [149, 3, 149] {
        bench.turn_at(now);
    }
    assert_eq!(bench.trace(), ["0 open"]);
    bench.turn_at(153);
    assert_eq!(bench.trace(), ["0 close TimedOut(Idle)"]);
    bench.stop(0);
}
