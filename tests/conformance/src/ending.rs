//! Closes, half-closes, aborts and resets, by the peer and by the handler.

use core::time::Duration;

use lightcone_core::CloseReason;
use lightcone_unix::driver::Driver;

use crate::case::{Case, Context, Event, Socket, by_default, consume_all, echo, echoing, small, small_with};
use crate::peer::{Peer, pattern};
use crate::trace::Record;

/// The message that makes the handler continue.
const GO: u64 = 1;

/// Returns whether the reason is a reset by the peer.
fn is_reset(reason: CloseReason) -> bool {
    reason == CloseReason::Reset
}

/// A peer that connects and closes without sending.
pub fn a_peer_that_says_nothing<D: Driver>() {
    let case = Case::echo::<D>();
    drop(case.peer());
    case.trace.closed(0);
    assert_eq!(case.trace.shape(0), "admit open peer_closed close(closed by the peer)");
}

/// Bytes and the end of the stream at once: the bytes come first, and the echo is still sent.
pub fn bytes_and_the_end_at_once<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = case.peer();
    peer.send(b"last words");
    peer.finish();
    assert_eq!(peer.receive_to_end(), b"last words");
    case.trace.closed(0);
    let shape = case.trace.shape(0);
    assert!(shape.starts_with("admit open receive "), "{shape}");
    assert!(shape.ends_with("peer_closed close(closed by the peer)"), "{shape}");
}

/// More bytes than one read takes, then the end of the stream: none are lost.
pub fn many_bytes_and_the_end_at_once<D: Driver>() {
    let case = Case::echo::<D>();
    let mut peer = case.peer();
    let bytes = pattern(300_000);
    let mut writer = peer.clone();
    std::thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(move || {
            writer.send(bytes);
            writer.finish();
        });
        assert!(peer.receive_to_end() == *bytes);
    });
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
}

/// After `peer_closed`, a handler can still send any amount.
pub fn a_peer_that_has_ended_is_still_sent_to<D: Driver>() {
    const TOTAL: usize = 300_000;
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::PeerClosed | Event::Writable => {
            while socket.data.count < TOTAL {
                let most = 1_000.min(TOTAL - socket.data.count);
                if socket.send(&[5; 1_000][..most]).is_err() {
                    return;
                }
                socket.data.count += most;
            }
            socket.close();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.finish();
    assert!(peer.receive_to_end() == vec![5; TOTAL]);
    assert_eq!(case.trace.closed(0), CloseReason::Peer);
    assert_eq!(case.trace.count_of(0, "receive"), 0);
}

/// `finish` sends what is queued and ends this direction only: the peer's bytes still arrive.
pub fn finish_ends_one_direction<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => {
            socket.send(b"all I have").unwrap();
            socket.finish();
        }
        Event::Receive => {
            assert!(socket.send(b"more").is_err(), "a finished side sends");
            consume_all(socket);
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    assert_eq!(peer.receive_to_end(), b"all I have");
    for n in 1..=3 {
        peer.send(b"still here");
        case.trace.until_nth(0, "receive", n);
    }
    drop(peer);
    assert_eq!(case.trace.closed(0), CloseReason::Local);
}

/// Both sides half-close, and everything sent before arrives.
pub fn both_sides_finish<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {
            echo(socket);
            socket.finish();
        }
        Event::PeerClosed => {}
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"request");
    peer.finish();
    assert_eq!(peer.receive_to_end(), b"request");
    case.trace.closed(0);
    assert_eq!(case.trace.lost(0), 0);
}

/// `close` sends everything that is queued, even to a slow peer.
pub fn close_sends_everything_to_a_slow_peer<D: Driver>() {
    let bytes = pattern(100_000);
    let to_send = bytes.clone();
    let builder = small::<D>().blocks(256, 256).output_limit(128);
    let case = Case::start(builder, move |socket, event, _| match event {
        Event::Open => {
            socket.send(&to_send).unwrap();
            socket.close();
        }
        other => by_default(socket, other),
    });
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 1);
    assert!(peer.receive_to_end() == bytes);
    assert_eq!((case.trace.closed(0), case.trace.lost(0)), (CloseReason::Local, 0));
}

/// Sends until the system takes no more, then runs `then` when the message arrives.
fn fill_then(socket: &mut Socket<'_>, event: Event, then: impl FnOnce(&mut Socket<'_>)) {
    match event {
        Event::Open | Event::Writable => while socket.send(&[8; 1_000]).is_ok() {},
        Event::Message(GO) => then(socket),
        other => by_default(socket, other),
    }
}

