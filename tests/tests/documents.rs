//! What the documents say of the code is there.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What stands between backquotes on one line, code blocks aside.
fn quoted(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let lines = prose.flat_map(str::lines);
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn paths_that_are_named_exist() {
    let mut checked = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for word in quoted(&text) {
            let is_file =
                [".rs", ".md", ".txt", ".py", ".ini", ".sh", ".toml"].iter().any(|end| word.ends_with(end));
            let is_path = (is_file || word.ends_with('/')) && !word.contains(' ');
            if is_path {
                assert!(root().join(word).exists(), "{document} names `{word}`, which is not there");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} paths found");
}

#[test]
fn the_life_table_is_that_of_the_code() {
    assert!(read("ARCHITECTURE.md").contains(&read("core/src/life.txt")), "copy core/src/life.txt");
}

#[test]
fn every_package_is_introduced() {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        for document in ["README.md", "ARCHITECTURE.md"] {
            let folder = member.rsplit('/').next().unwrap();
            assert!(read(document).contains(&format!("{folder}/")), "{document} does not name {member}/");
        }
    }
}
