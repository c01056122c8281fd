//! A simulated poller: core's poll loop on the simulated network, with wake-ups and events decided by the
//! seed.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::balance::Balancer;
use lightcone_core::poller::{self, Command, ConnectResult, Group, LoadPermit, PollerHandle};
use lightcone_core::sync::Load;
use lightcone_core::{
    Address, Checked, ContractChecker, ErrorKind, FreeBlocks, Handler, Instant, Interest, Stats, Token,
};

use crate::agenda::Scheduled;
use crate::fault::Fault;
use crate::member::Noted;
use crate::mutant::Mutant;
use crate::probe::{Probe, Probed, Shared, Tally, Wire};
use crate::sim::LISTENERS;
use crate::tape::Track;
use crate::trace::{self, Did};
use crate::transport::{Descriptor, Network, SharedWorld, SimConnection, SimTypes, listener_of};
use crate::within::core_call;
use crate::world::{Completion, Done, World};

/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;
/// The maximum number of the handler's timers that a turn delivers.
const TIMERS_A_TURN: usize = 256;
/// The maximum number of consecutive turns without a sleep in which nothing is received, sent, opened or
/// closed.
const IDLE_MAX: u32 = 2_000;

pub(crate) type Order = Command<Descriptor, Descriptor, LoadPermit<SimTypes>>;
pub(crate) type Handle<H> = PollerHandle<<H as Handler>::Message, SimTypes>;
pub(crate) type Data<H> = Probed<Checked<<H as Handler>::Data>>;
pub(crate) type Loop<'s, H, T> = poller::Poller<
    's,
    Probe<ContractChecker<H, Wire>>,
    Network<T>,
    Noted<'s, <H as Handler>::Message>,
    CONNECTS_A_TURN,
>;

/// A poller as the simulation sees it, independent of its handler type.
pub(crate) trait Host {
    fn turn(&mut self);
    fn in_use(&self) -> usize;
    fn delivered(&self) -> u64;
    fn stats(&self) -> Stats;
    /// Checks that nothing is left over after the poller has stopped.
    fn check_end(&self);
    fn describe(&self) -> String;
    /// Sends the poller a command. Returns `false` if its mailbox is full.
    fn send(&mut self, order: Order) -> bool;
    /// Closes a socket from outside. Returns `false` if the poller's mailbox is full.
    fn close(&mut self, token: Token, abort: bool) -> bool;
    /// Makes the engine connect. Returns `false` if it has no room.
    fn connect(&mut self, to: SocketAddr, tag: u64) -> bool;
    fn stop(&mut self, grace: Duration);
}

/// A readiness event returned by a wait.
#[derive(Clone, Copy, Debug)]
struct Event {
    key: u64,
    ready: Interest,
}

pub(crate) struct Poller<'s, H: Handler<Data: 's, Message: 's>, T: Mutant> {
    core: Loop<'s, H, T>,
    group: Group<'s, H::Message, SimTypes>,
    /// For connects from outside.
    balancer: Balancer,
    side: u32,
    world: SharedWorld,
    shared: Rc<Shared>,
    now: Instant,
    events: Vec<Event>,
    completions: Vec<Completion>,
    /// The time for which it requested a wake-up.
    wanted: Option<Instant>,
    slept: bool,
    /// The number of consecutive turns without a sleep in which nothing moved, and the sum of core's counters
    /// after the last.
    idle: u32,
    moved: u64,
    /// Whether readiness was held back in the last wait.
    delayed: bool,
    /// Sockets that used up their sends of the last turn and have more to send.
    deferred: Vec<Token>,
    /// When this turn began, in µs.
    began: u64,
    /// The same of the first of consecutive turns in which no timer fires, and of the turn before that.
    first_began: u64,
    began_before: u64,
    /// The number of events of consecutive full waits, and whether the last wait kept the loop from firing timers.
    full_events: usize,
    holds: bool,
    /// When the turn was asked for in which the timers of this turn would have fired.
    asked: u64,
    /// When the grace time of a stop ends at the latest, in µs.
    grace: u64,
}

