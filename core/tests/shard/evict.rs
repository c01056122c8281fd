//! Eviction in a shard: which sockets are idle, since when, and which of them comes first.

use crate::common::{Bench, Data, PLAIN, Random, echo, ms};
use lightcone_core::{Action, CloseReason, Config, Event, Interest, Socket, Timeout, Timeouts, Token};
use std::collections::BTreeMap;

/// Sockets may be evicted when they have been idle for more than 100 ms.
const EVICT: Config = Config { evict_after: ms(100), ..PLAIN };
/// A time at which a socket that was last heard of at 0 may be evicted; before it, it may not.
const DUE: u64 = 101;

const ACTIVE: u32 = 0;
const INACTIVE: u32 = 1;
const PAUSE: u32 = 2;
const RESUME: u32 = 3;
const HOLD: u32 = 4;
const DISCARD: u32 = 5;
const SEND: u32 = 6;
const WRITABLE: u32 = 7;
const CONSUME: u32 = 8;
const FINISH: u32 = 9;
const NOTHING: u32 = 10;

/// Obeys messages, and leaves its input.
fn obey(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    let Event::Message(order) = event else { return };
    match order {
        ACTIVE | INACTIVE => socket.set_active(order == ACTIVE),
        PAUSE => socket.pause(),
        RESUME => socket.resume(),
        FINISH => socket.finish(),
        CONSUME => socket.consume_all(),
        _ => {}
    }
    let (_, mut output, _) = socket.split();
    match order {
        HOLD => {
            let mark = output.seal();
            output.send(b"held").unwrap();
            output.hold(mark);
        }
        DISCARD => output.discard(),
        SEND => output.send(b"bytes").unwrap(),
        WRITABLE => output.request_writable(),
        _ => {}
    }
}

/// Receives a byte, and sends it back if the handler does.
fn hear(bench: &mut Bench, token: Token) {
    if bench.receive(token, b"x") == Action::Send {
        let _ = bench.flush(token);
    }
}

/// Evicts the socket that the shard names. Returns it.
fn evict(bench: &mut Bench) -> Option<Token> {
    let token = bench.shard.longest_idle()?;
    assert_eq!(bench.tell(token, |conn| conn.evict()), Action::Close);
    assert_eq!(bench.last().event, Event::Close(CloseReason::Evicted));
    assert!(!bench.shard.needs_reset(), "the peer sees an ordinary end");
    Some(token)
}

#[test]
fn without_the_setting_no_socket_is_evicted() {
    let mut bench = Bench::new(&PLAIN, echo);
    let token = bench.open();
    bench.turn(1_000_000);
    assert_eq!((bench.shard.longest_idle(), bench.shard.next_deadline()), (None, None));
    let _ = bench.tell(token, |conn| conn.peer_ended());
    bench.is_clean();
}

#[test]
fn a_socket_may_be_evicted_when_it_has_been_idle_for_the_span_and_not_before() {
    for silent in [false, true] {
        let mut bench = Bench::new(&EVICT, echo);
        let token = bench.open();
        let since = if silent { 0 } else { 40 };
        bench.set_clock(since);
        if !silent {
            assert_eq!(bench.receive(token, b"x"), Action::Send);
            let _ = bench.flush(token);
        }
        bench.sleep_until(since + DUE - 1);
        assert_eq!(bench.shard.longest_idle(), None, "{silent}");
        bench.sleep_until(since + DUE);
        assert_eq!(evict(&mut bench), Some(token), "{silent}");
        assert_eq!(bench.shard.stats().closed_for(CloseReason::Evicted), 1);
        bench.is_clean();
    }
}

#[test]
fn the_clock_may_wrap() {
    let start = u64::from(u32::MAX) - 50;
    let mut bench = Bench::starting_at(start, &EVICT, echo);
    let token = bench.open();
    bench.sleep_until(start + DUE - 1);
    assert_eq!(bench.shard.longest_idle(), None);
    bench.sleep_until(start + DUE);
    assert_eq!(evict(&mut bench), Some(token));
}

