//! Handlers and scenarios of the simulator's own tests.
#![allow(dead_code, reason = "each test uses its part")]

use core::cell::Cell;
use core::convert::Infallible;
use core::ops::Range;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::{Address, Config, Context, Handler, Instant, Origin, Socket, TimerId, Token};
use lightcone_sim::{Engine, Fault, Mutant, Reading, Script, Sim, pattern};

/// Returns the seeds of a test that would run `all`: a fifth of them with debug assertions, where the code is slow.
/// `.ci/run test-release` runs all.
pub(crate) fn seeds(all: u64) -> Range<u64> {
    0..if cfg!(debug_assertions) { all / 5 } else { all }
}

/// Sends back its input.
pub(crate) struct Echo;

impl Handler for Echo {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
        self.go_on(socket);
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        self.go_on(socket);
    }
}

impl Echo {
    fn go_on(&mut self, socket: &mut Socket<'_, ()>) {
        if socket.peer_closed() && socket.bytes().is_empty() {
            socket.finish();
        }
    }
}

/// Sends back its input through messages to itself, and by a deadline where there was no room. It also posts
/// to the socket that last received something, which has often been closed.
pub(crate) struct ByPost(pub(crate) Rc<Cell<Option<Token>>>);

/// A game loop: a timer for each tick. It has no sockets.
pub(crate) struct Ticks {
    pub(crate) count: Rc<Cell<u64>>,
    /// When the first tick was to come, in ms.
    pub(crate) start: u64,
    pub(crate) decoy: Option<TimerId>,
}

/// The time from one tick to the next, in ms.
pub(crate) const TICK: u64 = 16;

impl Handler for Ticks {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        None
    }

    fn started(&mut self, cx: &mut Context<'_, Infallible>) {
        self.start = cx.now().as_millis() + TICK;
        assert!(cx.set_timer(cx.now() + Duration::from_millis(TICK), 0).is_ok());
    }

    /// Sets the next tick relative to the first one, so that delays do not add up, and a timer that it cancels in the
    /// next tick.
    fn timer(&mut self, _: TimerId, tick: u64, cx: &mut Context<'_, Infallible>) {
        assert!(tick < 1_000_000, "timers: a timer that was cancelled has come");
        assert!(tick == self.count.get(), "timers: tick {tick} comes after {}", self.count.get());
        self.count.set(tick + 1);
        if let Some(decoy) = self.decoy.take() {
            assert!(cx.cancel_timer(decoy), "timers: a timer is lost");
        }
        self.decoy = cx.set_timer(cx.now() + Duration::from_secs(1_000), 1_000_000).ok();
        let next = Instant::from_millis(self.start + TICK * (tick + 1));
        assert!(cx.set_timer(next, tick + 1).is_ok());
    }
}

/// Runs ticks for two seconds under faults and for two seconds without, and checks that none is missing.
pub(crate) fn ticking_scenario<T: Mutant + 'static>(sim: &mut Sim<'_>, mutant: impl Fn() -> T) {
    let count = Rc::new(Cell::new(0));
    let drawn = sim.drawn_engine();
    let engine = Engine { pollers: 1, ..drawn };
    let make = |_| Ticks { count: Rc::clone(&count), start: 0, decoy: None };
    sim.broken_engine(engine, make, |_| mutant());
    sim.run_for(Duration::from_secs(2));
    sim.heal();
    sim.run_for(Duration::from_secs(2));
    let ticks = count.get();
    assert!((240..=251).contains(&ticks), "timers: {ticks} ticks of 16 ms in 4 s");
    sim.finish();
}

/// The recipient, and the bytes to send.
type Letter = (Token, Vec<u8>);

impl ByPost {
    fn pass_on(&mut self, socket: &mut Socket<'_, Vec<u8>>, cx: &mut Context<'_, Letter>) {
        let token = socket.token();
        let (mut input, mut output, waiting) = socket.split();
        let taken = output.send_some(waiting);
        waiting.drain(..taken);
        if waiting.is_empty()
            && !input.bytes().is_empty()
            && cx.post(token, (token, input.bytes().to_vec())).is_ok()
        {
            let n = input.bytes().len();
            input.consume(n);
        }
        if !waiting.is_empty() || !input.bytes().is_empty() {
            socket.set_deadline(Some(cx.now() + Duration::from_millis(7)));
        }
    }
}

