//! Mutants of a driver, each found by one case. A suite that passes a mutant is broken itself.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]
#![allow(clippy::disallowed_methods, reason = "a case that hangs must not hang the test")]

use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::panic::catch_unwind;

use lightcone_conformance::trace::set_patience;
use lightcone_conformance::{announcing, connecting, ending, faults, messages, process, timing, transfer};
use lightcone_contract::hooked::{Hook, Hooked, retain};
use lightcone_epoll::Epoll;
use lightcone_unix::driver::{Driver, DriverError, Event, Interest, Readiness};

const NOTHING: u8 = 0;
const NEVER_WRITABLE: u8 = 1;
const HIDES_THE_END: u8 = 2;
const MIXES_SOCKETS_UP: u8 = 3;
const LOSES_WAKES: u8 = 4;
const EDGE_TRIGGERED: u8 = 5;
const LOOKS_NOW_AND_THEN: u8 = 6;
const SPINS: u8 = 7;
const FORGETS_TIMEOUTS: u8 = 8;
const REPEATS_STALE_KEYS: u8 = 9;
const HIDES_ERRORS: u8 = 10;
const ADDS_HINTS: u8 = 11;
const KEEPS_OLD_KEYS: u8 = 12;
const FILTERS_ARE_FLAGS: u8 = 13;

/// Keys of listeners are above those of sockets.
const SOCKETS_BELOW: u64 = u64::MAX - 0xFF;

/// The epoll driver with one fault, selected by `FAULT`.
type Faulty<const FAULT: u8> = Hooked<Epoll, Fault<FAULT>>;

#[derive(Debug, Default)]
struct Fault<const FAULT: u8> {
    /// The keys of the last batch.
    last: Vec<u64>,
    /// The key of the first registered socket.
    first: Option<u64>,
    /// The keys of closed sockets.
    stale: Vec<u64>,
    /// All keys that were ever registered.
    all: Vec<u64>,
    /// The first key registered for each descriptor number.
    keys: HashMap<RawFd, u64>,
}

impl<const FAULT: u8> Fault<FAULT> {
    fn falsify(&mut self, events: &mut [Event]) -> usize {
        let all = events.iter().map(|event| event.key).collect();
        let kept = retain(events, |event| {
            let hint = |bit| event.readiness.contains(bit);
            match FAULT {
                NEVER_WRITABLE if event.readiness == Readiness::WRITE => return false,
                HIDES_THE_END if hint(Readiness::ENDED) => return false,
                // kqueue's filters are the numbers -1 and -2, which have bits in common if they are taken for flags
                FILTERS_ARE_FLAGS if event.readiness.is_writable() => event.readiness = Readiness::READ,
                HIDES_ERRORS if hint(Readiness::ERROR) => return false,
                EDGE_TRIGGERED if self.last.contains(&event.key) => return false,
                MIXES_SOCKETS_UP if event.key < SOCKETS_BELOW => event.key = self.first.unwrap(),
                _ => {}
            }
            true
        });
        self.last = all;
        kept
    }
}

impl<const FAULT: u8> Hook<Epoll> for Fault<FAULT> {
    const WAKES: bool = FAULT != LOSES_WAKES;

    fn register(
        &mut self,
        epoll: &mut Epoll,
        fd: BorrowedFd<'_>,
        key: u64,
        interest: Interest,
    ) -> Result<(), DriverError> {
        self.all.push(key);
        if key < SOCKETS_BELOW {
            self.first.get_or_insert(key);
        }
        let first = *self.keys.entry(fd.as_raw_fd()).or_insert(key);
        let key = if FAULT == KEEPS_OLD_KEYS { first } else { key };
        epoll.register(fd, key, interest)
    }

    fn forget(&mut self, epoll: &mut Epoll, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        self.stale.push(key);
        epoll.forget(fd, key, interest);
    }

    fn wait(
        &mut self,
        epoll: &mut Epoll,
        timeout: Option<Duration>,
        events: &mut [Event],
    ) -> Result<usize, DriverError> {
        let sleeps = timeout != Some(Duration::ZERO);
        let timeout = match FAULT {
            SPINS => Some(Duration::ZERO),
            FORGETS_TIMEOUTS if sleeps => None,
            LOOKS_NOW_AND_THEN if sleeps => {
                std::thread::sleep(Duration::from_millis(60));
                Some(Duration::ZERO)
            }
            _ => timeout,
        };
        let mut count = epoll.wait(timeout, events)?;
        let extra = match FAULT {
            REPEATS_STALE_KEYS => &self.stale,
            ADDS_HINTS => &self.all,
            _ => return Ok(self.falsify(&mut events[..count])),
        };
        for (event, key) in events.iter_mut().skip(count).zip(extra.iter().rev().take(64)) {
            *event = Event { key: *key, readiness: Readiness::BOTH };
            count += 1;
        }
        Ok(count)
    }
}

