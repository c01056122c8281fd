//! Tests each limit from both sides (buffers, pools, sockets), and that reaching one does not affect other sockets.

use crate::common::{self, ACCEPTED, Bench, Data, PEER, PLAIN, Peer, React, Wire, echo, nothing, on};
use core::cell::{Cell, RefCell};
use lightcone_core::{
    Action, AdmitError, CloseReason, Config, ErrorKind, Event, Full, Interest, Socket, Token,
};
use std::rc::Rc;

/// A handler that runs the test's closure when a message arrives.
struct Act(Rc<RefCell<React>>);

fn at_message(config: &Config) -> (Bench, Act) {
    let act = Rc::new(RefCell::new(Box::new(|_: &mut Socket<'_, Data>, _| {}) as React));
    let shared = act.clone();
    let react = on(Event::Message(0), move |socket| (shared.borrow_mut())(socket, Event::Message(0)));
    (Bench::new(config, react), Act(act))
}

impl Act {
    fn tell(
        &self,
        bench: &mut Bench,
        token: Token,
        mut what: impl FnMut(&mut Socket<'_, Data>) + 'static,
    ) -> Action {
        *self.0.borrow_mut() = Box::new(move |socket, _| what(socket));
        bench.message(token, 0).expect("the socket takes no messages")
    }
}

fn count(events: &[Event<u32>], which: Event<u32>) -> usize {
    events.iter().filter(|event| **event == which).count()
}

#[test]
fn output_is_bounded_by_its_limit_to_the_byte() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    let next = act.tell(&mut bench, token, |socket| {
        assert_eq!(socket.room(), 128);
        assert_eq!(socket.send(&[1; 129]), Err(Full));
        assert_eq!((socket.queued(), socket.room()), (0, 128), "nothing was queued");
        assert!(!socket.is_writable_pending(), "it would never fit");
        assert_eq!(socket.send(&[1; 128]), Ok(()));
        assert_eq!((socket.queued(), socket.room()), (128, 0));
        assert_eq!(socket.send(&[]), Ok(()));
        assert!(!socket.is_writable_pending());
        assert_eq!(socket.send(&[1]), Err(Full));
        assert!(socket.is_writable_pending());
        assert_eq!(socket.queued(), 128);
    });
    assert_eq!(next, Action::Send);
    assert_eq!(bench.outputs(token), [1; 128]);
    assert_eq!(bench.room(token), 0, "a socket with `writable` pending is not read");
}

#[test]
fn writable_comes_once_at_half_of_the_bound() {
    let (mut bench, act) = at_message(&Config { output_limit: 4, ..PLAIN });
    let token = bench.open();
    let _ = act.tell(&mut bench, token, |socket| {
        socket.send(&[1; 256]).unwrap();
        assert_eq!(socket.send(&[1]), Err(Full));
        assert_eq!(socket.send(&[1]), Err(Full));
    });
    bench.events();
    let _ = bench.tell(token, |conn| conn.sent(127));
    assert_eq!(bench.events(), []);
    let _ = bench.tell(token, |conn| conn.sent(1));
    assert_eq!(bench.events(), [Event::Writable]);
    let (_, next) = bench.flush(token);
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.events(), [Event::Sent]);
    assert_eq!(bench.turn(1), []);
}

#[test]
fn request_writable_brings_writable_once_and_not_within_the_callback() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    bench.events();
    let _ = act.tell(&mut bench, token, |socket| socket.split().1.request_writable());
    bench.turn(1);
    bench.turn(2);
    assert_eq!(bench.events(), [Event::Message(0), Event::Writable]);
    assert_eq!(bench.run(token), Action::Wait(Interest::READ));
}

/// The documentation of `Writable`: "at most half of the output limit is queued"; "there is room for output again".
#[test]
fn writable_means_room_whatever_the_limit() {
    for limit in 1..6 {
        for piece in 1..=64 {
            let mut bench =
                Bench::new(&Config { output_limit: limit, ..PLAIN }, move |socket, event| match event {
                    Event::Open => {
                        socket.send(&vec![1; limit * 64]).unwrap();
                        assert!(socket.send(&[2]).is_err());
                    }
                    Event::Writable => {
                        let (_, output, _) = socket.split();
                        assert!(output.queued() <= limit * 32, "limit {limit} piece {piece}");
                        assert!(output.room() > 0, "writable without room: limit {limit} piece {piece}");
                    }
                    _ => {}
                });
            let token = bench.open();
            let mut left = limit * 64;
            while left > 0 {
                let n = left.min(piece);
                left -= n;
                let _ = bench.tell(token, |conn| conn.sent(n));
            }
            assert_eq!(count(&bench.events(), Event::Writable), 1);
        }
    }
}

/// A handler whose send is refused within `writable` must not be called again and again.
#[test]
fn writable_never_spins() {
    for limit in 1..4 {
        let mut bench = Bench::new(&Config { output_limit: limit, ..PLAIN }, move |socket, event| {
            if matches!(event, Event::Open | Event::Writable) {
                while socket.send(&[1; 24]).is_ok() {}
            }
        });
        let token = bench.open();
        for at in 1..200 {
            let _ = bench.tell(token, |conn| conn.sent(1));
            bench.turn(at);
            bench.turn(at);
            assert_eq!(bench.shard.next_deadline(), None, "limit {limit}");
        }
    }
}

/// A send that needs more blocks than the pool has free, but does not exceed the limit.
#[test]
fn waiting_for_more_blocks_than_there_are_is_no_spin() {
    let config = Config { output_blocks: 3, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| match event {
        Event::Message(_) => socket.send(&[1; 128]).unwrap(),
        Event::Receive | Event::Writable => {
            let _ = socket.send(&[2; 100]);
        }
        _ => {}
    });
    let (holder, asker) = (bench.open(), bench.open());
    let _ = bench.message(holder, 0);
    let _ = bench.receive(asker, b"ask");
    for at in 1..100 {
        bench.turn(at);
    }
    let writable = count(&bench.events(), Event::Writable);
    assert!(writable <= 2, "{writable} `writable` events although nothing has changed");
    assert_eq!(bench.shard.next_deadline(), None, "nothing to wake up for");
    let _ = bench.flush(holder);
    bench.turn(100);
    bench.turn(100);
    assert_eq!(bench.outputs(asker), [2; 100]);
}

/// The limit of one socket exceeds the pool: a send larger than the whole pool can never fit either.
#[test]
fn a_send_beyond_the_whole_pool_does_not_wait_for_ever() {
    for (output_blocks, n) in [(1, 65), (1, 128), (2, 129), (2, 256)] {
        let config = Config { output_blocks, output_limit: 4, ..PLAIN };
        let mut bench = Bench::new(
            &config,
            on(Event::Open, move |socket| {
                assert_eq!(socket.send(&vec![1; n]), Err(Full));
                assert_eq!(socket.queued(), 0);
            }),
        );
        let token = bench.open();
        for at in 1..5 {
            bench.turn(at);
        }
        assert_eq!(bench.run(token), Action::Wait(Interest::READ), "{n} bytes of {output_blocks} blocks");
        assert_eq!(bench.shard.next_deadline(), None);
    }
}

/// The documentation of `sent`: "everything queued has reached the operating system". Input that a handler leaves
/// unconsumed is visible in every event, including `sent`.
#[test]
fn what_was_left_is_there_in_sent() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Receive => socket.send(b"answer").unwrap(),
        Event::Sent => {
            assert_eq!(socket.bytes(), b"left");
            socket.consume(4);
        }
        _ => {}
    });
    let token = bench.open();
    assert_eq!(bench.receive(token, b"left"), Action::Send);
    let _ = bench.flush(token);
    assert_eq!(bench.last().event, Event::Sent);
    assert_eq!(bench.last().unread, 4);
}

