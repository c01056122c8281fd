//! The word that holds a stop for which the mailbox had no room: the least offered value is taken, once.

use loom::sync::Arc;
use loom::thread;
use loom_tests::sync::AtomicMin;
use loom_tests::{Racy, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Two threads offer while the poller takes: an offer is replaced only by a smaller one.
#[test]
fn the_least_of_two_offers_is_taken() {
    let outcomes = ["both at once", "one after the other", "later"];
    check_all("least::the_least_of_two_offers_is_taken", &outcomes, |seen| {
        let word = Arc::new(AtomicMin::new());
        let threads = [3, 5].map(|number| {
            let word = Arc::clone(&word);
            thread::spawn(move || word.offer(number))
        });
        let early = word.take();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let late = word.take();
        assert_eq!(word.take(), None);
        let rest = match early {
            None => Some(3),
            Some(3) => late.filter(|number| *number == 5),
            Some(5) => Some(3),
            Some(other) => panic!("{other} was not offered"),
        };
        assert_eq!(late, rest);
        seen.note("both at once", early == Some(3) && late.is_none());
        seen.note("one after the other", early.is_some() && late.is_some());
        seen.note("later", early.is_none());
    });
}

/// Taking a number makes everything visible that happened before it was offered.
#[test]
fn an_offer_publishes() {
    check_all("least::an_offer_publishes", &["in time", "too late"], |seen| {
        let shared = Arc::new((AtomicMin::new(), Racy::new()));
        let offers = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.1.touch();
                shared.0.offer(3);
            }
        });
        let in_time = shared.0.take().is_some();
        if in_time {
            shared.1.touch();
        }
        offers.join().expect("no panic");
        seen.note("in time", in_time);
        seen.note("too late", !in_time);
    });
}
