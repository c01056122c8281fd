//! Deadlines and timeouts: never early, at most two milliseconds late, regardless of the clock's behaviour.

use crate::common::{Bench, Data, PLAIN, echo, ms, nothing, on};
use core::time::Duration;
use lightcone_core::{
    Action, CloseReason, Config, ErrorKind, Event, Instant, Interest, Socket, Timeout, Timeouts, Token,
};

/// Start times: at these, the low half of the clock wraps, changes its sign, or is far from zero.
const STARTS: [u64; 6] =
    [0, 1_000, u32::MAX as u64 - 3_000, u32::MAX as u64, (1 << 31) - 2_000, (7 << 32) - 1];

const fn with(timeouts: Timeouts) -> Config {
    Config { timeouts, ..PLAIN }
}

/// Sleeps as long as the shard allows. Returns when the socket was closed, counted from `start`.
fn closed_at(bench: &mut Bench, start: u64, token: Token) -> u64 {
    let orders = bench.sleep_until(start + 200_000);
    let close = orders.iter().find(|(_, who, next)| *who == token && *next == Action::Close);
    close.expect("the socket was never closed").0 - start
}

#[track_caller]
fn in_time(at: u64, due: u64) {
    assert!((due..=due + 2).contains(&at), "at {at} ms instead of {due}");
}

