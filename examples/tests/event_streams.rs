//! Event streams that are open when the server gets a signal to stop. The server is this program itself, started again.
#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure is a panic, and a client for tests reads the clock itself"
)]

use core::time::Duration;
use std::env;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use clap::Parser;
use lightcone::http::{Exchange, Flow, Http, State, Transfer};
use lightcone_examples::{ServerOptions, serve};

#[path = "../events.rs"]
#[allow(dead_code, reason = "its `main` is not called")]
mod events;

/// The variable that makes this program a server; its value is the options.
const OPTIONS: &str = "LIGHTCONE_EVENT_STREAMS";
/// The longest wait for anything that must happen.
const WAIT: Duration = Duration::from_secs(60);

#[derive(Parser, Debug)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

/// An event stream that continues when the server stops.
struct Deaf;

impl<S: State> Exchange<S> for Deaf {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        let _ = io.write(b"data: more\n\n");
        io.wake_at(io.now() + Duration::from_millis(20));
        Flow::More
    }

    fn shutdown(&mut self, _: &mut Transfer<'_, S>) -> Flow {
        Flow::More
    }
}

/// Not a test unless the variable is set: then it serves until it gets a signal.
fn serve_if_asked(deaf: bool) -> bool {
    let Ok(options) = env::var(OPTIONS) else { return false };
    let options = Options::parse_from(["server"].into_iter().chain(options.split_whitespace()));
    let code = if deaf {
        serve(&options.server, "", Ok, |_poller| Http::new().get("/", |_q, r| r.stream(None, Deaf)))
    } else {
        serve(&options.server, "", Ok, |_poller| events::server())
    };
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    true
}

/// A server in a process of its own. Dropping it kills it.
struct Server {
    child: Child,
    /// The lines of its output, read by a separate thread so that waits can be bounded.
    out: Receiver<String>,
    address: String,
}

impl Server {
    /// Starts the server of a test on a port that the system chooses.
    fn start(test: &str, options: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads", "1"]);
        command.env(OPTIONS, format!("--listen 127.0.0.1:0 --pollers 1 {options}"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let pipe = BufReader::new(child.stdout.take().unwrap());
        let (lines, out) = channel();
        let read = move || pipe.lines().map_while(Result::ok).try_for_each(|line| lines.send(line));
        thread::Builder::new().spawn(read).unwrap();
        let mut this = Self { child, out, address: String::new() };
        this.address = this.line_with("listening on ");
        this
    }

    /// Returns what follows `start` in the next line of its output that has it.
    fn line_with(&self, start: &str) -> String {
        let mut lines = core::iter::from_fn(|| self.out.recv_timeout(WAIT).ok());
        let found = lines.find_map(|line| line.split_once(start).map(|(_, rest)| rest.to_owned()));
        found.unwrap_or_else(|| panic!("no line with {start:?}"))
    }

    /// Opens an event stream, and waits for its first event.
    fn open(&self, target: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut stream = BufReader::new(stream);
        let first = stream.by_ref().lines().map(Result::unwrap).find(|line| line.starts_with("data: "));
        assert!(first.is_some(), "the stream ends without an event");
        stream
    }

    fn terminate(&self) {
        let mut kill = Command::new("kill");
        assert!(kill.arg("-TERM").arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// Returns its report, once it has ended.
    fn report(mut self) -> String {
        let report = self.line_with("stopped: ");
        assert!(self.child.wait().unwrap().success());
        report
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads to the end. Returns what has arrived, and whether the connection ended with a reset.
fn rest(stream: &mut BufReader<TcpStream>) -> (String, bool) {
    let mut bytes = Vec::new();
    let reset = match stream.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    };
    (String::from_utf8(bytes).unwrap(), reset)
}

#[test]
fn a_stream_ends_with_its_last_event() {
    if serve_if_asked(false) {
        return;
    }
    for driver in ["", "--driver select"] {
        let server = Server::start("a_stream_ends_with_its_last_event", &format!("--grace 3600 {driver}"));
        let mut streams = [server.open("/time"), server.open("/time")];
        let begun = Instant::now();
        server.terminate();
        for stream in &mut streams {
            let (rest, reset) = rest(stream);
            let last = "event: end\ndata: the server is stopping\n\n\r\n0\r\n\r\n";
            assert!(rest.ends_with(last) && !reset, "{driver}: {rest:?}, reset: {reset}");
        }
        drop(streams);
        assert_eq!(server.report(), "2 opened, 2 drained, 0 aborted, 0 bytes lost", "{driver}");
        assert!(begun.elapsed() < WAIT, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_stream_that_ignores_the_stop_ends_with_the_grace_time() {
    if serve_if_asked(true) {
        return;
    }
    for driver in ["", "--driver select"] {
        let options = format!("--grace 1 {driver}");
        let server = Server::start("a_stream_that_ignores_the_stop_ends_with_the_grace_time", &options);
        let mut stream = server.open("/");
        let begun = Instant::now();
        server.terminate();
        let (rest, _) = rest(&mut stream);
        let span = begun.elapsed();
        assert!(rest.contains("data: more\n\n"), "{driver}: it went on: {rest:?}");
        assert!(!rest.contains("\r\n0\r\n"), "{driver}: a stream that was cut looks complete");
        assert!((Duration::from_secs(1)..WAIT).contains(&span), "{driver}: after {span:?}");
        let report = server.report();
        assert!(report.starts_with("1 opened, 0 drained, 1 aborted, "), "{driver}: {report}");
    }
}
