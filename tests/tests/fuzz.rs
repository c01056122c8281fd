//! The corpora of the fuzz targets pass, and detect each known mutant.
//!
//! `FUZZ_TARGET=head FUZZ_INPUT=some/file cargo test -p lightcone-tests --test fuzz` runs one input alone.
#![allow(
    clippy::print_stdout,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "as in every test: a failure is a panic; the output shows how much was run"
)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lightcone_tests::fuzz::chunked::{self, Pace};
use lightcone_tests::fuzz::connection::{self, Manners};
use lightcone_tests::fuzz::forms::{self, Care};
use lightcone_tests::fuzz::proxy_protocol;
use lightcone_tests::fuzz::response::{self, Reading};
use lightcone_tests::fuzz::shard::{self, Broken, Fault};
use lightcone_tests::fuzz::verdict::{Parser, broken};
use lightcone_tests::fuzz::websocket::{self, Slip};
use lightcone_tests::fuzz::{Flaw, TARGETS, differential, head};

/// The least number of inputs per target; fewer means that some were lost.
const INPUTS_MIN: usize = 30;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Returns the inputs of a target: those that cover its code, then those that are kept for what they found.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    ["corpus", "kept"].iter().flat_map(|folder| inputs(&root().join(folder).join(target))).collect()
}

/// Returns the files of a folder, sorted by name.
fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn fails(body: impl Fn(&[u8]) + RefUnwindSafe, data: &[u8]) -> bool {
    catch_unwind(|| body(data)).is_err()
}

#[test]
fn corpora_keep_every_promise() {
    let alone = std::env::var("FUZZ_INPUT").ok();
    for (target, body) in TARGETS {
        if let Some(path) = &alone {
            if std::env::var("FUZZ_TARGET").is_ok_and(|wanted| wanted == target) {
                body(&fs::read(path).unwrap());
            }
            continue;
        }
        let inputs = corpus(target);
        assert!(inputs.len() >= INPUTS_MIN, "{target}: only {} inputs", inputs.len());
        println!("{target}: {} inputs", inputs.len());
        for (path, data) in &inputs {
            assert!(!fails(body, data), "{target}: {} fails", path.display());
        }
    }
}

