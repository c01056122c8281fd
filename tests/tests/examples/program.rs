//! A program under test: found or built, started, and killed when it is dropped.

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

/// Returns the path of an example's binary. When Cargo tests the whole workspace, the binaries are up to date; Cargo is
/// called here so that this test alone does not run outdated ones.
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
    // The whole workspace, so that dependencies are built with the same features as before.
    cargo.args(["build", "--quiet", "--workspace"]);
    cargo.args(["--example=httpd", "--example=echo", "--example=chat", "--example=relay", "--example=kv"]);
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
    /// Starts a program on a port chosen by the system, and waits until it listens.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", name, arguments)
    }

    /// Starts a program on an address, and waits until it listens.
    pub(crate) fn start_on(address: &str, name: &str, arguments: &[&str]) -> Self {
        Self::run(Command::new(binary(name)).args([&["--listen", address], arguments].concat()))
    }

    /// Starts a command that is a program with its arguments, and waits until it listens.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut this = Self::spawn_command(command);
        let first = this.line();
        let endpoint = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("{first}"));
        this.address = endpoint.strip_prefix("http://").unwrap_or(endpoint).into();
        this
    }

    /// Returns the path of a program.
    pub(crate) fn path(name: &str) -> PathBuf {
        binary(name)
    }

    /// Starts a program without waiting.
    pub(crate) fn spawn(name: &str, arguments: &[&str]) -> Self {
        Self::spawn_command(Command::new(binary(name)).args(arguments))
    }

    fn spawn_command(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err, address: String::new() }
    }

    /// Returns the address that the program printed.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn connect(&self) -> TcpStream {
        bounded(TcpStream::connect(&self.address).unwrap())
    }

    /// Returns the next line of its output.
    pub(crate) fn line(&self) -> String {
        self.out.recv_timeout(WAIT).unwrap()
    }

    /// Returns the next line of its error output.
    pub(crate) fn error_line(&self) -> String {
        self.err.recv_timeout(WAIT).unwrap()
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        assert!(kill.arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Waits for its exit. Returns the exit code, the rest of its output, and its error output.
    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        for _ in 0..WAIT.as_millis() / 5 {
            if let Some(status) = self.child.try_wait().unwrap() {
                // Both pipes end with the process.
                let all = |lines: &Receiver<String>| lines.iter().collect::<Vec<_>>().join("\n");
                return (status.code(), all(&self.out), all(&self.err));
            }
            sleep(Duration::from_millis(5));
        }
        panic!("the program does not end");
    }

    /// Returns the processor time of all of its threads so far.
    #[cfg(target_os = "linux")]
    #[allow(dead_code, reason = "for tests that run in a separate process")]
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = |task: std::fs::DirEntry| -> u64 {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            stat.split(' ').next().unwrap().parse().unwrap()
        };
        Duration::from_nanos(tasks.map(|task| nanoseconds(task.unwrap())).sum())
    }

    /// Returns its resident memory in bytes.
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

/// Returns the lines of a pipe, read by a separate thread so that waits can be bounded.
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

/// Accepts the next connection, with a bounded wait, and bounds the waits of the connection.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    for _ in 0..WAIT.as_millis() {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return bounded(stream);
        }
        sleep(Duration::from_millis(1));
    }
    panic!("no connection arrives");
}

/// Sends a few bytes and expects them back.
pub(crate) fn ping<S: Read + Write>(stream: &mut S) {
    stream.write_all(b"ping\n").unwrap();
    assert_eq!(read(stream, 5), b"ping\n");
}

/// Compares like `assert_eq!`, but does not print megabytes.
pub(crate) fn assert_same(got: &[u8], expected: &[u8]) {
    assert_eq!(got.len(), expected.len());
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    assert_eq!(differs, None, "first difference");
}
