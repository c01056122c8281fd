//! Peers that read steadily, with a system that buffers far more output than they read.

use core::convert::Infallible;
use core::time::Duration;

use crate::common::seeds;
use lightcone_core::{Address, Config, Context, Handler, Origin, Socket, Timeouts};
use lightcone_sim::{Engine, Fault, Limits, Mutant, Outcome, Reading, Runner, Script, Sim, pattern};

const BODY: u64 = 40_000;
const SPAN: Duration = Duration::from_secs(2);

/// With the smallest window, a peer receives seven bytes per second.
fn runner() -> Runner {
    Runner::new("send_buffer").limits(Limits { time: Duration::from_mins(400), ..Limits::default() })
}

/// Sends a body, then closes or waits for the peer's end of stream.
struct Download {
    closes: bool,
}

impl Download {
    fn go_on(&self, socket: &mut Socket<'_, u64>) {
        let body = pattern(1, BODY);
        let (_, mut output, sent) = socket.split();
        let mut piece = [0; 512];
        while *sent < BODY {
            let n = body.read(*sent, &mut piece);
            let taken = output.send_some(&piece[..n]);
            *sent += taken as u64;
            if taken < n {
                return;
            }
        }
        if self.closes {
            socket.close();
        }
    }
}

impl Handler for Download {
    type Data = u64;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<u64> {
        Some(0)
    }

    fn receive(&mut self, socket: &mut Socket<'_, u64>, _: &mut Context<'_, Infallible>) {
        let (mut input, ..) = socket.split();
        let n = input.bytes().len();
        input.consume(n);
        self.go_on(socket);
    }

    fn writable(&mut self, socket: &mut Socket<'_, u64>, _: &mut Context<'_, Infallible>) {
        self.go_on(socket);
    }
}

/// Whether each run has a send buffer, or only those whose seed draws one.
#[derive(Clone, Copy)]
enum Buffer {
    Always,
    Drawn,
}

/// Peers that read in every half of a span, and peers that do not read.
fn downloads<T: Mutant + 'static>(
    sim: &mut Sim<'_>,
    buffer: Buffer,
    completes: Option<bool>,
    mutant: impl Fn() -> T,
) {
    for fault in [
        Fault::Reset,
        Fault::ZeroWindow,
        Fault::Unanswered,
        Fault::Refused,
        Fault::Accept,
        Fault::Unwatchable,
    ] {
        sim.set_fault(fault, 0);
    }
    let drawn = sim.draw(3) as usize;
    if let Buffer::Always = buffer {
        sim.set_send_buffer([1 << 20, 20_000, 3_000][drawn]);
    }
    let timeouts = Timeouts {
        idle: None,
        first_byte: None,
        write_stall: Some(SPAN),
        drain: Some(SPAN),
        ..Timeouts::DEFAULT
    };
    let config = Config { timeouts, ..Engine::default().config };
    let completes = completes.unwrap_or_else(|| sim.draw(2) == 1);
    let engine = Engine { completes, config, ..Engine::default() };
    let mut peers = Vec::new();
    for (number, closes) in [(1, false), (2, true)] {
        let server = sim.broken_engine(engine, move |_| Download { closes }, |_| mutant());
        let address = ([10, 0, 0, number], 7).into();
        sim.listen(server, address);
        for _ in 0..4 {
            let every = SPAN / (2 + sim.draw(6));
            let bytes = 500 + sim.draw(1_500) as usize;
            let reading = Reading::Slowly { bytes, every };
            let script = Script::to(address).send("?").expect(pattern(1, BODY)).reading(reading);
            let script = if closes { script.until_end() } else { script.until_received(BODY) };
            peers.push(sim.peer(script));
        }
        // a peer that does not read is cut: the check of timeouts verifies when
        sim.peer(Script::to(address).send("?").anything().reading(Reading::Never).pause(15 * SPAN));
    }
    sim.finish();
    for peer in peers {
        assert_eq!(sim.outcome(peer), Outcome::Done, "streams: a steady reader was cut");
    }
}

#[derive(Clone, Copy, Debug)]
struct Sound;
impl Mutant for Sound {}

#[test]
fn a_peer_that_steadily_reads_is_never_reset() {
    for completes in [false, true] {
        for seed in seeds(20) {
            let scenario = |sim: &mut Sim<'_>| downloads(sim, Buffer::Always, Some(completes), || Sound);
            if let Err(failure) = runner().run(seed, &scenario) {
                panic!("{failure}");
            }
        }
    }
}

/// Always reports the same number, as a driver that queries the wrong socket would.
#[derive(Debug)]
struct Stuck;

impl Mutant for Stuck {
    fn undelivered(&mut self, _: usize) -> usize {
        5_000
    }
}

#[test]
fn an_answer_that_is_stuck_is_noticed() {
    let scenario = |sim: &mut Sim<'_>| downloads(sim, Buffer::Always, None, || Stuck);
    let failure = (0..20).find_map(|seed| runner().shrinks(0).run(seed, &scenario).err());
    let message = failure.unwrap().message;
    assert!(message.starts_with("timers:") || message.starts_with("streams:"), "{message}");
}

/// Always reports less than before, so that no peer is ever cut.
#[derive(Debug)]
struct Hopeful(usize);

impl Mutant for Hopeful {
    fn undelivered(&mut self, _: usize) -> usize {
        self.0 -= 1;
        self.0
    }
}

#[test]
fn an_answer_that_is_always_less_is_noticed() {
    let scenario = |sim: &mut Sim<'_>| downloads(sim, Buffer::Always, None, || Hopeful(usize::MAX / 2));
    let failure = (0..20).find_map(|seed| runner().shrinks(0).run(seed, &scenario).err());
    let message = failure.unwrap().message;
    assert!(message.starts_with("timers:") || message.starts_with("liveness:"), "{message}");
}

/// The seed draws a send buffer for half of all runs, so other scenarios notice such errors as well.
#[test]
fn the_drawn_buffer_is_enough_to_notice() {
    let sound = |sim: &mut Sim<'_>| downloads(sim, Buffer::Drawn, None, || Sound);
    assert!(seeds(20).all(|seed| runner().run(seed, &sound).is_ok()));
    let stuck = |sim: &mut Sim<'_>| downloads(sim, Buffer::Drawn, None, || Stuck);
    let failure = (0..20).find_map(|seed| runner().shrinks(0).run(seed, &stuck).err());
    let message = failure.unwrap().message;
    assert!(message.starts_with("timers:") || message.starts_with("streams:"), "{message}");
}
