//! Tests of httpd with its routes on worker threads.

use std::io::Write;

use crate::program::Program;
use lightcone_tests::streams::{read, read_to_end};

/// Sends one request on a new connection. Returns the whole response.
fn get(program: &Program, path: &str) -> String {
    let mut stream = program.connect();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(read_to_end(&stream)).unwrap()
}

#[test]
fn with_workers_every_route_is_served_and_one_that_sleeps() {
    let program = Program::start("httpd", &["--workers", "2", "--pollers", "1"]);
    for (path, body) in [("/foo", "bar"), ("/slow", "slept\n"), ("/plaintext", "Hello, World!")] {
        let answer = get(&program, path);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(body), "{path}: {answer}");
    }
    let big = get(&program, "/big?bytes=1000000");
    assert_eq!(big.split_once("\r\n\r\n").unwrap().1.len(), 1_000_000);
    let metrics = get(&program, "/metrics");
    for line in ["lightcone_connections{poller=\"0\"} ", "lightcone_http_requests_total{worker=\"1\"} "] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let requests = metrics.lines().filter_map(|line| line.strip_prefix("lightcone_http_requests_total{"));
    let sum: u64 = requests.map(|line| line.split_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert!(sum >= 4, "{metrics}");
}

#[test]
fn a_signal_lets_a_route_that_sleeps_answer() {
    let program = Program::start("httpd", &["--workers", "1", "--pollers", "1"]);
    let mut stream = program.connect();
    stream.write_all("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20).as_bytes()).unwrap();
    assert_eq!(read(&stream, 12), b"HTTP/1.1 200");
    program.signal("TERM");
    let rest = String::from_utf8(read_to_end(&stream)).unwrap();
    assert!(rest.ends_with("slept\n"), "{rest}");
    let (code, out, err) = program.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("stopped: 1 opened, 1 drained, 0 aborted, 0 bytes lost"), "{out}");
    assert!(
        out.contains("workers: 1 opened, 1 closed of which 0 at the workers' end, 0 unfinished"),
        "{out}"
    );
}

#[test]
fn without_workers_nothing_sleeps() {
    let program = Program::start("httpd", &["--pollers", "1"]);
    assert!(get(&program, "/slow").starts_with("HTTP/1.1 404 "));
    assert!(get(&program, "/metrics").contains("lightcone_http_requests_total{poller=\"0\"} "));
}

#[test]
fn help_and_errors_name_the_workers() {
    let (code, out, _) = Program::spawn("httpd", &["--help"]).end();
    assert_eq!(code, Some(0));
    assert!(out.contains("--workers <N>") && out.contains("1 to 256"), "{out}");
    for value in ["0", "257", "-1", "many"] {
        let (code, out, err) = Program::spawn("httpd", &["--workers", value]).end();
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(&format!("'{value}'")) && err.contains("--workers"), "{err}");
        assert!(value == "many" || err.contains("1 to 256"), "{err}");
    }
}
