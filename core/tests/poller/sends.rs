//! Tests of sends and receives over a readiness-based transport.

use crate::bench::{Lone, Note, SMALL, usual};
use crate::net::{Fate, Peer};
use lightcone_core::poller::AloneWithMail;
use lightcone_core::{Config, ErrorKind, Event, Interest, Sent, send_one_by_one};

/// A configuration with a large output limit.
const LARGE: Config = Config { output_blocks: 200, output_limit: 160, ..SMALL };

fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Creates a handler that sends as many bytes as a message says.
fn sender(config: &Config) -> Lone {
    let mut bench = Lone::new(config);
    bench.react(|socket, event, _| match event {
        Event::Message(Note(n)) if n > 0 => socket.send(&bytes(n as usize)).unwrap(),
        Event::Message(_) => socket.close(),
        other => usual(socket, &other),
    });
    bench
}

#[test]
fn a_socket_sends_four_times_in_a_row_and_then_others_come() {
    // A vectored send takes 16 pieces of 64 bytes: 1,024 bytes.
    for (blocks, first, rest) in [(64, vec![1024; 4], vec![]), (80, vec![1024; 4], vec![1024])] {
        let mut bench = sender(&LARGE);
        let (large, small) = (bench.attach(), bench.attach());
        let n = blocks * 64;
        bench.poller.post(large.token(), Note::new(n as u64)).unwrap();
        bench.poller.post(small.token(), Note::new(5)).unwrap();
        bench.turn();
        assert_eq!(large.borrow().sends, first);
        assert_eq!(small.heard(), bytes(5), "the other socket gets its turn");
        assert_eq!(large.borrow().interest, Interest::READ);
        if !rest.is_empty() {
            assert_eq!(bench.due(), Some(0), "the next turn is due now");
            assert!(!bench.trace().contains(&"0 sent".to_owned()));
            bench.turn();
        }
        assert_eq!(large.borrow().sends[4..], rest);
        assert_eq!(large.heard(), bytes(n));
        assert_eq!(bench.due(), None);
        bench.stop(0);
    }
}

#[test]
fn a_handler_that_sends_whenever_it_can_sends_four_times_in_a_row() {
    for event in ["sent", "receive"] {
        let mut bench = Lone::new(&SMALL);
        bench.react(move |socket, event, _| match event {
            Event::Receive | Event::Sent => {
                let n = socket.bytes().len();
                socket.consume(n);
                socket.send(b"again").unwrap();
            }
            other => usual(socket, &other),
        });
        let wire = bench.attach();
        if event == "receive" {
            wire.says(b"x");
        } else {
            bench.poller.post(wire.token(), Note::new(1)).unwrap();
            bench.react(move |socket, event, _| match event {
                Event::Message(_) | Event::Sent => socket.send(b"again").unwrap(),
                other => usual(socket, &other),
            });
        }
        for turn in 1..=5 {
            bench.turn();
            assert_eq!(wire.borrow().sends.len(), 4 * turn, "{event}");
            assert_eq!(bench.due(), Some(0));
        }
        bench.stop(0);
    }
}

#[test]
fn a_send_in_part_waits_until_the_socket_is_writable() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.window = 60);
    bench.poller.post(wire.token(), Note::new(100)).unwrap();
    bench.turn();
    assert_eq!((wire.heard().len(), wire.borrow().interest), (60, Interest::BOTH));
    assert_eq!((wire.borrow().sends.len(), bench.due()), (1, None));
    wire.set(|wire| wire.window = 39);
    bench.turn();
    assert_eq!((wire.heard().len(), wire.borrow().interest), (99, Interest::BOTH));
    wire.set(|wire| wire.window = 1);
    bench.turn();
    assert_eq!((wire.heard(), wire.borrow().interest), (bytes(100), Interest::READ));
    assert_eq!(bench.trace(), ["0 open", "0 message 100", "0 sent"]);
    bench.stop(0);
}

#[test]
fn a_send_that_takes_all_but_one_byte_is_in_part() {
    for (window, sent) in [(63, false), (64, true), (65, true)] {
        let mut bench = sender(&SMALL);
        let wire = bench.attach();
        wire.set(|wire| wire.window = window);
        bench.poller.post(wire.token(), Note::new(64)).unwrap();
        bench.turn();
        assert_eq!(bench.trace().contains(&"0 sent".to_owned()), sent);
        assert_eq!(wire.borrow().interest.writes(), !sent);
        assert_eq!((wire.count("send"), wire.count("send_vectored")), (1, 0));
        bench.stop(0);
    }
}

