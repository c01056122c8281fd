//! Measures what an event costs with many sockets: `scale SOCKETS ACTIVE ROUNDS [SLOTS]`.
//!
//! Opens `SOCKETS` sockets in one simulated shard. `ACTIVE` of them then exchange `ROUNDS` lines each with an
//! echo server. `tests/tools/scale.py` runs it under callgrind, which counts within [`measured`].
#![allow(clippy::print_stdout, reason = "this is a tool")]

use core::convert::Infallible;
use core::time::Duration;
use std::time::Instant;

use lightcone_core::{Address, Config, Context, Handler, Origin, Socket, Timeouts};
use lightcone_sim::{Engine, Limits, Runner, Script, Sim};

struct Echo;

impl Handler for Echo {
    type Data = u32;
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<u32> {
        Some(0)
    }

    fn receive(&mut self, socket: &mut Socket<'_, u32>, _: &mut Context<'_, Infallible>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }

    fn writable(&mut self, socket: &mut Socket<'_, u32>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }
}

const LINE: &str = "a line of some length, as a request may have\n";

/// Runs the measured part. Not inlined, so that callgrind finds it.
#[inline(never)]
fn measured(sim: &mut Sim<'_>, done: impl Fn(&Sim<'_>) -> bool) {
    let mut looks = 0_u32;
    sim.run_until(Duration::from_hours(1), |sim| {
        looks += 1;
        looks.is_multiple_of(1_024) && done(sim)
    });
}

#[expect(clippy::disallowed_methods, reason = "the measurement does not affect the run")]
fn now() -> Instant {
    Instant::now()
}

fn scale(sim: &mut Sim<'_>, sockets: usize, active: usize, rounds: usize, slots: usize) {
    let config = Config {
        sockets: slots,
        output_blocks: 4_096,
        input_blocks: 4_096,
        timeouts: Timeouts { idle: Some(Duration::from_hours(24)), first_byte: None, ..Timeouts::DEFAULT },
        ..Engine::default().config
    };
    let server = sim.engine(Engine { config, backlog: 1_000, ..Engine::default() }, |_| Echo);
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    let began = sim.now();
    let mut talkers = Vec::new();
    // the sockets opened last are the active ones, whose memory is not the warmest
    for n in 0..sockets {
        let mut script = Script::to(address).after(Duration::from_micros(10 * n as u64));
        if n >= sockets - active {
            // all begin when all are open
            script = script.pause(Duration::from_micros(10 * (sockets - n) as u64) + Duration::from_secs(5));
            for _ in 0..rounds {
                script = script.send(LINE).receive(LINE);
            }
            let peer = sim.peer(script.pause(Duration::from_hours(2)));
            talkers.push(peer);
        } else {
            sim.peer(script.until_end());
        }
    }
    sim.run_until(Duration::from_hours(1), |sim| sim.in_use(server) >= sockets + 16);
    let all = sim.in_use(server) - 16; // without those reserved for connects
    assert!(all == sockets, "{all} of {sockets} sockets are open");
    let wanted = (rounds * LINE.len()) as u64;
    let (before, start) = (sim.events(), now());
    measured(sim, |sim| talkers.iter().all(|peer| sim.received(*peer) == wanted));
    let (seconds, events) = (start.elapsed().as_secs_f64(), sim.events() - before);
    println!(
        "sockets {sockets} slots {slots} active {active} events {events} seconds {seconds:.3} \
         events_per_second {:.0} footprint {} simulated_ms {}",
        events as f64 / seconds,
        sim.footprint(),
        (sim.now() - began).as_millis()
    );
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|number| number.parse().ok()).collect();
    let (sockets, active, rounds, slots) = match numbers[..] {
        [sockets, active, rounds] => (sockets, active, rounds, sockets),
        [sockets, active, rounds, slots] => (sockets, active, rounds, slots),
        _ => panic!("allowed: SOCKETS ACTIVE ROUNDS [SLOTS]"),
    };
    let limits = Limits { events: u64::MAX, ..Limits::default() };
    let runner = Runner::new("scale").calm().limits(limits).shrinks(0);
    if let Err(failure) = runner.run(0, &|sim| scale(sim, sockets, active, rounds, slots)) {
        panic!("{failure}");
    }
}
