//! A test of the records that an engine makes for the program's logger.

use core::convert::Infallible;
use core::time::Duration;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::thread;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::alone::{exit_code_with_descriptors, is_alone};
use crate::{Address, Builder, Context, Handler, Origin, Socket};

/// Keeps the records.
struct Logger(Mutex<Vec<(Level, String)>>);

static LOGGER: Logger = Logger(Mutex::new(Vec::new()));

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        assert_eq!(record.target(), "lightcone");
        self.0.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Waits for a record of this level that contains a text.
fn wait_for(level: Level, text: &str) {
    let exists =
        || LOGGER.0.lock().unwrap().iter().any(|record| record.0 == level && record.1.contains(text));
    for _ in 0..3_000 {
        if exists() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("no {level} with {text:?} in {:#?}", LOGGER.0.lock().unwrap());
}

/// Says hello, and panics when it receives something.
struct Fragile;

impl Handler for Fragile {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn open(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        socket.send(b"hello").unwrap();
    }

    fn receive(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        panic!("{} eggs are broken", 2);
    }
}

#[test]
fn an_engine_records_its_life_and_what_went_wrong() {
    const NAME: &str = "tests::records::an_engine_records_its_life_and_what_went_wrong";
    if !is_alone() {
        assert_eq!(exit_code_with_descriptors(32, NAME), Some(0));
        return;
    }
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let engine = Builder::new().pollers(1).sockets(4).start(|_poller| Fragile).unwrap();
    wait_for(Level::Info, "started 1 pollers over ");
    wait_for(Level::Warn, "40 descriptors are required, the limit is 32");
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let endpoint = listener.endpoint().clone();
    wait_for(Level::Info, &format!("listening on {endpoint}"));

    // The client takes the last descriptor, so that none is left for its connection.
    let mut taken: Vec<_> = core::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(taken.pop().is_some());
    let mut client = TcpStream::connect(endpoint.as_inet().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    wait_for(Level::Warn, &format!("cannot accept from {endpoint} now"));
    thread::sleep(Duration::from_millis(100)); // further attempts fail
    drop(taken);
    client.read_exact(&mut [0; 5]).unwrap();
    wait_for(Level::Info, &format!("accepting from {endpoint} again"));

    client.write_all(b"crash").unwrap();
    wait_for(Level::Error, "2 eggs are broken");
    engine.handle().shutdown(Duration::from_secs(7));
    wait_for(Level::Info, "shutting down within 7s");
    let report = engine.join();
    wait_for(Level::Info, &report.to_string());
    let records = LOGGER.0.lock().unwrap();
    let failures = records.iter().filter(|record| record.1.contains("cannot accept"));
    assert_eq!(failures.count(), 1, "a series of failures is one record: {records:#?}");
}