#[test]
fn no_sent_comes_when_writable_has_queued_more() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Open => {
            socket.send(&[1; 128]).unwrap();
            assert!(socket.send(&[2; 100]).is_err());
        }
        Event::Writable => socket.send(&[2; 100]).unwrap(),
        Event::Sent => assert_eq!(socket.queued(), 0, "`sent` with bytes still queued"),
        _ => {}
    });
    let token = bench.open();
    let (_, next) = bench.flush(token);
    assert_eq!(next, Action::Send);
    let (bytes, next) = bench.flush(token);
    assert_eq!((bytes.len(), next), (100, Action::Wait(Interest::READ)));
    assert_eq!(bench.events(), [Event::Open, Event::Writable, Event::Sent]);
}

#[test]
fn no_sent_comes_when_receive_has_queued_more() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Receive => {
            socket.send(b"answer").unwrap();
            socket.consume_all();
        }
        Event::Sent => assert_eq!(socket.queued(), 0, "`sent` with bytes still queued"),
        _ => {}
    });
    let token = bench.open();
    assert_eq!(bench.receive(token, b"one"), Action::Send);
    let next = bench.tell(token, |conn| {
        conn.sent(6);
        conn.received(common::lent(b"two"));
    });
    assert_eq!(next, Action::Send);
    assert_eq!(bench.flush(token).1, Action::Wait(Interest::READ));
    assert_eq!(bench.last().event, Event::Sent);
}

/// Among the events due at one connection, one that comes before `writable` may use up the room.
#[test]
fn writable_waits_when_receive_has_filled_the_output_again() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Open | Event::Receive => {
            while socket.send(&[1; 32]).is_ok() {}
            socket.consume_all();
        }
        Event::Writable => assert!(socket.queued() <= 64, "writable with {} queued", socket.queued()),
        _ => {}
    });
    let token = bench.open();
    let _ = bench.tell(token, |conn| {
        conn.sent(64);
        conn.received(common::lent(b"more"));
    });
    let _ = bench.flush(token);
    let events = bench.events();
    assert_eq!(count(&events, Event::Writable), 1, "{events:?}");
}

