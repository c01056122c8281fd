//! A handler that checks the event contract at run time.

use crate::address::Address;
use crate::error::{CloseReason, ConnectError, Rejected, RoomError};
use crate::handler::{Context, Event, Handler, Origin, Outbox, PollerEvent};
use crate::shard::UNKNOWN;
use crate::slot::Flags;
use crate::socket::{Socket, Stream};
use crate::time::Instant;
use crate::timers::{TimerError, TimerId, Timers};
use crate::token::{PollerId, Token};
use crate::topic::{Lag, SubscribeError, Topic, Unpublished};

/// What a test that controls the peers knows about them, for a [`ContractChecker`] to compare with the
/// events.
///
/// Every method has a default that accepts everything.
pub trait Witness {
    /// Returns whether the peer has sent these bytes, directly after `before` others.
    fn has_sent(&mut self, token: Token, peer: &Address, before: u64, bytes: &[u8]) -> bool {
        let _ = (token, peer, before, bytes);
        true
    }

    /// Returns whether the peer has ended its stream.
    fn has_ended(&mut self, token: Token, peer: &Address) -> bool {
        let _ = (token, peer);
        true
    }
}

/// Accepts everything.
impl Witness for () {}

/// A handler that wraps another one and panics if the engine breaks the event contract stated by [`Handler`].
/// For tests of drivers and applications.
///
/// The checker cannot observe the peers: what they have sent, and whether they have ended their streams. A
/// [`Witness`] can supply that.
///
/// ```
/// use lightcone_core::{Address, ContractChecker, Handler, Origin};
///
/// struct Quiet;
/// impl Handler for Quiet {
///     type Data = ();
///     type Message = core::convert::Infallible;
///     fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
///         Some(())
///     }
/// }
///
/// let handler = ContractChecker::new(Quiet); // use it instead of `Quiet`
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ContractChecker<H, W = ()> {
    inner: H,
    witness: W,
    /// The number of sockets that were admitted and have not had their last event.
    alive: isize,
    inside: bool,
    seen: Seen,
    timers: TimerLedger,
    rooms: RoomLedger,
}

/// How far the events of the poller have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Seen {
    #[default]
    Nothing,
    /// A callback of a socket. The events come from a shard without a poller, or from a worker.
    Socket,
    Started,
    Stopping,
}

/// The number of timers that a checker follows in every detail. Further ones are only counted.
const FOLLOWED: usize = 16;

/// The timers that the wrapped handler has set.
#[derive(Clone, Copy, Debug, Default)]
struct TimerLedger {
    followed: [Option<Followed>; FOLLOWED],
    others: usize,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    id: TimerId,
    tag: u64,
    /// When it must fire.
    due: Instant,
}

impl TimerLedger {
    fn set(&mut self, id: TimerId, tag: u64, due: Instant) {
        let same = self.followed.iter().flatten().any(|timer| timer.id == id);
        assert!(!same, "{id} was set again while it is set");
        match self.followed.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(Followed { id, tag, due }),
            None => self.others += 1,
        }
    }

    fn take(&mut self, id: TimerId) -> Option<Followed> {
        self.followed.iter_mut().find_map(|place| place.take_if(|timer| timer.id == id))
    }

    fn cancel(&mut self, id: TimerId, was_set: bool) {
        if self.take(id).is_some() {
            assert!(was_set, "a cancel of {id}, which is set, has found nothing");
        } else if was_set {
            assert!(self.others > 0, "a cancel of {id}, which is not set, has found it");
            self.others -= 1;
        }
    }

    fn fire(&mut self, id: TimerId, tag: u64, now: Instant) {
        let Some(timer) = self.take(id) else {
            assert!(self.others > 0, "timer {id}, which is not set");
            self.others -= 1;
            return;
        };
        assert!(timer.tag == tag, "timer {id} with the tag {tag} in place of {}", timer.tag);
        let early = timer.due.as_millis().saturating_sub(now.as_millis());
        assert!(early == 0, "timer {id} is {early} ms early");
        if let Some(first) = self.first() {
            assert!(first >= timer.due, "timer {id} before one that is due earlier");
        }
    }

    fn first(&self) -> Option<Instant> {
        self.followed.iter().flatten().map(|timer| timer.due).min()
    }
}

/// The requests for room that the wrapped handler has made, each with the poller and the socket to notify.
#[derive(Clone, Copy, Debug, Default)]
struct RoomLedger {
    followed: [Option<(PollerId, Option<Token>)>; FOLLOWED],
    /// At least as many as there are others: a request that was repeated counts twice.
    others: usize,
}

