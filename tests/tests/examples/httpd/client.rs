//! A client that parses responses strictly by the standard.

use core::time::Duration;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Instant;

use crate::program::Program;
use lightcone_tests::streams::WAIT;

/// One connection to a server.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

/// One response.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Returns the value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = values.next();
    assert!(values.next().is_none(), "{name} twice: {head}");
    first
}

impl Client {
    pub(super) fn new(server: &Program) -> Self {
        Self { stream: BufReader::new(server.connect()) }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(super) fn finish(&self) {
        self.stream().shutdown(Shutdown::Write).unwrap();
    }

    /// Reads a head up to its empty line: status line and fields.
    pub(super) fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "the server has closed after {head:?}");
        }
        head
    }

    /// Reads the response to any request but `HEAD`.
    pub(super) fn answer(&mut self) -> Answer {
        let head = self.head();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let body = if let Some(length) = field(&head, "content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body).unwrap();
            body
        } else if field(&head, "transfer-encoding") == Some("chunked") {
            self.chunks()
        } else {
            assert!(matches!(status, 100 | 204 | 304), "no length: {head}");
            Vec::new()
        };
        Answer { status, head, body }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Reads one chunk of a body; the last one is empty.
    pub(super) fn chunk(&mut self) -> Vec<u8> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.strip_suffix("\r\n").unwrap(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        assert!(chunk.ends_with(b"\r\n"));
        chunk.truncate(size);
        chunk
    }

    /// Reads `length` bytes of a body.
    pub(super) fn read(&mut self, length: usize) -> Vec<u8> {
        lightcone_tests::streams::read(&mut self.stream, length)
    }

    pub(super) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.answer()
    }

    /// Waits for the end of stream, before which no more bytes may arrive. A reset is a failure.
    pub(super) fn ended(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.escape_ascii().to_string(), "");
    }
}

/// Returns the response to one request on a new connection.
pub(super) fn get(server: &Program, path: &str) -> Answer {
    Client::new(server).get(path)
}

/// Calls `ask` until it returns a value.
pub(super) fn poll<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < WAIT, "the awaited result never comes");
        sleep(Duration::from_millis(20));
    }
}

/// A second, allowing for a clock that truncates to milliseconds.
pub(super) const SECOND: Duration = Duration::from_millis(999);
