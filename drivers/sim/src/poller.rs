//! A simulated poller: the loop of core over the simulated network, woken and fed as the seed has it.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::balance::Balancer;
use lightcone_core::poller::{self, Command, ConnectResult, Group, LoadPermit, Member, PollerHandle};
use lightcone_core::sync::Load;
use lightcone_core::{
    Address, Checked, ContractChecker, ErrorKind, FreeBlocks, Handler, Instant, Interest, Stats, Token,
};

use crate::agenda::Scheduled;
use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::probe::{Probe, Probed, Shared, Tally, Wire};
use crate::tape::Track;
use crate::trace::{self, Did};
use crate::transport::{Descriptor, Network, SharedWorld, SimConnection, SimTypes, listener_of};
use crate::within::core_call;
use crate::world::{Completion, Done, World};

/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 16;
const EVENTS_MAX: usize = 1_024;
/// The most turns in a row, without a sleep, in which nothing comes, goes, begins or ends.
const IDLE_MAX: u32 = 2_000;

pub(crate) type Order = Command<Descriptor, Descriptor, LoadPermit<SimTypes>>;
pub(crate) type Handle<H> = PollerHandle<<H as Handler>::Message, SimTypes>;
pub(crate) type Data<H> = Probed<Checked<<H as Handler>::Data>>;
pub(crate) type Loop<'s, H, T> = poller::Poller<
    's,
    Probe<ContractChecker<H, Wire>>,
    Network<T>,
    Member<'s, <H as Handler>::Message, SimTypes>,
    CONNECTS_A_TURN,
>;

/// What the simulation sees of a poller, whatever its handler.
pub(crate) trait Host {
    fn turn(&mut self);
    fn in_use(&self) -> usize;
    fn delivered(&self) -> u64;
    fn stats(&self) -> Stats;
    /// Checks that nothing is left over; the poller has stopped.
    fn check_end(&self);
    fn describe(&self) -> String;
    /// Sends the poller a command; `false` if its mailbox has no room.
    fn send(&mut self, order: Order) -> bool;
    /// Closes a socket from outside; `false` if the poller's mailbox has no room.
    fn close(&mut self, token: Token, abort: bool) -> bool;
    /// Has the engine connect; `false` if it has no room for it.
    fn connect(&mut self, to: SocketAddr, tag: u64) -> bool;
    fn stop(&mut self, grace: Duration);
}

