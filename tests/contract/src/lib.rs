//! Tests of the contract that readiness drivers implement.
//!
//! The rules are listed in [`lightcone_unix::driver`]; each test names the rules that it checks. In a driver's tests:
//!
//! ```text
//! lightcone_contract::tests!(MyDriver);
//! ```
//!
//! `tests/example_poll/driver.rs` of this crate is a complete driver, which can be the starting point of a new one.
//! [`sockets`] has helpers for tests with sockets, [`hooked`] a wrapper that observes or breaks a driver.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests: a failure is a panic")]
#![allow(clippy::missing_panics_doc, reason = "a failed test panics")]

pub mod events;
pub mod hooked;
pub mod interest;
pub mod sockets;
pub mod waiting;
mod watched;

pub use watched::Watched;

/// Expands to a `#[test]` for each case, run with the driver.
#[macro_export]
macro_rules! tests {
    ($driver:ty) => {
        $crate::tests! { $driver: interest:
            each_transition_holds_from_the_next_wait
            no_interest_is_silent_and_does_not_spin
            a_reset_during_a_pause_is_reported_after_it
            waiting_to_write_is_not_disturbed_by_the_peers_end
            a_deregistered_descriptor_is_silent_and_can_come_back
            a_forgotten_descriptors_number_can_be_reused
            changes_that_cancel_out_leave_nothing
            a_driver_closes_no_descriptor
            a_forgotten_socket_with_a_duplicate_is_silent
            a_number_that_comes_back_has_its_new_key
        }
        $crate::tests! { $driver: events:
            a_new_driver_has_no_events
            keys_come_back_with_all_their_bits
            readiness_is_level_triggered
            readiness_that_another_call_has_used_up_is_not_reported
            both_directions_are_reported
            the_end_is_readable
            a_reset_is_reported_in_each_watched_direction
            a_connect_is_writable_when_it_has_ended
            a_refused_connect_is_writable
            a_listener_is_readable_while_a_connection_waits
            only_the_ready_ones_of_many_are_reported
            no_socket_is_left_out_when_the_slice_is_short
            no_socket_is_left_out_when_the_slice_is_not_full
        }
        $crate::tests! { $driver: waiting:
            a_timeout_is_not_cut_short
            zero_only_looks
            a_wake_ends_a_wait_without_a_timeout
            a_wake_before_the_wait_counts
            many_wakes_end_one_wait
            wakes_and_events_come_together
            a_waker_outlives_its_driver
            a_signal_ends_the_wait_without_events
            a_driver_moves_to_its_thread
        }
    };
    ($driver:ty: $module:ident: $($name:ident)*) => {
        mod $module {
            #[allow(unused_imports, reason = "the driver may be named by a full path")]
            use super::*;
            $(
                #[test]
                fn $name() {
                    $crate::$module::$name::<$driver>();
                }
            )*
        }
    };
}
