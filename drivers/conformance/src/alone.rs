//! Cases that look at or change the whole process run in one of their own: the test program starts itself again.

use std::env;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;

use lightcone_contract::sockets::soon;

use crate::case::bounded;

/// Names the case that this process was started for.
const ALONE: &str = "LIGHTCONE_ALONE";

/// Whether this process was started for one case alone.
#[must_use]
pub fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs a test in a process of its own. `path` is the test's module path and name, the crate's first.
pub fn alone(path: &str, body: fn()) {
    let (_crate, name) = path.split_once("::").unwrap();
    if env::var(ALONE).is_ok_and(|alone| alone == name) {
        return body();
    }
    let mut child = start(name, name);
    let mut read = child.stdout.take().unwrap();
    let output = bounded("a test of its own process", move || {
        let mut output = String::new();
        read.read_to_string(&mut output).unwrap();
        output
    });
    let status = soon("the end of a test of its own process", || child.try_wait().unwrap());
    // a filter that matches nothing must not pass
    assert!(
        status.success() && output.contains("1 passed"),
        "{name}, in its own process: {status}\n{output}"
    );
    if let Some(skipped) = output.lines().find(|line| line.contains("skipped: ")) {
        println!("{skipped}");
    }
}

/// Starts this test program again for one test, with a word of what it is to be.
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

/// Says that a case could not be run here, and why.
pub fn skip(why: &str) {
    println!("skipped: {why}");
}

/// Runs `work` again and again on another thread until the guard is dropped.
#[derive(Debug)]
pub struct Background {
    stop: std::sync::Arc<core::sync::atomic::AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Background {
    /// Begins.
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
