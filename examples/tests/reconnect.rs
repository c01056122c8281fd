//! A client whose server is restarted: over sockets, and in simulated networks with faults.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "as in every test: a failure is a panic")]
#![allow(clippy::std_instead_of_alloc, reason = "for systems that have std")]

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::thread;

use lightcone::sim::{Engine, Sim, check};
use lightcone::{Address, Builder};
use lightcone_examples::echo::Echo;
use lightcone_examples::reconnect::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// Each server is stopped when it has answered a few requests, with or without grace time, and the next one starts
/// only after the client has found none.
#[test]
fn every_request_is_answered_once_although_the_server_restarts() {
    const SERVERS: u64 = 6;
    const EACH: usize = 50;
    const ALL: u64 = SERVERS * EACH as u64;
    let start = |address: &str| {
        let engine = Builder::new().pollers(1).start(|_| Echo).unwrap();
        let listener = engine.listen(address).unwrap();
        let address = listener.endpoint().as_inet().unwrap();
        (engine, address)
    };
    let (mut server, address) = start("127.0.0.1:0");
    // the client waits until the test has taken an answer, so that it cannot be done before the last restart
    let (answered, answers) = sync_channel(0);
    let client = Builder::new().pollers(1).start(move |_| {
        let answered = answered.clone();
        Client::new(Address::Inet(address), 0..ALL, 7, move |request| {
            // the test may have failed
            let _ = answered.send(request);
        })
    });
    let client = client.unwrap();
    let mut expected = 0..ALL;
    for restarts in 1..=SERVERS {
        for request in expected.by_ref().take(EACH) {
            assert_eq!(answers.recv_timeout(PATIENCE), Ok(request));
        }
        if restarts == SERVERS {
            break;
        }
        let refused = || client.handle().stats()[0].refused;
        let before = refused();
        let report = server.shutdown(Duration::from_millis(100 * (restarts % 2)));
        assert_eq!(report.opened(), 1, "the client has connected once to each server");
        // one more answer may have been on its way, for which the client waits
        if let Ok(request) = answers.recv_timeout(Duration::from_millis(100)) {
            assert_eq!(Some(request), expected.next());
        }
        let waits = (0..).take_while(|_| refused() == before).take(6_000);
        waits.for_each(|_| thread::sleep(Duration::from_millis(10)));
        assert!(refused() > before, "the client has not tried to connect again");
        server = start(&address.to_string()).0;
    }
    assert_eq!(expected.next(), None);
    assert!(answers.recv_timeout(Duration::from_millis(100)).is_err(), "a request is answered twice");
    server.shutdown(Duration::ZERO);
    client.shutdown(Duration::ZERO);
}

fn restarting(sim: &mut Sim<'_>) {
    let address = ([10, 0, 0, 1], 7_000).into();
    let count = u64::from(1 + sim.draw(60));
    let drawn = sim.drawn_engine();
    let mut server = sim.engine(drawn, |_| Echo);
    sim.listen(server, address);
    let answers = Rc::new(RefCell::new(Vec::new()));
    let engine = Engine { pollers: 1, ..sim.drawn_engine() };
    sim.engine(engine, |poller| {
        let answers = Rc::clone(&answers);
        let answered = move |request| answers.borrow_mut().push(request);
        Client::new(Address::Inet(address), 0..count, poller.0.into(), answered)
    });
    for restarts in 0..4 {
        let (span, grace) = (sim.draw(400_000), sim.draw(300_000));
        sim.run_for(Duration::from_micros(span.into()));
        sim.stop_after(server, Duration::ZERO, Duration::from_micros(grace.into()));
        assert!(sim.run_until(Duration::from_secs(60), |sim| sim.has_stopped(server)), "server {restarts}");
        let pause = sim.draw(200_000);
        sim.run_for(Duration::from_micros(pause.into()));
        let drawn = sim.drawn_engine();
        server = sim.engine(drawn, |_| Echo);
        sim.listen(server, address);
    }
    sim.heal();
    sim.run_until(Duration::from_secs(600), |_| answers.borrow().len() as u64 == count);
    let answers = answers.borrow();
    assert!(answers.iter().copied().eq(0..count), "of {count} requests, these were answered: {answers:?}");
    drop(answers);
    sim.finish();
}

#[test]
fn every_request_is_answered_once_in_any_network() {
    check(0..200, restarting);
}
