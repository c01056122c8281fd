//! Tests of connects: their outcomes, and how many a turn begins.

use crate::bench::{BATCH, Deaf, Lone, Note, SMALL, ms, sockets, usual};
use crate::net::{Dial, Fate, Net, Peer, WireRef};
use core::time::Duration;
use lightcone_core::poller::ConnectResult;
use lightcone_core::{Address, Config, ConnectError, ErrorKind, Event, Interest, Timeouts, UnixId};
use std::cell::RefCell;
use std::rc::Rc;

const TO: Address = Address::Unix(UnixId(9));

fn dialled<const C: bool>(net: &Net<C>) -> Vec<WireRef> {
    net.dialled.iter().map(|(_, wire)| Rc::clone(wire)).collect()
}

/// Creates a connect in progress.
fn in_progress() -> (Lone, WireRef) {
    let mut bench = Lone::new(&SMALL);
    bench.net().dials.push_back(Dial::InProgress);
    bench.begin();
    let token = bench.poller.connect(TO, 7).unwrap();
    bench.rest();
    let wire = dialled(bench.net()).remove(0);
    assert_eq!((wire.token(), wire.borrow().interest), (token, Interest::WRITE));
    assert_eq!(wire.count("modify"), 0, "it is registered with that interest from the start");
    assert!(bench.trace().is_empty());
    (bench, wire)
}

fn decide(bench: &mut Lone, wire: &WireRef, result: ConnectResult) {
    wire.set(|wire| wire.connecting = Some(result));
    bench.turn();
}

#[test]
fn a_connect_is_begun_after_the_callback_and_established_at_once() {
    let mut bench = Lone::new(&SMALL);
    bench.admits(|origin, peer| {
        assert_eq!((origin, *peer), (lightcone_core::Origin::Connecting { tag: 7 }, TO));
        true
    });
    let token = bench.poller.connect(TO, 7).unwrap();
    assert_eq!((bench.net().count("connect"), bench.alive()), (0, 0));
    assert_eq!(bench.due(), Some(0), "the connect is due now");
    bench.turn();
    assert_eq!(bench.trace(), ["0 open"]);
    let wire = dialled(bench.net()).remove(0);
    assert_eq!((wire.token(), wire.borrow().interest), (token, Interest::READ));
    assert_eq!((bench.poller.stats().connected, bench.due(), wire.count("modify")), (1, None, 0));
    wire.says(b"hello");
    bench.turn();
    assert_eq!(wire.heard(), b"hello");
    bench.stop(0);
}

#[test]
fn a_connect_in_progress_is_established_when_it_is_writable() {
    let (mut bench, wire) = in_progress();
    // The event says writable, but the connect is still in progress.
    let token = wire.token();
    bench.poller.on_writable(token);
    assert!(bench.trace().is_empty());
    assert_eq!((wire.count("connect_result"), wire.borrow().interest), (1, Interest::WRITE));
    decide(&mut bench, &wire, ConnectResult::Established);
    assert_eq!(bench.trace(), ["0 open"]);
    assert_eq!(wire.borrow().interest, Interest::READ);
    bench.stop(0);
}

#[test]
fn a_connect_that_fails_later_is_refused_and_closed() {
    let (mut bench, wire) = in_progress();
    decide(&mut bench, &wire, ConnectResult::Failed(ErrorKind::ConnectionRefused));
    assert_eq!(bench.trace(), ["0 refused ConnectionRefused"]);
    assert_eq!((wire.fate(), bench.poller.stats().refused), (Fate::Closed, 1));
    bench.stop(0);
}

#[test]
fn a_connect_that_was_established_and_broke_is_opened_and_closed() {
    let (mut bench, wire) = in_progress();
    decide(&mut bench, &wire, ConnectResult::Broken(ErrorKind::ConnectionReset));
    assert_eq!(bench.trace(), ["0 open", "0 close Reset"]);
    assert_eq!((bench.poller.stats().connected, wire.fate()), (1, Fate::Closed));
    bench.stop(0);
}

