//! Timeouts and deadlines: never early, not much later, and with the right reason.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use std::sync::Arc;
use std::thread;

use lightcone_core::{CloseReason, Instant, Timeout, Timeouts, WriteRate};
use lightcone_unix::driver::Driver;
use lightcone_unix::socket;

use crate::case::{Case, Event, by_default, consume_all, echoing, small, small_with};
use crate::ending::wait_until_stalled;
use crate::peer::Peer;

const SPAN: Duration = Duration::from_millis(120);
const SPAN_MS: u64 = 120;
/// How late an event may be on a machine that is busy with other tests.
const LATE_MS: u64 = 2_000;
/// Longer than other tests delay this one between two steps.
const LONGER: Duration = Duration::from_millis(900);

fn assert_on_time(span_ms: u64) {
    assert!((SPAN_MS..SPAN_MS + LATE_MS).contains(&span_ms), "after {span_ms} ms");
}

/// A socket that never receives anything.
pub fn nothing_comes<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.first_byte = Some(SPAN)), echoing);
    let mut peer = case.peer();
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::FirstByte));
    assert_on_time(case.trace.until(0, "close").at_ms - case.trace.until(0, "open").at_ms);
    peer.drain();
}

/// A socket that becomes silent.
pub fn a_socket_falls_silent<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.idle = Some(LONGER)), echoing);
    let mut peer = case.peer();
    for _ in 0..4 {
        peer.exchange(b"x");
        thread::sleep(LONGER / 3);
    }
    peer.exchange(b"last");
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::Idle));
    let records = case.trace.records();
    let last = records.iter().rfind(|it| it.what.name() == "sent").unwrap().at_ms;
    let span_ms = case.trace.until(0, "close").at_ms - last;
    assert!((900..900 + LATE_MS).contains(&span_ms), "after {span_ms} ms");
}

/// The idle timeout also applies to sockets that connected, without a first-byte timeout.
pub fn a_connected_socket_falls_silent<D: Driver>() {
    let case = Case::start(
        small_with::<D>(|it| {
            it.first_byte = None;
            it.idle = Some(SPAN);
        }),
        echoing,
    );
    let (listener, address) = crate::connecting::elsewhere();
    case.handle().connect(address, 1).unwrap();
    let _peer = Peer::accept(&listener);
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::Idle));
    assert_on_time(case.trace.until(0, "close").at_ms - case.trace.until(0, "open").at_ms);
}

/// Output that the peer does not read, whether the peer has sent something before or not.
pub fn a_peer_takes_nothing<D: Driver>() {
    for says in [true, false] {
        let builder = small_with::<D>(|it| {
            it.write_stall = Some(SPAN);
            it.first_byte = None; // it would apply instead, until the first byte has arrived
        });
        let case = Case::start(builder, |socket, event, _| match event {
            Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
            Event::Receive => consume_all(socket),
            other => by_default(socket, other),
        });
        let mut peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
        if says {
            peer.send(b"x");
        }
        assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::WriteStall));
        assert!(case.trace.lost(0) > 0);
        let open = case.trace.until(0, "open").at_ms;
        assert!(case.trace.until(0, "close").at_ms - open >= SPAN_MS);
        drop(peer);
    }
}

/// A peer that reads slowly is not stalled.
pub fn a_slow_peer_is_not_stalled<D: Driver>() {
    let case =
        Case::start(small_with::<D>(|it| it.write_stall = Some(LONGER)), |socket, event, _| match event {
            Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
            other => by_default(socket, other),
        });
    let mut peer = Peer::connect(case.listen().endpoint());
    for _ in 0..50 {
        peer.receive(300_000);
        thread::sleep(SPAN / 4);
    }
    assert_eq!(case.trace.count("close"), 0);
}

/// A peer that reads steadily is not stalled, however slowly it reads: the kernel's send buffer, which has grown to
/// megabytes, does not hide its progress. Where the system [cannot limit that buffer](socket::UNSENT_LIMITED), the test
/// uses a faster peer.
pub fn a_very_slow_peer_is_not_stalled<D: Driver>() {
    let piece = if socket::UNSENT_LIMITED { 16_000 } else { 300_000 };
    let case =
        Case::start(small_with::<D>(|it| it.write_stall = Some(LONGER)), |socket, event, _| match event {
            Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
            other => by_default(socket, other),
        });
    let mut peer = Peer::connect(case.listen().endpoint());
    for _ in 0..100 {
        peer.receive(piece);
        thread::sleep(SPAN / 4);
    }
    assert_eq!(case.trace.count("close"), 0);
    // but a peer that stops reading is
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::WriteStall));
}