impl RoomLedger {
    fn request(&mut self, at: PollerId, socket: Option<Token>) {
        if self.followed.contains(&Some((at, socket))) {
            return;
        }
        match self.followed.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some((at, socket)),
            None => self.others += 1,
        }
    }

    fn tell(&mut self, at: PollerId, socket: Option<Token>) {
        if self
            .followed
            .iter_mut()
            .find_map(|place| place.take_if(|request| *request == (at, socket)))
            .is_none()
        {
            assert!(self.others > 0, "room at poller {at} without a request");
            self.others -= 1;
        }
    }

    /// Forgets the requests for a socket that has ended.
    fn end(&mut self, socket: Token) {
        for place in &mut self.followed {
            place.take_if(|request| request.1 == Some(socket));
        }
    }
}

/// Passes on everything, and notes the timers and the requests for room.
struct OutboxWatch<'a, M> {
    outbox: &'a mut dyn Outbox<M>,
    now: Instant,
    timers: &'a mut TimerLedger,
    rooms: &'a mut RoomLedger,
}

impl<M> Outbox<M> for OutboxWatch<'_, M> {
    fn post(&mut self, to: Token, message: M) -> Result<(), Rejected<M>> {
        self.outbox.post(to, message)
    }

    fn broadcast(&mut self, message: M, clone: fn(&M) -> M) -> Result<(), Rejected<M>> {
        self.outbox.broadcast(message, clone)
    }

    fn publish(&mut self, message: Unpublished<M>) -> Result<(), Rejected<Unpublished<M>>> {
        self.outbox.publish(message)
    }

    fn subscribe(&mut self, topic: Topic, socket: Token) -> Result<(), SubscribeError> {
        self.outbox.subscribe(topic, socket)
    }

    fn unsubscribe(&mut self, topic: Topic, socket: Token) -> bool {
        self.outbox.unsubscribe(topic, socket)
    }

    fn unsubscribe_all(&mut self, socket: Token) -> usize {
        self.outbox.unsubscribe_all(socket)
    }

    fn subscribers(&self, topic: Topic) -> usize {
        self.outbox.subscribers(topic)
    }

    fn count_lag(&mut self, lag: Lag) {
        self.outbox.count_lag(lag);
    }

    fn connect(&mut self, to: Address, tag: u64) -> Result<Token, ConnectError> {
        self.outbox.connect(to, tag)
    }

    fn local_address(&self, token: Token) -> Option<Address> {
        self.outbox.local_address(token)
    }

    fn set_timer(&mut self, at: Instant, tag: u64) -> Result<TimerId, TimerError> {
        let id = self.outbox.set_timer(at, tag)?;
        self.timers.set(id, tag, Timers::due(self.now, at));
        Ok(id)
    }

    fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let was_set = self.outbox.cancel_timer(timer);
        self.timers.cancel(timer, was_set);
        was_set
    }

    fn request_room(&mut self, at: PollerId, socket: Option<Token>) -> Result<(), RoomError> {
        self.outbox.request_room(at, socket)?;
        self.rooms.request(at, socket);
        Ok(())
    }
}

/// The state that the checker keeps for each socket, including the data of the wrapped handler.
#[derive(Clone, Copy, Debug)]
pub struct Checked<D> {
    inner: D,
    connecting: bool,
    opened: bool,
    ended: bool,
    peer_closed: bool,
    /// `close`, `linger` or `abort` was called in an earlier callback.
    closing: bool,
    /// `writable` is pending.
    armed: bool,
    /// `writable` was already pending when `sent` came last.
    armed_in_sent: bool,
    /// Reading is paused.
    paused: bool,
    /// The socket was declared active.
    active: bool,
    /// Bytes that were in transit have been delivered since the pause.
    paused_received: bool,
    /// Bytes were queued, and `sent` has not come since.
    unsent: bool,
    /// The last event was `open`: bytes may have arrived before it.
    just_opened: bool,
    /// The number of unconsumed bytes after the last callback.
    unread: usize,
    /// The hash of these bytes.
    left: u64,
    /// The total number of bytes received.
    received: u64,
    deadline: Option<Instant>,
}

