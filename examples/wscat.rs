//! Connects to a WebSocket, sends each line of the standard input as a message, and prints each message that comes
//! back.
//!
//! ```sh
//! cargo run -p lightcone-examples --example httpd        # in another terminal
//! cargo run -p lightcone-examples --example wscat -- ws://127.0.0.1:8080/ws
//! ```
//!
//! At the end of the input, and on `SIGINT` and `SIGTERM`, it closes the connection and waits for the server to do the
//! same. The exit status is 0 if the connection was closed in this way, and 1 otherwise: also if the server has closed
//! it before the end of the input, or a signal came within a line, or the input or the output has failed.
//!
//! If the host has several addresses, they are tried in turn until one accepts the connect.

use core::hash::BuildHasher;
use core::net::SocketAddr;
use core::time::Duration;
use std::hash::RandomState;
use std::io::{self, BufRead, Read, Write, stderr, stdout};
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use clap::Parser;
use lightcone::http::client::{Uri, UriError};
use lightcone::http::{Full, RequestId, RequestMessage, State};
use lightcone::websocket::{
    Channel, CloseCode, Ending, Fragment, MaskGenerator, Message, MessageKind, OpeningError, OpeningRequest,
    OpeningResponse, Payload, WebSocket, WebSocketClient, WebSocketSource,
};
use lightcone::{Address, Builder, Context, Handle, Timeouts, shutdown_on_signals};
use lightcone_examples::within;

/// How long the close handshake may take after a signal; a second signal ends the connection at once.
const GRACE: Duration = Duration::from_secs(5);
/// The longest fragment in which a line is sent: less than the output of a connection holds.
const FRAGMENT: usize = 8 << 10;
/// The longest line of the input.
const LINE_MAX: u64 = 1 << 20;

/// Connects to a WebSocket, sends each line of the standard input as a message, and prints each message.
#[derive(Parser, Clone, Debug)]
#[command(name = "wscat", version)]
struct Options {
    /// URI of the WebSocket, such as `ws://127.0.0.1:8080/path?query`.
    uri: String,

    /// Offer these subprotocols, separated by commas, in the order of preference.
    #[arg(short = 's', long, value_name = "NAMES", default_value = "", hide_default_value = true)]
    subprotocols: String,

    /// Send this field with the handshake; can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = field)]
    headers: Vec<(String, String)>,

    /// Seconds that a connect to one address may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, allow_negative_numbers = true, value_parser = within::<u64>(1..=86_400))]
    connect_timeout: u64,
}

fn field(line: &str) -> Result<(String, String), String> {
    let parts = line.split_once(':').map(|(name, value)| (name.into(), value.trim().into()));
    parts.ok_or_else(|| "allowed: NAME: VALUE".into())
}

/// What the thread that reads the input posts to the connection.
enum Command {
    /// A line, without its end.
    Send(String),
    /// The input has ended.
    Close,
}

/// The source of the one connection.
struct Terminal {
    options: Options,
    /// The addresses of the host. The tag of a connect is the index of its address.
    addresses: Vec<SocketAddr>,
    engine: Handle<RequestMessage<Command>>,
    /// To where the connection is announced when it is open.
    opened: SyncSender<RequestId>,
    /// One place, which is free when the line before was sent: so the input is read no faster than the server reads.
    turns: SyncSender<()>,
    /// Why the program ends with an error. One place: the first failure is reported, which others may follow.
    failures: SyncSender<String>,
}

impl Terminal {
    fn fail(&self, text: String) {
        let _ = self.failures.try_send(text);
    }
}

impl State for Terminal {
    type Message = Command;
}

impl WebSocketSource for Terminal {
    type WebSocket = Connection;

