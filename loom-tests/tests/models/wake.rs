//! Sleeping and waking: no wake-up is lost, and a sleep costs at most one wake call.

use loom::sync::Arc;
use loom::thread;
use loom_tests::protocol::{Post, Sleep};
use loom_tests::{Seen, check, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Runs `producers` threads that send one message each. The poller sleeps whenever it has nothing to do, and loom
/// reports a deadlock if it is not woken. A late wake call for one sleep may come in a later one, so only totals are
/// checked.
fn everything_is_received(producers: usize, sleep: Sleep, seen: &Seen) {
    let post = Post::new(2, sleep);
    let threads: Vec<_> = (0..producers)
        .map(|number| {
            let post = Arc::clone(&post);
            thread::spawn(move || post.send(number).expect("room for all"))
        })
        .collect();
    let mut received = Vec::new();
    let sleeps = post.poll(|number| {
        received.push(number);
        received.len() < producers
    });
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    received.sort_unstable();
    assert_eq!(received, (0..producers).collect::<Vec<_>>());
    assert!(post.wakes() <= sleeps, "{} wake calls for {sleeps} sleeps", post.wakes());
    seen.note("never slept", sleeps == 0);
    seen.note("slept", sleeps > 0);
    if post.wakes() < sleeps {
        seen.note("woke for no reason", true);
    }
    seen.note("slept for each", sleeps == producers);
}

const EXACT: [&str; 3] = ["never slept", "slept", "slept for each"];
const SPURIOUS: [&str; 4] = ["never slept", "slept", "slept for each", "woke for no reason"];

#[test]
fn no_wake_up_is_lost() {
    check("wake::no_wake_up_is_lost", &EXACT, |seen| everything_is_received(2, Sleep::Exact, seen));
}

#[test]
fn no_wake_up_is_lost_with_spurious_ones() {
    check("wake::no_wake_up_is_lost_with_spurious_ones", &SPURIOUS, |seen| {
        everything_is_received(2, Sleep::Spurious, seen);
    });
}

#[test]
fn one_producer_in_every_schedule() {
    check_all("wake::one_producer_in_every_schedule", &SPURIOUS, |seen| {
        everything_is_received(1, Sleep::Spurious, seen);
    });
}

/// A stop wakes the poller, too, and a message before it is received.
#[test]
fn a_stop_wakes() {
    check("wake::a_stop_wakes", &["never slept", "slept"], |seen| {
        let post = Post::new(1, Sleep::Exact);
        let sender = thread::spawn({
            let post = Arc::clone(&post);
            move || {
                post.send(()).expect("room");
                post.stop();
            }
        });
        let mut received = 0;
        let sleeps = post.poll(|()| {
            received += 1;
            true
        });
        sender.join().expect("no panic");
        assert_eq!(received, 1);
        assert!(post.wakes() <= sleeps);
        seen.note("never slept", sleeps == 0);
        seen.note("slept", sleeps > 0);
    });
}

/// A stop arrives whether or not the queue has room for it, and so does the command before it.
#[test]
fn a_stop_finds_its_way() {
    check("wake::a_stop_finds_its_way", &["first", "not first"], |seen| {
        let post = Post::<()>::new(1, Sleep::Exact);
        let another = thread::spawn({
            let post = Arc::clone(&post);
            move || post.command()
        });
        let stopper = thread::spawn({
            let post = Arc::clone(&post);
            move || post.stop()
        });
        post.poll(|()| true);
        let had_room = another.join().expect("no panic");
        stopper.join().expect("no panic");
        assert_eq!(post.commands(), usize::from(had_room), "a command was lost or came twice");
        seen.note("first", !had_room);
        seen.note("not first", had_room);
    });
}