/// The state of a socket when an event comes.
struct Now {
    /// Whether enough blocks are free for the socket to fill its queue to the limit.
    plenty: bool,
    unread: usize,
    queued: usize,
    deadline: bool,
    /// Whether `writable` is pending.
    armed: bool,
    /// Whether the handler can still receive events other than the last one.
    live: bool,
    /// The hash of the bytes that were left unconsumed before.
    left: u64,
    at: Instant,
}

impl<H> ContractChecker<H> {
    /// Wraps a handler.
    pub const fn new(inner: H) -> Self {
        Self::with_witness(inner, ())
    }
}

impl<H, W> ContractChecker<H, W> {
    /// Wraps a handler, and compares its events with what a witness knows about the peers.
    pub const fn with_witness(inner: H, witness: W) -> Self {
        let timers = TimerLedger { followed: [None; FOLLOWED], others: 0 };
        let rooms = RoomLedger { followed: [None; FOLLOWED], others: 0 };
        Self { inner, witness, alive: 0, inside: false, seen: Seen::Nothing, timers, rooms }
    }

    /// Returns the wrapped handler.
    pub const fn inner(&self) -> &H {
        &self.inner
    }

    /// Returns the wrapped handler, to be modified.
    pub const fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }

    /// Returns the number of admitted sockets that have not had their last event. If it is not 0 at the end,
    /// an event was lost.
    ///
    /// If several checkers share sockets, as with workers, one may admit a socket of which another sees the
    /// last event: then their sum is 0.
    #[must_use]
    pub const fn alive(&self) -> isize {
        self.alive
    }

    /// Returns whether `started` has come.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        matches!(self.seen, Seen::Started | Seen::Stopping)
    }

    /// Returns whether `stopping` has come.
    #[must_use]
    pub const fn has_stopped(&self) -> bool {
        matches!(self.seen, Seen::Stopping)
    }

    /// Returns when the next of the handler's timers must fire, of those that the checker follows: up to 16 at a time.
    /// After a turn, that must be later than the time of the turn, unless no timer fires in it.
    #[must_use]
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first()
    }
}

/// Returns the FNV-1a hash of `bytes`.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

