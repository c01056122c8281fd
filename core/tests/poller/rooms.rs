//! Tests of requests for room: which handlers are notified, when, in which order, and what happens at the limits.

use crate::bench::{Bench, Data, Mate, Note, SMALL, Team, at, group, mate, messages, sockets};
use crate::net::{Peer, planned_panic};
use lightcone_core::poller::{Alone, AloneWithMail, Command};
use lightcone_core::{Config, Context, Event, PollerEvent, PollerId, Rejected, RoomError, Socket, Token};

/// A token of another poller. Whether it has such a socket does not matter for its mailbox.
fn at_poller(id: u8) -> Token {
    Token::from_bits(u64::from(id) << 24)
}

/// Posts a message to poller 0. If there is no room, requests it for the socket.
fn post_or_wait(socket: &Socket<'_, Data>, cx: &mut Context<'_, Note>) {
    if let Err(Rejected::Full(_)) = cx.post(at_poller(0), Note::new(1)) {
        cx.request_room(PollerId(0), Some(socket.token())).unwrap();
    }
}

/// Creates a poller whose sockets post to poller 0 when they receive something or are notified of room.
fn poster(group: Team, id: u8) -> Mate {
    let mut mate = mate(group, id, &Config { room_requests: 4, ..sockets(8) }, None);
    mate.react(|socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            post_or_wait(socket, cx);
        }
        Event::Room(PollerId(0)) => post_or_wait(socket, cx),
        Event::Shutdown => socket.close(),
        _ => {}
    });
    mate
}

/// Fills the mailbox of a poller, from outside.
fn fill(group: Team, id: u8) {
    while group.post(at_poller(id), Note::new(0), None).is_ok() {}
}

/// Makes the first `count` sockets of a poster receive a byte, in their order.
fn ask(mate: &mut Mate, count: usize) {
    let wires: Vec<_> = (0..count).map(|_| mate.attach()).collect();
    mate.turn();
    mate.trace();
    for wire in wires {
        wire.says(b"x");
        mate.turn();
    }
}

/// Returns the sockets that were notified since the last call.
fn told(mate: &mut Mate) -> Vec<String> {
    mate.trace().into_iter().filter(|line| line.contains("room")).collect()
}

/// Stops the pollers, the last one first.
fn stop(pollers: Vec<Mate>) {
    for mut mate in pollers.into_iter().rev() {
        mate.begin();
        mate.poller.stop(core::time::Duration::ZERO);
        mate.rest();
        mate.wind_up();
    }
    assert_eq!(messages(), 0);
}

#[test]
fn a_socket_is_told_when_the_other_poller_has_read_its_mail() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 1);
    // it waits for a wake-up, and asks once
    assert_eq!(asker.due(), None);
    asker.turns(3);
    assert!(told(&mut asker).is_empty());
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room"]);
    // its message is there, and nothing is left to do
    assert!(full.poller.stats().gone == 2 && full.due() == Some(0));
    full.turn();
    assert!(full.poller.stats().gone == 3 && full.due().is_none() && asker.due().is_none());
    full.turns(2);
    asker.turns(2);
    assert!(told(&mut asker).is_empty());
    stop(vec![full, asker]);
}

#[test]
fn room_that_was_there_before_the_request_counts() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    let wire = asker.attach();
    wire.says(b"x");
    asker.react(|socket, event, cx| {
        if let Event::Receive = event {
            socket.consume_all();
            cx.request_room(PollerId(0), Some(socket.token())).unwrap();
        }
    });
    asker.turn();
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room"]);
    stop(vec![full, asker]);
}

#[test]
fn sockets_are_told_in_their_order_and_not_more_than_there_is_room() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 4);
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room", "1 room"]);
    asker.turns(3);
    assert!(told(&mut asker).is_empty());
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["2 room", "3 room"]);
    full.turn();
    assert_eq!(full.poller.stats().gone, 6);
    stop(vec![full, asker]);
}

#[test]
fn pollers_are_told_in_turn() {
    let group = group(3, 16, 4, 1);
    let mut full = mate(group, 0, &SMALL, None);
    let (mut first, mut second) = (poster(group, 1), poster(group, 2));
    fill(group, 0);
    ask(&mut first, 2);
    ask(&mut second, 2);
    let mut order = Vec::new();
    for _ in 0..4 {
        full.turn();
        for mate in [&mut second, &mut first] {
            mate.turn();
            let id = mate.poller.shard().config().poller;
            order.extend(told(mate).into_iter().map(|line| format!("{id}: {line}")));
        }
    }
    assert_eq!(order, ["1: 0 room", "2: 0 room", "1: 1 room", "2: 1 room"]);
    stop(vec![full, first, second]);
}