/// What a wait has brought.
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
    /// When it wanted to be woken.
    wanted: Option<Instant>,
    slept: bool,
    /// Turns without a sleep in which nothing moved, and what had moved by the last.
    idle: u32,
    moved: u64,
    /// Readiness was held back in the last wait.
    delayed: bool,
    /// Those that had more to send in the last turn than they may in one.
    deferred: Vec<Token>,
    /// When this turn and the one before began, in µs.
    began: u64,
    began_before: u64,
    /// When the grace time of a stop is over at the latest, in µs.
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
            began_before: 0,
            grace: u64::MAX,
        }
    }

    fn handle(&self) -> &'s Handle<H> {
        self.core.membership().handle()
    }

    fn begin_turn(&mut self) {
        self.check_rest();
        let late = {
            let world = &mut *self.world.borrow_mut();
            let side = &mut world.sides[self.side as usize];
            side.turns += 1;
            side.asleep = false;
            self.shared.before.set(self.now.as_millis());
            self.now = Instant::from_millis(world.now / 1_000);
            self.shared.second_before.set(self.began_before);
            (self.began_before, self.began) = (self.began, world.now);
            world.now.saturating_sub(side.asked)
        };
        self.shared.late_before.set(self.shared.late.replace(late));
        self.shared.late_most.set(self.shared.late_most.get().max(late));
        self.shared.turn.set(self.shared.turn.get() + 1);
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

    /// A poller that has nothing to do sleeps.
    fn check_rest(&mut self) {
        let stats = self.core.stats();
        let moved =
            stats.bytes_in + stats.bytes_out + stats.accepted + stats.connected + stats.closed_total();
        self.idle = if moved == self.moved { self.idle + 1 } else { 0 };
        self.moved = moved;
        assert!(self.idle <= IDLE_MAX, "liveness: poller {} goes round and round for nothing", self.side);
    }

    // --- what a wait brings ------------------------------------------------------------------------------------------

    fn collect(&mut self, world: &mut World) {
        self.events.clear();
        self.delayed = false;
        let me = self.side as usize;
        for _ in 0..world.sides[me].ready.len().min(EVENTS_MAX) {
            let Some(end) = world.sides[me].ready.pop_front() else { break };
            let place = world.end_mut(end);
            place.listed = false;
            let (key, watched) = (place.key, place.watched);
            let is = world.readiness(end);
            let ready = Interest::new(is.reads() && watched.reads(), is.writes() && watched.writes());
            if ready.is_none() {
                continue;
            }
            // it is told again in the next wait, unless it has been acted on
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
        if self.events.len() > 1 && world.occurs(Track::Calls, Fault::Reordered) {
            let most = self.events.len() as u32;
            let (a, b) = (world.decider.draw(Track::Calls, most), world.decider.draw(Track::Calls, most));
            self.events.swap(a as usize, b as usize);
        }
        if world.occurs(Track::Calls, Fault::Spurious) {
            self.make_up_event(world);
        }
    }

    fn collect_completions(&mut self, world: &mut World) {
        let me = self.side as usize;
        for _ in 0..world.sides[me].completions.len() {
            if world.occurs(Track::Calls, Fault::Delayed) {
                self.delayed = true;
                break;
            }
            self.completions.extend(world.sides[me].completions.pop_front());
        }
        // of different sockets, whichever comes first
        let count = self.completions.len();
        if count > 1 && world.occurs(Track::Calls, Fault::Reordered) {
            let at = world.decider.draw(Track::Calls, count as u32 - 1) as usize;
            if self.completions[at].end != self.completions[at + 1].end {
                self.completions.swap(at, at + 1);
            }
        }
    }

    /// Readiness of a socket that may not be ready, within what is watched of it.
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

    // --- telling the loop --------------------------------------------------------------------------------------------

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

    /// Changes what is kept of a connection that is still there.
    fn change(&mut self, token: Token, change: impl FnOnce(&mut SimConnection)) {
        if let Some((_, connection)) = self.core.connection_mut(token) {
            change(connection);
        }
    }

    /// Checks that no timeout of a socket that is still there has been passed over.
    fn check_overdue(&mut self, token: Token) {
        if let Some((network, connection)) = self.core.connection_mut(token) {
            network.check_overdue(token, connection);
        }
    }

    /// Offers a socket bytes that have come. What it does not take stays with its connection.
    fn offer(&mut self, token: Token, mut bytes: Vec<u8>) {
        // nothing is asked for before it is known what is left
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
        // the last thing that is received
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

    /// Offers again what was left before.
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

    /// The bytes of a send that is over are where they were when it began.
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
            "in flight: the bytes of {token} were taken back or written over before they had left"
        );
        assert!(is_there, "in flight: the bytes of {token} were moved before they had left");
    }

    // --- checks after a turn -----------------------------------------------------------------------------------------

    /// A socket that has sent as often as it may goes on in the next turn.
    fn check_fairness(&mut self) {
        let turn = self.shared.turn.get();
        for token in core::mem::take(&mut self.deferred) {
            let waits = self
                .core
                .connection_mut(token)
                .is_some_and(|(_, connection)| connection.deferred.is_some_and(|since| since < turn));
            assert!(!waits, "starvation: {token} was put off and is not sent to in the next turn");
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

    /// A socket whose connection never began has sent nothing.
    fn check_unconnected(&self) {
        for ended in self.shared.ended.borrow_mut().drain(..) {
            assert!(ended.queued == ended.left, "bytes: socket {} sent without a connection", ended.token);
            self.shared.forget_outside(ended.token);
            self.shared.count(|tally| tally.bytes_lost += ended.queued);
            let there = self.core.transport().end(ended.token);
            assert!(there.is_none(), "contract: {} is not closed after its last event", ended.token);
        }
    }

    /// Core counts what its handler and its network have seen.
    fn check_counts(&self) {
        let stats = self.core.stats();
        let seen = self.shared.tally.get();
        // over completions it is not known here how much of what was taken came too late to be counted
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
        assert!(counted == seen, "counts: core has {counted:?}, of {seen:?}");
    }

    /// Permits and slots are those of the sockets that there are; without sockets all blocks are free.
    fn check_leases(&self) {
        let (side, shard) = (self.side, self.core.shard());
        let alive = usize::try_from(self.core.handler().inner.alive()).unwrap_or(usize::MAX);
        let (load, in_use) = (self.core.membership().load(), shard.in_use());
        assert!(load as usize == alive, "load: poller {side} has {load} permits for {alive} sockets");
        let sound = in_use.checked_sub(alive).is_some_and(|ready| ready <= CONNECTS_A_TURN);
        assert!(sound, "leak: poller {side} has {in_use} slots in use for {alive} sockets");
        if alive == 0 {
            self.check_blocks();
        }
        let over = self.began > self.grace.saturating_add(1_000_000) && !self.core.transport().completes;
        assert!(!over || alive == 0, "liveness: poller {side} has {alive} sockets after the grace time");
    }

    /// What had come before a stop is received before a socket closes in order, unless it wants for a block.
    fn check_lost(&self) {
        let Some((token, bytes)) = self.shared.lost.take() else { return };
        let (free, config) = (self.core.shard().free_blocks(), self.core.shard().config());
        let wants = free.input == 0 || (free.receive == 0 && config.receive_blocks > 0);
        assert!(
            wants || self.core.stats().input_shortages > 0,
            "stop: {bytes} bytes that had come for {token} before it are lost"
        );
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

    // --- until the next turn -----------------------------------------------------------------------------------------

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
        let first = match self.wanted {
            Some(at) if at > self.now => self.core.transport_mut().mutant.wakes(Some(at)),
            now_or_never => now_or_never,
        };
        if unreaped || first.is_some_and(|at| at <= self.now) || !core_call(|| self.handle().try_sleep()) {
            let at = world.now
                + if self.delayed { 1 + u64::from(world.decider.draw(Track::Calls, 2_000)) } else { 1 };
            // a deadline may fall into what holds it up
            let deadline = first.map_or(at, |at| at.as_millis() * 1_000);
            world.sides[me as usize].asked = deadline.clamp(world.now + 1, at);
            world.add(at, Scheduled::Turn { poller: me, since });
            return;
        }
        self.slept = true;
        self.idle = 0;
        // nothing is on its way
        let (load, held) = (AsRef::<Load>::as_ref(self.handle()).get(), self.core.membership().load());
        assert!(load == held, "load: poller {me} is counted with {load} sockets, and has {held}");
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
        *self.core.stats()
    }

    fn check_end(&self) {
        let (side, shard) = (self.side, self.core.shard());
        assert!(self.core.is_over(), "liveness: poller {side} has not stopped");
        assert!(shard.in_use() == 0, "leak: {} slots of poller {side} are in use", shard.in_use());
        let alive = self.core.handler().inner.alive();
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