#[test]
fn the_longest_idle_comes_first() {
    let mut bench = Bench::new(&EVICT, echo);
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    for (at, token) in [(10, 2), (20, 0), (30, 3), (40, 1)] {
        bench.sleep_until(at);
        hear(&mut bench, tokens[token]);
    }
    // 0 and 3 are in the queue when they receive again
    for (at, token) in [(135, 3), (140, 0)] {
        bench.sleep_until(at);
        hear(&mut bench, tokens[token]);
    }
    // all are due when the shard is called again
    bench.turn(1_000);
    for token in [2, 1, 3, 0] {
        assert_eq!(evict(&mut bench), Some(tokens[token]));
    }
    assert_eq!(bench.shard.longest_idle(), None);
    bench.is_clean();
}

/// Each state in which a socket is not idle, the messages that lead to it and back, and whether the way back counts as
/// progress.
#[test]
fn a_busy_socket_is_not_evicted_and_may_be_afterwards() {
    let states: [(&[u32], &[u32], bool); 5] = [
        (&[ACTIVE], &[INACTIVE], true),
        (&[PAUSE], &[RESUME], false),
        (&[HOLD], &[DISCARD], false),
        (&[SEND], &[], true),
        (&[HOLD, PAUSE, ACTIVE], &[DISCARD, RESUME, INACTIVE], true),
    ];
    for (there, back, progress) in states {
        // before it is due, and when it is already in the queue
        for at in [50, 150] {
            let mut bench = Bench::new(&EVICT, obey);
            let token = bench.open();
            let _ = bench.receive(token, b"x");
            let _ = bench.message(token, CONSUME).unwrap();
            bench.sleep_until(at);
            for order in there {
                let _ = bench.message(token, *order).unwrap();
            }
            bench.sleep_until(1_000);
            assert_eq!(bench.shard.longest_idle(), None, "{there:?} at {at}");
            let conn = bench.tell(token, |conn| conn.evict());
            assert_ne!(conn, Action::Close, "{there:?} at {at}: refused as well");
            for order in back {
                let _ = bench.message(token, *order).unwrap();
            }
            if there.contains(&SEND) {
                let _ = bench.flush(token);
            }
            if progress {
                assert_eq!(bench.shard.longest_idle(), None, "{there:?} at {at}: the time begins anew");
                bench.sleep_until(1_000 + DUE - 1);
                assert_eq!(bench.shard.longest_idle(), None, "{there:?} at {at}");
                bench.sleep_until(1_000 + DUE);
            }
            assert_eq!(evict(&mut bench), Some(token), "{there:?} at {at}");
            bench.is_clean();
        }
    }
}

#[test]
fn unconsumed_input_keeps_a_socket() {
    for at in [50, 150] {
        let mut bench = Bench::new(&EVICT, obey);
        let token = bench.open();
        bench.sleep_until(at);
        assert_eq!(bench.receive(token, b"half a line"), Action::Wait(Interest::READ));
        bench.sleep_until(1_000);
        assert_eq!(bench.shard.longest_idle(), None, "at {at}");
        let _ = bench.message(token, CONSUME).unwrap();
        assert_eq!(evict(&mut bench), Some(token), "at {at}: nothing was received for long");
        bench.is_clean();
    }
}

#[test]
fn a_pending_writable_keeps_a_socket() {
    // the others hold all output blocks
    let config = Config { output_blocks: 1, output_limit: 1, ..EVICT };
    let mut bench = Bench::new(&config, obey);
    let (token, other) = (bench.open(), bench.open());
    let _ = bench.message(other, SEND).unwrap();
    let _ = bench.message(token, WRITABLE).unwrap();
    bench.sleep_until(1_000);
    assert_eq!(bench.shard.longest_idle(), None);
    let _ = bench.flush(other);
    bench.turn(1_000);
    assert!(bench.seen().iter().any(|seen| seen.event == Event::Writable));
    assert_eq!(evict(&mut bench), Some(token), "it was last heard of at 0");
    assert_eq!(bench.shard.longest_idle(), None);
}

