//! Breaks the sources under test in one way after the other, and reports which model detects it. A mutant that no model
//! detects is a gap in the models, and fails the run.
//!
//! ```text
//! cargo loom-mutants              tries all mutants
//! cargo loom-mutants word..       tries those with one of the words in their name or file
//! cargo loom-mutants --check      tries all, each on the model that MUTANTS.md names
//! cargo loom-mutants --write      tries all, and writes MUTANTS.md
//! ```
//!
//! The models are tried from the smallest to the largest until one fails, so the table names the cheapest proof. With
//! `--check`, each mutant is tried on the model that MUTANTS.md names, which must fail in the same way.
//!
//! A mutant is a change to a copy of the sources in the target folder. The models are built from the copy in the same
//! way as from the sources themselves. The change also adds a marker text, which shows from which sources the linked
//! libraries were built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope, sleep};
use std::time::Duration;
use std::{env, fs};

use mutants::Mutant;

#[path = "../mutants.rs"]
mod mutants;

/// The time limit of one model. Without a mutant, the longest takes less than two minutes.
const SECONDS_MAX: u32 = 300;

/// The number of mutants that are built and tried at once, each in a separate folder.
const WORKERS_MAX: usize = 4;

/// What is copied for a mutant: the sources, and the manifests that Cargo needs.
const COPIED: [&str; 7] = ["Cargo.toml", "src", "core", "drivers", "http", "examples", "loom-tests"];

/// The libraries that the models link.
const LIBRARIES: [&str; 3] = ["lightcone_core", "lightcone_model", "loom_tests"];

/// The marker of libraries that were built from a changed file.
const MARK: &str = "loom mutant: ";

/// The package of the models.
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> ExitCode {
    let mut wanted: Vec<String> = env::args().skip(1).collect();
    let check = wanted.iter().any(|word| word == "--check");
    let write = wanted.iter().any(|word| word == "--write");
    wanted.retain(|word| !word.starts_with("--"));
    assert!(wanted.is_empty() || !(check || write), "MUTANTS.md covers all mutants: do not name any");
    let chosen: Vec<&'static Mutant> = mutants::MUTANTS
        .iter()
        .filter(|mutant| {
            let is_about = |word: &String| mutant.name.contains(&**word) || mutant.file.contains(&**word);
            wanted.is_empty() || wanted.iter().any(is_about)
        })
        .collect();
    let names: BTreeSet<_> = mutants::MUTANTS.iter().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), mutants::MUTANTS.len(), "two mutants have one name");
    for mutant in mutants::MUTANTS {
        let _ = changed(mutant); // checks the texts of all mutants before any is built
    }

    let file = Path::new(PACKAGE).join("MUTANTS.md");
    let written = fs::read_to_string(&file).unwrap_or_default();
    let models = if check { Models::Named(named(&written)) } else { Models::All(models()) };
    let workers = available_parallelism().map_or(1, usize::from).min(WORKERS_MAX).min(chosen.len());
    let next = AtomicUsize::new(0);
    let caught: BTreeMap<_, _> = scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn({
                    let (next, chosen, models) = (&next, &chosen, &models);
                    move || work(&Copy::new(worker), next, chosen, models)
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("every mutant builds")).collect()
    });

    let mut table = String::from("| mutant | in | caught by | as |\n| --- | --- | --- | --- |\n");
    for mutant in mutants::MUTANTS.iter().filter(|mutant| caught.contains_key(mutant.name)) {
        let by = caught[mutant.name].as_deref().unwrap_or("**none** | ");
        writeln!(table, "| `{}` | `{}` | {by} |", mutant.name, mutant.file).expect("a string has room");
    }
    let survivors = caught.values().filter(|by| by.is_none()).count();
    let tried = caught.len();
    let proofs: BTreeSet<_> = caught.values().flatten().filter_map(|by| by.split(" | ").next()).collect();
    writeln!(table, "\n{} of {tried} mutants caught by {} models", tried - survivors, proofs.len())
        .expect("a string has room");
    print!("{table}");
    let page = format!("{HEAD}{table}");
    if write {
        fs::write(&file, &page).expect("a writable MUTANTS.md");
    }
    if check && written != page {
        eprintln!("MUTANTS.md is out of date: run cargo loom-mutants --write");
        return ExitCode::FAILURE;
    }
    if tried > 0 && survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const HEAD: &str = "# Mutants\n\n\
Ways to break what the models check, and the model that detects each. `cargo loom-mutants --write` wrote this at the \
bound of `cargo loom`; `.ci/run mutants` compares. The models are tried from the smallest to the largest, and the first \
that fails is named. The changes are in `mutants.rs`.\n\n";