/// Checks that a connection without traffic is ended by this timeout at this time.
fn ends(
    timeouts: Timeouts,
    due: u64,
    which: Timeout,
    begin: impl Fn(&mut Bench) -> Token,
    react: impl FnMut(&mut Socket<'_, Data>, Event<u32>) + Clone + 'static,
) {
    for start in STARTS {
        let mut bench = Bench::starting_at(start, &with(timeouts), react.clone());
        let token = begin(&mut bench);
        in_time(closed_at(&mut bench, start, token), due);
        let reason = Event::Close(CloseReason::TimedOut(which));
        assert_eq!(bench.last().event, reason);
        bench.is_clean();
    }
}

#[test]
fn idle() {
    let timeouts = Timeouts { idle: ms(5_000), ..Timeouts::NONE };
    ends(timeouts, 5_000, Timeout::Idle, Bench::open, nothing);
}

#[test]
fn first_byte() {
    let timeouts = Timeouts { first_byte: ms(3_000), idle: ms(5_000), ..Timeouts::NONE };
    ends(timeouts, 3_000, Timeout::FirstByte, Bench::open, nothing);
}

#[test]
fn first_byte_is_not_put_off_by_what_is_sent() {
    let timeouts = Timeouts { first_byte: ms(3_000), idle: ms(50_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        bench.turn(start + 2_000);
        let _ = bench.message(token, 0);
        let _ = bench.flush(token);
        token
    };
    ends(
        timeouts,
        3_000,
        Timeout::FirstByte,
        begin,
        on(Event::Message(0), |socket| socket.send(b"hello").unwrap()),
    );
}

#[test]
fn a_shorter_idle_time_holds_from_the_first_byte_on() {
    let timeouts = Timeouts { first_byte: ms(30_000), idle: ms(5_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        bench.turn(start + 1_000);
        let _ = bench.receive(token, b"x");
        token
    };
    ends(timeouts, 6_000, Timeout::Idle, begin, nothing);
}

#[test]
fn a_longer_idle_time_holds_from_the_first_byte_on() {
    let timeouts = Timeouts { first_byte: ms(3_000), idle: ms(5_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        bench.turn(start + 2_000);
        let _ = bench.receive(token, b"x");
        token
    };
    ends(timeouts, 7_000, Timeout::Idle, begin, nothing);
}

/// Sets the socket active at message 1, and inactive at message 0.
fn activity(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if let Event::Message(active) = event {
        socket.set_active(active == 1);
        assert_eq!(socket.is_active(), active == 1);
    }
}

/// Opens a socket, delivers one byte, and then these messages at these times.
fn told(bench: &mut Bench, messages: &[(u64, u32)]) -> Token {
    let token = bench.open();
    let start = bench.now;
    let _ = bench.receive(token, b"x");
    for (at, message) in messages {
        let orders = bench.sleep_until(start + at);
        assert_eq!(orders, [], "the socket ended before {at} ms");
        let _ = bench.message(token, *message);
    }
    token
}

#[test]
fn an_active_socket_is_not_idle() {
    let timeouts =
        Timeouts { first_byte: ms(3_000), idle: ms(5_000), write_stall: ms(4_000), ..Timeouts::NONE };
    for start in STARTS {
        let mut bench = Bench::starting_at(start, &with(timeouts), activity);
        let token = told(&mut bench, &[(4_000, 1)]);
        assert_eq!(bench.sleep_until(start + 1_000_000), []);
        assert_eq!(bench.shard.next_deadline(), None, "no timer is set for it");
        let _ = bench.tell(token, |conn| conn.peer_ended());
    }
}

#[test]
fn the_idle_time_starts_again_at_the_end_of_an_activity() {
    let timeouts = Timeouts { idle: ms(5_000), ..Timeouts::NONE };
    for (messages, due) in [
        (&[(1_000, 1), (60_000, 0)][..], 65_000),
        (&[(1_000, 1), (2_000, 0)], 7_000),
        (&[(1_000, 1), (2_000, 0), (6_999, 1), (30_000, 1), (30_500, 0), (31_000, 0)], 35_500),
        (&[(4_000, 0)], 5_000), // the socket was not active
    ] {
        ends(timeouts, due, Timeout::Idle, |bench| told(bench, messages), activity);
    }
}

#[test]
fn a_deadline_comes_while_a_socket_is_active() {
    let timeouts = Timeouts { idle: ms(5_000), ..Timeouts::NONE };
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| match event {
        Event::Receive => {
            socket.set_active(true);
            let due = socket.now() + Duration::from_secs(20);
            socket.set_deadline(Some(due));
        }
        Event::Timeout => socket.set_active(false),
        _ => {}
    };
    ends(timeouts, 25_000, Timeout::Idle, |bench| told(bench, &[]), react);
}

#[test]
fn an_active_socket_has_its_write_stall_timeout() {
    let timeouts = Timeouts { write_stall: ms(4_000), idle: ms(2_000), ..Timeouts::NONE };
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        activity(socket, event);
        if event == Event::Message(1) && socket.queued() == 0 {
            socket.send(&[1; 100]).unwrap();
        }
    };
    // Neither the beginning nor the end of an activity postpones the timeout.
    for messages in [&[(1_000, 1)][..], &[(1_000, 1), (3_000, 0)], &[(1_000, 1), (3_000, 0), (3_500, 1)]] {
        let begin = |bench: &mut Bench| {
            let (start, (first, rest)) = (bench.now, messages.split_first().unwrap());
            let token = told(bench, &[*first]);
            let _ = bench.tell(token, |conn| conn.would_block());
            for (at, message) in rest {
                bench.turn(start + at);
                let _ = bench.message(token, *message);
            }
            token
        };
        ends(timeouts, 5_000, Timeout::WriteStall, begin, react);
    }
}

/// Without a write stall timeout, the idle timeout ends a peer that takes none of its response.
#[test]
fn an_active_socket_whose_peer_takes_nothing_is_idle() {
    let timeouts = Timeouts { idle: ms(5_000), ..Timeouts::NONE };
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        activity(socket, event);
        if event == Event::Message(1) {
            socket.send(&[1; 100]).unwrap();
        }
    };
    let begin = |bench: &mut Bench| {
        let token = told(bench, &[(1_000, 1)]);
        let _ = bench.tell(token, |conn| conn.would_block());
        token
    };
    ends(timeouts, 6_000, Timeout::Idle, begin, react);
}

#[test]
fn a_silent_peer_has_its_time_to_the_first_byte_whatever_the_handler_does() {
    let timeouts = Timeouts { first_byte: ms(3_000), idle: ms(50_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        for (at, message) in [(1_000, 1), (2_000, 0)] {
            bench.turn(start + at);
            let _ = bench.message(token, message);
        }
        token
    };
    ends(timeouts, 3_000, Timeout::FirstByte, begin, activity);
}

#[test]
fn a_connected_socket_has_no_first_byte_timeout() {
    let timeouts = Timeouts { first_byte: ms(3_000), idle: ms(5_000), connect: ms(1_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.dial(1);
        let start = bench.now;
        bench.turn(start + 500);
        let _ = bench.tell(token, |conn| conn.connected());
        token
    };
    ends(timeouts, 5_500, Timeout::Idle, begin, nothing);
}

#[test]
fn connect() {
    for start in STARTS {
        let mut bench =
            Bench::starting_at(start, &with(Timeouts { connect: ms(1_000), ..Timeouts::NONE }), nothing);
        let token = bench.dial(5);
        in_time(closed_at(&mut bench, start, token), 1_000);
        assert_eq!(bench.events(), [Event::Refused(ErrorKind::TimedOut)]);
        assert!(bench.try_tell(token, |conn| conn.connected()).is_none(), "a late success has no effect");
        assert_eq!(bench.shard.stats().refused, 1);
        bench.is_clean();
    }
}

fn hello(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    if event == Event::Open {
        socket.send(&[1; 100]).unwrap();
    }
}

#[test]
fn write_stall() {
    let timeouts = Timeouts { write_stall: ms(4_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        assert_eq!(bench.tell(token, |conn| conn.would_block()), Action::Wait(Interest::BOTH));
        token
    };
    ends(timeouts, 4_000, Timeout::WriteStall, begin, hello);
}

#[test]
fn write_stall_counts_from_the_last_progress() {
    let timeouts = Timeouts { write_stall: ms(4_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        let _ = bench.tell(token, |conn| conn.would_block());
        for i in 1..=10 {
            bench.turn(start + i * 1_000);
            let _ = bench.tell(token, |conn| conn.writable());
            let _ = bench.tell(token, |conn| conn.sent(1));
            let _ = bench.tell(token, |conn| conn.would_block());
        }
        token
    };
    ends(timeouts, 14_000, Timeout::WriteStall, begin, hello);
}

/// Readiness is a hint: a socket that was reported writable may still block.
#[test]
fn write_stall_is_not_put_off_by_readiness_alone() {
    let timeouts = Timeouts { write_stall: ms(4_000), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        let _ = bench.tell(token, |conn| conn.would_block());
        for i in 1..=3 {
            bench.turn(start + i * 1_000);
            assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
            let _ = bench.tell(token, |conn| conn.would_block());
        }
        token
    };
    ends(timeouts, 4_000, Timeout::WriteStall, begin, hello);
}

/// Bytes from the peer do not postpone the timeout of a peer that takes no output.
#[test]
fn write_stall_is_not_put_off_by_receiving() {
    let timeouts = Timeouts { write_stall: ms(4_000), idle: ms(3_500), ..Timeouts::NONE };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        let _ = bench.tell(token, |conn| conn.would_block());
        for i in 1..=3 {
            bench.turn(start + i * 1_000);
            let _ = bench.receive(token, b"x");
        }
        token
    };
    ends(timeouts, 4_000, Timeout::WriteStall, begin, hello);
}

#[test]
fn write_stall_of_a_send_in_flight() {
    for start in STARTS {
        let config = with(Timeouts { write_stall: ms(4_000), ..Timeouts::NONE });
        let mut bench = Bench::starting_at(start, &config, hello);
        let token = bench.open();
        assert_eq!(bench.tell(token, |conn| conn.send_started()), Action::Wait(Interest::READ));
        let orders = bench.sleep_until(start + 10_000);
        assert_eq!(orders.len(), 1, "the peer never takes anything");
        in_time(orders[0].0 - start, 4_000);
        assert_eq!(orders[0].2, Action::CancelSend);
        assert_eq!(bench.tell(token, |conn| conn.sent(0)), Action::Close);
        assert_eq!(bench.last().event, Event::Close(CloseReason::TimedOut(Timeout::WriteStall)));
    }
}

#[test]
fn nothing_stalls_when_all_has_left() {
    let mut bench = Bench::new(&with(Timeouts { write_stall: ms(4_000), ..Timeouts::NONE }), hello);
    let token = bench.open();
    let _ = bench.tell(token, |conn| conn.would_block());
    bench.turn(3_000);
    let _ = bench.tell(token, |conn| conn.writable());
    assert_eq!(bench.flush(token).1, Action::Wait(Interest::READ));
    assert_eq!(bench.sleep_until(50_000), []);
    assert_eq!(bench.shard.next_deadline(), None);
}

fn hello_and_close(socket: &mut Socket<'_, Data>, event: Event<u32>) {
    hello(socket, event);
    if event == Event::Message(1) {
        socket.close();
    }
    if event == Event::Message(2) {
        socket.linger();
    }
}

const DRAIN: Timeouts = Timeouts { drain: ms(2_000), ..Timeouts::NONE };

#[test]
fn drain() {
    for message in [1, 2] {
        let begin = move |bench: &mut Bench| {
            let token = bench.open();
            let _ = bench.tell(token, |conn| conn.would_block());
            assert_eq!(bench.message(token, message).map(|next| matches!(next, Action::Wait(_))), Ok(true));
            token
        };
        ends(DRAIN, 2_000, Timeout::Drain, begin, hello_and_close);
    }
}

/// Progress of the peer postpones the drain timeout, whether or not the system blocks in between; its end of stream
/// does not.
#[test]
fn drain_counts_from_the_last_progress() {
    for blocks in [false, true] {
        let begin = |bench: &mut Bench| {
            let token = bench.open();
            let start = bench.now;
            let _ = bench.message(token, 1);
            for i in 1..=18 {
                bench.turn(start + i * 500);
                let _ = bench.tell(token, |conn| conn.writable());
                let _ = bench.tell(token, |conn| conn.sent(1));
                if blocks {
                    let _ = bench.tell(token, |conn| conn.would_block());
                }
            }
            token
        };
        ends(DRAIN, 11_000, Timeout::Drain, begin, hello_and_close);
    }
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let start = bench.now;
        let _ = bench.message(token, 2);
        bench.turn(start + 1_500);
        let _ = bench.tell(token, |conn| conn.peer_ended());
        token
    };
    ends(DRAIN, 2_000, Timeout::Drain, begin, hello_and_close);
}

/// Opens a socket that is stalled, and optionally closed (message 1) or in a staged close (message 2) after that.
fn stalled(bench: &mut Bench, message: Option<u32>) -> Token {
    let token = bench.open();
    let _ = bench.receive(token, b"x");
    let _ = bench.tell(token, |conn| conn.would_block());
    if let Some(message) = message {
        let _ = bench.message(token, message);
    }
    token
}

/// The timeouts that a progressing peer must not hit, and that apply from its last progress.
const PATIENT: Timeouts = Timeouts { write_stall: ms(4_000), drain: ms(2_000), ..Timeouts::NONE };

/// Nothing is sent in all that time because the system's buffer is too full; but the buffer drains.
#[test]
fn a_peer_that_takes_what_the_system_holds_is_not_stalled() {
    for (message, span, which) in [
        (None, 4_000, Timeout::WriteStall),
        (Some(1), 2_000, Timeout::Drain),
        (Some(2), 2_000, Timeout::Drain),
    ] {
        // The buffer drains byte by byte, or in larger steps.
        for every in [1, 100, span - 1] {
            for start in STARTS {
                let mut bench = Bench::starting_at(start, &with(PATIENT), hello_and_close);
                bench.shard.ask_undelivered();
                let stops = start + 60_000 / every * every;
                bench.undelivered =
                    Box::new(move |now| Some((100_000 - (now.min(stops) - start) / every) as usize));
                let token = stalled(&mut bench, message);
                let at = start + closed_at(&mut bench, start, token);
                // Progress is only noticed when the shard asks, eight times per span.
                let late = at.saturating_sub(stops + span);
                assert!(at >= stops + span, "{message:?} cut {} ms after it stopped", at - stops);
                assert!(late <= span / 8 + 3, "{message:?} cut {late} ms late");
                assert_eq!(bench.last().event, Event::Close(CloseReason::TimedOut(which)));
                bench.is_clean();
            }
        }
    }
}

#[test]
fn a_peer_that_takes_nothing_of_what_the_system_holds_is_stalled() {
    for (message, span) in [(None, 4_000), (Some(1), 2_000), (Some(2), 2_000)] {
        let mut bench = Bench::new(&with(PATIENT), hello_and_close);
        bench.shard.ask_undelivered();
        bench.undelivered = Box::new(|_| Some(70_000));
        let token = stalled(&mut bench, message);
        let at = closed_at(&mut bench, 0, token);
        assert!((span..=span + span / 8 + 3).contains(&at), "{message:?} cut at {at} ms");
    }
}

/// If the system does not report undelivered bytes, the timeouts are as exact as without asking.
#[test]
fn a_system_that_reports_no_undelivered_bytes_changes_nothing() {
    for (message, span) in [(None, 4_000), (Some(1), 2_000), (Some(2), 2_000)] {
        let mut bench = Bench::new(&with(PATIENT), hello_and_close);
        bench.shard.ask_undelivered();
        let token = stalled(&mut bench, message);
        in_time(closed_at(&mut bench, 0, token), span);
    }
}

/// A handler's deadlines share the timer. They must not hide the peer's progress, nor postpone its timeout.
#[test]
fn deadlines_do_not_put_a_stall_off() {
    let react = |socket: &mut Socket<'_, Data>, event: Event<u32>| {
        if matches!(event, Event::Open | Event::Timeout) {
            if event == Event::Open {
                socket.send(&[1; 100]).unwrap();
            }
            let due = socket.now() + Duration::from_millis(90);
            socket.set_deadline(Some(due));
        }
    };
    for stops in [0, 30_000] {
        let mut bench = Bench::new(&with(PATIENT), react);
        bench.shard.ask_undelivered();
        bench.undelivered = Box::new(move |now| Some((100_000 - now.min(stops)) as usize));
        let token = stalled(&mut bench, None);
        let at = closed_at(&mut bench, 0, token);
        assert!((stops + 4_000..=stops + 4_503).contains(&at), "cut at {at} ms");
    }
}

/// Without a write stall timeout the idle timeout applies, and also asks the system for undelivered bytes.
#[test]
fn a_peer_that_takes_what_the_system_holds_is_not_idle() {
    let mut bench = Bench::new(&with(Timeouts { idle: ms(4_000), ..Timeouts::NONE }), hello_and_close);
    bench.shard.ask_undelivered();
    bench.undelivered = Box::new(|now| Some((100_000 - now.min(30_000)) as usize));
    let token = stalled(&mut bench, None);
    let at = closed_at(&mut bench, 0, token);
    assert!((34_000..=34_503).contains(&at), "cut at {at} ms");
    assert_eq!(bench.last().event, Event::Close(CloseReason::TimedOut(Timeout::Idle)));
}

/// The undelivered bytes of the slot's previous socket are not compared with those of the next one.
#[test]
fn what_was_undelivered_of_one_socket_is_not_of_the_next() {
    let mut bench = Bench::new(&with(PATIENT), hello_and_close);
    bench.shard.ask_undelivered();
    bench.undelivered = Box::new(|_| Some(10));
    let token = stalled(&mut bench, None);
    closed_at(&mut bench, 0, token);
    let start = bench.now;
    bench.undelivered = Box::new(move |now| Some((100_000 - (now - start).min(30_000)) as usize));
    let token = stalled(&mut bench, None);
    let at = closed_at(&mut bench, start, token);
    assert!((34_000..=34_503).contains(&at), "cut at {at} ms");
}

/// Runs a staged close with all output sent. The system delivers it until `empty`, but makes no progress from `stops`
/// on. One byte more than that stands for the end of stream. Returns when the socket was closed.
fn lingering(empty: u64, stops: u64) -> u64 {
    let timeouts = Timeouts { linger: ms(700), ..DRAIN };
    let mut bench = Bench::new(&with(timeouts), hello_and_close);
    bench.shard.ask_undelivered();
    bench.undelivered = Box::new(move |now| Some(1 + empty.saturating_sub(now.min(stops)) as usize));
    let token = bench.open();
    assert_eq!(bench.message(token, 2), Ok(Action::Send));
    assert_eq!(bench.flush(token).1, Action::ShutdownWrite);
    assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), Action::Wait(Interest::READ));
    let at = closed_at(&mut bench, 0, token);
    assert_eq!(bench.last().event, Event::Close(CloseReason::Local));
    bench.is_clean();
    at
}

/// Closing could destroy undelivered bytes if the peer sends more, so a staged close waits until they are delivered.
#[test]
fn a_staged_close_waits_for_what_the_system_delivers() {
    in_time(lingering(0, 0), 700);
    in_time(lingering(600, 600), 700);
    let at = lingering(30_000, 30_000);
    assert!((30_700..=31_405).contains(&at), "closed at {at} ms");
    // But not forever.
    let at = lingering(30_000, 5_000);
    assert!((7_000..=7_705).contains(&at), "closed at {at} ms");
}

#[test]
fn a_drain_that_times_out_reports_what_was_lost() {
    let mut bench = Bench::new(&with(DRAIN), hello_and_close);
    let token = bench.open();
    let _ = bench.tell(token, |conn| conn.sent(30));
    let _ = bench.message(token, 1);
    closed_at(&mut bench, 0, token);
    assert_eq!(bench.last().queued, 70);
    let stats = bench.shard.stats();
    assert_eq!((stats.bytes_out, stats.bytes_lost), (30, 70));
    assert_eq!(stats.closed[CloseReason::TimedOut(Timeout::Drain).index()], 1);
}

#[test]
fn idle_and_stall_do_not_cut_a_drain_short() {
    let timeouts = Timeouts { idle: ms(500), write_stall: ms(500), first_byte: ms(500), ..DRAIN };
    let begin = |bench: &mut Bench| {
        let token = bench.open();
        let _ = bench.tell(token, |conn| conn.would_block());
        let _ = bench.message(token, 1);
        token
    };
    ends(timeouts, 2_000, Timeout::Drain, begin, hello_and_close);
}

/// A staged close ends cleanly even if the linger timeout expires before the peer's end of stream.
#[test]
fn linger() {
    for start in STARTS {
        let config = with(Timeouts { linger: ms(700), ..DRAIN });
        let mut bench = Bench::starting_at(start, &config, hello_and_close);
        let token = bench.open();
        assert_eq!(bench.message(token, 2), Ok(Action::Send));
        bench.turn(start + 1_000);
        assert_eq!(bench.flush(token).1, Action::ShutdownWrite);
        assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), Action::Wait(Interest::READ));
        for i in 1..=6 {
            bench.turn(start + 1_000 + i * 100);
            assert_eq!(bench.receive(token, b"discarded"), Action::Wait(Interest::READ));
        }
        in_time(closed_at(&mut bench, start, token), 1_700);
        assert_eq!(bench.last().event, Event::Close(CloseReason::Local));
        bench.is_clean();
    }
}