/// A poller that does not use the room of which it was notified does not keep it from the next one.
#[test]
fn room_that_is_not_used_goes_to_the_next_poller() {
    let group = group(4, 16, 4, 1);
    let mut full = mate(group, 0, &SMALL, None);
    let mut askers: Vec<Mate> = (1..4).map(|id| poster(group, id)).collect();
    fill(group, 0);
    for mate in &mut askers {
        ask(mate, 1);
        mate.react(|socket, event, _| {
            if let Event::Shutdown = event {
                socket.close();
            }
        });
    }
    for mate in &mut askers {
        full.turn();
        mate.turn();
        assert_eq!(told(mate), ["0 room"]);
    }
    assert_eq!(full.due(), None);
    askers.insert(0, full);
    stop(askers);
}

#[test]
fn a_poller_is_told_without_a_socket() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    asker.on_poller(|event, cx| {
        if let PollerEvent::Started | PollerEvent::Room { at: PollerId(0) } = event {
            while cx.post(at_poller(0), Note::new(1)).is_ok() {}
            cx.request_room(PollerId(0), None).unwrap();
        }
    });
    asker.turn();
    assert_eq!(told(&mut asker), [""; 0]);
    for _ in 0..3 {
        full.turn();
        asker.turn();
        assert_eq!(told(&mut asker), ["poller_room"]);
    }
    stop(vec![full, asker]);
}

