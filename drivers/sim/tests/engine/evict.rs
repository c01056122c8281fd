//! Eviction: more clients than slots, none of which leaves by itself.

use core::cell::Cell;
use core::convert::Infallible;
use core::time::Duration;
use std::rc::Rc;

use crate::common::seeds;
use lightcone_core::{Address, CloseReason, Config, Context, Handler, Origin, Socket, Timeouts};
use lightcone_sim::{Engine, Fault, Runner, Script, Sim, check};

/// Sends lines back: those with `?` at once, others after a while, during which the socket is active.
struct Lines {
    while_active: Duration,
}

impl Handler for Lines {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        match socket.bytes() {
            [b'?', .., b'\n'] => self.answer(socket),
            [.., b'\n'] => {
                socket.set_active(true);
                socket.set_deadline(Some(cx.now() + self.while_active));
            }
            _ => {}
        }
    }

    fn timeout(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.set_active(false);
        self.answer(socket);
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.receive(socket, cx);
    }
}

impl Lines {
    fn answer(&self, socket: &mut Socket<'_, ()>) {
        let (mut input, mut output) = socket.stream.split();
        if output.send(input.bytes()).is_ok() {
            input.consume_all();
        }
    }
}

/// What the clients do, and what the engine has.
struct Crowd {
    engine: Engine,
    clients: u32,
    /// How many clients of three have a request that takes long.
    slow: u32,
    /// The time that evictions should take. Requests that take long take twice as long.
    after: Duration,
}

/// Lets the clients connect, and waits until each was served. Returns whether that is so within the bound.
fn serves_all(sim: &mut Sim<'_>, crowd: &Crowd, faults: Duration) -> bool {
    let Crowd { engine, clients, slow, after } = *crowd;
    // such a connect would never end, and its client is not served
    sim.set_fault(Fault::Unanswered, 0);
    let server = sim.engine(engine, |_| Lines { while_active: 2 * after });
    let address = ([10, 0, 0, 1], 7).into();
    sim.listen(server, address);
    let served: Rc<Cell<u32>> = Rc::default();
    for client in 0..clients {
        let line = if client % 3 < slow { "work\n" } else { "?line\n" };
        let count = Rc::clone(&served);
        let (mut begun, mut left, mut is_served) = (0, line.len(), false);
        let script = Script::to(address).after(Duration::from_micros(sim.draw(20_000).into()));
        // a line in two pieces is in the middle of something as well
        let (first, second) = line.split_at(sim.draw(3) as usize + 1);
        let pause = if sim.draw(2) == 1 { 2 * after } else { Duration::ZERO };
        let script = script.send(first).pause(pause).send(second);
        let script =
            script.until_received(line.len() as u64).until_end().checked(move |connection, bytes| {
                if begun != connection {
                    (begun, left) = (connection, line.len());
                }
                left -= bytes.len();
                if left == 0 && !core::mem::replace(&mut is_served, true) {
                    count.set(count.get() + 1);
                }
            });
        sim.peer(script.may_be_cut().retry(u32::MAX, Duration::from_millis(50)));
    }
    sim.run_for(faults);
    sim.heal();
    // at worst, all slots are taken by slow requests in each round, and clients that were cut come back
    let slots = u32::try_from(engine.pollers * engine.config.sockets).unwrap();
    let bound = (6 * after + Duration::from_secs(1)) * (clients / slots + 2);
    let all = |_: &Sim<'_>| served.get() >= clients;
    let done = sim.run_until(bound, all);
    sim.stop_after(server, Duration::ZERO, Duration::from_secs(1));
    sim.run_until(Duration::from_secs(10), |sim| sim.has_stopped(server));
    let evicted: u64 = sim.stats(server).iter().map(|it| it.closed_for(CloseReason::Evicted)).sum();
    assert!(!done || faults > Duration::ZERO || evicted >= u64::from(clients - slots.min(clients)));
    done
}

/// A small engine without timeouts, so that only evictions end a connection. Input blocks are never short.
fn drawn_crowd(sim: &mut Sim<'_>) -> Crowd {
    let drawn = sim.drawn_engine();
    let sockets = sim.draw(4) as usize + 2;
    let after = Duration::from_millis([100, 30, 1_000][sim.draw(3) as usize]);
    let timeouts = Timeouts { first_byte: None, idle: None, ..Timeouts::DEFAULT };
    let config = Config { sockets, evict_after: Some(after), timeouts, input_blocks: 256, ..drawn.config };
    let engine = Engine { config, backlog: 64, ..drawn };
    Crowd { engine, clients: 12 + sim.draw(30), slow: sim.draw(3), after }
}

#[test]
fn every_client_is_served_although_none_leaves() {
    check(seeds(200), |sim| {
        let crowd = drawn_crowd(sim);
        let faults = Duration::from_millis([0, 500, 3_000][sim.draw(3) as usize]);
        assert!(serves_all(sim, &crowd, faults), "a client was not served in time");
    });
}

/// Without eviction, or with a span that is too long, clients wait: the property above can fail.
#[test]
fn without_eviction_most_clients_wait() {
    for evict_after in [None, Some(Duration::from_mins(10))] {
        let outcome = Runner::new("evict").run(1, &|sim: &mut Sim<'_>| {
            sim.heal();
            let drawn = drawn_crowd(sim);
            let config = Config { evict_after, sockets: 2, ..drawn.engine.config };
            let crowd = Crowd { engine: Engine { config, ..drawn.engine }, clients: 40, ..drawn };
            assert!(!serves_all(sim, &crowd, Duration::ZERO));
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}