#[test]
fn the_outcome_of_a_connect_can_be_determined() {
    for (result, trace) in [
        (ConnectResult::Established, vec!["0 open"]),
        (ConnectResult::InProgress, vec![]),
        (ConnectResult::Broken(ErrorKind::BrokenPipe), vec!["0 open", "0 close Reset"]),
        (ConnectResult::Failed(ErrorKind::TimedOut), vec!["0 refused TimedOut"]),
    ] {
        let (mut bench, wire) = in_progress();
        wire.set(|wire| wire.connecting = None);
        bench.poller.on_connect_result(wire.token(), result);
        assert_eq!(bench.trace(), trace);
        assert_eq!(bench.net().count("connect_result"), 0);
        bench.stop(0);
    }
}

#[test]
fn a_connect_that_fails_at_once_is_refused() {
    let mut bench = Lone::new(&SMALL);
    bench.net().dials.push_back(Dial::Fails(ErrorKind::NetworkUnreachable));
    let token = bench.poller.connect(TO, 7).unwrap();
    bench.turn();
    assert_eq!(bench.trace(), ["0 refused NetworkUnreachable"]);
    assert_eq!((bench.net().count("register"), bench.net().count("close")), (0, 0));
    assert!(bench.poller.connection_mut(token).is_none());
    bench.stop(0);
}

#[test]
fn a_connection_that_cannot_be_watched_is_refused() {
    for dial in [Dial::Established, Dial::InProgress] {
        let mut bench = Lone::new(&SMALL);
        bench.net().dials.push_back(dial);
        bench.net().register_fails = Some(ErrorKind::OutOfDescriptors);
        bench.poller.connect(TO, 7).unwrap();
        bench.turn();
        assert_eq!(bench.trace(), ["0 refused OutOfDescriptors"]);
        assert_eq!((bench.poller.unwatchable(), bench.net().count("close")), (1, 0));
        bench.stop(0);
    }
}

#[test]
fn a_connect_that_times_out_is_refused() {
    let timeouts = Timeouts { connect: Some(Duration::from_millis(50)), ..Timeouts::NONE };
    let mut bench = Lone::new(&Config { timeouts, ..SMALL });
    bench.net().dials.push_back(Dial::InProgress);
    bench.poller.connect(TO, 7).unwrap();
    bench.turn();
    let due = bench.due().unwrap();
    assert!((50..=52).contains(&due), "{due}");
    bench.turn_at(49);
    assert!(bench.trace().is_empty());
    bench.turn_at(due);
    assert_eq!(bench.trace(), ["0 refused TimedOut"]);
    assert_eq!(dialled(bench.net())[0].fate(), Fate::Closed);
    bench.stop(0);
}

#[test]
fn a_connect_that_was_cancelled_never_reaches_the_transport() {
    for abort in [false, true] {
        let mut bench = Lone::new(&SMALL);
        let token = bench.poller.connect(TO, 7).unwrap();
        bench.poller.close_socket(token, abort);
        bench.turn();
        assert_eq!(bench.trace(), ["0 refused ConnectionAborted"]);
        assert_eq!((bench.net().count("connect"), bench.net().count("register")), (0, 0));
        assert_eq!(bench.poller.stats().refused, 1);
        // Its place in the batch is free again: as many connects as before can begin.
        for _ in 0..BATCH {
            bench.poller.connect(TO, 7).unwrap();
        }
        bench.turn();
        assert_eq!(bench.alive(), BATCH as isize);
        bench.stop(0);
    }
}

#[test]
fn a_connect_in_progress_is_cancelled() {
    for abort in [false, true] {
        let (mut bench, wire) = in_progress();
        bench.poller.close_socket(wire.token(), abort);
        assert_eq!(bench.trace(), ["0 refused ConnectionAborted"]);
        assert!(matches!(wire.fate(), Fate::Closed | Fate::Reset));
        bench.stop(0);
    }
}

#[test]
fn a_connect_that_the_handler_does_not_admit_is_forgotten() {
    let mut bench = Lone::new(&SMALL);
    bench.admits(|_, _| false);
    let token = bench.poller.connect(TO, 7).unwrap();
    bench.turn();
    assert!(bench.trace().is_empty());
    assert_eq!((bench.net().count("connect"), bench.poller.stats().rejected), (0, 1));
    bench.admits(|_, _| true);
    bench.poller.close_socket(token, true);
    for _ in 0..BATCH {
        bench.poller.connect(TO, 7).unwrap();
    }
    bench.turn();
    assert_eq!(bench.net().count("connect"), BATCH);
    bench.stop(0);
}

