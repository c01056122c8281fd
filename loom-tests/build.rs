//! Turns `cfg(loom)` on for this crate and no other and, for `LOOM_MUTANT=name`, prepares a broken copy of the
//! sources under test.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "mutants.rs"]
mod mutants;

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-env-changed=LOOM_MUTANT");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=mutants.rs");
    let name = env::var("LOOM_MUTANT").unwrap_or_default();
    // Part of the output so that cargo notices the change, and for the models to tell.
    println!("cargo:rustc-env=LOOM_MUTANT_BUILT={name}");
    if !name.is_empty() {
        println!("cargo:rustc-cfg=mutant");
        mutate(mutants::find(&name).unwrap_or_else(|| panic!("no mutant is called {name:?}")));
    }
}

/// Copies the sources to the output directory, with the mutant's change, and names them in a file for `lib.rs`.
fn mutate(mutant: &mutants::Mutant) {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let mut seen = false;
    let mut copy = |from: &Path, to: &Path| {
        println!("cargo:rerun-if-changed={}", from.display());
        let mut text = fs::read_to_string(from).expect("a source file");
        if from.ends_with(mutant.file) {
            assert_eq!(text.matches(mutant.find).count(), 1, "{}: its text must be there once", mutant.name);
            text = text.replace(mutant.find, mutant.replace);
            seen = true;
        }
        fs::write(to, text).expect("a writable output directory");
    };
    fs::create_dir_all(out.join("sync")).expect("a writable output directory");
    for entry in fs::read_dir(root.join("core/src/sync")).expect("core's sources") {
        let from = entry.expect("a directory entry").path();
        copy(&from, &out.join("sync").join(from.file_name().expect("a file")));
    }
    copy(&root.join("core/src/balance.rs"), &out.join("balance.rs"));
    copy(&root.join("loom-tests/src/protocol.rs"), &out.join("protocol.rs"));
    assert!(seen, "{}: there is no {}", mutant.name, mutant.file);

    let module = |name: &str, file: &str| {
        format!("#[path = {:?}]\n#[allow(missing_docs)]\npub mod {name};\n", out.join(file))
    };
    let modules =
        [module("sync", "sync/mod.rs"), module("balance", "balance.rs"), module("protocol", "protocol.rs")];
    fs::write(out.join("mutant.rs"), modules.concat()).expect("a writable output directory");
}
