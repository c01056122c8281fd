//! A simulated poller: the loop of `drivers/unix/src/poller.rs` over the simulated network.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use lightcone_core::balance::{Balancer, peer_hint};
use lightcone_core::sync::Popped;
use lightcone_core::{
    Address, Checked, CloseReason, Context, ContractChecker, FreeBlocks, Handler, Instant, Interest, Next,
    Origin, PollerId, Port, Shard, Stats, Token,
};

use crate::acceptor::{Acceptor, listener_of};
use crate::agenda::Due;
use crate::end::{End, Kind, Owner};
use crate::entry::{CONNECTS_A_TURN, Dial, Io, Outlet};
use crate::fault::Fault;
use crate::hub::{Control, Hub, Inbox, Mail, Newcomer, Seat};
use crate::probe::{Ended, Probe, Probed, Seen, Shared, check_timeout};
use crate::tape::Track;
use crate::trace::Did;
use crate::twin::Twin;
use crate::within::core_call;
use crate::world::{Completion, Received, Sent, World};

const EVENTS_MAX: usize = 1_024;
const MAIL_A_TURN: usize = 256;
const BROADCAST_A_TURN: usize = 1_024;
const SENDS_IN_A_ROW: usize = 4;
/// The most turns in a row, without a sleep, in which nothing comes, goes, begins or ends.
const IDLE_MAX: u32 = 2_000;
/// The most pieces of one send.
pub(crate) const GATHER_MAX: usize = 16;

/// What the simulation sees of a poller, whatever its handler.
pub(crate) trait Host {
    fn turn(&mut self, world: &mut World);
    fn in_use(&self) -> usize;
    fn told(&self) -> u64;
    fn stats(&self) -> Stats;
    /// Checks that nothing is left over; the poller has stopped.
    fn check_end(&self);
    fn describe(&self) -> String;
    /// Tells the poller; `false` if its mailbox has no room.
    fn tell(&self, control: Control, world: &mut World) -> bool;
    /// Has the engine connect; `false` if it has no room for it.
    fn dial(&self, to: SocketAddr, tag: u64, world: &mut World) -> bool;
}

struct Broadcast<M> {
    message: M,
    clone: fn(&M) -> M,
    from: u32,
}

/// What a wait has brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    key: u64,
    ready: Interest,
}

pub(crate) type Data<H> = Probed<Checked<<H as Handler>::Data>>;

pub(crate) struct Poller<'s, H: Handler, T> {
    pub(crate) shard: Shard<'s, Data<H>>,
    pub(crate) handler: Probe<ContractChecker<H>>,
    pub(crate) io: Io<H::Message>,
    pub(crate) twin: T,
    pub(crate) shared: Rc<Shared>,
    pub(crate) now: Instant,
    pub(crate) completes: bool,
    acceptor: Acceptor,
    control: Inbox<Control>,
    mail: Inbox<Mail<H::Message>>,
    broadcast: Option<Broadcast<H::Message>>,
    events: Vec<Event>,
    completions: Vec<Completion>,
    buffer: Vec<u8>,
    seats: Seat,
    /// When the shard wanted to be woken.
    wanted: Option<Instant>,
    slept: bool,
    /// Turns without a sleep in which nothing moved, and what had moved by the last.
    idle: u32,
    moved: u64,
    /// Readiness was held back in the last wait.
    delayed: bool,
    more_control: bool,
    stop_at: Option<Instant>,
    stop_from: Option<u32>,
    over: bool,
}

/// The parts that a poller is made from.
pub(crate) struct Parts<'s, H: Handler, T> {
    pub(crate) id: PollerId,
    pub(crate) hub: Rc<Hub<H::Message>>,
    pub(crate) shard: Shard<'s, Data<H>>,
    pub(crate) handler: H,
    pub(crate) shared: Rc<Shared>,
    pub(crate) twin: T,
    pub(crate) balancer: Balancer,
    pub(crate) receive_size: usize,
    pub(crate) completes: bool,
}

