//! Turns `cfg(loom)` on for this crate and no other.

fn main() {
    println!("cargo:rustc-cfg=loom");
    println!("cargo:rerun-if-changed=build.rs");
}