/// A `close`, `linger` or `finish` of a stalled socket delivers everything that is queued once the peer reads.
pub fn closing_a_stalled_socket_loses_nothing<D: Driver>() {
    for how in [How::Close, How::Linger, How::Finish] {
        let case =
            Case::start(small::<D>(), move |socket, event, _| fill_then(socket, event, |it| end(it, how)));
        let mut peer = case.peer();
        let token = case.trace.token(0);
        wait_until_stalled(&case);
        case.handle().post(token, GO).unwrap();
        case.trace.until(0, "message");
        let received = peer.receive_to_end().len();
        drop(peer);
        assert_eq!((case.trace.closed(0), case.trace.lost(0)), (CloseReason::Local, 0), "{how:?}");
        assert_eq!(case.stop().pollers[0].stats.bytes_out, received as u64, "{how:?}");
    }
}

/// An abort of a stalled socket reports the number of bytes that are lost.
pub fn aborting_a_stalled_socket_reports_what_is_lost<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| fill_then(socket, event, |it| it.abort()));
    let peer = case.peer();
    let token = case.trace.token(0);
    wait_until_stalled(&case);
    case.handle().post(token, GO).unwrap();
    assert_eq!(case.trace.closed(0), CloseReason::Aborted);
    assert!((1..=4_096).contains(&case.trace.lost(0)), "{} bytes lost", case.trace.lost(0));
    drop(peer);
}

/// A close with unread input lingers: the response arrives although the peer is still sending.
pub fn a_close_with_unread_input_keeps_the_answer<D: Driver>() {
    // no linger timeout: after it, bytes that still arrive would cause a reset
    let case = Case::start(small_with::<D>(|it| it.linger = None), |socket, event, _| match event {
        Event::Receive => {
            socket.send(b"413 too much").unwrap();
            socket.close();
        }
        other => by_default(socket, other),
    });
    for _ in 0..20 {
        let mut peer = case.peer();
        let mut writer = peer.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = writer.try_send(&vec![1; 200_000]);
                writer.finish();
            });
            assert_eq!(peer.receive_to_end(), b"413 too much");
        });
    }
}

/// `linger` discards the bytes that still arrive, until the peer ends.
pub fn linger_reads_until_the_peer_ends<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.linger = None), |socket, event, _| match event {
        Event::Receive => {
            socket.send(b"refused").unwrap();
            socket.linger();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"x");
    assert_eq!(peer.receive_to_end(), b"refused");
    for _ in 0..20 {
        peer.send(&vec![0; 50_000]);
    }
    assert_eq!(case.trace.count("close"), 0);
    drop(peer);
    assert_eq!(case.trace.closed(0), CloseReason::Local);
    assert_eq!(case.trace.count_of(0, "receive"), 1);
}

/// `abort` discards what is queued, and reports how many bytes were lost.
pub fn abort_loses_what_is_queued<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => {
            socket.send(&[1; 3_000]).unwrap();
            socket.abort();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    assert_eq!(peer.drain(), b"");
    assert_eq!((case.trace.closed(0), case.trace.lost(0)), (CloseReason::Aborted, 3_000));
    assert_eq!(case.stop().bytes_lost(), 3_000);
}

/// A connection that is reset before it is accepted does not disturb others.
pub fn a_reset_before_the_accept<D: Driver>() {
    let case = Case::choosy(small::<D>(), |_, _| true, echoing);
    let listener = case.listen();
    for _ in 0..20 {
        Peer::connect(listener.endpoint()).reset();
    }
    let mut peer = Peer::connect(listener.endpoint());
    peer.exchange(b"alive");
    let alive = case.trace.socket_of(peer.address());
    for socket in 0..alive {
        let reason = case.trace.closed(socket);
        assert!(is_reset(reason) || reason == CloseReason::Peer, "{reason}");
    }
}

/// A reset of an open socket is reported at once, with its reason.
pub fn a_reset_of_an_idle_socket<D: Driver>() {
    let case = Case::echo::<D>();
    let peer = case.peer();
    case.trace.token(0);
    peer.reset();
    assert_eq!(case.trace.closed(0), CloseReason::Reset);
    assert_eq!(case.trace.shape(0), "admit open close(reset by the peer)");
}

/// A reset that arrives while reading is paused is reported at `resume` at the latest.
pub fn a_reset_during_a_pause<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open => socket.pause(),
        Event::Message(GO) => socket.resume(),
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    let token = case.trace.token(0);
    peer.send(b"never read");
    peer.reset();
    case.handle().post(token, GO).unwrap();
    let reason = case.trace.closed(0);
    assert!(is_reset(reason), "{reason}");
}