impl Handler for ByPost {
    type Data = Vec<u8>;
    type Message = Letter;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn receive(&mut self, socket: &mut Socket<'_, Vec<u8>>, cx: &mut Context<'_, Letter>) {
        if let Some(other) = self.0.replace(Some(socket.token())) {
            let _ = cx.post(other, (other, Vec::new()));
        }
        self.pass_on(socket, cx);
    }

    fn writable(&mut self, socket: &mut Socket<'_, Vec<u8>>, cx: &mut Context<'_, Letter>) {
        self.pass_on(socket, cx);
    }

    fn timeout(&mut self, socket: &mut Socket<'_, Vec<u8>>, cx: &mut Context<'_, Letter>) {
        self.pass_on(socket, cx);
    }

    fn message(
        &mut self,
        socket: &mut Socket<'_, Vec<u8>>,
        (to, bytes): Letter,
        cx: &mut Context<'_, Letter>,
    ) {
        assert_eq!(to, socket.token(), "tokens: a message reached another socket");
        socket.data.extend(bytes);
        self.pass_on(socket, cx);
    }

    /// Closes when the peer has ended its stream.
    fn peer_closed(&mut self, socket: &mut Socket<'_, Vec<u8>>, _: &mut Context<'_, Letter>) {
        socket.close();
    }
}

/// Peers of every kind at an echo server.
pub(crate) fn echo_scenario(sim: &mut Sim<'_>) {
    let engine = sim.drawn_engine();
    let server = sim.engine(engine, |_| Echo);
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    echo_peers(sim, address, 20);
    sim.finish();
}

/// The same with a mutant as driver.
pub(crate) fn broken_echo<T: Mutant + 'static>(
    sim: &mut Sim<'_>,
    completes: Option<bool>,
    mutant: impl Fn() -> T,
) {
    let engine = sim.drawn_engine();
    let engine = Engine { completes: completes.unwrap_or(engine.completes), ..engine };
    let server = sim.broken_engine(engine, |_| Echo, |_| mutant());
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    echo_peers(sim, address, 20);
    sim.finish();
}

/// Peers that come and go at a server that responds through messages, on a driver that may be a mutant.
pub(crate) fn post_scenario<T: Mutant + 'static>(sim: &mut Sim<'_>, mutant: impl Fn() -> T) {
    let heard = Rc::default();
    let engine = sim.drawn_engine();
    let server = sim.broken_engine(engine, |_| ByPost(Rc::clone(&heard)), |_| mutant());
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    for n in 0..30 {
        let length = 1 + u64::from(sim.draw(400));
        let script = Script::to(address).after(Duration::from_micros(sim.draw(100_000).into()));
        let script = script.send(pattern(n, length)).expect(pattern(n, length));
        let script = match sim.draw(3) {
            0 => script.until_received(length).retry(100, Duration::from_millis(100)),
            1 => script.reset(),
            _ => script.reset_after(length / 2),
        };
        sim.peer(script);
    }
    sim.finish();
}

/// An engine that stops while peers connect, some of which have sent more than they will ever read.
pub(crate) fn stopping_scenario(sim: &mut Sim<'_>) {
    let engine = sim.drawn_engine();
    let server = sim.engine(engine, |_| Echo);
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    if sim.draw(4) == 1 {
        sim.set_fault(Fault::Unwatchable, 10_000); // accepted connections are often held back
    }
    let (after, grace) = (u64::from(sim.draw(100)), u64::from(sim.draw(3) * sim.draw(500)));
    sim.stop_after(server, Duration::from_millis(after), Duration::from_millis(grace));
    for n in 0..40 {
        let length = u64::from(sim.draw(20_000));
        let script = Script::to(address).after(Duration::from_micros(sim.draw(150_000).into()));
        let script = script.send(pattern(n, length)).expect(pattern(n, length)).may_be_cut();
        let script = match sim.draw(3) {
            0 => script.reading(Reading::Never),
            1 => script.reading(Reading::Slowly { bytes: 100, every: Duration::from_millis(20) }),
            _ => script,
        };
        sim.peer(script.pause(Duration::from_secs(10)));
    }
    sim.finish();
    assert!(sim.has_stopped(server));
}