/// A mutant: its name and a function that runs its target.
type Twin = (&'static str, Box<dyn Fn(&[u8]) + RefUnwindSafe>);

/// Checks that the corpus of a target fails for each mutant.
fn all_are_noticed(target: &str, twins: Vec<Twin>) {
    let inputs = corpus(target);
    for (name, twin) in twins {
        let found = inputs.iter().position(|(_, data)| fails(&*twin, data));
        assert!(found.is_some(), "{target}: none of {} inputs detects {name}", inputs.len());
        println!("{target}: {name} is detected by input {}", found.unwrap());
    }
}

const PARSERS: [(&str, Parser); 8] = [
    ("bare line feeds", broken::bare_line_feeds),
    ("blank before a colon", broken::blank_before_colon),
    ("last field lost", broken::last_field_lost),
    ("body overlooked", broken::body_overlooked),
    ("end too late", broken::end_too_late),
    ("close overlooked", broken::close_overlooked),
    ("impatient", broken::impatient),
    ("no queries", broken::no_queries),
];

#[test]
fn broken_parsers_of_heads_are_noticed() {
    let twin = |(name, parser): (&'static str, Parser)| -> Twin {
        (name, Box::new(move |data| head::check(data, parser)))
    };
    all_are_noticed("head", PARSERS.map(twin).into());
}

/// `httparse` does not parse bodies or connection options, and returns no verdict on incomplete heads.
#[test]
fn broken_parsers_are_noticed_beside_another() {
    let comparable = PARSERS
        .into_iter()
        .filter(|(name, _)| !["body overlooked", "close overlooked", "impatient"].contains(name));
    let twin = |(name, parser): (&'static str, Parser)| -> Twin {
        (name, Box::new(move |data| differential::check(data, parser)))
    };
    all_are_noticed("differential", comparable.map(twin).collect());
}

#[test]
fn broken_bodies_are_noticed() {
    all_are_noticed(
        "chunked",
        vec![
            ("a forgetful exchange", Box::new(|data| chunked::check(data, Flaw::None, Pace::Forgetful))),
            ("a lost byte", Box::new(|data| chunked::check(data, Flaw::LostByte, Pace::Exact))),
            ("reordered bytes", Box::new(|data| chunked::check(data, Flaw::Reordered, Pace::Exact))),
            ("a lost end", Box::new(|data| chunked::check(data, Flaw::LostEnd, Pace::Exact))),
        ],
    );
}

#[test]
fn broken_forms_are_noticed() {
    let twin = |(name, care): (&'static str, Care)| -> Twin {
        (name, Box::new(move |data| forms::check(data, care)))
    };
    let cares = [
        ("withheld content that is dropped", Care::Withheld),
        ("parts that are merged", Care::Merged),
        ("a plus sign that is kept", Care::Plus),
        ("a piece taken for the whole", Care::Hasty),
    ];
    all_are_noticed("forms", cares.map(twin).into());
}

#[test]
fn broken_headers_of_proxies_are_noticed() {
    let twin = |(name, reading): (&'static str, proxy_protocol::Reading)| -> Twin {
        (name, Box::new(move |data| proxy_protocol::check(data, reading)))
    };
    let readings = [
        ("a CR taken for the end of a line", proxy_protocol::Reading::Hasty),
        ("zeros in front of a port", proxy_protocol::Reading::Zeros),
        ("addresses that are exchanged", proxy_protocol::Reading::Swapped),
        ("values that are left in the stream", proxy_protocol::Reading::Short),
        ("a checksum that is not verified", proxy_protocol::Reading::Unverified),
        ("a header without a maximum", proxy_protocol::Reading::Endless),
    ];
    all_are_noticed("proxy_protocol", readings.map(twin).into());
}

#[test]
fn broken_connections_are_noticed() {
    let wire =
        |name, flaw| -> Twin { (name, Box::new(move |data| connection::check(data, flaw, Manners::Good))) };
    let server = |name, manners| -> Twin {
        (name, Box::new(move |data| connection::check(data, Flaw::None, manners)))
    };
    all_are_noticed(
        "connection",
        vec![
            wire("a lost writable", Flaw::LostWritable),
            wire("a lost byte", Flaw::LostByte),
            wire("a doubled byte", Flaw::DoubledByte),
            wire("a lost tail", Flaw::LostTail),
            wire("a lost end", Flaw::LostEnd),
            wire("reordered bytes", Flaw::Reordered),
            server("a forgetful echo", Manners::Forgetful),
            server("an unannounced close", Manners::Clinging),
        ],
    );
}

#[test]
fn broken_readers_of_responses_are_noticed() {
    let twin = |(name, reading): (&'static str, Reading)| -> Twin {
        (name, Box::new(move |data| response::check(data, reading)))
    };
    let readings = [
        ("a forgotten method", Reading::AnyMethod),
        ("bare line feeds", Reading::BareLineFeeds),
        ("a second length overlooked", Reading::FirstLength),
        ("a truncated body taken for complete", Reading::AnyEnd),
        ("a connection that is always kept", Reading::AlwaysKept),
        ("a byte too many consumed", Reading::Greedy),
    ];
    all_are_noticed("response", readings.map(twin).into());
}

#[test]
fn broken_receivers_are_noticed() {
    let twin = |(name, slip): (&'static str, Slip)| -> Twin {
        (name, Box::new(move |data| websocket::check(data, slip)))
    };
    let slips = [
        ("a lost byte", Slip::LostByte),
        ("a control frame twice", Slip::Twice),
        ("consumed bytes that stay", Slip::Kept),
        ("any text", Slip::AnyText),
        ("no limit of messages", Slip::NoLimit),
    ];
    all_are_noticed("websocket", slips.map(twin).into());
}

#[test]
fn broken_shards_are_noticed() {
    let twin = |(name, fault): (&'static str, Fault)| -> Twin {
        (name, Box::new(move |data| shard::check(data, fault)))
    };
    let faults = [
        ("tokens without a generation", Fault::AnyGeneration),
        ("a sent byte that is not reported", Fault::ShortSent),
        ("a second close", Fault::ClosedTwice),
        ("a lost open", Fault::OpenLost),
        ("late timeouts", Fault::LateTurn),
        ("early timeouts", Fault::EarlyTurn),
        ("swapped receives", Fault::Swapped),
        ("blocks that return while they are sent", Fault::EarlyLanding),
        ("a lost byte of input", Fault::Forgetful),
    ];
    all_are_noticed("shard", faults.map(twin).into());
    let twin = |(name, broken): (&'static str, Broken)| -> Twin {
        (name, Box::new(move |data| shard::compare(data, broken)))
    };
    let ways = [
        ("a fast path that ignores writable", Broken::Deaf),
        ("a fast path that treats a short send as complete", Broken::Hasty),
    ];
    all_are_noticed("shard", ways.map(twin).into());
}

#[test]
fn every_target_has_its_program() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let programs = fs::read_dir(root().join("src/bin")).unwrap();
    let programs: BTreeSet<String> = programs
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(programs, names);
    let script = fs::read_to_string(root().join("run.sh")).unwrap();
    for name in names {
        assert!(script.contains(&format!("[{name}]=")), "run.sh has no target {name}");
    }
}
