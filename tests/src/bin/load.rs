//! A load client for HTTP servers on the local machine. It prints one line of JSON with its result.
//!
//! ```text
//! load MODE --address IP:PORT [--path /plaintext] [--expect BODY] [--connections C] [--depth D]
//!           [--requests N] [--seconds S]
//!
//! count   exactly N requests over C kept-alive connections, D of them pipelined at a time
//! ping    the same for S seconds instead
//! churn   for S seconds: connect, send one request with "Connection: close", read to the end of stream
//! hold    opens C connections, completes one request on each, and prints {"held":C}; at the end of its
//!         standard input it checks which are still open, makes a second request on those, and prints
//!         {"alive":A}
//! ```
//!
//! It serves its connections in turn, reading the response of one and sending that one's next request, so the server
//! always has the requests of all others. Each response is parsed and must be a 200 with the same body as the first one
//! (or the body from `--expect`); anything else ends the program with status 1.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "the report is the program's output")]
#![allow(clippy::disallowed_methods, reason = "a client for tests reads the clock itself")]

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Instant;

/// The longest wait for a response on loopback, even from an instrumented server.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections are opened before the first response is read. A server may accept its backlog in several turns.
const OPENED_AT_ONCE: usize = 100;
const READ_SIZE: usize = 16 * 1024;

fn main() -> ExitCode {
    match Options::parse().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    match options.mode.as_str() {
        "count" => count(options),
        "ping" => ping(options),
        "churn" => churn(options),
        "hold" => hold(options),
        other => Err(Failure(format!("no mode {other:?}: count, ping, churn or hold"))),
    }
}

fn count(options: &Options) -> Result<(), Failure> {
    let mut clients = open(options, false)?;
    let mut left = options.requests;
    rounds(&mut clients, options, |wanted| {
        let granted = wanted.min(left);
        left -= granted;
        granted
    })
}

fn ping(options: &Options) -> Result<(), Failure> {
    let mut clients = open(options, false)?;
    let end = Instant::now() + options.duration;
    rounds(&mut clients, options, |wanted| if Instant::now() < end { wanted } else { 0 })
}

/// Keeps a batch of requests in flight on each connection for as long as `grant` allows more.
fn rounds(
    clients: &mut [Client],
    options: &Options,
    mut grant: impl FnMut(usize) -> usize,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut done = 0_u64;
    for client in &mut *clients {
        client.ask(grant(options.depth))?;
    }
    while clients.iter().any(|client| client.waiting > 0) {
        for client in &mut *clients {
            if client.waiting > 0 {
                done += client.answers()?;
                client.ask(grant(options.depth))?;
            }
        }
    }
    report(&options.mode, done, start.elapsed());
    Ok(())
}

fn churn(options: &Options) -> Result<(), Failure> {
    let start = Instant::now();
    let mut done = 0_u64;
    while start.elapsed() < options.duration {
        let mut clients = open(options, true)?;
        for client in &mut clients {
            client.ask(1)?;
        }
        for client in &mut clients {
            done += client.answers()?;
            client.ended()?;
        }
    }
    report(&options.mode, done, start.elapsed());
    Ok(())
}

fn hold(options: &Options) -> Result<(), Failure> {
    let mut clients = open(options, false)?;
    println!("{{\"held\":{}}}", clients.len());
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    clients.retain(Client::is_open);
    for client in &mut clients {
        client.ask(1)?;
    }
    for client in &mut clients {
        client.answers()?;
    }
    println!("{{\"alive\":{}}}", clients.len());
    Ok(())
}

/// Opens the number of connections in the options. If they are kept open, one exchange is completed on each.
fn open(options: &Options, close: bool) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::with_capacity(options.connections);
    while clients.len() < options.connections {
        let first = clients.len();
        for _ in first..options.connections.min(first + OPENED_AT_ONCE) {
            let mut client = Client::connect(options, close)?;
            if !close {
                client.ask(1)?;
            }
            clients.push(client);
        }
        if !close {
            for client in clients.iter_mut().skip(first) {
                client.answers()?;
            }
        }
    }
    Ok(clients)
}

fn report(mode: &str, done: u64, elapsed: Duration) {
    println!("{{\"mode\":\"{mode}\",\"done\":{done},\"seconds\":{:.6}}}", elapsed.as_secs_f64());
}

/// One connection: its unanswered requests, and the received part of their responses.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    waiting: usize,
    unread: Vec<u8>,
    expected: Option<Vec<u8>>,
}

