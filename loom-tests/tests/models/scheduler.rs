//! The workers: the shipped handler of pollers, scheduler, bridges, gate, workers and shadows, over loom's locks and
//! atomics.
//!
//! In addition to its own assertions, each model shows that callbacks of a socket neither overlap nor run unordered
//! (its user data has a cell that loom watches), that each socket with `open` has its `close`, that all shadows are
//! released, that no callback panics, and that no thread waits forever. That includes the thread that ends the workers:
//! its two waits end by a notification, because long timeouts never expire here.

use std::sync::Arc;

use loom_tests::workshop::Step::{Bytes, Message, Reset};
use loom_tests::workshop::{CLOSE, Unusual, Workshop};
use loom_tests::{CloseReason, Seen, check, check_up_to, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// A socket receives all its messages in order, while its poller continues alongside its callbacks.
#[test]
fn each_message_arrives_in_order() {
    check("scheduler::each_message_arrives_in_order", &["in one turn", "in several"], |seen| {
        let shop = Workshop::new(1, 1);
        let report = shop.run(&[&[Message(0, 1), Message(0, 2), Message(0, 3), Message(0, CLOSE)]]);
        assert_eq!((shop.heard(0), report.lost_messages), (123, 0));
        seen.note("in one turn", report.turns == 1);
        seen.note("in several", report.turns > 1);
    });
}

/// Bytes are sent in order, and each message to the poller arrives, even if the poller is about to sleep.
#[test]
fn bytes_come_back() {
    check("scheduler::bytes_come_back", &[], |_| {
        let shop = Workshop::new(1, 1);
        shop.run(&[&[Bytes(0, b"a"), Bytes(0, b"b"), Message(0, CLOSE)]]);
        assert!(b"ab".starts_with(&shop.sent(0)[..]), "{:?}", shop.sent(0));
    });
}

/// Two workers that may both get turns of a socket never run at once, and each sees what the other did.
#[test]
fn turns_of_a_socket_go_from_worker_to_worker() {
    check("scheduler::turns_of_a_socket_go_from_worker_to_worker", &["the first", "the second"], |seen| {
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

/// Two sockets and two workers: both sockets are served, by one worker or by two.
#[test]
fn two_sockets_find_workers() {
    check("scheduler::two_sockets_find_workers", &["by one", "by two"], |seen| {
        let shop = Workshop::new(2, 2);
        shop.run(&[&[Message(0, 7), Message(1, 7)]]);
        assert_eq!((shop.heard(0), shop.heard(1)), (7, 7));
        seen.note("by one", shop.worker(0) == shop.worker(1));
        seen.note("by two", shop.worker(0) != shop.worker(1));
    });
}

/// A connection breaks while a worker has its socket: earlier messages arrive, and the end is reported once.
#[test]
fn a_reset_is_told_once() {
    check("scheduler::a_reset_is_told_once", &["in one turn", "in several"], |seen| {
        let shop = Workshop::new(1, 1);
        let report = shop.run(&[&[Message(0, 1), Reset(0)]]);
        assert_eq!((shop.heard(0), shop.closed(0)), (1, vec![CloseReason::Reset]));
        seen.note("in one turn", report.turns == 1);
        seen.note("in several", report.turns > 1);
    });
}

/// The workers end while a poller opens sockets and schedules them: each socket has its last callback or is turned
/// away.
#[test]
fn an_end_loses_no_socket() {
    check("scheduler::an_end_loses_no_socket", &["closed", "aborted", "turned away", "refused"], |seen| {
        let shop = Workshop::new(1, 2);
        let report = shop.run_without_grace(&[&[Message(0, CLOSE), Message(1, 7)]]);
        assert!(report.opened <= 2, "{report}");
        seen.note("closed", report.closed > report.aborted);
        seen.note("aborted", report.aborted > 0);
        seen.note("turned away", shop.rejected() > 0);
        seen.note("refused", shop.rejected() == 0 && report.opened < 2);
    });
}

/// A message that is refused because the poller's mailbox is full arrives in the end.
#[test]
fn what_was_deferred_is_delivered() {
    check("scheduler::what_was_deferred_is_delivered", &[], |_| {
        let shop = Workshop::with(2, 1, Unusual { refusals: 1, ..Unusual::default() });
        shop.run(&[&[Message(0, 7)]]);
        assert_eq!(shop.heard(0), 7);
    });
}

/// If the mailbox is full again, an idle worker retries after a while, and jobs that arrive for that worker meanwhile
/// are not lost. There are more refusals than turns.
#[test]
fn what_is_put_off_again_is_tried_again() {
    check("scheduler::what_is_put_off_again_is_tried_again", &[], |_| {
        let shop = Workshop::with(1, 2, Unusual { refusals: 9, ..Unusual::default() });
        shop.run(&[&[Message(0, CLOSE), Message(1, 7)]]);
        assert_eq!(shop.heard(1), 7);
    });
}

/// The worker that put the message off continues with the socket and blocks: a worker that was idle delivers it.
#[test]
fn an_idle_worker_delivers_what_a_blocked_one_deferred() {
    check("scheduler::an_idle_worker_delivers_what_a_blocked_one_deferred", &[], |_| {
        let shop = Workshop::with(2, 1, Unusual { refusals: 2, blocks: Some(8) });
        shop.run(&[&[Message(0, 1), Message(0, 8)]]);
        assert_eq!(shop.heard(0), 18);
    });
}

/// The same if the idle worker that was woken for it receives a socket first, and blocks as well.
#[test]
fn another_worker_delivers_it_if_the_idle_one_gets_a_socket() {
    check_up_to("scheduler::another_worker_delivers_it_if_the_idle_one_gets_a_socket", 1, &[], |_| {
        let shop = Workshop::with(3, 2, Unusual { refusals: 2, blocks: Some(8) });
        shop.run(&[&[Message(0, 1), Message(0, 8), Message(1, 8)]]);
        assert_eq!((shop.heard(0), shop.heard(1)), (18, 8));
    });
}
