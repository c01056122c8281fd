//! The handler of a client that survives restarts of its server: it connects when its poller starts, and again after a
//! growing delay when a connect fails or a connection ends. It needs no thread, no handle and no heap.

use core::convert::Infallible;
use core::ops::Range;
use core::time::Duration;

use lightcone::framing::{FrameState, Lines};
use lightcone::{Address, Backoff, CloseReason, Context, ErrorKind, Handler, Origin, Socket, TimerId};

/// The time within which an answer must come. After that the connection is considered broken.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The first delay before a new connect, and the longest.
const DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Sends numbers to a server that echoes lines, one by one, until each has been answered.
///
/// A request without an answer is sent again over the next connection, so the server may see it twice. Its answer is
/// reported once, and in order.
#[derive(Debug)]
pub struct Client<F> {
    server: Address,
    /// The request that waits for its answer, and those after it.
    requests: Range<u64>,
    backoff: Backoff,
    answered: F,
}

impl<F: FnMut(u64)> Client<F> {
    /// Creates a client that calls `answered` with each request that was answered. Clients with different seeds do not
    /// reconnect in step.
    pub const fn new(server: Address, requests: Range<u64>, seed: u64, answered: F) -> Self {
        Self { server, requests, backoff: Backoff::new(DELAYS.0, DELAYS.1, seed), answered }
    }

    fn connect(&mut self, cx: &mut Context<'_, Infallible>) {
        // fails for lack of a socket, for example
        if cx.connect(self.server, 0).is_err() {
            self.connect_later(cx);
        }
    }

    fn connect_later(&mut self, cx: &mut Context<'_, Infallible>) {
        let at = cx.now() + self.backoff.delay();
        if let Err(error) = cx.set_timer(at, 0) {
            panic!("one timer at a time: {error}");
        }
    }

    /// Sends the next request, or closes if there is none. Without room for it, `writable` follows.
    fn ask(&self, socket: &mut Socket<'_, Exchange>) {
        if self.requests.is_empty() {
            return socket.close();
        }
        let at = socket.now() + ANSWER_TIME;
        socket.set_deadline(Some(at));
        let (_, mut output, exchange) = socket.split();
        exchange.asked = writeln!(output, "{}", self.requests.start).is_ok();
    }
}

/// The state of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    /// Whether the request was sent over this connection.
    asked: bool,
    lines: FrameState,
}

impl<F: FnMut(u64)> Handler for Client<F> {
    type Data = Exchange;
    type Message = Infallible;

    fn started(&mut self, cx: &mut Context<'_, Infallible>) {
        self.connect(cx);
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Context<'_, Infallible>) {
        self.connect(cx);
    }

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Exchange> {
        Some(Exchange::default())
    }

    fn open(&mut self, socket: &mut Socket<'_, Exchange>, _: &mut Context<'_, Infallible>) {
        self.ask(socket);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Exchange>, _: &mut Context<'_, Infallible>) {
        if !socket.data.asked {
            self.ask(socket);
        }
    }

    fn receive(&mut self, socket: &mut Socket<'_, Exchange>, _: &mut Context<'_, Infallible>) {
        let (mut input, _, exchange) = socket.split();
        let answer = match Lines::new().next(&mut exchange.lines, &mut input) {
            Ok(None) => return, // the rest of the line follows
            Ok(Some(line)) => str::from_utf8(&line).ok().and_then(|line| line.parse().ok()),
            Err(_) => None,
        };
        if answer != Some(self.requests.start) {
            return socket.abort(); // the server is confused, or is another one
        }
        if let Some(request) = self.requests.next() {
            (self.answered)(request);
        }
        self.backoff.reset();
        self.ask(socket);
    }

    fn refused(&mut self, _: &mut Socket<'_, Exchange>, _: ErrorKind, cx: &mut Context<'_, Infallible>) {
        self.connect_later(cx);
    }

    fn close(&mut self, socket: &mut Socket<'_, Exchange>, _: CloseReason, cx: &mut Context<'_, Infallible>) {
        if !self.requests.is_empty() && !socket.is_stopping() {
            self.connect_later(cx);
        }
    }
}
