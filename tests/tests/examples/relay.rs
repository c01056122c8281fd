use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crate::program::{Program, accept, assert_same, ping};
use lightcone_tests::streams::{bounded, exchange, pattern, read, read_to_end, stays_silent};

const MEBIBYTE: usize = 1 << 20;

/// A relay, and the listener that it connects to.
struct Rig {
    relay: Program,
    upstream: TcpListener,
}

impl Rig {
    fn new() -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        Self { relay: Program::start("relay", &["--pollers", "2", "--to", &to]), upstream }
    }

    /// Returns the two outer sockets of a link.
    fn link(&self) -> (TcpStream, TcpStream) {
        let client = self.relay.connect();
        (client, accept(&self.upstream))
    }
}

#[test]
fn eight_mebibytes_go_both_ways_at_once() {
    let rig = Rig::new();
    let (client, server) = rig.link();
    let (up, down) = (pattern(1, 8 * MEBIBYTE), pattern(2, 8 * MEBIBYTE));
    thread::scope(|scope| {
        scope.spawn(|| assert_same(&exchange(&server, &down, up.len()), &up));
        assert_same(&exchange(&client, &up, down.len()), &down);
    });
}

#[test]
fn a_peer_that_writes_before_it_reads_does_not_lock_the_link() {
    let rig = Rig::new();
    let (client, server) = rig.link();
    let (up, down) = (pattern(3, 16 * MEBIBYTE), pattern(4, 16 * MEBIBYTE));
    thread::scope(|scope| {
        scope.spawn(|| {
            { &server }.write_all(&down).unwrap();
            assert_same(&read(&server, up.len()), &up);
        });
        assert_same(&exchange(&client, &up, down.len()), &down);
    });
}

#[test]
fn the_clients_end_is_passed_on_and_the_answer_still_comes() {
    let rig = Rig::new();
    let (mut client, mut server) = rig.link();
    let (request, answer) = (pattern(5, MEBIBYTE / 2), pattern(6, MEBIBYTE));
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_same(&read_to_end(&server), &request);
            server.write_all(&answer).unwrap();
            drop(server);
        });
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_same(&read_to_end(&client), &answer);
    });
}

#[test]
fn the_upstreams_end_is_passed_on_and_the_client_can_still_send() {
    let rig = Rig::new();
    let (mut client, mut server) = rig.link();
    server.write_all(b"all I have").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client), b"all I have");
    let late = pattern(7, MEBIBYTE);
    thread::scope(|scope| {
        scope.spawn(|| assert_same(&read_to_end(&server), &late));
        client.write_all(&late).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn bytes_and_end_sent_before_the_link_is_made_arrive() {
    let rig = Rig::new();
    for _ in 0..10 {
        let mut client = rig.relay.connect();
        client.write_all(b"in a hurry").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let server = accept(&rig.upstream);
        assert_eq!(read_to_end(&server), b"in a hurry");
        drop(server);
        assert_eq!(read_to_end(&client), b"");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_slow_reader_slows_its_sender_and_costs_bounded_memory() {
    const LINKS: usize = 8;
    const STREAM: usize = 64 * MEBIBYTE;
    let rig = Rig::new();
    let links: Vec<_> = (0..LINKS).map(|_| rig.link()).collect();
    let before = rig.relay.resident_bytes();
    let bytes = pattern(8, STREAM);
    let mut written = Vec::new();
    for (_, server) in &links {
        server.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut done = 0;
        while let Ok(count) = { server }.write(&bytes[done..(done + 65_536).min(STREAM)]) {
            done += count;
            assert!(done < STREAM, "everything is taken although nothing is read");
        }
        written.push(done);
    }
    let grown = rig.relay.resident_bytes().saturating_sub(before);
    let limit = LINKS * 192 * 1_024 + MEBIBYTE; // the documented limit, and a margin for warming up
    assert!(grown <= limit, "{grown} bytes for {LINKS} links");
    for ((client, server), written) in links.into_iter().zip(written) {
        drop(server); // with nothing unread: a clean end
        assert_same(&read_to_end(&client), &bytes[..written]);
    }
}

#[test]
fn a_client_is_closed_when_no_server_accepts() {
    let rig = Rig::new();
    drop(rig.upstream);
    let mut client = rig.relay.connect();
    assert_eq!(read_to_end(&client), b"");
    let _ = client.write_all(b"too late");
    rig.relay.signal("TERM");
    assert_eq!(rig.relay.end().0, Some(0));
}

/// Closes a connection with unread bytes, so that the peer gets a reset.
fn reset(stream: TcpStream, by: &mut TcpStream) {
    by.write_all(b"never read").unwrap();
    stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.peek(&mut [0; 1]).unwrap(), 1);
    drop(stream);
}

fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_is_passed_on_in_both_directions() {
    let rig = Rig::new();
    let (client, mut server) = rig.link();
    reset(client, &mut server);
    assert_reset(&mut server);
    let (mut client, server) = rig.link();
    reset(server, &mut client);
    assert_reset(&mut client);
}

#[test]
fn a_client_that_disconnects_leaves_no_state() {
    let rig = Rig::new();
    for _ in 0..50 {
        drop(rig.relay.connect());
    }
    for _ in 0..50 {
        let server = accept(&rig.upstream);
        let _ = { &server }.read_to_end(&mut Vec::new()); // a reset is fine as well
    }
    rig.relay.signal("TERM");
    let (code, out, _) = rig.relay.end();
    assert_eq!(code, Some(0));
    assert!(out.contains(" 0 aborted, 0 bytes lost"), "{out}");
}

#[test]
fn many_clients_at_once_are_all_linked() {
    const CLIENTS: usize = 200;
    let echo = Program::start("echo", &["--pollers", "1"]);
    let relay = Program::start("relay", &["--pollers", "1", "--to", echo.address()]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| relay.connect()).collect();
    for _ in 0..3 {
        clients.iter_mut().for_each(ping);
    }
}

#[test]
fn a_client_beyond_the_maximum_waits_until_a_link_ends() {
    let echo = Program::start("echo", &["--pollers", "1"]);
    let relay =
        Program::start("relay", &["--pollers", "1", "--max-connections", "2", "--to", echo.address()]);
    let (mut one, mut two) = (relay.connect(), relay.connect());
    ping(&mut one);
    ping(&mut two);
    let mut three = relay.connect(); // accepted by the kernel only
    three.write_all(b"early").unwrap();
    stays_silent(&three, Duration::from_millis(200));
    drop(two);
    assert_eq!(read(bounded(three), 5), b"early");
    ping(&mut one);
}

#[test]
fn what_was_read_is_delivered_when_the_server_stops() {
    let rig = Rig::new();
    let (mut client, server) = rig.link();
    client.write_all(&pattern(9, 20_000)).unwrap();
    assert_same(&read(&server, 1), &pattern(9, 1));
    rig.relay.signal("TERM");
    assert_same(&read_to_end(&server), &pattern(9, 20_000)[1..]);
    assert_eq!(read_to_end(&client), b"");
    drop((client, server));
    let (code, out, _) = rig.relay.end();
    assert_eq!(code, Some(0));
    assert!(out.starts_with("stopped: 2 opened, ") && out.contains("0 bytes lost"), "{out}");
}
