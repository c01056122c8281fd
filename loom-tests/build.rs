//! Turns `cfg(loom)` on for this crate and no other, and names the sources that it is made of: the shipped ones or,
//! for `LOOM_MUTANT=name`, a copy in which one of them is broken.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "mutants.rs"]
mod mutants;

/// Folders of sources, by how mutants and the list below call them.
const FOLDERS: [(&str, &str); 5] = [
    ("core", "core/src"),
    ("unix", "drivers/unix/src"),
    ("model", "drivers/model/src"),
    ("workers", "drivers/workers/src"),
    ("models", "loom-tests/src"),
];

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-env-changed=LOOM_MUTANT");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=mutants.rs");
    let name = env::var("LOOM_MUTANT").unwrap_or_default();
    // Part of the output so that cargo notices the change, and for the models to tell.
    println!("cargo:rustc-env=LOOM_MUTANT_BUILT={name}");
    let mutant = (!name.is_empty())
        .then(|| mutants::find(&name).unwrap_or_else(|| panic!("no mutant is called {name:?}")));

    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let folder = |name: &str| {
        let (_, path) = FOLDERS.iter().find(|(known, _)| *known == name).expect("a folder of the list");
        if mutant.is_some() { out.join(name) } else { root.join(path) }
    };
    let mut modules = String::new();
    let mut list = |text: &str, folders: &dyn Fn(&str) -> Option<PathBuf>| {
        for statement in text.split_inclusive(';').map(last_item) {
            let module = statement.rsplit_once("mod ").and_then(|(_, name)| name.strip_suffix(';'));
            let Some(module) = module else {
                modules += statement;
                continue;
            };
            let Some(folder) = folders(module) else { continue };
            let path = [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")];
            // looked for in the shipped sources, as the copies are made later
            let shipped = path.iter().position(|path| original(&root, &out, path).exists());
            let path = &path[shipped.unwrap_or_else(|| panic!("no source of {module}"))];
            writeln!(modules, "#[path = {path:?}]\n{LENIENT}\npub mod {module};")
                .expect("a string takes all");
        }
    };
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a source file");
    list(&read("core/src/lib.rs"), &|_| Some(folder("core")));
    list(&read("drivers/model/src/lib.rs"), &|module| match module {
        "balance" | "sync" => None, // core's, from above
        "hub" | "placing" => Some(folder("unix")),
        _ => Some(folder("model")),
    });
    list("\nmod crew;\nmod lane;\nmod report;", &|_| Some(folder("workers")));
    list("\nmod gang;\nmod locks;\nmod message;\nmod protocol;", &|_| Some(folder("models")));
    fs::write(out.join("sources.rs"), modules).expect("a writable output directory");

    let mut seen = false;
    for (name, path) in FOLDERS {
        copy(&root.join(path), &out.join(name), &format!("{name}/"), mutant, &mut seen);
    }
    assert!(seen || mutant.is_none(), "{name}: its file is not there");
}

/// The whole crates' lints are checked where they live.
const LENIENT: &str = "#[allow(clippy::all, dead_code, missing_docs)]";

/// The module or the re-export at the end of a piece of a crate's root, without what stands before it.
fn last_item(piece: &str) -> &str {
    let starts = ["\nmod ", "\npub mod ", "\npub use "].map(|start| piece.rfind(start));
    let item = starts.into_iter().flatten().max().map_or("", |at| &piece[at + 1..]);
    if item == "pub use loom;" { "" } else { item }
}

fn original(root: &Path, out: &Path, path: &Path) -> PathBuf {
    let Ok(inside) = path.strip_prefix(out) else { return path.to_owned() };
    let mut parts = inside.iter();
    let name = parts.next().and_then(|name| name.to_str()).expect("a folder");
    let (_, folder) = FOLDERS.iter().find(|(known, _)| *known == name).expect("a folder of the list");
    root.join(folder).join(parts.as_path())
}

/// Copies sources to the output directory, with the mutant's change; without a mutant only watches them.
fn copy(from: &Path, to: &Path, name: &str, mutant: Option<&mutants::Mutant>, seen: &mut bool) {
    println!("cargo:rerun-if-changed={}", from.display());
    if mutant.is_some() {
        fs::create_dir_all(to).expect("a writable output directory");
    }
    for entry in fs::read_dir(from).expect("a folder of sources") {
        let from = entry.expect("a directory entry").path();
        let file = from.file_name().and_then(|file| file.to_str()).expect("a file name").to_owned();
        if from.is_dir() {
            copy(&from, &to.join(&file), &format!("{name}{file}/"), mutant, seen);
            continue;
        }
        let Some(mutant) = mutant else { continue };
        let mut text = fs::read_to_string(&from).expect("a source file");
        if format!("{name}{file}") == mutant.file {
            assert_eq!(text.matches(mutant.find).count(), 1, "{}: its text must be there once", mutant.name);
            text = text.replace(mutant.find, mutant.replace);
            *seen = true;
        }
        fs::write(to.join(file), text).expect("a writable output directory");
    }
}
