//! Many sockets in one simulated shard.

use core::time::Duration;

use crate::common::Echo;
use lightcone_core::Config;
use lightcone_sim::{Engine, Limits, Outcome, Runner, Script, Sim};

fn many(sim: &mut Sim<'_>, sockets: usize, slots: usize) {
    let config = Config { sockets: slots, ..Engine::default().config };
    let server = sim.engine(Engine { config, backlog: 1_000, ..Engine::default() }, |_| Echo);
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    let peers: Vec<_> = (0..sockets)
        .map(|n| {
            let script = Script::to(address).after(Duration::from_micros(10 * n as u64));
            let script = script.pause(Duration::from_secs(3)).send("a line\n").receive("a line\n");
            sim.peer(script.half_close().until_end())
        })
        .collect();
    let all_open = sim.run_until(Duration::from_secs(10), |sim| sim.in_use(server) >= sockets);
    assert!(all_open, "{} of {sockets} are open", sim.in_use(server));
    let per_socket = (sim.footprint() - config.memory()) / slots;
    assert!(per_socket <= 256, "{per_socket} bytes a socket, the checks' included");
    sim.finish();
    assert!(peers.iter().all(|peer| sim.outcome(*peer) == Outcome::Done));
}

fn runner() -> Runner {
    Runner::new("scale").calm().limits(Limits { events: 20_000_000, ..Limits::default() })
}

#[test]
fn a_hundred_thousand_sockets_in_one_shard() {
    runner().run(0, &|sim| many(sim, 100_000, 100_000)).unwrap();
}

#[test]
fn ten_thousand_sockets_in_a_million_slots() {
    runner().run(0, &|sim| many(sim, 10_000, 1_000_000)).unwrap();
}