    fn request(&self, _: u64) -> OpeningRequest<'_> {
        let Ok(uri) = Uri::parse_ws(&self.options.uri) else {
            unreachable!("it was parsed before the connect")
        };
        let (protocols, fields) = (&*self.options.subprotocols, &self.options.headers);
        OpeningRequest { protocols, fields, ..OpeningRequest::new(uri) }
    }

    fn accept(&mut self, _: u64, response: &OpeningResponse<'_>) -> Connection {
        if let Some(protocol) = response.protocol {
            let _ = writeln!(stderr(), "wscat: the subprotocol is {protocol}");
        }
        Connection { unsent: None, finished: false }
    }

    /// Tries the next address after a refused connect. The failure of the last one is reported.
    fn failed(&mut self, tag: u64, error: OpeningError, cx: &mut Context<'_, RequestMessage<Command>>) {
        let next = usize::try_from(tag).ok().and_then(|at| self.addresses.get(at + 1));
        if let (OpeningError::Refused(_), Some(next)) = (error, next)
            && cx.connect(Address::Inet(*next), tag + 1).is_ok()
        {
            return;
        }
        self.fail(error.to_string());
        self.engine.shutdown(Duration::ZERO);
    }

    fn closed(&mut self, _: u64, _: &mut Context<'_, RequestMessage<Command>>) {
        self.engine.shutdown(Duration::ZERO);
    }
}

/// The handler of the connection.
struct Connection {
    /// The command that waits for room, with the number of bytes of its line that were sent.
    unsent: Option<(Command, usize)>,
    /// Whether no line follows: at the end of the input, or after a signal.
    finished: bool,
}

impl Connection {
    /// Sends the rest of a line, or closes the connection.
    fn send_rest(&mut self, channel: &mut Channel<'_, Terminal>) -> Result<(), Full> {
        match &mut self.unsent {
            Some((Command::Send(line), sent)) => loop {
                let rest = line.as_bytes().get(*sent..).unwrap_or_default();
                let piece = rest.get(..FRAGMENT).unwrap_or(rest);
                let part = *sent..*sent + piece.len();
                let fragment = Fragment::of(&part, line.len());
                channel.send_fragment(MessageKind::Text, fragment, piece)?;
                *sent = part.end;
                if fragment.is_last() {
                    break;
                }
            },
            Some((Command::Close, _)) => channel.close(CloseCode::NORMAL, "")?,
            None => return Ok(()),
        }
        self.unsent = None;
        let _ = channel.state().turns.try_send(());
        Ok(())
    }
}

impl WebSocket<Terminal> for Connection {
    fn open(&mut self, channel: &mut Channel<'_, Terminal>) {
        let id = channel.id();
        let _ = channel.state().opened.try_send(id);
    }

    /// Writes a message, whose last piece ends the line. While the standard output is blocked, the server waits. If
    /// it fails, such as a pipe without a reader, the connection is closed.
    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, Terminal>) -> Result<(), Full> {
        if let Err(error) = print(message) {
            channel.state().fail(format!("cannot write to the standard output: {error}"));
            if channel.close(CloseCode::GOING_AWAY, "").is_err() {
                channel.abort(); // there may never be room
            }
        }
        Ok(())
    }

    fn message(&mut self, command: Command, channel: &mut Channel<'_, Terminal>) {
        if self.finished {
            return; // the connection is about to be closed
        }
        self.finished = matches!(command, Command::Close);
        self.unsent = Some((command, 0));
        let _ = self.send_rest(channel); // the rest follows in `writable`
    }

    fn writable(&mut self, channel: &mut Channel<'_, Terminal>) {
        let _ = self.send_rest(channel);
    }

    /// Closes the connection after a signal. A line of which a part was sent remains incomplete.
    fn shutdown(&mut self, channel: &mut Channel<'_, Terminal>) -> Result<(), Full> {
        self.finished = true;
        channel.close(CloseCode::GOING_AWAY, "")
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, Terminal>) {
        let text = match ending {
            Ending::Closed { code: None | Some(CloseCode::NORMAL | CloseCode::GOING_AWAY), .. } => {
                let within_line = matches!(self.unsent, Some((Command::Send(_), _)));
                if self.finished && !within_line {
                    return;
                }
                "the connection is closed, but not all of the input was sent".into()
            }
            Ending::Closed { code: Some(code), reason } => {
                format!("the server has closed the connection with code {}: {reason}", code.get())
            }
            Ending::Failed(violation) => format!("the server has violated the protocol: {violation}"),
            Ending::Lost | _ => "the connection is lost".into(),
        };
        channel.state().fail(text);
    }
}

