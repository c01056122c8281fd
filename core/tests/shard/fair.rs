//! Pools are fair: sockets get blocks in the order in which they began to wait, regardless of how much the others send,
//! and a small response and a small request are always possible.

use crate::common::{Bench, Data, PLAIN, nothing};
use core::cell::RefCell;
use lightcone_core::{Action, Config, Event, Interest, Socket, Token};
use std::rc::Rc;

const READ: Action = Action::Wait(Interest::READ);

/// Queues as much as possible.
fn greedy(socket: &mut Socket<'_, Data>) {
    let id = socket.data.id as u8;
    let _ = socket.split().1.send_some(&[id; 4_096]);
}

/// Leaves input unconsumed until a message.
fn consume_at_a_message(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if matches!(event, Event::Message(_)) {
        socket.consume_all();
    }
}

/// Sends one byte at a message, and at `writable` if it was refused.
fn modest(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if matches!(event, Event::Message(_) | Event::Writable) {
        let id = socket.data.id as u8;
        let _ = socket.send(&[id]);
    }
}

#[test]
fn senders_that_are_never_full_leave_a_block_to_others() {
    let config = Config { sockets: 3, output_blocks: 8, output_limit: 4, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| match (socket.data.id, event) {
        (0 | 1, Event::Message(_) | Event::Writable | Event::Sent) => greedy(socket),
        (2, _) => modest(socket, event),
        _ => {}
    });
    let [a, b, small] = [bench.open(), bench.open(), bench.open()];
    let _ = bench.message(a, 0);
    let _ = bench.message(b, 0);
    for turn in 0..100 {
        let _ = bench.tell(a, |conn| conn.sent(64));
        let _ = bench.tell(b, |conn| conn.sent(64));
        bench.turn(turn);
        assert_eq!(bench.message(small, 0), Ok(Action::Send), "at once, in turn {turn}");
        assert_eq!(bench.flush(small).0, [2]);
        assert!(
            bench.outputs(a).len().min(bench.outputs(b).len()) > 64,
            "no socket gets less than its share"
        );
    }
    assert_eq!(bench.shard.stats().output_shortages, 0);
}

/// If the pool has a block for each socket in addition to the shared ones, a socket without a block gets one at once,
/// regardless of what the others hold.
#[test]
fn a_first_block_is_there_for_every_socket() {
    let config = Config { sockets: 64, output_blocks: 128, output_limit: 8, ..PLAIN };
    for greedy_ones in [1, 5, 20, 63] {
        let mut bench = Bench::new(&config, move |socket, event| match event {
            Event::Message(_) | Event::Writable if socket.data.id < greedy_ones => greedy(socket),
            _ => modest(socket, event),
        });
        let tokens: Vec<Token> = (0..64).map(|_| bench.open()).collect();
        for round in 0..3 {
            for token in &tokens {
                let _ = bench.message(*token, 0);
            }
            bench.turn(round);
            let held: Vec<usize> =
                tokens[..greedy_ones].iter().map(|token| bench.outputs(*token).len() / 64).collect();
            assert!(held.iter().all(|held| (1..=8).contains(held)), "{held:?}");
            for token in &tokens[greedy_ones..] {
                assert_eq!(
                    bench.flush(*token).0.len(),
                    1,
                    "with {greedy_ones} greedy sockets that hold {held:?}"
                );
            }
        }
    }
}

#[test]
fn shares_are_equal_if_all_take_what_they_can() {
    let config = Config { sockets: 40, output_blocks: 160, output_limit: 32, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        if matches!(event, Event::Message(_)) {
            let _ = socket.send(&[1; 64]); // one block at a time
        }
    });
    let tokens: Vec<Token> = (0..40).map(|_| bench.open()).collect();
    for _ in 0..40 {
        for token in &tokens {
            let _ = bench.message(*token, 0);
        }
    }
    let held: Vec<usize> = tokens.iter().map(|token| bench.outputs(*token).len() / 64).collect();
    let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
    assert!(most - least <= 1, "{held:?}");
    assert!(*least >= 2, "{held:?}");
}

