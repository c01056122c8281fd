//! The workers' crew: who runs which socket, over the locks and bells that ship, the lanes and the gate.

use std::sync::Arc;

use loom::thread;
use loom_tests::gang::{Fates, Gang, News};
use loom_tests::{Seen, check, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Runs workers beside what pollers do, and waits for all of them. A job or a bell that is lost leaves a worker asleep,
/// which loom reports; so does an overlap of two turns of a socket.
fn run(gang: &Arc<Gang>, workers: usize, pollers: impl FnOnce(&Arc<Gang>)) {
    let threads: Vec<_> = (0..workers)
        .map(|me| {
            let gang = Arc::clone(gang);
            thread::spawn(move || gang.work(me))
        })
        .collect();
    pollers(gang);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

/// Whatever is left for a socket is heard, in order, though its poller goes on while it is run.
#[test]
fn each_message_is_heard_in_order() {
    check_all("crew::each_message_is_heard_in_order", &[], |_| {
        let gang = Gang::new(1, 1, 3);
        run(&gang, 1, |gang| (1..=3).for_each(|message| gang.post(0, message)));
        assert_eq!(gang.heard(0), 123);
    });
}

/// The same with two workers, of whom each may get a turn: never both at once, and each sees what the other did.
#[test]
fn turns_of_a_socket_go_from_worker_to_worker() {
    check("crew::turns_of_a_socket_go_from_worker_to_worker", &["the first", "the second"], |seen| {
        let gang = Gang::new(2, 1, 3);
        run(&gang, 2, |gang| (1..=3).for_each(|message| gang.post(0, message)));
        assert_eq!(gang.heard(0), 123);
        note_worker(seen, &gang);
    });
}

fn note_worker(seen: &Seen, gang: &Gang) {
    seen.note("the first", gang.worker(0) == Some(0));
    seen.note("the second", gang.worker(0) == Some(1));
}

/// Two sockets of two pollers, two workers: both are run, by one or by two.
#[test]
fn two_sockets_find_workers() {
    check("crew::two_sockets_find_workers", &["by one", "by two"], |seen| {
        let gang = Gang::new(2, 2, 2);
        run(&gang, 2, |gang| {
            let other = Arc::clone(gang);
            let other = thread::spawn(move || other.post(1, 7));
            gang.post(0, 7);
            other.join().expect("no panic");
        });
        assert_eq!((gang.heard(0), gang.heard(1)), (7, 7));
        seen.note("by one", gang.worker(0) == gang.worker(1));
        seen.note("by two", gang.worker(0) != gang.worker(1));
    });
}

/// Two pollers leave something for one socket at once.
#[test]
fn two_pollers_have_one_socket_run() {
    check_all("crew::two_pollers_have_one_socket_run", &["together", "apart"], |seen| {
        let gang = Gang::new(1, 1, 2);
        run(&gang, 1, |gang| {
            let other = Arc::clone(gang);
            let other = thread::spawn(move || other.post(0, 1));
            gang.post(0, 2);
            other.join().expect("no panic");
        });
        assert!([12, 21].contains(&gang.heard(0)), "{}", gang.heard(0));
        seen.note("together", gang.heard(0) == 12);
        seen.note("apart", gang.heard(0) == 21);
    });
}

/// The workers end while a poller schedules: each message is heard, or left over for who ends last, or refused; never
/// none of it, and never twice. All workers end.
#[test]
fn a_close_loses_no_job() {
    check_all("crew::a_close_loses_no_job", &["heard", "left over", "refused"], |seen| {
        let gang = Gang::new(1, 2, usize::MAX);
        run(&gang, 1, |gang| {
            let closer = Arc::clone(gang);
            let closer = thread::spawn(move || closer.close());
            (0..2).for_each(|socket| gang.post(socket, 7));
            closer.join().expect("no panic");
        });
        let Fates { heard, left_over, refused } = gang.fates();
        assert_eq!(heard + left_over + refused, 2, "{:?}", gang.fates());
        seen.note("heard", heard > 0);
        seen.note("left over", left_over > 0);
        seen.note("refused", refused > 0);
    });
}

/// News of sockets for which their pollers had no room are told by somebody, be it the other worker.
#[test]
fn what_was_put_off_is_told() {
    check("crew::what_was_put_off_is_told", &[], |_| {
        let gang = Gang::with(2, 2, 2, News { turns: 2, ..News::default() });
        run(&gang, 2, |gang| (0..2).for_each(|socket| gang.post(socket, 7)));
        assert_eq!((gang.heard(0), gang.heard(1), gang.told()), (7, 7, 2));
    });
}

/// A poller that has no room again is tried after a while, by a worker that has nothing else to do.
#[test]
fn what_is_put_off_again_is_tried_again() {
    check("crew::what_is_put_off_again_is_tried_again", &[], |_| {
        let gang = Gang::with(1, 2, 2, News { turns: 1, refusals: 2, blocks: false });
        run(&gang, 1, |gang| (0..2).for_each(|socket| gang.post(socket, 7)));
        assert_eq!((gang.heard(0), gang.heard(1), gang.told()), (7, 7, 1));
    });
}

/// Who put it off is blocked: a worker that was idle before tells it.
#[test]
fn an_idle_worker_tells_what_a_blocked_one_put_off() {
    check("crew::an_idle_worker_tells_what_a_blocked_one_put_off", &[], |_| {
        let gang = Gang::with(2, 1, 1, News { turns: 1, refusals: 0, blocks: true });
        run(&gang, 2, |gang| gang.post(0, 7));
        assert_eq!((gang.heard(0), gang.told()), (7, 1));
    });
}

/// The same if the one that was rung for it is given a socket first, and blocks as well.
#[test]
fn another_worker_tells_it_if_the_idle_one_is_given_a_socket() {
    check("crew::another_worker_tells_it_if_the_idle_one_is_given_a_socket", &[], |_| {
        let gang = Gang::with(3, 2, 2, News { turns: 1, refusals: 0, blocks: true });
        run(&gang, 3, |gang| (0..2).for_each(|socket| gang.post(socket, 7)));
        assert_eq!((gang.heard(0), gang.heard(1), gang.told()), (7, 7, 1));
    });
}