impl<D> Checked<D> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "each rule names the events it applies to")]
    fn before<M>(&self, event: &Event<M>, now: &Now) {
        let Now { unread, queued, deadline: has_deadline, .. } = *now;
        let name = event.name();
        assert!(!self.ended, "{name} after the last event");
        match event {
            Event::Open => assert!(!self.opened, "open twice"),
            Event::Refused(_) => {
                assert!(self.connecting, "refused for an accepted socket");
                assert!(!self.opened, "refused after open");
            }
            _ => assert!(self.opened, "{name} before open"),
        }
        if !matches!(event, Event::Close(_)) {
            assert!(!self.closing, "{name} after close was requested");
            assert!(unread >= self.unread, "{name} without the {} bytes left unconsumed", self.unread);
        }
        let last = matches!(event, Event::Refused(_) | Event::Close(_));
        assert!(last || unread >= self.unread, "unconsumed bytes are missing in {name}");
        assert!(last || now.left == self.left, "unconsumed bytes have changed in {name}");
        match event {
            Event::Receive => {
                assert!(!self.peer_closed, "receive after peer_closed");
                assert!(unread > self.unread, "receive without new bytes");
                // bytes that arrived before `open` are delivered even if `open` has filled the output
                assert!(!self.armed || self.just_opened, "receive while writable is pending");
                // bytes in transit may still be delivered once after a pause
                assert!(!self.paused || !self.paused_received, "receive although reading is paused");
            }
            Event::PeerClosed => assert!(!self.peer_closed, "peer_closed twice"),
            Event::Sent => {
                assert!(self.unsent, "sent with nothing queued before");
                assert!(queued == 0, "sent with {queued} bytes still queued");
                // with enough free blocks, `writable` must come before the output is empty for the second time
                let lost = self.armed && self.armed_in_sent && now.plenty;
                assert!(!lost, "sent came twice while writable is pending");
            }
            Event::Writable => assert!(self.armed, "writable without a refused send before"),
            Event::Timeout => {
                let Some(at) = self.deadline else { panic!("timeout without a deadline") };
                assert!(!has_deadline, "the deadline is still set in its timeout");
                assert!(now.at >= at, "timeout {} ms early", at.as_millis() - now.at.as_millis());
            }
            _ => {}
        }
        // a pending `writable` may only be dropped if the socket ends
        let given = matches!(event, Event::Writable) || last;
        assert!(given || !self.armed || now.armed || !now.live, "a pending writable was dropped");
    }

    /// Checks what is visible in the socket when an event comes.
    fn before_in_stream<M>(&self, event: &Event<M>, stream: &mut Stream<'_>) {
        let ended = stream.peer_closed();
        if matches!(event, Event::PeerClosed | Event::Close(CloseReason::Peer)) {
            assert!(ended, "{} although the end of the stream was not received", event.name());
        }
        if matches!(event, Event::Close(_)) && ended && !stream.control.flags.has(Flags::CLOSING) {
            assert!(self.peer_closed, "close before the peer_closed that was due");
        }
        if matches!(event, Event::Close(CloseReason::Evicted)) {
            assert!(!self.connecting, "evicted although the program has connected it");
        }
        // of a worker's socket, only that is known: the poller evicts its own socket, to which the worker's changes are
        // on their way
        if matches!(event, Event::Close(CloseReason::Evicted)) && stream.shared.evict_after != UNKNOWN {
            let (quiet, after) = (stream.quiet_for().as_millis(), stream.shared.evict_after);
            assert!(after > 0, "evicted although eviction is off");
            assert!(!self.active, "evicted although it is active");
            assert!(quiet >= after.into(), "evicted after {quiet} ms without progress, {after} are needed");
            assert!(!self.paused && !self.armed, "evicted although it is not read");
            let (unread, queued) = (self.unread, stream.queued());
            assert!(unread == 0 && queued == 0, "evicted with {unread} bytes unread and {queued} queued");
            assert!(!stream.shared.stopping, "evicted during a shutdown");
        }
        if matches!(event, Event::Writable) {
            let (_, output) = stream.split();
            let (queued, limit) = (output.queued(), output.limit());
            assert!(limit == 0 || queued * 2 <= limit, "writable with {queued} of {limit} bytes queued");
        }
    }

    /// Records the state of a socket after a callback. `opened` is whether that was `open`; `sent`, whether
    /// it was `sent` with enough free blocks.
    fn after(&mut self, (opened, sent): (bool, bool), stream: &Stream<'_>) {
        let (was_armed, queued) = (self.armed, stream.queued());
        let bytes = stream.bytes();
        self.closing = stream.is_closing();
        self.armed = stream.is_writable_pending();
        self.armed_in_sent = self.armed && was_armed && (self.armed_in_sent || sent);
        self.paused_received &= self.paused && stream.is_paused();
        self.paused = stream.is_paused();
        self.active = stream.is_active();
        self.unsent |= queued > 0;
        self.just_opened = opened;
        self.unread = bytes.len();
        self.left = hash(bytes);
        self.deadline = stream.deadline();
    }
}

/// Runs a callback, and notes the timers that it sets and cancels and the room that it requests.
fn watch<M>(
    timers: &mut TimerLedger,
    rooms: &mut RoomLedger,
    cx: &mut Context<'_, M>,
    run: impl FnOnce(&mut Context<'_, M>),
) {
    let (now, unix_time, poller) = (cx.now(), cx.unix_time(), cx.poller());
    let mut watch = OutboxWatch { outbox: &mut *cx.outbox, now, timers, rooms };
    run(&mut Context::new(now, unix_time, poller, &mut watch));
}

/// Marks that a callback is running. The mark is removed even if the callback panics, since engines that catch
/// panics continue with other sockets.
struct Inside<'a>(&'a mut bool);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        *self.0 = false;
    }
}

impl<H: Handler, W: Witness> ContractChecker<H, W> {
    /// Notes a callback of a socket.
    fn note_socket(&mut self) {
        if self.seen == Seen::Nothing {
            self.seen = Seen::Socket;
        }
    }

    /// Compares an event with what the witness knows about the peer.
    fn ask_witness(&mut self, socket: &Socket<'_, Checked<H::Data>>, event: &Event<H::Message>) {
        let (token, peer) = (socket.token(), socket.peer());
        match event {
            Event::Receive => {
                let new = socket.bytes().get(socket.data.unread..).unwrap_or_default();
                let before = socket.data.received;
                let has_sent = self.witness.has_sent(token, &peer, before, new);
                assert!(has_sent, "{} bytes after the first {before} are not those of the peer", new.len());
            }
            Event::PeerClosed | Event::Close(CloseReason::Peer) => {
                let has_ended = self.witness.has_ended(token, &peer);
                assert!(has_ended, "{} although the peer has not ended its stream", event.name());
            }
            Event::Open
            | Event::Writable
            | Event::Sent
            | Event::Timeout
            | Event::Shutdown
            | Event::Message(_)
            | Event::Room(_)
            | Event::Refused(_)
            | Event::Close(_) => {}
        }
    }
}

