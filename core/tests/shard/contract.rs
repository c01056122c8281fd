//! Engines that violate the event contract, each in one way that [`ContractChecker`] must detect.
//!
//! Each is the real shard with a fault between it and the checker, or a driver that does what the connection forbids.

use crate::common::{ACCEPTED, PEER, PLAIN};
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use lightcone_core::{
    Action, Address, Checked, CloseReason, Config, ConnectError, Connection, Context, ContractChecker, Event,
    Handler, Instant, Lag, NoOutbox, Origin, Outbox, PollerEvent, PollerId, Rejected, RoomError, Shard,
    Socket, Storage, SubscribeError, Timeouts, TimerError, TimerId, Token, Topic, Unpublished, Witness,
};

/// What the program does in its callbacks.
type Act = fn(&mut Socket<'_, u32>, Event<u32>);

/// The program under the checker.
struct Program(Act);

impl Handler for Program {
    type Data = u32;
    type Message = u32;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<u32> {
        Some(0)
    }

    fn event(&mut self, socket: &mut Socket<'_, u32>, event: Event<u32>, _: &mut Context<'_, u32>) {
        (self.0)(socket, event);
    }
}

/// What the peer has sent, and whether it has ended its stream.
#[derive(Default)]
struct Peer {
    sent: &'static [u8],
    ended: bool,
}

impl Witness for Peer {
    fn has_sent(&mut self, _: Token, _: &Address, before: u64, bytes: &[u8]) -> bool {
        self.sent.get(before as usize..).is_some_and(|rest| rest.starts_with(bytes))
    }

    fn has_ended(&mut self, _: Token, _: &Address) -> bool {
        self.ended
    }
}

type Data = Checked<u32>;
/// A fault: an event is replaced or lost.
type Fault = fn(&mut Socket<'_, Data>, Event<u32>) -> ControlFlow<(), Event<u32>>;

/// Injects the fault between the shard and the checker.
struct Between {
    checker: ContractChecker<Program, Peer>,
    fault: Fault,
    /// Whether the program's closes in `message` are staged.
    stages: bool,
}

impl Handler for Between {
    type Data = Data;
    type Message = u32;

    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Data> {
        self.checker.admit(origin, peer)
    }

    fn event(&mut self, socket: &mut Socket<'_, Data>, event: Event<u32>, cx: &mut Context<'_, u32>) {
        let was_message = matches!(event, Event::Message(_));
        if let ControlFlow::Continue(event) = (self.fault)(socket, event) {
            self.checker.event(socket, event, cx);
        }
        if was_message && self.stages {
            socket.linger();
        }
    }
}

fn nothing(_: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    ControlFlow::Continue(event)
}

/// One socket, and a driver that is controlled step by step.
struct Engine<'s> {
    shard: Shard<'s, Data>,
    handler: Between,
    token: Token,
    now: u64,
}

impl Engine<'_> {
    /// Passes something to the connection and delivers what is due.
    fn tell(&mut self, what: impl FnOnce(&mut Connection<'_, '_, Data>)) -> Action {
        self.shard.tick(Instant::from_millis(self.now));
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        let mut conn = self.shard.connection(self.token).unwrap();
        what(&mut conn);
        conn.run(&mut self.handler, &mut cx)
    }

    /// Receives regardless of the room.
    fn receive(&mut self, bytes: &[u8]) -> Action {
        let mut bytes = bytes.to_vec();
        self.shard.tick(Instant::from_millis(self.now));
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        let mut conn = self.shard.connection(self.token).unwrap();
        conn.received(&mut bytes);
        conn.run(&mut self.handler, &mut cx)
    }

    fn message(&mut self) -> Action {
        self.shard.tick(Instant::from_millis(self.now));
        let mut outbox = NoOutbox;
        let mut cx = Context::new(Instant::from_millis(self.now), None, PollerId(0), &mut outbox);
        self.shard.connection(self.token).unwrap().message(7, &mut self.handler, &mut cx).unwrap()
    }

    fn sends(&mut self) -> Action {
        self.tell(|conn| {
            let mut pieces: [&[u8]; 4] = [&[]; 4];
            let count = conn.outputs(&mut pieces);
            let n = pieces[..count].iter().map(|piece| piece.len()).sum();
            conn.sent(n);
        })
    }
}