/// Peers that send now and then to an engine that stops meanwhile.
pub(crate) fn asking_scenario<T: Mutant + 'static>(sim: &mut Sim<'_>, mutant: impl Fn() -> T) {
    let engine = Engine { completes: false, ..sim.drawn_engine() };
    let server = sim.broken_engine(engine, |_| Echo, |_| mutant());
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    let after = 20_000 + sim.draw(60_000);
    sim.stop_after(server, Duration::from_micros(after.into()), Duration::from_secs(5));
    for n in 0..40 {
        let mut script = Script::to(address).after(Duration::from_micros(sim.draw(40_000).into())).anything();
        for _ in 0..6 {
            script = script.send(pattern(n, 40)).pause(Duration::from_micros(sim.draw(20_000).into()));
        }
        sim.peer(script.may_be_cut());
    }
    sim.finish();
    assert!(sim.has_stopped(server));
}

/// Sockets that always have output, with far fewer blocks than sockets.
pub(crate) fn contention_scenario(sim: &mut Sim<'_>) {
    let engine = sim.drawn_engine();
    let (blocks, limit) = (2 + sim.draw(6) as usize, 1 + sim.draw(3) as usize);
    let config = Config {
        sockets: 64,
        block_size: 64,
        output_blocks: blocks,
        output_limit: limit,
        input_blocks: 64,
        ..engine.config
    };
    let server = sim.engine(Engine { pollers: 1, config, ..engine }, |_| Echo);
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    for n in 0..60 {
        let length = 2_000 + u64::from(sim.draw(2_000));
        let script = Script::to(address).after(Duration::from_micros(sim.draw(1_000).into()));
        let script = script.send(pattern(n, length)).expect(pattern(n, length)).half_close();
        sim.peer(script.until_end().retry(100, Duration::from_millis(200)));
    }
    sim.finish();
}

/// Peers that come and go while sockets are closed from outside, most of which have already closed.
pub(crate) fn closing_scenario<T: Mutant + 'static>(sim: &mut Sim<'_>, mutant: impl Fn() -> T) {
    let heard: Rc<Cell<Option<Token>>> = Rc::default();
    let engine = sim.drawn_engine();
    let server = sim.broken_engine(engine, |_| ByPost(Rc::clone(&heard)), |_| mutant());
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    for n in 0..60 {
        let length = 1 + u64::from(sim.draw(400));
        let script = Script::to(address).after(Duration::from_micros(sim.draw(500_000).into()));
        let script = script.send(pattern(n, length)).receive(pattern(n, length)).half_close().until_end();
        sim.peer(script.retry(100, Duration::from_millis(100)));
    }
    for _ in 0..50 {
        let token = heard.take();
        let span = sim.draw(20_000);
        sim.run_for(Duration::from_micros(span.into()));
        if let Some(token) = token {
            let abort = sim.draw(4) == 1;
            sim.close(server, token, abort);
        }
    }
    sim.finish();
}

/// Mostly small transfers, some large ones. Some peers read slowly or never, reset the connection, or retry
/// when it is cut.
pub(crate) fn echo_peers(sim: &mut Sim<'_>, address: core::net::SocketAddr, count: u64) {
    for n in 0..count {
        let most = [300, 300, 2_000, 8_000][sim.draw(4) as usize];
        let length = u64::from(sim.draw(most));
        let script = Script::to(address).after(Duration::from_micros(sim.draw(20_000).into()));
        let script = script.send(pattern(n, length)).expect(pattern(n, length));
        let script = match sim.draw(8) {
            1 => script.reading(Reading::Never).pause(Duration::from_secs(100)),
            2 => {
                let slowly = Reading::Slowly { bytes: 100, every: Duration::from_millis(20) };
                script.half_close().reading(slowly).until_end()
            }
            3 => script.half_close().reset_after(u64::from(sim.draw(most / 2))).until_end(),
            4 => script.reset(),
            _ => script.half_close().until_end().retry(100, Duration::from_millis(200)),
        };
        sim.peer(script);
    }
}