/// Returns whether the case fails. A case that does not end has failed, too.
fn fails(case: fn()) -> bool {
    // enough for a case that passes while other tests keep the machine busy
    set_patience(Duration::from_millis(4_000));
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(catch_unwind(case).is_err()));
    result.recv_timeout(Duration::from_secs(60)).unwrap_or(true)
}

#[test]
fn without_a_fault_the_cases_pass() {
    assert!(!fails(transfer::a_stalled_reader_gets_everything::<Faulty<NOTHING>>));
    assert!(!fails(transfer::every_size_comes_back::<Faulty<NOTHING>>));
    assert!(!fails(ending::a_peer_that_says_nothing::<Faulty<NOTHING>>));
    assert!(!fails(messages::messages_keep_their_order::<Faulty<NOTHING>>));
    assert!(!fails(messages::each_message_wakes_a_sleeper::<Faulty<NOTHING>>));
    assert!(!fails(timing::deadlines_come_on_time::<Faulty<NOTHING>>));
    assert!(!fails(faults::events_reach_their_own_sockets::<Faulty<NOTHING>>));
    assert!(!fails(faults::errors_and_hang_ups_are_noticed::<Faulty<NOTHING>>));
    assert!(!fails(process::an_idle_engine_makes_no_wake_ups::<Faulty<NOTHING>>));
}

#[test]
fn a_lost_writable_is_found() {
    assert!(fails(transfer::a_stalled_reader_gets_everything::<Faulty<NEVER_WRITABLE>>));
}

#[test]
fn a_hidden_end_is_found() {
    assert!(fails(ending::a_peer_that_says_nothing::<Faulty<HIDES_THE_END>>));
}

#[test]
fn a_hidden_error_is_found() {
    assert!(fails(faults::errors_and_hang_ups_are_noticed::<Faulty<HIDES_ERRORS>>));
}

#[test]
fn sockets_mixed_up_are_found() {
    assert!(fails(faults::events_reach_their_own_sockets::<Faulty<MIXES_SOCKETS_UP>>));
}

#[test]
fn a_lost_wake_is_found() {
    assert!(fails(messages::each_message_wakes_a_sleeper::<Faulty<LOSES_WAKES>>));
}

/// Events of a new socket come with the key of the socket that had its descriptor number before.
#[test]
fn stale_tokens_are_found() {
    assert!(fails(messages::a_descriptors_number_is_used_again_at_once::<Faulty<KEEPS_OLD_KEYS>>));
}

#[test]
fn filters_compared_as_bit_flags_are_found() {
    assert!(fails(transfer::a_stalled_reader_gets_everything::<Faulty<FILTERS_ARE_FLAGS>>));
}

#[test]
fn readiness_that_is_reported_once_is_found() {
    assert!(fails(transfer::every_size_comes_back::<Faulty<EDGE_TRIGGERED>>));
}

#[test]
fn looking_now_and_then_is_found() {
    assert!(fails(faults::fresh_connection_is_served_at_once::<Faulty<LOOKS_NOW_AND_THEN>>));
}

#[test]
fn spinning_is_found() {
    assert!(fails(process::an_idle_engine_makes_no_wake_ups::<Faulty<SPINS>>));
}

#[test]
fn a_forgotten_timeout_is_found() {
    assert!(fails(timing::deadlines_come_on_time::<Faulty<FORGETS_TIMEOUTS>>));
    assert!(fails(announcing::timers_fire_on_time_without_sockets::<Faulty<FORGETS_TIMEOUTS>>));
}

/// Readiness is a hint: sockets and listeners that are not ready may be reported, even repeatedly.
#[test]
fn wrong_hints_do_no_harm() {
    assert!(!fails(transfer::every_size_comes_back::<Faulty<ADDS_HINTS>>));
    assert!(!fails(transfer::a_stalled_reader_gets_everything::<Faulty<ADDS_HINTS>>));
    assert!(!fails(ending::bytes_and_the_end_at_once::<Faulty<ADDS_HINTS>>));
    assert!(!fails(faults::sent_only_after_something_was_sent::<Faulty<ADDS_HINTS>>));
    assert!(!fails(faults::refused_connect_is_not_opened::<Faulty<ADDS_HINTS>>));
    assert!(!fails(connecting::a_connect_times_out::<Faulty<ADDS_HINTS>>));
}

/// A driver may report stale keys: they must not reach any socket.
#[test]
fn stale_keys_reach_no_socket() {
    assert!(!fails(messages::a_stale_token_never_reaches_the_successor::<Faulty<REPEATS_STALE_KEYS>>));
    assert!(!fails(messages::a_descriptors_number_is_used_again_at_once::<Faulty<REPEATS_STALE_KEYS>>));
    assert!(!fails(faults::readable_is_not_writable::<Faulty<REPEATS_STALE_KEYS>>));
}
