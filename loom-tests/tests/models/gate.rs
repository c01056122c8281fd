//! The gate: one runner at a time, each sees what the one before did, and no post goes unseen.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use loom_tests::sync::{Gate, GatePermit};
use loom_tests::{Racy, Seen, check, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// A socket: what posters have left for it, and what only its runner touches.
struct Socket {
    gate: Gate,
    /// The value that each poster leaves: set once by a relaxed store, and read by runners only. Only the gate makes it
    /// visible to a runner.
    left: [AtomicUsize; 3],
    data: Racy,
    /// What runners have found for each poster, and the number of runs: statistics, which loom does not see.
    found: [std::sync::atomic::AtomicUsize; 3],
    runs: std::sync::atomic::AtomicUsize,
}

impl Socket {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(),
            left: core::array::from_fn(|_| AtomicUsize::new(0)),
            data: Racy::new(),
            found: core::array::from_fn(|_| 0.into()),
            runs: 0.into(),
        })
    }

    /// Leaves a value as `poster`, posts, and runs the socket if the post returns the permit.
    fn post(&self, poster: usize) {
        self.left[poster].store(1, Ordering::Relaxed);
        if let Some(pass) = self.gate.post() {
            self.run(pass);
        }
    }

    /// Runs the socket, as the thread does that holds its permit.
    fn run(&self, mut pass: GatePermit) {
        self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loop {
            pass.begin(&self.gate);
            self.data.touch();
            for (left, found) in self.left.iter().zip(&self.found) {
                found.fetch_max(left.load(Ordering::Relaxed), std::sync::atomic::Ordering::Relaxed);
            }
            match pass.try_release(&self.gate) {
                Ok(()) => return,
                Err(again) => pass = again,
            }
        }
    }
}

/// Checks that every post is found. loom reports two runners at once, and one that does not see what the one before
/// did.
fn all_is_found(posters: usize, seen: &Seen) {
    let socket = Socket::new();
    let threads: Vec<_> = (1..posters)
        .map(|poster| {
            let socket = Arc::clone(&socket);
            thread::spawn(move || socket.post(poster))
        })
        .collect();
    socket.post(0);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let load = |count: &std::sync::atomic::AtomicUsize| count.load(std::sync::atomic::Ordering::Relaxed);
    for poster in 0..posters {
        assert_eq!(load(&socket.found[poster]), 1, "post {poster}");
    }
    let runs = load(&socket.runs);
    seen.note("one run for all", runs == 1);
    seen.note("a run for each", runs == posters);
}

const OUTCOMES: [&str; 2] = ["one run for all", "a run for each"];

#[test]
fn callbacks_are_serial_and_no_post_goes_unseen() {
    check("gate::callbacks_are_serial_and_no_post_goes_unseen", &OUTCOMES, |seen| all_is_found(3, seen));
}

#[test]
fn two_posters_in_every_schedule() {
    check_all("gate::two_posters_in_every_schedule", &OUTCOMES, |seen| all_is_found(2, seen));
}

/// The runner is a separate thread, like a worker: the permit moves there, and back if `try_release` fails.
#[test]
fn a_permit_goes_from_thread_to_thread() {
    check("gate::a_permit_goes_from_thread_to_thread", &["left at once", "looked again"], |seen| {
        let socket = Socket::new();
        socket.left[0].store(1, Ordering::Relaxed);
        let mut pass = socket.gate.post().expect("no one runs it");
        let worker = thread::spawn({
            let socket = Arc::clone(&socket);
            move || {
                pass.begin(&socket.gate);
                socket.data.touch();
                pass.try_release(&socket.gate).err()
            }
        });
        socket.post(1);
        let again = worker.join().expect("no panic");
        seen.note("left at once", again.is_none());
        seen.note("looked again", again.is_some());
        if let Some(pass) = again {
            socket.run(pass);
        }
        assert!(socket.gate.post().is_some(), "no thread has it");
    });
}