/// Twelve sockets compete for four blocks. One block at a time is returned, by a random holder, which requests another
/// one at once.
#[test]
fn blocks_go_to_the_socket_that_has_waited_longest() {
    let config = Config { sockets: 12, output_blocks: 4, output_limit: 1, ..PLAIN };
    let served = Rc::new(RefCell::new(Vec::new()));
    let order = served.clone();
    let mut bench = Bench::new(&config, move |socket, event| {
        let asks = matches!(event, Event::Message(_) | Event::Writable | Event::Sent);
        if asks && socket.send(&[0; 64]).is_ok() {
            order.borrow_mut().push(socket.data.id);
        }
    });
    let tokens: Vec<Token> = (0..12).map(|_| bench.open()).collect();
    for token in &tokens {
        let _ = bench.message(*token, 0);
    }
    assert_eq!(*served.borrow(), [0, 1, 2, 3]);
    let mut seed = 1_u32;
    for turn in 0..1_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let holders: Vec<Token> =
            tokens.iter().copied().filter(|token| !bench.outputs(*token).is_empty()).collect();
        assert_eq!(holders.len(), 4);
        let _ = bench.flush(holders[(seed >> 8) as usize % 4]);
        bench.turn(turn);
    }
    let served = served.borrow();
    assert_eq!(served.len(), 1_004);
    for (at, id) in served.iter().enumerate() {
        // Eight sockets wait, so none is served twice before the seven that waited with it.
        let before = &served[at.saturating_sub(8)..at];
        assert!(!before.contains(id), "at {at}: {id} after {before:?}");
    }
    assert_eq!(bench.shard.stats().output_shortages, 8 + 1_000);
}

#[test]
fn a_newcomer_does_not_overtake() {
    let config = Config { sockets: 3, output_blocks: 1, output_limit: 1, ..PLAIN };
    let mut bench = Bench::new(&config, modest);
    let [holds, waits, newcomer] = [bench.open(), bench.open(), bench.open()];
    let _ = bench.message(holds, 0);
    assert_eq!(bench.message(waits, 0), Ok(Action::Wait(Interest::NONE)));
    let _ = bench.flush(holds);
    assert_eq!(bench.message(newcomer, 0), Ok(Action::Wait(Interest::NONE)), "the block is for `waits`");
    bench.turn(1);
    assert_eq!((bench.outputs(waits), bench.outputs(newcomer)), (vec![1], vec![]));
    let _ = bench.flush(waits);
    bench.turn(2);
    assert_eq!(bench.outputs(newcomer), [2]);
}

/// Two sockets need three blocks each, and three blocks become free. If they were shared between the two, neither would
/// ever have enough.
#[test]
fn those_that_need_several_blocks_do_not_block_each_other() {
    let config = Config { sockets: 3, output_blocks: 7, output_limit: 3, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        let wanted = if socket.data.id == 0 { 128 } else { 192 };
        if matches!(event, Event::Message(_) | Event::Writable) {
            let _ = socket.send(&[0; 192][..wanted]);
        }
    });
    let [holds, x, y] = [bench.open(), bench.open(), bench.open()];
    let _ = bench.message(holds, 0);
    assert_eq!(bench.outputs(holds).len(), 128);
    let _ = bench.message(x, 0);
    let _ = bench.message(y, 0);
    let _ = bench.tell(holds, |conn| conn.sent(64));
    for turn in 0..20 {
        for token in [x, y] {
            if !bench.outputs(token).is_empty() {
                assert_eq!(bench.flush(token).0.len(), 192);
            }
        }
        bench.turn(turn);
    }
    assert_eq!(bench.shard.stats().bytes_out, 64 + 2 * 192);
    assert_eq!(bench.shard.next_deadline(), None);
}

/// A socket that closes while it waits is removed from the queue, and the next socket in its slot does not wait.
#[test]
fn a_slot_that_is_reused_while_its_socket_waited_is_in_no_queue() {
    let config = Config { sockets: 5, output_blocks: 1, output_limit: 1, ..PLAIN };
    for leaves in 1..4 {
        let mut bench = Bench::new(&config, modest);
        let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
        for token in &tokens {
            let _ = bench.message(*token, 0);
        }
        let _ = bench.tell(tokens[leaves], |conn| conn.failed(lightcone_core::ErrorKind::ConnectionReset));
        let reused = bench.open();
        assert_eq!(reused.index(), tokens[leaves].index());
        bench.events();
        let mut holder = tokens[0];
        for token in (1..4).filter(|at| *at != leaves).map(|at| tokens[at]) {
            let _ = bench.flush(holder);
            let turned = bench.turn(1);
            assert_eq!(turned, [(token, Action::Send)], "in order, and no other socket gets a turn");
            holder = token;
        }
        let _ = bench.flush(holder);
        assert_eq!((bench.turn(2), bench.shard.next_deadline()), (vec![], None));
        assert_eq!(bench.run(reused), READ);
    }
}

