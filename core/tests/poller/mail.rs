//! Tests of messages: their order, their limits, and the handling of those that reach no socket.

use crate::bench::{Bench, Lone, Mate, Mute, Note, SMALL, group, mate, messages, ms, sockets, usual};
use crate::net::Peer;
use core::time::Duration;
use lightcone_core::poller::{Alone, AloneWithMail, Command};
use lightcone_core::{Config, Event, Rejected, Timeouts, Token};
use std::rc::Rc;

fn received(trace: &[String]) -> Vec<u64> {
    let number = |line: &String| line.split_once("message ")?.1.parse().ok();
    trace.iter().filter_map(number).collect()
}

#[test]
fn messages_arrive_in_order() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    for n in 0..10 {
        bench.poller.post(wire.token(), Note::new(n)).unwrap();
    }
    assert!(received(&bench.trace()).is_empty());
    assert_eq!(bench.due(), Some(0));
    bench.turn();
    assert_eq!(received(&bench.trace()), (0..10).collect::<Vec<_>>());
    assert_eq!(bench.due(), None);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_message_to_a_stale_token_is_dropped_and_counted() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    let stale = wire.token();
    bench.poller.close_socket(stale, true);
    let next = bench.attach();
    assert_eq!(next.token().index(), stale.index());
    let gone = bench.poller.stats().gone;
    bench.poller.post(stale, Note::new(1)).unwrap();
    let of_another = Token::from_bits(next.token().to_bits() ^ (3 << 24));
    bench.poller.post(of_another, Note::new(2)).unwrap();
    bench.turn();
    assert_eq!(bench.poller.stats().gone, gone + 2);
    assert_eq!(received(&bench.trace()), [0; 0]);
    assert_eq!(messages(), 0);
    bench.stop(0);
}

#[test]
fn a_message_to_a_socket_that_closes_or_connects_is_dropped_and_counted() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    wire.says(b"what is not sent");
    wire.set(|wire| wire.window = 0);
    bench.turn();
    bench.poller.close_socket(wire.token(), false);
    bench.net().dials.push_back(crate::net::Dial::InProgress);
    let to = lightcone_core::Address::Unix(lightcone_core::UnixId(1));
    let connecting = bench.poller.connect(to, 0).unwrap();
    bench.turn();
    let gone = bench.poller.stats().gone;
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.poller.post(connecting, Note::new(2)).unwrap();
    bench.turn();
    assert_eq!(bench.poller.stats().gone, gone + 2);
    assert!(received(&bench.trace()).is_empty());
    bench.stop(0);
    assert_eq!(messages(), 0);
}

/// A deadline that had already passed when it was set is due before the message, and its `timeout` ends the socket.
#[test]
fn a_socket_that_ends_before_a_message_is_closed_in_the_same_turn() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    bench.react(|socket, event, cx| match event {
        Event::Receive => {
            let token = socket.token();
            socket.set_deadline(Some(cx.now()));
            cx.post(token, Note::new(1)).unwrap();
        }
        Event::Timeout => socket.abort(),
        other => usual(socket, &other),
    });
    wire.says(b"x");
    bench.turn();
    assert_eq!(bench.trace().last().map(String::as_str), Some("0 close Aborted"));
    assert_eq!(bench.poller.shard().next_open(0), None);
    assert!(bench.poller.connection_mut(wire.token()).is_none(), "the connection is still there");
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_full_mailbox_returns_the_message() {
    let mut bench: Bench<AloneWithMail<Note, 2>> = Bench::place(&SMALL, AloneWithMail::default());
    let token = bench.attach().token();
    bench.poller.post(token, Note::new(1)).unwrap();
    bench.poller.post(token, Note::new(2)).unwrap();
    assert_eq!(bench.poller.post(token, Note::new(3)), Err(Rejected::Full(Note::new(3))));
    bench.turn();
    assert_eq!(received(&bench.trace()), [1, 2]);
    bench.react(move |socket, event, cx| match event {
        Event::Message(Note(4)) => {
            let token = socket.token();
            cx.post(token, Note::new(10)).unwrap();
            cx.broadcast(Note::new(11)).unwrap();
            assert_eq!(cx.post(token, Note::new(12)), Err(Rejected::Full(Note::new(12))));
            assert_eq!(cx.broadcast(Note::new(13)), Err(Rejected::Full(Note::new(13))));
        }
        other => usual(socket, &other),
    });
    bench.poller.post(token, Note::new(4)).unwrap();
    bench.turn();
    assert_eq!(received(&bench.trace()), [4, 10, 11]);
    bench.stop(0);
    assert_eq!(bench.poller.post(token, Note::new(5)), Err(Rejected::Gone(Note::new(5))));
    assert_eq!(messages(), 0);
}