impl<'s, H: Handler<Data: 's, Message: 's>, T: Mutant> Poller<'s, H, T> {
    pub(crate) fn new(
        core: Loop<'s, H, T>,
        group: Group<'s, H::Message, SimTypes>,
        balancer: Balancer,
    ) -> Self {
        let Network { side, world, shared, .. } = core.transport();
        let (side, world, shared) = (*side, Rc::clone(world), Rc::clone(shared));
        Self {
            core,
            group,
            balancer,
            side,
            world,
            shared,
            now: Instant::from_millis(0),
            events: Vec::new(),
            completions: Vec::new(),
            wanted: None,
            slept: false,
            idle: 0,
            moved: 0,
            delayed: false,
            deferred: Vec::new(),
            began: 0,
            first_began: 0,
            began_before: 0,
            full_events: 0,
            holds: false,
            asked: 0,
            grace: u64::MAX,
        }
    }

    fn handle(&self) -> &'s Handle<H> {
        self.core.membership().inner.handle()
    }

    fn begin_turn(&mut self) {
        self.check_rest();
        let late = {
            let world = &mut *self.world.borrow_mut();
            let side = &mut world.sides[self.side as usize];
            side.turns += 1;
            side.asleep = false;
            // a turn in which no timer fires, because its wait was full, counts as a part of the next one
            if !self.holds {
                self.asked = side.asked;
                self.shared.before.set(self.now.as_millis());
                self.shared.second_before.set(self.began_before);
                (self.began_before, self.first_began) = (self.first_began, world.now);
                self.shared.late_before.set(self.shared.late.get());
            }
            self.began = world.now;
            self.now = Instant::from_millis(world.now / 1_000);
            world.now.saturating_sub(self.asked.min(side.asked))
        };
        self.shared.late.set(late);
        self.shared.late_most.set(self.shared.late_most.get().max(late));
        self.shared.turn.set(self.shared.turn.get() + 1);
        // Lateness is bounded by what the simulation delayed; one tick for rounding.
        if let Some(wanted) = self.wanted.take() {
            let overslept = self.now.as_millis().saturating_sub(wanted.as_millis());
            assert!(
                overslept <= late.div_ceil(1_000) + 1,
                "timers: poller {} overslept by {overslept} ms",
                self.side
            );
        }
        if core::mem::take(&mut self.slept) {
            core_call(|| self.handle().awake());
        }
        let now = self.now;
        core_call(|| self.core.begin_turn(now, Some(0)));
    }

    /// Checks that a poller without work sleeps.
    fn check_rest(&mut self) {
        let stats = self.core.stats();
        let moved =
            stats.bytes_in + stats.bytes_out + stats.accepted + stats.connected + stats.closed_total();
        self.idle = if moved == self.moved { self.idle + 1 } else { 0 };
        self.moved = moved;
        assert!(self.idle <= IDLE_MAX, "liveness: poller {} keeps running without work", self.side);
    }

    // --- events of a wait -------------------------------------------------------------------------------

    fn collect(&mut self, world: &mut World) {
        self.events.clear();
        self.delayed = false;
        let me = self.side as usize;
        let most = world.wires.wait_capacity;
        for _ in 0..world.sides[me].ready.len() {
            if self.events.len() >= most {
                break;
            }
            let Some(end) = world.sides[me].ready.pop_front() else { break };
            let place = world.end_mut(end);
            place.listed = false;
            let (key, watched) = (place.key, place.watched);
            let is = world.readiness(end);
            let ready = Interest::new(is.reads() && watched.reads(), is.writes() && watched.writes());
            if ready.is_none() {
                continue;
            }
            // level-triggered: reported again in the next wait, unless it has been acted on
            world.end_mut(end).listed = true;
            world.sides[me].ready.push_back(end);
            if world.occurs(Track::Calls, Fault::Delayed) {
                self.delayed = true;
                continue;
            }
            self.events.push(Event { key, ready });
            if world.occurs(Track::Calls, Fault::Duplicated) {
                self.events.push(Event { key, ready });
            }
        }
        self.collect_completions(world);
        let count = self.events.len() + self.completions.len();
        let full = count >= world.wires.wait_capacity;
        self.note_full_wait(world, full, count);
        if self.events.len() > 1 && world.occurs(Track::Calls, Fault::Reordered) {
            let most = self.events.len() as u32;
            let (a, b) = (world.decider.draw(Track::Calls, most), world.decider.draw(Track::Calls, most));
            self.events.swap(a as usize, b as usize);
        }
        if world.occurs(Track::Calls, Fault::Spurious) {
            self.make_up_event(world);
        }
    }

    /// Reports a full wait to the loop, and notes which sockets it has left out.
    fn note_full_wait(&mut self, world: &World, full: bool, count: usize) {
        self.shared.left_out.borrow_mut().clear();
        if !full && self.full_events == 0 {
            self.holds = false;
            return;
        }
        let reports = self.core.transport_mut().mutant.tells_full_wait();
        core_call(|| self.core.on_full_wait(if full && reports { count } else { 0 }));
        // once they have brought as many events as there can be, all sockets may have been reported
        self.full_events += count;
        self.holds = full && self.full_events <= 2 * self.core.shard().in_use() + LISTENERS;
        if !self.holds {
            self.full_events = 0;
            return;
        }
        let side = &world.sides[self.side as usize];
        let ready =
            side.ready.iter().map(|end| world.end(*end).key).filter(|key| listener_of(*key).is_none());
        let received =
            side.completions.iter().filter(|completion| matches!(completion.done, Done::Received(_)));
        let tokens = ready.chain(received.map(|completion| completion.key)).map(Token::from_bits);
        // a socket whose time was over before this wait has ended already, and only its last event is left
        let shard = self.core.shard();
        let live = tokens.filter(|token| shard.next_open(token.index()) == Some(*token));
        self.shared.left_out.borrow_mut().extend(live);
    }

    fn collect_completions(&mut self, world: &mut World) {
        let me = self.side as usize;
        let most = world.wires.wait_capacity.saturating_sub(self.events.len());
        for _ in 0..world.sides[me].completions.len().min(most) {
            if world.occurs(Track::Calls, Fault::Delayed) {
                self.delayed = true;
                break;
            }
            self.completions.extend(world.sides[me].completions.pop_front());
        }
        // completions of one socket keep their order; those of different sockets may change places
        let count = self.completions.len();
        if count > 1 && world.occurs(Track::Calls, Fault::Reordered) {
            let at = world.decider.draw(Track::Calls, count as u32 - 1) as usize;
            if self.completions[at].end != self.completions[at + 1].end {
                self.completions.swap(at, at + 1);
            }
        }
    }

    /// Adds a readiness event of a socket that may not be ready, limited to what is watched of it.
    fn make_up_event(&mut self, world: &mut World) {
        let Network { places, completes, .. } = self.core.transport();
        if places.is_empty() || *completes {
            return;
        }
        let place = world.decider.draw(Track::Calls, places.len() as u32);
        if let Some((token, end)) = places[place as usize] {
            let ready = world.end(end).watched;
            if !ready.is_none() {
                self.events.push(Event { key: token.to_bits(), ready });
            }
        }
    }

    // --- delivering events to the loop ------------------------------------------------------------------

    fn on_event(&mut self, event: Event) {
        if let Some(id) = listener_of(event.key) {
            return core_call(|| self.core.on_acceptable(id));
        }
        let network = self.core.transport_mut();
        let token = network.addressee(Token::from_bits(event.key));
        if event.ready.writes() && network.mutant.tells_writable(token) {
            core_call(|| self.core.on_writable(token));
        }
        if event.ready.reads() {
            core_call(|| self.core.on_readable(token));
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        let Completion { end, uid, key, done } = completion;
        let outcome = match &done {
            Done::Received(bytes) => bytes.len() as u64,
            Done::Sent(n) => *n as u64,
            Done::Ended => trace::ENDED,
            Done::Connected => 0,
            Done::Failed(_) | Done::SendFailed(_) | Done::CalledOff => trace::FAILED,
        };
        self.shared.trace.note(Did::Complete, end.into(), outcome);
        let token = self.core.transport_mut().addressee(Token::from_bits(key));
        match done {
            Done::Received(bytes) => self.offer(token, bytes),
            Done::Ended => self.offer_end(token),
            Done::Sent(n) => {
                self.check_in_flight(token, (end, uid));
                // Before the progress is recorded, which would hide a missed timeout.
                self.check_overdue(token);
                let (now, shared) = (self.began, Rc::clone(&self.shared));
                self.change(token, |connection| {
                    connection.sent += n as u64;
                    if n > 0 {
                        connection.seen.progress = now;
                        if connection.seen.cancelled.is_none() {
                            connection.seen.sent = now;
                        }
                        connection.seen.stalled = None;
                    }
                    shared.count(|tally| tally.bytes_out += n as u64);
                });
                core_call(|| self.core.on_sent(token, n));
            }
            Done::SendFailed(kind) => {
                self.check_in_flight(token, (end, uid));
                core_call(|| self.core.on_send_failed(token, kind));
            }
            Done::Connected => {
                let now = self.began;
                self.change(token, |connection| connection.opened(now));
                core_call(|| self.core.on_connect_result(token, ConnectResult::Established));
            }
            Done::Failed(kind) => {
                self.change(token, |connection| connection.seen.connect_failed = true);
                core_call(|| self.core.on_failed(token, kind));
            }
            Done::CalledOff => core_call(|| self.core.on_failed(token, ErrorKind::ConnectionAborted)),
        }
    }

    /// Changes the state of a connection, if it still exists.
    fn change(&mut self, token: Token, change: impl FnOnce(&mut SimConnection)) {
        if let Some((_, connection)) = self.core.connection_mut(token) {
            change(connection);
        }
    }

    /// Checks that no timeout of a socket was missed, if it still exists.
    fn check_overdue(&mut self, token: Token) {
        if let Some((network, connection)) = self.core.connection_mut(token) {
            network.check_overdue(token, connection);
        }
    }

    /// Offers received bytes to a socket. Those that it does not take are kept with its connection.
    fn offer(&mut self, token: Token, mut bytes: Vec<u8>) {
        // no further receive is requested until the rest is known
        let shared = Rc::clone(&self.shared);
        self.check_overdue(token);
        self.change(token, |connection| {
            connection.asked = true;
            shared.give(token, &bytes);
        });
        let taken = core_call(|| self.core.on_received(token, &mut bytes));
        if let Some((network, connection)) = self.core.connection_mut(token) {
            shared.take_back(token, bytes.len() - taken);
            if taken > 0 {
                connection.seen.progress = self.began;
                connection.seen.received = true;
            }
            bytes.drain(..taken);
            connection.left = bytes;
            connection.asked = false;
            network.go_on(connection, token);
        }
    }

    fn offer_end(&mut self, token: Token) {
        // the end of the stream is the last receive, so no other is requested
        if let Some((network, connection)) = self.core.connection_mut(token) {
            connection.asked = true;
            network.end_stream(connection, token, true);
        }
        let taken = core_call(|| self.core.on_end_of_stream(token));
        if let Some((network, connection)) = self.core.connection_mut(token)
            && !taken
        {
            network.end_stream(connection, token, false);
            connection.ended = true;
            network.go_on(connection, token);
        }
    }

    /// Offers again the bytes that sockets left before.
    fn offer_left(&mut self) {
        for _ in 0..self.core.transport().offers.len() {
            let Some(token) = self.core.transport_mut().offers.pop_front() else { return };
            let Some((_, connection)) = self.core.connection_mut(token) else { continue };
            connection.offered = false;
            if !connection.interest.reads() {
                continue;
            }
            let left = core::mem::take(&mut connection.left);
            if !left.is_empty() {
                self.offer(token, left);
            } else if core::mem::take(&mut connection.ended) {
                self.offer_end(token);
            }
        }
    }

    /// Checks that the bytes of a finished send are still where they were when it began.
    fn check_in_flight(&mut self, token: Token, end: (u32, u32)) {
        let op = {
            let world = &mut *self.world.borrow_mut();
            if world.is_there(end) { world.take_send(end.0) } else { None }
        };
        let (Some(op), Some(_)) = (op, self.core.transport().end(token)) else { return };
        let (stays, is_there) = self
            .core
            .with_output(token, |pieces| {
                let mut places = op.places.iter().zip(pieces);
                let is_there = places.all(|((at, _), piece)| *at == piece.as_ptr().addr());
                (pieces.concat().starts_with(&op.bytes), is_there)
            })
            .unwrap_or_default();
        assert!(
            stays,
            "in flight: the bytes of {token} were taken back or overwritten before they were sent"
        );
        assert!(is_there, "in flight: the bytes of {token} were moved before they were sent");
    }

    // --- checks after a turn ----------------------------------------------------------------------------

    /// Checks that a socket that used up its sends of one turn continues in the next.
    fn check_fairness(&mut self) {
        let turn = self.shared.turn.get();
        for token in core::mem::take(&mut self.deferred) {
            let waits = self
                .core
                .connection_mut(token)
                .is_some_and(|(_, connection)| connection.deferred.is_some_and(|since| since < turn));
            assert!(!waits, "starvation: {token} was deferred, and nothing was sent to it in the next turn");
        }
        for token in core::mem::take(&mut self.core.transport_mut().busy) {
            let more = self.core.transport().end(token).is_some()
                && self.core.with_output(token, |pieces| !pieces.is_empty()).unwrap_or(false);
            if let Some((_, connection)) = self.core.connection_mut(token)
                && more
                && connection.seen.stalled.is_none()
            {
                connection.deferred = Some(turn);
                self.deferred.push(token);
            }
        }
    }

    /// Checks that a socket whose connection never began has sent nothing.
    fn check_unconnected(&self) {
        for ended in self.shared.ended.borrow_mut().drain(..) {
            assert!(ended.queued == ended.left, "bytes: socket {} sent without a connection", ended.token);
            self.shared.forget_outside(ended.token);
            self.shared.count(|tally| tally.bytes_lost += ended.queued);
            let there = self.core.transport().end(ended.token);
            assert!(there.is_none(), "contract: {} is not closed after its last event", ended.token);
        }
    }

    /// Checks that core's counts agree with what its handler and its network have seen.
    fn check_counts(&self) {
        let stats = self.core.stats();
        let seen = self.shared.tally.get();
        // with completions, it is not known here how much of a receive came too late to be counted
        let bytes_in = if self.core.transport().completes { seen.bytes_in } else { stats.bytes_in };
        let counted = Tally {
            accepted: stats.accepted,
            connected: stats.connected,
            refused: stats.refused,
            closed: stats.closed,
            bytes_in,
            bytes_out: stats.bytes_out,
            bytes_lost: stats.bytes_lost,
        };
        assert!(counted == seen, "counts: core reports {counted:?}, expected {seen:?}");
    }

    /// Checks that permits and slots agree with the open sockets, and that all blocks are free without
    /// sockets.
    fn check_leases(&self) {
        let (side, shard) = (self.side, self.core.shard());
        let alive = usize::try_from(self.core.handler().inner.alive()).unwrap_or(usize::MAX);
        let (load, in_use) = (self.core.membership().inner.load(), shard.in_use());
        assert!(load as usize == alive, "load: poller {side} has {load} permits for {alive} sockets");
        let sound = in_use.checked_sub(alive).is_some_and(|ready| ready <= CONNECTS_A_TURN);
        assert!(sound, "leak: poller {side} has {in_use} slots in use for {alive} sockets");
        if alive == 0 {
            self.check_blocks();
        }
        let over = self.began > self.grace.saturating_add(1_000_000) && !self.core.transport().completes;
        assert!(!over || alive == 0, "liveness: poller {side} has {alive} sockets after the grace time");
    }

    /// Checks that what had arrived before a stop was received before its socket closed cleanly, unless
    /// blocks ran out.
    fn check_lost(&self) {
        let Some((token, bytes)) = self.shared.lost.take() else { return };
        let (free, config) = (self.core.shard().free_blocks(), self.core.shard().config());
        let wants = free.input == 0 || (free.receive == 0 && config.receive_blocks > 0);
        assert!(
            wants || self.core.stats().input_shortages > 0,
            "stop: {bytes} bytes that had arrived for {token} before it are lost"
        );
    }

    /// Checks that each timer of the handler that was due in this turn has fired.
    fn check_timers(&self) {
        let fires = !self.holds && self.core.shard().config().timers <= TIMERS_A_TURN;
        if let Some(at) = self.core.handler().inner.next_timer().filter(|at| fires && *at <= self.now) {
            let (side, at, now) = (self.side, at.as_millis(), self.now.as_millis());
            panic!("timers: a timer of poller {side} for {at} ms has not come in the turn at {now} ms");
        }
    }

    fn check_blocks(&self) {
        let shard = self.core.shard();
        let (free, config) = (shard.free_blocks(), shard.config());
        let all = FreeBlocks {
            output: config.output_blocks,
            input: config.input_blocks,
            receive: config.receive_blocks,
        };
        let side = self.side;
        assert!(free == all, "leak: of poller {side}'s blocks, {all:?}, only these are free: {free:?}");
    }

    // --- planning the next turn -------------------------------------------------------------------------

    fn plan(&mut self) {
        let world = Rc::clone(&self.world);
        let world = &mut *world.borrow_mut();
        let me = self.side;
        let side = &world.sides[me as usize];
        let unreaped = !side.ready.is_empty()
            || !side.completions.is_empty()
            || !self.core.transport().offers.is_empty();
        let since = side.turns;
        self.wanted = core_call(|| self.core.next_turn());
        if let Some(at) = self.core.handler().inner.next_timer() {
            // in a turn after a full wait, the timer may be overdue
            let in_time = self.wanted.is_some_and(|wanted| wanted <= at.max(self.now));
            assert!(
                in_time,
                "timers: poller {me} sleeps until {:?}, and has a timer for {at:?}",
                self.wanted
            );
        }
        let first = match self.wanted {
            Some(at) if at > self.now => self.core.transport_mut().mutant.wakes(Some(at)),
            now_or_never => now_or_never,
        };
        // `try_sleep` comes last: it publishes that the poller sleeps, and fails if it was woken during the
        // turn.
        if unreaped || first.is_some_and(|at| at <= self.now) || !core_call(|| self.handle().try_sleep()) {
            let at = world.now
                + if self.delayed { 1 + u64::from(world.decider.draw(Track::Calls, 2_000)) } else { 1 };
            // a deadline may expire during the delay
            let deadline = first.map_or(at, |at| at.as_millis() * 1_000);
            world.sides[me as usize].asked = deadline.clamp(world.now + 1, at);
            world.add(at, Scheduled::Turn { poller: me, since });
            return;
        }
        self.slept = true;
        self.idle = 0;
        // nothing is in flight now, so every permit belongs to a socket
        let (load, held) = (AsRef::<Load>::as_ref(self.handle()).get(), self.core.membership().inner.load());
        assert!(load == held, "load: poller {me} has a published load of {load}, but holds {held} permits");
        let deadline = first.map(|at| at.as_millis() * 1_000);
        world.trace.note(Did::Sleep, me.into(), first.map_or(u64::MAX, Instant::as_millis));
        world.sleep(me, deadline);
        if world.occurs(Track::Calls, Fault::WakeSpurious) {
            let at = world.now + 1 + u64::from(world.decider.draw(Track::Calls, 30_000));
            world.add(at, Scheduled::Turn { poller: me, since });
        }
    }
}