#[test]
fn activity_puts_idle_off_without_waking_for_each() {
    for start in STARTS {
        let mut bench =
            Bench::starting_at(start, &with(Timeouts { idle: ms(5_000), ..Timeouts::NONE }), echo);
        let token = bench.open();
        let mut woken = 0;
        for i in 1..=300 {
            woken += bench.sleep_until(start + i * 100).len();
            if i % 2 == 0 {
                let _ = bench.receive(token, b"x");
            } else if !bench.outputs(token).is_empty() {
                let _ = bench.flush(token);
            }
        }
        assert_eq!(woken, 0, "no turn for the socket");
        in_time(closed_at(&mut bench, start, token), 35_000);
        assert_eq!(bench.last().event, Event::Close(CloseReason::TimedOut(Timeout::Idle)));
    }
}

#[test]
fn a_deadline_comes_once_and_exactly() {
    for start in STARTS {
        for ahead in [0, 1, 2, 63, 64, 65, 4_095, 4_096, 100_000] {
            let mut bench = Bench::starting_at(
                start,
                &PLAIN,
                on(Event::Open, move |socket| {
                    let at = socket.now() + Duration::from_millis(ahead);
                    socket.set_deadline(Some(at));
                    assert_eq!(socket.deadline(), Some(at));
                }),
            );
            let token = bench.open();
            let orders = bench.sleep_until(start + 200_000);
            assert_eq!(orders, [(start + ahead, token, Action::Wait(Interest::READ))]);
            assert_eq!(bench.events(), [Event::Open, Event::Timeout]);
            assert_eq!(bench.shard.next_deadline(), None);
        }
    }
}

