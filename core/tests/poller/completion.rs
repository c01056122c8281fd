//! Tests of a transport whose receives and sends complete later.

use crate::bench::{Lone, Note, SMALL, ms, usual};
use crate::net::{Fate, Peer};
use lightcone_core::poller::AloneWithMail;
use lightcone_core::{Config, ErrorKind, Event, Interest};

fn completing(config: &Config) -> Lone {
    let mut bench = Lone::new(config);
    bench.net().completes = true;
    bench
}

/// Creates a handler that sends as many bytes as a message says, and keeps its input until a message 0.
fn keeper(config: &Config) -> Lone {
    let mut bench = completing(config);
    bench.react(|socket, event, _| match event {
        Event::Message(Note(0)) => {
            let n = socket.bytes().len();
            socket.consume(n);
        }
        Event::Message(Note(n)) => socket.send(&vec![b'm'; n as usize]).unwrap(),
        Event::Receive | Event::Writable => {}
        other => usual(socket, &other),
    });
    bench
}

#[test]
fn what_comes_is_answered_by_a_send_in_flight() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    assert_eq!(wire.borrow().in_flight.as_deref(), Some(&b"hello"[..]));
    assert_eq!(bench.trace(), ["0 open", "0 receive"]);
    // More output is queued after it.
    wire.says(b" world");
    bench.turn();
    assert_eq!(wire.borrow().in_flight.as_deref(), Some(&b"hello"[..]));
    bench.complete(&wire, 5);
    assert_eq!(wire.borrow().in_flight.as_deref(), Some(&b" world"[..]));
    bench.complete(&wire, 6);
    assert_eq!(wire.heard(), b"hello world");
    assert_eq!(bench.trace(), ["0 receive", "0 sent"]);
    assert_eq!((wire.count("receive"), bench.poller.stats().bytes_out), (0, 11));
    bench.stop(0);
}

#[test]
fn a_send_that_completes_in_part_is_followed_by_the_rest() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    for n in [2, 0, 3] {
        bench.complete(&wire, n);
    }
    assert_eq!(wire.heard(), b"hello");
    assert_eq!(bench.trace(), ["0 open", "0 receive", "0 sent"]);
    bench.stop(0);
}

#[test]
fn a_send_in_flight_that_fails_ends_the_socket() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    wire.set(|wire| wire.in_flight = None);
    bench.poller.on_send_failed(wire.token(), ErrorKind::BrokenPipe);
    assert_eq!(bench.trace(), ["0 open", "0 receive", "0 close Reset"]);
    assert_eq!((wire.fate(), wire.count("cancel_send")), (Fate::Reset, 0));
    assert_eq!((bench.poller.stats().bytes_lost, bench.poller.stats().bytes_out), (5, 0));
    bench.stop(0);
}

#[test]
fn an_abort_cancels_the_send_in_flight_first() {
    for done in [0, 3, 5] {
        let mut bench = completing(&SMALL);
        let wire = bench.attach();
        wire.says(b"hello");
        bench.turn();
        wire.set(|wire| wire.cancel = Some(done));
        bench.poller.close_socket(wire.token(), true);
        assert_eq!((wire.count("cancel_send"), wire.fate()), (1, Fate::Reset));
        assert_eq!(bench.poller.stats().bytes_lost, 5 - done as u64);
        assert_eq!(bench.poller.stats().bytes_out, done as u64);
        assert_eq!(bench.trace().last().unwrap(), "0 close Aborted");
        bench.check();
        bench.stop(0);
    }
}

