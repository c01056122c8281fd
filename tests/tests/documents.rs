//! Checks that the documents agree with the code.
#![allow(clippy::unwrap_used, reason = "as in every test: a failure is a panic")]

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 5] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "loom-tests/PROOFS.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Returns the texts in backquotes, without those in code blocks.
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
                let beside = root().join(document).with_file_name(word);
                let exists = root().join(word).exists() || beside.exists();
                assert!(exists, "{document} names `{word}`, which does not exist");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "only {checked} paths found");
}

/// The rows of the table that leads a newcomer to the code: `| to | files | names |`.
fn ways(contributing: &str) -> Vec<(&str, Vec<&str>, Vec<&str>)> {
    let table =
        contributing.split("\n## Where to find things\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let columns: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [to, files, names] = columns[..] else { panic!("{row} has {} columns", columns.len()) };
        (to, quoted(files), quoted(names))
    })
    .collect()
}

/// Returns the text of a file, or of all files of a folder and its folders.
fn contents(path: &Path) -> String {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().map(|entry| contents(&entry.unwrap().path())).collect();
    }
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_ways_to_the_code_lead_there() {
    let contributing = read("CONTRIBUTING.md");
    let ways = ways(&contributing);
    assert!(ways.len() > 15, "only {} rows found", ways.len());
    for (to, files, names) in ways {
        assert!(!files.is_empty() && !names.is_empty(), "to {to}: nothing is named");
        let texts: Vec<_> = files.iter().map(|file| contents(&root().join(file))).collect();
        let words: Vec<BTreeSet<_>> = texts
            .iter()
            .map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_').collect())
            .collect();
        for name in &names {
            assert!(
                words.iter().any(|words| words.contains(name)),
                "to {to}: no file of {files:?} has `{name}`"
            );
        }
        for (file, words) in files.iter().zip(&words) {
            assert!(names.iter().any(|name| words.contains(name)), "to {to}: `{file}` has none of {names:?}");
        }
    }
}

#[test]
fn lines_are_wrapped_at_120_columns() {
    for document in DOCUMENTS {
        let text = read(document);
        for line in text.split("```").step_by(2).flat_map(str::lines) {
            let columns = line.chars().count();
            assert!(columns <= 120 || line.starts_with('|'), "{document} has {columns} columns: {line}");
        }
    }
}

#[test]
fn every_model_is_among_the_proofs() {
    let proofs = read("loom-tests/PROOFS.md");
    let mut checked = 0;
    for file in fs::read_dir(root().join("loom-tests/tests/models")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap();
        if module == "main" {
            continue; // has no models
        }
        let text = fs::read_to_string(&path).unwrap();
        let tests = text.split("\n#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next());
        for test in tests {
            let names = [format!("`{test}`"), format!("::{test}`"), format!("`{module}::*`")];
            let is_named = names.iter().any(|name| proofs.contains(name));
            assert!(is_named, "loom-tests/PROOFS.md does not name {module}::{test}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} models found");
}

#[test]
fn the_life_table_is_that_of_the_code() {
    assert!(read("ARCHITECTURE.md").contains(&read("core/src/life.txt")), "copy core/src/life.txt");
}

#[test]
fn every_package_is_introduced() {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    let (readme, architecture) = (read("README.md"), read("ARCHITECTURE.md"));
    for member in members.split('"').skip(1).step_by(2) {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
        let folder = if member == "." { "src" } else { member };
        let row = format!("| `{name}` | `{folder}/` | ");
        assert!(readme.contains(&row), "README.md has no row {row}");
        let last = folder.rsplit('/').next().unwrap();
        let introduced = architecture.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(&format!("{last}/")) && words.next() == Some(name)
        });
        assert!(introduced, "ARCHITECTURE.md does not introduce {last}/ {name}");
    }
}

#[test]
fn the_first_program_of_the_readme_is_the_example() {
    let readme = read("README.md");
    let program =
        readme.split("\n```rust,no_run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(program, read("examples/hello.rs"));
    assert!(program.lines().count() <= 15);
    assert_eq!(readme.find("```rust"), readme.find("```rust,no_run"), "it is the first program");
}

/// The sources of what ships, without tests: crates that programs depend on.
fn shipped_sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, sources: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "tests" {
                walk(&path, sources);
            } else if name.ends_with(".rs") && !name.contains("test") {
                let text = fs::read_to_string(&path).unwrap();
                let shipped = text.split("\n#[cfg(test)]").next().unwrap();
                sources.push((path.display().to_string(), shipped.to_owned()));
            }
        }
    }
    let mut sources = Vec::new();
    for package in [
        "core",
        "http",
        "websocket",
        "drivers/unix",
        "drivers/epoll",
        "drivers/kqueue",
        "drivers/select",
        "drivers/smoltcp",
        "drivers/workers",
        "drivers/files",
    ] {
        walk(&root().join(package).join("src"), &mut sources);
    }
    sources
}

/// The names of the types that a source defines at its top level.
fn types(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
        let (kind, rest) = line.split_once(' ')?;
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&kind);
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        is_type.then(|| &rest[..end]).filter(|name| name.starts_with(char::is_uppercase))
    })
}

/// Most names mean one thing in all crates. The rest are those that a module's path distinguishes, such as `Builder`,
/// `Error` and `Report`, and the same type for several systems.
#[test]
fn names_mean_one_thing() {
    let sources = shipped_sources();
    let mut files = BTreeMap::<&str, Vec<&str>>::new();
    for (path, text) in &sources {
        for name in types(text) {
            files.entry(name).or_default().push(path);
        }
    }
    let all: usize = files.values().map(Vec::len).sum();
    let shared: Vec<_> = files.iter().filter(|(_, files)| files.len() > 1).collect();
    let doubled: usize = shared.iter().map(|(_, files)| files.len()).sum();
    assert!(all > 300, "only {all} types found");
    assert!(doubled * 10 <= all, "of {all} types, {doubled} share a name with another: {shared:#?}");
}

#[test]
fn words_of_the_glossary_are_those_of_the_code() {
    let architecture = read("ARCHITECTURE.md");
    let glossary = architecture.split("\n## Words").nth(1).unwrap().split("\n## ").next().unwrap();
    let sources = shipped_sources();
    let known: BTreeSet<_> = sources.iter().flat_map(|(_, text)| types(text)).collect();
    let mut words = BTreeSet::new();
    for row in glossary.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let word = row.split(" | ").next().unwrap();
        assert!(words.insert(word), "{word} has two meanings");
        for name in quoted(row).into_iter().filter(|name| name.starts_with(char::is_uppercase)) {
            let name = name.split(['<', ':', '(']).next().unwrap();
            assert!(
                known.contains(name),
                "ARCHITECTURE.md explains {word} by `{name}`, which is not in the code"
            );
        }
    }
    assert!(words.len() > 25, "only {} words found", words.len());
}
