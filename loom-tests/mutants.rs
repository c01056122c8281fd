// The mutants: changes to the sources under test, each of which a model must detect. They are texts instead of switches
// in the sources, so that the shipped code stays clean. A change fails the run unless its text occurs exactly once.

/// A change to a source file.
pub struct Mutant {
    /// The name.
    pub name: &'static str,
    /// The path of the file, from the root of the repository.
    pub file: &'static str,
    /// A text that occurs exactly once in the file.
    pub find: &'static str,
    /// The text that replaces it.
    pub replace: &'static str,
}

const fn ordering(name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file: "core/src/sync/ord.rs", find, replace }
}

const fn step(file: &'static str, name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file, find, replace }
}

/// All mutants: first the memory orderings, then the steps of each part.
pub const MUTANTS: &[Mutant] = &[
    ordering("relaxed_see", "SEE: Ordering = Ordering::Acquire", "SEE: Ordering = Ordering::Relaxed"),
    ordering("relaxed_enter", "ENTER: Ordering = Ordering::Release", "ENTER: Ordering = Ordering::Relaxed"),
    ordering(
        "relaxed_publish",
        "PUBLISH: Ordering = Ordering::Release",
        "PUBLISH: Ordering = Ordering::Relaxed",
    ),
    ordering("relaxed_take", "TAKE: Ordering = Ordering::Acquire", "TAKE: Ordering = Ordering::Relaxed"),
    ordering("relaxed_free", "FREE: Ordering = Ordering::Release", "FREE: Ordering = Ordering::Relaxed"),
    ordering("relaxed_close", "CLOSE: Ordering = Ordering::Release", "CLOSE: Ordering = Ordering::Relaxed"),
    ordering(
        "relaxed_finish",
        "FINISH: Ordering = Ordering::Acquire",
        "FINISH: Ordering = Ordering::Relaxed",
    ),
    ordering(
        "relaxed_notify",
        "NOTIFY: Ordering = Ordering::Release",
        "NOTIFY: Ordering = Ordering::Relaxed",
    ),
    ordering("relaxed_awake", "AWAKE: Ordering = Ordering::Acquire", "AWAKE: Ordering = Ordering::Relaxed"),
    // The slot.
    step(
        "core/src/sync/slot.rs",
        "put_without_exchange",
        "if slot.turn.compare_exchange(turn.0, turn.state(WRITING), ord::ENTER, Ordering::Relaxed).is_err() {",
        "slot.turn.store(turn.state(WRITING), ord::ENTER);\n        if false {",
    ),
    step(
        "core/src/sync/slot.rs",
        "publish_before_write",
        "        slot.value.with_mut(|place| {",
        "        slot.turn.store(turn.state(FULL), ord::PUBLISH);\n        slot.value.with_mut(|place| {",
    ),
    step(
        "core/src/sync/slot.rs",
        "take_without_exchange",
        "self.turn.compare_exchange(full, turn.state(READING), ord::TAKE, Ordering::Relaxed).ok()?;",
        "self.turn.load(ord::TAKE);\n        self.turn.store(turn.state(READING), Ordering::Relaxed);",
    ),
    step(
        "core/src/sync/slot.rs",
        "free_before_read",
        "        let value = self.value.with_mut(|value| {",
        "        self.turn.store(next.0, ord::FREE);\n        let value = self.value.with_mut(|value| {",
    ),
    step(
        "core/src/sync/slot.rs",
        "drop_forgets_the_value",
        "self.turn.load(Ordering::Relaxed) % STATES == FULL",
        "self.turn.load(Ordering::Relaxed) % STATES == WRITING",
    ),
    // The mailbox.
    step(
        "core/src/sync/mailbox.rs",
        "claim_by_load_and_store",
        "self.tail.compare_exchange(tail, tail.wrapping_add(2), Ordering::Relaxed, Ordering::Relaxed)",
        "if self.tail.load(Ordering::Relaxed) == tail {\n            \
         self.tail.store(tail.wrapping_add(2), Ordering::Relaxed);\n            Ok(tail)\n        } else {\n            \
         Err(self.tail.load(Ordering::Relaxed))\n        }",
    ),
    step(
        "core/src/sync/mailbox.rs",
        "full_at_first_sight",
        "None => self.tail.load(Ordering::Relaxed),",
        "None => tail,",
    ),
    step(
        "core/src/sync/mailbox.rs",
        "close_ignored",
        "while tail & CLOSED == 0 {",
        "while tail < usize::MAX {",
    ),
    step(
        "core/src/sync/mailbox.rs",
        "close_by_load_and_store",
        "self.tail.fetch_or(CLOSED, ord::CLOSE) & CLOSED == 0",
        "let tail = self.tail.load(Ordering::Relaxed);\n        self.tail.store(tail | CLOSED, ord::CLOSE);\n        \
         tail & CLOSED == 0",
    ),
    step(
        "core/src/sync/mailbox.rs",
        "finished_when_closed",
        "mailbox.tail.load(ord::FINISH) == self.head << 1 | CLOSED",
        "mailbox.tail.load(ord::FINISH) & CLOSED != 0",
    ),
    step(
        "core/src/sync/mailbox.rs",
        "receiver_by_load_and_store",
        "if mailbox.received.swap(true, Ordering::Relaxed) {",
        "let received = mailbox.received.load(Ordering::Relaxed);\n        \
         mailbox.received.store(true, Ordering::Relaxed);\n        if received {",
    ),
    // The wake flag.
    step(
        "core/src/sync/wake.rs",
        "notify_by_load_and_store",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "let before = self.0.load(Ordering::Relaxed);\n        self.0.store(NOTIFIED, ord::NOTIFY);\n        \
         before == SLEEPING",
    ),
    step(
        "core/src/sync/wake.rs",
        "notify_skips_when_notified",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "self.0.load(Ordering::Relaxed) != NOTIFIED && self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
    ),
    step(
        "core/src/sync/wake.rs",
        "notify_wakes_always",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "self.0.swap(NOTIFIED, ord::NOTIFY) <= NOTIFIED",
    ),
    step(
        "core/src/sync/wake.rs",
        "sleep_by_load_and_store",
        "let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();",
        "let slept = self.0.load(Ordering::Relaxed) == AWAKE;\n        if slept {\n            \
         self.0.store(SLEEPING, Ordering::Relaxed);\n        }",
    ),
    step(
        "core/src/sync/wake.rs",
        "sleep_though_notified",
        "let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();",
        "self.0.swap(SLEEPING, Ordering::Relaxed);\n        let slept = true;",
    ),
    step(
        "core/src/sync/wake.rs",
        "refused_sleep_keeps_the_notice",
        "        if !slept {\n            self.awake();\n        }\n",
        "",
    ),
    step(
        "core/src/sync/wake.rs",
        "awake_by_store",
        "self.0.swap(AWAKE, ord::AWAKE);",
        "self.0.load(ord::AWAKE);\n        self.0.store(AWAKE, Ordering::Relaxed);",
    ),
    // The load.
    step(
        "core/src/sync/load.rs",
        "reserve_by_load_and_store",
        ".fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then(|| count + 1))\n            .ok()?;",
        ".store(Some(counter.get()).filter(|count| *count < max)? + 1, Ordering::Relaxed);",
    ),
    step(
        "core/src/sync/load.rs",
        "release_by_load_and_store",
        "self.load().0.fetch_sub(count, Ordering::Relaxed);",
        "self.load().0.store(self.load().get() - count, Ordering::Relaxed);",
    ),
    step("core/src/sync/load.rs", "merge_doubles", "core::mem::take(&mut other.count)", "other.count"),
    step("core/src/sync/load.rs", "drop_returns_nothing", "self.give_back(self.count);", "self.count = 0;"),
    // The counter.
    step("core/src/sync/counter.rs", "add_forgets_what_was", "self.get().wrapping_add(n)", "n"),
    // The gate.
    ordering("relaxed_post", "POST: Ordering = Ordering::Release", "POST: Ordering = Ordering::Relaxed"),
    ordering("relaxed_look", "LOOK: Ordering = Ordering::Acquire", "LOOK: Ordering = Ordering::Relaxed"),
    ordering("relaxed_leave", "LEAVE: Ordering = Ordering::Release", "LEAVE: Ordering = Ordering::Relaxed"),
    step(
        "core/src/sync/gate.rs",
        "post_by_load_and_store",
        "let before = self.0.fetch_or(BUSY | POSTED, ord::POST);",
        "let before = self.0.load(Ordering::Relaxed);\n        self.0.store(BUSY | POSTED, ord::POST);",
    ),
    step(
        "core/src/sync/gate.rs",
        "post_skips_when_busy",
        "let before = self.0.fetch_or(BUSY | POSTED, ord::POST);",
        "let mut before = self.0.load(Ordering::Relaxed);\n        if before & BUSY == 0 {\n            \
         before = self.0.fetch_or(BUSY | POSTED, ord::POST);\n        }",
    ),
    step(
        "core/src/sync/gate.rs",
        "every_post_gets_a_permit",
        "(before & BUSY == 0).then_some",
        "(before <= 3).then_some",
    ),
    step(
        "core/src/sync/gate.rs",
        "look_forgets_that_it_is_busy",
        "gate.0.swap(BUSY, ord::LOOK);",
        "gate.0.swap(0, ord::LOOK);",
    ),
    step(
        "core/src/sync/gate.rs",
        "look_by_load_and_store",
        "gate.0.swap(BUSY, ord::LOOK);",
        "gate.0.load(ord::LOOK);\n        gate.0.store(BUSY, Ordering::Relaxed);",
    ),
    step(
        "core/src/sync/gate.rs",
        "leave_by_store",
        "match gate.0.compare_exchange(BUSY, 0, ord::LEAVE, Ordering::Relaxed) {",
        "gate.0.store(0, ord::LEAVE);\n        match Ok::<u32, u32>(0) {",
    ),
    step(
        "core/src/sync/gate.rs",
        "leave_by_load_and_store",
        "match gate.0.compare_exchange(BUSY, 0, ord::LEAVE, Ordering::Relaxed) {",
        "let now = gate.0.load(Ordering::Relaxed);\n        if now == BUSY {\n            \
         gate.0.store(0, ord::LEAVE);\n        }\n        match (now == BUSY).then_some(now).ok_or(now) {",
    ),
    // The balancer. Only what takes two acceptors; its unit tests cover the rest.
    step(
        "core/src/balance.rs",
        "no_alternative",
        "let mut left = PollerSet::up_to(self.pollers);",
        "let mut left = PollerSet::up_to(0);",
    ),
    // The table of sockets: stale tokens.
    step(
        "core/src/shard.rs",
        "generation_unchecked",
        "&& self.shared.token.at(index, slot.control.generation) == token",
        "&& self.shared.token.at(index, token.generation()) == token",
    ),
    step(
        "core/src/shard.rs",
        "generation_stays",
        "ControlBlock::free(generation.wrapping_add(1), peer)",
        "ControlBlock::free(generation, peer)",
    ),
    // The word that holds a stop for which the mailbox had no room.
    step(
        "core/src/sync/min.rs",
        "offer_replaces_what_is_less",
        "self.0.fetch_min(number.min(Self::MAX), Ordering::AcqRel);",
        "self.0.store(number.min(Self::MAX), Ordering::Release);",
    ),
    step(
        "core/src/sync/min.rs",
        "take_by_load_and_store",
        "self.0.swap(NONE, Ordering::AcqRel);",
        "self.0.load(Ordering::Acquire);\n        self.0.store(NONE, Ordering::Release);",
    ),
    step(
        "core/src/sync/min.rs",
        "relaxed_offer",
        "number.min(Self::MAX), Ordering::AcqRel",
        "number.min(Self::MAX), Ordering::Relaxed",
    ),
    step(
        "core/src/sync/min.rs",
        "relaxed_word",
        "swap(NONE, Ordering::AcqRel)",
        "swap(NONE, Ordering::Relaxed)",
    ),
    // The connections of each peer.
    step(
        "core/src/sync/peer_limits.rs",
        "peer_counts_read_without_a_write",
        "way.0.fetch_add(0, Ordering::AcqRel)",
        "way.0.load(Ordering::Acquire)",
    ),
    step(
        "core/src/sync/peer_limits.rs",
        "peer_refused_and_still_counted",
        "            self.release(place);\n            return None;\n",
        "            return None;\n",
    ),
    // The group.
    step(
        "core/src/poller/group.rs",
        "command_after_its_notice",
        "        self.commands.push(command)?;\n        self.notify();\n",
        "        self.notify();\n        self.commands.push(command)?;\n",
    ),
    step(
        "core/src/poller/group.rs",
        "command_without_notice",
        "        self.commands.push(command)?;\n        self.notify();\n",
        "        self.commands.push(command)?;\n",
    ),
    step(
        "core/src/poller/group.rs",
        "post_without_notice",
        "        if notify {\n            self.notify();\n        }\n",
        "        let _ = notify;\n",
    ),
    step(
        "core/src/poller/group.rs",
        "post_to_another_as_to_oneself",
        "Envelope::Post(to, message), from != Some(to.poller()))",
        "Envelope::Post(to, message), from.is_none())",
    ),
    step(
        "core/src/poller/group.rs",
        "broadcast_without_notice",
        "let is_other = from.is_none_or(|from| usize::from(from.0) != id);",
        "let is_other = from.is_none() && id > self.pollers.len();",
    ),
    step(
        "core/src/poller/group.rs",
        "broadcast_to_some",
        "self.pollers.iter().enumerate() {\n            let is_other",
        "self.pollers.iter().enumerate().skip(1) {\n            let is_other",
    ),
    step(
        "core/src/poller/group.rs",
        "sleep_though_refused",
        "wait(if sleeps { timeout } else { Some(Duration::ZERO) })",
        "wait(timeout)",
    ),
    step(
        "core/src/poller/group.rs",
        "sleep_without_announcing",
        "let sleeps = self.flag.try_sleep();",
        "let sleeps = true;",
    ),
    step(
        "core/src/poller/group.rs",
        "awake_then_sleep_without_a_second_look",
        "let sleeps = self.flag.try_sleep();",
        "self.flag.awake();\n        let sleeps = self.flag.try_sleep();",
    ),
    step(
        "core/src/poller/group.rs",
        "stop_word_without_a_second_try",
        "        let _ = self.send_command(Command::Stop { grace });\n        self.notify();\n",
        "        self.notify();\n",
    ),
    step(
        "core/src/poller/group.rs",
        "stop_without_a_word",
        "self.stop.offer(u32::try_from(grace.as_millis()).unwrap_or(AtomicMin::MAX));",
        "",
    ),
    step(
        "core/src/poller/group.rs",
        "stop_word_read_before_the_pop",
        "        let command = match self.commands.pop() {\n            TryRecv::Item(command) => command,\n            \
         TryRecv::Empty => return None,\n            TryRecv::Finished => {\n                self.finished.0 = \
         true;\n                return None;\n            }\n        };\n        // after the pop: a stop that found \
         no room has left its word by now, or finds room\n        let Some(millis) = self.handle.stop.take() else",
        "        let word = self.handle.stop.take();\n        let command = match self.commands.pop() {\n            \
         TryRecv::Item(command) => command,\n            TryRecv::Empty => return None,\n            \
         TryRecv::Finished => {\n                self.finished.0 = true;\n                return None;\n            \
         }\n        };\n        let Some(millis) = word else",
    ),
    step(
        "core/src/poller/group.rs",
        "stop_word_replaces_the_command",
        "self.next = Some(command);",
        "drop(command);",
    ),
    step(
        "core/src/poller/group.rs",
        "room_answer_without_notice",
        "                poller.answers.insert(self.me.0);\n                poller.notify();\n",
        "                poller.answers.insert(self.me.0);\n",
    ),
    step(
        "core/src/poller/group.rs",
        "room_notice_before_the_answer",
        "                poller.answers.insert(self.me.0);\n                poller.notify();\n",
        "                poller.notify();\n                poller.answers.insert(self.me.0);\n",
    ),
    step(
        "core/src/poller/turn/mail.rs",
        "room_ask_without_an_answer",
        "keep_asker(asker);\n                self.io.alarm = Instant::from_millis(0);\n",
        "keep_asker(asker);\n",
    ),
    step(
        "core/src/poller/group.rs",
        "connect_returns_the_permit",
        "match poller.send_command(Command::Connect { to, tag, permit }) {",
        "drop(permit);\n            let permit = LoadPermit::<G>::none(poller.load.clone());\n            \
         match poller.send_command(Command::Connect { to, tag, permit }) {",
    ),
    step(
        "core/src/poller/group.rs",
        "connect_tries_one",
        "core::iter::once(first).chain(balancer.alternatives(first, self.pollers))",
        "core::iter::once(first)",
    ),
    step(
        "core/src/poller/group.rs",
        "room_of_the_acceptor_alone",
        "if self.balancer.is_some() { self.group.pollers.iter().any(has_room) } else { has_room(self.handle) }",
        "has_room(self.handle)",
    ),
    step(
        "core/src/poller/group.rs",
        "offer_loses_what_comes_back",
        "                Placement::NoRoom(AcceptedSocket { connection, peer, listener })\n",
        "                drop((connection, peer, listener));\n                Placement::Elsewhere\n",
    ),
    step(
        "core/src/poller/group.rs",
        "finished_without_waiting_for_a_push",
        "self.next.is_none() && self.finished == (true, true)",
        "self.next.is_none()",
    ),
    step(
        "core/src/poller/group.rs",
        "finished_with_commands_to_come",
        "self.next.is_none() && self.finished == (true, true)",
        "self.next.is_none() && self.finished.1",
    ),
    // The poller's loop.
    step(
        "core/src/poller/turn/end.rs",
        "end_empties_before_it_closes",
        "        self.io.membership.close();\n        while let Some(command) = self.io.membership.next_command() {",
        "        let is_closing = self.io.membership.has_command();\n        if !is_closing {\n            \
         self.io.membership.close();\n            return true;\n        }\n        while let Some(command) = \
         self.io.membership.next_command() {",
    ),
    step(
        "core/src/poller/turn/end.rs",
        "end_with_sockets_left",
        "            if self.shard.in_use() == 0 && !waits {",
        "            if self.shard.in_use() < 1_000 && !waits {",
    ),
    step(
        "core/src/poller/turn.rs",
        "stop_announced_before_messages",
        "        self.read_mail();\n        if self.acceptor.take_due",
        "        if self.phase != Phase::Running {\n            self.end();\n        }\n        \
         self.read_mail();\n        if self.acceptor.take_due",
    ),
    step(
        "core/src/poller/turn/end.rs",
        "stop_keeps_what_is_held_back",
        "        self.acceptor.close_all(&mut self.io.transport);\n",
        "",
    ),
    step(
        "core/src/poller/turn/end.rs",
        "stop_closes_listeners_without_a_last_accept",
        "let turns = if grace.is_zero() { 0 } else { LAST_ACCEPTS };",
        "let turns = 0;",
    ),
    step(
        "core/src/poller/turn/end.rs",
        "stop_turns_away_what_is_assigned",
        "                self.shard.begin_stop();\n",
        "                self.shard.stop();\n",
    ),
    step(
        "core/src/poller/turn/end.rs",
        "stop_keeps_slots_ready",
        "                self.io.release_reserved(&mut self.shard);\n",
        "",
    ),
    step(
        "core/src/poller/turn/accepting.rs",
        "admit_drops_the_permit",
        "        self.io.membership.merge(permit);\n        self.register(token, connection, Interest::READ);",
        "        drop(permit);\n        self.register(token, connection, Interest::READ);",
    ),
    step(
        "core/src/poller/turn.rs",
        "connect_drops_the_permit",
        "        self.io.membership.merge(permit);\n        // it may",
        "        drop(permit);\n        // it may",
    ),
    step("core/src/poller/turn.rs", "close_keeps_the_permit", "        self.io.membership.release();\n", ""),
    step(
        "core/src/poller/turn.rs",
        "next_turn_ignores_messages",
        "            || self.io.membership.has_envelope()\n",
        "",
    ),
    step(
        "core/src/poller/turn/mail.rs",
        "broadcast_skips_a_socket",
        "broadcast.from = token.index() + 1;",
        "broadcast.from = token.index() + 2;",
    ),
    step(
        "core/src/poller/turn/accepting.rs",
        "held_connection_is_lost",
        "self.acceptor.held = Some(accepted);",
        "drop(accepted);",
    ),
    step(
        "core/src/poller/turn/accepting.rs",
        "held_connection_is_forgotten",
        "        self.acceptor.held.take().is_none_or(|accepted| self.place(accepted))\n",
        "        true\n",
    ),
    step(
        "core/src/poller/turn/accepting.rs",
        "accepting_is_not_resumed",
        "        // first, since the handler may panic\n        self.acceptor.watch_all(&mut self.io.transport, \
         self.io.now);\n",
        "",
    ),
    step(
        "core/src/poller/turn/accepting.rs",
        "accepting_goes_on_without_room",
        "            let accepts = has_room || self.can_evict();\n            let Some(listener) = \
         self.acceptor.watched(id) else { return false };\n            if !accepts {\n                return \
         self.await_room(id);\n            }\n            self.scope = PanicScope::Program;\n            let \
         accept = self.io.transport.accept(listener, id);\n            self.scope = \
         PanicScope::Engine;\n            let (connection, peer) = match accept {\n                \
         Accept::Accepted(connection, peer) => (connection, peer),\n                Accept::Filtered => \
         {\n                    self.shard.count_rejected(1);\n                    continue;\n                \
         }\n                Accept::Retry => continue,\n                Accept::WouldBlock => return \
         false,\n                Accept::Exhausted => {\n                    self.acceptor.back_off(&mut \
         self.io.transport, self.io.now);\n                    return false;\n                }\n            \
         };\n            if let Some(rate) = &self.shard.config().accept_rate\n                && \
         !self.acceptor.bucket.take(rate, self.io.now)\n            {\n                \
         self.io.transport.reject(connection);\n                self.shard.count_over_rate();\n                \
         continue;\n            }\n            let accepted = AcceptedSocket { connection, peer, listener: id };\n            let \
         placed = if has_room { self.place(accepted) } else { self.hold(accepted) };\n            if \
         !placed {\n                return self.await_room(id);\n            }\n",
        "            let _ = has_room;\n            let Some(listener) = self.acceptor.watched(id) else { \
         return false };\n            let Accept::Accepted(connection, peer) = \
         self.io.transport.accept(listener, id) else { return false };\n            self.place(AcceptedSocket \
         { connection, peer, listener: id });\n",
    ),
    step(
        "core/src/poller/accept.rs",
        "stop_drops_the_held_connection",
        "            transport.reject(accepted.connection);\n",
        "            drop(accepted);\n",
    ),
    step(
        "core/src/poller/accept.rs",
        "backing_off_has_no_end",
        "        self.resume_at = Some(now + BACK_OFF);\n    }\n\n    /// Ends the back-off",
        "        let _ = now;\n    }\n\n    /// Ends the back-off",
    ),
    // The scheduler of the workers.
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_loses_what_is_in_hand",
        "*hand = Some(job);",
        "drop(job);",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_wakes_no_worker",
        "        self.ring(Some(worker));\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_keeps_a_worker_idle",
        "place.map(|place| state.idle.remove(place))",
        "place.map(|place| state.idle[place])",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_sleeps_without_a_look",
        "        if let Some(job) = state.ready.pop_front() {\n            return Task::Run(job);\n        }\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_looks_then_sleeps",
        "        state.idle.push(me);\n",
        "        drop(state);\n        let mut state = self.state();\n        state.idle.push(me);\n",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_forgets_what_goes_on",
        "state.ready.extend(again);",
        "drop(again);",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_takes_a_job_when_closed",
        "        if state.closed {\n            return Err(job);\n        }\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_drops_a_job_when_closed",
        "            return Err(job);\n",
        "            return Ok(());\n",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_closes_without_a_bell",
        "        self.condvars.iter().for_each(Condvar::notify_all);\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_notifies_twice",
        "core::mem::take(&mut self.state().unnotified)",
        "self.state().unnotified.clone()",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_ends_with_a_job_in_hand",
        "                Some(job) => Task::Run(job),\n                None if state.closed",
        "                _ if state.closed => Task::End(VecDeque::new()),\n                Some(job) => Task::Run(job),\n                None if state.closed",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_puts_off_in_silence",
        "        self.ring(idle);\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_hands_the_watch_to_no_worker",
        "        self.ring(waits); // that worker may have been the one to retry\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_stays_idle_after_a_timeout",
        "            state.idle.retain(|worker| *worker != me);\n",
        "",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_leaves_a_job_in_hand_at_a_timeout",
        "            let job = state.in_hand.get_mut(me).and_then(Option::take);\n",
        "            let job = if timed_out { None } else { state.in_hand.get_mut(me).and_then(Option::take) };\n",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_waits_for_ever",
        "(!state.unnotified.is_empty()).then_some(retry)",
        "None::<Duration>",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_ends_in_silence",
        "        self.state().running -= 1;\n        self.changed.notify_all();\n",
        "        self.state().running -= 1;\n",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_is_quiet_in_silence",
        "if state.free.len() == state.places {",
        "if false {",
    ),
    step(
        "drivers/workers/src/scheduler.rs",
        "scheduler_forgets_an_unnotified_poller",
        "        state.unnotified.push(Arc::clone(bridge));\n",
        "",
    ),
    // How a worker serves a socket.
    step(
        "drivers/workers/src/worker.rs",
        "worker_runs_without_a_look",
        "        pass.begin(&bridge.gate);\n",
        "",
    ),
    step(
        "drivers/workers/src/worker.rs",
        "worker_drops_a_pass_that_it_may_not_leave",
        "        let pass = pass.try_release(&bridge.gate).err()?;\n        Some(Job { bridge, pass })",
        "        drop(pass.try_release(&bridge.gate));\n        None",
    ),
    step(
        "drivers/workers/src/worker.rs",
        "worker_keeps_the_place",
        "            self.scheduler.release_place(bridge.place);\n            return None;",
        "            return None;",
    ),
    step(
        "drivers/workers/src/worker.rs",
        "worker_goes_without_its_sockets",
        "        self.abort_all(leftover, places);\n",
        "        self.refresh_clock();\n        let _ = (leftover, Self::abort_all);\n",
    ),
    step(
        "drivers/workers/src/worker.rs",
        "worker_leaves_who_waits",
        "            if unknown {",
        "            if unknown && false {",
    ),
    step(
        "drivers/workers/src/shadow.rs",
        "shadow_tells_before_it_says_so",
        "        exchange.notified |= notifies;\n        drop(exchange);\n        if notifies {\n            worker.scheduler.notify(bridge);\n",
        "        drop(exchange);\n        if notifies {\n            worker.scheduler.notify(bridge);\n            bridge.exchange().notified = true;\n",
    ),
    step(
        "drivers/workers/src/shadow.rs",
        "shadow_takes_all_for_notified",
        "exchange.notified |= notifies;",
        "exchange.notified = true;",
    ),
    // How a poller uses its bridge to the workers.
    step(
        "drivers/workers/src/bridge.rs",
        "bridge_takes_all_for_notified",
        "                self.notified = false;\n",
        "",
    ),
    step(
        "drivers/workers/src/bridge.rs",
        "bridge_keeps_the_end_to_itself",
        "Event::Close(reason) => self.end = Some(BridgeEnd::Closed(reason)),",
        "Event::Close(_) => return false,",
    ),
    step(
        "drivers/workers/src/offload.rs",
        "offload_keeps_a_socket_without_workers",
        "            stream.abort(); // there are no workers any more\n",
        "",
    ),
    step(
        "drivers/workers/src/offload.rs",
        "offload_keeps_the_place",
        "                self.scheduler.release_place(bridge.place); // it was never bound\n",
        "",
    ),
    step(
        "drivers/workers/src/offload.rs",
        "offload_posts_nothing",
        "            && let Some(pass) = bridge.gate.post()\n",
        "            && let Some(pass) = Some(()).filter(|()| opens).and_then(|()| bridge.gate.post())\n",
    ),
    // The table of the example `kv`.
    step(
        "examples/src/kv/table.rs",
        "kv_returns_memory_by_load_and_store",
        "        self.budget.used.fetch_sub(self.bytes, Ordering::Release);",
        "        let used = self.budget.used.load(Ordering::Relaxed);\n        \
         self.budget.used.store(used - self.bytes, Ordering::Release);",
    ),
    step(
        "examples/src/kv/table.rs",
        "kv_takes_memory_by_load_and_store",
        "        self.budget.used.fetch_add(bytes, Ordering::Relaxed);",
        "        let used = self.used();\n        self.budget.used.store(used + bytes, Ordering::Relaxed);",
    ),
    step(
        "examples/src/kv/table.rs",
        "kv_evicts_items_in_use",
        "Arc::strong_count(item) > 1",
        "Arc::strong_count(item) > 9",
    ),
    // How the models use all this.
    step(
        "loom-tests/src/protocol.rs",
        "callback_on_a_foreign_thread",
        "        let _ = data;\n",
        "        data.touch();\n",
    ),
];
