//! Runs the table of `lightcone_http::strictness`: in process in all cuttings, over every driver, and in the simulator.
#![allow(
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unwrap_used,
    reason = "as in every test: a failure is a panic"
)]

use core::time::Duration;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::{fs, thread};

use lightcone::Builder;
use lightcone::engine_core::{Config, Handler};
use lightcone::http::testing::TestServer;
use lightcone::sim::{Engine, Outcome as End, Script, Sim, check};
use lightcone_tests::streams::bounded;
use lightcone_tests::strictness::{Expected, GROUPS, Outcome, RouteKind, Row, answers, page, rows, server};
use lightcone_unix::driver::Driver;

/// Longer inputs are cut only at some places, because that takes long.
const EVERY_CUT_MAX: usize = 700;

/// A server that needs little memory, as there is one for each row.
const SMALL: Config = Config {
    sockets: 4,
    block_size: 4_096,
    input_blocks: 4,
    output_blocks: 16,
    output_limit: 8,
    receive_size: 65_536,
    receive_blocks: 1,
    timers: 4,
    ..Config::DEVICE
};

/// Sends the pieces, one after the other, and returns what the client sees.
fn in_process<H: Handler + 'static>(
    server: &mut TestServer<H>,
    row: &Row,
    pieces: &[&[u8]],
    most: usize,
) -> Expected {
    let connection = server.connect();
    server.set_piece(connection, most);
    for piece in pieces {
        server.send(connection, piece);
    }
    let open = !server.is_ended(connection);
    let mut bytes = server.receive(connection);
    let seen = answers(&bytes, row.is_head(), !open && !server.is_reset(connection));
    server.end(connection);
    assert!(server.is_ended(connection), "stuck: {}", row.class);
    bytes.extend(server.receive(connection));
    let reset = server.is_reset(connection);
    Expected { answers: seen, open, reset, at_end: answers(&bytes, row.is_head(), !reset) }
}

/// Returns the first difference in any cutting.
fn any_cutting<H: Handler + 'static>(
    server: &mut TestServer<H>,
    row: &Row,
    route: RouteKind,
) -> Option<String> {
    let bytes = row.bytes(route);
    let step = if bytes.len() <= EVERY_CUT_MAX { 1 } else { bytes.len() / 60 };
    let cuts = (1..bytes.len()).step_by(step).map(|at| (at, usize::MAX));
    [(0, usize::MAX), (0, 1), (0, 2), (0, 7)].into_iter().chain(cuts).find_map(|(at, most)| {
        let (first, rest) = bytes.split_at(at);
        let seen = in_process(server, row, &[first, rest], most);
        row.difference(route, &seen).map(|difference| format!("cut at {at}, at most {most}: {difference}"))
    })
}

#[test]
fn every_row_in_process_in_all_cuttings() {
    let mut differences = Vec::new();
    for row in rows() {
        let mut server = TestServer::with_config(server(), &SMALL);
        for route in RouteKind::ALL {
            differences.extend(any_cutting(&mut server, row, route));
        }
    }
    assert!(differences.is_empty(), "{} rows differ:\n{}", differences.len(), differences.join("\n\n"));
}

/// Sends one row over a socket, in pieces with a pause between them.
fn over_a_socket(
    address: SocketAddr,
    row: &Row,
    route: RouteKind,
    pieces: &[&[u8]],
    pause: Duration,
) -> Option<String> {
    let mut stream = bounded(TcpStream::connect(address).unwrap());
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // The server may have ended the connection already.
        if stream.write_all(piece).is_err() {
            break;
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut bytes = Vec::new();
    let reset = match stream.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{}, {}: {error}", row.class, route.path()),
    };
    let expected = row.expected(route);
    let mut at_end = answers(&bytes, row.is_head(), !reset);
    if expected.reset {
        // How much arrives before the reset is not certain, but it is not a complete response.
        assert!(at_end.iter().all(|answer| !answer.complete), "{at_end:?}");
        at_end = expected.at_end.clone();
    }
    row.difference(route, &Expected { reset, at_end, ..expected })
}

