//! Tests of the events of a poller: its start, its timers, its stop.

use crate::bench::{BATCH, CLONE_PANICS, Lone, Mute, Note, SMALL, at, group, mate, ms, usual};
use crate::net::{Fate, Peer, planned_panic};
use core::cell::{Cell, RefCell};
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Alone, PanicOwner};
use lightcone_core::{
    Address, Config, ConnectError, Context, Event, PollerEvent, Timeouts, TimerError, TimerId, Token, UnixId,
};
use std::rc::Rc;

const TO: Address = Address::Unix(UnixId(9));

/// A bench whose handler calls `set` in `started`.
fn started(config: &Config, set: impl FnOnce(&mut Context<'_, Note>) + 'static) -> Lone {
    let mut bench = Lone::new(config);
    let mut set = Some(set);
    bench.on_poller(move |event, cx| {
        if event == PollerEvent::Started {
            set.take().expect("started comes once")(cx);
        }
    });
    bench.turn();
    assert_eq!(bench.trace(), ["started"]);
    bench
}

#[test]
fn started_comes_first_and_once() {
    // In the first turn without anything else, before the first admission, and before an earlier stop.
    let mut bench = started(&SMALL, |_| {});
    bench.turns(3);
    assert!(bench.trace().is_empty());
    bench.stop(0);

    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|_, _| {});
    let wire = bench.attach();
    assert_eq!(bench.trace(), ["started", "0 open"]);
    bench.turns(2);
    assert!(bench.trace().is_empty());
    assert_eq!(wire.fate(), Fate::Watched);
    bench.stop(0);

    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|_, _| {});
    let door = bench.listen(0);
    bench.knock(&door);
    bench.poller.connect(TO, 0).unwrap();
    bench.turn();
    assert_eq!(bench.trace(), ["started", "0 open", "1 open"]);
    bench.stop(0);

    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|_, cx| assert_eq!(cx.connect(TO, 0), Err(ConnectError::Full)));
    bench.stop(5);
    assert_eq!(bench.trace(), ["started", "stopping"]);
}

#[test]
fn started_can_connect_and_set_timers() {
    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|event, cx| {
        if event == PollerEvent::Started {
            cx.connect(TO, 5).unwrap();
            cx.set_timer(cx.now() + ms(10), 1).unwrap();
        }
    });
    bench.turn();
    assert_eq!(bench.trace(), ["started", "0 open"], "the connect begins in the same turn");
    assert_eq!(bench.due(), Some(10));
    bench.turn_at(10);
    assert_eq!(bench.trace(), ["timer 1"]);
    bench.stop(0);
}

#[test]
fn stopping_comes_before_shutdown_and_its_messages_as_well() {
    let mut bench = Lone::new(&SMALL);
    let token = Rc::new(Cell::new(None::<Token>));
    let to = Rc::clone(&token);
    bench.on_poller(move |event, cx| {
        if event == PollerEvent::Stopping {
            assert_eq!(cx.connect(TO, 0), Err(ConnectError::Full), "nothing new begins");
            cx.post(to.get().unwrap(), Note::new(3)).unwrap();
            cx.set_timer(cx.now() + ms(10), 9).unwrap();
        }
    });
    bench.react(|socket, event, _| {
        if !matches!(event, Event::Shutdown) {
            usual(socket, &event);
        }
    });
    let wire = bench.attach();
    token.set(Some(wire.token()));
    bench.turn();
    bench.trace();
    bench.begin();
    bench.poller.stop(ms(50));
    bench.rest();
    assert_eq!(bench.trace(), ["stopping", "0 message 3", "0 shutdown"]);
    bench.poller.stop(ms(40));
    assert_eq!(bench.due(), Some(10), "timers fire while there is grace time");
    bench.turn_at(10);
    assert_eq!(bench.trace(), ["timer 9"]);
    assert_eq!(bench.due(), Some(40));
    bench.end();
    assert_eq!(bench.trace(), ["0 close Shutdown"]);
}

#[test]
fn a_timer_does_not_keep_a_poller_from_ending() {
    let mut bench = started(&SMALL, |cx| {
        cx.set_timer(at(1_000), 0).unwrap();
    });
    bench.begin();
    bench.poller.stop(ms(5_000));
    bench.rest();
    assert!(bench.poller.is_over());
    assert_eq!(bench.trace(), ["stopping"]);
    bench.end();
}

