//! Every path through the life of a socket by its public inputs, and the correctness of the reports at its end.

use crate::common::{
    self, Bench, Data, PEER, PLAIN, Peer, Seen, Wire, echo, gather, ms, nothing, on, pattern,
};
use lightcone_core::{
    Action, AdmitError, CloseReason, Config, ErrorKind, Event, Full, Instant, Interest, Socket, Timeout,
    Timeouts, Token,
};

type E = Event<u32>;

const READ: Action = Action::Wait(Interest::READ);
const NONE: Action = Action::Wait(Interest::NONE);
const LOCAL: E = Event::Close(CloseReason::Local);
const RESET: E = Event::Close(CloseReason::Reset);

/// Makes the handler do what the message says.
fn obey(socket: &mut Socket<'_, Data>, event: E) {
    let Event::Message(what) = event else { return };
    match what {
        0 => socket.close(),
        1 => socket.finish(),
        2 => socket.linger(),
        3 => socket.abort(),
        4 => socket.pause(),
        n => socket.send(&vec![b'x'; n as usize]).unwrap(),
    }
}

const CLOSE: u32 = 0;
const FINISH: u32 = 1;
const LINGER: u32 = 2;
const ABORT: u32 = 3;
const PAUSE: u32 = 4;

/// Returns an open socket with the handler [`obey`], after discarding the events so far.
fn obeying() -> (Bench, Token) {
    let mut bench = Bench::new(&PLAIN, obey);
    let token = bench.open();
    bench.events();
    (bench, token)
}

/// Takes the events recorded so far, without the messages that caused them.
fn events(bench: &mut Bench) -> Vec<E> {
    bench.events().into_iter().filter(|event| !matches!(event, Event::Message(_))).collect()
}

#[track_caller]
fn ends_with(mut bench: Bench, expected: &[E]) {
    assert_eq!(events(&mut bench), expected);
    bench.is_clean();
    let stats = bench.shard.stats();
    assert_eq!(stats.closed_total(), 1);
    if let Some(Event::Close(reason)) = expected.last() {
        assert_eq!(stats.closed[reason.index()], 1);
    }
}

#[test]
fn request_and_answer() {
    let mut bench = Bench::new(&PLAIN, echo);
    let token = bench.admit().unwrap();
    assert_eq!(bench.seen(), []);
    assert_eq!(bench.run(token), READ);
    assert_eq!(bench.events(), [Event::Open]);
    assert_eq!(bench.receive(token, b"hello"), Action::Send);
    assert_eq!(bench.seen(), [Seen { id: 0, event: Event::Receive, unread: 5, queued: 0 }]);
    assert_eq!(bench.outputs(token), b"hello");
    assert_eq!(bench.tell(token, |conn| conn.sent(2)), Action::Send);
    assert_eq!(bench.outputs(token), b"llo");
    assert_eq!(bench.tell(token, |conn| conn.sent(3)), READ);
    assert_eq!(bench.events(), [Event::Receive, Event::Sent]);
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Close);
    assert_eq!(bench.events(), [Event::PeerClosed, Event::Close(CloseReason::Peer)]);
    assert!(bench.shard.connection(token).is_none());
    let stats = bench.shard.stats();
    assert_eq!((stats.accepted, stats.connected, stats.bytes_in, stats.bytes_out), (1, 0, 5, 5));
    bench.is_clean();
}

#[test]
fn the_view_shows_the_peer_and_the_time() {
    let mut bench = Bench::starting_at(77, &PLAIN, |socket, _| {
        assert_eq!(socket.peer(), PEER);
        assert_eq!(socket.now(), Instant::from_millis(77));
        assert_eq!(socket.capacity(), 64);
    });
    let (token, _) = bench.opened();
    let shown = bench.shard.connection(token).unwrap().token();
    assert_eq!(shown, token);
    assert_eq!(bench.receive(token, b"abc"), READ);
}

#[test]
fn unconsumed_bytes_stay_and_cause_no_second_receive() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    for piece in [b"ab", b"cd", b"ef"] {
        assert_eq!(bench.receive(token, piece), READ);
    }
    bench.turn(1);
    let _ = bench.run(token);
    let _ = bench.message(token, 9);
    let unread: Vec<(E, usize)> = bench.seen().iter().map(|seen| (seen.event, seen.unread)).collect();
    let r = Event::Receive;
    assert_eq!(unread, [(Event::Open, 0), (r, 2), (r, 4), (r, 6), (Event::Message(9), 6)]);
}

#[test]
fn several_receives_of_one_connection_are_one_event() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if event == Event::Receive {
            assert_eq!(socket.bytes(), b"onetwo");
            socket.consume(4);
        }
    });
    let token = bench.open();
    let _ = bench.tell(token, |conn| {
        conn.received(common::lent(b"one"));
        conn.received(common::lent(b"two"));
    });
    assert_eq!(bench.events(), [Event::Open, Event::Receive]);
    let _ = bench.message(token, 1);
    assert_eq!(bench.last().unread, 2);
}

#[test]
fn room_counts_what_has_just_been_received() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let _ = bench.tell(token, |conn| {
        conn.received(common::lent(b"one"));
        assert_eq!(conn.room(), 61);
    });
    assert_eq!(bench.room(token), 61);
}

#[test]
fn open_comes_before_what_came_with_it() {
    let mut bench = Bench::new(&PLAIN, echo);
    let token = bench.admit().unwrap();
    let next = bench.tell(token, |conn| {
        conn.received(common::lent(b"early"));
        conn.peer_ended();
    });
    assert_eq!(next, Action::Send);
    assert_eq!(bench.events(), [Event::Open, Event::Receive, Event::PeerClosed]);
    assert_eq!(bench.flush(token), (b"early".to_vec(), Action::Close));
    assert_eq!(bench.events(), [Event::Close(CloseReason::Peer)]);
}

