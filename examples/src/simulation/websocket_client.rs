//! WebSocket clients that converse with the echo server until all of their work is done.

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::time::Duration;
use std::rc::Rc;

use lightcone::http::client::{InvalidResponse, Uri};
use lightcone::http::{Full, Http, Limits, RequestMessage, State};
use lightcone::sim::{EngineId, Sim};
use lightcone::websocket::{
    Channel, CloseCode, Ending, Fragment, MaskGenerator, Message, MessageKind, MessageLimits, OpeningError,
    OpeningLimits, OpeningRequest, OpeningResponse, WebSocket, WebSocketClient, WebSocketConfig,
    WebSocketSource, upgrade,
};
use lightcone::{Address, Backoff, Context, TimerId};

use super::websocket::{Echo, MESSAGE_MAX};
use super::{a_while, http_engine, one_of, server};

/// The times of a client. A slow link stays slow after the faults, and must not look like a server that has vanished.
const PATIENCE: Duration = Duration::from_mins(1);

/// The state that all pollers of the clients share.
#[derive(Default)]
struct Ledger {
    /// The number of connects to be made, and of conversations that are done.
    owed: Cell<u32>,
    done: Cell<u32>,
    /// The callbacks of each connect. Its tag is the index.
    connects: RefCell<Vec<Callbacks>>,
}

/// How often each callback of a connect was called.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Callbacks {
    failed: u32,
    accept: u32,
    /// Of the handler, and then of the source.
    handler_closed: u32,
    source_closed: u32,
}

impl Ledger {
    /// Counts a callback.
    fn count(&self, tag: u64, add: impl FnOnce(&mut Callbacks)) {
        let mut connects = self.connects.borrow_mut();
        let callbacks = usize::try_from(tag).ok().and_then(|tag| connects.get_mut(tag));
        add(callbacks.unwrap_or_else(|| panic!("callbacks: no connect has the tag {tag}")));
    }

    /// Checks, after the end of the engines, that no callback is missing and none was called twice.
    fn check_end(&self, work: u32) {
        let failed = Callbacks { failed: 1, ..Callbacks::default() };
        let opened = Callbacks { failed: 0, accept: 1, handler_closed: 1, source_closed: 1 };
        for (tag, callbacks) in self.connects.borrow().iter().enumerate() {
            assert!([failed, opened].contains(callbacks), "callbacks: connect {tag} has had {callbacks:?}");
        }
        let (owed, done) = (self.owed.get(), self.done.get());
        assert!(done == work && owed == 0, "callbacks: {done} of {work} conversations done, {owed} are owed");
    }
}

/// The clients of one poller.
struct Clients {
    ledger: Rc<Ledger>,
    /// The number of messages of a conversation.
    messages: u32,
    backoff: Backoff,
    /// The timer for the next connect.
    next: Option<TimerId>,
}

type Cx<'a> = Context<'a, RequestMessage<Infallible>>;

impl Clients {
    /// Makes the connects that are owed, by whichever poller. Those for which there is no room follow later.
    fn connect(&mut self, cx: &mut Cx<'_>) {
        let ledger = &self.ledger;
        let mut connects = ledger.connects.borrow_mut();
        while ledger.owed.get() > 0 && cx.connect(Address::Inet(server(1)), connects.len() as u64).is_ok() {
            connects.push(Callbacks::default());
            ledger.owed.set(ledger.owed.get() - 1);
        }
        drop(connects);
        self.connect_later(cx);
    }

    /// Sets a timer for the connects that are owed: a server that is down refuses each at once.
    fn connect_later(&mut self, cx: &mut Cx<'_>) {
        if self.ledger.owed.get() > 0 && self.next.is_none() {
            let at = cx.now() + self.backoff.delay();
            self.next = cx.set_timer(at, 0).ok();
        }
    }
}

impl State for Clients {
    type Message = Infallible;
}

impl WebSocketSource for Clients {
    type WebSocket = Talk;

    const OPENING: OpeningLimits = OpeningLimits { time: PATIENCE, ..OpeningLimits::DEFAULT };

    fn request(&self, _: u64) -> OpeningRequest<'_> {
        let Ok(uri) = Uri::parse_ws("ws://10.0.0.1:7000/ws") else { unreachable!("it is valid") };
        OpeningRequest::new(uri)
    }

    fn accept(&mut self, tag: u64, _: &OpeningResponse<'_>) -> Talk {
        self.backoff.reset();
        self.ledger.count(tag, |callbacks| callbacks.accept += 1);
        Talk { tag, received: 0, sent: Sent::Nothing }
    }

    fn started(&mut self, cx: &mut Cx<'_>) {
        self.connect(cx);
    }

    fn timer(&mut self, _: TimerId, _: u64, cx: &mut Cx<'_>) {
        self.next = None;
        self.connect(cx);
    }

    fn failed(&mut self, tag: u64, error: OpeningError, cx: &mut Cx<'_>) {
        let by_network = matches!(
            error,
            OpeningError::Refused(_)
                | OpeningError::TimedOut
                | OpeningError::Closed(_)
                | OpeningError::Invalid(InvalidResponse::Truncated)
                | OpeningError::Stopping
        );
        assert!(by_network, "handshake: {error}");
        self.ledger.count(tag, |callbacks| callbacks.failed += 1);
        self.ledger.owed.set(self.ledger.owed.get() + 1);
        self.connect_later(cx);
    }

    fn closed(&mut self, tag: u64, cx: &mut Cx<'_>) {
        self.ledger.count(tag, |callbacks| callbacks.source_closed += 1);
        self.connect_later(cx); // if it ended too early
    }
}

