//! Handlers that panic: only the socket of the callback closes.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::panic::resume_unwind;
use std::sync::Arc;

use lightcone_contract::sockets::soon;
use lightcone_core::{Address, CloseReason, Context, Handler, Origin, Socket, Token};
use lightcone_unix::driver::Driver;

use crate::case::{Case, Event, bounded, by_default, consume_all, echoing, small};
use crate::connecting::{elsewhere, nowhere};
use crate::ending::provoke;
use crate::peer::Peer;
use crate::trace::What;

/// Panics without printing a message.
fn panic() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Panics once in the callback of this name, for socket 0; the other sockets are echoed.
fn panic_in<D: Driver>(callback: &'static str) {
    let mut case = Case::start(small::<D>(), move |socket, event, cx| {
        if socket.data.socket != 0 {
            return echoing(socket, event, cx);
        }
        let name = What::of(&event, 0, 0).name();
        if name == "open" {
            match callback {
                "writable" => {
                    socket.send(&[0; 4_000]).unwrap();
                    assert!(socket.send(&[0; 4_000]).is_err());
                }
                "sent" => socket.send(b"x").unwrap(),
                "timeout" => socket.set_deadline(Some(cx.now())),
                _ => {}
            }
        }
        if name == callback {
            panic();
        }
        if name == "receive" {
            consume_all(socket);
        }
        by_default(socket, event);
    });
    case.expect_panics(1);
    let listener = case.listen();
    let peer = Peer::connect(listener.endpoint());
    let mut other = Peer::connect(listener.endpoint());
    other.exchange(b"before");
    let last = provoke(&case, peer, callback);
    let expected = if callback == "close" { CloseReason::Peer } else { CloseReason::HandlerPanic };
    assert_eq!(case.trace.closed(0), expected);
    if callback == "shutdown" {
        other.expect_end();
        assert_eq!(case.join().panics(), 1);
        return;
    }
    other.exchange(b"after");
    Peer::connect(listener.endpoint()).exchange(b"new");
    drop(last);
    assert_eq!(case.stop().panics(), 1);
}

/// A panic in `open`.
pub fn in_open<D: Driver>() {
    panic_in::<D>("open");
}

/// A panic in `receive`.
pub fn in_receive<D: Driver>() {
    panic_in::<D>("receive");
}

/// A panic in `writable`.
pub fn in_writable<D: Driver>() {
    panic_in::<D>("writable");
}

/// A panic in `sent`.
pub fn in_sent<D: Driver>() {
    panic_in::<D>("sent");
}

/// A panic in `peer_closed`.
pub fn in_peer_closed<D: Driver>() {
    panic_in::<D>("peer_closed");
}

/// A panic in `timeout`.
pub fn in_timeout<D: Driver>() {
    panic_in::<D>("timeout");
}

/// A panic in `message`.
pub fn in_message<D: Driver>() {
    panic_in::<D>("message");
}

/// A panic in `shutdown`.
pub fn in_shutdown<D: Driver>() {
    panic_in::<D>("shutdown");
}

/// A panic in `close`: this was the last event of the socket, and it is not repeated.
pub fn in_close<D: Driver>() {
    let mut case = Case::start(small::<D>(), |socket, event, cx| {
        if socket.data.socket == 0 && matches!(event, Event::Close(_)) {
            panic();
        }
        echoing(socket, event, cx);
    });
    case.expect_panics(1);
    let listener = case.listen();
    let mut peer = Peer::connect(listener.endpoint());
    case.trace.token(0);
    peer.finish();
    peer.drain();
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
    Peer::connect(listener.endpoint()).exchange(b"new");
    assert_eq!(case.trace.count_of(0, "close"), 1);
}

/// A panic in `close` after a panic in another callback: both are counted, and the socket is closed.
pub fn in_two_callbacks_of_one_socket<D: Driver>() {
    let mut case = Case::start(small::<D>(), |socket, event, cx| {
        if socket.data.socket == 0 && matches!(event, Event::Close(_) | Event::Receive) {
            panic();
        }
        echoing(socket, event, cx);
    });
    case.expect_panics(2);
    let listener = case.listen();
    let mut peer = Peer::connect(listener.endpoint());
    peer.send(b"x");
    peer.drain();
    assert_eq!(case.trace.closed(0), CloseReason::HandlerPanic);
    Peer::connect(listener.endpoint()).exchange(b"new");
    assert_eq!(case.trace.count_of(0, "close"), 1);
}

/// A panic in `refused`.
pub fn in_refused<D: Driver>() {
    let mut case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Refused(_) => panic(),
        other => echoing(socket, other, cx),
    });
    case.expect_panics(3);
    for _ in 0..3 {
        case.handle().connect(nowhere(), 1).unwrap();
    }
    case.trace.until_count("refused", 3);
    case.peer().exchange(b"new");
}

/// A panic in `admit`: the peer sees the end, and all others of the same burst are served.
pub fn in_admit<D: Driver>() {
    let first = Arc::new(AtomicBool::new(true));
    let panics = move |_: Origin, _: &_| {
        if first.swap(false, Ordering::Relaxed) {
            panic();
        }
        true
    };
    let mut case = Case::choosy(small::<D>(), panics, echoing);
    case.expect_panics(1);
    burst_of_ten(&case, 9);
}

/// A panic in `open` of one socket of a burst: the others are served.
pub fn in_open_of_one_of_a_burst<D: Driver>() {
    let mut case = Case::start(small::<D>(), |socket, event, cx| {
        if socket.data.socket == 0 && matches!(event, Event::Open) {
            panic();
        }
        echoing(socket, event, cx);
    });
    case.expect_panics(1);
    burst_of_ten(&case, 9);
}