#[test]
fn a_socket_that_fails_before_open_still_has_both_ends() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.admit().unwrap();
    assert_eq!(bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    assert_eq!(bench.events(), [Event::Open, RESET]);
    bench.is_clean();
}

#[test]
fn a_socket_that_its_driver_closes_before_open_still_has_both_ends() {
    let mut bench = Bench::new(&PLAIN, |socket, _| assert!(socket.is_closing()));
    let token = bench.admit().unwrap();
    assert_eq!(bench.tell(token, |conn| conn.close()), Action::Close);
    assert_eq!(bench.events(), [Event::Open, LOCAL]);
    assert_eq!(bench.shard.stats().refused, 0);
    bench.is_clean();
}

#[test]
fn a_connect_that_succeeds_and_is_closed_in_one_is_opened_and_closed() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.dial(1);
    let next = bench.tell(token, |conn| {
        conn.connected();
        conn.close();
    });
    assert_eq!(next, Action::Close);
    assert_eq!(bench.events(), [Event::Open, LOCAL]);
    bench.is_clean();
}

// ---- connecting

#[test]
fn a_connect_succeeds() {
    let mut bench = Bench::new(&PLAIN, echo);
    let token = bench.dial(42);
    assert!(bench.shard.connection(token).unwrap().is_connecting());
    assert_eq!(bench.events(), []);
    assert_eq!(bench.tell(token, |conn| conn.connected()), READ);
    assert_eq!(bench.events(), [Event::Open]);
    assert!(!bench.shard.connection(token).unwrap().is_connecting());
    assert_eq!(bench.tell(token, |conn| conn.connected()), READ);
    assert_eq!(bench.events(), [], "the second call has no effect");
    assert_eq!(bench.receive(token, b"x"), Action::Send);
    let stats = bench.shard.stats();
    assert_eq!((stats.accepted, stats.connected, stats.refused), (0, 1, 0));
}

#[test]
fn a_connect_that_succeeds_at_once_is_opened() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        assert_eq!((event, socket.data.tag), (Event::Open, Some(6)));
    });
    let token = bench.shard.reserve().unwrap();
    bench.shard.dial(&mut bench.handler, token, 6, &PEER).unwrap();
    assert_eq!(bench.tell(token, |conn| conn.connected()), READ);
    assert_eq!(bench.events(), [Event::Open]);
}

#[test]
fn a_connect_that_fails_says_refused_and_nothing_else() {
    for kind in [
        ErrorKind::ConnectionRefused,
        ErrorKind::HostUnreachable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::TimedOut,
        ErrorKind::ConnectionReset,
        ErrorKind::OutOfDescriptors,
        ErrorKind::Other,
    ] {
        let mut bench = Bench::new(&PLAIN, |socket, _| assert_eq!(socket.send(b"x"), Err(Full)));
        let token = bench.dial(1);
        assert_eq!(bench.tell(token, |conn| conn.failed(kind)), Action::Close);
        assert_eq!(bench.events(), [Event::Refused(kind)]);
        assert!(bench.try_tell(token, |conn| conn.connected()).is_none());
        let stats = *bench.shard.stats();
        assert_eq!((stats.refused, stats.connected, stats.closed_total()), (1, 0, 0));
        bench.is_clean();
    }
}

#[test]
fn a_connect_that_succeeds_and_fails_in_one_is_opened_and_closed() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.dial(1);
    let next = bench.tell(token, |conn| {
        conn.connected();
        conn.failed(ErrorKind::ConnectionReset);
    });
    assert_eq!(next, Action::Close);
    assert_eq!(bench.events(), [Event::Open, RESET]);
    bench.is_clean();
}

#[test]
fn a_connect_that_failed_is_not_opened_by_a_late_success() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.dial(1);
    let next = bench.tell(token, |conn| {
        conn.failed(ErrorKind::ConnectionRefused);
        conn.connected();
    });
    assert_eq!(next, Action::Close);
    assert_eq!(bench.events(), [Event::Refused(ErrorKind::ConnectionRefused)]);
    bench.is_clean();
}

#[test]
fn a_connect_that_is_cancelled_before_it_begins_is_refused() {
    for abort in [false, true] {
        let mut bench = Bench::new(&PLAIN, nothing);
        let token = bench.shard.reserve().unwrap();
        let order = |conn: &mut common::TestPort<'_>| {
            if abort { conn.abort_with(CloseReason::Aborted) } else { conn.close() }
        };
        assert_eq!(bench.tell(token, order), NONE);
        bench.shard.dial(&mut bench.handler, token, 1, &PEER).unwrap();
        assert!(!bench.shard.connection(token).unwrap().is_connecting());
        assert_eq!(bench.tell(token, |conn| conn.connected()), Action::Close);
        assert_eq!(bench.events(), [Event::Refused(ErrorKind::ConnectionAborted)]);
        bench.is_clean();
        // The slot keeps no trace of it.
        let next = bench.dial(2);
        assert_eq!(next.index(), token.index());
        assert!(bench.shard.connection(next).unwrap().is_connecting());
    }
}

#[test]
fn a_released_place_forgets_that_it_was_cancelled() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.shard.reserve().unwrap();
    assert_eq!(bench.tell(token, |conn| conn.close()), NONE);
    bench.shard.release_slot(token);
    assert_eq!(bench.dial(1).index(), token.index());
}

