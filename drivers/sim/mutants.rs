// Errors in core, each of which the simulator must notice. They were written down from core's sources, before anybody
// looked at what the simulator checks.
//
// A change is a text. In `replace`, `MUTATED` stands for "this error is switched on": all errors are built in at once, and
// `examples/mutants.rs` switches on one after the other.

/// One error.
pub(crate) struct Mutant {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its file, from the root of the repository.
    pub(crate) file: &'static str,
    /// A text that is there exactly once.
    pub(crate) find: &'static str,
    /// The text that replaces it.
    pub(crate) replace: &'static str,
}

const fn error(file: &'static str, name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file, find, replace }
}

/// All of them, by file.
pub(crate) const MUTANTS: &[Mutant] = &[
    error(
        "core/src/port.rs",
        "filled_outlives_its_receive",
        "self.flags.clear(Flags::SILENT.with(Flags::FILLED));",
        "self.flags.clear(if MUTATED { Flags::SILENT } else { Flags::SILENT.with(Flags::FILLED) });",
    ),
    error(
        "core/src/port.rs",
        "stalled_outlives_a_send",
        "control.flags.clear(Flags::IN_FLIGHT.with(Flags::STALLED));",
        "control.flags.clear(if MUTATED { Flags::IN_FLIGHT } else { Flags::IN_FLIGHT.with(Flags::STALLED) });",
    ),
    error(
        "core/src/port.rs",
        "reads_while_writable_is_owed",
        "        self.chain.armed || ",
        "        (self.chain.armed && !MUTATED) || ",
    ),
    error(
        "core/src/port.rs",
        "reads_while_paused",
        "self.flags.has(Flags::PAUSED) ||",
        "(self.flags.has(Flags::PAUSED) && !MUTATED) ||",
    ),
    error(
        "core/src/port.rs",
        "reads_before_a_granted_writable",
        " self.pending.has(Pending::WRITABLE)\n",
        " (self.pending.has(Pending::WRITABLE) && !MUTATED)\n",
    ),
    error(
        "core/src/port.rs",
        "writable_that_was_overtaken",
        "control.chain.armed |= !control.chain.is_low(most);",
        "control.chain.armed |= !control.chain.is_low(most) && !MUTATED;",
    ),
    error(
        "core/src/port.rs",
        "held_back_after_a_send",
        "control.chain.hold = Hold::None;\n        if control.chain.armed",
        "if !MUTATED {\n control.chain.hold = Hold::None;\n }\n        if control.chain.armed",
    ),
    error(
        "core/src/port.rs",
        "sent_is_no_progress",
        "            control.seen = now;\n        }\n        if control.chain.is_empty()",
        "            if !MUTATED {\n control.seen = now;\n }\n        }\n        if control.chain.is_empty()",
    ),
    error(
        "core/src/port.rs",
        "received_is_no_progress",
        "control.seen = shard.now.tick();",
        "if !MUTATED {\n control.seen = shard.now.tick();\n }",
    ),
    error(
        "core/src/port.rs",
        "stall_begins_anew",
        "if !control.flags.has(Flags::STALLED) {\n            control.flags.set(",
        "if MUTATED || !control.flags.has(Flags::STALLED) {\n            control.flags.set(",
    ),
    error(
        "core/src/port.rs",
        "peer_end_is_lost_while_finishing",
        "            if was_live {\n                control.pending",
        "            if was_live && !(MUTATED && !control.state.is_live()) {\n                control.pending",
    ),
    error(
        "core/src/port.rs",
        "last_news_are_lost",
        "control.pending.has(Pending::PEER_CLOSED) { Pending::LAST }",
        "control.pending.has(Pending::PEER_CLOSED) && !MUTATED { Pending::LAST }",
    ),
    error(
        "core/src/port.rs",
        "message_before_what_is_due",
        "        self.deliver(handler, cx);\n        if !self",
        "        if !MUTATED {\n self.deliver(handler, cx);\n }\n        if !self",
    ),
    error(
        "core/src/port.rs",
        "local_instead_of_peer",
        "let orderly = if control.flags.has(Flags::PEER_ENDED) {",
        "let orderly = if control.flags.has(Flags::PEER_ENDED) && !MUTATED {",
    ),
    error(
        "core/src/port.rs",
        "rest_kept_from_a_byte_before",
        ".get(consumed..).unwrap_or_default();",
        ".get(consumed.saturating_sub(usize::from(MUTATED))..).unwrap_or_default();",
    ),
    error(
        "core/src/port.rs",
        "lost_bytes_miscounted",
        "bytes_lost += control.chain.queued() as u64;",
        "bytes_lost += control.chain.queued().saturating_sub(usize::from(MUTATED)) as u64;",
    ),
    error(
        "core/src/port.rs",
        "lost_bytes_look_whole",
        "|| !control.chain.is_empty();\n        control.chain.clear",
        "|| (!control.chain.is_empty() && !MUTATED);\n        control.chain.clear",
    ),
    error(
        "core/src/port.rs",
        "input_does_not_starve",
        "starve |= !room &&",
        "starve |= !MUTATED && !room &&",
    ),
    error(
        "core/src/port.rs",
        "fast_path_forgets_writable",
        "            && !self.chain.armed\n",
        "            && (!self.chain.armed || MUTATED)\n",
    ),
    error(
        "core/src/port.rs",
        "fast_path_forgets_what_is_kept",
        "asked | self.kept.bits() |",
        "asked | if MUTATED { 0 } else { self.kept.bits() } |",
    ),
    error(
        "core/src/port.rs",
        "put_off_for_ever",
        "        self.keep_fresh();\n        self.shard.queue(self.index);",
        "        self.keep_fresh();\n        if !MUTATED {\n self.shard.queue(self.index);\n }",
    ),
    error(
        "core/src/port.rs",
        "shut_before_all_is_sent",
        "State::Finishing | State::Parting if self.chain.is_empty() =>",
        "State::Finishing | State::Parting if MUTATED || self.chain.is_empty() =>",
    ),
    error(
        "core/src/port.rs",
        "close_with_unread_input_at_once",
        "(asked.has(Asked::CLOSE) && unread)",
        "(asked.has(Asked::CLOSE) && unread && !MUTATED)",
    ),
    error(
        "core/src/port.rs",
        "sent_that_was_overtaken",
        "Pending::SENT => !control.chain.is_empty(),",
        "Pending::SENT => !MUTATED && !control.chain.is_empty(),",
    ),
    error(
        "core/src/port.rs",
        "received_bytes_not_counted",
        "self.shard.stats.bytes_in += bytes.len() as u64;",
        "self.shard.stats.bytes_in += if MUTATED { 0 } else { bytes.len() as u64 };",
    ),
    error(
        "core/src/port.rs",
        "sent_bytes_not_counted",
        " shard.stats.bytes_out += offered as u64;",
        " shard.stats.bytes_out += if MUTATED { 0 } else { offered as u64 };",
    ),
    error(
        "core/src/port.rs",
        "low_water_late",
        "|| !control.chain.is_low(most) ||",
        "|| !control.chain.is_low(most - usize::from(MUTATED)) ||",
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
        "retired_twice_in_the_starving_queue",
        "flags.only(Flags::QUEUED.with(Flags::STARVING));",
        "flags.only(if MUTATED { Flags::QUEUED } else { Flags::QUEUED.with(Flags::STARVING) });",
    ),
    error(
        "core/src/shard.rs",
        "retired_cuts_the_ready_queue",
        "Control { next, next_starving, ..Control::free",
        "Control { next: if MUTATED { 0 } else { next }, next_starving, ..Control::free",
    ),
    error(
        "core/src/shard.rs",
        "last_block_is_not_given",
        "let writes = control.chain.armed && blocks > 0;",
        "let writes = control.chain.armed && blocks > usize::from(MUTATED);",
    ),
    error(
        "core/src/shard.rs",
        "one_is_fed",
        "self.to_feed = self.starving.len();",
        "self.to_feed = if MUTATED { 1 } else { self.starving.len() };",
    ),
    error(
        "core/src/shard.rs",
        "timeouts_a_tick_early",
        "millis_ceil(span) as u32 + 1",
        "millis_ceil(span) as u32 + u32::from(!MUTATED)",
    ),
    error(
        "core/src/shard.rs",
        "idle_two_ticks_late",
        "at(control.seen, self.idle,",
        "at(control.seen, self.idle + if MUTATED && self.idle > 0 { 2 } else { 0 },",
    ),
    error(
        "core/src/shard.rs",
        "linger_as_drain",
        "at(control.seen, self.linger, Due::Linger)",
        "at(control.seen, if MUTATED { self.drain } else { self.linger }, Due::Linger)",
    ),
    error(
        "core/src/shard.rs",
        "connect_as_idle",
        "at(control.seen, self.connect,",
        "at(control.seen, if MUTATED { self.idle } else { self.connect },",
    ),
    error(
        "core/src/shard.rs",
        "first_byte_named_idle",
        "engine(Timeout::FirstByte)",
        "engine(if MUTATED { Timeout::Idle } else { Timeout::FirstByte })",
    ),
    error(
        "core/src/shard.rs",
        "active_is_ignored",
        "} else if control.flags.has(Flags::ACTIVE) &&",
        "} else if !MUTATED && control.flags.has(Flags::ACTIVE) &&",
    ),
    error(
        "core/src/shard.rs",
        "earlier_is_not_filed",
        "if at_or_before(filed, due) => {}",
        "if MUTATED || at_or_before(filed, due) => {}",
    ),
    error(
        "core/src/shard.rs",
        "latest_instead_of_earliest",
        "if at_or_before(a.0, b.0) { a } else { b }",
        "if at_or_before(a.0, b.0) != MUTATED { a } else { b }",
    ),
    error(
        "core/src/shard.rs",
        "local_instead_of_shutdown",
        "if self.stopping { CloseReason::Shutdown }",
        "if self.stopping && !MUTATED { CloseReason::Shutdown }",
    ),
    error(
        "core/src/shard.rs",
        "opened_at_no_time",
        "slot.control.seen = now;\n            slot.control.pending.set(Pending::OPEN);",
        "if !MUTATED {\n slot.control.seen = now;\n }\n            slot.control.pending.set(Pending::OPEN);",
    ),
    error(
        "core/src/shard.rs",
        "deadline_stays_set",
        "slot.control.flags.clear(Flags::DEADLINE);",
        "if !MUTATED {\n slot.control.flags.clear(Flags::DEADLINE);\n }",
    ),
    error(
        "core/src/shard.rs",
        "sleeps_with_blocks_to_give",
        "if self.ready.len() > 0 || feed {",
        "if self.ready.len() > 0 || (feed && !MUTATED) {",
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
        "if self.chain.blocks >= self.most {",
        "if self.chain.blocks >= self.most + u16::from(MUTATED) {",
    ),
    error(
        "core/src/buffer/output.rs",
        "rewind_keeps_blocks",
        "let extra = self.chain.blocks - before.blocks;",
        "let extra = if MUTATED { 0 } else { self.chain.blocks - before.blocks };",
    ),
    error(
        "core/src/buffer/output.rs",
        "unused_block_is_leaked",
        "                pool.take_back(block);\n                block = next;\n            }\n            *self",
        "                if !MUTATED {\n pool.take_back(block);\n }\n                block = next;\n            }\n            *self",
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
        "pool.give_back(first);",
        "if !MUTATED {\n pool.give_back(first);\n }",
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
        "self.small.lend().give_back(kept.block - 1);",
        "self.small.lend().give_back(kept.block - 1);\n        if MUTATED {\n self.small.lend().give_back(kept.block - 1);\n }",
    ),
    error(
        "core/src/buffer/blocks.rs",
        "taken_back_looks_returned",
        "self.free.returned = self.free.returned.wrapping_sub(1);",
        "if !MUTATED {\n self.free.returned = self.free.returned.wrapping_sub(1);\n }",
    ),
    error(
        "core/src/life.rs",
        "lingers_after_the_peers_end",
        "            Step::PeerEnd | Step::Abort | Step::Fail | Step::Expire => To(State::Closed),\n            Step::Finish | Step::Close",
        "            Step::PeerEnd if MUTATED => Same,\n            Step::PeerEnd | Step::Abort | Step::Fail | Step::Expire => To(State::Closed),\n            Step::Finish | Step::Close",
    ),
    error(
        "core/src/life.rs",
        "peer_end_while_finishing_drops_the_queue",
        "            Step::PeerEnd => To(State::Draining),\n            Step::Finish => Same,",
        "            Step::PeerEnd if MUTATED => To(State::Closed),\n            Step::PeerEnd => To(State::Draining),\n            Step::Finish => Same,",
    ),
    error(
        "core/src/poller/group.rs",
        "accepts_while_full",
        ".get() < self.group.sockets;",
        ".get() < self.group.sockets + u32::from(MUTATED);",
    ),
    error(
        "core/src/poller/turn.rs",
        "seat_kept_for_one_turned_away",
        "let Ok(token) = admitted else { return self.io.transport.reject(connection) };",
        "let Ok(token) = admitted else {\n if MUTATED {\n core::mem::forget(permit);\n }\n return self.io.transport.reject(connection);\n };",
    ),
    error(
        "core/src/poller/turn.rs",
        "seat_kept_for_one_cut",
        "self.io.membership.release();",
        "if !(MUTATED && self.shard.breaks_off()) {\n self.io.membership.release();\n }",
    ),
    error(
        "core/src/poller/turn.rs",
        "held_connection_is_forgotten",
        "self.acceptor.held = Some(accepted);\n                return false;",
        "if MUTATED {\n core::mem::forget(accepted);\n } else {\n self.acceptor.held = Some(accepted);\n }\n                return false;",
    ),
    error(
        "core/src/poller/turn.rs",
        "messages_change_places",
        "Some(Envelope::Post(token, message)) => self.deliver(token, message),",
        "Some(Envelope::Post(token, message)) => {\n if MUTATED && let Some(Envelope::Post(token, message)) = self.io.membership.next_envelope() {\n self.deliver(token, message);\n }\n self.deliver(token, message);\n }",
    ),
    error(
        "core/src/poller/turn.rs",
        "longer_grace_wins",
        "until.min(*deadline)",
        "if MUTATED { until.max(*deadline) } else { until.min(*deadline) }",
    ),
    error(
        "core/src/poller/turn.rs",
        "every_other_is_told_of_the_stop",
        "announce_from: next.map(|token| token.index() + 1) };",
        "announce_from: next.map(|token| token.index() + 1 + u32::from(MUTATED)) };",
    ),
    error(
        "core/src/poller/turn.rs",
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
];