#[test]
fn a_lone_poller_is_told_about_its_own_mailbox() {
    let mut bench: Bench<AloneWithMail<Note, 2>> = Bench::place(&SMALL, AloneWithMail::new());
    let wire = bench.attach();
    bench.react(|socket, event, cx| match event {
        Event::Receive | Event::Room(_) => {
            socket.consume_all();
            while cx.post(socket.token(), Note::new(1)).is_ok() {}
            cx.request_room(cx.poller(), Some(socket.token())).unwrap();
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    wire.says(b"x");
    bench.turns(2);
    bench.trace();
    for _ in 0..3 {
        assert_eq!(bench.due(), Some(0));
        bench.turn();
        assert_eq!(bench.trace(), ["0 message 1", "0 message 1", "0 room"]);
    }
    bench.stop(0);
    assert_eq!(messages(), 0);
}

#[test]
fn a_member_is_told_about_its_own_mailbox() {
    let group = group(1, 16, 4, 2);
    let mut lone = mate(group, 0, &Config { room_requests: 4, ..sockets(8) }, None);
    lone.react(|socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            while cx.post(socket.token(), Note::new(1)).is_ok() {}
            cx.request_room(cx.poller(), Some(socket.token())).unwrap();
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    lone.attach().says(b"x");
    lone.turn();
    for _ in 0..3 {
        if lone.due() == Some(0) {
            lone.turn();
        }
    }
    assert_eq!(told(&mut lone), ["0 room"]);
    assert_eq!(lone.due(), None);
    stop(vec![lone]);
}

#[test]
fn the_end_of_the_other_poller_is_told() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 1);
    let gone = |socket: &mut Socket<'_, Data>, event: Event<Note>, cx: &mut Context<'_, Note>| match event {
        Event::Room(_) => assert!(matches!(cx.post(at_poller(0), Note::new(2)), Err(Rejected::Gone(_)))),
        Event::Receive => {
            socket.consume_all();
            cx.request_room(PollerId(0), Some(socket.token())).unwrap();
        }
        Event::Shutdown => socket.close(),
        _ => {}
    };
    asker.react(gone);
    // the poller fails: it takes no more turns, and its driver closes the mailboxes
    assert!(full.poller.close_mailboxes());
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room"]);
    // one that asks only now is notified at once
    asker.attach().says(b"x");
    asker.turn();
    assert_eq!(asker.due(), Some(0));
    asker.turn();
    assert_eq!(told(&mut asker), ["1 room"]);
    assert_eq!(asker.due(), None);
    full.poller.stop(core::time::Duration::ZERO);
    stop(vec![full, asker]);
}

/// If there is no room for the question either, it is repeated each millisecond.
#[test]
fn a_question_without_room_is_repeated() {
    let group = group(2, 16, 1, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    assert!(group.pollers()[0].send_command(Command::Evict).is_ok());
    ask(&mut asker, 1);
    assert_eq!(asker.due(), Some(1));
    asker.turn_at(1);
    assert_eq!(asker.due(), Some(2));
    full.turn();
    asker.turn_at(2);
    assert_eq!(asker.due(), None, "the question was taken");
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room"]);
    stop(vec![full, asker]);
}

#[test]
fn one_request_more_than_the_limit_is_refused() {
    let group = group(2, 16, 4, 2);
    let (full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 4);
    asker.react(|socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            assert_eq!(cx.request_room(PollerId(0), Some(socket.token())), Err(RoomError::Full));
            assert_eq!(cx.request_room(PollerId(0), None), Err(RoomError::Full));
            // that of another socket, which waits, is no further one
            assert_eq!(
                cx.request_room(PollerId(0), Some(Token::from_bits(socket.token().to_bits() - 1))),
                Ok(())
            );
            assert_eq!(cx.request_room(PollerId(0), Some(at_poller(0))), Err(RoomError::Unsupported));
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    asker.attach().says(b"x");
    asker.turn();
    stop(vec![full, asker]);
}

#[test]
fn a_poller_without_requests_refuses_them() {
    let mut bench: Bench<Alone, false> = Bench::place(&Config { room_requests: 0, ..SMALL }, Alone);
    bench.react(|socket, event, cx| match event {
        Event::Receive => {
            socket.consume_all();
            assert_eq!(cx.request_room(PollerId(0), None), Err(RoomError::Unsupported));
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    bench.attach().says(b"x");
    bench.turn();
    assert_eq!(bench.due(), None);
    bench.stop(0);
}

#[test]
fn a_socket_that_has_ended_is_not_told_and_makes_room_for_others() {
    let group = group(2, 16, 4, 2);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 4);
    let first = asker.wires[0].token();
    asker.poller.close_socket(first, true);
    asker.attach().says(b"x");
    asker.turn();
    asker.trace();
    for _ in 0..2 {
        full.turn();
        asker.turn();
    }
    assert_eq!(told(&mut asker), ["1 room", "2 room", "3 room", "4 room"]);
    stop(vec![full, asker]);
}

#[test]
fn a_panic_over_room_loses_no_other_request() {
    let group = group(2, 16, 4, 4);
    let (mut full, mut asker) = (mate(group, 0, &SMALL, None), poster(group, 1));
    fill(group, 0);
    ask(&mut asker, 3);
    asker.react(|socket, event, _| match event {
        Event::Room(_) if socket.data.id < 2 => planned_panic(),
        Event::Shutdown => socket.close(),
        _ => {}
    });
    full.turn();
    asker.turn();
    assert_eq!(told(&mut asker), ["0 room", "1 room", "2 room"]);
    assert_eq!(asker.owners.len(), 2);
    stop(vec![full, asker]);
}

#[test]
fn a_handler_that_always_asks_again_keeps_its_poller_from_nothing() {
    let group = group(1, 16, 4, 2);
    let mut lone = mate(group, 0, &Config { room_requests: 4, ..sockets(8) }, None);
    lone.react(|socket, event, cx| match event {
        Event::Receive | Event::Room(_) => {
            socket.consume_all();
            cx.request_room(cx.poller(), Some(socket.token())).unwrap();
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    lone.attach().says(b"x");
    lone.turn();
    told(&mut lone);
    for _ in 0..5 {
        lone.turn();
        assert_eq!(told(&mut lone), ["0 room"], "once in a turn");
    }
    assert_eq!(lone.poller.next_turn(), Some(at(0)));
    stop(vec![lone]);
}

/// There is no notice of an answer that is there already, so the poller must not sleep.
#[test]
fn a_poller_without_others_answers_every_request() {
    let mut bench: Bench<Alone, false> = Bench::place(&Config { room_requests: 2, ..SMALL }, Alone);
    bench.react(|socket, event, cx| match event {
        Event::Receive | Event::Room(_) => {
            socket.consume_all();
            cx.request_room(PollerId(3), Some(socket.token())).unwrap();
        }
        Event::Shutdown => socket.close(),
        _ => {}
    });
    let wire = bench.attach();
    bench.turn();
    wire.says(b"x");
    bench.turn();
    bench.trace();
    for _ in 0..3 {
        assert_eq!(bench.due(), Some(0));
        bench.turn();
        assert_eq!(bench.trace(), ["0 room"]);
    }
    bench.stop(0);
}