#[test]
fn a_driver_that_closes_before_open_still_delivers_open_and_close() {
    for pull in [false, true] {
        let mut bench = Bench::new(&PLAIN, nothing);
        bench.pull = pull;
        let token = bench.admit().unwrap();
        assert_eq!(bench.tell(token, |conn| conn.close()), Action::Close);
        assert_eq!(bench.events(), [Event::Open, LOCAL]);
        let token = bench.dial(1);
        let order = |conn: &mut common::TestPort<'_>| {
            conn.connected();
            conn.received(common::lent(b"never delivered"));
            conn.close();
        };
        let mut next = bench.tell(token, order);
        // The input is unread, so the close is staged.
        assert_eq!(next, Action::ShutdownWrite);
        next = bench.tell(token, |conn| conn.write_shut_down());
        assert_eq!(next, READ);
        assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Close);
        assert_eq!(bench.events(), [Event::Open, LOCAL]);
        bench.is_clean();
    }
}

#[test]
fn a_connect_ends_at_shutdown() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.dial(1);
    bench.shard.stop();
    assert_eq!(bench.tell(token, |conn| conn.shutdown()), Action::Close);
    assert_eq!(bench.events(), [Event::Refused(ErrorKind::ConnectionAborted)]);
    bench.is_clean();
}

#[test]
fn a_connect_is_cut() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.dial(1);
    assert_eq!(bench.tell(token, |conn| conn.abort_with(CloseReason::Shutdown)), Action::Close);
    assert!(matches!(bench.events()[..], [Event::Refused(_)]));
    bench.is_clean();
}

// ---- close

#[test]
fn close_with_nothing_queued_is_at_once() {
    let (mut bench, token) = obeying();
    assert_eq!(bench.message(token, CLOSE), Ok(Action::Close));
    ends_with(bench, &[LOCAL]);
}

#[test]
fn close_flushes_first() {
    let (mut bench, token) = obeying();
    assert_eq!(bench.message(token, 100), Ok(Action::Send));
    assert_eq!(bench.message(token, CLOSE), Ok(Action::Send));
    assert_eq!(events(&mut bench), []);
    assert_eq!(bench.tell(token, |conn| conn.sent(60)), Action::Send);
    assert_eq!(bench.tell(token, |conn| conn.would_block()), Action::Wait(Interest::WRITE));
    assert_eq!(bench.tell(token, |conn| conn.writable()), Action::Send);
    assert_eq!(events(&mut bench), []);
    assert_eq!(bench.tell(token, |conn| conn.sent(40)), Action::Close);
    assert_eq!(bench.last().queued, 0);
    assert_eq!(bench.shard.stats().bytes_lost, 0);
    ends_with(bench, &[LOCAL]);
}

#[test]
fn after_close_only_close_follows() {
    for act in [CLOSE, LINGER] {
        let (mut bench, token) = obeying();
        let _ = bench.message(token, 100);
        let _ = bench.message(token, act);
        assert_eq!(bench.message(token, 5), Err(5));
        let _ = bench.tell(token, |conn| conn.shutdown());
        let _ = bench.tell(token, |conn| conn.would_block());
        let _ = bench.tell(token, |conn| conn.writable());
        assert_eq!(bench.room(token) > 0, act == LINGER, "input is discarded only in a staged close");
        if act == LINGER {
            let _ = bench.receive(token, b"discarded");
        }
        let _ = bench.tell(token, |conn| conn.peer_ended());
        assert_eq!(events(&mut bench), []);
        assert_eq!(bench.flush(token).1, Action::Close);
        assert!(matches!(events(&mut bench)[..], [Event::Close(_)]));
        bench.is_clean();
    }
}

/// Follows a staged close, caused by `linger`, or by `close` with unread input.
fn staged(mut bench: Bench, token: Token, asked: Action, reason: E) {
    let mut next = asked;
    if next == Action::Send {
        next = bench.flush(token).1;
    }
    assert_eq!(next, Action::ShutdownWrite);
    assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), READ, "reads on, to discard");
    for _ in 0..10 {
        assert!(bench.room(token) > 0);
        assert_eq!(bench.receive(token, b"discarded"), READ);
    }
    assert_eq!(events(&mut bench), []);
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Close);
    ends_with(bench, &[reason]);
}

#[test]
fn close_with_unread_input_is_staged() {
    let (mut bench, token) = obeying();
    let _ = bench.receive(token, b"unread");
    bench.events();
    let _ = bench.message(token, 100);
    let next = bench.message(token, CLOSE).unwrap();
    staged(bench, token, next, LOCAL);

    let (mut bench, token) = obeying();
    let _ = bench.receive(token, b"unread");
    bench.events();
    let next = bench.message(token, CLOSE).unwrap();
    staged(bench, token, next, LOCAL);
}

#[test]
fn close_in_receive_with_unread_input_is_staged() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            socket.send(b"no").unwrap();
            socket.consume(3);
            socket.close();
        }),
    );
    let token = bench.open();
    let next = bench.receive(token, b"unread");
    bench.events();
    staged(bench, token, next, LOCAL);
}

/// The bytes arrived together with the connection, and `open` closes without having seen them.
#[test]
fn close_in_open_with_unread_input_is_staged() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, |socket| {
            socket.send(b"no").unwrap();
            socket.close();
        }),
    );
    let token = bench.admit().unwrap();
    let next = bench.receive(token, b"unread");
    bench.events();
    staged(bench, token, next, LOCAL);
}

#[test]
fn close_with_a_full_receive_is_staged_as_more_is_probably_there() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Receive, |socket| {
            socket.consume(64);
            socket.close();
        }),
    );
    let token = bench.open();
    let next = bench.receive(token, &[0; 64]);
    bench.events();
    staged(bench, token, next, LOCAL);
}

#[test]
fn linger_discards_until_the_peer_ends() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    let next = bench.message(token, LINGER).unwrap();
    staged(bench, token, next, LOCAL);
    let (mut bench, token) = obeying();
    let next = bench.message(token, LINGER).unwrap();
    staged(bench, token, next, LOCAL);
}

