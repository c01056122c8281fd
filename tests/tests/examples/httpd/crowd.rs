use core::time::Duration;
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use lightcone::limits::DescriptorLimit;

use crate::program::Program;

use super::client::{get, poll};

/// The number of clients of each kind, limited by the driver's maximum of descriptors.
const CROWD: usize = 600;
/// The number of requests in between.
const GUESTS: u32 = 100;
/// How much more memory the server may use after the clients have left, for tables that have grown.
const KEPT: usize = 8 << 20;

/// Clients that request much and read nothing, and clients that never finish their requests, must not affect others.
/// After they have left, their memory is freed.
#[test]
fn clients_that_are_stuck_delay_no_other() {
    if let Err(error) = DescriptorLimit::require(2 * CROWD as u64 + 100) {
        println!("skipped: {error}");
        return;
    }
    for (driver, crowd) in [("epoll", CROWD), ("select", 400)] {
        let server = Program::start("httpd", &["--driver", driver, "--pollers", "1"]);
        let foo = || get(&server, "/foo").text().ends_with("bar");
        assert!(foo());
        let before = server.resident_bytes();
        let connect = |request: &[u8]| {
            let mut client = server.connect();
            client.write_all(request).unwrap();
            client
        };
        let readers: Vec<TcpStream> =
            (0..crowd).map(|_| connect(b"GET /big?bytes=100000000 HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
        let head = [&b"GET /foo HTTP/1.1\r\nHost: a\r\nX: "[..], &[b'x'; 5_000]].concat();
        let writers: Vec<TcpStream> = (0..crowd).map(|_| connect(&head)).collect();
        let mut times: Vec<Duration> = (0..GUESTS)
            .map(|_| {
                let start = Instant::now();
                assert!(foo());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let held = server.resident_bytes();
        let (median, most) = (times.get(times.len() / 2), times.last());
        println!("{driver}, {crowd} of each: {median:?} at the median, {most:?} at most, {held} bytes");
        let large = get(&server, &format!("/foo?{}", "x".repeat(6_000)));
        assert!(large.text().ends_with("bar"), "a head of more than a block");
        drop((readers, writers));
        poll(|| (server.resident_bytes() < before + KEPT).then_some(()));
        server.signal("TERM");
        let (code, _, err) = server.end();
        assert_eq!(code, Some(0), "{err}");
    }
}
