//! Tests of topics: which sockets get a published message, when, what it costs, and what happens at the limits.

use core::cell::RefCell;
use std::rc::Rc;

use crate::bench::{
    Bench, Data, Lone, Mate, Mute, Note, SMALL, Team, group, mate, messages, ms, sockets, usual,
};
use crate::net::{Peer, planned_panic};
use lightcone_core::poller::{Alone, AloneWithMail};
use lightcone_core::{
    Config, Context, Event, PollerId, Rejected, Socket, SubscribeError, Token, Topic, TopicStats, Unpublished,
};

const NEWS: Topic = Topic(1);
const SPORT: Topic = Topic(2);

/// Subscribes each socket when it opens, publishes when it receives a byte, and closes at a shutdown.
fn news(socket: &mut Socket<'_, Data>, event: &Event<Note>, cx: &mut Context<'_, Note>) {
    match event {
        Event::Open => assert_eq!(cx.subscribe(NEWS, socket.token()), Ok(())),
        Event::Receive => {
            let number = u64::from(socket.bytes()[0]);
            socket.consume_all();
            assert!(cx.publish(NEWS, Note::new(number)).is_ok());
        }
        other => usual(socket, other),
    }
}

fn lone(config: &Config) -> Lone {
    let mut bench = Lone::new(config);
    bench.react(|socket, event, cx| news(socket, &event, cx));
    bench
}

/// Returns what was delivered since the last call: `socket message number`.
fn delivered(trace: Vec<String>) -> Vec<String> {
    trace.into_iter().filter(|line| line.contains("message")).collect()
}

fn publish(bench: &mut Lone, topic: Topic, number: u64) {
    let result = bench.guard(|poller| {
        let published = Unpublished::new(topic, Note::new(number), Note::clone);
        assert!(poller.publish(published).is_ok());
    });
    assert!(result);
}

fn stats(bench: &Lone) -> TopicStats {
    bench.poller.stats().topics
}

#[test]
fn a_message_reaches_the_subscribers_of_its_topic_in_their_order() {
    let mut bench = lone(&SMALL);
    let wires: Vec<_> = (0..4).map(|_| bench.attach()).collect();
    bench.turn();
    bench.react(|socket, event, cx| match event {
        // the first one goes to another room
        Event::Message(Note(7)) if socket.data.id == 0 => {
            assert!(cx.unsubscribe(NEWS, socket.token()) && !cx.unsubscribe(NEWS, socket.token()));
            assert_eq!(cx.subscribe(SPORT, socket.token()), Ok(()));
            assert_eq!([NEWS, SPORT, Topic(3)].map(|topic| cx.subscribers(topic)), [3, 1, 0]);
        }
        other => news(socket, &other, cx),
    });
    publish(&mut bench, NEWS, 7);
    publish(&mut bench, SPORT, 8);
    publish(&mut bench, Topic(3), 9);
    bench.trace();
    bench.turn();
    assert_eq!(bench.trace(), ["0 message 7", "1 message 7", "2 message 7", "3 message 7", "0 message 8"]);
    wires[2].says(b"\x05");
    bench.turn();
    assert_eq!(delivered(bench.trace()), ["1 message 5", "2 message 5", "3 message 5"]);
    let expected = (stats(&bench).published, stats(&bench).delivered, stats(&bench).subscriptions());
    assert_eq!(expected, (4, 8, 4));
    bench.stop(0);
    assert_eq!((messages(), stats(&bench).subscriptions()), (0, 0));
}