#[test]
fn a_poller_without_mail_has_no_way_to_post() {
    let mut bench = Mute::place(&SMALL, Alone);
    let wire = bench.attach();
    assert_eq!(bench.poller.post(wire.token(), Note::new(1)), Err(Rejected::Gone(Note::new(1))));
    bench.react(|socket, event, cx| {
        if matches!(event, Event::Receive) {
            assert_eq!(cx.post(socket.token(), Note::new(2)), Err(Rejected::Gone(Note::new(2))));
            assert_eq!(cx.broadcast(Note::new(3)), Err(Rejected::Gone(Note::new(3))));
        }
        usual(socket, &event);
    });
    wire.says(b"x");
    bench.turn();
    assert_eq!(wire.heard(), b"x");
    bench.stop(0);
}

#[test]
fn a_turn_delivers_256_messages_and_the_next_one_the_rest() {
    for n in [255, 256, 257, 512, 513] {
        let mut bench = Lone::new(&SMALL);
        let wire = bench.attach();
        (0..n).for_each(|n| bench.poller.post(wire.token(), Note::new(n)).unwrap());
        let mut first = 0;
        while first < n {
            let last = n.min(first + 256);
            bench.turn_at(first);
            assert_eq!(received(&bench.trace()), (first..last).collect::<Vec<_>>());
            assert_eq!(bench.due(), (last < n).then_some(first), "the next turn is due now");
            first = last;
        }
        bench.stop(0);
    }
}

#[test]
fn sockets_that_post_to_each_other_do_not_hold_a_turn_up() {
    let mut bench = Lone::new(&SMALL);
    let (one, two) = (bench.attach(), bench.attach());
    let tokens = [one.token(), two.token()];
    bench.react(move |socket, event, cx| match event {
        Event::Message(Note(n)) => {
            let to = if socket.token() == tokens[0] { tokens[1] } else { tokens[0] };
            cx.post(to, Note::new(n + 1)).unwrap();
        }
        other => usual(socket, &other),
    });
    bench.poller.post(tokens[0], Note::new(0)).unwrap();
    for turn in 1..=3 {
        bench.turn();
        assert_eq!(received(&bench.trace()).len(), 256, "turn {turn}");
        assert_eq!(bench.due(), Some(0));
    }
    bench.react(|socket, event, _| usual(socket, &event));
    bench.stop(0);
}

#[test]
fn a_broadcast_reaches_every_open_socket_once() {
    let mut bench = Lone::new(&SMALL);
    let wires: Vec<_> = (0..3).map(|_| bench.attach()).collect();
    bench.net().dials.push_back(crate::net::Dial::InProgress);
    bench.poller.connect(lightcone_core::Address::Unix(lightcone_core::UnixId(1)), 0).unwrap();
    bench.turn();
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(1)) => cx.broadcast(Note::new(2)).unwrap(),
        other => usual(socket, &other),
    });
    bench.poller.post(wires[1].token(), Note::new(1)).unwrap();
    bench.trace();
    bench.turn();
    assert_eq!(bench.trace(), ["1 message 1", "0 message 2", "1 message 2", "2 message 2"]);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_broadcast_to_more_than_1024_sockets_takes_two_turns_and_reaches_each_once() {
    for n in [1_023, 1_024, 1_025, 1_300] {
        let config = Config { input_blocks: 8, ..sockets(n) };
        let mut bench = Lone::new(&config);
        (0..n).for_each(|_| drop(bench.attach()));
        bench.trace();
        let token = bench.wires[0].token();
        bench.react(|socket, event, cx| match event {
            Event::Message(Note(0)) => {
                cx.broadcast(Note::new(7)).unwrap();
                cx.post(socket.token(), Note::new(8)).unwrap();
            }
            other => usual(socket, &other),
        });
        bench.poller.post(token, Note::new(0)).unwrap();
        bench.turn();
        let mut trace = bench.trace();
        let first = received(&trace).iter().filter(|n| **n == 7).count();
        assert_eq!(first, n.min(1_024));
        if n > 1_024 {
            assert_eq!(bench.due(), Some(0));
            assert_eq!(*received(&trace).last().unwrap(), 7, "messages posted after it wait");
        }
        bench.turn();
        trace.extend(bench.trace());
        let mut reached: Vec<_> = trace.iter().filter(|line| line.ends_with("message 7")).collect();
        assert_eq!(reached.len(), n);
        reached.sort();
        reached.dedup();
        assert_eq!(reached.len(), n);
        assert_eq!(*received(&trace).last().unwrap(), 8);
        bench.stop(0);
        assert_eq!(messages(), 0);
    }
}

