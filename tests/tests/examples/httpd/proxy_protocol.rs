//! The PROXY protocol in front of HTTP.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use lightcone_tests::streams::WAIT;

use crate::program::Program;

use super::client::{Client, get};

const LINE: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 49152 443\r\n";
const CLIENT: &str = "[2001:db8::7]:49152";
const REQUEST: &[u8] = b"GET /foo HTTP/1.1\r\nHost: a\r\n\r\n";

/// Returns a header of version 2 for the same addresses.
fn binary() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    for last in [7, 1] {
        bytes.extend([0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    bytes.extend(49_152_u16.to_be_bytes());
    bytes.extend(443_u16.to_be_bytes());
    bytes
}

/// Checks that the server ends a connection without a response. The system may report a reset while sending.
fn is_refused(mut stream: TcpStream, bytes: &[u8]) {
    let sent = stream.write_all(bytes);
    let mut response = Vec::new();
    let read = stream.read_to_end(&mut response);
    let reset = [sent.err(), read.err()].into_iter().flatten();
    assert!(
        reset
            .map(|error| error.kind())
            .all(|kind| { matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) })
    );
    assert_eq!(response, b"");
}

#[test]
fn requests_after_a_header_are_logged_with_the_address_of_the_client() {
    for threads in [["--pollers", "2"], ["--workers", "2"]] {
        let server = Program::start(
            "httpd",
            &[&threads[..], &["--log", "--proxy-protocol", "::1,127.0.0.0/8"]].concat(),
        );
        for header in [LINE.to_vec(), binary()] {
            let mut client = Client::new(&server);
            // the header in two segments, and the end of it with the request
            client.send(&header[..9]);
            client.send([&header[9..], REQUEST].concat());
            assert_eq!(client.answer().text(), "bar");
            assert_eq!(client.get("/json").status, 200);
            for request in ["GET /foo 200 3 ", "GET /json 200 "] {
                let line = server.line();
                assert!(line.starts_with(&format!("{CLIENT} {request}")), "{line}");
            }
        }
        // a balancer that checks whether the server is alive
        let mut check = Client::new(&server);
        check.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
        assert_eq!(check.get("/foo").text(), "bar");
        let line = server.line();
        assert!(line.starts_with("127.0.0.1:"), "{line}");
    }
}

#[test]
fn a_connection_without_a_header_is_refused_and_logged() {
    for threads in [["--pollers", "1"], ["--workers", "1"]] {
        let server =
            Program::start("httpd", &[&threads[..], &["--log", "--proxy-protocol", "127.0.0.1"]].concat());
        let stream = server.connect();
        let peer = stream.local_addr().unwrap();
        is_refused(stream, REQUEST);
        let expected = format!("{peer} PROXY protocol: no header; allowed: one of version 1 or 2");
        assert_eq!(server.line(), expected);
    }
}

#[test]
fn other_peers_are_refused_or_served_as_they_are() {
    let trusted = ["--pollers", "1", "--log", "--proxy-protocol", "192.0.2.0/24,2001:db8::/32"];
    let server = Program::start("httpd", &trusted);
    for bytes in [REQUEST, &[LINE, REQUEST].concat()] {
        is_refused(server.connect(), bytes);
        assert!(server.line().ends_with(" the peer is not trusted to send a header of the PROXY protocol"));
    }
    let server = Program::start("httpd", &[&trusted[..], &["--proxy-untrusted", "pass"]].concat());
    assert_eq!(get(&server, "/foo").text(), "bar");
    assert!(server.line().starts_with("127.0.0.1:"));
    let mut client = Client::new(&server);
    client.send(LINE);
    assert_eq!(client.answer().status, 400);
}

#[test]
fn a_proxy_may_connect_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("lightcone-proxied-{}", std::process::id()));
    let address = format!("unix:{}", path.display());
    let server =
        Program::start_on(&address, "httpd", &["--pollers", "1", "--log", "--proxy-protocol", "unix"]);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&[LINE, b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"].concat()).unwrap();
    let response = std::io::read_to_string(stream).unwrap();
    assert!(response.ends_with("\r\n\r\nbar"), "{response}");
    assert!(server.line().starts_with(CLIENT));
    server.signal("TERM");
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_bad_prefix_is_named_with_what_is_allowed() {
    for (value, allowed) in [
        ("localhost", "an address such as 192.0.2.1, or 192.0.2.0/24; or unix"),
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("10.0.0.0/8,::/129", "0 to 128"),
        ("", "192.0.2.1"),
    ] {
        let (code, _, err) = Program::spawn("httpd", &["--proxy-protocol", value]).end();
        assert_eq!(code, Some(2), "{value}: {err}");
        assert!(err.contains("--proxy-protocol") && err.contains(allowed), "{value}: {err}");
    }
    let (code, _, err) = Program::spawn("httpd", &["--proxy-untrusted", "pass"]).end();
    assert!(code == Some(2) && err.contains("--proxy-protocol"), "{err}");
}
