//! A program under test: found or built, started, listened to, and ended whatever the test does.

use core::time::Duration;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, sleep};

use lightcone_tests::streams::{WAIT, bounded, read};

/// The binary of an example. Cargo has them up to date when it tests the whole workspace; so that this test alone does
/// not run old ones, it is asked to see to it.
fn binary(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap(); // target/PROFILE/deps/TEST
    BUILT.call_once(|| build(profile));
    profile.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

fn build(profile: &Path) {
    let directory = profile.file_name().and_then(|name| name.to_str()).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    // the whole workspace, so that dependencies have the features they have been built with
    cargo.args(["build", "--quiet", "--workspace"]);
    cargo.args(["--example=httpd", "--example=echo", "--example=chat", "--example=relay"]);
    cargo.args(["--profile", if directory == "debug" { "dev" } else { directory }]);
    cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "cargo cannot build the examples");
}

/// A running example. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    address: String,
}

impl Program {
    /// Starts it on a port of the system's choice, and waits until it listens.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", name, arguments)
    }

    /// Starts it on an address, and waits until it listens.
    pub(crate) fn start_on(address: &str, name: &str, arguments: &[&str]) -> Self {
        let mut this = Self::spawn(name, &[&["--listen", address], arguments].concat());
        let first = this.line();
        let endpoint = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("{first}"));
        this.address = endpoint.strip_prefix("http://").unwrap_or(endpoint).into();
        this
    }

    /// Starts it, whatever it does then.
    pub(crate) fn spawn(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err, address: String::new() }
    }

    /// Where it listens, as it said itself.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect(&self.address).unwrap())
    }

    /// The next line of its output.
    pub(crate) fn line(&self) -> String {
        self.out.recv_timeout(WAIT).unwrap()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        assert!(kill.arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Waits for its end; gives its exit code, what else it printed, and its errors.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        for _ in 0..WAIT.as_millis() / 5 {
            if let Some(status) = self.child.try_wait().unwrap() {
                // both pipes end with the process
                let all = |lines: &Receiver<String>| lines.iter().collect::<Vec<_>>().join("\n");
                return (status.code(), all(&self.out), all(&self.err));
            }
            sleep(Duration::from_millis(5));
        }
        panic!("the program does not end");
    }

    /// Processor time of all of its threads so far.
    #[cfg(target_os = "linux")]
    #[allow(dead_code, reason = "for tests that are in a process of their own")]
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = |task: std::fs::DirEntry| -> u64 {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            stat.split(' ').next().unwrap().parse().unwrap()
        };
        Duration::from_nanos(tasks.map(|task| nanoseconds(task.unwrap())).sum())
    }

    /// Bytes of memory that are in use now.
    #[cfg(target_os = "linux")]
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1_024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe, read by a thread of their own so that nobody waits for them without end.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    let read = move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().spawn(read).unwrap();
    lines
}

/// The next connection, with an end to the wait for it and to its own.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..WAIT.as_millis() {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return bounded(stream);
        }
        sleep(Duration::from_millis(1));
    }
    panic!("nobody connects");
}

/// Sends a few bytes and expects them back.
pub(crate) fn ping<S: Read + Write>(stream: &mut S) {
    stream.write_all(b"ping\n").unwrap();
    assert_eq!(read(stream, 5), b"ping\n");
}

/// Without `assert_eq!`'s printing of megabytes.
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len());
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    assert_eq!(differs, None, "first difference");
}
