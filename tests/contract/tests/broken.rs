//! Mutants of a driver, each of which breaks one rule. A suite that passes one of them is broken itself.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "as in every test: a failure is a panic")]

use core::time::Duration;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::catch_unwind;

use lightcone_contract::hooked::{Hook, Hooked, retain};
use lightcone_contract::{events, interest, waiting};
use lightcone_epoll::Epoll;
use lightcone_unix::driver::{Driver, DriverError, Event, Interest, KEY_RESERVED, Readiness};
use lightcone_unix::waker::Waker;

const NOTHING: u8 = 0;
const PAUSES_KEEP_READING: u8 = 1;
const EDGE_TRIGGERED: u8 = 2;
const ROUNDS_DOWN: u8 = 3;
const WAKES_ARE_EVENTS: u8 = 4;
const FORGETS_LATE: u8 = 5;
const CUTS_KEYS: u8 = 6;
const STARVES: u8 = 7;
const CHANGES_ARE_LOST: u8 = 8;
const DEREGISTERS_NOTHING: u8 = 9;
const ERRORS_ARE_HINTS_ONLY: u8 = 10;
const READS_ONLY: u8 = 11;
const WAKES_ARE_NOT_TAKEN_BACK: u8 = 12;
const CLOSES_TWICE: u8 = 13;
const KEEPS_OLD_KEYS: u8 = 14;
const FILTERS_ARE_FLAGS: u8 = 15;
const LOSES_WAKES: u8 = 16;
const MISSES_THE_END: u8 = 17;
const TELLS_A_FEW_AT_A_TIME: u8 = 18;

/// The epoll driver with one fault, selected by `FAULT`.
type Faulty<const FAULT: u8> = Hooked<Epoll, Fault<FAULT>>;

#[derive(Debug, Default)]
struct Fault<const FAULT: u8> {
    last: Vec<u64>,
    kept: Vec<OwnedFd>,
    /// The first key registered for each descriptor number.
    keys: HashMap<RawFd, u64>,
}

impl<const FAULT: u8> Fault<FAULT> {
    fn real(interest: Interest) -> Interest {
        if FAULT == PAUSES_KEEP_READING { interest.with(Interest::READ) } else { interest }
    }

    fn falsify(&mut self, events: &mut [Event]) -> usize {
        let kept = retain(events, |event| {
            match FAULT {
                CUTS_KEYS => event.key &= u64::from(u32::MAX),
                READS_ONLY if event.readiness.is_writable() => event.readiness = Readiness::READ,
                ERRORS_ARE_HINTS_ONLY if event.readiness.contains(Readiness::ERROR) => {
                    event.readiness = Readiness::ERROR;
                }
                // kqueue's filters are the numbers -1 and -2, which have bits in common if they are taken for flags
                FILTERS_ARE_FLAGS => event.readiness |= Readiness::BOTH,
                MISSES_THE_END if event.readiness.contains(Readiness::ENDED) => return false,
                EDGE_TRIGGERED if self.last.contains(&event.key) => return false,
                _ => {}
            }
            true
        });
        self.last = events[..kept].iter().map(|event| event.key).collect();
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
        let first = *self.keys.entry(fd.as_raw_fd()).or_insert(key);
        let key = if FAULT == KEEPS_OLD_KEYS { first } else { key };
        epoll.register(fd, key, Self::real(interest))
    }

    fn modify(
        &mut self,
        epoll: &mut Epoll,
        fd: BorrowedFd<'_>,
        key: u64,
        old: Interest,
        new: Interest,
    ) -> Result<(), DriverError> {
        if FAULT == CHANGES_ARE_LOST {
            return Ok(());
        }
        epoll.modify(fd, key, Self::real(old), Self::real(new))
    }

    fn deregister(&mut self, epoll: &mut Epoll, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        if FAULT != DEREGISTERS_NOTHING {
            epoll.deregister(fd, key, Self::real(interest));
        }
    }

    fn forget(&mut self, epoll: &mut Epoll, fd: BorrowedFd<'_>, key: u64, interest: Interest) {
        if FAULT == FORGETS_LATE {
            // the duplicate keeps the socket in epoll's set when the original is closed
            self.kept.push(fd.try_clone_to_owned().unwrap());
        } else {
            epoll.forget(fd, key, interest);
        }
        if FAULT == CLOSES_TWICE {
            // SAFETY: none, which is the fault: the owner closes the descriptor, too.
            drop(unsafe { OwnedFd::from_raw_fd(fd.as_raw_fd()) });
        }
    }

