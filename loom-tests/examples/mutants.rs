//! Breaks the sources under test, one way after the other, and tells which model notices. A mutant that none notices is
//! a hole in the models, and fails the run.
//!
//! ```text
//! cargo loom-mutants              tries all
//! cargo loom-mutants name..       those whose names contain one of the words
//! cargo loom-mutants --check      all, and MUTANTS.md must say what came of it
//! cargo loom-mutants --write      all, and writes MUTANTS.md
//! ```
//!
//! The models are tried from the smallest to the largest until one fails: so the table names the cheapest proof.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope, sleep};
use std::time::Duration;
use std::{env, fs};

#[path = "../mutants.rs"]
mod mutants;

/// For one model. Unbroken, the longest takes less than a minute.
const SECONDS_MAX: u32 = 300;

/// Mutants that are built and tried at a time, each in a target folder of its own.
const WORKERS_MAX: usize = 4;

/// The test that proves which mutant an executable contains.
const BUILT_AS_ASKED: &str = "built_as_asked";

/// Where the table stands.
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/MUTANTS.md");

fn main() -> ExitCode {
    let mut wanted: Vec<String> = env::args().skip(1).collect();
    let check = wanted.iter().any(|word| word == "--check");
    let write = wanted.iter().any(|word| word == "--write");
    wanted.retain(|word| !word.starts_with("--"));
    assert!(wanted.is_empty() || !(check || write), "MUTANTS.md is about all mutants: name none");
    let chosen: Vec<&'static str> = mutants::MUTANTS
        .iter()
        .map(|mutant| mutant.name)
        .filter(|name| wanted.is_empty() || wanted.iter().any(|word| name.contains(&**word)))
        .collect();

    let models = models();
    assert!(!models.is_empty(), "no models found");
    let workers = available_parallelism().map_or(1, usize::from).min(WORKERS_MAX).min(chosen.len());
    let next = AtomicUsize::new(0);
    let caught: BTreeMap<_, _> = scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn({
                    let (next, chosen, models) = (&next, &chosen, &models);
                    move || work(worker, next, chosen, models)
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a mutant that builds")).collect()
    });

    let mut table = String::from("| mutant | in | caught by | as |\n| --- | --- | --- | --- |\n");
    for mutant in mutants::MUTANTS.iter().filter(|mutant| caught.contains_key(mutant.name)) {
        let by = caught[mutant.name].as_deref().unwrap_or("**nobody** | ");
        writeln!(table, "| `{}` | `{}` | {by} |", mutant.name, mutant.file).expect("a string takes all");
    }
    let survivors = caught.values().filter(|by| by.is_none()).count();
    let tried = caught.len();
    writeln!(table, "\n{} of {tried} mutants caught by {} models", tried - survivors, models.len())
        .expect("a string takes all");
    print!("{table}");
    let page = format!("{HEAD}{table}");
    if write {
        fs::write(TABLE, &page).expect("a writable MUTANTS.md");
    }
    if check && fs::read_to_string(TABLE).unwrap_or_default() != page {
        eprintln!("MUTANTS.md says something else: cargo loom-mutants --write");
        return ExitCode::FAILURE;
    }
    if tried > 0 && survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const HEAD: &str = "# Mutants\n\n\
Ways to break what the models check, and the model that notices. `cargo loom-mutants --write` wrote this, at the bound \
of `cargo loom`; `.ci/run mutants` compares. The models are tried from the smallest to the largest, and the first that \
fails is named. `mutants.rs` has the changes.\n\n";

/// The models, from the smallest to the largest by their executions. All of them must pass without a mutant.
fn models() -> Vec<String> {
    let executable = build("", None);
    let output = Command::new(&executable).env("LOOM_MUTANT", "").output().expect("the models run");
    let errors = String::from_utf8_lossy(&output.stderr);
    let failures = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the models fail without a mutant: {failures}");
    let mut models: Vec<(usize, String)> = errors
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("model ")?.split_once(", ")?;
            let (executions, _) = rest.split_once(" executions")?;
            let (_, executions) = executions.rsplit_once(' ')?;
            Some((executions.parse().ok()?, name.to_owned()))
        })
        .collect();
    models.sort();
    models.into_iter().map(|(_, name)| name).collect()
}

/// Tries mutants until none is left; what caught each.
fn work(
    worker: usize,
    next: &AtomicUsize,
    chosen: &[&'static str],
    models: &[String],
) -> Vec<(&'static str, Option<String>)> {
    let mut caught = Vec::new();
    while let Some(name) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
        let by = catch(name, worker, models);
        eprintln!("{name}: {}", by.as_deref().unwrap_or("**nobody**"));
        caught.push((*name, by));
    }
    caught
}

/// The first model that fails with `mutant`, and how, as cells of the table.
fn catch(mutant: &str, worker: usize, models: &[String]) -> Option<String> {
    let executable = build(mutant, Some(worker));
    assert!(run(&executable, BUILT_AS_ASKED, mutant).is_none(), "{mutant}: a stale build");
    models.iter().find_map(|model| {
        let how = run(&executable, model, mutant)?;
        Some(format!("{model} | {how}"))
    })
}

/// Builds the models against `mutant`; a worker does so in a folder of its own.
fn build(mutant: &str, worker: Option<usize>) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([
        "test",
        "--locked",
        "--no-run",
        "--package=loom-tests",
        "--test=models",
        "--message-format=json",
    ]);
    cargo
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .env("LOOM_MUTANT", mutant);
    if let Some(worker) = worker {
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or(concat!(env!("CARGO_MANIFEST_DIR"), "/target").into(), PathBuf::from);
        cargo.env("CARGO_TARGET_DIR", target.join(format!("mutants-{worker}")));
        // A mutant is built once and fails soon: time goes into compiling it.
        cargo.args(["--config", "profile.test.package.loom-tests.opt-level=1", "--jobs=1"]);
        cargo.args(["--config", "profile.test.debug=false"]);
    }
    let output = cargo.output().expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{mutant} does not build:\n{errors}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifact =
        messages.lines().find(|line| line.contains("\"name\":\"models\"")).expect("cargo names the models");
    let (_, path) = artifact.rsplit_once("\"executable\":\"").expect("cargo names their executable");
    path.split('"').next().expect("a string ends").into()
}

/// Runs one model, in a process of its own as a deadlock ends in an abort; how it failed, if it did.
fn run(executable: &Path, model: &str, mutant: &str) -> Option<String> {
    let log = executable.with_extension("log");
    let file = fs::File::create(&log).expect("a writable target folder");
    let mut child = Command::new(executable)
        .args(["--exact", model, "--nocapture"])
        .env("LOOM_MUTANT", mutant)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("the models run");
    for _ in 0..SECONDS_MAX * 100 {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return (!status.success()).then(|| reason(&fs::read_to_string(&log).expect("it was written")));
        }
        sleep(Duration::from_millis(10));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    eprintln!("{mutant}: {model} took longer than {SECONDS_MAX} s, which counts for nothing");
    None
}

/// What the first panic said.
fn reason(log: &str) -> String {
    let mut lines = log.lines().skip_while(|line| !line.contains(" panicked at ")).skip(1);
    let first = lines.find(|line| !line.trim().is_empty()).unwrap_or("an abort");
    let first = first.split(['.', ';', ':']).next().unwrap_or(first);
    first.trim().replace('|', "\\|")
}
