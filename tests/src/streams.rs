//! Helpers for the client side of tests over sockets. Every wait is bounded, and a failure is a panic.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "for tests: a failure is a panic")]

use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;

/// The longest wait for anything.
pub const WAIT: Duration = Duration::from_secs(30);

/// Sets timeouts on a connection, so that its waits are bounded.
pub fn bounded(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream
}

/// Returns pseudo-random bytes that depend on the seed.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Checks that nothing arrives for a while, not even the end of the stream. Afterwards, waits are [bounded] again.
pub fn stays_silent(stream: &TcpStream, span: Duration) {
    stream.set_read_timeout(Some(span)).unwrap();
    let result = loop {
        // a system call with a timeout is not restarted when the process is stopped and continued: signal(7)
        match stream.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => break result.map_err(|error| error.kind()),
        }
    };
    assert!(matches!(result, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{result:?}");
    stream.set_read_timeout(Some(WAIT)).unwrap();
}

/// Reads exactly `length` bytes.
pub fn read(mut from: impl Read, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads to the end of stream.
pub fn read_to_end(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Writes `bytes`, and reads `length` bytes at the same time.
pub fn exchange(stream: &TcpStream, bytes: &[u8], length: usize) -> Vec<u8> {
    thread::scope(|scope| {
        scope.spawn(|| { stream }.write_all(bytes).unwrap());
        read(stream, length)
    })
}
