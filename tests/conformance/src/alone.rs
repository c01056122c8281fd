//! Runs a case in a separate process, for cases that examine or change the whole process.
//!
//! The test program starts itself again with a filter that selects the one test.

use std::env;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;

use lightcone_contract::sockets::soon;

use crate::case::bounded;

/// The environment variable that names the case for which this process was started.
const ALONE: &str = "LIGHTCONE_ALONE";

/// Returns whether this process was started for a single case.
#[must_use]
pub fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs a test in a separate process. `path` is the module path and name of the test, including the crate.
pub fn alone(path: &str, body: fn()) {
    let (_crate, name) = path.split_once("::").unwrap();
    if env::var(ALONE).is_ok_and(|alone| alone == name) {
        return body();
    }
    let mut child = start(name, name);
    let mut read = child.stdout.take().unwrap();
    let output = bounded("the output of a test in a separate process", move || {
        let mut output = String::new();
        read.read_to_string(&mut output).unwrap();
        output
    });
    let status = soon("the end of a test in a separate process", || child.try_wait().unwrap());
    // a filter that matches no test exits successfully, and must not count as a pass
    assert!(
        status.success() && output.contains("1 passed"),
        "{name}, in a separate process: {status}\n{output}"
    );
    if let Some(skipped) = output.lines().find(|line| line.contains("skipped: ")) {
        println!("{skipped}");
    }
}

/// Starts this test program again for one test. The child reads `role` from the environment.
pub(crate) fn start(test: &str, role: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Prints that a case cannot be run here, and why.
pub fn skip(why: &str) {
    println!("skipped: {why}");
}

/// Calls a function repeatedly on another thread until the guard is dropped.
#[derive(Debug)]
pub struct Background {
    stop: std::sync::Arc<core::sync::atomic::AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Background {
    /// Starts the thread, which calls `work` in a loop.
    pub fn repeat(mut work: impl FnMut() + Send + 'static) -> Self {
        let stop = std::sync::Arc::new(core::sync::atomic::AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !seen.load(core::sync::atomic::Ordering::Relaxed) {
                work();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, core::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
