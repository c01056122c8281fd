//! The ways in which a model fails, and its reports: one broken handler each.

use std::panic::catch_unwind;

use core::convert::Infallible;

use lightcone_core::{Address, CloseReason, Context, Handler, Origin, Socket};
use lightcone_model::loom::cell::UnsafeCell;
use lightcone_model::loom::sync::atomic::{AtomicUsize, Ordering};
use lightcone_model::loom::sync::{Arc, Mutex};
use lightcone_model::{Model, Peer, check};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    lightcone_model::unordered_hand_over();
}

/// Calls one closure at `open` and the other at `receive`.
struct Does<A, B>(A, B);

impl<A: FnMut(), B: FnMut(&mut Socket<'_, ()>)> Handler for Does<A, B> {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        (self.0)();
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        (self.1)(socket);
    }
}

/// Runs a failing model with two peers, one per poller, and state that both share. Returns the report.
fn report<S: Send + Sync + 'static>(
    peer: Peer,
    make: fn() -> S,
    open: fn(&S),
    receive: fn(&mut Socket<'_, ()>),
) -> String {
    let found = catch_unwind(move || {
        check("failures", &[], move |_| {
            let shared = Arc::new(make());
            Model::new(2).peer(peer.clone()).peer(peer.clone()).run(move |_| {
                let shared = Arc::clone(&shared);
                Does(move || open(&shared), receive)
            });
        });
    });
    *found.expect_err("the fault was not found").downcast::<String>().expect("a report")
}

#[track_caller]
fn has(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "{part:?} is missing: {report}");
    }
}

/// The guide's example, broken as the guide describes: a number is issued twice.
struct Greeter(Arc<AtomicUsize>);

impl Handler for Greeter {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let number = self.0.load(Ordering::Relaxed);
        self.0.store(number + 1, Ordering::Relaxed);
        socket.send(format!("{number}\n").as_bytes()).expect("the output is empty");
    }
}

#[test]
fn a_count_that_is_lost() {
    let found = catch_unwind(|| {
        check("greeter", &[], |_| {
            let count = Arc::new(AtomicUsize::new(0));
            let peer = Peer::new().hears_bytes(2);
            let model = Model::new(2).peer(peer.clone()).peer(peer);
            let outcome = model.run(move |_| Greeter(Arc::clone(&count)));
            assert_ne!(outcome.heard(0), outcome.heard(1));
        });
    });
    let report = found.expect_err("the fault was not found").downcast::<String>().expect("a report");
    has(&report, &["model greeter, bound 2, fails in", "peer 0 hears \"0\\n\"", "peer 1 hears \"0\\n\""]);
}

/// A cell that is shared without a lock, as `unsafe` user code may do.
struct Unlocked(UnsafeCell<u32>);

// SAFETY: none: this is the fault that the model finds.
#[expect(unsafe_code, reason = "the race under test")]
unsafe impl Sync for Unlocked {}
// SAFETY: a number may be sent.
#[expect(unsafe_code, reason = "the race under test")]
unsafe impl Send for Unlocked {}

#[test]
fn a_data_race() {
    let report =
        report(Peer::new(), || Unlocked(UnsafeCell::new(0)), |shared| shared.0.with_mut(|_| ()), |_| ());
    has(&report, &["Causality violation: Concurrent write accesses", "poller 0  open", "poller 1  open"]);
}

#[test]
fn a_handler_that_panics() {
    let report = report(Peer::new().says("x"), || (), |()| (), |_| panic!("unexpected input"));
    has(&report, &["fails in execution 1: unexpected input", "receive 0:2#0 \"x\""]);
}

#[test]
fn a_wrong_answer() {
    let peer = Peer::new().says("x").hears("right\n");
    let report = report(peer, || (), |()| (), |socket| socket.send(b"wrong\n").expect("room"));
    has(&report, &["peer 0 should hear \"right\\n\" but heard \"wrong\\n\"", "receive 0:2#0 \"x\""]);
}

#[test]
fn an_answer_that_never_comes() {
    let report = report(Peer::new().says("x").hears("right\n"), || (), |()| (), |_| ());
    has(
        &report,
        &[
            "no progress: every poller sleeps and none will be woken",
            "peer 0 heard \"\" and waits: Some(Hears(",
            "receive 1:2#0 \"x\"",
        ],
    );
}

fn lock_both(locks: &[Mutex<()>; 2], first: usize) {
    let _first = locks[first].lock();
    let _second = locks[1 - first].lock();
}