#[test]
fn a_cancel_that_completes_later_holds_the_close_back() {
    for done in [0, 2, 5] {
        let mut bench = completing(&SMALL);
        let wire = bench.attach();
        wire.says(b"hello");
        bench.turn();
        wire.set(|wire| wire.cancel = None);
        let token = wire.token();
        bench.poller.close_socket(token, true);
        assert_eq!((wire.count("cancel_send"), wire.fate()), (1, Fate::Watched));
        assert_eq!(bench.trace(), ["0 open", "0 receive"], "how much was lost is not known yet");
        // Input that arrives in the meantime is ignored.
        let mut late = *b"late";
        assert_eq!(bench.poller.on_received(token, &mut late), 0);
        assert!(!bench.poller.on_end_of_stream(token));
        bench.idle_turn();
        bench.complete(&wire, done);
        assert_eq!((bench.trace(), wire.fate()), (vec!["0 close Aborted".to_owned()], Fate::Reset));
        assert_eq!(bench.poller.stats().bytes_lost, 5 - done as u64);
        assert_eq!(wire.heard().len(), done);
        // Completions for a stale token have no effect.
        assert_eq!(bench.poller.on_received(token, &mut late), 4);
        assert!(bench.poller.on_end_of_stream(token));
        bench.poller.on_sent(token, 3);
        bench.poller.on_send_failed(token, ErrorKind::Other);
        bench.check();
        bench.stop(0);
    }
}

#[test]
fn what_is_not_taken_is_offered_again() {
    let mut bench = keeper(&SMALL);
    let wire = bench.attach();
    wire.says(&[b'x'; 300]);
    bench.turns(3);
    // There is room for 256 bytes.
    assert_eq!((wire.borrow().to_poller.len(), wire.borrow().interest), (44, Interest::NONE));
    assert_eq!(bench.trace(), ["0 open", "0 receive"]);
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turn();
    assert_eq!((wire.borrow().interest, wire.borrow().left), (Interest::READ, false));
    bench.turn();
    assert_eq!((wire.borrow().to_poller.len(), bench.poller.stats().bytes_in), (0, 300));
    assert_eq!(bench.trace(), ["0 message 0", "0 receive"]);
    bench.stop(0);
}

#[test]
fn exactly_as_much_as_there_is_room_for_is_taken() {
    for n in [255, 256, 257] {
        let mut bench = keeper(&SMALL);
        let wire = bench.attach();
        let mut bytes = vec![b'x'; n];
        assert_eq!(bench.poller.on_received(wire.token(), &mut bytes), n.min(256));
        assert_eq!(wire.borrow().interest.reads(), n < 256);
        assert_eq!(bench.poller.on_received(wire.token(), &mut bytes), 256 - n.min(256));
        bench.stop(0);
    }
}