/// Connects ten peers before any of them sends, and checks that `expected` of them are served.
fn burst_of_ten(case: &Case, expected: usize) {
    let listener = case.listen();
    let mut peers: Vec<_> = (0..10).map(|_| Peer::connect(listener.endpoint())).collect();
    for peer in &mut peers {
        let _ = peer.try_send(b"hello");
    }
    let served =
        peers.iter_mut().filter_map(|peer| peer.try_receive(5).ok()).filter(|it| it == b"hello").count();
    assert_eq!(served, expected);
}

/// A panic in `admit` of a connect: its slot is freed, so the engine stops once the last socket has ended.
pub fn in_admit_of_a_connect<D: Driver>() {
    let (listener, address) = elsewhere();
    let panics =
        |origin, _: &_| if matches!(origin, Origin::Connecting { tag: 13 }) { panic() } else { true };
    let mut case = Case::choosy(small::<D>().sockets(4), panics, echoing);
    case.expect_panics(40);
    for _ in 0..40 {
        soon("room", || case.handle().connect(address, 13).ok());
    }
    soon("room", || case.handle().connect(address, 1).ok());
    Peer::accept(&listener).exchange(b"hello");
    let start = lightcone_unix::clock::Clock::now_ms();
    case.stop();
    let span = lightcone_unix::clock::Clock::now_ms() - start;
    assert!(span < 4_500, "a slot is lost: stopping took {span} ms");
}

/// User data and messages that panic when they are dropped, or when a copy is copied again.
#[derive(Debug)]
enum Bomb {
    Dud,
    Drop,
    Copy { copies: u8 },
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if matches!(self, Self::Drop) {
            panic();
        }
    }
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        match self {
            Self::Dud | Self::Drop => Self::Dud,
            Self::Copy { copies: 0 } => Self::Copy { copies: 1 },
            Self::Copy { .. } => panic(),
        }
    }
}

/// Echoes received bytes. The user data of sockets of the second listener panics when dropped.
struct Bombs;

impl Handler for Bombs {
    type Data = Bomb;
    type Message = Bomb;

    fn admit(&mut self, origin: Origin, _: &Address) -> Option<Bomb> {
        let bad = matches!(origin, Origin::Accepted { listener } if listener.0 == 1);
        Some(if bad { Bomb::Drop } else { Bomb::Dud })
    }

    fn receive(&mut self, socket: &mut Socket<'_, Bomb>, _: &mut Context<'_, Bomb>) {
        let (mut input, mut output) = socket.stream.split();
        let taken = output.send_some(input.bytes());
        input.consume(taken);
    }
}

/// A panic in the drop of user data, in the drop of a message with a stale token, and in the copying of a broadcast:
/// each is counted, and other sockets are served.
pub fn in_what_is_dropped_or_copied<D: Driver>() {
    let engine = small::<D>().start(|_| Bombs).unwrap();
    let [good, bad] = [(), ()].map(|()| engine.listen("127.0.0.1:0").unwrap());
    let mut peer = Peer::connect(good.endpoint());
    peer.exchange(b"before");
    let mut other = Peer::connect(bad.endpoint());
    other.finish();
    other.drain();
    let handle = engine.handle();
    soon("the end of its data", || (handle.stats()[0].closed_total() == 1).then_some(()));
    peer.exchange(b"after the drop of data");
    // messages are delivered in order: when the second one has been counted as gone, the first one has been dropped
    let nobody = Token::from_bits(1 << 20);
    for message in [Bomb::Drop, Bomb::Dud] {
        let gone = handle.stats()[0].gone;
        handle.post(nobody, message).unwrap();
        soon("a message's end", || (handle.stats()[0].gone > gone).then_some(()));
    }
    peer.exchange(b"after the drop of a message");
    handle.broadcast(Bomb::Copy { copies: 0 }).unwrap();
    let gone = handle.stats()[0].gone;
    handle.post(nobody, Bomb::Dud).unwrap();
    soon("the broadcast's end", || (handle.stats()[0].gone > gone).then_some(()));
    peer.exchange(b"after the copying of a message");
    let report = bounded("shutdown", move || engine.shutdown(Duration::from_secs(5)));
    assert_eq!((report.panics(), report.failed(), report.opened()), (3, 0, 2));
    assert_eq!(report.pollers[0].stats.closed_total(), 2);
}

/// Many panics leak nothing, and the engine keeps serving.
pub fn a_thousand_times<D: Driver>() {
    let mut case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => panic(),
        other => by_default(socket, other),
    });
    case.trace.keep_ends_only();
    let listener = case.listen();
    for _ in 0..1_000 {
        let mut peer = Peer::connect(listener.endpoint());
        peer.send(b"x");
        peer.drain();
    }
    case.expect_panics(1_000);
    case.trace.until_count("close", 1_000);
}

/// A panic in the factory: the engine does not start, the error names the poller, and no thread is left running.
pub fn in_the_factory<D: Driver>() {
    struct Unused;
    impl Handler for Unused {
        type Data = ();
        type Message = u64;
        fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
            None
        }
    }
    let started = small::<D>().pollers(3).start(|poller| {
        if poller.id().0 == 1 {
            panic();
        }
        Unused
    });
    let error = started.unwrap_err();
    assert!(matches!(error, lightcone_unix::Error::Factory(_)), "{error}");
    assert!(error.to_string().contains("poller 1"), "{error}");
}
