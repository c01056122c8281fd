//! To its peer, a connection that loses bytes must not look like one that was closed cleanly.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]

use core::convert::Infallible;
use core::time::Duration;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;

use lightcone::{Builder, Engine};
use lightcone_core::{Address, Context, Handler, Origin, Socket};

/// Does what the first byte from its peer says.
struct Obeys;

impl Handler for Obeys {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        let order = socket.bytes().first().copied();
        socket.consume_all();
        match order {
            Some(b'a') => socket.abort(),
            Some(b'c') => socket.close(),
            Some(b'p') => panic!("as asked"),
            _ => while socket.send(&[0; 4_096]).is_ok() {},
        }
    }

    fn writable(&mut self, socket: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        while socket.send(&[0; 4_096]).is_ok() {}
    }
}

fn order(what: &[u8]) -> (Engine, TcpStream) {
    let engine = Builder::new().pollers(1).start(|_| Obeys).unwrap();
    let listener = engine.listen("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.endpoint().as_inet().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.write_all(what).unwrap();
    (engine, client)
}

/// Returns what the client sees after it has read everything.
fn end_of(mut client: TcpStream) -> Result<usize, ErrorKind> {
    client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
}

#[test]
fn an_orderly_close_is_the_end() {
    let (_engine, client) = order(b"c");
    assert_eq!(end_of(client), Ok(0));
}

#[test]
fn an_abort_is_a_reset() {
    let (_engine, client) = order(b"a");
    assert_eq!(end_of(client), Err(ErrorKind::ConnectionReset));
}

#[test]
fn a_panic_of_the_handler_is_a_reset() {
    let (engine, client) = order(b"p");
    assert_eq!(end_of(client), Err(ErrorKind::ConnectionReset));
    assert_eq!(engine.shutdown(Duration::ZERO).panics(), 1);
}

#[test]
fn what_is_cut_at_the_end_of_the_grace_time_is_a_reset() {
    let (engine, client) = order(b"flood");
    let sent = || engine.handle().stats().iter().map(|poller| poller.bytes_out).sum::<u64>();
    let mut before = 0;
    for _ in 0..100 {
        sleep(Duration::from_millis(250)); // the stats may lag by 100 ms
        if before > 0 && sent() == before {
            break; // the kernel's buffers are full
        }
        before = sent();
    }
    let report = engine.shutdown(Duration::from_millis(50));
    assert!(report.bytes_lost() > 0, "{report}");
    assert_eq!(end_of(client), Err(ErrorKind::ConnectionReset));
}
