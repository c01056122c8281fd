//! The same peers leave the same traces with every driver: epoll, select, kqueue over its emulation, and the guide's
//! example driver.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]

#[path = "../../contract/tests/example_poll/driver.rs"]
mod poll;

use core::time::Duration;
use lightcone_conformance::scripts;

use lightcone_contract::hooked::{Hook, Hooked};
use lightcone_epoll::Epoll;
use lightcone_kqueue::Kqueue;
use lightcone_select::Select;
use lightcone_unix::driver::{Driver, DriverError, Event, Readiness};
use poll::Poll;

/// The scripts that need an address which a system may lack; their result is then [`scripts::ABSENT`].
const MAY_BE_ABSENT: [&str; 3] =
    ["a_connect_without_an_answer", "a_connect_when_the_engine_stops", "over_ipv6"];

/// Compares the traces of one script between drivers. `$part` must occur in the trace.
macro_rules! traces {
    ($($name:ident: $part:literal)*) => {
        $(
            #[test]
            fn $name() {
                let expected = scripts::$name::<Epoll>();
                if expected == scripts::ABSENT {
                    eprintln!("{}: skipped, as the system has no such address", stringify!($name));
                    assert!(MAY_BE_ABSENT.contains(&stringify!($name)), "the script needs no such address");
                } else {
                    assert!(expected.contains($part), "the script has not reached {:?}:\n{expected}", $part);
                }
                assert_eq!(scripts::$name::<Select>(), expected, "select differs from epoll");
                assert_eq!(scripts::$name::<Kqueue>(), expected, "kqueue differs from epoll");
                assert_eq!(scripts::$name::<Poll>(), expected, "poll differs from epoll");
            }
        )*
    };
}

traces! {
    a_silent_peer: "open peer_closed close(closed by the peer)"
    bytes_with_the_end: "bytes(10, "
    an_exchange_then_the_end: "bytes(5, "
    single_bytes: "bytes(100, "
    every_size: "bytes(25363, "
    a_large_stream: "bytes(400000, "
    an_end_before_the_answer: "open peer_closed"
    our_end_first: "message(3)"
    both_ends: "peer_closed message(3)"
    an_idle_reset: "open close(reset by the peer)"
    a_reset_after_bytes: "close(reset by the peer)"
    a_reset_after_the_end: "peer_closed close(reset by the peer)"
    a_reset_of_a_stalled_socket: "open close(reset by the peer)"
    bytes_during_a_pause: "message(5) message(6) bytes(7, "
    a_reset_during_a_pause: "message(6) close(reset by the peer)"
    a_late_reader: "message(1) close"
    an_abort_of_a_stalled_socket: "message(2) close(aborted locally)"
    a_close_with_unread_input: "close(closed locally)"
    a_staged_close: "message(4) close"
    closed_by_the_handle: "open close(aborted locally)"
    a_connect: "bytes(5, "
    a_connect_at_once: "open peer_closed close(closed by the peer)"
    refused_connects: "refused(connection refused)\nrefused(connection refused)\nrefused(connection refused)\n"
    unreachable_connects: "refused("
    a_connect_without_an_answer: "refused(timed out)"
    a_connect_when_the_engine_stops: "refused(connection aborted)"
    a_connect_that_is_reset: "open close(reset by the peer)"
    over_a_unix_socket: "bytes(5, "
    a_unix_peer_that_does_not_read: "close(reset by the peer)"
    over_ipv6: "bytes(5, "
    a_deadline: "open timeout close"
    timeouts: "close("
    a_stop: "shutdown"
    a_panic: "close(handler panicked)"
    numbers_used_again: "bytes(4, "
    nothing_at_all: "open message(9) peer_closed"
}

/// Takes an error for a loss of the driver's registration.
#[derive(Debug, Default)]
struct Mislead;

impl Hook<Epoll> for Mislead {
    fn wait(
        &mut self,
        driver: &mut Epoll,
        timeout: Option<Duration>,
        events: &mut [Event],
    ) -> Result<usize, DriverError> {
        let count = driver.wait(timeout, events)?;
        for event in &mut events[..count] {
            if event.readiness.contains(Readiness::ERROR) {
                event.readiness |= Readiness::LOST;
            }
        }
        Ok(count)
    }
}

type Misled = Hooked<Epoll, Mislead>;

/// Shows that the comparison notices a driver that serves every peer but reports one event differently.
#[test]
fn a_driver_that_reports_it_differently_is_found() {
    assert_eq!(scripts::an_exchange_then_the_end::<Misled>(), scripts::an_exchange_then_the_end::<Epoll>());
    assert_ne!(scripts::an_idle_reset::<Misled>(), scripts::an_idle_reset::<Epoll>());
}
