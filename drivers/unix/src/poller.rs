//! One poller's thread: a shard, a driver, and the loop that carries what the one says to the other.

use alloc::collections::VecDeque;
use core::any::Any;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{catch_unwind, resume_unwind};

use lightcone_core::sync::Popped;
use lightcone_core::{
    CloseReason, Context, Handler, Instant, Interest, ListenerId, Next, Origin, PollerId, Port, Shard, Token,
};

use crate::acceptor::Acceptor;
use crate::clock::Clock;
use crate::driver::{Driver, Event, Readiness};
use crate::errno::Errno;
use crate::hub::{Control, Hub, Inbox, Mail, Remote, Seat};
use crate::outbox::{Dial, Io};
use crate::placing::Newcomer;
use crate::report::PollerReport;
use crate::socket::{self, Connecting, GATHER_MAX, Received, Sent};

/// The most events a wait brings.
pub(crate) const EVENTS_MAX: usize = 1_024;
/// The most control messages, and the most messages, of one turn.
const MAIL_A_TURN: usize = 256;
/// The most sockets that one broadcast reaches in a turn.
const BROADCAST_A_TURN: usize = 1_024;
/// The most sends for one socket in a row: then the others come first.
const SENDS_IN_A_ROW: usize = 4;
/// How long published counts may lag.
const PUBLISH_EVERY_MS: u64 = 100;

/// A message for every socket, and how far it has come.
struct Broadcast<M> {
    message: M,
    clone: fn(&M) -> M,
    from: u32,
}

/// What a turn has still to do; kept in the poller, so that a panicking handler loses nothing.
#[derive(Default)]
struct Progress {
    event: usize,
    events: usize,
    mail: usize,
    control: usize,
    broadcast: usize,
    /// Where the announcement of the shutdown has come to.
    stop_from: Option<u32>,
}

/// The user's code that runs and is no callback of a socket: a panic there costs nobody else.
#[derive(Default)]
enum Aside {
    #[default]
    Nothing,
    /// `admit` of an accepted socket, the filter, a message's `clone` or `drop`.
    Plain,
    /// `admit` of a connect.
    Connecting(Token),
}

pub(crate) struct Poller<'h, 's, D, H: Handler> {
    shard: Shard<'s, H::Data>,
    handler: H,
    driver: D,
    io: Io<'h, H::Message>,
    acceptor: Acceptor,
    control: Inbox<'h, Control>,
    mail: Inbox<'h, Mail<H::Message>>,
    broadcast: Option<Broadcast<H::Message>>,
    events: Vec<Event>,
    buffer: Vec<u8>,
    clock: Clock,
    now: Instant,
    unix_time: Option<u64>,
    /// The socket whose handler runs: to be closed if it panics.
    current: Option<Token>,
    aside: Aside,
    seats: Seat,
    progress: Progress,
    published: Option<Instant>,
    stop_at: Option<Instant>,
    report: PollerReport,
}

/// The parts a poller is made from, on its own thread.
pub(crate) struct Parts<'h, 's, D, H: Handler> {
    pub(crate) id: PollerId,
    pub(crate) hub: &'h Hub<H::Message>,
    pub(crate) remote: &'h Remote<H::Message>,
    pub(crate) shard: Shard<'s, H::Data>,
    pub(crate) handler: H,
    pub(crate) driver: D,
    pub(crate) acceptor: Acceptor,
    pub(crate) receive_size: usize,
    pub(crate) nodelay: bool,
    pub(crate) now: Instant,
}

impl<'h, 's, D: Driver, H: Handler> Poller<'h, 's, D, H> {
    /// `None` if the mailboxes have had a receiver already.
    pub(crate) fn new(parts: Parts<'h, 's, D, H>) -> Option<Self> {
        let Parts { id, hub, remote, shard, handler, driver, acceptor, receive_size, nodelay, now } = parts;
        Some(Self {
            shard,
            handler,
            driver,
            io: Io { me: id, hub, entries: Vec::new(), stash: Vec::new(), dials: VecDeque::new(), nodelay },
            acceptor,
            control: remote.control.receiver()?,
            mail: remote.mail.receiver()?,
            broadcast: None,
            events: vec![Event::default(); EVENTS_MAX],
            buffer: vec![0; receive_size],
            clock: Clock::new(),
            now,
            unix_time: None,
            current: None,
            aside: Aside::Nothing,
            seats: Seat::none(alloc::sync::Arc::clone(&remote.load)),
            progress: Progress::default(),
            published: None,
            stop_at: None,
            report: PollerReport::default(),
        })
    }

