//! The memory of a blocking request. It is that of the whole process, so this program has one test.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed test is the point")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use lightcone::fetch;

/// Returns the most memory that the process has used so far, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn a_body_in_the_smallest_chunks_costs_little_more_than_its_length() {
    const CHUNKS: usize = 2 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::Builder::new().spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1_000]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        let piece = b"1\r\nx\r\n".repeat(1_024);
        (0..CHUNKS / 1_024).for_each(|_| stream.write_all(&piece).unwrap());
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let before = peak();
    let response = fetch::get(&uri).unwrap();
    let used = peak() - before;
    server.unwrap().join().unwrap();
    assert!(response.body.len() == CHUNKS && response.body.iter().all(|byte| *byte == b'x'));
    assert!(used < 32 << 10, "{used} KiB for {} KiB", CHUNKS >> 10);
}