/// The models that mutants are tried on.
enum Models {
    /// All, from the smallest to the largest.
    All(Vec<String>),
    /// For each mutant the model that MUTANTS.md names.
    Named(BTreeMap<String, String>),
}

impl Models {
    /// Returns the models for a mutant, in the order in which they are tried.
    fn of(&self, mutant: &Mutant) -> &[String] {
        match self {
            Self::All(models) => models,
            Self::Named(models) => models.get(mutant.name).map_or(&[], core::slice::from_ref),
        }
    }
}

/// Returns the model that MUTANTS.md names for each mutant.
fn named(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().filter_map(|row| row.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (mutant, rest) = row.split_once("` | ")?;
        Some((mutant.to_owned(), rest.split(" | ").nth(1)?.to_owned()))
    })
    .collect()
}

/// Returns the models, sorted by their number of executions. All of them must pass without a mutant.
fn models() -> Vec<String> {
    let executable = build(Path::new(PACKAGE), None, None);
    let output = Command::new(&executable).output().expect("the models run");
    let errors = String::from_utf8_lossy(&output.stderr);
    let failures = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "the models fail without a mutant: {failures}");
    let mut models: Vec<(usize, String)> = errors
        .lines()
        .filter_map(|line| {
            // a line is such as `model NAME, bound 2: 123 executions in 0.45 s`
            let (name, rest) = line.strip_prefix("model ")?.split_once(", ")?;
            let (executions, _) = rest.split_once(" executions")?;
            let (_, executions) = executions.rsplit_once(' ')?;
            Some((executions.parse().ok()?, name.to_owned()))
        })
        .collect();
    assert!(!models.is_empty(), "no models found");
    models.sort();
    models.into_iter().map(|(_, name)| name).collect()
}

/// Tries mutants until none is left, and returns what caught each.
fn work(
    copy: &Copy,
    next: &AtomicUsize,
    chosen: &[&'static Mutant],
    models: &Models,
) -> Vec<(&'static str, Option<String>)> {
    let mut caught = Vec::new();
    while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
        let by = copy.catch(mutant, models.of(mutant));
        eprintln!("{}: {}", mutant.name, by.as_deref().unwrap_or("**none**"));
        caught.push((mutant.name, by));
    }
    caught
}

/// A worker's copy of the sources, and the folder for its builds.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(worker: usize) -> Self {
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(PACKAGE).join("target"), PathBuf::from);
        let folder = target.join(format!("mutants-{worker}"));
        let copy = Self { root: folder.join("sources"), target: folder.join("target") };
        // an old copy may contain files that no longer exist
        if copy.root.exists() {
            fs::remove_dir_all(&copy.root).expect("a folder of this program");
        }
        for name in COPIED {
            copy_all(&shipped(name), &copy.root.join(name));
        }
        copy
    }

    /// Returns the first model that fails with `mutant`, and how, as cells of the table.
    fn catch(&self, mutant: &Mutant, models: &[String]) -> Option<String> {
        let file = self.root.join(mutant.file);
        fs::write(&file, changed(mutant)).expect("a writable copy");
        let executable = build(&self.root.join("loom-tests"), Some(&self.target), Some(mutant));
        // restored, so that the next mutant is the only change
        fs::copy(shipped(mutant.file), &file).expect("a writable copy");
        models.iter().find_map(|model| {
            let how = run(&executable, model, mutant.name)?;
            Some(format!("{model} | {how}"))
        })
    }
}

/// Returns the text of a mutant's file, with the change and the marker.
fn changed(mutant: &Mutant) -> String {
    let text = fs::read_to_string(shipped(mutant.file)).expect("a source file");
    assert_eq!(text.matches(mutant.find).count(), 1, "{}: its text must occur exactly once", mutant.name);
    let changed = text.replace(mutant.find, mutant.replace);
    format!("{changed}\n#[used]\nstatic LOOM_MUTANT: &str = \"{MARK}{};\";\n", mutant.name)
}

fn shipped(path: &str) -> PathBuf {
    Path::new(PACKAGE).join("..").join(path)
}

