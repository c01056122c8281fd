//! Programs as processes, upstreams that do as a test says, and a client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A program of the examples, which ends with the test.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
}

impl Program {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut program = std::env::current_exe().unwrap();
        program.pop(); // deps
        program.pop();
        program.push(format!("examples/{name}"));
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address =
            line.trim_end().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.parse().unwrap(), child, output }
    }

    /// Starts a proxy with one poller.
    pub(crate) fn proxy(upstreams: &[SocketAddr], more: &[&str]) -> Self {
        let upstreams: Vec<_> = upstreams.iter().map(|address| format!("--upstream={address}")).collect();
        let mut arguments = vec!["--listen=127.0.0.1:0", "--pollers=1"];
        arguments.extend(upstreams.iter().map(String::as_str));
        arguments.extend(more);
        Self::start("proxy", &arguments)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end; returns whether it was orderly, and the rest of the output.
    pub(crate) fn wait(mut self) -> (bool, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().success(), rest)
    }

    /// Returns the greatest size of its memory so far, in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of a test: calls a function with each connection, on a thread of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn start(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let (serve, peer) = (Arc::clone(&serve), Peer::new(stream.unwrap()));
                thread::spawn(move || serve(peer));
            }
        });
        Self { address, connections }
    }

    /// Starts one that sends the same answer to each request.
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::start(move |mut peer| {
            while peer.request().is_some() {
                peer.write(answer);
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Returns an address at which nothing listens.
pub(crate) fn unused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// One end of a connection.
pub(crate) struct Peer(pub(crate) BufReader<TcpStream>);

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have given up.
        let _ = self.0.get_mut().write_all(bytes.as_ref());
    }

    /// Reads a head, up to the empty line; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.0.read_until(b'\n', &mut head).unwrap_or(0) == 0 {
                return None;
            }
        }
        Some(String::from_utf8(head).unwrap())
    }

    /// Reads a request with its body.
    pub(crate) fn request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.head()?;
        let (body, whole) = self.body(&head, false);
        whole.then_some((head, body))
    }

    /// Reads the body that a head announces, and returns whether it is complete.
    fn body(&mut self, head: &str, until_end: bool) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        let whole = match (field(head, "content-length"), field(head, "transfer-encoding")) {
            (Some(length), _) => {
                let length = length.parse().unwrap();
                let read = self.0.by_ref().take(length).read_to_end(&mut body);
                read.is_ok() && body.len() as u64 == length
            }
            (None, Some("chunked")) => self.chunks(&mut body).is_some(),
            _ => !until_end || self.0.read_to_end(&mut body).is_ok(),
        };
        (body, whole)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk).ok()?;
            assert!(chunk.ends_with(b"\r\n"));
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(());
            }
        }
    }

    /// Reads the response to a request.
    pub(crate) fn answer(&mut self, request: &str) -> Answer {
        let head = self.head().unwrap_or_else(|| panic!("no answer to {request:?}"));
        let status: u16 = head[9..12].parse().unwrap();
        let bodiless = request.starts_with("HEAD ") || status == 204 || status == 304;
        let (body, whole) = if bodiless { (Vec::new(), true) } else { self.body(&head, true) };
        Answer { status, head, body, whole }
    }

    /// Sends a request and reads the response.
    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.write(request);
        self.answer(request)
    }
}

/// Returns the value of the first field with this name, in lower case.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Sends one request over a new connection.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Answer {
    Peer::connect(address).ask(request)
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";

/// Waits until a condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}
