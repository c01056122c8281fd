//! The workers: the pollers' handler, crew, lanes, gate, workers and stand-ins that ship, over loom's locks and atomics.
//!
//! Each of these runs shows beside what is written here: callbacks of a socket neither overlap nor run unordered (its
//! data has a cell that loom watches), each socket that was given `open` is given `close`, all places come back, no
//! callback panics, and no thread waits for ever. That includes the thread that ends the workers: its two waits end by a
//! notification and not by their timeouts, which never pass here.

use std::sync::Arc;

use loom_tests::workshop::Step::{Bytes, Message, Reset};
use loom_tests::workshop::{CLOSE, Unusual, Workshop};
use loom_tests::{CloseReason, Seen, check, check_up_to, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Whatever comes for a socket is heard, in order, though its poller goes on while it is run.
#[test]
fn each_message_is_heard_in_order() {
    check("crew::each_message_is_heard_in_order", &["in one turn", "in several"], |seen| {
        let shop = Workshop::new(1, 1);
        let report = shop.run(&[&[Message(0, 1), Message(0, 2), Message(0, 3), Message(0, CLOSE)]]);
        assert_eq!((shop.heard(0), report.lost_messages), (123, 0));
        seen.note("in one turn", report.turns == 1);
        seen.note("in several", report.turns > 1);
    });
}

/// Bytes come back, all and in order, and each answer is told though its poller is about to sleep.
#[test]
fn bytes_come_back() {
    check("crew::bytes_come_back", &[], |_| {
        let shop = Workshop::new(1, 1);
        shop.run(&[&[Bytes(0, b"a"), Bytes(0, b"b"), Message(0, CLOSE)]]);
        assert!(b"ab".starts_with(&shop.sent(0)[..]), "{:?}", shop.sent(0));
    });
}

/// With two workers, of whom each may get a turn: never both at once, and each sees what the other did.
#[test]
fn turns_of_a_socket_go_from_worker_to_worker() {
    check("crew::turns_of_a_socket_go_from_worker_to_worker", &["the first", "the second"], |seen| {
        let shop = Workshop::new(2, 1);
        shop.run(&[&[Message(0, 1), Message(0, 7)]]);
        assert_eq!(shop.heard(0), 17);
        note_worker(seen, &shop);
    });
}

fn note_worker(seen: &Seen, shop: &Arc<Workshop>) {
    seen.note("the first", shop.worker(0) == Some(0));
    seen.note("the second", shop.worker(0) == Some(1));
}

/// Two sockets, two workers: both are run, by one or by two.
#[test]
fn two_sockets_find_workers() {
    check("crew::two_sockets_find_workers", &["by one", "by two"], |seen| {
        let shop = Workshop::new(2, 2);
        shop.run(&[&[Message(0, 7), Message(1, 7)]]);
        assert_eq!((shop.heard(0), shop.heard(1)), (7, 7));
        seen.note("by one", shop.worker(0) == shop.worker(1));
        seen.note("by two", shop.worker(0) != shop.worker(1));
    });
}

/// A socket whose connection breaks while a worker has it: what came before is heard, and the end told once.
#[test]
fn a_reset_is_told_once() {
    check("crew::a_reset_is_told_once", &["in one turn", "in several"], |seen| {
        let shop = Workshop::new(1, 1);
        let report = shop.run(&[&[Message(0, 1), Reset(0)]]);
        assert_eq!((shop.heard(0), shop.closed(0)), (1, vec![CloseReason::Reset]));
        seen.note("in one turn", report.turns == 1);
        seen.note("in several", report.turns > 1);
    });
}

/// The workers end while a poller opens sockets and schedules: each is given its last callback, or is turned away.
#[test]
fn an_end_loses_no_socket() {
    check("crew::an_end_loses_no_socket", &["closed", "aborted", "turned away", "refused"], |seen| {
        let shop = Workshop::new(1, 2);
        let report = shop.run_without_grace(&[&[Message(0, CLOSE), Message(1, 7)]]);
        assert!(report.opened <= 2, "{report}");
        seen.note("closed", report.closed > report.aborted);
        seen.note("aborted", report.aborted > 0);
        seen.note("turned away", shop.turned_away() > 0);
        seen.note("refused", shop.turned_away() == 0 && report.opened < 2);
    });
}

/// An answer for which its poller had no room is told in the end.
#[test]
fn what_was_put_off_is_told() {
    check("crew::what_was_put_off_is_told", &[], |_| {
        let shop = Workshop::with(2, 1, Unusual { refusals: 1, ..Unusual::default() });
        shop.run(&[&[Message(0, 7)]]);
        assert_eq!(shop.heard(0), 7);
    });
}

/// A poller that has no room again is tried after a while, by a worker that has nothing else to do; and what comes for
/// that worker in this while is not lost. There are more refusals than turns.
#[test]
fn what_is_put_off_again_is_tried_again() {
    check("crew::what_is_put_off_again_is_tried_again", &[], |_| {
        let shop = Workshop::with(1, 2, Unusual { refusals: 9, ..Unusual::default() });
        shop.run(&[&[Message(0, CLOSE), Message(1, 7)]]);
        assert_eq!(shop.heard(1), 7);
    });
}

/// Who put it off goes on with the socket and is blocked: a worker that was idle before tells it.
#[test]
fn an_idle_worker_tells_what_a_blocked_one_put_off() {
    check("crew::an_idle_worker_tells_what_a_blocked_one_put_off", &[], |_| {
        let shop = Workshop::with(2, 1, Unusual { refusals: 2, blocks: Some(8) });
        shop.run(&[&[Message(0, 1), Message(0, 8)]]);
        assert_eq!(shop.heard(0), 18);
    });
}

/// The same if the one that was rung for it is given a socket first, and blocks as well.
#[test]
fn another_worker_tells_it_if_the_idle_one_is_given_a_socket() {
    check_up_to("crew::another_worker_tells_it_if_the_idle_one_is_given_a_socket", 1, &[], |_| {
        let shop = Workshop::with(3, 2, Unusual { refusals: 2, blocks: Some(8) });
        shop.run(&[&[Message(0, 1), Message(0, 8), Message(1, 8)]]);
        assert_eq!((shop.heard(0), shop.heard(1)), (18, 8));
    });
}
