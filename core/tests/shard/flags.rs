//! Flags that are set on a rare path and cleared elsewhere: none of them outlives its cause.

use crate::common::{Bench, PLAIN, ms};
use lightcone_core::{Action, CloseReason, Config, Event, Interest, Timeout, Timeouts};

/// Consumes the input, and closes or sends at a message. Ignores the peer's end of stream.
fn consuming(config: &Config) -> Bench {
    Bench::new(config, |socket, event| match event {
        Event::Receive => {
            socket.consume_all();
        }
        Event::Message(1) => socket.close(),
        Event::Message(2) => socket.send(b"an answer").unwrap(),
        _ => {}
    })
}

const READ: Action = Action::Wait(Interest::READ);

#[test]
fn a_full_receive_stages_a_close_until_a_smaller_one() {
    for pull in [false, true] {
        let mut bench = consuming(&PLAIN);
        bench.pull = pull;
        let token = bench.open();
        let full = vec![7; bench.room(token)];
        let _ = bench.receive(token, b"first");
        assert_eq!(bench.receive(token, &full), READ);
        assert_eq!(bench.message(token, 1), Ok(Action::ShutdownWrite), "more input is probably there");

        let other = bench.open();
        let _ = bench.receive(other, b"first");
        assert_eq!(bench.receive(other, &full), READ);
        assert_eq!(bench.receive(other, b"rest"), READ);
        assert_eq!(bench.message(other, 1), Ok(Action::Close), "all input has been received");
    }
}

#[test]
fn a_full_receive_stages_no_close_after_the_peers_end() {
    let mut bench = consuming(&PLAIN);
    let token = bench.open();
    let full = vec![7; bench.room(token)];
    let _ = bench.receive(token, &full);
    let _ = bench.tell(token, |conn| conn.peer_ended());
    assert_eq!(bench.message(token, 1), Ok(Action::Close));
}

/// A slot starts clean: nothing of its previous socket is left.
#[test]
fn a_full_receive_is_forgotten_with_its_socket() {
    let mut bench = consuming(&Config { sockets: 1, ..PLAIN });
    let token = bench.open();
    let full = vec![7; bench.room(token)];
    let _ = bench.receive(token, &full);
    let _ = bench.tell(token, |conn| conn.abort_with(CloseReason::Aborted));
    let next = bench.open();
    assert_eq!(next.index(), token.index());
    assert_eq!(bench.message(next, 1), Ok(Action::Close));
}

const TIMES: Timeouts =
    Timeouts { first_byte: ms(100), idle: ms(500), write_stall: ms(200), ..Timeouts::NONE };

/// Returns when and why the only socket ends if nothing more happens.
fn ends(bench: &mut Bench) -> (u64, Option<CloseReason>) {
    let orders = bench.sleep_until(10_000);
    let at = orders.iter().find(|(_, _, next)| *next == Action::Close).map_or(0, |(at, _, _)| *at);
    let reason = bench.events().iter().find_map(|event| match event {
        Event::Close(reason) => Some(*reason),
        _ => None,
    });
    (at, reason)
}

/// A peer that has ended its stream without a byte can no longer send a first byte.
#[test]
fn the_first_byte_is_not_waited_for_after_the_peers_end() {
    let mut bench = consuming(&Config { timeouts: TIMES, ..PLAIN });
    let token = bench.open();
    bench.turn(50);
    let _ = bench.tell(token, |conn| conn.peer_ended());
    assert_eq!(ends(&mut bench), (551, Some(CloseReason::TimedOut(Timeout::Idle))));
}

#[test]
fn a_stall_before_the_peers_end_counts_from_its_beginning() {
    let mut bench = consuming(&Config { timeouts: TIMES, ..PLAIN });
    let token = bench.open();
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    bench.turn(20);
    let _ = bench.tell(token, |conn| conn.would_block());
    bench.turn(50);
    let _ = bench.tell(token, |conn| conn.peer_ended());
    assert_eq!(ends(&mut bench), (221, Some(CloseReason::TimedOut(Timeout::WriteStall))));
}

#[test]
fn a_stall_is_over_when_something_has_left() {
    let mut bench = consuming(&Config { timeouts: TIMES, ..PLAIN });
    let token = bench.open();
    let _ = bench.receive(token, b"first");
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    assert_eq!(bench.tell(token, |conn| conn.would_block()), Action::Wait(Interest::new(true, true)));
    bench.turn(150);
    assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
    assert_eq!(bench.flush(token).1, READ, "no more interest in writing");
    assert_eq!(ends(&mut bench), (651, Some(CloseReason::TimedOut(Timeout::Idle))));
}

/// The timer was set for the write stall, which would be due later.
#[test]
fn the_idle_timeout_is_not_late_after_a_stall() {
    let timeouts = Timeouts { idle: ms(100), write_stall: ms(5_000), ..Timeouts::NONE };
    let mut bench = consuming(&Config { timeouts, ..PLAIN });
    let token = bench.open();
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    let _ = bench.tell(token, |conn| conn.would_block());
    assert!(bench.sleep_until(1_000).iter().all(|(_, _, next)| *next != Action::Close));
    assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
    let _ = bench.flush(token);
    assert_eq!(ends(&mut bench), (1_101, Some(CloseReason::TimedOut(Timeout::Idle))));
}

/// A stall that has ended does not make the next one begin earlier.
#[test]
fn the_next_stall_starts_over() {
    let mut bench = consuming(&Config { timeouts: TIMES, ..PLAIN });
    let token = bench.open();
    let _ = bench.receive(token, b"first");
    for at in [10, 100] {
        bench.turn(at);
        assert_eq!(bench.message(token, 2), Ok(Action::Send));
        let _ = bench.tell(token, |conn| conn.would_block());
        bench.turn(at + 50);
        assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
        let _ = bench.flush(token);
    }
    bench.turn(300);
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    let _ = bench.tell(token, |conn| conn.would_block());
    assert_eq!(ends(&mut bench), (501, Some(CloseReason::TimedOut(Timeout::WriteStall))));
}

/// A close waits until the send in flight has completed; a send that completed with zero bytes counts as completed.
#[test]
fn a_send_that_moved_nothing_is_in_flight_no_more() {
    let mut bench = consuming(&PLAIN);
    let token = bench.open();
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    assert_eq!(bench.tell(token, |conn| conn.send_started()), READ);
    assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Send);
    assert_eq!(bench.tell(token, |conn| conn.abort_with(CloseReason::Aborted)), Action::Close);
}

#[test]
fn a_reserved_slot_that_was_cancelled_is_forgotten() {
    let mut bench = consuming(&Config { sockets: 1, ..PLAIN });
    let token = bench.shard.reserve().unwrap();
    bench.shard.connection(token).unwrap().close();
    bench.shard.release_slot(token);
    let token = bench.open();
    assert_eq!(bench.receive(token, b"bytes"), READ);
    assert_eq!(bench.events(), [Event::Open, Event::Receive]);
}
