//! The HTTP client against the HTTP server: over each driver, on workers, and as a blocking call of a thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::std_instead_of_alloc,
    reason = "as in every test: a failure is a panic"
)]

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use lightcone::endpoint::Endpoint;
use lightcone::fetch::{self, Request, RequestFailed};
use lightcone::http::client::{
    BodyWriter, Client, ClientLimits, ClientRequest, Fetch, FetchError, FetchSource, Pool, PoolLimits,
    PoolMessage, PoolSocket, RequestBody, ResponseHead, Uri,
};
use lightcone::http::{Exchange, Flow, Http, Method, RequestMessage, State, Transfer};
use lightcone::workers;
use lightcone::{Address, Builder, Context, DriverName, Engine, Event, Handler, Origin, PollerEvent, Socket};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends the request body back as it arrives.
struct Echo;

impl<S: State> Exchange<S> for Echo {
    fn advance(&mut self, io: &mut Transfer<'_, S>) -> Flow {
        io.copy();
        if io.is_ended() { Flow::Done } else { Flow::More }
    }
}

fn letters(offset: u64, piece: &mut [u8]) {
    for (byte, letter) in piece.iter_mut().zip((b'a'..=b'z').cycle().skip((offset % 26) as usize)) {
        *byte = letter;
    }
}

type Server = Engine<RequestMessage<Infallible>>;

/// Starts a server; returns its address.
fn server() -> (Server, SocketAddr) {
    let engine = Builder::new().pollers(1).start(|_poller| {
        Http::new()
            .get("/foo", |_request, response| response.header("X-Answer", 42).text("bar"))
            .get("/big", |_request, response| response.generate(5_000_000, letters))
            .post("/echo", |request, response| response.stream(request.head.length(), Echo))
    });
    let engine = engine.unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let Endpoint::Inet(address) = *listener.endpoint() else { panic!("an address of TCP") };
    (engine, address)
}

/// What a request has come to.
type Outcome = Result<(u16, Vec<u8>), FetchError>;

/// Posts a body of many blocks, and expects it back.
struct Post {
    uri: String,
    sent: usize,
    response: (u16, Vec<u8>),
    outcome: Sender<Outcome>,
}

const LENGTH: usize = 300_000;

impl Fetch for Post {
    type Message = Infallible;

    fn request(&self) -> ClientRequest<'_> {
        let uri = Uri::parse(&self.uri).unwrap();
        ClientRequest { method: Method::Post, body: RequestBody::Chunked, ..ClientRequest::get(uri) }
    }

    fn send(&mut self, body: &mut BodyWriter<'_>) -> Flow {
        while self.sent < LENGTH {
            let mut piece = vec![0; 5_000.min(LENGTH - self.sent)];
            letters(self.sent as u64, &mut piece);
            match body.write(&piece) {
                0 => return Flow::More,
                n => self.sent += n,
            }
        }
        Flow::Done
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        self.response.0 = head.status.code();
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        self.response.1.extend_from_slice(data);
        Some(data.len())
    }

    fn end(self) {
        self.outcome.send(Ok(self.response)).unwrap();
    }

    fn failed(self, error: FetchError) {
        self.outcome.send(Err(error)).unwrap();
    }
}

/// Sends three requests on a connection.
struct Posts {
    uri: String,
    left: usize,
    outcome: Sender<Outcome>,
}

impl FetchSource for Posts {
    type Fetch = Post;

    fn next(&mut self, _: u64) -> Option<Post> {
        self.left = self.left.checked_sub(1)?;
        let (uri, outcome) = (self.uri.clone(), self.outcome.clone());
        Some(Post { uri, sent: 0, response: (0, Vec::new()), outcome })
    }
}

/// Creates a client of a server, and what it reports to.
fn client(address: SocketAddr) -> (impl Fn() -> Client<Posts> + Send + Sync, Receiver<Outcome>) {
    let (outcome, outcomes) = channel();
    let uri = format!("http://{address}/echo");
    (move || Client::new(Posts { uri: uri.clone(), left: 3, outcome: outcome.clone() }), outcomes)
}