#[test]
fn more_than_there_is_room_for_reaches_a_handler_that_consumes_it() {
    let mut bench = completing(&SMALL);
    bench.react(|socket, event, _| match event {
        Event::Receive => {
            let n = socket.bytes().len();
            socket.consume(n);
        }
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    wire.says(&[b'x'; 700]);
    bench.turns(5);
    assert_eq!((wire.borrow().to_poller.len(), bench.poller.stats().bytes_in), (0, 700));
    wire.ends();
    bench.turn();
    assert_eq!(bench.trace().last().unwrap(), "0 close Peer");
    bench.stop(0);
}

#[test]
fn an_end_for_which_there_is_no_block_is_reported_again() {
    let mut bench = keeper(&Config { input_blocks: 1, receive_blocks: 0, ..SMALL });
    let (keeps, ends) = (bench.attach(), bench.attach());
    keeps.says(b"kept");
    bench.turn();
    ends.ends();
    bench.turns(3);
    assert_eq!(
        (ends.fate(), ends.borrow().left),
        (Fate::Watched, true),
        "without a block the socket is not read"
    );
    bench.poller.post(keeps.token(), Note::new(0)).unwrap();
    bench.turns(5);
    assert_eq!(bench.trace().last().unwrap(), "1 close Peer");
    bench.stop(0);
}

#[test]
fn bytes_for_which_there_is_no_block_are_offered_again() {
    let mut bench = keeper(&Config { input_blocks: 1, receive_blocks: 0, ..SMALL });
    let (keeps, waits) = (bench.attach(), bench.attach());
    keeps.says(b"kept");
    bench.turn();
    waits.says(b"wait");
    bench.turns(3);
    assert_eq!((waits.borrow().to_poller.len(), waits.borrow().interest), (4, Interest::NONE));
    bench.poller.post(keeps.token(), Note::new(0)).unwrap();
    bench.turns(5);
    assert_eq!(bench.trace(), ["0 open", "1 open", "0 receive", "0 message 0", "1 receive"]);
    bench.stop(0);
}

#[test]
fn what_comes_while_writable_is_due_is_taken_and_reading_goes_on() {
    for end in [false, true] {
        let mut bench = completing(&SMALL);
        bench.react(|socket, event, _| match event {
            Event::Message(_) => socket.split().1.request_writable(),
            Event::Writable => {}
            other => usual(socket, &other),
        });
        let wire = bench.attach();
        bench.poller.post(wire.token(), Note::new(1)).unwrap();
        bench.turn();
        assert_eq!((bench.trace().len(), wire.borrow().interest), (2, Interest::NONE));
        if end {
            assert!(bench.poller.on_end_of_stream(wire.token()));
            assert_eq!(bench.trace(), ["0 writable", "0 peer_closed", "0 close Peer"]);
        } else {
            let mut bytes = *b"hello";
            assert_eq!(bench.poller.on_received(wire.token(), &mut bytes), 5);
            assert_eq!((bench.trace().len(), wire.borrow().interest), (2, Interest::READ));
            bench.complete(&wire, 5);
        }
        bench.stop(0);
    }
}

#[test]
fn what_a_socket_leaves_that_is_put_off_is_offered_again() {
    let mut bench = completing(&Config { output_blocks: 200, output_limit: 160, ..SMALL });
    bench.net().sends_at_once = true;
    bench.react(|socket, event, _| match event {
        Event::Receive if socket.data.number == 0 => {
            socket.data.number = 1;
            socket.send(&[b'x'; 80 * 64]).unwrap(); // five sends
        }
        Event::Receive | Event::Sent => {
            let n = socket.bytes().len();
            socket.consume(n);
        }
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    wire.says(&[b'y'; 300]);
    bench.turn();
    assert_eq!((wire.heard().len(), wire.borrow().to_poller.len()), (64 * 64, 44));
    bench.turn();
    assert_eq!((bench.trace().last().unwrap().as_str(), wire.heard().len()), ("0 sent", 80 * 64));
    bench.turn();
    assert_eq!((wire.borrow().to_poller.len(), wire.borrow().interest), (0, Interest::READ));
    bench.stop(0);
}

#[test]
fn a_socket_that_closes_over_a_part_takes_no_more() {
    let mut bench = completing(&SMALL);
    bench.react(|socket, event, _| match event {
        Event::Receive => socket.abort(),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    let mut bytes = [b'x'; 700];
    let _ = bench.poller.on_received(wire.token(), &mut bytes);
    assert_eq!(bench.trace(), ["0 open", "0 receive", "0 close Aborted"]);
    bench.stop(0);
}

#[test]
fn a_paused_socket_takes_nothing_and_continues_after_modify() {
    let mut bench = completing(&SMALL);
    bench.react(|socket, event, _| match event {
        Event::Message(Note(0)) => socket.resume(),
        Event::Message(_) => socket.pause(),
        other => usual(socket, &other),
    });
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(1)).unwrap();
    bench.turn();
    assert_eq!(wire.borrow().interest, Interest::NONE);
    let mut bytes = *b"hello";
    assert_eq!(bench.poller.on_received(wire.token(), &mut bytes), 0);
    assert!(!bench.poller.on_end_of_stream(wire.token()), "the end of stream is not taken before the bytes");
    assert_eq!(bench.trace(), ["0 open", "0 message 1"]);
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    wire.says(b"hello");
    wire.ends();
    bench.turns(2);
    bench.complete(&wire, 5);
    assert_eq!(wire.heard(), b"hello");
    let trace = bench.trace();
    assert!(trace.contains(&"0 peer_closed".to_owned()), "{trace:?}");
    assert_eq!(trace.last().unwrap(), "0 close Peer");
    bench.stop(0);
}

#[test]
fn the_end_of_a_stream_comes_after_unconsumed_bytes() {
    let mut bench = keeper(&SMALL);
    let wire = bench.attach();
    wire.says(&[b'x'; 300]);
    wire.ends();
    bench.turns(3);
    assert_eq!(bench.trace(), ["0 open", "0 receive"]);
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turns(3);
    assert_eq!(bench.trace(), ["0 message 0", "0 receive", "0 peer_closed", "0 close Peer"]);
    bench.stop(0);
}

#[test]
fn a_connect_completes() {
    let mut bench = completing(&SMALL);
    bench.net().dials.push_back(crate::net::Dial::InProgress);
    let to = lightcone_core::Address::Unix(lightcone_core::UnixId(1));
    let token = bench.poller.connect(to, 1).unwrap();
    bench.turn();
    let wire = std::rc::Rc::clone(&bench.net().dialled[0].1);
    wire.set(|wire| wire.connecting = None);
    bench.poller.on_connect_result(token, lightcone_core::poller::ConnectResult::Established);
    assert_eq!((bench.trace(), wire.borrow().interest), (vec!["0 open".to_owned()], Interest::READ));
    wire.says(b"hi");
    bench.turn();
    bench.complete(&wire, 2);
    bench.stop(0);
}

#[test]
fn the_end_of_a_poller_waits_for_cancels_that_complete_later() {
    let mut bench = completing(&SMALL);
    let (slow, quick) = (bench.attach(), bench.attach());
    for wire in [&slow, &quick] {
        wire.says(b"hello");
    }
    bench.turn();
    slow.set(|wire| wire.cancel = None);
    bench.begin();
    bench.poller.stop(ms(0));
    bench.rest();
    assert_eq!((slow.fate(), quick.fate()), (Fate::Watched, Fate::Reset));
    assert!(!bench.poller.is_over());
    for _ in 0..5 {
        assert_eq!(bench.due(), None, "there is nothing to do but wait");
        bench.idle_turn();
        assert!(!bench.poller.is_over());
    }
    bench.begin();
    bench.complete(&slow, 2);
    bench.rest();
    assert!(bench.poller.is_over());
    assert_eq!(slow.fate(), Fate::Reset);
    assert_eq!((bench.poller.aborted(), bench.poller.stats().bytes_lost), (2, 3 + 5));
    bench.check_end();
    bench.check_connections();
}

#[test]
fn a_cancel_that_completes_between_turns_makes_the_next_one_due() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    wire.set(|wire| wire.cancel = None);
    bench.begin();
    bench.poller.stop(ms(0));
    bench.rest();
    bench.complete(&wire, 5);
    assert_eq!(bench.due(), Some(0));
    bench.end();
}

#[test]
fn a_send_in_flight_completes_within_the_grace_time() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    bench.begin();
    bench.poller.stop(ms(100));
    bench.rest();
    assert_eq!((wire.fate(), bench.due()), (Fate::Watched, Some(100)));
    bench.begin();
    bench.complete(&wire, 5);
    bench.rest();
    assert_eq!((wire.fate(), wire.count("cancel_send")), (Fate::Closed, 0));
    assert!(bench.poller.is_over());
    assert_eq!((bench.poller.aborted(), bench.poller.stats().bytes_lost), (0, 0));
    bench.check_end();
}

#[test]
fn a_transport_that_completes_needs_no_buffer() {
    let mut bench = Lone::with_buffer(&SMALL, AloneWithMail::new(), 0);
    bench.net().completes = true;
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    bench.complete(&wire, 5);
    bench.poller.on_readable(wire.token());
    assert_eq!((wire.heard(), wire.count("receive")), (b"hello".to_vec(), 0));
    bench.stop(0);
}

#[test]
fn a_send_that_fails_while_it_is_cancelled_ends_the_socket() {
    let mut bench = completing(&SMALL);
    let wire = bench.attach();
    wire.says(b"hello");
    bench.turn();
    wire.set(|wire| wire.cancel = None);
    bench.poller.close_socket(wire.token(), true);
    wire.set(|wire| wire.in_flight = None);
    bench.poller.on_send_failed(wire.token(), ErrorKind::Other);
    assert_eq!(bench.trace().last().unwrap(), "0 close Aborted", "the first reason is kept");
    assert_eq!((wire.fate(), bench.poller.stats().bytes_lost), (Fate::Reset, 5));
    bench.stop(0);
}