/// A reset with unread bytes: the bytes may be lost, but the close is reported.
pub fn a_reset_with_bytes_unread<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Receive => {} // never consumes: the input fills up
        other => by_default(socket, other),
    });
    let peer = case.peer();
    let mut writer = peer.clone();
    let flood = std::thread::spawn(move || {
        let _ = writer.try_send(&vec![1; 32 << 20]);
    });
    case.trace.wait("a full input", |records| {
        records
            .iter()
            .any(|it| matches!(it.what, crate::trace::What::Receive { unread: 4_096 }))
            .then_some(())
    });
    let token = case.trace.token(0);
    peer.reset();
    // the writer's clone keeps the connection open, so this reset is not sent: the abort ends the connection
    case.handle().abort(token).unwrap();
    assert_eq!(case.trace.closed(0), CloseReason::Aborted);
    flood.join().unwrap();
}

/// A reset in the middle of a flush: the close reports it, and how many bytes were lost.
pub fn a_reset_in_the_middle_of_a_flush<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, _| match event {
        Event::Open | Event::Writable => while socket.send(&[9; 1_000]).is_ok() {},
        other => by_default(socket, other),
    });
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    peer.receive(50_000);
    peer.reset();
    assert_eq!(case.trace.closed(0), CloseReason::Reset);
    assert!(case.trace.lost(0) > 0);
    assert!(case.trace.lost(0) <= 4_096);
}

/// A reset while `close` is still sending: the close reports the reset, not the handler's reason.
pub fn a_reset_while_closing<D: Driver>() {
    let case = Case::start(small::<D>().output_limit(200), |socket, event, _| match event {
        Event::Open => {
            while socket.send(&[9; 1_000]).is_ok() {}
            // more than the system takes at once is still queued
        }
        Event::Writable => while socket.send(&[9; 1_000]).is_ok() {},
        Event::Message(GO) => socket.close(),
        other => by_default(socket, other),
    });
    let peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    let token = case.trace.token(0);
    wait_until_stalled(&case);
    case.handle().post(token, GO).unwrap();
    case.trace.until(0, "message");
    peer.reset();
    let (reason, lost) = (case.trace.closed(0), case.trace.lost(0));
    assert!(is_reset(reason) && lost > 0, "{reason}, {lost} bytes lost");
}

/// Waits until the engine sends no more bytes, because the peer does not read.
pub(crate) fn wait_until_stalled(case: &Case) {
    let mut last = (0, 0);
    lightcone_contract::sockets::soon("a stall", || {
        std::thread::sleep(Duration::from_millis(5));
        let now = case.handle().stats()[0].bytes_out;
        last = if last.0 == now && now > 0 { (now, last.1 + 1) } else { (now, 0) };
        (last.1 == 80).then_some(()) // 400 ms: counts are published late, and other tests may delay the poller
    });
}

/// A reset while a socket lingers ends it once.
pub fn a_reset_during_a_staged_close<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.linger = None), |socket, event, _| match event {
        Event::Receive => socket.linger(),
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"x");
    peer.expect_end();
    peer.reset();
    assert_eq!(case.trace.closed(0), CloseReason::Local);
    assert_eq!(case.trace.count_of(0, "close"), 1);
}

/// A peer that half-closes while a socket lingers still receives everything.
pub fn a_peer_that_ends_while_we_close_gets_everything<D: Driver>() {
    let case = Case::start(small::<D>().output_limit(64), |socket, event, _| match event {
        Event::Receive => {
            socket.send(&vec![4; 60_000]).unwrap();
            socket.linger();
        }
        other => by_default(socket, other),
    });
    let mut peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    peer.send(b"x");
    case.trace.until(0, "receive");
    peer.finish();
    assert!(peer.receive_to_end() == vec![4; 60_000]);
    assert_eq!(case.trace.lost(0), 0);
}

/// The handle closes one socket cleanly and aborts another.
pub fn a_handle_closes_and_aborts<D: Driver>() {
    let case = Case::echo::<D>();
    let listener = case.listen();
    let mut peers: Vec<_> = (0..2).map(|_| Peer::connect(listener.endpoint())).collect();
    let of = |peer: &Peer| case.trace.socket_of(peer.address());
    let (first, second) = (of(&peers[0]), of(&peers[1]));
    case.handle().close(case.trace.token(first)).unwrap();
    case.handle().abort(case.trace.token(second)).unwrap();
    assert_eq!(case.trace.closed(first), CloseReason::Local);
    assert_eq!(case.trace.closed(second), CloseReason::Aborted);
    peers[0].expect_end();
    peers[1].drain();
}

/// The ways in which a handler can end its socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Close,
    Abort,
    Linger,
    Finish,
}

