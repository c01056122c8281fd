//! The list of all cases.

/// Expands to a `#[test]` for each case, run with the driver.
#[macro_export]
macro_rules! tests {
    ($driver:ty) => {
        $crate::tests! { $driver: transfer:
            a_stalled_reader_gets_everything
            a_stalled_unix_reader_gets_everything
            every_size_comes_back
            every_size_comes_back_over_unix
            every_size_comes_back_through_narrow_buffers
            single_bytes_come_back_in_order
            a_handler_may_consume_byte_by_byte
            bytes_that_are_left_are_kept_in_one_piece
            a_handler_that_never_consumes_pauses_its_own_socket
            pause_stops_reading_and_resume_goes_on
            both_directions_flow_at_once
            a_slow_reader_gets_everything
            many_small_sends_arrive_in_order
            a_refused_send_brings_one_writable
            a_send_beyond_the_bound_is_refused_for_good
            nothing_is_no_event
            a_client_that_reads_no_answers_is_not_read_from
        }
        $crate::tests! { $driver: ending:
            closing_a_stalled_socket_loses_nothing
            aborting_a_stalled_socket_reports_what_is_lost
            a_peer_that_says_nothing
            bytes_and_the_end_at_once
            many_bytes_and_the_end_at_once
            a_peer_that_has_ended_is_still_sent_to
            finish_ends_one_direction
            both_sides_finish
            close_sends_everything_to_a_slow_peer
            a_close_with_unread_input_keeps_the_answer
            linger_reads_until_the_peer_ends
            abort_loses_what_is_queued
            a_reset_before_the_accept
            a_reset_of_an_idle_socket
            a_reset_during_a_pause
            a_reset_with_bytes_unread
            a_reset_in_the_middle_of_a_flush
            a_reset_while_closing
            a_reset_during_a_staged_close
            a_peer_that_ends_while_we_close_gets_everything
            a_handle_closes_and_aborts
            in_open
            in_receive
            in_writable
            in_sent
            in_peer_closed
            in_timeout
            in_message
            in_shutdown
            in_close
        }
        $crate::tests! { $driver: connecting:
            ipv4_opens
            ipv6_opens
            a_missing_unix_path_is_refused
            a_dead_unix_socket_is_refused
            a_full_unix_backlog_is_waited_for
            an_impossible_address_is_refused
            a_connect_times_out
            a_late_connect_opens
            a_connect_can_be_cancelled
            a_connect_is_cancelled_at_once
            a_reset_before_the_connect_is_seen
            a_reset_right_after_the_connect
            handlers_connect
            connects_of_one_turn_are_bounded
            connects_beyond_the_sockets_are_refused
            a_connect_can_be_turned_away
            local_addresses_are_true
            a_stale_token_has_no_local_address
        }
        $crate::tests! { $driver: accepting:
            ipv4_peers_are_known
            unix_peers_carry_their_listeners_name
            abstract_unix_names_work
            listeners_take_texts_and_addresses
            a_burst_is_served_whole
            a_peer_that_is_turned_away_sees_the_end
            a_filtered_peer_sees_the_end
            peers_beyond_the_rate_see_the_end
            a_closed_listener_accepts_no_peer
            a_closed_listener_is_not_its_successor
            a_closed_listener_makes_room
            a_socket_that_listens_is_taken_over
            a_listener_can_be_passed_on
            listeners_of_several_threads_are_different
            listeners_come_and_go
            too_many_listeners_are_refused
            beyond_the_most_sockets_the_rest_wait
            a_listener_opened_without_room_loses_no_connection
            closing_at_once_makes_room_at_once
            idle_sockets_make_room
            idle_sockets_of_other_pollers_make_room
            busy_sockets_make_no_room
            families_mix
        }
        $crate::tests! { $driver: balancing:
            round_robin_goes_round
            a_burst_is_spread
            least_connections_evens_out
            least_of_two_evens_out
            hash_keeps_an_address_together
            pinned_stays
            a_full_poller_is_passed_over
            connects_are_spread
            a_listener_for_each_poller
        }
        $crate::tests! { $driver: messages:
            messages_keep_their_order
            each_message_wakes_a_sleeper
            many_threads_wake_one_poller
            a_full_mailbox_returns_the_message
            a_refused_socket_is_told_about_room
            a_socket_posts_to_itself
            a_busy_poller_publishes_its_counts
            two_pollers_play_ball
            a_broadcast_reaches_everyone_once
            a_broadcast_reaches_thousands
            what_is_published_reaches_thousands
            a_stale_token_never_reaches_the_successor
            a_token_of_another_engine_is_gone
            a_stopped_engine_is_gone
            messages_on_their_way_are_dropped_once
            many_threads_close_at_random
            a_descriptors_number_is_used_again_at_once
        }
        $crate::tests! { $driver: timing:
            nothing_comes
            a_socket_falls_silent
            a_connected_socket_falls_silent
            a_peer_takes_nothing
            a_slow_peer_is_not_stalled
            a_very_slow_peer_is_not_stalled
            a_peer_below_the_rate_is_cut_off
            a_steady_peer_of_a_full_buffer_is_not_cut
            a_close_does_not_drain
            a_staged_close_has_an_end
            deadlines_come_on_time
            deadlines_move
            no_timeouts_no_ends
            many_deadlines_at_once
        }
        $crate::tests! { $driver: announcing:
            started_is_first_and_stopping_before_shutdown
            an_engine_that_stops_at_once_has_started
            timers_fire_on_time_without_sockets
            a_timer_does_not_delay_a_stop
            a_handler_reconnects
        }
        $crate::tests! { $driver: stopping:
            a_stalled_socket_that_is_read_drains
            an_empty_engine_stops_at_once
            idle_sockets_close_in_order
            what_has_come_is_answered
            queued_output_is_sent
            a_stalled_socket_is_aborted_at_the_end_of_the_grace
            a_handler_may_go_on_within_the_grace
            a_handler_that_never_closes_is_cut_off
            a_connecting_socket_is_cancelled
            half_closed_sockets_end
            lingering_sockets_end
            a_shorter_grace_replaces_a_longer_one
            a_handler_shuts_the_engine_down
            a_handler_drops_its_engine
            a_poller_that_fails_leaves_the_others_running
            dropping_an_engine_closes_everything
            stopping_in_the_middle_of_everything
        }
        $crate::tests! { $driver: panics:
            in_open
            in_receive
            in_writable
            in_sent
            in_peer_closed
            in_timeout
            in_message
            in_shutdown
            in_close
            in_two_callbacks_of_one_socket
            in_refused
            in_admit
            in_open_of_one_of_a_burst
            in_admit_of_a_connect
            in_what_is_dropped_or_copied
            a_thousand_times
            in_the_factory
        }
        $crate::tests! { $driver: building:
            settings_out_of_range_are_named
            extreme_settings_serve
            the_defaults_serve
            an_address_in_use_is_named
            unix_paths_in_the_way
            a_unix_socket_file_goes_with_its_listener
            malformed_addresses_are_quoted
            a_failed_listen_takes_no_place
            unix_addresses_come_and_go
            a_stopping_engine_begins_nothing
            a_stopped_engine_does_not_listen
        }
        $crate::tests! { $driver: faults:
            refused_connect_is_not_opened
            sent_only_after_something_was_sent
            connect_that_completes_at_once_is_opened
            nothing_comes_after_close_in_the_same_batch
            every_callback_of_a_socket_is_on_one_thread
            stopping_closes_every_socket
            errors_and_hang_ups_are_noticed
            fresh_connection_is_served_at_once
            steady_traffic_changes_no_interest
            rumours_of_readiness_change_nothing
            peer_that_never_reads_costs_its_bound
            floods_starve_no_socket
            stuck_peers_delay_no_other
            close_sends_what_is_queued
            error_of_a_send_ends_the_socket
            idle_timeouts_are_each_sockets_own
            events_reach_their_own_sockets
            readable_is_not_writable
            ipv6_peer_addresses_are_whole
        }
        $crate::tests! { $driver: process alone:
            every_descriptor_is_closed_on_exec
            options_reach_every_socket
            no_descriptor_is_left_open
            out_of_descriptors_it_rests_and_resumes
            a_place_that_is_not_permitted
            out_of_descriptors_nothing_begins
            a_shortage_of_descriptors_is_reported
            a_shortage_of_memory_is_reported
            a_full_file_table_is_a_reason_to_rest
            aborted_connections_delay_no_other
            signals_interrupt_nothing
            a_broken_pipe_does_not_kill_the_process
            an_idle_engine_makes_no_wake_ups
            broken_sockets_do_not_spin
            ten_thousand_connections_are_served
            descriptors_beyond_a_thousand
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
    ($driver:ty: $module:ident alone: $($name:ident)*) => {
        mod $module {
            #[allow(unused_imports, reason = "the driver may be named by a full path")]
            use super::*;
            $(
                #[test]
                fn $name() {
                    let path = concat!(module_path!(), "::", stringify!($name));
                    $crate::alone::alone(path, $crate::$module::$name::<$driver>);
                }
            )*
        }
    };
}