#[test]
fn a_deadline_in_the_past_is_due_now() {
    let mut bench = Bench::starting_at(
        10_000,
        &PLAIN,
        on(Event::Open, |socket| {
            socket.set_deadline(Some(Instant::from_millis(3)));
        }),
    );
    let token = bench.open();
    assert_eq!(bench.shard.next_deadline(), Some(Instant::from_millis(10_000)));
    assert_eq!(bench.turn(10_000), [(token, Action::Wait(Interest::READ))]);
    assert_eq!(bench.events(), [Event::Open, Event::Timeout]);
    assert_eq!(bench.turn(10_001), []);
}

/// A socket that becomes ready during a turn is run in the next one, even if it sets a deadline that has already
/// passed.
#[test]
fn a_deadline_set_again_in_the_past_does_not_hold_up_the_turn() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if matches!(event, Event::Open | Event::Timeout) {
            let now = socket.now();
            socket.set_deadline(Some(now));
        }
    });
    let token = bench.open();
    bench.set_clock(5);
    let mut turns = 0;
    while let Some(ready) = bench.shard.next_ready() {
        assert_eq!(ready, token);
        let _ = bench.run(token);
        turns += 1;
        assert!(turns < 100, "one turn without an end");
    }
}

/// The driver is so late that an engine timeout is due as well. The deadline was earlier, so it comes first.
#[test]
fn a_deadline_that_is_due_at_once_comes_before_a_later_end() {
    let config = with(Timeouts { idle: ms(100), ..Timeouts::NONE });
    let at_once = |socket: &mut Socket<'_, Data>| {
        let now = socket.now();
        socket.set_deadline(Some(now));
    };
    let mut bench = Bench::new(&config, on(Event::Message(0), at_once));
    let token = bench.open();
    let _ = bench.message(token, 0);
    assert_eq!(bench.turn(200), [(token, Action::Wait(Interest::READ))]);
    assert_eq!(bench.turn(200), [(token, Action::Close)]);
    let end = Event::Close(CloseReason::TimedOut(Timeout::Idle));
    assert_eq!(bench.events(), [Event::Open, Event::Message(0), Event::Timeout, end]);
    bench.is_clean();
}