/// An unused grant goes to the next socket, whether the granted socket closes or has nothing to send.
#[test]
fn a_grant_that_is_not_taken_goes_to_the_next() {
    let config = Config { sockets: 4, output_blocks: 1, output_limit: 1, ..PLAIN };
    for closes in [false, true] {
        let mut bench = Bench::new(&config, move |socket, event| match (socket.data.id, event) {
            (1, Event::Writable) if closes => socket.close(),
            (1, Event::Writable) => {}
            _ => modest(socket, event),
        });
        let [holds, waits, next] = [bench.open(), bench.open(), bench.open()];
        for token in [holds, waits, next] {
            let _ = bench.message(token, 0);
        }
        let _ = bench.flush(holds);
        bench.turn(1);
        bench.turn(1);
        assert_eq!(bench.outputs(next), [2]);
        let _ = bench.flush(next);
        assert_eq!(bench.message(holds, 0), Ok(Action::Send), "and no block stays reserved");
    }
}

/// Sockets for which a grant was too little get another chance when others end their wait without taking a block: no
/// block is returned then that could be noticed.
#[test]
fn the_end_of_another_wait_is_a_chance() {
    let config = Config { sockets: 4, output_blocks: 3, output_limit: 3, ..PLAIN };
    for closes in [false, true] {
        let mut bench = Bench::new(&config, move |socket, event| match (socket.data.id, event) {
            (_, Event::Open) => socket.split().1.request_writable(),
            (0 | 1, Event::Writable) => {
                let _ = socket.send(&[0; 192]);
            }
            (_, Event::Writable) if closes => socket.close(),
            _ => {}
        });
        let [x, y, ..] = [bench.open(), bench.open(), bench.open(), bench.open()];
        let mut sent = vec![];
        for turn in 0..20 {
            bench.turn(turn);
            for token in [x, y].into_iter().filter(|token| !sent.contains(token)).collect::<Vec<_>>() {
                if !bench.outputs(token).is_empty() {
                    assert_eq!(bench.flush(token).0.len(), 192);
                    sent.push(token);
                }
            }
        }
        assert_eq!((sent, bench.shard.next_deadline()), (vec![x, y], None));
    }
}

/// Two sockets are granted blocks at the same time, each too little because of the other's grant. The first then gets
/// all that is free, without another block being returned.
#[test]
fn a_grant_that_is_too_little_because_of_another_is_followed_by_a_whole_one() {
    let config = Config { sockets: 3, output_blocks: 4, output_limit: 4, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        let wanted = [256, 128, 192][socket.data.id];
        if matches!(event, Event::Message(_) | Event::Writable) {
            let _ = socket.send(&[0; 256][..wanted]);
        }
    });
    let [holds, x, y] = [bench.open(), bench.open(), bench.open()];
    for token in [holds, x, y] {
        let _ = bench.message(token, 0);
    }
    assert_eq!(bench.outputs(holds).len(), 256);
    let _ = bench.tell(holds, |conn| conn.sent(128));
    for turn in 0..10 {
        bench.turn(turn);
    }
    assert_eq!((bench.outputs(x).len(), bench.outputs(y).len()), (128, 0));
    let _ = bench.flush(x);
    let _ = bench.flush(holds);
    for turn in 10..20 {
        bench.turn(turn);
    }
    assert_eq!((bench.outputs(y).len(), bench.shard.next_deadline()), (192, None));
}

