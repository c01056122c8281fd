//! The limits of a simulation, at and beyond their values, and the messages of failures.

use core::time::Duration;

use crate::common::{Echo, echo_scenario};
use lightcone_core::Config;
use lightcone_core::balance::Policy;
use lightcone_sim::{Engine, Limits, POLLERS_MAX, Runner, Script, Sim, check, pattern};

fn message(runner: &Runner, scenario: &dyn Fn(&mut Sim<'_>)) -> String {
    match runner.run(1, scenario) {
        Ok(_) => String::new(),
        Err(failure) => failure.message,
    }
}

#[test]
fn a_run_ends_at_its_limit_of_events() {
    let events = match Runner::new("").run(1, &echo_scenario) {
        Ok(report) => report.events,
        Err(failure) => panic!("{failure}"),
    };
    // faults end after a quarter of the events, so a run with a lower limit is a different run
    let with = |events| Runner::new("").shrinks(0).limits(Limits { events, ..Limits::default() });
    assert_eq!(message(&with(events * 5), &echo_scenario), "");
    assert!(message(&with(events / 10), &echo_scenario).starts_with("liveness: no end after"));
}

#[test]
fn a_failure_shows_the_engines_of_the_run_that_it_explains() {
    let needs_room = |sim: &mut Sim<'_>| {
        let engine = sim.drawn_engine();
        sim.engine(engine, |_| Echo);
        sim.engine(Engine::default(), |_| Echo);
        assert!(engine.config.output_limit > 1, "one block is too few");
    };
    let failure = (0..50).find_map(|seed| Runner::new("").run(seed, &needs_room).err()).unwrap();
    // all that is needed to fail is the last of the drawn limits: the shrunk run has the simplest value of the others
    let config = Config { output_limit: 1, ..Engine::default().config };
    assert_eq!(failure.engines, [Engine { config, ..Engine::default() }, Engine::default()]);
    let line = "engine 0: pollers 1, completes false, sockets 256, block_size 1024, input_blocks 256, \
                output_blocks 1024, output_limit 1, receive_size 16384, receive_blocks 64, mailbox 1024, \
                policy RoundRobin, backlog 64\nengine 1: ";
    assert!(failure.to_string().contains(line), "{failure}");
}

#[test]
fn as_many_pollers_as_there_may_be() {
    let start = |pollers: usize| {
        move |sim: &mut Sim<'_>| {
            for _ in 0..pollers {
                sim.engine(Engine::default(), |_| Echo);
            }
            sim.finish();
        }
    };
    let runner = Runner::new("").calm();
    assert_eq!(message(&runner, &start(POLLERS_MAX)), "");
    assert_eq!(message(&runner, &start(POLLERS_MAX + 1)), "more than 256 pollers in one simulation");
}

#[test]
fn every_place_is_taken_whatever_the_balancer_picks() {
    for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::LeastOfTwo, Policy::Hash] {
        let scenario = |sim: &mut Sim<'_>| {
            let config = Config { sockets: 40, ..Engine::default().config };
            let full = Engine { pollers: 3, policy, config, ..Engine::default() };
            let (clients, server, other) = (
                sim.engine(full, |_| Echo),
                sim.engine(full, |_| Echo),
                sim.engine(Engine::default(), |_| Echo),
            );
            let (address, elsewhere) = (([10, 0, 0, 1], 7).into(), ([10, 0, 0, 2], 7).into());
            sim.listen(server, address);
            sim.listen(other, elsewhere);
            sim.run_for(Duration::from_millis(1));
            for n in 0..120 {
                assert!(sim.connect(clients, elsewhere, 0), "connect {n}");
                sim.peer(Script::to(address).pause(Duration::from_secs(2)).half_close().until_end());
            }
            assert!(!sim.connect(clients, elsewhere, 0));
            sim.run_for(Duration::from_secs(1));
            let opened = |of| sim.stats(of).iter().map(|stats| stats.accepted + stats.connected).sum::<u64>();
            assert_eq!((opened(clients), opened(server), opened(other)), (120, 120, 120));
            sim.finish();
        };
        Runner::new("").calm().run(0, &scenario).unwrap();
    }
}

#[test]
fn what_cannot_be_is_named() {
    let runner = Runner::new("").calm();
    let no_choice = |sim: &mut Sim<'_>| {
        let _ = sim.draw(0);
    };
    assert_eq!(message(&runner, &no_choice), "draw(0); allowed: 1 or more");
    let twice = |sim: &mut Sim<'_>| {
        let server = sim.engine(Engine::default(), |_| Echo);
        for _ in 0..2 {
            sim.listen(server, ([10, 0, 0, 1], 7).into());
        }
    };
    assert!(message(&runner, &twice).contains("two listeners of the simulation at 10.0.0.1:7"));
    let no_mailbox = |sim: &mut Sim<'_>| {
        let _ = sim.engine(Engine { mailbox: 3, ..Engine::default() }, |_| Echo);
    };
    assert!(message(&runner, &no_mailbox).starts_with("a mailbox of 3: "));
}

#[test]
#[should_panic(expected = "replay: LIGHTCONE_SIM_SEED=0 cargo test limits::a_failure_shows_its_command")]
fn a_failure_shows_its_command() {
    check(0..10, |sim| {
        let server = sim.engine(Engine::default(), |_| Echo);
        let address = ([10, 0, 0, 1], 7).into();
        sim.listen(server, address);
        sim.peer(Script::to(address).send(pattern(1, 10)).receive(pattern(2, 10)));
        sim.finish();
    });
}

#[test]
fn a_goal_that_is_not_reached_is_named() {
    let runner =
        Runner::new("").shrinks(0).limits(Limits { time: Duration::from_secs(10), ..Limits::default() });
    let text = message(&runner, &|sim| {
        sim.must("peace", || false);
        sim.finish();
    });
    assert!(text.starts_with("liveness: not done") && text.ends_with(": peace"), "{text}");
}