#[test]
fn a_deadline_is_moved_and_cleared() {
    let mut bench = Bench::new(&PLAIN, |socket, event| match event {
        Event::Message(0) => socket.set_deadline(None),
        Event::Message(at) => socket.set_deadline(Some(Instant::from_millis(u64::from(at)))),
        _ => {}
    });
    let token = bench.open();
    let _ = bench.message(token, 1_000);
    let _ = bench.message(token, 3_000);
    assert_eq!(bench.sleep_until(2_999), []);
    let _ = bench.message(token, 5_000);
    let _ = bench.message(token, 4_000);
    assert_eq!(bench.sleep_until(3_999), []);
    assert_eq!(bench.sleep_until(4_000).len(), 1);
    let _ = bench.message(token, 6_000);
    let _ = bench.message(token, 0);
    assert_eq!(bench.sleep_until(20_000), []);
    let timeouts = bench.events().iter().filter(|event| **event == Event::Timeout).count();
    assert_eq!(timeouts, 1);
}

/// Of two events due at one connection, the first one moves the deadline.
#[test]
fn a_deadline_that_is_moved_before_its_event_does_not_come_early() {
    for to in [None, Some(Instant::from_millis(9_000))] {
        let mut bench = Bench::new(&PLAIN, move |socket, event| match event {
            Event::Open => socket.set_deadline(Some(Instant::from_millis(1_000))),
            Event::Receive => socket.set_deadline(to),
            Event::Timeout => assert_eq!(to.map(Instant::as_millis), Some(9_000), "the deadline was cleared"),
            _ => {}
        });
        let token = bench.open();
        bench.set_clock(1_000);
        assert_eq!(bench.shard.next_ready(), Some(token));
        let _ = bench.receive(token, b"in the same turn");
        assert_eq!(bench.events(), [Event::Open, Event::Receive], "moved to {to:?}");
        let orders = bench.sleep_until(20_000);
        assert_eq!(orders.len(), usize::from(to.is_some()));
    }
}

