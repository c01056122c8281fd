//! Tests of the program `fetch`, run as a process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "as in every test: a failure is a panic")]

use std::process::{Command, Output};

use lightcone::Builder;
use lightcone::endpoint::Endpoint;
use lightcone::http::{Exchange, Flow, Http, State, Transfer};

/// Sends the request body back as it arrives.
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

fn fetch(arguments: &[&str]) -> Output {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // deps
    program.pop();
    program.push("examples/fetch");
    Command::new(program).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_it_writes() {
    let engine = Builder::new().pollers(1).start(|_poller| {
        Http::new()
            .get("/foo", |request, response| response.display(request.header("x-a").unwrap_or("bar")))
            .get("/moved", |_request, response| response.status(301).redirect("foo"))
            .get("/round", |_request, response| response.redirect("round"))
            .put("/echo", |request, response| response.stream(request.head.length(), Echo))
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
    });
    let engine = engine.unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let Endpoint::Inet(address) = *listener.endpoint() else { panic!("an address of TCP") };
    let (foo, echo) = (format!("http://{address}/foo"), format!("http://{address}/echo"));
    let (moved, round) = (format!("http://{address}/moved"), format!("http://{address}/round"));
    let table: [(&[&str], &str, &str); 8] = [
        (&[&foo], "", "bar"),
        (&["-i", &moved], "HTTP/1.1 301 Moved Permanently\r\n", "\r\n\r\n"),
        (&["-L", "-i", &moved], "HTTP/1.1 200 OK\r\n", "\r\n\r\nbar"),
        (&["-H", "X-A: b c ", &foo], "", "b c"),
        (&["-i", &foo], "HTTP/1.1 200 OK\r\n", "\r\n\r\nbar"),
        (&["-I", &foo], "HTTP/1.1 200 OK\r\n", "\r\n\r\n"),
        (&["-d", "some text", &echo], "", "some text"),
        (&["-X", "PUT", "--data", "", "-i", &echo], "HTTP/1.1 200 OK\r\n", "\r\n\r\n"),
    ];
    for (arguments, start, end) in table {
        let output = fetch(arguments);
        let written = text(&output.stdout);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(written.starts_with(start) && written.ends_with(end), "{arguments:?}: {written:?}");
        assert!(!start.is_empty() || written == end, "{arguments:?}: {written:?}");
    }
    let looped = fetch(&["-L", "--max-redirs", "3", &round]);
    assert_eq!((looped.status.code(), text(&looped.stdout).as_str()), (Some(1), ""));
    assert_eq!(text(&looped.stderr), format!("fetch: redirected in a loop, back to \"{round}\"\n"));
    let missing = fetch(&["-i", &format!("http://{address}/missing")]);
    assert!(missing.status.success() && text(&missing.stdout).starts_with("HTTP/1.1 404 "));
}

#[test]
fn an_error_says_what_is_wrong() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("http://{unused}/");
    let table: [(&[&str], i32, &str); 6] = [
        (&[&refused], 1, "fetch: connection refused while connecting\n"),
        (&["https://a/"], 1, "fetch: a URI must begin with http://\n"),
        (&["-H", "Host: b", "http://a.invalid/"], 1, "fetch: "),
        (&["-X", "BREW", "http://a/"], 2, "allowed: GET, HEAD, POST"),
        (&["-H", "no colon", "http://a/"], 2, "allowed: NAME: VALUE"),
        (&["-m", "0", "http://a/"], 2, "allowed: 1 to 86400"),
    ];
    for (arguments, status, expected) in table {
        let output = fetch(arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(expected) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
    assert!(text(&fetch(&["--help"]).stdout).contains("--connect-timeout"));
}
