use core::time::Duration;

use crate::program::Program;
use lightcone_tests::streams::stays_silent;

use super::client::Client;

#[test]
fn help_names_every_option() {
    let (code, out, _) = Program::spawn("httpd", &["--help"]).end();
    assert_eq!(code, Some(0));
    for option in [
        "--listen",
        "--driver",
        "--pollers",
        "--balancer",
        "--max-connections",
        "--max-body",
        "--header-timeout",
        "--idle-timeout",
        "--evict",
        "--min-rate",
        "--accept-rate",
        "--proxy-protocol",
        "--proxy-untrusted",
        "--ready-delay",
        "--grace",
        "127.0.0.1:8080",
    ] {
        assert!(out.contains(option), "{option} is not in\n{out}");
    }
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (option, value, allowed) in [
        ("--max-body", "-1", "0 to 281474976710655"),
        ("--max-body", "281474976710656", "0 to 281474976710655"),
        ("--max-body", "1k", "0 to 281474976710655"),
        ("--header-timeout", "0", "1 to 86400"),
        ("--header-timeout", "86401", "1 to 86400"),
        ("--idle-timeout", "0", "1 to 86400"),
        ("--idle-timeout", "soon", "1 to 86400"),
        ("--evict", "0", "1 to 86400"),
        ("--min-rate", "0", "1 to 100000000"),
        ("--min-rate", "100000001", "1 to 100000000"),
        ("--accept-rate", "0", "1 to 1000000"),
        ("--accept-rate", "1000001", "1 to 1000000"),
        ("--ready-delay", "86401", "0 to 86400"),
        ("--listen", "localhost", "127.0.0.1:8080"),
        ("--listen", "127.0.0.1:65536", "0 to 65535"),
        ("--pollers", "0", "1 to 256"),
        ("--driver", "kqueue", "epoll"),
    ] {
        let (code, out, err) = Program::spawn("httpd", &[option, value]).end();
        assert_eq!((code, out.as_str()), (Some(2), ""), "{option} {value}: {err}");
        for word in [option, value, allowed] {
            assert!(err.contains(word), "{option} {value}: {word} is not in {err}");
        }
    }
    for (option, value) in [
        ("--max-body", "281474976710655"),
        ("--header-timeout", "86400"),
        ("--idle-timeout", "86400"),
        ("--evict", "86400"),
        ("--min-rate", "100000000"),
        ("--accept-rate", "1000000"),
        ("--ready-delay", "86400"),
    ] {
        drop(Program::start("httpd", &[option, value]));
    }
}

#[test]
fn an_address_that_the_system_refuses_is_named() {
    let first = Program::start("httpd", &["--pollers", "1"]);
    for (address, reason) in [(first.address(), "in use"), ("192.0.2.1:1", "no interface has this address")] {
        let (code, out, err) = Program::spawn("httpd", &["--listen", address]).end();
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(err.contains(address) && err.contains(reason), "{err}");
    }
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let server = Program::start("httpd", &["--pollers", "1", "--max-connections", "2"]);
    let (mut one, mut two) = (Client::new(&server), Client::new(&server));
    assert_eq!((one.get("/foo").text(), two.get("/foo").text()), ("bar", "bar"));
    let mut three = Client::new(&server); // accepted by the kernel only
    three.send("GET /foo HTTP/1.1\r\nHost: a\r\n\r\n");
    stays_silent(three.stream(), Duration::from_millis(200));
    drop(one);
    assert_eq!(three.answer().text(), "bar");
    assert_eq!(two.get("/foo").text(), "bar");
}