#[test]
fn a_send_that_would_block_waits() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.window = 0);
    bench.poller.post(wire.token(), Note::new(10)).unwrap();
    bench.turn();
    assert_eq!((wire.count("send"), wire.borrow().interest), (1, Interest::BOTH));
    bench.turns(5);
    assert_eq!(wire.count("send"), 1);
    // Reported as writable, although it still is not.
    let token = wire.token();
    bench.poller.on_writable(token);
    assert_eq!((wire.count("send"), wire.borrow().interest), (2, Interest::BOTH));
    wire.set(|wire| wire.window = usize::MAX);
    bench.turn();
    assert_eq!(wire.heard(), bytes(10));
    bench.stop(0);
}

#[test]
fn several_pieces_leave_by_one_vectored_send() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    bench.poller.post(wire.token(), Note::new(65)).unwrap();
    bench.turn();
    assert_eq!((wire.count("send"), wire.count("send_vectored")), (0, 1));
    assert_eq!(wire.heard(), bytes(65));
    bench.stop(0);
}

#[test]
fn a_send_that_fails_ends_the_socket_and_its_bytes_are_lost() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.window = 30);
    bench.poller.post(wire.token(), Note::new(100)).unwrap();
    bench.turn();
    wire.set(|wire| wire.send_fails = Some(ErrorKind::BrokenPipe));
    bench.turn();
    assert_eq!(bench.trace(), ["0 open", "0 message 100", "0 close Reset"]);
    assert_eq!((bench.poller.stats().bytes_lost, bench.poller.stats().bytes_out), (70, 30));
    assert_eq!(wire.fate(), Fate::Reset);
    bench.stop(0);
}

#[test]
fn a_close_sends_what_is_queued_first() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.window = 30);
    bench.poller.post(wire.token(), Note::new(100)).unwrap();
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turn();
    assert_eq!(wire.fate(), Fate::Watched);
    wire.set(|wire| wire.window = usize::MAX);
    bench.turn();
    assert_eq!((wire.heard(), wire.fate()), (bytes(100), Fate::Closed));
    assert_eq!(bench.poller.stats().bytes_lost, 0);
    bench.stop(0);
}

#[test]
fn an_abort_resets_and_loses_what_is_queued() {
    let mut bench = sender(&SMALL);
    let wire = bench.attach();
    wire.set(|wire| wire.window = 30);
    bench.poller.post(wire.token(), Note::new(100)).unwrap();
    bench.turn();
    let token = wire.token();
    bench.poller.close_socket(token, true);
    assert_eq!((wire.fate(), bench.poller.stats().bytes_lost), (Fate::Reset, 70));
    bench.poller.close_socket(token, true);
    bench.poller.on_writable(token);
    bench.poller.on_readable(token);
    bench.poller.on_failed(token, ErrorKind::Other);
    bench.stop(0);
}

#[test]
fn writing_is_shut_down_once_and_a_failure_ends_the_socket() {
    for fails in [false, true] {
        let mut bench = Lone::new(&SMALL);
        bench.react(|socket, event, _| match event {
            Event::Receive => {
                let n = socket.bytes().len();
                socket.consume(n);
                socket.send(b"bye").unwrap();
                socket.finish();
            }
            other => usual(socket, &other),
        });
        let wire = bench.attach();
        wire.set(|wire| wire.shut_fails = fails.then_some(ErrorKind::ConnectionReset));
        wire.says(b"x");
        bench.turn();
        assert_eq!((wire.heard(), wire.count("shutdown_write")), (b"bye".to_vec(), 1));
        if fails {
            assert_eq!(bench.trace().last().unwrap(), "0 close Reset");
        } else {
            assert_eq!(wire.borrow().interest, Interest::READ);
            wire.ends();
            bench.turn();
            assert_eq!(bench.trace().last().unwrap(), "0 close Local");
        }
        bench.stop(0);
    }
}

#[test]
fn a_receive_that_fails_ends_the_socket() {
    let mut bench = Lone::new(&SMALL);
    let (reset, other) = (bench.attach(), bench.attach());
    reset.set(|wire| wire.receive_fails = Some(ErrorKind::ConnectionReset));
    bench.turn();
    bench.poller.on_failed(other.token(), ErrorKind::HostUnreachable);
    let expected = ["0 open", "1 open", "0 close Reset", "1 close Error(HostUnreachable)"];
    assert_eq!(bench.trace(), expected);
    bench.stop(0);
}

#[test]
fn readiness_is_a_hint() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    for _ in 0..3 {
        bench.poller.on_readable(wire.token());
        bench.poller.on_writable(wire.token());
    }
    assert_eq!(bench.trace(), ["0 open"]);
    assert_eq!((wire.count("receive"), wire.count("modify")), (3, 0));
    bench.check();
    bench.stop(0);
}