#[test]
fn a_far_deadline_is_taken_as_twelve_days() {
    const DAY: u64 = 24 * 3_600_000;
    for at in [u64::MAX, 13 * DAY, 1 << 33] {
        let mut bench = Bench::new(
            &PLAIN,
            on(Event::Open, move |socket| {
                socket.set_deadline(Some(Instant::from_millis(at)));
            }),
        );
        bench.open();
        let mut now = 0;
        while bench.events().last() != Some(&Event::Timeout) {
            now = bench.shard.next_deadline().expect("the deadline is set").as_millis();
            assert!(now < 13 * DAY);
            bench.turn(now);
        }
        assert!(now >= 12 * DAY, "{now}");
    }
}

#[test]
fn a_deadline_does_not_come_to_a_socket_that_closes() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, |socket| {
            socket.set_deadline(Some(Instant::from_millis(100)));
            socket.send(b"bye").unwrap();
            socket.close();
        }),
    );
    let token = bench.open();
    assert_eq!(bench.turn(1_000), []);
    assert_eq!(bench.flush(token).1, Action::Close);
    assert_eq!(bench.events(), [Event::Open, Event::Close(CloseReason::Local)]);
    bench.is_clean();
}

#[test]
fn a_deadline_comes_in_every_live_state() {
    let open = |socket: &mut Socket<'_, Data>, event| match event {
        Event::Open => socket.set_deadline(Some(Instant::from_millis(100))),
        Event::Message(0) => socket.finish(),
        Event::Message(_) => socket.pause(),
        _ => {}
    };
    for how in 0..5 {
        let mut bench = Bench::new(&PLAIN, open);
        let token = bench.open();
        match how {
            0 => drop(bench.message(token, 0)),
            1 => {
                assert_eq!(bench.message(token, 0), Ok(Action::ShutdownWrite));
                let _ = bench.tell(token, |conn| conn.write_shut_down());
            }
            2 => drop(bench.tell(token, |conn| conn.peer_ended())),
            3 => drop(bench.message(token, 1)),
            _ => drop(bench.receive(token, &[0; 64])),
        }
        assert_eq!(bench.sleep_until(1_000).len(), 1, "{how}");
        assert_eq!(bench.last().event, Event::Timeout);
    }
}