#[test]
fn a_socket_that_waits_for_an_input_block_is_not_idle() {
    let config = Config { input_blocks: 1, ..EVICT };
    let mut bench = Bench::new(&config, obey);
    let (token, other) = (bench.open(), bench.open());
    bench.sleep_until(150);
    assert_eq!(bench.shard.longest_idle(), Some(token));
    // the other takes the only block
    let _ = bench.receive(other, b"x");
    assert_eq!(bench.room(token), 0);
    assert_eq!(bench.run(token), Action::Wait(Interest::NONE));
    bench.sleep_until(1_000);
    assert_eq!(bench.shard.longest_idle(), None, "its peer may have sent a request");
    let _ = bench.message(other, CONSUME).unwrap();
    assert_eq!(bench.turn(1_001), [(token, Action::Wait(Interest::READ))]);
    assert!(bench.shard.longest_idle().is_some());
}

#[test]
fn a_message_or_a_spurious_event_changes_nothing() {
    let mut bench = Bench::new(&EVICT, obey);
    let tokens: Vec<Token> = (0..3).map(|at| (bench.sleep_until(at), bench.open()).1).collect();
    bench.sleep_until(500);
    let _ = bench.message(tokens[0], NOTHING).unwrap();
    let _ = bench.run(tokens[0]);
    let _ = bench.tell(tokens[0], |conn| conn.writable());
    for token in tokens {
        assert_eq!(evict(&mut bench), Some(token));
    }
}

#[test]
fn half_closed_sockets_may_be_evicted() {
    let mut bench = Bench::new(&EVICT, obey);
    let (ended, finished) = (bench.open(), bench.open());
    let _ = bench.tell(ended, |conn| conn.peer_ended());
    assert_eq!(bench.message(finished, FINISH).unwrap(), Action::ShutdownWrite);
    let _ = bench.tell(finished, |conn| conn.write_shut_down());
    bench.sleep_until(1_000);
    assert!(evict(&mut bench).is_some());
    assert!(evict(&mut bench).is_some());
    bench.is_clean();
}

#[test]
fn what_the_program_connects_is_not_evicted() {
    let mut bench = Bench::new(&EVICT, echo);
    let token = bench.dial(7);
    let _ = bench.tell(token, |conn| conn.connected());
    hear(&mut bench, token);
    let reserved = bench.shard.reserve().unwrap();
    bench.sleep_until(10_000);
    assert_eq!(bench.shard.longest_idle(), None);
    bench.shard.release_slot(reserved);
    let _ = bench.tell(token, |conn| conn.abort_with(CloseReason::Aborted));
    // the slot serves an accepted socket next
    let tokens = [bench.open(), bench.open()];
    assert!(tokens.iter().any(|it| it.index() == token.index()));
    bench.sleep_until(20_000);
    assert!(evict(&mut bench).is_some() && evict(&mut bench).is_some());
    bench.is_clean();
}

#[test]
fn a_stop_ends_eviction() {
    let mut bench = Bench::new(&EVICT, echo);
    let token = bench.open();
    bench.sleep_until(1_000);
    bench.shard.begin_stop();
    assert_eq!(bench.shard.longest_idle(), None);
    bench.shard.stop();
    let _ = bench.tell(token, |conn| conn.abort_with(CloseReason::Shutdown));
    bench.is_clean();
}

#[test]
fn while_timers_are_held_no_socket_is_evicted() {
    let mut bench = Bench::new(&EVICT, echo);
    let token = bench.open();
    bench.sleep_until(1_000);
    bench.set_clock(1_001);
    bench.shard.hold_timers();
    assert_eq!(bench.shard.longest_idle(), None, "its event may have been left out");
    bench.set_clock(1_002);
    assert_eq!(bench.shard.longest_idle(), Some(token));
}

