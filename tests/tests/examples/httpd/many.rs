use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::program::Program;

use super::client::{get, poll};

/// The number of connections, limited by the descriptors that the system allows a process.
const MANY: usize = 10_000;

/// Returns the hard limit of descriptors per process.
fn descriptors() -> usize {
    let output = Command::new("sh").args(["-c", "ulimit -H -n"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if text.trim() == "unlimited" { usize::MAX } else { text.trim().parse().unwrap() }
}

#[test]
fn ten_thousand_connections_are_held_and_served() {
    let many = MANY.min(descriptors().saturating_sub(200));
    println!("{many} connections");
    assert!(many > 100, "the system allows {} descriptors", descriptors());
    let server = Program::start("httpd", &["--pollers", "2"]);
    let mut load = Command::new("sh")
        .args(["-c", r#"ulimit -n "$(ulimit -H -n)" && exec "$0" "$@""#, env!("CARGO_BIN_EXE_load"), "hold"])
        .args(["--address", server.address(), "--path", "/foo", "--expect", "bar"])
        .args(["--connections", &many.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(load.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), format!("{{\"held\":{many}}}"));
    // The connection that reads the page is one more.
    let half = format!("\nlightcone_connections{{poller=\"1\"}} {}", many / 2);
    poll(|| get(&server, "/metrics").text().contains(&half).then_some(()));
    drop(load.stdin.take()); // the client then makes a second request on each
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.trim(), format!("{{\"alive\":{many}}}"));
    assert!(load.wait().unwrap().success());
    server.signal("TERM");
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(" 0 aborted, 0 bytes lost"), "{out}");
}