#[test]
fn linger_discards_while_output_is_still_leaving() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    let _ = bench.message(token, LINGER);
    assert_eq!(bench.tell(token, |conn| conn.would_block()), Action::Wait(Interest::BOTH));
    assert_eq!(bench.receive(token, &[0; 64]), Action::Wait(Interest::BOTH));
    assert_eq!(bench.receive(token, &[0; 64]), Action::Wait(Interest::BOTH));
    let next = bench.tell(token, |conn| conn.writable());
    staged(bench, token, next, LOCAL);
}

#[test]
fn the_peer_ends_while_a_staged_close_sends() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    let _ = bench.message(token, LINGER);
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Send);
    assert_eq!(bench.flush(token).1, Action::Close);
    ends_with(bench, &[LOCAL]);
}

#[test]
fn close_when_the_peer_has_ended_is_not_staged() {
    let (mut bench, token) = obeying();
    let _ = bench.receive(token, b"unread");
    let _ = bench.tell(token, |conn| conn.peer_ended());
    let _ = bench.message(token, 10);
    assert_eq!(bench.message(token, CLOSE), Ok(Action::Send));
    assert_eq!(bench.flush(token).1, Action::Close);
    ends_with(bench, &[Event::Receive, Event::PeerClosed, Event::Close(CloseReason::Peer)]);
}

#[test]
fn a_staged_close_cut_by_the_peer_is_orderly_once_all_has_left() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, LINGER);
    let _ = bench.tell(token, |conn| conn.write_shut_down());
    assert_eq!(bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    ends_with(bench, &[LOCAL]);
}

// ---- half-close

#[test]
fn the_peer_ends_and_this_side_goes_on_sending() {
    let (mut bench, token) = obeying();
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), NONE);
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), NONE);
    assert_eq!(events(&mut bench), [Event::PeerClosed], "the second call has no effect");
    for _ in 0..3 {
        assert_eq!(bench.message(token, 100), Ok(Action::Send));
        assert_eq!(bench.flush(token).1, NONE);
    }
    assert_eq!(events(&mut bench), [Event::Sent, Event::Sent, Event::Sent]);
    assert_eq!(bench.message(token, FINISH), Ok(Action::Close), "both directions have ended");
    ends_with(bench, &[Event::Close(CloseReason::Peer)]);
}

#[test]
fn finish_sends_then_shuts_down_writing_and_reads_on() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    assert_eq!(bench.message(token, FINISH), Ok(Action::Send));
    assert_eq!(bench.receive(token, b"a"), Action::Send);
    assert_eq!(bench.flush(token).1, Action::ShutdownWrite);
    assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), READ);
    assert_eq!(bench.receive(token, b"b"), READ);
    assert_eq!(bench.message(token, FINISH), Ok(READ), "the second call has no effect");
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Close);
    assert_eq!(bench.handler.alive(), 0);
    let events = events(&mut bench);
    let expected = [Event::Receive, Event::Sent, Event::Receive, Event::PeerClosed, LOCAL];
    assert_eq!(events, expected);
    bench.is_clean();
}

#[test]
fn finish_refuses_output_from_then_on() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if event == Event::Open {
            socket.send(b"all").unwrap();
            socket.finish();
            assert!(!socket.is_closing());
        }
        assert_eq!((socket.send(b"more"), socket.room()), (Err(Full), 0));
        assert!(!socket.is_writable_pending());
    });
    let (token, next) = bench.opened();
    assert_eq!(next, Action::Send);
    assert_eq!(bench.flush(token).0, b"all");
    assert_eq!(bench.receive(token, b"x"), Action::ShutdownWrite);
    assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), READ);
    assert_eq!(bench.message(token, 1), Ok(READ));
}

#[test]
fn the_peer_ends_while_finish_is_still_sending() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    let _ = bench.message(token, FINISH);
    assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Send);
    assert_eq!(bench.flush(token).1, Action::Close);
    ends_with(bench, &[Event::PeerClosed, LOCAL]);
}

/// At the end of a half-closed exchange, the last bytes and the end of stream arrive together.
#[test]
fn the_last_bytes_come_with_the_end_after_finish() {
    for shut in [false, true] {
        let (mut bench, token) = obeying();
        assert_eq!(bench.message(token, FINISH), Ok(Action::ShutdownWrite));
        if shut {
            let _ = bench.tell(token, |conn| conn.write_shut_down());
        }
        let _ = bench.tell(token, |conn| {
            conn.received(common::lent(b"the answer"));
            conn.peer_ended();
        });
        assert_eq!(
            bench.seen()[1],
            Seen { id: 0, event: Event::Receive, unread: 10, queued: 0 },
            "bytes that came must be delivered; shut: {shut}"
        );
        assert_eq!(events(&mut bench), [Event::Receive, Event::PeerClosed, LOCAL]);
        bench.is_clean();
    }
}

/// Unconsumed bytes are kept: a handler that parses only at the end of stream finds them there.
#[test]
fn unconsumed_bytes_are_there_when_the_peer_ends() {
    for finish in [false, true] {
        let (mut bench, token) = obeying();
        if finish {
            let _ = bench.message(token, FINISH);
            let _ = bench.tell(token, |conn| conn.write_shut_down());
        }
        let _ = bench.receive(token, b"all of it");
        let _ = bench.tell(token, |conn| conn.peer_ended());
        let seen = bench.seen().iter().find(|seen| seen.event == Event::PeerClosed).copied().unwrap();
        assert_eq!(seen.unread, 9, "finish: {finish}");
    }
}

