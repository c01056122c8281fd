// The mutants: changes to the sources under test, each of which some model must notice. Text instead of switches in
// the sources, so that what is shipped stays clean; a change whose text is gone fails to build.

/// One change. `find` must stand in `file` exactly once.
#[allow(dead_code, reason = "build.rs reads all of it, the runner the names")]
pub struct Mutant {
    /// Its name, for `LOOM_MUTANT`.
    pub name: &'static str,
    /// Its folder, as `build.rs` calls it, and the path within.
    pub file: &'static str,
    /// What stands there.
    pub find: &'static str,
    /// What shall stand there instead.
    pub replace: &'static str,
}

/// The mutant of that name.
#[allow(dead_code, reason = "for build.rs")]
pub fn find(name: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.name == name)
}

const fn ordering(name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file: "core/sync/ord.rs", find, replace }
}

const fn step(file: &'static str, name: &'static str, find: &'static str, replace: &'static str) -> Mutant {
    Mutant { name, file, find, replace }
}

/// All of them: the orderings one by one, then the steps of each part.
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
        "core/sync/slot.rs",
        "put_without_exchange",
        "if slot.turn.compare_exchange(turn.0, turn.state(WRITING), ord::ENTER, Ordering::Relaxed).is_err() {",
        "slot.turn.store(turn.state(WRITING), ord::ENTER);\n        if false {",
    ),
    step(
        "core/sync/slot.rs",
        "publish_before_write",
        "        slot.value.with_mut(|place| {",
        "        slot.turn.store(turn.state(FULL), ord::PUBLISH);\n        slot.value.with_mut(|place| {",
    ),
    step(
        "core/sync/slot.rs",
        "take_without_exchange",
        "self.turn.compare_exchange(full, turn.state(READING), ord::TAKE, Ordering::Relaxed).ok()?;",
        "self.turn.load(ord::TAKE);\n        self.turn.store(turn.state(READING), Ordering::Relaxed);",
    ),
    step(
        "core/sync/slot.rs",
        "free_before_read",
        "        let value = self.value.with_mut(|value| {",
        "        self.turn.store(next.0, ord::FREE);\n        let value = self.value.with_mut(|value| {",
    ),
    step(
        "core/sync/slot.rs",
        "drop_forgets_the_value",
        "self.turn.load(Ordering::Relaxed) % STATES == FULL",
        "self.turn.load(Ordering::Relaxed) % STATES == WRITING",
    ),
    // The mailbox.
    step(
        "core/sync/mailbox.rs",
        "claim_by_load_and_store",
        "self.tail.compare_exchange(tail, tail.wrapping_add(2), Ordering::Relaxed, Ordering::Relaxed)",
        "if self.tail.load(Ordering::Relaxed) == tail {\n            \
         self.tail.store(tail.wrapping_add(2), Ordering::Relaxed);\n            Ok(tail)\n        } else {\n            \
         Err(self.tail.load(Ordering::Relaxed))\n        }",
    ),
    step(
        "core/sync/mailbox.rs",
        "full_at_first_sight",
        "None => self.tail.load(Ordering::Relaxed),",
        "None => tail,",
    ),
    step("core/sync/mailbox.rs", "close_ignored", "while tail & CLOSED == 0 {", "while tail < usize::MAX {"),
    step(
        "core/sync/mailbox.rs",
        "close_by_load_and_store",
        "self.tail.fetch_or(CLOSED, ord::CLOSE) & CLOSED == 0",
        "let tail = self.tail.load(Ordering::Relaxed);\n        self.tail.store(tail | CLOSED, ord::CLOSE);\n        \
         tail & CLOSED == 0",
    ),
    step(
        "core/sync/mailbox.rs",
        "finished_when_closed",
        "mailbox.tail.load(ord::FINISH) == self.head << 1 | CLOSED",
        "mailbox.tail.load(ord::FINISH) & CLOSED != 0",
    ),
    step(
        "core/sync/mailbox.rs",
        "receiver_by_load_and_store",
        "if mailbox.received.swap(true, Ordering::Relaxed) {",
        "let received = mailbox.received.load(Ordering::Relaxed);\n        \
         mailbox.received.store(true, Ordering::Relaxed);\n        if received {",
    ),
    // The wake flag.
    step(
        "core/sync/wake.rs",
        "notify_by_load_and_store",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "let before = self.0.load(Ordering::Relaxed);\n        self.0.store(NOTIFIED, ord::NOTIFY);\n        \
         before == SLEEPING",
    ),
    step(
        "core/sync/wake.rs",
        "notify_skips_when_notified",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "self.0.load(Ordering::Relaxed) != NOTIFIED && self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
    ),
    step(
        "core/sync/wake.rs",
        "notify_wakes_always",
        "self.0.swap(NOTIFIED, ord::NOTIFY) == SLEEPING",
        "self.0.swap(NOTIFIED, ord::NOTIFY) <= NOTIFIED",
    ),
    step(
        "core/sync/wake.rs",
        "sleep_by_load_and_store",
        "let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();",
        "let slept = self.0.load(Ordering::Relaxed) == AWAKE;\n        if slept {\n            \
         self.0.store(SLEEPING, Ordering::Relaxed);\n        }",
    ),
    step(
        "core/sync/wake.rs",
        "sleep_though_notified",
        "let slept = self.0.compare_exchange(AWAKE, SLEEPING, Ordering::Relaxed, Ordering::Relaxed).is_ok();",
        "self.0.swap(SLEEPING, Ordering::Relaxed);\n        let slept = true;",
    ),
    step(
        "core/sync/wake.rs",
        "refused_sleep_keeps_the_notice",
        "        if !slept {\n            self.awake();\n        }\n",
        "",
    ),
    step(
        "core/sync/wake.rs",
        "awake_by_store",
        "self.0.swap(AWAKE, ord::AWAKE);",
        "self.0.load(ord::AWAKE);\n        self.0.store(AWAKE, Ordering::Relaxed);",
    ),
    // The load.
    step(
        "core/sync/load.rs",
        "reserve_by_load_and_store",
        ".fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then(|| count + 1))\n            .ok()?;",
        ".store(Some(counter.get()).filter(|count| *count < max)? + 1, Ordering::Relaxed);",
    ),
    step(
        "core/sync/load.rs",
        "release_by_load_and_store",
        "self.load().0.fetch_sub(count, Ordering::Relaxed);",
        "self.load().0.store(self.load().get() - count, Ordering::Relaxed);",
    ),
    step("core/sync/load.rs", "absorb_doubles", "core::mem::take(&mut other.count)", "other.count"),
    step("core/sync/load.rs", "drop_gives_nothing_back", "self.give_back(self.count);", "self.count = 0;"),
    // The counter.
    step("core/sync/counter.rs", "add_forgets_what_was", "self.get().wrapping_add(n)", "n"),
    // The gate.
    ordering("relaxed_post", "POST: Ordering = Ordering::Release", "POST: Ordering = Ordering::Relaxed"),
    ordering("relaxed_look", "LOOK: Ordering = Ordering::Acquire", "LOOK: Ordering = Ordering::Relaxed"),
    ordering("relaxed_leave", "LEAVE: Ordering = Ordering::Release", "LEAVE: Ordering = Ordering::Relaxed"),
    step(
        "core/sync/gate.rs",
        "post_by_load_and_store",
        "let before = self.0.fetch_or(BUSY | POSTED, ord::POST);",
        "let before = self.0.load(Ordering::Relaxed);\n        self.0.store(BUSY | POSTED, ord::POST);",
    ),
    step(
        "core/sync/gate.rs",
        "post_skips_when_busy",
        "let before = self.0.fetch_or(BUSY | POSTED, ord::POST);",
        "let mut before = self.0.load(Ordering::Relaxed);\n        if before & BUSY == 0 {\n            \
         before = self.0.fetch_or(BUSY | POSTED, ord::POST);\n        }",
    ),
    step(
        "core/sync/gate.rs",
        "every_post_gets_a_pass",
        "(before & BUSY == 0).then_some",
        "(before <= 3).then_some",
    ),
    step(
        "core/sync/gate.rs",
        "look_forgets_that_it_is_busy",
        "gate.0.swap(BUSY, ord::LOOK);",
        "gate.0.swap(0, ord::LOOK);",
    ),
    step(
        "core/sync/gate.rs",
        "look_by_load_and_store",
        "gate.0.swap(BUSY, ord::LOOK);",
        "gate.0.load(ord::LOOK);\n        gate.0.store(BUSY, Ordering::Relaxed);",
    ),
    step(
        "core/sync/gate.rs",
        "leave_by_store",
        "match gate.0.compare_exchange(BUSY, 0, ord::LEAVE, Ordering::Relaxed) {",
        "gate.0.store(0, ord::LEAVE);\n        match Ok::<u32, u32>(0) {",
    ),
    step(
        "core/sync/gate.rs",
        "leave_by_load_and_store",
        "match gate.0.compare_exchange(BUSY, 0, ord::LEAVE, Ordering::Relaxed) {",
        "let now = gate.0.load(Ordering::Relaxed);\n        if now == BUSY {\n            \
         gate.0.store(0, ord::LEAVE);\n        }\n        match (now == BUSY).then_some(now).ok_or(now) {",
    ),
    // The balancer. Only what takes two acceptors: the rest is for its unit tests.
    step(
        "core/balance.rs",
        "no_alternative",
        "let mut left = Set::up_to(self.pollers);",
        "let mut left = Set::up_to(0);",
    ),
    // The table of sockets: tokens whose socket has gone.
    step(
        "core/shard.rs",
        "generation_unchecked",
        "&& self.shared.token.at(index, slot.control.generation) == token",
        "&& self.shared.token.at(index, token.generation()) == token",
    ),
    step(
        "core/shard.rs",
        "generation_stays",
        "Control::free(generation.wrapping_add(1), peer)",
        "Control::free(generation, peer)",
    ),
    // The hub.
    step(
        "unix/hub.rs",
        "tell_before_push",
        "        self.control.push(control)?;\n        self.notify();\n",
        "        self.notify();\n        self.control.push(control)?;\n",
    ),
    step(
        "unix/hub.rs",
        "tell_without_notify",
        "        self.control.push(control)?;\n        self.notify();\n",
        "        self.control.push(control)?;\n",
    ),
    step("unix/hub.rs", "post_without_notify", "if from != Some(to.poller()) {", "if false {"),
    step(
        "unix/hub.rs",
        "post_to_another_as_to_oneself",
        "if from != Some(to.poller()) {",
        "if from.is_none() {",
    ),
    step("unix/hub.rs", "broadcast_without_notify", "Ok(()) => remote.notify(),", "Ok(()) => {}"),
    step(
        "unix/hub.rs",
        "sleep_though_refused",
        "wait(if sleeps { timeout } else { Some(Duration::ZERO) })",
        "wait(timeout)",
    ),
    step(
        "unix/hub.rs",
        "sleep_without_announcing",
        "let sleeps = self.flag.try_sleep();",
        "let sleeps = true;",
    ),
    step(
        "unix/hub.rs",
        "awake_then_sleep_without_a_second_look",
        "let sleeps = self.flag.try_sleep();",
        "self.flag.awake();\n        let sleeps = self.flag.try_sleep();",
    ),
    step(
        "unix/hub.rs",
        "end_does_not_wait_for_a_push",
        "            Popped::Empty => yield_now(),",
        "            Popped::Empty => return,",
    ),
    step(
        "unix/hub.rs",
        "end_empties_before_it_closes",
        "        self.control.close();\n        self.mail.close();\n        empty(control);\n        empty(mail);\n",
        "        while let Popped::Item(_) = control.pop() {}\n        while let Popped::Item(_) = mail.pop() {}\n        \
         self.control.close();\n        self.mail.close();\n",
    ),
    step(
        "unix/hub.rs",
        "stop_word_without_a_second_try",
        "        let _ = self.tell(Control::Stop { grace });\n        self.notify();\n",
        "        self.notify();\n",
    ),
    step(
        "unix/hub.rs",
        "stop_word_read_before_the_pop",
        "        let Popped::Item(order) = control.pop() else { return None };\n",
        "        let stop = locked(&self.stop).take();\n        let Popped::Item(order) = control.pop() else { return \
         None };\n        return Some((order, stop));\n        #[allow(unreachable_code)]\n",
    ),
    step(
        "unix/hub.rs",
        "dial_gives_the_seat_back",
        "match remote.tell(Control::Dial { to, tag, seat }) {",
        "drop(seat);\n            let seat = Seat::none(Arc::clone(&remote.load));\n            \
         match remote.tell(Control::Dial { to, tag, seat }) {",
    ),
    step(
        "unix/hub.rs",
        "dial_tries_one",
        "core::iter::once(first).chain(balancer.alternatives(first, &self.pollers))",
        "core::iter::once(first)",
    ),
    // The crew of workers.
    step("workers/crew.rs", "crew_loses_what_is_in_hand", "*hand = Some(job);", "drop(job);"),
    step("workers/crew.rs", "crew_rings_nobody", "        self.ring(Some(worker));\n", ""),
    step(
        "workers/crew.rs",
        "crew_keeps_who_is_idle",
        "place.map(|place| state.idle.remove(place))",
        "place.map(|place| state.idle[place])",
    ),
    step(
        "workers/crew.rs",
        "crew_sleeps_without_a_look",
        "        if let Some(job) = state.ready.pop_front() {\n            return Duty::Run(job);\n        }\n",
        "",
    ),
    step(
        "workers/crew.rs",
        "crew_looks_then_sleeps",
        "        state.idle.push(me);\n",
        "        drop(state);\n        let mut state = self.state();\n        state.idle.push(me);\n",
    ),
    step("workers/crew.rs", "crew_forgets_what_goes_on", "state.ready.extend(again);", "drop(again);"),
    step(
        "workers/crew.rs",
        "crew_takes_a_job_when_closed",
        "        if state.closed {\n            return Err(job);\n        }\n",
        "",
    ),
    step(
        "workers/crew.rs",
        "crew_drops_a_job_when_closed",
        "            return Err(job);\n",
        "            return Ok(());\n",
    ),
    step(
        "workers/crew.rs",
        "crew_closes_without_a_bell",
        "        self.bells.iter().for_each(Condvar::notify_all);\n",
        "",
    ),
    step(
        "workers/crew.rs",
        "crew_tells_twice",
        "core::mem::take(&mut self.state().untold)",
        "self.state().untold.clone()",
    ),
    step(
        "workers/crew.rs",
        "crew_ends_with_a_job_in_hand",
        "                Some(job) => Duty::Run(job),\n                None if state.closed => Duty::End,\n",
        "                _ if state.closed => Duty::End,\n                Some(job) => Duty::Run(job),\n",
    ),
    step("workers/crew.rs", "crew_puts_off_in_silence", "        self.ring(idle);\n", ""),
    step(
        "workers/crew.rs",
        "crew_hands_the_watch_to_nobody",
        "        self.ring(waits); // that worker may have been the one who was to try again\n",
        "",
    ),
    step(
        "workers/crew.rs",
        "crew_stays_idle_behind_a_timeout",
        "            state.idle.retain(|worker| *worker != me);\n",
        "",
    ),
    step(
        "workers/crew.rs",
        "crew_waits_for_ever",
        "(!state.untold.is_empty()).then_some(retry)",
        "None::<Duration>",
    ),
    // What the models do with all this.
    step(
        "models/protocol.rs",
        "close_without_notify",
        "        self.remote().mail.close();\n        self.remote().notify();\n",
        "        self.remote().mail.close();\n",
    ),
    step(
        "models/protocol.rs",
        "callback_on_a_foreign_thread",
        "        let _ = data;\n",
        "        data.touch();\n",
    ),
];