/// While a tail is held, a send that has no room beside it waits for a change, and is not tried again in every turn.
#[test]
fn what_has_no_room_beside_a_tail_waits() {
    for way in 0..2 {
        let mut bench = Bench::new(&PLAIN, move |socket, event| {
            let (_, mut output, _) = socket.split();
            match event {
                Event::Message(_) => {
                    let mark = output.seal();
                    output.send(b"head").unwrap();
                    output.hold(mark);
                    output.request_writable_for(128);
                }
                Event::Writable if way == 0 => output.request_writable_for(128),
                Event::Writable => assert!(output.send(&[0; 128]).is_err()),
                _ => {}
            }
        });
        let token = bench.open();
        let _ = bench.message(token, 0);
        for turn in 0..5 {
            bench.turn(turn);
        }
        assert_eq!(bench.shard.next_deadline(), None, "way {way}");
    }
}

/// A socket that is finished while it waits for a block is read on: it can use no block any more.
#[test]
fn a_finished_socket_waits_for_no_block() {
    let config = Config { sockets: 2, output_blocks: 1, output_limit: 1, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        modest(socket, event);
        if matches!(event, Event::Message(1)) {
            socket.finish();
        }
    });
    let [holds, finishes] = [bench.open(), bench.open()];
    let _ = bench.message(holds, 0);
    let order = bench.message(finishes, 1);
    assert_eq!(order, Ok(Action::ShutdownWrite));
    let _ = bench.tell(finishes, |conn| conn.write_shut_down());
    bench.turn(1);
    assert_eq!(bench.run(finishes), READ);
}

/// A replacement for a held response reuses the block of the held output, even if other sockets wait for blocks.
#[test]
fn what_replaces_a_held_end_has_its_block() {
    let config = Config { sockets: 3, output_blocks: 2, output_limit: 1, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| match (socket.data.id, event) {
        (1, Event::Message(0)) => {
            let (_, mut output, _) = socket.split();
            let mark = output.seal();
            output.send(b"good").unwrap();
            output.hold(mark);
        }
        (1, Event::Message(1)) => {
            let (_, mut output, _) = socket.split();
            output.discard();
            output.send(b"bad").unwrap();
        }
        (1, Event::Message(_)) => socket.split().1.discard(),
        _ => modest(socket, event),
    });
    for instead in [true, false] {
        let [one, held, waits] = [bench.open(), bench.open(), bench.open()];
        let _ = bench.message(one, 0);
        assert_eq!(bench.message(held, 0), Ok(READ));
        assert_eq!(bench.message(waits, 0), Ok(Action::Wait(Interest::NONE)));
        if instead {
            assert_eq!(bench.message(held, 1), Ok(Action::Send));
            assert_eq!(bench.flush(held).0, b"bad");
        } else {
            assert_eq!(bench.message(held, 2), Ok(READ));
        }
        bench.turn(1);
        assert_eq!(bench.outputs(waits).len(), 1, "and its block goes to the next waiting socket");
        for token in [one, held, waits] {
            let _ = bench.tell(token, |conn| conn.failed(lightcone_core::ErrorKind::ConnectionReset));
        }
        bench.handler.inner_mut().admitted = 0;
    }
}

/// A message that fits into a small block is always received, regardless of the unread input of other sockets.
#[test]
fn a_small_request_is_always_possible() {
    let config = Config { sockets: 6, input_blocks: 6, receive_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        if event == Event::Receive && socket.data.id == 5 {
            socket.consume_all();
        }
    });
    let tokens: Vec<Token> = (0..6).map(|_| bench.open()).collect();
    for token in &tokens[..5] {
        while bench.room(*token) > 0 {
            let room = bench.room(*token).min(65);
            let _ = bench.receive(*token, &vec![1; room]);
        }
    }
    assert_eq!(bench.shard.free_blocks().receive, 0);
    for _ in 0..100 {
        assert_eq!(bench.room(tokens[5]), 64);
        assert_eq!(bench.receive(tokens[5], &[5; 64]), READ);
    }
    assert_eq!(bench.shard.stats().input_shortages, 3);
}