/// Writes a message to the standard output.
fn print(message: Message<'_>) -> io::Result<()> {
    let mut out = stdout().lock();
    match message.payload() {
        Payload::Text(text) => out.write_all(text.as_bytes())?,
        Payload::Binary(bytes) => write!(out, "{}", bytes.escape_ascii())?,
    }
    if message.is_last() {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Posts each line to the connection, as soon as the one before was sent, and then the end.
fn read_lines(
    engine: &Handle<RequestMessage<Command>>,
    opened: &Receiver<RequestId>,
    turns: &Receiver<()>,
    failures: &SyncSender<String>,
) {
    let Ok(id) = opened.recv() else { return };
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        match input.by_ref().take(LINE_MAX + 2).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                let _ = failures.try_send(format!("cannot read the standard input: {error}"));
                break;
            }
        }
        let end = line.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |at| at + 1);
        line.truncate(end);
        let text = String::from_utf8(line).ok().filter(|text| text.len() as u64 <= LINE_MAX);
        let Some(text) = text else {
            let _ = failures.try_send("a line is too long or no text; allowed: UTF-8 of up to 1 MiB".into());
            break;
        };
        // There is room in the mailbox: one command at a time.
        if engine.post(id.token(), id.message(Command::Send(text))).is_err() || turns.recv().is_err() {
            return;
        }
    }
    let _ = engine.post(id.token(), id.message(Command::Close));
}

/// Draws a seed: the standard library's hashers have random keys from the operating system.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for (n, place) in seed.chunks_mut(8).enumerate() {
        place.copy_from_slice(&RandomState::new().hash_one(n).to_ne_bytes());
    }
    seed
}

fn run(options: Options) -> Result<(), String> {
    let uri = Uri::parse_ws(&options.uri).map_err(|error: UriError| error.to_string())?;
    let host = uri.host().to_owned();
    let addresses =
        (&*host, uri.port()).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let addresses: Vec<_> = addresses.collect();
    let first = *addresses.first().ok_or_else(|| format!("{host} has no address"))?;

    let connect = Some(Duration::from_secs(options.connect_timeout));
    let (opened, to_open) = sync_channel(1);
    let (turns, to_send) = sync_channel(1);
    let (failures, failed) = sync_channel(1);
    let input_failures = failures.clone();
    let engine = Builder::new()
        .pollers(1)
        .timeouts(Timeouts { connect, ..Timeouts::DEFAULT })
        .start(move |poller| {
            let terminal = Terminal {
                options: options.clone(),
                addresses: addresses.clone(),
                engine: poller.handle(),
                opened: opened.clone(),
                turns: turns.clone(),
                failures: failures.clone(),
            };
            WebSocketClient::new(terminal, MaskGenerator::new(&seed()))
        })
        .map_err(|error| error.to_string())?;
    shutdown_on_signals(engine.handle(), GRACE).map_err(|error| error.to_string())?;
    let handle = engine.handle();
    let reader = thread::Builder::new().name("input".into());
    // It ends with the process, as a read of the standard input cannot be interrupted.
    reader
        .spawn(move || read_lines(&handle, &to_open, &to_send, &input_failures))
        .map_err(|error| error.to_string())?;
    engine.handle().connect(Address::Inet(first), 0).map_err(|error| error.to_string())?;
    engine.join();
    failed.try_recv().map_or(Ok(()), Err)
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(stderr(), "wscat: {error}");
            ExitCode::FAILURE
        }
    }
}