#[test]
fn close_after_finish() {
    for (act, shut) in [(CLOSE, false), (CLOSE, true), (LINGER, false), (LINGER, true)] {
        let (mut bench, token) = obeying();
        let _ = bench.message(token, 10);
        let _ = bench.message(token, FINISH);
        if shut {
            assert_eq!(bench.flush(token).1, Action::ShutdownWrite);
            assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), READ);
        }
        let mut next = bench.message(token, act).unwrap();
        if !shut {
            assert_eq!(next, Action::Send);
            next = bench.flush(token).1;
        }
        match (act, shut) {
            (CLOSE, _) => assert_eq!(next, Action::Close),
            (_, true) => assert_eq!(next, READ, "writing is shut down already"),
            (_, false) => assert_eq!(next, Action::ShutdownWrite),
        }
        if act == LINGER {
            if !shut {
                assert_eq!(bench.tell(token, |conn| conn.write_shut_down()), READ);
            }
            assert_eq!(bench.tell(token, |conn| conn.peer_ended()), Action::Close);
        }
        assert_eq!(events(&mut bench).last(), Some(&LOCAL));
        bench.is_clean();
    }
}

// ---- abort, failure

#[test]
fn abort_is_at_once_and_reports_what_was_lost() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    let _ = bench.tell(token, |conn| conn.sent(30));
    assert_eq!(bench.message(token, ABORT), Ok(Action::Close));
    assert_eq!(bench.last().queued, 70);
    let stats = *bench.shard.stats();
    assert_eq!((stats.bytes_out, stats.bytes_lost), (30, 70));
    ends_with(bench, &[Event::Close(CloseReason::Aborted)]);
}

#[test]
fn abort_in_close_is_a_reset_whatever_the_reason() {
    for (aborts, reason) in [
        (true, CloseReason::Shutdown),
        (false, CloseReason::Shutdown),
        (true, CloseReason::TimedOut(Timeout::Idle)),
        (false, CloseReason::TimedOut(Timeout::Idle)),
    ] {
        for pull in [false, true] {
            let mut aborts_once = aborts;
            let mut bench = Bench::new(&PLAIN, move |socket, event| {
                if matches!(event, Event::Close(_)) && core::mem::take(&mut aborts_once) {
                    socket.abort();
                }
            });
            bench.pull = pull;
            let token = bench.open();
            assert_eq!(bench.tell(token, |conn| conn.abort_with(reason)), Action::Close);
            assert_eq!(bench.shard.needs_reset(), aborts, "{reason:?}");
            assert_eq!(bench.events(), [E::Open, E::Close(reason)]);
            // The next socket of the slot is not affected.
            let token = bench.open();
            assert_eq!(bench.tell(token, |conn| conn.close()), Action::Close);
            assert!(!bench.shard.needs_reset());
        }
    }
}

#[test]
fn abort_wins_over_close_in_one_callback() {
    let mut bench = Bench::new(
        &PLAIN,
        on(Event::Open, |socket| {
            socket.send(b"lost").unwrap();
            socket.close();
            socket.linger();
            socket.finish();
            socket.abort();
            assert!(socket.is_closing());
        }),
    );
    let (_, next) = bench.opened();
    assert_eq!(next, Action::Close);
    assert_eq!(bench.events(), [Event::Open, Event::Close(CloseReason::Aborted)]);
}

/// The stages of a socket: a name, the messages that lead to it, and whether all output has been sent by then.
fn stages() -> Vec<(&'static str, Vec<u32>, bool)> {
    vec![
        ("open", vec![], false),
        ("queued", vec![100], false),
        ("finishing", vec![100, FINISH], false),
        ("finished", vec![FINISH], false),
        ("draining", vec![100, CLOSE], false),
        ("pre-linger", vec![100, LINGER], false),
        ("paused", vec![PAUSE], false),
        ("lingering", vec![LINGER], true),
    ]
}

#[test]
fn a_failure_at_every_stage() {
    for (stage, messages, done) in stages() {
        for (kind, reason) in [
            (ErrorKind::ConnectionReset, CloseReason::Reset),
            (ErrorKind::BrokenPipe, CloseReason::Reset),
            (ErrorKind::TimedOut, CloseReason::Error(ErrorKind::TimedOut)),
            (ErrorKind::HostUnreachable, CloseReason::Error(ErrorKind::HostUnreachable)),
        ] {
            let (mut bench, token) = obeying();
            let mut next = READ;
            for message in &messages {
                next = bench.message(token, *message).unwrap();
            }
            if next == Action::ShutdownWrite {
                let _ = bench.tell(token, |conn| conn.write_shut_down());
            }
            let queued = bench.outputs(token).len();
            assert_eq!(bench.tell(token, |conn| conn.failed(kind)), Action::Close, "{stage}");
            let reason = if done { CloseReason::Local } else { reason };
            assert_eq!(bench.last().queued, queued, "{stage}");
            assert_eq!(events(&mut bench), [Event::Close(reason)], "{stage}");
            assert_eq!(bench.shard.stats().bytes_lost, queued as u64);
            assert!(bench.try_tell(token, |conn| conn.peer_ended()).is_none());
            bench.is_clean();
        }
    }
}

#[test]
fn a_failure_after_the_peer_ended_is_a_failure() {
    let (mut bench, token) = obeying();
    let _ = bench.tell(token, |conn| conn.peer_ended());
    let _ = bench.message(token, 10);
    assert_eq!(bench.tell(token, |conn| conn.failed(ErrorKind::BrokenPipe)), Action::Close);
    ends_with(bench, &[Event::PeerClosed, RESET]);
}

