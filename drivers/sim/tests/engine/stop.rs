//! The end of an engine: which events are delivered, in which order, and what is refused.

use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::time::Duration;
use std::rc::Rc;

use crate::common::{ByPost, asking_scenario, seeds, stopping_scenario};
use lightcone_core::{Address, CloseReason, Context, Event, Handler, Origin, Socket, Stats, Token};
use lightcone_sim::{Engine, Reading, Runner, Script, Sim, Unmutated, check};

#[test]
fn stops_under_every_fault() {
    check(seeds(400), stopping_scenario);
}

/// What had arrived before the stop is received, regardless of the network and the outcomes of calls.
#[test]
fn what_had_come_before_a_stop_is_received() {
    check(seeds(200), |sim| asking_scenario(sim, || Unmutated));
}

/// Posts a message to itself for each input, and records all events.
struct Recorder(Rc<RefCell<Vec<(Token, &'static str)>>>);

impl Handler for Recorder {
    type Data = ();
    type Message = ();

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, socket: &mut Socket<'_, ()>, event: Event<()>, cx: &mut Context<'_, ()>) {
        let name = event.name();
        self.0.borrow_mut().push((socket.token(), name));
        match name {
            "receive" => cx.post(socket.token(), ()).unwrap(),
            "shutdown" => socket.close(),
            _ => {}
        }
    }
}

/// What is posted in the turn in which a poller reads the stop command is delivered before the shutdown.
#[test]
fn a_shutdown_is_announced_once_and_after_messages() {
    for completes in [false, true] {
        let delivered: Rc<RefCell<Vec<_>>> = Rc::default();
        let scenario = |sim: &mut Sim<'_>| {
            let server =
                sim.engine(Engine { completes, ..Engine::default() }, |_| Recorder(Rc::clone(&delivered)));
            let address = ([10, 0, 0, 1], 7).into();
            sim.listen(server, address);
            let span = Duration::from_millis(1);
            for _ in 0..20 {
                // a connect takes 50 µs, and so do bytes: these arrive together with the stop
                let script = Script::to(address).pause(Duration::from_micros(900));
                sim.peer(script.send("a line").until_end());
            }
            sim.stop_after(server, span, Duration::from_secs(1));
            sim.finish();
        };
        Runner::new("").calm().run(0, &scenario).unwrap();
        let delivered = delivered.take();
        let of = |token| delivered.iter().filter(move |(of, _)| *of == token).map(|(_, name)| *name);
        for (token, _) in delivered.iter().filter(|(_, name)| *name == "open") {
            let all: Vec<_> = of(*token).collect();
            assert_eq!(all, ["open", "receive", "message", "shutdown", "close"], "completes: {completes}");
        }
        assert_eq!(delivered.len(), 20 * 5);
    }
}

/// Sends without end, and continues after the shutdown.
struct Endless;

impl Handler for Endless {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        while socket.stream.split().1.send_some(&[b'x'; 1_000]) > 0 {}
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, cx: &mut Context<'_, Infallible>) {
        self.open(socket, cx);
    }

    fn shutdown(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {}
}

/// With completions, each socket then has a send in flight whose cancel may complete later.
#[test]
fn what_is_open_after_the_grace_time_is_aborted() {
    for (seed, completes) in (0..20).zip([false, true].into_iter().cycle()) {
        let scenario = |sim: &mut Sim<'_>| {
            let server = sim.engine(Engine { completes, pollers: 2, ..Engine::default() }, |_| Endless);
            let address = ([10, 0, 0, 1], 7).into();
            sim.listen(server, address);
            for _ in 0..20 {
                let script = Script::to(address).reading(Reading::Never).anything();
                sim.peer(script.pause(Duration::from_secs(10)));
            }
            // the shortest grace time applies, in any order
            for (after, grace) in [(50, 3_600_000), (100, 500), (200, 3_600_000)] {
                sim.stop_after(server, Duration::from_millis(after), Duration::from_millis(grace));
            }
            sim.run_for(Duration::from_millis(599));
            assert_eq!((sim.has_stopped(server), sim.in_use(server)), (false, 20));
            sim.run_for(Duration::from_millis(2));
            assert_eq!((sim.has_stopped(server), sim.in_use(server)), (true, 0));
            let aborted = |stats: &Stats| stats.closed_for(CloseReason::Shutdown);
            assert_eq!(sim.stats(server).iter().map(aborted).sum::<u64>(), 20);
            sim.finish();
        };
        Runner::new("").calm().run(seed, &scenario).unwrap();
    }
}

/// A poller processes 256 commands per turn. If it ends in that turn, a connection that the other poller has
/// accepted is after them in the mailbox, and would be left open.
#[test]
fn what_is_left_in_a_closed_mailbox_is_refused() {
    let scenario = |sim: &mut Sim<'_>| {
        let heard: Rc<Cell<_>> = Rc::default();
        let server = sim.engine(Engine { pollers: 2, ..Engine::default() }, |poller| {
            ByPost(if poller.0 == 1 { Rc::clone(&heard) } else { Rc::default() })
        });
        let address = ([10, 0, 0, 1], 7).into();
        sim.listen(server, address);
        let span = Duration::from_millis(1);
        // a connect takes 50 µs: the later ones arrive right after the stop
        for at in [Duration::ZERO, Duration::from_micros(951)] {
            for _ in 0..20 {
                sim.peer(Script::to(address).after(at).send("a line").anything().until_end());
            }
        }
        sim.stop_after(server, span, Duration::ZERO);
        sim.run_for(span);
        let token = heard.get().unwrap();
        for _ in 0..300 {
            assert!(sim.close(server, token, true));
        }
        sim.finish();
    };
    for seed in 0..20 {
        Runner::new("").calm().run(seed, &scenario).unwrap(); // in half of them the second poller runs last
    }
}

#[test]
fn a_stop_that_finds_no_room_is_not_lost() {
    let scenario = |sim: &mut Sim<'_>| {
        let heard: Rc<Cell<_>> = Rc::default();
        let engine = Engine { mailbox: 16, ..Engine::default() };
        let server = sim.engine(engine, |_| ByPost(Rc::clone(&heard)));
        let address = ([10, 0, 0, 1], 7).into();
        sim.listen(server, address);
        sim.peer(Script::to(address).send("a line").anything().until_end());
        sim.run_for(Duration::from_millis(1));
        let token = heard.get().unwrap();
        let sent = (0..100).take_while(|_| sim.close(server, token, false)).count();
        assert_eq!(sent, 16);
        sim.stop_after(server, Duration::ZERO, Duration::ZERO);
        sim.run_for(Duration::from_millis(1));
        assert!(sim.has_stopped(server));
        sim.finish();
    };
    Runner::new("").calm().run(0, &scenario).unwrap();
}