#[test]
fn timers_come_in_the_order_of_their_times_and_never_early() {
    let mut bench = started(&SMALL, |cx| {
        for (after, tag) in [(30, 3), (10, 1), (70_000, 4), (20, 2)] {
            cx.set_timer(cx.now() + ms(after), tag).unwrap();
        }
    });
    let mut due = Vec::new();
    while let Some(next) = bench.due() {
        bench.turn_at(next - 1);
        assert!(bench.trace().is_empty(), "early");
        bench.turn_at(next);
        due.push((next, bench.trace()));
    }
    let one = |at, tag| (at, vec![format!("timer {tag}")]);
    assert_eq!(due, [one(10, 1), one(20, 2), one(30, 3), one(70_000, 4)]);
    bench.stop(0);

    // all at once, in one late turn
    let mut bench = started(&SMALL, |cx| {
        for (after, tag) in [(300, 3), (10, 1), (70_000, 4), (200, 2)] {
            cx.set_timer(cx.now() + ms(after), tag).unwrap();
        }
    });
    bench.turn_at(80_000);
    assert_eq!(bench.trace(), ["timer 1", "timer 2", "timer 3", "timer 4"]);
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn a_cancelled_timer_does_not_come_and_stale_ids_are_harmless() {
    let ids = Rc::new(RefCell::new(Vec::<TimerId>::new()));
    let set = Rc::clone(&ids);
    let mut bench = started(&SMALL, move |cx| {
        let first = cx.set_timer(at(10), 1).unwrap();
        assert!(cx.cancel_timer(first));
        assert!(!cx.cancel_timer(first), "it is not set any more");
        let second = cx.set_timer(at(10), 2).unwrap();
        assert_ne!(first, second, "the place is the same, and the id is not");
        assert!(!cx.cancel_timer(first), "the id of an earlier timer");
        let foreign = TimerId::from_bits(second.to_bits() ^ 1 << 24);
        assert_ne!(foreign.poller(), second.poller());
        assert!(!cx.cancel_timer(foreign), "the id of another poller's timer");
        assert!(!cx.cancel_timer(TimerId::from_bits(second.to_bits() + 1)), "a place that was never used");
        assert!(!cx.cancel_timer(TimerId::from_bits(second.to_bits() + (1 << 32))), "the place's next id");
        set.borrow_mut().extend([first, second]);
    });
    bench.turn_at(10);
    assert_eq!(bench.trace(), ["timer 2"]);
    bench.on_poller(move |event, cx| {
        assert_eq!(event, PollerEvent::Stopping);
        for id in ids.borrow().iter() {
            assert!(!cx.cancel_timer(*id), "it has fired");
        }
    });
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn as_many_timers_can_be_set_as_the_configuration_says() {
    let mut bench = started(&SMALL, |cx| {
        let ids: Vec<_> = (0..SMALL.timers as u64).map(|tag| cx.set_timer(at(5), tag).unwrap()).collect();
        assert_eq!(cx.set_timer(at(5), 9), Err(TimerError::Full));
        assert!(cx.cancel_timer(ids[2]));
        assert!(cx.set_timer(at(6), 5).is_ok());
        assert_eq!(cx.set_timer(at(5), 9), Err(TimerError::Full));
    });
    bench.turn_at(5);
    let mut first = bench.trace();
    first.sort();
    assert_eq!(first, ["timer 0", "timer 1", "timer 3"]);
    bench.turn_at(6);
    assert_eq!(bench.trace(), ["timer 5"]);
    bench.stop(0);

    let mut bench = started(&Config { timers: 0, ..SMALL }, |cx| {
        assert_eq!(cx.set_timer(at(5), 9), Err(TimerError::Unsupported));
        assert!(!cx.cancel_timer(TimerId::from_bits(0)));
    });
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

/// A handler that sets its timer for now in each `timer` does not occupy the poller.
#[test]
fn a_timer_for_the_past_comes_in_the_next_millisecond() {
    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|event, cx| {
        if event != PollerEvent::Stopping {
            cx.set_timer(at(0), 0).unwrap();
        }
    });
    for now in 100..105 {
        bench.turn_at(now);
        assert_eq!(bench.trace().len(), 1, "once in a turn");
        bench.turn_at(now);
        assert!(bench.trace().is_empty());
        assert_eq!(bench.due(), Some(now + 1));
    }
    bench.stop(0);
}

#[test]
fn a_turn_calls_256_timers_and_the_next_one_the_others() {
    let mut bench = started(&Config { timers: 300, ..SMALL }, |cx| {
        for tag in 0..300 {
            cx.set_timer(at(5 + tag % 3), tag).unwrap();
        }
    });
    bench.turn_at(10);
    assert_eq!(bench.trace().len(), 256);
    assert_eq!(bench.due(), Some(10), "there is more to do");
    bench.turn();
    assert_eq!(bench.trace().len(), 44);
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

/// Sockets are not timed out before the events that a full wait has left out, and a handler that uses a timer in place
/// of a deadline can rely on the same.
#[test]
fn no_timer_of_the_poller_fires_after_a_full_wait() {
    let mut bench = started(&SMALL, |cx| {
        cx.set_timer(at(50), 1).unwrap();
    });
    let wires = [bench.attach(), bench.attach()];
    bench.turn();
    bench.trace();
    wires.iter().for_each(|wire| wire.says(b"x"));
    bench.now = 500;
    bench.begin();
    bench.poller.on_full_wait(1);
    bench.tell(&wires[0]);
    bench.rest();
    assert_eq!(bench.trace(), ["0 receive", "0 sent"]);
    assert_eq!(bench.due(), Some(500), "the next wait follows at once");
    bench.begin();
    bench.poller.on_full_wait(0);
    bench.tell(&wires[1]);
    bench.rest();
    assert_eq!(bench.trace(), ["1 receive", "1 sent", "timer 1"]);
    bench.stop(0);
}

#[test]
fn callbacks_of_sockets_set_and_cancel_timers() {
    let mut bench =
        Lone::new(&Config { timeouts: Timeouts { idle: Some(ms(100)), ..Timeouts::NONE }, ..SMALL });
    bench.on_poller(|_, _| {});
    let set = Cell::new(None);
    bench.react(move |socket, event, cx| match event {
        Event::Open => set.set(Some(cx.set_timer(cx.now() + ms(20), 7).unwrap())),
        Event::Receive if socket.bytes() == b"cancel" => {
            assert!(cx.cancel_timer(set.take().unwrap()));
            socket.consume_all();
        }
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.turn();
    assert_eq!(bench.due(), Some(20), "before the idle timeout");
    wire.says(b"cancel");
    bench.turn_at(5);
    let due = bench.due().unwrap();
    bench.turn_at(due);
    assert_eq!(bench.trace(), ["started", "0 open", "0 receive"]);
    assert!((105..=107).contains(&bench.due().unwrap()), "only the idle timeout is left");
    bench.stop(0);
}

#[test]
fn a_timer_comes_after_messages_and_its_connects_begin_in_the_same_turn() {
    let mut bench = started(&SMALL, |cx| {
        cx.set_timer(at(5), 1).unwrap();
    });
    bench.on_poller(|event, cx| {
        if let PollerEvent::Timer { .. } = event {
            (0..BATCH as u64).for_each(|tag| assert!(cx.connect(TO, tag).is_ok()));
            assert_eq!(cx.connect(TO, 9), Err(ConnectError::Full));
        }
    });
    let wire = bench.attach();
    bench.turn();
    bench.trace();
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.turn_at(5);
    assert_eq!(bench.trace(), ["0 message 1", "timer 1", "1 open", "2 open", "3 open", "4 open"]);
    bench.stop(0);
}

/// Times far ahead, and a poller that has slept for longer than ticks can express.
#[test]
fn times_far_apart_are_no_problem() {
    const DAY: u64 = 86_400_000;
    let mut bench = started(&SMALL, |cx| {
        cx.set_timer(at(u64::MAX), 1).unwrap();
    });
    let most = (1 << 30) - 1;
    assert_eq!(bench.due(), Some(1 << 29), "the wheel is brought up to date after 6 days");
    bench.turn_at(1 << 29);
    assert_eq!(bench.due(), Some(most), "12 days");
    bench.turn_at(most);
    assert_eq!(bench.trace(), ["timer 1"]);
    for days in [20, 30, 60, 90] {
        let now = most + days * DAY;
        bench.on_poller(move |_, _| {});
        let set = Cell::new(false);
        bench.react(move |socket, event, cx| {
            if matches!(event, Event::Open) && !set.replace(true) {
                cx.set_timer(cx.now() + ms(3), 2).unwrap();
            }
            usual(socket, &event);
        });
        bench.turn_at(now);
        bench.attach();
        bench.turn();
        assert_eq!(bench.due(), Some(now + 3));
        bench.turn_at(now + 2);
        assert_eq!(bench.trace().len(), 1, "the `open`");
        bench.turn_at(now + 3);
        assert_eq!(bench.trace(), ["timer 2"]);
    }
    bench.stop(0);
}

#[test]
fn a_panic_in_an_event_of_the_poller_costs_that_event_alone() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    bench.on_poller(|event, cx| {
        if let PollerEvent::Timer { tag, .. } = event {
            if tag < 2 {
                cx.set_timer(cx.now() + ms(1), tag + 1).unwrap();
            }
            planned_panic();
        }
    });
    bench.react(|socket, event, cx| {
        if let Event::Message(_) = event {
            cx.set_timer(cx.now() + ms(5), 0).unwrap();
        }
        usual(socket, &event);
    });
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turns(1);
    bench.trace();
    for (now, tag) in [(5, 0), (6, 1), (7, 2)] {
        bench.turn_at(now);
        assert_eq!(bench.trace(), [format!("timer {tag}")]);
    }
    assert_eq!(bench.owners, [PanicOwner::Program; 3]);
    assert_eq!((wire.fate(), bench.due()), (Fate::Watched, None));
    bench.stop(0);
}

/// A panic in `started` loses neither the accepted connection before which it came, nor a connect, nor a stop.
#[test]
fn a_panic_in_started_or_stopping_does_not_come_again() {
    let mut bench = Lone::new(&SMALL);
    bench.on_poller(|_, _| planned_panic());
    bench.poller.connect(TO, 0).unwrap();
    bench.turn();
    assert_eq!(bench.trace(), ["started", "0 open"]);
    bench.begin();
    let stopped = bench.guard(|poller| poller.stop(ms(50)));
    assert!(!stopped);
    bench.rest();
    bench.end();
    assert_eq!(bench.trace(), ["stopping", "0 shutdown", "0 close Shutdown"]);
    assert_eq!(bench.owners, [PanicOwner::Program; 2]);
}

/// Nor is a connection lost that waits at a listener, or that another poller has assigned to this one.
#[test]
fn a_panic_in_started_loses_no_connection() {
    let panics = |event: PollerEvent| {
        if event == PollerEvent::Started {
            planned_panic();
        }
    };
    let mut bench = Lone::new(&SMALL);
    bench.on_poller(move |event, _| panics(event));
    let door = bench.listen(0);
    let wire = bench.knock(&door);
    bench.turns(2);
    assert_eq!(bench.trace(), ["started", "0 open"]);
    assert_eq!((wire.fate(), bench.owners.len()), (Fate::Watched, 1));
    bench.stop(0);

    let team = group(2, 2, 8, 8);
    let balancer = Balancer::new(Policy::RoundRobin, 2).unwrap();
    let mut mates: Vec<_> = (0..2).map(|id| mate(team, id, &SMALL, Some(balancer.clone()))).collect();
    mates[1].on_poller(move |event, _| panics(event));
    let door = mates[0].listen(0);
    let wires = [mates[0].knock(&door), mates[0].knock(&door)];
    for _ in 0..2 {
        mates.iter_mut().for_each(|mate| mate.turns(1));
    }
    assert!(wires.iter().all(|wire| wire.fate() == Fate::Watched));
    assert_eq!(mates[1].owners, [PanicOwner::Program]);
    team.stop(ms(0));
    for mate in &mut mates {
        mate.turn();
        mate.wind_up();
    }
}

/// A handler of a device: no mailbox, no connects.
#[test]
fn a_lone_poller_without_a_mailbox_has_the_same_events() {
    let mut bench = Mute::place(&SMALL, Alone);
    bench.on_poller(|event, cx| match event {
        PollerEvent::Started => {
            cx.set_timer(cx.now() + ms(16), 0).unwrap();
            assert_eq!(cx.connect(TO, 0), Err(ConnectError::Unsupported));
        }
        PollerEvent::Timer { tag, .. } => {
            cx.set_timer(cx.now() + ms(16), tag + 1).unwrap();
        }
        PollerEvent::Room { .. } => unreachable!("no request for room"),
        PollerEvent::Stopping => assert!(cx.post(Token::from_bits(0), Note::new(CLONE_PANICS)).is_err()),
    });
    for _ in 0..4 {
        let due = bench.due().unwrap();
        bench.turn_at(due);
    }
    bench.stop(0);
    assert_eq!(bench.trace(), ["started", "timer 0", "timer 1", "timer 2", "stopping"]);
}
