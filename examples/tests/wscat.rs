//! Tests of the program `wscat`, run as a process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "as in every test: a failure is a panic")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::ToSocketAddrs;
use std::process::{Child, Command, Output, Stdio};

use lightcone::endpoint::Endpoint;
use lightcone::http::{Full, Http, State};
use lightcone::websocket::{Channel, CloseCode, Message, WebSocket, upgrade};
use lightcone::{Builder, Engine};

/// Sends messages back, and closes with a code of its own if one asks for it.
struct Echo;

impl<S: State> WebSocket<S> for Echo {
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, S>) -> Result<(), Full> {
        match message.bytes() {
            b"leave" => channel.close(CloseCode::POLICY, "as you like"),
            b"goodbye" => channel.close(CloseCode::NORMAL, ""),
            b"binary" => channel.send_binary(b"\x00\xff"),
            bytes => channel.send_fragment(message.kind(), message.fragment(), bytes),
        }
    }
}

type Server = Engine<lightcone::http::RequestMessage<core::convert::Infallible>>;

fn server() -> (Server, String) {
    server_at("127.0.0.1:0").unwrap()
}

fn server_at(address: &str) -> Result<(Server, String), lightcone::Error> {
    let engine = Builder::new().pollers(1).start(|_poller| {
        Http::new()
            .get("/ws", |request, response| upgrade(&request, response, Echo))
            .get("/chat", |request, response| {
                let offered = request.header("sec-websocket-protocol").unwrap_or("").contains("chat");
                let by = request.header("x-by") == Some("wscat");
                assert!(offered && by, "{:?}", request.head);
                upgrade(&request, response.header("Sec-WebSocket-Protocol", "chat"), Echo)
            })
            .get("/foo", |_request, response| response.text("bar"))
    });
    let engine = engine.unwrap();
    let listener = engine.listen(address)?;
    let Endpoint::Inet(address) = *listener.endpoint() else { panic!("an address of TCP") };
    Ok((engine, format!("ws://{address}")))
}

fn command(arguments: &[&str]) -> Command {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // deps
    program.pop();
    program.push("examples/wscat");
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(arguments);
    command
}

fn start(arguments: &[&str]) -> Child {
    command(arguments).spawn().unwrap()
}

fn wscat(arguments: &[&str], input: &str) -> Output {
    let mut child = start(arguments);
    // A program that has failed reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn lines_are_sent_and_messages_are_printed() {
    let (_engine, uri) = server();
    let long = "ä€".repeat(100_000);
    let input = format!("hello\n\nwörld\r\n{long}\nbinary\nno end");
    let output = wscat(&[&format!("{uri}/ws")], &input);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    // The last responses may come after the close frame of the client, and are dropped then.
    let expected = format!("hello\n\nwörld\n{long}\n\\x00\\xff\nno end\n");
    assert!(expected.starts_with(text(&output.stdout)), "{}", output.stdout.len());
    let fields = ["-s", "news, chat", "-H", "X-By: wscat"];
    let output = wscat(&[&fields[..], &[&format!("{uri}/chat")]].concat(), "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "wscat: the subprotocol is chat\n");
}

#[test]
fn every_address_of_a_host_is_tried() {
    let addresses = ("localhost", 0).to_socket_addrs().unwrap();
    // Each server has a port of its own, which only its address accepts: all but the first need another try.
    for address in addresses {
        let Ok((_engine, uri)) = server_at(&address.to_string()) else { continue }; // a system without IPv6
        let port = uri.rsplit(':').next().unwrap();
        let output = wscat(&[&format!("ws://localhost:{port}/ws")], "");
        assert!(output.status.success(), "{uri}: {}", text(&output.stderr));
    }
}

#[test]
fn a_server_that_closes_before_the_end_of_the_input_is_reported() {
    let (_engine, uri) = server();
    let mut child = start(&[&format!("{uri}/ws")]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"hello\ngoodbye\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "hello\n");
    assert_eq!(text(&output.stderr), "wscat: the connection is closed, but not all of the input was sent\n");
    assert_eq!(output.status.code(), Some(1));
    drop(input);
}

#[test]
fn an_input_that_cannot_be_read_is_no_end() {
    let (_engine, uri) = server();
    let mut command = command(&[&format!("{uri}/ws")]);
    let directory = File::open(".").unwrap();
    let output = command.stdin(directory).output().unwrap();
    let error = text(&output.stderr);
    assert!(error.starts_with("wscat: cannot read the standard input: "), "{error}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_output_that_fails_ends_the_program() {
    let (_engine, uri) = server();
    let mut child = start(&[&format!("{uri}/ws")]);
    let mut input = child.stdin.take().unwrap();
    drop(child.stdout.take());
    input.write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert!(error.starts_with("wscat: cannot write to the standard output: "), "{error}");
    assert_eq!(output.status.code(), Some(1));
    drop(input);
}

#[test]
fn a_signal_closes_the_connection() {
    let (_engine, uri) = server();
    let mut child = start(&[&format!("{uri}/ws")]);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    drop(input);
}

#[test]
fn what_goes_wrong_is_reported() {
    let (engine, uri) = server();
    let (foo, ws) = (format!("{uri}/foo"), format!("{uri}/ws"));
    let long = "a".repeat((1 << 20) + 1);
    let table: [(&[&str], &str, &str, i32); 8] = [
        (&["http://a"], "", "wscat: the URI of a WebSocket must begin with ws://\n", 1),
        (&["wss://a"], "", "wscat: the URI of a WebSocket must begin with ws://\n", 1),
        (&[&foo], "", "wscat: the server has refused the handshake with status 200 OK\n", 1),
        (
            &["-s", "a, a", &ws],
            "",
            "wscat: the subprotocols are invalid; allowed: different tokens, separated by commas\n",
            1,
        ),
        (&[&ws], "leave\n", "wscat: the server has closed the connection with code 1008: as you like\n", 1),
        (&[&ws], &long, "wscat: a line is too long or no text; allowed: UTF-8 of up to 1 MiB\n", 1),
        (&["-H", "a", &ws], "", "allowed: NAME: VALUE", 2),
        (&["--connect-timeout", "0", &ws], "", "allowed: 1 to 86400", 2),
    ];
    for (arguments, input, error, code) in table {
        let output = wscat(arguments, input);
        let found = text(&output.stderr);
        assert!(found == error || code == 2 && found.contains(error), "{arguments:?}: {found}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
    drop(engine);
    let output = wscat(&[&ws], "");
    assert_eq!(text(&output.stderr), "wscat: connection refused while connecting\n");
}
