//! Runs a test in a process of its own.

use std::env;
use std::process::Command;

/// The environment variable that is set in such a process.
const ALONE: &str = "LIGHTCONE_TEST_ALONE";

/// Returns whether this process runs a single test.
pub(crate) fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs a test in a process of its own and returns its exit code: 0 if it passes, 101 if it fails.
#[cfg(feature = "signals")]
pub(crate) fn exit_code(test: &str) -> Option<i32> {
    run("exec \"$0\" \"$@\"", test)
}

/// Runs a test in a process of its own that may open few descriptors, and returns its exit code.
#[cfg(feature = "log")]
pub(super) fn exit_code_with_descriptors(limit: u32, test: &str) -> Option<i32> {
    run(&format!("ulimit -n {limit} && exec \"$0\" \"$@\""), test)
}

fn run(script: &str, test: &str) -> Option<i32> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(env::current_exe().unwrap());
    let output = command.args(["--exact", test]).env(ALONE, "yes").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test\n"), "{test} is not a test: {text}");
    if output.status.code() == Some(101) {
        println!("{text}");
    }
    output.status.code()
}