/// Checks that three requests are answered over one connection.
fn must_be_answered(server: &Server, outcomes: &Receiver<Outcome>) {
    let mut expected = vec![0; LENGTH];
    letters(0, &mut expected);
    for _ in 0..3 {
        let (status, body) = outcomes.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(status == 200 && body == expected, "{status} with {} bytes", body.len());
    }
    assert!(server.handle().loads().iter().sum::<u32>() <= 1, "all were sent over one connection");
}

#[test]
fn over_each_driver() {
    for driver in DriverName::ALL {
        let (server, address) = server();
        let (make, outcomes) = client(address);
        let engine = driver.start(Builder::new().pollers(1), move |_poller| make()).unwrap();
        engine.handle().connect(Address::Inet(address), 0).unwrap();
        must_be_answered(&server, &outcomes);
    }
}

#[test]
fn on_workers() {
    let (server, address) = server();
    let (make, outcomes) = client(address);
    let workers = workers::Builder::new().workers(2).start(move |_worker| make()).unwrap();
    let engine = Builder::new().pollers(1).start(workers.offload()).unwrap();
    engine.handle().connect(Address::Inet(address), 0).unwrap();
    must_be_answered(&server, &outcomes);
}

#[test]
fn a_blocking_get() {
    let (_server, address) = server();
    let response = fetch::get(&format!("http://{address}/foo")).unwrap();
    assert_eq!((response.status.code(), &response.text()[..]), (200, "bar"));
    assert_eq!((response.field("x-ANSWER"), response.field("x")), (Some("42"), None));
    assert!(response.head.starts_with(b"HTTP/1.1 200 OK\r\n") && response.head.ends_with(b"\r\n\r\n"));
    let missing = fetch::get(&format!("http://{address}/missing")).unwrap();
    assert_eq!(missing.status.code(), 404);
    let head = Request::new(Method::Head, format!("http://{address}/foo")).send().unwrap();
    assert_eq!((head.status.code(), head.body.len(), head.field("content-length")), (200, 0, Some("3")));
}

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried() {
    // The server has only one of the two addresses that `localhost` may have.
    let (_server, address) = server();
    let response = fetch::get(&format!("http://localhost:{}/foo", address.port())).unwrap();
    assert_eq!(response.text(), "bar");
    let error = fetch::get("http://no-such-host.invalid/").unwrap_err();
    assert!(error.to_string().starts_with("cannot resolve the name of the host: "), "{error}");
}

#[test]
fn a_body_in_both_directions() {
    let (_server, address) = server();
    let mut body = vec![0; 800_000];
    letters(3, &mut body);
    let request = Request::new(Method::Post, format!("http://{address}/echo")).body(body.clone());
    let response = request.field("Content-Type", "text/plain").send().unwrap();
    assert!(response.status.code() == 200 && response.body == body);
}

/// Accepts everything, slowly.
struct Slow(Sender<usize>);

impl Write for Slow {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        thread::sleep(Duration::from_millis(2));
        self.0.send(data.len()).map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_writer_gets_all() {
    let (_server, address) = server();
    let (written, counts) = channel();
    let (head, heads) = channel();
    let request = Request::new(Method::Get, format!("http://{address}/big"));
    let response = request
        .send_to(Slow(written), move |response| head.send(response.status.code()).map_err(io::Error::other));
    assert!(response.unwrap().body.is_empty());
    assert_eq!((counts.iter().sum::<usize>(), heads.recv()), (5_000_000, Ok(200)));
}

/// Refuses everything.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other("broken"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens, and answers each request with these bytes, or never.
fn canned(bytes: Option<&'static [u8]>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1_000]);
            match bytes {
                Some(bytes) => stream.write_all(bytes).unwrap(),
                None => thread::sleep(PATIENCE),
            }
        }
    };
    drop(thread::Builder::new().spawn(serve).unwrap());
    address
}

/// Reports a response, and panics over a failure.
struct Fragile {
    uri: String,
    outcome: Sender<u16>,
    status: u16,
}