impl<'s, H: Handler, T: Twin> Poller<'s, H, T> {
    pub(crate) fn new(parts: Parts<'s, H, T>) -> Self {
        let Parts { id, hub, shard, handler, shared, twin, balancer, receive_size, completes } = parts;
        let remote = hub.remote(id);
        let inboxes = (Inbox::new(Rc::clone(&remote.control)), Inbox::new(Rc::clone(&remote.mail)));
        let (Ok(control), Ok(mail)) = inboxes else { panic!("a poller's mailboxes have one receiver") };
        let (seats, side) = (Seat::none(Rc::clone(&remote.load)), remote.side);
        Self {
            handler: Probe { inner: ContractChecker::new(handler), shared: Rc::clone(&shared) },
            io: Io::new(id, side, hub),
            twin,
            shared,
            now: Instant::from_millis(0),
            completes,
            acceptor: Acceptor::new(balancer),
            control,
            mail,
            broadcast: None,
            events: Vec::new(),
            completions: Vec::new(),
            buffer: vec![0; receive_size],
            seats,
            wanted: None,
            slept: false,
            idle: 0,
            moved: 0,
            delayed: false,
            more_control: false,
            stop_at: None,
            stop_from: None,
            over: false,
            shard,
        }
    }

    fn side(&self) -> u32 {
        self.io.side
    }

    fn begin_turn(&mut self, world: &mut World) {
        self.check_rest();
        let side = &mut world.sides[self.io.side as usize];
        side.turns += 1;
        side.asleep = false;
        let late = world.now.saturating_sub(side.asked).div_ceil(1_000);
        let before = self.now;
        self.now = Instant::from_millis(world.now / 1_000);
        self.shared.late_before.set(self.shared.late.replace(late));
        self.shared.before.set(before.as_millis());
        self.shared.turn.set(self.shared.turn.get() + 1);
        if let Some(wanted) = self.wanted.take() {
            let overslept = self.now.as_millis().saturating_sub(wanted.as_millis());
            assert!(overslept <= late + 1, "timers: poller {} overslept by {overslept} ms", self.io.side);
        }
        if core::mem::take(&mut self.slept) {
            core_call(|| self.io.hub.remote(self.io.me).flag.awake());
        }
        let now = self.now;
        core_call(|| self.shard.tick(now));
        self.io.refill(&mut self.shard);
    }

    /// A poller that has nothing to do sleeps.
    fn check_rest(&mut self) {
        let stats = self.shard.stats();
        let moved =
            stats.bytes_in + stats.bytes_out + stats.accepted + stats.connected + stats.closed_total();
        self.idle = if moved == self.moved { self.idle + 1 } else { 0 };
        self.moved = moved;
        assert!(self.idle <= IDLE_MAX, "liveness: poller {} goes round and round for nothing", self.io.side);
    }