#[test]
fn a_clock_that_stops_or_goes_back_changes_nothing() {
    for start in STARTS {
        let start = start + 10_000;
        let config = with(Timeouts { idle: ms(5_000), ..Timeouts::NONE });
        let mut bench = Bench::starting_at(
            start,
            &config,
            on(Event::Open, |socket| {
                let at = socket.now() + Duration::from_millis(1_000);
                socket.set_deadline(Some(at));
            }),
        );
        let token = bench.open();
        for now in [start, start, start - 1, start - 9_999, start + 999, start + 3, start + 999] {
            assert_eq!(bench.turn(now), [], "at {now}");
        }
        assert_eq!(bench.turn(start + 1_000).len(), 1);
        assert_eq!(bench.turn(start + 1_000), []);
        assert_eq!(bench.turn(start), []);
        in_time(closed_at(&mut bench, start, token), 5_000);
    }
}

/// Runs a turn just before and at each level boundary of the timer wheel.
#[test]
fn jumps_to_the_edges_of_the_wheel() {
    for start in STARTS {
        for edge in [1, 64, 4_096, 262_144, 16_777_216, 1 << 29] {
            for ahead in [edge - 1, edge, edge + 1] {
                let mut bench = Bench::starting_at(
                    start,
                    &PLAIN,
                    on(Event::Open, move |socket| {
                        let at = socket.now() + Duration::from_millis(ahead);
                        socket.set_deadline(Some(at));
                    }),
                );
                bench.open();
                if ahead > 0 {
                    assert_eq!(bench.turn(start + ahead - 1), []);
                }
                assert_eq!(bench.turn(start + ahead).len(), 1);
                assert_eq!(bench.shard.next_deadline(), None);
            }
        }
    }
}

