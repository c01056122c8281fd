use core::time::Duration;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread::sleep;

use crate::program::{Program, ping};
use lightcone_tests::streams::{read, read_to_end};

const SERVERS: [(&str, &[&str]); 4] =
    [("echo", &[]), ("chat", &[]), ("kv", &[]), ("relay", &["--to", "127.0.0.1:9"])];

#[test]
fn help_lists_the_options() {
    for (name, _) in SERVERS {
        let (code, out, _) = Program::spawn(name, &["--help"]).end();
        assert_eq!(code, Some(0));
        for word in
            ["--listen", "--driver", "--pollers", "--balancer", "--max-connections", "--grace", "native"]
        {
            assert!(out.contains(word), "{name}: {word} is not in\n{out}");
        }
    }
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (arguments, named, allowed) in [
        (["--listen", "nowhere"], "nowhere", "127.0.0.1:8080"),
        (["--driver", "fast"], "fast", "native"),
        (["--pollers", "257"], "257", "1 to 256"),
        (["--balancer", "pinned:x"], "pinned:x", "round-robin"),
        (["--max-connections", "none"], "none", "1 to 16777216"),
        (["--grace", "long"], "long", "0 to 86400"),
        (["--pollers=2", "--max-connections=1"], "1", "at least one for each poller"),
        (["--pollers=2", "--balancer=pinned:2"], "2", "there are 2, counted from 0"),
    ] {
        for (name, more) in SERVERS {
            let (code, out, err) = Program::spawn(name, &[&arguments, more].concat()).end();
            assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
            assert!(err.contains(named) && err.contains(allowed), "{err}");
        }
    }
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let first = Program::start("echo", &[]);
    let (code, out, err) = Program::spawn("echo", &["--listen", first.address()]).end();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(first.address()) && err.contains("the address is in use"), "{err}");
}

/// Ends a program with two open connections by each of the signals; `ready` waits until the connections are open.
fn stop(name: &str, more: &[&str], ready: impl Fn(&TcpStream), opened: usize) {
    for signal in ["TERM", "INT"] {
        let program = Program::start(name, &[&["--pollers=2"], more].concat());
        let clients = [program.connect(), program.connect()];
        clients.iter().for_each(&ready);
        program.signal(signal);
        clients.iter().for_each(|client| drop(read_to_end(client)));
        drop(clients);
        let (code, out, err) = program.end();
        assert_eq!(code, Some(0), "{name}: {err}");
        assert!(
            out.starts_with(&format!("stopped: {opened} opened, {opened} drained, 0 aborted, 0 bytes lost")),
            "{name}: {out}"
        );
    }
}

#[test]
fn a_signal_stops_echo_in_order() {
    stop("echo", &[], |mut client| ping(&mut client), 2);
}

#[test]
fn a_signal_stops_chat_in_order() {
    stop("chat", &[], |client| assert_eq!(read(client, 9), b"* welcome"), 2);
}

#[test]
fn a_signal_stops_kv_in_order() {
    let ready = |mut client: &TcpStream| {
        client.write_all(b"version\r\n").unwrap();
        assert_eq!(read(client, 8), b"VERSION ");
    };
    stop("kv", &[], ready, 2);
}

#[test]
fn a_signal_stops_relay_in_order() {
    let echo = Program::start("echo", &["--pollers=1"]);
    stop("relay", &["--to", echo.address()], |mut client| ping(&mut client), 4);
}

/// Starts an echo with a client that reads nothing.
fn stuck(grace: &str) -> (Program, TcpStream) {
    let echo = Program::start("echo", &["--pollers", "1", "--grace", grace]);
    let mut client = echo.connect();
    client.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = loop {
        if let Err(error) = client.write_all(&[0; 16_384]) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    (echo, client)
}

#[test]
fn sockets_that_do_not_end_are_aborted_after_the_grace_time() {
    let (echo, _client) = stuck("1");
    echo.signal("TERM");
    let (code, out, _) = echo.end();
    assert_eq!(code, Some(0));
    assert!(
        out.starts_with("stopped: 1 opened, 0 drained, 1 aborted, ") && !out.contains(" 0 bytes lost"),
        "{out}"
    );
}

#[test]
fn a_second_signal_stops_it_at_once() {
    let (echo, _client) = stuck("3600");
    echo.signal("TERM");
    sleep(Duration::from_millis(100));
    echo.signal("INT");
    let (code, out, _) = echo.end();
    assert_eq!(code, Some(0));
    assert!(out.contains(" 1 aborted, "), "{out}");
}
