use core::time::Duration;

use lightcone::engine_core::Config;
use lightcone::sim::{Engine, Script, Sim, pattern};
use lightcone::{Address, Timeouts};

use super::{a_while, must_be_done, one_of, server};
use crate::echo::Echo;
use crate::relay::Relay;

pub(super) fn run(sim: &mut Sim<'_>) {
    let upstream = sim.drawn_engine();
    let echo = sim.engine(upstream, |_poller| Echo);
    sim.listen(echo, server(2));
    let drawn = sim.drawn_engine();
    let long = Some(Duration::from_mins(10));
    let timeouts = Timeouts {
        first_byte: None,
        idle: long,
        write_stall: long,
        drain: Some(Duration::from_mins(1)),
        ..Timeouts::DEFAULT
    };
    // The relay relies on blocks for all sockets, and on a mailbox with room for all messages of all links.
    let Config { sockets, output_limit, receive_blocks, .. } = drawn.config;
    let config = Config {
        timeouts,
        input_blocks: sockets,
        output_blocks: sockets * output_limit,
        receive_blocks: if receive_blocks == 0 { 0 } else { sockets },
        ..drawn.config
    };
    let engine = Engine { config, mailbox: (sockets * 3).next_power_of_two(), ..drawn };
    let to = [Address::Inet(server(9)), Address::Inet(server(2))];
    // In some seeds the first address has no listener.
    let from = usize::from(sim.draw(2) == 0);
    let relay =
        sim.engine(engine, |_poller| Relay::new(to.get(from..).unwrap_or_default().to_vec(), sockets / 2));
    sim.listen(relay, server(1));
    let peers = one_of(sim, &[10, 2, 25]).unwrap_or(10);
    let mut stubborn = Vec::new();
    for seed in 0..peers {
        let most = one_of(sim, &[300, 2_000, 6_000]).unwrap_or(300);
        let length = u64::from(sim.draw(most));
        let script = Script::to(server(1)).after(a_while(sim, 200)).may_be_cut();
        let script = script.send(pattern(seed, length)).expect(pattern(seed, length));
        match sim.draw(6) {
            1 => sim.peer(script.reset()),
            2 => {
                let bytes = u64::from(sim.draw(most / 2));
                sim.peer(script.half_close().reset_after(bytes).until_end())
            }
            _ => {
                let script = script.half_close().until_received(length).until_end();
                let peer = sim.peer(script.retry(u32::MAX, Duration::from_millis(500)));
                stubborn.push(peer);
                peer
            }
        };
    }
    sim.finish();
    must_be_done(sim, &stubborn);
}