#[test]
fn the_earliest_of_many_is_the_next_deadline() {
    let mut bench = Bench::new(&Config { sockets: 100, ..PLAIN }, |socket, event| {
        if event == Event::Open {
            let at = 10 + (socket.data.id as u64 * 7_919) % 5_000;
            socket.set_deadline(Some(Instant::from_millis(at)));
        }
    });
    let mut due: Vec<u64> = (0..100).map(|id| 10 + (id * 7_919) % 5_000).collect();
    due.sort_unstable();
    for _ in 0..100 {
        bench.open();
    }
    let times: Vec<u64> = bench.sleep_until(10_000).iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, due);
}

/// Activity in the turn of the timeout's own tick, before `next_ready`, still postpones the timeout.
#[test]
fn what_comes_in_the_same_turn_counts() {
    let config = with(Timeouts { idle: ms(1_000), ..Timeouts::NONE });
    let mut bench = Bench::new(&config, nothing);
    let token = bench.open();
    bench.set_clock(5_000);
    let _ = bench.receive(token, b"x");
    assert_eq!(bench.shard.next_ready(), None);
    in_time(closed_at(&mut bench, 5_000, token), 1_000);
}

#[test]
fn a_silent_wire_needs_no_wake_up_without_timeouts() {
    let mut bench = Bench::new(&PLAIN, hello);
    let token = bench.open();
    let _ = bench.tell(token, |conn| conn.would_block());
    assert_eq!(bench.shard.next_deadline(), None);
    assert_eq!(bench.turn(1 << 30), []);
}
