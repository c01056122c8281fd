use std::env;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process;

use crate::program::{Program, assert_same, ping};
use lightcone_tests::streams::{WAIT, exchange, pattern, read_to_end};

const MEBIBYTE: usize = 1 << 20;

#[test]
fn bytes_come_back_over_ipv4_by_every_driver() {
    let drivers: &[&str] =
        if cfg!(target_os = "linux") { &["native", "epoll", "select"] } else { &["native"] };
    for driver in drivers {
        let echo = Program::start("echo", &["--driver", driver, "--pollers", "2"]);
        assert!(echo.address().starts_with("127.0.0.1:"));
        for _ in 0..4 {
            ping(&mut echo.connect());
        }
    }
}

#[test]
fn bytes_come_back_over_ipv6() {
    let echo = Program::start_on("[::1]:0", "echo", &[]);
    assert!(echo.address().starts_with("[::1]:"));
    ping(&mut echo.connect());
}

#[test]
fn bytes_come_back_over_a_unix_socket() {
    let path = env::temp_dir().join(format!("lightcone-echo-{}", process::id()));
    let address = format!("unix:{}", path.display());
    let echo = Program::start_on(&address, "echo", &[]);
    assert_eq!(echo.address(), address);
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(WAIT)).unwrap();
    ping(&mut client);
    echo.signal("TERM");
    assert_eq!(echo.end().0, Some(0));
    assert!(!path.exists(), "the socket file is removed");
}

#[test]
fn everything_comes_back_after_a_half_close() {
    let echo = Program::start("echo", &["--pollers", "1"]);
    let sent = pattern(1, 300_000);
    let mut client = echo.connect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_same(&read_to_end(&client), &sent);
}

#[test]
fn eight_mebibytes_come_back_whole() {
    let echo = Program::start("echo", &["--pollers", "1"]);
    let sent = pattern(2, 8 * MEBIBYTE);
    let client = echo.connect();
    assert_same(&exchange(&client, &sent, sent.len()), &sent);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let echo = Program::start("echo", &["--pollers", "1", "--max-connections", "2"]);
    let (mut one, mut two) = (echo.connect(), echo.connect());
    ping(&mut one);
    ping(&mut two);
    let mut three = echo.connect(); // accepted by the kernel only
    three.write_all(b"early").unwrap();
    lightcone_tests::streams::stays_silent(&three, core::time::Duration::from_millis(200));
    drop(one);
    assert_eq!(lightcone_tests::streams::read(&three, 5), b"early");
    ping(&mut two);
}
