//! One poller's thread: the loop of `drivers/unix/src/poller.rs`, over connections in memory.

use std::collections::VecDeque;

use core::time::Duration;

use lightcone_core::{
    Address, CloseReason, ConnectError, Context, ContractChecker, ErrorKind, Handler, Instant, Interest,
    ListenerId, Next, Origin, Outbox, PollerId, Port, Rejected, Shard, Token,
};

use crate::crossing::{Arc, Balancer, ListenSocket, Popped, yield_now};
use crate::hub::{Control, Hub, Inbox, Mail, Remote, Seat};
use crate::peer::{Connection, Received};
use crate::placing::{Accepted, Newcomer, Outcome, has_room, place};
use crate::trace::{What, note};
use crate::waker::{Steering, Waker};
use crate::watched::{Data, Watched};
use crate::world::World;

/// How many connects the handlers of one poller may begin in one turn.
pub(crate) const CONNECTS_A_TURN: usize = 2;
/// How long accepting rests when there is no room.
const REST: Duration = Duration::from_millis(20);

type Checked<H> = ContractChecker<Watched<H>>;
type CheckedData<D> = lightcone_core::Checked<Data<D>>;
/// The slots of a shard for handlers that keep `D`.
pub(crate) type Slots<D> = [core::mem::MaybeUninit<lightcone_core::Slot<CheckedData<D>>>];

struct Dial {
    token: Token,
    to: Address,
    tag: u64,
    seat: Seat,
}

/// A connection at the place of its token's index.
struct Wire {
    token: Token,
    /// `None`: a connect that nobody answers.
    connection: Option<Connection>,
    interest: Interest,
}

struct Io<'h, M> {
    me: PollerId,
    hub: &'h Hub<M>,
    steering: &'h [Steering],
    wires: Vec<Option<Wire>>,
    stash: Vec<Token>,
    dials: VecDeque<Dial>,
}

pub(crate) struct Poller<'h, 's, H: Handler> {
    pub(crate) shard: Shard<'s, CheckedData<H::Data>>,
    handler: Checked<H>,
    io: Io<'h, H::Message>,
    remote: &'h Remote<H::Message>,
    control: Inbox<'h, Control>,
    mail: Inbox<'h, Mail<H::Message>>,
    balancer: Balancer,
    listener: Option<(ListenSocket, ListenerId)>,
    held: Option<Accepted>,
    resume_at: Option<Instant>,
    seats: Seat,
    now: Instant,
    stop_at: Option<Instant>,
    waker: &'h Waker,
    world: Arc<World>,
}

/// The parts a poller is made from.
pub(crate) struct Parts<'h, 's, H: Handler> {
    pub(crate) id: PollerId,
    pub(crate) hub: &'h Hub<H::Message>,
    pub(crate) shard: Shard<'s, CheckedData<H::Data>>,
    pub(crate) handler: H,
    pub(crate) balancer: Balancer,
    pub(crate) waker: &'h Waker,
    pub(crate) steering: &'h [Steering],
    pub(crate) world: Arc<World>,
}

impl<'h, 's, H: Handler> Poller<'h, 's, H> {
    pub(crate) fn new(parts: Parts<'h, 's, H>) -> Self {
        let Parts { id, hub, shard, handler, balancer, waker, steering, world } = parts;
        let remote = hub.remote(id).expect("a poller of this hub");
        let inbox = "the first receiver";
        Self {
            now: Instant::from_millis(0),
            shard,
            handler: ContractChecker::new(Watched::new(handler, id)),
            io: Io { me: id, hub, steering, wires: Vec::new(), stash: Vec::new(), dials: VecDeque::new() },
            control: remote.control.receiver().expect(inbox),
            mail: remote.mail.receiver().expect(inbox),
            remote,
            balancer,
            listener: None,
            held: None,
            resume_at: None,
            seats: Seat::none(Arc::clone(&remote.load)),
            stop_at: None,
            waker,
            world,
        }
    }

