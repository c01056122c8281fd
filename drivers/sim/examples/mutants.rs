//! Activates the mutants of core one at a time, and reports which scenario of `simulate` notices each, at
//! which seed.
//!
//! ```text
//! cargo run --release -p lightcone-sim --example mutants -- [--seeds N] [--most N] [word..]
//! ```
//!
//! Tries the mutants of `mutants.rs` whose names or files contain one of the words, or all, with `--seeds`
//! seeds of each scenario (300). The run fails if more than `--most` mutants (0) are not noticed.
//!
//! All mutants are built into one copy of the sources, in the target directory, and activated one at a time.
#![allow(clippy::print_stdout, clippy::std_instead_of_alloc, reason = "this is a tool")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "a tool ends at the first error")]

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread::{available_parallelism, scope, sleep};
use std::{env, io};

use mutants::{MUTANTS, Mutant};

#[path = "../mutants.rs"]
mod mutants;

/// For one scenario. Without a mutant, the longest takes a few seconds.
const SECONDS_MAX: u32 = 120;

/// The copied files: everything that Cargo requires, and the sources.
const COPIED: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "src", "core", "drivers", "http", "websocket", "examples", "tests"];

const SCENARIOS: [&str; 7] = ["walk", "chat", "http", "reconnect", "echo", "relay", "crowd"];

/// Further changes to the copy: the switch, no `const` for functions that read the switch, and no shrinking.
const TOOLING: [(&str, &str, &str); 6] = [
    (
        "core/src/lib.rs",
        "\npub use ",
        "\n/// Which error is switched on.\n\
         pub static MUTATED: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);\n\
         pub(crate) fn mutated(number: usize) -> bool {\n    \
         MUTATED.load(core::sync::atomic::Ordering::Relaxed) == number\n}\npub use ",
    ),
    ("core/src/life.rs", "pub const fn next(state", "pub fn next(state"),
    ("core/src/buffer/output.rs", "pub(crate) const fn is_low(", "pub(crate) fn is_low("),
    ("core/src/poller/io.rs", "const fn belongs_to(", "fn belongs_to("),
    ("drivers/sim/src/run.rs", "shrinks: 2_000,", "shrinks: 0,"),
    (
        "examples/simulate.rs",
        "    let options = Options::parse();\n",
        "    let options = Options::parse();\n    \
         let number = std::env::var(\"MUTATED\").ok().and_then(|number| number.parse().ok());\n    \
         lightcone::engine_core::MUTATED.store(number.unwrap_or(0), core::sync::atomic::Ordering::Relaxed);\n",
    ),
];