impl Fetch for Fragile {
    type Message = Infallible;

    fn request(&self) -> ClientRequest<'_> {
        ClientRequest::get(Uri::parse(&self.uri).unwrap())
    }

    fn head(&mut self, head: &ResponseHead<'_>) {
        self.status = head.status.code();
    }

    fn body(&mut self, data: &[u8]) -> Option<usize> {
        Some(data.len())
    }

    fn end(self) {
        self.outcome.send(self.status).unwrap();
    }

    fn failed(self, error: FetchError) {
        panic!("expected: {error}");
    }
}

/// Sends a request to each of the origins, through a pool of one connection.
struct OneByOne {
    pool: Pool<Fragile, 1, 4>,
    origins: Vec<SocketAddr>,
    outcome: Sender<u16>,
}

impl Handler for OneByOne {
    type Data = PoolSocket<Fragile>;
    type Message = PoolMessage<Infallible>;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        self.pool.admit(origin, peer)
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        self.pool.event(socket, event, cx);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Self::Message>) {
        if event == PollerEvent::Started {
            for origin in &self.origins {
                let uri = format!("http://{origin}/foo");
                let fetch = Fragile { uri, outcome: self.outcome.clone(), status: 0 };
                self.pool.submit(Address::Inet(*origin), fetch, cx);
            }
        }
        self.pool.poller_event(event, cx);
    }
}

/// Listens, and resets each connection when the request has come.
fn resetting() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for stream in listener.incoming() {
            // its bytes stay unread, which makes the close a reset
            while stream.as_ref().unwrap().peek(&mut [0]).is_err() {}
        }
    };
    drop(thread::Builder::new().spawn(serve).unwrap());
    address
}

/// A fetch that panics over its failure costs its pool neither the place of its connection nor those that wait.
#[test]
fn a_pool_goes_on_after_a_fetch_that_panics() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_server, good) = server();
    let (outcome, outcomes) = channel();
    let origins = vec![resetting(), unused, resetting(), good];
    let limits = PoolLimits { wait_time: PATIENCE, ..PoolLimits::DEFAULT };
    let engine = Builder::new().pollers(1).start(move |_poller| OneByOne {
        pool: Pool::new(limits),
        origins: origins.clone(),
        outcome: outcome.clone(),
    });
    let engine = engine.unwrap();
    assert_eq!(outcomes.recv_timeout(PATIENCE), Ok(200));
    assert_eq!(engine.shutdown(PATIENCE).panics(), 3);
}

#[test]
fn failures_say_what_was_done() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limits = ClientLimits { first_byte_time: Duration::from_millis(50), ..ClientLimits::DEFAULT };
    let (_server, address) = server();
    let get = |address: SocketAddr| Request::new(Method::Get, format!("http://{address}/big")).limits(limits);
    let small = ClientLimits { body: 1_000, ..ClientLimits::DEFAULT };
    let table = [
        (get(unused).send(), "connection refused while connecting"),
        (get(canned(None)).send(), "timed out while waiting for the first byte of the response"),
        (
            get(canned(Some(b"SSH-2.0"))).send(),
            "the response is invalid (no HTTP/1 status line) while receiving the head of the response",
        ),
        (
            get(canned(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"))).send(),
            "the response is invalid (the connection ended within the response) while receiving the body of the response",
        ),
        (
            get(address).limits(small).send(),
            "the response is invalid (a body beyond its limit) while receiving the head of the response",
        ),
        (
            get(address).field("A", "b\nc").send(),
            "the request is invalid (the value of a field has control characters) while sending the request",
        ),
        (get(address).send_to(Broken, |_| Ok(())), "cannot write the body of the response: broken"),
        (
            get(address).send_to(io::sink(), |_| Err(io::Error::other("no"))),
            "cannot write the body of the response: no",
        ),
        (fetch::get("https://a/"), "a URI must begin with http://"),
    ];
    for (result, expected) in table {
        let error: RequestFailed = result.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