    fn wait(
        &mut self,
        epoll: &mut Epoll,
        timeout: Option<Duration>,
        events: &mut [Event],
    ) -> Result<usize, DriverError> {
        let timeout = match FAULT {
            ROUNDS_DOWN => timeout.map(|it| Duration::from_millis(it.as_millis().try_into().unwrap())),
            _ => timeout,
        };
        // this alone does not starve any socket
        let fit = if FAULT == TELLS_A_FEW_AT_A_TIME { events.len().min(4) } else { events.len() };
        let events = &mut events[..fit];
        if FAULT == STARVES {
            let mut all = [Event::default(); 64];
            let count = epoll.wait(timeout, &mut all)?;
            all[..count].sort_by_key(|event| event.key);
            let count = count.min(events.len());
            events[..count].copy_from_slice(&all[..count]);
            return Ok(count);
        }
        let start = lightcone_unix::clock::Clock::now_ms();
        let count = epoll.wait(timeout, events)?;
        let early = lightcone_unix::clock::Clock::now_ms() - start < 5;
        if count == 0 && early && timeout.is_none_or(|it| it.as_millis() > 10) {
            match FAULT {
                WAKES_ARE_EVENTS => {
                    events[0] = Event { key: KEY_RESERVED, readiness: Readiness::READ };
                    return Ok(1);
                }
                WAKES_ARE_NOT_TAKEN_BACK => epoll.waker().wake(),
                _ => {}
            }
        }
        Ok(self.falsify(&mut events[..count]))
    }
}

fn fails(test: fn()) -> bool {
    catch_unwind(test).is_err()
}

#[test]
fn without_a_fault_the_suite_passes() {
    interest::each_transition_holds_from_the_next_wait::<Faulty<NOTHING>>();
    events::no_socket_is_left_out_when_the_slice_is_short::<Faulty<NOTHING>>();
    events::no_socket_is_left_out_when_the_slice_is_not_full::<Faulty<NOTHING>>();
    waiting::many_wakes_end_one_wait::<Faulty<NOTHING>>();
}

#[test]
fn faults_of_interest_are_found() {
    assert!(fails(interest::no_interest_is_silent_and_does_not_spin::<Faulty<PAUSES_KEEP_READING>>));
    assert!(fails(interest::a_reset_during_a_pause_is_reported_after_it::<Faulty<PAUSES_KEEP_READING>>));
    assert!(fails(interest::each_transition_holds_from_the_next_wait::<Faulty<CHANGES_ARE_LOST>>));
    assert!(fails(
        interest::a_deregistered_descriptor_is_silent_and_can_come_back::<Faulty<DEREGISTERS_NOTHING>>
    ));
    assert!(fails(interest::a_forgotten_descriptors_number_can_be_reused::<Faulty<FORGETS_LATE>>));
}

#[test]
fn faults_of_events_are_found() {
    assert!(fails(events::readiness_is_level_triggered::<Faulty<EDGE_TRIGGERED>>));
    assert!(fails(events::keys_come_back_with_all_their_bits::<Faulty<CUTS_KEYS>>));
    assert!(fails(events::no_socket_is_left_out_when_the_slice_is_short::<Faulty<STARVES>>));
    assert!(fails(events::both_directions_are_reported::<Faulty<READS_ONLY>>));
    assert!(fails(events::no_socket_is_left_out_when_the_slice_is_not_full::<Faulty<TELLS_A_FEW_AT_A_TIME>>));
    events::no_socket_is_left_out_when_the_slice_is_short::<Faulty<TELLS_A_FEW_AT_A_TIME>>();
}

#[test]
fn a_double_close_is_found() {
    assert!(fails(interest::a_driver_closes_no_descriptor::<Faulty<CLOSES_TWICE>>));
    interest::a_driver_closes_no_descriptor::<Faulty<NOTHING>>();
}

#[test]
fn a_stale_token_is_found() {
    assert!(fails(interest::a_number_that_comes_back_has_its_new_key::<Faulty<KEEPS_OLD_KEYS>>));
    interest::a_number_that_comes_back_has_its_new_key::<Faulty<NOTHING>>();
}

#[test]
fn filters_compared_as_bit_flags_are_found() {
    assert!(fails(events::readiness_is_level_triggered::<Faulty<FILTERS_ARE_FLAGS>>));
    assert!(fails(events::both_directions_are_reported::<Faulty<FILTERS_ARE_FLAGS>>));
}

#[test]
fn a_lost_wake_is_found() {
    assert!(fails(waiting::a_wake_before_the_wait_counts::<Faulty<LOSES_WAKES>>));
}

/// These tests wait for an event that never comes, five seconds each, so they are separate.
#[test]
fn a_missed_end_is_found() {
    assert!(fails(events::the_end_is_readable::<Faulty<MISSES_THE_END>>));
}

#[test]
fn faults_that_hide_events_are_found() {
    assert!(fails(events::a_reset_is_reported_in_each_watched_direction::<Faulty<ERRORS_ARE_HINTS_ONLY>>));
}

#[test]
fn faults_of_waiting_are_found() {
    assert!(fails(waiting::a_timeout_is_not_cut_short::<Faulty<ROUNDS_DOWN>>));
    assert!(fails(waiting::a_wake_before_the_wait_counts::<Faulty<WAKES_ARE_EVENTS>>));
    assert!(fails(waiting::many_wakes_end_one_wait::<Faulty<WAKES_ARE_NOT_TAKEN_BACK>>));
}
