//! The hand-over to a successor, and sockets from a service manager.

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use lightcone_tests::streams::{bounded, read_to_end};

use crate::program::Program;

use super::client::{Client, SECOND};

/// Sends a request on a connection of its own, which must be answered.
fn ask(address: &str) {
    let mut stream = bounded(TcpStream::connect(address).unwrap());
    stream.write_all(b"GET /foo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let answer = String::from_utf8(read_to_end(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nbar"), "{answer:?}");
}

fn signal(process: &str, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(process).status().unwrap().success());
}

/// Returns the rest of the next line with this beginning. Processes write to the same output, in no certain order.
fn line(program: &Program, beginning: &str) -> String {
    let mut lines = core::iter::repeat_with(|| program.line());
    lines.find_map(|line| line.strip_prefix(beginning).map(Into::into)).unwrap()
}

#[test]
fn no_request_is_lost_while_servers_succeed_each_other() {
    let server = Program::start("httpd", &["--pollers", "2", "--grace", "3600"]);
    let (stop, asked, address) = (AtomicBool::new(false), AtomicUsize::new(0), server.address());
    let ask_on = || {
        while !stop.load(Ordering::Relaxed) {
            ask(address);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let last = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(ask_on);
        }
        let mut process = server.id().to_string();
        for _ in 0..4 {
            let before = asked.load(Ordering::Relaxed);
            while asked.load(Ordering::Relaxed) < before + 20 {
                thread::sleep(SECOND / 100);
            }
            let mut kept = Client::new(&server);
            assert_eq!(kept.get("/foo").text(), "bar");
            signal(&process, "USR2");
            process = line(&server, "handed over to process ");
            kept.ended();
        }
        stop.store(true, Ordering::Relaxed);
        process
    });
    ask(server.address());
    signal(&last, "TERM");
    let (code, out, err) = server.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(" 0 aborted, 0 bytes lost") && !err.contains("error"), "{out} {err}");
}

#[test]
fn without_a_successor_the_server_goes_on() {
    // The successor cannot start, because the file of its program does not exist any more.
    let folder = std::env::temp_dir().join(format!("lightcone-successor-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let copy = folder.join("httpd");
    std::fs::copy(Program::path("httpd"), &copy).unwrap();
    let server = Program::run(Command::new(&copy).args(["--listen", "127.0.0.1:0", "--pollers", "1"]));
    std::fs::remove_dir_all(&folder).unwrap();
    for _ in 0..2 {
        signal(&server.id().to_string(), "USR2");
        // Notes about the system's limits may come first.
        let mut lines = core::iter::repeat_with(|| server.error_line());
        assert!(lines.any(|line| line.starts_with("error: cannot hand over: ")));
        ask(server.address());
    }
    server.signal("TERM");
    assert_eq!(server.end().0, Some(0));
}

/// What is passed as a socket, and is none, or is not there at all, is named before anything is served.
#[test]
fn what_is_no_socket_is_refused() {
    for (count, number, given) in [(1, 3, "3</dev/null"), (2, 4, "3<&0 4<&-"), (1, 3, "3<&-")] {
        let script = format!("exec {given} && LISTEN_FDS={count} exec \"$0\" --listen 127.0.0.1:0");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(&script).arg(Program::path("httpd"));
        let output = command.stdin(std::os::fd::OwnedFd::from(socket)).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{script}: {error}");
        assert_eq!(error, format!("error: fd {number} is not a socket\n"), "{script}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn sockets_of_a_service_manager_are_listened_on() {
    let sockets = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    let [first, second] = sockets.map(std::os::fd::OwnedFd::from);
    let mut command = Command::new("sh");
    let script = "exec 3<&0 4<&1 1>&2 && LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.arg("-c").arg(script).arg(Program::path("httpd")).args(["--listen", "127.0.0.1:1"]);
    let mut child = command.stdin(first).stdout(second).stderr(std::process::Stdio::piped()).spawn().unwrap();
    addresses.iter().for_each(|address| ask(address));
    signal(&child.id().to_string(), "TERM");
    let output = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for address in addresses {
        assert!(output.contains(&format!("listening on http://{address}\n")), "{output}");
    }
}
