//! Sends that complete later: their bytes stay in place until the driver reports the outcome.

use crate::common::{Bench, Data, PLAIN, pattern};
use core::cell::Cell;
use lightcone_core::{Action, CloseReason, Config, ErrorKind, Event, Interest, Socket, Token};
use std::rc::Rc;

const READ: Action = Action::Wait(Interest::READ);

/// A message below 1000 queues that number of bytes; other messages end the socket.
fn obey(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    match event {
        Event::Message(1_000) => socket.abort(),
        Event::Message(1_001) => socket.close(),
        Event::Message(1_002) => socket.linger(),
        Event::Message(n) => {
            let at = socket.data.number as usize;
            let bytes: Vec<u8> = (at..at + n as usize).map(pattern).collect();
            socket.send(&bytes).unwrap();
            socket.data.number += u64::from(n);
        }
        _ => {}
    }
}

/// Starts a send. Returns the addresses and the content of the bytes in flight.
fn launch(bench: &mut Bench, token: Token) -> (Vec<*const u8>, Vec<u8>) {
    let mut conn = bench.shard.connection(token).unwrap();
    let mut slices = [&[][..]; 16];
    conn.send_started();
    let n = conn.outputs(&mut slices);
    assert!(slices[..n].iter().all(|slice| !slice.is_empty()));
    (slices[..n].iter().map(|slice| slice.as_ptr()).collect(), slices[..n].concat())
}

fn launched(bench: &mut Bench, token: Token, n: u32) -> (Vec<*const u8>, Vec<u8>) {
    assert_eq!(bench.message(token, n), Ok(Action::Send));
    let flight = launch(bench, token);
    assert_eq!(flight.1.len(), n as usize);
    assert_eq!(bench.run(token), READ, "the send is in flight");
    flight
}

/// Checks that the bytes in flight have not moved or changed.
fn same_place(bench: &mut Bench, token: Token, flight: &(Vec<*const u8>, Vec<u8>)) {
    let mut conn = bench.shard.connection(token).unwrap();
    let mut slices = [&[][..]; 16];
    let n = conn.outputs(&mut slices);
    let places: Vec<*const u8> = slices[..n].iter().map(|slice| slice.as_ptr()).collect();
    assert_eq!(places[..flight.0.len()], flight.0);
    assert!(slices[..n].concat().starts_with(&flight.1));
    let _ = conn.finish();
}

#[test]
fn bytes_in_flight_do_not_move_while_more_is_queued() {
    let config = Config { output_blocks: 16, output_limit: 6, ..PLAIN };
    let mut bench = Bench::new(&config, obey);
    let (token, other) = (bench.open(), bench.open());
    let flight = launched(&mut bench, token, 100);
    for n in [1, 20, 7, 64, 100] {
        assert_eq!(bench.message(token, n), Ok(READ), "one send at a time");
        same_place(&mut bench, token, &flight);
    }
    assert_eq!(bench.message(other, 128), Ok(Action::Send));
    let _ = bench.receive(token, b"input");
    let _ = bench.flush(other);
    bench.turn(5);
    same_place(&mut bench, token, &flight);
    assert_eq!(bench.tell(token, |conn| conn.sent(100)), Action::Send);
    let expected: Vec<u8> = (100..292).map(pattern).collect();
    assert_eq!(bench.outputs(token), expected);
    let (_, bytes) = launch(&mut bench, token);
    assert_eq!(bytes, expected);
}

#[test]
fn a_short_completion_goes_on_where_it_stopped() {
    let mut bench = Bench::new(&PLAIN, obey);
    let token = bench.open();
    let (_, bytes) = launched(&mut bench, token, 100);
    bench.events();
    for (n, at) in [(1, 1), (62, 63), (1, 64), (35, 99)] {
        assert_eq!(bench.tell(token, |conn| conn.sent(n)), Action::Send);
        let (_, rest) = launch(&mut bench, token);
        assert_eq!(rest, bytes[at..]);
    }
    assert_eq!(bench.events(), []);
    assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Send, "nothing was sent");
    let _ = launch(&mut bench, token);
    assert_eq!(bench.tell(token, |conn| conn.sent(1)), READ);
    assert_eq!(bench.events(), [Event::Sent]);
}