    /// What the wait brings.
    fn collect(&mut self, world: &mut World) {
        self.events.clear();
        self.delayed = false;
        let me = self.io.side as usize;
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
            if world.strikes(Track::Calls, Fault::Delayed) {
                self.delayed = true;
                continue;
            }
            self.events.push(Event { key, ready });
            if world.strikes(Track::Calls, Fault::Duplicated) {
                self.events.push(Event { key, ready });
            }
        }
        self.collect_completions(world);
        if self.events.len() > 1 && world.strikes(Track::Calls, Fault::Reordered) {
            let most = self.events.len() as u32;
            let (a, b) = (world.decider.draw(Track::Calls, most), world.decider.draw(Track::Calls, most));
            self.events.swap(a as usize, b as usize);
        }
        if world.strikes(Track::Calls, Fault::Spurious) {
            self.make_up_event(world);
        }
    }

    fn collect_completions(&mut self, world: &mut World) {
        let me = self.io.side as usize;
        for _ in 0..world.sides[me].completions.len() {
            if world.strikes(Track::Calls, Fault::Delayed) {
                self.delayed = true;
                break;
            }
            self.completions.extend(world.sides[me].completions.pop_front());
        }
        // of different sockets, whichever comes first
        let count = self.completions.len();
        if count > 1 && world.strikes(Track::Calls, Fault::Reordered) {
            let at = world.decider.draw(Track::Calls, count as u32 - 1) as usize;
            if self.completions[at].end != self.completions[at + 1].end {
                self.completions.swap(at, at + 1);
            }
        }
    }

    /// Readiness of a socket that may not be ready, within what is watched of it.
    fn make_up_event(&mut self, world: &mut World) {
        if self.io.entries.is_empty() || self.completes {
            return;
        }
        let place = world.decider.draw(Track::Calls, self.io.entries.len() as u32);
        let entry = &self.io.entries[place as usize];
        if let Some(end) = entry.end
            && !entry.interest.is_none()
        {
            self.events.push(Event { key: world.end(end).key, ready: entry.interest });
        }
    }

    fn on_event(&mut self, event: Event, world: &mut World) {
        if let Some(id) = listener_of(event.key) {
            self.acceptor.accept(id, self.io.me, &self.io.hub, self.now, world);
            return self.adopt_newcomers(world);
        }
        let token = self.addressee(Token::from_bits(event.key));
        if event.ready.writes() {
            self.on_writable(token, world);
        }
        if event.ready.reads() {
            self.on_readable(token, world);
        }
    }

    /// Whom something is for: whoever it names, unless the driver is a broken one.
    pub(crate) fn addressee(&mut self, token: Token) -> Token {
        let there = self.io.there(token.index());
        self.twin.addressee(token, there)
    }

    fn on_readable(&mut self, token: Token, world: &mut World) {
        let Some(mut port) = core_call(|| self.shard.port(token)) else { return };
        let Some(end) = self.io.end(token) else { return };
        let room = port.room().min(self.buffer.len());
        if room > 0 {
            let received = world.receive(end, &mut self.buffer[..room]);
            match received {
                Received::Bytes(n) => {
                    self.io.entry(token).seen.progress = self.now.as_millis();
                    let bytes = &mut self.buffer[..n];
                    core_call(|| port.received(bytes));
                }
                Received::WouldBlock => return,
                Received::End => core_call(|| port.ended()),
                Received::Failed(kind) => core_call(|| port.failed(kind)),
            }
        }
        let mut outlet = Outlet { io: &mut self.io, world };
        let mut cx = Context::new(self.now, Some(0), PollerId(token.poller().0), &mut outlet);
        let next = core_call(|| port.run(&mut self.handler, &mut cx));
        self.act(token, next, world);
    }

    fn on_writable(&mut self, token: Token, world: &mut World) {
        let Some(mut port) = core_call(|| self.shard.port(token)) else { return };
        if port.is_connecting() {
            let Some(end) = self.io.end(token) else { return };
            match world.end(end).kind {
                Kind::Failed(kind) => {
                    self.io.entry(token).seen.connect_failed = true;
                    core_call(|| port.failed(kind));
                }
                Kind::Connected => {
                    self.io.opened(token, self.now);
                    core_call(|| port.connected());
                }
                Kind::Connecting | Kind::Free | Kind::Listener => return,
            }
        }
        if self.twin.tells_writable(token) {
            core_call(|| port.writable());
        }
        self.run_port(token, world);
    }

    /// Delivers what is due for a socket and carries out what follows.
    pub(crate) fn run_port(&mut self, token: Token, world: &mut World) {
        let Some(next) = self.after(token, world, |_| {}) else { return };
        self.act(token, next, world);
    }

    /// Tells the shard something and runs what follows from it.
    pub(crate) fn after(
        &mut self,
        token: Token,
        world: &mut World,
        tell: impl FnOnce(&mut Port<'_, 's, Data<H>>),
    ) -> Option<Next> {
        let mut port = core_call(|| self.shard.port(token))?;
        core_call(|| tell(&mut port));
        let mut outlet = Outlet { io: &mut self.io, world };
        let mut cx = Context::new(self.now, Some(0), PollerId(token.poller().0), &mut outlet);
        Some(core_call(|| port.run(&mut self.handler, &mut cx)))
    }

    /// Carries out a socket's orders until it waits.
    pub(crate) fn act(&mut self, token: Token, mut next: Next, world: &mut World) {
        let mut sends = 0;
        loop {
            self.note_end(token, world);
            let after = match next {
                Next::Wait(interest) if self.completes => self.wait_completing(token, interest, world),
                Next::Wait(interest) => return self.watch(token, interest, world),
                Next::Send if sends == SENDS_IN_A_ROW => return self.put_off(token),
                Next::Send => {
                    sends += 1;
                    if self.completes { self.begin_send(token, world) } else { self.send(token, world) }
                }
                Next::Shut => {
                    let outcome = self.io.end(token).map_or(Ok(()), |end| world.shut(end));
                    self.after(token, world, |port| match outcome {
                        Ok(()) => port.shut(),
                        Err(kind) => port.failed(kind),
                    })
                }
                Next::Cancel => {
                    let n = self.io.end(token).map_or(0, |end| world.cancel_send(end));
                    self.io.entry(token).sent += n as u64;
                    self.after(token, world, |port| port.sent(n))
                }
                Next::Close => return self.close(token, world),
            };
            let Some(after) = after else { return };
            next = after;
        }
    }

    /// What ends from outside need not be whole.
    fn excuse(&self, token: Token, world: &mut World) {
        if self.io.there(token.index()) == Some(token)
            && let Some(end) = self.io.end(token)
        {
            world.excuse(end);
        }
    }

    fn put_off(&mut self, token: Token) {
        if let Some(mut port) = core_call(|| self.shard.port(token)) {
            core_call(|| port.put_off());
            self.io.entry(token).put_off = Some(self.shared.turn.get());
        }
    }

    /// Takes note of what a handler was told last of a socket.
    fn note_end(&mut self, token: Token, world: &World) {
        let Some(ended) = self.shared.ended.take() else { return };
        assert!(ended.token == token, "contract: {} ended in a callback of {token}", ended.token);
        let entry = self.io.entry(token);
        entry.ended = Some(ended);
        check_timeout(&self.shared, &ended, &entry.seen, self.now.as_millis());
        check_reason(&ended, entry.end.map(|end| world.end(end)));
        let accounted = entry.sent + ended.left;
        assert!(
            ended.queued == accounted,
            "bytes: socket {token} queued {}, sent {} and reported {} as lost",
            ended.queued,
            entry.sent,
            ended.left
        );
    }

    fn send(&mut self, token: Token, world: &mut World) -> Option<Next> {
        let port = core_call(|| self.shard.port(token))?;
        let end = self.io.end(token)?;
        let mut pieces: [&[u8]; GATHER_MAX] = [&[]; GATHER_MAX];
        let count = core_call(|| port.outputs(&mut pieces));
        let pieces = &pieces[..count];
        let offered: usize = pieces.iter().map(|piece| piece.len()).sum();
        let (first, is_all) = port.output();
        assert!(pieces.first() == Some(&first), "bytes: the first piece of {token} is two different ones");
        assert!(!is_all || first.len() == offered, "bytes: {token} has more than its first piece");
        let sent = world.send(end, pieces);
        let now = self.now.as_millis();
        let seen = self.io.entry(token);
        match sent {
            Sent::Bytes(n) => {
                seen.sent += n as u64;
                seen.seen.progress = now;
                seen.seen.stalled = (n < offered).then_some(now);
            }
            Sent::WouldBlock => {
                seen.seen.stalled.get_or_insert(now);
            }
            Sent::Failed(_) => {}
        }
        self.after(token, world, |port| match sent {
            Sent::Bytes(n) => {
                port.sent(n);
                if n < offered {
                    port.blocked();
                }
            }
            Sent::WouldBlock => port.blocked(),
            Sent::Failed(kind) => port.failed(kind),
        })
    }

    fn watch(&mut self, token: Token, interest: Interest, world: &mut World) {
        let entry = self.io.entry(token);
        if entry.interest != interest {
            entry.interest = interest;
            if let Some(end) = entry.end {
                world.watch(end, interest);
            }
        }
    }

    /// The shard has let go of the socket: so does the driver.
    fn close(&mut self, token: Token, world: &mut World) {
        let breaks_off = self.shard.breaks_off();
        let entry = self.io.release(token);
        let Some(ended) = entry.ended else { panic!("contract: {token} closed without a last event") };
        let lost = ended.left;
        assert!(
            lost == 0 || breaks_off,
            "bytes: {token} lost {lost} bytes and is closed as if in good order"
        );
        if let Some(end) = entry.end {
            if !matches!(ended.reason, Some(CloseReason::Local | CloseReason::Peer)) || lost > 0 {
                world.excuse(end);
            }
            if !breaks_off {
                world.cut_tail(end, |bytes| self.twin.tail(bytes));
            }
            world.close(end, breaks_off);
        }
        assert!(core_call(|| self.seats.release()), "load: {token} had no seat");
    }

    fn adopt_newcomers(&mut self, world: &mut World) {
        while let Some(newcomer) = self.acceptor.newcomers.pop_front() {
            self.adopt(newcomer, world);
        }
    }

    fn adopt(&mut self, newcomer: Newcomer, world: &mut World) {
        let Newcomer { end, peer, listener, seat } = newcomer;
        let origin = Origin::Accepted { listener };
        let admitted = core_call(|| self.shard.admit(&mut self.handler, origin, &Address::Inet(peer)));
        let Ok(token) = admitted else {
            world.excuse(end);
            return world.close(end, false);
        };
        core_call(|| self.seats.absorb(seat));
        self.begin(token, Some(end), Interest::READ, world);
        self.io.opened(token, self.now);
        self.run_port(token, world);
    }

    fn begin(&mut self, token: Token, end: Option<u32>, interest: Interest, world: &mut World) {
        self.io.take(token, end, if self.completes { Interest::NONE } else { interest });
        self.io.entry(token).seen = Seen { opened: self.now.as_millis(), ..Seen::default() };
        let Some(end) = end else { return };
        let place = world.end_mut(end);
        place.owner = Owner::Poller(self.io.side);
        place.key = token.to_bits();
        if !self.completes {
            world.watch(end, interest);
        }
    }

    fn dial(&mut self, dial: Dial, world: &mut World) {
        let Dial { token, to, tag, seat } = dial;
        let dialled = core_call(|| self.shard.dial(&mut self.handler, token, tag, &Address::Inet(to)));
        if dialled.is_err() {
            return;
        }
        core_call(|| self.seats.absorb(seat));
        let end = world.connect(Owner::Poller(self.io.side), to);
        self.begin(token, Some(end), Interest::WRITE, world);
        self.run_port(token, world);
    }

    fn read_control(&mut self, world: &mut World) {
        for _ in 0..MAIL_A_TURN {
            let Popped::Item(control) = core_call(|| self.control.pop()) else {
                self.more_control = false;
                return;
            };
            match control {
                Control::Adopt(newcomer) => self.adopt(newcomer, world),
                Control::Dial { to, tag, seat } => {
                    if let Some(token) = core_call(|| self.shard.reserve()) {
                        self.dial(Dial { token, to, tag, seat }, world);
                    }
                }
                Control::Listen { end, id } if self.stop_at.is_none() => self.acceptor.listen(end, id, world),
                Control::Listen { end, .. } => world.close(end, false),
                Control::Unlisten { id } => self.acceptor.close(id, world),
                Control::Close { token, abort } => {
                    self.excuse(token, world);
                    let next = self.after(token, world, |port| {
                        if abort { port.cut(CloseReason::Aborted) } else { port.close() }
                    });
                    if let Some(next) = next {
                        self.act(token, next, world);
                    }
                }
                Control::Stop { grace } => self.stop(grace, world),
            }
        }
        self.more_control = true;
    }

    fn read_mail(&mut self, world: &mut World) {
        let (mut mails, mut deliveries) = (MAIL_A_TURN, BROADCAST_A_TURN);
        self.go_on_broadcasting(&mut deliveries, world);
        while mails > 0 && self.broadcast.is_none() {
            mails -= 1;
            match core_call(|| self.mail.pop()) {
                Popped::Item(Mail::Post(token, message)) => {
                    let token = self.addressee(token);
                    self.deliver(token, message, world);
                }
                Popped::Item(Mail::Broadcast(message, clone)) => {
                    self.broadcast = Some(Broadcast { message, clone, from: 0 });
                    self.go_on_broadcasting(&mut deliveries, world);
                }
                Popped::Empty | Popped::Finished => return,
            }
        }
    }

    fn deliver(&mut self, token: Token, message: H::Message, world: &mut World) {
        let Some(mut port) = core_call(|| self.shard.port(token)) else { return };
        let mut outlet = Outlet { io: &mut self.io, world };
        let mut cx = Context::new(self.now, Some(0), PollerId(token.poller().0), &mut outlet);
        if let Ok(next) = core_call(|| port.message(message, &mut self.handler, &mut cx)) {
            self.act(token, next, world);
        }
    }

    fn go_on_broadcasting(&mut self, deliveries: &mut usize, world: &mut World) {
        while *deliveries > 0 {
            let Some(broadcast) = &mut self.broadcast else { return };
            *deliveries -= 1;
            let Some(token) = core_call(|| self.shard.next_open(broadcast.from)) else {
                self.broadcast = None;
                return;
            };
            broadcast.from = token.index() + 1;
            let message = (broadcast.clone)(&broadcast.message);
            self.deliver(token, message, world);
        }
    }

    fn stop(&mut self, grace: Duration, world: &mut World) {
        let at = self.now + grace;
        if let Some(before) = self.stop_at {
            self.stop_at = Some(before.min(at));
            return;
        }
        self.stop_at = Some(at);
        self.acceptor.close_all(world);
        self.io.give_back_stash(&mut self.shard);
        core_call(|| self.shard.stop());
        self.stop_from = Some(0);
    }

    /// Tells every socket that the engine is shutting down.
    fn announce_stop(&mut self, world: &mut World) {
        while let Some(token) = self.stop_from.and_then(|from| core_call(|| self.shard.next_in_use(from))) {
            self.stop_from = Some(token.index() + 1);
            self.excuse(token, world);
            if let Some(next) = self.after(token, world, |port| port.shutdown()) {
                self.act(token, next, world);
            }
        }
        self.stop_from = None;
    }

    /// Aborts what is left, closes the mailboxes, and lets go of what is on its way.
    fn end(&mut self, world: &mut World) {
        let mut from = 0;
        while let Some(token) = self.shard.next_in_use(from) {
            from = token.index() + 1;
            if let Some(next) = self.after(token, world, |port| port.cut(CloseReason::Shutdown)) {
                self.act(token, next, world);
            }
        }
        let remote = self.io.hub.remote(self.io.me);
        remote.control.close();
        remote.mail.close();
        while let Popped::Item(control) = self.control.pop() {
            match control {
                Control::Adopt(Newcomer { end, .. }) => {
                    world.excuse(end);
                    world.close(end, true);
                }
                Control::Listen { end, .. } => world.close(end, false),
                Control::Dial { .. }
                | Control::Unlisten { .. }
                | Control::Close { .. }
                | Control::Stop { .. } => {}
            }
        }
        while let Popped::Item(_) = self.mail.pop() {}
        self.broadcast = None;
        self.over = true;
        world.sides[self.io.side as usize].over = true;
    }

    fn plan(&mut self, world: &mut World) {
        let me = self.io.side;
        let side = &world.sides[me as usize];
        let unreaped = !side.ready.is_empty() || !side.completions.is_empty();
        let busy = self.more_control
            || self.mail.is_ready()
            || self.broadcast.is_some()
            || !self.io.dials.is_empty()
            || unreaped;
        let since = side.turns;
        let shard = core_call(|| self.shard.next_deadline());
        self.wanted = shard;
        let wakes = [self.twin.wakes(shard), self.acceptor.deadline(), self.stop_at];
        let first = wakes.into_iter().flatten().min();
        if busy
            || first.is_some_and(|at| at <= self.now)
            || !core_call(|| self.io.hub.remote(self.io.me).flag.try_sleep())
        {
            let at = world.now
                + if self.delayed { 1 + u64::from(world.decider.draw(Track::Calls, 2_000)) } else { 1 };
            // a deadline may fall into what holds it up
            let deadline = first.map_or(at, |at| at.as_millis() * 1_000);
            world.sides[me as usize].asked = deadline.clamp(world.now + 1, at);
            world.add(at, Due::Turn { poller: me, since });
            return;
        }
        self.slept = true;
        self.idle = 0;
        let deadline = first.map(|at| at.as_millis() * 1_000);
        world.trace.note(Did::Sleep, me.into(), first.map_or(u64::MAX, Instant::as_millis));
        world.sleep(me, deadline);
        if world.strikes(Track::Calls, Fault::WakeSpurious) {
            let at = world.now + 1 + u64::from(world.decider.draw(Track::Calls, 30_000));
            world.add(at, Due::Turn { poller: me, since });
        }
    }

    fn check_fairness(&mut self, token: Token) {
        if let Some(turn) = self.io.entry(token).put_off.take() {
            let waited = self.shared.turn.get() - turn;
            assert!(waited <= 1, "starvation: {token} was put off and came back {waited} turns later");
        }
    }
}