    /// Runs until the engine is stopped and the last socket has ended, or the model has failed elsewhere.
    pub(crate) fn run(mut self) {
        while !self.world.failed() {
            self.shard.tick(self.now);
            self.refill();
            self.io.steering[usize::from(self.io.me.0)].here();
            self.turn();
            if self.is_over() {
                return self.end();
            }
            if self.world.is_through() {
                self.io.hub.stop(Duration::from_secs(1));
            }
            self.wait();
        }
    }

    /// Sets slots aside for the connects of the next turn.
    fn refill(&mut self) {
        while self.io.stash.len() < CONNECTS_A_TURN && self.stop_at.is_none() {
            let Some(token) = self.shard.reserve() else { return };
            self.io.stash.push(token);
        }
    }

    fn turn(&mut self) {
        for index in 0..self.io.wires.len() {
            let ready = self.io.wires[index].as_ref().filter(|wire| wire.is_ready()).map(|wire| wire.token);
            if let Some(token) = ready {
                self.on_event(token);
            }
        }
        self.read_control();
        while let Some(token) = self.shard.next_ready() {
            self.run_port(token);
        }
        self.read_mail();
        self.accept();
        while let Some(dial) = self.io.dials.pop_front() {
            self.dial(dial);
        }
    }

    fn on_event(&mut self, token: Token) {
        let Some(mut port) = self.shard.port(token) else { return };
        let Some(wire) = self.io.wire(token) else { return };
        if port.is_connecting() {
            match &wire.connection {
                Some(_) => port.connected(),
                None => port.failed(ErrorKind::ConnectionRefused),
            }
            port.writable();
            return self.run_port(token);
        }
        if wire.interest.writes() {
            port.writable();
        }
        let mut bytes = Vec::new();
        let room = port.room();
        if let Some(connection) = &mut wire.connection
            && wire.interest.reads()
            && connection.is_readable()
            && room > 0
        {
            match connection.receive(room) {
                Received::Bytes(received) => {
                    bytes = received;
                    port.received(&mut bytes);
                }
                Received::End => port.ended(),
                Received::Failed(error) => port.failed(error),
            }
        }
        let mut cx = Context::new(self.now, None, self.io.me, &mut self.io);
        let next = port.run(&mut self.handler, &mut cx);
        drop(bytes);
        self.act(token, next);
    }

    fn run_port(&mut self, token: Token) {
        if let Some(next) = self.after(token, |_| ()) {
            self.act(token, next);
        }
    }

    /// Tells a port something, and delivers what is due.
    fn after(
        &mut self,
        token: Token,
        tell: impl FnOnce(&mut Port<'_, 's, CheckedData<H::Data>>),
    ) -> Option<Next> {
        let mut port = self.shard.port(token)?;
        tell(&mut port);
        let mut cx = Context::new(self.now, None, self.io.me, &mut self.io);
        Some(port.run(&mut self.handler, &mut cx))
    }

    /// Carries out a socket's orders until it waits.
    fn act(&mut self, token: Token, next: Next) {
        let mut next = Some(next);
        while let Some(order) = next {
            next = self.carry_out(token, order);
        }
    }