#[test]
fn blocks_in_flight_do_not_return_to_the_pool() {
    let config = Config { output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(&config, obey);
    let (token, other) = (bench.open(), bench.open());
    let _ = launched(&mut bench, token, 128);
    assert_eq!(bench.message(token, 1_000), Ok(Action::CancelSend));
    let probe = |bench: &mut Bench| {
        let room = Rc::new(Cell::new(usize::MAX));
        let seen = room.clone();
        bench.handler.inner_mut().react = Box::new(move |socket, _| seen.set(socket.room()));
        let _ = bench.message(other, 1);
        room.get()
    };
    assert_eq!(probe(&mut bench), 0);
    assert_eq!(bench.shard.in_use(), 2, "the slot is still in use");
    assert_eq!(bench.run(token), Action::CancelSend, "until the driver reports the outcome");
    assert_eq!(bench.last().event, Event::Message(1), "`close` is delivered later, too");
    assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Close);
    assert_eq!(bench.last().event, Event::Close(CloseReason::Aborted));
    assert_eq!(probe(&mut bench), 128);
    assert_eq!(bench.shard.in_use(), 1);
    assert!(bench.shard.connection(token).is_none());
}

#[test]
fn every_end_in_flight_is_cancelled_then_closed() {
    for how in 0..4 {
        for done in [0, 40, 100] {
            let mut bench = Bench::new(&PLAIN, obey);
            let token = bench.open();
            let _ = launched(&mut bench, token, 100);
            let (next, reason) = match how {
                0 => (bench.message(token, 1_000).unwrap(), CloseReason::Aborted),
                1 => (bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset)), CloseReason::Reset),
                2 => {
                    (bench.tell(token, |conn| conn.abort_with(CloseReason::Shutdown)), CloseReason::Shutdown)
                }
                _ => {
                    assert_eq!(bench.message(token, 1_001), Ok(Action::Wait(Interest::NONE)));
                    let kind = ErrorKind::HostUnreachable;
                    (bench.tell(token, |conn| conn.failed(kind)), CloseReason::Error(kind))
                }
            };
            assert_eq!(next, Action::CancelSend);
            bench.events();
            assert_eq!(bench.tell(token, |conn| conn.sent(done)), Action::Close);
            assert_eq!(bench.last().queued, 100 - done, "the bytes that were never sent");
            let nothing_else = [Event::Close(reason)];
            assert_eq!(bench.events(), nothing_else, "once the number of sent bytes is known");
            let stats = *bench.shard.stats();
            assert_eq!(stats.bytes_out, done as u64);
            assert_eq!(stats.bytes_out + stats.bytes_lost, 100, "each byte was either sent or lost");
            bench.is_clean();
        }
    }
}

#[test]
fn close_waits_for_what_is_in_flight() {
    for (message, after) in [(1_001, Action::Close), (1_002, Action::ShutdownWrite)] {
        let mut bench = Bench::new(&PLAIN, obey);
        let token = bench.open();
        let _ = launched(&mut bench, token, 100);
        let next = bench.message(token, message).unwrap();
        assert!(matches!(next, Action::Wait(_)), "{next:?}");
        assert_eq!(bench.tell(token, |conn| conn.sent(60)), Action::Send);
        let _ = launch(&mut bench, token);
        assert_eq!(bench.tell(token, |conn| conn.sent(40)), after);
    }
}

#[test]
fn a_send_in_flight_may_turn_out_blocked() {
    let mut bench = Bench::new(&PLAIN, obey);
    let token = bench.open();
    let _ = launched(&mut bench, token, 10);
    assert_eq!(bench.tell(token, |conn| conn.would_block()), Action::Wait(Interest::BOTH));
    assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
    assert_eq!(bench.flush(token).1, READ);
}

#[test]
fn bytes_in_flight_are_not_overwritten_by_a_rewind() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if let Event::Message(n) = event {
            let (_, mut output, _) = socket.split();
            let mark = output.mark();
            output.send(&[n as u8; 60]).unwrap();
            if n > 1 {
                output.rewind(mark);
            }
        }
    });
    let token = bench.open();
    let _ = bench.message(token, 1);
    let flight = launch(&mut bench, token);
    for n in 2..5 {
        let _ = bench.message(token, n);
        same_place(&mut bench, token, &flight);
    }
    assert_eq!(bench.tell(token, |conn| conn.sent(60)), READ);
}