#[test]
fn a_turn_begins_as_many_connects_as_a_batch_and_not_one_more() {
    let mut bench = Lone::new(&sockets(40));
    let wire = bench.attach();
    let results = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&results);
    bench.react(move |socket, event, cx| {
        if matches!(event, Event::Message(_)) {
            for tag in 0..=BATCH as u64 {
                sink.borrow_mut().push(cx.connect(TO, tag));
            }
        } else {
            usual(socket, &event);
        }
    });
    for turn in 1..=3 {
        bench.poller.post(wire.token(), Note::new(0)).unwrap();
        bench.turn();
        let results = results.take();
        assert!(results[..BATCH].iter().all(Result::is_ok), "{results:?}");
        assert_eq!(results[BATCH], Err(ConnectError::Full));
        assert_eq!(bench.net().count("connect"), turn * BATCH);
    }
    let tags: Vec<_> = bench.trace().into_iter().filter(|line| line.ends_with("open")).collect();
    assert_eq!(tags.len(), 1 + 3 * BATCH);
    bench.stop(0);
}

#[test]
fn connects_of_a_driver_and_of_handlers_count_together() {
    let mut bench = Lone::new(&sockets(40));
    let wire = bench.attach();
    let results = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&results);
    bench.react(move |socket, event, cx| {
        if matches!(event, Event::Message(_)) {
            sink.borrow_mut().extend((0..BATCH as u64).map(|tag| cx.connect(TO, tag)));
        } else {
            usual(socket, &event);
        }
    });
    bench.poller.connect(TO, 70).unwrap();
    bench.poller.connect(TO, 71).unwrap();
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turn();
    let begun = results.take().iter().filter(|result| result.is_ok()).count();
    assert_eq!((begun, bench.net().count("connect")), (BATCH - 2, BATCH));
    bench.stop(0);
}

#[test]
fn a_driver_may_request_as_many_connects_as_a_batch() {
    let mut bench = Lone::new(&sockets(40));
    bench.turn();
    let mut tokens: Vec<_> = (0..BATCH as u64).map(|tag| bench.poller.connect(TO, tag).unwrap()).collect();
    for _ in 0..3 {
        assert_eq!(bench.poller.connect(TO, 9), Err(ConnectError::Full));
    }
    tokens.dedup();
    assert_eq!(tokens.len(), BATCH);
    bench.turn();
    assert_eq!((bench.net().count("connect"), bench.alive()), (BATCH, BATCH as isize));
    bench.stop(0);
}

#[test]
fn a_socket_that_is_refused_may_connect_again_in_the_next_turn() {
    let mut bench = Lone::new(&SMALL);
    bench.net().dials.extend([Dial::Fails(ErrorKind::TimedOut); 3 * BATCH]);
    bench.react(|_, event, cx| {
        if matches!(event, Event::Refused(_)) {
            let _ = cx.connect(TO, 1);
        }
    });
    bench.poller.connect(TO, 0).unwrap();
    bench.turn();
    assert_eq!(bench.net().count("connect"), BATCH, "the turn is bounded");
    // The last connect found no room in the batch, and no event follows that would retry it.
    bench.turn();
    assert_eq!(bench.net().count("connect"), BATCH);
    bench.stop(0);
}

#[test]
fn a_full_poller_refuses_connects() {
    let mut bench = Lone::new(&SMALL);
    for _ in 0..2 {
        for tag in 0..BATCH as u64 {
            bench.poller.connect(TO, tag).unwrap();
        }
        bench.turn();
    }
    assert_eq!(bench.alive(), SMALL.sockets as isize);
    assert_eq!(bench.poller.connect(TO, 1), Err(ConnectError::Full));
    let token = dialled(bench.net())[0].token();
    bench.poller.close_socket(token, true);
    assert!(bench.poller.connect(TO, 1).is_ok());
    bench.turn();
    bench.stop(0);
}

#[test]
fn a_transport_that_cannot_connect_is_not_called() {
    let mut bench = Deaf::deaf(&SMALL);
    let wire = bench.attach();
    bench.react(|socket, event, cx| {
        if matches!(event, Event::Message(_)) {
            assert_eq!(cx.connect(TO, 1), Err(ConnectError::Unsupported));
        } else {
            usual(socket, &event);
        }
    });
    assert_eq!(bench.poller.connect(TO, 1), Err(ConnectError::Unsupported));
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 message 1"]);
    assert_eq!(bench.poller.shard().in_use(), 1, "no slot is kept for connects");
    bench.stop(0);
}