    fn carry_out(&mut self, token: Token, order: Next) -> Option<Next> {
        match order {
            Next::Wait(interest) => {
                self.io.wire(token)?.interest = interest;
                None
            }
            Next::Close => {
                self.io.wires[token.index() as usize] = None;
                self.seats.release();
                None
            }
            Next::Send => {
                let piece = self.shard.port(token)?.output().0.to_vec();
                self.io.wire(token)?.connection.as_mut()?.send(&piece);
                self.after(token, |port| port.sent(piece.len()))
            }
            Next::Shut => self.after(token, |port| port.shut()),
            Next::Cancel => self.after(token, |port| port.sent(0)),
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) {
        let Newcomer { fd, peer, listener, seat } = newcomer;
        self.handler.inner_mut().peer = fd.peer;
        let Ok(token) = self.shard.admit(&mut self.handler, Origin::Accepted { listener }, &peer) else {
            return;
        };
        self.seats.absorb(seat);
        self.io.take(Wire { token, connection: Some(fd), interest: Interest::READ });
        self.run_port(token);
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { token, to, tag, seat } = dial;
        let answer = match to {
            Address::Inet(at) => self.world.answer(at),
            Address::Unix(_) => None,
        };
        self.handler.inner_mut().peer = answer.as_ref().map_or(usize::MAX, |(peer, _)| *peer);
        let connection = answer.map(|(peer, script)| Connection::new(peer, script, Arc::clone(&self.world)));
        if self.shard.dial(&mut self.handler, token, tag, &to).is_err() {
            return;
        }
        self.seats.absorb(seat);
        self.io.take(Wire { token, connection, interest: Interest::WRITE });
        self.run_port(token);
    }

    fn read_control(&mut self) {
        while let Some((order, stop)) = self.remote.next_order(&mut self.control) {
            if let Some(grace) = stop {
                self.stop(grace);
            }
            self.obey(order);
        }
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::Adopt(newcomer) => self.adopt(newcomer),
            Control::Dial { to, tag, seat } => {
                let dial = self.shard.reserve().map(|token| Dial { token, to, tag, seat });
                dial.into_iter().for_each(|dial| self.dial(dial));
            }
            Control::Listen { socket, id } => self.listener = Some((socket, id)),
            Control::Unlisten { .. } => self.listener = None,
            Control::Close { token, abort } => {
                let close = |port: &mut Port<'_, 's, CheckedData<H::Data>>| match abort {
                    true => port.cut(CloseReason::Aborted),
                    false => port.close(),
                };
                let next = self.after(token, close);
                next.into_iter().for_each(|next| self.act(token, next));
            }
            Control::Stop { grace } => self.stop(grace),
        }
    }

    fn read_mail(&mut self) {
        while let Popped::Item(mail) = self.mail.pop() {
            match mail {
                Mail::Post(token, message) => self.deliver(token, message),
                Mail::Broadcast(message, clone) => self.broadcast(&message, clone),
            }
        }
    }

    fn broadcast(&mut self, message: &H::Message, clone: fn(&H::Message) -> H::Message) {
        let mut from = 0;
        while let Some(token) = self.shard.next_open(from) {
            from = token.index() + 1;
            self.deliver(token, clone(message));
        }
    }

    fn deliver(&mut self, token: Token, message: H::Message) {
        let Some(mut port) = self.shard.port(token) else { return };
        let mut cx = Context::new(self.now, None, self.io.me, &mut self.io);
        if let Ok(next) = port.message(message, &mut self.handler, &mut cx) {
            self.act(token, next);
        }
    }

    /// Accepts and places all that wait, and only then adopts those that stay here.
    fn accept(&mut self) {
        let mut newcomers = Vec::new();
        self.place_all(&mut newcomers);
        newcomers.into_iter().for_each(|newcomer| self.adopt(newcomer));
    }