/// A peer that reads a byte at a time puts off the write stall timeout for ever, but is too slow for a minimum rate. One
/// that reads fast stays.
pub fn a_peer_below_the_rate_is_cut_off<D: Driver>() {
    let rate = WriteRate { bytes: 9_000, per: LONGER };
    let builder = small_with::<D>(|it| (it.write_stall, it.write_rate) = (Some(10 * LONGER), Some(rate)));
    let case = Case::start(builder, |socket, event, _| match event {
        Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
        other => by_default(socket, other),
    });
    let connect = || Peer::connect_narrow(case.listen().endpoint(), 4_096);
    let mut slow = connect();
    let opened = case.trace.until(0, "open").at_ms;
    let mut fast = Peer::connect(case.listen().endpoint());
    case.trace.until(1, "open");
    for _ in 0..200 {
        if case.trace.count("close") > 0 {
            break;
        }
        slow.receive(1);
        fast.receive(300_000);
        thread::sleep(SPAN / 8);
    }
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::WriteRate));
    let span_ms = case.trace.until(0, "close").at_ms - opened;
    assert!((900..900 * 5 / 4 + LATE_MS).contains(&span_ms), "after {span_ms} ms");
    assert_eq!(case.trace.count("close"), 1, "the fast peer was cut off");
    // but not one that stops reading
    assert_eq!(case.trace.closed(1), CloseReason::TimedOut(Timeout::WriteRate));
}

/// A peer that reads steadily receives everything, even while the system's buffer of megabytes is too full for the
/// socket to become writable, both before and after a close. A peer that stops reading times out.
pub fn a_steady_peer_of_a_full_buffer_is_not_cut<D: Driver>() {
    if !socket::UNDELIVERED_REPORTED {
        return; // without it, such a peer looks as if it read nothing
    }
    for closes in [false, true] {
        let queued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&queued);
        let stall = if closes { None } else { Some(LONGER) };
        let builder = small_with::<D>(|it| (it.write_stall, it.drain) = (stall, Some(LONGER)));
        let case = Case::start(builder.unsent_limit(None), move |socket, event, _| match event {
            Event::Open | Event::Writable => {
                while socket.send(&[1; 1_000]).is_ok() {
                    count.fetch_add(1_000, Relaxed);
                }
            }
            Event::Message(_) => socket.close(),
            other => by_default(socket, other),
        });
        // a small receive buffer, so that the peer's system acknowledges often
        let connect = || {
            Peer::connect_with(case.listen().endpoint(), |fd| socket::set_receive_buffer(fd, 32_768).unwrap())
        };
        let mut peer = connect();
        let token = case.trace.token(0);
        // lets the system's send buffer grow to megabytes
        let mut received = peer.receive(10_000_000).len();
        if closes {
            case.handle().post(token, 1).unwrap();
            case.trace.until(0, "message");
        }
        for _ in 0..100 {
            let piece = peer.try_receive(8_000).unwrap();
            received += piece.len();
            thread::sleep(SPAN / 4);
        }
        if closes {
            received += peer.receive_to_end().len();
            assert_eq!(case.trace.closed(0), CloseReason::Local);
            assert_eq!(received, queued.load(Relaxed));
            let _stopped = connect();
            let token = case.trace.token(1);
            wait_until_stalled(&case);
            case.handle().post(token, 1).unwrap();
            let closed = case.trace.closed(1);
            assert_eq!(closed, CloseReason::TimedOut(Timeout::Drain));
            let span = case.trace.until(1, "close").at_ms - case.trace.until(1, "message").at_ms;
            assert!((900..900 * 9 / 8 + LATE_MS).contains(&span), "after {span} ms");
        } else {
            assert_eq!(case.trace.count("close"), 0);
            assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::WriteStall));
        }
    }
}