#[test]
fn the_next_turn_of_a_broadcast_under_way_is_due_now() {
    let mut bench = Lone::new(&sockets(1_025));
    (0..1_025).for_each(|_| drop(bench.attach()));
    let token = bench.wires[0].token();
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(0)) => cx.broadcast(Note::new(7)).unwrap(),
        other => usual(socket, &other),
    });
    bench.poller.post(token, Note::new(0)).unwrap();
    bench.turn();
    assert_eq!(bench.due(), Some(0), "although nothing is queued after it");
    bench.turn();
    assert_eq!(bench.due(), None);
    assert_eq!(received(&bench.trace()).iter().filter(|n| **n == 7).count(), 1_025);
    bench.stop(0);
}

#[test]
fn messages_after_a_broadcast_wait_for_its_end() {
    let mut bench = Lone::new(&SMALL);
    let wires: Vec<_> = (0..2).map(|_| bench.attach()).collect();
    bench.react(|socket, event, cx| match event {
        Event::Message(Note(0)) => {
            cx.broadcast(Note::new(1)).unwrap();
            cx.post(socket.token(), Note::new(2)).unwrap();
            cx.broadcast(Note::new(3)).unwrap();
        }
        other => usual(socket, &other),
    });
    bench.poller.post(wires[1].token(), Note::new(0)).unwrap();
    bench.turn();
    assert_eq!(received(&bench.trace()), [0, 1, 1, 2, 3, 3]);
    bench.stop(0);
}

#[test]
fn commands_come_before_messages() {
    let group = group(1, 4, 512, 512);
    let mut bench = mate(group, 0, &SMALL, None);
    let wire = bench.attach();
    let token = wire.token();
    group.post(token, Note::new(1), None).unwrap();
    assert!(group.pollers()[0].send_command(Command::CloseSocket { token, abort: true }).is_ok());
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 close Aborted"]);
    group.stop(ms(0));
    bench.turn();
    bench.end();
    assert_eq!(messages(), 0);
}

/// Creates a poller of a group with this number of commands in its mailbox, which have no effect.
fn commanded(n: usize) -> Mate {
    let group = group(1, 4, 1024, 1024);
    let bench = mate(group, 0, &SMALL, None);
    for _ in 0..n {
        let id = lightcone_core::ListenerId(9);
        assert!(group.pollers()[0].send_command(Command::CloseListener { id }).is_ok());
    }
    bench
}

#[test]
fn a_turn_takes_256_commands_and_messages_come_all_the_same() {
    for (n, turns) in [(255, 1), (256, 2), (257, 2), (511, 2), (512, 3)] {
        let mut bench = commanded(n);
        let wire = bench.attach();
        let handle = bench.poller.membership().handle();
        assert!(handle.send_command(Command::CloseSocket { token: wire.token(), abort: true }).is_ok());
        for turn in 1..=turns {
            bench.poller.post(wire.token(), Note::new(turn)).unwrap();
            assert_eq!(wire.fate(), crate::net::Fate::Watched);
            bench.turn();
            assert_eq!(bench.due(), (turn < turns).then_some(0), "{n} commands, turn {turn}");
        }
        assert_eq!(wire.fate(), crate::net::Fate::Reset);
        assert_eq!(received(&bench.trace()).len() as u64, turns - 1);
        bench.stop(0);
    }
}

#[test]
fn events_and_timeouts_come_before_messages() {
    let timeouts = Timeouts { idle: Some(Duration::from_millis(10)), ..Timeouts::NONE };
    let mut bench = Lone::new(&Config { timeouts, ..SMALL });
    let (wire, other) = (bench.attach(), bench.attach());
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.poller.post(other.token(), Note::new(2)).unwrap();
    other.says(b"x");
    bench.turn_at(50);
    let trace = bench.trace();
    assert_eq!(trace[2..], ["1 receive", "1 sent", "0 close TimedOut(Idle)", "1 message 2"]);
    bench.stop(0);
}

#[test]
fn messages_that_were_posted_before_a_stop_come_before_shutdown() {
    for (n, missing) in [(256, 0), (257, 1)] {
        let mut bench = Lone::new(&SMALL);
        let wire = bench.attach();
        (0..n).for_each(|n| bench.poller.post(wire.token(), Note::new(n)).unwrap());
        bench.begin();
        bench.poller.stop(ms(100));
        bench.rest();
        let trace = bench.trace();
        assert_eq!(received(&trace).len() as u64, n - missing, "all, unless there are more than 256");
        assert_eq!(trace[trace.len() - 2..], ["0 shutdown", "0 close Shutdown"]);
        bench.end();
        assert_eq!(messages(), 0);
    }
}

#[test]
fn what_is_in_a_mailbox_at_the_end_is_dropped() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    bench.react(|socket, event, cx| {
        if let Event::Close(_) = event {
            cx.post(socket.token(), Note::new(5)).unwrap();
            cx.broadcast(Note::new(6)).unwrap();
        }
        usual(socket, &event);
    });
    let _ = Rc::clone(&wire);
    bench.stop(0);
    assert_eq!(messages(), 0);
}
