//! The load counters: never above the limit, never below zero, and zero in the end.

use loom::sync::Arc;
use loom::thread;
use loom_tests::protocol::mailbox;
use loom_tests::sync::{Load, Receiver, Reservation};
use loom_tests::{check, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Two acceptors reserve the last place: one of them gets it.
#[test]
fn the_last_place_goes_to_one() {
    check_all("load::the_last_place_goes_to_one", &["this", "the other"], |seen| {
        let load = Arc::new(Load::new());
        let other = thread::spawn({
            let load = Arc::clone(&load);
            move || Reservation::try_acquire(load, 1)
        });
        let mine = Reservation::try_acquire(Arc::clone(&load), 1);
        let others = other.join().expect("no panic");
        assert!(mine.is_some() != others.is_some());
        assert_eq!(load.get(), 1);
        seen.note("this", mine.is_some());
        seen.note("the other", others.is_some());
        drop((mine, others));
        assert_eq!(load.get(), 0);
    });
}

/// Reservations are made and released at once: a lost unit would leave the counter wrong forever.
#[test]
fn what_is_returned_is_counted_once() {
    check_all("load::what_is_returned_is_counted_once", &["alone", "together"], |seen| {
        let load = Arc::new(Load::new());
        let other = thread::spawn({
            let load = Arc::clone(&load);
            move || drop(Reservation::try_acquire(Arc::clone(&load), 3).expect("three places"))
        });
        let first = Reservation::try_acquire(Arc::clone(&load), 3).expect("three places");
        let now = load.get();
        assert!(now == 1 || now == 2, "{now}");
        seen.note("alone", now == 1);
        seen.note("together", now == 2);
        let second = Reservation::try_acquire(Arc::clone(&load), 3).expect("three places");
        drop(first);
        other.join().expect("no panic");
        assert_eq!(load.get(), 1);
        drop(second);
        assert_eq!(load.get(), 0);
    });
}

/// Shares travel with their sockets: adopted, refused or left in the mailbox, all are returned.
#[test]
fn shares_that_travel_come_back() {
    let outcomes = ["adopted", "left", "refused", "not refused"];
    check("load::shares_that_travel_come_back", &outcomes, |seen| {
        let load = Arc::new(Load::new());
        let mailbox = Arc::new(mailbox(1));
        let poller = thread::spawn({
            let mut owned = Reservation::none(Arc::clone(&load));
            let mut receiver = Receiver::new(Arc::clone(&mailbox)).expect("the first");
            move || {
                let arrived = receiver.pop().item();
                let adopted = arrived.is_some();
                arrived.into_iter().for_each(|arrived| owned.merge(arrived));
                assert_eq!(owned.release(), adopted);
                assert!(!owned.release());
                adopted
            }
        });
        let accept =
            |()| mailbox.push(Reservation::try_acquire(Arc::clone(&load), 2).expect("two places")).is_ok();
        let accepted = [(); 2].map(accept);
        let adopted = poller.join().expect("no panic");
        seen.note("adopted", adopted);
        seen.note("left", !adopted);
        seen.note("refused", accepted == [true, false]);
        seen.note("not refused", accepted == [true, true]);
        drop(mailbox);
        assert_eq!(load.get(), 0);
    });
}