#[test]
fn an_end_and_a_failure_reported_at_once_both_arrive() {
    let (mut bench, token) = obeying();
    let _ = bench.tell(token, |conn| {
        conn.peer_ended();
        conn.failed(ErrorKind::ConnectionReset);
    });
    ends_with(bench, &[Event::PeerClosed, RESET]);
}

#[test]
fn abort_with_reports_its_reason() {
    for reason in [CloseReason::HandlerPanic, CloseReason::Shutdown, CloseReason::Reset] {
        let (mut bench, token) = obeying();
        let _ = bench.message(token, 7);
        assert_eq!(bench.tell(token, |conn| conn.abort_with(reason)), Action::Close);
        assert_eq!(bench.last().queued, 7);
        ends_with(bench, &[Event::Close(reason)]);
    }
}

#[test]
fn no_event_comes_after_close_whatever_is_reported() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, ABORT);
    bench.events();
    for _ in 0..2 {
        assert!(bench.try_tell(token, |conn| conn.received(common::lent(b"late"))).is_none());
        assert!(bench.try_tell(token, |conn| conn.peer_ended()).is_none());
        assert!(bench.try_tell(token, |conn| conn.writable()).is_none());
        assert_eq!(bench.message(token, 9), Err(9));
    }
    assert_eq!(bench.events(), []);
    bench.is_clean();
}

/// A careless driver calls everything on one connection.
#[test]
fn a_connection_accepts_reports_after_its_end() {
    let (mut bench, token) = obeying();
    let next = bench.tell(token, |conn| {
        conn.failed(ErrorKind::ConnectionReset);
        conn.failed(ErrorKind::Other);
        conn.received(common::lent(b"late"));
        conn.peer_ended();
        conn.writable();
        conn.would_block();
        conn.connected();
        conn.write_shut_down();
        conn.shutdown();
        conn.abort_with(CloseReason::Shutdown);
    });
    assert_eq!(next, Action::Close);
    ends_with(bench, &[RESET]);
}

// ---- shutdown

#[test]
fn shutdown_is_an_event_and_the_handler_closes() {
    let (mut bench, token) = obeying();
    let _ = bench.message(token, 100);
    bench.events();
    bench.shard.stop();
    assert_eq!(bench.admit(), Err(AdmitError::Stopping));
    assert_eq!(bench.shard.reserve(), None);
    assert!(!bench.shard.has_room());
    assert_eq!(bench.tell(token, |conn| conn.shutdown()), Action::Send);
    assert_eq!(bench.events(), [Event::Shutdown]);
    assert_eq!(bench.message(token, CLOSE), Ok(Action::Send));
    assert_eq!(bench.flush(token).1, Action::Close);
    ends_with(bench, &[Event::Close(CloseReason::Shutdown)]);
}

#[test]
fn stop_refuses_a_dial_and_frees_its_place() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.shard.reserve().unwrap();
    bench.shard.stop();
    assert_eq!(bench.shard.dial(&mut bench.handler, token, 1, &PEER), Err(AdmitError::Stopping));
    assert_eq!(bench.handler.inner().admitted, 0, "`admit` was not called");
    bench.is_clean();
}

#[test]
fn all_sockets_are_found_at_shutdown() {
    let mut bench = Bench::new(&PLAIN, on(Event::Shutdown, |socket| socket.close()));
    let (a, b, c, d) = (bench.open(), bench.open(), bench.dial(1), bench.open());
    let _ = bench.tell(b, |conn| conn.failed(ErrorKind::Other));
    let mut open = Vec::new();
    while let Some(token) = bench.shard.next_open(open.last().map_or(0, |token: &Token| token.index() + 1)) {
        open.push(token);
    }
    assert_eq!(open, [a, d]);
    bench.shard.stop();
    let (mut from, mut told) = (0, Vec::new());
    while let Some(token) = bench.shard.next_in_use(from) {
        from = token.index() + 1;
        told.push(token);
        assert_eq!(bench.tell(token, |conn| conn.shutdown()), Action::Close);
    }
    assert_eq!(told, [a, c, d]);
    assert_eq!(bench.shard.next_in_use(0), None);
    bench.is_clean();
}

// ---- reactions in every kind of event

type Step<'a> = &'a dyn Fn(&mut Bench) -> Option<Action>;