#[test]
fn a_full_input_buffer_pauses_reading_and_consuming_resumes_it() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    assert_eq!(bench.room(token), 64);
    assert_eq!(bench.receive(token, &[1; 63]), Action::Wait(Interest::READ));
    assert_eq!(bench.room(token), 1);
    assert_eq!(bench.receive(token, &[2]), Action::Wait(Interest::NONE));
    assert_eq!(bench.room(token), 0);
    let next = act.tell(&mut bench, token, |socket| {
        assert_eq!((socket.bytes().len(), socket.capacity()), (64, 64));
        socket.consume(10);
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.room(token), 10);
    assert_eq!(bench.receive(token, &[3; 10]), Action::Wait(Interest::NONE));
    let next = act.tell(&mut bench, token, |socket| {
        assert_eq!(socket.bytes()[..53], [1; 53]);
        assert_eq!(socket.bytes()[53], 2);
        assert_eq!(socket.bytes()[54..], [3; 10]);
        socket.consume(64);
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.room(token), 64);
}

#[test]
fn a_large_block_holds_what_a_small_one_does_not() {
    let (mut bench, act) = at_message(&Config { receive_blocks: 1, ..PLAIN });
    let token = bench.open();
    assert_eq!(bench.room(token), 256);
    let mut all = Vec::new();
    for n in [60, 5, 100, 91] {
        all.extend((0..n).map(|i| i as u8));
        let at = all.len() - n;
        let _ = bench.receive(token, &all[at..]);
    }
    assert_eq!(bench.room(token), 0);
    let next = act.tell(&mut bench, token, move |socket| {
        assert_eq!(socket.bytes(), all);
        assert_eq!(socket.capacity(), 256);
        socket.consume(200);
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.room(token), 200);
}

#[test]
#[should_panic(expected = "received 65 bytes with room for 64")]
fn receiving_beyond_the_room_panics() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let _ = bench.receive(token, &[0; 65]);
}

#[test]
#[should_panic(expected = "received 2 bytes with room for 1")]
fn receiving_beyond_the_room_after_kept_bytes_panics() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let _ = bench.receive(token, &[0; 63]);
    let _ = bench.receive(token, &[0; 2]);
}

#[test]
#[should_panic(expected = "consume(4) with 3 unconsumed bytes")]
fn consuming_more_than_there_is_panics() {
    let mut bench = Bench::new(&PLAIN, on(Event::Receive, |socket| socket.consume(4)));
    let token = bench.open();
    let _ = bench.receive(token, b"abc");
}

#[test]
#[should_panic(expected = "consume(2) with 1 unconsumed bytes")]
fn consuming_twice_counts_together() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            socket.consume(2);
            socket.split().0.consume(2);
        }),
    );
    let token = bench.open();
    let _ = bench.receive(token, b"abc");
}

#[test]
#[should_panic(expected = "commit(65)")]
fn committing_more_than_was_reserved_panics() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, |socket| {
            let (_, mut output, _) = socket.split();
            output.reserve(64).unwrap();
            output.commit(65);
        }),
    );
    bench.open();
}

#[test]
#[should_panic(expected = "sent(3) with 2 bytes queued")]
fn more_sent_than_queued_panics() {
    let mut bench = Bench::new(&PLAIN, on(Event::Open, |socket| socket.send(b"ab").unwrap()));
    let token = bench.open();
    let _ = bench.tell(token, |conn| conn.sent(3));
}

/// There is no room for bytes after the end of stream, and they are never delivered.
#[test]
#[should_panic(expected = "received 1 bytes with room for 0")]
fn receiving_after_the_end_of_the_stream_panics() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let _ = bench.tell(token, |conn| conn.peer_ended());
    assert_eq!(bench.room(token), 0);
    let _ = bench.receive(token, b"x");
}

#[test]
fn a_block_is_the_most_that_is_reserved() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    let next = act.tell(&mut bench, token, |socket| {
        let (_, mut output, _) = socket.split();
        assert_eq!(output.reserve(65).err(), Some(Full));
        output.reserve(64).unwrap().fill(1);
        output.commit(40);
        output.reserve(30).unwrap().fill(2);
        output.commit(30);
        assert_eq!(output.spare().len(), 34);
        assert_eq!(output.queued(), 70);
    });
    assert_eq!(next, Action::Send);
    assert_eq!(bench.outputs(token), [vec![1; 40], vec![2; 30]].concat());
}