fn over<D: Driver>() {
    let engine = Builder::new().driver::<D>().pollers(1).start(|_poller| server()).unwrap();
    let address = engine.listen("127.0.0.1:0").unwrap().endpoint().as_inet().unwrap();
    let mut differences = Vec::new();
    for (row, route) in rows().flat_map(|row| RouteKind::ALL.map(|route| (row, route))) {
        let bytes = row.bytes(route);
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        differences.extend(over_a_socket(address, row, route, &[&bytes], Duration::ZERO));
        differences.extend(over_a_socket(address, row, route, &[first, rest], Duration::from_millis(1)));
        if bytes.len() <= EVERY_CUT_MAX {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            differences.extend(over_a_socket(address, row, route, &single, Duration::ZERO));
        }
    }
    engine.shutdown(Duration::from_secs(1));
    assert!(differences.is_empty(), "{} rows differ:\n{}", differences.len(), differences.join("\n\n"));
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn every_row_over_epoll() {
    over::<lightcone_epoll::Epoll>();
}

#[test]
fn every_row_over_select() {
    over::<lightcone_select::Select>();
}

#[test]
fn every_row_over_kqueue() {
    over::<lightcone_kqueue::Kqueue>();
}

/// What a scripted peer has received on its latest connection.
#[derive(Debug, Default)]
struct Received {
    connection: u32,
    bytes: Vec<u8>,
}

fn simulated(sim: &mut Sim<'_>, route: RouteKind) {
    let drawn = sim.drawn_engine();
    // The limits of the server are to decide, not those of the memory.
    let config =
        Config { block_size: drawn.config.block_size.max(1_024), receive_size: 65_536, ..drawn.config };
    let http = sim.engine(Engine { config, ..drawn }, |_poller| server());
    let address = ([10, 0, 0, 1], 80).into();
    sim.listen(http, address);
    let mut peers = Vec::new();
    for (number, row) in (0..).zip(rows()) {
        let expected = row.expected(route);
        let received = Rc::new(RefCell::new(Received::default()));
        let noted = Rc::clone(&received);
        let script =
            Script::to(address).after(Duration::from_millis(5 * number)).checked(move |connection, bytes| {
                let mut received = noted.borrow_mut();
                if received.connection != connection {
                    *received = Received { connection, bytes: Vec::new() };
                }
                received.bytes.extend_from_slice(bytes);
            });
        let script = script.send(row.bytes(route)).half_close().until_end();
        let retries = if expected.reset { 0 } else { u32::MAX };
        peers.push((row, expected, received, sim.peer(script.retry(retries, Duration::from_millis(200)))));
    }
    sim.finish();
    for (row, expected, received, peer) in peers {
        if expected.reset {
            assert_ne!(sim.outcome(peer), End::Done, "{}: a clean end", row.class);
            continue;
        }
        let at_end = answers(&received.borrow().bytes, row.is_head(), true);
        let difference = row.difference(route, &Expected { at_end, ..expected });
        assert_eq!(difference, None);
    }
}

#[test]
fn every_row_in_the_simulator() {
    for route in RouteKind::ALL {
        check(0..6, |sim| simulated(sim, route));
    }
}

/// The page of the documentation is rendered from the table. `WRITE_PAGE=1` writes it.
#[test]
fn the_documentation_is_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../http/src/strictness.md");
    if std::env::var("WRITE_PAGE").is_ok() {
        fs::write(path, page()).unwrap();
    }
    let same = fs::read_to_string(path).unwrap() == page();
    assert!(same, "http/src/strictness.md differs from the table: run this test with WRITE_PAGE=1");
}

#[test]
fn the_table_is_wide_and_says_nothing_twice() {
    assert!(rows().count() >= 300, "only {} rows", rows().count());
    for group in GROUPS {
        let classes: BTreeSet<&str> = group.rows.iter().map(|row| row.class).collect();
        assert_eq!(classes.len(), group.rows.len(), "{}: a class twice", group.title);
    }
    let mut inputs = BTreeSet::new();
    for row in rows() {
        assert!(inputs.insert(row.bytes(RouteKind::Streams)), "an input twice: {}", row.class);
    }
    let texts: BTreeSet<String> = rows().map(|row| row.outcome.to_string()).collect();
    assert!(texts.len() >= 15, "{texts:?}");
}

/// Each row notices a server that does anything else: what one row's client sees satisfies only rows with the same
/// outcome.
#[test]
fn another_outcome_is_a_difference() {
    let mut compared = 0;
    for route in RouteKind::ALL {
        for (one, other) in rows().flat_map(|one| rows().map(move |other| (one, other))) {
            let seen = one.expected(route);
            let same = seen == other.expected(route);
            assert_eq!(other.difference(route, &seen).is_none(), same);
            compared += usize::from(!same);
        }
        let served = rows().find(|row| row.outcome == Outcome::Served("abc")).unwrap().expected(route);
        for wrong in [
            Expected { open: false, ..served.clone() },
            Expected { reset: true, ..served.clone() },
            Expected { at_end: Vec::new(), ..served.clone() },
            Expected { answers: served.answers.iter().take(1).cloned().collect(), ..served.clone() },
        ] {
            let row = rows().find(|row| row.outcome == Outcome::Served("abc")).unwrap();
            assert!(row.difference(route, &wrong).is_some(), "{wrong:?}");
        }
    }
    assert!(compared > 10_000, "{compared}");
}
