//! Selects the memory layout of each program, which `cortex-m-rt` includes by the name `memory.x`.

use std::env;

fn main() {
    let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    for program in ["http", "echo", "serial", "twin"] {
        println!("cargo:rustc-link-arg-bin={program}=-L{folder}/layout/{program}");
        println!("cargo:rerun-if-changed=layout/{program}/memory.x");
    }
}