/// Causes every kind of event but the last in the life of one socket.
fn all_kinds(react: impl FnMut(&mut Socket<'_, Data>, E) + 'static) -> Bench {
    let config = Config { timeouts: Timeouts { drain: ms(500), linger: ms(500), ..Timeouts::NONE }, ..PLAIN };
    let mut bench = Bench::new(&config, react);
    let token = bench.admit().unwrap();
    let steps: [Step<'_>; 8] = [
        &|bench| bench.try_tell(token, |_| {}),
        &|bench| {
            bench.try_tell(token, |conn| {
                if conn.room() > 0 {
                    conn.received(common::lent(b"bytes"));
                }
            })
        },
        &|bench| bench.message(token, 1_000_000).ok(),
        &|bench| bench.try_tell(token, |conn| conn.sent(gather(conn).len())),
        &|bench| bench.turn(1_000).pop().map(|(_, next)| next),
        &|bench| bench.turn(1_000).pop().map(|(_, next)| next),
        &|bench| bench.try_tell(token, |conn| conn.shutdown()),
        &|bench| bench.try_tell(token, |conn| conn.peer_ended()),
    ];
    for step in steps {
        let mut next = step(&mut bench);
        while let Some(Action::ShutdownWrite | Action::Send) = next {
            next = bench.try_tell(token, |conn| {
                let n = gather(conn).len();
                if n > 0 { conn.sent(n) } else { conn.write_shut_down() }
            });
        }
    }
    bench.turn(2_000);
    bench
}

fn prepare(socket: &mut Socket<'_, Data>, event: E) {
    if event == Event::Open {
        socket.set_deadline(Some(Instant::from_millis(1_000)));
        socket.split().1.request_writable();
        let _ = socket.send(b"hello");
    }
}

const KINDS: [E; 9] = [
    Event::Open,
    Event::Receive,
    Event::Writable,
    Event::Sent,
    Event::PeerClosed,
    Event::Timeout,
    Event::Shutdown,
    Event::Message(1_000_000),
    Event::Close(CloseReason::Local),
];

#[test]
fn the_life_with_all_kinds_has_all_kinds() {
    let mut bench = all_kinds(|socket, event| {
        prepare(socket, event);
        if event == Event::PeerClosed {
            socket.close();
        }
    });
    let events = bench.events();
    for kind in KINDS {
        let there =
            events.iter().any(|event| core::mem::discriminant(event) == core::mem::discriminant(&kind));
        assert!(there, "{kind:?} in {events:?}");
    }
    bench.is_clean();
}

#[test]
fn every_ending_in_every_kind_of_event() {
    for kind in KINDS {
        for ending in 0..5 {
            let mut bench = all_kinds(move |socket, event| {
                prepare(socket, event);
                if core::mem::discriminant(&event) == core::mem::discriminant(&kind) {
                    match ending {
                        0 => socket.close(),
                        1 => socket.linger(),
                        2 => socket.abort(),
                        3 => socket.finish(),
                        _ => {
                            socket.close();
                            socket.abort();
                        }
                    }
                } else if matches!(event, Event::PeerClosed) {
                    socket.close();
                }
            });
            let events = bench.events();
            assert!(matches!(events.last(), Some(Event::Close(_))), "{kind:?} {ending} {events:?}");
            bench.is_clean();
        }
    }
}

#[test]
fn sending_in_every_kind_of_event() {
    for kind in KINDS {
        let mut bench = all_kinds(move |socket, event| {
            prepare(socket, event);
            if core::mem::discriminant(&event) == core::mem::discriminant(&kind) {
                match event {
                    Event::Close(_) => assert_eq!((socket.send(b"x"), socket.room()), (Err(Full), 0)),
                    Event::PeerClosed => {
                        socket.send(b"bye").unwrap();
                        socket.close();
                    }
                    _ if socket.data.number < 3 => {
                        socket.data.number += 1;
                        socket.send(b"reply").unwrap();
                    }
                    _ => {}
                }
            } else if matches!(event, Event::PeerClosed) {
                socket.close();
            }
        });
        assert_eq!(bench.last().queued, 0, "{kind:?}");
        let stats = *bench.shard.stats();
        let more = match kind {
            Event::Close(_) => 0,
            Event::PeerClosed => 3,
            Event::Sent => 15,
            _ => 5,
        };
        assert_eq!((stats.bytes_out, stats.bytes_lost), (5 + more, 0), "{kind:?}");
        bench.is_clean();
    }
}

#[test]
fn close_ignores_the_requests_of_its_handler() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if matches!(event, Event::Close(_) | Event::Refused(_)) {
            assert!(socket.is_closing());
            socket.close();
            socket.abort();
            socket.linger();
            socket.finish();
            socket.resume();
            socket.pause();
            socket.split().1.request_writable();
            socket.set_deadline(Some(Instant::from_millis(0)));
            socket.consume_all();
            assert_eq!(socket.split().1.reserve(1).err(), Some(Full));
            assert!(socket.split().1.spare().is_empty());
            assert_eq!(socket.split().1.send_some(b"x"), 0);
        }
    });
    let (open, dialled) = (bench.open(), bench.dial(1));
    let _ = bench.receive(open, b"unread");
    assert_eq!(bench.tell(open, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
    assert_eq!(bench.tell(dialled, |conn| conn.failed(ErrorKind::Other)), Action::Close);
    bench.is_clean();
}

// ---- pull and push, put off

/// Runs the script once pushing and once pulling; both must produce the same events and stats.
fn both_ways(script: impl Fn(&mut Bench)) {
    let mut traces = [false, true].map(|pull| {
        let mut bench = Bench::new(&PLAIN, |socket, event| {
            echo(socket, event);
            obey(socket, event);
        });
        bench.pull = pull;
        script(&mut bench);
        (bench.seen().to_vec(), *bench.shard.stats())
    });
    assert!(!traces[0].0.is_empty());
    let [push, pull] = &mut traces;
    assert_eq!(push, pull);
}

#[test]
fn pulling_delivers_the_same_events_as_pushing() {
    both_ways(|bench| {
        let token = bench.admit().unwrap();
        let _ = bench.tell(token, |conn| {
            conn.received(common::lent(b"early"));
            conn.peer_ended();
        });
        let _ = bench.flush(token);
    });
    both_ways(|bench| {
        let token = bench.open();
        for n in 0..40 {
            let room = bench.room(token).min(n);
            let _ = bench.receive(token, &vec![7; room]);
            let queued = bench.outputs(token).len();
            let _ = bench.tell(token, |conn| conn.sent(queued.min(n / 2)));
            bench.turn(n as u64);
        }
        let _ = bench.message(token, FINISH);
        let _ = bench.flush(token);
        let _ = bench.tell(token, |conn| conn.write_shut_down());
        let _ = bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset));
    });
    both_ways(|bench| {
        let token = bench.dial(3);
        let _ = bench.tell(token, |conn| conn.connected());
        let _ = bench.message(token, 50);
        let _ = bench.message(token, ABORT);
        let token = bench.dial(4);
        let _ = bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn pulling_delivers_the_same_streams_as_pushing() {
    for (receive, send) in [(1, 64), (64, 1), (13, 7), (200, 200)] {
        let bytes: Vec<u8> = (0..5_000).map(pattern).collect();
        let traces = [false, true].map(|pull| {
            let mut bench = Bench::new(&PLAIN, echo);
            bench.pull = pull;
            let mut wire = Wire::new(bench);
            let mut peer = Peer::new(&bytes, true);
            peer.pieces = (receive, send);
            wire.accept(peer);
            wire.settle();
            assert_eq!(wire.gone[0].1.got, bytes);
            wire.bench.is_clean();
            wire.bench.seen().to_vec()
        });
        assert_eq!(traces[0], traces[1]);
    }
}

#[test]
fn a_connection_that_only_finishes_keeps_what_was_reported() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let mut conn = bench.shard.connection(token).unwrap();
    conn.received(common::lent(b"kept"));
    let _ = conn.finish();
    bench.turn(1);
    assert_eq!(bench.events(), [Event::Open, Event::Receive]);
    let _ = bench.message(token, 1);
    assert_eq!(bench.last().unread, 4);
}

#[test]
fn a_deferred_connection_keeps_what_was_reported() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.open();
    let mut conn = bench.shard.connection(token).unwrap();
    conn.received(common::lent(b"kept"));
    conn.defer();
    assert_eq!(bench.shard.next_deadline(), Some(Instant::from_millis(0)));
    assert_eq!(bench.turn(1), [(token, READ)]);
    assert_eq!(bench.events(), [Event::Open, Event::Receive]);
    let _ = bench.message(token, 1);
    assert_eq!(bench.last().unread, 4);
}

