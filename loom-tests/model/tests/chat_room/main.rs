//! A chat room with names that the pollers share: with a race that loom reports, without the race, and on real sockets.
//! The handler is one file, `chat.rs`; its shared types come from `super::sync`, which is loom's in a model and std's
//! elsewhere.
#![allow(clippy::duplicate_mod, reason = "one handler is compiled several times")]

mod mended;
mod racy;
mod real;

use std::panic::catch_unwind;

use lightcone_model::loom::sync::Arc;
use lightcone_model::{Model, Outcome, Peer, check};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    lightcone_model::unordered_hand_over();
}

/// Two peers that request the same name, on one poller each.
fn two_anns() -> Model<Vec<u8>> {
    let ann = Peer::new().says("ann\n").hears_bytes(6);
    Model::new(2).peer(ann.clone()).peer(ann)
}

fn one_is_welcome(outcome: &Outcome) {
    let mut heard =
        [outcome.heard(0), outcome.heard(1)].map(<[u8]>::escape_ascii).map(|bytes| bytes.to_string());
    heard.sort_unstable();
    assert_eq!(heard, ["taken\\n", "welcome\\n"], "of two of one name, one is welcome");
}

#[test]
fn a_name_belongs_to_one() {
    check("chat_room::a_name_belongs_to_one", &["the first", "the second"], |seen| {
        let names = Arc::new(mended::names::Names::default());
        let outcome = two_anns().run(move |_| mended::chat::Chat(Arc::clone(&names)));
        one_is_welcome(&outcome);
        seen.note("the first", outcome.heard(0) == b"welcome\n");
        seen.note("the second", outcome.heard(1) == b"welcome\n");
    });
}

/// The planted race is found, and the report shows what led to it.
#[test]
fn the_race_is_reported() {
    let found = catch_unwind(|| {
        check("chat_room::the_race_is_reported", &[], |_| {
            let names = Arc::new(racy::names::Names::default());
            let outcome = two_anns().run(move |_| racy::chat::Chat(Arc::clone(&names)));
            one_is_welcome(&outcome);
        });
    });
    let report = *found.expect_err("the race was not found").downcast::<String>().expect("a report");
    for part in [
        "model chat_room::the_race_is_reported, bound 2, fails in execution ",
        "of two of one name, one is welcome",
        "what happened, in this order:",
        "poller 0  receive 0:2#0 \"ann\\n\"",
        "poller 1  receive 1:2#0 \"ann\\n\"",
        "peer 0 hears \"welcome\\n\"",
        "peer 1 hears \"welcome\\n\"",
    ] {
        assert!(report.contains(part), "{part:?} is missing: {report}");
    }
    // both requests arrived before either was answered
    let receives = report.rfind(" receive ").expect("seen above");
    assert!(report.find("hears").expect("seen above") > receives, "{report}");
}

/// Messages travel between pollers through the shipped mailbox and wake flag.
#[test]
fn what_is_said_arrives() {
    check("chat_room::what_is_said_arrives", &["told", "nobody"], |seen| {
        let names = Arc::new(mended::names::Names::default());
        let ann = Peer::new().says("ann\n").hears("welcome\n").says("bob hello\n");
        let bob = Peer::new().says("bob\n").hears("welcome\n");
        let outcome = Model::new(2).peer(ann).peer(bob).run(move |_| mended::chat::Chat(Arc::clone(&names)));
        let told = outcome.heard(1) == b"welcome\nann: hello\n";
        let nobody = outcome.heard(0) == b"welcome\nnobody\n";
        assert!(!(told && nobody));
        seen.note("told", told);
        seen.note("nobody", nobody);
    });
}

/// The guide promises that a handler and its model fit into fewer than 30 lines.
#[test]
fn a_newcomers_file_is_short() {
    let lines = include_str!("../newcomer.rs").lines().filter(|line| !line.trim().is_empty()).count();
    assert!((15..30).contains(&lines), "{lines} lines");
}