    /// Runs until the engine is stopped and the last socket has ended.
    pub(crate) fn run(mut self) -> PollerReport {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve())) {
            self.close_mailboxes(); // nobody gives more to a poller that has failed
            resume_unwind(panic);
        }
        self.end()
    }

    fn serve(&mut self) {
        loop {
            self.begin_turn();
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.turn())) {
                self.survive(panic);
            }
            if self.is_over() {
                return;
            }
            self.wait();
        }
    }

    fn begin_turn(&mut self) {
        let millis = Clock::now_ms();
        self.now = Instant::from_millis(millis);
        self.unix_time = Some(self.clock.unix_seconds(millis));
        self.shard.tick(self.now);
        self.progress.mail = MAIL_A_TURN;
        self.progress.control = MAIL_A_TURN;
        self.progress.broadcast = BROADCAST_A_TURN;
        self.io.refill(&mut self.shard);
    }

    /// Everything of a turn but the wait.
    fn turn(&mut self) {
        self.adopt_newcomers(); // those that a panic has left
        while let Some(event) = self.next_event() {
            self.on_event(event);
        }
        self.read_control();
        while let Some(token) = self.shard.next_ready() {
            self.run_port(token);
        }
        self.read_mail();
        self.acceptor_turn();
        while let Some(dial) = self.io.dials.pop_front() {
            self.dial(dial);
        }
        if self.progress.stop_from.is_some() {
            self.announce_stop();
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        if self.progress.event >= self.progress.events {
            return None;
        }
        self.progress.event += 1;
        self.events.get(self.progress.event - 1).copied()
    }

    fn on_event(&mut self, event: Event) {
        if let Some(id) = Acceptor::listener_of(event.key) {
            return self.accept(id);
        }
        let token = Token::from_bits(event.key);
        if event.readiness.contains(Readiness::LOST) {
            return self.fail(token, Errno(libc::EIO));
        }
        if event.readiness.is_writable() {
            self.on_writable(token);
        }
        if event.readiness.is_readable() {
            self.on_readable(token);
        }
    }

    #[inline]
    fn on_readable(&mut self, token: Token) {
        let Some(mut port) = self.shard.port(token) else { return };
        let Some((fd, watched)) = self.io.fd_and_interest(token) else { return };
        let room = port.room().min(self.buffer.len());
        if room > 0 {
            let Some(buffer) = self.buffer.get_mut(..room) else { return };
            match socket::receive(fd, buffer) {
                Received::Bytes(n) => port.received(self.buffer.get_mut(..n).unwrap_or_default()),
                Received::WouldBlock => return,
                Received::End => port.ended(),
                Received::Failed(errno) => port.failed(errno.into()),
            }
        }
        self.current = Some(token);
        let mut cx = Context::new(self.now, self.unix_time, self.io.me, &mut self.io);
        let mut next = port.run(&mut self.handler, &mut cx);
        if next == Next::Send
            && let Some(fd) = self.io.fd(token)
        {
            // most of what is received is answered at once
            send(&mut port, fd);
            let Some(after) = port.next_after_sent(&self.handler) else { return self.run_port(token) };
            next = after;
        }
        if next.waits_for() == Some(watched) {
            self.current = None;
        } else {
            self.act(token, next);
        }
    }

    fn on_writable(&mut self, token: Token) {
        let Some(mut port) = self.shard.port(token) else { return };
        if port.is_connecting() {
            let Some(fd) = self.io.fd(token) else { return };
            match socket::connect_result(fd) {
                Connecting::Done => port.connected(),
                Connecting::InProgress => return,
                Connecting::Failed(errno) if errno.is_of_connection() => {
                    port.connected(); // and reset before anybody looked
                    port.failed(errno.into());
                }
                Connecting::Failed(errno) => port.failed(errno.into()),
            }
        }
        port.writable();
        self.run_port(token);
    }

    /// Delivers what is due for a socket and carries out what follows.
    fn run_port(&mut self, token: Token) {
        let Some(mut port) = self.shard.port(token) else { return };
        self.current = Some(token);
        let mut cx = Context::new(self.now, self.unix_time, self.io.me, &mut self.io);
        let next = port.run(&mut self.handler, &mut cx);
        self.act(token, next);
    }

    fn fail(&mut self, token: Token, errno: Errno) {
        if let Some(mut port) = self.shard.port(token) {
            port.failed(errno.into());
            self.run_port(token);
        }
    }

    /// Carries out a socket's orders until it waits.
    #[expect(clippy::excessive_nesting, reason = "a loop over the orders, and what each of them takes")]
    fn act(&mut self, token: Token, mut next: Next) {
        let mut sends = 0;
        loop {
            next = match next {
                Next::Wait(interest) => {
                    self.current = None;
                    return self.watch(token, interest);
                }
                Next::Send if sends == SENDS_IN_A_ROW => {
                    self.current = None;
                    if let Some(mut port) = self.shard.port(token) {
                        port.put_off();
                    }
                    return;
                }
                Next::Send => {
                    sends += 1;
                    self.send(token)
                }
                Next::Shut => self.shut(token),
                // never in flight here: a readiness driver's sends are over when the call returns
                Next::Cancel => self.after(token, |port| port.sent(0)),
                Next::Close => {
                    self.current = None;
                    return self.close(token);
                }
            };
        }
    }

    fn send(&mut self, token: Token) -> Next {
        let Some(mut port) = self.shard.port(token) else { return Next::Wait(Interest::NONE) };
        let Some(fd) = self.io.fd(token) else { return Next::Wait(Interest::NONE) };
        send(&mut port, fd);
        let mut cx = Context::new(self.now, self.unix_time, self.io.me, &mut self.io);
        port.run(&mut self.handler, &mut cx)
    }

    fn shut(&mut self, token: Token) -> Next {
        let outcome = match self.io.fd(token) {
            Some(fd) => socket::shutdown_write(fd),
            None => Ok(()),
        };
        self.after(token, |port| match outcome {
            Ok(()) => port.shut(),
            Err(errno) => port.failed(errno.into()),
        })
    }

    /// Tells the shard something and runs what follows from it.
    fn after(&mut self, token: Token, tell: impl FnOnce(&mut Port<'_, 's, H::Data>)) -> Next {
        let Some(mut port) = self.shard.port(token) else { return Next::Wait(Interest::NONE) };
        tell(&mut port);
        let mut cx = Context::new(self.now, self.unix_time, self.io.me, &mut self.io);
        port.run(&mut self.handler, &mut cx)
    }

    #[inline]
    fn watch(&mut self, token: Token, interest: Interest) {
        if self.io.interest(token) != Some(interest) {
            self.change_interest(token, interest);
        }
    }

    #[cold]
    fn change_interest(&mut self, token: Token, interest: Interest) {
        let Some(entry) = self.io.entry(token) else { return };
        let old = core::mem::replace(&mut entry.interest, interest);
        let Some(fd) = entry.fd.as_ref() else { return };
        if self.driver.modify(fd.as_fd(), token.to_bits(), old, interest).is_err() {
            self.fail(token, Errno(libc::ENOMEM));
        }
    }

    /// The shard has let go of the socket: so does the driver.
    fn close(&mut self, token: Token) {
        let Some(entry) = self.io.entry(token) else { return };
        let interest = core::mem::take(&mut entry.interest);
        if let Some(fd) = entry.fd.take() {
            if self.shard.breaks_off() {
                // without effect on Unix sockets and connections that are gone already
                let _ = socket::set_abort_on_close(fd.as_fd());
            }
            self.driver.forget(fd.as_fd(), token.to_bits(), interest);
        }
        self.seats.release();
        self.acceptor.hurry(self.now);
    }

    /// Puts a handler's panic down to its socket; goes on with another's.
    fn survive(&mut self, panic: Box<dyn Any + Send>) {
        match core::mem::take(&mut self.aside) {
            Aside::Plain => {}
            Aside::Connecting(token) => self.shard.give_back(token),
            Aside::Nothing => {
                // without a socket it was not a handler's panic
                let Some(token) = self.current.take() else { resume_unwind(panic) };
                self.end_panicked(token);
            }
        }
        self.report.panics += 1;
    }

    fn end_panicked(&mut self, token: Token) {
        if let Some(mut port) = self.shard.port(token) {
            port.cut(CloseReason::HandlerPanic);
        }
        // its `close` may panic too: then the socket has had its last event, and ends without another
        for _ in 0..2 {
            if catch_unwind(AssertUnwindSafe(|| self.run_port(token))).is_ok() {
                break;
            }
            self.report.panics += 1;
        }
        self.current = None;
    }

    fn accept(&mut self, id: ListenerId) {
        self.aside = Aside::Plain;
        self.acceptor.accept(id, self.io.me, self.io.hub, &mut self.driver, self.now);
        self.aside = Aside::Nothing;
        self.shard.turn_away(core::mem::take(&mut self.acceptor.filtered));
        self.adopt_newcomers();
    }

    fn acceptor_turn(&mut self) {
        if self.acceptor.is_due(self.now) {
            self.acceptor.resume(self.io.me, self.io.hub, &mut self.driver, self.now);
            self.adopt_newcomers();
        }
    }

    fn adopt_newcomers(&mut self) {
        while let Some(newcomer) = self.acceptor.newcomers.pop_front() {
            self.adopt(newcomer);
        }
    }

    fn adopt(&mut self, newcomer: Newcomer) {
        let Newcomer { fd, peer, listener, seat } = newcomer;
        self.aside = Aside::Plain;
        let admitted = self.shard.admit(&mut self.handler, Origin::Accepted { listener }, &peer);
        self.aside = Aside::Nothing;
        let Ok(token) = admitted else { return };
        self.seats.absorb(seat);
        self.begin(token, fd, Interest::READ);
        self.run_port(token);
    }

    /// Takes a socket's descriptor and has it watched.
    fn begin(&mut self, token: Token, fd: OwnedFd, interest: Interest) {
        let registered = self.driver.register(fd.as_fd(), token.to_bits(), interest);
        if registered.is_err()
            && let Some(mut port) = self.shard.port(token)
        {
            self.report.unwatchable += 1;
            port.failed(lightcone_core::ErrorKind::OutOfDescriptors);
        }
        let (fd, interest) = if registered.is_ok() { (Some(fd), interest) } else { (None, Interest::NONE) };
        self.io.take(token, fd, interest);
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { token, to, tag, seat } = dial;
        self.aside = Aside::Connecting(token);
        let admitted = self.shard.dial(&mut self.handler, token, tag, &to);
        self.aside = Aside::Nothing;
        if admitted.is_err() {
            return;
        }
        self.seats.absorb(seat);
        if !self.shard.port(token).is_some_and(|port| port.is_connecting()) {
            self.io.take(token, None, Interest::NONE);
            return self.run_port(token); // called off before it began
        }
        match self.io.connect(&to) {
            Ok((fd, done)) => {
                self.begin(token, fd, if done { Interest::READ } else { Interest::WRITE });
                if done && let Some(mut port) = self.shard.port(token) {
                    port.connected();
                }
                self.run_port(token);
            }
            Err(errno) => {
                self.io.take(token, None, Interest::NONE);
                self.fail(token, errno);
            }
        }
    }

    #[expect(clippy::excessive_nesting, reason = "a loop over the messages, and what each of them takes")]
    fn read_control(&mut self) {
        while self.progress.control > 0 {
            self.progress.control -= 1;
            let remote = self.io.hub.remote(self.io.me);
            let Some((order, stop)) = remote.and_then(|remote| remote.next_order(&mut self.control)) else {
                return;
            };
            if let Some(grace) = stop {
                self.stop(grace); // first: a handler may panic over the order
            }
            match order {
                Control::Adopt(newcomer) => self.adopt(newcomer),
                Control::Dial { to, tag, seat } => {
                    if let Some(token) = self.shard.reserve() {
                        self.dial(Dial { token, to, tag, seat });
                    }
                }
                Control::Listen { socket, id } if self.stop_at.is_none() => {
                    let unix = self.io.hub.address(socket.endpoint());
                    self.acceptor.listen(socket, id, unix, &mut self.driver, self.now);
                }
                Control::Listen { .. } => {}
                Control::Unlisten { id } => self.acceptor.close(id, &mut self.driver),
                Control::Close { token, abort } => {
                    if let Some(mut port) = self.shard.port(token) {
                        if abort {
                            port.cut(CloseReason::Aborted);
                        } else {
                            port.close();
                        }
                        self.run_port(token);
                    }
                }
                Control::Stop { grace } => self.stop(grace),
            }
        }
    }

    fn read_mail(&mut self) {
        if self.broadcast.is_some() {
            self.go_on_broadcasting();
        }
        while self.progress.mail > 0 && self.broadcast.is_none() {
            self.progress.mail -= 1;
            match self.mail.pop() {
                Popped::Item(Mail::Post(token, message)) => self.deliver(token, message),
                Popped::Item(Mail::Broadcast(message, clone)) => {
                    self.broadcast = Some(Broadcast { message, clone, from: 0 });
                    self.go_on_broadcasting();
                }
                Popped::Empty | Popped::Finished => return,
            }
        }
    }

    fn deliver(&mut self, token: Token, message: H::Message) {
        let Some(mut port) = self.shard.port(token) else { return self.aside(|| drop(message)) };
        self.current = Some(token);
        let mut cx = Context::new(self.now, self.unix_time, self.io.me, &mut self.io);
        match port.message(message, &mut self.handler, &mut cx) {
            Ok(next) => self.act(token, next),
            Err(gone) => {
                self.current = None;
                self.aside(|| drop(gone));
            }
        }
    }

    /// Runs code of the user's that is no callback.
    fn aside<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.aside = Aside::Plain;
        let result = run();
        self.aside = Aside::Nothing;
        result
    }

    fn go_on_broadcasting(&mut self) {
        while self.progress.broadcast > 0 {
            self.progress.broadcast -= 1;
            let Some(broadcast) = &mut self.broadcast else { return };
            let Some(token) = self.shard.next_open(broadcast.from) else {
                let over = self.broadcast.take();
                return self.aside(|| drop(over));
            };
            broadcast.from = token.index() + 1;
            self.aside = Aside::Plain;
            let message = (broadcast.clone)(&broadcast.message);
            self.aside = Aside::Nothing;
            self.deliver(token, message);
        }
    }

    fn stop(&mut self, grace: Duration) {
        let at = self.now + grace;
        if let Some(before) = self.stop_at {
            self.stop_at = Some(before.min(at)); // the sockets have been told
            return;
        }
        self.stop_at = Some(at);
        self.acceptor.close_all(&mut self.driver);
        self.io.give_back_stash(&mut self.shard);
        self.shard.stop();
        self.progress.stop_from = Some(0);
    }

    /// Tells every socket that the engine is shutting down.
    fn announce_stop(&mut self) {
        while let Some(token) = self.progress.stop_from.and_then(|from| self.shard.next_in_use(from)) {
            self.progress.stop_from = Some(token.index() + 1);
            if let Some(mut port) = self.shard.port(token) {
                port.shutdown();
                self.run_port(token);
            }
        }
        self.progress.stop_from = None;
    }

    fn is_over(&self) -> bool {
        let Some(at) = self.stop_at else { return false };
        if self.shard.in_use() == 0 {
            return true;
        }
        self.now >= at
    }

    /// Aborts what is left, closes the mailboxes and gives the account.
    #[expect(clippy::excessive_nesting, reason = "each socket, each try")]
    fn end(mut self) -> PollerReport {
        let before = self.shard.stats().closed_for(CloseReason::Shutdown);
        let mut from = 0;
        while let Some(token) = self.shard.next_in_use(from) {
            from = token.index() + 1;
            if let Some(mut port) = self.shard.port(token) {
                port.cut(CloseReason::Shutdown);
            }
            for _ in 0..2 {
                if catch_unwind(AssertUnwindSafe(|| self.run_port(token))).is_ok() {
                    break;
                }
                self.report.panics += 1;
            }
        }
        self.close_mailboxes();
        if let Some(remote) = self.io.hub.remote(self.io.me) {
            remote.publish(self.shard.stats());
        }
        self.report.aborted = self.shard.stats().closed_for(CloseReason::Shutdown) - before;
        self.report.stats = *self.shard.stats();
        self.report
    }

    /// What was never taken up is dropped, and with it its descriptors and seats.
    fn close_mailboxes(&mut self) {
        let Some(remote) = self.io.hub.remote(self.io.me) else { return };
        // each panic is over a message that is gone by then
        while catch_unwind(AssertUnwindSafe(|| remote.close(&mut self.control, &mut self.mail))).is_err() {
            self.report.panics += 1;
        }
    }

    fn wait(&mut self) {
        let timeout = self.timeout();
        let remote = self.io.hub.remote(self.io.me).filter(|_| timeout != Some(Duration::ZERO));
        let count = match remote {
            Some(remote) => remote.sleep(timeout, |timeout| self.driver.wait(timeout, &mut self.events)),
            None => self.driver.wait(timeout, &mut self.events),
        };
        self.progress.event = 0;
        match count {
            Ok(count) => self.progress.events = count,
            Err(error) => panic!("poller {}: {} cannot wait: {error}", self.io.me.0, D::NAME),
        }
    }

    /// How long the wait may last: not at all while there is something to do.
    fn timeout(&mut self) -> Option<Duration> {
        let publish = self.publish(); // also when there is no time to sleep
        // who has pushed since keeps the poller from sleeping by the wake flag
        let busy = (self.progress.control == 0 && self.control.is_ready())
            || self.mail.is_ready()
            || self.broadcast.is_some()
            || !self.io.dials.is_empty();
        if busy {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.shard.next_deadline(), self.acceptor.deadline(), self.stop_at, publish];
        let first = deadlines.into_iter().flatten().min()?;
        Some(first - self.now)
    }

    /// Publishes the counts now and then; gives when to come back for those that are held back.
    fn publish(&mut self) -> Option<Instant> {
        let due =
            self.published.map_or(self.now, |at| Instant::from_millis(at.as_millis() + PUBLISH_EVERY_MS));
        // after a turn with events they have surely changed
        if self.now < due && self.progress.events > 0 {
            return Some(due);
        }
        let stats = self.shard.stats();
        if self.report.stats == *stats {
            return None;
        }
        if self.now < due {
            return Some(due);
        }
        if self.io.hub.remote(self.io.me).is_some_and(|remote| remote.publish(stats)) {
            self.report.stats = *stats;
        }
        self.published = Some(self.now);
        None
    }
}