/// Large input blocks go to the sockets that have waited longest; until then, a newcomer is read in small pieces.
#[test]
fn large_blocks_go_to_the_socket_that_has_waited_longest() {
    let config = Config { sockets: 6, input_blocks: 6, receive_blocks: 1, ..PLAIN };
    let mut bench = Bench::new(&config, consume_at_a_message);
    let tokens: Vec<Token> = (0..6).map(|_| bench.open()).collect();
    assert_eq!(bench.receive(tokens[0], &[0; 100]), READ);
    for token in &tokens[1..5] {
        assert_eq!(bench.room(*token), 64);
        assert_eq!(bench.receive(*token, &[1; 64]), Action::Wait(Interest::NONE));
    }
    // One socket is removed from the middle of the queue.
    let _ = bench.tell(tokens[2], |conn| conn.failed(lightcone_core::ErrorKind::ConnectionReset));
    let mut holder = tokens[0];
    for (turn, token) in [tokens[1], tokens[3], tokens[4]].into_iter().enumerate() {
        let _ = bench.message(holder, 0);
        assert_eq!(bench.room(tokens[5]), 64, "the large block is reserved for a waiting socket");
        assert_eq!(bench.turn(turn as u64), [(token, READ)]);
        assert_eq!(bench.room(token), 192);
        assert_eq!(bench.receive(token, &[2; 192]), Action::Wait(Interest::NONE), "full");
        holder = token;
    }
    let _ = bench.message(holder, 0);
    assert_eq!(bench.room(tokens[5]), 256);
    assert_eq!(bench.shard.next_deadline(), None);
}

/// A driver may report bytes to a socket that waits for a large block, and have its events delivered later: the socket
/// took the block that became free, and does not get another one when the queue is served.
#[test]
fn a_socket_that_took_a_large_block_gets_no_second_one() {
    let config = Config { sockets: 3, input_blocks: 3, receive_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, consume_at_a_message);
    let [a, b, waiting] = [bench.open(), bench.open(), bench.open()];
    for token in [a, b] {
        assert_eq!(bench.receive(token, &[0; 100]), READ);
    }
    assert_eq!(bench.receive(waiting, &[1; 64]), Action::Wait(Interest::NONE));
    let _ = bench.message(a, 0);
    let _ = bench.message(b, 0);
    assert_eq!(bench.room(waiting), 192);
    bench.shard.connection(waiting).unwrap().received(&mut [2; 36]);
    assert_eq!(bench.turn(0), [(waiting, READ)]);
    assert_eq!(bench.room(waiting), 156, "100 bytes in a large block");
    assert_eq!(bench.receive(a, &[3; 100]), READ, "the other large block is free");
    assert_eq!(bench.room(b), 64, "and none is left");
    let mut last = [4];
    let mut conn = bench.shard.connection(waiting).unwrap();
    conn.received(&mut last);
    let (_, socket) = conn.next_event::<u32>().unwrap();
    assert_eq!(socket.bytes(), [&[1; 64][..], &[2; 36], &[4; 1]].concat());
}

/// With fewer small blocks than sockets, those without one are read again in order, one per free block.
#[test]
fn sockets_without_an_input_block_are_read_again_in_order() {
    let config = Config { sockets: 8, input_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, consume_at_a_message);
    let tokens: Vec<Token> = (0..8).map(|_| bench.open()).collect();
    let _ = bench.receive(tokens[0], b"a");
    let _ = bench.receive(tokens[1], b"b");
    for token in &tokens[2..7] {
        assert_eq!(bench.run(*token), Action::Wait(Interest::NONE));
    }
    let _ = bench.message(tokens[0], 0);
    assert_eq!(bench.room(tokens[7]), 0, "waiting sockets come first");
    assert_eq!(bench.turn(1), [(tokens[2], READ)]);
    assert_eq!(bench.receive(tokens[2], b"c"), READ);
    let _ = bench.message(tokens[1], 0);
    let _ = bench.message(tokens[2], 0);
    assert_eq!(bench.turn(2), [(tokens[3], READ), (tokens[4], READ)]);
    assert!(bench.room(tokens[3]) > 0 && bench.room(tokens[4]) > 0);
    // Two sockets that may read but receive nothing do not block the others; the first ones are now at the end of the
    // queue.
    let mut told: Vec<Token> = Vec::new();
    for turn in 3..20 {
        told.extend(bench.turn(turn).into_iter().filter(|(_, next)| *next == READ).map(|(token, _)| token));
    }
    assert_eq!(told, [5, 6, 0, 1, 2].map(|at: usize| tokens[at]));
    assert_eq!(bench.shard.next_deadline(), None);
}

#[test]
fn no_socket_waits_where_there_is_enough() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let _ = bench.receive(token, &[1; 64]);
    let stats = bench.shard.stats();
    assert_eq!((stats.input_shortages, stats.output_shortages), (0, 0));
}
