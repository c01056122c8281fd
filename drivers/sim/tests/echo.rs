//! The main path: a handler that sends back what comes, under every fault, over readiness and completions.
#![allow(clippy::wildcard_enum_match_arm, reason = "tests")]

use core::convert::Infallible;
use core::time::Duration;

use lightcone_core::{Address, Context, Handler, Origin, Socket};
use lightcone_sim::{Fault, Reading, Runner, Script, Sim, check, pattern};

struct Echo;

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
        if socket.peer_closed() && socket.bytes().is_empty() {
            socket.finish();
        }
    }

    fn peer_closed(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        if socket.bytes().is_empty() {
            socket.finish();
        }
    }
}

fn scenario(sim: &mut Sim<'_>) {
    let address = ([10, 0, 0, 1], 7).into();
    let engine = sim.drawn_engine();
    let server = sim.engine(engine, |_| Echo);
    sim.listen_with(server, address, engine.backlog);
    for n in 0..20_u64 {
        let length = u64::from(sim.draw(8_000));
        let seed = n;
        let script = Script::to(address)
            .after(Duration::from_micros(sim.draw(200_000).into()))
            .send(pattern(seed, length))
            .expect(pattern(seed, length))
            .half_close()
            .until_end();
        let script = match sim.draw(8) {
            1 => Script::to(address)
                .send(pattern(seed, length))
                .expect(pattern(seed, length))
                .reading(Reading::Never)
                .pause(Duration::from_secs(100)),
            2 => script.reading(Reading::Slowly { bytes: 100, every: Duration::from_millis(20) }),
            3 => script.reset_after(u64::from(sim.draw(4_000))),
            4 => Script::to(address).send(pattern(seed, length)).expect(pattern(seed, length)).reset(),
            _ => script.retry(100, Duration::from_millis(200)),
        };
        sim.peer(script);
    }
    sim.finish();
}

#[test]
fn echo_under_every_fault() {
    check(0..200, scenario);
}

#[test]
fn the_same_seed_gives_the_same_hash() {
    let runner = Runner::new("");
    for seed in 0..20 {
        let (a, b) = (runner.run(seed, &scenario).unwrap(), runner.run(seed, &scenario).unwrap());
        assert_eq!((a.hash, a.events), (b.hash, b.events));
    }
    assert_ne!(runner.run(1, &scenario).unwrap().hash, runner.run(2, &scenario).unwrap().hash);
}

#[test]
fn every_fault_comes_about() {
    let runner = Runner::new("");
    let mut counts = vec![0; Fault::ALL.len()];
    for seed in 0..50 {
        for ((_, n), sum) in runner.run(seed, &scenario).unwrap().faults.iter().zip(&mut counts) {
            *sum += n;
        }
    }
    for (fault, count) in Fault::ALL.iter().zip(&counts) {
        assert!(*count > 0, "no {}", fault.name());
    }
}