/// Two locks in opposite orders. loom ends the process then, so the report is the last output.
#[test]
fn a_deadlock() {
    if std::env::var_os("MODEL_DEADLOCK").is_some() {
        check("failures::a_deadlock", &[], |_| {
            let locks = Arc::new([Mutex::new(()), Mutex::new(())]);
            Model::new(2).peer(Peer::new()).peer(Peer::new()).run(move |poller| {
                let (locks, first) = (Arc::clone(&locks), usize::from(poller.id().0));
                Does(move || lock_both(&locks, first), |_: &mut Socket<'_, ()>| ())
            });
        });
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_deadlock", "--nocapture"])
        .env("MODEL_DEADLOCK", "1")
        .output()
        .expect("it runs");
    assert!(!child.status.success());
    has(&String::from_utf8_lossy(&child.stderr), &["deadlock", "poller 0  open 0:", "poller 1  open 1:"]);
}

#[test]
fn a_model_that_explores_nothing() {
    let found = catch_unwind(|| check("failures::nothing", &[], |_| ()));
    let text = *found.expect_err("it passed").downcast::<String>().expect("a text");
    has(&text, &["1 executions explore nothing"]);
}

#[test]
fn an_outcome_that_never_comes_up() {
    let found = catch_unwind(|| {
        check("failures::outcome", &["seldom"], |_| {
            let peer = Peer::new().says("x");
            Model::new(2).peer(peer.clone()).peer(peer).run(|_| Does(|| (), |_: &mut Socket<'_, ()>| ()));
        });
    });
    let text = *found.expect_err("it passed").downcast::<String>().expect("a text");
    has(&text, &["an outcome never occurred, seldom 0"]);
}

/// Records why sockets were closed.
struct Ends(Arc<Mutex<Vec<CloseReason>>>);

impl Handler for Ends {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn close(&mut self, _: &mut Socket<'_, ()>, reason: CloseReason, _: &mut Context<'_, Infallible>) {
        self.0.lock().expect("no panic").push(reason);
    }
}

#[test]
fn peers_end_and_break_off() {
    check("failures::peers_end_and_break_off", &[], |_| {
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&reasons);
        Model::new(2)
            .peer(Peer::new().says("x").ends())
            .peer(Peer::new().resets())
            .run(move |_| Ends(Arc::clone(&kept)));
        let reasons = reasons.lock().expect("no panic");
        let count = |reason| reasons.iter().filter(|other| **other == reason).count();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert_eq!(count(CloseReason::Reset), 1, "{reasons:?}");
    });
}

#[test]
fn limits_are_named_in_the_panic() {
    let text =
        |limit: fn()| *catch_unwind(limit).expect_err("too much").downcast::<String>().expect("a text");
    type Any = Model<Infallible>;
    has(&text(|| drop(Any::new(0))), &["0 pollers; allowed: 1 to 4"]);
    has(&text(|| drop(Any::new(5))), &["5 pollers; allowed: 1 to 4"]);
    drop(Any::new(4));
    has(&text(|| drop(Any::new(4).thread(|_| ()))), &["5 pollers and threads; allowed: at most 4"]);
    drop(Any::new(3).thread(|_| ()));
    has(&text(|| drop(Any::new(1).sockets(0))), &["0 sockets; allowed: 1 to 64"]);
    has(&text(|| drop(Any::new(1).sockets(65))), &["65 sockets; allowed: 1 to 64"]);
    drop(Any::new(1).sockets(64).sockets(1));
    for messages in [0, 1, 3, 128] {
        let limit = catch_unwind(|| drop(Any::new(1).mailbox(messages)));
        let text = *limit.expect_err("wrong").downcast::<String>().expect("a text");
        has(&text, &[&format!("a mailbox of {messages} messages; allowed: a power of two from 2 to 64")]);
    }
    drop(Any::new(1).mailbox(2).mailbox(64));
    let peers = |n: usize| (0..n).fold(Any::new(1), |model, _| model.peer(Peer::new()));
    drop(peers(16));
    let limit = catch_unwind(move || drop(peers(17)));
    has(
        &limit.expect_err("too many").downcast::<String>().expect("a text"),
        &["17 peers; allowed: at most 16"],
    );
    let steps = |n: usize| (0..n).fold(Peer::new(), |peer, _| peer.says("x"));
    drop(steps(32));
    let limit = catch_unwind(|| drop(steps(33)));
    has(&limit.expect_err("too many").downcast::<String>().expect("a text"), &["more steps than the 32"]);
}