impl Client {
    fn connect(options: &Options, close: bool) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&options.address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let connection = if close { "Connection: close\r\n" } else { "" };
        let request =
            format!("GET {} HTTP/1.1\r\nHost: {}\r\n{connection}\r\n", options.path, options.address);
        Ok(Self {
            stream,
            request: request.into_bytes(),
            waiting: 0,
            unread: Vec::new(),
            expected: options.expect.clone().map(String::into_bytes),
        })
    }

    /// Sends `n` requests in one write.
    fn ask(&mut self, n: usize) -> Result<(), Failure> {
        if n == 1 {
            self.stream.write_all(&self.request)?;
        } else if n > 1 {
            self.stream.write_all(&self.request.repeat(n))?;
        }
        self.waiting += n;
        Ok(())
    }

    /// Reads until all requests are answered. Returns the number of responses.
    fn answers(&mut self) -> Result<u64, Failure> {
        let mut done = 0;
        let mut piece = [0; READ_SIZE];
        loop {
            let mut rest = self.unread.as_slice();
            while let Some((body, after)) = split_response(rest)? {
                check(&mut self.expected, body)?;
                rest = after;
                self.waiting =
                    self.waiting.checked_sub(1).ok_or_else(|| "more responses than requests".to_owned())?;
                done += 1;
            }
            let kept = rest.len();
            self.unread.drain(..self.unread.len() - kept);
            if self.waiting == 0 && kept == 0 {
                self.unread = Vec::new();
                return Ok(done);
            }
            let n = self.stream.read(&mut piece)?;
            if n == 0 {
                return Err(Failure(format!("closed with {} requests unanswered", self.waiting)));
            }
            self.unread.extend(piece.iter().take(n));
        }
    }

    /// Waits for the end of stream, before which no more bytes may arrive.
    fn ended(&mut self) -> Result<(), Failure> {
        match self.stream.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Failure("more bytes after the last response".to_owned())),
        }
    }

    /// Returns whether the server has left this connection open.
    fn is_open(&self) -> bool {
        self.stream.set_nonblocking(true).is_ok()
            && matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && self.stream.set_nonblocking(false).is_ok()
    }
}

/// The body of a complete response and the bytes after it, or `None` if more bytes are needed.
type Split<'a> = Option<(&'a [u8], &'a [u8])>;

/// Splits off the first response in `bytes`.
fn split_response(bytes: &[u8]) -> Result<Split<'_>, Failure> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end + 4);
    let head = String::from_utf8_lossy(head);
    if !head.starts_with("HTTP/1.1 200") {
        return Err(Failure(format!("not a 200: {head:?}")));
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| format!("no content-length: {head:?}"))?;
    Ok(rest.split_at_checked(length))
}

/// Compares a body with the expected one; if there is none yet, this body becomes it.
fn check(expected: &mut Option<Vec<u8>>, body: &[u8]) -> Result<(), Failure> {
    let wanted = expected.get_or_insert_with(|| body.to_vec());
    if wanted == body {
        return Ok(());
    }
    let (body, wanted) = (String::from_utf8_lossy(body), String::from_utf8_lossy(wanted));
    Err(Failure(format!("the body is {body:?} instead of {wanted:?}")))
}

/// The command line.
struct Options {
    mode: String,
    address: SocketAddr,
    path: String,
    expect: Option<String>,
    connections: usize,
    depth: usize,
    requests: usize,
    duration: Duration,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        let mut arguments = std::env::args().skip(1);
        let mode = arguments.next().ok_or_else(|| "usage: load MODE --address IP:PORT …".to_owned())?;
        let mut options = Self {
            mode,
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            path: "/plaintext".to_owned(),
            expect: None,
            connections: 64,
            depth: 1,
            requests: 10_000,
            duration: Duration::from_secs(1),
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(&name, &value).ok_or_else(|| format!("{name} {value}: not understood"))?;
        }
        if !options.address.ip().is_loopback() {
            return Err(Failure("only addresses of the loopback interface".to_owned()));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "--address" => self.address = value.parse().ok()?,
            "--path" => self.path = value.to_owned(),
            "--expect" => self.expect = Some(value.to_owned()),
            "--connections" => self.connections = value.parse().ok()?,
            "--depth" => self.depth = value.parse().ok()?,
            "--requests" => self.requests = value.parse().ok()?,
            "--seconds" => self.duration = Duration::try_from_secs_f64(value.parse().ok()?).ok()?,
            _ => return None,
        }
        Some(())
    }
}

/// The reason for which a run is invalid.
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self(format!("the server said nothing for {} s", PATIENCE.as_secs()));
        }
        Self(error.to_string())
    }
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_split_off_only_when_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbarHTTP";
        for cut in 0..bytes.len() - 4 {
            assert!(matches!(split_response(&bytes[..cut]), Ok(None)), "cut at {cut}");
        }
        let Ok(Some((body, rest))) = split_response(bytes) else { panic!("not whole") };
        assert_eq!((body, rest), (&b"bar"[..], &b"HTTP"[..]));
    }

    #[test]
    fn another_status_and_a_missing_length_are_failures() {
        assert!(split_response(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").is_err());
        assert!(split_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn a_body_that_differs_from_the_first_is_a_failure() {
        let mut expected = None;
        assert!(check(&mut expected, b"bar").is_ok());
        assert!(check(&mut expected, b"bar").is_ok());
        assert!(check(&mut expected, b"baz").is_err());
    }
}