    fn place_all(&mut self, newcomers: &mut Vec<Newcomer>) {
        if self.resume_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.resume_at = None;
        loop {
            let Some((listener, id)) = &mut self.listener else { return };
            if self.held.is_none() && listener.is_empty() {
                return;
            }
            if !has_room(true, self.io.me, self.io.hub) {
                self.resume_at = Some(self.now + REST);
                return;
            }
            let id = *id;
            let accepted = self.held.take().or_else(|| {
                let fd = listener.accept()?;
                // 198.51.100.0/24 is for examples
                let peer = Address::Inet(([198, 51, 100, fd.peer as u8], 49_152).into());
                Some(Accepted { fd, peer, listener: id })
            });
            let Some(accepted) = accepted else { return };
            match place(accepted, Some(&mut self.balancer), self.io.me, self.io.hub) {
                Outcome::Placed(newcomer) => newcomers.extend(newcomer),
                Outcome::NoRoom(accepted) => {
                    self.held = Some(accepted);
                    self.resume_at = Some(self.now + REST);
                    return;
                }
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        let at = self.now + grace;
        if let Some(before) = self.stop_at {
            self.stop_at = Some(before.min(at)); // the sockets have been told
            return;
        }
        note(Some(self.io.me), What::Stop);
        self.world.is_stopped();
        self.stop_at = Some(at);
        (self.listener, self.held, self.resume_at) = (None, None, None);
        for token in self.io.stash.drain(..).chain(self.io.dials.drain(..).map(|dial| dial.token)) {
            self.shard.give_back(token);
        }
        self.shard.stop();
        let mut from = 0;
        while let Some(token) = self.shard.next_in_use(from) {
            from = token.index() + 1;
            if let Some(next) = self.after(token, |port| port.shutdown()) {
                self.act(token, next);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.stop_at.is_some_and(|at| self.shard.in_use() == 0 || self.now >= at)
    }

    fn end(mut self) {
        let mut from = 0;
        while let Some(token) = self.shard.next_in_use(from) {
            from = token.index() + 1;
            if let Some(next) = self.after(token, |port| port.cut(CloseReason::Shutdown)) {
                self.act(token, next);
            }
        }
        self.remote.close(&mut self.control, &mut self.mail);
        self.world.counted(usize::from(self.io.me.0), *self.shard.stats());
        assert_eq!(self.handler.alive(), 0, "sockets were admitted and never had their last event");
        note(Some(self.io.me), What::End);
        self.world.ends(usize::from(self.io.me.0));
    }

    /// Sleeps until woken. Time passes only while there is nothing to do, and then at once.
    fn wait(&mut self) {
        let timeout = self.timeout();
        if timeout == Some(Duration::ZERO) {
            return;
        }
        let (remote, waker, world, me) = (self.remote, self.waker, &self.world, usize::from(self.io.me.0));
        let passed = remote.sleep(timeout, |timeout| {
            let Some(span) = timeout else {
                world.sleeps(me);
                waker.block();
                world.runs(me);
                return Duration::ZERO;
            };
            if span > Duration::ZERO {
                yield_now(); // whoever has something to do may do it first
            }
            span
        });
        self.now += passed;
    }

    /// How long the wait may last: not at all while there is something to do.
    fn timeout(&mut self) -> Option<Duration> {
        let ready = |wire: &Option<Wire>| wire.as_ref().is_some_and(Wire::is_ready);
        if self.mail.is_ready() || !self.io.dials.is_empty() || self.io.wires.iter().any(ready) {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.shard.next_deadline(), self.resume_at, self.stop_at];
        let first = deadlines.into_iter().flatten().min()?;
        Some(first - self.now)
    }
}

impl Wire {
    fn is_ready(&self) -> bool {
        let readable = self.connection.as_ref().is_some_and(Connection::is_readable);
        self.interest.writes() || self.interest.reads() && readable
    }
}

impl<M> Io<'_, M> {
    fn wire(&mut self, token: Token) -> Option<&mut Wire> {
        self.wires.get_mut(token.index() as usize)?.as_mut().filter(|wire| wire.token == token)
    }

    fn take(&mut self, wire: Wire) {
        let index = wire.token.index() as usize;
        if self.wires.len() <= index {
            self.wires.resize_with(index + 1, || None);
        }
        self.wires[index] = Some(wire);
    }
}

impl<M> Outbox<M> for Io<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        if to.poller() != self.me {
            self.steering.get(usize::from(to.poller().0)).into_iter().for_each(Steering::here);
        }
        self.hub.post(to, message, Some(self.me))
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.hub.broadcast(message, clone, Some(self.me))
    }

    fn connect(&mut self, to: &Address, tag: u64) -> Result<Token, ConnectError> {
        let remote = self.hub.remote(self.me).ok_or(ConnectError::Unsupported)?;
        let seat = Seat::one_below(Arc::clone(&remote.load), self.hub.sockets).ok_or(ConnectError::Full)?;
        let token = self.stash.pop().ok_or(ConnectError::Full)?;
        self.dials.push_back(Dial { token, to: *to, tag, seat });
        Ok(token)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        let wire = self.wires.get(token.index() as usize)?.as_ref()?;
        (wire.token == token).then_some(Address::Inet(([192, 0, 2, 1], 80).into()))
    }
}