#[test]
fn blocks_that_were_only_reserved_come_back() {
    let config = Config { output_blocks: 1, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (one, two) = (bench.open(), bench.open());
    let next = act.tell(&mut bench, one, |socket| {
        assert_eq!(socket.split().1.reserve(10).unwrap().len(), 10);
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    let next = act.tell(&mut bench, two, |socket| assert_eq!(socket.send(&[1; 64]), Ok(())));
    assert_eq!(next, Action::Send);
}

#[test]
fn without_an_input_block_a_socket_is_not_read_from_and_others_are() {
    let config = Config { input_blocks: 2, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (one, two, three) = (bench.open(), bench.open(), bench.open());
    assert_eq!(bench.receive(one, b"left"), Action::Wait(Interest::READ));
    assert_eq!(bench.receive(two, b"left"), Action::Wait(Interest::READ));
    assert_eq!(bench.run(three), Action::Wait(Interest::NONE));
    assert_eq!(bench.room(three), 0);
    assert_eq!(bench.room(one), 60, "a socket that holds a block is read further");
    assert_eq!(bench.receive(one, b"more"), Action::Wait(Interest::READ));
    assert_eq!(bench.shard.next_deadline(), None, "nothing to wake up for");

    let _ = act.tell(&mut bench, two, |socket| socket.consume(4));
    assert!(bench.shard.next_deadline().is_some(), "a block is free and a socket waits for it");
    let orders = bench.turn(1);
    assert!(orders.contains(&(three, Action::Wait(Interest::READ))), "{orders:?}");
    assert_eq!(bench.room(three), 64);
}

/// A socket that waits for an input block is served even if other sockets hold all output blocks.
#[test]
fn reading_resumes_while_the_output_pool_is_exhausted() {
    let config = Config { input_blocks: 1, output_blocks: 2, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (stalled, holder, waiter) = (bench.open(), bench.open(), bench.open());
    let _ = act.tell(&mut bench, stalled, |socket| socket.send(&[1; 128]).unwrap());
    let _ = bench.tell(stalled, |conn| conn.would_block());
    let _ = bench.receive(holder, b"left");
    assert_eq!(bench.run(waiter), Action::Wait(Interest::NONE));
    let _ = act.tell(&mut bench, holder, |socket| socket.consume(4));
    assert!(bench.shard.next_deadline().is_some(), "a block is free and a socket waits for it");
    let orders = bench.turn(1);
    assert!(orders.contains(&(waiter, Action::Wait(Interest::READ))), "{orders:?}");
}

/// A socket that waits for an output block is served even if all input blocks are held, and even if it holds one
/// itself: its request stays in the input until the socket can respond.
#[test]
fn writable_comes_while_the_input_pool_is_exhausted() {
    let config = Config { input_blocks: 1, output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| match event {
        Event::Message(_) => socket.send(&[1; 128]).unwrap(),
        Event::Receive | Event::Writable if socket.send(b"answer").is_ok() => socket.consume(4),
        _ => {}
    });
    let (holder, asker) = (bench.open(), bench.open());
    let _ = bench.message(holder, 0);
    assert_eq!(bench.receive(asker, b"ask!"), Action::Wait(Interest::NONE));
    let _ = bench.flush(holder);
    assert!(bench.shard.next_deadline().is_some(), "blocks are free and a socket waits for one");
    bench.turn(1);
    bench.turn(1);
    assert_eq!(bench.outputs(asker), b"answer");
}

/// A socket with a full small block waits for a large one; a free small block must not wake it.
#[test]
fn waiting_for_a_large_block_is_no_spin() {
    let config = Config { receive_blocks: 1, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (holder, waiter) = (bench.open(), bench.open());
    assert_eq!(bench.receive(holder, &[1; 65]), Action::Wait(Interest::READ));
    assert_eq!(bench.room(waiter), 64);
    assert_eq!(bench.receive(waiter, &[1; 64]), Action::Wait(Interest::NONE));
    for at in 1..10 {
        bench.turn(at);
    }
    assert_eq!(bench.shard.next_deadline(), None, "nothing has changed for it");
    let _ = act.tell(&mut bench, holder, |socket| socket.consume(65));
    let orders = bench.turn(20);
    assert!(orders.contains(&(waiter, Action::Wait(Interest::READ))), "{orders:?}");
    assert_eq!(bench.room(waiter), 192);
}

#[test]
fn an_exhausted_output_pool_refuses_and_writable_comes_when_blocks_return() {
    let config = Config { output_blocks: 2, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (holder, empty) = (bench.open(), bench.open());
    let _ = act.tell(&mut bench, holder, |socket| socket.send(&[1; 128]).unwrap());
    let next = act.tell(&mut bench, empty, |socket| {
        assert_eq!(socket.room(), 0);
        assert_eq!(socket.send(&[2]), Err(Full));
        assert!(socket.is_writable_pending());
    });
    assert_eq!(next, Action::Wait(Interest::NONE));
    bench.events();
    bench.turn(1);
    assert_eq!(bench.events(), []);
    assert_eq!(bench.shard.next_deadline(), None, "nothing to wake up for");
    let _ = bench.flush(holder);
    assert!(bench.shard.next_deadline().is_some());
    bench.turn(2);
    bench.turn(2);
    assert_eq!(bench.events(), [Event::Sent, Event::Writable]);
    assert_eq!(bench.run(empty), Action::Wait(Interest::READ));
    assert_eq!(bench.turn(3), []);
    assert_eq!(bench.events(), []);
}

/// A returned block is offered to one waiting socket after another until one takes it.
#[test]
fn a_socket_that_takes_no_granted_block_yields_to_the_next() {
    let config = Config { output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| match event {
        Event::Message(_) => {
            let _ = socket.send(&[1; 128]);
        }
        Event::Writable if socket.data.id == 3 => socket.send(b"at last").unwrap(),
        _ => {}
    });
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    for token in &tokens {
        let _ = bench.message(*token, 0);
    }
    let _ = bench.tell(tokens[0], |conn| conn.sent(64));
    for at in 1..20 {
        bench.turn(at);
    }
    assert_eq!(bench.outputs(tokens[3]), b"at last");
    let _ = bench.flush(tokens[0]);
    let _ = bench.flush(tokens[3]);
    bench.turn(20);
    bench.turn(20);
    assert_eq!(bench.shard.next_deadline(), None);
    for token in tokens {
        assert_eq!(bench.run(token), Action::Wait(Interest::READ));
    }
}

/// Sockets that need more than one block get one `writable` each when a single block returns, not one per turn.
#[test]
fn a_socket_that_needs_more_blocks_than_were_returned_is_not_served_repeatedly() {
    let config = Config { output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        if matches!(event, Event::Message(_) | Event::Writable) {
            let _ = socket.send(&[1; 128]);
        }
    });
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    for token in &tokens {
        let _ = bench.message(*token, 0);
    }
    let _ = bench.tell(tokens[0], |conn| conn.sent(64));
    bench.events();
    let mut turns = 0;
    while bench.shard.next_deadline().is_some() {
        bench.turn(1);
        turns += 1;
        assert!(turns < 10, "the shard never sleeps: {:?}", bench.events());
    }
    assert_eq!(count(&bench.events(), Event::Writable), 3);
    let _ = bench.tell(tokens[0], |conn| conn.sent(64));
    bench.turn(1);
    bench.turn(1);
    let served: usize = tokens[1..].iter().map(|token| bench.outputs(*token).len()).sum();
    assert_eq!(served, 128, "with both blocks free, one socket is served");
}

#[test]
fn want_room_is_not_answered_before_something_has_changed() {
    let config = Config { output_blocks: 4, output_limit: 4, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (one, other) = (bench.open(), bench.open());
    let _ = act.tell(&mut bench, other, |socket| socket.send(&[1; 64]).unwrap());
    let _ = act.tell(&mut bench, one, |socket| {
        socket.send(&[1; 128]).unwrap();
        let (_, mut output, _) = socket.split();
        assert_eq!(output.room(), 64, "although half of the limit is free");
        output.request_writable_for(65);
    });
    bench.events();
    bench.turn(1);
    assert_eq!((bench.events(), bench.shard.next_deadline()), (vec![], None));
    let _ = bench.tell(one, |conn| conn.sent(1));
    assert_eq!(bench.events(), [Event::Writable]);
    let _ = act.tell(&mut bench, one, |socket| socket.split().1.request_writable_for(64));
    bench.turn(2);
    assert_eq!(bench.events(), [Event::Message(0), Event::Writable], "room: as `request_writable`");
    let _ = bench.flush(one);
    bench.events();
    let _ = act.tell(&mut bench, one, |socket| socket.split().1.request_writable_for(4 * 64 + 1));
    bench.turn(3);
    assert_eq!(bench.events(), [Event::Message(0), Event::Writable], "never: as `request_writable`");
}

/// The same for input: a block that is granted but receives no bytes does not keep other sockets from being read.
#[test]
fn a_socket_that_may_read_and_gets_nothing_keeps_no_other_from_reading() {
    let config = Config { input_blocks: 1, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    let _ = bench.receive(tokens[0], b"left");
    let read: Vec<Action> = tokens[1..].iter().map(|token| bench.run(*token)).collect();
    assert_eq!(read, [Action::Wait(Interest::NONE); 3]);
    let _ = act.tell(&mut bench, tokens[0], |socket| socket.consume(4));
    let mut told = Vec::new();
    for at in 1..20 {
        told.extend(bench.turn(at));
    }
    for token in &tokens[1..] {
        assert!(told.contains(&(*token, Action::Wait(Interest::READ))), "{told:?}");
    }
}

#[test]
fn every_starving_socket_gets_its_turn() {
    let config = Config { sockets: 8, output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        let bytes = [socket.data.id as u8; 128];
        if matches!(event, Event::Message(_) | Event::Writable) {
            let _ = socket.send(&bytes);
        }
    });
    let tokens: Vec<Token> = (0..8).map(|_| bench.open()).collect();
    for token in &tokens {
        let _ = bench.message(*token, 0);
    }
    let mut served = Vec::new();
    for at in 1..50 {
        for token in &tokens {
            if let Some(first) = bench.outputs(*token).first().copied() {
                served.push(first);
                let _ = bench.flush(*token);
            }
        }
        bench.turn(at);
    }
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(bench.shard.next_deadline(), None);
}

#[test]
fn a_full_table_refuses_without_asking_the_handler() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    assert!(!bench.shard.has_room());
    assert_eq!(bench.shard.in_use(), 4);
    assert_eq!(bench.admit(), Err(AdmitError::Full));
    assert_eq!(bench.shard.reserve(), None);
    assert_eq!(bench.handler.inner().admitted, 4, "`admit` was not called");
    assert_eq!(bench.shard.stats().rejected, 1);
    assert_eq!(bench.tell(tokens[2], |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    assert!(bench.shard.has_room());
    let again = bench.admit().unwrap();
    assert_eq!(again.index(), tokens[2].index());
    assert_eq!(bench.admit(), Err(AdmitError::Full));
}

/// When `has_room` returns true, `admit` succeeds. A socket that ended while it was in a queue counts as room.
#[test]
fn a_socket_that_ended_while_it_was_put_off_makes_room_at_once() {
    let mut bench = Bench::new(&Config { sockets: 1, ..PLAIN }, nothing);
    let token = bench.open();
    bench.shard.connection(token).unwrap().defer();
    assert_eq!(bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    assert_eq!((bench.shard.in_use(), bench.shard.has_room()), (0, true));
    assert!(bench.admit().is_ok());
}

#[test]
fn a_socket_that_ended_while_it_starved_makes_room_at_once() {
    let config = Config { sockets: 2, output_blocks: 2, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (holder, empty) = (bench.open(), bench.open());
    let _ = act.tell(&mut bench, holder, |socket| socket.send(&[1; 128]).unwrap());
    let _ = act.tell(&mut bench, empty, |socket| assert!(socket.send(&[2]).is_err()));
    assert_eq!(bench.tell(empty, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    assert_eq!((bench.shard.in_use(), bench.shard.has_room()), (1, true));
    bench.turn(1);
    assert!(bench.admit().is_ok());
}

#[test]
fn reserved_places_count_and_can_be_released() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let tokens: Vec<Token> = (0..4).map(|_| bench.shard.reserve().unwrap()).collect();
    assert_eq!((bench.shard.in_use(), bench.shard.has_room()), (4, false));
    assert_eq!(bench.admit(), Err(AdmitError::Full));
    bench.shard.release_slot(tokens[1]);
    assert_eq!(bench.shard.in_use(), 3);
    bench.shard.release_slot(tokens[1]);
    assert_eq!(bench.shard.in_use(), 3, "the second call has no effect");
    let token = bench.open();
    assert_eq!(token.index(), tokens[1].index());
    bench.shard.release_slot(token);
    assert_eq!(bench.shard.in_use(), 4, "an open socket cannot be given back");
    assert_eq!(bench.shard.dial(&mut bench.handler, token, 1, &PEER), Err(AdmitError::Full));
    assert_eq!(bench.shard.in_use(), 4, "nor can it be dialled");
    assert_eq!(bench.shard.dial(&mut bench.handler, tokens[1], 1, &PEER), Err(AdmitError::Full));

    assert_eq!(bench.shard.dial(&mut bench.handler, tokens[0], 1, &PEER), Ok(()));
    bench.handler.inner_mut().admits = false;
    assert_eq!(bench.shard.dial(&mut bench.handler, tokens[2], 2, &PEER), Err(AdmitError::Handler));
    assert_eq!(bench.shard.in_use(), 3, "the slot of a refused connect is given back");
    assert!(bench.shard.connection(tokens[2]).is_none());
}

#[test]
fn the_handler_turns_away() {
    let mut bench = Bench::new(&PLAIN, nothing);
    bench.handler.inner_mut().admits = false;
    assert_eq!(bench.shard.admit(&mut bench.handler, ACCEPTED, &PEER), Err(AdmitError::Handler));
    assert_eq!((bench.shard.in_use(), bench.shard.stats().rejected), (0, 1));
    bench.is_clean();
    assert_eq!(bench.events(), []);
}

#[test]
fn a_handler_that_never_consumes_costs_its_own_block_alone() {
    let mut wire = Wire::new(Bench::new(&PLAIN, |socket, event| {
        if socket.token().index() > 0 {
            echo(socket, event);
        }
    }));
    let deaf = wire.accept(Peer::new(&[1; 1000], true));
    let other = wire.accept(Peer::new(&[2; 1000], true));
    wire.settle();
    assert_eq!(wire.peers[&deaf].sends.len(), 1000 - 64, "the rest waits at the peer");
    let (gone, peer) = wire.gone.pop().unwrap();
    assert_eq!((gone, peer.got), (other, vec![2; 1000]));
    assert_eq!(wire.bench.seen().iter().filter(|seen| seen.id == 0).count(), 2, "open and one receive");
}

#[test]
fn pausing_stops_reading_and_resuming_goes_on() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    let next = act.tell(&mut bench, token, |socket| {
        socket.pause();
        assert!(socket.is_paused());
    });
    assert_eq!(next, Action::Wait(Interest::NONE));
    assert_eq!(bench.room(token), 0);
    let next = act.tell(&mut bench, token, |socket| {
        socket.resume();
        assert!(!socket.is_paused());
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.room(token), 64);
}

#[test]
fn nothing_at_all_is_no_event() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    bench.events();
    assert_eq!(bench.receive(token, &[]), Action::Wait(Interest::READ));
    assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Wait(Interest::READ));
    assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Wait(Interest::READ));
    assert_eq!(bench.events(), []);
    let next = act.tell(&mut bench, token, |socket| {
        socket.consume(0);
        assert_eq!(socket.send(&[]), Ok(()));
        let (mut input, mut output, _) = socket.split();
        input.consume(0);
        assert_eq!(output.send_some(&[]), 0);
        assert_eq!(output.reserve(0).map(|to| to.len()), Ok(0));
        output.commit(0);
        output.write_fmt(format_args!("")).unwrap();
        let mark = output.mark();
        output.rewind(mark);
        assert_eq!(output.queued(), 0);
    });
    assert_eq!(next, Action::Wait(Interest::READ));
    assert_eq!(bench.events(), [Event::Message(0)]);
    let mut conn = bench.shard.connection(token).unwrap();
    assert_eq!(conn.outputs(&mut []), 0);
    assert_eq!(conn.outputs(&mut [&[], &[]]), 0);
    assert_eq!(conn.finish(), Action::Wait(Interest::READ));
    let next = act.tell(&mut bench, token, |socket| socket.send(b"x").unwrap());
    assert_eq!(next, Action::Send);
    let mut conn = bench.shard.connection(token).unwrap();
    assert_eq!(conn.outputs(&mut []), 0);
    assert_eq!(conn.finish(), Action::Send);
    assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Send);
    let stats = *bench.shard.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out, stats.bytes_lost), (0, 0, 0));
}

#[test]
fn a_zero_length_send_takes_no_block() {
    let config = Config { output_blocks: 1, output_limit: 1, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let (one, two) = (bench.open(), bench.open());
    let _ = act.tell(&mut bench, one, |socket| {
        socket.send(&[]).unwrap();
        let _ = socket.split().1.reserve(0);
    });
    let next = act.tell(&mut bench, two, |socket| socket.send(&[1; 64]).unwrap());
    assert_eq!(next, Action::Send);
}

#[test]
fn a_rewind_returns_every_block() {
    let config = Config { output_blocks: 4, output_limit: 4, ..PLAIN };
    let (mut bench, act) = at_message(&config);
    let token = bench.open();
    for before in [0, 1, 63, 64, 65, 128] {
        let next = act.tell(&mut bench, token, move |socket| {
            let (_, mut output, _) = socket.split();
            output.send(&vec![1; before]).unwrap();
            let (mark, room) = (output.mark(), output.room());
            for n in [0, 1, 63, 64, 65, 127, 128] {
                output.send(&vec![9; n]).unwrap();
                output.rewind(mark);
                assert_eq!((output.queued(), output.room()), (before, room), "{before} {n}");
            }
            output.send(&[2; 10]).unwrap();
        });
        assert_eq!(next, Action::Send);
        let (bytes, next) = bench.flush(token);
        assert_eq!(bytes, [vec![1; before], vec![2; 10]].concat());
        assert_eq!(next, Action::Wait(Interest::READ));
        let _ = act.tell(&mut bench, token, |socket| assert_eq!(socket.room(), 256));
    }
}

#[test]
fn formatted_output_is_all_or_nothing() {
    let (mut bench, act) = at_message(&PLAIN);
    let token = bench.open();
    let _ = act.tell(&mut bench, token, |socket| {
        let (_, mut output, _) = socket.split();
        output.send(&[b'-'; 120]).unwrap();
        assert_eq!(write!(output, "{}{}", "12345", 6789), Err(Full));
        assert_eq!(output.queued(), 120);
        write!(output, "{}{}", 1234, 5678).unwrap();
        assert_eq!(output.room(), 0);
    });
    assert!(bench.outputs(token).ends_with(b"-12345678"));
}

#[test]
fn messages_reach_only_open_sockets() {
    let seen = Rc::new(Cell::new(0));
    let at = seen.clone();
    let mut bench = Bench::new(&PLAIN, on(Event::Message(0), move |_| at.set(at.get() + 1)));
    let token = bench.dial(1);
    assert_eq!(bench.message(token, 1), Err(1), "a connecting socket");
    let open = bench.open();
    assert_eq!(bench.message(open, 2), Ok(Action::Wait(Interest::READ)));
    let _ = bench.tell(open, |conn| conn.abort_with(CloseReason::Reset));
    assert_eq!(bench.message(open, 3), Err(3), "a closed socket");
    assert_eq!(seen.get(), 1);
}

/// Creates two sockets and one output block, which the first socket holds.
fn one_block_held(
    config: &Config,
    react: impl FnMut(&mut Socket<'_, Data>, Event<u32>) + 'static,
) -> (Bench, Token, Token) {
    let mut bench = Bench::new(&Config { output_blocks: 1, output_limit: 2, ..*config }, react);
    let (holds, wants) = (bench.open(), bench.open());
    assert_eq!(bench.message(holds, 0), Ok(Action::Send));
    bench.events();
    (bench, holds, wants)
}

#[test]
fn no_receive_comes_while_writable_is_pending() {
    let (mut bench, holds, wants) = one_block_held(&PLAIN, |socket, event| {
        if matches!(event, Event::Message(0) | Event::Receive) {
            let _ = socket.send(b"answer");
        }
    });
    assert_eq!(bench.receive(wants, b"question"), Action::Wait(Interest::NONE));
    let _ = bench.flush(holds);
    assert_eq!(bench.room(wants), 0);
    // The block has been returned: `writable` is delivered, and then the socket is read.
    assert_eq!(bench.turn(0), [(wants, Action::Wait(Interest::READ))]);
    assert_eq!(count(&bench.events(), Event::Writable), 1);
}

#[test]
fn what_was_not_consumed_is_there_in_sent() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if event == Event::Receive {
            socket.consume(3);
            assert_eq!(socket.send(b"abc"), Ok(()));
        }
    });
    let token = bench.open();
    assert_eq!(bench.receive(token, b"abcdef"), Action::Send);
    let _ = bench.flush(token);
    assert_eq!((bench.last().event, bench.last().unread), (Event::Sent, 3));
}

#[test]
fn a_socket_that_needs_more_than_is_free_does_not_keep_the_shard_awake() {
    // 128 bytes are never free while the other socket holds a block, but 64 are.
    type Attempt = fn(&mut Socket<'_, Data>);
    let by_sending: Attempt = |socket| {
        let _ = socket.send(&[1; 128]);
    };
    let by_wanting: Attempt = |socket| {
        if socket.room() < 128 {
            socket.split().1.request_writable();
        }
    };
    let by_writing: Attempt = |socket| {
        let (mut output, text) = (socket.split().1, "x".repeat(100));
        let _ = write!(output, "{text}{}", 7);
    };
    for attempt in [by_sending, by_wanting, by_writing] {
        let config = Config { output_blocks: 2, output_limit: 2, ..PLAIN };
        let mut bench = Bench::new(&config, move |socket, event| match event {
            Event::Message(0) => assert_eq!(socket.send(&[1; 64]), Ok(())),
            Event::Message(1) | Event::Writable => attempt(socket),
            _ => {}
        });
        let (holds, wants) = (bench.open(), bench.open());
        assert_eq!(bench.message(holds, 0), Ok(Action::Send));
        let _ = bench.message(wants, 1);
        let mut turns = 0;
        while bench.shard.next_deadline().is_some() {
            bench.turn(0);
            turns += 1;
            assert!(turns < 10, "woken again and again");
        }
        // After the block is returned, the socket makes progress.
        let _ = bench.flush(holds);
        let before = count(&bench.events(), Event::Writable);
        for _ in 0..3 {
            bench.turn(0);
        }
        assert_eq!(count(&bench.events(), Event::Writable), 1, "after {before}");
    }
}

#[test]
fn a_waiting_socket_gets_writable_when_those_before_it_take_no_block() {
    let mut bench =
        Bench::new(&Config { sockets: 8, output_blocks: 1, output_limit: 1, ..PLAIN }, |socket, event| {
            let first = socket.data.id == 0;
            if first && event == Event::Message(0) || !first && event == Event::Message(1) {
                let _ = socket.send(b"x");
            }
        });
    let tokens: Vec<_> = (0..6).map(|_| bench.open()).collect();
    assert_eq!(bench.message(tokens[0], 0), Ok(Action::Send));
    for token in &tokens[1..] {
        let _ = bench.message(*token, 1);
    }
    bench.events();
    let _ = bench.flush(tokens[0]);
    let mut turns = 0;
    while bench.shard.next_deadline().is_some() {
        bench.turn(0);
        turns += 1;
        assert!(turns < 50, "woken again and again");
    }
    assert_eq!(count(&bench.events(), Event::Writable), 5);
}

#[test]
fn want_is_of_no_use_after_finish() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Message(0) => socket.finish(),
        Event::Message(1) => socket.split().1.request_writable(),
        _ => {}
    });
    let token = bench.open();
    assert_eq!(bench.message(token, 0), Ok(Action::ShutdownWrite));
    let _ = bench.tell(token, |conn| conn.write_shut_down());
    let _ = bench.message(token, 1);
    bench.turn(0);
    assert_eq!(count(&bench.events(), Event::Writable), 0);
}