/// Sends what is queued, with one call, and tells the port what came of it.
#[inline(always)]
fn send<D>(port: &mut Port<'_, '_, D>, fd: BorrowedFd<'_>) {
    let (offered, sent) = match port.output() {
        (piece, true) => (piece.len(), socket::send(fd, piece)),
        _ => send_pieces(port, fd),
    };
    match sent {
        Sent::Bytes(n) => {
            port.sent(n);
            if n < offered {
                port.blocked();
            }
        }
        Sent::WouldBlock => port.blocked(),
        Sent::Failed(errno) => port.failed(errno.into()),
    }
}

#[inline(never)]
fn send_pieces<D>(port: &Port<'_, '_, D>, fd: BorrowedFd<'_>) -> (usize, Sent) {
    let mut pieces: [&[u8]; GATHER_MAX] = [&[]; GATHER_MAX];
    let count = port.outputs(&mut pieces);
    let pieces = pieces.get(..count).unwrap_or_default();
    (pieces.iter().map(|piece| piece.len()).sum(), socket::send_gathered(fd, pieces))
}

impl<M> Io<'_, M> {
    #[inline]
    fn fd_and_interest(&self, token: Token) -> Option<(BorrowedFd<'_>, Interest)> {
        let entry = self.entries.get(token.index() as usize)?;
        Some((entry.fd.as_ref()?.as_fd(), entry.interest))
    }

    fn fd(&self, token: Token) -> Option<BorrowedFd<'_>> {
        self.entries.get(token.index() as usize)?.fd.as_ref().map(AsFd::as_fd)
    }
}