#[test]
fn a_deferred_socket_runs_in_the_next_turn_and_others_in_between() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let (a, b) = (bench.open(), bench.open());
    bench.shard.connection(a).unwrap().defer();
    bench.shard.connection(b).unwrap().defer();
    bench.shard.connection(a).unwrap().defer();
    bench.set_clock(1);
    assert_eq!(bench.shard.next_ready(), Some(a));
    bench.shard.connection(a).unwrap().defer();
    assert_eq!(bench.shard.next_ready(), Some(b));
    let _ = bench.run(b);
    assert_eq!(bench.shard.next_ready(), None, "a socket that is put off now is run in the next turn");
    bench.set_clock(2);
    assert_eq!(bench.shard.next_ready(), Some(a));
    let _ = bench.run(a);
    assert_eq!(bench.shard.next_ready(), None);
}

/// A message is delivered before events that are due earlier; neither is lost.
#[test]
fn a_message_overtakes_what_is_due() {
    let mut bench = Bench::new(&PLAIN, echo);
    let token = bench.open();
    let mut conn = bench.shard.connection(token).unwrap();
    conn.received(common::lent(b"bytes"));
    let mut outbox = lightcone_core::NoOutbox;
    let poller = lightcone_core::PollerId(0);
    let mut cx = lightcone_core::Context::new(Instant::from_millis(0), None, poller, &mut outbox);
    assert_eq!(conn.message(5, &mut bench.handler, &mut cx), Ok(Action::Send));
    assert_eq!(bench.outputs(token), b"bytes");
    let mut events = bench.events();
    events.sort_by_key(|event| *event != Event::Open);
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events.contains(&Event::Message(5)) && events.contains(&Event::Receive));
}

/// `writable` and `timeout` stay due when an event before them changes nothing.
#[test]
fn what_is_due_outlives_the_events_before_it() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if event == Event::Open {
            socket.set_deadline(Some(Instant::from_millis(100)));
            socket.send(&[1; 128]).unwrap();
            assert!(socket.send(&[2]).is_err());
        }
    });
    let token = bench.open();
    bench.set_clock(100);
    assert_eq!(bench.shard.next_ready(), Some(token));
    let next = bench.tell(token, |conn| {
        conn.sent(128);
        conn.received(common::lent(b"bytes"));
        conn.peer_ended();
        conn.shutdown();
    });
    assert_eq!(next, NONE);
    let mut events = bench.events();
    assert_eq!(events.len(), 7, "{events:?}");
    assert_eq!(events.remove(0), Event::Open);
    for event in
        [Event::Receive, Event::Writable, Event::Sent, Event::PeerClosed, Event::Timeout, Event::Shutdown]
    {
        assert!(events.contains(&event), "{event:?} in {events:?}");
    }
}

/// A driver that stops pulling in the middle gets the rest in the next turn, including the end.
#[test]
fn a_pull_that_stops_early_goes_on_in_the_next_turn() {
    let mut bench = Bench::new(&PLAIN, nothing);
    let token = bench.admit().unwrap();
    let mut conn = bench.shard.connection(token).unwrap();
    conn.received(common::lent(b"abc"));
    conn.failed(ErrorKind::ConnectionReset);
    let (event, _) = conn.next_event::<u32>().unwrap();
    assert_eq!(event, Event::Open);
    assert_eq!(conn.finish(), NONE);
    assert_eq!(bench.shard.in_use(), 1);
    let mut conn = bench.shard.connection(token).unwrap();
    let (event, socket) = conn.next_event::<u32>().unwrap();
    assert_eq!(event, RESET);
    assert!(socket.is_closing());
    assert!(conn.next_event::<u32>().is_none());
    assert_eq!(conn.finish(), Action::Close);
    assert_eq!(bench.shard.in_use(), 0);
}

#[test]
fn bytes_that_come_while_paused_are_delivered_and_kept() {
    let (mut bench, token) = obeying();
    assert_eq!(bench.message(token, PAUSE), Ok(NONE));
    bench.events();
    assert_eq!(bench.receive(token, b"on their way"), NONE);
    assert_eq!(bench.events(), [Event::Receive]);
    let _ = bench.message(token, 9);
    assert_eq!(bench.last().unread, 12);
}
