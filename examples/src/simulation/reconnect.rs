use core::cell::Cell;
use core::convert::Infallible;
use core::time::Duration;
use std::rc::Rc;

use lightcone::sim::{Content, Sim, pattern};
use lightcone::{Address, Backoff, CloseReason, Context, ErrorKind, Handler, Origin, Socket, TimerId};

use super::{a_while, one_of, server};
use crate::echo::Echo;

/// One unit of work: a transfer to the echo server and back, over one connection.
struct Work {
    /// Bytes queued so far, and bytes that have come back.
    queued: u64,
    received: u64,
    content: Content,
}

/// The state that all pollers of the client share.
#[derive(Default)]
struct Ledger {
    /// The number of connects to be made, and of transfers that are done.
    owed: Cell<u32>,
    done: Cell<u32>,
    /// The tag of the next connect.
    tags: Cell<u64>,
}

/// A client that sends the content of each connection, and connects again after a while if it does not all come back.
struct Client {
    ledger: Rc<Ledger>,
    length: u64,
    backoff: Backoff,
    /// The timer for the next connect.
    next: Option<TimerId>,
}

impl Client {
    /// Queues as much as there is room for. For the rest it waits for `sent`, or for a while if nothing is queued
    /// because all blocks are in use. It does not wait for `writable`: while that is pending, the socket is not read,
    /// and the server does not read either while its output is blocked.
    fn push(socket: &mut Socket<'_, Work>) {
        let again = socket.now() + Duration::from_millis(5);
        let (_, mut output, work) = socket.split();
        let mut piece = [0; 200];
        loop {
            let room = output.room().min(piece.len());
            if room == 0 {
                break;
            }
            let n = work.content.read(work.queued, piece.get_mut(..room).unwrap_or_default());
            let taken = output.send_some(piece.get(..n).unwrap_or_default());
            work.queued += taken as u64;
            if taken == 0 {
                break;
            }
        }
        let waits = work.queued < work.content.length() && output.queued() == 0;
        socket.set_deadline(waits.then_some(again));
    }

    /// Makes the connects that are owed, by whichever poller. Those for which there is no room follow later.
    fn connect(&mut self, cx: &mut Context<'_, Infallible>) {
        let ledger = &self.ledger;
        while ledger.owed.get() > 0 && cx.connect(Address::Inet(server(1)), ledger.tags.get()).is_ok() {
            ledger.tags.set(ledger.tags.get() + 1);
            ledger.owed.set(ledger.owed.get() - 1);
        }
        if self.ledger.owed.get() > 0 {
            self.connect_later(cx);
        }
    }

    fn connect_later(&mut self, cx: &mut Context<'_, Infallible>) {
        if self.next.is_none() {
            let at = cx.now() + self.backoff.delay();
            self.next = cx.set_timer(at, 0).ok();
        }
    }

    fn owe(&mut self, cx: &mut Context<'_, Infallible>) {
        self.ledger.owed.set(self.ledger.owed.get() + 1);
        self.connect_later(cx);
    }
}

impl Handler for Client {
    type Data = Work;
    type Message = Infallible;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Work> {
        let Origin::Connecting { tag } = origin else { return None };
        Some(Work { queued: 0, received: 0, content: pattern(tag, self.length) })
    }

    fn started(&mut self, cx: &mut Context<'_, Infallible>) {
        self.connect(cx);
    }

    fn timer(&mut self, timer: TimerId, _: u64, cx: &mut Context<'_, Infallible>) {
        assert!(self.next.take() == Some(timer), "timers: {timer} is not the one that was set");
        self.connect(cx);
    }

    fn stopping(&mut self, cx: &mut Context<'_, Infallible>) {
        let was_set = self.next.take().map(|timer| cx.cancel_timer(timer));
        assert!(was_set != Some(false), "timers: the timer of the next connect is lost");
    }

    fn open(&mut self, socket: &mut Socket<'_, Work>, _: &mut Context<'_, Infallible>) {
        Self::push(socket);
    }

    fn sent(&mut self, socket: &mut Socket<'_, Work>, _: &mut Context<'_, Infallible>) {
        Self::push(socket);
    }

    fn timeout(&mut self, socket: &mut Socket<'_, Work>, _: &mut Context<'_, Infallible>) {
        Self::push(socket);
    }

    fn receive(&mut self, socket: &mut Socket<'_, Work>, _: &mut Context<'_, Infallible>) {
        let (mut input, _, work) = socket.split();
        while !input.bytes().is_empty() {
            let mut expected = [0; 200];
            let n = work.content.read(work.received, &mut expected).min(input.bytes().len());
            assert!(n > 0, "streams: the client received more than it sent");
            assert!(
                input.bytes().get(..n) == expected.get(..n),
                "streams: the client received a wrong byte after {}",
                work.received
            );
            work.received += n as u64;
            input.consume(n);
        }
        if work.received == self.length {
            socket.close();
        }
    }

    fn refused(&mut self, _: &mut Socket<'_, Work>, _: ErrorKind, cx: &mut Context<'_, Infallible>) {
        self.owe(cx);
    }

    fn close(&mut self, socket: &mut Socket<'_, Work>, _: CloseReason, cx: &mut Context<'_, Infallible>) {
        if socket.data.received == self.length {
            self.ledger.done.set(self.ledger.done.get() + 1);
            self.backoff.reset();
        } else {
            self.owe(cx);
        }
    }
}

pub(super) fn run(sim: &mut Sim<'_>) {
    let work = one_of(sim, &[10, 2, 30]).unwrap_or(10);
    let most = one_of(sim, &[500, 3_000]).unwrap_or(500);
    let length = 1 + u64::from(sim.draw(most));
    let first = sim.drawn_engine();
    let echo = sim.engine(first, |_poller| Echo);
    sim.listen(echo, server(1));
    let ledger = Rc::new(Ledger::default());
    ledger.owed.set(work);
    let engine = sim.drawn_engine();
    sim.engine(engine, |poller| {
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500), poller.0.into());
        Client { ledger: Rc::clone(&ledger), length, backoff, next: None }
    });
    // The first server stops at a random moment, and another one takes its place.
    let (span, grace) = (a_while(sim, 2_000), a_while(sim, 500));
    let stops = sim.draw(2) == 1;
    if stops {
        sim.stop_after(echo, span, grace);
    }
    let mut rounds = 0;
    let mut replaced = !stops;
    while ledger.done.get() < work {
        rounds += 1;
        if rounds == 100 {
            // From here on there are no new faults: the remaining work must complete.
            sim.heal();
        }
        assert!(rounds < 20_000, "liveness: {} of {work} transfers done", ledger.done.get());
        if !replaced && sim.has_stopped(echo) {
            replaced = true;
            let second = sim.drawn_engine();
            let echo = sim.engine(second, |_poller| Echo);
            sim.listen(echo, server(1));
        }
        sim.run_for(Duration::from_millis(100));
    }
    sim.finish();
}
