use core::time::Duration;

use lightcone::sim::{Reading, Script, Sim, pattern};

use super::{a_while, must_be_done, one_of, server};
use crate::echo::Echo;

pub(super) fn run(sim: &mut Sim<'_>) {
    let engine = sim.drawn_engine();
    let echo = sim.engine(engine, |_poller| Echo);
    sim.listen(echo, server(1));
    let stops = sim.draw(4) == 1;
    let tries = if stops { 20 } else { u32::MAX };
    let peers = one_of(sim, &[20, 3, 60]).unwrap_or(20);
    let spread = one_of(sim, &[200, 0, 2_000]).unwrap_or(200);
    let mut stubborn = Vec::new();
    for seed in 0..peers {
        let most = one_of(sim, &[300, 2_000, 8_000]).unwrap_or(300);
        let length = u64::from(sim.draw(most));
        let script = Script::to(server(1)).after(a_while(sim, spread));
        let script = script.send(pattern(seed, length)).expect(pattern(seed, length));
        let slowly = Reading::Slowly { bytes: 100, every: Duration::from_millis(20) };
        match sim.draw(8) {
            1 => sim.peer(script.reading(Reading::Never).pause(Duration::from_secs(100))),
            2 => sim.peer(script.half_close().reading(slowly).until_end()),
            3 => {
                let bytes = u64::from(sim.draw(most / 2));
                sim.peer(script.half_close().reset_after(bytes).until_end())
            }
            4 => sim.peer(script.reset()),
            5 => {
                let pause = a_while(sim, 100_000);
                sim.peer(script.pause(pause).half_close().until_end())
            }
            _ => {
                let peer = sim.peer(script.half_close().until_end().retry(tries, Duration::from_millis(200)));
                stubborn.push(peer);
                peer
            }
        };
    }
    if stops {
        let (after, grace) = (a_while(sim, 3_000), a_while(sim, 2_000));
        sim.stop_after(echo, after, grace);
    }
    sim.finish();
    if !stops {
        must_be_done(sim, &stubborn);
    }
}