impl<H: Handler, W: Witness> Handler for ContractChecker<H, W> {
    type Data = Checked<H::Data>;
    type Message = H::Message;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Self::Data> {
        assert!(!self.inside, "admit within a callback");
        let connecting = matches!(origin, Origin::Connecting { .. });
        assert!(!connecting || !self.has_stopped(), "a connect begins after `stopping`");
        self.note_socket();
        let inner = self.inner.admit(origin, peer)?;
        self.alive += 1;
        Some(Checked {
            inner,
            connecting,
            opened: false,
            ended: false,
            peer_closed: false,
            closing: false,
            armed: false,
            armed_in_sent: false,
            paused: false,
            active: false,
            paused_received: false,
            unsent: false,
            just_opened: false,
            unread: 0,
            left: hash(&[]),
            received: 0,
            deadline: None,
        })
    }

    fn wants_sent(&self) -> bool {
        self.inner.wants_sent()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "each rule names the events it applies to")]
    fn event(
        &mut self,
        socket: &mut Socket<'_, Self::Data>,
        event: Event<Self::Message>,
        cx: &mut Context<'_, Self::Message>,
    ) {
        assert!(!self.inside, "{} within a callback", event.name());
        self.note_socket();
        let stops = matches!(event, Event::Shutdown);
        assert!(!stops || self.seen != Seen::Started, "shutdown before `stopping`");
        let (unread, queued) = (socket.bytes().len(), socket.queued());
        // with few free blocks, `writable` may have to wait for blocks of other sockets
        let most = u32::from(socket.stream.shared.output_limit);
        let plenty = socket.stream.pool.leasable(0, socket.stream.control.chain.waiting) >= most;
        let now = Now {
            plenty,
            unread,
            queued,
            deadline: socket.deadline().is_some(),
            armed: socket.is_writable_pending(),
            live: socket.stream.control.state.is_live(),
            left: hash(socket.bytes().get(..socket.data.unread).unwrap_or_default()),
            at: cx.now(),
        };
        socket.data.before(&event, &now);
        socket.data.before_in_stream(&event, &mut socket.stream);
        self.ask_witness(socket, &event);
        match event {
            Event::Open => socket.data.opened = true,
            Event::Receive => {
                let new = unread - socket.data.unread;
                socket.data.received += new as u64;
                socket.data.paused_received = socket.data.paused;
            }
            Event::PeerClosed => socket.data.peer_closed = true,
            Event::Writable => socket.data.armed = false,
            Event::Sent => socket.data.unsent = false,
            Event::Close(_) | Event::Refused(_) => {
                socket.data.ended = true;
                self.alive -= 1;
                self.rooms.end(socket.token());
            }
            Event::Room(at) => self.rooms.tell(at, Some(socket.token())),
            _ => {}
        }
        let which = (matches!(event, Event::Open), matches!(event, Event::Sent) && plenty);
        {
            self.inside = true;
            let _inside = Inside(&mut self.inside);
            let (inner, mut socket) = (&mut self.inner, socket.project(|checked| &mut checked.inner));
            watch(&mut self.timers, &mut self.rooms, cx, |cx| inner.event(&mut socket, event, cx));
        }
        socket.data.after(which, &socket.stream);
    }

    fn poller_event(&mut self, event: PollerEvent, cx: &mut Context<'_, Self::Message>) {
        assert!(!self.inside, "{} within a callback", event.name());
        match event {
            PollerEvent::Started => {
                assert!(self.seen == Seen::Nothing, "started after another callback");
                self.seen = Seen::Started;
            }
            PollerEvent::Timer { id, tag } => {
                assert!(self.has_started(), "timer before started");
                self.timers.fire(id, tag, cx.now());
            }
            PollerEvent::Room { at } => self.rooms.tell(at, None),
            PollerEvent::Stopping => {
                assert!(self.has_started(), "stopping before started");
                assert!(!self.has_stopped(), "stopping twice");
                self.seen = Seen::Stopping;
            }
        }
        self.inside = true;
        let _inside = Inside(&mut self.inside);
        let inner = &mut self.inner;
        watch(&mut self.timers, &mut self.rooms, cx, |cx| inner.poller_event(event, cx));
    }
}