/// Blocks of 64 bytes, of which a socket may queue two.
const CONFIG: Config = Config { timeouts: Timeouts::NONE, ..PLAIN };

fn with(act: Act, peer: Peer, fault: Fault, steps: impl FnOnce(&mut Engine<'_>)) {
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).unwrap();
    let checker = ContractChecker::with_witness(Program(act), peer);
    let mut handler = Between { checker, fault, stages: false };
    let mut shard = shard;
    let token = shard.admit(&mut handler, ACCEPTED, &PEER).unwrap();
    let mut engine = Engine { shard, handler, token, now: 0 };
    let _ = engine.tell(|_| {});
    steps(&mut engine);
}

const SENT: Peer = Peer { sent: b"abcdefghijklmnopqrstuvwxyz", ended: false };
const ENDED: Peer = Peer { ended: true, ..SENT };

/// Consumes the input, queues as much as possible, and then tries one byte more.
fn fills(socket: &mut Socket<'_, u32>, event: Event<u32>) {
    if matches!(event, Event::Receive) {
        socket.consume_all();
        assert_eq!(socket.send(&[1; 128]), Ok(()));
        assert!(socket.send(&[1]).is_err());
    }
}

/// Leaves the input unconsumed.
fn leaves(_: &mut Socket<'_, u32>, _: Event<u32>) {}

fn forges_writable(_: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    ControlFlow::Continue(if matches!(event, Event::Message(_)) { Event::Writable } else { event })
}

#[test]
#[should_panic(expected = "writable with 128 of 128 bytes queued")]
fn writable_above_low_water() {
    with(fills, SENT, forges_writable, |engine| {
        assert_eq!(engine.receive(b"a"), Action::Send);
        let _ = engine.message();
    });
}

#[test]
#[should_panic(expected = "receive while writable is pending")]
fn reading_while_writable_is_pending() {
    with(fills, SENT, nothing, |engine| {
        assert_eq!(engine.receive(b"a"), Action::Send);
        let _ = engine.receive(b"b");
    });
}

fn loses_writable(_: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    if matches!(event, Event::Writable) { ControlFlow::Break(()) } else { ControlFlow::Continue(event) }
}

#[test]
#[should_panic(expected = "a pending writable was dropped")]
fn a_lost_writable() {
    with(fills, SENT, loses_writable, |engine| {
        let _ = engine.receive(b"a");
        let _ = engine.sends();
    });
}

/// Behaves as if a grant had been lost: `writable` stays pending forever.
fn never_gives_writable(socket: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    if matches!(event, Event::Writable) {
        socket.split().1.request_writable();
        return ControlFlow::Break(());
    }
    ControlFlow::Continue(event)
}

#[test]
#[should_panic(expected = "sent came twice while writable is pending")]
fn a_writable_that_never_comes() {
    let act: Act = |socket, event| {
        if matches!(event, Event::Receive) {
            fills(socket, event);
        } else if matches!(event, Event::Sent) {
            socket.send(b"more").unwrap();
        }
    };
    with(act, SENT, never_gives_writable, |engine| {
        let _ = engine.receive(b"a");
        for _ in 0..3 {
            let _ = engine.sends();
        }
    });
}

fn forges_a_timeout(socket: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    if !matches!(event, Event::Message(_)) {
        return ControlFlow::Continue(event);
    }
    socket.set_deadline(None);
    ControlFlow::Continue(Event::Timeout)
}

#[test]
#[should_panic(expected = "timeout 1 ms early")]
fn an_early_timeout() {
    let act: Act = |socket, event| {
        if matches!(event, Event::Open) {
            socket.set_deadline(Some(Instant::from_millis(100)));
        }
    };
    with(act, SENT, forges_a_timeout, |engine| {
        engine.now = 99;
        let _ = engine.message();
    });
}

fn forges_an_end(_: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    ControlFlow::Continue(if matches!(event, Event::Message(_)) { Event::PeerClosed } else { event })
}

#[test]
#[should_panic(expected = "peer_closed although the end of the stream was not received")]
fn a_forged_end() {
    with(leaves, ENDED, forges_an_end, |engine| {
        let _ = engine.message();
    });
}

#[test]
#[should_panic(expected = "peer_closed although the peer has not ended its stream")]
fn the_end_of_a_live_peer() {
    with(leaves, SENT, nothing, |engine| {
        let _ = engine.tell(|conn| conn.peer_ended());
    });
}

#[test]
#[should_panic(expected = "close although the end of the stream was not received")]
fn closed_by_a_peer_without_its_end() {
    with(leaves, ENDED, nothing, |engine| {
        let _ = engine.tell(|conn| conn.abort_with(CloseReason::Peer));
    });
}

fn loses_the_end(_: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    if matches!(event, Event::PeerClosed) { ControlFlow::Break(()) } else { ControlFlow::Continue(event) }
}

#[test]
#[should_panic(expected = "close before the peer_closed that was due")]
fn a_lost_end() {
    with(leaves, ENDED, loses_the_end, |engine| {
        let _ = engine.tell(|conn| conn.peer_ended());
        let _ = engine.tell(|conn| conn.abort_with(CloseReason::Aborted));
    });
}

fn changes_a_byte(socket: &mut Socket<'_, Data>, event: Event<u32>) -> ControlFlow<(), Event<u32>> {
    if matches!(event, Event::Message(_)) {
        socket.bytes_mut()[1] ^= 1;
    }
    ControlFlow::Continue(event)
}

#[test]
#[should_panic(expected = "unconsumed bytes have changed in message")]
fn bytes_that_change_while_they_wait() {
    with(leaves, SENT, changes_a_byte, |engine| {
        let _ = engine.receive(b"abc");
        let _ = engine.message();
    });
}

#[test]
#[should_panic(expected = "3 bytes after the first 3 are not those of the peer")]
fn bytes_that_come_twice() {
    with(leaves, SENT, nothing, |engine| {
        let _ = engine.receive(b"abc");
        let _ = engine.receive(b"abc");
    });
}

#[test]
#[should_panic(expected = "2 bytes after the first 0 are not those of the peer")]
fn bytes_that_are_others() {
    with(leaves, SENT, nothing, |engine| {
        let _ = engine.receive(b"aB");
    });
}

#[test]
#[should_panic(expected = "receive although reading is paused")]
fn a_pause_that_is_ignored() {
    let act: Act = |socket, event| {
        if matches!(event, Event::Open) {
            socket.pause();
        }
    };
    with(act, SENT, nothing, |engine| {
        let _ = engine.receive(b"ab"); // was already in transit
        let _ = engine.receive(b"cd");
    });
}

/// Consumes the input, and closes at a message.
fn closes(socket: &mut Socket<'_, u32>, event: Event<u32>) {
    match event {
        Event::Receive => {
            socket.consume_all();
        }
        Event::Message(_) => socket.close(),
        _ => {}
    }
}

/// The same steps as above without a fault must pass.
#[test]
fn a_sound_engine_passes() {
    with(closes, SENT, nothing, |engine| {
        let _ = engine.receive(b"abc");
        assert_eq!(engine.message(), Action::Close);
        assert_eq!(engine.handler.checker.alive(), 0);
    });
    with(fills, ENDED, nothing, |engine| {
        let _ = engine.receive(b"a");
        let _ = engine.sends();
        let _ = engine.receive(b"b");
        let _ = engine.message();
        let _ = engine.sends();
        let _ = engine.tell(|conn| conn.peer_ended());
        let _ = engine.tell(|conn| conn.abort_with(CloseReason::Aborted));
    });
    let act: Act = |socket, event| match event {
        Event::Open => {
            socket.pause();
            socket.set_deadline(Some(Instant::from_millis(100)));
        }
        Event::Timeout => socket.resume(),
        _ => {}
    };
    with(act, SENT, nothing, |engine| {
        let _ = engine.receive(b"ab");
        engine.now = 100;
        engine.shard.tick(Instant::from_millis(100));
        assert_eq!(engine.shard.next_ready(), Some(engine.token));
        let _ = engine.tell(|_| {});
        let _ = engine.receive(b"cd");
        let _ = engine.message();
    });
}

/// An outbox whose timers are what the test says.
struct Forged {
    id: u64,
    repeats: bool,
    finds: bool,
}

impl Outbox<u32> for Forged {
    fn post(&mut self, _: Token, message: u32) -> Result<(), Rejected<u32>> {
        Err(Rejected::Gone(message))
    }

    fn broadcast(&mut self, message: u32, _: fn(&u32) -> u32) -> Result<(), Rejected<u32>> {
        Err(Rejected::Gone(message))
    }

    fn connect(&mut self, _: Address, _: u64) -> Result<Token, ConnectError> {
        Err(ConnectError::Unsupported)
    }

    fn local_address(&self, _: Token) -> Option<Address> {
        None
    }

    fn set_timer(&mut self, _: Instant, _: u64) -> Result<TimerId, TimerError> {
        self.id = if self.repeats { 1 } else { self.id + 1 };
        Ok(TimerId::from_bits(self.id))
    }

    fn cancel_timer(&mut self, _: TimerId) -> bool {
        self.finds
    }

    fn request_room(&mut self, _: PollerId, _: Option<Token>) -> Result<(), RoomError> {
        Ok(())
    }

    fn publish(&mut self, message: Unpublished<u32>) -> Result<(), Rejected<Unpublished<u32>>> {
        Err(Rejected::Gone(message))
    }

    fn subscribe(&mut self, _: Topic, _: Token) -> Result<(), SubscribeError> {
        Err(SubscribeError::Unsupported)
    }

    fn unsubscribe(&mut self, _: Topic, _: Token) -> bool {
        false
    }

    fn unsubscribe_all(&mut self, _: Token) -> usize {
        0
    }

    fn subscribers(&self, _: Topic) -> usize {
        0
    }

    fn count_lag(&mut self, _: Lag) {}
}

/// Sets timers for these times in `started`, with their times as tags, and cancels timer 1 when timer 2 is due.
struct Sets(&'static [u64]);

impl Handler for Sets {
    type Data = ();
    type Message = u32;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn started(&mut self, cx: &mut Context<'_, u32>) {
        assert!(cx.request_room(PollerId(1), None).is_ok());
        for at in self.0 {
            assert!(cx.set_timer(Instant::from_millis(*at), *at).is_ok());
        }
    }

    fn timer(&mut self, timer: TimerId, _: u64, cx: &mut Context<'_, u32>) {
        if timer == TimerId::from_bits(2) {
            cx.cancel_timer(TimerId::from_bits(1));
        }
    }
}

/// A poller that delivers events of its own choice.
struct Announcer {
    checker: ContractChecker<Sets>,
    outbox: Forged,
}

impl Announcer {
    fn new(times: &'static [u64]) -> Self {
        Self {
            checker: ContractChecker::new(Sets(times)),
            outbox: Forged { id: 0, repeats: false, finds: true },
        }
    }

    fn started(times: &'static [u64]) -> Self {
        let mut new = Self::new(times);
        new.tell(0, PollerEvent::Started);
        new
    }

    fn tell(&mut self, now: u64, event: PollerEvent) {
        let now = Instant::from_millis(now);
        self.checker.poller_event(event, &mut Context::new(now, None, PollerId(0), &mut self.outbox));
    }

    fn timer(&mut self, now: u64, id: u64, tag: u64) {
        self.tell(now, PollerEvent::Timer { id: TimerId::from_bits(id), tag });
    }
}

#[test]
fn the_events_of_a_correct_poller() {
    let mut announcer = Announcer::started(&[7, 5]);
    let next = |announcer: &Announcer| announcer.checker.next_timer().map(Instant::as_millis);
    assert_eq!(next(&announcer), Some(5));
    announcer.timer(5, 2, 5); // cancels timer 1
    assert_eq!(next(&announcer), None);
    assert!(announcer.checker.has_started() && !announcer.checker.has_stopped());
    announcer.tell(9, PollerEvent::Stopping);
    assert!(announcer.checker.has_stopped());
}

/// The checker follows 16 timers, and counts the others.
#[test]
fn more_timers_than_the_checker_follows() {
    let mut announcer = Announcer::started(&[5; 20]);
    for id in (1..=20).rev() {
        if id != 1 {
            announcer.timer(5, id, 5); // the one with the number 2 cancels the last
        }
    }
    assert_eq!(announcer.checker.next_timer(), None);
}

#[test]
#[should_panic(expected = "timer 0:0#0, which is not set")]
fn a_timer_too_many() {
    let mut announcer = Announcer::started(&[5; 17]);
    announcer.timer(5, 17, 5); // one that is only counted
    announcer.timer(5, 0, 5);
}

#[test]
#[should_panic(expected = "started after another callback")]
fn a_late_start() {
    let mut announcer = Announcer::new(&[]);
    announcer.checker.admit(ACCEPTED, &PEER);
    announcer.tell(0, PollerEvent::Started);
}

#[test]
#[should_panic(expected = "started after another callback")]
fn a_second_start() {
    Announcer::started(&[]).tell(0, PollerEvent::Started);
}

#[test]
#[should_panic(expected = "timer before started")]
fn a_timer_before_the_start() {
    Announcer::new(&[]).timer(0, 1, 0);
}

#[test]
#[should_panic(expected = "stopping before started")]
fn a_stop_without_a_start() {
    Announcer::new(&[]).tell(0, PollerEvent::Stopping);
}

#[test]
#[should_panic(expected = "stopping twice")]
fn a_second_stop() {
    let mut announcer = Announcer::started(&[]);
    announcer.tell(0, PollerEvent::Stopping);
    announcer.tell(0, PollerEvent::Stopping);
}

#[test]
#[should_panic(expected = "a connect begins after `stopping`")]
fn a_connect_after_the_stop() {
    let mut announcer = Announcer::started(&[]);
    announcer.tell(0, PollerEvent::Stopping);
    announcer.checker.admit(Origin::Connecting { tag: 0 }, &PEER);
}

#[test]
#[should_panic(expected = "timer 0:1#0 is 2 ms early")]
fn an_early_timer() {
    Announcer::started(&[5]).timer(3, 1, 5);
}

#[test]
#[should_panic(expected = "timer 0:1#0, which is not set")]
fn a_timer_that_comes_twice() {
    let mut announcer = Announcer::started(&[5]);
    announcer.timer(5, 1, 5);
    announcer.timer(5, 1, 5);
}

#[test]
#[should_panic(expected = "timer 0:1#0 with the tag 6 in place of 5")]
fn a_timer_with_the_tag_of_another() {
    Announcer::started(&[5]).timer(5, 1, 6);
}

#[test]
#[should_panic(expected = "timer 0:2#0 before one that is due earlier")]
fn timers_out_of_order() {
    Announcer::started(&[5, 7]).timer(9, 2, 7);
}

#[test]
#[should_panic(expected = "a cancel of 0:1#0, which is set, has found nothing")]
fn a_cancel_that_does_nothing() {
    let mut announcer = Announcer::started(&[7, 5]);
    announcer.outbox.finds = false;
    announcer.timer(5, 2, 5);
}

#[test]
#[should_panic(expected = "a cancel of 0:1#0, which is not set, has found it")]
fn a_cancel_that_finds_a_timer_that_has_fired() {
    let mut announcer = Announcer::started(&[5, 5]);
    announcer.timer(5, 1, 5);
    announcer.timer(5, 2, 5);
}

#[test]
#[should_panic(expected = "0:1#0 was set again while it is set")]
fn one_id_for_two_timers() {
    let mut announcer = Announcer::new(&[5, 6]);
    announcer.outbox.repeats = true;
    announcer.tell(0, PollerEvent::Started);
}

#[test]
#[should_panic(expected = "room at poller 1 without a request")]
fn room_twice_for_one_request() {
    let mut announcer = Announcer::started(&[]);
    announcer.tell(1, PollerEvent::Room { at: PollerId(1) });
    announcer.tell(1, PollerEvent::Room { at: PollerId(1) });
}

#[test]
#[should_panic(expected = "room at poller 2 without a request")]
fn room_at_another_poller() {
    Announcer::started(&[]).tell(1, PollerEvent::Room { at: PollerId(2) });
}

#[test]
#[should_panic(expected = "shutdown before `stopping`")]
fn a_shutdown_without_a_stop() {
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let mut shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).unwrap();
    let mut announcer = Announcer::started(&[]);
    let token = shard.admit(&mut announcer.checker, ACCEPTED, &PEER).unwrap();
    let mut conn = shard.connection(token).unwrap();
    conn.shutdown();
    let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut announcer.outbox);
    let _ = conn.run(&mut announcer.checker, &mut cx);
}
