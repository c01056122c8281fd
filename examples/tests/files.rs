//! Tests of `httpd --root`, run as a process.
#![cfg(target_os = "linux")] // descriptors and memory of the process are read from /proc
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a failure is a panic")]

use core::time::Duration;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;

/// The lengths of the files that are served, which are their names.
const LENGTHS: [usize; 5] = [0, 1, 1024, 100_000, 3_000_000];

fn program() -> Command {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // deps
    program.pop();
    program.push("examples/httpd");
    Command::new(program)
}

/// A folder of files, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lightcone-httpd-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        for length in LENGTHS {
            fs::write(path.join(length.to_string()), content(length)).unwrap();
        }
        Self(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns bytes in which each piece differs from every other.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    core::iter::repeat_with(next).take(length).collect()
}

/// A running server, killed at the end.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn serving(root: &Root, arguments: &[&str]) -> Self {
        let root = root.0.to_str().unwrap();
        Self::start(&[&["--root", root], arguments].concat())
    }

    fn start(arguments: &[&str]) -> Self {
        let mut program = program();
        program.args(["--listen", "127.0.0.1:0", "--pollers", "1", "--max-connections", "500"]);
        let mut process =
            program.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(stream)
    }

    /// Returns the number of open descriptors.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// Waits until no more than `most` descriptors are open.
    fn settle(&self, most: usize) {
        for _ in 0..1000 {
            if self.descriptors() <= most {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        panic!("{} descriptors are open, in place of {most}", self.descriptors());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn send(client: &mut BufReader<TcpStream>, method: &str, target: &str, fields: &str) {
    client
        .get_mut()
        .write_all(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
        .unwrap();
}

/// Receives the head of a response: the status, the fields without the date, and the length.
fn head(client: &mut BufReader<TcpStream>) -> (u16, String, usize) {
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        assert!(client.read_line(&mut line).unwrap() > 0, "the connection ended after {text:?}");
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            return (text[9..12].parse().unwrap(), text, length);
        }
        if !lower.starts_with("date: ") {
            text.push_str(&line);
        }
    }
}

fn get(client: &mut BufReader<TcpStream>, target: &str, fields: &str) -> (u16, String, Vec<u8>) {
    send(client, "GET", target, fields);
    let (status, text, length) = head(client);
    let mut body = vec![0; length];
    client.read_exact(&mut body).unwrap();
    (status, text, body)
}

#[test]
fn files_over_each_driver_and_on_workers() {
    let root = Root::new("drivers");
    fs::create_dir(root.0.join("sub")).unwrap();
    fs::write(root.0.join("index.html"), "<h1>files</h1>").unwrap();
    fs::write(root.0.join(".env"), "secret").unwrap();
    for arguments in [&["--driver", "native"][..], &["--driver", "select"], &["--workers", "2", "--listing"]]
    {
        let server = Server::serving(&root, arguments);
        let mut client = server.connect();
        for length in LENGTHS {
            let target = format!("/{length}");
            let (status, fields, body) = get(&mut client, &target, "");
            assert_eq!(status, 200);
            assert!(body == content(length), "{target} {arguments:?}");
            send(&mut client, "HEAD", &target, "");
            assert_eq!(head(&mut client), (200, fields, length));
        }
        assert_eq!(get(&mut client, "/", "").2, b"<h1>files</h1>");
        assert_eq!(get(&mut client, "/foo", "").2, b"bar");
        assert_eq!(get(&mut client, "/sub", "").0, 301);
        let lists = arguments.contains(&"--listing");
        assert_eq!(get(&mut client, "/sub/", "").0, if lists { 200 } else { 404 });
        for target in
            ["/..", "/../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/.env", "/%00", "/1/", "/x"]
        {
            assert_eq!(get(&mut client, target, "").0, 404, "{target}");
        }
        send(&mut client, "POST", "/1", "Content-Length: 0\r\n");
        let (status, _, length) = head(&mut client);
        client.read_exact(&mut vec![0; length]).unwrap();
        assert_eq!(status, 405);
        send(&mut client, "OPTIONS", "*", "");
        assert_eq!(head(&mut client).0, 204);
    }
}

#[test]
fn without_a_folder_nothing_is_served() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert!(get(&mut client, "/", "").1.contains("Content-Type: text/html"));
    for (method, target, status) in [
        ("GET", "/1", 404),
        ("POST", "/1", 404),
        ("OPTIONS", "/1", 404),
        ("POST", "/foo", 405),
        ("OPTIONS", "*", 204),
    ] {
        send(&mut client, method, target, "Content-Length: 0\r\n");
        let (found, _, length) = head(&mut client);
        client.read_exact(&mut vec![0; length]).unwrap();
        assert_eq!(found, status, "{method} {target}");
    }
}

#[test]
fn ranges_join_to_the_file() {
    let root = Root::new("ranges");
    let server = Server::serving(&root, &[]);
    let mut client = server.connect();
    let whole = content(3_000_000);
    let mut joined = Vec::new();
    for size in (1..).map(|step| step * 7919) {
        let range = format!("Range: bytes={}-{}\r\n", joined.len(), joined.len() + size - 1);
        let (status, fields, body) = get(&mut client, "/3000000", &range);
        if status == 416 {
            break;
        }
        assert_eq!(status, 206, "{fields}");
        assert_eq!(body.len(), size.min(whole.len() - joined.len()));
        joined.extend(body);
    }
    assert!(joined == whole);
    let (status, fields, body) = get(&mut client, "/3000000", "Range: bytes=-10, 0-9\r\n");
    assert_eq!(status, 206);
    assert!(fields.contains("multipart/byteranges; boundary="), "{fields}");
    assert!(body.windows(10).any(|piece| piece == &whole[..10]));
    assert!(body.windows(10).any(|piece| piece == &whole[2_999_990..]));
}

#[test]
fn no_request_leaks_a_descriptor() {
    let root = Root::new("leaks");
    let server = Server::serving(&root, &[]);
    let mut client = server.connect();
    assert_eq!(get(&mut client, "/1024", "").0, 200);
    let before = server.descriptors();
    let small = content(1024);
    for turn in 0..10_000 {
        let (target, status) = match turn % 8 {
            5 => ("/missing", 404),
            6 => ("/1024/", 404),
            7 => ("/%2e%2e/", 404),
            _ => ("/1024", 200),
        };
        let (found, _, body) = get(&mut client, target, "");
        assert_eq!(found, status, "{target}");
        assert!(status != 200 || body == small);
    }
    assert_eq!(server.descriptors(), before);
    // Clients that leave in the middle, in three ways.
    for turn in 0..150 {
        let mut client = server.connect();
        send(&mut client, "GET", "/3000000", "");
        head(&mut client);
        if turn % 3 == 0 {
            client.read_exact(&mut vec![0; 100_000]).unwrap();
        } else if turn % 3 == 1 {
            client.get_mut().shutdown(Shutdown::Both).unwrap();
        }
    }
    server.settle(before);
}

#[test]
fn slow_readers_hold_a_file_each_and_little_else() {
    let root = Root::new("slow");
    // More than the system buffers.
    let whole = content(20_000_000);
    fs::write(root.0.join("large"), &whole).unwrap();
    let server = Server::serving(&root, &[]);
    let memory = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    };
    let mut first = server.connect();
    assert_eq!(get(&mut first, "/large", "").0, 200);
    let (before, empty) = (server.descriptors(), memory());
    let mut slow: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut slow {
        send(client, "GET", "/large", "");
        assert_eq!(head(client).0, 200);
    }
    assert_eq!(server.descriptors(), before + 40, "a socket and a file each");
    // Each holds 32 KiB of output, in place of 20 MB.
    let used = memory().saturating_sub(empty);
    assert!(used < 20 * (512 << 10), "{used} bytes");
    assert_eq!(get(&mut first, "/1024", "").2, content(1024), "others are served meanwhile");
    for mut client in slow {
        let mut body = vec![0; whole.len()];
        client.read_exact(&mut body).unwrap();
        assert!(body == whole);
    }
    server.settle(before);
}

#[test]
fn a_folder_that_cannot_be_served_is_an_error() {
    let root = Root::new("errors");
    let table = [
        (root.0.join("missing"), "No such file or directory (os error 2)\n"),
        (root.0.join("1"), "Not a directory (os error 20)\n"),
    ];
    for (path, reason) in table {
        let output = program().arg("--root").arg(&path).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let expected = format!("error: cannot serve the folder {}: {reason}", path.display());
        assert_eq!((errors, output.status.code()), (expected, Some(1)));
    }
    let output = program().arg("--listing").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("--root <DIR>") && output.status.code() == Some(2), "{errors}");
    let help = String::from_utf8(program().arg("--help").output().unwrap().stdout).unwrap();
    assert!(help.contains("--root <DIR>") && help.contains("Serve the files of this folder"), "{help}");
}