/// Whether the network did what a handler was told that it did.
fn check_reason(ended: &Ended, end: Option<&End>) {
    let Some(end) = end else { return };
    match ended.reason {
        Some(CloseReason::Reset | CloseReason::Error(_)) => {
            assert!(end.error.is_some(), "ends: {} was told of a failure that was none", ended.token);
        }
        Some(CloseReason::Peer) => {
            assert!(end.ended, "ends: {} was told of an end that was none", ended.token);
        }
        _ => {}
    }
}

impl<H: Handler, T: Twin> Host for Poller<'_, H, T> {
    fn turn(&mut self, world: &mut World) {
        if self.over {
            return;
        }
        self.begin_turn(world);
        self.collect(world);
        let count = self.events.len() + self.completions.len();
        world.trace.note(Did::Turn, self.side().into(), count as u64);
        for i in 0..self.events.len() {
            self.on_event(self.events[i], world);
        }
        for completion in core::mem::take(&mut self.completions) {
            self.on_completion(completion, world);
        }
        self.read_control(world);
        while let Some(token) = core_call(|| self.shard.next_ready()) {
            self.check_fairness(token);
            self.run_port(token, world);
        }
        self.read_mail(world);
        self.acceptor.resume(self.io.me, &self.io.hub, self.now, world);
        self.adopt_newcomers(world);
        for _ in 0..CONNECTS_A_TURN {
            let Some(dial) = self.io.dials.pop_front() else { break };
            self.dial(dial, world);
        }
        if self.stop_from.is_some() {
            self.announce_stop(world);
        }
        match self.stop_at {
            Some(at) if self.shard.in_use() == 0 || self.now >= at => self.end(world),
            _ => self.plan(world),
        }
    }

    fn in_use(&self) -> usize {
        self.shard.in_use()
    }

    fn told(&self) -> u64 {
        self.shared.told.get()
    }

    fn stats(&self) -> Stats {
        *self.shard.stats()
    }

    fn check_end(&self) {
        let side = self.io.side;
        assert!(self.over, "liveness: poller {side} has not stopped");
        assert!(self.shard.in_use() == 0, "leak: {} slots of poller {side} are in use", self.shard.in_use());
        let alive = self.handler.inner.alive();
        assert!(alive == 0, "leak: {alive} sockets of poller {side} never had their last event");
        let load = self.io.hub.remote(self.io.me).load.get();
        assert!(load == 0, "leak: poller {side} still has a load of {load}");
        let (free, config) = (self.shard.free_blocks(), self.shard.config());
        let all = FreeBlocks {
            output: config.output_blocks,
            input: config.input_blocks,
            receive: config.receive_blocks,
        };
        assert!(free == all, "leak: of poller {side}'s blocks, {all:?}, only these are free: {free:?}");
    }

    fn tell(&self, control: Control, world: &mut World) -> bool {
        self.io.hub.remote(self.io.me).tell(control, world).is_ok()
    }

    fn dial(&self, to: SocketAddr, tag: u64, world: &mut World) -> bool {
        let hub = &*self.io.hub;
        let first = hub.balancer.borrow_mut().pick(&hub.pollers, peer_hint(&to));
        let remote = &hub.pollers[first];
        let Some(seat) = Seat::one_below(Rc::clone(&remote.load), hub.sockets) else { return false };
        remote.tell(Control::Dial { to, tag, seat }, world).is_ok()
    }

    fn describe(&self) -> String {
        let (in_use, now) = (self.shard.in_use(), self.now.as_millis());
        format!("poller {}: {in_use} sockets in use, its last turn at {now} ms", self.io.side)
    }
}