/// Output that is not read after `close`.
pub fn a_close_does_not_drain<D: Driver>() {
    let case = Case::start(
        small_with::<D>(|it| {
            it.drain = Some(SPAN);
            it.write_stall = None;
        }),
        |socket, event, _| match event {
            Event::Open | Event::Writable => while socket.send(&[1; 1_000]).is_ok() {},
            Event::Message(_) => socket.close(),
            other => by_default(socket, other),
        },
    );
    let _peer = Peer::connect_narrow(case.listen().endpoint(), 4_096);
    let token = case.trace.token(0);
    wait_until_stalled(&case);
    case.handle().post(token, 1).unwrap();
    assert_eq!(case.trace.closed(0), CloseReason::TimedOut(Timeout::Drain));
    assert!(case.trace.lost(0) > 0);
    assert_on_time(case.trace.until(0, "close").at_ms - case.trace.until(0, "message").at_ms);
}

/// A lingering close ends after the linger timeout if the peer does not end, with the handler's reason.
pub fn a_staged_close_has_an_end<D: Driver>() {
    let case = Case::start(small_with::<D>(|it| it.linger = Some(SPAN)), |socket, event, _| match event {
        Event::Receive => socket.linger(),
        other => by_default(socket, other),
    });
    let mut peer = case.peer();
    peer.send(b"x");
    peer.expect_end();
    assert_eq!(case.trace.closed(0), CloseReason::Local);
    assert_on_time(case.trace.until(0, "close").at_ms - case.trace.until(0, "receive").at_ms);
}

/// A deadline comes once and on time, and can be set again.
pub fn deadlines_come_on_time<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Open => socket.set_deadline(Some(cx.now() + SPAN)),
        Event::Timeout if socket.data.count < 2 => {
            socket.data.count += 1;
            socket.set_deadline(Some(cx.now() + SPAN));
        }
        other => by_default(socket, other),
    });
    let _peer = case.peer();
    assert_eq!(case.trace.closed(0), CloseReason::Aborted);
    let records = case.trace.records();
    let times: Vec<_> =
        records.iter().filter(|it| matches!(it.what.name(), "open" | "timeout")).map(|it| it.at_ms).collect();
    assert_eq!(times.len(), 4);
    times.windows(2).for_each(|pair| assert_on_time(pair[1] - pair[0]));
}

/// A deadline that is moved or cleared does not come; one in the past comes at once.
pub fn deadlines_move<D: Driver>() {
    let case = Case::start(small::<D>(), |socket, event, cx| match event {
        Event::Open => socket.set_deadline(Some(cx.now() + LONGER)),
        Event::Message(1) => socket.set_deadline(None),
        Event::Message(2) => {
            socket.set_deadline(Some(cx.now() + LONGER));
            socket.set_deadline(Some(cx.now() + Duration::from_secs(3_600)));
        }
        Event::Message(3) => socket.set_deadline(Some(Instant::from_millis(0))),
        Event::Timeout => {}
        other => by_default(socket, other),
    });
    let _peer = case.peer();
    let token = case.trace.token(0);
    for message in 1..=2 {
        case.handle().post(token, message).unwrap();
        thread::sleep(LONGER * 3 / 2);
        assert_eq!(case.trace.count("timeout"), 0);
    }
    case.handle().post(token, 3).unwrap();
    case.trace.until(0, "timeout");
    assert_eq!(case.trace.count("timeout"), 1);
}

/// Without timeouts, a silent socket stays open.
pub fn no_timeouts_no_ends<D: Driver>() {
    let case = Case::start(small::<D>().timeouts(Timeouts::NONE), echoing);
    let mut peer = case.peer();
    case.trace.token(0);
    thread::sleep(SPAN * 2);
    peer.exchange(b"hello");
    assert_eq!(case.trace.count("close"), 0);
}

/// Hundreds of deadlines at the same few instants all come.
pub fn many_deadlines_at_once<D: Driver>() {
    let count = if D::DESCRIPTORS_MAX.is_some() { 50 } else { 300 };
    let case = Case::start(small::<D>().sockets(count), |socket, event, cx| match event {
        Event::Open => {
            let at = cx.now().as_millis().next_multiple_of(200) + 200;
            socket.set_deadline(Some(Instant::from_millis(at)));
        }
        other => by_default(socket, other),
    });
    let listener = case.listen();
    let _peers: Vec<_> = (0..count).map(|_| Peer::connect(listener.endpoint())).collect();
    case.trace.until_count("close", count);
    assert_eq!(case.trace.count("timeout"), count);
}