#[test]
fn a_socket_that_ends_leaves_the_queue() {
    let mut bench = Bench::new(&EVICT, echo);
    let tokens: Vec<Token> = (0..3).map(|at| (bench.sleep_until(at), bench.open()).1).collect();
    bench.sleep_until(500);
    let _ = bench.tell(tokens[1], |conn| conn.peer_ended());
    let _ = bench.tell(tokens[0], |conn| conn.abort_with(CloseReason::Aborted));
    let next = bench.open();
    assert_eq!(evict(&mut bench), Some(tokens[2]));
    assert_eq!(bench.shard.longest_idle(), None, "a new socket in an old slot has just begun");
    bench.sleep_until(500 + DUE);
    assert_eq!(evict(&mut bench), Some(next));
    bench.is_clean();
}

#[test]
fn timeouts_run_on_in_the_queue() {
    let timeouts = Timeouts { idle: ms(300), ..Timeouts::NONE };
    let mut bench = Bench::new(&Config { timeouts, ..EVICT }, echo);
    let token = bench.open();
    let actions = bench.sleep_until(1_000);
    assert_eq!(actions, [(301, token, Action::Close)]);
    assert_eq!(bench.last().event, Event::Close(CloseReason::TimedOut(Timeout::Idle)));
    bench.is_clean();
}

#[test]
fn an_idle_socket_wakes_the_driver_once() {
    let mut bench = Bench::new(&EVICT, echo);
    let tokens: Vec<Token> = (0..4).map(|_| bench.open()).collect();
    for at in 0..50 {
        bench.set_clock(at);
        hear(&mut bench, tokens[0]);
    }
    let mut wakes = 0;
    while let Some(at) = bench.shard.next_deadline() {
        wakes += 1;
        bench.turn(at.as_millis());
        assert!(wakes < 100, "woken again and again");
    }
    // once for the three, and for the busy one at the old time and at the right one
    assert!(wakes <= 3, "{wakes} wakes");
    assert!(bench.shard.longest_idle().is_some());
}

/// Compares the order with a model, over random receives at random times.
#[test]
fn the_order_agrees_with_a_model() {
    const CONFIG: Config = Config { sockets: 12, input_blocks: 12, output_blocks: 24, ..EVICT };
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new(&CONFIG, echo);
        let mut last: BTreeMap<Token, u64> = BTreeMap::new();
        let mut evicted = 0;
        for _ in 0..400 {
            let now = bench.now + [0, 1, 7, 60][random.below(4)];
            // late turns included
            if random.one_in(2) {
                drop(bench.sleep_until(now));
            } else {
                drop(bench.turn(now));
            }
            let tokens: Vec<Token> = last.keys().copied().collect();
            match random.below(8) {
                0 if tokens.len() < CONFIG.sockets => drop(last.insert(bench.open(), now)),
                1 => {
                    let oldest = last.values().min().copied().filter(|at| at + DUE <= now);
                    let token = evict(&mut bench);
                    assert_eq!(token.map(|token| last[&token]), oldest, "seed {seed} at {now}: {last:?}");
                    evicted += usize::from(token.is_some());
                    last.retain(|other, _| Some(*other) != token);
                }
                2 if !tokens.is_empty() => {
                    let token = tokens[random.below(tokens.len())];
                    let _ = bench.message(token, NOTHING).unwrap();
                }
                _ if !tokens.is_empty() => {
                    let token = tokens[random.below(tokens.len())];
                    hear(&mut bench, token);
                    last.insert(token, now);
                }
                _ => {}
            }
        }
        assert!(evicted > 0, "seed {seed}");
    }
}

#[test]
fn the_memory_is_counted() {
    let more = EVICT.memory() - PLAIN.memory();
    assert_eq!(more, 8 * PLAIN.sockets);
    for (span, allowed) in [(ms(0), false), (ms(1), true), (ms((1 << 30) - 1), true), (ms(1 << 30), false)] {
        let checked = Config { evict_after: span, ..PLAIN }.check();
        assert_eq!(checked.is_ok(), allowed, "{span:?}");
        assert!(allowed || checked.is_err_and(|error| error.field == "evict_after"));
    }
}
