// Mutants of core, each of which the simulator must notice. They were derived from core's sources, before the
// author examined what the simulator checks.
//
// A mutant is a textual change. In `replace`, `MUTATED` means "this mutant is active": all mutants are built
// into one program, and `examples/mutants.rs` activates them one at a time.

/// One mutant.
pub(crate) struct Mutant {
    /// The name.
    pub(crate) name: &'static str,
    /// The file, relative to the root of the repository.
    pub(crate) file: &'static str,
    /// A text that occurs in it exactly once.
    pub(crate) find: &'static str,
    /// The replacement.
    pub(crate) replace: &'static str,
}

const fn error(file: &'static str, name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file, find, replace }
}

/// All mutants, by file.
pub(crate) const MUTANTS: &[Mutant] = &[
    error(
        "core/src/slot.rs",
        "filled_outlives_its_receive",
        "self.flags.clear(Flags::SILENT.with(Flags::FILLED));",
        "self.flags.clear(if MUTATED { Flags::SILENT } else { Flags::SILENT.with(Flags::FILLED) });",
    ),
    error(
        "core/src/connection.rs",
        "stalled_outlives_a_send",
        "control.flags.clear(Flags::IN_FLIGHT.with(Flags::STALLED));",
        "control.flags.clear(if MUTATED { Flags::IN_FLIGHT } else { Flags::IN_FLIGHT.with(Flags::STALLED) });",
    ),
    error(
        "core/src/slot.rs",
        "reads_while_writable_is_pending",
        "        self.chain.armed || ",
        "        (self.chain.armed && !MUTATED) || ",
    ),
    error(
        "core/src/slot.rs",
        "reads_while_paused",
        "self.flags.has(Flags::PAUSED) ||",
        "(self.flags.has(Flags::PAUSED) && !MUTATED) ||",
    ),
    error(
        "core/src/slot.rs",
        "reads_before_a_granted_writable",
        " self.pending.has(Pending::WRITABLE)\n",
        " (self.pending.has(Pending::WRITABLE) && !MUTATED)\n",
    ),
    error(
        "core/src/connection/events.rs",
        "writable_that_was_overtaken",
        "control.chain.armed |= !control.chain.is_low(most);",
        "control.chain.armed |= !control.chain.is_low(most) && !MUTATED;",
    ),
    error(
        "core/src/connection.rs",
        "held_back_after_a_send",
        "control.chain.set_hold(WritableGate::None);\n        if control.chain.armed",
        "if !MUTATED {\n control.chain.set_hold(WritableGate::None);\n }\n        if control.chain.armed",
    ),
    error(
        "core/src/connection.rs",
        "sent_is_no_progress",
        "            control.seen = now;\n        }\n        if control.chain.is_empty()",
        "            if !MUTATED {\n control.seen = now;\n }\n        }\n        if control.chain.is_empty()",
    ),
    error(
        "core/src/connection/fast_path.rs",
        "received_is_no_progress",
        "stats.bytes_in += length as u64;\n        control.seen = now;",
        "stats.bytes_in += length as u64;\n        if !MUTATED {\n control.seen = now;\n }",
    ),
    error(
        "core/src/connection.rs",
        "stall_begins_anew",
        "if !control.flags.has(Flags::STALLED) {\n            control.flags.set(",
        "if MUTATED || !control.flags.has(Flags::STALLED) {\n            control.flags.set(",
    ),
    error(
        "core/src/connection.rs",
        "peer_end_is_lost_while_finishing",
        "        if was_live {\n            control.pending",
        "        if was_live && !(MUTATED && !control.state.is_live()) {\n            control.pending",
    ),
    error(
        "core/src/connection/settle.rs",
        "last_news_are_lost",
        "control.pending.has(Pending::PEER_CLOSED) { Pending::LAST }",
        "control.pending.has(Pending::PEER_CLOSED) && !MUTATED { Pending::LAST }",
    ),
    error(
        "core/src/connection.rs",
        "message_before_what_is_due",
        "        self.deliver(handler, cx);\n        if !self",
        "        if !MUTATED {\n self.deliver(handler, cx);\n }\n        if !self",
    ),
    error(
        "core/src/connection/settle.rs",
        "local_instead_of_peer",
        "let orderly = if self.control().flags.has(Flags::PEER_ENDED) {",
        "let orderly = if self.control().flags.has(Flags::PEER_ENDED) && !MUTATED {",
    ),
    error(
        "core/src/connection/settle.rs",
        "rest_kept_from_a_byte_before",
        ".get(consumed..).unwrap_or_default();",
        ".get(consumed.saturating_sub(usize::from(MUTATED))..).unwrap_or_default();",
    ),
    error(
        "core/src/connection/settle.rs",
        "lost_bytes_miscounted",
        "bytes_lost += control.chain.queued() as u64;",
        "bytes_lost += control.chain.queued().saturating_sub(usize::from(MUTATED)) as u64;",
    ),
    error(
        "core/src/connection/settle.rs",
        "lost_bytes_look_whole",
        "|| !control.chain.is_empty();\n        control.chain.clear",
        "|| (!control.chain.is_empty() && !MUTATED);\n        control.chain.clear",
    ),
    error(
        "core/src/connection/settle.rs",
        "stands_in_no_line_for_input",
        "} else if !room && control.state.reads()",
        "} else if !MUTATED && !room && control.state.reads()",
    ),
    error(
        "core/src/slot.rs",
        "fast_path_forgets_writable",
        "            && !self.chain.armed\n",
        "            && (!self.chain.armed || MUTATED)\n",
    ),
    error(
        "core/src/slot.rs",
        "fast_path_forgets_what_is_kept",
        "asked | self.kept.bits() |",
        "asked | if MUTATED { 0 } else { self.kept.bits() } |",
    ),
    error(
        "core/src/connection.rs",
        "put_off_for_ever",
        "        self.keep_fresh();\n        self.shard.queue(self.index);",
        "        self.keep_fresh();\n        if !MUTATED {\n self.shard.queue(self.index);\n }",
    ),
    error(
        "core/src/slot.rs",
        "shut_before_all_is_sent",
        "State::Finishing | State::PreLinger if self.chain.is_empty() =>",
        "State::Finishing | State::PreLinger if MUTATED || self.chain.is_empty() =>",
    ),
    error(
        "core/src/connection/settle.rs",
        "close_with_unread_input_at_once",
        "(asked.has(Requests::CLOSE) && unread)",
        "(asked.has(Requests::CLOSE) && unread && !MUTATED)",
    ),
    error(
        "core/src/connection/events.rs",
        "sent_that_was_overtaken",
        "Pending::SENT => !control.chain.is_empty(),",
        "Pending::SENT => !MUTATED && !control.chain.is_empty(),",
    ),
    error(
        "core/src/connection.rs",
        "received_bytes_not_counted",
        "self.shard.stats.bytes_in += bytes.len() as u64;",
        "self.shard.stats.bytes_in += if MUTATED { 0 } else { bytes.len() as u64 };",
    ),
    error(
        "core/src/connection/fast_path.rs",
        "sent_bytes_not_counted",
        " stats.bytes_out += offered as u64;\n",
        " stats.bytes_out += if MUTATED { 0 } else { offered as u64 };\n",
    ),
    error(
        "core/src/connection.rs",
        "low_water_late",
        "|| !control.chain.is_low(most) ||",
        "|| !control.chain.is_low(most - usize::from(MUTATED)) ||",
    ),
    error(
        "core/src/poller/turn.rs",
        "full_wait_fires_timers",
        "self.shard.hold_timers();",
        "if !MUTATED {\n self.shard.hold_timers();\n }",
    ),
    error(
        "core/src/shard.rs",
        "stale_token_accepted",
        "            && self.shared.token.at(index, slot.control.generation) == token",
        "            && (MUTATED || self.shared.token.at(index, slot.control.generation) == token)",
    ),
    error(
        "core/src/shard.rs",
        "generation_stays",
        "generation.wrapping_add(1)",
        "generation.wrapping_add(u32::from(!MUTATED))",
    ),
    error(
        "core/src/shard.rs",
        "twice_in_the_ready_queue",
        "self.ready.push(&mut self.slots, index);",
        "self.ready.push(&mut self.slots, index);\n            if MUTATED {\n self.slots.get_mut(index).into_iter().for_each(|slot| slot.control.flags.clear(Flags::QUEUED));\n }",
    ),
    error(
        "core/src/shard.rs",
        "retired_cuts_the_ready_queue",
        "ControlBlock { next, ..ControlBlock::free",
        "ControlBlock { next: if MUTATED { 0 } else { next }, ..ControlBlock::free",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "last_block_is_not_given",
        "self.free.available > self.free.granted",
        "self.free.available > self.free.granted + u32::from(MUTATED)",
    ),
    error(
        "core/src/shard/waiting.rs",
        "one_has_its_chance",
        "self.wait_queues.returned = self.output.returned();\n            self.wait_queues.unserved = self.wait_queues.output.len();",
        "self.wait_queues.returned = self.output.returned();\n            self.wait_queues.unserved = if MUTATED { 1 } else { self.wait_queues.output.len() };",
    ),
    error(
        "core/src/shard/timing.rs",
        "timeouts_a_tick_early",
        "millis_ceil(span) as u32 + 1",
        "millis_ceil(span) as u32 + u32::from(!MUTATED)",
    ),
    error(
        "core/src/shard/timing.rs",
        "idle_two_ticks_late",
        "at(control.seen, self.idle,",
        "at(control.seen, self.idle + if MUTATED && self.idle > 0 { 2 } else { 0 },",
    ),
    error(
        "core/src/shard/timing.rs",
        "linger_as_drain",
        "at(control.seen, self.linger, TimerKind::Linger)",
        "at(control.seen, if MUTATED { self.drain } else { self.linger }, TimerKind::Linger)",
    ),
    error(
        "core/src/shard/timing.rs",
        "connect_as_idle",
        "at(control.seen, self.connect,",
        "at(control.seen, if MUTATED { self.idle } else { self.connect },",
    ),
    error(
        "core/src/shard/timing.rs",
        "first_byte_named_idle",
        "engine(Timeout::FirstByte)",
        "engine(if MUTATED { Timeout::Idle } else { Timeout::FirstByte })",
    ),
    error(
        "core/src/shard/timing.rs",
        "active_is_ignored",
        "} else if control.flags.has(Flags::ACTIVE) &&",
        "} else if !MUTATED && control.flags.has(Flags::ACTIVE) &&",
    ),
    error(
        "core/src/shard/timing.rs",
        "earlier_is_not_filed",
        "if filed.is_some_and(|filed| at_or_before(filed, at)) {",
        "if filed.is_some_and(|filed| MUTATED || at_or_before(filed, at)) {",
    ),
    error(
        "core/src/shard/timing.rs",
        "latest_instead_of_earliest",
        "if at_or_before(a.0, b.0) { a } else { b }",
        "if at_or_before(a.0, b.0) != MUTATED { a } else { b }",
    ),
    error(
        "core/src/connection/settle.rs",
        "local_instead_of_shutdown",
        "} else if self.shard.shared.stopping {\n            CloseReason::Shutdown",
        "} else if self.shard.shared.stopping && !MUTATED {\n            CloseReason::Shutdown",
    ),
    error(
        "core/src/shard.rs",
        "opened_at_no_time",
        "slot.control.seen = now;\n            slot.control.pending.set(Pending::OPEN);",
        "if !MUTATED {\n slot.control.seen = now;\n }\n            slot.control.pending.set(Pending::OPEN);",
    ),
    error(
        "core/src/shard/timing.rs",
        "deadline_stays_set",
        "slot.control.flags.clear(Flags::DEADLINE);\n                slot.control.pending.set(Pending::TIMEOUT);",
        "if !MUTATED {\n slot.control.flags.clear(Flags::DEADLINE);\n }\n                slot.control.pending.set(Pending::TIMEOUT);",
    ),
    error(
        "core/src/shard.rs",
        "sleeps_with_blocks_to_give",
        "if self.ready.len() > 0 || self.can_serve_waiters() {",
        "if self.ready.len() > 0 || (self.can_serve_waiters() && !MUTATED) {",
    ),
    error(
        "core/src/shard/waiting.rs",
        "grant_is_kept_for_ever",
        "Waiting::Granted | Waiting::GrantedAll => self.output.remove_waiter(waiting),",
        "Waiting::Granted | Waiting::GrantedAll if MUTATED => {}\n            Waiting::Granted | Waiting::GrantedAll => self.output.remove_waiter(waiting),",
    ),
    error(
        "core/src/shard/timing.rs",
        "no_look_at_what_is_undelivered",
        "if looks && self.asks {",
        "if looks && self.asks && !MUTATED {",
    ),
    error(
        "core/src/slot.rs",
        "drain_begins_at_the_last_progress",
        "if begins && from",
        "if begins && !(MUTATED && to == State::Draining) && from",
    ),
    error(
        "core/src/slot.rs",
        "linger_begins_with_parting",
        "|| to == State::Lingering {",
        "|| (to == State::Lingering && !MUTATED) {",
    ),
    error(
        "core/src/slot.rs",
        "last_reason_wins",
        "if orderly && self.state",
        "if (orderly || MUTATED) && self.state",
    ),
    error(
        "core/src/timer.rs",
        "list_forgets_its_earliest",
        "if next == 0 || at_or_before(due, *earliest) {",
        "if next == 0 || (at_or_before(due, *earliest) && !MUTATED) {",
    ),
    error(
        "core/src/timer.rs",
        "wheel_forgets_its_soonest",
        "if self.filed == 1 || at_or_before(due, self.soonest) {",
        "if self.filed == 1 || (at_or_before(due, self.soonest) && !MUTATED) {",
    ),
    error(
        "core/src/socket.rs",
        "idle_runs_on_after_active",
        "if !first_byte && !write_stall {",
        "if !first_byte && !write_stall && !MUTATED {",
    ),
    error(
        "core/src/socket.rs",
        "deadline_before_still_comes",
        "self.control.pending.clear(Pending::TIMEOUT); //",
        "if !MUTATED {\n self.control.pending.clear(Pending::TIMEOUT);\n } //",
    ),
    error(
        "core/src/socket.rs",
        "deadline_is_not_filed",
        "self.control.flags.set(Flags::DEADLINE.with(Flags::TIMES));",
        "self.control.flags.set(if MUTATED { Flags::DEADLINE } else { Flags::DEADLINE.with(Flags::TIMES) });",
    ),
    error(
        "core/src/buffer/output.rs",
        "low_water_early",
        "self.blocks as usize * 2 <= most\n",
        "self.blocks as usize * 2 <= most + if MUTATED { 2 } else { 0 }\n",
    ),
    error(
        "core/src/buffer/output.rs",
        "a_block_above_the_bound",
        "if self.chain.blocks >= self.most\n",
        "if self.chain.blocks >= self.most + u16::from(MUTATED)\n",
    ),
    error(
        "core/src/buffer/output.rs",
        "rewind_keeps_blocks",
        "self.chain.blocks.checked_sub(before.blocks)",
        "(if MUTATED { Some(0) } else { self.chain.blocks.checked_sub(before.blocks) })",
    ),
    error(
        "core/src/buffer/output.rs",
        "unused_block_is_leaked",
        "                pool.take_back(block);\n                block = next;\n            }\n            self.empty",
        "                if !MUTATED {\n pool.take_back(block);\n }\n                block = next;\n            }\n            self.empty",
    ),
    error(
        "core/src/buffer/output.rs",
        "refused_without_writable",
        "                self.refuse();\n            }\n            return Err(Full);",
        "                if !MUTATED {\n self.refuse();\n }\n            }\n            return Err(Full);",
    ),
    error(
        "core/src/buffer/output.rs",
        "sent_block_is_leaked",
        "pool.release(first);",
        "if !MUTATED {\n pool.release(first);\n }",
    ),
    error(
        "core/src/buffer/output.rs",
        "empty_first_block_stays",
        "            if n < here {",
        "            if n < here || (MUTATED && n == here) {",
    ),
    error(
        "core/src/buffer/input.rs",
        "kept_bytes_are_not_moved",
        "block.copy_within(kept.start as usize..kept.end as usize, 0);",
        "if !MUTATED {\n block.copy_within(kept.start as usize..kept.end as usize, 0);\n }",
    ),
    error(
        "core/src/buffer/input.rs",
        "input_room_a_byte_short",
        "whole.saturating_sub(kept.len())",
        "whole.saturating_sub(kept.len() + usize::from(MUTATED && !kept.is_empty()))",
    ),
    error(
        "core/src/buffer/input.rs",
        "small_block_is_given_back_twice",
        "self.small.lend().release(kept.block - 1);",
        "self.small.lend().release(kept.block - 1);\n        if MUTATED {\n self.small.lend().release(kept.block - 1);\n }",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "taken_back_looks_returned",
        "self.free.returned = self.free.returned.wrapping_sub(1);",
        "if !MUTATED {\n self.free.returned = self.free.returned.wrapping_sub(1);\n }",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "blocks_for_whoever_asks_first",
        "(held == 0 && free <= others)",
        "(held == 0 && free <= others && !MUTATED)",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "first_block_before_waiting_sockets",
        "self.available > self.set_aside",
        "self.available > if MUTATED { 0 } else { self.set_aside }",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "no_reserve_for_others",
        "free.saturating_sub(self.reserve)",
        "free.saturating_sub(if MUTATED { 0 } else { self.reserve })",
    ),
    error(
        "core/src/wait_queue.rs",
        "queue_is_served_from_its_end",
        "self.first.checked_sub(1)",
        "(if MUTATED { self.last } else { self.first }).checked_sub(1)",
    ),
    error(
        "core/src/life.rs",
        "lingers_after_the_peers_end",
        "            Transition::PeerEnd | Transition::Abort | Transition::Fail | Transition::Expire => {\n",
        "            Transition::PeerEnd if MUTATED => Same,\n            Transition::PeerEnd | Transition::Abort | Transition::Fail | Transition::Expire => {\n",
    ),
    error(
        "core/src/life.rs",
        "peer_end_while_finishing_drops_the_queue",
        "            Transition::PeerEnd => To(State::Draining),\n            Transition::Finish => Same,",
        "            Transition::PeerEnd if MUTATED => To(State::Closed),\n            Transition::PeerEnd => To(State::Draining),\n            Transition::Finish => Same,",
    ),
    error(
        "core/src/poller/group.rs",
        "accepts_while_full",
        ".get() < self.group.sockets;",
        ".get() < self.group.sockets + u32::from(MUTATED);",
    ),
    error(
        "core/src/poller/turn/accepting.rs",
        "seat_kept_for_one_turned_away",
        "let Ok(token) = admitted else { return self.io.transport.reject(connection) };",
        "let Ok(token) = admitted else {\n if MUTATED {\n core::mem::forget(permit);\n }\n return self.io.transport.reject(connection);\n };",
    ),
    error(
        "core/src/poller/turn.rs",
        "seat_kept_for_one_cut",
        "self.io.membership.release();",
        "if !(MUTATED && self.shard.needs_reset()) {\n self.io.membership.release();\n }",
    ),
    error(
        "core/src/poller/turn/accepting.rs",
        "held_connection_is_forgotten",
        "self.acceptor.held = Some(accepted);\n",
        "if MUTATED {\n core::mem::forget(accepted);\n } else {\n self.acceptor.held = Some(accepted);\n }\n",
    ),
    error(
        "core/src/poller/turn/mail.rs",
        "messages_change_places",
        "Some(Envelope::Post(token, message)) => self.deliver(token, message),",
        "Some(Envelope::Post(token, message)) => {\n if MUTATED && let Some(Envelope::Post(token, message)) = self.io.membership.next_envelope() {\n self.deliver(token, message);\n }\n self.deliver(token, message);\n }",
    ),
    error(
        "core/src/poller/turn/end.rs",
        "longer_grace_wins",
        "until.min(*deadline)",
        "if MUTATED { until.max(*deadline) } else { until.min(*deadline) }",
    ),
    error(
        "core/src/poller/turn/end.rs",
        "every_other_is_told_of_the_stop",
        "announce_from: next.map(|token| token.index() + 1) };",
        "announce_from: next.map(|token| token.index() + 1 + u32::from(MUTATED)) };",
    ),
    error(
        "core/src/poller/turn/end.rs",
        "no_last_look",
        "for _ in 0..LAST_LOOKS {",
        "for _ in 0..if MUTATED { 0 } else { LAST_LOOKS } {",
    ),
    error(
        "core/src/poller/turn/end.rs",
        "no_last_accept",
        "let turns = if grace.is_zero()",
        "let turns = if MUTATED || grace.is_zero()",
    ),
    error(
        "core/src/poller/turn/mail.rs",
        "broadcast_reaches_every_other",
        "broadcast.from = token.index() + 1;",
        "broadcast.from = token.index() + 1 + u32::from(MUTATED);",
    ),
    error(
        "core/src/poller/turn.rs",
        "interest_in_writing_is_lost",
        "&& self.io.interest(token) == Some(interest)",
        "&& self.io.interest(token).is_some_and(|old| old == interest || (MUTATED && old.reads() == interest.reads()))",
    ),
    error(
        "core/src/poller/turn.rs",
        "stopping_is_forgotten",
        "if self.announced == Announced::Start && self.phase != Phase::Running {",
        "if self.announced == Announced::Start && self.phase != Phase::Running && !MUTATED {",
    ),
    error(
        "core/src/poller/turn.rs",
        "a_turn_calls_one_timer",
        "{ TIMERS_A_TURN } else { 0 };",
        "{ if MUTATED { 1 } else { TIMERS_A_TURN } } else { 0 };",
    ),
    error(
        "core/src/poller/io.rs",
        "a_timer_does_not_wake_its_poller",
        "self.alarm = self.alarm.min(Timers::due(self.now, at));",
        "self.alarm = if MUTATED { self.alarm } else { self.alarm.min(Timers::due(self.now, at)) };",
    ),
    error(
        "core/src/timers.rs",
        "a_timer_is_early",
        ".expired(&mut self.slots, now.tick())?",
        ".expired(&mut self.slots, now.tick().wrapping_add(u32::from(MUTATED)))?",
    ),
    error(
        "core/src/timers.rs",
        "a_cancelled_timer_comes",
        "                wheel.cancel(&mut self.slots, index);\n                self.release(index);\n",
        "                if !MUTATED {\n                    wheel.cancel(&mut self.slots, index);\n                    \
         self.release(index);\n                }\n",
    ),
    error(
        "core/src/timers.rs",
        "a_stale_id_cancels_the_next_timer",
        ".is_some_and(|slot| self.id.at(index, slot.generation) == id)",
        ".is_some_and(|slot| MUTATED || self.id.at(index, slot.generation) == id)",
    ),
    error(
        "core/src/timers.rs",
        "a_timer_has_the_tag_of_the_one_before",
        "        slot.tag = tag;\n",
        "        if !MUTATED {\n            slot.tag = tag;\n        }\n",
    ),
    error(
        "core/src/poller/io.rs",
        "stale_token_has_an_address",
        "a == x && b == y && c == z",
        "MUTATED || (a == x && b == y && c == z)",
    ),
    error(
        "core/src/actions.rs",
        "five_sends_in_a_row",
        "sends >= SENDS_IN_A_ROW =>",
        "sends >= SENDS_IN_A_ROW + usize::from(MUTATED) =>",
    ),
    error(
        "core/src/shard.rs",
        "evicts_another_idle_socket",
        "            if slot.control.is_idle() {\n                return self.token(index);",
        "            if slot.control.is_idle() {\n                let now = self.now.tick();\n                \
         let idle = |other: &u32| self.slots.get(*other).is_some_and(|slot| slot.control.is_idle() && \
         crate::time::at_or_before(self.idle.due(slot.control.seen), now));\n                let other = \
         (0..self.slots.used() as u32).rev().find(idle).filter(|_| MUTATED);\n                return \
         self.token(other.unwrap_or(index));",
    ),
    error(
        "core/src/shard/timing.rs",
        "evicts_in_spite_of_progress",
        "            self.idle.insert(index);\n        } else {\n",
        "            self.idle.insert(index);\n        } else if !MUTATED {\n",
    ),
    error(
        "core/src/shard/timing.rs",
        "forgets_who_was_busy",
        "if later.is_none() && control.state.is_live() {",
        "if later.is_none() && control.state.is_live() && !MUTATED {",
    ),
    error(
        "core/src/slot.rs",
        "evicts_with_input_left",
        "let holds_nothing = self.kept.is_empty() &&",
        "let holds_nothing = (self.kept.is_empty() || MUTATED) &&",
    ),
    error(
        "core/src/poller/turn/accepting.rs",
        "waits_for_a_full_wait",
        "if !can_evict || self.accept(id) ||",
        "if !can_evict || MUTATED || self.accept(id) ||",
    ),
];
