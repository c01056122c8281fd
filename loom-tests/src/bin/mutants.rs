//! Breaks the sources under test, one way after the other, and tells which models notice. A mutant that none notices
//! is a hole in the models, and fails the run.
//!
//! `cargo loom-mutants` tries all, `cargo loom-mutants name..` those whose names contain one of the words.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

#[path = "../../mutants.rs"]
mod mutants;

/// For one model. Unbroken, the longest takes a few seconds.
const SECONDS_MAX: u32 = 120;

/// Models that the table names for a mutant.
const SHOWN_MAX: usize = 3;

/// The test that proves which mutant an executable contains.
const BUILT_AS_ASKED: &str = "built_as_asked";

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = mutants::MUTANTS
        .iter()
        .filter(|mutant| wanted.is_empty() || wanted.iter().any(|word| mutant.name.contains(word)));
    let unbroken = outcomes("");
    assert!(!unbroken.is_empty(), "no models found");
    assert!(
        unbroken.iter().all(|(_, outcome)| *outcome == Outcome::Passed),
        "the models fail without a mutant"
    );

    let mut table = String::from("| mutant | caught by |\n| --- | --- |\n");
    let (mut tried, mut survivors) = (0, 0);
    for mutant in chosen {
        let outcomes = outcomes(mutant.name);
        let caught: Vec<&str> = outcomes
            .iter()
            .filter(|(_, outcome)| *outcome == Outcome::Failed)
            .map(|(name, _)| &**name)
            .collect();
        let hung = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Hung).count();
        let verdict = match (caught.len(), hung) {
            (0, 0) => "**nobody**".into(),
            (0, hung) => format!("**nobody** ({hung} took longer than {SECONDS_MAX} s)"),
            (count, _) if count > SHOWN_MAX => {
                format!("{} and {} more", caught[..SHOWN_MAX].join(", "), count - SHOWN_MAX)
            }
            _ => caught.join(", "),
        };
        eprintln!("{}: {verdict}", mutant.name);
        writeln!(table, "| `{}` | {verdict} |", mutant.name).expect("a string takes all");
        tried += 1;
        survivors += usize::from(caught.is_empty());
    }
    println!("{table}\n{} of {tried} mutants caught by {} models", tried - survivors, unbroken.len());
    if tried > 0 && survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Passed,
    Failed,
    Hung,
}

/// Builds the models against `mutant` and runs each in a process of its own: a deadlock ends in an abort.
fn outcomes(mutant: &str) -> Vec<(String, Outcome)> {
    let executable = build(mutant);
    assert_eq!(run(&executable, BUILT_AS_ASKED, mutant), Outcome::Passed, "{mutant}: a stale build");
    let list = Command::new(&executable).args(["--list", "--format=terse"]).output().expect("the models run");
    let names = String::from_utf8(list.stdout).expect("names are text");
    names
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| *name != BUILT_AS_ASKED && !name.ends_with("self_check"))
        .map(|name| (name.to_owned(), run(&executable, name, mutant)))
        .collect()
}

fn build(mutant: &str) -> PathBuf {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["test", "--no-run", "--test=models", "--message-format=json", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .env("LOOM_MUTANT", mutant)
        .output()
        .expect("cargo runs");
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

fn run(executable: &Path, name: &str, mutant: &str) -> Outcome {
    let mut child = Command::new(executable)
        .args(["--exact", name])
        .env("LOOM_MUTANT", mutant)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the models run");
    let pause = Duration::from_millis(10);
    for _ in 0..SECONDS_MAX * 100 {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return if status.success() { Outcome::Passed } else { Outcome::Failed };
        }
        sleep(pause);
    }
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    Outcome::Hung
}
