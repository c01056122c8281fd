//! More clients than a server has descriptors for. It runs in a separate process, because its load would disturb tests
//! that measure time.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests: a failure is a panic")]

#[path = "examples/program.rs"]
#[allow(dead_code, reason = "parts that only other tests use")]
mod program;

use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;

use lightcone::limits::DescriptorLimit;

use lightcone_tests::streams::{WAIT, bounded};
use program::Program;

/// More than the descriptors that `select` can handle.
const CLIENTS: usize = 1_500;
const REQUEST: &[u8] = b"GET /foo HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client that has sent a request, and the part of the response received so far.
struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    served: bool,
}

impl Client {
    fn ask(address: &str) -> Self {
        let stream = bounded(TcpStream::connect(address).unwrap());
        { &stream }.write_all(REQUEST).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, answer: Vec::new(), served: false }
    }

    /// Reads what has arrived. Anything but the correct response is a failure.
    fn look(&mut self) {
        let mut buffer = [0; 512];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("closed after {:?}", String::from_utf8_lossy(&self.answer)),
            Ok(count) => self.answer.extend(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        if self.answer.ends_with(b"\r\n\r\nbar") {
            assert!(self.answer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&self.answer));
            self.served = true;
        }
    }

    /// Sends another request and waits for the response.
    fn ask_again(&mut self) {
        self.answer.clear();
        self.served = false;
        self.stream.write_all(REQUEST).unwrap();
        self.stream.set_nonblocking(false).unwrap();
        while !self.served {
            self.look();
        }
    }
}

/// Polls all clients until at least `least` are served and no more were added for half a second. Returns how many are
/// served.
fn settle(clients: &mut [Client], least: usize) -> usize {
    let (mut count, mut quiet) = (0, 0);
    while quiet < if count < least { WAIT.as_millis() / 10 } else { 50 } {
        clients.iter_mut().filter(|client| !client.served).for_each(Client::look);
        let now = clients.iter().filter(|client| client.served).count();
        quiet = if now == count { quiet + 1 } else { 0 };
        count = now;
        sleep(Duration::from_millis(10));
    }
    count
}

/// 1,500 clients of a server over `select`: as many are served as it has descriptors for, and the others wait at almost
/// no cost. No client gets an error, and all are served once there is room.
#[test]
fn clients_beyond_the_descriptors_of_select_wait_their_turn() {
    let needed = CLIENTS as u64 + 100;
    if let Err(error) = DescriptorLimit::require(needed) {
        println!("skipped: {error}");
        return;
    }
    let arguments = ["--driver", "select", "--pollers", "2", "--idle-timeout", "600"];
    let server = Program::start("httpd", &arguments);
    let address = server.address();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::ask(address)).collect();

    let count = settle(&mut clients, 950);
    assert!((950..1_024).contains(&count), "{count} of {CLIENTS} are served at once");
    let (cpu, seconds) = (server.cpu_time(), 2);
    sleep(Duration::from_secs(seconds));
    let used = server.cpu_time() - cpu;
    assert!(used < Duration::from_millis(100 * seconds), "{used:?} of {seconds} s while full");

    let (served, mut waiting): (Vec<_>, Vec<_>) = clients.into_iter().partition(|client| client.served);
    for mut client in served {
        client.ask_again(); // a full server does not affect its clients
    }
    assert_eq!(settle(&mut waiting, CLIENTS - count), CLIENTS - count, "now there is room for the others");
    drop(waiting);
    server.signal("TERM");
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(&format!("{CLIENTS} opened")), "{out}");
}