/// Ends a socket in each way from within one callback.
fn end_in<D: Driver>(callback: &'static str) {
    for how in [How::Close, How::Abort, How::Linger, How::Finish] {
        let case =
            Case::start(small::<D>(), move |socket, event, cx| end_when(callback, how, socket, &event, cx));
        let peer = case.peer();
        let last = provoke(&case, peer, callback);
        let reason = case.trace.closed(0);
        let shutdown = callback == "shutdown";
        match how {
            How::Abort => assert_eq!(reason, CloseReason::Aborted, "{how:?} in {callback}"),
            _ if callback == "peer_closed" => assert_eq!(reason, CloseReason::Peer, "{how:?} in {callback}"),
            _ if shutdown => assert_eq!(reason, CloseReason::Shutdown, "{how:?} in {callback}"),
            _ => assert_eq!(reason, CloseReason::Local, "{how:?} in {callback}"),
        }
        let records = case.trace.records();
        let of: Vec<&Record> = records.iter().filter(|it| it.socket == 0).collect();
        let at = of.iter().position(|it| it.what.name() == callback).unwrap();
        if how != How::Finish {
            // only `close` follows the callback, except after `finish`, which lets other events come
            assert_eq!(of.len(), at + 2, "{how:?} in {callback}: {}", case.trace.shape(0));
        }
        drop(last);
        if shutdown {
            case.join();
        }
    }
}

fn end(socket: &mut Socket<'_>, how: How) {
    match how {
        How::Close => socket.close(),
        How::Abort => socket.abort(),
        How::Linger => socket.linger(),
        How::Finish => socket.finish(),
    }
}

fn end_when(callback: &str, how: How, socket: &mut Socket<'_>, event: &Event, cx: &Context<'_>) {
    let what = crate::trace::What::of(event, 0, 0);
    if what.name() == "open" {
        match callback {
            "writable" => {
                socket.send(&[0; 4_000]).unwrap();
                assert!(socket.send(&[0; 4_000]).is_err());
            }
            "sent" => socket.send(b"x").unwrap(),
            "timeout" => socket.set_deadline(Some(cx.now() + Duration::from_millis(10))),
            _ => {}
        }
    }
    if what.name() == "receive" {
        consume_all(socket);
    }
    if what.name() == callback {
        end(socket, how);
    } else if !socket.is_closing() {
        by_default(socket, *event);
    }
}

/// Provokes the callback and waits until the engine has ended its side.
///
/// For `peer_closed`, the peer has half-closed already and is returned; otherwise it is dropped, which ends its side.
pub(crate) fn provoke(case: &Case, mut peer: Peer, callback: &str) -> Option<Peer> {
    let token = case.trace.token(0);
    match callback {
        "receive" => peer.send(b"x"),
        "peer_closed" => peer.finish(),
        "message" => case.handle().post(token, GO).unwrap(),
        "shutdown" => case.handle().shutdown(Duration::from_secs(5)),
        _ => {}
    }
    peer.drain();
    case.trace.until(0, callback);
    if callback == "peer_closed" { Some(peer) } else { None }
}

/// Ends a socket in each way within `open`.
pub fn in_open<D: Driver>() {
    end_in::<D>("open");
}

/// Ends a socket in each way within `receive`.
pub fn in_receive<D: Driver>() {
    end_in::<D>("receive");
}

/// Ends a socket in each way within `writable`.
pub fn in_writable<D: Driver>() {
    end_in::<D>("writable");
}

/// Ends a socket in each way within `sent`.
pub fn in_sent<D: Driver>() {
    end_in::<D>("sent");
}

/// Ends a socket in each way within `peer_closed`.
pub fn in_peer_closed<D: Driver>() {
    end_in::<D>("peer_closed");
}

/// Ends a socket in each way within `timeout`.
pub fn in_timeout<D: Driver>() {
    end_in::<D>("timeout");
}

/// Ends a socket in each way within `message`.
pub fn in_message<D: Driver>() {
    end_in::<D>("message");
}

/// Ends a socket in each way within `shutdown`.
pub fn in_shutdown<D: Driver>() {
    end_in::<D>("shutdown");
}

/// Requests within `close` have no effect.
pub fn in_close<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Close(_) => {
            assert!(socket.is_closing());
            assert!(socket.send(b"too late").is_err());
            socket.close();
            socket.linger();
            socket.finish();
            socket.abort();
            socket.pause();
            socket.set_deadline(Some(cx.now()));
            let me = socket.token();
            cx.post(me, GO).unwrap();
        }
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.finish();
    assert_eq!(peer.drain(), b"");
    case.trace.closed(0);
    case.peer().expect_silence(Duration::from_millis(20));
    assert_eq!(case.trace.shape(0), "admit open peer_closed close(closed by the peer)");
}
