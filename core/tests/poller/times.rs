//! Timeouts and deadlines through the loop, and when the next turn is due.

use crate::bench::{Lone, Note, SMALL, at, ms, usual};
use crate::net::{Fate, Peer};
use lightcone_core::{Config, Event, Timeouts};

fn timed(timeouts: Timeouts) -> Lone {
    Lone::new(&Config { timeouts, ..SMALL })
}

#[test]
fn a_poller_without_anything_to_do_waits_for_events_alone() {
    let mut bench = Lone::new(&SMALL);
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
    // the timer was not moved: the turn finds nothing, and says when to come again
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

#[test]
fn a_write_stall_ends_a_socket_whose_peer_takes_nothing() {
    let mut bench = timed(Timeouts { write_stall: Some(ms(30)), ..Timeouts::NONE });
    let wire = bench.attach();
    wire.set(|wire| wire.window = 0);
    wire.says(b"an answer");
    bench.turn();
    let due = bench.due().unwrap();
    assert!((30..=32).contains(&due), "{due}");
    bench.turn_at(due);
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
    let due = bench.due().unwrap();
    assert!((30..=32).contains(&due), "{due}");
    bench.turn_at(due);
    assert_eq!(
        (bench.trace().last().unwrap().as_str(), wire.fate()),
        ("0 close TimedOut(Drain)", Fate::Reset)
    );
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