#[test]
fn slots_are_kept_for_connects_and_for_nothing_else() {
    let mut bench = Lone::new(&SMALL);
    let door = bench.listen(0);
    (0..9).for_each(|_| drop(bench.knock(&door)));
    bench.turn();
    assert_eq!(bench.alive(), 4);
    for tag in 0..BATCH as u64 {
        bench.poller.connect(TO, tag).unwrap();
    }
    bench.turn();
    assert_eq!(bench.alive(), 4 + BATCH as isize);
    bench.stop(0);
}

#[test]
fn a_stop_forgets_connects_that_have_not_begun() {
    let mut bench = Lone::new(&SMALL);
    bench.begin();
    let token = bench.poller.connect(TO, 1).unwrap();
    bench.poller.stop(ms(50));
    bench.rest();
    bench.end();
    assert!(bench.poller.is_over() && bench.trace().is_empty());
    assert_eq!((bench.now, bench.net().count("connect")), (0, 0));
    assert!(bench.poller.connection_mut(token).is_none());
    assert_eq!(bench.poller.connect(TO, 1), Err(ConnectError::Full));
}

#[test]
fn a_stop_ends_a_connect_in_progress() {
    let (mut bench, wire) = in_progress();
    bench.begin();
    bench.poller.stop(ms(1_000));
    bench.rest();
    assert_eq!(bench.trace(), ["0 refused ConnectionAborted"]);
    assert!(matches!(wire.fate(), Fate::Closed | Fate::Reset));
    bench.end();
    assert_eq!(bench.now, 0, "the poller waits for nothing");
}

/// A connect that cannot begin yet is retried until it begins or times out.
#[test]
fn a_connect_that_cannot_begin_yet_is_tried_again() {
    for established in [true, false] {
        let mut bench = Lone::new(&SMALL);
        let last = if established { Dial::Established } else { Dial::InProgress };
        bench.net().dials.extend([Dial::Later, Dial::Later, Dial::Later, last]);
        bench.begin();
        let token = bench.poller.connect(TO, 7).unwrap();
        bench.rest();
        for tries in 1..=3 {
            assert_eq!((bench.net().count("connect"), bench.due()), (tries, Some(tries as u64 * 20)));
            assert!(bench.trace().is_empty());
            // It is not retried in between.
            bench.turn_at(tries as u64 * 20 - 1);
            assert_eq!(bench.net().count("connect"), tries);
            bench.turn_at(tries as u64 * 20);
        }
        let wire = dialled(bench.net()).remove(0);
        if !established {
            assert_eq!((wire.token(), wire.borrow().interest), (token, Interest::WRITE));
            decide(&mut bench, &wire, ConnectResult::Established);
        }
        assert_eq!(bench.trace(), ["0 open"]);
        assert_eq!((bench.poller.stats().connected, bench.due(), bench.net().count("connect")), (1, None, 4));
        wire.says(b"hello");
        bench.turn();
        assert_eq!(wire.heard(), b"hello");
        bench.stop(0);
    }
}

#[test]
fn a_connect_that_never_begins_ends_by_its_timeout() {
    let timeouts = Timeouts { connect: Some(ms(70)), ..Timeouts::NONE };
    let mut bench = Lone::new(&Config { timeouts, ..SMALL });
    bench.net().dials.extend([Dial::Later; 8]);
    bench.begin();
    bench.poller.connect(TO, 7).unwrap();
    bench.rest();
    for _ in 0..10 {
        let Some(due) = bench.due() else { break };
        bench.turn_at(due);
    }
    assert!((70..=72).contains(&bench.now), "ended at {}", bench.now);
    assert_eq!((bench.trace(), bench.net().count("connect")), (vec!["0 refused TimedOut".to_owned()], 4));
    bench.stop(0);
}

#[test]
fn a_connect_that_cannot_begin_yet_is_cancelled() {
    let mut bench = Lone::new(&SMALL);
    bench.net().dials.push_back(Dial::Later);
    bench.begin();
    let token = bench.poller.connect(TO, 7).unwrap();
    bench.rest();
    bench.poller.close_socket(token, false);
    bench.turn_at(50);
    assert_eq!(
        (bench.trace(), bench.net().count("connect")),
        (vec!["0 refused ConnectionAborted".to_owned()], 1)
    );
    assert_eq!(bench.due(), None);
    bench.stop(0);
}