#[test]
fn a_subscription_ends_with_its_socket() {
    let mut bench = lone(&SMALL);
    let old = bench.attach();
    bench.turn();
    bench.react(|socket, event, cx| match event {
        // has no effect, and leaves nothing over
        Event::Close(_) => assert_eq!(cx.subscribe(SPORT, socket.token()), Ok(())),
        Event::Open => {}
        other => news(socket, &other, cx),
    });
    bench.poller.close_socket(old.token(), true);
    assert_eq!(stats(&bench).subscriptions(), 0);
    let new = bench.attach();
    assert_eq!(new.token().index(), old.token().index());
    publish(&mut bench, NEWS, 1);
    publish(&mut bench, SPORT, 2);
    bench.turn();
    assert!(delivered(bench.trace()).is_empty());
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_socket_that_is_ending_gets_nothing_and_is_not_counted() {
    let mut bench = lone(&SMALL);
    let (wire, other) = (bench.attach(), bench.attach());
    bench.turn();
    bench.react(|socket, event, cx| match event {
        Event::Receive => {
            wire_output(socket);
            socket.close();
        }
        other => news(socket, &other, cx),
    });
    wire.set(|wire| wire.window = 0);
    wire.says(b"x");
    bench.turn();
    publish(&mut bench, NEWS, 1);
    bench.turn();
    assert_eq!(delivered(bench.trace()), ["1 message 1"]);
    assert_eq!((stats(&bench).delivered, stats(&bench).subscriptions()), (1, 2));
    drop(other);
    bench.stop(0);
}

/// Queues output, which keeps a socket that closes open until it is sent.
fn wire_output(socket: &mut Socket<'_, Data>) {
    socket.consume_all();
    socket.send(b"what the peer does not take").unwrap();
}

#[test]
fn only_sockets_of_the_poller_that_live_can_be_subscribed() {
    let mut bench = lone(&SMALL);
    let old = bench.attach();
    bench.turn();
    let stale = old.token();
    bench.poller.close_socket(stale, true);
    let of_another = Token::from_bits(stale.to_bits() ^ (3 << 24));
    bench.react(move |socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            assert_eq!(cx.subscribe(NEWS, stale), Err(SubscribeError::Gone));
            assert_eq!(cx.subscribe(NEWS, of_another), Err(SubscribeError::Gone));
            assert!(!cx.unsubscribe(NEWS, stale) && !cx.unsubscribe(NEWS, of_another));
            assert_eq!((cx.unsubscribe_all(stale), cx.unsubscribe_all(of_another)), (0, 0));
            assert_eq!(cx.unsubscribe_all(socket.token()), 1);
        }
        other => news(socket, &other, cx),
    });
    let new = bench.attach();
    new.says(b"x");
    bench.turn();
    assert_eq!(stats(&bench).subscriptions(), 0);
    bench.stop(0);
}

#[test]
fn one_subscription_more_than_the_limit_is_refused_until_one_ends() {
    let mut bench = Lone::new(&Config { subscriptions: 2, ..SMALL });
    let results = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&results);
    bench.react(move |socket, event, cx| match event {
        Event::Open => seen.borrow_mut().push(cx.subscribe(NEWS, socket.token())),
        other => usual(socket, &other),
    });
    let first = bench.attach();
    (0..2).for_each(|_| drop(bench.attach()));
    bench.poller.close_socket(first.token(), true);
    bench.attach();
    assert_eq!(*results.borrow(), [Ok(()), Ok(()), Err(SubscribeError::Full), Ok(())]);
    bench.stop(0);
    // and without any
    let mut bench: Bench<Alone, false> = Mute::place(&Config { subscriptions: 0, ..SMALL }, Alone);
    bench.react(|socket, event, cx| match event {
        Event::Open => {
            assert_eq!(cx.subscribe(NEWS, socket.token()), Err(SubscribeError::Unsupported));
            assert!(!cx.unsubscribe(NEWS, socket.token()) && cx.subscribers(NEWS) == 0);
            assert!(matches!(cx.publish(NEWS, Note::new(1)), Err(Rejected::Gone(_))), "it has no mailbox");
        }
        other => usual(socket, &other),
    });
    bench.attach();
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn the_number_of_subscriptions_has_a_maximum() {
    assert_eq!(Config { subscriptions: 1 << 24, ..SMALL }.check(), Ok(()));
    let error = Config { subscriptions: (1 << 24) + 1, ..SMALL }.check().unwrap_err();
    assert_eq!(error.to_string(), "subscriptions is 16777217; allowed: 0 to 16777216");
}