/// The command-line options.
struct Options {
    seeds: String,
    most: usize,
    words: Vec<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { seeds: "300".into(), most: 0, words: Vec::new() };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            match &*word {
                "--seeds" => options.seeds = words.next().expect("--seeds N"),
                "--most" => {
                    options.most = words.next().and_then(|most| most.parse().ok()).expect("--most N");
                }
                _ => options.words.push(word),
            }
        }
        options
    }

    fn wants(&self, mutant: &Mutant) -> bool {
        let is_about = |word: &String| mutant.name.contains(&**word) || mutant.file.contains(&**word);
        self.words.is_empty() || self.words.iter().any(is_about)
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let names: BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), MUTANTS.len(), "two mutants have the same name");
    let simulate = build();
    for scenario in SCENARIOS {
        let failure = run(&simulate, scenario, 0, &options.seeds);
        assert!(failure.is_none(), "{scenario} fails without a mutant: {}", failure.unwrap_or_default());
    }

    let numbers: Vec<usize> =
        (1..=MUTANTS.len()).filter(|number| options.wants(&MUTANTS[number - 1])).collect();
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let numbers = core::iter::from_fn(|| numbers.get(next.fetch_add(1, Ordering::Relaxed)));
                numbers.for_each(|number| try_one(&simulate, *number, &options.seeds, &missed));
            });
        }
    });
    let missed = missed.into_inner().expect("no thread panics with it");
    println!("\n{} of {} errors noticed", numbers.len() - missed.len(), numbers.len());
    if missed.len() > options.most || numbers.is_empty() {
        println!("not noticed: {}", missed.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Activates a mutant, and prints what notices it.
fn try_one(simulate: &Path, number: usize, seeds: &str, missed: &Mutex<Vec<&'static str>>) {
    let name = MUTANTS[number - 1].name;
    let by = SCENARIOS
        .iter()
        .find_map(|scenario| Some(format!("{scenario}: {}", run(simulate, scenario, number, seeds)?)));
    println!("{name}: {}", by.as_deref().unwrap_or("**not noticed**"));
    if by.is_none() {
        missed.lock().expect("no thread panics with it").push(name);
    }
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn changed_files() -> impl Iterator<Item = &'static str> {
    MUTANTS.iter().map(|mutant| mutant.file).chain(TOOLING.iter().map(|(file, ..)| *file))
}

/// Builds `simulate` from a copy of the sources with all mutants.
fn build() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| shipped("target"), PathBuf::from);
    let folder = target.join("sim-mutants");
    let root = folder.join("sources");
    for name in COPIED {
        copy_all(&shipped(name), &root.join(name));
    }
    let mut changes: Vec<(&str, &str, String)> =
        TOOLING.iter().map(|(file, find, replace)| (*file, *find, (*replace).to_owned())).collect();
    changes.extend(MUTANTS.iter().zip(1..).map(|(mutant, number)| {
        let replace = mutant.replace.replace("MUTATED", &format!("crate::mutated({number})"));
        (mutant.file, mutant.find, replace)
    }));
    for file in changed_files().collect::<BTreeSet<_>>() {
        let mut text = fs::read_to_string(shipped(file)).expect("a source file");
        for (_, find, replace) in changes.iter().filter(|(other, ..)| *other == file) {
            let first = *find == TOOLING[0].1;
            let count = text.matches(find).count();
            assert!(count == 1 || first && count > 1, "{file}: {count} times, not once: {find}");
            text = text.replacen(find, replace, 1);
        }
        write_if_new(&root.join(file), &text);
    }
    let status = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--quiet", "--package=lightcone-examples", "--example=simulate"])
        .args(["--config", "profile.release.debug=false", "--config", "profile.release.codegen-units=16"])
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("RUSTFLAGS", "--cap-lints=allow")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the copy with all mutants does not build");
    folder.join("target/release/examples/simulate")
}

/// Copies a file, or a directory except for build output.
fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).expect("a folder of sources") {
            let name = entry.expect("a directory entry").file_name();
            if name != "target" {
                copy_all(&from.join(&name), &to.join(&name));
            }
        }
    } else if !changed_files().any(|file| from == shipped(file)) {
        fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable target folder");
        let bytes = fs::read(from).expect("a source file");
        if fs::read(to).ok().as_ref() != Some(&bytes) {
            fs::write(to, bytes).expect("a writable target folder");
        }
    }
}

/// Writes a file only if it has changed, so that it is not rebuilt otherwise.
fn write_if_new(file: &Path, text: &str) {
    if fs::read_to_string(file).ok().as_deref() != Some(text) {
        fs::create_dir_all(file.parent().expect("a file in a folder")).expect("a writable target folder");
        fs::write(file, text).expect("a writable target folder");
    }
}

/// Runs a scenario with one mutant. Returns how it failed, if it did.
fn run(simulate: &Path, scenario: &str, number: usize, seeds: &str) -> Option<String> {
    let log = simulate.with_extension(format!("{number}.log"));
    let mut child = Command::new(simulate)
        .args(["--scenario", scenario, "--seeds", seeds, "--trace", "0"])
        .env("MUTATED", number.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdout(File::create(&log).expect("a writable target folder"))
        .stderr(Stdio::null())
        .spawn()
        .expect("simulate runs");
    for _ in 0..SECONDS_MAX * 100 {
        if let Some(status) = child.try_wait().expect("a child of this program") {
            let text = fs::read_to_string(&log).expect("it was written");
            fs::remove_file(&log).expect("it is there");
            return (!status.success()).then(|| reason(&text));
        }
        sleep(Duration::from_millis(10));
    }
    child.kill().and_then(|()| child.wait()).map(drop).unwrap_or_else(|error: io::Error| panic!("{error}"));
    Some(format!("no end within {SECONDS_MAX} s"))
}

/// Returns the message of a failure, and its seed.
fn reason(text: &str) -> String {
    let first = text.lines().nth(1).unwrap_or("an abort");
    let seed = text.lines().rev().find_map(|line| line.split(" --seed ").nth(1)).unwrap_or("?");
    format!("{first} (seed {seed})")
}