/// Copies a file, or a folder without build output. A symbolic link stays one, so `loom-tests/model` compiles the copy
/// of core.
fn copy_all(from: &Path, to: &Path) {
    if let Ok(linked) = fs::read_link(from) {
        fs::create_dir_all(to.parent().expect("a link in a folder")).expect("a writable target folder");
        symlink(linked, to).expect("a writable target folder");
        return;
    }
    if from.is_file() {
        fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable target folder");
        fs::copy(from, to).expect("a writable target folder");
        return;
    }
    for entry in fs::read_dir(from).expect("a folder of sources") {
        let name = entry.expect("a directory entry").file_name();
        if name != "target" {
            copy_all(&from.join(&name), &to.join(&name));
        }
    }
}

/// Returns whether a library is built from a file.
fn contains(library: &str, file: &str) -> bool {
    // sources of core that the model crate compiles a second time
    let twice = ["core/src/balance.rs", "core/src/poller/", "core/src/sync/", "core/src/table.rs"];
    match library {
        "lightcone_core" => file.starts_with("core/"),
        "lightcone_model" => twice.iter().any(|part| file.starts_with(part)),
        _ => {
            let ours = file.starts_with("loom-tests/") && !file.starts_with("loom-tests/model/");
            ours || file.starts_with("drivers/workers/") || file.starts_with("examples/src/kv/")
        }
    }
}

/// Builds the models from the shipped package or, for a mutant, from a copy.
///
/// Panics unless the libraries that are built from the mutant's file contain its marker, and no other marker is found.
fn build(package: &Path, target: Option<&Path>, mutant: Option<&Mutant>) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args([
            "test",
            "--locked",
            "--no-run",
            "--package=loom-tests",
            "--test=models",
            "--message-format=json",
        ])
        .arg("--manifest-path")
        .arg(package.join("Cargo.toml"));
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "1").arg("--jobs=1");
        // a mutant is built once and fails soon, so most of the time is spent on compiling it
        for package in ["lightcone-core", "lightcone-model", "loom-tests"] {
            cargo.args(["--config", &format!("profile.test.package.{package}.opt-level=1")]);
        }
        cargo.args(["--config", "profile.test.debug=false"]);
    }
    let output = cargo.output().expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let messages = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{} does not build:\n{errors}\n{messages}",
        mutant.map_or("the shipped source", |mutant| mutant.name)
    );
    for library in LIBRARIES {
        let file = message(&messages, library).split('"').find(|text| text.ends_with(".rlib"));
        let file = file.expect("cargo names the file of a library");
        let found = found_marks(&fs::read(file).expect("cargo has built it"));
        let wanted = mutant.filter(|mutant| contains(library, mutant.file));
        assert_eq!(found, wanted.iter().map(|mutant| mutant.name.to_owned()).collect(), "a stale {file}");
    }
    let (_, path) =
        message(&messages, "models").rsplit_once("\"executable\":\"").expect("cargo names an executable");
    path.split('"').next().expect("a string ends").into()
}

/// Returns Cargo's message about a target that it has built.
fn message<'m>(messages: &'m str, target: &str) -> &'m str {
    let name = format!("\"name\":\"{target}\"");
    let mut artifacts = messages.lines().filter(|line| line.contains("\"compiler-artifact\""));
    artifacts.find(|line| line.contains(&name)).unwrap_or_else(|| panic!("cargo does not name {target}"))
}

/// Returns the names of the mutants with a marker in a library.
fn found_marks(library: &[u8]) -> BTreeSet<String> {
    let mark = MARK.as_bytes();
    let starts = library.windows(mark.len()).enumerate().filter(|(_, bytes)| *bytes == mark);
    starts
        .map(|(at, _)| {
            let name = library[at + mark.len()..].split(|byte| *byte == b';').next().unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        })
        .collect()
}

/// Runs one model and returns how it failed, or `None`. In a separate process, because a deadlock ends in an abort.
fn run(executable: &Path, model: &str, mutant: &str) -> Option<String> {
    let log = executable.with_extension("log");
    let file = fs::File::create(&log).expect("a writable target folder");
    let mut child = Command::new(executable)
        .args(["--exact", model, "--nocapture"])
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
    eprintln!("{mutant}: {model} took longer than {SECONDS_MAX} s, which is not counted as detected");
    None
}

/// Returns the message of the first panic, up to its first punctuation mark.
fn reason(log: &str) -> String {
    let mut lines = log.lines().skip_while(|line| !line.contains(" panicked at ")).skip(1);
    let first = lines.find(|line| !line.trim().is_empty()).unwrap_or("an abort");
    let first = first.split(['.', ';', ':']).next().unwrap_or(first);
    first.trim().replace('|', "\\|")
}