/// How much of a message was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    FirstFragment,
    All,
}

/// One conversation: a message is sent when the one before has come back.
struct Talk {
    tag: u64,
    received: u32,
    sent: Sent,
}

impl Talk {
    /// Returns the next message: text whose characters have three bytes, for the fragments to divide.
    fn payload(&self) -> String {
        let length = (self.tag * 31 + u64::from(self.received) * 7) % u64::from(MESSAGE_MAX / 3 + 1);
        (0..length).map(|n| if n % 5 == u64::from(self.received % 5) { '€' } else { '\u{2026}' }).collect()
    }

    /// Sends the rest of the next message in two fragments, or closes after the last.
    fn go_on(&mut self, channel: &mut Channel<'_, Clients>) -> Result<(), Full> {
        if self.received == channel.state().messages {
            return channel.close(CloseCode::NORMAL, "done");
        }
        let payload = self.payload();
        let (first, second) = payload.as_bytes().split_at(payload.len() / 2);
        if self.sent == Sent::Nothing {
            channel.send_fragment(MessageKind::Text, Fragment::First, first)?;
            self.sent = Sent::FirstFragment;
        }
        if self.sent == Sent::FirstFragment {
            channel.send_fragment(MessageKind::Text, Fragment::Last, second)?;
            self.sent = Sent::All;
        }
        Ok(())
    }
}

impl WebSocket<Clients> for Talk {
    const CONFIG: WebSocketConfig = WebSocketConfig {
        limits: MessageLimits { frame: MESSAGE_MAX, message: MESSAGE_MAX, piece: MESSAGE_MAX },
        ping: Some(PATIENCE),
        pong: PATIENCE,
        close: PATIENCE,
    };

    fn open(&mut self, channel: &mut Channel<'_, Clients>) {
        let _ = self.go_on(channel); // without room, `writable` follows
    }

    fn receive(&mut self, message: Message<'_>, channel: &mut Channel<'_, Clients>) -> Result<(), Full> {
        let expected = self.payload();
        assert!(self.sent == Sent::All, "messages: {message} has come before it was sent");
        assert!(
            message.is_whole() && message.bytes() == expected.as_bytes(),
            "messages: {message} is not {expected}"
        );
        (self.received, self.sent) = (self.received + 1, Sent::Nothing);
        let _ = self.go_on(channel);
        Ok(())
    }

    fn writable(&mut self, channel: &mut Channel<'_, Clients>) {
        let _ = self.go_on(channel);
    }

    fn closed(&mut self, ending: Ending<'_>, channel: &mut Channel<'_, Clients>) {
        let complete = self.received == channel.state().messages;
        let ledger = &channel.state().ledger;
        ledger.count(self.tag, |callbacks| callbacks.handler_closed += 1);
        match ending {
            Ending::Closed { code: Some(CloseCode::NORMAL), .. } => {
                assert!(complete, "closing: a conversation is closed after {} messages", self.received);
                ledger.done.set(ledger.done.get() + 1);
            }
            Ending::Failed(violation) => panic!("messages: the server violates the protocol: {violation}"),
            Ending::Closed { .. } | Ending::Lost | _ => ledger.owed.set(ledger.owed.get() + 1),
        }
    }
}

fn serve(sim: &mut Sim<'_>) -> EngineId {
    let engine = http_engine(sim);
    let limits = Limits { head_time: PATIENCE, ..Limits::DEFAULT };
    let http = sim.engine(engine, |_poller| {
        Http::new().limits(limits).get("/ws", |request, response| upgrade(&request, response, Echo))
    });
    sim.listen(http, server(1));
    http
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let work = one_of(sim, &[10, 2, 30]).unwrap_or(10);
    let messages = one_of(sim, &[5, 1, 20]).unwrap_or(5);
    let first = serve(sim);
    let ledger = Rc::new(Ledger::default());
    ledger.owed.set(work);
    let engine = http_engine(sim);
    sim.engine(engine, |poller| {
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500), poller.0.into());
        let clients = Clients { ledger: Rc::clone(&ledger), messages, backoff, next: None };
        WebSocketClient::new(clients, MaskGenerator::new(&[1; 32])) // a test has to repeat itself
    });
    // The first server stops at a random moment, and another one takes its place.
    let (span, grace) = (a_while(sim, 2_000), a_while(sim, 500));
    let stops = sim.draw(2) == 1;
    if stops {
        sim.stop_after(first, span, grace);
    }
    let mut rounds = 0;
    let mut replaced = !stops;
    while ledger.done.get() < work {
        rounds += 1;
        if rounds == 100 {
            // From here on there are no new faults: the remaining work must complete.
            sim.heal();
        }
        assert!(rounds < 20_000, "liveness: {} of {work} conversations done", ledger.done.get());
        if !replaced && sim.has_stopped(first) {
            replaced = true;
            serve(sim);
        }
        sim.run_for(Duration::from_millis(100));
    }
    sim.finish();
    ledger.check_end(work);
}