#[test]
fn one_receive_an_event_and_no_more_than_there_is_room_for() {
    let mut bench = Lone::new(&SMALL);
    bench.react(|socket, event, _| {
        if let Event::Message(_) = event {
            let n = socket.bytes().len();
            socket.consume(n);
        } else if !matches!(event, Event::Receive) {
            usual(socket, &event);
        }
    });
    let wire = bench.attach();
    wire.says(&bytes(300));
    bench.turn();
    assert_eq!((wire.count("receive"), wire.borrow().to_poller.len()), (1, 300 - 256));
    assert_eq!(wire.borrow().interest, Interest::NONE, "a socket with full input is not read");
    bench.turns(3);
    bench.poller.on_readable(wire.token());
    assert_eq!(wire.count("receive"), 1, "nothing is received without room");
    bench.poller.post(wire.token(), Note::new(0)).unwrap();
    bench.turns(2);
    assert_eq!((wire.count("receive"), wire.borrow().to_poller.len()), (2, 0));
    assert_eq!(bench.poller.stats().bytes_in, 300);
    bench.stop(0);
}

#[test]
fn a_peer_that_takes_no_answers_is_not_read_from() {
    let mut bench = Lone::new(&Config { output_limit: 2, ..SMALL });
    let wire = bench.attach();
    wire.set(|wire| wire.window = 0);
    let all = bytes(400);
    wire.says(&all);
    bench.turns(5);
    assert_eq!(wire.borrow().interest, Interest::WRITE);
    wire.set(|wire| wire.window = usize::MAX);
    bench.turns(20);
    assert_eq!(wire.heard(), all);
    assert_eq!(wire.borrow().interest, Interest::READ);
    wire.ends();
    bench.turns(2);
    assert_eq!(bench.trace().last().unwrap(), "0 close Peer");
    bench.stop(0);
}

#[test]
fn a_socket_that_waits_for_a_block_goes_on_when_one_comes_back() {
    // The pool has two blocks, and one socket holds both.
    let mut bench = sender(&Config { output_blocks: 2, output_limit: 2, ..SMALL });
    let (greedy, waits) = (bench.attach(), bench.attach());
    greedy.set(|wire| wire.window = 0);
    bench.poller.post(greedy.token(), Note::new(128)).unwrap();
    bench.turn();
    waits.says(b"echo");
    bench.turn();
    assert_eq!(waits.heard(), b"");
    greedy.set(|wire| wire.window = usize::MAX);
    bench.turn();
    assert_eq!(bench.due(), Some(0), "blocks have been returned");
    while bench.due() == Some(0) {
        bench.turn();
    }
    assert_eq!(waits.heard(), b"echo");
    bench.stop(0);
}

#[test]
fn pieces_that_are_sent_one_by_one_are_as_one() {
    let other = Sent::Failed(ErrorKind::Other);
    // The result of each call; and for pieces of 3, 2 and 4 bytes, the combined result and the number of calls.
    for (returned, told, calls) in [
        (vec![Sent::Bytes(3), Sent::Bytes(2), Sent::Bytes(4)], Sent::Bytes(9), 3),
        (vec![Sent::Bytes(2)], Sent::Bytes(2), 1),
        (vec![Sent::Bytes(3), Sent::Bytes(1)], Sent::Bytes(4), 2),
        (vec![Sent::Bytes(3), Sent::Bytes(2), Sent::Bytes(3)], Sent::Bytes(8), 3),
        (vec![Sent::WouldBlock], Sent::WouldBlock, 1),
        (vec![Sent::InFlight], Sent::InFlight, 1),
        (vec![other], other, 1),
        (vec![Sent::Bytes(3), Sent::WouldBlock], Sent::Bytes(3), 2),
        (vec![Sent::Bytes(3), other], Sent::Bytes(3), 2),
        (vec![Sent::Bytes(3), Sent::Bytes(2), Sent::InFlight], Sent::Bytes(5), 3),
    ] {
        let mut results = returned.iter();
        let mut made = 0;
        let sent = send_one_by_one(&[b"abc", b"de", b"fghi"], |_| {
            made += 1;
            *results.next().expect("no call after a partial send")
        });
        assert_eq!((sent, made), (told, calls));
    }
}

#[test]
fn no_more_is_received_at_once_than_the_buffer_holds() {
    for (buffer, receives) in [(16, 7), (100, 1), (99, 2)] {
        let mut bench = Lone::with_buffer(&SMALL, AloneWithMail::new(), buffer);
        let wire = bench.attach();
        wire.says(&bytes(100));
        while !wire.borrow().to_poller.is_empty() {
            bench.turn();
        }
        assert_eq!((wire.heard(), wire.count("receive")), (bytes(100), receives));
        bench.stop(0);
    }
}
