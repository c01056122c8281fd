//! The counter with one writer: no addition is lost, and no reader goes back.

use loom::sync::Arc;
use loom::thread;
use loom_tests::sync::Counter;
use loom_tests::{check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// One thread adds while another reads: each value read is a sum that existed, and never an older one than before.
#[test]
fn readers_see_sums_in_order() {
    let outcomes = ["before", "between", "after", "changing"];
    check_all("counter::readers_see_sums_in_order", &outcomes, |seen| {
        let counter = Arc::new(Counter::new());
        let reader = thread::spawn({
            let counter = Arc::clone(&counter);
            move || [counter.get(), counter.get()]
        });
        counter.add(2);
        counter.add(3);
        assert_eq!(counter.get(), 5);
        let [first, second] = reader.join().expect("no panic");
        assert!([0, 2, 5].contains(&first) && [0, 2, 5].contains(&second), "{first}, {second}");
        assert!(first <= second, "{first}, {second}");
        seen.note("before", first == 0);
        seen.note("between", second == 2);
        seen.note("after", second == 5);
        seen.note("changing", first != second);
    });
}

/// Two pollers with one counter each: a third thread never reads more than their sum, which is exact when both have
/// finished.
#[test]
fn counters_of_their_own_add_up() {
    check_all("counter::counters_of_their_own_add_up", &["none", "some", "all"], |seen| {
        let counters = Arc::new([Counter::new(), Counter::new()]);
        let sum = |counters: &[Counter; 2]| counters.iter().map(Counter::get).sum::<usize>();
        let other = thread::spawn({
            let counters = Arc::clone(&counters);
            move || [1, 2].map(|n| counters[1].add(n))
        });
        let reader = thread::spawn({
            let counters = Arc::clone(&counters);
            move || sum(&counters)
        });
        counters[0].add(4);
        other.join().expect("no panic");
        assert_eq!(sum(&counters), 7);
        let read = reader.join().expect("no panic");
        assert!([0, 1, 3, 4, 5, 7].contains(&read), "{read}");
        seen.note("none", read == 0);
        seen.note("some", (1..7).contains(&read));
        seen.note("all", read == 7);
    });
}