#[test]
fn a_message_to_more_than_1024_sockets_takes_two_turns_and_reaches_each_once() {
    for n in [1_023, 1_024, 1_025, 1_300] {
        let config = Config { input_blocks: 8, subscriptions: n, ..sockets(n + 1) };
        let mut bench = lone(&config);
        (0..n).for_each(|_| drop(bench.attach()));
        bench.turn();
        publish(&mut bench, NEWS, 7);
        publish(&mut bench, NEWS, 8);
        bench.trace();
        bench.turn();
        let mut reached = delivered(bench.trace());
        assert_eq!(reached.len(), n.min(1_024));
        assert_eq!(bench.due(), Some(0), "messages after it wait");
        bench.turns(2);
        reached.extend(delivered(bench.trace()));
        let expected: Vec<_> = (0..2 * n).map(|at| format!("{} message {}", at % n, 7 + at / n)).collect();
        assert_eq!(reached, expected);
        assert_eq!(stats(&bench).delivered, 2 * n as u64);
        bench.stop(0);
        assert_eq!(messages(), 0);
    }
}

/// In the middle of a delivery, which takes two turns.
#[test]
fn subscribers_that_come_and_go_during_a_delivery() {
    let n = 1_030;
    let mut bench = lone(&Config { input_blocks: 8, subscriptions: n + 1, ..sockets(n + 1) });
    let wires: Vec<_> = (0..n).map(|_| bench.attach()).collect();
    bench.turn();
    publish(&mut bench, NEWS, 7);
    bench.trace();
    bench.turn();
    assert_eq!(delivered(bench.trace()).len(), 1_024);
    // one that has got it, the next one, and the last one
    for gone in [3, 1_024, n - 1] {
        bench.poller.close_socket(wires[gone].token(), true);
    }
    bench.attach();
    bench.turn();
    let rest: Vec<_> = (1_025..n - 1).map(|id| format!("{id} message 7")).collect();
    assert_eq!(delivered(bench.trace()), rest);
    assert_eq!(bench.due(), None);
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_panic_of_one_subscriber_loses_no_message_of_another() {
    let mut bench = lone(&SMALL);
    (0..3).for_each(|_| drop(bench.attach()));
    bench.turn();
    bench.react(|socket, event, cx| match event {
        Event::Message(_) if socket.data.id == 1 => planned_panic(),
        other => news(socket, &other, cx),
    });
    publish(&mut bench, NEWS, 1);
    publish(&mut bench, NEWS, 2);
    bench.turn();
    let expected = ["0 message 1", "1 message 1", "2 message 1", "0 message 2", "2 message 2"];
    assert_eq!(delivered(bench.trace()), expected);
    assert_eq!((stats(&bench).delivered, stats(&bench).subscriptions()), (5, 2));
    bench.stop(0);
    assert_eq!(messages(), 0);
}

// --- several pollers -------------------------------------------------------------------------------------------------

fn subscriber(group: Team, id: u8) -> Mate {
    let mut mate = mate(group, id, &sockets(8), None);
    mate.react(|socket, event, cx| news(socket, &event, cx));
    mate
}

fn stop(pollers: Vec<Mate>) {
    for mut mate in pollers.into_iter().rev() {
        mate.begin();
        mate.poller.stop(ms(0));
        mate.rest();
        mate.wind_up();
    }
    assert_eq!(messages(), 0);
}

fn heard(pollers: &mut [Mate]) -> Vec<Vec<String>> {
    pollers.iter_mut().map(|mate| delivered(mate.trace())).collect()
}

/// With mailboxes for one message, so that a second message to a poller would find no room.
#[test]
fn a_message_costs_each_poller_one_place_in_its_mailbox() {
    let group = group(3, 16, 4, 1);
    let mut pollers: Vec<Mate> = (0..3).map(|id| subscriber(group, id)).collect();
    for (mate, sockets) in pollers.iter_mut().zip([2, 0, 3]) {
        (0..sockets).for_each(|_| drop(mate.attach()));
        mate.turn();
    }
    assert!(group.publish(Unpublished::new(NEWS, Note::new(4), Note::clone), None).is_ok());
    assert_eq!(messages(), 3, "a copy for each poller");
    pollers.iter_mut().for_each(Mate::turn);
    assert_eq!(
        heard(&mut pollers),
        [vec!["0 message 4", "1 message 4"], vec![], vec!["0 message 4", "1 message 4", "2 message 4"]]
    );
    assert_eq!(messages(), 0);
    stop(pollers);
}

#[test]
fn a_full_mailbox_returns_the_message_and_the_rest_follows_without_repetition() {
    let group = group(3, 16, 4, 1);
    let mut pollers: Vec<Mate> = (0..3).map(|id| subscriber(group, id)).collect();
    for mate in &mut pollers {
        mate.attach();
        mate.turn();
    }
    let at_poller = |id: u64| Token::from_bits(id << 24);
    group.post(at_poller(1), Note::new(0), None).unwrap();
    let publish = |message| match group.publish(message, Some(PollerId(0))) {
        Err(Rejected::Full(rest)) => rest,
        other => panic!("{other:?}"),
    };
    let rest = publish(Unpublished::new(NEWS, Note::new(5), Note::clone));
    assert_eq!((rest.topic(), rest.poller(), rest.message().0.0), (NEWS, PollerId(1), 5));
    let rest = publish(rest);
    assert_eq!(rest.poller(), PollerId(1), "still full");
    pollers[0].turn();
    pollers[1].turn();
    group.post(at_poller(2), Note::new(0), None).unwrap();
    let rest = publish(rest);
    assert_eq!(rest.poller(), PollerId(2));
    pollers[2].turn();
    assert!(group.publish(rest, Some(PollerId(0))).is_ok());
    pollers.iter_mut().for_each(Mate::turn);
    assert_eq!(heard(&mut pollers), [["0 message 5"], ["0 message 5"], ["0 message 5"]]);
    stop(pollers);
}

#[test]
fn a_poller_that_has_ended_is_passed_over_and_without_any_the_message_comes_back() {
    let group = group(3, 16, 4, 4);
    let mut pollers: Vec<Mate> = (0..3).map(|id| subscriber(group, id)).collect();
    for mate in &mut pollers {
        mate.attach();
        mate.turn();
    }
    let publish = || group.publish(Unpublished::new(NEWS, Note::new(6), Note::clone), None);
    for id in [1, 0] {
        assert!(pollers[id].poller.close_mailboxes());
        assert!(publish().is_ok());
        pollers[2].turn();
        assert_eq!(delivered(pollers[2].trace()), ["0 message 6"]);
    }
    assert!(pollers[2].poller.close_mailboxes());
    let Err(Rejected::Gone(message)) = publish() else { panic!("no poller is left") };
    // nor is there one for the rest of a message that names one beyond the last
    let mut rest = Unpublished::new(NEWS, Note::new(7), Note::clone);
    rest.set_poller(PollerId(200));
    assert!(matches!(group.publish(rest, None), Err(Rejected::Gone(_))));
    assert_eq!(message.into_message().0, 6);
    stop(pollers);
}

/// What a poller publishes and posts arrives in its order, whatever others publish in between.
#[test]
fn the_order_of_each_publisher_is_kept() {
    let group = group(2, 16, 4, 64);
    let mut pollers: Vec<Mate> = (0..2).map(|id| subscriber(group, id)).collect();
    let wire = pollers[1].attach();
    pollers[1].turn();
    for number in 0..10 {
        let message = Unpublished::new(NEWS, Note::new(number), Note::clone);
        assert!(group.publish(message, Some(PollerId(0))).is_ok());
        group.post(wire.token(), Note::new(100 + number), Some(PollerId(0))).unwrap();
    }
    pollers[1].turn();
    let expected = (0..10).flat_map(|number| [number, 100 + number]).map(|n| format!("0 message {n}"));
    assert_eq!(delivered(pollers[1].trace()), expected.collect::<Vec<_>>());
    stop(pollers);
}

#[test]
fn a_lone_poller_returns_what_its_mailbox_has_no_room_for() {
    let mut bench: Bench<AloneWithMail<Note, 2>> = Bench::place(&SMALL, AloneWithMail::new());
    bench.react(|socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            assert!(cx.publish(NEWS, Note::new(1)).is_ok() && cx.publish(NEWS, Note::new(2)).is_ok());
            let Err(Rejected::Full(rest)) = cx.publish(NEWS, Note::new(3)) else { panic!("it is full") };
            assert!(matches!(cx.publish_rest(rest), Err(Rejected::Full(_))));
        }
        other => news(socket, &other, cx),
    });
    bench.attach().says(b"x");
    bench.turns(2);
    assert_eq!(delivered(bench.trace()), ["0 message 1", "0 message 2"]);
    bench.stop(0);
    assert_eq!(messages(), 0);
}
