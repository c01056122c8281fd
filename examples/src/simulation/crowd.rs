use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use lightcone::Timeouts;
use lightcone::engine_core::Config;
use lightcone::http::{Http, Limits};
use lightcone::sim::{Engine, Fault, Script, Sim};

use super::{a_while, http_engine, one_of, server};
use crate::echo::Echo;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// The end of each response.
const END: &[u8] = b"served\n";
/// The longest time for which [`Fault::Edge`] holds bytes back.
const HELD_BACK_MAX: Duration = Duration::from_mins(2);

pub(super) fn run(sim: &mut Sim<'_>) {
    let drawn = http_engine(sim);
    let sockets = sim.draw(4) as usize + 2;
    let after = Duration::from_millis(one_of(sim, &[100, 30, 1_000]).unwrap_or(100));
    // Nothing but an eviction ends a connection, and no socket waits for a block.
    let timeouts = Timeouts { first_byte: None, idle: None, ..Timeouts::DEFAULT };
    let config = Config { sockets, timeouts, evict_after: Some(after), input_blocks: 256, ..drawn.config };
    let engine = Engine { config, backlog: 64, ..drawn };
    let limits = Limits { head_time: Duration::from_mins(10), ..Limits::DEFAULT };
    // The order of evictions is checked only if the handler hears when its output was sent, as that of http does not.
    let echoes = sim.draw(2) == 1;
    let engine_id = if echoes {
        sim.engine(engine, |_poller| Echo)
    } else {
        sim.engine(engine, |_poller| {
            Http::new().limits(limits).get("/", |_request, response| response.text("served\n"))
        })
    };
    sim.listen(engine_id, server(1));
    // Such a connect never ends, so its client would not be served.
    sim.set_fault(Fault::Unanswered, 0);
    // In half of the runs, bytes may be held back until the next deadline of a poller, even when the faults are over.
    let held_back = if sim.draw(2) == 1 { HELD_BACK_MAX } else { Duration::ZERO };
    if held_back.is_zero() {
        sim.set_fault(Fault::Edge, 0);
    }
    let (end, length) = if echoes { (REQUEST, REQUEST.len() as u64) } else { (END, 1) };
    let clients = 12 + sim.draw(30);
    let served: Rc<Cell<u32>> = Rc::default();
    for _ in 0..clients {
        let count = Rc::clone(&served);
        let (mut current, mut received, mut is_served) = (0, Vec::new(), false);
        let (begin, rest) = REQUEST.split_at(sim.draw(20) as usize + 1);
        // Half of the clients are in the middle of a request for longer than an idle socket is safe.
        let pause = if !echoes && sim.draw(2) == 1 { 2 * after } else { Duration::ZERO };
        let script = Script::to(server(1)).after(a_while(sim, 20)).send(begin).pause(pause).send(rest);
        let script = script.until_received(length).until_end().checked(move |connection, bytes| {
            if current != connection {
                (current, received) = (connection, Vec::new());
            }
            received.extend_from_slice(bytes);
            if received.ends_with(end) && !core::mem::replace(&mut is_served, true) {
                count.set(count.get() + 1);
            }
        });
        // A request that crosses the end of its connection is repeated. The tries end some time after the server.
        sim.peer(script.may_be_cut().retry(200, Duration::from_millis(50)));
    }
    let faults = one_of(sim, &[0, 500, 3_000]).unwrap_or(0);
    sim.run_for(Duration::from_millis(faults));
    sim.heal();
    let slots = u32::try_from(engine.pollers * sockets).unwrap_or(1);
    let bound = (6 * after + Duration::from_secs(1)) * (clients / slots + 2) + held_back;
    let all = sim.run_until(bound, |_| served.get() >= clients);
    assert!(all, "liveness: {} of {clients} clients were served within {bound:?}", served.get());
    sim.stop_after(engine_id, Duration::ZERO, Duration::from_secs(1));
    sim.finish();
}