impl<'s, H: Handler<Data: 's, Message: 's>, T: Mutant> Host for Poller<'s, H, T> {
    fn turn(&mut self) {
        self.begin_turn();
        let world = Rc::clone(&self.world);
        self.collect(&mut world.borrow_mut());
        let count = self.events.len() + self.completions.len();
        self.shared.trace.note(Did::Turn, self.side.into(), count as u64);
        for i in 0..self.events.len() {
            self.on_event(self.events[i]);
        }
        self.offer_left();
        for completion in core::mem::take(&mut self.completions) {
            self.on_completion(completion);
        }
        core_call(|| self.core.turn());
        self.check_fairness();
        self.check_unconnected();
        self.check_counts();
        self.check_leases();
        self.check_lost();
        self.check_timers();
        if self.core.is_over() {
            self.world.borrow_mut().sides[self.side as usize].over = true;
        } else {
            self.plan();
        }
    }

    fn in_use(&self) -> usize {
        self.core.shard().in_use()
    }

    fn delivered(&self) -> u64 {
        self.shared.delivered.get()
    }

    fn stats(&self) -> Stats {
        self.core.stats()
    }

    fn check_end(&self) {
        let (side, shard) = (self.side, self.core.shard());
        assert!(self.core.is_over(), "liveness: poller {side} has not stopped");
        assert!(shard.in_use() == 0, "leak: {} slots of poller {side} are in use", shard.in_use());
        let checker = &self.core.handler().inner;
        assert!(checker.has_started() && checker.has_stopped(), "contract: poller {side} was not announced");
        let alive = checker.alive();
        assert!(alive == 0, "leak: {alive} sockets of poller {side} never had their last event");
        let load = AsRef::<Load>::as_ref(self.handle()).get();
        assert!(load == 0, "leak: poller {side} still has a load of {load}");
        self.check_blocks();
    }

    fn describe(&self) -> String {
        let (in_use, now) = (self.core.shard().in_use(), self.now.as_millis());
        let free = self.core.shard().free_blocks();
        let held = self.shared.describe_held();
        format!("poller {}: {in_use} sockets in use, its last turn at {now} ms, {free:?}{held}", self.side)
    }

    fn send(&mut self, order: Order) -> bool {
        core_call(|| self.handle().send_command(order)).is_ok()
    }

    fn close(&mut self, token: Token, abort: bool) -> bool {
        let named = self.core.transport_mut().addressee(token);
        let sent = self.send(Command::CloseSocket { token: named, abort });
        if sent {
            self.shared.note_closed(named);
        }
        if sent && let Some(end) = self.core.transport().end(token) {
            self.world.borrow_mut().waive(end);
        }
        sent
    }

    fn connect(&mut self, to: SocketAddr, tag: u64) -> bool {
        core_call(|| self.group.connect(Address::Inet(to), tag, &mut self.balancer)).is_ok()
    }

    fn stop(&mut self, grace: Duration) {
        self.core.transport_mut().told_to_stop(grace);
        self.shared.stops.set(true);
        self.grace = self.grace.min(self.core.transport().grace_end);
        core_call(|| self.handle().stop(grace));
    }
}
